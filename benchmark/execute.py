"""Run the jobs of a plan that are due: in which order, and what becomes of them. Where they run says an engine."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from lightning_fabric import Fabric
from tqdm import tqdm

from benchmark import claims, store
from benchmark.due import pending
from benchmark.engines import Engine
from benchmark.evaluate import build, seen, varying
from benchmark.jobs import weights_of
from benchmark.machine import unchanged
from benchmark.plan import Job, Study
from benchmark.protocol import CLEAN
from benchmark.sensors import left_out
from methods import fuse

POLL_SECONDS = 5.0  # between two looks at jobs that another process has claimed


def execute(jobs: list[Job], root: Path, engine: Engine, force: bool = False, redo_stale: bool = False,
            rescore: bool = False, retry: bool = False) -> list[Job]:
    """Run the jobs that are not done, and the trainings that these need and whose parameters are not there.

    Args:
        jobs: of a plan.
        root: results folder, of the engine too.
        engine: runs them.
        force: run every job of the plan anew.
        redo_stale: run stale jobs anew.
        rescore: measure every score of the plan anew from the parameters there are; nothing is trained.
        retry: run jobs again that have failed :data:`benchmark.store.GIVEN_UP` times, too.

    Returns:
        The jobs that failed; why stands in their ``error.txt``.

    Raises:
        KeyboardInterrupt: what is finished stays; the same command goes on.
        StoreError: the results folder cannot be written.
    """
    due = pending(jobs, root, force, redo_stale, rescore, retry)
    failed = [job for job in jobs if job not in due and store.given_up(store.held(root, job))]
    waiting = [job for job in due if job.kind != "cost"] + [job for job in due if job.kind == "cost"]  # times: undisturbed
    running: list[Job] = []
    looked: dict[str, float] = {}  # key -> when a job was seen in other hands
    told = False
    with tqdm(total=len(due), desc="jobs", unit="job", disable=not due) as bar:
        try:
            while waiting or running:
                for job in startable(waiting, running, engine, looked):
                    bar.set_postfix_str(job.label)
                    waiting.remove(job)
                    running.append(job)
                    engine.start(job, force or rescore)
                    if engine.room < 1:
                        break
                if not running:  # all that is left is in the hands of other processes
                    told = told or _tell_of_others(waiting, root)
                    time.sleep(0.5)
                    continue
                ended = engine.next(POLL_SECONDS)
                if ended is None:
                    continue
                job, word = ended
                running.remove(job)
                if word == "held":
                    waiting.append(job)
                    looked[job.key] = time.monotonic()
                    continue
                if word == "failed":
                    failed.append(job)
                    tqdm.write(f"failed: {job.label}: {store.failure(root, job)[1]}", file=sys.stderr)
                bar.update()
        except BaseException:
            engine.stop()
            raise
    engine.stop()
    return failed


def startable(waiting: list[Job], running: list[Job], engine: Engine, looked: dict[str, float]) -> list[Job]:
    """The jobs that may begin now, in their order: their training is over, nobody else was seen at work on them of late.

    Jobs that time something run alone where processes share a machine.
    """
    if engine.room < 1 or (engine.exclusive and any(job.kind == "cost" for job in running)):
        return []
    busy = {job.key for job in (*waiting, *running) if job.kind == "train"}
    now = time.monotonic()
    found = [job for job in waiting if now - looked.get(job.key, -POLL_SECONDS) >= POLL_SECONDS
             and not (job.training and job.training.key in busy)]
    if engine.exclusive:
        others = [job for job in found if job.kind != "cost"]
        found = others or ([] if running else found[:1])
    return found[: engine.room]


def _tell_of_others(waiting: list[Job], root: Path) -> bool:
    """Say which processes hold the jobs that are left; whether any does."""
    by = {there.words for job in waiting if (there := claims.holder(store.folder(root, job)))}
    if by:
        tqdm.write(f"{len(waiting)} jobs are left, which others measure ({'; '.join(sorted(by))}): waiting for them",
                   file=sys.stderr)
    return bool(by)


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
