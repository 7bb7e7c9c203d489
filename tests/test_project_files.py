"""README, NOTICE, CITATION.cff and CONTRIBUTING.md say what the project holds."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

import run_benchmark
from benchmark.arguments import arguments

ROOT = Path(__file__).parents[1]
RELEASE = re.compile(r"([\w-]+/[\w-]+)\s*@\s*([0-9a-f]{7,40})\b")


def releases(text):
    return {(name, commit[:8]) for name, commit in RELEASE.findall(text)}


def test_notice_names_every_release_that_a_method_names():
    named = set().union(*(releases(path.read_text(encoding="utf-8")) for path in (ROOT / "methods").glob("*.py")))
    assert len(named) > 25 and named == releases((ROOT / "NOTICE").read_text(encoding="utf-8"))


def test_notice_names_files_that_exist():
    text = (ROOT / "NOTICE").read_text(encoding="utf-8")
    files = set(re.findall(r"\b([\w/]+\.(?:py|csv))\b", text)) - {"mamba_simple.py"}
    for file in files:
        assert (ROOT / file).is_file() or (ROOT / "methods" / file).is_file(), file
    releasing = {path.name for path in (ROOT / "methods").glob("*.py") if RELEASE.search(path.read_text(encoding="utf-8"))}
    assert releasing <= files


def test_citation():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format requires
    assert citation["cff-version"] == "1.2.0" and all("name" in author for author in citation["authors"])
    assert citation["version"] == project["version"] and citation["license"] == project["license"]["text"] == "MIT"
    assert "Permission is hereby granted, free of charge" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_contributing_names_places_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = set(re.findall(r"`((?:methods|datasets|benchmark|tests)/[\w/.]+)`", text)) - {"methods/x.py", "datasets/x.py"}
    assert len(places) > 12
    assert not [place for place in places if not (ROOT / place).exists()]


def test_readme_sets_up_and_shows_every_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line.partition("#")[0].strip() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
             for line in block.replace("\\\n", " ").splitlines()]
    assert {"make bench", "make test"} <= set(lines)
    shown = [arguments("").parse_args(shlex.split(line.partition("run_benchmark.py ")[2])).command for line in lines
             if "python run_benchmark.py " in line]
    commands = re.findall(r"^python run_benchmark.py (\S+)", run_benchmark.__doc__, re.MULTILINE)
    assert len(shown) > 30 and {command for command in commands if f"`{command}" not in text} <= set(shown)
