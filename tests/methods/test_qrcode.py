"""QRCODE against the recorded outputs of the group's public network, its draft branch and its sizes."""

import pytest
import torch

from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import create, fuse, load_release, losses
from methods.co_cnmf import co_cnmf
from methods.qrcode import joint_loss
from methods.registry import MethodError
from tests.methods.images import pair

CASE = load_case("qrcode")
WITHOUT = CASE["variant_without_co"]
LIGHT = {"nf": 160, "gc": 40, "groups": 4}


def small(msi_bands=4, ratio=4, **arguments):
    torch.manual_seed(0)
    return create("qrcode", bands=9, msi_bands=msi_bands, ratio=ratio, nf=8, gc=4, nb=2, **arguments).eval()


def responses(msi_bands=4):
    """A PSF and an SRF, as a method is told them."""
    return {"psf": torch.ones(5, 5) / 25, "srf": torch.full((msi_bands, 9), 1 / 9), "phase": 1}


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("qrcode", bands=172, msi_bands=4), CASE)
    lr_hsi, hr_msi, draft = inputs(CASE, "lr_hsi", "hr_msi", "co")
    assert relative_difference(model(lr_hsi, hr_msi, draft), CASE["output"]) < 1e-5
    assert relative_difference(model(lr_hsi, hr_msi), WITHOUT["output"]) < 1e-5


@pytest.mark.parametrize("arguments, msi_bands, total", [
    ({}, 4, CASE["params_total"]), ({}, 6, 39_493_806),
    ({"co": "none"}, 4, WITHOUT["params_total"]), ({"co": "none"}, 6, 33_833_630),
    (LIGHT, 4, 12_945_612), (LIGHT, 6, 12_947_052), (LIGHT | {"co": "none"}, 6, 11_530_892),
])
def test_parameters(arguments, msi_bands, total):
    with torch.device("meta"):
        model = create("qrcode", bands=172, msi_bands=msi_bands, **arguments)
    assert sum(p.numel() for p in model.parameters()) == total


def test_the_draft_decides_which_parameters_learn():
    given, own = small(), small(co="co-cnmf", **responses())
    for model, draft in ((given, None), (small(), torch.rand(1, 9, 16, 16)), (own, None)):
        model(*pair(4, 4), draft).square().mean().backward()
        idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
        expected = () if draft is not None else model.unused
        assert idle == {name for name, _ in model.named_parameters() if name.startswith(tuple(expected))}
        assert all(p.grad.abs().max() > 0 for name, p in model.named_parameters() if name not in idle)


@torch.no_grad()
@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 9), 6), (4, (3, 5), 4), (8, (2, 1), 10)])
def test_any_size_ratio_and_msi(ratio, size, msi_bands):
    images = pair(*size, msi_bands, ratio, batch=2)
    model = small(msi_bands, ratio, groups=2)
    fused = model(*images)
    assert fused.shape == (2, 9, ratio * size[0], ratio * size[1])
    assert fused.isfinite().all()
    torch.testing.assert_close(fused[1:], model(*(image[1:] for image in images)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_without_its_branch_it_is_the_network_without_a_draft():
    given, none = small(), small(co="none")
    load_release(none, {name: value for name, value in given.state_dict().items() if not name.startswith(given.unused)})
    images = pair(4, 6)
    assert torch.equal(none(*images), given(*images))


@torch.no_grad()
def test_its_own_draft_is_co_cnmf_in_the_unit_range():
    images, told = pair(4, 6), responses()
    model = small(co="co-cnmf", **told)
    draft = co_cnmf(*images, **told)
    by_hand = (model(*(2 * image - 1 for image in images), 2 * draft - 1) + 1) / 2
    torch.testing.assert_close(fuse(model, *images), by_hand, atol=1e-5, rtol=1e-5)


def test_joint_loss_adds_a_tenth_of_sam_and_beba():
    estimate, reference = torch.rand(2, 2, 9, 8, 8)
    expected = (losses.l1(estimate, reference) + 0.1 * losses.sam_release(estimate, reference)
                + 0.1 * losses.beba_release(estimate, reference))
    torch.testing.assert_close(joint_loss(estimate, reference), expected)


@pytest.mark.parametrize("arguments, remedy", [
    ({"ratio": 3}, "2, 4 or 8"), ({"co": "draft"}, "given, co-cnmf, none"), ({"co": "co-cnmf"}, "give both"),
    ({"groups": 4}, "multiples of the 4 groups"), ({"gc": 1}, "at least 2"),
])
def test_errors_name_the_remedy(arguments, remedy):
    with pytest.raises(MethodError, match=remedy):
        create("qrcode", bands=172, msi_bands=4, **arguments)


def test_a_draft_for_a_network_without_its_branch_is_an_error():
    with pytest.raises(MethodError, match="given"):
        small(co="none")(*pair(2, 2), torch.rand(1, 9, 8, 8))
