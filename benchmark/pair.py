"""A pair of one's own: an LR-HSI and an HR-MSI in files, fused without a reference and judged by what can be judged.

    pair = load_pair("scene_hsi.mat", "scene_msi.tif")
    rows, images = fuse_pair(pair, ("fuse-blind", "hysure-blind"))

An estimate that is right, seen by the two sensors, gives the two images back (consistency), and keeps the relations
between bands and between images (QNR). Neither proves it right: upsampled noise is consistent, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmark import metrics
from benchmark.evaluate import timed
from benchmark.store import code_version
from datasets import SceneError
from datasets.io import read_all, read_native
from methods import create, fuse
from methods.estimation import ESTIMATORS, estimate_srf
from methods.responses import gaussian_decimate

RGB_NM = (650.0, 550.0, 450.0)
WINDOW = 8  # side in LR pixels of the windows of QNR


@dataclass(frozen=True)
class Pair:
    """What two sensors saw of one place, each image divided by its own largest value.

    Args:
        name: of the HSI's file.
        lr_hsi: (bands, h, w) float32, at most 1.
        hr_msi: (msi_bands, H, W) float32, at most 1.
        hsi_max: native value of 1 in ``lr_hsi``.
        wavelengths: (bands,) in nanometres; empty if the file does not tell them.
        measured: (bands, H, W), the HSI before it was decimated here; None if it was not.
    """

    name: str
    lr_hsi: Tensor
    hr_msi: Tensor
    hsi_max: float
    wavelengths: np.ndarray
    measured: Tensor | None = None

    @property
    def ratio(self) -> int:
        """HR pixels per LR pixel along one side."""
        return self.hr_msi.shape[-1] // self.lr_hsi.shape[-1]


def load_pair(hsi: str, msi: str, decimate: int = 1) -> Pair:
    """Read a pair of registered images.

    Args:
        hsi: file of the LR-HSI, or ``FILE:ARRAY`` where it holds several arrays.
        msi: the same of the HR-MSI.
        decimate: make an LR-HSI of the HSI first: a Gaussian as wide as this many pixels, then every such block.
            For sensors of equal resolution, where the HSI as measured can then be compared with.

    Raises:
        SceneError: unreadable files, values that are not finite or not positive, or sizes that do not fit.
    """
    cube, words = _read(hsi)
    image, _ = _read(msi)
    if any(side % decimate for side in cube.shape[1:]):
        raise SceneError(f"{hsi}: {cube.shape[1]}x{cube.shape[2]} pixels are not multiples of {decimate}; "
                         "choose another --decimate or crop both images")
    measured = cube / cube.max()
    lr_hsi = gaussian_decimate(measured[None], decimate)[0] if decimate > 1 else measured
    rows, columns = image.shape[1] / lr_hsi.shape[1], image.shape[2] / lr_hsi.shape[2]
    if rows != columns or rows != int(rows) or rows < 2:
        raise SceneError(
            f"an LR-HSI of {lr_hsi.shape[1]}x{lr_hsi.shape[2]} and an HR-MSI of {image.shape[1]}x{image.shape[2]} pixels: the "
            "MSI must be a whole number of times larger, 2 or more, the same along both sides. Crop or resample one of "
            "them" + ("; for sensors of equal resolution give --decimate" if rows == columns == 1 else ""))
    return Pair(Path(hsi.split(":")[0]).stem, lr_hsi, image / image.max(), float(cube.max()),
                np.asarray(words.get("wavelengths", ())), measured if decimate > 1 else None)


def _read(place: str) -> tuple[Tensor, dict[str, Any]]:
    """One image (bands, H, W) float32 and the words of its file."""
    path, _, array = place.partition(":")
    cube, words = read_native(Path(path)) if not array else (None, {})
    if array:
        arrays = read_all(Path(path))
        if array not in arrays:
            raise SceneError(f"{path}: no three-dimensional array '{array}'; choices: {', '.join(arrays) or 'none'}")
        cube = arrays[array]
    values = torch.from_numpy(np.ascontiguousarray(cube, dtype=np.float32))
    if not torch.isfinite(values).all() or values.max() <= 0:
        raise SceneError(f"{place}: values that are not finite, or none above 0; fill or cut them out first")
    return values, words


def responses(pair: Pair, estimator: str) -> dict[str, Any]:
    """Estimated ``psf``, ``srf`` and ``phase``, as :func:`methods.create` takes them.

    Raises:
        SceneError: unknown estimator.
    """
    if estimator not in ESTIMATORS:
        raise SceneError(f"unknown estimator '{estimator}'; choices: {', '.join(ESTIMATORS)}")
    found = ESTIMATORS[estimator](pair.lr_hsi[None], pair.hr_msi[None])
    return {"psf": found.psf[0], "srf": found.srf[0], "phase": found.phase}


def fuse_pair(
    pair: Pair, methods: Sequence[str], told: dict[str, Any] | None = None
) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """One row and the estimate (bands, H, W) of each method, as they come.

    Args:
        pair: the images.
        methods: registry names of methods that need no training.
        told: ``psf``, ``srf`` and ``phase`` for the methods that take them.
    """
    for name in methods:
        model = create(name, bands=len(pair.lr_hsi), msi_bands=len(pair.hr_msi), ratio=pair.ratio, **(told or {}))
        if isinstance(model, torch.nn.Module):
            raise SceneError(f"method '{name}' must be trained first; take one of the families classical or unsupervised")
        estimate, seconds = timed(partial(fuse, model, pair.lr_hsi[None], pair.hr_msi[None]))
        yield {"method": name, "pair": pair.name, "ratio": pair.ratio, **judge(estimate[0], pair), "seconds": seconds,
               **code_version()}, estimate[0]


def judge(estimate: Tensor, pair: Pair) -> dict[str, float]:
    """Figures that need no reference, and those against the measured HSI where it was decimated here.

    Args:
        estimate: (bands, H, W).
        pair: what it was made from.

    Returns:
        ``lr_rmse`` and ``lr_sam_deg``: the decimated estimate against the LR-HSI; ``msi_rmse``: seen through responses
        estimated from the pair, against the HR-MSI; ``d_lambda``, ``d_s``, ``qnr``: Alparone et al., PE&RS 74(2):193-200,
        2008, the MSI band that correlates best with each HSI band in the place of the panchromatic image;
        ``psnr_db`` and ``sam_deg`` against the HSI as measured.
    """
    back = gaussian_decimate(estimate[None], pair.ratio)[0]
    srf, offset = (found[0] for found in estimate_srf(pair.lr_hsi[None], pair.hr_msi[None]))
    seen = torch.einsum("mb,bhw->mhw", srf, estimate.double()) + offset[:, None, None]
    lr_msi = gaussian_decimate(pair.hr_msi[None], pair.ratio)[0]
    d_lambda, d_s = spectral_distortion(estimate, pair.lr_hsi, pair.ratio), spatial_distortion(estimate, pair, lr_msi)
    figures = {
        "lr_rmse": metrics.rmse(back, pair.lr_hsi).item(), "lr_sam_deg": metrics.sam(back, pair.lr_hsi).item(),
        "msi_rmse": metrics.rmse(seen, pair.hr_msi).item(),
        "d_lambda": d_lambda, "d_s": d_s, "qnr": (1 - d_lambda) * (1 - d_s),
    }
    if pair.measured is not None:
        figures |= {"psnr_db": metrics.psnr(estimate, pair.measured).item(),
                    "sam_deg": metrics.sam(estimate, pair.measured).item()}
    return figures


def spectral_distortion(estimate: Tensor, lr_hsi: Tensor, ratio: int) -> float:
    """How much the similarity of each two bands has changed between the scales: mean over pairs of bands."""
    fused, low = _windows(estimate, WINDOW * ratio), _windows(lr_hsi, WINDOW)
    change = (similarity(fused, fused) - similarity(low, low)).abs()
    bands = len(estimate)
    return (change.sum() / (bands * (bands - 1))).item()  # a band equals itself: no change on the diagonal


def spatial_distortion(estimate: Tensor, pair: Pair, lr_msi: Tensor) -> float:
    """How much the similarity of each band to its MSI band has changed between the scales: mean over bands."""
    low = similarity(_windows(pair.lr_hsi, WINDOW), _windows(lr_msi, WINDOW))
    fused = similarity(_windows(estimate, WINDOW * pair.ratio), _windows(pair.hr_msi, WINDOW * pair.ratio))
    bands = len(estimate)
    owner = torch.corrcoef(torch.cat([pair.lr_hsi, lr_msi]).flatten(1))[:bands, bands:].nan_to_num(-1).argmax(1)
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


def picture(pair: Pair, rows: Sequence[dict[str, Any]], images: Sequence[Tensor], path: Path) -> None:
    """Both images and every estimate in the same colours, with the figures of each; written as PNG."""
    bands = [int(np.abs(pair.wavelengths - nm).argmin()) for nm in RGB_NM] if len(pair.wavelengths) else [
        round(share * (len(pair.lr_hsi) - 1)) for share in (0.8, 0.5, 0.2)]
    limits = torch.stack([torch.quantile(pair.lr_hsi[band], torch.tensor([0.01, 0.99])) for band in bands])

    def colours(image: Tensor) -> np.ndarray:
        low, high = limits[:, 0, None, None], limits[:, 1, None, None]
        return ((image[bands] - low) / (high - low)).clamp(0, 1).permute(1, 2, 0).numpy()

    grey = pair.hr_msi.mean(0)
    shown = [("LR-HSI\n" + "x".join(map(str, pair.lr_hsi.shape[1:])) + " pixels", colours(pair.lr_hsi)),
             (f"HR-MSI\nmean of its {len(pair.hr_msi)} bands", (grey / torch.quantile(grey, 0.99)).clamp(0, 1).numpy())]
    shown += [("HSI as measured\n", colours(pair.measured))] if pair.measured is not None else []
    shown += [(f"{row['method']}\nQNR {row['qnr']:.3f}, {row['seconds']:.2g} s", colours(image))
              for row, image in zip(rows, images)]
    columns = min(4, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.0 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis, (title, image) in zip(axes.flat, shown):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=8)
    for axis in axes.flat:
        axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
