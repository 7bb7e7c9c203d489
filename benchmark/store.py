"""Results on disk: one folder a job, written once, read by reports.

results/<dataset>/<kind>-<first method>-<12 digits of the key>/
job.json            inputs in words, source digest, provenance
rows.csv            full precision; moved into place last, so its presence means done
rows.kept.csv       rows of a score job that is not done
train.csv           the learning curve of a training (tidy: one value a line)
model.safetensors   parameters of a training
error.txt           why it failed
log.txt             what happened, with times
"""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmark.plan import Job, canonical

TEXT = ("method", "dataset", "split", "image", "scenario", "noise_target", "protocol", "job")  # columns never to be parsed


class StoreError(OSError):
    """A results folder that cannot be used: names it and the remedy."""


def folder(root: Path, job: Job) -> Path:
    """Where a job's results are."""
    return root / job.study.dataset / f"{job.kind}-{job.method}-{job.key[:12]}"


def state(root: Path, job: Job) -> str:
    """``done``, ``stale`` (done, but the method's code has changed since), ``failed``, ``unfinished`` or ``missing``."""
    place = folder(root, job)
    if (place / "rows.csv").exists():
        return "done" if _source(place) == job.source else "stale"
    if (place / "error.txt").exists():
        return "failed"
    return "unfinished" if place.exists() else "missing"


def begin(root: Path, job: Job) -> Path:
    """Make the job's folder and write down what it is; a checkpoint that lies there stays.

    Raises:
        StoreError: the folder cannot be written.
    """
    place = folder(root, job)
    try:
        place.mkdir(parents=True, exist_ok=True)
        if _source(place) != job.source:
            _kept(place).unlink(missing_ok=True)  # of other code: not to be mixed with what this one gives
        (place / "error.txt").unlink(missing_ok=True)
        (place / "rows.csv").unlink(missing_ok=True)
        words = {"key": job.key, "label": job.label, "inputs": json.loads(canonical(job.inputs)), "source": job.source}
        write_text(place / "job.json", json.dumps(words, indent=1) + "\n")
    except OSError as error:
        raise StoreError(f"results folder '{root}' cannot be written ({error.strerror}). Give another one with "
                         "--results, or change its permissions; rows already there are untouched.") from error
    return place


def keep(place: Path, rows: list[dict[str, Any]]) -> None:
    """Put the rows of a job that is not done where :func:`kept` finds them."""
    write_csv(_kept(place), rows)


def kept(place: Path) -> list[dict[str, Any]]:
    """The rows that an interrupted job had, none for a new one."""
    return read_csv(_kept(place)).to_dict("records") if _kept(place).exists() else []


def _kept(place: Path) -> Path:
    return place / "rows.kept.csv"


def _source(place: Path) -> str:
    """Digest of the code that a job's folder is of; empty before there is one."""
    path = place / "job.json"
    return json.loads(path.read_text())["source"] if path.exists() else ""


def finish(place: Path, rows: list[Mapping[str, Any]], provenance: Mapping[str, Any]) -> None:
    """Write provenance, then the rows, which make the job done."""
    words = json.loads((place / "job.json").read_text()) | {"provenance": dict(provenance)}
    write_text(place / "job.json", json.dumps(words, indent=1) + "\n")
    write_csv(place / "rows.csv", rows)
    _kept(place).unlink(missing_ok=True)


def fail(place: Path, error: BaseException) -> None:
    """Record a failure; the traceback goes to the log of the folder."""
    with (place / "log.txt").open("a") as log:
        traceback.print_exception(error, file=log)
    write_text(place / "error.txt", f"{type(error).__name__}: {error}\n")


def write_csv(path: Path, rows: list[Mapping[str, Any]]) -> None:
    """Rows with the same keys, at full precision, moved into place when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def read(root: Path, jobs: Iterable[Job], kind: str, name: str = "rows.csv") -> pd.DataFrame:
    """All rows of the finished jobs of a kind, each with its job's ``stale`` mark; empty if there are none.

    Args:
        root: results folder.
        jobs: of a plan.
        kind: ``"train"``, ``"score"`` or ``"cost"``.
        name: ``"rows.csv"``, or ``"train.csv"`` for learning curves (also of trainings that still run).
    """
    frames = []
    for job in jobs:
        path = folder(root, job) / name
        if job.kind == kind and path.exists():
            words = {"job": job.key[:12], "stale": state(root, job) == "stale"}
            if name == "train.csv":
                words |= {"msi_bands": job.msi_bands, "seed": job.seed}
            frames.append(read_csv(path).assign(**words))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def read_csv(path: Path) -> pd.DataFrame:
    """A file of rows; names and digests stay text, even where they look like numbers."""
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=["nan", ""])


def failure(root: Path, job: Job) -> str:
    """The first line of a failed job's error."""
    return (folder(root, job) / "error.txt").read_text().splitlines()[0]


def provenance(job: Job, device: str) -> dict[str, Any]:
    """What stands beside the numbers and never in the key."""
    return code_version() | {
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "device": device,
        "threads": torch.get_num_threads(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "protocol": job.study.protocol.digest,
        "data": job.study.data.digest(),
    }


def code_version() -> dict[str, Any]:
    """Which code is running: git revision, whether tracked files differ from it, and the release of torch."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=Path(__file__).parent)
        return done.stdout.strip()

    return {
        "revision": git("rev-parse", "HEAD") or "unknown",
        "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        "torch": torch.__version__,
    }
