"""What a table or figure may see: the facts of a study (:class:`Facts`) and the rows of a split (:class:`Section`)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.metrics import METRICS
from benchmark.page.cells import Cell, cost_rows, score_cell
from benchmark.protocol import Scenario
from benchmark.published import Printed
from benchmark.rows import CURVE, IDENTITY, SCORE
from methods.registry import Method

NO_ROWS = pd.DataFrame(columns=[*SCORE, "stale"])
NO_CURVES = pd.DataFrame(columns=[*CURVE, "msi_bands", "seed", "job"])
# Splits whose images are in several native units, which no row says; a test holds this to the scenes of the data sets.
SEVERAL_UNITS = {("aviris", "test-other-flight"), ("aviris-tiles", "test")}
NO_MEAN = "images in several native units (radiance and reflectance), of which there is no mean: see the RMSE of the unit range"


@dataclass(frozen=True)
class Split:
    """A held-out split, the images that the plan asks for, and what must be known of it.

    One that is seen by a sensor of its own has the digest of that protocol, and the MSI band counts that it has alone. Of one
    that is seen in several ways ``view`` says in which: the end of its name.
    """

    dataset: str
    name: str
    images: tuple[str, ...]
    words: str = ""
    digest: str = ""
    msi_bands: tuple[int, ...] = ()
    view: str = ""

    @property
    def alone(self) -> str:
        """Its name whichever way it is seen."""
        return self.name.removesuffix(f", {self.view}")

    @property
    def one_unit(self) -> bool:
        """Whether its images share a native unit, without which errors in it have no mean."""
        return (self.dataset, self.alone) not in SEVERAL_UNITS

    @property
    def title(self) -> str:
        """As every heading and caption calls it."""
        return f"{self.dataset} / {self.name}"


@dataclass(frozen=True)
class Facts:
    """All of a study that its page says and that no row holds.

    Args:
        study: name of its folder.
        title: headline of the page.
        methods: rows of every table, measured or not, in this order.
        msi_bands: MSI band counts.
        scenarios: asked for.
        splits: asked for.
        seeds: that the plan asks for, by method.
        protocol: name of the degradation.
        digest: its hash.
        statements: what every full caption says: what was trained how, built how, and the labels of the study.
        labels: those of the statements that the study itself makes; they stand on the first screen.
        conditions: ``(heading, words)`` that the page alone says.
        cards: of the methods that are registered.
        arguments: build arguments of the methods that are not those of their cards.
        marks: words behind a method's name.
        told: what each method is told of the sensors as built here: ``known``, ``blind`` or nothing.
        constant: methods whose output is the same whatever the images are.
        kinds: with which methods one is ranked: a key of :data:`benchmark.page.formats.KINDS`; missing: with none.
        unranked: sentences that say which methods are not ranked, and why.
        devices: that measured.
        failed: jobs, with the reason.
        damaged: jobs whose files cannot be read, with the reason.
        stale: jobs, with the parts of the code that have changed.
        missing: jobs that have not run, or not to their end.
        author_lists: split -> tiles, where the study reads the authors' own lists.
        published: method -> MSI band count -> column -> what the papers print of it without noise.
    """

    study: str
    title: str
    methods: tuple[str, ...]
    msi_bands: tuple[int, ...]
    scenarios: tuple[Scenario, ...]
    splits: tuple[Split, ...]
    seeds: Mapping[str, tuple[int, ...]]
    protocol: str
    digest: str
    statements: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    conditions: tuple[tuple[str, str], ...] = ()
    cards: Mapping[str, Method] = field(default_factory=dict)
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)
    constant: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    unranked: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    author_lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    published: Mapping[str, Mapping[int, Mapping[str, Printed]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """What the results folder holds of a study, as :mod:`benchmark.rows` describes each kind.

    Args:
        scores: one line an image, with ``stale``.
        costs: one line a method, MSI setting and device, with ``stale``.
        curves: one logged value a line, with ``msi_bands``, ``seed`` and ``job``.
        fidelity: one line a network.
        recorded: one line a training-free method and recorded case.
        estimators: one line an estimator and made pair; of the page of estimators alone.
        downstream: one line a scene, scenario and method; of the page of downstream scores alone.
        realism: one line a scene, real or procedural; like the next of the page of realism alone.
        realism_curves: one point of a curve of a scene a line.
        growth: one line a method and point of an axis; like the next two of the page of speed alone.
        speed: one line a timing against a yardstick.
        ways: one validation score a line, of trainings of one pair with one budget, plain, exact and mixed.
        estimates: ``(method, MSI band count, split)`` -> the file of the estimate that was kept for pictures.
    """

    scores: pd.DataFrame = field(default_factory=pd.DataFrame)
    costs: pd.DataFrame = field(default_factory=pd.DataFrame)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    fidelity: pd.DataFrame = field(default_factory=pd.DataFrame)
    recorded: pd.DataFrame = field(default_factory=pd.DataFrame)
    estimators: pd.DataFrame = field(default_factory=pd.DataFrame)
    downstream: pd.DataFrame = field(default_factory=pd.DataFrame)
    realism: pd.DataFrame = field(default_factory=pd.DataFrame)
    realism_curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    growth: pd.DataFrame = field(default_factory=pd.DataFrame)
    speed: pd.DataFrame = field(default_factory=pd.DataFrame)
    ways: pd.DataFrame = field(default_factory=pd.DataFrame)
    estimates: Mapping[tuple[str, int, str], Path] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Section:
    """One split, or with ``split=None`` the whole study.

    Args:
        facts: of the study.
        rows: of the study; of its scores those of this split, also the failed ones.
        split: whose rows these are.
        slug: beginning of the names of its files.
    """

    facts: Facts
    rows: Rows
    split: Split | None = None
    slug: str = "study"

    @property
    def title(self) -> str:
        """As headings and captions call it."""
        return self.split.title if self.split else "whole study"

    @property
    def name(self) -> str:
        """As a table that names the data set elsewhere calls it."""
        return self.split.name if self.split else "whole study"

    @cached_property
    def _places(self) -> dict[tuple[object, ...], pd.DataFrame]:
        keys = ["scenario", "noise_target", "snr_db", "msi_bands", "method"]
        return dict(list(self.rows.scores.groupby(keys, sort=False)))

    @cached_property
    def _scored(self) -> dict[tuple[Scenario, int, str, str], Cell]:
        return {}

    def score(self, scenario: Scenario, msi_bands: int, method: str, column: str) -> Cell:
        """The mean of one column of the score rows over the images of this split that the plan asks for."""
        if msi_bands not in self.facts.msi_bands:
            return Cell(notes=("this split is seen by a sensor of another band count",))
        key = scenario, msi_bands, method, column
        if key not in self._scored:
            images = sum(len(split.images) for split in ([self.split] if self.split else self.facts.splits))
            cell = score_cell(self.scored(scenario, msi_bands, method), column, images, self.facts.seeds.get(method, (0,)))
            native = column in METRICS and METRICS[column].unit == "native"
            mixed = native and not math.isnan(cell.value) and self.split is not None and not self.split.one_unit
            self._scored[key] = Cell(notes=(NO_MEAN,)) if mixed else cell
        return self._scored[key]

    def scored(self, scenario: Scenario, msi_bands: int, method: str) -> pd.DataFrame:
        """The score rows of a method in a scenario, also the failed ones."""
        return self._places.get((scenario.name, scenario.noise_target, scenario.snr_db, msi_bands, method), NO_ROWS)

    @cached_property
    def costs(self) -> Mapping[tuple[int, str], pd.DataFrame]:
        """(MSI band count, method) -> its cost rows at the largest size."""
        found = cost_rows(self.rows.costs)
        return dict(list(found.groupby(["msi_bands", "method"], sort=False))) if len(found) else {}

    def conditions(self) -> str:
        """Under which the means of this split stand: n, seeds, devices, and what is a mean of what."""
        scores = self.rows.scores
        good = scores[scores["status"] == "ok"]
        seeds = ", ".join(str(seed) for seed in sorted(set(good["seed"]))) or "none"
        asked, there = len(self.split.images) if self.split else 0, good["image"].nunique()
        words = [f"n = {asked if there == asked else f'{there} of {asked}'} images, seeds {seeds};",
                 f"{protocol_words(self.facts)};",
                 f"measured on {', '.join(sorted(set(good['device']))) or 'no device yet'}.",
                 "Mean over images, then mean ± std over seeds." if good["seed"].nunique() > 1 else "Mean over images."]
        words += [f"{len(scores) - len(good)} failed rows of this split left out."] if len(good) < len(scores) else []
        return " ".join(words)

    def caption(self) -> str:
        """What the full caption of a table or figure says behind its own line: the conditions, and every statement."""
        return " ".join([f"Split {self.title}: {self.conditions()}", *said(self.facts)])


def protocol_words(facts: Facts) -> str:
    """Name and hash of the degradation."""
    return f"protocol {facts.protocol} {facts.digest}"


def said(facts: Facts) -> list[str]:
    """What every full caption says, as sentences."""
    return [statement.rstrip(".") + "." for statement in facts.statements]


def measured_by(rows: pd.DataFrame) -> str:
    """Devices, versions and code of rows that are of no study."""
    held = {key: ", ".join(sorted({str(value) for value in rows[key]})) for key in ("device", "torch")}
    revisions = ", ".join(sorted({str(value)[:12] for value in rows["revision"]}))
    return f"Device {held['device']}, torch {held['torch']}, code {revisions}."


def sections(facts: Facts, rows: Rows) -> tuple[Section, list[Section]]:
    """The whole study, and one section a split; one without rows yet is a section full of holes.

    Raises:
        ValueError: two rows claim the same cell and image, so that a mean would count one of them twice, or a row is of
            another split or protocol than the study's.
    """
    scores = rows.scores if len(rows.scores) else NO_ROWS
    identity = list(IDENTITY)
    twice = scores[scores.duplicated(identity)]
    if len(twice):
        raise ValueError(f"two score rows for {twice.iloc[0][identity].to_dict()}: a report takes one")
    wanted = {(split.dataset, split.name, split.digest or facts.digest) for split in facts.splits}
    other = set(zip(scores["dataset"], scores["split"], scores["protocol"])) - wanted
    if other:
        raise ValueError(f"rows of {sorted(other)} do not belong to the study '{facts.study}'")
    rows = replace(rows, scores=scores, curves=rows.curves if len(rows.curves) else NO_CURVES)
    made: dict[str, Section] = {}
    for split in facts.splits:
        slug = base = slug_of(split.title)
        number = 1
        while slug in made:
            number += 1
            slug = f"{base}-{number}"
        here = scores[(scores["dataset"] == split.dataset) & (scores["split"] == split.name)]
        own = replace(facts, digest=split.digest, msi_bands=split.msi_bands) if split.digest else facts
        made[slug] = Section(own, replace(rows, scores=here), split, slug)
    return Section(facts, rows), list(made.values())


def slug_of(text: str) -> str:
    """Words as part of a file name and of an HTML id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
