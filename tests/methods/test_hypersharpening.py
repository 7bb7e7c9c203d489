"""SFIM-HS, GLP-HS and denoising against recorded outputs and against plain second versions with NumPy and SciPy."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d
from scipy.optimize import nnls
from scipy.signal import firwin

import methods.hypersharpening
from benchmark.fidelity.cases import make_case, make_noisy_case, sample_indices
from benchmark.fidelity.recordings import load_case
from benchmark.fidelity.toolboxes import as_image
from benchmark.metrics import measure
from methods import create, fuse
from methods.hypersharpening import denoise_bands
from methods.registry import MethodError
from methods.resample import resize
from methods.responses import gaussian_decimate
from tests.methods import images

GOLDEN = load_case("classical")["cases"]
MAKE = {"case1": make_case, "case1_noisy": make_noisy_case}
NAMES = {"sfim-hs": "SFIMHS", "glp-hs": "GLPHS"}
random_pair = partial(images.random_pair, size=(5, 7))


def build(name, lr_hsi, hr_msi, **overrides):
    ratio = hr_msi.shape[-1] // lr_hsi.shape[-1]
    return create(name, bands=lr_hsi.shape[1], msi_bands=hr_msi.shape[1], ratio=ratio, **overrides)


def run(name, lr_hsi, hr_msi, **overrides):
    return fuse(build(name, lr_hsi, hr_msi, **overrides), lr_hsi, hr_msi)


@pytest.mark.golden
@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize("case_name", list(MAKE))
def test_golden(case_name, name):
    case, golden = MAKE[case_name](), GOLDEN[case_name]["results"][NAMES[name]]
    lr_hsi, hr_msi, reference = (as_image(case[key]) for key in ("lr_hsi", "hr_msi", "hr_hsi"))
    fused = run(name, lr_hsi, hr_msi)
    samples = fused[0].permute(1, 2, 0).numpy()[tuple(sample_indices(case["hr_hsi"].shape).T)]
    assert np.abs(samples - golden["samples"]).max() < golden["suggested_sample_tolerance"]
    ours, theirs = measure(fused, reference), golden["metrics"]
    for column, key in (("psnr_db", "psnr"), ("sam_deg", "sam"), ("rmse_unit", "rmse"), ("ergas", "ergas")):
        assert ours[column].item() == pytest.approx(theirs[key], rel=1e-9), key
    single = run(name, lr_hsi.float(), hr_msi.float())
    assert single.dtype == torch.float32
    assert measure(single, reference)["psnr_db"].item() == pytest.approx(theirs["psnr"], abs=1e-3)


# ---- plain second versions, band by band


def plain_synthetic(band, hr_msi, lr_msi, mode):
    """(h, w), (msi_bands, H, W), (msi_bands, h, w) -> the synthetic band at HR and at LR."""
    flat = lr_msi.reshape(len(lr_msi), -1)
    if mode == 1:
        best = int(np.argmax([np.corrcoef(band.ravel(), other)[0, 1] for other in flat]))
        return hr_msi[best], lr_msi[best]
    design = np.column_stack([*flat, np.ones(band.size)])
    x = np.linalg.lstsq(design, band.ravel(), rcond=None)[0] if mode == 2 else nnls(design, band.ravel())[0]
    return np.tensordot(x[:-1], hr_msi, 1) + x[-1], np.tensordot(x[:-1], lr_msi, 1) + x[-1]


def plain_sfim(band, hr_msi, lr_msi, ratio, mode):
    sharp, smooth = plain_synthetic(band, hr_msi, lr_msi, mode)
    block = np.ones((ratio, ratio))
    return sharp * np.kron(band, block) / np.kron(smooth, block)


def plain_glp(band, hr_msi, lr_msi, ratio, mode, top):
    sharp, _ = plain_synthetic(band, hr_msi, lr_msi, mode)
    low = gaussian_decimate(torch.from_numpy(sharp)[None, None], ratio)[0, 0].numpy()
    line = ratio * firwin(45, 1 / ratio)

    def up(image, phase):
        zeros = np.zeros(sharp.shape)
        zeros[phase::ratio, phase::ratio] = image
        return convolve1d(convolve1d(zeros, line, axis=0, mode="wrap"), line, axis=1, mode="wrap")

    results = []
    for phase in (ratio // 2 - 1, ratio // 2) if ratio % 2 == 0 else ((ratio - 1) // 2,):
        u, d = up(band, phase), up(low, phase)
        covariance = np.cov(u.ravel(), d.ravel())
        results.append(np.clip(u + covariance[0, 1] / covariance[1, 1] * (sharp - d), 0, 2 ** np.sqrt(top)))
    return np.mean(results, axis=0)


@pytest.mark.parametrize("mode", [1, 2, 3])
@pytest.mark.parametrize("msi_bands, ratio", [(1, 4), (3, 2), (4, 3)])
@pytest.mark.parametrize("name", list(NAMES))
def test_agrees_with_plain_version(name, msi_bands, ratio, mode):
    lr_hsi, hr_msi = random_pair(seed=mode, msi_bands=msi_bands, ratio=ratio)
    lr_hsi[0, 2] -= 0.4  # something to clip, and to be nonnegative about
    fused = run(name, lr_hsi, hr_msi, mode=mode)[0].numpy()
    y, z, lr_msi = (image[0].numpy() for image in (lr_hsi, hr_msi, resize(hr_msi, lr_hsi.shape[-2:], "linear")))
    for j, band in enumerate(y):
        expected = plain_sfim(band, z, lr_msi, ratio, mode) if name == "sfim-hs" else plain_glp(
            band, z, lr_msi, ratio, mode, y.max())
        assert np.allclose(fused[j], expected, rtol=1e-9, atol=1e-10), j


def test_denoising_is_prediction_from_all_other_bands():
    cube = torch.rand(6, 9, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    cube[3] += cube[0] + cube[1]
    denoised = denoise_bands(cube).flatten(1).numpy()
    pixels = cube.flatten(1).numpy()
    for j in range(6):
        design = np.column_stack([*np.delete(pixels, j, 0), np.ones(72)])
        assert np.allclose(denoised[j], design @ np.linalg.lstsq(design, pixels[j], rcond=None)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_denoising_leaves_dependent_bands(rank):
    rng = torch.Generator().manual_seed(5)
    mixed = torch.rand(8, rank, generator=rng, dtype=torch.float64) @ torch.rand(rank, 80, generator=rng, dtype=torch.float64)
    cube = mixed.view(8, 8, 10) + 0.2 * (torch.arange(8) > 1)[:, None, None]  # the first bands of rank 0 are dead
    assert torch.allclose(denoise_bands(cube), cube, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", list(NAMES))
def test_denoising_is_the_last_step(name):
    lr_hsi, hr_msi = random_pair()
    expected = denoise_bands(run(name, lr_hsi, hr_msi)[0])
    assert torch.equal(run(name, lr_hsi, hr_msi, denoise=True)[0], expected)
    assert not torch.allclose(expected, run(name, lr_hsi, hr_msi)[0], atol=1e-3)


# ---- degenerate images


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", [1, 2, 3])
@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("name", list(NAMES))
def test_constant_hsi_band_stays_what_it_is(name, value, mode, dtype):
    lr_hsi, hr_msi = random_pair()
    lr_hsi[:, 2] = value
    fused = run(name, lr_hsi.to(dtype), hr_msi.to(dtype), mode=mode)
    assert fused.isfinite().all()
    if mode != 1 or (value == 0 and name == "sfim-hs"):  # the MSI band itself has its own detail
        assert torch.allclose(fused[:, 2], torch.tensor(value, dtype=dtype), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", list(NAMES))
def test_dependent_msi_bands_change_nothing(name, dtype):
    lr_hsi, hr_msi = random_pair(ratio=2)
    sums = torch.cat([hr_msi, hr_msi.sum(1, keepdim=True), torch.full_like(hr_msi[:, :1], 0.3)], 1)
    less, more = (run(name, lr_hsi.to(dtype), msi.to(dtype)).double() for msi in (hr_msi, sums))
    scale = less.abs().clamp(min=1)  # SFIM divides by numbers near zero
    assert ((more - less).abs() / scale**2).max() < (1e-4 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize("mode", [1, 2, 3])
@pytest.mark.parametrize("lr_value, msi_value", [(None, 0.3), (0.3, None), (0.3, 0.1), (0.0, 0.0), (None, 0.0)])
@pytest.mark.parametrize("name", list(NAMES))
def test_constant_images_give_finite_results(name, lr_value, msi_value, mode):
    lr_hsi, hr_msi = random_pair()
    if lr_value is not None:
        lr_hsi[:] = lr_value
    if msi_value is not None:
        hr_msi[:] = msi_value
    fused = run(name, lr_hsi, hr_msi, mode=mode, denoise=True)
    assert fused.isfinite().all()
    if lr_value is not None and mode == 2:
        assert torch.allclose(fused, torch.full_like(fused, lr_value), rtol=0, atol=1e-9)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7])
def test_rounding_of_a_constant_msi_explains_nothing(value):
    lr_hsi, hr_msi = random_pair(size=(11, 13))
    fused = run("sfim-hs", lr_hsi, torch.full_like(hr_msi, value))
    assert torch.allclose(fused, lr_hsi.repeat_interleave(4, 2).repeat_interleave(4, 3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size, ratio", [((1, 1), 2), ((2, 3), 4), ((6, 3), 5)])
@pytest.mark.parametrize("name", list(NAMES))
def test_small_images(name, size, ratio):
    lr_hsi, hr_msi = random_pair(size=size, ratio=ratio)
    fused = run(name, lr_hsi, hr_msi)
    assert fused.shape == (1, 7, size[0] * ratio, size[1] * ratio) and fused.isfinite().all()


# ---- contract


@pytest.mark.parametrize("name", list(NAMES))
def test_batch_is_its_images(name):
    lr_hsi, hr_msi = (image.float() for image in random_pair(batch=2))
    both = run(name, lr_hsi, hr_msi)
    for n in range(2):
        assert torch.equal(both[n], run(name, lr_hsi[n : n + 1], hr_msi[n : n + 1])[0])


@pytest.mark.parametrize("name", list(NAMES))
def test_wrong_calls_are_explained(name):
    lr_hsi, hr_msi = random_pair()
    with pytest.raises(MethodError, match=r"mode 4; choices: 1 .*2 .*3 "):
        build(name, lr_hsi, hr_msi, mode=4)
    with pytest.raises(MethodError, match="multiple"):
        run(name, lr_hsi, hr_msi[..., :-1])


def test_both_are_registered():
    assert {methods.card(name).name for name in NAMES} == set(NAMES)
