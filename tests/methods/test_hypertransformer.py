"""HyperTransformer against the recorded outputs of its release, its phases, its tiles and its errors."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import card, create
from methods.hypertransformer import RawAttention, normalised_l1
from methods.registry import MethodError

CASE = load_case("hypertransformer")


def small(msi_bands=4, lr_pixels=16, heads=4, bands=9):
    torch.manual_seed(0)
    return create("hyper-transformer", bands=bands, msi_bands=msi_bands, lr_pixels=lr_pixels, heads=heads,
                  width=8).eval()


def pair(height, width, msi_bands=4, batch=1, bands=9):
    return torch.rand(batch, bands, height, width), torch.rand(batch, msi_bands, 4 * height, 4 * width)


def used(model):
    return {name: p for name, p in model.named_parameters() if not name.startswith(model.unused)}


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    lr_pixels = CASE["settings"]["LR_size"] ** 2
    model = filled(create("hyper-transformer", bands=172, msi_bands=4, lr_pixels=lr_pixels), CASE)
    assert sum(p.numel() for p in model.parameters()) == CASE["settings"]["params_this_case"]
    seen = {}

    def watch(level):  # setdefault: the first of the two passes is recorded
        def after(_, images, out):
            seen.setdefault(f"T_lv{level}", out)

        def after_fc(_, images, out):
            seen.setdefault(f"attention_product_lv{level}", images[0])

        attention = getattr(model, f"TS_lv{level}")
        attention.register_forward_hook(after)
        attention.fc.register_forward_hook(after_fc)

    for level in (1, 2, 3):
        watch(level)
    images = inputs(CASE, "lr_hsi", "hr_msi")
    prediction, x13, x23, tp_loss = model.forward_with_auxiliary(*images)
    assert relative_difference(prediction, CASE["output"]) < 1e-5
    assert torch.equal(model(*images), prediction)
    assert relative_difference(x13, CASE["extra_outputs"]["x13"]) < 1e-5
    assert relative_difference(x23, CASE["extra_outputs"]["x23"]) < 1e-5
    assert tp_loss.item() == pytest.approx(CASE["extra_outputs"]["tp_loss"], rel=1e-5)
    # The prediction hardly depends on the attention's details: its inner tensors do.
    assert seen.keys() == CASE["internals"].keys()
    for name, value in seen.items():
        assert relative_difference(value, CASE["internals"][name]) < 1e-5, name


def test_parameters_are_the_releases():
    def count(**arguments):
        with torch.device("meta"):
            model = create("hyper-transformer", bands=172, **arguments)
        return sum(p.numel() for p in model.parameters()), model

    total, model = count(msi_bands=4)
    assert total == CASE["params_total"]
    vgg = sum(p.numel() for name, p in model.named_parameters() if name.startswith("VGG"))
    assert total - vgg == CASE["params_used_thop"]
    assert count(msi_bands=6)[0] == 125_597_700
    assert count(msi_bands=4, heads=1)[0] == 37_510_094
    pretraining = sum(p.numel() for name in model.pretrained for p in getattr(model, name).parameters())
    assert pretraining == 26_429_804


def test_raw_attention_is_the_equation():
    value, key, query = torch.randn(3, 2, 5, 4, 6)
    weights = torch.softmax(torch.einsum("bchw,bdhw->bcd", query, key) / 24, 2)
    expected = torch.einsum("bcd,bdhw->bchw", weights, value)
    assert (RawAttention()(value, key, query) - expected).abs().max() < 1e-6


@torch.no_grad()
def test_first_phase_is_the_network_of_one_head_without_what_the_second_adds():
    model, images = small(heads=1), pair(4, 4)
    for added in (model.conv11_tail, model.conv22_tail, model.conv33_tail, model.convF_tail):
        added.weight.zero_()
        added.bias.zero_()
    for norm in (model.BN_x11, model.BN_x22, model.BN_x33):
        norm.running_var.fill_(1 - norm.eps)  # then it changes nothing
    first = model.pretraining_forward(*images)
    assert (model(*images) - first).abs().max() < 1e-5 * first.abs().max()


@torch.no_grad()
def test_other_sizes_are_tiled_in_evaluation_and_refused_in_training():
    model = small()
    lr_hsi, hr_msi = pair(6, 8)  # tiles of 4x4 LR pixels; two rows are added at the lower edge
    padded = F.pad(lr_hsi, (0, 0, 0, 2), mode="replicate"), F.pad(hr_msi, (0, 0, 0, 8), mode="replicate")
    tiles = [[model.fuse_piece(padded[0][..., i : i + 4, j : j + 4],
                               padded[1][..., 4 * i : 4 * i + 16, 4 * j : 4 * j + 16]) for j in (0, 4)] for i in (0, 4)]
    assert torch.equal(model(lr_hsi, hr_msi), torch.cat([torch.cat(row, 3) for row in tiles], 2)[:, :, :24])
    assert model(*pair(2, 3)).shape == (1, 9, 8, 12)
    with pytest.raises(MethodError, match="6x8 = 48"):
        model.train()(lr_hsi, hr_msi)


def test_lr_pixels_of_a_non_square_image():
    model = small(msi_bands=6, lr_pixels=24)
    assert model.train()(*pair(4, 6, msi_bands=6, batch=2)).shape == (2, 9, 16, 24)
    with pytest.raises(MethodError, match="square"):
        model.eval()(*pair(4, 4, msi_bands=6))


def test_one_head_fits_any_size():
    assert small(heads=1).train()(*pair(3, 5, batch=2)).shape == (2, 9, 12, 20)


@pytest.mark.parametrize("ratio", [2, 8])
def test_ratio_is_four(ratio):
    with pytest.raises(MethodError, match=f"ratio {ratio}; choices: 4"):
        create("hyper-transformer", bands=9, msi_bands=4, ratio=ratio)


def test_images_of_a_batch_do_not_meet_and_used_parameters_learn():
    model = small()
    images = pair(4, 4, batch=2)
    fused = model(*images)
    single = torch.cat([model(*(image[i : i + 1] for image in images)) for i in range(2)])
    assert (fused - single).abs().max() < 1e-5 * fused.abs().max()
    fused.square().mean().backward()
    assert [name for name, p in used(model).items() if p.grad is None or not p.grad.any()] == []
    assert not any(p.grad is not None for name, p in model.named_parameters() if name.startswith(model.unused))


def test_phases_train_what_they_should():
    model = small().train()
    lr_hsi, hr_msi = pair(4, 4, batch=2)
    batch = {"lr_hsi": lr_hsi[:, None], "hr_msi": hr_msi, "hr_hsi": torch.rand(2, 9, 16, 16)}

    def trained(recipe, **options):
        model.zero_grad()
        task = partial(recipe.task, **options)({"hyper-transformer": model}, first)
        task.begin(recipe)
        terms = task(batch)
        terms["loss"].backward()
        return terms, {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}

    first, second = card("hyper-transformer").recipes["release"]
    _, reached = trained(first)
    assert reached == set(model.pretrained)
    terms, reached = trained(second)
    assert {"up_conv13", "up_conv23"} <= reached
    assert not any(name.startswith("VGG") for name in reached)
    parts = [value for name, value in terms.items() if name not in ("loss", "hyper-transformer/loss")]
    assert len(parts) == 4
    assert terms["loss"].item() == pytest.approx(sum(parts).item())
    terms, _ = trained(second, perceptual=F.mse_loss)
    assert "hyper-transformer/perceptual" in terms
    assert (first.stage, second.stage) == ("Pretraining", "MultiScale")


def test_transfer_loss_does_not_train_the_backbone():
    model = small().train()
    model.forward_with_auxiliary(*pair(4, 4, batch=2))[3].backward()
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"LFE_HSI", "LFE_PAN", "TS_lv1", "TS_lv2", "TS_lv3"}


def test_initialisation_of_the_first_phase():
    model = create("hyper-transformer", bands=40, msi_bands=4, lr_pixels=16)
    assert model.SFE.conv_tail.weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=1e-2)
    assert model.conv11_tail.weight.std().item() == pytest.approx((3 * 9 * 256) ** -0.5, rel=1e-2)  # PyTorch's


def test_normalised_l1_survives_a_black_band():
    reference = torch.rand(2, 3, 4, 4)
    estimate = reference + 0.1
    expected = (0.1 / reference.amax((2, 3))).mean().item()
    assert normalised_l1(estimate, reference).item() == pytest.approx(expected, rel=1e-5)
    reference[:, 0] = 0
    assert torch.isfinite(normalised_l1(estimate, reference))
