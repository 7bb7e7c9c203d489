"""A study's rows into its page: ``index.html`` and beside it each table (CSV, Markdown, LaTeX) and figure (PNG, PDF).

To add a table or a figure, write a function of a :class:`~benchmark.page.tables.Section` in ``tables`` or ``plots`` and name
it in :data:`SPLIT_PARTS` (once a split) or :data:`STUDY_PARTS` (once a study).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from benchmark.page import plots, tables
from benchmark.page.formats import ranks, text_of, to_csv, to_html, to_latex, to_markdown
from benchmark.page.plots import Plot
from benchmark.page.tables import Section, Table

SPLIT_PARTS: tuple[tuple[str, tuple[Callable[[Section], Sequence[Table | Plot]], ...]], ...] = (
    ("Quality and cost", (tables.accuracy, tables.all_metrics)),
    ("Robustness to noise", (plots.noise_curves, tables.robustness)),
)
STUDY_PARTS: tuple[tuple[str, tuple[Callable[[Section], Sequence[Table | Plot]], ...]], ...] = (
    ("Training", (plots.training,)),
    ("Fidelity to the releases", (tables.fidelity, tables.recorded)),
)
JOBS = {"failed": "Failed jobs", "stale": "Stale jobs (code has changed)", "missing": "Missing jobs (not run yet)"}


def render(study_dir: Path, scores: pd.DataFrame, costs: pd.DataFrame, curves: pd.DataFrame,
           fidelity: pd.DataFrame, recorded: pd.DataFrame, published: Mapping[str, Mapping[int, Mapping[str, float]]],
           meta: Mapping[str, Any]) -> Path:
    """Write the report of one study; the same arguments give the same bytes.

    Args:
        study_dir: ``reports/<study>``; tables and figures of an earlier report in it that no longer belong are removed.
        scores: one line an image.
        costs: one line a method, MSI setting and device.
        curves: tidy training log.
        fidelity: one line a network, of the command ``fidelity``; those of other methods are left out.
        recorded: one line a training-free method and recorded case, of the same command.
        published: method -> MSI bands -> what its paper prints.
        meta: ``study``, ``title``, ``summary``, ``labels``, ``devices``, ``versions`` (name -> words), ``protocols``
            (digest -> ``name``, ``words``), ``expected`` (``methods``, ``msi_bands``, ``scenarios`` as (scenario,
            noise_target, snr_db), ``splits`` as (dataset, split[, words])), ``jobs`` (``failed``, ``stale``,
            ``missing``: a sentence or a mapping each), ``marks`` (method -> words behind its name); all optional.

    Returns:
        The path of ``index.html``.
    """
    whole, splits = tables.sections(scores, costs, curves, fidelity, recorded, published, meta)
    files: dict[str, bytes] = {}
    contents, chapters = [], []
    for section, title, parts in [*((one, f"Split {one.title}", SPLIT_PARTS) for one in splits),
                                  (whole, "Whole study", STUDY_PARTS)]:
        words = [entry[2] for entry in meta.get("expected", {}).get("splits", [])
                 if tuple(entry[:2]) == (section.dataset, section.split) and len(entry) > 2]
        chapters += [f'<h2 id="{section.slug}">{escape(title)}</h2>', *(f"<p>{escape(word)}</p>" for word in words)]
        links = []
        for i, (heading, makers) in enumerate(parts):
            made = [one for make in makers for one in make(section)]
            if made:  # what is expected and not measured gives a table of holes: nothing is what this study does not ask
                links.append((f"{section.slug}-part{i}", heading))
                chapters += [f'<h3 id="{links[-1][0]}">{escape(heading)}</h3>', shown(made, meta.get("study", "study"), files)]
        contents.append((section.slug, title, links))
    body = [*summary(whole, splits), *navigation(contents), *chapters, *ending(whole)]
    title = meta.get("title") or f"Study {meta.get('study', '')}"
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
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
    figures = [figure_html(plot, files) for plot in made if isinstance(plot, Plot)]
    lines = ['<div class="figures">\n' + "\n".join(figures) + "\n</div>"] if figures else []
    for table in (one for one in made if isinstance(one, Table)):
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
