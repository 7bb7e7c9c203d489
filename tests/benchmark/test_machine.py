"""Provenance as it is: no git, another repository around the code, untracked files; and a state that is put back."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import machine

UNKNOWN = {"revision": "unknown", "dirty": "unknown", "untracked": "unknown", "torch": torch.__version__}


def git(place, *words):
    subprocess.run(["git", "-c", "user.email=a@b.c", "-c", "user.name=x", *words], cwd=place, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository that looks like this one, with its code version read there."""
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/x.py").write_text("1\n")
    git(tmp_path, "init", "-q", ".")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    monkeypatch.setattr(machine, "ROOT", tmp_path.resolve())
    return tmp_path


def test_a_checkout_is_told_with_what_differs_from_it(checkout):
    clean = machine.code_version()
    assert len(clean["revision"]) == 40 and clean["dirty"] is False and clean["untracked"] == 0
    (checkout / "notes.txt").write_text("no code")
    assert machine.code_version() == clean
    (checkout / "methods/mine.py").write_text("2\n")
    assert machine.code_version() == clean | {"untracked": 1}
    (checkout / "methods/x.py").write_text("3\n")
    assert machine.code_version() == clean | {"untracked": 1, "dirty": True}


def test_the_repository_around_an_unpacked_archive_is_not_ours(checkout, monkeypatch):
    (checkout / "bench/methods").mkdir(parents=True)
    monkeypatch.setattr(machine, "ROOT", (checkout / "bench").resolve())
    assert machine.code_version() == UNKNOWN


@pytest.mark.parametrize("spoil", [
    lambda place, patch: patch.setenv("PATH", "/nonexistent"),
    lambda place, patch: shutil.rmtree(place / ".git"),
    lambda place, patch: (place / ".git/HEAD").write_text("no head"),
], ids=["no git", "no repository", "a broken repository"])
def test_without_a_usable_git_the_revision_is_unknown(checkout, monkeypatch, spoil):
    spoil(checkout, monkeypatch)
    assert machine.code_version() == UNKNOWN


def test_git_s_own_variables_do_not_lead_elsewhere(checkout, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q", ".")
    git(other, "commit", "-q", "--allow-empty", "-m", "y")
    ours = machine.code_version()
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert machine.code_version() == ours


def test_what_a_method_changes_is_put_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads, draws = torch.get_num_threads(), (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    with pytest.raises(RuntimeError), machine.unchanged():
        torch.set_num_threads(threads + 3)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        np.seterr(all="raise")
        os.environ["HSFUSION_DATA"] = "elsewhere"
        os.chdir("/")
        raise RuntimeError
    assert torch.get_num_threads() == threads and torch.get_default_dtype() == torch.float32
    assert not torch.are_deterministic_algorithms_enabled() and Path.cwd() == tmp_path
    assert torch.equal(torch.get_rng_state(), draws[0]) and (np.random.get_state()[1] == draws[1]).all()
    assert random.getstate() == draws[2] and os.environ.get("HSFUSION_DATA") != "elsewhere"
    assert np.geterr()["over"] != "raise"


def test_peak_memory_of_a_call_is_what_it_takes():
    held = []
    taken = machine.peak_memory_mb(lambda: held.append(torch.ones(20_000_000)), torch.device("cpu"))
    assert np.isnan(taken) or 75 < taken < 140
