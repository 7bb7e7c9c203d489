"""The measured rows of a plan, from its jobs' folders: scores, costs, learning curves, kept estimates."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark import rows, store
from benchmark.keys import canonical
from benchmark.plan import Job
from benchmark.protocol import CLEAN
from methods.registry import split_label

if TYPE_CHECKING:
    import pandas as pd


def read(root: Path, jobs: Iterable[Job], kind: str, name: str = "rows.csv") -> pd.DataFrame:
    """All rows of the finished jobs of a kind; empty if there are none.

    Each has its job, the method as this plan calls it, and as ``stale`` the parts of the code that have changed, in words.
    Rows of damaged files are left out: :func:`benchmark.store.held` says so of their jobs.

    Args:
        root: results folder.
        jobs: of a plan.
        kind: ``"train"``, ``"score"`` or ``"cost"`` (of this plan's device; :func:`costs` reads those of all).
        name: ``"rows.csv"``, or ``"train.csv"`` for learning curves (also of trainings that still run).
    """
    import pandas as pd  # here and below, where rows are read: what only plans need not wait for it

    frames = []
    for job in jobs:
        path = store.folder(root, job) / name
        if job.kind == kind and path.exists():
            there = store.held(root, job)
            if there.state == "damaged":
                continue
            try:
                frame = rows.read(path, rows.CURVE if name == "train.csv" else ())
            except rows.RowsError:
                continue
            words = {"job": job.key[:12], "stale": ", ".join(there.changed)}
            if name == "train.csv":
                words |= {"msi_bands": str(job.msi_bands), "seed": str(job.seed)}
            frames.append(_named(frame, job).assign(**words))
    # A line that stands twice in a file counts once; those of two files differ in their job.
    found = pd.concat(frames, ignore_index=True).drop_duplicates(ignore_index=True) if frames else pd.DataFrame()
    if name == "train.csv" and len(found):
        found = found.astype({"msi_bands": int, "seed": int})
    return found


def estimates(root: Path, jobs: Iterable[Job]) -> dict[tuple[str, int, str], Path]:
    """``(method, MSI band count, split)`` -> the file of the estimate that is kept for pictures, where it is there.

    ``cube`` (bands, H, W) float16 in [0, 1], ``image``, ``wavelengths`` (bands,) in nm; ``reference.npz`` beside it likewise.
    """
    found = {}
    for job in jobs:
        path = store.folder(root, job) / "estimate.npz"
        if job.kind == "score" and job.scenario == CLEAN and job.seed == job.study.seeds[0] and path.exists():
            found[job.method, job.msi_bands, job.study.called(job.split)] = path
    return found


def costs(root: Path, jobs: Iterable[Job]) -> pd.DataFrame:
    """Cost rows of a plan's cells, of every device they were measured on."""
    import pandas as pd

    frames = []
    for job in jobs:
        if job.kind != "cost":
            continue
        cell = {key: value for key, value in json.loads(canonical(job.inputs)).items() if key != "device"}
        for place in sorted(store.folder(root, job).parent.glob(f"cost-{job.names[0]}-*")):
            with contextlib.suppress(store.StoreError):
                words = store.words_of(place)
                inputs = words.get("inputs", {})
                same = inputs == cell | {"device": inputs.get("device")}
                if same and (place / "rows.csv").exists() and not store.damaged_rows(place, words):
                    changed = ", ".join(store.differing(words.get("source"), job.source))
                    frames.append(_named(rows.read(place / "rows.csv"), job).assign(stale=changed))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _named(frame: pd.DataFrame, job: Job) -> pd.DataFrame:
    """Rows under the names that this plan gives its methods and splits: another may call the same cell otherwise."""
    if job.kind == "score":
        return frame.assign(method=job.method, split=job.study.called(job.split))
    if job.kind != "train":
        return frame.assign(method=job.method)
    labels = dict(zip(job.names, job.methods))
    return frame.assign(method=[labels.get(split_label(name)[0], name) for name in frame["method"]])
