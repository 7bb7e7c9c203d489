"""The linear model behind model-based fusion: what a method is told of it, transfer functions, Gaussian decimation.

An LR-HSI is the HR-HSI correlated with a PSF and decimated from ``phase`` on, an HR-MSI its product with the SRF.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from methods.registry import TOLD, MethodError

FWHM = 2.35482  # of a Gaussian, in standard deviations, as the toolbox rounds it


class Told(NamedTuple):
    """What a method is told about the two sensors: the names are those of :func:`methods.create`.

    Args:
        psf: (k, k), sums to 1, in HR pixels; correlated with the HR-HSI.
        srf: (msi_bands, bands), rows of the spectral response.
        phase: 0-based index of the first HR sample that decimation keeps.
    """

    psf: Tensor
    srf: Tensor
    phase: int


def told_responses(name: str, mode: str, psf: Tensor | None = None, srf: Tensor | None = None, phase: int | None = None,
                   needs: tuple[str, ...] = Told._fields) -> Told | None:
    """What the builder of method ``name`` was told, for ``mode="known"``; None for ``"blind"``.

    Args:
        name: of the method, for the errors.
        mode: ``"known"`` or ``"blind"``.
        psf: (k, k).
        srf: (msi_bands, bands).
        phase: 0-based index of the first HR sample that decimation keeps.
        needs: which of the three the method uses; the others may be None, also in what is returned.

    Raises:
        MethodError: another mode, or something that the method needs is missing.
    """
    if mode not in TOLD:
        raise MethodError(f"{name}: mode '{mode}'; choices: {', '.join(TOLD)}")
    if mode == "blind":
        return None
    given = {"psf": psf, "srf": srf, "phase": phase}
    missing = [each for each in needs if given[each] is None]
    if missing:
        raise MethodError(f"{name}: mode 'known' needs {', '.join(needs)} and was not told {', '.join(missing)}; "
                          "give them or take mode='blind'")
    return Told(psf, srf, phase)  # type: ignore[arg-type]  # None is left only where it is not needed


def gaussian_psf(size: int, sigma: float) -> Tensor:
    """Sampled Gaussian of ``sigma`` pixels centred on its ``size`` x ``size`` support; float64, sums to 1."""
    line = _gaussian(size, sigma)
    return line[:, None] * line


def shifted_psf(side: int, sigmas: tuple[float, float], at: tuple[float, float]) -> Tensor:
    """A Gaussian (side, side) of ``sigmas`` pixels down and right, its centre ``at`` pixels from the support's; sums to 1."""
    x = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    rows, columns = ((-0.5 * ((x - place) / sigma).square()).exp() for sigma, place in zip(sigmas, at))
    return (rows / rows.sum())[:, None] * (columns / columns.sum())


def transfer(psf: Tensor, size: tuple[int, int]) -> Tensor:
    """What circular correlation with a PSF multiplies a DFT with.

    Args:
        psf: (k, l), centre at index ((k - 1) // 2, (l - 1) // 2); may be larger than the image, around which it then wraps.
        size: (H, W) of the image.

    Returns:
        (H, W), complex; ``ifft2(fft2(image) * transfer)`` is the blurred image.
    """
    rows, columns = ((torch.arange(n) - (n - 1) // 2) % m for n, m in zip(psf.shape, size))
    kernel = psf.new_zeros(size).index_put_((rows[:, None], columns), psf, accumulate=True)
    return torch.fft.fft2(kernel).conj()


def gaussian_decimate(images: Tensor, ratio: int) -> Tensor:
    """The toolbox's decimation ("G-down"): a Gaussian whose full width at half maximum is ``ratio``.

    An LR pixel is the weighted mean of the window of side 2 ratio (odd ratios: 2 ratio - 1) around its block of side
    ratio; on the outer frame, where that window leaves the image, of the block alone. LR pixels lie on block centres.

    Args:
        images: (B, C, H, W).
        ratio: HR pixels per LR pixel along one side; it divides H and W.

    Returns:
        (B, C, H / ratio, W / ratio), dtype as given; float64 inside.

    Source:
        ricardoborsoi/FuVarRelease@2164cd87, ``utils/HSMSFusionToolbox`` (Yokoya et al., IEEE GRSM 2017).
    """
    low = [n // ratio for n in images.shape[-2:]]
    exact = images.double()

    def weighted(margin: int) -> Tensor:
        line = _gaussian(ratio + 2 * margin, ratio / FWHM)
        rows, columns = (_windows(line, n, ratio, margin).to(exact.device) for n in low)
        return rows @ exact @ columns.T

    result = weighted(0)
    if min(low) > 2:
        inner = (..., slice(1, -1), slice(1, -1))
        result[inner] = weighted(ratio // 2)[inner]
    return result.to(images.dtype)


def _gaussian(size: int, sigma: float) -> Tensor:
    """(size,) float64, sums to 1, symmetric about its middle."""
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    line = (-0.5 * (x / sigma).square()).exp()
    return line / line.sum()


def _windows(line: Tensor, blocks: int, ratio: int, margin: int) -> Tensor:
    """(blocks, blocks * ratio): ``line`` from ``margin`` samples before each block on; what leaves the image is cut."""
    place = torch.arange(blocks)[:, None] * ratio - margin + torch.arange(len(line))
    inside = (place >= 0) & (place < blocks * ratio)
    return line.new_zeros(blocks, blocks * ratio).scatter_add_(1, place.clamp(0, blocks * ratio - 1), line * inside)
