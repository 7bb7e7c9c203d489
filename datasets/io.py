"""Cube files, one reader a format. Files store (rows, columns, bands); that order lives and ends on this page.

    read_cube("scene.mat") -> (bands, H, W) array of native values, {"wavelengths": (bands,) nanometres, ...}

A reader answers with the shapes of a file's arrays and a way to load one of them by name, so that a folder can be
planned (which scenes, how large) without decoding a cube.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from datasets.aviris_bands import centers_nm, is_aviris
from datasets.scene import SceneError


@dataclass(frozen=True)
class _Arrays:
    """The arrays of one file: shapes by name, and how to load one in the order (rows, columns, bands)."""

    shapes: dict[str, tuple[int, ...]]
    load: Callable[[str], np.ndarray]


# ---------------------------------------------------------------------------------------------- one reader a format


def _npy(path: Path) -> _Arrays:
    return _Arrays({"cube": np.load(path, mmap_mode="r").shape}, lambda _: np.load(path))


def _npz(path: Path) -> _Arrays:
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                old = np.lib.format.read_magic(file) == (1, 0)
                header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
                shapes[member.removesuffix(".npy")] = header(file)[0]

    def load(name: str) -> np.ndarray:
        with np.load(path) as arrays:
            return arrays[name]

    return _Arrays(shapes, load)


def _mat(path: Path) -> _Arrays:
    if h5py.is_hdf5(path):
        return _mat_v73(path)
    shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
    return _Arrays(shapes, lambda name: scipy.io.loadmat(path, variable_names=[name])[name])


def _mat_v73(path: Path) -> _Arrays:
    """MATLAB v7.3 is HDF5 with the axes reversed, because MATLAB counts columns first."""
    with h5py.File(path) as file:
        shapes = {name: item.shape[::-1] for name, item in file.items() if isinstance(item, h5py.Dataset)}

    def load(name: str) -> np.ndarray:
        with h5py.File(path) as file:
            return file[name][()].T

    return _Arrays(shapes, load)


_ENVI_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
_ENVI_ORDERS = {  # interleave -> axes on disk, and the transposition to lines, samples, bands
    "bsq": (("bands", "lines", "samples"), (1, 2, 0)),
    "bil": (("lines", "bands", "samples"), (0, 2, 1)),
    "bip": (("lines", "samples", "bands"), (0, 1, 2)),
}
_ENVI_RAW = ("", ".raw", ".img", ".dat", ".bin", ".bsq", ".bil", ".bip")


def _envi_raw(path: Path) -> Path:
    """The raw file that belongs to an ENVI header: ``x.raw`` or ``x`` beside ``x.hdr``."""
    for suffix in _ENVI_RAW:
        raw = path.with_suffix(suffix)
        if raw.is_file():
            return raw
    choices = ", ".join(path.with_suffix(suffix).name for suffix in _ENVI_RAW)
    raise SceneError(f"{path}: no raw file beside this ENVI header. Put one of these there: {choices}")


def _envi(path: Path) -> _Arrays:
    text = path.read_text(encoding="latin-1")
    pairs = re.findall(r"^[ \t]*([^=\n{}]+?)[ \t]*=[ \t]*(\{[^}]*\}|[^\n]*)", text, flags=re.MULTILINE)
    words = {key.lower(): value.strip(" \t\r{}") for key, value in pairs}
    absent = [key for key in ("samples", "lines", "bands", "data type", "interleave") if key not in words]
    if absent:
        raise SceneError(f"{path}: the ENVI header lacks {', '.join(absent)}; add the missing lines (key = value)")
    sizes = {key: int(words[key]) for key in ("lines", "samples", "bands")}
    kind, interleave = int(words["data type"]), words["interleave"].lower()
    if kind not in _ENVI_TYPES or interleave not in _ENVI_ORDERS:
        raise SceneError(
            f"{path}: ENVI data type {kind}, interleave '{interleave}'; supported are the real data types "
            f"{', '.join(map(str, _ENVI_TYPES))} and the interleaves {', '.join(_ENVI_ORDERS)}. Convert the cube."
        )
    axes, transposition = _ENVI_ORDERS[interleave]
    dtype = np.dtype(_ENVI_TYPES[kind]).newbyteorder(">" if words.get("byte order", "0") == "1" else "<")
    offset = int(words.get("header offset", 0))
    shapes: dict[str, tuple[int, ...]] = {"cube": (sizes["lines"], sizes["samples"], sizes["bands"])}
    wavelengths = np.array(words.get("wavelength", "").replace(",", " ").split(), dtype=np.float64)
    if wavelengths.size:
        shapes["wavelength"] = wavelengths.shape  # nanometres or micrometres: their size tells, whatever the units say

    def load(name: str) -> np.ndarray:
        if name == "wavelength":
            return wavelengths
        raw, count = _envi_raw(path), int(np.prod(shapes["cube"]))
        wanted, there = offset + count * dtype.itemsize, raw.stat().st_size
        if there < wanted:
            raise SceneError(
                f"{raw}: {there} bytes where the header {path.name} promises {wanted}. The file is truncated or the "
                "header describes another one: copy it again, or correct samples, lines, bands and data type."
            )
        flat = np.fromfile(raw, dtype=dtype, count=count, offset=offset)
        return flat.astype(dtype.newbyteorder("=")).reshape([sizes[axis] for axis in axes]).transpose(transposition)

    return _Arrays(shapes, load)


def _tiff(path: Path) -> _Arrays:
    try:
        import tifffile
    except ImportError as error:
        raise SceneError(
            f"{path}: GeoTIFF cubes need the optional package tifffile: pip install tifffile (the extra 'geotiff')"
        ) from error
    with tifffile.TiffFile(path) as file:
        axes, shape = file.series[0].axes, file.series[0].shape
    # Bands are samples (YXS, SYX) or pages (QYX, IYX): whatever is neither a row (Y) nor a column (X).
    order = sorted(range(len(axes)), key=lambda i: "YX".find(axes[i]) % 3)
    return _Arrays({"cube": tuple(shape[i] for i in order)}, lambda _: tifffile.imread(path).transpose(order))


READERS: dict[str, Callable[[Path], _Arrays]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".mat": _mat,
    ".hdr": _envi,
    ".tif": _tiff,
    ".tiff": _tiff,
}


SENSORS: dict[str, Callable[[], np.ndarray]] = {"aviris": centers_nm}  # name -> (bands,) centres in nanometres


# --------------------------------------------------------------------------------------------- what callers ask for


def read_cube(path: Path | str, sensor: str = "") -> tuple[np.ndarray, dict]:
    """A cube with its wavelengths.

    Wavelengths come from, in this order: a file ``<name>.wavelengths.csv`` or ``.txt`` beside the cube (numbers, one
    a line); the cube's own file; the table of the sensor, if one is named. Values below 100 are micrometres.

    Args:
        path: the file.
        sensor: one of :data:`SENSORS`; empty: nothing is assumed.

    Returns:
        cube: (bands, H, W), native values and dtype.
        words: ``wavelengths`` (bands,) in nanometres; ``band_numbers`` (tuple), ``name`` and ``units`` where known.

    Raises:
        SceneError: the file is unreadable, holds no single cube, or nothing tells its wavelengths.
    """
    path = Path(path)
    cube, words = read_native(path)
    sidecar = _sidecar(path)
    if sidecar:
        with _one_error(sidecar):
            words["wavelengths"] = _nanometres(sidecar, np.loadtxt(sidecar, delimiter=",", ndmin=1).ravel())
    bands = cube.shape[0]
    if "wavelengths" not in words:
        if sensor and bands == len(SENSORS[sensor]()):
            words["wavelengths"] = SENSORS[sensor]().copy()
        else:
            raise SceneError(f"{path}: {bands} bands and no wavelengths. {_wavelengths_remedy(path, bands, sensor)}")
    if bands == len(words["wavelengths"]) and is_aviris(words["wavelengths"]):
        words.setdefault("band_numbers", tuple(range(1, 225)))
    return cube, words


def read_native(path: Path) -> tuple[np.ndarray, dict]:
    """A cube (bands, H, W) and the words its own file holds, as in :func:`read_cube`; wavelengths may be absent."""
    with _one_error(path):
        arrays = _open(path)
        cube = arrays.load(_cube_name(path, arrays.shapes))
        words = _words(path, arrays)
    if cube.dtype.kind not in "biuf":
        raise SceneError(f"{path}: values of type {cube.dtype}; a cube holds real numbers. Convert it first.")
    return np.moveaxis(cube, -1, 0), words


def read_all(path: Path) -> dict[str, np.ndarray]:
    """Every three-dimensional array of a file, each (bands, h, w), by name."""
    with _one_error(path):
        arrays = _open(path)
        return {name: np.moveaxis(arrays.load(name), -1, 0) for name, s in arrays.shapes.items() if len(s) == 3}


def cube_size(path: Path) -> tuple[int, int]:
    """(H, W) of the cube in a file, from its header alone."""
    with _one_error(path):
        shapes = _open(path).shapes
        rows, cols, _ = shapes[_cube_name(path, shapes)]
        return rows, cols


def cube_files(path: Path) -> list[Path]:
    """The files that decide what :func:`read_cube` returns for a path: itself, ENVI raw data, wavelengths beside it.

    Raises:
        SceneError: the cube, or its raw data, is not there.
    """
    _check_there(path)
    raw = [_envi_raw(path)] if path.suffix.lower() == ".hdr" else []
    sidecar = _sidecar(path)
    return [path, *raw, *([sidecar] if sidecar else [])]


def data_root(root: Path | str | None) -> Path:
    """The folder of cubes: the one given, else the one that HSFUSION_DATA names.

    Raises:
        SceneError: neither is set, or it is no folder.
    """
    root = os.path.expanduser(root or os.environ.get("HSFUSION_DATA") or "")
    if not root:
        raise SceneError("no folder of cubes is given: export HSFUSION_DATA=FOLDER, or set the dataset's option 'root'")
    if not Path(root).is_dir():
        raise SceneError(f"'{root}' is not a folder; HSFUSION_DATA (or the option 'root') names the folder of cubes")
    return Path(root)


# ------------------------------------------------------------------------------------------------------------ parts


@contextmanager
def _one_error(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises into a SceneError."""
    try:
        yield
    except SceneError:
        raise
    except Exception as error:  # parsers meeting damage raise zlib, struct, OS, type, key, ... errors: all mean this
        raise SceneError(
            f"{path}: cannot be read as {path.suffix} ({type(error).__name__}: {error}). The file is damaged, cut off "
            "or of another format: copy it again, or convert it."
        ) from error


def _open(path: Path) -> _Arrays:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise SceneError(
            f"{path}: unknown suffix '{path.suffix}'. Readable: {', '.join(READERS)} "
            "(of ENVI files name the .hdr). Rename or convert the file."
        )
    _check_there(path)
    return reader(path)


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise SceneError(f"{path}: no such file; put it there, or name another")


def _cube_name(path: Path, shapes: dict[str, tuple[int, ...]]) -> str:
    cubes = [name for name, shape in shapes.items() if len(shape) == 3]
    if "cube" in cubes:
        return "cube"
    if len(cubes) != 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
        raise SceneError(
            f"{path}: {len(cubes)} three-dimensional arrays where one (rows, columns, bands) is wanted; the file holds "
            f"{found}. Keep one, or name the one that is meant 'cube'."
        )
    return cubes[0]


def _words(path: Path, arrays: _Arrays) -> dict:
    words: dict = {}
    for key in ("wavelength_nm", "wavelengths", "wavelength"):
        if key in arrays.shapes:
            words["wavelengths"] = _nanometres(path, np.asarray(arrays.load(key), dtype=np.float64).ravel())
            break
    for key in ("band_number", "band_numbers"):
        if key in arrays.shapes:
            words["band_numbers"] = tuple(int(n) for n in arrays.load(key).ravel())
    for key in ("name", "units"):
        value = arrays.load(key) if key in arrays.shapes else np.empty(0)
        if value.dtype.kind == "U" and value.size:
            words[key] = str(value.ravel()[0])
    return words


def _nanometres(path: Path, values: np.ndarray) -> np.ndarray:
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise SceneError(f"{path}: wavelengths must be positive numbers; correct them")
    return values * 1000 if values.size and values.max() < 100 else values


def _wavelengths_remedy(path: Path, bands: int, sensor: str) -> str:
    beside = (
        f"Spectral responses are built from wavelengths: put {_sidecar_names(path)[0].name} beside it, the band centres in "
        "nanometres, one a line"
    )
    if sensor:
        return f"{beside} (sensor={sensor} is not it: that has {len(SENSORS[sensor]())} bands)."
    fitting = [name for name, centers in SENSORS.items() if len(centers()) == bands]
    # The number of bands tells no sensor: EnMAP has 224 as well.
    told = (f"; or, if it is {name.upper()}, say sensor={name} (--data-option sensor={name})" for name in fitting)
    return f"{beside}{''.join(told)}."


def _sidecar_names(path: Path) -> list[Path]:
    return [path.with_name(f"{path.stem}.wavelengths{suffix}") for suffix in (".csv", ".txt")]


def _sidecar(path: Path) -> Path | None:
    return next((name for name in _sidecar_names(path) if name.is_file()), None)
