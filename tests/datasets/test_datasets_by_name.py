"""Datasets by name and option, what they keep in memory, and one that lives outside the tree."""

import gc
import importlib.util
import os
import re
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import datasets
from datasets import scene as scene_module
from datasets.scene import Dataset, Scene, SceneError, near

ROOT = Path(__file__).parents[2]


class Counted(Dataset):
    """Three random scenes of 32 x 32 pixels and 3 bands (12,288 bytes); counts what it reads."""

    def __init__(self, scale: float = 1.0, fast: bool = False, name_of: str | None = None, count: int = 3, label: str = "x"):
        self.options = {"scale": scale, "fast": fast, "name_of": name_of, "count": count, "label": label}
        self.reads = []

    def splits(self):
        return {"train": ["a"], "val": ["b"], "test": ["c"]}

    def digest(self):
        return "0" * 64

    def read(self, base):
        self.reads.append(base)
        cube = np.random.default_rng(ord(base)).random((3, 32, 32))
        return Scene.from_native(base, cube, np.array([450.0, 550.0, 650.0]), given={"hrmsi4": torch.ones(4, 8, 8)})


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setitem(scene_module._DATASETS, "counted", Counted)
    Counted.name = "counted"
    return lambda **options: datasets.get("counted", **options)


WINDOWS = [f"[{r}:{r + 8},{c}:{c + 8}]" for r in range(0, 32, 8) for c in range(0, 32, 8)]


def test_a_scene_is_read_once_for_its_windows(counted):
    dataset = counted()
    for window in WINDOWS:
        for base in "abc":
            assert torch.equal(dataset.scene(base + window).cube, Counted().scene(base + window).cube)
    dataset.scene("a")
    assert dataset.reads == ["a", "b", "c"]


def test_what_is_kept_is_bounded(counted, monkeypatch):
    size = Counted().read("a").nbytes
    monkeypatch.setattr(scene_module, "KEPT_BYTES", 2 * size)
    dataset = counted()
    for base in "abcbcac":  # c pushes out a, b is used again, a pushes out b
        dataset.scene(f"{base}[0:8,0:8]")
        assert sum(scene.nbytes for scene in dataset._kept.values()) <= 2 * size
    assert dataset.reads == ["a", "b", "c", "a"]
    monkeypatch.setattr(scene_module, "KEPT_BYTES", size - 1)  # too large to keep, but its windows read it once
    dataset = counted()
    for window in WINDOWS:
        dataset.scene("a" + window)
    assert dataset.reads == ["a"]
    whole = dataset.scene("a")
    whole.cube.zero_()
    assert dataset.scene("a[0:8,0:8]").cube.any() and dataset.reads == ["a", "a"]


def test_a_window_does_not_hold_its_scene(counted):
    assert counted().scene("a[0:8,0:8]").cube.untyped_storage().nbytes() == 3 * 8 * 8 * 4


def test_a_dataset_and_its_scenes_die_with_their_last_user(counted):
    dataset = counted()
    scene = dataset.scene("a")
    dead = weakref.ref(dataset), weakref.ref(dataset._kept["a"].cube)
    del dataset
    gc.collect()
    assert dead[0]() is None and dead[1]() is None and scene.cube.any()


def test_a_window_outside_is_told(counted):
    with pytest.raises(SceneError, match=r"'a\[0:40,0:8\]': the window leaves scene 'a' of \(32, 32\)"):
        counted().scene("a[0:40,0:8]")


def test_a_copy_is_equal_and_apart():
    one = Counted().read("a")
    two = one.copy()
    assert torch.equal(one.cube, two.cube) and replace(two, cube=one.cube, given={}, wavelengths=None) == replace(
        one, given={}, wavelengths=None
    )
    assert one.cube.data_ptr() != two.cube.data_ptr() and one.given["hrmsi4"].data_ptr() != two.given["hrmsi4"].data_ptr()


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ({"label": "2019", "count": "12", "scale": "2"}, {"label": "2019", "count": 12, "scale": 2.0}),
        ({"label": "007", "name_of": "16.5", "count": "-3"}, {"label": "007", "name_of": "16.5", "count": -3}),
        ({"scale": "1e-3", "fast": "true"}, {"scale": 1e-3, "fast": True}),
        ({"scale": "inf", "fast": "False"}, {"scale": float("inf"), "fast": False}),
        ({"scale": 3, "count": np.int64(5), "fast": True}, {"scale": 3.0, "count": 5, "fast": True}),
        ({"label": Path("a/b"), "name_of": None}, {"label": "a/b", "name_of": None}),
    ],
)
def test_options_become_what_the_constructor_says(counted, words, values):
    options = counted(**words).options
    assert {key: options[key] for key in values} == values
    assert all(type(options[key]) is type(value) for key, value in values.items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"count": "abc"}, "option count=abc must be a whole number, such as 3"),
        ({"count": "16.5"}, "count=16.5 must be a whole number"),
        ({"count": 16.5}, "count=16.5 must be a whole number"),
        ({"count": True}, "count=True must be a whole number"),
        ({"count": ""}, "count= must be a whole number"),
        ({"scale": "fast"}, "scale=fast must be a number, such as 1.0"),
        ({"scale": "nan"}, "scale=nan must be a number"),
        ({"fast": "yes!"}, "fast=yes! must be true or false"),
        ({"label": 2019}, "label=2019 must be text"),
        ({"label": None}, "label=None must be text"),
        ({"cuont": "3"}, "unknown option 'cuont'. Did you mean 'count'? Choices: scale, fast, name_of, count, label"),
    ],
)
def test_other_words_are_refused_by_name(counted, words, said):
    with pytest.raises(SceneError) as caught:
        counted(**words)
    assert str(caught.value).startswith("dataset 'counted'") and said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_of_the_folder():
    """As they come from a command line; a folder may be called 2019."""
    folder = datasets.get("folder", root="2019", pattern="2019", tile="16", guard="0", seed="-1")
    assert (folder.root, folder.pattern, folder.tile, folder.guard, folder.seed) == ("2019", "2019", 16, 0, -1)
    for option, said in (("tile=abc", "such as 32"), ("tile=16.5", "whole"), ("guard=-1", "guard -1"), ("seed=x", "whole")):
        key, _, value = option.partition("=")
        with pytest.raises(SceneError, match=rf"{key}.*{value}.*{said}|{said}"):
            datasets.get("folder", **{key: value})


def test_an_option_without_default_and_options_by_any_name(monkeypatch):
    class Needy(Counted):
        def __init__(self, root: str, shift=0, **others: str) -> None:
            super().__init__()
            self.root, self.shift, self.others = root, shift, others

    monkeypatch.setitem(scene_module._DATASETS, "needy", Needy)
    with pytest.raises(SceneError, match="dataset 'needy' needs the options root"):
        datasets.get("needy", shift="1")
    made = datasets.get("needy", root="r", shift="1", colour="red")  # nothing says what these want: as they are
    assert (made.root, made.shift, made.others) == ("r", "1", {"colour": "red"})


def test_an_error_of_a_constructor_is_not_blamed_on_the_options(monkeypatch):
    class Broken(Counted):
        def __init__(self, root: str = "") -> None:
            len(3)

    monkeypatch.setitem(scene_module._DATASETS, "broken", Broken)
    with pytest.raises(TypeError, match="has no len"):
        datasets.get("broken")


def test_unknown_names_are_told():
    with pytest.raises(SceneError, match=r"unknown dataset 'sintetic'.*Did you mean 'synthetic'.*aviris, aviris-lines"):
        datasets.get("sintetic")
    with pytest.raises(SceneError, match=r"dataset 'folder': unknown option 'patern'\. Did you mean 'pattern'\?.*root"):
        datasets.get("folder", patern="red")
    assert {"aviris", "csakd-tiles", "folder", "synthetic"} <= set(datasets.names())
    assert near("tst", ["train", "test"]) == " Did you mean 'test'?" and near("zzz", ["train", "test"]) == ""


OUTSIDE = '''
"""Strips of a pushbroom scanner: one .npy file (rows, columns, bands) a flight."""

from functools import partial
from pathlib import Path

import numpy as np

from datasets.scene import Dataset, Miniature, Scene, SceneError, register
from datasets.splitting import content_digest, file_digest


@register("strips")
class Strips(Dataset):
    def __init__(self, root: str, first: int = 400) -> None:
        self.root, self.first = Path(root), first

    def splits(self) -> dict[str, list[str]]:
        return {"train": ["s0", "s1"], "val": ["s2"], "test": ["s3"]}

    def digest(self) -> str:
        return content_digest([self.first, *(file_digest(self._file(s)) for part in self.splits().values() for s in part)])

    def read(self, base: str) -> Scene:
        try:
            cube = np.load(self._file(base)).transpose(2, 0, 1)
        except (ValueError, EOFError) as error:
            raise SceneError(f"{self._file(base)}: damaged ({error}); copy it again") from error
        return Scene.from_native(base, cube, self.first + 10.0 * np.arange(len(cube)), flight=base)

    def _file(self, base: str) -> Path:
        if not (self.root / f"{base}.npy").is_file():
            raise SceneError(f"{self.root / base}.npy is missing; put it there")
        return self.root / f"{base}.npy"

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        cubes = {f"s{i}": np.random.default_rng(i).random((8, 12, 5)) for i in range(4)}
        for name, cube in cubes.items():
            np.save(folder / f"{name}.npy", cube)
        return Miniature((partial(cls, str(folder)),), {name: cube.transpose(2, 0, 1) for name, cube in cubes.items()})
'''


def contract(folder, names):
    """(exit status, output) of the contract test with datasets of a file outside the tree."""
    command = [sys.executable, "-m", "pytest", "-p", "my_strips", "-p", "no:cacheprovider", "-k", names]
    done = subprocess.run(
        [*command, "tests/datasets/test_contract.py"], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stdout + done.stderr


def test_a_dataset_outside_the_tree(tmp_path, monkeypatch):
    monkeypatch.setattr(scene_module, "_DATASETS", dict(scene_module._DATASETS))
    file = tmp_path / "my_strips.py"
    file.write_text(OUTSIDE)
    spec = importlib.util.spec_from_file_location("my_strips", file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert "strips" in datasets.names()
    (tmp_path / "data").mkdir()
    scene_module.registered("strips").miniature(tmp_path / "data")
    dataset = datasets.get("strips", root=str(tmp_path / "data"), first="500")
    assert [scene.name for scene in dataset.load("train")] == ["s0", "s1"]
    assert dataset.scene("s3").wavelengths.tolist() == [500, 510, 520, 530, 540]
    with pytest.raises(SceneError, match=r"option first=x must be a whole number, such as 400"):
        datasets.get("strips", root="r", first="x")
    status, output = contract(tmp_path, "strips")
    assert status == 0 and "passed" in output and "failed" not in output, output


WRONG = {  # name: (what is right, what is written instead, the test that must fail)
    "one-flight": ("flight=base", 'flight="f1"', "test_no_flight_is_trained_on_and_tested"),
    "tested-twice": ('"test": ["s3"]', '"test": ["s0"]', "test_splits_have_names_and_share_nothing"),
    "descending": ("self.first + 10.0", "5000 - 10.0", "test_wavelengths_ascend_as_the_sensor_does"),
    "upside-down": ("np.load(self._file(base))", "np.load(self._file(base))[::-1]", "test_native_values_come_back"),
    "traceback": ("except (ValueError, EOFError)", "except KeyError", "test_a_damaged_file_is_named"),
    "unstable": ("[self.first,", "[id(self),", "test_building_twice_gives_the_same_plan"),
}


def test_the_contract_finds_what_is_wrong(tmp_path):
    assert all(OUTSIDE.count(right) == 1 for right, _, _ in WRONG.values())
    variants = [OUTSIDE.replace(right, wrong).replace('"strips"', f'"{name}"') for name, (right, wrong, _) in WRONG.items()]
    (tmp_path / "my_strips.py").write_text("\n".join(variants))
    _, output = contract(tmp_path, " or ".join(WRONG))
    for name, (_, _, test) in WRONG.items():
        assert re.search(rf"^FAILED .*::{test}\[{name}\]", output, flags=re.MULTILINE), (name, output)
    assert len(re.findall("^FAILED ", output, flags=re.MULTILINE)) <= len(WRONG) + 1, output  # a split twice breaks its flight
