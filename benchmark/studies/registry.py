"""Studies by name: those that come, and those of a user's file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from benchmark.plan import PlanError, Study
from methods.registry import near

STUDIES: dict[str, Study] = {}


def register(study: Study) -> Study:
    """Make a study available by its name.

    Raises:
        PlanError: the name is taken.
    """
    if study.name in STUDIES:
        raise PlanError(f"study '{study.name}' is registered twice; choose another name than {', '.join(STUDIES)}")
    STUDIES[study.name] = study
    return study


def load_file(path: Path) -> None:
    """Run a user's Python file, which registers methods, datasets, metrics and studies as the modules of this project do.

    It is imported under a name of its own, so that the code it holds counts in the digests of what it decides.

    Raises:
        PlanError: no such file, or it does not run.
    """
    path = path.expanduser().resolve()
    if not path.is_file():
        raise PlanError(f"--study-file {path}: no such file; give a Python file that registers methods, datasets or studies")
    name = f"study_file_{path.stem}"
    if sys.modules.get(name) is not None and getattr(sys.modules[name], "__file__", "") == str(path):
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PlanError(f"--study-file {path}: not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise PlanError(f"--study-file {path}: {type(error).__name__}: {error}") from error


def study(name: str) -> Study:
    """A study by name.

    Raises:
        PlanError: unknown name; the message lists the choices and the nearest one.
    """
    if name not in STUDIES:
        raise PlanError(f"unknown profile '{name}'.{near(name, STUDIES)} Choices: {', '.join(STUDIES)}")
    return STUDIES[name]
