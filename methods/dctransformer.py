"""DCTransformer: windows of HSI and MSI attend to each other, block by block ("Reciprocal Transformer").

Paper: Q. Ma, J. Jiang, X. Liu, J. Ma, "Reciprocal Transformer for hyperspectral and multispectral image fusion",
Information Fusion 2024.
Release: qingma2016/DCTransformer @ bd75b1576988ef46964966a111e9b9650b1101ee, ``dual.py`` (no licence file; written anew
from a description, no code taken).

With r the HSI's features, y the MSI's and B the group of blocks, one and the same three times ::

    x1 = conv(r, B(r, y))    x2 = conv(r, x1, B(x1, y))    x3 = conv(r, x1, x2, B(x2, y))    HR-HSI = conv(r + x3)

Notes on the release:

* In a cross block the queries come from the other image, keys, values and the residual from its own.
* The MSI's features enter all eighteen blocks unchanged, and the interpolated HSI is not added to the result.
* The release has 3 MSI bands; here any number, and any ratio. HR sides that are no multiples of 8 are padded by replication and
  cropped after. Masks of shifted windows follow from the image size; the release's ``attn_mask`` buffers, which it reads for
  images of 16x16 pixels alone, hold the same numbers, and ``load_release`` passes over them.
* 180 channels at full resolution: a map of 256x256 pixels takes 47 MB.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import crop_to, pad_to_multiple
from methods.registry import MethodError, Recipe, register
from methods.swin import SwinBlock, SwinTrunk, WindowAttention, conv3, from_windows, to_windows
from methods.tasks import Supervised

WINDOW = 8
PASSES = 3  # of the group


class CrossAttention(WindowAttention):
    """Window attention whose queries come from another image."""

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__(width, window, heads)
        del self.qkv
        self.qkv1, self.qkv2 = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, other: Tensor, mask: Tensor | None) -> Tensor:  # type: ignore[override]
        """Twice (B * windows, tokens, width), mask (windows, tokens, tokens) -> (B * windows, tokens, width)."""
        windows, tokens, width = x.shape

        def heads(z: Tensor) -> Tensor:  # (B * windows, tokens, width) -> (B * windows, heads, tokens, width / heads)
            return z.view(windows, tokens, self.heads, width // self.heads).transpose(1, 2)

        key, value = (heads(z) for z in self.qkv1(x).split(width, 2))
        logits = (heads(self.qkv2(other)) * (width // self.heads) ** -0.5) @ key.mT
        logits = logits + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # type: ignore[index]
        if mask is not None:
            logits = logits.view(-1, *mask.shape[:1], *logits.shape[1:]) + mask[:, None]
        attended = logits.view(windows, self.heads, tokens, tokens).softmax(-1) @ value
        return self.proj(attended.transpose(1, 2).reshape(windows, tokens, width))


class CrossBlock(SwinBlock):
    """A Swin block whose attention is asked by another image: both normalised by weights of their own."""

    def __init__(self, width: int, window: int, heads: int, mlp_ratio: float, shift: bool, drop_path: float) -> None:
        super().__init__(width, window, heads, mlp_ratio, shift, drop_path)
        self.attn = CrossAttention(width, window, heads)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor, other: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Twice (B, H, W, width), mask for shifted windows -> (B, H, W, width)."""
        own, asking = (to_windows(z.roll((-self.shift, -self.shift), (1, 2)), self.window)
                       for z in (self.norm1(x), self.norm2(other)))
        z = self.attn(own, asking, mask if self.shift else None)
        x = x + self.drop_path(from_windows(z, x.shape, self.window).roll((self.shift, self.shift), (1, 2)))
        return x + self.drop_path(self.mlp(self.norm3(x)))


class ReciprocalBlock(nn.Module):
    """Each image asked by the other, then their sum by itself."""

    def __init__(self, width: int, heads: int, shift: bool, drop_path: float) -> None:
        super().__init__()
        self.cross1, self.cross2 = (CrossBlock(width, WINDOW, heads, 2.0, shift, drop_path) for _ in range(2))
        self.swin = SwinBlock(width, WINDOW, heads, 2.0, shift, drop_path)

    def forward(self, x: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """Twice (B, H, W, width) -> (B, H, W, width)."""
        return self.swin(self.cross1(x, other, mask) + self.cross2(other, x, mask), mask)


class ReciprocalGroup(nn.Module):
    """Blocks, alternately plain and shifted, and a convolution; residual around both. The other image stays as it is."""

    def __init__(self, blocks: list[ReciprocalBlock], width: int) -> None:
        super().__init__()
        self.residual_group = nn.ModuleDict({"blocks": nn.ModuleList(blocks)})
        self.conv = conv3(width, width)

    def forward(self, x: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """Twice (B, H, W, width) -> (B, H, W, width)."""
        z = x
        for block in self.residual_group["blocks"]:  # type: ignore[attr-defined]
            z = block(z, other, mask)
        return self.conv(z.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) + x


class DCTransformer(nn.Module):
    """The network of the release."""

    derived = ("attn_mask",)

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int, depth: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.ratio = ratio
        # The rates rise over all passes of the group; its blocks have those of the first.
        rates = torch.linspace(0, drop_path, PASSES * depth, device="cpu").tolist()[:depth]
        blocks = [ReciprocalBlock(width, heads, i % 2 == 1, rate) for i, rate in enumerate(rates)]
        self.headX = conv3(bands, width)
        self.headY = nn.Sequential(conv3(msi_bands, 64), nn.ReLU(), conv3(64, width))
        self.body = SwinTrunk(ReciprocalGroup(blocks, width), width, WINDOW)
        for i in range(1, PASSES + 1):
            self.add_module(f"fe_conv{i}", conv3((i + 1) * width, width))
        self.final = conv3(width, bands)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W)."""
        size = hr_msi
        lr_hsi, hr_msi = pad_to_multiple(lr_hsi, hr_msi, self.ratio, WINDOW)
        r = self.headX(F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bicubic", align_corners=False))
        y = self.headY(hr_msi)  # (B, width, H, W)
        dense = [r]
        for i in range(1, PASSES + 1):
            x = self.body(dense[-1], y)
            dense.append(getattr(self, f"fe_conv{i}")(torch.cat((*dense, x), 1)))
        return crop_to(self.final(r + dense[-1]), size)


@register(
    "dctransformer", "supervised",
    paper="Ma et al., Reciprocal Transformer (DCTransformer), Information Fusion 2024",
    year=2024,
    fidelity="release",
    source="qingma2016/DCTransformer@bd75b1576988ef46964966a111e9b9650b1101ee",
    # An epoch is 20,000 crops there, a batch 8 on each of two GPUs; the schedule follows the share of the steps.
    recipes={"release": Recipe(task=Supervised, trains=("dctransformer",), schedule="multistep:100,150,175,190,195:0.5",
                               epochs=200, steps=250_000, batch=16, crop=64)},
    small={"width": 12, "depth": 2, "heads": 2, "drop_path": 0.0},
    note="for 3 MSI bands in the release, any here",
)
def build(bands: int, msi_bands: int, ratio: int, width: int = 180, depth: int = 6, heads: int = 6,
          drop_path: float = 0.1) -> DCTransformer:
    """DCTransformer.

    Args:
        bands: of the HSI.
        msi_bands: of the MSI.
        ratio: HR pixels per LR pixel along one side.
        width: channels of the tokens.
        depth: blocks of the group.
        heads: of their attention; they divide ``width``.
        drop_path: of stochastic depth in training; the blocks have up to a third of it.

    Raises:
        MethodError: a number of heads that does not divide the width.
    """
    if width % heads:
        raise MethodError(f"dctransformer: width {width} for {heads} heads; choose a multiple")
    return DCTransformer(bands, msi_bands, ratio, width, depth, heads, drop_path)
