"""Score one method on one split in one scenario: fuse, measure, one row an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import Tensor

from benchmark import store
from benchmark.machine import timed, unchanged
from benchmark.metrics import METRICS, measure
from benchmark.plan import Job
from benchmark.protocol import Observation
from datasets import Scene, SceneError
from methods import create, fuse
from methods.registry import tell
from methods.speed import prepared, speed_of


class EstimateError(RuntimeError):
    """A method that gives nothing that can be measured."""


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

    Raises:
        EstimateError: not one estimate is finite.
    """
    rows = store.kept(place)
    there = {row["image"] for row in rows}
    for row in scored(job, [entry for entry in job.images if entry not in there], weights, fabric.device):
        rows.append(row)
        store.keep(place, rows)
        log(f"{row['image']}: {row['psnr_db']:.3f} dB, {row['sam_deg']:.4f} deg, {row['seconds']:.3f} s, {row['status']}"
            + (f", {row['bands_left_out']} bands are constant in the reference and left out" if row["bands_left_out"] else ""))
    if all(row["status"] == "failed" for row in rows):
        raise EstimateError(f"none of {len(rows)} estimates is finite: NaN or infinite values in each of them")
    return rows


def scored(job: Job, images: list[str], weights: Path | None, device: torch.device) -> Iterator[dict[str, Any]]:
    """The rows of some images of a score job, one after the other."""
    study, model = job.study, None
    for entry in images:
        reference, observation = seen(job, entry)
        if model is None or weights is None:  # a model-based method is told the responses of each image
            model = build(job, reference.bands, observation, weights, device)
        tell(model, observation.told)
        values, seconds = measured(model, reference, observation, study.protocol.ratio, device)
        finite = not any(math.isnan(value) for value in values.values())
        yield {
            "method": job.method, "dataset": study.dataset, "split": job.split, "image": entry,
            "msi_bands": job.msi_bands, "ratio": study.protocol.ratio, "scenario": job.scenario.name,
            "noise_target": job.scenario.noise_target, "snr_db": job.scenario.snr_db, "seed": job.seed,
            "protocol": study.protocol.digest, **values, "bands": reference.bands,
            "bands_left_out": reference.bands - int(varying(reference.cube).sum()), "status": "ok" if finite else "failed",
            "seconds": seconds, "speed": speed_of(model, study.speed), "device": device.type, "job": job.key[:12],
        }


def seen(job: Job, entry: str) -> tuple[Scene, Observation]:
    """The reference of an image and what fusion sees of it in the job's scenario.

    Raises:
        SceneError: as :meth:`benchmark.protocol.Protocol.look`; or there is no other scene, or none of the same size.
    """
    study = job.study
    reference, observation = study.protocol.look(study.data.scene(entry), job.msi_bands, job.scenario)
    if job.scenario.other_scene:
        images = [*job.images, *study.data.entries("train")]
        other = images[(images.index(entry) + 1) % len(images)]
        lr_hsi = study.protocol.look(study.data.scene(other), job.msi_bands)[1].lr_hsi
        if other == entry or lr_hsi.shape != observation.lr_hsi.shape:
            raise SceneError(f"scenario '{job.scenario.name}': no other LR-HSI of shape {tuple(observation.lr_hsi.shape)} for "
                             f"scene '{entry}' ('{other}' has {tuple(lr_hsi.shape)}); choose a data set of equal scenes")
        observation = replace(observation, lr_hsi=lr_hsi)
    return reference, observation


def build(job: Job, bands: int, observation: Observation, weights: Path | None, device: torch.device) -> Any:
    """The method; a trained one with its parameters, at the study's speed on a device."""
    model = create(job.names[0], bands=bands, msi_bands=job.msi_bands, ratio=job.study.protocol.ratio,
                   **observation.told._asdict(), **job.study.arguments_of(job.method))
    if weights is not None:
        prefix = f"{job.names[0]}/"
        own = {key.removeprefix(prefix): value for key, value in load_file(weights).items() if key.startswith(prefix)}
        model.load_state_dict(own)
    return prepared(model, job.study.speed, device)


def fused_by(label: str, observation: Observation, ratio: int) -> tuple[Tensor, float]:
    """What a method that needs no training makes of an observation, as studies fuse on the CPU, and its seconds.

    Args:
        label: a method, or a variant of one.
        observation: of a scene.
        ratio: HR pixels per LR pixel along one side.

    Returns:
        The estimate (bands, H, W), and seconds.
    """
    device = torch.device("cpu")
    with unchanged():
        model = prepared(create(label, bands=len(observation.lr_hsi), msi_bands=len(observation.hr_msi), ratio=ratio,
                                **observation.told._asdict()), "exact", device)
        tell(model, observation.told)
        found, seconds = timed(partial(fuse, model, observation.lr_hsi[None].clone(), observation.hr_msi[None].clone()))
    return found[0], seconds


def measured(model: Any, reference: Scene, observation: Observation, ratio: int,
             device: torch.device) -> tuple[dict[str, float], float]:
    """Every metric of what a method makes of an observation, NaN if that is not finite, and its seconds.

    The method gets copies: what it changes in place nobody else sees. Bands that are constant in the reference leave
    every metric: they have no structure, and their PSNR would only say how well a constant is met. So do pixels without
    data; of SSIM the windows that see one (:func:`benchmark.metrics.measure`).

    Args:
        model: as :func:`methods.create` gives it.
        reference: the true HR-HSI, (bands, H, W).
        observation: of it.
        ratio: HR pixels per LR pixel along one side.
        device: to fuse on.
    """
    images = (observation.lr_hsi, observation.hr_msi, reference.cube)
    estimate, seconds = timed(partial(fuse, model, *(image[None].to(device, copy=True) for image in images)))
    if estimate.shape[1:] != reference.cube.shape:
        raise EstimateError(f"an estimate of shape {tuple(estimate.shape[1:])} where {tuple(reference.cube.shape)} is wanted")
    if not torch.isfinite(estimate).all():
        return dict.fromkeys(METRICS, math.nan), seconds
    kept = varying(reference.cube)
    values = measure(estimate[0][kept.to(device)], reference.cube[kept].to(device), ratio=ratio,
                     scale=reference.native_max - reference.native_min,
                     valid=None if reference.valid is None else reference.valid.to(device))
    return {name: value.item() for name, value in values.items()}, seconds


def varying(cube: Tensor) -> Tensor:
    """(bands,) bool: which bands of (bands, H, W) are not constant."""
    flat = cube.flatten(1)
    return flat.amax(1) > flat.amin(1)
