"""MATLAB files: v5 and earlier by SciPy, v7.3 as the HDF5 it is. Fields of structs are arrays as well: ``hsi.Data``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from datasets.files.arrays import Arrays, named, own_values


def mat(path: Path) -> Arrays:
    """The variables of a file and the fields of its structs."""
    return _v73(path) if h5py.is_hdf5(path) else _v5(path)


def _v5(path: Path) -> Arrays:
    shapes: dict[str, tuple[int, ...]] = {}
    structs: dict[str, np.ndarray] = {}
    for name, shape, kind in scipy.io.whosmat(path):
        if kind in ("struct", "object"):  # what is in them stands nowhere but in them
            structs |= dict(_fields(name, scipy.io.loadmat(path, variable_names=[name])[name]))
        else:
            shapes[name] = shape
    shapes |= {name: value.shape for name, value in structs.items()}

    def load(name: str) -> np.ndarray:
        return structs[name] if name in structs else scipy.io.loadmat(path, variable_names=[name])[name]

    return Arrays(shapes, load, lambda name: named(shapes, load, name))


def _fields(name: str, value: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The plain arrays below a struct; of an array of structs those of the first."""
    if value.dtype.names and value.size:
        for field in value.dtype.names:
            yield from _fields(f"{name}.{field}", np.asarray(value.flat[0][field]))
    elif value.dtype.kind != "O":
        yield name, value


def _v73(path: Path) -> Arrays:
    """MATLAB counts columns first, so all axes are reversed in HDF5; a struct is a group."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind != "O" and not name.startswith("#"):  # #refs#: of cells
            own_values(path, item)
            shapes[name.replace("/", ".")] = item.shape[::-1]

    with h5py.File(path) as file:
        file.visititems(note)

    def load(name: str) -> np.ndarray:
        with h5py.File(path) as file:
            item = file[name.replace(".", "/")]
            if item.attrs.get("MATLAB_class") == b"char":
                return np.array(["".join(map(chr, item[()].T.ravel()))])
            return item[()].T

    return Arrays(shapes, load, lambda name: named(shapes, load, name))
