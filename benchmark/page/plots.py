"""Rows in, figures out: quality against noise (shape of Figures 6-9) and training curves (shape of Figure 11).

A figure function takes a :class:`~benchmark.page.tables.Section` and returns :class:`Plot` values, one small figure each, so
that a page can put them side by side on a desk and below each other on a phone. A method looks the same in all of them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from benchmark.page import tables
from benchmark.page.tables import METRICS, TARGETS, Cell, Section, at, caption, score_cell

# Okabe and Ito's colours without yellow, which is too light on white; colour and marker counts share no factor, so
# 63 methods differ in at least one of them
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES = ("-", "--", "-.", ":")
STYLE: Any = {"font.size": 10, "axes.axisbelow": True, "axes.grid": True, "grid.color": "#dddddd",
              "grid.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
              "legend.fontsize": 9, "lines.linewidth": 1.6, "lines.markersize": 5.5, "pdf.fonttype": 42,
              "savefig.dpi": 150, "figure.dpi": 150}
WIDTH = 4.8  # inches: at the width of a phone the letters are still about ten pixels high
TRAINING = (  # file name, title, quantity of the log -> label of its panel
    ("losses", "Training losses", {"loss": "total loss", "l1": "L1 loss", "beba": "BEBA loss", "sam": "SAM loss",
                                   "kd": "feature KD", "output": "output L1"}),
    ("val-psnr", "Validation PSNR", {"val_psnr_db": "validation PSNR (dB)"}),
    ("val-sam", "Validation SAM", {"val_sam_deg": "validation SAM (deg)"}),
)


@dataclass(frozen=True)
class Plot:
    """A figure and what is said about it."""

    name: str
    title: str
    caption: str
    figure: Figure


def styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dashes of each method, by its place in the sorted list."""
    return {method: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)],
                     "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]} for i, method in enumerate(sorted(methods))}


def noise_curves(section: Section) -> list[Plot]:
    """PSNR and SAM against SNR, one figure a noise target, metric and MSI setting; clean stands apart at the right."""
    return [_noise_curve(section, target, levels, metric, msi_bands)
            for target, levels in tables.noise_levels(section).items()
            for metric in ("psnr_db", "sam_deg") for msi_bands in section.msi_bands]


def _noise_curve(section: Section, target: str, levels: list[float], metric: str, msi_bands: int) -> Plot:
    column, look, words = METRICS[metric], styles(section.methods), TARGETS.get(target, f"noise on {target}")
    noisy = sorted(level for level in levels if math.isfinite(level))
    clean_at = noisy[-1] + max(noisy[-1] - noisy[-2] if len(noisy) > 1 else 0.0, 5.0)
    cells: dict[str, list[Cell]] = {method: [] for method in section.methods}
    for level in noisy:
        for bands, method, rows, images in at(section, "noise", target, level):
            if bands == msi_bands:
                cells[method].append(score_cell(rows, metric, images))
    clean = {method: score_cell(rows, metric, images)
             for bands, method, rows, images in at(section, *tables.CLEAN) if bands == msi_bands}
    drawn = [method for method in section.methods
             if any(not math.isnan(cell.value) for cell in [*cells[method], clean[method]])]
    with mpl.rc_context(STYLE):
        figure, (axes,) = _canvas(1, 2.9, drawn)
        for method in drawn:
            _points(axes, noisy, cells[method], method, look[method])
            _points(axes, [clean_at], [clean[method]], "_clean " + method, {**look[method], "linestyle": "none"})
        axes.axvline((noisy[-1] + clean_at) / 2, color="#999999", linewidth=0.8, linestyle=":", label="_break")
        axes.set_xticks([*noisy, clean_at], [*(f"{level:g}" for level in noisy), "clean"])
        axes.set_xlabel("SNR (dB)")
        axes.set_ylabel(f"{column.label} ({column.unit})")
        axes.set_title(f"{section.title}\n{msi_bands} MSI bands, {words}", fontsize=10)
        _legend(figure, axes, drawn, look)
    missing = sorted(set(section.methods) - set(drawn))
    hole = f" No rows here: {', '.join(missing)}." if missing else ""
    title = f"{column.label} against SNR, {msi_bands} MSI bands"
    name = f"{section.slug}-noise-{target.replace('_', '-')}-{metric.split('_')[0]}-msi{msi_bands}"
    return Plot(name, title, f"{column.label} against SNR, {words}, {msi_bands} MSI bands.{hole} {caption(section)}",
                figure)


def _points(axes: Any, x: list[float], cells: list, label: str, look: Mapping[str, Any]) -> None:
    """A line with its deviation over seeds; a hole interrupts the line."""
    y = [cell.value for cell in cells]
    axes.plot(x, y, label=label, **look)
    bars = [(at_x, cell.value, cell.std) for at_x, cell in zip(x, cells) if math.isfinite(cell.std)]
    if bars:
        axes.vlines([bar[0] for bar in bars], [value - std for _, value, std in bars],
                    [value + std for _, value, std in bars], color=look["color"], linewidth=1.0)


def training(section: Section) -> list[Plot]:
    """Loss terms and validation PSNR and SAM per epoch, one line a training run."""
    made = []
    for name, title, quantities in TRAINING if len(section.curves) else ():
        for msi_bands in section.msi_bands:
            curves = section.curves[section.curves["msi_bands"] == msi_bands].dropna(subset=["value"])
            logged = set(curves["quantity"])
            there = {quantity: label for quantity, label in quantities.items() if quantity in logged}
            if there:
                curves = curves[curves["quantity"].isin(list(there))]
                made.append(_training(section, curves, f"training-{name}-msi{msi_bands}", title, msi_bands, there))
    return made


def _training(section: Section, curves: pd.DataFrame, name: str, title: str, msi_bands: int,
              quantities: Mapping[str, str]) -> Plot:
    """Stacked panels, one a quantity, over epochs."""
    look = styles(section.methods)
    drawn = [method for method in section.methods if (curves["method"] == method).any()]
    with mpl.rc_context(STYLE):
        figure, panels = _canvas(len(quantities), 2.9 if len(quantities) == 1 else 1.35, drawn)
        for axes, (quantity, label) in zip(panels, quantities.items()):
            here = curves[curves["quantity"] == quantity]
            for (method, _), run in here.groupby(["method", "job"]):
                line = run.groupby("epoch")["value"].mean()
                axes.plot(list(line.index), list(line), label=method, markevery=max(1, len(line) // 8), **look[method])
            if len(quantities) > 1:
                axes.locator_params(axis="y", nbins=4)
            low, high = here["value"].min(), here["value"].max()
            if len(quantities) > 1 and low > 0 and high > 10 * low:  # a decade at least, else a log axis has no labels
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter("{x:g}")
                axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_ylabel(label, fontsize=9 if len(quantities) > 1 else 10)
        panels[-1].set_xlabel("epoch")
        panels[0].set_title(f"{msi_bands} MSI bands", fontsize=10)
        _legend(figure, panels[0], drawn, look)
    runs = curves.groupby("method")["job"].nunique()
    counted = ", ".join(f"{method} {n}" for method, n in runs.items())
    seeds = ", ".join(str(seed) for seed in sorted(set(curves["seed"])))
    devices = ", ".join(section.meta.get("devices", [])) or "unknown"
    labels = [label.rstrip(".") + "." for label in section.meta.get("labels", [])]
    words = [f"{title} per epoch, {msi_bands} MSI bands, one line a run (runs: {counted}; seeds {seeds}).",
             f"{tables.protocol_words(section).capitalize()}; devices: {devices}.", *labels]
    return Plot(name, f"{title}, {msi_bands} MSI bands", " ".join(words), figure)


def _canvas(panels: int, height: float, methods: Sequence[str]) -> tuple[Figure, list[Any]]:
    """A figure with stacked panels and room below for the legend."""
    legend = math.ceil(len(methods) / _legend_columns(methods)) * 0.19
    figure = Figure(figsize=(WIDTH, panels * height + legend + 0.5), layout="constrained")
    return figure, list(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])


def _legend(figure: Figure, axes: Any, methods: Sequence[str], look: Mapping[str, Mapping[str, Any]]) -> None:
    """The legend below the axes, the same order everywhere; says so where there is nothing to draw."""
    if not methods:
        axes.text(0.5, 0.5, "no rows yet", transform=axes.transAxes, ha="center", va="center", color="#666666")
        return
    handles = [Line2D([], [], label=method, **look[method]) for method in methods]
    figure.legend(handles=handles, loc="outside lower center", ncols=_legend_columns(methods), handlelength=3)


def _legend_columns(methods: Sequence[str]) -> int:
    return 2 if max(map(len, methods), default=0) <= 24 else 1


def file_bytes(plot: Plot) -> dict[str, bytes]:
    """``{"png": ..., "pdf": ...}``, free of dates and versions: the same rows give the same bytes."""
    made = {}
    with mpl.rc_context(STYLE):
        for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None,
                                                                     "Creator": None})):
            buffer = io.BytesIO()
            plot.figure.savefig(buffer, format=kind, metadata=metadata)
            made[kind] = buffer.getvalue()
            plot.figure.set_layout_engine("none")  # what the first drawing arranged stays
    return made
