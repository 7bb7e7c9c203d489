"""A study's rows into its page: ``index.html`` and beside it each table (CSV, Markdown, LaTeX) and figure (PNG, PDF).

To add a table or a figure, write a function of a :class:`~benchmark.tables.Section` in ``tables`` or ``plots`` and name
it in :data:`SPLIT_PARTS` (once a split) or :data:`STUDY_PARTS` (once a study).
"""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from benchmark import plots, tables
from benchmark.plots import Plot
from benchmark.tables import Cell, Column, Section, Table

SPLIT_PARTS: tuple[tuple[str, tuple[Callable[[Section], Sequence[Table | Plot]], ...]], ...] = (
    ("Quality and cost", (tables.accuracy, tables.all_metrics)),
    ("Robustness to noise", (plots.noise_curves, tables.robustness)),
)
STUDY_PARTS: tuple[tuple[str, tuple[Callable[[Section], Sequence[Table | Plot]], ...]], ...] = (
    ("Training", (plots.training,)),
)
JOBS = {"failed": "Failed jobs", "stale": "Stale jobs (code has changed)", "missing": "Missing jobs (not run yet)"}
ARROWS = {"up": "↑", "down": "↓", "": ""}
MARKS = "Bold: best, underlined: second best of the rows with the same number of MSI bands; ties share a mark."
TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "—": "---", "±": r"$\pm$", "∞": r"$\infty$",
       "↑": r"$\uparrow$", "↓": r"$\downarrow$", "<": r"\textless{}", ">": r"\textgreater{}"}


def render(study_dir: Path, scores: pd.DataFrame, costs: pd.DataFrame, curves: pd.DataFrame,
           published: Mapping[str, Mapping[int, Mapping[str, float]]], meta: Mapping[str, Any]) -> Path:
    """Write the report of one study; the same arguments give the same bytes.

    Args:
        study_dir: ``reports/<study>``; tables and figures of an earlier report in it that no longer belong are removed.
        scores: one line an image.
        costs: one line a method, MSI setting and device.
        curves: tidy training log.
        published: method -> MSI bands -> what its paper prints.
        meta: ``study``, ``title``, ``summary``, ``labels``, ``devices``, ``versions`` (name -> words), ``protocols``
            (digest -> ``name``, ``words``), ``expected`` (``methods``, ``msi_bands``, ``scenarios`` as (scenario,
            noise_target, snr_db), ``splits`` as (dataset, split[, words])), ``jobs`` (``failed``, ``stale``,
            ``missing``: a sentence or a mapping each); all optional.

    Returns:
        The path of ``index.html``.
    """
    whole, splits = tables.sections(scores, costs, curves, published, meta)
    files: dict[str, bytes] = {}
    contents, chapters = [], []
    for section, title, parts in [*((one, f"Split {one.title}", SPLIT_PARTS) for one in splits),
                                  (whole, "Whole study", STUDY_PARTS)]:
        words = [entry[2] for entry in meta.get("expected", {}).get("splits", [])
                 if tuple(entry[:2]) == (section.dataset, section.split) and len(entry) > 2]
        chapters += [f'<h2 id="{section.slug}">{escape(title)}</h2>', *(f"<p>{escape(word)}</p>" for word in words)]
        links = [(f"{section.slug}-part{i}", heading) for i, (heading, _) in enumerate(parts)]
        for (anchor, heading), (_, makers) in zip(links, parts):
            chapters.append(f'<h3 id="{anchor}">{escape(heading)}</h3>')
            chapters += [shown(make(section), meta.get("study", "study"), files) for make in makers]
        contents.append((section.slug, title, links))
    body = [*summary(whole, splits), *navigation(contents), *chapters, *ending(whole)]
    title = meta.get("title") or f"Study {meta.get('study', '')}"
    template = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    files["index.html"] = template.substitute(title=escape(title), body="\n".join(body)).encode()
    for folder, kinds in (("tables", ("csv", "md", "tex")), ("figures", ("png", "pdf"))):
        (study_dir / folder).mkdir(parents=True, exist_ok=True)
        for old in sorted((study_dir / folder).iterdir()):
            if old.suffix[1:] in kinds and f"{folder}/{old.name}" not in files:
                old.unlink()
    for name, content in files.items():
        (study_dir / name).write_bytes(content)
    return study_dir / "index.html"


# ------------------------------------------------------------------------------------------------ the parts of the page


def shown(made: Sequence[Table | Plot], study: str, files: dict[str, bytes]) -> str:
    """HTML of some tables or figures; their files are added to ``files``."""
    if not made:
        return "<p>No rows for this part yet.</p>"
    figures = [figure_html(plot, files) for plot in made if isinstance(plot, Plot)]
    if figures:
        return '<div class="figures">\n' + "\n".join(figures) + "\n</div>"
    found = [table for table in made if isinstance(table, Table)]
    for table in found:
        files[f"tables/{table.name}.csv"] = to_csv(table).encode()
        files[f"tables/{table.name}.md"] = to_markdown(table).encode()
        files[f"tables/{table.name}.tex"] = to_latex(table, study).encode()
    return "\n".join(to_html(table) for table in found)


def figure_html(plot: Plot, files: dict[str, bytes]) -> str:
    """One figure, embedded."""
    content = plots.file_bytes(plot)
    files |= {f"figures/{plot.name}.{kind}": data for kind, data in content.items()}
    links = " · ".join(f'<a href="figures/{plot.name}.{kind}">{kind.upper()}</a>' for kind in content)
    image = base64.b64encode(content["png"]).decode()
    return (f'<figure id="{plot.name}"><img alt="{escape(plot.title)}" src="data:image/png;base64,{image}">\n'
            f"<figcaption>{escape(plot.caption)} {links}</figcaption></figure>")


def summary(whole: Section, splits: Sequence[Section]) -> list[str]:
    """What was measured, the labels, the best of each split, and the conditions."""
    meta, ok = whole.meta, whole.scores[whole.scores["status"] == "ok"]
    bands = " and ".join(map(str, whole.msi_bands))
    words = (f"{len(whole.methods)} methods ({', '.join(whole.methods)}) with {bands} multispectral bands "
             f"on {len(splits)} splits: {len(ok)} measured rows of {ok['image'].nunique()} images. "
             "Each split has its own tables and curves; numbers of different splits are never averaged.")
    lines = [f"<p>{escape(one)}</p>" for one in (meta.get("summary", ""), words) if one]
    if meta.get("labels"):
        lines.append('<ul class="labels">' + "".join(f"<li>{escape(one)}</li>" for one in meta["labels"]) + "</ul>")
    best = "".join(f"<li>{escape(line)}</li>" for section in splits for line in best_lines(section))
    lines += [f"<h4>Best on clean scenes</h4>\n<ul>{best}</ul>"] if best else []
    devices = {*meta.get("devices", []), *ok["device"], *(whole.costs["device"] if len(whole.costs) else [])}
    jobs = meta.get("jobs", {})
    facts = [(f"Protocol {entry['name']}", f"{digest}: {entry.get('words', '')}")
             for digest, entry in meta.get("protocols", {}).items()]
    facts += [("Devices", ", ".join(sorted(devices))),
              ("Versions", ", ".join(f"{name} {what}" for name, what in meta.get("versions", {}).items())),
              ("Jobs", ", ".join(f"{len(jobs.get(kind, []))} {kind}" for kind in JOBS))]
    return [*lines, "<h4>Conditions</h4>\n<dl>" + "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(what)}</dd>" for name, what in facts if what) + "</dl>"]


def best_lines(section: Section) -> list[str]:
    """One sentence an MSI setting: which method leads in PSNR and in SAM."""
    lines = []
    for table in tables.accuracy(section):
        place = ranks(table)
        for msi_bands in section.msi_bands:
            words = []
            for j, column in enumerate(table.columns):
                if column.key not in ("psnr_db", "sam_deg"):
                    continue
                leaders = [(row[1], row[2][j]) for i, row in enumerate(table.rows)
                           if row[0] == msi_bands and place.get((i, j)) == 1]
                if leaders:
                    names = " and ".join(name for name, _ in leaders)
                    words.append(f"{column.label} {names} ({text_of(leaders[0][1], column)} {column.unit})")
            lines += [f"{section.title}, {msi_bands} MSI bands: {', '.join(words)}."] if words else []
    return lines


def navigation(contents: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]) -> list[str]:
    """The table of contents."""
    items = [f'<li><a href="#{anchor}">{escape(title)}</a><ul>'
             + "".join(f'<li><a href="#{part}">{escape(heading)}</a></li>' for part, heading in links) + "</ul></li>"
             for anchor, title, links in contents]
    last = '<li><a href="#jobs">Failed, stale and missing</a></li>'
    return ["<nav>\n<h4>Contents</h4>\n<ul>", *items, last, "</ul>\n</nav>"]


def ending(whole: Section) -> list[str]:
    """The jobs that failed, are stale or missing, and rows that no table of this page shows."""
    lines = ['<h2 id="jobs">Failed, stale and missing</h2>']
    for kind, heading in JOBS.items():
        entries = whole.meta.get("jobs", {}).get(kind, [])
        lines.append(f"<h4>{heading} ({len(entries)})</h4>")
        words = [one if isinstance(one, str) else ": ".join(str(part) for part in one.values()) for one in entries]
        lines.append("<ul>" + "".join(f"<li><code>{escape(one)}</code></li>" for one in words) + "</ul>"
                     if words else "<p>None.</p>")
    other = whole.scores[~whole.scores["scenario"].isin(["clean", "noise"])]
    if len(other):
        counts = ", ".join(f"{name} ({n})" for name, n in other.groupby("scenario").size().items())
        lines.append(f"<p>Rows of scenarios that no table here shows: {escape(counts)}.</p>")
    return lines


# ---------------------------------------------------------------------------------------------------- tables into text



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
    """``31.20`` or ``31.20 ± 0.05``."""
    text = number(cell.value, column)
    return text if math.isnan(cell.std) else f"{text} ± {cell.std / column.scale:.{digits(cell.value, column)}f}"


def ranks(table: Table) -> dict[tuple[int, int], int]:
    """``(row, column)`` -> 1 (best) or 2 (second) within its MSI setting; equal as shown is equal, alone unranked."""
    found: dict[tuple[int, int], int] = {}
    for j, column in enumerate(table.columns):
        for msi_bands in {row[0] for row in table.rows} if column.better else ():
            values = {}
            for i, row in enumerate(table.rows):
                cell = row[2][j]
                if row[0] == msi_bands and cell.ranked and not math.isnan(cell.value):
                    values[i] = float(number(cell.value, column).replace("∞", "inf"))
            order = sorted(set(values.values()), reverse=column.better == "up")
            if len(order) > 1:
                found |= {(i, j): order.index(value) + 1 for i, value in values.items() if value in order[:2]}
    return found


def footnotes(table: Table) -> dict[str, str]:
    """Note -> its letters (a, b, ..., z, aa, ...), in the order of appearance."""
    notes = dict.fromkeys(note for row in table.rows for cell in row[2] for note in cell.notes)
    return {note: ("" if i < 26 else chr(96 + i // 26)) + chr(97 + i % 26) for i, note in enumerate(notes)}


def heads(table: Table) -> list[tuple[str, str]]:
    """``(label with arrow, unit)`` of each column."""
    return [(f"{column.label} {ARROWS[column.better]}".strip(), column.unit) for column in table.columns]


def full_caption(table: Table) -> str:
    """The caption, with the legend of the marks where there are any."""
    return f"{table.caption} {MARKS}" if ranks(table) else table.caption


def to_csv(table: Table) -> str:
    """Raw numbers in full precision, one value a field, a hole empty."""
    def raw(value: float, column: Column) -> str:
        whole = column.scale > 1 and math.isfinite(value) and value == int(value)
        return "" if math.isnan(value) else str(int(value)) if whole else repr(float(value))

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["msi_bands", "method", *(key for column in table.columns for key in
                                              ([column.key, f"{column.key}_std"] if column.better else [column.key]))])
    for msi_bands, method, cells in table.rows:
        fields = [raw(value, column) for cell, column in zip(cells, table.columns)
                  for value in ([cell.value, cell.std] if column.better else [cell.value])]
        writer.writerow([msi_bands, method, *fields])
    return out.getvalue()


def to_markdown(table: Table) -> str:
    """A pipe table, its caption and footnotes."""
    letters, place = footnotes(table), ranks(table)
    marks = {1: "**{}**", 2: "<u>{}</u>", 0: "{}"}
    lines = [["MSI bands", "Method", *(f"{label} ({unit})" if unit else label for label, unit in heads(table))],
             ["---:", "---", *("---:" for _ in table.columns)]]
    for i, (msi_bands, method, cells) in enumerate(table.rows):
        texts = [marks[place.get((i, j), 0)].format(text_of(cell, column))
                 + (f"<sup>{','.join(letters[note] for note in cell.notes)}</sup>" if cell.notes else "")
                 for j, (cell, column) in enumerate(zip(cells, table.columns))]
        lines.append([str(msi_bands), method, *texts])
    notes = [f"<sup>{letter}</sup> {note}  " for note, letter in letters.items()]
    return "\n".join([*("| " + " | ".join(line) + " |" for line in lines), "", full_caption(table),
                      *(["", *notes] if notes else [])]) + "\n"


def to_latex(table: Table, study: str) -> str:
    """A booktabs table, shrunk only where it is wider than the page."""
    letters, place = footnotes(table), ranks(table)
    marks = {1: r"\textbf{{{}}}", 2: r"\underline{{{}}}", 0: "{}"}
    labels = []
    for label, unit in heads(table):  # long labels word by word, so that columns stay as narrow as their numbers
        words = [*(label.split() if len(label) > 9 else [label]), *([f"({unit})"] if unit else [])]
        stack = r"\\".join(tex(word) for word in words)
        labels.append(rf"\shortstack[r]{{{stack}}}" if len(words) > 1 else stack)
    lines = [r"% needs \usepackage{booktabs,graphicx}", r"\begin{table*}[t]",
             r"  \centering\setlength{\belowcaptionskip}{4pt}",
             rf"  \caption{{{tex(full_caption(table))}}}", rf"  \label{{tab:{study}-{table.name}}}",
             r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
             rf"  \begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"    \toprule",
             f"    Method & {' & '.join(labels)} \\\\"]
    panel = None
    for i, (msi_bands, method, cells) in enumerate(table.rows):
        if msi_bands != panel:
            panel = msi_bands
            title = rf"\multicolumn{{{len(cells) + 1}}}{{l}}{{\emph{{{msi_bands} MSI bands}}}}"
            lines += [r"    \midrule", rf"    {title} \\"]
        texts = [marks[place.get((i, j), 0)].format(tex(text_of(cell, column)))
                 + (rf"$^{{{','.join(letters[note] for note in cell.notes)}}}$" if cell.notes else "")
                 for j, (cell, column) in enumerate(zip(cells, table.columns))]
        lines.append(f"    {tex(method)} & {' & '.join(texts)} \\\\")
    lines += [r"    \bottomrule", r"  \end{tabular}}"]
    lines += [rf"  \par\smallskip\footnotesize $^{{{letter}}}$ {tex(note)}." for note, letter in letters.items()]
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def tex(text: str) -> str:
    """Plain text, escaped for LaTeX."""
    return "".join(TEX.get(letter, letter) for letter in text)


def to_html(table: Table) -> str:
    """A table in its own scrolling box, with caption, footnotes and links to its files."""
    letters, place = footnotes(table), ranks(table)
    head = "".join(f'<th scope="col"{" class=published" if column.published else ""}>{escape(label)}'
                   + (f"<small>{escape(unit)}</small>" if unit else "") + "</th>"
                   for (label, unit), column in zip(heads(table), table.columns))
    lines, panel = [], None
    for i, (msi_bands, method, cells) in enumerate(table.rows):
        if msi_bands != panel:
            panel = msi_bands
            lines.append(f'<tr><th class="panel" scope="rowgroup">{msi_bands} MSI bands</th>'
                         f'<td class="panel" colspan="{len(cells)}"></td></tr>')
        texts = "".join(cell_html(cell, column, place.get((i, j), 0), letters, table.name)
                        for j, (cell, column) in enumerate(zip(cells, table.columns)))
        lines.append(f'<tr><th scope="row">{escape(method)}</th>{texts}</tr>')
    notes = "".join(f'<li id="{table.name}-{letter}"><sup>{letter}</sup> {escape(note)}</li>'
                    for note, letter in letters.items())
    links = " · ".join(f'<a href="tables/{table.name}.{kind}">{word}</a>'
                       for kind, word in (("csv", "CSV"), ("md", "Markdown"), ("tex", "LaTeX")))
    return "\n".join([
        f'<h4 id="{table.name}">{escape(table.title)}</h4>',
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>',
        f'<thead><tr><th scope="col">Method</th>{head}</tr></thead>', "<tbody>", *lines, "</tbody>",
        "</table></div>", f'<p class="caption">{escape(full_caption(table))} {links}</p>',
        *([f'<ul class="notes">{notes}</ul>'] if notes else [])])


def cell_html(cell: Cell, column: Column, rank: int, letters: Mapping[str, str], name: str) -> str:
    """One ``td``."""
    kind = {1: "best", 2: "second"}.get(rank, "published" if column.published else "")
    kind = "hole" if math.isnan(cell.value) else kind
    value, _, deviation = text_of(cell, column).partition(" ± ")
    text = escape(value) + (f" <small>± {escape(deviation)}</small>" if deviation else "")
    marks = ",".join(f'<a href="#{name}-{letters[note]}">{letters[note]}</a>' for note in cell.notes)
    return f'<td{f" class={kind}" if kind else ""}>{text}{f"<sup>{marks}</sup>" if marks else ""}</td>'
