"""HySure: fusion in a spectral subspace under vector total variation, solved by ADMM.

Simões, Bioucas-Dias, Almeida, Chanussot, "A convex formulation for hyperspectral image superresolution via
subspace-based regularization", IEEE TGRS 53(6):3373-3388, 2015. Release alfaiate/HySure @ 8652a583; as the toolbox of
Yokoya et al., IEEE GRSM 2017, runs it: ricardoborsoi/FuVarRelease @ 2164cd87, ``Methods/HySure``.

Symbols: Y LR-HSI, Z HR-MSI, R srf, K blur, S decimation, E basis (bands, p), A coefficients (p, H, W), Dh and Dv
circular first differences. Minimised over A:
``1/2 ||Y - E A K S||^2 + lambda_m/2 ||Z - R E A||^2 + lambda_phi * sum over pixels of sqrt(||A Dh||^2 + ||A Dv||^2)``.

Departures: the iterates are those of the release, but with one pair of FFTs each where it takes eight (see
:meth:`HySure._coefficients`); given responses, images are not scaled to a maximum of 1. Where the LR-HSI has fewer
dimensions than p, as without noise, the release compares determinants that are rounding, or stops as all are 0: here the
volume is that of the dimensions there are, and a basis of singular vectors has no others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.fft import rfft2
from torch.nn.functional import pad

from methods.estimation import estimate_hysure, estimate_srf, ratio_of, remove_offset
from methods.registry import Method, MethodError, register
from methods.responses import Told, told_responses, transfer
from methods.sylvester import add_spread, fold, inverse_rfft2
from methods.unmixing import extreme_pixels, principal_axes, vca_projection

VCA_RUNS = 20
# Singular values, in parts of the largest, that are rounding of float32 images rather than signal or noise.
RANK_TOLERANCE = 1e-6


@dataclass
class HySure:
    """Total variation ties the pixels to each other, the MSI each of them. No clipping.

    Args:
        known: the sensors' responses; None: estimated from the images.
        aligned: blind, put the PSF where it was estimated; False: one pixel off for even ratios, as the toolbox does.
        endmembers: size p of the subspace; less where the LR-HSI has fewer bands or pixels.
        basis: ``"vca"``: LR spectra of the largest volume in 20 random runs; ``"svd"``: leading singular vectors.
        lambda_phi: weight of the total variation.
        lambda_m: weight of the MSI.
        mu: step of ADMM.
        iterations: of ADMM, always all.
        seed: of VCA; every image starts from it.
    """

    known: Told | None
    aligned: bool
    endmembers: int
    basis: str
    lambda_phi: float
    lambda_m: float
    mu: float
    iterations: int
    seed: int
    card: Method = field(init=False)

    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Fuse, in float64 inside.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W).

        Returns:
            (B, bands, H, W), dtype of ``lr_hsi``.

        Raises:
            MethodError: sizes that do not match; blind: too small an image, or one without any positive value.
        """
        ratio_of(lr_hsi, hr_msi)
        # Bases are chosen image by image: one after the other.
        images = [self._fuse(y, z) for y, z in zip(lr_hsi.double(), hr_msi.double(), strict=True)]
        return torch.stack(images).to(lr_hsi.dtype)

    def _fuse(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Y (bands, h, w), Z (msi_bands, H, W) -> (bands, H, W)."""
        if self.known is None:
            return self._blind(lr_hsi[None], hr_msi[None])
        psf, srf, phase = self.known
        return self._minimise(lr_hsi, hr_msi, psf.to(lr_hsi), srf.to(lr_hsi), phase)

    def _blind(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """With the PSF of the paper and, as in the toolbox, nonnegative responses in place of those of the paper."""
        found = estimate_hysure(lr_hsi, hr_msi, endmembers=self.endmembers)
        psf = found.psf[0]
        if not self.aligned:
            # The toolbox convolves with what was fitted as a correlation, and puts it one pixel off for even ratios.
            psf = psf.flip(0, 1)
            psf = pad(psf, (2, 0, 2, 0)) if ratio_of(lr_hsi, hr_msi) % 2 == 0 else psf
        srf, offset = estimate_srf(lr_hsi, hr_msi)
        y, z, scale = lr_hsi[0], remove_offset(hr_msi, offset)[0], lr_hsi.max()
        fused = scale * self._minimise(y / scale, z / scale, psf, srf[0], found.phase)
        axes = principal_axes(y.flatten(1), min(self.endmembers, len(y)))
        return torch.einsum("bk,ck,cxy->bxy", axes, axes, fused)

    def _minimise(self, lr_hsi: Tensor, hr_msi: Tensor, psf: Tensor, srf: Tensor, phase: int) -> Tensor:
        """Y (bands, h, w), Z (msi_bands, H, W) -> (bands, H, W)."""
        basis = self._basis(lr_hsi.flatten(1))
        # Coordinates in which A meets each MSI direction in one plane: R E = U diag(s). They leave the rest as it is.
        left, singular, right = torch.linalg.svd(srf @ basis)
        basis = basis @ right.T
        msi = torch.einsum("mk,mxy->kxy", left[:, : len(singular)], hr_msi.roll((-phase, -phase), (1, 2)))
        found = self._coefficients(lr_hsi, msi, basis, singular, psf)
        return torch.einsum("bk,kxy->bxy", basis, found.roll((phase, phase), (1, 2)))

    def _basis(self, pixels: Tensor) -> Tensor:
        """E (bands, p) of Y (bands, n)."""
        strength = torch.linalg.eigvalsh(pixels @ pixels.T)
        rank = int((strength > RANK_TOLERANCE**2 * strength[-1]).sum())
        count = min(self.endmembers, *pixels.shape)
        kept = max(1, min(count, rank))
        if self.basis == "svd":
            return principal_axes(pixels, kept)
        reduced, spectra = vca_projection(pixels, count, variant="b", snr_db=0.0)
        generator = torch.Generator().manual_seed(self.seed)
        runs = torch.stack([spectra[:, extreme_pixels(reduced, generator)] for _ in range(VCA_RUNS)])
        volume = torch.linalg.eigvalsh(runs.mT @ runs)[:, -kept:].clamp(min=torch.finfo(runs.dtype).tiny).log().sum(1)
        return runs[volume.argmax()]

    def _coefficients(self, lr_hsi: Tensor, msi: Tensor, basis: Tensor, singular: Tensor, psf: Tensor) -> Tensor:
        """A by ADMM with the four splits V_i = K_i A: blurred (F), unchanged (1), and both differences (Fh, Fv).

        Each A is the least-squares mean of what its splits ask for. With ``N_i = K_i A + M_i``, scaled multipliers
        ``M_i = N_i - V_i``, and DFTs throughout, that recursion sums up to

            A = -(G + sum of all G so far) / (|F|^2 + 1 + |Fh|^2 + |Fv|^2),    G = sum_i conj(K_i) M_i.

        The first two splits are quadratic and stay in the Fourier domain: M_1 vanishes except at LR positions, M_2 except in
        the coefficients that the MSI sees. Only the differences need A and their part of G in the spatial domain.

        Args:
            lr_hsi: Y (bands, h, w); its pixels lie at HR positions 0, ratio, ...
            msi: U^T Z (k, H, W), where R E = U diag(singular) in its first k columns and 0 in the others.
            basis: E (bands, p).
            singular: (k,).
            psf: (l, l).

        Returns:
            (p, H, W).
        """
        (rows, columns), (h, w) = msi.shape[1:], lr_hsi.shape[1:]
        half = columns // 2 + 1
        blur = transfer(psf, (rows, columns))[:, :half]
        energy = [2 - 2 * torch.cos(2 * torch.pi * torch.arange(n).to(psf) / n) for n in (rows, columns)]
        weight = -1 / (blur.abs().square() + 1 + energy[0][:, None] + energy[1][:half])

        gram = basis.T @ basis
        ridge = torch.linalg.inv(gram + self.mu * torch.eye(len(gram)).to(gram))
        lr_gain = (ridge @ gram).to(blur.dtype)
        lr_target = rfft2(torch.einsum("pq,bq,bxy->pxy", ridge, basis, lr_hsi))
        msi_gain = (self.lambda_m * singular / (self.lambda_m * singular.square() + self.mu))[:, None, None]
        seen, singular, msi_target = len(msi), singular[:, None, None], msi_gain * rfft2(msi)

        spectrum = blur.new_zeros(len(gram), rows, half)  # A
        total = torch.zeros_like(spectrum)
        lr_multiplier = torch.zeros_like(lr_target)
        msi_multiplier = torch.zeros_like(msi_target)
        differences = psf.new_zeros(2, len(gram), rows, columns)  # N_3 and N_4, then M_3 and M_4
        limit = self.lambda_phi / self.mu
        for _ in range(self.iterations - 1):
            coefficients = inverse_rfft2(spectrum, columns)
            for axis, part in enumerate(differences, 1):
                part += coefficients
                for before, after in _pairs(axis):
                    part[before] -= coefficients[after]
            norm = torch.zeros_like(coefficients[0])
            for image in differences.flatten(0, 1):  # one after the other: sums over the outer dimension take far longer
                norm.addcmul_(image, image)
            norm.sqrt_()
            differences *= torch.where(norm > limit, limit / norm, 1.0)
            torch.add(*differences, out=coefficients)
            for axis, part in enumerate(differences, 1):
                for before, after in _pairs(axis):
                    coefficients[after] -= part[before]
            back = rfft2(coefficients)

            msi_multiplier = msi_gain * singular * (spectrum[:seen] + msi_multiplier) - msi_target
            back[:seen] += msi_multiplier

            wanted = fold(spectrum, blur, columns, rows // h) + lr_multiplier
            lr_multiplier = (lr_gain @ wanted.flatten(1)).unflatten(1, wanted.shape[1:]) - lr_target
            add_spread(back, lr_multiplier, blur.conj(), w)

            total += back
            spectrum = back.add_(total).mul_(weight)
        return inverse_rfft2(spectrum, columns)


def _pairs(axis: int) -> tuple[tuple[tuple[slice, ...], tuple[slice, ...]], ...]:
    """Where in (p, H, W) the first and the second pixel of each circular difference along an axis lie: views, not copies."""
    ahead = (slice(None),) * axis
    return ((*ahead, slice(-1)), (*ahead, slice(1, None))), ((*ahead, slice(-1, None)), (*ahead, slice(1)))


registered = partial(
    register,
    family="classical",
    paper="Simões, Bioucas-Dias, Almeida, Chanussot, A convex formulation for hyperspectral image superresolution, "
    "IEEE TGRS 2015",
    year=2015,
    fidelity="reference",
    source="ricardoborsoi/FuVarRelease@2164cd87, utils/HSMSFusionToolbox/Methods/HySure",
)


@registered("hysure", told="known", note="Told PSF, SRF and phase; a basis of 30 VCA endmembers, as in the toolbox.")
def hysure(
    psf: Tensor | None = None,
    srf: Tensor | None = None,
    phase: int | None = None,
    mode: str = "known",
    aligned: bool = False,
    endmembers: int = 30,
    basis: str = "vca",
    lambda_phi: float = 1e-3,
    lambda_m: float = 1.0,
    mu: float = 0.05,
    iterations: int = 200,
    seed: int = 0,
) -> HySure:
    """Build it; for the arguments see :class:`HySure`.

    Raises:
        MethodError: unknown mode or basis, or responses missing in mode "known".
    """
    if basis not in ("vca", "svd"):
        raise MethodError(f"hysure: basis '{basis}'; choices: vca, svd")
    known = told_responses("hysure", mode, psf, srf, phase)
    return HySure(known, aligned, endmembers, basis, lambda_phi, lambda_m, mu, iterations, seed)


@registered("hysure-blind", told="blind",
            note="Estimates PSF and SRF; for even ratios its PSF lies one pixel off, as in the toolbox.")
def hysure_blind(
    aligned: bool = False,
    endmembers: int = 30,
    basis: str = "vca",
    lambda_phi: float = 1e-3,
    lambda_m: float = 1.0,
    mu: float = 0.05,
    iterations: int = 200,
    seed: int = 0,
) -> HySure:
    """Build :func:`hysure` in mode "blind"; for the arguments see :class:`HySure`."""
    return hysure(mode="blind", aligned=aligned, endmembers=endmembers, basis=basis, lambda_phi=lambda_phi, lambda_m=lambda_m,
                  mu=mu, iterations=iterations, seed=seed)
