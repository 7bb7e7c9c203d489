"""SSPSR against recorded outputs of its release, its band groups, sizes and loss."""

import pytest
import torch

import methods.sspsr  # noqa: F401  (registers it)
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods.registry import MethodError, card, create
from methods.sspsr import hybrid_loss

CASE = load_case("sspsr")


def small(bands=11, ratio=4, **arguments):
    torch.manual_seed(0)
    return create("sspsr", bands=bands, msi_bands=4, ratio=ratio, n_blocks=1, n_feats=16, **arguments).eval()


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("sspsr", bands=172, msi_bands=4, interpolation="bilinear"), CASE)
    output = model(*inputs(CASE, "lr_hsi"), torch.zeros(1, 4, 32, 32))
    assert relative_difference(output, CASE["output"]) < 1e-5
    assert sum(p.numel() for p in model.parameters()) == CASE["params_total"]
    assert list(model.starts) == CASE["settings"]["start_idx"]


@pytest.mark.parametrize("ratio", [2, 4, 8])
@pytest.mark.parametrize("msi_bands", [4, 6])
def test_sizes(ratio, msi_bands):
    lr_hsi = torch.rand(1, 11, 3, 5)
    hr_msi = torch.rand(1, msi_bands, 3 * ratio, 5 * ratio)
    assert small(ratio=ratio)(lr_hsi, hr_msi).shape == (1, 11, 3 * ratio, 5 * ratio)


def test_ignores_the_msi():
    model, lr_hsi = small(), torch.rand(1, 11, 4, 4)
    first, second = (model(lr_hsi, torch.rand(1, 4, 16, 16)) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(("bands", "starts"), [(8, (0,)), (9, (0, 1)), (14, (0, 6)), (15, (0, 6, 7)), (5, (0,))])
def test_groups_cover_all_bands(bands, starts):
    model = small(bands=bands)
    assert model.starts == starts
    assert {band for start in starts for band in range(start, start + model.n_subs)} == set(range(bands))


def test_overlaps_are_averaged():
    model = small(bands=9)
    canvas = []
    model.trunk.register_forward_pre_hook(lambda module, inputs: canvas.append(inputs[0]))
    lr_hsi = torch.rand(1, 9, 4, 4)
    model(lr_hsi, torch.rand(1, 4, 16, 16))
    first, second = (model.branch(lr_hsi[:, start : start + 8]) for start in (0, 1))
    torch.testing.assert_close(canvas[0][:, 0], first[:, 0])
    torch.testing.assert_close(canvas[0][:, 1:8], (first[:, 1:] + second[:, :7]) / 2)
    torch.testing.assert_close(canvas[0][:, 8], second[:, 7])


def test_default_skip_is_bicubic():
    lr_hsi = torch.rand(1, 11, 8, 8)
    inner = slice(8, 24)  # away from the borders, where torch drops taps
    expected = torch.nn.functional.interpolate(lr_hsi, scale_factor=4, mode="bicubic", antialias=True)
    torch.testing.assert_close(small().interpolate(lr_hsi)[..., inner, inner], expected[..., inner, inner])


@pytest.mark.parametrize(("arguments", "message"), [({"ratio": 3}, "ratio 3"), ({"ratio": 1}, "ratio 1"),
                                                    ({"n_ovls": 8}, "n_ovls 8"),
                                                    ({"interpolation": "cubic"}, "interpolation 'cubic'")])
def test_errors(arguments, message):
    with pytest.raises(MethodError, match=message):
        small(**arguments)


def test_loss():
    estimate, reference = torch.rand(2, 4, 3, 5, dtype=torch.float64), torch.rand(2, 4, 3, 5, dtype=torch.float64)
    e = estimate.numpy()
    vertical = ((e[:, :, 1:] - e[:, :, :-1]) ** 2).mean()
    horizontal = ((e[..., 1:] - e[..., :-1]) ** 2).mean()
    spectral = ((e[:, 1:] - e[:, :-1]) ** 2).mean()
    expected = abs(e - reference.numpy()).mean() + 1e-3 * (vertical + horizontal) + 2e-3 * spectral
    assert hybrid_loss(estimate, reference).item() == pytest.approx(expected, rel=1e-12)
    recipe, model = card("sspsr").recipes["release"], small()
    batch = {"lr_hsi": torch.rand(2, 1, 11, 4, 4), "hr_msi": torch.rand(2, 4, 16, 16),
             "hr_hsi": torch.rand(2, 11, 16, 16)}
    loss = recipe.task({"sspsr": model}, recipe)(batch)["loss"]
    torch.testing.assert_close(loss, hybrid_loss(model(batch["lr_hsi"][:, 0], batch["hr_msi"]), batch["hr_hsi"]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
