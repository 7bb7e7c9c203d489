"""What the rows of all studies say together, as a text of two pages: ``reports/findings.md``.

    python run_benchmark.py findings

Every number is taken from rows; sentences hold whatever the numbers are. What has no rows yet is said to be missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import stats

from benchmark import store
from benchmark.degradations import Stripes, degraded
from benchmark.page.axes import axes_of
from benchmark.page.cells import decibels
from benchmark.page.claims import MEASURED, decided
from benchmark.page.defects import farthest
from benchmark.page.facts import facts_of, rows_of
from benchmark.page.section import Section, sections
from benchmark.page.statistics import of_images
from benchmark.plan import PlanError, plan
from benchmark.protocol import CLEAN, OTHER_LR_HSI, Scenario, noise, shifted, told_psf
from benchmark.published import figures, published
from benchmark.studies import study
from methods import available, card
from methods.registry import split_label

SAME, OTHER = "test-same-flight", "test-other-flight"
RESAMPLES, SEED = 2000, 0  # of the interval of a rank correlation, over methods
QUICK = 0.1  # seconds an image
UNMOVED = 8  # networks that are named
GROUPS = (("known", "told the responses"), ("blind", "told nothing"), ("per image", "optimised for each image"),
          ("trained", "trained here"), ("shipped", "comes trained"))
DECIDING = ("aviris", "hour", "seeds", "procedural-256", "ablation-loss", "ablation-depth", "ablation-fusion", "unsupervised")
FOLDS = ("fold-2", "fold-3", "fold-4")  # study aviris is the first
PLACE = ("<!-- leaders -->", "<!-- end of leaders -->")
Table = list[list[str]]


def findings(results: Path) -> str:
    """The text.

    Args:
        results: results folder.
    """
    held = cache(lambda name: _held(name, results))
    parts = (leading, folds, seeds, six_bands, orderings, claimed, leak, ideas, uses, defects, choices, trainings, which)
    texts = [first(held), *(f"## {number}. {part(held)}" for number, part in enumerate(parts, 1))]
    return "\n\n".join(["# Findings", *texts]) + "\n"


def write_findings(results: Path, reports: Path, readme: Path | None = None) -> Path:
    """Write ``findings.md`` of the reports folder, and the table of the leaders into a text that has a place for it.

    Args:
        results: results folder.
        reports: reports folder.
        readme: a text with the lines of :data:`PLACE`, between which the table is put.

    Raises:
        StoreError: it cannot be written.
    """
    path = reports / "findings.md"
    with store.writing(reports, "--reports"):
        reports.mkdir(parents=True, exist_ok=True)
        path.write_text(findings(results), encoding="utf-8")
    if readme is not None:
        with store.writing(readme.parent, "--readme"):
            readme.write_text(with_leaders(readme.read_text(encoding="utf-8"), results), encoding="utf-8")
    return path


def with_leaders(text: str, results: Path) -> str:
    """A text with the table of the leaders between the lines of :data:`PLACE`.

    Raises:
        PlanError: the text has no such lines.
    """
    before, begin, rest = text.partition(PLACE[0])
    _, end, after = rest.partition(PLACE[1])
    if not (begin and end):
        raise PlanError(f"no place for the table: put the lines {PLACE[0]} and {PLACE[1]} into the text")
    return f"{before}{begin}\n{markdown(leaders(cache(lambda name: _held(name, results)), 2))}\n{end}{after}"


@dataclass(frozen=True)
class Studied:
    """The sections of a study as it is: of all its rows, and by split."""

    whole: Section
    splits: dict[str, Section]


Held = Callable[[str], Studied]


def _held(name: str, results: Path) -> Studied:
    chosen = study(name)
    jobs = plan(chosen, "cpu")
    rows = rows_of(chosen, jobs, results)
    whole, parts = sections(facts_of(chosen, jobs, results, rows), rows)
    return Studied(whole, {each.split.name: each for each in parts if each.split})


# ------------------------------------------------------------------------------------------------------------ the parts


def leaders(held: Held, count: int = 3) -> Table:
    """The best of each kind by PSNR on other flights."""
    splits = held("aviris").splits
    here = splits[OTHER]
    columns = (("clean", CLEAN), ("LR-HSI 35 dB", noise("lr_hsi", 35)), ("both 25 dB", noise("both", 25)))
    lines: Table = [["method", "", "same flight", *(f"other flights, {words}" for words, _ in columns), "SAM other (deg)"]]
    for kind, words in GROUPS:
        for method in _best(here, kind)[:count]:
            figures_here = [*(psnr(here, method, scenario) for _, scenario in columns), value(here, method, CLEAN, "sam_deg")]
            lines.append([f"`{method}`", words, decibels(psnr(splits[SAME], method)), *map(decibels, figures_here)])
    return lines


def first(held: Held) -> str:
    """Of what rows, trained how."""
    splits = held("aviris").splits
    facts = splits[OTHER].facts
    images = ", ".join(f"{name} {len(section.split.images)}" for name, section in splits.items() if section.split)
    return (f"From the rows of [study aviris](aviris/index.html): {len(facts.methods)} methods, held-out images: {images}. "
            "PSNR in dB, 4 MSI bands where nothing else is said. " + ". ".join(facts.labels) + ".")


def leading(held: Held) -> str:
    """The best of each kind, and how many networks pass bicubic and the floors."""
    return "\n\n".join(["Who leads", markdown(leaders(held)), _counted(held("aviris").splits)])


def _counted(splits: dict[str, Section]) -> str:
    """How many networks pass the training-free ones that everybody has, and the one that sees no LR-HSI."""
    here = splits[OTHER]
    facts = here.facts
    asked = [method for method in facts.methods if _group(here, method) == "trained"]
    networks = [method for method in asked if math.isfinite(psnr(here, method))]
    floors = [name for name in ("bicubic", "ssif", "gsa") if name in facts.methods and math.isfinite(psnr(here, name))]
    counted = "; ".join(
        f"above {name} ({decibels(psnr(splits[SAME], name))} / {decibels(psnr(here, name))} dB): "
        f"{sum(psnr(splits[SAME], each) > psnr(splits[SAME], name) for each in networks if each != name)} on the same flight, "
        f"{sum(psnr(here, each) > psnr(here, name) for each in networks if each != name)} on other flights" for name in floors)
    return f"Of {len(networks)} trained networks{f', {len(asked)} asked for' if len(asked) > len(networks) else ''}, {counted}."


def folds(held: Held) -> str:
    """Every scene of flight A held out once."""
    found = [held(name).splits[SAME] for name in ("aviris", *FOLDS)]
    images = [image for section in found for image in (section.split.images if section.split else ())]
    methods = [method for method in found[-1].facts.methods if _group(found[0], method) == "trained" or method in (
        "bicubic", "gsa", "hysure", "hysure-blind", "subspace-ridge", "subspace-ridge-blind")]
    lines: Table = [["method", *(f"`{image}`" for image in images), "mean", "95 % interval"]]
    for method in methods:
        of_scenes = {image: score for section in found
                     for image, score in of_images(section, CLEAN, 4, method, "psnr_db").items()}
        if set(of_scenes) >= set(images):
            values = [of_scenes[image] for image in images]
            low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
            lines.append([f"`{method}`", *map(decibels, [*values, float(np.mean(values))]),
                          f"{decibels(float(low))} to {decibels(float(high))}"])
    if len(lines) == 1:
        return "Each scene of flight A left out once\n\nNot measured yet."
    return "\n\n".join([
        "Each scene of flight A left out once", markdown(lines),
        f"Same flight, {len(images)} scenes, in {len(found)} trainings: those that share pixels are left out together. "
        "Interval: of the mean, t over scenes. The network was chosen by its scores in study aviris, which is the first fold; "
        "the others were trained there alone, and what comes trained has seen scenes of the other folds."])


def seeds(held: Held) -> str:
    """What another start of a training changes."""
    lines: Table = [["network", "split", "by seed", "mean", "standard deviation"]]
    for name, section in held("seeds").splits.items():
        for method in section.facts.methods:
            values = [score for _, score in section.score(CLEAN, 4, method, "psnr_db").by_seed]
            if len(values) > 1:
                lines.append([f"`{method}`", name, ", ".join(map(decibels, values)), decibels(float(np.mean(values))),
                              decibels(float(np.std(values, ddof=1)))])
    if len(lines) == 1:
        return "What a seed changes\n\nNot measured yet."
    apart = [signed(psnr(section, "s3rnet-subspace@train=and-procedural") - psnr(section, "subspace-ridge"))
             for section in held("aviris").splits.values()]
    return "\n\n".join([
        "What a seed changes", markdown(lines),
        "Clean images, the budget of study aviris ([study seeds](seeds/index.html)). Differences between networks of one seed "
        "that are smaller than this say nothing. `s3rnet-subspace` corrects what `subspace-ridge` finds, by "
        f"{' / '.join(apart)} dB at this budget."])


def six_bands(held: Held) -> str:
    """The same with 6 MSI bands, and whether the order of methods is the same."""
    splits, four = held("six-bands").splits, held("aviris").splits
    lines: Table = [["method", "", *(f"{name}, {words}" for name in ("same flight", "other flights")
                                     for words in ("6 bands", "4 bands"))]]
    for kind, words in GROUPS:
        for method in _best(splits[OTHER], kind)[:2]:
            lines.append([f"`{method}`", words, *(decibels(psnr(section, method)) for name in (SAME, OTHER)
                                                 for section in (splits[name], four[name]))])
    if len(lines) == 1:
        return "Six MSI bands\n\nNot measured yet."
    alike = []
    for name, words in ((SAME, "same flight"), (OTHER, "other flights")):
        both = [(psnr(splits[name], method), psnr(four[name], method)) for method in splits[name].facts.methods]
        both = [pair for pair in both if all(map(math.isfinite, pair))]
        alike.append(f"{stats.spearmanr(*zip(*both)).statistic:.2f} over {len(both)} methods, {words}")
    return "\n\n".join([
        "Six MSI bands", markdown(lines), _counted(splits) + f" Spearman's rho of the order with 4 and with 6 bands: "
        f"{'; '.join(alike)} ([study six-bands](six-bands/index.html))."])


def orderings(held: Held) -> str:
    """Rank correlations of what the papers print and what is measured here."""
    lines: Table = [["MSI bands", "split", "networks with a published figure", "Spearman's rho", "95 % interval",
                     "pairs in the same order"]]
    for bands, name, section in [(bands, name, section) for bands, study_name in ((4, "aviris"), (6, "six-bands"))
                                 for name, section in held(study_name).splits.items()]:
        pairs = []
        for method in section.facts.methods:
            printed = figures(method).get(bands, {}).get("psnr_db") if method in available("supervised") else None
            if printed is not None and math.isfinite(printed.value) and math.isfinite(psnr(section, method)):
                pairs.append((printed.value, psnr(section, method)))
        if len(pairs) < 4:
            lines.append([str(bands), name, str(len(pairs)), "too few", "", ""])
            continue
        theirs, ours = np.array(pairs).T
        low, high = interval(theirs, ours)
        order = np.sign(np.subtract.outer(theirs, theirs)) * np.sign(np.subtract.outer(ours, ours))
        upper = order[np.triu_indices(len(pairs), 1)]
        lines.append([str(bands), name, str(len(pairs)), f"{stats.spearmanr(theirs, ours).statistic:.2f}",
                      f"{low:.2f} to {high:.2f}", f"{int((upper > 0).sum())} of {len(upper)}"])
    return "\n\n".join([
        "Do published orderings hold?", markdown(lines),
        "Published: PSNR of Table I or the release's long table, other data, after hours to days of training; here: equal "
        "minutes. Interval: bootstrap over methods. One that holds 0 says that nothing is shown."])


def claimed(held: Held) -> str:
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
    return "\n\n".join([
        "What the papers claim", markdown(lines),
        f"Of {len(by_rows)} claims that rows can decide, {kinds.count({True})} hold wherever they are decided, "
        f"{kinds.count({False})} nowhere, {kinds.count({True, False})} in some studies, {len(by_rows) - len(found)} are not "
        "decided by these rows: too few images, or methods that are missing. A claim holds where every interval lies on its "
        "side. The pages of the studies give numbers and reasons, and the claims that counting alone decides."])


def leak(held: Held) -> str:
    """What training beside the tested tiles is worth."""
    (section,) = held("leak").splits.values()
    lines: Table = [["network", "trained on another flight", "trained beside the tested tiles", "worth"]]
    for name in dict.fromkeys(split_label(method)[0] for method in section.facts.methods if "train=" in method):
        apart, beside = (psnr(section, f"{name}@train={train}") for train in ("flight", "overlapping"))
        lines.append([f"`{name}`", decibels(apart), decibels(beside), f"{decibels(beside - apart)} dB"])
    return "\n\n".join([
        "What a split is worth that mixes the tiles of a flight", markdown(lines),
        f"The same networks, steps and tested tiles ([study leak](leak/index.html)); for comparison, bicubic "
        f"{decibels(psnr(section, 'bicubic'))} and gsa {decibels(psnr(section, 'gsa'))} dB."])


def ideas(held: Held) -> str:
    """What each part of S3RNet is worth, in reduced networks: seeds as pairs."""
    lines: Table = [["what is changed", "network", "same flight", "p", "other flights", "p"]]
    for name, words in (("ablation-loss", "recipe"), ("ablation-fusion", "fusion"), ("ablation-depth", "depths")):
        splits = held(name).splits
        for method in splits[SAME].facts.methods:
            base, own = split_label(method)
            apart = [_by_seed(section, method, base) for section in splits.values()] if words in own else []
            if any(len(set(changes)) > 1 or any(changes) for changes in apart):  # a loss of the student's leaves its teacher
                what = ", ".join(f"{key}={value}".replace(" ", "") for key, value in own.items())
                lines.append([what, base, *(text for changes in apart for text in _tested(changes))])
    return "\n\n".join([
        "What each idea of S3RNet is worth",
        "Change of PSNR (dB) when it is changed, against the same network as published: mean and standard deviation over the "
        "seeds' differences, p of a paired t test. Reduced networks, 300 steps. `recipe=alone`: the student without its "
        "teacher. No p is corrected: of so many tests one in twenty is below 0.05 by chance.", markdown(lines),
        distillation(held)])


def distillation(held: Held) -> str:
    """Whether the student gains by its teacher: seeds as pairs."""
    lines: Table = [["student with its teacher, less alone", "by seed", "mean", "p"]]
    for name, section in held("distillation").splits.items():
        for words, scenario in (("clean", CLEAN), ("both 25 dB", noise("both", 25))):
            apart = _by_seed(section, "s3rnet-student", "s3rnet-student@recipe=alone", scenario)
            if len(apart) > 1:
                lines.append([f"{name}, {words}", ", ".join(map(signed, apart)), *_tested(apart)])
    if len(lines) == 1:
        return "Whether distillation adds to the student: not measured yet."
    return "\n\n".join([
        "Whether distillation adds to the student, with twice the steps ([study distillation](distillation/index.html)):",
        markdown(lines)])


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


def uses(held: Held) -> str:
    """Who makes use of the LR-HSI at all."""
    splits = held("aviris").splits
    here = splits[OTHER]
    changes = {method: psnr(here, method, OTHER_LR_HSI) - psnr(here, method) for method in here.facts.methods
               if _group(here, method) == "trained"}
    lost = {method: changes[method] for method in sorted(changes, key=lambda each: -changes[each])
            if math.isfinite(changes[method])}
    lines: Table = [["network", *(f"{name}, {words}" for name in splits for words in ("its own", "another scene's", "change"))]]
    for method in [*list(lost)[:UNMOVED], *([] if len(lost) <= UNMOVED else list(lost)[-1:])]:
        lines.append([f"`{method}`", *(text for section in splits.values() for own, other in [
            (psnr(section, method), psnr(section, method, OTHER_LR_HSI))] for text in (
                decibels(own), decibels(other), signed(other - own)))])
    counted = f"Of {len(lost)} networks {sum(change > -1 for change in lost.values())} lose less than 1 dB on other flights."
    floor = ""
    if "ssif" in here.facts.methods and math.isfinite(psnr(here, "ssif")):
        floor = (f" The floor of networks that see no LR-HSI at all, `ssif`: {decibels(psnr(splits[SAME], 'ssif'))} / "
                 f"{decibels(psnr(here, 'ssif'))} dB.")
    words = (f"PSNR (dB) with the LR-HSI of another scene in the place of its own: the {UNMOVED} networks that lose least, and "
             f"the one that loses most. Who loses little makes little use of it. {counted}{floor}")
    return "\n\n".join(["Who uses the LR-HSI", markdown(lines), words])


def defects(held: Held) -> str:
    """What goes wrong first."""
    section = held("degradations").splits[OTHER]
    levels = [(axis, farthest(axis)) for axis in axes_of(section.facts.scenarios).values()]
    shown = [method for method in ("gsa", "hysure", "hysure-blind", "subspace-ridge", "subspace-ridge-blind",
                                   "subspace-net@weights=shipped", "mimo-sst") if method in section.facts.methods]
    found = []
    for axis, level in levels:
        changes = [psnr(section, method, level.scenario) - psnr(section, method) for method in shown]
        finite = [change for change in changes if math.isfinite(change)]
        if finite:
            found.append((sum(finite) / len(finite), f"{axis.name} {level.words}", changes))
    if not found:
        return "What goes wrong first\n\nNot measured yet."
    found.sort(key=lambda each: each[0])
    lines: Table = [["defect", "mean", *(f"`{method}`" for method in shown)]]
    lines += [[words, signed(mean), *map(signed, changes)] for mean, words, changes in found]
    return "\n\n".join(["What goes wrong first",
                        "Change of PSNR (dB) from clean images on other flights, dearest first "
                        "([study degradations](degradations/index.html)):", markdown(lines)])


def choices(held: Held) -> str:
    """What choosing parameters on the test images is worth, and which learning rates were taken."""
    splits = held("aviris").splits
    words = []
    for method in splits[OTHER].facts.methods:
        base, own = split_label(method)
        if own.get("keep") == "best-on-test" and math.isfinite(psnr(splits[OTHER], method)):
            gains = [psnr(section, method) - psnr(section, base) for section in splits.values()]
            words.append(f"`{base}` kept where it is best on the held-out images instead of the validation scene: "
                         f"{signed(gains[0])} dB on the same flight, {signed(gains[1])} dB on other flights.")
    curves = held("aviris").whole.rows.curves
    trials = curves[curves["quantity"].str.startswith("val_psnr_db_at_lr_")] if len(curves) else curves
    if len(trials):
        best = trials.loc[trials.groupby("method")["value"].idxmax().dropna()]
        first_rates = trials.groupby("method")["quantity"].first()
        published = sum(first_rates[row.method] == row.quantity for row in best.itertuples())
        words.append(f"Of {len(best)} networks the short trial of learning rates took the published one for {published}, a "
                     f"higher one for {len(best) - published}.")
    return "\n\n".join(["What is chosen how", " ".join(words) or "Not measured yet."])


def trainings(held: Held) -> str:
    """What was trained for how long."""
    curves = held("aviris").whole.rows.curves
    lines: Table = [["training", "steps", "s a step", "minutes", "learning rate", "kept at step", "validation PSNR"]]
    for _, run in curves.groupby("job", sort=False):
        steps, seconds, kept = run["step"].max(), run["seconds"].max(), run[run["quantity"] == "val_psnr_db"]
        if not steps or not len(kept):
            continue
        best = kept.loc[kept["value"].idxmax()]
        rates = run.loc[run["quantity"] == "lr", "value"]
        lines.append([" + ".join(f"`{name}`" for name in dict.fromkeys(run["method"])), str(steps), f"{seconds / steps:.2f}",
                      f"{seconds / 60:.1f}", f"{rates.max():.0e}" if len(rates) else "", str(best["step"]),
                      decibels(float(best["value"]))])
    return "\n\n".join(["What was trained for how long", markdown(lines),
                        "Processor minutes of one core, after the trial of learning rates."])


def which(held: Held) -> str:
    """Which method to take for which case."""
    section = held("aviris").splits[OTHER]
    facts = section.facts
    free = [method for method in facts.methods if _group(section, method) in ("known", "blind")]
    blind = [method for method in free if _group(section, method) == "blind"]
    trained = [method for method in facts.methods if _group(section, method) == "trained"]
    costs = section.rows.costs
    quick = set(costs[costs["seconds_median"] < QUICK]["method"]) if len(costs) else set()
    ours = [method for method in facts.methods if method.startswith("subspace-net@weights")]
    cases: tuple[tuple[str, Sequence[str], Scenario], ...] = (
        ("responses known, clean images", [*free, *ours], CLEAN), ("responses unknown, clean images", blind, CLEAN),
        ("responses known, LR-HSI noise 25 dB", [*free, *ours], noise("lr_hsi", 25)),
        ("responses unknown, LR-HSI noise 25 dB", blind, noise("lr_hsi", 25)),
        ("responses known, noise of 25 dB on both", [*free, *ours], noise("both", 25)),
        ("responses unknown, noise of 25 dB on both", blind, noise("both", 25)),
        ("a pixel of misregistration", [*free, *ours], shifted(1)),
        ("two pixels of misregistration", [*free, *ours], shifted(2)),
        ("a wrong PSF is told", [*free, *ours], told_psf(2.0)), ("stripes of 2 %", [*free, *ours], degraded(Stripes(0.02))),
        (f"under {QUICK:g} s an image of 96x96 pixels on one core", [method for method in free if method in quick], CLEAN),
        ("a network trained minutes on another flight", trained, CLEAN))
    lines: Table = [["case", "take", "PSNR other flights", "next", "PSNR"]]
    for words, methods, scenario in cases:
        ranked = sorted((each for each in methods if math.isfinite(psnr(section, each, scenario))),
                        key=lambda each: -psnr(section, each, scenario))
        if ranked:
            top = [text for method in ranked[:2] for text in (f"`{method}`", decibels(psnr(section, method, scenario)))]
            lines.append([words, *top, *[""] * (4 - len(top))])
    return "\n\n".join(["Which method to take", markdown(lines),
                        "Of the training-free methods (and `subspace-net` as shipped, where responses are known) by mean PSNR "
                        f"on {len(section.split.images) if section.split else 0} images of other flights; the order on your "
                        "scenes may differ: `fuse` tries several in one command."])


# ---------------------------------------------------------------------------------------------------------------- words


def value(section: Section, method: str, scenario: Scenario, column: str) -> float:
    """A mean over images with the study's first MSI band count; NaN where it is not measured."""
    return section.score(scenario, section.facts.msi_bands[0], method, column).value


def psnr(section: Section, method: str, scenario: Scenario = CLEAN) -> float:
    """Of :func:`value`, the PSNR in dB."""
    return value(section, method, scenario, "psnr_db")


def _best(section: Section, kind: str) -> list[str]:
    """The measured methods of a kind, best first."""
    own = [method for method in section.facts.methods if _group(section, method) == kind]
    return sorted((method for method in own if math.isfinite(psnr(section, method))), key=lambda each: -psnr(section, each))


def _group(section: Section, method: str) -> str:
    """With which methods one is named: by what it is told, or how it is made."""
    if "weights" in split_label(method)[1]:
        return "shipped"
    kind = section.facts.kinds.get(method, "")
    return "per image" if kind and card(method).family == "unsupervised" else kind


def interval(first_values: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """95 % of a rank correlation, methods drawn with replacement; draws that are constant are left out."""
    draws, found = np.random.default_rng(SEED), list[float]()
    while len(found) < RESAMPLES:
        chosen = draws.integers(0, len(second), len(second))
        if len(set(chosen)) > 2:
            found.append(float(stats.spearmanr(first_values[chosen], second[chosen]).statistic))
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)


def signed(number: float) -> str:
    """As :func:`decibels`, with its sign."""
    return f"{'+' if round(number, 2) >= 0 else ''}{decibels(number)}".replace("-", "−") if math.isfinite(number) else "—"


def markdown(lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its first line the heading."""
    head, *rest = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rest))
