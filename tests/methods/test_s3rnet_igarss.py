"""S3RNet as of IGARSS 2025: the teacher's network with sigmoid branch weights."""

import pytest
import torch

import methods.s3rnet_igarss  # noqa: F401
from methods import card, create, load_release
from methods.registry import MethodError

SMALL = {"depths": (1, 1, 1, 1), "width": 8}


def count(model):
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["sigmoid", "concat"])
def test_is_the_teacher_with_another_fuser(fusion):
    torch.manual_seed(0)
    ours = create("s3rnet-igarss", bands=9, msi_bands=6, ratio=2, fusion=fusion, **SMALL).eval()
    teacher = create("s3rnet-teacher", bands=9, msi_bands=6, ratio=2, fusion=fusion, **SMALL).eval()
    load_release(teacher, ours.state_dict())
    images = torch.rand(2, 9, 8, 10), torch.rand(2, 6, 16, 20)
    fused = ours(*images)
    assert fused.shape == (2, 9, 16, 20)
    assert torch.equal(fused, teacher(*images))


@torch.no_grad()
def test_weights_are_independent_sigmoids():
    model = create("s3rnet-igarss", bands=9, msi_bands=4, **SMALL).eval()
    fuser = model.decoder.fuse_att
    branches = torch.randn(4, 1, 8, 5, 3)
    weights = 1 / (1 + torch.exp(-fuser.weights))
    expected = sum(weights[i] * branches[i] for i in range(4))
    torch.testing.assert_close(fuser(*branches), expected)
    fuser.weights[1:] = -100.0  # closed; with a softmax over the branches the first would open fully
    torch.testing.assert_close(fuser(*branches), weights[0] * branches[0])


def test_size_is_the_teachers_without_attention():
    with torch.device("meta"):
        model = create("s3rnet-igarss", bands=172, msi_bands=4)
    assert count(model) == 26_784_012 + 4 * 86  # the release's sum-fusion teacher, and the weights


def test_is_trained_alone_and_marked():
    recipe, = card("s3rnet-igarss").recipes.values()
    assert recipe.trains == ("s3rnet-igarss",)
    assert card("s3rnet-igarss").fidelity == "described"
    with pytest.raises(MethodError, match="sigmoid, concat"):
        create("s3rnet-igarss", bands=9, msi_bands=4, fusion="ssawb")
