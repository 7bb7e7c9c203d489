"""How long a page takes: ``python -m pytest -m speed --benchmark-enable tests/speed``."""

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmark"))
from benchmark.page import render as report
from benchmark.page.section import Rows
from tests.benchmark.test_tables import facts, row  # the rows that the tests of tables make

METHODS, SNR_DB, IMAGES = 50, (25, 30, 35, 40), 500


@pytest.mark.speed
def test_a_hundred_thousand_rows(benchmark, tmp_path):
    rows = [row(f"m{m}", 20.0 + m, image=f"i{i}", snr=float(snr), target="both")
            for m in range(METHODS) for snr in SNR_DB for i in range(IMAGES)]
    assert len(rows) == 100_000
    held, frame = replace(facts(rows), title="Many"), pd.DataFrame(rows)
    page = benchmark.pedantic(report.render, args=(tmp_path / "many", held, Rows(frame)), rounds=1)
    assert page.stat().st_size < 5e6
    assert benchmark.disabled or benchmark.stats.stats.max < 13  # seconds, on two cores
