"""Imports flow one way: run_benchmark -> benchmark -> methods, datasets."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmark.page.artefacts import ARTEFACTS
from benchmark.page.statistics import needed

ROOT = Path(__file__).parents[1]
MAY = {
    "datasets": {"datasets"},
    "methods": {"methods"},
    "benchmark": {"benchmark", "methods", "datasets"},
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_no_arrow_points_the_other_way():
    seen = 0
    for package, allowed in MAY.items():
        for path in (ROOT / package).rglob("*.py"):
            wrong = set(imported(path)) & ({*MAY, "run_benchmark", "tests"} - allowed)
            assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"
            seen += 1
    assert seen > 20


def test_reports_never_load_a_model():
    for name in ("cards", "cells", "curves", "formats", "index", "leaderboard", "render", "tables", "training"):
        assert not set(imported(ROOT / "benchmark/page" / f"{name}.py")) & {"torch", "methods", "datasets"}
    assert not set(imported(ROOT / "benchmark/page/plots.py")) & {"torch", "datasets"}
    # of methods the names alone, since a method looks the same on every page
    assert re.findall(r"from methods.*", (ROOT / "benchmark/page/plots.py").read_text()) == ["from methods import available"]


@pytest.mark.parametrize("code", ["import methods", 'import run_benchmark; run_benchmark.main(["list"])',
                                  'import run_benchmark; run_benchmark.main(["run", "--dry-run", "--device", "cpu"])'])
def test_what_draws_and_what_trains_is_not_loaded_to_plan(code):
    heavy = ("fvcore", "lightning_fabric", "matplotlib", "pandas", "scipy.stats", "seaborn", "skimage")
    told = f"{code}; import sys; print('loaded:', [name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_every_artefact_names_a_function():
    for name, artefact in ARTEFACTS.items():
        module, _, function = artefact.function.partition(".")
        assert callable(getattr(import_module(f"benchmark.page.{module}"), function)), name
    assert f"with {needed(2)} images" in ARTEFACTS["ranks"].needs
