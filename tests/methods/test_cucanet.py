"""CUCaNet against recordings of its release and a plain reading of its equations; what every per-image method shares."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

import methods.cucanet as module
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import create, fuse
from methods.cucanet import CUCaNet, adam, divergence, loss_terms, rate_factor, update
from methods.per_image import fuse_each, iterations, report
from methods.registry import MethodError, card

CASE = load_case("cucanet")
OUTPUTS = {  # ours: the release's
    "x_rec": "rec_lr_lr", "y_rec": "rec_msi_msi", "x_z": "rec_msi_lrs_lr", "y_z": "rec_msi_lrs_msi",
    "y_x": "rec_lrhsi_lrmsi", "y_y": "rec_hrmsi_lrmsi", "l2": "abund_lr", "m2": "abund_msi",
}
TERMS = {
    "x_rec": "lr_pixelwise", "y_rec": "msi_pixelwise", "x_z": "msi_ss_lr", "y_z": "msi_ss_msi", "lr_msi": "lrmsi_pixelwise",
    "sum_to_one_l2": "lr_sumtoone", "sum_to_one_m2": "msi_sumtoone", "sparsity_l2": "lr_sparse", "sparsity_m2": "msi_sparse",
}
RANGES = [(0, 3), (2, 6), (7, 7), (4, 10)]  # of 12 bands: overlapping, one band alone, the last band in none


def golden_network():
    network = CUCaNet(172, [tuple(ends) for ends in CASE["settings"]["srf_support_inclusive"]], 4, (12, 12), 128, 64)
    network.card = card("cucanet")  # `filled` names the method where a layout differs
    return network


def small(ratio=4, size=(5, 3), msi_bands=4):
    """A narrow network whose kernels are not the constant ones it begins with, and a pair of images."""
    torch.manual_seed(0)
    network = CUCaNet(12, RANGES[:msi_bands], ratio, size, endmembers=6, width=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.rand(parameter.shape)
    return network, *pair(ratio, size, msi_bands)


def pair(ratio=4, size=(5, 3), msi_bands=4, batch=1):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(batch, 12, *size, generator=generator),
            torch.rand(batch, msi_bands, *(ratio * n for n in size), generator=generator))


def built(ratio=4, msi_bands=4, **arguments):
    srf = torch.zeros(4, 12)
    for row, (first, last) in zip(srf, RANGES):
        row[first : last + 1] = 0.25
    return create("cucanet", bands=12, msi_bands=msi_bands, ratio=ratio, srf=srf[:msi_bands],
                  **{"iterations": 3, "endmembers": 6, "width": 2} | arguments)


def as_written(network, x, y):
    """The forward pass, layer by layer as the equations have it."""
    l1, m1 = network.G_LR2s_1.net(x), network.G_MSI2S_1.net(y)
    mask = network.G_mut_spa.net(m1)
    spatial = network.G_PSF_2.net(mask.reshape(1, -1).softmax(1).reshape(mask.shape))
    spectral = network.G_mut_spe.net(l1).softmax(1)
    assert spatial.shape == (1, 1, *x.shape[2:]) and spectral.shape == (1, l1.shape[1], 1, 1)
    l2 = network.G_LR2s_2.net(torch.cat((l1, l1 * spatial), 1)).clamp(0, 1)
    m2 = network.G_MSI2S_2.net(torch.cat((m1, m1 * spectral), 1)).clamp(0, 1)

    def blur(image):
        return torch.cat([network.G_PSF.net(band) for band in image.split(1, 1)], 1)

    def response(image):
        layers = zip(network.G_HR2MSI.conv2d_list, RANGES)
        return torch.cat([layer(image[:, a : b + 1]) / layer.weight.sum().item() for layer, (a, b) in layers], 1).clamp(0, 1)

    z = network.G_s2img.net(m2).clamp(0, 1)
    return {"x_rec": network.G_s2img.net(l2).clamp(0, 1), "y_rec": network.G_ms2img.net(m2).clamp(0, 1), "z": z,
            "x_z": blur(z), "y_z": response(z), "y_x": response(x), "y_y": blur(y), "l2": l2, "m2": m2}


def loss_as_written(x, y, out):
    def l1(a, b):
        return (a - b).abs().sum()

    loss = 10 * (l1(x, out["x_rec"]) + l1(y, out["y_rec"]) + l1(x, out["x_z"]) + l1(y, out["y_z"]))
    loss = loss + 10_000 * l1(out["y_x"], out["y_y"])
    for a in (out["l2"], out["m2"]):
        p, q = torch.full_like(a, 0.01).softmax(1), a.softmax(1)
        loss = loss + 0.01 * (l1(torch.ones(()), a.sum(1)) + (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum())
    return loss


@pytest.mark.golden
@torch.no_grad()
def test_outputs_and_loss_terms_are_the_release_s():
    network = filled(golden_network(), CASE)
    x, y = inputs(CASE, "lr_hsi", "hr_msi")
    out = network(x, y)
    assert relative_difference(out.z, CASE["output"]) < 1e-5
    for ours, theirs in OUTPUTS.items():
        assert relative_difference(getattr(out, ours), CASE["outputs_other"][theirs]) < 1e-5, ours
    terms = loss_terms(x, y, out)
    assert terms.keys() == TERMS.keys()
    for ours, theirs in TERMS.items():  # the divergences are small differences of large numbers, there and here
        assert terms[ours].item() == pytest.approx(CASE["loss_terms"][theirs], rel=1e-4 if "sparsity" in ours else 1e-5), ours


@pytest.mark.golden
def test_three_steps_are_the_release_s():
    network, check = golden_network(), CASE["optimisation_check"]
    first = {key: value.clone() for key, value in network.state_dict().items()
             if key.split(".")[0] in ("G_PSF", "G_PSF_2", "G_HR2MSI", "G_mut_spa", "G_mut_spe")}
    filled(network, CASE).load_state_dict(first, strict=False)
    x, y = inputs(CASE, "lr_hsi", "hr_msi")
    optimiser = adam(network)
    for recorded in check["losses_per_iteration"]:
        terms = update(network, optimiser, x, y)
        for ours, theirs in TERMS.items():
            assert terms[ours].item() == pytest.approx(recorded[theirs], rel=1e-4), ours
        assert terms["loss"].item() == pytest.approx(recorded["total"], rel=1e-4)
    with torch.no_grad():
        assert relative_difference(network(x, y).z, check["rec_msi_hr_after_3_updates"]) < 1e-4
    sums = [kernel.sum().item() for kernel in network.G_HR2MSI.kernels]
    assert sums == pytest.approx(check["G_HR2MSI_weight_sums"], abs=1e-6)
    assert network.G_PSF.net.weight.flatten().tolist() == pytest.approx(check["G_PSF_weight"], abs=1e-6)


@pytest.mark.parametrize("msi_bands, total", [(4, CASE["params_total"]), (6, 3_020_493)])
def test_parameters(msi_bands, total):
    edges = [172 * i // msi_bands for i in range(msi_bands + 1)]
    with torch.device("meta"):
        network = CUCaNet(172, [(a, b - 1) for a, b in pairwise(edges)], 4, (64, 64), 128, 64)
    assert sum(p.numel() for p in network.parameters()) == total


@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 4), 4), (3, (4, 5), 1), (4, (5, 3), 2)])
def test_estimates_and_gradients_are_those_of_the_equations(ratio, size, msi_bands):
    network, x, y = small(ratio, size, msi_bands)
    out, expected = network(x, y)._asdict(), as_written(network, x, y)
    assert out.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(out[name], value, msg=lambda text, name=name: f"{name}: {text}")
    terms = loss_terms(x, y, network(x, y))
    loss = loss_as_written(x, y, expected)
    torch.testing.assert_close(sum(terms.values()), loss)
    gradients = (torch.autograd.grad(a, list(network.parameters())) for a in (sum(terms.values()), loss))
    for name, ours, theirs in zip(dict(network.named_parameters()), *gradients):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item() + 1e-2,
                                   msg=lambda text, name=name: f"{name}: {text}")


def test_initial_parameters():
    torch.manual_seed(0)
    network = CUCaNet(30, [(0, 9), (10, 29)], 4, (6, 5), endmembers=40, width=16)
    constants = {"G_PSF": 1 / 16, "G_PSF_2": 1 / 16, "G_mut_spa": 1 / 9, "G_mut_spe": 1.0}
    for name, parameter in network.named_parameters():
        part = name.split(".")[0]
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif part in constants:
            assert (parameter == constants[part]).all(), name
        elif part == "G_HR2MSI":
            assert (parameter == 1 / parameter.numel()).all(), name
        else:  # five standard errors of a standard deviation
            spread = math.sqrt(2 / parameter[0].numel())
            assert parameter.std().item() == pytest.approx(spread, rel=5 / math.sqrt(2 * parameter.numel())), name


def test_constraints_hold_after_every_update():
    network, x, y = small()
    with torch.no_grad():
        network.G_s2img.weight.mul_(3).sub_(1)
        network.G_HR2MSI.kernels[1][0, :2] = torch.tensor([-1.0, 20.0])[:, None, None]
        network.G_PSF.net.weight[0, 0, 0, 0] = -2.0
    optimiser = adam(network)
    for _ in range(3):
        update(network, optimiser, x, y)
        for part in (network.G_s2img, network.G_ms2img):
            assert part.weight.min() >= 0 and part.weight.max() <= 1
        for kernel in network.G_HR2MSI.kernels:
            assert kernel.min() >= 0 and kernel.sum().item() == pytest.approx(1, abs=1e-6)
    first = network.G_HR2MSI.kernels[1].flatten()
    assert first[0] < 0.01 and first[1] > 0.9
    assert network.G_PSF.net.weight[0, 0, 0, 0].item() == pytest.approx(-2.0, abs=0.01)  # not constrained


@torch.no_grad()
def test_responses_are_clipped_at_ten_and_begin_again_where_nothing_is_left():
    network = small()[0]
    kernel, dead = network.G_HR2MSI.kernels[:2]
    kernel.copy_(torch.tensor([30.0, -5.0, 10.0, 5.0]).view_as(kernel))
    dead.fill_(-1.0)
    network.clip()
    assert kernel.flatten().tolist() == pytest.approx([0.4, 0, 0.4, 0.2])
    assert dead.flatten().tolist() == pytest.approx([0.2] * 5)


def test_rate_is_constant_for_a_fifth_then_falls_to_zero():
    for i in (1, 1999, 2000, 2001, 6000, 9999, 10_000):
        assert rate_factor(i, 10_000) == pytest.approx(1 - max(0, i + 1 - 2000) / 8001)
    for i in (1, 199, 200, 700, 1000):
        assert rate_factor(i, 1000) == pytest.approx(1 - max(0, i + 1 - 200) / 801)
    for total in (1, 2, 3, 7, 50):
        factors = [rate_factor(i, total) for i in range(1, total + 1)]
        assert factors[-1] == pytest.approx(0) and all(b <= a <= 1 for a, b in pairwise(factors))


def test_a_first_step_moves_each_sub_network_by_its_rate():
    network, x, y = small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    update(network, adam(network), x, y, factor=0.5)
    rates = {"G_LR2s_1": 5e-3, "G_LR2s_2": 5e-3, "G_MSI2S_1": 2.5e-3, "G_MSI2S_2": 2.5e-3, "G_PSF": 1e-3, "G_PSF_2": 1e-3,
             "G_mut_spa": 1e-3, "G_mut_spe": 1e-3}
    for part, rate in rates.items():  # Adam's first step is the rate, whatever the gradient
        moved = max((value - before[key]).abs().max().item() for key, value in network.state_dict().items()
                    if key.split(".")[0] == part)
        assert moved == pytest.approx(0.5 * rate, rel=1e-3), part


def test_divergence_is_that_of_bernoulli_variables_and_smallest_for_equal_abundances():
    a = torch.rand(1, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    even, soft = (torch.distributions.Bernoulli(q) for q in (torch.full_like(a, 0.2), a.softmax(1)))
    torch.testing.assert_close(divergence(a), torch.distributions.kl_divergence(even, soft).sum())
    sparse = F.one_hot(torch.arange(5), 5).float().view(1, 5, 5, 1)
    assert divergence(torch.full_like(a, 0.3)).abs() < 1e-5 < divergence(sparse)


def test_the_result_is_the_forward_pass_of_the_last_iteration():
    x, y = pair()
    fused = built(iterations=5, seed=7)(x, y)
    torch.manual_seed(7)
    network = CUCaNet(12, RANGES, 4, (5, 3), 6, 2)
    torch.testing.assert_close(built(iterations=1, seed=7)(x, y), network(x, y).z.detach(), rtol=0, atol=1e-6)
    optimiser = adam(network)
    for factor in (1 - 1 / 5, 1 - 2 / 5, 1 - 3 / 5, 1 - 4 / 5):  # iteration 5 has the rate 0
        update(network, optimiser, x, y, factor)
    torch.testing.assert_close(fused, network(x, y).z.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 4), 4), (4, (3, 6), 1), (3, (4, 5), 2)])
def test_any_size_and_ratio(ratio, size, msi_bands):
    lr_hsi, hr_msi = pair(ratio, size, msi_bands, batch=2)
    fused = fuse(built(ratio, msi_bands), lr_hsi, hr_msi)
    assert fused.shape == (2, 12, ratio * size[0], ratio * size[1]) and not fused.requires_grad
    assert fused.isfinite().all() and fused.min() >= 0 and fused.max() <= 1


def test_images_do_not_influence_each_other_nor_the_caller_s_random_state():
    lr_hsi, hr_msi = pair(batch=2)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    together = fuse(built(), lr_hsi, hr_msi)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    alone = torch.cat([fuse(built(), lr_hsi[i : i + 1], hr_msi[i : i + 1]) for i in (1, 0)])
    assert torch.equal(together, alone.flip(0))
    assert not torch.equal(together, fuse(built(seed=2), lr_hsi, hr_msi))


def test_only_the_support_of_the_response_counts():
    srf = torch.zeros(1, 12)
    srf[0, [2, 5]] = torch.tensor([0.9, 0.1])  # a hole is inside
    full = torch.zeros(1, 12).index_fill_(1, torch.arange(2, 6), 0.25)
    images = pair(msi_bands=1)
    a, b = (create("cucanet", bands=12, msi_bands=1, srf=s, iterations=3, endmembers=6, width=2) for s in (srf, full))
    assert a.ranges == [(2, 5)]
    assert torch.equal(fuse(a, *images), fuse(b, *images))


@pytest.mark.parametrize("content", ["zero", "constant", "dead bands", "rank one"])
def test_poor_images_give_finite_ones(content):
    lr_hsi, hr_msi = pair()
    if content in ("zero", "constant"):
        lr_hsi, hr_msi = (torch.full_like(image, 0.0 if content == "zero" else 0.5) for image in (lr_hsi, hr_msi))
    elif content == "dead bands":
        lr_hsi[:, :4] = 0
        hr_msi[:, 0] = 0
    else:
        lr_hsi, hr_msi = (image[:, :1].expand_as(image) for image in (lr_hsi, hr_msi))
    assert fuse(built(iterations=10), lr_hsi, hr_msi).isfinite().all()


def scene(ratio=4, size=12):
    """A smooth mixture of three spectra: HR-HSI (1, 12, H, W), its block means, its response."""
    at = torch.linspace(0, 3, size * ratio)
    parts = torch.stack((at[:, None].sin() + at.cos(), at[:, None] - at, 2 * at.sin() * at[:, None].cos())).softmax(0)
    spectra = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
    cube = torch.einsum("bk,khw->bhw", spectra, parts)[None]
    return cube, F.avg_pool2d(cube, ratio), torch.stack([cube[:, a : b + 1].mean(1) for a, b in RANGES], 1)


def test_the_loss_falls_and_the_image_comes_near_the_reference():
    cube, lr_hsi, hr_msi = scene()
    torch.manual_seed(0)
    network = CUCaNet(12, RANGES, 4, (12, 12), endmembers=12, width=8)
    optimiser = adam(network)
    losses = [update(network, optimiser, lr_hsi, hr_msi)["loss"].item() for _ in range(50)]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    errors = [(fuse(built(iterations=n, endmembers=12, width=8), lr_hsi, hr_msi) - cube).abs().mean() for n in (1, 100)]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("arguments, remedy", [
    ({"srf": None}, "needs srf="), ({"srf": torch.ones(4, 11)}, r"\(4, 11\); give \(4, 12\)"),
    ({"srf": torch.ones(4, 12) * torch.tensor([1, 0, 1, -1])[:, None]}, r"rows \[1, 3\]"),
    ({"iterations": 0}, "at least 1"), ({"endmembers": 1}, "at least 2"), ({"width": 0}, "width is 0"),
])
def test_wrong_arguments_are_named(arguments, remedy):
    with pytest.raises(MethodError, match=remedy):
        create("cucanet", bands=12, msi_bands=4, **{"srf": torch.ones(4, 12)} | arguments)


def test_images_of_other_sizes_are_named():
    lr_hsi, hr_msi = pair()
    for images in ((lr_hsi[:, 1:], hr_msi), (lr_hsi, hr_msi[:, 1:]), (lr_hsi, hr_msi[..., 1:])):
        with pytest.raises(MethodError, match="built for 12 bands, 4 MSI bands and ratio 4"):
            built()(*images)


def test_each_image_is_optimised_alone_with_gradients_from_the_seed():
    state, seen = torch.get_rng_state(), []

    def optimise(x, y, label):
        assert torch.is_grad_enabled() and x.dtype == y.dtype == torch.float32 and len(x) == len(y) == 1
        seen.append((label, torch.rand(()).item()))
        return (x + y).requires_grad_()

    images = torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        fused = fuse_each(optimise, images, images, name="sum", seed=5)
        assert not torch.is_grad_enabled()
    assert fused.dtype == torch.float64 and not fused.requires_grad
    torch.testing.assert_close(fused, 2 * images, rtol=0, atol=1e-6)
    value = torch.rand((), generator=torch.Generator().manual_seed(5)).item()
    assert seen == [("sum, image 1/2", value), ("sum, image 2/2", value)]
    assert torch.equal(torch.get_rng_state(), state)


def test_the_bar_shows_image_iteration_and_loss_on_stderr_and_goes(capsys):
    with iterations(60, "cucanet, image 2/3") as steps:
        for i in steps:
            report(steps, i, torch.tensor(100.0 + i))
            if i in (24, 50):
                steps.refresh()
                shown = capsys.readouterr()
                assert not shown.out and "cucanet, image 2/3" in shown.err
                assert f"loss {101 if i == 24 else 150}" in shown.err.split("\r")[-1]
    assert not capsys.readouterr().err.split("\r")[-1].strip()  # the line is blank


def test_an_interrupt_passes(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "update", interrupted)
    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        fuse(built(), *pair())
    assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()
