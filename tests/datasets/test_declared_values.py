"""What a file declares about its own values is obeyed or refused by name; files are written by rasterio, h5py and by hand."""

import h5py
import numpy as np
import pytest
import rasterio
import scipy.io

from datasets.io import cube_files, cube_shape, read_cube, read_native
from datasets.scene import Scene, SceneError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
NM = np.array([450.0, 550.0, 650.0, 850.0])
CUBE = np.fromfunction(lambda b, r, c: 100 * r + 10 * c + b, (4, 3, 5)).astype(np.int16)  # (bands, rows, columns)


def write_envi(path, cube=CUBE, raw=".img", more="", wavelengths="450, 550, 650, 850"):
    kinds = {"uint8": 1, "int16": 2, "float32": 4, "uint16": 12}
    path.with_suffix(raw).write_bytes(np.ascontiguousarray(cube).tobytes())
    path.write_text(
        f"ENVI\nsamples = {cube.shape[2]}\nlines = {cube.shape[1]}\nbands = {cube.shape[0]}\nheader offset = 0\n"
        f"data type = {kinds[str(cube.dtype)]}\ninterleave = bsq\nbyte order = 0\n"
        + (f"wavelength = {{{wavelengths}}}\n" if wavelengths else "") + more
    )
    return path


def write_tiff(path, cube=CUBE, tags=None, **profile):
    beside = NM[: 3 if "ALPHA" in profile else len(cube)]
    (path.parent / f"{path.stem}.wavelengths.csv").write_text("\n".join(f"{nm:g}" for nm in beside))
    with rasterio.open(path, "w", driver="GTiff", count=len(cube), height=cube.shape[1], width=cube.shape[2], dtype=cube.dtype,
                       **profile) as file:
        file.write(cube)
        for name, value in (tags or {}).items():
            setattr(file, name, value)
    return path


def test_envi_no_data_is_masked_and_told(tmp_path, capsys):
    cube = CUBE.astype(np.uint16)
    cube[:, 0, :2] = 65535
    cube[2, 2, 4] = 65535  # one band is enough
    path = write_envi(tmp_path / "a.hdr", cube, more="data ignore value = 65535\n")
    _, words = read_cube(path)
    assert sorted(zip(*np.nonzero(~words["valid"]))) == [(0, 0), (0, 1), (2, 4)]
    read_cube(path)
    assert capsys.readouterr().err == f"{path}: 3 of 15 pixels are no-data (65535) and masked\n"  # once


@pytest.mark.parametrize(("value", "dtype"), [(-9999, "int16"), (-9999, "float32"), (np.nan, "float32"), (0, "uint16"),
                                              (-3.4028234663852886e38, "float32")])
@pytest.mark.parametrize("write", [write_envi, write_tiff])
def test_no_data_of_every_kind(tmp_path, write, value, dtype):
    cube = CUBE.astype(dtype) + np.array(1, dtype)
    cube[:, 1, 3] = value
    path = write(tmp_path / "a.hdr", cube, more=f"data ignore value = {value}\n") if write is write_envi \
        else write(tmp_path / "a.tif", cube, nodata=value)
    _, words = read_cube(path)
    assert (~words["valid"]).sum() == 1 and not words["valid"][1, 3]
    scene = Scene.from_native("a", read_cube(path)[0], NM, words["valid"])
    assert (scene.native_min, scene.native_max) == (1, 244) and scene.cube.min() == 0 and scene.cube.max() == 1


@pytest.mark.parametrize("said", ["{-9999}", "{ -9999 }", '"-9999"', "-9999.0D0", "-9.999e3 ; fill",
                                  "{-9999, -9999, -9999, -9999}"])
def test_no_data_as_headers_write_it(tmp_path, said):
    """GDAL makes 0 of what it cannot read, which would mask dark pixels and keep the fill."""
    cube = CUBE.astype(np.int16)
    cube[:, 1, 3], cube[:, 0, 0] = -9999, 0
    _, words = read_cube(write_envi(tmp_path / "a.hdr", cube, more=f"data ignore value = {said}\n"))
    assert list(zip(*np.nonzero(~words["valid"]))) == [(1, 3)]


def test_no_data_of_one_number_a_band(tmp_path):
    cube = CUBE.astype(np.int16)
    cube[0, 1, 3], cube[3, 2, 2], cube[1, 0, 0] = -1, -4, -4
    _, words = read_cube(write_envi(tmp_path / "a.hdr", cube, more="data ignore value = {-1, -2, -3, -4}\n"))
    assert sorted(zip(*np.nonzero(~words["valid"]))) == [(1, 3), (2, 2)]
    with pytest.raises(SceneError, match="has 3 numbers for 4 bands"):
        read_cube(write_envi(tmp_path / "b.hdr", cube, more="data ignore value = {-1, -2, -3}\n"))


@pytest.mark.parametrize(("value", "dtype"), [(-9999, "uint16"), (-9999, "uint8"), (0.5, "int16"), (np.nan, "uint16")])
def test_no_data_that_no_pixel_can_have_is_told(tmp_path, capsys, value, dtype):
    path = write_envi(tmp_path / "a.hdr", CUBE.astype(dtype), more=f"data ignore value = {value}\n")
    assert "valid" not in read_cube(path)[1]
    told = capsys.readouterr().err
    assert f"no-data {value:g} is no value of type {dtype}" in told and "nodata=NUMBER" in told


def test_no_data_that_is_only_said_by_the_user_or_by_nan(tmp_path, capsys):
    cube = np.repeat(CUBE[:, :, :1], 30, 2).astype(np.float32) + np.arange(30, dtype=np.float32)
    cube[:, 0, 0] = -9999
    np.savez(tmp_path / "a.npz", cube=cube.transpose(1, 2, 0), wavelength_nm=NM)
    assert "valid" not in read_cube(tmp_path / "a.npz")[1]
    told = capsys.readouterr().err
    assert "1 of 90 pixels are -9999 in every band" in told and "--nodata -9999" in told
    assert not read_cube(tmp_path / "a.npz", nodata=-9999)[1]["valid"][0, 0]
    cube[1, 2, 2] = np.nan
    np.savez(tmp_path / "b.npz", cube=cube.transpose(1, 2, 0), wavelength_nm=NM)
    valid = read_cube(tmp_path / "b.npz")[1]["valid"]
    assert (~valid).sum() == 1 and not valid[2, 2]


def test_a_band_without_any_data_is_left_out_and_a_file_without_any_refused(tmp_path, capsys):
    cube = CUBE.copy()
    cube[1] = -9999
    path = write_envi(tmp_path / "a.hdr", cube, more="data ignore value = -9999\n")
    found, words = read_cube(path)
    assert "bands 2 hold no data" in capsys.readouterr().err and "valid" not in words
    np.testing.assert_array_equal(found, CUBE[[0, 2, 3]])
    np.testing.assert_array_equal(words["wavelengths"], NM[[0, 2, 3]])
    with pytest.raises(SceneError, match=r"b\.hdr: every pixel is no-data \(-9999\)"):
        read_cube(write_envi(tmp_path / "b.hdr", np.full_like(cube, -9999), more="data ignore value = -9999\n"))


def test_gains_and_offsets(tmp_path, capsys):
    gains, offsets = np.array([1, 1, 0.5, 0.5]), np.array([0, 0, 7, 7])
    wanted = CUBE * gains[:, None, None] + offsets[:, None, None]
    more = "data gain values = {1, 1, 0.5, 0.5}\ndata offset values = {0, 0, 7, 7}\n"
    np.testing.assert_allclose(read_cube(write_envi(tmp_path / "a.hdr", more=more))[0], wanted)
    assert "gains 0.5 to 1 and offsets 0 to 7 are applied" in capsys.readouterr().err
    tiff = write_tiff(tmp_path / "a.tif", tags={"scales": gains, "offsets": offsets})
    np.testing.assert_allclose(read_cube(tiff)[0], wanted)
    for listed, said in (("1, 0, 1, 1", "gains 0 to 1"), ("1, 2", "2 numbers for 4")):
        with pytest.raises(SceneError, match=said):
            read_cube(write_envi(tmp_path / "b.hdr", more=f"data gain values = {{{listed}}}\n"))


def test_no_data_is_compared_before_gains_are_applied(tmp_path):
    cube = CUBE.copy()
    cube[:, 0, 0] = -9999
    path = write_tiff(tmp_path / "a.tif", cube, nodata=-9999, tags={"scales": (0.1,) * 4, "offsets": (0.0,) * 4})
    assert (~read_cube(path)[1]["valid"]).sum() == 1


def test_bad_bands_are_left_out(tmp_path, capsys):
    path = write_envi(tmp_path / "a.hdr", more="bbl = {1, 0, 0, 1}\n")
    cube, words = read_cube(path)
    np.testing.assert_array_equal(cube, CUBE[[0, 3]])
    np.testing.assert_array_equal(words["wavelengths"], NM[[0, 3]])
    assert capsys.readouterr().err == f"{path}: bands 2, 3 are marked bad and left out\n" and cube_shape(path) == (2, 3, 5)
    (tmp_path / "a.wavelengths.csv").write_text("500\n900\n")  # of the bands that are left
    np.testing.assert_array_equal(read_cube(path)[1]["wavelengths"], [500, 900])
    (tmp_path / "a.wavelengths.csv").write_text("500\n600\n700\n900\n")
    np.testing.assert_array_equal(read_cube(path)[1]["wavelengths"], [500, 900])
    write_envi(path, wavelengths="450, 0, 650, 850")
    (tmp_path / "a.wavelengths.csv").unlink()
    np.testing.assert_array_equal(read_cube(path)[0], CUBE[[0, 2, 3]])
    with pytest.raises(SceneError, match="every one of its 4 bands is marked bad"):
        read_cube(write_envi(path, more="bbl = {0, 0, 0, 0}\n"))


@pytest.mark.parametrize(("units", "values"), [
    ("Nanometers", NM), ("nm", NM), ("Micrometers", NM / 1e3), ("um", NM / 1e3), ("Angstroms", NM * 10), ("Meters", NM / 1e9),
    ("Millimeters", NM / 1e6), ("Wavenumber", 1e7 / NM), ("GHz", 299_792_458 / NM), ("MHz", 299_792_458e3 / NM),
    ("Unknown", NM / 1e3), ("", NM),
])
def test_wavelength_units(tmp_path, units, values):
    path = write_envi(tmp_path / "a.hdr", wavelengths=", ".join(f"{value:.10g}" for value in values),
                      more=f"wavelength units = {units}\n" if units else "")
    np.testing.assert_allclose(read_cube(path)[1]["wavelengths"], NM, rtol=1e-8)


@pytest.mark.parametrize(("units", "listed", "said"), [
    ("Index", "1, 2, 3, 4", "units 'Index' are no length"), ("Furlongs", "1, 2, 3, 4", "'Furlongs'.*choices: nm, um"),
    ("Unknown", "1, 2, 3, 4", "band numbers"), ("Micrometers", "450, 550, 650, 850", "cannot be in units of 'Micrometers'"),
    ("Nanometers", ".45, .55, .65, .85", "cannot be in units of 'Nanometers'"),
    ("nm", "450, many, 650, 850", "'many' is no number"),
    ("", "450, 550, 650", "3 wavelengths for 4 bands"),
])
def test_wavelengths_that_cannot_be_used(tmp_path, units, listed, said):
    path = write_envi(tmp_path / "a.hdr", wavelengths=listed, more=f"wavelength units = {units}\n" if units else "")
    with pytest.raises(SceneError, match=rf"a\.hdr.*{said}"):
        read_cube(path)
    (tmp_path / "a.wavelengths.csv").write_text("450\n550\n650\n850\n")  # wins over all of them
    np.testing.assert_array_equal(read_cube(path)[1]["wavelengths"], NM)


def test_a_raw_file_of_another_size_is_refused_either_way(tmp_path):
    path = write_envi(tmp_path / "a.hdr")
    raw = tmp_path / "a.img"
    for content, there in ((raw.read_bytes() * 2, 240), (raw.read_bytes() + b"x", 121), (raw.read_bytes()[:-1], 119)):
        raw.write_bytes(content)
        with pytest.raises(SceneError, match=rf"a\.img: {there} bytes where the header a\.hdr promises 120"):
            read_cube(path)
        raw.write_bytes(CUBE.tobytes())


@pytest.mark.parametrize("key", ["major frame offsets", "minor frame offsets"])
def test_frame_offsets_are_refused_by_name(tmp_path, key):
    with pytest.raises(SceneError, match=rf"{key} = 4, 0"):
        read_cube(write_envi(tmp_path / "a.hdr", more=f"{key} = {{4, 0}}\n"))
    assert read_cube(write_envi(tmp_path / "b.hdr", more=f"{key} = {{0, 0}}\n"))[0].shape == CUBE.shape


def test_words_that_gdal_reads_otherwise(tmp_path):
    """It makes 0 of a no-data value that is no number, and needs ENVI as the first word."""
    assert "valid" not in read_cube(write_envi(tmp_path / "a.hdr", more="data ignore value = none\n"))[1]
    with pytest.raises(SceneError, match="'data ignore value = zero' is no number"):
        read_cube(write_envi(tmp_path / "b.hdr", more="data ignore value = zero\n"))
    path = write_envi(tmp_path / "c.hdr")
    for before in (b"\xef\xbb\xbf", b"\n"):
        path.write_bytes(before + path.read_bytes().lstrip(b"\n\xef\xbb\xbf"))
        with pytest.raises(SceneError, match=r"c\.hdr: the header does not begin with the word ENVI.*plain text"):
            read_cube(path)


def test_alpha_and_mask_bands(tmp_path, capsys):
    colours = np.concatenate([CUBE[:3], np.full((1, 3, 5), 255)]).astype(np.uint8)
    colours[3, 0, 0] = 0
    cube, words = read_native(write_tiff(tmp_path / "a.tif", colours, photometric="RGB", ALPHA="YES"))
    assert cube.shape[0] == 3 and (~words["valid"]).sum() == 1 and not words["valid"][0, 0]
    infrared = CUBE.astype(np.uint8)  # GDAL calls the fourth of four bytes alpha by itself
    path = write_tiff(tmp_path / "b.tif", infrared, photometric="RGB", ALPHA="YES")
    (tmp_path / "b.wavelengths.csv").unlink()
    cube, words = read_native(path)
    np.testing.assert_array_equal(cube, infrared)
    assert "band 4 is called alpha but holds" in capsys.readouterr().err and "valid" not in words
    path = write_tiff(tmp_path / "c.tif")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.arange(15).reshape(3, 5) != 7)
    assert list(zip(*np.nonzero(~read_cube(path)[1]["valid"]))) == [(1, 2)]


def test_wavelengths_in_tags_of_a_geotiff(tmp_path):
    path = write_tiff(tmp_path / "a.tif")
    (tmp_path / "a.wavelengths.csv").unlink()
    with rasterio.open(path, "r+") as file:
        for band, nm in enumerate(NM, 1):
            file.update_tags(band, wavelength=f"{nm / 1000:g}", wavelength_units="Micrometers")
    np.testing.assert_allclose(read_cube(path)[1]["wavelengths"], NM)
    path = write_tiff(tmp_path / "b.tif", tags={"descriptions": [f"Band {i} ({nm} Nanometers)" for i, nm in enumerate(NM)]})
    (tmp_path / "b.wavelengths.csv").unlink()
    np.testing.assert_allclose(read_cube(path)[1]["wavelengths"], NM)


def test_wavelengths_that_fall_are_kept_and_told(tmp_path, capsys):
    path = write_envi(tmp_path / "a.hdr", wavelengths="450, 650, 640, 850")
    np.testing.assert_array_equal(read_cube(path)[1]["wavelengths"], [450, 650, 640, 850])
    assert "do not ascend (1 times" in capsys.readouterr().err


def test_enmap(tmp_path):
    cube = CUBE.copy()
    cube[:, 0, 0] = -32768
    path = write_tiff(tmp_path / "ENMAP01-L2A-SPECTRAL_IMAGE.TIF", cube)
    (tmp_path / "ENMAP01-L2A-SPECTRAL_IMAGE.wavelengths.csv").unlink()
    bands = "".join(f'<bandID number="{i}"><wavelengthCenterOfBand>{nm}</wavelengthCenterOfBand><GainOfBand>0.0001</GainOfBand>'
                    "<OffsetOfBand>0</OffsetOfBand></bandID>" for i, nm in enumerate(NM, 1))
    (tmp_path / "ENMAP01-L2A-METADATA.XML").write_text(
        f"<level_X><specific><backgroundValue>-32768</backgroundValue><bandCharacterisation>{bands}</bandCharacterisation>"
        "</specific></level_X>")
    found, words = read_cube(path)
    np.testing.assert_allclose(found[:, words["valid"]], 1e-4 * CUBE[:, words["valid"]], rtol=1e-6)
    assert (~words["valid"]).sum() == 1 and list(words["wavelengths"]) == list(NM)
    assert cube_files(path)[-1].name == "ENMAP01-L2A-METADATA.XML"


def test_prisma(tmp_path):
    vnir, swir = np.random.default_rng(0).integers(1, 65536, (2, 3, 2, 5)).astype(np.uint16)  # rows, bands, columns
    vnir[0, :, 0] = swir[0, :, 0] = 0
    with h5py.File(tmp_path / "a.he5", "w") as file:
        fields = file.create_group("HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields")
        fields["VNIR_Cube"], fields["SWIR_Cube"] = vnir, swir
        file.attrs.update({"List_Cw_Vnir": [950.0, 450.0], "List_Cw_Swir": [2000.0, 0.0], "L2ScaleVnirMin": 0.0,
                           "L2ScaleVnirMax": 1.0, "L2ScaleSwirMin": 0.1, "L2ScaleSwirMax": 0.6})
    cube, words = read_cube(tmp_path / "a.he5")
    assert list(words["wavelengths"]) == [450, 950, 2000] and (~words["valid"]).sum() == 1
    wanted = [vnir[:, 1] / 65535, vnir[:, 0] / 65535, 0.1 + 0.5 * swir[:, 0] / 65535]
    np.testing.assert_allclose(cube, wanted, rtol=1e-5)


def test_emit(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        values = CUBE.transpose(1, 2, 0).astype(np.float32)
        values[2, 2] = -9999
        file["reflectance"] = values
        file["reflectance"].attrs["_FillValue"] = np.float32([-9999])
        file["sensor_band_parameters/wavelengths"] = NM
        file["sensor_band_parameters/wavelengths"].attrs["units"] = "nm"
        file["sensor_band_parameters/good_wavelengths"] = np.float32([1, 1, 0, 1])
        file["location/lat"] = np.zeros((3, 5))
    cube, words = read_cube(tmp_path / "a.nc")
    assert list(words["wavelengths"]) == [450, 550, 850] and list(zip(*np.nonzero(~words["valid"]))) == [(2, 2)]
    np.testing.assert_array_equal(cube[:, words["valid"]], CUBE[[0, 1, 3]][:, words["valid"]])


def test_matlab_words_of_a_struct(tmp_path):
    hsi = {"Data": CUBE.transpose(1, 2, 0), "info": {"wavelength": NM / 1000, "units": "radiance"}}
    scipy.io.savemat(tmp_path / "a.mat", {"hsi": hsi, "other": {"wavelength": NM[:2]}})
    for array in ("", "hsi.Data"):
        cube, words = read_native(tmp_path / "a.mat", array=array)
        np.testing.assert_array_equal(cube, CUBE)
        np.testing.assert_allclose(words["wavelengths"], NM)
        assert words["units"] == "radiance"
