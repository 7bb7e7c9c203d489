"""Rows into the cells of a table: a mean over images and seeds, or one figure of a cost row, with its notes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from textwrap import shorten

import pandas as pd

NAN = float("nan")
STALE = "stale: code has changed since this was measured"


@dataclass(frozen=True)
class Cell:
    """One number of a table; a NaN value is a hole, and its notes say why."""

    value: float = NAN
    std: float = NAN
    notes: tuple[str, ...] = ()
    ranked: bool = True


def by_seed(rows: pd.DataFrame, metric: str) -> dict[int, list[float]]:
    """What was measured on the images of each seed; failed rows have no part in it."""
    values: dict[int, list[float]] = {}
    for seed, status, value in zip(rows["seed"], rows["status"], rows[metric]):
        values.setdefault(seed, []).extend([float(value)] if status == "ok" and not math.isnan(value) else [])
    return values


def mean_and_std(means: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation over seeds; no deviation of a single seed or of infinite values."""
    finite = len(means) > 1 and not any(math.isinf(mean) for mean in means)
    return fmean(means), (stdev(means) if finite else NAN)


def score_cell(rows: pd.DataFrame, metric: str, images: int) -> Cell:
    """First the mean over images, then mean and deviation over seeds; a mean over fewer images is told, not ranked."""
    if rows.empty:
        return Cell(notes=("no row: not measured yet, or its job failed (lists at the end)",))
    values = by_seed(rows, metric)
    counts = sorted(len(one) for one in values.values())
    failed = len(rows) - sum(counts)
    if not counts[-1]:
        return Cell(notes=(f"all {failed} rows failed",))
    notes = []
    complete = counts[0] == images
    if not complete:
        least = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
        notes.append(f"over {least} of {images} images a seed" + (f", {failed} rows failed" if failed else "")
                     + ": not ranked")
    if (rows["stale"] != "").any():
        notes.append(STALE)
    return Cell(*mean_and_std([fmean(one) for one in values.values() if one]), tuple(notes), ranked=complete)


def average(cells: Sequence[tuple[pd.DataFrame, Cell]], metric: str) -> Cell:
    """Mean over the levels for each seed, then over the seeds; a hole where one level is a hole."""
    levels = [{seed: fmean(one) for seed, one in by_seed(rows, metric).items() if one} for rows, _ in cells]
    seeds = sorted(set().union(*levels))
    means = [fmean(level[seed] for level in levels) for seed in seeds if all(seed in level for level in levels)]
    if not means:
        return Cell(notes=("no average: a level is missing",))
    notes = dict.fromkeys(note for _, cell in cells for note in cell.notes)
    if len(means) < len(seeds):
        notes[f"average over {len(means)} of {len(seeds)} seeds: not ranked"] = None
    ranked = len(means) == len(seeds) and all(cell.ranked for _, cell in cells)
    return Cell(*mean_and_std(means), tuple(notes), ranked)


def largest_size(costs: pd.DataFrame) -> tuple[pd.DataFrame, tuple[int, int]]:
    """The cost rows of the largest HR size, and its two sides: figures of two sizes are not set side by side."""
    if costs.empty:
        return costs, (0, 0)
    side = costs["hr_size"].astype(str).str.extract(r"(\d+)", expand=False).astype(int)
    rows = costs[side == side.max()]
    return rows, (int(re.findall(r"\d+", str(rows["lr_size"].iloc[0]))[0]), int(side.max()))


def cost_cell(rows: pd.DataFrame, key: str) -> Cell:
    """One figure of a method's cost rows; those of several machines agree on the counts."""
    if rows.empty:
        return Cell(notes=("cost not measured",))
    good = rows[rows["status"] == "ok"]
    if good.empty:
        return Cell(notes=("its cost job failed",))
    value = float(good[key].iloc[0])
    stale = (STALE,) if "stale" in good and good["stale"].iloc[0] else ()
    if math.isnan(value):
        network = key not in ("macs_conv", "macs_attention") or good["parameters"].iloc[0] > 0
        return Cell(notes=("not recorded" if network else "no network whose multiply-adds could be counted",))
    uncounted = good["uncounted_ops"].iloc[0]
    if key == "macs_conv" and isinstance(uncounted, str) and uncounted not in ("", "none"):
        return Cell(value, notes=(f"not counted: {shorten(uncounted, 160, placeholder=' ...')}", *stale))
    return Cell(value, notes=stale)
