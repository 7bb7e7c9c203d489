"""Every LaTeX table of a page compiles as a paper would include it."""

import re
import shutil
import subprocess
from dataclasses import replace

import pandas as pd
import pytest

from benchmark.page import render as report
from benchmark.page.section import Rows
from tests.benchmark.test_render import COSTS, CURVES, FACTS, ROWS
from tests.benchmark.test_tables import cost, counts, row, timed

pytestmark = pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here: install texlive-latex-recommended")

WORDS = "50 % of ± 1 & more_so, 96×96, 10 µm, σ ≤ 3 → λ ≥ 2 ≈ −1 — ‘quoted’, Aiazzi é"
STRANGE = "gsa@depths=(1,2),mode=a|b_<\"&%$~^{}#\\"


def test_every_table_compiles(tmp_path):
    rows = [*ROWS, row(STRANGE, 31.0), row(STRANGE, 20.0, target="both", snr=30.0, stale="protocol_x")]
    held = replace(FACTS, methods=(*FACTS.methods, STRANGE), seeds={**FACTS.seeds, STRANGE: (0,)}, marks={"gsa": "blind"},
                   statements=(*FACTS.statements, WORDS))
    costs = [*COSTS, cost("gsa", device="cuda (A_100)"), cost(STRANGE, uncounted_ops="svd_lowrank")]
    held_rows = Rows(pd.DataFrame(rows), pd.DataFrame(costs), pd.DataFrame(CURVES),
                     pd.DataFrame([counts("gsa", 1e6, 2e6, reason="10 % counted twice")]),
                     pd.DataFrame([timed("gsa", "GSA_x")]))
    report.render(tmp_path / "tiny", held, held_rows)
    tables = sorted((tmp_path / "tiny/tables").glob("*.tex"))
    assert len(tables) == 2 * 4 + 6
    needed = {line for path in tables for line in re.findall(r"% needs (.*)", path.read_text())}
    columns = {"claims.tex": r"\onecolumn"}  # several pages long
    body = "\n".join(rf"{columns.get(path.name, '')}\input{{{path}}}\clearpage" for path in tables)
    (tmp_path / "paper.tex").write_text("\n".join([r"\documentclass[twocolumn]{article}", *needed, r"\begin{document}", body,
                                                  r"\end{document}"]))
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=tmp_path,
                          capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10000
    missing = re.findall(r"Missing character.*|Undefined control sequence.*", (tmp_path / "paper.log").read_text("latin-1"))
    assert not missing
