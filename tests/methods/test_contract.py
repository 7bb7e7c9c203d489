"""What every registered method keeps: registering one enrols it here."""

import pytest
import torch

from methods import available, card, create, fuse
from methods.registry import FAMILIES, MethodError, register

BANDS, LR, RATIO = 12, 8, 4
SMALL = {  # build arguments that cut a network down to test size; the longest prefix of its name counts
    "s3rnet": {"width": 8, "depths": (1, 1, 1, 1)},
    "cucanet": {"iterations": 3, "width": 4, "endmembers": 8},
    "dhif-net": {"width": 4, "stages": 2},
    "dsdcn": {"width": 8, "up_width": 16},
    "dual-unet": {"width": 32},
    "fusion-mamba": {"dim": 8},
    "hyfusion": {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2), "drop_path": 0.0},
    "hyfusion-published": {"width": 8, "growth": 4, "blocks": 2, "num_heads": 2},
    "hyper-refiner": {"width": 8},
    "hyper-transformer": {"width": 8, "lr_pixels": LR * LR},
    "mssjfl": {"fh": 32, "fm": 32},
    "psdnet": {"n_feat": 16},
    "qrcode": {"nf": 8, "gc": 4, "nb": 2},
    "s2bnet": {"width": 16, "depth": 3},
    "ssdiff": {"dim": 32, "steps": 2},
    "sspsr": {"n_feats": 64, "n_blocks": 1},
    "ssuf": {"width": 8},
    "u2mdn": {"iterations": 3},
    "u2net": {"dim": 16},
    "usdn": {"hsi_iterations": 3, "init_iterations": 3, "iterations": 6},
}


def arguments(name):
    prefixes = [prefix for prefix in SMALL if name.startswith(prefix)]
    return SMALL[max(prefixes, key=len)] if prefixes else {}


def build(name, msi_bands=4):
    torch.manual_seed(0)
    srf = torch.rand(msi_bands, BANDS, generator=torch.Generator().manual_seed(1))
    psf = torch.ones(5, 5) / 25
    return create(name, bands=BANDS, msi_bands=msi_bands, ratio=RATIO, psf=psf, srf=srf / srf.sum(1, keepdim=True),
                  phase=1, **arguments(name))


def images(msi_bands=4, batch=2):
    generator = torch.Generator().manual_seed(2)
    return (torch.rand(batch, BANDS, LR, LR, generator=generator),
            torch.rand(batch, msi_bands, LR * RATIO, LR * RATIO, generator=generator))


def fused(model, lr_hsi, hr_msi):
    """With a reference, which only an oracle is shown: its bands are the MSI's mean."""
    return fuse(model, lr_hsi, hr_msi, hr_msi.mean(1, keepdim=True).expand(-1, BANDS, -1, -1))


@pytest.mark.parametrize("msi_bands", [4, 6])
@pytest.mark.parametrize("name", available())
def test_shape_dtype_and_finiteness(name, msi_bands):
    estimate = fused(build(name, msi_bands), *images(msi_bands))
    assert estimate.shape == (2, BANDS, LR * RATIO, LR * RATIO)
    assert estimate.dtype == torch.float32 and torch.isfinite(estimate).all() and not estimate.requires_grad


@pytest.mark.parametrize("name", available())
def test_an_image_does_not_depend_on_its_batch_and_a_seed_gives_the_same_again(name):
    lr_hsi, hr_msi = images()
    model = build(name)
    together = fused(model, lr_hsi, hr_msi)
    alone = torch.cat([fused(model, lr_hsi[i : i + 1], hr_msi[i : i + 1]) for i in range(2)])
    assert (together - alone).abs().max() < 1e-5 * together.abs().max().clamp(min=1)
    assert torch.equal(together, fused(build(name), lr_hsi, hr_msi))


@pytest.mark.parametrize("name", available("supervised"))
def test_every_used_parameter_gets_a_gradient(name):
    model = build(name).train()
    model(*images()).square().mean().backward()
    without = {key for key, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()}
    declared = {key for key, _ in model.named_parameters() if key.startswith(getattr(model, "unused", ()) or ("\0",))}
    assert without == declared


@pytest.mark.parametrize("kind", ["dead bands", "constant", "black", "rank one", "one MSI band"])
@pytest.mark.parametrize("name", available("classical"))
def test_degenerate_images_give_a_finite_one_or_a_clear_error(name, kind):
    lr_hsi, hr_msi = images(1 if kind == "one MSI band" else 4, batch=1)
    if kind == "dead bands":
        lr_hsi[:, 3], hr_msi[:, 1] = 0, 0.3
    elif kind in ("constant", "black"):
        lr_hsi, hr_msi = (torch.full_like(image, 0.3 * (kind == "constant")) for image in (lr_hsi, hr_msi))
    elif kind == "rank one":
        lr_hsi, hr_msi = (image[:, :1].expand_as(image).contiguous() for image in (lr_hsi, hr_msi))
    try:
        estimate = fused(build(name, hr_msi.shape[1]), lr_hsi, hr_msi)
    except MethodError as error:
        assert "no positive value" in str(error) and kind == "black"
    else:
        assert estimate.shape == (1, BANDS, LR * RATIO, LR * RATIO) and torch.isfinite(estimate).all()


@pytest.mark.parametrize("name", available())
def test_cards_are_complete(name):
    method = card(name)
    assert method.name == name and method.family in FAMILIES and method.paper and 1970 <= method.year <= 2030
    assert method.fidelity in ("release", "described", "reference")
    assert bool(method.recipes) == (method.family == "supervised")
    for stages in method.recipes.values():
        for recipe in stages if isinstance(stages, tuple) else (stages,):
            assert name in recipe.trains and all(entry in available() for entry in recipe.trains)
            assert recipe.keep in ("last", "best-sam", "best-psnr")


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(MethodError, match=r"Did you mean 's3rnet-student'.*Choices: bicubic"):
        create("s3rnet-studnt", bands=4, msi_bands=2)


def test_a_name_is_registered_once_and_in_a_known_family():
    with pytest.raises(MethodError, match="registered twice"):
        register("bicubic", "classical", paper="p", year=2000, fidelity="reference")(lambda: None)
    with pytest.raises(MethodError, match="choices: classical"):
        register("another", "magic", paper="p", year=2000, fidelity="reference")(lambda: None)
    assert "another" not in available()


def test_fuse_maps_the_value_range():
    class Echo(torch.nn.Module):
        def forward(self, lr_hsi, hr_msi):
            self.seen = hr_msi.min().item(), hr_msi.max().item()
            return hr_msi * 2  # in [-1, 1] terms

    model = Echo()
    model.card = card("s3rnet-student")
    hr_msi = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3)
    assert torch.allclose(fuse(model, hr_msi, hr_msi).flatten(), torch.tensor([-0.5, 0.0, 1.5]))
    assert model.seen == (-1.0, 1.0)


def test_only_an_oracle_is_shown_the_reference():
    class Oracle:
        oracle = True
        card = card("bicubic")

        def __call__(self, lr_hsi, hr_msi, reference):
            return reference

    image = torch.rand(1, 2, 4, 4)
    assert torch.equal(fuse(Oracle(), image, image, image), image)
    with pytest.raises(MethodError, match="was given none"):
        fuse(Oracle(), image, image)
