"""Subspace ridge: MAP fusion of spectral coefficients under a smoothness prior, every level and weight from the pair itself.

Ours. MAP fusion in a subspace is that of Wei, Dobigeon, Tourneret, Zhao, "R-FUSE: robust fast fusion of multiband images
based on solving a Sylvester equation", IEEE SPL 23(11):1632-1636, 2016, and IEEE TIP 24(11):4109-4121, 2015; the observation
model that of Simões et al., IEEE TGRS 53(6):3373-3388, 2015. Rank and noise of principal components: Passemier, Yao, RMTA 1(1),
2012 (edge of Marchenko and Pastur). Local slopes: the guided filter, He, Sun, Tang, IEEE TPAMI 35(6):1397-1409, 2013.

Symbols: Y LR-HSI, Z HR-MSI, R srf, B blur with reflecting border and decimation, mu mean LR spectrum, E leading principal
axes (bands, p) of Y, both taken from Y alone:

    Y - mu = E (B c) + noise of variance s2,    Z - R mu = R E c + noise of covariance Q.

The coefficients c = T u have a prior that is white over the p coordinates of u and falls with the spatial frequency f:
``u(f) ~ N(m(f), |f|^-2.4)`` in the DCT, in whose basis the MSI's part of the model is diagonal. ``T T^T`` is the covariance of
details, not of the image: spectra vary otherwise over a few pixels than over the scene. T is turned so that the MSI sees one
coordinate a band and none of the others. The mean m is 0 there, and a local regression on them in the others.

Solved in the order of the evidence. Given Z alone, u has a mean u0 and a variance v in closed form (Wiener filter); Y then asks
for ``u = u0 + v B' x`` with ``(B v B' + s2 T^-1 T^-T) x = T^-1 E' (Y - mu) - B u0``: conjugate gradients over LR pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from methods.estimation import ESTIMATORS, ratio_of
from methods.registry import Method, MethodError, register
from methods.responses import Told, told_responses

EXPONENT = 2.4  # power of the details over |f|: 2 for edges of regions, 4 for smooth ones
# Levels below which data are taken to be exact, in parts of what they are named after, so that nothing divides by 0.
ROUNDING = 1e-12  # variance of the leading component; images are float32
MSI_FLOOR = 1e-6  # power of the MSI
LR_FLOOR = 1e-6  # prior variance
TINY = 1e-30  # black images


class Components(NamedTuple):
    """Principal components of an LR-HSI: mean (bands, 1), all axes (bands, bands), their variances, p, variance of the noise."""

    mean: Tensor
    axes: Tensor
    variances: Tensor
    rank: int
    noise: float


@dataclass
class SubspaceRidge:
    """No clipping.

    Args:
        known: the sensors' responses; None: estimated from the images.
        estimator: blind: one of :data:`methods.estimation.ESTIMATORS`.
        components: largest size p of the subspace; the noise decides how many of them are used.
        window: side of the window of a local regression, in LR pixels, odd; 0: none, the mean of the prior is 0.
        slope: variance of the slopes of that regression before any data.
        tolerance: of conjugate gradients, residual in parts of the right side.
        iterations: of conjugate gradients, at most.
    """

    known: Told | None
    estimator: str
    components: int
    window: int
    slope: float
    tolerance: float
    iterations: int
    card: Method = field(init=False)

    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Fuse, in float64 inside.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W).

        Returns:
            (B, bands, H, W), dtype of ``lr_hsi``.

        Raises:
            MethodError: sizes that do not match, or fewer than 3 HR pixels a side; blind: what the estimator raises.
        """
        ratio = ratio_of(lr_hsi, hr_msi)
        if min(hr_msi.shape[-2:]) < 3:
            raise MethodError(f"an HR image of {tuple(hr_msi.shape[-2:])} pixels is too small; at least 3 a side")
        # Ranks differ from image to image: one after the other.
        images = [self._fuse(y, z, ratio) for y, z in zip(lr_hsi.double(), hr_msi.double(), strict=True)]
        return torch.stack(images).to(lr_hsi.dtype)

    def _fuse(self, y: Tensor, z: Tensor, ratio: int) -> Tensor:
        """Y (bands, h, w), Z (msi_bands, H, W) -> (bands, H, W)."""
        if self.known is None:
            found = ESTIMATORS[self.estimator](y[None], z[None])
            psf, srf, phase, z = found.psf[0], found.srf[0], found.phase, z - found.offset[0, :, None, None]
        else:
            psf, srf, phase = self.known.psf.to(y), self.known.srf.to(y), self.known.phase
        blur = Blur.of(psf, z.shape[1:], ratio, phase)
        found = principal_components(y.flatten(1), self.components)
        basis, tail = found.axes[:, : found.rank], srf @ found.axes[:, found.rank :]
        low = torch.einsum("bp,bxy->pxy", basis, y - found.mean[..., None])  # (p, h, w)
        high = z - (srf @ found.mean)[..., None]
        level = max(msi_noise(y, z, srf, blur, found.noise), MSI_FLOOR * float(high.square().mean()), TINY)
        # What the subspace leaves out is there in the MSI: it counts as noise.
        q = level * torch.eye(len(z)).to(z) + (tail * found.variances[found.rank :]) @ tail.T
        fused = self._coefficients(low, high, srf @ basis, q, found.noise, blur)
        return torch.einsum("bp,pxy->bxy", basis, fused) + found.mean[..., None]

    def _coefficients(self, low: Tensor, high: Tensor, seen: Tensor, q: Tensor, noise: float, blur: Blur) -> Tensor:
        """The MAP estimate of c.

        Args:
            low: (p, h, w), what Y shows of c.
            high: Z - R mu (msi_bands, H, W).
            seen: R E (msi_bands, p).
            q: noise covariance of the MSI (msi_bands, msi_bands).
            noise: s2.
            blur: B.

        Returns:
            (p, H, W).
        """
        rows, columns = (dct(n).to(high) for n in high.shape[1:])
        spectral = blur.after(rows, columns)  # B on DCT coefficients
        prior = power_law(*high.shape[1:]).to(high)
        to_c, to_u, gain, turn = coordinates(detail_covariance(low, noise, spectral, prior), seen, q)
        white = to_u @ to_u.T * noise  # covariance of the noise of T^-1 low
        low = torch.einsum("kp,pxy->kxy", to_u, low)
        gain = gain[:, None, None]
        wiener = prior / (1 + gain.square() * prior)  # v of the coordinates that the MSI sees; of the others: prior
        known = rows.T @ (wiener * gain * (rows @ torch.einsum("km,mxy->kxy", turn, high) @ columns.T)) @ columns
        mean = torch.cat([known, known.new_zeros(len(low) - len(known), *known.shape[1:])])
        variance = torch.cat([wiener, prior.expand(len(low) - len(wiener), -1, -1)])
        white = white + LR_FLOOR * float(variance.mean()) * torch.eye(len(low)).to(white)
        observed = spectral.diagonal(torch.cat([wiener, prior[None]]))  # B v B', nearly diagonal in the DCT over LR pixels
        if self.window and len(known) < len(low):
            clean = 0.02 * float(observed[-1].flatten()[1:].mean())  # no slope is exact, even where there is no noise
            mean[len(known) :] = local_regression(known, low, blur, self.window, (white.diagonal()[len(known) :] + clean) / self.slope)

        def system(x: Tensor) -> Tensor:
            return spectral(variance * spectral.adjoint(x)) + torch.einsum("kp,pxy->kxy", white, x)

        each = torch.cat([observed[:-1], observed[-1:].expand(len(low) - len(known), -1, -1)])
        solve = frequency_solver(each, white)
        x = conjugate_gradients(system, solve, low - blur(mean), self.tolerance, self.iterations)
        return torch.einsum("pk,kxy->pxy", to_c, mean + rows.T @ (variance * spectral.adjoint(x)) @ columns)


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
        """Correlation with a PSF (k, l) under a reflecting border (edge not repeated), every ``ratio``-th pixel from ``phase``."""
        left, singular, right = torch.linalg.svd(psf)
        kept = int((singular > 1e-7 * singular[0]).sum())
        lines = (left * singular)[:, :kept].T, right[:kept]
        return cls(*(line_matrix(each, n, ratio, phase) for each, n in zip(lines, size)))

    def __call__(self, images: Tensor) -> Tensor:
        """(p, H, W) -> (p, h, w)."""
        return sum((r @ images @ c.T for r, c in zip(*self)), images.new_zeros(()))

    def adjoint(self, images: Tensor) -> Tensor:
        """(p, h, w) -> (p, H, W)."""
        return sum((r.T @ images @ c for r, c in zip(*self)), images.new_zeros(()))

    def after(self, rows: Tensor, columns: Tensor) -> Blur:
        """The same of ``rows^T x columns``: of the coefficients x of an orthonormal transform."""
        return Blur(self.rows @ rows.T, self.columns @ columns.T)

    def energy(self) -> Tensor:
        """Part of the variance of white noise that passes, (): the mean over LR pixels of a squared norm."""
        grams = (torch.einsum("txn,sxn->ts", each, each) / each.shape[1] for each in self)
        return torch.stack(list(grams)).prod(0).sum()

    def diagonal(self, variance: Tensor) -> Tensor:
        """Variance (p, h, w) of the DCT of what is seen of independent coefficients of ``variance`` (p, H, W): main term alone."""
        rows, columns = self.rows[0], self.columns[0]
        return (dct(len(rows)).to(rows) @ rows).square() @ variance @ (dct(len(columns)).to(columns) @ columns).square().T


def line_matrix(lines: Tensor, length: int, ratio: int, phase: int) -> Tensor:
    """One side of a blur, dense: taps (t, k) with their centre at (k - 1) // 2 -> (t, length // ratio, length)."""
    count, taps = lines.shape
    place = phase + ratio * torch.arange(length // ratio)[:, None] + torch.arange(taps) - (taps - 1) // 2
    period = max(1, 2 * (length - 1))
    place = place % period
    place = torch.where(place < length, place, period - place).to(lines.device)
    matrix = lines.new_zeros(count, length // ratio, length)
    return matrix.scatter_add_(2, place.expand(count, -1, -1), lines[:, None].expand(-1, length // ratio, -1))


def dct(length: int) -> Tensor:
    """Orthonormal DCT-II (length, length), float64: ``dct(n) @ x`` are the coefficients of x."""
    n = torch.arange(length, dtype=torch.float64)
    matrix = (math.pi / length * n[:, None] * (n + 0.5)).cos() * math.sqrt(2 / length)
    matrix[0] = math.sqrt(1 / length)
    return matrix


def power_law(rows: int, columns: int) -> Tensor:
    """``|f|^-EXPONENT`` (rows, columns), float64; f in parts of the largest along a side; the mean counts as the lowest."""
    radius = (torch.arange(rows).double()[:, None] / rows).square() + (torch.arange(columns).double() / columns).square()
    return radius.clamp(min=1 / max(rows, columns) ** 2) ** (-EXPONENT / 2)


def principal_components(pixels: Tensor, limit: int) -> Components:
    """Those of Y (bands, n) that stand out from white noise, ``limit`` at most and at least one.

    With k components removed, the variance per band of the rest tells s2; the k+1st is noise if it lies below the edge
    ``s2 (1 + sqrt(bands / n))^2`` of the eigenvalues that white noise would have.
    """
    bands, samples = len(pixels), max(2, pixels.shape[1]) - 1
    mean = pixels.mean(1, keepdim=True)
    variances, axes = torch.linalg.eigh((pixels - mean) @ (pixels - mean).T / samples)
    values = variances.flip(0).clamp(min=0)
    rank, noise, last = 0, 0.0, min(limit, bands - 1, samples - 1)
    for rank in range(max(1, last) + 1):
        noise = float(values[rank:].sum()) / max(1, bands - rank) * samples / max(1, samples - rank)
        edge = noise * (1 + math.sqrt(bands / samples)) ** 2
        if rank >= last or values[rank] <= max(edge, ROUNDING * float(values[0])):
            break
    return Components(mean, axes.flip(1), values, max(1, rank), max(noise, ROUNDING * float(values[0]), TINY))


def msi_noise(y: Tensor, z: Tensor, srf: Tensor, blur: Blur, noise: float) -> float:
    """Variance of white noise in Z (msi_bands, H, W): the smaller of two estimates that both err upwards, maybe negative.

    The one: second differences (Immerkær, CVIU 64(2), 1996) of the calmer half of the pixels, in the mixture of bands that
    shows the least of them, as texture is alike in all bands. The other: what distinguishes blurred Z from R Y beyond the
    noise of variance ``noise`` in Y (bands, h, w).
    """
    kernel = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]]).to(z) / 6
    details = conv2d(z[:, None], kernel[None, None])[:, 0]
    activity = avg_pool2d(details.square().mean(0)[None], 5, 1, 2, count_include_pad=False).flatten()
    calm = details.flatten(1)[:, activity <= activity.median()]
    textured = torch.linalg.eigvalsh(calm @ calm.T / calm.shape[1])[0]

    power = srf.square().sum(1)
    excess = (blur(z) - torch.einsum("mb,bxy->mxy", srf, y)).square().mean((1, 2)) - noise * power
    weight = 1 / power.clamp(min=TINY).square()  # the variance of a mean square is that of the noise of Y, squared
    return float(torch.minimum(textured, (weight * excess).sum() / (weight.sum() * blur.energy())))


def detail_covariance(low: Tensor, noise: float, spectral: Blur, prior: Tensor) -> Tensor:
    """Covariance (p, p) of coefficients ``c(f)`` of variance ``prior`` at every frequency, from low (p, h, w) = B c + noise.

    The mean over LR frequencies of ``c c^T / passed``, weighted by what is signal in each component; that needs the
    variances which it tells, hence in turns.
    """
    h, w = low.shape[1:]
    passed = spectral.diagonal(prior).flatten()[1:]  # B v B' for v = prior; the mean is not a detail
    spectrum = (dct(h).to(low) @ low @ dct(w).to(low).T).flatten(1)[:, 1:]
    least = ROUNDING * float(low.square().mean()) + TINY
    if not passed.numel():
        return least * torch.eye(len(low)).to(low)
    variances = ((spectrum.square() - noise).sum(1) / passed.sum()).clamp(min=least)
    for _ in range(4):
        signal = variances[:, None] * passed
        weight = signal / (signal + noise + 1e-3 * variances[:, None] * passed.mean())
        scaled = weight * spectrum / passed.sqrt()
        excess = (weight.square() / passed).sum(1) * noise
        covariance = (scaled @ scaled.T - excess.diag()) / (weight @ weight.T).clamp(min=TINY)
        variances = covariance.diagonal().clamp(min=max(1e-3 * noise / float(passed.mean()), least))
    return covariance + least * torch.eye(len(low)).to(low)


def coordinates(covariance: Tensor, seen: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where details are white and each MSI direction meets one coordinate: ``covariance = T T^T``, ``turn seen T = [diag(gain) 0]``.

    Args:
        covariance: (p, p).
        seen: R E (msi_bands, p).
        q: noise covariance of the MSI, which becomes white: ``turn q turn^T`` is the identity.

    Returns:
        T (p, p), its inverse, gain (k,) and turn (k, msi_bands), k the smaller of p and msi_bands.
    """
    values, vectors = torch.linalg.eigh(covariance)
    # The noise subtracted may leave a direction nothing, or less.
    scale = values.clamp(min=max(1e-6 * float(values[-1]), TINY)).sqrt()
    root = torch.linalg.cholesky(q)
    left, gain, right = torch.linalg.svd(torch.linalg.solve_triangular(root, seen @ vectors * scale, upper=False))
    turn = torch.linalg.solve_triangular(root.T, left[:, : len(gain)], upper=True).T
    return (vectors * scale) @ right.T, right @ (vectors / scale).T, gain, turn


def local_regression(known: Tensor, low: Tensor, blur: Blur, window: int, ridge: Tensor) -> Tensor:
    """What the local relation between coordinates at LR makes of the known ones at HR.

    Args:
        known: (k, H, W), coordinates that the MSI sees.
        low: (p, h, w), all of them at LR, the k first.
        blur: from HR to LR.
        window: side of the window of the least squares, and of the mean of their slopes.
        ridge: (p - k,), variance of each target over that of its slopes.

    Returns:
        (p - k, H, W), of mean 0 in a window.
    """

    def mean(images: Tensor) -> Tensor:
        return avg_pool2d(images.flatten(0, -3), window, 1, window // 2, count_include_pad=False).unflatten(0, images.shape[:-2])

    def up(images: Tensor) -> Tensor:
        return interpolate(images[None], known.shape[1:], mode="bilinear", align_corners=False)[0]

    k = len(known)
    regressors, targets = blur(known), low[k:]
    centre = mean(regressors)
    gram = mean(regressors[:, None] * regressors) - centre[:, None] * centre
    cross = mean(targets[:, None] * regressors) - mean(targets)[:, None] * centre  # (p - k, k, h, w)
    values, vectors = torch.linalg.eigh(gram.permute(2, 3, 0, 1))
    turned = torch.einsum("xyki,pkxy->xyip", vectors, cross) / (values[..., None] + ridge / window**2)
    slopes = mean(torch.einsum("xyki,xyip->pkxy", vectors, turned))
    return torch.einsum("pkxy,kxy->pxy", up(slopes.flatten(0, 1)).unflatten(0, slopes.shape[:2]), known - up(centre))


def frequency_solver(variance: Tensor, white: Tensor) -> Callable[[Tensor], Tensor]:
    """The inverse of a covariance that is ``diag(variance) + white`` at each DCT frequency: (p, h, w), (p, p)."""
    rows, columns = (dct(n).to(white) for n in variance.shape[1:])
    factor = torch.linalg.cholesky(torch.diag_embed(variance.flatten(1).T) + white)

    def solve(images: Tensor) -> Tensor:
        spectrum = (rows @ images @ columns.T).flatten(1).T[..., None]
        return rows.T @ torch.cholesky_solve(spectrum, factor)[..., 0].T.unflatten(1, images.shape[1:]) @ columns

    return solve


def conjugate_gradients(system: Callable[[Tensor], Tensor], solve: Callable[[Tensor], Tensor], target: Tensor,
                        tolerance: float, iterations: int) -> Tensor:
    """``system(x) = target`` for a symmetric positive definite system, preconditioned by ``solve``, from 0.

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


registered = partial(
    register,
    family="classical",
    paper="hsfusion-bench: MAP estimate in a subspace after Wei, Dobigeon, Tourneret, Zhao, R-FUSE, IEEE SPL 2016",
    year=2026,
    fidelity="described",
)


@registered("subspace-ridge", told="known", note="Told PSF, SRF and phase; rank, noise and prior are estimated from the pair.")
def subspace_ridge(
    psf: Tensor | None = None,
    srf: Tensor | None = None,
    phase: int | None = None,
    mode: str = "known",
    estimator: str = "hysure",
    components: int = 30,
    window: int = 5,
    slope: float = 0.5,
    tolerance: float = 1e-3,
    iterations: int = 40,
) -> SubspaceRidge:
    """Build it; for the arguments see :class:`SubspaceRidge`.

    Raises:
        MethodError: unknown mode or estimator, responses missing in mode "known", or an argument out of its range.
    """
    if estimator not in ESTIMATORS:
        raise MethodError(f"subspace-ridge: estimator '{estimator}'; choices: {', '.join(ESTIMATORS)}")
    if components < 1 or not slope > 0 or window < 0 or (window and window % 2 == 0):
        raise MethodError(f"subspace-ridge: components {components} and slope {slope} must be positive, window {window} odd or 0")
    known = told_responses("subspace-ridge", mode, psf, srf, phase)
    return SubspaceRidge(known, estimator, components, window, slope, tolerance, iterations)


@registered("subspace-ridge-blind", told="blind", note="Estimates PSF and SRF, by default as HySure does.")
def subspace_ridge_blind(estimator: str = "hysure", components: int = 30, window: int = 5, slope: float = 0.5,
                         tolerance: float = 1e-3, iterations: int = 40) -> SubspaceRidge:
    """Build :func:`subspace_ridge` in mode "blind"; for the arguments see :class:`SubspaceRidge`."""
    return subspace_ridge(mode="blind", estimator=estimator, components=components, window=window, slope=slope,
                          tolerance=tolerance, iterations=iterations)
