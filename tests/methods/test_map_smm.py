"""MAP-SMM against recorded outputs, and its steps against loops over pixels with NumPy and SciPy."""

import itertools

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag
from scipy.stats import chi2, multivariate_normal

from benchmark.fidelity.cases import make_case, make_noisy_case, sample_indices
from benchmark.fidelity.recordings import load_case
from benchmark.fidelity.toolboxes import as_image
from benchmark.metrics import measure
from methods import create, fuse, map_smm
from methods.hypersharpening import denoise_bands
from methods.registry import MethodError
from methods.resample import resize

GOLDEN = load_case("classical")["cases"]
COLUMNS = (("psnr_db", "psnr"), ("sam_deg", "sam"), ("rmse_unit", "rmse"), ("ergas", "ergas"))


def random_pair(seed=0, bands=9, msi_bands=3, size=(10, 12), ratio=4, batch=1, rank=8):
    """Mixtures of ``rank`` spectra; the MSI sees others of them."""
    rng = torch.Generator().manual_seed(seed)

    def mixed(rows, columns, channels):
        spectra = torch.rand(channels, rank, generator=rng, dtype=torch.float64)
        maps = torch.rand(batch, rank, rows, columns, generator=rng, dtype=torch.float64) ** 3
        return torch.einsum("cr,brhw->bchw", spectra, maps / maps.sum(1, keepdim=True))

    return mixed(*size, bands), mixed(size[0] * ratio, size[1] * ratio, msi_bands)


def run(lr_hsi, hr_msi, **overrides):
    ratio = hr_msi.shape[-1] // lr_hsi.shape[-1]
    model = create("map-smm", bands=lr_hsi.shape[1], msi_bands=hr_msi.shape[1], ratio=ratio, **overrides)
    return fuse(model, lr_hsi, hr_msi)


# ---- recorded outputs


def against_recording(case, golden, dtype=torch.float64):
    """Largest difference of the samples, and the metrics of both."""
    lr_hsi, hr_msi, reference = (as_image(case[key]) for key in ("lr_hsi", "hr_msi", "hr_hsi"))
    fused = run(lr_hsi.to(dtype), hr_msi.to(dtype))
    assert fused.dtype == dtype
    samples = fused[0].permute(1, 2, 0).numpy()[tuple(sample_indices(case["hr_hsi"].shape).T)]
    ours = measure(fused, reference)
    pairs = {key: (ours[column].item(), golden["metrics"][key]) for column, key in COLUMNS}
    return np.abs(samples - golden["samples"]).max(), pairs


@pytest.mark.golden
def test_golden_noisy():
    case, golden = make_noisy_case(), GOLDEN["case1_noisy"]["results"]["MAPSMM"]
    difference, metrics = against_recording(case, golden)
    assert difference < 1e-6
    for key, (ours, theirs) in metrics.items():
        assert ours == pytest.approx(theirs, rel=1e-8), key
    ours, theirs = against_recording(case, golden, torch.float32)[1]["psnr"]
    assert ours == pytest.approx(theirs, abs=1e-3)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_golden_noise_free(dtype, monkeypatch):
    # The recorded run starts from pixels whose simplex is 0.24 % smaller than ours; all that follows is the same.
    case, golden = make_case(), GOLDEN["case1"]["results"]["MAPSMM"]
    ours, theirs = against_recording(case, golden, dtype)[1]["psnr"]
    # Another order of the same pixels moves the noisy case by up to 0.1 dB.
    assert ours == pytest.approx(theirs, abs=0.05)
    monkeypatch.setattr(map_smm, "_pure_pixels", lambda points, variances: torch.tensor([115, 143, 41, 189]))
    difference, metrics = against_recording(case, golden, dtype)
    assert difference < 1e-6
    for key, (ours, theirs) in metrics.items():
        assert ours == pytest.approx(theirs, rel=1e-8 if dtype == torch.float64 else 1e-6), key


# ---- steps


def plain_pure_pixels(points, variances):
    """One pixel at a time: a vertex moves whenever the determinant grows."""
    count = points.shape[1]
    inside = [i for i, x in enumerate(points) if (x**2 / variances).sum() < chi2.ppf(0.98, count)]
    chosen = []
    for i in inside:
        if len(chosen) <= count and not any((points[i] == points[j]).all() for j in chosen):
            chosen.append(i)

    def volume(indices):
        return abs(np.linalg.det(np.column_stack([np.ones(count + 1), points[indices]])))

    moved = True
    while moved:
        moved = False
        for k in range(count + 1):
            for i in inside:
                trial = [*chosen[:k], i, *chosen[k + 1 :]]
                if volume(trial) > volume(chosen) * (1 + 1e-12):
                    chosen, moved = trial, True
    return chosen


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_pure_pixels_agree_with_one_at_a_time(seed, count):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((90, count)) * np.arange(5, 5 - count, -1)
    points[[1, 2, 4]] = points[0]  # not distinct
    points[50] *= 9  # an outlier
    points -= points.mean(0)
    variances = points.var(0, ddof=1)
    ours = map_smm._pure_pixels(torch.from_numpy(points), torch.from_numpy(variances)).tolist()
    assert ours == plain_pure_pixels(points, variances)
    assert 50 not in ours


def test_pure_pixels_are_outliers_where_all_others_are_equal():
    points = torch.full((60, 1), -0.1, dtype=torch.float64)
    points[7] = 5.9
    assert sorted(map_smm._pure_pixels(points, points.var(0)).tolist()) == [0, 7]


def plain_abundances(scores, pure):
    """Class by class and pixel by pixel, densities as they are."""
    q, c = scores.shape[1], len(pure)
    shares = [s for s in itertools.product(range(5), repeat=c) if sum(s) == 4]
    fractions = np.array(shares) / 4
    corners = np.zeros((c, q))
    corners[:, : c - 1] = scores[pure, : c - 1]
    means = [f @ corners for f in fractions]
    moments = [(f**2).sum() * np.cov(scores.T) for f in fractions]
    priors = [1 / len(fractions)] * len(fractions)

    def densities():
        return np.array([multivariate_normal(m, s).pdf(scores) for m, s in zip(means, moments)])

    for _ in range(map_smm.PASSES):
        scaled = densities()
        scaled = scaled / scaled.sum(1, keepdims=True)
        for k in range(len(fractions)):
            posterior = priors[k] * scaled[k] / scaled.sum(0)
            priors[k] = posterior.mean()
            means[k] = sum(p * x for p, x in zip(posterior, scores)) / posterior.sum()
            moments[k] = sum(p * np.outer(x, x) for p, x in zip(posterior, scores)) / posterior.sum()
    return fractions[(np.array(priors)[:, None] * densities()).argmax(0)]


@pytest.mark.parametrize("count", [3, 4])
def test_abundances_agree_with_plain_version(count, monkeypatch):
    monkeypatch.setattr(map_smm, "PASSES", 4)  # later, classes of so few pixels become singular
    rng = np.random.default_rng(count)
    scores = rng.standard_normal((60, count)) * np.arange(9, 9 - count, -1)
    scores -= scores.mean(0)
    pure = plain_pure_pixels(scores[:, : count - 1], scores[:, : count - 1].var(0, ddof=1))
    ours = map_smm._abundances(torch.from_numpy(scores), torch.tensor(pure))
    assert np.array_equal(ours.numpy(), plain_abundances(scores, pure))
    assert len(np.unique(ours.numpy(), axis=0)) > 3


def random_covariances(rng, count, size):
    factors = torch.rand(count, size, size, generator=rng, dtype=torch.float64) - 0.5
    return factors @ factors.mT + 0.1 * torch.eye(size, dtype=torch.float64)


def test_posterior_agrees_with_the_joint_system():
    """All HR pixels of one LR pixel, the MSI and the LR pixel in one large Gaussian."""
    rng = torch.Generator().manual_seed(3)
    q, b, c, r, (h, w), noise = 3, 2, 4, 2, (2, 3), torch.tensor(0.03, dtype=torch.float64)
    means = torch.rand(c, q + b, generator=rng, dtype=torch.float64)
    covariances = random_covariances(rng, c, q + b)
    fractions = torch.rand(h * w * r * r, c, generator=rng, dtype=torch.float64)
    msi = torch.rand(h * w * r * r, b, generator=rng, dtype=torch.float64)
    low = torch.rand(h, w, q, generator=rng, dtype=torch.float64)
    mean, covariance = map_smm._given_msi(fractions, msi, means, covariances, 1e-14)
    ours = map_smm._given_lr(low, mean.view(h, r, w, r, q), covariance.view(h, r, w, r, q, q), noise)
    f, x = (image.view(h, r, w, r, -1).numpy() for image in (fractions, msi))
    for i, j in itertools.product(range(h), range(w)):
        block_f, block_x = f[i, :, j].reshape(r * r, c), x[i, :, j].reshape(-1)
        m = block_f @ means.numpy()
        joint = [np.tensordot(g**2, covariances.numpy(), 1) for g in block_f]
        zz, zx, xx = (block_diag(*[s[a, o] for s in joint]) for a, o in (
            (slice(q), slice(q)), (slice(q), slice(q, None)), (slice(q, None), slice(q, None))))
        averaging = np.kron(np.ones((1, r * r)) / r**2, np.eye(q))
        # Observed: the MSI of all pixels and the noisy mean.
        cross = np.hstack([zx, zz @ averaging.T])
        low_low = averaging @ zz @ averaging.T + noise.item() * np.eye(q)
        observed = np.block([[xx, zx.T @ averaging.T], [averaging @ zx, low_low]])
        innovation = np.concatenate([block_x - m[:, q:].ravel(), low[i, j].numpy() - m[:, :q].mean(0)])
        expected = m[:, :q].ravel() + cross @ np.linalg.solve(observed, innovation)
        assert np.allclose(ours[i, :, j].reshape(-1).numpy(), expected, rtol=0, atol=1e-10)


def test_statistics_agree_with_numpy():
    rng = np.random.default_rng(2)
    samples, owner = rng.standard_normal((30, 4)), rng.integers(0, 2, 30)
    owner[owner == 1] = [1] * (owner == 1).sum()
    owner[5] = 2  # alone
    means, covariances = map_smm._statistics(torch.from_numpy(samples), torch.from_numpy(owner), 3)
    for k in range(2):
        assert np.allclose(means[k], samples[owner == k].mean(0), atol=1e-14)
        assert np.allclose(covariances[k], np.cov(samples[owner == k].T), atol=1e-14)
    assert np.allclose(means[2], samples[5]) and not covariances[2].any()


def test_too_few_dominant_materials_start_a_second_attempt(monkeypatch):
    lr_hsi, hr_msi = random_pair()
    attempts = []

    def abundances(scores, pure):
        attempts.append((scores.shape[1], len(pure)))
        mixed = torch.nn.functional.one_hot(torch.arange(len(scores)) % 3, len(pure)).double()
        mixed[:, 0] += 0.1 * (mixed[:, 1] > 0)
        mixed[:, 3] += 0.5  # never dominant: left out
        return mixed / mixed.sum(1, keepdim=True)

    given = []
    monkeypatch.setattr(map_smm, "_abundances", abundances)
    original = map_smm._given_msi
    monkeypatch.setattr(map_smm, "_given_msi", lambda f, *rest: given.append(f) or original(f, *rest))
    assert run(lr_hsi, hr_msi).isfinite().all()
    assert attempts == [(5, 4), (6, 5)]
    assert given[0].shape == (40 * 48, 3) and torch.allclose(given[0].sum(1), torch.ones(40 * 48, dtype=torch.float64))


def test_denoising_is_the_last_step():
    lr_hsi, hr_msi = random_pair(seed=4)
    free = run(lr_hsi, hr_msi)
    assert torch.equal(run(lr_hsi, hr_msi, denoise=True)[0], denoise_bands(free[0]))


# ---- degenerate images


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("msi_bands, ratio", [(1, 2), (4, 3)])
def test_data_of_few_dimensions(msi_bands, ratio, rank, dtype):
    lr_hsi, hr_msi = (image.to(dtype) for image in random_pair(msi_bands=msi_bands, ratio=ratio, rank=rank))
    fused = run(lr_hsi, hr_msi)
    assert fused.shape == (1, 9, 10 * ratio, 12 * ratio) and fused.isfinite().all()
    assert fused.min() > -2 and fused.max() < 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_constant_hsi_gives_the_interpolation(value, dtype):
    lr_hsi, hr_msi = (image.to(dtype) for image in random_pair())
    lr_hsi[:] = value
    assert torch.allclose(run(lr_hsi, hr_msi), resize(lr_hsi, hr_msi.shape[-2:]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_dead_bands(value, dtype):
    lr_hsi, hr_msi = (image.to(dtype) for image in random_pair())
    lr_hsi[:, 2], hr_msi[:, 1] = value, value
    fused = run(lr_hsi, hr_msi)
    assert fused.isfinite().all()
    assert torch.allclose(fused[:, 2], torch.tensor(value, dtype=dtype), atol=1e-6)
    assert torch.allclose(fused, run(lr_hsi, hr_msi[:, [0, 2]]), rtol=0, atol=1e-5)


def test_constant_msi_is_finite():
    lr_hsi, hr_msi = random_pair()
    assert run(lr_hsi, torch.full_like(hr_msi, 0.3)).isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 2)])
def test_small_images(size):
    lr_hsi, hr_msi = random_pair(size=size, ratio=2)
    assert run(lr_hsi, hr_msi).isfinite().all()


def test_material_of_one_pixel():
    lr_hsi, hr_msi = random_pair(rank=2)
    lr_hsi[0, :, 3, 3] += 2
    assert run(lr_hsi, hr_msi).isfinite().all()


# ---- contract


def test_batch_is_its_images():
    lr_hsi, hr_msi = (image.float() for image in random_pair(batch=2))
    both = run(lr_hsi, hr_msi)
    for n in range(2):
        assert torch.equal(both[n], run(lr_hsi[n : n + 1], hr_msi[n : n + 1])[0])


def test_sizes_that_do_not_fit_are_explained():
    lr_hsi, hr_msi = random_pair()
    with pytest.raises(MethodError, match="multiple"):
        run(lr_hsi, hr_msi[..., :-1])
