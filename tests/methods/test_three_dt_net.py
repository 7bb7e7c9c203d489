"""3DT-Net against the recorded output and inner tensors of its release, and its 3-D convolutions against PyTorch's."""

import pytest
import torch
from torch.nn import functional as F

from benchmark.complexity import multiply_adds
from benchmark.fidelity.recordings import filled, inputs, load_case, relative_difference
from methods import create
from methods.registry import MethodError
from methods.speed import trainable
from tests.methods.hooks import calls_of
from tests.methods.images import pair

CASE = load_case("three_dt_net")
VOLUMES = ("spatial.conv3d1", "spatial.conv3d2")  # formed band by band here, see the test of it


def small(msi_bands=4, ratio=4, **arguments):
    sizes = {"width": 12, "inner": 4, "depth": 2, "heads": 2} | arguments
    return filled(create("3dt-net", bands=9, msi_bands=msi_bands, ratio=ratio, **sizes))


@pytest.mark.golden
@torch.no_grad()
def test_golden(monkeypatch):
    model = filled(create("3dt-net", bands=172, msi_bands=4), CASE)
    modules = [name for name in CASE["internals"] if name.partition(".")[0] in ("spatial", *dict(model.named_children()))
               and name not in VOLUMES]
    steps = {"z_half": [], "x": []}

    def keeping(step, kept):
        return lambda *images: kept.append(step(*images)) or kept[-1]

    monkeypatch.setattr(model, "to_z", keeping(model.to_z, steps["z_half"]))
    monkeypatch.setattr(model, "to_x", keeping(model.to_x, steps["x"]))
    with calls_of(model, [*modules, "spatial"]) as seen:
        fused = model(*inputs(CASE, "lr_hsi", "hr_msi"))
    assert relative_difference(fused, CASE["output"]) < 1e-5
    # The prediction hardly depends on some operators: their own tensors do.
    found = {name: seen[name][0] for name in modules}
    for i, (out, features) in enumerate(seen["spatial"], 1):
        found |= {f"prior_out_{i}": out, f"prior_fe_{i}": features}
    found |= {f"{name}_{i + 1}": call for name, calls in steps.items() for i, call in enumerate(calls)}
    assert found.keys() == CASE["internals"].keys() - set(VOLUMES)
    for name, tensor in found.items():
        summary = CASE["internals"][name]
        tensor = tensor.flatten(1, 2) if len(summary["shape"]) == 3 else tensor  # tokens are images here
        assert relative_difference(tensor, summary) < 1e-5, name


@pytest.mark.parametrize("msi_bands, total", [(4, CASE["params_total"]), (6, 13_465_215)])
def test_parameters(msi_bands, total):
    with torch.device("meta"):
        model = create("3dt-net", bands=172, msi_bands=msi_bands)
    assert sum(p.numel() for p in model.parameters()) == total
    used = sum(p.numel() for name, p in model.named_parameters() if not name.startswith(model.unused))
    assert total - used == CASE["params_total"] - CASE["params_used_thop"]


def test_multiply_adds():
    with torch.device("meta"):
        model = create("3dt-net", bands=172, msi_bands=4)
    expected = CASE["macs_fvcore_style_64_256"], CASE["macs_attention_products_64_256"]
    assert multiply_adds(model, 172, 4, 64, 256) == expected


@torch.no_grad()
def test_band_by_band_the_volume_is_that_of_3d_convolutions():
    prior, y = small().spatial, torch.rand(2, 9, 8, 16)
    maps = F.relu(F.conv3d(y[:, None], prior.conv3d1.weight, prior.conv3d1.bias, padding=(0, 1, 1)))
    expected = F.conv3d(maps, prior.conv3d2.weight, prior.conv3d2.bias, padding=(1, 0, 0))[:, 0]
    torch.testing.assert_close(prior.volume(y), expected, atol=1e-5, rtol=1e-5)


def test_weights_are_normalised_as_by_pytorch():
    for layer in (small().spatial.conv3d1, create("3dt-net", bands=4, msi_bands=2, width=6).spatial.conv3d2):
        expected = torch._weight_norm(layer.weight_v, layer.weight_g, 0)
        torch.testing.assert_close(layer.weight, expected)
    torch.testing.assert_close(layer.weight, layer.weight_v)  # as it begins


def test_it_is_laid_out_for_training_and_moved():
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    after = trainable(model, torch.device("cpu")).double().float().state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert model.to("meta").spatial.conv3d1.weight.device.type == "meta"


@torch.no_grad()
@pytest.mark.parametrize("ratio, size, msi_bands", [(2, (7, 5), 6), (3, (3, 5), 1), (8, (2, 3), 10)])
def test_any_size_ratio_and_msi(ratio, size, msi_bands):
    fused = small(msi_bands, ratio)(*pair(*size, msi_bands, ratio))
    assert fused.shape == (1, 9, ratio * size[0], ratio * size[1]) and fused.isfinite().all()


@pytest.mark.parametrize("arguments, remedy", [({"kernel": 12}, "odd number"), ({"heads": 5}, "choose a multiple")])
def test_errors_name_the_remedy(arguments, remedy):
    with pytest.raises(MethodError, match=remedy):
        small(**arguments)
