"""SupResPALM against its steps written out with NumPy; its recordings are compared in ``tests/benchmark/test_recorded.py``."""

import numpy as np
import pytest
import torch

from methods import create, fuse
from methods.registry import MethodError
from methods.resample import resize
from methods.responses import gaussian_decimate
from methods.sisal import sisal
from methods.unmixing import sunsal


def scene(low=(6, 5), bands=8, msi_bands=4, ratio=4, batch=1, spectra=5, noise=0.01):
    """An LR-HSI, an HR-MSI and the SRF between them, of mixtures of a few spectra."""
    rng = torch.Generator().manual_seed(3)
    high = [n * ratio for n in low]
    maps = torch.rand(batch, spectra, *high, generator=rng, dtype=torch.float64) ** 4
    cube = torch.einsum("cr,brhw->bchw", torch.rand(bands, spectra, generator=rng, dtype=torch.float64),
                        maps / maps.sum(1, keepdim=True))
    srf = torch.rand(msi_bands, bands, generator=rng, dtype=torch.float64)
    srf /= srf.sum(1, keepdim=True)
    images = gaussian_decimate(cube, ratio), torch.einsum("mc,bchw->bmhw", srf, cube)
    noisy = [(x + noise * torch.randn(x.shape, generator=rng, dtype=x.dtype)).clamp(0, 1) for x in images]
    return *noisy, srf


def build(lr_hsi, hr_msi, srf=None, ratio=4, **options):
    name = "lanaras" if srf is not None else "lanaras-blind"
    return create(name, bands=lr_hsi.shape[1], msi_bands=hr_msi.shape[1], ratio=ratio, srf=srf, **options)


def plain_projection(column):
    """Onto the unit simplex, by sorting."""
    ordered = sorted(column, reverse=True)
    sums = np.cumsum(ordered)
    last = max(j for j, value in enumerate(ordered) if value - (sums[j] - 1) / (j + 1) > 0)
    return np.maximum(column - (sums[last] - 1) / (last + 1), 0)


def plain_descent(x, step, data, model):
    """At most 100 steps; the last is taken back if it raises the RMS residual."""
    best = np.inf
    for _ in range(100):
        new = step(x)
        value = np.sqrt(((data - model(new)) ** 2).mean())
        if value > best:
            break
        fall, x, best = best - value, new, value
        if fall < 0.01 * value:
            break
    return x, best


def plain_endmembers(e, a_s, y):
    c = 1.01 * np.linalg.norm(a_s @ a_s.T)
    return plain_descent(e, lambda e: np.clip(e - (e @ a_s - y) @ a_s.T / c, 0, 1), y, lambda e: e @ a_s)


def plain_abundances(a, seen, z):
    d = 1.01 * np.linalg.norm(seen @ seen.T)
    return plain_descent(a, lambda a: np.apply_along_axis(plain_projection, 0, a - seen.T @ (seen @ a - z) / d), z,
                         lambda a: seen @ a)


def plain_fusion(lr_hsi, hr_msi, srf, ratio, endmembers, seed):
    """One image: (bands, h, w), (msi_bands, H, W) in [0, 1], (msi_bands, bands) -> (bands, H, W)."""
    y, z = lr_hsi.flatten(1), hr_msi.flatten(1).numpy()
    start = sisal(y, endmembers, tau=0.006, generator=torch.Generator().manual_seed(seed)).clamp(0, 1)
    a = resize(sunsal(y, start).unflatten(1, lr_hsi.shape[1:])[None], hr_msi.shape[1:])[0].flatten(1).numpy()
    e, y, r, previous = start.numpy(), y.numpy(), srf.numpy(), np.inf
    for _ in range(200):
        maps = torch.from_numpy(a).unflatten(1, hr_msi.shape[1:])[None]
        a_s = gaussian_decimate(maps, ratio)[0].flatten(1).numpy()
        e, first = plain_endmembers(e, a_s, y)
        a, second = plain_abundances(a, r @ e, z)
        if abs(previous - first - second) < 1e-4 * (first + second):
            break
        previous = first + second
    return (e @ a).reshape(-1, *hr_msi.shape[1:])


@pytest.mark.parametrize("ratio, low, endmembers", [(4, (6, 5), 5), (2, (7, 8), 3)])
def test_agrees_with_plain_version(ratio, low, endmembers):
    lr_hsi, hr_msi, srf = scene(low, ratio=ratio)
    fused = fuse(build(lr_hsi, hr_msi, srf, ratio, endmembers=endmembers, seed=4), lr_hsi, hr_msi)
    expected = plain_fusion(lr_hsi[0], hr_msi[0], srf, ratio, endmembers, seed=4)
    assert np.abs(fused[0].numpy() - expected).max() < 1e-9


def test_brighter_images_are_divided_by_their_maximum_and_multiplied_again():
    lr_hsi, hr_msi, srf = scene()
    model = build(lr_hsi, hr_msi, srf, endmembers=4)
    top = max(lr_hsi.max(), hr_msi.max()) * 3
    bright = fuse(model, 3 * lr_hsi, 3 * hr_msi)
    assert top > 1 and torch.allclose(bright, top * fuse(model, 3 * lr_hsi / top, 3 * hr_msi / top), atol=1e-12)
    assert bright.min() >= 0 and bright.max() <= top + 1e-12


@pytest.mark.parametrize("known", [True, False])
def test_a_batch_is_its_images_and_a_seed_repeats(known):
    lr_hsi, hr_msi, srf = scene(batch=2)
    model = build(lr_hsi, hr_msi, srf if known else None, endmembers=4, seed=1)
    together = fuse(model, lr_hsi, hr_msi)
    for i in range(2):
        assert torch.allclose(together[i], fuse(model, lr_hsi[i : i + 1], hr_msi[i : i + 1])[0], atol=1e-12)
    assert fuse(model, lr_hsi.float(), hr_msi.float()).dtype == torch.float32
    assert not torch.equal(together, fuse(build(lr_hsi, hr_msi, srf if known else None, endmembers=4, seed=2), lr_hsi, hr_msi))


def test_what_cannot_be_built_is_named():
    lr_hsi, hr_msi, srf = scene()
    with pytest.raises(MethodError, match=r"needs srf.*mode='blind'"):
        create("lanaras", bands=8, msi_bands=4)
    with pytest.raises(MethodError, match="mode 'other'; choices: known, blind"):
        build(lr_hsi, hr_msi, srf, mode="other")
    with pytest.raises(MethodError, match="0 endmembers"):
        build(lr_hsi, hr_msi, srf, endmembers=0)
