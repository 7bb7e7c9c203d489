"""What a file declares of its values is obeyed, and told once: bad bands, no-data, masks, gains and offsets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datasets.files.arrays import Declared, one_error, tell
from datasets.scene import SceneError


def obeyed(path: Path, cube: np.ndarray, declared: Declared, nodata: float | None) -> tuple[np.ndarray, dict[str, Any]]:
    """Native values and words of stored values (bands, H, W)."""
    bad = bad_bands(declared, len(cube))
    if bad.all():
        raise SceneError(f"{path}: every one of its {len(cube)} bands is marked bad; correct the marks")
    if bad.any():
        tell(f"{path}: bands {_listed(bad)} are marked bad and left out")
    inside = None
    if declared.valid is not None:
        with one_error(path):
            inside = declared.valid()
    missing, empty, values = _missing(cube, bad, declared.nodata, nodata, inside)
    never = sorted({value for value in (*declared.nodata, nodata) if value is not None and not _can_hold(cube.dtype, value)})
    if never:
        tell(f"{path}: no-data {', '.join(f'{value:g}' for value in never)} is no value of type {cube.dtype}, so it marks no "
             "pixel; if fill is another number, say nodata=NUMBER (--data-option nodata=NUMBER; fuse --nodata NUMBER)")
    if empty.any() and not (bad | empty).all():
        tell(f"{path}: bands {_listed(empty)} hold no data in any pixel and are left out")
        bad |= empty
    elif empty.any():
        raise SceneError(f"{path}: every pixel is no-data ({', '.join(values)}); choose another file, or correct what it "
                         "says of no-data")
    if missing.all():
        raise SceneError(f"{path}: no pixel holds data in every band (no-data: {', '.join(values)}); choose another file, "
                         "correct what it says of no-data, or mark the bands that lack data as bad (bbl)")
    if missing.any():
        tell(f"{path}: {int(missing.sum())} of {missing.size} pixels are no-data ({', '.join(values)}) and masked")
    kept = np.flatnonzero(~bad)
    cube = cube[kept] if bad.any() else cube
    cube = _scaled(path, cube, declared, kept)
    words: dict[str, Any] = {}
    if declared.wavelengths is not None:
        words["wavelengths"] = np.asarray(declared.wavelengths, dtype=np.float64)[kept]
        falls = int((np.diff(words["wavelengths"]) < 0).sum())
        if 0 < falls < len(kept) - 1 and not _from_file(declared):
            tell(f"{path}: wavelengths do not ascend ({falls} times the next one is shorter, as where detectors overlap); "
                 "bands stay in the file's order")
    elif declared.unusable:
        words["unusable"] = declared.unusable
    if declared.band_numbers:
        words["band_numbers"] = tuple(declared.band_numbers[i] for i in kept)
    words |= {key: value for key, value in (("name", declared.name), ("units", declared.units)) if value}
    if missing.any():
        words["valid"] = ~missing
    else:
        _tell_flat(path, cube)
    return cube, words


def bad_bands(declared: Declared, bands: int) -> np.ndarray:
    """(bands,) bool: bands marked as bad, or by a wavelength of 0 as headers of some sensors do."""
    bad = np.zeros(bands, dtype=bool) if declared.bad is None else declared.bad.copy()
    return bad if declared.wavelengths is None else bad | ~(np.nan_to_num(declared.wavelengths) > 0)


def _missing(cube: np.ndarray, bad: np.ndarray, declared: tuple[float | None, ...], nodata: float | None,
             inside: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Where a pixel lacks a band (H, W), which bands lack all pixels (bands,), and the values that say so."""
    missing, empty = np.zeros(cube.shape[1:], dtype=bool), np.zeros(len(cube), dtype=bool)
    values: dict[str, None] = {}
    outside = np.zeros_like(missing) if inside is None else ~inside
    for index in np.flatnonzero(~bad):
        band = cube[index]
        hit = np.zeros_like(missing)
        for value in {value for value in (*declared[index : index + 1], nodata) if value is not None}:
            meant = band == np.array(value).astype(band.dtype) if _can_hold(band.dtype, value) else np.zeros_like(hit)
            if meant.any():
                values[f"{value:g}"] = None
            hit |= meant
        if band.dtype.kind == "f":
            holes = np.isnan(band)
            if holes.any():
                values["NaN"] = None
            hit |= holes
        empty[index] = (hit | outside).all()
        if not empty[index]:
            missing |= hit
    if outside.any():
        values["outside of its mask"] = None
    return missing | outside, empty, list(values)


def _can_hold(dtype: np.dtype, value: float) -> bool:
    """Whether a type has a number among its values: no byte is -9999 or NaN."""
    if dtype.kind == "f":
        return True
    return dtype.kind != "b" and float(value).is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _scaled(path: Path, cube: np.ndarray, declared: Declared, kept: np.ndarray) -> np.ndarray:
    if declared.gains is None or declared.offsets is None:
        return cube
    gains, offsets = declared.gains[kept], declared.offsets[kept]
    if (gains == 1).all() and (offsets == 0).all():
        return cube
    if not (np.isfinite(gains).all() and np.isfinite(offsets).all() and (gains != 0).all()):
        raise SceneError(f"{path}: gains {_span(gains)} and offsets {_span(offsets)}: they must be numbers, and gains not 0; "
                         "correct them in the file")
    tell(f"{path}: gains {_span(gains)} and offsets {_span(offsets)} are applied")
    dtype = np.result_type(cube.dtype, np.float32)
    return cube * gains.astype(dtype)[:, None, None] + offsets.astype(dtype)[:, None, None]


def _tell_flat(path: Path, cube: np.ndarray) -> None:
    """Pixels with one value in all bands are mostly fill that the file does not declare."""
    if len(cube) < 3 or (cube[0] == cube[-1]).mean() < 0.01:
        return
    flat = (cube == cube[:1]).all(0)
    values, counts = np.unique(cube[0][flat], return_counts=True)
    if len(counts) and counts.max() >= 0.01 * flat.size:
        value = values[counts.argmax()]
        tell(f"{path}: {counts.max()} of {flat.size} pixels are {value:g} in every band; if that means no data, say "
             f"nodata={value:g} (--data-option nodata={value:g}; fuse --nodata {value:g})")


def _from_file(declared: Declared) -> bool:
    """Whether band numbers came with the file: who wrote those knows of the overlap."""
    return bool(declared.band_numbers) and declared.band_numbers != tuple(range(1, 225))


def _listed(marks: np.ndarray) -> str:
    """Bands by number from 1: ``3, 4, 10-12``."""
    runs = np.split(np.flatnonzero(marks) + 1, np.flatnonzero(np.diff(np.flatnonzero(marks)) > 1) + 1)
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _span(values: np.ndarray) -> str:
    return f"{values.min():g}" if values.min() == values.max() else f"{values.min():g} to {values.max():g}"
