"""From a study's plan and the results folder to the rows that its report shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark import rows, store
from benchmark.page.render import render
from benchmark.plan import Job, Study
from methods import card
from methods.registry import told

SPLIT_WORDS = {
    "test-same-flight": "Another scene of a flight that was trained on, without a shared pixel.",
    "test-other-flight": "Scenes of flights that no method was trained on.",
}


def render_study(study: Study, jobs: list[Job], results: Path, reports: Path) -> Path:
    """Render ``reports/<study>/index.html`` from the rows there are, holes shown as holes.

    Args:
        study: what the report should show.
        jobs: its plan.
        results: results folder.
        reports: reports folder.

    Returns:
        The page.

    Raises:
        StoreError: the reports folder cannot be written.
    """
    try:
        (reports / study.name).mkdir(parents=True, exist_ok=True)
        return render(
            reports / study.name,
            scores=store.read(results, jobs, "score"),
            costs=store.costs(results, jobs),
            curves=store.read(results, jobs, "train", "train.csv"),
            fidelity=read_or_empty(results / "fidelity.csv"),
            recorded=read_or_empty(results / "recorded.csv"),
            # The papers' figures are of the papers' networks: none stands beside one that the study builds otherwise.
            published={name: card(name).published for name in study.methods if name not in study.arguments},
            meta=meta(study, jobs, results),
        )
    except PermissionError as error:
        raise store.StoreError(f"reports folder '{reports}' cannot be written ({error.strerror}). "
                               "Give another one with --reports, or change its permissions.") from error


def read_or_empty(path: Path) -> pd.DataFrame:
    """The rows of a file, none where there is no file."""
    return rows.read(path) if path.exists() else pd.DataFrame()


def meta(study: Study, jobs: list[Job], results: Path) -> dict[str, Any]:
    """Title, labels, the expected grid, provenance and the jobs that are not in order."""
    states = {job.key: store.state(results, job) for job in jobs}
    done = [job for job in jobs if states[job.key] in ("done", "stale")]
    words = [json.loads((store.folder(results, job) / "job.json").read_text()) for job in done]
    told = [each["provenance"] for each in words if "provenance" in each]  # another run may be measuring a job anew
    needed = {job.training.key for job in jobs if job.training and states[job.key] not in ("done", "stale")}

    def listed(*wanted: str) -> list[str]:
        return [job.label for job in jobs if states[job.key] in wanted and (job.kind != "train" or job.key in needed)]

    budget = ", ".join(f"{key} {value}" for key, value in study.training.items()) or "as the recipes say"
    trained = store.read(results, jobs, "train")
    runs = [f"{row.method} with {row.msi_bands} bands {row.steps} steps in {row.seconds / 60:.1f} minutes"
            for row in trained.itertuples()]
    return {
        "study": study.name,
        "title": study.title,
        "summary": f"Training budget: {budget}; seeds {', '.join(map(str, study.seeds))}. Trained: {', '.join(runs)}."
        if runs else "",
        "labels": study.statements,
        "marks": marks(study),
        "devices": sorted({each["device"] for each in told}),
        "versions": {
            "revision": ", ".join(sorted({each["revision"][:12] + ("+changes" if each["dirty"] else "") for each in told})),
            "torch": ", ".join(sorted({each["torch"] for each in told})),
            "python": ", ".join(sorted({each["python"] for each in told})),
        },
        "protocols": {study.protocol.digest: {"name": study.protocol.name, "words": study.protocol.describe()}},
        "expected": {
            "methods": list(study.methods),
            "msi_bands": list(study.msi_bands),
            "scenarios": [(each.name, each.noise_target, each.snr_db) for each in study.scenarios],
            "splits": [(study.dataset, split, SPLIT_WORDS.get(split, "")) for split in study.splits],
        },
        "jobs": {
            "failed": [f"{job.label}: {store.failure(results, job)[1]}" for job in jobs
                       if states[job.key] in ("failed", "damaged")],
            "stale": listed("stale"),
            "missing": listed("missing", "unfinished"),
        },
    }


def marks(study: Study) -> dict[str, str]:
    """What must be said behind a method's name: what it is told, and what it is faithful to."""
    found = {}
    for name in study.methods:
        words = [word for word in (told(name, study.arguments.get(name, {})), "oracle" if card(name).oracle else "") if word]
        words += ["described"] if card(name).fidelity == "described" else []
        found |= {name: ", ".join(words)} if words else {}
    return found
