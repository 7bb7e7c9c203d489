"""Resizing, bicubic and GSA against recorded outputs of the reference toolbox and against plain second versions."""


import numpy as np
import pytest
import torch

from benchmark.fidelity.cases import make_case, make_noisy_case, sample_indices
from benchmark.fidelity.recordings import load_case
from benchmark.fidelity.toolboxes import as_image
from benchmark.metrics import measure
from methods import create, fuse
from methods.resample import resize

GOLDEN = load_case("classical")["cases"]
MAKE = {"case1": make_case, "case1_noisy": make_noisy_case}
NAMES = {"bicubic": "Bicubic", "gsa": "GSA"}


def random_pair(seed=0, bands=7, msi_bands=3, side=6, ratio=4, batch=1):
    """Smooth positive images without any relation to each other, float64."""
    rng = torch.Generator().manual_seed(seed)
    lr_hsi = torch.rand(batch, bands, side, side, generator=rng, dtype=torch.float64)
    hr_msi = torch.rand(batch, msi_bands, side * ratio, side * ratio, generator=rng, dtype=torch.float64)
    return lr_hsi, hr_msi


def build(name, lr_hsi, hr_msi):
    return create(name, bands=lr_hsi.shape[1], msi_bands=hr_msi.shape[1], ratio=hr_msi.shape[-1] // lr_hsi.shape[-1])


# ---- recorded outputs


@pytest.mark.golden
@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize("case_name", list(MAKE))
def test_golden(case_name, name):
    case, golden = MAKE[case_name](), GOLDEN[case_name]["results"][NAMES[name]]
    lr_hsi, hr_msi, reference = (as_image(case[key]) for key in ("lr_hsi", "hr_msi", "hr_hsi"))
    fused = fuse(build(name, lr_hsi, hr_msi), lr_hsi, hr_msi)
    samples = fused[0].permute(1, 2, 0).numpy()[tuple(sample_indices(case["hr_hsi"].shape).T)]
    assert np.abs(samples - golden["samples"]).max() < golden["suggested_sample_tolerance"]
    ours, theirs = measure(fused, reference), golden["metrics"]
    for column, key in (("psnr_db", "psnr"), ("sam_deg", "sam"), ("rmse_unit", "rmse"), ("ergas", "ergas")):
        assert ours[column].item() == pytest.approx(theirs[key], rel=1e-8), key
    # The tensors that the harness passes are float32; on rank-deficient input this needs the right rank.
    single = fuse(build(name, lr_hsi, hr_msi), lr_hsi.float(), hr_msi.float())
    assert single.dtype == torch.float32
    assert measure(single, reference)["psnr_db"].item() == pytest.approx(theirs["psnr"], abs=1e-3)


# ---- resize


def looped_resize(line: list[float], target: int, kernel: str) -> list[float]:
    """One line, one output sample and one tap at a time."""
    source = len(line)
    scale = target / source
    stretch = min(1.0, scale)
    result = []
    for i in range(target):
        position = (i + 0.5) / scale - 0.5
        total = weights = 0.0
        for k in range(-3 * source, 4 * source):
            x = abs(position - k) * stretch
            if kernel == "linear":
                weight = max(0.0, 1 - x)
            elif x < 1:
                weight = 1.5 * x**3 - 2.5 * x**2 + 1
            else:
                weight = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0
            mirrored = k
            while not 0 <= mirrored < source:
                mirrored = -1 - mirrored if mirrored < 0 else 2 * source - 1 - mirrored
            total += weight * line[mirrored]
            weights += weight
        result.append(total / weights)
    return result


@pytest.mark.parametrize("kernel", ["cubic", "linear"])
@pytest.mark.parametrize("size", [(12, 20), (24, 40), (3, 5), (2, 1), (7, 9), (6, 10)])
def test_resize_agrees_with_plain_loop(size, kernel):
    images = torch.rand(2, 3, 6, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.empty(2, 3, *size, dtype=torch.float64)
    for b in range(2):
        for c in range(3):
            columns = [looped_resize(images[b, c, :, j].tolist(), size[0], kernel) for j in range(10)]
            for i in range(size[0]):
                row = looped_resize([column[i] for column in columns], size[1], kernel)
                expected[b, c, i] = torch.tensor(row, dtype=torch.float64)
    assert torch.allclose(resize(images, size, kernel), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kernel, mode", [("cubic", "bicubic"), ("linear", "bilinear")])
@pytest.mark.parametrize("size, border", [((256, 192), 12), ((16, 12), 2)])
def test_resize_agrees_with_torch_inside(kernel, mode, size, border):
    images = torch.rand(1, 2, 64, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    inside = (..., slice(border, -border), slice(border, -border))
    theirs = torch.nn.functional.interpolate(images, size, mode=mode, antialias=True, align_corners=False)
    assert torch.allclose(resize(images, size, kernel)[inside], theirs[inside], rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_resize_keeps_dtype_and_constants(dtype):
    got = resize(torch.full((1, 2, 5, 6), 0.7, dtype=dtype), (20, 3))
    assert got.dtype == dtype and got.shape == (1, 2, 20, 3)
    assert torch.allclose(got, torch.full_like(got, 0.7), rtol=torch.finfo(dtype).eps * 4)


# ---- GSA


def plain_gsa(lr_hsi: np.ndarray, hr_msi: np.ndarray) -> np.ndarray:
    """(bands, h, w), (msi_bands, H, W) -> (bands, H, W), band by band with NumPy's own least squares."""

    def resized(band, shape, kernel):
        half = np.array([looped_resize(list(column), shape[0], kernel) for column in band.T]).T
        return np.array([looped_resize(list(row), shape[1], kernel) for row in half])

    low, high = lr_hsi.shape[1:], hr_msi.shape[1:]
    shrunk = [resized(band, low, "linear").ravel() for band in hr_msi]
    owner = [int(np.argmax([np.corrcoef(band.ravel(), other)[0, 1] for other in shrunk])) for band in lr_hsi]
    fused = np.empty((len(lr_hsi), *high))
    for k, pan in enumerate(hr_msi):
        group = [j for j in range(len(lr_hsi)) if owner[j] == k]
        if not group:
            continue
        up = [resized(lr_hsi[j], high, "cubic") for j in group]
        detail = pan - pan.mean()
        design = np.column_stack([lr_hsi[j].ravel() - lr_hsi[j].mean() for j in group] + [np.ones(lr_hsi[0].size)])
        weights = np.linalg.lstsq(design, resized(detail, low, "cubic").ravel(), rcond=None)[0]
        intensity = sum(w * (u - u.mean()) for w, u in zip(weights, up)) + weights[-1]
        intensity = intensity - intensity.mean()
        for j, u in zip(group, up):
            covariance = np.cov(intensity.ravel(), u.ravel())
            sharp = u + covariance[0, 1] / covariance[0, 0] * (detail - intensity)
            fused[j] = sharp - sharp.mean() + u.mean()
    return fused


@pytest.mark.parametrize("msi_bands, ratio", [(1, 4), (3, 2), (9, 4)])
def test_gsa_agrees_with_plain_version(msi_bands, ratio):
    lr_hsi, hr_msi = random_pair(seed=5, msi_bands=msi_bands, ratio=ratio)  # 9 MSI bands for 7: some groups are empty
    fused = fuse(build("gsa", lr_hsi, hr_msi), lr_hsi, hr_msi)
    assert np.allclose(fused[0].numpy(), plain_gsa(lr_hsi[0].numpy(), hr_msi[0].numpy()), rtol=0, atol=1e-10)


def test_gsa_where_bands_outnumber_pixels():
    lr_hsi, hr_msi = random_pair(bands=30, msi_bands=2, side=3)
    fused = fuse(build("gsa", lr_hsi, hr_msi), lr_hsi, hr_msi)
    assert np.allclose(fused[0].numpy(), plain_gsa(lr_hsi[0].numpy(), hr_msi[0].numpy()), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_gsa_dead_hsi_band_stays_what_it_is(value, dtype):
    lr_hsi, hr_msi = random_pair()
    lr_hsi[:, 2] = value
    fused = fuse(build("gsa", lr_hsi, hr_msi), lr_hsi.to(dtype), hr_msi.to(dtype))
    assert fused.isfinite().all()
    assert torch.allclose(fused[:, 2], torch.tensor(value, dtype=dtype), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_gsa_dead_msi_band_is_not_chosen(value, dtype):
    lr_hsi, hr_msi = random_pair()
    dead = hr_msi.clone()
    dead[:, 1] = value
    fused = fuse(build("gsa", lr_hsi, dead), lr_hsi.to(dtype), dead.to(dtype))
    without = fuse(build("gsa", lr_hsi, hr_msi[:, [0, 2]]), lr_hsi.to(dtype), hr_msi[:, [0, 2]].to(dtype))
    assert torch.equal(fused, without)


@pytest.mark.parametrize("lr_value, msi_value", [(None, 0.3), (None, 0.1), (0.3, None), (0.3, 0.1), (0.0, 0.0)])
def test_gsa_without_detail_to_give_or_take_is_bicubic(lr_value, msi_value):
    lr_hsi, hr_msi = random_pair()
    if lr_value is not None:
        lr_hsi[:] = lr_value
    if msi_value is not None:
        hr_msi[:] = msi_value
    fused, bicubic = (fuse(build(name, lr_hsi, hr_msi), lr_hsi, hr_msi) for name in ("gsa", "bicubic"))
    assert torch.allclose(fused, bicubic, rtol=0, atol=1e-12)


# ---- both


@pytest.mark.parametrize("name", list(NAMES))
def test_batch_is_its_images(name):
    lr_hsi, hr_msi = (image.float() for image in random_pair(batch=2))
    model = build(name, lr_hsi, hr_msi)
    both = fuse(model, lr_hsi, hr_msi)
    assert both.shape == (2, 7, 24, 24) and both.dtype == torch.float32
    for n in range(2):
        assert torch.allclose(both[n], fuse(model, lr_hsi[n : n + 1], hr_msi[n : n + 1])[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", list(NAMES))
def test_band_means_are_those_of_the_interpolation(name):
    lr_hsi, hr_msi = random_pair(seed=9)
    fused = fuse(build(name, lr_hsi, hr_msi), lr_hsi, hr_msi)
    assert torch.allclose(fused.mean((2, 3)), resize(lr_hsi, (24, 24)).mean((2, 3)), rtol=0, atol=1e-12)


def test_unequal_batches_are_refused():
    lr_hsi, hr_msi = random_pair(batch=2)
    with pytest.raises(ValueError):
        build("gsa", lr_hsi, hr_msi)(lr_hsi, hr_msi[:1])
