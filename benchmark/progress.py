"""How far a study is, who is at it, and how long the rest takes on any number of workers, from measured times of its jobs."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmark import claims, store
from benchmark.due import pending
from benchmark.plan import Job, PlanError

AGAIN = {"train": "a score is missing, and its parameters are not on this machine", "score": "its training is made again"}


@dataclass(frozen=True)
class Stand:
    """One job of a plan.

    Args:
        job: the job.
        state: of :class:`benchmark.store.Held`, ``running``, or ``again``: measured, and to be measured again.
        words: which code changed, why it failed, who measures it, or why it is measured again.
        seconds: it took, or as like jobs took, or a training's budget; NaN if nothing like it was measured.
    """

    job: Job
    state: str
    words: str
    seconds: float


@dataclass(frozen=True)
class Outlook:
    """Some jobs on some workers.

    Args:
        workers: that share them.
        hours: from the first job's beginning to the last one's end.
        idle: share of the workers' time in which they have nothing to do.
        longest: label of the longest chain of jobs that wait for each other, and its hours: no number of workers is faster.
        chain: its hours.
    """

    workers: int
    hours: float
    idle: float
    longest: str
    chain: float


def stands(jobs: Sequence[Job], root: Path) -> list[Stand]:
    """Each job once, in the order of the plan."""
    cells = {job.key: job for job in reversed(jobs)}
    there = {key: store.held(root, job) for key, job in cells.items()}
    took = _guess({job: there[key].seconds for key, job in cells.items() if there[key].measured})
    due = {job.key for job in pending(list(jobs), root)}
    found = []
    for job in (job for job in jobs if cells[job.key] is job):
        held = there[job.key]
        by = None if held.state == "done" else claims.holder(store.folder(root, job))
        again = held.measured and job.key in due
        state = "running" if by else "again" if again else held.state
        words = f"by {by.words}" if by else AGAIN[job.kind] if again else ", ".join(held.changed) or held.reason
        if store.given_up(held) and not by:
            words += f"; given up after {store.GIVEN_UP} times: --retry runs it again"
        found.append(Stand(job, state, words, took(job)))
    return found


def lines(found: Sequence[Stand]) -> Iterator[str]:
    """A line a job, counts by state, and the time that is left on one worker."""
    for stand in found:
        yield f"{stand.state:10} {stand.job.label}" + (f" [{stand.words}]" if stand.words else "")
    yield ", ".join(f"{count} {state}" for state, count in Counter(stand.state for stand in found).most_common())
    left = [stand for stand in found if stand.state not in ("done", "stale")]
    known = [stand.seconds for stand in left if not math.isnan(stand.seconds)]
    if left:
        unknown = f"; nothing like {len(left) - len(known)} of them was measured yet" if len(known) < len(left) else ""
        yield f"left: {len(left)} jobs" + (f", {sum(known) / 3600:.2f} h on one worker" if known else "") + unknown


def outlook(found: Sequence[Stand], workers: int) -> Outlook:
    """What jobs take on a number of equal workers, each job as long as it or its like took, begun in order as workers are free.

    Raises:
        PlanError: no worker.
    """
    if workers < 1:
        raise PlanError(f"--workers {workers}: choose 1 or more")
    known = [stand for stand in found if not math.isnan(stand.seconds)]
    ends: dict[str, float] = {}  # of trainings
    free = [0.0] * workers
    waiting = [(0.0, number, stand) for number, stand in enumerate(known)]
    trainings = {stand.job.key for stand in known if stand.job.kind == "train"}
    later: dict[str, list[tuple[int, Stand]]] = {}
    ready: list[tuple[float, int, Stand]] = []
    for _, number, stand in waiting:
        needs = stand.job.training.key if stand.job.training else ""
        if needs in trainings:
            later.setdefault(needs, []).append((number, stand))
        else:
            ready.append((0.0, number, stand))
    heapq.heapify(ready)
    while ready:
        since, _, stand = heapq.heappop(ready)
        begin = max(since, heapq.heappop(free))
        end = begin + stand.seconds
        heapq.heappush(free, end)
        if stand.job.key in later:
            ends[stand.job.key] = end
            for number, score in later.pop(stand.job.key):
                heapq.heappush(ready, (end, number, score))
    span, work = max(free), sum(stand.seconds for stand in known)
    label, chain = _chain(known)
    return Outlook(workers, span / 3600, 1 - work / (workers * span) if span else 0.0, label, chain / 3600)


def _chain(known: Sequence[Stand]) -> tuple[str, float]:
    """The longest job with the longest of those that wait for it."""
    after: dict[str, float] = {}
    for stand in known:
        if stand.job.training:
            after[stand.job.training.key] = max(after.get(stand.job.training.key, 0.0), stand.seconds)
    chains = [(stand.seconds + after.get(stand.job.key, 0.0), stand.job.label) for stand in known]
    seconds, label = max(chains, default=(0.0, ""))
    return label, seconds


def _guess(took: Mapping[Job, float]) -> Callable[[Job], float]:
    """What a job takes: as measured, else the median of jobs that are like it, the more alike the better.

    Where a method was not trained yet, a budget in minutes says more than what others took.
    """
    measured = {job.key: seconds for job, seconds in took.items() if not math.isnan(seconds)}
    likes: dict[tuple[Any, ...], list[float]] = {}
    for job, seconds in took.items():
        if not math.isnan(seconds):
            for like in _likes(job):
                likes.setdefault(like, []).append(seconds)

    def guess(job: Job) -> float:
        if job.key in measured:
            return measured[job.key]
        *same_method, same_kind = _likes(job)
        alike = next((like for like in same_method if like in likes), None)
        if alike is None and not math.isnan(budget := _budget(job)):
            return budget
        return median(likes.get(alike or same_kind, [math.nan]))

    return guess


def _budget(job: Job) -> float:
    """Seconds that a training is given, without its trial of learning rates; NaN where it ends by steps or epochs."""
    minutes = [stage.minutes for stage in job.study.stages_of(job.method)] if job.kind == "train" else []
    return 60 * sum(given for given in minutes if given is not None) if minutes and None not in minutes else math.nan


def _likes(job: Job) -> list[tuple[Any, ...]]:
    return [(job.kind, job.method, job.split, job.msi_bands), (job.kind, job.method), (job.kind, job.names[0]), (job.kind,)]
