"""How like real scenes the procedural ones are: rank, correlation, spatial spectrum, noise and scores, measured alike on both.

    rows, curves = zip(*realism.compare(("aviris",)))
    python run_benchmark.py realism           # what lacks of all :data:`SETS` -> results/realism*.csv, reports/realism

All but the scores is measured on the reference (HR-HSI) alone. The data set ``synthetic-aviris`` was tuned on :data:`TUNED`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmark import metrics
from benchmark.evaluate import fused_by
from benchmark.machine import code_version, device_name
from benchmark.protocol import CLEAN, PAPER, noise
from datasets import get
from datasets.scene import Dataset, Scene
from methods.levels import TINY, principal_components

PROTOCOL = replace(PAPER, hr_size=96)
MSI_BANDS = 4
REAL, PROCEDURAL, IMPROVED = "aviris", "synthetic", "synthetic-aviris"
SETS = (REAL, PROCEDURAL, IMPROVED)
SCENES = 8  # of each procedural set
TUNED = ("abu_airport_2", "abu_airport_3", "abu_urban_5", "abu_urban_4")  # the generator's constants were chosen on these
METHODS = ("bicubic", "gsa", "hysure", "cnmf")
SCENARIOS = {"clean": CLEAN, "lr35": noise("lr_hsi", 35)}
CELL = ("dataset", "image")  # what a row is of

HELD = 0.999  # share of the variance
LAGS = (1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120)  # bands apart, of the curve
FITTED = (0.04, 0.4)  # cycles per pixel: of the slope
FINE = 0.25  # cycles per pixel, half of Nyquist's frequency
MEASURES = ("components", "rank", "correlation_1", "correlation_50", "slope", "fine_share", "kurtosis", "snr_db",
            "snr_p10_db", "snr_p90_db")
SCORES = tuple(f"{method}_{name}_{metric}" for method in METHODS for name in SCENARIOS for metric in ("psnr_db", "sam_deg"))
QUANTITIES = (*MEASURES, *SCORES)


def components(pixels: Tensor) -> int:
    """Number of principal components of (bands, n) that hold :data:`HELD` of the variance."""
    variances = torch.linalg.eigvalsh(torch.cov(pixels)).flip(0).clamp(min=0)
    return int((variances.cumsum(0) < HELD * variances.sum()).sum()) + 1


def correlation(pixels: Tensor, apart: int) -> float:
    """Mean correlation of pairs of bands of (bands, n) that are so many bands apart, of bands that vary; NaN without a pair."""
    varying = pixels[pixels.std(1) > 0]
    if len(varying) <= apart:
        return math.nan
    return float(torch.corrcoef(varying).diagonal(apart).mean())


def radial_spectrum(image: Tensor) -> tuple[Tensor, Tensor]:
    """Power of an image (H, W) by radial frequency: rings of one bin of the shorter side, up to Nyquist's frequency.

    The mean is taken off, and a Hann window keeps the image's borders from counting as edges.

    Returns:
        Frequencies in cycles per pixel and mean power of each ring, both (rings,).
    """
    height, width = image.shape
    window = torch.hann_window(height, False, dtype=image.dtype)[:, None] * torch.hann_window(width, False, dtype=image.dtype)
    centred = image - (image * window).sum() / window.sum()
    power = torch.fft.fft2(centred * window).abs().square() / window.square().sum()
    frequency = torch.hypot(torch.fft.fftfreq(height, dtype=image.dtype)[:, None], torch.fft.fftfreq(width, dtype=image.dtype))
    side = min(height, width)
    ring = (frequency * side).round().long().flatten()
    rings = side // 2 + 1
    counts, sums = (torch.zeros(int(ring.max()) + 1, dtype=image.dtype).index_add_(0, ring, values)
                    for values in (torch.ones_like(power).flatten(), power.flatten()))
    return torch.arange(1, rings, dtype=image.dtype) / side, (sums / counts)[1:rings]


def slope(frequency: Tensor, power: Tensor) -> float:
    """Exponent b of power = a / frequency^b: the negative slope of a straight line through log power over :data:`FITTED`.

    Every ring counts alike.
    """
    inside = (frequency >= FITTED[0]) & (frequency <= FITTED[1])
    x, y = frequency[inside].log(), power[inside].log()
    x = x - x.mean()
    return -float((x * y).sum() / x.square().sum())


def fine_share(frequency: Tensor, power: Tensor) -> float:
    """Share of the power of rings up to Nyquist's frequency that lies above half of it; a ring counts by its length."""
    total = frequency * power
    return float(total[frequency > FINE].sum() / total.sum())


def kurtosis(image: Tensor) -> float:
    """Kurtosis of the differences between neighbouring pixels of (H, W), along rows and columns: 3 of Gaussian texture.

    The spectrum does not tell texture from edges; this does: where few edges stand on calm ground it is high.

    Source:
        Huang & Mumford, Statistics of natural images and models, CVPR 1999.
    """
    steps = torch.cat([image.diff(dim=0).flatten(), image.diff(dim=1).flatten()])
    return float((steps - steps.mean()).pow(4).mean() / steps.var(correction=0).square())


def band_noise(pixels: Tensor) -> Tensor:
    """Variance of the noise in each band of (bands, n), (bands,): of what the other bands do not explain.

    Each band is regressed on all others and a constant, as HySime estimates noise; the residual's mean square is divided by the
    degrees of freedom that are left. It is the inverse of an element on the diagonal of the inverse covariance. What varies in
    one band alone counts as noise, and a part of the other bands' noise, little where there are many bands; noise that bands
    share does not.

    Source:
        Bioucas-Dias & Nascimento, IEEE TGRS 46(8):2435-2445, 2008; after Roger & Arnold, Int. J. Remote Sensing 17(10), 1996.

    Raises:
        ValueError: fewer pixels than a regression on all bands needs.
    """
    bands, samples = pixels.shape
    if samples <= bands:
        raise ValueError(f"{samples} pixels; the noise of {bands} bands needs more than {bands}")
    covariance = torch.cov(pixels, correction=0)
    scale = covariance.diagonal().sqrt().clamp(min=TINY)  # bands of one size: better conditioned
    inverse = torch.linalg.pinv(covariance / scale / scale[:, None], rtol=1e-14, hermitian=True)
    return scale.square() / inverse.diagonal() * samples / (samples - bands)


def band_snr(pixels: Tensor) -> Tensor:
    """SNR in dB of each band of (bands, n), (bands,): its mean square over the variance of its noise (:func:`band_noise`)."""
    return 10 * (pixels.square().mean(1) / band_noise(pixels)).log10()


def rank(pixels: Tensor) -> int:
    """Number of principal components of (bands, n) that stand out from noise, each band divided by its noise's deviation.

    Undivided, noise that is stronger in some bands than in others stands out from its own mean. Errors of the estimated noise
    may let one more stand out.
    """
    return principal_components(pixels / band_noise(pixels).sqrt().clamp(min=TINY)[:, None], len(pixels)).rank


def measures(reference: Scene) -> tuple[dict[str, float], dict[str, list[tuple[float, float]]]]:
    """:data:`MEASURES` of a reference, and its curves: power by frequency, SNR by wavelength in nm, correlation by lag.

    Spatial spectrum and kurtosis are those of the mean over bands; the power is in parts of the sum over rings.
    """
    cube = reference.cube.double()
    pixels = cube.flatten(1)
    frequency, power = radial_spectrum(cube.mean(0))
    snr = band_snr(pixels)
    low, high = (float(snr.quantile(share)) for share in (0.1, 0.9))
    found = {"components": components(pixels), "rank": rank(pixels),
             "correlation_1": correlation(pixels, 1), "correlation_50": correlation(pixels, 50),
             "slope": slope(frequency, power), "fine_share": fine_share(frequency, power), "kurtosis": kurtosis(cube.mean(0)),
             "snr_db": float(snr.quantile(0.5)), "snr_p10_db": low, "snr_p90_db": high}
    curves = {"power": list(zip(frequency.tolist(), (power / power.sum()).tolist())),
              "snr_db": list(zip(reference.wavelengths.tolist(), snr.tolist())),
              "correlation": [(apart, correlation(pixels, apart)) for apart in LAGS if apart < len(pixels)]}
    return found, curves


def scores(scene: Scene, methods: Sequence[str] = METHODS) -> dict[str, float]:
    """:data:`SCORES` of a scene: PSNR in dB and SAM in degrees of each method, clean and with noise."""
    found = {}
    for name, scenario in SCENARIOS.items():
        reference, observation = PROTOCOL.look(scene, MSI_BANDS, scenario)
        for method in methods:
            estimate, _ = fused_by(method, observation, PROTOCOL.ratio)
            found[f"{method}_{name}_psnr_db"] = metrics.psnr(estimate, reference.cube).item()
            found[f"{method}_{name}_sam_deg"] = metrics.sam(estimate, reference.cube).item()
    return found


def dataset_of(name: str) -> tuple[Dataset, list[str]]:
    """A data set and its scenes: all real ones, :data:`SCENES` of the test split of a procedural set."""
    if name == REAL:
        data = get(name)
        return data, sorted({entry.partition("[")[0] for entries in data.splits().values() for entry in entries})
    data = get(name, size=PROTOCOL.hr_size, train=0, val=0, test=SCENES)
    return data, data.entries("test")


def compare(sets: Sequence[str] = SETS, held: Collection[tuple[str, ...]] = ()
            ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """One row a scene, and the lines of its curves, as they come.

    Args:
        sets: names of data sets.
        held: cells that are left out: values of :data:`CELL`.

    Raises:
        SceneError: missing files.
    """
    due = [(name, data, entry) for name in sets for data, entries in (dataset_of(name),) for entry in entries
           if (name, entry) not in held]
    here = {"device": device_name(torch.device("cpu")), "threads": torch.get_num_threads(), **code_version()}
    with tqdm(due, desc="realism", unit="scene") as bar:
        for name, data, entry in bar:
            bar.set_postfix_str(f"{name} {entry}")
            scene = data.scene(entry)
            reference = PROTOCOL.reference(scene)
            found, curves = measures(reference)
            where = {"dataset": name, "image": entry}
            lines = [{**where, "curve": curve, "x": f"{x:.6g}", "y": f"{y:.5g}"} for curve, points in curves.items()
                     for x, y in points]
            yield {**where, "tuned": "yes" if name == REAL and entry in TUNED else "no", "msi_bands": MSI_BANDS,
                   "protocol": PROTOCOL.digest, "data": data.digest()[:12], "flight": reference.flight,
                   "bands": reference.bands, "pixels": reference.cube[0].numel(), **found, **scores(scene), **here}, lines
