"""Spectral responses against plain loops over finely sampled curves, and files of one's own, good and bad."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import sensors
from benchmark.protocol import PAPER, Scenario
from benchmark.sensors import BOXES, MEASURED, Band, bands_of, bands_of_file, left_out, response, shares, weights
from datasets.aviris_bands import KEPT_172, centers_nm
from datasets.scene import Scene, SceneError

AVIRIS = centers_nm()[np.array(KEPT_172) - 1]
CAVE = np.arange(400.0, 701.0, 10.0)
SAMSON = np.linspace(401, 889, 156)
EVEN = np.arange(350.0, 2551.0, 5.0)  # all that any of them sees

# Centroid, lower and upper edge at half of the peak, in nm, of one band a sensor, as tabled from the published samples.
PLACES = {
    ("landsat5-tm", "4"): (839.1, 776, 905), ("landsat7-etm", "3"): (661.4, 631, 692),
    ("landsat8-oli", "9"): (1373.5, 1364, 1383),
    ("sentinel-2", "8A"): (864.7, 855, 874), ("worldview-2", "6 rededge"): (723.8, 704, 743),
    ("worldview-3", "16 swir8"): (2329.9, 2296, 2365), ("ikonos", "5 nir"): (791.6, 760, 850),
    ("quickbird-2", "1 blue"): (491.8, 450, 510), ("geoeye-1", "red"): (675.7, 661, 692),
    ("eo1-ali", "10"): (2225.7, 2086, 2362),
    ("nikon-d700", "green"): (543.5, 500, 580),
}
COUNTS = {"landsat5-tm": 6, "landsat7-etm": 6, "landsat8-oli": 8, "sentinel-2": 13, "worldview-2": 8, "worldview-3": 16,
          "ikonos": 4, "quickbird-2": 4, "geoeye-1": 4, "eo1-ali": 9, "nikon-d700": 3}


def samples(sensor, name):
    """Wavelengths and responses of a band, read from its file by a loop of its own."""
    with (Path(sensors.__file__).parent / f"{sensor}.csv").open() as file:
        rows = [(float(row["wavelength_nm"]), float(row[name])) for row in csv.DictReader(file) if row[name]]
    return np.array(rows).T


def fine_row(sensor, name, wavelengths):
    """What one band weighs, by sampling its curve every 0.01 nm and dealing each sample to the nearest HSI band."""
    x, y = samples(sensor, name)
    first, last = (x[1] - x[0]) / 2, (x[-1] - x[-2]) / 2
    at = np.arange(x[0] - first, x[-1] + last, 0.01) + 0.005
    values = np.interp(at, x, y)
    reach = np.median(np.diff(np.sort(wavelengths)))
    order = np.sort(wavelengths)
    ends = (order[0] - (order[1] - order[0]) / 2, order[-1] + (order[-1] - order[-2]) / 2)
    row = np.zeros(len(wavelengths))
    for i, centre in enumerate(wavelengths):
        near = np.abs(at - centre) <= reach
        near &= (at >= ends[0]) & (at <= ends[1])
        others = np.delete(wavelengths, i)
        near &= np.abs(at[:, None] - others[None]).min(1) > np.abs(at - centre) if near.any() else near
        row[i] = values[near].sum() * 0.01
    return row, values.sum() * 0.01


def test_every_sensor_has_its_bands_and_rows_sum_to_one():
    assert set(MEASURED) == set(COUNTS)
    for sensor, count in COUNTS.items():
        assert len(bands_of(sensor)) == count
        srf = response(sensor, EVEN)
        assert srf.shape == (count, len(EVEN)) and srf.dtype == torch.float32 and (srf >= 0).all()
        assert torch.allclose(srf.sum(1), torch.ones(count), atol=1e-6)
        assert left_out(sensor, EVEN) == ""


@pytest.mark.parametrize("sensor, name", PLACES)
def test_curves_lie_where_the_published_ones_do(sensor, name):
    centroid, low, high = PLACES[sensor, name]
    x, y = samples(sensor, name)
    assert y.max() == 1 and np.trapezoid(x * y, x) / np.trapezoid(y, x) == pytest.approx(centroid, abs=0.6)
    above = x[y >= 0.5]
    assert (above[0], above[-1]) == (low, high)
    srf = response(sensor, EVEN)[[band.name for band in bands_of(sensor)].index(name)].double().numpy()
    assert (srf * EVEN).sum() == pytest.approx(centroid, abs=1.5)


@pytest.mark.parametrize("sensor, name, wavelengths", [
    ("nikon-d700", "red", CAVE), ("ikonos", "4 red", SAMSON), ("sentinel-2", "5", CAVE), ("landsat8-oli", "6", AVIRIS),
    ("worldview-3", "4 yellow", AVIRIS),  # where two spectrometers overlap
    ("landsat5-tm", "7", AVIRIS), ("eo1-ali", "8", AVIRIS),
])
def test_weights_are_the_integral_of_the_curve_over_the_share_of_each_band(sensor, name, wavelengths):
    (band,) = [band for band in bands_of(sensor) if band.name == name]
    row, whole = fine_row(sensor, name, wavelengths)
    got = weights([band], wavelengths)[0]
    np.testing.assert_allclose(got, row, atol=2e-4 * whole)
    assert shares(sensor, wavelengths)[name] == pytest.approx(row.sum() / whole, abs=1e-4)


def test_a_coarse_scene_sees_a_narrow_band_by_its_area():
    """Sentinel-2's band 5, 698 to 711 nm, on bands every 40 nm: sampling its curve at 700 or at 720 would miss most of it."""
    wavelengths = np.arange(400.0, 1001.0, 40.0)
    x, y = samples("sentinel-2", "5")
    area = np.trapezoid(y, x)
    left = np.trapezoid(np.interp(np.linspace(x[0], 700, 999), x, y), np.linspace(x[0], 700, 999))
    band = [band for band in bands_of("sentinel-2") if band.name == "5"]
    row = weights(band, wavelengths)[0] / weights(band, wavelengths)[0].sum()
    assert row[wavelengths == 680] == pytest.approx(left / area, abs=0.01)
    assert row[wavelengths == 720] == pytest.approx(1 - left / area, abs=0.01)


def test_order_of_the_bands_is_that_of_the_scene():
    order = np.random.default_rng(0).permutation(len(AVIRIS))
    assert torch.equal(response("sentinel-2", AVIRIS[order]), response("sentinel-2", AVIRIS)[:, order])


def test_bands_that_the_scene_cannot_feed_are_left_out_and_told():
    assert response("nikon-d700", CAVE).shape == (3, 31)
    assert response("worldview-2", CAVE).shape[0] == 5  # coastal to red
    assert response("ikonos", np.linspace(430, 860, 102)).shape == (4, 102)
    assert response("ikonos", SAMSON).shape == response("quickbird-2", SAMSON).shape == (4, 156)
    assert response("landsat8-oli", AVIRIS).shape[0] == 5  # no coastal and blue band below 475 nm, no cirrus band in the gap
    told = left_out("landsat8-oli", AVIRIS)
    assert "5 of its 8 bands" in told and "0 % of bands 1, 9; 62 % of band 2" in told
    with pytest.raises(SceneError, match=r"feeds 5 of its 8 bands, not 8.*give --msi-bands 5.*--srf FILE.csv"):
        response("landsat8-oli", AVIRIS, 8)
    with pytest.raises(SceneError, match=r"feeds none of its 3 bands.*--msi-sensor"):
        response("nikon-d700", np.arange(1000.0, 1200.0, 10.0))
    with pytest.raises(SceneError, match=r"unknown MSI sensor 'sentinel2'\. Did you mean 'sentinel-2'.*landsat-tm"):
        response("sentinel2", CAVE)


def test_a_gap_feeds_nothing_beyond_the_reach_of_its_neighbours():
    flat = [Band("flat", (0.0, 4000.0), (1.0, 1.0))]
    even = np.concatenate([np.arange(500.0, 601.0, 10.0), np.arange(800.0, 901.0, 10.0)])
    row = weights(flat, even)[0]
    expected = np.full(22, 10.0)
    expected[10] = expected[11] = 15.0  # half a band inwards, a whole distance of bands into the gap
    np.testing.assert_allclose(row, expected)
    with pytest.raises(SceneError, match="1 band"):
        weights(flat, np.array([500.0]))


def test_the_nominal_boxes_stay_and_take_what_the_scene_covers():
    assert set(BOXES) == {"landsat-tm"}
    for count in (4, 6):
        edges = BOXES["landsat-tm"][count]
        expected = np.array([[low <= nm < high for nm in AVIRIS] for low, high in edges], dtype=float)
        expected /= expected.sum(1, keepdims=True)
        np.testing.assert_allclose(response("landsat-tm", AVIRIS, count).numpy(), expected, rtol=1e-6)
    assert len(response("landsat-tm", AVIRIS)) == 6 and len(response("landsat-tm", np.arange(400.0, 1000.0, 5.0))) == 4
    with pytest.raises(SceneError, match=r"no Landsat TM response with 5 bands; choices: \[4, 6\]; or .*--msi-sensor"):
        response("landsat-tm", AVIRIS, 5)


def test_a_protocol_takes_a_sensor_by_name_and_what_is_told_may_be_moved():
    cube = np.random.default_rng(0).uniform(1, 2, (31, 32, 32))
    scene = Scene.from_native("s", cube, CAVE)
    protocol = replace(PAPER, hr_size=32, bands="all", srf="nikon-d700")
    reference, seen = protocol.look(scene, 3)
    assert torch.allclose(seen.hr_msi, torch.einsum("mb,bhw->mhw", response("nikon-d700", CAVE), reference.cube))
    moved = protocol.observe(scene, 3, Scenario("told", told_srf_shift_nm=20.0)).told.srf.double().numpy()
    true = seen.told.srf.double().numpy()
    assert (moved[1] * CAVE).sum() - (true[1] * CAVE).sum() == pytest.approx(20, abs=4)  # the camera's tails leave the scene
    assert "responses of nikon-d700" in protocol.describe() and "Landsat TM boxes" in PAPER.describe()
    own = replace(protocol, srf=bands_of("nikon-d700"))
    assert torch.equal(own.observe(scene, 3).hr_msi, seen.hr_msi) and own.digest != protocol.digest
    assert "given responses of 3 bands" in own.describe()


# ------------------------------------------------------------------------------------------------------ files of one's own


def written(tmp_path, text):
    path = tmp_path / "own.csv"
    path.write_text(text)
    return path


def test_columns_of_curves_are_read(tmp_path):
    bands = bands_of_file(written(tmp_path, "# mine\nwavelength_nm, a ,b\n\n500,0.0,\n510,2,1\n520,0,3\n530,,1\n"))
    assert [band.name for band in bands] == ["a", "b"]
    wavelengths = np.arange(490.0, 550.0, 2.0)
    a = np.interp(wavelengths, [500, 510, 520], [0, 2, 0], left=0, right=0)
    got = response(bands, wavelengths).double().numpy()
    np.testing.assert_allclose(got[0], a / a.sum(), atol=0.02)
    assert bands[1].wavelengths == (505, 510, 520, 530, 535) and bands[1].response == (1, 1, 3, 1, 1)
    micro = bands_of_file(written(tmp_path, "wavelength,a\n0.5,0\n0.51,2\n0.52,0\n"))
    assert micro[0].wavelengths == pytest.approx((495, 500, 510, 520, 525)) and micro[0].response == (0, 0, 2, 0, 0)


def test_rows_of_boxes_are_read(tmp_path):
    wavelengths = np.arange(400.0, 701.0, 10.0)
    for text in ("low,high\n450,520\n520,600\n", "low_nm,high_nm,name\n450,520,1\n520,600,2\n",
                 "low,high\n0.45,0.52\n0.52,0.6\n"):
        bands = bands_of_file(written(tmp_path, text))
        assert [band.name for band in bands] == ["1", "2"]
        for row, (low, high) in zip(response(bands, wavelengths).numpy(), ((450, 520), (520, 600))):
            overlap = [max(0.0, min(nm + 5, high) - max(nm - 5, low)) for nm in wavelengths]
            np.testing.assert_allclose(row, np.array(overlap) / (high - low), atol=1e-6)


@pytest.mark.parametrize("text, told", [
    ("", "no lines"),
    ("500,1\n510,2\n", "line 1: '500,1'; the first line names the columns"),
    ("wavelength_nm,a\n", "line 1: no line of numbers"),
    ("wavelength_nm,a,a\n1,2,3\n", "line 1.*name of its own"),
    ("wavelength_nm,a\n500,1\n510,x\n", "line 3: 'x' is no number"),
    ("wavelength_nm,a\n500,1\n510,-1\n", "line 3: '-1' is no number of 0 or more"),
    ("wavelength_nm,a\n500,1\n510,nan\n", "line 3: 'nan'"),
    ("wavelength_nm,a\n500,1\n\n500,1\n", "line 4: wavelength 500 does not follow 500"),
    ("wavelength_nm,a\n500,1\n510,1,1\n", "line 3: 3 columns where the first line names 2"),
    ("wavelength_nm,a,b\n500,1,0\n510,1,0\n", "line 1: band 'b' has 2 samples; .*above 0"),
    ("wavelength_nm,a,b\n500,1,\n510,1,1\n", "line 1: band 'b' has 1 samples"),
    ("low,high\n450,520\n600,520\n", "line 3: low 600 is not below high 520"),
    ("low,high,name\n450,520,a\n520,600,a\n", "line 3: a second band 'a'"),
    ("low,high\n450,\n", "line 2: '' is no number"),
])
def test_what_is_wrong_with_a_file_is_told_by_line(tmp_path, text, told):
    with pytest.raises(SceneError, match=f"own.csv.*{told}"):
        bands_of_file(written(tmp_path, text))


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(SceneError, match=r"nowhere\.csv: no such file"):
        bands_of_file(tmp_path / "nowhere.csv")
    (tmp_path / "own.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SceneError, match="no CSV text"):
        bands_of_file(tmp_path / "own.csv")


# ------------------------------------------------------------------------------------------------------ PSFs of one's own


def test_a_protocol_holds_a_psf_and_its_key_says_so():
    rows = ((0.0, 1.0, 0.0), (1.0, 4.0, 2.0), (0.0, 0.0, 0.0))
    own = replace(PAPER, psf_support=3, psf_matrix=rows)
    assert torch.allclose(own.psf, torch.tensor(rows) / 8) and own.psf.dtype == torch.float32
    assert own.digest not in (PAPER.digest, replace(PAPER, psf_support=3).digest)
    assert replace(PAPER, psf_matrix=()).digest == PAPER.digest == "770ada7388ea"
    assert "a given PSF on 3x3" in own.describe()
    scene = Scene.from_native("s", np.random.default_rng(0).uniform(1, 2, (31, 16, 16)), CAVE)
    small = replace(own, bands="all", hr_size=16, srf="nikon-d700")
    reference, seen = small.look(scene, 3)
    cube = reference.cube.numpy()
    expected = (cube[:, 4, 5] + cube[:, 5, 4] + 4 * cube[:, 5, 5] + 2 * cube[:, 5, 6]) / 8  # the sample at phase + ratio
    np.testing.assert_allclose(seen.lr_hsi[:, 1, 1].numpy(), expected, rtol=1e-5)
    told = small.observe(scene, 3, Scenario("told", told_psf_sigma=1.0)).told.psf
    assert told.shape == (3, 3) and torch.allclose(told, told.T) and not torch.allclose(told, small.psf)
    for wrong in ({"psf_matrix": rows}, {"psf_support": 3, "psf_matrix": rows[:2]},
                  {"psf_support": 3, "psf_matrix": ((0.0,) * 3,) * 3},
                  {"psf_support": 3, "psf_matrix": ((math.nan,) * 3,) * 3}):
        with pytest.raises(ValueError, match="its PSF must have"):
            replace(PAPER, **wrong)
