"""Fusformer against the recorded outputs of its release, its tiles, and what is peculiar to it."""

import math

import pytest
import torch

import methods.fusformer  # noqa: F401 (registers it)
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import create
from methods.registry import MethodError
from tests.methods.images import pair

CASE = load_case("fusformer")


def small(msi_bands=4, ratio=4, bands=9, tile=64):
    torch.manual_seed(0)
    return create("fusformer", bands=bands, msi_bands=msi_bands, ratio=ratio, tile=tile).eval()


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("fusformer", bands=172, msi_bands=4), CASE)
    images = inputs(CASE, "lr_hsi", "hr_msi")
    assert relative_difference(model(*images), CASE["output"]) < 1e-5
    # Three quarters of the output are clamped: what is clamped says more.
    upsampled, highpass = model.upsampled_and_highpass(*images)
    assert relative_difference(upsampled, CASE["extra_outputs"]["upsampled_clamped"]) < 1e-5
    assert relative_difference(highpass, CASE["extra_outputs"]["highpass"]) < 1e-5


def test_parameters_are_the_releases():
    with torch.device("meta"):
        model = create("fusformer", bands=172, msi_bands=4)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert sum(sizes.values()) == CASE["params_total"]
    assert sum(size for name, size in sizes.items() if name not in model.unused) == CASE["params_used_thop"]


def test_attention_is_the_equation():
    layer = small().T_E.layers[0][0].fn.fn
    tokens = torch.randn(2, 10, 48)
    query, key, value = (part.reshape(2, 10, 3, 16) for part in layer.to_qkv(tokens).chunk(3, 2))
    heads = [torch.softmax(query[:, :, h] @ key[:, :, h].mT / math.sqrt(16), 2) @ value[:, :, h] for h in range(3)]
    assert (layer(tokens) - layer.to_out(torch.cat(heads, 2))).abs().max() < 1e-6


@pytest.mark.parametrize("msi_bands,ratio", [(6, 4), (4, 2), (4, 8)])
def test_bands_ratios_and_non_square_images(msi_bands, ratio):
    lr_hsi, hr_msi = pair(2, 3, msi_bands, ratio)
    assert small(msi_bands, ratio)(lr_hsi, hr_msi).shape == (1, 9, 2 * ratio, 3 * ratio)


@torch.no_grad()
def test_tiles_are_fused_on_their_own_in_evaluation_and_together_in_training():
    model = small(tile=16)
    lr_hsi, hr_msi = pair(5, 8)  # 4 + 1 and 4 + 4 LR pixels
    tiles = [[model(lr_hsi[..., i : i + 4, j : j + 4], hr_msi[..., 4 * i : 4 * i + 16, 4 * j : 4 * j + 16])
              for j in (0, 4)] for i in (0, 4)]
    stitched = torch.cat([torch.cat(row, 3) for row in tiles], 2)
    assert torch.equal(model(lr_hsi, hr_msi), stitched)
    together = model.train()(lr_hsi, hr_msi)
    assert (together - stitched).abs().max() > 1e-3
    assert torch.equal(together, small(tile=32)(lr_hsi, hr_msi))


def test_tile_must_hold_whole_lr_pixels():
    with pytest.raises(MethodError, match="tile 20"):
        create("fusformer", bands=9, msi_bands=4, ratio=8, tile=20)


def test_images_of_a_batch_do_not_meet_and_used_parameters_learn():
    model = small()
    images = pair(4, 4, batch=2)
    fused = model(*images)
    single = torch.cat([model(*(image[i : i + 1] for image in images)) for i in range(2)])
    assert (fused - single).abs().max() < 1e-5
    fused.square().mean().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert sorted(still) == sorted(model.unused)
