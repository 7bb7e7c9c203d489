"""DSDCN: the release's parameter count, sizes and loss (no recorded outputs exist)."""

import math

import pytest
import torch

from methods.dsdcn import mse_sam
from methods.registry import MethodError, card, create


def small(bands=9, ratio=4, **arguments):
    torch.manual_seed(0)
    return create("dsdcn", bands=bands, msi_bands=4, ratio=ratio, width=8, up_width=12, **arguments).eval()


@pytest.mark.parametrize(("bands", "printed"), [(32, 963_816), (172, 1_002_176)])
def test_counts_are_the_notebooks(bands, printed):
    with torch.device("meta"):
        state = create("dsdcn", bands=bands, msi_bands=4).state_dict()
    count = sum(value.numel() for key, value in state.items() if "num_batches" not in key)  # Keras has none
    assert count == printed


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_sizes(ratio):
    model, lr_hsi = small(ratio=ratio), torch.rand(1, 9, 3, 5)
    outputs = [model(lr_hsi, torch.rand(1, msi_bands, 3 * ratio, 5 * ratio)) for msi_bands in (4, 6)]
    assert outputs[0].shape == (1, 9, 3 * ratio, 5 * ratio)
    torch.testing.assert_close(*outputs, rtol=0, atol=0)  # whatever the MSI is
    assert len(model.upsample) == math.log2(ratio)


def test_unknown_ratio():
    with pytest.raises(MethodError, match="ratio 6"):
        small(ratio=6)


def test_glorot_limits():
    model = create("dsdcn", bands=32, msi_bands=4)
    depthwise, pointwise = model.head
    # Keras: sqrt(6 / (fan_in + fan_out)); its depthwise kernel (3, 3, 32, 1) has fans 9 * 32 and 9
    for layer, limit in ((depthwise, math.sqrt(6 / (9 * 32 + 9))), (pointwise, math.sqrt(6 / (32 + 64)))):
        assert 0.95 * limit < layer.weight.abs().max() <= limit
    assert pointwise.bias.abs().max() == 0


def test_loss():
    estimate = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).T.reshape(1, 2, 1, 2).requires_grad_()
    reference = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).T.reshape(1, 2, 1, 2)
    loss = mse_sam(estimate, reference)  # one of four values is wrong by 1; angles exactly 0, and 45 degrees
    assert loss.item() == pytest.approx(1.03 / 4 + 0.5 * (math.pi / 4 + 0) / 2, abs=1e-3)
    loss.backward()
    assert torch.isfinite(estimate.grad).all()


def test_task_reaches_every_parameter():
    recipe, model = card("dsdcn").recipes["release"], small()
    batch = {"lr_hsi": torch.rand(2, 1, 9, 4, 4), "hr_msi": torch.rand(2, 4, 16, 16),
             "hr_hsi": torch.rand(2, 9, 16, 16)}
    task = recipe.task({"dsdcn": model}, recipe)
    loss = task(batch)["loss"]
    torch.testing.assert_close(loss, mse_sam(model(batch["lr_hsi"][:, 0], batch["hr_msi"]), batch["hr_hsi"]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
