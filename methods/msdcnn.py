"""MSDCNN: a shallow and a deep multi-scale path side by side, as the authors of SSR-NET made it over for HSI and MSI.

Paper: Q. Yuan, Y. Wei, X. Meng, H. Shen, L. Zhang, "A Multiscale and Multidepth Convolutional Neural Network for Remote
Sensing Imagery Pan-Sharpening", IEEE JSTARS 11(3), 2018.
Release: hw2hwei/SSRNET @ 972789678a2a5889eb17f9b330ff899e4b56021a, ``models/MSDCNN.py`` (no licence stated): what papers on
HSI and MSI compare with. Its widths are those of a pansharpening network: all bands pass through 30 and 32 channels, and
nothing is added to the interpolated HSI. Kernels of 9x9 and 7x7 pixels on all bands at full size are most of what it costs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.registry import MethodError, register
from methods.ssrnet import RANGE, released
from methods.tasks import SupervisedMSE

SCALES = (3, 5, 7)  # kernels side by side, a third of the channels each


def conv(inputs: int, outputs: int, kernel: int) -> tuple[nn.Conv2d, nn.PReLU]:
    """Convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.PReLU()


class MSDCNN(nn.Module):
    """The network of the release, in [0, 255]; ``width`` is that of the deep path, which is halved in its middle."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int) -> None:
        super().__init__()
        self.ratio = ratio
        both, half = bands + msi_bands, width // 2

        def block(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
            return nn.Sequential(*conv(inputs, outputs, kernel))

        self.shallow_conv = nn.Sequential(*conv(both, 64, 9), *conv(64, 32, 1), *conv(32, bands, 5))
        self.deep_conv_a = block(both, width, 7)
        self.deep_conv_b_3x3, self.deep_conv_b_5x5, self.deep_conv_b_7x7 = (block(width, width // 3, k) for k in SCALES)
        self.deep_conv_c = block(width, half, 7)
        self.deep_conv_d_3x3, self.deep_conv_d_5x5, self.deep_conv_d_7x7 = (block(half, half // 3, k) for k in SCALES)
        self.deep_conv_e = block(half, bands, 5)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W)."""
        images = torch.cat((hr_msi, F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bilinear")), 1)
        a = self.deep_conv_a(images)  # (B, width, H, W)
        b = a + torch.cat((self.deep_conv_b_3x3(a), self.deep_conv_b_5x5(a), self.deep_conv_b_7x7(a)), 1)
        c = self.deep_conv_c(b)  # (B, width / 2, H, W)
        d = c + torch.cat((self.deep_conv_d_3x3(c), self.deep_conv_d_5x5(c), self.deep_conv_d_7x7(c)), 1)
        return self.shallow_conv(images) + self.deep_conv_e(d)


@register(
    "msdcnn",
    "supervised",
    paper="Yuan et al., MSDCNN, JSTARS 2018",
    year=2018,
    fidelity="release",
    source="hw2hwei/SSRNET@972789678a2a5889eb17f9b330ff899e4b56021a",
    input_range=RANGE,
    # The release's choice of an epoch on the test square is left out, an oracle: the validation split chooses.
    recipes={"release": released("msdcnn", SupervisedMSE)},
    small={"width": 6},
    note="as the authors of SSR-NET made the pansharpening network over for HSI and MSI",
)
def build(bands: int, msi_bands: int, ratio: int, width: int = 60) -> MSDCNN:
    """Build it for any ``ratio``.

    Raises:
        MethodError: a width whose half is not a multiple of three.
    """
    if width < 6 or width % 6:
        raise MethodError(f"msdcnn: width {width}; choose a multiple of 6, as half of it is shared by three kernels")
    return MSDCNN(bands, msi_bands, ratio, width)
