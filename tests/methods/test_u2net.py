"""U2Net against the recorded output of its release and its tiles."""


import pytest
import torch

import methods.u2net  # noqa: F401
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import create
from methods.registry import MethodError
from tests.methods.images import pair

CASE = load_case("u2net")


def small(msi_bands=4, ratio=4, **arguments):
    """A small network, filled so that no parameter starts at a value that hides it."""
    return filled(create("u2net", bands=9, msi_bands=msi_bands, ratio=ratio, dim=16, **arguments))


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("u2net", bands=172, msi_bands=4, dim=32), CASE)
    fused = model(*inputs(CASE, "lr_hsi", "hr_msi"))
    assert relative_difference(fused, CASE["output"]) < 1e-5


@pytest.mark.parametrize("dim, msi_bands, total", [
    (32, 4, CASE["params_total"]), (32, 6, 4_988_956), (172, 4, 22_694_110), (654, 4, 264_894_637)])
def test_parameters(dim, msi_bands, total):
    with torch.device("meta"):
        model = create("u2net", bands=172, msi_bands=msi_bands, dim=dim)
    assert sum(p.numel() for p in model.parameters()) == total
    if (dim, msi_bands) == (32, 4):
        used = sum(p.numel() for name, p in model.named_parameters() if not name.startswith(model.unused))
        assert used == CASE["params_used_thop"]


def test_unused_and_used_parameters():
    model = small()
    model(*pair(4, 4)).square().mean().backward()
    for name, parameter in model.named_parameters():
        if name.startswith(model.unused):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 10), 6), (4, (3, 5), 4), (8, (2, 3), 10)])
def test_any_size_ratio_and_msi(ratio, size, msi_bands):
    images = pair(*size, msi_bands, ratio, batch=2)
    model = small(msi_bands, ratio)
    fused = model(*images)
    assert fused.shape == (2, 9, ratio * size[0], ratio * size[1])
    assert fused.isfinite().all()
    torch.testing.assert_close(fused[1:], model(*(image[1:] for image in images)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_evaluation_is_tile_by_tile_and_training_is_not():
    lr_hsi, hr_msi = pair(8, 12)
    model = small(tile=16)
    fused = model(lr_hsi, hr_msi)
    for top in (0, 4):
        for left in (0, 4, 8):
            tile = model.fuse_tile(lr_hsi[..., top : top + 4, left : left + 4],
                                   hr_msi[..., 4 * top : 4 * top + 16, 4 * left : 4 * left + 16])
            torch.testing.assert_close(fused[..., 4 * top : 4 * top + 16, 4 * left : 4 * left + 16], tile)
    whole = model.fuse_tile(lr_hsi, hr_msi)
    assert (fused - whole).abs().max() > 1e-2
    torch.testing.assert_close(model.train()(lr_hsi, hr_msi), whole)


@pytest.mark.parametrize("arguments, remedy", [({"dim": 8}, "16"), ({"tile": 30}, "multiple of 4"), ({"tile": 0}, "4")])
def test_errors_name_the_remedy(arguments, remedy):
    with pytest.raises(MethodError, match=remedy):
        create("u2net", bands=9, msi_bands=4, **arguments)
