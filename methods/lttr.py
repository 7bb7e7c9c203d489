"""LTTR: fusion under a low tensor-train rank of clustered patches.

Dian, Li, Fang, "Learning a low tensor-train rank representation for hyperspectral image super-resolution", IEEE TNNLS
30(9):2672-2683, 2019; magamig/hif-benchmarking @ ef235704, ``methods/LTTR``. The ADMM and its symbols:
:mod:`methods.tensor_prior`; E is the identity, all bands are unknown.

Departures, beside those of :mod:`methods.tensor_prior`: where steps of 4 pixels do not end at the border, a last patch is
flush with it (the release refuses such sizes).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from methods.registry import register
from methods.responses import told_responses
from methods.tensor_prior import Overlap, PatchFusion, Prior, check_positive, clusters_of, patch_places, shrink


class LTTR(PatchFusion):
    """Low tensor-train rank: the unfoldings of each cluster (rows, columns, bands, patches), one copy of A for each."""

    patch, step = 8, 4

    def _basis(self, pixels: Tensor) -> Tensor:
        return torch.eye(len(pixels)).to(pixels)

    def _priors(self, hr_msi: Tensor, axes: int) -> list[Prior]:
        places = patch_places(hr_msi.shape[1:], self.patch, self.step, twice=False).flatten(1)
        inside = self.patch**2
        # Rows against columns: (pixels | bands, patches), (pixels, bands | patches), (pixel rows | all the rest).
        # All that matters of a matrix are its rows, so its columns may come in any order: pixels, patches, bands.
        unfoldings: list[list[tuple[Tensor, int, float]]] = [[], [], []]
        for group in clusters_of(hr_msi, places, self.clusters):
            m = len(group)
            ranks = [min(inside, axes * m), min(inside * axes, m), self.patch]
            total = sum(math.sqrt(rank) for rank in ranks)
            orders, rows = (group.T, group, group.T), (inside, m, self.patch)
            for unfolding, order, count, rank in zip(unfoldings, orders, rows, ranks, strict=True):
                unfolding.append((order.flatten(), count, self.threshold * math.sqrt(rank) / total))
        return [_unfolding_prior(unfolding, hr_msi[0].numel(), axes) for unfolding in unfoldings]


def _unfolding_prior(clusters: list[tuple[Tensor, int, float]], pixels: int, axes: int) -> Prior:
    """Shrink one unfolding of every cluster: places with the rows of the matrix slowest, number of rows, threshold."""
    places = torch.cat([order for order, _, _ in clusters])
    overlap, lengths = Overlap(places, pixels), [len(order) for order, _, _ in clusters]
    # Fresh memory of this size at every iteration costs as much as the arithmetic.
    patches, shrunk = (torch.empty(len(places), axes, dtype=torch.float64, device=places.device) for _ in range(2))

    def prior(image: Tensor) -> Tensor:
        torch.index_select(image, 0, places, out=patches)
        parts = zip(patches.split(lengths), shrunk.split(lengths), clusters, strict=True)
        for patch, result, (_, rows, threshold) in parts:
            shrink(patch.view(rows, -1), threshold, out=result.view(rows, -1))
        return overlap.mean(shrunk)

    return prior


@register(
    "lttr",
    family="classical",
    told="known",
    paper="Dian, Li, Fang, Learning a low tensor-train rank representation, IEEE TNNLS 2019",
    year=2019,
    fidelity="reference",
    source="magamig/hif-benchmarking@ef235704, methods/LTTR",
    note="Given PSF, SRF and phase; k-means from a farthest-point start.",
)
def lttr(psf: Tensor | None = None, srf: Tensor | None = None, phase: int | None = None, mode: str = "known",
         clusters: int = 3, eta: float = 1e-2, mu: float = 1e-3, iterations: int = 25) -> LTTR:
    """Build it; the arguments are those of :func:`ltmr`.

    Raises:
        MethodError: unknown mode; responses missing for ``"known"``; a setting that is not positive.
    """
    check_positive("lttr", clusters=clusters, eta=eta, mu=mu, iterations=iterations)
    return LTTR(told_responses("lttr", mode, psf, srf, phase), clusters, eta, mu, iterations)


@register(
    "lttr-blind",
    family="classical",
    told="blind",
    paper="Dian, Li, Fang, Learning a low tensor-train rank representation, IEEE TNNLS 2019",
    year=2019,
    fidelity="reference",
    source="magamig/hif-benchmarking@ef235704, methods/LTTR",
    note="Blind: SRF estimated, 7x7 Gaussian PSF of sigma 2, decimation phase 0 assumed.",
)
def lttr_blind(clusters: int = 3, eta: float = 1e-2, mu: float = 1e-3, iterations: int = 25) -> LTTR:
    """Build :func:`lttr` without any response given."""
    return lttr(mode="blind", clusters=clusters, eta=eta, mu=mu, iterations=iterations)
