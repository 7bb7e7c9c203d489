"""A study's rows into its page: ``index.html`` and beside it each table (CSV, Markdown, LaTeX) and figure (PNG, PDF).

First the leaderboard, then figures, tables, the card of each method and the conditions. Which figures and tables, and in which
order: :mod:`benchmark.page.artefacts`.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from benchmark import store
from benchmark.page import plots
from benchmark.page.artefacts import ARTEFACTS
from benchmark.page.cards import cards_html
from benchmark.page.curves import curves_html, definitions
from benchmark.page.formats import legend, to_csv, to_html, to_latex, to_markdown
from benchmark.page.index import framed
from benchmark.page.leaderboard import board_html, leaderboard
from benchmark.page.plots import Plot
from benchmark.page.section import Facts, Rows, Section, protocol_words, sections
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
    board = leaderboard(whole, splits)
    files |= table_files(board, facts.study)
    made = [(each.chapter, section, one) for each in ARTEFACTS.values() if not each.page
            for section in ([whole] if each.of_study else splits) for one in each.make(section)]
    figures = [(chapter, section, one) for chapter, section, one in made if isinstance(one, Plot)]
    tables = [(chapter, section, one) for chapter, section, one in made if not isinstance(one, Plot)]
    drawn: dict[str, list[tuple[str, str]]] = {}
    for _, section, plot in figures:
        for method in plot.curves.cells if plot.curves else ():
            drawn.setdefault(method, []).append((plot.name, f"{section.name}: {plot.caption.rstrip('.')}"))
    parts = [("leaderboard", "Leaderboard", board_html(board, whole, splits)),
             ("figures", "Figures", chapters("figures", figures, whole, files)),
             ("tables", "Tables", chapters("tables", tables, whole, files)),
             ("methods", "Methods", cards_html(whole, splits, drawn)),
             ("conditions", "Conditions", conditions(whole, splits, board)),
             ("jobs", "Jobs", jobs(whole))]
    page = framed(facts.title, measured_words(whole, splits), body([definitions(), header(whole, splits)], parts))
    with store.writing(study_dir, "--reports"):
        write(study_dir, files, page)
    return study_dir / "index.html"


def render_apart(page_dir: Path, facts: Facts, rows: Rows, sentence: str) -> Path:
    """Write a page of rows that are of no study: the artefacts whose ``page`` is the name of its folder, and conditions.

    Args:
        page_dir: ``reports/<page>``.
        facts: title, methods and conditions.
        rows: what its artefacts are made of.
        sentence: what it shows.

    Returns:
        The path of ``index.html``.

    Raises:
        StoreError: the folder cannot be written.
    """
    with store.writing(page_dir, "--reports"):
        page_dir.mkdir(parents=True, exist_ok=True)
    whole, files = Section(facts, rows), dict[str, bytes]()
    made = [(each.chapter, whole, one) for each in ARTEFACTS.values() if each.page == page_dir.name for one in each.make(whole)]
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>" for name, words in facts.conditions)
    parts = [("figures", "Figures", chapters("figures", [each for each in made if isinstance(each[2], Plot)], whole, files)),
             ("tables", "Tables", chapters("tables", [each for each in made if not isinstance(each[2], Plot)], whole, files)),
             ("conditions", "Conditions", f"<dl>{listed}</dl>")]
    head = f'<header><h1>{escape(facts.title)}</h1>\n<p class="lede">{escape(sentence)}</p></header>'
    with store.writing(page_dir, "--reports"):
        write(page_dir, files, framed(facts.title, sentence, body([head], parts)))
    return page_dir / "index.html"


def body(head: Sequence[str], parts: Sequence[tuple[str, str, str]]) -> str:
    """The head of a page, a bar that leads to its parts, and those that hold anything."""
    parts = [part for part in parts if part[2]]
    return "\n".join([*head, navigation(parts),
                      *(f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{title}</h2>\n{content}\n</section>'
                        for anchor, title, content in parts)])


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
        for one in artefact.make(section):
            files |= figure_files(one) if isinstance(one, Plot) else table_files(one, facts.study)
    with store.writing(study_dir, "--reports"):
        for path, content in files.items():
            (study_dir / path).parent.mkdir(parents=True, exist_ok=True)
            (study_dir / path).write_bytes(content)
    return [study_dir / path for path in files]


# ------------------------------------------------------------------------------------------------ the parts of the page


def table_files(table: Table | Listing, study: str) -> dict[str, bytes]:
    """A table in each of its forms."""
    return {f"tables/{table.name}.csv": to_csv(table).encode(), f"tables/{table.name}.md": to_markdown(table).encode(),
            f"tables/{table.name}.tex": to_latex(table, study).encode()}


def figure_files(plot: Plot) -> dict[str, bytes]:
    """A figure in each of its forms."""
    return {f"figures/{plot.name}.{kind}": data for kind, data in plots.file_bytes(plot).items()}


def chapters(part: str, made: Sequence[tuple[str, Section, Plot | Table | Listing]], whole: Section,
             files: dict[str, bytes]) -> str:
    """Figures or tables by chapter and split; their files are added to ``files``."""
    lines = []
    for i, heading in enumerate(dict.fromkeys(chapter for chapter, _, _ in made)):
        lines.append(f'<h3 id="{part}-{i}">{escape(heading)}</h3>')
        mine = [(section, one) for chapter, section, one in made if chapter == heading]
        for section in dict.fromkeys(section for section, _ in mine):
            if section.split:
                lines.append(f'<p class="split"><strong>{escape(section.title)}</strong> {escape(section.split.words)}</p>')
            shown = [one for where, one in mine if where is section]
            pictures = [figure_html(one, files) for one in shown if isinstance(one, Plot)]
            lines += ['<div class="figures">', *pictures, "</div>"] if pictures else []
            for table in (one for one in shown if not isinstance(one, Plot)):
                files |= table_files(table, whole.facts.study)
                lines.append(to_html(table))
    return "\n".join(lines)


def figure_html(plot: Plot, files: dict[str, bytes]) -> str:
    """One figure: its curves drawn by the page, or its picture embedded."""
    own = figure_files(plot)
    files |= own
    links = " · ".join(f'<a href="{path}">{path.rpartition(".")[2].upper()}</a>' for path in own)
    if plot.curves and plot.curves.cells:
        shown = curves_html(plot.curves, plot.title, plot.alt or plot.title)
    else:
        image = base64.b64encode(own[f"figures/{plot.name}.png"]).decode()
        shown = f'<img alt="{escape(plot.alt or plot.title)}" src="data:image/png;base64,{image}">'
    notes = f"<details><summary>Notes</summary><p>{escape(plot.notes)}</p></details>" if plot.notes else ""
    return (f'<figure id="{plot.name}">{shown}\n<figcaption>{escape(plot.caption)} '
            f'<a href="#conditions">Conditions</a> · {links}{notes}</figcaption></figure>')


def measured_words(whole: Section, splits: Sequence[Section]) -> str:
    """What was measured, in one sentence."""
    facts, scores = whole.facts, whole.rows.scores
    ok = scores[scores["status"] == "ok"]
    noisy = {each.snr_db for each in facts.scenarios if each.name == "noise"}
    others = sum(each.name not in ("clean", "noise") for each in facts.scenarios)
    told = [f"at {len(noisy)} noise level{'s' if len(noisy) > 1 else ''}"] if noisy else []
    told += [f"in {others} other scenario{'s' if others > 1 else ''}"] if others else []
    levels = f", clean and {' and '.join(told)}" if told else ""
    alone = {section.split.alone for section in splits if section.split}
    ways = len({section.split.view for section in splits if section.split})
    return (f"{len(facts.methods)} methods with {' and '.join(map(str, facts.msi_bands))} multispectral bands on "
            f"{ok['image'].nunique()} held-out images in {len(alone)} split{'s' if len(alone) != 1 else ''}"
            f"{f' seen in {ways} ways' if ways > 1 else ''}{levels}: {len(ok)} measured rows.")


def trust_words(whole: Section, splits: Sequence[Section]) -> str:
    """How much to trust the order of methods: by how many images and seeds, and what is not in order."""
    facts = whole.facts
    images = " and ".join(dict.fromkeys(f"{len(section.split.images)} ({section.split.alone})" for section in splits
                                        if section.split))
    seeds = [len(facts.seeds.get(method, ())) for method, card in facts.cards.items() if card.recipes]
    trained = f"; networks were trained {'once' if max(seeds) == 1 else f'{max(seeds)} times'}" if seeds else ""
    words = [f"Each number is a mean over the images of one split, {images}{trained}." if images else ""]
    if any(section.split and len(section.split.images) < 10 for section in splits):
        words.append("So few images do not settle the order of methods that are close.")
    counts = [f"{len(entries)} {kind}" for kind, _, entries in not_in_order(facts)]
    if any(entries for _, _, entries in not_in_order(facts)):
        words.append(f"Jobs not in order: {', '.join(counts)}.")
    return " ".join(filter(None, words))


def header(whole: Section, splits: Sequence[Section]) -> str:
    """Title, what was measured, how far to trust it, and what the study says of itself."""
    facts = whole.facts
    labels = "".join(f"<li>{escape(one)}.</li>" for one in (label.rstrip(".") for label in facts.labels))
    return "\n".join(part for part in [
        f"<header><h1>{escape(facts.title)}</h1>", f'<p class="lede">{escape(measured_words(whole, splits))}</p>',
        f'<p class="trust">{escape(trust_words(whole, splits))}</p>',
        f'<ul class="labels">{labels}</ul>' if labels else "", "</header>"] if part)


def navigation(parts: Sequence[tuple[str, str, str]]) -> str:
    """The parts of the page, in a bar that stays."""
    items = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in parts)
    return f'<nav aria-label="Parts of this page"><div>{items}<a href="../index.html">All studies</a></div></nav>'


def conditions(whole: Section, splits: Sequence[Section], board: Table) -> str:
    """Under which conditions all numbers of the page stand, once."""
    facts = whole.facts
    said = [*((section.title, section.conditions().replace(f" {protocol_words(facts)};", "")) for section in splits),
            ("Protocol", protocol_words(facts)), ("Marks", legend(replace(board, unranked=())))]
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>" for name, words in [*said, *facts.conditions] if words)
    others = [one for one in facts.statements if one not in facts.labels]
    statements = "".join(f"<li>{escape(one)}</li>" for one in others)
    return f"<dl>{listed}</dl>" + (f"<h3>Training and settings</h3><ul>{statements}</ul>" if statements else "")


def not_in_order(facts: Facts) -> list[tuple[str, str, tuple[str, ...]]]:
    """``(kind, heading, jobs)`` of those that failed, cannot be read, are stale or missing."""
    return [("failed", "Failed jobs", facts.failed), ("damaged", "Damaged jobs (files cannot be read)", facts.damaged),
            ("stale", "Stale jobs (code or parameters have changed)", facts.stale),
            ("missing", "Missing jobs (not run yet)", facts.missing)]


def jobs(whole: Section) -> str:
    """The jobs that are not in order, and rows that no table of this page shows."""
    lines = []
    for _, heading, entries in not_in_order(whole.facts):
        lines.append(f"<h3>{heading} ({len(entries)})</h3>")
        lines.append("<ul>" + "".join(f"<li><code>{escape(one)}</code></li>" for one in entries) + "</ul>"
                     if entries else "<p>None.</p>")
    other = whole.rows.scores[~whole.rows.scores["scenario"].isin([each.name for each in whole.facts.scenarios])]
    if len(other):
        counts = ", ".join(f"{name} ({n})" for name, n in other.groupby("scenario").size().items())
        lines.append(f"<p>Rows of scenarios that no table here shows: {escape(counts)}.</p>")
    return "\n".join(lines)
