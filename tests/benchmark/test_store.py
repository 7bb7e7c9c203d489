"""A results folder: what counts as done, stale or damaged, and that what is wrong with one cell stays its own."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

import run_benchmark
from benchmark import checkpoints, measurements, rows, store
from benchmark.metrics import METRICS
from benchmark.page import plots
from benchmark.plan import plan
from benchmark.protocol import CLEAN
from benchmark.studies import STUDIES

STUDY = dataclasses.replace(STUDIES["quick"], name="tiny", methods=("bicubic", "gsa"), msi_bands=(4,), scenarios=(CLEAN,),
                            dataset_options={"size": 32, "train": 1, "val": 1, "test": 2}, cost_lr_size=4,
                            protocol=dataclasses.replace(STUDIES["quick"].protocol, hr_size=32))


def commands(root):
    """A function that gives a command on the tiny study, in a folder."""
    def command(name, *words):
        here = ["--engine", "here"] if name == "run" else []
        return run_benchmark.main([name, "--profile", "tiny", "--device", "cpu", *here, "--results", str(root / "results"),
                                   "--reports", str(root / "reports"), *words])

    return command


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The tiny study, measured once, figures as PNG alone: PDFs are a quarter of the time of a page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STUDIES, "tiny", STUDY)
        patch.setattr(plots, "KINDS", ("png",))
        root = tmp_path_factory.mktemp("once")
        assert commands(root)("run") == 0
        yield root


@pytest.fixture
def measured(once, tmp_path):
    """A copy of the tiny study as it was measured; a function that gives a command on it."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    return commands(tmp_path)


def cell(root, method="gsa"):
    (job,) = (job for job in plan(dataclasses.replace(STUDY), "cpu") if job.kind == "score" and job.method == method)
    return job, store.folder(root / "results", job)


def row(**words):
    return dict.fromkeys((*rows.SCORE, *METRICS), 1) | words


def without(path, column):
    rows.read(path).drop(columns=column).to_csv(path, index=False)


DAMAGE = {
    "an empty job.json": lambda place: (place / "job.json").write_text(""),
    "a list in job.json": lambda place: (place / "job.json").write_text("[]"),
    "half a job.json": lambda place: (place / "job.json").write_text((place / "job.json").read_text()[:200]),
    "bytes in job.json": lambda place: (place / "job.json").write_bytes(b"\xff\xfe\x00"),
    "no job.json": lambda place: (place / "job.json").unlink(),
    "an empty rows.csv": lambda place: (place / "rows.csv").write_text(""),
    "bytes in rows.csv": lambda place: (place / "rows.csv").write_bytes(b"\x89PNG\x00\xff"),
    "half a rows.csv": lambda place: (place / "rows.csv").write_text((place / "rows.csv").read_text()[:-30]),
    "a garbled number": lambda place: (place / "rows.csv").write_text(
        re.sub(r",(\d)(\d*\.)", r",\1x\2", (place / "rows.csv").read_text(), count=1)),
    "a line with a cell more": lambda place: (place / "rows.csv").write_text((place / "rows.csv").read_text()[:-1] + ",1\n"),
    "no column of identity": lambda place: without(place / "rows.csv", "msi_bands"),
    "no column of a metric": lambda place: without(place / "rows.csv", "psnr_db"),
    "no status": lambda place: without(place / "rows.csv", "status"),
    "an empty kept file": lambda place: (os.replace(place / "rows.csv", place / "rows.kept.csv"),
                                         (place / "rows.kept.csv").write_text("")),
    "only a folder": lambda place: [path.unlink() for path in place.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cell_is_measured_anew_and_blocks_nothing(measured, tmp_path, damage, capsys):
    job, place = cell(tmp_path)
    before = rows.read(place / "rows.csv").drop(columns="seconds")
    damage(place)
    for command in (["report"], ["run", "--dry-run"]):
        assert measured(*command) == 0
    assert "Traceback" not in capsys.readouterr().err
    assert store.state(tmp_path / "results", dataclasses.replace(job)) in ("damaged", "unfinished")
    assert measured("run") == 0
    assert rows.read(place / "rows.csv").drop(columns="seconds").equals(before)


def test_a_doubled_line_counts_once(measured, tmp_path, capsys):
    _, place = cell(tmp_path)
    lines = (place / "rows.csv").read_text().splitlines(keepends=True)
    page = (tmp_path / "reports/tiny/index.html").read_text()
    (place / "rows.csv").write_text("".join([*lines, lines[-1]]))
    assert measured("report") == 0
    assert (tmp_path / "reports/tiny/index.html").read_text() == page


def test_parts_of_the_code_that_changed_are_told_and_a_new_metric_is_none(measured, tmp_path, monkeypatch):
    root = tmp_path / "results"
    job, place = cell(tmp_path)
    words = json.loads((place / "job.json").read_text())
    assert words["source"] == job.source and store.state(root, job) == "done"
    del words["source"]["metric ssim"]  # as rows of the time before there was one
    words["source"]["scoring"] = "0" * 16
    (place / "job.json").write_text(json.dumps(words))
    assert store.held(root, job).changed == ("scoring",)
    assert set(measurements.read(root, [job], "score")["stale"]) == {"scoring"}
    words["source"] |= {"scoring": job.source["scoring"], "metric psnr_db": "0" * 16}
    (place / "job.json").write_text(json.dumps(words))
    assert store.held(root, job).changed == ("metric psnr_db",)


def test_a_cell_has_the_name_that_the_plan_at_hand_gives_it(tmp_path):
    job, _ = cell(tmp_path)
    store.finish(store.begin(tmp_path / "results", job), [row(method="another spelling")], {})
    assert set(measurements.read(tmp_path / "results", [job], "score")["method"]) == {"gsa"}
    training = dataclasses.replace(job, kind="train", methods=("s3rnet-teacher", "s3rnet-student@fusion=sum"))
    frame = pd.DataFrame({"method": ["s3rnet-teacher", "s3rnet-student"]})
    assert measurements._named(frame, training)["method"].tolist() == list(training.methods)


def test_what_is_measured_anew_takes_its_place_when_it_is_complete(measured, tmp_path):
    root = tmp_path / "results"
    job, place = cell(tmp_path)
    old = (place / "rows.csv").read_text()
    anew = store.begin(root, job, anew=True)
    assert anew != place and (place / "rows.csv").read_text() == old and store.state(root, job) == "done"
    store.finish(anew, [row(method="gsa", image="x")], {})
    assert store.state(root, job) == "done" and "x" in (place / "rows.csv").read_text() and not anew.exists()


def test_a_kill_between_the_two_moves_costs_nothing(measured, tmp_path):
    root = tmp_path / "results"
    job, place = cell(tmp_path)
    rows_there = measurements.read(root, [job], "score")
    place.rename(place.with_name(place.name + store.ANEW))  # the old ones are put aside, the new ones not yet in place
    assert store.state(root, job) == "done" and measurements.read(root, [job], "score").equals(rows_there)


def test_a_failure_of_what_is_measured_anew_costs_no_row(measured, tmp_path):
    root = tmp_path / "results"
    job, place = cell(tmp_path)
    store.fail(store.begin(root, job, anew=True), ValueError("broken"))
    assert store.failure(root, job) == ("method", "ValueError: broken")
    assert store.state(root, job) == "done" and (place / "rows.csv").exists()


def test_a_checkpoint_of_other_code_is_put_aside(tmp_path, capsys):
    job, place = cell(tmp_path)
    store.begin(tmp_path / "results", job)
    checkpoints.save(place, {"a": 1}, 5)
    store.begin(tmp_path / "results", job)
    assert checkpoints.newest(place, print) == {"a": 1}  # of the same code: it goes on
    other = dataclasses.replace(job)
    other.__dict__["source"] = job.source | {"method": "other"}
    store.begin(tmp_path / "results", other)
    assert checkpoints.newest(place, print) is None and len(list(place.glob("checkpoint-*.other-code"))) == 1
    assert "method" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--results", "--reports"])
@pytest.mark.parametrize("place", ["file", "/proc/hsfusion"])
def test_a_place_that_cannot_be_written_is_one_sentence(measured, tmp_path, capsys, flag, place):
    (tmp_path / "file").write_text("a file")
    target = str(tmp_path / "file") if place == "file" else place
    assert measured("run", flag, target) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(told) == 1 and flag in told[0] and target in told[0]
    assert (tmp_path / "file").read_text() == "a file"


def test_rows_refuse_a_null_identity_and_leave_no_debris(tmp_path):
    with pytest.raises(ValueError, match="a row without method"):
        rows.write(tmp_path / "rows.csv", [{"method": None, "psnr_db": 1.0}])
    assert not list(tmp_path.iterdir())
    rows.write(tmp_path / "rows.csv", [{"method": "007", "image": "12", "snr_db": float("inf"), "psnr_db": float("nan")}])
    frame = rows.read(tmp_path / "rows.csv")
    assert frame["method"].tolist() == ["007"] and frame["image"].tolist() == ["12"]
    assert frame["snr_db"].tolist() == [float("inf")] and pd.isna(frame["psnr_db"]).all()
    assert [path.name for path in Path(tmp_path).iterdir()] == ["rows.csv"]
