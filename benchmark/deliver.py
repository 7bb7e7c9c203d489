"""What becomes of a fused pair: a folder that belongs to this pair, rows, estimates as files that a GIS opens, pictures.

out = folder(None, pair.name, made_of(hsi, msi, decimate=1))
rows = deliver(pair, fuse_pair(pair, methods), out, "tif", print)

"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import rasterio
import torch
from affine import Affine
from matplotlib.figure import Figure
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from benchmark import store
from benchmark.no_reference import Image
from benchmark.pair import Pair, hidden, place_of
from benchmark.piecewise import Estimate
from benchmark.rows import write as write_rows
from benchmark.studies import STUDIES
from benchmark.told import margin_of
from datasets import SceneError
from datasets.files.raster import opened
from datasets.io import cube_files, tell
from methods.estimation import Responses

FORMATS = {"tif": ".tif", "envi": ".dat", "npz": ".npz"}
NODATA = -9999.0  # of GeoTIFF and ENVI; NaN in .npz
RGB_NM = (650.0, 550.0, 450.0)
RECORD = "pair.json"
STRIP = 2**24  # numbers that are written at a time
CACHE = 64  # MB that GDAL keeps of a file
DRAWN = 1024  # pixels: of larger images every second, third, ... is drawn


def made_of(hsi: str, msi: str, **options: Any) -> dict[str, Any]:
    """Which files a folder is made from, and what was said of how to read them."""
    def words(place: str) -> dict[str, Any]:
        path, array = place_of(place)
        held = [(str(each.resolve()), each.stat()) for each in cube_files(path)]
        return {"array": array, "files": [{"path": os.fsencode(name).decode(errors="replace"), "bytes": stat.st_size,
                                           "modified_ns": stat.st_mtime_ns} for name, stat in held]}

    return {"hsi": words(hsi), "msi": words(msi), **options}


def folder(asked: Path | None, name: str, record: Mapping[str, Any]) -> Path:
    """The folder of a pair: the one asked for, or the first of ``reports/<name>``, ``<name>-2``, ... that is free or its.

    Args:
        asked: by the command; None: not said.
        name: of the pair.
        record: of :func:`made_of`.

    Raises:
        SceneError: the folder that was asked for belongs to another pair, to a study, or to something else.
    """
    if asked:
        why = _taken(asked, record)
        if why:
            raise SceneError(f"--out {asked}: {why}; give a folder that is new or empty")
        return asked
    number = 1
    while why := _taken(place := Path("reports") / (name if number == 1 else f"{name}-{number}"), record):
        tell(f"{place}: {why}; results go into another folder")
        number += 1
    return place


def _taken(place: Path, record: Mapping[str, Any]) -> str:
    """Why a folder cannot be this pair's; empty if it can."""
    if place.resolve().parent == Path("reports").resolve() and place.name in STUDIES:
        return "the name of a study, whose page goes there"
    if place.exists() and not place.is_dir():
        return "it is a file"
    if not place.is_dir() or not any(place.iterdir()):
        return ""
    try:
        held = json.loads((place / RECORD).read_text(encoding="utf-8"))
        files = [each["path"] for image in ("hsi", "msi") for each in held[image]["files"][:1]]
    except FileNotFoundError:
        return f"it holds files, and no {RECORD} says that they are of this pair"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its {RECORD} cannot be read ({type(error).__name__}: {error})"
    if held == record:
        return ""
    same = files == [each["path"] for image in ("hsi", "msi") for each in record[image]["files"][:1]]
    changed = " as it was before its files, or how they are read, changed" if same else ""
    return f"it is of the pair {' and '.join(files)}{changed}"


def claim(out: Path, record: Mapping[str, Any]) -> None:
    """Make the folder, and write into it which pair it is of."""
    with store.writing(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)
        store.write_text(out / RECORD, json.dumps(record, indent=1) + "\n")


def deliver(pair: Pair, fused: Iterable[tuple[dict[str, Any], Estimate | None]], out: Path, kind: str,
            say: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """Write each estimate as it comes, its row into ``rows.csv``, in the place of an earlier one; at last a picture of all.

    Args:
        pair: the images.
        fused: rows and estimates of :func:`benchmark.pair.fuse_pair`.
        out: a folder of :func:`folder`.
        kind: of :data:`FORMATS`.
        say: told every row.

    Returns:
        The rows that were made.
    """
    made: list[dict[str, Any]] = []
    rows = _earlier(out)
    for row, image in fused:
        with store.writing(out, "--out"):
            row["file"] = write_cube(pair, image, out, row["method"], kind) if image is not None else row.get("file", "")
            rows = [each for each in rows if each["method"] != row["method"]] + [row]
            keys = list(dict.fromkeys(key for each in sorted(rows, key=lambda each: each["status"] != "ok") for key in each))
            write_rows(out / "rows.csv", [{key: each.get(key, "") for key in keys} for each in rows])
        if image is not None:
            image.finish(row)
        made.append(row)
        say(row)
    with store.writing(out, "--out"):
        for each in made:
            shutil.rmtree(hidden(out, each["method"]), ignore_errors=True)
        picture(pair, [row for row in rows if row["status"] == "ok"], out)
    return made


def _earlier(out: Path) -> list[dict[str, Any]]:
    """The rows of earlier calls, every cell as it was written."""
    try:
        with (out / "rows.csv").open(newline="", encoding="utf-8") as file:
            return [dict(row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []


# ----------------------------------------------------------------------------------------------------------------- cubes


def file_stem(method: str) -> str:
    """A method's name as that of a file; a variant with other characters (weights=some/file) gets a digest behind them."""
    plain = re.sub(r"[^\w.@=,+-]", "_", method)
    return plain if plain == method else f"{plain[:80]}-{hashlib.sha256(method.encode()).hexdigest()[:6]}"


def write_cube(pair: Pair, image: Image, out: Path, method: str, kind: str) -> str:
    """An estimate in native values, no data where the pair has none, some rows at a time; moved into place when complete.

    Args:
        pair: the images.
        image: (bands, H, W), in the scale of the pair.
        out: the folder.
        method: its name.
        kind: of :data:`FORMATS`.

    Returns:
        The name of the file that programs open; of ENVI that of the values, ``.hdr`` lies beside it.
    """
    name = file_stem(method) + FORMATS[kind]
    out.mkdir(parents=True, exist_ok=True)
    place = out / f".writing-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    shutil.rmtree(place, ignore_errors=True)  # of a call that was killed
    place.mkdir()
    try:
        (_npz if kind == "npz" else partial(_raster, method=method, kind=kind))(place / name, image, pair)
        for each in sorted(place.iterdir()):
            os.replace(each, out / each.name)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return name


def _strips(image: Image, pair: Pair, fill: float) -> Iterator[tuple[int, np.ndarray]]:
    """First row and values (bands, n, W) of some rows at a time."""
    bands, height, width = image.shape
    size = max(1, STRIP // (bands * width))
    for top in range(0, height, size):
        at = slice(top, min(height, top + size))
        values = (image[:, at].float() * pair.hsi_max).numpy()
        yield top, values if pair.valid is None else np.where(pair.valid[at].numpy(), values, np.float32(fill))


def _npz(path: Path, image: Image, pair: Pair) -> None:
    """As :func:`numpy.savez` writes it: cube (H, W, bands) and wavelength_nm (bands,)."""
    bands, height, width = image.shape
    words = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": (height, width, bands)}
    with zipfile.ZipFile(path, "w", allowZip64=True) as held:
        with held.open("cube.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, words)
            for _, values in _strips(image, pair, np.nan):
                file.write(np.moveaxis(values, 0, -1).tobytes())
        with held.open("wavelength_nm.npy", "w") as file:
            np.lib.format.write_array(file, np.asarray(pair.wavelengths))


def _raster(path: Path, image: Image, pair: Pair, method: str, kind: str) -> None:
    lie: dict[str, Any] = {"transform": pair.transform or Affine.identity(), "crs": pair.crs}
    more = {"driver": "ENVI", "interleave": "bsq"} if kind == "envi" else {"driver": "GTiff", "interleave": "band",
                                                                           "bigtiff": "if_safer"}
    lie |= {"nodata": NODATA} if pair.valid is not None else {}
    size = {"count": image.shape[0], "height": image.shape[1], "width": image.shape[2]}
    with warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning), \
            rasterio.Env(GDAL_CACHEMAX=CACHE), rasterio.open(path, "w", **size, dtype="float32", **more, **lie) as dataset:
        dataset.update_tags(method=method, pair=pair.name)
        nm = [f"{each:.10g}" for each in pair.wavelengths]
        for band, word in enumerate(nm, 1):
            dataset.set_band_description(band, f"{float(word):.2f} nm")
            if kind == "tif":
                dataset.update_tags(band, wavelength=word, wavelength_units="Nanometers")
                dataset.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=f"{float(word) / 1000:.10g}")
        if nm and kind == "envi":
            dataset.update_tags(ns="ENVI", wavelength="{" + ", ".join(nm) + "}", wavelength_units="Nanometers")
        for top, values in _strips(image, pair, NODATA):
            dataset.write(values, window=Window(0, top, values.shape[2], values.shape[1]))


def _shown(path: Path, bands: list[int], step: int) -> np.ndarray:
    """Some bands (0-based) of a file of :func:`write_cube`, of every ``step``-th pixel; NaN where there are no data."""
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as held, held.open("cube.npy") as file:
            np.lib.format.read_magic(file)
            (height, width, count), _, dtype = np.lib.format.read_array_header_1_0(file)
            size = width * count * dtype.itemsize
            lines = (np.frombuffer(file.read(size), dtype).reshape(width, count)[::step, bands] for _ in range(height))
            return np.stack([line for row, line in enumerate(lines) if row % step == 0], 1).transpose(2, 1, 0)
    with rasterio.Env(GDAL_CACHEMAX=CACHE), opened(path, "ENVI" if path.suffix == FORMATS["envi"] else "GTiff") as dataset:
        shown = [dataset.read(band + 1, masked=True)[::step, ::step].filled(np.nan) for band in bands]
        return np.stack(shown)


# -------------------------------------------------------------------------------------------------------------- pictures


@contextmanager
def plain() -> Iterator[None]:
    """Matplotlib as it comes: what a user's matplotlibrc says (LaTeX that is not there, say) must not cost a picture."""
    with mpl.rc_context():
        mpl.rcdefaults()
        yield


@plain()
def picture(pair: Pair, rows: list[dict[str, Any]], out: Path) -> None:
    """Both images and every estimate that the folder holds in the same colours, with the figures of each: ``pair.png``."""
    bands = [int(np.abs(pair.wavelengths - nm).argmin()) for nm in RGB_NM] if len(pair.wavelengths) else [
        round(share * (len(pair.lr_hsi) - 1)) for share in (0.8, 0.5, 0.2)]
    limits = torch.stack([torch.quantile(pair.lr_hsi[band].flatten()[: 2**24], torch.tensor([0.01, 0.99])) for band in bands])
    low, high = limits[:, 0, None, None].numpy(), limits[:, 1, None, None].numpy()
    step = max(1, max(pair.hr_msi.shape[1:]) // DRAWN)

    def colours(image: np.ndarray) -> np.ndarray:
        return np.moveaxis(np.nan_to_num(((image - low) / np.maximum(high - low, 1e-12)).clip(0, 1)), 0, -1)

    grey = pair.hr_msi[:, ::step, ::step].mean(0)
    bright = float(np.quantile(grey.numpy(), 0.99))
    shown = [("LR-HSI\n" + "x".join(map(str, pair.lr_hsi.shape[1:])) + " pixels", colours(pair.lr_hsi[bands].numpy())),
             (f"HR-MSI\nmean of its {len(pair.hr_msi)} bands", (grey / bright).clamp(0, 1).numpy())]
    shown += [("HSI as measured\n", colours(pair.measured[bands, ::step, ::step].numpy()))] if pair.measured is not None else []
    shown += [(f"{row['method']}\nQNR {float(row['qnr']):.3f}, {float(row['seconds']):.2g} s",
               colours(_shown(out / row["file"], bands, step) / pair.hsi_max)) for row in rows if (out / row["file"]).is_file()]
    columns = min(4, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.0 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis, (title, image) in zip(axes.flat, shown):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=8)
    for axis in axes.flat:
        axis.axis("off")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "pair.png", dpi=150)


@plain()
def curves(pair: Pair, found: Responses, path: Path) -> None:
    """The spectral responses over wavelength, and the PSF with the LR pixel that it belongs to; written as PNG."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    x = pair.wavelengths if len(pair.wavelengths) else np.arange(1, len(pair.lr_hsi) + 1)
    order = np.argsort(x, kind="stable")
    for number, row in enumerate(found.srf[0].numpy(), 1):
        left.plot(x[order], row[order], label=f"MSI band {number}", linewidth=1)
    left.set_xlabel("wavelength [nm]" if len(pair.wavelengths) else "HSI band")
    left.set_ylabel("weight")
    left.legend(fontsize=7)
    psf = found.psf[0].numpy()
    first = -((len(psf) - 1) // 2) + found.phase - 0.5  # HR pixel at which the PSF of LR pixel 0 begins, its outer edge
    margin = margin_of(psf)
    right.imshow(psf, extent=(first, first + len(psf), first + len(psf), first), interpolation="nearest")
    low, high = -0.5, pair.ratio - 0.5
    right.plot([low, high, high, low, low], [low, low, high, high, low], color="white", linewidth=1)
    right.set_xlim(first + margin, first + len(psf) - margin)
    right.set_ylim(first + len(psf) - margin, first + margin)
    right.set_title("PSF in HR pixels; square: the LR pixel", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
