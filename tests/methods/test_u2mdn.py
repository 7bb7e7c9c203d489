"""u2MDN: network and losses against plain loops, what its shuffles do, how its two optimisers meet, its robustness."""

import math

import numpy as np
import pytest
import torch

import methods.u2mdn as module
from methods import create, fuse
from methods.dirichlet import Adam, entropy, gradient_of, stick_breaking
from methods.registry import MethodError
from methods.resample import resize

BANDS, MSI_BANDS = 10, 3
SMALL = {"endmembers": 5, "hidden": 2, "iterations": 3}


def scene(batch=1, side=(4, 6), ratio=4, seed=0, msi_bands=MSI_BANDS):
    """Three smooth spectra mixed by slow waves: LR-HSI, HR-MSI, HR-HSI and SRF, float32."""
    rng = torch.Generator().manual_seed(seed)
    wave = torch.linspace(0, 1, BANDS)
    spectra = torch.stack([0.1 + 0.8 * (-0.5 * ((wave - c) / 0.25) ** 2).exp() for c in (0, 0.5, 1)])
    rows, columns = (torch.linspace(0, 6, n * ratio) for n in side)
    phase = 6 * torch.rand(batch, 3, 2, 1, 1, generator=rng)
    maps = (2 * (rows[:, None] + phase[:, :, 0]).sin() + 2 * (columns + phase[:, :, 1]).sin()).softmax(1)
    cube = torch.einsum("eb,nehw->nbhw", spectra, maps)
    srf = torch.zeros(msi_bands, BANDS)
    for i, group in enumerate(np.array_split(np.arange(BANDS), msi_bands)):
        srf[i, group] = 1 / len(group)
    return torch.nn.functional.avg_pool2d(cube, ratio), torch.einsum("mb,nbhw->nmhw", srf, cube), cube, srf


def build(srf, **options):
    return create("u2mdn", bands=BANDS, msi_bands=len(srf), srf=srf, **{**SMALL, **options})


def fitted(batch=1, **options):
    lr_hsi, hr_msi, _, srf = scene(batch)
    return module.Fit(build(srf, **options), lr_hsi, hr_msi, torch.Generator().manual_seed(0))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(parameters, width, x):
    """One layer written out, with the next weights and biases of a flat list: x (k, N) -> (width, N)."""
    weights = [[parameters.pop(0) for _ in range(len(x))] for _ in range(width)]
    return np.array(weights) @ x + np.array([parameters.pop(0) for _ in range(width)])[:, None]


# ---- networks


@pytest.mark.parametrize("msi_bands, parts", [(4, [3785, 7245, 1599]), (6, [3999, 7245, 1763])])
def test_number_of_parameters(msi_bands, parts):
    model = create("u2mdn", bands=172, msi_bands=msi_bands, srf=torch.ones(msi_bands, 172))
    assert model.parts == parts and model.size == sum(parts)
    fit = module.Fit(model, torch.rand(1, 172, 2, 2), torch.rand(1, msi_bands, 8, 8), torch.Generator())
    assert fit.parameters.numel() == model.size and model.iterations == 5000


def test_encoder_agrees_with_the_layers_written_out():
    network = module.encoder(4, endmembers=5, hidden=2)
    parameters, t = random(1, network.size), random(1, 4, 7, seed=1)
    merged = network.matrix(parameters) @ torch.cat((t, torch.ones(1, 1, 7)), 1)
    rest, t = parameters[0].tolist(), t[0].numpy()
    c = [t]
    for width in (2, 3, 4, 5, 6):  # new features first
        c.append(np.concatenate([layer(rest, width, c[-1]), c[-1]]))
    d1 = np.concatenate([layer(rest, 4, c[2]), c[2]])
    d2 = np.concatenate([layer(rest, 5, d1), d1])
    expected = np.concatenate([layer(rest, 5, c[5]), layer(rest, 1, d2)])
    assert not rest
    assert np.allclose(merged[0].numpy(), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("order", [None, [2, 0, 1, 3]])
def test_statistics_network_agrees_with_its_layers_written_out(order):
    parameters, colours, codes = random(2, 5 * 7), random(2, 2, 4, seed=1), random(2, 3, 4, seed=2)
    joint, product = module.statistics(parameters, colours, codes, None if order is None else torch.tensor(order))
    for b in range(2):
        first = parameters[b, :25].view(5, 5).numpy()
        bias, second = parameters[b, 25:30].numpy(), parameters[b, 30:].numpy()
        for p in range(4):
            for got, q in ((joint, p), (product, p if order is None else order[p])):
                seen = np.concatenate([colours[b, :, q].numpy(), codes[b, :, p].numpy()])
                expected = 1 / (1 + math.exp(-(second @ (first @ seen + bias))))
                assert got[b, p].item() == pytest.approx(expected, rel=1e-12)


def test_initial_statistics_network():
    start = module.initial_statistics(39, torch.Generator().manual_seed(0))
    first, bias, second = start.split([39 * 39, 39, 39])
    assert 0.99 * math.sqrt(6 / 78) < first.abs().max() <= math.sqrt(6 / 78)
    assert (bias == 0).all() and 0.9 * math.sqrt(6 / 40) < second.abs().max() <= math.sqrt(6 / 40)


# ---- losses


def test_mutual_information_term():
    joint, product = random(2, 5).sigmoid(), random(2, 5, seed=1).sigmoid()
    for b in range(2):
        pairs = zip(joint[b].tolist(), product[b].tolist())
        terms = [math.log(1 + math.exp(-t)) + math.log(1 + math.exp(u)) for t, u in pairs]
        assert module.mutual(joint, product)[b].item() == pytest.approx(np.mean(terms), rel=1e-12)
    assert module.mutual(torch.zeros(1, 5), torch.zeros(1, 5)).item() == pytest.approx(2 * math.log(2))
    assert module.mutual(joint, joint).min() > 2 * math.log(2)  # nothing shuffled: T = 0 is best


@pytest.mark.parametrize("mi_shuffle", ["release", "pixels"])
def test_losses_agree_with_plain_loops(mi_shuffle):
    fit = fitted(batch=2, mi_shuffle=mi_shuffle)
    fit.parameters = (fit.parameters + 0.1 * random(*fit.parameters.shape).float()).detach()  # images differ, no bias is 0
    lr_hsi, hr_msi, _, srf = scene(batch=2)
    got = fit.losses(torch.Generator().manual_seed(3))
    rng = torch.Generator().manual_seed(3)
    if mi_shuffle == "pixels":
        order_x, order_y = torch.randperm(24, generator=rng), torch.randperm(384, generator=rng)
    else:
        order_x, order_y = None, torch.cat([torch.arange(24) + 24 * row for row in torch.randperm(16, generator=rng)])
    for b in range(2):
        own = fit.parameters[b : b + 1]
        encoder_part, decoder_part, statistics_part = own.split(fit.parts, 1)
        d = (decoder_part[0, :25].view(5, 5) @ decoder_part[0, 25:].view(5, 10)).numpy()
        x, y, r = lr_hsi[b].flatten(1).numpy(), hr_msi[b].flatten(1).numpy(), srf.numpy()
        mu_x = x.mean(1, keepdims=True)
        x, y = x - mu_x, y - y.mean(1, keepdims=True)
        inputs = [torch.from_numpy(v)[None] for v in (r @ x, y)]
        matrix = fit.encoder.matrix(encoder_part)
        codes = [stick_breaking(matrix @ torch.cat((v, torch.ones_like(v[:, :1])), 1)) for v in inputs]
        mutuals = [
            module.mutual(*module.statistics(statistics_part, v, s, order)).item()
            for v, s, order in zip(inputs, codes, (order_x, order_y))
        ]
        squares_x = sum(float(((d.T @ codes[0][0].numpy())[k, p] - x[k, p]) ** 2) for k in range(10) for p in range(24))
        residual = (r @ d.T @ codes[1][0].numpy() - y).reshape(3, 16, 24)
        squares_y = np.mean([sum(residual[m, row, column] ** 2 for row in range(16)) for m in range(3) for column in range(24)])
        volume = np.mean([sum(abs(d[i, k] + mu_x[k, 0]) for k in range(10)) for i in range(5)])
        loss_x = squares_x + 1e-3 * volume + 0.1 * mutuals[0] + 0.01 * entropy(codes[0]).item()
        loss_y = 0.25 * squares_y + 0.1 * mutuals[1] + 0.01 * entropy(codes[1]).item()
        assert got[0][b].item() == pytest.approx(loss_x, rel=1e-5)
        assert got[1][b].item() == pytest.approx(loss_y, rel=1e-5)


def statistics_gradients(mi_shuffle):
    """Largest gradient of either loss in the parameters of T."""
    fit = fitted(mi_shuffle=mi_shuffle)
    losses = fit.losses(torch.Generator().manual_seed(1))
    return [gradient_of(loss, fit.parameters, keep=True)[:, -fit.parts[2] :].abs().max().item() for loss in losses]


def test_which_losses_train_the_statistics_network():
    release, pixels = statistics_gradients("release"), statistics_gradients("pixels")
    assert release[0] > 1e-4 and release[1] == 0
    assert min(pixels) > 1e-4


def test_releases_shuffle_drives_the_statistics_network_to_nothing():
    fit = fitted(mi_shuffle="release")
    adam, generator = Adam(fit.parameters), torch.Generator().manual_seed(0)
    for _ in range(1000):
        update = adam.step(gradient_of(fit.losses(generator)[0], fit.parameters))
        fit.parameters = (fit.parameters.detach() - update).requires_grad_()
    encoder_part, _, statistics_part = fit.parameters.detach().split(fit.parts, 1)
    codes = stick_breaking(fit.encoder.matrix(encoder_part) @ fit.inputs[0])
    joint, product = module.statistics(statistics_part, fit.inputs[0][:, :-1], codes, None)
    assert module.mutual(joint, product).item() == pytest.approx(2 * math.log(2), abs=2e-3) and joint.max() < 0.1


# ---- optimisation


def test_an_iteration_takes_both_gradients_at_the_same_parameters():
    lr_hsi, hr_msi, _, srf = scene()
    model, fit = build(srf), fitted()
    generator = torch.Generator().manual_seed(0)
    module.Fit(model, lr_hsi, hr_msi, generator)  # moves it past the initial parameters
    adams = Adam(fit.parameters), Adam(fit.parameters)
    for _ in range(3):
        steps = [adam.step(gradient_of(loss, fit.parameters, keep=True)) for adam, loss in zip(adams, fit.losses(generator))]
        fit.parameters = (fit.parameters - steps[0] - steps[1]).detach().requires_grad_()
    expected = fit.estimate().unflatten(2, hr_msi.shape[2:])
    assert torch.allclose(fuse(model, lr_hsi, hr_msi), expected, rtol=0, atol=1e-6)
    assert not torch.allclose(fuse(build(srf, iterations=2), lr_hsi, hr_msi), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mi_shuffle", ["release", "pixels"])
def test_training_reduces_the_errors(mi_shuffle):
    lr_hsi, hr_msi, cube, srf = scene()

    def error(fused):
        return (fused - cube).square().mean().sqrt().item()

    start, end = (error(fuse(build(srf, iterations=n, mi_shuffle=mi_shuffle), lr_hsi, hr_msi)) for n in (0, 800))
    assert end < 0.2 * start and end < 0.7 * error(resize(lr_hsi, hr_msi.shape[2:]))


@pytest.mark.parametrize("mi_shuffle", ["release", "pixels"])
def test_batch_is_its_images(mi_shuffle):
    lr_hsi, hr_msi, _, srf = scene(batch=3)
    model = build(srf, iterations=60, mi_shuffle=mi_shuffle)
    together = fuse(model, lr_hsi, hr_msi)
    for i in range(3):
        assert torch.allclose(together[i], fuse(model, lr_hsi[i : i + 1], hr_msi[i : i + 1])[0], rtol=0, atol=5e-6)
    assert (together[0] - together[1]).abs().max() > 0.1


@pytest.mark.parametrize("mi_shuffle", ["release", "pixels"])
def test_same_seed_same_image(mi_shuffle):
    lr_hsi, hr_msi, _, srf = scene()
    first = fuse(build(srf, mi_shuffle=mi_shuffle), lr_hsi, hr_msi)
    torch.manual_seed(5)
    assert torch.equal(first, fuse(build(srf, mi_shuffle=mi_shuffle), lr_hsi, hr_msi))
    assert not torch.equal(first, fuse(build(srf, mi_shuffle=mi_shuffle, seed=1), lr_hsi, hr_msi))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype(dtype):
    lr_hsi, hr_msi, _, srf = scene(side=(3, 5), ratio=2, msi_bands=1)
    fused = build(srf)(lr_hsi.to(dtype), hr_msi.to(dtype))  # with and without gradients around it
    assert fused.shape == (1, BANDS, 6, 10) and fused.dtype == dtype and not fused.requires_grad
    assert torch.equal(fused, fuse(build(srf), lr_hsi.to(dtype), hr_msi.to(dtype)))
    assert torch.equal(fused, fuse(build(srf), lr_hsi, hr_msi).to(dtype))  # float32 inside
    assert build(srf)(lr_hsi.to(dtype) + 2, hr_msi.to(dtype)).min() > 1  # no clipping


@pytest.mark.parametrize("mi_shuffle", ["release", "pixels"])
@pytest.mark.parametrize("spoil", ["dead band", "dead MSI band", "constant", "zero", "repeated spectrum"])
def test_poor_images_stay_finite(spoil, mi_shuffle):
    lr_hsi, hr_msi, _, srf = scene()
    if spoil == "dead band":
        lr_hsi[:, 2] = 0
    if spoil == "dead MSI band":
        hr_msi[:, 1] = 0
    if spoil in ("constant", "zero"):
        lr_hsi[:], hr_msi[:] = (0.3, 0.3) if spoil == "constant" else (0, 0)
    if spoil == "repeated spectrum":
        lr_hsi[:] = lr_hsi[:, :1]
    assert fuse(build(srf, iterations=60, mi_shuffle=mi_shuffle), lr_hsi, hr_msi).isfinite().all()


def test_errors_name_the_remedy():
    lr_hsi, hr_msi, _, srf = scene(batch=2)
    with pytest.raises(MethodError, match=r"give srf, \(3, 10\)"):
        create("u2mdn", bands=BANDS, msi_bands=MSI_BANDS)
    with pytest.raises(MethodError, match="choices: release, pixels"):
        build(srf, mi_shuffle="rows")
    with pytest.raises(MethodError, match="2 LR-HSIs and 1 HR-MSIs"):
        build(srf)(lr_hsi, hr_msi[:1])
