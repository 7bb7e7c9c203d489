"""Blur with decimation as dense matrices along rows and columns, exact at a reflecting border, and systems of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

RANK_TOLERANCE = 1e-7  # singular values, in parts of the largest, that are rounding of a float32 PSF


class Blur(NamedTuple):
    """Blur and decimation as a sum of separable terms, ``x -> sum over t of rows[t] x columns[t]^T``.

    Args:
        rows: (t, h, H), largest term first.
        columns: (t, w, W).
    """

    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, psf: Tensor, size: tuple[int, ...], ratio: int, phase: int) -> Blur:
        """Of an image of ``size`` (H, W): every ``ratio``-th pixel from ``phase`` on, edges not repeated by the reflection.

        Args:
            psf: (k, l), correlated with the image; centre at ((k - 1) // 2, (l - 1) // 2).
            size: H and W.
            ratio: HR pixels per LR pixel along a side.
            phase: 0-based index of the first HR sample that is kept.
        """
        left, singular, right = torch.linalg.svd(psf)
        kept = int((singular > RANK_TOLERANCE * singular[0]).sum())
        lines = (left[:, : len(singular)] * singular)[:, :kept].T, right[:kept]
        return cls(*(_line_matrix(each, n, ratio, phase) for each, n in zip(lines, size)))

    def __call__(self, images: Tensor) -> Tensor:
        """(p, H, W) -> (p, h, w)."""
        return sum((r @ images @ c.T for r, c in zip(*self)), images.new_zeros(()))

    def adjoint(self, images: Tensor) -> Tensor:
        """(p, h, w) -> (p, H, W)."""
        return sum((r.T @ images @ c for r, c in zip(*self)), images.new_zeros(()))

    def after(self, rows: Tensor, columns: Tensor) -> Blur:
        """The same of ``rows^T x columns``: as it acts on the coefficients x of an orthonormal transform."""
        return Blur(self.rows @ rows.T, self.columns @ columns.T)

    def energy(self) -> Tensor:
        """Part of the variance of white noise that passes, (): the mean over LR pixels of the squared norm of their PSF."""
        row_gram, column_gram = (torch.einsum("txn,sxn->ts", each, each) / each.shape[1] for each in self)
        return (row_gram * column_gram).sum()

    def diagonal(self, variance: Tensor) -> Tensor:
        """Variance (p, h, w) of the DCT of what passes of independent values of ``variance`` (p, H, W): the first term's."""
        rows, columns = (dct_matrix(each[0], 0) @ each[0] for each in self)
        return rows.square() @ variance @ columns.square().T


def dct_matrix(images: Tensor, axis: int) -> Tensor:
    """Orthonormal DCT-II (n, n) for an axis of ``images``: ``dct_matrix(x, 0) @ x`` are the coefficients of x."""
    n = torch.arange(images.shape[axis], device=images.device, dtype=images.dtype)
    matrix = (math.pi / len(n) * n[:, None] * (n + 0.5)).cos() * math.sqrt(2 / len(n))
    matrix[0] = math.sqrt(1 / len(n))
    return matrix


def frequency_solver(variance: Tensor, white: Tensor) -> Callable[[Tensor], Tensor]:
    """Inverse of a covariance ``diag(variance(f)) + white`` at each DCT frequency; (p, h, w), (p, p)."""
    rows, columns = dct_matrix(variance, 1), dct_matrix(variance, 2)
    factor = torch.linalg.cholesky(torch.diag_embed(variance.flatten(1).T) + white)

    def solve(images: Tensor) -> Tensor:
        spectrum = (rows @ images @ columns.T).flatten(1).T[..., None]
        return rows.T @ torch.cholesky_solve(spectrum, factor)[..., 0].T.unflatten(1, images.shape[1:]) @ columns

    return solve


def conjugate_gradients(system: Callable[[Tensor], Tensor], solve: Callable[[Tensor], Tensor], target: Tensor,
                        tolerance: float, iterations: int) -> Tensor:
    """``system(x) = target`` for a symmetric positive definite system, preconditioned by ``solve``.

    Ends at a residual of ``tolerance`` times the target, or after ``iterations``.
    """
    x, residual = torch.zeros_like(target), target
    step = solve(residual)
    product = (residual * step).sum()
    for _ in range(iterations):
        if residual.norm() <= tolerance * target.norm():
            break
        image = system(step)
        length = product / (step * image).sum()
        x, residual = x + length * step, residual - length * image
        turned = solve(residual)
        product, before = (residual * turned).sum(), product
        step = turned + product / before * step
    return x


def _line_matrix(lines: Tensor, length: int, ratio: int, phase: int) -> Tensor:
    """One side of a blur: taps (t, k) with their centre at (k - 1) // 2 -> (t, length // ratio, length)."""
    count, taps = lines.shape
    first = phase - (taps - 1) // 2 + ratio * torch.arange(length // ratio, device=lines.device)
    period = max(1, 2 * (length - 1))  # of an image and its reflection
    place = (first[:, None] + torch.arange(taps, device=lines.device)) % period
    place = torch.where(place < length, place, period - place)
    matrix = lines.new_zeros(count, len(first), length)
    return matrix.scatter_add_(2, place.expand(count, -1, -1), lines[:, None].expand(-1, len(first), -1))
