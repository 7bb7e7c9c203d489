"""Every scenario of a study lies on an axis, whatever it is called."""

import math

import pytest

from benchmark.page import plots, tables
from benchmark.page.axes import axes_of
from benchmark.protocol import CLEAN, OTHER_LR_HSI, Scenario, noise, shifted
from tests.benchmark.test_plots import lines
from tests.benchmark.test_tables import cells, row, section


def places(axis):
    return [(level.at, level.words, level.apart) for level in axis.levels]


def test_kinds_are_told_apart_and_none_is_lost():
    scenarios = (CLEAN, noise("both", 45), noise("lr_hsi", 25), noise("both", 25), shifted(2), shifted(1),
                 Scenario("psf-4", told_psf_sigma=4.0), Scenario("srf-10", told_srf_shift_nm=10.0), OTHER_LR_HSI,
                 Scenario("haze-2"), Scenario("haze-0.5"), Scenario("stripes"))
    axes = axes_of(scenarios)
    assert list(axes) == ["noise-lr-hsi", "noise-both", "shift", "told-psf", "told-srf", "haze", "other-lr-hsi", "stripes"]
    assert {level.scenario for axis in axes.values() for level in axis.levels} == set(scenarios)
    assert places(axes["noise-both"]) == [(25.0, "25 dB", False), (45.0, "45 dB", False), (65.0, "clean", True)]
    assert places(axes["shift"]) == [(0.0, "0 px", False), (1.0, "1 px", False), (2.0, "2 px", False)]
    assert places(axes["told-srf"]) == [(0.0, "0 nm", False), (10.0, "10 nm", False)]
    assert [each[:2] for each in places(axes["haze"])][:2] == [(0.5, "0.5"), (2.0, "2")]
    assert [level.words for level in axes["stripes"].levels] == ["stripes", "clean"]
    assert axes_of((CLEAN,)) == {}
    assert list(axes_of((noise("both", 25),))) == ["noise-both"]


def test_unknown_scenarios_have_a_table_with_the_change_from_clean_and_a_curve():
    rows = [row("gsa", 30.0), *(row("gsa", psnr) | {"scenario": name} for name, psnr in (("haze-1", 29.0), ("haze-3", 22.0)))]
    held = section(rows, scenarios=(CLEAN, Scenario("haze-1"), Scenario("haze-3")))
    table, rmse = tables.scenarios(held)
    assert (table.name, rmse.name) == ("made-test-haze", "made-test-haze-rmse")
    assert [column.key for column in table.columns if column.label == "PSNR"] == [
        "psnr_db_1", "psnr_db_3", "psnr_db_clean", "psnr_db_change"]
    assert cells(table, "psnr_db_change")[4, "gsa"].value == pytest.approx(22.0 - 30.0)
    assert not table.columns[-1].better  # a change is not ranked
    psnr, sam = plots.other_curves(held)
    assert (psnr.name, sam.name) == ("made-test-haze-psnr-msi4", "made-test-haze-sam-msi4")
    drawn = lines(psnr.figure.axes[0])
    assert drawn["gsa"].get_xydata().tolist() == [[1.0, 29.0], [3.0, 22.0]]
    assert drawn["_clean gsa"].get_xydata().tolist() == [[5.0, 30.0]]


def test_of_many_axes_the_angle_is_left_to_the_tables():
    scenarios = (CLEAN, *(Scenario(f"{name}-{amount}") for name in "abcdefghi" for amount in (1, 2)))
    held = section([row("gsa", 30.0)], scenarios=scenarios)
    assert {plot.name.split("-")[-2] for plot in plots.other_curves(held)} == {"psnr"}
    assert len(plots.other_curves(section([row("gsa", 30.0)], scenarios=scenarios[:-2]))) == 16


def test_an_axis_of_one_amount_has_a_table_and_no_curve():
    held = section([row("gsa", 30.0)], scenarios=(CLEAN, *(Scenario(name) for name in ("a-1", "b-1", "b-2", "other-lr-hsi"))))
    assert [plot.name for plot in plots.other_curves(held)] == ["made-test-b-psnr-msi4", "made-test-b-sam-msi4"]
    assert {f"made-test-{name}" for name in ("a", "b", "other-lr-hsi")} < {table.name for table in tables.scenarios(held)}


def test_misregistration_begins_with_the_clean_scenes():
    rows = [row("gsa", 30.0), row("gsa", 26.0) | {"scenario": "shift-1"}]
    drawn = lines(plots.other_curves(section(rows, scenarios=(CLEAN, shifted(1))))[0].figure.axes[0])
    assert drawn["gsa"].get_xydata().tolist() == [[0.0, 30.0], [1.0, 26.0]] and "_break" not in drawn


def test_noise_with_4_and_6_bands_is_left_to_the_figures_of_the_papers():
    rows = [row("gsa", 20.0, msi_bands=bands, target="both", snr=25.0) for bands in (4, 6, 8)]
    held = section(rows)
    assert [plot.name for plot in plots.other_curves(held)] == [f"made-test-noise-both-{m}-msi8" for m in ("psnr", "sam")]
    assert [plot.name[-4:] for plot in plots.curves(held, ("noise-both",), 6)] == ["msi6", "msi6"]
    assert math.isnan(cells(tables.scenarios(held)[0], "rmse_clean")[4, "gsa"].value)
