"""MSSJFL against the recorded outputs of its release, and what is peculiar to it."""

import pytest
import torch

from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import create
from methods.mssjfl import ChannelAttention
from methods.registry import MethodError

CASE = load_case("mssjfl")


def small(msi_bands=4, ratio=4, bands=9):
    torch.manual_seed(0)
    return create("mssjfl", bands=bands, msi_bands=msi_bands, ratio=ratio, fh=16, fm=16).eval()


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("mssjfl", bands=172, msi_bands=4), CASE)
    images = inputs(CASE, "lr_hsi", "hr_msi")
    assert relative_difference(model(*images), CASE["output"]) < 1e-5


@pytest.mark.parametrize("fm,parameters", [(64, CASE["params_total"]), (32, CASE["variant_fm32"]["params_total"])])
def test_parameters_are_the_releases(fm, parameters):
    with torch.device("meta"):
        model = create("mssjfl", bands=172, msi_bands=4, fm=fm)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("msi_bands,ratio", [(6, 4), (4, 2), (4, 8), (3, 3)])
def test_bands_ratios_and_non_square_images(msi_bands, ratio):
    lr_hsi, hr_msi = torch.rand(1, 9, 3, 5), torch.rand(1, msi_bands, 3 * ratio, 5 * ratio)
    assert small(msi_bands, ratio)(lr_hsi, hr_msi).shape == (1, 9, 3 * ratio, 5 * ratio)


def test_images_of_a_batch_do_not_meet_and_all_parameters_learn():
    model = small()
    for layer in model.modules():
        if isinstance(layer, ChannelAttention):
            # At this width its ReLU has a single unit: keep it awake, and let the gates vary.
            torch.nn.init.ones_(layer.shared_MLP[0].bias)
            torch.nn.init.normal_(layer.shared_MLP[0].weight)
            torch.nn.init.normal_(layer.shared_MLP[2].weight)
    images = torch.rand(2, 9, 4, 4), torch.rand(2, 4, 16, 16)
    images[0][1] *= 3
    fused = model(*images)
    single = torch.cat([model(*(image[i : i + 1] for image in images)) for i in range(2)])
    assert (fused - single).abs().max() < 1e-5
    fused.abs().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_initialisation_is_the_releases():
    model = create("mssjfl", bands=40, msi_bands=4)
    weights = torch.cat([layer.weight.flatten() for layer in model.modules()
                         if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))])
    assert weights.std().item() == pytest.approx(0.05, rel=1e-2)
    assert not model.conv6[0].bias.any()
    assert model.conv_trans.weight.std().item() < 0.04  # PyTorch's default


def test_a_width_that_the_channel_attention_cannot_reduce_is_refused():
    with pytest.raises(MethodError, match="fm 8"):
        create("mssjfl", bands=9, msi_bands=4, fm=8)
