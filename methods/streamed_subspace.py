"""Subspace ridge and the networks that correct it, of images that do not fit whole: see :mod:`methods.streamed`.

The estimate is ``mean + A u`` with u the coefficients at HR (:class:`Ridge`), and of a network ``+ E e d`` with d its
correction (:class:`Corrected`). u solves the system of :mod:`methods.subspace_ridge` component by component, d that of
:mod:`methods.data_consistency`: systems of LR pixels, so that at HR a component or a strip at a time is held in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from scipy.fft import dctn, idctn
from torch import Tensor
from torch.nn.functional import pad

from methods.data_consistency import CORRELATION, LEAST_ERROR, LEAST_LEVEL, LEAST_NOISE
from methods.estimation import ESTIMATORS
from methods.levels import TINY, msi_noise, principal_components
from methods.responses import Told
from methods.s3rnet_subspace import PACE, Unrolled
from methods.separable import Blur, conjugate_gradients, dct_matrix
from methods.streamed import at_hr, part_of, pixels_of
from methods.subspace_ridge import (
    LR_FLOOR,
    MSI_FLOOR,
    SLOPE_FLOOR,
    SubspaceRidge,
    coordinates,
    detail_covariance,
    local_regression,
    power_law,
    subspace_ridge,
)
from methods.windows import layout, reach, with_margin

NUMBERS = 2**24  # of one block in float64
PIXELS = 2**18  # of one of (K, n) in float32
SIDE = 64  # of a window of a network, in LR pixels


def streams(model: Any) -> bool:
    """Whether :func:`prepared` has a form of it."""
    return isinstance(model, SubspaceRidge) or (isinstance(model, Unrolled) and model.anchor == "subspace-ridge")


def coefficients(model: SubspaceRidge | Unrolled) -> tuple[int, int]:
    """Coefficients at each HR pixel, at most: of subspace ridge, and of what a network corrects."""
    if isinstance(model, SubspaceRidge):
        return model.components, 0
    return subspace_ridge(mode="blind").components, model.components


def prepared(model: Any, lr_hsi: Tensor, hr_msi: Tensor) -> Callable[[slice, slice], Tensor]:
    """``window`` of :class:`methods.streamed.Parts`, coefficients computed."""
    if isinstance(model, SubspaceRidge):
        return Ridge(model, lr_hsi, hr_msi).window
    return Corrected(model, lr_hsi, hr_msi).window


class Ridge:
    """Coefficients of subspace ridge.

    Attributes:
        blur: B of the whole image.
        components: mean spectrum, axes, variances, rank and s2 of Y.
        low: E' (Y - mu), (p, h, w).
        z: Z - R mu, (msi_bands, H, W) float64.
        srf, level: R, and the variance of the white noise in Z.
        t, left: T (p, p), and the variance (p,) that both images leave of u.
        u: (p, H, W) float32.
        matrix: A (bands, p).
    """

    def __init__(self, model: SubspaceRidge, lr_hsi: Tensor, hr_msi: Tensor) -> None:
        """Of Y (bands, h, w), Z (msi_bands, H, W)."""
        self.ratio = hr_msi.shape[2] // lr_hsi.shape[2]
        self._look(model, lr_hsi, hr_msi)
        mean, axes, variances, rank, noise = self.components
        basis, rest = axes[:, :rank], self.srf @ axes[:, rank:]
        q = self.level * torch.eye(len(self.z)).to(self.z) + (rest * variances[rank:]) @ rest.T
        self.low = torch.cat([torch.einsum("bp,bxy->pxy", basis, some.double() - mean[..., None])
                              for some in lr_hsi.split(strip(len(lr_hsi), lr_hsi.shape[2]), 1)], 1)
        self._solve(model, self.srf @ basis, q, noise)
        self.matrix, self.dtype = basis @ self.t, lr_hsi.dtype

    def _look(self, model: SubspaceRidge, lr_hsi: Tensor, hr_msi: Tensor) -> None:
        """As :meth:`methods.subspace_ridge.SubspaceRidge.look`, from what :mod:`methods.streamed` says of statistics."""
        y, z = (image.double() for image in part_of(lr_hsi, hr_msi))
        offset = torch.zeros(len(z), dtype=torch.float64)
        if model.known is None:
            found = ESTIMATORS[model.estimator](y[None], z[None])
            told, offset = Told(found.psf[0], found.srf[0], found.phase), found.offset[0]
        else:
            told = Told(model.known.psf.double(), model.known.srf.double(), model.known.phase)
        self.srf, self.blur = told.srf, Blur.of(told.psf, hr_msi.shape[1:], self.ratio, told.phase)
        # LR rows that a PSF reaches.
        self.reach = -(-(len(told.psf) + told.phase) // self.ratio)
        self.components = principal_components(pixels_of(lr_hsi), model.components)
        mean = self.components.mean
        apart = (offset[:, None] + told.srf @ mean)[..., None]
        own = self.blur if z.shape == hr_msi.shape else Blur.of(told.psf, z.shape[1:], self.ratio, told.phase)
        z = z - apart
        self.level = max(msi_noise(y - mean[..., None], z, told.srf, own, self.components.noise),
                         MSI_FLOOR * float(z.square().mean()), TINY)
        self.z = z if z.shape == hr_msi.shape else hr_msi.double().sub_(apart)

    def _solve(self, model: SubspaceRidge, seen: Tensor, q: Tensor, noise: float) -> None:
        """As :meth:`methods.subspace_ridge.SubspaceRidge._map`, a component at a time."""
        blur, z = self.blur, self.z
        spectral = blur.after(dct_matrix(z, 1), dct_matrix(z, 2))
        prior = power_law(z)
        self.t, inverse, gain, turn = coordinates(detail_covariance(self.low, noise, spectral, prior), seen, q)
        low = torch.einsum("kp,pxy->kxy", inverse, self.low)
        count, known = len(low), len(gain)

        def variance(k: int) -> Tensor:
            return prior / (1 + gain[k].square() * prior) if k < known else prior

        self.u = torch.empty(count, *z.shape[1:])
        mean = torch.empty(known, *z.shape[1:], dtype=z.dtype)
        for k in range(known):
            spectrum = _dct(torch.einsum("m,mxy->xy", turn[k], z))
            mean[k] = _inverse_dct(spectrum.mul_(gain[k]).mul_(variance(k)))
        free = spectral.diagonal(prior[None])
        passed = torch.cat([spectral.diagonal(variance(k)[None]) for k in range(known)]
                           + [free.expand(count - known, -1, -1)])
        spread = torch.stack([variance(k).mean() for k in range(known)] + [prior.mean()] * (count - known)).mean()
        white = noise * inverse @ inverse.T + LR_FLOOR * float(spread) * torch.eye(count).to(low)
        self.u[:known] = mean
        if model.window and count > known:
            ridge = (white.diagonal()[known:] + SLOPE_FLOOR * free.flatten()[1:].mean()) / model.slope
            self._regress(mean, low, model.window, ridge)
        else:
            self.u[known:] = 0
        del mean

        def system(x: Tensor) -> Tensor:
            return torch.cat([spectral(spectral.adjoint(x[k : k + 1]).mul_(variance(k))) for k in range(count)]) \
                + torch.einsum("kp,pxy->kxy", white, x)

        here = dct_matrix(low, 1), dct_matrix(low, 2)
        flat = passed.flatten(1).T

        def solve(images: Tensor) -> Tensor:
            spectrum = (here[0] @ images @ here[1].T).flatten(1).T
            found = solved(lambda some: torch.diag_embed(flat[some]) + white, spectrum)
            return here[0].T @ found.T.unflatten(1, images.shape[1:]) @ here[1]

        target = low - torch.cat([blur(plane[None].double()) for plane in self.u])
        x = conjugate_gradients(system, solve, target, model.tolerance, model.iterations)
        h, w = low.shape[1:]
        first = spectral.rows[0].diagonal()[:, None].square() * spectral.columns[0].diagonal().square()
        left = []
        for k in range(count):
            its = variance(k)
            self.u[k] += _inverse_dct(spectral.adjoint(x[k : k + 1]).mul_(its)[0]).float()
            met = (its[:h, :w].square() * first / (passed[k] + white[k, k])).sum() / its.numel()
            left.append(its.mean() - met)
        self.left = torch.stack(left)

    def _regress(self, mean: Tensor, low: Tensor, window: int, ridge: Tensor) -> None:
        """The details of the coordinates that the MSI does not see into u, in strips of rows and some at a time."""
        known, (h, w) = len(mean), low.shape[1:]
        margin = 2 * (window // 2) + 2 + self.reach
        some = max(1, min(len(ridge), NUMBERS // (known * (SIDE // 2 + 2 * margin) * w * self.ratio**2)))
        for top in range(0, h, SIDE // 2):
            wide = slice(max(0, top - margin), min(h, top + SIDE // 2 + margin))
            high = at_hr(wide, self.ratio)
            blur = Blur(self.blur.rows[:, wide, high], self.blur.columns)
            kept = slice((top - wide.start) * self.ratio, (min(h, top + SIDE // 2) - wide.start) * self.ratio)
            place = at_hr(slice(top, min(h, top + SIDE // 2)), self.ratio)
            for first in range(0, len(ridge), some):
                their = slice(known + first, known + min(len(ridge), first + some))
                targets = torch.cat([low[:known, wide], low[their, wide]])
                found = local_regression(mean[:, high], targets, blur, window, ridge[first : first + some])
                self.u[their, place] = found[:, kept].float()

    def window(self, rows: slice, columns: slice) -> Tensor:
        """As :class:`methods.streamed.Parts` says."""
        return mixed([(self.matrix, self.u)], self.components.mean, at_hr(rows, self.ratio), at_hr(columns, self.ratio),
                     self.dtype)


class Corrected:
    """Correction d (K, H, W) float32 of a network.

    As :meth:`methods.s3rnet_subspace.Unrolled._pair` and :func:`methods.data_consistency.view` find it; the names are theirs.
    """

    def __init__(self, model: Unrolled, lr_hsi: Tensor, hr_msi: Tensor) -> None:
        """Of Y (bands, h, w), Z (msi_bands, H, W)."""
        told = model.told._asdict() if model.told else {"mode": "blind", "estimator": model.estimator}
        ridge = subspace_ridge(**told)
        self.ridge = held = Ridge(ridge, lr_hsi.float(), hr_msi.float())
        _, axes, variances, rank, noise = held.components
        total, kept = model.components, min(model.components, rank)
        blur, z = held.blur, held.z
        self.blur = Blur(*(each.float() for each in blur))
        basis, coordinates_of = axes[:, :kept], held.t[:kept]  # E' A = T
        covariance = ((held.t * held.left) @ held.t.T)[:kept, :kept]
        moments = torch.zeros(kept, dtype=torch.float64)
        low = torch.empty(kept, *lr_hsi.shape[1:], dtype=torch.float64)  # of x0
        for k in range(kept):
            plane = (coordinates_of[k].float() @ held.u.flatten(1)).unflatten(0, z.shape[1:]).double()
            moments[k], low[k] = plane.square().mean(), blur(plane[None])[0]
        deviation = moments.sqrt().clamp(min=1e-6 * float(variances[0].sqrt()) + 1e-12)
        error = torch.maximum(covariance.diagonal().clamp(min=0).sqrt(), LEAST_ERROR * deviation)
        correlation = CORRELATION * covariance / (error[:, None] * error)
        prior = torch.linalg.inv(correlation - correlation.diagonal().diag() + torch.eye(kept).to(error))
        innovation, through = z.clone(), held.srf @ held.matrix
        for band, weights in zip(innovation, through):
            band -= (weights.float() @ held.u.flatten(1)).unflatten(0, band.shape)
        low_rest = (held.low[:kept] - low) / error[:, None, None]
        least = torch.tensor(max(held.level, LEAST_LEVEL * float(z.square().mean()))).to(z)
        part, rest = held.srf @ (basis * error), held.srf @ axes[:, kept:]
        q = torch.maximum(least, innovation.square().mean((1, 2))).diag() + (rest * variances[kept:]) @ rest.T
        low_noise = torch.maximum((noise / error.square()).clamp(min=LEAST_NOISE), low_rest.square().mean((1, 2)))
        weighted, whole = torch.linalg.solve(q, part), held.srf @ (basis * deviation)
        level = torch.stack([variances.new_tensor(noise) / variances.sum(), held.level / z.square().mean()])
        level = level.clamp(min=1e-8).log10() / 4 + 1
        free = total - kept
        self.innovation, self.weighted = innovation.float(), pad(weighted, (0, free))
        self.gram = pad(part.T @ weighted, (0, free, 0, free))
        self.prior = torch.block_diag(prior, torch.eye(free).to(prior))
        self.noise = pad(low_noise, (0, free), value=1.0).float().double()
        self.low_rest = pad(low_rest, (0, 0, 0, 0, 0, free)).float()
        row_values, row_modes = torch.linalg.eigh(blur.rows[0] @ blur.rows[0].T)
        column_values, column_modes = torch.linalg.eigh(blur.columns[0] @ blur.columns[0].T)
        self.modes = row_modes.float(), column_modes.float()
        self.passed = (row_values.clamp(min=0).float()[:, None] * column_values.clamp(min=0).float()).flatten().double()
        levels = torch.cat([pad((error / deviation).log10(), (0, free)), level]).float()

        # What a stage sees, as combinations of u and of Z.
        low = pad(held.low[:kept] / deviation[:, None, None], (0, 0, 0, 0, 0, free)).float()
        start = pad(coordinates_of / deviation[:, None], (0, 0, 0, free)).float()
        high = pad(whole.T @ torch.linalg.inv(whole @ whole.T + q), (0, 0, 0, free)).float()
        share = pad(error / deviation, (0, free)).float()
        held.z = z.float()  # half of it
        del z, innovation
        self.axes, self.d = pad(basis * error, (0, free)), torch.zeros(total, *hr_msi.shape[1:])
        seen = levels if model.noise_aware else torch.zeros_like(levels)
        for number, stage in enumerate(model.stages):
            self.d = self._learned(stage, low, start, high, share, seen)
            weight = (PACE * (model.weight[number] + (model.weight_by_level[number] * levels[-2:]).sum(1))).exp()
            self._agree(weight)

    def _learned(self, stage: torch.nn.Module, low: Tensor, start: Tensor, high: Tensor, share: Tensor,
                 levels: Tensor) -> Tensor:
        """The d before and what a stage adds to it, in windows with the margin that it sees."""
        ratio, (h, w) = self.ridge.ratio, low.shape[1:]
        cut = reach(lambda y, z: stage(y, z, levels)[0], len(low), 2 * len(low), ratio) if h * w > SIDE**2 else None
        windows = layout((h, w), SIDE, align=cut.stride) if cut else [(slice(0, h), slice(0, w))]
        found = self.d.clone()
        for window in windows:
            wide, inner = with_margin(window, (h, w), cut.margin if cut else 0)
            outer = tuple(at_hr(each, ratio) for each in wide)
            u, d, z = (each[(slice(None), *outer)] for each in (self.ridge.u, self.d, self.ridge.z))
            now = torch.einsum("kp,pxy->kxy", start, u) + share[:, None, None] * d
            image = torch.cat((now, torch.einsum("km,mxy->kxy", high, z)))[None]
            out = stage(low[(slice(None), *wide)][None], image, levels)[0][0]
            place = (slice(None), *(at_hr(at, ratio) for at in window))
            found[place] += out[(slice(None), *(at_hr(at, ratio) for at in inner))]
        return found

    def _agree(self, weight: Tensor) -> None:
        """The d next to that which a stage gave, in its place: as :func:`methods.data_consistency.consistent`."""
        root = weight.double().sqrt()
        pull = root[:, None] * self.prior * root
        p = torch.linalg.inv(pull + self.gram)
        # It is positive definite, by rounding perhaps not.
        if torch.linalg.cholesky_ex(p)[1]:
            p = torch.cholesky_inverse(torch.linalg.cholesky(pull + self.gram))
        spread, kept = p.float(), (p @ pull).float()
        of_msi = (p @ self.weighted.T).float()
        for d, z in zip(self.d.flatten(1).split(PIXELS, 1), self.innovation.flatten(1).split(PIXELS, 1)):
            d.copy_(kept @ d + of_msi @ z)
        target = self.low_rest - torch.cat([self.blur(plane[None]) for plane in self.d])
        rows, columns = self.modes

        def solve(image: Tensor) -> Tensor:
            modes = (rows.T @ image @ columns).flatten(1).T.double()
            found = solved(lambda some: self.passed[some, None, None] * p + self.noise.diag(), modes).float()
            return rows @ found.T.unflatten(1, image.shape[1:]) @ columns.T

        def system(image: Tensor) -> Tensor:
            seen = torch.cat([self.blur(self.blur.adjoint(plane[None])) for plane in image])
            return torch.einsum("kj,jxy->kxy", spread, seen) + self.noise.float()[:, None, None] * image

        x = solve(target) if len(self.blur.rows) == 1 else conjugate_gradients(system, solve, target, 1e-4, 20)
        for d, plane in zip(self.d, torch.einsum("kj,jxy->kxy", spread, x)):
            d += self.blur.adjoint(plane[None])[0]

    def window(self, rows: slice, columns: slice) -> Tensor:
        """As :class:`methods.streamed.Parts` says."""
        held = self.ridge
        return mixed([(held.matrix, held.u), (self.axes, self.d)], held.components.mean, at_hr(rows, held.ratio),
                     at_hr(columns, held.ratio), held.dtype)


def mixed(terms: list[tuple[Tensor, Tensor]], mean: Tensor, rows: slice, columns: slice, dtype: torch.dtype) -> Tensor:
    """``mean + sum of A u`` at HR rows and columns: (bands, 1), (bands, p) and (p, H, W) each -> (bands, ., .)."""
    images = [u[:, rows, columns] for _, u in terms]
    found = torch.empty(len(mean), *images[0].shape[1:], dtype=dtype)
    wide = strip(len(mean) + sum(len(image) for image in images), found.shape[2])
    for top in range(0, found.shape[1], wide):
        at = slice(top, top + wide)
        image = sum(torch.einsum("bp,pxy->bxy", matrix, its[:, at].double()) for (matrix, _), its in zip(terms, images))
        found[:, at] = image + mean[..., None]
    return found


def _dct(plane: Tensor) -> Tensor:
    """Orthonormal DCT-II of (H, W): what :func:`methods.separable.dct_matrix` gives, by FFTs."""
    return torch.from_numpy(dctn(plane.numpy(), norm="ortho"))


def _inverse_dct(spectrum: Tensor) -> Tensor:
    return torch.from_numpy(idctn(spectrum.numpy(), norm="ortho"))


def strip(channels: int, width: int) -> int:
    """How many rows of images (channels, ., width) are taken at a time."""
    return max(1, NUMBERS // (channels * width))


def solved(matrices: Callable[[slice], Tensor], vectors: Tensor) -> Tensor:
    """``matrices[i] x[i] = vectors[i]`` (n, k), positive definite, some at a time."""
    size = max(1, NUMBERS // vectors.shape[1] ** 2)
    found = torch.empty_like(vectors)
    for first in range(0, len(vectors), size):
        some = slice(first, first + size)
        found[some] = torch.cholesky_solve(vectors[some, :, None], torch.linalg.cholesky(matrices(some)))[..., 0]
    return found
