"""Linear unmixing blocks: endmember extraction (VCA, SPA), simplex projection and constrained abundances (SUnSAL).

A pixel is a convex mix of endmembers, ``Y = E A`` with Y (bands, n), E (bands, p), A (p, n), A >= 0, columns sum to 1.
Everything takes one image as float64 matrices with one pixel a column, and stays on their device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

# What projection leaves of a vector is rounding below this part of its length; the images may have been float32.
RANK_TOLERANCE = 1e-6
ROUNDING = 1e-15  # of a sum of numbers up to 1, an entry
BLOCK = 2**16  # numbers


def vca(
    pixels: Tensor, count: int, *, generator: torch.Generator, variant: str = "a", snr_db: float | None = None
) -> Tensor:
    """Vertex component analysis: the pixels found extreme along random directions.

    Args:
        pixels: Y (bands, n), float64.
        count: p, how many; at most ``bands``.
        generator: on the CPU.
        variant: ``"a"`` or ``"b"``, see :func:`vca_projection`.
        snr_db: of the pixels; None: estimated. ``-inf`` or 0 forces the affine projection.

    Returns:
        Endmembers (bands, p): spectra of pixels as the projection sees them.

    Source:
        Nascimento & Dias, IEEE TGRS 43(4):898-910, 2005.
    """
    reduced, spectra = vca_projection(pixels, count, variant=variant, snr_db=snr_db)
    return spectra[:, extreme_pixels(reduced, generator)]


def vca_projection(pixels: Tensor, count: int, *, variant: str = "a", snr_db: float | None = None) -> tuple[Tensor, Tensor]:
    """What VCA searches in, the same for every random run: a projective or, under noise, an affine projection.

    Args:
        pixels: Y (bands, n), float64.
        count: p.
        variant: ``"a"``, as in the release of CNMF: estimated SNR without sign, threshold 15 + 10 ln p + 8 dB. ``"b"``,
            as in those of HySure and SISAL: threshold 15 + 10 log10 p dB.
        snr_db: of the pixels; None: estimated.

    Returns:
        Coordinates (p, n) in which endmembers are extreme, and the spectra (bands, n) they stand for.
    """
    if not 1 <= count <= len(pixels) or variant not in ("a", "b"):
        raise ValueError(f"{count} endmembers of {len(pixels)} bands, variant '{variant}'; at most one a band, 'a' or 'b'")
    mean = pixels.mean(1, keepdim=True)
    centred = pixels - mean
    axes = principal_axes(centred, count)
    if snr_db is None:
        snr_db = _estimated_snr(pixels, mean, axes.T @ centred)
        snr_db = abs(snr_db) if variant == "a" and math.isfinite(snr_db) else snr_db
    threshold = 23 + 10 * math.log(count) if variant == "a" else 15 + 10 * math.log10(count)
    if snr_db > threshold:
        axes = principal_axes(pixels, count)
        reduced = axes.T @ pixels
        scale = reduced.mean(1) @ reduced
        # A zero pixel lies on no projective plane; it stays at 0, where nothing is extreme.
        usable = scale > 1e-10 * scale.abs().amax()
        return torch.where(usable, reduced / torch.where(usable, scale, 1.0), 0.0), axes @ reduced
    axes = axes[:, : count - 1]
    reduced = axes.T @ centred
    height = reduced.square().sum(0).max().sqrt() if count > 1 else reduced.new_ones(())
    return torch.cat([reduced, height.expand(1, pixels.shape[1])]), axes @ reduced + mean


def extreme_pixels(reduced: Tensor, generator: torch.Generator) -> Tensor:
    """The random search of VCA: coordinates (p, n) -> indices (p,) of the pixels chosen, some perhaps twice.

    Each is the farthest along a random direction orthogonal to those already chosen. Pixels of lower rank than p leave
    nothing there at some point; from then on the directions are those of the start, which lead to vertices again.
    """
    count = len(reduced)
    directions = torch.rand(count, count, generator=generator, dtype=torch.float64).to(reduced.device)
    starts = directions.clone()
    starts[:, -1] = 0  # the release starts orthogonal to the last unit vector
    basis = torch.zeros_like(directions)  # of the chosen, orthonormal; its later columns are still 0
    chosen: list[Tensor] = []
    for i, (direction, start) in enumerate(zip(directions, starts)):
        along = torch.stack([_orthogonal_part(direction, basis) if chosen else start, start]) @ reduced
        reach, farthest = along.abs().max(1)
        pixel = torch.where(reach[0] > RANK_TOLERANCE * reach[1], farthest[0], farthest[1])
        chosen.append(pixel)
        vertex = reduced[:, pixel]
        rest = _orthogonal_part(vertex, basis)
        length = rest.norm()
        basis[:, i] = torch.where(length > RANK_TOLERANCE * vertex.norm(), rest / length, 0.0)
    return torch.stack(chosen)


def spa(pixels: Tensor, count: int) -> Tensor:
    """Successive projection: ``count`` times the pixel with the longest spectrum, whose direction all then lose.

    Args:
        pixels: Y (bands, n), float64.
        count: p; beyond the rank of the pixels the choice is arbitrary.

    Returns:
        Endmembers (bands, p): spectra of pixels.
    """
    rest, chosen = pixels, []
    for _ in range(count):
        pixel = rest.square().sum(0).argmax()
        chosen.append(pixel)
        direction = rest[:, pixel]
        length = direction.norm()
        direction = torch.where(length > 0, direction / length, 0.0)
        rest = rest - direction[:, None] * (direction @ rest)
    return pixels[:, torch.stack(chosen)]


def principal_axes(columns: Tensor, count: int) -> Tensor:
    """The ``count`` leading left singular vectors of (bands, n): (bands, count), the strongest first."""
    return torch.linalg.eigh(columns @ columns.T).eigenvectors.flip(1)[:, :count]


def _estimated_snr(pixels: Tensor, mean: Tensor, reduced: Tensor) -> float:
    """SNR in dB as VCA defines it: energy inside against energy outside the subspace; ``reduced`` is centred."""
    total = pixels.square().sum(0).mean().item()
    kept = reduced.square().sum(0).mean().item() + mean.square().sum().item()
    signal, noise = kept - len(reduced) / len(pixels) * total, total - kept
    if signal <= 1e-12 * total:  # nothing is left to tell them apart, as when every band is an axis
        return -math.inf
    return 10 * math.log10(signal / noise) if noise > 1e-15 * total else math.inf


def _orthogonal_part(vector: Tensor, basis: Tensor) -> Tensor:
    """``vector`` (p,) less its part in the orthonormal columns of ``basis`` (p, k); twice, against rounding."""
    for _ in range(2):
        vector = vector - basis @ (basis.T @ vector)
    return vector


def in_blocks(*matrices: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of matrices (any, n), some columns at a time: what is done to a block finds it in the CPU's cache.

    Those of the first have :data:`BLOCK` entries at most. Elsewhere than on a CPU all columns at once.
    """
    rows, columns = matrices[0].shape
    size = min(columns, max(1, BLOCK // rows)) if matrices[0].device.type == "cpu" else columns
    return zip(*(matrix.split(size, 1) for matrix in matrices), strict=True)


def simplex_projection(columns: Tensor) -> Tensor:
    """The nearest point of the unit simplex to each column of (p, n), float64: >= 0, sums to 1.

    Newton's method for the number to subtract from a column before it is cut off at 0 (Michelot, JOTA 50:195-200, 1986):
    it comes from below and ends, once no further entry falls to 0, on the exact number. Faster than sorting.
    """
    points = torch.empty_like(columns)
    for block, result in in_blocks(columns, points):
        project(block, result)
    return points


def project(columns: Tensor, points: Tensor) -> None:
    """:func:`simplex_projection` of ``columns`` into ``points``, all columns at once."""
    lower_bound = torch.maximum((columns.sum(0) - 1) / len(columns), columns.amax(0) - 1)
    torch.sub(columns, lower_bound, out=points).clamp_(min=0)
    positive = torch.empty_like(points)
    for _ in range(len(columns)):
        excess = points.sum(0) - 1
        if excess.abs().max() <= ROUNDING * len(columns):
            break
        points.sub_(excess / torch.sign(points, out=positive).sum(0)).clamp_(min=0)


def sunsal(pixels: Tensor, endmembers: Tensor, passes: int = 200, tolerance: float = 1e-4) -> Tensor:
    """Fully constrained abundances: least squares with columns on the unit simplex, by ADMM.

    Args:
        pixels: Y (bands, n), float64.
        endmembers: E (bands, p).
        passes: at most.
        tolerance: root mean square of both ADMM residuals at which it stops.

    Returns:
        A (p, n), nonnegative; sums are 1 to ``tolerance``.

    Source:
        Bioucas-Dias & Figueiredo, "Alternating direction algorithms for constrained sparse regression", WHISPERS 2010.
    """
    count = endmembers.shape[1]
    identity = torch.eye(count, dtype=pixels.dtype, device=pixels.device)
    gram, cross = endmembers.T @ endmembers, endmembers.T @ pixels
    scale = gram.diagonal().mean().clamp(min=torch.finfo(gram.dtype).tiny)
    gram, cross = gram / scale, cross / scale
    mu = 0.01
    positive, dual = torch.full_like(cross, 1 / count), torch.zeros_like(cross)
    inverse = torch.linalg.inv(gram + mu * identity)
    for i in range(passes):
        free = inverse @ (cross + mu * (positive + dual))
        across = inverse.sum(1, keepdim=True)
        free = free - across / across.sum() * (free.sum(0) - 1)
        previous, positive = positive, (free - dual).clamp(min=0)
        dual = dual - (free - positive)
        if i % 10 == 9:
            primal = (free - positive).square().mean().sqrt().item()
            change = mu * (positive - previous).square().mean().sqrt().item()
            if max(primal, change) < tolerance:
                break
            factor = 2.0 if primal > 10 * change else 0.5 if change > 10 * primal else 1.0
            if factor != 1:  # the dual is scaled by mu
                mu, dual = mu * factor, dual / factor
                inverse = torch.linalg.inv(gram + mu * identity)
    return positive
