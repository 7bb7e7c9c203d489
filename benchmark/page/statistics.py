"""What differences between methods are worth: intervals over images, and tests whether methods differ at all.

The unit is the image: its scores are first averaged over the seeds of training. Fewer than :data:`LEAST` images carry no
interval, and fewer than are :func:`needed` to tell any pair of so many methods apart no test: it is said so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from benchmark.page.cells import NAN, Cell
from benchmark.page.plots import Plot, own_style, plain, styles
from benchmark.page.section import Section
from benchmark.page.tables import METRIC_COLUMNS, Column, Row, Table
from benchmark.protocol import CLEAN, Scenario

LEAST = 5  # images with an interval
CONFIDENCE = 0.95
SEED = 0  # of the resampling
RANKS = (Column("mean_rank", "Mean rank", "", "", 2), Column("first", "First on", "images", "", 0),
         Column("worse", "Worse than the best: p", "Holm", "", None))


def of_images(section: Section, scenario: Scenario, msi_bands: int, method: str, column: str) -> dict[str, float]:
    """Image -> score, the mean over seeds; of the images that every seed has."""
    rows = section.scored(scenario, msi_bands, method)
    if column not in rows or rows.empty:
        return {}
    good = rows[(rows["status"] == "ok") & rows[column].notna()]
    found = good.groupby("image")[column].agg(["mean", "count"])
    return {str(image): float(mean) for image, mean, count in zip(found.index, found["mean"], found["count"])
            if count == found["count"].max()}


def with_interval(cell: Cell, values: Sequence[float]) -> Cell:
    """A mean with its bootstrap interval (BCa, 95 %) over images; as it is where there are too few, or all are equal."""
    if math.isnan(cell.value) or len(values) < LEAST or not np.isfinite(values).all() or np.ptp(values) == 0:
        return cell
    found = stats.bootstrap((np.asarray(values),), np.mean, confidence_level=CONFIDENCE, method="BCa",
                            rng=np.random.default_rng(SEED)).confidence_interval
    return replace(cell, interval=(float(found.low), float(found.high)))


def interval_words(section: Section) -> str:
    """What the intervals of a table are, or why it has none."""
    images = section.rows.scores[section.rows.scores["status"] == "ok"]["image"].nunique()
    if images < LEAST:
        return f"No intervals: {images} image{'s' if images != 1 else ''}, {LEAST} are needed."
    return "In brackets: 95 % interval of the mean over images (bootstrap, BCa)."


@dataclass(frozen=True)
class Comparison:
    """Methods compared image by image.

    Args:
        scores: method by image; of the images that all of them have.
        ranks: mean rank of each method over the images, best first; 1 is best, ties share.
        friedman: probability of such ranks if all methods were alike; NaN without a test.
        pairs: Holm-corrected probability of the signed-rank test of each pair; empty without a test.
    """

    scores: pd.DataFrame
    ranks: Mapping[str, float]
    friedman: float
    pairs: Mapping[frozenset[str], float]

    def alike(self, one: str, other: str) -> bool:
        """The tests do not tell two methods apart: the pair's own, or already the one of all."""
        return not (self.friedman < 1 - CONFIDENCE) or not (self.pairs[frozenset((one, other))] < 1 - CONFIDENCE)

    @property
    def groups(self) -> list[list[str]]:
        """The largest stretches of neighbours by rank in which no two are told apart, two methods or more each."""
        order = list(self.ranks)
        found: list[list[str]] = []
        for i in range(len(order)):
            j = i
            while j + 1 < len(order) and all(self.alike(order[j + 1], other) for other in order[i:j + 1]):
                j += 1
            if j > i and not (found and found[-1][-1] == order[j]):
                found.append(order[i:j + 1])
        return found


def compared(section: Section, msi_bands: int, column: str = "psnr_db") -> Comparison | None:
    """Friedman's test over images (the blocks), then signed-rank tests of all pairs, corrected after Holm.

    Of clean scenes; methods that lack an image of the plan are left out. None where fewer than two methods are left; no test of
    fewer images than are :func:`needed`.
    """
    images = section.split.images if section.split else ()
    held = {method: of_images(section, CLEAN, msi_bands, method, column) for method in section.facts.methods}
    whole = {method: own for method, own in held.items()
             if len(own) == len(images) and all(map(math.isfinite, own.values()))}
    if len(whole) < 2 or not images:
        return None
    scores = pd.DataFrame(whole)
    sign = -1 if METRIC_COLUMNS[column].better == "up" else 1
    mean = (sign * scores).rank(axis=1).mean()
    ranks = {str(method): float(mean[method]) for method in sorted(mean.index, key=lambda method: (mean[method], method))}
    if len(images) < needed(len(whole)):
        return Comparison(scores, ranks, NAN, {})
    # of two methods the test of all is that of the pair
    friedman = float(stats.friedmanchisquare(*scores.to_numpy().T).pvalue) if len(whole) > 2 else 0.0
    names = list(ranks)
    pairs = {frozenset((one, other)): _signed_rank(scores[one] - scores[other])
             for i, one in enumerate(names) for other in names[i + 1:]}
    return Comparison(scores, ranks, friedman, dict(zip(pairs, holm(list(pairs.values())))))


def needed(methods: int) -> int:
    """The least images of which a pair of so many methods can be told apart.

    Where one method leads on all of n images the two-sided signed-rank test has its least probability, 2 / 2^n, and Holm's
    correction multiplies it by the number of pairs.
    """
    pairs, images = methods * (methods - 1) / 2, 1
    while pairs * 2.0 ** (1 - images) >= 1 - CONFIDENCE:
        images += 1
    return images


def _signed_rank(differences: pd.Series) -> float:
    """Two-sided probability of Wilcoxon's signed-rank test; 1 where nothing differs."""
    return float(stats.wilcoxon(differences.to_numpy()).pvalue) if differences.abs().max() > 0 else 1.0


def holm(probabilities: Sequence[float]) -> list[float]:
    """Probabilities of several tests, corrected after Holm (1979): the family errs no more often than one test does."""
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__)
    corrected, highest = [0.0] * len(probabilities), 0.0
    for k, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - k) * probabilities[i]))
        corrected[i] = highest
    return corrected


def significance(section: Section) -> list[Table | Plot]:
    """Mean ranks over the images, and their critical-difference diagram where there are images enough for a test."""
    rows: list[Row] = []
    figures: list[Plot] = []
    images = len(section.split.images) if section.split else 0
    counted = f"{images} image{'s' if images != 1 else ''}"
    untested: dict[str, None] = {}
    for msi_bands in section.facts.msi_bands:
        found = compared(section, msi_bands)
        if found is None:
            continue
        best = next(iter(found.ranks))
        leads = (found.scores.rank(axis=1, ascending=False) == 1).sum()
        rows += [Row(msi_bands, method, (Cell(rank), Cell(float(leads[method])), Cell(
            found.pairs.get(frozenset((best, method)), NAN) if method != best else NAN)),
            section.facts.marks.get(method, "")) for method, rank in found.ranks.items()]
        if found.pairs:
            figures.append(_diagram(section, msi_bands, found))
        else:
            methods = len(found.ranks)
            untested[f"No test: with {counted} and {methods} methods no difference could be told, whatever the scores; "
                     f"{needed(methods)} images are needed."] = None
    if not rows:
        return []
    words = [f"Ranks of the PSNR over {counted} of clean scenes, 1 is best."]
    words += ["p: Wilcoxon's signed-rank test against the first, images as pairs, corrected after Holm over all pairs."] \
        if figures else []
    words += untested
    columns = RANKS if figures else RANKS[:2]
    rows = [replace(row, cells=row.cells[:len(columns)]) for row in rows]
    return [*figures, Table(f"{section.slug}-ranks", "Mean ranks over images", " ".join(words), columns, tuple(rows),
                            conditions=section.caption())]


def _diagram(section: Section, msi_bands: int, found: Comparison) -> Plot:
    """Methods on the axis of mean ranks, joined by a bar where the tests do not tell them apart (Demšar 2006)."""
    look, order, n = styles(section.facts.methods), list(found.ranks), len(found.ranks)
    half = math.ceil(n / 2)
    with own_style():
        figure = Figure(figsize=(7.2, 1.3 + 0.22 * half + 0.12 * len(found.groups)), layout="constrained")
        axes = figure.subplots()
        depth = 0.6 + 0.35 * len(found.groups)
        low, high, margin = 1, n, 0.55 * n
        axes.plot([low, high], [0, 0], color="#333333", linewidth=1, label="_axis")
        step = max(1, math.ceil((high - low) / 10))
        for tick in range(low, high + 1, step):
            axes.plot([tick, tick], [0, 0.2], color="#333333", linewidth=1, label="_tick")
            axes.text(tick, 0.3, f"{tick}", ha="center", va="bottom", fontsize=9)
        for k, members in enumerate(found.groups):
            axes.plot([found.ranks[members[0]] - 0.04, found.ranks[members[-1]] + 0.04], [-0.35 * (k + 1)] * 2,
                      color="#444444", linewidth=3.2, solid_capstyle="round", label=f"group: {', '.join(members)}")
        for i, method in enumerate(order):
            left = i < half
            end, height = (low - margin, -depth - i * 0.8) if left else (high + margin, -depth - (n - 1 - i) * 0.8)
            axes.plot([found.ranks[method]] * 2 + [end], [0, height, height], color=look[method]["color"], linewidth=1,
                      label=f"_{method}")
            axes.plot([found.ranks[method]], [0], **{**look[method], "linestyle": "none"}, label=plain(method))
            axes.text(end, height + 0.08, plain(f"{method} {found.ranks[method]:.2f}"), fontsize=8.5,
                      ha="left" if left else "right", va="bottom")
        axes.set_axis_off()
        axes.set_title(plain(f"{section.title}, {msi_bands} MSI bands: mean rank in PSNR over {len(found.scores)} images"),
                       fontsize=10, pad=16)
    groups = "; ".join(", ".join(members) for members in found.groups)
    told = f"not told apart: {groups}" if groups else "all pairs are told apart"
    caption = (f"Mean rank over {len(found.scores)} images, PSNR of clean scenes, {msi_bands} MSI bands; a bar joins methods "
               "that are not told apart at 5 %.")
    test = f"Friedman's test over all methods, images as blocks: p = {found.friedman:.2g}; then " if n > 2 else ""
    notes = (f"{test}Wilcoxon's signed-rank test of each pair, corrected after Holm. Blocks: "
             f"{', '.join(map(str, found.scores.index))}.")
    return Plot(f"{section.slug}-ranks-msi{msi_bands}", f"Critical differences, {msi_bands} MSI bands", caption, figure, notes,
                section.caption(), f"{order[0]} has the best mean rank, {found.ranks[order[0]]:.2f}; {told}.")
