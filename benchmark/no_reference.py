"""Judging an estimate without a reference: consistency with both observations, QNR and HQNR.

An estimate that is right, seen by the two sensors, gives the two images back (consistency), and keeps the relations
between bands and between images (QNR). Neither proves it right: upsampled noise is consistent, too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark import metrics
from methods.estimation import estimate_srf
from methods.responses import gaussian_decimate

WINDOW = 8  # side in LR pixels of the windows of QNR


def judge(estimate: Tensor, lr_hsi: Tensor, hr_msi: Tensor) -> dict[str, float]:
    """Figures that need no reference.

    Args:
        estimate: (bands, H, W).
        lr_hsi: (bands, h, w), what it was made from.
        hr_msi: (msi_bands, H, W).

    Returns:
        ``lr_rmse`` and ``lr_sam_deg``: the decimated estimate against the LR-HSI; ``msi_rmse``: seen through responses
        estimated from the pair, against the HR-MSI; ``d_lambda``, ``d_s``, ``qnr``: Alparone et al., PE&RS 74(2):193-200,
        2008, the MSI band that correlates best with each HSI band in the place of the panchromatic image; ``hqnr``: Aiazzi et
        al., Proc. SPIE 8892, 2013, which takes ``d_lambda_k`` in the place of ``d_lambda``, the spectral distortion of Khan et
        al., IEEE TGRS 47(11):3880-3891, 2009: the decimated estimate against the LR-HSI, here band by band, not by Q2n.
    """
    ratio = hr_msi.shape[-1] // lr_hsi.shape[-1]
    back, lr_msi = gaussian_decimate(estimate[None], ratio)[0], gaussian_decimate(hr_msi[None], ratio)[0]
    srf, offset = (found[0] for found in estimate_srf(lr_hsi[None], hr_msi[None]))
    seen = torch.einsum("mb,bhw->mhw", srf, estimate.double()) + offset[:, None, None]
    d_lambda = spectral_distortion(estimate, lr_hsi, ratio)
    d_lambda_k = 1 - similarity(_windows(back, WINDOW), _windows(lr_hsi, WINDOW)).diagonal().mean().item()
    d_s = spatial_distortion(estimate, lr_hsi, hr_msi, lr_msi)
    return {
        "lr_rmse": metrics.rmse(back, lr_hsi).item(), "lr_sam_deg": metrics.sam(back, lr_hsi).item(),
        "msi_rmse": metrics.rmse(seen, hr_msi).item(),
        "d_lambda": d_lambda, "d_s": d_s, "qnr": (1 - d_lambda) * (1 - d_s),
        "d_lambda_k": d_lambda_k, "hqnr": (1 - d_lambda_k) * (1 - d_s),
    }


def spectral_distortion(estimate: Tensor, lr_hsi: Tensor, ratio: int) -> float:
    """How much the similarity of each two bands has changed between the scales: mean over pairs of bands."""
    fused, low = _windows(estimate, WINDOW * ratio), _windows(lr_hsi, WINDOW)
    change = (similarity(fused, fused) - similarity(low, low)).abs()
    bands = len(estimate)
    return (change.sum() / (bands * (bands - 1))).item()  # a band equals itself: no change on the diagonal


def spatial_distortion(estimate: Tensor, lr_hsi: Tensor, hr_msi: Tensor, lr_msi: Tensor) -> float:
    """How much the similarity of each band to its MSI band has changed between the scales: mean over bands."""
    ratio = hr_msi.shape[-1] // lr_hsi.shape[-1]
    low = similarity(_windows(lr_hsi, WINDOW), _windows(lr_msi, WINDOW))
    fused = similarity(_windows(estimate, WINDOW * ratio), _windows(hr_msi, WINDOW * ratio))
    bands = len(estimate)
    owner = torch.corrcoef(torch.cat([lr_hsi, lr_msi]).flatten(1))[:bands, bands:].nan_to_num(-1).argmax(1)
    return (fused - low)[torch.arange(bands), owner].abs().mean().item()


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """Universal image quality index (Wang & Bovik, IEEE SPL 2002) of each two bands, mean over windows.

    Args:
        x: (C, windows, pixels) float64.
        y: (D, windows, pixels) float64.

    Returns:
        (C, D); windows in which both bands are constant count as equal.
    """
    x, y = x.transpose(0, 1), y.transpose(0, 1)  # (windows, C or D, pixels)
    mean_x, mean_y = x.mean(2)[:, :, None], y.mean(2)[:, None]
    covariance = x @ y.mT / x.shape[2] - mean_x * mean_y
    variances = x.var(2, correction=0)[:, :, None] + y.var(2, correction=0)[:, None]
    bottom = variances * (mean_x.square() + mean_y.square())
    return torch.where(bottom > 0, 4 * covariance * mean_x * mean_y / bottom, 1.0).mean(0)


def _windows(image: Tensor, side: int) -> Tensor:
    """(C, H, W) -> (C, count, side^2) float64, what does not fill a window left out; all of a smaller image is one."""
    side_y, side_x = (min(side, n) for n in image.shape[1:])
    windows = image.double().unfold(1, side_y, side_y).unfold(2, side_x, side_x)
    return windows.flatten(3).flatten(1, 2)
