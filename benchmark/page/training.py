"""What trainings logged, as figures: loss terms in panels, validation scores and learning rates apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.ticker import NullFormatter

from benchmark.page.plots import (
    GREY,
    Plot,
    canvas,
    coloured,
    far_off,
    far_words,
    legend,
    mean_line,
    own_style,
    plain,
    styles,
    thinned,
)
from benchmark.page.section import Section, protocol_words, said

TERMS = {"loss": "total loss", "l1": "L1 loss", "beba": "BEBA loss", "sam": "SAM loss", "kd": "feature KD",
         "output": "output L1"}  # logged quantity -> label of its panel; others are drawn under their own names
OTHERS = (  # file name, title, quantity, label
    ("val-psnr", "Validation PSNR", "val_psnr_db", "validation PSNR (dB)"),
    ("val-sam", "Validation SAM", "val_sam_deg", "validation SAM (deg)"),
    ("lr", "Learning rate", "lr", "learning rate"),
)
TRIAL = "val_psnr_db_at_lr_"  # how the quantities of a trial of learning rates begin: one value each, in no figure
BETTER = {"val_psnr_db": 1, "val_sam_deg": -1, "loss": -1}  # what every method logs, and its good side
MANY = 8  # methods in one panel, above which it is a figure of its own
PANELS = 6  # in one figure


def training(section: Section, methods: Sequence[str] | None = None, prefix: str = "training") -> list[Plot]:
    """Every logged quantity per epoch: loss terms in panels, validation figures and learning rates apart.

    Args:
        section: the whole study.
        methods: drawn; all of the study if not given.
        prefix: of the names of the files.
    """
    made = []
    for msi_bands in section.facts.msi_bands:
        curves = section.rows.curves
        curves = curves[(curves["msi_bands"] == msi_bands)
                        & curves["method"].isin(section.facts.methods if methods is None else methods)]
        curves = curves.dropna(subset=["value"])
        curves = curves[~curves["quantity"].str.startswith(TRIAL)]
        for i, terms in enumerate(_figures(curves), 1):
            name = f"{prefix}-losses{'' if i == 1 else f'-{i}'}-msi{msi_bands}"
            made.append(_training(section, curves, name, "Training losses", msi_bands,
                                  {term: TERMS.get(term, term) for term in terms}))
        logged = set(curves["quantity"])
        made += [_training(section, curves, f"{prefix}-{name}-msi{msi_bands}", title, msi_bands, {quantity: label})
                 for name, title, quantity, label in OTHERS if quantity in logged]
    return made


def _figures(curves: pd.DataFrame) -> list[list[str]]:
    """The loss terms of each figure: the total and the known ones first, then those that a method alone logs together."""
    of = {str(quantity): sorted(set(methods)) for quantity, methods in curves.groupby("quantity")["method"]}
    apart = {quantity for _, _, quantity, _ in OTHERS}
    groups = [["loss"], [term for term in TERMS if term != "loss"]]
    others = sorted((term for term in of if term not in apart and term not in TERMS), key=lambda term: (of[term], term))
    groups += [list(terms) for _, terms in groupby(others, key=lambda term: of[term])]
    figures: list[list[str]] = []
    for group in groups:
        terms = [term for term in group if term in of]
        for k in range(0, len(terms), PANELS):
            chunk = terms[k:k + PANELS]
            crowded = not figures or len(figures[-1]) + len(chunk) > PANELS or len(of[figures[-1][0]]) > MANY
            figures = [*figures, chunk] if crowded else [*figures[:-1], [*figures[-1], *chunk]]
    return figures


def _training(section: Section, curves: pd.DataFrame, name: str, title: str, msi_bands: int,
              quantities: Mapping[str, str]) -> Plot:
    """Stacked panels, one a quantity, over epochs; one line a method, the mean over its seeds while all of them last."""
    final = last_values(curves, "val_psnr_db")
    asked = curves[curves["quantity"].isin(list(quantities))]
    end = asked.groupby(["quantity", "method", "seed"])["epoch"].transform("max")
    curves = asked[asked["epoch"] <= end.groupby([asked["quantity"], asked["method"]]).transform("min")]
    drawn = [method for method in section.facts.methods if (curves["method"] == method).any()]
    chosen = coloured(drawn, final)
    look = styles(section.facts.methods) | {method: GREY for method in drawn if method not in chosen}
    far: dict[str, float] = {}
    with own_style():
        figure, panels = canvas(len(quantities), 2.9 if len(quantities) == 1 else 1.35, drawn, chosen)
        for axes, (quantity, label) in zip(panels, quantities.items()):
            diverged = _diverged(curves, quantity)
            far |= diverged
            here = curves[(curves["quantity"] == quantity) & ~curves["method"].isin(list(diverged))]
            for method, run in here.groupby("method", sort=True):
                values = run.groupby(["epoch", "seed"])["value"].mean()
                epochs = [float(epoch) for epoch, _ in values.index]
                mean_line(axes, list(zip(epochs, values)), "sd" if method in chosen else None, str(method), look[str(method)],
                           markevery=max(1, len(set(epochs)) // 8))
            axes.locator_params(axis="x", integer=True)
            if len(quantities) > 1:
                axes.locator_params(axis="y", nbins=4)
            low, high = here["value"].min(), here["value"].max()
            loss = "-losses" in name
            if loss and low > 0 and high > 10 * low:  # a decade at least, else a log axis has no labels
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter("{x:g}")
                axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_ylabel(plain(label), fontsize=9 if len(quantities) > 1 else 10)
        panels[-1].set_xlabel("epoch")
        panels[0].set_title(f"{msi_bands} MSI bands", fontsize=10)
        legend(figure, panels[0], drawn, look, chosen)
    runs = curves.groupby("method")["seed"].nunique()
    counted = ", ".join(f"{method} {n}" for method, n in runs.items())
    seeds = ", ".join(str(seed) for seed in sorted(set(curves["seed"])))
    band = ", mean over the seeds with a band of their standard deviation" if runs.max() > 1 else ""
    notes = [thinned(drawn, chosen, "of the last validation"), f"Runs: {counted}; seeds {seeds}.",
             far_words(far, 4),
             "Each line ends where the first of its seeds does." if len(curves) < len(asked) else "", *_stale(curves)]
    conditions = [f"{protocol_words(section.facts).capitalize()}; devices: {', '.join(section.facts.devices) or 'unknown'}.",
                  *said(section.facts)]
    alt = "; ".join(f"{label}: {last_words(last_values(curves, quantity))}" for quantity, label in quantities.items())
    return Plot(name, f"{title}: {', '.join(quantities.values())}, {msi_bands} MSI bands",
                f"{title} per epoch, {msi_bands} MSI bands, one line a method{band}.", figure, " ".join(filter(None, notes)),
                " ".join(conditions), f"{title} per epoch. At the end, {alt}.")


def _diverged(curves: pd.DataFrame, quantity: str) -> dict[str, float]:
    """Of the methods of one panel those far worse than all others in the second half of their runs, which are not drawn.

    A training that diverges would press all others together. Losses are set against each other in decades.
    """
    sign, loss = BETTER.get(quantity, 0), quantity == "loss"
    own = curves[(curves["quantity"] == quantity) & (curves["epoch"] > curves.groupby("method")["epoch"].transform("max") / 2)]
    usual = own.groupby("method")["value"].median()
    scaled = np.log10(usual[usual > 0]) if loss else usual
    if not sign or not len(scaled):
        return {}
    far = far_off({str(method): float(value) for method, value in scaled.items()}, "up" if sign > 0 else "down")
    return {method: float(usual[method]) for method in far}


def last_values(curves: pd.DataFrame, quantity: str) -> dict[str, float]:
    """Method -> the last logged value of a quantity, the mean over its seeds."""
    found = curves[curves["quantity"] == quantity].sort_values("epoch").groupby(["method", "seed"])["value"].last()
    return {str(method): float(value) for method, value in found.groupby("method").mean().items()}


def last_words(values: Mapping[str, float]) -> str:
    """From where to where values go, and whose they are."""
    if not values:
        return "no rows"
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    return f"{values[low]:.4g} ({low})" + (f" to {values[high]:.4g} ({high})" if high != low else "")


def _stale(curves: pd.DataFrame) -> list[str]:
    """Which lines are of code that has changed since."""
    if "stale" not in curves:
        return []
    found = curves[curves["stale"] != ""].groupby("stale")["method"].unique()
    return [f"Stale: changed since it was measured ({parts}): {', '.join(methods)}." for parts, methods in found.items()]
