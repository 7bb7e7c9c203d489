"""Run what a plan still lacks, one job after the other; a failure is recorded and the rest goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from tqdm import tqdm

from benchmark import store
from benchmark.complexity import cost
from benchmark.evaluate import build, score, seen, varying
from benchmark.machine import device_name, unchanged
from benchmark.plan import Job, Study
from benchmark.protocol import CLEAN
from benchmark.sensors import left_out
from benchmark.train import train
from methods import fuse


class NoWeightsError(RuntimeError):
    """A score whose training has no parameters that it may use: says why and what to do."""


def execute(jobs: list[Job], root: Path, fabric: Fabric, force: bool = False, redo_stale: bool = False,
            rescore: bool = False) -> list[Job]:
    """Run the jobs that are not done, and the trainings that these need and whose parameters are not there.

    Args:
        jobs: of a plan.
        root: results folder.
        fabric: device and precision.
        force: run every job of the plan anew.
        redo_stale: run stale jobs anew.
        rescore: measure every score of the plan anew from the parameters there are; nothing is trained.

    Returns:
        The jobs that failed; why stands in their ``error.txt``.

    Raises:
        KeyboardInterrupt: what is finished stays; the same command goes on.
        StoreError: the results folder cannot be written.
    """
    due = pending(jobs, root, force, redo_stale, rescore)
    failed: list[Job] = []
    with tqdm(total=len(due), desc="jobs", unit="job", disable=not due) as bar:
        for job in due:
            bar.set_postfix_str(job.label)
            if not run_one(job, root, fabric, anew=store.held(root, job).measured):
                failed.append(job)
                tqdm.write(f"failed: {job.label}: {store.failure(root, job)[1]}", file=sys.stderr)
            bar.update()
    return failed


def pending(jobs: list[Job], root: Path, force: bool = False, redo_stale: bool = False, rescore: bool = False) -> list[Job]:
    """The jobs to run. A training is one of them only if a score to be measured needs its parameters."""
    wanted = {"unfinished", "missing", "failed", "damaged"} | ({"stale"} if redo_stale else set())
    cells = {job.key: job for job in reversed(jobs)}  # a cell that two names of a study share is measured once
    states = {key: store.state(root, job) for key, job in cells.items()}
    if rescore:
        return [job for job in jobs if cells[job.key] is job and job.kind == "score" and states[job.key] != "missing"]
    scores = [job for job in cells.values() if job.kind != "train" and (force or states[job.key] in wanted)]
    needed = {job.training.key for job in scores if job.training}
    trainings = {key for key in needed if key in cells
                 and (force or states[key] in wanted or not has_weights(root, cells[key]))}
    due = trainings | {job.key for job in scores}
    return [job for job in jobs if job.key in due and cells[job.key] is job]


def has_weights(root: Path, training: Job) -> bool:
    """Whether the parameters of a training lie on this machine."""
    return (store.folder(root, training) / "model.safetensors").exists()


def run_one(job: Job, root: Path, fabric: Fabric, anew: bool) -> bool:
    """Run one job and write its rows, or its error; whether it succeeded."""
    start, place = time.time(), store.begin(root, job, anew)
    device = device_name(fabric.device)
    provenance = store.provenance(job, device)  # of the code as it is now: a long job may see commits come
    log = partial(store.log, place)
    log(f"{job.label} on {device}")
    try:
        with unchanged():
            rows = RUNNERS[job.kind](job, place, root, fabric, log)
    except store.StoreError:  # of the disk, not of the job
        raise
    except Exception as error:  # one method's failure must not cost the others their rows
        store.fail(place, error)
        return False
    store.finish(place, rows, provenance | {"seconds": round(time.time() - start, 3)})
    return True


def keep_pictures(jobs: list[Job], root: Path, fabric: Fabric) -> list[str]:
    """Fuse the first image of every clean score that has none kept yet, and keep estimate and reference for pictures.

    Args:
        jobs: of a plan.
        root: results folder.
        fabric: device.

    Returns:
        What could not be kept and why, a line a job.
    """
    left = []
    due = [job for job in jobs if job.kind == "score" and job.scenario == CLEAN and job.seed == job.study.seeds[0]
           and store.held(root, job).measured and not (store.folder(root, job) / "estimate.npz").exists()]
    for job in tqdm(due, desc="pictures", unit="image", disable=not due):
        place = store.folder(root, job)
        try:
            with unchanged():
                weights = weights_of(job, root)
                reference, observation = seen(job, job.images[0])
                model = build(job, reference.bands, observation, weights, fabric.device)
                images = (observation.lr_hsi, observation.hr_msi, reference.cube)
                estimate = fuse(model, *(image[None].to(fabric.device, copy=True) for image in images))[0].cpu()
        except Exception as error:  # one picture less, and no row
            left.append(f"{job.label}: no picture: {error}")
            continue
        for name, cube in (("reference", reference.cube), ("estimate", estimate)):  # the estimate's file says: both are there
            store.write_cube(place / f"{name}.npz", cube, job.images[0], reference.wavelengths)
    return left


def weights_of(job: Job, root: Path) -> Path | None:
    """The parameters that a score job measures; None for training-free methods.

    Raises:
        NoWeightsError: the training failed, is of other code, or left no parameters here.
    """
    if job.training is None:
        return None
    there = store.held(root, job.training)
    if there.state == "stale":
        raise NoWeightsError(f"its training is of other code ({', '.join(there.changed)} changed since): train again with "
                             "--redo-stale, or show with the command refresh that the change moves no number")
    if there.state != "done":
        raise NoWeightsError(f"its training is {there.state}" + (f": {there.reason}" if there.reason else ""))
    if not has_weights(root, job.training):
        raise NoWeightsError("the parameters of its training are not on this machine: run without --rescore to train again")
    return store.folder(root, job.training) / "model.safetensors"


def _score(job: Job, place: Path, root: Path, fabric: Fabric, log: Callable[[str], None]) -> list[dict[str, Any]]:
    return score(job, place, weights_of(job, root), fabric, log)


RUNNERS: dict[str, Callable[[Job, Path, Path, Fabric, Callable[[str], None]], list[dict[str, Any]]]] = {
    "train": lambda job, place, root, fabric, log: train(job, place, fabric, log),
    "score": _score,
    "cost": lambda job, place, root, fabric, log: cost(job, fabric, log),
}


def preflight(study: Study) -> list[str]:
    """Read and observe the first scene of every split the study uses, so that unusable data stops it at once.

    Returns:
        What must be told of the scenes: which bands were taken where that follows from the scene, and bands left out,
        of the scene and of the MSI sensor.

    Raises:
        SceneError: says what is wrong with the data.
    """
    told: dict[str, None] = {}
    trained = any(study.recipe_of(method) for method in study.methods)
    for split, here in (*((split, study) for split in (("train", "val") if trained else ())), *study.parts):
        scene = study.data.scene(study.data.entries(split)[0])
        for msi_bands in here.msi_bands:
            for scenario in study.scenarios if split in study.splits else study.scenarios[:1]:
                if scenario is study.scenarios[0] or scenario.shift:
                    reference, _ = here.protocol.look(scene, msi_bands, scenario)
                    left = left_out(here.protocol.srf, reference.wavelengths)
                    if left:
                        told[f"scene '{scene.name}': {left}"] = None
                    if study.protocol.bands == "auto":
                        which = f"the {reference.bands} AVIRIS bands of the papers" if reference.bands < scene.bands \
                            else f"all {reference.bands} bands"
                        told[f"scene '{scene.name}': {which} are taken"] = None
                    flat = (~varying(reference.cube)).nonzero().flatten().tolist()
                    if flat:
                        told[f"scene '{scene.name}': bands {', '.join(map(str, flat))} (0-based, after selection) are constant "
                             "in the reference and are left out of every score"] = None
    return list(told)
