"""The fidelity command: its rows, and that a network that is not its release is called so."""

import dataclasses
from pathlib import Path

import pandas as pd
import torch

import run_benchmark
from benchmark.fidelity import networks as module
from benchmark.fidelity.recordings import load_case
from methods import available, card


def test_every_network_with_a_release_has_a_case():
    cases = {case.method for case in module.CASES}
    assert cases == {name for name in available("supervised") if card(name).fidelity == "release"}
    assert all(load_case(case.file)["output"]["samples"] for case in module.CASES)


def test_rows_tell_the_difference_and_the_counts(tmp_path, capsys):
    assert run_benchmark.main(["fidelity", "--methods", "u2net", "ssuf", "--results", str(tmp_path)]) == 0
    rows = pd.read_csv(tmp_path / "fidelity.csv").set_index("method")
    assert rows.loc["u2net", "golden_difference"] < 1e-5 and rows.loc["u2net", "verdict"] == "equals its release"
    assert rows.loc["u2net", "parameters"] == load_case("u2net")["params_total"]
    assert rows.loc["ssuf", "verdict"] == "no release to compare with"
    assert len(rows.loc["u2net", "revision"]) == 40 and rows.loc["u2net", "torch"] == torch.__version__
    assert "u2net" in capsys.readouterr().out


def test_every_published_count_that_is_missed_has_its_reason():
    """As the committed rows say; counting all networks anew takes minutes."""
    rows = pd.read_csv(Path(__file__).parents[2] / "results/fidelity.csv")
    parameters = rows["parameters_used"] / rows["parameters_published"]
    macs = rows["macs_conv"] / rows["macs_published"]
    missed = rows[((parameters - 1).abs() > 0.01) | ((macs - 1).abs() > 0.01)]["method"]
    assert set(module.REASONS) == set(missed)


def test_a_network_that_is_not_its_release_is_called_so(tmp_path, monkeypatch, capsys):
    build = card("u2net").build

    def other(**arguments):
        model = build(**arguments)
        if next(model.parameters()).device.type != "meta":
            forward = model.forward
            model.forward = lambda *images: forward(*images) * torch.tensor(1.001)
        return model

    monkeypatch.setitem(module.create.__globals__["_METHODS"], "u2net", dataclasses.replace(
        card("u2net"), build=lambda bands, msi_bands, ratio: other(bands=bands, msi_bands=msi_bands, ratio=ratio)))
    assert run_benchmark.main(["fidelity", "--methods", "u2net", "--results", str(tmp_path)]) == 1
    assert "DIFFERS" in capsys.readouterr().out
