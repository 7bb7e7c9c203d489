"""The scenes of other sensors: planned without data; with data, the rule of the windows, bands and values."""

import os
from pathlib import Path

import numpy as np
import pytest

import datasets
from datasets.scene import SceneError, split_entry

FOLDER = Path(os.environ.get("HSFUSION_DATA", "/nonexistent"))
needs_data = pytest.mark.skipif(
    not (FOLDER / "cave_balloons.npz").is_file(), reason="HSFUSION_DATA names no folder with the scenes of other sensors"
)


def test_plan_without_data(monkeypatch):
    monkeypatch.delenv("HSFUSION_DATA", raising=False)
    dataset = datasets.get("other-sensors")
    assert len(dataset.digest()) == 64 and dataset.digest() == datasets.get("other-sensors", root="/elsewhere").digest()
    sizes = {split: len(entries) for split, entries in dataset.splits().items()}
    assert sizes == {"train": 0, "val": 0, "test": 0, "test-cave": 6, "test-pavia": 1, "test-samson": 1}
    with pytest.raises(SceneError, match=r"split 'train'.*test-cave.*test-pavia.*test-samson"):
        dataset.entries("train")


def test_missing_other_and_unknown_files_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HSFUSION_DATA", str(tmp_path))
    with pytest.raises(SceneError, match=r"samson\.npz: no such file.*export HSFUSION_DATA.*cave_balloons\.npz"):
        datasets.get("other-sensors").read("samson")
    (tmp_path / "samson.npz").write_bytes(b"something else")
    with pytest.raises(SceneError, match=r"samson\.npz: sha256.*5f2cae307.*copy it again"):
        datasets.get("other-sensors").read("samson")
    with pytest.raises(SceneError, match=r"no scene 'urban'; choices: cave_balloons"):
        datasets.get("other-sensors").read("urban")


@needs_data
@pytest.mark.parametrize("split, bands, ends, size", [
    ("test-cave", 31, (400, 700), (96, 96)), ("test-pavia", 102, (430, 860), (100, 100)),
    ("test-samson", 156, (401, 889), (95, 95)),
])
def test_bands_sizes_and_values_are_those_of_the_files(split, bands, ends, size):
    for scene in datasets.get("other-sensors").load(split):
        assert scene.bands == bands and scene.size == size
        assert (scene.wavelengths[0], scene.wavelengths[-1]) == ends
        np.testing.assert_allclose(np.diff(scene.wavelengths), (ends[1] - ends[0]) / (bands - 1), atol=1e-9)
        base, window = split_entry(scene.name)
        cube = np.load(FOLDER / f"{base}.npz")["cube"].astype(float)
        assert scene.native_min == cube.min() and scene.native_max == cube.max()
        part = cube[window] if window else cube
        back = scene.cube.permute(1, 2, 0).double().numpy() * (scene.native_max - scene.native_min) + scene.native_min
        np.testing.assert_allclose(back, part, rtol=0, atol=1e-6 * np.ptp(cube))


@needs_data
def test_the_windows_of_cave_are_those_of_the_rule():
    entries = datasets.get("other-sensors").entries("test-cave")
    for base in dict.fromkeys(split_entry(entry)[0] for entry in entries):
        cube = np.load(FOLDER / f"{base}.npz")["cube"].astype(float)
        detail = {}
        for top in range(16, 401, 96):
            for left in range(16, 401, 96):
                part = cube[top : top + 96, left : left + 96]
                steps = np.concatenate([np.abs(part[1:] - part[:-1]).ravel(), np.abs(part[:, 1:] - part[:, :-1]).ravel()])
                detail[f"{base}[{top}:{top + 96},{left}:{left + 96}]"] = steps.mean()
        assert len(detail) == 25
        most = sorted(detail, key=lambda entry: -detail[entry])[:2]
        assert most == [entry for entry in entries if entry.startswith(base)]
