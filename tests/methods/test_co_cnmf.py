"""CO-CNMF: its closed-form steps against the Kronecker systems they stand for, its start, its estimate."""

import pytest
import torch
from torch.nn import functional as F

from benchmark.fidelity.cases import make_case
from benchmark.metrics import psnr
from methods.co_cnmf import abundance_step, cell_weights, co_cnmf, endmember_step, hypercsi
from methods.registry import MethodError

BANDS, MSI_BANDS, COUNT, CELL, CELLS = 7, 3, 4, 4, 5


def scene(sigma=1.0):
    """(lr_hsi, hr_msi, reference, psf, srf) with a blur that stays inside the cell of 4 x 4 pixels."""
    case = make_case(bands=30, endmembers=5, height=32, width=32)
    reference, hr_msi = (torch.from_numpy(case[key]).permute(2, 0, 1)[None] for key in ("hr_hsi", "hr_msi"))
    line = torch.exp(-0.5 * ((torch.arange(4.0).double() - 1.5) / sigma).square())
    psf = F.pad(torch.outer(line, line) / line.sum().square(), (3, 2, 3, 2))  # 9 x 9; phase 1 has the cell at 3..6
    lr_hsi = F.conv2d(reference.transpose(0, 1), psf[None, None, 3:7, 3:7], stride=4).transpose(0, 1)
    return lr_hsi, hr_msi, reference, psf, torch.from_numpy(case["srf"])


def factors():
    """Random A, S, X, Y, D, g of one image, float64."""
    rng = torch.Generator().manual_seed(0)
    shapes = (BANDS, COUNT), (COUNT, CELL, CELLS), (BANDS, CELLS), (MSI_BANDS, CELL, CELLS)
    a, s, x, y = (torch.rand(1, *shape, generator=rng, dtype=torch.float64) for shape in shapes)
    d, g = torch.rand(MSI_BANDS, BANDS, generator=rng, dtype=torch.float64), torch.rand(CELL, generator=rng).double()
    return a, s, x, y, d, g / g.sum()


def test_the_step_of_the_abundances_minimises_its_quadratic():
    a, s, x, y, d, g = factors()
    target, solve = abundance_step(a, x, y, d, g)
    pull = torch.rand_like(s)
    found = solve(target + pull)[0]
    for cell in range(CELLS):  # row-major vec(M S N) = (M kron N^T) vec(S)
        to_hsi, to_msi = torch.kron(a[0], g[None]), torch.kron(d @ a[0], torch.eye(CELL).double())
        system = to_hsi.T @ to_hsi + to_msi.T @ to_msi + torch.eye(COUNT * CELL)
        right = to_hsi.T @ x[0, :, cell] + to_msi.T @ y[0, :, :, cell].flatten() + pull[0, :, :, cell].flatten()
        torch.testing.assert_close(found[:, :, cell].flatten(), torch.linalg.solve(system, right))


def test_the_step_of_the_endmembers_minimises_its_quadratic():
    a, s, x, y, d, g = factors()
    lambda1 = 0.3
    target, solve = endmember_step(s, x, y, d, g, lambda1)
    pull = torch.rand_like(a)
    found = solve(target + pull)[0]
    to_hsi = torch.kron(torch.eye(BANDS).double(), torch.einsum("ncp,c->np", s[0], g).T.contiguous())
    to_msi = torch.kron(d, s[0].flatten(1).T.contiguous())
    pairs = [(i, j) for i in range(COUNT) for j in range(i)]
    differences = torch.zeros(len(pairs), COUNT).double()
    for row, (i, j) in enumerate(pairs):
        differences[row, i], differences[row, j] = 1, -1
    to_pairs = torch.kron(torch.eye(BANDS).double(), differences)
    system = to_hsi.T @ to_hsi + to_msi.T @ to_msi + lambda1 * to_pairs.T @ to_pairs + torch.eye(BANDS * COUNT)
    right = to_hsi.T @ x[0].flatten() + to_msi.T @ y[0].flatten() + pull[0].flatten()
    torch.testing.assert_close(found.flatten(), torch.linalg.solve(system, right))


def test_cell_weights_are_what_an_impulse_leaves_in_its_lr_pixel():
    rng = torch.Generator().manual_seed(0)
    for size, ratio, phase in ((7, 4, 1), (3, 4, 2), (5, 2, 0)):
        psf = torch.rand(size, size, generator=rng)
        weights = cell_weights(psf, ratio, phase).view(ratio, ratio)
        seen = torch.zeros(ratio, ratio)
        for row in range(ratio):
            for column in range(ratio):
                image = torch.zeros(1, 1, 9 * ratio, 9 * ratio)
                image[0, 0, 4 * ratio + row, 4 * ratio + column] = 1
                blurred = F.conv2d(image, psf[None, None], padding=size // 2)
                seen[row, column] = blurred[0, 0, 4 * ratio + phase, 4 * ratio + phase]
        torch.testing.assert_close(weights, seen / seen.sum())


def test_hypercsi_finds_the_corners_of_a_simplex_shrunk_by_its_margin():
    rng = torch.Generator().manual_seed(0)
    corners = torch.rand(1, BANDS, COUNT, generator=rng, dtype=torch.float64)
    weights = torch.rand(1, COUNT, 300, generator=rng, dtype=torch.float64) ** 3
    weights = torch.cat((torch.eye(COUNT).double()[None], weights / weights.sum(1, keepdim=True)), 2)
    pixels = corners @ weights
    a, s = hypercsi(pixels, COUNT)
    mean = pixels.mean(2, keepdim=True)
    expected = mean + 0.9 * (corners - mean)
    order = torch.cdist(expected.mT, a.mT)[0].argmin(1)
    assert sorted(order.tolist()) == list(range(COUNT))
    torch.testing.assert_close(a[:, :, order], expected)
    inside = (weights > 0.1).all(1)[0]  # not cut by the margin
    assert inside.sum() > 5
    torch.testing.assert_close((a @ s)[..., inside], pixels[..., inside])


def test_it_fuses_far_better_than_interpolation():
    lr_hsi, hr_msi, reference, psf, srf = scene()
    fused = co_cnmf(lr_hsi, hr_msi, psf, srf, phase=1, endmembers=5)
    bicubic = F.interpolate(lr_hsi, scale_factor=4, mode="bicubic")
    assert psnr(fused, reference) > psnr(bicubic, reference) + 12
    assert fused.min() >= 0
    many = co_cnmf(lr_hsi, hr_msi, psf, srf, phase=1, endmembers=12)  # more than the scene has
    assert psnr(many, reference) > psnr(bicubic, reference) + 5
    assert psnr(co_cnmf(lr_hsi, hr_msi, psf, srf, phase=3, endmembers=5), reference) < psnr(fused, reference)


def test_images_of_a_batch_do_not_meet():
    lr_hsi, hr_msi, _, psf, srf = scene()
    torch.manual_seed(0)
    lr_pair, hr_pair = (torch.cat((image, image.flip(2) / 2)).float() for image in (lr_hsi, hr_msi))
    lr_pair = lr_pair + 1e-3 * torch.randn_like(lr_pair)  # without noise, surplus endmembers amplify rounding
    both = co_cnmf(lr_pair, hr_pair, psf, srf)
    assert both.dtype == torch.float32
    for i in range(2):
        single = co_cnmf(lr_pair[i : i + 1], hr_pair[i : i + 1], psf, srf)
        torch.testing.assert_close(both[i : i + 1], single, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("change", [
    lambda x: 0 * x, lambda x: 0 * x + 0.5, lambda x: x.round(), lambda x: torch.cat((0 * x[:, :2], x[:, 2:]), 1),
])
def test_degenerate_images_stay_finite(change):
    lr_hsi, hr_msi, _, psf, srf = scene()
    assert co_cnmf(change(lr_hsi), change(hr_msi), psf, srf).isfinite().all()
    fewer = co_cnmf(change(lr_hsi)[..., :3, :3], change(hr_msi)[..., :12, :12], psf, srf)  # LR pixels than endmembers
    assert fewer.isfinite().all()


def test_errors_name_the_remedy():
    with pytest.raises(MethodError, match="belong together"):
        co_cnmf(torch.rand(1, 5, 2, 2), torch.rand(1, 3, 8, 8), torch.ones(1, 1), torch.rand(4, 5))
    with pytest.raises(MethodError, match="two of each"):
        co_cnmf(torch.rand(1, 5, 1, 1), torch.rand(1, 3, 4, 4), torch.ones(1, 1), torch.rand(3, 5))
