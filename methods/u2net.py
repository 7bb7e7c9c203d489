"""U2Net: spatial-spectral double U-Net.

Paper: S. Peng, C. Guo, X. Wu, L.-J. Deng, "U2Net: A General Framework with Spatial-Spectral-Integrated Double U-Net
for Image Fusion", ACM MM 2023.
Release: PSRben/U2Net @ 32e214c19b4b1dea72258b4da3157258f67612b9, ``model/u2net.py``, ``model/s2block.py`` (GPL-3.0;
written anew from a description, no code taken).

Two U-Nets of the same shape run side by side: x (spectral, from the HSI) and y (spatial, from the MSI). At every level
an S2Block lets y tell which pixels of x belong together, and x which channels. Down and Up share weights between both.
These three, and Upsample, stand in :mod:`methods.blocks`: the authors' SSDiff has them too.

Departures and quirks:

* The spatial map is (HW)^2 per head and the spectral map is divided by the pixel count, so the authors' 64x64 HR patch
  is part of the method: outside training ``forward`` works on tiles of ``tile`` HR pixels, without overlap. The
  attention runs through ``scaled_dot_product_attention``, which keeps no map in memory.
* ``maxpool_conv`` of Down and ``up0`` of Up are built but never run, in the release and here: see ``unused``.
* The release is for ratio 4; other ratios shuffle ratio^2 channels in the same single up-sampling convolution. HR sides
  that are no multiples of 4 are padded by replication and cropped after.
* The published table's configuration is unknown: no width gives both 265.15 M parameters and 1931 G multiply-adds.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import HEAD_WIDTH, Down, S2Block, Up, Upsample, check_tile, crop_to, pad_to_multiple, tiled
from methods.registry import MethodError, Recipe, register
from methods.tasks import Supervised

MULTIPLE = 4  # of the HR sides: two halvings


class ResBlock(nn.Module):
    """Two 3x3 convolutions through half the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.conv1 = nn.Conv2d(width // 2, width, 3, padding=1)

    def forward(self, y: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return y + self.conv1(F.leaky_relu(self.conv0(y)))


class U2Net(nn.Module):
    """The network of the release; in evaluation mode it works tile by tile."""

    unused = ("down0.maxpool_conv.", "down1.maxpool_conv.", "up0.up0.", "up1.up0.")

    def __init__(self, bands: int, msi_bands: int, ratio: int, dim: int, tile: int) -> None:
        super().__init__()
        self.ratio, self.tile = ratio, tile
        d0, d1, d2 = dim, 2 * dim, 4 * dim
        self.upsample = Upsample(bands, ratio)
        self.raise_ms_dim = nn.Sequential(nn.Conv2d(bands, d0, 3, padding=1), nn.LeakyReLU())
        self.raise_pan_dim = nn.Sequential(nn.Conv2d(msi_bands, d0, 3, padding=1), nn.LeakyReLU())
        self.to_hrms = nn.Sequential(
            nn.Conv2d(d0, d0, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(d0, bands, 3, padding=1))
        self.s2block0, self.down0, self.resblock0 = S2Block(d0), Down(d0, d1), ResBlock(d0)
        self.s2block1, self.down1, self.resblock1 = S2Block(d1), Down(d1, d2), ResBlock(d1)
        self.s2block2, self.up0, self.resblock2 = S2Block(d2), Up(d2, d1), ResBlock(d2)
        self.s2block3, self.up1, self.resblock3 = S2Block(d1), Up(d1, d0), ResBlock(d1)
        self.s2block4 = S2Block(d0)

    def fuse_tile(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """One pass: (B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W); H and W are multiples of 4."""
        x0 = self.upsample(lr_hsi)
        x, y = self.raise_ms_dim(x0), self.raise_pan_dim(hr_msi)  # (B, d0, H, W)
        x_skip0, y_skip0 = self.s2block0(x, y), self.resblock0(y)
        x, y = self.down0(x_skip0), self.down0(y_skip0)  # (B, d1, H/2, W/2)
        x_skip1, y_skip1 = self.s2block1(x, y), self.resblock1(y)
        x, y = self.down1(x_skip1), self.down1(y_skip1)  # (B, d2, H/4, W/4)
        x, y = self.up0(self.s2block2(x, y), x_skip1), self.up0(self.resblock2(y), y_skip1)  # (B, d1, H/2, W/2)
        x, y = self.up1(self.s2block3(x, y), x_skip0), self.up1(self.resblock3(y), y_skip0)  # (B, d0, H, W)
        return self.to_hrms(self.s2block4(x, y)) + x0

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W); in tiles unless training."""
        padded = pad_to_multiple(lr_hsi, hr_msi, self.ratio, MULTIPLE)
        if self.training:
            return crop_to(self.fuse_tile(*padded), hr_msi)
        return crop_to(tiled(self.fuse_tile, *padded, ratio=self.ratio, tile=self.tile), hr_msi)


@register(
    "u2net", "supervised",
    paper="Peng et al., U2Net, ACM MM 2023",
    year=2023,
    fidelity="release",
    source="PSRben/U2Net@32e214c19b4b1dea72258b4da3157258f67612b9",
    count_reason="the published size is no width of the release; this is its default, dim 32, in tiles of 64x64 HR pixels",
    recipes={"release": Recipe(task=Supervised, trains=("u2net",), lr=1e-3, schedule="step:100:0.5", epochs=500,
                               batch=16, crop=64, augment=(), drop_last=True)},
    small={"dim": 16},
    note="in 64x64 HR tiles, as trained; the published table's size is unknown, this is the release's (dim 32)",
)
def build(bands: int, msi_bands: int, ratio: int, dim: int = 32, tile: int = 64) -> U2Net:
    """U2Net of width ``dim``, which fuses in tiles of ``tile`` HR pixels."""
    if dim < HEAD_WIDTH:
        raise MethodError(f"u2net: dim {dim}; its attention heads are {HEAD_WIDTH} wide, choose at least that")
    check_tile("u2net", tile, ratio, MULTIPLE)
    return U2Net(bands, msi_bands, ratio, dim, tile)
