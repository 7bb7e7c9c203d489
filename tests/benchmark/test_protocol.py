"""The protocol against plain loops, recorded noise levels and the declarations of its own docstrings."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import methods
from benchmark.evaluate import measured
from benchmark.fidelity.recordings import load_case, probe
from benchmark.protocol import (
    CLEAN,
    PAPER,
    PROTOCOLS,
    Protocol,
    Scenario,
    add_noise,
    blur_decimate,
    noise,
    noise_std,
    shifted,
)
from benchmark.sensors import box_response
from datasets.aviris_bands import KEPT_172, centers_nm
from datasets.scene import Scene, SceneError

SMALL = replace(PAPER, hr_size=32)


def scene(bands=224, size=(40, 36), seed=0, name="s"):
    rng = np.random.default_rng(seed)
    cube = rng.uniform(-50, 5000, (bands, *size))
    wavelengths = centers_nm() if bands == 224 else np.linspace(400, 2500, bands)
    return Scene.from_native(name, cube, wavelengths, band_numbers=tuple(range(1, bands + 1)) if bands == 224 else ())


def test_172_bands_are_left_and_those_named_by_the_paper_are_gone():
    assert len(KEPT_172) == 172
    gone = set(range(1, 225)) - set(KEPT_172)
    assert gone == {*range(1, 11), *range(104, 117), *range(152, 171), *range(215, 225)}
    reference = SMALL.reference(scene())
    assert reference.band_numbers == KEPT_172


def test_reference_is_a_minmax_scaled_corner_with_negatives_set_to_zero():
    raw = scene()
    reference = SMALL.reference(raw)
    assert reference.size == (32, 32)
    native = (raw.cube.double() * (raw.native_max - raw.native_min) + raw.native_min).numpy()
    native = np.maximum(native[np.array(KEPT_172) - 1, :32, :32], 0)
    expected = (native - native.min()) / (native.max() - native.min())
    assert np.allclose(reference.cube.numpy(), expected, atol=1e-6)
    assert reference.native_min == pytest.approx(native.min(), abs=1e-2)
    assert reference.native_max == pytest.approx(native.max(), rel=1e-6)
    kept = replace(SMALL, clip_negative=False).reference(raw)
    assert kept.native_min < -40


@pytest.mark.parametrize("boundary, mode", [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
@pytest.mark.parametrize("phase", [0, 1, 3])
def test_blur_and_decimation_equal_a_plain_loop(boundary, mode, phase):
    protocol = Protocol(psf_sigma=1.3, psf_support=5, phase=phase, boundary=boundary)
    cube = torch.rand(2, 12, 16, generator=torch.Generator().manual_seed(1))
    psf = protocol.psf.numpy() + np.arange(25).reshape(5, 5) / 100  # asymmetric: tells correlation from convolution
    got = blur_decimate(cube, torch.from_numpy(psf), 4, phase, boundary).numpy()
    padded = np.pad(cube.numpy(), ((0, 0), (2, 2), (2, 2)), mode=mode)
    for band in range(2):
        for i in range(3):
            for j in range(4):
                row, col = phase + 4 * i, phase + 4 * j
                window = padded[band, row : row + 5, col : col + 5]
                assert got[band, i, j] == pytest.approx((window * psf).sum(), rel=1e-5)


def test_blur_is_the_adjoint_of_its_gradient_and_keeps_constants():
    protocol = PROTOCOLS["paper-variance"]
    x = torch.rand(3, 32, 32, dtype=torch.float64, requires_grad=True)
    y = torch.rand(3, 8, 8, dtype=torch.float64)
    blurred = blur_decimate(x, protocol.psf, 4, 1, "reflect")
    (adjoint,) = torch.autograd.grad((blurred * y).sum(), x)
    assert (blurred * y).sum().item() == pytest.approx((x * adjoint).sum().item(), rel=1e-12)
    flat = blur_decimate(torch.full((1, 32, 32), 0.7), protocol.psf, 4, 1, "reflect")
    assert torch.allclose(flat, torch.tensor(0.7), atol=1e-6)


@pytest.mark.parametrize("name, sigma", [("paper", 3.0), ("paper-variance", math.sqrt(3))])
def test_both_readings_of_the_blur_are_named_and_sum_to_one(name, sigma):
    psf = PROTOCOLS[name].psf.double()
    assert psf.sum().item() == pytest.approx(1, abs=1e-6)
    taps = torch.arange(psf.shape[0]) - psf.shape[0] // 2
    variance = (psf.sum(0) * taps.double() ** 2).sum().item()
    assert variance == pytest.approx(sigma**2, rel=0.03)  # the support cuts the tails at 3 sigma


@pytest.mark.parametrize("msi_bands, counts", [(4, (5, 8, 9, 15)), (6, (5, 8, 9, 15, 20, 28))])
def test_landsat_rows_are_normalised_and_hold_the_bands_of_the_nominal_edges(msi_bands, counts):
    wavelengths = centers_nm()[np.array(KEPT_172) - 1]
    srf = PAPER.response(wavelengths, msi_bands)
    assert srf.shape == (msi_bands, 172) and (srf >= 0).all()
    assert torch.allclose(srf.sum(1), torch.ones(msi_bands))
    assert tuple((srf > 0).sum(1).tolist()) == counts


def test_msi_is_the_mean_of_the_bands_inside_the_edges():
    raw = scene()
    reference, observation = SMALL.reference(raw), SMALL.observe(raw, 4)
    inside = (reference.wavelengths >= 630) & (reference.wavelengths < 690)
    assert torch.allclose(observation.hr_msi[2], reference.cube[inside].mean(0), atol=1e-6)


def test_a_given_matrix_is_normalised_and_a_wrong_one_refused():
    rows = tuple(tuple(float(i == j) * 2 for j in range(172)) for i in range(3))
    srf = replace(PAPER, srf=rows).response(np.zeros(172), 3)
    assert torch.equal(srf, torch.eye(172)[:3])
    with pytest.raises(SceneError, match="is needed"):
        replace(PAPER, srf=rows).response(np.zeros(172), 4)


@pytest.mark.parametrize("domain", ["unit", "signed"])
@pytest.mark.parametrize("snr_db", [15.0, 35.0])
def test_asked_snr_is_measured_snr(domain, snr_db):
    image = torch.rand(172, 24, 24, generator=torch.Generator().manual_seed(2))
    noisy = add_noise(image, snr_db, torch.Generator().manual_seed(3), domain)
    clean, dirty = (image, noisy) if domain == "unit" else (2 * image - 1, 2 * noisy - 1)
    measured = 10 * torch.log10(clean.square().mean() / (dirty - clean).square().mean()).item()
    assert measured == pytest.approx(snr_db, abs=0.1)  # 99,072 draws: the sampling error is 0.02 dB


def test_noise_levels_are_the_release_s():
    recorded = load_case("s3rnet_metrics_losses")["noise"]
    image = probe("n1", (1, 172, 16, 16))
    for snr_db, values in recorded["noise_std"].items():
        for domain in ("unit", "signed"):
            assert noise_std(image, float(snr_db), domain) == pytest.approx(values[f"std_{domain}_domain"], rel=1e-6)


def test_infinite_snr_changes_nothing_and_noise_goes_where_it_is_asked():
    raw = scene()
    clean = SMALL.observe(raw, 4)
    same = SMALL.observe(raw, 4, noise("both", math.inf))
    assert torch.equal(clean.lr_hsi, same.lr_hsi) and torch.equal(clean.hr_msi, same.hr_msi)
    one = SMALL.observe(raw, 4, noise("lr_hsi", 30))
    assert not torch.equal(one.lr_hsi, clean.lr_hsi) and torch.equal(one.hr_msi, clean.hr_msi)
    both = SMALL.observe(raw, 4, noise("both", 30))
    assert not torch.equal(both.lr_hsi, clean.lr_hsi) and not torch.equal(both.hr_msi, clean.hr_msi)


def test_observation_depends_on_names_alone():
    raw = scene()
    first = SMALL.observe(raw, 4, noise("both", 30))
    torch.rand(1000)
    SMALL.observe(scene(seed=5, name="other"), 6, noise("lr_hsi", 25))
    again = SMALL.observe(raw, 4, noise("both", 30))
    assert torch.equal(first.lr_hsi, again.lr_hsi) and torch.equal(first.hr_msi, again.hr_msi)
    assert torch.equal(first.lr_hsi, SMALL.observe(raw, 6, noise("both", 30)).lr_hsi)
    renamed = SMALL.observe(replace(raw, name="t"), 4, noise("both", 30))
    assert not torch.equal(first.lr_hsi, renamed.lr_hsi)


def test_shift_makes_the_lr_hsi_from_the_neighbouring_window():
    raw = scene()
    lr_hsi = SMALL.observe(raw, 4, shifted(3)).lr_hsi
    native = raw.cube.double() * (raw.native_max - raw.native_min) + raw.native_min
    native = native.clamp(min=0)[torch.tensor(KEPT_172) - 1]
    reference = SMALL.reference(raw)
    moved = (native[:, 3:35, 3:35] - reference.native_min) / (reference.native_max - reference.native_min)
    expected = blur_decimate(moved.float(), SMALL.psf, 4, 1, "reflect")
    assert torch.allclose(lr_hsi, expected, atol=1e-5)
    assert torch.equal(SMALL.observe(raw, 4, shifted(3)).hr_msi, SMALL.observe(raw, 4).hr_msi)
    with pytest.raises(SceneError, match="too small"):
        replace(PAPER, hr_size=36).observe(raw, 4, shifted(3))


def test_a_method_may_be_told_another_sensor():
    raw = scene()
    true = SMALL.observe(raw, 4)
    other = SMALL.observe(raw, 4, Scenario("told", told_psf_sigma=1.0, told_srf_shift_nm=40.0))
    assert torch.equal(true.lr_hsi, other.lr_hsi) and torch.equal(true.hr_msi, other.hr_msi)
    assert not torch.equal(true.told.psf, other.told.psf) and not torch.equal(true.told.srf, other.told.srf)


def test_given_observations_are_used_where_the_protocol_says_so():
    raw = scene(bands=172, size=(32, 32))
    given = {"lrhsi": torch.zeros(172, 8, 8), "lrhsi2": torch.ones(172, 8, 8), "hrmsi4": torch.zeros(4, 32, 32)}
    raw = replace(raw, given=given)
    release = replace(PROTOCOLS["release"], hr_size=32)
    assert torch.equal(release.observe(raw, 4).lr_hsi, given["lrhsi"])
    assert torch.equal(release.observe(raw, 4, shifted(2)).lr_hsi, given["lrhsi2"])
    assert SMALL.observe(raw, 4).lr_hsi.abs().sum() > 0
    with pytest.raises(SceneError, match="hrmsi6"):
        release.observe(raw, 6)


def test_digest_tells_contents_not_names():
    assert replace(PAPER, name="x").digest == PAPER.digest
    digests = {protocol.digest for protocol in PROTOCOLS.values()}
    assert len(digests) == len(PROTOCOLS)
    for change in ({"phase": 2}, {"psf_sigma": 2.0}, {"noise_domain": "signed"}, {"hr_size": 128}):
        assert replace(PAPER, **change).digest != PAPER.digest


@pytest.mark.parametrize("cube, words", [
    (np.ones((100, 32, 32)) + np.arange(32), "100 bands.*first: AVIRIS band"),
    (np.ones((224, 8, 8)) + np.arange(8), "too small"),
])
def test_too_few_bands_and_too_small_scenes_are_refused(cube, words):
    raw = Scene.from_native("bad", cube, centers_nm()[: len(cube)])
    with pytest.raises(SceneError, match=words):
        SMALL.reference(raw)


def test_224_bands_of_another_sensor_are_not_cut_as_aviris():
    cube = np.random.default_rng(0).uniform(1, 2, (224, 32, 32))
    enmap = Scene.from_native("enmap", cube, np.linspace(418, 2445, 224))
    with pytest.raises(SceneError, match=r"172 of the 172 AVIRIS bands.*not among them"):
        SMALL.reference(enmap)
    drifted = Scene.from_native("drifted", cube, centers_nm() + 3.0)  # another calibration of AVIRIS
    assert SMALL.reference(drifted).bands == 172


def test_auto_takes_the_papers_bands_where_they_are_and_all_otherwise():
    auto = replace(SMALL, bands="auto")
    assert auto.reference(scene()).bands == 172
    numbered = replace(scene(), cube=scene().cube[5:210], wavelengths=centers_nm()[5:210], band_numbers=tuple(range(6, 211)))
    assert auto.reference(numbered).bands == 205  # band 211 of the papers is not there
    assert auto.reference(scene(bands=31)).bands == 31
    assert auto.digest != SMALL.digest


def test_reference_and_observation_in_one_look_are_those_taken_apart():
    raw = scene()
    reference, seen = SMALL.look(raw, 4, noise("both", 30))
    assert torch.equal(reference.cube, SMALL.reference(raw).cube)
    assert torch.equal(seen.lr_hsi, SMALL.observe(raw, 4, noise("both", 30)).lr_hsi)
    assert seen.told.phase == 1 and seen.told.srf.shape == (4, 172)


def test_a_response_without_bands_names_the_range():
    with pytest.raises(SceneError, match="1550-1750 nm"):
        box_response(np.linspace(400, 1000, 50), [(450, 520), (1550, 1750)])


def test_scenarios_have_no_null():
    assert CLEAN.name == "clean" and CLEAN.noise_target == "none" and math.isinf(CLEAN.snr_db)
    with pytest.raises(ValueError, match="choices"):
        noise("hr_msi", 30)


@pytest.mark.parametrize("shift", [0, 2])
def test_an_lr_pixel_is_invalid_where_its_psf_sees_an_invalid_one(shift):
    """Counted in a loop over the support, rows and columns reflected at the border."""
    protocol = Protocol(bands="all", hr_size=16, psf_sigma=1.0, psf_support=5)
    rng = np.random.default_rng(0)
    valid = np.ones((18, 18), bool)
    valid[5, 9] = valid[0, 0] = valid[17, 3] = False
    cube = rng.random((6, 18, 18))
    cube[:, ~valid] = -9999
    scene = Scene.from_native("s", cube, np.array([480.0, 560, 660, 800, 900, 1000]), valid)
    reference, seen = protocol.look(scene, 4, shifted(shift))
    whole = protocol.look(Scene.from_native("s", rng.random((6, 18, 18)), np.array([480.0, 560, 660, 800, 900, 1000])), 4)[1]
    assert whole.lr_valid is None and whole.hr_valid is None
    assert torch.equal(seen.hr_valid, torch.from_numpy(valid[:16, :16])) and torch.equal(reference.valid, seen.hr_valid)
    assert torch.isfinite(seen.lr_hsi).all() and seen.lr_hsi.max() <= 1 and seen.hr_msi.min() >= 0
    estimate = torch.where(seen.hr_valid, reference.cube + 0.1, torch.tensor(50.0))
    class Method:
        card = methods.card("bicubic")

        def __call__(self, lr_hsi, hr_msi):
            return estimate[None]

    values, _ = measured(Method(), reference, seen, 4, torch.device("cpu"))
    assert values["rmse_unit"] == pytest.approx(0.1, rel=1e-5)  # what it says of invalid pixels leaves every score
    window = valid[shift : shift + 16, shift : shift + 16]

    def fold(i):
        return -i if i < 0 else 30 - i if i > 15 else i

    for row, col in np.ndindex(4, 4):
        places = [(fold(4 * row + 1 + i), fold(4 * col + 1 + j)) for i in range(-2, 3) for j in range(-2, 3)]
        assert bool(seen.lr_valid[row, col]) == all(window[place] for place in places), (row, col)
