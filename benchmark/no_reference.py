"""Judging an estimate without a reference: consistency with both observations, QNR and HQNR.

An estimate that is right, seen by the two sensors, gives the two images back (consistency), and keeps the relations
between bands and between images (QNR). Neither proves it right: upsampled noise is consistent, too.

All figures are means over pixels or windows, so that an estimate is read once, some rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from benchmark import metrics
from methods.estimation import estimate_srf
from methods.responses import gaussian_decimate
from methods.streamed import part_of

WINDOW = 8  # side in LR pixels of the windows of QNR
FRAME = 2  # LR rows around a strip, so that decimation sees what it sees in the whole image


class Image(Protocol):
    """(bands, H, W): a tensor, or what lies on a disk and is read by rows, ``image[:, 64:128]``."""

    @property
    def shape(self) -> torch.Size | tuple[int, ...]: ...  # noqa: D102

    def __getitem__(self, place: tuple[slice, slice], /) -> Tensor: ...


class Judge:
    """What a pair says of every estimate of it: computed once."""

    def __init__(self, lr_hsi: Tensor, hr_msi: Tensor) -> None:
        """A judge of estimates of one pair.

        Args:
            lr_hsi: (bands, h, w), what they are made from.
            hr_msi: (msi_bands, H, W).
        """
        self.lr_hsi, self.hr_msi = lr_hsi, hr_msi
        self.ratio = hr_msi.shape[-1] // lr_hsi.shape[-1]
        self.lr_msi = torch.cat([gaussian_decimate(band[None, None], self.ratio)[0] for band in hr_msi])
        self.srf, self.offset = (found[0] for found in estimate_srf(*(each[None] for each in part_of(lr_hsi, hr_msi))))
        self.owner = torch.corrcoef(torch.cat([lr_hsi, self.lr_msi]).flatten(1))[: len(lr_hsi), len(lr_hsi) :].nan_to_num(
            -1).argmax(1)
        pairs = [(similarity(low, low), similarity(low, msi)) for low, msi in
                 ((_windows(lr_hsi[:, at], WINDOW), _windows(self.lr_msi[:, at], WINDOW)) for at in self._filled())]
        self.low, self.low_msi = (sum(each) / len(pairs) for each in zip(*pairs))

    def _filled(self) -> Iterator[slice]:
        """LR rows that windows fill, one row of windows at a time."""
        h = self.lr_hsi.shape[1]
        side = min(WINDOW, h)
        yield from (slice(top, top + side) for top in range(0, h - side + 1, side))

    def __call__(self, estimate: Image, measured: Tensor | None = None) -> dict[str, float]:
        """The figures of :func:`judge`, of an estimate that is read once.

        Args:
            estimate: (bands, H, W).
            measured: (bands, H, W), the image itself where it is there; then also ``psnr_db`` and ``sam_deg``.
        """
        h, ratio, bands = self.lr_hsi.shape[1], self.ratio, len(self.lr_hsi)
        side = min(WINDOW, h)
        total = dict.fromkeys(("back", "angle", "seen", "msi", "own", "true", "true_angle", "fused"), torch.zeros(1).double())
        count = 0
        for top in range(0, h, side):
            at = slice(top, min(top + side, h))
            high = slice(at.start * ratio, at.stop * ratio)
            wide = slice(max(0, at.start - FRAME), min(h, at.stop + FRAME))
            image = estimate[:, wide.start * ratio : wide.stop * ratio]
            back = torch.cat([gaussian_decimate(some[None], ratio)[0] for some in image.split(16)])
            back = back[:, at.start - wide.start : at.stop - wide.start]
            image = image[:, (at.start - wide.start) * ratio : (at.stop - wide.start) * ratio]
            low, msi, rows = self.lr_hsi[:, at], self.hr_msi[:, high], at.stop - at.start
            seen = self.offset[:, None, None].expand(msi.shape).clone()
            for weight, band in zip(self.srf.T, image):
                seen += weight[:, None, None] * band.double()
            parts = {"back": metrics.band_errors(back, low).mse * rows, "angle": metrics.sam(back, low) * rows,
                     "seen": metrics.band_errors(seen, msi.double()).mse * rows}
            if measured is not None:
                parts |= {"true": metrics.band_errors(image, measured[:, high]).mse * rows,
                          "true_angle": metrics.sam(image, measured[:, high]) * rows}
            if rows == side:
                fused, windows = _windows(image, WINDOW * ratio), _windows(low, WINDOW)
                parts |= {"fused": similarity(fused, fused), "msi": similarity(fused, _windows(msi, WINDOW * ratio)),
                          "own": similarity(_windows(back, WINDOW), windows).diagonal()}
                count += 1
            total |= {key: total[key] + value for key, value in parts.items()}
        d_lambda = spectral_distortion(total["fused"] / count, self.low)
        d_s = (total["msi"] / count - self.low_msi)[torch.arange(bands), self.owner].abs().mean().item()
        d_lambda_k = 1 - (total["own"] / count).mean().item()
        found = {
            "lr_rmse": (total["back"] / h).mean().sqrt().item(), "lr_sam_deg": (total["angle"] / h).mean().item(),
            "msi_rmse": (total["seen"] / h).mean().sqrt().item(),
            "d_lambda": d_lambda, "d_s": d_s, "qnr": (1 - d_lambda) * (1 - d_s),
            "d_lambda_k": d_lambda_k, "hqnr": (1 - d_lambda_k) * (1 - d_s),
        }
        if measured is not None:
            errors = metrics.BandErrors(total["true"] / h, measured.amax((1, 2)).double(), measured.double().mean((1, 2)))
            found |= {"psnr_db": metrics.psnr(measured, measured, errors=errors).item(),
                      "sam_deg": (total["true_angle"] / h).mean().item()}
        return found


def judge(estimate: Image, lr_hsi: Tensor, hr_msi: Tensor) -> dict[str, float]:
    """Figures that need no reference.

    Args:
        estimate: (bands, H, W).
        lr_hsi: (bands, h, w), what it was made from.
        hr_msi: (msi_bands, H, W).

    Returns:
        ``lr_rmse`` and ``lr_sam_deg``: the decimated estimate against the LR-HSI; ``msi_rmse``: seen through responses
        estimated from the pair (above 2^16 LR pixels, from a part of it), against the HR-MSI; ``d_lambda``, ``d_s``, ``qnr``:
        Alparone et al., PE&RS 74(2):193-200, 2008, the MSI band that correlates best with each HSI band in the place of the
        panchromatic image; ``hqnr``: Aiazzi et al., Proc. SPIE 8892, 2013, which takes ``d_lambda_k`` in the place of
        ``d_lambda``, the spectral distortion of Khan et al., IEEE TGRS 47(11):3880-3891, 2009: the decimated estimate against
        the LR-HSI, here band by band, not by Q2n.
    """
    return Judge(lr_hsi, hr_msi)(estimate)


def spectral_distortion(fused: Tensor, low: Tensor) -> float:
    """How much the similarity (bands, bands) of each two bands has changed between the scales: mean over pairs of bands."""
    bands = len(fused)
    return ((fused - low).abs().sum() / (bands * (bands - 1))).item()  # a band equals itself: no change on the diagonal


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
