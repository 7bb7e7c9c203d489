"""The leaderboard, the cards of its methods and the index over studies."""

import math
import re
from dataclasses import replace

import pandas as pd

from benchmark.page import formats
from benchmark.page.cards import cards_html
from benchmark.page.index import entries, framed, write_index
from benchmark.page.leaderboard import board_html, leaderboard
from benchmark.page.section import Rows, sections
from methods import card
from tests.benchmark.test_tables import cells, cost, counts, facts, row

OTHER = "test-other-flight"
ROWS = [row("gsa", 30.0), row("gsa", 20.0, split=OTHER), row("hysure", 33.0), row("hysure", 34.0, split=OTHER),
        row("bicubic", 22.0, split=OTHER), row("s3rnet-student", 31.0), row("gsa", 35.0, msi_bands=6)]
NAMES = ("bicubic", "gsa", "hysure", "s3rnet-student")


def made(rows=ROWS, costs=(), fidelity=(), **words):
    held = facts(rows, methods=NAMES, cards={name: card(name) for name in NAMES},
                 told={"bicubic": "blind", "gsa": "blind", "hysure": "known"},
                 kinds={"bicubic": "blind", "gsa": "blind", "hysure": "known"}, **words)
    return sections(held, Rows(pd.DataFrame(rows), pd.DataFrame(costs), fidelity=pd.DataFrame(fidelity)))


def test_all_methods_by_psnr_of_the_first_split_holes_last_splits_side_by_side():
    table = leaderboard(*made(costs=[cost("gsa")]))
    assert [(line.msi_bands, line.method) for line in table.rows] == [
        (4, "hysure"), (4, "s3rnet-student"), (4, "gsa"), (4, "bicubic"),
        (6, "gsa"), (6, "bicubic"), (6, "hysure"), (6, "s3rnet-student")]
    assert [column.label for column in table.columns] == [
        *(f"{split} {metric}" for split in ("test", OTHER) for metric in ("PSNR", "SAM", "ERGAS")), "Params", "Time"]
    assert cells(table, f"made-{OTHER}-psnr_db")[4, "gsa"].value == 20.0  # of its own split alone
    assert cells(table, "made-test-psnr_db")[4, "gsa"].value == 30.0
    assert math.isnan(cells(table, "made-test-psnr_db")[4, "bicubic"].value)
    assert cells(table, "parameters_used")[4, "gsa"].value == 7449946
    assert cells(table, "seconds_median")[4, "gsa"].value == 0.5
    place = {(table.rows[i].method, rank) for (i, j), rank in formats.ranks(table).items() if j == 3}
    assert place == {("bicubic", 1), ("gsa", 2)}  # blind alone: nothing else is of the kind of another


def test_a_row_of_the_board_says_what_the_method_is_and_leads_to_its_card():
    whole, splits = made()
    page = board_html(leaderboard(whole, splits), whole, splits)
    (line,) = re.findall(r'<tr data-name="hysure".*', page[:page.index("t1")])
    assert 'data-family="classical" data-told="known" data-fidelity="reference"' in line
    assert 'href="#method-hysure"' in line
    assert 'id="bands-4" checked' in page and 'id="bands-6">' in page
    for value in ("classical", "supervised", "known", "blind", "release", "reference"):
        assert f"<option>{value}</option>" in page
    told = made(**{"msi_bands": (4,)}, rows=[one for one in ROWS if one["msi_bands"] == 4])
    assert "switch" not in board_html(leaderboard(*told), *told).replace("switched", "")


def test_a_card_has_paper_source_fidelity_with_its_difference_and_all_metrics():
    whole, splits = made(fidelity=[counts("s3rnet-student", 1e6, 1e6, 2e-7)])
    text = cards_html(whole, splits, {"gsa": [("figure", "PSNR against SNR")]})
    cards = dict(zip(re.findall(r'id="method-([^"]*)"', text), text.split("<article")[1:]))
    assert sorted(cards) == sorted(NAMES)
    student = cards["s3rnet-student"]
    assert card("s3rnet-student").paper in student and card("s3rnet-student").source in student
    assert "equals its release (largest relative difference 2.0e-07)" in student
    assert "<td>31.00</td><td>2.000</td>" in student and "test, 4 bands" in student and OTHER not in student
    assert '<a href="#figure">PSNR against SNR</a>' in cards["gsa"] and "Drawn in" not in student


def test_what_a_method_is_told_is_as_it_was_built():
    whole, splits = made()
    whole = replace(whole, facts=replace(whole.facts, cards={"hysure": card("hysure")}, told={"hysure": "blind"}))
    page = board_html(leaderboard(whole, splits), whole, splits)
    assert 'data-name="hysure" data-family="classical" data-told="blind"' in page
    assert 'data-name="gsa" data-family="" data-told=""' in page  # a method without a card


def test_the_index_lists_the_pages_there_are_and_is_the_same_for_the_same(tmp_path):
    for name, title in (("zeta", "Z & co"), ("alpha", "First")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_bytes(framed(title, f"About <{name}>", "<p>x</p>"))
    (tmp_path / "pictures").mkdir()
    assert [(one.study, one.title, one.sentence) for one in entries(tmp_path)] == [
        ("alpha", "First", "About <alpha>"), ("zeta", "Z & co", "About <zeta>")]
    first = write_index(tmp_path).read_bytes()
    assert write_index(tmp_path).read_bytes() == first
    text = first.decode()
    assert '<a href="zeta/index.html">Z &amp; co</a>' in text and "About &lt;zeta&gt;" in text and "pictures" not in text
