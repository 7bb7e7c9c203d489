"""MoG-DCN against recorded outputs of its release, inside as well, its counts and sizes."""

import pytest
import torch

from benchmark.fidelity.recordings import filled, inputs, load_case
from methods import create
from methods.registry import MethodError
from tests.methods.hooks import calls_of, differences, firsts
from tests.methods.images import pair

CASE = load_case("mog_dcn")


def watched_steps(model):
    """A dict that fills with both steps of each stage and both results of each pass of the U-Net."""
    seen = {}

    def keep(key, found):
        seen[f"{key}_{1 + sum(each.startswith(key) for each in seen)}"] = found
        return found

    def hook(module, given, found):
        keep("unet_out", found[0]), keep("unet_fe", found[1])

    z_step, x_step = model.z_step, model.x_step
    model.z_step = lambda *given: keep("z_half", z_step(*given))
    model.x_step = lambda *given: keep("x", x_step(*given))
    model.spatial.register_forward_hook(hook)
    return seen


@pytest.mark.golden
@torch.no_grad()
def test_golden_inside_as_well():
    """The result alone hardly depends on the operators and on some passes: they enter times small scalars."""
    with torch.device("meta"):  # initialising 17 million parameters takes longer than it is worth
        model = create("mog-dcn", bands=172, msi_bands=4)
    model = filled(model.to_empty(device="cpu"), CASE)
    modules = dict(model.named_modules())
    steps = watched_steps(model)
    with calls_of(model, [name for name in CASE["internals"] if name in modules]) as calls:
        image = model(*inputs(CASE))
    found = differences(firsts(calls) | steps | {"output": image}, CASE["internals"] | {"output": CASE["output"]})
    assert len(found) == 31 and max(found.values()) < 1e-5, found


@pytest.mark.parametrize("bands, msi_bands, ratio, kernel, total", [
    (172, 4, 4, 13, CASE["params_total"]), (172, 6, 4, 13, 17_007_559), (172, 4, 4, 7, 9_900_861), (172, 4, 4, 5, 8_480_829),
    (31, 3, 8, 13, 7_070_929)])
def test_parameters(bands, msi_bands, ratio, kernel, total):
    with torch.device("meta"):
        model = create("mog-dcn", bands=bands, msi_bands=msi_bands, ratio=ratio, kernel=kernel)
    assert sum(p.numel() for p in model.parameters()) == total
    if total == CASE["params_total"]:
        used = sum(p.numel() for name, p in model.named_parameters() if not name.startswith(model.unused))
        assert used == CASE["params_used_thop"]


@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 9), 1), (3, (3, 5), 6), (8, (1, 2), 4)])
@torch.no_grad()
def test_any_size_ratio_and_msi(ratio, size, msi_bands):
    model = create("mog-dcn", bands=9, msi_bands=msi_bands, ratio=ratio, width=4)
    lr_hsi, hr_msi = pair(*size, msi_bands, ratio)
    assert model(lr_hsi, hr_msi).shape == (1, 9, *hr_msi.shape[-2:])
    assert model.conv_downsample(hr_msi.new_zeros(1, 9, *hr_msi.shape[-2:])).shape == lr_hsi.shape


def test_an_even_kernel_is_refused():
    with pytest.raises(MethodError, match="kernel 6; choose an odd one"):
        create("mog-dcn", bands=9, msi_bands=4, kernel=6)
