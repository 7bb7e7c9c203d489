"""ARGS-Diff: networks and sampling against recordings of its release, trainings and response by what they must reach."""

import math
from itertools import islice, pairwise

import pytest
import torch
from torch import nn

from benchmark.complexity import multiply_adds
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import create, fuse
from methods.args_diff import Sampler, fit_response, image_of, learn, patches_of, schedule, shuffled, spectra_of, times
from methods.denoisers import Predictors, size_for
from methods.registry import MethodError, card
from methods.resample import resize
from tests.methods.images import pair, random_srf

CASE = load_case("args_diff")
OURS = {"x_start": "start", "pred_noise": "noise", "after_adam": "pulled", "after_argm": ""}  # parts of a step by recorded name


@pytest.fixture(scope="module")
def networks():
    model = Predictors(172, rank=8, width=64)
    model.card = card("args-diff")
    return filled(model, CASE).requires_grad_(False)


def built(bands=9, **arguments):
    small = {"rank": 4, "width": 32, "spatial_steps": 2, "spectral_steps": 2, "sampling_steps": 3, "response_steps": 3}
    return create("args-diff", bands=bands, msi_bands=4, **small | arguments)


# ---- against the release


@pytest.mark.golden
@torch.no_grad()
def test_networks_schedule_and_reduction(networks):
    a, e, image = inputs(CASE, "x_spa", "x_spe", "hr_probe")
    of_a, of_e = networks.noises(a, e[0], CASE["settings"]["t_of_output"])
    assert relative_difference(of_a, CASE["output"]) < 1e-5
    assert relative_difference(of_e, CASE["extra_outputs"]["spe_noise"]) < 1e-5
    assert relative_difference(schedule(), CASE["extra_outputs"]["alphas_cumprod"]) < 1e-6
    assert relative_difference(resize(image, (8, 8)), CASE["extra_outputs"]["degraded_probe"]) < 1e-5


@pytest.mark.golden
def test_sampling(networks):
    lr_hsi, hr_msi, a, e, srf = inputs(CASE, "lr_hsi", "hr_msi", "x_spa", "x_spe", "srf")
    sampler = Sampler(networks, lr_hsi, hr_msi, srf / srf.sum(1, keepdim=True))
    a, e, found = a - 0.9, e[0] - 0.9, {}
    asked = CASE["settings"]["times"]
    for number, (t, following) in enumerate(pairwise(asked), 1):
        step = sampler.step(a, e, t, following)
        a, e = step.a, step.e
        for theirs, part in OURS.items():
            for network, state in (("spa", "a"), ("spe", "e")):
                found[f"step{number}_{network}_{theirs}"] = getattr(step, f"{state}_{part}".strip("_"))
    with torch.no_grad():
        for network, state, noise in zip(("spa", "spe"), (a, e), networks.noises(a, e, asked[-1])):
            start, again = sampler.start(state, noise, asked[-1])
            found |= {f"step5_{network}_x_start": start, f"step5_{network}_pred_noise": again}
    for name, summary in CASE["internals"].items():
        assert relative_difference(found[name].view(summary["shape"]), summary) < 1e-4, name
    image = image_of(*sampler.end(a, e, asked[-1])).clamp(0, 1)
    assert relative_difference(image[0].permute(1, 2, 0), CASE["extra_outputs"]["sampled_image_hwc"]) < 1e-4
    assert step.distance.item() == pytest.approx(CASE["extra_outputs"]["distance_last"], rel=1e-5)


def test_counts_are_of_one_evaluation(networks):
    assert sum(p.numel() for p in networks.spa.parameters()) == CASE["params_spatial"]
    assert sum(p.numel() for p in networks.spe.parameters()) == CASE["params_spectral"]
    assert multiply_adds(networks, 172, 4, 64, 256) == (CASE["macs_conv_linear_64_256"], 0)


@pytest.mark.parametrize("bands, hidden, steps", [
    (31, 256, 400_000), (48, 256, 400_000), (49, 512, 500_000), (128, 512, 600_000), (172, 800, 800_000), (224, 800, 800_000)])
def test_the_spectral_network_is_the_next_larger_one(bands, hidden, steps):
    assert size_for(bands).hidden[1] == hidden and built(bands, spectral_steps=None).spectral_steps == steps


def test_defaults_are_the_releases():
    method = create("args-diff", bands=172, msi_bands=4)
    assert (method.spatial_steps, method.spectral_steps, method.sampling_steps, method.response_steps, method.seed) == (
        30_000, 800_000, 500, 3000, 47)
    assert times(500) == list(range(999, 0, -2))
    assert times(5) == [999, 799, 599, 399, 199]


# ---- pieces


def test_the_distance_is_that_of_the_whole_image(networks):
    lr_hsi, hr_msi, a, e, srf = inputs(CASE, "lr_hsi", "hr_msi", "x_spa", "x_spe", "srf")
    image = image_of(a, e[0])
    expected = (lr_hsi - resize(image, (8, 8))).square().sum().sqrt() + (
        hr_msi - torch.einsum("mb,nbhw->nmhw", srf, image)).square().sum().sqrt()
    torch.testing.assert_close(Sampler(networks, lr_hsi, hr_msi, srf).distance(a, e[0]), expected)


def test_a_pair_that_is_met_is_not_pulled(networks):
    lr_hsi, hr_msi, a, e, srf = inputs(CASE, "lr_hsi", "hr_msi", "x_spa", "x_spe", "srf")
    a = a.requires_grad_()
    with torch.no_grad():
        lr_hsi, hr_msi = image_of(resize(a, (8, 8)), e[0]), torch.einsum(
            "nrhw,rm->nmhw", (a + 1) / 2, (e[0] + 1) / 2 @ srf.T)
    Sampler(networks, lr_hsi, hr_msi, srf).distance(a, e[0]).backward()
    assert a.grad.isfinite().all()


def test_response_is_positive_with_sum_one_and_meets_the_pair():
    lr_hsi, _ = pair(6, 6)
    srf = random_srf(9, 4).float()
    lr_msi = torch.einsum("mb,nbhw->nmhw", srf, lr_hsi)
    found = fit_response(lr_hsi, lr_msi, 600, "")
    torch.testing.assert_close(found.sum(1), torch.ones(4))
    assert found.min() >= 0 and (found - srf).abs().max() < 0.02
    torch.testing.assert_close(fit_response(lr_hsi, lr_msi, 1, ""), torch.full((4, 9), 1 / 9), rtol=0.2, atol=0)


def test_indices_come_in_passes_without_the_rest():
    drawn = list(islice(shuffled(10, 4), 4))
    assert [len(set(torch.cat(drawn[i : i + 2]).tolist())) for i in (0, 2)] == [8, 8]  # two of four a pass
    assert sorted(next(shuffled(3, 4)).tolist()) == [0, 1, 2]


def test_patches_are_windows_whose_channels_are_bands_drawn_at_random():
    at = torch.arange(160.0) / 1000
    hr_msi = at[None, None, :, None] + torch.zeros(1, 1, 160, 200) + torch.arange(4.0).view(1, 4, 1, 1) / 4
    batch = next(patches_of(hr_msi, 8))
    assert batch.shape == (6, 8, 128, 128)  # 2 x 3 places 32 apart: fewer than a batch
    values = (batch + 1) / 2
    bands = (values[:, :, 0, 0] * 4).long()
    assert set(bands.flatten().tolist()) == {0, 1, 2, 3}
    tops = (values[:, :, 0, 0] - bands / 4) * 1000
    assert {round(top) for top in tops.flatten().tolist()} == {0, 32} and (tops - tops[:, :1]).abs().max() < 1e-3
    assert next(patches_of(hr_msi[..., :44, :100], 2)).shape[1:] == (2, 40, 40)


def test_spectra_are_the_pixels():
    lr_hsi, _ = pair(4, 5)
    batch = (next(spectra_of(lr_hsi)) + 1) / 2
    expected = {tuple(round(v, 5) for v in row) for row in lr_hsi[0].flatten(1).T.tolist()}
    assert {tuple(round(v, 5) for v in row) for row in batch.tolist()} == expected


class Affine(nn.Module):
    """A predictor of two parameters: of data that are one constant, the noise is an affine function of the state."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x, t):
        return self.scale * x + self.shift


def test_training_is_adamw_with_a_falling_rate_and_keeps_the_average(monkeypatch):
    """Against the same loop written out."""
    def data():
        while True:
            yield torch.full((64, 3), 0.5)

    torch.manual_seed(0)
    network = Affine()
    learn(network, data(), 30, "")

    torch.manual_seed(0)
    plain, share = Affine(), schedule().float()
    adam = torch.optim.AdamW(plain.parameters(), 1e-4, weight_decay=0)
    falling = torch.optim.lr_scheduler.LambdaLR(adam, lambda i: 1 - i / 30)
    average = [0.0, 0.0]
    for _ in range(30):
        t = torch.randint(1000, (64,))
        noise = torch.randn(64, 3)
        state = 0.5 * share[t].sqrt()[:, None] + (1 - share[t]).sqrt()[:, None] * noise
        adam.zero_grad()
        (plain(state, t) - noise).square().mean().backward()
        adam.step()
        falling.step()
        average = [0.9 * kept + 0.1 * p.item() for kept, p in zip(average, plain.parameters())]
    assert [p.item() for p in network.parameters()] == pytest.approx(average, rel=1e-4)
    assert average[0] > 5e-4


def test_the_schedule():
    share = schedule()
    assert share[999].item() == pytest.approx(0.001) and share[0].item() == pytest.approx(1, abs=1e-4)
    assert share[499].item() == pytest.approx(0.001 + 0.999 * (1 - math.exp(-5)) / (1 - math.exp(-10)))


# ---- as a method


@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 5), 6), (3, (3, 5), 1), (8, (2, 3), 10)])
def test_any_size_ratio_and_msi(ratio, size, msi_bands):
    lr_hsi, hr_msi = pair(*size, msi_bands, ratio)
    method = create("args-diff", bands=9, msi_bands=msi_bands, ratio=ratio, rank=2, width=32, spatial_steps=1, spectral_steps=1,
                    sampling_steps=2, response_steps=1)
    fused = fuse(method, lr_hsi, hr_msi)
    assert fused.shape == (1, 9, ratio * size[0], ratio * size[1])
    assert fused.isfinite().all() and fused.min() >= 0 and fused.max() <= 1


class Silent:
    """Networks that see no noise: the guidance is alone."""

    @staticmethod
    def noises(a, e, t):
        return 0 * a, 0 * e


def test_sampling_draws_the_image_to_the_pair():
    at = torch.linspace(0, 2, 16)
    parts = torch.stack((at[:, None].sin() + at.cos(), at[:, None] - at)).softmax(0)
    cube = torch.einsum("rb,rhw->bhw", torch.rand(2, 9, generator=torch.Generator().manual_seed(0)), parts)[None]
    srf = random_srf(9, 4).float()
    sampler = Sampler(Silent(), resize(cube, (4, 4)), torch.einsum("mb,nbhw->nmhw", srf, cube), srf)
    generator = torch.Generator().manual_seed(0)
    a, e = torch.randn(1, 4, 16, 16, generator=generator), torch.randn(4, 9, generator=generator)
    distances, asked = [], times(100)
    for t, following in pairwise(asked):
        step = sampler.step(a, e, t, following)
        a, e = step.a, step.e
        distances.append(step.distance.item())
    fused = image_of(*sampler.end(a, e, asked[-1]))
    assert distances[-1] < 0.3 * distances[0]
    assert (fused - cube).abs().mean() < 0.6 * (image_of(a * 0, e * 0) - cube).abs().mean()


@pytest.mark.parametrize("arguments, remedy", [
    ({"spatial_steps": 0}, "spatial_steps is 0; give at least 1"), ({"rank": 0}, "rank is 0"),
    ({"spectral_steps": 0}, "spectral_steps is 0"), ({"sampling_steps": 1001}, "the diffusion has 1000"),
    ({"width": 48}, "32 groups, choose a multiple of 32")])
def test_errors_name_the_remedy(arguments, remedy):
    with pytest.raises(MethodError, match=remedy):
        built(**arguments)


def test_images_that_do_not_belong_together_are_refused():
    lr_hsi, hr_msi = pair(4, 4)
    with pytest.raises(MethodError, match="not one whole multiple"):
        built()(lr_hsi, hr_msi[..., :-1])
