"""Curves on the page: a figure's cells as SVG that follows the page's colours and answers to pointer and keyboard.

Without a script the lines, their markers and the title of each with all its values are there; ``page.js`` shows the value
of the nearest point and lets a box of the legend hide a method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from statistics import stdev

from matplotlib.ticker import MaxNLocator

from benchmark.page.cells import Cell
from benchmark.page.formats import text_of
from benchmark.page.plots import COLOURS, MARKERS, Curves, styles

WIDTH, HEIGHT = 480.0, 290.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 10.0, 12.0, 40.0  # room around the axes
DASHES = {"-": "", "--": "7 3", "-.": "7 3 1.5 3", ":": "2 3"}
SHAPES = {  # matplotlib's markers by their letter, in a square of 10 around the origin
    "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "s": "M-3.6-3.6h7.2v7.2h-7.2z",
    "^": "M0-4.6L4.4 3.4H-4.4z",
    "D": "M0-4.8L4.8 0L0 4.8L-4.8 0z",
    "v": "M0 4.6L4.4-3.4H-4.4z",
    "P": "M-1.6-4.4h3.2v2.8h2.8v3.2h-2.8v2.8h-3.2v-2.8h-2.8v-3.2h2.8z",
    "X": "M-4.2-2L-2-4.2L0-2.2L2-4.2L4.2-2L2.2 0L4.2 2L2 4.2L0 2.2L-2 4.2L-4.2 2L-2.2 0z",
    "<": "M-4.6 0L3.4-4.4V4.4z",
    ">": "M4.6 0L-3.4-4.4V4.4z",
    "*": "M0 -4.9L1.1 -1.5L4.7 -1.5L1.8 0.6L2.9 4.0L0 1.9L-2.9 4.0L-1.8 0.6L-4.7 -1.5L-1.1 -1.5z",
    "p": "M0 -4.5L4.3 -1.4L2.6 3.6L-2.6 3.6L-4.3 -1.4z",
}


def definitions() -> str:
    """The marker shapes, once a page."""
    shapes = "".join(f'<path id="marker-{MARKERS.index(letter)}" d="{path}"/>' for letter, path in SHAPES.items())
    return f'<svg class="definitions" width="0" height="0" aria-hidden="true"><defs>{shapes}</defs></svg>'


def curves_html(curves: Curves, name: str, alt: str) -> str:
    """The drawing, the place where a value is shown, and the legend with its boxes."""
    order = sorted(curves.cells, key=lambda method: method in curves.coloured)  # grey lines below the coloured ones
    look = {method: _look(method, methods=order) for method in order}
    low, high, ticks = _scale([cell.value for own in curves.cells.values() for cell in own])
    first, last = curves.ticks[0][0], curves.ticks[-1][0]

    def x(value: float) -> float:
        return LEFT + 12 + (value - first) / ((last - first) or 1.0) * (WIDTH - LEFT - RIGHT - 24)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
             f'<text x="{LEFT - 6:g}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>' for tick in ticks]
    parts += [f'<text x="{x(at):.1f}" y="{HEIGHT - BOTTOM + 17:g}" text-anchor="middle">{escape(words)}</text>'
              for at, words in curves.ticks]
    unit = f" ({curves.column.unit})" if curves.column.unit else ""
    parts.append(f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{HEIGHT - 5:g}" text-anchor="middle">'
                 f"{escape(curves.axis)}</text>")
    parts.append(f'<text class="axis" transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2:g}) rotate(-90)" '
                 f'text-anchor="middle">{escape(curves.column.label + unit)}</text>')
    apart = [at for at, words in curves.ticks if words == "clean"]
    if apart and len(curves.ticks) > 1:
        middle = (x(curves.ticks[-1][0]) + x(curves.ticks[-2][0])) / 2
        parts.append(f'<line class="break" x1="{middle:.1f}" x2="{middle:.1f}" y1="{TOP:g}" y2="{HEIGHT - BOTTOM:g}"/>')
    for method in order:
        points = [(x(at), y(cell.value) if math.isfinite(cell.value) else math.nan, words == "clean")
                  for (at, words), cell in zip(curves.ticks, curves.cells[method])]
        parts.append(_series(curves, method, look[method], points, y))
    words = ",".join(words for _, words in curves.ticks)
    return "\n".join([
        f'<div class="curves" data-ticks="{escape(words)}" data-unit="{escape(curves.column.unit)}">'
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(alt)}">', *parts, "</svg>",
        '<p class="readout scripted" aria-live="polite">Point at a line, or focus the figure and use the arrow keys.</p>',
        _legend(curves, look, name), "</div>"])


def _look(method: str, methods: Sequence[str]) -> tuple[int, int, str]:
    """Number of the colour, number of the marker and dashes."""
    style = styles(methods)[method]
    return COLOURS.index(style["color"]), MARKERS.index(style["marker"]), DASHES[style["linestyle"]]


def _scale(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Lower and upper end of the axis, and its round ticks."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    margin = 0.04 * (max(finite) - min(finite)) or 1.0
    low, high = min(finite) - margin, max(finite) + margin
    return low, high, [float(tick) for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high]


def _series(curves: Curves, method: str, look: tuple[int, int, str], points: Sequence[tuple[float, float, bool]],
            y: Callable[[float], float]) -> str:
    """One method: its line, broken at holes and before the clean end, its markers and, while it is pointed at, its spread."""
    colour, marker, dashes = look
    cells = curves.cells[method]
    values = [text_of(cell, curves.column) for cell in cells]
    path, pen = "", "M"
    for at, height, clean in points:
        if clean or math.isnan(height):
            pen = "M"
        else:
            path += f"{pen}{at:.1f} {height:.1f}"
            pen = "L"
    uses = "".join(f'<use href="#marker-{marker}" x="{at:.1f}" y="{height:.1f}"/>' for at, height, _ in points
                   if not math.isnan(height))
    bars = "".join(f"M{at:.1f} {y(cell.value - spread(cell)):.1f}V{y(cell.value + spread(cell)):.1f}"
                   for (at, height, _), cell in zip(points, cells) if not math.isnan(height) and spread(cell))
    title = f"{method}: " + ", ".join(f"{words} {value}" for (_, words), value in zip(curves.ticks, values))
    kind = "" if method in curves.coloured else " rest"
    style = f' stroke-dasharray="{dashes}"' if dashes and method in curves.coloured else ""
    return (f'<g class="series c{colour}{kind}" data-name="{escape(method)}" data-values="{escape("|".join(values))}">'
            f"<title>{escape(title)}</title>" + (f'<path class="spread" d="{bars}"/>' if bars else "")
            + (f'<path class="line" d="{path}"{style}/>' if path else "") + uses + "</g>")


def spread(cell: Cell) -> float:
    """Half the length of a bar: the deviation over seeds or, of one seed, the standard error over images."""
    if not math.isnan(cell.std):
        return cell.std
    return stdev(cell.means) / math.sqrt(len(cell.means)) if len(cell.means) > 1 else 0.0


def _legend(curves: Curves, looks: dict[str, tuple[int, int, str]], name: str) -> str:
    """Boxes that hide a method; the grey ones folded away."""
    def entry(method: str, grey: bool) -> str:
        colour, marker, dashes = looks[method]
        line = f' stroke-dasharray="{dashes}"' if dashes else ""
        return (f'<label class="c{colour}{" rest" if grey else ""}"><input type="checkbox" class="scripted" checked '
                f'data-toggle="{escape(method)}"><svg width="30" height="12" viewBox="-15 -6 30 12" aria-hidden="true">'
                f'<path class="line" d="M-15 0H15"{line}/><use href="#marker-{marker}"/></svg>{escape(method)}</label>')

    first = "".join(entry(method, False) for method in curves.coloured)
    rest = [method for method in curves.cells if method not in curves.coloured]
    others = "".join(entry(method, True) for method in rest)
    folded = (f'<details><summary>{len(rest)} other{"s" if len(rest) > 1 else ""}, in grey</summary>'
              f'<div class="legend">{others}</div></details>') if rest else ""
    return f'<div class="legend" role="group" aria-label="Methods of {escape(name)}">{first}</div>{folded}'
