"""What surrounds a training: checkpoints, progress, logs, interrupts, and the file of its parameters."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from tqdm import tqdm

from benchmark import checkpoints, store
from benchmark.machine import code_version
from benchmark.plan import Job
from benchmark.training import Progress, Training
from methods import weights

SAVE_SECONDS = 120  # between two checkpoints


def train(job: Job, place: Path, fabric: Fabric, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """Train what the job names, or go on where its checkpoint left off.

    Args:
        job: of kind ``"train"``.
        place: its results folder; receives ``train.csv`` as epochs end and ``model.safetensors`` at the end.
        fabric: device and precision.
        log: takes one line.

    Returns:
        One row a network: how long it was trained, and its last validation scores.

    Raises:
        TrainingError: a loss term, gradient or parameter that is not finite. The last good checkpoint stays.
        KeyboardInterrupt: on SIGINT or SIGTERM, after the step under way and a checkpoint.
    """
    if fabric.world_size > 1:
        fabric.broadcast(job.key)  # for `follow`
    training = Training(job, fabric)
    for label in job.methods:
        for line in job.study.replacements(label):
            log(f"{label}: the budget replaces, {line}")

    def save() -> None:
        with store.writing(place, "--results"):
            checkpoints.save(place, training.state(), training.progress.step)

    with interruptible() as interrupted:
        state = fabric.broadcast(checkpoints.newest(place, log))
        if state is not None:
            training.restore(state)
            log(f"resumed at step {training.progress.step}, after {training.progress.seconds:.0f} s of training")
        steps, saved = training.run(), time.monotonic()
        with tqdm(desc=job.label, unit="step", mininterval=1.0, initial=training.progress.step) as bar:
            while (ended := _next(steps, interrupted)) is not None:
                stop = fabric.broadcast(interrupted())
                bar.total = training.total and training.progress.step - training.progress.stage_step + training.total
                bar.update()
                if ended:
                    store.write_csv(place / "train.csv", training.progress.curve)
                    log(f"step {training.progress.step}, {training.progress.seconds:.0f} s, " + last_words(training.progress))
                if stop or time.monotonic() - saved > SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
                if stop:
                    log(f"interrupted at step {training.progress.step}; the same command goes on from there")
                    raise KeyboardInterrupt
    rows, parameters = training.summary(), training.parameters()  # a training that fails leaves no parameters to score
    with store.writing(place, "--results"):
        temporary = place / f"model.safetensors.{os.getpid()}.tmp"
        weights.save(temporary, parameters, abouts(job))
        os.replace(temporary, place / "model.safetensors")
        checkpoints.remove(place)
    return rows


def follow(jobs: Mapping[str, Job], fabric: Fabric) -> None:
    """The life of the other processes that train one network together with the one that runs :func:`train`.

    Each takes its part of every batch; what is written is written by the first.

    Args:
        jobs: of the plan, by key.
        fabric: of several devices, this process not the first of them.
    """
    while key := fabric.broadcast(""):
        training = Training(jobs[key], fabric)
        state = fabric.broadcast(None)
        if state is not None:
            training.restore(state)
        for _ in training.run():
            if fabric.broadcast(False):
                break
    torch.distributed.destroy_process_group()


def dismiss(fabric: Fabric) -> None:
    """Let the other processes of :func:`follow` end."""
    if fabric.world_size > 1:
        fabric.broadcast("")
        torch.distributed.destroy_process_group()


def _next(steps: Iterator[bool], interrupted: Callable[[], bool]) -> bool | None:
    """The next step of a training; None at its end.

    Raises:
        KeyboardInterrupt: somebody signalled every process, the loader's workers too, and one of them was gone first: what the
            step under way has left is not sure, and the last checkpoint stays.
    """
    try:
        return next(steps, None)
    except RuntimeError as error:
        if "DataLoader worker" in str(error):
            time.sleep(1.0)  # both were signalled in one moment, in any order
            if interrupted():
                raise KeyboardInterrupt from error
        raise


def abouts(job: Job) -> list[weights.About]:
    """What the parameters of a training are good for, a method each."""
    study, version = job.study, code_version()
    any_sensor = job.msi_bands == 0
    bands = 0 if any_sensor else study.protocol.select(study.data.scene(study.data.entries("val")[0])).bands
    return [weights.About(name, study.arguments_of(label), bands, job.msi_bands, 0 if any_sensor else study.protocol.ratio,
                          study.protocol.describe(), study.dataset, job.key, f"{version['revision']}")
            for name, label in zip(job.names, job.methods)]


def last_words(progress: Progress) -> str:
    """The losses and validation scores of the epoch just logged."""
    return ", ".join(f"{row['method']} {row['quantity']} {row['value']:.5g}" for row in progress.curve
                     if row["step"] == progress.step and row["quantity"] in ("loss", "val_psnr_db", "val_sam_deg"))


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Hold back SIGINT and SIGTERM; the function it gives says whether one came. A second SIGINT is not held back.

    Processes that are forked meanwhile, the loader's workers, leave the process group: a signal to the whole group, as job
    schedulers and terminals send it, must not take the batches from a training that is about to write its checkpoint.
    """
    came: list[int] = []

    def hold(number: int, _: Any) -> None:
        came.append(number)
        if number == signal.SIGINT:  # somebody who presses the keys twice means it; SIGTERM comes from several sides
            signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.signal(number, hold) for number in SIGNALS}
    _deaf.append(True)
    try:
        yield lambda: bool(came)
    finally:
        _deaf.pop()
        for number, handler in before.items():
            signal.signal(number, handler)


SIGNALS = (signal.SIGINT, signal.SIGTERM)
_deaf: list[bool] = []  # not empty while a training runs
os.register_at_fork(after_in_child=lambda: os.setpgid(0, 0) if _deaf else None)
