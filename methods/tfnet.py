"""TFNet and ResTFNet: a two-stream network, as the authors of SSR-NET made it over for HSI and MSI.

Paper: X. Liu, Q. Liu, Y. Wang, "Remote Sensing Image Fusion Based on Two-stream Fusion Network", Information Fusion 55, 2020
(pansharpening).
Release: hw2hwei/SSRNET @ 972789678a2a5889eb17f9b330ff899e4b56021a, ``models/TFNet.py`` (no licence stated): what papers on
HSI and MSI compare with. It is not the pansharpening network of the paper: it ends in a PReLU, and nothing is added to
the interpolated HSI.

One stream of the interpolated HSI and one of the MSI are joined at half size, fused at half and quarter size, and brought back
with what the streams were at full size. ResTFNet adds each pair of convolutions to its input.

HR sides that are no multiples of 4 are padded by replication and cropped after; the release refuses them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import crop_to, pad_to_multiple
from methods.registry import register
from methods.ssrnet import RANGE, released
from methods.tasks import SupervisedMSE

MULTIPLE = 4  # of the HR sides: two halvings


def conv(inputs: int, outputs: int) -> tuple[nn.Conv2d, nn.PReLU]:
    """3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.PReLU()


def down(inputs: int) -> tuple[nn.Conv2d, nn.PReLU]:
    """Half the sides, twice the channels."""
    return nn.Conv2d(inputs, 2 * inputs, 2, stride=2), nn.PReLU()


def up(inputs: int) -> tuple[nn.ConvTranspose2d, nn.PReLU]:
    """Twice the sides, half the channels."""
    return nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2), nn.PReLU()


class TwoStream(nn.Module):
    """What both share: interpolation and padding."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int) -> None:
        super().__init__()
        self.ratio = ratio

    def fused(self, up_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, H, W), (B, msi_bands, H, W) -> (B, bands, H, W); H and W are multiples of 4."""
        raise NotImplementedError

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W)."""
        lr_padded, hr_padded = pad_to_multiple(lr_hsi, hr_msi, self.ratio, MULTIPLE)
        return crop_to(self.fused(F.interpolate(lr_padded, scale_factor=self.ratio, mode="bilinear"), hr_padded), hr_msi)


class TFNet(TwoStream):
    """The network of the release, in [0, 255]; ``width`` is that of a stream at full size."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int) -> None:
        super().__init__(bands, msi_bands, ratio, width)
        f = width
        self.lr_conv1, self.lr_conv2 = nn.Sequential(*conv(bands, f)), nn.Sequential(*conv(f, f))
        self.lr_down_conv = nn.Sequential(*down(f))
        self.hr_conv1, self.hr_conv2 = nn.Sequential(*conv(msi_bands, f)), nn.Sequential(*conv(f, f))
        self.hr_down_conv = nn.Sequential(*down(f))
        self.fusion_conv1 = nn.Sequential(*conv(4 * f, 4 * f), *conv(4 * f, 4 * f))
        self.fusion_conv2 = nn.Sequential(*down(4 * f), *conv(8 * f, 8 * f), *conv(8 * f, 8 * f), *up(8 * f))
        self.recons_conv1 = nn.Sequential(*conv(8 * f, 4 * f), *conv(4 * f, 4 * f), *up(4 * f))
        self.recons_conv2 = nn.Sequential(*conv(4 * f, 2 * f), *conv(2 * f, 2 * f), *conv(2 * f, bands))

    def fused(self, up_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, H, W), (B, msi_bands, H, W) -> (B, bands, H, W); H and W are multiples of 4."""
        of_hsi, of_msi = self.lr_conv2(self.lr_conv1(up_hsi)), self.hr_conv2(self.hr_conv1(hr_msi))  # (B, f, H, W)
        joined = self.fusion_conv1(torch.cat((self.hr_down_conv(of_msi), self.lr_down_conv(of_hsi)), 1))  # (B, 4 f, H/2, W/2)
        deep = torch.cat((joined, self.fusion_conv2(joined)), 1)  # (B, 8 f, H/2, W/2)
        return self.recons_conv2(torch.cat((of_hsi, of_msi, self.recons_conv1(deep)), 1))


class ResTFNet(TwoStream):
    """The residual network of the release, in [0, 255]; ``width`` is that of a stream at full size."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int) -> None:
        super().__init__(bands, msi_bands, ratio, width)
        f = width

        def two(channels: int) -> nn.Sequential:
            return nn.Sequential(*conv(channels, channels), *conv(channels, channels))

        self.lr_conv1, self.lr_conv2 = nn.Sequential(*conv(bands, f)), two(f)
        self.lr_down_conv = nn.Sequential(*down(f))
        self.hr_conv1, self.hr_conv2 = nn.Sequential(*conv(msi_bands, f)), two(f)
        self.hr_down_conv = nn.Sequential(*down(f))
        self.fusion_conv1 = two(4 * f)
        self.fusion_conv2, self.fusion_conv3 = nn.Sequential(*down(4 * f)), two(8 * f)
        self.fusion_conv4 = nn.Sequential(*up(8 * f))
        self.recons_conv1, self.recons_conv2 = nn.Sequential(nn.Conv2d(8 * f, 4 * f, 1)), two(4 * f)
        self.recons_conv3 = nn.Sequential(*up(4 * f))
        self.recons_conv4, self.recons_conv5 = nn.Sequential(nn.Conv2d(4 * f, 2 * f, 1)), two(2 * f)
        self.recons_conv6 = nn.Sequential(*conv(2 * f, bands))

    def fused(self, up_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, H, W), (B, msi_bands, H, W) -> (B, bands, H, W); H and W are multiples of 4."""
        hsi, msi = self.lr_conv1(up_hsi), self.hr_conv1(hr_msi)  # (B, f, H, W)
        of_hsi, of_msi = self.lr_conv2(hsi), self.hr_conv2(msi)
        joined = torch.cat((self.hr_down_conv(msi + of_msi), self.lr_down_conv(hsi + of_hsi)), 1)  # (B, 4 f, H/2, W/2)
        joined = joined + self.fusion_conv1(joined)
        small = self.fusion_conv2(joined)  # (B, 8 f, H/4, W/4)
        deep = self.recons_conv1(torch.cat((joined, self.fusion_conv4(small + self.fusion_conv3(small))), 1))
        deep = self.recons_conv3(deep + self.recons_conv2(deep))  # (B, 2 f, H, W)
        image = self.recons_conv4(torch.cat((of_hsi, of_msi, deep), 1))  # the skips are without their residual's input
        return self.recons_conv6(image + self.recons_conv5(image))


def _register(name: str, network: type[TwoStream], paper: str) -> None:
    """Register one of the two."""

    # The release's choice of an epoch on the test square is left out, an oracle: the validation split chooses.
    @register(name, "supervised", paper=paper, year=2020, fidelity="release",
              source="hw2hwei/SSRNET@972789678a2a5889eb17f9b330ff899e4b56021a", input_range=RANGE,
              recipes={"release": released(name, SupervisedMSE)}, small={"width": 8},
              note="as the authors of SSR-NET made the pansharpening network over for HSI and MSI")
    def build(bands: int, msi_bands: int, ratio: int, width: int = 32) -> nn.Module:
        return network(bands, msi_bands, ratio, width)


_register("tfnet", TFNet, "Liu et al., TFNet, Information Fusion 2020")
_register("restfnet", ResTFNet, "Liu et al., ResTFNet, Information Fusion 2020")
