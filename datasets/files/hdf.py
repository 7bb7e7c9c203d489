"""HDF5 and netCDF 4: PRISMA (.he5), EMIT (.nc), and other files whose datasets say what they are.

Bands are the last axis, as EMIT and NEON store them; PRISMA stores (rows, bands, columns).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datasets.files.arrays import Arrays, Declared, named, own_values
from datasets.scene import SceneError

_PRISMA = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"
_DETECTORS = ("Vnir", "Swir")


def hdf(path: Path) -> Arrays:
    """The datasets of a file, by their paths in it."""
    with h5py.File(path) as file:
        if _PRISMA in file:
            return _prisma(path, file)
        shapes: dict[str, tuple[int, ...]] = {}

        def note(name: str, item: h5py.Dataset | h5py.Group) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind != "O":
                own_values(path, item)
                shapes[name] = item.shape

        file.visititems(note)

    def load(name: str) -> np.ndarray:
        with h5py.File(path) as file:
            return file[name][()]

    def declared(name: str) -> Declared:
        with h5py.File(path) as file:
            said = {key.lower(): value for key, value in file[name].attrs.items()}
            centres = next((file[other].attrs["units"] for other in shapes if other.rpartition("/")[2].lower() in
                            ("wavelengths", "wavelength") and "units" in file[other].attrs), "")
        beside = named(shapes, load, name, _word(centres))
        bands = shapes[name][-1]
        nodata = next((_number(path, key, said[key]) for key in ("_fillvalue", "missing_value", "data_ignore_value")
                       if key in said), None)
        gain = _number(path, "scale_factor", said.get("scale_factor", 1.0))
        if "scale factor" in said or ("scale_factor" in said and "data_ignore_value" in said):
            gain = 1 / gain  # NEON divides by what netCDF multiplies by
        offset = _number(path, "add_offset", said.get("add_offset", 0.0))
        scaled = gain != 1 or offset != 0
        return Declared(**{**vars(beside), "nodata": (nodata,) * bands, "gains": np.full(bands, gain) if scaled else None,
                           "offsets": np.full(bands, offset) if scaled else None,
                           "units": beside.units or _word(said.get("units", ""))})

    return Arrays(shapes, load, declared)


def _prisma(path: Path, file: h5py.File) -> Arrays:
    """Both detectors of a level 2D product, one after the other, each in ascending order as no detector is stored."""
    cubes = [file[f"{_PRISMA}/{detector.upper()}_Cube"] for detector in _DETECTORS]
    rows, _, cols = cubes[0].shape
    if cubes[1].shape[::2] != (rows, cols):
        raise SceneError(f"{path}: VNIR and SWIR of different sizes, {cubes[0].shape} and {cubes[1].shape}; copy it again")
    counts = [cube.shape[1] for cube in cubes]
    centres = []
    gains, offsets = [], []
    for detector, count in zip(_DETECTORS, counts):
        listed = np.asarray(file.attrs[f"List_Cw_{detector}"], dtype=np.float64)
        if len(listed) != count:
            raise SceneError(f"{path}: List_Cw_{detector} has {len(listed)} wavelengths for {count} bands; copy it again")
        centres.append(listed)
        low, high = (file.attrs.get(f"L2Scale{detector}{end}") for end in ("Min", "Max"))
        gains.append(np.full(count, 1.0 if high is None else (float(high) - float(low)) / 65535))
        offsets.append(np.full(count, 0.0 if high is None else float(low)))
    orders = [np.argsort(each, kind="stable") for each in centres]
    numbers = np.concatenate([orders[0], counts[0] + orders[1]])

    def load(_: str) -> np.ndarray:
        with h5py.File(path) as file:
            return np.concatenate([np.moveaxis(file[f"{_PRISMA}/{detector.upper()}_Cube"][()], 1, -1)
                                   for detector in _DETECTORS], axis=-1)[..., numbers]

    def valid() -> np.ndarray:
        return (load("cube") != 0).any(-1)  # outside of the swath, which lies askew in the map, all bands are 0

    wavelengths, gain, offset = (np.concatenate(each)[numbers] for each in (centres, gains, offsets))
    scaled = bool((gain != 1).any() or (offset != 0).any())
    said = Declared(wavelengths, gains=gain if scaled else None, offsets=offset if scaled else None, valid=valid)
    return Arrays({"cube": (rows, cols, sum(counts))}, load, lambda _: said, ordered=True)


def _word(value: Any) -> str:
    value = np.asarray(value).ravel()[0] if np.asarray(value).size else ""
    return value.decode() if isinstance(value, bytes) else str(value)


def _number(path: Path, key: str, value: Any) -> float:
    values = np.unique(np.asarray(value, dtype=np.float64))
    if len(values) != 1:
        raise SceneError(f"{path}: attribute {key} = {value}: one number is wanted; convert the cube")
    return float(values[0])
