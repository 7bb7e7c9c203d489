"""SSPSR: single-image super-resolution of the LR-HSI by a spatial-spectral prior. Takes no MSI.

Paper: J. Jiang, H. Sun, X. Liu, J. Ma, "Learning Spatial-Spectral Prior for Super-Resolution of Hyperspectral
Imagery", IEEE TCI 6:1082-1096, 2020.
Release: junjun-jiang/SSPSR @ 6200c7c9d1725702b613ae1f8797812656343335, ``SSPSR.py``, ``common.py``, ``loss.py``.

Here as the line that shows what the MSI is worth: ``forward`` ignores it. The branches share their weights, the
release's default (without sharing it works at ratio 4 alone).
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from methods import losses
from methods.registry import MethodError, Recipe, register
from methods.resample import resize
from methods.tasks import Supervised

RES_SCALE = 0.1


class ChannelAttention(nn.Module):
    """A weight per channel from the channel means."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(width // reduction, 1)
        self.conv_du = nn.Sequential(nn.Conv2d(width, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, width, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H, W) -> same."""
        return x * self.conv_du(F.adaptive_avg_pool2d(x, 1))


class Residual(nn.Module):
    """Residual block, its body scaled by 0.1."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H, W) -> same."""
        return x + RES_SCALE * self.body(x)


class SSB(nn.Module):
    """Spatial-spectral block: a spatial residual block (3x3), then a spectral one (1x1 and channel attention)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spa = Residual(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
        self.spc = Residual(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1), ChannelAttention(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H, W) -> same."""
        return self.spc(self.spa(x))


class SSPN(nn.Module):
    """Spatial-spectral prior network: SSBs under one skip."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.net = nn.Sequential(*(SSB(width) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H, W) -> same."""
        return self.net(x) + x


class BranchUnit(nn.Module):
    """Features of some bands, upsampled by pixel shuffle; with a tail, back to these bands."""

    def __init__(self, bands: int, width: int, blocks: int, scale: int, tail: bool) -> None:
        super().__init__()
        self.head = nn.Conv2d(bands, width, 3, padding=1)
        self.body = SSPN(width, blocks)
        self.upsample = nn.Sequential(*(layer for _ in range(int(math.log2(scale)))
                                        for layer in (nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2))))
        self.tail = nn.Conv2d(width, bands, 3, padding=1) if tail else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, bands, h, w) -> (B, bands or F, scale * h, scale * w)."""
        x = self.upsample(self.body(self.head(x)))
        return x if self.tail is None else self.tail(x)


class SSPSR(nn.Module):
    """Overlapping band groups through one branch to half the HR size, then all bands through the trunk."""

    def __init__(self, bands: int, ratio: int, n_subs: int, n_ovls: int, n_blocks: int, n_feats: int,
                 interpolation: str) -> None:
        super().__init__()
        self.ratio, self.interpolation, self.n_subs = ratio, interpolation, n_subs
        groups = math.ceil((bands - n_ovls) / (n_subs - n_ovls))
        self.starts = tuple(min(g * (n_subs - n_ovls), bands - n_subs) for g in range(groups))  # the last is moved back
        self.branch = BranchUnit(n_subs, n_feats, n_blocks, ratio // 2, tail=True)
        self.trunk = BranchUnit(bands, n_feats, n_blocks, 2, tail=False)
        self.skip_conv = nn.Conv2d(bands, n_feats, 3, padding=1)
        self.final = nn.Conv2d(n_feats, bands, 3, padding=1)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), the MSI unread -> HR-HSI (B, bands, H, W)."""
        batch, bands, height, width = lr_hsi.shape
        half = self.ratio // 2
        canvas = lr_hsi.new_zeros(batch, bands, half * height, half * width)
        covering = lr_hsi.new_zeros(bands, 1, 1)
        for start in self.starts:
            group = slice(start, start + self.n_subs)
            canvas[:, group] += self.branch(lr_hsi[:, group])
            covering[group] += 1
        features = self.trunk(canvas / covering)
        return self.final(features + self.skip_conv(self.interpolate(lr_hsi)))

    def interpolate(self, lr_hsi: Tensor) -> Tensor:
        """(B, bands, h, w) -> (B, bands, H, W)."""
        if self.interpolation == "bilinear":
            return F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bilinear")
        return resize(lr_hsi, [self.ratio * side for side in lr_hsi.shape[-2:]], "cubic")


def hybrid_loss(estimate: Tensor, reference: Tensor) -> Tensor:
    """L1 and the mean squared differences of the estimate's neighbours in space and, twice, in the spectrum.

    "Total variation" by the release's name, of squares by its code.
    """
    vertical, horizontal, spectral = (estimate.diff(dim=axis).square().mean() for axis in (2, 3, 1))
    return losses.l1(estimate, reference) + 1e-3 * (vertical + horizontal + 2 * spectral)


class HybridLoss(Supervised):
    """SSPSR's training."""

    loss = staticmethod(hybrid_loss)


@register(
    "sspsr",
    "supervised",
    paper="Jiang et al., SSPSR, TCI 2020",
    year=2020,
    fidelity="release",
    source="junjun-jiang/SSPSR@6200c7c9d1725702b613ae1f8797812656343335",
    recipes={
        # The release's Chikusei and Pavia settings. Data divided by their maximum, crops on a grid of stride 32.
        "release": Recipe(task=HybridLoss, trains=("sspsr",), lr=1e-4, schedule="step:30:0.1", epochs=40, batch=32,
                          crop=64),
    },
    small={"n_feats": 64, "n_blocks": 1},
    note="single image: the MSI is not used",
)
def build(bands: int, ratio: int, n_subs: int = 8, n_ovls: int = 2, n_blocks: int = 3, n_feats: int = 256,
          interpolation: str = "bicubic") -> SSPSR:
    """Build it.

    Args:
        bands: of the HSI.
        ratio: a power of two; half of it is the branch's.
        n_subs: bands a group; all bands where there are fewer. The release's CAVE setting is 4, with n_blocks 8.
        n_ovls: bands that neighbouring groups share (CAVE: 1).
        n_blocks: SSBs of the branch and of the trunk.
        n_feats: width.
        interpolation: of the LR-HSI for the skip: ``"bicubic"`` (MATLAB's, as the release's data) or ``"bilinear"``.
    """
    if ratio < 2 or ratio & (ratio - 1):
        raise MethodError(f"sspsr: ratio {ratio}; choices: 2, 4, 8 and higher powers of two")
    if interpolation not in ("bicubic", "bilinear"):
        raise MethodError(f"sspsr: interpolation '{interpolation}'; choices: bicubic, bilinear")
    n_subs = min(n_subs, bands)
    if not 0 <= n_ovls < n_subs:
        raise MethodError(f"sspsr: n_ovls {n_ovls}; groups of {n_subs} bands can share 0 to {n_subs - 1}")
    return SSPSR(bands, ratio, n_subs, n_ovls, n_blocks, n_feats, interpolation)
