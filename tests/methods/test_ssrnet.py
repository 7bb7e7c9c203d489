"""SSR-NET against recorded outputs of its release, its bands and its loss."""

import pytest
import torch

from benchmark.fidelity.recordings import filled, inputs, load_case
from methods.registry import MethodError, card, create
from methods.ssrnet import replaced_bands
from tests.methods.hooks import calls_of, differences, firsts
from tests.methods.images import pair

CASE = load_case("ssrnet")


@pytest.mark.golden
@torch.no_grad()
def test_golden_with_all_that_the_release_returns():
    model = filled(create("ssrnet", bands=172, msi_bands=4), CASE)
    with calls_of(model, CASE["internals"]) as calls:
        image, spatial = model.forward_with_spatial(*inputs(CASE))
    seen = firsts(calls)
    seen |= {"x_spec": image, "x_spat": spatial, "spat_edge1": spatial[:, :, :-1] - spatial[:, :, 1:],
             "spat_edge2": spatial[..., :-1] - spatial[..., 1:], "spec_edge": image[:, :-1] - image[:, 1:]}
    found = differences(seen, CASE["internals"] | CASE["extra_outputs"])
    assert len(found) == 6 and max(found.values()) < 1e-5, found


def test_bands_that_are_replaced_and_counts():
    assert replaced_bands(172, 4) == CASE["settings"]["replaced_bands"] == [0, 57, 114, 171]
    assert replaced_bands(172, 6) == [0, 34, 68, 103, 137, 171]
    for bands, total in ((172, CASE["params_total"]), (31, 26_041)):
        assert sum(p.numel() for p in create("ssrnet", bands=bands, msi_bands=4).parameters()) == total


def test_loss_is_the_one_of_the_release():
    torch.manual_seed(0)
    model, recipe = create("ssrnet", bands=5, msi_bands=2, ratio=2), card("ssrnet").recipes["release"]
    batch = {"lr_hsi": torch.rand(2, 1, 5, 3, 4), "hr_msi": torch.rand(2, 2, 6, 8), "hr_hsi": torch.rand(2, 5, 6, 8)}
    terms = recipe.task({"ssrnet": model}, recipe)(batch)
    image, spatial = model.forward_with_spatial(255 * batch["lr_hsi"][:, 0], 255 * batch["hr_msi"])
    truth = 255 * batch["hr_hsi"].double().numpy()
    wrong, blurred = image.detach().double().numpy() - truth, spatial.detach().double().numpy() - truth
    expected = (wrong**2).mean() + ((wrong[:, :-1] - wrong[:, 1:]) ** 2).mean()
    expected += 0.5 * ((blurred[:, :, :-1] - blurred[:, :, 1:]) ** 2).mean()
    expected += 0.5 * ((blurred[..., :-1] - blurred[..., 1:]) ** 2).mean()
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(terms["ssrnet/loss"], terms["loss"])


@torch.no_grad()
def test_the_msi_is_seen_in_the_replaced_bands_alone():
    model, (lr_hsi, hr_msi) = create("ssrnet", bands=9, msi_bands=4), pair(3, 5)
    seen = []
    model.conv_fus.register_forward_pre_hook(lambda module, given: seen.append(given[0].clone()))
    model(lr_hsi, hr_msi), model(lr_hsi, 1 - hr_msi)
    changed = [band for band in range(9) if not torch.equal(seen[0][:, band], seen[1][:, band])]
    assert changed == [0, 3, 6, 8] and torch.equal(seen[0][:, changed], hr_msi)


def test_one_band_is_refused():
    with pytest.raises(MethodError, match=r"1 MSI band; two or more are needed.*tfnet"):
        create("ssrnet", bands=9, msi_bands=1)
