"""What each degradation costs, side by side: one column an axis of the study, at its farthest level from clean."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from benchmark.page.axes import Axis, Level, axes_of
from benchmark.page.cells import combined
from benchmark.page.plots import Plot, own_style, plain
from benchmark.page.section import Section
from benchmark.page.tables import METRIC_COLUMNS, Column, Table, cases_of, row_of
from benchmark.protocol import CLEAN

LEAST = 4  # axes: fewer are read from their own tables
DEEPEST = 10.0  # dB, where the colours end


def farthest(axis: Axis) -> Level:
    """Of the levels that are not clean the last one away from it: of an axis in dB or bits the first, else the last."""
    levels = [level for level in axis.levels if level.scenario != CLEAN]
    return levels[0] if axis.levels[-1].scenario == CLEAN else levels[-1]


def level_words(axis: Axis, level: Level) -> str:
    """A defect and how much of it; of one without an amount its name alone."""
    return axis.name if level.words == axis.name else f"{axis.name} {level.words}"


def defects(section: Section) -> list[Table | Plot]:
    """The change of PSNR from clean images by defect, as a table and as a picture, one of each an MSI band count."""
    axes = axes_of(section.facts.scenarios)
    if len(axes) < LEAST or CLEAN not in section.facts.scenarios:
        return []
    shown = [(axis, farthest(axis)) for axis in axes.values()]
    column = METRIC_COLUMNS["psnr_db"]
    columns = [column, *(Column(f"psnr_db_change_{axis.name}", level_words(axis, level), "dB", "", 1)
                         for axis, level in shown)]
    rows = []
    for msi_bands, method in cases_of(section.facts):
        clean = section.score(CLEAN, msi_bands, method, column.key)
        changes = [combined([section.score(level.scenario, msi_bands, method, column.key), clean], [1.0, -1.0])
                   for _, level in shown]
        rows.append(row_of(section.facts, msi_bands, method, [clean, *changes]))
    caption = ("PSNR on clean images, and how much it changes with one defect: "
               + "; ".join(f"{level_words(axis, level)}: {axis.words}" for axis, level in shown) + ".")
    table = Table(f"{section.slug}-defects", "What each defect costs", caption, tuple(columns), tuple(rows),
                  section.facts.unranked, section.caption())
    drawn = (_picture(section, table, shown, msi_bands) for msi_bands in section.facts.msi_bands)
    return [*(plot for plot in drawn if plot), table]


def _picture(section: Section, table: Table, shown: list[tuple[Axis, Level]], msi_bands: int) -> Plot | None:
    """Methods by defects, the change in dB as colour and number; None before the first row is there."""
    rows = [row for row in table.rows
            if row.msi_bands == msi_bands and any(math.isfinite(cell.value) for cell in row.cells[1:])]
    if not rows:
        return None
    values = np.array([[cell.value for cell in row.cells[1:]] for row in rows])
    with own_style():
        # room for the names of the methods, the numbers, and the bar of colours with its label
        names = 0.085 * max(len(row.method) for row in rows)
        figure = Figure(figsize=(names + 0.46 * len(shown) + 1.3, 1.7 + 0.27 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.grid(visible=False)
        held = axes.imshow(np.clip(values, -DEEPEST, DEEPEST), cmap="RdBu", norm=TwoSlopeNorm(0.0, -DEEPEST, DEEPEST),
                           aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = abs(value) > 0.65 * DEEPEST
                axes.text(j, i, f"{round(value, 1) + 0:.1f}".replace("-", "−"), ha="center", va="center", fontsize=7,
                          color="white" if dark else "black")
        axes.set_xticks(range(len(shown)), [plain(level_words(axis, level)) for axis, level in shown], rotation=60,
                        ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(len(rows)), [plain(row.method) for row in rows], fontsize=8)
        axes.set_title(plain(f"{section.title}, {msi_bands} MSI bands"), fontsize=10)
        figure.colorbar(held, ax=axes, label="change of PSNR (dB)", shrink=0.8, extend="min")
    mean = [np.mean(column[np.isfinite(column)]) if np.isfinite(column).any() else math.nan for column in values.T]
    worst = [f"{level_words(*shown[j])} {mean[j]:.1f} dB" for j in np.argsort(mean)[:3] if np.isfinite(mean[j])]
    return Plot(f"{section.slug}-defects-msi{msi_bands}", f"What each defect costs, {msi_bands} MSI bands",
                f"Change of PSNR from clean images with one defect, {msi_bands} MSI bands; colours end at {DEEPEST:g} dB.",
                figure, conditions=section.caption(),
                alt=f"Dearest in the mean over {len(rows)} methods: {', '.join(worst)}.")
