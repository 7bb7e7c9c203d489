"""The text of findings: its numbers against pandas, and the committed one against the rows."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmark import rows
from benchmark.page import findings
from benchmark.page.claims import MEASURED
from benchmark.plan import PlanError, plan
from benchmark.store import folder
from benchmark.studies import study

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def text():
    return findings.findings(ROOT / "results")


def lines_of(text, heading):
    part = re.split(rf"\n## \d+\. {heading}", text)[1].partition("\n## ")[0]
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
    leaders = lines_of(text, "Who leads")
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
    for name, apart, beside, worth in lines_of(text, "What a split")[1:]:
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


def test_fold_table_is_of_the_rows(text):
    lines = lines_of(text, "Each scene of flight A")
    scenes = [cell.strip("`") for cell in lines[0][1:6]]
    found = {}
    for name in ("aviris", *findings.FOLDS):
        held = study(name)
        for job in plan(held, "cpu"):
            path = folder(ROOT / "results", job) / "rows.csv"
            if job.kind == "score" and job.scenario.name == "clean" and job.split == "test-same-flight" and path.exists():
                found |= {(job.method, row.image): row.psnr_db for row in rows.read(path).itertuples()}
    assert len(lines) > 5
    for method, *values, interval in lines[1:]:
        own = np.array([found[method.strip("`"), scene] for scene in scenes])
        assert [float(value) for value in values] == pytest.approx([*own, own.mean()], abs=0.006)
        low, high = map(float, interval.split(" to "))
        half = stats.t.ppf(0.975, 4) * own.std(ddof=1) / np.sqrt(5)
        assert (low, high) == pytest.approx((own.mean() - half, own.mean() + half), abs=0.006)


def test_ideas_are_paired_by_seed(text):
    held = study("ablation-loss")
    found = {}
    for job in plan(held, "cpu"):
        path = folder(ROOT / "results", job) / "rows.csv"
        if job.kind == "score" and job.scenario.name == "clean" and job.split == "test-other-flight" and path.exists():
            found[job.method, job.seed] = rows.read(path)["psnr_db"].mean()
    lines = {(line[0], line[1]): line for line in lines_of(text, "What each idea")}
    for recipe in ("naive", "kd-0.5", "alone"):
        label = f"s3rnet-student@recipe={recipe}"
        apart = np.array([found[label, seed] - found["s3rnet-student", seed] for seed in held.seeds])
        mean, spread = lines[f"recipe={recipe}", "s3rnet-student"][4].replace("−", "-").split(" ± ")
        assert (float(mean), float(spread)) == pytest.approx((apart.mean(), apart.std(ddof=1)), abs=0.006)
        p = stats.ttest_1samp(apart, 0).pvalue
        assert float(lines[f"recipe={recipe}", "s3rnet-student"][5]) == pytest.approx(p, rel=0.06)
    assert ("recipe=kd-0.5", "s3rnet-teacher") not in lines  # the teacher's training has no such term


def test_trainings_are_those_of_the_rows(text):
    found = {}
    for job in plan(study("aviris"), "cpu"):
        path = folder(ROOT / "results", job) / "rows.csv"
        if job.kind == "train" and path.exists():
            row = rows.read(path).iloc[0]
            found[" + ".join(f"`{method}`" for method in job.methods)] = row.steps, row.seconds
    lines = lines_of(text, "What was trained")[1:]
    assert {line[0] for line in lines} == set(found) and len(lines) > 20
    for name, steps, step, minutes, *_ in lines:
        assert int(steps) == found[name][0]
        assert float(step) == pytest.approx(found[name][1] / found[name][0], abs=0.02)
        assert float(minutes) == pytest.approx(found[name][1] / 60, abs=0.11)


def test_claims_are_counted_once(text):
    lines = lines_of(text, "What the papers claim")[1:]
    said = re.search(r"Of (\d+) claims that rows can decide, (\d+) hold wherever they are decided, (\d+) nowhere, (\d+) in "
                     r"some studies, (\d+) are not", text)
    asked, hold, fail, some, undecided = map(int, said.groups())
    assert asked == len(MEASURED) == hold + fail + some + undecided and len(lines) == hold + fail + some
    assert hold == sum(line[2] == "—" for line in lines) and fail == sum(line[1] == "—" for line in lines)
    for line in lines:
        assert set((line[1] + ", " + line[2]).split(", ")) <= {*findings.DECIDING, "—"}


def test_six_bands_stand_beside_four(text):
    lines = lines_of(text, "Six MSI bands")
    assert lines[0][2:] == ["same flight, 6 bands", "same flight, 4 bands", "other flights, 6 bands", "other flights, 4 bands"]
    found = {}
    for name in ("six-bands", "aviris"):
        for job in plan(study(name), "cpu"):
            path = folder(ROOT / "results", job) / "rows.csv"
            if job.kind == "score" and job.scenario.name == "clean" and path.exists():
                found[job.method, job.split, job.msi_bands] = rows.read(path)["psnr_db"].mean()
    for method, _, *values in lines[1:]:
        cells = [found[method.strip("`"), split, bands] for split in (findings.SAME, findings.OTHER) for bands in (6, 4)]
        assert [float(value) for value in values] == pytest.approx(cells, abs=0.006)
