"""Figures checked by the data in their axes, not by pixels."""

import math

import numpy as np
import pandas as pd
from test_tables import row

from benchmark.page import plots, tables


def section(rows, curves=(), **meta):
    whole, splits = tables.sections(pd.DataFrame(rows), pd.DataFrame(), pd.DataFrame(curves), pd.DataFrame(),
                                     pd.DataFrame(), {}, meta)
    return splits[0] if splits else whole


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def noise_rows(method="gsa", levels=(25.0, 35.0, 45.0), target="both"):
    return [row(method, 30.0), *(row(method, level / 2, target=target, snr=level) for level in levels)]


def test_noise_curve_joins_the_levels_and_sets_clean_apart():
    made = {plot.name: plot for plot in plots.noise_curves(section(noise_rows()))}
    assert sorted(made) == ["made-test-noise-both-psnr-msi4", "made-test-noise-both-sam-msi4"]
    (axes,) = made["made-test-noise-both-psnr-msi4"].figure.axes
    drawn = lines(axes)
    assert drawn["gsa"].get_xydata().tolist() == [[25.0, 12.5], [35.0, 17.5], [45.0, 22.5]]
    assert drawn["_clean gsa"].get_xydata().tolist() == [[55.0, 30.0]]
    assert drawn["_clean gsa"].get_linestyle() == "None"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["25", "35", "45", "clean"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("SNR (dB)", "PSNR (dB)")


def test_a_missing_level_interrupts_the_line_and_a_missing_method_is_named():
    rows = [*noise_rows(), *noise_rows("bicubic", levels=(25.0, 45.0))]
    plot = plots.noise_curves(section(rows, expected={"methods": ["bicubic", "gsa", "never-run"]}))[0]
    y = lines(plot.figure.axes[0])["bicubic"].get_ydata()
    assert np.isnan(y[1])
    assert y[[0, 2]].tolist() == [12.5, 22.5]
    assert "No rows here: never-run." in plot.caption


def test_deviation_over_seeds_is_drawn():
    rows = [*noise_rows(), *({**one, "seed": 1, "psnr_db": one["psnr_db"] + 2.0} for one in noise_rows())]
    axes = plots.noise_curves(section(rows))[0].figure.axes[0]
    bars = axes.collections[0].get_segments()
    np.testing.assert_allclose(bars[0], [[25.0, 13.5 - math.sqrt(2)], [25.0, 13.5 + math.sqrt(2)]])


def test_an_empty_setting_still_has_its_figure():
    expected = {"methods": ["gsa"], "msi_bands": [6], "splits": [("made", "test")],
                "scenarios": [("noise", "both", 30.0)]}
    plot = plots.noise_curves(section([], expected=expected))[0]
    assert [text.get_text() for text in plot.figure.axes[0].texts] == ["no rows yet"]


def test_every_method_looks_different_and_the_same_whatever_the_order():
    names = [f"method-{i:02d}" for i in range(25)]
    look = plots.styles(names)
    assert len({tuple(one.values()) for one in look.values()}) == 25
    assert len({(one["color"], one["marker"]) for one in look.values()}) == 25
    assert plots.styles(names[::-1]) == look


def curve(quantity, values, *, method="net", job="j0", msi_bands=4):
    return [{"epoch": epoch, "step": epoch * 10, "seconds": 1.0, "method": method, "quantity": quantity, "value": value,
             "msi_bands": msi_bands, "seed": 0, "job": job} for epoch, value in enumerate(values, 1)]


def test_training_figures_have_one_line_a_run_and_one_panel_a_term():
    curves = [*curve("loss", [3.0, 2.0, 1.0]), *curve("l1", [0.3, 0.2, 0.1]), *curve("loss", [5.0, 4.0], job="j1"),
              *curve("val_psnr_db", [20.0, 25.0, 26.0]), *curve("lr", [1.0, 1.0])]
    made = {plot.name: plot for plot in plots.training(section([row("gsa", 1.0)], curves))}
    assert sorted(made) == ["training-losses-msi4", "training-val-psnr-msi4"]
    total, l1 = made["training-losses-msi4"].figure.axes
    first, second = (line.get_xydata().tolist() for line in total.lines)
    assert (first, second) == ([[1, 3.0], [2, 2.0], [3, 1.0]], [[1, 5.0], [2, 4.0]])
    assert [line.get_ydata().tolist() for line in l1.lines] == [[0.3, 0.2, 0.1]]
    assert made["training-val-psnr-msi4"].figure.axes[0].lines[0].get_ydata().tolist() == [20.0, 25.0, 26.0]
    assert "runs: net 2" in made["training-losses-msi4"].caption


def test_files_have_the_same_bytes_each_time():
    first, second = (plots.file_bytes(plots.noise_curves(section(noise_rows()))[0]) for _ in range(2))
    assert first == second
    assert first["png"].startswith(b"\x89PNG")
    assert first["pdf"].startswith(b"%PDF")
    assert b"CreationDate" not in first["pdf"]
