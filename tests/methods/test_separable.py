"""Blur and decimation against plain loops and the protocol, their adjoint at the borders, and conjugate gradients."""

import pytest
import torch

from benchmark.protocol import blur_decimate
from methods.responses import gaussian_psf
from methods.separable import Blur, conjugate_gradients, dct_matrix, frequency_solver
from tests.methods.images import responses

CASES = [((12, 16), 4, 1, 5), ((15, 9), 3, 2, 7), ((8, 10), 2, 0, 4), ((8, 4), 4, 3, 19), ((3, 1), 1, 0, 3)]


def random(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(image, psf, ratio, phase):
    """One pixel after the other; what leaves the image comes back, edges once."""

    def inside(i, n):
        while not 0 <= i < n:
            i = 0 if n == 1 else -i if i < 0 else 2 * (n - 1) - i
        return i

    (rows, columns), size = image.shape, len(psf)
    low = torch.zeros(rows // ratio, columns // ratio, dtype=image.dtype)
    for x in range(low.shape[0]):
        for y in range(low.shape[1]):
            for i in range(size):
                for j in range(size):
                    a = inside(ratio * x + phase + i - (size - 1) // 2, rows)
                    b = inside(ratio * y + phase + j - (size - 1) // 2, columns)
                    low[x, y] += psf[i, j] * image[a, b]
    return low


@pytest.mark.parametrize("size, ratio, phase, side", CASES)
def test_blur_is_a_plain_loop_for_a_psf_of_any_rank(size, ratio, phase, side):
    psf, image = responses(side=side)[0], random(2, *size)
    blur = Blur.of(psf, size, ratio, phase)
    assert len(blur.rows) == side
    expected = torch.stack([plain(each, psf, ratio, phase) for each in image])
    assert torch.allclose(blur(image), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("phase", [0, 1, 3])
def test_blur_is_that_of_the_protocol_with_one_term_for_a_gaussian(phase):
    psf, image = gaussian_psf(19, 3.0), random(3, 24, 32)
    for told in (psf, psf.float().double()):
        blur = Blur.of(told, (24, 32), 4, phase)
        assert len(blur.rows) == 1
        assert torch.allclose(blur(image), blur_decimate(image, told, 4, phase, "reflect"), rtol=0, atol=1e-6)
    assert torch.allclose(Blur.of(psf, (24, 32), 4, phase)(image), blur_decimate(image, psf, 4, phase, "reflect"), atol=1e-12)


@pytest.mark.parametrize("size, ratio, phase, side", CASES)
def test_the_adjoint_is_exact_at_the_borders(size, ratio, phase, side):
    blur = Blur.of(responses(side=side)[0], size, ratio, phase)
    x, y = random(2, *size), random(2, *(n // ratio for n in size), seed=1)
    assert (blur(x) * y).sum().item() == pytest.approx((x * blur.adjoint(y)).sum().item(), rel=1e-12, abs=1e-12)
    rows, columns = (dct_matrix(x, axis) for axis in (1, 2))
    assert torch.allclose(blur.after(rows, columns)(rows @ x @ columns.T), blur(x), rtol=0, atol=1e-12)


def test_energy_is_the_variance_that_white_noise_keeps():
    blur = Blur.of(responses(side=5)[0], (12, 16), 4, 1)
    matrix = blur.adjoint(torch.eye(12, dtype=torch.float64).reshape(12, 3, 4)).flatten(1)
    assert blur.energy().item() == pytest.approx(matrix.square().sum(1).mean().item(), rel=1e-12)


def test_diagonal_is_that_of_the_dense_matrix():
    psf = torch.outer(torch.tensor([1.0, 2, 4]), torch.tensor([3.0, 1, 1])).double()
    blur, variance = Blur.of(psf / psf.sum(), (8, 12), 4, 1), random(1, 8, 12).square()
    rows, columns = (dct_matrix(torch.empty(2, 3, dtype=torch.float64), axis) for axis in (0, 1))
    seen = torch.stack([rows @ blur(torch.eye(96, dtype=torch.float64)[i].reshape(1, 8, 12))[0] @ columns.T for i in range(96)])
    expected = (seen.square() * variance.reshape(96, 1, 1)).sum(0)
    assert torch.allclose(blur.diagonal(variance)[0], expected, rtol=1e-10)


def test_dct_is_orthonormal_and_diagonal_for_symmetric_smoothing():
    matrix = dct_matrix(random(7, 2), 0)
    assert torch.allclose(matrix @ matrix.T, torch.eye(7, dtype=torch.float64), atol=1e-12)
    difference = torch.diff(torch.eye(7, dtype=torch.float64), dim=0)
    turned = matrix @ difference.T @ difference @ matrix.T
    assert torch.allclose(turned, turned.diagonal().diag(), atol=1e-12)


def test_the_frequency_solver_inverts_a_covariance():
    variance, white = random(3, 4, 5).square() + 0.1, random(3, 3)
    white = white @ white.T
    image = random(3, 4, 5, seed=1)
    rows, columns = dct_matrix(image, 1), dct_matrix(image, 2)
    product = rows.T @ (variance * (rows @ image @ columns.T)) @ columns + torch.einsum("kp,pxy->kxy", white, image)
    assert torch.allclose(frequency_solver(variance, white)(product), image, atol=1e-10)


def test_conjugate_gradients_stop_at_the_residual_asked_for():
    matrix = random(20, 20)
    matrix = matrix @ matrix.T + torch.eye(20, dtype=torch.float64)
    target, calls = random(20, seed=1), []

    def system(x):
        calls.append(1)
        return matrix @ x

    counts = []
    for tolerance in (1e-1, 1e-4, 1e-10):
        calls.clear()
        x = conjugate_gradients(system, lambda r: r / matrix.diagonal(), target, tolerance, 100)
        assert (matrix @ x - target).norm() <= 1.01 * tolerance * target.norm()
        counts.append(len(calls))
    assert counts[0] < counts[1] < counts[2] < 50
    assert torch.allclose(x, torch.linalg.solve(matrix, target), atol=1e-8)
    calls.clear()
    conjugate_gradients(system, lambda r: r, target, 0.0, 3)
    assert len(calls) == 3
    assert (conjugate_gradients(system, lambda r: r, 0 * target, 1e-3, 9) == 0).all()
