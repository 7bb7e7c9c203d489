"""Estimates in windows: equal to whole ones where that is promised, seamless elsewhere, resumed after a stop."""

import signal
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark import metrics, piecewise
from benchmark.fidelity.cases import make_case
from benchmark.machine import ROOT
from benchmark.no_reference import _windows, judge, similarity
from benchmark.pair import hidden
from datasets import SceneError
from methods import create, fuse, streamed, streamed_subspace
from methods.estimation import estimate_srf
from methods.registry import MethodError
from methods.responses import gaussian_decimate
from methods.streamed import at_hr
from methods.windows import layout, reach, weights

SIZE, RATIO = (24, 20), 4


@pytest.fixture(scope="module")
def case():
    """Noisy images float32 (bands, h, w) and (msi_bands, H, W), PSF and SRF; a PSF that is no product of lines among them."""
    made = make_case(height=SIZE[0] * RATIO, width=SIZE[1] * RATIO, bands=20, endmembers=9, snr_msi=35)
    draw = torch.Generator().manual_seed(0)
    cube = torch.from_numpy(made["hr_hsi"]).permute(2, 0, 1).double()
    psf = torch.rand(7, 7, generator=draw, dtype=torch.float64)
    psf = psf / psf.sum()
    srf = torch.from_numpy(made["srf"]).double()
    low = F.conv2d(F.pad(cube[:, None], (3, 3, 3, 3), mode="reflect"), psf[None, None])[:, 0, 1::RATIO, 1::RATIO]
    high = torch.einsum("mb,bxy->mxy", srf, cube)
    noisy = [image + 0.001 * torch.randn(image.shape, generator=draw) for image in (low, high)]
    return noisy[0].float(), noisy[1].float(), {"psf": psf.float(), "srf": srf.float(), "phase": 1}


def asked(parts, size, side):
    """A whole estimate of what windows of ``side`` give."""
    rows = [torch.cat([parts.window(row, slice(c, min(c + side, size[1]))) for c in range(0, size[1], side)], 2)
            for row in (slice(r, min(r + side, size[0])) for r in range(0, size[0], side))]
    return torch.cat(rows, 1)


@pytest.mark.parametrize(("name", "known"), [("gsa", False), ("subspace-ridge", True), ("subspace-ridge-blind", False),
                                             ("subspace-ridge@window=0", True), ("subspace-net@weights=shipped", True)])
def test_windows_of_the_default_methods_are_parts_of_the_whole(case, monkeypatch, name, known):
    """One system or regression of the whole image, whose blocks, strips and networks' windows are made to end within it."""
    lr_hsi, hr_msi, responses = case
    for module, constant, value in ((streamed_subspace, "SIDE", 8), (streamed_subspace, "NUMBERS", 2**12),
                                    (streamed_subspace, "PIXELS", 1000), (streamed, "ROWS", 100)):
        monkeypatch.setattr(module, constant, value)
    model = create(name, bands=20, msi_bands=len(hr_msi), ratio=RATIO, **(responses if known else {}))
    whole = fuse(model, lr_hsi[None].clone(), hr_msi[None].clone())[0]
    parts = streamed.streamed(model, lr_hsi, hr_msi)
    assert parts.exact
    assert (asked(parts, SIZE, 9) - whole).abs().max() < 1e-6 * whole.abs().max()


@pytest.mark.parametrize("known", [True, False])
def test_hysure_of_one_window_is_that_of_the_whole(case, known):
    lr_hsi, hr_msi, responses = case
    kind = ("hysure" if known else "hysure-blind") + "@iterations=5,endmembers=6"
    model = create(kind, bands=20, msi_bands=len(hr_msi), ratio=RATIO, **(responses if known else {}))
    whole = fuse(model, lr_hsi[None].clone(), hr_msi[None].clone())[0]
    parts = streamed.streamed(model, lr_hsi, hr_msi)
    assert not parts.exact
    assert (asked(parts, SIZE, 24) - whole).abs().max() < 1e-6 * whole.abs().max()


def test_statistics_of_large_images_come_from_a_sample(case, monkeypatch):
    """The part that varies most, and every second pixel; the estimate is near that of all."""
    lr_hsi, hr_msi, responses = case
    monkeypatch.setattr(streamed, "SAMPLE", 144)
    assert streamed.pixels_of(lr_hsi).shape == (20, 12 * 10)
    flat = hr_msi.clone()
    flat[:, :40] = flat[:, :, :32] = 0.5
    some, seen = streamed.part_of(lr_hsi, flat)
    assert torch.equal(some, lr_hsi[:, 12:, 8:]) and torch.equal(seen, flat[:, 48:, 32:])
    model = create("subspace-ridge", bands=20, msi_bands=len(hr_msi), ratio=RATIO, **responses)
    whole = fuse(model, lr_hsi[None].clone(), hr_msi[None].clone())[0]
    apart = asked(streamed.streamed(model, lr_hsi, hr_msi), SIZE, 24) - whole
    assert 0 < apart.square().mean().sqrt() < 0.01 * whole.square().mean().sqrt()


@pytest.mark.parametrize(("size", "side", "overlap"), [((30, 7), 8, 2), ((16, 16), 16, 4), ((33, 50), 20, 5)])
def test_blended_windows_cover_everything_once(size, side, overlap):
    windows = layout(size, side, overlap)
    total = torch.zeros(size[0] * 3, size[1] * 3)
    for (rows, columns), (down, across) in zip(windows, weights(windows, 3)):
        assert 0 < rows.stop - rows.start <= side and (down > 0).all() and (across > 0).all()
        total[at_hr(rows, 3), at_hr(columns, 3)] += down[:, None] * across
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)
    tops = sorted({(rows.start, rows.stop) for rows, _ in windows})
    assert all(before[1] - after[0] >= overlap for before, after in pairwise(tops))


class Net(nn.Module):
    """At HR ``depth`` convolutions of 3x3; with ``pool``, on means of so many LR pixels; with ``mean``, of all of them."""

    def __init__(self, depth: int, pool: int = 0, mean: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(*(nn.Conv2d(5, 5, 3, padding=1) for _ in range(depth)))
        self.pool, self.mean = pool, mean

    def forward(self, lr_hsi, hr_msi):
        up = F.interpolate(lr_hsi, hr_msi.shape[-2:])
        x = self.body(torch.cat((up, hr_msi), 1))[:, :3]
        if self.pool:
            side = 2 * self.pool
            x = x + F.interpolate(F.avg_pool2d(up, side, ceil_mode=True), scale_factor=side)[..., : x.shape[2], : x.shape[3]]
        return x + up.mean((2, 3), keepdim=True) if self.mean else x


@pytest.mark.parametrize(("net", "wanted"), [(Net(4), (2, 1)), (Net(5), (3, 1)), (Net(1, pool=4), (4, 4)), (Net(40), None),
                                             (Net(1, mean=True), None)])
def test_the_reach_of_a_network_is_measured(net, wanted):
    """At ratio 2, n convolutions see n HR pixels: half as many LR pixels, or one more; a grid of means must be met."""
    assert reach(net, 3, 2, 2) == wanted


def test_a_network_in_windows_gives_what_it_gives_whole(tmp_path, monkeypatch):
    """dsdcn as it is registered, with random parameters; the margin is measured."""
    torch.manual_seed(0)
    model = create("dsdcn", bands=6, msi_bands=3, ratio=2)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    lr_hsi, hr_msi = torch.rand(6, 96, 40), torch.rand(3, 192, 80)
    whole = fuse(model, lr_hsi[None], hr_msi[None])[0]
    limit = memory_of(6, 2, 48 * 48)
    estimate = piecewise.fused(model, lr_hsi, hr_msi, tmp_path / "w", "id", limit, str, "dsdcn")
    assert estimate.cut.how == "exact" and len(estimate.windows) > 1
    assert (estimate[:, :] - whole).abs().max() <= 1e-5 * whole.abs().max()


def memory_of(bands: int, ratio: int, pixels: int) -> int:
    """A memory that holds so many LR pixels beside what this process holds."""
    held = -(-piecewise.resident() // piecewise.ROUND) * piecewise.ROUND
    return int(held + piecewise.taken(bands, ratio) * (pixels + 1))


def test_a_method_of_whole_images_is_blended_without_seams(case, tmp_path):
    """bicubic in overlapping windows: only where windows end does it see less, and there it hardly counts."""
    lr_hsi = F.interpolate(case[0][None], size=(48, 40), mode="bicubic")[0]
    hr_msi = torch.rand(4, 192, 160)
    model = create("bicubic", bands=20, msi_bands=4, ratio=RATIO)
    whole = fuse(model, lr_hsi[None], hr_msi[None])[0]
    estimate = piecewise.fused(model, lr_hsi, hr_msi, tmp_path / "w", "id", memory_of(20, 4, 24 * 24), str, "bicubic")
    assert estimate.words == "6 blended"
    apart = (estimate[:, :] - whole).abs()
    assert apart.max() < 0.3 * (whole[:, 1:] - whole[:, :-1]).abs().max() and apart.median() < 1e-6
    assert torch.equal(estimate[:, 50:61], estimate[:, :][:, 50:61])
    with pytest.raises(MethodError, match=r"hold no window of 16 x 16 LR pixels of 20 bands .* give \d.\d+GB or more"):
        piecewise.fused(model, lr_hsi, hr_msi, tmp_path / "w", "id", 1000, str, "bicubic")


@pytest.mark.parametrize(("text", "wanted"), [("4GB", 4e9), ("512 mib", 2**29), ("1.5g", 1.5e9), ("0GB", None), ("much", None)])
def test_sizes_of_memory(text, wanted):
    if wanted:
        assert piecewise.memory(text) == wanted
    else:
        with pytest.raises(SceneError, match=f"--memory {text}: no size"):
            piecewise.memory(text)


@pytest.mark.parametrize("size", [(21, 13), (5, 9), (17, 24)])
def test_figures_by_rows_are_those_of_the_whole(size):
    """Against the same figures of whole arrays: windows and LR rows that fill no strip included."""
    draw = torch.Generator().manual_seed(0)
    lr_hsi, hr_msi = (torch.rand(n, size[0] * r, size[1] * r, generator=draw) for n, r in ((7, 1), (3, RATIO)))
    estimate = F.interpolate(lr_hsi[None], scale_factor=RATIO)[0] + 0.1 * torch.rand(7, *hr_msi.shape[1:], generator=draw)
    found = judge(estimate, lr_hsi, hr_msi)
    back, lr_msi = (gaussian_decimate(image[None], RATIO)[0] for image in (estimate, hr_msi))
    srf, offset = (each[0] for each in estimate_srf(lr_hsi[None], hr_msi[None]))
    seen = torch.einsum("mb,bxy->mxy", srf, estimate.double()) + offset[:, None, None]
    low, high = ([_windows(image, side) for image in images]
                 for side, images in ((8, (lr_hsi, lr_msi, back)), (8 * RATIO, (estimate, hr_msi))))
    owner = torch.corrcoef(torch.cat([lr_hsi, lr_msi]).flatten(1))[:7, 7:].argmax(1)
    moved = similarity(high[0], high[1]) - similarity(low[0], low[1])
    wanted = {"lr_rmse": metrics.rmse(back, lr_hsi), "lr_sam_deg": metrics.sam(back, lr_hsi),
              "msi_rmse": metrics.rmse(seen, hr_msi.double()),
              "d_lambda": (similarity(high[0], high[0]) - similarity(low[0], low[0])).abs().sum() / 42,
              "d_lambda_k": 1 - similarity(low[2], low[0]).diagonal().mean(), "d_s": moved[torch.arange(7), owner].abs().mean()}
    for key, value in wanted.items():
        assert found[key] == pytest.approx(float(value), rel=1e-9), key


SLOW = """
import time
import torch
from methods.registry import register

class Slow(torch.nn.Module):
    def forward(self, lr_hsi, hr_msi):
        if lr_hsi.shape[-1] > 48:  # no probe of its reach
            time.sleep(0.5)
        return torch.nn.functional.interpolate(lr_hsi, hr_msi.shape[-2:]) * hr_msi.mean(1, keepdim=True)

@register("slow", "classical", paper="none", year=2026, fidelity="described", told="blind")
def slow():
    return Slow()
"""


@pytest.mark.parametrize("signum, code", [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGKILL, -9)])
def test_a_stopped_command_goes_on(tmp_path, signum, code):
    """To the end: what nobody stopped would have given, and what was finished is not repeated."""
    rng = np.random.default_rng(0)
    (tmp_path / "slow.py").write_text(SLOW)
    for name, shape in (("hsi", (160, 160, 20)), ("msi", (320, 320, 3))):
        np.savez(tmp_path / f"{name}.npz", cube=rng.random(shape, dtype=np.float32) + 0.1)
    out = tmp_path / "out"
    words = ["fuse", str(tmp_path / "hsi.npz"), str(tmp_path / "msi.npz"), "--out", str(out), "--study-file",
             str(tmp_path / "slow.py"), "--methods", "bicubic", "slow", "--memory", "900MB"]
    journal = hidden(out, "slow") / piecewise.JOURNAL

    def done() -> list[str]:
        return journal.read_text().splitlines()[1:] if journal.is_file() else []

    def begun() -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "run_benchmark.py", *words], cwd=ROOT, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    with begun() as process:
        deadline = time.monotonic() + 300
        while len(done()) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signum)
        told = process.communicate()[1].decode()
    assert process.returncode == code, told
    assert ("the same command goes on" in told) == (signum == signal.SIGINT)
    assert not list(out.glob("slow*")) and list(pd.read_csv(out / "rows.csv")["method"]) == ["bicubic"]
    before = done()
    with begun() as process:
        told = process.communicate()[1].decode()
    assert process.returncode == 0, told
    assert "bicubic: done before" in told and f"{len(before)} are done" in told and len(before) >= 2
    rows = pd.read_csv(out / "rows.csv").set_index("method")
    assert list(rows.index) == ["bicubic", "slow"] and rows.loc["slow", "windows"].endswith(" exact")
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    images = [torch.from_numpy(np.load(tmp_path / f"{name}.npz")["cube"]).permute(2, 0, 1) for name in ("hsi", "msi")]
    scale = float(images[0].max())
    lr_hsi, hr_msi = (image / image.max() for image in images)
    wanted = F.interpolate(lr_hsi[None], hr_msi.shape[-2:])[0] * hr_msi.mean(0) * scale
    assert np.array_equal(np.load(out / "slow.npz")["cube"], wanted.permute(1, 2, 0).numpy())


def test_windows_of_something_else_are_thrown_away(tmp_path):
    """Another identity, or larger windows than fit, begin anew; a journal that breaks off goes on from what is whole."""
    how = piecewise.Cut("blended", 8, 2)
    one = piecewise.Estimate(tmp_path / "w", how, (2, 32, 16), 2, "a")
    for number in (0, 1):
        one.put(number, torch.full((2, 16, 16), float(number)), 1.5)
    with (tmp_path / "w" / piecewise.JOURNAL).open("a") as file:
        file.write('{"window": 2, "sec')
    again = piecewise.Estimate(tmp_path / "w", piecewise.Cut("blended", 12, 2), (2, 32, 16), 2, "a")
    assert again.done == {0, 1} and again.cut == how and again.seconds == 3
    again.put(2, torch.zeros(2, 16, 16), 1.0)
    assert piecewise.Estimate(tmp_path / "w", how, (2, 32, 16), 2, "a").done == {0, 1, 2}
    assert piecewise.Estimate(tmp_path / "w", piecewise.Cut("blended", 6, 2), (2, 32, 16), 2, "a").done == set()
    assert piecewise.Estimate(tmp_path / "w", how, (2, 32, 16), 2, "b").done == set()
