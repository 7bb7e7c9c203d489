"""SSR-NET: MSI bands put in the place of interpolated ones, then a spatial and a spectral residual.

Paper: X. Zhang, W. Huang, Q. Wang, X. Li, "SSR-NET: Spatial-Spectral Reconstruction Network for Hyperspectral and
Multispectral Image Fusion", IEEE TGRS 2020.
Release: hw2hwei/SSRNET @ 972789678a2a5889eb17f9b330ff899e4b56021a, ``models/SSRNET.py`` (no licence stated). Its TFNet,
ResTFNet and MSDCNN stand in :mod:`methods.tfnet` and :mod:`methods.msdcnn`, and have its training, :func:`released`.

The release takes its MSI bands out of the reference, so that what it puts into the interpolated HSI is exact. Here an MSI
band is a broad average, as the protocol makes it, and overwrites a narrow band by the same rule: a disadvantage that
the release does not have. The MSI enters the network in no other way.

Departures and quirks:

* The release keeps the parameters that do best on its *test* square, looked at after every step: it is an oracle of that. Here
  the validation split chooses; no option repeats the release's choice.
* It makes LR-HSIs for training by decimation without blur, and blurred ones for testing. Here the protocol makes both.
* The parameter ``weight`` is built and read by nothing, in the release and here: see ``unused``.
* Its ablations SpatRNET and SpecRNET are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import losses
from methods.registry import MethodError, Recipe, register
from methods.tasks import Supervised, Task

RANGE = (0.0, 255.0)  # of the images of the release


def released(name: str, task: type[Task]) -> Recipe:
    """The training of all networks of the release: 10,000 steps of one 128x128 crop each, which it calls epochs."""
    return Recipe(task=task, trains=(name,), lr=1e-4, schedule="constant", steps=10_000, batch=1, crop=128, augment=(),
                  keep="best-psnr")


def replaced_bands(bands: int, msi_bands: int) -> list[int]:
    """The HSI bands that the MSI bands overwrite, in their order: evenly spread, the first and the last among them."""
    gap = bands / (msi_bands - 1)
    return [*(int(gap * i) for i in range(msi_bands - 1)), bands - 1]


class SSRNET(nn.Module):
    """The network of the release, in [0, 255]."""

    unused = ("weight",)

    def __init__(self, bands: int, msi_bands: int, ratio: int) -> None:
        super().__init__()

        def conv() -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(bands, bands, 3, padding=1), nn.ReLU())

        self.ratio, self.replaced = ratio, replaced_bands(bands, msi_bands)
        self.weight = nn.Parameter(torch.full((1,), 0.5))
        self.conv_fus, self.conv_spat, self.conv_spec = conv(), conv(), conv()

    def forward_with_spatial(self, lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor]:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI, and the image before its spectral residual, as large."""
        x = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bilinear")  # (B, bands, H, W)
        for source, target in enumerate(self.replaced):  # in turn: of two for one band the later one stays
            x[:, target] = hr_msi[:, source]
        x = self.conv_fus(x)
        spatial = x + self.conv_spat(x)
        return spatial + self.conv_spec(spatial), spatial

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W), never negative."""
        return self.forward_with_spatial(lr_hsi, hr_msi)[0]


class SpatialSpectral(Supervised):
    """Mean squared errors of the image, of its spectral differences, and of the spatial image's differences at 0.5 each."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms."""
        lr_hsi, hr_msi, reference = self.inputs(batch, 0)
        image, spatial = self.network().forward_with_spatial(lr_hsi, hr_msi)

        def edges(estimate: Tensor, axis: int) -> Tensor:
            return losses.mse(estimate.diff(dim=axis), reference.diff(dim=axis))

        name, = self.names
        terms = {f"{name}/mse": losses.mse(image, reference),
                 f"{name}/spatial": 0.5 * edges(spatial, 2) + 0.5 * edges(spatial, 3),
                 f"{name}/spectral": edges(image, 1)}
        loss = torch.stack([*terms.values()]).sum()
        return {"loss": loss, f"{name}/loss": loss, **terms}


@register(
    "ssrnet",
    "supervised",
    paper="Zhang et al., SSR-NET, TGRS 2020",
    year=2020,
    fidelity="release",
    source="hw2hwei/SSRNET@972789678a2a5889eb17f9b330ff899e4b56021a",
    input_range=RANGE,
    # The release's choice of an epoch on the test square is left out, an oracle: the validation split chooses.
    recipes={"release": released("ssrnet", SpatialSpectral)},
    note="MSI bands overwrite single HSI bands, as in the release, whose MSI bands were such single bands",
)
def build(bands: int, msi_bands: int, ratio: int) -> SSRNET:
    """Build it for any ``ratio`` and two MSI bands or more.

    Raises:
        MethodError: one MSI band, which the release's spread of bands divides by zero.
    """
    if msi_bands < 2:
        raise MethodError(f"ssrnet: {msi_bands} MSI band; two or more are needed, as it spreads them over the HSI from its "
                          "first band to its last; choose another method for a panchromatic image, such as tfnet")
    return SSRNET(bands, msi_bands, ratio)
