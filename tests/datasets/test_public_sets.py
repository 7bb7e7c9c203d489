"""Data sets that others publish: their sources, the files they want and what becomes of these, on made files."""

import re

import numpy as np
import pytest
import scipy.io

import datasets
from datasets.aviris_bands import KEPT_172
from datasets.download import published
from datasets.io import read_all
from datasets.one_image import write_tiff
from datasets.scene import SceneError, registered, split_entry

NAMES = [name for name in published() if name != "tiny"]


def test_all_that_are_asked_for_are_there():
    assert set(NAMES) == {"aviris-lines", "botswana", "cave", "chikusei", "harvard", "houston-2013", "houston-2018",
                          "hyspecnet-11k", "indian-pines", "mdas", "pavia-centre", "pavia-university", "salinas",
                          "washington-dc"}


@pytest.mark.parametrize("name", NAMES)
def test_a_source_is_whole(name):
    source = registered(name).source
    assert source.page.startswith("https://") and source.terms
    assert source.steps or all(remote.url.startswith("https://") for remote in source.remotes)
    for remote in source.remotes:
        assert re.fullmatch(r"|(md5|sha256):[0-9a-f*]{8,64}", remote.checksum) and "/" not in remote.name


@pytest.mark.parametrize("name", NAMES)
def test_missing_files_say_the_command(name, tmp_path):
    with pytest.raises(SceneError, match=f"python run_benchmark.py download {name} --to {re.escape(str(tmp_path))}"):
        datasets.get(name, root=str(tmp_path)).digest()


ONE = [name for name in NAMES if hasattr(registered(name), "wavelengths") and name != "mdas"]


@pytest.mark.parametrize("name", ONE)
def test_windows_of_one_image_keep_their_distance(name):
    """At the size of the real image, which no reader opens here."""
    dataset = datasets.get(name)
    splits = dataset.splits()
    held = splits["val"] + splits["test-same-flight"]
    assert not splits["test"] and len(held) == 2 and len(splits["train"]) == 3
    mask = np.zeros(dataset.size, bool)
    for entry in splits["train"] + held:
        rows, cols = split_entry(entry)[1]
        for window, side, border in zip((rows, cols), dataset.size, dataset.border):
            assert border <= window.start < window.stop <= side - border
        assert not mask[rows, cols].any()
        mask[rows, cols] = True
    for entry in held:
        rows, cols = split_entry(entry)[1]
        assert min(rows.stop - rows.start, cols.stop - cols.start) >= 28
        mask[rows, cols] = False
        around = mask[rows.start - 20 : rows.stop + 20, cols.start - 20 : cols.stop + 20]
        assert not around.any()
        mask[rows, cols] = True
    customary = datasets.get(name, guard=0).splits()
    assert customary["test-same-flight"] == splits["test-same-flight"] and customary["train"] != splits["train"]
    with pytest.raises(SceneError, match="guard 5000; choose at most"):
        datasets.get(name, guard=5000).splits()


def test_bands_of_the_real_files():
    bands = {"pavia-centre": 102, "pavia-university": 103, "botswana": 145, "salinas": 204, "indian-pines": 200,
             "chikusei": 128, "washington-dc": 191, "houston-2013": 144, "houston-2018": 48}
    for name in ONE:
        assert len(registered(name).wavelengths) == bands.pop(name)
    assert not bands
    salinas, botswana = registered("salinas"), registered("botswana")
    assert set(KEPT_172) <= set(salinas.band_numbers) and not set(salinas.band_numbers) & {108, 112, 154, 167, 224}
    # centres of bands 10, 55, 82 and 220 in the table of the USGS
    np.testing.assert_allclose(botswana.wavelengths[[0, 45, 46, -1]], [447.17, 905.05, 962.91, 2355.21], atol=1)
    water = [np.abs(registered(name).wavelengths - 1400).min() for name in ("salinas", "indian-pines")]
    assert min(water) > 11  # a gap, where neighbours are 10 nm apart: the bands left out are those of water vapour
    assert registered("mdas").wavelengths.shape == (242,)


def test_wavelengths_beside_an_image_replace_the_made_ones(tmp_path):
    build, _ = registered("pavia-university").miniature(tmp_path)
    before = build[0]().digest()
    lines = np.linspace(420, 850, 103)
    (tmp_path / "pavia-university" / "PaviaU.wavelengths.csv").write_text("\n".join(map(str, lines)))
    np.testing.assert_allclose(build[0]().read("pavia-university").wavelengths, lines)
    assert build[0]().digest() != before


def test_another_image_is_refused(tmp_path):
    (tmp_path / "salinas").mkdir()
    scipy.io.savemat(tmp_path / "salinas" / "Salinas_corrected.mat", {"x": np.zeros((5, 5, 204))})
    with pytest.raises(SceneError, match="5 x 5 pixels where the data set has 512 x 217"):
        datasets.get("salinas", root=str(tmp_path)).read("salinas")
    scipy.io.savemat(tmp_path / "salinas" / "Salinas_corrected.mat", {"x": np.zeros((512, 217, 4))})
    with pytest.raises(SceneError, match="4 bands with data where the data set has 204"):
        datasets.get("salinas", root=str(tmp_path)).read("salinas")


def test_cave_reads_16_bits_and_says_what_it_tests(tmp_path):
    builds, native = registered("cave").miniature(tmp_path)
    scene = builds[0]().read("beads")
    assert scene.native_max > 60_000 and len(np.unique(native["beads"])) > 1000
    assert len(np.unique(scene.cube.numpy())) == len(np.unique(native["beads"]))  # no digit is lost
    apart, customary = (build().splits() for build in builds)
    assert [len(customary[split]) for split in ("train", "val", "test")] == [18, 2, 12]
    assert set(customary["test"]) - set(apart["test"]) == {"photo_and_face", "real_and_fake_peppers"}


def test_hyspecnet_shares_images_only_where_it_says_so(tmp_path):
    hard, easy = (build() for build in registered("hyspecnet-11k").miniature(tmp_path)[0])
    trained = {scene.flight for scene in hard.load("train")}
    assert not trained & {scene.flight for scene in hard.load("test")}
    assert {scene.flight for scene in easy.load("train")} & {scene.flight for scene in easy.load("test-same-flight")}
    scene = next(hard.load("test"))
    assert scene.bands == 202 and (np.diff(scene.wavelengths) > 0).all() and scene.valid is None
    path = hard.path(scene.name)
    stored = read_all(path)["cube"]
    stored[3, 2, 1] = -32768
    write_tiff(path, stored)
    assert (~hard.read(scene.name).valid).nonzero().tolist() == [[2, 1]]
    write_tiff(path, np.full_like(stored, -32768))
    with pytest.raises(SceneError, match="no pixel holds data; take the patch out"):
        hard.read(scene.name)


def test_mdas_comes_with_observations_on_the_scale_of_its_reference(tmp_path):
    builds, _ = registered("mdas").miniature(tmp_path)
    scene = builds[0]().read("sub_area_2")
    assert scene.given["lrhsi"].shape == (242, 4, 5) and scene.given["hrmsi4"].shape == (4, 12, 15)
    path = next(tmp_path.rglob("Sentinel_2_sub_area2.tif"))
    sentinel = read_all(path)["cube"]
    back = scene.given["hrmsi4"].numpy() * (scene.native_max - scene.native_min) + scene.native_min
    np.testing.assert_allclose(back, sentinel[[1, 2, 3, 7]], atol=0.01)
    write_tiff(path, sentinel[:, :10])
    with pytest.raises(SceneError, match="do not fit the reference"):
        builds[0]().read("sub_area_2")


def test_houston_2018_says_how_to_convert(tmp_path):
    (tmp_path / "houston-2018").mkdir()
    (tmp_path / "houston-2018" / "20170218_UH_CASI_S4_NAD83.pix").write_bytes(b"")
    with pytest.raises(SceneError, match=r"NAD83\.pix: a PCIDSK file.*rio convert"):
        datasets.get("houston-2018", root=str(tmp_path)).read("houston-2018")
