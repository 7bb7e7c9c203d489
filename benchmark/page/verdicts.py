"""What decides a claim from rows: differences between methods image by image, with an interval, and a verdict on them.

Splits and MSI settings are never averaged: a claim holds where all of its differences lie on its side, and not where one
lies wholly on the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from benchmark.metrics import METRICS
from benchmark.page.section import NO_ROWS, Section
from benchmark.protocol import CLEAN, Scenario
from methods import available, card
from methods.registry import split_label

LEAST_IMAGES = 3  # of fewer, an interval over images says nothing
MAIN = ("psnr_db", "sam_deg", "rmse")  # of the papers' tables


@dataclass(frozen=True)
class Verdict:
    """On a claim: it holds, it does not, or (None) this cannot be told here.

    Args:
        measured: what was measured, with n and interval where it is a mean.
        why: it is so, or what is missing.
    """

    holds: bool | None
    measured: str = ""
    why: str = ""


@dataclass(frozen=True)
class Difference:
    """A mean over images of by how much something is as a claim says, with its 95 % bootstrap interval."""

    what: str
    n: int
    mean: float
    low: float
    high: float
    unit: str

    def __str__(self) -> str:
        return f"{self.what} {self.mean:+.3g} {self.unit} [{self.low:+.3g}, {self.high:+.3g}], n = {self.n}"


def difference(what: str, values: Sequence[float], unit: str) -> Difference:
    """Mean and percentile bootstrap interval of one value an image; fewer than three have no interval."""
    own = np.asarray(values, dtype=float)
    mean = float(own.mean())
    if len(own) < LEAST_IMAGES:
        return Difference(what, len(own), mean, float("-inf"), float("inf"), unit)
    low, high = _interval(tuple(own))
    return Difference(what, len(own), mean, low, high, unit)


@cache
def _interval(values: tuple[float, ...]) -> tuple[float, float]:
    found = bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def judged(differences: Iterable[Difference], margin: float = 0.0) -> Verdict:
    """Whether all differences are above ``margin``, one is wholly below it, or neither can be told."""
    found = list(differences)
    tested = [each for each in found if each.n >= LEAST_IMAGES]
    if not found:
        return Verdict(None, why="no rows of this study measure it")
    if not tested:
        most = max(each.n for each in found)
        return Verdict(None, f"{len(found)} differences, such as: {found[0].what} {found[0].mean:+.3g} {found[0].unit}",
                       f"n too small: {most} image{'s' if most != 1 else ''} a split, {LEAST_IMAGES} or more are needed")
    above, below = [each for each in tested if each.low > margin], [each for each in tested if each.high < margin]
    deciding = below or [each for each in tested if each.low <= margin] or tested
    least = min((each for each in deciding if each.unit == deciding[0].unit), key=lambda each: each.mean)
    words = f"{len(above)} of {len(tested)} differences above {margin:g}, {len(below)} below, such as: {least}"
    small = len(found) - len(tested)
    aside = f"; {small} more of fewer than {LEAST_IMAGES} images left aside" if small else ""
    if below:
        return Verdict(False, words, f"an interval lies wholly on the other side{aside}")
    if len(above) < len(tested):
        return Verdict(None, words, f"undecided: an interval holds {margin:g}{aside}")
    return Verdict(True, words, f"every interval lies on its side{aside}")


# ------------------------------------------------------------------------------------------------------- rows by place


def by_image(section: Section, method: str, scenario: Scenario, msi_bands: int, split: str, column: str) -> pd.Series:
    """Image -> mean over seeds of a column of one method at one place; only finite values of good rows."""
    key = method, scenario.name, scenario.noise_target, scenario.snr_db, msi_bands, split
    rows = _places(section).get(key, NO_ROWS)
    values = rows.groupby("image")[column].mean() if len(rows) and column in rows else pd.Series(dtype=float)
    return values[np.isfinite(values)]


@lru_cache(maxsize=1)
def _places(section: Section) -> dict[tuple[object, ...], pd.DataFrame]:
    scores = section.rows.scores
    keys = ["method", "scenario", "noise_target", "snr_db", "msi_bands", "split"]
    return dict(list(scores[scores["status"] == "ok"].groupby(keys, sort=False))) if len(scores) else {}


def places(section: Section) -> list[tuple[str, int]]:
    """(Split, MSI band count) of a study, none averaged with another."""
    return [(split.name, bands) for split in section.facts.splits for bands in section.facts.msi_bands]


def ahead(section: Section, own: str, other: str, metrics: Sequence[str] = MAIN,
          scenarios: Sequence[Scenario] = (CLEAN,)) -> list[Difference]:
    """By how much one method is better than another, image by image; positive is better in every metric."""
    found = []
    for split, bands in places(section):
        for scenario in scenarios:
            for key in metrics:
                mine, theirs = (by_image(section, each, scenario, bands, split, key) for each in (own, other))
                values = (mine - theirs).dropna() * (1 if METRICS[key].better == "higher" else -1)
                if len(values):
                    level = "" if scenario.name == "clean" else f", {scenario.noise_target} {scenario.snr_db:g} dB"
                    what = f"{own} better than {other} by {METRICS[key].label} ({split}, {bands} bands{level})"
                    found.append(difference(what, values, METRICS[key].unit))
    return found


# -------------------------------------------------------------------------------------------------- methods of a study


def has(section: Section, *methods: str) -> bool:
    """Whether a study asks for these methods."""
    return set(methods) <= set(section.facts.methods)


def supervised(section: Section, but: Sequence[str] = ()) -> list[str]:
    """Networks trained on other scenes, without oracles, variants, those named, and those of constant output."""
    known = [each for each in section.facts.methods if each in available("supervised") and each not in but]
    return [each for each in known if not card(each).oracle and each not in section.facts.constant]


def variants(section: Section, method: str, key: str) -> dict[object, str]:
    """Value of a build argument, or recipe -> the variant of a method that has it and no other difference; its default too."""
    default = next(iter(card(method).recipes)) if key == "recipe" else card(method).defaults[key]
    found: dict[object, str] = {}
    for label in section.facts.methods:
        name, own = split_label(label)
        if name == method and set(own) <= {key}:
            found[own.get(key, default)] = label
    return found


def beats(section: Section, own: Sequence[str], others: Sequence[str], metrics: Sequence[str] = MAIN,
          scenarios: Sequence[Scenario] = (CLEAN,), required: Sequence[str] = (), margin: float = 0.0) -> Verdict:
    """Whether methods are better than others in these metrics, image by image, in every split and MSI setting.

    Args:
        section: the whole study.
        own: the methods that the claim is about.
        others: they are set against.
        metrics: columns of score rows.
        scenarios: in each of which they are compared.
        required: others without which it cannot hold, only fail.
        margin: better by more than this, in each metric's unit.
    """
    own_there, there = [each for each in own if has(section, each)], [each for each in others if has(section, each)]
    absent = [each for each in (*own, *required) if not has(section, each)]
    if not own_there or not there:
        missing = " and ".join(own) if not own_there else "what it is set against"
        return Verdict(None, why=f"this study has no rows of {missing}")
    if constant := [each for each in (*own_there, *there) if each in section.facts.constant]:
        return Verdict(None, why=f"the output of {', '.join(constant)} is constant")
    kinds = {section.facts.kinds.get(each, "") for each in (*own_there, *there) if card(each).family == "supervised"}
    if kinds - {"trained"}:
        return Verdict(None, why="the trained methods of this study had unequal training budgets, so that none is ranked")
    found = judged([one for mine in own_there for other in there for one in ahead(section, mine, other, metrics, scenarios)],
                   margin)
    if found.holds and absent:
        return Verdict(None, found.measured, f"so far it holds; this study has no rows of {', '.join(absent)}")
    return found
