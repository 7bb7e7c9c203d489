"""Where jobs run: in this process, in processes of their own on this machine, or on the workers of a cluster.

    engine = engine_of("local:2", order, timeout_s=3600.0)

Every engine runs :func:`benchmark.jobs.run_one` on one results folder. A process of its own can die without the study: a
method that ends, crashes, hangs or is killed costs its job and nothing else.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmark.plan import Job, PlanError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SYSTEMS = ("slurm", "pbs", "sge", "lsf", "oar", "htcondor")  # batch systems that start workers
CHOICES = f"here, local[:N], dask:ADDRESS, {', '.join(f'{name}[:N]' for name in SYSTEMS)}"


class DiedError(RuntimeError):
    """A job whose process ended before the job did: says how, and what to try."""


@dataclass(frozen=True)
class Order:
    """What a process must know to make the same plan: the words of the command line.

    Args:
        words: the parsed flags of a command on a study.
        device: ``"cpu"`` or ``"cuda"``: of the processes, which are on machines like this one.
        data: folder of the scenes.
    """

    words: argparse.Namespace
    device: str
    data: str = field(default_factory=lambda: os.environ.get("HSFUSION_DATA", ""))

    def away(self) -> Order:
        """The same for a process that works in another folder."""
        words = argparse.Namespace(**vars(self.words))
        words.results, words.study_file = words.results.resolve(), [path.resolve() for path in words.study_file]
        return replace(self, words=words)

    def open(self, devices: int = 1) -> tuple[dict[str, Job], Path, Fabric]:
        """The jobs by key, the results folder, and the device, one of several, with the study's precision."""
        import torch

        from benchmark.flags import fabric_of, study_of
        from benchmark.machine import device_name
        from benchmark.plan import plan
        from benchmark.studies import load_file

        if self.data:
            os.environ["HSFUSION_DATA"] = self.data
        for path in self.words.study_file:
            load_file(path)
        chosen = study_of(self.words)
        jobs = plan(chosen, device_name(torch.device(self.device, 0)), costs_only=self.words.command == "complexity")
        return {job.key: job for job in reversed(jobs)}, self.words.results, fabric_of(chosen.precision, self.device, devices)


class Engine(Protocol):
    """Takes jobs while it has room, and tells one after the other what became of them."""

    exclusive: bool  # jobs that take the time must run alone

    @property
    def room(self) -> int:
        """Jobs that it takes now."""

    def start(self, job: Job, again: bool) -> None:
        """Begin a job; ``again``: although it is done."""

    def next(self, seconds: float) -> tuple[Job, str] | None:
        """A job that ended, and the word of :func:`benchmark.jobs.run_one`; None if none did in this time."""

    def stop(self) -> None:
        """Interrupt what runs, and wait until it has written down where it stands."""


class Here:
    """In this process, one after the other: for a debugger, and where a process of its own is not wanted."""

    exclusive = False

    def __init__(self, root: Path, fabric: Fabric) -> None:
        self.root, self.fabric = root, fabric
        self.ended: list[tuple[Job, str]] = []

    @property
    def room(self) -> int:
        """One, until it has told of it."""
        return 1 - len(self.ended)

    def start(self, job: Job, again: bool) -> None:
        """Runs it to its end."""
        from benchmark import jobs

        self.ended.append((job, jobs.run_one(job, self.root, self.fabric, again)))

    def next(self, seconds: float) -> tuple[Job, str] | None:
        """At once."""
        return self.ended.pop() if self.ended else None

    def stop(self) -> None:
        """Nothing runs on."""


def engine_of(text: str, order: Order, timeout_s: float, devices: int = 1) -> Engine:
    """The engine that ``--engine`` names; each of its processes with so many devices.

    Raises:
        PlanError: no such engine, a number that is none, or Dask is not installed.
    """
    check_engine(text, devices)
    name, _, rest = text.partition(":")
    if name == "dask":
        from benchmark import clusters

        return clusters.there(order, rest, timeout_s)
    if name == "here":
        from benchmark.flags import fabric_of, study_of

        return Here(order.words.results, fabric_of(study_of(order.words).precision, order.device))
    if name == "local":
        from benchmark.processes import Local

        return Local(order, workers_of(text, devices), timeout_s, devices)
    from benchmark import clusters

    return clusters.begun(order, name, int(rest or 1), timeout_s)


def check_engine(text: str, devices: int = 1) -> None:
    """Refuse what names no engine, before anything is planned.

    Raises:
        PlanError: names the choices.
    """
    name, _, rest = text.partition(":")
    if devices < 1 or (devices > 1 and name != "local"):
        raise PlanError(f"--devices {devices}: 1 or more; several need --engine local[:N]")
    if name == "dask" and rest:
        return
    if rest and not (rest.isdigit() and int(rest) > 0):
        raise PlanError(f"--engine {text}: N is a number of processes, 1 or more; choices: {CHOICES}")
    if not (name in ("local", *SYSTEMS) or (name == "here" and not rest)):
        raise PlanError(f"--engine {text}: choices: {CHOICES}")


def workers_of(text: str, devices: int = 1) -> int:
    """Jobs at a time on this machine that ``--engine`` asks for: of ``local`` as many as there are GPUs for, or one."""
    name, _, rest = text.partition(":")
    if name != "local" or rest:
        return int(rest) if name == "local" and rest.isdigit() else 1
    import torch

    return max(1, torch.cuda.device_count() // devices)
