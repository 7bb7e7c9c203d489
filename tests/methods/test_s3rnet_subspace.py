"""The network in the image's subspace: its data step against a dense least-squares solution, and what it is told."""

import pytest
import torch

from methods import create, fuse
from methods.data_consistency import consistent, view
from methods.registry import MethodError, tell
from methods.responses import Told, gaussian_psf

RATIO, BANDS = 2, 20


def pair(sigma=1.0, noise=0.0, bands=BANDS, msi_bands=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spectra = torch.rand(bands, 4, generator=generator)
    abundances = torch.rand(4, 9, 9, generator=generator)
    abundances = torch.nn.functional.interpolate(abundances[None], size=(16, 16), mode="bicubic")[0]
    x = torch.einsum("bk,kxy->bxy", spectra, abundances)
    psf = gaussian_psf(5, sigma).float()
    srf = torch.rand(msi_bands, bands, generator=generator)
    srf = srf / srf.sum(1, keepdim=True)
    padded = torch.nn.functional.pad(x[:, None], (2,) * 4, mode="reflect")
    y = torch.nn.functional.conv2d(padded, psf[None, None])[:, 0, 1::RATIO, 1::RATIO]
    z = torch.einsum("mb,bxy->mxy", srf, x)
    y = y + noise * torch.randn(y.shape, generator=generator)
    return x, y, z, Told(psf, srf, 1)


@pytest.mark.parametrize("separable", [True, False])
def test_the_data_step_is_the_minimum_of_its_objective(separable):
    _, y, z, told = pair(noise=0.01)
    if not separable:
        psf = told.psf + 0.1 * torch.eye(5)
        told = told._replace(psf=psf / psf.sum())
    seen = view(y, z, told, 4, "subspace-ridge", "hysure")
    assert (len(seen.blur.rows) == 1) == separable
    generator = torch.Generator().manual_seed(1)
    v, weight = torch.randn(4, 16, 16, generator=generator), torch.rand(4, generator=generator) + 0.5
    found = consistent(v, weight, seen)

    # The gradient of the objective, written down as it stands on the module's first page, must vanish.
    d = found.double().requires_grad_()
    root = weight.double().sqrt()
    blurred = sum(r.double() @ d @ c.double().T for r, c in zip(*seen.blur))
    low = ((seen.low_rest.double() - blurred).square() / seen.noise.double()[:, None, None]).sum()
    high = torch.einsum("kxy,kj,jxy->", d, seen.gram, d) - 2 * (d * seen.msi_rest.double()).sum()
    step = root[:, None, None] * (d - v.double())
    pull = torch.einsum("kxy,kj,jxy->", step, seen.prior, step)
    (low + high + pull).backward()
    scale = 2 * (seen.low_rest.double().abs().max() / seen.noise.double().min() + seen.msi_rest.double().abs().max() + 1)
    assert d.grad.abs().max() < 1e-3 * scale


def test_before_training_it_is_all_but_its_anchor():
    x, y, z, told = pair(noise=0.01)
    model = create("s3rnet-subspace", bands=BANDS, msi_bands=3, ratio=RATIO, **told._asdict(), width=8, stages=2)
    ridge = create("subspace-ridge", bands=BANDS, msi_bands=3, ratio=RATIO, **told._asdict())
    ours, anchor = fuse(model, y[None], z[None])[0], fuse(ridge, y[None], z[None])[0]
    assert (ours - anchor).square().mean() < 0.1 * (anchor - x).square().mean()


@pytest.mark.parametrize("bands, msi_bands, ratio", [(20, 3, 2), (31, 1, 4), (9, 5, 8)])
def test_one_network_serves_any_bands_sensor_and_ratio(bands, msi_bands, ratio):
    model = create("s3rnet-subspace", bands=1, msi_bands=1, width=8, stages=1)
    generator = torch.Generator().manual_seed(0)
    y, z = torch.rand(1, bands, 8, 8, generator=generator), torch.rand(1, msi_bands, 8 * ratio, 8 * ratio, generator=generator)
    srf = torch.rand(msi_bands, bands, generator=generator)
    tell(model, Told(gaussian_psf(5, 1.0).float(), srf / srf.sum(1, keepdim=True), 0))
    assert fuse(model, y, z).shape == (1, bands, 8 * ratio, 8 * ratio)


def test_what_it_is_told_counts_and_is_estimated_where_it_is_not():
    _, y, z, told = pair()
    model = create("s3rnet-subspace", bands=BANDS, msi_bands=3, ratio=RATIO, width=8, stages=1)
    images = y[None], z[None]
    blind = fuse(model, *images)
    tell(model, told)
    known = fuse(model, *images)
    tell(model, told._replace(srf=told.srf.flip(1)))
    assert not torch.allclose(blind, known, atol=1e-4) and not torch.allclose(known, fuse(model, *images), atol=1e-4)


@pytest.mark.parametrize("arguments", [{"anchor_of": "gsa"}, {"estimator": "x"}, {"stages": 0}, {"width": 6}])
def test_arguments_out_of_their_choices_are_refused(arguments):
    with pytest.raises(MethodError, match=next(iter(arguments))):
        create("s3rnet-subspace", bands=4, msi_bands=2, **arguments)
