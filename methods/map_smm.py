"""MAP-SMM: maximum a posteriori estimation under a stochastic mixing model of the leading principal components.

Eismann & Hardie, "Application of the stochastic mixing model to hyperspectral resolution enhancement", IEEE TGRS
42(9):1924-1933, 2004; Eismann, PhD thesis, University of Dayton, 2004. As in the toolbox of Yokoya, Grohnfeldt, Chanussot,
IEEE GRSM 5(2):29-56, 2017, mirrored in ricardoborsoi/FuVarRelease @ 2164cd87, ``Methods/MAPSMM``.

Symbols: y the leading principal components of an LR pixel, z those of an HR pixel, x the MSI there, f (c,) fractions of c
pure materials, r the ratio. A pure material is Gaussian; a mixture has the f-weighted mean and the f^2-weighted covariance.

Given x, the r^2 HR pixels of one LR pixel are independent, N(m_i, S_i). Their mean y is then seen under noise N(0, s I):
``z_i = m_i + S_i (sum_j S_j / r^2 + r^2 s I)^-1 (y - mean_j m_j)``. The toolbox inverts a matrix of r^2 times the size.

Departures: the toolbox's posteriors vanish where densities underflow, logarithms do not; a class whose second moment has
become singular drops out; data of fewer dimensions take fewer materials and components; small eigenvalues of the MSI
covariance count as zero already at the rounding of float32 inputs. Hard decisions make the result sensitive: the toolbox
on other numbers of threads differs by 0.01 dB, another order of the same pure pixels by 0.1 dB.
"""

from __future__ import annotations

from itertools import product

import torch
from scipy.special import gammaincinv
from torch import Tensor

from methods.estimation import ratio_of
from methods.gsa import FLAT
from methods.hypersharpening import denoise_bands
from methods.registry import Method, register
from methods.resample import resize
from methods.responses import gaussian_decimate

MATERIALS = 4  # pure materials; a second attempt takes one more
UNITS = 4  # fractions are multiples of 1 / UNITS
PASSES = 10  # of expectation and maximisation
INLIERS = 0.98  # quantile of the Mahalanobis distance up to which pixels may be pure
GROWTH = 1e-12  # of the simplex below which it is rounding
SINGULAR = 1e-12  # condition number, inverted, of the second moment of a class that is no more


class MapSmm:
    """Estimates the leading principal components at HR and interpolates the others. No parameters, no clipping."""

    card: Method

    def __init__(self, denoise: bool = False) -> None:
        """``denoise``: pass the result through :func:`methods.hypersharpening.denoise_bands`."""
        self.denoise = denoise

    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Fuse, in float64 inside.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W).

        Returns:
            (B, bands, H, W), dtype of ``lr_hsi``.

        Raises:
            MethodError: sizes that are not multiples.
        """
        # Rounding of the inputs sets which directions carry signal; it is lost once they are float64.
        precision = max(torch.finfo(image.dtype).eps for image in (lr_hsi, hr_msi))
        pairs = zip(lr_hsi.double(), hr_msi.double(), strict=True)
        images = [_fuse_image(y, z, (4 * precision) ** 2) for y, z in pairs]
        return torch.stack([denoise_bands(image) if self.denoise else image for image in images]).to(lr_hsi.dtype)


def _fuse_image(lr_hsi: Tensor, hr_msi: Tensor, rounding: float) -> Tensor:
    """Fuse one image: (bands, h, w) and (msi_bands, H, W) -> (bands, H, W).

    Args:
        lr_hsi: float64.
        hr_msi: float64.
        rounding: share of the largest variance below which another is none.
    """
    ratio, (h, w), size = ratio_of(lr_hsi, hr_msi), lr_hsi.shape[-2:], hr_msi.shape[-2:]
    pixels = lr_hsi.flatten(1).T
    variances, axes, scores = _principal_components(pixels, rounding)
    if len(variances) == 0:
        return resize(lr_hsi[None], size)[0]
    variances = torch.cat([variances, variances.new_zeros(MATERIALS + 3)])  # none beyond the dimensions of the data
    dimensions = axes.shape[1]
    for count in sorted({min(MATERIALS + extra, dimensions + 1) for extra in (0, 1)}):
        leading = scores[:, : count + 1]
        abundances = _abundances(leading, _pure_pixels(scores[:, : count - 1], variances[: count - 1]))
        used = abundances.argmax(1).unique()
        if len(used) >= MATERIALS:
            break
    abundances = abundances[:, used] / abundances[:, used].sum(1, keepdim=True)

    lr_msi = gaussian_decimate(hr_msi[None], ratio)[0].flatten(1).T
    means, covariances = _statistics(torch.cat([leading, lr_msi], 1), abundances.argmax(1), len(used))
    fractions = resize(abundances.T.view(1, -1, h, w), size)[0].flatten(1).T
    mean, covariance = _given_msi(fractions, hr_msi.flatten(1).T, means, covariances, max(rounding, ratio**2 * 1e-15))

    # The strongest variance among the components that are not estimated.
    noise = variances[count + 1] / ratio**2
    mean, covariance = (each.view(h, ratio, w, ratio, *each.shape[1:]) for each in (mean, covariance))
    sharp = _given_lr(leading.view(h, w, -1), mean, covariance, noise).view(*size, -1)

    shown = axes[:, : count + 1]
    rest = lr_hsi - (leading @ shown.T).T.view_as(lr_hsi)
    return resize(rest[None], size)[0] + torch.einsum("bk,hwk->bhw", shown, sharp)


def _principal_components(pixels: Tensor, rounding: float) -> tuple[Tensor, Tensor, Tensor]:
    """PCA of pixels (n, bands), as far as it is not rounding: variances (k,), descending, axes (bands, k), scores (n, k)."""
    centred = pixels - pixels.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / max(len(pixels) - 1, 1))
    floor = max(rounding, pixels.shape[1] * torch.finfo(pixels.dtype).eps) * values[-1]
    constant = FLAT**2 * pixels.square().sum(1).mean()
    kept = (values > torch.maximum(floor, constant)).flip(0)
    axes = vectors.flip(1)[:, kept]
    return values.flip(0)[kept], axes, centred @ axes


# ---- classes of the LR pixels


def _pure_pixels(points: Tensor, variances: Tensor) -> Tensor:
    """N-FINDR: pixels that span a large simplex, outliers left out.

    From the first distinct pixels on, each vertex in turn is moved to the pixel that makes the simplex largest, until none
    moves. The volume is linear in a vertex: to go through the pixels one by one, moving at every growth, ends there too.

    Args:
        points: (n, k), the k leading components.
        variances: (k,).

    Returns:
        (k + 1,) indices of pixels.
    """
    count = points.shape[1]
    distance = 0.5 * (points.square() / variances).sum(1)  # of a Gaussian: Gamma(k / 2) distributed
    inliers = (distance < gammaincinv(count / 2, INLIERS)).nonzero()[:, 0]
    for candidates in (inliers, torch.arange(len(points), device=points.device)):
        vertices = _first_distinct(points[candidates])[: count + 1]
        if len(vertices) > count:
            break
    corners = torch.cat([torch.ones_like(points[:, :1]), points], 1)[candidates]
    moved = True
    while moved:
        moved = False
        for k in range(count + 1):
            # Cofactors: the determinants with each unit vector in the place of the vertex.
            trials = corners[vertices].repeat(count + 1, 1, 1)
            trials[:, k] = torch.eye(count + 1).to(corners)
            volumes = (corners @ torch.linalg.det(trials)).abs()
            best = volumes.argmax()
            if volumes[best] > (1 + GROWTH) * volumes[vertices[k]]:
                vertices[k], moved = best, True
    return candidates[vertices]


def _first_distinct(points: Tensor) -> Tensor:
    """Indices at which a row of (n, k) occurs for the first time, ascending."""
    rows, owner = points.unique(dim=0, return_inverse=True)
    index = torch.arange(len(points), device=points.device)
    return index.new_full((len(rows),), len(points)).scatter_reduce(0, owner, index, "amin").sort().values


def _abundances(scores: Tensor, pure: Tensor) -> Tensor:
    """The fractions (n, c) of the mixture class that each pixel belongs to.

    Classes are all ways to share :data:`UNITS` units among the materials. They start as the mixtures of the pure pixels,
    all materials as spread as the image, and go on independently. The second moment is not centred.

    Args:
        scores: (n, q), centred.
        pure: (c,) indices of pixels; of their scores the first c - 1 are used.
    """
    count, (n, q) = len(pure), scores.shape
    shares = [share for share in product(range(UNITS + 1), repeat=count) if sum(share) == UNITS]
    fractions = torch.tensor(shares).to(scores) / UNITS
    corners = torch.nn.functional.pad(scores[pure, : count - 1], (0, q - count + 1))
    spread = (scores.T @ scores / (n - 1)).flatten()
    prior = torch.full_like(fractions[:, 0], 1 / len(fractions))
    mean, moment = fractions @ corners, fractions.square().sum(1, keepdim=True) * spread
    squares = torch.einsum("na,nb->nab", scores, scores).flatten(1)
    for _ in range(PASSES):
        # Densities are scaled to sum to 1 over the image; the prior is not part of the denominator, as in the toolbox.
        scaled = torch.log_softmax(_log_density(scores, mean, moment), 1).nan_to_num(nan=-torch.inf)
        posterior = prior[:, None] * torch.softmax(scaled, 0).nan_to_num(0)
        total = posterior.sum(1, keepdim=True)
        weight = posterior / total.clamp(min=torch.finfo(total.dtype).tiny)
        prior, mean, moment = total[:, 0] / n, weight @ scores, weight @ squares
    return fractions[(prior.log()[:, None] + _log_density(scores, mean, moment)).argmax(0)]


def _log_density(scores: Tensor, mean: Tensor, moment: Tensor) -> Tensor:
    """Gaussian log-densities but for a constant: (n, q), (k, q), (k, q^2) -> (k, n); a singular class has ``-inf``."""
    values, vectors = torch.linalg.eigh(moment.unflatten(1, (scores.shape[1], -1)))
    alive = values[:, 0] > SINGULAR * values[:, -1]
    values = torch.where(alive[:, None], values, 1.0)
    whitened = ((scores - mean[:, None]) @ vectors).square() / values[:, None]
    density = -0.5 * (whitened.sum(2) + values.log().sum(1, keepdim=True))
    return torch.where(alive[:, None], density, -torch.inf)


# ---- estimation at HR


def _statistics(samples: Tensor, owner: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean (c, m) and covariance (c, m, m) of the samples (n, m) of each owner; a single sample has none: zero."""
    member = torch.nn.functional.one_hot(owner, count).to(samples)
    size = member.sum(0)
    mean = member.T @ samples / size[:, None]
    centred = samples - mean[owner]
    covariance = torch.einsum("nc,na,nb->cab", member, centred, centred)
    return mean, covariance / (size - 1).clamp(min=1)[:, None, None]


def _given_msi(
    fractions: Tensor, msi: Tensor, means: Tensor, covariances: Tensor, rounding: float
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the components of mixed pixels whose MSI is known.

    Args:
        fractions: f (N, c).
        msi: x (N, msi_bands).
        means: of components and MSI together, (c, q + msi_bands).
        covariances: (c, q + msi_bands, q + msi_bands).
        rounding: share of the largest eigenvalue of an MSI covariance below which another is zero.

    Returns:
        (N, q) and (N, q, q).
    """
    q = means.shape[1] - msi.shape[1]
    mean = fractions @ means
    joint = (fractions.square() @ covariances.flatten(1)).unflatten(1, covariances.shape[1:])
    inverse = torch.linalg.pinv(joint[:, q:, q:], hermitian=True, rtol=rounding)
    gain = joint[:, :q, q:] @ inverse
    shift = gain @ (msi - mean[:, q:])[..., None]
    return mean[:, :q] + shift[..., 0], joint[:, :q, :q] - gain @ joint[:, q:, :q]


def _given_lr(low: Tensor, mean: Tensor, covariance: Tensor, noise: Tensor) -> Tensor:
    """What is expected of the HR pixels of each LR pixel once their noisy mean is known, too.

    Args:
        low: y (h, w, q).
        mean: of the HR pixels (h, r, w, r, q), which are independent.
        covariance: theirs (h, r, w, r, q, q).
        noise: variance of y about the mean of the HR pixels.

    Returns:
        z (h, r, w, r, q).
    """
    seen = covariance.mean((1, 3)) / mean.shape[1] ** 2 + noise * torch.eye(low.shape[2]).to(low)
    gain = torch.linalg.pinv(seen, hermitian=True) @ (low - mean.mean((1, 3)))[..., None]
    return mean + (covariance @ gain[:, None, :, None])[..., 0] / mean.shape[1] ** 2


@register(
    "map-smm",
    family="classical",
    told="blind",
    paper="Eismann & Hardie, Application of the stochastic mixing model, IEEE TGRS 2004",
    year=2004,
    fidelity="reference",
    source="ricardoborsoi/FuVarRelease@2164cd87, utils/HSMSFusionToolbox/Methods/MAPSMM",
    note="Hard class decisions: rounding may move it by 0.1 dB. Takes LR pixels for block centres, whatever the phase.",
)
def map_smm(denoise: bool = False) -> MapSmm:
    """Build it.

    Args:
        denoise: pass the result through :func:`methods.hypersharpening.denoise_bands`, as the toolbox's demonstration does.
    """
    return MapSmm(denoise)
