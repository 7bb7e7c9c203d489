"""A pair of one's own: an LR-HSI and an HR-MSI in files, fused without a reference and judged by what can be judged.

    pair = load_pair("scene_hsi.mat", "scene_msi.tif")
    for row, image in fuse_pair(pair, ("gsa", "hysure-blind")):
        ...

How results are written says :mod:`benchmark.deliver`, what methods are told of the sensors :mod:`benchmark.told`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from affine import Affine
from rasterio.crs import CRS
from skimage.registration import phase_cross_correlation
from torch import Tensor

from benchmark import piecewise
from benchmark.footprint import Place, onto_grid, same_place
from benchmark.gaps import filled_together, largest_rectangle
from benchmark.machine import code_version
from benchmark.no_reference import Judge
from benchmark.piecewise import Estimate
from benchmark.store import StoreError, writing
from datasets import SceneError
from datasets.io import READERS, georeference, read_native, says_axes, tell
from datasets.scene import filled
from methods import card, create, weights
from methods.estimation import Responses, estimate_srf
from methods.registry import split_label
from methods.registry import tell as tell_network
from methods.registry import told as told_by_card
from methods.responses import Told, gaussian_decimate
from methods.streamed import part_of


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
        valid: (H, W) bool, where both files hold data (elsewhere the images hold what is nearest); None: everywhere.
        msi_max: native value of 1 in ``hr_msi``.
        crs: projection of the HSI, or of the MSI where the HSI says none.
        transform: of the HR-MSI's grid, from (column, row) to coordinates; None: no file says where it lies.
        georeferenced: the HSI says where it lies.
    """

    name: str
    lr_hsi: Tensor
    hr_msi: Tensor
    hsi_max: float
    wavelengths: np.ndarray
    measured: Tensor | None = None
    valid: Tensor | None = None
    msi_max: float = 1.0
    crs: CRS | None = None
    transform: Affine | None = None
    georeferenced: bool = False

    @property
    def ratio(self) -> int:
        """HR pixels per LR pixel along one side."""
        return self.hr_msi.shape[-1] // self.lr_hsi.shape[-1]


def load_pair(hsi: str, msi: str, decimate: int = 1, nodata: float | None = None, band_first: bool = False,
              resample: bool = False, hsi_nodata: float | None = None, msi_nodata: float | None = None) -> Pair:
    """Read a pair of registered images, as data sets are read (:func:`datasets.io.read_native`).

    Args:
        hsi: file of the LR-HSI, or ``FILE:ARRAY`` where it holds several arrays, ``FILE:STRUCT.FIELD`` of a MATLAB struct.
        msi: the same of the HR-MSI; one image (rows, columns) is one band.
        decimate: make an LR-HSI of the HSI first: a Gaussian as wide as this many pixels, then every such block.
            For sensors of equal resolution, where the HSI as measured can then be compared with.
        nodata: stored value that means no data, beside what the files say themselves.
        band_first: arrays of NumPy, MATLAB and HDF5 files are (bands, rows, columns).
        resample: bring the MSI onto the HSI's grid, cut finer, by what both say of where they lie.
        hsi_nodata: of the HSI, in the place of ``nodata``.
        msi_nodata: of the MSI, in the place of ``nodata``.

    Raises:
        SceneError: unreadable files, wavelengths that do not fit the bands, values that are not finite or not positive,
            sizes that do not fit, or images of different places.
    """
    if decimate < 1:
        raise SceneError(f"--decimate {decimate}: a ratio of resolutions is 1 (none) or more")
    cube, words = _read(hsi, nodata if hsi_nodata is None else hsi_nodata, band_first)
    image, image_words = _read(msi, nodata if msi_nodata is None else msi_nodata, band_first, flat=True)
    at, msi_at = _where(hsi, cube), _where(msi, image)
    if resample:
        if at is None or msi_at is None:
            raise SceneError(f"--resample: {hsi if at is None else msi} does not say where it lies; give GeoTIFF or ENVI files "
                             "with a georeference, or leave --resample out")
        values, inside, finer, done = onto_grid(image.numpy(), image_words.get("valid"), msi_at, at)
        image, image_words["valid"] = torch.from_numpy(np.ascontiguousarray(filled(values, inside))), inside
        msi_at = Place(msi, at.crs, at.transform @ Affine.scale(1 / finer), (image.shape[1], image.shape[2]))
        tell(done)
    elif at is not None and msi_at is not None and (apart := same_place(at, msi_at, decimate)):
        tell(apart)
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
            "MSI must be a whole number of times larger, 2 or more, the same along both sides. "
            + ("The HSI comes first, then the MSI. " if rows < 1 and columns < 1 else "")
            + "Crop or resample one of them"
            + ("; for sensors of equal resolution give --decimate" if rows == columns == 1 else "")
            + ("." if all(says_axes(place_of(each)[0]) for each in (hsi, msi)) else
               f". Bands are taken from the {'first' if band_first else 'last'} axis of arrays ({len(cube)} and {len(image)}); "
               f"if theirs is the {'last' if band_first else 'first'}, {'leave out' if band_first else 'say'} --band-first"))
    name = os.fsencode(place_of(hsi)[0].stem).decode(errors="replace")  # rows are UTF-8
    transform = msi_at.transform if msi_at else at and at.transform @ Affine.scale(cube.shape[1] / image.shape[1])
    valid, hr_msi = _valid(words, image_words, image), image / image.max()
    if valid is not None:
        lr_hsi, hr_msi = filled_together(lr_hsi, hr_msi, valid)
    return Pair(name, lr_hsi, hr_msi, float(cube.max()), np.asarray(words.get("wavelengths", ())),
                measured if decimate > 1 else None, valid, float(image.max()),
                (at and at.crs) or (msi_at and msi_at.crs), transform, at is not None)


def _where(place: str, image: Tensor) -> Place | None:
    found = georeference(place_of(place)[0])
    return Place(place, *found, (image.shape[1], image.shape[2])) if found else None


def _valid(hsi: dict[str, Any], msi: dict[str, Any], image: Tensor) -> Tensor | None:
    """(H, W) bool on the grid of the MSI, where both have data; None if they have it everywhere."""
    masks = [torch.from_numpy(words["valid"]) for words in (hsi, msi) if "valid" in words]
    if not masks:
        return None
    fine = [mask.repeat_interleave(image.shape[1] // mask.shape[0], 0).repeat_interleave(image.shape[2] // mask.shape[1], 1)
            for mask in masks]
    return torch.stack(fine).all(0)


def whole(pair: Pair) -> Pair:
    """The largest upright rectangle of a pair in which both images have data; the pair itself where that is too small.

    What is estimated from two images is estimated there: fill follows no sensor. "Too small" is a side below 8 LR pixels.
    """
    if pair.valid is None:
        return pair
    valid = pair.valid.view(pair.lr_hsi.shape[1], pair.ratio, pair.lr_hsi.shape[2], pair.ratio).all(3).all(1).numpy()
    top, bottom, left, right = largest_rectangle(valid)
    if min(bottom - top, right - left) < 8:
        return pair
    n = pair.ratio
    return replace(pair, lr_hsi=pair.lr_hsi[:, top:bottom, left:right], measured=None, valid=None,
                   hr_msi=pair.hr_msi[:, n * top : n * bottom, n * left : n * right], transform=None)


def place_of(text: str) -> tuple[Path, str]:
    """``FILE`` or ``FILE:ARRAY`` -> file and array; a path that exists is a path, whatever colons it holds.

    Raw data of ENVI stand for their header.
    """
    whole = Path(text).expanduser()
    if whole.is_file() and whole.suffix.lower() not in READERS:
        headers = (whole.with_suffix(".hdr"), Path(f"{whole}.hdr"))
        return next((header for header in headers if header.is_file()), whole), ""
    if whole.exists() or ":" not in text:
        return whole, ""
    path, _, array = text.rpartition(":")
    return Path(path).expanduser(), array.strip("/")


def _read(place: str, nodata: float | None, band_first: bool, flat: bool = False) -> tuple[Tensor, dict[str, Any]]:
    """One image (bands, H, W) float32, filled where it has no data, and the words of its file."""
    path, array = place_of(place)
    cube, words = read_native(path, array=array, nodata=nodata, band_first=band_first, flat=flat)
    values = torch.from_numpy(np.ascontiguousarray(filled(cube, words.get("valid")), dtype=np.float32))
    if not torch.isfinite(values).all() or values.max() <= 0:
        raise SceneError(f"{place}: values that are not finite, or none above 0; fill or cut them out first")
    if (values == values[:, :1, :1]).all() and values[0].numel() > 1:
        raise SceneError(f"{place}: every band holds one value in all pixels; name the file that holds the image")
    return values, words


def misregistration(pair: Pair) -> tuple[float, float]:
    """How far the HR-MSI lies from the LR-HSI, (rows, columns) in LR pixels, to a twentieth.

    Both are made one image at LR: the mean MSI band, and the LR-HSI seen through responses estimated from the pair. Their
    phase correlation is that of Guizar-Sicairos et al., Optics Letters 33(2):156-158, 2008, as scikit-image has it. Above
    2^16 LR pixels that is the shift of one part of so many (:func:`methods.streamed.part_of`).
    """
    pair = whole(pair)
    lr_hsi, hr_msi = part_of(pair.lr_hsi, pair.hr_msi)
    srf, _ = (found[0] for found in estimate_srf(lr_hsi[None], hr_msi[None]))
    low = gaussian_decimate(hr_msi[None].double(), pair.ratio)[0].mean(0)
    seen = torch.einsum("b,bhw->hw", srf.mean(0), lr_hsi.double())
    window = torch.hann_window(low.shape[0] + 2)[1:-1, None].double() * torch.hann_window(low.shape[1] + 2)[1:-1].double()
    one, other = (((image - image.mean()) * window).numpy() for image in (seen, low))
    shift, _, _ = phase_cross_correlation(one, other, upsample_factor=20, normalization=None)
    return -float(shift[0]), -float(shift[1])


def check_names(methods: Sequence[str]) -> None:
    """All that names alone can be refused for, before a file is read.

    Raises:
        SceneError: a method that must be trained first, or that looks at the reference.
        MethodError: no such method, argument or file of weights.
    """
    for name in methods:
        its, words = card(name), split_label(name)[1]
        if its.recipes and "weights" not in words:
            there = f", such as {its.name}@weights=shipped" if its.name in weights.shipped() else ""
            raise SceneError(f"method '{name}' must be trained first; take one of the families classical or unsupervised, or "
                             f"give its parameters by weights=FILE{there}")
        if its.oracle:
            raise SceneError(f"method '{name}' looks at the reference HR-HSI, and a pair has none; take another")
        if "weights" in words:
            weights.about(its.name, str(words["weights"]))


def needs_told(methods: Sequence[str]) -> list[str]:
    """Those that cannot do without the sensors' responses, themselves or the anchor that they correct."""
    def anchor(name: str) -> str:
        words = split_label(name)[1]
        held = weights.about(card(name).name, str(words["weights"])).arguments if "weights" in words else {}
        return str(words.get("anchor") or held.get("anchor", ""))

    return [name for name in methods if "known" in (told_by_card(name), anchor(name) and told_by_card(anchor(name)))]


def fuse_pair(pair: Pair, methods: Sequence[str], told: Responses | None = None, source: str = "", out: Path | None = None,
              memory: str | None = None, made_of: Mapping[str, Any] | None = None) -> Iterator[
                  tuple[dict[str, Any], Estimate | None]]:
    """One row and the estimate (bands, H, W) of each method, as they come.

    The estimate is None of a method that failed, whose row says why, and of one that an earlier call has finished: its row is.

    Args:
        pair: the images.
        methods: registry names of methods that need no training, or variants of them.
        told: for the methods that take it.
        source: of what is told, in words.
        out: folder in which the windows of estimates lie until their reader finishes them, hidden, so that another call goes on
            from those that are done; None: a temporary one.
        memory: that the process may take, as :func:`benchmark.piecewise.memory` reads it.
        made_of: which files the pair is read from, and how.

    Raises:
        SceneError, MethodError: names, arguments, weights or sizes that do not fit; before the first one fuses.
        StoreError: a window of an estimate cannot be written; those that are stay.
    """
    check_names(methods)
    piecewise.memory(memory)
    responses = _told(told)
    build: Callable[[str], Any] = partial(create, bands=len(pair.lr_hsi), msi_bands=len(pair.hr_msi), ratio=pair.ratio,
                                          **(responses._asdict() if responses else {}))
    for name in methods:
        build(name)  # arguments and weights that do not fit are refused here
    return _fused(pair, methods, build, told, source, out, memory, made_of or {})


def _told(found: Responses | None) -> Told | None:
    return Told(found.psf[0].float(), found.srf[0].float(), found.phase) if found else None


def _fused(pair: Pair, methods: Sequence[str], build: Callable[[str], Any], told: Responses | None, source: str,
           out: Path | None, memory: str | None,
           made_of: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], Estimate | None]]:
    judge = None
    for name in methods:
        known = told is not None and told_by_card(name) == "known"
        row = {"method": name, "pair": pair.name, "ratio": pair.ratio, "status": "ok", "reason": "", "told": ""}
        temporary = tempfile.TemporaryDirectory() if out is None else None
        place = hidden(Path(temporary.name) if temporary else out or Path(), name)
        try:
            model = build(name)
            if told and hasattr(model, "told"):
                tell_network(model, _told(told))
                known = True
            z = pair.hr_msi - told.offset[0, :, None, None].float() if told and known else pair.hr_msi
            made = piecewise.identity(model, {"pair": made_of, "method": name, "weights": _checksum(name),
                                              "told": _numbers(told) if known else []})
            if (done := piecewise.finished(place, made)) and out and (out / done["file"]).is_file():
                tell(f"{name}: done before this command was stopped")
                yield done, None
                continue
            with writing(place, "--out"):
                estimate = piecewise.fused(model, pair.lr_hsi, z, place, made, piecewise.memory(memory), tell, name)
            estimate.temporary = temporary  # which goes with the last who reads
            judge = judge or Judge(pair.lr_hsi, pair.hr_msi)
            figures = judge(estimate, pair.measured)
        except StoreError:  # a full disk is no method's failure; what is done stays, and the same command goes on from there
            raise
        except Exception as error:  # whatever a method raises is its own failure, kept in its row
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            shutil.rmtree(place, ignore_errors=True)
            yield row | {"status": "failed", "reason": reason} | code_version(), None
            continue
        yield row | {"told": source if known else ""} | figures | {"seconds": estimate.seconds, "windows": estimate.words} \
            | code_version(), estimate


def hidden(out: Path, method: str) -> Path:
    """Where the windows of an unfinished estimate lie."""
    return out / f".unfinished-{hashlib.sha256(method.encode()).hexdigest()[:12]}"


def _checksum(name: str) -> str:
    word = split_label(name)[1].get("weights")
    return weights.about(card(name).name, str(word)).sha256 if word else ""


def _numbers(told: Responses | None) -> list[Any]:
    return [told.srf.tolist(), told.offset.tolist(), told.psf.tolist(), told.phase] if told else []
