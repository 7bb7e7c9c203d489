"""S3RNet against recordings of its release: outputs, parameters, multiply-adds, and what the release's attention does."""

import pytest
import torch
from fvcore.nn import FlopCountAnalysis

from benchmark.complexity import multiply_adds, used_parameters
from benchmark.fidelity.recordings import filled, load_case, probe, relative_difference
from methods import create, load_release
from methods.registry import MethodError

CASES = {
    "s3rnet_teacher": ("s3rnet-teacher", {}),
    "s3rnet_student": ("s3rnet-student", {}),
    "s3rnet_teacher_large": ("s3rnet-teacher-large", {}),
    "s3rnet_student_large": ("s3rnet-student-large", {}),
    "s3rnet_teacher_sum": ("s3rnet-teacher", {"fusion": "sum"}),
    "s3rnet_student_sigmoid": ("s3rnet-student", {"fusion": "sigmoid"}),
    "s3rnet_student_attention": ("s3rnet-student", {"fusion": "attention"}),
    "s3rnet_student_concat": ("s3rnet-student", {"fusion": "concat"}),
}


@pytest.mark.golden
@pytest.mark.parametrize("file", CASES)
@torch.no_grad()
def test_output_and_fused_map_are_the_release_s(file):
    name, arguments = CASES[file]
    case = load_case(file)
    model = filled(create(name, bands=172, msi_bands=4, **arguments), case)
    images = [probe("lr_hsi", (1, 172, 16, 16)), probe("hr_msi", (1, 4, 64, 64))]
    image, z_fused = model.forward_with_features(*images)
    assert relative_difference(image, case["output"]) < 1e-5
    assert relative_difference(z_fused, case["fuse"]) < 1e-5
    assert torch.equal(model(*images), image)
    assert sum(p.numel() for p in model.parameters()) == case["params_total"]


@pytest.mark.golden
@pytest.mark.parametrize("file", ["s3rnet_teacher", "s3rnet_student", "s3rnet_teacher_large", "s3rnet_student_large"])
def test_counts_are_the_papers(file):
    name, _ = CASES[file]
    case = load_case(file)
    model = create(name, bands=172, msi_bands=4, attention="paper")  # the published count has queries and keys in it
    assert used_parameters(model, 172, 4, 4) == case["params_used_thop"]
    layers, _ = multiply_adds(model, 172, 4, lr_size=64, hr_size=256)
    # The recorded count has one operation for every value of the bilinear upsampling and 3,008 for the softmax besides.
    assert layers + 172 * 256 * 256 + 3008 == case["macs_thop_64_256"]


def test_two_counters_agree_on_the_layers():
    model = create("s3rnet-student", bands=12, msi_bands=4, width=8, depths=(1, 1, 1, 1), attention="paper").eval()
    by_operator = FlopCountAnalysis(model, (torch.rand(1, 12, 8, 8), torch.rand(1, 4, 32, 32))).by_operator()
    layers, attention = multiply_adds(model, 12, 4, 8, 32)
    assert layers == by_operator["conv"]
    assert attention == by_operator["matmul"] == 2 * 64 * 16 * 32 * 32


@pytest.mark.golden
def test_depth_variants_of_table_iv():
    for variant in load_case("s3rnet_student")["depth_variants"]:
        model = create("s3rnet-student", bands=172, msi_bands=4, depths=variant["student_layers"], attention="paper")
        assert sum(p.numel() for p in model.parameters()) == variant["params_total"]
        dead = sum(p.numel() for key, p in model.named_parameters() if key.startswith(model.unused))
        assert variant["params_total"] - dead == variant["params_used_thop"]


@pytest.mark.parametrize("name", ["s3rnet-teacher", "s3rnet-student"])
@pytest.mark.parametrize("attention", ["release", "paper"])
def test_dead_parameters_are_those_declared(name, attention):
    model = create(name, bands=12, msi_bands=4, width=8, depths=(1, 1, 1, 1), attention=attention)
    model(torch.rand(1, 12, 4, 4), torch.rand(1, 4, 16, 16)).sum().backward()
    dead = {key for key, p in model.named_parameters() if p.grad is None}
    assert dead == {key for key, _ in model.named_parameters() if key.startswith(model.unused)} if model.unused else not dead


@torch.no_grad()
def test_the_release_s_contraction_ignores_queries_and_keys():
    torch.manual_seed(0)
    model = create("s3rnet-student", bands=12, msi_bands=4, width=8, depths=(1, 1, 1, 1)).eval()
    block = model.decoder.fuse_att
    branches = [torch.randn(2, 8, 6, 5) for _ in range(4)]
    query, key, value = (conv(x).reshape(2, 4, 16, 30) for conv, x in
                         zip((block.query_conv, block.key_conv, block.value_conv), branches))
    weights = torch.softmax(query @ key.mT / 4, -1)
    release = torch.einsum("bhqk,bhcd->bhqd", weights, value)  # k and c are summed apart
    expected = block.output_conv(release.reshape(2, 64, 6, 5)) + branches[3]
    gates = torch.sigmoid(block.attention_weights(torch.cat((*branches[:3], expected), 1)))
    expected = sum(gates[:, i : i + 1] * z for i, z in enumerate((*branches[:3], expected)))
    assert torch.allclose(block(*branches), expected, atol=1e-5)


@torch.no_grad()
def test_the_paper_s_attention_is_a_matrix_product():
    torch.manual_seed(0)
    model = create("s3rnet-student", bands=12, msi_bands=4, width=8, depths=(1, 1, 1, 1), fusion="attention",
                   attention="paper").eval()
    block = model.decoder.fuse_att
    branches = [torch.randn(1, 8, 3, 4) for _ in range(4)]
    query, key, value = (conv(x)[0].reshape(4, 16, 12) for conv, x in
                         zip((block.query_conv, block.key_conv, block.value_conv), branches))
    heads = [torch.softmax(query[h] @ key[h].T / 8, 1) @ value[h] for h in range(4)]
    expected = block.output_conv(torch.cat(heads).reshape(1, 64, 3, 4)) + branches[3]
    assert torch.allclose(block(*branches), expected, atol=1e-5)


def test_load_release_is_strict_but_for_the_compile_prefix():
    model = create("s3rnet-student", bands=12, msi_bands=4, width=8, depths=(1, 1, 1, 1))
    state = {f"_orig_mod.{key}": value + 1 for key, value in model.state_dict().items()}
    load_release(model, state)
    assert torch.equal(model.state_dict()["decoder.fuse.bias"], state["_orig_mod.decoder.fuse.bias"])
    state.pop("_orig_mod.decoder.last.weight")
    with pytest.raises(MethodError, match=r"missing \['decoder.last.weight'\]"):
        load_release(model, state)
    with pytest.raises(MethodError, match=r"extra \['decoder.more'\]"):
        load_release(model, model.state_dict() | {"decoder.more": torch.zeros(1)})
    with pytest.raises(MethodError, match=r"decoder.fuse.bias \(3,\), not \(12,\)"):
        load_release(model, model.state_dict() | {"decoder.fuse.bias": torch.zeros(3)})


@pytest.mark.parametrize("arguments, words", [
    ({"fusion": "sumsum"}, "choices: sum"), ({"attention": "none"}, "release, paper"), ({"depths": (1, 2)}, "four numbers"),
    ({"width": 9, "growth": 5}, "even width"), ({"widht": 8}, "no argument 'widht'; choices: depths, width"),
])
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(MethodError, match=words):
        create("s3rnet-student", bands=12, msi_bands=4, **arguments)
