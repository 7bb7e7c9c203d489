"""Band centres: their units, and the text files beside a cube, as editors and spreadsheets write them."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from datasets.scene import SceneError

_LENGTHS = {  # nanometres in one of each
    1.0: ("nm", "nanometers", "nanometres", "nanometer", "nanometre"),
    1e3: ("um", "µm", "μm", "micrometers", "micrometres", "micrometer", "micrometre", "microns", "micron"),
    1e6: ("mm", "millimeters", "millimetres", "millimeter", "millimetre"),
    1e7: ("cm", "centimeters", "centimetres", "centimeter", "centimetre"),
    1e9: ("m", "meters", "metres", "meter", "metre"),
    0.1: ("angstroms", "angstrom", "å", "ångström", "ångströms", "aa"),
}
_SPEED_OF_LIGHT = 299_792_458.0  # m/s
_FREQUENCIES = {  # nanometres times one of each
    1e7: ("wavenumber", "wavenumbers", "cm-1", "1/cm", "cm^-1"),
    _SPEED_OF_LIGHT * 1e9: ("hz",),
    _SPEED_OF_LIGHT * 1e3: ("mhz",),
    _SPEED_OF_LIGHT: ("ghz",),
    _SPEED_OF_LIGHT * 1e-3: ("thz",),
}
_SAYS_NOTHING = ("", "unknown", "none", "n/a")
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan)\s*([^\d\s]\S*)?", re.IGNORECASE)


def to_nanometres(values: np.ndarray, units: str = "") -> np.ndarray:
    """Band centres in nanometres. Where no unit is said, their size tells: values below 100 are micrometres.

    Args:
        values: (bands,) in ``units``; 0, a band without centre, stays 0.
        units: a length, a frequency or wavenumber, as ENVI names them; empty or ``Unknown``: not said.

    Raises:
        ValueError: units that are none of these, or values that cannot be band centres; says which.
    """
    known = values[np.isfinite(values) & (values != 0)]
    if not len(known) or not np.isfinite(values).all() or known.min() < 0:
        raise ValueError("wavelengths must be positive numbers")
    word = units.strip().lower()
    if word in _SAYS_NOTHING:
        if len(values) > 2 and any(np.array_equal(values, np.arange(first, first + len(values))) for first in (0, 1)):
            raise ValueError(f"wavelengths {values[0]:g} to {values[-1]:g} without units are band numbers")
        if known.max() < 0.1:
            raise ValueError(f"wavelengths up to {known.max():g} without units are neither nanometres nor micrometres")
        if known.max() >= 100 > known.min():
            raise ValueError(f"wavelengths {known.min():g} to {known.max():g} without units are not all of one unit")
        return values * 1000 if known.max() < 100 else values
    for factor, words in _LENGTHS.items():
        if word in words:
            nanometres = values * factor
            low, high = (known.min() * factor, known.max() * factor)
            if low < 10 or (high >= 2e5 and factor <= 1e3) or high > 1e9:  # a micrometre of 430 is a nanometre
                raise ValueError(f"wavelengths {known.min():g} to {known.max():g} cannot be in units of '{units.strip()}'")
            return nanometres
    for factor, words in _FREQUENCIES.items():
        if word in words:
            return np.divide(factor, values, out=np.array(values, dtype=np.float64), where=values != 0)
    choices = ", ".join(words[0] for table in (_LENGTHS, _FREQUENCIES) for words in table.values())
    raise ValueError(f"wavelength units '{units.strip()}' are no length and no frequency; choices: {choices}")


def parse(words: list[str], units: str = "") -> np.ndarray:
    """Band centres in nanometres from words such as ``450``, ``450.5 nm``.

    Raises:
        ValueError: a word that is no number, or as :func:`to_nanometres`.
    """
    values, said = [], set()
    for word in words:
        match = _NUMBER.fullmatch(word.strip())
        if not match:
            raise ValueError(f"wavelength '{word.strip()}' is no number")
        values.append(float(match[1]))
        said.add((match[2] or "").strip())
    own = sorted(said - {""})
    if len(own) > 1:
        raise ValueError(f"wavelengths in several units: {', '.join(own)}")
    return to_nanometres(np.array(values, dtype=np.float64), own[0] if own else units)


# ------------------------------------------------------------------------------------------------ files beside a cube


def sidecar_names(path: Path) -> list[Path]:
    """``<name>.wavelengths.csv`` and ``.txt`` of a file or of a folder of band images."""
    stem = path.name if path.is_dir() else path.stem
    return [path.with_name(f"{stem}.wavelengths{suffix}") for suffix in (".csv", ".txt")]


def sidecar_of(path: Path) -> Path | None:
    """The file of wavelengths beside a cube, if there is one; its suffix may be written in capitals."""
    wanted = [name.name.lower() for name in sidecar_names(path)]
    there = {each.name.lower(): each for each in _beside(path) if each.name.lower() in wanted and each.is_file()}
    return next((there[name] for name in wanted if name in there), None)


def _beside(path: Path) -> list[Path]:
    return sorted(path.parent.iterdir(), reverse=True) if path.parent.is_dir() else []


def read_sidecar(path: Path, bands: int) -> np.ndarray:
    """Band centres in nanometres, one a line, or all in one line.

    Read are UTF-8 and UTF-16 with or without a byte order mark and code pages such as GBK; comments after ``#``; a header
    line, which may name the column and its unit; decimal commas; a column of band numbers before the wavelengths.

    Args:
        path: of the text file.
        bands: of the cube, which decide between a decimal comma and a column.

    Raises:
        SceneError: names the line that cannot be understood.
    """

    def refuse(why: str) -> SceneError:
        return SceneError(f"{path}: {why}; give the band centres in nanometres, one a line")

    lines = [(number, line.split("#")[0].strip(" \t[]{}()")) for number, line in enumerate(_text(path).splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line]
    header = ""
    if lines and not re.search(r"(^|[\s;,\t\"])[-+]?\.?\d", lines[0][1]):
        header = lines.pop(0)[1]
    if not lines:
        raise refuse("no number in this file of wavelengths")
    rows = [(number, [cell.strip().strip('"') for cell in _cells(line)]) for number, line in lines]
    width = len(rows[0][1])
    for (number, cells), (_, line) in zip(rows, lines):
        if len(cells) != width and len(rows) == bands:
            raise refuse(f"line {number}, '{line}', has {len(cells)} numbers where the first has {width}")
        for cell in cells:
            if not _NUMBER.fullmatch(cell.replace(",", ".")):
                raise refuse(f"line {number}, '{line}', holds '{cell}', which is no number")
    units = _unit_in(header)
    if len(rows) == bands and bands > 1 and width > 1:
        column = _column(header, rows)
        if column is not None:
            units = _unit_in(_cells(header)[column]) if header and len(_cells(header)) == width else units
            words = [cells[column] for _, cells in rows]
        elif width == 2 and all(re.fullmatch(r"\d+,\d+", line) for _, line in lines):
            words = [".".join(cells) for _, cells in rows]
        else:
            number, line = lines[0]
            raise refuse(f"line {number}, '{line}', has {width} numbers and nothing says which is the wavelength")
    else:
        words = [cell for _, cells in rows for cell in cells]
    try:
        return parse([word.replace(",", ".") for word in words], units)
    except ValueError as error:
        raise refuse(str(error)) from error


def _text(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content:  # UTF-16 of ASCII has a zero in every other byte
        return content.decode("utf-16-be" if content[:1] == b"\0" else "utf-16-le", errors="replace")
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


def _cells(line: str) -> list[str]:
    """The cells of a line: at semicolons or tabs, where a comma can only be a decimal one; else at commas; else at blanks.

    In quotes a separator is a part of the cell, such as the decimal comma of ``"450,5"``.
    """
    for separator in (";", "\t"):
        if separator in line:
            return [cell for cell in line.split(separator) if cell.strip()]
    if '"' in line:
        return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True)) if cell.strip()]
    if "," in line:
        return re.split(r"\s*,\s*", line.strip(" ,"))
    return [line] if _NUMBER.fullmatch(line) else line.split()


def _column(header: str, rows: list[tuple[int, list[str]]]) -> int | None:
    """Which column holds the wavelengths, if the header or a column of band numbers tells."""
    names = [name.lower() for name in _cells(header)] if header else []
    if len(names) == len(rows[0][1]):
        for column, name in enumerate(names):
            if re.search(r"wave|cent(er|re)|lambda|波长|中心|\bnm\b|_nm|µm|\bum\b", name) and "fwhm" not in name:
                return column
    first = [cells[0] for _, cells in rows]
    if any(first == [str(number) for number in range(start, start + len(rows))] for start in (0, 1)):
        return 1
    return None


def _unit_in(header: str) -> str:
    """The unit that a header names, such as ``Wavelength (um)`` or ``wavelength_nm``; empty if none."""
    words = re.split(r"[\s_()\[\]/;,\"]+", header.lower())
    known = {word for table in (_LENGTHS, _FREQUENCIES) for names in table.values() for word in names} - {"m", "aa"}
    return next((word for word in words if word in known), "")
