"""The only training loop. It sees a task (a dict of loss terms), never a method.

Every random choice is a function of (seed, draw number), so a resumed run sees exactly the batches that an unbroken one
would have seen; the checkpoint holds parameters, optimizer, step and log, and nothing else.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from benchmark import metrics, store
from benchmark.plan import Job
from benchmark.protocol import Protocol, add_noise
from datasets import Scene
from methods import create, fuse
from methods.registry import Recipe

CACHE_BYTES = 8 * 2**30  # observed training images kept in memory
SAVE_SECONDS = 120  # between two checkpoints


class TrainingError(RuntimeError):
    """A training that cannot go on: names step, term and remedy."""


class TrainingCrops(Dataset):
    """Crops of a training split, by draw number: image, place, flips, rotation and noise follow from (seed, draw).

    An item holds ``lr_hsi`` (members, bands, crop / ratio, crop / ratio), ``hr_msi`` (msi_bands, crop, crop) and
    ``hr_hsi`` (bands, crop, crop), in [0, 1].
    """

    def __init__(self, job: Job, recipe: Recipe) -> None:
        self.data, self.protocol, self.msi_bands = job.study.data, job.study.protocol, job.msi_bands
        self.recipe, self.seed = recipe, job.seed
        self.entries = self.data.entries("train")
        self.workers = 0 if len(self.entries) < 64 else min(4, os.cpu_count() or 1)  # a few images are soon in memory
        self.cache: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self.cached_bytes = 0

    def __getitem__(self, draw: int) -> dict[str, Tensor]:
        """The ``draw``-th crop of the training."""
        epoch, place = divmod(draw, len(self.entries))
        order = torch.randperm(len(self.entries), generator=_generator(self.seed, "order", epoch))
        lr_hsi, hr_msi, hr_hsi = self.observed(self.entries[int(order[place])])
        generator = _generator(self.seed, "crop", draw)
        recipe, ratio = self.recipe, self.protocol.ratio

        def pick(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        side = recipe.crop // ratio
        row, col = (pick(n - side + 1) for n in lr_hsi.shape[1:])  # on the LR grid, so that the pair stays aligned
        lr_hsi = lr_hsi[:, row : row + side, col : col + side]
        window = slice(row * ratio, (row + side) * ratio), slice(col * ratio, (col + side) * ratio)
        hr_msi, hr_hsi = hr_msi[:, *window], hr_hsi[:, *window]
        flips = [axis for axis in (1, 2) if "flip" in recipe.augment and pick(2)]
        turns = pick(4) if "rotate" in recipe.augment and pick(2) else 0
        lr_hsi, hr_msi, hr_hsi = (x.flip(flips).rot90(turns, (1, 2)) for x in (lr_hsi, hr_msi, hr_hsi))
        members = [add_noise(lr_hsi, recipe.train_snr_db, generator, self.protocol.noise_domain) for _ in recipe.trains]
        return {"lr_hsi": torch.stack(members), "hr_msi": hr_msi.contiguous(), "hr_hsi": hr_hsi.contiguous()}

    def observed(self, entry: str) -> tuple[Tensor, Tensor, Tensor]:
        """(lr_hsi, hr_msi, hr_hsi) of a whole training image, kept in memory while there is room."""
        if entry in self.cache:
            return self.cache[entry]
        images = clean_images(self.data.scene(entry), self.protocol, self.msi_bands)
        if min(images[2].shape[1:]) < self.recipe.crop or self.recipe.crop % self.protocol.ratio:
            raise TrainingError(
                f"training image '{entry}' is {tuple(images[2].shape[1:])} pixels and the recipe crops {self.recipe.crop}: "
                f"choose a crop (--crop) that fits and is a multiple of the ratio {self.protocol.ratio}"
            )
        size = sum(image.nbytes for image in images)
        if self.cached_bytes + size <= CACHE_BYTES // max(1, self.workers):  # each worker keeps its own
            self.cache[entry] = images
            self.cached_bytes += size
        return images


def clean_images(scene: Scene, protocol: Protocol, msi_bands: int) -> tuple[Tensor, Tensor, Tensor]:
    """(lr_hsi, hr_msi, hr_hsi) of a scene, clean."""
    observation = protocol.observe(scene, msi_bands)
    return observation.lr_hsi, observation.hr_msi, protocol.reference(scene).cube


@dataclass
class Progress:
    """Where a training stands: all of a checkpoint that is neither network nor optimizer."""

    step: int = 0
    seconds: float = 0.0
    stage: int = 0
    stage_step: int = 0
    stage_seconds: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)  # the rows of train.csv
    sums: dict[str, float] = field(default_factory=dict)  # of the loss terms since the last logged epoch
    summed: int = 0
    best: dict[str, tuple[float, dict[str, Tensor]]] = field(default_factory=dict)  # name -> (score, parameters)


def train(job: Job, place: Path, fabric: Fabric, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """Train what the job names, stage after stage, or go on where its checkpoint left off.

    Args:
        job: of kind ``"train"``.
        place: its results folder; receives ``train.csv`` as epochs end and ``model.safetensors`` at the end.
        fabric: device and precision.
        log: takes one line.

    Returns:
        One row a network: how long it was trained, and its last validation scores.

    Raises:
        TrainingError: a loss term that is not finite. The last good checkpoint stays.
        KeyboardInterrupt: on SIGINT or SIGTERM, after the step under way and a checkpoint.
    """
    protocol = job.study.protocol
    validation = [clean_images(scene, protocol, job.msi_bands) for scene in job.study.data.load("val")]
    torch.manual_seed(job.seed)
    models = {name: create(name, bands=validation[0][2].shape[0], msi_bands=job.msi_bands, ratio=protocol.ratio,
                           **job.study.arguments.get(name, {})) for name in job.methods}
    progress, checkpoint = Progress(), place / "checkpoint.ckpt"
    if checkpoint.exists():
        progress = Progress(**fabric.load(checkpoint)["progress"])
        log(f"resumed at step {progress.step}, after {progress.seconds:.0f} s of training")
    stages = job.study.stages_of(job.method)
    while progress.stage < len(stages):
        train_stage(job, stages[progress.stage], models, progress, validation, place, fabric, log)
        progress.stage, progress.stage_step, progress.stage_seconds = progress.stage + 1, 0, 0.0
    kept = {name: progress.best[name][1] if name in progress.best else model.state_dict() for name, model in models.items()}
    save_file({f"{name}/{key}": value.cpu().contiguous().clone() for name, parameters in kept.items()
               for key, value in parameters.items()}, place / "model.safetensors")
    checkpoint.unlink(missing_ok=True)
    return [summary(name, job, progress, fabric.device) for name in models]


def train_stage(job: Job, recipe: Recipe, models: dict[str, nn.Module], progress: Progress,
                validation: list[tuple[Tensor, Tensor, Tensor]], place: Path, fabric: Fabric,
                log: Callable[[str], None]) -> None:
    """One stage of a training, from ``progress.stage_step`` to the end of its budget."""
    crops = TrainingCrops(job, recipe)
    images = len(crops.entries)
    task = recipe.task(models, recipe)
    groups = parameter_groups(task, recipe, models)
    optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer](
        groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
    task, optimizer = fabric.setup(task, optimizer)
    checkpoint = place / "checkpoint.ckpt"
    if progress.stage_step:
        fabric.load(checkpoint, {"task": task, "optimizer": optimizer})
    epoch_steps = recipe.log_every or math.ceil(images / recipe.batch)
    total = recipe.steps or (None if recipe.minutes else recipe.epochs * math.ceil(images / recipe.batch))

    def share() -> float:
        """Of the stage's budget used up, 0 to 1."""
        by_time = progress.stage_seconds / (60 * recipe.minutes) if recipe.minutes else 0.0
        return max(by_time, progress.stage_step / total if total else 0.0)

    def save() -> None:
        temporary = checkpoint.with_suffix(".tmp")
        fabric.save(temporary, {"task": task, "optimizer": optimizer, "progress": vars(progress)})
        os.replace(temporary, checkpoint)

    loader = DataLoader(crops, recipe.batch, sampler=range(progress.step * recipe.batch, 2**62),
                        num_workers=crops.workers)
    batches = iter(fabric.setup_dataloaders(loader, use_distributed_sampler=False))
    bar = tqdm(total=total, initial=progress.stage_step, desc=job.label, unit="step", mininterval=1.0)
    saved = time.monotonic()
    with bar, interruptible() as interrupted:
        while share() < 1:
            start = time.monotonic()
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate(group["schedule"], share(), recipe.epochs)
            task.train()
            terms = task(next(batches))
            values = finite_terms(terms, progress.step, checkpoint)
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(terms["loss"])
            optimizer.step()
            seconds = time.monotonic() - start
            progress.step, progress.stage_step = progress.step + 1, progress.stage_step + 1
            progress.seconds, progress.stage_seconds = progress.seconds + seconds, progress.stage_seconds + seconds
            progress.summed += 1
            progress.sums = {name: progress.sums.get(name, 0.0) + value for name, value in values.items()}
            bar.update()
            if progress.stage_step % epoch_steps == 0 or share() >= 1:
                end_epoch(progress, models, validation, recipe, optimizer.param_groups, fabric.device)
                store.write_csv(place / "train.csv", progress.curve)
                log(f"step {progress.step}, {progress.seconds:.0f} s, " + last_words(progress))
            if interrupted() or time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
            if interrupted():
                log(f"interrupted at step {progress.step}; the same command goes on from there")
                raise KeyboardInterrupt


def parameter_groups(task: nn.Module, recipe: Recipe, models: dict[str, nn.Module]) -> list[dict[str, Any]]:
    """The optimizer's groups: the task's own if it says so, else one a network, each with its schedule."""
    if hasattr(task, "parameter_groups"):
        groups = task.parameter_groups()
    else:
        groups = [{"params": list(model.parameters())} for model in models.values()]
    schedules = (recipe.schedule,) * len(groups) if isinstance(recipe.schedule, str) else recipe.schedule
    return [{"schedule": schedule, "initial_lr": group.get("lr", recipe.lr)} | group
            for group, schedule in zip(groups, schedules, strict=True)]


def finite_terms(terms: dict[str, Tensor], step: int, checkpoint: Path) -> dict[str, float]:
    """The values of a step's loss terms.

    Raises:
        TrainingError: one of them is NaN or infinite.
    """
    values = dict(zip(terms, torch.stack([term.detach().float() for term in terms.values()]).tolist()))
    for name, value in sorted(values.items(), key=lambda item: item[0] == "loss"):  # the sum is named last
        if not math.isfinite(value):
            kept = f"the last good state is kept in {checkpoint}" if checkpoint.exists() else "no checkpoint was due yet"
            raise TrainingError(f"loss term '{name}' is {value} at step {step}; {kept}. Lower the learning rate (--lr) "
                                "or train in full precision (--precision 32-true), then run the same command again")
    return values


def end_epoch(progress: Progress, models: dict[str, nn.Module], validation: list[tuple[Tensor, Tensor, Tensor]],
              recipe: Recipe, groups: list[dict[str, Any]], device: torch.device) -> None:
    """Log the mean of every loss term, the learning rates and the validation PSNR and SAM of every network."""
    epoch = 1 + max((row["epoch"] for row in progress.curve), default=0)
    means = {name: value / progress.summed for name, value in progress.sums.items() if "/" in name}
    progress.sums, progress.summed = {}, 0
    rates = [group["lr"] for group in groups]
    for i, (name, model) in enumerate(models.items()):
        values = {key.partition("/")[2]: value for key, value in means.items() if key.startswith(f"{name}/")}
        scores = []
        for lr_hsi, hr_msi, hr_hsi in validation:
            estimate = fuse(model, *(image[None].to(device) for image in (lr_hsi, hr_msi, hr_hsi)))[0].cpu()
            scores.append((metrics.psnr(estimate, hr_hsi).item(), metrics.sam(estimate, hr_hsi).item()))
        psnr_db, sam_deg = (sum(column) / len(column) for column in zip(*scores))
        score = {"last": math.inf, "best-sam": sam_deg, "best-psnr": -psnr_db}[recipe.keep]
        if score < progress.best.get(name, (math.inf,))[0]:
            progress.best[name] = score, {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
        for quantity, value in (values | {"lr": rates[i], "val_psnr_db": psnr_db, "val_sam_deg": sam_deg}).items():
            progress.curve.append({"epoch": epoch, "step": progress.step, "seconds": progress.seconds,
                                   "method": name, "quantity": quantity, "value": value})


def last_words(progress: Progress) -> str:
    """The losses and validation scores of the epoch just logged."""
    return ", ".join(f"{row['method']} {row['quantity']} {row['value']:.5g}" for row in progress.curve
                     if row["step"] == progress.step and row["quantity"] in ("loss", "val_psnr_db", "val_sam_deg"))


def summary(name: str, job: Job, progress: Progress, device: torch.device) -> dict[str, Any]:
    """The row of one trained network."""
    last = {row["quantity"]: row["value"] for row in progress.curve if row["method"] == name}
    return {"method": name, "dataset": job.study.dataset, "msi_bands": job.msi_bands, "seed": job.seed,
            "steps": progress.step, "seconds": progress.seconds, "device": device.type, "loss": last["loss"],
            "val_psnr_db": last["val_psnr_db"], "val_sam_deg": last["val_sam_deg"], "status": "ok"}


def rate(schedule: str, share: float, epochs: int) -> float:
    """Factor on the learning rate after a ``share`` of the budget.

    Args:
        schedule: as in :class:`methods.registry.Recipe`; its epochs are those of the full recipe.
        share: of the budget used up, 0 to 1.
        epochs: of the full recipe.

    Raises:
        ValueError: another schedule.
    """
    kind, *numbers = schedule.split(":")
    if kind == "constant":
        return 1.0
    if kind == "cosine":
        floor = float(numbers[0]) if numbers else 0.0
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    if kind == "step" and len(numbers) == 2:
        return float(numbers[1]) ** (share * epochs // float(numbers[0]))
    if kind == "multistep" and len(numbers) == 2:
        return float(numbers[1]) ** sum(share * epochs >= float(epoch) for epoch in numbers[0].split(","))
    raise ValueError(f"schedule '{schedule}'; choices: constant, cosine[:FLOOR], step:EPOCHS:FACTOR, multistep:EPOCHS:FACTOR")


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Hold back SIGINT and SIGTERM; the function it gives says whether one came. A second one is not held back."""
    came: list[int] = []

    def hold(number: int, _: Any) -> None:
        came.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _generator(*words: Any) -> torch.Generator:
    """A CPU generator seeded by names and numbers."""
    digest = hashlib.sha256("|".join(map(str, words)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
