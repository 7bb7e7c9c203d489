"""The classical part of the fidelity command: rows beside their recordings, and that a difference is called one."""

import json

import pandas as pd
import pytest

import run_benchmark
from benchmark.fidelity import toolboxes as module
from benchmark.fidelity.recordings import FOLDER
from benchmark.fidelity.toolboxes import Recorded, recorded, verdict
from methods import available, card

RECORDINGS = json.loads((FOLDER / "classical.json").read_text())["cases"]


@pytest.mark.golden
@pytest.mark.parametrize("name", ["case1", "case1_noisy"])
@pytest.mark.parametrize("each", [
    pytest.param(each, marks=[pytest.mark.slow] if each.key in ("LTMR", "LTTR") else [], id=each.key)
    for each in module.RECORDED])
def test_golden(each, name):
    theirs = RECORDINGS[name]["results"].get(each.key)
    if theirs is None:
        pytest.skip("the reference did not run on this case")
    found = module.row(each, name, module.CASES[name](), theirs)
    assert not found["verdict"].startswith("DIFFERS") and "dB from" not in found["verdict"]
    if found["tolerance"] > 0 and found["verdict"].startswith("equals"):
        assert found["sample_difference"] <= found["tolerance"]


def test_every_classical_method_with_a_reference_has_a_recording():
    there = {each.method for each in module.RECORDED}
    own = {"lanaras", "ltmr-blind", "lttr-blind"}  # forms that were not recorded
    assert {name for name in available("classical") if card(name).fidelity == "reference"} <= there | own


def test_rows_stand_beside_their_recording(tmp_path, capsys):
    assert run_benchmark.main(["fidelity", "--methods", "bicubic", "gsa", "--results", str(tmp_path)]) == 0
    assert "equals its reference" in capsys.readouterr().out and not (tmp_path / "fidelity.csv").exists()
    rows = pd.read_csv(tmp_path / "recorded.csv")
    assert set(rows["method"]) == {"bicubic", "gsa"} and set(rows["case"]) == {"case1", "case1_noisy", "large"}
    small, large = rows[rows["case"] != "large"], rows[rows["case"] == "large"]
    assert (small["sample_difference"] < small["tolerance"]).all() and (small["verdict"] == "equals its reference").all()
    assert (large["psnr_db"] - large["psnr_recorded"]).abs().max() < 0.006  # recorded with two decimals
    assert (rows["times_faster"] * rows["seconds"]).tolist() == pytest.approx(rows["seconds_recorded"].tolist())


def test_another_result_is_called_different(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(module, "RECORDED", (Recorded("bicubic", "GSA"),))
    assert run_benchmark.main(["fidelity", "--methods", "bicubic", "--results", str(tmp_path)]) == 1
    assert "DIFFERS" in capsys.readouterr().out
    assert all("DIFFERS" in row["verdict"] or row["case"] == "large" for row in recorded(("bicubic",)))


def test_verdicts():
    spread = {"spread": {"psnr": [30.0, 31.0]}}
    assert verdict(31.9, 30.5, 1.0, spread) == "within the spread of its seeds"
    assert verdict(32.1, 30.5, 1.0, spread) == "DIFFERS from its reference"
    assert verdict(30.05, 30.0, 1.0, {}) == "within 0.1 dB of its reference"
    assert verdict(31.0, 30.0, 1.0, {}) == "+1.00 dB from its reference"
    assert verdict(30.0, 30.0, 2e-6, {"suggested_sample_tolerance": 1e-6}) == "DIFFERS from its reference"
