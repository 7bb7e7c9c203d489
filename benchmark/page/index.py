"""The index over the pages of a reports folder: made of the pages there are, whoever rendered them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from string import Template

from benchmark import store

TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
SENTENCE = re.compile(r'<meta name="description" content="([^"]*)">')


@dataclass(frozen=True)
class Entry:
    """One page: the name of its folder, its title, and what it says of itself in one sentence."""

    study: str
    title: str
    sentence: str = ""


def framed(title: str, sentence: str, body: str) -> bytes:
    """A whole page with its styles and script, which fetch nothing; ``title`` and ``sentence`` are plain text."""
    parts = {kind: Path(__file__).with_name(f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
    return Template(parts["html"]).substitute(title=escape(title), sentence=escape(sentence), style=parts["css"],
                                              script=parts["js"], body=body).encode()


def entries(reports: Path) -> list[Entry]:
    """The pages of a reports folder, by the names of their folders."""
    found = []
    for page in sorted(reports.glob("*/index.html")):
        text = page.read_text(encoding="utf-8", errors="replace")
        title, sentence = TITLE.search(text), SENTENCE.search(text)
        found.append(Entry(page.parent.name, unescape(title[1]) if title else page.parent.name,
                           unescape(sentence[1]) if sentence else ""))
    return found


def write_index(reports: Path) -> Path:
    """Write ``reports/index.html``; the same pages give the same bytes.

    Raises:
        StoreError: the folder cannot be written.
    """
    sentence = "Hyperspectral and multispectral image fusion: every study that was rendered, each from its raw rows alone."
    items = "\n".join(f'<li><a href="{escape(each.study)}/index.html">{escape(each.title)}</a>'
                      f"<p>{escape(each.sentence)}</p></li>" for each in entries(reports))
    together = '\n<p><a href="findings.md">Findings</a>: what all of them say together.</p>' \
        if (reports / "findings.md").is_file() else ""
    body = (f'<header><h1>Studies</h1>\n<p class="lede">{escape(sentence)}</p>{together}</header>\n'
            f'<ul class="studies">\n{items}\n</ul>')
    with store.writing(reports, "--reports"):
        path = reports / "index.html"
        path.write_bytes(framed("Studies", sentence, body))
    return path
