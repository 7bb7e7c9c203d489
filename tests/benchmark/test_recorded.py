"""The classical part of the fidelity command: rows beside their recordings, and that a difference is called one."""

import pandas as pd
import pytest

import run_benchmark
from benchmark.fidelity import toolboxes as module
from benchmark.fidelity.cases import CASES
from benchmark.fidelity.toolboxes import recorded, verdict
from methods import available, card

RECORDINGS = module.recordings()


@pytest.mark.golden
@pytest.mark.parametrize("name, key", [
    pytest.param(name, key, marks=[pytest.mark.slow] if key in ("LTMR", "LTTR") else [], id=f"{name}-{key}")
    for name in ("case1", "case1_noisy") for key in RECORDINGS[name]])
def test_golden(name, key):
    found = module.row(name, key, RECORDINGS[name][key])
    assert not found["verdict"].startswith("DIFFERS") and "dB from" not in found["verdict"]
    if found["tolerance"] > 0 and found["verdict"].startswith("equals"):
        assert found["sample_difference"] <= found["tolerance"]


def test_every_classical_method_with_a_reference_has_a_recording():
    there = {theirs["method"] for results in RECORDINGS.values() for theirs in results.values()}
    own = {"lanaras", "ltmr-blind", "lttr-blind"}  # forms that were not recorded
    assert {name for name in available("classical") if card(name).fidelity == "reference"} == there | own
    assert RECORDINGS.keys() == CASES.keys()


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
    bicubic_for_gsa = {name: {"GSA": results["GSA"] | {"method": "bicubic"}} for name, results in RECORDINGS.items()}
    monkeypatch.setattr(module, "recordings", lambda: bicubic_for_gsa)
    assert run_benchmark.main(["fidelity", "--methods", "bicubic", "--results", str(tmp_path)]) == 1
    assert "DIFFERS" in capsys.readouterr().out
    assert all("DIFFERS" in row["verdict"] or row["case"] == "large" for row in recorded(("bicubic",)))


def test_verdicts():
    def found(psnr_db, recorded_db, difference, **theirs):
        return verdict(psnr_db, difference, {"metrics": {"psnr": recorded_db}} | theirs)

    spread = {"psnr": [30.0, 31.0]}
    assert found(31.9, 30.5, 1.0, spread=spread) == "within the spread of its seeds"
    assert found(32.1, 30.5, 1.0, spread=spread) == "DIFFERS from its reference"
    assert found(30.05, 30.0, 1.0) == "within 0.1 dB of its reference"
    assert found(31.0, 30.0, 1.0) == "+1.00 dB from its reference"
    assert found(30.0, 30.0, 2e-6, suggested_sample_tolerance=1e-6) == "DIFFERS from its reference"
    assert found(30.4, 30.0, 1.0, loose_db=0.5, spread=spread) == "within 0.5 dB of its reference"
    assert found(29.4, 30.0, 1.0, loose_db=0.5) == "DIFFERS from its reference"
