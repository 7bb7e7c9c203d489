"""A made pair as two satellites give it, from file to file: EnMAP-like at 30 m and Sentinel-2-like at 10 m, of one place."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from affine import Affine

import run_benchmark
from benchmark import sensors
from benchmark.protocol import apply_response, blur_decimate
from datasets.aviris_bands import centers_nm
from datasets.synthetic import draw
from methods.responses import gaussian_psf

UTM, CORNER, RATIO, LOW = "EPSG:32632", (399_990.0, 5_300_010.0), 3, 24
SIGMA = 1.27  # HR pixels: half of the maximum is reached at the borders of an LR pixel
HSI_FILL, MSI_FILL = 65535, 0
BANDS = ("2", "3", "4", "8")


def write(path, values, metres, scale, fill, valid, nm=()):
    """A GeoTIFF of uint16 counts of ``scale``, as rasterio writes it."""
    counts = np.where(valid, np.rint(values / scale).clip(1, 65534), fill).astype(np.uint16)
    size = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", **size, dtype="uint16", crs=UTM, nodata=fill, compress="deflate",
                       transform=Affine(metres, 0, CORNER[0], 0, -metres, CORNER[1])) as file:
        file.write(counts)
        file.scales = [scale] * len(values)
        for band, each in enumerate(nm, 1):
            file.update_tags(band, wavelength=f"{each:.3f}", wavelength_units="Nanometers")
    return str(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Both files, the scene (bands, H, W) in the HSI's unit, its wavelengths, and (H, W) where both have data."""
    folder, side = tmp_path_factory.mktemp("made"), RATIO * LOW
    cube, nm = draw(np.random.default_rng(12), side), centers_nm()
    seen = (nm > 420) & (nm < 2450)
    truth, nm = torch.from_numpy(cube[seen]).double() / 100, nm[seen]
    held = {band.name: band for band in sensors.bands_of("sentinel-2")}
    hsi = blur_decimate(truth, gaussian_psf(9, SIGMA), RATIO, 1, "reflect").numpy()
    msi = apply_response(truth, sensors.response(tuple(held[name] for name in BANDS), nm)).numpy()
    rows, columns = np.mgrid[:LOW, :LOW]
    line = (3 * rows + columns > 18) & (3 * rows + columns < 78)  # a flight line that is turned lacks two corners
    rows, columns = np.mgrid[:side, :side]
    swath = columns - rows < 60
    files = (write(folder / "enmap.tif", hsi, 30, 0.01, HSI_FILL, line, nm),
             write(folder / "s2.tif", msi, 10, 0.005, MSI_FILL, swath))
    return *files, truth.numpy(), nm, np.kron(line, np.ones((RATIO, RATIO), bool)) & swath


def psnr(image, truth):
    """Mean over bands in dB, each by its largest value; of (bands, pixels)."""
    return float(np.mean(10 * np.log10(truth.max(1) ** 2 / ((image - truth) ** 2).mean(1))))


def fused(made, out, *words):
    """Rows of `fuse` by method, and of each the PSNR in dB where both files have data; what rasterio finds is checked."""
    hsi, msi, truth, nm, valid = made
    assert run_benchmark.main(["fuse", hsi, msi, "--out", str(out), *words]) == 0
    rows = pd.read_csv(out / "rows.csv", keep_default_na=False).set_index("method")
    assert (rows["ratio"] == RATIO).all()
    found = {}
    for method, name in rows["file"].items():
        with rasterio.open(out / name) as file, rasterio.open(msi) as grid:
            assert file.crs == grid.crs and file.transform == grid.transform and file.shape == grid.shape
            assert file.count == len(nm) > 200
            np.testing.assert_allclose([float(file.tags(band)["wavelength"]) for band in file.indexes], nm, atol=1e-3)
            image = file.read(masked=True)
        assert np.array_equal(~image.mask, np.broadcast_to(valid, image.shape))
        found[method] = psnr(image.data[:, valid].astype(float), truth[:, valid])
    return rows, found


def test_told_nothing(made, tmp_path, capsys):
    rows, found = fused(made, tmp_path)  # the methods that are taken if none is named
    err = capsys.readouterr().err
    assert f"of {LOW * LOW} pixels are no-data (65535)" in err and "gains 0.01" in err and "gains 0.005" in err
    assert found["gsa"] > 28 and found["hysure-blind"] > 33 and found["subspace-ridge-blind"] > 35
    assert (rows["trust"] == "").all() or rows.loc["subspace-net@weights=shipped", "trust"] == "ok"


def test_told_the_truth_and_an_estimate(made, tmp_path, capsys):
    """A sensor by name and a PSF by its width; what `estimate` finds beside the corners without data does as well."""
    hsi, msi, *_ = made
    sensors_known = ("--srf", f"sentinel-2:{','.join(BANDS)}", "--psf", f"gaussian:{SIGMA}")
    rows, known = fused(made, tmp_path / "known", "--methods", "subspace-ridge", "bicubic", *sensors_known)
    assert rows.loc["subspace-ridge", "trust"] == ""  # nothing was estimated
    assert known["subspace-ridge"] > 38 > known["bicubic"] + 12
    assert run_benchmark.main(["estimate", hsi, msi, "--out", str(tmp_path / "e")]) == 0
    assert "trust: ok" in capsys.readouterr().out
    with np.load(tmp_path / "e" / "responses.npz") as held:
        psf, reach = held["psf"], len(held["psf"]) // 2
        np.testing.assert_allclose(psf[reach - 4 : reach + 5, reach - 4 : reach + 5], gaussian_psf(9, SIGMA), atol=0.005)
        assert held["phase"] == 1
    rows, told = fused(made, tmp_path / "told", "--methods", "subspace-ridge", "--responses", str(tmp_path / "e/responses.npz"))
    assert rows.loc["subspace-ridge", "trust"] == "ok" and told["subspace-ridge"] > known["subspace-ridge"] - 0.5


def test_an_estimate_that_cannot_be_trusted_is_told(made, tmp_path, capsys):
    rows, _ = fused(made, tmp_path, "--methods", "bicubic", "subspace-ridge", "--estimator", "nonnegative")
    assert list(rows["trust"]) == ["", "the PSF does not end within its support"]
    assert "what is estimated of the responses cannot be trusted: the PSF does not end" in capsys.readouterr().err
