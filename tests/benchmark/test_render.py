"""The page: self-contained, complete, honest about holes, and the same bytes for the same rows."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from test_plots import curve
from test_tables import cost, row

from benchmark.page import render as report

META = {
    "study": "tiny", "title": "Tiny <study>", "labels": ["Quick profile: not comparable with the papers"],
    "protocols": {"p1": {"name": "paper", "words": "Gaussian PSF, decimation by 4"}},
    "expected": {"methods": ["bicubic", "gsa"], "msi_bands": [4],
                 "scenarios": [("clean", "none", float("inf")), ("noise", "both", 30.0)],
                 "splits": [("made", "test", "Scenes kept apart."), ("made", "test-other-flight")]},
    "versions": {"torch": "2.13"},
    "jobs": {"failed": [{"job": "ab12", "why": "LinAlgError: singular"}], "missing": ["score gsa 30 dB"]},
}
ROWS = [row("bicubic", 20.0), row("bicubic", 18.0, target="both", snr=30.0), row("gsa", 30.0),
        row("gsa", 25.0, split="test-other-flight"), {**row("gsa", 9.0), "scenario": "shift-1"}]


COSTS, CURVES = [cost("gsa")], curve("loss", [2.0, 1.0], method="gsa")


def render(path, rows=ROWS, costs=COSTS, curves=CURVES, meta=META):
    return report.render(path, pd.DataFrame(rows), pd.DataFrame(costs), pd.DataFrame(curves), *[pd.DataFrame()] * 2, {},
                         meta)


class Page(HTMLParser):
    """Collects the links, the ids, and the tags that are left open."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.open, self.texts, self.kind = [], [], [], {}, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found[name] for name in ("src", "href") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.kind = found.get("class", tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.kind, []).append(data.strip())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("report") / "tiny"
    assert render(place) == place / "index.html"
    return place


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "index.html").read_text(encoding="utf-8")


def test_page_is_self_contained_and_its_links_lead_somewhere(folder, page):
    found = Page(page)
    assert found.open == []
    assert len(set(found.ids)) == len(found.ids)
    for link in found.links:
        assert link.startswith("data:image/png;base64,") or link[0] == "#" or (folder / link).is_file(), link
    assert {link[1:] for link in found.links if link[0] == "#"} <= set(found.ids)
    assert not re.search(r"https?://|url\(|@import|<script|<link", page)
    assert "<title>Tiny &lt;study&gt;</title>" in page


def test_every_caption_tells_n_protocol_device_and_label(page):
    found = Page(page).texts
    captions = [text for text in [*found["caption"], *found["figcaption"]] if len(text) > 5]
    assert len(captions) >= 2 * (2 + 3 + 2) + 1
    for text in captions:
        assert "rotocol paper p1" in text
        assert "Quick profile: not comparable with the papers." in text
        assert ("n = 1 images, seeds 0;" in text and "measured on cpu" in text) or "runs: gsa 1" in text


def test_sections_by_split_holes_and_lists(page):
    assert page.index("Split made / test<") < page.index("Split made / test-other-flight<") < page.index("Whole study<")
    assert "Scenes kept apart." in page
    assert '<td class=hole>—<sup><a href="#made-test-noise-both-psnr-' in page
    assert "no row: not measured yet" in page
    assert "ab12: LinAlgError: singular" in page
    assert "score gsa 30 dB" in page
    assert "Stale jobs (code has changed) (0)" in page
    assert "Rows of scenarios that no table here shows: shift-1 (1)." in page
    assert "made / test, 4 MSI bands: PSNR gsa (30.00 dB)" in page


def test_files_beside_the_page(folder):
    names = sorted(path.name for path in (folder / "tables").iterdir())
    assert [sum(name.endswith(kind) for name in names) for kind in (".csv", ".md", ".tex")] == [2 * 5] * 3
    text = (folder / "tables" / "made-test-noise-both-psnr.csv").read_text()
    assert text.splitlines()[1] == "4,bicubic,20.0,,18.0,,19.0,"
    assert len(list((folder / "figures").glob("*.png"))) == len(list((folder / "figures").glob("*.pdf"))) == 5
    for path in (folder / "tables").glob("*.tex"):
        bare = re.sub(r"\\[{}]", "", path.read_text())
        assert bare.count("{") == bare.count("}")


def test_same_rows_in_another_order_give_the_same_bytes_and_old_files_go(folder, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "of-an-earlier-report.png").write_text("old")
    (tmp_path / "figures" / "notes.txt").write_text("mine")
    render(tmp_path, rows=ROWS[::-1])
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert again.pop((tmp_path / "figures" / "notes.txt").relative_to(tmp_path)) == b"mine"
    assert again == files


@pytest.mark.parametrize("meta", [{}, META])
def test_nothing_measured_still_renders(tmp_path, meta):
    page = render(tmp_path, rows=(), costs=(), curves=(), meta=meta).read_text(encoding="utf-8")
    assert "0 measured rows" in page
    assert ("no row: not measured yet" in page) == bool(meta)
