"""Shifted windows (Swin), as HyFusion's precursor, 3DT-Net and DCTransformer have them from SwinIR.

Source: Liu et al., "Swin Transformer", ICCV 2021; Liang et al., "SwinIR", ICCVW 2021. Attribute names are those of releases'
state dicts. Images are (B, H, W, C) here, sides multiples of the window; a release's tokens (B, HW, C) are their rows.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def to_windows(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> (B * windows, window * window, C), row-major."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def from_windows(windows: Tensor, shape: torch.Size, window: int) -> Tensor:
    """The inverse: back to an image of ``shape`` (B, H, W, C)."""
    batch, height, width, channels = shape
    x = windows.view(batch, height // window, width // window, window, window, channels)
    return x.transpose(2, 3).reshape(shape)


def shift_mask(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """(windows, tokens, tokens): -100 between tokens that only the roll by half a window made neighbours."""

    def regions(side: int) -> Tensor:
        place = torch.arange(side, device=device)
        return (place >= side - window).long() + (place >= side - window // 2).long()

    region = 3 * regions(height)[:, None] + regions(width)
    region = to_windows(region[None, :, :, None], window).squeeze(2)  # (windows, tokens)
    return (region[:, :, None] != region[:, None, :]) * -100.0


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learned bias per head and relative position."""

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        offset = place[:, None] - place[None, :] + window - 1  # query minus key, from 0 on
        self.register_buffer("relative_position_index", offset[..., 0] * (2 * window - 1) + offset[..., 1])
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B * windows, tokens, width), mask (windows, tokens, tokens) -> (B * windows, tokens, width)."""
        windows, tokens, width = x.shape
        qkv = self.qkv(x).view(windows, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B * windows, heads, tokens, width / heads)
        logits = (query * query.shape[-1] ** -0.5) @ key.mT
        logits = logits + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # type: ignore[index]
        if mask is not None:
            logits = logits.view(-1, *mask.shape[:1], *logits.shape[1:]) + mask[:, None]
        attended = logits.view(windows, self.heads, tokens, tokens).softmax(-1) @ value
        return self.proj(attended.transpose(1, 2).reshape(windows, tokens, width))


class SwinBlock(nn.Module):
    """Window attention and MLP, both residual; ``shift`` rolls the windows by half their side."""

    def __init__(self, width: int, window: int, heads: int, mlp_ratio: float, shift: bool,
                 drop_path: float = 0.0) -> None:
        super().__init__()
        self.window, self.shift, self.drop_rate = window, window // 2 if shift else 0, drop_path
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, window, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(OrderedDict(fc1=nn.Linear(width, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, width)))

    def drop_path(self, x: Tensor) -> Tensor:
        """Stochastic depth: in training, leave the residual out for a share of the images."""
        if not self.training or self.drop_rate == 0:
            return x
        kept = x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.drop_rate)
        return x * kept / (1 - self.drop_rate)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W, width), mask for shifted windows -> (B, H, W, width)."""
        z = self.norm1(x).roll((-self.shift, -self.shift), (1, 2))
        z = self.attn(to_windows(z, self.window), mask if self.shift else None)
        z = from_windows(z, x.shape, self.window).roll((self.shift, self.shift), (1, 2))
        x = x + self.drop_path(z)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ResidualGroup(nn.Module):
    """Swin blocks, alternately plain and shifted, and a convolution; residual around both."""

    def __init__(self, blocks: list[SwinBlock], width: int) -> None:
        super().__init__()
        self.residual_group = nn.ModuleDict({"blocks": nn.ModuleList(blocks)})
        self.conv = conv3(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W, width) -> same."""
        z = x
        for block in self.residual_group["blocks"]:  # type: ignore[attr-defined]
            z = block(z, mask)
        return self.conv(z.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) + x


class SwinTrunk(nn.Module):
    """Normalised tokens through one group and a last convolution, added to the image: the deep features of SwinIR.

    Args:
        group: a module with ``conv`` and blocks, called with the tokens of every image and the mask of shifted windows.
        width: channels.
        window: side of a window.
    """

    def __init__(self, group: nn.Module, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.conv_after_body = conv3(width, width)
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(width)})
        self.layers = nn.ModuleList([group])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """(B, width, H, W), what else the group looks at of the same shape -> (B, width, H, W)."""
        mask = shift_mask(x.shape[2], x.shape[3], self.window, x.device)
        tokens = [self.patch_embed["norm"](image.permute(0, 2, 3, 1)) for image in (x, *others)]
        z = self.norm(self.layers[0](*tokens, mask))
        return self.conv_after_body(z.permute(0, 3, 1, 2)) + x
