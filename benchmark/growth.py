"""How the cost of a fusion grows with the image: time and peak memory along three axes from one base.

    side     32 ... 1024 HR pixels a side; what is drawn and predicted is their number, side squared
    bands    31, 102, 172, 224 of the HSI
    batch    1, 2, 4 images

On each axis the two other figures are those of :data:`BASE`. Points are measured from the smallest up; one whose time or
memory, extrapolated from the two before it, is over the budget is left out, and its row says what was predicted. Images are
random and networks untrained, as in :mod:`benchmark.complexity`: neither decides how many operations there are.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmark.machine import code_version, device_name, peak_memory_mb, timed, unchanged
from benchmark.protocol import PROTOCOLS
from benchmark.rows import GROWTH
from benchmark.store import StoreError
from methods import card, create, fuse
from methods.speed import prepared

BASE = {"side": 128, "bands": 172, "batch": 1}
AXES: dict[str, tuple[int, ...]] = {"side": (32, 64, 128, 256, 512, 1024), "bands": (31, 102, 172, 224), "batch": (1, 2, 4)}
MSI_BANDS = 4
# Three that are computed, one that is optimised (a few of its iterations), networks of convolutions and of attention; the
# transformer over pixels once by its own tiles and once in one piece, which shows what the tiles save.
METHODS = ("gsa", "hysure", "cnmf", "u2mdn@iterations=5", "s3rnet-student", "s3rnet-teacher", "psdnet", "u2net", "fusformer",
           f"fusformer@tile={AXES['side'][-1]}")
SECONDS, MEMORY_MB = 20.0, 4000.0  # of one fusion: points beyond are not run
LONG = 2.0  # seconds: a fusion this long is timed once, without a warm-up that would double its price

Row = dict[str, Any]
Point = tuple[int, ...]  # the values of BASE's keys, in their order


def amount(axis: str, value: int) -> int:
    """What grows along an axis: pixels, bands or images."""
    return value**2 if axis == "side" else value


def predicted(points: Sequence[tuple[float, float]], x: float) -> float:
    """The cost at ``x`` on the line through the last two points in log-log; of one point, in proportion; NaN of none.

    Args:
        points: (amount, cost) in rising order; costs that are not positive (too small to be seen) are passed over.
        x: amount.
    """
    seen = [(at, cost) for at, cost in points if cost > 0]
    if not seen:
        return math.nan
    (x1, y1), slope = seen[-1], 1.0
    if len(seen) > 1:
        x0, y0 = seen[-2]
        slope = math.log(y1 / y0) / math.log(x1 / x0)
    return y1 * (x / x1) ** slope


def grow(methods: Sequence[str], device: torch.device, held: Sequence[Row] = (), seconds: float = SECONDS,
         memory_mb: float = MEMORY_MB, force: bool = False, log: Callable[[str], None] = tqdm.write) -> Iterator[list[Row]]:
    """All rows, after each point that is new.

    Args:
        methods: names or variants.
        device: to fuse on.
        held: rows that there are; those measured on the same device are kept, those of others and other methods stay.
        seconds: budget of one fusion.
        memory_mb: budget of one fusion's peak memory.
        force: measure again what is held.
        log: takes one line a point.

    Raises:
        MethodError: an unknown method, or one that looks at the reference.
    """
    for method in methods:
        card(method)  # an unknown one is told before the first is measured
    here = {"device": device_name(device), "threads": torch.get_num_threads(), "torch": torch.__version__,
            "revision": code_version()["revision"]}
    rows = {identity(row): row for row in held}
    done = {(row["method"], place(row)): row for row in held
            if row["device"] == here["device"] and row["status"] == "ok" and not (force and row["method"] in methods)}
    plan = [(method, axis, value) for method in methods for axis, values in AXES.items() for value in values]
    with tqdm(plan, desc="growth", unit="point") as bar:
        for method, axis, value in bar:
            bar.set_postfix_str(f"{method} {axis} {value}")
            point = BASE | {axis: value}
            own: Row = {"method": method, "axis": axis, "value": value, **point}
            there = done.get((method, place(point)))
            if there is None:
                known = {each: done[at] for each in AXES[axis] if (at := (method, place(BASE | {axis: each}))) in done}
                there = beyond(axis, value, known, seconds, memory_mb)
                if there is None:
                    there = done[method, place(point)] = here | measured(method, point, device)
                log(f"{method:22} {axis:5} {value:5} {there['seconds']:9.3f} s {there['peak_memory_mb']:8.0f} MB  "
                    f"{there['status']}")
            new = {key: (here | there | own)[key] for key in GROWTH}
            if rows.get(identity(new)) != new:
                rows[identity(new)] = new
                yield sorted(rows.values(), key=order)


def identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a row is measured once."""
    return row["device"], row["method"], row["axis"], row["value"]


def place(row: Mapping[str, Any]) -> Point:
    """Where a point lies: the base lies on all axes, and is measured once."""
    return tuple(row[key] for key in BASE)


def order(row: Row) -> tuple[Any, ...]:
    """Of the file: device, methods as they are listed, axes, values."""
    method = row["method"]
    listed = METHODS.index(method) if method in METHODS else len(METHODS)
    return row["device"], listed, method, list(AXES).index(row["axis"]), row["value"]


def beyond(axis: str, value: int, known: Mapping[int, Row], seconds: float, memory_mb: float) -> Row | None:
    """What the row of a point beyond a budget says instead of a measurement; None where it is to be measured.

    Args:
        axis: key of :data:`AXES`.
        value: on it.
        known: rows by their value on this axis, in rising order; of bands the base is known first.
        seconds: budget.
        memory_mb: budget.
    """
    def at(key: str) -> float:
        return predicted([(amount(axis, each), row[key]) for each, row in known.items() if row["status"] == "ok"],
                         amount(axis, value))

    failed = [each for each, row in known.items() if row["status"].startswith("failed") and each < value]
    if failed:
        why = f"{axis} {failed[-1]} failed"
    elif at("seconds") > seconds:
        why = f"predicted {at('seconds'):.0f} s"
    elif at("peak_memory_mb") > memory_mb:
        why = f"predicted {at('peak_memory_mb') / 1000:.1f} GB"
    else:
        return None
    return nothing(f"left out: {why}")


def nothing(status: str) -> Row:
    """The figures of a row that was not measured."""
    return {"seconds": math.nan, "seconds_spread": math.nan, "runs": 0, "peak_memory_mb": math.nan, "status": status}


def measured(method: str, point: Mapping[str, int], device: torch.device) -> Row:
    """Seconds (median of runs) and peak memory in MB of a fusion; an error of the method is its status.

    Args:
        method: name or variant.
        point: values of the keys of :data:`BASE`.
        device: to fuse on.
    """
    protocol, (side, bands, batch) = PROTOCOLS["paper"], place(point)
    with unchanged():
        torch.manual_seed(0)
        srf = torch.rand(MSI_BANDS, bands)
        try:
            model = create(method, bands=bands, msi_bands=MSI_BANDS, ratio=protocol.ratio, psf=protocol.psf,
                           srf=srf / srf.sum(1, keepdim=True), phase=protocol.phase)
            model = prepared(model, "exact", device)
            lr_hsi = torch.rand(batch, bands, side // protocol.ratio, side // protocol.ratio).to(device)
            hr_msi = torch.rand(batch, MSI_BANDS, side, side).to(device)
            first: list[float] = []
            memory = peak_memory_mb(lambda: first.append(timed(lambda: fuse(model, lr_hsi, hr_msi))[1]), device)
            # the first fusion on a GPU also loads and chooses kernels: it is never the only one there
            runs = first if first[0] > LONG and device.type == "cpu" else \
                [timed(lambda: fuse(model, lr_hsi, hr_msi))[1] for _ in range(min(10, max(3, int(LONG / first[0]))))]
        except (RuntimeError, MemoryError) as error:  # such as no room for a matrix
            return nothing(f"failed: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
    return {"seconds": statistics.median(runs), "seconds_spread": max(runs) - min(runs), "runs": len(runs),
            "peak_memory_mb": memory, "status": "ok"}


def read(path: Path) -> list[Row]:
    """The rows of an earlier run to the last digit, none where there is no file.

    Raises:
        StoreError: the file holds something else.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{key: kind(row[key]) for key, kind in GROWTH.items()} for row in csv.DictReader(file)]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: no rows of growth ({type(error).__name__}: {error}); move it away") from error
