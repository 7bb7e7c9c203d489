"""Run what a plan still lacks, one job after the other; a failure is recorded and the rest goes on."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from tqdm import tqdm

from benchmark import store
from benchmark.complexity import cost
from benchmark.evaluate import score
from benchmark.plan import Job, Study
from benchmark.train import train


def execute(jobs: list[Job], root: Path, fabric: Fabric, force: bool = False, redo_stale: bool = False) -> list[Job]:
    """Run the jobs that are not done, and the trainings that these need and whose parameters are not there.

    Args:
        jobs: of a plan.
        root: results folder.
        fabric: device and precision.
        force: run every job of the plan anew.
        redo_stale: run stale jobs anew.

    Returns:
        The jobs that failed; why stands in their ``error.txt``.

    Raises:
        KeyboardInterrupt: what is finished stays; the same command goes on.
        StoreError: the results folder cannot be written.
    """
    due = pending(jobs, root, force, redo_stale)
    failed: list[Job] = []
    with tqdm(total=len(due), desc="jobs", unit="job", disable=not due) as bar:
        for job in due:
            bar.set_postfix_str(job.label)
            if not run_one(job, root, fabric, anew=force or (redo_stale and store.state(root, job) == "stale")):
                failed.append(job)
                tqdm.write(f"failed: {job.label}: {store.failure(root, job)}")
            bar.update()
    return failed


def pending(jobs: list[Job], root: Path, force: bool, redo_stale: bool) -> list[Job]:
    """The jobs to run. A training is one of them only if a score to be measured needs its parameters."""
    wanted = {"unfinished", "missing", "failed"} | ({"stale"} if redo_stale else set())
    states = {job.key: store.state(root, job) for job in jobs}
    scores = [job for job in jobs if job.kind != "train" and (force or states[job.key] in wanted)]
    needed = {job.training.key for job in scores if job.training}
    trainings = {
        job.key for job in jobs if job.key in needed
        and (force or states[job.key] in wanted or not (store.folder(root, job) / "model.safetensors").exists())
    }
    due = trainings | {job.key for job in scores}
    return [job for job in jobs if job.key in due]


def run_one(job: Job, root: Path, fabric: Fabric, anew: bool) -> bool:
    """Run one job and write its rows, or its error; whether it succeeded."""
    if anew:
        shutil.rmtree(store.folder(root, job), ignore_errors=True)
    start, place = time.time(), store.begin(root, job)
    device = device_name(fabric.device)
    provenance = store.provenance(job, device)  # of the code as it is now: a long job may see commits come

    def log(line: str) -> None:
        with (place / "log.txt").open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n")

    log(f"{job.label} on {device}")
    try:
        rows = RUNNERS[job.kind](job, root, fabric, log)
    except Exception as error:  # one method's failure must not cost the others their rows
        store.fail(place, error)
        return False
    store.finish(place, rows, provenance | {"seconds": round(time.time() - start, 3)})
    return True


def _score(job: Job, root: Path, fabric: Fabric, log: Callable[[str], None]) -> list[dict]:
    weights = None
    if job.training:
        place = store.folder(root, job.training)
        weights = place / "model.safetensors"
        if not weights.exists():
            raise RuntimeError(f"its training has failed: {store.failure(root, job.training)}")
    return score(job, store.folder(root, job), weights, fabric, log)


RUNNERS: dict[str, Callable[[Job, Path, Fabric, Callable[[str], None]], list[dict]]] = {
    "train": lambda job, root, fabric, log: train(job, store.folder(root, job), fabric, log),
    "score": _score,
    "cost": lambda job, root, fabric, log: cost(job, fabric, log),
}


def preflight(study: Study) -> None:
    """Read and observe the first scene of every split the study uses, so that unusable data stops it at once.

    Raises:
        SceneError: says what is wrong with the data.
    """
    trained = any(study.stages_of(method) for method in study.methods)
    for split in (*(("train", "val") if trained else ()), *study.splits):
        scene = study.data.scene(study.data.entries(split)[0])
        for msi_bands in study.msi_bands:
            for scenario in study.scenarios if split in study.splits else study.scenarios[:1]:
                if scenario is study.scenarios[0] or scenario.shift:
                    study.protocol.observe(scene, msi_bands, scenario)


def device_name(device: torch.device) -> str:
    """The device in words, such as ``cpu (AMD EPYC, 2 threads)``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux
        pass
    return f"{device.type} ({' '.join(model.replace('Processor', '').split())}, {torch.get_num_threads()} threads)"
