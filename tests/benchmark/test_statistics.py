"""Intervals, ranks and tests against loops and textbook numbers."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmark.page import statistics
from benchmark.page.cells import Cell
from benchmark.page.plots import Plot
from benchmark.page.tables import Table
from benchmark.protocol import CLEAN
from tests.benchmark.test_plots import lines
from tests.benchmark.test_tables import row, section

IMAGES = "abcdefg"
SCORES = {"one": (30.0, 31.0, 32.0, 33.0, 34.0, 35.0, 36.0), "two": (29.0, 29.9, 30.8, 31.7, 32.6, 33.5, 34.4),
          "three": (29.1, 29.5, 31.0, 31.45, 32.67, 33.0, 34.05)}


def rows(scores=SCORES, images=IMAGES):
    return [row(method, psnr, image=image) for method, own in scores.items() for image, psnr in zip(images, own)]


def test_holm_as_r_s_p_adjust_gives_it():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]


def exact_signed_rank(differences):
    """Two-sided probability over all signs of the ranks."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1.0
    observed = min(ranks[np.array(differences) > 0].sum(), ranks[np.array(differences) < 0].sum())
    sums = [sum(r for r, sign in zip(ranks, signs) if sign) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return min(1.0, 2 * np.mean([each <= observed for each in sums]))


def test_ranks_and_tests_are_those_of_a_loop():
    found = statistics.compared(section(rows()), 4)
    ranks = {method: np.mean([1 + sum(SCORES[other][i] > own[i] for other in SCORES) for i in range(7)])
             for method, own in SCORES.items()}
    assert found.ranks == pytest.approx(ranks) and next(iter(found.ranks)) == "one"
    k, n = 3, 7
    chi = 12 * n / (k * (k + 1)) * sum((mean - (k + 1) / 2) ** 2 for mean in ranks.values())
    assert found.friedman == pytest.approx(np.exp(-chi / 2))  # of two degrees of freedom
    pairs = list(itertools.combinations(list(found.ranks), 2))
    raw = [exact_signed_rank(np.subtract(SCORES[a], SCORES[b])) for a, b in pairs]
    assert [found.pairs[frozenset(pair)] for pair in pairs] == pytest.approx(statistics.holm(raw))


def test_methods_not_told_apart_are_joined_and_no_others():
    psnr = np.linspace(30, 39, 10)
    scores = {"best": psnr + 5, "like-a": psnr + 0.1 * (-1) ** np.arange(10), "like-b": psnr}
    made = statistics.significance(section(rows(scores, "abcdefghij")))
    (plot,), (table,) = [one for one in made if isinstance(one, Plot)], [one for one in made if isinstance(one, Table)]
    found = statistics.compared(section(rows(scores, "abcdefghij")), 4)
    assert found.groups == [["like-a", "like-b"]]
    drawn = lines(plot.figure.axes[0])
    assert [label for label in drawn if label.startswith("group")] == ["group: like-a, like-b"]
    for method, rank in found.ranks.items():
        assert drawn[method].get_xydata().tolist() == [[rank, 0.0]]
    assert "Blocks: a, b, c, d, e, f, g, h, i, j." in plot.notes and "not told apart: like-a, like-b" in plot.alt
    assert [line.cells[1].value for line in table.rows] == [10, 0, 0]


def test_a_bar_joins_no_two_that_are_told_apart():
    pairs = {frozenset("ab"): 0.5, frozenset("bc"): 0.5, frozenset("ac"): 0.01}
    chain = statistics.Comparison(pd.DataFrame(), {"a": 1.0, "b": 2.0, "c": 3.0}, 0.001, pairs)
    assert chain.groups == [["a", "b"], ["b", "c"]]
    assert statistics.Comparison(chain.scores, chain.ranks, 0.2, pairs).groups == [["a", "b", "c"]]  # all alike by Friedman


def test_with_few_images_there_are_ranks_and_the_reason_why_no_test():
    made = statistics.significance(section(rows({method: own[:4] for method, own in SCORES.items()}, "abcd")))
    (table,) = made
    assert "No test: with 4 images and 3 methods no difference could be told, whatever the scores; 7 images are needed." in \
        table.caption and len(table.columns) == 2
    assert statistics.significance(section([row("gsa", 1.0)])) == []  # one method


def test_where_no_scores_could_tell_a_pair_apart_there_is_no_test():
    """Six images and eleven methods: the least probability, 2 / 2^6, times 55 pairs."""
    scores = {f"m{i:02d}": tuple(40.0 - 3 * i + 0.1 * k * (i + 1) for k in range(6)) for i in range(11)}
    made = statistics.significance(section(rows(scores, "abcdef")))
    (table,) = made
    assert len(table.columns) == 2 and "told apart" not in table.caption and "p:" not in table.caption
    assert "with 6 images and 11 methods no difference could be told, whatever the scores; 12 images" in table.caption
    assert statistics.compared(section(rows(scores, "abcdef")), 4).pairs == {}


def test_as_many_images_are_needed_as_a_lead_on_all_of_them_takes():
    for methods in (2, 3, 4):
        n = statistics.needed(methods)
        pairs = methods * (methods - 1) // 2
        for images, told in ((n, True), (n - 1, False)):
            least = stats.wilcoxon(np.arange(1.0, images + 1)).pvalue
            assert (min(statistics.holm([least] + [1.0] * (pairs - 1))) < 0.05) == told
    assert [statistics.needed(methods) for methods in (2, 3, 11)] == [6, 7, 12]


def test_methods_that_lack_an_image_are_left_out():
    held = [one for one in rows() if not (one["method"] == "two" and one["image"] == "c")]
    assert set(statistics.compared(section(held), 4).ranks) == {"one", "three"}


def test_an_image_counts_once_whatever_its_seeds():
    held = [*rows({"one": (20.0, 30.0)}, "ab"), row("one", 24.0, image="a", seed=1), row("one", 30.0, image="b", seed=1)]
    assert statistics.of_images(section(held), CLEAN, 4, "one", "psnr_db") == {"a": 22.0, "b": 30.0}


def test_intervals_are_near_those_of_a_plain_bootstrap_and_the_same_each_time():
    values = list(np.random.default_rng(3).normal(30, 2, 40))
    cell = statistics.with_interval(Cell(float(np.mean(values))), values)
    rng = np.random.default_rng(1)
    means = [rng.choice(values, len(values)).mean() for _ in range(5000)]
    assert cell.interval == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.1)
    assert statistics.with_interval(cell, values) == cell
    assert statistics.with_interval(Cell(1.0), [1.0] * 4).interval is None
    assert statistics.with_interval(Cell(1.0), [1.0] * 9).interval is None  # nothing varies
    assert statistics.with_interval(Cell(np.inf), [np.inf, 1.0, 2.0, 3.0, 4.0]).interval is None
