"""LTMR: fusion in a spectral subspace under a low tensor multi-rank of clustered patches.

Dian, Li, "Hyperspectral image super-resolution via subspace-based low tensor multi-rank regularization", IEEE TIP
28(10):5135-5146, 2019; magamig/hif-benchmarking @ ef235704, ``methods/LTMR``. The ADMM and its symbols:
:mod:`methods.tensor_prior`; E are the leading left singular vectors of the LR spectra.

Departures, beside those of :mod:`methods.tensor_prior`: axes on which the LR image is zero but for rounding are left out
(the release fills up with arbitrary ones, which the MSI then moves along).
"""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor

from methods.registry import register
from methods.responses import Told, told_responses
from methods.sylvester import signal_axes
from methods.tensor_prior import Overlap, PatchFusion, Prior, check_positive, clusters_of, patch_places, shrink_large


class LTMR(PatchFusion):
    """Low tensor multi-rank: each cluster (patches, p, pixels) has low rank at every frequency of its pixels."""

    patch, step = 7, 3

    def __init__(self, known: Told | None, subspace: int, clusters: int, eta: float, mu: float, iterations: int) -> None:
        super().__init__(known, clusters, eta, mu, iterations)
        self.subspace = subspace

    def _basis(self, pixels: Tensor) -> Tensor:
        return signal_axes(pixels, self.subspace)[0]

    def _priors(self, hr_msi: Tensor, axes: int) -> list[Prior]:
        # As in the release, the last patch is flush with the border even where the one before lies there already; and
        # pixels of a patch go column by column, which decides what a frequency is.
        places = patch_places(hr_msi.shape[1:], self.patch, self.step, twice=True).transpose(1, 2).flatten(1)
        groups = sorted(clusters_of(hr_msi, places, self.clusters), key=len)
        places = torch.cat(groups).T.contiguous()  # (pixels of a patch, patches)
        overlap = Overlap(places.flatten(), hr_msi[0].numel())
        # Clusters of one size follow each other and are one batch of matrices.
        batches = [(len(list(same)), size) for size, same in groupby(groups, key=len)]
        lengths = [count * size for count, size in batches]

        def prior(pixels: Tensor) -> Tensor:
            spectrum = torch.fft.rfft(pixels[places], dim=0)  # (frequencies, patches, p)
            for part, batch in zip(spectrum.split(lengths, 1), batches, strict=True):
                part.copy_(shrink_large(part.unflatten(1, batch).flatten(0, 1), self.threshold).view_as(part))
            return overlap.mean(torch.fft.irfft(spectrum, n=len(places), dim=0).flatten(0, 1))

        return [prior]


@register(
    "ltmr",
    family="classical",
    told="known",
    paper="Dian, Li, Subspace-based low tensor multi-rank regularization, IEEE TIP 2019",
    year=2019,
    fidelity="reference",
    source="magamig/hif-benchmarking@ef235704, methods/LTMR",
    note="Given PSF, SRF and phase; k-means from a farthest-point start.",
)
def ltmr(psf: Tensor | None = None, srf: Tensor | None = None, phase: int | None = None, mode: str = "known",
         subspace: int = 10, clusters: int = 200, eta: float = 1e-3, mu: float = 1e-3, iterations: int = 100) -> LTMR:
    """Build it.

    Args:
        psf: (k, k), for ``mode="known"``.
        srf: (msi_bands, bands), for ``mode="known"``.
        phase: 0-based index of the first HR sample that decimation keeps, for ``mode="known"``.
        mode: ``"known"`` responses or ``"blind"``.
        subspace: p, axes of the LR spectra at most.
        clusters: of the patches at most.
        eta: weight of the prior.
        mu: penalty of the ADMM.
        iterations: of the ADMM.

    Raises:
        MethodError: unknown mode; responses missing for ``"known"``; a setting that is not positive.
    """
    check_positive("ltmr", subspace=subspace, clusters=clusters, eta=eta, mu=mu, iterations=iterations)
    return LTMR(told_responses("ltmr", mode, psf, srf, phase), subspace, clusters, eta, mu, iterations)


@register(
    "ltmr-blind",
    family="classical",
    told="blind",
    paper="Dian, Li, Subspace-based low tensor multi-rank regularization, IEEE TIP 2019",
    year=2019,
    fidelity="reference",
    source="magamig/hif-benchmarking@ef235704, methods/LTMR",
    note="Blind: SRF estimated, 7x7 Gaussian PSF of sigma 2, decimation phase 0 assumed.",
)
def ltmr_blind(subspace: int = 10, clusters: int = 200, eta: float = 1e-3, mu: float = 1e-3,
               iterations: int = 100) -> LTMR:
    """Build :func:`ltmr` without any response given."""
    return ltmr(mode="blind", subspace=subspace, clusters=clusters, eta=eta, mu=mu, iterations=iterations)
