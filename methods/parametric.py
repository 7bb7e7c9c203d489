"""A PSF of a few numbers, and nonnegative smooth responses from noisy spectra: the two halves of the estimator "parametric".

**PSF.** Along each axis a Gaussian of unknown spread and place, convolved with a box of unknown width. Whatever the responses R
and offsets are, ``B Z = R Y + offset`` lies in the span of the LR spectra, so that R leaves the problem (variable projection:
Golub, Pereyra, SIAM J. Numer. Anal. 10(2), 1973):

    min over the PSF of  sum over MSI bands of  log ( || (I - P) B z ||^2 / || B z - mean ||^2 )

P projects on a constant and the principal components of Y that stand out from its noise. Without the denominator the widest
blur would win; with it, by Cauchy-Schwarz, the noise of Y moves no minimum. Comparing both images at LR, in a subspace, is
HySure's (Simões et al., IEEE TGRS 53(6):3373-3388, 2015, sec. IV); there R and B are estimated in turn, B tap by tap. Shifts by
least squares: Yokoya, Mayumi, Iwasaki, IEEE JSTARS 6(2):560-570, 2013.

**SRF.** What is known of a response r is its product with the covariance S of the noise-free spectra, ``S r = c``, c the
covariance of Y and B z. White noise of variance s2 in Y leaves c as it is and adds s2 to the eigenvalues of S, taken off again;
plain least squares shrink r instead (errors in variables: Fuller, Measurement Error Models, 1987). c errs by
``v (S + s2 I) / n``, v the mean square that is not explained, n pixels. The estimate is the nonnegative r that is most probable
given c, if the steps from band to band are independent and normal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from methods.levels import Components, principal_components
from methods.registry import MethodError

LEAST = 1e-30  # images without contrast
EXACT = 1e-9  # part of a band's variance that counts as explained: images are float32
REACH = 3.0  # LR pixels on each side whose PSF leaves the image; standard deviations at which the PSF ends
COMPONENTS = 30
NARROW = 0.05  # HR pixels: a box that a Gaussian does not notice
ROUNDS = 4  # of the noise levels that decide how a response is estimated
STEP = 5.0  # times the mean of a response: standard deviation of its steps from band to band


class Shape(NamedTuple):
    """Separable PSFs, in HR pixels.

    Args:
        spread: (B, 2), standard deviation of the Gaussian along rows and columns.
        place: (B, 2), row and column of the PSF of the first LR pixel.
        width: (B,), of the box, along both.
    """

    spread: Tensor
    place: Tensor
    width: Tensor

    @classmethod
    def of(cls, numbers: Tensor) -> Shape:
        """From what the fit moves: (B, 5)."""
        return cls(numbers[:, :2].exp(), numbers[:, 2:4], numbers[:, 4].exp())


def profile(x: Tensor, spread: Tensor, width: Tensor) -> Tensor:
    """A Gaussian of ``spread`` convolved with a box of ``width``, at ``x``; all broadcast."""
    x = x.abs()  # both terms small far away: no digits are lost
    return (torch.special.ndtr((width / 2 - x) / spread) - torch.special.ndtr((-width / 2 - x) / spread)) / width


def kernels(shape: Shape, ratio: int, phase: int) -> Tensor:
    """The PSFs as correlation kernels (B, k, k) around HR pixel ``phase``; each sums to 1.

    k is ``8 ratio + 1``: room for a spread of ``ratio`` that lies ``ratio`` away. Taps beyond three standard deviations are 0.
    """
    x = torch.arange(-4 * ratio, 4 * ratio + 1).to(shape.spread) + phase - shape.place[..., None]  # (B, 2, k)
    spread, width = shape.spread[..., None], shape.width[:, None, None]
    reach = (REACH * (spread.square() + width.square() / 12).sqrt()).clamp(min=width / 2).round() + 0.5
    lines = torch.where(x.abs() <= reach, profile(x, spread, width), 0.0)
    lines = lines / lines.sum(2, keepdim=True).clamp(min=LEAST)
    return lines[:, 0, :, None] * lines[:, 1, None]


def blurred(hr_msi: Tensor, shape: Shape, ratio: int) -> Tensor:
    """B Z: (B, msi_bands, H, W) -> (B, msi_bands, h, w); edges are not repeated by the reflection."""

    def lines(axis: int) -> Tensor:
        length = hr_msi.shape[2 + axis]
        x = torch.arange(length).to(hr_msi)
        centre = shape.place[:, axis, None, None] + ratio * torch.arange(length // ratio).to(hr_msi)[:, None]
        spread, width = shape.spread[:, axis, None, None], shape.width[:, None, None]
        matrix = profile(x - centre, spread, width)
        matrix = matrix + profile(-x - centre, spread, width) * (x > 0)
        matrix = matrix + profile(2 * (length - 1) - x - centre, spread, width) * (x < length - 1)
        return matrix / matrix.sum(2, keepdim=True).clamp(min=LEAST)

    return lines(0)[:, None] @ hr_msi @ lines(1)[:, None].mT


def inner(low: Tensor) -> Tensor:
    """Pixels (..., n) of images (..., h, w) whose PSF does not leave the image, or nearly so where the image is small."""
    margin = min(int(REACH), max(0, (min(low.shape[-2:]) - 4) // 4))
    rows, columns = low.shape[-2:]
    return low[..., margin : rows - margin, margin : columns - margin].flatten(-2)


def fit_psf(lr_hsi: Tensor, hr_msi: Tensor, ratio: int, levels: list[Components]) -> Shape:
    """The PSF of each image by Gauss-Newton from the best of a grid of starts.

    Args:
        lr_hsi: Y (B, bands, h, w), float64.
        hr_msi: Z (B, msi_bands, H, W), float64.
        ratio: HR pixels per LR pixel along one side.
        levels: of each Y.
    """
    basis = _span(lr_hsi, levels)
    centre = (ratio - 1) / 2

    def residual(numbers: Tensor) -> Tensor:
        low = inner(blurred(hr_msi, Shape.of(numbers), ratio))
        low = low - low.mean(2, keepdim=True)
        low = low / low.norm(dim=2, keepdim=True).clamp(min=LEAST)
        return low - low @ basis @ basis.mT

    places = [centre + ratio * at / 4 for at in (0, -1, 1, -2, 2)]
    starts = [(spread, spread, row, column, NARROW)
              for spread in (0.35 * ratio, 0.8 * ratio) for row in places for column in places]
    table = hr_msi.new_tensor(starts)
    table[:, [0, 1, 4]] = table[:, [0, 1, 4]].log()
    scores = torch.stack([_score(residual(row.expand(len(hr_msi), -1))) for row in table])
    numbers = table[scores.argmin(0)]
    numbers, score = _descend(residual, numbers, [0, 1, 2, 3], ratio)
    boxed = numbers.clone()
    boxed[:, 4] = math.log(ratio)
    variance = numbers[:, :2].exp().square() - ratio**2 / 12
    boxed[:, :2] = 0.5 * variance.clamp(min=0.09).log()
    boxed, other = _descend(residual, boxed, [0, 1, 2, 3, 4], ratio)
    # One more number must pay for itself (Schwarz, Ann. Stat. 6(2), 1978).
    samples = basis.shape[1]
    better = samples * (score - other) > math.log(max(2, samples))
    return Shape.of(torch.where(better[:, None], boxed, numbers))


def fit_srf(lr_hsi: Tensor, low: Tensor, level: Components) -> tuple[Tensor, Tensor]:
    """Nonnegative smooth responses of one image, in which noise of Y is allowed for.

    Args:
        lr_hsi: Y (bands, h, w), float64.
        low: B Z (msi_bands, h, w), float64.
        level: of Y.

    Returns:
        srf (msi_bands, bands) and offset (msi_bands,).
    """
    spectra, targets = inner(lr_hsi), inner(low)
    bands, samples = spectra.shape
    mean, target_mean = spectra.mean(1, keepdim=True), targets.mean(1, keepdim=True)
    spectra, targets = spectra - mean, targets - target_mean
    values, axes = torch.linalg.eigh(spectra @ spectra.T / samples)
    values = values.clamp(min=1e-13 * float(values[-1]) + LEAST)
    turned = axes.T @ (spectra @ targets.T) / samples  # (bands, msi_bands)
    step = torch.diff(torch.eye(bands).to(spectra), dim=0)
    weakest = torch.eye(bands).to(spectra)
    found = []
    for band, target in enumerate(targets):
        power = float(target.square().mean())
        scale = math.sqrt(power / max(float(values.sum()) / bands, LEAST)) / bands  # of a response, had it equal entries
        least = EXACT**1.5 * power + LEAST
        unexplained, noise = 1e-2 * power + least, level.noise
        prior = torch.cat([step / (STEP * scale + LEAST), weakest / (100 * STEP * scale + LEAST)])
        for _ in range(ROUNDS):
            weight = (samples / (unexplained * values)).sqrt()
            data = (weight * (values - noise).clamp(min=0))[:, None] * axes.T
            right = torch.cat([weight * turned[:, band], prior.new_zeros(len(prior))])
            response = nonnegative(torch.cat([data, prior]), right[:, None])[0]
            unexplained = max(float((response @ spectra - target).square().mean()), least)
            # The noise of Y is there in B Z as well, or is none, as far as it does not show as a difference.
            noise = min(level.noise, 0.9 * unexplained / max(float(response.square().sum()), LEAST))
        found.append(response)
    srf = torch.stack(found)
    return srf, (target_mean - srf @ mean)[:, 0]


def nonnegative(matrix: Tensor, targets: Tensor) -> Tensor:
    """``min || matrix x - target ||`` with x >= 0 for each column of ``targets`` (m, k): (k, n).

    Raises:
        MethodError: it does not converge.
    """
    a, b = matrix.cpu().numpy(), targets.cpu().numpy()
    try:
        solutions = [nnls(a, column, maxiter=30 * a.shape[1])[0] for column in b.T]
    except RuntimeError as error:
        raise MethodError(f"the nonnegative least squares of the spectral response did not converge: {error}") from error
    return torch.from_numpy(np.stack(solutions)).to(matrix.device)


def levels_of(lr_hsi: Tensor) -> list[Components]:
    """Mean, axes, rank and noise of each Y of (B, bands, h, w)."""
    return [principal_components(image.flatten(1), lr_hsi.shape[1] - 1) for image in lr_hsi]


def _span(lr_hsi: Tensor, levels: list[Components]) -> Tensor:
    """Orthonormal (B, n, p): components of Y over its inner pixels, means removed; zero where an image has fewer."""
    pixels = inner(lr_hsi)
    most = max(1, min(COMPONENTS, pixels.shape[2] // 4))
    basis = pixels.new_zeros(len(pixels), pixels.shape[2], most)
    for place, image, level in zip(basis, pixels, levels):
        rank = min(level.rank, most)
        components = level.axes[:, :rank].T @ (image - image.mean(1, keepdim=True))
        place[:, :rank] = torch.linalg.svd(components, full_matrices=False)[2].T
    return basis


def _score(residual: Tensor) -> Tensor:
    """(B, msi_bands, n) -> (B,)."""
    return (residual.square().sum(2) + EXACT).log().sum(1)


def _descend(residual: Callable[[Tensor], Tensor], numbers: Tensor, free: list[int], ratio: int) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt on the weighted residuals: numbers (B, 5) and their scores (B,)."""
    low = numbers.new_tensor([math.log(0.15)] * 2 + [-ratio / 2 - 2] * 2 + [math.log(NARROW)])
    high = numbers.new_tensor([math.log(1.5 * ratio)] * 2 + [1.5 * ratio + 1] * 2 + [math.log(2 * ratio)])
    damping = numbers.new_full((len(numbers),), 1e-2)
    now = residual(numbers)
    score = _score(now)
    done = torch.zeros_like(score, dtype=torch.bool)  # an image ends when it settles, whatever else is in the batch
    for _ in range(30):
        weight = 1 / (now.square().sum(2) + EXACT)
        slopes = []
        for k in free:
            step = torch.zeros_like(numbers)
            step[:, k] = 1e-4
            slopes.append((residual(numbers + step) - residual(numbers - step)) / 2e-4)
        jacobian = torch.stack(slopes, 3)
        gram = torch.einsum("bm,bmnk,bmnl->bkl", weight, jacobian, jacobian)
        gradient = torch.einsum("bm,bmnk,bmn->bk", weight, jacobian, now)
        diagonal = gram.diagonal(dim1=1, dim2=2)
        diagonal = diagonal + 1e-9 * diagonal.amax(1, keepdim=True) + LEAST
        change = torch.linalg.solve(gram + torch.diag_embed(damping[:, None] * diagonal + LEAST), -gradient)
        moved = numbers.clone()
        moved[:, free] += change.nan_to_num().clamp(-1, 1)
        moved = moved.clamp(low, high)
        there = residual(moved)
        after = _score(there)
        better = (after < score) & ~done
        settled = torch.where(better, score - after < 1e-7, damping >= 1e3)
        numbers = torch.where(better[:, None], moved, numbers)
        now = torch.where(better[:, None, None], there, now)
        score = torch.where(better, after, score)
        damping = torch.where(better, damping / 10, damping * 10).clamp(1e-9, 1e4)
        done |= settled
        if done.all():
            break
    return numbers, score
