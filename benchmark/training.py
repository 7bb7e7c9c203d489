"""The arithmetic of a training: steps, validation, which parameters are kept. It sees a task (a dict of loss terms), no method.

Every random choice follows from (seed, draw number) or from generators whose state a checkpoint holds, so that a resumed
training gives the bytes of an unbroken one. What surrounds it is :mod:`benchmark.train`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmark import metrics
from benchmark.crops import Crops
from benchmark.machine import random_state, restore_random_state
from benchmark.plan import Job
from benchmark.varied import Varied, validated
from methods import create, fuse
from methods.registry import Recipe, tell
from methods.responses import Told
from methods.speed import trainable

VALIDATION_SHARE = 0.1  # of a training's cost: what validation may take
TRIAL_SHARE = 0.05  # of a budget: for how long a learning rate is tried


class TrainingError(RuntimeError):
    """A training that cannot go on: names step, term and remedy."""


@dataclass
class Progress:
    """Where a training stands: all of a checkpoint that is neither network, optimizer nor generator."""

    step: int = 0
    seconds: float = 0.0
    stage: int = 0
    stage_step: int = 0
    stage_seconds: float = 0.0
    factor: float = 0.0  # on the learning rate of every stage; 0: not chosen yet
    curve: list[dict[str, Any]] = field(default_factory=list)  # the rows of train.csv
    sums: dict[str, float] = field(default_factory=dict)  # of the loss terms since the last logged epoch
    summed: int = 0
    best: dict[str, tuple[float, dict[str, Tensor]]] = field(default_factory=dict)  # name -> (score, parameters)


class Training:
    """The networks of a training job, trained stage after stage by one task.

    Args:
        job: of kind ``"train"``.
        fabric: device and precision.
        factor: on every learning rate; 0: the one that is best of ``lr_range``, where the recipe has one.
    """

    def __init__(self, job: Job, fabric: Fabric, factor: float = 0.0) -> None:
        self.fabric, self.stages = fabric, job.study.stages_of(job.method)
        self.job, self.progress = job, Progress(factor=factor)
        self.clock = time.process_time if fabric.device.type == "cpu" else time.monotonic
        study, protocol = job.study, job.study.protocol
        self.crops_of = Varied if self.stages[0].vary else Crops
        self.validation: list[tuple[Tensor, Tensor, Tensor, Told]] = []
        on_test = any(stage.keep == "best-on-test" for stage in self.stages)
        for scene in (each for split in (study.splits if on_test else ("val",)) for each in study.data.load(split)):
            looks = validated(scene, protocol) if self.stages[0].vary else [protocol.look(scene, job.msi_bands)]
            self.validation += [(seen.lr_hsi, seen.hr_msi, reference.cube, seen.told) for reference, seen in looks]
        torch.manual_seed(job.seed)
        bands = self.validation[0][2].shape[0]
        self.models: dict[str, nn.Module] = {
            name: trainable(create(name, bands=bands, msi_bands=job.msi_bands, ratio=protocol.ratio,
                                   **job.study.arguments_of(label)), fabric.device, self.stages[0].recompute)
            for name, label in zip(job.names, job.methods)}
        for model in self.models.values():
            tell(model, self.validation[0][3])
        task = self.stages[0].task(self.models, self.stages[0])
        self.groups_of, self.begin_task = task.parameter_groups, task.begin
        self.task = fabric.setup_module(task)
        self.averages: dict[str, AveragedModel] = {}
        self.begun = -1  # the stage that is set up

    def run(self) -> Iterator[bool]:
        """Train to the end, one step at a time; yields whether an epoch ended with it and was logged."""
        if not self.progress.factor:
            self.progress.factor = self.best_factor()
        while self.progress.stage < len(self.stages):
            self.begin_stage()
            while self.share < 1:
                self.step()
                ended = self.progress.stage_step % self.epoch_steps == 0 or self.share >= 1
                if ended:
                    self.end_epoch()
                yield ended
            self.progress.stage, self.progress.stage_step, self.progress.stage_seconds = self.progress.stage + 1, 0, 0.0

    def best_factor(self) -> float:
        """Of the recipe's ``lr_range``: each is tried from the same start, with the same crops; the trials are logged."""
        scores, recipe = {}, self.stages[0]
        for factor in recipe.lr_range:
            state = random_state()
            trial = Training(self.job, self.fabric, factor)
            trial.begin_stage()
            try:
                while trial.share < TRIAL_SHARE:
                    trial.step()
                found = {name: trial.validate(name)["val_psnr_db"] for name in trial.models}
                scores[factor] = sum(found.values()) if all(map(math.isfinite, found.values())) else -math.inf
            except TrainingError:
                found, scores[factor] = dict.fromkeys(trial.models, math.nan), -math.inf
            self.progress.curve += [
                {"epoch": 0, "step": trial.progress.step, "seconds": 0.0, "method": name,
                 "quantity": f"val_psnr_db_at_lr_{recipe.lr * factor:.3g}", "value": score} for name, score in found.items()]
            restore_random_state(state)
        return max(scores, key=lambda factor: scores[factor]) if scores else 1.0

    @property
    def recipe(self) -> Recipe:
        """Of the stage under way."""
        return self.stages[self.progress.stage]

    @property
    def total(self) -> int | None:
        """Steps of the stage; None where minutes count."""
        if self.recipe.steps is not None:
            return self.recipe.steps
        return None if self.recipe.minutes is not None else self.recipe.epochs * self.crops.epoch_steps

    @property
    def share(self) -> float:
        """Of the stage's budget used up, 0 to 1."""
        by_time = self.progress.stage_seconds / (60 * self.recipe.minutes) if self.recipe.minutes is not None else 0.0
        return max(by_time, self.progress.stage_step / self.total if self.total is not None else 0.0)

    @property
    def validated_every(self) -> int:
        """Logged epochs between two validations: more than one where each would cost over a tenth of the training.

        Counted in pixels, a step as three passes over its crops, so that the schedule does not follow the machine's load.
        """
        seen = sum(reference.shape[-2] * reference.shape[-1] for _, _, reference, _ in self.validation)
        trained = 3 * self.recipe.batch * self.recipe.crop**2 * self.epoch_steps
        return max(1, math.ceil(seen / (VALIDATION_SHARE * trained)))

    @property
    def epoch_steps(self) -> int:
        """Steps between two logged epochs."""
        return self.recipe.log_every or self.crops.epoch_steps

    def begin_stage(self) -> None:
        """Set up what a stage has of its own: optimizer, batches, averages."""
        if self.begun == self.progress.stage:  # by `restore`
            return
        recipe = self.recipe
        self.crops = self.crops_of(self.job, recipe)
        self.begin_task(recipe)
        groups = parameter_groups(self.groups_of(), recipe)
        for group in groups:
            group["initial_lr"] *= self.progress.factor or 1.0
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer](
            groups, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=self.job.study.precision != "16-mixed")
        self.optimizer: Any = self.fabric.setup_optimizers(optimizer)
        self.averages = {name: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
                         for name, model in self.models.items()} if recipe.ema is not None else {}
        # The draw of a loader that has no generator of its own: trainings of the time before it had one are repeated.
        torch.empty((), dtype=torch.int64).random_()
        loader = self.crops.batches(self.progress.step)
        self.batches = iter(self.fabric.setup_dataloaders(loader, use_distributed_sampler=False))
        self.begun = self.progress.stage

    def step(self) -> None:
        """One step of the optimizer.

        Raises:
            TrainingError: a loss term or gradient that is not finite; the parameters are then as they were.
        """
        start, progress, recipe = self.clock(), self.progress, self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate(group["schedule"], self.share, recipe.epochs)
        self.task.train()
        batch: Any = next(self.batches)
        terms = self.task(shared_out(batch, self.fabric))
        values = finite_terms(terms, progress.step, self.fabric)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(terms["loss"])
        if self.job.study.precision != "16-mixed":  # there the scaler leaves out steps that overflow
            gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            if not torch.isfinite(norm):
                raise TrainingError(f"gradients are {norm.item()} at step {progress.step}, although the loss is "
                                    f"{values['loss']:.6g}; {REMEDY}")
        if recipe.clip is not None:
            self.fabric.clip_gradients(self.task, self.optimizer, max_norm=recipe.clip)
        self.optimizer.step()
        for name, average in self.averages.items():
            average.update_parameters(self.models[name])
        seconds = self.clock() - start
        progress.step, progress.stage_step = progress.step + 1, progress.stage_step + 1
        progress.seconds, progress.stage_seconds = progress.seconds + seconds, progress.stage_seconds + seconds
        progress.summed += 1
        progress.sums = {name: progress.sums.get(name, 0.0) + value for name, value in values.items()}

    def end_epoch(self) -> None:
        """Log the mean of every loss term and the learning rates; where it is due, validate and keep the best parameters."""
        progress = self.progress
        epoch = 1 + max((row["epoch"] for row in progress.curve), default=0)
        means = {name: value / progress.summed for name, value in progress.sums.items() if "/" in name}
        progress.sums, progress.summed = {}, 0
        for name in self.models:
            scores = {}
            if epoch % self.validated_every == 0 or self.share >= 1:
                scores = self.validate(name)
                self.select(name, scores)
            terms = {key.partition("/")[2]: value for key, value in means.items() if key.startswith(f"{name}/")}
            for quantity, value in (terms | self.rates(name) | scores).items():
                progress.curve.append({"epoch": epoch, "step": progress.step, "seconds": progress.seconds,
                                       "method": name, "quantity": quantity, "value": value})

    def rates(self, name: str) -> dict[str, float]:
        """The learning rate of a network as ``lr``, that of a part of it with its own group as ``lr_<part>``."""
        found = {}
        for group in self.optimizer.param_groups:
            owner, _, part = group["name"].partition("/")
            if owner == name:
                found[f"lr_{part}" if part else "lr"] = group["lr"]
        return found

    def validate(self, name: str) -> dict[str, float]:
        """Mean PSNR and SAM of a network over the validation images."""
        device, scores = self.fabric.device, []
        model = self.evaluated(name)
        for *images, told in self.validation:
            tell(model, told)
            estimate = fuse(model, *(image[None].to(device, copy=True) for image in images))[0].cpu()
            scores.append((metrics.psnr(estimate, images[2]).item(), metrics.sam(estimate, images[2]).item()))
        psnr_db, sam_deg = (sum(column) / len(column) for column in zip(*scores))
        return {"val_psnr_db": psnr_db, "val_sam_deg": sam_deg}

    def select(self, name: str, scores: dict[str, float]) -> None:
        """Keep the parameters of a network if its recipe keeps the best and these are."""
        score = {"last": math.inf, "best-sam": scores["val_sam_deg"]}.get(self.recipe.keep, -scores["val_psnr_db"])
        if score < self.progress.best.get(name, (math.inf,))[0]:
            kept = {key: value.detach().cpu().clone() for key, value in self.evaluated(name).state_dict().items()}
            self.progress.best[name] = score, kept

    def evaluated(self, name: str) -> nn.Module:
        """The network that is validated and kept: its moving average where the recipe has one."""
        return self.averages[name].module if name in self.averages else self.models[name]

    def parameters(self) -> dict[str, Tensor]:
        """What is kept of every network, as ``<method>/<key>``, on the CPU.

        Raises:
            TrainingError: not finite.
        """
        last = {name: self.evaluated(name).state_dict() for name in self.models}
        kept = {name: self.progress.best[name][1] if name in self.progress.best else last[name] for name in self.models}
        found = {f"{name}/{key}": value.detach().cpu().contiguous().clone()
                 for name, held in kept.items() for key, value in held.items()}
        require_finite(found, self.progress.step)
        return found

    def summary(self) -> list[dict[str, Any]]:
        """The row of each network."""
        job, progress, found = self.job, self.progress, []
        for name in self.models:
            last = {row["quantity"]: row["value"] for row in progress.curve if row["method"] == name}
            if "loss" not in last:
                raise TrainingError(f"the task of '{name}' gave no term '{name}/loss': it cannot be said how it was trained")
            found.append({"method": name, "dataset": job.study.dataset, "msi_bands": job.msi_bands, "seed": job.seed,
                          "steps": progress.step, "seconds": progress.seconds, "device": self.fabric.device.type,
                          "loss": last["loss"], "val_psnr_db": last["val_psnr_db"], "val_sam_deg": last["val_sam_deg"],
                          "status": "ok"})
        return found

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs.

        Raises:
            TrainingError: parameters that are not finite: no state to go on from.
        """
        require_finite(self.task.state_dict(), self.progress.step)
        return {"task": self.task.state_dict(), "optimizer": self.optimizer.state_dict(), "progress": vars(self.progress),
                "averages": {name: average.state_dict() for name, average in self.averages.items()},
                "random": random_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        self.progress = Progress(**state["progress"])
        if self.progress.stage < len(self.stages):
            self.begin_stage()
            self.optimizer.load_state_dict(state["optimizer"])
        self.task.load_state_dict(state["task"])
        for name, average in self.averages.items():
            average.load_state_dict(state["averages"][name])
        restore_random_state(state["random"])  # last: setting up a stage draws, too


REMEDY = ("lower the learning rate (--lr) or train in full precision (--precision 32-true), then run the same command again: "
          "it goes on from the last checkpoint, where there is one")


def parameter_groups(groups: list[dict[str, Any]], recipe: Recipe) -> list[dict[str, Any]]:
    """A task's groups with the schedule and the initial rate of the recipe where they have none of their own."""
    schedules = (recipe.schedule,) * len(groups) if isinstance(recipe.schedule, str) else recipe.schedule
    return [{"schedule": schedule, "initial_lr": group.get("lr", recipe.lr)} | group
            for group, schedule in zip(groups, schedules, strict=True)]


def shared_out(batch: dict[str, Tensor], fabric: Fabric) -> dict[str, Tensor]:
    """The part of a batch that this process takes of the several that train one network: all of it where it is alone.

    Raises:
        TrainingError: the batch has no equal parts.
    """
    if fabric.world_size == 1:
        return batch
    items = len(batch["hr_hsi"])
    if items % fabric.world_size:
        raise TrainingError(f"a batch of {items} has no {fabric.world_size} equal parts; choose a multiple (--batch)")
    # What is not of one crop each, such as the responses of a varied batch's sensors, is the same for all.
    return {key: value[fabric.global_rank :: fabric.world_size] if value.ndim and len(value) == items else value
            for key, value in batch.items()}


def finite_terms(terms: dict[str, Tensor], step: int, fabric: Fabric | None = None) -> dict[str, float]:
    """The values of a step's loss terms; of several processes their mean.

    Raises:
        TrainingError: one of them is NaN or infinite.
    """
    stacked: Any = torch.stack([term.detach().float() for term in terms.values()])
    if fabric is not None and fabric.world_size > 1:
        stacked = fabric.all_reduce(stacked, reduce_op="mean")
    values = dict(zip(terms, stacked.tolist()))
    for name, value in sorted(values.items(), key=lambda item: item[0] == "loss"):  # the sum is named last
        if not math.isfinite(value):
            raise TrainingError(f"loss term '{name}' is {value} at step {step}; {REMEDY}")
    return values


def require_finite(tensors: dict[str, Tensor], step: int) -> None:
    """Refuse parameters or buffers that are not finite.

    Raises:
        TrainingError: names the first of them.
    """
    bad = [key for key, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise TrainingError(f"{len(bad)} tensors are not finite after step {step}, the first is '{bad[0]}'; {REMEDY}")


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
