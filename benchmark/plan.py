"""A study, the grid of jobs it needs, and the content key of each job. Planning reads no cube and builds no network.

jobs = plan(study("quick"), "cpu")  # train jobs before the score jobs that need them
jobs[0].key                         # sha256 of what decides the numbers, nothing else
jobs[0].source                      # digests of the code that decides them, part by part
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import datasets
from benchmark import keys, source
from benchmark.metrics import METRICS
from benchmark.protocol import CLEAN, PAPER, Protocol, Scenario
from benchmark.rows import SCHEMA
from benchmark.sensors import Sensor
from datasets.scene import Dataset, Scene
from methods import weights
from methods.registry import RESERVED, MethodError, Recipe, card, split_label
from methods.speed import SPEEDS

BUDGET = {"steps": 1, "minutes": 0, "lr": 0, "batch": 1, "crop": 1, "log_every": 1, "epochs": 1}  # least value of each


class PlanError(ValueError):
    """A plan that cannot be made: names the value, the choices and the remedy."""


class Label(NamedTuple):
    """A sentence that every caption carries, and the fields of :class:`Study` that make it true.

    It is not said of a study in which a flag has replaced one of them. What follows from values is not written here but
    said by the page (``benchmark.page.facts``).
    """

    text: str
    of: tuple[str, ...] = ()


class View(NamedTuple):
    """One of several ways in which a study sees a split, in place of its protocol's sensor and ratio.

    Args:
        split: held-out split.
        sensor: MSI sensor.
        msi_bands: band counts that it has there.
        ratio: HR pixels per LR pixel along a side.
        name: of the sensor.
    """

    split: str
    sensor: Sensor | tuple[tuple[float, ...], ...]
    msi_bands: tuple[int, ...]
    ratio: int
    name: str

    @property
    def words(self) -> str:
        """What tells it from other views of the split."""
        return f"{self.name}, ratio {self.ratio}"


@dataclass(frozen=True, eq=False)
class Study:
    """Everything one report shows: which methods, on what, under which protocol and training budget.

    Args:
        name: of the folder under ``reports/``.
        title: headline of the page.
        methods: registry names, or variants ``name@key=value,...``.
        dataset: registry name.
        dataset_options: arguments of the dataset.
        splits: held-out splits, each told apart in every table.
        msi_bands: MSI band counts.
        protocol: the degradation shared by all rows.
        sensors: by split, an MSI sensor that its scenes are seen by in place of the protocol's, and its band count there, one
            of ``msi_bands``: scenes of several hyperspectral sensors feed different ones (see :meth:`at`).
        views: sensors and ratios side by side, each split seen in several ways (see :attr:`parts`); a part of a study has one.
        scenarios: columns of the robustness tables; the clean one first.
        fewer_scenarios: by method that takes too long for all of them, those that it is scored in; say why in a label.
        seeds: of training; training-free methods run once.
        recipe: name of a recipe on the methods' cards; empty takes each card's first.
        training: fields of :class:`methods.registry.Recipe` replaced for every method, the declared budget.
        exceptions: fields of the recipe replaced for one method, by its name, on top of ``training``, and for one variant, by
            its label, on top of both; say why in a label.
        arguments: build arguments by method name, such as a reduced width; those of a variant come on top.
        cost_lr_size: LR side in pixels at which costs are measured; HR is ``ratio`` times that.
        precision: of training, of Lightning Fabric: ``"32-true"`` or ``"bf16-mixed"``.
        speed: of fusing, one of :data:`methods.speed.SPEEDS`; scores are exact unless a study says otherwise.
        pictures: keep the estimates of one image a split, which pictures are made of; they are no part of a key.
        labels: what must be said and does not follow from the values above.
        replaced: fields that a flag has replaced.
    """

    name: str
    title: str
    methods: tuple[str, ...]
    dataset: str
    dataset_options: Mapping[str, Any] = field(default_factory=dict)
    splits: tuple[str, ...] = ("test",)
    msi_bands: tuple[int, ...] = (4, 6)
    protocol: Protocol = PAPER
    sensors: Mapping[str, tuple[Sensor, int]] = field(default_factory=dict)
    views: tuple[View, ...] = ()
    scenarios: tuple[Scenario, ...] = (CLEAN,)
    fewer_scenarios: Mapping[str, tuple[Scenario, ...]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    recipe: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    exceptions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cost_lr_size: int = 64
    precision: str = "32-true"
    speed: str = "exact"
    pictures: bool = False
    labels: tuple[Label, ...] = ()
    replaced: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set("/\\") or self.name.startswith("."):
            raise PlanError(f"study '{self.name}': its name is that of a folder below the reports: no slash, no leading dot")
        for name, budget in (("training", self.training), *self.exceptions.items()):
            for key, value in budget.items():
                least = BUDGET.get(key)
                if least is None or value is None:
                    continue
                if not (math.isfinite(value) and (value >= least if least else value > 0)):
                    raise PlanError(f"study '{self.name}', {name}: {key} is {value:g}; choose "
                                    + (f"{least} or more" if least else "a number above 0"))
        if self.speed not in SPEEDS:
            raise PlanError(f"study '{self.name}': speed '{self.speed}'; choices: {', '.join(SPEEDS)}")
        for key, values in (("msi_bands", self.msi_bands), ("cost_lr_size", (self.cost_lr_size,))):
            if any(value < 1 for value in values):
                raise PlanError(f"study '{self.name}': {key} {' '.join(map(str, values))}; choose 1 or more")

    @cached_property
    def data(self) -> Dataset:
        """The dataset; building it reads no cube."""
        return datasets.get(self.dataset, **self.dataset_options)

    def at(self, split: str) -> Study:
        """This study on one split: with the split's own sensor and band count where it has one; the same object each time."""
        return self._own.get(split, self)

    @cached_property
    def parts(self) -> tuple[tuple[str, Study], ...]:
        """Splits in order, each with the study on it; a split that is seen in several ways once for each of them."""
        if not self.views:
            return tuple((split, self.at(split)) for split in self.splits)
        parts = tuple((view.split, replace(self, protocol=replace(self.protocol, srf=view.sensor, ratio=view.ratio),
                                           splits=(view.split,), msi_bands=view.msi_bands, views=(view,)))
                      for view in self.views)
        for _, part in parts:  # over the same data, so that scenes are read once
            part.__dict__["data"] = self.data
        return parts

    def called(self, split: str) -> str:
        """A split's name on a page: with sensor and ratio where this is one of several ways of seeing it."""
        return f"{split}, {self.views[0].words}" if len(self.views) == 1 else split

    @cached_property
    def _own(self) -> dict[str, Study]:
        """By split that has a sensor of its own: the study on it alone, over the same data, so that scenes are read once."""
        parts = {}
        for split, (sensor, msi_bands) in self.sensors.items():
            part = parts[split] = replace(self, protocol=replace(self.protocol, srf=sensor), splits=(split,),
                                          msi_bands=tuple(bands for bands in self.msi_bands if bands == msi_bands))
            part.__dict__["data"] = self.data
        return parts

    @property
    def statements(self) -> tuple[str, ...]:
        """The labels that are true of this study as it is."""
        return tuple(label.text for label in self.labels if not self.replaced & set(label.of))

    def arguments_of(self, label: str) -> dict[str, Any]:
        """Build arguments of a method or variant that are not its builder's defaults."""
        name, own = split_label(label)
        chosen = {**self.arguments.get(name, {}), **{key: value for key, value in own.items() if key not in RESERVED}}
        defaults = card(name).defaults
        same = {key for key in chosen if key in defaults and keys.canonical(chosen[key]) == keys.canonical(defaults[key])}
        return {key: value for key, value in chosen.items() if key not in same}

    def recipe_of(self, label: str) -> tuple[Recipe, ...]:
        """The recipe of a method as its card has it, stage by stage; empty for training-free methods.

        Raises:
            MethodError: no recipe of that name.
        """
        recipes, own = card(label).recipes, split_label(label)[1]
        if not recipes or "weights" in own:  # parameters in the place of a training
            return ()
        name = str(own.get("recipe", "")) or self.recipe or next(iter(recipes))
        if name not in recipes:
            raise MethodError(f"method '{label}' has no recipe '{name}'; choices: {', '.join(recipes)}")
        held = recipes[name]
        return held if isinstance(held, tuple) else (held,)

    def budget_of(self, label: str) -> dict[str, Any]:
        """Fields of its recipe that this study, or a variant, replaces for a method."""
        name, own = split_label(label)
        return {**self.training, **self.exceptions.get(name, {}), **self.exceptions.get(label, {}),
                **({"keep": own["keep"]} if "keep" in own else {})}

    def seeds_of(self, label: str) -> tuple[int, ...]:
        """Of training; one where nothing is trained."""
        return self.seeds if self.recipe_of(label) else self.seeds[:1]

    def is_oracle(self, label: str) -> bool:
        """Whether a method, or the choice of its parameters, looks at the reference."""
        return card(label).oracle or any(stage.keep == "best-on-test" for stage in self.stages_of(label))

    def stages_of(self, label: str) -> tuple[Recipe, ...]:
        """The recipe of a method, stage by stage, under this study's budget; empty for training-free methods.

        Steps or minutes are shared out evenly among the stages; a learning rate is that of the first stage, and later
        ones keep their ratio to it.

        Raises:
            MethodError: no recipe of that name.
            PlanError: fewer steps than stages.
        """
        stages, budget = self.recipe_of(label), self.budget_of(label)
        if budget.get("steps") is not None:
            if budget["steps"] < len(stages):
                raise PlanError(f"method '{label}' is trained in {len(stages)} stages: {budget['steps']} steps cannot be "
                                f"shared by them; give {len(stages)} or more")
            budget["steps"] //= max(1, len(stages))
        if budget.get("minutes") is not None:
            budget["minutes"] /= max(1, len(stages))

        def under(stage: Recipe) -> Recipe:
            own = {"lr": budget["lr"] * (stage.lr / stages[0].lr)} if budget.get("lr") else {}
            return replace(stage, **budget | own)

        return tuple(under(stage) for stage in stages)

    def replacements(self, label: str) -> list[str]:
        """What the budget replaces in the recipe of a method, in words, a line a stage; for logs."""
        lines = []
        for number, (was, now) in enumerate(zip(self.recipe_of(label), self.stages_of(label)), 1):
            words = [f"{key} {getattr(was, key)} -> {getattr(now, key)}" for key in self.budget_of(label)
                     if getattr(was, key) != getattr(now, key)]
            lines += [f"stage {number}: " + ", ".join(words)] if words else []
        return lines

    def trained_with(self, label: str) -> tuple[str, ...]:
        """The methods of one training, in the order of its recipe, the one named among them.

        The partners of a variant are the variants with the same words where the study has them, else they are plain but
        for how they are trained, which all share.
        """
        name, own = split_label(label)
        words = label.partition("@")[2]
        shared = ",".join(f"{key}={own[key]}" for key in RESERVED if key in own)

        def like(partner: str) -> str:
            same = f"{partner}@{words}"
            return same if same in self.methods else f"{partner}@{shared}" if shared else partner

        return tuple(label if partner == name else like(partner) for partner in self.recipe_of(label)[0].trains)

    def trained_on(self, label: str) -> Study:
        """This study with the training scenes that a variant asks for by ``train=...``, an option of the data set."""
        chosen = split_label(label)[1].get("train")
        return self if chosen is None else replace(self, dataset_options={**self.dataset_options, "train": chosen})


@dataclass(frozen=True, eq=False)
class Job:
    """One cell of a study's grid.

    Args:
        kind: ``"train"``, ``"score"`` or ``"cost"``.
        study: that asked for it; only what decides this cell's numbers enters the key.
        methods: the one measured, or all that are trained together; names or variants.
        msi_bands: MSI band count.
        seed: of training.
        split: scored (score jobs).
        scenario: scored (score jobs).
        device: measured on (cost jobs).
    """

    kind: str
    study: Study
    methods: tuple[str, ...]
    msi_bands: int
    seed: int = 0
    split: str = ""
    scenario: Scenario = CLEAN
    device: str = ""

    @property
    def method(self) -> str:
        """The method or variant measured; of a training, the first one trained."""
        return self.methods[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Registry names of its methods, without the arguments of variants."""
        return tuple(split_label(label)[0] for label in self.methods)

    @property
    def label(self) -> str:
        """The cell in words."""
        words = [self.kind, "+".join(self.methods), f"msi{self.msi_bands}" if self.msi_bands else "any-msi"]
        if self.kind == "cost":
            return " ".join([*words, f"at LR {self.study.cost_lr_size}", self.device])
        words += [self.study.dataset, f"seed{self.seed}"]
        if self.kind == "score":
            snr = "" if math.isinf(self.scenario.snr_db) else f"{self.scenario.noise_target} {self.scenario.snr_db:g}dB"
            words += [self.study.called(self.split), self.scenario.name, snr]
        return " ".join(word for word in words if word)

    @cached_property
    def images(self) -> list[str]:
        """The images that a score job measures; none for other jobs."""
        return self.study.data.entries(self.split) if self.kind == "score" else []

    @cached_property
    def training(self) -> Job | None:
        """The training this score needs; None for training-free methods."""
        if self.kind != "score" or not self.study.stages_of(self.method):
            return None
        # One training with varied sensors serves any number of MSI bands.
        varied = any(stage.vary for stage in self.study.stages_of(self.method))
        return Job("train", self.study, self.study.trained_with(self.method), 0 if varied else self.msi_bands, self.seed)

    @property
    def weights(self) -> dict[str, str]:
        """Checksums of the parameters that variants name by ``weights=``."""
        named = {name: split_label(label)[1].get("weights") for name, label in zip(self.names, self.methods)}
        return {name: weights.about(name, str(word)).sha256 for name, word in named.items() if word}

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What decides the numbers, as JSON values. Not in it: time, host, versions, git revision."""
        study = self.study
        words: dict[str, Any] = {
            "kind": self.kind,
            "schema": SCHEMA,
            "methods": {name: study.arguments_of(label) for name, label in zip(self.names, self.methods)},
            "msi_bands": self.msi_bands,
            "protocol": study.protocol.digest,
        }
        words |= {"weights": files} if (files := self.weights) else {}
        fused = {"speed": study.speed} if study.speed != "exact" else {}
        if self.kind == "cost":
            if study.protocol.bands != "aviris-172":  # the band count is then the scenes'
                words["data"] = study.data.digest()
            if study.sensors:  # and differs between splits
                words["split"] = study.splits[0]
            return words | fused | {"device": self.device, "precision": study.precision, "lr_size": study.cost_lr_size}
        words |= {"dataset": study.dataset, "data": study.data.digest(), "seed": self.seed}
        if self.kind == "train":
            stages = [keys.fields(stage) | {"task": stage.stage or stage.task.__name__}
                      for stage in study.stages_of(self.method)]
            for stage in stages:
                stage.pop("stage", None)
            words |= {"kept_on": list(study.splits)} if study.is_oracle(self.method) else {}
            return words | {"recipe": stages if len(stages) > 1 else stages[0], "precision": study.precision}
        words |= {"split": self.split, "scenario": self.scenario.words} | fused
        return words | {"training": self.training.key if self.training else None}

    @cached_property
    def key(self) -> str:
        """sha256 of :attr:`inputs`, 64 hex digits."""
        return keys.digest(self.inputs)

    @cached_property
    def source(self) -> dict[str, str]:
        """Digests of the code that decides the numbers, by part; another one of a part makes the job stale."""
        cards = [card(name) for name in self.names]
        anchors = [split_label(label)[1].get("anchor") for label in self.methods]
        method = [source.digest(each.build) for each in cards] + [
            digest for anchor in anchors if anchor
            for digest in (source.digest("methods.anchored:Anchored"), source.digest(card(str(anchor)).build))]
        parts = {"method": keys.digest([method, [each.input_range for each in cards]])[:16]}
        if self.kind == "cost":
            return parts | {"counting": source.digest("benchmark.complexity:cost")}
        protocol, data = self.study.protocol, self.study.data
        defects: list[source.Root] = [type(each) for each in self.scenario.degradations]
        parts |= {"protocol": source.digest((type(protocol), "look"), Scene, *defects),
                  "data": source.digest((type(data), "read"), (type(data), "scene"))}
        if self.kind == "train":
            tasks = {stage.task for stage in self.study.stages_of(self.method)}
            varied = ("benchmark.varied:Varied", "benchmark.varied:validated") if self.msi_bands == 0 else ()
            return parts | {"task": keys.digest(sorted(source.digest(task) for task in tasks))[:16],
                            "training": source.digest("benchmark.training:Training", "benchmark.crops:Crops", *varied),
                            "layers": source.digest("methods.speed:trainable")}
        if self.training:
            parts["training"] = keys.digest(self.training.source)[:16]
            parts["layers"] = source.digest("methods.speed:prepared")
        parts["scoring"] = source.digest("benchmark.evaluate:measured", "benchmark.evaluate:seen",
                                         "benchmark.evaluate:build", "methods.registry:fuse")
        return parts | {f"metric {name}": keys.digest([source.digest(metric.function), metric.takes])[:16]
                        for name, metric in METRICS.items()}


def plan(study: Study, device: str, costs_only: bool = False) -> list[Job]:
    """The jobs of a study, each training before the scores that need it; no job twice. Costs need no data.

    Raises:
        MethodError: unknown method, build argument or recipe.
        SceneError: unknown dataset, option or split.
        PlanError: a budget that the stages of a recipe cannot share.
    """
    for label in study.methods:
        card(label)
    twice = {label for label in study.methods if study.methods.count(label) > 1}
    if twice:
        raise PlanError(f"methods named twice: {', '.join(sorted(twice))}")
    jobs: dict[str, Job] = {}
    if not costs_only:
        for split in study.splits:
            study.data.entries(split)
    for job in _costs(study, device) if costs_only else [*_scores(study), *_costs(study, device)]:
        for each in (job.training, job):
            if each is not None:
                jobs.setdefault(f"{each.key} {each.method}", each)
    return list(jobs.values())


def _scores(study: Study) -> Iterator[Job]:
    """Clean scores of every method first, so that an interrupted study has its main table."""
    for scenario in study.scenarios:
        for msi_bands in study.msi_bands:
            for method in study.methods:
                if scenario not in study.fewer_scenarios.get(split_label(method)[0], study.scenarios):
                    continue
                for seed in study.seeds_of(method):
                    for split, part in study.parts:
                        if msi_bands in part.msi_bands:
                            yield Job("score", part.trained_on(method), (method,), msi_bands, seed, split, scenario)


def _costs(study: Study, device: str) -> Iterator[Job]:
    """Where splits have sensors of their own, or are seen in several ways: on the first with that band count."""
    for msi_bands in study.msi_bands:
        parts = [part for _, part in study.parts if msi_bands in part.msi_bands]
        for part, method in ((part, method) for part in parts[:1] for method in study.methods):
            yield Job("cost", part, (method,), msi_bands, device=device)


def shard(jobs: Iterable[Job], text: str) -> list[Job]:
    """The part ``"i/n"`` (1-based) of a plan. A training and the scores that need it stay together.

    Raises:
        PlanError: not of that form.
    """
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise PlanError(f"shard '{text}': give i/n with 1 <= i <= n, such as 2/4")
    return [job for job in jobs if int((job.training or job).key, 16) % int(parts) == int(part) - 1]
