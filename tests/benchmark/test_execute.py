"""Running a plan: whose parameters a score may use, what a method cannot touch, and what is measured again."""

import dataclasses
import json
import math
import os
from collections import Counter

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file

from benchmark import execute as execution
from benchmark import measurements, metrics, refresh, rows, store
from benchmark.due import again, pending
from benchmark.engines import Here
from benchmark.evaluate import measured, seen
from benchmark.execute import keep_pictures
from benchmark.jobs import NoWeightsError, weights_of
from benchmark.keys import canonical
from benchmark.plan import Job, plan
from benchmark.progress import stands
from benchmark.protocol import CLEAN, OTHER_LR_HSI, noise
from benchmark.studies import STUDIES
from datasets import Scene
from methods import create, registry
from methods.tasks import HOKD

NAMES = ("s3rnet-teacher", "s3rnet-student")
STUDY = dataclasses.replace(
    STUDIES["quick"], methods=("bicubic", "gsa", *NAMES), msi_bands=(4,), scenarios=(CLEAN, noise("both", 30)),
    dataset_options={"size": 32, "train": 2, "val": 1, "test": 2}, cost_lr_size=4,
    protocol=dataclasses.replace(STUDIES["quick"].protocol, hr_size=32), training={"steps": 2, "batch": 1, "crop": 16},
    arguments={name: {"width": 4, "depths": (1, 1, 1, 1)} for name in NAMES},
)
FABRIC = Fabric(accelerator="cpu", devices=1)


def execute(jobs, root, fabric, **words):
    """In this process."""
    return execution.execute(jobs, root, Here(root, fabric), **words)


def jobs_of(**words):
    """A fresh plan without costs: sources are read anew."""
    return [job for job in plan(dataclasses.replace(STUDY, **words), "cpu") if job.kind != "cost"]


def table(root, jobs):
    return measurements.read(root, jobs, "score").set_index(["method", "scenario", "image"])["psnr_db"]


def scores_of(jobs, method):
    return [job for job in jobs if job.kind == "score" and job.method == method]


@pytest.fixture
def other_code(monkeypatch):
    """A function that changes a part of the code of a method, as an edit of its file would."""
    original = Job.source.func

    def change(name, part="method"):
        def source(self):
            found = original(self)
            if name in self.names and part in found:
                found = found | {part: "0" * 16}
            return found

        monkeypatch.setattr(Job, "source", property(source))

    return change


def test_weights_belong_to_the_code_that_made_them(tmp_path, other_code):
    jobs = jobs_of()
    assert execute(jobs, tmp_path, FABRIC) == []
    before = table(tmp_path, jobs)
    (lost,) = (job for job in scores_of(jobs, "s3rnet-student") if job.scenario == CLEAN)
    (store.folder(tmp_path, lost) / "rows.csv").unlink()
    other_code("s3rnet-teacher")  # the student was trained beside it
    jobs = jobs_of()
    states = {store.state(tmp_path, job) for name in NAMES for job in scores_of(jobs, name)}
    assert states == {"stale", "unfinished"}
    assert [job.label for job in execute(jobs, tmp_path, FABRIC)] == [lost.label]
    assert "its training is of other code (method changed since)" in store.failure(tmp_path, lost)[1]
    assert execute(jobs, tmp_path, FABRIC, redo_stale=True) == []
    assert {store.state(tmp_path, job) for job in jobs} == {"done"}
    assert table(tmp_path, jobs).equals(before)  # the same code in truth: the same numbers, trained again


def test_what_is_trained_again_is_scored_again(tmp_path):
    jobs = jobs_of()
    execute(jobs, tmp_path, FABRIC)
    for path in tmp_path.glob("*/train-*/model.safetensors"):  # as in a clone
        path.unlink()
    assert pending(jobs, tmp_path) == [] and again([], tmp_path) == []
    more = jobs_of(scenarios=(*STUDY.scenarios, noise("lr_hsi", 20)))
    due = pending(more, tmp_path)
    assert {job.label for job in due} == {
        job.label for job in more if job.method in NAMES or job.scenario not in STUDY.scenarios}
    (told,) = again(due, tmp_path)
    assert "parameters are not on this machine" in told and "the 4 scores there are of it" in told
    states = Counter((stand.state, stand.job.kind) for stand in stands(more, tmp_path))
    assert states == {("again", "train"): 1, ("again", "score"): 4, ("missing", "score"): 4, ("done", "score"): 4}
    assert execute(more, tmp_path, FABRIC) == []
    assert {stand.state for stand in stands(more, tmp_path)} == {"done"}


@pytest.mark.parametrize("record", ["checksums", "times alone"])
def test_a_score_of_another_training_is_stale(tmp_path, record):
    jobs = jobs_of(methods=NAMES)
    execute(jobs, tmp_path, FABRIC)
    (training,) = (job for job in jobs if job.kind == "train")
    path = store.folder(tmp_path, training) / "job.json"
    if record == "checksums":  # of the teacher alone
        words = json.loads(path.read_text())
        words["provenance"]["parameters"]["s3rnet-teacher"] = "0" * 64
        path.write_text(json.dumps(words))
    else:  # as records were once: the training began after the teacher's scores
        for job in jobs:
            place = store.folder(tmp_path, job) / "job.json"
            words = json.loads(place.read_text())
            del words["provenance"]["parameters"]
            hour = 12 if job.kind == "train" else 11 if job.method == "s3rnet-teacher" else 13
            words["provenance"]["started"] = f"2026-11-25T{hour}:00:00Z"
            place.write_text(json.dumps(words))
    changed = {(job.method, store.held(tmp_path, job).changed) for job in jobs if job.kind == "score"}
    assert changed == {("s3rnet-teacher", ("parameters",)), ("s3rnet-student", ())}
    assert set(measurements.read(tmp_path, jobs, "score").groupby("method")["stale"].first()) == {"parameters", ""}


@pytest.mark.parametrize("later", [True, False])
def test_kept_rows_of_other_parameters_are_not_gone_on_with(tmp_path, later):
    (job,) = scores_of(jobs_of(scenarios=(CLEAN,)), "s3rnet-student")
    place, training = store.begin(tmp_path, job), store.begin(tmp_path, job.training)
    store.keep(place, [{"method": "s3rnet-student", "image": "x", "psnr_db": 1.0}])
    (training / "model.safetensors").touch()
    os.utime(training / "model.safetensors", (kept := (place / "rows.kept.csv").stat().st_mtime + (9 if later else -9), kept))
    store.begin(tmp_path, job)
    assert len(store.kept(place)) == (0 if later else 1)


def test_refresh_marks_scores_of_equal_parameters(tmp_path):
    jobs = jobs_of(methods=NAMES, scenarios=(CLEAN,))
    execute(jobs, tmp_path, FABRIC)
    for job in jobs:
        if job.kind == "score":
            path = store.folder(tmp_path, job) / "job.json"
            words = json.loads(path.read_text())
            words["provenance"]["parameters"] = {job.method: "0" * 64}
            path.write_text(json.dumps(words))
    assert {store.state(tmp_path, job) for job in jobs if job.kind == "score"} == {"stale"}
    assert [fresh for _, fresh, _ in refresh.refresh(jobs, tmp_path, FABRIC)] == [True, True]
    assert {store.state(tmp_path, job) for job in jobs} == {"done"}


def test_a_training_that_fails_is_never_scored(tmp_path, monkeypatch):
    forward = HOKD.forward
    monkeypatch.setattr(HOKD, "forward", lambda self, batch: {"loss": forward(self, batch)["loss"]})
    jobs = jobs_of(methods=NAMES, scenarios=(CLEAN,))
    assert len(execute(jobs, tmp_path, FABRIC)) == 3
    assert measurements.read(tmp_path, jobs, "score").empty
    assert "its training is failed" in store.failure(tmp_path, scores_of(jobs, "s3rnet-student")[0])[1]


def test_parameters_alone_are_no_training(tmp_path):
    (job,) = scores_of(jobs_of(scenarios=(CLEAN,)), "s3rnet-student")
    place = store.begin(tmp_path, job.training)
    save_file({"x": torch.ones(1)}, place / "model.safetensors")
    with pytest.raises(NoWeightsError, match="its training is unfinished"):
        weights_of(job, tmp_path)


def test_a_method_cannot_touch_what_the_next_one_sees(tmp_path, monkeypatch):
    class Vandal:
        def __call__(self, lr_hsi, hr_msi):
            lr_hsi.zero_()
            hr_msi.zero_()
            torch.set_num_threads(7)
            torch.set_default_dtype(torch.float64)
            torch.manual_seed(5)
            return torch.zeros(1, lr_hsi.shape[1], *hr_msi.shape[2:])

    jobs = jobs_of(methods=("bicubic",))
    execute(jobs, tmp_path / "alone", FABRIC)
    monkeypatch.setitem(registry._METHODS, "gsa", dataclasses.replace(registry.card("gsa"), build=lambda: Vandal()))
    both = jobs_of(methods=("gsa", "bicubic"))
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    execute(both, tmp_path / "after", FABRIC)
    assert torch.get_num_threads() == threads and torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), state)
    assert table(tmp_path / "after", scores_of(both, "bicubic")).equals(table(tmp_path / "alone", jobs))


def test_an_oracle_cannot_touch_the_reference():
    class Oracle:
        oracle = True
        card = dataclasses.replace(registry.card("bicubic"), oracle=True)

        def __call__(self, lr_hsi, hr_msi, reference):
            return reference.mul_(0)

    scene = STUDY.data.scene("test_0")
    reference, seen = STUDY.protocol.look(scene, 4)
    before = reference.cube.clone()
    values, _ = measured(Oracle(), reference, seen, 4, torch.device("cpu"))
    assert torch.equal(reference.cube, before) and values["psnr_db"] < 20


def test_a_band_that_is_constant_in_the_reference_leaves_the_scores():
    generator = torch.Generator().manual_seed(0)
    cube = torch.rand(6, 32, 32, generator=generator)
    cube[2] = 0.5
    reference = Scene("s", cube, torch.linspace(460, 890, 6).numpy(), 0.0, 10.0)
    rows_of_four = tuple(tuple(float(i == j) for j in range(6)) for i in range(4))
    protocol = dataclasses.replace(STUDY.protocol, bands="all", srf=rows_of_four)
    _, seen = protocol.look(reference, 4)
    model = create("bicubic", bands=6, msi_bands=4)
    values, _ = measured(model, reference, seen, 4, torch.device("cpu"))
    estimate = registry.fuse(model, seen.lr_hsi[None], seen.hr_msi[None])[0]
    others = [0, 1, 3, 4, 5]
    by_hand = [10 * math.log10(cube[b].max() ** 2 / (estimate[b] - cube[b]).double().square().mean()) for b in others]
    assert values["psnr_db"] == pytest.approx(sum(by_hand) / 5, abs=1e-5)
    assert metrics.psnr(estimate, cube).item() > values["psnr_db"] + 5  # what it would lift the mean by


def test_rescoring_measures_a_new_metric_and_trains_nothing(tmp_path, monkeypatch):
    jobs = jobs_of()
    execute(jobs, tmp_path, FABRIC)
    trained = {path: path.read_bytes() for path in tmp_path.glob("*/train-*/*") if path.is_file()}
    before = table(tmp_path, jobs)
    worst = metrics.Metric("Worst", lambda estimate, reference: (estimate - reference).abs().amax((-3, -2, -1)), "lower", "", 4)
    monkeypatch.setitem(metrics.METRICS, "worst", worst)
    jobs = jobs_of()
    assert {store.state(tmp_path, job) for job in jobs} == {"done"} and pending(jobs, tmp_path) == []
    assert execute(jobs, tmp_path, FABRIC, rescore=True) == []
    assert not measurements.read(tmp_path, jobs, "score")["worst"].isna().any() and table(tmp_path, jobs).equals(before)
    assert trained == {path: path.read_bytes() for path in tmp_path.glob("*/train-*/*") if path.is_file()}
    for path in tmp_path.glob("*/train-*/model.safetensors"):
        path.unlink()
    failed = execute(jobs, tmp_path, FABRIC, rescore=True)
    assert {job.method for job in failed} == set(NAMES)
    assert "not on this machine" in store.failure(tmp_path, failed[0])[1]
    assert table(tmp_path, jobs).equals(before)  # rows that cannot be measured again stay


def test_refresh_marks_what_is_equal_and_nothing_else(tmp_path, other_code):
    jobs = jobs_of()
    execute(jobs, tmp_path, FABRIC)
    wrong = store.folder(tmp_path, scores_of(jobs, "gsa")[0]) / "rows.csv"
    (first, *rest) = rows.read(wrong).to_dict("records")
    rows.write(wrong, [first | {"psnr_db": first["psnr_db"] + 1e-4}, *rest])
    other_code("gsa")
    verdicts = {job.label: (fresh, words) for job, fresh, words in refresh.refresh(jobs_of(), tmp_path, FABRIC)}
    assert [fresh for fresh, _ in verdicts.values()] == [False, True]
    assert "NOT equal: psnr_db" in next(iter(verdicts.values()))[1]
    states = [store.state(tmp_path, job) for job in scores_of(jobs_of(), "gsa")]
    assert states == ["stale", "done"]
    words = json.loads((store.folder(tmp_path, scores_of(jobs, "gsa")[1]) / "job.json").read_text())
    assert words["refreshed"][0]["parts"] == ["method"] and "image test_" in words["refreshed"][0]["evidence"]


def test_refresh_marks_no_cost_since_its_time_is_what_changes(tmp_path, other_code):
    def costs():
        return [job for job in plan(dataclasses.replace(STUDY, methods=("gsa",)), "cpu") if job.kind == "cost"]

    execute(costs(), tmp_path, FABRIC)
    other_code("gsa")
    (fresh, words), = ((fresh, words) for _, fresh, words in refresh.refresh(costs(), tmp_path, FABRIC))
    assert not fresh and "--redo-stale" in words and store.state(tmp_path, costs()[0]) == "stale"


def test_refresh_repeats_a_training_to_its_first_epoch(tmp_path, other_code):
    jobs = jobs_of(training={"steps": 4, "batch": 1, "crop": 16, "log_every": 2}, scenarios=(CLEAN,))
    execute(jobs, tmp_path, FABRIC)
    other_code("s3rnet-teacher")
    again = jobs_of(training={"steps": 4, "batch": 1, "crop": 16, "log_every": 2}, scenarios=(CLEAN,))
    found = {job.kind: words for job, fresh, words in refresh.refresh(again, tmp_path, FABRIC) if fresh}
    assert "2 steps of training measured again: equal" in found["train"] and "image test_0" in found["score"]
    assert {store.state(tmp_path, job) for job in again} == {"done"}


def test_a_training_of_another_processor_is_not_repeated_here(tmp_path, monkeypatch):
    """It rounds otherwise: what differs would be the processor's, and would speak against everything around it."""
    def planned(methods):
        return jobs_of(training={"steps": 4, "batch": 1, "crop": 16, "log_every": 2}, scenarios=(CLEAN,), methods=methods)

    execute(planned(("bicubic", "gsa", *NAMES)), tmp_path, FABRIC)
    (path,) = tmp_path.glob("*/train-*/job.json")
    words = json.loads(path.read_text())
    words["provenance"]["device"] = "cpu (Another, 1 threads)"
    path.write_text(json.dumps(words))
    original = Job.source.func
    monkeypatch.setattr(Job, "source", property(lambda self: original(self) | {"data": "0" * 16}))
    monkeypatch.setattr(refresh, "trained_again", lambda *_: pytest.fail("measured again"))
    training = next(job for job in planned(NAMES) if job.kind == "train")
    (_, fresh, why), = refresh.refresh([training], tmp_path, FABRIC)
    assert not fresh and "cannot be measured here" in why
    assert all(fresh for _, fresh, _ in refresh.refresh(planned(("bicubic", "gsa")), tmp_path, FABRIC))
    assert all(fresh for job, fresh, _ in refresh.refresh(planned(NAMES), tmp_path, FABRIC) if job.kind == "train")


def test_a_score_that_another_processor_rounds_otherwise_says_nothing(tmp_path, monkeypatch):
    jobs = jobs_of(methods=("bicubic", "gsa", "cnmf"), scenarios=(CLEAN,))
    execute(jobs, tmp_path, FABRIC)
    place = store.folder(tmp_path, scores_of(jobs, "cnmf")[0])
    words = json.loads((place / "job.json").read_text())
    (place / "job.json").write_text(json.dumps(words | {"provenance": words["provenance"] | {"device": "cpu (Another)"}}))
    (first, *rest) = rows.read(place / "rows.csv").to_dict("records")
    rows.write(place / "rows.csv", [first | {"psnr_db": first["psnr_db"] + 1e-4}, *rest])
    original = Job.source.func
    monkeypatch.setattr(Job, "source", property(lambda self: original(self) | {"data": "0" * 16}))
    found = {job.method: (fresh, words) for job, fresh, words in refresh.refresh(jobs, tmp_path, FABRIC)}
    assert all(fresh for fresh, _ in found.values()) and len(found) == 3
    assert "around it measured again: score" in found["cnmf"][1] and "image" in found["gsa"][1]


def test_refresh_without_parameters_needs_two_others_of_the_same_cell(tmp_path, other_code, monkeypatch):
    jobs = jobs_of(scenarios=(CLEAN,))
    execute(jobs, tmp_path, FABRIC)
    for path in tmp_path.glob("*/train-*/model.safetensors"):
        path.unlink()
    original = Job.source.func
    moved = dict.fromkeys(refresh.HARNESS, "0" * 16)
    monkeypatch.setattr(Job, "source", property(lambda self: original(self) | (moved if self.kind == "score" else {})))

    def refreshed(*methods):
        few = [job for job in jobs_of(scenarios=(CLEAN,)) if job.method in methods]
        return {job.method: (fresh, words) for job, fresh, words in refresh.refresh(few, tmp_path, FABRIC)}

    found = refreshed("bicubic", *NAMES)
    assert [fresh for fresh, _ in found.values()] == [True, False, False]
    assert "1 others were" in found["s3rnet-teacher"][1]
    found = refreshed("bicubic", "gsa", *NAMES)  # bicubic was measured again above
    assert all(fresh for fresh, _ in found.values())
    assert "around it measured again: score bicubic" in found["s3rnet-student"][1] and "score gsa" in found["s3rnet-student"][1]


def test_one_witness_that_differs_marks_nobody_else(tmp_path, monkeypatch):
    methods = ("bicubic", "gsa", "cnmf", "hysure", *NAMES)
    jobs = jobs_of(methods=methods, scenarios=(CLEAN,))
    execute(jobs, tmp_path, FABRIC)
    for path in tmp_path.glob("*/train-*/model.safetensors"):
        path.unlink()
    path = store.folder(tmp_path, scores_of(jobs, "gsa")[0]) / "rows.csv"
    rows.write(path, [row | {"sam_deg": row["sam_deg"] + 1e-3} for row in rows.read(path).to_dict("records")])
    original = Job.source.func
    moved = {"protocol": "0" * 16}
    monkeypatch.setattr(Job, "source", property(lambda self: original(self) | (moved if self.kind == "score" else {})))
    again = jobs_of(methods=methods, scenarios=(CLEAN,))
    found = {job.method: (fresh, words) for job, fresh, words in refresh.refresh(again, tmp_path, FABRIC)}
    assert {name for name, (fresh, _) in found.items() if fresh} == {"cnmf", "hysure", "bicubic"}  # measured, each of them
    assert all("NOT equal: score gsa" in found[name][1] for name in NAMES)


def test_evidence_that_others_gave_is_no_evidence_for_others(tmp_path, monkeypatch):
    """A job that others stood for, and one measured before a later change, say nothing of that change."""
    measured = {"parts": ["data", "protocol"], "evidence": "image a measured again: equal, largest difference 0"}
    stood = {"parts": ["data"], "evidence": "its own code is unchanged; around it measured again: score gsa, equal"}
    assert refresh.latest_measured({"refreshed": [measured]}) == {"data", "protocol"}
    assert refresh.latest_measured({"refreshed": [measured, stood]}) == {"protocol"}
    assert refresh.latest_measured({"refreshed": [stood, measured]}) == {"data", "protocol"}
    (job,) = scores_of(jobs_of(scenarios=(CLEAN,)), "gsa")
    inputs = json.loads(canonical(job.inputs))
    other = refresh.Measured("x", inputs, job.source, frozenset({"data"}))
    assert refresh.says(other, job, "data") and not refresh.says(other, job, "protocol")
    assert not refresh.says(dataclasses.replace(other, source={"data": "another"}), job, "data")
    assert not refresh.says(dataclasses.replace(other, inputs=inputs | {"split": "another"}), job, "data")


def test_weights_of_another_seed_are_other_weights(tmp_path):
    jobs = jobs_of(methods=NAMES, scenarios=(CLEAN,), seeds=(0, 1))
    execute(jobs, tmp_path, FABRIC)
    first, second = (load_file(store.folder(tmp_path, job) / "model.safetensors") for job in jobs if job.kind == "train")
    assert any(not torch.equal(first[key], second[key]) for key in first)


def test_pictures_are_kept_once_and_hold_what_was_fused(tmp_path):
    jobs = jobs_of()
    execute(jobs, tmp_path, FABRIC)
    assert measurements.estimates(tmp_path, jobs) == {}
    assert keep_pictures(jobs, tmp_path, FABRIC) == []
    found = measurements.estimates(tmp_path, jobs)
    assert set(found) == {(name, 4, "test") for name in STUDY.methods}
    reference, given = STUDY.protocol.look(STUDY.data.scene("test_0"), 4)
    fused = registry.fuse(create("bicubic", bands=172, msi_bands=4), given.lr_hsi[None], given.hr_msi[None])[0]
    held = np.load(found["bicubic", 4, "test"])
    assert str(held["image"]) == "test_0" and held["cube"].dtype == np.float16
    assert np.abs(held["cube"] - fused.numpy()).max() < 1e-3 and (held["wavelengths"] == reference.wavelengths).all()
    beside = np.load(found["bicubic", 4, "test"].with_name("reference.npz"))
    assert np.abs(beside["cube"] - reference.cube.numpy()).max() < 1e-3
    stamps = {path: path.stat().st_mtime_ns for path in found.values()}
    for path in tmp_path.glob("*/train-*/model.safetensors"):
        path.unlink()
    found["s3rnet-student", 4, "test"].unlink()
    (told,) = keep_pictures(jobs, tmp_path, FABRIC)
    assert "s3rnet-student" in told and "not on this machine" in told
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items() if path.exists())


def test_the_lr_hsi_of_another_scene_replaces_it_and_nothing_else():
    (job, other) = (job for job in jobs_of(methods=("gsa",), scenarios=(CLEAN, OTHER_LR_HSI)) if job.kind == "score")
    (reference, plain), (same, swapped) = seen(job, "test_0"), seen(other, "test_0")
    assert torch.equal(reference.cube, same.cube) and torch.equal(plain.hr_msi, swapped.hr_msi)
    assert torch.equal(swapped.lr_hsi, seen(job, "test_1")[1].lr_hsi)
    first = STUDY.protocol.look(STUDY.data.scene("train_0"), 4)[1]  # behind the last image of the split
    assert torch.equal(seen(other, "test_1")[1].lr_hsi, first.lr_hsi)
    assert job.key != other.key
