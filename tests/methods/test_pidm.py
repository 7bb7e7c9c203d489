"""A field that varies: found where it was put, nothing where there is none, and undone by straightening."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from benchmark.degradations import NonUniform, degraded
from benchmark.protocol import PAPER
from datasets import get
from methods import pidm
from methods.registry import MethodError

PROTOCOL = replace(PAPER, hr_size=64)


@pytest.fixture(scope="module")
def scene():
    data = get("synthetic", size=72, train=0, val=1, test=0)
    return next(iter(data.load("val")))


def observed(scene, *degradations):
    return PROTOCOL.look(scene, 4, degraded(*degradations))[1] if degradations else PROTOCOL.look(scene, 4)[1]


def test_decimation_is_a_loop_of_weighted_sums():
    image = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
    lines = torch.rand(2, 5, generator=torch.Generator().manual_seed(1))
    low = pidm.decimated(image, lines, 4, 1)
    assert low.shape == (2, 4, 4)
    for band, i, j in ((0, 0, 0), (1, 1, 2), (0, 3, 3)):
        total = 0.0
        for down in range(5):
            for right in range(5):
                row, col = (min(max(4 * n + 1 + k - 2, 0), 15) for n, k in ((i, down), (j, right)))
                total += float(lines[0, down] * lines[1, right] * image[band, row, col])
        assert float(low[band, i, j]) == pytest.approx(total, rel=1e-5)


def test_warping_looks_where_it_says():
    ramp = torch.arange(12.0).expand(1, 12, 12)
    moved = torch.stack([torch.zeros(12, 12), torch.full((12, 12), 0.25)])
    assert torch.allclose(pidm.warped(ramp, moved)[0, :, :-1], ramp[0, :, :-1] + 0.25, atol=1e-5)
    assert torch.allclose(pidm.warped(ramp.mT, moved.flip(0))[0, :-1], ramp.mT[0, :-1] + 0.25, atol=1e-5)
    assert torch.allclose(pidm.spread(torch.full((2, 8, 8), 0.5), torch.Size((12, 12))), torch.tensor(0.5))


def test_a_field_is_found_where_it_was_put_and_straightened_away(scene):
    plain = observed(scene)
    height, width = plain.hr_msi.shape[1:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    put = torch.stack([1.0 * y, -0.8 * x])  # HR pixels
    reference = PROTOCOL.reference(scene).cube
    bent = F.conv2d(F.pad(pidm.warped(reference, put)[:, None], (9,) * 4, mode="reflect")[..., 1:, 1:],
                    PROTOCOL.psf[None, None], stride=4)[:, 0, :16, :16]
    gain = 1 + 0.03 * x[None] * torch.tensor([1.0, 0.5, -0.5, -1.0])[:, None, None]
    field = pidm.fit(bent, plain.hr_msi * gain, iterations=400)
    inner = (slice(None), slice(8, -8), slice(8, -8))
    off = (field.moved - put)[inner]
    assert off.square().mean().sqrt() < 0.5 * put[inner].square().mean().sqrt()
    lr_hsi, hr_msi = field.straightened(bent, plain.hr_msi * gain)
    core = (slice(None), slice(2, -2), slice(2, -2))
    assert (lr_hsi - plain.lr_hsi)[core].norm() < 0.6 * (bent - plain.lr_hsi)[core].norm()
    before = (plain.hr_msi * (gain - 1))[inner]
    assert (hr_msi - plain.hr_msi)[inner].norm() < 0.9 * before.norm()
    assert field.losses[1] < field.losses[0] and "HR pixels away" in field.words


def test_a_uniform_pair_is_left_nearly_as_it_is(scene):
    plain = observed(scene)
    field = pidm.fit(plain.lr_hsi, plain.hr_msi, iterations=200)
    # The outermost pixels lie under parts of blurs alone: how far they move hangs on a processor's rounding (0.26 or 0.36).
    assert field.moved[:, 8:-8, 8:-8].abs().max() < 0.2 and field.moved.abs().max() < 0.5
    assert field.moved.square().mean().sqrt() < 0.1 and (field.gain - 1).abs().max() < 0.01
    again = pidm.fit(plain.lr_hsi, plain.hr_msi, iterations=200)
    assert torch.equal(field.moved, again.moved) and torch.equal(field.gain, again.gain)


def test_small_and_unfitting_images_are_refused(scene):
    plain = observed(scene, NonUniform(1.0))
    with pytest.raises(MethodError, match="pidm: an LR-HSI of 6x16 pixels; a field needs 8 a side"):
        pidm.fit(plain.lr_hsi[:, :6], plain.hr_msi[:, :24])
    with pytest.raises(MethodError, match="not one whole multiple"):
        pidm.fit(plain.lr_hsi[:, :15], plain.hr_msi)
