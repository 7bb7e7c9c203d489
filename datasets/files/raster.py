"""GeoTIFF and JPEG 2000, by GDAL: bands, no-data, scales, masks and alpha, wavelengths where the tags hold them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader

from datasets.files import enmap
from datasets.files.arrays import Arrays, Declared, NoCubeError, tell
from datasets.files.wavelengths import parse
from datasets.scene import SceneError

DRIVERS = {".tif": "GTiff", ".tiff": "GTiff", ".jp2": "JP2OpenJPEG"}  # of GDAL, by suffix


@contextmanager
def opened(name: Path | str, driver: str) -> Iterator[DatasetReader]:
    """A raster by one driver of GDAL; that most cubes lie nowhere on Earth is no news.

    Raises:
        SceneError: a name that is not UTF-8, which GDAL cannot open.
    """
    if str(name) != str(name).encode(errors="replace").decode():
        raise SceneError(f"{str(name)!a}: the file name is not UTF-8, as GDAL wants it; rename the file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(name, driver=driver) as dataset:
            yield dataset


def tiff(path: Path) -> Arrays:
    """Bands of a GeoTIFF or JPEG 2000, or pages of equal size where each band is a page."""
    driver = DRIVERS[path.suffix.lower()]
    with opened(path, driver) as dataset:
        pages = dataset.subdatasets if dataset.count == 1 else []
        pages = sorted(pages, key=lambda page: int(page.split(":")[1]))  # GDAL lists them as text: 1, 10, 11, 2
        bands, alpha = _bands(dataset, path)
        shape = (*dataset.shape, len(pages) or len(bands))
        declared = declared_by(dataset, bands)
    if pages:
        return _pages(path, pages, shape)

    def load(_: str) -> np.ndarray:
        with opened(path, driver) as dataset:
            return np.moveaxis(dataset.read(bands), 0, -1)

    def valid() -> np.ndarray:
        with opened(path, driver) as dataset:
            return dataset.read(alpha) != 0 if alpha else dataset.read_masks(1) != 0

    masked = alpha or declared.valid
    declared = Declared(**{**vars(declared), "valid": valid if masked else None})
    product = enmap.declared_beside(path, len(bands))
    if product is not None:
        filled = declared.nodata if any(each is not None for each in declared.nodata) else product.nodata
        declared = Declared(**{**vars(product), "nodata": filled, "valid": declared.valid})
    return Arrays({"cube": shape}, load, lambda _: declared, ordered=True)


def _pages(path: Path, pages: list[str], shape: tuple[int, ...]) -> Arrays:
    declared = []
    for page in pages:
        with opened(page, "GTiff") as dataset:
            if dataset.shape != shape[:2] or dataset.count != 1:
                raise SceneError(f"{path}: pages of different sizes ({shape[0]} x {shape[1]}, {dataset.shape[0]} x "
                                 f"{dataset.shape[1]}, ...); keep those of the cube, or convert it to one page of many bands")
            declared.append(dataset.nodata)

    def load(_: str) -> np.ndarray:
        images = []
        for page in pages:
            with opened(page, "GTiff") as dataset:
                images.append(dataset.read(1))
        return np.stack(images, axis=-1)

    tell(f"{path}: {len(pages)} pages are taken as bands of {shape[0]} x {shape[1]} pixels")
    said = Declared(nodata=tuple(declared))
    return Arrays({"cube": shape}, load, lambda _: said, ordered=True)


def _bands(dataset: DatasetReader, path: Path) -> tuple[list[int], int]:
    """The bands that hold data (1-based), and the alpha band, 0 where there is none.

    GDAL marks the fourth of four bytes as alpha by itself, so that a near infrared band may be called so: an alpha band
    is one that hides pixels or shows them.
    """
    bands, alpha = list(dataset.indexes), 0
    for band, colour in zip(dataset.indexes, dataset.colorinterp):
        if colour == ColorInterp.alpha and dataset.count > 1:
            values = dataset.read(band)
            if np.isin(values, (0, values.max())).mean() > 0.9:
                bands.remove(band)
                alpha = band
            else:
                tell(f"{path}: band {band} is called alpha but holds {len(np.unique(values))} values; it is taken as data")
    return bands, alpha


def declared_by(dataset: DatasetReader, bands: list[int]) -> Declared:
    """What GDAL finds in a file of its bands; ``valid`` only says that there is a mask of the whole file."""
    gains, offsets = (np.array([each[band - 1] for band in bands]) for each in (dataset.scales, dataset.offsets))
    scaled = bool((gains != 1).any() or (offsets != 0).any())
    tags = [{key.lower(): value for key, value in (dataset.tags(band) | dataset.tags(band, ns="IMAGERY")).items()}
            for band in bands]
    shared = {key.lower(): value for key, value in dataset.tags().items()}
    wavelengths, unusable = None, ""
    for key in ("wavelength", "wavelengths", "center_wavelength", "central_wavelength", "central_wavelength_um"):
        words = [tag.get(key, "") for tag in tags]
        if any(words):
            units = "um" if key.endswith("_um") else next(
                (place[word] for place in (tags[0], shared) for word in ("wavelength_units", "wavelength_unit", "units")
                 if word in place), "")
            try:
                wavelengths = parse(words, units)
            except ValueError as error:
                unusable = str(error)
            break
    else:
        wavelengths = _described([dataset.descriptions[band - 1] or "" for band in bands])
    bad = np.array([tag.get("bbl", "1").strip() in ("0", "0.0", "false") for tag in tags])
    masked = any(MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags for flags in dataset.mask_flag_enums)
    return Declared(
        wavelengths, unusable, bad if bad.any() else None, tuple(dataset.nodatavals[band - 1] for band in bands),
        gains if scaled else None, offsets if scaled else None,
        valid=(lambda: np.empty(0)) if masked else None,
    )


def _described(descriptions: list[str]) -> np.ndarray | None:
    """Band centres from descriptions such as ``Band 3 (550.0 Nanometers)``; None where not every one tells it."""
    found = [re.search(r"([\d.]+)\s*(nm|nanomet[er]+s?|um|µm|micromet[er]+s?)\b", each, re.IGNORECASE) for each in descriptions]
    try:
        return parse([f"{match[1]} {match[2]}" for match in found if match]) if all(found) else None
    except ValueError:
        return None


def image(path: Path) -> np.ndarray:
    """The one band of a picture (rows, columns) as stored; colours that are all equal are one band.

    Raises:
        NoCubeError: the picture has colours.
    """
    with opened(path, {".png": "PNG"}.get(path.suffix.lower(), "GTiff")) as dataset:
        bands = [band for band, colour in zip(dataset.indexes, dataset.colorinterp) if colour != ColorInterp.alpha]
        values = dataset.read(bands)
    if (values != values[:1]).any():
        raise NoCubeError(f"{path}: a picture in colours, where a folder of band images holds one band a file; convert it")
    return values[0]


def georeference(path: Path, driver: str) -> tuple[CRS | None, Affine] | None:
    """A raster's projection, None where it says none, and its map of (column, row) to coordinates; None: it lies nowhere."""
    with opened(path, driver) as dataset:
        return None if dataset.transform.is_identity else (dataset.crs or None, dataset.transform)
