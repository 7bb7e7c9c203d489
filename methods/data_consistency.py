"""Data consistency in the image's own subspace: a correction of an anchor that agrees with both images, in closed form.

Y LR-HSI, Z HR-MSI, R srf, B blur and decimation, x0 the anchor, E principal axes of Y (bands, K), S the covariance that the
anchor expects of its error along them, e = sqrt(diag S). What is sought is the error d (K, H, W) in its own units:

    x = x0 + E e d,    Y - B x0 = B E e d + noise of variance s2,    Z - R x0 = R E e d + noise of covariance Q.

:func:`view` brings a pair into these terms, :func:`consistent` solves them for a d next to a given one. Ours; model and anchor
are those of :mod:`methods.subspace_ridge`, taking turns with a network is from Zhang, van Gool, Timofte, CVPR 2020 (USRNet).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.estimation import ratio_of
from methods.responses import Told
from methods.separable import Blur, conjugate_gradients
from methods.subspace_ridge import subspace_ridge

ANCHORS = ("subspace-ridge", "bicubic")
LEAST_NOISE = 1e-4  # s2 in parts of S: the model itself is not more exact than that
LEAST_LEVEL = 1e-6  # Q in parts of the power of the MSI
LEAST_ERROR = 1e-3  # e in parts of the deviation of a component
CORRELATION = 0.9  # of S off its diagonal that counts: it is an expectation


class View(NamedTuple):
    """A pair as the network sees it; float32, without gradients.

    Args:
        anchor: x0, (bands, H, W).
        axes: E e, (bands, K); zero beyond the rank of Y.
        start: components of x0 in deviations of each, (1, K, H, W).
        share: e in deviations of each component, (K,).
        low: components of Y, (1, K, h, w).
        high: those that Z alone makes probable, (1, K, H, W).
        levels: logarithms of ``share``, and of the noise levels of both images, (K + 2,).
        low_rest: E' (Y - B x0) / e, (K, h, w).
        msi_rest: e E' R' Q^-1 (Z - R x0), (K, H, W).
        gram: e E' R' Q^-1 R E e, (K, K) float64.
        prior: e S^-1 e, (K, K) float64.
        noise: s2 / e^2, (K,).
        blur: B.
        modes: eigenvectors and eigenvalues of B B' along rows and columns, of its first term.
    """

    anchor: Tensor
    axes: Tensor
    start: Tensor
    share: Tensor
    low: Tensor
    high: Tensor
    levels: Tensor
    low_rest: Tensor
    msi_rest: Tensor
    gram: Tensor
    prior: Tensor
    noise: Tensor
    blur: Blur
    modes: tuple[Tensor, Tensor, Tensor, Tensor]


@torch.no_grad()
def view(y: Tensor, z: Tensor, told: Told | None, components: int, anchor: str, estimator: str) -> View:
    """Of one pair.

    Args:
        y: Y (bands, h, w).
        z: Z (msi_bands, H, W).
        told: the sensors' responses; None: estimated from the pair.
        components: K.
        anchor: one of :data:`ANCHORS`.
        estimator: of responses that are not told, one of :data:`methods.estimation.ESTIMATORS`.

    Raises:
        MethodError: sizes that do not match, or what the estimator raises.
    """
    ridge = subspace_ridge(**told._asdict()) if told else subspace_ridge(mode="blind", estimator=estimator)
    seen = ridge.look(y.double(), z.double(), ratio_of(y, z))
    mean, axes, variances, rank, noise = seen.components
    kept = min(components, rank)
    if anchor == "bicubic":
        x0, covariance = F.interpolate(y[None].double(), size=z.shape[1:], mode="bicubic")[0], variances[:kept].diag()
    else:
        x0, covariance = ridge.fused(seen)
    centred = x0 - mean[..., None]
    coefficients = torch.einsum("bk,bxy->kxy", axes[:, :kept], centred)
    deviation = coefficients.square().mean((1, 2)).sqrt().clamp(min=1e-6 * float(variances[0].sqrt()) + 1e-12)
    error = torch.maximum(covariance[:kept, :kept].diagonal().clamp(min=0).sqrt(), LEAST_ERROR * deviation)
    correlation = CORRELATION * covariance[:kept, :kept] / (error[:, None] * error)
    prior = torch.linalg.inv(correlation - correlation.diagonal().diag() + torch.eye(kept).to(error))

    def padded(vector: Tensor, value: float = 0.0) -> Tensor:
        return F.pad(vector, (0, components - kept), value=value)

    def images(components_of: Tensor) -> Tensor:
        return F.pad(components_of, (0, 0, 0, 0, 0, components - kept)).to(y)

    basis = axes[:, :kept]
    innovation = seen.z - torch.einsum("mb,bxy->mxy", seen.srf, centred)
    low_rest = torch.einsum("bk,bxy->kxy", basis / error, seen.low - seen.blur(centred))
    # Where the anchor misses an image by more than its noise, the model does not fit, such as for images that are shifted.
    least = torch.tensor(max(seen.level, LEAST_LEVEL * float(seen.z.square().mean()))).to(innovation)
    part, rest = seen.srf @ (basis * error), seen.srf @ axes[:, kept:]
    # What lies beyond the components is noise to them.
    q = torch.maximum(least, innovation.square().mean((1, 2))).diag() + (rest * variances[kept:]) @ rest.T
    low_noise = torch.maximum((noise / error.square()).clamp(min=LEAST_NOISE), low_rest.square().mean((1, 2)))
    weighted = torch.linalg.solve(q, part)
    whole = seen.srf @ (basis * deviation)
    high = torch.einsum("km,mxy->kxy", whole.T @ torch.linalg.inv(whole @ whole.T + q), seen.z)
    msi_rest = torch.einsum("mk,mxy->kxy", weighted, innovation)
    gram = F.pad(part.T @ weighted, (0, components - kept, 0, components - kept))
    prior = torch.block_diag(prior, torch.eye(components - kept).to(prior))
    rows, columns = seen.blur.rows[0], seen.blur.columns[0]
    row_values, row_modes = torch.linalg.eigh(rows @ rows.T)
    column_values, column_modes = torch.linalg.eigh(columns @ columns.T)
    level = torch.stack([variances.new_tensor(noise) / variances.sum(), seen.level / seen.z.square().mean()])
    level = level.clamp(min=1e-8).log10() / 4 + 1  # in about [-1, 1]
    levels = torch.cat([padded((error / deviation).log10()), level])
    return View(x0.to(y), padded(basis * error).to(y), images(coefficients / deviation[:, None, None])[None],
                padded(error / deviation).to(y), images(torch.einsum("bk,bxy->kxy", basis / deviation, seen.low))[None],
                images(high)[None], levels.to(y),
                images(low_rest), images(msi_rest), gram, prior,
                padded(low_noise, 1.0).to(y), Blur(*(each.to(y) for each in seen.blur)),
                (row_modes.to(y), row_values.clamp(min=0).to(y), column_modes.to(y), column_values.clamp(min=0).to(y)))


def consistent(v: Tensor, weight: Tensor, seen: View) -> Tensor:
    """The d next to v (K, H, W), weighted (K,), that agrees with both images: exact, and differentiable.

    Z acts on each pixel alone: ``P = (w prior + gram)^-1``. Then Y asks for ``d = u + P B' x`` with
    ``(P x B B' + noise) x = Y - B u``, one system of K unknowns at each pair of modes of B along rows and columns.
    """
    root = weight.double().sqrt()
    pull = root[:, None] * seen.prior * root
    p = torch.linalg.inv(pull + seen.gram)
    row_modes, row_values, column_modes, column_values = seen.modes
    passed = (row_values[:, None] * column_values).flatten().double()
    factor, failed = torch.linalg.cholesky_ex(passed[:, None, None] * p + seen.noise.double().diag())
    if failed.any():  # by rounding: this inverse is positive definite for whatever weights
        p = torch.cholesky_inverse(torch.linalg.cholesky(pull + seen.gram))
        factor = torch.linalg.cholesky(passed[:, None, None] * p + seen.noise.double().diag())

    spread, kept = p.to(v), (p @ pull).to(v)
    u = torch.einsum("kj,jxy->kxy", kept, v) + torch.einsum("kj,jxy->kxy", spread, seen.msi_rest)

    def solve(image: Tensor) -> Tensor:
        modes = (row_modes.T @ image @ column_modes).flatten(1).T[..., None].double()
        found = torch.cholesky_solve(modes, factor)[..., 0].to(image)
        return row_modes @ found.T.unflatten(1, image.shape[1:]) @ column_modes.T

    target = seen.low_rest - seen.blur(u)
    if len(seen.blur.rows) == 1:  # a separable PSF: the modes are exact
        x = solve(target)
    else:
        def system(image: Tensor) -> Tensor:
            return torch.einsum("kj,jxy->kxy", spread, seen.blur(seen.blur.adjoint(image))) + seen.noise[:, None, None] * image

        x = conjugate_gradients(system, solve, target, 1e-4, 20)
    return u + torch.einsum("kj,jxy->kxy", spread, seen.blur.adjoint(x))
