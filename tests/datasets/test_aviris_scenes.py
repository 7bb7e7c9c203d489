"""The real scenes: their plan needs no data; with data, checksums, band numbers and disjoint splits."""

import os
from itertools import chain, combinations, product
from pathlib import Path

import numpy as np
import pytest

import datasets
from datasets.aviris_bands import KEPT_172
from datasets.scene import SceneError, split_entry

SCENES = {
    "abu_airport_1": "A",
    "abu_airport_2": "A",
    "abu_airport_3": "A",
    "abu_urban_4": "A",
    "abu_urban_5": "A",
    "abu_urban_1": "B",
    "abu_urban_2": "B",
    "jasper_ridge": "C",
}
FOLDER = Path(os.environ.get("HSFUSION_DATA", "/nonexistent"))
needs_data = pytest.mark.skipif(
    not (FOLDER / "abu_airport_1.npz").is_file(), reason="HSFUSION_DATA names no folder with the AVIRIS scenes"
)


def test_plan_without_data(monkeypatch):
    monkeypatch.delenv("HSFUSION_DATA", raising=False)
    dataset = datasets.get("aviris")
    assert len(dataset.digest()) == 64 and dataset.digest() == datasets.get("aviris", root="/elsewhere").digest()
    splits = dataset.splits()
    assert set(splits) == {"train", "val", "test", "test-same-flight", "test-other-flight"}
    with pytest.raises(SceneError, match=r"split 'test'.*test-same-flight.*test-other-flight"):
        dataset.entries("test")


def test_digest_follows_the_splits(monkeypatch):
    dataset = datasets.get("aviris")
    before, splits = dataset.digest(), dataset.splits()
    monkeypatch.setattr(dataset, "splits", lambda: splits | {"val": ["abu_urban_4[76:100,0:84]"]})
    assert dataset.digest() != before


def test_splits_never_meet():
    splits = datasets.get("aviris").splits()
    flights = {split: {SCENES[split_entry(e)[0]] for e in entries} for split, entries in splits.items()}
    assert flights["train"] == flights["val"] == flights["test-same-flight"] == {"A"}
    assert flights["test-other-flight"] == {"B", "C"}
    for one, other in combinations(splits, 2):
        for a, b in product(splits[one], splits[other]):
            (base, window), (other_base, other_window) = split_entry(a), split_entry(b)
            if base == other_base:
                gaps = [max(w.start - v.stop, v.start - w.stop) for w, v in zip(window, other_window, strict=True)]
                assert max(gaps) >= 8, (a, b)
    for entry in chain(*splits.values()):
        for side in split_entry(entry)[1] or ():
            assert (side.stop - side.start) % 4 == 0


def test_missing_data_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HSFUSION_DATA", str(tmp_path))
    with pytest.raises(SceneError, match=r"jasper_ridge\.npz.*export HSFUSION_DATA.*abu_airport_1\.npz"):
        datasets.get("aviris").read("jasper_ridge")
    (tmp_path / "jasper_ridge.npz").write_bytes(b"something else")
    with pytest.raises(SceneError, match=r"jasper_ridge\.npz.*sha256.*da78d5f39.*copy it again"):
        datasets.get("aviris").read("jasper_ridge")
    with pytest.raises(SceneError, match=r"'indian_pines'.*abu_urban_4"):
        datasets.get("aviris").read("indian_pines")


@needs_data
@pytest.mark.parametrize("name", SCENES)
def test_band_numbers_select_the_172_of_the_file(name):
    scene = datasets.get("aviris").read(name)
    selected = [i for i, number in enumerate(scene.band_numbers) if number in KEPT_172]
    assert [scene.band_numbers[i] for i in selected] == list(KEPT_172)
    with np.load(FOLDER / f"{name}.npz") as file:
        np.testing.assert_array_equal(selected, file["keep172"])
        cube = file["cube"]
    assert scene.size == (100, 100) and scene.flight == SCENES[name]
    assert scene.native_min == cube.min() and scene.native_max == cube.max()
    middle = scene.cube[7, 20, 61].item() * (scene.native_max - scene.native_min) + scene.native_min
    assert middle == pytest.approx(cube[20, 61, 7], abs=0.01)


@needs_data
def test_held_out_pixels_are_not_in_training():
    dataset = datasets.get("aviris")

    def spectra(split):
        keep = [scene.select([scene.band_numbers.index(n) for n in KEPT_172]) for scene in dataset.load(split)]
        spans = [(scene, scene.native_max - scene.native_min) for scene in keep]
        native = [(scene.cube * span + scene.native_min).round().int().flatten(1).T.numpy() for scene, span in spans]
        return {row.tobytes() for row in np.concatenate(native)}

    trained = spectra("train")
    for split in ("val", "test-same-flight", "test-other-flight"):
        assert not trained & spectra(split), split


@needs_data
def test_a_window_is_cut_and_named():
    scene = datasets.get("aviris").scene("abu_urban_4[72:100,0:84]")
    whole = datasets.get("aviris").read("abu_urban_4")
    assert scene.name == "abu_urban_4[72:100,0:84]" and scene.size == (28, 84)
    assert (scene.cube == whole.cube[:, 72:, :84]).all()


def test_folds_leave_each_scene_out_once_and_never_train_on_one_that_shares_pixels():
    folds = [datasets.get("aviris", fold=fold).splits() for fold in (1, 2, 3, 4)]
    tested = [scene for each in folds for scene in each["test-same-flight"]]
    assert sorted(tested) == ["abu_airport_1", "abu_airport_2", "abu_airport_3", "abu_urban_4", "abu_urban_5"]
    for each in folds:
        held, seen = each["test-same-flight"], [entry.partition("[")[0] for entry in each["train"] + each["val"]]
        assert not set(held) & set(seen) and len(each["val"]) == 1 and len(each["train"]) >= 3
        assert ("abu_airport_2" in held) == ("abu_urban_5" in held)  # these two share pixels
        assert each["test-other-flight"] == folds[0]["test-other-flight"]
    assert len({datasets.get("aviris", fold=fold).digest() for fold in (1, 2, 3, 4)}) == 4
    with pytest.raises(SceneError, match="option fold=5; choices: 1, 2, 3, 4"):
        datasets.get("aviris", fold=5)
