"""Every reader against a file that something else wrote, and every way a file can be wrong."""

import h5py
import numpy as np
import pytest
import scipy.io

from datasets.aviris_bands import KEPT_172, centers_nm
from datasets.io import READERS, cube_size, data_root, read_all, read_cube, read_native
from datasets.scene import Scene, SceneError

ROWS, COLS, BANDS = 3, 5, 4
WAVELENGTHS = np.array([450.0, 550.0, 650.0, 850.0])
# The value tells the place, so that no transposition or flip can pass: 100 * row + 10 * column + band.
CUBE = np.fromfunction(lambda r, c, b: 100 * r + 10 * c + b, (ROWS, COLS, BANDS)).astype(np.int16)


def check(path, wavelengths=WAVELENGTHS):
    cube, words = read_cube(path)
    assert cube.shape == (BANDS, ROWS, COLS)
    assert cube_size(path) == (ROWS, COLS)
    for band, row, col in np.ndindex(cube.shape):
        assert cube[band, row, col] == 100 * row + 10 * col + band
    np.testing.assert_allclose(words["wavelengths"], wavelengths)
    return words


def test_npz_with_words(tmp_path):
    path = tmp_path / "a.npz"
    other = np.zeros((2, 2, 2))
    np.savez(path, cube=CUBE, other=other, wavelength_nm=WAVELENGTHS, band_number=[0, 7, 8, 9], name="x", units="DN")
    words = check(path)
    assert words["band_numbers"] == (0, 7, 8, 9) and words["name"] == "x" and words["units"] == "DN"
    assert set(read_all(path)) == {"cube", "other"} and read_all(path)["cube"].shape == (BANDS, ROWS, COLS)


def test_npz_takes_the_only_cube_and_micrometres(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", whatever=CUBE, mask=np.zeros((ROWS, COLS)), wavelengths=WAVELENGTHS / 1000)
    check(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_npy_with_wavelengths_beside_it(tmp_path, suffix):
    np.save(tmp_path / "a.npy", np.asfortranarray(CUBE))
    (tmp_path / f"a.wavelengths.{suffix}").write_text("# nm\n450\n550\n650\n850\n")
    check(tmp_path / "a.npy")


def test_wavelengths_beside_a_file_win_over_its_own(tmp_path):
    np.savez(tmp_path / "a.npz", cube=CUBE, wavelength_nm=WAVELENGTHS)
    (tmp_path / "a.wavelengths.csv").write_text("400\n500\n600\n2500\n")
    check(tmp_path / "a.npz", [400, 500, 600, 2500])


@pytest.mark.parametrize("compressed", [True, False])
def test_matlab_5(tmp_path, compressed):
    mask = np.zeros((ROWS, COLS))
    content = {"scene": CUBE, "wavelength": WAVELENGTHS, "map": mask, "units": "radiance"}
    scipy.io.savemat(tmp_path / "a.mat", content, do_compression=compressed)
    assert check(tmp_path / "a.mat")["units"] == "radiance"


def test_matlab_73_reverses_axes(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:  # MATLAB puts 512 bytes before the HDF5 part
        file["scene"] = np.transpose(CUBE, (2, 1, 0))
        file["wavelength"] = WAVELENGTHS[:, None]
    check(tmp_path / "a.mat")


ENVI_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}


def write_envi(folder, kind=2, interleave="bsq", order=0, offset=0, raw="a.raw", units="Nanometers", scale=1.0):
    disk = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}[interleave]
    dtype = np.dtype(ENVI_TYPES[kind]).newbyteorder("<>"[order])
    values = np.ascontiguousarray(CUBE.transpose(disk)).astype(dtype)
    (folder / raw).write_bytes(b"\x7f" * offset + values.tobytes())
    listed = ",\n ".join(f"{w * scale:g}" for w in WAVELENGTHS)
    (folder / "a.hdr").write_text(
        f"ENVI\ndescription = {{made = by hand}}\nsamples = {COLS}\nlines   = {ROWS}\nbands = {BANDS}\n"
        f"header offset = {offset}\ndata type = {kind}\ninterleave = {interleave}\nbyte order = {order}\n"
        f"wavelength units = {units}\nwavelength = {{\n {listed}}}\n"
    )
    return folder / "a.hdr"


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("order", [0, 1])
def test_envi_layouts(tmp_path, interleave, order):
    check(write_envi(tmp_path, interleave=interleave, order=order, offset=17))


@pytest.mark.parametrize("kind", [k for k in ENVI_TYPES if k != 1])  # 1 is a byte: 244 does not fit the pattern's 214
def test_envi_types(tmp_path, kind):
    path = write_envi(tmp_path, kind=kind, order=1)
    check(path)
    assert read_cube(path)[0].dtype == np.dtype(ENVI_TYPES[kind])


def test_envi_bytes(tmp_path):
    check(write_envi(tmp_path, kind=1))


@pytest.mark.parametrize("raw", ["a", "a.img", "a.dat"])
def test_envi_raw_names_and_micrometres(tmp_path, raw):
    check(write_envi(tmp_path, raw=raw, units="Micrometers", scale=1e-3))


def test_geotiff_in_each_band_order(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "a.wavelengths.txt").write_text("450\n550\n650\n850\n")
    tifffile.imwrite(tmp_path / "a.tif", CUBE, photometric="minisblack", planarconfig="contig")
    check(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", CUBE.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate")
    check(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", CUBE.transpose(2, 0, 1), photometric="minisblack")  # a page a band
    check(tmp_path / "a.tif")


def test_224_bands_are_aviris_where_somebody_says_so(tmp_path):
    cube = np.random.default_rng(0).random((2, 3, 224))
    np.save(tmp_path / "a.npy", cube)
    with pytest.raises(SceneError, match=r"a\.npy: 224 bands and.*a\.wavelengths\.csv.*if it is AVIRIS, say sensor=aviris"):
        read_cube(tmp_path / "a.npy")
    _, words = read_cube(tmp_path / "a.npy", "aviris")
    np.testing.assert_array_equal(words["wavelengths"], centers_nm())
    assert words["band_numbers"] == tuple(range(1, 225))
    words["wavelengths"][0] = 0  # the table itself stays as it is
    assert centers_nm()[0] == 383.15
    np.save(tmp_path / "c.npy", cube[..., :200])
    with pytest.raises(SceneError, match=r"c\.npy: 200 bands.*sensor=aviris is not it: that has 224"):
        read_cube(tmp_path / "c.npy", "aviris")


def test_wavelengths_tell_aviris(tmp_path):
    """A later calibration lies up to 19.4 nm off the table (365.93 nm for band 1); EnMAP has 224 bands from 418 to 2445 nm."""
    cube = np.random.default_rng(0).random((2, 3, 224))
    np.savez(tmp_path / "a.npz", cube=cube, wavelength_nm=centers_nm() - 19.4)
    assert read_cube(tmp_path / "a.npz")[1]["band_numbers"] == tuple(range(1, 225))
    for first, last in ((418, 2445), (400, 2500), (380, 2500)):
        np.savez(tmp_path / "b.npz", cube=cube, wavelength_nm=np.linspace(first, last, 224))
        for sensor in ("", "aviris"):  # what a file says itself is not overruled
            _, words = read_cube(tmp_path / "b.npz", sensor)
            assert "band_numbers" not in words and words["wavelengths"][-1] == last


def test_band_table():
    assert centers_nm().shape == (224,) and centers_nm()[0] == 383.15 and 2490 < centers_nm()[-1] < 2520
    assert len(KEPT_172) == 172 and KEPT_172[0] == 11 and KEPT_172[-1] == 214
    assert not set(KEPT_172) & {10, 104, 116, 152, 170, 215} and {103, 117, 151, 171} <= set(KEPT_172)


def save_two_cubes(path):
    np.savez(path, first=CUBE, second=CUBE)


def save_flat(path):
    scipy.io.savemat(path, {"image": CUBE[..., 0]})


def save_no_wavelengths(path):
    np.save(path, CUBE)


def save_complex(path):
    np.savez(path, cube=CUBE * 1j, wavelength_nm=WAVELENGTHS)


def save_bad_wavelengths(path):
    np.savez(path, cube=CUBE, wavelength_nm=[450, np.nan, 650, 850])


def save_header_alone(path):
    write_envi(path.parent)
    (path.parent / "a.raw").unlink()


def save_short_raw(path):
    write_envi(path.parent)
    raw = path.parent / "a.raw"
    raw.write_bytes(raw.read_bytes()[:-3])


def save_complex_envi(path):
    write_envi(path.parent)
    path.write_text(path.read_text().replace("data type = 2", "data type = 6"))


def save_half_header(path):
    path.write_text("ENVI\nsamples = 5\n")


@pytest.mark.parametrize(
    ("file", "save", "said"),
    [
        ("a.npz", save_two_cubes, ["2 three-dimensional", "first (3, 5, 4)", "'cube'"]),
        ("a.mat", save_flat, ["0 three-dimensional", "image (3, 5)"]),
        ("a.npy", save_no_wavelengths, ["4 bands", "nanometres", "a.wavelengths.csv"]),
        ("a.npz", save_complex, ["complex128", "real"]),
        ("a.npz", save_bad_wavelengths, ["wavelengths", "positive"]),
        ("a.hdr", save_header_alone, ["no raw file", "a.raw", "a.img"]),
        ("a.hdr", save_short_raw, ["117 bytes", "120", "a.hdr", "copy it again"]),
        ("a.hdr", save_complex_envi, ["data type 6", "1, 2, 3, 4, 5, 12", "bsq, bil, bip"]),
        ("a.hdr", save_half_header, ["lines, bands, data type, interleave"]),
        ("a.jpg", lambda path: path.write_bytes(b"x"), ["'.jpg'", *READERS]),
        ("a.npz", lambda path: None, ["no such file"]),
    ],
)
def test_wrong_files_are_told(tmp_path, file, save, said):
    save(tmp_path / file)
    with pytest.raises(SceneError) as caught:
        read_cube(tmp_path / file)
    text = str(caught.value)
    assert str(tmp_path) in text and "\n" not in text.strip()
    for words in said:
        assert words in text


def write_big(path, kind):
    cube = np.random.default_rng(0).integers(0, 9000, (20, 30, 12)).astype(np.int16)
    words = {"cube": cube, "wavelength": np.linspace(400, 900, 12)}
    if kind == "v7.3":
        with h5py.File(path, "w") as file:
            file["cube"] = cube.T
            file["wavelength"] = words["wavelength"]
    elif kind == "npz":
        np.savez_compressed(path, **words)
    elif kind == "npy":
        np.save(path, cube)
    elif kind == "tif":
        pytest.importorskip("tifffile").imwrite(path, cube)
    else:
        scipy.io.savemat(path, words, do_compression=kind == "v5 compressed")


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.98])
@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("v5", "mat"), ("v5 compressed", "mat"), ("v7.3", "mat"), ("npz", "npz"), ("npy", "npy"), ("tif", "tif")],
)
def test_truncated_files_are_told(tmp_path, kind, suffix, kept):
    path = tmp_path / f"cut.{suffix}"
    write_big(path, kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(SceneError, match=rf"cut\.{suffix}"):
        read_cube(path)


def test_unusable_cubes_are_told():
    cube = CUBE.astype(float).transpose(2, 0, 1)
    hole = cube.copy()
    hole[1, 2, 3] = np.nan
    with pytest.raises(SceneError, match=r"'s'.*1 of 60 values are NaN.*band 1, row 2, column 3"):
        Scene.from_native("s", hole, WAVELENGTHS)
    with pytest.raises(SceneError, match=r"'s'.*constant.*7"):
        Scene.from_native("s", np.full_like(cube, 7), WAVELENGTHS)
    with pytest.raises(SceneError, match="3 wavelengths for 4 bands"):
        Scene.from_native("s", cube, WAVELENGTHS[:3])
    with pytest.raises(SceneError, match=r"\(bands, rows, columns\)"):
        Scene.from_native("s", cube[0], WAVELENGTHS)


def test_data_root(tmp_path, monkeypatch):
    monkeypatch.delenv("HSFUSION_DATA", raising=False)
    with pytest.raises(SceneError, match="export HSFUSION_DATA"):
        data_root(None)
    monkeypatch.setenv("HSFUSION_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(SceneError, match=r"nowhere.*HSFUSION_DATA"):
        data_root(None)
    assert data_root(tmp_path) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "cubes").mkdir()
    assert data_root("~/cubes") == tmp_path / "cubes"
    monkeypatch.setenv("HSFUSION_DATA", "~/cubes")
    assert data_root(None) == tmp_path / "cubes"


def test_pages_of_a_tiff_are_bands_in_their_order(tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="writes TIFF files of pages, which GDAL does not")
    cube = np.arange(12 * 6 * 5).reshape(12, 6, 5).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", cube, photometric="minisblack")
    (tmp_path / "x.wavelengths.csv").write_text("\n".join(str(400 + 10 * band) for band in range(12)))
    assert np.array_equal(read_cube(tmp_path / "x.tif")[0], cube)


def test_band_numbers_of_another_array_are_not_this_ones(tmp_path):
    np.savez(tmp_path / "x.npz", cube=np.ones((4, 5, 7)), msi=np.ones((8, 10, 3)), band_number=np.arange(1, 8))
    cube, words = read_native(tmp_path / "x.npz", array="msi")
    assert cube.shape == (3, 8, 10) and "band_numbers" not in words
    assert read_native(tmp_path / "x.npz", array="cube")[1]["band_numbers"] == tuple(range(1, 8))


def test_one_of_several_images_is_asked_for_by_its_name(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"pan": CUBE[..., 0], "cloud": CUBE[..., 1]})
    with pytest.raises(SceneError, match=r"2 images \(rows, columns\), pan, cloud; name the one .* a\.mat:pan"):
        read_native(tmp_path / "a.mat", flat=True)
    np.testing.assert_array_equal(read_native(tmp_path / "a.mat", array="cloud", flat=True)[0], CUBE[..., 1][None])


@pytest.mark.parametrize("array", ["hsi.Data", "hsi/Data", "/hsi/Data"])
def test_a_field_of_a_struct_by_either_separator(tmp_path, array):
    scipy.io.savemat(tmp_path / "a.mat", {"hsi": {"Data": CUBE}, "other": CUBE + 1})
    np.testing.assert_array_equal(read_native(tmp_path / "a.mat", array=array)[0], CUBE.transpose(2, 0, 1))


@pytest.mark.parametrize("text", ['"450,5"\n"550,5"\n"650,5"\n"850,25"\n',
                                  '"Wavelength (nm)"\n"450,5"\n"550,5"\n"650,5"\n"850,25"\n',
                                  '1,"450,5"\n2,"550,5"\n3,"650,5"\n4,"850,25"\n'])
def test_decimal_commas_in_quotes(tmp_path, text):
    np.save(tmp_path / "a.npy", CUBE)
    (tmp_path / "a.wavelengths.csv").write_text(text)
    np.testing.assert_array_equal(read_cube(tmp_path / "a.npy")[1]["wavelengths"], [450.5, 550.5, 650.5, 850.25])
