"""The S2BNet-style network: what is binary is binary, its gradients are the estimators, its kernels Gabor's."""

import math

import pytest
import torch

from methods.registry import MethodError, create
from methods.s2bnet import GSFA, SRM, BinaryConv, S2BConv, binary_activation


def small(bands=9, msi_bands=4, ratio=4, **arguments):
    torch.manual_seed(0)
    return create("s2bnet", bands=bands, msi_bands=msi_bands, ratio=ratio, width=8, depth=2, **arguments).eval()


@pytest.mark.parametrize("ratio", [2, 3, 4, 8])
def test_sizes(ratio):
    lr_hsi, hr_msi = torch.rand(1, 9, 3, 5), torch.rand(1, 6, 3 * ratio, 5 * ratio)
    assert small(msi_bands=6, ratio=ratio)(lr_hsi, hr_msi).shape == (1, 9, 3 * ratio, 5 * ratio)


def test_binary_activation():
    x = torch.tensor([-2.0, -0.75, -0.25, 0.0, 0.25, 0.75, 2.0], requires_grad=True)
    y = binary_activation(x)
    assert y.tolist() == [-1, -1, -1, 1, 1, 1, 1]
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0, 0.5, 1.5, 2.0, 1.5, 0.5, 0]))


def test_binary_convolution():
    torch.manual_seed(0)
    layer = BinaryConv(3)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = 1.5  # beyond the clip: no gradient
    x = torch.rand(1, 3, 5, 4).sub(0.5).sign()
    scale = layer.weight.detach().abs().mean((1, 2, 3))
    output = layer(x)
    expected = torch.nn.functional.conv2d(x, layer.weight.detach().sign(), padding=1) * scale[None, :, None, None]
    torch.testing.assert_close(output, expected)
    output.sum().backward()
    assert layer.weight.grad[0, 0, 0, 0] == 0
    assert (layer.weight.grad != 0).sum() > 70  # of 81


def test_convolutions_inside_see_signs_only():
    model, seen = small(), []
    for block in model.body:
        assert isinstance(block, S2BConv)
        block.conv.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].unique().tolist()))
    model(torch.rand(1, 9, 4, 4), torch.rand(1, 4, 16, 16))
    assert seen == [[-1, 1]] * 2


def test_redistribution_starts_at_the_identity():
    torch.manual_seed(0)
    x = torch.rand(2, 8, 6, 5)
    torch.testing.assert_close(SRM(8)(x), x, rtol=0.02, atol=0.02)
    layer = SRM(8)
    with torch.no_grad():
        layer.perceptron[2].weight.zero_()
        layer.perceptron[2].bias.copy_(torch.tensor([0.5] * 8 + [-0.25] * 8))
    torch.testing.assert_close(layer(x), 1.5 * x - 0.25)  # alpha's half first, then beta's


def test_gabor_kernels():
    one, same, other = (GSFA(6, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.kernels, same.kernels)
    assert not torch.allclose(one.kernels, other.kernels)
    rng = torch.Generator().manual_seed(0)
    frequency, angle = 0.05 + 0.4 * torch.rand(6, generator=rng), math.pi * torch.rand(6, generator=rng)
    for kernel, f, t in zip(one.kernels[:, 0].tolist(), frequency.tolist(), angle.tolist()):
        plain = [[0.0] * 5 for _ in range(5)]
        for row in range(5):
            for column in range(5):
                x, y = column - 2, row - 2
                u, v = x * math.cos(t) + y * math.sin(t), -x * math.sin(t) + y * math.cos(t)
                plain[row][column] = math.exp(-(u * u + 0.25 * v * v) / 4.5) * math.cos(2 * math.pi * f * u)
        norm = sum(abs(value) for line in plain for value in line)
        torch.testing.assert_close(torch.tensor(kernel), torch.tensor(plain) / norm)
    assert not list(one.parameters())  # fixed, but kept with the parameters of the network
    assert list(one.state_dict()) == ["kernels"]


def test_kernels_do_not_follow_the_training_seed():
    torch.manual_seed(1)
    first = create("s2bnet", bands=5, msi_bands=4, width=8, depth=1).state_dict()
    torch.manual_seed(2)
    second = create("s2bnet", bands=5, msi_bands=4, width=8, depth=1).state_dict()
    assert torch.equal(first["body.0.gsfa.kernels"], second["body.0.gsfa.kernels"])
    assert not torch.equal(first["body.0.conv.weight"], second["body.0.conv.weight"])


def test_customary_counts():
    model = create("s2bnet", bands=172, msi_bands=4)
    assert model.binary_parameters() == 16 * 64 * 64 * 9
    assert model.binary_macs(256, 128) == 16 * 64 * 64 * 9 * 256 * 128
    assert sum(p.numel() for p in model.parameters()) == 861_420
    with pytest.raises(MethodError, match="depth 0"):
        create("s2bnet", bands=5, msi_bands=4, depth=0)


def test_every_parameter_gets_a_gradient():
    model = small()
    model(torch.rand(1, 9, 4, 4), torch.rand(1, 4, 16, 16)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_output_is_a_residual():
    model = small()
    for parameter in model.tail.parameters():
        torch.nn.init.zeros_(parameter)
    lr_hsi = torch.rand(1, 9, 4, 6)
    expected = torch.nn.functional.interpolate(lr_hsi, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(model(lr_hsi, torch.rand(1, 4, 16, 24)), expected)
