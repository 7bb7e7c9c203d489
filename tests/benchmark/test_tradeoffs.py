"""Quality against cost: the data drawn, against plain loops."""

import itertools
import math

import numpy as np
import pytest
from matplotlib.text import Text

from benchmark.page import tradeoffs
from benchmark.page.tables import BEYOND
from tests.benchmark.test_plots import lines
from tests.benchmark.test_tables import cost, row, section

TIMES = {"a": (0.1, 25.0), "b": (0.2, 24.0), "c": (1.0, 30.0), "d": (1.0, 29.0), "e": (9.0, 30.0)}


def test_the_front_is_what_no_other_method_beats():
    rng = np.random.default_rng(0)
    for points in (TIMES, {str(i): (float(t), float(q)) for i, (t, q) in enumerate(rng.integers(0, 9, (40, 2)))}):
        front = tradeoffs.pareto(points)
        worth = {points[m] for m in points if not any(
            t <= points[m][0] and q >= points[m][1] and (t, q) != points[m] for t, q in points.values())}
        assert {points[m] for m in front} == worth and len(front) == len(worth)
        assert front == sorted(front, key=lambda m: points[m][0])


def test_figure_10_draws_time_psnr_and_memory():
    rows = [row(method, psnr) for method, (_, psnr) in TIMES.items()]
    costs = [cost(method, seconds_median=seconds, peak_memory_mb=100.0 * (i + 1))
             for i, (method, (seconds, _)) in enumerate(TIMES.items())]
    (plot,) = tradeoffs.figure_10(section([*rows, row("untimed", 50.0)], costs))
    (axes,) = plot.figure.axes
    drawn = lines(axes)
    assert {name: tuple(drawn[name].get_xydata()[0]) for name in TIMES} == TIMES
    assert drawn["_front"].get_xydata().tolist() == [[0.1, 25.0], [1.0, 30.0]]
    areas = {circle.get_label().removeprefix("_memory "): circle.get_sizes()[0] for circle in axes.collections}
    assert {name: area / areas["a"] for name, area in areas.items()} == pytest.approx(dict(zip(TIMES, (1, 2, 3, 4, 5))))
    assert axes.get_xscale() == "log" and (axes.get_xlabel(), axes.get_ylabel()) == ("time of one fusion (s)", "PSNR (dB)")
    assert "No time or no score: untimed." in plot.notes and "500 MB the largest" in plot.caption
    assert tradeoffs.figure_10(section(rows)) == []
    assert "peak memory without weights" in plot.caption and f"Memory: {BEYOND}." in plot.notes


def test_an_oracle_and_what_is_not_ranked_are_never_on_the_front():
    rows = [row(method, psnr) for method, (_, psnr) in TIMES.items()] + [row("oracle", 60.0)]
    rows += [row("partly", 70.0), row("partly", 70.0, image="b", status="failed")]
    rows += [{**one, "image": "b"} for one in rows if one["method"] != "partly"]
    costs = [cost(method, seconds_median=seconds) for method, (seconds, _) in TIMES.items()]
    costs += [cost("oracle", seconds_median=2.0), cost("partly", seconds_median=3.0)]
    kinds = dict.fromkeys((*TIMES, "partly"), "blind")
    (plot,) = tradeoffs.figure_10(section(rows, costs, kinds=kinds))
    drawn = lines(plot.figure.axes[0])
    assert drawn["_front"].get_xydata().tolist() == [[0.1, 25.0], [1.0, 30.0]] and {"oracle", "partly"} <= set(drawn)
    assert "On the front: a, c." in plot.notes and "Not ranked, so never on it: oracle, partly." in plot.notes
    assert plot.alt.endswith("front: a, c.") and "Pareto front of ranked methods." in plot.caption
    (none,) = tradeoffs.figure_10(section(rows, costs, kinds={"absent": "blind"}))
    assert "On the front: none." in none.notes


def test_times_of_another_size_than_most_are_not_on_the_front():
    """Of those optimised for each image, which are timed where they are scored."""
    rows = [row(method, psnr) | {"seconds": 0.001} for method, psnr in (("a", 25.0), ("b", 26.0), ("usdn", 50.0))]
    costs = [cost("a"), cost("b", seconds_median=0.7), cost("usdn", seconds_median=math.nan)]
    (plot,) = tradeoffs.figure_10(section(rows, costs))
    assert "On the front: a, b." in plot.notes and "Timed at another size than most, so never on it: usdn." in plot.notes
    assert plot.caption.endswith("front of ranked methods, timed at the size of most.") and "usdn" in lines(plot.figure.axes[0])
    (turned,) = tradeoffs.figure_10(section(rows, [costs[0], *(cost(each, seconds_median=math.nan) for each in ("b", "usdn"))]))
    assert "On the front: usdn." in turned.notes and "so never on it: a." in turned.notes


@pytest.mark.parametrize(("slowest", "least"), [(0.3, 3), (9.0, 4), (99.0, 3), (5000.0, 4)])
def test_numbers_along_the_time_do_not_touch(slowest, least):
    times = {"a": 0.1, "b": slowest}
    (plot,) = tradeoffs.figure_10(section([row(method, 25.0) for method in times],
                                          [cost(method, seconds_median=seconds) for method, seconds in times.items()]))
    (axes,) = plot.figure.axes
    plot.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    shown = sorted((box.x0, box.x1) for box in boxes if axes.bbox.x0 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1)
    assert len(shown) >= least and all(end < begin for (_, end), (begin, _) in itertools.pairwise(shown))


@pytest.mark.parametrize(("levels", "shown", "heaviest"), [((35.0, 25.0, 15.0), ("clean", "35 dB", "15 dB"), "15 dB"),
                                                           ((45.0, 25.0), ("clean", "25 dB"), "25 dB")])
def test_figure_complexity_joins_the_levels_and_says_which_is_heaviest(levels, shown, heaviest):
    psnr = {math.inf: 40.0, 45.0: 39.0, 35.0: 36.0, 25.0: 30.0, 15.0: 20.0}
    rows = [row("net", 40.0), *(row("net", psnr[snr], target="both", snr=snr) for snr in levels), row("free", 10.0)]
    (plot,) = tradeoffs.figure_complexity(section(rows, [cost("net"), cost("free", parameters_used=0)]))
    (axes,) = plot.figure.axes
    values = [psnr[math.inf if words == "clean" else float(words.split()[0])] for words in shown]
    assert lines(axes)["net"].get_xydata().tolist() == [[7.449946, value] for value in values]
    (label,) = axes.texts
    assert label.get_text() == f"net\n{values[-1] - values[0]:+.1f} dB" and "free" not in lines(axes)
    assert f"drop from clean to {heaviest}" in plot.caption
    assert ("25 dB is its heaviest noise" in plot.notes) == (heaviest == "25 dB")


def test_names_of_networks_of_one_size_do_not_lie_upon_each_other():
    names = [f"network-{letter}" for letter in "abcde"]
    rows = [row(name, 40.0 - i / 10 - drop, target=target, snr=snr) for i, name in enumerate(names)
            for drop, target, snr in ((0, "none", math.inf), (9, "both", 15.0))]
    (plot,) = tradeoffs.figure_complexity(section(rows, [cost(name) for name in names]))
    (axes,) = plot.figure.axes
    plot.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(label) for label in axes.texts]
    assert len(boxes) == 5 and not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1) for box in boxes)
