"""The page of estimators, of no study: how well each finds the responses of two sensors on made pairs (``estimators.csv``)."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from benchmark.estimators import FIELDS, LOSS_DB, MEASURED, MEASURED_RATIO, NON_UNIFORM, PROTOCOL, calibration
from benchmark.page.cells import decibels
from benchmark.page.section import Rows, Section, measured_by
from benchmark.page.tables import Listing

FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {  # column of the rows -> heading, and how a mean is written
    "share_in_band": ("Weight inside the true bands (%)", lambda value: f"{100 * value:.1f}"),
    "srf_error": ("SRF error (%)", lambda value: f"{100 * value:.2f}"),
    "psf_error": ("PSF error (%)", lambda value: f"{100 * value:.2f}"),
    "centre_error_px": ("Centre of the PSF off by (px)", lambda value: f"{value:.3f}"),
    "loss_db": ("Loss (dB)", decibels),
    "seconds": ("Time (s)", lambda value: f"{value:.3f}"),
}
PAIR = {"sensor": "MSI sensor", "blur": "PSF", "noise": "Noise"}


def held_out(rows: pd.DataFrame) -> pd.Series:
    """Which rows are of scenes that no constant of an estimator was chosen on."""
    return rows["split"].str.startswith("test")


def by_estimator(section: Section) -> list[Listing]:
    """Each estimator's mean errors, its worst loss, and how often its trust word is right."""
    rows = uniform(section.rows.estimators)
    if not len(rows):
        return []
    lines = []
    for scenes, mine in (("held out", rows[held_out(rows)]), ("chosen on", rows[~held_out(rows)])):
        for name in dict.fromkeys(mine["estimator"]):
            own = mine[mine["estimator"] == name]
            counts = calibration(own)
            lines.append((name, scenes, str(len(own)), *(write(own[column].mean()) for column, (_, write) in FIGURES.items()),
                          decibels(own["loss_db"].max()), f"{counts['flagged']:g} of {counts['bad']:g}",
                          f"{counts['doubted']:g} of {counts['good']:g}"))
    heads = ("Estimator", "Scenes", "Pairs", *(heading for heading, _ in FIGURES.values()), "Largest loss (dB)",
             "Bad ones doubted", "Good ones doubted")
    return [Listing("estimators", "Estimators on made pairs",
                    f"Means; loss: of subspace-ridge told the estimate, from told the truth; bad: more than {LOSS_DB:g} dB.",
                    heads, tuple(lines), conditions=conditions(rows))]


def by_pair(section: Section) -> list[Listing]:
    """Loss of each estimator on each kind of pair, the mean over held-out scenes."""
    rows = uniform(section.rows.estimators)
    rows = rows[held_out(rows)] if len(rows) else rows
    if not len(rows):
        return []
    names = list(dict.fromkeys(rows["estimator"]))
    lines = [(*map(str, kind), *(decibels(mine.loc[mine["estimator"] == name, "loss_db"].mean()) for name in names))
             for kind, mine in rows.groupby(list(PAIR), sort=False)]
    scenes = rows[["dataset", "split", "image"]].drop_duplicates()
    return [Listing("estimators-by-pair", "Loss by kind of pair",
                    f"Loss in dB of subspace-ridge told the estimate, from told the truth; {len(scenes)} held-out scenes.",
                    (*PAIR.values(), *names), tuple(lines), conditions=conditions(rows))]


def by_field(section: Section) -> list[Listing]:
    """What each estimator is worth where the degradation varies over the field, and on a measured pair."""
    rows = section.rows.estimators
    if not len(rows):
        return []
    made = rows[held_out(rows) & rows["blur"].isin(("gaussian-3", *NON_UNIFORM)) & (rows["sensor"] == "tm-4")
                & (rows["dataset"] == "aviris") & rows["estimator"].isin(FIELDS)]
    asked = made[made["estimator"] == FIELDS[-1]][["blur", "noise"]].drop_duplicates()
    lines = []
    for blur, noise in asked.itertuples(index=False):
        mine = made[(made["blur"] == blur) & (made["noise"] == noise)]
        by_name = {name: mine[mine["estimator"] == name] for name in FIELDS}
        lines.append((blur, noise, str(len(by_name[FIELDS[-1]])), decibels(by_name[FIELDS[-1]]["psnr_known_db"].mean()),
                      *(decibels(each["psnr_told_db"].mean()) for each in by_name.values())))
    pair = rows[rows["dataset"] == MEASURED["dataset"]]
    if len(pair):
        told = [pair.loc[pair["estimator"] == name, "psnr_told_db"].mean() for name in FIELDS]
        lines.append(("Hyperion and ALI", "measured", "1", "—", *map(decibels, told)))
    if not lines:
        return []
    words = ("PSNR in dB of subspace-ridge told the responses of the middle of the field, or what an estimator finds; pidm "
             f"makes the pair uniform first. Hyperion and ALI: ratio {MEASURED_RATIO}, against the Hyperion image as measured, "
             "whose noise bounds the score.")
    heads = ("PSF", "Noise", "Pairs", "known", *FIELDS)
    return [Listing("estimators-by-field", "Degradations that vary over the field", words, heads, tuple(lines),
                    conditions=conditions(made if len(made) else pair))]


def uniform(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of pairs whose truth is one PSF and one SRF, of estimators that take it so."""
    if not len(rows):
        return rows
    apart = rows["blur"].isin(tuple(NON_UNIFORM)) | (rows["dataset"] == MEASURED["dataset"]) | (rows["estimator"] == FIELDS[-1])
    return rows[~apart]


def conditions(rows: pd.DataFrame) -> str:
    """What a pair is made of, and where it was measured."""
    scenes = rows[["dataset", "split", "image"]].drop_duplicates().groupby(["dataset", "split"], sort=False).size()
    return (f"Scenes of {', '.join(f'{dataset} {split} ({count})' for (dataset, split), count in scenes.items())}, cut to "
            f"{PROTOCOL.hr_size}x{PROTOCOL.hr_size} pixels at most, 172 bands, ratio {PROTOCOL.ratio}; estimators are told "
            f"nothing. Noise: SNR in dB of the LR-HSI, or of both images. {measured_by(rows)}")


def conditions_of(rows: Rows) -> list[tuple[str, str]]:
    """What the page says once, ``(heading, words)``."""
    return [("Pairs", conditions(uniform(rows.estimators)))] if len(rows.estimators) else []
