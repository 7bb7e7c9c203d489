"""Estimates of images that do not fit whole: what is global is computed once, then any window of the estimate is asked for.

    parts = streamed(model, lr_hsi, hr_msi)          # None: this method has no such form
    parts.window(slice(0, 64), slice(0, 64))         # (bands, 64 ratio, 64 ratio), LR rows and columns

Beside :class:`methods.gsa.GSA`, HySure and subspace ridge, which answer for a whole image at once. Here no array of the size of
the estimate is held: of each HR pixel as many numbers as the MSI has bands, and coefficients in a subspace.

Spectral statistics of an LR-HSI above :data:`SAMPLE` pixels are those of every second, third, ... row and column; responses and
noise of the MSI those of one part of that size, the one in which the MSI varies most. Up to that size all pixels count, and the
estimate equals the whole one to rounding; but for HySure, whose windows are solved one by one (``exact`` is False) and must
overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from methods.estimation import estimate_hysure, estimate_srf, ratio_of, remove_offset
from methods.gsa import FLAT, GSA, _best_correlated, _resize
from methods.hysure import HySure
from methods.resample import _weights
from methods.unmixing import principal_axes

SAMPLE = 2**16  # LR pixels that statistics are taken from
ROWS = 2**14  # pixels of a matrix that is reduced block by block
NUMBERS = 2**26  # in float64, of what is taken block by block


class Parts(NamedTuple):
    """An estimate that is made window by window.

    Args:
        window: LR rows and columns -> (bands, ratio rows, ratio columns) float32 at HR.
        exact: what it gives does not depend on where windows end; else they are to overlap.
    """

    window: Callable[[slice, slice], Tensor]
    exact: bool


def streamed(model: Any, lr_hsi: Tensor, hr_msi: Tensor) -> Parts | None:
    """The window-by-window form of a method, its coefficients computed; None where it has none.

    Args:
        model: what :func:`methods.create` returned.
        lr_hsi: (bands, h, w).
        hr_msi: (msi_bands, H, W).

    Raises:
        MethodError: what the method raises.
    """
    if not streams(model):
        return None
    ratio_of(lr_hsi, hr_msi)
    with torch.no_grad():
        if isinstance(model, GSA):
            return Parts(Sharpened(lr_hsi, hr_msi).window, True)
        if isinstance(model, HySure):
            return Parts(Tiled(model, lr_hsi, hr_msi).window, False)
        from methods import streamed_subspace

        return Parts(streamed_subspace.prepared(model, lr_hsi, hr_msi), True)


def streams(model: Any) -> bool:
    """Whether :func:`streamed` has a form of it."""
    from methods import streamed_subspace

    return isinstance(model, (GSA, HySure)) or streamed_subspace.streams(model)


def held(model: Any, bands: int, msi_bands: int, h: int, w: int, ratio: int) -> tuple[int, int, bool]:
    """What :func:`streamed` takes, estimated: bytes beside windows, bytes at each LR pixel of a window, ``exact``.

    First statistics, several times the sample in float64; then at each HR pixel float64 planes of the MSI and a few beside
    them, coefficients in float32, at each LR pixel several times these in float64; and what is taken block by block.
    """
    from methods import streamed_subspace

    high, statistics = h * w * ratio**2, 8 * 8 * min(h * w, SAMPLE) * bands
    if isinstance(model, HySure):
        return 8 * NUMBERS + statistics, 8 * (10 * model.endmembers + bands) * ratio**2, False
    if isinstance(model, GSA):
        return 8 * NUMBERS + max(statistics, 8 * (msi_bands + 5) * high), 2 * 4 * bands * ratio**2, True
    components, corrections = streamed_subspace.coefficients(model)
    components = min(components, bands)
    held_here = (4 * components + max(8 * (2 * msi_bands + 5), 4 * (2 * corrections + 2 * msi_bands))) * high
    return 8 * NUMBERS + max(statistics, held_here + 8 * 8 * components * h * w), 2 * 4 * bands * ratio**2, True


def at_hr(lr: slice, ratio: int) -> slice:
    """HR pixels of LR pixels along a side."""
    return slice(lr.start * ratio, lr.stop * ratio)


def pixels_of(lr_hsi: Tensor) -> Tensor:
    """Spectra (bands, n) float64 of (bands, h, w): all, or those of every second, third, ... row and column."""
    step = 1
    while -(-lr_hsi.shape[1] // step) * -(-lr_hsi.shape[2] // step) > SAMPLE:
        step += 1
    return lr_hsi[:, ::step, ::step].double().flatten(1)


def part_of(lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor]:
    """Both images, or of larger ones the part of :data:`SAMPLE` LR pixels in which the MSI varies most: views.

    Args:
        lr_hsi: (bands, h, w).
        hr_msi: (msi_bands, H, W).
    """
    h, w = lr_hsi.shape[1:]
    if h * w <= SAMPLE:
        return lr_hsi, hr_msi
    ratio = hr_msi.shape[2] // w
    rows = min(h, max(int(SAMPLE**0.5), SAMPLE // w))
    columns = min(w, SAMPLE // rows)
    best: tuple[float, slice, slice] | None = None
    for top in {*range(0, h - rows, max(1, rows // 2)), h - rows}:
        for left in {*range(0, w - columns, max(1, columns // 2)), w - columns}:
            place = slice(top, top + rows), slice(left, left + columns)
            seen = hr_msi[:, at_hr(place[0], ratio), at_hr(place[1], ratio)]
            varied = float((seen.flatten(1).std(1) / seen.flatten(1).mean(1).clamp(min=1e-12)).sum())
            if best is None or (varied, -top, -left) > (best[0], -best[1].start, -best[2].start):
                best = varied, *place
    assert best is not None
    return lr_hsi[:, best[1], best[2]], hr_msi[:, at_hr(best[1], ratio), at_hr(best[2], ratio)]


# ------------------------------------------------------------------------------------------------------------------- GSA


class Sharpened:
    """GSA: upsampled bands plus a gain times the detail of their MSI band.

    The intensity is upsampled like the bands that it is a combination of, so that one plane an MSI band holds all details, and
    what a band has in common with it is a sum over LR pixels, by the adjoint of upsampling.
    """

    def __init__(self, lr_hsi: Tensor, hr_msi: Tensor) -> None:
        """Coefficients of Y (bands, h, w) and (msi_bands, H, W)."""
        precision = max(torch.finfo(image.dtype).eps for image in (lr_hsi, hr_msi))
        low, high = lr_hsi.shape[1:], hr_msi.shape[1:]
        self.lr_hsi, self.ratio = lr_hsi, high[0] // low[0]
        self.lines = [_weights(n, m, "cubic") for n, m in zip(low, high)]
        rows, columns = self.lines
        lr_msi = torch.cat([_resize(band[None].double(), low, "linear") for band in hr_msi]).flatten(1)
        self.owner = torch.cat([_best_correlated(some.double().flatten(1), lr_msi) for some in lr_hsi.split(16)])
        self.gain = torch.zeros(len(lr_hsi), 1, 1, dtype=torch.float64)
        self.detail: dict[int, Tensor] = {}
        for k in self.owner.unique().tolist():
            members = (self.owner == k).nonzero()[:, 0].tolist()
            pan = hr_msi[k].double()
            largest = pan.abs().max()
            pan -= pan.mean()
            weight = regressed(lr_hsi, members, _resize(pan[None], low, "cubic")[0], precision)
            intensity = rows @ combined(lr_hsi, members, weight) @ columns.T
            intensity -= intensity.mean()
            variance = intensity.square().mean()
            if variance.sqrt() > FLAT * largest:
                back = rows.T @ intensity @ columns / intensity.numel()
                for band in members:
                    image = lr_hsi[band].double()
                    self.gain[band] = ((image - image.mean()) * back).sum() / variance
            self.detail[k] = pan.sub_(intensity)

    def window(self, rows: slice, columns: slice) -> Tensor:
        """As :class:`Parts` says."""
        high = at_hr(rows, self.ratio), at_hr(columns, self.ratio)
        (up, low_rows), (across, low_columns) = (_needed(line[at]) for line, at in zip(self.lines, high))
        found = torch.empty(len(self.lr_hsi), len(up), len(across), dtype=self.lr_hsi.dtype)
        for band, image in enumerate(self.lr_hsi):
            detail = self.detail[int(self.owner[band])][high]
            found[band] = torch.addcmul(up @ image[low_rows, low_columns].double() @ across.T, self.gain[band], detail)
        return found


def _needed(line: Tensor) -> tuple[Tensor, slice]:
    """The columns of a matrix (n, m) that hold anything, from the first to the last; and which they are."""
    held = line.any(0).nonzero()
    place = slice(int(held[0]), int(held[-1]) + 1)
    return line[:, place], place


def combined(lr_hsi: Tensor, members: list[int], weight: Tensor) -> Tensor:
    """Sum (h, w) float64 of some bands of (bands, h, w), weighted (len(members),)."""
    total = torch.zeros(lr_hsi.shape[1:], dtype=torch.float64)
    for each, band in zip(weight, members):
        total.add_(lr_hsi[band].double(), alpha=float(each))
    return total


def regressed(lr_hsi: Tensor, members: list[int], target: Tensor, precision: float) -> Tensor:
    """:func:`methods.gsa._regress` of a target (h, w) on some bands, centred, and a constant: their weights.

    By the triangular factor, which blocks of pixels are added to, in the place of all pixels.
    """
    flat, aim = lr_hsi.flatten(1), target.flatten()
    mean = torch.stack([flat[band].double().mean() for band in members])
    factor = flat.new_zeros(0, len(members) + 2, dtype=torch.float64)
    for first in range(0, len(aim), ROWS):
        some = flat[members, first : first + ROWS].double() - mean[:, None]
        block = torch.cat([some, torch.ones_like(some[:1]), aim[None, first : first + ROWS]]).T
        factor = torch.linalg.qr(torch.cat([factor, block]), mode="r").R
    tolerance = 4 * precision + max(len(members) + 1, len(aim)) * torch.finfo(torch.float64).eps
    return (factor[:, -1] @ torch.linalg.pinv(factor[:, :-1].T, rtol=tolerance))[:-1]


# ---------------------------------------------------------------------------------------------------------------- HySure


class Tiled:
    """HySure: basis and responses of the whole image; coefficients by ADMM on each window, whose borders are circular.

    As :meth:`methods.hysure.HySure._blind` and ``_minimise``, which hold several estimates at a time.
    """

    def __init__(self, model: HySure, lr_hsi: Tensor, hr_msi: Tensor) -> None:
        """Basis and responses of Y (bands, h, w), Z (msi_bands, H, W)."""
        self.model, self.lr_hsi, self.hr_msi = model, lr_hsi, hr_msi
        self.ratio, self.offset, self.scale = ratio_of(lr_hsi, hr_msi), None, 1.0
        pixels = pixels_of(lr_hsi)
        if model.known is not None:
            self.psf, srf, self.phase = model.known.psf.double(), model.known.srf.double(), model.known.phase
        else:
            y, z = (image[None].double() for image in part_of(lr_hsi, hr_msi))
            found = estimate_hysure(y, z, endmembers=model.endmembers)
            self.psf, self.phase = found.psf[0], found.phase
            if not model.aligned:
                self.psf = self.psf.flip(0, 1)
                self.psf = pad(self.psf, (2, 0, 2, 0)) if self.ratio % 2 == 0 else self.psf
            (srf,), self.offset = estimate_srf(y, z)
            self.scale = float(lr_hsi.max())
        basis = model._basis(pixels / self.scale)
        left, self.singular, right = torch.linalg.svd(srf @ basis)
        self.basis, self.seen = basis @ right.T, left[:, : len(self.singular)]
        self.matrix = self.scale * self.basis
        if model.known is None:
            axes = principal_axes(pixels, min(model.endmembers, len(lr_hsi)))
            self.matrix = axes @ (axes.T @ self.matrix)

    def window(self, rows: slice, columns: slice) -> Tensor:
        """As :class:`Parts` says."""
        y = self.lr_hsi[:, rows, columns].double() / self.scale
        z = self.hr_msi[:, at_hr(rows, self.ratio), at_hr(columns, self.ratio)].double()
        if self.offset is not None:
            z = remove_offset(z[None], self.offset)[0] / self.scale
        msi = torch.einsum("mk,mxy->kxy", self.seen, z.roll((-self.phase, -self.phase), (1, 2)))
        found = self.model._coefficients(y, msi, self.basis, self.singular, self.psf)
        found = found.roll((self.phase, self.phase), (1, 2)).flatten(1)
        image = torch.empty(len(y), *msi.shape[1:], dtype=self.lr_hsi.dtype)
        for bands, weights in zip(image.flatten(1).split(16), self.matrix.split(16)):
            bands.copy_(weights @ found)
        return image
