"""ENVI headers and their raw files, by GDAL. Here is what GDAL does not do: it reads on where the two do not agree."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from datasets.files.arrays import Arrays, Declared, NoCubeError, tell
from datasets.files.raster import declared_by, opened
from datasets.files.wavelengths import parse
from datasets.scene import SceneError

_RAW = ("", ".raw", ".img", ".dat", ".bin", ".bsq", ".bil", ".bip", ".cube", ".rfl", ".float")
_NEEDED = ("samples", "lines", "bands", "data type", "interleave")  # GDAL takes a byte and bsq where nothing is said
_TYPES = ("1", "2", "3", "4", "5", "12", "13", "14", "15")
_ORDERS = ("bsq", "bil", "bip")


def raw_of(path: Path) -> Path:
    """The raw file that belongs to an ENVI header: ``x.raw`` or ``x`` beside ``x.hdr``, or ``x.img`` beside ``x.img.hdr``.

    Raises:
        SceneError: there is none.
    """
    wanted = [path.with_suffix(suffix).name.lower() for suffix in _RAW]
    there = {each.name.lower(): each for each in (sorted(path.parent.iterdir(), reverse=True) if path.parent.is_dir() else [])
             if each.is_file()}
    for name in wanted:
        if name in there and there[name] != path:
            return there[name]
    choices = ", ".join(path.with_suffix(suffix).name for suffix in _RAW)
    raise SceneError(f"{path}: no raw file beside this ENVI header. Put one of these there: {choices}")


def envi(path: Path) -> Arrays:
    """The cube of a header.

    Raises:
        NoCubeError: a header of another kind of file.
        SceneError: a header without what places the values, frame offsets, or a raw file of another size.
    """
    text = path.read_text(encoding="latin-1")
    if "ENVI" not in text[:64].replace("\0", "").upper():  # which UTF-16 puts between letters
        raise NoCubeError(f"{path}: no ENVI header, whose first line holds the word ENVI; of ENVI files name the .hdr, "
                          "of other formats the file that holds the values")
    if not text.startswith("ENVI"):
        raise SceneError(f"{path}: the header does not begin with the word ENVI, as GDAL wants it (a blank line, a byte order "
                         "mark or UTF-16 before it?); correct its first line, or save it as plain text")
    lines = [line.partition("=") for line in text.splitlines()]
    pairs = [(key.strip(), (rest.split(maxsplit=1) or [""])[0]) for key, equals, rest in lines
             if equals and key.strip() and not set(key) & set("{};")]
    first = {" ".join(key.lower().split()): word for key, word in pairs}
    absent = [key for key in _NEEDED if not first.get(key)]
    if absent:
        raise SceneError(f"{path}: the ENVI header lacks {', '.join(absent)}; add the missing lines (key = value)")
    kind, interleave = first["data type"], first["interleave"].lower()
    if re.sub(r"\D.*", "", kind) not in _TYPES or interleave not in _ORDERS:
        raise SceneError(f"{path}: ENVI data type {kind}, interleave '{interleave}'; supported are the real data types "
                         f"{', '.join(_TYPES)} and the interleaves {', '.join(_ORDERS)}. Convert the cube.")
    raw = raw_of(path)
    with opened(raw, "ENVI") as dataset:
        if path.name not in {Path(each).name for each in dataset.files}:
            raise SceneError(f"{path}: GDAL takes another header for {raw.name} ({', '.join(dataset.files)}); name that one, "
                             "or put the other aside")
        words = {key.lower().replace("_", " "): value.strip(" \t\r{}") for key, value in dataset.tags(ns="ENVI").items()}
        shape, dtype = (*dataset.shape, dataset.count), np.dtype(dataset.dtypes[0])
        declared = declared_by(dataset, list(dataset.indexes))
    _check_size(path, raw, words, shape, dtype)

    def load(_: str) -> np.ndarray:
        with opened(raw, "ENVI") as dataset:
            return np.moveaxis(dataset.read(), 0, -1)

    said = _declared(path, words, set(first), shape[2], declared)
    return Arrays({"cube": shape}, load, lambda _: said, ordered=True)


def _check_size(path: Path, raw: Path, words: dict[str, str], shape: tuple[int, ...], dtype: np.dtype) -> None:
    for key in ("major frame offsets", "minor frame offsets"):
        if any(word.strip("0. ") for word in re.split(r"[,\s]+", words.get(key, ""))):
            raise SceneError(f"{path}: '{key} = {words[key]}': bytes between frames are read by nothing here; convert the cube "
                             "to one without them")
    if words.get("file compression", "0").strip() not in ("", "0"):
        return  # its size says nothing of the cube's
    offset = re.match(r"\d*", words.get("header offset", "").strip())
    wanted = int((offset and offset[0]) or 0) + int(np.prod(shape)) * dtype.itemsize
    there = raw.stat().st_size
    if there != wanted:
        why = "The file is truncated or the header describes" if there < wanted else "The header describes a part of it or"
        raise SceneError(f"{raw}: {there} bytes where the header {path.name} promises {wanted}. {why} another file: copy it "
                         "again, or correct samples, lines, bands, data type and header offset.")


def _declared(path: Path, words: dict[str, str], keys: set[str], bands: int, found: Declared) -> Declared:
    """GDAL's own words, and the lists that it hands on as they are."""

    def numbers(key: str) -> np.ndarray | None:
        cells = [cell for cell in re.split(r"[,\s]+", words.get(key, "")) if cell]
        if not cells:
            return None
        try:
            values = np.array(cells, dtype=np.float64)
        except ValueError as error:
            raise SceneError(f"{path}: '{key} = {words[key]}': {error}; correct it") from error
        if len(values) != bands:
            raise SceneError(f"{path}: '{key}' has {len(values)} numbers for {bands} bands; correct it or take it out")
        return values

    wavelengths, unusable = None, ""
    cells = [cell for cell in (words.get("wavelength", "").split(",") if "," in words.get("wavelength", "")
                               else words.get("wavelength", "").split()) if cell.strip()]
    if cells:
        try:
            wavelengths = parse(cells, words.get("wavelength units", ""))
        except ValueError as error:
            unusable = str(error)
    good, gains, offsets = numbers("bbl"), numbers("data gain values"), numbers("data offset values")
    if gains is not None or offsets is not None:
        gains = np.ones(bands) if gains is None else gains
        offsets = np.zeros(bands) if offsets is None else offsets
    nodata, said = found.nodata, words.get("data ignore value", "").strip()
    if "data ignore value" in keys | set(words):  # GDAL makes 0 of what it cannot read: of {-9999}, of none
        nodata = _ignored(path, said, bands)
    scale = words.get("reflectance scale factor", "")
    if scale:
        tell(f"{path}: reflectance scale factor {scale}: values stay as stored, {scale} times reflectance")
    return Declared(wavelengths, unusable, None if good is None else good <= 0, nodata, gains, offsets,
                    units=f"reflectance x {scale}" if scale else "")


def _ignored(path: Path, said: str, bands: int) -> tuple[float | None, ...]:
    """The no-data value of each band, from a header's one number or one a band; none where the header says so."""
    cells = [cell.strip(" \t'\"") for cell in said.partition(";")[0].split(",")]
    if len(set(cells)) == 1 and cells[0].lower() in ("", "none", "n/a", "unknown"):
        return ()
    try:
        values = tuple(float(re.sub("[dD]", "e", cell)) for cell in cells)  # Fortran writes exponents with a D
    except ValueError:
        raise SceneError(f"{path}: 'data ignore value = {said}' is no number; correct it or take it out") from None
    if len(values) not in (1, bands):
        raise SceneError(f"{path}: 'data ignore value' has {len(values)} numbers for {bands} bands; give one, or one a band")
    return values * (bands // len(values))
