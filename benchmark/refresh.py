"""Stale rows whose numbers have not moved: measure a part of them again, and say so where it is equal.

A change of code makes rows stale; whether it moves a number only a measurement can tell. A stale job is measured again on
one image (a training up to its first logged epoch), and if every figure is equal to 1e-6 its rows are marked as those of the
code as it is, with the evidence beside them. Nothing is ever marked without, and no cost: its time is what code changes.

Where a job's own code is unchanged and only the harness around it is not, others stand for it that were measured again under
each part that has changed: three, or two where it cannot be measured here, all equal (:func:`says`). So rows of trained
networks whose parameters are not on this machine, of methods that take minutes an image and of trainings by the clock need
not be thrown away for a change that they do not see.

What another processor measured and this one does not repeat is stood for in that way, too: it rounds otherwise, which speaks
neither for the change nor against it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric

from benchmark import rows, store
from benchmark.evaluate import scored
from benchmark.keys import canonical
from benchmark.machine import code_version, device_name, unchanged
from benchmark.metrics import METRICS
from benchmark.plan import Job
from benchmark.training import Training
from methods import card

HARNESS = {"protocol", "data", "scoring"}  # what one method can show for another, beside metrics and the training loop
WITNESSES = 3  # of a job that could be measured again itself ...
FEWEST = 2  # ... and of one that cannot
NOT_HERE = 3.0  # in the order of what is measured again: never
MEASURED = "measured again: equal"  # in the evidence of a job that was
LONGEST_EPOCH = 60.0  # seconds of a training's first epoch that are spent to show something for others


@dataclass(frozen=True)
class Measured:
    """A job that was measured again.

    Args:
        label: of the job.
        inputs: of its record.
        source: digests of the code under which its rows stand.
        parts: of the code, whose last evidence is that measurement.
    """

    label: str
    inputs: Mapping[str, Any]
    source: Mapping[str, str]
    parts: frozenset[str]


def refresh(jobs: list[Job], root: Path, fabric: Fabric) -> Iterator[tuple[Job, bool, str]]:
    """Each stale job with whether it could be marked fresh, and the evidence or the reason, as they are measured.

    Args:
        jobs: of a plan.
        root: results folder.
        fabric: device.
    """
    equal, moved = recorded(root), list[Measured]()
    for kind in ("cost", "train", "score"):  # scores lean on trainings that are fresh
        stale = {job.key: (job, set(store.held(root, job).changed)) for job in jobs
                 if job.kind == kind and store.state(root, job) == "stale"}
        waiting = sorted(stale.values(), key=lambda each: cost_of(each[0], root, fabric.device))
        rounded = set[str]()  # of another processor and not equal here: they come once more at the end, for others to stand for
        for job, changed in waiting:
            if kind == "cost":
                yield job, False, "its time is what other code changes: measure it again with --redo-stale"
                continue
            around = surroundings(job, changed, root)
            here = cost_of(job, root, fabric.device) < NOT_HERE and job.key not in rounded
            seen = stood_for(job, around, equal) if around else []
            against = [each.label for part in around for each in moved if says(each, job, part)]
            if len(seen) >= (WITNESSES if here else FEWEST) and not against:
                why = "its training was repeated" if "method" in changed else "its own code is unchanged"
                difference, words = 0.0, f"{why}; around it measured again: {', '.join(seen[:WITNESSES])}, equal"
            elif around and not here:
                difference, words = None, f"cannot be measured here, and of its place {len(seen)} others were, equal" + (
                    f"; NOT equal: {against[0]}" if against else "")
            else:
                difference, words = measured_again(job, root, fabric)
                if around and difference is not None and difference > 1.0 and ran_elsewhere(job, root, fabric.device):
                    rounded.add(job.key)
                    waiting.append((job, changed))
                    continue
                if difference is not None:
                    found = Measured(job.label, json.loads(canonical(job.inputs)), job.source, frozenset(changed))
                    (equal if difference <= 1.0 else moved).append(found)
            fresh = difference is not None and difference <= 1.0
            if fresh:
                store.stamp(root, job, {"parts": sorted(changed), "evidence": words,
                                        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **code_version()})
            yield job, fresh, words


def surroundings(job: Job, changed: set[str], root: Path) -> set[str]:
    """The parts that have changed around a job and that others can show to move nothing; empty where its own code has changed.

    A score does without its method's code and its training's where that training was repeated under them, or is fresh.
    """
    left = set(changed)
    if job.training:
        there = store.held(root, job.training)
        if there.state != "done":
            return set()
        left -= {"training"} | ({"method"} & latest_measured(there.words))
    around = all(part in HARNESS or part == "training" or part.startswith("metric ") for part in left)
    return left if around else set()


def stood_for(job: Job, around: set[str], equal: list[Measured]) -> list[str]:
    """Labels of the jobs that show it: of the part for which there are fewest, as many as that."""
    shown = [list(dict.fromkeys(each.label for each in equal if says(each, job, part))) for part in sorted(around)]
    return min(shown, key=len)


def says(other: Measured, job: Job, part: str) -> bool:
    """Whether a job that was measured again says something of a part of the code around another one.

    It was measured under the same code of that part. Of a training's loop trainings say something, of any study; of its data
    and protocol jobs on the same data set; of what is around a score those of its split, scenario and MSI bands.
    """
    if part not in other.parts or other.source.get(part) != job.source[part]:
        return False
    if job.kind == "train" and part == "training":
        return bool(other.inputs["kind"] == "train")
    keys = ("dataset", "protocol") if job.kind == "train" else ("kind", "dataset", "protocol", "split", "msi_bands", "scenario")
    own = json.loads(canonical({key: job.inputs[key] for key in keys}))
    return all(other.inputs.get(key) == own[key] for key in keys)


def recorded(root: Path) -> list[Measured]:
    """The jobs of a results folder that were measured again and equal, by their records."""
    found = []
    for path in sorted(root.glob("*/*/job.json")):
        with contextlib.suppress(store.StoreError):
            words = store.words_of(path.parent)
            parts = latest_measured(words)
            if parts and "kind" in words.get("inputs", {}):
                found.append(Measured(str(words.get("label")), words["inputs"], words.get("source", {}), frozenset(parts)))
    return found


def latest_measured(words: Mapping[str, Any]) -> set[str]:
    """Parts of the code of which a record's last evidence is a measurement of the job itself, not of others in its place."""
    last = {part: str(each.get("evidence")) for each in words.get("refreshed", ()) for part in each.get("parts", ())}
    return {part for part, evidence in last.items() if MEASURED in evidence}


def cost_of(job: Job, root: Path, device: torch.device) -> float:
    """The order in which jobs are measured again; :data:`NOT_HERE`: not at all.

    Trainings by the seconds of their first epoch, where they ran on such a device: another processor rounds otherwise, which
    training makes more of (after 25 steps of S3RNet's student 3e-4 of its SAM). Of scores first methods that see both images
    and all that is told.
    """
    if job.kind == "train":
        curve = store.folder(root, job) / "train.csv"
        by_the_clock = any(stage.minutes is not None for stage in job.study.stages_of(job.method))
        if by_the_clock or not curve.exists() or ran_elsewhere(job, root, device):
            return NOT_HERE
        return min(float(rows.read(curve)["seconds"].iloc[0]) / LONGEST_EPOCH, 1.0) * NOT_HERE
    method = card(job.method)
    if job.training:
        return 2.0 if store.has_weights(root, job.training) else NOT_HERE
    if method.family == "unsupervised":
        return NOT_HERE
    return 0.0 if method.told == "known" else 1.0 if method.name != "bicubic" else 2.0


def ran_elsewhere(job: Job, root: Path, device: torch.device) -> bool:
    """Whether a job was measured on another processor, which rounds otherwise: what differs then shows nothing of the code."""
    return store.provenance_of(store.held(root, job).words).get("device") != device_name(device)


def measured_again(job: Job, root: Path, fabric: Fabric) -> tuple[float | None, str]:
    """The largest difference in units of what is allowed (1e-6), and what was measured; None: it cannot be."""
    try:
        with unchanged():
            if job.kind == "train":
                return trained_again(job, root, fabric)
            return scored_again(job, root, fabric)
    except Exception as error:  # other code may fail where the old one did not: that is an answer, too
        return None, f"measuring it again failed: {type(error).__name__}: {error}"


def scored_again(job: Job, root: Path, fabric: Fabric) -> tuple[float | None, str]:
    """One image of a score."""
    if job.training and store.state(root, job.training) == "stale":
        return None, "its training is stale"
    if job.training and not store.has_weights(root, job.training):
        return None, "the parameters of its training are not on this machine"
    weights = store.weights_file(root, job.training) if job.training else None
    old = rows.read(store.folder(root, job) / "rows.csv").iloc[0].to_dict()
    (new,) = scored(job, [str(old["image"])], weights, fabric.device)
    return compared({name: (new[name], old[name]) for name in METRICS if name in old}, f"image {old['image']}")


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
