"""FusionMamba against the recorded output of its release; its scans against the plain recurrence."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import methods.fusionmamba  # noqa: F401
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import create
from methods.fusionmamba import SCANS, Mamba, scan_orders
from methods.registry import MethodError
from tests.methods.images import pair

CASE = load_case("fusionmamba")


def small(msi_bands=4, ratio=4, **arguments):
    return filled(create("fusion-mamba", bands=9, msi_bands=msi_bands, ratio=ratio, dim=8, **arguments))


@pytest.mark.golden
@torch.no_grad()
@pytest.mark.parametrize("scan", [pytest.param("chunked"), pytest.param("sequential", marks=pytest.mark.slow)])
def test_golden(scan):
    model = filled(create("fusion-mamba", bands=172, msi_bands=4, dim=172, scan=scan), CASE)
    fused = model(*inputs(CASE, "lr_hsi", "hr_msi"))
    # A deep scan: the same network in double precision is 1.1e-5 from the recorded float32 output.
    assert relative_difference(fused, CASE["output"]) < 1e-4


@pytest.mark.parametrize("dim, msi_bands, total", [
    (172, 4, CASE["params_total"]), (172, 6, 21_678_021), (32, 4, 5_081_773), (32, 6, 5_082_349)])
def test_parameters(dim, msi_bands, total):
    with torch.device("meta"):
        model = create("fusion-mamba", bands=172, msi_bands=msi_bands, dim=dim)
    assert sum(p.numel() for p in model.parameters()) == total
    assert model.unused == ()


def test_every_parameter_is_used():
    model = small().train()
    model(*pair(4, 4)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 10), 6), (4, (3, 5), 4), (8, (2, 3), 10)])
def test_any_size_ratio_and_msi(ratio, size, msi_bands):
    # In double precision: filled by the golden rule the network amplifies rounding by four orders of magnitude.
    images = [image.double() for image in pair(*size, msi_bands, ratio, batch=2)]
    model = small(msi_bands, ratio).double()
    fused = model(*images)
    assert fused.shape == (2, 9, ratio * size[0], ratio * size[1])
    assert fused.isfinite().all()
    torch.testing.assert_close(fused[1:], model(*(image[1:] for image in images)), atol=1e-10, rtol=1e-10)


# ---- scans


def scan_inputs(length, dtype=torch.float32, step=0.1):
    """Two images, three directions, five channels, eight states."""
    rng = torch.Generator().manual_seed(length)

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    delta = step * F.softplus(normal(2, 3, length, 5))
    return normal(2, 3, length, 5), delta, -torch.exp(normal(3, 8, 5)), normal(2, 3, length, 8), normal(2, 3, length, 8)


def plain_recurrence(u, delta, A, B, C):
    """The equation in float64, one number at a time."""
    u, delta, A, B, C = (x.double().numpy() for x in (u, delta, A, B, C))
    y = np.zeros(u.shape)
    for b, k, c in np.ndindex(u.shape[0], u.shape[1], u.shape[3]):
        h = np.zeros(A.shape[1])
        for t in range(u.shape[2]):
            for n in range(len(h)):
                h[n] = np.exp(delta[b, k, t, c] * A[k, n, c]) * h[n] + delta[b, k, t, c] * B[b, k, t, n] * u[b, k, t, c]
            y[b, k, t, c] = (C[b, k, t] * h).sum()
    return torch.from_numpy(y)


@pytest.mark.parametrize("scan", list(SCANS))
@pytest.mark.parametrize("length", [1, 2, 3, 16, 47])
@pytest.mark.parametrize("step", [1e-3, 0.1, 30.0])  # long memory, medium, forgets at once
def test_scans_equal_the_plain_recurrence(scan, length, step):
    inputs = scan_inputs(length, step=step)
    y, expected = SCANS[scan](*inputs), plain_recurrence(*inputs)
    assert (y.double() - expected).abs().max() < 1e-6 * expected.abs().max()


def test_long_chunked_scan_equals_sequential():
    inputs = scan_inputs(5000, step=0.01)
    chunked, sequential = SCANS["chunked"](*inputs), SCANS["sequential"](*inputs)
    assert (chunked - sequential).abs().max() < 2e-6 * sequential.abs().max()


def test_gradients_of_both_scans_agree():
    gradients = []
    for scan in SCANS.values():
        inputs = [x.requires_grad_() for x in scan_inputs(23, torch.float64)]
        (scan(*inputs) * torch.arange(23.0, dtype=torch.float64)[:, None].cos()).sum().backward()
        gradients.append([x.grad for x in inputs])
    for ours, plain in zip(*gradients):
        torch.testing.assert_close(ours, plain, atol=1e-12, rtol=1e-10)


@torch.no_grad()
def test_choice_of_scan_reaches_every_mamba():
    models = {name: small(scan=name).double() for name in SCANS}
    for name, model in models.items():
        assert {module.scan for module in model.modules() if isinstance(module, Mamba)} == {SCANS[name]}
    chunked, sequential = (model(*(image.double() for image in pair(4, 6))) for model in models.values())
    torch.testing.assert_close(chunked, sequential, atol=1e-10, rtol=1e-10)


# ---- Mamba


def test_scan_orders():
    """Of the image 0 1 2 / 3 4 5."""
    assert scan_orders(2, 3, 4, torch.device("cpu")).tolist() == [
        [0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 3, 1, 4, 2, 5], [5, 2, 4, 1, 3, 0]]


@torch.no_grad()
@pytest.mark.parametrize("directions, cross", [(4, False), (4, True), (2, False)])
def test_mamba_equals_its_description(directions, cross):
    """One direction after the other, the gate and the skip inside each, as the release has it."""
    mamba = filled(Mamba(24, SCANS["sequential"], directions, cross).double())
    tokens, extra = torch.randn(2, 1, 15, 24, dtype=torch.float64)
    x, z = (tokens[0] @ mamba.in_proj.weight.T).split(24, -1)
    image = torch.arange(15).view(3, 5)
    orders = [image.flatten(), image.flatten().flip(0), image.T.flatten(), image.T.flatten().flip(0)]
    total = torch.zeros(15, 24, dtype=torch.float64)
    for order, suffix in zip(orders[:directions], ("", "_b", "_c", "_d")):
        conv, x_proj, dt_proj = (getattr(mamba, f"{name}{suffix}") for name in ("conv1d", "x_proj", "dt_proj"))
        earlier = torch.cat((torch.zeros(3, 24, dtype=torch.float64), x[order]))
        u = F.silu(sum(earlier[i : i + 15] * conv.weight[:, 0, i] for i in range(4)) + conv.bias)
        source = (extra[0] @ mamba.in_proj_b.weight.T)[order] if cross else u
        low_rank, B, C = (source @ x_proj.weight.T).split((2, 8, 8), -1)  # rank ceil(24 / 16)
        delta = torch.log1p(torch.exp(low_rank @ dt_proj.weight.T + dt_proj.bias))
        A = -torch.exp(getattr(mamba, f"A{suffix}_log")).T
        y = plain_recurrence(*(v[None, None] for v in (u, delta)), A[None], B[None, None], C[None, None])[0, 0]
        total[order] += (y + getattr(mamba, f"D{suffix}") * u) * F.silu(z[order])
    expected = mamba.norm(total / directions) @ mamba.out_proj.weight.T
    ours = mamba(tokens, (3, 5) if directions == 4 else None, extra if cross else None)
    torch.testing.assert_close(ours[0], expected)


def test_mamba_initialisation():
    mamba = Mamba(64, SCANS["chunked"])
    for log in (mamba.A_log, mamba.A_b_log, mamba.A_c_log, mamba.A_d_log):
        torch.testing.assert_close(log.exp(), torch.arange(1.0, 9).expand(64, 8))
    steps = F.softplus(mamba.dt_proj.bias)
    assert 1e-3 * 0.999 < steps.min() < 3e-3 < 3e-2 < steps.max() < 0.1 * 1.001
    assert F.softplus(mamba.dt_proj_b.bias).min() > 0.3  # the other directions keep the default
    assert mamba.dt_proj.weight.abs().max() <= 0.5


def test_unknown_scan():
    with pytest.raises(MethodError, match="chunked, sequential"):
        create("fusion-mamba", bands=9, msi_bands=4, scan="cuda")
