"""One job of a plan, from its claim to its rows: the function that every engine runs, on this machine or another."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from benchmark import claims, store
from benchmark.complexity import cost
from benchmark.evaluate import score
from benchmark.machine import device_name, unchanged
from benchmark.plan import Job
from benchmark.train import train

MEMORY = "choose a smaller batch (--batch) or crop (--crop), or let activations be computed anew (--recompute)"


class NoWeightsError(RuntimeError):
    """A score whose training has no parameters that it may use: says why and what to do."""

    counts = False  # as a failure of the score itself


class OutOfMemoryError(RuntimeError):
    """A job that asked for more memory than there is: says what to choose."""


def run_one(job: Job, root: Path, fabric: Fabric, again: bool = False) -> str:
    """Run one job and write its rows, or its error.

    Args:
        job: of a plan.
        root: results folder.
        fabric: device and precision.
        again: although it is done.

    Returns:
        ``"done"``, ``"failed"``, or ``"held"``: another process is measuring it.

    Raises:
        StoreError: the results folder cannot be written.
        KeyboardInterrupt: what is there stays, and the same job goes on from it.
    """
    folder = store.folder(root, job)
    with store.writing(folder, "--results"), claims.claimed(folder) as ours:
        if not ours:
            return "held"
        there = store.held(root, job)
        if there.state == "done" and not again and (job.kind != "train" or store.has_weights(root, job)):
            return "done"  # another process has been here meanwhile
        return "done" if _run(job, root, fabric, there.measured) else "failed"


def _run(job: Job, root: Path, fabric: Fabric, anew: bool) -> bool:
    start, place = time.time(), store.begin(root, job, anew)
    device = device_name(fabric.device)
    provenance = store.provenance(job, device)  # of the code as it is now: a long job may see commits come
    log = partial(store.log, place)
    log(f"{job.label} on {device}")
    try:
        with unchanged():
            used = weights_of(job, root)
            provenance |= {"parameters": store.checksums(used, job.names)} if used else {}
            rows = RUNNERS[job.kind](job, place, used, fabric, log)
            provenance |= {"parameters": store.checksums(place / store.WEIGHTS, job.names)} if job.kind == "train" else {}
    except store.StoreError:  # of the disk, not of the job
        raise
    except (Exception, SystemExit) as error:  # one method's failure must not cost the others their rows
        store.fail(place, _named(error, job))
        return False
    store.finish(place, rows, provenance | {"seconds": round(time.time() - start, 3)})
    return True


def _named(error: BaseException, job: Job) -> BaseException:
    """The error, with a remedy where memory was too small."""
    memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "not enough memory" in str(error)
    if not memory:
        return error
    remedy = MEMORY if job.kind == "train" else "choose smaller images (--hr-size)"
    named = OutOfMemoryError(f"{str(error).splitlines()[0] if str(error) else 'out of memory'}; {remedy}")
    named.__cause__ = error
    return named


def weights_of(job: Job, root: Path) -> Path | None:
    """The parameters that a score job measures; None for training-free methods, trainings and costs.

    Raises:
        NoWeightsError: the training failed, is of other code, or left no parameters here that are whole.
    """
    if job.training is None:
        return None
    there = store.held(root, job.training)
    if there.state == "stale":
        raise NoWeightsError(f"its training is of other code ({', '.join(there.changed)} changed since): train again with "
                             "--redo-stale, or show with the command refresh that the change moves no number")
    if there.state != "done":
        raise NoWeightsError(f"its training is {there.state}" + (f": {there.reason}" if there.reason else ""))
    path = store.weights_file(root, job.training)
    if not path.exists():
        raise NoWeightsError("the parameters of its training are not on this machine: run without --rescore to train again")
    if why := store.damage(path):
        raise NoWeightsError(f"{why}; run without --rescore to train again")
    return path


RUNNERS: dict[str, Callable[[Job, Path, Path | None, Fabric, Callable[[str], None]], list[dict[str, Any]]]] = {
    "train": lambda job, place, weights, fabric, log: train(job, place, fabric, log),
    "score": score,
    "cost": lambda job, place, weights, fabric, log: cost(job, fabric, log),
}
