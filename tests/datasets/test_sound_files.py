"""Files that other programs write and read are read, and what counts as a scene of a folder."""

import os

import h5py
import numpy as np
import pytest
import rasterio
import scipy.io
import torch

import datasets
from datasets.io import cube_shape, read_cube, read_native
from datasets.scene import Scene, SceneError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
NM = [450.5, 550.5, 650.5, 850.5]
CUBE = np.fromfunction(lambda b, r, c: 100 * r + 10 * c + b, (4, 3, 5)).astype(np.int16)  # (bands, rows, columns)
HEADER = ["ENVI", "samples = 5", "lines = 3", "bands = 4", "header offset = 0", "data type = 2", "interleave = bsq",
          "byte order = 0", "wavelength = {450.5, 550.5, 650.5, 850.5}"]


def raster(path, values, driver="GTiff", **profile):
    with rasterio.open(path, "w", driver=driver, count=len(values), height=values.shape[1], width=values.shape[2],
                       dtype=values.dtype, **profile) as file:
        file.write(values)
    return path


@pytest.mark.parametrize("compress", ["LZW", "DEFLATE", "ZSTD", "LZMA", "PACKBITS"])
@pytest.mark.parametrize("more", [{}, {"predictor": 2, "tiled": True, "blockxsize": 16, "blockysize": 16}])
def test_compressed_geotiff(tmp_path, compress, more):
    more = more if compress in ("LZW", "DEFLATE", "ZSTD") else {}
    np.testing.assert_array_equal(read_native(raster(tmp_path / "a.tif", CUBE, compress=compress, **more))[0], CUBE)


def test_pages_of_a_tiff_are_bands_which_is_told(tmp_path, capsys):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", CUBE, photometric="minisblack")
    np.testing.assert_array_equal(read_native(tmp_path / "a.tif")[0], CUBE)
    assert "4 pages are taken as bands of 3 x 5 pixels" in capsys.readouterr().err


def test_matlab_structs(tmp_path):
    scipy.io.savemat(tmp_path / "v5.mat", {"hsi": {"Data": CUBE.transpose(1, 2, 0), "info": {"wavelength": NM}}})
    with h5py.File(tmp_path / "v73.mat", "w", userblock_size=512) as file:
        file["hsi/Data"] = CUBE.transpose(0, 2, 1)
        file["hsi/info/wavelength"] = np.array(NM)[:, None]
        file["#refs#/a"] = np.zeros((2, 2, 2))
    for name in ("v5.mat", "v73.mat"):
        cube, words = read_cube(tmp_path / name)
        np.testing.assert_array_equal(cube, CUBE)
        np.testing.assert_allclose(words["wavelengths"], NM)
        with pytest.raises(SceneError, match=r"no three-dimensional array 'hsi'; choices: hsi\.Data"):
            read_native(tmp_path / name, array="hsi")


def test_one_band_is_an_image_where_one_is_asked_for(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"pan": CUBE[0]})
    for path in (tmp_path / "a.mat", raster(tmp_path / "a.tif", CUBE[:1])):
        np.testing.assert_array_equal(read_native(path, flat=True)[0], CUBE[:1])
    with pytest.raises(SceneError, match="0 three-dimensional"):
        read_native(tmp_path / "a.mat")


@pytest.mark.parametrize(("line", "other"), [
    (4, "header offset ="), (5, "data type = 2 ; int16"), (8, "wavelength = {450.5 nm, 550.5 nm, 650.5 nm, 850.5 nm}"),
    (6, "Interleave = BSQ"), (3, "BANDS=4"), (1, "samples  =5   "), (8, "wavelength = {\r\n450.5,\r\n550.5,650.5, 850.5 }\r"),
    (7, "; a comment\nbyte order = 0"), (0, "ENVI\ndescription = {made = by\n hand, bands = 7}"),
])
def test_lenient_envi_headers(tmp_path, line, other):
    (tmp_path / "a.hdr").write_text("\n".join([*HEADER[:line], other, *HEADER[line + 1 :]]) + "\n")
    (tmp_path / "a.img").write_bytes(CUBE.tobytes())
    cube, words = read_cube(tmp_path / "a.hdr")
    np.testing.assert_array_equal(cube, CUBE)
    np.testing.assert_allclose(words["wavelengths"], NM)


@pytest.mark.parametrize(("header", "raw"), [("a.hdr", "a.IMG"), ("a.HDR", "a.dat"), ("a.img.hdr", "a.img"), ("a.hdr", "a")])
def test_names_of_envi_files(tmp_path, header, raw):
    (tmp_path / header).write_text("\n".join(HEADER) + "\n")
    (tmp_path / raw).write_bytes(CUBE.tobytes())
    np.testing.assert_array_equal(read_cube(tmp_path / header)[0], CUBE)


def test_upper_case_suffixes(tmp_path):
    np.savez(tmp_path / "a", cube=CUBE.transpose(1, 2, 0))
    (tmp_path / "a.npz").rename(tmp_path / "A.NPZ")
    (tmp_path / "A.WAVELENGTHS.CSV").write_text("\n".join(map(str, NM)))
    np.testing.assert_array_equal(read_cube(tmp_path / "A.NPZ")[1]["wavelengths"], NM)


LINES = "450.5\n550.5\n650.5\n850.5\n"


@pytest.mark.parametrize("content", [
    b"\xef\xbb\xbf" + LINES.encode(), LINES.encode("utf-16"), LINES.encode("utf-16-le"), LINES.encode("utf-16-be"),
    "波长 (nm)\n".encode("gbk") + LINES.encode(), ("wavelength_nm\r\n" + LINES.replace("\n", "\r\n")).encode(),
    LINES.replace(".", ",").encode(), b"1,450.5\n2,550.5\n3,650.5\n4,850.5",
    b"band;wavelength\n1;450,5\n2;550,5\n3;650,5\n4;850,5",
    b"1\t450.5\n2\t550.5\n3\t650.5\n4\t850.5\n", b"450.5,550.5,650.5,850.5\n", b"450.5 550.5 650.5 850.5",
    b"fwhm,wavelength\n9,450.5\n9,550.5\n9,650.5\n9,850.5", b"Wavelength (um)\n.4505\n.5505\n.6505\n.8505\n",
    b"wavelength [Angstroms]\n4505\n5505\n6505\n8505\n", b"# nm\n\n450.5 # blue\n550.5\n650.5\n850.5",
    b'"450.5"\n"550.5"\n"650.5"\n"850.5"',
    b"450.5 nm\n550.5 nm\n650.5 nm\n850.5 nm\n", b"450.5,\n550.5,\n650.5,\n850.5,\n",
])
def test_sidecars_as_programs_write_them(tmp_path, content):
    np.save(tmp_path / "a.npy", CUBE.transpose(1, 2, 0))
    (tmp_path / "a.wavelengths.csv").write_bytes(content)
    np.testing.assert_allclose(read_cube(tmp_path / "a.npy")[1]["wavelengths"], NM)


@pytest.mark.parametrize(("content", "said"), [
    ("", "no number"), ("nm\n", "no number"), ("450\n550\nred\n850\n", "line 3, 'red'"),
    ("450\n550\n", "2 wavelengths for 4 bands"),
    ("450.5,9.5\n550.5,9.5\n650.5,9.5\n850.5,9.5\n", "line 1, '450.5,9.5', has 2 numbers"),
    ("450\n550,1\n650\n850\n", "line 2, '550,1', has 2 numbers where the first has 1"), ("1\n2\n3\n4\n", "band numbers"),
    ("450\n-550\n650\n850\n", "positive"),
])
def test_sidecars_that_cannot_be_understood(tmp_path, content, said):
    np.save(tmp_path / "a.npy", CUBE.transpose(1, 2, 0))
    (tmp_path / "a.wavelengths.csv").write_text(content)
    with pytest.raises(SceneError, match=rf"a\.wavelengths\.csv.*{said}"):
        read_cube(tmp_path / "a.npy")


def test_bands_on_the_first_axis(tmp_path):
    np.savez(tmp_path / "a.npz", cube=CUBE, wavelength_nm=NM)
    with pytest.raises(SceneError, match=r"4 wavelengths for 5 bands.*last axis.*band_first=true.*--band-first"):
        read_cube(tmp_path / "a.npz")
    np.testing.assert_array_equal(read_cube(tmp_path / "a.npz", band_first=True)[0], CUBE)
    assert cube_shape(tmp_path / "a.npz", band_first=True) == (4, 3, 5)
    np.savez(tmp_path / "b.npz", cube=CUBE.transpose(1, 2, 0), wavelength_nm=NM)
    with pytest.raises(SceneError, match="leave that out"):
        read_cube(tmp_path / "b.npz", band_first=True)
    with rasterio.open(raster(tmp_path / "a.tif", CUBE)):  # its format says which axis is which
        np.testing.assert_array_equal(read_native(tmp_path / "a.tif", band_first=True)[0], CUBE)


# ----------------------------------------------------------------------------------------------------- scenes of a folder


def save(path, bands=4, seed=0, size=24, **words):
    cube = np.random.default_rng(seed).random((size, size, bands))
    np.savez(path, cube=cube, wavelength_nm=np.linspace(450, 850, bands), **words)
    return cube


def test_what_is_no_scene_is_left_out_and_told(tmp_path, capsys):
    for i in range(3):
        save(tmp_path / f"s{i}.npz", seed=i)
    scipy.io.savemat(tmp_path / "s0_gt.mat", {"gt": np.ones((24, 24), np.uint8)})
    raster(tmp_path / "gt.tif", np.ones((1, 24, 24), np.uint8))
    np.save(tmp_path / "wavelengths.npy", NM)
    (tmp_path / "half.mat").touch()
    (tmp_path / "copy.npz").write_bytes((tmp_path / "s1.npz").read_bytes())
    (tmp_path / "link.npz").symlink_to(tmp_path / "s2.npz")
    (tmp_path / "loop.npz").symlink_to(tmp_path / "loop.npz")
    (tmp_path / "below").symlink_to(tmp_path)
    dataset = datasets.get("folder", root=str(tmp_path))
    assert len(dataset.paths) == 3 and len({path.resolve() for path in dataset.paths.values()}) == 3
    told = capsys.readouterr().err
    for name in ("s0_gt.mat", "gt.tif", "wavelengths.npy", "half.mat", "s1.npz", "s2.npz"):
        assert name in told, name
    assert told.count("left out") == 6
    (tmp_path / "cut.npz").write_bytes((tmp_path / "s0.npz").read_bytes()[:300])
    with pytest.raises(SceneError, match=r"cut\.npz.*damaged"):
        datasets.get("folder", root=str(tmp_path)).splits()


def test_mixed_numbers_of_bands_are_refused_before_training(tmp_path):
    for i, bands in enumerate((16, 16, 20)):
        save(tmp_path / f"s{i}.npz", bands, i)
    dataset = datasets.get("folder", root=str(tmp_path))
    assert dataset.entries("test")  # where nothing is trained they may differ
    with pytest.raises(SceneError, match=r"s2\.npz has 20 bands, s0\.npz 16"):
        dataset.entries("train")


@pytest.mark.parametrize("declared", [False, True])
def test_blocks_without_data_are_not_dealt(tmp_path, capsys, declared):
    cube = save(tmp_path / "line.npz", 8, size=96) + 1
    rows, cols = np.indices((96, 96))
    outside = np.abs(rows + cols - 95) > 70
    cube[outside] = 0
    np.savez(tmp_path / "line.npz", cube=cube, wavelength_nm=np.linspace(450, 850, 8))
    dataset = datasets.get("folder", root=str(tmp_path), split_by="blocks", tile=12, guard=4, nodata=0 if declared else None)
    entries = [entry for entries in dataset.splits().values() for entry in entries]
    assert 3 < len(entries) < 36
    assert f"{36 - len(entries)} of 36 blocks hold data in less than half" in capsys.readouterr().err
    scenes = [dataset.scene(entry) for entry in entries]
    assert all(scene.cube.flatten(1).std(1).min() > 0 for scene in scenes)
    assert any(scene.valid is not None for scene in scenes) == declared
    other = datasets.get("folder", root=str(tmp_path), split_by="blocks", tile=12, guard=4)
    assert (other.digest() == dataset.digest()) == (not declared)


def test_options_at_their_defaults_leave_the_digest(tmp_path):
    for i in range(3):
        save(tmp_path / f"s{i}.npz", seed=i)
    plain = datasets.get("folder", root=str(tmp_path)).digest()
    files = [[f"s{i}.npz", f"s{i}.npz", (tmp_path / f"s{i}.npz").stat().st_size,
              datasets.folder.file_digest(tmp_path / f"s{i}.npz")] for i in range(3)]
    assert plain == datasets.folder.content_digest([files, datasets.get("folder", root=str(tmp_path)).splits()])
    assert len({plain, *(datasets.get("folder", root=str(tmp_path), nodata=value).digest() for value in ("0", "-9999"))}) == 3


def test_a_folder_of_band_images_is_a_scene(tmp_path):
    folder = tmp_path / "balloons_ms"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 65536, (12, 8, 9)).astype(np.uint16)
    for band, image in enumerate(values, 1):
        raster(folder / f"balloons_ms_{band}.png", image[None], "PNG")  # 10 comes after 9
    raster(folder / "preview.png", np.zeros((3, 4, 4), np.uint8), "PNG")
    (tmp_path / "balloons_ms.wavelengths.csv").write_text("\n".join(str(400 + 10 * i) for i in range(12)))
    cube, words = read_cube(folder)
    assert cube.dtype == np.uint16 and words["wavelengths"][-1] == 510
    np.testing.assert_array_equal(cube, values)
    dataset = datasets.get("folder", root=str(tmp_path), split_by="blocks", tile=2, guard=0)
    assert list(dataset.paths) == ["balloons_ms"] and dataset.digest() and dataset.read("balloons_ms").bands == 12


def test_a_name_that_is_not_utf8_is_told_by_gdal_too(tmp_path):
    path = raster(tmp_path / "a.tif", CUBE)
    path = path.rename(tmp_path / os.fsdecode(b"sc\xe9ne.tif"))
    with pytest.raises(SceneError, match=r"is not UTF-8.*rename"):
        read_native(path)


def test_a_mask_travels_with_its_scene(tmp_path):
    cube = np.random.default_rng(0).random((3, 6, 8)) + 1
    valid = np.ones((6, 8), bool)
    valid[2:, 5:] = False
    cube[:, ~valid] = 999
    scene = Scene.from_native("s", cube, np.array([450, 550, 650]), valid)
    assert scene.native_max < 2 and scene.cube.min() == 0 and scene.cube.max() == 1
    for row, col in zip(*np.nonzero(~valid)):  # filled with one of the nearest spectra there are
        distance = {(r, c): (r - row) ** 2 + (c - col) ** 2 for r, c in zip(*np.nonzero(valid))}
        near = [scene.cube[:, r, c] for (r, c), d in distance.items() if d == min(distance.values())]
        assert any(torch.equal(scene.cube[:, row, col], spectrum) for spectrum in near)
    window = scene.crop(slice(1, 4), slice(3, 8)).select(np.array([2, 0])).copy().rescaled()
    assert torch.equal(window.valid, torch.from_numpy(valid[1:4, 3:8])) and window.seen.min() == 0 and window.seen.max() == 1
    with pytest.raises(SceneError, match="no pixel of this window holds data"):
        scene.crop(slice(3, 6), slice(6, 8)).rescaled()
