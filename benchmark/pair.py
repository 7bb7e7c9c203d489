"""A pair of one's own: an LR-HSI and an HR-MSI in files, fused without a reference and judged by what can be judged.

pair = load_pair("scene_hsi.mat", "scene_msi.tif")
rows, images = fuse_pair(pair, ("fuse-blind", "hysure-blind"))

"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmark import metrics
from benchmark.machine import code_version, timed
from benchmark.no_reference import judge
from datasets import SceneError
from datasets.io import read_native, tell
from datasets.scene import filled
from methods import card, create, fuse, weights
from methods.estimation import ESTIMATORS
from methods.registry import split_label
from methods.responses import Told, gaussian_decimate

RGB_NM = (650.0, 550.0, 450.0)


@dataclass(frozen=True)
class Pair:
    """What two sensors saw of one place, each image divided by its own largest value.

    Args:
        name: of the HSI's file.
        lr_hsi: (bands, h, w) float32, at most 1.
        hr_msi: (msi_bands, H, W) float32, at most 1.
        hsi_max: native value of 1 in ``lr_hsi``.
        wavelengths: (bands,) in nanometres; empty if the file does not tell them.
        measured: (bands, H, W), the HSI before it was decimated here; None if it was not.
        valid: (H, W) bool, where both files hold data (elsewhere the images hold the nearest spectrum); None: everywhere.
    """

    name: str
    lr_hsi: Tensor
    hr_msi: Tensor
    hsi_max: float
    wavelengths: np.ndarray
    measured: Tensor | None = None
    valid: Tensor | None = None

    @property
    def ratio(self) -> int:
        """HR pixels per LR pixel along one side."""
        return self.hr_msi.shape[-1] // self.lr_hsi.shape[-1]


def load_pair(hsi: str, msi: str, decimate: int = 1, nodata: float | None = None, band_first: bool = False) -> Pair:
    """Read a pair of registered images, as data sets are read (:func:`datasets.io.read_native`).

    Args:
        hsi: file of the LR-HSI, or ``FILE:ARRAY`` where it holds several arrays, ``FILE:STRUCT.FIELD`` of a MATLAB struct.
        msi: the same of the HR-MSI; one image (rows, columns) is one band.
        decimate: make an LR-HSI of the HSI first: a Gaussian as wide as this many pixels, then every such block.
            For sensors of equal resolution, where the HSI as measured can then be compared with.
        nodata: stored value that means no data, beside what the files say themselves.
        band_first: arrays of NumPy, MATLAB and HDF5 files are (bands, rows, columns).

    Raises:
        SceneError: unreadable files, wavelengths that do not fit the bands,
            values that are not finite or not positive, or sizes that do not fit.
    """
    if decimate < 1:
        raise SceneError(f"--decimate {decimate}: a ratio of resolutions is 1 (none) or more")
    cube, words = _read(hsi, nodata, band_first)
    image, image_words = _read(msi, nodata, band_first, flat=True)
    if "unusable" in words:
        tell(f"{hsi}: its wavelengths cannot be used ({words['unusable']}); bands have numbers alone")
    if any(side % decimate for side in cube.shape[1:]):
        raise SceneError(f"{hsi}: {cube.shape[1]}x{cube.shape[2]} pixels are not multiples of {decimate}; "
                         "choose another --decimate or crop both images")
    measured = cube / cube.max()
    lr_hsi = gaussian_decimate(measured[None], decimate)[0] if decimate > 1 else measured
    rows, columns = image.shape[1] / lr_hsi.shape[1], image.shape[2] / lr_hsi.shape[2]
    if rows != columns or rows != int(rows) or rows < 2:
        raise SceneError(
            f"an LR-HSI of {lr_hsi.shape[1]}x{lr_hsi.shape[2]} and an HR-MSI of {image.shape[1]}x{image.shape[2]} pixels: the "
            "MSI must be a whole number of times larger, 2 or more, the same along both sides. Crop or resample one of "
            "them" + ("; for sensors of equal resolution give --decimate" if rows == columns == 1 else "")
            + f". Bands are taken from the {'first' if band_first else 'last'} axis of arrays ({len(cube)} and {len(image)}); "
            f"if theirs is the {'last' if band_first else 'first'}, {'leave out' if band_first else 'say'} --band-first")
    name = os.fsencode(_place(hsi)[0].stem).decode(errors="replace")  # rows are UTF-8
    return Pair(name, lr_hsi, image / image.max(), float(cube.max()), np.asarray(words.get("wavelengths", ())),
                measured if decimate > 1 else None, _valid(words, image_words, image))


def _valid(hsi: dict[str, Any], msi: dict[str, Any], image: Tensor) -> Tensor | None:
    """(H, W) bool on the grid of the MSI, where both have data; None if they have it everywhere."""
    masks = [torch.from_numpy(words["valid"]) for words in (hsi, msi) if "valid" in words]
    if not masks:
        return None
    fine = [mask.repeat_interleave(image.shape[1] // mask.shape[0], 0).repeat_interleave(image.shape[2] // mask.shape[1], 1)
            for mask in masks]
    return torch.stack(fine).all(0)


def _place(text: str) -> tuple[Path, str]:
    """``FILE`` or ``FILE:ARRAY`` -> file and array; a path that exists is a path, whatever colons it holds."""
    whole = Path(text).expanduser()
    if whole.exists() or ":" not in text:
        return whole, ""
    path, _, array = text.rpartition(":")
    return Path(path).expanduser(), array


def _read(place: str, nodata: float | None, band_first: bool, flat: bool = False) -> tuple[Tensor, dict[str, Any]]:
    """One image (bands, H, W) float32, filled where it has no data, and the words of its file."""
    path, array = _place(place)
    cube, words = read_native(path, array=array, nodata=nodata, band_first=band_first, flat=flat)
    values = torch.from_numpy(np.ascontiguousarray(filled(cube, words.get("valid")), dtype=np.float32))
    if not torch.isfinite(values).all() or values.max() <= 0:
        raise SceneError(f"{place}: values that are not finite, or none above 0; fill or cut them out first")
    return values, words


def responses(pair: Pair, estimator: str) -> Told:
    """Estimated PSF, SRF and phase.

    Raises:
        SceneError: unknown estimator.
    """
    if estimator not in ESTIMATORS:
        raise SceneError(f"unknown estimator '{estimator}'; choices: {', '.join(ESTIMATORS)}")
    found = ESTIMATORS[estimator](pair.lr_hsi[None], pair.hr_msi[None])
    return Told(found.psf[0], found.srf[0], found.phase)


def fuse_pair(pair: Pair, methods: Sequence[str], told: Told | None = None) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """One row and the estimate (bands, H, W) of each method, as they come.

    Args:
        pair: the images.
        methods: registry names of methods that need no training, or variants of them.
        told: for the methods that take it.
    """
    for name in methods:
        its = card(name)
        if its.recipes and "weights" not in split_label(name)[1]:
            there = f", such as {its.name}@weights=shipped" if its.name in weights.shipped() else ""
            raise SceneError(f"method '{name}' must be trained first; take one of the families classical or unsupervised, or "
                             f"give its parameters by weights=FILE{there}")
        model = create(name, bands=len(pair.lr_hsi), msi_bands=len(pair.hr_msi), ratio=pair.ratio,
                       **(told._asdict() if told else {}))
        estimate, seconds = timed(partial(fuse, model, pair.lr_hsi[None].clone(), pair.hr_msi[None].clone()))
        figures = judge(estimate[0], pair.lr_hsi, pair.hr_msi)
        if pair.measured is not None:
            figures |= {"psnr_db": metrics.psnr(estimate[0], pair.measured).item(),
                        "sam_deg": metrics.sam(estimate[0], pair.measured).item()}
        yield {"method": name, "pair": pair.name, "ratio": pair.ratio, **figures, "seconds": seconds,
               **code_version()}, estimate[0]


def picture(pair: Pair, rows: Sequence[dict[str, Any]], images: Sequence[Tensor], path: Path) -> None:
    """Both images and every estimate in the same colours, with the figures of each; written as PNG."""
    bands = [int(np.abs(pair.wavelengths - nm).argmin()) for nm in RGB_NM] if len(pair.wavelengths) else [
        round(share * (len(pair.lr_hsi) - 1)) for share in (0.8, 0.5, 0.2)]
    limits = torch.stack([torch.quantile(pair.lr_hsi[band], torch.tensor([0.01, 0.99])) for band in bands])

    def colours(image: Tensor) -> np.ndarray:
        low, high = limits[:, 0, None, None], limits[:, 1, None, None]
        return ((image[bands] - low) / (high - low)).clamp(0, 1).permute(1, 2, 0).numpy()

    grey = pair.hr_msi.mean(0)
    shown = [("LR-HSI\n" + "x".join(map(str, pair.lr_hsi.shape[1:])) + " pixels", colours(pair.lr_hsi)),
             (f"HR-MSI\nmean of its {len(pair.hr_msi)} bands", (grey / torch.quantile(grey, 0.99)).clamp(0, 1).numpy())]
    shown += [("HSI as measured\n", colours(pair.measured))] if pair.measured is not None else []
    shown += [(f"{row['method']}\nQNR {row['qnr']:.3f}, {row['seconds']:.2g} s", colours(image))
              for row, image in zip(rows, images)]
    columns = min(4, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.0 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis, (title, image) in zip(axes.flat, shown):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=8)
    for axis in axes.flat:
        axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
