"""The page of speed: slopes against another fit, what is drawn, what is told of points left out, and goals."""

import math

import numpy as np
import pandas as pd
import pytest

from benchmark.page import formats, speed
from benchmark.page.pages import render_artefact, render_page
from benchmark.page.render import render
from benchmark.page.section import Rows, Section
from benchmark.page.tables import BEYOND
from benchmark.plan import plan
from benchmark.rows import GROWTH, SPEED, write
from benchmark.studies import STUDIES
from tests.benchmark.test_plots import lines
from tests.benchmark.test_tables import cells, facts, row

SIDES = (32, 64, 128, 256, 512)
AXES = {"side": SIDES, "bands": (31, 172), "batch": (1, 2, 4)}


def point(method, axis, value, seconds, memory, status="ok", device="cpu (x, 1 threads)"):
    at = {"side": 128, "bands": 172, "batch": 1} | {axis: value}
    row = {"method": method, "axis": axis, "value": value, **at, "seconds": seconds, "seconds_spread": 0.0, "runs": 3,
           "peak_memory_mb": memory, "device": device, "threads": 1, "torch": "2.13.0", "revision": "0123456789abcdef",
           "status": status}
    assert list(row) == list(GROWTH)
    return row


def growing(method, power=1.0, **words):
    """Rows along all axes: time with the power of what grows, memory with its root."""
    rows = []
    for axis, values in AXES.items():
        base = {"side": 128, "bands": 172, "batch": 1}[axis]
        for value in values:
            times = (value / base) ** (2 if axis == "side" else 1)
            rows.append(point(method, axis, value, 0.25 * times**power, 64.0 * times**0.5, **words))
    return rows


def timing(subject="net", ratio=2.5, goal=2.0, **words):
    row = {"what": "inference", "subject": subject, "variant": "fast", "size": "128x128", "yardstick_seconds": 1.0,
           "seconds": 1 / ratio, "ratio": ratio, "ratio_low": ratio - 0.1, "ratio_high": ratio + 0.1, "rounds": 9, "goal": goal,
           "difference": 1e-3, "loss_db": 0.01, "compile_seconds": math.nan, "note": "", "device": "cpu (x, 1 threads)",
           "threads": 1, "torch": "2.13.0"} | words
    assert list(row) == list(SPEED)
    return row


def section(growth=(), timings=()):
    return Section(facts(), Rows(growth=pd.DataFrame(growth), speed=pd.DataFrame(timings)))


def test_a_slope_is_that_of_another_least_squares_fit_of_the_last_points():
    rng = np.random.default_rng(0)
    points = [(x, 5 * x**1.3 * math.exp(rng.normal() / 5)) for x in (1.0, 2.0, 5.0, 9.0, 30.0, 70.0)]
    x, y = np.log(np.array(points[-4:])).T
    assert speed.slope(points) == pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-12)
    assert speed.slope([*points[:2], (3.0, 0.0)]) == pytest.approx(speed.slope(points[:2]))  # nothing that a log has
    assert math.isnan(speed.slope(points[:1]))


def test_the_table_holds_slopes_over_pixels_bands_and_images_and_says_what_was_left_out():
    rows = growing("line") + growing("square", 2.0)
    left = {"seconds": math.nan, "peak_memory_mb": math.nan, "status": "left out: predicted 99 s"}
    rows = [row | left if (row["method"], row["axis"], row["value"]) == ("square", "side", 512) else row for row in rows]
    (table,) = speed.growth(section(rows))
    for axis in AXES:
        assert cells(table, f"seconds_{axis}")[0, "line"].value == pytest.approx(1.0)
        assert cells(table, f"seconds_{axis}")[0, "square"].value == pytest.approx(2.0)
        assert cells(table, f"peak_memory_mb_{axis}")[0, "square"].value == pytest.approx(0.5)
    assert cells(table, "seconds")[0, "line"].value == 0.25 and cells(table, "peak_memory_mb")[0, "line"].value == 64.0
    assert cells(table, "seconds_side")[0, "square"].notes == ("side 512 left out: predicted 99 s",)
    assert cells(table, "seconds_side")[0, "line"].notes == ()
    assert cells(table, "seconds_bands")[0, "line"].notes == ("two points alone",)
    text = formats.to_markdown(table)
    assert "128x128 HR pixels, 172 bands, batch 1" in text and "torch 2.13.0" in text and "cpu (x, 1 threads)" in text


def test_the_figures_draw_the_points_and_their_legend_holds_the_slopes():
    rows = [row | {"status": "left out: predicted 99 s", "seconds": math.nan}
            if (row["axis"], row["value"]) == ("side", 512) else row for row in growing("gsa", 2.0)]
    plots = {plot.name: plot for plot in speed.growth_curves(section(rows))}
    assert list(plots) == [f"figure-growth-{axis}" for axis in AXES]
    time, memory = plots["figure-growth-side"].figure.axes
    assert lines(time)["gsa"].get_xydata().tolist() == [[side**2, 0.25 * (side / 128) ** 4] for side in SIDES[:-1]]
    assert lines(memory)["gsa"].get_xydata().tolist() == [[side**2, 64.0 * side / 128] for side in SIDES[:-1]]
    assert time.get_xscale() == time.get_yscale() == memory.get_yscale() == "log"
    assert [tick.get_text() for tick in memory.get_xticklabels()] == [f"{side}²" for side in SIDES]
    (legend,) = plots["figure-growth-side"].figure.legends
    assert legend.get_texts()[0].get_text() == "gsa  2.00  0.50"
    assert plots["figure-growth-side"].notes == f"Memory: {BEYOND}. Not measured: gsa, side 512 left out: predicted 99 s."
    assert plots["figure-growth-batch"].notes == f"Memory: {BEYOND}."
    (x0, y0), (x1, y1) = lines(time)["_slope 2"].get_xydata()
    assert math.log(y1 / y0) / math.log(x1 / x0) == pytest.approx(2.0)
    assert "_slope 2" not in lines(plots["figure-growth-bands"].figure.axes[0])


def test_what_two_devices_measured_stands_apart():
    rows = growing("gsa") + growing("gsa", 2.0, device="gpu")
    tables = speed.growth(section(rows))
    assert [table.name for table in tables] == ["table-growth-a", "table-growth-b"]
    assert [cells(table, "seconds_side")[0, "gsa"].value for table in tables] == pytest.approx([1.0, 2.0])
    assert len(speed.growth_curves(section(rows))) == 6


def test_timings_tell_ratio_goal_and_loss_by_what_was_timed():
    rows = [timing(), timing("slow", 1.5, loss_db=math.nan, difference=math.nan, compile_seconds=12.5),
            timing("free", 9.0, math.nan, note="half precision"), timing("list", what="commands", size="", variant="")]
    networks, commands = speed.timings(section(timings=rows))
    assert (networks.name, commands.name) == ("speed-inference", "speed-commands")
    shown = [dict(zip(networks.columns, row)) for row in networks.rows]
    assert [row["Reached"] for row in shown] == ["yes", "no", ""] and [row["Goal"] for row in shown] == ["2", "2", ""]
    assert shown[0]["Ratio [low, high]"] == "2.50 [2.40, 2.60]" and shown[2]["Note"] == "half precision"
    assert shown[0]["Largest difference"] == "1.0e-03" and shown[0]["Loss (dB)"] == "0.010"
    assert shown[1]["Largest difference"] == shown[1]["Loss (dB)"] == "—"
    assert "slow (fast, 128x128) 12.5 s" in networks.conditions and "alternating" in networks.conditions
    assert "threads 1" in networks.conditions and "torch 2.13.0" in networks.conditions
    assert "Note" not in commands.columns and len(commands.rows[0]) == len(commands.columns)
    assert speed.timings(section(timings=[timing(ratio=2.0)]))[0].rows[0][5] == "yes"  # just reached


@pytest.fixture
def results(tmp_path):
    write(tmp_path / "res/growth.csv", growing("gsa"))
    write(tmp_path / "res/speed.csv", [timing(), timing("list", 3.0, math.nan, what="commands", loss_db=math.nan)])
    return tmp_path / "res"


def test_the_page_holds_these_alone_and_no_study_holds_them(results, tmp_path):
    page = render_page("speed", results, tmp_path / "rep").read_text(encoding="utf-8")
    for anchor in ("figure-growth-side", "figure-growth-bands", "figure-growth-batch", "table-growth", "speed-inference",
                   "speed-commands", "conditions"):
        assert page.count(f'id="{anchor}"') == 1
    assert "of 1 methods grow" not in page and "time and memory of 1 method grow" in page and "2 timings" in page
    assert 'id="leaderboard"' not in page and "alternating" in page
    assert 'href="speed/index.html"' in (tmp_path / "rep/index.html").read_text(encoding="utf-8")
    scores = [row("gsa", 20.0)]
    held = Rows(pd.DataFrame(scores), growth=pd.DataFrame(growing("gsa")), speed=pd.DataFrame([timing()]))
    study = render(tmp_path / "tiny", facts(scores), held).read_text(encoding="utf-8")
    assert "figure-growth" not in study and "yardstick" not in study


@pytest.mark.pdf
def test_one_artefact_of_it_goes_into_its_folder(results, tmp_path):
    chosen = STUDIES["quick"]
    files = render_artefact(chosen, plan(chosen, "cpu"), results, tmp_path / "rep", "figure-growth")
    assert {path.relative_to(tmp_path / "rep").as_posix() for path in files} == {
        f"speed/figures/figure-growth-{axis}.{kind}" for axis in AXES for kind in ("png", "pdf")}


def test_without_rows_the_page_says_so(tmp_path):
    page = render_page("speed", tmp_path, tmp_path / "rep").read_text(encoding="utf-8")
    assert "Nothing measured yet." in page and "<figure" not in page
