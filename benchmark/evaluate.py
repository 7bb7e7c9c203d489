"""Score one method on one split in one scenario: fuse, measure, one row an image."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from benchmark import store
from benchmark.metrics import METRICS, measure
from benchmark.plan import Job
from benchmark.protocol import Observation
from datasets import Scene
from methods import create, fuse


def score(job: Job, place: Path, weights: Path | None, fabric: Fabric, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """Rows of a score job, each kept as soon as it is there: one that was interrupted goes on at the image it was on.

    Args:
        job: of kind ``"score"``.
        place: folder of the job.
        weights: ``model.safetensors`` of the training it needs; None for training-free methods.
        fabric: device.
        log: takes one line.

    Returns:
        One row an image; an estimate that is not finite gives a row with status ``"failed"`` and NaN scores.
    """
    model, rows = None, store.kept(place)
    for scene in job.study.data.load(job.split):
        if any(row["image"] == scene.name for row in rows):
            continue
        reference = job.study.protocol.reference(scene)
        observation = job.study.protocol.observe(scene, job.msi_bands, job.scenario)
        if model is None or weights is None:  # a model-based method is told the responses of each image
            model = _build(job, reference, observation, weights)
            model = model.to(fabric.device) if weights else model
        lr_hsi, hr_msi = (x[None].to(fabric.device) for x in (observation.lr_hsi, observation.hr_msi))
        estimate, seconds = timed(partial(fuse, model, lr_hsi, hr_msi, reference.cube[None].to(fabric.device)))
        row = _identity(job, scene.name) | _scores(estimate[0], reference, job)
        rows.append(row | {"seconds": seconds, "device": fabric.device.type, "job": job.key[:12]})
        store.keep(place, rows)
        log(f"{scene.name}: {row['psnr_db']:.3f} dB, {row['sam_deg']:.4f} deg, {seconds:.3f} s, {row['status']}")
    return rows


def _build(job: Job, reference: Scene, observation: Observation, weights: Path | None) -> Any:
    """The method, with its trained parameters if it has any."""
    protocol = job.study.protocol
    model = create(job.method, bands=reference.bands, msi_bands=job.msi_bands, ratio=protocol.ratio,
                   psf=observation.psf, srf=observation.srf, phase=protocol.phase, **job.study.arguments.get(job.method, {}))
    if weights is not None:
        prefix = f"{job.method}/"
        own = {key.removeprefix(prefix): value for key, value in load_file(weights).items() if key.startswith(prefix)}
        model.load_state_dict(own)
    return model


def _identity(job: Job, image: str) -> dict[str, Any]:
    """The identity columns of a row; none is ever null."""
    return {
        "method": job.method, "dataset": job.study.dataset, "split": job.split, "image": image,
        "msi_bands": job.msi_bands, "ratio": job.study.protocol.ratio, "scenario": job.scenario.name,
        "noise_target": job.scenario.noise_target, "snr_db": job.scenario.snr_db, "seed": job.seed,
        "protocol": job.study.protocol.digest,
    }


def _scores(estimate: torch.Tensor, reference: Scene, job: Job) -> dict[str, Any]:
    """Every metric of one (bands, H, W) estimate, and whether it is finite."""
    if not torch.isfinite(estimate).all():
        return dict.fromkeys(METRICS, math.nan) | {"status": "failed"}
    span = reference.native_max - reference.native_min
    values = measure(estimate, reference.cube.to(estimate.device), ratio=job.study.protocol.ratio, scale=span)
    return {name: value.item() for name, value in values.items()} | {"status": "ok"}


def timed(call: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    """What ``call`` returns, and the seconds it took with the device synchronised."""
    start = time.perf_counter()
    result = call()
    if result.is_cuda:
        torch.cuda.synchronize(result.device)
    return result, time.perf_counter() - start
