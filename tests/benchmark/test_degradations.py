"""Every degradation by the statistics that its docstring promises, against plain loops and the standard operator."""

import math
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import shift as scipy_shift

import run_benchmark
from benchmark.degradations import (
    DEGRADATIONS,
    BandNoise,
    DeadLines,
    DeadPixels,
    Degradation,
    Keystone,
    NonUniform,
    Quantisation,
    Rotation,
    Saturation,
    Shift,
    ShotNoise,
    Smile,
    Stripes,
    degraded,
    moved,
    resampled,
)
from benchmark.page.axes import axes_of
from benchmark.plan import Job, PlanError, Study
from benchmark.protocol import CLEAN, PAPER, noise, shifted
from benchmark.studies import load_file
from datasets.scene import Scene, SceneError

PROTOCOL = replace(PAPER, hr_size=64, bands="all")
NM = np.linspace(400, 2500, 40)


def smooth_scene(side=72, name="made"):
    """Waves and ramps: what interpolation meets well."""
    y, x = np.mgrid[:side, :side] / 64
    cube = np.stack([1 + 0.4 * np.sin(2 * x + b / 9) * np.cos(1.5 * y) + 0.3 * x * y + 0.2 * np.sin(b / 6)
                     for b in range(len(NM))])
    return Scene.from_native(name, 1000 * cube, NM)


def looked(*degradations, scene=None):
    return PROTOCOL.look(scene or smooth_scene(), 4, degraded(*degradations, name="x") if degradations else CLEAN)[1]


def test_every_degradation_has_an_axis_of_its_own_and_nobody_elses_pattern():
    amounts = {"band-noise": 35, "shot-noise": 1e4, "quantisation": 8}
    scenarios = [CLEAN]
    for name, kind in DEGRADATIONS.items():
        scenarios += [degraded(kind(amounts.get(name, 0.25))), degraded(kind(amounts.get(name, 0.25) * 2))]
    axes = axes_of(tuple(scenarios))
    assert set(axes) == set(DEGRADATIONS)
    assert all(len(axis.levels) == 3 and axis.words and axis.label for axis in axes.values())
    assert axes["smile"].levels[0].scenario == CLEAN and axes["band-noise"].levels[-1].apart
    # the draws follow from names alone: another degradation before it changes nothing
    alone, after = looked(Stripes(0.1)), looked(DeadPixels(0.0), Stripes(0.1))
    assert torch.equal(alone.lr_hsi, after.lr_hsi)
    half = looked(Stripes(0.05))
    clean = looked()
    assert torch.allclose(alone.lr_hsi - clean.lr_hsi, 2 * (half.lr_hsi - clean.lr_hsi), atol=1e-6)
    assert not torch.equal(looked(Stripes(0.1), scene=smooth_scene(name="other")).lr_hsi, alone.lr_hsi)


def test_keys_hold_kind_and_fields_and_code_of_that_kind_alone():
    study = Study("s", "s", ("bicubic",), "synthetic", {"size": 64}, protocol=PROTOCOL)
    jobs = {str(d): Job("score", study, ("bicubic",), 4, split="test", scenario=degraded(d)) for d in (
        Stripes(0.1), Stripes(0.2), Smile(1), Smile(1.0), BandNoise(30), BandNoise(30, 5))}
    keys = {name: job.key for name, job in jobs.items()}
    assert len(set(keys.values())) == 5 and keys["Smile(nm=1)"] == keys["Smile(nm=1.0)"]
    clean = Job("score", study, ("bicubic",), 4, split="test")
    assert "degradations" not in str(clean.inputs)
    assert len({clean.source["protocol"], *(job.source["protocol"] for job in jobs.values())}) == 4  # none and three kinds


def test_noise_of_detectors_has_the_statistics_it_is_named_by():
    flat = torch.full((40, 64, 64), 0.25) * torch.linspace(0.5, 2, 40)[:, None, None]
    draw = torch.Generator().manual_seed(0)
    noisy = BandNoise(30.0, 10.0).lr_hsi(flat, NM, draw)
    snr = 10 * torch.log10(flat.square().mean((1, 2)) / (noisy - flat).square().mean((1, 2)))
    assert snr.mean().item() == pytest.approx(30, abs=0.1)
    assert (snr[0] - snr[-1]).item() == pytest.approx(10, abs=0.6)
    counted = ShotNoise(1000).lr_hsi(flat, NM, draw)
    assert torch.allclose(counted.var((1, 2)), flat[:, 0, 0] / 1000, rtol=0.1)
    assert torch.allclose((counted * 1000).round(), counted * 1000, atol=1e-2)
    striped = Stripes(0.1).lr_hsi(flat, NM, draw) - flat
    assert torch.allclose(striped, striped[:, :1].expand_as(striped), atol=1e-7)  # along the track, which is down
    assert (striped[:, 0].std(1) / flat[:, 0, 0]).mean().item() == pytest.approx(0.1, rel=0.05)
    dead = DeadLines(0.05).lr_hsi(flat, NM, draw) == 0
    assert torch.equal(dead, dead[:, :1].expand_as(dead)) and dead[:, 0].float().mean().item() == pytest.approx(0.05, abs=0.015)
    lost = DeadPixels(0.05).lr_hsi(flat, NM, draw) == 0
    assert lost.float().mean().item() == pytest.approx(0.05, abs=0.003) and not lost.all(1).any()


def test_saturation_and_quantisation_act_on_both_images():
    clean, cut, coarse = looked(), looked(Saturation(0.2)), looked(Quantisation(4))
    for name in ("lr_hsi", "hr_msi"):
        before, after = getattr(clean, name), getattr(cut, name)
        assert (before > after.max()).float().mean().item() == pytest.approx(0.2, abs=0.01)
        assert torch.equal(after[before <= after.max()], before[before <= after.max()])
        levels = getattr(coarse, name) * 15
        assert torch.allclose(levels, levels.round(), atol=1e-5)
        assert (getattr(coarse, name) - before).abs().max() <= 0.5 / 15 + 1e-6


def test_smile_against_a_loop_and_numpy():
    cube = torch.rand(40, 3, 9, generator=torch.Generator().manual_seed(1))
    order = np.random.default_rng(0).permutation(40)  # spectrometers that overlap give bands out of order
    seen = Smile(20.0).hsi_scene(cube[order], NM[order], torch.Generator())
    for column in range(9):
        place = 2 * column / 8 - 1
        wanted = [np.interp(NM[order] + 20 * place**2, NM, cube[:, row, column].numpy()) for row in range(3)]
        assert np.allclose(seen[:, :, column].numpy().T, wanted, atol=1e-5)
    assert torch.equal(resampled(cube, NM, torch.zeros(9)), cube)


def test_geometry_against_scipy_and_the_shift_of_whole_pixels():
    scene = smooth_scene()
    whole, parts = PROTOCOL.look(scene, 4, shifted(1))[1], looked(Shift(1.0), scene=scene)
    inner = (..., slice(4, -4), slice(4, -4))
    assert torch.allclose(whole.lr_hsi[inner], parts.lr_hsi[inner], atol=1e-4)
    assert torch.equal(parts.hr_msi, looked(scene=scene).hr_msi)
    cube = PROTOCOL.reference(scene).cube
    half = moved(cube, cube.new_full((1, 1, 1), 0.5), cube.new_full((1, 1, 1), 0.25))
    wanted = np.stack([scipy_shift(band, (-0.5, -0.25), order=3, mode="mirror") for band in cube[::13].double().numpy()])
    assert np.abs(half[::13].numpy() - wanted)[:, 4:-4, 4:-4].max() < 1e-3
    bent = Keystone(1.0).hsi_scene(cube, NM, torch.Generator())
    assert torch.allclose(bent[:, :, 31:33], cube[:, :, 31:33], atol=2e-3)  # the middle stays
    last = np.interp(63 - 8 + (63 - 8 - 31.5) / 31.5, np.arange(64), cube[-1, 20].numpy())
    assert bent[-1, 20, 63 - 8].item() == pytest.approx(last, abs=1e-3)
    first = np.interp(63 - 8 - (63 - 8 - 31.5) / 31.5, np.arange(64), cube[0, 20].numpy())
    assert bent[0, 20, 63 - 8].item() == pytest.approx(first, abs=1e-3)
    turned = Rotation(90.0).hsi_scene(cube, NM, torch.Generator())
    assert torch.allclose(turned, cube.rot90(1, (1, 2)), atol=1e-4)


def test_no_severity_is_the_standard_operator_and_each_part_of_it_does_what_it_says():
    clean, none = looked(), looked(NonUniform(0.0))
    assert (none.lr_hsi - clean.lr_hsi).abs().max() < 1e-6 and torch.equal(none.hr_msi, clean.hr_msi)
    assert torch.allclose(none.told.psf, clean.told.psf, atol=1e-7)
    one = NonUniform(1.0)
    middle, corner = one.psf(PROTOCOL, 0.0), one.psf(PROTOCOL, 1.0)
    x = torch.arange(19, dtype=torch.float64) - 9
    spread = {name: [((psf.sum(1 - axis) * (x - (psf.sum(1 - axis) * x).sum()) ** 2).sum()).sqrt().item() for axis in (0, 1)]
              for name, psf in (("middle", middle), ("corner", corner))}
    # a Gaussian of half an LR pixel, integrated over four rows, and one of 0.4 across, both wider at the corner
    assert spread["middle"] == pytest.approx([math.sqrt(4 + 15 / 12), 1.6], rel=0.01)
    assert spread["corner"] == pytest.approx([math.sqrt(2.4**2 + 15 / 12), 2.08], rel=0.02)
    assert (middle.sum(1) * x).sum().item() == pytest.approx(0.5, abs=0.01)  # rows -1 to 2 around the sample
    seen = looked(one)
    assert torch.allclose(seen.told.psf, middle.float()) and torch.equal(seen.told.srf, clean.told.srf)
    assert not torch.allclose(seen.hr_msi, clean.hr_msi, atol=1e-3)
    # constant scenes: no warp, blur or smile shows, the gain does
    gain = one.msi_scene(torch.ones(40, 64, 64), NM, torch.Generator())
    assert gain.max().item() == pytest.approx(1.025, abs=1e-3) and gain.min().item() == pytest.approx(0.975, abs=1e-3)
    level = one.decimated(torch.ones(2, 64, 64), PROTOCOL)
    assert torch.allclose(level, torch.ones(2, 16, 16), atol=1e-6)
    ramp = torch.arange(64.0).expand(40, 64, 64)
    two = [NonUniform(s).hsi_scene(ramp, NM, torch.Generator().manual_seed(0)) for s in (1.0, 2.0)]
    away = [(each - torch.arange(64.0))[:, 4:-4, 4:-4] for each in two]
    assert torch.allclose(2 * away[0], away[1], atol=1e-3)  # displacements grow with the severity
    assert away[0].std(0).max() > 0.02  # and differ between bands


def test_images_that_are_given_take_what_happens_to_images_alone():
    protocol = replace(PROTOCOL, use_given=True)
    scene = smooth_scene(64)
    _, made = PROTOCOL.look(scene, 4)
    given = replace(scene, given={"lrhsi": made.lr_hsi, "hrmsi4": made.hr_msi})
    noisy = protocol.look(given, 4, degraded(Stripes(0.1)))[1]
    assert (noisy.lr_hsi - made.lr_hsi).std() > 0.01
    with pytest.raises(SceneError, match=r"smile-2.*are given; choose a protocol that simulates"):
        protocol.look(given, 4, degraded(Smile(2)))


def test_wrong_amounts_are_refused_in_words():
    for kind, amount in ((DeadLines, 1.5), (Stripes, -0.1), (Quantisation, 0), (Smile, math.nan), (ShotNoise, 0)):
        with pytest.raises(ValueError, match=f"{kind.axis.name} .* must be in"):
            kind(amount)
    with pytest.raises(ValueError, match="of several give a name"):
        degraded(Stripes(0.1), Smile(1))
    assert noise("both", 30) != degraded(BandNoise(30))
    assert issubclass(NonUniform, Degradation)


def test_flags_name_degradations_beside_the_clean_images():
    def chosen(*words):
        return run_benchmark.study_of(run_benchmark.arguments().parse_args(["run", "--profile", "aviris", "--degrade", *words]))

    held = chosen("stripes=0.02", "smile=2")
    assert held.scenarios == (CLEAN, degraded(Stripes(0.02)), degraded(Smile(2.0))) and held.name.startswith("aviris-")
    assert "scenarios" in held.replaced and not held.fewer_scenarios
    for words, told in (("stripe=0.02", "unknown degradation 'stripe'. Did you mean 'stripes'"), ("smile", "NAME=AMOUNT"),
                        ("stripes=many", "'many' is no number"), ("quantisation=0", "must be in 1 ... 32"),
                        ("smile=nan", "must be")):
        with pytest.raises(PlanError, match=re.escape(told)):
            chosen(words)


def test_a_class_of_a_user_s_own_has_columns_and_a_key_of_its_own(tmp_path):
    (tmp_path / "haze.py").write_text(
        "from dataclasses import dataclass\nfrom benchmark.degradations import Axis, Degradation\n\n\n"
        "@dataclass(frozen=True)\nclass Haze(Degradation):\n    axis = Axis('haze', 'haze', 'haze (share)')\n    share: float\n"
        "    def hr_msi(self, image, draw):\n        return (1 - self.share) * image + self.share\n")
    load_file(tmp_path / "haze.py")
    haze = sys.modules["study_file_haze"].Haze
    clean, seen = looked(), looked(haze(0.1))
    assert torch.allclose(seen.hr_msi, 0.9 * clean.hr_msi + 0.1, atol=1e-6) and torch.equal(seen.lr_hsi, clean.lr_hsi)
    axes = axes_of((CLEAN, degraded(haze(0.1)), degraded(haze(0.2))))
    assert [level.words for level in axes["haze"].levels] == ["0", "0.1", "0.2"]
    study = Study("s", "s", ("bicubic",), "synthetic", {"size": 64}, protocol=PROTOCOL)
    job = Job("score", study, ("bicubic",), 4, split="test", scenario=degraded(haze(0.1)))
    assert "study_file_haze.Haze" in str(job.inputs)
