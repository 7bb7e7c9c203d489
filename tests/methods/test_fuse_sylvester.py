"""FUSE and its solver: recorded outputs of the reference toolbox, dense normal equations, and data that break solvers."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

import methods.fuse_sylvester  # noqa: F401
from benchmark.fidelity.cases import make_case, make_noisy_case, sample_indices
from benchmark.fidelity.recordings import load_case
from benchmark.fidelity.toolboxes import as_image
from benchmark.metrics import measure
from methods import create, fuse
from methods.estimation import estimate_srf, remove_offset
from methods.fuse_sylvester import release_psf, spline_weights
from methods.registry import MethodError
from methods.sylvester import Sylvester, add_spread, fold, inverse_rfft2, signal_axes
from tests.methods.images import random_pair, responses

GOLDEN = load_case("classical")["cases"]
CASES = {"case1": make_case, "case1_noisy": make_noisy_case}
COLUMNS = (("psnr_db", "psnr"), ("sam_deg", "sam"), ("rmse_unit", "rmse"), ("ergas", "ergas"))
images = partial(random_pair, bands=6, msi_bands=2, size=(4, 6), ratio=2)


def build(name, lr_hsi, hr_msi, phase=1, **options):
    bands, msi_bands, ratio = lr_hsi.shape[1], hr_msi.shape[1], hr_msi.shape[-1] // lr_hsi.shape[-1]
    psf, srf = responses(bands=bands, msi_bands=msi_bands)
    return create(name, bands=bands, msi_bands=msi_bands, ratio=ratio, psf=psf, srf=srf, phase=phase, **options)


# ---- recorded outputs


@pytest.mark.golden
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case_name", list(CASES))
@pytest.mark.parametrize("name, key", [("fuse", "FUSEknown"), ("fuse-blind", "FUSE")])
def test_golden(name, key, case_name, dtype):
    case, golden = CASES[case_name](), GOLDEN[case_name]["results"][key]
    lr_hsi, hr_msi, reference = (as_image(case[k]) for k in ("lr_hsi", "hr_msi", "hr_hsi"))
    told = {k: torch.from_numpy(case[k]).to(dtype) for k in ("psf", "srf")} | {"phase": case["offset"]}
    model = create(name, bands=60, msi_bands=4, **(told if name == "fuse" else {}))
    fused = fuse(model, lr_hsi.to(dtype), hr_msi.to(dtype))
    assert fused.dtype == dtype
    ours, theirs = measure(fused, reference), golden["metrics"]
    if "suggested_sample_tolerance" not in golden:  # the SRF of noise-free data is not unique, says the recording
        assert ours["psnr_db"].item() == pytest.approx(theirs["psnr"], abs=0.5)
        return
    samples = fused[0].permute(1, 2, 0).numpy()[tuple(sample_indices(case["hr_hsi"].shape).T)]
    assert np.abs(samples - golden["samples"]).max() < golden["suggested_sample_tolerance"]
    assert ours["psnr_db"].item() == pytest.approx(theirs["psnr"], abs=1e-3)
    # Noise-free, seven of the release's axes are rounding, which moves its output by 1e-4.
    relative = 1e-4 if case_name == "case1" else 1e-7 if dtype == torch.float64 else 1e-6
    for column, k in COLUMNS:
        assert ours[column].item() == pytest.approx(theirs[k], rel=relative), column


# ---- the solver against dense normal equations


def observation_matrix(psf, size, ratio, phase):
    """(n, N): circular correlation and decimation of one band, entry by entry."""
    height, width = size
    rows = []
    for i in range(phase, height, ratio):
        for j in range(phase, width, ratio):
            row = np.zeros(size)
            for di in range(psf.shape[0]):
                for dj in range(psf.shape[1]):
                    place = (i + di - (psf.shape[0] - 1) // 2) % height, (j + dj - (psf.shape[1] - 1) // 2) % width
                    row[place] += psf[di, dj]
            rows.append(row.ravel())
    return np.array(rows)


def dense_solution(lr_hsi, hr_msi, basis, srf, blur, precision, mean):
    """The minimiser (p, N) of ||Y - E A B^T||^2 + ||Z - R E A||^2 + tr (A - M)^T P (A - M), from its normal equations."""
    seen = srf @ basis
    matrix = np.kron(basis.T @ basis, blur.T @ blur) + np.kron(seen.T @ seen + precision, np.eye(blur.shape[1]))
    right = basis.T @ lr_hsi @ blur + seen.T @ hr_msi + precision @ mean
    return np.linalg.solve(matrix, right.ravel()).reshape(right.shape)


@pytest.mark.parametrize(
    "ratio, size, bands, msi_bands, rank, side",
    [
        (2, (4, 6), 6, 2, 3, 3),
        (4, (2, 3), 5, 3, 2, 4),
        (3, (3, 3), 4, 1, 4, 5),
        (2, (5, 3), 5, 2, 4, 13),
        (1, (5, 6), 4, 2, 3, 3),
    ],
)
def test_solver_solves_the_normal_equations(ratio, size, bands, msi_bands, rank, side):
    lr_hsi, hr_msi = (image[0] for image in random_pair(1, bands, msi_bands, size, ratio))
    psf, srf = responses(1, bands, msi_bands, side)
    rng = torch.Generator().manual_seed(7)
    basis = torch.linalg.qr(torch.randn(bands, rank, generator=rng, dtype=torch.float64))[0]
    root = torch.randn(rank, rank, generator=rng, dtype=torch.float64)
    precision = 0.05 * root @ root.T + 0.01 * torch.eye(rank, dtype=torch.float64)
    mean = torch.randn(rank, *hr_msi.shape[1:], generator=rng, dtype=torch.float64)

    solver = Sylvester(lr_hsi, hr_msi, basis, srf, psf, ratio, precision)
    rotation = solver.basis.T @ basis
    pull = (rotation @ precision @ mean.flatten(1)).unflatten(1, hr_msi.shape[1:])
    fused = solver.basis @ solver.solve(pull).flatten(1)

    blur = observation_matrix(psf.numpy(), hr_msi.shape[1:], ratio, 0)
    flat = [array.numpy().reshape(len(array), -1) for array in (lr_hsi, hr_msi, mean)]
    expected = dense_solution(flat[0], flat[1], basis.numpy(), srf.numpy(), blur, precision.numpy(), flat[2])
    assert np.allclose(fused.numpy(), basis.numpy() @ expected, rtol=0, atol=1e-11)


def test_signal_axes_are_singular_vectors_and_stop_at_the_rank():
    pixels = images(2, bands=8, size=(5, 6))[0][0].flatten(1)
    axes, variance = signal_axes(pixels, 3)
    left, values, _ = torch.linalg.svd(pixels, full_matrices=False)
    assert torch.allclose(axes @ axes.T, left[:, :3] @ left[:, :3].T, rtol=0, atol=1e-12)
    assert torch.allclose(variance, values[:3].square() / 30, rtol=1e-12)
    low_rank = pixels[:, :2] @ torch.rand(2, 30, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert signal_axes(low_rank, 5)[0].shape == (8, 2)
    assert signal_axes(torch.zeros_like(pixels), 5)[0].shape == (8, 0)


# ---- FUSE


@pytest.mark.parametrize("ratio, size", [(1, (3, 4)), (2, (4, 6)), (2, (6, 2)), (3, (3, 9)), (3, (6, 12)), (4, (8, 4))])
def test_folded_and_spread_spectra_are_those_of_decimated_and_filled_up_images(ratio, size):
    generator = torch.Generator().manual_seed(7)
    image, lr = (torch.randn(2, *(n // r for n in size), generator=generator, dtype=torch.float64) for r in (1, ratio))
    factor = torch.fft.rfft2(torch.randn(size, generator=generator, dtype=torch.float64))
    filtered = torch.fft.irfft2(torch.fft.rfft2(image) * factor, size)
    folded = fold(torch.fft.rfft2(image), factor, size[1], ratio)
    assert torch.allclose(folded, torch.fft.rfft2(filtered[:, ::ratio, ::ratio]), rtol=0, atol=1e-12)

    filled = torch.zeros_like(image)
    filled[:, ::ratio, ::ratio] = lr
    total = torch.fft.rfft2(image)
    add_spread(total, torch.fft.rfft2(lr), factor, lr.shape[2])
    assert torch.allclose(total, torch.fft.rfft2(image) + torch.fft.rfft2(filled) * factor, rtol=0, atol=1e-12)
    assert torch.allclose(inverse_rfft2(torch.fft.rfft2(image), size[1]), image, rtol=0, atol=1e-14)


@pytest.mark.parametrize("samples", [1, 2, 3, 7])
@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
def test_spline_is_scipys_on_the_extended_line(samples, ratio):
    weights = spline_weights(samples, ratio).numpy()
    assert weights.shape == (samples * ratio, samples)
    for line, row in zip(np.eye(samples), weights.T, strict=True):
        extended = np.concatenate([line[:1], line, line[-1:]])
        spline = CubicSpline(np.arange(-1, samples + 1), extended, bc_type="not-a-knot")
        assert np.allclose(row, spline(np.arange(samples * ratio) / ratio), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ratio, size, phase, weight", [(2, (4, 6), 1, 1e-3), (3, (3, 4), 2, 1e4), (2, (5, 3), 0, 1e6)])
def test_fuse_agrees_with_plain_version(ratio, size, phase, weight):
    """Whitened coefficients around the spline of the LR ones, images times 10000, all of it dense."""
    lr_hsi, hr_msi = images(4, size=size, ratio=ratio)
    fused = fuse(build("fuse", lr_hsi, hr_msi, phase, subspace=3, weight=weight), lr_hsi, hr_msi)[0].numpy()

    psf, srf = (array.numpy() for array in responses())
    y, z = 1e4 * lr_hsi[0].numpy(), 1e4 * hr_msi[0].numpy()
    high = z.shape[1:]
    values, vectors = np.linalg.eigh(y.reshape(6, -1) @ y.reshape(6, -1).T / y[0].size)
    basis = vectors[:, -3:] * np.sqrt(values[-3:])  # E = V D: not orthonormal
    mean = np.linalg.lstsq(basis, y.reshape(6, -1), rcond=None)[0].reshape(3, *size)
    for axis in (1, 2):
        n = mean.shape[axis]
        line = np.pad(mean, [(0, 0)] + [(1, 1) if k == axis else (0, 0) for k in (1, 2)], mode="symmetric")
        mean = CubicSpline(np.arange(-1, n + 1), line, axis=axis)(np.arange(n * ratio) / ratio)
    mean = np.roll(mean, (phase, phase), (1, 2))  # LR pixel (0, 0) lies on HR pixel (phase, phase)
    blur = observation_matrix(psf, high, ratio, phase)
    flat = [array.reshape(len(array), -1) for array in (y, z, mean)]
    expected = basis @ dense_solution(flat[0], flat[1], basis, srf, blur, weight * np.eye(3), flat[2]) / 1e4
    # At the default weight the dense system has a condition of 1e12.
    assert np.allclose(fused, expected.reshape(6, *high), rtol=0, atol=1e-4 if weight < 1 else 1e-9)


@pytest.mark.parametrize("ratio, phases", [(2, [0, 1]), (3, [1]), (4, [1, 2])])
def test_blind_is_the_mean_over_central_phases_with_estimated_responses(ratio, phases):
    lr_hsi, hr_msi = images(5, bands=5, size=(6, 5), ratio=ratio)
    srf, offset = estimate_srf(lr_hsi, hr_msi)
    told = dict(bands=5, msi_bands=2, ratio=ratio, psf=release_psf(ratio), srf=srf[0])
    known = [fuse(create("fuse", **told, phase=p), lr_hsi, remove_offset(hr_msi, offset)) for p in phases]
    blind = fuse(create("fuse-blind", bands=5, msi_bands=2, ratio=ratio), lr_hsi, hr_msi)
    assert torch.allclose(blind, torch.stack(known).mean(0), rtol=0, atol=1e-10)


@pytest.mark.parametrize("ratio, side", [(2, 3), (3, 5), (4, 5), (5, 7), (8, 9)])
def test_release_psf_falls_to_half_at_half_the_ratio(ratio, side):
    psf = release_psf(ratio)
    assert psf.shape == (side, side) and psf.sum().item() == pytest.approx(1)
    centre = side // 2  # a Gaussian: the ratio of two neighbours tells its width
    assert (psf[centre, centre + 1] / psf[centre, centre]).item() == pytest.approx(0.5 ** ((2 / ratio) ** 2), rel=1e-6)


# ---- unkind data


@pytest.mark.parametrize("name", ["fuse", "fuse-blind"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (4, 6), 1), (4, (6, 3), 4), (3, (3, 5), 2)])
@pytest.mark.parametrize("kind", ["dead band", "constant", "zero", "rank one", "zero msi"])
def test_degenerate_data_give_finite_images(kind, ratio, size, msi_bands, dtype, name):
    lr_hsi, hr_msi = images(6, bands=9, msi_bands=msi_bands, size=size, ratio=ratio)
    if kind == "dead band":
        lr_hsi[:, 2] = 0
    elif kind in ("constant", "zero"):
        lr_hsi[:], hr_msi[:] = (0.3, 0.3) if kind == "constant" else (0, 0)
    elif kind == "rank one":
        lr_hsi = lr_hsi[:, :1] * torch.linspace(0.2, 1, 9, dtype=torch.float64)[:, None, None]
    else:
        hr_msi[:] = 0
    fused = fuse(build(name, lr_hsi, hr_msi), lr_hsi.to(dtype), hr_msi.to(dtype))
    assert fused.shape == (1, 9, *hr_msi.shape[2:]) and fused.isfinite().all()
    if kind == "dead band":
        assert fused[:, 2].abs().max() < 1e-6
    if kind == "zero":
        assert not fused.any()
    if kind == "constant" and name == "fuse":
        assert torch.allclose(fused, torch.full_like(fused, 0.3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("weight", [1e-17, 1e-9, 1e9])
def test_any_weight_gives_a_finite_image(weight):
    lr_hsi, hr_msi = images(7, bands=9, size=(6, 6))
    assert fuse(build("fuse", lr_hsi, hr_msi, weight=weight), lr_hsi, hr_msi).isfinite().all()


@pytest.mark.parametrize("name", ["fuse", "fuse-blind"])
def test_batch_is_its_images_and_runs_repeat(name):
    lr_hsi, hr_msi = (image.float() for image in images(8, size=(6, 5), batch=2))
    lr_hsi[1, :, :, :] = lr_hsi[1, :1]  # of rank one, so the two images differ in subspace
    model = build(name, lr_hsi, hr_msi)
    both = fuse(model, lr_hsi, hr_msi)
    alone = [fuse(model, lr_hsi[n : n + 1], hr_msi[n : n + 1]) for n in range(2)]
    assert both.dtype == torch.float32 and torch.equal(both, torch.cat(alone))
    assert torch.equal(both, fuse(build(name, lr_hsi, hr_msi), lr_hsi, hr_msi))


def test_what_does_not_fit_is_named():
    lr_hsi, hr_msi = images()
    for missing in ("psf", "srf", "phase"):
        told = {"psf": torch.ones(3, 3) / 9, "srf": torch.ones(2, 6) / 6, "phase": 0, missing: None}
        with pytest.raises(MethodError, match="mode='blind'"):
            create("fuse", bands=6, msi_bands=2, **told)
    with pytest.raises(MethodError, match="choices: known, blind"):
        create("fuse", bands=6, msi_bands=2, mode="half")
    for option in ({"subspace": 0}, {"weight": 0.0}, {"weight": float("nan")}):
        with pytest.raises(MethodError, match="must be positive"):
            create("fuse-blind", bands=6, msi_bands=2, **option)
    for name in ("fuse", "fuse-blind"):
        with pytest.raises(MethodError, match="one whole multiple"):
            build(name, lr_hsi, hr_msi)(lr_hsi, hr_msi[..., :-1])
