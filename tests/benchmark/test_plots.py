"""Figures checked by the data in their axes, not by pixels."""

import hashlib
import io
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark.page import plots, training
from benchmark.page.section import Rows, Split, sections
from benchmark.protocol import CLEAN, noise
from methods import available
from tests.benchmark.test_tables import facts, row

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.pdf


def section(rows, curves=(), **words):
    whole, splits = sections(facts(rows, **words), Rows(pd.DataFrame(rows), curves=pd.DataFrame(curves)))
    return splits[0] if not curves else whole


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def noise_rows(method="gsa", levels=(25.0, 35.0, 45.0), target="both"):
    return [row(method, 30.0), *(row(method, level / 2, target=target, snr=level) for level in levels)]


def test_noise_curve_joins_the_levels_and_sets_clean_apart():
    made = {plot.name: plot for plot in plots.curves(section(noise_rows()))}
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
    plot = plots.curves(section(rows, methods=("bicubic", "gsa", "never-run")))[0]
    drawn = lines(plot.figure.axes[0])
    assert drawn["bicubic"].get_xydata().tolist() == [[25.0, 12.5]]
    assert drawn["_bicubic"].get_xydata().tolist() == [[45.0, 22.5]]
    assert "lists at the end): never-run." in plot.notes
    assert "A curve with holes, where a level has no row: bicubic." in plot.notes


def test_what_has_no_point_along_the_axis_has_no_curve_and_is_not_counted():
    values = {f"m{i:02d}": 10.0 + i for i in range(14)}
    rows = [{**one, "psnr_db": one["psnr_db"] + value} for name, value in values.items() for one in noise_rows(name)]
    slow = [row(name, 99.0) for name in ("u2mdn", "cucanet")]  # scored on clean scenes alone, the best there are
    plot = plots.curves(section([*rows, *slow], kinds={"u2mdn": "blind", "cucanet": "blind"}))[0]
    drawn = lines(plot.figure.axes[0])
    assert set(plot.curves.cells) == set(values) and not {"u2mdn", "cucanet", "_clean u2mdn"} & set(drawn)
    assert "in grey: 3 others" in plot.notes and "lists at the end): u2mdn, cucanet." in plot.notes
    shifted = plots.curves(section([*noise_rows(target="lr_hsi"), row("u2mdn", 99.0)]))[0]
    assert set(shifted.curves.cells) == {"gsa"}


def test_a_figure_tells_what_its_points_lack():
    rows = [*noise_rows(), *({**one, "psnr_db": math.nan} for one in noise_rows("old")),
            *({**one, "stale": "scoring"} for one in noise_rows("bicubic"))]
    plot = plots.curves(section(rows, splits=(Split("made", "test", ("a", "lost")),)))[0]
    assert "Not recorded: the rows are older than this figure: old." in plot.notes
    assert "Over 1 of 2 images: not ranked: gsa, bicubic." in plot.notes
    assert "Stale: changed since it was measured (scoring): bicubic." in plot.notes
    assert "old" not in lines(plot.figure.axes[0])


def band(axes, x):
    """Lower and upper edge of the one band of a figure at x."""
    (area,) = axes.collections
    heights = [y for at, y in area.get_paths()[0].vertices if at == x]
    return [min(heights), max(heights)]


def test_bands_are_of_seeds_or_of_images_and_none_of_one_value():
    rows = [*noise_rows(), *({**one, "seed": 1, "psnr_db": one["psnr_db"] + 2.0} for one in noise_rows())]
    rows += noise_rows("bicubic")  # trained by nobody: one seed, no band
    plot = plots.curves(section([one for one in rows if one["snr_db"] != math.inf]))[0]
    np.testing.assert_allclose(band(plot.figure.axes[0], 25.0), [13.5 - math.sqrt(2), 13.5 + math.sqrt(2)])
    assert "standard deviation over the seeds" in plot.notes

    rows = [*noise_rows(), *({**one, "image": "b", "psnr_db": one["psnr_db"] + 2.0} for one in noise_rows())]
    plot = plots.curves(section([one for one in rows if one["snr_db"] != math.inf]))[0]
    np.testing.assert_allclose(band(plot.figure.axes[0], 25.0), [12.5, 14.5])  # sqrt(2) / sqrt(2 images)
    assert "standard error over the images" in plot.notes

    plot = plots.curves(section(noise_rows()))[0]
    assert not plot.figure.axes[0].collections and "Band" not in plot.notes


def test_an_empty_setting_still_has_its_figure():
    words = {"methods": ("gsa",), "msi_bands": (6,), "splits": (Split("made", "test", ("a",)),),
             "scenarios": (CLEAN, noise("both", 30.0))}
    plot = plots.curves(section([], **words))[0]
    assert [text.get_text() for text in plot.figure.axes[0].texts] == ["no rows yet"]


def test_every_method_looks_different_and_the_same_whatever_the_order():
    names = [f"method-{i:02d}" for i in range(25)]
    look = plots.styles(names)
    assert len({tuple(one.values()) for one in look.values()}) == 25
    assert len({(one["color"], one["marker"]) for one in look.values()}) == 25
    assert plots.styles(names[::-1]) == look


def test_a_method_looks_the_same_whatever_stands_beside_it():
    for names in (["gsa"], ["gsa", "bicubic"], available(), ["gsa", "a-variant@of=it"]):
        assert plots.styles(names)["gsa"] == plots.styles(available())["gsa"]
    assert len({(one["color"], one["marker"]) for one in plots.styles(available()).values()}) == len(available())


def test_of_many_methods_eleven_are_in_colour_the_best_and_the_baselines():
    values = {"bicubic": 1.0, "gsa": 2.0, **{f"m{i:02d}": 10.0 + i for i in range(14)}}
    rows = [{**one, "psnr_db": one["psnr_db"] + value} for name, value in values.items() for one in noise_rows(name)]
    plot = plots.curves(section(rows))[0]
    assert set(plot.curves.coloured) == {"bicubic", "gsa", *(f"m{i:02d}" for i in range(5, 14))}
    drawn = lines(plot.figure.axes[0])
    grey = [name for name in values if drawn[name].get_color() == plots.GREY["color"]]
    assert grey == [f"m{i:02d}" for i in range(5)] and all(drawn[name].get_marker() == "" for name in grey)
    (legend,) = plot.figure.legends
    assert [text.get_text() for text in legend.get_texts()][-1] == "5 others"
    assert "in grey: 5 others" in plot.notes
    kinds = {name: "trained" for name in ("m00", "m01")} | {name: "known" for name in values if name > "m01"}
    rows = [*rows, {**row("m99", 90.0)}]  # the best of all, with one point and no line
    found = plots.curves(section(rows, kinds=kinds))[0].curves.coloured
    assert set(found) == {"bicubic", "gsa", "m01", "m00", *(f"m{i:02d}" for i in range(7, 14))}
    kinds = {name: "known" for name in values if name != "m13"}  # the best of all is not ranked
    assert "m13" not in plots.curves(section(rows, kinds=kinds))[0].curves.coloured
    few = plots.curves(section(noise_rows()))[0]
    assert few.curves.coloured == ("gsa",) and "grey" not in few.notes


def test_what_is_far_worse_than_all_others_is_said_and_not_drawn():
    names = available()[:19]
    rows = [{**each, "sam_deg": 3.0 + 0.1 * i, "psnr_db": each["psnr_db"] + i / 4} for i, name in enumerate(names)
            for each in noise_rows(name)]
    lost = [{**each, "psnr_db": -20.0, "sam_deg": 90.0} for each in noise_rows("usdn")]
    for plot in plots.curves(section([*rows, *lost], methods=(*names, "usdn"))):
        assert {name.removeprefix("_clean ") for name in lines(plot.figure.axes[0])} >= set(names)
        assert "usdn" not in lines(plot.figure.axes[0]) and "usdn" not in plot.curves.cells
        worst = "-20.00" if "PSNR" in plot.title else "90.000"
        assert f"Not drawn, since far worse than all others: usdn ({worst})." in plot.notes


def test_a_tenth_at_most_is_far_off_and_no_baseline():
    usual = {f"m{i}": 20.0 + i % 7 for i in range(30)}
    assert plots.far_off(usual) == plots.far_off({}) == {} and plots.far_off({"one": 3.0}) == {}
    assert list(plots.far_off(usual | {"bad": -5.0, "worse": -30.0})) == ["worse", "bad"]
    assert plots.far_off(usual | {f"bad{i}": -5.0 for i in range(4)}) == {}
    some = usual | {f"bad{i}": 12.0 for i in range(4)}  # beyond the inner fence, and too many
    assert plots.far_off(some) == {} and list(plots.far_off(some | {"worst": -40.0})) == ["worst"]
    assert plots.far_off(usual | {"s3rnet-student": -5.0, "gsa": -9.0}) == {}
    assert list(plots.far_off({name: -value for name, value in usual.items()} | {"bad": 5.0}, "down")) == ["bad"]
    assert plots.far_off(usual | {"good": 90.0}) == {}


def test_alt_text_says_who_leads_and_the_range():
    rows = [*noise_rows(), *({**one, "psnr_db": one["psnr_db"] + 1.0, "sam_deg": 3.0} for one in noise_rows("bicubic"))]
    psnr, sam = plots.curves(section(rows))
    assert ("at 25 dB bicubic leads 2 methods from 12.50 to 13.50; "
            "at clean bicubic leads 2 methods from 30.00 to 31.00") in psnr.alt
    assert "at clean gsa leads 2 methods from 2.000 to 3.000" in sam.alt


def test_the_files_of_a_figure_hold_its_full_caption():
    plot = plots.curves(section(noise_rows(), statements=("not comparable",)))[0]
    made = plots.file_bytes(plot)
    assert Image.open(io.BytesIO(made["png"])).text["Description"] == plots.full_caption(plot)
    assert plots.full_caption(plot).startswith(plot.caption) and "n = 1 images" in plots.full_caption(plot)
    assert plots.full_caption(plot).endswith("not comparable.")
    assert b"/Subject" in made["pdf"]


def curve(quantity, values, *, method="net", seed=0, msi_bands=4):
    return [{"epoch": epoch, "step": epoch * 10, "seconds": 1.0, "method": method, "quantity": quantity, "value": value,
             "msi_bands": msi_bands, "seed": seed, "job": f"j{seed}", "stale": ""} for epoch, value in enumerate(values, 1)]


def trained(curves):
    methods = tuple(sorted({one["method"] for one in curves}))
    return {plot.name: plot for plot in training.training(section([row("gsa", 1.0)], curves, methods=methods))}


def test_training_figures_have_the_mean_over_seeds_and_one_panel_a_term():
    curves = [*curve("loss", [3.0, 2.0, 1.0]), *curve("l1", [0.3, 0.2, 0.1]), *curve("loss", [5.0, 4.0], seed=1),
              *curve("val_psnr_db", [20.0, 25.0, 26.0]), *curve("lr", [1.0, 1.0])]
    made = trained(curves)
    assert sorted(made) == ["training-losses-msi4", "training-lr-msi4", "training-val-psnr-msi4"]
    total, l1 = made["training-losses-msi4"].figure.axes
    (line,) = total.lines
    assert line.get_xydata().tolist() == [[1, 4.0], [2, 3.0]]  # then one seed is left, whose 1.0 is no mean
    np.testing.assert_allclose(band(total, 1.0), [4.0 - math.sqrt(2), 4.0 + math.sqrt(2)])
    assert [line.get_ydata().tolist() for line in l1.lines] == [[0.3, 0.2, 0.1]] and not l1.collections
    assert made["training-val-psnr-msi4"].figure.axes[0].lines[0].get_ydata().tolist() == [20.0, 25.0, 26.0]
    assert "Runs: net 2" in (notes := made["training-losses-msi4"].notes) and "where the first of its seeds does" in notes
    assert "first of its seeds" not in made["training-val-psnr-msi4"].notes
    assert "standard deviation" in made["training-losses-msi4"].caption
    assert "standard deviation" not in made["training-val-psnr-msi4"].caption


def test_every_logged_quantity_is_drawn():
    names = ["loss", "l1", "kd", "val_psnr_db", "val_sam_deg", "lr", *(f"own{i}" for i in range(9))]
    curves = [one for name in names for one in curve(name, [2.0, 1.0])]
    drawn = [axes.get_ylabel() for plot in trained(curves).values() for axes in plot.figure.axes]
    assert len(drawn) == len(set(drawn)) == len(names)
    assert {"total loss", "L1 loss", "feature KD", *names[6:]} < set(drawn)
    assert max(len(plot.figure.axes) for plot in trained(curves).values()) <= training.PANELS
    many = [one for i in range(training.MANY + 1) for one in curve("loss", [2.0, 1.0], method=f"net{i}")]
    assert len(trained([*many, *curve("l1", [1.0], method="net0")])["training-losses-msi4"].figure.axes) == 1


def test_a_training_that_diverges_is_said_and_not_drawn():
    def plotted(quantity, others, lost):
        """Twenty usual runs that begin far off, as trainings do, and one more."""
        curves = [one for i in range(20) for one in curve(quantity, [value + i / 10 for value in others], method=f"net{i}")]
        (plot,) = trained([*curves, *curve(quantity, lost, method="more")]).values()
        drawn = {line.get_label().removeprefix("_") for line in plot.figure.axes[0].lines}
        assert {f"net{i}" for i in range(20)} <= drawn
        return "more" not in drawn, plot.notes

    gone, notes = plotted("val_psnr_db", [5.0, 28.0, 30.0, 31.0], [5.0, 28.0, -59.0, -59.0])
    assert gone and "Not drawn, since far worse than all others: more (-59.0000)." in notes
    gone, notes = plotted("val_psnr_db", [5.0, 28.0, 30.0, 31.0], [5.0, -59.0, 30.0, 31.0])  # it comes back
    assert not gone and "Not drawn" not in notes
    assert not plotted("val_psnr_db", [5.0, 28.0, 30.0, 31.0], [5.0, 28.0, 90.0, 99.0])[0]  # better than all others
    assert plotted("val_sam_deg", [60.0, 9.0, 5.0, 4.0], [60.0, 9.0, 90.0, 90.0])[0]
    assert plotted("loss", [60.0, 9.0, 5.0, 4.0], [60.0, 1e10, 1e14, 1e14])[0]
    assert not plotted("loss", [60.0, 9.0, 5.0, 4.0], [60.0, 9.0, -0.1, -0.2])[0]
    assert not plotted("lr", [1e-3, 1e-3, 1e-3, 1e-3], [1e-3, 9.0, 9.0, 9.0])[0]  # which has no good side


def test_trials_of_learning_rates_are_in_no_figure():
    made = trained([*curve("loss", [2.0, 1.0]), *curve(f"{training.TRIAL}0.001", [20.0])])
    assert list(made) == ["training-losses-msi4"] and len(made["training-losses-msi4"].figure.axes) == 1


def test_files_have_the_same_bytes_each_time():
    first, second = (plots.file_bytes(plots.curves(section(noise_rows()))[0]) for _ in range(2))
    assert first == second
    assert first["png"].startswith(b"\x89PNG")
    assert first["pdf"].startswith(b"%PDF")
    assert b"CreationDate" not in first["pdf"]


OWN_RC = """font.family: serif
lines.linewidth: 9
axes.facecolor: red
savefig.bbox: tight
savefig.facecolor: green
figure.constrained_layout.h_pad: 1
"""


@pytest.mark.parametrize("lines_of_rc", ["", OWN_RC])
def test_a_user_s_matplotlibrc_changes_no_picture(lines_of_rc, tmp_path):
    (tmp_path / "matplotlibrc").write_text(lines_of_rc)
    script = (f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\n"
              "import hashlib, test_plots as t\n"
              "made = t.plots.file_bytes(t.plots.curves(t.section(t.noise_rows()))[0])\n"
              "print([hashlib.sha256(made[kind]).hexdigest() for kind in ('png', 'pdf')])")
    found = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True,
                           env=os.environ | {"MATPLOTLIBRC": str(tmp_path)}, check=True).stdout
    made = plots.file_bytes(plots.curves(section(noise_rows()))[0])
    assert found.strip() == str([hashlib.sha256(made[kind]).hexdigest() for kind in ("png", "pdf")])
