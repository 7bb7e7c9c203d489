"""PSRT against recorded outputs of its release, its shuffle against a loop, its counts and sizes."""

import pytest
import torch
from torch.nn import functional as F

from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import create
from methods.psrt import shuffle, unshuffle
from methods.registry import MethodError
from tests.methods.hooks import calls_of, differences, firsts
from tests.methods.images import pair

CASE = load_case("psrt")


@pytest.mark.golden
@torch.no_grad()
def test_golden_with_and_without_interpolation():
    model = filled(create("psrt", bands=172, msi_bands=4), CASE)
    lr_hsi, hr_msi, up_hsi = inputs(CASE)
    assert relative_difference(model(lr_hsi, hr_msi), CASE["output"]) < 1e-5
    with calls_of(model, CASE["internals"]) as calls:
        direct = model.sharpened(up_hsi, hr_msi)
    assert relative_difference(direct, CASE["extra_outputs"]["output_direct"]) < 1e-5
    seen = {name: found.movedim(-1, 1) if name.startswith("w.layers") else found for name, found in firsts(calls).items()}
    found = differences(seen, CASE["internals"])
    assert len(found) == 8 and max(found.values()) < 1e-5, found


@pytest.mark.parametrize("bands, msi_bands, total", [(172, 4, CASE["params_total"]), (172, 6, 329_676), (31, 3, 247_455)])
def test_parameters(bands, msi_bands, total):
    assert sum(p.numel() for p in create("psrt", bands=bands, msi_bands=msi_bands).parameters()) == total


@pytest.mark.parametrize("window", [8, 4, 2])
def test_shuffle_is_the_loop(window):
    x, side = torch.rand(2, 16, 24, 3), window // 2
    expected = torch.full_like(x, torch.nan)
    for row in range(16):
        for column in range(24):
            (down, y), (across, z) = divmod(row, side), divmod(column, side)  # cell, and place inside of it
            to_row = (down % 2) * 8 + (down // 2) * side + y
            to_column = (across % 2) * 12 + (across // 2) * side + z
            expected[:, to_row, to_column] = x[:, row, column]
    assert torch.equal(shuffle(x, window), expected)
    assert torch.equal(unshuffle(expected, window), x)


@torch.no_grad()
def test_other_sizes_repeat_their_last_pixels():
    model, (lr_hsi, hr_msi) = filled(create("psrt", bands=9, msi_bands=4, width=8)), pair(5, 4)
    lr_padded, hr_padded = (torch.cat((x, x[..., -1:, :].expand(-1, -1, by, -1)), 2)
                            for x, by in ((lr_hsi, 1), (hr_msi, 4)))
    whole = model.sharpened(F.interpolate(lr_padded, scale_factor=4, mode="bicubic"), hr_padded)
    torch.testing.assert_close(model(lr_hsi, hr_msi), whole[..., :20, :])
    six = create("psrt", bands=9, msi_bands=6, ratio=3, width=8)
    assert six(*pair(3, 5, msi_bands=6, ratio=3)).shape == (1, 9, 9, 15)


def test_a_width_that_eight_heads_cannot_share_is_refused():
    with pytest.raises(MethodError, match="width 20; choose a multiple of 8"):
        create("psrt", bands=9, msi_bands=4, width=20)
