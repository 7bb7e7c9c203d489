"""Quality against what it costs: time and memory (Figure 10), and parameters, clean and under noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from benchmark.page.axes import Level, axes_of
from benchmark.page.cells import cost_cell
from benchmark.page.plots import (
    COLOURS,
    GREY,
    Plot,
    canvas,
    coloured,
    far_off,
    far_words,
    legend,
    own_style,
    plain,
    styles,
    thinned,
)
from benchmark.page.section import Section
from benchmark.page.tables import AT_THEIR_SIZE, BEYOND, machine_of_most
from benchmark.protocol import CLEAN
from methods.registry import split_label

LARGEST = 900.0  # area in square points of the circle of the largest memory
MARKER = 7.0  # side in points of what a text should leave free around a score
# Of a text, in points from what it names: beside it, and farther away with a line to it.
PLACES = tuple((x, y) for y in (0, 12, -12, 24, -24, 40, -40) for x in (7, -7, 24, -24))
ASKED_DB = (35.0, 15.0)  # of the release's complexity figure, beside clean


def figure_10(section: Section) -> list[Plot]:
    """Time of one fusion on one machine against PSNR; the circles' areas are memory."""
    return [plot for msi_bands in section.facts.msi_bands if (plot := _time_and_quality(section, msi_bands)) is not None]


def _time_and_quality(section: Section, msi_bands: int) -> Plot | None:
    facts, ((time, memory), machine) = section.facts, machine_of_most(section, msi_bands)
    points: dict[str, tuple[float, float]] = {}
    held: dict[str, float] = {}
    elsewhere: list[str] = []
    ranked: list[str] = []
    for method in facts.methods:
        timed, score = time.cell(section, msi_bands, method), section.score(CLEAN, msi_bands, method, "psnr_db")
        at = timed.value, score.value
        if math.isfinite(at[0]) and math.isfinite(at[1]):
            elsewhere += [method] if AT_THEIR_SIZE in timed.notes else []
            ranked += [method] if method in facts.kinds and score.ranked and timed.ranked else []
            points[method], held[method] = at, memory.cell(section, msi_bands, method).value
    if not points:
        return None
    far = far_off({method: psnr for method, (_, psnr) in points.items()})
    points = {method: at for method, at in points.items() if method not in far}
    drawn = list(points)
    one_size = [method for method in drawn if method not in elsewhere]
    if len(one_size) < len(drawn) / 2:
        one_size = [method for method in drawn if method in elsewhere]
    front = pareto({method: points[method] for method in drawn if method in ranked and method in one_size})
    apart, unranked = ([method for method in drawn if method not in those] for those in (one_size, ranked))
    chosen = coloured(drawn, {method: psnr for method, (_, psnr) in points.items()})
    chosen = tuple(method for method in drawn if method in chosen or method in front)
    look = {method: {**style, "linestyle": "none"} for method, style in styles(facts.methods).items()}
    look |= {method: {**GREY, "marker": ".", "linestyle": "none"} for method in drawn if method not in chosen}
    largest = max((value for value in held.values() if math.isfinite(value)), default=1.0)
    with own_style():
        figure, (axes,) = canvas(1, 3.3, drawn, chosen)
        _log_axis(axes, [seconds for seconds, _ in points.values()])
        axes.step([points[method][0] for method in front], [points[method][1] for method in front], where="post",
                  color="#555555", linewidth=1, linestyle=":", label="_front")
        for method in sorted(drawn, key=lambda method: method in chosen):
            seconds, psnr = points[method]
            if math.isfinite(held[method]):
                axes.scatter([seconds], [psnr], s=LARGEST * held[method] / largest, color=look[method]["color"], alpha=0.25,
                             linewidths=0.8, edgecolors=look[method]["color"], label=f"_memory {method}")
            axes.plot([seconds], [psnr], label=plain(method), **look[method])
        axes.margins(0.14)
        axes.set_xlabel("time of one fusion (s)")
        axes.set_ylabel("PSNR (dB)")
        axes.set_title(plain(f"{section.title}\n{msi_bands} MSI bands"), fontsize=10)
        legend(figure, axes, drawn, look, chosen)
    lacking = [method for method in facts.methods if method not in points and method not in far]
    caption = (f"Time of one fusion against PSNR of clean scenes, {msi_bands} MSI bands; "
               f"circles: peak memory without weights, {largest:,.0f} MB the largest; dotted: Pareto front of ranked methods"
               f"{', timed at the size of most' if apart else ''}.")
    notes = [thinned(drawn, chosen), far_words(far, 2), f"On the front: {', '.join(front) or 'none'}.",
             f"Timed at another size than most, so never on it: {', '.join(apart)}." if apart else "",
             f"Not ranked, so never on it: {', '.join(unranked)}." if unranked else "",
             f"Memory: {BEYOND}.",
             f"No time or no score: {', '.join(lacking)}." if lacking else "", machine,
             f"Timed at the size of the images scored: {', '.join(elsewhere)}." if elsewhere else ""]
    return Plot(f"{section.slug}-figure-10-msi{msi_bands}",
                f"Time, memory and PSNR, {msi_bands} MSI bands", caption, figure, " ".join(filter(None, notes)),
                section.caption(), f"From the fastest to the best, the Pareto front: {', '.join(front) or 'none'}.")


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The methods that none other beats in time without losing in quality, by rising time."""
    front: list[str] = []
    for method in sorted(points, key=lambda method: (points[method][0], -points[method][1])):
        if not front or points[method][1] > points[front[-1]][1]:
            front.append(method)
    return front


def figure_complexity(section: Section) -> list[Plot]:
    """Parameters against PSNR on clean scenes, at 35 dB and at 15 dB or the heaviest noise there is; a line a method."""
    axes = axes_of(section.facts.scenarios)
    axis = axes.get("noise-both") or axes.get("noise-lr-hsi")
    noisy = [level for level in axis.levels if not level.apart] if axis else []
    if axis is None or not noisy:
        return []
    levels = [Level(CLEAN, math.inf, "clean"), *(level for level in reversed(noisy) if level.at in ASKED_DB)]
    if noisy[0] not in levels:
        levels.append(noisy[0])
    return [plot for msi_bands in section.facts.msi_bands
            if (plot := _complexity(section, msi_bands, axis.words, levels)) is not None]


def _complexity(section: Section, msi_bands: int, words: str, levels: Sequence[Level]) -> Plot | None:
    facts = section.facts
    drawn: dict[str, tuple[float, list[float]]] = {}
    for method in facts.methods:
        parameters = cost_cell(section.costs.get((msi_bands, method)), "parameters_used").value
        scores = [section.score(level.scenario, msi_bands, method, "psnr_db").value for level in levels]
        if parameters > 0 and all(map(math.isfinite, scores)):
            drawn[method] = parameters, scores
    if not drawn:
        return None
    far = far_off({method: max(scores) for method, (_, scores) in drawn.items()})
    drawn = {method: held for method, held in drawn.items() if method not in far}
    families = {method: facts.cards[method].family if method in facts.cards else "other" for method in drawn}
    colours = {family: COLOURS[i % len(COLOURS)] for i, family in enumerate(sorted(set(families.values())))}
    look, fills = styles(facts.methods), [1.0, 0.45, 0.0]
    named = coloured(list(drawn), {method: scores[0] for method, (_, scores) in drawn.items()})
    bases = [split_label(method)[0] for method in drawn]
    alone = {method for method, base in zip(drawn, bases) if bases.count(base) == 1}
    if len(named) < len(drawn):  # variants of one method lie upon one another
        named = tuple(method for method in named if "@" not in method or method in alone)
    drops = {method: scores[0] - scores[-1] for method, (_, scores) in drawn.items()}
    with own_style():
        figure, (axes,) = canvas(1, 3.6, list(colours), list(colours))
        _log_axis(axes, [parameters / 1e6 for parameters, _ in drawn.values()])
        for method, (parameters, scores) in drawn.items():
            colour = colours[families[method]]
            parameters /= 1e6
            axes.plot([parameters] * len(scores), scores, color=colour, linewidth=1.2, label=plain(method))
            for k, value in enumerate(scores):
                fill = fills[min(k, 2)] if k < len(scores) - 1 else fills[-1]
                axes.plot([parameters], [value], marker=look[method]["marker"], markersize=6.5, linestyle="none", color=colour,
                          markerfacecolor=_mixed(colour, fill), label=f"_{levels[k].words} {method}")
        axes.margins(x=0.25, y=0.08)
        axes.set_xlabel("parameters that take part (M)")
        axes.set_ylabel("PSNR (dB)")
        axes.set_title(plain(f"{section.title}\n{msi_bands} MSI bands, {words}"), fontsize=10)
        handles: list[Any] = [Line2D([], [], color=colour, linewidth=2, label=family) for family, colour in colours.items()]
        handles += [Line2D([], [], color="#444444", marker="o", linestyle="none", label=level.words,
                           markerfacecolor=_mixed("#444444", fills[-1] if k == len(levels) - 1 else fills[min(k, 2)]))
                    for k, level in enumerate(levels)]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)))
        _named(figure, axes, [(_label(method, drops[method], method in alone), (parameters / 1e6, scores[0]))
                              for method, (parameters, scores) in drawn.items() if method in named])
    asked = [f"{snr:g} dB" for snr in ASKED_DB if f"{snr:g} dB" not in [level.words for level in levels]]
    shown = ", ".join(level.words for level in levels)
    caption = (f"Parameters against PSNR, {msi_bands} MSI bands, {words}: {shown}, joined; in dB the drop from clean to "
               f"{levels[-1].words}.")
    notes = [f"The study has no {' and no '.join(asked)}: {levels[-1].words} is its heaviest noise." if asked else "",
             "Colour: family of the method.", far_words(far, 2),
             f"Named: {len(named)} of {len(drawn)}, the best on clean scenes." if len(named) < len(drawn) else ""]
    alive = [method for method in drops if method not in facts.constant] or list(drops)
    least, most = min(alive, key=drops.__getitem__), max(alive, key=drops.__getitem__)
    return Plot(f"{section.slug}-figure-complexity-msi{msi_bands}", f"Parameters and PSNR, {msi_bands} MSI bands", caption,
                figure, " ".join(filter(None, notes)), section.caption(),
                f"From clean to {levels[-1].words} {least} falls least ({round(drops[least], 1) + 0:.1f} dB), {most} most "
                f"({drops[most]:.1f} dB).")


def _label(method: str, drop: float, alone: bool) -> str:
    """A method, or of several variants what is varied, and how far it falls."""
    name, at, words = method.partition("@")
    return plain(f"{name if alone or not at else f'@{words[:20]}'}\n{round(-drop, 1) + 0:+.1f} dB")


def _named(figure: Figure, axes: Axes, points: Sequence[tuple[str, tuple[float, float]]]) -> None:
    """A text beside each point, the highest first: where it covers least of the texts and markers there are."""
    figure.draw_without_rendering()  # the places of points are known once the figure is laid out
    side = MARKER * figure.dpi / 72
    taken = [Bbox.from_bounds(x - side / 2, y - side / 2, side, side)
             for line in axes.lines for x, y in axes.transData.transform(line.get_xydata())]
    for text, at in sorted(points, key=lambda each: -each[1][1]):
        tried = []
        for place in PLACES:
            label = axes.annotate(text, at, place, **_beside(place))
            box = label.get_window_extent()
            label.remove()
            covered = sum(common.width * common.height for each in taken if (common := Bbox.intersection(box, each)))
            tried.append((Bbox.union([box, axes.bbox]).bounds != axes.bbox.bounds, covered, place, box))
        *_, place, box = min(tried, key=lambda each: each[:2])
        taken.append(box)
        label = axes.annotate(text, at, place, arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5},
                              **_beside(place))
        label.set_in_layout(False)  # or the layout would move what was placed


def _beside(place: tuple[float, float]) -> dict[str, Any]:
    return {"fontsize": 7.5, "textcoords": "offset points", "va": "center", "ha": "left" if place[0] > 0 else "right"}


def _log_axis(axes: Axes, values: Sequence[float]) -> None:
    """A log axis whose labels are numbers, and not too many where the values are close or far apart."""
    spread = max(values) / min(values)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(5) if spread <= 5 else LogLocator(subs=(1, 2, 5) if spread < 100 else (1,)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _mixed(colour: str, share: float) -> str:
    """A colour on white."""
    red, green, blue = (share * part + 1 - share for part in to_rgb(colour))
    return to_hex((red, green, blue))
