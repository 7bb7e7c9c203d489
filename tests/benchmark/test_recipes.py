"""Every recipe of every supervised method runs in the one training loop, all its stages, and moves the parameters."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from benchmark.plan import Job
from benchmark.studies import STUDIES
from benchmark.train import train
from methods import available, card, create
from tests.methods.test_contract import arguments

CASES = sorted({(tuple(stages[0].trains if isinstance(stages, tuple) else stages.trains), recipe)
                for name in available("supervised") for recipe, stages in card(name).recipes.items()})


@pytest.mark.parametrize("names, recipe", CASES, ids=lambda value: value if isinstance(value, str) else "+".join(value))
def test_recipe_trains(names, recipe, tmp_path):
    (tmp_path / "cubes").mkdir()
    for i in range(4):  # twelve bands that Landsat TM 1-4 can be made of
        cube = np.random.default_rng(i).uniform(1, 1000, (36, 36, 12))
        np.savez(tmp_path / "cubes" / f"{i}.npz", cube=cube, wavelength_nm=np.linspace(460, 890, 12))
    quick = STUDIES["quick"]
    study = dataclasses.replace(
        quick, methods=names, recipe=recipe, dataset="folder", dataset_options={"root": str(tmp_path / "cubes")},
        protocol=dataclasses.replace(quick.protocol, hr_size=32, bands="all"),
        training={"steps": 4, "batch": 2, "crop": 32, "log_every": 1}, arguments={name: arguments(name) for name in names},
    )
    job = Job("train", study, names, 4)
    rows = train(job, tmp_path, Fabric(accelerator="cpu", devices=1), lambda line: None)
    assert [row["method"] for row in rows] == list(names)
    assert all(row["steps"] == 4 and math.isfinite(row["loss"]) and math.isfinite(row["val_psnr_db"]) for row in rows)
    assert set(pd.read_csv(tmp_path / "train.csv")["step"]) == {1, 2, 3, 4}
    torch.manual_seed(0)
    trained = load_file(tmp_path / "model.safetensors")
    for name in names:
        model = create(name, bands=12, msi_bands=4, **arguments(name))
        moved = [key for key, value in model.state_dict().items() if not torch.equal(value, trained[f"{name}/{key}"])]
        assert moved
        model.load_state_dict({key: trained[f"{name}/{key}"] for key in model.state_dict()})
