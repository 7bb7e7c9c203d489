"""MIMO-SST against the recorded outputs and inner tensors of its release, and its loss."""

import pytest
import torch

from benchmark.complexity import multiply_adds
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import card, create
from methods.registry import MethodError
from tests.methods.hooks import calls_of
from tests.methods.images import pair

CASE = load_case("mimo_sst")
BLOCK = "encoder_level11.0"


def small(msi_bands=4, ratio=4):
    return filled(create("mimo-sst", bands=9, msi_bands=msi_bands, ratio=ratio, width=8))


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("mimo-sst", bands=172, msi_bands=4), CASE)
    own = {"patch_embed": "patch_embed.proj", "encoder_level11.0.ffn": "encoder_level11.0.ffn"}
    own |= {name: f"{name}.body" for name in ("down1_2", "down2_3", "up3_2", "up2_1")}
    own |= {name: name for name in ("Conv144_96", "Conv240_192", "reduce_chan_level2")}
    with calls_of(model, [*own.values(), "encoder_level11.0", f"{BLOCK}.attn1", f"{BLOCK}.attn2.project_out"]) as seen:
        full, half, quarter = model.pyramid(*inputs(CASE, "lr_hsi", "hr_msi"))
    assert relative_difference(full, CASE["output"]) < 1e-5
    assert relative_difference(half, CASE["extra_outputs"]["half"]) < 1e-5
    assert relative_difference(quarter, CASE["extra_outputs"]["quarter"]) < 1e-5
    # The first call of these sees another scale in the release than here.
    later = {"patch_embed": CASE["internals"]["patch_embed"]["shape"]}
    found = {name: next(call for call in seen[ours] if list(call.shape) == later.get(name, list(call.shape)))
             for name, ours in own.items()}
    query, key, value = seen[f"{BLOCK}.attn1"][0]
    found |= {f"{BLOCK}.attn1.{name}": part[:, None] for name, part in (("q", query), ("k", key), ("v", value))}
    found[f"{BLOCK}.attn2"] = seen[f"{BLOCK}.attn2.project_out"][0]
    found |= {f"encoder_level11.{name}_{i + 1}": call[k] for i, call in enumerate(seen[BLOCK]) for k, name in enumerate("XY")}
    assert found.keys() == CASE["internals"].keys() - {f"{BLOCK}.attn3"}  # no module of its own here
    for name, tensor in found.items():
        assert relative_difference(tensor, CASE["internals"][name]) < 1e-5, name


@pytest.mark.parametrize("msi_bands, total, used", [
    (4, CASE["params_total"], CASE["params_used_thop"]), (6, 5_473_212, 2_112_154)])
def test_parameters(msi_bands, total, used):
    with torch.device("meta"):
        model = create("mimo-sst", bands=172, msi_bands=msi_bands)
    assert sum(p.numel() for p in model.parameters()) == total
    # What gives the quarter alone is trained, and does not reach the fused image.
    unread = [prefix for prefix in model.unused if prefix != "Conv192_31."]
    assert sum(p.numel() for name, p in model.named_parameters() if not name.startswith(tuple(unread))) == used


def test_multiply_adds():
    expected = CASE["macs_conv_linear_64_256"], CASE["macs_attention_products_64_256"]
    assert multiply_adds(create("mimo-sst", bands=172, msi_bands=4), 172, 4, 64, 256) == expected


@torch.no_grad()
@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 5), 6), (3, (3, 5), 1), (8, (2, 3), 10)])
def test_any_size_ratio_and_msi(ratio, size, msi_bands):
    fused = small(msi_bands, ratio)(*pair(*size, msi_bands, ratio))
    assert fused.shape == (1, 9, ratio * size[0], ratio * size[1]) and fused.isfinite().all() and fused.min() >= 0


@pytest.mark.parametrize("size, ratio", [((4, 4), 4), ((3, 5), 2)])
def test_the_loss_is_of_three_scales_and_trains_all_that_is_read(size, ratio):
    recipe, model = card("mimo-sst").recipes["release"], small(ratio=ratio).train()
    lr_hsi, hr_msi = pair(*size, ratio=ratio)
    reference = torch.rand(1, 9, *hr_msi.shape[2:], generator=torch.Generator().manual_seed(1))
    terms = recipe.task({"mimo-sst": model}, recipe)({"lr_hsi": lr_hsi[:, None], "hr_msi": hr_msi, "hr_hsi": reference})
    if size == (4, 4):
        l1 = fourier = 0
        for estimate, step in zip(model.pyramid(lr_hsi, hr_msi), (1, 2, 4)):
            error = (estimate - reference[..., ::step, ::step])[0].detach().double()
            l1 += error.abs().mean().item()
            waves = [torch.exp(-2j * torch.pi * torch.outer(*(torch.arange(n).double(),) * 2) / n) for n in error.shape[1:]]
            fourier += (waves[0] @ error.to(torch.complex128) @ waves[1]).abs().mean().item()
        assert terms["mimo-sst/l1"].item() == pytest.approx(l1, rel=1e-5)
        assert terms["mimo-sst/fourier"].item() == pytest.approx(0.01 * fourier, rel=1e-5)
    assert terms["loss"].item() == pytest.approx((terms["mimo-sst/l1"] + terms["mimo-sst/fourier"]).item())
    terms["loss"].backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {name for name, _ in model.named_parameters()
                       if name.startswith(model.unused) and not name.startswith("Conv192_31.")}


def test_an_odd_width_is_refused():
    with pytest.raises(MethodError, match=r"width 7; .* choose an even number"):
        create("mimo-sst", bands=9, msi_bands=4, width=7)
