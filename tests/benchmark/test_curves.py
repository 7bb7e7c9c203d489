"""Curves on the page: the SVG holds the cells of the figure, where they belong."""

import re
from xml.etree import ElementTree

import pytest

from benchmark.page import plots
from benchmark.page.curves import HEIGHT, SHAPES, WIDTH, curves_html, spread
from benchmark.page.plots import MARKERS
from tests.benchmark.test_plots import noise_rows, section


def drawn(rows, **words):
    curves = plots.curves(section(rows, **words))[0].curves
    text = curves_html(curves, "name", "alt")
    closed = re.sub(r"<input([^>]*) checked([^>]*)>", r'<input\1 checked=""\2/>', text)  # HTML's short forms as XML's
    return curves, ElementTree.fromstring(closed)


def series(root):
    return {group.get("data-name"): group for group in root.iter("g")}


def test_values_and_places_follow_the_cells():
    _, root = drawn([*noise_rows(), *noise_rows("bicubic", levels=(25.0, 45.0))])
    assert root.get("data-ticks") == "25,35,45,clean"
    gsa, bicubic = series(root)["gsa"], series(root)["bicubic"]
    assert gsa.get("data-values") == "12.50|17.50|22.50|30.00"
    assert bicubic.get("data-values") == "12.50|—|22.50|30.00"
    assert gsa.find("title").text == "gsa: 25 12.50, 35 17.50, 45 22.50, clean 30.00"
    points = [(float(use.get("x")), float(use.get("y"))) for use in gsa.iter("use")]
    assert len(points) == 4 and len(list(bicubic.iter("use"))) == 3
    (x0, y0), (x1, y1), (x2, y2), (_, y3) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)  # 10 dB each
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2) and y2 - y3 == pytest.approx(1.5 * (y1 - y2), abs=0.2)
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in points)


def test_a_line_breaks_at_a_hole_and_before_the_clean_end():
    _, root = drawn([*noise_rows(), *noise_rows("bicubic", levels=(25.0, 45.0))])
    paths = {name: group.find("path[@class='line']").get("d") for name, group in series(root).items()}
    assert (paths["gsa"].count("M"), paths["gsa"].count("L")) == (1, 2)
    assert (paths["bicubic"].count("M"), paths["bicubic"].count("L")) == (2, 0)


def test_every_marker_of_the_figures_has_its_shape_and_every_method_its_box():
    assert set(SHAPES) == set(MARKERS)
    rows = [one for i in range(13) for one in noise_rows(f"m{i:02d}")]
    curves, root = drawn(rows)
    boxes = [box.get("data-toggle") for box in root.iter("input")]
    assert sorted(boxes) == sorted(curves.cells) and len(curves.coloured) == 11
    grey = [name for name, group in series(root).items() if "rest" in group.get("class")]
    assert len(grey) == 2 and not set(grey) & set(curves.coloured)
    assert root.find("details/summary").text == "2 others, in grey"


def test_the_bar_of_a_point_is_over_seeds_or_else_over_images():
    two = [*noise_rows(), *({**one, "image": "b", "psnr_db": one["psnr_db"] + 2.0} for one in noise_rows())]
    curves, _ = drawn(two)
    assert spread(curves.cells["gsa"][0]) == pytest.approx(1.0)  # sqrt(2) / sqrt(2 images)
    seeds = [*noise_rows(), *({**one, "seed": 1, "psnr_db": one["psnr_db"] + 2.0} for one in noise_rows())]
    assert spread(drawn(seeds)[0].cells["gsa"][0]) == pytest.approx(2 ** 0.5)
    assert spread(drawn(noise_rows())[0].cells["gsa"][0]) == 0.0
