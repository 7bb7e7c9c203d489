"""A folder of cubes, and the dealing of scenes and blocks to splits."""

import os
import zipfile
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
import scipy.io

import datasets
import datasets.folder
from datasets.aviris_bands import centers_nm
from datasets.scene import SceneError, split_entry
from datasets.splitting import blocks, deal, read_list


def save(path, rows=12, cols=16, bands=3, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    cube = np.random.default_rng(seed).random((rows, cols, bands))
    np.savez(path, cube=cube, wavelength_nm=[450, 550, 650][:bands], units="reflectance")
    return cube


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        save(tmp_path / f"scene_{i}.npz", seed=i)
    save(tmp_path / "deep" / "one.npz", seed=9)
    save(tmp_path / ".hidden" / "no.npz")
    save(tmp_path / ".no.npz")
    (tmp_path / "notes.txt").write_text("no cube")
    return tmp_path


def test_scenes_of_a_folder(folder, monkeypatch):
    monkeypatch.setenv("HSFUSION_DATA", str(folder))
    dataset = datasets.get("folder")
    assert list(dataset.paths) == ["deep/one.npz", *(f"scene_{i}.npz" for i in range(6))]
    scene = dataset.read("deep/one.npz")
    assert scene.cube.shape == (3, 12, 16) and scene.units == "reflectance" and scene.name == "deep/one.npz"
    assert list(datasets.get("folder", pattern="deep/*").paths) == ["deep/one.npz"]


def test_split_by_scene(folder):
    splits = datasets.get("folder", root=str(folder)).splits()
    assert [len(splits[s]) for s in ("train", "val", "test")] == [5, 1, 1]
    assert len({entry for entries in splits.values() for entry in entries}) == 7
    assert splits == datasets.get("folder", root=str(folder)).splits()
    assert any(splits != datasets.get("folder", root=str(folder), seed=s).splits() for s in (1, 2, 3))


def gap(a, b):
    (_, first), (_, second) = split_entry(a), split_entry(b)
    return max(max(w.start - v.stop, v.start - w.stop) for w, v in zip(first, second, strict=True))


@pytest.mark.parametrize(("size", "tile", "guard"), [((100, 100), 32, 8), ((61, 145), 16, 5), ((64, 64), 16, 16)])
def test_blocks_keep_their_distance(size, tile, guard):
    entries = blocks("s", size, tile, guard)
    assert len(entries) == ((size[0] + guard) // (tile + guard)) * ((size[1] + guard) // (tile + guard))
    for a, b in combinations(entries, 2):
        assert gap(a, b) >= guard
    for entry in entries:
        base, (rows, cols) = split_entry(entry)
        assert base == "s" and rows.stop - rows.start == cols.stop - cols.start == tile
        assert rows.stop <= size[0] and cols.stop <= size[1]


def test_split_by_blocks(tmp_path):
    cube = save(tmp_path / "a.npz", 48, 40)
    save(tmp_path / "b.npz", 32, 48)
    dataset = datasets.get("folder", root=str(tmp_path), split_by="blocks", tile=8, guard=4)
    splits = dataset.splits()
    everything = [entry for split in ("train", "val", "test") for entry in splits[split]]
    assert all(splits.values()) and len(set(everything)) == len(everything)
    for a, b in combinations(everything, 2):
        assert split_entry(a)[0] != split_entry(b)[0] or gap(a, b) >= 4
    scene = dataset.scene("a.npz[12:20,24:32]")
    native = scene.cube.numpy() * (scene.native_max - scene.native_min) + scene.native_min
    np.testing.assert_allclose(native, cube[12:20, 24:32].transpose(2, 0, 1), atol=1e-6)


def test_digest_follows_content_and_splits(folder):
    def digest(**options):
        return datasets.get("folder", root=str(folder), **options).digest()

    before = digest()
    assert before == digest() != digest(seed=3)
    save(folder / "scene_3.npz", seed=77)
    changed = digest()
    (folder / "scene_3.wavelengths.csv").write_text("450\n550\n650\n")
    assert len({before, changed, digest()}) == 3


def test_files_are_hashed_once_a_process(folder, monkeypatch):
    hashed = []
    whole = datasets.folder.file_digest
    monkeypatch.setattr(datasets.folder, "file_digest", lambda path: hashed.append(path.name) or whole(path))
    for path in folder.rglob("*.npz"):
        os.utime(path, (1e9, 1e9))
    digests = {datasets.get("folder", root=str(folder), seed=seed).digest() for seed in (0, 0, 1, 2)}
    assert len(digests) > 1 and sorted(hashed) == ["one.npz", *(f"scene_{i}.npz" for i in range(6))]
    stat = (folder / "scene_1.npz").stat()
    save(folder / "scene_1.npz", seed=50)  # other bytes of the same number, with the old times set again
    assert (folder / "scene_1.npz").stat().st_size == stat.st_size
    os.utime(folder / "scene_1.npz", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert datasets.get("folder", root=str(folder)).digest() not in digests and hashed[7:] == ["scene_1.npz"]


def test_a_file_changed_within_a_clock_tick_is_looked_at_again(tmp_path):
    seen = []
    for i in range(200):
        (tmp_path / "a").write_bytes(bytes([i]))
        seen.append(datasets.folder._once(Path.read_bytes, tmp_path / "a"))
    assert seen == [bytes([i]) for i in range(200)]
    looks = []
    os.utime(tmp_path / "a")  # now: on a coarse clock the next change could leave the same times
    for _ in range(2):
        datasets.folder._once(looks.append, tmp_path / "a")
    assert len(looks) == 2
    os.utime(tmp_path / "a", (1e9, 1e9))
    for _ in range(2):
        datasets.folder._once(looks.append, tmp_path / "a")
    assert len(looks) == 3


def test_sensor_of_cubes_without_wavelengths(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).random((2, 3, 224)))
    plain, told = (datasets.get("folder", root=str(tmp_path), sensor=sensor) for sensor in ("", "aviris"))
    assert plain.digest() != told.digest() and plain.splits() == told.splits()
    with pytest.raises(SceneError, match=r"0\.npy: 224 bands and no wavelengths.*sensor=aviris"):
        plain.scene("0.npy")
    np.testing.assert_array_equal(told.scene("0.npy").wavelengths, centers_nm())
    with pytest.raises(SceneError, match=r"sensor 'avirs'; choices: aviris\. Did you mean 'aviris'"):
        datasets.get("folder", sensor="avirs")


def test_a_name_that_is_not_utf8_is_told(tmp_path):
    save(tmp_path / "scène.npz")
    assert list(datasets.get("folder", root=str(tmp_path)).paths) == ["scène.npz"]
    (tmp_path / "scène.npz").rename(tmp_path / os.fsdecode(b"sc\xe9ne.npz"))
    with pytest.raises(SceneError, match=r"'sc\\udce9ne\.npz' is not UTF-8.*rename"):
        datasets.get("folder", root=str(tmp_path)).splits()


def test_wrong_folders_are_told(tmp_path):
    (tmp_path / "notes.txt").write_text("no cube")
    with pytest.raises(SceneError) as caught:
        datasets.get("folder", root=str(tmp_path)).splits()
    for words in (str(tmp_path), ".npz", ".mat", ".hdr", ".tif", "HSFUSION_DATA", "1 files"):
        assert words in str(caught.value)
    save(tmp_path / "a.npz")
    with pytest.raises(SceneError, match=r"1 cubes \(a\.npz\).*three.*split_by=blocks"):
        datasets.get("folder", root=str(tmp_path)).splits()
    with pytest.raises(SceneError, match=r"a\.npz: 12 x 16 pixels give 0 blocks of 32.*smaller tile"):
        datasets.get("folder", root=str(tmp_path), split_by="blocks").splits()
    with pytest.raises(SceneError, match=r"'b\.npz'.*choices: a\.npz"):
        datasets.get("folder", root=str(tmp_path)).read("b.npz")
    with pytest.raises(SceneError, match="split_by 'tiles'; choices: scene, blocks"):
        datasets.get("folder", split_by="tiles")
    for options, said in (({"tile": 0}, "tile 0"), ({"tile": -8}, "tile -8"), ({"guard": -1}, "guard -1")):
        with pytest.raises(SceneError, match=said):
            datasets.get("folder", root=str(tmp_path), **options)
        with pytest.raises(SceneError, match=said):
            blocks("s", (9, 9), **{"tile": 1, "guard": 0} | options)


def test_deal_and_lists(tmp_path):
    keys = [f"k{i}" for i in range(40)]
    dealt = deal(keys)
    assert [len(dealt[s]) for s in ("train", "val", "test")] == [28, 6, 6]
    assert sorted(chain(*dealt.values())) == sorted(keys) and dealt == deal(keys[::-1])
    with pytest.raises(SceneError, match=r"2 pieces \(a, b\).*three"):
        deal(["a", "b"])
    (tmp_path / "list.txt").write_text("# all\na\n\n b[0:4,0:8]  # a window\n")
    assert read_list(tmp_path / "list.txt") == ["a", "b[0:4,0:8]"]
    with pytest.raises(SceneError, match=r"none\.txt.*missing"):
        read_list(tmp_path / "none.txt")


FOREIGN = {
    "objects.npy": lambda path: np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True),
    "notes.npz": lambda path: zipped(path, "README.txt", "nothing but words"),
    "objects.npz": lambda path: np.savez(path, what=np.array([{}], dtype=object)),
    "esri.hdr": lambda path: path.write_text("BYTEORDER I\nLAYOUT BIL\nNROWS 12\nNCOLS 16\nNBANDS 3\nNBITS 8\n"),
    "sky.hdr": lambda path: path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 12 +X 16\n\x02\x02"),
    "__MACOSX/scene_0.npz": lambda path: path.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X"),
}


def zipped(path, name, text):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, text)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_sound_file_that_holds_no_cube_stops_nothing(folder, name, capsys):
    before = list(datasets.get("folder", root=str(folder)).paths)
    (folder / name).parent.mkdir(exist_ok=True)
    FOREIGN[name](folder / name)
    assert list(datasets.get("folder", root=str(folder)).paths) == before
    assert "__MACOSX" in name or f"left out, for it is no scene: {folder / name}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["\ufeffENVI\nsamples = 16\n", "\nENVI\nsamples = 16\n"])
def test_an_envi_header_that_begins_with_something_else_is_not_left_out(folder, text):
    (folder / "a.hdr").write_text(text, encoding="utf-8")
    with pytest.raises(SceneError, match=r"a\.hdr: the header does not begin with the word ENVI"):
        datasets.get("folder", root=str(folder)).splits()


def test_a_copy_in_another_format_is_told(folder, capsys):
    """The same values in training and in test would make every score a memory."""
    with np.load(folder / "scene_2.npz") as held:
        scipy.io.savemat(folder / "again.mat", dict(held))
        np.save(folder / "changed.npy", held["cube"] + 0.01)
    (folder / "changed.wavelengths.csv").write_text("450\n550\n650\n")
    paths = list(datasets.get("folder", root=str(folder)).paths)
    assert "again.mat" in paths and "scene_2.npz" not in paths and {"changed.npy", "scene_1.npz"} <= set(paths)
    assert f"left out, for its values are those of {folder / 'again.mat'}: {folder / 'scene_2.npz'}" in capsys.readouterr().err
