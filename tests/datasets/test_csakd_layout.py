"""The authors' on-disk layout, on a miniature built here."""

from itertools import chain

import numpy as np
import pytest
import torch

import datasets
from datasets.aviris_bands import KEPT_172, centers_nm
from datasets.scene import SceneError

FLIGHTS = ("f130411t01p00r11", "f130411t01p00r12", "f180601t01p00r06", "f100517t01p00r09")


def write_tile(folder, name, seed):
    rng = np.random.default_rng(seed)
    cube = rng.integers(-5, 6000, (11, 12, 172)).astype(np.int16)
    with (folder / f"{name}GT.npz.npy").open("wb") as file:
        np.save(file, cube)
    hrmsi = {f"hrmsi{n}": rng.random((8, 12, n)) for n in (4, 6)}
    lrhsi = {key: rng.random((2, 3, 172)) for key in ("lrhsi", "lrhsi1", "lrhsi2", "lrhsi3")}
    np.savez(folder / f"{name}hrmsi.npz", **hrmsi)
    np.savez(folder / f"{name}lrhsi.npz", **lrhsi)
    return cube, hrmsi | lrhsi


@pytest.fixture
def tiles(tmp_path):
    names = [f"{flight}_{i}" for flight in FLIGHTS for i in range(2)]
    written = {name: write_tile(tmp_path, name, i) for i, name in enumerate(names)}
    (tmp_path / "train.txt").write_text(f"{names[0]}\n./data/{names[2]}GT.npz.npy\n\n")
    (tmp_path / "val.txt").write_text(f"C:\\data\\{names[1]}GT.npz\n")
    (tmp_path / "test.txt").write_text(f"{names[4]}lrhsi.npz\n")
    return tmp_path, names, written


def test_tile_and_observations(tiles):
    root, names, written = tiles
    scene = datasets.get("csakd-tiles", root=str(root)).read(names[3])
    cube, given = written[names[3]]
    native = scene.cube.double() * (scene.native_max - scene.native_min) + scene.native_min
    np.testing.assert_allclose(native.numpy(), cube.transpose(2, 0, 1), atol=1e-3)
    assert scene.native_min == cube.min() < 0 and scene.flight == FLIGHTS[1]
    assert scene.band_numbers == KEPT_172 and scene.wavelengths[0] == centers_nm()[10]
    assert set(scene.given) == {"hrmsi4", "hrmsi6", "lrhsi", "lrhsi1", "lrhsi2", "lrhsi3"}
    for key, values in given.items():
        assert scene.given[key].dtype == torch.float32
        np.testing.assert_allclose(scene.given[key].numpy(), values.transpose(2, 0, 1), atol=1e-7)


def test_authors_lists(tiles):
    root, names, _ = tiles
    dataset = datasets.get("csakd-tiles", root=str(root))
    assert dataset.splits() == {"train": [names[0], names[2]], "val": [names[1]], "test": [names[4]]}
    assert [scene.name for scene in dataset.load("train")] == [names[0], names[2]]


def test_split_by_flight_line(tiles):
    root, names, _ = tiles
    dataset = datasets.get("csakd-tiles", root=str(root), lists="flight")
    splits = dataset.splits()
    lines = [{entry.rsplit("_", 1)[0] for entry in splits[split]} for split in ("train", "val", "test")]
    assert sorted(chain(*splits.values())) == sorted(names) and [len(line) for line in lines] == [2, 1, 1]
    assert len(set.union(*lines)) == 4
    assert dataset.digest() != datasets.get("csakd-tiles", root=str(root)).digest()


def test_observations_may_be_absent(tiles):
    root, names, _ = tiles
    dataset = datasets.get("csakd-tiles", root=str(root))
    before = dataset.digest()
    (root / f"{names[0]}hrmsi.npz").unlink()
    assert set(dataset.read(names[0]).given) == {"lrhsi", "lrhsi1", "lrhsi2", "lrhsi3"}
    assert dataset.digest() != before


def test_wrong_tiles_are_told(tiles, tmp_path_factory):
    root, names, _ = tiles
    dataset = datasets.get("csakd-tiles", root=str(root))
    (root / "test.txt").write_text("f999999t01p00r01_0\n")
    with pytest.raises(SceneError, match=r"f999999t01p00r01_0GT\.npz\.npy.*take the line out"):
        list(dataset.load("test"))
    np.savez(root / f"{names[0]}hrmsi.npz", hrmsi4=np.full((8, 12, 4), 3000))
    with pytest.raises(SceneError, match=rf"{names[0]}hrmsi\.npz, hrmsi4: values from 3000 to 3000"):
        dataset.read(names[0])
    np.savez(root / f"{names[0]}hrmsi.npz", hrmsi4=np.zeros((4, 8, 12)))
    with pytest.raises(SceneError, match="hrmsi4: 12 bands on the last axis where 4"):
        dataset.read(names[0])
    np.savez(root / f"{names[0]}hrmsi.npz", hrmsi4=np.full((8, 12, 4), np.nan))
    with pytest.raises(SceneError, match="values from nan to nan"):
        dataset.read(names[0])
    with (root / f"{names[1]}GT.npz.npy").open("wb") as file:
        np.save(file, np.zeros((11, 12, 31)))
    with pytest.raises(SceneError, match=r"GT\.npz\.npy: 31 bands.*172"):
        dataset.read(names[1])
    (root / "val.txt").unlink()
    with pytest.raises(SceneError, match=r"val\.txt.*missing"):
        dataset.splits()
    with pytest.raises(SceneError, match="lists 'random'; choices: authors, flight"):
        datasets.get("csakd-tiles", lists="random")
    with pytest.raises(SceneError, match=r"flight_pattern 'f\[' is no regular expression"):
        datasets.get("csakd-tiles", flight_pattern="f[")
    with pytest.raises(SceneError, match=r"flight_pattern.*lists=authors"):
        datasets.get("csakd-tiles", root=str(root), lists="flight", flight_pattern="r1[0-9]").splits()
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(SceneError, match=rf"{empty}.*GT\.npz\.npy.*HSFUSION_DATA"):
        datasets.get("csakd-tiles", root=str(empty)).read("x")
