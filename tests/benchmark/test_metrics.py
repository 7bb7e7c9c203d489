"""The metrics against the release's recorded figures, a plain loop, scikit-image, and what must hold for any metric."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmark.fidelity.recordings import load_case, probe
from benchmark.metrics import METRICS, PSNR_CEILING_DB, ergas, measure, psnr, rmse, sam, ssim
from tests.speed import yardstick_metrics

GOLDEN = load_case("s3rnet_metrics_losses")["metrics"]


@pytest.fixture
def images():
    """A batch of three (estimate, reference) pairs, 6 bands of 10x12."""
    rng = torch.Generator().manual_seed(3)
    reference = torch.rand(3, 6, 10, 12, generator=rng)
    return reference + 0.1 * torch.randn(3, 6, 10, 12, generator=rng), reference


@pytest.fixture(scope="module")
def golden_images():
    shape = tuple(GOLDEN["inputs"]["shape"])
    reference = probe("m1_gt", shape)
    return reference + 0.05 * (probe("m1_err", shape) - 0.5), reference


# ---- recorded figures of the S3RNet release (float32, hence the tolerances)


@pytest.mark.golden
def test_golden(golden_images):
    assert psnr(*golden_images).item() == pytest.approx(GOLDEN["psnr_db"], abs=1e-4)
    assert sam(*golden_images).item() == pytest.approx(GOLDEN["sam_deg"], abs=1e-4)
    assert ergas(*golden_images, ratio=4).item() == pytest.approx(GOLDEN["ergas_scale4"], rel=1e-5)
    assert rmse(*golden_images).item() == pytest.approx(GOLDEN["rmse_unit"], rel=1e-5)


@pytest.mark.golden
def test_golden_native_rmse_does_not_add_the_native_minimum(golden_images):
    low, high = GOLDEN["inputs"]["native_min"], GOLDEN["inputs"]["native_max"]
    native = rmse(*golden_images, scale=high - low).item()
    assert native == pytest.approx(GOLDEN["rmse_release_train"], rel=1e-5)
    assert GOLDEN["rmse_release_test"] - native == pytest.approx(low, abs=1e-3)  # the defect of the release


# ---- second implementations


def looped(estimate: np.ndarray, reference: np.ndarray, ratio: float) -> dict[str, float]:
    """The definitions, one sample at a time."""
    bands, rows, columns = reference.shape
    pixels = rows * columns
    decibels, relative, squares = [], [], 0.0
    for b in range(bands):
        error, peak, total = 0.0, -math.inf, 0.0
        for i in range(rows):
            for j in range(columns):
                error += (float(estimate[b, i, j]) - float(reference[b, i, j])) ** 2
                peak = max(peak, float(reference[b, i, j]))
                total += float(reference[b, i, j])
        decibels.append(10 * math.log10(peak * peak / (error / pixels)))
        relative.append((error / pixels) / (total / pixels) ** 2)
        squares += error
    angles = []
    for i in range(rows):
        for j in range(columns):
            u, v = estimate[:, i, j].astype(float), reference[:, i, j].astype(float)
            dot = sum(x * y for x, y in zip(u, v))
            length = math.sqrt(sum(x * x for x in u)) * math.sqrt(sum(y * y for y in v))
            angles.append(math.degrees(math.acos(min(1.0, max(-1.0, dot / length)))))
    return {
        "psnr_db": sum(decibels) / bands,
        "sam_deg": sum(angles) / pixels,
        "rmse_unit": math.sqrt(squares / (bands * pixels)),
        "ergas": 100 / ratio * math.sqrt(sum(relative) / bands),
    }


@pytest.mark.parametrize("ratio", [4, 8])
def test_agrees_with_plain_loop(images, ratio):
    ours = measure(*images, ratio=ratio)
    for n, (estimate, reference) in enumerate(zip(*images)):
        for column, value in looped(estimate.numpy(), reference.numpy(), ratio).items():
            assert ours[column][n].item() == pytest.approx(value, rel=1e-10), column


def test_agrees_with_scikit_image(images):
    for estimate, reference in zip(*(image.double().numpy() for image in images)):
        pair = torch.from_numpy(estimate), torch.from_numpy(reference)
        decibels = [peak_signal_noise_ratio(y, x, data_range=y.max()) for x, y in zip(estimate, reference)]
        assert psnr(*pair).item() == pytest.approx(np.mean(decibels), rel=1e-12)
        similarity = [structural_similarity(y, x, data_range=1.0) for x, y in zip(estimate, reference)]
        assert ssim(*pair).item() == pytest.approx(np.mean(similarity), rel=1e-12)


def test_agrees_with_published_code_over_several_blocks():
    rng = torch.Generator().manual_seed(1)
    reference = torch.rand(2, 5, 160, 200, generator=rng)  # 32,000 pixels: four bands a block, and two blocks of spectra
    estimate = reference + 0.05 * torch.randn(reference.shape, generator=rng)
    ours = measure(estimate, reference)
    for n in range(2):
        for column, value in yardstick_metrics.measure(estimate[n].numpy(), reference[n].numpy()).items():
            assert ours[column][n].item() == pytest.approx(value, rel=1e-9, abs=1e-9), column  # 1e-6 is promised


@pytest.mark.parametrize("shape", [(2, 3, 30, 24), (1, 4, 7, 40), (1, 4, 9, 5), (3, 1, 300, 3), (5, 33, 64, 64)])
@pytest.mark.parametrize("data_range", [1.0, 0.25])
def test_ssim_agrees_with_scikit_image(shape, data_range):
    rng = torch.Generator().manual_seed(2)
    reference = torch.rand(shape, generator=rng, dtype=torch.float64)
    estimate = reference + 0.1 * torch.randn(shape, generator=rng, dtype=torch.float64)
    reference[:, 0, :, ::2], estimate[:, 0, :, ::2] = 0.3, 0.3001  # stripes that are constant
    reference[0, -1], estimate[0, -1] = 0.7, 0.2  # bands that are
    window = min(7, min(shape[2:]) - 1 + min(shape[2:]) % 2)
    for one, x, y in zip(ssim(estimate, reference, data_range=data_range), estimate.numpy(), reference.numpy()):
        similarity = structural_similarity(y, x, win_size=window, data_range=data_range, channel_axis=0)
        assert one.item() == pytest.approx(similarity, abs=1e-11)  # scikit-image sums up running sums


def test_small_and_large_angles_of_one_image():
    exponents = torch.linspace(-12, 0, 200, dtype=torch.float64)
    angle = torch.cat([180 * 10**exponents, 180 - 10**exponents])  # from 2e-10 degrees up to 180, and from there down
    azimuth = torch.linspace(0, 360, 400, dtype=torch.float64)
    reference = 3 * torch.stack([azimuth.deg2rad().cos(), azimuth.deg2rad().sin()])[:, None]
    estimate = 0.2 * torch.stack([(azimuth + angle).deg2rad().cos(), (azimuth + angle).deg2rad().sin()])[:, None]
    for n in range(400):
        assert sam(estimate[..., n:n + 1], reference[..., n:n + 1]).item() == pytest.approx(angle[n].item(), abs=2e-11)
    assert sam(estimate, reference).item() == pytest.approx(angle.mean().item(), abs=1e-12)


def test_views_are_measured_and_nothing_is_changed(images):
    estimate, reference = (image.double() for image in images)
    kept, threads = (estimate.clone(), reference.clone()), torch.get_num_threads()
    torch.set_num_threads(2)
    turned = measure(*(image.permute(0, 1, 3, 2) for image in (estimate, reference)))
    for column, values in measure(estimate, reference).items():
        assert torch.allclose(values, turned[column], rtol=1e-12), column
    left = torch.get_num_threads()
    torch.set_num_threads(threads)
    assert torch.equal(estimate, kept[0]) and torch.equal(reference, kept[1]) and left == 2


def test_sam_of_known_angles():
    angle = torch.tensor([[0.0, 1e-9, 30.0], [90.0, 150.0, 180.0]], dtype=torch.float64)
    reference = torch.stack([torch.ones(2, 3), torch.zeros(2, 3)]).double()
    estimate = 0.2 * torch.stack([angle.deg2rad().cos(), angle.deg2rad().sin()])
    for i in range(2):
        for j in range(3):  # arccos of the cosine would give 0 for the second
            one = sam(estimate[:, i : i + 1, j : j + 1], reference[:, i : i + 1, j : j + 1])
            assert one.item() == pytest.approx(angle[i, j].item(), rel=1e-6, abs=1e-14)


# ---- what holds for any metric


def test_one_figure_an_image(images):
    estimate, reference = (image.reshape(3, 1, 6, 10, 12) for image in images)
    scale = torch.tensor([[2.0], [3.0], [5.0]])
    batch = measure(estimate, reference, scale=scale)
    assert list(batch) == list(METRICS) == ["psnr_db", "sam_deg", "rmse", "rmse_unit", "ergas", "ssim"]
    for n in range(3):
        alone = measure(estimate[n, 0], reference[n, 0], scale=scale[n].item())
        for column, values in batch.items():
            assert values.shape == (3, 1) and values.dtype == torch.float64, column
            assert alone[column].shape == (), column
            assert values[n, 0].item() == pytest.approx(alone[column].item(), rel=1e-12), column


def test_better_is_better(images):
    estimate, reference = images
    far, near = (measure(reference + part * (estimate - reference), reference) for part in (1.0, 0.5))
    for column, metric in METRICS.items():
        gain = near[column] - far[column] if metric.better == "higher" else far[column] - near[column]
        assert (gain > 0).all(), column


def test_identical_images(images):
    _, reference = images
    got = measure(reference, reference)
    assert (got["psnr_db"] == math.inf).all()
    assert all((got[column] == 0).all() for column in ("sam_deg", "rmse", "rmse_unit", "ergas"))
    assert torch.allclose(got["ssim"], torch.ones(3).double())


def test_zero_band_has_no_peak_and_no_relative_error(images):
    estimate, reference = (image.clone() for image in images)
    reference[:, 2] = 0
    others = [0, 1, 3, 4, 5]
    assert torch.allclose(psnr(estimate, reference), psnr(estimate[:, others], reference[:, others]))
    assert torch.allclose(ergas(estimate, reference), ergas(estimate[:, others], reference[:, others]))
    assert all(values.isfinite().all() for values in measure(estimate, reference).values())


def test_perfect_band_counts_the_ceiling(images):
    estimate, reference = (image.clone() for image in images)
    estimate[:, 2] = reference[:, 2]
    others = psnr(estimate[:, [0, 1, 3, 4, 5]], reference[:, [0, 1, 3, 4, 5]])
    assert torch.allclose(psnr(estimate, reference), (5 * others + PSNR_CEILING_DB) / 6)
    assert pytest.approx(138.47, abs=0.01) == PSNR_CEILING_DB


def test_zero_spectra():
    zero, one = torch.zeros(4, 1, 1), torch.ones(4, 1, 1)
    assert sam(zero, zero).item() == 0
    assert sam(zero, one).item() == pytest.approx(90)
    assert sam(one, zero).item() == pytest.approx(90)


def test_zero_reference_gives_limits_not_nan():
    zero, some = torch.zeros(4, 8, 8), torch.full((4, 8, 8), 0.1)
    got = measure(some, zero)
    assert got["psnr_db"].item() == -math.inf and got["ergas"].item() == math.inf
    assert not any(values.isnan() for values in got.values())
    got = measure(zero, zero)
    assert got["psnr_db"].item() == math.inf and got["ergas"].item() == 0 and got["ssim"].item() == 1


@pytest.mark.parametrize("band", [0, 3])
def test_nan_is_not_hidden(images, band):
    estimate, reference = (image.clone() for image in images)
    reference[:, 3] = 0  # a band that PSNR and ERGAS leave out
    estimate[:, band, 4, 5] = math.nan
    for column, values in measure(estimate, reference).items():
        assert values.isnan().all(), column


@pytest.mark.parametrize("side, window", [(3, 3), (4, 3), (6, 5), (7, 7)])
def test_ssim_of_small_images(side, window):
    rng = torch.Generator().manual_seed(0)
    estimate, reference = torch.rand(2, 2, 12, side, generator=rng, dtype=torch.float64)
    pairs = zip(estimate.numpy(), reference.numpy())
    expected = [structural_similarity(y, x, data_range=1.0, win_size=window) for x, y in pairs]
    assert ssim(estimate, reference).item() == pytest.approx(np.mean(expected), rel=1e-12)


def test_ssim_refuses_what_has_no_window():
    with pytest.raises(ValueError, match=r"3 pixels or more.*\(8, 2\)"):
        ssim(torch.zeros(1, 8, 2), torch.zeros(1, 8, 2))


@pytest.mark.parametrize("column", list(METRICS))
def test_other_shapes_are_named(column):
    with pytest.raises(ValueError, match=r"\(1, 6, 8, 8\).*\(6, 8, 8\)"):
        METRICS[column].function(torch.zeros(1, 6, 8, 8), torch.zeros(6, 8, 8))
    with pytest.raises(ValueError, match=r"\(8, 8\)"):
        METRICS[column].function(torch.zeros(8, 8), torch.zeros(8, 8))


def test_pixels_without_data_leave_every_score():
    """Pixel metrics are those of the other pixels alone; of SSIM the windows that see such a pixel do not count."""
    generator = torch.Generator().manual_seed(0)
    reference, estimate = (torch.rand(3, 12, 14, generator=generator) for _ in range(2))
    valid = torch.ones(12, 14, dtype=torch.bool)
    valid[8:, 9:] = valid[0, 0] = False
    worse = torch.where(valid, estimate, torch.tensor(50.0))
    found = measure(worse, reference, scale=7.0, valid=valid)
    assert all(torch.equal(found[name], value) for name, value in measure(estimate, reference, scale=7.0, valid=valid).items())
    difference = (estimate - reference).double()[:, valid]
    assert found["rmse"].item() == pytest.approx(7 * difference.square().mean().sqrt().item())
    pixels = [(r, c) for r in range(12) for c in range(14) if valid[r, c]]
    angles = [sam(estimate[:, r : r + 1, c : c + 1], reference[:, r : r + 1, c : c + 1]).item() for r, c in pixels]
    assert found["sam_deg"].item() == pytest.approx(np.mean(angles))
    windows = [ssim(estimate[:, r : r + 7, c : c + 7], reference[:, r : r + 7, c : c + 7]).item()
               for r in range(6) for c in range(8) if valid[r : r + 7, c : c + 7].all()]
    assert found["ssim"].item() == pytest.approx(np.mean(windows)) and len(windows) > 5
    everywhere = measure(estimate, reference, scale=7.0, valid=torch.ones_like(valid))
    for name, value in measure(estimate, reference, scale=7.0).items():
        assert everywhere[name].item() == pytest.approx(value.item())
    none = torch.ones_like(valid)
    none[::5, ::5] = False
    assert torch.isfinite(measure(worse, reference, valid=none)["ssim"])  # no whole window is left
