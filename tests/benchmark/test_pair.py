"""Pairs of files: reading, figures without a reference against plain loops, and the two commands."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import scipy.io
import torch

import run_benchmark
from benchmark import deliver
from benchmark.fidelity.cases import make_case
from benchmark.gaps import filled_together
from benchmark.no_reference import _windows, judge, similarity, spectral_distortion
from benchmark.pair import Pair, load_pair, whole
from datasets import SceneError
from methods.responses import gaussian_decimate


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A pair of two sensors of equal resolution in one file, native values, and the scene they saw."""
    case = make_case(height=24, width=36, bands=20, endmembers=4, snr_msi=40)
    path = tmp_path_factory.mktemp("pair") / "two.npz"
    np.savez(path, cube=5000 * case["hr_hsi"], msi=300 * case["hr_msi"], wavelength_nm=np.linspace(400, 1000, 20))
    return path, case


def test_a_decimated_pair(files):
    path, case = files
    pair = load_pair(str(path), f"{path}:msi", decimate=3)
    assert (pair.name, pair.ratio) == ("two", 3)
    assert pair.lr_hsi.shape == (20, 8, 12) and pair.hr_msi.shape == (4, 24, 36) and pair.measured.shape == (20, 24, 36)
    assert pair.measured.max() == 1 and pair.hr_msi.max() == 1 and len(pair.wavelengths) == 20
    scene = torch.from_numpy(case["hr_hsi"]).permute(2, 0, 1).float()
    assert torch.allclose(pair.measured * pair.hsi_max, 5000 * scene, rtol=1e-5)


@pytest.mark.parametrize(("array", "decimate", "words"), [
    (":msi", 1, "equal resolution give --decimate"),
    (":msi", 5, "not multiples of 5"),
    (":nothing", 3, "no three-dimensional array 'nothing'; choices: cube, msi"),
])
def test_pairs_that_do_not_fit(files, array, decimate, words):
    path, _ = files
    with pytest.raises(SceneError, match=words):
        load_pair(str(path), f"{path}{array}", decimate)


def test_values_that_cannot_be_scaled(tmp_path):
    np.savez(tmp_path / "dead.npz", cube=np.zeros((4, 4, 3)))
    with pytest.raises(SceneError, match="none above 0"):
        load_pair(str(tmp_path / "dead.npz"), str(tmp_path / "dead.npz"))
    np.savez(tmp_path / "flat.npz", cube=np.ones((8, 8, 3)) * [1, 2, 3])
    np.savez(tmp_path / "sound.npz", cube=np.arange(32.0).reshape(4, 4, 2))
    with pytest.raises(SceneError, match=r"flat\.npz: every band holds one value in all pixels"):
        load_pair(str(tmp_path / "sound.npz"), str(tmp_path / "flat.npz"))


def test_a_pair_is_read_as_data_sets_are(tmp_path, capsys):
    """Sidecars, words of a file of several arrays, structs, masks, one band as PAN; counts are checked at once."""
    rng = np.random.default_rng(0)
    hsi, msi, nm = rng.random((8, 8, 16)) + 1, rng.random((32, 32, 4)) + 1, np.linspace(430, 1000, 16)
    hsi[0, 1] = msi[31, 31] = -9999
    scipy.io.savemat(tmp_path / "both.mat", {"hsi": hsi, "msi": msi, "wavelength": nm, "s": {"Data": hsi[..., :5]},
                                            "pan": msi[..., 0]})
    file = tmp_path / "both.mat"
    pair = load_pair(f"{file}:hsi", f"{file}:msi", nodata=-9999)
    np.testing.assert_allclose(pair.wavelengths, nm)
    wanted = np.ones((32, 32), bool)
    wanted[:4, 4:8] = wanted[31, 31] = False
    assert np.array_equal(pair.valid, wanted) and pair.lr_hsi.min() > 0 and pair.hsi_max <= 2
    zero, msi[5, 7] = hsi.copy(), 0
    zero[0, 1] = 0
    scipy.io.savemat(tmp_path / "apart.mat", {"hsi": zero, "msi": msi})
    apart = load_pair(f"{tmp_path}/apart.mat:hsi", f"{tmp_path}/apart.mat:msi", nodata=-9999, hsi_nodata=0)
    assert np.array_equal(apart.valid, wanted)  # a 0 of the MSI is a value
    assert len(load_pair(f"{file}:s.Data", f"{file}:pan", nodata=-9999).hr_msi) == 1
    np.save(tmp_path / "alone.npy", hsi.transpose(2, 0, 1)[:, 1:5, 1:5])
    np.save(tmp_path / "msi.npy", msi.transpose(2, 0, 1)[:, :8, :8])
    with pytest.raises(SceneError, match=r"last axis of arrays \(4 and 8\); if theirs is the first, say --band-first"):
        load_pair(str(tmp_path / "alone.npy"), str(tmp_path / "msi.npy"))
    (tmp_path / "alone.wavelengths.csv").write_text("\n".join(map(str, nm)))
    pair = load_pair(str(tmp_path / "alone.npy"), str(tmp_path / "msi.npy"), band_first=True)
    np.testing.assert_allclose(pair.wavelengths, nm)
    assert pair.valid is None
    np.savez(tmp_path / "whole.npz", cube=hsi, wavelength_nm=np.linspace(400, 2500, 224))
    words = ["fuse", str(tmp_path / "whole.npz"), str(tmp_path / "msi.npy"), "--out", str(tmp_path / "o")]
    assert run_benchmark.main(words) == 2 and not (tmp_path / "o").exists()
    assert "224 wavelengths for 16 bands" in capsys.readouterr().err


def test_raw_data_of_envi_stand_for_their_header_and_swapped_files_are_told(tmp_path):
    hsi, msi = np.arange(1.0, 49).reshape(3, 4, 4), np.arange(1.0, 129).reshape(2, 8, 8)
    for name, cube, header in (("hsi.img", hsi, "hsi.hdr"), ("msi.dat", msi, "msi.dat.hdr")):
        with rasterio.open(tmp_path / name, "w", driver="ENVI", count=len(cube), height=cube.shape[1], width=cube.shape[2],
                           dtype="float64") as file:
            file.write(cube)
        (tmp_path / name).with_suffix(".hdr").rename(tmp_path / header)
    pair = load_pair(str(tmp_path / "hsi.img"), str(tmp_path / "msi.dat"))
    assert pair.lr_hsi.shape == (3, 4, 4) and pair.hsi_max == 48 and pair.msi_max == 128
    with pytest.raises(SceneError, match="The HSI comes first, then the MSI"):
        load_pair(str(tmp_path / "msi.dat"), str(tmp_path / "hsi.img"))


def test_where_data_are_missing_both_images_show_one_scene():
    """Blocks without data in one image are copies of one whole block in both; estimates see the largest rectangle of data."""
    side, generator = 14, torch.Generator().manual_seed(0)
    lr_hsi, hr_msi = (torch.rand(bands, n, n, generator=generator) for bands, n in ((5, side), (2, 2 * side)))
    valid = torch.ones(2 * side, 2 * side, dtype=torch.bool)
    valid[:6, :8], valid[6, 21], valid[24:, 22:] = False, False, False
    low, high = filled_together(lr_hsi, hr_msi, valid)

    def block(image, row, column):
        return image[..., 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]

    places = [(row, column) for row in range(side) for column in range(side)]
    held = [place for place in places if block(valid, *place).all()]
    for row, column in places:
        source = (row, column)
        if not block(valid, row, column).any():  # where only a part is missing, what there is stays
            source, = [place for place in held if torch.equal(low[:, row, column], lr_hsi[:, *place])]
            assert np.hypot(row - source[0], column - source[1]) == min(np.hypot(row - r, column - c) for r, c in held)
        assert torch.equal(low[:, row, column], lr_hsi[:, *source])
        assert torch.equal(block(high, row, column), block(hr_msi, *source))
    mask = np.array([place in held for place in places]).reshape(side, side)
    area = max((bottom - top) * (right - left) for top, left in places for bottom in range(top + 1, side + 1)
               for right in range(left + 1, side + 1) if mask[top:bottom, left:right].all())
    pair = Pair("x", low, high, 1.0, np.array([]), valid=valid)
    part = whole(pair)
    assert part.lr_hsi[0].numel() == area == part.hr_msi[0].numel() / 4 and part.valid is None
    row, column = (low[0] == part.lr_hsi[0, 0, 0]).nonzero()[0].tolist()  # one rectangle of both
    assert torch.equal(part.hr_msi[:, :2, :2], block(hr_msi, row, column)) and mask[row, column]
    valid[:, ::5] = False
    assert whole(pair) is pair  # too small


def test_similarity_is_the_universal_quality_index():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(n, 3, 16, generator=generator, dtype=torch.float64) for n in (2, 4))
    found = similarity(x, y)
    for i in range(2):
        for j in range(4):
            values = []
            for a, b in zip(x[i].numpy(), y[j].numpy()):
                covariance = ((a - a.mean()) * (b - b.mean())).mean()
                values.append(4 * covariance * a.mean() * b.mean() / ((a.var() + b.var()) * (a.mean() ** 2 + b.mean() ** 2)))
            assert found[i, j].item() == pytest.approx(np.mean(values))
    assert torch.allclose(similarity(x, x).diagonal(), torch.ones(2, dtype=torch.float64))
    assert similarity(torch.ones(1, 1, 4).double(), torch.ones(1, 1, 4).double()).item() == 1


def test_the_truth_is_judged_better_than_a_blurred_or_a_noisy_estimate(files):
    path, _ = files
    pair = load_pair(str(path), f"{path}:msi", decimate=3)
    truth = judge(pair.measured, pair.lr_hsi, pair.hr_msi)
    blurred = judge(torch.nn.functional.interpolate(pair.lr_hsi[None], scale_factor=3, mode="bilinear")[0],
                    pair.lr_hsi, pair.hr_msi)
    noise = torch.randn(pair.measured.shape, generator=torch.Generator().manual_seed(0))
    noisy = judge(pair.measured + 0.1 * noise, pair.lr_hsi, pair.hr_msi)
    assert truth["lr_rmse"] < 1e-6 and truth["lr_sam_deg"] < 1e-2 and truth["msi_rmse"] < 0.02
    assert truth["qnr"] == pytest.approx((1 - truth["d_lambda"]) * (1 - truth["d_s"]))
    assert truth["hqnr"] == pytest.approx((1 - truth["d_lambda_k"]) * (1 - truth["d_s"])) and truth["d_lambda_k"] < 1e-6
    assert noisy["hqnr"] < truth["hqnr"]
    changes = []  # window by window: the image of 8 x 12 pixels holds one of 8 x 8
    back = gaussian_decimate((pair.measured + 0.1 * noise)[None], 3)[0, :, :, :8].double().flatten(1).numpy()
    for a, b in zip(back, pair.lr_hsi[:, :, :8].double().flatten(1).numpy()):
        top = 4 * np.cov(a, b, bias=True)[0, 1] * a.mean() * b.mean()
        changes.append(top / ((a.var() + b.var()) * (a.mean() ** 2 + b.mean() ** 2)))
    assert noisy["d_lambda_k"] == pytest.approx(1 - np.mean(changes), rel=1e-5)
    assert blurred["d_s"] > truth["d_s"] and blurred["msi_rmse"] > truth["msi_rmse"]
    assert noisy["d_lambda"] > truth["d_lambda"] and noisy["lr_rmse"] > truth["lr_rmse"] and noisy["qnr"] < truth["qnr"]


def test_a_changed_band_relation_is_spectral_distortion():
    low = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    high = low.repeat_interleave(2, 1).repeat_interleave(2, 2)
    of_low = similarity(*[_windows(low, 8)] * 2)
    assert spectral_distortion(similarity(*[_windows(high, 16)] * 2), of_low) == pytest.approx(0, abs=1e-6)
    turned = torch.stack([high[0], high[1], high[2].flip(1)])
    plain = []
    for a, b in ((0, 2), (1, 2)):
        before = similarity(low[a].double().view(1, 1, -1), low[b].double().view(1, 1, -1)).item()
        after = similarity(turned[a].double().view(1, 1, -1), turned[b].double().view(1, 1, -1)).item()
        plain.append(abs(after - before))
    assert spectral_distortion(similarity(*[_windows(turned, 16)] * 2), of_low) == pytest.approx(sum(plain) / 3, rel=1e-5)


def test_fuse_command(files, tmp_path, capsys):
    path, case = files
    words = ["fuse", str(path), f"{path}:msi", "--decimate", "3", "--out", str(tmp_path), "--methods", "bicubic", "gsa"]
    assert run_benchmark.main(words) == 0
    assert "bicubic" in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "rows.csv").set_index("method")
    assert rows.loc["gsa", "psnr_db"] > rows.loc["bicubic", "psnr_db"] and len(rows.loc["gsa", "revision"]) == 40
    assert (tmp_path / "pair.png").read_bytes().startswith(b"\x89PNG")
    fused = np.load(tmp_path / "gsa.npz")["cube"]
    assert fused.shape == case["hr_hsi"].shape
    assert np.abs(fused - 5000 * case["hr_hsi"]).mean() < 500  # native units again


def test_a_method_that_needs_training_is_refused(files, tmp_path, capsys):
    path, _ = files
    words = ["fuse", str(path), f"{path}:msi", "--decimate", "3", "--out", str(tmp_path), "--methods", "ssuf"]
    assert run_benchmark.main(words) == 2
    assert "must be trained first" in capsys.readouterr().err


@pytest.mark.parametrize("estimator", ["nonnegative", "hysure"])
def test_estimate_command(files, tmp_path, capsys, estimator):
    path, case = files
    words = ["estimate", str(path), f"{path}:msi", "--decimate", "3", "--out", str(tmp_path), "--estimator", estimator]
    assert run_benchmark.main(words) == 0
    out = capsys.readouterr().out
    assert "MSI band 3: " in out
    srf = np.load(tmp_path / "responses.npz")["srf"]
    assert srf.shape == case["srf"].shape


def test_a_pair_without_wavelengths_still_has_a_picture(tmp_path):
    pair = Pair("x", torch.rand(5, 4, 4), torch.rand(2, 8, 8), 1.0, np.array([]))
    deliver.picture(pair, [], tmp_path / "none")
    name = deliver.write_cube(pair, torch.rand(5, 8, 8), tmp_path / "a", "m", "npz")
    deliver.picture(pair, [{"method": "m", "qnr": 0.5, "seconds": 1.0, "file": name}], tmp_path / "a")
    assert (tmp_path / "a" / "pair.png").stat().st_size > (tmp_path / "none" / "pair.png").stat().st_size > 1000
