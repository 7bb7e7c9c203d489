"""What callers ask of a file. Files store (rows, columns, bands); that order lives and ends below this page.

cube, words = read_cube("scene.hdr")     # words["valid"]: where there is data
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from datasets.aviris_bands import centers_nm, is_aviris
from datasets.files import enmap, envi, raster
from datasets.files.arrays import Arrays, Declared, NoCubeError, fits, one_error
from datasets.files.band_images import band_images, images_of
from datasets.files.hdf import hdf
from datasets.files.matlab import mat
from datasets.files.numpy_files import npy, npz
from datasets.files.obeyed import bad_bands, obeyed
from datasets.files.raster import tiff
from datasets.files.wavelengths import read_sidecar, sidecar_names, sidecar_of
from datasets.scene import SceneError

READERS: dict[str, Callable[[Path], Arrays]] = {
    ".npz": npz,
    ".npy": npy,
    ".mat": mat,
    ".hdr": envi.envi,
    ".tif": tiff,
    ".tiff": tiff,
    ".jp2": tiff,
    ".he5": hdf,
    ".nc": hdf,
    ".h5": hdf,
}


SENSORS: dict[str, Callable[[], np.ndarray]] = {"aviris": centers_nm}  # name -> (bands,) centres in nanometres


def read_cube(path: Path | str, sensor: str = "", nodata: float | None = None,
              band_first: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    """A cube with its wavelengths; what its file declares of its values is obeyed, and told once on stderr.

    Wavelengths come from, in this order: a file ``<name>.wavelengths.csv`` or ``.txt`` beside the cube (numbers, one
    a line); the cube's own file; the table of the sensor, if one is named. Where no unit is said, values below 100 are
    micrometres. Gains and offsets are applied, bad bands are left out.

    Args:
        path: the file, or a folder of band images.
        sensor: one of :data:`SENSORS`; empty: nothing is assumed.
        nodata: a stored value that means no data, beside what the file says.
        band_first: arrays are (bands, rows, columns), in formats that do not say which axis is which.

    Returns:
        cube: (bands, H, W), native values.
        words: ``wavelengths`` (bands,) in nanometres; ``band_numbers`` (tuple), ``name`` and ``units`` where known;
            ``valid`` (H, W) bool where some pixels hold no data in one band or more.

    Raises:
        SceneError: the file is unreadable, holds no single cube, or nothing tells its wavelengths; or it declares
            something of its values that cannot be obeyed.
    """
    cube, words = read_native(path, sensor, nodata=nodata, band_first=band_first)
    if "wavelengths" not in words:
        why = f"no usable wavelengths ({words['unusable']})" if "unusable" in words else "no wavelengths"
        raise SceneError(f"{path}: {len(cube)} bands and {why}. {_wavelengths_remedy(Path(path), len(cube), sensor)}")
    return cube, words


def read_native(path: Path | str, sensor: str = "", *, array: str = "", nodata: float | None = None, band_first: bool = False,
                flat: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    """A cube and its words as :func:`read_cube` gives them; wavelengths may be absent, and ``unusable`` says why.

    Args:
        path: the file, or a folder of band images.
        sensor: as of :func:`read_cube`.
        array: name of one of several arrays, such as ``hsi.Data`` of a MATLAB struct.
        nodata: as of :func:`read_cube`.
        band_first: as of :func:`read_cube`.
        flat: an image (rows, columns) is a cube of one band.

    Raises:
        SceneError: as of :func:`read_cube`.
    """
    path = Path(path)
    with one_error(path):
        arrays = _open(path)
        name = _cube_name(path, arrays.shapes, array, flat)
        fits(path, arrays.shapes[name])
        stored = arrays.load(name)
        declared = arrays.declared(name)
    if stored.dtype.kind not in "biuf":
        raise SceneError(f"{path}: values of type {stored.dtype}; a cube holds real numbers. Convert it first.")
    if stored.ndim == 2:
        stored = stored[None]
    elif arrays.ordered or not band_first:
        stored = np.moveaxis(stored, -1, 0)
    declared = _with_wavelengths(path, arrays, name, declared, stored.shape, sensor, band_first)
    return obeyed(path, stored, declared, nodata)


def read_all(path: Path) -> dict[str, np.ndarray]:
    """Every three-dimensional array of a file as stored, each (bands, h, w), by name."""
    with one_error(path):
        arrays = _open(path)
        fits(path, (sum(math.prod(shape) for shape in arrays.shapes.values() if len(shape) == 3),))
        return {name: np.moveaxis(arrays.load(name), -1, 0) for name, s in arrays.shapes.items() if len(s) == 3}


def cube_shape(path: Path, band_first: bool = False) -> tuple[int, int, int]:
    """(bands, H, W) of the cube in a file, from its header alone; bands that it marks as bad are not counted.

    Raises:
        NoCubeError: the file is sound and holds no cube.
        SceneError: it is unreadable, holds several, or wavelengths that do not fit.
    """
    with one_error(path):
        arrays = _open(path)
        name = _cube_name(path, arrays.shapes)
        declared = arrays.declared(name)
    shape = arrays.shapes[name]
    shape = shape if band_first and not arrays.ordered else (shape[2], shape[0], shape[1])
    declared = _with_wavelengths(path, arrays, name, declared, shape, "", band_first)
    return int((~bad_bands(declared, shape[0])).sum()), shape[1], shape[2]


def says_axes(path: Path) -> bool:
    """Whether the format of a file says which axis holds the bands, whatever the file."""
    return path.is_dir() or path.suffix.lower() in (".hdr", *raster.DRIVERS)


def cube_size(path: Path, band_first: bool = False) -> tuple[int, int]:
    """(H, W) of the cube in a file, as :func:`cube_shape`."""
    return cube_shape(path, band_first)[1:]


def cube_files(path: Path) -> list[Path]:
    """The files that decide what :func:`read_cube` returns for a path: itself, ENVI raw data, what lies beside it.

    Raises:
        SceneError: the cube, or its raw data, is not there.
    """
    _check_there(path)
    if path.is_dir():
        files = images_of(path)
    else:
        product = enmap.metadata_beside(path) if path.suffix.lower() in (".tif", ".tiff") else None
        files = [path, *([envi.raw_of(path)] if path.suffix.lower() == ".hdr" else [])]
        files += [tags for tags in [Path(f"{files[-1]}.aux.xml")] if tags.is_file()]  # GDAL's own words beside a raster
        files += [product] if product else []
    sidecar = sidecar_of(path)
    return [*files, *([sidecar] if sidecar else [])]


def georeference(path: Path) -> tuple[CRS | None, Affine] | None:
    """Where on Earth a raster or ENVI cube lies: its projection and map of (column, row) to coordinates; None: not said.

    Raises:
        SceneError: the file is not there, or cannot be read.
    """
    with one_error(path):
        if path.suffix.lower() == ".hdr":
            return raster.georeference(envi.raw_of(path), "ENVI")
        driver = raster.DRIVERS.get(path.suffix.lower())
        return raster.georeference(path, driver) if driver else None


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


# ------------------------------------------------------------------------------------------- the wavelengths that count


def _with_wavelengths(path: Path, arrays: Arrays, name: str, declared: Declared, shape: tuple[int, ...], sensor: str,
                      band_first: bool) -> Declared:
    """The wavelengths that count, in place of the file's own; (bands, H, W) is the shape of what was stored."""
    bands, sidecar = shape[0], sidecar_of(path)
    others = {axis for other, s in arrays.shapes.items() if other != name and len(s) == 3 for axis in s}
    if sidecar:
        beside = read_sidecar(sidecar, bands)
        kept = int((~declared.bad).sum()) if declared.bad is not None else bands
        if len(beside) == kept < bands and declared.bad is not None:  # of the bands that are left
            whole = np.full(bands, np.nan)
            whole[~declared.bad] = beside
            beside = whole
        if len(beside) == bands or len(beside) not in others:
            declared = replace(declared, wavelengths=beside, unusable="")
    elif declared.wavelengths is None and sensor and bands == len(SENSORS[sensor]()):
        declared = replace(declared, wavelengths=SENSORS[sensor]().copy(), unusable="")
    told = declared.wavelengths
    if told is not None and len(told) != bands:
        if len(told) in others:  # of another array of the file, such as the HSI beside this MSI
            return replace(declared, wavelengths=None, band_numbers=(), bad=None)
        raise SceneError(f"{sidecar or path}: {len(told)} wavelengths for {bands} bands"
                         f"{_axes(path, arrays, shape, len(told), band_first)}")
    if len(declared.band_numbers) in others - {0, bands}:  # of another array, too
        declared = replace(declared, band_numbers=())
    for key, values in (("band numbers", declared.band_numbers), ("marks of bad bands", declared.bad)):
        if values is not None and len(values) not in (0, bands):
            raise SceneError(f"{path}: {len(values)} {key} for {bands} bands; correct them or take them out")
    if told is not None and bands == len(told) and not declared.band_numbers and is_aviris(told):
        declared = replace(declared, band_numbers=tuple(range(1, 225)))
    return declared


def _axes(path: Path, arrays: Arrays, shape: tuple[int, ...], wanted: int, band_first: bool) -> str:
    """The remedy for another number of bands, which may lie on another axis."""
    if wanted in shape[1:] and not arrays.ordered:
        order = "(bands, rows, columns)" if band_first else "(rows, columns, bands)"
        what = "leave that out" if band_first else "say band_first=true (--data-option band_first=true; fuse --band-first)"
        return (f": bands are taken from the {'first' if band_first else 'last'} axis of {order}, and another axis has "
                f"{wanted}. If the array is {'(rows, columns, bands)' if band_first else '(bands, rows, columns)'}, {what}; "
                "or save it transposed")
    if wanted in shape[1:]:
        return (f" of {shape[1]} x {shape[2]} pixels: another axis has {wanted}. Pages of a TIFF are bands; if its pages are "
                "the rows of (rows, columns, bands), save it with one page of many bands")
    verb = "Correct" if sidecar_of(path) else "Put"
    return f". {verb} {sidecar_names(path)[0].name} beside it: the centres of its {shape[0]} bands in nanometres, one a line"


# ------------------------------------------------------------------------------------------------------------ parts


def _open(path: Path) -> Arrays:
    _check_there(path)
    if path.is_dir():
        return band_images(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        header = next((each for each in (path.with_suffix(".hdr"), Path(f"{path}.hdr")) if each.is_file()), None)
        raise SceneError(
            f"{path}: unknown suffix '{path.suffix}'. Readable: {', '.join(READERS)} "
            "(of ENVI files name the .hdr), and folders of band images. "
            + (f"Name {header.name}, which lies beside it." if header else "Rename or convert the file.")
        )
    if not path.stat().st_size:
        raise NoCubeError(f"{path}: an empty file (0 bytes); copy it again")
    return reader(path)


def _check_there(path: Path) -> None:
    if not path.exists():
        raise SceneError(f"{path}: no such file; put it there, or name another")


def _cube_name(path: Path, shapes: dict[str, tuple[int, ...]], array: str = "", flat: bool = False) -> str:
    cubes = [name for name, shape in shapes.items() if len(shape) == 3 and min(shape) > 0]
    flats = [name for name, shape in shapes.items() if len(shape) == 2 and min(shape) > 1]
    if array:
        wanted = array.strip("/").replace("/", ".")
        asked = [name for name in cubes + (flats if flat else []) if wanted == name.replace("/", ".")]
        if not asked:
            choices = ", ".join(cubes + (flats if flat else [])) or "none"
            raise SceneError(f"{path}: no three-dimensional array '{array}'; choices: {choices}")
        return asked[0]
    if "cube" in cubes:
        return "cube"
    if not cubes and flat and len(flats) == 1:
        return flats[0]
    if not cubes and flat and flats:
        raise SceneError(f"{path}: {len(flats)} images (rows, columns), {', '.join(flats)}; name the one that is meant, such "
                         f"as {path.name}:{flats[0]}, or stack them to one array (rows, columns, bands)")
    if len(cubes) != 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
        error = SceneError if cubes else NoCubeError
        ways = f" (fuse takes {path.name}:{cubes[0]})" if cubes else ""
        raise error(
            f"{path}: {len(cubes)} three-dimensional arrays where one (rows, columns, bands) is wanted; the file holds "
            f"{found}. Keep one, or name the one that is meant 'cube'{ways}."
        )
    return cubes[0]


def _wavelengths_remedy(path: Path, bands: int, sensor: str) -> str:
    beside = (
        f"Spectral responses are built from wavelengths: put {sidecar_names(path)[0].name} beside it, the band centres in "
        "nanometres, one a line"
    )
    if sensor:
        return f"{beside} (sensor={sensor} is not it: that has {len(SENSORS[sensor]())} bands)."
    fitting = [name for name, centers in SENSORS.items() if len(centers()) == bands]
    # The number of bands tells no sensor: EnMAP has 224 as well.
    told = (f"; or, if it is {name.upper()}, say sensor={name} (--data-option sensor={name})" for name in fitting)
    return f"{beside}{''.join(told)}."
