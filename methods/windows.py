"""Images in windows: how they are laid out and blended, how far a network sees, and what a window takes of the memory.

A window is LR rows and columns. Those of a method whose answer does not depend on where a window ends lie side by side; others
overlap, and where they do their weights are linear ramps that sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Window = tuple[slice, slice]
OVERLAP = 16  # LR pixels that two blended windows share; at most a quarter of their side
PROBE = (24, 48)  # sides in LR pixels of the images on which a network's reach is measured
BLOCK = 8  # LR pixels of their middle that are looked from
STRIDES = (1, 2, 4, 8)
CLOSE = 1e-5  # of the largest value
# Numbers in float64 that fusing takes at each HR pixel: arrays as large as the estimate, and features beside them. Measured, in
# results/growth.csv: 1 to 8 arrays from 128 pixels a side on; with 31 bands, where features weigh more, up to 38.
ARRAYS, FEATURES = 8, 512


def layout(size: tuple[int, ...], side: int, overlap: int = 0, align: int = 1) -> list[Window]:
    """Windows of ``side`` or less that cover LR images of ``size``, row by row.

    Args:
        size: h and w.
        side: at most; whole if the images are smaller.
        overlap: what two neighbours share at least.
        align: where nothing overlaps, windows begin at multiples of it.
    """
    rows, columns = (_cut(n, min(side, n), overlap, align) for n in size)
    return [(row, column) for row in rows for column in columns]


def _cut(n: int, side: int, overlap: int, align: int) -> list[slice]:
    if overlap:
        count = 1 if side == n else math.ceil((n - overlap) / max(1, side - overlap))
        firsts = [round(number * (n - side) / max(1, count - 1)) for number in range(count)]
        return [slice(first, first + side) for first in firsts]
    side = max(align, side - side % align)
    return [slice(first, min(n, first + side)) for first in range(0, n, side)]


def weights(windows: list[Window], ratio: int) -> list[tuple[Tensor, Tensor]]:
    """Of each window, along its HR rows and columns: the products of the two sum to 1 over all windows at every pixel."""
    of_axis = [_ramps(sorted({(each[axis].start, each[axis].stop) for each in windows}), ratio) for axis in (0, 1)]
    return [(of_axis[0][rows.start], of_axis[1][columns.start]) for rows, columns in windows]


def _ramps(places: list[tuple[int, int]], ratio: int) -> dict[int, Tensor]:
    """By the first LR pixel of each place along an axis."""
    length = places[-1][1] * ratio
    raw = {}
    for number, (first, last) in enumerate(places):
        x = torch.arange(first * ratio, last * ratio, dtype=torch.float64) + 0.5
        before = places[number - 1][1] if number else first
        after = places[number + 1][0] if number + 1 < len(places) else last
        rising = ((x - first * ratio) / max(1, (before - first) * ratio)).clamp(max=1) if before > first else torch.ones_like(x)
        falling = ((last * ratio - x) / max(1, (last - after) * ratio)).clamp(max=1) if after < last else torch.ones_like(x)
        raw[first] = rising * falling
    total = torch.zeros(length, dtype=torch.float64)
    for first, last in places:
        total[first * ratio : last * ratio] += raw[first]
    return {first: (raw[first] / total[first * ratio : last * ratio]).float() for first, last in places}


# ---------------------------------------------------------------------------------------------------------------- memory


def taken(bands: int, ratio: int) -> int:
    """Bytes that fusing takes at each LR pixel of a window, by the stated estimate."""
    return 8 * (ARRAYS * bands + FEATURES) * ratio**2


# -------------------------------------------------------------------------------------------------------------- networks


class Reach(NamedTuple):
    """How a network can be cut: LR pixels that it sees beyond a window, and what windows and margin are multiples of."""

    margin: int
    stride: int


def reach(call: Callable[[Tensor, Tensor], Tensor], bands: int, msi_bands: int, ratio: int) -> Reach | None:
    """How many LR pixels beyond a window a network sees, measured.

    From the gradient of its middle pixels on noise images with sides of :data:`PROBE`; then cut out with that margin, and where
    that is right only for windows that begin at multiples of 2, 4 or 8, with the next such multiple.

    Args:
        call: (1, bands, h, w), (1, msi_bands, H, W) -> (1, any, H, W).
        bands: of the LR-HSI.
        msi_bands: of the HR-MSI.
        ratio: HR pixels per LR pixel along a side.

    Returns:
        None: it sees all of the largest probe, or cut out it answers otherwise.
    """
    for side in PROBE:
        found = _sees(call, bands, msi_bands, ratio, side)
        if found is None:
            continue
        for stride in STRIDES:
            margin = -(-found // stride) * stride
            if _cuts(call, bands, msi_bands, ratio, margin, stride):
                return Reach(margin, stride)
        return None
    return None


def _probe(bands: int, msi_bands: int, ratio: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return (torch.rand(1, bands, rows, columns, generator=draw),
            torch.rand(1, msi_bands, rows * ratio, columns * ratio, generator=draw))


def _sees(call: Callable[[Tensor, Tensor], Tensor], bands: int, msi_bands: int, ratio: int, side: int) -> int | None:
    """LR pixels around the middle ones that have a gradient; None if those at the border do."""
    first = (side - BLOCK) // 2
    with torch.enable_grad():
        low, high = (image.requires_grad_() for image in _probe(bands, msi_bands, ratio, side, side))
        middle = slice(first * ratio, (first + BLOCK) * ratio)
        image = call(low, high)[0, :, middle, middle]
        drawn = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
        gradients = torch.autograd.grad((image * drawn).sum(), (low, high), allow_unused=True)
    most = 0
    for gradient, scale in zip(gradients, (1, ratio)):
        if gradient is None:
            continue
        felt = gradient[0].abs().sum(0) > 0
        for axis in (0, 1):
            at = felt.any(1 - axis).nonzero()[:, 0]
            if len(at):
                most = max(most, first - int(at[0]) // scale, int(at[-1]) // scale - (first + BLOCK - 1))
    return None if most >= first else most


def _cuts(call: Callable[[Tensor, Tensor], Tensor], bands: int, msi_bands: int, ratio: int, margin: int, stride: int) -> bool:
    """Whether windows with that margin give what the whole image gives."""
    before = stride if stride > 1 else 3  # from where on the window with its margin is cut
    inner = slice(before + margin, before + margin + BLOCK)
    side = inner.stop + margin + BLOCK
    low, high = _probe(bands, msi_bands, ratio, side, side)
    wide = slice(before, inner.stop + margin)
    with torch.no_grad():
        whole = call(low, high)[0]
        finer = slice(wide.start * ratio, wide.stop * ratio)
        some = call(low[..., wide, wide], high[..., finer, finer])[0]
    there = slice(inner.start * ratio, inner.stop * ratio)
    here = slice(margin * ratio, (margin + BLOCK) * ratio)
    return bool((some[:, here, here] - whole[:, there, there]).abs().max() <= CLOSE * whole.abs().max())


def network_reach(model: Any, bands: int, msi_bands: int, ratio: int) -> Reach | None:
    """:func:`reach` of a network as it is; None for what is no network, and for one with an anchor, which sees the image."""
    if not isinstance(model, nn.Module) or getattr(model, "anchor", None) is not None:
        return None
    model.eval()
    try:
        return reach(model, bands, msi_bands, ratio)
    except (RuntimeError, ValueError):  # such as of probes that are smaller than what it can see
        return None


def with_margin(window: Window, size: tuple[int, ...], margin: int) -> tuple[Window, Window]:
    """A window and ``margin`` LR pixels around it, as far as the image goes; and where in that it lies itself."""
    wide = tuple(slice(max(0, at.start - margin), min(n, at.stop + margin)) for at, n in zip(window, size))
    inner = tuple(slice(at.start - out.start, at.stop - out.start) for at, out in zip(window, wide))
    return (wide[0], wide[1]), (inner[0], inner[1])
