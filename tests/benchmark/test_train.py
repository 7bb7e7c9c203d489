"""The training loop: aligned crops, exact resume, interrupts, and a loss that is not finite."""

import copy
import dataclasses
import math
import os
import signal

import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from benchmark import crops as crops_module
from benchmark import store
from benchmark import training as loop
from benchmark.crops import Crops
from benchmark.engines import Here
from benchmark.execute import execute
from benchmark.plan import Job, PlanError, Study, plan
from benchmark.studies import STUDIES
from benchmark.train import train
from methods import create, weights
from methods.registry import MethodError
from methods.tasks import HOKD

STUDY = dataclasses.replace(
    STUDIES["quick"], dataset_options={"size": 32, "train": 2, "val": 1, "test": 1},
    protocol=dataclasses.replace(STUDIES["quick"].protocol, hr_size=32),
    training={"steps": 6, "batch": 2, "crop": 16, "lr": 1e-3, "log_every": 2},
    arguments={name: {"width": 4, "depths": (1, 1, 1, 1)} for name in ("s3rnet-teacher", "s3rnet-student")},
)


def job(**training):
    of = dataclasses.replace(STUDY, training={**STUDY.training, **training})
    return Job("train", of, ("s3rnet-teacher", "s3rnet-student"), 4)


def run(place, of):
    place.mkdir(exist_ok=True)
    rows = train(of, place, Fabric(accelerator="cpu", devices=1), lambda line: None)
    return rows, load_file(place / "model.safetensors"), pd.read_csv(place / "train.csv")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_crops_are_aligned_pairs_of_their_image(monkeypatch):
    # An image whose values are its coordinates tells where a crop came from, and that LR and HR fit together.
    of = job(augment=())
    crops = Crops(of, of.study.stages_of(of.method)[0])
    rows, cols = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    hr_hsi = torch.stack([rows, cols])
    monkeypatch.setattr(crops, "observed", lambda entry: (hr_hsi[:, ::4, ::4], hr_hsi, hr_hsi))
    corners = set()
    for draw in range(40):
        item = crops[draw]
        assert item["lr_hsi"].shape == (2, 2, 4, 4) and item["hr_hsi"].shape == (2, 16, 16)
        assert torch.equal(item["lr_hsi"][0], item["hr_hsi"][:, ::4, ::4]) and torch.equal(item["hr_msi"], item["hr_hsi"])
        corners.add(tuple(item["hr_hsi"][:, 0, 0].int().tolist()))
    assert corners <= {(4 * i, 4 * j) for i in range(5) for j in range(5)} and {c[0] for c in corners} == {0, 4, 8, 12, 16}


@pytest.mark.parametrize("memory", [2**40, 0])
def test_crops_of_an_image_with_missing_data_see_none_of_it(monkeypatch, memory):
    of = job(augment=())
    whole = job(augment=())  # over data of its own
    plain = Crops(whole, whole.study.stages_of(whole.method)[0])
    monkeypatch.setattr(crops_module, "CACHE_BYTES", memory)
    scene = of.study.data.scene
    gap = torch.ones(32, 32, dtype=torch.bool)
    gap[:6] = False

    def with_gap(entry):
        found = scene(entry)
        return dataclasses.replace(found, valid=gap, cube=found.cube.masked_fill(~gap, 9.0)) if entry == "train_0" else found

    monkeypatch.setattr(of.study.data, "scene", with_gap)
    crops = Crops(of, of.study.stages_of(of.method)[0])
    rows = {}
    for draw in range(60):
        item, entry = crops[draw], crops.entry_of(draw)
        assert item["hr_hsi"].max() <= 1.0
        same_as_before = torch.equal(item["hr_hsi"], plain[draw]["hr_hsi"])
        rows.setdefault(entry, []).append(same_as_before)
    assert all(rows["train_1"]) and not all(rows["train_0"])  # an image without gaps is cut as ever
    assert crops.places["train_0"].tolist() == [20, 21, 22, 23, 24]  # of the 5 x 5 places on the LR grid the last row


def test_augmentation_turns_all_images_of_a_pair_alike():
    of = job()
    crops = Crops(of, of.study.stages_of(of.method)[0])
    plain = job(augment=())
    straight = Crops(plain, plain.study.stages_of(plain.method)[0])
    changed = 0
    for draw in range(20):
        item, base = crops[draw], straight[draw]
        turned = [(flips, turns) for flips in ((), (1,), (2,), (1, 2)) for turns in range(4)
                  if torch.equal(base["hr_hsi"].flip(flips).rot90(turns, (1, 2)), item["hr_hsi"])]
        assert turned, "not the same crop, turned"
        for flips, turns in turned[:1]:
            assert torch.equal(base["lr_hsi"][0].flip(flips).rot90(turns, (1, 2)), item["lr_hsi"][0])
            assert torch.equal(base["hr_msi"].flip(flips).rot90(turns, (1, 2)), item["hr_msi"])
        changed += not torch.equal(base["hr_hsi"], item["hr_hsi"])
    assert changed > 5


def test_training_noise_is_drawn_apart_for_each_network():
    of = job(train_snr_db=35.0)
    item = Crops(of, of.study.stages_of(of.method)[0])[0]
    clean = Crops(job(), job().study.stages_of(of.method)[0])[0]
    teacher, student = item["lr_hsi"]
    assert not torch.equal(teacher, student)
    for noisy in (teacher, student):
        power = clean["lr_hsi"][0].square().mean() / (noisy - clean["lr_hsi"][0]).square().mean()
        assert 10 * math.log10(power) == pytest.approx(35, abs=0.5)


def test_an_interrupted_training_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    rows, whole, curve = run(tmp_path / "whole", job())
    assert [row["method"] for row in rows] == ["s3rnet-teacher", "s3rnet-student"] and rows[0]["steps"] == 6
    forward, calls = HOKD.forward, []

    def interrupting(self, batch):
        calls.append(1)
        if len(calls) == 4:  # in the middle of an epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, batch)

    monkeypatch.setattr(HOKD, "forward", interrupting)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", job())
    assert list((tmp_path / "parts").glob("*.ckpt")) and len(calls) == 4
    _, parts, resumed = run(tmp_path / "parts", job())
    assert len(calls) == 6
    assert same(whole, parts) and not list((tmp_path / "parts").glob("*.ckpt"))
    assert curve.drop(columns="seconds").equals(resumed.drop(columns="seconds"))


def test_curve_has_every_term_and_validation_of_both_networks(tmp_path):
    _, parameters, curve = run(tmp_path / "t", job())
    assert sorted(curve["epoch"].unique()) == [1, 2, 3] and sorted(curve["step"].unique()) == [2, 4, 6]
    terms = curve.groupby("method")["quantity"].apply(set)
    shared = {"l1", "beba", "sam", "loss", "lr", "val_psnr_db", "val_sam_deg"}
    assert terms["s3rnet-teacher"] == shared and terms["s3rnet-student"] == shared | {"kd", "output"}
    last = curve[(curve["step"] == 6) & (curve["quantity"] == "lr")]["value"]
    assert (last < 1e-3 * 0.1).all()  # cosine
    assert {key.split("/")[0] for key in parameters} == {"s3rnet-teacher", "s3rnet-student"}


def test_the_first_step_lowers_what_it_differentiates(tmp_path):
    _, _, curve = run(tmp_path / "t", job(steps=45, log_every=15))
    losses = curve[curve["quantity"] == "loss"].pivot(index="epoch", columns="method", values="value")
    assert (losses.loc[3] < 0.7 * losses.loc[1]).all()


def test_distillation_does_not_reach_the_teacher():
    of = job()
    recipe = of.study.stages_of(of.method)[0]
    crops = Crops(of, recipe)
    batch = {key: value[None] for key, value in crops[0].items()}
    torch.manual_seed(0)
    models = {name: create(name, bands=172, msi_bands=4, **STUDY.arguments[name]) for name in recipe.trains}
    terms = recipe.task(models, recipe)(batch)
    (terms["s3rnet-student/kd"] + terms["s3rnet-student/output"]).backward()
    teacher, student = models.values()
    assert all(p.grad is None for p in teacher.parameters()) and any(p.grad is not None for p in student.parameters())
    names = [name for name in terms if name.startswith("s3rnet-student/") and not name.endswith("/loss")]
    assert terms["s3rnet-student/loss"].item() == pytest.approx(sum(terms[name].item() for name in names), rel=1e-6)


def test_a_loss_that_is_not_finite_stops_and_names_step_and_term(tmp_path, monkeypatch):
    forward, calls = HOKD.forward, []

    def breaking(self, batch):
        calls.append(1)
        terms = forward(self, batch)
        return terms | {"s3rnet-student/kd": terms["s3rnet-student/kd"] * math.nan, "loss": terms["loss"] * math.nan} \
            if len(calls) == 4 else terms

    monkeypatch.setattr(HOKD, "forward", breaking)
    monkeypatch.setattr("benchmark.train.SAVE_SECONDS", 0)
    with pytest.raises(loop.TrainingError, match=r"'s3rnet-student/kd' is nan at step 3.*--lr"):
        run(tmp_path / "t", job())
    assert list((tmp_path / "t").glob("*.ckpt"))
    monkeypatch.setattr(HOKD, "forward", forward)
    _, parameters, _ = run(tmp_path / "t", job())
    assert all(torch.isfinite(value).all() for value in parameters.values())


@pytest.mark.parametrize("boundary", ["reflect", "replicate"])
def test_a_crop_observed_alone_is_that_of_the_observed_image(monkeypatch, boundary):
    of = job(crop=16)
    of = dataclasses.replace(of, study=dataclasses.replace(
        of.study, protocol=dataclasses.replace(of.study.protocol, boundary=boundary, hr_size=64),
        dataset_options={**of.study.dataset_options, "size": 64}))
    recipe = of.study.stages_of(of.method)[0]
    whole, alone = Crops(of, recipe), Crops(of, recipe)
    assert whole.fit_in_memory
    monkeypatch.setattr(crops_module, "CACHE_BYTES", 0)
    assert not alone.fit_in_memory
    for draw in range(40):  # at the borders of the image and in its middle
        one, other = whole[draw], alone[draw]
        assert one.keys() == other.keys()
        assert all(torch.allclose(one[key], other[key], atol=1e-6) for key in one)


def test_validation_is_thinned_where_it_would_cost_more_than_a_tenth(tmp_path, monkeypatch):
    training = loop.Training(job(), Fabric(accelerator="cpu", devices=1))
    training.begin_stage()
    pixels = sum(cube.shape[1] * cube.shape[2] for _, _, cube, _ in training.validation)
    step = 3 * training.recipe.batch * training.recipe.crop**2
    assert training.validated_every == max(1, -(-10 * pixels // (step * training.epoch_steps))) > 1
    _, _, curve = run(tmp_path / "t", job(steps=6, log_every=1))
    epochs = curve[curve.quantity == "val_psnr_db"].epoch.unique()
    assert list(curve[curve.quantity == "loss"].epoch.unique()) == [1, 2, 3, 4, 5, 6]
    every = -(-10 * pixels // step)
    assert list(epochs) == sorted({*range(every, 7, every), 6})  # and always the last


def test_keeping_the_best_keeps_the_parameters_of_the_best_epoch(tmp_path, monkeypatch):
    angles = iter([3.0, 3.0, 1.0, 9.0, 2.0, 2.0])  # teacher, student: their best epochs are 2 and 3
    states = []

    def fake(estimate, reference):
        return torch.tensor(next(angles))

    monkeypatch.setattr(loop.metrics, "sam", fake)
    monkeypatch.setattr(loop, "VALIDATION_SHARE", 1e9)
    original = loop.Training.end_epoch

    def spy(self):
        states.append({name: {key: value.clone() for key, value in model.state_dict().items()}
                       for name, model in self.models.items()})
        original(self)

    monkeypatch.setattr(loop.Training, "end_epoch", spy)
    _, parameters, _ = run(tmp_path / "t", job(keep="best-sam"))
    for name, epoch in (("s3rnet-teacher", 1), ("s3rnet-student", 2)):
        assert all(torch.equal(parameters[f"{name}/{key}"], value) for key, value in states[epoch][name].items())


@pytest.mark.parametrize("schedule, share, expected", [
    ("constant", 0.7, 1.0), ("cosine", 0.0, 1.0), ("cosine", 0.5, 0.5), ("cosine", 1.0, 0.0),
    ("step:100:0.9", 0.1, 1.0), ("step:100:0.9", 0.5, 0.9**3), ("cosine:0.01", 1.0, 0.01), ("cosine:0.2", 0.5, 0.6),
    ("multistep:20,300:0.1", 0.03, 1.0), ("multistep:20,300:0.1", 0.04, 0.1), ("multistep:20,300:0.1", 0.5, 0.01),
])
def test_schedules(schedule, share, expected):
    assert loop.rate(schedule, share, epochs=600) == pytest.approx(expected)


def test_an_unknown_schedule_and_a_crop_that_does_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="choices: constant"):
        loop.rate("linear", 0.5, 600)
    with pytest.raises(PlanError, match=r"crops 64.*--crop"):
        run(tmp_path / "t", job(crop=64))


def test_random_draws_inside_a_network_go_on_where_they_were(tmp_path, monkeypatch):
    """Dropout in forward: the generator's state is part of the checkpoint."""
    forward, calls = HOKD.forward, []

    def dropping(self, batch):
        calls.append(1)
        if len(calls) == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        draw = torch.rand(())
        terms = forward(self, batch)
        return terms | {"loss": terms["loss"] * (0.5 + draw)}

    monkeypatch.setattr(HOKD, "forward", dropping)
    stop = 0
    _, whole, _ = run(tmp_path / "whole", job())
    calls.clear()
    stop = 3
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", job())
    torch.rand(7)
    _, parts, _ = run(tmp_path / "parts", job())
    assert same(whole, parts)


def test_gradients_that_are_not_finite_stop_before_the_parameters_change(tmp_path, monkeypatch):
    forward, calls = HOKD.forward, []

    def breaking(self, batch):
        calls.append(1)
        terms = forward(self, batch)
        if len(calls) == 6:  # the last step: a finite term, 0, with an infinite slope
            terms["loss"] = terms["loss"] + (next(self.parameters()) * 0).sum().abs().sqrt()
        return terms

    monkeypatch.setattr(HOKD, "forward", breaking)
    with pytest.raises(loop.TrainingError, match=r"gradients are (nan|inf) at step 5, although the loss is .*--lr"):
        run(tmp_path / "t", job())
    assert not (tmp_path / "t/model.safetensors").exists()


def test_parameters_that_are_not_finite_are_neither_saved_nor_kept(tmp_path, monkeypatch):
    training = loop.Training(job(), Fabric(accelerator="cpu", devices=1))
    training.begin_stage()
    training.step()
    next(training.task.parameters()).data[0] = math.nan
    for refused in (training.state, training.parameters):
        with pytest.raises(loop.TrainingError, match="not finite after step 1"):
            refused()


def test_a_task_without_a_loss_of_its_network_leaves_no_parameters(tmp_path, monkeypatch):
    forward = HOKD.forward
    monkeypatch.setattr(HOKD, "forward", lambda self, batch: {"loss": forward(self, batch)["loss"]})
    with pytest.raises(loop.TrainingError, match="gave no term 's3rnet-teacher/loss'"):
        run(tmp_path / "t", job())
    assert not (tmp_path / "t/model.safetensors").exists()


def test_clipping_bounds_the_gradient_of_a_step(monkeypatch):
    norms = {}
    for clip in (None, 0.01):
        training = loop.Training(job(clip=clip), Fabric(accelerator="cpu", devices=1))
        training.begin_stage()
        training.step()
        norms[clip] = torch.nn.utils.get_total_norm([p.grad for p in training.task.parameters() if p.grad is not None]).item()
    assert norms[0.01] == pytest.approx(0.01, rel=1e-3) and norms[None] > 0.02


def test_the_moving_average_is_what_is_kept(tmp_path):
    decay, states = 0.8, []
    training = loop.Training(job(ema=decay, steps=3), Fabric(accelerator="cpu", devices=1))
    for _ in training.run():
        states.append({name: {key: value.detach().clone() for key, value in model.named_parameters()}
                       for name, model in training.models.items()})
        kept = training.parameters() if len(states) == 3 else None
    first, second, third = states
    for name, parameters in first.items():
        for key, value in parameters.items():
            expected = decay * (decay * value + (1 - decay) * second[name][key]) + (1 - decay) * third[name][key]
            assert torch.allclose(kept[f"{name}/{key}"], expected, atol=1e-7)
    _, whole, _ = run(tmp_path / "t", job(ema=decay, steps=3))
    assert same(whole, kept)


def test_incomplete_batches_are_left_out_where_the_recipe_says_so():
    of = job(batch=2)
    recipe = dataclasses.replace(of.study.stages_of(of.method)[0], drop_last=True)
    crops = Crops(of, recipe)
    crops.entries = ["a", "b", "c", "d", "e"]
    assert crops.epoch_steps == 2 and [crops.batch_of(step) for step in range(3)] == [[0, 1], [2, 3], [5, 6]]
    crops.recipe = dataclasses.replace(recipe, drop_last=False)
    assert crops.epoch_steps == 3 and [crops.batch_of(step) for step in range(3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(PlanError, match="no batch is complete"):
        Crops(job(), dataclasses.replace(recipe, batch=3))


def test_every_group_s_rate_is_logged_under_the_name_of_its_part(monkeypatch):
    groups = HOKD.parameter_groups

    def apart(self):
        teacher, student = groups(self)
        head, *rest = student["params"]
        return [{"params": [head], "name": f"{student['name']}/head", "lr": 0.5, "schedule": "constant"}, teacher,
                student | {"params": rest}]

    monkeypatch.setattr(HOKD, "parameter_groups", apart)
    training = loop.Training(job(schedule="constant"), Fabric(accelerator="cpu", devices=1))
    training.begin_stage()
    training.step()
    assert training.rates("s3rnet-student") == {"lr_head": 0.5, "lr": 1e-3}
    assert training.rates("s3rnet-teacher") == {"lr": 1e-3}


def test_a_network_told_varied_sensors_resumes_and_scores_any_msi(tmp_path):
    of = Study("v", "v", ("subspace-net",), "synthetic", {"size": 64, "train": 2, "val": 1, "test": 1}, msi_bands=(4, 6),
               protocol=dataclasses.replace(STUDY.protocol, hr_size=64),
               arguments={"subspace-net": {"width": 4, "stages": 1, "components": 3}},
               training={"steps": 3, "crop": 48, "log_every": 3})
    jobs = [each for each in plan(of, "cpu") if each.kind != "cost"]
    assert execute(jobs, tmp_path, Here(tmp_path, Fabric(accelerator="cpu", devices=1))) == []
    assert [each.msi_bands for each in jobs] == [0, 4, 6]
    held = weights.about("subspace-net", str(store.folder(tmp_path, jobs[0])))
    assert held.bands == held.msi_bands == held.ratio == 0 and held.key == jobs[0].key

    straight = loop.Training(jobs[0], Fabric(accelerator="cpu", devices=1))
    for _ in straight.run():
        pass
    cut = loop.Training(jobs[0], Fabric(accelerator="cpu", devices=1))
    next(cut.run())
    again = loop.Training(jobs[0], Fabric(accelerator="cpu", devices=1))
    again.restore(cut.state())
    for _ in again.run():
        pass
    assert same(straight.parameters(), again.parameters())


def test_the_learning_rate_is_the_one_of_the_trials_with_the_best_validation(tmp_path):
    _, _, curve = run(tmp_path / "t", job(lr_range=(1e-6, 1.0, 1e9), steps=40, schedule="constant"))
    trials = curve[curve["quantity"].str.startswith("val_psnr_db_at_lr_")]
    assert set(trials["quantity"]) == {f"val_psnr_db_at_lr_{lr}" for lr in ("1e-09", "0.001", "1e+06")}
    assert set(trials["epoch"]) == {0} and set(trials["step"]) <= {1, 2} and set(trials["method"]) == {
        "s3rnet-teacher", "s3rnet-student"}
    score = trials.groupby("quantity")["value"].sum(min_count=2)
    best = float(score.idxmax().rpartition("_")[2])
    assert curve.loc[curve["quantity"] == "lr", "value"].tolist() == pytest.approx([best] * 40)
    # the trials leave no trace: a training whose rate that is from the start gives the same bytes
    alone = run(tmp_path / "u", job(steps=40, schedule="constant", lr=best))[1]
    assert same(run(tmp_path / "v", job(lr_range=(1e-6, 1.0, 1e9), steps=40, schedule="constant"))[1], alone)


def test_a_resumed_training_keeps_the_learning_rate_it_has_chosen():
    of = job(lr_range=(1e-6, 10.0), steps=4, schedule="constant")
    first = loop.Training(of, Fabric(accelerator="cpu", devices=1))
    next(first.run())
    again = loop.Training(of, Fabric(accelerator="cpu", devices=1))
    again.restore(copy.deepcopy(first.state()))
    assert again.progress.factor == first.progress.factor != 0
    assert again.optimizer.param_groups[0]["initial_lr"] == first.optimizer.param_groups[0]["initial_lr"]
    for training in (first, again):
        list(training.run())
    assert same(first.parameters(), again.parameters())


def test_minutes_on_a_cpu_are_those_of_its_processor(monkeypatch):
    clocks = {"processor": 0.0, "wall": 0.0}
    monkeypatch.setattr(loop.time, "process_time", lambda: clocks["processor"])
    monkeypatch.setattr(loop.time, "monotonic", lambda: clocks["wall"])
    of = job(minutes=0.1, steps=None)
    training = loop.Training(of, Fabric(accelerator="cpu", devices=1))
    forward = HOKD.forward

    def busy(self, batch):
        clocks["processor"], clocks["wall"] = clocks["processor"] + 1.5, clocks["wall"] + 100.0
        return forward(self, batch)

    monkeypatch.setattr(HOKD, "forward", busy)
    assert len(list(training.run())) == 4 and training.progress.seconds == 6.0


def test_best_on_test_looks_at_the_held_out_images_and_says_so(tmp_path):
    name = "s3rnet-student@recipe=alone,keep=best-on-test"
    study = dataclasses.replace(STUDY, methods=("s3rnet-student", name), training=STUDY.training | {"lr": 1e-1, "steps": 8})
    of, plain = (next(each for each in plan(dataclasses.replace(study, methods=(label,)), "cpu") if each.kind == "train")
                 for label in (name, "s3rnet-student@recipe=alone,keep=best-psnr"))
    assert of.inputs["kept_on"] == ["test"] and "kept_on" not in plain.inputs and of.key != plain.key
    assert study.is_oracle(name) and not study.is_oracle("s3rnet-student")
    training = loop.Training(of, Fabric(accelerator="cpu", devices=1))
    scene = next(iter(study.data.load("test")))
    assert len(training.validation) == 1 and torch.equal(training.validation[0][2], study.protocol.reference(scene).cube)
    list(training.run())
    logged = [row["value"] for row in training.progress.curve if row["quantity"] == "val_psnr_db"]
    assert -training.progress.best["s3rnet-student"][0] == max(logged)
    with pytest.raises(MethodError, match="keep=best; choices: last, best-sam, best-psnr, best-on-test"):
        plan(dataclasses.replace(study, methods=("s3rnet-student@keep=best",)), "cpu")
