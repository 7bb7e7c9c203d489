"""The layers and functions that several networks share."""

import math

import pytest
import torch

from methods.blocks import LFE, S2Attention, check_tile, crop_to, pad_to_multiple, tiled
from methods.registry import MethodError


def test_tiles_cover_once_or_are_averaged():
    lr_hsi, hr_image = torch.rand(2, 3, 7, 5), torch.rand(2, 1, 14, 10)
    sizes = []

    def network(lr_tile, hr_tile):
        sizes.append((tuple(lr_tile.shape[-2:]), tuple(hr_tile.shape[-2:])))
        return lr_tile.repeat_interleave(2, 2).repeat_interleave(2, 3) + hr_tile

    expected = lr_hsi.repeat_interleave(2, 2).repeat_interleave(2, 3) + hr_image
    for overlap in (0, 2):
        torch.testing.assert_close(tiled(network, lr_hsi, hr_image, ratio=2, tile=6, overlap=overlap), expected)
    assert set(sizes) == {((3, 3), (6, 6))}
    assert len(sizes) == 3 * 2 + 3 * 2
    # So far the last tiles were moved inwards; or they are smaller.
    sizes.clear()
    torch.testing.assert_close(tiled(network, lr_hsi, hr_image, ratio=2, tile=6, whole=False), expected)
    assert [size for size, _ in sizes] == [(3, 3), (3, 2), (3, 3), (3, 2), (1, 3), (1, 2)]
    torch.testing.assert_close(tiled(network, lr_hsi, hr_image, ratio=2, tile=6, overlap=2, whole=False), expected)
    # Where two tiles meet, their mean: a network that answers its own mean of the LR tile.
    ramp = torch.arange(4.0).expand(1, 1, 2, 4)
    answer = tiled(lambda lr, hr: lr.mean() + 0 * hr, ramp, torch.zeros(1, 1, 2, 4), ratio=1, tile=2, overlap=1)
    assert answer[0, 0, 0].tolist() == [0.5, 1.0, 2.0, 2.5]


@pytest.mark.parametrize("ratio, sides, padded", [(2, (7, 6), (8, 6)), (4, (7, 5), (7, 5)), (3, (5, 4), (8, 4)),
                                                  (1, (5, 8), (8, 8)), (8, (3, 1), (3, 1))])
def test_padding_is_the_least_that_halves_twice(ratio, sides, padded):
    images = torch.rand(1, 3, *sides), torch.rand(1, 2, *(ratio * side for side in sides))
    lr_hsi, hr_msi = pad_to_multiple(*images, ratio, 4)
    assert lr_hsi.shape[-2:] == padded
    assert hr_msi.shape[-2:] == tuple(ratio * side for side in padded)
    assert math.gcd(4, *hr_msi.shape[-2:]) == 4
    assert torch.equal(lr_hsi[..., -1, :], lr_hsi[..., sides[0] - 1, :])
    assert torch.equal(crop_to(hr_msi, images[1]), images[1])


@pytest.mark.parametrize("tile, multiple, step", [(0, 1, 8), (20, 1, 8), (24, 16, 16)])
def test_tiles_that_do_not_fit_are_refused(tile, multiple, step):
    with pytest.raises(MethodError, match=f"mine: tile {tile} HR pixels at ratio 8; choose a multiple of {step}"):
        check_tile("mine", tile, 8, multiple)
    check_tile("mine", 2 * step, 8, multiple)


@torch.no_grad()
def test_attention_equals_its_equations():
    attention = S2Attention(40)  # two heads of 16; 8 channels of the width have no head of their own
    x, y = torch.randn(2, 1, 35, 40)
    x1, x2, y1, y2 = (layer.weight.double() @ z[0].double().T for layer, z in
                      ((attention.se1, x), (attention.se2, x), (attention.sa1, y), (attention.sa2, y)))  # (32, n)
    heads = []
    for head in (slice(0, 16), slice(16, 32)):
        spatial = torch.softmax(y1[head].T @ y2[head] / 4, -1)  # n x n
        spectral = torch.softmax(x1[head] @ x2[head].T / 4 / (35 / 16), -1)  # 16 x 16
        heads.append((spatial @ x1[head].T) * (y1[head].T @ spectral))
    expected = torch.cat(heads, 1) @ attention.to_out[0].weight.double().T + attention.to_out[0].bias
    torch.testing.assert_close(attention(x, y)[0].double(), expected, atol=1e-6, rtol=1e-5)


def test_features_keep_their_names_at_other_widths():
    fine, middle, coarse = LFE(5, 8)(torch.rand(2, 5, 16, 8))
    assert [tuple(x.shape) for x in (fine, middle, coarse)] == [(2, 8, 16, 8), (2, 16, 8, 4), (2, 32, 4, 2)]
