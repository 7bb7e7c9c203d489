"""PC-GANs-style: the generators' arithmetic and size, and a game in which each side is moved by its own loss alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods import card, create
from methods.pc_gans import ADVERSARIAL, discriminators, fooling, steps, telling_apart
from methods.registry import MethodError
from tests.methods.images import low_rank_batch, pair

RECIPE = card("pc-gans").recipes["described"]


def small(bands=9, msi_bands=4, ratio=4, **arguments):
    torch.manual_seed(0)
    return create("pc-gans", bands=bands, msi_bands=msi_bands, ratio=ratio, **card("pc-gans").small | arguments)


def small_task(bands=9):
    return RECIPE.task({"pc-gans": small(bands)}, RECIPE)


def gradients(loss, module):
    """Of each parameter by name; None where there is none."""
    named = dict(module.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)))


# ---- generators


@torch.no_grad()
@pytest.mark.parametrize("ratio, factors", [(2, [2]), (3, [3]), (4, [2, 2]), (5, [5]), (6, [2, 3]), (8, [2, 2, 2])])
def test_sizes(ratio, factors):
    assert steps(ratio) == factors
    coarse, image = small(msi_bands=6, ratio=ratio).stages(*pair(3, 5, msi_bands=6, ratio=ratio))
    assert coarse.shape == image.shape == (1, 9, 3 * ratio, 5 * ratio)


@pytest.mark.parametrize("bands, msi_bands, ratio, scales, width, depth, total",
                         [(9, 3, 4, 3, 8, 1, 12_459), (172, 4, 4, 3, 64, 4, 2_254_404), (172, 6, 4, 3, 64, 4, 2_259_012),
                          (9, 3, 3, 2, 8, 1, 10_491)])
def test_count(bands, msi_bands, ratio, scales, width, depth, total):
    with torch.device("meta"):
        model = create("pc-gans", bands=bands, msi_bands=msi_bands, ratio=ratio, width=width, depth=depth)

    def conv(inputs, outputs):
        return 9 * inputs * outputs + outputs

    blocks = 2 * depth * conv(width, width)
    coarse = conv(bands + msi_bands, width) + (scales - 1) * conv(width + msi_bands, width) + scales * blocks
    residuals = conv(bands + msi_bands, width) + conv(2 * bands, width) + 2 * blocks
    expected = coarse + residuals + 3 * conv(width, bands)
    assert sum(p.numel() for p in model.parameters()) == expected == total


@torch.no_grad()
def test_the_image_is_the_coarse_one_and_two_residuals():
    model, (lr_hsi, hr_msi) = small(), pair(4, 3)
    coarse, image = model.stages(lr_hsi, hr_msi)
    averaged = coarse.reshape(1, 9, 4, 4, 3, 4).mean((3, 5))
    spatial = model.spatial(coarse, hr_msi)
    spectral = F.interpolate(model.spectral(averaged, lr_hsi), scale_factor=4, mode="bilinear")
    torch.testing.assert_close(image, coarse + spatial + spectral)
    assert torch.equal(image, model(lr_hsi, hr_msi)) and torch.equal(image, small()(lr_hsi, hr_msi))
    assert min((image - coarse - part).abs().max() for part in (spatial, spectral)) > 1e-3
    for name in ("coarse.tail", "spatial.layers.3", "spectral.layers.3"):
        for parameter in model.get_submodule(name).parameters():
            parameter.zero_()
    expected = F.interpolate(lr_hsi, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(model(lr_hsi, hr_msi), expected)


@torch.no_grad()
def test_the_first_generator_is_guided_at_every_scale():
    model, (lr_hsi, hr_msi) = small(), pair(4, 3)
    seen = []
    for join in model.coarse.joins:
        join.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][:, -4:]))
    model(lr_hsi, hr_msi)
    for guide, side in zip(seen, (4, 2, 1), strict=True):
        torch.testing.assert_close(guide, F.avg_pool2d(hr_msi, side))


# ---- the game


@pytest.mark.parametrize("a, fake, real", [(0.5, 0.4, 0.9), (-0.3, 0.2, 0.7), (2.0, 0.9, 0.1)])
def test_gradients_of_both_sides_by_hand(a, fake, real):
    """Of D(x) = a x: the generator goes where D says 1, the discriminator's weight where real is 1 and fake 0."""
    judge = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(judge.weight, a)
    x, y = (torch.full((1, 1, 1, 1), value, requires_grad=True) for value in (fake, real))
    fooled = fooling(judge, x)
    assert fooled.item() == pytest.approx((a * fake - 1) ** 2)
    of_image, of_judge = torch.autograd.grad(fooled, (x, judge.weight), allow_unused=True)
    assert of_image.item() == pytest.approx(2 * a * (a * fake - 1)) and of_judge is None
    apart = telling_apart(judge, x, y)
    assert apart.item() == pytest.approx(((a * real - 1) ** 2 + (a * fake) ** 2) / 2)
    *of_images, of_judge = torch.autograd.grad(apart, (x, y, judge.weight), allow_unused=True)
    assert of_images == [None, None]
    assert of_judge.item() == pytest.approx(real * (a * real - 1) + fake * a * fake)


def test_no_term_moves_the_other_side():
    task, batch = small_task(), low_rank_batch(bands=9)
    terms = task(batch)
    generator, judges = task.network(), task.judges
    for term in ("loss", "l1", "l1_coarse", "adversarial"):
        assert set(gradients(terms[f"pc-gans/{term}"], judges).values()) == {None}, term
    assert set(gradients(terms["pc-gans/discriminators"], generator).values()) == {None}
    for sides, term in ((generator, "loss"), (judges, "discriminators")):
        together, alone = gradients(terms["loss"], sides), gradients(terms[f"pc-gans/{term}"], sides)
        for name, gradient in alone.items():
            assert gradient is not None and gradient.abs().sum() > 0, name
            torch.testing.assert_close(gradient, together[name])


def test_terms_add_up_and_the_adversarial_ones_reach_every_generator():
    task, batch = small_task(), low_rank_batch(bands=9)
    terms = task(batch)
    own = sum(terms[f"pc-gans/{term}"] for term in ("l1", "l1_coarse", "adversarial"))
    torch.testing.assert_close(terms["pc-gans/loss"], own)
    torch.testing.assert_close(terms["loss"], own + terms["pc-gans/discriminators"])
    coarse, image = task.network().stages(batch["lr_hsi"][:, 0], batch["hr_msi"])
    verdicts = {"coarse": coarse, "spatial": image, "spectral": image}

    def squares(images, aim):
        return sum((task.judges[name](each) - aim).square().mean() for name, each in images.items())

    torch.testing.assert_close(terms["pc-gans/adversarial"] / ADVERSARIAL, squares(verdicts, 1), rtol=1e-6, atol=0)
    apart = (squares(dict.fromkeys(verdicts, batch["hr_hsi"]), 1) + squares(verdicts, 0)) / 2
    torch.testing.assert_close(terms["pc-gans/discriminators"], apart, rtol=1e-6, atol=0)
    for wrong in ({**verdicts, name: other} for name, other in (("coarse", image), ("spatial", coarse), ("spectral", coarse))):
        assert abs(squares(wrong, 1) - squares(verdicts, 1)) > 1e-5 * squares(verdicts, 1)  # what is compared tells them apart
    for name, gradient in gradients(terms["pc-gans/adversarial"], task.network()).items():
        assert gradient is not None and gradient.abs().sum() > 0, name


def test_a_step_of_each_side_goes_its_way():
    """A small step of the generators raises what the discriminators say of their images, one of these tells better apart."""
    task, batch = small_task(), low_rank_batch(bands=9)
    with torch.no_grad():
        for judge in task.judges.values():
            judge[-1].bias.fill_(0.5)  # undecided
    terms = task(batch)
    before = {key: value.item() for key, value in terms.items()}
    for side, term in ((task.network(), "adversarial"), (task.judges, "discriminators")):
        moved = gradients(terms[f"pc-gans/{term}"], side)
        norm = torch.stack([gradient.square().sum() for gradient in moved.values()]).sum().sqrt()
        kept = {key: value.clone() for key, value in side.state_dict().items()}
        with torch.no_grad():
            for name, parameter in side.named_parameters():
                parameter -= 0.01 * moved[name] / norm
            after = task(batch)
        assert after[f"pc-gans/{term}"].item() < before[f"pc-gans/{term}"]
        if term == "discriminators":  # and the generators' term has risen: the two are adversaries
            assert after["pc-gans/adversarial"].item() > before["pc-gans/adversarial"]
        side.load_state_dict(kept)


@torch.no_grad()
def test_discriminators_see_patches_the_projection_and_spectra():
    torch.manual_seed(0)
    judges, image = discriminators(9, 4, 4), torch.rand(1, 9, 32, 48)
    assert {name: tuple(judge(image).shape) for name, judge in judges.items()} == {
        "coarse": (1, 1, 8, 12), "spatial": (1, 1, 8, 12), "spectral": (1, 1, 8, 12)}
    assert judges["spatial"][0].weight.shape == (4, 9, 1, 1)
    changed = image.clone()
    changed[..., :4, :4] = image[..., :4, :4].mean((2, 3), keepdim=True)  # the same average of an LR pixel
    torch.testing.assert_close(judges["spectral"](changed), judges["spectral"](image))
    assert (judges["coarse"](changed) - judges["coarse"](image)).abs().max() > 1e-4
    changed = image + 0
    changed[..., :4, :4] += 0.1
    assert ((judges["spectral"](changed) - judges["spectral"](image)).abs() > 1e-7).sum() == 1  # a pixel at a time
    for name in ("coarse", "spatial"):  # of the middle verdict, by the gradient's extent
        with torch.enable_grad():
            seen = image.clone().requires_grad_()
            judges[name](seen)[0, 0, 4, 6].backward()
        assert [int((seen.grad.abs().sum((0, 1)).sum(axis) > 0).sum()) for axis in (0, 1)] == [18, 18]


def test_discriminators_are_trained_but_no_part_of_the_network():
    task = small_task()
    groups = {group["name"]: group["params"] for group in task.parameter_groups()}
    assert list(groups) == ["pc-gans", "pc-gans/discriminators"]
    assert sum(p.numel() for p in groups["pc-gans"]) == sum(p.numel() for p in task.network().parameters())
    assert len(groups["pc-gans/discriminators"]) == len(list(task.judges.parameters())) == 6 + 7 + 6
    assert not {id(p) for p in task.judges.parameters()} & {id(p) for p in task.network().parameters()}
    assert any(key.startswith("judges.") for key in task.state_dict())  # a checkpoint has them


def test_training_lowers_the_loss_and_repeats_itself():
    courses = []
    for _ in range(2):
        task, batch, course = small_task(bands=12), low_rank_batch(), []
        optimizer = torch.optim.Adam(task.parameter_groups(), lr=1e-3)
        for _ in range(40):
            terms = task(batch)
            optimizer.zero_grad()
            terms["loss"].backward()
            optimizer.step()
            course.append({key: value.item() for key, value in terms.items()})
        courses.append(course)
    first, last = courses[0][0], courses[0][-1]
    for term in ("l1", "l1_coarse", "loss"):
        assert last[f"pc-gans/{term}"] < 0.5 * first[f"pc-gans/{term}"], term
    # Three discriminators that know nothing say 1/2 of everything: 3/4 in all. None has got lost or has won for good.
    assert 0.05 < last["pc-gans/discriminators"] < first["pc-gans/discriminators"]
    assert courses[0] == courses[1]


def test_card_and_errors():
    assert card("pc-gans").fidelity == "described" and RECIPE.trains == ("pc-gans",)
    with pytest.raises(MethodError, match="cannot have an anchor"):
        small(anchor="gsa")
    for words in ({"width": 0}, {"depth": 0}):
        with pytest.raises(MethodError, match=f"{next(iter(words))} 0"):
            create("pc-gans", bands=9, msi_bands=4, **words)
