"""Results folders as a whole: what in one is not as it was written, and several made one.

for finding in verify(root): ...
for told in merge([one, other], root): ...
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark import checkpoints, claims, keys, rows, store
from benchmark.plan import Job

KINDS = ("train", "score", "cost")
# What differs between two measurements of one cell: times, and whatever follows from the machine.
OF_THE_MACHINE = {"seconds", "seconds_median", "seconds_spread", "peak_memory_mb", "gflops_achieved", "gflops_ceiling", "runs",
                  "device"}
TOLERANCE = 1e-4  # between two machines: dB, degrees


def job_folders(root: Path) -> list[Path]:
    """The folders of jobs, those of jobs that are measured anew among them."""
    return sorted(place for place in root.glob("*/*") if place.is_dir() and place.name.partition("-")[0] in KINDS)


def verify(root: Path) -> Iterator[str]:
    """What of a results folder is not as it was written, a line each; nothing is changed.

    Checked are of each job: that its record can be read, its key is the digest of its inputs and stands in its name, its rows
    are whole and its own, once each, and its parameters and checkpoints hold the bytes that were written.
    """
    for place in job_folders(root):
        name = f"{place.parent.name}/{place.name}"
        if place.name.endswith((store.ANEW, ".old")):
            yield f"{name}: left by a process that was ended; running the job again clears it up"
            continue
        for why in _wrong(place):
            yield f"{name}: {why}"


def _wrong(place: Path) -> Iterator[str]:
    try:
        words = store.words_of(place)
    except store.StoreError as error:
        yield str(error)
        words = {}
    if words:
        key, inputs = str(words.get("key", "")), words.get("inputs", {})
        if keys.digest(inputs) != key:
            yield "job.json: its key is not the digest of its inputs: the record was changed by hand"
        expected = f"{inputs.get('kind')}-{next(iter(inputs.get('methods', {'': 0})))}-{key[:12]}"
        if place.name != expected and place.name.rpartition("-")[2] != key[:12]:
            yield f"job.json is that of {expected}"
    elif (place / "rows.csv").exists() and not (place / "job.json").exists():
        yield "rows.csv without a job.json that says what they are of"
    if (place / "rows.csv").exists():
        if why := store.damaged_rows(place, words):
            yield why
        else:
            yield from _wrong_rows(rows.read(place / "rows.csv"), str(words.get("key", ""))[:12])
    if (place / "model.safetensors").exists() and (why := store.damage(place / "model.safetensors")):
        yield why
    for path in checkpoints.held(place):
        if not checkpoints.whole(path):
            yield f"{path.name}: its bytes are not those that were written; the one before it will be taken"


def _wrong_rows(found: pd.DataFrame, key: str) -> Iterator[str]:
    if "job" in found and key and set(found["job"]) != {key}:
        yield f"rows.csv: rows of job {', '.join(sorted(set(map(str, found['job'])) - {key}))} among those of {key}"
    once = [name for name in ("method", "image") if name in found]
    twice = found[found.duplicated(once)] if once else found[:0]
    if len(twice):
        yield f"rows.csv: {len(twice)} rows stand there twice, the first is {dict(twice.iloc[0][once])}"


def counted(jobs: Iterable[Job], root: Path) -> Iterator[str]:
    """Jobs of a plan whose rows are not as many as their images or methods."""
    for job in {job.key: job for job in jobs}.values():
        if store.held(root, job).measured:
            with contextlib.suppress(rows.RowsError):  # which `verify` names
                there = len(rows.read(store.folder(root, job) / "rows.csv"))
                wanted = {"score": len(job.images), "train": len(job.methods), "cost": there}[job.kind]
                if there != wanted:
                    yield f"{job.label}: {there} rows, {wanted} wanted"


def merge(sources: Sequence[Path], root: Path) -> Iterator[tuple[str, str]]:
    """Bring the measured jobs of other results folders into one.

    Equal rows (but for times and device, to 1e-4) are folded; where they differ, those that are there stay.

    Yields:
        ``("taken" | "equal" | "differs" | "damaged", words)`` of each job.

    Raises:
        StoreError: no such folder, or the one to merge into cannot be written.
    """
    for source in sources:
        if not source.is_dir():
            raise store.StoreError(f"{source}: no such folder; give results folders")
    for place in (place for source in sources for place in job_folders(source)):
        if not (place / "rows.csv").exists() or place.name.endswith((store.ANEW, ".old")):
            continue
        name = f"{place.parent.name}/{place.name}"
        wrong = list(_wrong(place))
        if wrong:
            yield "damaged", f"{place}: {wrong[0]}"
            continue
        target = root / place.parent.name / place.name
        with store.writing(target, "--results"), claims.claimed(target) as ours:
            if not ours:
                yield "differs", f"{name}: a process is measuring it into {root}; merge again when it is done"
            elif not (target / "rows.csv").exists():
                _copy(place, target)
                yield "taken", f"{name} from {place.parents[1]}"
            elif why := next(_wrong(target), ""):
                yield "damaged", f"{target}: {why}; run its study again, or remove that folder and merge again"
            elif why := difference(rows.read(place / "rows.csv"), rows.read(target / "rows.csv")):
                yield "differs", f"{name}: {why} ({place.parents[1]} against {root}, whose rows stay)"
            else:
                weights = place / "model.safetensors"
                if weights.exists() and not (target / weights.name).exists():
                    shutil.copy2(weights, target / f"{weights.name}.tmp")
                    (target / f"{weights.name}.tmp").replace(target / weights.name)
                yield "equal", name


def _copy(place: Path, target: Path) -> None:
    """A folder, whole or not at all."""
    room = target.with_name(f".{target.name}.merging")
    shutil.rmtree(room, ignore_errors=True)
    shutil.copytree(place, room)
    shutil.rmtree(target, ignore_errors=True)  # of a job that was begun and not measured
    room.replace(target)


def difference(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """The first cell in which two measurements of a job differ, in words; empty if there is none."""
    if len(one) != len(other):
        return f"{len(one)} rows against {len(other)}"
    index = [name for name in ("method", "image") if name in one and name in other]
    one, other = one.set_index(index).sort_index(), other.set_index(index).sort_index()
    if list(one.index) != list(other.index):
        return f"rows of {sorted(set(one.index) ^ set(other.index))[:3]}"
    for column in (column for column in one if column in other and column not in OF_THE_MACHINE):
        for place, left, right in zip(one.index, one[column], other[column]):
            if not _equal(left, right):
                return f"{column} of {place} is {left} against {right}"
    return ""


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, str) or isinstance(right, str):
        return bool(left == right)
    return rows.is_close(float(left), float(right), TOLERANCE)
