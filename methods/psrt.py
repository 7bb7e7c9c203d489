"""PSRT: attention in windows of a pyramid of sizes, and a shuffle that brings far pixels into one window.

Paper: S.-Q. Deng, L.-J. Deng, X. Wu, R. Ran, D. Hong, G. Vivone, "PSRT: Pyramid Shuffle-and-Reshuffle Transformer for
Multispectral and Hyperspectral Image Fusion", IEEE TGRS 61, 2023.
Release: shangqideng/PSRT @ 9c2be904f901d4b6e2991413adea753d94be73fd, ``model/model_SR.py`` (no licence stated).

Departures and quirks:

* Scores are (4 q) . k: the release passes 4 where 0.5, one over the root of a head's 4 channels, is usual.
* What is added to the interpolated HSI ends in a LeakyReLU: negative residuals are a fifth as large.
* The release reads HSIs that were interpolated elsewhere; here they are interpolated bicubically.
* HR sides that are no multiples of 8 are padded by replication and cropped after; the release refuses them.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import crop_to, pad_to_multiple
from methods.registry import MethodError, Recipe, register
from methods.tasks import Supervised

HEADS, SCALE = 8, 4.0
WINDOWS = (8, 4, 2)  # sides of a pyramid's windows, in pixels
PYRAMIDS = 2


def cut(x: Tensor, side: int) -> Tensor:
    """(B, H, W, C) -> (B, H/side, W/side, side, side, C): cells, which may be windows."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // side, side, width // side, side, channels).transpose(2, 3)


def joined(cells: Tensor) -> Tensor:
    """The inverse of :func:`cut`."""
    batch, rows, columns, side, _, channels = cells.shape
    return cells.transpose(2, 3).reshape(batch, rows * side, columns * side, channels)


def parted(x: Tensor, axis: int) -> Tensor:
    """Even places of an axis first, in their order, then the odd ones."""
    return x.unflatten(axis, (-1, 2)).transpose(axis, axis + 1).flatten(axis, axis + 1)


def merged(x: Tensor, axis: int) -> Tensor:
    """The inverse of :func:`parted`."""
    return x.unflatten(axis, (2, -1)).transpose(axis, axis + 1).flatten(axis, axis + 1)


def shuffle(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> same: cells of half a window, those of even rows to the upper half, of even columns to the left one."""
    return joined(parted(parted(cut(x, window // 2), 1), 2))


def unshuffle(x: Tensor, window: int) -> Tensor:
    """The inverse of :func:`shuffle`."""
    return joined(merged(merged(cut(x, window // 2), 2), 1))


class Attention(nn.Module):
    """Multi-head attention of all tokens of a window."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, tokens, width) -> same."""
        query, key, value = self.qkv(tokens).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # (N, HEADS, tokens, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=SCALE)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class WindowAttention(nn.Module):
    """Attention in windows and an MLP, both residual."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(OrderedDict(fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, width) -> same; H and W are multiples of the window."""
        cells = cut(self.norm1(x), self.window)
        attended = self.attn(cells.flatten(3, 4).flatten(0, 2))  # (windows, tokens, width), row-major
        x = x + joined(attended.reshape(cells.shape))
        return x + self.mlp(self.norm2(x))


class W2W(nn.Module):
    """Attention in windows, in shuffled windows, in windows again."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.WA1, self.WA2, self.WA3 = (WindowAttention(width, window) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, width) -> same."""
        shuffled = self.WA2(shuffle(self.WA1(x), self.window))
        return x + self.WA3(unshuffle(shuffled, self.window))


class Pyramid(nn.Module):
    """One block a window size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(W2W(width, window) for window in WINDOWS))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, width) -> same."""
        return self.layers(x)


class Body(nn.Module):
    """Features of both images, and the pyramids on them."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Pyramid(width) for _ in range(PYRAMIDS)))
        self.conv = nn.Conv2d(inputs, width, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, width, H, W)."""
        return self.layers(self.conv(images).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PSRT(nn.Module):
    """The network of the release, in [0, 1]."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.conv = nn.Sequential(nn.Conv2d(width, bands, 3, padding=1), nn.LeakyReLU(0.2))
        self.w = Body(bands + msi_bands, width)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
            elif isinstance(layer, nn.Conv2d):
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W), not clamped."""
        lr_padded, hr_padded = pad_to_multiple(lr_hsi, hr_msi, self.ratio, WINDOWS[0])
        up_hsi = F.interpolate(lr_padded, scale_factor=self.ratio, mode="bicubic")  # (B, bands, H, W)
        return crop_to(self.sharpened(up_hsi, hr_padded), hr_msi)

    def sharpened(self, up_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """What the release computes: (B, bands, H, W), (B, msi_bands, H, W) -> (B, bands, H, W); sides multiples of 8."""
        return up_hsi + self.conv(self.w(torch.cat((up_hsi, hr_msi), 1)))


@register(
    "psrt",
    "supervised",
    paper="Deng et al., PSRT, TGRS 2023",
    year=2023,
    fidelity="release",
    source="shangqideng/PSRT@9c2be904f901d4b6e2991413adea753d94be73fd",
    recipes={
        "release": Recipe(task=Supervised, trains=("psrt",), optimizer="adamw", lr=1e-4, weight_decay=1e-4,
                          schedule="constant", epochs=2002, batch=32, crop=64, augment=(), clip=10.0),
    },
    small={"width": 16},
    note="interpolates the HSI bicubically, where the release reads interpolated ones",
)
def build(bands: int, msi_bands: int, ratio: int, width: int = 32) -> PSRT:
    """Build it for any ``ratio``; ``width`` is shared by eight heads.

    Raises:
        MethodError: a width that eight heads cannot share.
    """
    if width < HEADS or width % HEADS:
        raise MethodError(f"psrt: width {width}; choose a multiple of {HEADS}, the number of heads")
    return PSRT(bands, msi_bands, ratio, width)
