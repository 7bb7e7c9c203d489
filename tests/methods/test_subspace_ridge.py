"""Subspace ridge against dense Gaussian conditioning, its levels on data made with known ones, and what it must reconstruct."""

import numpy as np
import pytest
import torch

from benchmark.protocol import apply_response, blur_decimate
from methods import create, fuse
from methods.estimation import estimate_nonnegative
from methods.levels import msi_noise, principal_components
from methods.registry import MethodError
from methods.responses import gaussian_psf
from methods.separable import Blur, dct_matrix
from methods.subspace_ridge import EXPONENT, coordinates, detail_covariance, local_regression, power_law
from tests.methods.images import random_pair, random_srf, responses

PSF = gaussian_psf(9, 1.7)


def noise(*size, seed=5):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scene(rank=4, bands=20, size=64, seed=0):
    """Cube (bands, size, size) of ``rank`` smooth spectra: blocks with sharp borders over waves."""
    x = torch.arange(size, dtype=torch.float64) / size
    parts = []
    for k in range(rank):
        blocks = noise(1, 1, 6 + k, 6 + k, seed=seed + k)
        blocks = torch.nn.functional.interpolate(blocks, (size, size), mode="nearest")[0, 0]
        parts.append(blocks + torch.sin(9 * (k + 1) * x)[:, None] * torch.cos(7 * x + k))
    t = torch.arange(bands, dtype=torch.float64) / bands
    spectra = torch.stack([(3.1 * (k + 0.5) * t + k).cos() for k in range(rank)], 1)
    return 0.5 + 0.08 * torch.einsum("bk,kxy->bxy", spectra, torch.stack(parts))


def observed(cube, lr_std=0.0, msi_std=0.0, msi_bands=3):
    """LR-HSI, HR-MSI and what is told, of PSF: each of a batch of 1."""
    srf = random_srf(len(cube), msi_bands)
    low = blur_decimate(cube, PSF, 4, 1, "reflect")
    high = apply_response(cube, srf)
    low, high = low + lr_std * noise(*low.shape), high + msi_std * noise(*high.shape, seed=6)
    return low[None], high[None], {"psf": PSF, "srf": srf, "phase": 1}


def build(lr_hsi, hr_msi, name="subspace-ridge", **options):
    return create(name, bands=lr_hsi.shape[1], msi_bands=hr_msi.shape[1], ratio=4, **options)


def rmse(a, b):
    return (a - b).square().mean().sqrt().item()


# ---- levels


@pytest.mark.parametrize("std", [0.003, 0.03])
@pytest.mark.parametrize("size", [64, 96])
def test_rank_and_noise_of_the_lr_hsi(std, size):
    lr_hsi, _, _ = observed(scene(size=size, bands=60), lr_std=std)
    found = principal_components(lr_hsi[0].flatten(1), 30)
    assert found.noise**0.5 == pytest.approx(std, rel=0.1)
    assert found.rank == 4
    assert torch.allclose(found.axes.T @ found.axes, torch.eye(60, dtype=torch.float64), atol=1e-10)


def test_rank_where_there_is_no_noise_and_where_there_is_nothing_else():
    pixels = observed(scene())[0][0].flatten(1)
    for exact in (pixels, pixels.float().double()):
        assert principal_components(exact, 30).rank == 4
    assert principal_components(pixels, 2).rank == 2
    assert principal_components(noise(60, 500), 30).rank <= 2
    for degenerate in (torch.zeros(8, 9), torch.ones(8, 1), torch.ones(1, 9)):
        found = principal_components(degenerate.double(), 30)
        assert found.rank == 1 and 0 < found.noise < 1e-10


@pytest.mark.parametrize("seed", range(3))
def test_signal_takes_degrees_of_freedom(seed):
    signal = noise(60, 12, seed=seed) @ noise(12, 100, seed=seed + 10)
    found = principal_components(signal + 0.01 * noise(60, 100, seed=seed + 20), 30)
    assert found.rank == 12 and found.noise**0.5 == pytest.approx(0.01, rel=0.04)


@pytest.mark.parametrize("std", [0.004, 0.02])
@pytest.mark.parametrize("lr_std", [0.0, 0.02])
def test_noise_of_the_msi_with_and_without_texture(std, lr_std):
    texture = 0.05 * noise(1, 64, 64, seed=8)  # alike in all bands: no second difference tells it from noise
    for cube in (scene(), scene() + texture):
        lr_hsi, hr_msi, given = observed(cube, lr_std=lr_std, msi_std=std)
        blur = Blur.of(PSF, (64, 64), 4, 1)
        level = msi_noise(lr_hsi[0], hr_msi[0], given["srf"], blur, lr_std**2)
        assert max(level, 0) ** 0.5 == pytest.approx(std, rel=0.2)


@pytest.mark.parametrize("lr_std", [0.0, 0.003])
def test_the_pair_tells_the_noise_of_a_single_textured_band(lr_std):
    """Second differences take it all for noise; what the LR-HSI says of it does not."""
    cube = scene() + 0.05 * noise(1, 64, 64, seed=8)
    lr_hsi, hr_msi, given = observed(cube, lr_std=lr_std, msi_std=0.004, msi_bands=1)
    level = msi_noise(lr_hsi[0], hr_msi[0], given["srf"], Blur.of(PSF, (64, 64), 4, 1), lr_std**2)
    assert level**0.5 == pytest.approx(0.004, rel=0.2)


@pytest.mark.parametrize("seed", range(4))
def test_an_lr_hsi_too_noisy_to_tell_does_not_lower_the_noise_of_the_msi(seed):
    cube = scene() + 0.05 * noise(1, 64, 64, seed=8)
    lr_hsi, hr_msi, given = observed(cube, msi_std=0.004)
    lr_hsi = lr_hsi + 0.1 * noise(*lr_hsi.shape, seed=seed + 20)
    level = msi_noise(lr_hsi[0], hr_msi[0], given["srf"], Blur.of(PSF, (64, 64), 4, 1), 0.01)
    assert max(level, 0) ** 0.5 == pytest.approx(0.004, rel=0.2)


# ---- prior


def test_the_power_law_falls_along_the_radius():
    prior = power_law(torch.empty(1, 10, 20, dtype=torch.float64))
    assert prior[5, 0].item() == pytest.approx(0.5**-EXPONENT) and prior[3, 8].item() == pytest.approx(0.5**-EXPONENT)
    assert prior[0, 0].item() == pytest.approx(20**EXPONENT) and prior[0, 1].item() == pytest.approx(20**EXPONENT)


@pytest.mark.parametrize("std, tolerance", [(0.0, 0.15), (1.0, 0.15), (3.0, 0.3)])
def test_the_covariance_of_details_is_found(std, tolerance):
    """Drawn from the prior; noise that hides more and more of the LR frequencies."""
    true = torch.tensor([[1.0, 0.3, 0], [0.3, 0.5, 0.1], [0, 0.1, 0.2]], dtype=torch.float64)
    blur = Blur.of(PSF, (96, 96), 4, 1)
    size = torch.empty(96, 96, dtype=torch.float64)
    spectral = blur.after(dct_matrix(size, 0), dct_matrix(size, 1))
    prior = power_law(size[None])
    c = torch.einsum("pk,kxy->pxy", torch.linalg.cholesky(true), noise(3, 96, 96) * prior.sqrt())
    low = spectral(c) + std * noise(3, 24, 24, seed=6)
    found = detail_covariance(low, std**2, spectral, prior)
    assert (found - true).norm() < tolerance * true.norm()


def test_coordinates_make_every_part_diagonal():
    root, seen, q = noise(5, 5), noise(3, 5, seed=1), noise(3, 3, seed=2)
    q = q @ q.T
    t, inverse, gain, turn = coordinates(root @ root.T, seen, q)
    assert torch.allclose(t @ t.T, root @ root.T, atol=1e-9)
    assert torch.allclose(t @ inverse, torch.eye(5, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(turn @ q @ turn.T, torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(turn @ seen @ t, torch.cat([gain.diag(), torch.zeros(3, 2).double()], 1), atol=1e-9)


def test_local_regression_finds_a_relation_that_changes_from_place_to_place():
    known = noise(2, 48, 48)
    slope = torch.linspace(-1, 1, 48, dtype=torch.float64)
    unseen = (slope * known[0] + known[1])[None]
    blur = Blur.of(gaussian_psf(5, 1.0), (48, 48), 4, 1)
    found = local_regression(known, blur(torch.cat([known, unseen])), blur, 5, torch.tensor([1e-6]))
    assert rmse(found, unseen) < 0.35 * unseen.std()
    assert rmse((known[1])[None], unseen) > 0.45 * unseen.std()
    brighter = known + 7
    shifted = local_regression(brighter, blur(torch.cat([brighter, unseen])), blur, 5, torch.tensor([1e-6]))
    assert rmse(shifted, unseen) < 0.35 * unseen.std()
    held = local_regression(known, blur(torch.cat([known, unseen])), blur, 5, torch.tensor([1e6]))
    assert held.abs().max() < 1e-3


# ---- the estimate


@pytest.mark.parametrize("name_of_psf", ["gaussian", "any"])
def test_it_is_dense_gaussian_conditioning(name_of_psf):
    """Zero-mean prior: the normal equations of MAP, all unknowns at once, with the levels and covariance it took."""
    bands, h, w, ratio = 6, 4, 3, 2
    rows, columns = h * ratio, w * ratio
    psf = gaussian_psf(3, 1.0) if name_of_psf == "gaussian" else responses()[0]
    srf = random_srf(bands, 2)
    y, z = (image[0] for image in random_pair(bands=bands, msi_bands=2, size=(h, w), ratio=ratio))
    y = torch.einsum("bk,kxy->bxy", noise(bands, 3), noise(3, h, w, seed=1)) + 0.1 * y
    options = {"psf": psf, "srf": srf, "phase": 1, "window": 0, "components": 3, "tolerance": 1e-12, "iterations": 500}
    fused = create("subspace-ridge", bands=bands, msi_bands=2, ratio=ratio, **options)(y[None], z[None])[0]

    blur, found = Blur.of(psf, (rows, columns), ratio, 1), principal_components(y.flatten(1), 3)
    p, basis = found.rank, found.axes[:, : found.rank]
    centred, high = y - found.mean[..., None], z - (srf @ found.mean)[..., None]
    level = max(msi_noise(centred, high, srf, blur, found.noise), 1e-6 * high.square().mean().item())
    rest = srf @ found.axes[:, p:]
    q = level * np.eye(2) + (rest @ found.variances[p:].diag() @ rest.T).numpy()
    dct = [torch.from_numpy(np.array([[np.cos(np.pi * (j + 0.5) * k / n) * np.sqrt((2 if k else 1) / n) for j in range(n)]
                                      for k in range(n)])) for n in (rows, columns)]
    prior = power_law(high)
    low = torch.einsum("bp,bxy->pxy", basis, centred)
    covariance = detail_covariance(low, found.noise, blur.after(*dct), prior)
    t, inverse, gain, _ = coordinates(covariance, srf @ basis, torch.from_numpy(q))

    field = np.kron(dct[0].numpy().T, dct[1].numpy().T)
    spatial = np.linalg.inv(field @ np.diag(prior.numpy().ravel()) @ field.T)  # precision of one coordinate
    matrix = blur(torch.eye(rows * columns).double().reshape(-1, rows, columns)).flatten(1).numpy().T
    variance = torch.cat([prior / (1 + gain[:, None, None] ** 2 * prior), prior.expand(p - len(gain), -1, -1)])
    white = (found.noise * inverse @ inverse.T).numpy() + 1e-6 * variance.mean().item() * np.eye(p)
    seen = (srf @ basis @ t).numpy()
    normal = (np.kron(np.eye(p), spatial) + np.kron(np.linalg.inv(white), matrix.T @ matrix)
              + np.kron(seen.T @ np.linalg.inv(q) @ seen, np.eye(rows * columns)))
    right = ((np.linalg.inv(white) @ (inverse @ low.flatten(1)).numpy()) @ matrix
             + seen.T @ np.linalg.inv(q) @ high.flatten(1).numpy())
    u = np.linalg.solve(normal, right.ravel()).reshape(p, -1)
    expected = (basis @ t).numpy() @ u + found.mean.numpy()
    assert p == 3 and np.allclose(fused.flatten(1).numpy(), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("window", [0, 5])
def test_as_many_msi_bands_as_dimensions_reconstruct_noise_free_data(window):
    cube = scene(rank=3)
    lr_hsi, hr_msi, given = observed(cube)
    fused = fuse(build(lr_hsi, hr_msi, window=window, **given), lr_hsi, hr_msi)[0]
    assert rmse(fused, cube) < 0.003 * cube.std()
    single = fuse(build(lr_hsi, hr_msi, window=window, **given), lr_hsi.float(), hr_msi.float())[0]
    assert single.dtype == torch.float32 and rmse(single.double(), cube) < 0.01 * cube.std()


def test_dimensions_that_the_msi_does_not_see_are_sharper_than_the_lr_hsi():
    cube = scene(rank=6, bands=30)
    errors = {}
    for std in (0.0, 0.002, 0.02):
        lr_hsi, hr_msi, given = observed(cube, lr_std=std, msi_std=std)
        errors[std] = rmse(fuse(build(lr_hsi, hr_msi, **given), lr_hsi, hr_msi)[0], cube)
    bicubic = fuse(create("bicubic", bands=30, msi_bands=3, ratio=4), *observed(cube)[:2])[0]
    assert errors[0.0] < errors[0.002] < errors[0.02] < 0.8 * rmse(bicubic, cube)
    assert errors[0.0] < 0.6 * rmse(bicubic, cube)


def test_the_estimate_keeps_to_a_noise_free_lr_hsi():
    lr_hsi, hr_msi, given = observed(scene(rank=6, bands=30))
    fused = fuse(build(lr_hsi, hr_msi, **given), lr_hsi, hr_msi)[0]
    assert rmse(blur_decimate(fused, PSF, 4, 1, "reflect"), lr_hsi[0]) < 0.01 * lr_hsi.std()


# ---- both


@pytest.mark.parametrize("name", ["subspace-ridge", "subspace-ridge-blind"])
def test_batch_is_its_images(name):
    pairs = [observed(scene(rank=rank, seed=rank), lr_std=0.001 * rank) for rank in (3, 5)]
    given = pairs[0][2] if name == "subspace-ridge" else {}
    lr_hsi, hr_msi = (torch.cat([pair[i] for pair in pairs]) for i in (0, 1))
    both = fuse(build(lr_hsi, hr_msi, name, **given), lr_hsi, hr_msi)
    for n in range(2):
        alone = fuse(build(lr_hsi, hr_msi, name, **given), lr_hsi[n : n + 1], hr_msi[n : n + 1])
        assert torch.allclose(both[n : n + 1], alone, rtol=0, atol=1e-12)
    with pytest.raises(ValueError):
        build(lr_hsi, hr_msi, name, **given)(lr_hsi, hr_msi[:1])


def test_blind_is_known_with_estimated_responses():
    lr_hsi, hr_msi, _ = observed(scene(), lr_std=0.002)
    found = estimate_nonnegative(lr_hsi, hr_msi)
    blind = fuse(build(lr_hsi, hr_msi, "subspace-ridge-blind", estimator="nonnegative"), lr_hsi, hr_msi)
    told = {"psf": found.psf[0], "srf": found.srf[0], "phase": found.phase}
    shifted = hr_msi - found.offset[..., None, None]
    assert torch.allclose(blind, fuse(build(lr_hsi, hr_msi, **told), lr_hsi, shifted), rtol=0, atol=1e-12)
    other = fuse(build(lr_hsi, hr_msi, "subspace-ridge-blind"), lr_hsi, hr_msi)
    assert not torch.allclose(blind, other, rtol=0, atol=1e-4)


def test_what_cannot_be_built_or_fused_is_refused():
    lr_hsi, hr_msi, given = observed(scene())
    for options, words in [({"estimator": "guess"}, "nonnegative, hysure, l1"), ({"components": 0}, "components 0"),
                           ({"slope": 0.0}, r"slope 0\.0"), ({"window": 4}, "window 4"), ({"window": -1}, "window -1")]:
        with pytest.raises(MethodError, match=words):
            build(lr_hsi, hr_msi, **given, **options)
    with pytest.raises(MethodError, match="whole multiple"):
        fuse(build(lr_hsi, hr_msi, **given), lr_hsi, hr_msi[..., :-1])
    with pytest.raises(MethodError, match="at least 3"):
        fuse(build(lr_hsi, hr_msi, **given), lr_hsi[..., :1, :1], hr_msi[..., :2, :2])


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2)])
def test_small_images_give_a_finite_one(size):
    lr_hsi, hr_msi = random_pair(size=size)
    given = {"psf": PSF, "srf": random_srf(), "phase": 1}
    assert fuse(build(lr_hsi, hr_msi, **given), lr_hsi, hr_msi).isfinite().all()
