"""Rows in, tables out: the accuracy table (shape of Table I) and the robustness tables (shape of Table II).

A table function takes a :class:`Section` (one split's rows and what belongs to them) and returns :class:`Table` values:
raw numbers with the description of their columns. ``report`` turns them into text and rounds there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from benchmark import metrics
from benchmark.page.cells import Cell, average, cost_cell, largest_size, score_cell

CLEAN = ("clean", "none", math.inf)
TARGETS = {"lr_hsi": "noise on the LR-HSI only", "both": "noise on LR-HSI and HR-MSI"}
CELL = ["msi_bands", "method", "scenario", "noise_target", "snr_db"]
IDENTITY = [*CELL, "dataset", "split", "ratio", "protocol", "seed", "image"]


@dataclass(frozen=True)
class Column:
    """What a table says about one column.

    Args:
        key: its name in the CSV.
        better: ``"up"``, ``"down"``, or ``""`` where methods are not ranked.
        decimals: digits behind the point; None: three significant digits.
        scale: the CSV keeps the raw number, the other forms show ``value / scale``.
        published: printed in a paper, not measured here: shown as printed, blank where nothing is printed.
    """

    key: str
    label: str
    unit: str = ""
    better: str = ""
    decimals: int | None = None
    scale: float = 1.0
    published: bool = False


METRICS = {key: Column(key, metric.label, metric.unit, {"higher": "up", "lower": "down"}[metric.better], metric.decimals)
           for key, metric in metrics.METRICS.items()}
COUNTS = (
    Column("parameters", "Params built", "M", "", 3, 1e6),
    Column("parameters_used", "Params used", "M", "", 3, 1e6),
    Column("macs_conv", "MACs", "G", "", 2, 1e9),
    Column("macs_attention", "MACs attention", "G", "", 2, 1e9),
)
FIDELITY = (
    Column("golden_difference", "Golden difference", "1e-6", "", None, 1e-6),
    Column("parameters_used", "Params used", "M", "", 3, 1e6),
    Column("parameters_published", "published", "M", "", 3, 1e6, published=True),
    Column("parameters_percent", "difference", "%", "", 1),
    Column("macs_conv", "MACs", "G", "", 2, 1e9),
    Column("macs_published", "published", "G", "", 2, 1e9, published=True),
    Column("macs_percent", "difference", "%", "", 1),
    Column("macs_attention", "MACs attention", "G", "", 2, 1e9),
)
RECORDED = (
    Column("psnr_db", "PSNR", "dB", "", 2),
    Column("psnr_recorded", "recorded", "dB", "", 2, published=True),
    Column("sam_deg", "SAM", "deg", "", 3),
    Column("sam_recorded", "recorded", "deg", "", 3, published=True),
    Column("sample_difference", "Largest sample difference", "1e-6", "", 3, 1e-6),
    Column("seconds", "Time", "s"),
    Column("seconds_recorded", "recorded", "s", "", None, published=True),
    Column("times_faster", "Times faster", "", "", 1),
)
RECORDED_CASES = {"large": "the timed case (128x128 pixels, 172 bands, 35 dB and 40 dB)",
                  "case1": "the small case (64x64 pixels, 60 bands)", "case1_noisy": "the small case with noise"}
TIMINGS = (Column("seconds_median", "Time", "s"), Column("peak_memory_mb", "Peak memory", "MB"))
# what the papers print, and the column that is counted the same way: used parameters, convolutions and linear layers
PUBLISHED = {"psnr_db": "psnr_db", "sam_deg": "sam_deg", "rmse": "rmse", "parameters_used": "parameters",
             "macs_conv": "macs", "seconds_median": "seconds", "peak_memory_mb": "peak_memory_mb"}


@dataclass(frozen=True)
class Table:
    """Rows ``(msi_bands, method, cells)``, cells in the order of the columns; ``marks``: words behind a method's name."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[int, str, tuple[Cell, ...]], ...]
    marks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """One (dataset, split, ratio, protocol), or the whole study: all that a table or figure may see.

    Args:
        slug: beginning of its files' names.
        scores: the score rows of this split, also the failed ones.
        methods: rows of every table, measured or not, in the study's order.
    """

    title: str
    slug: str
    dataset: str
    split: str
    scores: pd.DataFrame
    costs: pd.DataFrame
    curves: pd.DataFrame
    fidelity: pd.DataFrame
    recorded: pd.DataFrame
    published: Mapping[str, Mapping[int, Mapping[str, float]]]
    meta: Mapping[str, Any]
    methods: tuple[str, ...]
    msi_bands: tuple[int, ...]

    @property
    def marks(self) -> Mapping[str, str]:
        """Words behind a method's name: what it is told, or that it equals no public release."""
        return self.meta.get("marks", {})


def sections(scores: pd.DataFrame, costs: pd.DataFrame, curves: pd.DataFrame, fidelity: pd.DataFrame,
             recorded: pd.DataFrame, published: Mapping, meta: Mapping[str, Any]) -> tuple[Section, list[Section]]:
    """The whole study, and one section a split, expected ones first; one without rows yet is a section full of holes.

    Raises:
        ValueError: two rows claim the same cell and image, so that a mean would count one of them twice.
    """
    scores = scores if len(scores) else pd.DataFrame(columns=[*IDENTITY, *METRICS, "device", "job", "status", "stale"])
    twice = scores[scores.duplicated(IDENTITY)]
    if len(twice):
        raise ValueError(f"two score rows for {twice.iloc[0][IDENTITY].to_dict()}: a report takes one")
    expected = meta.get("expected", {})
    seen = sorted({method for frame in (scores, costs, curves) if len(frame) for method in frame["method"]})
    methods = tuple(dict.fromkeys([*expected.get("methods", []), *seen]))
    msi_bands = tuple(sorted({int(one) for one in [*expected.get("msi_bands", []), *scores["msi_bands"]]}))
    whole = Section("whole study", "study", "", "", scores, costs, curves, fidelity, recorded, published, meta, methods,
                    msi_bands)

    named = scores.assign(named=protocol_names(scores, meta))
    groups = dict(list(named.groupby(["dataset", "split", "ratio", "named"])))
    wanted = [tuple(entry[:2]) for entry in expected.get("splits", [])]
    places = list(dict.fromkeys([*wanted, *(key[:2] for key in groups)]))
    made = []
    for dataset, split in places:
        keys = [key for key in groups if key[:2] == (dataset, split)] or [(dataset, split, None, None)]
        for key in keys:
            words = [f"{dataset} / {split}"]
            words += [f"ratio {key[2]}"] if len({one[2] for one in keys}) > 1 else []
            words += [f"protocol {key[3]}"] if len({one[3] for one in keys}) > 1 else []
            rows = groups.get(key, named.iloc[:0]).drop(columns="named")
            slug = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
            made.append(replace(whole, title=", ".join(words), slug=slug, dataset=dataset, split=split, scores=rows))
    return whole, made


def protocol_names(scores: pd.DataFrame, meta: Mapping[str, Any]) -> pd.Series:
    """The protocol of each row by name; by digest too where one name would mix two digests in one cell."""
    names = {digest: entry["name"] for digest, entry in meta.get("protocols", {}).items()}
    named = scores["protocol"].map(lambda digest: names.get(digest, str(digest)[:12])).astype(object)
    position = [column for column in CELL if column != "method"] + ["dataset", "split", "ratio"]
    digests = scores.assign(named=named).groupby([*position, "named"])["protocol"].nunique()
    mixed = set(digests[digests > 1].index.get_level_values("named"))
    return named.where(~named.isin(mixed), named + " " + scores["protocol"].astype(str).str[:12])


# ---------------------------------------------------------------------------------------------------------- the tables


def accuracy(section: Section) -> list[Table]:
    """Clean scenes: quality and cost of each method, measured beside published, in the shape of the paper's Table I."""
    costs, size = largest_size(section.costs)
    machines = list(costs.groupby(["device", "dtype"]).groups) if len(costs) else []
    dtypes = len({dtype for _, dtype in machines}) > 1
    timings = [(replace(column, key=column.key + (f"@{device}-{dtype}" if len(machines) > 1 else ""), label=" ".join(
        [column.label, *([device] if len(machines) > 1 else []), *([dtype] if dtypes else [])])), column.key,
        (device, dtype)) for device, dtype in machines or [("", "")] for column in TIMINGS]
    shown = [METRICS[key] for key in ("psnr_db", "sam_deg", "rmse")]
    rows = {}
    for msi_bands, method, scores, images in at(section, *CLEAN):
        cells = {column.key: score_cell(scores, column.key, images) for column in shown}
        mine = costs[(costs["method"] == method) & (costs["msi_bands"] == msi_bands)] if len(costs) else costs
        cells |= {column.key: cost_cell(mine, column.key) for column in COUNTS}
        for column, key, (device, dtype) in timings:
            there = mine[(mine["device"] == device) & (mine["dtype"] == dtype)] if len(mine) else mine
            cells[column.key] = cost_cell(there, key)
            optimised = len(there) and (there["status"] == "ok").all() and there["seconds_median"].isna().all()
            if key == "seconds_median" and optimised:  # for each image: timed where it is scored
                mean = score_cell(scores, "seconds", images)
                cells[column.key] = replace(mean, notes=(*mean.notes, "mean over the scored images, at their size"))
        printed = section.published.get(method, {}).get(msi_bands, {})
        cells |= {f"{key}_published": Cell(float(printed[name])) for key, name in PUBLISHED.items() if name in printed}
        rows[msi_bands, method] = cells
    measured = [*shown, *COUNTS, *(timing for timing, _, _ in timings)]
    last = {column.key.partition("@")[0]: column for column in measured}  # one a machine: what is printed stands behind them
    columns: list[Column] = []
    for column in measured:
        base = column.key.partition("@")[0]
        key = f"{base}_published"
        columns.append(column)
        if last[base] is column and any(key in cells for cells in rows.values()):
            columns.append(replace(column, key=key, label="published", better="", published=True))
    words = ["Clean scenes: quality and cost."]
    words += ["Published: as printed in the papers, measured there on other scenes and machines."] if any(
        column.published for column in columns) else []
    if len(costs):
        words.append(f"Cost of one fusion, LR {size[0]} to HR {size[1]} pixels a side, on "
                     + "; ".join(f"{device} ({dtype})" for device, dtype in machines) + ".")
    return [Table(f"{section.slug}-accuracy", "Accuracy and cost", " ".join([*words, caption(section)]), tuple(columns),
                  tuple((*key, tuple(cells.get(column.key, Cell()) for column in columns))
                        for key, cells in rows.items()), section.marks)]


def all_metrics(section: Section) -> list[Table]:
    """Clean scenes: every metric that the rows carry."""
    rows = tuple((msi_bands, method, tuple(score_cell(scores, key, images) for key in METRICS))
                 for msi_bands, method, scores, images in at(section, *CLEAN))
    return [Table(f"{section.slug}-metrics", "Every metric", f"Clean scenes: every metric. {caption(section)}",
                  tuple(METRICS.values()), rows, section.marks)]


def robustness(section: Section) -> list[Table]:
    """Quality against noise, in the shape of the paper's Table II: one table a metric and noise target."""
    made = []
    for target, levels in noise_levels(section).items():
        for metric in ("psnr_db", "sam_deg", "rmse"):
            column = METRICS[metric]
            columns = [replace(column, key=level_key(level), label=level_key(level).replace("_", " "), unit="")
                       for level in levels] + [replace(column, key="average", label="average", unit="")]
            grid: dict[tuple[int, str], list[tuple[pd.DataFrame, Cell]]] = {}
            for level in levels:
                place = CLEAN if math.isinf(level) else ("noise", target, level)
                for msi_bands, method, scores, images in at(section, *place):
                    grid.setdefault((msi_bands, method), []).append((scores, score_cell(scores, metric, images)))
            rows = tuple((*key, (*(cell for _, cell in cells), average(cells, metric))) for key, cells in grid.items())
            words = TARGETS.get(target, f"noise on {target}")
            made.append(Table(
                f"{section.slug}-noise-{target.replace('_', '-')}-{metric.split('_')[0]}",
                f"{column.label} under {words}",
                f"{column.label} ({column.unit}) by signal-to-noise ratio, {words}. Average: mean of the columns "
                f"shown, clean included. {caption(section)}", tuple(columns), rows, section.marks))
    return made


def fidelity(section: Section) -> list[Table]:
    """Each network against its authors' release, and its counts against those that its paper prints."""
    rows = section.fidelity[section.fidelity["method"].isin(section.methods)] if len(section.fidelity) else section.fidelity
    if rows.empty:
        return []
    made = []
    for row in rows.to_dict("records"):
        figures = {column.key: Cell(float(row.get(column.key, math.nan))) for column in FIDELITY}
        if math.isnan(row["golden_difference"]):
            figures["golden_difference"] = Cell(notes=(row["verdict"],))
        elif row["golden_difference"] >= row["tolerance"]:
            figures["golden_difference"] = replace(figures["golden_difference"], notes=(row["verdict"],))
        for count, key in (("parameters", "parameters_used"), ("macs", "macs_conv")):
            percent = 100 * (row[key] / row[f"{count}_published"] - 1)
            told = (row["reason"] if row["reason"] != "none" else "the reason is not known",) if abs(percent) > 1 else ()
            figures[f"{count}_percent"] = Cell(percent, notes=told)
        made.append((int(row["msi_bands"]), str(row["method"]), tuple(figures.values())))
    made.sort(key=lambda row: row[0])
    revisions = ", ".join(sorted({str(revision)[:12] for revision in rows["revision"]}))
    words = ("Golden difference: largest relative difference from the recorded output of the authors' release, in units of "
             "1e-6 (allowed: 10; deep scans 100). Counts at 172 bands, LR 64 to HR 256 pixels a side, with the MSI bands "
             f"of the paper's own table; parameters that take part; convolutions and linear layers. Code {revisions}.")
    return [Table("study-fidelity", "Fidelity to the authors' releases", words, FIDELITY, tuple(made), section.marks)]


def recorded(section: Section) -> list[Table]:
    """Each training-free method beside its reference toolbox: scores, samples and seconds, one table a recorded case."""
    if section.recorded.empty:
        return []
    made, rows = [], section.recorded[section.recorded["method"].isin(section.methods)]
    for case in sorted(set(rows["case"]), key=[*RECORDED_CASES, *sorted(set(rows["case"]))].index):
        here, words = rows[rows["case"] == case], RECORDED_CASES.get(case, case)
        lines = []
        for row in here.to_dict("records"):
            figures = {column.key: Cell(float(row[column.key])) for column in RECORDED}
            if row["verdict"] != "equals its reference":
                figures["psnr_db"] = replace(figures["psnr_db"], notes=(row["verdict"],))
            lines.append((int(row["msi_bands"]), f"{row['method']}: {row['recording']}", tuple(figures.values())))
        threads, revisions = (", ".join(sorted({str(one)[:12] for one in here[key]})) for key in ("threads", "revision"))
        made.append(Table(
            f"study-recorded-{case.replace('_', '-')}", f"Against the reference toolboxes, {words}",
            f"Method and name of its recording; {words}. Recorded: the toolboxes' own code (GNU Octave; those ending in 'py' "
            f"Python), one thread. Here: threads {threads}, code {revisions}.", RECORDED, tuple(lines)))
    return made


# ------------------------------------------------------------------------------------------- which rows, and their caption

def noise_levels(section: Section) -> dict[str, list[float]]:
    """Noise target -> SNRs in dB, expected or measured, falling; infinite (clean) first."""
    expected = section.meta.get("expected", {}).get("scenarios", [])
    there = {(target, float(snr)) for scenario, target, snr in expected if scenario == "noise"}
    noisy = section.scores[section.scores["scenario"] == "noise"]
    there |= {(target, float(snr)) for target, snr in zip(noisy["noise_target"], noisy["snr_db"])}
    order = [*TARGETS, *sorted({target for target, _ in there} - set(TARGETS))]
    return {target: [math.inf, *sorted((snr for name, snr in there if name == target), reverse=True)]
            for target in order if any(name == target for name, _ in there)}


def level_key(snr_db: float) -> str:
    """``clean`` or ``45_db``."""
    return "clean" if math.isinf(snr_db) else f"{snr_db:g}_dB"


def at(section: Section, scenario: str, noise_target: str, snr_db: float) -> list[tuple[int, str, pd.DataFrame, int]]:
    """``(msi_bands, method, its rows, images that any method was given)`` at one scenario, for every method."""
    scores = section.scores
    here = scores[(scores["scenario"] == scenario) & (scores["noise_target"] == noise_target)
                  & (scores["snr_db"] == snr_db)]
    groups = dict(list(here.groupby(["msi_bands", "method"])))
    images = here.groupby("msi_bands")["image"].nunique()
    return [(msi_bands, method, groups.get((msi_bands, method), here.iloc[:0]), int(images.get(msi_bands, 0)))
            for msi_bands in section.msi_bands for method in section.methods]


def protocol_words(section: Section) -> str:
    """Names and hashes of the protocols behind a section's rows; before there are rows, those of the study."""
    protocols = section.meta.get("protocols", {})
    digests = sorted(set(section.scores["protocol"])) or list(protocols)
    words = [f"{protocols.get(digest, {}).get('name', '')} {str(digest)[:12]}".strip() for digest in digests]
    return f"protocol {', '.join(words) or 'unknown'}"


def caption(section: Section) -> str:
    """Under which conditions: split, n, seeds, protocol hash, device, and the sentences every caption carries."""
    good = section.scores[section.scores["status"] == "ok"]
    seeds = ", ".join(str(seed) for seed in sorted(set(good["seed"]))) or "none"
    failed = len(section.scores) - len(good)
    words = [f"Split {section.title}: n = {good['image'].nunique()} images, seeds {seeds};",
             f"{protocol_words(section)};",
             f"measured on {', '.join(sorted(set(good['device']))) or 'no device yet'}.",
             "Mean over images, then mean ± std over seeds." if good["seed"].nunique() > 1 else "Mean over images."]
    words += [f"{failed} failed rows of this split left out."] if failed else []
    return " ".join([*words, *(label.rstrip(".") + "." for label in section.meta.get("labels", []))])
