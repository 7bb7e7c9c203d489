"""How good an estimate is: five figures, each of ``(estimate, reference)`` with shapes (..., bands, H, W).

    METRICS["psnr_db"].function(estimate, reference)    one figure an image, shape (...)
    measure(estimate, reference, scale=9050.0)          all of them, by row column

Each image of a batch is measured by itself, in float64, on the device of its inputs, block after block, so that what is
computed on the way stays in a processor's cache: of a whole image there is never a copy in float64. Images are expected
in the unit range of the reference (its own extrema are 0 and 1). No finite pair of images gives NaN; a NaN in the
estimate shows in every figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

# What a band reproduced exactly counts in a mean over bands: an error of one float32 rounding of the peak, 138.5 dB.
# Images are float32, so a smaller error means nothing, and one dead band must not make the mean infinite.
PSNR_CEILING_DB = -20 * math.log10(torch.finfo(torch.float32).eps)
SSIM_WINDOW = 7  # side of the square window in pixels, the default of scikit-image
# Above this cosine, below a quarter of a degree, its arccos has lost more than four of its digits.
ARCCOS_GOOD_TO = 1 - 1e-5


class BandErrors(NamedTuple):
    """What PSNR, RMSE and ERGAS need of each band of a pair, (..., bands) float64 each."""

    mse: torch.Tensor
    peak: torch.Tensor  # of the reference: its maximum
    mean: torch.Tensor  # of the reference


def band_errors(estimate: torch.Tensor, reference: torch.Tensor) -> BandErrors:
    """Errors band by band, of images (..., bands, H, W)."""
    found = _each(lambda x, y: ((x - y).square().mean((-2, -1)), y.amax((-2, -1)), y.mean((-2, -1))),
                  _bands(estimate, reference))
    return BandErrors(*(torch.cat(each).reshape(reference.shape[:-2]) for each in zip(*found)))


def psnr(estimate: torch.Tensor, reference: torch.Tensor, *, errors: BandErrors | None = None) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB: ``10 log10(peak^2 / MSE)`` of each band, averaged over bands.

    The peak is that band's own maximum in the reference. A band whose reference is zero throughout has no peak and is
    left out of the mean. A band without error counts :data:`PSNR_CEILING_DB`, which is also the most that any band
    counts. Equal images give infinity; a reference that is zero in all bands gives minus infinity unless the estimate
    equals it.

    Args:
        estimate: (..., bands, H, W).
        reference: (..., bands, H, W).
        errors: what :func:`band_errors` finds, where it is already known.

    Returns:
        (...,) float64.
    """
    mse, peak, _ = errors or band_errors(estimate, reference)
    peak_squared = peak.square()
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
    angles = _each(_angles, _pixels(estimate, reference))
    return torch.rad2deg(torch.cat(angles).reshape(*reference.shape[:-3], -1).mean(-1))


def rmse(
    estimate: torch.Tensor, reference: torch.Tensor, *, scale: float | torch.Tensor = 1.0, errors: BandErrors | None = None
) -> torch.Tensor:
    """Root mean square error over all pixels and bands.

    Args:
        estimate: (..., bands, H, W).
        reference: (..., bands, H, W).
        scale: native units per unit of the images: the native maximum minus the native minimum, a number or one an
            image (...,). The native minimum cancels in a difference; the test script of the S3RNet release adds it.
        errors: what :func:`band_errors` finds, where it is already known.

    Returns:
        (...,) float64, in native units, or in the unit range with ``scale=1``.
    """
    return (errors or band_errors(estimate, reference)).mse.mean(-1).sqrt() * scale


def ergas(
    estimate: torch.Tensor, reference: torch.Tensor, *, ratio: float = 4, errors: BandErrors | None = None
) -> torch.Tensor:
    """Relative global error (ERGAS): ``100 / ratio * sqrt(mean over bands of MSE / mean^2)``, without unit.

    The mean is that of the reference's band. A band with mean zero has no relative error and is left out; if there is
    no other, the result is infinity, or 0 if the images are equal.

    Args:
        estimate: (..., bands, H, W).
        reference: (..., bands, H, W).
        ratio: HR pixels per LR pixel along one side.
        errors: what :func:`band_errors` finds, where it is already known.

    Returns:
        (...,) float64.
    """
    mse, _, mean = errors or band_errors(estimate, reference)
    mean_squared = mean.square()
    counts = mean_squared > 0
    relative = _mean_over_bands(mse / mean_squared, counts, error=mse)
    relative = torch.where(counts.any(-1) | (mse == 0).all(-1), relative, relative + math.inf)
    return 100 / ratio * relative.sqrt()


def ssim(
    estimate: torch.Tensor, reference: torch.Tensor, *, data_range: float = 1.0, valid: torch.Tensor | None = None
) -> torch.Tensor:
    """Structural similarity as scikit-image defines it (7x7 uniform window, border left out), averaged over bands.

    The data range is that of the whole image, 1, not the band's: the two stabilising constants are then the same in all
    bands and a constant band is defined, at the price that a dark band scores high. An image narrower than 7 pixels is
    measured with the largest odd window that fits.

    Args:
        estimate: (..., bands, H, W).
        reference: (..., bands, H, W).
        data_range: largest minus smallest value that the images may take.
        valid: (H, W) bool: windows that see a False are left out. Where every window does, all count, and what the
            estimate says of such pixels is replaced by the reference.

    Returns:
        (...,) float64.

    Raises:
        ValueError: a side under 3 pixels, which leaves no window.
    """
    side = min(reference.shape[-2:])
    if side < 3:
        raise ValueError(f"SSIM needs 3 pixels or more along each side, got images of {tuple(reference.shape[-2:])}")
    window = min(SSIM_WINDOW, side - 1 + side % 2)
    whole = None
    if valid is not None:
        estimate = torch.where(valid, estimate, reference)
        whole = _window_sums(valid[None].double(), window)[0] == window**2

    def mean(windows: torch.Tensor) -> torch.Tensor:
        return windows.mean((-2, -1)) if whole is None or not whole.any() else windows[:, whole].mean(-1)

    of_bands = _each(lambda x, y: mean(_similarity(x, y, window, data_range)), _bands(estimate, reference))
    return torch.cat(of_bands).reshape(reference.shape[:-2]).mean(-1)


@dataclass(frozen=True)
class Metric:
    """A column of the score rows.

    Args:
        label: as a table heads it.
        function: ``function(estimate, reference, **those in takes)``.
        better: ``"higher"`` or ``"lower"``.
        unit: as a table heads it, empty for none.
        decimals: shown in tables, None for three significant digits; rows keep full precision.
        takes: what the function is told beyond the pair: any of ``"ratio"``, ``"scale"`` and ``"errors"``, those of each
            band (:func:`band_errors`), so that all share one computation; ``"valid"``: it looks at neighbours, and leaves
            out pixels without data by itself.
    """

    label: str
    function: Callable[..., torch.Tensor]
    better: str
    unit: str
    decimals: int | None
    takes: tuple[str, ...] = ()


METRICS = {
    "psnr_db": Metric("PSNR", psnr, "higher", "dB", 2, takes=("errors",)),
    "sam_deg": Metric("SAM", sam, "lower", "deg", 3),
    "rmse": Metric("RMSE", rmse, "lower", "native", None, takes=("scale", "errors")),
    "rmse_unit": Metric("RMSE", rmse, "lower", "unit range", 5, takes=("errors",)),
    "ergas": Metric("ERGAS", ergas, "lower", "", 3, takes=("ratio", "errors")),
    "ssim": Metric("SSIM", ssim, "higher", "", 4, takes=("valid",)),
}


def measure(
    estimate: torch.Tensor, reference: torch.Tensor, *, ratio: float = 4, scale: float | torch.Tensor = 1.0,
    valid: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Every metric of :data:`METRICS`, by its row column.

    Args:
        estimate: (..., bands, H, W).
        reference: (..., bands, H, W).
        ratio: HR pixels per LR pixel along one side.
        scale: native units per unit of the images, a number or one an image (...,).
        valid: (H, W) bool: the pixels that are measured, which metrics without neighbours see as one row (..., bands, 1, n).

    Returns:
        (...,) float64 each.
    """
    whole = estimate, reference
    seen = whole if valid is None else (estimate[..., valid].unsqueeze(-2), reference[..., valid].unsqueeze(-2))
    told = {"ratio": ratio, "scale": scale, "errors": band_errors(*seen), "valid": valid}
    return {
        column: metric.function(*(whole if "valid" in metric.takes else seen), **{key: told[key] for key in metric.takes})
        for column, metric in METRICS.items()
    }


def _bands(estimate: torch.Tensor, reference: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The bands of all images (..., bands, H, W), some at a time, as pairs of (n, H, W)."""
    _comparable(estimate, reference)
    images = (image.detach().flatten(0, -3) for image in (estimate, reference))
    yield from zip(*(image.split(_block(image, image[0].numel())) for image in images))


def _pixels(estimate: torch.Tensor, reference: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The spectra of all images (..., bands, H, W), some of one image at a time, as pairs of (bands, n)."""
    _comparable(estimate, reference)
    images = (image.detach().reshape(-1, *image.shape[-3:]).flatten(-2) for image in (estimate, reference))
    for pair in zip(*images):
        yield from zip(*(image.split(_block(image, len(image)), dim=1) for image in pair))


def _block(image: torch.Tensor, size: int) -> int:
    """How many bands or spectra of some size are taken at a time: what a core's own cache holds, or what fills a GPU."""
    return max(1, 2 ** (17 if image.device.type == "cpu" else 24) // size)


def _comparable(estimate: torch.Tensor, reference: torch.Tensor) -> None:
    """Refuse shapes that broadcasting would make something else of."""
    if estimate.shape != reference.shape or estimate.ndim < 3 or estimate.numel() == 0:
        raise ValueError(
            f"an estimate of shape {tuple(estimate.shape)} cannot be measured against a reference of shape "
            f"{tuple(reference.shape)}: both must be (..., bands, H, W), equal and not empty"
        )


def _each(function: Callable[..., Any], blocks: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> list[Any]:
    """``function`` of every pair of blocks in float64, one block a thread.

    Operators on blocks are too small to be shared between threads: on a busy machine these would wait longer than work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of each worker as well
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(lambda pair: function(*(block.double() for block in pair)), blocks))
    finally:
        torch.set_num_threads(threads)


def _angles(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Angles in radians (n,) between spectra (bands, n).

    By Kahan's form where the cosine does not tell: where the angle is small, a spectrum is zero or a value is NaN.
    """
    cosine = (x * y).sum(0) / (x.square().sum(0).sqrt() * y.square().sum(0).sqrt())
    angles = cosine.arccos()
    other = ~(cosine.abs() < ARCCOS_GOOD_TO)
    if other.any():
        angles[other] = _kahan(x[:, other], y[:, other])
    return angles


def _kahan(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Kahan's form of the angle between unit vectors, which needs no clamp and keeps the digits of a small angle.

    A zero spectrum stays zero in u or v, and the formula then gives 0 or 90 degrees.
    """
    u, v = (spectra / torch.where(norm == 0, 1.0, norm) for spectra, norm in ((x, x.norm(dim=0)), (y, y.norm(dim=0))))
    return 2 * torch.atan2((u - v).norm(dim=0), (u + v).norm(dim=0))


def _similarity(x: torch.Tensor, y: torch.Tensor, window: int, data_range: float) -> torch.Tensor:
    """SSIM of every square window that lies inside of bands (n, H, W): (n, H - window + 1, W - window + 1).

    From the sum p and the difference q of the two bands, whose sums and sums of squares are four figures a window where x,
    y, x^2, y^2 and xy are five: with what they give for p and for q, ``p - q`` is 4 times the product of the means (the
    covariance) of x and y, ``p + q`` twice the sum of their squared means (variances).
    """
    pixels = window**2
    p, q = x + y, x - y
    mean_p, mean_q = _window_sums(p, window).square_(), _window_sums(q, window).square_()  # times pixels, squared
    variance_p = _window_sums(p.square_(), window).sub_(mean_p, alpha=1 / pixels)  # times pixels - 1, of the sample
    variance_q = _window_sums(q.square_(), window).sub_(mean_q, alpha=1 / pixels)
    mean_p += 2 * (0.01 * data_range * pixels) ** 2  # K1 and K2 of the definition, in the same multiples
    variance_p += 2 * (0.03 * data_range) ** 2 * (pixels - 1)
    above = (mean_p - mean_q).mul_(variance_p - variance_q)
    return above.div_(mean_p.add_(mean_q).mul_(variance_p.add_(variance_q)))


def _window_sums(bands: torch.Tensor, window: int) -> torch.Tensor:
    """Sums over all square windows inside of bands (n, H, W)."""
    return _sums(_sums(bands, window, -2), window, -1)


def _sums(values: torch.Tensor, length: int, dim: int) -> torch.Tensor:
    """Sums of every ``length`` neighbours along ``dim``, made of those of half as many: 4 additions give 7.

    A running sum would take fewer, but its rounding errors pile up and one NaN spoils all that follows.
    """
    if length == 1:
        return values
    count, half = values.shape[dim] - length + 1, _sums(values, length // 2, dim)
    sums = half.narrow(dim, 0, count) + half.narrow(dim, length // 2, count)
    return sums.add_(values.narrow(dim, length - 1, count)) if length % 2 else sums


def _mean_over_bands(values: torch.Tensor, counts: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Mean of ``values`` (..., bands) over the bands that count, 0 if none does.

    The error of the bands left out enters times zero: nothing, unless it is NaN or infinite, which must not be hidden.
    """
    return torch.where(counts, values, 0 * error).sum(-1) / counts.sum(-1).clamp(min=1)
