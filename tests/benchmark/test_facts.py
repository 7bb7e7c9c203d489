"""What a page says follows from the study's values, whatever a flag replaces."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

import run_benchmark
from benchmark.page.facts import (
    WITHOUT_MSI,
    amounts_of,
    budgets_of,
    constant_outputs,
    facts_of,
    kind_of,
    lists,
    rows_of,
    title_of,
    unranked_words,
    what_is_told,
)
from benchmark.page.pages import render_study
from benchmark.plan import plan
from benchmark.protocol import CLEAN, noise
from benchmark.store import Held
from benchmark.studies import study
from methods import create
from tests.benchmark.test_tables import row

ROOT = Path(__file__).parents[2]


def said(tmp_path, *words):
    """All text of a report: the page and its tables, without the pictures."""
    assert run_benchmark.main(["report", "--device", "cpu", "--results", str(ROOT / "results"),
                               "--reports", str(tmp_path), *words]) == 0
    text = "\n".join(path.read_text() for path in sorted(tmp_path.rglob("*"))
                     if path.suffix in (".html", ".tex", ".md", ".csv"))
    return re.sub(r'src="data:[^"]*"', "", text)


def facts(name, device="cpu", **replaced):
    chosen = replace(study(name), **replaced)
    jobs = plan(chosen, device)
    return facts_of(chosen, jobs, ROOT / "results", rows_of(chosen, jobs, ROOT / "results"))


def clean(name, **replaced):
    """Of its clean images alone, which are quickly read."""
    return facts(name, scenarios=(CLEAN,), fewer_scenarios={}, **replaced)


def test_a_replaced_budget_is_what_every_text_says(tmp_path):
    text = said(tmp_path, "--profile", "hour", "--methods", "gsa", "s3rnet-student", "--msi-bands", "4", "--minutes", "20")
    assert not re.search(r"\b60(\.0)? minutes", text) and "S3RNet after an hour" not in text
    assert text.count("Training budget of s3rnet-student: 20 minutes, batch 1, crop 32, learning rate 0.0005") > 10
    assert "s3rnet-teacher (trained with s3rnet-student): depths (2, 4, 4, 2) instead of (6, 6, 4, 4)" in text
    named = {path.name for path in tmp_path.rglob("*.csv")
             if re.search("^(4,)?s3rnet-teacher,", path.read_text(), re.MULTILINE)}
    # the methods of Table I and of the release, the study's or not
    assert {name.partition("-table-")[2] for name in named} == {"1.csv", "long.csv"}


@pytest.mark.parametrize(("words", "there", "never"), [
    (("--steps", "60"), "60 steps, batch 2", r"150 (training )?steps|-> 150"),
    (("--seeds", "3", "4"), "<dd>3, 4</dd>", r"Seeds of training</dt><dd>0<"),
    (("--hr-size", "32"), "cut to 32x32 pixels", r"to 64x64|at most 64"),
    (("--lr", "0.5", "--batch", "7", "--crop", "16"), "batch 7, crop 16, learning rate 0.5", r"crop 32|batch 2,"),
    (("--recipe", "release"), "release: s3rnet-teacher", r"<dd>paper: "),
    (("--protocol", "release"), "Protocol release", r"Protocol paper|protocol paper"),
])
def test_flags_show_in_the_text(words, there, never, tmp_path):
    text = said(tmp_path, "--profile", "quick", "--methods", "gsa", "s3rnet-teacher", "--msi-bands", "4", *words)
    assert there in text and "procedural" not in text.lower()
    assert not re.search(never, text), re.search(never, text)


def test_a_title_is_the_study_s_own_only_where_nothing_is_replaced():
    assert title_of(study("aviris")) == study("aviris").title
    held = replace(study("aviris"), methods=("gsa", "cnmf"), replaced=frozenset({"methods"}))
    assert title_of(held) == "gsa and cnmf on aviris"


def test_what_was_trained_is_told_as_it_ran():
    held = facts("hour")
    conditions = dict(held.conditions)
    assert "s3rnet-student (4 MSI bands) 2832 steps in 60.0 minutes" in conditions["Trained"]
    assert conditions["Precision of training"] == "32-true"
    assert not any("Precision" in name and words for name, words in facts("classical").conditions)


def test_asking_for_the_student_alone_leaves_its_teacher_out():
    held = study("aviris")
    for methods in (("s3rnet-student",), ("s3rnet-teacher",), ("s3rnet-teacher", "s3rnet-student")):
        chosen = replace(held, methods=methods)
        jobs = plan(chosen, "cpu")
        rows = rows_of(chosen, jobs, ROOT / "results")
        assert set(rows.curves["method"]) == set(rows.scores["method"]) == set(methods)
        held_facts = facts_of(chosen, jobs, ROOT / "results", rows)
        for name in {"s3rnet-teacher", "s3rnet-student"} - set(methods):
            assert name not in dict(held_facts.conditions)["Trained"]


def test_budgets_group_equal_ones_and_forbid_ranking_others():
    held = study("aviris")
    budgets, trained = budgets_of(held), [method for method in held.methods if held.recipe_of(method)]
    assert sorted(method for methods in budgets.values() for method in methods) == sorted(trained)
    assert [len(methods) for methods in budgets.values()] == sorted(map(len, budgets.values()), reverse=True)
    # minutes a network are equal, whatever a step is: crops, stages, or two networks of one training in twice the time
    assert amounts_of(held) == {"20 minutes"} and len(budgets) > 1
    alike = clean("aviris-short")
    assert alike.kinds["s3rnet-student"] == alike.kinds["tfnet"] == "trained"
    assert "restfnet@keep=best-on-test" not in alike.kinds
    assert "restfnet@keep=best-on-test, since kept" in " ".join(alike.unranked)
    made = clean("aviris", exceptions={**held.exceptions, "tfnet": {"minutes": 9.0}})
    assert "tfnet" not in made.kinds and "budgets differ" in made.unranked[-1] and made.kinds["gsa"] == "blind"
    steps = clean("aviris", training={**held.training, "minutes": None, "steps": 10}, exceptions={"tfnet": {"batch": 2}})
    assert "u2net" not in steps.kinds


def test_kinds_follow_the_card():
    held = study("unsupervised")
    kinds = {"usdn": "known", "usdn-oracle": "", "gsa": "blind", "hysure": "known", "psdnet-oracle": "", "ssuf": "trained"}
    assert {method: kind_of(held, method, False) for method in kinds} == kinds
    assert unranked_words(held, ()) == ("Not ranked: usdn-oracle, since told the reference.",)


def test_a_constant_output_is_found_and_not_ranked():
    def scores(method, *psnr):  # clean, at 25 dB on both, at 15 dB on the LR-HSI alone
        return [row(method, value, target=target, snr=snr) for value, (target, snr) in zip(psnr, (
            ("none", math.inf), ("both", 25.0), ("lr_hsi", 15.0)))]

    rows = pd.DataFrame([*scores("stuck", 17.0, 17.001, 17.0), *scores("sees-no-lr-hsi", 30.0, 28.0, 30.0),
                         *scores("fair", 30.0, 25.0, 9.0), *scores("clean-alone", 20.0), *scores("failed", 17.0),
                         {**row("failed", 17.0, target="both", snr=25.0), "status": "failed"},
                         *scores("ssuf@width=8", 12.9, math.nan, 12.901)[::2],
                         *scores("other", 17.0, 17.0), row("other", 17.0, image="b"),
                         row("other", 18.0, image="b", target="both", snr=25.0)])
    assert constant_outputs(rows) == ("ssuf@width=8", "stuck") and constant_outputs(rows[:0]) == ()
    words, = unranked_words(study("quick"), ("stuck",))
    assert words.startswith("Not ranked: stuck, whose output hangs on no image: noise on all that it sees, at an SNR of 25")
    held = facts("aviris", methods=("gsa", "dsdcn", "ssif"), scenarios=(CLEAN, noise("both", 25)), fewer_scenarios={})
    assert held.kinds == {"gsa": "blind", "ssif": "trained"}
    assert held.constant == ("dsdcn",) and "constant output" in held.marks["dsdcn"] and "dsdcn" in " ".join(held.unranked)


def test_networks_without_the_msi_are_those_that_it_does_not_move():
    lr_hsi, hr_msi = torch.rand(1, 12, 8, 8), torch.rand(1, 4, 32, 32)
    for name in ("dsdcn", "ssuf", "u2net"):
        model = create(name, bands=12, msi_bands=4).eval()
        with torch.no_grad():
            same = torch.equal(model(lr_hsi, hr_msi), model(lr_hsi, 1 - hr_msi))
        assert same == (name in WITHOUT_MSI), name


def test_networks_that_take_the_responses_say_so():
    held = study("aviris")
    told = {"s3rnet-subspace@train=and-procedural": "known", "mimo-sst": "", "hysure-blind": "blind", "hysure": "known"}
    assert {method: what_is_told(held, method) for method in told} == told


def test_variants_have_no_published_figures_and_say_how_they_are_built():
    held = facts("paper", dataset="aviris", splits=("test-same-flight",), scenarios=(CLEAN,),
                 methods=("s3rnet-student", "s3rnet-student@width=16"))
    assert set(held.published) == {"s3rnet-student"}
    assert any("s3rnet-student@width=16: width 16 instead of 86" in statement for statement in held.statements)


def test_jobs_that_are_not_in_order_are_listed_with_their_reason():
    chosen = replace(study("aviris"), methods=("gsa",), msi_bands=(4,), scenarios=(CLEAN,))
    jobs = plan(chosen, "cpu")
    states = [Held("damaged", reason="job.json: cannot be read"), Held("stale", ("scoring", "data")), Held("unfinished")]
    assert len(jobs) == len(states)
    found = lists(jobs, {job.key: state for job, state in zip(jobs, states)}, rows_of(chosen, [], ROOT / "results").costs)
    assert found["damaged"] == (f"{jobs[0].label}: job.json: cannot be read",)
    assert found["stale"] == (f"{jobs[1].label}: scoring, data",)
    assert found["missing"] == ("cost gsa msi4 at LR 64 cpu (unfinished)",) and found["failed"] == ()


def test_a_page_does_not_depend_on_the_machine_that_renders_it(tmp_path):
    chosen = replace(study("unsupervised"), methods=("gsa", "bicubic"), scenarios=(CLEAN,))
    first, second = (render_study(chosen, plan(chosen, device), ROOT / "results", tmp_path / device).read_bytes()
                     for device in ("cpu", "another"))
    assert first == second


def test_a_damaged_folder_blocks_no_page(tmp_path):
    chosen = replace(study("unsupervised"), methods=("gsa",), scenarios=(CLEAN,))
    jobs = plan(chosen, "cpu")
    for job, content in zip(jobs, ("", json.dumps({"inputs": {}, "provenance": None}), "[]")):
        place = tmp_path / "results" / chosen.dataset / f"{job.kind}-gsa-{job.key[:12]}"
        place.mkdir(parents=True)
        (place / "job.json").write_text(content)
        (place / "rows.csv").write_text("")
    page = render_study(chosen, jobs, tmp_path / "results", tmp_path / "reports").read_text()
    assert page.count("job.json") + page.count("rows.csv") >= 3 and "3 damaged" in page
