"""What LTMR and LTTR share: fusion whose prior is that similar patches, stacked into tensors, have low rank.

Dian, Li, IEEE TIP 28(10):5135-5146, 2019 (:mod:`methods.ltmr`); Dian, Li, Fang, IEEE TNNLS 30(9):2672-2683, 2019
(:mod:`methods.lttr`). Both as in magamig/hif-benchmarking @ ef235704.

Symbols: Y LR bands, Z MSI bands, E basis of the bands, A its coefficients, V_i the copies of A under the patch terms, U_i
their scaled multipliers (G / (2 mu) in the papers). ADMM:

    A   = argmin ||Y - E A K S||^2 + ||Z - R E A||^2 + mu sum_i ||A - V_i - U_i||^2     (methods.sylvester)
    V_i = mean over overlapping patches of the shrunk tensors of A - U_i,  U_i += V_i - A.

Every shrinkage commutes with a rotation of the bands, so all of it runs in the solver's own axes.

Departures: clusters by k-means from a farthest-point start, not a random one. Singular values come from Gram matrices,
exact to 1e-7 of the largest one, which is far under the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import scipy.linalg
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from methods.estimation import estimate_srf, ratio_of, remove_offset
from methods.registry import Method, MethodError
from methods.resample import resize
from methods.responses import Told, gaussian_psf
from methods.sylvester import Sylvester

Prior = Callable[[Tensor], Tensor]  # A - U (pixels, p) -> V (pixels, p)
KMEANS_ROUNDS = 100
GRAM_BLOCK = 256  # rows of a matrix from which on saved arithmetic is worth more calls


class PatchFusion:
    """What both methods share: the ADMM around :class:`Sylvester`. Responses are given, or estimated if ``known`` is None.

    No clipping. Blind as in the wrappers of the release: SRF and MSI offset estimated, a 7 x 7 Gaussian of sigma 2 as
    PSF, and LR pixel (0, 0) taken to lie on HR pixel (0, 0).
    """

    card: Method
    patch: int

    def __init__(self, known: Told | None, clusters: int, eta: float, mu: float, iterations: int) -> None:
        self.known, self.clusters, self.iterations = known, clusters, iterations
        self.mu, self.threshold = mu, eta / (2 * mu)

    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Fuse, in float64 inside, one image after the other.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W), no side smaller than a patch.

        Returns:
            (B, bands, H, W), dtype of ``lr_hsi``.

        Raises:
            MethodError: an image smaller than a patch; H and W that are not one whole multiple of h and w.
        """
        ratio_of(lr_hsi, hr_msi)
        if min(hr_msi.shape[-2:]) < self.patch:
            raise MethodError(f"the HR image {tuple(hr_msi.shape[-2:])} is smaller than a patch of side {self.patch}")
        dtype, lr_hsi, hr_msi = lr_hsi.dtype, lr_hsi.double(), hr_msi.double()
        if self.known:
            psf, srf, phase = self.known
            srfs = srf.to(lr_hsi).expand(len(lr_hsi), -1, -1)
        else:
            psf, phase = gaussian_psf(7, 2), 0
            srfs, offset = estimate_srf(lr_hsi, hr_msi)
            hr_msi = remove_offset(hr_msi, offset)
        psf, rolled = psf.to(lr_hsi), hr_msi.roll((-phase, -phase), (2, 3))
        fused = torch.stack([self._fuse_image(y, z, psf, srf) for y, z, srf in zip(lr_hsi, rolled, srfs, strict=True)])
        return fused.roll((phase, phase), (2, 3)).to(dtype)

    def _fuse_image(self, lr_hsi: Tensor, hr_msi: Tensor, psf: Tensor, srf: Tensor) -> Tensor:
        """Y (bands, h, w), Z (msi_bands, H, W) -> (bands, H, W), float64, decimation phase 0."""
        basis = self._basis(lr_hsi.flatten(1))
        if not basis.shape[1]:  # an all-zero LR image
            return lr_hsi.new_zeros(len(lr_hsi), *hr_msi.shape[1:])
        priors = self._priors(hr_msi, basis.shape[1])
        precision = len(priors) * self.mu * torch.eye(basis.shape[1]).to(basis)
        solver = Sylvester(lr_hsi, hr_msi, basis, srf, psf, ratio_of(lr_hsi, hr_msi), precision)

        def coefficients(pull: Tensor) -> Tensor:  # (pixels, p) -> (pixels, p): rows of one pixel, as patches need them
            images = (self.mu * pull).T.unflatten(1, hr_msi.shape[1:])
            return solver.solve(images).flatten(1).T.contiguous()

        start = resize(lr_hsi[None], hr_msi.shape[1:])[0].flatten(1).T @ solver.basis
        multipliers = [torch.zeros_like(start) for _ in priors]
        a = coefficients(len(priors) * start)
        for _ in range(self.iterations - 1):
            pull = torch.zeros_like(a)
            for prior, u in zip(priors, multipliers, strict=True):
                v = prior(torch.sub(a, u, out=u))
                pull.add_(v, alpha=2).sub_(u)
                torch.sub(v, u, out=u)  # U + V - A, which pull has beside V
            a = coefficients(pull)
        return (solver.basis @ a.T).unflatten(1, hr_msi.shape[1:])

    def _basis(self, pixels: Tensor) -> Tensor:
        """Of the bands: (bands, n) -> (bands, p), orthonormal columns."""
        raise NotImplementedError

    def _priors(self, hr_msi: Tensor, axes: int) -> list[Prior]:
        """One shrinkage for each copy of the coefficients, clusters taken from Z (msi_bands, H, W); ``axes`` is p."""
        raise NotImplementedError


def shrink(matrices: Tensor, threshold: float, out: Tensor | None = None) -> Tensor:
    """The proximal map of a log-sum of singular values: s -> (s + sqrt(s^2 - 4 t)) / 2 where s^2 >= 4 t, else 0.

    Args:
        matrices: (..., m, n), real or complex.
        threshold: t.
        out: where to put the result.

    Returns:
        (..., m, n).
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    left, right = _shrinkage(_gram(matrices.mH if tall else matrices), threshold)
    if 2 * left.shape[-1] >= left.shape[-2]:
        operator = left @ right
        return torch.matmul(matrices, operator, out=out) if tall else torch.matmul(operator, matrices, out=out)
    return torch.matmul(matrices @ left, right, out=out) if tall else torch.matmul(left, right @ matrices, out=out)


def shrink_large(matrices: Tensor, threshold: float) -> Tensor:
    """:func:`shrink` of a batch (k, m, n) most of which vanishes: no singular value is above the Frobenius norm."""
    tall = matrices.shape[1] > matrices.shape[2]
    gram = _gram(matrices.mH if tall else matrices)
    large = gram.diagonal(dim1=1, dim2=2).real.sum(1) >= 4 * threshold
    if not large.any():
        return torch.zeros_like(matrices)
    left, right = _shrinkage(gram[large], threshold)
    operator = torch.zeros_like(gram)
    operator[large] = left @ right
    return matrices @ operator if tall else operator @ matrices


def _shrinkage(gram: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Of the Gram matrix (..., m, m) of rows: left (..., m, rank) and right (..., rank, m), ``left right`` shrinks them."""
    squares, vectors = _strong(gram, 4 * threshold)
    kept = squares >= 4 * threshold
    factors = torch.where(kept, (1 + (1 - 4 * threshold / squares.where(kept, 1)).clamp(min=0).sqrt()) / 2, 0)
    first = kept.shape[-1] - int(kept.sum(-1).max())  # eigenvalues ascend
    vectors = vectors[..., first:]
    return vectors * factors[..., None, first:], vectors.mH


def _gram(matrices: Tensor) -> Tensor:
    """``M M^H`` of (..., m, n): (..., m, m). What of a large one is symmetric is not computed twice."""
    m = matrices.shape[-2]
    if m < GRAM_BLOCK:
        return matrices @ matrices.mH
    upper, lower = matrices.split([m // 2, m - m // 2], -2)
    cross = upper @ lower.mH
    return torch.cat([torch.cat([_gram(upper), cross], -1), torch.cat([cross.mH, _gram(lower)], -1)], -2)


def _strong(gram: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors of (..., m, m): all those above ``least``, maybe others.

    Of one large matrix on a CPU only those: where they are few it takes a third of the time.
    """
    if gram.ndim > 2 or len(gram) < GRAM_BLOCK or gram.device.type != "cpu":
        return torch.linalg.eigh(gram)
    values, vectors = scipy.linalg.eigh(gram.numpy(), subset_by_value=(least, math.inf))
    return torch.from_numpy(values), torch.from_numpy(vectors)


def patch_places(size: Sequence[int], side: int, step: int, twice: bool) -> Tensor:
    """Pixels of overlapping patches that cover an image, as indices into its rows laid end to end.

    Args:
        size: (H, W) of the image.
        side: of a patch.
        step: from patch to patch.
        twice: whether a patch flush with the border is added where there is one already.

    Returns:
        (patches, side, side), rows and columns of a patch.
    """
    def starts(n: int) -> Tensor:
        regular, last = list(range(0, n - side + 1, step)), n - side
        return torch.tensor(regular + [last] * (twice or regular[-1] != last))

    rows, columns = (starts(n)[:, None] + torch.arange(side) for n in size)
    return (rows[:, None, :, None] * size[1] + columns[None, :, None, :]).flatten(0, 1)


class Overlap:
    """Puts patches back: each pixel becomes the mean of the patch pixels that lie on it.

    A table of gathers and not a scatter, whose order of summation is not fixed on a GPU.
    """

    def __init__(self, places: Tensor, pixels: int) -> None:
        """``places`` (n,): the pixel, of ``pixels``, on which each patch pixel lies; every pixel is covered."""
        counts = torch.bincount(places, minlength=pixels)
        order = places.argsort(stable=True)
        rank = torch.arange(len(places), device=places.device) - (counts.cumsum(0) - counts)[places[order]]
        table = places.new_zeros(pixels, int(counts.max()))
        table[places[order], rank] = order
        used = torch.arange(table.shape[1], device=places.device) < counts[:, None]
        self.table, self.weight = table, used / counts[:, None].double()

    def mean(self, values: Tensor) -> Tensor:
        """Patch pixels (n, p) -> (pixels, p)."""
        return embedding_bag(self.table, values, per_sample_weights=self.weight, mode="sum")


def clusters_of(hr_msi: Tensor, places: Tensor, count: int) -> list[Tensor]:
    """Group similar patches by k-means: Z (msi_bands, H, W), (patches, q) -> a (m, q) for each cluster, none empty."""
    places = places.to(hr_msi.device)
    labels = kmeans(hr_msi.flatten(1).T[places].flatten(1), count)
    return [places[labels == label] for label in labels.unique()]


def kmeans(points: Tensor, count: int) -> Tensor:
    """Lloyd's algorithm from farthest-point centres: the first is farthest from the mean, each next from all before.

    Args:
        points: (n, d).
        count: of clusters at most.

    Returns:
        (n,) labels; a cluster may be empty.
    """
    farthest = (points - points.mean(0)).square().sum(1).argmax()
    centres, distance = [points[farthest]], torch.full_like(points[:, 0], torch.inf)
    for _ in range(min(count, len(points)) - 1):
        distance = torch.minimum(distance, (points - centres[-1]).square().sum(1))
        centres.append(points[distance.argmax()])
    centre = torch.stack(centres)
    labels = _nearest(points, centre)
    for _ in range(KMEANS_ROUNDS):
        size = torch.bincount(labels, minlength=len(centre))
        members, starts = labels.argsort(stable=True), size.cumsum(0) - size
        total = embedding_bag(members, points, starts, mode="sum")
        centre = torch.where(size[:, None] > 0, total / size[:, None].clamp(min=1), centre)
        previous, labels = labels, _nearest(points, centre)
        if torch.equal(labels, previous):
            break
    return labels


def _nearest(points: Tensor, centre: Tensor) -> Tensor:
    """The index of the centre (k, d) that is nearest to each of the points (n, d): (n,)."""
    return torch.addmm(centre.square().sum(1), points, centre.T, alpha=-2).argmin(1)


def check_positive(name: str, **settings: float) -> None:
    """Refuse, for the method ``name``, a setting that is not positive."""
    for key, value in settings.items():
        if not value > 0:
            raise MethodError(f"{name}: {key} is {value} and must be positive")
