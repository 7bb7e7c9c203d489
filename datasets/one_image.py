"""Data sets of a single image: a test window in its centre, a validation window below it, the rest to train on."""

import warnings
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import rasterio
import scipy.io
from rasterio.errors import NotGeoreferencedWarning

from datasets.io import cube_files
from datasets.public import Published, native
from datasets.scene import Miniature, Scene, SceneError
from datasets.splitting import check_blocks, content_digest, file_digest

LARGEST = 256  # side of the test window, as far as a third of the image allows it
GUARD = 20  # more than the support of the protocols' PSF, 19 pixels


class OneImage(Published):
    """One image, its windows named by rows and columns.

    Test and training are of one flight, so the held-out split is ``test-same-flight`` and ``test`` is empty.

    Args:
        root: the folder that holds the data set's; HSFUSION_DATA if not given.
        guard: width in pixels of the unused band around the test and validation windows. 0 is the customary split, centre
            crop and rest, which lets a training see the neighbours of the tested pixels.
    """

    layout: ClassVar[str]  # where the file is below the data set's folder
    pattern: ClassVar[str]  # what its name is found by
    size: tuple[int, int]  # (H, W) in pixels
    wavelengths: ClassVar[np.ndarray]  # (bands,) nm, of the bands that are kept: the first ones in the file
    stored: ClassVar[int] = 0  # bands in the file, where it holds others after those
    band_numbers: ClassVar[tuple[int, ...]] = ()
    units: ClassVar[str] = "unknown"
    border: tuple[int, int] = (0, 0)  # rows and columns at either side that hold nothing

    def __init__(self, root: str | None = None, guard: int = GUARD) -> None:
        super().__init__(root)
        check_blocks(1, guard)
        self.guard = guard

    def splits(self) -> dict[str, list[str]]:
        """From the declared size.

        Raises:
            SceneError: the guard band leaves nothing around the windows.
        """
        guard = self.guard
        (top, left), (bottom, right) = self.border, (side - out for side, out in zip(self.size, self.border))
        side = min(LARGEST, min(bottom - top, right - left) // 3) // 4 * 4
        r0, c0 = (top + bottom - side) // 2, (left + right - side) // 2
        r1, c1 = r0 + side, c0 + side
        most = min(r0 - top, c0 - left, bottom - r1) - 4
        if guard > most:
            raise SceneError(f"dataset '{self.name}': guard {guard}; choose at most {most}, or nothing is left beside it")
        train = [(top, r0 - guard, left, right), (r0 - guard, bottom, left, c0 - guard),
                 (r0 - guard, bottom, c1 + guard, right)]
        below = (r1 + guard, min(r1 + guard + side, bottom), c0, c1)
        return {
            "train": [self._entry(*window) for window in train],
            "val": [self._entry(*below)],
            "test": [],
            "test-same-flight": [self._entry(r0, r1, c0, c1)],
        }

    def digest(self) -> str:
        """From the bytes of the image, since no checksum of it is published, the splits and the assumed wavelengths."""
        files = [file_digest(file) for file in cube_files(self._file())]
        return content_digest([files, self.splits(), self.wavelengths.round(3).tolist()])

    def read(self, base: str) -> Scene:
        """The image.

        Raises:
            SceneError: another name, no file, or one of another size.
        """
        if base != self.name:
            raise SceneError(f"dataset '{self.name}' has no scene '{base}'; choices: {self.name}")
        path = self._file()
        cube, words = native(path, self.wavelengths, self.stored)
        if cube.shape[1:] != self.size:
            raise SceneError(f"{path}: {cube.shape[1]} x {cube.shape[2]} pixels where the data set has {self.size[0]} x "
                             f"{self.size[1]}; copy it again, or give cubes of your own to the dataset 'folder'")
        return Scene.from_native(base, cube, band_numbers=self.band_numbers, units=self.units, flight=self.name, **words)

    def _file(self) -> Path:
        example = Path(self.layout).name
        return self.file(self.pattern, "" if example == self.pattern else f", such as {example}")

    def _entry(self, r0: int, r1: int, c0: int, c1: int) -> str:
        return f"{self.name}[{r0}:{r1},{c0}:{c1}]"

    @classmethod
    def write(cls, path: Path, cube: np.ndarray) -> None:
        """A cube (rows, columns, bands) as the data set's file holds it; for the miniature."""
        if path.suffix == ".mat":
            scipy.io.savemat(path, {path.stem: cube})
        else:
            write_tiff(path, cube.transpose(2, 0, 1))

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        """30 x 36 pixels of all bands; with a guard band of 4 pixels, and with none."""
        bands = cls.stored or len(cls.wavelengths)
        cube = np.random.default_rng(0).integers(-20, 6000, (30, 36, bands)).astype(np.int16)
        path = folder / cls.name / cls.layout
        path.parent.mkdir(parents=True)
        cls.write(path, cube)
        native = {cls.name: cube[..., : len(cls.wavelengths)].transpose(2, 0, 1)}
        return Miniature((partial(cls._small, folder, 4), partial(cls._small, folder, 0)), native)

    @classmethod
    def _small(cls, folder: Path, guard: int) -> "OneImage":
        dataset = cls(str(folder), guard)
        dataset.size, dataset.border = (30, 36), (0, 0)
        return dataset


def write_tiff(path: Path, cube: np.ndarray) -> None:
    """A cube (bands, H, W) as a TIFF of one page with many bands, as GDAL writes it; for miniatures."""
    bands, height, width = cube.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=cube.dtype) as file:
            file.write(cube)


def evenly(first: float, last: float, bands: int) -> np.ndarray:
    """(bands,) wavelengths in nm made evenly spaced between two limits, where a table is not published."""
    return np.linspace(first, last, bands)
