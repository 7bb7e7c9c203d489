"""Results folders as a whole: every kind of damage is found, and merging takes, folds or refuses."""

import dataclasses
import json
import math
import shutil

import pytest
from lightning_fabric import Fabric

from benchmark import checkpoints, measurements, store
from benchmark.engines import Here
from benchmark.execute import execute
from benchmark.folders import counted, merge, verify
from benchmark.plan import PlanError, plan
from benchmark.progress import lines, outlook, stands
from benchmark.protocol import CLEAN
from benchmark.studies import STUDIES

QUICK = STUDIES["quick"]
NAMES = ("s3rnet-teacher", "s3rnet-student")
STUDY = dataclasses.replace(
    QUICK, methods=("bicubic", "gsa", "s3rnet-student"), msi_bands=(4,), scenarios=(CLEAN,), cost_lr_size=4,
    dataset_options={"size": 32, "train": 2, "val": 1, "test": 2}, protocol=dataclasses.replace(QUICK.protocol, hr_size=32),
    training={"steps": 2, "batch": 1, "crop": 16}, arguments={name: {"width": 4, "depths": (1, 1, 1, 1)} for name in NAMES})


@pytest.fixture(scope="module")
def jobs():
    return [job for job in plan(STUDY, "cpu") if job.kind != "cost"]


@pytest.fixture(scope="module")
def measured(jobs, tmp_path_factory):
    root = tmp_path_factory.mktemp("measured") / "results"
    assert execute(jobs, root, Here(root, Fabric(accelerator="cpu", devices=1))) == []
    return root


@pytest.fixture
def root(measured, tmp_path):
    return shutil.copytree(measured, tmp_path / "results")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 0xFF  # of a parameter
    path.write_bytes(content)


def record(change):
    def edit(place):
        words = json.loads((place / "job.json").read_text())
        change(words)
        (place / "job.json").write_text(json.dumps(words))
    return edit


def twice(place):
    content = (place / "rows.csv").read_text()
    (place / "rows.csv").write_text(content + content.splitlines()[1] + "\n")


DAMAGE = {
    "job.json empty": ("gsa", lambda place: (place / "job.json").write_text(""), "job.json: cannot be read"),
    "job.json a list": ("gsa", lambda place: (place / "job.json").write_text("[]"), "does not hold what a job writes"),
    "job.json gone": ("gsa", lambda place: (place / "job.json").unlink(), "without a job.json"),
    "another input": ("gsa", record(lambda words: words["inputs"].update(seed=7)), "not the digest of its inputs"),
    "another's record": ("gsa", lambda place: place.rename(place.with_name("score-gsa-0123456789ab")), "job.json is that of"),
    "rows empty": ("gsa", lambda place: (place / "rows.csv").write_text(""), "rows.csv"),
    "rows binary": ("gsa", lambda place: (place / "rows.csv").write_bytes(b"\xff\xfe\x00" * 50), "rows.csv"),
    "rows a folder": ("gsa", lambda place: ((place / "rows.csv").unlink(), (place / "rows.csv").mkdir()), "no table of rows"),
    "a number garbled": ("gsa", lambda place: (place / "rows.csv").write_text(
        (place / "rows.csv").read_text().replace(",inf,", ",i.nf,", 1)), "line 2: snr_db 'i.nf' is no number"),
    "a column gone": ("gsa", lambda place: (place / "rows.csv").write_text(
        (place / "rows.csv").read_text().replace("psnr_db", "PSNR", 1)), "no column psnr_db"),
    "rows of another": ("gsa", lambda place: (place / "rows.csv").write_text(
        (place / "rows.csv").read_text().replace(place.name[-12:], "0123456789ab")), "rows of job 0123456789ab"),
    "a row twice": ("gsa", twice, "1 rows stand there twice"),
    "parameters": ("s3rnet-teacher", lambda place: flipped(place / "model.safetensors"), "damaged, the parameters of"),
    "parameters cut": ("s3rnet-teacher", lambda place: (place / "model.safetensors").write_bytes(b"x" * 99), "can be read"),
    "checkpoint": ("s3rnet-teacher", lambda place: (checkpoints.save(place, {"a": 1}, 3),
                                                    flipped(next(checkpoints.held(place)))), "bytes are not those"),
    "killed": ("gsa", lambda place: place.rename(place.with_name(place.name + store.ANEW)), "left by a process"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_named(root, damage):
    assert list(verify(root)) == []
    method, spoil, words = DAMAGE[damage]
    place = next(root.glob(f"*/*-{method}-*"))
    spoil(place)
    found = list(verify(root))
    assert len(found) == 1 and words in found[0] and method in found[0], found


def test_rows_that_lack_are_counted(root, jobs):
    assert list(counted(jobs, root)) == []
    path = next(root.glob("*/score-gsa-*/rows.csv"))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    (told,) = counted(jobs, root)
    assert "gsa" in told and "1 rows, 2 wanted" in told


def test_parameters_that_are_damaged_are_trained_again_to_the_same_rows(root, jobs):
    before = measurements.read(root, jobs, "score").set_index(["method", "image"])["psnr_db"]
    flipped(next(root.glob("*/train-*/model.safetensors")))
    next(root.glob("*/score-s3rnet-student-*/rows.csv")).unlink()
    assert execute(jobs, root, Here(root, Fabric(accelerator="cpu", devices=1))) == []
    assert measurements.read(root, jobs, "score").set_index(["method", "image"])["psnr_db"].equals(before)
    assert list(verify(root)) == []


def test_merging_takes_what_lacks_folds_what_is_equal_and_refuses_what_differs(root, measured, tmp_path):
    for place in root.glob("*/score-gsa-*"):
        shutil.rmtree(place)
    path = next(root.glob("*/score-bicubic-*/rows.csv"))
    next(root.glob("*/train-*/model.safetensors")).unlink()
    told = dict.fromkeys(("taken", "equal", "differs", "damaged"), 0)
    for word, _ in merge([measured], root):
        told[word] += 1
    assert told == {"taken": 1, "equal": 3, "differs": 0, "damaged": 0} and list(verify(root)) == []
    assert list(root.glob("*/train-*/model.safetensors")) and list(root.glob("*/score-gsa-*/rows.csv"))

    frame = store.rows.read(path)
    frame.loc[0, "psnr_db"] += 0.01
    frame.to_csv(path, index=False)
    kept = path.read_bytes()
    (differs,) = [words for word, words in merge([measured], root) if word == "differs"]
    assert "psnr_db" in differs and "bicubic" in differs and path.read_bytes() == kept
    path.write_text("method\n")
    (damaged,) = [words for word, words in merge([measured], root) if word == "damaged"]
    assert str(path.parent) in damaged and "no column" in damaged and "merge again" in damaged
    with pytest.raises(store.StoreError, match="no such folder"):
        list(merge([tmp_path / "nowhere"], root))


def test_a_study_is_told_job_by_job_and_what_is_left(root, jobs):
    for place in root.glob("*/score-gsa-*"):
        shutil.rmtree(place)
    found = stands(jobs, root)
    text = "\n".join(lines(found))
    assert "missing    score gsa" in text and "3 done, 1 missing" in text and "left: 1 jobs" in text


def test_a_budget_in_minutes_is_known_before_anything_was_measured(tmp_path):
    held = STUDIES["aviris"]
    jobs = [job for job in plan(dataclasses.replace(held, methods=("mimo-sst", *NAMES)), "cpu") if job.kind == "train"]
    assert [stand.seconds for stand in stands(jobs, tmp_path)] == [20 * 60, 40 * 60]
    assert list(lines(stands(jobs, tmp_path)))[-1] == "left: 2 jobs, 1.00 h on one worker"
    by_steps = [job for job in plan(QUICK, "cpu") if job.kind == "train"]
    assert all(math.isnan(stand.seconds) for stand in stands(by_steps, tmp_path))
    assert list(lines(stands(by_steps[:1], tmp_path)))[-1] == "left: 1 jobs; nothing like 1 of them was measured yet"


def test_workers_share_the_jobs_and_wait_for_trainings(jobs, root):
    seconds = {"train": 100.0, "score": 10.0}
    found = [dataclasses.replace(stand, seconds=seconds[stand.job.kind]) for stand in stands(jobs, root)]
    one, two, many = (outlook(found, workers) for workers in (1, 2, 50))
    assert one.hours * 3600 == pytest.approx(130) and one.idle == pytest.approx(0, abs=1e-9)
    assert many.hours * 3600 == pytest.approx(110)  # the student's score waits for its training
    assert two.hours * 3600 == pytest.approx(120)  # in the order of the plan: two scores, the training, the student's score
    assert two.idle == pytest.approx(1 - 130 / 240) and one.chain * 3600 == pytest.approx(110) and "train" in one.longest
    with pytest.raises(PlanError, match="--workers 0"):
        outlook(found, 0)
