"""How long commands take that measure nothing: ``python -m pytest -m speed tests/speed/test_overheads.py``."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmark import store, studies
from benchmark.due import pending
from benchmark.machine import device_name
from benchmark.metrics import METRICS
from benchmark.plan import plan

ROOT = Path(__file__).parents[2]
STUDY = """
from benchmark.plan import Study
from benchmark.protocol import CLEAN, noise
from benchmark.studies import register
from methods import available

TARGETS, SNR_DB = ("lr_hsi", "both"), (45, 40, 35, 30, 25, 15)
register(Study("large", "Fifty methods", methods=tuple(available()[:50]), dataset="synthetic", msi_bands=(4, 6),
               seeds=(0, 1, 2), scenarios=(CLEAN, *(noise(target, snr_db) for target in TARGETS for snr_db in SNR_DB))))
"""


@pytest.fixture
def large(monkeypatch, tmp_path):
    """The file of a study of 50 methods, 2 MSI band counts, 3 seeds and 13 scenarios, and its jobs."""
    monkeypatch.setattr(studies, "STUDIES", dict(studies.STUDIES))
    file = tmp_path / "large.py"
    file.write_text(STUDY)
    studies.load_file(file)
    return file, plan(studies.study("large"), device_name(torch.device("cpu")))


def command(*words):
    """Seconds of a command in a process of its own, imports included, and what it prints."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "run_benchmark.py", *map(str, words)], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    return time.perf_counter() - start, done.stdout


def imports_torch():
    """Seconds that torch alone takes here and now: what all commands share, and what a busy machine stretches."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - start


def measured(root, jobs):
    """Make every job done, with rows of made-up figures."""
    for job in jobs:
        words = {"method": job.method, "msi_bands": job.msi_bands, "device": job.device or "cpu", "job": job.key[:12]}
        rows = [words | {"dataset": "synthetic", "split": job.split, "image": image, "snr_db": job.scenario.snr_db,
                         **dict.fromkeys(METRICS, 1.0)} for image in job.images or ("",)]
        place = store.begin(root, job)
        store.finish(place, rows, {})
        (place / "model.safetensors").touch()


@pytest.mark.speed
def test_list():
    seconds, told = command("list")
    assert "gsa" in told
    assert seconds < 2 + imports_torch()  # 2 in all where nothing else runs


@pytest.mark.speed
def test_plan_of_fifty_methods(large, tmp_path):
    file, jobs = large
    seconds, told = command("run", "--profile", "large", "--study-file", file, "--device", "cpu", "--results",
                            tmp_path / "results", "--dry-run")
    assert told.count("missing") == len(jobs) > 2500
    assert seconds < 10


@pytest.mark.speed
def test_plan_of_fifty_methods_that_are_measured(large, tmp_path):
    file, jobs = large
    measured(tmp_path / "results", jobs)
    seconds, told = command("run", "--profile", "large", "--study-file", file, "--device", "cpu", "--results",
                            tmp_path / "results", "--dry-run")
    assert told.count("done ") == len(jobs)
    assert seconds < 15
    start = time.perf_counter()
    assert pending(jobs, tmp_path / "results") == []  # what a run does before it renders its page
    assert time.perf_counter() - start < 5
