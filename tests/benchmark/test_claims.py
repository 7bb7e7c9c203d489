"""The claims: each verdict that needs no training found again another way, a wrong count flips it; rows decide the others."""

import csv
import io
import math
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from scipy.stats import ttest_1samp

import run_benchmark
from benchmark import studies
from benchmark.page import claims as module
from benchmark.page import claims_counted, formats, verdicts
from benchmark.page.claims import COLUMNS, COUNTED, MEASURED, TESTS, claims, decided
from benchmark.page.claims_counted import Counts
from benchmark.page.claims_measured import PRINTED
from benchmark.page.facts import facts_of, rows_of
from benchmark.page.section import Facts, Rows, Section, Split, sections
from benchmark.page.verdicts import Difference, difference, judged
from benchmark.plan import plan
from benchmark.protocol import CLEAN, noise
from benchmark.published import published
from datasets.csakd_tiles import CsakdTiles
from methods import create
from methods.s3rnet import Attention

ALL = {claim.id: claim for claim in (*published().claims, *published().beyond)}
PSNR = {"s3rnet-teacher": 40.0, "s3rnet-student": 39.5, "pzres-net": 38.0, "mssjfl": 38.1, "dual-unet": 38.2,
        "dhif-net": 38.3, "cucanet": 30.0, "usdn": 29.0, "u2mdn": 28.0, "gsa": 27.0, "bicubic": 20.0}


def study(psnr=None, images=4, scenarios=(CLEAN,), bands=(4, 6), kinds=None, costs=(), seeds=(0,), spread=(), **words):
    """A study in which each method has this PSNR, a little more on each image and with more bands, less with noise.

    ``spread``: method -> what its training gains, by seed.
    """
    psnr = PSNR if psnr is None else psnr
    rows = []
    for method, value in psnr.items():
        for scenario in scenarios:
            for count in bands:
                for i, seed in product(range(images), seeds):
                    lost = 0 if math.isinf(scenario.snr_db) else (50 - scenario.snr_db) / 5
                    lost *= 3 if method == "dual-unet" else 1 if method.startswith("s3rnet") else 2
                    own = value + 0.1 * i + 0.01 * i * (method == "gsa") + (count - 4) - lost
                    own += dict(spread).get(method, dict.fromkeys(seeds, 0.0))[seed]
                    rows.append({"method": method, "dataset": "made", "split": "test", "image": f"i{i}", "msi_bands": count,
                                 "scenario": scenario.name, "noise_target": scenario.noise_target, "snr_db": scenario.snr_db,
                                 "seed": seed, "status": "ok", "seconds": 200.0, "psnr_db": own, "sam_deg": 60 - own,
                                 "rmse_unit": 600 - own})
    kinds = {method: "trained" for method in psnr} if kinds is None else kinds
    split = Split("made", "test", tuple(f"i{i}" for i in range(images)))
    facts = Facts("made", "Made", tuple(psnr), bands, scenarios, (split,), {}, "paper", "p1", kinds=kinds, **words)
    return Section(facts, Rows(pd.DataFrame(rows), pd.DataFrame(costs), fidelity=pd.read_csv("results/fidelity.csv")))


def verdict(name, section=None):
    return decided(section or study(), ALL[name])


# ------------------------------------------------------------------------------------------------------------ the list


def test_every_claim_is_a_row_and_every_test_a_claim():
    table, = claims(study())
    assert len(table.rows) == len(ALL) == 63 and set(TESTS) <= set(ALL) and not set(COUNTED) & set(MEASURED)
    words = {row[0]: row[COLUMNS.index("verdict")] for row in table.rows}
    assert set(words.values()) <= {"holds", "does not hold", "not testable here"}
    for row in table.rows:
        assert row[COLUMNS.index("why")], row[0]  # always a reason
        if row[0] not in TESTS:
            assert words[row[0]] == "not testable here" and ALL[row[0]].needs[0] in row[COLUMNS.index("why")]
    by = {row[0]: row[COLUMNS.index("decided by")] for row in table.rows}
    assert by["parameters-reduced"] == "this suite" and by["more-bands-help"] == "study made" and by["kd-adds"] == ""
    assert claims(study())[0] == table  # same rows, same words


def test_the_listing_in_every_form(tmp_path):
    table, = claims(study())
    read = list(csv.reader(io.StringIO(formats.to_csv(table))))
    assert read[0] == list(COLUMNS) and [tuple(row) for row in read[1:]] == list(table.rows)
    markdown = formats.to_markdown(table).splitlines()
    assert len(markdown) == 2 + len(table.rows) + 2
    assert all(len(re.findall(r"(?<!\\)\|", line)) == len(COLUMNS) + 1 for line in markdown[: 2 + len(table.rows)])
    html = formats.to_html(table)
    assert html.count("<tr>") == 1 + len(table.rows) and "<td>does not hold</td>" in html and 'href="tables/claims.csv"' in html
    tex = formats.to_latex(table, "made")
    assert tex.count(r"\\") >= len(table.rows) and r"\label{tab:made-claims}" in tex
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here to compile it with")
    (tmp_path / "a.tex").write_text(r"\documentclass{article}\usepackage[utf8]{inputenc}\usepackage{array,booktabs,longtable}"
                                    rf"\begin{{document}}{tex}\end{{document}}", encoding="utf-8")
    made = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"], cwd=tmp_path, text=True,
                          capture_output=True, check=False)
    assert made.returncode == 0, made.stdout[-2000:]


def test_command_prints_and_writes_them(tmp_path, capsys):
    words = ["claims", "--study", "quick", "--results", str(tmp_path / "none"), "--reports", str(tmp_path)]
    assert run_benchmark.main(words) == 0
    printed = capsys.readouterr().out
    assert "does not hold      code-sam-loss" in printed and "not testable here  kd-adds" in printed
    rows = list(csv.DictReader((tmp_path / "quick/tables/claims.csv").open(encoding="utf-8")))
    assert [row["claim"] for row in rows] == list(ALL)


# ------------------------------------------------------------------------------------- without training, another way


def fvcore_counts(name, msi_bands, **arguments):
    """Multiply-adds by fvcore at a sixteenth of the sides, and parameters that a gradient reaches."""
    model = create(name, bands=172, msi_bands=msi_bands, attention="paper", **arguments)
    images = torch.rand(1, 172, 4, 4), torch.rand(1, msi_bands, 16, 16)
    counter = FlopCountAnalysis(model, images).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    model(*images).sum().backward()
    return sum(p.numel() for p in model.parameters() if p.grad is not None), 256 * counter.by_operator()["conv"]


def test_reductions_by_another_counter():
    teacher, student = (fvcore_counts(f"s3rnet-{size}", 6) for size in ("teacher", "student"))
    for name, mine in (("teacher", teacher), ("student", student)):
        own = claims_counted.counted(f"s3rnet-{name}", 6)
        assert (own.parameters, own.macs) == mine
    assert f"{100 * (1 - student[0] / teacher[0]):.1f}" == "72.2" and f"{100 * (1 - student[1] / teacher[1]):.1f}" == "84.6"
    for name, share in (("parameters-reduced", 1 - student[0] / teacher[0]), ("macs-reduced", 1 - student[1] / teacher[1])):
        found = verdict(name)
        assert found.holds and f"{100 * share:.2f} % with 6 MSI bands" in found.measured


def test_table_4_by_another_counter():
    own = claims_counted.counted("s3rnet-student", depths=(2, 2, 2, 2))
    assert fvcore_counts("s3rnet-student", 4, depths=(2, 2, 2, 2)) == (own.parameters, own.macs)
    found = verdict("table-4-costs")
    assert found.holds and "85 G more" in found.why  # 1.2975 M weights at each of 65,536 pixels


def test_wrong_counts_flip_the_verdicts(monkeypatch):
    true = claims_counted.counted
    before = {name: verdict(name).holds for name in (
        "parameters-reduced", "macs-reduced", "abstract-smaller", "table-4-costs", "depth-1333-dearer",
        "csa-adds-no-complexity", "large-student-modest")}
    assert before == {"parameters-reduced": True, "macs-reduced": True, "abstract-smaller": True, "table-4-costs": True,
                      "depth-1333-dearer": True, "csa-adds-no-complexity": False, "large-student-modest": False}

    def wrong(name, msi_bands=4, **arguments):
        own = true(name, msi_bands, **arguments)
        factor = 1.0
        if name == "s3rnet-student" and arguments.get("depths") != (1, 3, 3, 3):
            factor = 3.0
        if arguments.get("fusion") == "sum":
            factor = 4.0
        return Counts(int(own.parameters * factor), own.macs * factor, own.macs_attention)

    monkeypatch.setattr(claims_counted, "counted", wrong)
    assert {name: verdict(name).holds for name in before} == {
        "parameters-reduced": False, "macs-reduced": False, "abstract-smaller": False, "table-4-costs": False,
        "depth-1333-dearer": False, "csa-adds-no-complexity": True, "large-student-modest": None}


def test_ranks_follow_the_counted_rows():
    assert verdict("pzres-lightweight").holds is False and verdict("hyfusion-compact").holds is False
    section = study()
    light = section.rows.fidelity.copy()
    light.loc[light["method"] == "pzres-net", ["parameters_used", "macs_conv"]] = 1.0
    assert verdict("pzres-lightweight", Section(section.facts, replace(section.rows, fidelity=light))).holds is True
    none = Section(section.facts, replace(section.rows, fidelity=pd.DataFrame()))
    assert verdict("pzres-lightweight", none) == verdicts.Verdict(
        None, why="'pzres-net' is not counted: python run_benchmark.py fidelity")


def test_grouped_groups_cost_a_fraction():
    """A dense block by hand: 3x3 convolutions on a growing concatenation, with biases, three of them a group."""
    def block(groups):
        widths = [86, 129, 172, 215, 258]
        outs = [43, 43, 43, 43, 86]
        return 3 * sum(9 * width * out // groups + out for width, out in zip(widths, outs))

    found = verdict("grouped-convolution-cheap")
    assert f"{block(43) / 1e6:.3f} M" in found.measured and f"{block(1) / 1e6:.3f} M" in found.measured
    assert found.holds is None and "without groups" in found.why


def test_equations_by_hand(monkeypatch):
    """Eq. 12 in numpy: D the squared error, so that both parts are quadratic; Eq. 13 and the release's rows as loops."""
    def eq_12(error, alpha=0.5, beta=1.0):
        squared = error ** 2
        return alpha * squared + max(0.0, squared - beta)

    assert eq_12(2e3) / eq_12(1e3) == pytest.approx(4, abs=1e-3)
    assert verdict("beba-quadratic-then-linear").holds is False
    monkeypatch.setattr(claims_counted, "beba_paper", torch.nn.functional.smooth_l1_loss)  # which is what the prose says
    assert verdict("beba-quadratic-then-linear").holds is True

    assert verdict("code-sam-loss").holds is False
    monkeypatch.setattr(claims_counted, "sam_release", claims_counted.sam_paper)
    assert "release: 0.0000 for pixels scaled, 0.0935 for bands scaled" in verdict("code-sam-loss").measured
    assert verdict("code-sam-loss").holds is True


def test_noise_of_eq_16_in_numpy():
    generator = np.random.default_rng(1)
    signal, noise_ = generator.normal(size=(2, 100_000))
    rms = np.sqrt(np.mean(signal ** 2))
    for power, expected in ((25 / 10, -50.0), (-25 / 20, 25.0)):
        ratio = 10 * np.log10(np.mean(signal ** 2) / np.mean((rms * 10 ** power * noise_) ** 2))
        assert ratio == pytest.approx(expected, abs=0.1)
    found = verdict("eq-16-noise")
    assert found.holds is False and "asked 25 dB: as printed -50.0 dB, by definition 25.0 dB" in found.measured


def test_dead_queries_and_keys_in_the_network_itself():
    """The network that equals the release's recorded outputs sends no gradient to them; the paper's form does."""
    images = [torch.rand(1, 8, 4, 4) for _ in range(4)]
    for form, dead in (("release", True), ("paper", False)):
        block = Attention(8, form)
        block(*images).square().sum().backward()
        assert (block.query_conv.weight.grad is None) is dead and block.value_conv.weight.grad is not None
    value = torch.randn(1, 4, 16, 9)
    weights = torch.softmax(torch.randn(1, 4, 16, 16), -1)
    mixed = torch.einsum("bhqk,bhcd->bhqd", weights, value)  # the release's subscripts
    assert torch.allclose(mixed, value.sum(2, keepdim=True).expand_as(value), atol=1e-5)  # what methods.s3rnet computes
    found = verdict("code-attention")
    assert found.holds is False and float(re.search(r"by (\d+\.\d+) in the matrix", found.measured)[1]) > 0.1


def test_arithmetic_and_averages(monkeypatch):
    assert 224 - (10 + 13 + 19 + 10) == 172 and verdict("bands-and-images").holds is True
    assert decided(study(), replace(ALL["bands-and-images"], text=ALL["bands-and-images"].text.replace("1,678", "1,687"))
                   ).holds is False
    assert verdict("table-2-means").holds is True and "5 not the rounded mean" in verdict("table-2-means").measured
    true = claims_counted.printed
    monkeypatch.setattr(claims_counted, "printed", lambda table, method, column, **place: replace(
        cell := true(table, method, column, **place), value=cell.value + 0.01 * (method == "mssjfl" and "scenario" in place)))
    assert verdict("table-2-means").holds is False


def test_flight_lines_of_the_lists(tmp_path):
    """Of a study of the authors' layout in miniature, with lists that mix the lines; and of lists that do not."""
    assert verdict("test-unseen").holds is None and "csakd-tiles" in verdict("test-unseen").why
    CsakdTiles.miniature(tmp_path)
    tiles = [path.name.removesuffix("GT.npz.npy") for path in sorted(tmp_path.glob("*GT.npz.npy"))]
    for split, names in (("train", tiles[0::2]), ("val", tiles[:1]), ("test", tiles[1::2])):  # both tiles of a line apart
        (tmp_path / f"{split}.txt").write_text("\n".join(names))
    for lists, holds in (("authors", False), ("flight", None)):
        chosen = replace(studies.study("paper"), methods=("gsa",), dataset_options={"root": str(tmp_path), "lists": lists})
        jobs = plan(chosen, "cpu")
        rows = rows_of(chosen, jobs, tmp_path / "none")
        whole, _ = sections(facts_of(chosen, jobs, tmp_path / "none", rows), rows)
        assert verdict("test-unseen", whole).holds is holds
    found = verdict("test-unseen", study(author_lists={"train": tuple(tiles[0::2]), "test": tuple(tiles[1::2])}))
    assert found.measured == "4 of 4 test tiles are of flight lines of the training list"
    apart = {"train": ("f080611t01p00r06_1",), "test": ("f080611t01p00r07_1", "f090611t01p00r06_1")}
    assert verdict("test-unseen", study(author_lists=apart)).holds is True
    assert verdict("test-unseen", study(author_lists={"train": ("a",), "test": ("b",)})).holds is None


# ------------------------------------------------------------------------------------------------------------- by rows


def test_an_interval_is_of_the_images():
    found = difference("x", [1.0, 2.0, 3.0, 4.0], "dB")
    assert (found.n, found.mean) == (4, 2.5) and 1.0 <= found.low < 2.5 < found.high <= 4.0
    generator = np.random.default_rng(5)  # the bootstrap again, by hand
    means = np.sort(generator.choice([1.0, 2.0, 3.0, 4.0], (20_000, 4)).mean(1))
    assert found.low == pytest.approx(means[500], abs=0.26) and found.high == pytest.approx(means[-500], abs=0.26)
    assert str(found).startswith("x +2.5 dB [+1.") and "n = 4" in str(found)


def test_verdicts_follow_from_intervals():
    def one(low, high, n=5):
        return Difference("x", n, (low + high) / 2, low, high, "dB")

    assert judged([one(0.1, 1), one(0.2, 2)]).holds is True
    assert judged([one(0.1, 1), one(-2, -0.1)]).holds is False
    assert judged([one(0.1, 1), one(-1, 1)]).holds is None and "undecided" in judged([one(-1, 1)]).why
    assert judged([one(-0.9, -0.1)], margin=-1).holds is True
    assert judged([difference("x", [1.0, 2.0], "dB")]).why == "n too small: 2 images a split, 3 or more are needed"
    assert judged([]).holds is None
    mixed = judged([one(0.1, 1), difference("y", [-5.0], "dB")])
    assert mixed.holds is True and "left aside: 1 of fewer than 3 images" in mixed.why


def test_trifles_count_neither_way():
    def one(low, high, least=0.05):
        return Difference("x", 5, (low + high) / 2, low, high, "dB", least=least)

    trifle = one(-0.0008, -0.0003)
    found = judged([one(0.1, 1), trifle])
    assert found.holds is True and "1 of 2 differences above 0, 0 below, 1 too small to count" in found.measured
    assert judged([one(0.1, 1), replace(trifle, least=0.0)]).holds is False
    assert judged([one(0.1, 1), one(-0.4, 0.44)]).holds is None  # small in the mean, by chance alone
    assert judged([one(0.1, 1), one(-0.06, -0.05)]).holds is False
    assert judged([trifle]).holds is None and "none is large enough" in judged([trifle]).why
    assert judged([one(-1.004, -1.002)], margin=-1).holds is None  # beside the margin, not beside zero

    levels = (CLEAN, noise("both", 35), noise("both", 25))
    noisy = study(scenarios=levels)
    for gain, holds in ((-0.001, True), (-0.2, False)):  # gsa gains this by noise, where it lost 3 dB
        scores = noisy.rows.scores.copy()
        gsa = scores["method"] == "gsa"
        scores.loc[gsa & (scores["snr_db"] == 25), "psnr_db"] = scores.loc[gsa & (scores["snr_db"] == 35),
                                                                          "psnr_db"].to_numpy() - gain
        assert verdict("all-deteriorate", Section(noisy.facts, replace(noisy.rows, scores=scores))).holds is holds


def test_methods_that_say_nothing_are_left_aside_and_counted():
    """Below bicubic, constant, or blind to the image that the noise is on; a network that is broken refutes nothing."""
    levels = (CLEAN, *(noise(target, snr) for target in ("lr_hsi", "both") for snr in (35, 25)))
    noisy = study(scenarios=levels, bands=(4,))

    def changed(method, psnr_db, target="lr_hsi", **words):
        scores = noisy.rows.scores.copy()
        there = (scores["method"] == method) & (scores["noise_target"] == target)
        scores.loc[there, "psnr_db"] = psnr_db
        return Section(replace(noisy.facts, **words), replace(noisy.rows, scores=scores))

    clean = noisy.rows.scores.query("method == 'mssjfl' and scenario == 'clean'")["psnr_db"].to_numpy()
    blind = changed("mssjfl", np.tile(clean, 2))
    for name, count in (("resilient-both-kinds", 1), ("all-deteriorate", 2)):
        found = verdict(name, blind)
        assert found.holds is True and f"{count} unmoved by noise on lr_hsi (mssjfl)" in found.why, name

    broken = study(PSNR | {"dual-unet": -37.5, "s3rnet-teacher": 45.0}, bands=(4,), scenarios=levels)
    found = verdict("teacher-best-table-1", broken)
    assert found.holds is None and "nothing is told by dual-unet" in found.why
    assert "6 below bicubic on clean images (dual-unet)" in found.why
    assert verdict("dual-unet-collapses", broken).holds is None
    weak = study(PSNR | {"s3rnet-student": 15.5, "s3rnet-teacher": 15.0}, bands=(4,))
    assert verdict("readme-competitive", weak).holds is None and "below bicubic" in verdict("readme-competitive", weak).why
    untold = study({name: value for name, value in PSNR.items() if name != "bicubic"})
    assert verdict("readme-competitive", untold).holds is None and "bicubic" in verdict("readme-competitive", untold).why

    kinds = {name: "" if name == "mssjfl" else "trained" for name in PSNR}  # as facts_of has it of a constant output
    constant = changed("mssjfl", 90.0, "none", constant=("mssjfl",), kinds=kinds)
    found = verdict("teacher-best-table-1", constant)
    assert found.holds is None and "6 of constant output (mssjfl)" in found.why
    assert "unequal" not in verdict("student-comparable-or-superior", constant).why


def test_seeds_are_the_pairs_where_both_sides_have_three():
    """Images that agree with one another hide that the trainings do not: a t test by hand."""
    alone = "s3rnet-student@recipe=alone"
    apart = {0: -0.42, 1: -0.56, 2: -2.19}
    made = study({"s3rnet-student": 39.0, alone: 39.0}, seeds=(0, 1, 2), images=3, bands=(4,),
                 scenarios=(CLEAN, noise("both", 25)), spread={"s3rnet-student": apart})
    for name in ("kd-adds", "kd-carries-robustness"):
        found = verdict(name, made)
        assert found.holds is None and "n = 3 seeds" in found.measured, name
    values = pd.Series(apart, name="psnr_db").rename_axis("seed")
    found = difference("x", values, "dB")
    by_hand = ttest_1samp(values, 0.0)
    assert by_hand.pvalue == pytest.approx(0.20, abs=0.01)
    assert (found.low, found.high) == pytest.approx(tuple(by_hand.confidence_interval(0.95)))
    two = study({"s3rnet-student": 39.0, alone: 39.0}, seeds=(0, 1), images=3, bands=(4,),
                spread={"s3rnet-student": {0: -0.42, 1: -0.56}})
    assert verdict("kd-adds", two).holds is False and "n = 3 seeds" not in verdict("kd-adds", two).measured


def test_one_seed_interval_of_many_refuses_nothing():
    low = difference("x", pd.Series([-1.0, -1.2, -1.5]).rename_axis("seed"), "dB")
    other = difference("x", pd.Series([0.9, -0.8, 0.1]).rename_axis("seed"), "dB")
    assert judged([low]).holds is False
    found = judged([low, *[other] * 19])
    assert found.holds is None and "corrected for 20 tried" in found.why


def test_a_verdict_says_on_which_splits_it_was_decided():
    whole = study()
    scores = whole.rows.scores
    twice = pd.concat([scores, scores[scores["image"] == "i0"].assign(split="near")])
    facts = replace(whole.facts, splits=(*whole.facts.splits, Split("made", "near", ("i0",))))
    found = verdict("no-compromise", Section(facts, replace(whole.rows, scores=twice)))
    assert found.holds is False and "decided on test alone; left aside: 6 of fewer than 3 images" in found.why
    both = Section(facts, replace(whole.rows, scores=pd.concat([scores, scores.assign(split="near")])))
    assert "decided on test and near" in verdict("no-compromise", both).why


def test_orders_follow_the_rows_and_flip_with_them():
    found = verdict("teacher-best-table-1")
    assert found.holds is True and "n = 4" in found.measured
    assert verdict("teacher-best-table-1", study(PSNR | {"dual-unet": 39.7})).holds is False  # above the student
    assert verdict("teacher-best-table-1", study({name: value for name, value in PSNR.items() if name != "usdn"})
                   ).why == "so far it holds; this study has no rows of usdn; decided on test"
    assert verdict("teacher-best-table-1", study(images=2)).why.startswith("n too small: 2 images")
    assert "unequal training budgets" in verdict("teacher-best-table-1", study(kinds={})).why
    assert verdict("teacher-best-table-1", study({"gsa": 20.0})).holds is None

    assert verdict("no-compromise").holds is False and verdict("readme-competitive").holds is True
    better = study(PSNR | {"s3rnet-student": 41.0})
    assert verdict("no-compromise", better).holds is True
    assert verdict("readme-competitive", study(PSNR | {"s3rnet-student": 38.5})).holds is False
    assert verdict("more-bands-help").holds is True and verdict("more-bands-help", study(bands=(4,))).holds is None


def test_noise_claims_follow_the_rows():
    levels = (CLEAN, *(noise(target, snr) for target in ("lr_hsi", "both") for snr in (35, 25)))
    noisy = study(scenarios=levels)
    for name in ("best-under-noise", "all-deteriorate", "dual-unet-collapses", "resilient-both-kinds", "dual-unet-cheap"):
        assert verdict(name, noisy).holds is True, name
    flipped = study(PSNR | {"mssjfl": 60.0}, scenarios=levels)
    assert verdict("best-under-noise", flipped).holds is False and verdict("best-under-noise").holds is None
    rising = Section(noisy.facts, replace(noisy.rows, scores=noisy.rows.scores.assign(
        psnr_db=lambda rows: rows["psnr_db"] + 50 * ((rows["method"] == "gsa") & (rows["snr_db"] == 25)))))
    assert verdict("all-deteriorate", rising).holds is False and "gsa" in verdict("all-deteriorate", rising).measured


def test_variants_of_a_study_decide_ablations():
    names = {"s3rnet-student": 39.0, "s3rnet-student@fusion=sum": 38.0}
    levels = (CLEAN, noise("both", 25))
    assert verdict("csa-helps-under-noise", study(names, scenarios=levels)).holds is True
    assert verdict("csa-helps-under-noise", study(dict(zip(names, (38.0, 39.0))), scenarios=levels)).holds is False
    depths = {"s3rnet-student": 39.0, "s3rnet-student@depths=(1,3,3,3)": 39.5, "s3rnet-student@depths=(2,2,2,2)": 38.0}
    assert verdict("depth-1333-best", study(depths)).holds is True
    assert verdict("depth-1333-best", study(depths | {"s3rnet-student": 40.0})).holds is False
    assert "variants of s3rnet-student by 'depths'" in verdict("depth-1333-best").why


def test_recipes_of_a_study_decide_what_losses_and_distillation_are_worth():
    student, teacher = "s3rnet-student", "s3rnet-teacher"
    made = {student: 39.0, f"{student}@recipe=alone": 38.0, f"{student}@recipe=naive": 37.0,
            **{f"{student}@recipe={term}-0.5": value for term, value in (
                ("beba", 38.5), ("sam", 36.0), ("kd", 38.6), ("output", 38.7))},
            teacher: 40.0, f"{teacher}@recipe=naive": 39.0}
    names = ("kd-adds", "all-0.1-best", "sam-coefficient-sensitive", "sam-beba-crucial")
    assert all(verdict(name, study(made)).holds is True for name in names)
    for name, label in zip(names, (f"{student}@recipe=alone", f"{student}@recipe=kd-0.5", f"{student}@recipe=sam-0.5",
                                   f"{teacher}@recipe=naive")):
        assert verdict(name, study(made | {label: 45.0})).holds is False, name
        assert verdict(name).holds is None and "variants of" in verdict(name).why
    noisy = study(made, scenarios=(CLEAN, noise("both", 25)))
    assert verdict("kd-carries-robustness", noisy).holds is True and verdict("kd-carries-robustness", study(made)).holds is None


def cost(method, **values):
    return {"method": method, "msi_bands": 4, "device": "cpu", "dtype": "float32", "lr_size": 64, "hr_size": 256,
            "parameters": 8e6, "parameters_used": 8e6, "macs_conv": 1e11, "macs_attention": 0.0, "uncounted_ops": "none",
            "seconds_median": 1.0, "peak_memory_mb": 100.0, "status": "ok", "stale": ""} | values


def test_costs_decide_times_and_memory():
    dear = {"seconds_median": 2.0, "peak_memory_mb": 900.0, "parameters_used": 4e7, "macs_conv": 1e12}
    rows = [cost("s3rnet-student"), cost("s3rnet-teacher", **dear), cost("pzres-net", **dear), cost("dhif-net", **dear),
            cost("mssjfl", seconds_median=1.5, peak_memory_mb=150.0, macs_conv=2e11, parameters_used=1e7),
            cost("dual-unet", seconds_median=1.2, peak_memory_mb=150.0, macs_conv=2e11, parameters_used=1e7)]
    rows += [cost(name, **dear) for name in PRINTED if name not in [row["method"] for row in rows]]
    section = study(costs=rows)
    for name in ("memory-reduced", "student-fastest", "four-costs-competitive", "heavy-peers"):
        assert verdict(name, section).holds is True, name
    slow = study(costs=[rows[0] | {"seconds_median": 9.0, "peak_memory_mb": 800.0}, *rows[1:]])
    for name in ("memory-reduced", "student-fastest", "four-costs-competitive"):
        assert verdict(name, slow).holds is False, name
    assert verdict("heavy-peers", study(costs=[rows[3] | {"peak_memory_mb": 10.0}, *rows[:3], *rows[4:]])).holds is False
    assert verdict("memory-reduced").holds is None  # no cost rows at all
    assert verdict("real-time", section).measured == "1 s an image on cpu"

    by_image = study(costs=[cost(name, parameters_used=1e4) for name in ("cucanet", "usdn", "u2mdn")])
    assert verdict("unsupervised-not-real-time", by_image).holds is True
    fast = Section(by_image.facts, replace(by_image.rows, scores=by_image.rows.scores.assign(seconds=0.01)))
    assert verdict("unsupervised-not-real-time", fast).holds is False


def test_ranks_are_among_all_networks_of_the_table():
    """What a page leaves out flips no rank: counts are of all networks, times undecided while some could change the half."""
    others = [name for name in PRINTED if name != "s3rnet-student"]
    dear = {"seconds_median": 2.0, "peak_memory_mb": 900.0}

    def found(rows):
        return verdict("four-costs-competitive", study(costs=rows))

    few = [cost("s3rnet-student"), *(cost(name, **dear, parameters_used=1.0, macs_conv=1.0) for name in others[:9])]
    assert found(few).holds is True  # the four that lack could make it the fifth of 14
    assert "rank 7 from the smallest of 14" in found(few).measured
    some = [*few[:7], *(row | {"seconds_median": 0.5} for row in few[7:])]
    assert found(some).holds is None and "time rank 4 of 10" in found(some).measured  # the fourth to the eighth of 14
    assert others[-1] in found(some).why and others[0] not in found(some).why
    whole = [cost("s3rnet-student"), *(cost(name, **dear) for name in others)]
    assert found(whole).holds is True
    slow = [cost("s3rnet-student", seconds_median=9.0), *(cost(name, **dear) for name in others[:9])]
    assert found(slow).holds is False  # whatever the others take
    assert found([]).holds is None
    section = study(costs=whole)
    light = section.rows.fidelity.copy()
    light.loc[light["method"] == "s3rnet-student", "parameters_used"] = 1e9
    assert verdict("four-costs-competitive", Section(section.facts, replace(section.rows, fidelity=light))).holds is False
    assert verdict("student-fastest", study(costs=few)).holds is None and verdict("student-fastest", section).holds is True


def test_a_network_built_otherwise_is_told():
    table, = claims(study())
    why = {row[0]: row[COLUMNS.index("why")] for row in table.rows}
    assert "built smaller or larger than printed" in why["no-compromise"]  # made-up facts tell no published figures
    told = study(published={name: {4: {}} for name in PSNR})
    assert not [row for row in module.claims(told)[0].rows if "built smaller or larger" in row[COLUMNS.index("why")]]
