"""HyFusion: the precursor against the recorded output of its release, its windows, and the reading of the paper."""

import pytest
import torch
from torch.nn import functional as F

from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import create, load_release
from methods.hyfusion import ERFB
from methods.registry import MethodError
from methods.swin import SwinBlock, from_windows, shift_mask, to_windows
from tests.methods.images import pair

CASE = load_case("hyfusion")
SMALL = {
    "hyfusion": {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2), "drop_path": 0.0},
    "hyfusion-published": {"width": 8, "growth": 4, "blocks": 2, "num_heads": 2},
}


def small(name, msi_bands=4, ratio=4, **arguments):
    torch.manual_seed(0)
    return create(name, bands=9, msi_bands=msi_bands, ratio=ratio, **SMALL[name] | arguments).eval()


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("hyfusion", bands=172, msi_bands=4), CASE)
    assert relative_difference(model(*inputs(CASE)), CASE["output"]) < 1e-5


def test_a_checkpoint_with_stored_masks_loads_and_one_with_anything_else_does_not():
    model, other = small("hyfusion"), small("hyfusion")
    stored = {key: value + 1 for key, value in other.state_dict().items()}
    mask = {"layers_FE.0.residual_group.blocks.1.attn_mask": torch.zeros(16, 64, 64)}
    load_release(model, stored | mask)
    assert all(torch.equal(value, stored[key]) for key, value in model.state_dict().items())
    with pytest.raises(MethodError, match=r"extra \['layers_FE.0.mask'\]"):
        load_release(model, stored | {"layers_FE.0.mask": torch.zeros(1)})


@pytest.mark.parametrize("msi_bands, total", [(4, CASE["params_total"]), (6, 10_013_432)])
def test_parameters(msi_bands, total):
    model = create("hyfusion", bands=172, msi_bands=msi_bands)
    assert sum(p.numel() for p in model.parameters()) == total
    seen = sum(p.numel() for name, p in model.named_parameters() if "bias_table" not in name)  # by thop
    if msi_bands == 4:
        assert seen == CASE["params_used_thop"]


@pytest.mark.parametrize("name", list(SMALL))
def test_every_parameter_has_a_gradient(name):
    model = small(name)
    model(*pair(4, 6)).square().mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, key


@torch.no_grad()
@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 9), 6), (4, (3, 5), 4), (8, (2, 1), 10)])
def test_any_size_ratio_and_msi(name, ratio, size, msi_bands):
    images = pair(*size, msi_bands, ratio, batch=2)
    model = small(name, msi_bands, ratio)
    fused = model(*images)
    assert fused.shape == (2, 9, ratio * size[0], ratio * size[1])
    assert fused.isfinite().all()
    torch.testing.assert_close(fused[1:], model(*(image[1:] for image in images)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name, grown", [("hyfusion", (4, 6)), ("hyfusion-published", (4, 8))])
def test_sides_that_windows_do_not_divide_are_continued_by_their_edge(name, grown):
    lr_hsi, hr_msi = pair(3, 6)
    below, right = grown[0] - 3, grown[1] - 6
    lr_grown, hr_grown = (F.pad(image, (0, right * n, 0, below * n), mode="replicate")
                          for image, n in ((lr_hsi, 1), (hr_msi, 4)))
    model = small(name)
    assert torch.equal(model(lr_hsi, hr_msi), model(lr_grown, hr_grown)[..., :12, :24])


@torch.no_grad()
def test_windows_are_rows_then_columns_and_come_back():
    x = torch.arange(2 * 4 * 6.0).reshape(2, 4, 6, 1)
    windows = to_windows(x, 2)
    assert windows[1, :, 0].tolist() == [2, 3, 8, 9]  # of the first image: columns 2 and 3 of rows 0 and 1
    assert torch.equal(from_windows(windows, x.shape, 2), x)


@torch.no_grad()
@pytest.mark.parametrize("shift", [False, True])
def test_attention_reaches_its_window_and_not_round_the_border(shift):
    torch.manual_seed(0)
    block = SwinBlock(8, 4, 2, 1.0, shift)
    x = torch.randn(1, 8, 12, 8)
    mask = shift_mask(8, 12, 4, x.device)
    for row, column in ((0, 0), (3, 5), (7, 11)):
        other = x.clone()
        other[0, row, column, 0] += 1
        reached = ((block(x, mask) - block(other, mask)).abs() > 1e-6).any(3)[0]
        offset = 2 if shift else 0  # shifted windows begin at -2, 2, 6, ... and are cut at the border
        expected = torch.zeros_like(reached)
        top, left = ((place + offset) // 4 * 4 - offset for place in (row, column))
        expected[max(top, 0) : top + 4, max(left, 0) : left + 4] = True
        assert torch.equal(reached, expected)


def test_stochastic_depth_is_for_training_and_keeps_the_mean():
    torch.manual_seed(0)
    block = SwinBlock(8, 4, 2, 1.0, shift=False, drop_path=0.25)
    x = torch.ones(4000, 1, 1, 1)
    dropped = block.train().drop_path(x)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(block.eval().drop_path(x), x)
    rates = [block.drop_rate for group in create("hyfusion", bands=9, msi_bands=4, embed_dim=12).layers_MSI
             for block in group.residual_group["blocks"]]
    assert rates == pytest.approx([0.1 * i / 23 for i in range(24)])


def test_dense_block_grows_as_described():
    block = ERFB(96, 32, window=8, heads=6, mlp_ratio=4.0)
    assert [swin.norm1.normalized_shape[0] for swin in block.swin] == [96, 128, 160, 192, 224]
    assert [swin.attn.heads for swin in block.swin] == [6, 4, 2, 6, 4]
    assert [swin.shift for swin in block.swin] == [0, 4, 0, 4, 0]
    assert [swin.mlp.fc1.out_features // swin.mlp.fc1.in_features for swin in block.swin] == [4, 4, 4, 1, 1]
    assert [layer.out_channels for layer in block.adjust] == [32, 32, 32, 32, 96]


@pytest.mark.parametrize("name, arguments, remedy", [
    ("hyfusion", {"embed_dim": 10, "num_heads": (3, 3), "depths": (1, 1)}, "must divide embed_dim 10"),
    ("hyfusion", {"depths": (1,), "num_heads": (2, 2)}, "one length"),
    ("hyfusion-published", {"ratio": 3}, "2, 4 or 8"),
    ("hyfusion-published", {"width": 13, "growth": 4, "num_heads": 4}, "multiples of num_heads"),
])
def test_errors_name_the_remedy(name, arguments, remedy):
    with pytest.raises(MethodError, match=remedy):
        create(name, bands=9, msi_bands=4, **arguments)
