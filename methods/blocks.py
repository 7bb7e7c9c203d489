"""Layers and functions that two or more methods use unchanged; whoever differs keeps its own, even under the same name.

Whole images       :func:`pad_to_multiple`, :func:`crop_to`, :func:`tiled`, :func:`check_tile`
Tokens             :class:`Residual`, :class:`PreNorm`: U2Net, SSDiff, Fusformer
Double U-Nets      :class:`S2Block`, :class:`Down`, :class:`Up`: U2Net, SSDiff; :class:`Upsample`: FusionMamba too
Feature pyramid    :class:`LFE`: HyperTransformer, HyperRefiner
Keras's defaults   :func:`batch_norm`, :func:`glorot_uniform`: DSDCN, SSUF
Convolutions       :class:`ConvResidual`: PC-GANs, SSIF

Attribute names are those of the releases' state dicts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.registry import MethodError

HEAD_WIDTH = 16  # of S2Attention
Levels = tuple[Tensor, Tensor, Tensor]  # at H, H/2 and H/4

# ---- whole images


def pad_to_multiple(lr_hsi: Tensor, hr_msi: Tensor, ratio: int, multiple: int) -> tuple[Tensor, Tensor]:
    """Both images, replicated at the bottom and the right until the HR sides divide by ``multiple``.

    By whole LR pixels, so that the two still fit each other.

    Args:
        lr_hsi: (B, bands, h, w).
        hr_msi: (B, msi_bands, ratio * h, ratio * w).
        ratio: of the sides; 1 where both images have HR size.
        multiple: of the HR sides.

    Returns:
        (B, bands, h', w') and (B, msi_bands, ratio * h', ratio * w'); the images themselves where nothing is missing.
    """
    step = multiple // math.gcd(multiple, ratio)
    bottom, right = (-side % step for side in lr_hsi.shape[-2:])
    if not (bottom or right):
        return lr_hsi, hr_msi
    return (F.pad(lr_hsi, (0, right, 0, bottom), mode="replicate"),
            F.pad(hr_msi, (0, right * ratio, 0, bottom * ratio), mode="replicate"))


def crop_to(image: Tensor, like: Tensor) -> Tensor:
    """Undo :func:`pad_to_multiple`: (B, C, H', W') cut at the bottom and the right to the sides of ``like``."""
    return image[..., : like.shape[-2], : like.shape[-1]]


def check_tile(name: str, tile: int, ratio: int, multiple: int = 1) -> None:
    """Refuse, for the method ``name``, a tile that cuts LR pixels or whose HR side is no multiple of ``multiple``."""
    step = math.lcm(multiple, ratio)
    if tile < step or tile % step:
        raise MethodError(f"{name}: tile {tile} HR pixels at ratio {ratio}; choose a multiple of {step}")


def tile_starts(side: int, tile: int, overlap: int, whole: bool) -> list[int]:
    """First pixels of the tiles that cover ``side``; with ``whole`` the last one is moved inwards to keep its size."""
    last = max(side - tile, 0)
    if whole:
        return [*range(0, last, tile - overlap), last]
    return [*range(0, last + tile - overlap, tile - overlap)]


def tiled(network: Callable[..., Tensor], lr_hsi: Tensor, *hr_images: Tensor, ratio: int, tile: int,
          overlap: int = 0, whole: bool = True) -> Tensor:
    """``network`` on square tiles, each on its own, averaged where tiles overlap.

    Args:
        network: (B, bands, h', w') and the tiles of ``hr_images`` -> (B, bands, H', W').
        lr_hsi: (B, bands, h, w).
        *hr_images: each (B, C, H, W).
        ratio: of the sides.
        tile: side of a tile in HR pixels; a smaller image is one tile.
        overlap: of neighbouring tiles in HR pixels.
        whole: where ``tile`` does not divide the image, the last tiles are moved inwards over their neighbours and
            keep their size; False: they are smaller, and nothing overlaps that ``overlap`` does not ask for.

    Returns:
        (B, bands, H, W).
    """
    rows, columns = (tile_starts(side, tile // ratio, overlap // ratio, whole) for side in lr_hsi.shape[-2:])
    if len(rows) == len(columns) == 1:
        return network(lr_hsi, *hr_images)
    batch, bands, _, _ = lr_hsi.shape
    total = lr_hsi.new_zeros(batch, bands, *hr_images[0].shape[-2:])
    count = torch.zeros_like(total[:1, :1])
    for top in rows:
        for left in columns:
            small = slice(top, top + tile // ratio), slice(left, left + tile // ratio)
            window = (..., slice(top * ratio, top * ratio + tile), slice(left * ratio, left * ratio + tile))
            total[window] += network(lr_hsi[..., *small], *(image[window] for image in hr_images))
            count[window] += 1
    return total / count


# ---- tokens


class Residual(nn.Module):
    """The tokens plus ``fn`` of them (and of others, where there are any)."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """(B, n, c) and others of that shape -> (B, n, c)."""
        return x + self.fn(x, *others)


class PreNorm(nn.Module):
    """``fn`` of normalised tokens; one LayerNorm serves all inputs."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, *tokens: Tensor) -> Tensor:
        """Each (B, n, c) -> (B, n, c)."""
        return self.fn(*(self.norm(t) for t in tokens))


# ---- double U-Nets of one group: U2Net, SSDiff, FusionMamba


class S2Attention(nn.Module):
    """Spatial map from y times spectral map from x: to_out((S x1) * (y1 E))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH
        inner = self.heads * HEAD_WIDTH
        self.sa1, self.sa2 = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.se1, self.se2 = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Twice (B, n, c) -> (B, n, c)."""
        batch, pixels, _ = x.shape

        def heads(tokens: Tensor) -> Tensor:  # (B, n, heads * 16) -> (B, heads, n, 16)
            return tokens.reshape(batch, pixels, self.heads, HEAD_WIDTH).transpose(1, 2)

        y1, y2, x1, x2 = heads(self.sa1(y)), heads(self.sa2(y)), heads(self.se1(x)), heads(self.se2(x))
        spatial = F.scaled_dot_product_attention(y1, y2, x1)  # S x1, S = softmax(y1 y2^T / sqrt(16)), n x n
        logits = x1.mT @ x2 / math.sqrt(HEAD_WIDTH) / (pixels / 16)
        spectral = y1 @ torch.softmax(logits, dim=-1)  # y1 E, E 16 x 16
        return self.to_out((spatial * spectral).transpose(1, 2).reshape(batch, pixels, -1))


class MLP(nn.Module):
    """Two linear layers through half the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The Identity stands where the release has a dropout of rate 0: it keeps the number in the second layer's name.
        self.net = nn.Sequential(
            nn.Linear(width, width // 2), nn.LeakyReLU(), nn.Identity(), nn.Linear(width // 2, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, c) -> same."""
        return self.net(x)


class S2Block(nn.Module):
    """Spatial-spectral integration: x is updated, y is only looked at."""

    def __init__(self, width: int) -> None:
        super().__init__()
        attention = Residual(PreNorm(width, S2Attention(width)))
        self.layers = nn.ModuleList([nn.ModuleList([attention, Residual(PreNorm(width, MLP(width)))])])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Twice (B, c, H, W) -> (B, c, H, W)."""
        tokens, guide = x.flatten(2).mT, y.flatten(2).mT  # (B, HW, c), row-major
        for attention, mlp in self.layers:  # type: ignore[misc]
            tokens = mlp(attention(tokens, guide))  # type: ignore[has-type]
        return tokens.mT.reshape(x.shape)


class Down(nn.Module):
    """Halves the sides."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(  # never run
            nn.MaxPool2d(2), nn.Conv2d(width, out, 1), nn.Conv2d(out, out, 3, padding=1, groups=out))
        self.conv = nn.Sequential(nn.Conv2d(width, width, 2, stride=2), nn.LeakyReLU(), nn.Conv2d(width, out, 1),
                                  nn.Conv2d(out, out, 3, padding=1, groups=out), nn.LeakyReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, out, H/2, W/2)."""
        return self.conv(x)


class Up(nn.Module):
    """Doubles the sides and adds the skip."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.up0 = nn.Sequential(  # never run
            nn.ConvTranspose2d(width, width, 2, stride=2), nn.LeakyReLU(), nn.Conv2d(width, out, 1),
            nn.Conv2d(out, out, 3, padding=1, groups=out))
        self.up1 = nn.Sequential(nn.ConvTranspose2d(width, out, 2, stride=2), nn.LeakyReLU())
        self.conv = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, width, H/2, W/2), (B, out, H, W) -> (B, out, H, W)."""
        return F.leaky_relu(self.conv(self.up1(x) + skip))


class Upsample(nn.Module):
    """LR-HSI to HR by one convolution and a pixel shuffle; the attribute is spelled as in the releases."""

    def __init__(self, bands: int, ratio: int) -> None:
        super().__init__()
        self.upsamle = nn.Sequential(
            nn.Conv2d(bands, ratio**2 * bands, 3, padding=1, bias=False), nn.PixelShuffle(ratio))

    def forward(self, lr_hsi: Tensor) -> Tensor:
        """(B, bands, h, w) -> (B, bands, H, W)."""
        return self.upsamle(lr_hsi)


# ---- feature pyramid of HyperTransformer and HyperRefiner


class LFE(nn.Module):
    """Feature extractor of three scales, each taken before its last activation; the names keep the release's widths."""

    def __init__(self, channels: int, width: int, kernel: int = 7) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

        self.conv_64_1, self.bn_64_1 = conv(channels, width, kernel), nn.BatchNorm2d(width)
        self.conv_64_2, self.bn_64_2 = conv(width, width), nn.BatchNorm2d(width)
        self.conv_128_1, self.bn_128_1 = conv(width, 2 * width), nn.BatchNorm2d(2 * width)
        self.conv_128_2, self.bn_128_2 = conv(2 * width, 2 * width), nn.BatchNorm2d(2 * width)
        self.conv_256_1, self.bn_256_1 = conv(2 * width, 4 * width), nn.BatchNorm2d(4 * width)
        self.conv_256_2, self.bn_256_2 = conv(4 * width, 4 * width), nn.BatchNorm2d(4 * width)

    def forward(self, x: Tensor) -> Levels:
        """(B, channels, H, W) -> (B, width, H, W), (B, 2 width, H/2, W/2), (B, 4 width, H/4, W/4)."""
        fine = self.bn_64_2(self.conv_64_2(F.relu(self.bn_64_1(self.conv_64_1(x)))))
        x = F.max_pool2d(F.relu(fine), 2)
        middle = self.bn_128_2(self.conv_128_2(F.relu(self.bn_128_1(self.conv_128_1(x)))))
        x = F.max_pool2d(F.relu(middle), 2)
        coarse = self.bn_256_2(self.conv_256_2(F.relu(self.bn_256_1(self.conv_256_1(x)))))
        return fine, middle, coarse


# ---- Keras


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with Keras's defaults."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def glorot_uniform(layer: nn.Module) -> None:
    """Keras's default initialisation of a convolution: for ``module.apply``."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


# ---- plain convolutions of PC-GANs and SSIF


class ConvResidual(nn.Module):
    """Two 3x3 convolutions added to their input: EDSR's block (Lim et al., CVPR Workshops 2017) without its scaling."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return x + self.body(x)
