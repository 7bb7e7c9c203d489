"""GFPCA, GS and Brovey against recorded outputs and against plain second versions with loops, NumPy and SciPy."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d

import methods.gfpca
from benchmark.fidelity.cases import make_case, make_noisy_case, sample_indices
from benchmark.fidelity.recordings import load_case
from benchmark.fidelity.toolboxes import as_image
from benchmark.metrics import measure
from methods import create, fuse
from methods.gfpca import HALF_FILTER
from methods.registry import MethodError
from tests.methods import images

GOLDEN = load_case("classical")["cases"]
MAKE = {"case1": make_case, "case1_noisy": make_noisy_case}
NAMES = {"gfpca": "GFPCApy", "gs": "GSpy", "brovey": "Broveypy"}
random_pair = partial(images.random_pair, bands=5, size=(4, 6))


def run(name, lr_hsi, hr_msi, **overrides):
    ratio = hr_msi.shape[-1] // lr_hsi.shape[-1]
    model = create(name, bands=lr_hsi.shape[1], msi_bands=hr_msi.shape[1], ratio=ratio, **overrides)
    return fuse(model, lr_hsi, hr_msi)


@pytest.mark.golden
@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize("case_name", list(MAKE))
def test_golden(case_name, name):
    case, golden = MAKE[case_name](), GOLDEN[case_name]["results"][NAMES[name]]
    lr_hsi, hr_msi, reference = (as_image(case[key]) for key in ("lr_hsi", "hr_msi", "hr_hsi"))
    fused = run(name, lr_hsi, hr_msi, clip=True)
    samples = fused[0].permute(1, 2, 0).numpy()[tuple(sample_indices(case["hr_hsi"].shape).T)]
    assert np.abs(samples - golden["samples"]).max() < golden["suggested_sample_tolerance"]
    ours, theirs = measure(fused, reference), golden["metrics"]
    for column, key in (("psnr_db", "psnr"), ("sam_deg", "sam"), ("rmse_unit", "rmse"), ("ergas", "ergas")):
        assert ours[column].item() == pytest.approx(theirs[key], rel=1e-8), key
    single = run(name, lr_hsi.float(), hr_msi.float(), clip=True)
    assert single.dtype == torch.float32
    assert measure(single, reference)["psnr_db"].item() == pytest.approx(theirs["psnr"], abs=1e-3)


# ---- plain second versions


def plain_upsampled(image, ratio):
    """(h, w) -> (H, W): zeros between the samples, then the filter, again and again."""
    line = 2 * np.concatenate([HALF_FILTER[::-1], HALF_FILTER[1:]])
    first = 1
    while ratio > 1:
        zeros = np.zeros([2 * n for n in image.shape])
        zeros[first::2, first::2] = image
        image = convolve1d(convolve1d(zeros, line, axis=0, mode="wrap"), line, axis=1, mode="wrap")
        first, ratio = 0, ratio // 2
    return image


def plain_guided(guide, image, radius, eps):
    """Window by window."""
    padded_guide, padded = (np.pad(x, radius, mode="reflect") for x in (guide, image))
    slope, offset = np.empty(guide.shape), np.empty(guide.shape)
    for i, j in np.ndindex(guide.shape):
        window = (slice(i, i + 2 * radius + 1), slice(j, j + 2 * radius + 1))
        x, y = padded_guide[window].ravel(), padded[window].ravel()
        slope[i, j] = ((x - x.mean()) * (y - y.mean())).mean() / (x.var() + eps)
        offset[i, j] = y.mean() - slope[i, j] * x.mean()
    padded_slope, padded_offset = (np.pad(x, radius, mode="reflect") for x in (slope, offset))
    result = np.empty(guide.shape)
    for i, j in np.ndindex(guide.shape):
        window = (slice(i, i + 2 * radius + 1), slice(j, j + 2 * radius + 1))
        result[i, j] = padded_slope[window].mean() * guide[i, j] + padded_offset[window].mean()
    return result


@pytest.mark.parametrize("components", [None, 0, 2, 5, 9])
@pytest.mark.parametrize("ratio", [2, 4])
def test_gfpca_agrees_with_plain_version(ratio, components):
    lr_hsi, hr_msi = random_pair(seed=1, ratio=ratio, size=(4, 5))
    fused = run("gfpca", lr_hsi, hr_msi, components=components, radius=3, eps=1e-3)[0].numpy()
    pixels, pan = lr_hsi[0].flatten(1).numpy(), hr_msi[0].mean(0).numpy()
    mean = pixels.mean(1, keepdims=True)
    axes, _, _ = np.linalg.svd(pixels - mean)
    filtered = 5 if components is None else components
    images = []
    for k, scores in enumerate(axes.T @ (pixels - mean)):
        image = plain_upsampled(scores.reshape(4, 5), ratio)
        images.append(plain_guided(pan, image, 3, 1e-3) if k < filtered else image)
    expected = np.tensordot(axes, np.array(images), 1) + mean[:, :, None]
    assert np.allclose(fused, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["gs", "brovey"])
@pytest.mark.parametrize("msi_bands, ratio", [(1, 8), (3, 2)])
def test_gs_and_brovey_agree_with_plain_version(msi_bands, ratio, name):
    lr_hsi, hr_msi = random_pair(seed=2, msi_bands=msi_bands, ratio=ratio)
    fused = run(name, lr_hsi, hr_msi)[0].numpy()
    up = np.array([plain_upsampled(band, ratio) for band in lr_hsi[0].numpy()])
    pan, intensity = hr_msi[0].mean(0).numpy(), up.mean(0)
    for band, ours in zip(up, fused):
        if name == "gs":
            target = (pan - pan.mean()) * intensity.std() / pan.std()
            gain = np.cov(intensity.ravel(), band.ravel())[0, 1] / np.var(intensity)
            expected = band + gain * (target - (intensity - intensity.mean()))
        else:
            matched = (pan - pan.mean()) * intensity.std() / pan.std() + intensity.mean()
            expected = band * matched / (intensity + 1e-8)
        assert np.allclose(ours, expected, rtol=1e-10, atol=1e-11)


def test_wide_windows_wrap_more_than_once():
    lr_hsi, hr_msi = random_pair(size=(1, 2), ratio=2)  # 2 rows, 17 wide windows
    fused = run("gfpca", lr_hsi, hr_msi)
    assert fused.shape == (1, 5, 2, 4) and fused.isfinite().all()


@pytest.mark.parametrize("name", list(NAMES))
def test_clip_is_the_last_step(name):
    lr_hsi, hr_msi = random_pair(seed=3)
    lr_hsi = 3 * lr_hsi - 1
    free = run(name, lr_hsi, hr_msi)
    assert free.min() < 0 or free.max() > 1
    assert torch.equal(run(name, lr_hsi, hr_msi, clip=True), free.clamp(0, 1))


# ---- degenerate images


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("name", list(NAMES))
def test_constant_pan_gives_the_interpolation(name, value, dtype):
    lr_hsi, hr_msi = random_pair()
    hr_msi[:] = value
    fused = run(name, lr_hsi.to(dtype), hr_msi.to(dtype)).double()
    up = torch.from_numpy(np.array([plain_upsampled(band, 4) for band in lr_hsi[0].numpy()]))[None]
    if name == "gfpca":  # its mean over windows of means over windows smooths what the guide does not explain
        assert fused.isfinite().all() and fused.std() < up.std()
    else:
        assert torch.allclose(fused, up, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("name", list(NAMES))
def test_constant_hsi(name, value, dtype):
    lr_hsi, hr_msi = random_pair()
    lr_hsi[:] = value
    fused = run(name, lr_hsi.to(dtype), hr_msi.to(dtype))
    assert torch.allclose(fused, torch.full_like(fused, value), rtol=0, atol=1e-5)  # the filter sums to 1 - 2e-6


@pytest.mark.parametrize("components", [None, 2])
@pytest.mark.parametrize("name", list(NAMES))
def test_dead_band_stays_dead(name, components):
    lr_hsi, hr_msi = random_pair()
    lr_hsi[:, 1] = 0
    fused = run(name, lr_hsi, hr_msi, **({"components": components} if name == "gfpca" else {}))
    assert fused.isfinite().all() and fused[:, 1].abs().max() < 1e-12


# ---- contract


@pytest.mark.parametrize("name", list(NAMES))
def test_batch_is_its_images(name):
    lr_hsi, hr_msi = (image.float() for image in random_pair(batch=2))
    both = run(name, lr_hsi, hr_msi)
    for n in range(2):
        assert torch.equal(both[n], run(name, lr_hsi[n : n + 1], hr_msi[n : n + 1])[0])


@pytest.mark.parametrize("name", list(NAMES))
def test_other_ratios_are_explained(name):
    with pytest.raises(MethodError, match=r"ratio 3; .* 2, 4, 8"):
        run(name, *random_pair(ratio=3))


def test_all_are_registered():
    assert {methods.card(name).name for name in NAMES} == set(NAMES)
