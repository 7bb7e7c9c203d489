"""Rows in, figures out: quality along any axis of scenarios (Figures 6 to 9 and 12), and what all figures share.

A figure function takes a :class:`~benchmark.page.section.Section` and returns :class:`Plot` values, one small figure each, so
that a page can put them side by side on a desk and below each other on a phone. A method looks the same in all of them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.page.axes import Axis, axes_of
from benchmark.page.cells import NO_ROW, Cell
from benchmark.page.section import Section
from benchmark.page.tables import METRIC_COLUMNS, Column
from benchmark.protocol import CLEAN
from methods import available

# Okabe and Ito's colours without yellow, which is too light on white; colour and marker counts share no factor, so
# 77 methods differ in at least one of them
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
DASHES = ("-", "--", "-.", ":")
STYLE: Any = {"font.size": 10, "axes.axisbelow": True, "axes.grid": True, "grid.color": "#dddddd",
              "grid.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
              "legend.fontsize": 9, "lines.linewidth": 1.6, "lines.markersize": 5.5, "pdf.fonttype": 42,
              "savefig.dpi": 150, "figure.dpi": 150}
WIDTH = 4.8  # inches: at the width of a phone the letters are still about ten pixels high
IN_COLOUR = 11  # methods of one figure; the others are thin and grey
ALWAYS = ("bicubic", "gsa", "s3rnet-teacher", "s3rnet-student")  # in colour where they are drawn: what others are read against
# Most often drawn side by side: a colour each.
TOGETHER = ("bicubic", "gsa", "hysure", "s3rnet-teacher", "s3rnet-student", "subspace-ridge", "subspace-net@weights=shipped")
MANY = 8  # axes, of which a page is too long
FENCES = (1.5, 3.0)  # ranges of the quartiles beyond the worse one: Tukey's inner and outer fence
KINDS = ("png", "pdf")  # of the files of a figure
EDGE = {"markeredgewidth": 0.75, "markeredgecolor": "w"}  # as seaborn draws lines
HOLES = "a curve with holes, where a level has no row"
GREY: dict[str, Any] = {"color": "#c4c4c4", "marker": "", "linestyle": "-", "linewidth": 0.7, "zorder": 1.5}


@dataclass(frozen=True)
class Curves:
    """The cells that a figure of lines draws; the page draws them again as lines that answer.

    Args:
        axis: what the ticks are, with its unit.
        column: what the cells are.
        ticks: place on the axis and its words, from left to right.
        cells: of each method that has any, one a tick.
        coloured: methods in colour; the others are grey.
    """

    axis: str
    column: Column
    ticks: tuple[tuple[float, str], ...]
    cells: Mapping[str, tuple[Cell, ...]]
    coloured: tuple[str, ...]


@dataclass(frozen=True)
class Plot:
    """A figure and what is said about it.

    Args:
        name: of its files.
        title: what it is, in a few words.
        caption: one line, all that the page says below it.
        figure: as it is drawn in its files.
        notes: what must be said of single methods of it.
        conditions: what its files say behind caption and notes, and the page once for all figures.
        alt: what a reader sees in it: who leads, and from where to where values go; empty: the title.
        curves: the cells of its lines, where the page should draw them itself.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    notes: str = ""
    conditions: str = ""
    alt: str = ""
    curves: Curves | None = None


@contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib as it comes, with our style: what a user's matplotlibrc says must not change a picture."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dashes of each method: the same on every page, since they follow from its place in the registry.

    Those of :data:`TOGETHER` have the first places. What is not registered, as a variant, has those behind, by name.
    """
    registered = available()
    behind = sorted(set(methods) - {*registered, *TOGETHER})
    places = [*TOGETHER, *(name for name in registered if name not in TOGETHER), *behind]
    return {method: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)],
                     "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]}
            for i, method in enumerate(places) if method in methods}


def coloured(drawn: Sequence[str], quality: Mapping[str, float], kinds: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Which methods of a figure are in colour: all of few, else those of :data:`ALWAYS` and the best of the others.

    Args:
        drawn: methods of the figure.
        quality: of each, greater is better; it may be missing or NaN.
        kinds: of methods; the best of each kind come first, then the second of each. Those without one come last, but for what
            comes trained.
    """
    if len(drawn) <= IN_COLOUR:
        return tuple(drawn)
    def worth(method: str) -> float:
        value = quality.get(method, math.nan)
        return -math.inf if math.isnan(value) else value

    places, taken = dict[str, int](), dict[str, int]()
    for method in sorted((each for each in drawn if each not in ALWAYS), key=lambda each: -worth(each)):
        kind = (kinds or {}).get(method, "")
        places[method] = taken[kind] = taken.get(kind, 0) + 1
    unranked = {method for method in places if kinds and method not in kinds and "@weights=" not in method}
    order = sorted(drawn, key=lambda method: (method not in ALWAYS, method in unranked, worth(method) == -math.inf,
                                              places.get(method, 0), -worth(method)))
    return tuple(method for method in drawn if method in order[:IN_COLOUR])


def far_off(quality: Mapping[str, float], better: str = "up") -> dict[str, float]:
    """Methods so much worse than the others that these would be pressed together in a figure that shows all.

    Those beyond Tukey's inner fence, the worst first; where they are more than a tenth, those beyond the outer one; where these
    are, none. And none of :data:`ALWAYS`.

    Args:
        quality: of each method, its best where it has several; finite.
        better: ``"up"`` or ``"down"``.
    """
    sign = -1 if better == "down" else 1
    low, high = np.percentile([sign * value for value in quality.values()], (25, 75)) if quality else (0.0, 0.0)
    worst_first = sorted(quality.items(), key=lambda item: sign * item[1])
    for fence in FENCES:
        far = {method: value for method, value in worst_first
               if sign * value < low - fence * (high - low) and method not in ALWAYS}
        if len(far) <= len(quality) / 10:
            return far
    return {}


def far_words(far: Mapping[str, float], decimals: int) -> str:
    """What a figure says of the methods that it leaves out."""
    return f"Not drawn, since far worse than all others: {', '.join(f'{m} ({v:.{decimals}f})' for m, v in far.items())}." \
        if far else ""


def curves(section: Section, names: Sequence[str] | None = None, msi_bands: int | None = None,
           methods: Sequence[str] | None = None, prefix: str = "",
           metrics: Sequence[str] = ("psnr_db", "sam_deg")) -> list[Plot]:
    """PSNR and SAM along the axes of the study's scenarios, one figure an axis, metric and MSI setting.

    Args:
        section: a split.
        names: of the axes; all if not given.
        msi_bands: of one setting; of each if not given.
        methods: drawn; all of the study if not given.
        prefix: of the names of the files.
        metrics: drawn.
    """
    axes, own = axes_of(section.facts.scenarios), tuple(section.facts.methods if methods is None else methods)
    return [_curve(section, axis, METRIC_COLUMNS[metric], bands, own, prefix)
            for name, axis in axes.items() if names is None or name in names
            for metric in metrics for bands in section.facts.msi_bands if msi_bands in (None, bands)]


def other_curves(section: Section) -> list[Plot]:
    """As :func:`curves`, of all that Figures 6 to 9 do not show; of more than :data:`MANY` axes PSNR alone.

    An axis of one amount has no line to draw: its table says it, and the figure of all defects.
    """
    others = [name for name, axis in axes_of(section.facts.scenarios).items()
              if name not in ("noise-lr-hsi", "noise-both") and sum(not level.apart for level in axis.levels) > 1]
    made = curves(section, others, metrics=("psnr_db",) if len(others) > MANY else ("psnr_db", "sam_deg"))
    for msi_bands in section.facts.msi_bands:
        made += curves(section, ("noise-lr-hsi", "noise-both"), msi_bands) if msi_bands not in (4, 6) else []
    return made


def _curve(section: Section, axis: Axis, column: Column, msi_bands: int, methods: Sequence[str], prefix: str) -> Plot:
    facts, levels = section.facts, axis.levels
    cells = {method: [section.score(level.scenario, msi_bands, method, column.key) for level in levels] for method in methods}
    finite = {method: [cell.value for cell in cells[method] if math.isfinite(cell.value)] for method in methods}
    best = min if column.better == "down" else max
    # what has a clean score alone has no curve along this axis
    along = [method for method in methods if any(
        math.isfinite(cell.value) for level, cell in zip(levels, cells[method]) if level.scenario != CLEAN)] or [
            method for method in methods if finite[method]]
    far = far_off({method: best(finite[method]) for method in along}, column.better)
    drawn = [method for method in along if method not in far]
    lines = [method for method in drawn if len(finite[method]) > 1] or drawn  # what has one point alone is not the first to see
    chosen = coloured(drawn, {method: section.score(CLEAN, msi_bands, method, "psnr_db").value for method in lines},
                      facts.kinds)
    look = styles(facts.methods) | {method: GREY for method in drawn if method not in chosen}
    seeds = any(len(cell.by_seed) > 1 for own in cells.values() for cell in own)
    with own_style():
        figure, (axes,) = canvas(1, 2.9, drawn, chosen)
        for method in drawn:
            banded = None if method not in chosen else "sd" if seeds else "se"
            own = [(level.at, cell) for level, cell in zip(levels, cells[method]) if not level.apart]
            for i, part in enumerate(_unbroken(own)):
                _line(axes, part, banded, method if i == 0 else "_" + method, look[method])
            for part in _unbroken([(level.at, cell) for level, cell in zip(levels, cells[method]) if level.apart]):
                apart = {"marker": "_", "markersize": 4.0} if method not in chosen else {}
                _line(axes, part, banded, "_clean " + method, {**look[method], **apart, "linestyle": "none"})
        axes.set_xticks([level.at for level in levels], [plain(axis.tick(level)) for level in levels])
        if levels[-1].apart and len(levels) > 1:
            axes.axvline((levels[-1].at + levels[-2].at) / 2, color="#999999", linewidth=0.8, linestyle=":", label="_break")
        axes.set_xlabel(plain(axis.label))
        axes.set_ylabel(f"{column.label} ({column.unit})")
        axes.set_title(plain(f"{section.title}\n{msi_bands} MSI bands, {axis.words}"), fontsize=10)
        legend(figure, axes, drawn, look, chosen)
    drawn_again = Curves(axis.label, column, tuple((level.at, axis.tick(level)) for level in levels),
                         {method: tuple(cells[method]) for method in drawn}, chosen)
    images = max((len(cell.means) for own in cells.values() for cell in own), default=0)
    band = "Band: mean ± standard deviation over the seeds of training." if seeds else \
        "Band: mean ± standard error over the images." if images > 1 else ""
    notes = [thinned(drawn, chosen, kinds=bool(facts.kinds)), far_words(far, column.decimals or 1), band, _notes(cells, along)]
    variable = axis.label.rpartition(" (")[0] or axis.label
    return Plot(f"{section.slug}-{prefix or axis.name}-{column.key.split('_')[0]}-msi{msi_bands}",
                f"{column.label} against {variable}, {msi_bands} MSI bands",
                f"{column.label} against {variable}, {axis.words}, {msi_bands} MSI bands.", figure,
                " ".join(filter(None, notes)), section.caption(), alt_of(drawn_again), drawn_again)


def alt_of(curves: Curves) -> str:
    """Which method leads, and from where to where values go, at the first and the last tick."""
    column, parts = curves.column, []
    for k, (_, words) in {0: curves.ticks[0], len(curves.ticks) - 1: curves.ticks[-1]}.items():
        values = {method: own[k].value for method, own in curves.cells.items() if math.isfinite(own[k].value)}
        if values:
            low, high = min(values.values()), max(values.values())
            best = (min if column.better == "down" else max)(values, key=values.__getitem__)
            unit = curves.axis.rpartition("(")[2].rstrip(")") if "(" in curves.axis else ""
            at = words if words == "clean" else f"{words} {unit}".strip()
            parts.append(f"at {at} {best} leads {len(values)} methods from {low:.{column.decimals or 1}f} "
                         f"to {high:.{column.decimals or 1}f}")
    shown = "; ".join(parts) or "no rows yet"
    return f"{column.label} ({column.unit}) against {curves.axis}: {shown}."


def thinned(drawn: Sequence[str], chosen: Sequence[str], best: str = "on clean scenes", kinds: bool = False) -> str:
    """What the grey lines of a figure are, where there are any."""
    left = len(drawn) - len(chosen)
    baselines = ", ".join(method for method in ALWAYS if method in chosen) or "no baseline"
    first = f"the best {best}{' of each kind' if kinds else ''}"
    return f"In colour: {first} and {baselines}; in grey: {left} others." if left else ""


def _unbroken(points: Sequence[tuple[float, Cell]]) -> list[list[tuple[float, Cell]]]:
    """The stretches of a line between its holes, from left to right."""
    parts: list[list[tuple[float, Cell]]] = [[]]
    for x, cell in sorted(points, key=lambda point: point[0]):
        if math.isfinite(cell.value):
            parts[-1].append((x, cell))
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def _line(axes: Axes, points: Sequence[tuple[float, Cell]], error: str | None, label: str, look: Mapping[str, Any]) -> None:
    """A stretch of a line with its band, over seeds (``"sd"``) or over images (``"se"``), or without one."""
    values = [(x, value) for x, cell in points for value in
              (cell.means if error == "se" else [mean for _, mean in cell.by_seed] if error == "sd" else [cell.value])]
    mean_line(axes, values, error, label, look)


def mean_line(axes: Axes, values: Sequence[tuple[float, float]], error: str | None, label: str, look: Mapping[str, Any],
               **words: Any) -> None:
    """Mean of the values at each x, and the band of that error (``"sd"`` or ``"se"``) where there are several."""
    looks = {**look, "linestyle": "None"} if look["linestyle"] == "none" else dict(look)
    # one clean point has no width that a band could fill: it gets a bar
    points = len({x for x, _ in values})
    several = len(values) > points
    if not several:  # nothing to estimate, and drawn without seaborn's tables in a tenth of the time
        axes.plot(*zip(*sorted(values)), label=plain(label), **{**EDGE, **looks, **words})
        return
    band = {"err_style": "bars"} if points == 1 else {"err_kws": {"alpha": 0.12, "linewidth": 0}}
    sns.lineplot(x=[x for x, _ in values], y=[value for _, value in values], ax=axes, label=plain(label), legend=False,
                 estimator="mean" if several else None, errorbar=error if several else None, **band, **looks, **words)


def _notes(cells: Mapping[str, Sequence[Cell]], along: Sequence[str]) -> str:
    """What must be said of the points of a figure, method by method, as a table says it in footnotes."""
    found: dict[str, list[str]] = {}
    for method, own in cells.items():
        for note in dict.fromkeys(note for cell in own for note in cell.notes):
            found.setdefault(HOLES if note == NO_ROW and method in along else note, []).append(method)
    return " ".join(f"{note[0].upper()}{note[1:]}: {', '.join(methods)}." for note, methods in found.items())


def canvas(panels: int, height: float, drawn: Sequence[str], chosen: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with stacked panels and room below for the legend."""
    entries = len(chosen) + (len(drawn) > len(chosen))
    legend = math.ceil(entries / _legend_columns(chosen)) * 0.19
    figure = Figure(figsize=(WIDTH, panels * height + legend + 0.5), layout="constrained")
    return figure, list(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])


def legend(figure: Figure, axes: Axes, drawn: Sequence[str], look: Mapping[str, Mapping[str, Any]],
            chosen: Sequence[str]) -> None:
    """The legend below the axes, the same order everywhere; says so where there is nothing to draw."""
    if not drawn:
        axes.text(0.5, 0.5, "no rows yet", transform=axes.transAxes, ha="center", va="center", color="#666666")
        return
    handles = [Line2D([], [], label=plain(method), **look[method]) for method in chosen]
    left = len(drawn) - len(chosen)
    handles += [Line2D([], [], label=f"{left} other{'s' if left > 1 else ''}", **GREY)] if left else []
    figure.legend(handles=handles, loc="outside lower center", ncols=_legend_columns(chosen), handlelength=3)


def _legend_columns(methods: Sequence[str]) -> int:
    return 2 if max(map(len, methods), default=0) <= 24 else 1


def plain(text: str) -> str:
    """Words that are not to be set as mathematics."""
    return text.replace("$", r"\$")


def full_caption(plot: Plot) -> str:
    """What the files of a figure say of it."""
    return " ".join(words for words in (plot.caption, plot.notes, plot.conditions) if words)


def file_bytes(plot: Plot) -> dict[str, bytes]:
    """``{"png": ..., "pdf": ...}``, which hold their full caption and no date or version: the same rows, the same bytes."""
    made = {}
    caption = full_caption(plot)
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Software": None, "Description": caption},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None, "Subject": caption}}
    with own_style():
        for kind in KINDS:
            buffer = io.BytesIO()
            plot.figure.savefig(buffer, format=kind, metadata=metadata[kind])
            made[kind] = buffer.getvalue()
            plot.figure.set_layout_engine("none")  # what the first drawing arranged stays
    return made
