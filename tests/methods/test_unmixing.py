"""Unmixing blocks against literal NumPy versions of the papers, and on data whose endmembers are known."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch

from benchmark.fidelity.cases import make_case, make_noisy_case
from benchmark.fidelity.toolboxes import as_image
from methods import create, fuse, unmixing
from methods import sisal as sisal_module
from methods.sisal import sisal
from methods.unmixing import in_blocks, principal_axes, simplex_projection, spa, sunsal, vca


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


def literal_axes(columns):
    """Left singular vectors with the signs of :func:`principal_axes`: a draw means another direction after a flip."""
    axes = np.linalg.svd(columns @ columns.T)[0]
    return axes * np.sign((axes * principal_axes(torch.from_numpy(columns), len(columns)).numpy()).sum(0))


def literal_vca(pixels, count, draws, variant, snr_db):
    """The algorithm of the paper with singular value decompositions and pseudo-inverses."""
    bands, n = pixels.shape
    mean = pixels.mean(1, keepdims=True)
    axes = literal_axes(pixels - mean)
    if snr_db is None:
        total = (pixels**2).sum() / n
        kept = ((axes[:, :count].T @ (pixels - mean)) ** 2).sum() / n + (mean**2).sum()
        snr_db = 10 * np.log10((kept - count / bands * total) / (total - kept))
        snr_db = abs(snr_db) if variant == "a" else snr_db
    threshold = 15 + 10 * np.log(count) + 8 if variant == "a" else 15 + 10 * np.log10(count)
    if snr_db > threshold:
        axes = literal_axes(pixels)[:, :count]
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


# Noise of 30 dB lies below and of 60 dB above both thresholds (42.5 and 23.5 dB), that of 35 dB between them.
@pytest.mark.parametrize("noise", [0.1, 0.01, 0.0005])
@pytest.mark.parametrize("variant, snr_db", [("a", None), ("b", None), ("b", 0.0), ("b", 100.0)])
def test_vca_agrees_with_literal_version(variant, snr_db, noise):
    pixels, *_ = mixture(noise=noise)
    for seed in range(3):
        found = vca(pixels, 7, generator=seeded(seed), variant=variant, snr_db=snr_db)
        draws = torch.rand(7, 7, generator=seeded(seed), dtype=torch.float64).numpy()
        assert np.allclose(found.numpy(), literal_vca(pixels.numpy(), 7, draws, variant, snr_db), rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", ["a", "b"])
@pytest.mark.parametrize("snr_db", [None, 0.0])
def test_vca_finds_pure_pixels_and_only_them(variant, snr_db):
    pixels, true, _ = mixture(pure=True)
    pixels = torch.cat([pixels, torch.zeros(20, 3).double()], 1) if snr_db is None else pixels  # dead pixels
    for dtype in (torch.float64, torch.float32):
        for seed in range(3):
            seen = pixels.to(dtype).double()
            found = vca(seen, 5, generator=seeded(seed), variant=variant, snr_db=snr_db)
            assert largest_angle(found, true) < 1e-3
            # Nothing is left to find: vertices again, no pixels that rounding makes extreme.
            more = vca(seen, 16, generator=seeded(seed), variant=variant, snr_db=snr_db)
            assert largest_angle(true, more) < 1e-3 and largest_angle(more, true) < 1e-3


@pytest.mark.parametrize("count", [1, 60])
def test_vca_from_one_endmember_to_one_a_band(count):
    pixels = lr_pixels(make_noisy_case())
    found = vca(pixels, count, generator=seeded())
    assert found.shape == (60, count) and found.isfinite().all()
    with pytest.raises(ValueError, match="61 endmembers of 60 bands"):
        vca(pixels, 61, generator=seeded())


# ---- SPA


def test_spa_chooses_what_pivoted_qr_chooses():
    pixels = lr_pixels(make_noisy_case())
    pivots = scipy.linalg.qr(pixels.numpy(), mode="r", pivoting=True)[1]
    assert torch.equal(spa(pixels, 20), pixels[:, pivots[:20].copy()])
    assert spa(torch.zeros(4, 6).double(), 3).shape == (4, 3)


# ---- simplex projection and SUnSAL


def sorted_projection(column):
    """Held, Wolfe, Crowder 1974, one column with a loop."""
    falling, total = sorted(column, reverse=True), 0.0
    for k, value in enumerate(falling, 1):
        total += value
        if value > (total - 1) / k:
            cut = (total - 1) / k
    return [max(value - cut, 0.0) for value in column]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_simplex_projection_agrees_with_sorting(count, scale):
    columns = scale * torch.randn(count, 200, generator=seeded(), dtype=torch.float64)
    expected = torch.tensor([sorted_projection(c) for c in columns.T.tolist()], dtype=torch.float64).T
    found = simplex_projection(columns)
    assert torch.allclose(found, expected, rtol=0, atol=1e-15 * max(count, scale))
    assert torch.allclose(simplex_projection(found), found, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["cnmf", "lanaras", "nssr"])
def test_size_of_the_blocks_changes_nothing(monkeypatch, name):
    case = make_noisy_case()
    lr_hsi, hr_msi = as_image(case["lr_hsi"])[..., :8, :8], as_image(case["hr_msi"])[..., :32, :32]
    told = {key: torch.from_numpy(case[key]) for key in ("psf", "srf")} | {"phase": case["offset"]}
    model = create(name, bands=lr_hsi.shape[1], msi_bands=hr_msi.shape[1], ratio=case["scale"], **told)
    monkeypatch.setattr(unmixing, "BLOCK", 10**9)
    whole = fuse(model, lr_hsi, hr_msi)
    monkeypatch.setattr(unmixing, "BLOCK", 1000)
    assert torch.allclose(fuse(model, lr_hsi, hr_msi), whole, rtol=0, atol=1e-9)


def test_blocks_are_views_of_all_columns(monkeypatch):
    monkeypatch.setattr(unmixing, "BLOCK", 64)
    first, second = torch.zeros(3, 50), torch.zeros(90, 50)
    blocks = list(in_blocks(first, second))
    assert [block.shape[1] for block, _ in blocks] == [other.shape[1] for _, other in blocks] == [21, 21, 8]
    for pair in blocks:
        for block in pair:
            block += 1
    assert torch.equal(first, torch.ones(3, 50)) and torch.equal(second, torch.ones(90, 50))


def test_simplex_projection_keeps_its_input():
    columns = torch.randn(6, 50, generator=seeded(), dtype=torch.float64)
    before = columns.clone()
    simplex_projection(columns)
    assert torch.equal(columns, before)


def test_sunsal_agrees_with_nonnegative_least_squares():
    pixels, endmembers, true = mixture(noise=0.1)
    assert torch.allclose(sunsal(endmembers @ true, endmembers, passes=5000, tolerance=1e-9), true, atol=1e-6)
    # A heavy row of ones stands for the sum.
    heavy = np.vstack([endmembers.numpy(), np.full((1, 5), 1e4)])
    expected = np.stack([scipy.optimize.nnls(heavy, np.append(y, 1e4))[0] for y in pixels.T.numpy()], 1)
    found = sunsal(pixels, endmembers, passes=5000, tolerance=1e-9).numpy()
    assert np.allclose(found, expected, atol=1e-6)
    assert np.abs(sunsal(pixels, endmembers).numpy() - expected).max() < 5e-3  # as it is called


def test_sunsal_on_degenerate_endmembers():
    pixels, endmembers, _ = mixture()
    for e in (endmembers[:, :1], endmembers[:, [0, 0, 1]], torch.zeros(20, 3).double()):
        found = sunsal(pixels, e)
        assert found.isfinite().all() and (found >= 0).all()
        assert torch.allclose(found.sum(0), torch.ones(300).double(), atol=0.02)


# ---- SISAL


def literal_sisal(pixels, start, tau, passes):
    """Vectorised as in the paper, with Kronecker products: Q (p, p) from endmembers ``start`` (p, p)."""
    p, n = pixels.shape
    mu, ridge = 1000 * p / n, 1e-6 * np.eye(p * p)
    system = ridge + mu * np.kron(pixels @ pixels.T, np.eye(p))  # acts on the columns of Q, one below the other
    sums = np.kron(np.eye(p), np.ones((1, p)))
    wanted = np.linalg.inv(pixels @ pixels.T) @ pixels.sum(1)
    inverse = np.linalg.inv(system)
    across = inverse @ sums.T @ np.linalg.inv(sums @ inverse @ sums.T)

    def outside(q):
        return tau * np.maximum(-(q @ pixels), 0).sum()

    def objective(q):
        return -np.log(abs(np.linalg.det(q))) + outside(q)

    q = np.linalg.inv(start)
    split, dual = q @ pixels, np.zeros((p, n))
    for _ in range(passes):
        q0 = q
        slope = -np.linalg.inv(q0).T
        while True:
            for _ in range(3):
                right = (ridge @ q0.ravel("F")) - slope.ravel("F") + mu * ((split + dual) @ pixels.T).ravel("F")
                q = (inverse @ right + across @ (wanted - sums @ inverse @ right)).reshape((p, p), order="F")
                moved = q @ pixels - dual
                split = np.where(moved > 0, moved, np.where(moved < -tau / mu, moved + tau / mu, 0))
                dual = dual - (q @ pixels - split)
            change = (q - q0).ravel("F")
            if change @ slope.ravel("F") + change @ ridge @ change / 2 + outside(q) <= outside(q0):
                break
        while objective(q) > objective(q0):
            q = (q + q0) / 2
    return q


@pytest.mark.parametrize("tau", [0.006, 1.0])
def test_sisal_agrees_with_literal_version(tau):
    pixels, *_ = mixture(noise=0.02)
    found = sisal(pixels, 5, tau=tau, generator=seeded(3))
    mean = pixels.mean(1, keepdim=True)
    axes = principal_axes(pixels - mean, 4)
    low = axes.T @ (pixels - mean)
    vertices = axes.T @ (vca(pixels, 5, generator=seeded(3), variant="b", snr_db=0.0) - mean)
    start = torch.cat([2 * vertices - vertices.mean(1, keepdim=True), mean.norm().expand(1, 5)])
    q = literal_sisal(torch.cat([low, mean.norm().expand(1, 300)]).numpy(), start.numpy(), tau, 80)
    expected = mean + axes @ torch.from_numpy(np.linalg.inv(q))[:-1]
    assert torch.allclose(found, expected, rtol=0, atol=1e-8)


def test_sisal_finds_endmembers_without_pure_pixels():
    pixels, true, _ = mixture(most=0.8, pixels=2000)
    found = sisal(pixels, 5, tau=1.0, generator=seeded())
    assert largest_angle(found, true) < 1.0 < largest_angle(vca(pixels, 5, generator=seeded()), true)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_sisal_takes_no_more_endmembers_than_the_rank_allows(dtype):
    """The acceptance loop of the release never ends here."""
    pixels = lr_pixels(make_case()).to(dtype).double()
    found = sisal(pixels, 30, tau=0.006, generator=seeded())
    assert found.shape == (60, 8)
    assert torch.allclose(found, sisal(pixels, 8, tau=0.006, generator=seeded()))
    brightness = torch.linspace(0.1, 1, 50).double() * pixels[:, :1]  # the affine set passes through 0
    line = sisal(brightness, 30, tau=1.0, generator=seeded())
    assert line.shape == (60, 2) and line.isfinite().all()
    constant = sisal(pixels[:, :1].expand(-1, 40), 30, tau=1.0, generator=seeded())
    assert torch.allclose(constant, pixels[:, :1])
    assert torch.equal(sisal(torch.zeros(6, 9).double(), 4, tau=1.0, generator=seeded()), torch.zeros(6, 1).double())


def test_sisal_acceptance_is_bounded(monkeypatch):
    """Where no step lowers the model, the start is the result."""
    pixels, *_ = mixture(noise=0.02)
    monkeypatch.setattr(sisal_module, "_soft_negative", lambda values, threshold: -1e3 * values)
    found = sisal(pixels, 5, tau=1.0, generator=seeded())
    vertices = vca(pixels, 5, generator=seeded(), variant="b", snr_db=0.0)
    assert torch.allclose(found, 2 * vertices - vertices.mean(1, keepdim=True), atol=1e-9)
