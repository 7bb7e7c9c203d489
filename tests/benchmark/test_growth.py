"""How costs grow: what is predicted and left out, what is measured once, and what a second run keeps."""

import math
from types import SimpleNamespace

import pytest
import torch

import run_benchmark
from benchmark import growth
from benchmark.store import StoreError

CPU = torch.device("cpu")


def last(made):
    """The rows after the last point, by method, axis and value; those of another device have a fourth part."""
    rows = [*made][-1]
    return {(row["method"], row["axis"], row["value"], *(["other"] if row["device"] == "another" else [])): row for row in rows}


@pytest.fixture
def law(monkeypatch):
    """Fusions that take side^4 / 128^4 x 0.5 seconds, in proportion to batch, whatever the bands; the points measured."""
    asked = []

    def measured(method, point, device):
        asked.append((method, *point.values()))
        seconds = 0.5 * (point["side"] / 128) ** 4 * point["batch"]
        return {"seconds": seconds, "seconds_spread": 0.0, "runs": 3, "peak_memory_mb": 100.0 * (point["side"] / 128) ** 2,
                "status": "ok"}

    monkeypatch.setattr(growth, "measured", measured)
    return asked


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_prediction_goes_on_as_the_last_two_points_do(power):
    points = [(10.0, 900.0), *((x, 3 * x**power) for x in (20.0, 50.0))]  # the first is of another law
    assert growth.predicted(points, 400.0) == pytest.approx(3 * 400.0**power)
    assert growth.predicted([*points[1:], (100.0, 0.0)], 400.0) == pytest.approx(3 * 400.0**power)  # too small to be seen


def test_one_point_predicts_in_proportion_and_none_predicts_nothing():
    assert growth.predicted([(4.0, 2.0)], 16.0) == pytest.approx(8.0)
    assert math.isnan(growth.predicted([], 16.0))


def test_points_over_the_budget_are_rows_that_say_what_was_predicted(law):
    rows = last(growth.grow(["gsa"], CPU))
    assert len(rows) == sum(map(len, growth.AXES.values()))
    status = {key[1:]: row["status"] for key, row in rows.items()}
    assert status["side", 256] == "ok"  # 8 s
    assert status["side", 512] == "left out: predicted 128 s" and status["side", 1024] == "left out: predicted 2048 s"
    left = rows["gsa", "side", 512]
    assert math.isnan(left["seconds"]) and math.isnan(left["peak_memory_mb"]) and left["runs"] == 0
    assert [words for (axis, _), words in status.items() if axis != "side"] == ["ok"] * 7
    assert ("gsa", 512, 172, 1) not in law
    assert rows["gsa", "side", 256]["seconds"] == 8.0 and rows["gsa", "side", 256]["side"] == 256


def test_from_the_first_side_on_time_is_expected_to_grow_with_the_pixels(law):
    first = 0.5 / 4**4  # seconds of side 32; twice the side are four times the pixels
    for budget, status in ((3.9 * first, "left out: predicted 0 s"), (4.1 * first, "ok")):
        assert last(growth.grow(["gsa"], CPU, seconds=budget))["gsa", "side", 64]["status"] == status


def test_memory_has_a_budget_of_its_own(law):
    rows = last(growth.grow(["gsa"], CPU, seconds=1e9, memory_mb=2000.0))
    assert rows["gsa", "side", 512]["status"] == "ok"  # 1.6 GB
    assert rows["gsa", "side", 1024]["status"] == "left out: predicted 6.4 GB"


def test_the_base_is_measured_once_and_predicts_on_every_axis(law):
    rows = last(growth.grow(["gsa"], CPU, seconds=0.6))
    assert law.count(("gsa", 128, 172, 1)) == 1 and len(set(law)) == len(law)
    same = [rows["gsa", axis, growth.BASE[axis]]["seconds"] for axis in growth.AXES]
    assert same == [0.5] * 3
    assert rows["gsa", "bands", 102]["status"] == "ok"  # from 31 bands alone it would be 1.6 s; 172 take 0.5 s
    assert rows["gsa", "batch", 2]["status"] == "left out: predicted 1 s"


def test_what_is_there_is_not_measured_again(law):
    rows = list(last(growth.grow(["gsa"], CPU)).values())
    other = [{**row, "device": "another", "seconds": 9.0} for row in rows]
    law.clear()
    assert list(growth.grow(["gsa"], CPU, rows)) == []
    held = last(growth.grow(["gsa"], CPU, [row for row in [*rows, *other] if row["value"] != 31 or row["device"] == "another"]))
    assert law == [("gsa", 128, 31, 1)]
    assert [key[:3] for key in held if key[3:]] == [(row["method"], row["axis"], row["value"]) for row in other]
    law.clear()
    more = last(growth.grow(["gsa"], CPU, rows, seconds=200.0))
    assert law == [("gsa", 512, 172, 1)]  # the only one that the greater budget lets in
    assert more["gsa", "side", 512]["seconds"] == 128.0
    law.clear()
    slow = [{**row, "seconds": 3 * row["seconds"]} for row in rows]
    forced = last(growth.grow(["gsa"], CPU, slow, force=True))
    assert len(law) == len(set(law)) == len([row for row in rows if row["status"] == "ok"]) - 2  # the base is on three axes
    assert {key: row["seconds"] for key, row in forced.items() if row["runs"]} == {
        (row["method"], row["axis"], row["value"]): row["seconds"] for row in rows if row["runs"]}


def test_rows_stay_in_the_order_of_the_methods_whichever_came_first(law):
    rows = last(growth.grow(["cnmf"], CPU)).values()
    both = last(growth.grow(["gsa"], CPU, list(rows)))
    assert [method for method, axis, value in both if (axis, value) == ("batch", 4)] == ["gsa", "cnmf"]
    assert [value for method, axis, value in both if (method, axis) == ("gsa", "side")] == list(growth.AXES["side"])


class Sleeper:
    """A method that does nothing but hold ``held`` MB for a while, or fail."""

    card = SimpleNamespace(input_range=(0.0, 1.0))

    def __init__(self, held=0, error=None):
        self.held, self.error, self.calls = held, error, 0

    def __call__(self, lr_hsi, hr_msi):
        self.calls += 1
        self.shapes = tuple(lr_hsi.shape), tuple(hr_msi.shape)
        if self.error:
            raise self.error
        return torch.ones(int(self.held * 1e6 / 4)).sum().expand(1)


def test_a_point_is_built_and_fused_as_it_says(monkeypatch):
    told, model = {}, Sleeper(held=80)
    monkeypatch.setattr(growth, "create", lambda name, **words: told.update(words) or model)
    row = growth.measured("x", {"side": 64, "bands": 31, "batch": 2}, CPU)
    assert model.shapes == ((2, 31, 16, 16), (2, 4, 64, 64)) and (told["bands"], told["msi_bands"]) == (31, 4)
    assert told["srf"].shape == (4, 31) and torch.allclose(told["srf"].sum(1), torch.ones(4))
    assert row["status"] == "ok" and row["runs"] == model.calls - 1 and 3 <= row["runs"] <= 10
    assert math.isnan(row["peak_memory_mb"]) or 70 < row["peak_memory_mb"] < 140


def test_a_long_fusion_is_timed_once(monkeypatch):
    model = Sleeper()
    monkeypatch.setattr(growth, "create", lambda name, **words: model)
    monkeypatch.setattr(growth, "LONG", 0.0)
    row = growth.measured("x", growth.BASE, CPU)
    assert row["runs"] == model.calls == 1 and row["seconds_spread"] == 0.0 and row["seconds"] > 0


def test_a_failure_is_a_row_and_larger_points_are_not_tried(monkeypatch):
    models = []

    def create(name, **words):
        models.append(Sleeper(error=RuntimeError("no room\nfor this") if len(models) == 2 else None))
        return models[-1]

    monkeypatch.setattr(growth, "create", create)
    rows = last(growth.grow(["gsa"], CPU))
    assert rows["gsa", "side", 128]["status"] == "failed: RuntimeError: no room"
    assert {rows["gsa", "side", value]["status"] for value in (256, 512, 1024)} == {"left out: side 128 failed"}


def test_rows_are_read_to_the_last_digit_and_a_damaged_file_is_named(law, tmp_path):
    rows = [{**row, "seconds": row["seconds"] / 3} for row in last(growth.grow(["gsa"], CPU)).values()]
    path = tmp_path / "growth.csv"
    assert growth.read(path) == []
    growth_rows = [row for row in rows if row["status"] == "ok"]
    run_benchmark.store.write_csv(path, growth_rows)
    assert growth.read(path) == growth_rows
    path.write_text("method,axis\ngsa,side\n")
    with pytest.raises(StoreError, match=r"growth\.csv"):
        growth.read(path)


def test_the_command_keeps_rows_renders_their_page_and_goes_on_from_them(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(growth, "AXES", {"side": (32, 64), "bands": (31, 172), "batch": (1,)})
    monkeypatch.setattr(growth, "BASE", {"side": 32, "bands": 172, "batch": 1})
    words = ["growth", "--methods", "bicubic", "--device", "cpu", "--results", str(tmp_path / "res"), "--reports",
             str(tmp_path / "rep")]
    assert run_benchmark.main(words) == 0
    rows = growth.read(tmp_path / "res/growth.csv")
    assert [(row["axis"], row["value"], row["status"]) for row in rows] == [
        ("side", 32, "ok"), ("side", 64, "ok"), ("bands", 31, "ok"), ("bands", 172, "ok"), ("batch", 1, "ok")]
    assert all(row["seconds"] > 0 and row["runs"] >= 3 and row["threads"] == torch.get_num_threads() for row in rows)
    assert "speed/index.html" in capsys.readouterr().out
    assert "bicubic" in (tmp_path / "rep/speed/index.html").read_text(encoding="utf-8")
    before = (tmp_path / "res/growth.csv").read_bytes()
    monkeypatch.setattr(growth, "measured", None)
    assert run_benchmark.main(words) == 0 and (tmp_path / "res/growth.csv").read_bytes() == before
    assert run_benchmark.main([*words[:2], "bicubik", *words[3:]]) == 2
