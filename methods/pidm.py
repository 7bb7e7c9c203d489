"""A degradation that varies over the field, fitted to the observed pair: where each LR pixel looks, and with which gain.

    field = fit(lr_hsi, hr_msi)                               # one pair, no batch
    lr_hsi, hr_msi = field.straightened(lr_hsi, hr_msi)       # then any estimator of responses, any method

Estimators of one PSF and one SRF (:mod:`methods.estimation`) take them to hold everywhere. Here the HR-MSI is warped, blurred
by a separable kernel and decimated (the paper's SpaDN), the LR-HSI scaled by a gain that varies with place and wavelength
and integrated band by band (SpeDN), and what is free is fitted until both give the same LR-MSI. No truth is needed.

Source: Lian, Wang, Zhu, Dian, Xiong, Huang, "Physics-inspired degradation models for hyperspectral image fusion" (PIDM), arXiv
2402.02411. Public are the parts and that both sides must agree, no code and no figure. Ours: the grids, the start at what
:func:`methods.estimation.estimate_parametric` finds, the weights, and that the pair is made uniform instead of handing the
fitted operators to each method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.estimation import estimate_parametric, ratio_of
from methods.parametric import inner
from methods.registry import MethodError

NAME = "pidm"  # beside those of methods.estimation, wherever an estimator is named
NODES = 8  # a side, of the grids of displacements and of gains
RANK = 2  # of the gain: a sum of maps times spectra
ITERATIONS, RATE, RATE_MOVED = 1000, 0.01, 0.1  # of Adam; the second rate is of displacements, in HR pixels
# Of the mean squares of displacements (HR pixels) and gains, beside residuals in parts of the contrast. Chosen by the PSNR of
# subspace-ridge on three training scenes (abu_airport_2, abu_airport_3, abu_urban_5) degraded as benchmark.degradations does.
MOVED, SCALED = 0.01, 50.0
LEAST_SIDE = 8  # LR pixels


@dataclass(frozen=True)
class Field:
    """How a pair departs from a uniform one.

    Args:
        moved: (2, H, W), HR pixels by which the LR-HSI sees the scene of the HR-MSI further down, and further right.
        gain: (msi_bands, h, w), the HR-MSI over what responses make of the LR-HSI.
        losses: first and last mean absolute difference of the two LR-MSIs, in parts of the contrast.
    """

    moved: Tensor
    gain: Tensor
    losses: tuple[float, float]

    def straightened(self, lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor]:
        """The pair as a uniform degradation would give it: the LR-HSI moved back, the gain of the HR-MSI taken off.

        Args:
            lr_hsi: (bands, h, w).
            hr_msi: (msi_bands, H, W).
        """
        ratio = hr_msi.shape[-1] // lr_hsi.shape[-1]
        low = F.avg_pool2d(self.moved[None], ratio)[0] / ratio
        gain = F.interpolate(self.gain[None], scale_factor=ratio, mode="bicubic", align_corners=False)[0]
        return warped(lr_hsi, -low, mode="bicubic"), hr_msi / gain.to(hr_msi)

    @property
    def words(self) -> str:
        """What it is, for a log."""
        size, gain = self.moved.square().sum(0).sqrt(), (self.gain - 1).abs()
        return (f"the LR-HSI looks {size.square().mean().sqrt():.2f} HR pixels away (root mean square; {size.max():.2f} at "
                f"most), the gain differs by {gain.square().mean().sqrt():.2%} ({gain.max():.2%} at most); the two LR-MSIs "
                f"differ by {self.losses[1]:.2%} of their contrast, {self.losses[0]:.2%} before")


def fit(lr_hsi: Tensor, hr_msi: Tensor, iterations: int | None = None, step: Callable[[], object] = lambda: None) -> Field:
    """The field of one pair.

    Args:
        lr_hsi: (bands, h, w).
        hr_msi: (msi_bands, H, W).
        iterations: of Adam; None: :data:`ITERATIONS`.
        step: called after each of them, for a progress bar.

    Raises:
        MethodError: sizes that are not multiples, a side below :data:`LEAST_SIDE` LR pixels, or a fit that is not finite.
    """
    ratio = ratio_of(lr_hsi, hr_msi)
    if min(lr_hsi.shape[1:]) < LEAST_SIDE:
        raise MethodError(f"pidm: an LR-HSI of {lr_hsi.shape[1]}x{lr_hsi.shape[2]} pixels; a field needs {LEAST_SIDE} a side")
    start = estimate_parametric(lr_hsi[None].double(), hr_msi[None].double())
    y, z = lr_hsi.float(), (hr_msi.double() - start.offset[0][:, None, None]).float()
    srf, psf = start.srf[0].float(), start.psf[0].float()
    lines = torch.stack([psf.sum(1), psf.sum(0)])
    contrast = inner(decimated(z, lines, ratio, start.phase)).std(1).clamp(min=1e-12)[:, None]

    draw = torch.Generator().manual_seed(0)
    moved, maps = (torch.zeros(count, NODES, NODES, requires_grad=True) for count in (2, RANK))
    spectra = (0.1 * torch.randn(RANK, len(y), generator=draw)).requires_grad_()
    taps = lines.clamp(min=1e-4).log().requires_grad_()
    level = torch.zeros(len(z), 1, 1, requires_grad=True)
    adam = torch.optim.Adam([{"params": [moved], "lr": RATE_MOVED}, {"params": [maps, spectra, taps, level], "lr": RATE}])
    losses = []
    for _ in range(ITERATIONS if iterations is None else iterations):
        field = spread(moved, z.shape[1:])
        gain = 1 + torch.einsum("rhw,rb->bhw", spread(maps, y.shape[1:]), spectra)
        low = decimated(warped(z, field), taps.softmax(1), ratio, start.phase)
        seen = level.exp() * torch.einsum("mb,bhw->mhw", srf, gain * y)
        apart = (inner(seen - low) / contrast).abs().mean()
        loss = apart + MOVED * field.square().mean() + SCALED * (gain - 1).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(apart.item())
        step()
    with torch.no_grad():
        gain = 1 + torch.einsum("rhw,rb->bhw", spread(maps, y.shape[1:]), spectra)
        seen = torch.einsum("mb,bhw->mhw", srf, y)
        ratio_of_bands = torch.einsum("mb,bhw->mhw", srf, gain * y) / seen.clamp(min=1e-6 * float(seen.max()))
        found = Field(spread(moved, z.shape[1:]), ratio_of_bands.clamp(0.5, 2.0), (losses[0], losses[-1]))
    if not (torch.isfinite(found.moved).all() and torch.isfinite(found.gain).all()):
        raise MethodError("pidm: the fitted field is not finite; check both images for values that are not, or take another "
                          "estimator")
    return found


def spread(grid: Tensor, size: torch.Size) -> Tensor:
    """A grid (k, n, n) over an image, (k, H, W): bicubic, the outer nodes at the corners."""
    return F.interpolate(grid[None], size=tuple(size), mode="bicubic", align_corners=True)[0]


def warped(image: Tensor, moved: Tensor, mode: str = "bilinear") -> Tensor:
    """(k, H, W) seen ``moved`` (2, H, W) pixels further down and right; beyond the edge the edge."""
    height, width = image.shape[1:]
    y, x = torch.meshgrid(torch.arange(height).to(moved), torch.arange(width).to(moved), indexing="ij")
    grid = torch.stack([2 * (x + moved[1]) / (width - 1) - 1, 2 * (y + moved[0]) / (height - 1) - 1], -1)
    return F.grid_sample(image[None], grid[None].to(image), mode=mode, padding_mode="border", align_corners=True)[0]


def decimated(image: Tensor, lines: Tensor, ratio: int, phase: int) -> Tensor:
    """(k, H, W) correlated with ``lines`` (2, n), n odd, down and across, and kept from ``phase`` on; edges repeated."""
    half = lines.shape[1] // 2
    rows, columns = (side // ratio for side in image.shape[1:])
    padded = F.pad(image[:, None], (half,) * 4, mode="replicate")[..., phase:, phase:]
    along = F.conv2d(padded, lines[0][None, None, :, None], stride=(ratio, 1))
    return F.conv2d(along, lines[1][None, None, None], stride=(1, ratio))[:, 0, :rows, :columns]
