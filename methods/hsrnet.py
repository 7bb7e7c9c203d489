"""HSRnet: a residual network between a channel gate from the HSI and a spatial gate from the MSI.

Paper: J.-F. Hu, T.-Z. Huang, L.-J. Deng, T.-X. Jiang, G. Vivone, J. Chanussot, "Hyperspectral Image Super-resolution via
Deep Spatio-spectral Attention Convolutional Neural Networks", IEEE TNNLS 2021.
Release: J-FHu/HSRnet @ d37176ac1e3470b476b935480ce5554f48f1e93a, ``HSRnet.py`` (TensorFlow 1; no licence file; written
anew from a description, no code taken). Modules are called as its variables, ``net/Conv_3/weights`` is ``net.Conv_3.weight``.

Notes on the release:

* The release is for 31 bands in the parts 15 and 16, 3 MSI bands and ratio 4; here the bands part in the middle and the
  fourth and all further MSI bands come last. Any bands, MSI bands, sizes and ratios; one kernel of side 6 takes the MSI to
  LR size, so that ratios above 6 do not see all of its pixels.
* The image that the detail is added to comes from the release's data files; bicubic interpolation is our guess for it.
  The release clips the sum to [0, 1] when it tests; here it is not clipped, as no method is.
* TensorFlow pads what is needed for ceil(n / stride) outputs, the odd pixel after: see :func:`same`.
* ``Conv_1`` is built and run on a gate that nothing reads; here it is built only: see ``unused``.
* An L2 penalty on all weights is declared and never added to the loss. Batches are drawn with replacement there, here in
  passes over the images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.registry import Recipe, register
from methods.tasks import Supervised

SLOPE = 0.2  # of the leaky ReLU
GATE = 6  # side of the kernels on the MSI
BLOCKS = 6
TRUNCATED = 0.87962566  # standard deviation of a standard normal cut at 2


def same(image: Tensor, stride: int) -> Tensor:
    """Zeros around (B, C, H, W), as TensorFlow pads for a kernel of side :data:`GATE`: out = ceil(n / stride)."""
    margins: list[int] = []
    for side in reversed(image.shape[-2:]):
        total = max((math.ceil(side / stride) - 1) * stride + GATE - side, 0)
        margins += [total // 2, total - total // 2]
    return F.pad(image, margins)


class HSRnet(nn.Module):
    """The network of the release and the addition of its detail to the interpolated HSI."""

    unused = ("net.Conv_1.",)

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int) -> None:
        super().__init__()
        self.ratio, self.middle = ratio, bands // 2
        layers: dict[str, nn.Module] = {
            "CA": nn.ModuleDict({"Conv": nn.Conv2d(bands, 1, 1), "Conv_1": nn.Conv2d(1, bands, 1)}),
            "Conv": nn.Conv2d(1, 1, GATE),
            "Conv_1": nn.Conv2d(1, 1, GATE, stride=ratio),
            "Conv_2": nn.Conv2d(msi_bands, msi_bands, GATE, stride=ratio),
            "Conv_3": nn.Conv2d(bands + msi_bands, ratio**2 * bands, 3, padding=1),
            "Conv_4": nn.Conv2d(bands + msi_bands, width, 3, padding=1),
        }
        layers |= {f"Conv_{i}": nn.Conv2d(width, width, 3, padding=1) for i in range(5, 5 + 2 * BLOCKS)}
        layers[f"Conv_{5 + 2 * BLOCKS}"] = nn.Conv2d(width, bands, 3, padding=1)
        self.net = nn.ModuleDict(layers)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # TensorFlow's variance scaling: a normal cut at 2 deviations, variance 2 / fan-in
                deviation = math.sqrt(2 / layer.weight[0].numel()) / TRUNCATED
                nn.init.trunc_normal_(layer.weight, 0, deviation, -2 * deviation, 2 * deviation)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.net["CA"]["Conv_1"].weight)  # type: ignore[index]

    def interleaved(self, hr_msi: Tensor, hsi: Tensor) -> Tensor:
        """First MSI band, half of the bands, second MSI band, the other half, further MSI bands; all of one size."""
        return torch.cat((hr_msi[:, :1], hsi[:, : self.middle], hr_msi[:, 1:2], hsi[:, self.middle :], hr_msi[:, 2:]), 1)

    def detail(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> what the interpolated HSI lacks, (B, bands, H, W)."""
        net = self.net
        gate: nn.ModuleDict = net["CA"]  # type: ignore[assignment]
        channel = gate["Conv_1"](F.leaky_relu(gate["Conv"](lr_hsi.mean((2, 3), keepdim=True)), SLOPE)).sigmoid()
        spatial = net["Conv"](same(hr_msi.mean(1, keepdim=True), 1)).sigmoid()  # (B, 1, H, W)
        low = self.interleaved(net["Conv_2"](same(hr_msi, self.ratio)), lr_hsi)
        shuffled = F.pixel_shuffle(F.leaky_relu(net["Conv_3"](low), SLOPE), self.ratio)  # (B, bands, H, W)
        x = F.leaky_relu(net["Conv_4"](self.interleaved(hr_msi, shuffled)), SLOPE)  # (B, width, H, W)
        for i in range(5, 5 + 2 * BLOCKS, 2):
            x = x + net[f"Conv_{i + 1}"](F.leaky_relu(net[f"Conv_{i}"](x), SLOPE))
        return net[f"Conv_{5 + 2 * BLOCKS}"](x * spatial) * channel

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W)."""
        lms = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bicubic", align_corners=False)
        return self.detail(lr_hsi, hr_msi) + lms


@register(
    "hsrnet", "supervised",
    paper="Hu et al., HSRnet, IEEE TNNLS 2021",
    year=2021,
    fidelity="release",
    source="J-FHu/HSRnet@d37176ac1e3470b476b935480ce5554f48f1e93a (TensorFlow 1)",
    recipes={"release": Recipe(task=Supervised, trains=("hsrnet",), schedule="constant", steps=150_001, batch=32, crop=64,
                               augment=())},
    small={"width": 8},
    note="for 31 bands, 3 MSI bands and ratio 4 in the release; where further MSI bands go, and that bicubic interpolation "
         "is corrected, is our choice",
)
def build(bands: int, msi_bands: int, ratio: int, width: int = 64) -> HSRnet:
    """HSRnet with ``width`` features, for any ``ratio``."""
    return HSRnet(bands, msi_bands, ratio, width)
