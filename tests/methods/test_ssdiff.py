"""SSDiff against the recorded denoiser step of its release; its diffusion against the equations."""

import math

import pytest
import torch

import methods.ssdiff  # noqa: F401
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import card, create
from methods.registry import MethodError
from methods.ssdiff import embed_time, scale_lowest_frequencies
from tests.methods.images import pair

CASE = load_case("ssdiff")


def small(msi_bands=4, ratio=4, **arguments):
    """A small network, filled: at its initialisation most of it is behind layers at zero."""
    return filled(create("ssdiff", bands=9, msi_bands=msi_bands, ratio=ratio, **arguments))


def alpha_bar(t):
    """Cosine schedule in closed form; its cap of the last steps is not in it."""
    return (math.cos(((t + 1) / 1000 + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("ssdiff", bands=172, msi_bands=4), CASE)
    x_t, lr_hsi, hr_msi = inputs(CASE, "x_t", "lr_hsi", "hr_msi")
    t = torch.full((1,), CASE["settings"]["timestep"])
    residual = model.denoise(x_t, t, model.interpolate(lr_hsi), lr_hsi, hr_msi)
    assert relative_difference(residual, CASE["output"]) < 1e-5


@pytest.mark.parametrize("msi_bands, total", [(4, CASE["params_total"]), (6, 5_915_260)])
def test_parameters(msi_bands, total):
    with torch.device("meta"):
        model = create("ssdiff", bands=172, msi_bands=msi_bands)
    assert sum(p.numel() for p in model.parameters()) == total
    # The case's used parameters are those that thop visits: it leaves out the 704 of the Batch- and GroupNorms.
    norms = sum(p.numel() for module in model.modules() for p in module.parameters(recurse=False)
                if isinstance(module, torch.nn.BatchNorm2d | torch.nn.GroupNorm))
    used = sum(p.numel() for name, p in model.named_parameters() if not name.startswith(model.unused))
    assert norms == 704
    assert used - norms == CASE["params_used_thop"] + (total - CASE["params_total"])


def test_unused_and_used_parameters():
    model = small(steps=2)
    model(*pair(4, 4)).square().mean().backward()
    for name, parameter in model.named_parameters():
        if name.startswith(model.unused):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().max() > 0, name


# ---- pieces


def test_time_embedding():
    row, = embed_time(torch.tensor([7]), 128).tolist()
    angles = [7 * math.exp(-math.log(10000) * i / 64) for i in range(64)]
    assert row == pytest.approx([math.cos(a) for a in angles] + [math.sin(a) for a in angles], abs=1e-5)


@pytest.mark.parametrize("height, width", [(8, 12), (5, 6)])
def test_lowest_frequencies(height, width):
    """Against the plain sum over the four scaled frequencies."""
    y = torch.rand(height, width, dtype=torch.float64)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    expected = y.to(torch.complex128)
    for k in (-1, 0):
        for m in (-1, 0):
            wave = torch.exp(2j * math.pi * (k * rows / height + m * columns / width))
            expected = expected - 0.7 * (y * wave.conj()).sum() * wave / (height * width)
    torch.testing.assert_close(scale_lowest_frequencies(y[None, None], 0.3)[0, 0], expected.real)


# ---- diffusion


def test_schedule():
    model = small()
    for t in (0, 1, 100, 500, 900, 990):
        assert model.signal[t].item() == pytest.approx(math.sqrt(alpha_bar(t)), rel=1e-6)
        assert model.noise[t].item() == pytest.approx(math.sqrt(1 - alpha_bar(t)), rel=1e-6)
    assert model.signal[999].item() == pytest.approx(math.sqrt(0.001 * alpha_bar(998)), rel=1e-5)  # capped step
    assert not {"signal", "noise"} & set(model.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("sampling", ["consistent", "release"])
def test_sampling_with_a_perfect_denoiser(sampling, monkeypatch):
    """Its states must lie on the straight DDIM path from the start to the truth, which it must reach."""
    model = small(sampling=sampling)
    lr_hsi, hr_msi = pair(4, 4)
    lms, truth, seen = model.interpolate(lr_hsi), torch.rand(1, 9, 16, 16), []

    def denoise(x_t, t, *images):
        assert all(torch.equal(image, given) for image, given in zip(images, (lms, lr_hsi, hr_msi)))
        seen.append((t.item(), x_t))
        return truth - lms

    monkeypatch.setattr(model, "denoise", denoise)
    torch.testing.assert_close(model(lr_hsi, hr_msi), truth)
    x_0 = truth - lms if sampling == "consistent" else truth
    times = range(900, -1, -100)
    assert [t for t, _ in seen] == (list(times) if sampling == "consistent" else list(range(9, -1, -1)))
    start = seen[0][1]
    noise = (start - math.sqrt(alpha_bar(900)) * x_0) / math.sqrt(1 - alpha_bar(900))
    for t, (_, x_t) in zip(times, seen):
        expected = math.sqrt(alpha_bar(t)) * x_0 + math.sqrt(1 - alpha_bar(t)) * noise
        torch.testing.assert_close(x_t, expected, atol=1e-5, rtol=1e-5)
    assert abs(start.mean()) < 0.1
    assert abs(start.std() - 1) < 0.1


@torch.no_grad()
def test_sampling_is_clamped_and_repeatable():
    images = pair(4, 4)
    first, again, other = (small(steps=2, seed=seed)(*images) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3
    assert first.min() == 0
    assert first.max() == 1


@torch.no_grad()
@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 10), 6), (4, (3, 5), 4), (8, (2, 3), 10)])
def test_any_size_ratio_and_msi(ratio, size, msi_bands):
    images = pair(*size, msi_bands, ratio, batch=2)
    model = small(msi_bands, ratio, steps=2)
    fused = model(*images)
    assert fused.shape == (2, 9, ratio * size[0], ratio * size[1])
    assert fused.isfinite().all()
    torch.testing.assert_close(fused[1:], model(*(image[1:] for image in images)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_large_images_are_sampled_in_overlapping_tiles(monkeypatch):
    model = small(tile=16, overlap=8, steps=1)
    seen = []
    monkeypatch.setattr(model, "denoise", lambda x_t, t, lms, *images: seen.append(x_t) or lms)
    model(*pair(4, 8))
    assert [tuple(x_t.shape[-2:]) for x_t in seen] == [(16, 16)] * 3
    assert torch.equal(seen[0][..., 8:], seen[1][..., :8])  # one noise image, cut


def test_training_step(monkeypatch):
    recipe = card("ssdiff").recipes["release"]
    model = small().train()
    task = recipe.task({"ssdiff": model}, recipe)
    lr_hsi, hr_msi = pair(4, 4, batch=64)
    reference, lms = torch.rand(64, 9, 16, 16), model.interpolate(lr_hsi)
    batch = {"lr_hsi": lr_hsi[:, None], "hr_msi": hr_msi, "hr_hsi": reference}
    seen = {}

    def denoise(x_t, t, *images):
        assert all(torch.equal(image, given) for image, given in zip(images, (lms, lr_hsi, hr_msi)))
        seen.update(x_t=x_t, t=t)
        return torch.zeros_like(x_t)

    with monkeypatch.context() as patch:
        patch.setattr(model, "denoise", denoise)
        terms = task(batch)
    assert terms["loss"].item() == pytest.approx((reference - lms).abs().mean().item(), rel=1e-5)
    assert seen["t"].min() < 200 < 800 < seen["t"].max()
    for t, x_t, residual in zip(seen["t"].tolist(), seen["x_t"], reference - lms):
        noise = (x_t - model.signal[t] * residual) / model.noise[t]
        assert abs(noise.mean()) < 0.15
        assert abs(noise.std() - 1) < 0.15
    task(batch)["loss"].backward()
    for name, parameter in model.named_parameters():
        if not name.startswith(model.unused):
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("arguments, remedy", [
    ({"dim": 16}, "multiple of 32"), ({"sampling": "ddpm"}, "consistent, release"), ({"steps": 7}, "divisor"),
    ({"tile": 30}, "multiple of 4"), ({"overlap": 3}, "multiple"), ({"overlap": 64}, "below 64")])
def test_errors_name_the_remedy(arguments, remedy):
    with pytest.raises(MethodError, match=remedy):
        create("ssdiff", bands=9, msi_bands=4, **arguments)
