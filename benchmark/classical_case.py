"""Deterministic small fusion cases for checking the classical baselines.

make_case() -> dict with float64 arrays
    hr_hsi (H, W, B)      reference cube, values inside [0, 1]
    lr_hsi (H/r, W/r, B)  blurred (circular) and decimated, then noisy if snr_hsi is given
    hr_msi (H, W, b)      hr_hsi @ srf.T, then noisy if snr_msi is given
    psf    (k, k)         sampled 2-D Gaussian, sums to 1
    srf    (b, B)         box bands, rows sum to 1
    plus scale, offset and the endmembers (P, B) / abundances (H, W, P).

Conventions: arrays are indexed [row, col, band]; the blur is a correlation with
`psf` centred on the pixel, CIRCULAR boundary (scipy.ndimage mode="wrap"); decimation keeps rows and
columns offset, offset + scale, ... (0-based offset). Noise is white per band: standard deviation
sqrt(mean(band ** 2)) * 10 ** (-snr / 20), drawn after everything else, LR-HSI first.
Only numpy.random.RandomState is used, whose stream is frozen across NumPy versions.
"""
import numpy as np
from scipy.ndimage import convolve1d, gaussian_filter


def make_case(seed=0, height=64, width=64, bands=60, endmembers=8, msi_bands=4, scale=4,
              psf_sigma=2.0, psf_size=9, offset=1, smooth_sigma=3.0, sharpness=3.0,
              snr_hsi=None, snr_msi=None):
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

    def noisy(cube, snr):
        power = np.sqrt(np.mean(cube ** 2, axis=(0, 1)))
        return cube + rng.standard_normal(cube.shape) * power * 10.0 ** (-snr / 20.0)

    if snr_hsi is not None:
        lr_hsi = noisy(lr_hsi, snr_hsi)
    if snr_msi is not None:
        hr_msi = noisy(hr_msi, snr_msi)
    return dict(hr_hsi=hr_hsi, lr_hsi=lr_hsi, hr_msi=hr_msi, psf=psf, srf=srf, scale=scale,
                offset=offset, endmembers=spectra, abundances=abundances)


def make_noisy_case():
    """Case 1 with 30 dB noise on the LR-HSI and 40 dB on the HR-MSI."""
    return make_case(snr_hsi=30.0, snr_msi=40.0)


def sample_indices(shape, count=64, seed=12345):
    """The (row, col, band) triples at which the golden files list output values."""
    rng = np.random.RandomState(seed)
    return np.stack([rng.randint(0, n, count) for n in shape], axis=1)


if __name__ == "__main__":
    case = make_case()
    for name in ("hr_hsi", "lr_hsi", "hr_msi", "psf", "srf"):
        a = case[name]
        print(f"{name:7s} {a.shape!s:14s} mean {a.mean():.15f} min {a.min():.15f} max {a.max():.15f}")
