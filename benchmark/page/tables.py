"""Rows in, tables out: every metric, costs, quality along any axis, fidelity; those of the papers: ``benchmark.page.papers``.

A table function takes a :class:`~benchmark.page.section.Section` and returns :class:`Table` values: raw numbers with the
description of their columns. :mod:`benchmark.page.formats` turns them into text and rounds there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from benchmark.metrics import METRICS
from benchmark.page.axes import Axis, axes_of
from benchmark.page.cells import Cell, combined, cost_cell, score_cell, sides, trapezoid
from benchmark.page.section import Facts, Section, said, slug_of
from benchmark.protocol import CLEAN


@dataclass(frozen=True)
class Column:
    """What a table says about one column.

    Args:
        key: its name in the CSV.
        better: ``"up"``, ``"down"``, or ``""`` where methods are not ranked.
        decimals: digits behind the point; None: three significant digits.
        scale: the CSV keeps the raw number, the other forms show ``value / scale``.
        published: printed in a paper, not measured here: shown as printed, blank where nothing is printed.
        group: heading that it shares with its neighbours.
        notes: what must be said of it wherever it is shown, a sentence each: footnotes of its heading.
    """

    key: str
    label: str
    unit: str = ""
    better: str = ""
    decimals: int | None = None
    scale: float = 1.0
    published: bool = False
    group: str = ""
    notes: tuple[str, ...] = ()


SIDE_BY_SIDE = 0  # in the place of a row's MSI band count: its columns say which one they are of


@dataclass(frozen=True)
class Row:
    """One method with one MSI band count; ``cells`` in the order of the table's columns.

    Args:
        msi_bands: or :data:`SIDE_BY_SIDE`.
        mark: words behind the method's name.
        kind: the rows it is ranked with are of the same kind and MSI band count; empty: it is not ranked.
        published: all of it is printed in a paper, as :attr:`Column.published`.
    """

    msi_bands: int
    method: str
    cells: tuple[Cell, ...]
    mark: str = ""
    kind: str = ""
    published: bool = False


@dataclass(frozen=True)
class Table:
    """Methods by figures.

    Args:
        name: of its files.
        title: its heading.
        caption: one line, all that the page says below it.
        columns: what is shown of each method.
        rows: the methods.
        unranked: sentences that say which rows are not ranked, and why.
        conditions: what its files say behind the caption, and the page once for all tables.
    """

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    unranked: tuple[str, ...] = ()
    conditions: str = ""


@dataclass(frozen=True)
class Listing:
    """A table of words: nothing in it is ranked or rounded; ``caption`` and ``conditions`` as those of a :class:`Table`."""

    name: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    conditions: str = ""


NATIVE = "native: in the unit of the image's own file, before it is brought to the unit range"
BEYOND = "beyond what the process held before the fusion: without the weights of a network, which a printed figure may hold"
COUNTED = ("multiply-adds are counted as of direct convolutions; layers that are computed by Winograd's algorithm need fewer, "
           "so that a network can pass the ceiling")
METRIC_COLUMNS = {key: Column(key, metric.label, metric.unit, {"higher": "up", "lower": "down"}[metric.better],
                              metric.decimals, notes=(NATIVE,) if metric.unit == "native" else ())
                  for key, metric in METRICS.items()}
MAIN_METRICS = ("psnr_db", "sam_deg", "rmse")  # of the papers' tables
COUNTS = (
    Column("parameters", "Params built", "M", "", 3, 1e6),
    Column("parameters_used", "Params used", "M", "", 3, 1e6),
    Column("macs_conv", "MACs", "G", "", 2, 1e9),
    Column("macs_attention", "MACs attention", "G", "", 2, 1e9),
)
TIMINGS = (Column("seconds_median", "Time", "s"), Column("peak_memory_mb", "Peak memory", "MB", notes=(BEYOND,)))
RATES = (Column("gflops_achieved", "Achieved", "GFLOP/s", "", 1, notes=(COUNTED,)),
         Column("gflops_share", "Of the ceiling", "%", "", 1, notes=(COUNTED,)))
FIDELITY = (
    Column("golden_difference", "Golden difference", "1e-6", "", None, 1e-6),
    Column("parameters_used", "Params used", "M", "", 3, 1e6),
    Column("parameters_published", "published", "M", "", 3, 1e6, published=True),
    Column("parameters_percent", "difference", "%", "", 1),
    Column("macs_conv", "MACs", "G", "", 2, 1e9),
    Column("macs_published", "published", "G", "", 2, 1e9, published=True),
    Column("macs_percent", "difference", "%", "", 1),
    Column("macs_attention", "MACs attention", "G", "", 2, 1e9),
)
RECORDED = (
    Column("psnr_db", "PSNR", "dB", "", 2),
    Column("psnr_recorded", "recorded", "dB", "", 2, published=True),
    Column("sam_deg", "SAM", "deg", "", 3),
    Column("sam_recorded", "recorded", "deg", "", 3, published=True),
    Column("sample_difference", "Largest sample difference", "1e-6", "", 3, 1e-6),
    Column("seconds", "Time", "s"),
    Column("seconds_recorded", "recorded", "s", "", None, published=True),
    Column("times_faster", "Times faster", "", "", 1),
)
RECORDED_CASES = {"large": "the timed case (128x128 pixels, 172 bands, 35 dB and 40 dB)",
                  "case1": "the small case (64x64 pixels, 60 bands)", "case1_noisy": "the small case with noise"}


MOST_IMAGES = 12  # of a split, for a column each
AT_THEIR_SIZE = "mean over the scored images, at their size"  # of the time of a method that is optimised for each image


@dataclass(frozen=True)
class Timing:
    """A column of cost rows that depends on the machine: the figure ``key`` on one device in one number format."""

    column: Column
    key: str
    device: str = ""
    dtype: str = ""

    def cell(self, section: Section, msi_bands: int, method: str) -> Cell:
        """The figure of a method; that of one optimised for each image is timed where it is scored."""
        rows = section.costs.get((msi_bands, method))
        there = rows[(rows["device"] == self.device) & (rows["dtype"] == self.dtype)] if rows is not None else None
        optimised = there is not None and len(there) and (there["status"] == "ok").all() \
            and there["seconds_median"].isna().all()
        if self.key == "seconds_median" and optimised:
            mean = section.score(CLEAN, msi_bands, method, "seconds")
            return replace(mean, notes=(*mean.notes, AT_THEIR_SIZE))
        if self.key == "gflops_share":
            achieved = cost_cell(there, "gflops_achieved")
            return replace(achieved, value=100 * achieved.value / cost_cell(there, "gflops_ceiling").value)
        return cost_cell(there, self.key)


def costs(section: Section) -> list[Table]:
    """What one fusion costs: counts, and time, memory and speed on each machine."""
    if not section.costs:
        return []
    timings = timings_of(section, (*TIMINGS, *RATES))
    rows = [row_of(section.facts, *case, [*(cost_cell(section.costs.get(case), column.key) for column in COUNTS),
                                          *(timing.cell(section, *case) for timing in timings)])
            for case in cases_of(section.facts)]
    words = f"{cost_words(section)} Ceiling: a float32 matrix product of 2048 in the same run."
    return [Table("study-costs", "Cost of one fusion", words, (*COUNTS, *(timing.column for timing in timings)),
                  tuple(rows), conditions=" ".join(said(section.facts)))]


def machines_of(section: Section) -> dict[tuple[str, str], str]:
    """(device, number format) of the cost rows -> the letter that its columns bear, empty where there is one alone."""
    costs = pd.concat(list(section.costs.values())) if section.costs else pd.DataFrame()
    found = list(costs.groupby(["device", "dtype"]).groups) if len(costs) else []
    return {machine: chr(ord("A") + i) if len(found) > 1 else "" for i, machine in enumerate(found)}


def timings_of(section: Section, columns: Sequence[Column] = TIMINGS) -> list[Timing]:
    """The timed columns of each machine, side by side; the caption says what their letters mean (:func:`cost_words`)."""
    machines = machines_of(section)
    return [Timing(replace(column, key=f"{column.key}@{device}-{dtype}" if letter else column.key,
                           label=f"{column.label} {letter}".strip()), column.key, device, dtype)
            for (device, dtype), letter in (machines or {("", ""): ""}).items() for column in columns]


def machine_of_most(section: Section, msi_bands: int) -> tuple[list[Timing], str]:
    """The timed columns of the machine that has measured most methods, and its words; those of all: :func:`costs`."""
    held = [rows for (bands, _), rows in section.costs.items() if bands == msi_bands]
    if not held:
        return [Timing(column, column.key) for column in TIMINGS], ""
    rows = pd.concat(held)
    counts = rows[rows["status"] == "ok"].groupby(["device", "dtype"]).size().to_dict()
    device, dtype = max(machines_of(section), key=lambda machine: counts.get(machine, 0))
    lr, hr = sides(rows)
    return ([Timing(column, column.key, device, dtype) for column in TIMINGS],
            f"Cost of one fusion, LR {lr} to HR {hr} pixels a side, on {device} ({dtype}).")


def cost_words(section: Section) -> str:
    """Of which size and on which machines the cost of a fusion was measured."""
    lr, hr = sides(pd.concat(list(section.costs.values())))
    where = "; ".join(f"{f'{letter}: ' if letter else ''}{device} ({dtype})"
                      for (device, dtype), letter in machines_of(section).items())
    return f"Cost of one fusion, LR {lr} to HR {hr} pixels a side, on {where}."


def all_metrics(section: Section) -> list[Table]:
    """Clean scenes: every metric."""
    rows = [row_of(section.facts, *case, [section.score(CLEAN, *case, key) for key in METRIC_COLUMNS])
            for case in cases_of(section.facts)]
    return [Table(f"{section.slug}-metrics", "Every metric", "Clean scenes: every metric.", tuple(METRIC_COLUMNS.values()),
                  tuple(rows), section.facts.unranked, section.caption())]


def by_image(section: Section) -> list[Table]:
    """Clean scenes: PSNR image by image, where a split has several and not more than :data:`MOST_IMAGES`.

    A mean of few images hides which of them a method fails on.
    """
    images = section.split.images if section.split else ()
    if not 2 <= len(images) <= MOST_IMAGES or CLEAN not in section.facts.scenarios:
        return []
    psnr = METRIC_COLUMNS["psnr_db"]
    columns = [replace(psnr, label="mean PSNR"), *(replace(psnr, key=f"psnr_db_{slug_of(image)}", label=image)
                                                   for image in images)]
    rows = []
    for msi_bands, method in cases_of(section.facts):
        scored, seeds = section.scored(CLEAN, msi_bands, method), section.facts.seeds.get(method, (0,))
        cells = [score_cell(scored[scored["image"] == image], psnr.key, 1, seeds) for image in images]
        rows.append(row_of(section.facts, msi_bands, method, [section.score(CLEAN, msi_bands, method, psnr.key), *cells]))
    return [Table(f"{section.slug}-images", "PSNR image by image", "Clean scenes: PSNR (dB) of each held-out image.",
                  tuple(columns), tuple(rows), section.facts.unranked, section.caption())]


def by_level(section: Section, axis: Axis, metrics: Sequence[str], name: str = "",
             methods: Sequence[str] | None = None) -> Table:
    """Quality by the levels of an axis, the metrics of each level side by side.

    Behind them, of noise, the mean over all levels and the area under the curve of PSNR: robustness in one number; of other
    axes the change from clean to the last level.

    Args:
        section: a split.
        axis: whose levels.
        metrics: columns of the score rows.
        name: of the table; of the axis if not given.
        methods: its rows; all of the study if not given.
    """
    facts, levels = section.facts, axis.levels
    shown = [METRIC_COLUMNS[metric] for metric in metrics]
    columns = [replace(column, key=f"{column.key}_{level.key}", group=level.words) for level in levels for column in shown]
    along = [level for level in levels if not level.apart]
    area = axis.unit == "dB" and "psnr_db" in metrics and len(along) > 1
    words = []
    clean = next((i for i, level in enumerate(levels) if level.scenario == CLEAN), None)
    last = max((i for i in range(len(levels)) if i != clean and not levels[i].apart), default=None)
    weights: list[float] = []  # of the levels, in the summary behind them
    if axis.unit == "dB" and len(levels) > 1:
        columns += [replace(column, key=f"{column.key}_average", group="average") for column in shown]
        words.append(f"Average: mean over the levels shown{', clean included' if clean is not None else ''}.")
        weights = [1 / len(levels)] * len(levels)
    elif clean is not None and last is not None:
        columns += [replace(column, key=f"{column.key}_change", group="change", better="") for column in shown]
        words.append(f"Change: {levels[last].words} less clean.")
        weights = [float(i == last) - float(i == clean) for i in range(len(levels))]
    if area:
        columns.append(replace(METRIC_COLUMNS["psnr_db"], key="psnr_db_area", group="area"))
        words.append(f"Area: under the curve of PSNR over SNR, divided by its width of {along[-1].at - along[0].at:g} dB.")
    rows = []
    for msi_bands, method in cases_of(facts):
        if methods is None or method in methods:
            own = {column.key: [section.score(level.scenario, msi_bands, method, column.key) for level in levels]
                   for column in shown}
            cells = [own[column.key][i] for i in range(len(levels)) for column in shown]
            cells += [combined(own[column.key], weights) for column in shown] if weights else []
            if area:
                at = [cell for level, cell in zip(levels, own["psnr_db"]) if not level.apart]
                cells.append(combined(at, trapezoid([level.at for level in along])))
            rows.append(row_of(facts, msi_bands, method, cells))
    labels = " and ".join(column.label for column in shown)
    caption = " ".join([f"{labels} by {axis.label or 'scenario'}, {axis.words}.", *words])
    return Table(f"{section.slug}-{name or axis.name}" + ("-rmse" if metrics[0].startswith("rmse") else ""),
                 f"{labels}: {axis.words}", caption, tuple(columns), tuple(rows), facts.unranked, section.caption())


def scenarios(section: Section) -> list[Table]:
    """Quality along every axis of the study that no table of the papers has."""
    axes = axes_of(section.facts.scenarios)
    rmse = "rmse" if section.split is None or section.split.one_unit else "rmse_unit"
    made = [by_level(section, axis, ("psnr_db", "sam_deg")) for name, axis in axes.items() if name != "noise-both"]
    return made + [by_level(section, axis, (rmse,)) for axis in axes.values()]


def fidelity(section: Section) -> list[Table]:
    """Each network against its authors' release, and its counts against those that its paper prints."""
    facts, rows = section.facts, _asked(section.rows.fidelity, section.facts)
    if rows.empty:
        return []
    made = []
    for row in rows.to_dict("records"):
        cells = {column.key: Cell(float(row.get(column.key, math.nan))) for column in FIDELITY}
        golden = row["golden_difference"]
        if math.isnan(golden):
            cells["golden_difference"] = Cell(notes=(row["verdict"],))
        elif golden >= row["tolerance"]:
            cells["golden_difference"] = Cell(golden, notes=(row["verdict"],))
        for count, key in (("parameters", "parameters_used"), ("macs", "macs_conv")):
            percent = 100 * (row[key] / row[f"{count}_published"] - 1)
            told = (row["reason"] if row["reason"] != "none" else "the reason is not known",) if abs(percent) > 1 else ()
            cells[f"{count}_percent"] = Cell(percent, notes=told)
        made.append(row_of(facts, int(row["msi_bands"]), str(row["method"]), list(cells.values())))
    made.sort(key=lambda row: row.msi_bands)
    words = ("Golden difference: largest relative difference from the recorded output of the authors' release, in units of "
             "1e-6 (allowed: 10; deep scans 100). Counts at 172 bands, LR 64 to HR 256 pixels a side, with the MSI bands "
             "of the paper's own table; parameters that take part; convolutions and linear layers. "
             f"Code {_short(rows['revision'])}.")
    return [Table("study-fidelity", "Fidelity to the authors' releases", words, FIDELITY, tuple(made))]


def recorded(section: Section) -> list[Table]:
    """Each training-free method beside its reference toolbox: scores, samples and seconds, one table a recorded case."""
    made, rows = [], _asked(section.rows.recorded, section.facts)
    cases = sorted(set(rows["case"])) if len(rows) else []
    for case in sorted(cases, key=lambda case: ([*RECORDED_CASES, case].index(case), case)):
        here, words = rows[rows["case"] == case], RECORDED_CASES.get(case, case)
        lines = []
        for row in here.to_dict("records"):
            cells = {column.key: Cell(float(row[column.key])) for column in RECORDED}
            if row["verdict"] != "equals its reference":
                cells["psnr_db"] = replace(cells["psnr_db"], notes=(row["verdict"],))
            lines.append(Row(int(row["msi_bands"]), f"{row['method']}: {row['recording']}", tuple(cells.values())))
        made.append(Table(
            f"study-recorded-{case.replace('_', '-')}", f"Against the reference toolboxes, {words}",
            f"Method and name of its recording; {words}. Recorded: the toolboxes' own code (GNU Octave; those ending in 'py' "
            f"Python), one thread. Here: threads {_short(here['threads'])}, code {_short(here['revision'])}.",
            RECORDED, tuple(lines)))
    return made


def cases_of(facts: Facts) -> list[tuple[int, str]]:
    """(MSI band count, method) of every row that a table of this study has."""
    return [(msi_bands, method) for msi_bands in facts.msi_bands for method in facts.methods]


def row_of(facts: Facts, msi_bands: int, method: str, cells: Sequence[Cell]) -> Row:
    """One row, with what is said of the method and the kind with which it is ranked."""
    return Row(msi_bands, method, tuple(cells), facts.marks.get(method, ""), facts.kinds.get(method, ""))


def _asked(rows: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """The rows of the study's methods."""
    return rows[rows["method"].isin(facts.methods)] if len(rows) else rows


def _short(values: pd.Series) -> str:
    return ", ".join(sorted({str(value)[:12] for value in values}))
