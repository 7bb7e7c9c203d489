"""SSIF-style: the HSI unread, bands between the trained ones, samples in a band, its size and training."""

import math

import pytest
import torch
from torch.nn import functional as F

from methods import card, create
from methods.registry import MethodError
from tests.methods.images import low_rank_batch, pair

RECIPE = card("ssif").recipes["described"]


def small(bands=9, msi_bands=4, **arguments):
    torch.manual_seed(0)
    return create("ssif", bands=bands, msi_bands=msi_bands, **card("ssif").small | arguments).eval()


@torch.no_grad()
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_the_hsi_is_not_read(ratio):
    model, (lr_hsi, hr_msi) = small(msi_bands=6), pair(3, 5, msi_bands=6, ratio=ratio)
    estimate = model(lr_hsi, hr_msi)
    assert estimate.shape == (1, 9, 3 * ratio, 5 * ratio)
    assert torch.equal(estimate, model(torch.full_like(lr_hsi, torch.nan), hr_msi))
    assert torch.equal(estimate, model(None, hr_msi))
    assert (estimate - model(lr_hsi, hr_msi.flip(1))).abs().max() > 1e-3


@pytest.mark.parametrize("bands, msi_bands, width, depth, octaves, total",
                         [(9, 3, 8, 2, 3, 4_864), (172, 4, 64, 16, 7, 1_315_648), (172, 6, 64, 16, 7, 1_316_800)])
def test_count(bands, msi_bands, width, depth, octaves, total):
    with torch.device("meta"):
        model = create("ssif", bands=bands, msi_bands=msi_bands, width=width, depth=depth)
    hidden, square = 4 * width, 9 * width * width + width
    image = 9 * msi_bands * width + width + (2 * depth + 1) * square + 2 * (width * width + width)
    spectral = (2 * octaves + 1) * hidden + hidden + hidden * hidden + hidden + hidden * width + width
    assert sum(p.numel() for p in model.parameters()) == image + spectral == total


@torch.no_grad()
def test_bands_are_at_their_centres():
    model, (lr_hsi, hr_msi) = small(), pair(3, 4)
    centres = model.centres()
    assert centres.tolist() == pytest.approx([(2 * i - 8) / 9 for i in range(9)])
    image = model(lr_hsi, hr_msi)
    torch.testing.assert_close(model.at(hr_msi, centres), image, rtol=0, atol=0)
    torch.testing.assert_close(model.at(hr_msi, centres[[5, 0]]), image[:, [5, 0]])


@torch.no_grad()
def test_a_band_is_a_mean_over_places_within_it():
    model, (_, hr_msi) = small(), pair(3, 4)
    x = model.head(hr_msi)
    pixels = model.pixel_decoder(x + model.image_encoder(x))
    for position in (-8 / 9, 0.13):
        expected = torch.zeros(1, 12, 16)
        for part in (-1 / 3, 0, 1 / 3):  # middles of three parts, in half widths of two parts each
            p = position + 2 * part / 9
            waves = [wave(2**k * math.pi * p) for wave in (math.sin, math.cos) for k in range(3)]
            expected += torch.einsum("bdxy,d->bxy", pixels, model.spectral_encoder(torch.tensor([p, *waves]))) / 3
        torch.testing.assert_close(model.at(hr_msi, torch.tensor([position]))[:, 0], expected)


@torch.no_grad()
def test_between_trained_bands_it_is_continuous():
    model, (_, hr_msi) = small(bands=40), pair(3, 4)
    model = model.double()
    position = torch.linspace(-0.9, 0.9, 31, dtype=torch.float64)
    here = model.at(hr_msi.double(), position)
    moved = {step: (model.at(hr_msi.double(), position + step) - here).abs().amax((0, 2, 3)) for step in (1e-2, 1e-4, 1e-6)}
    assert (moved[1e-2] > 1e-5).all()  # of a band's 0.05: not a staircase
    for coarse, fine in ((1e-2, 1e-4), (1e-4, 1e-6)):  # in proportion
        assert (moved[fine] < 0.1 * moved[coarse]).all() and (moved[fine] < 10 * fine).all()


@torch.no_grad()
def test_samples_are_drawn_in_training_alone():
    model, (_, hr_msi) = small(samples=1), pair(3, 4)
    position = torch.tensor([0.2])
    middle = model.at(hr_msi, position)
    assert torch.equal(middle, model.at(hr_msi, position))
    model.train()
    torch.manual_seed(3)
    drawn = [model.at(hr_msi, position) for _ in range(40)]
    assert not torch.equal(drawn[0], drawn[1])
    torch.manual_seed(3)
    assert torch.equal(drawn[0], model.at(hr_msi, position))  # a seed gives the same again
    inside = model.eval().at(hr_msi, position + torch.linspace(-1, 1, 501) / 9)  # all of the band of place 0.2
    gaps = torch.stack([(inside - one).abs().amax((0, 2, 3)).min() for one in drawn])
    assert gaps.max() < 0.01 * (inside.amax(1) - inside.amin(1)).max()
    spread = torch.stack(drawn).std(0).max()
    uniform = inside.std(1).max()
    assert spread == pytest.approx(uniform.item(), rel=0.4)  # over the whole band, evenly


def test_every_parameter_gets_a_gradient():
    model = small().train()
    batch = low_rank_batch(bands=9)
    RECIPE.task({"ssif": model}, RECIPE)(batch)["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_it_learns_and_knows_bands_that_it_did_not_see():
    whole = low_rank_batch(bands=24)
    batch = {**whole, "hr_hsi": whole["hr_hsi"][:, ::2]}  # bands 0, 2, ..., 22: centre of band i of 12 is that of 2 i
    model = small(bands=12, width=16, depth=1, samples=2).train()
    task = RECIPE.task({"ssif": model}, RECIPE)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=300)
    course = []
    for _ in range(300):
        loss = task(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        course.append(loss.item())
    assert sum(course[-5:]) < 0.1 * sum(course[:5])

    @torch.no_grad()
    def error(shift):
        """Of bands 1, 3, ..., 21 at places that lie ``shift`` trained bands behind their left neighbours."""
        return F.l1_loss(model.at(whole["hr_msi"], model.centres()[:-1] + 2 * shift / 12), whole["hr_hsi"][:, 1:-1:2]).item()

    model.eval()
    seen = F.l1_loss(model(None, whole["hr_msi"]), batch["hr_hsi"]).item()
    assert error(0.5) < 1.2 * seen and error(0.5) < 0.7 * min(error(0), error(1))


def test_card_and_errors():
    assert card("ssif").fidelity == "described" and RECIPE.trains == ("ssif",)
    for words in ({"width": 0}, {"depth": 0}, {"samples": 0}):
        with pytest.raises(MethodError, match=f"{next(iter(words))} 0"):
            create("ssif", bands=9, msi_bands=4, **words)
