"""TFNet and ResTFNet against recorded outputs of their release, their counts and sizes."""

import pytest
import torch
from torch.nn import functional as F

from benchmark.fidelity.recordings import filled, inputs, load_case
from methods import create
from tests.methods.hooks import calls_of, differences, firsts
from tests.methods.images import pair

CASES = {name: load_case(name) for name in ("tfnet", "restfnet")}


@pytest.mark.golden
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_golden(name):
    case = CASES[name]
    model = filled(create(name, bands=172, msi_bands=4), case)
    with calls_of(model, case["internals"]) as calls:
        image = model(*inputs(case))
    found = differences(firsts(calls) | {"output": image}, case["internals"] | {"output": case["output"]})
    assert len(found) > 5 and max(found.values()) < 1e-5, found


@pytest.mark.parametrize("name, six", [("tfnet", 2_509_630), ("restfnet", 2_384_960)])
def test_parameters(name, six):
    for msi_bands, total in ((4, CASES[name]["params_total"]), (6, six)):
        assert sum(p.numel() for p in create(name, bands=172, msi_bands=msi_bands).parameters()) == total


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_other_sizes_repeat_their_last_pixels(name):
    model = filled(create(name, bands=9, msi_bands=3, ratio=2, width=4))
    lr_hsi, hr_msi = pair(5, 4, msi_bands=3, ratio=2)
    lr_padded, hr_padded = (torch.cat((x, x[..., -1:, :].expand(-1, -1, by, -1)), 2)
                            for x, by in ((lr_hsi, 1), (hr_msi, 2)))
    whole = model.fused(F.interpolate(lr_padded, scale_factor=2, mode="bilinear"), hr_padded)
    torch.testing.assert_close(model(lr_hsi, hr_msi), whole[..., :10, :])
    assert model(*pair(2, 3, msi_bands=3, ratio=2)).shape == (1, 9, 4, 6)
