"""Estimated responses and PSF against plain second versions and against what made the images."""

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear

from benchmark.fidelity.cases import make_case, make_noisy_case
from methods.estimation import ESTIMATORS, estimate_hysure, estimate_l1, estimate_srf, remove_offset
from methods.parametric import Shape, blurred, fit_srf, kernels, levels_of
from methods.registry import MethodError
from methods.responses import gaussian_decimate, gaussian_psf, transfer
from tests.methods.images import random_pair


def case_pair(case):
    return tuple(torch.from_numpy(case[key]).permute(2, 0, 1)[None] for key in ("lr_hsi", "hr_msi"))


# ---- nonnegative least squares


def objective(srf, offset, lr_hsi, hr_msi):
    ratio = hr_msi.shape[-1] // lr_hsi.shape[-1]
    lr_msi = gaussian_decimate(hr_msi, ratio)[0].flatten(1).numpy()
    return np.linalg.norm(srf @ lr_hsi[0].flatten(1).numpy() + offset[:, None] - lr_msi, axis=1)


@pytest.mark.parametrize("bands, low, ratio", [(7, (6, 5), 4), (5, (4, 7), 3), (12, (3, 3), 2)])  # 12 bands, 9 pixels
def test_srf_agrees_with_bounded_least_squares(bands, low, ratio):
    lr_hsi, hr_msi = random_pair(bands=bands, size=low, ratio=ratio)
    srf, offset = (part[0].numpy() for part in estimate_srf(lr_hsi, hr_msi))
    design = np.column_stack([lr_hsi[0].flatten(1).numpy().T, np.ones(low[0] * low[1])])
    bounds = np.array([0.0] * bands + [-np.inf]), np.inf
    targets = gaussian_decimate(hr_msi, ratio)[0].flatten(1).numpy()
    exact = [lsq_linear(design, target, bounds, method="bvls", tol=1e-14).x for target in targets]
    assert (srf >= 0).all()
    theirs = np.array(exact)
    assert objective(srf, offset, lr_hsi, hr_msi) == pytest.approx(
        objective(theirs[:, :-1], theirs[:, -1], lr_hsi, hr_msi), abs=1e-10
    )
    if bands < low[0] * low[1]:  # then there is one solution only
        assert np.allclose(np.column_stack([srf, offset]), theirs, rtol=0, atol=1e-9)


def test_srf_and_offset_that_made_the_image_are_found():
    _, hr_hsi = random_pair(msi_bands=5, size=(9, 8))
    made = torch.tensor([[0.2, 0.0, 0.5, 0.0, 0.1], [0.0, 0.7, 0.0, 0.3, 0.0]], dtype=torch.float64)
    hr_msi = torch.einsum("mb,zbxy->zmxy", made, hr_hsi) + 0.05
    srf, offset = estimate_srf(gaussian_decimate(hr_hsi, 4), hr_msi)
    assert torch.allclose(srf[0], made, rtol=0, atol=1e-9)
    assert torch.allclose(remove_offset(hr_msi, offset), hr_msi - 0.05, rtol=0, atol=1e-9)


def test_offset_is_cut_off_at_zero():
    hr_msi = torch.tensor([0.1, 0.5, 0.2, 0.2]).reshape(1, 2, 1, 2)
    expected = torch.tensor([0.0, 0.2, 0.6, 0.6]).reshape(1, 2, 1, 2)
    assert torch.allclose(remove_offset(hr_msi, torch.tensor([[0.3, -0.4]])), expected)


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_psf_that_nonnegative_estimation_assumes(ratio):
    lr_hsi, hr_msi = random_pair(size=(6, 5), ratio=ratio, batch=2)
    found = ESTIMATORS["nonnegative"](lr_hsi, hr_msi, 0)
    for psf in found.psf:
        response = transfer(psf, hr_msi.shape[2:])
        blurred = torch.fft.ifft2(torch.fft.fft2(hr_msi) * response).real[..., found.phase :: ratio, found.phase :: ratio]
        inner = (..., slice(1, -1), slice(1, -1))
        assert torch.allclose(blurred[inner], gaussian_decimate(hr_msi, ratio)[inner], rtol=0, atol=1e-12)


# ---- HySure


def looped_hysure(lr_hsi, hr_msi, ratio, phase, endmembers, lambda_r=10.0, lambda_b=10.0):
    """One pixel and one tap at a time: (bands, h, w), (msi_bands, H, W) -> srf, psf."""
    y, z = lr_hsi / lr_hsi.max(), hr_msi / lr_hsi.max()
    (bands, h, w), (rows, columns) = y.shape, z.shape[1:]

    def box(band, i, j, margin):
        window = range(-margin, margin + 1)
        taps = [band[(i + a) % band.shape[0], (j + b) % band.shape[1]] for a in window for b in window]
        return sum(taps) / len(taps)

    margin = int(4 / ratio + 0.5)
    pixels = [(i, j) for i in range(h) for j in range(w)]
    seen = np.array([[box(band, i, j, margin) for i, j in pixels] for band in y])
    target = np.array([[box(band, phase + ratio * i, phase + ratio * j, 4) for i, j in pixels] for band in z])
    system = seen @ seen.T
    for k in range(bands - 1):
        step = np.zeros(bands)
        step[k], step[k + 1] = 1, -1
        system += lambda_r * np.outer(step, step)
    srf = np.linalg.solve(system, seen @ target.T).T
    axes = np.linalg.svd(y.reshape(bands, -1))[0][:, :endmembers]
    clean = np.einsum("bk,ck,cxy->bxy", axes, axes, y)
    side = 2 * ratio - 1
    normal, right = np.zeros((side**2, side**2)), np.zeros(side**2)
    used = 0
    for i, j in pixels:
        top, left = phase + ratio * i - ratio + 1, phase + ratio * j - ratio + 1
        if top < 0 or left < 0 or top + side > rows or left + side > columns:
            continue
        used += 1
        for m in range(len(z)):
            patch = z[m, top : top + side, left : left + side].ravel()
            normal += np.outer(patch, patch)
            right += srf[m] @ clean[:, i, j] * patch
    for i in range(side):
        for j in range(side):
            for neighbour in (((i + 1) % side, j), (i, (j + 1) % side)):
                step = np.zeros((side, side))
                step[i, j] += 1
                step[neighbour] -= 1
                normal += lambda_b * np.outer(step, step)
    psf = np.linalg.solve(normal, right).reshape(side, side)
    assert used > 0
    return srf / psf.sum(), psf / psf.sum()


@pytest.mark.parametrize("low, ratio, phase", [((6, 5), 4, 1), ((5, 6), 4, 3), ((4, 6), 3, 0), ((6, 5), 2, 0), ((3, 3), 9, 4)])
def test_hysure_agrees_with_plain_loop(low, ratio, phase):
    lr_hsi, hr_msi = random_pair(seed=1, size=low, ratio=ratio)
    found = estimate_hysure(lr_hsi, hr_msi, phase, endmembers=4)
    srf, psf = looped_hysure(lr_hsi[0].numpy(), hr_msi[0].numpy(), ratio, phase, 4)
    assert np.allclose(found.srf[0].numpy(), srf, rtol=0, atol=1e-9)
    assert np.allclose(found.psf[0].numpy(), psf, rtol=0, atol=1e-9)


# ---- L1


def plain_l1(lr_hsi, hr_msi, ratio, phase, known, iterations, rate, tangent):
    """Windows cut one by one, gradients by autograd: (bands, h, w), (msi_bands, H, W) -> srf, psf."""
    side = 2 * ratio - 1 if known is None else len(known)
    spectra, windows = [], []
    for i in range(lr_hsi.shape[1]):
        for j in range(lr_hsi.shape[2]):
            top, left = (phase + ratio * k - (side - 1) // 2 for k in (i, j))
            if min(top, left) >= 0 and top + side <= hr_msi.shape[1] and left + side <= hr_msi.shape[2]:
                spectra.append(lr_hsi[:, i, j])
                windows.append(hr_msi[:, top : top + side, left : left + side])
    spectra, windows = torch.stack(spectra), torch.stack(windows)
    srf = torch.full((len(hr_msi), len(lr_hsi)), 1 / len(lr_hsi), dtype=torch.float64, requires_grad=True)
    psf = torch.full((side, side), 1 / side**2, dtype=torch.float64, requires_grad=True) if known is None else known
    free = [srf, psf] if known is None else [srf]
    adam = torch.optim.Adam(free, rate)
    for _ in range(iterations):
        adam.zero_grad()
        (spectra @ srf.T - (windows * psf).sum((2, 3))).abs().mean().backward()
        if tangent:
            srf.grad = torch.stack([row - row.sum() / len(row) for row in srf.grad])
            psf.grad = psf.grad - psf.grad.mean() if known is None else None
        adam.step()
        with torch.no_grad():
            srf.copy_(srf.clamp(min=0) / srf.clamp(min=0).sum(1, keepdim=True))
            if known is None:
                psf.copy_(psf.clamp(min=0) / psf.clamp(min=0).sum())
    return srf.detach(), psf.detach()


@pytest.mark.parametrize("low, ratio, phase", [((6, 5), 4, 1), ((4, 6), 3, 0), ((6, 5), 2, 1)])
@pytest.mark.parametrize("known", [None, gaussian_psf(5, 1.2), gaussian_psf(4, 1.0)])
@pytest.mark.parametrize("tangent", [True, False])
def test_l1_agrees_with_autograd(low, ratio, phase, known, tangent):
    lr_hsi, hr_msi = random_pair(seed=2, size=low, ratio=ratio)
    options = {"iterations": 60, "rate": 1e-2, "tangent": tangent}  # fast enough for entries to reach 0
    found = estimate_l1(lr_hsi, hr_msi, phase, psf=known, **options)
    srf, psf = plain_l1(lr_hsi[0], hr_msi[0], ratio, phase, known, **options)
    assert not tangent or known is None or (srf == 0).any()
    assert torch.allclose(found.srf[0], srf, rtol=0, atol=1e-8)
    assert torch.allclose(found.psf[0], psf, rtol=0, atol=1e-8)


def test_l1_brings_the_two_images_together():
    lr_hsi, hr_msi = case_pair(make_case(height=32, width=32, bands=12))
    distances = []
    for iterations in (0, 300):
        found = estimate_l1(lr_hsi, hr_msi, 1, iterations=iterations, rate=1e-3)
        blurred = torch.nn.functional.conv2d(hr_msi.transpose(0, 1), found.psf[:, None])[:, 0, 2::4, 2::4]
        seen = torch.einsum("mb,bxy->mxy", found.srf[0], lr_hsi[0, :, 1:-1, 1:-1])
        distances.append((seen - blurred[:, : seen.shape[1], : seen.shape[2]]).abs().mean())
    assert distances[1] < 0.35 * distances[0]


# ---- all


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_responses_fit_the_images(name):
    case = make_noisy_case()
    lr_hsi, hr_msi = case_pair(case)
    options = {"iterations": 600, "rate": 2.5e-4} if name == "l1" else {}
    found = ESTIMATORS[name](lr_hsi, hr_msi, 1, **options)
    assert found.phase == 1
    low = torch.fft.ifft2(torch.fft.fft2(hr_msi[0]) * transfer(found.psf[0], (64, 64))).real[:, 1::4, 1::4]
    seen = torch.einsum("mb,bxy->mxy", found.srf[0], lr_hsi[0]) + found.offset[0, :, None, None]
    inner = (..., slice(2, -2), slice(2, -2))
    error = (seen - low)[inner].square().mean().sqrt() / low[inner].mean()
    assert error < {"nonnegative": 0.06, "hysure": 0.05, "l1": 0.12, "parametric": 0.04}[name]


def test_hysure_finds_the_psf():
    case = make_noisy_case()
    truth = torch.from_numpy(case["psf"])
    psf = torch.nn.functional.pad(estimate_hysure(*case_pair(case), 1).psf[0], (1,) * 4)
    assert (psf - truth).abs().sum() < 0.4  # 0.11 of it beyond the 7 x 7 that are estimated; a uniform PSF: 0.55
    taps = torch.arange(9) - 4.0
    for axis in (0, 1):
        assert abs((psf.sum(axis) * taps).sum()) < 0.05


@pytest.mark.parametrize("name", list(ESTIMATORS))
@pytest.mark.parametrize("msi_bands, low, ratio", [(1, (5, 4), 4), (3, (4, 6), 2), (2, (4, 4), 3)])
def test_shapes_batch_and_dtype(name, msi_bands, low, ratio):
    options = {"iterations": 5} if name == "l1" else {}
    lr_hsi, hr_msi = (image.float() for image in random_pair(msi_bands=msi_bands, size=low, ratio=ratio, batch=3))
    both = ESTIMATORS[name](lr_hsi, hr_msi, **options)
    assert both.phase == (ratio - 1) // 2 or (name == "parametric" and both.phase in range(ratio))
    side = 8 * ratio + 1 if name == "parametric" else 2 * ratio - (ratio % 2 if name == "nonnegative" else 1)
    assert both.srf.shape == (3, msi_bands, 7) and both.psf.shape == (3, side, side) and both.offset.shape == (3, msi_bands)
    assert torch.allclose(both.psf.sum((1, 2)), torch.ones(3, dtype=torch.float64))
    for n in range(3):
        one = ESTIMATORS[name](lr_hsi[n : n + 1], hr_msi[n : n + 1], both.phase, **options)
        for part in ("srf", "psf", "offset"):
            assert getattr(both, part).dtype == torch.float64
            assert torch.allclose(getattr(both, part)[n], getattr(one, part)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", list(ESTIMATORS))
@pytest.mark.parametrize("dead", ["hsi band", "msi band", "constant", "rank 1"])
def test_degenerate_images_give_finite_responses(name, dead):
    lr_hsi, hr_msi = random_pair()
    if dead == "hsi band":
        lr_hsi[:, 2] = 0
    elif dead == "msi band":
        hr_msi[:, 1] = 0
    elif dead == "constant":
        lr_hsi[:], hr_msi[:] = 0.3, 0.2
    else:
        lr_hsi[:] = lr_hsi[:, :1]
    found = ESTIMATORS[name](lr_hsi, hr_msi, **({"iterations": 5} if name == "l1" else {}))
    assert all(getattr(found, part).isfinite().all() for part in ("srf", "psf", "offset"))


def test_unusable_images_are_refused():
    lr_hsi, hr_msi = random_pair()
    with pytest.raises(MethodError, match="whole multiple"):
        estimate_srf(lr_hsi, hr_msi[..., :-1])
    with pytest.raises(MethodError, match="whole multiple"):
        estimate_l1(lr_hsi, hr_msi[..., :10])
    with pytest.raises(MethodError, match="positive"):
        estimate_hysure(lr_hsi, hr_msi * 0)
    with pytest.raises(MethodError, match="positive"):
        estimate_hysure(lr_hsi * 0, hr_msi)
    for estimate in (estimate_hysure, estimate_l1):
        with pytest.raises(MethodError, match="window"):
            estimate(lr_hsi[..., :2, :2], hr_msi[..., :8, :8])


# ---- parametric


def made_pair(bands=40, rank=6, low=(20, 18), ratio=4, spread=(2.2, 3.0), place=(1.4, 0.7), msi_bands=3, lr_std=0.0,
              msi_std=0.0, box=0, seed=3):
    """A pair by plain loops over LR pixels and taps: correlation with a PSF placed between pixels, inside a larger scene."""
    rng = np.random.default_rng(seed)
    (h, w), rim = low, 4 * ratio
    rows, columns = h * ratio + 2 * rim, w * ratio + 2 * rim
    fine = rng.standard_normal((rank, rows, columns))
    coarse = np.repeat(np.repeat(rng.standard_normal((rank, rows // 4 + 1, columns // 4 + 1)), 4, 1), 4, 2)[:, :rows, :columns]
    t = np.arange(bands) / bands
    spectra = np.array([0.5 + 0.4 * np.cos((3 + 2 * k) * t + k) for k in range(rank)])
    scene = np.einsum("kb,kxy->bxy", spectra, 0.5 + 0.1 * coarse + 0.03 * fine)
    srf = np.zeros((msi_bands, bands))
    for m in range(msi_bands):
        first = 3 + m * (bands - 6) // msi_bands
        srf[m, first : first + 5] = 0.2
    reach = np.arange(-rim, rim + 1)

    def line(sigma, at):
        taps = np.array([sum(np.exp(-0.5 * ((x - at - step) / sigma) ** 2) for step in (np.arange(box) - (box - 1) / 2 if box
                                                                                          else [0.0])) for x in reach])
        return taps / taps.sum()

    down, across = line(spread[0], place[0]), line(spread[1], place[1])
    lr_hsi = np.zeros((bands, h, w))
    for i in range(h):
        for j in range(w):
            top, left = rim + ratio * i - rim, rim + ratio * j - rim
            window = scene[:, top : top + len(reach), left : left + len(reach)]
            lr_hsi[:, i, j] = np.einsum("bxy,x,y->b", window, down, across)
    hr_msi = np.einsum("mb,bxy->mxy", srf, scene[:, rim:-rim, rim:-rim])
    lr_hsi += lr_std * rng.standard_normal(lr_hsi.shape)
    hr_msi += msi_std * rng.standard_normal(hr_msi.shape)
    return (torch.from_numpy(lr_hsi)[None], torch.from_numpy(hr_msi)[None], torch.from_numpy(srf),
            torch.from_numpy(np.outer(down, across)))


def centre_of(psf, phase):
    x = torch.arange(len(psf), dtype=torch.float64) - (len(psf) - 1) // 2 + phase
    return float((psf.sum(1) * x).sum()), float((psf.sum(0) * x).sum())


def psf_error(found, truth):
    """Both around HR pixel 0: a truth of side 8 ratio + 1 there, an estimate around its phase."""
    psf, phase, reach = found.psf[0], found.phase, len(truth) // 2
    error = 0.0
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            at = i - phase + reach, j - phase + reach
            ours = psf[at] if min(at) >= 0 and max(at) < len(psf) else 0.0
            error += float((ours - truth[i + reach, j + reach]) ** 2)
    return error**0.5 / float(truth.norm())


@pytest.mark.parametrize("spread, place, box", [((2.2, 3.0), (1.4, 0.7), 0), ((1.0, 1.0), (1.0, 1.0), 0),
                                                ((0.2, 0.2), (1.5, 1.5), 4), ((2.0, 2.0), (-0.4, 3.3), 0)])
def test_parametric_finds_psf_and_place(spread, place, box):
    lr_hsi, hr_msi, srf, psf = made_pair(spread=spread, place=place, box=box)
    found = ESTIMATORS["parametric"](lr_hsi, hr_msi)
    assert 0 <= found.phase < 4 and abs(found.phase - sum(place) / 2) < 0.51
    assert centre_of(found.psf[0], found.phase) == pytest.approx(centre_of(psf, 0), abs=0.02)
    assert psf_error(found, psf) < 0.01
    assert (found.srf >= 0).all()
    spectra = lr_hsi[0].flatten(1) - lr_hsi[0].flatten(1).mean(1, keepdim=True)
    assert ((found.srf[0] - srf) @ spectra).norm() < 0.01 * (srf @ spectra).norm()


@pytest.mark.parametrize("ratio, low", [(2, (24, 24)), (8, (16, 16))])
@pytest.mark.parametrize("msi_bands", [1, 8])
def test_parametric_at_other_ratios_and_band_counts(ratio, low, msi_bands):
    spread, place = (0.6 * ratio,) * 2, (0.4 * ratio, 0.5 * ratio - 0.8)
    lr_hsi, hr_msi, _, psf = made_pair(bands=64, low=low, ratio=ratio, spread=spread, place=place, msi_bands=msi_bands)
    assert psf_error(ESTIMATORS["parametric"](lr_hsi, hr_msi), psf) < 0.02


@pytest.mark.parametrize("lr_std, msi_std, spread, most", [(5e-3, 0, 3.0, 0.05), (0.02, 0, 2.0, 0.05), (5e-3, 0.02, 0.8, 0.11)])
def test_parametric_under_noise(lr_std, msi_std, spread, most):  # 0.13 where the noise of Z is taken for signal
    clean, _, srf, psf = made_pair(spread=(spread, spread), low=(24, 24))
    lr_hsi, hr_msi, _, _ = made_pair(spread=(spread, spread), low=(24, 24), lr_std=lr_std, msi_std=msi_std)
    found = ESTIMATORS["parametric"](lr_hsi, hr_msi)
    assert psf_error(found, psf) < most
    spectra = clean[0].flatten(1) - clean[0].flatten(1).mean(1, keepdim=True)
    assert ((found.srf[0] - srf) @ spectra).norm() < 0.06 * (srf @ spectra).norm()


def test_noise_of_the_lr_hsi_does_not_shrink_responses():
    """Errors in variables: told that there is no noise, the same fit gives responses whose product is too small."""
    lr_hsi, hr_msi, srf, _ = made_pair(low=(24, 24), lr_std=0.05)
    clean = made_pair(low=(24, 24))[0][0]
    spectra = clean.flatten(1) - clean.flatten(1).mean(1, keepdim=True)
    seen = srf @ spectra
    shape = Shape(torch.tensor([[2.2, 3.0]]).double(), torch.tensor([[1.4, 0.7]]).double(), torch.tensor([0.05]).double())
    level = levels_of(lr_hsi)[0]

    def slope(level):
        response = fit_srf(lr_hsi[0], blurred(hr_msi, shape, 4)[0], level)[0]
        return float(((response @ spectra) * seen).sum() / seen.square().sum())

    assert slope(level) == pytest.approx(1, abs=0.02)
    assert slope(level._replace(noise=0.0)) < 0.96


def test_parametric_takes_scale_offset_and_a_given_phase():
    lr_hsi, hr_msi, _, psf = made_pair()
    first = ESTIMATORS["parametric"](lr_hsi, hr_msi)
    offset = torch.tensor([0.1, -0.3, 2.0], dtype=torch.float64)
    other = ESTIMATORS["parametric"](7 * lr_hsi, 3 * hr_msi + offset[:, None, None], 0)
    assert other.phase == 0 and psf_error(other, psf) < 0.01
    assert torch.allclose(other.srf * 7 / 3, first.srf, rtol=0, atol=1e-3)
    assert torch.allclose(other.offset[0] - 3 * first.offset[0], offset, rtol=0, atol=1e-2)


def test_kernels_are_profiles_cut_at_three_deviations():
    shape = Shape(torch.tensor([[1.5, 2.0]]).double(), torch.tensor([[1.25, 0.5]]).double(), torch.tensor([3.0]).double())
    kernel = kernels(shape, 4, 1)[0]
    expected = np.zeros((33, 33))
    for i in range(33):
        for j in range(33):
            value = 1.0
            for at, spread, place in ((i, 1.5, 1.25), (j, 2.0, 0.5)):
                x = at - 16 + 1 - place
                t = np.linspace(-1.5, 1.5, 2001)
                inside = abs(x) <= round(3 * (spread**2 + 9 / 12) ** 0.5) + 0.5
                value *= np.trapezoid(np.exp(-0.5 * ((x - t) / spread) ** 2), t) * inside
            expected[i, j] = value
    assert np.allclose(kernel.numpy(), expected / expected.sum(), rtol=0, atol=1e-8)
