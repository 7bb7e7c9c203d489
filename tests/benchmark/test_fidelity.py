"""The fidelity command: its rows, and that a network that is not its release is called so."""

import dataclasses
import json
import sys
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import torch

import run_benchmark
from benchmark.fidelity import networks as module
from benchmark.fidelity.recordings import fill_state_dict, load_case, probe
from methods import available, card, registry


def test_every_network_with_a_release_has_a_case():
    assert set(module.cases()) == {name for name in available("supervised") if card(name).fidelity == "release"}
    assert all(load_case(case.file.stem)["output"]["samples"] for case in module.cases().values())


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
    assert {name for name in available() if card(name).count_reason} == set(missed)


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


MINI = '''
from torch import nn

from methods.registry import Recipe, register
from methods.tasks import Supervised


class Mini(nn.Module):
    def __init__(self, bands, msi_bands, power):
        super().__init__()
        self.mix = nn.Conv2d(msi_bands, bands, 1)
        self.power = power

    def forward(self, lr_hsi, hr_msi):
        return self.mix(hr_msi) ** self.power


@register("mini", "supervised", paper="none", year=2026, fidelity="release", count_reason="a test",
          recipes={"own": Recipe(Supervised, ("mini",))})
def build(bands: int, msi_bands: int, power: int = 1) -> Mini:
    return Mini(bands, msi_bands, power)
'''


def test_a_new_method_is_its_own_file_and_its_recording(tmp_path, monkeypatch):
    """The recording made here by hand: filled by the rule, and computed without the network's code."""
    (tmp_path / "mini_method.py").write_text(MINI)
    monkeypatch.syspath_prepend(tmp_path)
    import_module("mini_method")
    try:
        weights = {"mix.weight": torch.zeros(172, 4, 1, 1), "mix.bias": torch.zeros(172)}
        fill_state_dict(weights)
        image = torch.einsum("bm,mxy->bxy", weights["mix.weight"][..., 0, 0], probe("hr_msi", (1, 4, 8, 8))[0])
        values = ((image + weights["mix.bias"][:, None, None]) ** 2).double().flatten()
        (tmp_path / "mini.json").write_text(json.dumps({
            "compared": [{"method": "mini", "arguments": {"power": 2}, "output": "outputs.squared"}],
            "inputs": {"lr_hsi": [1, 172, 2, 2], "hr_msi": [1, 4, 8, 8]},
            "state_dict": [[key, list(value.shape)] for key, value in weights.items()],
            "outputs": {"squared": {"shape": [1, 172, 8, 8], "samples": [[i, values[i].item()] for i in range(0, 11008, 500)],
                                    "mean": values.mean().item(), "std": values.std().item(),
                                    "absmax": values.abs().max().item()}}}))
        row, = module.fidelity(("mini",), tmp_path)
        assert (row["case"], row["verdict"], row["reason"]) == ("mini", "equals its release", "a test")
        assert row["parameters"] == 5 * 172 and row["golden_difference"] < 1e-5
        assert module.cases(tmp_path)["mini"].arguments == {"power": 2}

        case = dataclasses.replace(module.cases(tmp_path)["mini"], arguments={})  # as built by default it is another network
        assert module.verdict(case, case.difference()) == "DIFFERS from its release"
        (tmp_path / "again.json").write_text(json.dumps({"compared": [{"method": "mini", "run": "forward"}]}))
        with pytest.raises(ValueError, match=r"'mini' is compared with .*again\.json already"):
            module.cases(tmp_path)
        (tmp_path / "again.json").write_text(json.dumps({"compared": [{"method": "other", "run": "backward"}]}))
        with pytest.raises(ValueError, match="run 'backward'; choices: forward, with draft"):
            module.cases(tmp_path)
    finally:
        registry._METHODS.pop("mini")
        sys.modules.pop("mini_method")


def test_a_network_around_an_estimate_is_counted_without_it():
    for row in module.fidelity(("s3rnet-subspace", "subspace-net")):
        assert row["case"] == "none" and row["macs_conv"] > 1e9 and row["parameters_used"] <= row["parameters"]
