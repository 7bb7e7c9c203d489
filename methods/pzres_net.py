"""PZRes-Net: progressive zero-centric residual learning.

Paper: Z. Zhu, J. Hou, J. Chen, H. Zeng, J. Zhou, "Hyperspectral Image Super-Resolution via Deep Progressive
Zero-Centric Residual Learning", IEEE TIP 30:1423-1438, 2021.
Release: ZHU-Zhiyu/PZRes-Net @ 39f103a19fd54cc765487389f14f90a23e5e96bf, ``demo_cave/SpeNet.py`` (MIT).

Kept as in the release:

* ``scale_learning`` (the text's pooled scale) is built but never called: dead parameters, listed in ``unused``. So is
  the extra sigmoid channel of the last stage, a row of a parameter that is otherwise alive.
* Every convolution is registered twice, as ``conv`` and inside ``Module``: two names, one tensor. Counters that visit
  names (thop) report twice the parameters and four times the multiply-adds: the published 40.15 M and 5262 G.
* The residual base of a stage is the map made from the MSI, not the HSI; the separable spectral-spatial convolution of
  the text is 1x1 followed by 3x3; the refining unit ends in a ReLU, so it can only add.

The release is written for 31 bands, with stages of 8, 16 and 31. At 172 bands stages of 64, 128 and 172 give the
published complexity; the default keeps their shares of ``bands``. Which bands the narrower stages see is published for
31 alone: :func:`spread` continues that rule.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import losses
from methods.registry import MethodError, Recipe, register
from methods.tasks import Supervised, total

UNITS = 8  # dense units of a stage


class ZeroCentric(nn.Module):
    """Subtract from each channel its own spatial mean."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        return x - F.adaptive_avg_pool2d(x, 1)


class Layer(nn.Module):
    """A convolution between optional companions, under the release's two names."""

    def __init__(self, conv: nn.Conv2d, before: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.Module = nn.Sequential(*(layer for layer in (before, conv, after) if layer is not None))

    def forward(self, x: Tensor) -> Tensor:
        """(B, i, H, W) -> (B, o, H, W)."""
        return self.Module(x)


class DenseUnit(nn.Module):
    """Zero-centric 1x1 (spectral) and 3x3 (spatial) convolutions; the last unit of a stage has no final ReLU."""

    def __init__(self, in_channels: int, out_channels: int, last: bool = False) -> None:
        super().__init__()
        self.compressLayer = Layer(nn.Conv2d(in_channels, out_channels, 1), ZeroCentric(), nn.ReLU())
        self.actlayer = Layer(nn.Conv2d(out_channels, out_channels, 3, padding=1), ZeroCentric(),
                              None if last else nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, i, H, W) -> (B, o, H, W)."""
        return self.actlayer(self.compressLayer(x))


class Stage(nn.Module):
    """Dense chain on some bands of the HSI and the map that the earlier stages made from the MSI."""

    def __init__(self, in_channels: int, bands: int, final: bool = False) -> None:
        super().__init__()
        self.final = final
        self.Upconv = Layer(nn.Conv2d(in_channels, bands, 3, padding=1), after=nn.ReLU())
        self.denselayers = nn.ModuleList(DenseUnit(2 * bands * j, 2 * bands) for j in range(1, UNITS))
        self.denselayers.append(DenseUnit(2 * bands * UNITS, bands + final, last=True))

    def forward(self, hsi: Tensor, msi: Tensor) -> Tensor:
        """(B, c, H, W), (B, in_channels, H, W) -> (B, c, H, W); one channel more in the final stage."""
        base = self.Upconv(msi)
        seen = torch.cat((hsi, base), 1)
        for unit in self.denselayers[:-1]:
            seen = torch.cat((seen, unit(seen)), 1)
        residual = self.denselayers[-1](seen)
        if not self.final:
            return torch.tanh(residual) + base
        return torch.cat((torch.tanh(residual[:, :-1]) + base, torch.sigmoid(residual[:, -1:])), 1)


class ScaleLearning(nn.Module):
    """Built by the release, called by nobody: here for the keys of a published state dict."""

    def __init__(self, bands: int, width: int = 64) -> None:
        super().__init__()
        channels = (bands, width, width, width, bands)
        self.dmodule = nn.ModuleList(
            Layer(nn.Conv2d(i, o, 4, stride=2, padding=1)) for i, o in pairwise(channels)
        )


class PZResNet(nn.Module):
    """The network of the release and the bilinear upsampling that its script does before it."""

    unused = ("scale_learning.",)

    def __init__(self, bands: int, msi_bands: int, ratio: int, stage_bands: tuple[int, ...],
                 band_indices: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.ratio, self.band_indices = ratio, band_indices
        first, second, _ = stage_bands
        self.stages = nn.ModuleList((
            Stage(msi_bands, first), Stage(first + msi_bands, second), Stage(second + msi_bands, bands, final=True),
        ))
        self.scale_learning = ScaleLearning(bands)
        self.refine = nn.ModuleList((DenseUnit(bands, bands),))
        self.centre = ZeroCentric()

    def forward_with_stages(self, lr_hsi: Tensor, hr_msi: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """(B, bands, h, w), (B, msi_bands, H, W) -> three stage outputs, coarse and refined HSI (B, bands, H, W)."""
        up_hsi = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bilinear")
        centred = self.centre(hr_msi)
        outputs: list[Tensor] = []
        for stage, index in zip(self.stages, (*self.band_indices, None)):
            subset = up_hsi if index is None else up_hsi[:, index]
            outputs.append(stage(subset, torch.cat((outputs[-1], centred), 1) if outputs else centred))
        coarse = outputs[-1][:, :-1] + up_hsi
        return outputs, coarse, coarse + self.refine[0](coarse)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W)."""
        return self.forward_with_stages(lr_hsi, hr_msi)[2]


class CoarseAndRefined(Supervised):
    """L1 of the last stage and L1 of the refined image."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms."""
        lr_hsi, hr_msi, reference = self.inputs(batch, 0)
        name = self.names[0]
        _, coarse, refined = self.network().forward_with_stages(lr_hsi, hr_msi)
        terms = {f"{name}/coarse": losses.l1(coarse, reference), f"{name}/refined": losses.l1(refined, reference)}
        loss = total(terms.values())
        return terms | {f"{name}/loss": loss, "loss": loss}


def spread(bands: int, count: int) -> tuple[int, ...]:
    """``count`` band indices as the release spreads 8 and 16 over 31: a whole stride from 0, the last one moved."""
    stride = (bands - 1) // max(count - 1, 1)
    return (*range(0, stride * (count - 1), stride), bands - 1) if count > 1 else (bands - 1,)


@register(
    "pzres-net",
    "supervised",
    paper="Zhu et al., PZRes-Net, TIP 2021",
    year=2021,
    fidelity="release",
    source="ZHU-Zhiyu/PZRes-Net@39f103a19fd54cc765487389f14f90a23e5e96bf",
    count_reason="the published counter met every layer under two names: parameters doubled, operations quadrupled",
    recipes={
        # Cosine from 1e-3 to 1e-5, stepped per iteration. The release chooses on its test images, after epoch 900.
        "release": Recipe(task=CoarseAndRefined, trains=("pzres-net",), lr=1e-3, schedule="cosine:0.01", epochs=1000,
                          batch=6, crop=128, keep="best-psnr"),
    },
    note="its published cost counts every layer under two names: parameters doubled, multiply-adds quadrupled",
)
def build(bands: int, msi_bands: int, ratio: int, stage_bands: tuple[int, int, int] | None = None,
          band_indices: tuple[tuple[int, ...], tuple[int, ...]] | None = None) -> PZResNet:
    """Build it.

    Args:
        bands: of the HSI.
        msi_bands: of the MSI.
        ratio: any whole number.
        stage_bands: of the three stages; the last must be ``bands``. (8, 16, 31) is the authors' CAVE network.
        band_indices: which bands the first and the second stage see; None: evenly spread.
    """
    if stage_bands is None:
        stage_bands = (round(bands * 64 / 172), round(bands * 128 / 172), bands)
    if len(stage_bands) != 3 or stage_bands[2] != bands or not all(0 < count <= bands for count in stage_bands):
        raise MethodError(f"pzres-net: stage_bands {tuple(stage_bands)}; three numbers from 1 to bands are needed, "
                          f"the last of them bands = {bands}")
    if band_indices is None:
        band_indices = spread(bands, stage_bands[0]), spread(bands, stage_bands[1])
    if tuple(len(index) for index in band_indices) != tuple(stage_bands[:2]):
        raise MethodError(f"pzres-net: band_indices name {[len(index) for index in band_indices]} bands, the first two "
                          f"stages have {list(stage_bands[:2])}")
    return PZResNet(bands, msi_bands, ratio, tuple(stage_bands), tuple(map(tuple, band_indices)))
