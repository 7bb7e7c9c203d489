"""Downstream scores against loops, made mixtures and known errors; what is left out of means; rows that go on."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import nnls

import run_benchmark
from benchmark import downstream
from benchmark.downstream import LOADING, SCENES, Truth, abundances, auc, checkerboard, classified, local_rx, probe, rx
from benchmark.page.downstream import cell, correlation
from datasets import get
from datasets.scene import Scene
from methods.registry import MethodError

needs_scenes = pytest.mark.skipif("HSFUSION_DATA" not in os.environ, reason="HSFUSION_DATA names no folder with real scenes")


def draws(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_auc_is_how_often_a_target_wins():
    scores = (draws(6, 7) * 8).floor()  # with ties
    targets = draws(6, 7, seed=1) < 0.3
    hits, others = scores[targets].tolist(), scores[~targets].tolist()
    wins = sum(1.0 if hit > other else 0.5 if hit == other else 0.0 for hit in hits for other in others)
    assert auc(scores, targets) == pytest.approx(wins / (len(hits) * len(others)), abs=1e-12)
    assert auc(targets.double(), targets) == 1 and auc(-targets.double(), targets) == 0


def test_global_rx_is_that_of_a_loop():
    image = draws(5, 6, 7)
    pixels = image.reshape(5, -1).T.numpy()
    covariance = np.cov(pixels.T, bias=True)
    covariance += LOADING * np.trace(covariance) / 5 * np.eye(5)
    expected = [(pixel - pixels.mean(0)) @ np.linalg.inv(covariance) @ (pixel - pixels.mean(0)) for pixel in pixels]
    assert rx(image).flatten().numpy() == pytest.approx(np.array(expected), rel=1e-9)


def test_local_rx_is_that_of_a_loop():
    image, inner, outer = draws(4, 9, 8), 3, 7
    flat = image.reshape(4, -1).numpy()
    load = LOADING * np.mean((flat - flat.mean(1, keepdims=True)) ** 2)
    found = local_rx(image, inner, outer, components=4)  # all of them: the distance is that of the bands
    for i in range(9):
        for j in range(8):
            ring = [image[:, k, m].numpy() for k in range(9) for m in range(8)
                    if max(abs(k - i), abs(m - j)) <= outer // 2 and max(abs(k - i), abs(m - j)) > inner // 2]
            covariance = np.cov(np.array(ring).T, bias=True) + load * np.eye(4)
            apart = image[:, i, j].numpy() - np.mean(ring, 0)
            assert float(found[i, j]) == pytest.approx(apart @ np.linalg.inv(covariance) @ apart, rel=1e-8)


def test_detectors_find_what_is_planted_and_rounding_is_no_anomaly():
    image = torch.einsum("br,rhw->bhw", draws(40, 3), draws(3, 30, 30, seed=1))  # of rank 3
    targets = torch.zeros(30, 30, dtype=torch.bool)
    targets[4:6, 7:9] = targets[20, 20] = True
    image[:, targets] += 0.3 * draws(40, 1, seed=2)
    for found in (rx, local_rx):
        exact, rounded = found(image), found(image.float().double())
        assert auc(exact, targets) > 0.99 and torch.allclose(exact, rounded, rtol=1e-3, atol=1e-3)


def test_abundances_of_made_mixtures():
    endmembers, made = draws(30, 5), torch.from_numpy(np.random.default_rng(0).dirichlet(np.full(5, 0.4), 200).T)
    assert torch.allclose(abundances(endmembers @ made, endmembers), made, atol=1e-8)
    noisy = endmembers @ made + 0.3 * draws(30, 200, seed=3)
    found = abundances(noisy, endmembers)
    assert found.min() == 0 and (found.sum(0) - 1).abs().max() < 1e-12
    for pixel, own in zip(noisy.T.numpy()[:50], found.T.numpy()):  # the sum as a heavy row, by scipy's own solver
        other, _ = nnls(np.vstack([endmembers.numpy(), np.full(5, 1e4)]), np.append(pixel, 1e4))
        assert own == pytest.approx(other, abs=1e-5)


def test_blocks_that_train_and_blocks_that_test_do_not_touch():
    trained, tested = checkerboard(96, 96)
    assert int(trained.sum()) == int(tested.sum()) == 18 * 12 * 12
    apart = min(int((tested.nonzero() - torch.tensor([i, j])).abs().amax(1).min()) for i, j in trained.nonzero()[::7].tolist())
    assert apart == 2 * downstream.MARGIN + 1


def test_the_probe_tells_classes_in_a_row_apart():
    """Three along one line: least squares to columns of 0 and 1 would hide the middle one."""
    labels = torch.arange(300) % 3
    spectra = (0.2 + 0.3 * labels)[None] * torch.ones(8, 1) + 0.02 * draws(8, 300)
    weights = probe(spectra.double(), labels)
    assert weights.shape == (9, downstream.CLASSES)
    assert torch.equal(classified(spectra.double(), weights), labels)  # and none of the classes without pixels


def test_scores_of_the_reference_and_of_worse_images():
    scene = next(iter(get("synthetic", size=32, train=0, val=1, test=0).load("val")))
    targets = torch.zeros(32, 32, dtype=torch.bool)
    targets[10:12, 20:23] = True
    truth = Truth.of(scene.cube, targets, "made")
    best, again = truth.scores(scene.cube), Truth.of(scene.cube, targets, "made").scores(scene.cube)
    assert best == again and best["abundance_rmse"] == 0 and best["psnr_db"] == np.inf and best["sam_deg"] == 0
    noisy = truth.scores(scene.cube + 0.1 * torch.randn(scene.cube.shape, generator=torch.Generator().manual_seed(0)))
    assert noisy["abundance_rmse"] > 0.01 and noisy["proxy_accuracy"] < best["proxy_accuracy"]


def test_only_methods_that_need_no_training(monkeypatch):
    for name, words in (("u2net", "must be trained"), ("psdnet-oracle", "looks at the reference")):
        with pytest.raises(MethodError, match=words):
            downstream.check_names((name,))
    assert downstream.seen_by("gsa") == set()
    assert downstream.seen_by("subspace-net@weights=shipped") & set(SCENES) == {
        "abu_airport_2", "abu_airport_3", "abu_urban_4", "abu_urban_5"}


@needs_scenes
def test_the_map_is_cut_as_the_reference():
    """A scene one of whose bands is the map: the protocol cuts both alike, and larger than 96 pixels both are there."""
    for entry, lost in (("abu_urban_4", True), ("abu_airport_1", False)):
        whole = downstream.anomalies(entry, (100, 100))
        assert whole.shape == (100, 100)
        cube = np.stack([whole.numpy().astype(float), np.arange(10000.0).reshape(100, 100)])
        protocol = replace(downstream.PROTOCOL, bands="all")
        reference = protocol.reference(Scene.from_native(entry, cube, np.array([500.0, 600.0])))
        cut = downstream.anomalies(entry, reference.size)
        band = reference.cube[0]
        assert cut.shape == (96, 96) and torch.equal(cut, band > band.mean()) and (cut.sum() < whole.sum()) == lost


def rows_of(*lines):
    head = ("image", "method", "seen", "status", "psnr_db", "rx_auc", "abundance_rmse")
    return pd.DataFrame([dict(zip(head, line)) for line in lines])


def test_what_was_trained_on_is_in_no_mean():
    rows = rows_of(("a", "net", "yes", "ok", 50.0, 0.9, 0.1), ("b", "net", "no", "ok", 30.0, 0.8, 0.2),
                   ("a", "gsa", "no", "ok", 20.0, 0.7, 0.3), ("b", "gsa", "no", "ok", 22.0, 0.6, 0.4))
    net, gsa = (cell(rows, method, "psnr_db", ("a", "b")) for method in ("net", "gsa"))
    assert net.value == 30 and not net.ranked and net.notes == (
        "mean over 1 of 2 scenes, without the 1 it was trained on: not ranked",)
    assert gsa.value == 21 and gsa.ranked and not gsa.notes
    assert cell(rows, "net", "psnr_db", ("b",)).ranked


def test_rank_correlations_have_the_sign_of_agreement():
    rows = rows_of(*(("a", f"m{i}", "no", "ok", psnr, rx, rmse)
                     for i, (psnr, rx, rmse) in enumerate(((20, 0.6, 0.4), (30, 0.7, 0.3), (40, 0.9, 0.1), (50, 0.8, 0.2)))))
    ranks = np.array([[0, 1, 2, 3], [0, 1, 3, 2]])
    expected = 1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (4 * 15)
    assert correlation(rows, "rx_auc", "psnr_db") == pytest.approx(expected)
    assert correlation(rows, "abundance_rmse", "psnr_db") == pytest.approx(expected)
    assert np.isnan(correlation(rows.assign(rx_auc=0.5), "rx_auc", "psnr_db"))


def test_the_command_measures_what_lacks_and_renders_the_same_page(tmp_path, monkeypatch):
    data = get("synthetic", size=32, train=0, val=2, test=0)
    monkeypatch.setattr(downstream, "PROTOCOL", replace(downstream.PROTOCOL, hr_size=32))
    monkeypatch.setattr(downstream, "get", lambda name: data)
    monkeypatch.setattr(downstream, "anomalies", lambda entry, size: draws(*size, seed=len(entry)) < 0.02)
    monkeypatch.setattr(downstream, "compare", partial(downstream.compare, scenes=data.entries("val")))
    words = ["downstream", "--methods", "bicubic", "gsa", "--results", str(tmp_path / "res"), "--reports",
             str(tmp_path / "rep")]
    assert run_benchmark.main(words) == 0
    path, page = tmp_path / "res" / "downstream.csv", tmp_path / "rep" / "downstream" / "index.html"
    head, *lines = path.read_text().splitlines()
    assert len(lines) == 2 * (1 + 2 * 2) and str(tmp_path) not in path.read_text()
    before = page.read_bytes()
    path.write_text("\n".join([head, *lines[:3], *lines[5:]]) + "\n")  # two rows of the first scene are lost
    assert run_benchmark.main(words) == 0
    again = path.read_text().splitlines()[1:]
    assert again[:-2] == [*lines[:3], *lines[5:]]
    assert [line.split(",")[:5] for line in again[-2:]] == [line.split(",")[:5] for line in lines[3:5]]
    assert page.read_bytes() == before  # of the same figures in another order
    rows = pd.read_csv(path)
    table = pd.read_csv(tmp_path / "rep/downstream/tables/downstream.csv").set_index("method")
    clean = rows[(rows["method"] == "gsa") & (rows["scenario"] == "clean")]
    for key in ("psnr_db", *downstream.SCORES):
        assert table.loc["gsa", key] == pytest.approx(clean[key].mean(), rel=1e-12)
    assert list(table.index) == ["reference", "bicubic", "gsa"] and table.loc["reference", "abundance_rmse"] == 0
    text = page.read_text()
    assert "no class labels" in text and "a proxy" in text and "11x11" in text
    assert 'href="downstream/index.html"' in (tmp_path / "rep" / "index.html").read_text()
