"""Each quantity on made images of known answer; rows that go on; the page from rows alone."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

import run_benchmark
from benchmark import realism
from benchmark.page.realism import outside, within
from benchmark.realism import band_noise, band_snr, components, correlation, fine_share, kurtosis, radial_spectrum, rank, slope
from datasets import get
from methods.levels import principal_components


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def low_rank(dimensions, bands=172, samples=9000, noise=0.01):
    """(bands, n) of so many dimensions, and white noise."""
    return normal(bands, dimensions, seed=1) @ normal(dimensions, samples, seed=2) + noise * normal(bands, samples, seed=3)


def power_law(exponent, side=256):
    """(side, side) noise whose power falls as frequency^-exponent."""
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.fftfreq(side)[None]).double()
    frequency[0, 0] = torch.inf
    return torch.fft.ifft2(torch.fft.fft2(normal(side, side)) * frequency ** (-exponent / 2)).real


@pytest.mark.parametrize("dimensions", [1, 3, 7])
def test_dimensions_of_a_made_cube(dimensions):
    pixels = low_rank(dimensions)
    assert rank(pixels) in (dimensions, dimensions + 1) and components(pixels) <= dimensions
    assert components(low_rank(dimensions, noise=1e-6)) == components(pixels)


def test_rank_is_that_of_bands_of_unequal_noise():
    pixels = low_rank(4, noise=0) + torch.linspace(0.01, 0.04, 172, dtype=torch.float64)[:, None] * normal(172, 9000, seed=3)
    assert rank(pixels) in (4, 5) and principal_components(pixels, 172).rank > 40


def test_components_are_counted_by_the_variance_they_hold():
    axes = torch.linalg.qr(normal(5, 5)).Q
    scores = torch.linalg.qr(normal(4000, 5) - normal(4000, 5).mean(0)).Q.T  # uncorrelated, of one variance
    for sizes, expected in (((1.0, 0.0009, 0, 0, 0), 1), ((1.0, 0.0011, 0, 0, 0), 2), ((1.0, 1.0, 1.0, 0.1, 0.001), 4)):
        assert components(axes @ (torch.tensor(sizes, dtype=torch.float64).sqrt()[:, None] * scores)) == expected


def test_correlation_is_that_of_a_loop():
    pixels = low_rank(3, bands=9, samples=200, noise=0.5)
    for apart in (1, 4, 8):
        expected = [np.corrcoef(pixels[i], pixels[i + apart])[0, 1] for i in range(9 - apart)]
        assert correlation(pixels, apart) == pytest.approx(np.mean(expected), abs=1e-12)
    assert np.isnan(correlation(pixels, 9))


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_slope_of_a_power_law(exponent):
    frequency, power = radial_spectrum(power_law(exponent))
    assert frequency[0] == 1 / 256 and frequency[-1] == 0.5
    assert slope(frequency, power) == pytest.approx(exponent, abs=0.1)
    rings = frequency ** (1 - exponent)  # of so long rings and this power: the share that is expected
    assert fine_share(frequency, power) == pytest.approx(float(rings[frequency > 0.25].sum() / rings.sum()), abs=0.08)


def test_kurtosis_tells_edges_from_texture():
    assert kurtosis(power_law(2.0)) == pytest.approx(3, abs=0.15)
    square = torch.zeros(40, 40, dtype=torch.float64)
    square[10:20, 10:20] = 1
    steps = np.concatenate([np.diff(square.numpy(), axis=axis).ravel() for axis in (0, 1)])
    assert kurtosis(square) == pytest.approx(np.mean(steps**4) / np.mean(steps**2) ** 2) and kurtosis(square) > 50


def test_snr_of_known_noise():
    sigma = torch.linspace(0.01, 0.04, 172, dtype=torch.float64)
    clean = 2 + low_rank(4, noise=0)
    pixels = clean + sigma[:, None] * normal(172, 9000, seed=3)
    ratio = band_noise(pixels).sqrt() / sigma
    assert ratio.min() > 0.97 and ratio.max() < 1.2 and ratio.median() == pytest.approx(1, abs=0.03)
    expected = 10 * (clean.square().mean(1) / sigma.square()).log10()
    assert torch.allclose(band_snr(pixels), expected, rtol=0, atol=1.5)
    with pytest.raises(ValueError, match="30 pixels"):
        band_noise(pixels[:, :30])


def test_noise_is_the_residual_of_a_regression():
    pixels = low_rank(3, bands=8, samples=100, noise=0.3)
    for i, variance in enumerate(band_noise(pixels).tolist()):
        others = np.vstack([np.delete(pixels.numpy(), i, 0), np.ones(100)]).T
        found, _, _, _ = np.linalg.lstsq(others, pixels[i].numpy(), rcond=None)
        residual = pixels[i].numpy() - others @ found
        assert variance == pytest.approx((residual**2).sum() / (100 - 8), rel=1e-9)


def test_within_the_range_of_real_scenes():
    rows = pd.DataFrame({"dataset": [realism.REAL] * 3 + [realism.PROCEDURAL] * 3, "slope": [1.0, 2, 3, 0, 2.5, 9],
                         "rank": [5, 6, 7, 8, 8, 5]})
    assert within(rows, realism.PROCEDURAL, "slope") and not within(rows, realism.PROCEDURAL, "rank")
    assert len(outside(rows, realism.PROCEDURAL, ("slope", "rank"))) == 1


def test_the_command_measures_what_lacks_and_renders_the_same_page(tmp_path, monkeypatch):
    data = {name: get(name if name != realism.REAL else realism.PROCEDURAL, size=32, train=0, val=0, test=2, seed=seed)
            for seed, name in enumerate(realism.SETS)}
    monkeypatch.setattr(realism, "PROTOCOL", replace(realism.PROTOCOL, hr_size=32))
    monkeypatch.setattr(realism, "dataset_of", lambda name: (data[name], data[name].entries("test")))
    monkeypatch.setattr(realism, "scores", lambda scene: dict.fromkeys(realism.SCORES, float(scene.cube.mean())))
    monkeypatch.setattr(realism, "compare", partial(realism.compare, realism.SETS))
    words = ["realism", "--results", str(tmp_path / "res"), "--reports", str(tmp_path / "rep")]
    assert run_benchmark.main(words) == 0
    path, page = tmp_path / "res" / "realism.csv", tmp_path / "rep" / "realism" / "index.html"
    beside = tmp_path / "res" / "realism-curves.csv"
    head, *lines = path.read_text().splitlines()
    assert len(lines) == 6 and str(tmp_path) not in path.read_text()
    before, curves = page.read_text(), sorted(beside.read_text().splitlines())
    path.write_text("\n".join([head, *lines[:5]]) + "\n")  # the last row is lost: its curves are drawn anew
    assert run_benchmark.main(words) == 0
    assert len(path.read_text().splitlines()) == 7 and sorted(beside.read_text().splitlines()) == curves
    rows, table = pd.read_csv(path), pd.read_csv(tmp_path / "rep/realism/tables/realism.csv")
    real = rows[rows["dataset"] == realism.REAL]["slope"]
    line = table[table["Quantity"].str.startswith("Exponent")].iloc[0]
    assert [float(line[f"Real, {word}"]) for word in ("lowest", "median", "highest")] == pytest.approx(
        [real.min(), real.median(), real.max()], abs=0.006)
    assert len(table) == len(realism.MEASURES) and 'href="realism/index.html"' in (tmp_path / "rep" / "index.html").read_text()
    assert run_benchmark.main(words) == 0
    assert page.read_text() == before
