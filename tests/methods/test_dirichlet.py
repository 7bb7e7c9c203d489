"""What uSDN and u2MDN share, against plain loops: codes, merged layers, decoder, Adam."""

import math

import numpy as np
import pytest
import torch

from methods.dirichlet import Adam, SkipNetwork, decoder, entropy, stick_breaking


def logits(u, beta):
    """(1, n + 1, 1) from sticks u and beta."""
    u = torch.tensor(u, dtype=torch.float64)
    last = torch.tensor([math.log(math.expm1(beta))], dtype=torch.float64)
    return torch.cat([torch.log(u / (1 - u)), last])[None, :, None]


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("beta, expected", [(1, [0.5, 0.25, 0.125]), (2, [0.70711, 0.20711, 0.06066])])
def test_stick_breaking_of_halves(beta, expected):
    codes = stick_breaking(logits([0.5, 0.5, 0.5], beta))
    assert codes[0, :, 0].tolist() == pytest.approx(expected, abs=5e-6)


def looped_sticks(z, b):
    """One pixel: z (n,), b a number."""
    beta, codes, left = math.log1p(math.exp(b)), [], 1.0
    for value in z:
        v = (1 / (1 + math.exp(-value))) ** (1 / beta)
        codes.append(v * left)
        left *= 1 - v
    return codes


def test_stick_breaking_agrees_with_plain_loop():
    x = 2 * random(2, 6, 4)
    codes = stick_breaking(x)
    for b in range(2):
        for p in range(4):
            assert codes[b, :, p].tolist() == pytest.approx(looped_sticks(x[b, :-1, p].tolist(), x[b, -1, p].item()), abs=1e-14)
    assert (codes >= 0).all() and (codes.sum(1) <= 1 + 1e-12).all()


def test_gradient_of_stick_breaking():
    assert torch.autograd.gradcheck(stick_breaking, (2 * random(2, 5, 3, seed=1)).requires_grad_())
    assert torch.autograd.gradcheck(stick_breaking, random(1, 2, 3, seed=2).requires_grad_())  # one stick


@pytest.mark.parametrize("z", [-500.0, -90.0, 0.0, 30.0, 500.0])
@pytest.mark.parametrize("b", [-500.0, -20.0, 0.0, 500.0])
def test_saturated_sticks_stay_finite(z, b):
    x = torch.full((1, 5, 2), z)
    x[:, -1] = b
    codes = stick_breaking(x.requires_grad_())
    (gradient,) = torch.autograd.grad((codes * random(1, 4, 2, dtype=torch.float32)).sum() + entropy(codes).sum(), x)
    assert codes.isfinite().all() and gradient.isfinite().all() and (codes >= 0).all() and (codes.sum(1) <= 1 + 1e-6).all()


def test_entropy_agrees_with_plain_loop():
    codes = random(2, 3, 4).abs()
    codes[0, :, 1] = 0
    for b in range(2):
        total = 0.0
        for p in range(4):
            column = codes[b, :, p].tolist()
            for s in column:
                part = s / (sum(column) + 1e-8)
                total -= part * math.log(part + 1e-8)
        assert entropy(codes)[b].item() == pytest.approx(total / 12, rel=1e-12)


def test_gradient_through_the_merged_layers():
    network = SkipNetwork({"t": 2}, {"a": (2, ["t"]), "b": (2, ["a", "t"]), "c": (1, ["b", "a"])}, 3)
    assert torch.autograd.gradcheck(network.matrix, random(2, network.size).requires_grad_())


def test_decoder_is_the_product_of_its_two_layers():
    first, second = random(3, 3), random(3, 5, seed=1)
    got = decoder(torch.cat((first.flatten(), second.flatten()))[None], 3)
    assert np.allclose(got[0].numpy(), first.numpy() @ second.numpy())


def test_adam_is_that_of_tensorflow_at_a_constant_rate():
    gradients = [1e-7, -3e-7, 2e-7, 0.0] + [1e-3] * 3000
    adam, first, second = Adam(torch.zeros(1, 1, dtype=torch.float64)), 0.0, 0.0
    for count, gradient in enumerate(gradients, 1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        expected = 1e-3 * math.sqrt(1 - 0.999**count) / (1 - 0.9**count) * first / (math.sqrt(second) + 1e-8)
        step = adam.step(torch.full((1, 1), gradient, dtype=torch.float64)).item()
        assert step == pytest.approx(expected, rel=1e-12)
    assert step == pytest.approx(1e-3, rel=1e-4)  # the decay of the release has no effect
