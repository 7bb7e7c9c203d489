"""Do the faster ways of training learn the same? Their curves go to ``results/speed-training.csv``: ``--speed-curves``."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from benchmark import rows
from benchmark import training as loop
from benchmark.plan import Job, Study
from benchmark.protocol import PAPER
from methods.speed import reduced_precision

pytestmark = pytest.mark.speed
PAIR = ("s3rnet-teacher", "s3rnet-student")
STUDY = Study(
    "speed-training", "Ways of training", methods=PAIR, dataset="aviris", msi_bands=(4,), protocol=replace(PAPER, hr_size=96),
    training={"steps": 300, "batch": 2, "crop": 32, "lr": 1e-3, "schedule": "cosine", "log_every": 50},
    arguments={name: {"depths": (1, 1, 1, 1)} for name in PAIR})  # full width, so that all faster layers take part
WAYS = {"plain": "32-true", "exact": "32-true", "mixed": "bf16-mixed"}


def test_curves_of_three_seeds(monkeypatch, pytestconfig):
    if not pytestconfig.getoption("speed_curves"):
        pytest.skip("takes the best part of an hour: --speed-curves")
    try:
        STUDY.data.entries("val")
    except Exception as error:
        pytest.skip(str(error))
    found = []
    for seed in (0, 1, 2):
        for way, precision in WAYS.items():
            if way == "mixed" and reduced_precision(torch.device("cpu")):
                continue
            with monkeypatch.context() as patched:
                if way == "plain":
                    patched.setattr(loop, "trainable", lambda network, device, recompute: network)
                training = loop.Training(Job("train", replace(STUDY, precision=precision), PAIR, 4, seed),
                                         Fabric(accelerator="cpu", devices=1, precision=precision))
                for _ in training.run():
                    pass
            found += [{"way": way, "seed": seed, **row} for row in training.progress.curve if row["quantity"] == "val_psnr_db"]
            last = [f"{row['method']} {row['value']:.3f}" for row in found[-2:]]
            print(way, seed, last, f"{training.progress.seconds:.0f} s")
            rows.write(Path("results/speed-training.csv"), found)
    first, last = ({(row["way"], row["seed"], row["method"]): row["value"] for row in found if row["step"] == step}
                   for step in (50, 300))
    assert len(last) == len(first) and all(last[key] > first[key] for key in first)  # how alike, the page says
