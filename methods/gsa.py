"""GSA: Gram-Schmidt adaptive component substitution, as the hyperspectral-multispectral toolbox adapts it.

Aiazzi, Baronti, Selva, "Improving component substitution pansharpening through multivariate regression of MS + Pan
data", IEEE TGRS 45(10):3230-3239, 2007. Grouping of the bands as in Yokoya, Grohnfeldt, Chanussot, IEEE GRSM
5(2):29-56, 2017; toolbox as mirrored in ricardoborsoi/FuVarRelease @ 2164cd87, ``Methods/GS``.

Symbols: Y LR bands, U those at HR, P the MSI band of the group, I the intensity synthesised from U; 0 means centred.
Departure: where the intensity is constant the reference divides by zero; here such a group gets no detail.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from methods.registry import Method, register
from methods.resample import resize

# A band whose standard deviation is below this part of its largest value is constant but for float64 rounding.
FLAT = 1e-10


class GSA:
    """Each MSI band sharpens the HSI bands that correlate best with it. No parameters, no clipping."""

    card: Method

    def __call__(self, lr_hsi: torch.Tensor, hr_msi: torch.Tensor) -> torch.Tensor:
        """Fuse, in float64 inside.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W).

        Returns:
            (B, bands, H, W), dtype of ``lr_hsi``.
        """
        # Rounding of the inputs sets which directions of the LR spectra are signal; it is lost once they are float64.
        precision = max(torch.finfo(image.dtype).eps for image in (lr_hsi, hr_msi))
        # Images are independent, and their groups differ in size: one after the other.
        images = [_fuse_image(y, z, precision) for y, z in zip(lr_hsi.double(), hr_msi.double(), strict=True)]
        return torch.stack(images).to(lr_hsi.dtype)


def _fuse_image(lr_hsi: torch.Tensor, hr_msi: torch.Tensor, precision: float) -> torch.Tensor:
    """Fuse one image: Y (bands, h, w) and (msi_bands, H, W), float64 -> (bands, H, W)."""
    low, high = lr_hsi.shape[-2:], hr_msi.shape[-2:]
    owner = _best_correlated(lr_hsi.flatten(1), _resize(hr_msi, low, "linear").flatten(1))
    fused = _resize(lr_hsi, high, "cubic")
    for k in owner.unique().tolist():
        group = owner == k
        pan = hr_msi[k : k + 1]
        pan_lr = _resize(pan - pan.mean(), low, "cubic")
        sharp = _sharpen(fused[group].flatten(1), lr_hsi[group].flatten(1), pan.flatten(), pan_lr.flatten(), precision)
        fused[group] = sharp.unflatten(1, high)
    return fused


def _best_correlated(lr_hsi: torch.Tensor, lr_msi: torch.Tensor) -> torch.Tensor:
    """The MSI band with the highest Pearson correlation, the first of equals: Y (bands, n), (msi_bands, n) -> (bands,).

    A constant MSI band correlates with nothing and comes after any other; a constant HSI band goes with the first.
    """
    y, z = (_standardised(bands) for bands in (lr_hsi, lr_msi))
    return (y @ z.T).masked_fill((z == 0).all(1), -torch.inf).argmax(1)


def _sharpen(
    up: torch.Tensor, low: torch.Tensor, pan: torch.Tensor, pan_lr: torch.Tensor, precision: float
) -> torch.Tensor:
    """Inject the detail of one MSI band into its group: U (g, N), Y (g, n), P (N,), P0 at LR (n,) -> (g, N)."""
    mean = up.mean(1, keepdim=True)
    up0, low0, pan0 = up - mean, low - low.mean(1, keepdim=True), pan - pan.mean()
    intensity = _regress(_with_ones(low0), pan_lr, precision) @ _with_ones(up0)
    intensity0 = intensity - intensity.mean()
    variance = intensity0.square().mean()
    flat = variance.sqrt() <= FLAT * pan.abs().max()
    gain = torch.where(flat, 0.0, (up0 * intensity0).mean(1, keepdim=True) / variance)
    sharp = up + gain * (pan0 - intensity0)
    return sharp - sharp.mean(1, keepdim=True) + mean


def _regress(rows: torch.Tensor, target: torch.Tensor, precision: float) -> torch.Tensor:
    """Least squares of ``target`` (n,) on ``rows`` (k, n), the solution of smallest norm: (k,).

    Noise-free spectra have fewer dimensions than bands. A direction as weak as the rounding of the inputs
    (``precision``) or of the decomposition itself carries no signal and gets no weight.
    """
    tolerance = 4 * precision + max(rows.shape) * torch.finfo(rows.dtype).eps
    return target @ torch.linalg.pinv(rows, rtol=tolerance)


def _standardised(bands: torch.Tensor) -> torch.Tensor:
    """Bands (k, n) centred and of unit norm; constant ones become zero."""
    centred = bands - bands.mean(1, keepdim=True)
    flat = centred.square().mean(1).sqrt() <= FLAT * bands.abs().amax(1)
    return torch.where(flat[:, None], 0.0, centred / centred.norm(dim=1, keepdim=True))


def _with_ones(bands: torch.Tensor) -> torch.Tensor:
    """Bands (k, n) and a constant one below: (k + 1, n)."""
    return torch.cat([bands, torch.ones_like(bands[:1])])


def _resize(bands: torch.Tensor, size: Sequence[int], kernel: str) -> torch.Tensor:
    """:func:`resize` of one image (k, rows, columns)."""
    return resize(bands[None], size, kernel)[0]


@register(
    "gsa",
    family="classical",
    told="blind",
    paper="Aiazzi, Baronti, Selva, Improving component substitution pansharpening, IEEE TGRS 2007",
    year=2007,
    fidelity="reference",
    source="ricardoborsoi/FuVarRelease@2164cd87, utils/HSMSFusionToolbox/Methods/GS",
    note="Takes LR pixels for block centres, whatever the phase of the data.",
)
def gsa() -> GSA:
    """Build it: the images tell all it needs."""
    return GSA()
