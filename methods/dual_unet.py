"""Dual-UNet: two U-shaped branches with multistage details injection.

Paper: J. Xiao, J. Li, Q. Yuan, L. Zhang, "A Dual-UNet With Multistage Details Injection for Hyperspectral Image
Fusion", IEEE TGRS 60, 2022.
Release: none of the authors was found. This is the copy that the S3RNet authors used as a baseline:
ming053l/S3RNet @ 5f572d00e7ca6a6ddaf3b994eb5cf9ec98364180, ``flops_cal.ipynb``, class ``UNet`` (MIT).

What that copy leaves open, and our choice:

* It takes an HSI of HR size: bicubic interpolation here (``align_corners`` False).
* It returns two images, without and with the MSI branch's details: the second is the output here.
* It holds no recipe. The card's one is ours: the protocol of the S3RNet text, L1 loss.

The comparison tables print 2.97 M parameters and 88.65 G, another, smaller variant; the notebook itself prints 7.33 M
and 102.04 G for this one. Quirks kept: ``conv0_1`` is a dead scalar, ``maxpool_conv`` halves bilinearly and pools
nothing, and the "3x3, 5x5, 7x7" attention units are all 3x3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import crop_to, pad_to_multiple
from methods.registry import MethodError, Recipe, register
from methods.tasks import Supervised

MULTIPLE = 8  # three halvings


def conv3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """3x3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each followed by LeakyReLU."""

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(conv3(in_channels, mid_channels), nn.LeakyReLU(0.2),
                                         conv3(mid_channels, out_channels), nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, i, H, W) -> (B, o, H, W)."""
        return self.double_conv(x)


class Down(nn.Module):
    """Half the size (bilinear, not anti-aliased), then two convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.Upsample(scale_factor=0.5, mode="bilinear"),
                                          DoubleConv(in_channels, out_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, i, H, W) -> (B, o, H/2, W/2)."""
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Twice the size (bilinear, corners aligned), joined to a skip where there is one, then two convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = DoubleConv(in_channels, in_channels // 2, out_channels)

    def forward(self, x: Tensor, *skip: Tensor) -> Tensor:
        """(B, ., H, W) and at most one (B, ., 2H, 2W) -> (B, o, 2H, 2W)."""
        return self.conv(torch.cat((*skip, F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)), 1))


class OutConv(nn.Module):
    """From features to bands."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv3(in_channels, in_channels), nn.LeakyReLU(0.2),
                                  nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, i, H, W) -> (B, o, H, W)."""
        return self.conv(x)


class ChannelGate(nn.Module):
    """A weight per channel from its mean and its maximum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // 4, 1, bias=False)
        self.fc2 = nn.Conv2d(width // 4, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        mean, maximum = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        return torch.sigmoid(self.fc2(F.relu(self.fc1(mean))) + self.fc2(F.relu(self.fc1(maximum))))


class SpatialGate(nn.Module):
    """A weight per pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = conv3(width, width // 2), conv3(width // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W)."""
        return torch.sigmoid(self.fc2(F.relu(self.fc1(x))))


class MSCSAM(nn.Module):
    """Multiscale channel and spatial attention of the stacked images."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        for name in ("conv0_1", "conv1_1", "conv1_2", "conv1_3", "factor_3", "factor_5", "factor_7"):
            setattr(self, name, nn.Parameter(torch.ones(1)))

        def chain(count: int) -> nn.Sequential:
            convs = [layer for _ in range(count) for layer in (conv3(width, width), nn.LeakyReLU(0.2))]
            return nn.Sequential(*convs[:-1])

        self.conv0 = nn.Sequential(conv3(in_channels, width), nn.LeakyReLU(0.2))
        self.conv1, self.conv2, self.conv3 = chain(1), chain(2), chain(3)
        self.cb1, self.cb2 = conv3(2 * width, width), conv3(3 * width, width)
        self.cb = nn.Sequential(conv3(3 * width, width), nn.LeakyReLU(0.2))
        self.channel_3_3, self.channel_5_5, self.channel_7_7 = (ChannelGate(width) for _ in range(3))
        self.spatial_3_3, self.spatial_5_5, self.spatial_7_7 = (SpatialGate(width) for _ in range(3))
        self.fusion = nn.Sequential(nn.Conv2d(3 * width, width, 1), nn.LeakyReLU(0.2), conv3(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, bands + msi_bands, H, W) -> (B, width, H, W)."""
        features = self.conv0(x)
        small = self.conv1(features)
        middle = self.conv2(small)
        large = self.conv3(middle)
        small, middle, large = self.conv1_1 * small, self.conv1_2 * middle, self.conv1_3 * large
        two = self.cb1(torch.cat((small, middle), 1))
        three = self.cb2(torch.cat((small, middle, large), 1))
        mixed = self.cb(torch.cat((small, two, three), 1))
        attended = (
            factor * (channel(mixed) * spatial(mixed) * mixed + mixed)
            for factor, channel, spatial in ((self.factor_3, self.channel_3_3, self.spatial_3_3),
                                             (self.factor_5, self.channel_5_5, self.spatial_5_5),
                                             (self.factor_7, self.channel_7_7, self.spatial_7_7))
        )
        return self.fusion(torch.cat(tuple(attended), 1)) + features


class DualUNet(nn.Module):
    """The two branches; sizes that are no multiples of 8 are padded by their last pixels and cropped after."""

    unused = ("mscsam.conv0_1",)

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int) -> None:
        super().__init__()
        self.ratio = ratio
        w, half = width, width // 2
        self.mscsam = MSCSAM(bands + msi_bands, w)
        self.inc = DoubleConv(w, w, w)
        self.down1, self.down2, self.down3 = Down(w + half, 2 * w), Down(3 * w, 4 * w), Down(6 * w, 4 * w)
        self.up1, self.up2, self.up3 = Up(10 * w, 2 * w), Up(5 * w, w), Up(2 * w + half, w)
        self.outc = OutConv(w, bands)

        self.incm = DoubleConv(msi_bands, half, half)
        self.downm1, self.downm2, self.downm3 = Down(half, w), Down(w, 2 * w), Down(2 * w, 2 * w)
        self.upm1, self.upm2, self.upm3 = Up(2 * w, w), Up(w, half), Up(half, w)
        self.outmc = OutConv(w, bands)

    def fuse_upsampled(self, up_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor]:
        """(B, bands, H, W), (B, msi_bands, H, W) -> the release's two images, without and with the MSI's details."""
        up_padded, hr_padded = pad_to_multiple(up_hsi, hr_msi, 1, MULTIPLE)  # ratio 1: both are of HR size

        y1 = self.incm(hr_padded)
        y2 = self.downm1(y1)
        y3 = self.downm2(y2)
        y4 = self.downm3(y3)
        y5 = self.upm1(y4)
        y6 = self.upm2(y5)
        details = self.outmc(self.upm3(y6))

        x1 = self.inc(self.mscsam(torch.cat((up_padded, hr_padded), 1)))
        x2 = self.down1(torch.cat((x1, y1), 1))
        x3 = self.down2(torch.cat((x2, y2), 1))
        x4 = self.down3(torch.cat((x3, y3), 1))
        x = self.up1(torch.cat((x4, y4), 1), x3)
        x = self.up2(torch.cat((x, y5), 1), x2)
        x = self.up3(torch.cat((x, y6), 1), x1)
        first = self.outc(x) + up_padded
        return crop_to(first, hr_msi), crop_to(first + details, hr_msi)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W)."""
        up_hsi = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bicubic")
        return self.fuse_upsampled(up_hsi, hr_msi)[1]


@register(
    "dual-unet",
    "supervised",
    paper="Xiao et al., Dual-UNet, TGRS 2022",
    year=2022,
    fidelity="release",
    source="ming053l/S3RNet@5f572d00e7ca6a6ddaf3b994eb5cf9ec98364180 (flops_cal.ipynb)",
    count_reason="its notebook prints 7.33 M and 102.04 G; the published pair is of a smaller variant that is not public",
    recipes={"suite": Recipe(task=Supervised, trains=("dual-unet",))},
    small={"width": 32},
    note="the S3RNet authors' copy: no code of its own authors was found; the recipe is ours, none is published",
)
def build(bands: int, msi_bands: int, ratio: int, width: int = 64) -> DualUNet:
    """Build it; ``width`` is that of the HSI branch at full size, a multiple of 4."""
    if width < 4 or width % 4:
        raise MethodError(f"dual-unet: width {width}; a positive multiple of 4 is needed")
    return DualUNet(bands, msi_bands, ratio, width)
