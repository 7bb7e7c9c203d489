"""What the parts of the findings share: rows of studies by name, scores out of them, tables and numbers in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from benchmark import store
from benchmark.page.cells import decibels
from benchmark.page.facts import facts_of, rows_of
from benchmark.page.section import Section, sections
from benchmark.plan import Job, plan
from benchmark.protocol import CLEAN, Scenario
from benchmark.studies import study
from methods import card
from methods.registry import split_label

SAME, OTHER = "test-same-flight", "test-other-flight"
WORDS = {SAME: "same flight", OTHER: "other flights"}
ON = {SAME: "on the same flight", OTHER: "on other flights"}
RESAMPLES, SEED = 2000, 0  # of the interval of a rank correlation, over methods
Table = list[list[str]]


@dataclass(frozen=True)
class Part:
    """One question: its title, the answer in a sentence, and what it rests on; without an answer, nothing is measured."""

    title: str
    answer: str = ""
    body: tuple[str, ...] = ()


@dataclass(frozen=True)
class Studied:
    """The sections of a study as it is: of all its rows, and by split; and its jobs in the results folder."""

    whole: Section
    splits: dict[str, Section]
    jobs: Sequence[Job]
    results: Path

    def hours(self, kind: str) -> float:
        """What its jobs of a kind took: ``train``, trials of learning rates included, or ``score``."""
        return float(np.nansum([store.held(self.results, job).seconds for job in self.jobs if job.kind == kind])) / 3600

    def processors(self) -> dict[str, str]:
        """Method -> what it was trained on, of seeds the last; empty words where its record does not say."""
        return {method: str(store.provenance_of(store.held(self.results, job).words).get("device", ""))
                for job in self.jobs if job.kind == "train" for method in job.methods}


Held = Callable[[str], Studied]


def held_in(name: str, results: Path) -> Studied:
    """A study's rows in a results folder."""
    chosen = study(name)
    jobs = plan(chosen, "cpu")
    rows = rows_of(chosen, jobs, results)
    whole, parts = sections(facts_of(chosen, jobs, results, rows), rows)
    return Studied(whole, {each.split.name: each for each in parts if each.split}, jobs, results)


def value(section: Section, method: str, scenario: Scenario, column: str) -> float:
    """A mean over images with the study's first MSI band count; NaN where it is not measured."""
    return section.score(scenario, section.facts.msi_bands[0], method, column).value


def psnr(section: Section, method: str, scenario: Scenario = CLEAN) -> float:
    """Of :func:`value`, the PSNR in dB."""
    return value(section, method, scenario, "psnr_db")


def ranked(section: Section, methods: Iterable[str], scenario: Scenario = CLEAN) -> list[str]:
    """Those that are measured, best first."""
    return sorted((method for method in methods if math.isfinite(psnr(section, method, scenario))),
                  key=lambda each: -psnr(section, each, scenario))


def group(section: Section, method: str) -> str:
    """With which methods one is named: by what it is told, or how it is made."""
    if "weights" in split_label(method)[1]:
        return "shipped"
    kind = section.facts.kinds.get(method, "")
    return "per image" if kind and card(method).family == "unsupervised" else kind


def of_group(section: Section, *groups: str) -> list[str]:
    """The methods of some groups, in the study's order."""
    return [method for method in section.facts.methods if group(section, method) in groups]


def correlation(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's rho."""
    return float(stats.spearmanr(one, other).statistic)


def interval(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """95 % of a rank correlation, methods drawn with replacement; draws that are constant are left out."""
    draws, found = np.random.default_rng(SEED), list[float]()
    while len(found) < RESAMPLES:
        chosen = draws.integers(0, len(other), len(other))
        if len(set(chosen)) > 2:
            found.append(correlation(one[chosen], other[chosen]))
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)


def signed(number: float) -> str:
    """As :func:`~benchmark.page.cells.decibels`, with its sign."""
    return f"{'+' if round(number, 2) >= 0 else ''}{decibels(number)}".replace("-", "−") if math.isfinite(number) else "—"


def markdown(lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its first line the heading."""
    head, *rest = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rest))
