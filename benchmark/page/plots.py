"""Rows in, figures out: quality against noise (shape of Figures 6-9) and training curves (shape of Figure 11).

A figure function takes a :class:`~benchmark.page.section.Section` and returns :class:`Plot` values, one small figure each, so
that a page can put them side by side on a desk and below each other on a phone. A method looks the same in all of them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from benchmark.page.cells import Cell
from benchmark.page.section import Section, protocol_words, said
from benchmark.page.tables import METRIC_COLUMNS, TARGETS, Column
from benchmark.protocol import Scenario

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
TERMS = {"loss": "total loss", "l1": "L1 loss", "beba": "BEBA loss", "sam": "SAM loss", "kd": "feature KD",
         "output": "output L1"}  # logged quantity -> label of its panel; others are drawn under their own names
OTHERS = (  # file name, title, quantity, label
    ("val-psnr", "Validation PSNR", "val_psnr_db", "validation PSNR (dB)"),
    ("val-sam", "Validation SAM", "val_sam_deg", "validation SAM (deg)"),
    ("lr", "Learning rate", "lr", "learning rate"),
)
MANY = 8  # methods in one panel, above which it is a figure of its own
PANELS = 6  # in one figure


@dataclass(frozen=True)
class Plot:
    """A figure and what is said about it."""

    name: str
    title: str
    caption: str
    figure: Figure


@contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib as it comes, with our style: what a user's matplotlibrc says must not change a picture."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dashes of each method, by its place in the sorted list."""
    return {method: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)],
                     "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]} for i, method in enumerate(sorted(methods))}


def noise_curves(section: Section) -> list[Plot]:
    """PSNR and SAM against SNR, one figure a noise target, metric and MSI setting; clean stands apart at the right."""
    return [_noise_curve(section, target, levels, METRIC_COLUMNS[metric], msi_bands)
            for target, levels in section.noise_levels().items()
            for metric in ("psnr_db", "sam_deg") for msi_bands in section.facts.msi_bands]


def _noise_curve(section: Section, target: str, levels: Sequence[Scenario], column: Column, msi_bands: int) -> Plot:
    facts = section.facts
    look, words = styles(facts.methods), TARGETS.get(target, f"noise on {target}")
    at = _places(levels)
    cells = {method: [(at[level], section.score(level, msi_bands, method, column.key)) for level in levels]
             for method in facts.methods}
    drawn = [method for method in facts.methods if any(math.isfinite(cell.value) for _, cell in cells[method])]
    seeds = any(len(cell.by_seed) > 1 for own in cells.values() for _, cell in own)
    with own_style():
        figure, (axes,) = _canvas(1, 2.9, drawn)
        for method in drawn:
            noisy = [(x, cell) for level, (x, cell) in zip(levels, cells[method]) if math.isfinite(level.snr_db)]
            clean = [(x, cell) for level, (x, cell) in zip(levels, cells[method]) if math.isinf(level.snr_db)]
            for i, part in enumerate(_unbroken(noisy)):
                _line(axes, part, seeds, method if i == 0 else "_" + method, look[method])
            for part in _unbroken(clean):
                _line(axes, part, seeds, "_clean " + method, {**look[method], "linestyle": "none"})
        ticks = sorted((x, "clean" if math.isinf(level.snr_db) else f"{level.snr_db:g}") for level, x in at.items())
        axes.set_xticks([x for x, _ in ticks], [text for _, text in ticks])
        if any(math.isinf(level.snr_db) for level in levels):
            axes.axvline((ticks[-1][0] + ticks[-2][0]) / 2, color="#999999", linewidth=0.8, linestyle=":", label="_break")
        axes.set_xlabel("SNR (dB)")
        axes.set_ylabel(f"{column.label} ({column.unit})")
        axes.set_title(_plain(f"{section.title}\n{msi_bands} MSI bands, {words}"), fontsize=10)
        _legend(figure, axes, drawn, look)
    said_of = _notes({method: [cell for _, cell in own] for method, own in cells.items()})
    title = f"{column.label} against SNR, {msi_bands} MSI bands"
    name = f"{section.slug}-noise-{target.replace('_', '-')}-{column.key.split('_')[0]}-msi{msi_bands}"
    images = max((len(cell.means) for own in cells.values() for _, cell in own), default=0)
    band = "Band: mean ± standard deviation over the seeds of training." if seeds else \
        "Band: mean ± standard error over the images." if images > 1 else ""
    caption = [f"{column.label} against SNR, {words}, {msi_bands} MSI bands.", band, said_of, section.caption()]
    return Plot(name, title, " ".join(part for part in caption if part), figure)


def _places(levels: Sequence[Scenario]) -> dict[Scenario, float]:
    """Where each level stands on the axis: its SNR, and the clean one apart to the right of all."""
    noisy = sorted(level.snr_db for level in levels if math.isfinite(level.snr_db))
    clean_at = noisy[-1] + max(noisy[-1] - noisy[-2] if len(noisy) > 1 else 0.0, 5.0)
    return {level: min(level.snr_db, clean_at) for level in sorted(levels, key=lambda level: level.snr_db)}


def _unbroken(points: Sequence[tuple[float, Cell]]) -> list[list[tuple[float, Cell]]]:
    """The stretches of a line between its holes, from left to right."""
    parts: list[list[tuple[float, Cell]]] = [[]]
    for x, cell in sorted(points, key=lambda point: point[0]):
        if math.isfinite(cell.value):
            parts[-1].append((x, cell))
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def _line(axes: Axes, points: Sequence[tuple[float, Cell]], seeds: bool, label: str, look: Mapping[str, Any]) -> None:
    """A stretch of a line with its band, over seeds or over images."""
    values = [(x, value) for x, cell in points
              for value in ([mean for _, mean in cell.by_seed] if seeds else cell.means)]
    _mean_line(axes, values, "sd" if seeds else "se", label, look)


def _mean_line(axes: Axes, values: Sequence[tuple[float, float]], error: str, label: str, look: Mapping[str, Any],
               **words: Any) -> None:
    """Mean of the values at each x, and the band of that error (``"sd"`` or ``"se"``) where there are several."""
    looks = {**look, "linestyle": "None"} if look["linestyle"] == "none" else dict(look)
    # one clean point has no width that a band could fill: it gets a bar
    points = len({x for x, _ in values})
    several = len(values) > points
    band = {"err_style": "bars"} if points == 1 else {"err_kws": {"alpha": 0.12, "linewidth": 0}}
    sns.lineplot(x=[x for x, _ in values], y=[value for _, value in values], ax=axes, label=_plain(label), legend=False,
                 estimator="mean" if several else None, errorbar=error if several else None, **band, **looks, **words)


def _notes(cells: Mapping[str, Sequence[Cell]]) -> str:
    """What must be said of the points of a figure, method by method, as a table says it in footnotes."""
    found: dict[str, list[str]] = {}
    for method, own in cells.items():
        for note in dict.fromkeys(note for cell in own for note in cell.notes):
            found.setdefault(note, []).append(method)
    return " ".join(f"{note[0].upper()}{note[1:]}: {', '.join(methods)}." for note, methods in found.items())


def training(section: Section) -> list[Plot]:
    """Every logged quantity per epoch: loss terms in panels, validation figures and learning rates apart."""
    made = []
    for msi_bands in section.facts.msi_bands:
        curves = section.rows.curves
        curves = curves[(curves["msi_bands"] == msi_bands) & curves["method"].isin(section.facts.methods)]
        curves = curves.dropna(subset=["value"])
        for i, terms in enumerate(_figures(curves), 1):
            name = f"training-losses{'' if i == 1 else f'-{i}'}-msi{msi_bands}"
            made.append(_training(section, curves, name, "Training losses", msi_bands,
                                  {term: TERMS.get(term, term) for term in terms}))
        logged = set(curves["quantity"])
        made += [_training(section, curves, f"training-{name}-msi{msi_bands}", title, msi_bands, {quantity: label})
                 for name, title, quantity, label in OTHERS if quantity in logged]
    return made


def _figures(curves: pd.DataFrame) -> list[list[str]]:
    """The loss terms of each figure: the total and the known ones first, then those that a method alone logs together."""
    of = {str(quantity): sorted(set(methods)) for quantity, methods in curves.groupby("quantity")["method"]}
    apart = {quantity for _, _, quantity, _ in OTHERS}
    groups = [["loss"], [term for term in TERMS if term != "loss"]]
    others = sorted((term for term in of if term not in apart and term not in TERMS), key=lambda term: (of[term], term))
    groups += [list(terms) for _, terms in groupby(others, key=lambda term: of[term])]
    figures: list[list[str]] = []
    for group in groups:
        terms = [term for term in group if term in of]
        for k in range(0, len(terms), PANELS):
            chunk = terms[k:k + PANELS]
            crowded = not figures or len(figures[-1]) + len(chunk) > PANELS or len(of[figures[-1][0]]) > MANY
            figures = [*figures, chunk] if crowded else [*figures[:-1], [*figures[-1], *chunk]]
    return figures


def _training(section: Section, curves: pd.DataFrame, name: str, title: str, msi_bands: int,
              quantities: Mapping[str, str]) -> Plot:
    """Stacked panels, one a quantity, over epochs; one line a method, the mean over its seeds."""
    look = styles(section.facts.methods)
    curves = curves[curves["quantity"].isin(list(quantities))]
    drawn = [method for method in section.facts.methods if (curves["method"] == method).any()]
    with own_style():
        figure, panels = _canvas(len(quantities), 2.9 if len(quantities) == 1 else 1.35, drawn)
        for axes, (quantity, label) in zip(panels, quantities.items()):
            here = curves[curves["quantity"] == quantity]
            for method, run in here.groupby("method", sort=True):
                values = run.groupby(["epoch", "seed"])["value"].mean()
                epochs = [float(epoch) for epoch, _ in values.index]
                _mean_line(axes, list(zip(epochs, values)), "sd", str(method), look[str(method)],
                           markevery=max(1, len(set(epochs)) // 8))
            axes.locator_params(axis="x", integer=True)
            if len(quantities) > 1:
                axes.locator_params(axis="y", nbins=4)
            low, high = here["value"].min(), here["value"].max()
            loss = name.startswith("training-losses")
            if loss and low > 0 and high > 10 * low:  # a decade at least, else a log axis has no labels
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter("{x:g}")
                axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_ylabel(_plain(label), fontsize=9 if len(quantities) > 1 else 10)
        panels[-1].set_xlabel("epoch")
        panels[0].set_title(f"{msi_bands} MSI bands", fontsize=10)
        _legend(figure, panels[0], drawn, look)
    runs = curves.groupby("method")["seed"].nunique()
    counted = ", ".join(f"{method} {n}" for method, n in runs.items())
    seeds = ", ".join(str(seed) for seed in sorted(set(curves["seed"])))
    band = ", mean over the seeds with a band of their standard deviation" if runs.max() > 1 else ""
    words = [f"{title} per epoch, {msi_bands} MSI bands, one line a method{band} (runs: {counted}; seeds {seeds}).",
             f"{protocol_words(section.facts).capitalize()}; devices: {', '.join(section.facts.devices) or 'unknown'}.",
             *_stale(curves), *said(section.facts)]
    return Plot(name, f"{title}: {', '.join(quantities.values())}, {msi_bands} MSI bands", " ".join(words), figure)


def _stale(curves: pd.DataFrame) -> list[str]:
    """Which lines are of code that has changed since."""
    if "stale" not in curves:
        return []
    found = curves[curves["stale"] != ""].groupby("stale")["method"].unique()
    return [f"Stale: its code has changed since ({parts}): {', '.join(methods)}." for parts, methods in found.items()]


def _canvas(panels: int, height: float, methods: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with stacked panels and room below for the legend."""
    legend = math.ceil(len(methods) / _legend_columns(methods)) * 0.19
    figure = Figure(figsize=(WIDTH, panels * height + legend + 0.5), layout="constrained")
    return figure, list(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])


def _legend(figure: Figure, axes: Axes, methods: Sequence[str], look: Mapping[str, Mapping[str, Any]]) -> None:
    """The legend below the axes, the same order everywhere; says so where there is nothing to draw."""
    if not methods:
        axes.text(0.5, 0.5, "no rows yet", transform=axes.transAxes, ha="center", va="center", color="#666666")
        return
    handles = [Line2D([], [], label=_plain(method), **look[method]) for method in methods]
    figure.legend(handles=handles, loc="outside lower center", ncols=_legend_columns(methods), handlelength=3)


def _legend_columns(methods: Sequence[str]) -> int:
    return 2 if max(map(len, methods), default=0) <= 24 else 1


def _plain(text: str) -> str:
    """Words that are not to be set as mathematics."""
    return text.replace("$", r"\$")


def file_bytes(plot: Plot) -> dict[str, bytes]:
    """``{"png": ..., "pdf": ...}``, free of dates and versions: the same rows give the same bytes."""
    made = {}
    metadata: dict[str, dict[str, Any]] = {"png": {"Software": None},
                                           "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
    with own_style():
        for kind, words in metadata.items():
            buffer = io.BytesIO()
            plot.figure.savefig(buffer, format=kind, metadata=words)
            made[kind] = buffer.getvalue()
            plot.figure.set_layout_engine("none")  # what the first drawing arranged stays
    return made
