"""What the papers say, by these rows: orders, claims, S3RNet's ideas, splits that leak, and whether the LR-HSI is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import numpy as np
import pandas as pd
from scipy import stats

from benchmark.page.cells import decibels
from benchmark.page.claims import MEASURED, decided
from benchmark.page.findings.parts import (
    ON,
    OTHER,
    SAME,
    WORDS,
    Held,
    Part,
    Table,
    correlation,
    interval,
    markdown,
    of_group,
    psnr,
    signed,
)
from benchmark.page.section import Section
from benchmark.page.statistics import holm
from benchmark.page.verdicts import LEAST_EFFECT_DB, LEAST_IMAGES
from benchmark.protocol import CLEAN, OTHER_LR_HSI, Scenario, noise
from benchmark.published import figures, published
from benchmark.studies import study
from benchmark.studies.shared import ALONE
from methods import available
from methods.registry import split_label

DECIDING = ("aviris", "aviris-short", "hour", "seeds", "distillation-steps", "procedural-256", "ablation-loss",
            "ablation-depth", "ablation-fusion", "unsupervised")
ORDERED = ("aviris", "aviris-short", "six-bands", "six-bands-short")
UNMOVED = 8  # networks that are named
CHANCE = 0.05  # a p below it is counted


def orderings(held: Held) -> Part:
    """Rank correlations of what the papers print and what is measured here."""
    lines: Table = [["study", "MSI bands", "split", "networks with a published figure", "Spearman's rho", "95 % interval",
                     "pairs in the same order"]]
    found, shown = [], 0
    for label, name, section in [(each, *part) for each in ORDERED for part in held(each).splits.items()]:
        bands = section.facts.msi_bands[0]
        pairs = []
        for method in section.facts.methods:
            printed = figures(method).get(bands, {}).get("psnr_db") if method in available("supervised") else None
            if printed is not None and math.isfinite(printed.value) and math.isfinite(psnr(section, method)):
                pairs.append((printed.value, psnr(section, method)))
        if len(pairs) < 4:
            lines.append([label, str(bands), name, str(len(pairs)), "too few", "", ""])
            continue
        theirs, ours = np.array(pairs).T
        low, high = interval(theirs, ours)
        order = np.sign(np.subtract.outer(theirs, theirs)) * np.sign(np.subtract.outer(ours, ours))
        upper = order[np.triu_indices(len(pairs), 1)]
        found.append(correlation(theirs, ours))
        shown += low > 0
        lines.append([label, str(bands), name, str(len(pairs)), f"{found[-1]:.2f}", f"{low:.2f} to {high:.2f}",
                      f"{int((upper > 0).sum())} of {len(upper)}"])
    if not found:
        return Part("Whether published orderings hold")
    return Part(
        "Whether published orderings hold",
        f"Spearman's rho with the printed tables lies between {min(found):.2f} and {max(found):.2f} in {len(found)} "
        f"comparisons; in {shown} the 95 % interval lies above 0.",
        (markdown(lines),
         "Published: PSNR of Table I or the release's long table, other data, after hours to days of training; here: equal "
         "minutes. Interval: bootstrap over methods. One that holds 0 says that nothing is shown."))


def claimed(held: Held) -> Part:
    """What the papers claim, by the rows of every study that decides it."""
    found: dict[str, dict[bool, list[str]]] = {}
    for name in DECIDING:
        for claim in published().claims:
            verdict = decided(held(name).whole, claim) if claim.id in MEASURED else None
            if verdict is not None and verdict.holds is not None:
                found.setdefault(claim.id, {}).setdefault(verdict.holds, []).append(name)
    lines: Table = [["claim", "holds in", "does not hold in", "the printed tables"]]
    by_rows = [claim for claim in published().claims if claim.id in MEASURED]
    for claim in by_rows:
        verdicts = found.get(claim.id, {})
        if verdicts:
            lines.append([claim.text.replace("|", "/").rstrip("."), *(", ".join(verdicts.get(holds, ())) or "—"
                                                                     for holds in (True, False)), claim.tables_say])
    kinds = [set(verdicts) for verdicts in found.values()]
    return Part(
        "What the papers claim",
        f"Of {len(by_rows)} claims that rows can decide, {kinds.count({True})} hold wherever they are decided, "
        f"{kinds.count({False})} nowhere, {kinds.count({True, False})} in some studies, {len(by_rows) - len(found)} are not "
        f"decided. They are the papers' sentences, tried after minutes of training, by {LEAST_IMAGES} pairs and more.",
        (markdown(lines),
         "Pairs are seeds of training where both sides have three or more, images otherwise; of the same flight, with its one "
         "image, seeds alone decide, and the pages say on which splits each was decided. Not decided: too few pairs, or "
         "methods that are missing or say nothing (a constant output, below bicubic on clean images, unmoved by the noise). A "
         "claim holds where every interval lies on its side; it does not hold where one lies wholly on the other, corrected "
         f"for their number where pairs are seeds. Differences below {LEAST_EFFECT_DB:g} dB of PSNR, or as much of an error, "
         "count neither way. Three images say that all three lie there: a direction, and no test. Where a claim names no "
         "size, the suite's own is used. The pages give numbers and reasons, and the claims that counting alone decides."))


def ideas(held: Held) -> Part:
    """What each part of S3RNet is worth, in reduced networks: seeds as pairs."""
    lines: Table = [["what is changed", "network", *(text for words in WORDS.values() for text in (
        f"{words}, as published", "changed", "change", "p"))]]
    found: dict[str, list[float]] = {where: [] for where in ON.values()}
    beside = {split: psnr(section, "bicubic") for split, section in held("aviris").splits.items()}
    reached: list[tuple[str, float]] = []
    for name, words in (("ablation-loss", "recipe"), ("ablation-fusion", "fusion"), ("ablation-depth", "depths")):
        splits = held(name).splits
        for method in splits[SAME].facts.methods:
            base, own = split_label(method)
            apart = {split: _by_seed(splits[split], method, base) for split in WORDS} if words in own else {}
            # A student's loss leaves its teacher as it is; a seed that another processor trained differs by rounding alone.
            if any(changes and median(map(abs, changes)) > 0 for changes in apart.values()):
                what = ", ".join(f"{key}={value}".replace(" ", "") for key, value in own.items())
                lines.append([what, base, *(text for split, changes in apart.items() for text in (
                    decibels(psnr(splits[split], base)), decibels(psnr(splits[split], method)), *_tested(changes)))])
                for split, changes in apart.items():
                    reached.append((split, psnr(splits[split], method)))
                    if len(changes) > 1:
                        found[ON[split]].append(float(stats.ttest_1samp(changes, 0.0).pvalue))
    if len(lines) == 1:
        return Part("What each idea of S3RNet is worth")
    below = {where: sum(p < CHANCE for p in every) for where, every in found.items()}
    corrected = sum(p < CHANCE for p in holm([p for every in found.values() for p in every]))
    steps = study("ablation-loss").training["steps"]
    below_bicubic = sum(score < beside[split] for split, score in reached)
    return Part(
        "What each idea of S3RNet is worth",
        f"Of {len(lines) - 1} changes {' and '.join(f'{count} differ {where}' for where, count in below.items())} with p "
        f"below {CHANCE:g}, where chance alone gives {CHANCE * (len(lines) - 1):.0f}; corrected for the number of tests, "
        f"{corrected or 'none'}. After {steps} steps {below_bicubic} of the {len(reached)} means compared are below bicubic "
        f"({decibels(beside[SAME])} / {decibels(beside[OTHER])} dB).",
        ("PSNR (dB) as published and when it is changed, and the change: mean and standard deviation over the seeds' "
         "differences, p of a paired t test, not corrected. Changes share the trainings they are compared with, and a teacher "
         "and its student share theirs: they are not as many findings as lines. Reduced networks, "
         f"{steps} steps. `recipe=alone`: the student without its teacher.", markdown(lines)))


def distillation(held: Held) -> Part:
    """Whether the student gains by its teacher, by equal steps and by equal minutes a network: seeds as pairs."""
    student = "s3rnet-student"
    lines: Table = [["split", "steps with the teacher", "alone", "with its teacher (dB)", "alone (dB)", "by seed", "difference",
                     "p"]]
    said = []
    for name in ("distillation-steps", "distillation-minutes"):
        chosen = study(name)
        steps = [chosen.stages_of(label)[0].steps or 0 for label in (student, ALONE)]
        for split, section in held(name).splits.items():
            for words, scenario in (("clean", CLEAN), ("both 25 dB", noise("both", 25))):
                apart = _by_seed(section, student, ALONE, scenario)
                if len(apart) > 1:
                    mean, p = _tested(apart)
                    lines.append([f"{split}, {words}", *(f"{each:,}" for each in steps),
                                  *(decibels(psnr(section, label, scenario)) for label in (student, ALONE)),
                                  ", ".join(map(signed, apart)), mean, p])
                    if scenario == CLEAN:
                        said.append(f"{ON[split]}, {steps[0]:,} steps against {steps[1]:,} alone: {mean} dB (p {p})")
    if not said:
        return Part("Whether distillation adds to the student")
    beside = {split: decibels(psnr(section, "bicubic")) for split, section in held("aviris").splits.items()}
    return Part(
        "Whether distillation adds to the student",
        f"Clean images, {'; '.join(said)}.",
        ("PSNR, seeds as pairs, p of a paired t test. The published networks, one learning rate for all, with as many steps "
         "alone ([study distillation-steps](distillation-steps/index.html)), and with so many that a network takes as long as "
         f"with its teacher ([study distillation-minutes](distillation-minutes/index.html)): {_seconds(held)}. Bicubic: "
         f"{beside[SAME]} / {beside[OTHER]} dB.", markdown(lines)))


def _seconds(held: Held) -> str:
    """What a step of the student takes with its teacher and alone, in the mean over seeds."""
    curves = pd.concat([held(name).whole.rows.curves for name in ("distillation-steps", "distillation-minutes")])
    runs = curves.groupby(["method", "job"])[["step", "seconds"]].max()
    each = (runs["seconds"] / runs["step"]).groupby(level="method").mean()
    return f"a step of the pair takes {each['s3rnet-student']:.2f} s, one of the student alone {each[ALONE]:.2f} s"


def _by_seed(section: Section, method: str, base: str, scenario: Scenario = CLEAN) -> list[float]:
    """By how much one is better in PSNR than the other, seed by seed."""
    one, other = (dict(section.score(scenario, 4, label, "psnr_db").by_seed) for label in (method, base))
    return [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]


def _tested(changes: Sequence[float]) -> tuple[str, str]:
    """Mean and standard deviation, and the p of a t test against none."""
    if len(changes) < 2:
        return signed(changes[0]) if changes else "—", "—"
    spread, chance = float(np.std(changes, ddof=1)), float(stats.ttest_1samp(changes, 0.0).pvalue)
    return f"{signed(sum(changes) / len(changes))} ± {decibels(spread)}", f"{chance:.2g}" if math.isfinite(chance) else "—"


def leak(held: Held) -> Part:
    """What training beside the tested tiles is worth."""
    (section,) = held("leak").splits.values()
    lines: Table = [["network", "trained on another flight", "trained beside the tested tiles", "worth", "p", "by seed"]]
    said, beside_all = list[str](), list[float]()
    for name in dict.fromkeys(split_label(method)[0] for method in section.facts.methods if "train=" in method):
        apart, beside = (psnr(section, f"{name}@train={train}") for train in ("flight", "overlapping"))
        beside_all.append(beside)
        by_seed = _by_seed(section, f"{name}@train=overlapping", f"{name}@train=flight")
        worth, chance = _tested(by_seed)
        said.append(f"`{name}` {signed(beside - apart)} dB (p {chance})")
        lines.append([f"`{name}`", decibels(apart), decibels(beside), worth, chance, ", ".join(map(signed, by_seed))])
    return Part(
        "What a split is worth that mixes the tiles of a flight",
        f"Where 95 % of the tested pixels are trained on: {', '.join(said)}, on the same tiles; "
        f"{sum(one > psnr(section, 'bicubic') for one in beside_all) or 'none'} of them above bicubic with it.",
        (markdown(lines),
         "The same networks, steps and tested tiles, seeds as pairs ([study leak](leak/index.html)); for comparison, bicubic "
         f"{decibels(psnr(section, 'bicubic'))} and gsa {decibels(psnr(section, 'gsa'))} dB. The tiles that are trained on "
         "overlap those tested, as tiles that are cut with overlap and split at random do: 95 % of each tested one is seen. "
         "What the same scene is worth without a shared pixel is not told apart. SSUF takes no MSI, and noise of 25 dB on its "
         "LR-HSI moves its PSNR by hundredths of a dB: its output is all but constant."))


def uses(held: Held) -> Part:
    """Who makes use of the LR-HSI at all, of networks that are better than interpolating it."""
    splits = held("aviris").splits
    lines: Table = [["network", *(f"{name}, {words}" for name in splits for words in ("its own", "another scene's", "change"))]]
    lost: dict[str, dict[str, float]] = {}
    for split, section in splits.items():
        changes = {method: psnr(section, method, OTHER_LR_HSI) - psnr(section, method)
                   for method in of_group(section, "trained")
                   if method != "ssif" and psnr(section, method) > psnr(section, "bicubic")}
        lost[split] = {method: changes[method] for method in sorted(changes, key=lambda each: -changes[each])
                       if math.isfinite(changes[method])}
    most = list(lost[SAME])
    for method in [*most[:UNMOVED], *most[UNMOVED:][-1:]]:
        lines.append([f"`{method}`", *(text for section in splits.values() for own, other in [
            (psnr(section, method), psnr(section, method, OTHER_LR_HSI))] for text in (
                decibels(own), decibels(other), signed(other - own)))])
    if not most:
        return Part("Who uses the LR-HSI")
    floor = ""
    here = splits[OTHER]
    if "ssif" in here.facts.methods and math.isfinite(psnr(here, "ssif")):
        floor = (f" The floor of networks that see no LR-HSI at all, `ssif`: {decibels(psnr(splits[SAME], 'ssif'))} / "
                 f"{decibels(psnr(here, 'ssif'))} dB.")
    said = ", ".join(f"{sum(change > -1 for change in lost[split].values()) or 'none'} of {len(lost[split])} {ON[split]}"
                     for split in splits)
    return Part(
        "Who uses the LR-HSI",
        f"Of networks above bicubic, less than 1 dB is lost with the LR-HSI of another scene by {said}.",
        (markdown(lines), "PSNR (dB) with the LR-HSI of another scene in the place of its own: of the networks above bicubic "
         f"on the same flight the {min(UNMOVED, len(most))} that lose least there, and the one that loses most. Who loses "
         "little makes little use of it. One that is below bicubic tells nothing, nor does one whose output is constant: they "
         f"are left out.{floor}"))
