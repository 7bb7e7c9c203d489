"""SFIM-HS and GLP-HS: pansharpening by synthetic bands, one high-resolution band made of the MSI for every HSI band.

Hypersharpening: Selva, Aiazzi, Butera, Chiarantini, Baronti, "Hyper-sharpening: a first approach on SIM-GA data", IEEE
JSTARS 8(6):3008-3024, 2015. SFIM: Liu, IJRS 21(18):3461-3472, 2000. MTF-GLP: Aiazzi, Alparone, Baronti, Garzelli, Selva,
PE&RS 72(5):591-596, 2006. Adapted as in Yokoya, Grohnfeldt, Chanussot, IEEE GRSM 5(2):29-56, 2017; toolbox as mirrored in
ricardoborsoi/FuVarRelease @ 2164cd87, ``Methods/SFIM`` and ``Methods/GLP`` (there the branch "GaussKernel").

Symbols: Y LR bands, Z MSI bands, L those at LR; C the coefficients (bands, msi_bands + 1) of the synthetic bands, which
are ``P = C [Z 1]`` at HR and ``p = C [L 1]`` at LR. Blur, interpolation and C act on different axes and commute, so the
low-pass of P is taken of the few MSI bands and not of the many P.

Departures: where the toolbox divides by zero (a dead band) the factor is 1 (SFIM) or the gain 0 (GLP). Dependent or
constant MSI bands get the coefficients of smallest norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from methods.estimation import ratio_of
from methods.gsa import FLAT, _best_correlated
from methods.registry import Method, MethodError, register
from methods.resample import resize
from methods.responses import gaussian_decimate

MODES = {1: "the best correlated MSI band", 2: "least squares", 3: "nonnegative least squares"}
TAPS = 45  # of the low-pass filter of GLP
TOOLBOX = "ricardoborsoi/FuVarRelease@2164cd87, utils/HSMSFusionToolbox/Methods"


class HyperSharpening:
    """A pansharpening rule applied to a synthetic HR band for every HSI band. No parameters."""

    card: Method

    def __init__(self, rule: Callable[[Tensor, Tensor, Tensor], Tensor], mode: int = 2, denoise: bool = False) -> None:
        """Choose the rule.

        Args:
            rule: ``(Y (bands, h, w), Z (msi_bands, H, W), C (bands, msi_bands + 1)) -> (bands, H, W)``, float64.
            mode: of :func:`synthetic_coefficients`.
            denoise: pass the result through :func:`denoise_bands`.

        Raises:
            MethodError: unknown mode.
        """
        if mode not in MODES:
            raise MethodError(f"mode {mode!r}; choices: " + ", ".join(f"{key} ({value})" for key, value in MODES.items()))
        self.rule, self.mode, self.denoise = rule, mode, denoise

    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Fuse, in float64 inside.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W).

        Returns:
            (B, bands, H, W), dtype of ``lr_hsi``.

        Raises:
            MethodError: sizes that are not multiples.
        """
        ratio_of(lr_hsi, hr_msi)
        # Rounding of the inputs sets which MSI bands count as dependent; it is lost once they are float64.
        precision = max(torch.finfo(image.dtype).eps for image in (lr_hsi, hr_msi))
        images = []
        for y, z in zip(lr_hsi.double(), hr_msi.double(), strict=True):
            lr_msi = resize(z[None], y.shape[-2:], "linear")[0]
            fused = self.rule(y, z, synthetic_coefficients(y.flatten(1), lr_msi.flatten(1), self.mode, precision))
            images.append(denoise_bands(fused) if self.denoise else fused)
        return torch.stack(images).to(lr_hsi.dtype)


def synthetic_coefficients(lr_hsi: Tensor, lr_msi: Tensor, mode: int, precision: float) -> Tensor:
    """What makes an HSI band of the MSI bands and a constant.

    Args:
        lr_hsi: Y (bands, n), float64.
        lr_msi: L (msi_bands, n), float64.
        mode: a key of :data:`MODES`. 1 takes the MSI band as it is; in 3 the constant is nonnegative, too.
        precision: relative, of the images before they were float64.

    Returns:
        C (bands, msi_bands + 1), the constant last.
    """
    count = len(lr_msi)
    if mode == 1:
        return torch.nn.functional.one_hot(_best_correlated(lr_hsi, lr_msi), count + 1).to(lr_hsi)
    if mode == 3:  # a triangular factor stands for all pixels
        q, r = torch.linalg.qr(_with_ones(lr_msi).T)
        matrix, targets = r.cpu().numpy(), (lr_hsi @ q).cpu().numpy()
        return torch.from_numpy(np.stack([nnls(matrix, target)[0] for target in targets])).to(lr_hsi)
    mean, mean_msi = lr_hsi.mean(1, keepdim=True), lr_msi.mean(1, keepdim=True)
    tolerance = 4 * precision + max(lr_msi.shape) * torch.finfo(lr_msi.dtype).eps
    slopes = (lr_hsi - mean) @ torch.linalg.pinv(_without_rounding(lr_msi - mean_msi, lr_msi), rtol=tolerance)
    return torch.cat([slopes, mean - slopes @ mean_msi], 1)


def denoise_bands(cube: Tensor) -> Tensor:
    """Replace every band by its least-squares prediction from all the others and a constant.

    Part of the toolbox's demonstration, not of the methods it is applied to. With G the covariance of the bands and x a
    centred pixel, the residual of band i is ``(G^-1 x)_i / (G^-1)_ii``: one inverse serves all bands.

    Args:
        cube: (bands, H, W), float64.

    Returns:
        (bands, H, W). Bands that depend on each other but for rounding stay as they are.

    Source:
        Roger, "Principal components transform with simple, automatic noise adjustment", IJRS 17(14):2719-2727, 1996.
    """
    pixels = cube.flatten(1)
    mean = pixels.mean(1, keepdim=True)
    centred = pixels - mean
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    # Raised to the level of rounding, vanishing eigenvalues make the residual vanish.
    floor = len(cube) * torch.finfo(cube.dtype).eps * values[-1]
    if floor <= 0:
        return cube
    inverse = vectors / values.clamp(min=floor) @ vectors.T
    return (pixels - inverse @ centred / inverse.diagonal()[:, None]).view_as(cube)


# ---- the two rules


def _sfim(lr_hsi: Tensor, hr_msi: Tensor, coefficients: Tensor) -> Tensor:
    """``P Y / p`` with the quotient replicated over the r x r block of each LR pixel, whose edges therefore show."""
    (height, width), (h, w) = hr_msi.shape[-2:], lr_hsi.shape[-2:]
    lr_msi = resize(hr_msi[None], (h, w), "linear")[0]
    smooth = (coefficients @ _with_ones(lr_msi.flatten(1))).view_as(lr_hsi)
    dead = smooth.abs() <= FLAT * lr_hsi.abs().amax((1, 2), keepdim=True)
    quotient = torch.where(dead, 1.0, lr_hsi / smooth)
    sharp = coefficients @ _with_ones(hr_msi.flatten(1))
    blocks = sharp.view(-1, h, height // h, w, width // w) * quotient[:, :, None, :, None]
    return blocks.view(-1, height, width)


def _glp(lr_hsi: Tensor, hr_msi: Tensor, coefficients: Tensor) -> Tensor:
    """``U + g (P - D)``, clipped: D low-pass P, U interpolated Y, g a gain for each band; even ratios: mean of two phases."""
    size = hr_msi.shape[-2:]
    ratio = ratio_of(lr_hsi, hr_msi)
    bands = torch.cat([hr_msi, hr_msi.new_ones(1, *size)])  # [Z 1]
    blurred = gaussian_decimate(bands[None], ratio)[0]
    phases = {(ratio - 1) // 2, ratio // 2}
    ceiling = 2 ** math.sqrt(max(lr_hsi.max().item(), 0))  # odd, but the toolbox's; 2 for an LR-HSI whose maximum is 1
    fused = torch.zeros(len(lr_hsi), *size, dtype=lr_hsi.dtype, device=lr_hsi.device)
    for phase in sorted(phases):
        rows, columns = (_fir_up(n, ratio, phase).to(lr_hsi.device) for n in lr_hsi.shape[-2:])
        smooth = rows @ blurred @ columns.T  # those of which C makes D
        centred = smooth - smooth.mean((1, 2), keepdim=True)
        # cov(U_j, D_j): the interpolation of U is moved to the other factor.
        covariance = lr_hsi.flatten(1) @ (rows.T @ centred @ columns).flatten(1).T
        shared = (coefficients * covariance).sum(1)
        variance = (coefficients @ centred.flatten(1) @ centred.flatten(1).T * coefficients).sum(1)
        flat = variance <= centred[0].numel() * (FLAT * lr_hsi.abs().amax((1, 2))).square()
        gain = torch.where(flat, 0.0, shared / variance)
        detail = (gain[:, None] * coefficients) @ (bands - smooth).flatten(1)
        fused += (rows @ lr_hsi @ columns.T + detail.view_as(fused)).clamp_(0, ceiling) / len(phases)
    return fused


def _fir_up(count: int, ratio: int, phase: int) -> Tensor:
    """(count ratio, count): LR samples on ``phase``, ``phase + ratio``, ... of zeros, low-pass filtered with circular borders.

    The filter is an ideal low-pass that cuts at 1/ratio, under a Hamming window of :data:`TAPS` samples.
    """
    taps = torch.arange(TAPS, dtype=torch.float64) - TAPS // 2
    line = torch.sinc(taps / ratio) * torch.hamming_window(TAPS, periodic=False, dtype=torch.float64)
    line = ratio * line / line.sum()
    place = (phase + ratio * torch.arange(count)[:, None] + taps.long()) % (count * ratio)
    return line.new_zeros(count, count * ratio).scatter_add_(1, place, line.expand(count, -1)).T


def _with_ones(bands: Tensor) -> Tensor:
    """Bands (k, n) and a constant one below: (k + 1, n)."""
    return torch.cat([bands, torch.ones_like(bands[:1])])


def _without_rounding(centred: Tensor, bands: Tensor) -> Tensor:
    """``centred`` (k, n), the rows zero whose ``bands`` are constant but for rounding."""
    flat = centred.square().mean(1, keepdim=True).sqrt() <= FLAT * bands.abs().amax(1, keepdim=True)
    return torch.where(flat, 0.0, centred)


@register(
    "sfim-hs",
    family="classical",
    told="blind",
    paper="Liu, Smoothing filter-based intensity modulation, IJRS 2000; Selva et al., Hyper-sharpening, IEEE JSTARS 2015",
    year=2015,
    fidelity="reference",
    source=f"{TOOLBOX}/SFIM",
    note="Takes LR pixels for block centres, whatever the phase of the data; shows block edges by design.",
)
def sfim_hs(mode: int = 2, denoise: bool = False) -> HyperSharpening:
    """Build it.

    Args:
        mode: how a synthetic band comes about: 1 the best correlated MSI band, 2 least squares, 3 nonnegative ones.
        denoise: pass the result through :func:`denoise_bands`, as the toolbox's demonstration does.
    """
    return HyperSharpening(_sfim, mode, denoise)


@register(
    "glp-hs",
    family="classical",
    told="blind",
    paper="Aiazzi et al., MTF-tailored multiscale fusion, PE&RS 2006; Selva et al., Hyper-sharpening, IEEE JSTARS 2015",
    year=2015,
    fidelity="reference",
    source=f"{TOOLBOX}/GLP",
    note="Takes LR pixels for block centres, whatever the phase of the data.",
)
def glp_hs(mode: int = 2, denoise: bool = False) -> HyperSharpening:
    """Build it; arguments as of :func:`sfim_hs`."""
    return HyperSharpening(_glp, mode, denoise)
