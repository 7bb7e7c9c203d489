"""FusionMamba: two-stream U-Net of state space models.

Paper: S. Peng, X. Zhu, H. Deng, L.-J. Deng, Z. Lei, "FusionMamba: Efficient Remote Sensing Image Fusion With State
Space Model", TGRS 2024.
Release: PSRben/FusionMamba @ 6bd5cbd2c65b56c0d5820f91f25b5ea3d44d0945, ``model/u2net.py``, ``model/fusion_mamba.py``,
``Mamba-block/mamba_simple.py`` (no licence file; written anew from a description, no code taken).

Selective scan, for each channel c and position t (the scans below begin with delta and leave D u out):

    delta_t = softplus(s_t + dt_bias)
    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,     h_{-1} = 0
    y_t = sum_n C_t h_t + D u_t

Departures and quirks:

* The release runs CUDA kernels; :func:`scan_sequential` is the plain recurrence, :func:`scan_chunked` (default) gives
  the same numbers to rounding in about 3 sqrt(L) instead of L dependent steps. Where gradients are wanted, the scan is
  computed again in the backward pass: otherwise every state of every position would be kept.
* The gate SiLU(z) is the same for all directions: it multiplies their mean, not each of them in its own order.
* The release is for ratio 4; other ratios shuffle ratio^2 channels in the same single up-sampling convolution. HR sides
  that are no multiples of 4 are padded by replication and cropped after.
* The published multiply-adds are lower than any count of the matrix products, because most projections are functional
  calls on weights, which module counters do not see; the scan is in no count. 21.68 M parameters is the 6-band network.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from methods.blocks import Upsample, crop_to, pad_to_multiple
from methods.registry import MethodError, Recipe, register
from methods.tasks import Supervised

MULTIPLE = 4  # of the HR sides: two halvings
STATES, TAPS = 8, 4  # d_state, d_conv
SUFFIXES = ("", "_b", "_c", "_d")  # of the weights: row-major, its reverse, column-major, its reverse


def states(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, h: Tensor) -> Iterator[Tensor]:
    """The states h_t, position by position.

    Args:
        u: input, (..., L, d).
        delta: step, (..., L, d).
        A: (..., n, d), negative.
        B: (..., L, n).
        h: the state before the first position, (..., n, d).

    Yields:
        L times (..., n, d).
    """
    for input_t, delta_t, B_t in zip(*(x.unbind(-2) for x in (delta * u, delta, B))):
        h = torch.exp(delta_t[..., None, :] * A) * h + input_t[..., None, :] * B_t[..., None]
        yield h


def read(hidden: Iterator[Tensor], C: Tensor) -> Tensor:
    """sum_n C_t h_t: L times (..., n, d), and (..., L, n) -> (..., L, d)."""
    # No matrix product: it would be rounded to TF32 or bfloat16 where the trainer allows that.
    return torch.stack([(C_t[..., None] * h).sum(-2) for h, C_t in zip(hidden, C.unbind(-2))], -2)


def scan_sequential(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The plain recurrence: shapes of :func:`states` and C (..., L, n) -> (..., L, d), without D u."""
    return read(states(u, delta, A, B, torch.zeros_like(u[..., :1, :] * A)), C)


def scan_chunked(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The recurrence in about sqrt(L) chunks at once: arguments and result of :func:`scan_sequential`.

    Each chunk runs from a zero state to its last one; these are carried over the chunks, by a recurrence as short as
    there are chunks; then each chunk runs again from its true first state. Every factor is an exponential of a negative
    number, so nothing overflows.
    """
    length = u.shape[-2]
    chunk = max(1, math.isqrt(length))
    chunks = math.ceil(length / chunk)

    def split(x: Tensor) -> Tensor:  # (..., L, k) -> (..., chunks, chunk, k); a step of zero changes no state
        return F.pad(x, (0, 0, 0, chunks * chunk - length)).unflatten(-2, (chunks, chunk))

    u, delta, B, C = split(u), split(delta), split(B), split(C)
    A = A[..., None, :, :]
    last = deque(states(u, delta, A, B, torch.zeros_like(u[..., :1, :] * A)), maxlen=1).pop()
    kept = torch.exp(delta.sum(-2)[..., None, :] * A)  # (..., chunks, n, d)
    first = [torch.zeros_like(last[..., 0, :, :])]
    for i in range(chunks - 1):
        first.append(kept[..., i, :, :] * first[-1] + last[..., i, :, :])
    return read(states(u, delta, A, B, torch.stack(first, -3)), C).flatten(-3, -2)[..., :length, :]


SCANS = {"chunked": scan_chunked, "sequential": scan_sequential}


def scan_orders(height: int, width: int, directions: int, device: torch.device) -> Tensor:
    """Token numbers in the order in which each direction visits them, (directions, H * W)."""
    rows = torch.arange(height * width, device=device)
    columns = rows.view(height, width).T.flatten()
    return torch.stack((rows, rows.flip(0), columns, columns.flip(0))[:directions])


class Mamba(nn.Module):
    """Mamba over several directions, expansion 1: v6 (4), v7 (4, with another source of the scan's parameters), v2 (2).

    Args:
        width: of the tokens.
        scan: one of :data:`SCANS`' functions.
        directions: 4 over an image, 2 over a plain sequence.
        cross: v7: step, B and C come from a second input.
    """

    def __init__(self, width: int, scan: Callable[..., Tensor], directions: int = 4, cross: bool = False) -> None:
        super().__init__()
        self.scan, self.suffixes = scan, SUFFIXES[:directions]
        self.rank = math.ceil(width / 16)
        self.in_proj = nn.Linear(width, 2 * width, bias=False)
        if cross:
            self.in_proj_b = nn.Linear(width, width, bias=False)
        for suffix in self.suffixes:
            self.add_module(f"conv1d{suffix}", nn.Conv1d(width, width, TAPS, groups=width, padding=TAPS - 1))
            self.add_module(f"x_proj{suffix}", nn.Linear(width, self.rank + 2 * STATES, bias=False))
            self.add_module(f"dt_proj{suffix}", nn.Linear(self.rank, width))
            log = torch.arange(1.0, STATES + 1).log().repeat(width, 1)
            self.register_parameter(f"A{suffix}_log", nn.Parameter(log))
            self.register_parameter(f"D{suffix}", nn.Parameter(torch.ones(width)))
        self.norm = nn.LayerNorm(width)
        self.out_proj = nn.Linear(width, width, bias=False)
        # The release initialises the first direction's step alone: log-uniform in [0.001, 0.1] after the softplus.
        nn.init.uniform_(self.dt_proj.weight, -self.rank**-0.5, self.rank**-0.5)  # type: ignore[arg-type, union-attr]
        step = torch.exp(torch.empty(width).uniform_(math.log(1e-3), math.log(1e-1))).clamp(min=1e-4)
        self.dt_proj.bias.data = step + torch.log(-torch.expm1(-step))  # type: ignore[union-attr]  # inverse softplus

    def stacked(self, name: str) -> Tensor:
        """A parameter of all directions, (directions, ...); ``{}`` in its name stands for the suffix."""
        return torch.stack([self.get_parameter(name.format(suffix)) for suffix in self.suffixes])

    def forward(self, tokens: Tensor, size: tuple[int, int] | None = None, extra: Tensor | None = None) -> Tensor:
        """(B, L, d) of an image of ``size`` (None: a sequence), and (B, L, d) of the second input -> (B, L, d)."""
        batch, length, width = tokens.shape
        directions = len(self.suffixes)
        order = scan_orders(*(size or (1, length)), directions, tokens.device)
        x, z = self.in_proj(tokens).chunk(2, -1)

        # Causal depthwise convolution of each direction, all in one: its padding's tail is cut off.
        sequences = x[:, order].transpose(2, 3).reshape(batch, directions * width, length)
        u = F.conv1d(sequences, self.stacked("conv1d{}.weight").flatten(0, 1), self.stacked("conv1d{}.bias").flatten(),
                     padding=TAPS - 1, groups=directions * width)[..., :length]
        u = F.silu(u).reshape(batch, directions, width, length).transpose(2, 3)  # (B, directions, L, d)

        source = u if extra is None else self.in_proj_b(extra)[:, order]
        low_rank, B, C = (source @ self.stacked("x_proj{}.weight").mT).split((self.rank, STATES, STATES), -1)
        step = low_rank @ self.stacked("dt_proj{}.weight").mT + self.stacked("dt_proj{}.bias")[:, None]
        delta, A = F.softplus(step), -torch.exp(self.stacked("A{}_log")).mT
        if torch.is_grad_enabled():
            y = checkpoint(self.scan, u, delta, A, B, C, use_reentrant=False, preserve_rng_state=False)
        else:
            y = self.scan(u, delta, A, B, C)
        y = y + self.stacked("D{}")[:, None] * u  # (B, directions, L, d)

        index = order.argsort(-1)[None, :, :, None].expand_as(y)
        mean = y.gather(2, index).mean(1) * F.silu(z)
        return self.out_proj(self.norm(mean))


class MambaLayer(nn.Module):
    """Mamba of normalised tokens."""

    def __init__(self, width: int, scan: Callable[..., Tensor]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.block = Mamba(width, scan)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, HW, d) -> same, with the residual."""
        return tokens + self.block(self.norm(tokens), size)


class CrossMambaLayer(nn.Module):
    """Mamba of one stream's tokens, its scan steered by the other's."""

    def __init__(self, width: int, scan: Callable[..., Tensor]) -> None:
        super().__init__()
        self.norm0, self.norm1 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.block = Mamba(width, scan, cross=True)

    def forward(self, tokens: Tensor, extra: Tensor, size: tuple[int, int]) -> Tensor:
        """Twice (B, HW, d) -> (B, HW, d), with the residual."""
        return tokens + self.block(self.norm0(tokens), size, self.norm1(extra))


class FusionMambaBlock(nn.Module):
    """Each stream alone, then each steered by the other, then their mean, which is given back to both."""

    def __init__(self, width: int, scan: Callable[..., Tensor]) -> None:
        super().__init__()
        self.spa_mamba_layers = nn.ModuleList([MambaLayer(width, scan)])
        self.spe_mamba_layers = nn.ModuleList([MambaLayer(width, scan)])
        self.spa_cross_mamba = CrossMambaLayer(width, scan)
        self.spe_cross_mamba = CrossMambaLayer(width, scan)
        self.out_proj = nn.Linear(width, width)

    def forward(self, pan: Tensor, ms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Twice (B, width, H, W) -> both streams and their fusion, each (B, width, H, W)."""
        shape, size = pan.shape, pan.shape[-2:]
        pan, ms = pan.flatten(2).mT, ms.flatten(2).mT  # (B, HW, width), row-major
        for spatial, spectral in zip(self.spa_mamba_layers, self.spe_mamba_layers):
            pan, ms = spatial(pan, size), spectral(ms, size)
        fused = self.out_proj((self.spa_cross_mamba(pan, ms, size) + self.spe_cross_mamba(ms, pan, size)) / 2)
        return tuple(tokens.mT.reshape(shape) for tokens in ((pan + fused) / 2, (ms + fused) / 2, fused))


class Down(nn.Module):
    """Halves the sides; the same weights for both streams."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(width, out, 2, stride=2), nn.LeakyReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, out, H/2, W/2)."""
        return self.down(x)


class Up(nn.Module):
    """Doubles the sides and adds the skip; the same weights for both streams."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.ConvTranspose2d(width, out, 2, stride=2), nn.LeakyReLU())
        self.conv = nn.Sequential(
            nn.Conv2d(out, out, 3, padding=1, groups=out), nn.Conv2d(out, out, 1), nn.LeakyReLU())

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, width, H/2, W/2), (B, out, H, W) -> (B, out, H, W)."""
        return self.conv(self.up(x) + skip)


class Stage(nn.Module):
    """A FusionMamba block and what changes the resolution after it."""

    def __init__(self, width: int, sample: nn.Module, scan: Callable[..., Tensor]) -> None:
        super().__init__()
        self.fm = FusionMambaBlock(width, scan)
        self.sample = sample


class SpectralWeights(nn.Module):
    """A weight in (0, 1) per band from the bands' maxima, by a Mamba along the bands."""

    def __init__(self, dim: int, scan: Callable[..., Tensor]) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Linear(1, dim), nn.LayerNorm(dim), Mamba(dim, scan, directions=2), nn.Linear(dim, 1))

    def forward(self, lr_hsi: Tensor) -> Tensor:
        """(B, bands, h, w) -> (B, bands, 1, 1)."""
        maxima = lr_hsi.amax((2, 3))[..., None]  # (B, bands, 1)
        return torch.sigmoid(self.block(maxima))[..., None]


class FusionMamba(nn.Module):
    """The network of the release (there ``U2Net``)."""

    unused = ()

    def __init__(self, bands: int, msi_bands: int, ratio: int, dim: int, scan: Callable[..., Tensor]) -> None:
        super().__init__()
        self.ratio = ratio
        d0, d1, d2 = dim, 2 * dim, 4 * dim
        self.upsample = Upsample(bands, ratio)
        self.raise_pan_dim = nn.Sequential(nn.Conv2d(msi_bands, d0, 3, padding=1), nn.LeakyReLU())
        self.raise_ms_dim = nn.Sequential(nn.Conv2d(bands, d0, 3, padding=1), nn.LeakyReLU())
        self.to_hrms = nn.Sequential(
            nn.Conv2d(d0, d0, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(d0, bands, 3, padding=1))
        self.stage0, self.stage1 = Stage(d0, Down(d0, d1), scan), Stage(d1, Down(d1, d2), scan)
        self.stage2, self.stage3 = Stage(d2, Up(d2, d1), scan), Stage(d1, Up(d1, d0), scan)
        self.stage4 = FusionMambaBlock(d0, scan)
        self.spe_attn = SpectralWeights(dim, scan)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W)."""
        lr_padded, hr_padded = pad_to_multiple(lr_hsi, hr_msi, self.ratio, MULTIPLE)
        x0 = self.upsample(lr_padded)
        pan, ms = self.raise_pan_dim(hr_padded), self.raise_ms_dim(x0)  # (B, d0, H, W)
        skips = []
        for stage in (self.stage0, self.stage1):
            pan, ms, _ = stage.fm(pan, ms)
            skips.append((pan, ms))
            pan, ms = stage.sample(pan), stage.sample(ms)  # (B, d1, H/2, W/2), (B, d2, H/4, W/4)
        for stage in (self.stage2, self.stage3):
            pan, ms, _ = stage.fm(pan, ms)
            pan_skip, ms_skip = skips.pop()
            pan, ms = stage.sample(pan, pan_skip), stage.sample(ms, ms_skip)  # (B, d1, H/2, W/2), (B, d0, H, W)
        _, _, fused = self.stage4(pan, ms)
        return crop_to(self.to_hrms(fused) * self.spe_attn(lr_padded) + x0, hr_msi)


@register(
    "fusion-mamba", "supervised",
    paper="Peng et al., FusionMamba, TGRS 2024",
    year=2024,
    fidelity="release",
    source="PSRben/FusionMamba@6bd5cbd2c65b56c0d5820f91f25b5ea3d44d0945",
    count_reason="the published figure was made by a counter that skips projections applied as functions",
    recipes={"release": Recipe(task=Supervised, trains=("fusion-mamba",), lr=5e-4, schedule="step:200:0.5", epochs=500,
                               batch=32, crop=64, augment=())},
    small={"dim": 8},
    note="dim 172, the published table's width; the release's recipe is for its default, dim 32",
)
def build(bands: int, msi_bands: int, ratio: int, dim: int = 172, scan: str = "chunked") -> FusionMamba:
    """FusionMamba of width ``dim``; ``scan`` is ``"chunked"`` or ``"sequential"``."""
    if scan not in SCANS:
        raise MethodError(f"fusion-mamba: scan '{scan}'; choices: {', '.join(SCANS)}")
    return FusionMamba(bands, msi_bands, ratio, dim, SCANS[scan])
