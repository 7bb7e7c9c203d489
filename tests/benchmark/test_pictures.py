"""Pictures and spectra from files of estimates: what is drawn equals what a loop over pixels gives."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmark import metrics
from benchmark.page import pictures, spectra
from benchmark.page.pictures import Picture
from datasets.aviris_bands import KEPT_172, centers_nm
from tests.benchmark.test_plots import lines
from tests.benchmark.test_tables import row, section

WAVELENGTHS = centers_nm()[[n - 1 for n in KEPT_172]]


def keep(folder, cube, reference, image="a"):
    folder.mkdir()
    for name, held in (("estimate", cube), ("reference", reference)):
        np.savez_compressed(folder / f"{name}.npz", cube=held.astype(np.float16), image=image, wavelengths=WAVELENGTHS)
    return folder / "estimate.npz"


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A split with two methods; the pixel (2, 3) looks like vegetation, (5, 6) like water, (9, 1) like a roof."""
    rng, place = np.random.default_rng(0), tmp_path_factory.mktemp("kept")
    reference = 0.2 + 0.1 * rng.random((172, 16, 16))
    for pixel, bright in (((2, 3), (700, 1300)), ((5, 6), (400, 700)), ((9, 1), (1450, 1800))):
        reference[(slice(None), *pixel)] = np.where((bright[0] < WAVELENGTHS) & (bright[1] > WAVELENGTHS), 0.9, 0.02)
    reference[:, 0, 0] = 0.0
    paths = {("near", 4, "test"): keep(place / "near", reference + 0.001, reference),
             ("far", 4, "test"): keep(place / "far", reference + 0.05 * rng.normal(size=reference.shape), reference),
             ("other", 4, "test"): keep(place / "other", reference, reference, image="b")}
    rows = [row("near", 40.0), row("far", 20.0), row("far", 10.0, image="b"), row("other", 1.0, image="b"),
            row("none", 2.0)]
    split = section(rows)
    return dataclasses.replace(split, rows=dataclasses.replace(split.rows, estimates=paths))


def test_estimates_of_one_image_are_read_and_others_left_out(held):
    found = pictures.pictures(held, 4)
    assert list(found) == ["near", "far"] and found["near"].image == "a"
    np.testing.assert_allclose(found["near"].estimate - found["near"].reference, 0.001, atol=5e-4)
    assert pictures.pictures(held, 6) == {} and pictures.figure_5(section([row("gsa", 1.0)])) == []


def test_an_estimate_beside_another_reference_is_refused(tmp_path):
    path = keep(tmp_path / "job", np.ones((172, 4, 4)), np.ones((172, 4, 4)))
    np.savez_compressed(path.with_name("reference.npz"), cube=np.ones((172, 4, 4), np.float16), image="z",
                        wavelengths=WAVELENGTHS)
    with pytest.raises(ValueError, match=r"'a'.*'z'.*remove both"):
        pictures.read(path)


def images_of(plot):
    return [axes for axes in plot.figure.axes if axes.images and axes.get_title()]


def test_figure_5_draws_residuals_on_one_scale_and_psnr_of_the_image_s_row(held):
    (plot,) = pictures.figure_5(held)
    assert "log10 of the residual" in plot.caption
    titles = [axes.get_title() for axes in images_of(plot)]
    assert titles == ["reference", "near\n40.00 dB", "far\n20.00 dB"]
    maps = {image.get_label(): image for axes in plot.figure.axes for image in axes.images}
    for method, one in pictures.pictures(held, 4).items():
        expected = [[np.log10(max(1e-4, np.mean([abs(one.estimate[b, y, x] - one.reference[b, y, x]) for b in range(172)])))
                     for x in range(16)] for y in range(16)]
        np.testing.assert_allclose(maps[method].get_array(), expected)
    assert maps["near"].get_clim() == maps["far"].get_clim()
    assert plot.alt.index("near") < plot.alt.index("far")


def test_angle_maps_have_the_mean_that_the_metric_gives(held):
    (plot,) = pictures.angle_maps(held)
    maps = {image.get_label(): image.get_array() for axes in plot.figure.axes for image in axes.images}
    for method, one in pictures.pictures(held, 4).items():
        sam = metrics.sam(torch.from_numpy(one.estimate), torch.from_numpy(one.reference))
        assert maps[method].mean() == pytest.approx(float(sam))


def test_the_window_shown_larger_is_where_the_image_varies_most():
    rgb = np.zeros((32, 32, 3))
    rgb[18:22, 9:12] = np.random.default_rng(0).random((4, 3, 3))
    top, left, side = pictures.detail(rgb)
    assert side == 8 and top <= 18 and top + side >= 22 and left <= 9 and left + side >= 12


def test_without_known_wavelengths_channels_are_spread_evenly():
    assert pictures.channels(np.arange(400.0, 700.0, 10)) == (21, 14, 7)
    red, green, blue = pictures.channels(WAVELENGTHS)
    assert [round(WAVELENGTHS[band], -1) for band in (red, green, blue)] == [860, 650, 550]


def test_quality_by_band_has_the_mean_of_the_metric_and_gaps(held):
    psnr, angle = spectra.by_band(held)
    for method, one in pictures.pictures(held, 4).items():
        expected = metrics.psnr(torch.from_numpy(one.estimate), torch.from_numpy(one.reference))
        assert spectra.band_psnr(one).mean() == pytest.approx(float(expected))
        band = 7
        u, v = one.estimate[band].ravel(), one.reference[band].ravel()
        assert spectra.band_angle(one)[band] == pytest.approx(
            np.degrees(np.arccos(sum(u * v) / np.sqrt(sum(u * u) * sum(v * v)))), abs=1e-6)
        for plot, values in ((psnr, spectra.band_psnr(one)), (angle, spectra.band_angle(one))):
            parts = [line.get_xydata() for line in plot.figure.axes[0].lines if line.get_label().lstrip("_") == method]
            assert len(parts) == 3  # cut where water vapour absorbs: at 1.4 and 1.9 micrometres
            drawn = np.concatenate(parts)
            assert sorted(drawn[:, 1]) == pytest.approx(sorted(values)) and (np.diff(drawn[:, 0]) >= 0).all()
    assert len(psnr.figure.axes[0].patches) == 2


def test_a_band_without_light_has_no_psnr_and_an_exact_one_the_ceiling():
    reference = np.stack([np.zeros((4, 4)), np.ones((4, 4))])
    values = spectra.band_psnr(Picture(reference, reference, "a", np.array([500.0, 600.0])))
    assert np.isnan(values[0]) and values[1] == pytest.approx(metrics.PSNR_CEILING_DB)


def test_pixels_are_chosen_by_their_index(held):
    one = pictures.pictures(held, 4)["near"]
    assert {each.what: (each.row, each.column) for each in spectra.chosen_pixels(one)} == {
        "vegetation": (2, 3), "water": (5, 6), "man-made": (9, 1)}
    assert spectra.chosen_pixels(dataclasses.replace(one, wavelengths=np.linspace(400, 700, 172))) == []


def test_spectra_and_their_errors_are_those_of_the_pixel(held):
    found = {plot.name: plot for plot in spectra.spectra(held)}
    assert list(found) == [f"made-test-spectrum-{what}-msi4" for what in ("vegetation", "water", "man-made")]
    above, below = found["made-test-spectrum-water-msi4"].figure.axes
    one, order = pictures.pictures(held, 4)["far"], np.argsort(WAVELENGTHS)[:5]
    assert lines(above)["far"].get_ydata()[:5] == pytest.approx(one.estimate[order, 5, 6])
    assert lines(above)["reference"].get_ydata()[:5] == pytest.approx(one.reference[order, 5, 6])
    assert lines(below)["far"].get_ydata()[:5] == pytest.approx((one.estimate - one.reference)[order, 5, 6])
    assert "NDWI (560, 860 nm)" in found["made-test-spectrum-water-msi4"].notes
