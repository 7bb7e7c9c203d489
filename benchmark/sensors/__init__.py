"""Multispectral sensors by name: from a scene's wavelengths to the spectral response (SRF) of each MSI band.

    response("sentinel-2", scene.wavelengths)          # as many bands as the scene can feed
    response(bands_of_file(Path("mine.csv")), scene.wavelengths)

Measured curves lie beside this file, one CSV a sensor; ``SOURCES.md`` says where each comes from. ``landsat-tm`` is the
nominal band edges instead, which the papers take.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor

from datasets.scene import SceneError, near

Edges = tuple[float, float]  # of a band in nm, the upper one excluded


class Band(NamedTuple):
    """The response of one band: straight lines between samples, and 0 outside of them.

    Args:
        name: of the band.
        wavelengths: in nm, ascending.
        response: as many, not negative, on any scale.
    """

    name: str
    wavelengths: tuple[float, ...]
    response: tuple[float, ...]


Sensor = str | tuple[Band, ...]  # a name, or bands of one's own

# Landsat TM: nominal band edges. The papers' 4-band MSI is TM 1-4, the 6-band MSI TM 1-5 and 7.
_TM: dict[int, Edges] = {1: (450, 520), 2: (520, 600), 3: (630, 690), 4: (760, 900), 5: (1550, 1750), 7: (2080, 2350)}
BOXES: Mapping[str, Mapping[int, tuple[Edges, ...]]] = {  # name -> MSI band count -> band edges
    "landsat-tm": {count: tuple(_TM[band] for band in bands) for count, bands in ((4, (1, 2, 3, 4)), (6, (1, 2, 3, 4, 5, 7)))},
}
MEASURED = ("landsat5-tm", "landsat7-etm", "landsat8-oli", "sentinel-2", "worldview-2", "worldview-3", "ikonos", "quickbird-2",
            "geoeye-1", "eo1-ali", "nikon-d700")  # each a CSV file beside this one
SENSORS = (*BOXES, *MEASURED)
FED = 0.9  # share of a band's integral that must lie inside the scene: IKONOS's near infrared feeds on 430-860 nm by 0.93
OTHER = "choose another --msi-sensor, or give responses of your own (--srf FILE.csv)"


def response(sensor: Sensor, wavelengths: np.ndarray, msi_bands: int | None = None, shift_nm: float = 0.0) -> Tensor:
    """The SRF of a sensor, (msi_bands, bands) float32, rows summing to 1.

    Of a measured curve an HSI band weighs what it integrates over its share of the spectrum (:func:`weights`); a sensor's
    band of which the scene sees less than :data:`FED` is left out (:func:`shares`). Of nominal edges, see :func:`box_response`.

    Args:
        sensor: one of :data:`SENSORS`, or bands of one's own.
        wavelengths: (bands,) band centres of the scene in nm, in any order.
        msi_bands: how many bands: of measured curves as many as the scene can feed, which None takes.
        shift_nm: the response as if the sensor were centred this many nm higher; which bands there are does not change.

    Raises:
        SceneError: no such sensor, another band count than the sensor has there, or no band that the scene can feed.
    """
    if isinstance(sensor, str) and sensor in BOXES:
        choices = BOXES[sensor]
        if msi_bands is None:
            msi_bands = max((count for count in choices if _covers(wavelengths, choices[count])), default=min(choices))
        if msi_bands not in choices:
            words = " ".join(word.capitalize() if len(word) > 2 else word.upper() for word in sensor.split("-"))
            raise SceneError(f"no {words} response with {msi_bands} bands; choices: {sorted(choices)}; or {OTHER}")
        return box_response(wavelengths - shift_nm, choices[msi_bands])
    bands, seen = bands_of(sensor), shares(sensor, wavelengths)
    fed = [band for band in bands if seen[band.name] >= FED]
    if not fed:
        raise SceneError(f"{_name(sensor)}: the scene ({_range(wavelengths)}) feeds none of its {len(bands)} bands: "
                         f"inside it lie {_percent(seen)}; {OTHER}")
    if msi_bands not in (None, len(fed)):
        left = {name: share for name, share in seen.items() if share < FED}
        raise SceneError(f"{_name(sensor)}: the scene ({_range(wavelengths)}) feeds {len(fed)} of its {len(bands)} bands, not "
                         f"{msi_bands}" + (f" (inside it lie {_percent(left)})" if left else "")
                         + f"; give --msi-bands {len(fed)}, {OTHER}")
    rows = weights(fed, wavelengths - shift_nm)
    for band, row in zip(fed, rows):
        if row.sum() <= 0:
            raise SceneError(f"{_name(sensor)}: band {band.name} moved by {shift_nm:g} nm has left the scene; {OTHER}")
    return torch.from_numpy((rows / rows.sum(1, keepdims=True)).astype(np.float32))


def box_response(wavelengths: np.ndarray, edges: tuple[Edges, ...] | list[Edges]) -> Tensor:
    """One row per (low, high) in nm: equal weights on the bands whose centre lies in [low, high), sum 1.

    Raises:
        SceneError: a row without a band.
    """
    centres = np.asarray(wavelengths)
    rows = np.array([(centres >= low) & (centres < high) for low, high in edges], dtype=np.float32)
    for (low, high), row in zip(edges, rows):
        if not row.any():
            raise SceneError(
                f"no band of the scene lies in {low}-{high} nm (it covers {centres.min():.0f}-{centres.max():.0f} nm); "
                f"choose an MSI setting that the scene can feed (--msi-bands), or {OTHER}"
            )
    return torch.from_numpy(rows / rows.sum(1, keepdims=True))


def shares(sensor: Sensor, wavelengths: np.ndarray) -> dict[str, float]:
    """Of each band of a measured sensor: which share of its integral, 0 to 1, lies where the scene has bands.

    Args:
        sensor: one of :data:`MEASURED`, or bands of one's own.
        wavelengths: (bands,) band centres of the scene in nm.

    Raises:
        SceneError: no such sensor.
    """
    bands = bands_of(sensor)
    inside = weights(bands, wavelengths).sum(1)
    whole = [_integral(band, np.array(math.inf)) for band in bands]
    return {band.name: float(part / of) for band, part, of in zip(bands, inside, whole)}


def left_out(sensor: object, wavelengths: np.ndarray) -> str:
    """Which bands of a measured sensor the scene cannot feed, in words; empty where it feeds all, or sensors have no say."""
    if not is_sensor(sensor) or (isinstance(sensor, str) and sensor in BOXES):
        return ""
    seen = shares(sensor, wavelengths)
    left = {name: share for name, share in seen.items() if share < FED}
    return (f"{_name(sensor)} has {len(seen) - len(left)} of its {len(seen)} bands; left out, for the share of their response "
            f"inside the scene: {_percent(left)}") if left else ""


def is_sensor(srf: object) -> TypeGuard[Sensor]:
    """Whether a response is told by a sensor, not by a matrix of numbers."""
    return isinstance(srf, str) or (isinstance(srf, tuple) and bool(srf) and all(isinstance(each, Band) for each in srf))


def weights(bands: Sequence[Band], wavelengths: np.ndarray) -> np.ndarray:
    """(len(bands), len(wavelengths)) float64: the integral of each response over each HSI band's share of the spectrum, in nm.

    That share reaches half the way to the neighbours, but not further than the median distance of neighbours: a gap where
    bands were removed is no part of it. The outermost bands reach as far out as they reach in.

    Args:
        bands: responses.
        wavelengths: (bands,) band centres in nm, in any order.

    Raises:
        SceneError: fewer than two bands, which have no distance.
    """
    centres = np.asarray(wavelengths, dtype=np.float64)
    if len(centres) < 2:
        raise SceneError(f"{len(centres)} band: its share of the spectrum is not known; a scene has two bands or more")
    order = np.argsort(centres, kind="stable")
    gaps = np.diff(centres[order])
    half = np.minimum(gaps / 2, np.median(gaps))
    low, high = np.empty_like(centres), np.empty_like(centres)
    low[order] = centres[order] - np.concatenate([half[:1], half])
    high[order] = centres[order] + np.concatenate([half, half[-1:]])
    return np.array([_integral(band, high) - _integral(band, low) for band in bands])


def _integral(band: Band, to: np.ndarray) -> np.ndarray:
    """The integral of a response up to each of some wavelengths, exact for straight lines between its samples."""
    x, y = np.array(band.wavelengths), np.array(band.response)
    ends = np.clip(to, x[0], x[-1])
    nodes = np.union1d(x, ends)
    values = np.interp(nodes, x, y)
    sums = np.concatenate([[0.0], np.cumsum(np.diff(nodes) * (values[1:] + values[:-1]) / 2)])
    return sums[np.searchsorted(nodes, ends)]


def _covers(wavelengths: np.ndarray, edges: tuple[Edges, ...]) -> bool:
    return all(((wavelengths >= low) & (wavelengths < high)).any() for low, high in edges)


def _name(sensor: object) -> str:
    return sensor if isinstance(sensor, str) else "own responses"


def _range(wavelengths: np.ndarray) -> str:
    return f"{np.min(wavelengths):.0f}-{np.max(wavelengths):.0f} nm"


def _percent(seen: Mapping[str, float]) -> str:
    held: dict[int, list[str]] = {}
    for name, share in seen.items():
        held.setdefault(math.floor(100 * share), []).append(name)
    return "; ".join(f"{share} % of band{'s' * (len(names) > 1)} {', '.join(names)}" for share, names in held.items())


# ----------------------------------------------------------------------------------------------------------------- files


def bands_of(sensor: Sensor) -> tuple[Band, ...]:
    """The bands of a measured sensor.

    Raises:
        SceneError: no such sensor, or one that is told by its band edges alone.
    """
    if not isinstance(sensor, str):
        return sensor
    if sensor not in MEASURED:
        raise SceneError(f"unknown MSI sensor '{sensor}'.{near(sensor, SENSORS)} Choices: {', '.join(SENSORS)}")
    return _shipped(sensor)


@cache
def _shipped(sensor: str) -> tuple[Band, ...]:
    return bands_of_file(Path(__file__).with_name(f"{sensor}.csv"))


def bands_of_file(path: Path) -> tuple[Band, ...]:
    """Spectral responses in a CSV file, whose first line names its columns. Blank lines and those from ``#`` on are skipped.

    ``wavelength_nm,NAME,NAME,...``: one column a band, one line a wavelength, ascending; an empty cell is no sample of that
    band. The first and last sample of a band stand for half a step beyond them, too. ``low,high`` or ``low,high,name``: one
    line a band, which sees evenly what lies between. Wavelengths below 100 are micrometres.

    Raises:
        SceneError: no such file, or what is wrong with it, by line.
    """
    if not path.is_file():
        raise SceneError(f"{path}: no such file; give a CSV file of spectral responses")

    def wrong(line: int, what: str) -> SceneError:
        return SceneError(f"{path}, line {line}: {what}")

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader
                     if any(cell.strip() for cell in cells) and not cells[0].lstrip().startswith("#")]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SceneError(f"{path}: no CSV text ({error}); give comma-separated columns in UTF-8") from error
    if not lines:
        raise SceneError(f"{path}: no lines; the first one names the columns: wavelength_nm,BAND,... or low,high")
    (first, head), *body = lines
    boxes = [word.lower().removesuffix("_nm") for word in head[:2]] == ["low", "high"] and len(head) <= 3
    if not boxes and (len(head) < 2 or not head[0].lower().startswith("wavelength")):
        raise wrong(first, f"'{','.join(head)}'; the first line names the columns: wavelength_nm,BAND,... or low,high")
    if len(set(head)) < len(head) or not all(head):
        raise wrong(first, f"'{','.join(head)}'; give every column a name of its own")
    if not body:
        raise wrong(first, "no line of numbers follows")

    def number(line: int, cell: str) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise wrong(line, f"'{cell}' is no number of 0 or more")
        return value

    for line, cells in body:
        if len(cells) != len(head):
            raise wrong(line, f"{len(cells)} columns where the first line names {len(head)}")
    places = [[number(line, cell) for cell in cells[: 2 if boxes else 1]] for line, cells in body]
    scale = 1000.0 if max(map(max, places)) < 100 else 1.0
    if boxes:
        found: list[Band] = []
        for place, ((line, cells), (low, high)) in enumerate(zip(body, places), 1):
            name = cells[2] if len(head) == 3 and cells[2] else str(place)
            if low >= high:
                raise wrong(line, f"low {low:g} is not below high {high:g}")
            if name in (band.name for band in found):
                raise wrong(line, f"a second band '{name}'; give every band a name of its own")
            found.append(Band(name, (low * scale, high * scale), (1.0, 1.0)))
        return tuple(found)
    for (line, _), (before,), (here,) in zip(body[1:], places, places[1:]):
        if here <= before:
            raise wrong(line, f"wavelength {here:g} does not follow {before:g}; wavelengths ascend")
    bands = []
    for column, name in enumerate(head[1:], 1):
        samples = [(x * scale, number(line, cells[column])) for (line, cells), (x,) in zip(body, places) if cells[column]]
        if len(samples) < 2 or not any(y for _, y in samples):
            raise wrong(first, f"band '{name}' has {len(samples)} samples; it needs two or more, one of them above 0")
        (x0, y0), (x1, _) = samples[:2]
        (x2, _), (x3, y3) = samples[-2:]
        samples = [(x0 - (x1 - x0) / 2, y0), *samples, (x3 + (x3 - x2) / 2, y3)]
        bands.append(Band(name, *zip(*samples)))
    return tuple(bands)
