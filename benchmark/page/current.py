"""Is a page still what rendering it would give? A digest of all that it is made of, kept beside it and out of git.

Rendering a large study takes most of a minute; a ``run`` that finds nothing to measure need not do it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from benchmark import store
from benchmark.machine import CODE, ROOT, code_version
from benchmark.metrics import METRICS
from benchmark.plan import Job, Study

NAME = ".made-of"


def made_of(study: Study, jobs: Iterable[Job], results: Path) -> str:
    """Digest of the study, the rows and state of its jobs, what every page shows beside them, and the code."""
    shown = [(name, metric.label, metric.better, metric.unit, metric.decimals) for name, metric in METRICS.items()]
    of_study = replace(study, replaced=frozenset()), sorted(study.replaced)  # the order of a set is another in each process
    found = hashlib.sha256(repr((of_study, shown, code_version()["torch"])).encode())
    inside = [path for name in CODE for path in (ROOT / name, *sorted((ROOT / name).rglob("*")))]
    sources = [path for path in inside if path.suffix in (".py", ".html", ".css", ".js", ".json")]
    for path in (*sources, results / "fidelity.csv", results / "recorded.csv"):
        found.update(path.read_bytes() if path.is_file() else b"none")
    for job in jobs:
        held, place = store.held(results, job), store.folder(results, job)
        found.update(repr((job.key, job.label, held.state, held.changed, held.reason)).encode())
        for name in ("rows.csv", "train.csv", "job.json"):
            found.update((place / name).read_bytes() if (place / name).is_file() else b"none")
        picture = place / "estimate.npz"
        found.update(repr(picture.stat().st_mtime_ns if picture.is_file() else None).encode())
    return found.hexdigest()


def is_current(page: Path, digest: str) -> bool:
    """Whether a page was rendered of this and not touched since."""
    mark = page.parent / NAME
    return page.is_file() and mark.is_file() and mark.read_text(encoding="utf-8") == _words(page, digest)


def mark(page: Path, digest: str) -> None:
    """Say what a page was rendered of.

    Raises:
        StoreError: the reports folder cannot be written.
    """
    store.write_text(page.parent / NAME, _words(page, digest))


def _words(page: Path, digest: str) -> str:
    """What the page is made of, its own bytes, and the files that belong to it."""
    files = sorted((str(path.relative_to(page.parent)), path.stat().st_size) for path in page.parent.rglob("*")
                   if path.is_file() and path.name != NAME)
    return f"{digest} {hashlib.sha256(page.read_bytes() + repr(files).encode()).hexdigest()}\n"
