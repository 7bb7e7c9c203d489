"""How good an estimate is: five figures, each of ``(estimate, reference)`` with shapes (..., bands, H, W).

    METRICS["psnr_db"].function(estimate, reference)    one figure an image, shape (...)
    measure(estimate, reference, scale=9050.0)          all of them, by row column

Each image of a batch is measured by itself, in float64, on the device of its inputs. Images are expected in the unit
range of the reference (its own extrema are 0 and 1). No finite pair of images gives NaN; a NaN in the estimate shows in
every figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from skimage.metrics import structural_similarity

# What a band reproduced exactly counts in a mean over bands: an error of one float32 rounding of the peak, 138.5 dB.
# Images are float32, so a smaller error means nothing, and one dead band must not make the mean infinite.
PSNR_CEILING_DB = -20 * math.log10(torch.finfo(torch.float32).eps)
SSIM_WINDOW = 7  # side of the square window in pixels, the default of scikit-image


def psnr(estimate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB: ``10 log10(peak^2 / MSE)`` of each band, averaged over bands.

    The peak is that band's own maximum in the reference. A band whose reference is zero throughout has no peak and is
    left out of the mean. A band without error counts :data:`PSNR_CEILING_DB`, which is also the most that any band
    counts. Equal images give infinity; a reference that is zero in all bands gives minus infinity unless the estimate
    equals it.

    Args:
        estimate: (..., bands, H, W).
        reference: (..., bands, H, W).

    Returns:
        (...,) float64.
    """
    estimate, reference = _pair(estimate, reference)
    mse = (estimate - reference).square().mean((-2, -1))
    peak_squared = reference.amax((-2, -1)).square()
    counts = peak_squared > 0
    of_band = (10 * torch.log10(peak_squared / mse)).clamp(max=PSNR_CEILING_DB)
    mean = _mean_over_bands(of_band, counts, error=mse)
    mean = torch.where(counts.any(-1), mean, mean - math.inf)
    return torch.where((mse == 0).all(-1), math.inf, mean)


def sam(estimate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Spectral angle in degrees: the angle between the two spectra of a pixel, averaged over pixels.

    Two zero spectra are at 0 degrees, a zero spectrum and any other at 90 degrees.

    Args:
        estimate: (..., bands, H, W).
        reference: (..., bands, H, W).

    Returns:
        (...,) float64.
    """
    u, v = (_unit_spectra(image) for image in _pair(estimate, reference))
    # Kahan's form of the angle between unit vectors: arccos(u.v) loses half of the digits of a small angle and needs a
    # clamp, this does not. A zero spectrum stays zero in u or v, and the formula then gives the 0 and 90 degrees above.
    angle = 2 * torch.atan2((u - v).norm(dim=-3), (u + v).norm(dim=-3))
    return torch.rad2deg(angle).mean((-2, -1))


def rmse(estimate: torch.Tensor, reference: torch.Tensor, *, scale: float | torch.Tensor = 1.0) -> torch.Tensor:
    """Root mean square error over all pixels and bands.

    Args:
        estimate: (..., bands, H, W).
        reference: (..., bands, H, W).
        scale: native units per unit of the images: the native maximum minus the native minimum, a number or one an
            image (...,). The native minimum cancels in a difference; the test script of the S3RNet release adds it.

    Returns:
        (...,) float64, in native units, or in the unit range with ``scale=1``.
    """
    estimate, reference = _pair(estimate, reference)
    return (estimate - reference).square().mean((-3, -2, -1)).sqrt() * scale


def ergas(estimate: torch.Tensor, reference: torch.Tensor, *, ratio: float = 4) -> torch.Tensor:
    """Relative global error (ERGAS): ``100 / ratio * sqrt(mean over bands of MSE / mean^2)``, without unit.

    The mean is that of the reference's band. A band with mean zero has no relative error and is left out; if there is
    no other, the result is infinity, or 0 if the images are equal.

    Args:
        estimate: (..., bands, H, W).
        reference: (..., bands, H, W).
        ratio: HR pixels per LR pixel along one side.

    Returns:
        (...,) float64.
    """
    estimate, reference = _pair(estimate, reference)
    mse = (estimate - reference).square().mean((-2, -1))
    mean_squared = reference.mean((-2, -1)).square()
    counts = mean_squared > 0
    relative = _mean_over_bands(mse / mean_squared, counts, error=mse)
    relative = torch.where(counts.any(-1) | (mse == 0).all(-1), relative, relative + math.inf)
    return 100 / ratio * relative.sqrt()


def ssim(estimate: torch.Tensor, reference: torch.Tensor, *, data_range: float = 1.0) -> torch.Tensor:
    """Structural similarity as scikit-image defines it (7x7 uniform window, border left out), averaged over bands.

    The data range is that of the whole image, 1, not the band's: the two stabilising constants are then the same in all
    bands and a constant band is defined, at the price that a dark band scores high. An image narrower than 7 pixels is
    measured with the largest odd window that fits. Computed by scikit-image on the CPU.

    Args:
        estimate: (..., bands, H, W).
        reference: (..., bands, H, W).
        data_range: largest minus smallest value that the images may take.

    Returns:
        (...,) float64.

    Raises:
        ValueError: a side under 3 pixels, which leaves no window.
    """
    estimate, reference = _pair(estimate, reference)
    side = min(reference.shape[-2:])
    if side < 3:
        raise ValueError(f"SSIM needs 3 pixels or more along each side, got images of {tuple(reference.shape[-2:])}")
    window = min(SSIM_WINDOW, side - 1 + side % 2)
    images = (image.detach().reshape(-1, *image.shape[-3:]).cpu().numpy() for image in (estimate, reference))
    values = [
        structural_similarity(one, other, win_size=window, data_range=data_range, channel_axis=0)
        for one, other in zip(*images)
    ]
    return torch.tensor(values, dtype=torch.float64, device=reference.device).reshape(reference.shape[:-3])


@dataclass(frozen=True)
class Metric:
    """A column of the score rows.

    Args:
        label: as a table heads it.
        function: ``function(estimate, reference, **those in takes)``.
        better: ``"higher"`` or ``"lower"``.
        unit: as a table heads it, empty for none.
        decimals: shown in tables, None for three significant digits; rows keep full precision.
        takes: what the function is told about the image beyond the pair: any of ``"ratio"``, ``"scale"``.
    """

    label: str
    function: Callable[..., torch.Tensor]
    better: str
    unit: str
    decimals: int | None
    takes: tuple[str, ...] = ()


METRICS = {
    "psnr_db": Metric("PSNR", psnr, "higher", "dB", 2),
    "sam_deg": Metric("SAM", sam, "lower", "deg", 3),
    "rmse": Metric("RMSE", rmse, "lower", "native", None, takes=("scale",)),
    "rmse_unit": Metric("RMSE", rmse, "lower", "unit range", 5),
    "ergas": Metric("ERGAS", ergas, "lower", "", 3, takes=("ratio",)),
    "ssim": Metric("SSIM", ssim, "higher", "", 4),
}


def measure(
    estimate: torch.Tensor, reference: torch.Tensor, *, ratio: float = 4, scale: float | torch.Tensor = 1.0
) -> dict[str, torch.Tensor]:
    """Every metric of :data:`METRICS`, by its row column.

    Args:
        estimate: (..., bands, H, W).
        reference: (..., bands, H, W).
        ratio: HR pixels per LR pixel along one side.
        scale: native units per unit of the images, a number or one an image (...,).

    Returns:
        (...,) float64 each.
    """
    told = {"ratio": ratio, "scale": scale}
    return {
        column: metric.function(estimate, reference, **{key: told[key] for key in metric.takes})
        for column, metric in METRICS.items()
    }


def _pair(estimate: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both images in float64, once they are known to be comparable: broadcasting would measure something else."""
    if estimate.shape != reference.shape or estimate.ndim < 3 or estimate.numel() == 0:
        raise ValueError(
            f"an estimate of shape {tuple(estimate.shape)} cannot be measured against a reference of shape "
            f"{tuple(reference.shape)}: both must be (..., bands, H, W), equal and not empty"
        )
    return estimate.double(), reference.double()


def _unit_spectra(image: torch.Tensor) -> torch.Tensor:
    """Spectra (..., bands, H, W) divided by their norm; zero ones stay zero."""
    norm = image.norm(dim=-3, keepdim=True)
    return image / torch.where(norm == 0, 1.0, norm)


def _mean_over_bands(values: torch.Tensor, counts: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Mean of ``values`` (..., bands) over the bands that count, 0 if none does.

    The error of the bands left out enters times zero: nothing, unless it is NaN or infinite, which must not be hidden.
    """
    return torch.where(counts, values, 0 * error).sum(-1) / counts.sum(-1).clamp(min=1)
