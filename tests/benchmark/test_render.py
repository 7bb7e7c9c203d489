"""The page: self-contained, complete, honest about holes, and the same bytes for the same rows."""

import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from benchmark.page import render as report
from benchmark.page.section import Rows, Split
from benchmark.protocol import CLEAN, noise
from benchmark.store import StoreError
from tests.benchmark.test_plots import curve
from tests.benchmark.test_tables import cost, facts, row

FACTS = replace(
    facts(), title="Tiny <study>", statements=("Quick profile: not comparable with the papers",), methods=("bicubic", "gsa"),
    msi_bands=(4,), seeds={"bicubic": (0,), "gsa": (0,)}, scenarios=(CLEAN, noise("both", 30.0)),
    kinds={"bicubic": "blind", "gsa": "blind"},
    labels=("Quick profile: not comparable with the papers",),
    splits=(Split("made", "test", ("a",), "Scenes kept apart."), Split("made", "test-other-flight", ("a",))),
    conditions=(("Protocol paper", "Gaussian PSF, decimation by 4"), ("Versions", "torch 2.13")),
    failed=("ab12: LinAlgError: singular",), damaged=("score gsa: job.json: cannot be read",), missing=("score gsa 30 dB",))
ROWS = [row("bicubic", 20.0), row("bicubic", 18.0, target="both", snr=30.0), row("gsa", 30.0),
        row("gsa", 25.0, split="test-other-flight"), {**row("gsa", 9.0), "scenario": "shift-1"}]
COSTS, CURVES = [cost("gsa")], curve("loss", [2.0, 1.0], method="gsa")


def render(path, rows=ROWS, costs=COSTS, curves=CURVES, facts=FACTS):
    return report.render(path, facts, Rows(pd.DataFrame(rows), pd.DataFrame(costs), pd.DataFrame(curves)))


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
        if tag not in ("meta", "img", "input"):
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
    for link in set(found.links) - {"../index.html"}:  # of the reports folder; everything of this study is here
        assert link.startswith("data:image/png;base64,") or link[0] == "#" or (folder / link).is_file(), link
    assert {link[1:] for link in found.links if link[0] == "#"} <= set(found.ids)
    bare = page.replace("http://www.w3.org/2000/svg", "")  # the name of a namespace: nothing is fetched
    assert not re.search(r"https?://|url\(|@import|<script src|<link|fetch\(|XMLHttp", bare)
    assert "<title>Tiny &lt;study&gt;</title>" in page


def test_nothing_is_embedded_twice_and_curves_are_no_pictures(folder, page):
    pictures = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    assert len(set(pictures)) == len(pictures) == 3  # the training losses, and time against PSNR of each split
    assert page.count('<div class="curves"') == len(list((folder / "figures").glob("*.png"))) - 3


def test_conditions_stand_once_and_in_full_in_the_files(folder, page):
    found = Page(page).texts
    text = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    for words in ("Quick profile: not comparable with the papers", "protocol paper p1", "Gaussian PSF, decimation by 4"):
        assert text.count(words) == 1, words
    assert text.count("n = 1 images, seeds 0; measured on cpu.") == 2  # once a split
    assert max(len(one) for one in found["caption"]) < 200
    for path in (folder / "tables").glob("made*.md"):
        told = path.read_text()
        assert "protocol paper p1" in told and "Quick profile: not comparable with the papers." in told
        assert "n = 1 images, seeds 0;" in told and "measured on cpu" in told


def test_parts_in_order_holes_and_lists(page):
    places = [page.index(f'<h2 id="{part}">') for part in ("leaderboard", "figures", "tables", "methods", "conditions", "jobs")]
    assert places == sorted(places)
    assert "Scenes kept apart." in page
    assert '<td class=hole>—<sup><a href="#made-test-table-2-' in page
    assert "no row: not asked for here" in page
    assert "ab12: LinAlgError: singular" in page
    assert "score gsa 30 dB" in page
    assert "Stale jobs (code or parameters have changed) (0)" in page
    assert "Rows of scenarios that no table here shows: shift-1 (1)." in page
    assert "score gsa: job.json: cannot be read" in page and "1 damaged" in page
    assert "2 methods with 4 multispectral bands on 1 held-out images in 2 splits, clean and at 1 noise level" in page
    assert "So few images do not settle the order" in page


def test_files_beside_the_page(folder):
    names = sorted(path.name for path in (folder / "tables").iterdir())
    assert [sum(name.endswith(kind) for name in names) for kind in (".csv", ".md", ".tex")] == [2 * 4 + 4] * 3
    text = (folder / "tables" / "made-test-table-2.csv").read_text()
    assert text.splitlines()[1].split(",")[:6] == ["4", "bicubic", "18.0", "", "2.0", ""]
    assert len(list((folder / "figures").glob("*.png"))) == len(list((folder / "figures").glob("*.pdf"))) == 7
    for path in (folder / "tables").glob("*.tex"):
        bare = re.sub(r"\\[{}]", "", path.read_text())
        assert bare.count("{") == bare.count("}")


@pytest.mark.pdf
def test_same_rows_in_another_order_give_the_same_bytes(folder, tmp_path):
    render(tmp_path, rows=ROWS[::-1])
    assert contents(tmp_path) == contents(folder)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_files_of_an_earlier_page_go(tmp_path):
    render(tmp_path)
    for name in ("figures/mine.png", "tables/mine.csv", "tables/made-test-mine.tex"):
        (tmp_path / name).write_text("mine")
    assert (tmp_path / "figures/training-losses-msi4.png").exists()
    render(tmp_path, curves=())
    there = contents(tmp_path)
    assert not [name for name in there if "training" in name]
    assert sum(content == b"mine" for content in there.values()) == 3
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_cannot_be_written_is_one_sentence_and_stays_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file/tiny", Path("/proc/x/tiny")):
        with pytest.raises(StoreError, match=r"cannot be written .* --reports"):
            render(place)
    render(tmp_path / "page")
    before = contents(tmp_path / "page")
    original, count = Path.write_bytes, []

    def full(path, data):
        count.append(path)
        if len(count) > 5:
            raise OSError(28, "No space left on device")
        return original(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match="No space left"):
        render(tmp_path / "page", rows=[{**one, "psnr_db": 1.0} for one in ROWS])
    assert contents(tmp_path / "page") == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="--reports"):
        render(tmp_path / "page")


@pytest.mark.parametrize("asked", [(), ("bicubic", "gsa")])
def test_nothing_measured_still_renders(tmp_path, asked):
    held = replace(FACTS, methods=asked)
    page = render(tmp_path, rows=(), costs=(), curves=(), facts=held).read_text(encoding="utf-8")
    assert "0 measured rows" in page
    assert ("no row: not asked for here" in page) == bool(asked)


def test_no_best_of_unequal_budgets(tmp_path):
    held = replace(FACTS, kinds={"bicubic": "blind"}, unranked=("Trained methods are not ranked, since ...",))
    page = render(tmp_path, facts=held).read_text(encoding="utf-8")
    assert page.count("Trained methods are not ranked") == 1
    assert "class=best" not in page
