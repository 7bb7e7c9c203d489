"""NumPy's own files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from datasets.files.arrays import Arrays, Declared, named


def npy(path: Path) -> Arrays:
    """One array, which says nothing of itself."""
    return Arrays({"cube": np.load(path, mmap_mode="r").shape}, lambda _: np.load(path), lambda _: Declared())


def npz(path: Path) -> Arrays:
    """Named arrays, in a zip archive."""
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                old = np.lib.format.read_magic(file) == (1, 0)
                header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
                shape, _, dtype = header(file)
                if dtype.kind != "O":  # Python objects are no arrays, and loading them would run code
                    shapes[member.removesuffix(".npy")] = shape

    def load(name: str) -> np.ndarray:
        with np.load(path) as arrays:
            return arrays[name]

    return Arrays(shapes, load, lambda name: named(shapes, load, name))
