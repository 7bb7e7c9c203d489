"""DHIF-Net: deep unfolding of fusion with a spatial-spectral filter as its prior.

Paper: T. Huang, W. Dong, J. Wu, L. Li, X. Li, G. Shi, "Deep Hyperspectral Image Fusion Network With Iterative
Spatio-Spectral Regularization", IEEE TCI 8:201-214, 2022.
Release: TaoHuang95/DHIF-Net @ 643436658109f65a78ee01191163eec88a6b4407, ``CAVE/Model.py``.

Stage t takes a gradient step on the estimate Z:

    Z <- Z - 2 eta_t (R'(R(Z) - Y) + B'(B(Z) - X) + lamda_t (Z - U(Z)))

with Y the MSI, X the LR-HSI, R and B the learned spectral and spatial degradations, R' and B' their transposes, and U
a filter whose taps, 7 along each of width, height and bands, a U-Net draws from Z and Y for every pixel and band.

The release knows the ratios 8 and 16. Ours: at 4 B is one of the two steps that make 16 (k6 s4 p1); at 2 it is k4 s2
p1. The published 57.04 M parameters and 13795 G are not this network's: fewer parameters, more multiply-adds.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import crop_to, pad_to_multiple
from methods.registry import MethodError, Recipe, register
from methods.tasks import Supervised

TAPS = 7
MULTIPLE = 16  # of the HR sides: four poolings
STEPS = {2: [(4, 2, 1)], 4: [(6, 4, 1)], 8: [(12, 8, 2)], 16: [(6, 4, 1), (6, 4, 1)]}  # (kernel, stride, padding)


def two_convs(in_channels: int, out_channels: int) -> nn.Sequential:
    """3x3 convolution and ReLU, twice."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU(),
                         nn.Conv2d(out_channels, out_channels, 3, padding=1), nn.ReLU())


class Encoder(nn.Module):
    """Five levels, average pooling between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (width, width, 2 * width, 4 * width, 8 * width, 8 * width)
        self.E1, self.E2, self.E3, self.E4, self.E5 = (two_convs(i, o) for i, o in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, width, H, W) -> the five levels' features, finest first."""
        levels = [self.E1(x)]
        for level in (self.E2, self.E3, self.E4, self.E5):
            levels.append(level(F.avg_pool2d(levels[-1], 2)))
        return levels


class Decoder(nn.Module):
    """Back to full size, bicubic, and three heads: the filter's taps along width, height and bands."""

    def __init__(self, width: int, bands: int) -> None:
        super().__init__()
        self.D1 = two_convs(16 * width, 8 * width)
        self.D2 = two_convs(12 * width, 4 * width)
        self.D3 = two_convs(6 * width, 2 * width)
        self.D4 = two_convs(3 * width, 2 * width)
        taps = TAPS * bands
        self.K_1, self.K_2, self.K_3 = (
            nn.Sequential(nn.Conv2d(2 * width, taps, 3, padding=1), nn.ReLU(),
                          nn.Conv2d(taps, taps, 3, padding=1), nn.ReLU(), nn.Conv2d(taps, taps, 1))
            for _ in range(3)
        )

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Five levels -> three times (B, 7, bands, H, W), of unit norm over the taps."""
        *skips, x = levels
        for level, skip in zip((self.D1, self.D2, self.D3, self.D4), reversed(skips)):
            x = level(torch.cat((skip, F.interpolate(x, scale_factor=2, mode="bicubic")), 1))
        return [F.normalize(head(x).unflatten(1, (TAPS, -1)), dim=1) for head in (self.K_1, self.K_2, self.K_3)]


def separable_filter(z: Tensor, along_width: Tensor, along_height: Tensor, along_bands: Tensor) -> Tensor:
    """Filter every pixel and band with its own taps, one axis after the other.

    Args:
        z: (B, C, H, W); borders are replicated in space, zero beyond the first and the last band.
        along_width: taps, (B, 7, C, H, W).
        along_height: likewise.
        along_bands: likewise.

    Returns:
        (B, C, H, W).
    """
    reach = TAPS // 2

    def apply(padded: Tensor, taps: Tensor, axis: int) -> Tensor:
        return sum(taps[:, j] * padded.narrow(axis, j, z.shape[axis]) for j in range(TAPS))  # type: ignore[return-value]

    z = apply(F.pad(z, (reach, reach, 0, 0), mode="replicate"), along_width, 3)
    z = apply(F.pad(z, (0, 0, reach, reach), mode="replicate"), along_height, 2)
    return apply(F.pad(z, (0, 0, 0, 0, reach, reach)), along_bands, 1)


class DHIFNet(nn.Module):
    """The network; images whose HR sides are no multiples of 16 are padded by their last pixels and cropped after."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, stages: int, width: int) -> None:
        super().__init__()
        self.ratio = ratio
        for t in range(stages):
            self.register_parameter(f"lamda_{t}", nn.Parameter(torch.normal(1.0, 0.01, (1,))))
            self.register_parameter(f"eta_{t}", nn.Parameter(torch.normal(0.1, 0.01, (1,))))

        def steps(layer: type[nn.Module]) -> nn.Sequential:
            return nn.Sequential(*(part for kernel, stride, padding in STEPS[ratio]
                                   for part in (layer(bands, bands, kernel, stride, padding), nn.LeakyReLU())))

        self.RT = nn.Sequential(nn.Conv2d(msi_bands, bands, 3, padding=1), nn.LeakyReLU())
        self.R = nn.Sequential(nn.Conv2d(bands, msi_bands, 3, padding=1), nn.LeakyReLU())
        self.BT, self.B = steps(nn.ConvTranspose2d), steps(nn.Conv2d)
        self.Encoder, self.Decoder = Encoder(width), Decoder(width, bands)
        self.conv = nn.Conv2d(bands + msi_bands, width, 3, padding=1)
        for t in range(stages):  # dense connections from all earlier stages
            self.add_module(f"Den_con{t + 1}", nn.Conv2d(width * (t + 1), width, 3, padding=1))
        self.stages = stages
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.xavier_uniform_(layer.weight)
            if isinstance(layer, nn.Conv2d):
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W), not clamped."""
        lr_padded, hr_padded = pad_to_multiple(lr_hsi, hr_msi, self.ratio, MULTIPLE)
        z = F.interpolate(lr_padded, scale_factor=self.ratio, mode="bicubic")
        features: list[Tensor] = []
        for t in range(self.stages):
            spectral = self.RT(self.R(z) - hr_padded)
            spatial = self.BT(self.B(z) - lr_padded)
            features.append(self.conv(torch.cat((z, hr_padded), 1)))
            dense = self.get_submodule(f"Den_con{t + 1}")(torch.cat(features, 1))
            filtered = separable_filter(z, *self.Decoder(self.Encoder(dense)))
            lamda, eta = getattr(self, f"lamda_{t}"), getattr(self, f"eta_{t}")
            z = z - 2 * eta * (spectral + spatial + lamda * (z - filtered))
        return crop_to(z, hr_msi)


@register(
    "dhif-net",
    "supervised",
    paper="Huang et al., DHIF-Net, TCI 2022",
    year=2022,
    fidelity="release",
    source="TaoHuang95/DHIF-Net@643436658109f65a78ee01191163eec88a6b4407",
    count_reason="the published pair (fewer parameters, more operations) is met by no setting of the release",
    recipes={
        # The release's epoch is 20,000 random crops; its rate falls at epochs 1, 6, ..., 146 and is constant after.
        "release": Recipe(task=Supervised, trains=("dhif-net",), lr=3e-4, epochs=500, batch=4, crop=96,
                          schedule=f"multistep:{','.join(map(str, range(1, 147, 5)))}:0.95"),
    },
    small={"width": 4, "stages": 2},
    note="the blur of ratio 4 is ours (half of the release's ratio 16); the published cost is of another variant",
)
def build(bands: int, msi_bands: int, ratio: int, stages: int = 4, width: int = 64) -> DHIFNet:
    """Build it; ``width`` is that of the finest U-Net level."""
    if ratio not in STEPS:
        raise MethodError(f"dhif-net: ratio {ratio}; choices: {', '.join(map(str, STEPS))}")
    return DHIFNet(bands, msi_bands, ratio, stages, width)
