"""Convolutions in Winograd's domain against PyTorch's own, in float64."""

import copy

import pytest
import torch
from torch import nn

from methods import winograd
from methods.s3rnet import DFAB
from methods.winograd import PackedConv, PackedDense, Workspace

# B, C, N, H, W: sides that are no multiples of a tile, several strips an image, several images a strip
SIZES = [(1, 50, 60, 7, 5), (3, 86, 43, 8, 8), (2, 64, 64, 33, 70), (5, 64, 86, 12, 300), (1, 172, 172, 64, 64)]


def relative(value, expected):
    return float((value - expected).abs().max() / expected.abs().max())


def layer(inputs, outputs, **words):
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, 3, padding=1, **words)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("border", "bias"), [("zeros", True), ("zeros", False), ("reflect", True), ("replicate", False)])
@torch.no_grad()
def test_a_packed_convolution_is_the_convolution(monkeypatch, size, border, bias):
    monkeypatch.setattr(winograd, "LEAST_TILES", 0)
    batch, inputs, outputs, height, width = size
    conv, x = layer(inputs, outputs, padding_mode=border, bias=bias), torch.randn(batch, inputs, height, width)
    exact = copy.deepcopy(conv).double()(x.double())
    packed = PackedConv(conv)(x)
    assert packed.shape == exact.shape
    assert relative(packed, exact) < 6e-6  # 2e-5 with the points of the paper


@pytest.mark.parametrize("size", [(1, 86, 64, 64), (2, 86, 30, 22), (1, 86, 5, 3)])
@torch.no_grad()
def test_a_packed_dense_block_is_the_block(size):
    torch.manual_seed(0)
    block = DFAB(86, 43)
    for parameter in block.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter)  # biases are zero as built
    packed = PackedDense([block.conv1, block.conv2, block.conv3, block.conv4, block.conv5], 0.2, 0.2, Workspace())
    for seed in (1, 2):  # the second call finds what the first has left
        x = torch.randn(size, generator=torch.Generator().manual_seed(seed))
        assert relative(packed(x), block.float()(x)) < 2e-6


@torch.no_grad()
def test_a_smaller_image_does_not_see_the_one_before():
    torch.manual_seed(0)
    block, workspace = DFAB(86, 43), Workspace()
    packed = PackedDense([block.conv1, block.conv2, block.conv3, block.conv4, block.conv5], 0.2, 0.2, workspace)
    packed(torch.randn(1, 86, 32, 32))
    x = torch.randn(1, 86, 30, 29)  # of as many tiles
    assert relative(packed(x), block(x)) < 2e-6


@torch.no_grad()
def test_a_dense_block_of_a_large_image_is_computed_in_slabs(monkeypatch):
    torch.manual_seed(0)
    block, x = DFAB(48, 24), torch.randn(1, 48, 200, 20)
    monkeypatch.setattr(winograd, "SLAB", 40 * 20)
    packed = PackedDense([block.conv1, block.conv2, block.conv3, block.conv4, block.conv5], 0.2, 0.2, Workspace())
    heights = []
    whole = packed.block
    monkeypatch.setattr(packed, "block", lambda piece: heights.append(piece.shape[2]) or whole(piece))
    assert relative(packed(x), block(x)) < 2e-6
    assert len(heights) > 3 and max(heights) < 100


@pytest.mark.parametrize("size", SIZES)
def test_gradients_are_those_of_the_convolution(size):
    batch, inputs, outputs, height, width = size
    conv = layer(inputs, outputs)
    x = torch.randn(batch, inputs, height, width, requires_grad=True)
    weight = torch.randn(batch, outputs, height, width)
    ours = torch.autograd.grad((winograd.convolved(x, 1.0, list(conv.parameters())) * weight).sum(), [x, *conv.parameters()])
    double = copy.deepcopy(conv).double()
    wide = x.detach().double().requires_grad_()
    exact = torch.autograd.grad((double(wide) * weight.double()).sum(), [wide, *double.parameters()])
    assert all(relative(one, other) < 1e-5 for one, other in zip(ours, exact))


def test_gradients_of_a_dense_block_are_the_block_s():
    torch.manual_seed(0)
    block = DFAB(48, 24)
    parameters = [p for k in range(1, 6) for p in getattr(block, f"conv{k}").parameters()]
    for parameter in parameters[1::2]:
        nn.init.normal_(parameter)
    x = torch.randn(2, 48, 18, 10, requires_grad=True)
    weight = torch.randn_like(x)
    ours = torch.autograd.grad(((x + 0.2 * winograd.convolved(x, 0.2, parameters)) * weight).sum(), [x, *parameters])
    exact = torch.autograd.grad((block(x) * weight).sum(), [x, *parameters])
    assert all(relative(one, other) < 1e-5 for one, other in zip(ours, exact))


def test_what_cannot_be_packed_is_left_alone():
    assert winograd.fits(layer(96, 96))
    for other in (layer(96, 96, groups=2), layer(64, 64), nn.Conv2d(96, 96, 3), nn.Conv2d(96, 96, 1),
                  nn.Conv2d(96, 96, 3, padding=1, stride=2), nn.Conv2d(96, 96, 3, padding=2, dilation=2),
                  layer(96, 96).double(), nn.ConvTranspose2d(96, 96, 3, padding=1)):
        assert not winograd.fits(other)


@torch.no_grad()
def test_few_pixels_are_left_to_the_layer():
    conv, x = layer(96, 96), torch.randn(1, 96, 16, 16)
    assert torch.equal(PackedConv(conv)(x), conv(x))
    assert not torch.equal(PackedConv(conv)(torch.randn(1, 96, 32, 32)), conv(torch.randn(1, 96, 32, 32)))
