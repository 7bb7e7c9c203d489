"""Every recipe of every supervised method runs in the one loop, all its stages, moves the parameters and resumes exactly."""

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
from benchmark.training import Training
from methods import available, card, create

CASES = sorted({(tuple(stages[0].trains if isinstance(stages, tuple) else stages.trains), recipe)
                for name in available("supervised") for recipe, stages in card(name).recipes.items()})
FABRIC = Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="module")
def cubes(tmp_path_factory):
    """Four scenes of twelve bands that all bands of Landsat TM can be made of."""
    nm = [460, 500, 540, 580, 640, 670, 700, 780, 820, 860, 1650, 2200]
    folder = tmp_path_factory.mktemp("cubes")
    for i in range(4):
        cube = np.random.default_rng(i).uniform(1, 1000, (36, 36, 12))
        np.savez(folder / f"{i}.npz", cube=cube, wavelength_nm=nm)
    return folder


def job_of(names, recipe, cubes):
    quick = STUDIES["quick"]
    study = dataclasses.replace(
        quick, methods=names, recipe=recipe, dataset="folder", dataset_options={"root": str(cubes)},
        protocol=dataclasses.replace(quick.protocol, hr_size=32, bands="all"),
        training={"steps": 4, "batch": 2, "crop": 32, "log_every": 1}, arguments={name: card(name).small for name in names},
    )
    return Job("train", study, names, 4)


@pytest.mark.parametrize("names, recipe", CASES, ids=lambda value: value if isinstance(value, str) else "+".join(value))
def test_recipe_trains_and_resumes_to_the_same_bytes(names, recipe, cubes, tmp_path):
    job = job_of(names, recipe, cubes)
    rows = train(job, tmp_path, FABRIC, lambda line: None)
    assert [row["method"] for row in rows] == list(names)
    assert all(row["steps"] == 4 and math.isfinite(row["loss"]) and math.isfinite(row["val_psnr_db"]) for row in rows)
    curve = pd.read_csv(tmp_path / "train.csv")
    assert set(curve["step"]) == {1, 2, 3, 4} and set(curve[curve["quantity"] == "lr"]["method"]) == set(names)
    torch.manual_seed(0)
    trained = load_file(tmp_path / "model.safetensors")
    for name in names:
        model = create(name, bands=12, msi_bands=4, **card(name).small)
        moved = [key for key, value in model.state_dict().items() if not torch.equal(value, trained[f"{name}/{key}"])]
        assert moved
        model.load_state_dict({key: trained[f"{name}/{key}"] for key in model.state_dict()})

    parts = Training(job, FABRIC)
    steps = parts.run()
    next(steps)
    torch.save(parts.state(), tmp_path / "state")
    torch.rand(3)  # whatever was drawn meanwhile
    resumed = Training(job, FABRIC)
    resumed.restore(torch.load(tmp_path / "state", weights_only=False))
    for _ in resumed.run():
        pass
    assert {key: value.tolist() for key, value in resumed.parameters().items()} == \
        {key: value.tolist() for key, value in trained.items()}


def terms_of(recipe_name):
    """One step's loss terms of S3RNet's pair under a recipe, from the same start and batch."""
    torch.manual_seed(0)
    recipe = card("s3rnet-student").recipes[recipe_name]
    models = {name: create(name, bands=12, msi_bands=4, **card(name).small) for name in ("s3rnet-teacher", "s3rnet-student")}
    models = {name: models[name] for name in recipe.trains}
    generator = torch.Generator().manual_seed(1)
    batch = {"lr_hsi": torch.rand(1, len(models), 12, 4, 4, generator=generator)[:, :1].expand(-1, len(models), -1, -1, -1),
             "hr_msi": torch.rand(1, 4, 16, 16, generator=generator), "hr_hsi": torch.rand(1, 12, 16, 16, generator=generator)}
    return {key: value.item() for key, value in recipe.task(models, recipe)(batch).items()}


def test_coefficients_of_table_3_change_the_terms_they_name():
    plain, naive, kd = terms_of("paper"), terms_of("naive"), terms_of("kd-0.5")
    zeroed = {f"s3rnet-{side}/{term}" for side in ("teacher", "student") for term in ("beba", "sam")} | {"s3rnet-student/kd"}
    assert {key for key, value in naive.items() if value == 0} == zeroed
    assert naive["s3rnet-student/output"] == pytest.approx(plain["s3rnet-student/output"])
    assert naive["s3rnet-teacher/loss"] == pytest.approx(plain["s3rnet-teacher/l1"])
    assert kd["s3rnet-student/kd"] == pytest.approx(5 * plain["s3rnet-student/kd"])
    moved = {key for key in plain if kd[key] != pytest.approx(plain[key])}
    assert moved == {"s3rnet-student/kd", "s3rnet-student/loss", "loss"}
    for terms in (plain, naive, kd):
        assert terms["loss"] == pytest.approx(terms["s3rnet-teacher/loss"] + terms["s3rnet-student/loss"])


def test_a_student_alone_has_the_terms_of_the_reference_and_no_teacher():
    plain, alone = terms_of("paper"), terms_of("alone")
    assert set(alone) == {"loss", *(f"s3rnet-student/{term}" for term in ("l1", "beba", "sam", "loss"))}
    assert alone["s3rnet-student/loss"] == pytest.approx(sum(alone[f"s3rnet-student/{term}"] for term in ("l1", "beba", "sam")))
    assert alone["loss"] == alone["s3rnet-student/loss"] and plain["loss"] > 0
