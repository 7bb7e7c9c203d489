"""The text of findings: its numbers against pandas, and the committed one against the rows."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmark import rows
from benchmark.page import findings
from benchmark.plan import PlanError, plan
from benchmark.store import folder
from benchmark.studies import study

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def text():
    return findings.findings(ROOT / "results")


def lines_of(text, heading):
    part = text.partition(f"## {heading}")[2].partition("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()
            if line.startswith("|") and "---" not in line]


def test_the_committed_text_is_what_the_rows_give(text):
    assert (ROOT / "reports" / "findings.md").read_text() == text, "run_benchmark.py findings"
    assert "nan" not in text.lower().replace("nanometre", "") and "inf " not in text


def test_the_table_of_the_readme_is_what_the_rows_give():
    readme = (ROOT / "README.md").read_text()
    assert findings.with_leaders(readme, ROOT / "results") == readme, "run_benchmark.py findings --readme README.md"
    with pytest.raises(PlanError, match="no place for the table"):
        findings.with_leaders("# nothing", ROOT / "results")


def test_means_are_those_of_the_rows(text):
    held = study("aviris")
    found = {}
    for job in plan(held, "cpu"):
        path = folder(ROOT / "results", job) / "rows.csv"
        if job.kind == "score" and job.scenario.name == "clean" and path.exists():
            found[job.method, job.split] = rows.read(path)["psnr_db"].mean()
    leaders = lines_of(text, "1. Who leads")
    assert leaders[0][2] == "same flight" and len(leaders) > 6
    for method, _, same, other, *_ in leaders[1:]:
        assert float(same) == pytest.approx(found[method.strip("`"), "test-same-flight"], abs=0.005)
        assert float(other) == pytest.approx(found[method.strip("`"), "test-other-flight"], abs=0.005)
    kinds = [line[1] for line in leaders[1:]]
    assert kinds == sorted(kinds, key=kinds.index)  # together
    leak = study("leak")
    clean = pd.concat([rows.read(folder(ROOT / "results", job) / "rows.csv").assign(label=job.method)
                       for job in plan(leak, "cpu") if job.kind == "score" and job.scenario.name == "clean"])
    mean = clean.groupby("label")["psnr_db"].mean()
    for name, apart, beside, worth in lines_of(text, "3. What a split")[1:]:
        label = name.strip("`")
        assert float(apart) == pytest.approx(mean[f"{label}@train=flight"], abs=0.005)
        assert float(re.sub(" dB", "", worth)) == pytest.approx(float(beside) - float(apart), abs=0.011)


def test_the_interval_of_a_rank_correlation_covers_what_it_should():
    draws = np.random.default_rng(1)
    one = np.arange(20.0)
    assert findings.interval(one, one) == pytest.approx((1.0, 1.0))
    low, high = findings.interval(one, draws.permutation(20).astype(float))
    assert low < 0 < high and low > -1 and high < 1
    near = one + draws.normal(0, 3, 20)
    low, high = findings.interval(one, near)
    assert low < stats.spearmanr(one, near).statistic < high and low > 0.3


def test_numbers_in_words():
    assert findings.decibels(3.14159) == "3.14" and findings.decibels(float("nan")) == "—"
    assert findings.signed(-0.5) == "−0.50" and findings.signed(2.0) == "+2.00" and findings.signed(float("inf")) == "—"
    assert findings.markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
