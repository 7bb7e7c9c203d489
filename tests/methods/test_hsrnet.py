"""HSRnet against the recorded output and inner tensors of its release, and TensorFlow's padding."""

import pytest
import torch
from torch.nn import functional as F

from benchmark.complexity import multiply_adds
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import create
from methods.hsrnet import same
from tests.methods.hooks import calls_of
from tests.methods.images import pair

CASE = load_case("hsrnet")
NAMES = [name.replace("/", ".") for name in CASE["internals"]]


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("hsrnet", bands=172, msi_bands=4), CASE)
    lr_hsi, hr_msi, lms = inputs(CASE, "lr_hsi", "hr_msi", "lms")
    with calls_of(model, NAMES) as seen:
        detail = model.detail(lr_hsi, hr_msi)
    assert relative_difference(detail, CASE["output"]) < 1e-5
    assert relative_difference((detail + lms).clamp(0, 1), CASE["extra_outputs"]["fused"]) < 1e-5
    assert relative_difference(model(lr_hsi, hr_msi), CASE["extra_outputs"]["fused_bicubic"]) < 1e-5
    activation = {"net.CA.Conv_1": torch.sigmoid, "net.Conv": torch.sigmoid}  # recorded behind it
    activation |= {f"net.Conv_{i}": lambda x: F.leaky_relu(x, 0.2) for i in (3, 4, 5)}
    for name, summary in zip(NAMES, CASE["internals"].values()):
        assert relative_difference(activation.get(name, torch.clone)(seen[name][0]), summary) < 1e-5, name


@pytest.mark.parametrize("msi_bands, total", [(4, CASE["params_total"]), (6, 5_058_321)])
def test_parameters(msi_bands, total):
    with torch.device("meta"):
        model = create("hsrnet", bands=172, msi_bands=msi_bands)
    assert sum(p.numel() for p in model.parameters()) == total
    used = sum(p.numel() for name, p in model.named_parameters() if not name.startswith(model.unused))
    assert total - used == 37


def test_multiply_adds():
    with torch.device("meta"):
        model = create("hsrnet", bands=172, msi_bands=4)
    assert multiply_adds(model, 172, 4, 64, 256) == (CASE["macs_conv_linear_64_256"], 0)


@pytest.mark.parametrize("side, stride, before, after", [(64, 4, 1, 1), (64, 1, 2, 3), (10, 3, 2, 3), (16, 8, 0, 0)])
def test_padding_is_tensorflows(side, stride, before, after):
    """Against its documented rule, in numbers."""
    image = torch.rand(1, 1, side, side)
    padded = same(image, stride)
    torch.testing.assert_close(padded[..., before : before + side, before : before + side], image)
    assert padded.shape[-2:] == (side + before + after,) * 2
    assert padded.sum() == pytest.approx(image.sum().item(), rel=1e-5)
    assert (padded.shape[-1] - 6) // stride + 1 == -(-side // stride)


@torch.no_grad()
@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 5), 6), (3, (3, 5), 1), (8, (2, 3), 10)])
def test_any_size_ratio_and_msi(ratio, size, msi_bands):
    fused = create("hsrnet", bands=9, msi_bands=msi_bands, ratio=ratio, width=8)(*pair(*size, msi_bands, ratio))
    assert fused.shape == (1, 9, ratio * size[0], ratio * size[1]) and fused.isfinite().all()


def test_initialisation_is_tensorflows():
    model = create("hsrnet", bands=60, msi_bands=4)
    weight = model.net["Conv_3"].weight
    assert weight.var().item() == pytest.approx(2 / (9 * 64), rel=0.02)
    assert weight.abs().max() <= 2 * (2 / (9 * 64)) ** 0.5 / 0.8796
    assert not model.net["Conv_3"].bias.any()
    assert model.net["CA"]["Conv_1"].weight.std().item() == pytest.approx(1, abs=0.3)
