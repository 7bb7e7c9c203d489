"""The small deterministic fusion cases on which the reference toolboxes of the classical methods were recorded.

``make_case()`` gives float64 arrays [row, column, band]: ``hr_hsi`` (H, W, B) in [0, 1], ``lr_hsi`` (H/r, W/r, B), blurred
by correlation with ``psf`` (k, k) under a circular boundary and decimated from ``offset`` on, ``hr_msi`` (H, W, b) =
``hr_hsi`` times ``srf`` (b, B) transposed, and ``endmembers`` (P, B), ``abundances`` (H, W, P), ``scale``, ``offset``.
Noise is white in each band, with standard deviation sqrt(mean(band^2)) 10^(-SNR / 20), drawn last, LR-HSI first. The
stream of ``numpy.random.RandomState`` is frozen across NumPy versions, so the arrays are the same everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import convolve1d, gaussian_filter


def make_case(
    seed: int = 0, height: int = 64, width: int = 64, bands: int = 60, endmembers: int = 8, msi_bands: int = 4,
    scale: int = 4, psf_sigma: float = 2.0, psf_size: int = 9, offset: int = 1, smooth_sigma: float = 3.0,
    sharpness: float = 3.0, snr_hsi: float | None = None, snr_msi: float | None = None,
) -> dict[str, Any]:
    """A case of the given sizes; without SNRs it is free of noise."""
    rng = np.random.RandomState(seed)
    grid = np.linspace(0.0, 1.0, bands)

    # Endmembers: a constant plus four Gaussian bumps, each spectrum scaled to a peak in [0.5, 1].
    spectra = np.empty((endmembers, bands))
    for k in range(endmembers):
        centres = rng.uniform(0.0, 1.0, 4)
        widths = rng.uniform(0.06, 0.30, 4)
        heights = rng.uniform(0.1, 1.0, 4)
        curve = 0.05 + np.sum(
            heights[:, None] * np.exp(-0.5 * ((grid - centres[:, None]) / widths[:, None]) ** 2), axis=0)
        spectra[k] = curve / curve.max() * rng.uniform(0.5, 1.0)

    # Abundances: smoothed white noise, unit variance per map, soft-max over the maps.
    fields = np.empty((height, width, endmembers))
    for k in range(endmembers):
        field = gaussian_filter(rng.standard_normal((height, width)), smooth_sigma, mode="wrap")
        fields[..., k] = (field - field.mean()) / field.std()
    weights = np.exp(sharpness * fields)
    abundances = weights / weights.sum(axis=2, keepdims=True)
    hr_hsi = abundances @ spectra

    # PSF: separable sampled Gaussian.
    taps = np.arange(psf_size) - (psf_size - 1) // 2
    line = np.exp(-0.5 * (taps / psf_sigma) ** 2)
    line /= line.sum()
    psf = np.outer(line, line)
    blurred = convolve1d(convolve1d(hr_hsi, line, axis=0, mode="wrap"), line, axis=1, mode="wrap")
    lr_hsi = blurred[offset::scale, offset::scale].copy()

    # SRF: contiguous, non-overlapping boxes of (almost) equal width covering all bands.
    edges = np.round(np.linspace(0, bands, msi_bands + 1)).astype(int)
    srf = np.zeros((msi_bands, bands))
    for i in range(msi_bands):
        srf[i, edges[i]:edges[i + 1]] = 1.0 / (edges[i + 1] - edges[i])
    hr_msi = hr_hsi @ srf.T

    def noisy(cube: np.ndarray, snr: float) -> np.ndarray:
        power = np.sqrt(np.mean(cube ** 2, axis=(0, 1)))
        return cube + rng.standard_normal(cube.shape) * power * 10.0 ** (-snr / 20.0)

    if snr_hsi is not None:
        lr_hsi = noisy(lr_hsi, snr_hsi)
    if snr_msi is not None:
        hr_msi = noisy(hr_msi, snr_msi)
    return dict(hr_hsi=hr_hsi, lr_hsi=lr_hsi, hr_msi=hr_msi, psf=psf, srf=srf, scale=scale,
                offset=offset, endmembers=spectra, abundances=abundances)


def make_noisy_case() -> dict[str, Any]:
    """Case 1 with 30 dB noise on the LR-HSI and 40 dB on the HR-MSI."""
    return make_case(snr_hsi=30.0, snr_msi=40.0)


def make_large_case() -> dict[str, Any]:
    """128 x 128 x 172 with 35 dB noise on the LR-HSI and 40 dB on the HR-MSI: the case that was timed."""
    return make_case(seed=3, height=128, width=128, bands=172, endmembers=10, snr_hsi=35.0, snr_msi=40.0)


CASES = {"case1": make_case, "case1_noisy": make_noisy_case, "large": make_large_case}  # by name in golden/classical.json


def sample_indices(shape: tuple[int, ...], count: int = 64, seed: int = 12345) -> np.ndarray:
    """(count, 3): the (row, column, band) triples at which the golden files list output values."""
    rng = np.random.RandomState(seed)
    return np.stack([rng.randint(0, n, count) for n in shape], axis=1)
