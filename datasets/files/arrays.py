"""What a format answers with: the arrays of a file, and what the file declares about the values of each."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from datasets.files.wavelengths import to_nanometres
from datasets.scene import SceneError


class NoCubeError(SceneError):
    """A sound file that holds no cube, such as a map of labels."""


@dataclass(frozen=True)
class Declared:
    """What a file says of one of its arrays; None or empty where it says nothing.

    Args:
        wavelengths: (bands,) nanometres; NaN or 0 where a band has none.
        unusable: why the wavelengths that the file holds cannot be used.
        bad: (bands,) bool: bands that the file marks as bad.
        nodata: (bands,) the stored value that means no data; NaN is one, None says there is none.
        gains: (bands,) and
        offsets: (bands,): native value = gain * stored value + offset.
        valid: gives (rows, columns) bool from a mask or alpha band.
        band_numbers: (bands,) of the instrument, 1-based.
        name: of the scene.
        units: of the native values, in words.
    """

    wavelengths: np.ndarray | None = None
    unusable: str = ""
    bad: np.ndarray | None = None
    nodata: tuple[float | None, ...] = ()
    gains: np.ndarray | None = None
    offsets: np.ndarray | None = None
    valid: Callable[[], np.ndarray] | None = None
    band_numbers: tuple[int, ...] = ()
    name: str = ""
    units: str = ""


@dataclass(frozen=True)
class Arrays:
    """The arrays of one file, so that a folder can be planned (which scenes, how large) without decoding a cube.

    Args:
        shapes: by name, in the order (rows, columns, bands).
        load: one of them by name, in that order.
        declared: what the file says of one of them.
        ordered: the format itself says which axis holds the bands.
    """

    shapes: dict[str, tuple[int, ...]]
    load: Callable[[str], np.ndarray]
    declared: Callable[[str], Declared]
    ordered: bool = False


@cache
def tell(line: str) -> None:
    """Say on stderr what was done with a file, once a process."""
    print(line, file=sys.stderr)


def named(shapes: dict[str, tuple[int, ...]], load: Callable[[str], np.ndarray], name: str, units: str = "") -> Declared:
    """What arrays beside an array say of it by their names, where a format has no other place for that.

    Of several arrays of one name the one counts that lies nearest: ``hsi.info.wavelength`` belongs to ``hsi.Data``.

    Args:
        shapes: of all arrays of the file.
        load: one of them by name.
        name: of the array asked about.
        units: of the wavelengths, if no array tells them.
    """

    def find(*words: str) -> np.ndarray | None:
        def shared(other: str) -> int:
            return next((i for i, (a, b) in enumerate(zip(_parts(other), _parts(name))) if a != b), 99)

        for word in words:
            found = [other for other in shapes if _parts(other)[-1].lower() == word and other != name]
            if found:
                return np.asarray(load(max(found, key=shared)))
        return None

    def text(*words: str) -> str:
        value = find(*words)
        return str(value.ravel()[0]) if value is not None and value.dtype.kind == "U" and value.size else ""

    def numbers(*words: str) -> np.ndarray | None:
        value = find(*words)
        return value.ravel() if value is not None and value.dtype.kind in "biuf" and value.size else None

    wavelengths, unusable = None, ""
    stored = numbers("wavelength_nm", "wavelengths", "wavelength", "lambda")
    if stored is not None:
        try:
            wavelengths = to_nanometres(stored.astype(np.float64), text("wavelength_units", "wavelength_unit") or units)
        except ValueError as error:
            unusable = str(error)
    band_numbers = numbers("band_number", "band_numbers")
    good = numbers("bbl", "good_wavelengths")
    return Declared(
        wavelengths, unusable, bad=None if good is None else good == 0,
        band_numbers=() if band_numbers is None else tuple(int(n) for n in band_numbers),
        name=text("name"), units=text("units"),
    )


def _parts(name: str) -> list[str]:
    return name.replace("/", ".").split(".")


def fits(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse an array that a file declares and that memory cannot hold in single precision, before any of it is taken.

    Raises:
        SceneError: names both sizes.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        there = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # another system: the allocation itself will say
        return
    asked = 4 * math.prod(shape)
    if asked > there:
        raise SceneError(f"{path}: declares an array of {'x'.join(map(str, shape))}, {asked / 1e9:.1f} GB in single precision; "
                         f"{there / 1e9:.1f} GB of memory are available. Cut it, or use a machine with more")


def own_values(path: Path, item: h5py.Dataset) -> None:
    """Refuse an HDF5 dataset whose values lie in other files: a cube must not read whatever file it names.

    Raises:
        SceneError: names the dataset.
    """
    if item.external or item.is_virtual:
        kind = "external" if item.external else "virtual"
        raise SceneError(f"{path}: the values of '{item.name}' lie in other files ({kind} dataset); copy them into the file, "
                         "such as with h5repack")


@contextmanager
def one_error(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises into a SceneError; what a sound file may ask for is not called damage."""
    try:
        yield
    except SceneError:
        raise
    except (PermissionError, MemoryError, ImportError, NotImplementedError) as error:
        raise SceneError(f"{path}: cannot be read ({type(error).__name__}: {error}). Give the file other rights, or convert it "
                         "to a form that can be read here.") from error
    except Exception as error:  # parsers meeting damage raise zlib, struct, OS, type, key, ... errors
        raise SceneError(
            f"{path}: cannot be read as {path.suffix} ({type(error).__name__}: {error}). The file is damaged, cut off "
            "or of another format: copy it again, or convert it."
        ) from error
