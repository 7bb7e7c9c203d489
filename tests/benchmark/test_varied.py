"""Crops seen by random sensors: repeatable, made as they say, and varied in what the recipe names alone."""

from dataclasses import replace

import pytest
import torch

from benchmark.plan import Job, Study
from benchmark.protocol import PAPER
from benchmark.varied import Varied
from methods.registry import VARIED

STUDY = Study("s", "s", ("s3rnet-subspace",), "synthetic", {"size": 64, "train": 2, "val": 1, "test": 1},
              protocol=replace(PAPER, hr_size=64), training={"crop": 48})


def crops(vary=VARIED, batch=1):
    job = Job("train", STUDY, ("s3rnet-subspace",), 0)
    return Varied(job, replace(STUDY.stages_of("s3rnet-subspace")[0], vary=vary, batch=batch))


def degraded(item, phase):
    """A plain loop."""
    x, psf = item["hr_hsi"].double(), item["psf"].double()
    half, (h, w) = psf.shape[0] // 2, item["lr_hsi"].shape[-2:]
    ratio = x.shape[-1] // w
    size = x.shape[-1]

    def place(i):
        i = abs(i)
        return i if i < size else 2 * (size - 1) - i

    out = torch.zeros(len(x), h, w, dtype=torch.float64)
    for i in range(h):
        for j in range(w):
            rows = [place(phase + ratio * i + k - half) for k in range(len(psf))]
            columns = [place(phase + ratio * j + k - half) for k in range(len(psf))]
            out[:, i, j] = (x[:, rows][:, :, columns] * psf).sum((1, 2))
    return out


def test_a_draw_is_the_same_again_and_another_one_is_not():
    one, two = crops(), crops()
    for draw in (0, 7):
        assert all(torch.equal(value, two[draw][key]) for key, value in one[draw].items())
    assert len({tuple(one[draw]["lr_hsi"].shape) for draw in range(12)}) > 4  # bands and ratios differ


def test_images_are_what_the_told_sensors_see():
    items = crops(tuple(each for each in VARIED if each not in ("noise", "misregistration")))
    for draw in range(3):
        item = items[draw]
        assert float(item["hr_hsi"].max()) == 1 and item["psf"].sum() == pytest.approx(1, abs=1e-5)
        assert torch.allclose(item["srf"].sum(1), torch.ones(len(item["srf"])), atol=1e-5)
        assert torch.allclose(item["lr_hsi"][0].double(), degraded(item, int(item["phase"])), atol=1e-5)
        assert torch.allclose(item["hr_msi"], torch.einsum("mb,bxy->mxy", item["srf"], item["hr_hsi"]), atol=1e-6)


def test_what_is_not_named_is_as_the_protocol_says():
    item = crops(())[3]
    assert item["lr_hsi"].shape[-1] * PAPER.ratio == item["hr_hsi"].shape[-1] == 48 and len(item["hr_hsi"]) == 172
    assert int(item["phase"]) == PAPER.phase and torch.allclose(item["psf"], PAPER.psf, atol=1e-6)
    assert torch.allclose(item["lr_hsi"][0].double(), degraded(item, PAPER.phase), atol=1e-5)
    assert len(item["srf"]) in (4, 6)


def test_noise_and_misregistration_are_there_in_some_crops():
    plain, noisy, moved = crops(()), crops(("noise",)), crops(("misregistration",))
    differs = {name: [not torch.allclose(of[draw]["lr_hsi"], plain[draw]["lr_hsi"], atol=1e-4) for draw in range(30)]
               for name, of in (("noise", noisy), ("misregistration", moved))}
    assert 8 <= sum(differs["noise"]) <= 24 and 1 <= sum(differs["misregistration"]) <= 12


def test_a_batch_is_of_one_sensor():
    items = crops(batch=4)
    for first in (0, 4):
        batch = [items[first + place] for place in range(4)]
        assert all(torch.equal(item[key], batch[0][key]) for item in batch for key in ("psf", "srf", "phase"))
        assert len({item["hr_hsi"].shape for item in batch}) == 1 and not torch.equal(batch[0]["hr_hsi"], batch[1]["hr_hsi"])
