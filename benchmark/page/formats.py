"""A :class:`~benchmark.page.tables.Table` as text: raw CSV; Markdown, LaTeX and HTML rounded, ranked and footnoted."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html import escape
from itertools import groupby
from typing import Any

from benchmark.page.cells import Cell
from benchmark.page.section import slug_of
from benchmark.page.tables import SIDE_BY_SIDE, Column, Listing, Row, Table

ARROWS = {"up": "↑", "down": "↓", "": ""}
WIDE = 16  # columns, above which a table is printed in smaller letters
KINDS = {  # what is ranked with its like alone, and the word for it in a legend
    "known": "known (told the sensors' responses)",
    "blind": "blind (not told the responses)",
    "trained": "trained on other scenes",
}
GREEK = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
         "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega")
TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "—": "---", "±": r"$\pm$", "∞": r"$\infty$",
       "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "−": "$-$", "→": r"$\rightarrow$",
       **{letter: rf"$\{name}$" for name, letter in zip(GREEK, "αβγδεζηθικλμνξπρστυφχψω")},
       "↑": r"$\uparrow$", "↓": r"$\downarrow$", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
MARKDOWN = {letter: f"\\{letter}" for letter in "\\`*|<>[]"}


def number(value: float, column: Column) -> str:
    """A value as this column shows it, a hole as a dash."""
    if math.isnan(value):
        return "" if column.published else "—"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0 and column.scale > 1:
        return "0"
    text = f"{value / column.scale:.{digits(value, column)}f}"
    return text.rstrip("0").rstrip(".") if column.published and "." in text else text


def digits(value: float, column: Column) -> int:
    """Digits behind the point."""
    if column.decimals is not None:
        return column.decimals
    value = abs(value / column.scale)
    return 3 if value == 0 else min(9, max(0, 2 - math.floor(math.log10(value))))


def text_of(cell: Cell, column: Column) -> str:
    """``31.20``, ``31.20 ± 0.05`` or, with its interval over images, ``31.20 [30.87, 31.55]``."""
    text = number(cell.value, column)
    places = digits(cell.value, column) if math.isfinite(cell.value) else 0
    text += "" if math.isnan(cell.std) else f" ± {cell.std / column.scale:.{places}f}"
    ends = [f"{end / column.scale:.{places}f}" for end in cell.interval or ()]
    return f"{text} [{', '.join(ends)}]" if ends else text


def ranks(table: Table) -> dict[tuple[int, int], int]:
    """``(row, column)`` -> 1 (best) or 2 (second) of its kind and MSI setting; equal as shown is equal, alone unranked."""
    found: dict[tuple[int, int], int] = {}
    groups: dict[tuple[int, str], list[int]] = {}
    for i, row in enumerate(table.rows):
        if row.kind:
            groups.setdefault((row.msi_bands, row.kind), []).append(i)
    for j, column in enumerate(table.columns):
        for members in groups.values() if column.better else ():
            cells = {i: table.rows[i].cells[j] for i in members}
            values = {i: float(number(cell.value, column).replace("∞", "inf")) for i, cell in cells.items()
                      if cell.ranked and not math.isnan(cell.value)}
            order = sorted(set(values.values()), reverse=column.better == "up")
            if len(order) > 1:
                found |= {(i, j): order.index(value) + 1 for i, value in values.items() if value in order[:2]}
    return found


def legend(table: Table) -> str:
    """What the marks mean, what was ranked with what and what was not; empty where nothing could be ranked."""
    if not any(column.better for column in table.columns):
        return ""
    kinds = [words for kind, words in KINDS.items() if any(row.kind == kind for row in table.rows)]
    apart = f", each kind apart: {', '.join(kinds)}" if len(kinds) > 1 else f", of one kind: {kinds[0]}" if kinds else ""
    marks = f"Bold: best, underlined: second best of the rows with the same number of MSI bands{apart}; ties share a mark."
    return " ".join([*([marks] if ranks(table) else []), *table.unranked])


def footnotes(table: Table) -> dict[str, str]:
    """Note -> its letters (a, b, ..., z, aa, ...), in the order of appearance."""
    notes = dict.fromkeys(note for column in table.columns for note in column.notes)
    notes |= dict.fromkeys(note for row in table.rows for cell in row.cells for note in cell.notes)
    return {note: ("" if i < 26 else chr(96 + i // 26)) + chr(97 + i % 26) for i, note in enumerate(notes)}


def named(row: Row) -> str:
    """The method, with its mark in brackets."""
    return f"{row.method} ({row.mark})" if row.mark else row.method


def heads(table: Table) -> list[tuple[str, str]]:
    """``(label with arrow, unit)`` of each column."""
    return [(f"{column.label} {ARROWS[column.better]}".strip(), column.unit) for column in table.columns]


def groups(table: Table) -> list[tuple[str, int]]:
    """``(heading, number of columns below it)`` from left to right; empty where no column has a group."""
    if not any(column.group for column in table.columns):
        return []
    return [(name, len(list(columns))) for name, columns in groupby(table.columns, key=lambda column: column.group)]


def shown(row: Row, table: Table) -> Iterator[tuple[int, Cell, Column]]:
    """Place, cell and column of all that a row holds; the columns of a printed row are those of printed values."""
    for j, (cell, column) in enumerate(zip(row.cells, table.columns)):
        yield j, cell, replace(column, published=True, decimals=3) if row.published else column


def by_panel(table: Table) -> bool:
    """Whether rows stand in panels by their MSI band count."""
    return any(row.msi_bands != SIDE_BY_SIDE for row in table.rows)


def full_caption(table: Table | Listing) -> str:
    """What the files of a table say below it: its line, the legend of the marks, and the conditions."""
    marks = "" if isinstance(table, Listing) else legend(table)
    return " ".join(words for words in (table.caption, table.conditions, marks) if words)


def to_csv(table: Table | Listing) -> str:
    """Raw numbers in full precision, one value a field, a hole empty."""
    if isinstance(table, Listing):
        held = io.StringIO()
        csv.writer(held, lineterminator="\n").writerows([table.columns, *table.rows])
        return held.getvalue()

    def raw(value: float, column: Column) -> str:
        whole = column.scale > 1 and math.isfinite(value) and value == int(value)
        return "" if math.isnan(value) else str(int(value)) if whole else repr(float(value))

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    first = ["msi_bands", "method"] if by_panel(table) else ["method"]
    bounded = {j for row in table.rows for j, cell in enumerate(row.cells) if cell.interval}

    def of_column(j: int, value: Any, std: Any, low: Any, high: Any) -> list[Any]:
        return [value, *([std] if table.columns[j].better else []), *([low, high] if j in bounded else [])]

    writer.writerow([*first, *(f"{column.key}{end}" for j, column in enumerate(table.columns)
                               for end in of_column(j, "", "_std", "_low", "_high"))])
    for row in table.rows:
        fields = [raw(value, table.columns[j]) for j, cell in enumerate(row.cells)
                  for value in of_column(j, cell.value, cell.std, *(cell.interval or (math.nan, math.nan)))]
        name = f"{row.method} ({row.mark})" if row.published else row.method
        writer.writerow([*([row.msi_bands] if by_panel(table) else []), name, *fields])
    return out.getvalue()


def to_markdown(table: Table | Listing) -> str:
    """A pipe table, its caption and footnotes."""
    if isinstance(table, Listing):
        lined = [table.columns, ["---"] * len(table.columns), *([markdown(text) for text in row] for row in table.rows)]
        return "\n".join([*("| " + " | ".join(line) + " |" for line in lined), "", markdown(full_caption(table))]) + "\n"
    letters, place = footnotes(table), ranks(table)
    marks = {1: "**{}**", 2: "<u>{}</u>", 0: "{}"}
    labels = [" ".join([*([f"{column.group}:"] if column.group else []), label, *([f"({unit})"] if unit else [])])
              + raised(column, letters) for (label, unit), column in zip(heads(table), table.columns)]
    lines = [["MSI bands", "Method", *labels], ["---:", "---", *("---:" for _ in table.columns)]]
    for i, row in enumerate(table.rows):
        texts = [marks[place.get((i, j), 0)].format(text_of(cell, column))
                 + raised(cell, letters) for j, cell, column in shown(row, table)]
        lines.append([str(row.msi_bands), markdown(named(row)), *texts])
    lines = lines if by_panel(table) else [line[1:] for line in lines]
    notes = [f"<sup>{letter}</sup> {markdown(note)}  " for note, letter in letters.items()]
    return "\n".join([*("| " + " | ".join(line) + " |" for line in lines), "", markdown(full_caption(table)),
                      *(["", *notes] if notes else [])]) + "\n"


def raised(noted: Cell | Column, letters: Mapping[str, str], name: str = "") -> str:
    """The letters of the footnotes of a cell or heading, in HTML and Markdown; links within the table of that name."""
    marks = [f'<a href="#{name}-{letters[note]}">{letters[note]}</a>' if name else letters[note] for note in noted.notes]
    return f"<sup>{','.join(marks)}</sup>" if marks else ""


def markdown(text: str) -> str:
    """Plain text, escaped for Markdown and its tables."""
    return "".join(MARKDOWN.get(letter, letter) for letter in text)


def to_latex(table: Table | Listing, study: str) -> str:
    """A booktabs table, shrunk only where it is wider than the page; words in columns of one width, over several pages."""
    if isinstance(table, Listing):
        width = f"{0.98 / len(table.columns):.3f}"
        head = " & ".join(tex(name) for name in table.columns)
        return "\n".join([
            r"% needs \usepackage{array,booktabs,longtable}", r"% several pages long: on pages of one column, \onecolumn",
            r"{\tiny\setlength{\tabcolsep}{2pt}",
            rf"\begin{{longtable}}{{*{{{len(table.columns)}}}{{>{{\raggedright\arraybackslash}}p{{{width}\linewidth}}}}}}",
            rf"\caption{{{tex(full_caption(table))}}} \label{{tab:{slug_of(study)}-{table.name}}} \\",
            rf"\toprule {head} \\ \midrule \endhead \bottomrule \endfoot",
            *(" & ".join(tex(text) for text in row) + r" \\" for row in table.rows), r"\end{longtable}}"]) + "\n"
    letters, place = footnotes(table), ranks(table)
    marks = {1: r"\textbf{{{}}}", 2: r"\underline{{{}}}", 0: "{}"}
    labels = []
    for (label, unit), column in zip(heads(table), table.columns):
        # long labels word by word, so that columns stay as narrow as their numbers
        words = [*(label.split() if len(label) > 9 else [label]), *([f"({unit})"] if unit else [])]
        stack = r"\\".join(tex(word) for word in words) + raised_latex(column, letters)
        labels.append(rf"\shortstack[r]{{{stack}}}" if len(words) > 1 else stack)
    lines = [r"% needs \usepackage{booktabs,graphicx}", r"\begin{table*}[t]",
             r"  \centering\setlength{\belowcaptionskip}{4pt}",
             rf"  \caption{{{tex(full_caption(table))}}}", rf"  \label{{tab:{slug_of(study)}-{table.name}}}",
             r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
             rf"  \begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"    \toprule", *grouped_latex(table),
             f"    Method & {' & '.join(labels)} \\\\"]
    lines += [] if by_panel(table) else [r"    \midrule"]
    panel: int | None = None if by_panel(table) else SIDE_BY_SIDE
    for i, row in enumerate(table.rows):
        if row.msi_bands != panel:
            panel = row.msi_bands
            title = rf"\multicolumn{{{len(row.cells) + 1}}}{{l}}{{\emph{{{panel} MSI bands}}}}"
            lines += [r"    \midrule", rf"    {title} \\"]
        texts = [marks[place.get((i, j), 0)].format(tex(text_of(cell, column)))
                 + raised_latex(cell, letters) for j, cell, column in shown(row, table)]
        lines.append(f"    {tex(named(row))} & {' & '.join(texts)} \\\\")
    lines += [r"    \bottomrule", r"  \end{tabular}}"]
    lines += [rf"  \par\smallskip\footnotesize $^{{{letter}}}$ {tex(note)}." for note, letter in letters.items()]
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def raised_latex(noted: Cell | Column, letters: Mapping[str, str]) -> str:
    """As :func:`raised`, in LaTeX."""
    return rf"$^{{{','.join(letters[note] for note in noted.notes)}}}$" if noted.notes else ""


def grouped_latex(table: Table) -> list[str]:
    """The line of headings above those of the columns, and the rules below it."""
    parts, rules, at = [], [], 2
    for name, span in groups(table):
        parts.append(rf"\multicolumn{{{span}}}{{c}}{{{tex(name)}}}")
        rules += [rf"\cmidrule(lr){{{at}-{at + span - 1}}}"] if name else []
        at += span
    return [f"    & {' & '.join(parts)} \\\\", f"    {' '.join(rules)}"] if parts else []


def tex(text: str) -> str:
    """Plain text, escaped for LaTeX."""
    return "".join(TEX.get(letter, letter) for letter in text)


def to_html(table: Table | Listing) -> str:
    """A table in its own scrolling box, with its line, footnotes and links to its files."""
    if isinstance(table, Listing):
        return listing_html(table)
    letters, place = footnotes(table), ranks(table)
    head = "".join(f'<th scope="col"{" class=published" if column.published else ""}>{escape(label)}'
                   + raised(column, letters, table.name) + (f"<small>{escape(unit)}</small>" if unit else "") + "</th>"
                   for (label, unit), column in zip(heads(table), table.columns))
    box = "scroll wide" if len(table.columns) > WIDE else "scroll"
    above = "".join(f'<th scope="colgroup" colspan="{span}" class="group">{escape(name)}</th>' for name, span in groups(table))
    above = f"<tr><td></td>{above}</tr>" if above else ""
    lines: list[str] = []
    panel: int | None = None if by_panel(table) else SIDE_BY_SIDE
    for i, row in enumerate(table.rows):
        if row.msi_bands != panel:
            panel = row.msi_bands
            lines.append(f'<tr class="panel"><th scope="rowgroup">{panel} MSI bands</th>'
                         f'<td colspan="{len(row.cells)}"></td></tr>')
        texts = "".join(cell_html(cell, column, place.get((i, j), 0), letters, table.name)
                        for j, cell, column in shown(row, table))
        mark = f" <small>{escape(row.mark)}</small>" if row.mark else ""
        lines.append(f'<tr><th scope="row">{escape(row.method)}{mark}</th>{texts}</tr>')
    return "\n".join(part for part in [
        f'<h4 id="{table.name}">{escape(table.title)}</h4>',
        f'<div class="{box}" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>',
        f'<thead>{above}<tr><th scope="col">Method</th>{head}</tr></thead>', "<tbody>", *lines, "</tbody>", "</table></div>",
        f'<p class="caption">{escape(table.caption)} {links(table)}</p>',
        notes_html(table, letters)] if part)


def links(table: Table | Listing) -> str:
    """Links to the conditions and to the files of a table."""
    files = (("csv", "CSV"), ("md", "Markdown"), ("tex", "LaTeX"))
    return " · ".join(['<a href="#conditions">Conditions</a>',
                       *(f'<a href="tables/{table.name}.{kind}">{word}</a>' for kind, word in files)])


def notes_html(table: Table, letters: Mapping[str, str]) -> str:
    """The footnotes of a table, by their letters."""
    notes = "".join(f'<li id="{table.name}-{letter}"><sup>{letter}</sup> {escape(note)}</li>'
                    for note, letter in letters.items())
    return f'<ul class="notes">{notes}</ul>' if notes else ""


def listing_html(listing: Listing) -> str:
    """A table of words in its own scrolling box, with caption and links to its files."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in listing.columns)
    lines = [f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(text)}</td>" for text in row[1:]) + "</tr>"
             for row in listing.rows]
    return "\n".join([
        f'<h4 id="{listing.name}">{escape(listing.title)}</h4>',
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(listing.title)}"><table class="words">',
        f"<thead><tr>{head}</tr></thead>", "<tbody>", *lines, "</tbody>", "</table></div>",
        f'<p class="caption">{escape(listing.caption)} {links(listing)}</p>'])


def cell_html(cell: Cell, column: Column, rank: int, letters: Mapping[str, str], name: str) -> str:
    """One ``td``."""
    kind = {1: "best", 2: "second"}.get(rank, "published" if column.published else "")
    kind = "hole" if math.isnan(cell.value) else kind
    value, _, behind = text_of(cell, column).partition(" ")
    text = escape(value) + (f" <small>{escape(behind)}</small>" if behind else "")
    return f'<td{f" class={kind}" if kind else ""}>{text}{raised(cell, letters, name)}</td>'
