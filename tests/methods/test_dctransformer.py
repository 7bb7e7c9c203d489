"""DCTransformer against the recorded output and inner tensors of its release."""

import pytest
import torch

from benchmark.complexity import multiply_adds
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import create
from methods.registry import MethodError
from tests.methods.hooks import calls_of
from tests.methods.images import pair

CASE = load_case("dctransformer")


def small(msi_bands=4, ratio=4, **arguments):
    sizes = {"width": 12, "depth": 3, "heads": 2} | arguments
    return create("dctransformer", bands=9, msi_bands=msi_bands, ratio=ratio, **sizes)


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("dctransformer", bands=172, msi_bands=4), CASE)
    with calls_of(model, CASE["internals"]) as seen:
        fused = model(*inputs(CASE, "lr_hsi", "hr_msi"))
    assert relative_difference(fused, CASE["output"]) < 1e-5
    for name, summary in CASE["internals"].items():
        first = seen[name][0].flatten(1, 2) if len(summary["shape"]) == 3 else seen[name][0]  # tokens are images here
        assert relative_difference(first, summary) < 1e-5, name


@pytest.mark.parametrize("msi_bands, total", [(4, CASE["params_total"]), (6, 8_604_092)])
def test_parameters(msi_bands, total):
    with torch.device("meta"):
        model = create("dctransformer", bands=172, msi_bands=msi_bands)
    assert sum(p.numel() for p in model.parameters()) == total


def test_multiply_adds():
    with torch.device("meta"):
        model = create("dctransformer", bands=172, msi_bands=4)
    expected = CASE["macs_conv_linear_64_256"], CASE["macs_attention_products_64_256"]
    assert multiply_adds(model, 172, 4, 64, 256) == expected


@torch.no_grad()
@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 5), 6), (3, (3, 5), 1), (8, (2, 3), 10)])
def test_any_size_ratio_and_msi(ratio, size, msi_bands):
    fused = small(msi_bands, ratio)(*pair(*size, msi_bands, ratio))
    assert fused.shape == (1, 9, ratio * size[0], ratio * size[1]) and fused.isfinite().all()


def test_stochastic_depth_rises_over_all_passes_of_the_group():
    blocks = small(drop_path=0.8).body.layers[0].residual_group["blocks"]
    rates = [{part.drop_rate for part in (block.cross1, block.cross2, block.swin)} for block in blocks]
    assert [list(each) for each in rates] == [[pytest.approx(0.1 * i)] for i in range(3)]


def test_errors_name_the_remedy():
    with pytest.raises(MethodError, match="width 12 for 5 heads; choose a multiple"):
        small(heads=5)
