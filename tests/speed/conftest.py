"""``make speed``: every figure a ratio to a yardstick that is timed in the same run, one call of each in turn.

The rows go to ``results/speed.csv`` (``--speed-csv FILE``), one a pair. A suite asserts that both compute the same, never
how long it takes: whether a goal was reached is for the table to say, on whatever machine it was measured.
"""

import csv
import statistics
import time
from pathlib import Path

import pytest
import torch

from benchmark import rows
from benchmark.machine import device_name

KEY = pytest.StashKey[list]()


def pytest_addoption(parser):
    parser.addoption("--speed-csv", type=Path, default=Path("results/speed.csv"), help="receives the rows of paired timings")
    parser.addoption("--speed-curves", action="store_true", help="train the pair in three ways, too: the best part of an hour")
    parser.addoption("--speed-trained", type=Path, help="results folder of trainings on which reduced precision is judged")


def pytest_configure(config):
    config.stash[KEY] = []


@pytest.fixture
def paired(benchmark, pytestconfig):
    """Time a function and its yardstick in turn, and keep the row.

    ``paired(yardstick, ours, rounds=5, what=..., subject=..., variant=..., size=..., goal=...)``; further words are columns.
    """

    def measure(yardstick, ours, *, rounds, what, subject, variant, size, goal="", **words):
        yardstick(), ours()  # both warm
        theirs = []

        def before():
            start = time.perf_counter()
            yardstick()
            theirs.append(time.perf_counter() - start)

        benchmark.pedantic(ours, setup=before, rounds=rounds)
        own = benchmark.stats.stats.data if benchmark.stats else [float("nan")] * len(theirs)
        ratios = sorted(slow / quick for slow, quick in zip(theirs, own))
        found = {"what": what, "subject": subject, "variant": variant, "size": size,
                 "yardstick_seconds": statistics.median(theirs), "seconds": statistics.median(own),
                 "ratio": statistics.median(ratios), "ratio_low": ratios[0], "ratio_high": ratios[-1], "rounds": rounds,
                 "goal": goal, "difference": "", "loss_db": "", "compile_seconds": "", "note": "",
                 "device": device_name(torch.device("cpu")), "threads": torch.get_num_threads(), "torch": torch.__version__}
        assert words.keys() <= found.keys(), f"no such column: {sorted(words.keys() - found.keys())}"
        pytestconfig.stash[KEY].append(found | words)
        print(f"{what} {subject} {variant}: {found['ratio']:.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f}), goal {goal or 'none'}")

    return measure


def pytest_sessionfinish(session):
    """Replace the rows measured now and keep those of other pairs."""
    new = session.config.stash[KEY]
    if not new or not session.config.getoption("benchmark_enable"):
        return
    file = session.config.getoption("speed_csv")

    def name(row):
        return tuple(str(row[column]) for column in ("what", "subject", "variant", "size"))

    held = []
    if file.exists():
        with file.open(newline="", encoding="utf-8") as lines:
            held = list(csv.DictReader(lines))
    measured = {name(row) for row in new}
    rows.write(file, [row for row in held if name(row) not in measured] + new)
