"""What can happen to a long study: methods that take their process with them, two processes on one folder, kills, damage."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.rows import read

ROOT = Path(__file__).parents[1]
STUDY = '''
import ctypes, dataclasses, os, signal, sys, time
import torch
from torch.nn import functional as F
from benchmark.plan import Study
from benchmark.protocol import CLEAN, PAPER, noise
from benchmark.studies import register as register_study
from methods.registry import register


def leaves(lr_hsi, hr_msi):
    os._exit(0)


def exits(lr_hsi, hr_msi):
    sys.exit(0)


def crashes(lr_hsi, hr_msi):
    ctypes.string_at(0)


def killed(lr_hsi, hr_msi):  # as the system does that runs out of memory
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(lr_hsi, hr_msi):
    time.sleep(1000)


def raises(lr_hsi, hr_msi):
    raise RuntimeError("no")


def nan(lr_hsi, hr_msi):
    return torch.full((1, lr_hsi.shape[1], *hr_msi.shape[2:]), float("nan"))


def shape(lr_hsi, hr_msi):
    return lr_hsi


def kind(lr_hsi, hr_msi):
    return None


def memory(lr_hsi, hr_msi):
    raise MemoryError()


FAULTS = {each.__name__: each for each in (leaves, exits, crashes, killed, hangs, raises, nan, shape, kind, memory)}


class Fault:
    def __init__(self, name):
        self.name = name

    def __call__(self, lr_hsi, hr_msi):
        return FAULTS[self.name](lr_hsi, hr_msi)


for name in FAULTS:
    register(f"fault-{name}", "classical", paper="nobody", year=2026, fidelity="described", told="blind")(
        lambda name=name: Fault(name))

register_study(Study("faults", "Faults", ("bicubic",), "synthetic", {"size": 32, "train": 2, "val": 1, "test": 2},
                     msi_bands=(4,), protocol=dataclasses.replace(PAPER, hr_size=32), cost_lr_size=4,
                     arguments={name: {"width": 4, "depths": (1, 1, 1, 1)} for name in ("s3rnet-teacher", "s3rnet-student")},
                     training={"steps": 300, "batch": 1, "crop": 16, "log_every": 100}))
'''


@pytest.fixture
def command(tmp_path):
    """The words of a run on the study, and a function that begins it."""
    path = tmp_path / "faults.py"
    path.write_text(STUDY)

    def begin(*words, where="res", call="run"):
        return subprocess.Popen(
            [sys.executable, "run_benchmark.py", call, "--profile", "faults", "--study-file", str(path), "--device", "cpu",
             "--results", str(tmp_path / where), *(("--reports", str(tmp_path / "rep")) if call != "merge" else ()), *words],
            cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"})

    return begin


def ended(process, seconds=300):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def scores(folder):
    frames = [read(path) for path in sorted(folder.glob("*/score-*/rows.csv"))]
    return pd.concat(frames).drop(columns="seconds").sort_values(["job", "image"]).reset_index(drop=True)


def reason(folder, method):
    (path,) = folder.glob(f"*/score-{method}-*/error.txt")
    return path.read_text()


def test_a_method_that_ends_its_process_costs_no_other_its_rows(command, tmp_path):
    code, _, err = ended(command("--methods", "fault-leaves", "bicubic"))
    assert code == 1 and "exit status 0" in reason(tmp_path / "res", "fault-leaves") and "Traceback" not in err
    assert set(scores(tmp_path / "res")["method"]) == {"bicubic"}
    page = next((tmp_path / "rep").glob("*/index.html")).read_text()
    assert "ended by itself with exit status 0" in page


@pytest.mark.slow
def test_every_way_to_die_is_named_and_the_rest_goes_on(command, tmp_path):
    words = {"leaves": "exit status 0", "exits": "SystemExit", "crashes": "SIGSEGV", "killed": "SIGKILL.*out of memory",
             "hangs": "took longer than 0.005 h", "raises": "RuntimeError: no", "nan": "none of 2 estimates is finite",
             "shape": "shape", "kind": "Error", "memory": "OutOfMemoryError.*--hr-size"}
    methods = [f"fault-{name}" for name in words]
    flags = ("--methods", *methods, "bicubic", "--timeout", "0.005")
    assert ended(command(*flags), 900)[0] == 1
    for name, said in words.items():
        assert pd.Series([reason(tmp_path / "res", f"fault-{name}")]).str.contains(said).all(), name
    assert set(scores(tmp_path / "res")["method"]) == {"bicubic"}
    for _ in range(2):
        assert ended(command(*flags), 900)[0] == 1
    start = time.monotonic()
    assert ended(command(*flags), 900)[0] == 1  # left alone now
    assert time.monotonic() - start < 60
    assert "given up after 3 times" in ended(command(*flags[:-2], call="status"))[1]


@pytest.mark.slow
def test_two_processes_on_one_folder_share_the_work(command, tmp_path):
    methods = ("bicubic", "gsa", "s3rnet-student", "sfim-hs")
    assert ended(command("--methods", *methods, where="alone"))[0] == 0
    for number in range(10):
        both = [command("--methods", *methods, where=f"shared{number}") for _ in range(2)]
        for process in both:
            code, _, err = ended(process)
            assert code == 0 and "Traceback" not in err
        assert scores(tmp_path / f"shared{number}").equals(scores(tmp_path / "alone"))
        logs = [path.read_text().splitlines() for path in (tmp_path / f"shared{number}").glob("*/*/log.txt")]
        assert all(sum(" on cpu" in line for line in log) == 1 for log in logs)  # each was begun once
        assert not list((tmp_path / f"shared{number}").glob("*/.claims/*"))


def interrupted(command, number, where, group, at):
    """Begin a training, send a signal ``at`` its first checkpoint-free second, and see how it ends."""
    process = command("--methods", "s3rnet-student", "--data-option", "train=64", "size=32", where=where)
    log = ROOT / "nowhere"
    until = time.monotonic() + 120
    while time.monotonic() < until and not (log.exists() and "budget replaces" in log.read_text()):
        log = next(iter(Path(at).glob(f"{where}/*/train-*/log.txt")), log)
        time.sleep(0.05)
    time.sleep(1.5)
    (os.killpg if group else os.kill)(process.pid, number)
    return ended(process)


@pytest.mark.slow
@pytest.mark.parametrize("number, group, code", [(signal.SIGTERM, True, 130), (signal.SIGTERM, False, 130),
                                                 (signal.SIGINT, True, 130), (signal.SIGKILL, False, -9),
                                                 (signal.SIGKILL, True, -9)])
def test_a_training_that_is_ended_goes_on_to_the_same_rows(command, tmp_path, number, group, code):
    flags = ("--methods", "s3rnet-student", "--data-option", "train=64", "size=32")
    assert ended(command(*flags, where="whole"))[0] == 0
    found, _, err = interrupted(command, number, "parts", group, tmp_path)
    assert found == code and "Traceback" not in err, err
    if number != signal.SIGKILL:
        assert list((tmp_path / "parts").glob("*/train-*/checkpoint-*.ckpt"))
        assert not list((tmp_path / "parts").glob("*/*/error.txt"))
    assert ended(command(*flags, where="parts"))[0] == 0
    assert scores(tmp_path / "parts").equals(scores(tmp_path / "whole"))


@pytest.mark.slow
def test_a_worker_of_a_cluster_that_is_killed_costs_no_row(command, tmp_path):
    """Scheduler and workers are processes of their own; one worker is killed in the middle of a training."""
    pytest.importorskip("distributed")
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    words = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
             "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    flags = ("--methods", "bicubic", "s3rnet-student", "gsa")
    assert ended(command(*flags, where="whole"))[0] == 0
    address = "tcp://127.0.0.1:18786"
    scheduler = subprocess.Popen([*dask, "--host", "127.0.0.1", "--port", "18786", "--no-dashboard"], **words)
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    workers = [subprocess.Popen([*worker, *more], **words) for more in (["--no-nanny"], ["--no-nanny"])]
    try:
        process = command(*flags, "--engine", f"dask:{address}", where="parts")
        holders, until = [], time.monotonic() + 200
        while not holders and time.monotonic() < until:
            time.sleep(0.2)
            holders = list((tmp_path / "parts").glob("*/.claims/train-*.json"))
        time.sleep(4)
        trainer = json.loads(holders[0].read_text())["pid"]  # the child of the worker that is to be killed
        parent = int(Path(f"/proc/{trainer}/stat").read_text().rpartition(")")[2].split()[1])
        assert parent in [each.pid for each in workers]
        os.kill(parent, signal.SIGKILL)
        code, _, err = ended(process, 600)
        assert code == 0, err
    finally:
        for each in (*workers, scheduler):
            each.kill()
    assert scores(tmp_path / "parts").equals(scores(tmp_path / "whole"))
    log = next((tmp_path / "parts").glob("*/train-*/log.txt")).read_text()
    assert "interrupted at step" in log and "resumed at step" in log


@pytest.mark.slow
def test_two_processes_train_one_network_as_one_does(command, tmp_path):
    flags = ("--methods", "s3rnet-student", "--steps", "20", "--batch", "2", "--log-every", "5")
    for devices in ("1", "2"):
        code, _, err = ended(command(*flags, "--devices", devices, where=devices))
        assert code == 0 and "terminate" not in err and "Traceback" not in err, err
    one, two = (pd.read_csv(next((tmp_path / devices).glob("*/train-*/train.csv"))) for devices in ("1", "2"))
    assert one.drop(columns=["seconds", "value"]).equals(two.drop(columns=["seconds", "value"]))
    assert np.allclose(one["value"], two["value"], rtol=1e-5)
    code, _, err = ended(command(*flags, "--devices", "2", "--batch", "3", where="odd"))
    assert code == 1 and "a batch of 3 has no 2 equal parts" in err
