"""HyperRefiner against the recorded outputs of its release, its tiles, its loss and its quirks."""

import pytest
import torch
from torch.nn import functional as F

from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import card, create
from methods.hyperrefiner import CA, MULTIPLE
from tests.methods.images import pair

CASE = load_case("hyperrefiner")


def small(msi_bands=4, ratio=4, bands=9, **arguments):
    torch.manual_seed(0)
    return create("hyper-refiner", bands=bands, msi_bands=msi_bands, ratio=ratio, width=8, **arguments).eval()


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("hyper-refiner", bands=172, msi_bands=4, lr_size=CASE["settings"]["LR_size"]), CASE)
    seen = {}

    def watch(level):
        def after(_, images, out):
            seen[f"encoder_{level}"] = images[1]

        def after_tail(_, images, out):
            seen[f"attention_product_{level}"], seen[f"attended_{level}"] = images[0], out

        attention = getattr(model, f"spectralattention{level}")
        attention.register_forward_hook(after)
        attention.tail.register_forward_hook(after_tail)

    for level in (1, 2, 3):
        watch(level)
    images = inputs(CASE, "lr_hsi", "hr_msi")
    prediction, coarse, code = model.forward_with_coarse(*images)
    assert relative_difference(prediction, CASE["output"]) < 1e-5
    assert torch.equal(model(*images), prediction)
    assert relative_difference(coarse, CASE["extra_outputs"]["coarse_hsi"]) < 1e-5
    assert relative_difference(model.AE.decoder(code), CASE["extra_outputs"]["de_lr_hsi"]) < 1e-5
    # The prediction hardly depends on encoder and attention: their own tensors do.
    assert seen.keys() == CASE["internals"].keys()
    for name, value in seen.items():
        assert relative_difference(value, CASE["internals"][name]) < 1e-5, name


@pytest.mark.parametrize("arguments,parameters", [
    ({}, CASE["params_total"]), ({"width": 128}, 21_283_608), ({"width": 128, "decoder": False}, 19_344_748),
])
def test_parameters_are_the_releases(arguments, parameters):
    with torch.device("meta"):
        model = create("hyper-refiner", bands=172, msi_bands=4, **arguments)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_channel_gate_kernels():
    assert [CA(width).conv.kernel_size for width in (64, 128)] == [(3,), (5,)]


@pytest.mark.parametrize("msi_bands,ratio", [(6, 4), (4, 2), (4, 8)])
@torch.no_grad()
def test_bands_ratios_and_sides_that_eight_does_not_divide(msi_bands, ratio):
    model, (lr_hsi, hr_msi) = small(msi_bands, ratio), pair(8, 13, msi_bands, ratio)
    fused = model(lr_hsi, hr_msi)
    padded = F.pad(lr_hsi, (0, 3, 0, 0), mode="replicate"), F.pad(hr_msi, (0, 3 * ratio, 0, 0), mode="replicate")
    assert torch.equal(fused, model.forward_with_coarse(*padded)[0][..., : 13 * ratio])


@torch.no_grad()
def test_larger_images_are_tiled_in_evaluation_alone():
    model = small(lr_size=MULTIPLE)
    lr_hsi, hr_msi = pair(8, 16)
    left = model.forward_with_coarse(lr_hsi[..., :8], hr_msi[..., :32])[0]
    right = model.forward_with_coarse(lr_hsi[..., 8:], hr_msi[..., 32:])[0]
    tiled = model(lr_hsi, hr_msi)
    assert torch.equal(tiled, torch.cat((left, right), 3))
    whole = small(lr_size=16)(lr_hsi, hr_msi)
    assert (whole - tiled).abs().max() > 1e-3


@torch.no_grad()
def test_without_decoder_the_attention_sees_the_code_unrectified():
    images = pair(8, 8)
    with_decoder, without = small(), small(decoder=False)
    kept = {k: v for k, v in with_decoder.state_dict().items() if not k.startswith("AE.decoder.")}
    without.load_state_dict(kept)
    for model in (with_decoder, without):
        model.AE.encoder.module[-2].bias.fill_(-0.1)  # of the last norm, which follows a ReLU
    assert with_decoder.forward_with_coarse(*images)[2].min() == 0
    assert without.forward_with_coarse(*images)[2].min() < 0


def test_images_of_a_batch_do_not_meet_and_used_parameters_learn():
    model = small()
    images = pair(8, 8, batch=2)
    fused = model(*images)
    single = torch.cat([model(*(image[i : i + 1] for image in images)) for i in range(2)])
    assert (fused - single).abs().max() < 1e-5 * fused.abs().max()
    fused.square().mean().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == [name for name, _ in model.named_parameters() if name.startswith(model.unused)]


@pytest.mark.parametrize("scale", [0.1, 10.0])  # the coarse image nearer to the reference than the refined one, or not
def test_loss_is_the_releases(scale):
    model = small().train()
    recipe = card("hyper-refiner").recipes["release"]
    task = recipe.task({"hyper-refiner": model}, recipe)
    with torch.no_grad():
        for parameter in (model.final.weight, model.conv_tailf.weight):
            parameter.mul_(scale)
    lr_hsi, hr_msi = pair(8, 8, batch=2)
    terms = task({"lr_hsi": lr_hsi[:, None], "hr_msi": hr_msi, "hr_hsi": torch.rand(2, 9, 32, 32)})
    a, b, autoencoder = (terms[f"hyper-refiner/{key}"] for key in ("refined", "coarse", "autoencoder"))
    expected = b * a / (a + b) + a * b / (a + b) if b > a else a * a / (a + b) + b * b / (a + b)
    assert terms["loss"].item() == pytest.approx((expected + autoencoder).item())
    terms["hyper-refiner/autoencoder"].backward(retain_graph=True)
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None} == {"AE"}
    assert all(p.grad is not None for p in model.AE.parameters())
    terms["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_projection_is_fixed_and_never_trained():
    recipe = card("hyper-refiner").recipes["release"]
    first, second = (recipe.task({"hyper-refiner": small()}, recipe) for _ in range(2))
    assert torch.equal(first.projection, second.projection)
    assert "projection" not in dict(first.named_parameters())
    assert 0.1 < first.projection.abs().max() < 9**-0.5  # the range of PyTorch's initialisation
    estimate, reference = torch.rand(2, 2, 9, 4, 4)
    projected = F.l1_loss(*(F.conv2d(image, first.projection.view(1, 9, 1, 1)) for image in (estimate, reference)))
    peak = reference.amax((2, 3), keepdim=True)
    expected = F.l1_loss(estimate / peak, reference / peak) + projected
    assert first.fidelity(estimate, reference).item() == pytest.approx(expected.item(), rel=1e-5)


def test_parameter_groups_hold_every_parameter_once_and_the_rest_follows_the_recipe():
    model, recipe = small(), card("hyper-refiner").recipes["release"]
    autoencoder, rest = recipe.task({"hyper-refiner": model}, recipe).parameter_groups()
    assert (autoencoder["name"], rest["name"]) == ("hyper-refiner/autoencoder", "hyper-refiner")
    assert (autoencoder["lr"], autoencoder["weight_decay"], autoencoder["schedule"]) == (5e-3, 0.0, "step:2000:0.95")
    assert set(rest) == {"params", "name"}  # all else is the recipe's of the stage
    assert {id(p) for p in autoencoder["params"]} == {id(p) for p in model.AE.parameters()}
    ids = [id(p) for p in autoencoder["params"] + rest["params"]]
    assert len(ids) == len(set(ids)) and set(ids) == {id(p) for p in model.parameters()}
