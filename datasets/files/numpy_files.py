"""NumPy's own files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from datasets.files.arrays import Arrays, Declared, NoCubeError, named


def npy(path: Path) -> Arrays:
    """One array, which says nothing of itself.

    Raises:
        NoCubeError: Python objects, which are no numbers, and loading them would run code.
    """
    with path.open("rb") as file:
        _, dtype = _header(file)
    if dtype.hasobject:
        raise NoCubeError(f"{path}: holds Python objects, not numbers; save the cube alone, as an array of numbers")
    return Arrays({"cube": np.load(path, mmap_mode="r").shape}, lambda _: np.load(path), lambda _: Declared())


def npz(path: Path) -> Arrays:
    """Named arrays, in a zip archive."""
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        for member in (name for name in archive.namelist() if name.endswith(".npy")):  # others are notes beside arrays
            with archive.open(member) as file:
                shape, dtype = _header(file)
                if not dtype.hasobject:
                    shapes[member.removesuffix(".npy")] = shape

    def load(name: str) -> np.ndarray:
        with np.load(path) as arrays:
            return arrays[name]

    return Arrays(shapes, load, lambda name: named(shapes, load, name))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array in NumPy's format."""
    old = np.lib.format.read_magic(file) == (1, 0)
    shape, _, dtype = (np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0)(file)
    return shape, dtype
