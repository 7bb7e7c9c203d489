"""Dual-UNet against recorded outputs of the S3RNet authors' copy, and its sizes."""

import pytest
import torch

import methods.dual_unet  # noqa: F401  (registers it)
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods.registry import MethodError, create

CASE = load_case("dual_unet")


def small(bands=9, msi_bands=4, ratio=4):
    torch.manual_seed(0)
    return create("dual-unet", bands=bands, msi_bands=msi_bands, ratio=ratio, width=8).eval()


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("dual-unet", bands=172, msi_bands=4), CASE)
    lr_hsi, hr_msi, direct = inputs(CASE)
    up_hsi = torch.nn.functional.interpolate(lr_hsi, scale_factor=4, mode="bicubic")
    first, second = model.fuse_upsampled(up_hsi, hr_msi)
    assert relative_difference(model(lr_hsi, hr_msi), CASE["output"]) < 1e-5
    assert relative_difference(second, CASE["output"]) < 1e-5
    assert relative_difference(first, CASE["output_first"]) < 1e-5
    first, second = model.fuse_upsampled(direct, hr_msi)
    assert relative_difference(first, CASE["output_first_direct"]) < 1e-5
    assert relative_difference(second, CASE["output_direct"]) < 1e-5
    assert sum(p.numel() for p in model.parameters()) == CASE["params_total"]
    dead = sum(p.numel() for name, p in model.named_parameters() if name.startswith(model.unused))
    assert dead == 1


def test_six_bands_at_paper_size():
    with torch.device("meta"):
        model = create("dual-unet", bands=172, msi_bands=6)
    assert sum(p.numel() for p in model.parameters()) == 7_329_378


@pytest.mark.parametrize(("ratio", "size"), [(2, (5, 8)), (4, (3, 4)), (8, (1, 2))])
def test_sizes(ratio, size):
    lr_hsi, hr_msi = torch.rand(1, 9, *size), torch.rand(1, 6, *(ratio * side for side in size))
    assert small(msi_bands=6, ratio=ratio)(lr_hsi, hr_msi).shape == (1, 9, *hr_msi.shape[-2:])


def test_padding_repeats_the_last_pixels():
    model, (up_hsi, hr_msi) = small(), (torch.rand(1, 9, 12, 16), torch.rand(1, 4, 12, 16))
    padded = [torch.cat((x, x[..., -1:, :].expand(-1, -1, 4, -1)), 2) for x in (up_hsi, hr_msi)]
    for ours, full in zip(model.fuse_upsampled(up_hsi, hr_msi), model.fuse_upsampled(*padded)):
        torch.testing.assert_close(ours, full[..., :12, :])


def test_width_is_checked():
    with pytest.raises(MethodError, match="width 6"):
        create("dual-unet", bands=9, msi_bands=4, width=6)


def test_every_other_parameter_gets_a_gradient():
    model = small()
    model(torch.rand(1, 9, 4, 4), torch.rand(1, 4, 16, 16)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith(model.unused), name
