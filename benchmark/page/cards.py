"""The card of each method: paper, release, fidelity with its difference, notes, and all its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd

from benchmark.page.cells import cost_cell
from benchmark.page.formats import number, text_of
from benchmark.page.leaderboard import about
from benchmark.page.section import Section, slug_of
from benchmark.page.tables import COUNTS, METRIC_COLUMNS
from benchmark.protocol import CLEAN

FIDELITY = {
    "release": "equal to the authors' release",
    "described": "built from a description, without recorded outputs to compare with",
    "reference": "equal to a public toolbox",
}


def cards_html(whole: Section, splits: Sequence[Section], figures: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """All cards, by name.

    Args:
        whole: the whole study.
        splits: its splits.
        figures: method -> ``(anchor, words)`` of the figures that draw it.
    """
    return '<div class="cards">\n' + "\n".join(
        _card(whole, splits, method, figures.get(method, ())) for method in sorted(whole.facts.methods)) + "\n</div>"


def _card(whole: Section, splits: Sequence[Section], method: str, figures: Sequence[tuple[str, str]]) -> str:
    card = whole.facts.cards.get(method)
    entries = [("Kind", " · ".join(value for value in about(whole, method).values() if value))]
    if card is not None:
        entries += [("Paper", card.paper if str(card.year) in card.paper else f"{card.paper} ({card.year})"),
                    ("Source", card.source), ("Note", card.note)]
        entries += [("Fidelity", fidelity_words(whole, method)), ("Counts", card.count_reason)]
    entries += [(f"Cost, {bands} MSI bands", _costs(whole, bands, method)) for bands in whole.facts.msi_bands]
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>" for name, words in entries if words)
    drawn = "".join(f'<li><a href="#{anchor}">{escape(words)}</a></li>' for anchor, words in figures)
    folded = (f"<details class=drawn><summary>Drawn in {len(figures)} figure{'s' if len(figures) > 1 else ''}</summary>"
              f"<ul>{drawn}</ul></details>") if drawn else ""
    return (f'<article class="card" id="method-{slug_of(method)}"><h3>{escape(method)}</h3><dl>{told}</dl>'
            f"{_scores(whole, splits, method)}{folded}</article>")


def _costs(whole: Section, msi_bands: int, method: str) -> str:
    rows = whole.costs.get((msi_bands, method))
    cells = [(column, cost_cell(rows, column.key)) for column in COUNTS]
    return ", ".join(f"{column.label} {number(cell.value, column)} {column.unit}" for column, cell in cells
                     if not math.isnan(cell.value) and cell.value)


def _scores(whole: Section, splits: Sequence[Section], method: str) -> str:
    """Every metric on clean scenes, one line a split and MSI band count."""
    head = "".join(f"<th scope=col>{escape(column.label)}<small>{escape(column.unit)}</small></th>"
                   for column in METRIC_COLUMNS.values())
    lines = []
    for section in splits:
        for msi_bands in whole.facts.msi_bands:
            cells = [(section.score(CLEAN, msi_bands, method, key), column) for key, column in METRIC_COLUMNS.items()]
            if not all(math.isnan(cell.value) for cell, _ in cells):
                values = "".join(f"<td>{escape(text_of(cell, column))}</td>" for cell, column in cells)
                lines.append(f"<tr><th scope=row>{escape(section.name)}, {msi_bands} bands</th>{values}</tr>")
    label = f"Every metric of {method} on clean scenes"
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table><thead><tr>'
            f"<th scope=col>Clean scenes</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>") if lines else ""


def fidelity_words(whole: Section, method: str) -> str:
    """What a method is faithful to, with the measured difference where one is recorded."""
    card = whole.facts.cards[method]
    parts = [f"{card.fidelity}: {FIDELITY[card.fidelity]}"]
    parts += [f"{row['verdict']}{_by(row['golden_difference'], 'relative')}" for row in _of(whole.rows.fidelity, method)]
    parts += [f"{row['recording']}, {row['case']}: {row['verdict']}{_by(row['sample_difference'], 'sample')}"
              for row in _of(whole.rows.recorded, method)]
    return "; ".join(dict.fromkeys(parts))


def _by(difference: float, what: str) -> str:
    return "" if math.isnan(difference) else f" (largest {what} difference {difference:.1e})"


def _of(rows: pd.DataFrame, method: str) -> list[dict]:
    return rows[rows["method"] == method].to_dict("records") if len(rows) else []
