"""FUSE: Bayesian fusion with a Gaussian prior around the interpolated image, solved in closed form.

Wei, Dobigeon, Tourneret, "Fast fusion of multi-band images based on solving a Sylvester equation", IEEE TIP
24(11):4109-4121, 2015; model: "Bayesian fusion of multi-band images", IEEE JSTSP 9(6):1117-1127, 2015. Toolbox as
mirrored in ricardoborsoi/FuVarRelease @ 2164cd87, ``Methods/FUSE``; solver: :mod:`methods.sylvester`.

Symbols: Y LR bands, Z MSI bands, E principal axes of Y, D their standard deviations. The prior says that the whitened
coefficients ``D^-1 A`` lie around those of the interpolated Y, with ``weight`` as inverse variance.

Departures: axes on which Y is zero but for rounding are left out (the release divides by their deviation). The
dictionary-learning prior is not built.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from methods.estimation import estimate_srf, ratio_of, remove_offset
from methods.registry import Method, MethodError, register
from methods.responses import Told, gaussian_psf, told_responses
from methods.sylvester import Sylvester, signal_axes

SCALE = 1e4  # of the images in the release; all it does is to divide the weight of the prior by its square


class Fuse:
    """One subspace, one linear system in the Fourier domain; no clipping. See :func:`fuse_sylvester`.

    Args:
        known: the sensors' responses; None: blind.
        subspace: axes of the LR spectra at most.
        weight: of the prior.
    """

    card: Method

    def __init__(self, known: Told | None, subspace: int, weight: float) -> None:
        self.known, self.subspace, self.weight = known, subspace, weight

    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Fuse, in float64 inside.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W).

        Returns:
            (B, bands, H, W), dtype of ``lr_hsi``.

        Raises:
            MethodError: H and W are not one whole multiple of h and w.
        """
        dtype, ratio = lr_hsi.dtype, ratio_of(lr_hsi, hr_msi)
        lr_hsi, hr_msi = lr_hsi.double(), hr_msi.double()
        if self.known:
            psf, srf, phase = self.known
            srfs, phases = srf.to(lr_hsi).expand(len(lr_hsi), -1, -1), [phase]
        else:
            psf, phases = release_psf(ratio), sorted({(ratio - 1) // 2, ratio // 2})
            srfs, offset = estimate_srf(lr_hsi, hr_msi)
            hr_msi = remove_offset(hr_msi, offset)
        psf = psf.to(lr_hsi)
        # The rank differs from image to image: one after the other.
        images = zip(lr_hsi, hr_msi, srfs, strict=True)
        return torch.stack([self._fuse_image(y, z, psf, srf, phases).to(dtype) for y, z, srf in images])

    def _fuse_image(self, lr_hsi: Tensor, hr_msi: Tensor, psf: Tensor, srf: Tensor, phases: list[int]) -> Tensor:
        """The mean over the phases: (bands, h, w), (msi_bands, H, W) -> (bands, H, W), float64."""
        low, high = lr_hsi.shape[1:], hr_msi.shape[1:]
        ratio = high[0] // low[0]
        basis, variance = signal_axes(lr_hsi.flatten(1), self.subspace)
        fused = lr_hsi.new_zeros(len(lr_hsi), hr_msi[0].numel())
        if not len(variance):  # an all-zero LR image
            return fused.unflatten(1, high)
        precision = self.weight / SCALE**2 * torch.diag(1 / variance)
        rows, columns = (spline_weights(n, ratio).to(lr_hsi) for n in low)
        for phase in phases:
            solver = Sylvester(lr_hsi, hr_msi.roll((-phase, -phase), (1, 2)), basis, srf, psf, ratio, precision)
            # V^T P M, where M interpolates E^T Y; interpolation and mixing of the axes commute.
            pull = (solver.basis.T @ basis @ precision @ basis.T @ lr_hsi.flatten(1)).unflatten(1, low)
            coefficients = solver.solve(rows @ pull @ columns.T).roll((phase, phase), (1, 2))
            fused.addmm_(solver.basis, coefficients.flatten(1), alpha=1 / len(phases))
        return fused.unflatten(1, high)


def spline_weights(samples: int, ratio: int) -> Tensor:
    """The matrix (samples * ratio, samples), float64, that interpolates by a cubic spline, sample 0 on row 0.

    The line is first extended by one repeated sample at each end; the spline is not-a-knot.
    """
    # Second derivatives m of the extended line y: m[i-1] + 4 m[i] + m[i+1] = 6 (y[i-1] - 2 y[i] + y[i+1]).
    knots = samples + 2
    system, right = (torch.zeros(knots, knots, dtype=torch.float64) for _ in range(2))
    inner = torch.arange(1, knots - 1)
    for shift, left, difference in ((-1, 1, 6), (0, 4, -12), (1, 1, 6)):
        system[inner, inner + shift] = left
        right[inner, inner + shift] = difference
    # Not a knot: the third derivative does not jump at the last but one. Three knots lie on one parabola.
    system[0, :3] = system[-1, -3:] = system.new_tensor([1, -2, 1] if samples > 1 else [1, -1, 0])
    if samples == 1:
        system[-1, -3:] = system.new_tensor([0, -1, 1])
    curvature = torch.linalg.solve(system, right)

    values = torch.eye(knots, dtype=torch.float64)
    row = torch.arange(samples * ratio) + ratio
    i, t = row // ratio, (row % ratio).double()[:, None] / ratio
    bend = (t**3 - t) * curvature[i + 1] + ((1 - t) ** 3 - (1 - t)) * curvature[i]
    extended = (1 - t) * values[i] + t * values[i + 1] + bend / 6
    weights = extended[:, 1:-1].clone()
    weights[:, 0] += extended[:, 0]
    weights[:, -1] += extended[:, -1]
    return weights


def release_psf(ratio: int) -> Tensor:
    """What the toolbox takes for the PSF: a Gaussian with full width ``ratio`` at half maximum, 5 x 5 at ratio 4."""
    return gaussian_psf(2 * ((ratio + 1) // 2) + 1, math.sqrt(ratio**2 / (2 * 2.7725887)))


@register(
    "fuse",
    family="classical",
    told="known",
    paper="Wei, Dobigeon, Tourneret, Fast fusion of multi-band images based on solving a Sylvester equation, IEEE TIP 2015",
    year=2015,
    fidelity="reference",
    source="ricardoborsoi/FuVarRelease@2164cd87, utils/HSMSFusionToolbox/Methods/FUSE; qw245/BlindFuse@167c8c8d",
    note="Given PSF, SRF and phase; Gaussian prior.",
)
def fuse_sylvester(psf: Tensor | None = None, srf: Tensor | None = None, phase: int | None = None, mode: str = "known",
                   subspace: int = 15, weight: float = 1e-3) -> Fuse:
    """Build it.

    Args:
        psf: (k, k), for ``mode="known"``.
        srf: (msi_bands, bands), for ``mode="known"``.
        phase: 0-based index of the first HR sample that decimation keeps, for ``mode="known"``.
        mode: ``"known"`` responses; or ``"blind"``: the SRF and an offset of the MSI bands estimated, the PSF taken as
            :func:`release_psf` on the centre of an LR pixel (the mean of both nearest phases where the ratio is even).
        subspace: axes of the LR spectra at most.
        weight: of the prior, positive; relative to the release's scaling of the images by 10000. A tiny one makes it
            nearly maximum likelihood.

    Raises:
        MethodError: unknown mode; responses missing for ``"known"``; subspace or weight not positive.
    """
    if subspace < 1 or not weight > 0:
        raise MethodError(f"fuse: subspace {subspace} and weight {weight} must be positive")
    return Fuse(told_responses("fuse", mode, psf, srf, phase), subspace, weight)


@register(
    "fuse-blind",
    family="classical",
    told="blind",
    paper="Wei, Dobigeon, Tourneret, Fast fusion of multi-band images based on solving a Sylvester equation, IEEE TIP 2015",
    year=2015,
    fidelity="reference",
    source="ricardoborsoi/FuVarRelease@2164cd87, utils/HSMSFusionToolbox/Methods/FUSE; qw245/BlindFuse@167c8c8d",
    note="Blind: SRF estimated; takes LR pixels for block centres, whatever the phase of the data.",
)
def fuse_sylvester_blind(subspace: int = 15, weight: float = 1e-3) -> Fuse:
    """Build :func:`fuse_sylvester` without any response given."""
    return fuse_sylvester(mode="blind", subspace=subspace, weight=weight)
