"""SISAL: the simplex of least volume around the pixels, outliers allowed.

Bioucas-Dias, "A variable splitting augmented Lagrangian approach to linear spectral unmixing", WHISPERS 2009.

Symbols: Y (p, n) the pixels in coordinates of their affine set, Q the inverse of the endmember matrix, so that Q Y are
the abundances. It minimises ``-log|det Q| + tau sum hinge(-Q Y)`` where the columns of Q Y sum to 1.

Departures: the pixels may span fewer dimensions than endmembers are wanted; then there are fewer endmembers (the
release is left with a singular system). The coordinates are centred, the last one a constant; up to the weight of a
tiny quadratic term this changes nothing. Both acceptance loops are bounded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.unmixing import RANK_TOLERANCE, extreme_pixels

PASSES = 80
INNER = 3  # updates of the augmented Lagrangian between two looks at the objective
TRIES = 50  # such rounds, and halvings of a step, until the objective must have fallen
RIDGE = 1e-6  # of the quadratic model
WEAKEST = 1e-5  # standard deviation of an axis, relative to the strongest, that the simplex still extends along


def sisal(pixels: Tensor, count: int, *, tau: float, generator: torch.Generator) -> Tensor:
    """Endmembers of the simplex of least volume.

    Args:
        pixels: (bands, n), float64.
        count: p, how many at most; at most ``bands``.
        tau: weight of what lies outside of the simplex.
        generator: on the CPU, of the VCA run that it starts from.

    Returns:
        (bands, q), q <= p: one more than the pixels have affine dimensions at most.
    """
    mean = pixels.mean(1, keepdim=True)
    axes, low = _affine_coordinates(pixels, mean, count - 1)
    if not len(low):
        return mean
    # VCA's affine projection differs in the height of the constant row only.
    vertices = low[:, extreme_pixels(_with_row(low, low.square().sum(0).max().sqrt()), generator)]
    middle = vertices.mean(1, keepdim=True)
    height = mean.norm().clamp(min=low.square().mean().sqrt())
    simplex = torch.linalg.inv(_shrunk(_with_row(low, height), _with_row(2 * vertices - middle, height), tau))
    return mean + axes @ simplex[:-1]


def _affine_coordinates(pixels: Tensor, mean: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Axes (bands, k) of the centred pixels (bands, n), ``most`` of them at most, and the coordinates (k, n) along them."""
    centred = pixels - mean
    variance, axes = torch.linalg.eigh(centred @ centred.T)
    rounding = pixels.shape[1] * (RANK_TOLERANCE * mean).square().sum()
    kept = variance > torch.maximum(WEAKEST**2 * variance[-1], rounding)
    axes = axes[:, kept].flip(1)[:, :most]
    return axes, axes.T @ centred


def _shrunk(y: Tensor, simplex: Tensor, tau: float) -> Tensor:
    """Minimise over Q from the inverse of a ``simplex`` (p, p) around most pixels Y (p, n): Q (p, p)."""
    p, n = y.shape
    mu = 1000 * p / n
    q = torch.linalg.inv(simplex)
    system = RIDGE * torch.eye(p, dtype=y.dtype, device=y.device) + mu * y @ y.T
    inverse = torch.linalg.inv(system)
    column_sums = torch.linalg.solve(y @ y.T, y.sum(1))  # of Q, so that the abundances of a pixel sum to 1
    abundances = q @ y
    split, dual = abundances, torch.zeros_like(y)

    def outside(abundances: Tensor) -> Tensor:
        return tau * abundances.clamp(max=0).sum().neg()

    for _ in range(PASSES):
        start, slope = q, -torch.linalg.inv(q).T  # of the negative log-determinant
        start_volume, start_outside = -torch.linalg.slogdet(q).logabsdet, outside(q @ y)
        for _ in range(TRIES):
            for _ in range(INNER):
                right = RIDGE * start - slope + mu * (split + dual) @ y.T
                # The multiplier of the sums is one number a column.
                right = right + (column_sums @ system - right.sum(0)) / p
                q = right @ inverse
                abundances = q @ y
                split = _soft_negative(abundances - dual, tau / mu)
                dual = dual - (abundances - split)
            step = q - start
            now_outside = outside(abundances)
            model = (step * slope).sum() + RIDGE / 2 * step.square().sum() + now_outside
            if start_outside >= model:
                break
        else:
            return start  # nothing better in reach
        for _ in range(TRIES):  # the model is no bound: its minimum may be worse than the start
            if now_outside - torch.linalg.slogdet(q).logabsdet <= start_volume + start_outside:
                break
            q = (q + start) / 2
            now_outside = outside(q @ y)
    return q


def _soft_negative(values: Tensor, threshold: float) -> Tensor:
    """The proximal map of ``threshold * hinge(-values)``: negative values move towards 0."""
    return torch.where(values < 0, (values + threshold).clamp(max=0), values)


def _with_row(coordinates: Tensor, height: Tensor) -> Tensor:
    """Coordinates (k, n) above a constant row: (k + 1, n)."""
    return torch.cat([coordinates, height.expand(1, coordinates.shape[1])])
