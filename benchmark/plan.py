"""A study, the grid of jobs it needs, and the content key of each job. Planning reads no cube and builds no network.

jobs = plan(STUDIES["quick"])       # train jobs before the score jobs that need them
jobs[0].key                         # sha256 of what decides the numbers, nothing else
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import datasets
from benchmark.protocol import CLEAN, PAPER, Protocol, Scenario
from datasets.scene import Dataset
from methods.registry import MethodError, Recipe, card

ROW_SCHEMA = 1  # raise when a row's columns change their meaning


class PlanError(ValueError):
    """A plan that cannot be made: names the value, the choices and the remedy."""


@dataclass(frozen=True, eq=False)
class Study:
    """Everything one report shows: which methods, on what, under which protocol and training budget.

    Args:
        name: of the folder under ``reports/``.
        title: headline of the page.
        methods: registry names.
        dataset: registry name.
        dataset_options: arguments of the dataset.
        splits: held-out splits, each told apart in every table.
        msi_bands: MSI band counts.
        protocol: the degradation shared by all rows.
        scenarios: columns of the robustness tables; the clean one first.
        seeds: of training; training-free methods run once.
        recipe: name of a recipe on the methods' cards; empty takes each card's first.
        training: fields of :class:`methods.registry.Recipe` replaced for every method, the declared budget.
        exceptions: fields of the recipe replaced for one method, by its name, on top of ``training``; say why in a label.
        arguments: build arguments by method name, such as a reduced width.
        cost_lr_size: LR side in pixels at which costs are measured; HR is ``ratio`` times that.
        precision: of Lightning Fabric, ``"32-true"`` or ``"bf16-mixed"``.
        labels: sentences that every caption carries.
    """

    name: str
    title: str
    methods: tuple[str, ...]
    dataset: str
    dataset_options: Mapping[str, Any] = field(default_factory=dict)
    splits: tuple[str, ...] = ("test",)
    msi_bands: tuple[int, ...] = (4, 6)
    protocol: Protocol = PAPER
    scenarios: tuple[Scenario, ...] = (CLEAN,)
    seeds: tuple[int, ...] = (0,)
    recipe: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    exceptions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cost_lr_size: int = 64
    precision: str = "32-true"
    labels: tuple[str, ...] = ()

    @cached_property
    def data(self) -> Dataset:
        """The dataset; building it reads no cube."""
        return datasets.get(self.dataset, **self.dataset_options)

    def stages_of(self, method: str) -> tuple[Recipe, ...]:
        """The recipe of a method, stage by stage, under this study's budget; empty for training-free methods.

        A budget in steps or minutes is shared out evenly among the stages.

        Raises:
            MethodError: no recipe of that name.
        """
        recipes = card(method).recipes
        if not recipes:
            return ()
        name = self.recipe or next(iter(recipes))
        if name not in recipes:
            raise MethodError(f"method '{method}' has no recipe '{name}'; choices: {', '.join(recipes)}")
        stages = recipes[name] if isinstance(recipes[name], tuple) else (recipes[name],)
        budget = {**self.training, **self.exceptions.get(method, {})}
        if "steps" in budget:
            budget["steps"] //= len(stages)
        if "minutes" in budget:
            budget["minutes"] /= len(stages)
        return tuple(dataclasses.replace(stage, **budget) for stage in stages)


@dataclass(frozen=True, eq=False)
class Job:
    """One cell of a study's grid.

    Args:
        kind: ``"train"``, ``"score"`` or ``"cost"``.
        study: that asked for it; only what decides this cell's numbers enters the key.
        methods: the one measured, or all that are trained together.
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
        """The method measured; of a training, the first one trained."""
        return self.methods[0]

    @property
    def label(self) -> str:
        """The cell in words."""
        words = [self.kind, "+".join(self.methods), f"msi{self.msi_bands}"]
        if self.kind == "cost":
            return " ".join([*words, f"at LR {self.study.cost_lr_size}", self.device])
        words += [self.study.dataset, f"seed{self.seed}"]
        if self.kind == "score":
            snr = "" if math.isinf(self.scenario.snr_db) else f"{self.scenario.noise_target} {self.scenario.snr_db:g}dB"
            words += [self.split, self.scenario.name, snr]
        return " ".join(word for word in words if word)

    @cached_property
    def training(self) -> Job | None:
        """The training this score needs; None for training-free methods."""
        stages = self.study.stages_of(self.method)
        if self.kind != "score" or not stages:
            return None
        return Job("train", self.study, stages[0].trains, self.msi_bands, self.seed)

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What decides the numbers, as JSON values. Not in it: time, host, versions, git revision."""
        study = self.study
        words: dict[str, Any] = {
            "kind": self.kind,
            "schema": ROW_SCHEMA,
            "methods": {name: dict(study.arguments.get(name, {})) for name in self.methods},
            "msi_bands": self.msi_bands,
            "protocol": study.protocol.digest,
        }
        if self.kind == "cost":
            if study.protocol.bands == "all":  # the band count is then the scenes'
                words["data"] = study.data.digest()
            return words | {"device": self.device, "precision": study.precision, "lr_size": study.cost_lr_size}
        words |= {"dataset": study.dataset, "data": study.data.digest(), "seed": self.seed}
        if self.kind == "train":
            stages = [
                {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe)} | {"task": recipe.task.__name__}
                for recipe in study.stages_of(self.method)
            ]
            return words | {"recipe": stages if len(stages) > 1 else stages[0], "precision": study.precision}
        words |= {"split": self.split, "scenario": dataclasses.asdict(self.scenario)}
        return words | {"training": self.training.key if self.training else None}

    @cached_property
    def key(self) -> str:
        """sha256 of :attr:`inputs`, 64 hex digits."""
        return hashlib.sha256(canonical(self.inputs).encode()).hexdigest()

    @property
    def source(self) -> str:
        """Digest of the methods' code, blind to comments and docstrings: another one makes the job stale."""
        return hashlib.sha256("".join(source_digest(card(name).build.__module__) for name in self.methods).encode()).hexdigest()


def plan(study: Study, device: str, costs_only: bool = False) -> list[Job]:
    """The jobs of a study, each training before the scores that need it; no job twice. Costs need no data.

    Raises:
        MethodError: unknown method or recipe.
        SceneError: unknown dataset, option or split.
    """
    jobs: dict[str, Job] = {}
    if not costs_only:
        for split in study.splits:
            study.data.entries(split)
    for job in _costs(study, device) if costs_only else [*_scores(study), *_costs(study, device)]:
        for each in (job.training, job):
            if each is not None:
                jobs.setdefault(each.key, each)
    return list(jobs.values())


def _scores(study: Study) -> Iterator[Job]:
    """Clean scores of every method first, so that an interrupted study has its main table."""
    for scenario in study.scenarios:
        for msi_bands in study.msi_bands:
            for method in study.methods:
                for seed in study.seeds if study.stages_of(method) else study.seeds[:1]:
                    for split in study.splits:
                        yield Job("score", study, (method,), msi_bands, seed, split, scenario)


def _costs(study: Study, device: str) -> Iterator[Job]:
    for msi_bands in study.msi_bands:
        for method in study.methods:
            yield Job("cost", study, (method,), msi_bands, device=device)


def shard(jobs: Iterable[Job], text: str) -> list[Job]:
    """The part ``"i/n"`` (1-based) of a plan. A training and the scores that need it stay together.

    Raises:
        PlanError: not of that form.
    """
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise PlanError(f"shard '{text}': give i/n with 1 <= i <= n, such as 2/4")
    return [job for job in jobs if int((job.training or job).key, 16) % int(parts) == int(part) - 1]


def canonical(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, infinities as strings."""

    def plain(x: Any) -> Any:
        if isinstance(x, Mapping):
            return {str(key): plain(value) for key, value in x.items()}
        if isinstance(x, (list, tuple)):
            return [plain(value) for value in x]
        return str(x) if isinstance(x, float) and math.isinf(x) else x

    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"))


def source_digest(module: str) -> str:
    """Digest of a method's module and of the ``methods`` modules it imports, but for the registry.

    Taken from the syntax tree without docstrings, so that an edited comment does not throw away days of training.
    """
    trees: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in trees or name == "methods.registry":
            continue
        path = Path(sys.modules[name].__file__ or "")
        trees[name], imported = _parsed(path, path.stat().st_mtime_ns)
        waiting += [m for m in imported if m in sys.modules and m != "methods"]
    return hashlib.sha256("".join(trees[name] for name in sorted(trees)).encode()).hexdigest()


@cache
def _parsed(path: Path, _modified: int) -> tuple[str, tuple[str, ...]]:
    """A file's syntax tree without docstrings, and the names that may be ``methods`` modules it imports."""
    tree, imported = ast.parse(path.read_text()), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("methods"):
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree), tuple(imported)
