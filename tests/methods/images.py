"""Images and responses without any structure, the same at every call: what tests of many methods start from."""

import torch


def pair(height, width, msi_bands=4, ratio=4, batch=1):
    """LR-HSI (B, 9, height, width) and HR-MSI of ``ratio`` times its sides, in [0, 1)."""
    rng = torch.Generator().manual_seed(0)
    return (torch.rand(batch, 9, height, width, generator=rng),
            torch.rand(batch, msi_bands, ratio * height, ratio * width, generator=rng))


def random_pair(seed=0, bands=7, msi_bands=3, size=(6, 5), ratio=4, batch=1):
    """LR-HSI (B, bands, *size) and HR-MSI of ``ratio`` times its sides, in [0, 1), float64."""
    rng = torch.Generator().manual_seed(seed)
    lr_hsi = torch.rand(batch, bands, *size, generator=rng, dtype=torch.float64)
    hr_msi = torch.rand(batch, msi_bands, *(n * ratio for n in size), generator=rng, dtype=torch.float64)
    return lr_hsi, hr_msi


def random_srf(bands=7, msi_bands=3, seed=9):
    """(msi_bands, bands), rows sum to 1, float64."""
    srf = torch.rand(msi_bands, bands, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return srf / srf.sum(1, keepdim=True)


def responses(seed=0, bands=6, msi_bands=2, side=3):
    """PSF (side, side) and SRF (msi_bands, bands), float64, without any symmetry."""
    rng = torch.Generator().manual_seed(100 + seed)
    psf = torch.rand(side, side, generator=rng, dtype=torch.float64)
    srf = torch.rand(msi_bands, bands, generator=rng, dtype=torch.float64)
    return psf / psf.sum(), srf / srf.sum(1, keepdim=True)


def low_rank_batch(bands=12, msi_bands=4, ratio=4, size=(6, 6), batch=2, seed=0):
    """A batch as tasks take it: three smooth spectra in blobs, whose HSI is averaged and whose MSI holds means of bands."""
    rng = torch.Generator().manual_seed(seed)
    at, place = torch.linspace(0, 1, bands), torch.tensor([0.1, 0.5, 0.9])[:, None]
    spectra = 0.2 + 0.6 * (-12 * (at - place).square()).exp()  # (3, bands)
    coarse = torch.rand(batch, 3, *size, generator=rng)
    shares = torch.nn.functional.interpolate(coarse, scale_factor=ratio, mode="bicubic").clamp(0)
    hr_hsi = torch.einsum("bkxy,kl->blxy", shares / shares.sum(1, keepdim=True).clamp(min=0.1), spectra)
    hr_msi = torch.stack([part.mean(1) for part in hr_hsi.tensor_split(msi_bands, 1)], 1)
    return {"lr_hsi": torch.nn.functional.avg_pool2d(hr_hsi, ratio)[:, None], "hr_msi": hr_msi, "hr_hsi": hr_hsi}
