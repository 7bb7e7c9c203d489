"""NSSR: a plain version with dense solves and loops over pixels, its pieces one by one, quality, unkind data."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from benchmark.fidelity.cases import make_case, make_noisy_case
from benchmark.fidelity.toolboxes import as_image
from benchmark.metrics import measure
from methods import create, fuse
from methods.estimation import estimate_srf, remove_offset
from methods.nssr import LowResolution, learn_dictionary, similar_pixels, sparse_codes, updated_atoms
from methods.registry import MethodError
from methods.resample import resize
from methods.responses import gaussian_psf

ENTRIES = ["nssr", "nssr-blind"]


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(seed=0, bands=6, msi_bands=4, size=(3, 4), ratio=2, batch=1):
    lr_hsi = uniform(batch, bands, *size, seed=seed)
    return lr_hsi, uniform(batch, msi_bands, *(n * ratio for n in size), seed=seed + 50)


def responses(bands=6, msi_bands=4, side=3):
    """Without any symmetry."""
    psf, srf = uniform(side, side, seed=100), uniform(msi_bands, bands, seed=101)
    return psf / psf.sum(), srf / srf.sum(1, keepdim=True)


def build(name, lr_hsi, hr_msi, phase=1, **options):
    bands, msi_bands = lr_hsi.shape[1], hr_msi.shape[1]
    psf, srf = responses(bands, msi_bands)
    return create(name, bands=bands, msi_bands=msi_bands, psf=psf, srf=srf, phase=phase, **options)


# ---- plain versions: a pixel at a time, dense matrices


def plain_operator(psf, size, ratio):
    """K as a matrix (n, N): correlation with the PSF around every kept pixel."""
    height, width = size
    margin = (len(psf) - 1) // 2
    matrix = np.zeros((height // ratio * (width // ratio), height, width))
    for k in range(len(matrix)):
        i, j = k // (width // ratio) * ratio, k % (width // ratio) * ratio
        for di in range(len(psf)):
            for dj in range(len(psf)):
                matrix[k, (i + di - margin) % height, (j + dj - margin) % width] += psf[di, dj]
    return matrix.reshape(len(matrix), -1)


def plain_similar(hr_msi):
    """W (N, N): column p holds the weights that pixel p gives to others."""
    _, height, width = hr_msi.shape
    z = hr_msi[:3] * 255

    def patch(i, j):
        return [z[:, min(max(i + di, 0), height - 1), min(max(j + dj, 0), width - 1)] for di in (-1, 0, 1) for dj in (-1, 0, 1)]

    patches = {(i, j): np.array(patch(i, j)) for i in range(height) for j in range(width)}
    weights = np.zeros((height * width, height * width))
    for (i, j), own in patches.items():
        window = [(k, m) for k, m in patches if abs(k - i) <= 18 and abs(m - j) <= 18]
        nearest = sorted((((patches[place] - own) ** 2).mean(), place) for place in window)[:10]
        total = sum(np.exp(-d / 90) for d, _ in nearest)
        for d, (k, m) in nearest:
            weights[k * width + m, i * width + j] = np.exp(-d / 90) / total
    return weights


def plain_codes(dictionary, pixels):
    """By active sets; the Cholesky factor turns the L1 term of nonnegative codes into part of the target."""
    factor = np.linalg.cholesky(dictionary.T @ dictionary)
    return np.stack([nnls(factor.T, np.linalg.solve(factor, dictionary.T @ y - 1e-3))[0] for y in pixels.T], 1)


def plain_update(dictionary, pixels, codes):
    dictionary = dictionary.copy()
    for k in range(dictionary.shape[1]):
        if codes[k].any():
            residual = pixels - dictionary @ codes
            atom = np.maximum(dictionary[:, k] + residual @ codes[k] / (codes[k] ** 2).sum(), 0)
            dictionary[:, k] = atom / max(np.sqrt((atom ** 2).sum()), 1)
    return dictionary


def plain_fusion(lr_hsi, hr_msi, psf, srf, phase, *, atoms, eta1, eta2, mu, growth, iterations, seed):
    """(bands, h, w), (msi_bands, H, W) -> (bands, H, W); X in the bands as they are."""
    bands, size = len(lr_hsi), hr_msi.shape[1:]
    y, rolled = lr_hsi.reshape(bands, -1), np.roll(hr_msi, (-phase, -phase), (1, 2))
    z, weights = rolled.reshape(len(rolled), -1), plain_similar(rolled)
    d = learn_dictionary(torch.from_numpy(y), atoms, torch.Generator().manual_seed(seed)).numpy()
    d0, k = srf @ d, plain_operator(psf, size, size[0] // lr_hsi.shape[1])
    x = resize(torch.from_numpy(lr_hsi)[None], size)[0].numpy().reshape(bands, -1)
    s, v1, v2 = np.zeros((d.shape[1], z.shape[1])), np.zeros_like(x), 0.0
    for _ in range(iterations):
        u = x @ weights
        a = np.linalg.inv(d0.T @ d0 + (eta1 + mu) * d.T @ d + mu * np.eye(d.shape[1])) @ (
            d0.T @ z + eta1 * d.T @ u + d.T @ (mu * x - v1 / 2) + mu * s + v2 / 2)
        right = y @ k + mu * (d @ a + v1 / (2 * mu))
        x = np.linalg.solve(k.T @ k + mu * np.eye(k.shape[1]), right.T).T
        s = np.maximum(a - v2 / (2 * mu) - eta2 / (2 * mu), 0)
        v1, v2 = v1 + 2 * mu * (d @ a - x), v2 + 2 * mu * (s - a)
        mu *= growth
    return np.roll((d @ a).reshape(bands, *size), (phase, phase), (1, 2))


@pytest.mark.parametrize(
    "size, ratio, bands, msi_bands, phase, atoms",
    [
        ((3, 4), 2, 6, 4, 1, 4),  # a dictionary that does not span the bands
        ((4, 3), 3, 5, 2, 0, 8),  # more atoms than bands, fewer than three MSI bands
        ((2, 3), 4, 6, 1, 3, 80),  # fewer LR pixels than atoms
    ],
)
def test_agrees_with_plain_version(size, ratio, bands, msi_bands, phase, atoms):
    lr_hsi, hr_msi = images(1, bands, msi_bands, size, ratio)
    psf, srf = (array.numpy() for array in responses(bands, msi_bands))
    options = {"atoms": atoms, "eta1": 0.03, "eta2": 1e-3, "mu": 1e-2, "growth": 1.3, "iterations": 5, "seed": 2}
    fused = fuse(build("nssr", lr_hsi, hr_msi, phase, **options), lr_hsi, hr_msi)[0].numpy()
    expected = plain_fusion(lr_hsi[0].numpy(), hr_msi[0].numpy(), psf, srf, phase, **options)
    assert np.abs(fused - expected).max() < 1e-9


def test_blind_takes_estimated_responses_and_the_first_phase():
    lr_hsi, hr_msi = images(3, bands=4, msi_bands=2, size=(5, 6), ratio=4)
    srf, offset = estimate_srf(lr_hsi, hr_msi)
    known = create("nssr", bands=4, msi_bands=2, psf=gaussian_psf(7, 2), srf=srf[0], phase=0, iterations=3)
    blind = create("nssr-blind", bands=4, msi_bands=2, iterations=3)
    assert torch.equal(fuse(blind, lr_hsi, hr_msi), fuse(known, lr_hsi, remove_offset(hr_msi, offset)))


# ---- pieces


@pytest.mark.parametrize("size, ratio, side", [((3, 5), 2, 3), ((3, 2), 3, 5), ((2, 3), 4, 4), ((2, 2), 2, 7)])
@pytest.mark.parametrize("mu", [1e-8, 2e-4, 10.0])
def test_image_step_agrees_with_dense_solution(mu, size, ratio, side):
    large = tuple(n * ratio for n in size)
    psf, lr_hsi, target = uniform(side, side, seed=4), uniform(2, *size, seed=5), uniform(2, *large, seed=6)
    found = LowResolution(lr_hsi, psf / psf.sum(), ratio, large).nearest(target, mu).flatten(1).numpy()
    k = plain_operator((psf / psf.sum()).numpy(), large, ratio)
    stacked = np.concatenate([k, np.sqrt(mu) * np.eye(k.shape[1])])
    wanted = np.concatenate([lr_hsi.flatten(1).numpy(), np.sqrt(mu) * target.flatten(1).numpy()], 1)
    assert np.allclose(found.T, np.linalg.lstsq(stacked, wanted.T, rcond=None)[0], rtol=0, atol=1e-8)


@pytest.mark.parametrize("shape", [(4, 24, 5), (3, 5, 24), (1, 7, 8), (2, 1, 3), (3, 2, 2)])  # windows cut, and not
def test_similar_pixels_agree_with_a_loop(shape):
    hr_msi = 0.2 * uniform(*shape, seed=7)
    index, weight = similar_pixels(hr_msi)
    found = np.zeros((len(index),) * 2)
    for pixel in range(len(index)):
        for other, share in zip(index[pixel].tolist(), weight[pixel].tolist(), strict=True):
            found[other, pixel] += share
    assert np.allclose(found, plain_similar(hr_msi.numpy()), rtol=0, atol=1e-12)


def test_sparse_codes_agree_with_active_sets():
    dictionary, pixels = uniform(9, 6, seed=8), uniform(9, 12, seed=9)
    dictionary = dictionary / dictionary.norm(dim=0)
    expected = plain_codes(dictionary.numpy(), pixels.numpy())
    codes = sparse_codes(dictionary, pixels, torch.zeros(6, 12).double())
    assert 0 < (expected == 0).mean() < 1
    assert np.allclose(codes.numpy(), expected, rtol=0, atol=1e-6)


def test_atoms_are_updated_as_in_a_loop():
    dictionary, pixels, codes = uniform(7, 5, seed=10), 2 * uniform(7, 9, seed=11) - 0.5, uniform(5, 9, seed=12)
    codes[1] = 0  # used by no pixel
    new = updated_atoms(dictionary, pixels, codes)
    assert np.allclose(new.numpy(), plain_update(dictionary.numpy(), pixels.numpy(), codes.numpy()), rtol=0, atol=1e-12)
    used = torch.tensor([0, 2, 3, 4])
    assert torch.equal(new[:, 1], dictionary[:, 1]) and (new == 0).any()
    assert new[:, used].norm(dim=0).max() == pytest.approx(1, abs=1e-12)


def test_dictionary_agrees_with_alternation_of_both():
    pixels = uniform(6, 20, seed=13) ** 4  # far enough from parallel for all passes to converge
    pixels[:, 4], pixels[:, 5] = 0, -0.1  # neither can be an atom
    start = pixels[:, (pixels > 0).any(0)]
    start = start[:, torch.randperm(18, generator=torch.Generator().manual_seed(3))[:3]]
    expected = (start / start.norm(dim=0)).numpy()
    for _ in range(10):
        expected = plain_update(expected, pixels.numpy(), plain_codes(expected, pixels.numpy()))
    found = learn_dictionary(pixels, 3, torch.Generator().manual_seed(3))
    assert np.allclose(found.numpy(), expected, rtol=0, atol=1e-5)
    assert learn_dictionary(pixels, 80, torch.Generator()).shape == (6, 18)
    assert learn_dictionary(-pixels.abs(), 80, torch.Generator()).shape == (6, 0)


# ---- quality


@pytest.mark.parametrize("make, least_db, most_deg", [(make_case, 42.0, 0.7), (make_noisy_case, 32.5, 2.3)])
def test_known_responses_beat_bicubic_by_far(make, least_db, most_deg):
    """Measured: 44.2 dB and 0.56 degrees, 34.1 dB and 1.95 degrees; bicubic 20.5 dB and 7.2 degrees."""
    case = make()
    lr_hsi, hr_msi, reference = (as_image(case[key]) for key in ("lr_hsi", "hr_msi", "hr_hsi"))
    told = {key: torch.from_numpy(case[key]) for key in ("psf", "srf")} | {"phase": case["offset"]}
    scores = measure(fuse(create("nssr", bands=60, msi_bands=4, **told), lr_hsi, hr_msi), reference)
    bicubic = measure(fuse(create("bicubic", bands=60, msi_bands=4), lr_hsi, hr_msi), reference)
    assert scores["psnr_db"] > max(least_db, bicubic["psnr_db"] + 10)
    assert scores["sam_deg"] < min(most_deg, bicubic["sam_deg"] / 3)


# ---- unkind data


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("dtype, ratio, size, msi_bands", [(torch.float64, 2, (4, 6), 1), (torch.float32, 4, (6, 3), 4),
                                                           (torch.float64, 3, (1, 1), 2)])
@pytest.mark.parametrize("kind", ["dead band", "constant", "zero", "rank one", "zero msi", "zero pixels", "negative", "faint"])
def test_degenerate_data_give_finite_images(kind, dtype, ratio, size, msi_bands, name):
    lr_hsi, hr_msi = images(15, 9, msi_bands, size, ratio)
    if kind == "dead band":
        lr_hsi[:, 2] = 0
    elif kind in ("constant", "zero"):
        lr_hsi[:], hr_msi[:] = (0.3, 0.3) if kind == "constant" else (0, 0)
    elif kind == "rank one":
        lr_hsi = lr_hsi[:, :1] * torch.linspace(0.2, 1, 9, dtype=torch.float64)[:, None, None]
    elif kind == "zero msi":
        hr_msi[:] = 0
    elif kind == "zero pixels":
        lr_hsi[..., 0] = 0
    elif kind == "negative":
        lr_hsi *= -1
    else:
        lr_hsi *= 1e-30
    fused = fuse(build(name, lr_hsi, hr_msi, iterations=3), lr_hsi.to(dtype), hr_msi.to(dtype))
    assert fused.shape == (1, 9, *hr_msi.shape[2:]) and fused.dtype == dtype and fused.isfinite().all()
    if kind in ("zero", "negative"):
        assert not fused.any()
    if kind == "constant" and name == "nssr":
        assert torch.allclose(fused, torch.full_like(fused, 0.3), rtol=0, atol=0.01)


@pytest.mark.parametrize("name", ENTRIES)
def test_batch_is_its_images_and_the_seed_decides(name):
    lr_hsi, hr_msi = (image.float() for image in images(16, size=(6, 5), ratio=4, batch=2))
    model = build(name, lr_hsi, hr_msi, atoms=8, iterations=4)
    both = fuse(model, lr_hsi, hr_msi)
    alone = [fuse(model, lr_hsi[n : n + 1], hr_msi[n : n + 1]) for n in range(2)]
    assert both.dtype == torch.float32 and torch.equal(both, torch.cat(alone))
    torch.manual_seed(5)  # nothing is drawn from the global generator
    assert torch.equal(both, fuse(build(name, lr_hsi, hr_msi, atoms=8, iterations=4), lr_hsi, hr_msi))
    assert not torch.equal(both, fuse(build(name, lr_hsi, hr_msi, atoms=8, iterations=4, seed=1), lr_hsi, hr_msi))


def test_what_does_not_fit_is_named():
    lr_hsi, hr_msi = images()
    for missing in ("psf", "srf", "phase"):
        told = {"psf": torch.ones(3, 3) / 9, "srf": torch.ones(4, 6) / 6, "phase": 0, missing: None}
        with pytest.raises(MethodError, match="mode='blind'"):
            create("nssr", bands=6, msi_bands=4, **told)
    with pytest.raises(MethodError, match="choices: known, blind"):
        create("nssr", bands=6, msi_bands=4, mode="half")
    for option in ("atoms", "eta1", "eta2", "mu", "growth", "iterations"):
        with pytest.raises(MethodError, match=f"{option} is 0 and must be positive"):
            create("nssr-blind", bands=6, msi_bands=4, **{option: 0})
    with pytest.raises(MethodError, match="one whole multiple"):
        build("nssr", lr_hsi, hr_msi)(0 * lr_hsi, hr_msi[..., :-1])  # even where there is nothing to fuse
