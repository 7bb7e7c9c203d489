"""What each defect costs: the change from clean at the far end of every axis, in a table and in a picture."""

import pytest

from benchmark.degradations import BandNoise, Quantisation, Rotation, Smile, Stripes, degraded
from benchmark.page import defects
from benchmark.page.axes import axes_of
from benchmark.protocol import CLEAN, OTHER_LR_HSI, noise
from tests.benchmark.test_tables import cells, row, section

MANY = (CLEAN, *map(degraded, (Stripes(0.02), Stripes(0.05), Smile(1), BandNoise(35), BandNoise(25), Quantisation(10),
                               Quantisation(8), Rotation(0.5))), noise("both", 45), noise("both", 15))


def test_the_far_end_of_an_axis_is_the_one_away_from_clean():
    far = {name: defects.farthest(axis).words for name, axis in axes_of(MANY).items()}
    assert far == {"noise-both": "15 dB", "stripes": "0.05", "smile": "1 nm", "band-noise": "25 dB", "quantisation": "8 bits",
                   "rotation": "0.5 deg"}


def test_changes_from_clean_stand_in_table_and_picture():
    psnr = {"stripes-0.05": 24.0, "stripes-0.02": 28.0, "smile-1": 29.0, "band-noise-25": 20.0, "quantisation-8": 30.5,
            "rotation-0.5": 27.0}
    rows = [row("gsa", 30.0), *(row("gsa", value) | {"scenario": name} for name, value in psnr.items()),
            row("gsa", 15.0, target="both", snr=15.0)]
    plot, table = defects.defects(section(rows, scenarios=MANY))
    found = {name: cells(table, f"psnr_db_change_{name}")[4, "gsa"].value for name in axes_of(MANY)}
    assert found == pytest.approx({"noise-both": -15.0, "stripes": -6.0, "smile": -1.0, "band-noise": -10.0,
                                   "quantisation": 0.5, "rotation": -3.0})
    drawn = {text.get_text() for text in plot.figure.axes[0].texts}
    assert drawn == {"−15.0", "−6.0", "−1.0", "−10.0", "0.5", "−3.0"}
    assert "noise-both 15 dB -15.0 dB, band-noise 25 dB -10.0 dB, stripes 0.05 -6.0 dB" in plot.alt
    assert defects.defects(section(rows, scenarios=MANY[:4])) == []  # three kinds are read from their own tables
    only_table = defects.defects(section([row("gsa", 30.0, msi_bands=6)], scenarios=MANY, msi_bands=(4,)))
    assert [type(each).__name__ for each in only_table] == ["Table"]


def test_numbers_of_few_defects_fit_their_cells_beside_long_names():
    name = "a-network-with-a-long-name@train=and-procedural"
    shown = (CLEAN, noise("both", 15), noise("lr_hsi", 15), *map(degraded, (Stripes(0.05),)), OTHER_LR_HSI)
    rows = [row(name, 50.0), *(row(name, 12.0) | {"scenario": each.name, "noise_target": each.noise_target,
                                                  "snr_db": each.snr_db} for each in shown[1:])]
    plot, table = defects.defects(section(rows, methods=(name,), scenarios=shown))
    plot.figure.draw_without_rendering()
    axes = plot.figure.axes[0]
    width = axes.bbox.width / len(axes.texts)
    assert len(axes.texts) == 4 and all(text.get_window_extent().width < width for text in axes.texts)
    assert [column.label for column in table.columns][-2:] == ["other-lr-hsi", "stripes 0.05"]  # no amount, and one
