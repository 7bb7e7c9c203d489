"""PSDNet, student and teacher, against the recorded outputs of their release; tiles, shared layers, training."""

import math

import pytest
import torch
from torch.nn import functional as F

from benchmark.fidelity.recordings import filled, inputs, load_case, probe, relative_difference
from methods import card, create
from methods.psdnet import COLUMNS, ROWS, blend, split
from methods.registry import MethodError
from tests.methods.images import pair

CASE = load_case("psdnet")


def small(msi_bands=4, ratio=4):
    torch.manual_seed(0)
    return create("psdnet", bands=9, msi_bands=msi_bands, ratio=ratio, n_feat=16).eval()


def batch_of(height=8, width=8):
    lr_hsi, hr_msi = pair(height, width)
    return {"lr_hsi": lr_hsi[:, None], "hr_msi": hr_msi, "hr_hsi": torch.rand(1, 9, 4 * height, 4 * width)}


@pytest.mark.golden
@torch.no_grad()
def test_golden():
    model = filled(create("psdnet", bands=172, msi_bands=4), CASE)
    images = inputs(CASE, "lr_hsi", "hr_msi")
    student = model.stages(*images)
    for name, summary in (CASE["extra_outputs"] | {"img3": CASE["output"]}).items():
        assert relative_difference(student[name], summary) < 1e-5, name
    assert torch.equal(model(*images), student["img3"])
    teacher = model.stages(*images, probe("target", CASE["teacher"]["inputs"]["target"]))
    assert teacher.keys() == CASE["teacher"]["outputs"].keys()
    for name, summary in CASE["teacher"]["outputs"].items():
        assert relative_difference(teacher[name], summary) < 1e-5, name


def test_layers_are_shared_under_the_names_of_the_release():
    names = {}
    for name, parameter in small().state_dict(keep_vars=True).items():
        names.setdefault(id(parameter), set()).add(name)
    assert {frozenset(group) for group in names.values() if len(group) > 1} == {frozenset(g) for g in CASE["tied"]}


@pytest.mark.parametrize("msi_bands, total", [(4, CASE["params_total"]), (6, 3_029_118)])
def test_parameters(msi_bands, total):
    with torch.device("meta"):
        model = create("psdnet", bands=172, msi_bands=msi_bands)
    assert sum(p.numel() for p in model.parameters()) == total
    assert sum(p.numel() for name, p in model.named_parameters() if name.startswith(model.unused)) == 73_696


def test_unused_and_used_parameters():
    model = small()
    model(*pair(8, 10)).square().mean().backward()
    for name, parameter in model.named_parameters():
        if name.startswith(model.unused):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 12), 6), (4, (4, 9), 4), (8, (8, 3), 10)])
def test_any_size_ratio_and_msi(ratio, size, msi_bands):
    images = pair(*size, msi_bands, ratio, batch=2)
    model = small(msi_bands, ratio)
    fused = model(*images)
    assert fused.shape == (2, 9, ratio * size[0], ratio * size[1])
    assert fused.isfinite().all()
    torch.testing.assert_close(fused[1:], model(*(image[1:] for image in images)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_odd_and_small_sides_are_continued_by_their_edge():
    lr_hsi, hr_msi = pair(9, 5)
    lr_grown, hr_grown = (F.pad(image, (0, 3 * n, 0, n), mode="replicate") for image, n in ((lr_hsi, 1), (hr_msi, 4)))
    model = small()
    assert torch.equal(model(lr_hsi, hr_msi), model(lr_grown, hr_grown)[..., :36, :20])


@pytest.mark.parametrize("axis", [ROWS, COLUMNS])
def test_tiles_overlap_and_are_blended_back(axis):
    x = torch.rand(2, 3, 12, 16)
    tiles = split(x, axis, 8)
    side = x.shape[axis]
    assert tiles.shape[0] == 4
    assert torch.equal(tiles[:2], x.narrow(axis, 0, side // 2 + 4))
    assert torch.equal(tiles[2:], x.narrow(axis, side // 2 - 4, side // 2 + 4))
    torch.testing.assert_close(blend(tiles, axis, 8), x)
    weights = blend(torch.cat((torch.ones(1, 1, 12, 12), torch.zeros(1, 1, 12, 12))), axis, 8).transpose(axis, -1)
    expected = [1.0] * 4 + [0.5 + 0.5 * math.cos(math.pi * i / 8) for i in range(8)] + [0.0] * 4
    assert weights[0, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_only_the_teacher_sees_the_reference_and_only_after_its_first_image():
    model, images = small(), pair(8, 8)
    student = model.stages(*images)
    teacher, other = (model.stages(*images, target) for target in torch.rand(2, 1, 9, 32, 32))
    assert torch.equal(student["img1"], teacher["img1"])
    for name in ("img2", "img3", "feat1", "feat2"):
        assert not torch.equal(teacher[name], other[name]), name
        assert not torch.equal(teacher[name], student[name]), name


def test_training_is_the_teacher_first_then_the_student_under_it():
    first, second = card("psdnet").recipes["release"]
    assert (first.stage, second.stage) == ("TrainTeacher", "TrainStudent")
    assert first.epochs + second.epochs == 200
    student, batch = small(), batch_of()
    keys = set(student.state_dict())
    task = first.task({"psdnet": student}, first)
    task.begin(first)
    group, = task.parameter_groups()
    assert group["name"] == "psdnet" and {id(p) for p in group["params"]} == {id(p) for p in task.teacher.parameters()}
    terms = task(batch)
    stages = task.teacher.stages(batch["lr_hsi"][:, 0], batch["hr_msi"], batch["hr_hsi"])
    expected = sum((stages[name] - batch["hr_hsi"]).abs().mean() for name in ("img1", "img2", "img3"))
    torch.testing.assert_close(terms["loss"], expected)
    terms["loss"].backward()
    assert all(p.grad is None for p in student.parameters())
    learnt = [p for name, p in task.teacher.named_parameters() if not name.startswith(student.unused)]
    assert all(p.grad.abs().max() > 0 for p in learnt)
    assert {id(p) for p in learnt} <= {id(p) for p in task.parameters()}

    task.begin(second)
    group, = task.parameter_groups()
    assert group["name"] == "psdnet" and {id(p) for p in group["params"]} == {id(p) for p in student.parameters()}
    assert not any(p.requires_grad for p in task.teacher.parameters())
    assert set(student.state_dict()) == keys
    task.teacher.zero_grad(set_to_none=True)
    terms = task(batch)
    ours, theirs = student.stages(batch["lr_hsi"][:, 0], batch["hr_msi"]), stages
    expected = sum((ours[name] - batch["hr_hsi"]).abs().mean() for name in ("img1", "img2", "img3"))
    for name in ("feat1", "feat2"):
        distance = 1e-6 * (ours[name] - theirs[name]).square().mean()
        torch.testing.assert_close(terms[f"psdnet/{name}"], distance, atol=0, rtol=1e-5)
        expected = expected + distance
    torch.testing.assert_close(terms["loss"], expected)
    terms["loss"].backward()
    assert all(p.grad is None for p in task.teacher.parameters())
    assert all(p.grad is not None for name, p in student.named_parameters() if not name.startswith(student.unused))


def test_the_teacher_is_drawn_after_the_student():
    """As in one stream of random numbers, so that a seed says what both start from."""
    first, _ = card("psdnet").recipes["release"]
    student = small()
    task = first.task({"psdnet": student}, first)
    small()  # the same draws again
    again = create("psdnet", bands=9, msi_bands=4, n_feat=16).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in task.teacher.state_dict().items())
    assert not torch.equal(task.teacher.conv1_2[0].weight, student.conv1_2[0].weight)


@pytest.mark.parametrize("arguments, remedy", [({"ratio": 3}, "2, 4 or 8"), ({"n_feat": 3}, "at least 4")])
def test_errors_name_the_remedy(arguments, remedy):
    with pytest.raises(MethodError, match=remedy):
        create("psdnet", bands=9, msi_bands=4, **arguments)
