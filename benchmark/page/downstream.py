"""The page of downstream scores, of no study: what fused images are good for (``results/downstream.csv``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pandas as pd

from benchmark.downstream import (
    BLOCK,
    CLASSES,
    COMPONENTS,
    ENDMEMBERS,
    FIGURES,
    INNER,
    LOADING,
    MARGIN,
    METHODS,
    OUTER,
    PROTOCOL,
    REFERENCE,
    SCORES,
)
from benchmark.page.cells import NO_ROW, Cell, listed
from benchmark.page.plots import Plot, canvas, legend, own_style, plain, styles
from benchmark.page.section import Rows, Section, measured_by
from benchmark.page.tables import METRIC_COLUMNS, SIDE_BY_SIDE, Column, Listing, Row, Table

COLUMNS = {key: METRIC_COLUMNS[key] for key in ("psnr_db", "sam_deg")} | {
    "rx_auc": Column("rx_auc", "RX AUC", "", "up", 3), "local_rx_auc": Column("local_rx_auc", "Local RX AUC", "", "up", 3),
    "abundance_rmse": Column("abundance_rmse", "Abundance RMSE", "", "down", 4),
    "proxy_accuracy": Column("proxy_accuracy", "Proxy accuracy", "%", "up", 1, 0.01)}
SCENARIO = ["scenario", "noise_target", "snr_db"]
TARGETS = {"lr_hsi": "LR-HSI", "both": "both images"}


def scenarios(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Words for each scenario, the clean one first -> its rows, with those of the reference, which are the same in all."""
    fused, true = rows[rows["method"] != REFERENCE], rows[rows["method"] == REFERENCE]
    found = {}
    for (name, target, snr_db), mine in sorted(fused.groupby(SCENARIO, sort=False), key=lambda group: -group[0][2]):
        words = f"{TARGETS.get(target, target)} with noise of {snr_db:g} dB" if math.isfinite(snr_db) else str(name)
        found[words] = pd.concat([true, mine])
    return found


def ordered(rows: pd.DataFrame) -> list[str]:
    """The reference, then methods as the command lists them, then others as they came."""
    there = list(dict.fromkeys(rows["method"]))
    return [name for name in (REFERENCE, *METHODS) if name in there] + [name for name in there
                                                                        if name not in (REFERENCE, *METHODS)]


def unseen(rows: pd.DataFrame) -> list[str]:
    """The scenes that no method was trained on."""
    seen = set(rows[rows["seen"] == "yes"]["image"])
    return [image for image in dict.fromkeys(rows["image"]) if image not in seen]


def cell(rows: pd.DataFrame, method: str, key: str, images: Sequence[str]) -> Cell:
    """Mean of one column over scenes, without those that the method was trained on, which is told and then not ranked."""
    mine = rows[(rows["method"] == method) & rows["image"].isin(images)]
    good = mine[(mine["status"] == "ok") & (mine["seen"] == "no")]
    trained, failed = int((mine["seen"] == "yes").sum()), int((mine["status"] != "ok").sum())
    words = [*([f"without the {trained} it was trained on"] if trained else []), *([f"{failed} rows failed"] if failed else [])]
    if not len(good):
        return Cell(notes=tuple(words) or (NO_ROW,))
    notes = [] if len(good) == len(images) else [", ".join(
        [f"mean over {len(good)} of {len(images)} scenes", *words]) + ": not ranked"]
    return Cell(fmean(good[key]), notes=tuple(notes), ranked=not notes)


def scores(section: Section) -> list[Table]:
    """Mean of every score over all scenes, and over those that no method was trained on, where these are fewer."""
    rows = section.rows.downstream
    if not len(rows):
        return []
    every, held = list(dict.fromkeys(rows["image"])), unseen(rows)
    made = [_table(rows, every, "downstream", "Downstream scores, all scenes",
                   f"Mean over {len(every)} scenes, first the true image, whose AUC others may pass. Accuracy: a proxy.")]
    if held and len(held) < len(every):
        made.append(_table(rows, held, "downstream-unseen", "Downstream scores, scenes that no network was trained on",
                           f"Mean over {len(held)} scenes: {', '.join(held)}. Accuracy: a proxy."))
    return made


def _table(rows: pd.DataFrame, images: Sequence[str], name: str, title: str, caption: str) -> Table:
    parts = scenarios(rows)
    columns = tuple(replace(COLUMNS[key], key=f"{key}_{i}" if i else key, group=words)
                    for i, words in enumerate(parts) for key in FIGURES)
    told = rows.drop_duplicates("method").set_index("method")["told"].fillna("")
    lines = [Row(SIDE_BY_SIDE, method, tuple(cell(mine, method, key, images) for mine in parts.values() for key in FIGURES),
                 "the true image" if method == REFERENCE else str(told[method]), str(told[method])) for method in ordered(rows)]
    return Table(name, title, caption, columns, tuple(lines), ("Not ranked: the reference.",),
                 conditions(rows[rows["image"].isin(images)]))


def correlations(section: Section) -> list[Listing]:
    """Spearman's rank correlation over methods of each downstream score with PSNR and SAM: mean and range over scenes."""
    rows = section.rows.downstream
    if not len(rows):
        return []
    lines, counts = [], dict[str, None]()
    for words, mine in scenarios(rows).items():
        good = mine[(mine["method"] != REFERENCE) & (mine["status"] == "ok") & (mine["seen"] == "no")]
        by_scene = [own for _, own in good.groupby("image", sort=False)]
        counts |= dict.fromkeys(str(len(own)) for own in sorted(by_scene, key=len))
        halves = [own.nlargest(len(own) // 2, "psnr_db") for own in by_scene]
        for key in SCORES:
            found = ([correlation(own, key, other) for own in group]
                     for group, other in ((by_scene, "psnr_db"), (by_scene, "sam_deg"), (halves, "psnr_db")))
            lines.append((COLUMNS[key].label, words, *map(ranged, found)))
    return [Listing("downstream-ranks", "Do PSNR and SAM order methods as downstream scores do?",
                    f"Spearman's rank correlation over {' or '.join(counts)} methods, by scene: mean [lowest, highest]; 1: "
                    "both order them alike, from best to worst.",
                    ("Score", "Scenario", "With PSNR", "With SAM", "With PSNR, better half by PSNR"), tuple(lines),
                    conditions=f"Methods are left out on scenes that they were trained on. {conditions(rows)}")]


def correlation(rows: pd.DataFrame, one: str, other: str) -> float:
    """Spearman's rank correlation over the rows of two columns, each turned so that more is better; ties share a rank."""
    ranks = [(rows[key] if COLUMNS[key].better == "up" else -rows[key]).rank() for key in (one, other)]
    return float(ranks[0].corr(ranks[1])) if all(rank.nunique() > 1 for rank in ranks) else math.nan


def ranged(values: Sequence[float]) -> str:
    """``0.91 [0.85, 0.97]``: mean and range of those that there are."""
    there = [value for value in values if not math.isnan(value)]
    return f"{fmean(there):.2f} [{min(there):.2f}, {max(there):.2f}]" if there else "—"


def against_psnr(section: Section) -> list[Plot]:
    """Each downstream score against PSNR, means over all scenes; a figure a scenario."""
    rows = section.rows.downstream
    return [_scatter(rows, words, mine, i) for i, (words, mine) in enumerate(scenarios(rows).items())] if len(rows) else []


def _scatter(rows: pd.DataFrame, words: str, mine: pd.DataFrame, number: int) -> Plot:
    images = list(dict.fromkeys(rows["image"]))
    cells = {method: {key: cell(mine, method, key, images) for key in FIGURES} for method in ordered(mine)}
    drawn = [method for method in cells if method != REFERENCE and all(each.ranked for each in cells[method].values())
             and math.isfinite(cells[method]["psnr_db"].value)]
    left = [method for method in cells if method not in (REFERENCE, *drawn)]
    look = {method: {**held, "linestyle": "none"} for method, held in styles(list(cells)).items()}
    with own_style():
        figure, panels = canvas(len(SCORES), 1.7, drawn, drawn)
        for axes, key in zip(panels, SCORES):
            scale, column = COLUMNS[key].scale, COLUMNS[key]
            for method in drawn:
                axes.plot([cells[method]["psnr_db"].value], [cells[method][key].value / scale], label=plain(method),
                          **look[method])
            ceiling = cells[REFERENCE][key].value / scale if REFERENCE in cells else math.nan
            if math.isfinite(ceiling) and column.better == "up":
                axes.axhline(ceiling, color="#888888", linestyle="--", linewidth=1, label="_reference")
            axes.set_ylabel(f"{column.label}{f' ({column.unit})' if column.unit else ''}", fontsize=9)
        panels[-1].set_xlabel("PSNR (dB)")
        panels[0].set_title(plain(f"{words}, mean over {len(images)} scenes\ndashed: the true image"), fontsize=10)
        legend(figure, panels[0], drawn, look, drawn)
    best = {key: max(drawn, key=lambda method: cells[method][key].value * (1 if COLUMNS[key].better == "up" else -1))
            for key in FIGURES} if drawn else {}
    return Plot(f"figure-downstream{f'-{number}' if number else ''}", f"Downstream scores against PSNR, {words}",
                f"Each score against PSNR, {words}: means over {len(images)} scenes; classes are a proxy.", figure,
                f"Not drawn, since their means are over other scenes: {listed(left)}." if left else "", conditions(rows),
                "; ".join(f"best {COLUMNS[key].label}: {method}" for key, method in best.items()) + ".")


def conditions(rows: pd.DataFrame) -> str:
    """What was measured, on what and by what."""
    return " ".join(words for _, words in parts_of(rows))


def conditions_of(rows: Rows) -> list[tuple[str, str]]:
    """What the page says once, ``(heading, words)``."""
    return parts_of(rows.downstream) if len(rows.downstream) else []


def parts_of(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Scenes, each task, and where it was measured."""
    scenes = rows.drop_duplicates("image")
    targets = ", ".join(f"{image} {count}" for image, count in zip(scenes["image"], scenes["targets"]))
    flights = ", ".join(f"{flight} ({', '.join(own['image'])})" for flight, own in scenes.groupby("flight"))
    seen = rows[rows["seen"] == "yes"].groupby("method", sort=False)["image"].unique()
    protocol = ", ".join(sorted(set(rows["protocol"])))
    counts = {key: " and ".join(str(value) for value in sorted(set(rows[key]))) for key in ("bands", "msi_bands", "pixels")}
    trained = " ".join(f"{method} was trained or validated on {', '.join(sorted(images))}: these rows are in no mean and in no "
                       "correlation." for method, images in seen.items())
    parts = {
        "Scenes": f"{len(scenes)} AVIRIS scenes with a map of anomalies, the top-left {PROTOCOL.hr_size}x{PROTOCOL.hr_size} "
                  f"pixels of both ({counts['pixels']} pixels, {counts['bands']} bands, {counts['msi_bands']} MSI bands, ratio "
                  f"{PROTOCOL.ratio}, protocol {protocol}). Pixels of anomalies: {targets}. Flights, whose scenes are "
                  f"not independent: {flights}.",
        "Anomalies": "AUC over all pixels. Global RX: mean and covariance of the whole image. Local RX: of the pixels between "
                     f"a window of {INNER}x{INNER} and one of {OUTER}x{OUTER} pixels around each, in the {COMPONENTS} leading "
                     f"principal components of the image itself. Both covariances have {LOADING:g} times the mean variance of "
                     "a band added to the diagonal. Windows and loading were chosen on the references of these scenes.",
        "Abundances": f"{ENDMEMBERS} endmembers a scene by VCA from the reference, the same for all images; fully constrained "
                      "least squares; RMSE from the abundances of the reference, whose own is 0 by construction.",
        "Proxy accuracy": f"The scenes carry no class labels. Classes are {CLASSES} clusters (k-means) of the reference's "
                          "spectra. A linear discriminant is fitted to reference pixels in the light blocks of a checkerboard "
                          f"({BLOCK}x{BLOCK} pixels) and tested on the fused image in the dark ones; {MARGIN} pixels along the "
                          "sides of each block are left out. It says how well spectra keep to those of the reference, not how "
                          "well land cover is told apart.",
        "Trained methods": trained,
        "Measured": measured_by(rows)}
    return [(heading, words) for heading, words in parts.items() if words]
