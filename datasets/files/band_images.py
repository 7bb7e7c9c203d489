"""A folder of band images, one file a band: ``balloons_ms_01.png`` ... ``balloons_ms_31.png`` (CAVE)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from datasets.files.arrays import Arrays, Declared, NoCubeError
from datasets.files.raster import image, opened

SUFFIXES = (".png", ".tif", ".tiff")
_LEAST = 3  # files; fewer are pictures of something


def images_of(folder: Path) -> list[Path]:
    """Its band images in the order of their numbers; none where its files are no such series."""
    series: dict[tuple[str, str], dict[int, Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = re.fullmatch(r"(.*?)(\d+)", path.stem)
        if match and path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            series.setdefault((match[1], path.suffix.lower()), {})[int(match[2])] = path
    longest = max(series.values(), key=len, default={})
    return [longest[number] for number in sorted(longest)] if len(longest) >= _LEAST else []


def is_cube(folder: Path) -> bool:
    """Whether a folder holds band images of one size, one band each; colours that are all equal are one band."""
    images = images_of(folder)
    try:
        return bool(images) and len({_shape(path) for path in images}) == 1 and image(images[0]).ndim == 2
    except Exception:  # whatever GDAL says of such files, they are no band images
        return False


def band_images(folder: Path) -> Arrays:
    """The bands in the order of the numbers in their names, values as stored (16 bits stay 16 bits).

    Raises:
        NoCubeError: no series of three or more images of equal size.
    """
    images = images_of(folder)
    shapes = {_shape(path) for path in images}
    if len(shapes) != 1:
        sizes = f", but {len(shapes)} sizes of images" if images else ""
        raise NoCubeError(f"{folder}: a folder, and no {_LEAST} or more band images <name><number>.png or .tif of one "
                          f"size{sizes}; name a file, or put the bands there")
    shape = (*shapes.pop(), len(images))
    return Arrays({"cube": shape}, lambda _: np.stack([image(path) for path in images], axis=-1), lambda _: Declared(),
                  ordered=True)


def _shape(path: Path) -> tuple[int, int]:
    with opened(path, {".png": "PNG"}.get(path.suffix.lower(), "GTiff")) as dataset:
        if path.suffix.lower() != ".png" and dataset.count != 1:
            raise NoCubeError(f"{path}: {dataset.count} bands, where a band image has one; name the file itself")
        return dataset.shape
