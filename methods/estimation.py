"""Spectral responses and PSF estimated from the observed pair, for methods and protocols that are not told them.

All compare two LR-MSIs: the LR-HSI seen through the responses, the HR-MSI through the PSF. ``ESTIMATORS`` names them; each is
called ``(lr_hsi (B, bands, h, w), hr_msi (B, msi_bands, H, W), phase)``, has options of its own and returns
:class:`Responses` in float64 on the device of the images.

Sources: "nonnegative" and "hysure": toolbox of Yokoya et al., IEEE GRSM 2017, as mirrored in ricardoborsoi/FuVarRelease
@ 2164cd87, ``utils/HSMSFusionToolbox``. "l1": Zhu et al., "Self-learning hyperspectral and multispectral image fusion via
adaptive residual guided subspace diffusion model", CVPR 2025, Zhu1116/ARGS-Diff @ e1c460aa. "parametric": ours; what it builds
on says :mod:`methods.parametric`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from methods.parametric import blurred, fit_psf, fit_srf, kernels, levels_of, msi_level, nonnegative
from methods.registry import MethodError
from methods.responses import FWHM, gaussian_decimate, gaussian_psf
from methods.unmixing import principal_axes


@dataclass(frozen=True)
class Responses:
    """What was estimated from each image of a batch: ``srf @ lr_hsi + offset`` meets the HR-MSI blurred and decimated.

    Args:
        srf: (B, msi_bands, bands).
        offset: (B, msi_bands); zero unless estimated.
        psf: (B, k, k), centre at index ((k - 1) // 2, (k - 1) // 2), sums to 1.
        phase: 0-based index of the first HR sample that decimation keeps, as the PSF sees it.
    """

    srf: Tensor
    offset: Tensor
    psf: Tensor
    phase: int


def estimate_srf(lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor]:
    """Nonnegative responses and one constant for each MSI band, by least squares at LR (the toolbox's "estR").

    ``min || srf Y + offset - G(Z) ||`` with ``srf >= 0`` and a free offset; G is :func:`gaussian_decimate`. Noise-free
    spectra have fewer dimensions than bands: then other responses may fit as well, and one of them is returned.

    Args:
        lr_hsi: Y (B, bands, h, w).
        hr_msi: Z (B, msi_bands, H, W), H = ratio * h.

    Returns:
        srf (B, msi_bands, bands) and offset (B, msi_bands), float64, on the device of ``lr_hsi``. Rows do not sum to 1.

    Raises:
        MethodError: sizes that are not multiples, or least squares that do not converge.
    """
    lr_msi = gaussian_decimate(hr_msi.double(), ratio_of(lr_hsi, hr_msi)).flatten(2)
    spectra = lr_hsi.double().flatten(2)
    # A free constant is what centring leaves out; the triangular factor stands for all pixels in the least squares.
    mean, target_mean = spectra.mean(2), lr_msi.mean(2)
    q, r = torch.linalg.qr((spectra - mean[..., None]).mT)
    target = q.mT @ (lr_msi - target_mean[..., None]).mT  # (B, min(n, bands), msi_bands)
    srf = torch.stack([nonnegative(a, b) for a, b in zip(r, target, strict=True)])
    return srf, target_mean - (srf @ mean[..., None])[..., 0]


def remove_offset(hr_msi: Tensor, offset: Tensor) -> Tensor:
    """MSI (B, msi_bands, H, W) without the ``offset`` (B, msi_bands) of :func:`estimate_srf`, cut off at 0."""
    return (hr_msi - offset[..., None, None]).clamp(min=0)


def estimate_nonnegative(lr_hsi: Tensor, hr_msi: Tensor, phase: int | None = None) -> Responses:
    """:func:`estimate_srf`, with the PSF that it assumes, not estimates: that of :func:`gaussian_decimate`.

    ``phase`` is ignored: whatever it is, LR pixels are taken to lie on the centres of their blocks.
    """
    srf, offset = estimate_srf(lr_hsi, hr_msi)
    ratio = ratio_of(lr_hsi, hr_msi)
    psf = gaussian_psf(2 * ratio - ratio % 2, ratio / FWHM).to(srf)
    return Responses(srf, offset, psf.expand(len(srf), -1, -1), (ratio - 1) // 2)


def estimate_hysure(
    lr_hsi: Tensor,
    hr_msi: Tensor,
    phase: int | None = None,
    *,
    endmembers: int = 30,
    lambda_r: float = 10.0,
    lambda_b: float = 10.0,
) -> Responses:
    """Smooth responses and a smooth PSF of side 2 ratio - 1, both by ridge regression, as HySure does it.

    Responses come from images so blurred that the PSF hardly matters, the PSF then from MSI patches and the LR spectra seen
    through them. Simões et al., IEEE TGRS 53(6):3373-3388, 2015, sec. IV; every HSI band may serve every MSI band.

    Args:
        lr_hsi: (B, bands, h, w).
        hr_msi: (B, msi_bands, H, W).
        phase: 0-based index of the first HR sample that decimation keeps; None: the centre of the block.
        endmembers: dimensions of the subspace in which the LR-HSI is denoised before the PSF is estimated.
        lambda_r: weight of differences between neighbouring bands; images are scaled to a maximum of 1.
        lambda_b: weight of differences between neighbouring samples of the PSF.

    Returns:
        float64. Responses may be negative; they are divided by the sum of the PSF before its normalisation.

    Raises:
        MethodError: an image without any positive value, or too small for the PSF.
    """
    ratio, phase = _geometry(lr_hsi, hr_msi, phase)
    if min(image.flatten(1).amax(1).min() for image in (lr_hsi, hr_msi)) <= 0:
        raise MethodError("an image has no positive value: no response can be estimated from it")
    pairs = zip(lr_hsi.double(), hr_msi.double(), strict=True)
    found = [_hysure_image(y, z, ratio, phase, endmembers, lambda_r, lambda_b) for y, z in pairs]
    srf, psf = (torch.stack(parts) for parts in zip(*found))
    return Responses(srf, torch.zeros_like(srf[..., 0]), psf, phase)


def estimate_l1(
    lr_hsi: Tensor,
    hr_msi: Tensor,
    phase: int | None = None,
    *,
    psf: Tensor | None = None,
    iterations: int = 3000,
    rate: float = 5e-5,
    tangent: bool = True,
) -> Responses:
    """Nonnegative responses that sum to 1, and such a PSF of side 2 ratio - 1 if none is given, by Adam on the L1 distance.

    From a uniform start; after each step negative values become 0 and sums 1. Only LR pixels whose PSF lies inside the
    image count: the description is silent on borders.

    Args:
        lr_hsi: (B, bands, h, w).
        hr_msi: (B, msi_bands, H, W).
        phase: 0-based index of the first HR sample that decimation keeps; None: the centre of the block.
        psf: (k, k) where it is known.
        iterations: of Adam.
        rate: of Adam; no entry moves much farther than it times the iterations, here 0.15.
        tangent: follow the gradient along the constraint on the sum only. False: all of it, as described. Where one image
            is brighter than the other, Adam then moves all entries of a row alike, the sum is restored, and nothing
            has moved: most rows end as uniform as they began.

    Returns:
        float64.

    Raises:
        MethodError: an image too small for the PSF.
    """
    ratio, phase = _geometry(lr_hsi, hr_msi, phase)
    side = len(psf) if psf is not None else 2 * ratio - 1
    spectra, patches = _facing(lr_hsi.double(), hr_msi.double(), side, ratio, phase)
    batch, msi_bands = patches.shape[:2]
    srf = spectra.new_full((batch, msi_bands, spectra.shape[1]), 1 / spectra.shape[1])
    kernel = spectra.new_full((batch, 1, side**2, 1), 1 / side**2)
    free = [srf, kernel]
    if psf is not None:
        kernel[:] = psf.to(kernel).reshape(-1, 1)
        patches, kernel = patches @ kernel, kernel.new_ones(batch, 1, 1, 1)  # the blurred MSI is all that it takes
        free = [srf]
    adam = torch.optim.Adam(free, rate)
    for _ in range(iterations):
        sign = (srf @ spectra - (patches @ kernel)[..., 0]).sign() / (msi_bands * spectra.shape[2])
        gradients = sign @ spectra.mT, -(patches.mT @ sign[..., None]).sum(1, keepdim=True)
        for response, gradient in zip(free, gradients):
            response.grad = gradient - gradient.mean(2, keepdim=True) if tangent else gradient
        adam.step()
        for response in free:
            response.clamp_(min=0)
            response /= response.sum(2, keepdim=True)
    found = psf.to(srf).expand(batch, -1, -1) if psf is not None else kernel.reshape(batch, side, side)
    return Responses(srf, torch.zeros_like(srf[..., 0]), found, phase)


def estimate_parametric(lr_hsi: Tensor, hr_msi: Tensor, phase: int | None = None) -> Responses:
    """Nonnegative smooth responses, and a Gaussian PSF, or a box blurred by one, of unknown widths and place.

    The PSF first, by variable projection, then responses from the LR-HSI and the HR-MSI seen through it; LR pixels whose PSF
    leaves the image do not count. See :mod:`methods.parametric`, also for the sources. Images may differ in scale and by a
    constant for each MSI band: rows of the SRF have the sum that brings the images together.

    Args:
        lr_hsi: (B, bands, h, w).
        hr_msi: (B, msi_bands, H, W).
        phase: 0-based index of the first HR sample that decimation keeps; None: the one nearest to where the PSFs of the batch
            lie. What remains of a shift stands in the PSF.

    Returns:
        float64; psf of side 8 ratio + 1, zero beyond three standard deviations.

    Raises:
        MethodError: sizes that are not multiples, or least squares that do not converge.
    """
    ratio = ratio_of(lr_hsi, hr_msi)
    y, z = lr_hsi.double(), hr_msi.double()
    levels = levels_of(y)
    shape = fit_psf(y, z, ratio, levels, y.new_zeros(len(y)))
    first = zip(y, z, blurred(z, shape, ratio), levels, kernels(shape, ratio, 0))
    noise = [msi_level(image, msi, *fit_srf(image, low, level, 0), psf, ratio, level.noise)
             for image, msi, low, level, psf in first]
    shape = fit_psf(y, z, ratio, levels, y.new_tensor(noise), shape)
    found = [fit_srf(*each) for each in zip(y, blurred(z, shape, ratio), levels)]
    if phase is None:
        phase = min(max(round(float(shape.place.mean())), 0), ratio - 1)
    srf, offset = (torch.stack(parts) for parts in zip(*found))
    return Responses(srf, offset, kernels(shape, ratio, phase), phase)


ESTIMATORS = {"nonnegative": estimate_nonnegative, "hysure": estimate_hysure, "l1": estimate_l1,
              "parametric": estimate_parametric}
DEFAULT = "parametric"  # of this suite's own methods and commands; methods of papers have that of their release


def ratio_of(lr_hsi: Tensor, hr_msi: Tensor) -> int:
    """HR pixels per LR pixel along one side.

    Raises:
        MethodError: no whole number, or not the same one along both sides.
    """
    (h, w), (rows, columns) = lr_hsi.shape[-2:], hr_msi.shape[-2:]
    if rows % h or columns % w or rows // h != columns // w:
        raise MethodError(f"HR size {rows} x {columns} is not one whole multiple of LR size {h} x {w}; crop the images")
    return rows // h


def _geometry(lr_hsi: Tensor, hr_msi: Tensor, phase: int | None) -> tuple[int, int]:
    """Ratio, and the phase if none is given."""
    ratio = ratio_of(lr_hsi, hr_msi)
    return ratio, (ratio - 1) // 2 if phase is None else phase


def _hysure_image(
    y: Tensor, z: Tensor, ratio: int, phase: int, endmembers: int, lambda_r: float, lambda_b: float
) -> tuple[Tensor, Tensor]:
    """One image, Y (bands, h, w) and Z (msi_bands, H, W): srf (msi_bands, bands) and psf (k, k)."""
    side = 2 * ratio - 1
    y, z = y / y.max(), z / y.max()
    spectra, patches = (faced[0] for faced in _facing(y[None], z[None], side, ratio, phase))
    blurred_y = _box(y, (ratio + 8) // (2 * ratio)).flatten(1)  # a margin of round(4 / ratio) LR pixels, of 4 HR pixels
    blurred_z = _box(z, 4)[:, phase::ratio, phase::ratio].flatten(1)
    step = torch.diff(torch.eye(len(y), dtype=y.dtype, device=y.device), dim=0)
    srf = torch.linalg.solve(blurred_y @ blurred_y.T + lambda_r * step.T @ step, blurred_y @ blurred_z.T).T
    axes = principal_axes(y.flatten(1), min(endmembers, len(y)))
    target = (srf @ axes @ (axes.T @ spectra)).flatten()
    patches = patches.flatten(0, 1)
    eye = torch.eye(side, dtype=y.dtype, device=y.device)
    step = eye - eye.roll(1, 0)  # circular, as in the release
    rough = torch.kron(step.T @ step, eye) + torch.kron(eye, step.T @ step)
    psf = torch.linalg.solve(patches.T @ patches + lambda_b * rough, patches.T @ target).reshape(side, side)
    return srf / psf.sum(), psf / psf.sum()


def _box(bands: Tensor, margin: int) -> Tensor:
    """Mean over a square window, circular: (k, rows, columns)."""
    return avg_pool2d(pad(bands[None], (margin,) * 4, mode="circular"), 2 * margin + 1, stride=1)[0]


def _facing(lr_hsi: Tensor, hr_msi: Tensor, side: int, ratio: int, phase: int) -> tuple[Tensor, Tensor]:
    """The LR pixels whose window of ``side`` lies inside the HR image, and those windows.

    (B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, n), (B, msi_bands, n, side**2); centre at (side - 1) // 2.
    """
    margin = (side - 1) // 2 - phase
    first = max(0, -(-margin // ratio))
    start = ratio * first - margin
    if min(hr_msi.shape[-2:]) < start + side:
        raise MethodError(f"no LR pixel has a {side} x {side} window inside the HR image {tuple(hr_msi.shape[-2:])}")
    windows = hr_msi[..., start:, start:].unfold(2, side, ratio).unfold(3, side, ratio)
    rows, columns = windows.shape[2:4]
    spectra = lr_hsi[..., first : first + rows, first : first + columns]
    return spectra.flatten(2), windows.flatten(4).flatten(2, 3)
