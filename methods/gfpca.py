"""GFPCA, Gram-Schmidt and Brovey: pansharpening with the mean of the MSI bands in the place of a panchromatic image.

GFPCA: Liao et al., "Two-stage fusion of thermal hyperspectral and visible RGB image by PCA and guided filter", WHISPERS
2015. Guided filter: He, Sun, Tang, IEEE TPAMI 35(6):1397-1409, 2013. GS: Laben & Brower, US patent 6011875, 2000. Brovey:
Gillespie, Kahle, Walker, Remote Sensing of Environment 22(3):343-365, 1987. Interpolation and details as in
codegaj/py_pansharpening @ a1bf9ec0, ``methods/GFPCA.py``, ``methods/GS.py`` and ``methods/Brovey.py``.

Symbols: Y LR bands, U those at HR, P the guide or pan (mean of the MSI bands), I the mean of U over bands.

Departures from the repository: the result is neither rounded to 8 bits nor, unless ``clip=True``, cut to [0, 1]; where the
pan is constant the interpolation is returned as it is. The paper filters the first principal components of Y and only
interpolates the others (``components``), the repository filters all. Then the choice of axes does not matter, since the
filter is linear in what it filters: the centred bands are filtered, and no components are computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from methods.estimation import ratio_of
from methods.gsa import FLAT
from methods.registry import Method, MethodError, register
from methods.unmixing import principal_axes

# One side of the low-pass that doubles the size, its centre first.
HALF_FILTER = (0.5, 0.305334091185, 0, -0.072698593239, 0, 0.021809577942, 0, -0.005192756653, 0, 0.000807762146, 0,
               -0.000060081482)
RELEASE = "codegaj/py_pansharpening@a1bf9ec0d4fa5694615ac6e9b7ee61a121fc5145, methods"


class Pansharpening:
    """A pansharpening rule with the mean of the MSI bands as the panchromatic image. No parameters."""

    card: Method

    def __init__(self, rule: Callable[[Tensor, Tensor], Tensor], clip: bool) -> None:
        """Choose ``rule(Y (bands, h, w), P (H, W)) -> (bands, H, W)``, float64; ``clip`` cuts its result to [0, 1]."""
        self.rule, self.clip = rule, clip

    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Fuse, in float64 inside.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W).

        Returns:
            (B, bands, H, W), dtype of ``lr_hsi``.

        Raises:
            MethodError: sizes whose ratio is no power of 2.
        """
        pairs = zip(lr_hsi.double(), hr_msi.double().mean(1), strict=True)
        fused = torch.stack([self.rule(y, pan) for y, pan in pairs])
        return (fused.clamp(0, 1) if self.clip else fused).to(lr_hsi.dtype)


# ---- the three rules


def _gfpca(lr_hsi: Tensor, pan: Tensor, components: int | None, radius: int, eps: float) -> Tensor:
    """Filter the centred bands, or only their share in the leading principal components, guided by the pan."""
    up = _upsampling(lr_hsi, pan)
    mean = lr_hsi.mean((1, 2), keepdim=True)
    centred = lr_hsi - mean
    if components is None:
        return mean + _guided_filter(pan, centred, up, radius, eps)
    axes = principal_axes(centred.flatten(1), min(components, len(lr_hsi)))
    scores = torch.einsum("bk,bhw->khw", axes, centred)
    rest = centred - torch.einsum("bk,khw->bhw", axes, scores)
    sharp = torch.einsum("bk,khw->bhw", axes, _guided_filter(pan, scores, up, radius, eps))
    return mean + _resampled(rest, up) + sharp


def _gram_schmidt(lr_hsi: Tensor, pan: Tensor) -> Tensor:
    """``U_j + cov(I, U_j) / var(I) (P' - I)``, I and the pan P' matched to it without their means."""
    fused = _resampled(lr_hsi, _upsampling(lr_hsi, pan))
    intensity, matched = _matched(fused, pan)
    # The toolbox divides a covariance over N - 1 by a variance over N.
    count = intensity.numel()
    covariance = fused.flatten(1) @ intensity.flatten() / (count - 1)
    gain = torch.where((intensity == 0).all(), 0.0, covariance / intensity.square().mean())
    return fused + gain[:, None, None] * (matched - intensity)


def _brovey(lr_hsi: Tensor, pan: Tensor) -> Tensor:
    """``U_j P' / I``, the pan P' matched to I in mean and standard deviation."""
    fused = _resampled(lr_hsi, _upsampling(lr_hsi, pan))
    intensity, matched = _matched(fused, pan)
    mean = fused.mean()
    return fused * (matched + mean) / (intensity + mean + 1e-8)


def _matched(up: Tensor, pan: Tensor) -> tuple[Tensor, Tensor]:
    """I centred, and the pan centred with its standard deviation: U (bands, H, W), P (H, W) -> two (H, W).

    What is constant but for rounding becomes zero; without a pan of its own, I is returned for the pan.
    """
    intensity, centred = _centred(up.mean(0)), _centred(pan)
    spread = centred.square().mean().sqrt()
    return intensity, torch.where(spread == 0, intensity, centred * (intensity.square().mean().sqrt() / spread))


def _centred(image: Tensor) -> Tensor:
    centred = image - image.mean()
    return torch.where(centred.square().mean().sqrt() <= FLAT * image.abs().max(), 0.0, centred)


# ---- interpolation and guided filter; every step along an axis is a matrix


def _upsampling(lr_hsi: Tensor, pan: Tensor) -> tuple[Tensor, Tensor]:
    """The matrices (H, h) and (W, w) that bring rows and columns of Y to those of the pan."""
    ratio = ratio_of(lr_hsi, pan)
    if ratio & (ratio - 1):
        raise MethodError(f"ratio {ratio}; this interpolation doubles the size again and again: take 2, 4, 8, ...")
    rows, columns = (_repeated_doubling(n, ratio).to(lr_hsi.device) for n in lr_hsi.shape[-2:])
    return rows, columns


def _repeated_doubling(count: int, ratio: int) -> Tensor:
    """(count ratio, count), float64: zeros put between samples and filtered, until the size is right; circular borders.

    The first zeros come before the samples, all later ones behind them: LR sample i lies on ``ratio i + ratio / 2``.
    """
    matrix = torch.eye(count, dtype=torch.float64)
    side = torch.tensor(HALF_FILTER, dtype=torch.float64)
    line = 2 * torch.cat([side.flip(0), side[1:]])
    taps = torch.arange(len(line)) - len(line) // 2
    for stage in range(int(math.log2(ratio))):
        size = len(matrix)
        place = (2 * torch.arange(size)[:, None] + (stage == 0) + taps) % (2 * size)
        matrix = line.new_zeros(size, 2 * size).scatter_add_(1, place, line.expand(size, -1)).T @ matrix
    return matrix


def _guided_filter(guide: Tensor, images: Tensor, up: tuple[Tensor, Tensor], radius: int, eps: float) -> Tensor:
    """Interpolate, then make every window of side ``2 radius + 1`` a linear function of the guide; mean of all windows.

    Args:
        guide: I (H, W).
        images: (k, h, w).
        up: matrices (H, h) and (W, w) of the interpolation.
        radius: of the square window, in pixels.
        eps: added to the variance of the guide.

    Returns:
        (k, H, W).
    """
    rows, columns = (_box(n, radius).to(images) for n in guide.shape)
    image = _resampled(images, up)
    mean, guide_mean = _resampled(images, (rows @ up[0], columns @ up[1])), rows @ guide @ columns.T
    variance = rows @ guide.square() @ columns.T - guide_mean.square()
    slope = (_resampled(image.mul_(guide), (rows, columns)) - guide_mean * mean) / (variance.clamp(min=0) + eps)
    offset = mean - slope * guide_mean
    return _resampled(slope, (rows, columns)) * guide + _resampled(offset, (rows, columns))


def _box(count: int, radius: int) -> Tensor:
    """(count, count), float64: the mean over ``2 radius + 1`` samples, mirrored at the borders without the edge sample."""
    period = max(2 * count - 2, 1)
    index = (torch.arange(count)[:, None] + torch.arange(-radius, radius + 1)) % period
    index = torch.minimum(index, period - index).clamp(max=count - 1)
    weight = torch.full(index.shape, 1 / (2 * radius + 1), dtype=torch.float64)
    return torch.zeros(count, count, dtype=torch.float64).scatter_add_(1, index, weight)


def _resampled(images: Tensor, matrices: tuple[Tensor, Tensor]) -> Tensor:
    """(k, h, w) with its rows and columns taken through the matrices (H, h) and (W, w): (k, H, W)."""
    return matrices[0] @ images @ matrices[1].T


NOTE = "Pan: mean of the MSI bands. Takes LR pixel 0 for HR pixel ratio / 2, whatever the phase of the data."


@register(
    "gfpca",
    family="classical",
    told="blind",
    paper="Liao et al., Two-stage fusion by PCA and guided filter, WHISPERS 2015",
    year=2015,
    fidelity="reference",
    source=f"{RELEASE}/GFPCA.py",
    note=NOTE,
)
def gfpca(components: int | None = None, radius: int = 8, eps: float = 1e-6, clip: bool = False) -> Pansharpening:
    """Build it. ``clip=True`` is the repository's.

    Args:
        components: how many leading principal components are filtered, the others only interpolated; None: all.
        radius: of the guided filter, in HR pixels.
        eps: of the guided filter, in squared units of the MSI.
        clip: cut the result to [0, 1].
    """
    return Pansharpening(lambda y, pan: _gfpca(y, pan, components, radius, eps), clip)


@register(
    "gs",
    family="classical",
    told="blind",
    paper="Laben & Brower, Process for enhancing the spatial resolution using pan-sharpening, US patent 6011875, 2000",
    year=2000,
    fidelity="reference",
    source=f"{RELEASE}/GS.py",
    note=NOTE,
)
def gs(clip: bool = False) -> Pansharpening:
    """Build it; ``clip=True``, the repository's, cuts the result to [0, 1]."""
    return Pansharpening(_gram_schmidt, clip)


@register(
    "brovey",
    family="classical",
    told="blind",
    paper="Gillespie, Kahle, Walker, Color enhancement of highly correlated images, Remote Sensing of Environment 1987",
    year=1987,
    fidelity="reference",
    source=f"{RELEASE}/Brovey.py",
    note=NOTE,
)
def brovey(clip: bool = False) -> Pansharpening:
    """Build it; ``clip=True``, the repository's, cuts the result to [0, 1]."""
    return Pansharpening(_brovey, clip)
