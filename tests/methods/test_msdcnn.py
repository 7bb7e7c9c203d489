"""MSDCNN against recorded outputs of its release, its counts and sizes."""

import pytest
import torch

from benchmark.fidelity.recordings import filled, inputs, load_case
from methods import create
from methods.registry import MethodError
from tests.methods.hooks import calls_of, differences, firsts
from tests.methods.images import pair

CASE = load_case("msdcnn")


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("msdcnn", bands=172, msi_bands=4), CASE)
    with calls_of(model, CASE["internals"]) as calls:
        image = model(*inputs(CASE))
    found = differences(firsts(calls) | {"output": image}, CASE["internals"] | {"output": CASE["output"]})
    assert len(found) == 7 and max(found.values()) < 1e-5, found


@pytest.mark.parametrize("msi_bands, total", [(4, CASE["params_total"]), (6, 1_928_052)])
def test_parameters(msi_bands, total):
    assert sum(p.numel() for p in create("msdcnn", bands=172, msi_bands=msi_bands).parameters()) == total


def test_sizes_and_widths():
    assert create("msdcnn", bands=9, msi_bands=1, ratio=3, width=6)(*pair(3, 5, msi_bands=1, ratio=3)).shape == (1, 9, 9, 15)
    with pytest.raises(MethodError, match="width 20; choose a multiple of 6"):
        create("msdcnn", bands=9, msi_bands=4, width=20)
