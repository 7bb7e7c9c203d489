"""uSDN against plain loops: its networks, losses, schedule, stopping rules, robustness."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

import methods.usdn as module
from methods import create, fuse
from methods.dirichlet import entropy, initial_decoder, per_image
from methods.registry import MethodError
from methods.resample import resize

SHORT = {"hsi_iterations": 4, "init_iterations": 3, "iterations": 8}


def scene(batch=1, bands=10, msi_bands=3, side=(8, 8), ratio=4, endmembers=3, seed=0):
    """Mixtures of smooth spectra with smooth abundances: LR-HSI, HR-MSI, HR-HSI and SRF, float32."""
    rng = np.random.RandomState(seed)
    wave = np.linspace(0, 1, bands)
    spectra = np.stack([0.1 + 0.8 * np.exp(-0.5 * ((wave - c) / 0.25) ** 2) for c in np.linspace(0, 1, endmembers)])
    size = (batch, endmembers, side[0] * ratio, side[1] * ratio)
    maps = np.exp(30 * ndimage.gaussian_filter(rng.standard_normal(size), (0, 0, 3, 3), mode="wrap"))
    cube = torch.from_numpy(np.einsum("eb,nehw->nbhw", spectra, maps / maps.sum(1, keepdims=True))).float()
    srf = torch.zeros(msi_bands, bands)
    for i, group in enumerate(np.array_split(np.arange(bands), msi_bands)):
        srf[i, group] = 1 / len(group)
    return torch.nn.functional.avg_pool2d(cube, ratio), torch.einsum("mb,nbhw->nmhw", srf, cube), cube, srf


def build(lr_hsi, srf, name="usdn", **options):
    return create(name, bands=lr_hsi.shape[1], msi_bands=len(srf), srf=srf, **{**SHORT, **options})


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---- networks


def layer(parameters, width, x):
    """One layer written out, with the next weights and biases of a flat list: x (k, N) -> (width, N)."""
    weights = [[parameters.pop(0) for _ in range(len(x))] for _ in range(width)]
    return np.array(weights) @ x + np.array([parameters.pop(0) for _ in range(width)])[:, None]


def test_hsi_encoder_agrees_with_the_layers_written_out():
    bands, msi_bands = 6, 3
    network = module.encoder(bands, msi_bands, endmembers=5, hidden=2)
    parameters, x, t = random(1, network.size), random(1, bands, 7, seed=1), random(1, msi_bands, 7, seed=2)
    merged = network.matrix(parameters) @ torch.cat((x, t, torch.ones(1, 1, 7)), 1)
    rest, x, t = parameters[0].tolist(), x[0].numpy(), t[0].numpy()
    c = np.concatenate([x, layer(rest, 2, t)])
    for _ in range(3):
        c = np.concatenate([c, layer(rest, 2, c)])
    e = np.concatenate([t, layer(rest, 2, t)])
    e = np.concatenate([layer(rest, 2, e), e])
    expected = np.concatenate([layer(rest, 5, c), layer(rest, 1, e)])
    assert not rest
    assert np.allclose(merged[0].numpy(), expected, rtol=1e-12, atol=1e-12)


def test_msi_encoder_agrees_with_the_layers_written_out():
    network = module.encoder(0, 4, endmembers=5, hidden=2)
    parameters, y = random(1, network.size), random(1, 4, 7, seed=1)
    merged = network.matrix(parameters) @ torch.cat((y, torch.ones(1, 1, 7)), 1)
    rest, y = parameters[0].tolist(), y[0].numpy()
    c = y
    for _ in range(4):
        c = np.concatenate([c, layer(rest, 2, c)])
    e = np.concatenate([y, layer(rest, 2, y)])
    e = np.concatenate([layer(rest, 2, e), e])
    assert np.allclose(merged[0].numpy(), np.concatenate([layer(rest, 5, c), layer(rest, 1, e)]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("msi_bands, size", [(4, 6472), (6, 6554)])
def test_number_of_parameters(msi_bands, size):
    model = create("usdn", bands=172, msi_bands=msi_bands, srf=torch.ones(msi_bands, 172))
    fit = module.Fit(model, torch.rand(1, 172, 2, 2), torch.rand(1, msi_bands, 8, 8))
    assert model.size == fit.hsi_parameters.numel() + fit.msi_parameters.numel() == size


def test_initial_parameters():
    network = module.encoder(172, 4, endmembers=12, hidden=3)
    start = network.initial(torch.Generator().manual_seed(0))
    first, bias = start[:12], start[12:15]  # 4 -> 3
    assert (bias == 0).all() and 0.5 * math.sqrt(6 / 7) < first.abs().max() <= math.sqrt(6 / 7)
    head = start[-12 * 185 - 11 : -12 * 185 - 11 + 12 * 184]  # 184 -> 12 in front of its bias and of beta's layer
    assert 0.99 * math.sqrt(6 / 196) < head.abs().max() <= math.sqrt(6 / 196) and abs(head.mean()) < 0.01
    decoder = initial_decoder(12, 172, torch.Generator().manual_seed(0))
    assert len(decoder) == 12 * 184 and 0.19 < decoder.abs().max() <= 0.2
    assert decoder.std().item() == pytest.approx(0.088, abs=0.004)  # a normal of 0.1 cut at two deviations


# ---- losses


def test_hsi_loss_agrees_with_plain_loop():
    codes, d, target, mu = random(2, 3, 4).abs(), random(2, 3, 5), random(2, 5, 4, seed=1), random(2, 5, 1, seed=2)
    got = module.hsi_loss(codes, d, target, mu)
    for b in range(2):
        s, decoder, x, mean = (array[b].numpy() for array in (codes, d, target, mu))
        fit = np.mean([sum((s[:, p] @ decoder[:, k] - x[k, p]) ** 2 for p in range(4)) for k in range(5)])
        spectra = np.array([[decoder[i, k] + mean[k, 0] for k in range(5)] for i in range(3)])
        expected = fit + 1e-4 * (spectra.T @ spectra).mean() + 1e-3 * entropy(codes)[b].item()
        assert got[b].item() == pytest.approx(expected, rel=1e-12)
        assert module.volume(torch.from_numpy(spectra)[None]).item() == pytest.approx((spectra.T @ spectra).mean(), rel=1e-12)


def test_phase_3_minimises_the_error_of_the_decoded_and_projected_codes(monkeypatch):
    lr_hsi, hr_msi, _, srf = scene(batch=2)
    fit = module.Fit(build(lr_hsi, srf), lr_hsi, hr_msi)
    fit.hsi()
    calls, loss = [], module.msi_loss
    monkeypatch.setattr(module, "msi_loss", lambda *terms: calls.append((terms[0].detach(), loss(*terms))) or calls[0][1])
    fit.msi(torch.ones(2, 1), None)
    ((codes, got),) = calls
    for b in range(2):
        y, mu_x, d, s, r = (v.double().numpy() for v in (hr_msi[b].flatten(1), fit.mu_x[b], fit.decoder[b], codes[b], srf))
        mu_y = y.mean(1, keepdims=True)
        estimate = r @ (d.T @ s + mu_x) - mu_y
        expected = ((estimate - (y - mu_y)) ** 2).sum(1).mean() + 1e-3 * entropy(codes)[b].item()
        assert got[b].item() == pytest.approx(expected, rel=1e-5)


def test_map_angle_agrees_with_plain_loop():
    one, other = random(2, 3, 9).abs(), random(2, 3, 9, seed=1).abs()
    for b in range(2):
        angles = [math.acos(one[b, j] @ other[b, j] / (one[b, j].norm() * other[b, j].norm() + 1e-8)) for j in range(3)]
        assert module.map_angle(one, other)[b].item() == pytest.approx(sum(angles) / 3 / 3.1416, rel=1e-12)
    equal = one.float().requires_grad_()  # arccos has no finite derivative at 1
    assert torch.autograd.grad(module.map_angle(equal, equal.detach()).sum(), equal)[0].isfinite().all()


def test_band_angle_is_taken_between_bands_after_clipping():
    one, other = 0.6 * random(2, 3, 9).abs(), 0.6 * random(2, 3, 9, seed=1)
    assert (one > 1).any() and (other < 0).any()
    for b in range(2):
        angles = []
        for k in range(3):
            u, v = (np.clip(image[b, k].numpy(), 0, 1) for image in (one, other))
            angles.append(math.degrees(math.acos(u @ v / np.linalg.norm(u) / np.linalg.norm(v))))
        assert module.band_angle(one, other)[b].item() == pytest.approx(np.mean(angles), rel=1e-9)
    clipped = [np.clip(image.numpy(), 0, 1) for image in (one, other)]
    rmse = [255 * np.sqrt(np.mean((clipped[0][b] - clipped[1][b]) ** 2)) for b in range(2)]
    assert module.errors_of(one, other)[1].tolist() == pytest.approx(rmse, rel=1e-12)
    dead = torch.zeros(1, 1, 4)
    assert module.band_angle(dead, dead).item() == 0 and module.band_angle(dead + 0.1, dead).item() == pytest.approx(90)


@pytest.mark.parametrize("high, low", [((32, 32), (8, 8)), ((12, 20), (3, 5)), ((9, 6), (3, 2)), ((8, 4), (2, 1))])
def test_zoom_is_that_of_scipy(high, low):
    image = random(*high)
    theirs = ndimage.zoom(image.numpy(), (low[0] / high[0], low[1] / high[1]), order=0)
    assert np.array_equal(module.zoom(image[None, None], low)[0, 0].numpy(), theirs)


# ---- schedule


def fitted(batch=2, **options):
    """A batch before phase 1, with its settings."""
    lr_hsi, hr_msi, _, srf = scene(batch=batch)
    return module.Fit(build(lr_hsi, srf, **options), lr_hsi, hr_msi)


def test_phase_1_ends_for_each_image_at_its_angle(monkeypatch):
    angles = iter([[1.6, 1.51], [1.6, 1.5], [1.4, 9.0]])
    monkeypatch.setattr(module, "band_angle", lambda *_: torch.tensor(next(angles)))
    fit = fitted(hsi_iterations=1000, iterations=1000)
    assert fit.hsi().tolist() == [[150], [100]]
    for iterations, image in ((150, 0), (100, 1)):
        monkeypatch.setattr(module, "band_angle", lambda *_: torch.full((2,), 2.0))
        bounded = fitted(hsi_iterations=iterations, iterations=1000)
        assert bounded.hsi().tolist() == [[iterations]] * 2
        assert torch.equal(fit.codes_x[image], bounded.codes_x[image])
        assert torch.equal(fit.decoder[image], bounded.decoder[image])


def test_phase_2_ends_below_its_error(monkeypatch):
    def run(iterations):
        fit = fitted(init_iterations=iterations)
        fit.hsi()
        fit.initialise_msi()
        return fit

    def error(fit):
        return (fit.msi_codes(fit.lr_msi_inputs) - fit.codes_x).square().mean((1, 2)).detach()

    monkeypatch.setattr(module, "CODE_ERROR", 0.0)
    tenth = run(10)
    threshold = error(tenth)[0].item() * 1.0001  # the first image is below it after 10 steps, not before
    assert error(run(9))[0] > threshold
    monkeypatch.setattr(module, "CODE_ERROR", threshold)
    stopped = run(120)
    assert torch.equal(stopped.msi_parameters[0], tenth.msi_parameters[0])
    assert torch.equal(stopped.codes_x, tenth.codes_x) and torch.equal(stopped.decoder, tenth.decoder)


def after_phase_3(limit, monkeypatch, errors=None):
    """MSI parameters of two images after phase 3 alone, with scripted (angles, RMSEs) at each test of the rule."""
    fit = fitted()
    fit.hsi()
    script = iter(errors or [])
    with monkeypatch.context() as patch:
        patch.setattr(module, "errors_of", lambda *_: tuple(torch.tensor(v) for v in next(script, ([1.0] * 2, [1.0] * 2))))
        fit.msi(torch.tensor(limit).expand(2)[:, None], None)
    assert next(script, None) is None
    return fit.msi_parameters


def test_phase_3_ends_where_both_errors_grew(monkeypatch):
    grew = [
        ([9.0, 9.0], [9.0, 9.0]),
        ([9.5, 9.5], [9.0008, 8.0]),  # the first image's RMSE grew by less than 0.01 %, the second's fell
        ([9.6, 9.6], [9.002, 9.0]),  # both grew since the last test, in both images
    ]
    assert torch.equal(after_phase_3(200, monkeypatch, grew), after_phase_3(60, monkeypatch))
    one = [([9.0, 9.0], [9.0, 9.0]), ([9.1, 9.0], [9.1, 9.0]), ([1.0, 9.0], [1.0, 9.0])]
    stopped = after_phase_3(60, monkeypatch, one)
    assert torch.equal(stopped[0], after_phase_3(40, monkeypatch)[0])
    assert torch.equal(stopped[1], after_phase_3(60, monkeypatch)[1])
    last = [([9.0] * 2, [5.0] * 2), ([5.0] * 2, [9.0] * 2), ([6.0] * 2, [8.0] * 2)]  # it is the last test that counts
    assert torch.equal(after_phase_3(80, monkeypatch, last), after_phase_3(80, monkeypatch))
    first = [([51.0, 49.0], [51.0, 51.0]), ([51.0, 49.0], [51.0, 51.0])]  # before the first test: 50
    stopped = after_phase_3(40, monkeypatch, first)
    assert torch.equal(stopped[0], after_phase_3(20, monkeypatch)[0])
    assert torch.equal(stopped[1], after_phase_3(40, monkeypatch)[1])


def test_phase_3_is_cut_for_each_image_at_what_phase_1_left(monkeypatch):
    cut = after_phase_3([7, 25], monkeypatch)
    assert torch.equal(cut[0], after_phase_3(7, monkeypatch)[0]) and torch.equal(cut[1], after_phase_3(25, monkeypatch)[1])
    assert torch.equal(after_phase_3([0, 7], monkeypatch)[0], fitted().msi_parameters[0])
    limits = []
    monkeypatch.setattr(module.Fit, "msi", lambda _, limit, seen: limits.append(limit.tolist()))
    lr_hsi, hr_msi, _, srf = scene()
    fuse(build(lr_hsi, srf, hsi_iterations=3, iterations=5), lr_hsi, hr_msi)
    fuse(build(lr_hsi, srf, hsi_iterations=9, iterations=5), lr_hsi, hr_msi)
    assert limits == [[[2]], [[0]]]


def test_phase_3_takes_an_angle_step_every_20_iterations(monkeypatch):
    before, after = after_phase_3(19, monkeypatch), after_phase_3(20, monkeypatch)
    angle = module.map_angle
    monkeypatch.setattr(module, "map_angle", lambda *a: 0 * angle(*a))
    assert torch.equal(after_phase_3(19, monkeypatch), before) and not torch.equal(after_phase_3(20, monkeypatch), after)
    calls = []
    monkeypatch.setattr(module, "map_angle", lambda *a: calls.append(1) or angle(*a))
    after_phase_3(65, monkeypatch)
    assert len(calls) == 3


def test_decoder_and_codes_are_frozen_after_phase_1():
    fit = fitted()
    fit.hsi()
    kept = [value.clone() for value in (fit.decoder, fit.codes_x, fit.hsi_parameters)]
    fit.initialise_msi()
    fit.msi(torch.tensor([[25], [25]]), None)
    assert all(torch.equal(a, b) for a, b in zip(kept, (fit.decoder, fit.codes_x, fit.hsi_parameters)))


@pytest.mark.parametrize("name", ["usdn", "usdn-oracle"])
def test_what_the_stopping_rule_looks_at(name, monkeypatch):
    lr_hsi, hr_msi, cube, srf = scene()
    seen = []
    errors = module.errors_of
    monkeypatch.setattr(module, "errors_of", lambda *images: seen.append(images) or errors(*images))
    model = build(lr_hsi, srf, name, iterations=24)
    assert model.oracle == (name == "usdn-oracle") and not module.USDN.oracle
    fuse(model, lr_hsi, hr_msi, cube)
    ((estimate, truth),) = seen
    assert torch.equal(truth, (cube if model.oracle else hr_msi).flatten(2)) and estimate.shape == truth.shape
    assert (estimate - truth).abs().mean() < 0.3


def test_only_an_oracle_depends_on_the_reference():
    lr_hsi, hr_msi, cube, srf = scene()
    honest = build(lr_hsi, srf)
    assert torch.equal(honest(lr_hsi, hr_msi, cube), honest(lr_hsi, hr_msi))
    with pytest.raises(MethodError, match="give it, or take 'self'"):
        build(lr_hsi, srf, "usdn-oracle")(lr_hsi, hr_msi)
    with pytest.raises(MethodError, match="must be on its card"):
        build(lr_hsi, srf, stop="oracle")


# ---- fusion


def test_training_reduces_the_errors():
    lr_hsi, hr_msi, cube, srf = scene(side=(6, 6))

    def error(fused):
        return (fused - cube).square().mean().sqrt().item()

    start = error(fuse(build(lr_hsi, srf, hsi_iterations=0, init_iterations=0, iterations=0), lr_hsi, hr_msi))
    end = error(fuse(build(lr_hsi, srf, hsi_iterations=1200, init_iterations=600, iterations=2000), lr_hsi, hr_msi))
    assert end < 0.2 * start and end < 0.5 * error(resize(lr_hsi, hr_msi.shape[2:]))


@pytest.mark.parametrize("name", ["usdn", "usdn-oracle"])
def test_batch_is_its_images(name):
    lr_hsi, hr_msi, cube, srf = scene(batch=3)
    model = build(lr_hsi, srf, name, hsi_iterations=60, init_iterations=20, iterations=105)
    together = fuse(model, lr_hsi, hr_msi, cube)
    for i in range(3):
        alone = fuse(model, *(image[i : i + 1] for image in (lr_hsi, hr_msi, cube)))
        assert torch.allclose(together[i], alone[0], rtol=0, atol=2e-6)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_same_seed_same_image():
    lr_hsi, hr_msi, _, srf = scene()
    first = fuse(build(lr_hsi, srf), lr_hsi, hr_msi)
    torch.manual_seed(5)
    torch.rand(3)
    assert torch.equal(first, fuse(build(lr_hsi, srf), lr_hsi, hr_msi))
    assert not torch.equal(first, fuse(build(lr_hsi, srf, seed=1), lr_hsi, hr_msi))
    start = per_image(torch.zeros(2), torch.zeros(3, 1))
    assert start.shape == (3, 2) and start.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_dtype_and_range(dtype):
    lr_hsi, hr_msi, _, srf = scene(side=(3, 5), ratio=2, msi_bands=1)
    fused = build(lr_hsi, srf)(lr_hsi.to(dtype), hr_msi.to(dtype))  # with and without gradients around it
    assert fused.shape == (1, 10, 6, 10) and fused.dtype == dtype and not fused.requires_grad
    assert fused.min() >= 0 and fused.max() <= 1
    assert torch.equal(fused, fuse(build(lr_hsi, srf), lr_hsi.to(dtype), hr_msi.to(dtype)))
    assert torch.equal(fused, fuse(build(lr_hsi, srf), lr_hsi, hr_msi).to(dtype))  # float32 inside
    bright = build(lr_hsi, srf)(lr_hsi.to(dtype) * 0 + 2, hr_msi.to(dtype))
    assert (bright == 1).any() and bright.max() == 1


@pytest.mark.parametrize("spoil", ["dead band", "dead MSI band", "constant", "zero", "repeated spectrum"])
def test_poor_images_stay_finite(spoil):
    lr_hsi, hr_msi, _, srf = scene()
    if spoil == "dead band":
        lr_hsi[:, 2] = 0
    if spoil == "dead MSI band":
        hr_msi[:, 1] = 0
    if spoil in ("constant", "zero"):
        lr_hsi[:], hr_msi[:] = (0.3, 0.3) if spoil == "constant" else (0, 0)
    if spoil == "repeated spectrum":
        lr_hsi[:] = lr_hsi[:, :1]
    fused = fuse(build(lr_hsi, srf, hsi_iterations=60, init_iterations=10, iterations=110), lr_hsi, hr_msi)
    assert fused.isfinite().all()


def test_errors_name_the_remedy():
    lr_hsi, hr_msi, _, srf = scene(batch=2)
    with pytest.raises(MethodError, match=r"give srf, \(3, 10\)"):
        create("usdn", bands=10, msi_bands=3)
    with pytest.raises(MethodError, match=r"srf is \(10, 3\); give \(msi_bands, bands\) = \(3, 10\)"):
        create("usdn-oracle", bands=10, msi_bands=3, srf=srf.T)
    with pytest.raises(MethodError, match="choices: self, oracle"):
        build(lr_hsi, srf, stop="never")
    with pytest.raises(MethodError, match="2 LR-HSIs and 1 HR-MSIs"):
        build(lr_hsi, srf)(lr_hsi, hr_msi[:1])
