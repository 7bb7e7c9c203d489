"""What decides a claim from rows: differences between methods pair by pair, with an interval, and a verdict on them.

Pairs are seeds of training where both sides have three or more, images otherwise. Splits and MSI settings are never averaged:
a claim holds where all of its differences lie on its side, and not where one lies wholly on the other. One too small to matter
counts neither way, and methods that say nothing are left aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import pandas as pd
from scipy import stats

from benchmark.metrics import METRICS
from benchmark.page.cells import listed
from benchmark.page.section import Section
from benchmark.protocol import CLEAN, Scenario
from methods import available, card
from methods.registry import split_label

LEAST_IMAGES = LEAST_SEEDS = 3  # of fewer, an interval says nothing
LEAST_EFFECT_DB = 0.05  # of PSNR: a smaller difference counts neither for a claim nor against it
LEAST_SHARE = 10 ** (LEAST_EFFECT_DB / 20) - 1  # the same change of an error: 0.58 % of it
MAIN = ("psnr_db", "sam_deg", "rmse_unit")  # of the papers' tables; in the unit range, since native units differ by image
NOWHERE = pd.DataFrame(columns=["seed", "image", *MAIN]).set_index(["seed", "image"])


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
    """A mean over pairs of by how much something is as a claim says, with its 95 % interval.

    Args:
        what: in words.
        n: pairs.
        mean: of them.
        low: end of the interval.
        high: its other end.
        unit: of the mean.
        pairs: what they are: ``images`` or ``seeds``.
        split: where.
        least: a smaller one counts neither way.
        aside: ``(method, why it says nothing here)``, where it is left aside.
    """

    what: str
    n: int
    mean: float
    low: float
    high: float
    unit: str
    pairs: str = "images"
    split: str = ""
    least: float = 0.0
    aside: tuple[str, str] | None = None

    def __str__(self) -> str:
        return (f"{self.what} {self.mean:+.3g} {self.unit} [{self.low:+.3g}, {self.high:+.3g}], n = {self.n}"
                f"{' seeds' if self.pairs == 'seeds' else ''}")

    def wholly_below(self, margin: float, tried: int) -> bool:
        """The interval, widened after Bonferroni where ``tried`` are of seeds; one over images ends with the images."""
        wider = stats.t.isf(0.025 / tried, self.n - 1) / stats.t.isf(0.025, self.n - 1) if self.pairs == "seeds" else 1.0
        return bool(self.mean + wider * (self.high - self.mean) < margin)

    def trifling(self, margin: float = 0.0) -> bool:
        """Too small to count, and not only by chance: the interval tells a side, or holds nothing larger."""
        side = self.low > margin or self.high < margin
        within = margin - self.least < self.low and self.high < margin + self.least
        return abs(self.mean - margin) < self.least and (side or within)


def difference(what: str, values: Sequence[float] | pd.Series, unit: str, split: str = "", least: float = 0.0,
               aside: tuple[str, str] | None = None) -> Difference:
    """Mean and interval of one value a pair: Student's over seeds, as a t test has it, of images percentiles of a bootstrap.

    Fewer than three have no interval.
    """
    own = np.asarray(values, dtype=float)
    pairs = "seeds" if isinstance(values, pd.Series) and values.index.name == "seed" else "images"
    low, high = float("-inf"), float("inf")
    if len(own) >= LEAST_IMAGES:
        low, high = _of_seeds(own) if pairs == "seeds" else _of_images(tuple(own))
    return Difference(what, len(own), float(own.mean()), low, high, unit, pairs, split, least, aside)


def _of_seeds(values: np.ndarray) -> tuple[float, float]:
    reach = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return float(values.mean()) - reach, float(values.mean()) + reach


@cache
def _of_images(values: tuple[float, ...]) -> tuple[float, float]:
    found = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def judged(differences: Iterable[Difference], margin: float = 0.0) -> Verdict:
    """Whether all differences are above ``margin``, one is wholly below it, or neither can be told."""
    found = list(differences)
    told = [each for each in found if not each.aside]
    tested = [each for each in told if each.n >= LEAST_IMAGES]
    aside = _left_aside(found)
    if not found:
        return Verdict(None, why="no rows of this study measure it")
    if not tested:
        shown = (told or found)[0]
        most = max((each.n for each in told), default=0)
        few = f"n too small: {most} image{'s' if most != 1 else ''} a split, {LEAST_IMAGES} or more are needed"
        return Verdict(None, f"{len(found)} differences, such as: {shown.what} {shown.mean:+.3g} {shown.unit}",
                       "; ".join([*([few] if told else []), *([aside] if len(told) < len(found) else [])]))
    counting = [each for each in tested if not each.trifling(margin)]
    seeds = sum(each.pairs == "seeds" for each in counting)  # one of them is enough to refuse a claim: it must not be chance
    above = [each for each in counting if each.low > margin]
    below = [each for each in counting if each.wholly_below(margin, seeds)]
    deciding = below or [each for each in counting if each.low <= margin] or counting or tested
    least = min((each for each in deciding if each.unit == deciding[0].unit), key=lambda each: each.mean)
    small = f", {len(tested) - len(counting)} too small to count" if len(counting) < len(tested) else ""
    words = f"{len(above)} of {len(tested)} differences above {margin:g}, {len(below)} below{small}, such as: {least}"
    if below:
        holds, why = False, "an interval lies wholly on the other side"
    elif not counting:
        holds, why = None, "undecided: none is large enough to count"
    elif len(above) < len(counting):
        chance = any(each.high < margin for each in counting)
        holds, why = None, f"undecided: an interval holds {margin:g}{f', corrected for {seeds} tried' if chance else ''}"
    else:
        holds, why = True, "every interval lies on its side"
    where = _where(below or tested, found, "tried" if holds is None else "decided")
    return Verdict(holds, words, "; ".join(each for each in (why, where, aside) if each))


def _where(deciding: Sequence[Difference], found: Sequence[Difference], verb: str) -> str:
    """On which splits, of those that have rows."""
    here, every = (dict.fromkeys(each.split for each in group if each.split) for group in (deciding, found))
    return f"{verb} on {' and '.join(here)}{' alone' if len(here) < len(every) else ''}" if here else ""


def _left_aside(found: Sequence[Difference]) -> str:
    """How many differences are left aside, and why."""
    few = sum(each.n < LEAST_IMAGES for each in found if not each.aside)
    words = [f"{few} of fewer than {LEAST_IMAGES} images"] if few else []
    reasons: dict[str, list[str]] = {}
    for each in found:
        if each.aside:
            reasons.setdefault(each.aside[1], []).append(each.aside[0])
    words += [f"{len(methods)} {why} ({listed(set(methods), 4)})" for why, methods in reasons.items()]
    return f"left aside: {', '.join(words)}" if words else ""


# ------------------------------------------------------------------------------------------------------- rows by place


def scored(section: Section, method: str, scenario: Scenario, msi_bands: int, split: str, column: str) -> pd.Series:
    """(Seed, image) -> a column of one method at one place; only finite values of good rows."""
    key = method, scenario.name, scenario.noise_target, scenario.snr_db, msi_bands, split
    rows = _places(section).get(key, NOWHERE)
    values = (rows[column] if column in rows else NOWHERE["psnr_db"]).astype(float)
    return values[np.isfinite(values)]


def by_image(section: Section, method: str, scenario: Scenario, msi_bands: int, split: str, column: str) -> pd.Series:
    """Image -> mean over seeds of :func:`scored`."""
    return scored(section, method, scenario, msi_bands, split, column).groupby("image").mean()


def paired(one: pd.Series, other: pd.Series) -> pd.Series:
    """By how much one of :func:`scored` is above another: by seed where both have three or more, else by image."""
    if all(side.index.get_level_values("seed").nunique() >= LEAST_SEEDS for side in (one, other)):
        by_seed = (one - other).dropna().groupby("seed").mean()
        if len(by_seed) >= LEAST_SEEDS:
            return by_seed
    return (one.groupby("image").mean() - other.groupby("image").mean()).dropna()


def silent(section: Section, methods: Sequence[str], msi_bands: int, split: str) -> tuple[str, str] | None:
    """The first of some methods that says nothing at a place, and why: constant, or no better than interpolation."""
    floor = by_image(section, "bicubic", CLEAN, msi_bands, split, "psnr_db").mean()
    for method in methods:
        if method in section.facts.constant:
            return method, "of constant output"
        if not np.isfinite(floor):
            return method, "without rows of bicubic to be told from a failure"
        if by_image(section, method, CLEAN, msi_bands, split, "psnr_db").mean() < floor:
            return method, "below bicubic on clean images"
    return None


@lru_cache(maxsize=1)
def _places(section: Section) -> dict[tuple[object, ...], pd.DataFrame]:
    scores = section.rows.scores
    keys = ["method", "scenario", "noise_target", "snr_db", "msi_bands", "split"]
    good = scores[scores["status"] == "ok"].set_index(["seed", "image"]) if len(scores) else scores
    return dict(list(good.groupby(keys, sort=False))) if len(good) else {}


def places(section: Section) -> list[tuple[str, int]]:
    """(Split, MSI band count) of a study, none averaged with another."""
    return [(split.name, bands) for split in section.facts.splits for bands in section.facts.msi_bands]


def ahead(section: Section, own: str, other: str, metrics: Sequence[str] = MAIN,
          scenarios: Sequence[Scenario] = (CLEAN,), arms: bool = True) -> list[Difference]:
    """By how much one method is better than another, pair by pair; positive is better in every metric.

    Args:
        section: the whole study.
        own: the method that is to be better.
        other: than this one.
        metrics: columns of score rows.
        scenarios: in each of which they are compared.
        arms: they are arms of one experiment, compared whatever they reach; else one that is :func:`silent` is left aside.
    """
    found = []
    for split, bands in places(section):
        aside = None if arms else silent(section, (own, other), bands, split)
        for scenario in scenarios:
            for key in metrics:
                mine, theirs = (scored(section, each, scenario, bands, split, key) for each in (own, other))
                values = paired(mine, theirs) * (1 if METRICS[key].better == "higher" else -1)
                if len(values):
                    level = "" if scenario.name == "clean" else f", {scenario.noise_target} {scenario.snr_db:g} dB"
                    what = f"{own} better than {other} by {METRICS[key].label} ({split}, {bands} bands{level})"
                    found.append(difference(what, values, METRICS[key].unit, split, least_effect(key, theirs), aside))
    return found


def least_effect(column: str, values: pd.Series) -> float:
    """What a difference must have to count, beside such values."""
    return LEAST_EFFECT_DB if column == "psnr_db" else LEAST_SHARE * float(values.mean())


# -------------------------------------------------------------------------------------------------- methods of a study


def has(section: Section, *methods: str) -> bool:
    """Whether a study asks for these methods."""
    return set(methods) <= set(section.facts.methods)


def supervised(section: Section, but: Sequence[str] = ()) -> list[str]:
    """Networks trained on other scenes, without oracles, variants, and those named."""
    known = [each for each in section.facts.methods if each in available("supervised") and each not in but]
    return [each for each in known if not card(each).oracle]


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
          scenarios: Sequence[Scenario] = (CLEAN,), required: Sequence[str] = (), margin: float = 0.0,
          arms: bool = False) -> Verdict:
    """Whether methods are better than others in these metrics, pair by pair, in every split and MSI setting.

    Args:
        section: the whole study.
        own: the methods that the claim is about.
        others: they are set against.
        metrics: columns of score rows.
        scenarios: in each of which they are compared.
        required: others without which it cannot hold, only fail.
        margin: better by more than this, in each metric's unit.
        arms: as of :func:`ahead`.
    """
    own_there, there = [each for each in own if has(section, each)], [each for each in others if has(section, each)]
    absent = [each for each in (*own, *required) if not has(section, each)]
    if not own_there or not there:
        missing = " and ".join(own) if not own_there else "what it is set against"
        return Verdict(None, why=f"this study has no rows of {missing}")
    kinds = {section.facts.kinds.get(each, "") for each in (*own_there, *there)
             if card(each).family == "supervised" and each not in section.facts.constant}  # which are of no kind
    if kinds - {"trained"}:
        return Verdict(None, why="the trained methods of this study had unequal training budgets, so that none is ranked")
    held = {(mine, other): ahead(section, mine, other, metrics, scenarios, arms) for mine in own_there for other in there}
    found = judged([one for each in held.values() for one in each], margin)
    told = {method for pair, each in held.items() if any(not one.aside for one in each) for method in pair}
    untold = [each for each in (*own, *required) if has(section, each) and each not in told]
    if found.holds and (absent or untold):
        lacking = [f"this study has no rows of {', '.join(absent)}"] if absent else []
        lacking += [f"nothing is told by {', '.join(untold)}"] if untold else []
        return Verdict(None, found.measured, "; ".join(["so far it holds", *lacking, *found.why.split("; ")[1:]]))
    return found
