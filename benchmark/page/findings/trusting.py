"""How far the numbers carry: other minutes, other scenes, other seeds, and how they were made."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from benchmark.page.cells import decibels
from benchmark.page.findings.parts import (
    ON,
    OTHER,
    SAME,
    WORDS,
    Held,
    Part,
    Table,
    correlation,
    markdown,
    of_group,
    psnr,
    ranked,
    signed,
)
from benchmark.page.statistics import of_images
from benchmark.page.training import TRIAL
from benchmark.protocol import CLEAN
from benchmark.studies import study
from methods.registry import split_label

FOLDS = ("aviris-short", "fold-2", "fold-3", "fold-4")  # the first is fold 1
BESIDE = ("bicubic", "gsa", "hysure", "hysure-blind", "subspace-ridge", "subspace-ridge-blind")  # the networks of folds


def more_minutes(held: Held) -> Part:
    """What more minutes a network change."""
    few, many = held("aviris-short").splits, held("aviris").splits
    before, after = (study(name).training["minutes"] for name in ("aviris-short", "aviris"))
    # One that is told the responses starts at an estimate that no training moves.
    networks = ranked(many[OTHER], (method for method in of_group(many[OTHER], "trained")
                                    if many[OTHER].facts.told.get(method) != "known"))
    networks = ranked(few[OTHER], [method for method in of_group(few[OTHER], "trained") if method in networks])
    if len(networks) < 2:
        return Part("What more minutes change")
    times = (f"{before:g} min", f"{after:g} min", "change")
    lines: Table = [["network", *(f"{words}, {time}" for words in WORDS.values() for time in times)]]
    for method in networks:
        pairs = [(psnr(few[split], method), psnr(many[split], method)) for split in WORDS]
        lines.append([f"`{method}`", *(text for short, long in pairs
                                       for text in (decibels(short), decibels(long), signed(long - short)))])
    said = []
    for split, where in ON.items():
        short, long = ([psnr(splits[split], method) for method in networks] for splits in (few, many))
        gains = np.subtract(long, short)
        said.append(f"{signed(float(np.median(gains)))} dB {where} (least "
                    f"`{networks[gains.argmin()]}` {signed(gains.min())}, most `{networks[gains.argmax()]}` "
                    f"{signed(gains.max())}; Spearman's rho of the order {correlation(short, long):.2f})")
    rates = [chosen_rates(held(name).whole.rows.curves) for name in ("aviris-short", "aviris")]
    anew = [f"`{method}` {' to '.join(rate.get((method, 0), 'none') for rate in rates)}" for method in networks
            if rates[0].get((method, 0)) != rates[1].get((method, 0))]
    passed = [sum(psnr(splits[OTHER], method) > psnr(splits[OTHER], "gsa") for method in networks) for splits in (few, many)]
    return Part(
        "What more minutes change",
        f"{after / before:g} times the minutes give {len(networks)} networks {' and '.join(said)}, in the median; "
        f"above gsa on other flights are {passed[1]} of them, after {before:g} minutes {passed[0]}.",
        (markdown(lines), f"Clean images. {after:g} processor minutes of one core where "
         f"[study aviris-short](aviris-short/index.html) gives {before:g}, S3RNet's pair twice as many. With "
         f"{after:g} minutes TFNet, SSRNet and MSDCNN go on after the 10,000 steps of their release. The "
         "learning rate is chosen anew, by a trial of a twentieth of the minutes, and another one was taken for "
         f"{len(anew)}: {', '.join(anew) or 'none'}. "
         "Networks whose output is constant in one of the two, and those that are told the responses, are left out."))


def chosen_rates(curves: pd.DataFrame) -> dict[tuple[str, int], str]:
    """Of networks and seeds with a trial of learning rates, the one that was taken.

    That is the one whose validation PSNR, summed over the networks of a training, is highest (``Training.best_factor``).

    Args:
        curves: logged by the trainings of one MSI band count.
    """
    trials = curves[curves["quantity"].str.startswith(TRIAL)] if len(curves) else curves
    taken: dict[str, str] = {}
    for job, own in trials.groupby("job", sort=False) if len(trials) else ():
        sums = own.groupby("quantity", sort=False)["value"].agg(lambda each: each.sum(skipna=False)).fillna(-math.inf)
        taken[job] = f"{float(str(sums.idxmax()).removeprefix(TRIAL)):g}"
    runs = curves[["method", "seed", "job"]].drop_duplicates() if len(curves) else curves
    return {(row.method, row.seed): taken[row.job] for row in runs.itertuples() if row.job in taken}


def folds(held: Held) -> Part:
    """Every scene of flight A held out once."""
    found = [held(name).splits[SAME] for name in FOLDS]
    images = [image for section in found for image in (section.split.images if section.split else ())]
    trained = of_group(found[-1], "trained")
    lines: Table = [["method", *(f"`{image}`" for image in images), "mean", "95 % interval"]]
    said = []
    for method in (name for name in found[-1].facts.methods if name in BESIDE or name in trained):
        of_scenes = {image: score for section in found
                     for image, score in of_images(section, CLEAN, 4, method, "psnr_db").items()}
        if set(of_scenes) >= set(images):
            values = [of_scenes[image] for image in images]
            mean = float(np.mean(values))
            low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
            lines.append([f"`{method}`", *map(decibels, [*values, mean]), f"{decibels(float(low))} to {decibels(float(high))}"])
            if method in (*trained, "gsa", "subspace-ridge"):
                said.append(f"`{method}` {decibels(mean)} dB ({lines[-1][-1]})")
    if len(lines) == 1:
        return Part("Each scene of flight A left out once")
    return Part(
        "Each scene of flight A left out once", f"Mean of {len(images)} scenes and its 95 % interval: {', '.join(said)}.",
        (markdown(lines),
         f"Same flight, {len(images)} scenes, in {len(found)} trainings: those that share pixels are left out together. "
         "Interval: of the mean, t over scenes. MIMO-SST was chosen by its scores in study aviris-short, which is the first "
         "fold, S3RNet's pair as what this suite is about; the others were trained there alone, and what comes trained has "
         "seen scenes of the other folds."))


def seeds(held: Held) -> Part:
    """What another start of a training changes: with a learning rate that each start chooses, and with one for all."""
    lines: Table = [["network", "study", "split", "by seed", "mean", "standard deviation", "learning rates taken"]]
    spreads: dict[str, dict[str, list[float]]] = {"seeds": {}, "distillation-steps": {}}
    for label, found in spreads.items():
        taken = chosen_rates(held(label).whole.rows.curves)
        for name, section in held(label).splits.items():
            for method in section.facts.methods:
                values = [score for _, score in section.score(CLEAN, 4, method, "psnr_db").by_seed]
                if len(values) > 1:
                    found.setdefault(ON[name], []).append(float(np.std(values, ddof=1)))
                    rates = [taken.get((method, seed), "") for seed in section.facts.seeds[method]]
                    lines.append([f"`{method}`", label, name, ", ".join(map(decibels, values)),
                                  decibels(float(np.mean(values))), decibels(found[ON[name]][-1]),
                                  ", ".join(filter(None, rates))])
    if not spreads["seeds"]:
        return Part("What a seed changes")
    most, one_rate = (" and ".join(f"{decibels(max(own))} dB {where}" for where, own in found.items())
                      for found in spreads.values())
    apart = [signed(psnr(section, "s3rnet-subspace@train=and-procedural") - psnr(section, "subspace-ridge"))
             for section in held("aviris").splits.values()]
    return Part(
        "What a seed changes",
        f"Standard deviations up to {most} over {len(study('seeds').seeds)} starts, each with the learning rate of its own "
        f"trial{f', and up to {one_rate} with one rate for all' if one_rate else ''}. All other networks of study aviris have "
        "one seed, and a difference of that size between two of them need not be one of methods.",
        (markdown(lines),
         "Clean images. [Study seeds](seeds/index.html) has the minutes of study aviris, of `s3rnet-subspace` those of study "
         "aviris-short; [study distillation-steps](distillation-steps/index.html) 2,000 steps at one learning rate. After "
         f"{study('aviris').training['minutes']:g} minutes, of one seed, `s3rnet-subspace` corrects what `subspace-ridge` "
         f"finds by {' / '.join(apart)} dB."))


def kept(held: Held) -> Part:
    """What choosing parameters on the test images is worth, and which learning rates were taken."""
    splits = held("aviris-short").splits
    words = []
    for method in splits[OTHER].facts.methods:
        base, own = split_label(method)
        if own.get("keep") == "best-on-test" and ranked(splits[OTHER], [method]):
            gains = [psnr(section, method) - psnr(section, base) for section in splits.values()]
            words.append(f"`{base}` kept where it is best on the held-out images instead of the validation scene, in a "
                         f"training of its own: {signed(gains[0])} dB on the same flight, {signed(gains[1])} dB on other "
                         "flights.")
    curves = held("aviris").whole.rows.curves
    taken = chosen_rates(curves)
    if taken:
        first = curves[curves["quantity"].str.startswith(TRIAL)].groupby("method")["quantity"].first()
        first = first.map(lambda quantity: f"{float(quantity.removeprefix(TRIAL)):g}")
        published = sum(rate == taken.get((method, 0)) for method, rate in first.items())
        words.append(f"Of {len(first)} networks the short trial of learning rates took the published one for {published}, a "
                     f"higher one for {len(first) - published}.")
    return Part("What is chosen how", " ".join(words))


def trainings(held: Held) -> Part:
    """What was trained for how long."""
    lines: Table = [["training", "steps", "s a step", "minutes", "learning rate", "kept at step", "validation PSNR"]]
    spent = 0.0
    for name in ("aviris", "aviris-short"):
        curves = held(name).whole.rows.curves
        taken = chosen_rates(curves)
        for _, run in curves.groupby("job", sort=False) if len(curves) else ():
            steps, seconds, scored = run["step"].max(), run["seconds"].max(), run[run["quantity"] == "val_psnr_db"]
            if not steps or not len(scored):
                continue
            best = scored.loc[scored["value"].idxmax()]
            rates = run.loc[run["quantity"] == "lr", "value"]
            spent += seconds / 3600
            rate = taken.get((run["method"].iloc[0], run["seed"].iloc[0])) or (f"{rates.max():.2g}" if len(rates) else "")
            lines.append([" + ".join(f"`{method}`" for method in dict.fromkeys(run["method"])), str(steps),
                          f"{seconds / steps:.2f}", f"{seconds / 60:.1f}", rate,
                          str(best["step"]), decibels(float(best["value"]))])
    if len(lines) == 1:
        return Part("What was trained for how long")
    steps_made = sorted(int(line[1]) for line in lines[1:])
    facts = held("aviris").whole.facts
    constant = [f"`{method}`" for method in facts.constant]
    black = {split: [f"`{method}`" for method in facts.methods if psnr(section, method) < 0]
             for split, section in held("aviris").splits.items()}
    worse = ", ".join(f"{', '.join(names)} {ON[split]}" for split, names in black.items() if names)
    failed = "; ".join([f"constant output: {', '.join(constant)}"] * bool(constant)
                       + [f"below 0 dB, worse than a black image: {worse}"] * bool(worse))
    trained, scored = (held("aviris").hours(kind) for kind in ("train", "score"))
    return Part(
        "What was trained for how long",
        f"{len(lines) - 1} trainings, {spent:.1f} hours of one core, of {steps_made[0]:,} to {steps_made[-1]:,} steps; "
        f"study aviris in all, but for its costs, {trained + scored:.1f} hours. What failed there: {failed or 'nothing'}.",
        (markdown(lines), "Processor minutes of one core, after the trial of learning rates; first those of study aviris, then "
         "those of study aviris-short. A pair has twice the minutes of its study. With trials and validations, study "
         f"aviris trained for {trained:.1f} hours; scoring took {scored:.1f}, methods optimised for each image included."))
