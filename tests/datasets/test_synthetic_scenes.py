"""The procedural scenes: decided by their seed, physically plausible, quick."""

import hashlib
import time

import numpy as np
import pytest
import torch

import datasets
from datasets.aviris_bands import centers_nm
from datasets.materials import materials
from datasets.scene import SceneError
from datasets.synthetic_aviris import leaves, noise_level

NM = centers_nm()


def at(values, nm):
    """The band nearest to a wavelength."""
    return values[int(np.argmin(np.abs(NM - nm)))]


@pytest.fixture(scope="module")
def scene():
    return datasets.get("synthetic", size=128).read("train_0")


@pytest.fixture(scope="module")
def native(scene):
    return scene.cube.double().numpy() * (scene.native_max - scene.native_min) + scene.native_min


def test_the_seed_decides():
    small = datasets.get("synthetic", size=16, train=2)
    first, again = small.read("train_0").cube, datasets.get("synthetic", size=16, train=2).read("train_0").cube
    assert first.shape == (224, 16, 16) and torch.equal(first, again)
    others = (small.read("train_1"), small.read("val_0"), datasets.get("synthetic", size=16, seed=1).read("train_0"))
    assert not any(torch.equal(first, other.cube) for other in others)


def test_options_and_splits():
    dataset = datasets.get("synthetic", train=3, val=0, test=1)
    assert dataset.splits() == {"train": ["train_0", "train_1", "train_2"], "val": [], "test": ["test_0"]}
    assert [len(entries) for entries in datasets.get("synthetic").splits().values()] == [4, 1, 2]
    digests = {datasets.get("synthetic", **o).digest() for o in ({}, {"seed": 1}, {"size": 64}, {"test": 1})}
    assert len(digests) == 4 and datasets.get("synthetic").digest() in digests
    with pytest.raises(SceneError, match=r"split 'val'.*\['train', 'test'\]"):
        dataset.entries("val")
    with pytest.raises(SceneError, match=r"'nosuch'.*train_0"):
        dataset.read("nosuch")
    with pytest.raises(SceneError, match="size 4"):
        datasets.get("synthetic", size=4)
    with pytest.raises(SceneError, match="val -1; a split has at least 0"):
        datasets.get("synthetic", val=-1)


def test_scene_words(scene):
    assert scene.cube.dtype == torch.float32 and scene.cube.min() == 0 and scene.cube.max() == 1
    assert scene.band_numbers == tuple(range(1, 225)) and scene.flight == "synthetic train_0"
    np.testing.assert_array_equal(scene.wavelengths, NM)


def test_scale_is_that_of_aviris_and_of_no_single_pixel(scene, native):
    assert -50 <= scene.native_min <= 50 and 4000 < scene.native_max < 10000
    np.testing.assert_allclose(native, np.rint(native), atol=1e-3)  # integers, as the products hold
    brightest = native.max(0)
    assert (brightest > scene.native_max / 2).mean() > 0.005


def test_atmosphere_absorbs(native):
    mean = native.mean((1, 2))
    assert at(mean, 1380) < 0.02 * at(mean, 1250) and at(mean, 1880) < 0.02 * at(mean, 1650)
    for line, shoulders in ((761, (740, 780)), (940, (870, 1010)), (1135, (1080, 1230)), (2012, (1980, 2150))):
        assert at(mean, line) < 0.85 * np.mean([at(mean, shoulder) for shoulder in shoulders]), line


def test_land_is_varied(native):
    ndvi = (at(native, 860) - at(native, 660)) / (at(native, 860) + at(native, 660))
    assert (ndvi > 0.4).mean() > 0.05  # vegetation, seen through the haze
    assert (at(native, 860) < 0.2 * at(native, 560)).mean() > 0.005  # water
    pixels = native.reshape(224, -1)
    energy = np.linalg.eigvalsh(np.cov(pixels))[::-1]
    left = 1 - np.cumsum(energy) / energy.sum()
    assert left[11] < 1e-3  # real AVIRIS scenes: 1e-4 to 4e-4
    assert 6e-3 < left[2] < 2e-2  # real ones: 2e-3 to 1e-2; half of ours without the variation within materials


def test_noise_is_that_of_a_sensor(native):
    dark = at(native, 1380)  # no light arrives: what is left is noise and rounding
    assert 0.5 < dark.std() < 6
    step = np.diff(at(native, 560), axis=1)
    assert np.abs(step).max() > 20 * np.median(np.abs(step))  # sharp edges on a smooth ground


def test_materials():
    spectra = materials(NM)
    assert len(spectra) >= 10
    for name, spectrum in spectra.items():
        assert spectrum.shape == (224,) and spectrum.min() > 0 and spectrum.max() < 0.8, name
    for name in ("grass", "crop", "broadleaf", "conifer"):
        leaf = spectra[name]
        assert (at(leaf, 860) - at(leaf, 670)) / (at(leaf, 860) + at(leaf, 670)) > 0.6, name
        assert at(leaf, 550) > 1.3 * at(leaf, 670) and at(leaf, 550) > 1.3 * at(leaf, 480), name
        for water, shoulder in ((970, 920), (1200, 1100), (1450, 1270), (1940, 1650)):
            assert at(leaf, water) < 0.98 * at(leaf, shoulder), (name, water)
        assert at(leaf, 1940) < 0.4 * at(leaf, 1650), name
    assert at(spectra["clay"], 2205) < 0.75 * at(spectra["clay"], 2130)
    assert at(spectra["limestone"], 2335) < 0.75 * at(spectra["limestone"], 2200)
    red = spectra["red_soil"]
    assert at(red, 880) < 0.95 * (at(red, 750) + at(red, 1100)) / 2 and at(red, 650) > 2 * at(red, 480)
    assert at(spectra["dry_grass"], 2100) < 0.9 * at(spectra["dry_grass"], 2210)
    assert at(spectra["water"], 860) < 0.02


def test_a_paper_size_scene_takes_seconds():
    before = time.process_time()
    scene = datasets.get("synthetic").read("test_1")
    assert scene.size == (259, 259)
    assert time.process_time() - before < 15  # 2 s on an idle core


def test_the_generator_of_committed_rows_is_unchanged():
    """Rows and weights rest on these pixels; a version of numpy that draws otherwise would fail here as well."""
    dataset = datasets.get("synthetic", size=16)
    assert dataset.digest() == "75f601ba180c003b52d90fccf7644d0c6e7238b1ebffa507959e4906258dda81"
    assert datasets.get("synthetic").digest() == "3e81f4cb1ad69111c530b2e3402b053f0bcd7088907ec8e7ba72471dcee212a6"
    found = dataset.read("train_0")
    native = (found.cube.double() * (found.native_max - found.native_min) + found.native_min).round().short().numpy()
    assert hashlib.sha256(native.tobytes()).hexdigest()[:16] == "d7b5dfc817e9099c"


def test_scenes_like_aviris_are_decided_by_their_seed():
    like, plain = datasets.get("synthetic-aviris", size=16), datasets.get("synthetic", size=16)
    first, again = like.read("train_0"), datasets.get("synthetic-aviris", size=16).read("train_0")
    assert torch.equal(first.cube, again.cube) and (first.native_min, first.native_max) == (again.native_min, again.native_max)
    assert not torch.equal(first.cube, plain.read("train_0").cube) and first.flight == "synthetic-aviris train_0"
    assert like.splits() == plain.splits() and like.digest() != plain.digest()
    assert like.digest() != datasets.get("synthetic-aviris", size=16, seed=1).digest()
    with pytest.raises(SceneError, match=r"'synthetic-aviris'.*'nosuch'.*train_0"):
        like.read("nosuch")


def test_leaves_cover_each_other_and_have_all_sizes():
    label, count = leaves(np.random.default_rng(0), 128)
    assert label.shape == (128, 128) and label.min() >= 0 and label.max() < count
    areas = np.bincount(label.ravel())
    assert (label > 0).mean() > 0.9 and np.median(areas[areas > 0]) < 30 < 300 < areas.max()


def test_noise_level_is_that_of_the_drawn_noise():
    level = noise_level(NM)
    assert level.shape == (224,) and (level > 0).all() and level[0] > level[50] > level[95]
    scene = datasets.get("synthetic-aviris", size=128).read("train_0")
    native = scene.cube.double().numpy() * (scene.native_max - scene.native_min) + scene.native_min
    assert at(native, 1380).std() == pytest.approx(np.hypot(at(level, 1380), 12**-0.5), rel=0.1)  # no light arrives; rounding
