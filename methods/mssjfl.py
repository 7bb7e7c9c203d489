"""MSSJFL: multiscale spatial-spectral joint feature learning.

Paper: Min, Wang, Jia, "Multiscale spatial-spectral joint feature learning for multispectral and hyperspectral
image fusion", HPCC 2021.
Release: jx-mzc/MSSJFL @ 70bc88266e18c42bf0427ac4be8377eb654d3faf, ``model/models.py`` (no licence file).

Four branches learn features of both images jointly at low and at high resolution, of the HSI alone (spectral) and of
the MSI alone (spatial); their sum is corrected by what it leaves unexplained of either input.

Quirks of the release, kept:

* Its residual blocks pass ``True`` as the slope of the leaky ReLU between their two convolutions. Slope 1 is the
  identity, so the pair is linear and no activation stands here.
* The MSI comes first in the concatenation at high resolution, the HSI first in the one at low resolution.
* Its default is ``fm=32``; ``fm=64``, the default here, gives the published parameters and operations digit for digit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.registry import MethodError, Recipe, register
from methods.tasks import Supervised

REDUCTION = 16  # of the channel attention's hidden layer
BLOCKS = 5  # residual blocks a branch


class ChannelAttention(nn.Module):
    """A gate per channel from average and maximum over the image, through one shared MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = width // REDUCTION
        self.shared_MLP = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> gated, same shape."""
        gate = torch.sigmoid(self.shared_MLP(x.mean((2, 3))) + self.shared_MLP(x.amax((2, 3))))
        return gate[:, :, None, None] * x


class SpatialAttention(nn.Module):
    """A gate per pixel from average and maximum over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> gated, same shape."""
        return torch.sigmoid(self.conv2d(torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1))) * x


class CSResBlock(nn.Module):
    """Two convolutions without activation, channel gate, spatial gate, residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.con1 = nn.Conv2d(width, width, 3, padding=1)
        self.con2 = nn.Conv2d(width, width, 3, padding=1)
        self.ca: nn.Module = ChannelAttention(width)
        self.sa: nn.Module = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return x + self.sa(self.ca(self.con2(self.con1(x))))


class CResBlock(CSResBlock):
    """CSResBlock with the channel gate alone: of the spectral branch."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.sa = nn.Identity()


class SResBlock(CSResBlock):
    """CSResBlock with the spatial gate alone: of the spatial branch."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.ca = nn.Identity()


class MSSJFL(nn.Module):
    """The network of the release, in [0, 1]."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, fh: int, fm: int) -> None:
        super().__init__()

        def entry(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.LeakyReLU())

        def stack(block: type[CSResBlock], width: int) -> nn.Sequential:
            return nn.Sequential(*(block(width) for _ in range(BLOCKS)))

        # x_yz: both images at low resolution
        self.conv1 = entry(bands + msi_bands, fh)
        self.block1 = stack(CSResBlock, fh)
        self.upscale = nn.Sequential(nn.Conv2d(fh, ratio**2 * fh, 1), nn.PixelShuffle(ratio), nn.Conv2d(fh, bands, 1))
        # x_zy: both images at high resolution
        self.conv2 = entry(bands + msi_bands, fm)
        self.block2 = stack(CSResBlock, fm)
        self.conv3 = entry(fm, bands)
        # x_y: the HSI's spectra
        self.conv4 = entry(bands, fh)
        self.block3 = stack(CResBlock, fh)
        self.upscale2 = nn.Sequential(nn.Conv2d(fh, ratio**2 * fh, 1), nn.PixelShuffle(ratio))
        # x_z: the MSI's structure
        self.conv5 = entry(msi_bands, fm)
        self.block4 = stack(SResBlock, fm)
        self.conv6 = entry(fh + fm, bands, 3, padding=1)
        # restoration: what X leaves unexplained of either input
        self.conv7 = entry(bands, bands, ratio, stride=ratio)
        self.conv_trans = nn.ConvTranspose2d(bands, bands, ratio, stride=ratio)
        self.conv8 = entry(bands, msi_bands)
        self.conv9 = nn.Sequential(nn.Conv2d(msi_bands, bands, 1))

        for layer in self.modules():  # the release leaves the transposed convolution at PyTorch's default
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(layer.weight, std=0.05)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W), no output activation."""
        up_hsi = F.interpolate(lr_hsi, size=hr_msi.shape[2:], mode="bilinear")  # (B, bands, H, W)
        down_msi = F.interpolate(hr_msi, size=lr_hsi.shape[2:], mode="bicubic")  # (B, msi_bands, h, w)

        a = self.conv1(torch.cat((lr_hsi, down_msi), 1))  # (B, fh, h, w)
        x_yz = self.upscale(a + self.block1(a))  # (B, bands, H, W)
        b = self.conv2(torch.cat((hr_msi, up_hsi), 1))  # (B, fm, H, W)
        x_zy = self.conv3(b + self.block2(b))  # (B, bands, H, W)
        c = self.conv4(lr_hsi)  # (B, fh, h, w)
        x_y = self.upscale2(c + self.block3(c))  # (B, fh, H, W)
        d = self.conv5(hr_msi)  # (B, fm, H, W)
        x_z = d + self.block4(d)  # (B, fm, H, W)
        x = x_yz + x_zy + self.conv6(torch.cat((x_y, x_z), 1))  # (B, bands, H, W)

        return x + self.conv_trans(lr_hsi - self.conv7(x)) + self.conv9(hr_msi - self.conv8(x))


@register(
    "mssjfl",
    "supervised",
    paper="Min et al., MSSJFL, HPCC 2021",
    year=2021,
    fidelity="release",
    source="jx-mzc/MSSJFL@70bc88266e18c42bf0427ac4be8377eb654d3faf",
    count_reason="the published count takes the transposed convolution once per output pixel, 16 times what it does",
    recipes={
        # Patches of 10x10 to 12x12 LR pixels: 48x48 HR at ratio 4. The release's loader neither shuffles nor augments.
        "release": Recipe(task=Supervised, trains=("mssjfl",), lr=1e-3, weight_decay=2e-5,
                          schedule="multistep:20,500,2000:0.1", epochs=10_000, batch=16, crop=48, augment=(),
                          keep="best-psnr"),
    },
    small={"fh": 32, "fm": 32},
    note="the published operations count the transposed convolution once per output pixel, 16 times what it does",
)
def build(bands: int, msi_bands: int, ratio: int, fh: int = 256, fm: int = 64) -> MSSJFL:
    """``fh`` and ``fm`` are the widths of the branches at low and at high resolution."""
    if min(fh, fm) < REDUCTION:
        raise MethodError(f"mssjfl: fh {fh}, fm {fm}; each must be {REDUCTION} or more, as the channel attention "
                          f"reduces it by {REDUCTION}")
    return MSSJFL(bands, msi_bands, ratio, fh, fm)
