"""The committed pages, tables and figures are those that this code renders from the committed rows."""

import re
import zlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import measurements
from benchmark.page import plots
from benchmark.page.pages import APART, render_page, render_study
from benchmark.plan import plan
from benchmark.studies import STUDIES

ROOT = Path(__file__).parents[2]
COMMITTED = [name for name in (*STUDIES, *APART) if (ROOT / "reports" / name / "index.html").exists()]
# a quarter of the time is PDF, of the same drawing
IN_PDF = ("anchored", "leak", "distillation-steps", "estimators", "realism")
DRAWS = ("matplotlib", "seaborn", "numpy", "pandas")  # another version of one of these may draw another picture


@cache
def other_versions():
    """The packages that draw and are not those of constraints.txt."""
    held = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    return [f"{name} {version(name)}, not {held[name]}" for name in DRAWS if version(name) != held[name]]


def files(folder, *kinds):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.suffix[1:] in kinds}


def words(path):
    """The bytes of a text file, without the pictures in it: packed otherwise by another zlib, they are compared by pixel.

    Nor with links to PDFs, which are drawn here for some pages alone.
    """
    return re.sub(rb'src="data:image/png;base64,[^"]*"| \xc2\xb7 <a href="[^"]*\.pdf">PDF</a>', b"", path.read_bytes())


def drawing(path):
    """The unpacked streams of a PDF: the packed ones are another zlib's elsewhere."""
    return [zlib.decompress(stream) for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", path.read_bytes(), re.DOTALL)]


@pytest.mark.parametrize("name", COMMITTED)
def test_page_is_what_the_rows_give(name, tmp_path, monkeypatch):  # one test a page, so that no page is rendered twice
    kinds = ("png", "pdf") if name in IN_PDF else ("png",)
    monkeypatch.setattr(plots, "KINDS", kinds)
    if name in APART:  # of no study
        render_page(name, ROOT / "results", tmp_path)
    else:
        chosen = STUDIES[name]
        render_study(chosen, plan(chosen, "cpu"), ROOT / "results", tmp_path)
    held, made = ROOT / "reports" / name, tmp_path / name
    committed, fresh = (files(folder, "html", "csv", "md", "tex") for folder in (held, made))
    # Pictures are made of estimates, 22 MB each, which no clone has: there the page and they are left out.
    without = name in STUDIES and STUDIES[name].pictures and not measurements.estimates(ROOT / "results",
                                                                                        plan(STUDIES[name], "cpu"))
    if without:
        fresh.pop("index.html")
        committed = {path: file for path, file in committed.items() if path in fresh}
    assert sorted(committed) == sorted(fresh)
    differ = [path for path in fresh if words(fresh[path]) != words(committed[path])]
    assert not differ, f"render {name} again: {len(differ)} of {len(fresh)} files differ, such as {differ[:3]}"
    if other_versions():
        pytest.skip(f"figures are drawn by other packages than the committed ones: {'; '.join(other_versions())}")
    committed, fresh = (files(folder, *kinds) for folder in (held, made))
    committed = {path: file for path, file in committed.items() if path in fresh} if without else committed
    assert sorted(committed) == sorted(fresh)
    differ = [path for path in fresh if not same(committed[path], fresh[path])]
    assert not differ, f"render {name} again: {len(differ)} of {len(fresh)} figures differ, such as {differ[:3]}"


def same(one, other):
    """The same picture: bytes first, which is cheap."""
    if one.read_bytes() == other.read_bytes():
        return True
    if one.suffix == ".pdf":
        return drawing(one) == drawing(other)
    return np.array_equal(*(np.asarray(Image.open(path).convert("RGBA")) for path in (one, other)))
