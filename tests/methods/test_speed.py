"""Networks made fast against the networks as they are: recorded cases, gradients, what is refused."""

import copy
import json
import operator
from functools import reduce

import pytest
import torch

from benchmark.fidelity.networks import BANDS, RUNS, cases
from benchmark.fidelity.recordings import filled, relative_difference
from methods import available, card, create, fuse
from methods.registry import MethodError
from methods.speed import UNSTABLE, TrainedDFAB, prepared, reduced_precision, repeated, speed_of, trainable
from methods.tasks import HOKD
from methods.winograd import PackedDense

CPU = torch.device("cpu")
RECORDED = cases()
reduced = pytest.mark.skipif(bool(reduced_precision(CPU)), reason="this CPU does not multiply bfloat16")


@pytest.mark.golden
@pytest.mark.parametrize("way", ["prepared", "trainable"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in ("dhif-net", "mog-dcn") else [])
                                  for name in RECORDED])
@torch.no_grad()
def test_every_recorded_case_passes(name, way):
    case = RECORDED[name]
    recording = json.loads(case.file.read_text())
    model = filled(create(name, bands=BANDS, msi_bands=4, **case.arguments), recording)
    model = prepared(model, "exact", CPU) if way == "prepared" else trainable(model, CPU)
    expected = reduce(operator.getitem, case.output.split("."), recording)
    assert relative_difference(RUNS[case.run](model, recording), expected) < case.tolerance


@pytest.mark.parametrize("fusion", ["ssawb", "sum", "sigmoid", "attention", "concat"])
@pytest.mark.parametrize("name", ["s3rnet-teacher", "s3rnet-student"])
@pytest.mark.parametrize("attention", ["release", "paper"])
def test_every_fusion_of_s3rnet_on_the_grid_of_its_inputs(name, fusion, attention):
    torch.manual_seed(0)
    network = create(name, bands=20, msi_bands=4, ratio=3, width=80, depths=(1, 1, 1, 1), fusion=fusion,
                     attention=attention)
    images = torch.rand(2, 20, 5, 7), torch.rand(2, 4, 15, 21)
    ready = prepared(network, "exact", CPU)
    assert torch.allclose(fuse(ready, *images), fuse(network, *images), atol=1e-6)
    assert any(isinstance(module, PackedDense) for module in ready.modules())
    assert not any(isinstance(module, PackedDense) for module in network.modules())  # the network itself is untouched
    assert ready.card is not None and ready.card.name == name


@pytest.mark.parametrize("name", available("supervised"))
@reduced
def test_fast_is_near(name):
    torch.manual_seed(0)
    network = create(name, bands=24, msi_bands=4, ratio=4, **card(name).small)
    images = torch.rand(1, 24, 8, 8), torch.rand(1, 4, 32, 32), torch.rand(1, 24, 32, 32)
    torch.manual_seed(1)
    exact = fuse(network, *images)
    torch.manual_seed(1)
    fast = fuse(prepared(network, "fast", CPU), *images)
    assert fast.dtype == torch.float32
    if speed_of(network, "fast") == "exact":
        assert name in UNSTABLE and torch.allclose(fast, exact, atol=1e-5)
        return
    assert 0 < float((fast - exact).square().mean().sqrt() / exact.square().mean().sqrt()) < 0.1


def test_what_is_no_network_stays_as_it_is_and_other_speeds_are_refused(monkeypatch):
    gsa = create("gsa", bands=9, msi_bands=4, ratio=4)
    assert prepared(gsa, "fast", CPU) is gsa
    with pytest.raises(MethodError, match="speed 'quick'; choices: exact, fast"):
        prepared(gsa, "quick", CPU)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    with pytest.raises(MethodError, match=r"no products of bfloat16.*choose exact"):
        prepared(create("s3rnet-student", bands=9, msi_bands=4, ratio=4, width=8), "fast", CPU)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_step_of_the_pair_has_the_gradients_of_the_plain_networks(recompute):
    recipe = card("s3rnet-teacher").recipes["paper"]
    batch = {"lr_hsi": torch.rand(2, 2, 20, 8, 8), "hr_msi": torch.rand(2, 4, 32, 32), "hr_hsi": torch.rand(2, 20, 32, 32)}
    found = []
    for fast in (False, True):
        torch.manual_seed(0)
        networks = {name: create(name, bands=20, msi_bands=4, ratio=4, width=80, depths=(2, 1, 1, 1)) for name in recipe.trains}
        keys = [list(network.state_dict()) for network in networks.values()]
        if fast:
            networks = {name: trainable(network, CPU, recompute) for name, network in networks.items()}
            assert [list(network.state_dict()) for network in networks.values()] == keys
            assert any(isinstance(module, TrainedDFAB) for module in networks["s3rnet-teacher"].modules())
        task = HOKD(networks, recipe)
        task(batch)["loss"].backward()
        found.append([p.grad for p in task.parameters() if p.grad is not None])
    plain, ours = found
    assert len(plain) == len(ours) > 50
    scale = max(float(gradient.abs().max()) for gradient in plain)
    assert all(torch.allclose(one, other, atol=1e-5 * scale) for one, other in zip(ours, plain))


@reduced
def test_mixed_precision_keeps_the_output_in_float32():
    torch.manual_seed(0)
    network = trainable(create("s3rnet-student", bands=172, msi_bands=4, ratio=4, depths=(1, 1, 1, 1)), CPU)
    with torch.autocast("cpu", torch.bfloat16):
        image = network(torch.rand(1, 172, 8, 8), torch.rand(1, 4, 32, 32))
    assert image.dtype == torch.float32


def test_blocks_that_repeat_are_found_and_their_memory_is_given_back():
    network = create("s3rnet-teacher", bands=20, msi_bands=4, ratio=4, width=48, depths=(3, 1, 2, 2))
    assert len(repeated(network)) == 3 + 2 + 2  # a row of one repeats nothing
    kept = []
    for recompute in (False, True):
        trainable(network, CPU, recompute)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            network(torch.rand(1, 20, 8, 8), torch.rand(1, 4, 32, 32))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("name", ["s3rnet-student", "s2bnet"])
@pytest.mark.parametrize("ready", [lambda network: trainable(network, CPU, recompute=True),
                                   lambda network: prepared(network, "exact", CPU)])
@torch.no_grad()
def test_a_copy_runs_its_own_parameters(name, ready):
    network = ready(create(name, bands=24, msi_bands=4, ratio=4, **card(name).small)).eval()
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        parameter.zero_()
    images = torch.rand(1, 24, 8, 8), torch.rand(1, 4, 32, 32)
    assert not torch.equal(network(*images), other(*images))
