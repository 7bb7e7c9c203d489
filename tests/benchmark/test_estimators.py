"""The benchmark of estimators: pairs against a loop, figures of known errors, and doubts where an estimate is bad."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

import run_benchmark
from benchmark import estimators
from benchmark.degradations import NonUniform, degraded
from benchmark.estimators import BLURS, RATIO, against_truth, made, quality
from benchmark.page import estimators as page
from benchmark.protocol import PAPER
from datasets import get
from methods import pidm
from methods.estimation import ESTIMATORS, Responses


@pytest.fixture(scope="module")
def scene():
    return next(iter(get("synthetic", size=64, train=0, val=1, test=0).load("val")))


def truth(pair):
    return Responses(pair.srf[None], torch.zeros(1, len(pair.srf)).double(), pair.psf[None].double(), pair.phase)


def test_a_pair_is_what_a_loop_makes(scene):
    pair = made(scene, "tm-4", "box", "none")
    assert pair.words["blur"] == "box" and pair.reference.shape == (172, 64, 64)
    for band, i, j in ((0, 2, 3), (100, 0, 0), (171, 15, 15), (60, 7, 1)):
        total = 0.0
        for down in range(RATIO):
            for right in range(RATIO):
                total += float(pair.reference[band, RATIO * i + down, RATIO * j + right])
        assert float(pair.lr_hsi[band, i, j]) == pytest.approx(total / RATIO**2, abs=1e-6)
    assert torch.allclose(pair.hr_msi.double(), torch.einsum("mb,bxy->mxy", pair.srf, pair.reference.double()), atol=1e-6)


@pytest.mark.parametrize("blur, centre, second", [("gaussian-1", (0, 0), 1), ("gaussian-2", (0, 0), 4),
                                                  ("box", (0.5, 0.5), 1.25), ("shifted", (1.3, -0.7), 4)])
def test_blurs(blur, centre, second):
    psf = BLURS[blur]()
    x = torch.arange(len(psf)).double() - len(psf) // 2
    assert len(psf) % 2 == 1 and float(psf.sum()) == pytest.approx(1)
    for axis, at in enumerate(centre):
        line = psf.sum(1 - axis).double()
        mean = float((line * x).sum())
        assert mean == pytest.approx(at, abs=0.02)
        assert float((line * (x - mean) ** 2).sum()) == pytest.approx(second, rel=0.04)


@pytest.mark.parametrize("noise, snr", [("lr-35", (35, None)), ("both-30", (30, 30))])
def test_noise_is_as_strong_as_asked(scene, noise, snr):
    pair, clean = made(scene, "tm-6", "gaussian-2", noise), made(scene, "tm-6", "gaussian-2", "none")
    for image, before, asked in ((pair.lr_hsi, clean.lr_hsi, snr[0]), (pair.hr_msi, clean.hr_msi, snr[1])):
        if asked is None:
            assert torch.equal(image, before)
        else:
            ratio = before.double().square().mean() / (image - before).double().square().mean()
            assert 10 * float(ratio.log10()) == pytest.approx(asked, abs=0.2)


def test_figures_of_known_errors(scene):
    pair = made(scene, "tm-4", "gaussian-2", "none")
    right = truth(pair)
    assert against_truth(right, pair) == pytest.approx(
        {"share_in_band": 1, "srf_error": 0, "psf_error": 0, "centre_error_px": 0}, abs=1e-6)
    late = against_truth(replace(right, phase=pair.phase + 1), pair)
    assert late["centre_error_px"] == pytest.approx(2**0.5, abs=1e-6) and late["psf_error"] > 0.3
    wide = torch.nn.functional.pad(pair.psf.double(), (3, 5, 2, 6))  # the same PSF, on another support, 1 and 2 pixels away
    moved = against_truth(replace(right, psf=wide[None]), pair)
    assert moved["centre_error_px"] == pytest.approx(5**0.5, abs=1e-6)
    before = torch.nn.functional.pad(pair.psf.double(), (0, 2, 0, 2))  # centre one pixel before that of its support,
    same = against_truth(replace(right, psf=before[None], phase=pair.phase + 1), pair)  # and the phase one pixel later
    assert same["centre_error_px"] == pytest.approx(0, abs=1e-6) and same["psf_error"] == pytest.approx(0, abs=1e-6)
    leaky = pair.srf.clone()
    leaky[:, 150] = 1.0
    worse = against_truth(replace(right, srf=leaky[None]), pair)
    assert worse["share_in_band"] == pytest.approx(0.5)
    low = pair.clean.double().flatten(1)
    band = low[150] - low[150].mean()
    seen = pair.srf @ low
    seen = seen - seen.mean(1, keepdim=True)
    assert worse["srf_error"] == pytest.approx(float((len(seen) * band.square().sum()).sqrt() / seen.norm()), rel=1e-5)


def test_residuals_are_those_of_a_loop(scene):
    pair = made(scene, "tm-4", "gaussian-1", "lr-35")
    found = ESTIMATORS["hysure"](pair.lr_hsi[None], pair.hr_msi[None])
    judged = quality(found, pair.lr_hsi[None], pair.hr_msi[None])[0]
    reach = (len(found.psf[0]) - 1) // 2
    for m in range(4):
        theirs, ours = [], []
        for i in range(2, 14):
            for j in range(2, 14):
                top, left = found.phase + RATIO * i - reach, found.phase + RATIO * j - reach
                window = pair.hr_msi[m, top : top + 2 * reach + 1, left : left + 2 * reach + 1].double()
                theirs.append(float((window * found.psf[0]).sum()))
                ours.append(float(found.srf[0, m] @ pair.lr_hsi[:, i, j].double()))
        expected = np.sqrt(np.mean((np.array(ours) - theirs) ** 2)) / np.std(theirs)
        assert judged.residual[m] == pytest.approx(expected, rel=1e-6)
    assert judged.bands == 172 and 4 <= judged.rank < 40


@pytest.mark.parametrize("noise", ["none", "lr-25", "both-30"])
def test_the_truth_is_trusted_and_errors_are_not(scene, noise):
    pair = made(scene, "tm-4", "gaussian-2", noise)
    images, right = (pair.lr_hsi[None], pair.hr_msi[None]), truth(pair)
    assert quality(right, *images)[0].trust == "ok"
    for wrong in (replace(right, phase=pair.phase + 1), replace(right, srf=right.srf.roll(12, 2)),
                  replace(right, psf=BLURS["box"]()[None])):
        assert "not explained" in quality(wrong, *images)[0].trust
    assert "does not end" in quality(ESTIMATORS["hysure"](*images), *images)[0].trust
    both = quality(Responses(right.srf.expand(2, -1, -1), right.offset.expand(2, -1), right.psf.expand(2, -1, -1), right.phase),
                   *(image.expand(2, -1, -1, -1) for image in images))
    assert both[0] == both[1] == quality(right, *images)[0]


def test_too_few_dimensions_are_told():
    low = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(0)).double() * torch.ones(12, 1, 1)
    found = Responses(torch.full((1, 3, 12), 1 / 12).double(), torch.zeros(1, 3).double(), torch.ones(1, 1, 1).double(), 0)
    judged = quality(found, low, low[:, :3].repeat_interleave(2, 2).repeat_interleave(2, 3))[0]
    assert judged.rank == 1 and "fewer dimensions" in judged.trust


def test_rows_of_a_comparison():
    compared = estimators.compare(("hysure", "parametric"), [("synthetic", "val")], [("tm-4", "gaussian-3")], ("none", "lr-35"))
    found = list(compared)
    assert [(row["estimator"], row["noise"]) for row in found] == [
        ("hysure", "none"), ("parametric", "none"), ("hysure", "lr-35"), ("parametric", "lr-35")]
    for row in found:
        assert row["loss_db"] == row["psnr_known_db"] - row["psnr_told_db"]
        assert row["sensor"] == "tm-4" and row["split"] == "val" and len(row["residuals"].split()) == 4
        assert (row["trust"] == "ok") == (row["estimator"] == "parametric")
        assert row["loss_db"] < 0.3 if row["estimator"] == "parametric" else row["loss_db"] > 3


def test_the_command_measures_what_lacks_and_renders_a_page(tmp_path, monkeypatch):
    """Rows that are there stay byte for byte; figures of the page against pandas."""
    monkeypatch.setattr(estimators, "PROTOCOL", replace(estimators.PROTOCOL, hr_size=48))
    compare = partial(estimators.compare, ("nonnegative", "hysure"), (("synthetic", "test"),),
                      (("tm-4", "gaussian-1"), ("tm-4", "box")), ("none",))
    monkeypatch.setattr(estimators, "everything", lambda held: compare(held=held))
    words = ["estimators", "--results", str(tmp_path / "res"), "--reports", str(tmp_path / "rep")]
    assert run_benchmark.main(words) == 0
    path = tmp_path / "res" / "estimators.csv"
    head, *lines = path.read_text().splitlines()
    assert len(lines) == 4
    path.write_text("\n".join([head, *lines[:2], lines[3]]) + "\n")
    assert run_benchmark.main(words) == 0
    again = path.read_text().splitlines()
    assert again[:4] == [head, *lines[:2], lines[3]] and len(again) == 5 and again[4].split(",")[:7] == lines[2].split(",")[:7]
    rows = pd.read_csv(path)
    table = pd.read_csv(tmp_path / "rep/estimators/tables/estimators.csv", comment="#").set_index("Estimator")
    mine = rows[rows["estimator"] == "hysure"]
    assert table.loc["hysure", "Loss (dB)"] == pytest.approx(mine["loss_db"].mean(), abs=0.005)
    assert table.loc["hysure", "PSF error (%)"] == pytest.approx(100 * mine["psf_error"].mean(), abs=0.005)
    bad = mine["loss_db"] > 1.5
    assert table.loc["hysure", "Bad ones doubted"] == f"{(bad & (mine['trust'] != 'ok')).sum()} of {bad.sum()}"
    kinds = pd.read_csv(tmp_path / "rep/estimators/tables/estimators-by-pair.csv", comment="#")
    box = rows[(rows["blur"] == "box") & (rows["estimator"] == "nonnegative")]
    assert kinds[kinds["PSF"] == "box"]["nonnegative"].item() == pytest.approx(box["loss_db"].item(), abs=0.005)
    assert 'href="estimators/index.html"' in (tmp_path / "rep" / "index.html").read_text()


def test_pairs_that_vary_are_those_of_the_degradation_and_pidm_makes_them_uniform_first(monkeypatch, tmp_path):
    monkeypatch.setattr(estimators, "PROTOCOL", replace(estimators.PROTOCOL, hr_size=64))
    monkeypatch.setattr(pidm, "ITERATIONS", 60)
    held = list(estimators.compare(("parametric", "pidm"), (("synthetic", "test"),), (("tm-4", "non-uniform-2"),), ("none",)))
    plain, field = held
    assert (field["estimator"], field["blur"], field["psnr_known_db"]) == ("pidm", "non-uniform-2", plain["psnr_known_db"])
    assert field["psnr_told_db"] != plain["psnr_told_db"]
    scene = next(iter(get("synthetic", size=64, test=1).load("test")))
    pair = made(scene, "tm-4", "non-uniform-2", "none")
    seen = estimators.PROTOCOL.look(scene, 4, degraded(NonUniform(2.0)))[1]
    assert torch.equal(pair.lr_hsi, seen.lr_hsi) and torch.equal(pair.psf.float(), seen.told.psf)
    found, lr_hsi, _ = estimators.found_by("pidm", pair.lr_hsi, pair.hr_msi)
    assert not torch.equal(lr_hsi, pair.lr_hsi) and found.psf.shape[0] == 1
    with pytest.raises(ValueError, match="is that of sensor tm-4, not of tm-6"):
        list(estimators.compare(("hysure",), (("synthetic", "test"),), (("tm-6", "non-uniform-2"),)))
    # the page keeps them apart from the means over uniform pairs
    frame = pd.DataFrame([*held, *estimators.compare(("parametric",), (("synthetic", "test"),), (("tm-4", "box"),), ("none",))])
    assert set(page.uniform(frame)["blur"]) == {"box"}


def test_fusing_a_pair_that_varies_makes_it_uniform_and_says_what_was_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pidm, "ITERATIONS", 30)
    scene = next(iter(get("synthetic", size=64, test=1).load("test")))
    seen = replace(PAPER, hr_size=64).look(scene, 4, degraded(NonUniform(2.0)))[1]
    for name, image in (("hsi", seen.lr_hsi), ("msi", seen.hr_msi)):
        np.save(tmp_path / f"{name}.npy", image.permute(1, 2, 0).numpy())
    words = ["fuse", str(tmp_path / "hsi.npy"), str(tmp_path / "msi.npy"), "--methods", "subspace-ridge", "--out",
             str(tmp_path / "o")]
    assert run_benchmark.main([*words, "--estimator", "pidm"]) == 0
    said = capsys.readouterr().err
    assert "pidm: the LR-HSI looks" in said and "HR pixels away" in said and "estimated (parametric)" in said
    small = np.load(tmp_path / "hsi.npy")[:6, :6], np.load(tmp_path / "msi.npy")[:24, :24]
    np.save(tmp_path / "hsi.npy", small[0])
    np.save(tmp_path / "msi.npy", small[1])
    assert run_benchmark.main([*words[:-1], str(tmp_path / "p"), "--estimator", "pidm"]) == 2
    assert "a field needs 8 a side" in capsys.readouterr().err


@pytest.mark.skipif(not os.environ.get("HSFUSION_DATA"), reason="needs HSFUSION_DATA: Hyperion and ALI over Paris")
def test_a_measured_pair_has_no_truth_and_all_else():
    (row,) = estimators.measured_pair(("hysure",))
    assert np.isnan(row["psnr_known_db"]) and np.isnan(row["loss_db"]) and 25 < row["psnr_told_db"] < 31
    held = {("hysure", *estimators.MEASURED.values())}
    assert row["dataset"] == "hyperion-ali" and list(estimators.measured_pair(("hysure",), held)) == []
