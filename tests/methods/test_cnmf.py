"""CNMF against recorded outputs of the reference toolbox and against its passes written out one by one."""

from functools import partial

import numpy as np
import pytest
import torch

from benchmark.fidelity.cases import make_case, make_noisy_case, sample_indices
from benchmark.fidelity.recordings import load_case
from benchmark.fidelity.toolboxes import as_image
from benchmark.metrics import measure
from methods import create, fuse
from methods.estimation import estimate_srf
from methods.registry import MethodError
from methods.resample import resize
from methods.responses import gaussian_decimate
from methods.unmixing import spa
from tests.methods import images

GOLDEN = load_case("classical")["cases"]
MAKE = {"case1": make_case, "case1_noisy": make_noisy_case}
METRICS = {"psnr_db": "psnr", "sam_deg": "sam", "rmse_unit": "rmse", "ergas": "ergas"}
random_pair = partial(images.random_pair, msi_bands=4)
random_srf = partial(images.random_srf, msi_bands=4)


def build(lr_hsi, hr_msi, srf=None, **options):
    name = "cnmf-blind" if srf is None else "cnmf"
    sizes = {"bands": lr_hsi.shape[1], "msi_bands": hr_msi.shape[1], "ratio": hr_msi.shape[-1] // lr_hsi.shape[-1]}
    return create(name, **sizes, srf=srf, **options)


# ---- recorded outputs


@pytest.mark.golden
@pytest.mark.parametrize("case_name", list(MAKE))
def test_golden_from_given_endmembers(case_name):
    case, golden = MAKE[case_name](), GOLDEN[case_name]["results"]["CNMFspa"]
    lr_hsi, hr_msi, reference = (as_image(case[key]) for key in ("lr_hsi", "hr_msi", "hr_hsi"))
    model = build(lr_hsi, hr_msi, torch.from_numpy(case["srf"]), endmembers=8, start="spa")
    fused = fuse(model, lr_hsi, hr_msi)
    samples = fused[0].permute(1, 2, 0).numpy()[tuple(sample_indices(case["hr_hsi"].shape).T)]
    assert np.abs(samples - golden["samples"]).max() < golden["suggested_sample_tolerance"]
    ours, theirs = measure(fused, reference), golden["metrics"]
    for column, key in METRICS.items():
        assert ours[column].item() == pytest.approx(theirs[key], rel=1e-8), key
    single = fuse(model, lr_hsi.float(), hr_msi.float())
    assert single.dtype == torch.float32
    assert measure(single, reference)["psnr_db"].item() == pytest.approx(theirs["psnr"], abs=1e-3)


@pytest.mark.golden
@pytest.mark.parametrize("case_name", list(MAKE))
def test_golden_blind_from_random_endmembers(case_name):
    """Five random starts were recorded. The median of five of ours lies within their range, in all four metrics.

    Without noise the estimated SRF is not unique and the recording asks for a loose comparison: 0.5 dB.
    """
    case, golden = MAKE[case_name](), GOLDEN[case_name]["results"]["CNMF"]
    lr_hsi, hr_msi, reference = (as_image(case[key]) for key in ("lr_hsi", "hr_msi", "hr_hsi"))
    runs = [measure(fuse(build(lr_hsi, hr_msi, seed=seed), lr_hsi.float(), hr_msi.float()), reference) for seed in range(5)]
    assert len({run["psnr_db"].item() for run in runs}) == 5
    if case_name == "case1":
        theirs = np.median([run["psnr"] for run in golden["runs"]])
        assert np.median([run["psnr_db"].item() for run in runs]) == pytest.approx(theirs, abs=0.5)
        return
    for column, key in METRICS.items():
        lowest, highest = golden["spread"][key]
        assert lowest <= np.median([run[column].item() for run in runs]) <= highest, key


# ---- the algorithm written out


def plain_cnmf(y, z, srf, low, high, ratio, w, tolerance=1e-8):
    """Y (bands, n), Z (b, N), R, endmembers to start from -> (bands, N), and the passes each stage made."""
    b, d, passes = len(z), 2 * (z.mean() / 0.7455).sqrt() / len(z) ** 3, []

    def with_row(matrix):
        return torch.cat([matrix, d.expand(1, matrix.shape[1])])

    def stage(data, w, h, order, most, stops=True):
        previous = None
        for i in range(most):
            w0, h0 = w, h
            for factor in order:
                if factor == "w":
                    w = w * (data @ h.T) / (w @ h @ h.T)
                else:
                    h = h * (with_row(w).T @ with_row(data)) / (with_row(w).T @ with_row(w) @ h)
            cost = (data - w @ h).square().sum()
            if stops and previous is not None and (previous - cost) / cost < tolerance:
                passes.append(i)
                return w0, h0
            previous = cost
        passes.append(most)
        return w, h

    h = torch.full((w.shape[1], y.shape[1]), 1 / w.shape[1], dtype=torch.float64)
    w, h = stage(y, w, h, "h", 600)
    w, h = stage(y, w, h, "wh", 199)
    w_m, h_m = srf @ w, resize(h.unflatten(1, low)[None], high)[0].flatten(1).clamp(min=0)
    w_m, h_m = stage(z, w_m, h_m, "h", 200, stops=False)
    w_m, h_m = stage(z, w_m, h_m, "wh" if b > 3 else "h", 199)
    h = gaussian_decimate(h_m.unflatten(1, high)[None], ratio)[0].flatten(1)
    w, h = stage(y, w, h, "w", 200)
    w, h = stage(y, w, h, "hw" if b > 3 else "w", 199)
    return w @ h_m, passes


# Which stages stop early: none; the fixed ones; also the alternating ones, as a looser tolerance stops all of them.
@pytest.mark.parametrize("tolerance", [1e-8, 1e-5, 1e-3])
@pytest.mark.parametrize("msi_bands, endmembers, ratio", [(4, 7, 4), (4, 3, 2), (3, 5, 3), (1, 2, 4), (12, 30, 2)])
def test_agrees_with_plain_version(monkeypatch, msi_bands, endmembers, ratio, tolerance):
    lr_hsi, hr_msi = random_pair(seed=4, bands=40, msi_bands=msi_bands, ratio=ratio)
    srf = random_srf(bands=40, msi_bands=msi_bands)
    monkeypatch.setattr("methods.cnmf.TOLERANCE", tolerance)
    monkeypatch.setattr("methods.cnmf._multiply.__defaults__", (tolerance,))
    fused = fuse(build(lr_hsi, hr_msi, srf, endmembers=endmembers, start="spa"), lr_hsi, hr_msi)
    y, z = lr_hsi[0].flatten(1), hr_msi[0].flatten(1)
    sizes = lr_hsi.shape[2:], hr_msi.shape[2:], ratio
    expected, passes = plain_cnmf(y, z, srf, *sizes, spa(y, endmembers), tolerance)
    assert torch.allclose(fused[0].flatten(1), expected, rtol=0, atol=1e-10), passes
    assert tolerance < 1e-3 or passes[1] < 199


def test_stops_where_the_cost_computed_directly_stops(monkeypatch):
    """On exact data the cost is a difference of numbers a million times as large."""
    case = make_case(height=32, width=32, bands=20, endmembers=3)
    # Beyond the three true endmembers the start is rounding: both sides must see the same memory layout.
    lr_hsi, hr_msi = (as_image(case[key]).contiguous() for key in ("lr_hsi", "hr_msi"))
    srf = torch.from_numpy(case["srf"])
    y, z = lr_hsi[0].flatten(1), hr_msi[0].flatten(1)
    fused = fuse(build(lr_hsi, hr_msi, srf, endmembers=6, start="spa"), lr_hsi, hr_msi)
    expected, passes = plain_cnmf(y, z, srf, (8, 8), (32, 32), 4, spa(y, 6))
    assert torch.allclose(fused[0].flatten(1), expected, rtol=0, atol=1e-9), passes


def test_blind_is_known_with_the_estimate():
    lr_hsi, hr_msi = random_pair(bands=5, size=(6, 7))
    lr_hsi = lr_hsi - 0.1  # some data are negative
    srf, offset = estimate_srf(lr_hsi, hr_msi)
    lowered = (hr_msi - offset[:, :, None, None]).clamp(min=0)
    blind = fuse(build(lr_hsi, hr_msi, endmembers=4), lr_hsi, hr_msi)
    known = fuse(build(lr_hsi, hr_msi, srf[0], endmembers=4), lr_hsi.clamp(min=0), lowered)
    assert offset.abs().max() > 0.01
    assert torch.allclose(blind, known, rtol=0, atol=1e-12)


# ---- what it must survive


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("start", ["vca", "spa"])
def test_degenerate_images_stay_finite(known, dtype, start):
    lr_hsi, hr_msi = random_pair(bands=12, size=(5, 6))
    dead_hsi, dead_msi, dark = lr_hsi.clone(), hr_msi.clone(), (lr_hsi.clone(), hr_msi.clone())
    dead_hsi[:, 3] = dead_msi[:, 1] = 0
    dark[0][..., 2, 2] = dark[1][..., 8:12, 8:12] = 0
    flat = torch.full_like(lr_hsi, 0.3), torch.full_like(hr_msi, 0.2)
    weights, rank_two = lr_hsi[:, :2], lr_hsi[0, :, 0, :2].clone()
    low_rank = torch.einsum("bphw,cp->bchw", weights, rank_two)
    pairs = [(dead_hsi, hr_msi), (lr_hsi, dead_msi), dark, flat, (low_rank, hr_msi), (0 * lr_hsi, hr_msi)]
    pairs += [(lr_hsi, 0 * hr_msi), (0 * lr_hsi, 0 * hr_msi), (lr_hsi, hr_msi[:, :1])]
    for number, (low, high) in enumerate(pairs):
        srf = random_srf(bands=12, msi_bands=high.shape[1]) if known else None
        fused = fuse(build(low, high, srf, start=start), low.to(dtype), high.to(dtype))
        assert fused.shape == (1, 12, 20, 24) and fused.dtype == dtype
        assert fused.isfinite().all() and (fused >= 0).all(), number
        assert number != 0 or fused[:, 3].abs().max() < 1e-3


def test_pixels_that_interpolation_leaves_empty_are_filled():
    """Cubic overshoot beside a bright pixel is negative in every abundance at once."""
    lr_hsi, hr_msi = random_pair(bands=4)
    lr_hsi[:] = 1e-6
    lr_hsi[..., 2:4, 2:4] = 1
    assert fuse(build(lr_hsi, hr_msi, random_srf(4), endmembers=1), lr_hsi, hr_msi).isfinite().all()


@pytest.mark.parametrize("ratio", [2, 3, 4])
@pytest.mark.parametrize("known", [True, False])
def test_batch_is_its_images_and_repeats(ratio, known):
    lr_hsi, hr_msi = (image.float() for image in random_pair(batch=2, ratio=ratio, size=(4, 7)))
    model = build(lr_hsi, hr_msi, random_srf() if known else None)
    both = fuse(model, lr_hsi, hr_msi)
    assert both.shape == (2, 7, 4 * ratio, 7 * ratio) and both.dtype == torch.float32
    for n in range(2):
        assert torch.allclose(both[n], fuse(model, lr_hsi[n : n + 1], hr_msi[n : n + 1])[0], rtol=0, atol=1e-6)
    assert torch.equal(both, fuse(model, lr_hsi, hr_msi))
    assert torch.equal(both, model(lr_hsi.requires_grad_(), hr_msi))


def test_wrong_arguments_are_named():
    sizes = {"bands": 7, "msi_bands": 4}
    with pytest.raises(MethodError, match=r"needs srf.*mode='blind'"):
        create("cnmf", **sizes)
    with pytest.raises(MethodError, match="mode 'other'; choices: known, blind"):
        create("cnmf", **sizes, mode="other")
    with pytest.raises(MethodError, match="start 'random'; choices: vca, spa"):
        create("cnmf-blind", **sizes, start="random")
    with pytest.raises(MethodError, match="0 endmembers"):
        create("cnmf-blind", **sizes, endmembers=0)
