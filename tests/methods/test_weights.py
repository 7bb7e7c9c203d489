"""Files of trained parameters, and networks that correct an anchor."""

import pytest
import torch

from methods import card, create, fuse, weights
from methods.registry import MethodError
from methods.weights import About

SIZE = {"bands": 6, "msi_bands": 3, "ratio": 4}
SMALL = {"width": 8, "depths": (1, 1, 1, 1)}
NAME = "s3rnet-student"


def images(bands=6):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, bands, 8, 8, generator=generator), torch.rand(1, 3, 32, 32, generator=generator)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(3)
    model = create(NAME, **SIZE, **SMALL)
    path = tmp_path / "model.safetensors"
    weights.save(path, {f"{NAME}/{key}": value for key, value in model.state_dict().items()},
                 [About(NAME, SMALL, bands=6, msi_bands=3, ratio=4, key="abc")])
    return model, path


def test_a_network_is_what_was_saved_in_single_and_close_to_it_in_half_precision(saved):
    model, path = saved
    wanted = fuse(model, *images())
    assert torch.equal(fuse(create(f"{NAME}@weights={path}", **SIZE), *images()), wanted)
    assert torch.equal(fuse(create(f"{NAME}@weights={path.parent}", **SIZE), *images()), wanted)  # the folder of a training
    half = {f"{NAME}/{key}": value.half() for key, value in model.state_dict().items()}
    weights.save(path.with_name("half.safetensors"), half, [About(NAME, SMALL)])
    again = create(f"{NAME}@weights={path.with_name('half.safetensors')}", **SIZE)
    assert next(again.parameters()).dtype == torch.float32
    assert 0 < (fuse(again, *images()) - wanted).abs().max() < 1e-2


def test_what_does_not_fit_is_refused_in_words(saved, tmp_path):
    _, path = saved
    with pytest.raises(MethodError, match="trained for 6 bands and the images have 7"):
        create(f"{NAME}@weights={path}", bands=7, msi_bands=3, ratio=4)
    with pytest.raises(MethodError, match="trained for 4 ratio and the images have 2"):
        create(f"{NAME}@weights={path}", bands=6, msi_bands=3, ratio=2)
    with pytest.raises(MethodError, match="nothing about 'ssuf'; it holds s3rnet-student"):
        create(f"ssuf@weights={path}", **SIZE)
    with pytest.raises(MethodError, match="no such file"):
        create(f"{NAME}@weights={tmp_path / 'x'}", **SIZE)
    with pytest.raises(MethodError, match="is not trained"):
        card(f"gsa@weights={path}")
    with pytest.raises(MethodError, match="comes without weights"):
        create(f"{NAME}@weights=shipped", **SIZE)


def test_one_inverted_byte_is_noticed(saved):
    _, path = saved
    data = bytearray(path.read_bytes())
    data[-5] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(MethodError, match="damaged"):
        create(f"{NAME}@weights={path}", **SIZE)
    path.write_bytes(data[:200])
    with pytest.raises(MethodError, match="not a safetensors file"):
        create(f"{NAME}@weights={path}", **SIZE)


@pytest.mark.parametrize("name", ["u2net", "s3rnet-student"])
def test_an_anchored_network_begins_at_its_anchor_and_learns_beyond_it(name):
    model = create(f"{name}@anchor=bicubic", **SIZE, **dict(card(name).small))
    anchor = fuse(create("bicubic", **SIZE), *images())
    assert torch.allclose(fuse(model, *images()), anchor, atol=1e-6)
    lr_hsi, hr_msi = images()
    torch.manual_seed(0)
    (model.train()(lr_hsi, hr_msi) - torch.rand(1, 6, 32, 32)).square().mean().backward()
    assert model.gain.grad.abs().max() > 0
    torch.nn.init.ones_(model.gain)
    brighter = [image * 3 - 1 for image in images()]  # the correction is in the deviations of each image
    ours = fuse(model, *images()) - anchor
    theirs = fuse(model, *brighter) - fuse(create("bicubic", **SIZE), *brighter)
    assert ours.abs().max() > 1e-3 and torch.allclose(3 * ours, theirs, atol=1e-3 * float(theirs.abs().max()))


def test_anchors_that_cannot_be_are_refused():
    with pytest.raises(MethodError, match="must be a method that needs no training"):
        create("u2net@anchor=ssuf", **SIZE)
    with pytest.raises(MethodError, match="more than an image"):
        create("psdnet@anchor=gsa", **SIZE)


@pytest.mark.parametrize("name", weights.shipped())
def test_weights_that_come_with_the_suite_are_whole_and_fuse_what_they_were_trained_for(name):
    held = weights.about(name, "shipped")
    assert weights.damage(weights.place(name, "shipped")) == "" and held.sha256 and held.key and held.dataset
    size = {"bands": held.bands or 20, "msi_bands": held.msi_bands or 4, "ratio": held.ratio or 4}
    draw = torch.Generator().manual_seed(0)
    psf = torch.full((5, 5), 0.04)
    srf = torch.rand(size["msi_bands"], size["bands"], generator=draw)
    model = create(f"{name}@weights=shipped", **size, psf=psf, srf=srf / srf.sum(1, keepdim=True), phase=1)
    side = 16
    lr_hsi = torch.rand(1, size["bands"], side, side, generator=draw)
    hr_msi = torch.rand(1, size["msi_bands"], side * size["ratio"], side * size["ratio"], generator=draw)
    assert torch.isfinite(fuse(model, lr_hsi, hr_msi)).all()
