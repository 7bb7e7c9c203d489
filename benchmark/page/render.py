"""A study's rows into its page: ``index.html`` and beside it each table (CSV, Markdown, LaTeX) and figure (PNG, PDF).

Which tables and figures, and in which order: :mod:`benchmark.page.artefacts`.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from benchmark import store
from benchmark.page import plots
from benchmark.page.artefacts import ARTEFACTS
from benchmark.page.formats import KINDS, ranks, text_of, to_csv, to_html, to_latex, to_markdown
from benchmark.page.plots import Plot
from benchmark.page.section import Facts, Rows, Section, sections
from benchmark.page.tables import Listing, Table

OWN_FILES = re.compile(r'href="((?:tables|figures)/[^"/]+)"')


def render(study_dir: Path, facts: Facts, rows: Rows) -> Path:
    """Write the report of one study; the same arguments give the same bytes.

    Args:
        study_dir: ``reports/<study>``; files that an earlier page in it links to and that no longer belong are removed.
        facts: of the study.
        rows: of its results.

    Returns:
        The path of ``index.html``.

    Raises:
        StoreError: the folder cannot be written.
    """
    with store.writing(study_dir, "--reports"):  # known before the work is done
        study_dir.mkdir(parents=True, exist_ok=True)
    whole, splits = sections(facts, rows)
    files: dict[str, bytes] = {}
    contents: list[tuple[str, str, list[tuple[str, str]]]] = []
    chapters: list[str] = []
    best: list[str] = []
    for section in [*splits, whole]:
        title = f"Split {section.title}" if section.split else "Whole study"
        chapters.append(f'<h2 id="{section.slug}">{escape(title)}</h2>')
        chapters += [f"<p>{escape(section.split.words)}</p>"] if section.split and section.split.words else []
        links = []
        mine = [each for each in ARTEFACTS.values() if each.of_study == (section.split is None)]
        for i, heading in enumerate(dict.fromkeys(each.chapter for each in mine)):
            made = [one for each in mine if each.chapter == heading for one in each.make(section)]
            best += [line for one in made if isinstance(one, Table) for line in best_lines(section, one)]
            if made:  # what is expected and not measured gives a table of holes: nothing is what this study does not ask
                links.append((f"{section.slug}-part{i}", heading))
                chapters += [f'<h3 id="{links[-1][0]}">{escape(heading)}</h3>', shown(made, facts.study, files)]
        contents.append((section.slug, title, links))
    body = [*summary(whole, splits, best), *navigation(contents), *chapters, *ending(whole)]
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    page = template.substitute(title=escape(facts.title), body="\n".join(body)).encode()
    with store.writing(study_dir, "--reports"):
        write(study_dir, files, page)
    return study_dir / "index.html"


def write(study_dir: Path, files: Mapping[str, bytes], page: bytes) -> None:
    """Put the files in place once all of them are on the disk, the page last; then nothing of an earlier page is left.

    What an earlier page links to is ours; other files in these folders are the user's.

    Raises:
        OSError: the folder cannot be written; what is in it is then untouched.
    """
    for folder in ("tables", "figures"):
        (study_dir / folder).mkdir(parents=True, exist_ok=True)
    index = study_dir / "index.html"
    earlier = OWN_FILES.findall(index.read_text(encoding="utf-8", errors="replace")) if index.exists() else []
    room = study_dir / f".{os.getpid()}.tmp"
    try:
        for name, content in {**files, "index.html": page}.items():
            (room / name).parent.mkdir(parents=True, exist_ok=True)
            (room / name).write_bytes(content)
        for name in files:
            os.replace(room / name, study_dir / name)
        for name in set(earlier) - set(files):
            (study_dir / name).unlink(missing_ok=True)
        os.replace(room / "index.html", index)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def render_only(study_dir: Path, facts: Facts, rows: Rows, name: str) -> list[Path]:
    """Write the files of one artefact of a study, and nothing else; none where its rows are not of that kind.

    Args:
        study_dir: ``reports/<study>``.
        facts: of the study.
        rows: of its results.
        name: a key of :data:`benchmark.page.artefacts.ARTEFACTS`.

    Returns:
        The files.

    Raises:
        StoreError: the folder cannot be written.
    """
    whole, splits = sections(facts, rows)
    artefact, files = ARTEFACTS[name], dict[str, bytes]()
    for section in [whole] if artefact.of_study else splits:
        shown(artefact.make(section), facts.study, files)
    with store.writing(study_dir, "--reports"):
        for path, content in files.items():
            (study_dir / path).parent.mkdir(parents=True, exist_ok=True)
            (study_dir / path).write_bytes(content)
    return [study_dir / path for path in files]


# ------------------------------------------------------------------------------------------------ the parts of the page


def shown(made: Sequence[Table | Listing | Plot], study: str, files: dict[str, bytes]) -> str:
    """HTML of some tables or figures; their files are added to ``files``."""
    figures = [figure_html(plot, files) for plot in made if isinstance(plot, Plot)]
    lines = ['<div class="figures">\n' + "\n".join(figures) + "\n</div>"] if figures else []
    for table in (one for one in made if not isinstance(one, Plot)):
        files[f"tables/{table.name}.csv"] = to_csv(table).encode()
        files[f"tables/{table.name}.md"] = to_markdown(table).encode()
        files[f"tables/{table.name}.tex"] = to_latex(table, study).encode()
        lines.append(to_html(table))
    return "\n".join(lines)


def figure_html(plot: Plot, files: dict[str, bytes]) -> str:
    """One figure, embedded."""
    content = plots.file_bytes(plot)
    files |= {f"figures/{plot.name}.{kind}": data for kind, data in content.items()}
    links = " · ".join(f'<a href="figures/{plot.name}.{kind}">{kind.upper()}</a>' for kind in content)
    image = base64.b64encode(content["png"]).decode()
    return (f'<figure id="{plot.name}"><img alt="{escape(plot.title)}" src="data:image/png;base64,{image}">\n'
            f"<figcaption>{escape(plot.caption)} {links}</figcaption></figure>")


def summary(whole: Section, splits: Sequence[Section], best: Sequence[str]) -> list[str]:
    """What was measured, the statements, the best of each split, and the conditions."""
    facts, scores = whole.facts, whole.rows.scores
    ok = scores[scores["status"] == "ok"]
    bands = " and ".join(map(str, facts.msi_bands))
    words = (f"{len(facts.methods)} methods ({', '.join(facts.methods)}) with {bands} multispectral bands "
             f"on {len(splits)} splits: {len(ok)} measured rows of {ok['image'].nunique()} images. "
             "Each split has its own tables and curves; numbers of different splits are never averaged.")
    lines = [f"<p>{escape(words)}</p>"]
    if facts.statements:
        lines.append('<ul class="labels">' + "".join(f"<li>{escape(one)}</li>" for one in facts.statements) + "</ul>")
    if best:
        found = "".join(f"<li>{escape(line)}</li>" for line in [*best, *facts.unranked])
        lines.append(f"<h4>Best on clean scenes</h4>\n<ul>{found}</ul>")
    elif facts.unranked:
        lines.append(f"<p>{escape(' '.join(facts.unranked))}</p>")
    jobs = ", ".join(f"{len(entries)} {kind}" for kind, _, entries in not_in_order(facts))
    conditions = "".join(f"<dt>{escape(name)}</dt><dd>{escape(what)}</dd>" for name, what in
                         [*facts.conditions, ("Jobs", jobs)] if what)
    return [*lines, f"<h4>Conditions</h4>\n<dl>{conditions}</dl>"]


def best_lines(section: Section, table: Table) -> list[str]:
    """One sentence an MSI setting and kind of method: which leads in PSNR and in SAM; of accuracy tables alone."""
    if table.name != f"{section.slug}-accuracy":
        return []
    lines, place = [], ranks(table)
    for msi_bands in section.facts.msi_bands:
        for kind in KINDS:
            words = []
            for j, column in enumerate(table.columns):
                leaders = [row for i, row in enumerate(table.rows)
                           if (row.msi_bands, row.kind) == (msi_bands, kind) and place.get((i, j)) == 1]
                if leaders and column.key in ("psnr_db", "sam_deg"):
                    names = " and ".join(row.method for row in leaders)
                    words.append(f"{column.label} {names} ({text_of(leaders[0].cells[j], column)} {column.unit})")
            lines += [f"{section.title}, {msi_bands} MSI bands, {kind}: {', '.join(words)}."] if words else []
    return lines


def navigation(contents: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]) -> list[str]:
    """The table of contents."""
    items = [f'<li><a href="#{anchor}">{escape(title)}</a><ul>'
             + "".join(f'<li><a href="#{part}">{escape(heading)}</a></li>' for part, heading in links) + "</ul></li>"
             for anchor, title, links in contents]
    last = '<li><a href="#jobs">Failed, stale and missing</a></li>'
    return ["<nav>\n<h4>Contents</h4>\n<ul>", *items, last, "</ul>\n</nav>"]


def not_in_order(facts: Facts) -> list[tuple[str, str, tuple[str, ...]]]:
    """``(kind, heading, jobs)`` of those that failed, cannot be read, are stale or missing."""
    return [("failed", "Failed jobs", facts.failed), ("damaged", "Damaged jobs (files cannot be read)", facts.damaged),
            ("stale", "Stale jobs (code has changed)", facts.stale), ("missing", "Missing jobs (not run yet)", facts.missing)]


def ending(whole: Section) -> list[str]:
    """The jobs that are not in order, and rows that no table of this page shows."""
    lines = ['<h2 id="jobs">Failed, stale and missing</h2>']
    for _, heading, entries in not_in_order(whole.facts):
        lines.append(f"<h4>{heading} ({len(entries)})</h4>")
        lines.append("<ul>" + "".join(f"<li><code>{escape(one)}</code></li>" for one in entries) + "</ul>"
                     if entries else "<p>None.</p>")
    other = whole.rows.scores[~whole.rows.scores["scenario"].isin(["clean", "noise"])]
    if len(other):
        counts = ", ".join(f"{name} ({n})" for name, n in other.groupby("scenario").size().items())
        lines.append(f"<p>Rows of scenarios that no table here shows: {escape(counts)}.</p>")
    return lines
