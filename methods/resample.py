"""Image resizing with mirrored borders, as MATLAB's ``imresize`` does it and the classical methods expect it.

Equal to ``torch.nn.functional.interpolate(..., antialias=True)`` away from the borders only: torch drops the taps that
fall outside and normalises the rest, here they fall on the mirrored image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def resize(images: torch.Tensor, size: Sequence[int], kernel: str = "cubic") -> torch.Tensor:
    """Resize on the half-pixel grid: output sample i lies at input coordinate ``(i + 0.5) / scale - 0.5``.

    Args:
        images: (B, C, H, W), any floating dtype.
        size: (rows, columns) of the result; each axis has its own scale.
        kernel: ``"cubic"`` (a = -0.5) or ``"linear"``. Along an axis that shrinks it is stretched against aliasing.

    Returns:
        (B, C, rows, columns), dtype as given.
    """
    rows, columns = (_weights(n, m, kernel).to(images.device) for n, m in zip(images.shape[-2:], size))
    # float64: exempt from TF32 and from autocast, either of which would cost the baselines three digits.
    return (rows @ images.double() @ columns.T).to(images.dtype)


def _weights(source: int, target: int, kernel: str) -> torch.Tensor:
    """The matrix (target, source), float64, that resizes one axis; its rows sum to 1."""
    profile, support = KERNELS[kernel]
    scale = target / source
    stretch = min(scale, 1.0)
    centre = (torch.arange(target, dtype=torch.float64) + 0.5) / scale - 0.5
    taps = math.ceil(support / stretch) + 2  # those on either end may weigh nothing
    index = (centre - support / stretch / 2).floor()[:, None] + torch.arange(taps)
    weight = profile(stretch * (centre[:, None] - index))
    weight = weight / weight.sum(1, keepdim=True)
    index = index.long() % (2 * source)  # mirrored with the edge sample repeated: -1 -> 0, source -> source - 1
    index = torch.where(index < source, index, 2 * source - 1 - index)
    return torch.zeros(target, source, dtype=torch.float64).scatter_add_(1, index, weight)


def _cubic(x: torch.Tensor) -> torch.Tensor:
    """Keys, IEEE TASSP 29(6):1153-1160, 1981, eq. 15 (a = -0.5)."""
    x = x.abs()
    inner = (1.5 * x - 2.5) * x.square() + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, inner, torch.where(x < 2, outer, 0.0))


def _linear(x: torch.Tensor) -> torch.Tensor:
    return (1 - x.abs()).clamp(min=0)


KERNELS = {"cubic": (_cubic, 4), "linear": (_linear, 2)}  # profile and its support in samples
