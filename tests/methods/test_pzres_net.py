"""PZRes-Net against recorded outputs of its release, and its band subsets, sizes and loss."""

import pytest
import torch

import methods.pzres_net  # noqa: F401  (registers it)
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods.pzres_net import spread
from methods.registry import MethodError, card, create, load_release

CASES = {name: load_case(name) for name in ("pzres_net", "pzres_net_43_86")}


def small(bands=11, msi_bands=4, ratio=4, **arguments):
    torch.manual_seed(0)
    return create("pzres-net", bands=bands, msi_bands=msi_bands, ratio=ratio, **arguments).eval()


def images(bands=11, msi_bands=4, ratio=4, size=(3, 5), batch=1):
    rng = torch.Generator().manual_seed(0)
    return (torch.rand(batch, bands, *size, generator=rng),
            torch.rand(batch, msi_bands, *(ratio * side for side in size), generator=rng))


@pytest.mark.golden
@pytest.mark.parametrize("name", list(CASES))
@torch.no_grad()
def test_golden(name):
    case = CASES[name]
    # Other values under the two names of a convolution: the later name must win.
    model = filled(create("pzres-net", bands=172, msi_bands=4, stage_bands=case["settings"]["stage_bands"]), case)
    stages, _, refined = model.forward_with_stages(*inputs(case))
    assert relative_difference(refined, case["output"]) < 1e-5
    for output, key in zip(stages, ("stage1", "stage2", "stage3")):
        assert relative_difference(output, case[key]) < 1e-5, key
    assert sum(p.numel() for p in model.parameters()) == case["params_total"]


@pytest.mark.golden
@torch.no_grad()
def test_golden_release_setting():
    case = CASES["pzres_net"]["release_31_bands_msi_3"]
    model = filled(create("pzres-net", bands=31, msi_bands=3, stage_bands=case["stage_bands"]))
    assert relative_difference(model(*inputs(case)), case["output"]) < 1e-5


def test_default_is_the_network_of_the_published_cost():
    with torch.device("meta"):
        model = create("pzres-net", bands=172, msi_bands=6)
    assert sum(p.numel() for p in model.parameters()) == 20_563_443
    dead = sum(p.numel() for name, p in model.named_parameters() if name.startswith(model.unused))
    assert dead == 483_692


def test_state_dict_is_strict():
    model = small()
    state = model.state_dict()
    assert state.pop("stages.0.Upconv.conv.weight") is not None
    with pytest.raises(MethodError, match=r"stages\.0\.Upconv\.conv\.weight"):
        load_release(model, state)


def test_spread_is_the_releases():
    assert spread(31, 8) == (0, 4, 8, 12, 16, 20, 24, 30)
    assert spread(31, 16) == tuple(range(0, 31, 2))
    assert spread(172, 43) == (*range(0, 168, 4), 171)
    assert spread(172, 128) == (*range(127), 171)
    assert spread(5, 1) == (4,)


def test_band_indices_choose_what_a_stage_sees():
    lr_hsi, hr_msi = images()
    model = small(stage_bands=(1, 2, 11), band_indices=((7,), (7, 8)))
    changed = lr_hsi.clone()
    changed[:, 0] = torch.rand(3, 5)  # not a shift: zero-centric units would not see it
    before, after = (model.forward_with_stages(x, hr_msi)[0] for x in (lr_hsi, changed))
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=0)
    assert not torch.allclose(after[2], before[2])
    with pytest.raises(MethodError, match="band_indices"):
        small(stage_bands=(1, 2, 11), band_indices=((7,), (8,)))
    with pytest.raises(MethodError, match="stage_bands"):
        small(stage_bands=(1, 2, 10))


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_sizes(ratio):
    assert small(ratio=ratio, msi_bands=6)(*images(ratio=ratio, msi_bands=6)).shape == (1, 11, 3 * ratio, 5 * ratio)


def test_task_adds_coarse_and_refined():
    recipe = card("pzres-net").recipes["release"]
    model = small()
    lr_hsi, hr_msi = images(batch=2)
    hr_hsi = torch.rand(2, 11, 12, 20)
    terms = recipe.task({"pzres-net": model}, recipe)({"lr_hsi": lr_hsi[:, None], "hr_msi": hr_msi, "hr_hsi": hr_hsi})
    stages, _, refined = model.forward_with_stages(lr_hsi, hr_msi)
    coarse = stages[2][:, :11] + torch.nn.functional.interpolate(lr_hsi, scale_factor=4, mode="bilinear")
    expected = (coarse - hr_hsi).abs().mean() + (refined - hr_hsi).abs().mean()
    torch.testing.assert_close(terms["loss"], expected)
    terms["loss"].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith(model.unused), name
