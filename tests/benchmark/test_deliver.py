"""A pair of one's own from file to file: georeference, no-data, formats, folders, failures, and responses that are known."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.warp import Resampling, calculate_default_transform, reproject

import run_benchmark
from benchmark import deliver, footprint, on_pairs, pair, sensors, told
from benchmark.fidelity.cases import make_case
from benchmark.protocol import apply_response, blur_decimate
from datasets import SceneError
from datasets.io import read_native
from methods.registry import _METHODS, register
from methods.responses import gaussian_psf

NM = np.linspace(420, 920, 24)
UTM, LEFT, TOP, LR_M, RATIO = "EPSG:32632", 500_000.0, 5_200_000.0, 20.0, 4


def write(path: Path, values: np.ndarray, metres: float, crs: str = UTM, left: float = LEFT, nm: np.ndarray | None = None,
          **more) -> Path:
    """A GeoTIFF as rasterio writes it."""
    size = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", **size, dtype="float32", crs=crs,
                       transform=Affine(metres, 0, left, 0, -metres, TOP), **more) as file:
        file.write(values.astype(np.float32))
        for band, each in enumerate(nm if nm is not None else (), 1):
            file.update_tags(band, wavelength=f"{each}", wavelength_units="Nanometers")
    return path


@pytest.fixture(scope="module")
def scene():
    """(bands, H, W) in native values, its LR-HSI and HR-MSI through Sentinel-2's 2, 3, 4, 8A, at phase 1."""
    names = {band.name: band for band in sensors.bands_of("sentinel-2")}
    cube = torch.from_numpy(make_case(height=48, width=48, bands=24, endmembers=5)["hr_hsi"]).permute(2, 0, 1).double()
    srf = sensors.response(tuple(names[name] for name in ("2", "3", "4", "8A")), NM).double()
    low = blur_decimate(cube, gaussian_psf(9, 1.7), RATIO, 1, "reflect")
    return 3000 * cube.numpy(), 3000 * low.numpy(), 500 * apply_response(cube, srf).numpy(), srf


@pytest.fixture()
def files(scene, tmp_path):
    """The pair as GeoTIFFs; a wedge of the MSI and a pixel of the HSI hold no data."""
    _, hsi, msi, _ = (each.copy() if isinstance(each, np.ndarray) else each for each in scene)
    wedge = np.add.outer(np.arange(48), np.arange(48)) < 12
    msi[:, wedge] = hsi[:, 11, 11] = -1
    wanted = ~wedge
    wanted[44:, 44:] = False
    return (str(write(tmp_path / "hsi.tif", hsi, LR_M, nm=NM, nodata=-1)),
            str(write(tmp_path / "msi.tif", msi, LR_M / RATIO, nodata=-1)), wanted)


def fuse(hsi, msi, out, *words):
    return run_benchmark.main(["fuse", hsi, msi, "--out", str(out), *words])


@pytest.mark.parametrize("kind", ["tif", "envi", "npz"])
def test_a_pair_with_georeference_end_to_end(files, scene, tmp_path, kind):
    hsi, msi, wanted = files
    assert fuse(hsi, msi, tmp_path / "o", "--methods", "gsa", *(() if kind == "tif" else ("--format", kind))) == 0
    row = pd.read_csv(tmp_path / "o" / "rows.csv").iloc[0]
    file = tmp_path / "o" / row["file"]
    assert row["status"] == "ok" and file.suffix == deliver.FORMATS[kind]
    assert not list((tmp_path / "o").glob(".writing*"))
    if kind == "npz":
        with np.load(file) as held:
            assert np.array_equal(np.isfinite(held["cube"]).all(2), wanted)
            np.testing.assert_allclose(held["wavelength_nm"], NM)
        return
    with rasterio.open(file) as fused:
        values = fused.read(masked=True)
        assert fused.crs.to_epsg() == 32632 and fused.transform == Affine(5, 0, LEFT, 0, -5, TOP)
        assert fused.descriptions[0].startswith("420.00 nm") and fused.nodata == deliver.NODATA
        assert np.array_equal(~values.mask, np.broadcast_to(wanted, values.shape))
        error = np.abs(values.data - scene[0])[:, wanted].mean() / scene[0][:, wanted].mean()
        assert error < 0.1  # native values
        if kind == "envi":
            assert np.allclose([float(each) for each in fused.tags(ns="ENVI")["wavelength"].strip("{}").split(",")], NM)
    _, words = read_native(file.with_suffix(".hdr") if kind == "envi" else file)  # our own reader, too
    np.testing.assert_allclose(words["wavelengths"], NM)
    assert np.array_equal(words["valid"], wanted)


def test_an_envi_pair_and_one_that_lies_nowhere(files, scene, tmp_path, recwarn):
    hsi, msi, _ = files
    pair_ = pair.load_pair(hsi, msi)
    deliver.write_cube(pair_, torch.from_numpy(scene[0] / pair_.hsi_max), tmp_path, "hr", "envi")
    again = pair.load_pair(str(tmp_path / "hr.hdr"), msi, decimate=4)  # the same place in ENVI's words
    assert again.georeferenced and again.crs == pair_.crs and again.transform == pair_.transform
    np.savez(tmp_path / "plain.npz", cube=np.moveaxis(scene[1], 0, -1))
    np.savez(tmp_path / "plain_msi.npz", cube=np.moveaxis(scene[2], 0, -1))
    plain = [str(tmp_path / name) for name in ("plain.npz", "plain_msi.npz")]
    for nodata in ("nan", "nan", "-5"):
        code = fuse(*plain, tmp_path / "o", "--methods", "bicubic", "--format", "tif", "--nodata", nodata)
        assert code == (2 if nodata == "-5" else 0)  # read another way: another pair
    assert not [each for each in recwarn if "georeference" in str(each.message)]
    assert run_benchmark.main(["fuse", *plain, "--out", str(tmp_path / "p"), "--methods", "bicubic"]) == 0
    assert (tmp_path / "p" / "bicubic.npz").is_file()


def test_other_projections_places_and_extents_are_refused(files, scene, tmp_path, capsys):
    hsi, _, _ = files
    for name, more, words in (("crs", {"crs": "EPSG:32633"}, "different projections: .*EPSG:32632.*EPSG:32633.*--resample"),
                              ("far", {"left": LEFT + 5000}, "do not overlap"),
                              ("near", {"left": LEFT + 45}, "differ by 2.25 LR pixels.*--resample")):
        msi = str(write(tmp_path / f"{name}.tif", scene[2], 5, **more))
        with pytest.raises(SceneError, match=words):
            pair.load_pair(hsi, msi)
        assert fuse(hsi, msi, tmp_path / "o") == 2 and not (tmp_path / "o").exists()
    pair.load_pair(hsi, str(write(tmp_path / "half.tif", scene[2], 5, left=LEFT + 10)))
    assert "0.5 LR pixels apart" in capsys.readouterr().err


def test_resample_brings_the_msi_onto_the_grid_of_the_hsi(files, scene, tmp_path, capsys):
    """An MSI of the neighbouring zone, turned and of other pixels, comes back to what it was before."""
    hsi, _, _ = files
    at = Affine(5, 0, LEFT, 0, -5, TOP)
    there, width, height = calculate_default_transform(UTM, "EPSG:32631", 48, 48, *(LEFT, TOP - 240, LEFT + 240, TOP),
                                                      resolution=4.6)
    turned = np.full((4, height, width), -1, dtype=np.float32)
    reproject(scene[2].astype(np.float32), turned, src_transform=at, src_crs=UTM, dst_transform=there, dst_crs="EPSG:32631",
              dst_nodata=-1, src_nodata=-1, resampling=Resampling.bilinear)
    with rasterio.open(tmp_path / "zone.tif", "w", driver="GTiff", count=4, height=height, width=width, dtype="float32",
                       crs="EPSG:32631", transform=there, nodata=-1) as file:
        file.write(turned)
    found = pair.load_pair(hsi, str(tmp_path / "zone.tif"), resample=True)
    assert found.hr_msi.shape == (4, 48, 48) and found.transform == at and found.crs.to_epsg() == 32632
    told_words = capsys.readouterr().err
    assert "resampled (bilinear)" in told_words and "EPSG:32631" in told_words and "4 a side of an HSI pixel" in told_words
    inside = found.valid.numpy()
    assert inside.mean() > 0.85
    error = np.abs(found.hr_msi.numpy() * found.msi_max - scene[2])[:, inside].mean() / scene[2].mean()
    moved = np.abs(np.roll(scene[2], 1, 2) - scene[2])[:, inside].mean() / scene[2].mean()
    assert error < 0.5 * moved
    with pytest.raises(SceneError, match="does not say where it lies"):
        np.savez(tmp_path / "plain.npz", cube=np.moveaxis(scene[2], 0, -1))
        pair.load_pair(hsi, str(tmp_path / "plain.npz"), resample=True)


@pytest.fixture()
def failing():
    def build():
        def run(lr_hsi, hr_msi):
            raise RuntimeError("out\nof luck")
        return run

    register("fails", "classical", paper="none", year=2026, fidelity="described", told="blind")(lambda: build_of(build))
    yield "fails"
    del _METHODS["fails"]


class build_of:  # noqa: N801  # a callable that takes attributes
    def __init__(self, build):
        self.run = build()

    def __call__(self, lr_hsi, hr_msi):
        return self.run(lr_hsi, hr_msi)


def test_one_failing_method_costs_no_other_and_a_second_call_appends(files, failing, tmp_path, capsys):
    hsi, msi, _ = files
    out = tmp_path / "o"
    assert fuse(hsi, msi, out, "--methods", failing, "gsa") == 1
    assert "failed: RuntimeError: out of luck" in capsys.readouterr().err
    rows = pd.read_csv(out / "rows.csv").set_index("method")
    assert rows["status"].to_dict() == {"fails": "failed", "gsa": "ok"}
    assert rows.loc["fails", "reason"] == "RuntimeError: out of luck"
    assert (out / "gsa.tif").is_file() and not list(out.glob("fails*"))
    before, small = (out / "rows.csv").read_text().splitlines(), (out / "pair.png").stat().st_size
    assert fuse(hsi, msi, out, "--methods", "bicubic", "--format", "envi") == 0
    lines = (out / "rows.csv").read_text().splitlines()
    assert lines[:3] == before and len(lines) == 4  # other rows as they were, every digit
    assert (out / "pair.png").stat().st_size > small
    assert fuse(hsi, msi, out, "--methods", "gsa") == 0
    assert list(pd.read_csv(out / "rows.csv")["method"]) == ["fails", "bicubic", "gsa"]


def test_what_a_users_matplotlibrc_says_costs_no_picture(files, tmp_path, monkeypatch):
    hsi, msi, _ = files
    monkeypatch.setitem(mpl.rcParams, "text.usetex", True)
    monkeypatch.setenv("PATH", "")  # no LaTeX
    assert fuse(hsi, msi, tmp_path / "o", "--methods", "bicubic") == 0
    assert (tmp_path / "o" / "pair.png").is_file() and mpl.rcParams["text.usetex"]


def test_a_full_disk_is_no_failure_of_a_method(files, tmp_path, monkeypatch, capsys):
    hsi, msi, _ = files

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pair.piecewise.np, "save", full)
        assert fuse(hsi, msi, tmp_path / "o", "--methods", "bicubic") == 2
    told = capsys.readouterr().err
    assert "No space left on device" in told and "--out" in told and "Traceback" not in told
    assert not (tmp_path / "o" / "rows.csv").exists()
    assert fuse(hsi, msi, tmp_path / "o", "--methods", "bicubic") == 0  # the same command goes on


@pytest.mark.parametrize(("name", "words"), [("nothing", "unknown method"), ("gsa@x=1", "no argument 'x'"), ("ssuf", "trained"),
                                             ("s3rnet-student@weights=/nowhere", "no such file"),
                                             ("subspace-ridge-blind@estimator=odd", "odd")])
def test_all_names_are_checked_before_the_first_method_runs(files, tmp_path, capsys, name, words):
    hsi, msi, _ = files
    assert fuse(hsi, msi, tmp_path / "o", "--methods", "gsa", name) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "o").exists()


def test_names_are_checked_before_a_file_is_read(tmp_path, capsys):
    assert fuse("/nowhere.tif", "/nowhere.tif", tmp_path / "o", "--methods", "nothing") == 2
    assert "unknown method" in capsys.readouterr().err


def test_a_folder_of_another_pair_is_avoided_or_refused(files, tmp_path, monkeypatch, capsys):
    hsi, msi, _ = files
    monkeypatch.chdir(tmp_path)
    (tmp_path / "second").mkdir()
    other = [shutil.copy(each, tmp_path / "second") for each in (hsi, msi)]
    words = ("--methods", "bicubic")
    assert run_benchmark.main(["fuse", hsi, msi, *words]) == run_benchmark.main(["fuse", *other, *words]) == 0
    assert run_benchmark.main(["fuse", *other, "--methods", "gsa"]) == 0
    held = {name: json.loads((tmp_path / "reports" / name / "pair.json").read_text())["hsi"]["files"][0]["path"]
            for name in ("hsi", "hsi-2")}
    assert held == {"hsi": hsi, "hsi-2": other[0]} and not (tmp_path / "reports" / "hsi-3").exists()
    assert len(pd.read_csv(tmp_path / "reports" / "hsi-2" / "rows.csv")) == 2
    capsys.readouterr()
    assert fuse(*other, tmp_path / "reports" / "hsi", *words) == 2
    assert f"is of the pair {hsi}" in capsys.readouterr().err
    assert fuse(hsi, msi, tmp_path / "second", *words) == 2 and "no pair.json" in capsys.readouterr().err
    assert fuse(hsi, msi, tmp_path / "reports" / "aviris", *words) == 2 and "name of a study" in capsys.readouterr().err
    named = shutil.copy(hsi, tmp_path / "aviris.tif")
    assert run_benchmark.main(["fuse", str(named), msi, *words]) == 0
    assert (tmp_path / "reports" / "aviris-2" / "rows.csv").is_file() and not (tmp_path / "reports" / "aviris").exists()
    Path(msi).touch()
    assert fuse(hsi, msi, tmp_path / "reports" / "hsi", *words) == 2
    assert "as it was before its files" in capsys.readouterr().err


def test_responses_that_are_known(scene, tmp_path):
    whole = pair.load_pair(*(str(write(tmp_path / f"w{i}.tif", scene[i], m, nm=NM if i == 1 else None))
                             for i, m in ((1, 20), (2, 5))))
    found, words = told.given(whole, "parametric", srf="sentinel-2:B02,B03,B4,B8A", psf="gaussian:1.7", phase=1)
    assert "estimated" not in words and found.phase == 1
    scale = 500 / 3000 * whole.hsi_max / whole.msi_max  # of the units of the two files
    torch.testing.assert_close(found.srf[0], scene[3] * scale, rtol=5e-3, atol=1e-6)  # images continue in two ways
    (tmp_path / "own.csv").write_text("low,high\n450,520\n520,600\n630,690\n760,900\n")
    boxes = [told.given(whole, "parametric", srf=srf, psf="gaussian:1.7", phase=1)[0].srf[0] > 0
             for srf in (str(tmp_path / "own.csv"), "landsat-tm")]
    centres = (torch.from_numpy(NM) >= 520) & (torch.from_numpy(NM) < 600)
    assert torch.equal(boxes[1][1], centres) and (boxes[0] | ~boxes[1]).all()  # the curve reaches into half-seen bands, too
    found, words = told.given(whole, "parametric", srf="sentinel-2:2,3,4,8A")
    assert "PSF estimated (parametric)" in words
    for srf, text in (("sentinel-2", "has 1, 2, .*say which"), ("sentinel-2:B2,B77", "no band 77"),
                      ("sentinel-2:B2", "1 curves over"), ("nowhere", "unknown MSI sensor")):
        with pytest.raises(SceneError, match=text):
            told.given(whole, "parametric", srf=srf)
    with pytest.raises(SceneError, match="choose 0 to 3"):
        told.given(whole, "parametric", phase=4)


def test_estimate_and_what_fuse_makes_of_it(files, scene, tmp_path, capsys):
    hsi, msi, _ = files
    out = tmp_path / "o"
    assert run_benchmark.main(["estimate", hsi, msi, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "trust: " in printed and printed.count("without noise") == 4
    assert (out / "responses.png").read_bytes().startswith(b"\x89PNG")
    assert fuse(hsi, msi, out, "--methods", "subspace-ridge", "gsa", "--responses", str(out / "responses.npz")) == 0
    rows = pd.read_csv(out / "rows.csv").set_index("method")
    assert str(out / "responses.npz") in rows.loc["subspace-ridge", "told"] and pd.isna(rows.loc["gsa", "told"])
    with rasterio.open(out / "subspace-ridge.tif") as fused:
        stored = fused.read()
    assert fuse(hsi, msi, out, "--methods", "subspace-ridge") == 0  # told nothing: estimated, and said
    assert "subspace-ridge: told the responses of the sensors: SRF estimated (parametric)" in capsys.readouterr().err
    with rasterio.open(out / "subspace-ridge.tif") as fused:
        np.testing.assert_allclose(fused.read(), stored, rtol=1e-3, atol=1)
    assert fuse(hsi, msi, out, "--responses", str(out / "responses.npz"), "--phase", "1") == 2


def test_an_estimated_offset_is_taken_off_the_msi(scene, tmp_path):
    files = write(tmp_path / "h.tif", scene[1], 20, nm=NM), write(tmp_path / "m.tif", scene[2] + 100, 5)
    hazy = pair.load_pair(*map(str, files))
    found = told.estimated(hazy, "parametric")
    assert (found.offset * hazy.msi_max).mean().item() == pytest.approx(100, rel=0.2)
    errors = []
    for each in (found, replace(found, offset=torch.zeros_like(found.offset))):
        ((_, image),) = pair.fuse_pair(hazy, ("subspace-ridge",), each)
        errors.append(np.abs(image[:, :].numpy() * hazy.hsi_max - scene[0]).mean())
    assert errors[0] < 0.5 * errors[1]


def test_stored_responses_are_brought_to_the_scale_of_another_pair(scene, tmp_path):
    first, second = (pair.load_pair(str(write(tmp_path / f"h{k}.tif", k * scene[1], 20, nm=NM)),
                                    str(write(tmp_path / f"m{k}.tif", scene[2], 5))) for k in (1, 2))
    np.savez(tmp_path / "r.npz", **told.arrays(first, told.estimated(first, "parametric")))
    found, _ = told.given(second, "parametric", file=tmp_path / "r.npz")
    own = told.estimated(first, "parametric")
    native = [each.srf[0] * of.msi_max / of.hsi_max for each, of in ((found, second), (own, first))]
    torch.testing.assert_close(*native)


@pytest.mark.parametrize("moved", [0, 2])
def test_a_shift_of_the_msi_is_told(scene, tmp_path, capsys, moved):
    rolled = np.roll(scene[2], moved, 1)  # half an LR pixel down
    found = pair.load_pair(str(write(tmp_path / "h.tif", scene[1], 20, nm=NM)), str(write(tmp_path / "m.tif", rolled, 5)))
    rows, columns = pair.misregistration(found)
    assert rows == pytest.approx(moved / 4 - 0.125, abs=0.05)  # phase 1 of 4 sees what lies an eighth before the middle
    assert columns == pytest.approx(-0.125, abs=0.05)
    fuse(str(tmp_path / "h.tif"), str(tmp_path / "m.tif"), tmp_path / "o", "--methods", "bicubic")
    assert ("by the correlation of the two" in capsys.readouterr().err) == bool(moved)


def test_what_fuses_if_nothing_is_said(files, tmp_path, monkeypatch, capsys):
    """subspace-net is among them only where weights lie."""
    hsi, msi, _ = files
    monkeypatch.setattr(run_benchmark.weights, "shipped", lambda: ["subspace-net"])
    monkeypatch.setattr(run_benchmark.weights, "SHIPPED", tmp_path)
    assert fuse(hsi, msi, tmp_path / "o") == 2 and "'subspace-net' comes without weights" in capsys.readouterr().err
    monkeypatch.setattr(run_benchmark.weights, "shipped", list)
    assert fuse(hsi, msi, tmp_path / "o") == 0
    rows = pd.read_csv(tmp_path / "o" / "rows.csv")
    assert tuple(rows["method"]) == on_pairs.FUSED_BY and rows["told"].isna().all()


def test_the_margin_of_a_psf():
    psf = np.zeros((9, 9))
    psf[4, 4], psf[3, 6], psf[1, 1] = 1, 0.02, 0.005
    assert told.margin_of(psf) == 2


def test_names_of_methods_as_names_of_files():
    assert deliver.file_stem("gsa") == "gsa" and deliver.file_stem("a@b=1,c=x") == "a@b=1,c=x"
    one, other = (deliver.file_stem(f"a@weights=/x{sign}y") for sign in "/:")
    assert one != other and "/" not in one + other


def test_projections_in_words():
    assert footprint.crs_words(None) == "no projection"
    assert footprint.crs_words(rasterio.crs.CRS.from_epsg(4326)) == "EPSG:4326"
