"""PSF, transfer function and Gaussian decimation against plain loops."""

import math

import pytest
import torch

from methods.registry import MethodError
from methods.responses import FWHM, Told, gaussian_decimate, gaussian_psf, shifted_psf, told_responses, transfer


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def looped_gaussian(size, sigma):
    """(size, size) as nested lists, normalised as a whole."""
    middle = (size - 1) / 2
    taps = [[math.exp(-((i - middle) ** 2 + (j - middle) ** 2) / (2 * sigma**2)) for j in range(size)] for i in range(size)]
    total = sum(sum(row) for row in taps)
    return [[tap / total for tap in row] for row in taps]


def test_what_is_told_is_one_value_or_nothing():
    psf, srf = random(3, 3), random(2, 5)
    told = told_responses("any", "known", psf, srf, 1)
    assert isinstance(told, Told) and told.psf is psf and told.srf is srf and told.phase == 1
    assert told_responses("any", "known", psf, srf, 0).phase == 0  # a phase of 0 is told
    assert told_responses("any", "known", srf=srf, needs=("srf",)) == (None, srf, None)
    assert told_responses("any", "blind", psf, srf, 1) is told_responses("any", "blind") is None
    with pytest.raises(MethodError, match=r"^any: mode 'known' needs psf, srf, phase and was not told psf, phase; give them"):
        told_responses("any", "known", srf=srf)
    with pytest.raises(MethodError, match=r"^any: mode 'known' needs srf and was not told srf; .*take mode='blind'"):
        told_responses("any", "known", psf=psf, needs=("srf",))
    with pytest.raises(MethodError, match=r"^any: mode 'seen'; choices: known, blind"):
        told_responses("any", "seen", psf, srf, 1)


@pytest.mark.parametrize("size, sigma", [(1, 2.0), (5, 1.0), (9, 2.0), (8, 1.7)])
def test_gaussian_psf_is_the_formula(size, sigma):
    expected = torch.tensor(looped_gaussian(size, sigma), dtype=torch.float64)
    assert torch.allclose(gaussian_psf(size, sigma), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("psf_size", [(3, 3), (4, 4), (1, 5), (9, 13)])  # the last one wraps around the image
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_transfer_is_circular_correlation(size, psf_size):
    psf, image = random(*psf_size), random(*size, seed=1)
    expected = torch.zeros(size, dtype=torch.float64)
    for y in range(size[0]):
        for x in range(size[1]):
            for i in range(psf_size[0]):
                for j in range(psf_size[1]):
                    row, column = y + i - (psf_size[0] - 1) // 2, x + j - (psf_size[1] - 1) // 2
                    expected[y, x] += psf[i, j] * image[row % size[0], column % size[1]]
    blurred = torch.fft.ifft2(torch.fft.fft2(image) * transfer(psf, size))
    assert torch.allclose(blurred.real, expected, rtol=0, atol=1e-12) and blurred.imag.abs().max() < 1e-12


def looped_decimate(band, ratio):
    """One LR pixel and one tap at a time."""
    rows, columns = len(band) // ratio, len(band[0]) // ratio
    result = [[0.0] * columns for _ in range(rows)]
    for y in range(rows):
        for x in range(columns):
            frame = y in (0, rows - 1) or x in (0, columns - 1)
            size = ratio if frame else 2 * ratio - ratio % 2
            start = (ratio - size) // 2
            taps = looped_gaussian(size, ratio / FWHM)
            result[y][x] = sum(
                taps[i][j] * band[ratio * y + start + i][ratio * x + start + j] for i in range(size) for j in range(size)
            )
    return result


@pytest.mark.parametrize("ratio", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("low", [(3, 5), (4, 3), (2, 4), (1, 1)])  # the last two are all frame
def test_gaussian_decimate_agrees_with_plain_loop(low, ratio):
    images = random(2, 1, low[0] * ratio, low[1] * ratio)
    looped = [[looped_decimate(band.tolist(), ratio) for band in image] for image in images]
    expected = torch.tensor(looped, dtype=torch.float64)
    assert torch.allclose(gaussian_decimate(images, ratio), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gaussian_decimate_keeps_dtype_and_constants(dtype):
    got = gaussian_decimate(torch.full((1, 2, 12, 20), 0.7, dtype=dtype), 4)
    assert got.dtype == dtype and got.shape == (1, 2, 3, 5)
    assert torch.allclose(got, torch.full_like(got, 0.7), rtol=torch.finfo(dtype).eps * 4)


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_gaussian_decimate_is_a_correlation_sampled_at_block_centres(ratio):
    image = random(1, 1, 6 * ratio, 8 * ratio)
    size, phase = image.shape[2:], (ratio - 1) // 2
    kernel = gaussian_psf(2 * ratio - ratio % 2, ratio / FWHM)
    blurred = torch.fft.ifft2(torch.fft.fft2(image) * transfer(kernel, size)).real[..., phase::ratio, phase::ratio]
    inner = (..., slice(1, -1), slice(1, -1))
    assert torch.allclose(gaussian_decimate(image, ratio)[inner], blurred[inner], rtol=0, atol=1e-13)


def test_a_shifted_psf_is_the_gaussian_at_another_place():
    found = shifted_psf(9, (1.5, 0.8), (1.0, -0.5))
    rows = [[math.exp(-0.5 * (((i - 5) / 1.5) ** 2 + ((j - 3.5) / 0.8) ** 2)) for j in range(9)] for i in range(9)]
    plain = torch.tensor(rows, dtype=torch.float64)
    assert torch.allclose(found, plain / plain.sum(), atol=1e-12)
    assert torch.allclose(shifted_psf(9, (2.0, 2.0), (0.0, 0.0)), gaussian_psf(9, 2.0))
