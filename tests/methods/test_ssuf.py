"""SSUF: the release's parameter count, sizes and loss (no recorded outputs exist)."""

import pytest
import torch

import methods.ssuf  # noqa: F401  (registers it)
from methods.registry import card, create
from methods.ssuf import gradient_loss


def small(ratio=4):
    torch.manual_seed(0)
    return create("ssuf", bands=9, msi_bands=4, ratio=ratio, width=8).eval()


def test_count_is_the_notebooks():
    state = create("ssuf", bands=32, msi_bands=4).state_dict()
    count = sum(value.numel() for key, value in state.items() if "num_batches" not in key)
    assert f"{count / 1e6:.2f}" == "0.33"  # all that the notebook prints
    assert count == 333_344


@pytest.mark.parametrize("ratio", [2, 3, 4, 8])
def test_sizes(ratio):
    model, lr_hsi = small(ratio), torch.rand(1, 9, 3, 5)
    outputs = [model(lr_hsi, torch.rand(1, msi_bands, 3 * ratio, 5 * ratio)) for msi_bands in (4, 6)]
    assert outputs[0].shape == (1, 9, 3 * ratio, 5 * ratio)
    torch.testing.assert_close(*outputs, rtol=0, atol=0)  # whatever the MSI is


def test_loss():
    error = torch.zeros(1, 2, 2, 3, dtype=torch.float64)
    error[0, 0, 0, 0] = 1  # 12 values; of 6 vertical, 8 horizontal and 6 spectral differences one each is 1
    reference = torch.rand(1, 2, 2, 3, dtype=torch.float64)
    expected = 2 / 12 + 0.1 * (1 / 6 + 1 / 8) + 0.1 / 6
    assert gradient_loss(reference + error, reference).item() == pytest.approx(expected)


def test_task_reaches_every_parameter():
    recipe, model = card("ssuf").recipes["release"], small()
    batch = {"lr_hsi": torch.rand(2, 1, 9, 4, 4), "hr_msi": torch.rand(2, 4, 16, 16),
             "hr_hsi": torch.rand(2, 9, 16, 16)}
    loss = recipe.task({"ssuf": model}, recipe)(batch)["loss"]
    torch.testing.assert_close(loss, gradient_loss(model(batch["lr_hsi"][:, 0], batch["hr_msi"]), batch["hr_hsi"]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
