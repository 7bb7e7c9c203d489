"""The page of speed, of no study: how costs grow (``results/growth.csv``), and timings against a yardstick (``speed.csv``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import linear_regression, median

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

from benchmark.page.cells import Cell
from benchmark.page.formats import number
from benchmark.page.plots import WIDTH, Plot, own_style, plain, styles
from benchmark.page.section import Rows, Section
from benchmark.page.tables import BEYOND, SIDE_BY_SIDE, Column, Listing, Row, Table

AXES = {"side": "pixels", "bands": "bands", "batch": "images"}  # of the rows, and what grows along them
COSTS = {"seconds": ("Time", "time", "s"), "peak_memory_mb": ("Peak memory", "peak memory", "MB")}
FITTED = 4  # points of a slope, the last ones: at small sizes what every call costs hides how the work grows
WHAT = {"inference": "Inference", "training": "Training", "metrics": "Metrics", "images": "Images", "commands": "Commands"}
RATIO, LOSS = Column("ratio", "Ratio", decimals=2), Column("loss_db", "Loss", "dB", decimals=3)
SHOWN = ("Subject", "Variant", "Size", "Ratio [low, high]", "Goal", "Reached", "Largest difference", "Loss (dB)")


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of log cost over log amount, of the last :data:`FITTED` points; NaN of fewer than two.

    Args:
        points: (amount, cost) in rising order; costs that are not positive are no points.
    """
    seen = [(math.log(x), math.log(y)) for x, y in points if y > 0][-FITTED:]
    return linear_regression(*zip(*seen)).slope if len(seen) > 1 else math.nan


def along(rows: pd.DataFrame, method: str, axis: str, cost: str) -> list[tuple[float, float]]:
    """(amount, cost) of a method along an axis in rising order: the amount is pixels, bands or images."""
    mine = rows[(rows["method"] == method) & (rows["axis"] == axis) & (rows["status"] == "ok")].sort_values("value")
    return [(float(value**2 if axis == "side" else value), float(each)) for value, each in zip(mine["value"], mine[cost])]


def lacking(rows: pd.DataFrame, axis: str, method: str | None = None) -> list[str]:
    """The points of an axis that were not measured, and why."""
    mine = rows[(rows["axis"] == axis) & (rows["status"] != "ok")]
    mine = mine if method is None else mine[mine["method"] == method]
    return [f"{'' if method else f'{row.method}, '}{axis} {row.value} {row.status}" for row in mine.itertuples()]


def machines(rows: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """(ending of names, device, its rows): what one device measured is set beside nothing of another."""
    found = sorted(set(rows["device"])) if len(rows) else []
    return [(f"-{chr(ord('a') + i)}" if len(found) > 1 else "", device, rows[rows["device"] == device])
            for i, device in enumerate(found)]


def base(rows: pd.DataFrame) -> str:
    """The figures that do not grow, and where all was measured."""
    point = {key: rows[rows["axis"] != key][key] for key in AXES}
    at = {key: int((held if len(held) else rows[key]).iloc[0]) for key, held in point.items()}
    held = {key: ", ".join(sorted({str(value)[:12] for value in rows[key]})) for key in ("threads", "torch", "revision")}
    return (f"Base: {at['side']}x{at['side']} HR pixels, {at['bands']} bands, batch {at['batch']}, random images; networks "
            f"untrained. Device {rows['device'].iloc[0]}, threads {held['threads']}, torch {held['torch']}, "
            f"code {held['revision']}. Median of runs; fusions of more than two seconds were timed once.")


def conditions_of(rows: Rows) -> list[tuple[str, str]]:
    """What the page says once, ``(heading, words)``: of each machine."""
    return [*((f"Growth on {device}", base(held)) for _, device, held in machines(rows.growth)),
            *((f"Timings on {device}", against(held)) for _, device, held in machines(rows.speed))]


def against(rows: pd.DataFrame) -> str:
    """Where timings were taken, and what a ratio is."""
    held = {key: ", ".join(sorted({str(value) for value in rows[key]})) for key in ("threads", "torch")}
    return (f"Device {rows['device'].iloc[0]}, threads {held['threads']}, torch {held['torch']}. Every ratio is against a "
            "yardstick timed in the same run, both alternating; a ratio of 2 is half the time.")


def growth(section: Section) -> list[Table]:
    """Slopes of time and memory along each axis, and what the base costs."""
    made = []
    for ending, device, rows in machines(section.rows.growth):
        columns = [Column(cost, label, unit, group="at the base", notes=(BEYOND,) if cost == "peak_memory_mb" else ())
                   for cost, (label, _, unit) in COSTS.items()]
        columns += [Column(f"{cost}_{axis}", label, "", "", 2, group=f"slope over {grows}")
                    for axis, grows in AXES.items() for cost, (label, _, _) in COSTS.items()]
        lines = []
        for method in dict.fromkeys(rows["method"]):
            at = rows[(rows["method"] == method) & (rows["axis"] == "batch") & (rows["value"] == 1) & (rows["status"] == "ok")]
            cells = [Cell(float(at[cost].iloc[0])) if len(at) else Cell(notes=("not measured",)) for cost in COSTS]
            for axis in AXES:
                left = lacking(rows, axis, method)
                notes = ("; ".join(left),) if left else ()
                for cost in COSTS:
                    points = along(rows, method, axis, cost)
                    few = ("two points alone",) if sum(y > 0 for _, y in points) == 2 else ()
                    cells.append(Cell(slope(points), notes=(*few, *(notes if cost == "seconds" else ()))))
            lines.append(Row(SIDE_BY_SIDE, method, tuple(cells)))
        where = f" on {device}" if ending else ""
        made.append(Table(f"table-growth{ending}", f"How cost grows{where}",
                          f"Slope of log cost over log amount, the last {FITTED} points: 1 is in proportion, 2 the square.",
                          tuple(columns), tuple(lines), conditions=base(rows)))
    return made


def growth_curves(section: Section) -> list[Plot]:
    """Time and memory of each method against pixels, bands and images, both axes logarithmic; slopes in the legend."""
    return [_growth(rows, axis, ending, device) for ending, device, rows in machines(section.rows.growth) for axis in AXES
            if ((rows["axis"] == axis) & (rows["status"] == "ok")).any()]


def _growth(rows: pd.DataFrame, axis: str, ending: str, device: str) -> Plot:
    methods, grows = list(dict.fromkeys(rows["method"])), AXES[axis]
    alone = {method: method.partition("@")[0] for method in methods}  # a variant looks as its method does on other pages,
    alone = {method: name if list(alone.values()).count(name) == 1 else method for method, name in alone.items()}
    drawn_as = styles(list(alone.values()))  # unless both are drawn here
    look = {method: drawn_as[name] for method, name in alone.items()}
    points = {(method, cost): along(rows, method, axis, cost) for method in methods for cost in COSTS}
    drawn = [method for method in methods if points[method, "seconds"]]
    slopes = {method: [slope(points[method, cost]) for cost in COSTS] for method in drawn}
    ticks = sorted({int(value) for value in rows[rows["axis"] == axis]["value"]})
    with own_style():
        figure = Figure(figsize=(WIDTH, 5.6 + 0.19 * math.ceil((len(drawn) + 2) / 2)), layout="constrained")
        panels: list[Axes] = list(figure.subplots(2, 1, sharex=True))
        for axes, (cost, (_, words, unit)) in zip(panels, COSTS.items()):
            axes.set_xscale("log")
            axes.set_yscale("log")
            seen = {method: [(x, y) for x, y in points[method, cost] if y > 0] for method in drawn}
            for method, own in seen.items():
                axes.plot([x for x, _ in own], [y for _, y in own], label=plain(method), **look[method])
            values = [y for own in seen.values() for _, y in own]
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) < 100 * min(values) else (1,)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_ylabel(f"{words} ({unit})")
            if axis == "side":
                _guides(axes, [point for own in seen.values() for point in own])
        panels[1].set_xlabel("HR pixels, as a square" if axis == "side" else grows)
        panels[1].xaxis.set_major_locator(FixedLocator([value**2 if axis == "side" else value for value in ticks]))
        panels[1].xaxis.set_minor_locator(NullLocator())
        panels[1].xaxis.set_minor_formatter(NullFormatter())
        panels[1].set_xticklabels([f"{value}²" if axis == "side" else str(value) for value in ticks])
        panels[0].set_title(plain(f"cost against {grows}\nslopes of time and of memory behind the names"), fontsize=10)
        handles = [Line2D([], [], label=plain("  ".join([method, *map(_digits, slopes[method])])), **look[method])
                   for method in drawn]
        if axis == "side":
            handles.append(Line2D([], [], color="#888888", linestyle=":", linewidth=1, label="slopes 1 and 2"))
        figure.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=2.4, fontsize=8)
    left = lacking(rows, axis)
    steep = max(drawn, key=lambda method: -math.inf if math.isnan(slopes[method][0]) else slopes[method][0])
    where = f" on {device}" if ending else ""
    return Plot(f"figure-growth-{axis}{ending}", f"Cost against {grows}{where}",
                f"Time and peak memory of one fusion against {grows}; behind names the slopes of both (last {FITTED} points).",
                figure, f"Memory: {BEYOND}." + (f" Not measured: {'; '.join(left)}." if left else ""), base(rows),
                f"Time grows fastest in {steep}, with slope {_digits(slopes[steep][0])} over {grows}.")


def _digits(value: float) -> str:
    return "—" if math.isnan(value) else f"{value:.2f}"


def _guides(axes: Axes, seen: Sequence[tuple[float, float]]) -> None:
    """Dotted lines of slope 1 and 2 through the middle of the points that are drawn; the axes stay as they are."""
    low, high, height = min(x for x, _ in seen), max(x for x, _ in seen), median(y for _, y in seen)
    middle, limits = math.sqrt(low * high), (axes.get_xlim(), axes.get_ylim())
    for power in (1, 2):
        axes.plot([low, high], [height * (x / middle) ** power for x in (low, high)], color="#888888", linestyle=":",
                  linewidth=1, label=f"_slope {power}")
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def timings(section: Section) -> list[Listing]:
    """What was made faster, by how much, whether that was the goal, and what it changes in the output."""
    made = []
    for ending, device, rows in machines(section.rows.speed):
        for what in dict.fromkeys(rows["what"]):
            mine = rows[rows["what"] == what]
            lines = [_timing(row) for row in mine.to_dict("records")]
            noted = any(line[-1] for line in lines)
            title, where = WHAT.get(what, what.capitalize()), f" on {device}" if ending else ""
            compiled = [row for row in mine.to_dict("records") if row["compile_seconds"] > 0]
            words = [against(mine),
                     *(f"Compiled once, not in the ratio: {row['subject']} ({row['variant']}, {row['size']}) "
                       f"{row['compile_seconds']:.1f} s." for row in compiled)]
            made.append(Listing(f"speed-{what}{ending}", f"{title} against a yardstick{where}",
                                "Ratio: seconds of the yardstick over seconds; difference: of the outputs, in unit range.",
                                (*SHOWN, "Note") if noted else SHOWN,
                                tuple(line if noted else line[:-1] for line in lines), conditions=" ".join(words)))
    return made


def _timing(row: dict[str, object]) -> tuple[str, ...]:
    """One line of :func:`timings`."""
    def value(key: str) -> float:
        return float(str(row[key]))

    def text(key: str) -> str:
        return "" if pd.isna(row[key]) else str(row[key])

    goal, apart = value("goal"), value("difference")
    ratio, low, high = (number(value(key), RATIO) for key in ("ratio", "ratio_low", "ratio_high"))
    reached = "" if math.isnan(goal) else "yes" if value("ratio") >= goal else "no"
    return (text("subject"), text("variant"), text("size"), f"{ratio} [{low}, {high}]",
            "" if math.isnan(goal) else f"{goal:g}", reached, "—" if math.isnan(apart) else f"{apart:.1e}",
            number(value("loss_db"), LOSS), text("note"))


WAYS = {"plain": ("PyTorch's own layers, float32", "#888888", "--"), "exact": ("the faster layers, float32", "#0072b2", "-"),
        "mixed": ("the faster layers, bfloat16 products", "#d55e00", "-")}


def ways_of_training(section: Section) -> list[Plot]:
    """Validation PSNR of one pair over its steps, by way of training: mean of the seeds, and their range."""
    rows = section.rows.ways
    if not len(rows):
        return []
    methods, seeds = list(dict.fromkeys(rows["method"])), sorted(set(rows["seed"]))
    last = rows[rows["step"] == rows["step"].max()].pivot_table(index=["method", "seed"], columns="way", values="value")
    with own_style():
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        panels: list[Axes] = list(figure.subplots(1, len(methods), sharey=True, squeeze=False)[0])
        for axes, method in zip(panels, methods):
            for way, (label, colour, line) in WAYS.items():
                mine = rows[(rows["method"] == method) & (rows["way"] == way)].groupby("step")["value"]
                if not len(mine):
                    continue
                low, middle, high = mine.min(), mine.mean(), mine.max()
                axes.plot(middle.index, middle, color=colour, linestyle=line, marker="o", markersize=3, label=label)
                axes.fill_between(middle.index, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.set_title(plain(method), fontsize=10)
            axes.set_xlabel("steps")
        panels[0].set_ylabel("PSNR of the validation scene (dB)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=1, fontsize=8)
    apart = [f"{method} {way} {(last.loc[method, way] - last.loc[method, 'plain']).mean():+.2f} dB "
             f"[{(last.loc[method, way] - last.loc[method, 'plain']).min():+.2f}, "
             f"{(last.loc[method, way] - last.loc[method, 'plain']).max():+.2f}]"
             for method in methods for way in ("exact", "mixed") if way in last]
    return [Plot("figure-ways", "Ways of training one pair", f"Validation PSNR, mean and range of {len(seeds)} seeds.", figure,
                 f"At the last step, from the plain way of the same seed: {'; '.join(apart)}.",
                 "S3RNet's pair at full width with one residual group a branch; 300 steps of two 32-pixel crops of the aviris "
                 "study's training scenes; with one seed all ways see the same crops.",
                 f"The ways end {'; '.join(apart)} from the plain one.")]
