"""What every registered dataset keeps: registering one enrols it here, over the miniature that it declares.

A dataset of FOLDER/my_dataset.py, outside the tree, is enrolled by
``PYTHONPATH=FOLDER python -m pytest -p my_dataset tests/datasets/test_contract.py``.
"""

import re
import shutil
from itertools import combinations, product

import numpy as np
import pytest
import torch

import datasets
from datasets.aviris_bands import centers_nm
from datasets.scene import SPLITS, SceneError, registered, split_entry

REMEDY = re.compile(r"\b(put|export|copy|name|give|choose|convert|correct|add|take)\b", re.IGNORECASE)


@pytest.fixture(params=datasets.names())
def small(request, tmp_path):
    """(ways to build the dataset over its miniature, native values by base, folder)."""
    builds, native = registered(request.param).miniature(tmp_path)
    assert builds, "a miniature can be built in one way at least"
    return builds, native, tmp_path


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def everything(dataset):
    """Entries of all splits."""
    return [entry for entries in dataset.splits().values() for entry in entries]


def bases(dataset):
    return sorted({split_entry(entry)[0] for entry in everything(dataset)})


def test_building_twice_gives_the_same_plan(small):
    builds, _, _ = small
    for build in builds:
        first, again = build(), build()
        assert re.fullmatch("[0-9a-f]{64}", first.digest())
        assert first.digest() == first.digest() == again.digest() and first.splits() == again.splits()
    assert len({build().digest() for build in builds}) == len(builds), "other splits, other digest"


def test_what_is_planned_without_data_needs_none(small):
    builds, _, folder = small
    for build in builds:
        dataset = build()
        before = (dataset.digest(), dataset.splits()) if dataset.planned_without_data else None
        if before is None:
            assert files(folder), "a plan that needs files has some"
        for path in files(folder):
            path.rename(path.with_name(f".{path.name}.aside"))
        if before:
            assert (build().digest(), build().splits()) == before
        else:
            with pytest.raises(SceneError) as caught:
                build().digest()
            assert str(folder) in str(caught.value) and REMEDY.search(str(caught.value))
        for path in files(folder):
            path.rename(path.with_name(path.name[1:].removesuffix(".aside")))


def test_splits_have_names_and_share_nothing(small):
    for build in small[0]:
        dataset = build()
        splits = dataset.splits()
        assert set(SPLITS) <= set(splits) and all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", split) for split in splits)
        entries = everything(dataset)
        assert any(splits[split] for split in splits if split.startswith("test"))
        assert bool(splits["train"]) == bool(splits["val"]), "scenes to train on and to validate with, or neither"
        assert len(set(entries)) == len(entries)
        for one, other in combinations(splits, 2):
            for a, b in product(splits[one], splits[other]):
                (base, window), (other_base, other_window) = split_entry(a), split_entry(b)
                if base == other_base:
                    assert window and other_window, f"{a} is a part of {b} in another split"
                    assert any(v.start >= w.stop or w.start >= v.stop for v, w in zip(window, other_window)), (a, b)


def test_no_flight_is_trained_on_and_tested(small):
    """Unless the split says so. Flights that nobody knows cannot be told apart."""
    for build in small[0]:
        dataset = build()
        trained = {dataset.scene(entry).flight for entry in dataset.splits()["train"]} - {"unknown"}
        for split, entries in dataset.splits().items():
            if split.startswith("test") and "same-flight" not in split:
                assert not trained & {dataset.scene(entry).flight for entry in entries}, split


def test_scenes_are_what_a_scene_is(small):
    for build in small[0]:
        dataset = build()
        for entry in everything(dataset):
            scene = dataset.scene(entry)
            assert scene.name == entry and scene.cube.ndim == 3 and scene.cube.dtype == torch.float32
            assert 0 <= scene.cube.min() < scene.cube.max() <= 1
            assert len(scene.band_numbers) in (0, scene.bands)
            for image in scene.given.values():
                assert image.ndim == 3 and image.dtype == torch.float32 and torch.isfinite(image).all()


def test_wavelengths_ascend_as_the_sensor_does(small):
    """Nanometres, one a band. They fall only where AVIRIS's do: its spectrometers overlap at bands 32/33 and 96/97."""
    falls = {(n, n + 1) for n in range(1, 224) if centers_nm()[n] <= centers_nm()[n - 1]}
    assert falls == {(32, 33), (96, 97)}
    for build in small[0]:
        dataset = build()
        for base in bases(dataset):
            scene = dataset.scene(base)
            nm, numbers = scene.wavelengths, scene.band_numbers
            assert nm.shape == (scene.bands,) and nm.dtype == np.float64 and np.isfinite(nm).all()
            assert nm.min() > 100 and nm.max() < 20_000
            for i in np.flatnonzero(np.diff(nm) <= 0):
                assert numbers and any(numbers[i] <= low < high <= numbers[i + 1] for low, high in falls), (base, i)


def test_native_values_come_back(small):
    builds, native, folder = small
    assert native or not files(folder), "the miniature of a dataset that reads files says what is in them"
    for build in builds:
        dataset = build()
        for base in bases(dataset):
            scene = dataset.scene(base)
            assert scene.cube.min() == 0 and scene.cube.max() == 1 and scene.native_min < scene.native_max
            if native:
                back = scene.cube.double().numpy() * (scene.native_max - scene.native_min) + scene.native_min
                span = np.ptp(native[base].astype(float))
                np.testing.assert_allclose(back, native[base], rtol=0, atol=1e-6 * span)


def test_windows_are_cut_from_their_scene(small):
    for build in small[0]:
        dataset = build()
        for entry in everything(dataset):
            base, window = split_entry(entry)
            if window:
                whole, scene = dataset.read(base), dataset.scene(entry)
                assert torch.equal(scene.cube, whole.cube[:, window[0], window[1]])
                assert (scene.native_min, scene.native_max) == (whole.native_min, whole.native_max)


def equal(a, b):
    return (
        torch.equal(a.cube, b.cube) and np.array_equal(a.wavelengths, b.wavelengths) and a.given.keys() == b.given.keys()
        and all(torch.equal(a.given[key], b.given[key]) for key in a.given)
        and (a.name, a.native_min, a.native_max, a.band_numbers) == (b.name, b.native_min, b.native_max, b.band_numbers)
    )


def test_a_reader_cannot_change_what_the_next_one_sees(small):
    """The same scene again, whatever was done in place to the one handed out before, and to its windows."""
    for build in small[0]:
        dataset, fresh = build(), build()
        for base, entry in [(split_entry(entry)[0], entry) for entry in everything(dataset)]:
            window = f"{base}[2:6,0:4]"
            for asked in (entry, window, base, window, entry, base):
                scene = dataset.scene(asked)
                assert equal(scene, fresh.scene(asked)), asked
                scene.cube.mul_(0.5).add_(7)
                scene.wavelengths[:] = -1
                for image in scene.given.values():
                    image.zero_()
            fresh = build()


def test_a_file_that_is_gone_is_named(small):
    builds, _, folder = small
    if not files(folder):
        pytest.skip("reads no files")
    for build in builds:
        dataset = build()
        entries = everything(dataset)
        there = files(folder)
        for path in there:
            shutil.move(path, path.with_name(f".{path.name}.aside"))
        for entry in entries:
            with pytest.raises(SceneError) as caught:
                dataset.scene(entry)
            assert any(path.name in str(caught.value) for path in there) and REMEDY.search(str(caught.value))
        for path in there:
            shutil.move(path.with_name(f".{path.name}.aside"), path)


def test_a_damaged_file_is_named(small):
    builds, _, folder = small
    if not files(folder):
        pytest.skip("reads no files")
    plans = [(build, everything(build())) for build in builds]
    for path in files(folder):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    for build, entries in plans:
        for entry in entries:
            with pytest.raises(SceneError) as caught:
                build().scene(entry)
            assert any(path.name in str(caught.value) for path in files(folder)), caught.value
            assert REMEDY.search(str(caught.value)), caught.value
