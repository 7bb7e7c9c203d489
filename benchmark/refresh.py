"""Stale rows whose numbers have not moved: measure a part of them again, and say so where it is equal.

A change of code makes rows stale; whether it moves a number only a measurement can tell. A stale job is measured again on
one image (a training up to its first logged epoch, a cost in its counts), and if every figure is equal to 1e-6 its rows are
marked as those of the code as it is, with the evidence beside them. Nothing is ever marked without.

Where a method's own code is unchanged and only the harness around it is not, a few methods stand for all of the same
split, scenario and MSI bands: those told the responses, then blind ones, that take seconds, three of them measured again and
all equal; trainings and scores of the results folder stand for trainings in the same way. So rows of trained networks whose
parameters are not on this machine, of methods that take minutes an image and of trainings by the clock need not be thrown away
for a change that they do not see.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from lightning_fabric import Fabric

from benchmark import rows, store
from benchmark.complexity import counts
from benchmark.evaluate import scored
from benchmark.jobs import has_weights
from benchmark.keys import canonical
from benchmark.machine import code_version, unchanged
from benchmark.metrics import METRICS
from benchmark.plan import Job
from benchmark.training import Training
from methods import card

HARNESS = {"protocol", "data", "scoring"}  # what one method can show for another
WITNESSES = 3  # or all that there are, at least two
NOT_HERE = 3.0  # in the order of what is measured again: never
LONGEST_EPOCH = 60.0  # seconds of a training's first epoch that are spent to show something for others


def refresh(jobs: list[Job], root: Path, fabric: Fabric) -> Iterator[tuple[Job, bool, str]]:
    """Each stale job with whether it could be marked fresh, and the evidence or the reason, as they are measured.

    Args:
        jobs: of a plan.
        root: results folder.
        fabric: device.
    """
    stale = {job.key: set(store.held(root, job).changed) for job in jobs if store.state(root, job) == "stale"}
    for kind in ("train", "cost", "score"):  # scores lean on trainings that are fresh
        waiting: dict[tuple[Any, ...], list[Job]] = {}
        for job in (job for job in jobs if job.key in stale and job.kind == kind):
            afar = kind == "train" or (kind == "score" and cost_of(job, root) >= NOT_HERE)
            if afar and (words := shown_elsewhere(job, stale[job.key], root)):
                yield marked(job, root, stale[job.key], 0.0, words)
            elif kind != "cost" and only_harness(stale[job.key] - trained_parts(job, root)):
                waiting.setdefault(cell(job), []).append(job)
            else:
                yield marked(job, root, stale[job.key], *measured_again(job, root, fabric))
        for place, members in waiting.items():
            others = [job.method for job in jobs if job.kind == kind and cell(job) == place and shown_equal(job, root)]
            for job, difference, words in stood_for(members, others, root, fabric, stale):
                yield marked(job, root, stale[job.key], difference, words)


def stood_for(members: list[Job], others: list[str], root: Path, fabric: Fabric,
              stale: dict[str, set[str]]) -> Iterator[tuple[Job, float | None, str]]:
    """Jobs around which alone the code has changed: some are measured again, and show it for the others of the same place.

    Args:
        members: the stale ones.
        others: methods of the same place that have been measured again under the code as it is.
        root: results folder.
        fabric: device.
        stale: the parts that have changed, by key.
    """
    seen = [(name, 0.0) for name in others]
    for job in sorted(members, key=lambda job: cost_of(job, root)):
        difference: float | None
        if len(seen) < WITNESSES and cost_of(job, root) < NOT_HERE:
            difference, words = measured_again(job, root, fabric)
            if difference is not None:
                seen.append((job.method, difference))
        elif job.training and store.state(root, job.training) == "stale":
            difference, words = None, "its training is stale"
        elif len(seen) < 2:
            difference = None
            words = f"cannot be measured here, and of its place {len(seen)} others were"
        else:
            difference = max(apart for _, apart in seen)
            own = "its training was repeated" if "method" in stale[job.key] else "its own code is unchanged"
            words = f"{own}; around it measured again: {', '.join(name for name, _ in seen)}, " + (
                "equal" if difference <= 1.0 else "NOT equal")
        yield job, difference, words


def marked(job: Job, root: Path, changed: set[str], difference: float | None, words: str) -> tuple[Job, bool, str]:
    """Mark a job as fresh if what was measured is equal; the job, whether it was, and the words."""
    equal = difference is not None and difference <= 1.0
    if equal:
        store.stamp(root, job, {"parts": sorted(changed), "evidence": words,
                                "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **code_version()})
    return job, equal, words


def shown_equal(job: Job, root: Path) -> bool:
    """Whether a job's rows are older than the code around it and were measured again under it, and equal."""
    there = store.held(root, job)
    parts = {part for each in there.words.get("refreshed", []) for part in each["parts"]}
    return there.state == "done" and parts >= (HARNESS if job.kind == "score" else HARNESS - {"scoring"})


def shown_elsewhere(job: Job, changed: set[str], root: Path) -> str:
    """What shows that the code around a job moves no number, in words; empty if nothing does, or more has changed.

    For each part at least two other jobs that were measured again under the same code of it, and equal. For a training's loop
    trainings of any study, for its data and protocol jobs on the same data set; for a score those of its cell.
    """
    if job.training and store.state(root, job.training) != "done":
        return ""
    changed = changed - {"training"} if job.training else changed  # which is fresh
    if not only_harness(changed):
        return ""
    found = []
    for part in sorted(changed):
        shown = {label for label, inputs, source, parts in measured_equal(root)
                 if source.get(part) == job.source[part] and part in parts and alike(job, inputs, part)}
        if len(shown) < 2:
            return ""
        found.append(f"{part}: {', '.join(sorted(shown)[:WITNESSES])}")
    return f"its own code is unchanged; around it measured again elsewhere: {'; '.join(found)}, equal"


def alike(job: Job, inputs: Mapping[str, Any], part: str) -> bool:
    """Whether a job of these inputs says something of a part of the code around another one."""
    if job.kind == "train" and part == "training":
        return inputs["kind"] == "train"
    keys = ("dataset", "protocol") if job.kind == "train" else ("kind", "dataset", "protocol", "split", "msi_bands", "scenario")
    own = json.loads(canonical({key: job.inputs[key] for key in keys}))
    return all(inputs.get(key) == own[key] for key in keys)


@cache
def measured_equal(root: Path) -> list[tuple[str, dict[str, Any], dict[str, str], set[str]]]:
    """Label, inputs, digests of the code and parts of each job of a results folder that was measured again and equal.

    As the folder stood when this was first asked.
    """
    found = []
    for path in root.glob("*/*/job.json"):
        with contextlib.suppress(store.StoreError):
            words = store.words_of(path.parent)
            for each in words.get("refreshed", ()):
                if "measured again: equal" in str(each.get("evidence")) and "kind" in words.get("inputs", {}):
                    found.append((str(words.get("label")), dict(words["inputs"]), dict(words.get("source", {})),
                                  set(each.get("parts", ()))))
    return found


def trained_parts(job: Job, root: Path) -> set[str]:
    """``{"method"}`` where the training of a score was repeated with the method's code as it is: equal, validation included."""
    there = store.held(root, job.training) if job.training else store.Held("missing")
    parts = {part for each in there.words.get("refreshed", []) for part in each["parts"]}
    return parts & {"method"} if there.state == "done" else set()


def only_harness(changed: set[str]) -> bool:
    """Whether all that has changed is seen alike by every method."""
    return all(part in HARNESS or part.startswith("metric ") or part == "training" for part in changed)


def cost_of(job: Job, root: Path) -> float:
    """The order in which jobs are measured again: trainings by the seconds of their first epoch; of scores methods first that
    see both images and all that is told; :data:`NOT_HERE`: not measured again.
    """  # noqa: D205
    if job.kind == "train":
        curve = store.folder(root, job) / "train.csv"
        if any(stage.minutes is not None for stage in job.study.stages_of(job.method)) or not curve.exists():
            return NOT_HERE
        return min(float(rows.read(curve)["seconds"].iloc[0]) / LONGEST_EPOCH, 1.0) * NOT_HERE
    method = card(job.method)
    if job.training:
        return 2 if has_weights(root, job.training) else NOT_HERE
    if method.family == "unsupervised":
        return NOT_HERE
    return 0 if method.told == "known" else 1 if method.name != "bicubic" else 2


def cell(job: Job) -> tuple[Any, ...]:
    """What of a score or training the harness decides."""
    if job.kind == "train":
        return job.study.dataset, job.study.protocol.digest
    return job.study.dataset, job.split, job.msi_bands, job.scenario, job.study.protocol.digest


def measured_again(job: Job, root: Path, fabric: Fabric) -> tuple[float | None, str]:
    """The largest difference in units of what is allowed (1e-6), and what was measured; None: it cannot be."""
    try:
        with unchanged():
            if job.kind == "train":
                return trained_again(job, root, fabric)
            if job.kind == "cost":
                return counted_again(job, root)
            return scored_again(job, root, fabric)
    except Exception as error:  # other code may fail where the old one did not: that is an answer, too
        return None, f"measuring it again failed: {type(error).__name__}: {error}"


def scored_again(job: Job, root: Path, fabric: Fabric) -> tuple[float | None, str]:
    """One image of a score."""
    if job.training and store.state(root, job.training) == "stale":
        return None, "its training is stale"
    if job.training and not has_weights(root, job.training):
        return None, "the parameters of its training are not on this machine"
    weights = store.folder(root, job.training) / "model.safetensors" if job.training else None
    old = rows.read(store.folder(root, job) / "rows.csv").iloc[0].to_dict()
    (new,) = scored(job, [str(old["image"])], weights, fabric.device)
    return compared({name: (new[name], old[name]) for name in METRICS if name in old}, f"image {old['image']}")


def counted_again(job: Job, root: Path) -> tuple[float | None, str]:
    """The counts of a cost; its time and memory are not measured."""
    old = rows.read(store.folder(root, job) / "rows.csv").iloc[0].to_dict()
    new = counts(job)
    named = {"uncounted_ops"}
    if any(str(new[key]) != str(old[key]) for key in named):
        return None, f"uncounted operations are {new['uncounted_ops']}, were {old['uncounted_ops']}"
    pairs = {key: (float(new[key]), float(old[key])) for key in new if key not in named}
    return compared(pairs, "parameters and multiply-adds")


def trained_again(job: Job, root: Path, fabric: Fabric) -> tuple[float | None, str]:
    """A training up to its first logged epoch."""
    if any(stage.minutes is not None for stage in job.study.stages_of(job.method)):
        return None, "its budget is a time, so that no training repeats it: train again with --redo-stale"
    old = rows.read(store.folder(root, job) / "train.csv")
    training = Training(job, fabric)
    for ended in training.run():
        if ended:
            break
    new = pd.DataFrame(training.progress.curve)
    both = new.merge(old, on=["epoch", "step", "method", "quantity"], suffixes=("", "_old"))
    if len(both) != len(new):
        return None, "its first logged epoch holds other quantities"
    pairs = {f"{row.method} {row.quantity}": (row.value, row.value_old) for row in both.itertuples()}
    return compared(pairs, f"{training.progress.step} steps of training")


def compared(pairs: dict[str, tuple[float, float]], what: str) -> tuple[float, str]:
    """The largest difference in units of what is allowed, and what was measured."""
    apart = {name: 0.0 if rows.is_close(new, old, 0.0) else abs(new - old) / (1e-6 * max(1.0, abs(new), abs(old)))
             for name, (new, old) in pairs.items()}
    worst = max(apart, key=lambda name: apart[name] if apart[name] == apart[name] else float("inf"))
    verdict = "equal" if apart[worst] <= 1.0 else f"NOT equal: {worst} is {pairs[worst][0]:.8g}, was {pairs[worst][1]:.8g}"
    return apart[worst] if apart[worst] == apart[worst] else float("inf"), \
        f"{what} measured again: {verdict}, largest difference {1e-6 * apart[worst]:.2g}"
