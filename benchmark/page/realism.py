"""The page of procedural scenes against real ones, of no study (``results/realism.csv``, ``results/realism-curves.csv``)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.page.plots import COLOURS, WIDTH, Plot, own_style, plain
from benchmark.page.section import Rows, Section, measured_by
from benchmark.page.tables import METRIC_COLUMNS, Listing
from benchmark.realism import (
    FINE,
    FITTED,
    HELD,
    IMPROVED,
    MEASURES,
    METHODS,
    PROCEDURAL,
    PROTOCOL,
    QUANTITIES,
    REAL,
    SCENARIOS,
    SCORES,
    SETS,
)

LABELS: dict[str, tuple[str, int]] = {  # of a quantity: words and digits behind the point
    "components": (f"Principal components that hold {HELD:.1%} of the variance", 1),
    "rank": ("Principal components that stand out from noise", 1),
    "correlation_1": ("Correlation of neighbouring bands", 4), "correlation_50": ("Correlation of bands 50 apart", 3),
    "slope": ("Exponent of the spatial power spectrum", 2), "fine_share": ("Power above half of Nyquist's frequency (%)", 1),
    "kurtosis": ("Kurtosis of differences between neighbours", 1), "snr_db": ("SNR, median band (dB)", 1),
    "snr_p10_db": ("SNR, 10th percentile of bands (dB)", 1), "snr_p90_db": ("SNR, 90th percentile of bands (dB)", 1)}
LABELS |= {f"{method}_{name}_{metric}": (f"{method}, {'LR-HSI with 35 dB' if name != 'clean' else 'clean'}: "
                                         f"{METRIC_COLUMNS[metric].label} ({METRIC_COLUMNS[metric].unit})", 2)
           for method in METHODS for name in SCENARIOS for metric in ("psnr_db", "sam_deg")}
SCALES = {"fine_share": 0.01}
LOOK = {REAL: COLOURS[4], PROCEDURAL: COLOURS[1], IMPROVED: COLOURS[0]}
NAMES = {REAL: "real (aviris)", PROCEDURAL: PROCEDURAL, IMPROVED: IMPROVED}
GAP = 3.0  # a step in wavelength above this many times the usual one breaks a line: bands that are left out


def values(rows: pd.DataFrame, dataset: str, key: str) -> list[float]:
    """A quantity of the scenes of one set, in the units that are shown."""
    return [float(value) / SCALES.get(key, 1) for value in rows.loc[rows["dataset"] == dataset, key]]


def within(rows: pd.DataFrame, dataset: str, key: str) -> bool:
    """Whether the median of a set lies within the range of the real scenes."""
    real = values(rows, REAL, key)
    return min(real) <= median(values(rows, dataset, key)) <= max(real)


def outside(rows: pd.DataFrame, dataset: str, keys: Sequence[str] = QUANTITIES) -> list[str]:
    """The quantities of a set that are not :func:`within`, in words."""
    return [LABELS[key][0] for key in keys if not within(rows, dataset, key)]


def sets_of(rows: pd.DataFrame) -> list[str]:
    """The procedural sets that there are rows of, beside real ones."""
    there = set(rows["dataset"]) if len(rows) else set()
    return [name for name in (PROCEDURAL, IMPROVED) if name in there and REAL in there]


def statistics(section: Section) -> list[Listing]:
    """Each quantity measured on the reference: real range, and median of each procedural set."""
    return _listing(section, "realism", "Statistics of the reference", MEASURES)


def scores(section: Section) -> list[Listing]:
    """As :func:`statistics`, of the scores of methods."""
    return _listing(section, "realism-scores", "Scores of methods that need no training", SCORES)


def _listing(section: Section, name: str, title: str, keys: Sequence[str]) -> list[Listing]:
    rows = section.rows.realism
    sets = sets_of(rows)
    if not sets:
        return []
    lines = []
    for key in keys:
        words, digits = LABELS[key]
        real = values(rows, REAL, key)
        shown = [f"{value:.{digits}f}" for value in (min(real), median(real), max(real))]
        for each in sets:
            shown += [f"{median(values(rows, each, key)):.{digits}f}", "yes" if within(rows, each, key) else "NO"]
        lines.append((words, *shown))
    counts = ", ".join(f"{each} {len(keys) - len(outside(rows, each, keys))} of {len(keys)}" for each in sets)
    heads = ("Quantity", "Real, lowest", "Real, median", "Real, highest",
             *(head for each in sets for head in (f"{each}, median", "Within")))
    return [Listing(name, title, f"Within: the median of the procedural scenes lies in the range of the real ones: {counts}.",
                    heads, tuple(lines), conditions=conditions(rows))]


def curves(section: Section) -> list[Plot]:
    """Spatial spectrum, SNR by wavelength and correlation by distance in bands: median and range of each set."""
    rows, lines = section.rows.realism, section.rows.realism_curves
    if not sets_of(rows) or not len(lines):
        return []
    with own_style():
        figure = Figure(figsize=(WIDTH, 8.4), layout="constrained")
        panels = dict(zip(("power", "snr_db", "correlation"), figure.subplots(3, 1)))
        for kind, axes in panels.items():
            for dataset in (name for name in SETS if name in set(rows["dataset"])):
                _band(axes, lines[(lines["curve"] == kind) & (lines["dataset"] == dataset)], LOOK[dataset])
        panels["power"].set(xscale="log", yscale="log", xlabel="spatial frequency (cycles per pixel)",
                            ylabel="power (share of all rings)")
        panels["power"].axvspan(*FITTED, color="#f0f0f0", zorder=0.5, linewidth=0)
        panels["snr_db"].set(xlabel="wavelength (nm)", ylabel="SNR (dB)")
        panels["correlation"].set(xlabel="bands apart", ylabel="mean correlation")
        panels["power"].set_title(plain("median and range over scenes\ngrey: where the exponent is fitted"), fontsize=10)
        handles: list[Any] = [Line2D([], [], color=LOOK[name], label=NAMES[name]) for name in SETS
                              if name in set(rows["dataset"])]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handlelength=2)
    medians = "; ".join(f"{LABELS[key][0]}: " + ", ".join(f"{NAMES[name]} {median(values(rows, name, key)):.{LABELS[key][1]}f}"
                                                         for name in (REAL, *sets_of(rows)))
                        for key in ("slope", "snr_db", "correlation_50"))
    return [Plot("figure-realism", "Real and procedural scenes: spatial spectrum, SNR, correlation",
                 "Spatial spectrum of the mean over bands, SNR of each band, and correlation of bands so many apart: median "
                 "over scenes, band: their range.", figure, "", conditions(rows), f"Medians. {medians}.")]


def _band(axes: Axes, lines: pd.DataFrame, colour: str) -> None:
    """Median over scenes of one curve as a line, their range as a band; broken where bands are left out."""
    points = lines.groupby(lines.groupby("image").cumcount())  # the same band has other wavelengths in other flights
    found = points["y"].agg(["median", "min", "max"]).assign(x=points["x"].median()).sort_values("x")
    x = found["x"].to_numpy(float)
    wide: list[int] = []
    if (lines["curve"] == "snr_db").all():
        steps = np.diff(x)
        wide = (np.flatnonzero(steps > GAP * np.median(steps)) + 1).tolist()
    for i, j in pairwise([0, *wide, len(x)]):
        axes.plot(x[i:j], found["median"].to_numpy()[i:j], color=colour)
        axes.fill_between(x[i:j], found["min"].to_numpy()[i:j], found["max"].to_numpy()[i:j], color=colour, alpha=0.15,
                          linewidth=0)


def conditions(rows: pd.DataFrame) -> str:
    """What was measured, on what and by what."""
    return " ".join(words for _, words in parts_of(rows))


def conditions_of(rows: Rows) -> list[tuple[str, str]]:
    """What the page says once, ``(heading, words)``."""
    return parts_of(rows.realism) if len(rows.realism) else []


def parts_of(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Scenes, each quantity, what the criterion is worth, and where it was measured."""
    scenes = {name: list(rows.loc[rows["dataset"] == name, "image"]) for name in SETS}
    tuned = list(rows.loc[rows["tuned"] == "yes", "image"])
    protocol = ", ".join(sorted(set(rows["protocol"])))
    counts = {key: " and ".join(str(value) for value in sorted(set(rows[key]))) for key in ("bands", "msi_bands")}
    missed = {name: outside(rows, name) for name in sets_of(rows)}
    parts = {
        "Scenes": f"Real: {', '.join(scenes[REAL])}. Procedural: the scenes of the test split of each data set, "
                  f"{len(scenes[PROCEDURAL])} and {len(scenes[IMPROVED])}. The top-left {PROTOCOL.hr_size}x{PROTOCOL.hr_size} "
                  f"pixels, {counts['bands']} bands, as the protocol {protocol} makes the reference.",
        "Tuning": f"The constants of {IMPROVED} were chosen so that medians over these procedural scenes come near to "
                  f"{', '.join(tuned)}, of one flight, in most of the statistics. {PROCEDURAL} is the generator of the "
                  "studies, unchanged; both draw the same lands.",
        "Spectra": f"Components hold {HELD:.1%} of the variance of the reference. Those that stand out from noise: of bands "
                   "divided by the deviation of their noise, above the edge of Marchenko and Pastur. Correlations are means "
                   "over pairs of bands in their order.",
        "Space": "Of the mean over bands, with a Hann window: power averaged over rings of frequency. Exponent: of power = a / "
                 f"frequency^b, fitted in logarithms from {FITTED[0]:g} to {FITTED[1]:g} cycles per pixel. Fine power: above "
                 f"{FINE:g} cycles per pixel, of all up to Nyquist's frequency. Kurtosis of differences: 3 of Gaussian "
                 "texture, high where few edges stand on calm ground.",
        "Noise": "Of a band: what a regression on all other bands leaves (HySime; Roger & Arnold 1996). Noise that bands share "
                 "is not in it. SNR: mean square of the band over the variance of that.",
        "Scores": f"{counts['msi_bands']} MSI bands, ratio {PROTOCOL.ratio}, clean and with noise of 35 dB on the LR-HSI.",
        "What it is worth": "Eight real scenes of three flights, one of them of reflectance, span wide ranges, and a median "
                            "within them says little where they are wide: read the medians beside each other. Nothing here "
                            "says that what a network learns from such scenes carries over. In the real scenes of flight A "
                            "some bands, such as AVIRIS bands 17, 32, 77 and 95, are almost a combination of others: "
                            "the SNR there is a peak, which the generator lacks. Noise that bands share, and stripes, were "
                            "not measured.",
        "Outside": "; ".join(f"{name}: {', '.join(words) if words else 'none'}" for name, words in missed.items()) + "."
                   if missed else "",
        "Measured": measured_by(rows)}
    return [(heading, words) for heading, words in parts.items() if words]
