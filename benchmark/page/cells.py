"""Rows into the cells of a table: a mean over images and seeds, or one figure of a cost row, with its notes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, stdev
from textwrap import shorten

import pandas as pd

NAN = float("nan")
NO_ROW = "no row: not asked for here (see the labels), not measured yet, or its job failed (lists at the end)"
NOT_RECORDED = "not recorded: the rows are older than this figure"
OF_COUNTS = ("macs_conv", "macs_attention", "gflops_achieved")  # figures that no method without a network has


@dataclass(frozen=True)
class Cell:
    """One number of a table; a NaN value is a hole, and its notes say why.

    Args:
        value: the mean, or the only figure.
        std: its deviation over seeds.
        notes: what must be said of it, a sentence each.
        ranked: it covers all that was asked for, so that it may be set against others.
        means: what it is the mean of: one value a seed or, of a single seed, one an image.
        by_seed: seed and its mean over images.
        interval: lower and upper end of its confidence interval over images, where there is one.
    """

    value: float = NAN
    std: float = NAN
    notes: tuple[str, ...] = ()
    ranked: bool = True
    means: tuple[float, ...] = field(default=(), compare=False)
    by_seed: tuple[tuple[int, float], ...] = field(default=(), compare=False)
    interval: tuple[float, float] | None = None


def decibels(value: float) -> str:
    """Two digits, no zero below zero; a dash for what is not there."""
    return f"{round(value, 2) + 0:.2f}" if math.isfinite(value) else "—"


def mean_and_std(means: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation over seeds; no deviation of a single seed or of infinite values."""
    finite = len(means) > 1 and not any(math.isinf(mean) for mean in means)
    return fmean(means), (stdev(means) if finite else NAN)


def score_cell(rows: pd.DataFrame, column: str, images: int, seeds: Sequence[int]) -> Cell:
    """First the mean over images, then mean and deviation over seeds; a mean over fewer than asked is told, not ranked.

    Args:
        rows: of one method in one scenario.
        column: of the rows; it may be missing in rows that are older than it.
        images: that the plan asks for, of each seed.
        seeds: that the plan asks for.
    """
    if rows.empty:
        return Cell(notes=(NO_ROW,))
    column_there = rows[column] if column in rows else [NAN] * len(rows)
    values: dict[int, list[float]] = {seed: [] for seed in seeds}
    failed = unrecorded = 0
    for seed, status, value in zip(rows["seed"], rows["status"], column_there):
        own = values.setdefault(int(seed), [])
        if status != "ok":
            failed += 1
        elif math.isnan(value):
            unrecorded += 1
        else:
            own.append(float(value))
    counts = sorted(len(own) for own in values.values())
    notes = []
    complete = counts[0] == images
    if not counts[-1]:
        notes.append(f"all {failed} rows failed" if failed == len(rows) else NOT_RECORDED)
    elif not complete:
        least = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
        words = [f"over {least} of {images} images" + (" a seed" if len(values) > 1 else ""),
                 *([f"{failed} rows failed"] if failed else []), *([f"{unrecorded} not recorded"] if unrecorded else [])]
        notes.append(", ".join(words) + ": not ranked")
    notes += [*stale_note(rows), *left_out_notes(rows)]
    if not counts[-1]:
        return Cell(notes=tuple(notes))
    by_seed = tuple((seed, fmean(own)) for seed, own in sorted(values.items()) if own)
    means = tuple(mean for _, mean in by_seed)
    images_of_one = tuple(next(own for own in values.values() if own))
    return Cell(*mean_and_std(means), tuple(notes), complete, means if len(means) > 1 else images_of_one, by_seed)


def stale_note(rows: pd.DataFrame) -> list[str]:
    """That code, or parameters, have changed since these rows were measured, and which."""
    parts = list(dict.fromkeys(part for words in rows["stale"].unique() for part in str(words).split(", ") if part)) \
        if "stale" in rows else []
    return [f"stale: changed since it was measured ({', '.join(parts)})"] if parts else []


def left_out_notes(rows: pd.DataFrame) -> list[str]:
    """Which images have bands that no score counts, since they are constant in the reference."""
    if "bands_left_out" not in rows:
        return []
    some = rows[rows["bands_left_out"] > 0]
    images: dict[tuple[int, int], dict[str, None]] = {}
    for out, bands, image in zip(some["bands_left_out"], some["bands"], some["image"]) if len(some) else ():
        images.setdefault((int(out), int(bands)), {})[image] = None
    return [f"{out} of {bands} bands are constant in the reference of {listed(names)} and left out"
            for (out, bands), names in sorted(images.items())]


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names in one line, the last of many counted."""
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def combined(cells: Sequence[Cell], weights: Sequence[float]) -> Cell:
    """Weighted sum of the levels for each seed, then the mean over seeds; a hole where one level is a hole.

    Args:
        cells: one a level.
        weights: of the levels: all 1 / n for their mean, 1 and -1 for the difference of two, or :func:`trapezoid`.
    """
    levels = [dict(cell.by_seed) for cell in cells]
    seeds = sorted(set().union(*levels))
    means = [sum(weight * level[seed] for weight, level in zip(weights, levels)) for seed in seeds
             if all(seed in level for level in levels)]
    if not means:
        unrecorded = any(NOT_RECORDED in cell.notes for cell in cells)
        return Cell(notes=(NOT_RECORDED if unrecorded else "a level is missing",))
    notes = dict.fromkeys(note for cell in cells for note in cell.notes)
    if len(means) < len(seeds):
        notes[f"over {len(means)} of {len(seeds)} seeds: not ranked"] = None
    ranked = len(means) == len(seeds) and all(cell.ranked for cell in cells)
    return Cell(*mean_and_std(means), tuple(notes), ranked)


def trapezoid(places: Sequence[float]) -> list[float]:
    """Weights of rising places by which the sum of values is the area under their line, divided by its width."""
    gaps = [(right - left) / (places[-1] - places[0]) for left, right in pairwise(places)]
    return [(left + right) / 2 for left, right in zip([0.0, *gaps], [*gaps, 0.0])]


def cost_rows(costs: pd.DataFrame) -> pd.DataFrame:
    """The cost rows of the largest HR size: figures of two sizes are not set side by side."""
    if costs.empty:
        return costs
    side = costs["hr_size"].astype(str).str.extract(r"(\d+)", expand=False).astype(int)
    return costs[side == side.max()]


def sides(costs: pd.DataFrame) -> tuple[int, int]:
    """LR and HR side of cost rows of one size."""
    lr, hr = (int(re.findall(r"\d+", str(costs[key].iloc[0]))[0]) for key in ("lr_size", "hr_size"))
    return lr, hr


def cost_cell(rows: pd.DataFrame | None, key: str) -> Cell:
    """One figure of a method's cost rows; those of several machines agree on the counts."""
    if rows is None or rows.empty:
        return Cell(notes=("cost not measured",))
    good = rows[rows["status"] == "ok"]
    if good.empty:
        return Cell(notes=("its cost job failed",))
    stale = stale_note(good[:1])
    value = float(good[key].iloc[0]) if key in good else NAN
    if math.isnan(value):
        network = key not in OF_COUNTS or good["parameters"].iloc[0] > 0
        return Cell(notes=("not recorded" if network else "no network whose multiply-adds could be counted",))
    uncounted = good["uncounted_ops"].iloc[0]
    if key == "macs_conv" and isinstance(uncounted, str) and uncounted not in ("", "none"):
        return Cell(value, notes=(f"not counted: {shorten(uncounted, 160, placeholder=' ...')}", *stale))
    return Cell(value, notes=tuple(stale))
