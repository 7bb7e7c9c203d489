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
given c: first if steps from band to band are independent and normal, then if each band is, with the standard deviation that
the response before has nearby. A response so keeps together, and what noise alone puts elsewhere goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from methods.levels import Components, msi_noise, principal_components
from methods.registry import MethodError
from methods.separable import Blur

LEAST = 1e-30  # images without contrast
EXACT = 1e-9  # part of a band's variance that counts as explained: images are float32
MARGIN = 2  # LR pixels
REACH = 3.0  # standard deviations at which the PSF ends
COMPONENTS = 30
SMALL = 1e-5  # step of a difference quotient
NARROW = 0.05  # HR pixels: a box that a Gaussian does not notice
STEP = 5.0  # times the mean of a response: standard deviation of its steps from band to band, at first
WEIGHT, LIFT = 0.6, 0.03  # standard deviation of a response in a band: times what it is nearby, and times its mean
NEAR = 0.015  # of all bands, one at least: the Gaussian that says what is nearby
SMOOTH_ROUNDS = 2


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
    reach = (REACH * (spread.square() + width.square() / 12).sqrt()).maximum((width / 2).clamp(min=1)).round() + 0.5
    lines = torch.where(x.abs() <= reach, profile(x, spread, width), 0.0)
    lines = lines / lines.sum(2, keepdim=True).clamp(min=LEAST)
    return lines[:, 0, :, None] * lines[:, 1, None]


def lines(hr_msi: Tensor, shape: Shape, ratio: int) -> tuple[Tensor, Tensor]:
    """B at the inner LR pixels, along rows (B, h', H) and columns (B, w', W); cut where it leaves the image."""

    def matrix(length: int, axis: int) -> Tensor:
        first = margin(hr_msi.shape[2] // ratio, hr_msi.shape[3] // ratio)
        low = torch.arange(first, length // ratio - first).to(hr_msi)
        distance = torch.arange(length).to(hr_msi) - (shape.place[:, axis, None, None] + ratio * low[:, None])
        taps = profile(distance, shape.spread[:, axis, None, None], shape.width[:, None, None])
        return taps / taps.sum(2, keepdim=True).clamp(min=LEAST)

    return matrix(hr_msi.shape[2], 0), matrix(hr_msi.shape[3], 1)


def blurred(hr_msi: Tensor, shape: Shape, ratio: int) -> Tensor:
    """B Z at the inner LR pixels: (B, msi_bands, H, W) -> (B, msi_bands, n)."""
    rows, columns = lines(hr_msi, shape, ratio)
    return (rows[:, None] @ hr_msi @ columns[:, None].mT).flatten(2)


def margin(h: int, w: int) -> int:
    """LR pixels on each side whose PSF leaves the image, fewer where the image is small; the others are inner ones."""
    return min(MARGIN, max(0, (min(h, w) - 4) // 4))


def inner(low: Tensor) -> Tensor:
    """Inner pixels (..., n) of images (..., h, w)."""
    rows, columns = low.shape[-2:]
    cut = margin(rows, columns)
    return low[..., cut : rows - cut, cut : columns - cut].flatten(-2)


def fit_psf(lr_hsi: Tensor, hr_msi: Tensor, ratio: int, levels: Sequence[Components], noise: Tensor,
            start: Shape | None = None) -> Shape:
    """The PSF of each image by Gauss-Newton.

    Args:
        lr_hsi: Y (B, bands, h, w), float64.
        hr_msi: Z (B, msi_bands, H, W), float64.
        ratio: HR pixels per LR pixel along one side.
        levels: of each Y.
        noise: (B,), variance of the white noise in Z: a wide PSF hides it, so that its part is taken off.
        start: where to begin; None: the best of a grid.
    """
    basis = _span(lr_hsi, levels)
    samples = basis.shape[1]
    rest = (samples - 1 - basis.any(1).sum(1))[:, None]  # dimensions that are not explained anyway

    def residual(numbers: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = lines(hr_msi, Shape.of(numbers), ratio)
        low = (rows[:, None] @ hr_msi @ columns[:, None].mT).flatten(2)
        passed = (noise * rows.square().sum(2).mean(1) * columns.square().sum(2).mean(1))[:, None]
        low = low - low.mean(2, keepdim=True)
        power = low.square().sum(2)
        signal = (power - samples * passed).maximum(power / 10) + LEAST
        low = low / signal.sqrt()[..., None]
        return low - low @ basis @ basis.mT, rest * passed / signal

    if start is None:
        places = [(ratio - 1) / 2 + ratio * at / 4 for at in (0, -1, 1, -2, 2)]
        table = hr_msi.new_tensor([(math.log(spread * ratio), math.log(spread * ratio), row, column, math.log(NARROW))
                                   for spread in (0.35, 0.8) for row in places for column in places])
        scores = torch.stack([_score(*residual(row.expand(len(hr_msi), -1))) for row in table])
        plain = boxed = table[scores.argmin(0)]
    else:
        boxed = torch.cat([start.spread.log(), start.place, start.width.log()[:, None]], 1)
        total = (start.spread.square() + start.width[:, None].square() / 12).sqrt()
        plain = torch.cat([total.log(), start.place, torch.full_like(total[:, :1], math.log(NARROW))], 1)
    plain, score = _descend(residual, plain, [0, 1, 2, 3], ratio)
    fresh = plain.clone()  # of the same second moment, with a box as wide as an LR pixel
    fresh[:, :2] = 0.5 * (plain[:, :2].exp().square() - ratio**2 / 12).clamp(min=0.09).log()
    fresh[:, 4] = math.log(ratio)
    boxed = torch.where((boxed[:, 4] > math.log(2 * NARROW))[:, None], boxed, fresh)
    boxed, other = _descend(residual, boxed, [0, 1, 2, 3, 4], ratio)
    # One more number must pay for itself (Schwarz, Ann. Stat. 6(2), 1978).
    better = samples * (score - other) > math.log(max(2, samples))
    return Shape.of(torch.where(better[:, None], boxed, plain))


def fit_srf(lr_hsi: Tensor, targets: Tensor, level: Components, compact: int = 4) -> tuple[Tensor, Tensor]:
    """Nonnegative smooth responses of one image, in which noise of Y is allowed for.

    Args:
        lr_hsi: Y (bands, h, w), float64.
        targets: B Z (msi_bands, n) at the inner LR pixels, float64.
        level: of Y.
        compact: rounds in which what a response was nearby weighs.

    Returns:
        srf (msi_bands, bands) and offset (msi_bands,).
    """
    spectra = inner(lr_hsi)
    bands, samples = spectra.shape
    mean, target_mean = spectra.mean(1, keepdim=True), targets.mean(1, keepdim=True)
    spectra, targets = spectra - mean, targets - target_mean
    values, axes = torch.linalg.eigh(spectra @ spectra.T / samples)
    values = values.clamp(min=1e-13 * float(values[-1]) + LEAST)
    turned = axes.T @ (spectra @ targets.T) / samples  # (bands, msi_bands)
    step = torch.diff(torch.eye(bands).to(spectra), dim=0)
    one = torch.eye(bands).to(spectra)
    place = torch.arange(bands).to(spectra) / max(1.0, NEAR * bands)
    near = (-0.5 * (place[:, None] - place).square()).exp()
    near = near / near.sum(1, keepdim=True)
    found = []
    for band, target in enumerate(targets):
        power = float(target.square().mean())
        scale = math.sqrt(power / max(float(values.sum()) / bands, LEAST)) / bands  # of a response, had it equal entries
        least = EXACT**1.5 * power + LEAST
        unexplained, noise = 1e-2 * power + least, level.noise
        response = spectra.new_zeros(bands)
        prior = torch.cat([step / (STEP * scale + LEAST), one / (100 * STEP * scale + LEAST)])
        for turn in range(SMOOTH_ROUNDS + compact):
            if turn >= SMOOTH_ROUNDS:
                expected = WEIGHT * (near @ response) + LIFT * response.mean() + LEAST
                prior = torch.cat([step / (expected[1:] + expected[:-1])[:, None], one / expected[:, None]])
            weight = (samples / (unexplained * values)).sqrt()
            data = (weight * (values - noise).clamp(min=0))[:, None] * axes.T
            right = torch.cat([weight * turned[:, band], prior.new_zeros(len(prior))])
            response = nonnegative(torch.cat([data, prior]), right[:, None])[0]
            unexplained = max(float((response @ spectra - target).square().mean()), least)
            # The noise of Y is there in B Z as well, or is none, as far as it does not show as a difference.
            noise = min(level.noise, unexplained / max(float(response.square().sum()), LEAST))
        found.append(response)
    srf = torch.stack(found)
    return srf, (target_mean - srf @ mean)[:, 0]


def msi_level(lr_hsi: Tensor, hr_msi: Tensor, srf: Tensor, offset: Tensor, psf: Tensor, ratio: int, noise: float) -> float:
    """Variance of the noise of Z (msi_bands, H, W), 0 or more, given the responses, PSF of phase 0, and the noise of Y."""
    z = hr_msi - offset[:, None, None]
    return max(0.0, msi_noise(lr_hsi, z, srf, Blur.of(psf, z.shape[1:], ratio, 0), noise))


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


def _span(lr_hsi: Tensor, levels: Sequence[Components]) -> Tensor:
    """Orthonormal (B, n, p): components of Y over its inner pixels, means removed; zero where an image has fewer."""
    pixels = inner(lr_hsi)
    most = max(1, min(COMPONENTS, pixels.shape[2] // 4))
    basis = pixels.new_zeros(len(pixels), pixels.shape[2], most)
    for place, image, level in zip(basis, pixels, levels):
        rank = min(level.rank, most)
        components = level.axes[:, :rank].T @ (image - image.mean(1, keepdim=True))
        place[:, :rank] = torch.linalg.svd(components, full_matrices=False)[2].T
    return basis


def _score(residual: Tensor, noise: Tensor) -> Tensor:
    """(B, msi_bands, n), (B, msi_bands) -> (B,)."""
    return _unexplained(residual, noise).log().sum(1)


def _unexplained(residual: Tensor, noise: Tensor) -> Tensor:
    """Part (B, msi_bands) of each band's variance that is neither explained nor noise of Z."""
    power = residual.square().sum(2)
    return (power - noise).maximum(0.05 * power) + EXACT


def _descend(residual: Callable[[Tensor], tuple[Tensor, Tensor]], numbers: Tensor, free: list[int],
             ratio: int) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt on the weighted residuals: numbers (B, 5) and their scores (B,)."""
    low = numbers.new_tensor([math.log(0.15)] * 2 + [-ratio / 2 - 2] * 2 + [math.log(NARROW)])
    high = numbers.new_tensor([math.log(1.5 * ratio)] * 2 + [1.5 * ratio + 1] * 2 + [math.log(2 * ratio)])
    damping = numbers.new_full((len(numbers),), 1e-2)
    now, noise = residual(numbers)
    score = _score(now, noise)
    done = torch.zeros_like(score, dtype=torch.bool)  # an image ends when it settles, whatever else is in the batch
    for _ in range(30):
        weight = 1 / _unexplained(now, noise)
        slopes, drifts = [], []
        for k in free:
            step = torch.zeros_like(numbers)
            step[:, k] = SMALL
            above, noise_above = residual(numbers + step)
            slopes.append((above - now) / SMALL)
            drifts.append((noise_above - noise) / (2 * SMALL))
        jacobian, drift = torch.stack(slopes, 3), torch.stack(drifts, 2)
        gram = torch.einsum("bm,bmnk,bmnl->bkl", weight, jacobian, jacobian)
        gradient = torch.einsum("bm,bmnk,bmn->bk", weight, jacobian, now) - torch.einsum("bm,bmk->bk", weight, drift)
        diagonal = gram.diagonal(dim1=1, dim2=2)
        diagonal = diagonal + 1e-9 * diagonal.amax(1, keepdim=True) + LEAST
        change = torch.linalg.solve(gram + torch.diag_embed(damping[:, None] * diagonal + LEAST), -gradient)
        moved = numbers.clone()
        moved[:, free] += change.nan_to_num().clamp(-1, 1)
        moved = moved.clamp(low, high)
        there, noise_there = residual(moved)
        after = _score(there, noise_there)
        better = (after < score) & ~done
        settled = torch.where(better, score - after < 1e-6, damping >= 1e3)
        numbers = torch.where(better[:, None], moved, numbers)
        now, noise = torch.where(better[:, None, None], there, now), torch.where(better[:, None], noise_there, noise)
        score = torch.where(better, after, score)
        damping = torch.where(better, damping / 10, damping * 10).clamp(1e-9, 1e4)
        done |= settled
        if done.all():
            break
    return numbers, score
