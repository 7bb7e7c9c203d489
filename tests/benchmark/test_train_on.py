"""Training on a pair of one's own: the reduced pair against loops, and the command end to end with a tiny network."""

import os
import re
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import run_benchmark
from benchmark.fidelity.cases import make_case
from benchmark.one_scale_down import Reduced, odd, protocol_of, rectangles
from benchmark.pair import Pair
from datasets import SceneError
from methods import create, fuse
from methods.estimation import Responses
from methods.responses import gaussian_psf

TINY = "dsdcn@width=4,up_width=4"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two pairs of the same sensors, native values, no wavelengths."""
    folder = tmp_path_factory.mktemp("pairs")
    for seed in (0, 1):
        case = make_case(height=48, width=56, bands=6, endmembers=4, seed=seed)
        np.savez(folder / f"{seed}.npz", cube=5000 * case["hr_hsi"], msi=300 * case["hr_msi"])
    return folder


def command(files, out, *more, pair=0, methods=(TINY,)):
    path = files / f"{pair}.npz"
    return ["train-on", str(path), f"{path}:msi", "--decimate", "2", "--out", str(out), "--estimator", "nonnegative",
            "--methods", *methods, *more]


def random_pair(height, width, ratio, valid=None, seed=0):
    draw = torch.Generator().manual_seed(seed)
    low = torch.rand(3, height, width, generator=draw)
    return Pair("x", low, torch.rand(2, height * ratio, width * ratio, generator=draw), 1.0, np.array([]), valid=valid)


def responses(ratio, side=5, phase=1):
    srf = torch.rand(1, 2, 3, generator=torch.Generator().manual_seed(1)).double()
    return Responses(srf, torch.tensor([[0.1, 0.2]]).double(), gaussian_psf(side, 1.0)[None], phase)


@pytest.mark.parametrize("seed", range(5))
def test_rectangles_hold_every_free_square_and_nothing_else(seed):
    free, side = np.random.default_rng(seed).random((9, 11)) > 0.12, 3
    found = rectangles(free, side)
    assert all(free[r0:r1, c0:c1].all() for r0, r1, c0, c1 in found)
    squares = 0
    for row in range(7):
        for col in range(9):
            inside = any(r0 <= row and row + side <= r1 and c0 <= col and col + side <= c1 for r0, r1, c0, c1 in found)
            assert inside == free[row : row + side, col : col + side].all()
            squares += inside
    assert squares > 3
    assert rectangles(np.ones((4, 6), bool), 3) == [(0, 4, 0, 6)]


def test_both_images_are_decimated_by_the_told_psf():
    """Against a loop; what exceeds a multiple of the ratio is cut, an offset taken off where networks are told responses."""
    ratio, phase = 3, 1
    pair, told = random_pair(26, 31, ratio), responses(ratio, phase=phase)
    scene = Reduced(pair, told).scene("x")
    psf = told.psf[0].numpy()
    assert scene.cube.shape == (3, 24, 30) and torch.equal(scene.cube, pair.lr_hsi[:, :24, :30])
    for image, low in ((pair.lr_hsi[:, :24, :30], scene.given["lrhsi"]), (pair.hr_msi[:, :72, :90], scene.given["hrmsi2"])):
        padded = np.pad(image.numpy().astype(np.float64), ((0, 0), (2, 2), (2, 2)), mode="edge")
        assert low.shape[1:] == (image.shape[1] // ratio, image.shape[2] // ratio)
        for row, col in ((0, 0), (3, 5), (low.shape[1] - 1, low.shape[2] - 1)):
            top, left = row * ratio + phase, col * ratio + phase
            wanted = (padded[:, top : top + 5, left : left + 5] * psf).sum((1, 2))
            np.testing.assert_allclose(low[:, row, col].numpy(), wanted, rtol=1e-5)
    less = Reduced(pair, told, less_offset=True).scene("x").given["hrmsi2"]
    torch.testing.assert_close(scene.given["hrmsi2"] - less, torch.tensor([0.1, 0.2])[:, None, None].expand_as(less))
    _, seen = protocol_of(pair, told).look(scene, 2)
    torch.testing.assert_close(seen.told.srf.double(), told.srf[0], rtol=1e-5, atol=1e-6)  # row sums are not made 1


def test_an_even_psf_keeps_its_centre():
    psf = torch.zeros(4, 4)
    psf[1, 1] = 1.0  # (k - 1) // 2
    assert odd(psf).shape == (5, 5) and odd(psf)[2, 2] == 1


def test_no_training_pixel_sees_a_pixel_that_is_held_out():
    """Another image in the held-out block alone: what is trained on stays, bit for bit; and the other way round."""
    ratio = 2
    told, pair = responses(ratio, side=7), random_pair(32, 40, ratio)
    data = Reduced(pair, told, 8)
    (val,) = data.splits()["val"]
    block = data.scene("x").valid
    fine = block.repeat_interleave(ratio, 0).repeat_interleave(ratio, 1)
    other = replace(pair, lr_hsi=torch.where(block, 1 - pair.lr_hsi, pair.lr_hsi),
                    hr_msi=torch.where(fine, 1 - pair.hr_msi, pair.hr_msi))
    changed = Reduced(other, told, 8)
    assert not torch.equal(changed.scene(val).cube, data.scene(val).cube)
    assert len(data.splits()["train"]) == 2  # above the block and left of it
    for entry in data.splits()["train"]:
        one, two = data.scene(entry), changed.scene(entry)
        assert torch.equal(one.cube, two.cube) and torch.equal(one.given["lrhsi"], two.given["lrhsi"])
        assert one.given["lrhsi"].shape[1] * ratio == one.size[0] == one.given["hrmsi2"].shape[1]
    assert data.digest() != changed.digest()


@pytest.mark.parametrize("ratio", [2, 3])
def test_pixels_without_data_reach_neither_training_nor_validation(ratio):
    """Two fills of the same gaps give the same crops, and there are fewer of them."""
    valid = torch.ones(36 * ratio, 48 * ratio, dtype=torch.bool)
    valid[-5:, -5:] = valid[10 * ratio : 11 * ratio, 7 * ratio : 8 * ratio] = False
    pair, told = random_pair(36, 48, ratio, valid), responses(ratio)
    low = torch.nn.functional.max_pool2d((~valid)[None].float(), ratio)[0].bool()
    filled = replace(pair, lr_hsi=torch.where(low, 9.0, pair.lr_hsi), hr_msi=torch.where(valid, pair.hr_msi, 9.0))
    one, two = (Reduced(each, told, 2 * ratio) for each in (pair, filled))
    whole = Reduced(replace(pair, valid=None), told, 2 * ratio)
    assert 0 < one.free.sum() < whole.free.sum() and one.splits() == two.splits()
    for entry in (*one.splits()["train"], *one.splits()["val"]):
        for a, b in zip(*((each.cube, *each.given.values()) for each in (one.scene(entry), two.scene(entry)))):
            assert torch.equal(a, b) and b.max() < 9 * 0.99
    assert not torch.equal(one.scene("x").given["hrmsi2"], two.scene("x").given["hrmsi2"])


def test_what_is_too_small_is_refused_with_the_least_size():
    told = responses(4, side=5)
    with pytest.raises(SceneError, match=r"18x18 pixels is too small .* at ratio 4: 20x8 pixels or more"):
        Reduced(random_pair(18, 18, 4), told)
    assert Reduced(random_pair(8, 20, 4), told).splits()["val"] == ["x[0:8,12:20]"]
    with pytest.raises(SceneError, match="crops of 16 pixels at most"):
        Reduced(random_pair(28, 28, 4), told, 20)
    valid = torch.zeros(240, 240, dtype=torch.bool)
    valid[:70] = True
    with pytest.raises(SceneError, match="all of them with data"):
        Reduced(random_pair(60, 60, 4, valid & ~valid), told)


@pytest.mark.parametrize(("method", "more", "words"), [
    ("gsa", (), "is not trained; fuse the pair with it"),
    (f"{TINY},weights=some.safetensors", (), "is not trained"),
    (f"{TINY},train=other", (), "leave out train=other"),
    ("subspace-net", (), "fuse HSI MSI --methods subspace-net@weights=shipped"),
    (TINY, ("--crop", "5"), "multiple of the ratio 2"),
    (TINY, ("--crop", "96"), "--crop 96: .* choose one up to it"),
    (TINY, ("--steps", "0"), "steps is 0"),
])
def test_refused_before_anything_is_written(files, tmp_path, capsys, method, more, words):
    assert run_benchmark.main(command(files, tmp_path / "o", *more, methods=(method,))) == 2
    assert re.search(words, capsys.readouterr().err) and not (tmp_path / "o").exists()


def test_the_command(files, tmp_path, capsys):
    """Rows, estimates, scores one scale down; done once; the parameters fuse this pair and another of the same sensors."""
    out, told = tmp_path / "o", f"{TINY},anchor=subspace-ridge"
    words = command(files, out, "--steps", "4", "--batch", "2", "--crop", "12", methods=(TINY, told))
    assert run_benchmark.main(words) == 0
    printed = capsys.readouterr()
    assert "trained on this pair, one scale down, 4 steps; the best of them on the block held out" in printed.out
    assert "subspace-ridge-blind is as good or better without training" in printed.err  # four steps are not enough
    rows = pd.read_csv(out / "rows.csv").set_index("method")
    assert list(rows.index) == [TINY, told] and (rows["status"] == "ok").all() and (out / "pair.png").exists()
    assert pd.isna(rows.loc[TINY, "told"]) and "estimated" in rows.loc[told, "told"]

    data = reduced(files)
    scene = data.scene("0")
    top, left, side = (2 * n for n in data.block)
    image = fuse(create("bicubic", bands=6, msi_bands=4, ratio=2), scene.given["lrhsi"][None], scene.given["hrmsi4"][None])[0]
    error = (image - scene.cube).numpy()[:, top : top + side, left : left + side].astype(np.float64)
    peak = scene.cube.numpy()[:, top : top + side, left : left + side].max((1, 2))
    wanted = np.mean(10 * np.log10(peak**2 / (error**2).mean((1, 2))))
    assert rows.loc[TINY, "held_out_psnr_db_bicubic"] == pytest.approx(wanted, abs=1e-4)

    files_of = sorted(out.glob("training/0/train-*/model.safetensors"))
    before = [path.stat().st_mtime_ns for path in files_of]
    assert len(files_of) == 2 and run_benchmark.main(words) == 0
    assert [path.stat().st_mtime_ns for path in files_of] == before  # nothing is trained twice
    for pair in (0, 1):
        path, place = files / f"{pair}.npz", out if pair == 0 else tmp_path / "other"
        assert run_benchmark.main(["fuse", str(path), f"{path}:msi", "--decimate", "2", "--out", str(place), "--methods", "gsa",
                                   f"dsdcn@weights={rows.loc[TINY, 'weights']}"]) == 0
        fused = pd.read_csv(place / "rows.csv").set_index("method", drop=False)
        assert len(fused) == (4 if pair == 0 else 2) and (fused["status"] == "ok").all()
        if pair == 0:
            one, two = (np.load(out / file)["cube"] for file in (fused.loc[TINY, "file"], fused.iloc[-1]["file"]))
            np.testing.assert_array_equal(one, two)


def reduced(files):
    from benchmark.pair import load_pair
    from benchmark.told import estimated

    pair = load_pair(str(files / "0.npz"), f"{files / '0.npz'}:msi", decimate=2)
    return Reduced(pair, estimated(pair, "nonnegative"))


def test_a_training_that_fails_is_a_row(files, tmp_path, capsys):
    words = command(files, tmp_path / "o", "--steps", "3", "--lr", "1e30", "--batch", "1", "--crop", "12")
    assert run_benchmark.main(words) == 1
    row = pd.read_csv(tmp_path / "o" / "rows.csv").iloc[0]
    assert row["status"] == "failed" and "its training failed: TrainingError" in row["reason"]
    assert "failed: its training failed" in capsys.readouterr().err


def test_interrupted_and_resumed_it_ends_where_an_unbroken_one_does(files, tmp_path, capsys):
    words = ("--steps", "30", "--crop", "12", "--log-every", "1")

    def interrupt():
        while not list((tmp_path / "broken").glob("training/0/train-*/train.csv")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert run_benchmark.main(command(files, tmp_path / "broken", *words)) == 130
    thread.join()
    assert list((tmp_path / "broken").glob("training/0/train-*/checkpoint-*.ckpt"))
    for out in ("broken", "whole"):
        assert run_benchmark.main(command(files, tmp_path / out, *words)) == 0
    one, two = (next((tmp_path / out).glob("training/0/train-*/model.safetensors")) for out in ("broken", "whole"))
    assert one.parent.name == two.parent.name and "resumed at step" in (one.parent / "log.txt").read_text()
    assert one.read_bytes() == two.read_bytes()
