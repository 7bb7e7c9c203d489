"""Where on Earth the two images of a pair lie: compared before they are fused, and the MSI brought onto the HSI's grid.

same_place(Place("hsi.tif", crs, transform, (rows, columns)), Place("msi.tif", ...), pixels=1)
values, transform = onto_grid(msi, valid, its_place, of_the_hsi)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject
from rasterio.warp import transform as transformed

from datasets import SceneError

TELL_PX = 0.2  # of an LR pixel: a larger distance of two grids, or of what they show, is told


class Place(NamedTuple):
    """Where an image lies.

    Args:
        file: in the words of the command.
        crs: its projection; None: not said.
        transform: from (column, row) to coordinates.
        shape: (rows, columns).
    """

    file: str
    crs: CRS | None
    transform: Affine
    shape: tuple[int, int]

    def describe(self) -> str:
        """Projection and extent, for errors."""
        corners = [self.transform @ corner for corner in self.corners()]
        (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*corners))
        return f"{self.file} in {crs_words(self.crs)}, {left:.10g} to {right:.10g} by {low:.10g} to {high:.10g}"

    def corners(self) -> list[tuple[float, float]]:
        """In (column, row)."""
        rows, columns = self.shape
        return [(0, 0), (columns, 0), (0, rows), (columns, rows)]


def crs_words(crs: CRS | None) -> str:
    """A projection by its authority, or by name."""
    if crs is None:
        return "no projection"
    return crs.to_string() if crs.to_authority() else str(crs.to_dict(projjson=True).get("name", "a projection of its own"))


def same_place(hsi: Place, msi: Place, pixels: int) -> str:
    """Refuse two images that do not show one place.

    Args:
        hsi: of the HSI as read.
        msi: of the MSI.
        pixels: how many of the HSI's pixels are one LR pixel along a side.

    Returns:
        What must be told: empty, or how far apart the corners are.

    Raises:
        SceneError: other projections, no overlap, or extents that differ by more than one LR pixel.
    """
    both = f"{hsi.describe()}; {msi.describe()}"
    remedy = "--resample brings the MSI onto the HSI's grid"
    if hsi.crs and msi.crs and hsi.crs != msi.crs:
        raise SceneError(f"the two images lie in different projections: {both}. {remedy}")
    rows, columns = hsi.shape
    theirs = [~hsi.transform @ (msi.transform @ corner) for corner in msi.corners()]
    (left, right), (top, bottom) = ((min(axis), max(axis)) for axis in zip(*theirs))
    if right <= 0 or left >= columns or bottom <= 0 or top >= rows:
        raise SceneError(f"the two images do not overlap: {both}. Name two files of one place, or correct their georeference")
    apart = max(math.dist(*each) for each in zip(theirs, hsi.corners())) / pixels
    if apart > 1 + 1e-6:
        raise SceneError(f"the extents of the two images differ by {apart:.3g} LR pixels: {both}. Crop both to one extent, or: "
                         f"{remedy}")
    return (f"by their georeference, corners of the two images lie up to {apart:.2g} LR pixels apart; they are fused as if "
            "they met (--resample makes them meet)") if apart > TELL_PX else ""


def onto_grid(image: np.ndarray, valid: np.ndarray | None, msi: Place, hsi: Place) -> tuple[np.ndarray, np.ndarray, int, str]:
    """The MSI on the grid of the HSI, whose pixels are cut into as many as bring its size nearest to that of the MSI's.

    Args:
        image: (msi_bands, rows, columns).
        valid: (rows, columns) bool, where it holds data; None: everywhere.
        msi: where it lies.
        hsi: where the HSI lies.

    Returns:
        The values (msi_bands, H, W) float32, 0 where there are none; (H, W) bool, where there are some; H over the HSI's rows;
        and what was done, in words.

    Raises:
        SceneError: an image without projection, or none of the MSI within the HSI's extent.
    """
    if hsi.crs is None or msi.crs is None:
        raise SceneError(f"--resample needs the projections of both images: {hsi.describe()}; {msi.describe()}. Write them "
                         "into the files (gdal_edit -a_srs)")
    rows, columns = msi.shape
    x, y = columns / 2, rows / 2
    points = [msi.transform @ point for point in ((x, y), (x + 1, y), (x, y + 1))]
    xs, ys = transformed(msi.crs, hsi.crs, *map(list, zip(*points)))
    (x0, y0), (x1, y1), (x2, y2) = (~hsi.transform @ point for point in zip(xs, ys))
    side = math.sqrt(abs((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)))  # of an MSI pixel, in HSI pixels
    finer = max(1, round(1 / side))
    shape = (hsi.shape[0] * finer, hsi.shape[1] * finer)
    source = image.astype(np.float32)
    if valid is not None:
        source = np.where(valid, source, np.float32(np.nan))
    found = np.full((len(image), *shape), np.nan, dtype=np.float32)
    reproject(source, found, src_transform=msi.transform, src_crs=msi.crs, src_nodata=np.nan,
              dst_transform=hsi.transform @ Affine.scale(1 / finer), dst_crs=hsi.crs, dst_nodata=np.nan,
              resampling=Resampling.bilinear)
    inside = np.asarray(np.isfinite(found).all(axis=0))
    if not inside.any():
        raise SceneError(f"the two images do not overlap: {hsi.describe()}; {msi.describe()}. Name two files of one place, or "
                         "correct their georeference")
    words = (f"{msi.file}: resampled (bilinear) from {rows}x{columns} pixels in {crs_words(msi.crs)} onto the HSI's grid, "
             f"{shape[0]}x{shape[1]} pixels in {crs_words(hsi.crs)}, {finer} a side of an HSI pixel (measured: {1 / side:.3g})"
             + (f"; {1 - inside.mean():.1%} of them without data" if not inside.all() else ""))
    return np.where(inside, found, np.float32(0)), inside, finer, words
