"""The tables of the S3RNet and CSAKD papers, measured beside printed, and their figures that need a choice of methods.

Printed values are never ranked, and stand beside no network that the study builds otherwise than its paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmark.page import plots, training
from benchmark.page.axes import Axis, Level, axes_of
from benchmark.page.cells import Cell, cost_cell
from benchmark.page.plots import Plot
from benchmark.page.section import Facts, Section
from benchmark.page.statistics import interval_words, of_images, with_interval
from benchmark.page.tables import (
    COUNTS,
    MAIN_METRICS,
    METRIC_COLUMNS,
    SIDE_BY_SIDE,
    Column,
    Row,
    Table,
    by_level,
    machine_of_most,
)
from benchmark.protocol import CLEAN
from benchmark.published import LONG, TABLE_1, TABLE_2, TABLE_3, TABLE_4, Printed, PublishedError, figures, printed, published
from methods import card
from methods.registry import split_label

# a column, and what the papers print that is counted the same way: used parameters, convolutions and linear layers
PRINTED = {"psnr_db": "psnr_db", "sam_deg": "sam_deg", "rmse": "rmse", "parameters_used": "parameters",
           "macs_conv": "macs", "seconds_median": "seconds", "peak_memory_mb": "memory_mb"}
PRINTED_WORDS = "Published: as printed in the papers, measured there on other scenes and machines, one run each; never ranked."
ABSENT = Cell(notes=("not a method of this study",))
OTHERWISE = Cell(notes=("what is printed is of the paper's network, which this study builds otherwise than on its card",))
RECIPES = {  # of Table III, in its order: the label of its row and the coefficients printed (lambda_1 to lambda_4)
    "naive": ("naive", {"lambda_1": 0, "lambda_2": 0, "lambda_3": 0}),
    "beba-0.5": ("BEBA 0.5", {"lambda_1": 0.5}),
    "sam-0.5": ("SAM 0.5", {"lambda_2": 0.5}),
    "kd-0.5": ("feature maps 0.5", {"lambda_3": 0.5}),
    "output-0.5": ("output 0.5", {"lambda_4": 0.5}),
    "paper": ("proposed", {"lambda_1": 0.1, "lambda_2": 0.1, "lambda_3": 0.1, "lambda_4": 0.1}),
}
FUSIONS = ("sum", "sigmoid", "attention", "concat", "ssawb")  # from the plainest on


# ------------------------------------------------------------------------------------------------------- Tables I and II


def table_1(section: Section) -> list[Table]:
    """Clean scenes: quality with every MSI band count side by side, and the cost of one fusion.

    Below them the rows of Table I that the study has not, as printed; where it builds none as printed, none.
    """
    facts = section.facts
    varied = {method for key in ("recipe", "depths") for each in ablations(facts, (key,)) for method in each.variants}
    held = {(method, ""): _known(facts, method) for method in facts.methods if method not in varied}
    table = _of_table_1()
    if any((method, "") in table for method in facts.published):
        held |= {line: known for line, known in table.items() if line[1] or line[0] not in facts.methods}
    return [_accuracy(section, "table-1", "Accuracy and cost", held)]


def table_long(section: Section) -> list[Table]:
    """The 17 methods of the release's long table in its order, also those that the study has not; none without any of them."""
    methods = list(dict.fromkeys(row.method for row in published().tables[LONG].rows))
    if not set(methods) & set(section.facts.methods):
        return []
    return [_accuracy(section, "table-long", "The release's long table",
                      {(method, ""): _known(section.facts, method) for method in methods})]


def _known(facts: Facts, method: str) -> Mapping[int, Mapping[str, Printed]]:
    """MSI band count -> column -> what is printed of a method, also of one that the study has not or builds otherwise."""
    return figures(method) if method not in facts.methods or facts.arguments.get(method) else facts.published.get(method, {})


def _of_table_1() -> dict[tuple[str, str], dict[int, dict[str, Printed]]]:
    """(Method, variant) -> as :func:`_known`, of every row of Table I."""
    found: dict[tuple[str, str], dict[int, dict[str, Printed]]] = {}
    for row in published().tables[TABLE_1].rows:
        place = {key: row.place[key] for key in ("msi_bands", "variant")}
        found.setdefault((row.method, row.place["variant"]), {}).setdefault(row.place["msi_bands"], {}).update(
            {key: printed(TABLE_1, row.method, key, **place) for key, value in row.values.items() if value is not None})
    return found


def _accuracy(section: Section, name: str, title: str,
              held: Mapping[tuple[str, str], Mapping[int, Mapping[str, Printed]]]) -> Table:
    """A row each (method, variant) with what is printed of it; a variant of Table I is none of the study's methods."""
    facts, rows = section.facts, []
    at = facts.msi_bands[:1]  # costs are printed once, with 4 bands; those of all band counts have a table of their own
    timings, machine = machine_of_most(section, facts.msi_bands[0])
    costs = [*((column, column.key) for column in COUNTS[1:]), *((timing.column, timing.key) for timing in timings)]
    columns: dict[str, Column] = {}
    lines: list[dict[str, Cell]] = []
    for (method, variant), known in held.items():
        cells: dict[str, Cell] = {}
        own_row = method in facts.methods and not variant
        otherwise = own_row and bool(facts.arguments.get(method))
        for msi_bands in facts.msi_bands:
            for key in MAIN_METRICS:
                own = f"{key}_msi{msi_bands}"
                columns[own] = replace(METRIC_COLUMNS[key], key=own, group=f"{msi_bands} MSI bands")
                cells[own] = with_interval(section.score(CLEAN, msi_bands, method, key), list(of_images(
                    section, CLEAN, msi_bands, method, key).values())) if own_row else ABSENT
                _beside(columns, cells, own, known.get(msi_bands, {}).get(PRINTED[key]), otherwise)
        for msi_bands in at:
            for i, (column, key) in enumerate(costs):
                columns[column.key] = replace(column, group=f"cost, {msi_bands} MSI bands")
                timed = i >= len(COUNTS) - 1
                cells[column.key] = ABSENT if not own_row else \
                    timings[i - len(COUNTS) + 1].cell(section, msi_bands, method) if timed \
                    else cost_cell(section.costs.get((msi_bands, method)), key)
                _beside(columns, cells, column.key, known.get(msi_bands, {}).get(PRINTED.get(key, "")), otherwise)
        lines.append(cells)
    shown = [column for key, column in columns.items()
             if not column.published or any(not math.isnan(cells.get(key, Cell()).value) for cells in lines)]
    for (method, variant), cells in zip(held, lines):
        rows.append(Row(SIDE_BY_SIDE, method, tuple(cells.get(column.key, Cell()) for column in shown),
                        variant or facts.marks.get(method, ""), "" if variant else facts.kinds.get(method, "")))
    words = ["Clean scenes: quality and cost.", interval_words(section)]
    words += [PRINTED_WORDS] if any(column.published for column in shown) else []
    words += [machine] if machine else []
    return Table(f"{section.slug}-{name}", title, " ".join(words), tuple(shown), tuple(rows), facts.unranked, section.caption())


def _beside(columns: dict[str, Column], cells: dict[str, Cell], key: str, found: Printed | None, otherwise: bool) -> None:
    """The printed value behind a measured one; its column is there wherever any method has one."""
    own = f"{key}_published"
    base = columns[key]
    decimals = base.decimals if base.scale > 1 else 3 if base.better else None
    columns.setdefault(own, replace(base, key=own, label="published", better="", published=True, decimals=decimals, notes=()))
    if found is not None:
        cells[own] = OTHERWISE if otherwise else printed_cell(found)


def printed_cell(found: Printed) -> Cell:
    """A printed value; the defects that touch it are its footnotes."""
    return Cell(found.value, notes=tuple(f"in print: {defect.what}".rstrip(".") for defect in found.defects))


def table_2(section: Section) -> list[Table]:
    """Noise on both images: PSNR and SAM by SNR, clean and on average, and below a method what is printed of it.

    Where there is any, also the printed rows of methods that the study has not.
    """
    facts = section.facts
    axis = axes_of(section.facts.scenarios).get("noise-both")
    if axis is None:
        return []
    varied = {method for each in ablations(facts, ("fusion", "attention")) for method in each.variants}
    table = by_level(section, axis, ("psnr_db", "sam_deg"), "table-2",
                     [method for method in facts.methods if method not in varied])
    absent = [method for method in dict.fromkeys(row.method for row in published().tables[TABLE_2].rows)
              if method not in facts.methods]
    rows: list[Row] = []
    otherwise: dict[str, None] = {}

    def printed_row(msi_bands: int, method: str) -> list[Row]:
        cells = tuple(_printed_level(facts, msi_bands, method, column, axis) for column in table.columns)
        otherwise.update({method: None} if OTHERWISE in cells else {})
        there = any(not math.isnan(cell.value) for cell in cells)
        return [Row(msi_bands, method, cells, "published", published=True)] if there else []

    for msi_bands in facts.msi_bands:
        panel = [one for row in table.rows if row.msi_bands == msi_bands for one in (row, *printed_row(msi_bands, row.method))]
        others = [one for method in absent for one in printed_row(msi_bands, method)]
        rows += [*panel, *(others if any(row.published for row in panel) else [])]
    words = [table.caption, *([PRINTED_WORDS] if len(rows) > len(table.rows) else [])]
    words += [f"Without its printed row, since built otherwise: {', '.join(otherwise)}."] if otherwise else []
    return [replace(table, rows=tuple(rows), caption=" ".join(words))]


def _printed_level(facts: Facts, msi_bands: int, method: str, column: Column, axis: Axis) -> Cell:
    levels: dict[str, Any] = {level.words: level.scenario.snr_db for level in axis.levels} | {"average": "average"}
    metric = next(key for key in METRIC_COLUMNS if column.key.startswith(f"{key}_"))
    return _cell_of(facts, method, TABLE_2, method, metric, msi_bands=msi_bands, snr_db=levels.get(column.group))


def _cell_of(facts: Facts, label: str, table: str, method: str, column: str, **place: Any) -> Cell:
    """A printed value where there is one, and where the study builds the method as its paper does."""
    try:
        found = printed_cell(printed(table, method, column, **place))
    except PublishedError:
        return Cell()
    return OTHERWISE if set(facts.arguments.get(label, {})) - set(place) else found


# -------------------------------------------------------------------------------------------------------------- ablations


@dataclass(frozen=True)
class Ablation:
    """A method and its variants that differ from it by the same arguments.

    Args:
        base: the method.
        values: what each of its labels has in the place of these arguments; of the base what its card says.
    """

    base: str
    values: Mapping[str, Mapping[str, Any]]

    @property
    def variants(self) -> list[str]:
        """The labels but the base's."""
        return [label for label in self.values if label != self.base]


def ablations(facts: Facts, keys: Iterable[str]) -> list[Ablation]:
    """The methods that the study varies by these arguments and no others, the teacher before its student."""
    keys, found = tuple(keys), dict[str, dict[str, Mapping[str, Any]]]()
    for label in facts.methods:
        base, own = split_label(label)
        if own and set(own) <= set(keys):
            found.setdefault(base, {})[label] = own
    made = []
    for base, variants in sorted(found.items(), key=lambda each: "student" in each[0]):
        held = card(base)
        defaults = {key: next(iter(held.recipes), "") if key == "recipe" else held.defaults.get(key) for key in keys}
        built = {key: value for key, value in facts.arguments.get(base, {}).items() if key in keys}
        plain = {base: {**defaults, **built}} if base in facts.methods else {}
        made.append(Ablation(base, {**plain, **{label: {**defaults, **own} for label, own in variants.items()}}))
    return made


def table_3(section: Section) -> list[Table]:
    """Coefficients of the losses: teacher and student side by side."""
    found = ablations(section.facts, ("recipe",))
    names = {str(values["recipe"]) for each in found for values in each.values.values()}
    order = [name for name in RECIPES if name in names] + sorted(names - set(RECIPES))
    if len(names) < 2:
        return []
    columns, rows = _columns([each.base for each in found]), []
    for msi_bands in section.facts.msi_bands:
        for name in order:
            cells = []
            for each in found:
                label = next((label for label, values in each.values.items() if values["recipe"] == name), "")
                for key in MAIN_METRICS:
                    cells.append(section.score(CLEAN, msi_bands, label, key) if label else Cell())
                    cells.append(_cell_of(section.facts, label, TABLE_3, each.base, key, msi_bands=msi_bands,
                                          coefficients=RECIPES[name][1]) if name in RECIPES else Cell())
            rows.append(Row(msi_bands, RECIPES[name][0] if name in RECIPES else name, tuple(cells), kind="trained"))
    return [_ablation(section, "table-3", "Coefficients of the losses", "Quality by the losses trained with: one coefficient "
                      "0.5, the others 0.1; naive: without BEBA, SAM and feature maps.", columns, rows)]


def table_4(section: Section) -> list[Table]:
    """Depths of the four branches: quality and counts."""
    facts, made = section.facts, []
    counts = [COUNTS[2], COUNTS[1]]
    for each in ablations(facts, ("depths",)):
        columns, rows = [*_columns([each.base])], []
        for column in counts:
            columns += [replace(column, group=each.base),
                        replace(column, key=f"{column.key}_published", label="published", published=True, group=each.base)]
        for msi_bands in facts.msi_bands:
            for label, values in sorted(each.values.items(), key=lambda found: found[0] == each.base):
                depths = tuple(values["depths"])
                place = {"msi_bands": msi_bands, "depths": depths}
                cells = []
                for key in MAIN_METRICS:
                    cells += [section.score(CLEAN, msi_bands, label, key),
                              _cell_of(facts, label, TABLE_4, each.base, key, **place)]
                for column in counts:
                    cells += [cost_cell(section.costs.get((msi_bands, label)), column.key),
                              _cell_of(facts, label, TABLE_4, each.base, PRINTED[column.key], **place)]
                rows.append(Row(msi_bands, ", ".join(map(str, depths)), tuple(cells), kind="trained"))
        name = "table-4" if each.base == "s3rnet-student" else f"table-4-{each.base}"
        made.append(_ablation(section, name, f"Depths of {each.base}", "Quality and counts by the depths of the branches "
                              "Z_hm, Z_mh, Z_h, Z_m.", columns, rows))
    return made


def _columns(bases: Sequence[str]) -> list[Column]:
    """Quality of each method, measured and printed."""
    columns = []
    for base in bases:
        for column in (METRIC_COLUMNS[key] for key in MAIN_METRICS):
            key = f"{base}_{column.key}" if len(bases) > 1 else column.key
            columns += [replace(column, key=key, group=base),
                        replace(column, key=f"{key}_published", label="published", better="", published=True, group=base,
                                decimals=3, notes=())]
    return columns


def _ablation(section: Section, name: str, title: str, words: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """A table of variants, without the printed columns that hold nothing."""
    kept = [j for j, column in enumerate(columns)
            if not column.published or any(not math.isnan(row.cells[j].value) for row in rows)]
    words += f" {PRINTED_WORDS}" if any(columns[j].published for j in kept) else ""
    return Table(f"{section.slug}-{name}", title, f"Clean scenes. {words}", tuple(columns[j] for j in kept),
                 tuple(replace(row, cells=tuple(row.cells[j] for j in kept)) for row in rows), conditions=section.caption())


def fusions(section: Section) -> list[Table]:
    """The ways of fusing the four branches, under noise: what Figure 12 claims, in numbers."""
    found = ablations(section.facts, ("fusion", "attention"))
    order = [label for each in found for label in sorted(each.values, key=lambda label: _place(each.values[label]))]
    if not order:
        return []
    axes = axes_of(section.facts.scenarios)
    axis = axes.get("noise-both") or next(iter(axes.values()), Axis("clean", "clean scenes", "", (Level(CLEAN, 0.0, "clean"),)))
    table = by_level(section, axis, ("psnr_db", "sam_deg"), "fusion", order)
    words = {label: f"{values['fusion']}, attention of the {values['attention']}" if values["fusion"] in ("attention", "ssawb")
             else str(values["fusion"]) for each in found for label, values in each.values.items()}
    rows = sorted(table.rows, key=lambda row: (section.facts.msi_bands.index(row.msi_bands), order.index(row.method)))
    return [replace(table, title=f"Fusion of the branches: {axis.words}", rows=tuple(
        replace(row, method=split_label(row.method)[0], mark=words[row.method], kind=split_label(row.method)[0])
        for row in rows))]


def _place(values: Mapping[str, Any]) -> tuple[int, str]:
    fusion = str(values["fusion"])
    return (FUSIONS.index(fusion) if fusion in FUSIONS else len(FUSIONS), str(values["attention"]))


# -------------------------------------------------------------------------------------------------------- Figures 11 and 12


def figure_11(section: Section) -> list[Plot]:
    """Trainings with all losses and without the additional ones, teacher and student."""
    pairs = [label for each in ablations(section.facts, ("recipe",)) for label, values in each.values.items()
             if values["recipe"] in ("naive", "paper")]
    naive = any(split_label(label)[1] for label in pairs)
    return training.training(section, pairs, "figure-11") if naive else []


def figure_12(section: Section) -> list[Plot]:
    """With the weighting block and with the plain sum in its place, along every axis of noise."""
    pairs = [label for each in ablations(section.facts, ("fusion", "attention")) for label, values in each.values.items()
             if values["fusion"] == "sum" or label == each.base]
    axes = [name for name in axes_of(section.facts.scenarios) if name.startswith("noise-")]
    if not any(split_label(label)[1] for label in pairs):
        return []
    return [replace(plot, name=plot.name.replace(f"{section.slug}-", f"{section.slug}-figure-12-", 1))
            for plot in plots.curves(section, axes, methods=pairs)]


# ------------------------------------------------------------------------------------------------- what the papers' split is


def leak(section: Section) -> list[Table]:
    """Each network trained beside the tested tiles and away from them: the difference is what the mixed split is worth."""
    pairs: dict[str, dict[str, str]] = {}
    for label in section.facts.methods:
        name, arguments = split_label(label)
        if "train" in arguments:
            pairs.setdefault(name, {})[str(arguments["train"])] = label
    rows = []
    for msi_bands in section.facts.msi_bands:
        for name, labels in pairs.items():
            if len(labels) != 2:
                continue
            cells = []
            for metric in ("psnr_db", "sam_deg"):
                cells += [section.score(CLEAN, msi_bands, labels[way], metric) for way in sorted(labels)]
                ours, theirs = (of_images(section, CLEAN, msi_bands, labels[way], metric) for way in sorted(labels))
                apart = [theirs[image] - ours[image] for image in ours if image in theirs]
                cells.append(with_interval(Cell(sum(apart) / len(apart)), apart) if apart else Cell(notes=("not measured",)))
            rows.append(Row(msi_bands, name, tuple(cells)))
    if not rows:
        return []
    ways = sorted(next(iter(pairs.values())))
    columns = [replace(METRIC_COLUMNS[metric], key=f"{metric}_{what}", better="",
                       label=f"{METRIC_COLUMNS[metric].label} {what}")
               for metric in ("psnr_db", "sam_deg") for what in (*ways, "worth")]
    return [Table(f"{section.slug}-leak", "What is gained by training beside the tested tiles",
                  f"Clean scenes, the same networks, steps and tested tiles; trained on scenes by the rule '{ways[0]}' and by "
                  f"'{ways[1]}', and the mean of their differences image by image. {interval_words(section)}",
                  tuple(columns), tuple(rows), conditions=section.caption())]
