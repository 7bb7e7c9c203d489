"""The flags that describe the two sensors, from words to the study's protocol, and studies whose splits have other sensors."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import run_benchmark
from benchmark.engines import Here
from benchmark.execute import execute
from benchmark.flags import fabric_of
from benchmark.page.facts import facts_of, rows_of
from benchmark.page.render import measured_words
from benchmark.page.section import Facts, Rows, Split, sections
from benchmark.plan import Job, PlanError, plan
from benchmark.protocol import CLEAN, PAPER
from benchmark.rows import SCORE
from benchmark.sensors import SENSORS, bands_of_file, response
from benchmark.studies import STUDIES
from datasets.scene import SceneError


def study(*words, profile="aviris"):
    return run_benchmark.study_of(run_benchmark.arguments().parse_args(["run", "--profile", profile, *words]))


@pytest.fixture
def estimated(tmp_path):
    """A file as `estimate` writes it: a PSF of an even side, off its middle."""
    psf = np.arange(1.0, 17).reshape(4, 4)
    path = tmp_path / "responses.npz"
    np.savez(path, wavelength_nm=np.arange(3.0), psf=psf / psf.sum(), srf=np.array([[0.5, 0.5, 0], [0, 0, 1.0]]), phase=2)
    return path


def test_without_the_flags_nothing_moves():
    assert study().protocol.digest == STUDIES["aviris"].protocol.digest == "6acf9b2abb0f" and study().name == "aviris"
    assert study(profile="other-sensors").name == "other-sensors"


def test_ratio_and_phase_replace_those_of_the_protocol():
    for ratio in (2, 3, 5, 8, 10):
        chosen = study("--ratio", str(ratio), "--phase", str(ratio - 1))
        assert chosen.protocol == replace(STUDIES["aviris"].protocol, ratio=ratio, phase=ratio - 1)
        assert chosen.name.startswith("aviris-") and "protocol" in chosen.replaced
    for words, told in ((("--ratio", "1"), "--ratio 1.*2 or more"),
                        (("--phase", "4"), "phase 4 at ratio 4: choose --phase 0 to 3"),
                        (("--ratio", "2", "--phase", "-1"), "--phase 0 to 1")):
        with pytest.raises(PlanError, match=told):
            study(*words)


def test_a_sensor_has_the_bands_that_the_scenes_feed(monkeypatch):
    monkeypatch.delenv("HSFUSION_DATA", raising=False)  # flights feed different bands; those of all would be taken
    chosen = study("--msi-sensor", "sentinel-2")  # no data: the protocol says which bands the scenes have
    assert chosen.protocol.srf == "sentinel-2" and chosen.msi_bands == (10,) and not chosen.sensors
    assert study("--msi-sensor", "sentinel-2", "--msi-bands", "4").msi_bands == (4,)  # and is refused by the scene
    assert study("--msi-sensor", "landsat-tm").protocol == STUDIES["aviris"].protocol
    assert study("--msi-sensor", "landsat-tm", profile="hour").msi_bands == (4, 6)
    quick = study("--msi-sensor", "ikonos", "--all-bands", profile="quick")  # of scenes from 365 nm on
    assert quick.msi_bands == (4,) and {job.msi_bands for job in plan(quick, "cpu")} == {4}
    with pytest.raises(SceneError, match=r"unknown MSI sensor 'sentinel'.*landsat-tm"):
        study("--msi-sensor", "sentinel")
    with pytest.raises(PlanError, match="one of them"):
        study("--msi-sensor", "ikonos", "--srf", "x.csv")
    assert study("--msi-sensor", "nikon-d700").msi_bands == (2,)  # green and red: AVIRIS begins at 475 nm


def test_responses_of_ones_own_are_in_the_key(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("low,high\n520,600\n630,690\n760,900\n")
    chosen = study("--srf", str(path))
    assert chosen.protocol.srf == bands_of_file(path) and chosen.msi_bands == (3,)
    digest = chosen.protocol.digest
    path.write_text("low,high\n520,600\n630,690\n760,901\n")
    assert study("--srf", str(path)).protocol.digest != digest
    with pytest.raises(SceneError, match="no such file"):
        study("--srf", str(tmp_path / "nowhere.csv"))


def test_a_psf_is_a_gaussian_a_file_or_an_estimate(tmp_path, estimated):
    gaussian = study("--psf", "gaussian:2").protocol
    assert (gaussian.psf_sigma, gaussian.psf_support) == (2, 13)
    assert study("--psf", "gaussian:3").protocol == STUDIES["aviris"].protocol  # the papers' own
    rows = np.arange(9.0).reshape(3, 3)
    (tmp_path / "psf.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    np.savetxt(tmp_path / "psf.txt", rows)
    np.save(tmp_path / "psf.npy", rows)
    for name in ("psf.csv", "psf.txt", "psf.npy"):
        np.testing.assert_allclose(study("--psf", str(tmp_path / name)).protocol.psf.numpy(), rows / 36, rtol=1e-6)
    chosen = study("--psf", f"from:{estimated}").protocol
    assert chosen.phase == 2 and chosen.psf_support == 5
    assert study("--psf", f"from:{estimated}", "--phase", "1").protocol.phase == 1
    psf = chosen.psf.numpy()
    assert (psf[0] == 0).all() and (psf[:, 0] == 0).all()  # index (4 - 1) // 2 = 1 of the file is the middle, index 2
    np.testing.assert_allclose(psf[1:, 1:], np.arange(1.0, 17).reshape(4, 4) / 136, rtol=1e-6)
    assert chosen.digest != PAPER.digest


def test_estimated_responses_are_a_matrix(estimated):
    chosen = study("--srf", f"from:{estimated}")
    assert chosen.protocol.srf == ((0.5, 0.5, 0.0), (0.0, 0.0, 1.0)) and chosen.msi_bands == (2,)
    with pytest.raises(SceneError, match="--srf"):
        chosen.protocol.response(np.arange(172.0), 2)


@pytest.mark.parametrize("content, told", [
    ("1,2\n3\n", "give a square of numbers"), ("1,2,3\n4,5,6\n", r"shape \(2, 3\); a PSF is a square"),
    ("1,x\n1,2\n", "could not convert.*give a square"), ("", "a PSF is a square"), ("1,-1\n-1,1\n", "positive sum"),
    ("nan,1\n1,1\n", "finite"),
])
def test_what_is_no_psf_is_told(tmp_path, content, told):
    (tmp_path / "psf.csv").write_text(content)
    with pytest.raises(SceneError, match=rf"--psf .*psf\.csv.*{told}"):
        study("--psf", str(tmp_path / "psf.csv"))


@pytest.mark.parametrize("words, told", [
    (("--psf", "gaussian:x"), "gaussian:SIGMA"), (("--psf", "gaussian:0"), "gaussian:SIGMA"),
    (("--psf", "gaussian:inf"), "above 0"),
    (("--psf", "nowhere.csv"), "no such file"), (("--psf", "from:nowhere.npz"), "no such file.*estimate"),
    (("--srf", "from:nowhere.npz"), "no such file.*estimate"),
])
def test_what_names_no_response_is_told(words, told):
    with pytest.raises(SceneError, match=told):
        study(*words)


def test_estimates_that_lack_or_spoil_a_response_are_told(tmp_path):
    np.savez(tmp_path / "other.npz", srf=np.array([[1.0, -0.5]]))
    with pytest.raises(SceneError, match="holds no psf and phase"):
        study("--psf", f"from:{tmp_path / 'other.npz'}")
    with pytest.raises(SceneError, match="--estimator l1 or nonnegative"):
        study("--srf", f"from:{tmp_path / 'other.npz'}")


# ----------------------------------------------------------------------------------------- splits with sensors of their own


def test_every_split_of_other_sensors_is_seen_by_its_own(monkeypatch):
    other = STUDIES["other-sensors"]
    monkeypatch.delenv("HSFUSION_DATA", raising=False)
    jobs = plan(replace(other, methods=("bicubic", "gsa")), "cpu")  # reads nothing
    scores = [job for job in jobs if job.kind == "score"]
    seen = {(job.split, job.msi_bands, job.study.protocol.srf) for job in scores}
    assert seen == {("test-cave", 3, "nikon-d700"), ("test-pavia", 4, "ikonos"), ("test-samson", 4, "quickbird-2")}
    assert len(scores) == 3 * 2 * len(other.scenarios)
    assert len({job.study.protocol.digest for job in scores}) == 3
    assert {id(job.study.data) for job in scores} == {id(jobs[0].study.data)}  # scenes are read once for all
    costs = [(job.method, job.msi_bands, job.study.splits) for job in jobs if job.kind == "cost"]
    assert sorted(costs) == [(method, bands, (split,)) for method in ("bicubic", "gsa")
                             for bands, split in ((3, "test-cave"), (4, "test-pavia"))]


def test_a_cost_on_another_split_has_another_key():
    other = STUDIES["other-sensors"]
    pavia = replace(other, splits=("test-pavia",), sensors={"test-pavia": ("ikonos", 4), "test-samson": ("ikonos", 4)})
    samson = replace(pavia, splits=("test-samson",))
    keys = {Job("cost", each.at(each.splits[0]), ("gsa",), 4, device="cpu").key for each in (pavia, samson)}
    assert len(keys) == 2


def test_flags_choose_among_the_sensors_of_splits_or_replace_them():
    one = study("--splits", "test-cave", profile="other-sensors")
    assert one.msi_bands == (3,)
    assert study("--msi-bands", "4", profile="other-sensors").msi_bands == (4,)
    with pytest.raises(PlanError, match="--msi-bands 6: the splits test-cave, test-pavia, test-samson have 3, 4, 4 MSI bands"):
        study("--msi-bands", "6", profile="other-sensors")
    boxes = study("--msi-sensor", "landsat-tm", "--msi-bands", "4", profile="other-sensors")
    assert not boxes.sensors and boxes.at("test-cave").protocol.srf == "landsat-tm" and "sensors" in boxes.replaced
    assert not any("Nikon" in statement for statement in boxes.statements)
    assert study("--dataset", "synthetic", "--msi-bands", "4", profile="other-sensors").sensors == {}


def test_a_sensor_that_splits_feed_differently_has_its_bands_by_split(monkeypatch):
    wavelengths = {"test-cave": np.arange(400.0, 701.0, 10.0), "test-pavia": np.linspace(430, 860, 102),
                   "test-samson": np.linspace(401, 889, 156)}
    monkeypatch.setattr("benchmark.flags.wavelengths_of", lambda _, split: wavelengths[split])
    chosen = study("--msi-sensor", "worldview-2", profile="other-sensors")
    assert chosen.sensors == {split: ("worldview-2", bands) for split, bands in zip(wavelengths, (5, 5, 7))}
    assert chosen.msi_bands == (5, 7)
    assert {(job.split, job.msi_bands) for job in plan(replace(chosen, methods=("gsa",), scenarios=(CLEAN,)), "cpu")
            if job.kind == "score"} == {("test-cave", 5), ("test-pavia", 5), ("test-samson", 7)}


def test_a_page_holds_splits_of_several_sensors_apart():
    columns = {**dict.fromkeys(SCORE, 0), "dataset": "other-sensors", "method": "gsa", "scenario": "clean", "snr_db": np.inf,
               "noise_target": "none", "seed": 0, "status": "ok", "stale": "", "device": "cpu"}
    rows = Rows(scores=pd.DataFrame([
        columns | {"split": "test-cave", "image": "a", "msi_bands": 3, "protocol": "p3", "psnr_db": 30.0},
        columns | {"split": "test-pavia", "image": "b", "msi_bands": 4, "protocol": "p4", "psnr_db": 40.0}]))
    splits = (Split("other-sensors", "test-cave", ("a",), "", "p3", (3,)),
              Split("other-sensors", "test-pavia", ("b",), "", "p4", (4,)))
    facts = Facts("s", "t", ("gsa",), (3, 4), (CLEAN,), splits, {"gsa": (0,)}, "paper", "p3 p4")
    _, (cave, pavia) = sections(facts, rows)
    assert cave.score(CLEAN, 3, "gsa", "psnr_db").value == 30 and pavia.score(CLEAN, 4, "gsa", "psnr_db").value == 40
    assert "protocol paper p3;" in cave.conditions() and "protocol paper p4;" in pavia.conditions()
    hole = cave.score(CLEAN, 4, "gsa", "psnr_db")
    assert math.isnan(hole.value) and hole.notes == ("this split is seen by a sensor of another band count",)
    with pytest.raises(ValueError, match="do not belong"):
        sections(replace(facts, splits=(replace(splits[0], digest="p4"), splits[1])), rows)


def test_list_names_every_sensor_with_its_bands(capsys):
    assert run_benchmark.main(["list"]) == 0
    told = capsys.readouterr().out
    for line in ("landsat-tm   4 or 6 bands (nominal edges)", "sentinel-2   13 bands", "nikon-d700   3 bands"):
        assert line in told
    assert all(f"\n  {sensor} " in told for sensor in SENSORS)


def test_a_run_with_all_of_it_scores_and_tells_what_is_left_out(tmp_path, capsys):
    """Another ratio, PSF, phase and sensor, through to rows and a page; the bands that the scenes cannot feed are told."""
    assert run_benchmark.main([
        "run", "--profile", "quick", "--methods", "bicubic", "gsa", "subspace-ridge", "--msi-sensor", "landsat8-oli",
        "--ratio", "3", "--phase", "2", "--psf", "gaussian:1.5", "--device", "cpu", "--study", "mine",
        "--data-option", "size=48", "test=1",
        "--hr-size", "48", "--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]) == 0
    told = capsys.readouterr()
    assert "landsat8-oli has 5 of its 8 bands; left out" in told.err and "% of band" in told.err
    rows = [line for path in (tmp_path / "results").glob("*/score-*/rows.csv") for line in path.read_text().splitlines()[1:]]
    assert len(rows) == 3 * 7 and all(",5,3," in line for line in rows)
    page = (tmp_path / "reports/mine/index.html").read_text()
    assert "responses of landsat8-oli" in page and "Gaussian PSF sigma 1.5 px on 11x11" in page


def test_several_sensors_and_ratios_stand_side_by_side(tmp_path):
    """Each split once a sensor and ratio, under the keys that it has alone, in sections of one page that name them."""
    words = ["--methods", "bicubic", "--data-option", "size=48", "test=1", "--hr-size", "48", "--psf", "gaussian:1"]
    sensors, ratios = ["--msi-sensor", "ikonos", "landsat-tm"], ["--ratio", "4", "8"]

    def clean(chosen):
        return {(job.study.protocol.srf, job.study.protocol.ratio, job.msi_bands): job.key for job in plan(chosen, "cpu")
                if job.kind == "score" and job.scenario == CLEAN}

    both = study(*words, *sensors, *ratios, profile="quick")
    alone = {}
    for sensor in sensors[1:]:
        for ratio in ratios[1:]:
            one = study(*words, "--msi-sensor", sensor, "--ratio", ratio, profile="quick")
            assert not one.views
            alone |= clean(one)
    assert clean(both) == alone and {key[2] for key in alone} == {3, 4, 6} == set(both.msi_bands)
    assert {key[1:] for key in clean(study(*words, *sensors, *ratios, "--msi-bands", "4", profile="quick"))} == {(4, 4), (8, 4)}
    both = replace(both, scenarios=(CLEAN,))
    jobs = plan(both, "cpu")
    assert not execute([job for job in jobs if job.kind == "score"], tmp_path, Here(tmp_path, fabric_of("32-true", "cpu")))
    rows = rows_of(both, jobs, tmp_path)
    whole, parts = sections(facts_of(both, jobs, tmp_path, rows), rows)
    assert [part.title for part in parts] == [f"synthetic / test, {sensor}, ratio {ratio}"
                                              for sensor in sensors[1:] for ratio in ratios[1:]]
    found = [part.score(CLEAN, bands, "bicubic", "psnr_db").value for part, bands in zip(parts, (3, 3, 4, 4))]
    assert found[0] == found[2] > found[1] == found[3]  # bicubic sees no MSI; a coarser grid is worse
    assert "on 1 held-out images in 1 split seen in 4 ways: 6 measured rows" in measured_words(whole, parts)
    stored = [pd.read_csv(path) for path in tmp_path.glob("*/score-*/rows.csv")]
    assert {split for frame in stored for split in frame["split"]} == {"test"}  # rows are the split's, whoever asks


def test_what_cannot_stand_side_by_side_is_refused():
    with pytest.raises(PlanError, match="s3rnet-student: trained, and several sensors"):
        study("--methods", "s3rnet-student", "gsa", "--ratio", "2", "4")
    with pytest.raises(PlanError, match="--ratio 4 4: one of them stands there twice"):
        study("--methods", "gsa", "--ratio", "4", "4")
    with pytest.raises(PlanError, match="phase 3 at ratio 2: choose --phase 0 to 1"):
        study("--methods", "gsa", "--ratio", "4", "2", "--phase", "3")


def test_bands_that_one_flight_feeds_and_another_does_not_are_left_out(monkeypatch):
    """Planned with nominal centres, scored with those of the scenes: only what all of them feed is a band of the study."""
    words = ("--data-option", "size=32", "--hr-size", "32", "--methods", "gsa", "--msi-sensor", "sentinel-2")
    chosen = study(*words, profile="quick")
    assert chosen.protocol.srf == "sentinel-2"
    scene = chosen.data.scene("test_0")
    other = replace(scene, wavelengths=np.asarray(scene.wavelengths) - 12)
    assert len(response("sentinel-2", PAPER.select(other).wavelengths)) == 1 + len(
        response("sentinel-2", PAPER.select(scene).wavelengths))
    monkeypatch.setattr(type(chosen.data), "scene", lambda *_: other)
    moved = study(*words, profile="quick")
    assert moved.msi_bands == chosen.msi_bands == (10,)
    for each in (scene, other):
        assert moved.protocol.response(PAPER.select(each).wavelengths, 10).shape == (10, 172)
