"""Which jobs of a plan are to be run: what was not measured, and the trainings that this needs."""

from __future__ import annotations

from pathlib import Path

from benchmark import store
from benchmark.plan import Job


def pending(jobs: list[Job], root: Path, force: bool = False, redo_stale: bool = False, rescore: bool = False,
            retry: bool = False) -> list[Job]:
    """The jobs to run, in the order of the plan.

    A training is one of them only if a score to be measured needs its parameters. All of the plan's scores of a training that
    is made again are: none may come from the parameters of before.

    Args:
        jobs: of a plan.
        root: results folder.
        force: every job, although it is done.
        redo_stale: stale jobs too.
        rescore: every score that was begun, and nothing else.
        retry: jobs that have failed :data:`benchmark.store.GIVEN_UP` times, too.
    """
    wanted = {"unfinished", "missing", "failed", "damaged"} | ({"stale"} if redo_stale else set())
    cells = {job.key: job for job in reversed(jobs)}  # a cell that two names of a study share is measured once
    there = {key: store.held(root, job) for key, job in cells.items()}
    if rescore:
        return [job for job in jobs if cells[job.key] is job and job.kind == "score" and there[job.key].state != "missing"]

    def asked(key: str) -> bool:
        return force or (there[key].state in wanted and (retry or not store.given_up(there[key])))

    needed = {job.training.key for job in cells.values() if job.training and asked(job.key)}
    trainings = {key for key in needed if key in cells and (asked(key) or (
        there[key].measured and not store.has_weights(root, cells[key])))}

    def of_them(job: Job) -> bool:
        return bool(job.training and job.training.key in trainings and there[job.key].measured)

    due = trainings | {key for key, job in cells.items() if job.kind != "train" and (asked(key) or of_them(job))}
    return [job for job in jobs if job.key in due and cells[job.key] is job]


def again(due: list[Job], root: Path) -> list[str]:
    """What to tell of the trainings among the jobs to run that were over: why they are made again, and what that entails."""
    done = [job for job in due if store.held(root, job).state == "done"]
    told = []
    for training in (job for job in done if job.kind == "train" and not store.has_weights(root, job)):
        scores = sum(bool(job.training and job.training.key == training.key) for job in done)
        told.append(f"{training.label}: its parameters are not on this machine, so that it is trained again"
                    + (f"; the {scores} scores there are of it are measured again with it" if scores else ""))
    return told
