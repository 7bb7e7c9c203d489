"""Subspace ridge: MAP fusion of spectral coefficients, with rank, noise levels and prior from the pair itself.

Ours. MAP fusion in a subspace: Wei, Bioucas-Dias, Dobigeon, Tourneret, IEEE TGRS 53(7):3658-3668, 2015, and R-FUSE: Wei,
Dobigeon, Tourneret, Bioucas-Dias, Godsill, IEEE SPL 23(11):1632-1636, 2016. Observation model: Simões et al., IEEE TGRS
53(6):3373-3388, 2015. Local slopes: the guided filter, He, Sun, Tang, IEEE TPAMI 35(6):1397-1409, 2013.

Y LR-HSI, Z HR-MSI, R srf, B blur (reflecting border) and decimation, mu mean spectrum and E principal axes (bands, p) of Y:

    Y - mu = E B c + white noise of variance s2,    Z - R mu = R E c + noise of covariance Q,    c = T u,
    u ~ N(m, v), v(f) = |f|^-2.4 at DCT frequency f, the same in each coordinate of u.

``T T^T`` is the covariance of details, not of the image: spectra vary otherwise over a few pixels than over the scene. T is
turned so that the MSI sees one coordinate of u a band, where m is 0, and none of the others, where m is a local regression on
those. So Z alone gives u a mean u0 and a variance v' in closed form, and Y then asks for

    u = u0 + v' B' x,    (B v' B' + s2 T^-1 T^-T) x = T^-1 E' (Y - mu) - B u0:    conjugate gradients over LR pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from methods.estimation import DEFAULT, ESTIMATORS, ratio_of
from methods.levels import ROUNDING, TINY, Components, msi_noise, principal_components
from methods.registry import Method, MethodError, register
from methods.responses import Told, told_responses
from methods.separable import Blur, conjugate_gradients, dct_matrix, frequency_solver

EXPONENT = 2.4  # of the details' power
# Where data are all but exact, levels end at these parts of ...
MSI_FLOOR = 1e-6  # ... the power of the MSI
LR_FLOOR = 1e-6  # ... the mean prior variance
SLOPE_FLOOR = 0.02  # ... the variance of an unseen coordinate, which no regression meets exactly


class Seen(NamedTuple):
    """What a pair tells before it is fused, float64.

    Args:
        components: mean spectrum, axes, variances, rank and s2 of Y.
        low: Y - mu, (bands, h, w).
        z: Z - R mu, (msi_bands, H, W).
        srf: R (msi_bands, bands).
        blur: B.
        level: variance of the white noise in Z.
    """

    components: Components
    low: Tensor
    z: Tensor
    srf: Tensor
    blur: Blur
    level: float


class Fused(NamedTuple):
    """An estimate.

    Args:
        image: (bands, H, W).
        error: (p, p), expected covariance over pixels of its error along the p axes that are signal.
    """

    image: Tensor
    error: Tensor


@dataclass
class SubspaceRidge:
    """No clipping.

    Args:
        known: the sensors' responses; None: estimated from the images.
        estimator: blind: one of :data:`methods.estimation.ESTIMATORS`.
        components: p at most; the noise decides how many are used.
        window: side of the window of a local regression, in LR pixels, odd; 0: no regression.
        slope: variance of its slopes before any data.
        tolerance: of conjugate gradients: residual in parts of the right side.
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
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W), dtype of ``lr_hsi``; float64 inside.

        Raises:
            MethodError: sizes that do not match, or fewer than 3 HR pixels a side; blind: what the estimator raises.
        """
        ratio = ratio_of(lr_hsi, hr_msi)
        if min(hr_msi.shape[-2:]) < 3:
            raise MethodError(f"an HR image of {tuple(hr_msi.shape[-2:])} pixels is too small; at least 3 a side")
        # Ranks differ from image to image: one after the other.
        images = [self.fused(self.look(y, z, ratio)).image for y, z in zip(lr_hsi.double(), hr_msi.double(), strict=True)]
        return torch.stack(images).to(lr_hsi.dtype)

    def look(self, y: Tensor, z: Tensor, ratio: int) -> Seen:
        """What Y (bands, h, w) and Z (msi_bands, H, W) tell before they are fused."""
        if self.known is None:
            found = ESTIMATORS[self.estimator](y[None], z[None])
            told, z = Told(found.psf[0], found.srf[0], found.phase), z - found.offset[0, :, None, None]
        else:
            told = Told(self.known.psf.to(y), self.known.srf.to(y), self.known.phase)
        blur = Blur.of(told.psf, z.shape[1:], ratio, told.phase)
        components = principal_components(y.flatten(1), self.components)
        low = y - components.mean[..., None]
        z = z - (told.srf @ components.mean)[..., None]
        level = max(msi_noise(low, z, told.srf, blur, components.noise), MSI_FLOOR * float(z.square().mean()), TINY)
        return Seen(components, low, z, told.srf, blur, level)

    def fused(self, seen: Seen) -> Fused:
        """The estimate, and how far it is expected to be off."""
        mean, axes, variances, rank, noise = seen.components
        basis, rest = axes[:, :rank], seen.srf @ axes[:, rank:]
        # What the subspace leaves out is there in the MSI: it counts as noise.
        q = seen.level * torch.eye(len(seen.z)).to(seen.z) + (rest * variances[rank:]) @ rest.T
        low = torch.einsum("bp,bxy->pxy", basis, seen.low)
        spectra, u, left = self._map(low, seen.z, seen.srf @ basis, q, noise, seen.blur)
        return Fused(torch.einsum("bp,pxy->bxy", basis @ spectra, u).add_(mean[..., None]), (spectra * left) @ spectra.T)

    def _map(self, low: Tensor, z: Tensor, seen: Tensor, q: Tensor, noise: float,
             blur: Blur) -> tuple[Tensor, Tensor, Tensor]:
        """T (p, p), u (p, H, W) and its variance (p,) of E' (Y - mu) (p, h, w), Z - R mu (msi_bands, H, W), R E, Q, s2, B."""
        rows, columns = dct_matrix(z, 1), dct_matrix(z, 2)
        spectral = blur.after(rows, columns)  # B of DCT coefficients
        prior = power_law(z)
        t, inverse, gain, turn = coordinates(detail_covariance(low, noise, spectral, prior), seen, q)
        low = torch.einsum("kp,pxy->kxy", inverse, low)
        unseen = len(low) - len(gain)

        gain = gain[:, None, None]
        wiener = prior / (1 + gain.square() * prior)
        variance = torch.cat([wiener, prior.expand(unseen, -1, -1)])  # v'
        mean = rows.T @ (wiener * gain * (rows @ torch.einsum("km,mxy->kxy", turn, z) @ columns.T)) @ columns  # u0, seen
        white = noise * inverse @ inverse.T + LR_FLOOR * float(variance.mean()) * torch.eye(len(low)).to(low)
        passed, free = spectral.diagonal(wiener), spectral.diagonal(prior[None])  # B v' B', nearly diagonal in the DCT at LR
        if self.window and unseen:
            ridge = (white.diagonal()[-unseen:] + SLOPE_FLOOR * free.flatten()[1:].mean()) / self.slope
            mean = torch.cat([mean, local_regression(mean, low, blur, self.window, ridge)])
        else:
            mean = torch.cat([mean, torch.zeros_like(prior).expand(unseen, -1, -1)])

        def system(x: Tensor) -> Tensor:
            return spectral(variance * spectral.adjoint(x)) + torch.einsum("kp,pxy->kxy", white, x)

        solve = frequency_solver(torch.cat([passed, free.expand(unseen, -1, -1)]), white)
        x = conjugate_gradients(system, solve, low - blur(mean), self.tolerance, self.iterations)
        # What both leave of v, as if no frequency were folded onto another one.
        h, w = low.shape[1:]
        weight = spectral.rows[0].diagonal()[:, None].square() * spectral.columns[0].diagonal().square() * variance[:, :h, :w]
        left = variance.clone()
        left[:, :h, :w] *= 1 - weight / (torch.cat([passed, free.expand(unseen, -1, -1)]) + white.diagonal()[:, None, None])
        return t, mean + rows.T @ (variance * spectral.adjoint(x)) @ columns, left.mean((1, 2))


def power_law(z: Tensor) -> Tensor:
    """``|f|^-EXPONENT`` (H, W) at the DCT frequencies of Z (msi_bands, H, W); 1 is the highest along a side."""
    rows, columns = (torch.arange(n, device=z.device, dtype=z.dtype) / n for n in z.shape[1:])
    return (rows[:, None].square() + columns.square()).clamp(min=1 / max(z.shape[1:]) ** 2) ** (-EXPONENT / 2)


def detail_covariance(low: Tensor, noise: float, spectral: Blur, prior: Tensor) -> Tensor:
    """T T^T (p, p): of ``c(f)`` in parts of ``prior`` (H, W), from low = B c + noise (p, h, w).

    A mean over LR frequencies of spectra scaled to the prior, each component weighted by the part of it that is signal; as that
    follows from the variances sought, in turns.
    """
    passed = spectral.diagonal(prior).flatten()[1:]  # the mean is no detail
    spectrum = (dct_matrix(low, 1) @ low @ dct_matrix(low, 2).T).flatten(1)[:, 1:]
    least = (ROUNDING * float(low.square().mean()) + TINY) * torch.eye(len(low)).to(low)
    if not passed.numel():
        return least
    variances = ((spectrum.square() - noise).sum(1) / passed.sum()).clamp(min=least[0, 0])
    for _ in range(4):
        signal = variances[:, None] * passed
        weight = signal / (signal + noise + 1e-3 * signal.mean(1, keepdim=True))
        scaled = weight * spectrum / passed.sqrt()
        noisy = noise * (weight.square() / passed).sum(1)
        covariance = (scaled @ scaled.T - noisy.diag()) / (weight @ weight.T).clamp(min=TINY)
        variances = covariance.diagonal().clamp(min=1e-3 * noise / passed.mean())
    return covariance + least


def coordinates(covariance: Tensor, seen: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """T (p, p), its inverse, gain (k,) and turn (k, msi_bands), k the smaller of p and msi_bands, of T T^T, R E and Q.

    ``turn R E T = [diag(gain) 0]`` and ``turn Q turn^T`` is the identity: the MSI's part of the model is diagonal.
    """
    values, vectors = torch.linalg.eigh(covariance)
    # Less the noise, a direction may be left with nothing or less.
    scale = values.clamp(min=max(1e-6 * float(values[-1]), TINY)).sqrt()
    root = torch.linalg.cholesky(q)
    left, gain, right = torch.linalg.svd(torch.linalg.solve_triangular(root, seen @ vectors * scale, upper=False))
    turn = torch.linalg.solve_triangular(root.T, left[:, : len(gain)], upper=True).T
    return (vectors * scale) @ right.T, right @ (vectors / scale).T, gain, turn


def local_regression(known: Tensor, low: Tensor, blur: Blur, window: int, ridge: Tensor) -> Tensor:
    """Details (p - k, H, W) of the coordinates that the MSI does not see, by their local relation at LR to those it sees.

    Least squares over windows around each LR pixel, their slopes averaged over such a window and interpolated.

    Args:
        known: (k, H, W), the coordinates that the MSI sees.
        low: (p, h, w), all of them at LR, the k first.
        blur: from HR to LR.
        window: side.
        ridge: (p - k,), variance of what is not explained over that of the slopes.
    """

    def mean(images: Tensor) -> Tensor:
        flat = images.flatten(0, -3)
        return avg_pool2d(flat, window, 1, window // 2, count_include_pad=False).unflatten(0, images.shape[:-2])

    def up(images: Tensor) -> Tensor:
        return interpolate(images.flatten(0, -3)[None], known.shape[1:], mode="bilinear")[0].unflatten(0, images.shape[:-2])

    at_low, targets = blur(known), low[len(known) :]
    centre = mean(at_low)
    gram = mean(at_low[:, None] * at_low) - centre[:, None] * centre
    cross = mean(targets[:, None] * at_low) - mean(targets)[:, None] * centre  # (p - k, k, h, w)
    values, vectors = torch.linalg.eigh(gram.permute(2, 3, 0, 1))  # at each LR pixel, one for all ridges
    turned = torch.einsum("xyki,pkxy->xyip", vectors, cross) / (values[..., None].clamp(min=0) + ridge / window**2)
    slopes = mean(torch.einsum("xyki,xyip->pkxy", vectors, turned))
    return torch.einsum("pkxy,kxy->pxy", up(slopes), known - up(centre))


registered = partial(
    register,
    family="classical",
    paper="this benchmark: MAP estimate in a subspace, after Wei et al., IEEE TGRS 2015 and IEEE SPL 2016 (R-FUSE)",
    year=2026,
    fidelity="described",
)


@registered("subspace-ridge", told="known", note="Told PSF, SRF and phase; rank, noise levels and prior come from the pair.")
def subspace_ridge(psf: Tensor | None = None, srf: Tensor | None = None, phase: int | None = None, mode: str = "known",
                   estimator: str = DEFAULT, components: int = 30, window: int = 5, slope: float = 0.5,
                   tolerance: float = 1e-3, iterations: int = 40) -> SubspaceRidge:
    """Build it; for the arguments see :class:`SubspaceRidge`.

    Raises:
        MethodError: unknown mode or estimator, responses missing in mode "known", or an argument out of its range.
    """
    if estimator not in ESTIMATORS:
        raise MethodError(f"subspace-ridge: estimator '{estimator}'; choices: {', '.join(ESTIMATORS)}")
    if components < 1 or not slope > 0 or (window and (window < 0 or window % 2 == 0)):
        raise MethodError(f"subspace-ridge: components {components}, slope {slope}: positive; window {window}: odd, or 0")
    known = told_responses("subspace-ridge", mode, psf, srf, phase)
    return SubspaceRidge(known, estimator, components, window, slope, tolerance, iterations)


@registered("subspace-ridge-blind", told="blind", note="Estimates PSF and SRF, by default parametric.")
def subspace_ridge_blind(estimator: str = DEFAULT, components: int = 30, window: int = 5, slope: float = 0.5,
                         tolerance: float = 1e-3, iterations: int = 40) -> SubspaceRidge:
    """Build :func:`subspace_ridge` in mode "blind"; for the arguments see :class:`SubspaceRidge`."""
    return subspace_ridge(mode="blind", estimator=estimator, components=components, window=window, slope=slope,
                          tolerance=tolerance, iterations=iterations)
