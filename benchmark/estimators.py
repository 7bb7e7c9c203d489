"""Estimators of the two sensors' responses on made pairs, where the truth is known, and what can be said without it.

    scenes = [("aviris", "test-same-flight"), ("synthetic", "test")]
    rows = list(estimators.compare(("hysure", "parametric"), scenes))
    python run_benchmark.py estimators        # what lacks of all :data:`SCENES` -> results/estimators.csv, reports/estimators

A pair is a scene seen by one of :data:`SENSORS_MADE` and through one of :data:`BLURS`, with one of :data:`NOISES`. No estimator
is told anything of it, nor the phase of the decimation. Scenes of the splits ``train`` and ``val`` are those that constants of
an estimator may be chosen on. Besides there are pairs whose degradation varies over the field (:data:`NON_UNIFORM`), and one
that two sensors measured (:func:`measured_pair`), both also with what :mod:`methods.pidm` finds.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmark import keys, metrics, sensors
from benchmark.degradations import NonUniform, degraded
from benchmark.machine import code_version, device_name
from benchmark.protocol import PAPER, add_noise, apply_response, blur_decimate
from datasets import get
from datasets.io import data_root
from datasets.scene import Dataset, Scene
from methods import create, fuse, pidm
from methods.estimation import DEFAULT, ESTIMATORS, Responses, ratio_of
from methods.levels import msi_noise, principal_components
from methods.parametric import inner
from methods.responses import gaussian_psf, shifted_psf
from methods.separable import Blur

if TYPE_CHECKING:
    import pandas as pd

PROTOCOL = replace(PAPER, hr_size=96)
RATIO = PROTOCOL.ratio
SCENES = (("aviris", "train"), ("aviris", "val"), ("aviris", "test-same-flight"), ("aviris", "test-other-flight"),
          ("synthetic", "val"), ("synthetic", "test"))
SENSORS_MADE = ("tm-4", "tm-6", "gaussian-4")
NOISES: Mapping[str, tuple[float, float]] = {  # SNR in dB of the LR-HSI and of the HR-MSI
    "none": (math.inf, math.inf), "lr-35": (35.0, math.inf), "lr-25": (25.0, math.inf), "both-30": (30.0, 30.0)}
GAUSSIAN_NM = ((480.0, 60.0), (560.0, 60.0), (665.0, 40.0), (840.0, 110.0))  # centre and full width at half maximum

# Where quality() warns. In the rows of train and val in results/estimators.csv "parametric" leaves at most 0.039 of a band
# unexplained, more than 0.032 only where it costs 1 dB or more; the two others, which cost 1 to 22 dB, leave 0.086 at least. By
# chance "parametric" errs by 0.024 at most. A PSF that ends within its support has nothing at its edge, theirs 0.10 and more.
# Not seen: an LR-HSI of 7 rows, all of them near the border, where "parametric" costs 1.5 dB at 35 dB of noise.
UNEXPLAINED, EXPECTED, EDGE = 0.03, 0.03, 0.05
LOSS_DB = 1.5  # an estimate that costs more is bad
COMPARED = ("nonnegative", "hysure", "parametric")
NON_UNIFORM: Mapping[str, float] = {"non-uniform-1": 1.0, "non-uniform-2": 2.0}  # in the place of a blur: severity
FIELDS = (*COMPARED, pidm.NAME)  # compared where the degradation varies, and where nobody knows
FIELD_GRID = tuple(("tm-4", blur) for blur in ("gaussian-3", *NON_UNIFORM))
FIELD_SCENES, FIELD_NOISES = SCENES[2:4], ("none", "lr-35")
MEASURED = {"dataset": "hyperion-ali", "split": "pair", "image": "paris_hyperion_ali", "sensor": "ali", "blur": "unknown",
            "noise": "unknown"}
MEASURED_RATIO = 2
CELL = ("estimator", "dataset", "split", "image", "sensor", "blur", "noise")  # what a row is of


def box_psf(side: int) -> Tensor:
    """Mean of ``side`` x ``side`` pixels, on an odd support whose centre is the pixel (side - 1) // 2 of them."""
    psf = torch.zeros(2 * (side // 2) + 1, 2 * (side // 2) + 1, dtype=torch.float64)
    first = side // 2 - (side - 1) // 2
    psf[first : first + side, first : first + side] = 1 / side**2
    return psf


BLURS: Mapping[str, Callable[[], Tensor]] = {  # at RATIO and phase 1
    "gaussian-1": partial(gaussian_psf, 7, 1.0), "gaussian-2": partial(gaussian_psf, 13, 2.0),
    "gaussian-3": partial(gaussian_psf, 19, 3.0), "box": partial(box_psf, RATIO),
    "shifted": partial(shifted_psf, 19, (2.0, 2.0), (1.3, -0.7))}
# Every blur with one sensor, every sensor with one blur.
GRID = tuple((sensor, blur) for sensor in SENSORS_MADE for blur in BLURS if sensor == "tm-4" or blur == "gaussian-3")


class Made(NamedTuple):
    """A pair and what made it.

    Args:
        words: identity columns of its rows.
        reference: (bands, H, W) in [0, 1].
        clean: (bands, h, w), the LR-HSI before noise.
        lr_hsi: (bands, h, w).
        hr_msi: (msi_bands, H, W).
        psf: (k, k), k odd.
        srf: (msi_bands, bands), rows sum to 1.
        phase: of the decimation.
    """

    words: dict[str, Any]
    reference: Tensor
    clean: Tensor
    lr_hsi: Tensor
    hr_msi: Tensor
    psf: Tensor
    srf: Tensor
    phase: int


def response(sensor: str, wavelengths: np.ndarray) -> Tensor:
    """SRF (msi_bands, bands) of one of :data:`SENSORS_MADE`; rows sum to 1."""
    kind, count = sensor.rsplit("-", 1)
    if kind == "tm":
        return sensors.response("landsat-tm", wavelengths, int(count)).double()
    x = torch.as_tensor(np.asarray(wavelengths), dtype=torch.float64)
    srf = torch.stack([(-4 * math.log(2) * ((x - centre) / width).square()).exp() for centre, width in GAUSSIAN_NM])
    return srf / srf.sum(1, keepdim=True)


def made(scene: Scene, sensor: str, blur: str, noise: str, phase: int = 1, **words: Any) -> Made:
    """One pair of a scene, of the reference that PROTOCOL makes of it.

    Args:
        scene: whole.
        sensor: of :data:`SENSORS_MADE`; where the degradation varies the protocol's.
        blur: of :data:`BLURS` or :data:`NON_UNIFORM`.
        noise: of :data:`NOISES`.
        phase: of the decimation.
        **words: identity columns.

    Raises:
        SceneError: a scene without the 172 bands of the papers, or smaller than the widest blur.
    """
    native, scene = scene, PROTOCOL.reference(scene)
    srf = response(sensor, scene.wavelengths)
    if blur in NON_UNIFORM:
        seen = PROTOCOL.look(native, len(srf), degraded(NonUniform(NON_UNIFORM[blur])))[1]
        clean, hr_msi, psf, phase = seen.lr_hsi, seen.hr_msi, seen.told.psf.double(), seen.told.phase
    else:
        psf = BLURS[blur]()
        clean, hr_msi = blur_decimate(scene.cube, psf, RATIO, phase, "reflect"), apply_response(scene.cube, srf)
    draw = torch.Generator().manual_seed(keys.seed(scene.name, sensor, blur, noise))
    low, high = (add_noise(image, snr, draw) for image, snr in zip((clean, hr_msi), NOISES[noise]))
    words = {**words, "image": scene.name, "sensor": sensor, "blur": blur, "noise": noise}
    return Made(words, scene.cube, clean, low, high, psf, srf, phase)


@dataclass(frozen=True)
class Quality:
    """What the pair itself says of an estimate.

    Args:
        residual: root mean square of ``srf Y + offset - B Z`` over inner LR pixels, in parts of the contrast of B Z, per band.
        unexplained: the same less what the noise of both images explains.
        expected: error of ``srf Y`` by chance, in parts of its contrast: rank of Y times mean square residual over pixels.
        rank: dimensions in which Y stands out from its noise: in the others no response can be known.
        bands: of the LR-HSI.
        edge: share of the PSF's absolute weight in the outermost taps of its support.
        trust: ``"ok"``, or why not, joined by "; ".
    """

    residual: tuple[float, ...]
    unexplained: tuple[float, ...]
    expected: float
    rank: int
    bands: int
    edge: float
    trust: str


def quality(found: Responses, lr_hsi: Tensor, hr_msi: Tensor) -> list[Quality]:
    """How far an estimate explains the pair it came from, image by image; no truth is needed.

    Thresholds are chosen on the made pairs of the splits ``train`` and ``val``: see :func:`calibration`.

    Args:
        found: by one of :data:`methods.estimation.ESTIMATORS`.
        lr_hsi: (B, bands, h, w).
        hr_msi: (B, msi_bands, H, W).

    Raises:
        MethodError: sizes that are not multiples.
    """
    ratio = ratio_of(lr_hsi, hr_msi)
    return [_quality(*each, found.phase, ratio)
            for each in zip(found.srf, found.offset, found.psf, lr_hsi.double(), hr_msi.double(), strict=True)]


def _quality(srf: Tensor, offset: Tensor, psf: Tensor, y: Tensor, z: Tensor, phase: int, ratio: int) -> Quality:
    level = principal_components(y.flatten(1), len(y) - 1)
    blur = Blur.of(psf, z.shape[1:], ratio, phase)
    z = z - offset[:, None, None]
    low = inner(blur(z))
    square = (srf @ inner(y) - low).square().mean(1)
    contrast = low.var(1, correction=0).clamp(min=1e-30)
    noise = level.noise * srf.square().sum(1) + max(0.0, msi_noise(y, z, srf, blur, level.noise)) * blur.energy()
    residual, unexplained = (square / contrast).sqrt(), ((square - noise).clamp(min=0) / contrast).sqrt()
    expected = float((level.rank / low.shape[1] * square / contrast).mean().sqrt())
    weight = psf.abs()
    edge = max(0.0, float(1 - weight[1:-1, 1:-1].sum() / weight.sum()))
    left = [str(k + 1) for k in (unexplained > UNEXPLAINED).nonzero()[:, 0].tolist()]
    doubts = {f"MSI bands not explained: {', '.join(left)}": bool(left),
              "too few or too noisy LR pixels": expected > EXPECTED,
              "the PSF does not end within its support": edge > EDGE,
              "fewer dimensions in the LR-HSI than bands in the MSI": level.rank < len(z)}
    return Quality(tuple(residual.tolist()), tuple(unexplained.tolist()), expected, level.rank, len(y), edge,
                   "; ".join(doubt for doubt, holds in doubts.items() if holds) or "ok")


def against_truth(found: Responses, pair: Made) -> dict[str, float]:
    """Errors of the estimate of one pair.

    Returns:
        ``share_in_band``: of the absolute weight of a response, where the true one is a tenth of its maximum or more, mean over
        MSI bands. ``srf_error``: ``||(R^ - R) Y|| / ||R Y||`` over the centred noise-free LR-HSI, which weighs what responses
        do by the scene. ``psf_error``: ``||B^ - B|| / ||B||``, both placed by their phase. ``centre_error_px``: distance of
        their centres of mass in HR pixels; infinite if weights of the estimate sum to 0.
    """
    srf, truth = found.srf[0], pair.srf.to(found.srf)
    inside = truth >= 0.1 * truth.amax(1, keepdim=True)
    weight = srf.abs()
    share = (weight * inside).sum(1) / weight.sum(1).clamp(min=1e-30)
    spectra = pair.clean.to(srf).flatten(1)
    spectra = spectra - spectra.mean(1, keepdim=True)
    reach = max(len(found.psf[0]), len(pair.psf)) // 2 + RATIO
    theirs, ours = _placed(pair.psf.to(srf), pair.phase, reach), _placed(found.psf[0], found.phase, reach)
    return {"share_in_band": float(share.mean()),
            "srf_error": float(((srf - truth) @ spectra).norm() / (truth @ spectra).norm()),
            "psf_error": float((ours - theirs).norm() / theirs.norm()),
            "centre_error_px": math.dist(_centre(ours), _centre(theirs))}


def _placed(psf: Tensor, phase: int, reach: int) -> Tensor:
    """On a support of 2 ``reach`` + 1 whose centre is HR pixel 0."""
    before = reach + phase - (len(psf) - 1) // 2
    after = 2 * reach + 1 - len(psf) - before
    return torch.nn.functional.pad(psf, (before, after, before, after))


def _centre(psf: Tensor) -> tuple[float, float]:
    x = torch.arange(len(psf)).to(psf)
    return float((psf.sum(1) * x).sum() / psf.sum()), float((psf.sum(0) * x).sum() / psf.sum())


def fused(pair: Made, psf: Tensor, srf: Tensor, phase: int, offset: Tensor | None = None) -> float:
    """PSNR in dB of subspace-ridge told these responses."""
    model = create("subspace-ridge", bands=len(pair.lr_hsi), msi_bands=len(srf), ratio=RATIO, psf=psf.float(), srf=srf.float(),
                   phase=phase)
    hr_msi = pair.hr_msi if offset is None else pair.hr_msi - offset.to(pair.hr_msi)[:, None, None]
    return metrics.psnr(fuse(model, pair.lr_hsi[None], hr_msi[None])[0], pair.reference).item()


def compare(names: Sequence[str] = COMPARED, scenes: Sequence[tuple[str, str]] = SCENES, grid: Sequence[tuple[str, str]] = GRID,
            noises: Sequence[str] = tuple(NOISES), held: Collection[tuple[str, ...]] = ()) -> Iterator[dict[str, Any]]:
    """One row a pair and estimator, as they come.

    Args:
        names: of :data:`methods.estimation.ESTIMATORS`.
        scenes: (dataset, split); all scenes of the split, of "synthetic" one.
        grid: (sensor, blur).
        noises: of :data:`NOISES`.
        held: cells that are left out, values of :data:`CELL`.

    Raises:
        MethodError: what an estimator raises.
        SceneError: an unknown dataset or split, or missing files.
    """
    plan = []
    for dataset, split in scenes:
        data = _dataset(dataset)
        for cell in itertools.product((dataset,), (split,), data.entries(split), grid, noises):
            if cell[3][1] in NON_UNIFORM and cell[3][0] != "tm-4":
                raise ValueError(f"blur '{cell[3][1]}' is that of sensor tm-4, not of {cell[3][0]}")
            due = [name for name in names if (name, *cell[:3], *cell[3], cell[4]) not in held]
            plan += [(data, *cell, due)] if due else []
    here = {"device": device_name(torch.device("cpu")), "threads": torch.get_num_threads(), **code_version()}
    with tqdm(plan, desc="estimators", unit="pair") as bar:
        for data, dataset, split, entry, (sensor, blur), noise, due in bar:
            bar.set_postfix_str(f"{entry} {sensor} {blur} {noise}")
            pair = made(data.scene(entry), sensor, blur, noise, dataset=dataset, split=split)
            known = fused(pair, pair.psf, pair.srf, pair.phase)
            for name in due:
                yield {"estimator": name, **pair.words, **row(name, pair, known), **here}


def everything(held: Collection[tuple[str, ...]] = ()) -> Iterator[dict[str, Any]]:
    """The rows of the page: every estimator of :data:`COMPARED` on the grid, all on what varies, and the measured pair.

    Args:
        held: cells that are left out, values of :data:`CELL`.
    """
    done = set(held)
    grids: tuple[Callable[[], Iterator[dict[str, Any]]], ...] = (
        lambda: compare(held=done), lambda: compare(FIELDS, FIELD_SCENES, FIELD_GRID, FIELD_NOISES, done),
        lambda: measured_pair(held=done))
    for grid in grids:
        for found in grid():
            done.add(tuple(found[key] for key in CELL))
            yield found


def row(name: str, pair: Made, known: float) -> dict[str, Any]:
    """Figures of one estimator on one pair; ``known``: PSNR in dB of subspace-ridge told the truth."""
    start = time.perf_counter()
    found, lr_hsi, hr_msi = found_by(name, pair.lr_hsi, pair.hr_msi)
    seconds = time.perf_counter() - start
    judged = quality(found, lr_hsi[None], hr_msi[None])[0]
    told = fused(pair._replace(lr_hsi=lr_hsi, hr_msi=hr_msi), found.psf[0], found.srf[0], found.phase, found.offset[0])
    return {**against_truth(found, pair), **figures(judged), "psnr_known_db": known, "psnr_told_db": told,
            "loss_db": known - told, "trust": judged.trust, "seconds": seconds}


def found_by(name: str, lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Responses, Tensor, Tensor]:
    """What an estimator finds of a pair (bands, h, w), (msi_bands, H, W), and the pair, which "pidm" makes uniform first."""
    if name == pidm.NAME:
        lr_hsi, hr_msi = pidm.fit(lr_hsi, hr_msi).straightened(lr_hsi, hr_msi)
    return ESTIMATORS[DEFAULT if name == pidm.NAME else name](lr_hsi[None], hr_msi[None]), lr_hsi, hr_msi


def figures(judged: Quality) -> dict[str, Any]:
    """What the pair says of an estimate, as columns."""
    return {"residual_mean": sum(judged.residual) / len(judged.residual), "residual_max": max(judged.residual),
            "unexplained_max": max(judged.unexplained), "expected": judged.expected, "edge": judged.edge, "rank": judged.rank,
            "bands": judged.bands, "residuals": " ".join(f"{each:.4g}" for each in judged.residual)}


def measured_pair(names: Sequence[str] = FIELDS, held: Collection[tuple[str, ...]] = ()) -> Iterator[dict[str, Any]]:
    """Rows of a pair that two sensors measured: Hyperion and ALI over Paris, on one grid, the Hyperion image decimated here.

    The HR-HSI is the Hyperion image as it was measured, with its own noise; what the sensors' responses are nobody knows.

    Raises:
        SceneError: no such file.
    """
    from benchmark.pair import load_pair

    due = [name for name in names if (name, *MEASURED.values()) not in held]
    if not due:
        return
    path = data_root(None) / f"{MEASURED['image']}.npz"
    pair = load_pair(f"{path}:cube", f"{path}:msi", decimate=MEASURED_RATIO)
    assert pair.measured is not None
    here = {"device": device_name(torch.device("cpu")), "threads": torch.get_num_threads(), **code_version()}
    for name in due:
        start = time.perf_counter()
        found, lr_hsi, hr_msi = found_by(name, pair.lr_hsi, pair.hr_msi)
        seconds = time.perf_counter() - start
        judged = quality(found, lr_hsi[None], hr_msi[None])[0]
        model = create("subspace-ridge", bands=len(lr_hsi), msi_bands=len(hr_msi), ratio=MEASURED_RATIO,
                       psf=found.psf[0].float(), srf=found.srf[0].float(), phase=found.phase)
        hr_msi = hr_msi - found.offset[0].float()[:, None, None]
        told = metrics.psnr(fuse(model, lr_hsi[None], hr_msi[None])[0], pair.measured).item()
        unknown = ("share_in_band", "srf_error", "psf_error", "centre_error_px", "psnr_known_db", "loss_db")
        yield {"estimator": name, **MEASURED, **dict.fromkeys(unknown, math.nan), **figures(judged), "psnr_told_db": told,
               "trust": judged.trust, "seconds": seconds, **here}


def calibration(found: pd.DataFrame, loss_db: float = LOSS_DB) -> dict[str, float]:
    """How well ``trust`` tells estimates that cost ``loss_db`` or more.

    Args:
        found: rows of :func:`compare`.
        loss_db: of subspace-ridge told the estimate.

    Returns:
        Numbers of rows: ``bad``, of these ``flagged``, ``good``, of these ``doubted``.
    """
    bad, doubted = found["loss_db"] > loss_db, found["trust"] != "ok"
    return {"bad": int(bad.sum()), "flagged": int((bad & doubted).sum()), "good": int((~bad).sum()),
            "doubted": int((~bad & doubted).sum())}


def _dataset(name: str) -> Dataset:
    return get(name, size=PROTOCOL.hr_size, val=1, test=1) if name == "synthetic" else get(name)

