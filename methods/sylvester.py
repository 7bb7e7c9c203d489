"""Closed-form fusion in a spectral subspace: the fast solver of the Sylvester equation that the linear model leads to.

Wei, Dobigeon, Tourneret, "Fast fusion of multi-band images based on solving a Sylvester equation", IEEE TIP
24(11):4109-4121, 2015; the conditioning of its last step as in the robust form (Wei, Dobigeon, Tourneret, Bioucas-Dias,
Godsill, "R-FUSE", IEEE SPL 23(11):1632-1636, 2016). Compared with qw245/BlindFuse @ 167c8c8d, ``func_CloseForm``.

Symbols: Y LR bands, Z MSI bands, E basis of the bands, A its coefficients, R SRF, K PSF, S decimation by r. A minimises

    ||Y - E A K S||^2 + ||Z - R E A||^2 + tr (A - M)^T P (A - M).

Departure: E has orthonormal columns. Then one symmetric eigenproblem, (R E)^T R E + P = V diag(l) V^T, splits the
coefficients into axes that do not interact, where the release takes that of an unsymmetric product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.responses import transfer


class Sylvester:
    """The solver for one image; what does not depend on the prior mean M is computed once.

    Decimation keeps the first HR pixel: roll Z by minus the phase beforehand, and the result back.

    Attributes:
        basis: (bands, p), ``E V``: the basis in which :meth:`solve` works, orthonormal columns.
    """

    def __init__(self, lr_hsi: Tensor, hr_msi: Tensor, basis: Tensor, srf: Tensor, psf: Tensor, ratio: int,
                 precision: Tensor) -> None:
        """Prepare, all in float64 on one device.

        Args:
            lr_hsi: Y (bands, h, w).
            hr_msi: Z (msi_bands, H, W), H = ratio * h.
            basis: E (bands, p), orthonormal columns.
            srf: R (msi_bands, bands).
            psf: K (k, k), centre at (k - 1) // 2, correlated with circular borders.
            ratio: r.
            precision: P (p, p), symmetric, positive definite.
        """
        self.size, self.ratio = (hr_msi.shape[-2], hr_msi.shape[-1]), ratio
        seen = srf @ basis
        weight, axes = torch.linalg.eigh(seen.T @ seen + precision)
        # Rounding may turn the weight of an axis that the MSI does not see negative: no less than P gives it.
        self.weight = weight.clamp(min=torch.linalg.eigvalsh(precision)[0])[:, None, None]
        self.basis = basis @ axes
        blur = transfer(psf, self.size)
        self.blur = blur[:, : self.size[1] // 2 + 1]
        self.gain = 1 / (fold(self.blur, self.blur.conj(), self.size[1], ratio).real + self.weight)
        self.lr = self.weight * torch.fft.rfft2(_mix(self.basis.T, lr_hsi))
        self.msi = _mix((seen @ axes).T, torch.fft.rfft2(hr_msi))

    def solve(self, pull: Tensor) -> Tensor:
        """The coefficients, in the axes of :attr:`basis`.

        Args:
            pull: (p, H, W), the prior's part of the right-hand side in the same axes: ``V^T P M``.

        Returns:
            (p, H, W); ``basis`` times it is the fused image.
        """
        right = torch.fft.rfft2(pull).add_(self.msi)
        # What the LR data still miss once the right-hand side has had its say; l multiplies Y, so no axis loses digits.
        missing = fold(right, self.blur, self.size[1], self.ratio).neg_().add_(self.lr).mul_(self.gain)
        add_spread(right, missing, self.blur.conj(), self.size[1] // self.ratio)
        return inverse_rfft2(right, self.size[1]).div_(self.weight)


def fold(spectrum: Tensor, factor: Tensor, width: int, ratio: int) -> Tensor:
    """The spectrum of a real image, filtered and decimated: the mean of the r^2 LR spectra that come to lie on each other.

    Args:
        spectrum: (..., H, W // 2 + 1).
        factor: (H, W // 2 + 1), of the filter.
        width: W.
        ratio: r; it divides H and W.

    Returns:
        (..., h, w // 2 + 1).
    """
    parts = spectrum.unflatten(-2, (ratio, -1)).unbind(-3)
    factors = factor.unflatten(-2, (ratio, -1)).unbind(-3)
    rows = parts[0] * factors[0]
    for part, its_factor in zip(parts[1:], factors[1:]):  # never a product of the size of the spectrum
        rows.addcmul_(part, its_factor)
    blocks = _whole(rows, width).unflatten(-1, (ratio, -1))
    return blocks[..., : blocks.shape[-1] // 2 + 1].sum(-2).div_(ratio**2)


def add_spread(total: Tensor, spectrum: Tensor, factor: Tensor, width: int) -> None:
    """Add to a spectrum that of an LR image filled up with zeros and filtered; the adjoint of :func:`fold` but for r^2.

    Args:
        total: (..., H, W // 2 + 1), changed in place.
        spectrum: (..., h, w // 2 + 1).
        factor: (H, W // 2 + 1), of the filter.
        width: w.
    """
    (height, half), repeats = (spectrum.shape[-2], total.shape[-1]), -(-total.shape[-1] // width)
    repeated = _whole(spectrum, width).tile(repeats)[..., None, :, :half]
    total.unflatten(-2, (-1, height)).addcmul_(repeated, factor.unflatten(-2, (-1, height)))


def inverse_rfft2(spectrum: Tensor, width: int) -> Tensor:
    """(..., H, W // 2 + 1) -> (..., H, W), ``width`` is W. In two steps, which on a CPU take half the time of ``irfft2``."""
    return torch.fft.irfft(torch.fft.ifft(spectrum, dim=-2), width, dim=-1)


def signal_axes(pixels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Leading eigenvectors of the second moment of the pixels, the mean left in.

    Args:
        pixels: (bands, n), float64.
        size: how many at most; axes without any signal but rounding are not among them.

    Returns:
        (bands, p) orthonormal columns and (p,) eigenvalues, both by falling eigenvalue; p = 0 where all pixels are zero.
    """
    variance, axes = torch.linalg.eigh(pixels @ pixels.T / pixels.shape[1])
    variance, axes = variance.flip(0)[:size], axes.flip(1)[:, :size]
    kept = variance > len(pixels) * torch.finfo(pixels.dtype).eps * variance[0]
    return axes[:, kept], variance[kept]


def _mix(matrix: Tensor, images: Tensor) -> Tensor:
    """Linear combinations of images: (q, p), (p, H, W) -> (q, H, W)."""
    return (matrix.to(images.dtype) @ images.flatten(1)).unflatten(1, images.shape[1:])


def _whole(half: Tensor, width: int) -> Tensor:
    """All columns of the spectrum of a real image from the first half: (..., H, width // 2 + 1) -> (..., H, width)."""
    rows = -torch.arange(half.shape[-2], device=half.device) % half.shape[-2]
    mirrored = half[..., rows, 1 : (width + 1) // 2].flip(-1).conj()
    return torch.cat([half, mirrored], -1)
