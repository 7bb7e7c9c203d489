"""The leaderboard: every method of a study in one table, all splits side by side, and the words and controls around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from benchmark.page.cells import cost_cell
from benchmark.page.formats import ARROWS, cell_html, footnotes, links, notes_html, ranks
from benchmark.page.section import Section, slug_of
from benchmark.page.tables import COUNTS, METRIC_COLUMNS, Row, Table, cases_of, cost_words, row_of, timings_of
from benchmark.protocol import CLEAN

METRICS = ("psnr_db", "sam_deg", "ergas")
SWITCHED = 4  # MSI band counts, up to which one is shown at a time
ABOUT = ("family", "told", "fidelity")


def leaderboard(whole: Section, splits: Sequence[Section]) -> Table:
    """Clean scenes: quality on every split, parameters and time; the best PSNR of the first split first."""
    facts = whole.facts
    shown = [(section, METRIC_COLUMNS[key]) for section in splits for key in METRICS]
    timings = [timing for timing in timings_of(whole) if timing.key == "seconds_median"]
    columns = [replace(column, key=f"{section.slug}-{column.key}", label=f"{section.name} {column.label}")
               for section, column in shown]
    columns += [replace(COUNTS[1], label="Params"), *(timing.column for timing in timings)]
    rows = []
    for case in cases_of(facts):
        cells = [section.score(CLEAN, *case, column.key) for section, column in shown]
        cells.append(cost_cell(whole.costs.get(case), COUNTS[1].key))
        # a method optimised for each image is timed where it is scored: on the first split
        cells += [timing.cell(splits[0] if splits else whole, *case) for timing in timings]
        rows.append(row_of(facts, *case, cells))
    rows.sort(key=lambda row: (facts.msi_bands.index(row.msi_bands), -_worth(row, len(splits))))
    words = ["Clean scenes, every method on every split."] + ([cost_words(whole)] if whole.costs else [])
    return Table("leaderboard", "Leaderboard", " ".join(words), tuple(columns), tuple(rows), facts.unranked,
                 " ".join(section.caption() for section in splits))


def _worth(row: Row, splits: int) -> float:
    """The PSNR on the first split that has one: splits may be seen by sensors of different band counts."""
    values = (cell.value for cell in row.cells[: splits * len(METRICS) : len(METRICS)])
    return next((value for value in values if not math.isnan(value)), -math.inf)


def board_html(table: Table, whole: Section, splits: Sequence[Section]) -> str:
    """The table with its controls; without a script it is sorted by PSNR, and the band counts switch all the same."""
    facts = whole.facts
    letters, place = footnotes(table), ranks(table)
    switched = 1 < len(facts.msi_bands) <= SWITCHED
    switch = "".join(
        f'<input type="radio" name="bands" class="switch b{k}" id="bands-{bands}"{" checked" if k == 0 else ""}>'
        f'<label for="bands-{bands}">{bands} MSI bands</label>' for k, bands in enumerate(facts.msi_bands)) if switched else ""
    bodies = []
    for k, msi_bands in enumerate(facts.msi_bands):
        lines = [f'<tr class="panel"><th scope="rowgroup" colspan="{len(table.columns) + 4}">{msi_bands} MSI bands</th></tr>']
        for i, row in enumerate(table.rows):
            if row.msi_bands == msi_bands:
                cells = "".join(cell_html(cell, column, place.get((i, j), 0), letters, table.name)
                                for j, (cell, column) in enumerate(zip(row.cells, table.columns)))
                lines.append(_line(whole, row, cells))
        bodies.append(f'<tbody class="t{k}">\n' + "\n".join(lines) + "\n</tbody>")
    boxes = "switched" if switched else "stacked"
    return "\n".join([
        _controls(whole), f'<div class="{boxes}">{switch}',
        '<div class="scroll board" tabindex="0" role="region" aria-label="Leaderboard"><table id="board">',
        _head(table, splits), *bodies, "</table></div></div>",
        f'<p class="caption">{escape(" ".join([table.caption, *table.unranked]))} {links(table)}</p>',
        notes_html(table, letters)])


def _head(table: Table, splits: Sequence[Section]) -> str:
    """Two rows: the splits, and below each its metrics."""
    groups = "".join(f'<th scope="colgroup" colspan="{len(METRICS)}" class="group">{escape(section.name)}'
                     f"<small>n = {len(section.split.images) if section.split else 0}</small></th>" for section in splits)
    about = "".join(f'<th scope="col" rowspan="2" class="about" data-sort="text">{name.capitalize()}</th>' for name in ABOUT)
    below = "".join(_sorted_by(METRIC_COLUMNS[key].label, METRIC_COLUMNS[key].unit, METRIC_COLUMNS[key].better,
                               first=k == 0 and m == 0)
                    for k, _ in enumerate(splits) for m, key in enumerate(METRICS))
    behind = "".join(f'<th scope="col" rowspan="2" data-sort="down">{escape(column.label)}<small>{escape(column.unit)}</small>'
                     "</th>" for column in table.columns[len(splits) * len(METRICS):])
    return (f'<thead><tr><th scope="col" rowspan="2" data-sort="text">Method</th>{about}{groups}{behind}</tr>'
            f"<tr>{below}</tr></thead>")


def _sorted_by(label: str, unit: str, better: str, first: bool) -> str:
    order = ' aria-sort="descending"' if first else ""
    return (f'<th scope="col" data-sort="{better}"{order}>{escape(label)} {ARROWS[better]}'
            f"<small>{escape(unit) or '&nbsp;'}</small></th>")


def _line(whole: Section, row: Row, cells: str) -> str:
    """One method; on a narrow screen what it is stands below its name."""
    held = about(whole, row.method)
    data = "".join(f' data-{name}="{escape(held[name])}"' for name in ABOUT)
    words = " · ".join(value for value in held.values() if value)
    texts = "".join(f'<td class="about">{escape(held[name]) or "—"}</td>' for name in ABOUT)
    return (f'<tr data-name="{escape(row.method)}"{data}><th scope="row"><a href="#method-{slug_of(row.method)}">'
            f"{escape(row.method)}</a><small>{escape(words)}</small></th>{texts}{cells}</tr>")


def about(whole: Section, method: str) -> dict[str, str]:
    """Family, what it is told, and fidelity of a method; empty where it has no card."""
    card = whole.facts.cards.get(method)
    if card is None:
        return dict.fromkeys(ABOUT, "")
    told = "oracle" if "oracle" in whole.facts.marks.get(method, "") else whole.facts.told.get(method, "")
    return {"family": card.family, "told": told, "fidelity": card.fidelity}


def _controls(whole: Section) -> str:
    """Search box and filters; without the script that they need they are hidden."""
    selects = []
    for name in ABOUT:
        values = sorted({about(whole, method)[name] for method in whole.facts.methods} - {""})
        if len(values) > 1:
            options = "".join(f"<option>{escape(value)}</option>" for value in values)
            selects.append(f'<label>{name.capitalize()} <select data-filter="{name}"><option value="">all</option>{options}'
                           "</select></label>")
    return ('<form class="controls scripted" role="search" aria-label="Filter the leaderboard">'
            '<label>Search <input type="search" data-filter="name" placeholder="method"></label>'
            f'{"".join(selects)}<output aria-live="polite">{len(whole.facts.methods)} methods</output></form>')
