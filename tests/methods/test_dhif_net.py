"""DHIF-Net against recorded outputs of its release, its filter against a loop, and its sizes."""

import pytest
import torch

import methods.dhif_net  # noqa: F401  (registers it)
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods.dhif_net import separable_filter
from methods.registry import MethodError, card, create

CASE = load_case("dhif_net")


def small(bands=5, msi_bands=4, ratio=4, stages=2):
    torch.manual_seed(0)
    return create("dhif-net", bands=bands, msi_bands=msi_bands, ratio=ratio, stages=stages, width=4).eval()


@pytest.mark.golden
@pytest.mark.slow  # about 24 s of one core
@torch.no_grad()
def test_golden():
    with torch.device("meta"):  # initialising 70 million parameters takes longer than it is worth
        model = create("dhif-net", bands=172, msi_bands=4)
    model = filled(model.to_empty(device="cpu"), CASE)
    assert relative_difference(model(*inputs(CASE)), CASE["output"]) < 1e-5
    assert sum(p.numel() for p in model.parameters()) == CASE["params_total"]


def test_parameters_of_other_settings():
    with torch.device("meta"):
        six = create("dhif-net", bands=172, msi_bands=6)
        release = create("dhif-net", bands=31, msi_bands=3, ratio=8)
    assert sum(p.numel() for p in six.parameters()) == 70_118_806
    assert sum(p.numel() for p in release.parameters()) == 22_669_489


def test_filter_is_the_loop():
    rng = torch.Generator().manual_seed(0)
    z = torch.rand(2, 4, 3, 5, generator=rng, dtype=torch.float64)
    along_width, along_height, along_bands = torch.rand(3, 2, 7, 4, 3, 5, generator=rng, dtype=torch.float64)
    batch, bands, height, width = z.shape

    def looped(source, taps, position):
        result = torch.zeros_like(source)
        for b, c, y, x in torch.cartesian_prod(*map(torch.arange, (batch, bands, height, width))).tolist():
            for j in range(7):
                band, row, column = position(c, y, x, j - 3)
                if 0 <= band < bands:  # zero beyond the spectrum
                    result[b, c, y, x] += taps[b, j, c, y, x] * source[b, band, row, column]
        return result

    expected = looped(z, along_width, lambda c, y, x, d: (c, y, min(max(x + d, 0), width - 1)))
    expected = looped(expected, along_height, lambda c, y, x, d: (c, min(max(y + d, 0), height - 1), x))
    expected = looped(expected, along_bands, lambda c, y, x, d: (c + d, y, x))
    torch.testing.assert_close(separable_filter(z, along_width, along_height, along_bands), expected)


@pytest.mark.parametrize(("ratio", "size"), [(2, (8, 9)), (4, (3, 5)), (8, (2, 3)), (16, (1, 2))])
def test_sizes(ratio, size):
    lr_hsi, hr_msi = torch.rand(1, 5, *size), torch.rand(1, 6, *(ratio * side for side in size))
    model = small(msi_bands=6, ratio=ratio)
    assert model(lr_hsi, hr_msi).shape == (1, 5, *hr_msi.shape[-2:])
    assert model.B(hr_msi.new_zeros(1, 5, *hr_msi.shape[-2:])).shape == lr_hsi.shape
    assert model.BT(lr_hsi).shape[-2:] == hr_msi.shape[-2:]


def test_padding_repeats_the_last_pixels():
    model, (lr_hsi, hr_msi) = small(), (torch.rand(1, 5, 3, 4), torch.rand(1, 4, 12, 16))
    padded = [torch.cat((x, x[..., -1:, :].expand(-1, -1, by, -1)), 2) for x, by in ((lr_hsi, 1), (hr_msi, 4))]
    torch.testing.assert_close(model(lr_hsi, hr_msi), model(*padded)[..., :12, :])


def test_unknown_ratio():
    with pytest.raises(MethodError, match="ratio 3; choices: 2, 4, 8, 16"):
        small(ratio=3)


def test_initialisation_and_gradients():
    model = small(stages=3)
    assert model.R[0].bias.abs().max() == 0
    assert model.lamda_2.item() == pytest.approx(1, abs=0.06)
    assert model.eta_2.item() == pytest.approx(0.1, abs=0.06)
    model(torch.rand(1, 5, 4, 4), torch.rand(1, 4, 16, 16)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_schedule_is_the_releases():
    kind, milestones, factor = card("dhif-net").recipes["release"].schedule.split(":")
    milestones = [int(epoch) for epoch in milestones.split(",")]
    assert (kind, factor, milestones[:2], milestones[-1], len(milestones)) == ("multistep", "0.95", [1, 6], 146, 30)
