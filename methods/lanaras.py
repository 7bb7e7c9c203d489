"""SupResPALM: coupled unmixing of both images under simplex constraints, by proximal alternating linearised steps.

Lanaras, Baltsavias, Schindler, "Hyperspectral super-resolution by coupled spectral unmixing", ICCV 2015; toolbox as
mirrored in ricardoborsoi/FuVarRelease @ 2164cd87, ``Methods/Lanaras``.

Symbols: Y (bands, n) the LR-HSI and Z (msi_bands, N) the HR-MSI with one pixel a column, R the SRF, E (bands, p)
endmembers in [0, 1], A (p, N) abundances on the unit simplex, A_s those at LR. ``Y ~ E A_s``, ``Z ~ R E A``.
The fused image is ``E A``.
Departures: LR pixels that span fewer than p - 1 dimensions get fewer endmembers (:mod:`methods.sisal`). Images that
were divided by their maximum, because it exceeds 1, are multiplied by it again.
Its stopping rules compare small falls of residuals: on small noisy images another number of threads may stop at another step.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from methods.estimation import estimate_srf, remove_offset
from methods.registry import Method, MethodError, register
from methods.resample import resize
from methods.responses import gaussian_decimate, told_responses
from methods.sisal import sisal
from methods.unmixing import in_blocks, project, sunsal

OUTER, INNER = 200, 100  # steps at most
OUTER_TOLERANCE, INNER_TOLERANCE = 1e-4, 1e-2  # relative fall of the residuals that is worth going on
TAU = 0.006  # of SISAL
STEP = 1.01  # the step is shorter than the inverse of the Lipschitz constant by this


class SupResPALM:
    """Endmembers from Y and abundances from Z, each with the other held. No parameters; values stay in range.

    Args:
        srf: R (msi_bands, bands); None: estimated, with an offset.
        ratio: HR pixels per LR pixel along one side.
        endmembers: p, cut to what the LR pixels span.
        seed: of the start, for each image anew.
    """

    card: Method

    def __init__(self, srf: Tensor | None, ratio: int, endmembers: int, seed: int) -> None:
        self.srf, self.ratio, self.endmembers, self.seed = srf, ratio, endmembers, seed

    @torch.no_grad()
    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Fuse, in float64 inside.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W).

        Returns:
            (B, bands, H, W), dtype of ``lr_hsi``.
        """
        hsi, msi = lr_hsi.double(), hr_msi.double()
        if self.srf is None:
            srf, offset = estimate_srf(hsi, msi)
            msi = remove_offset(msi, offset)
        else:
            srf = self.srf.to(hsi).expand(len(hsi), -1, -1)
        # Images are independent and stop after different numbers of steps: one after the other.
        images = [self._fuse_image(y, z, r) for y, z, r in zip(hsi, msi, srf, strict=True)]
        return torch.stack(images).to(lr_hsi.dtype)

    def _fuse_image(self, lr_hsi: Tensor, hr_msi: Tensor, srf: Tensor) -> Tensor:
        """Fuse one image: (bands, h, w), (msi_bands, H, W) and R -> (bands, H, W), float64."""
        low, high = lr_hsi.shape[1:], hr_msi.shape[1:]
        scale = torch.maximum(lr_hsi.max(), hr_msi.max()).clamp(min=1)
        y, z = lr_hsi.flatten(1).contiguous() / scale, hr_msi.flatten(1).contiguous() / scale
        generator = torch.Generator().manual_seed(self.seed)
        e = sisal(y, min(self.endmembers, len(y)), tau=TAU, generator=generator).clamp(0, 1)
        a = resize(sunsal(y, e).unflatten(1, low)[None], high)[0].flatten(1)
        previous = math.inf
        for _ in range(OUTER):
            a_s = gaussian_decimate(a.unflatten(1, high)[None], self.ratio)[0].flatten(1)
            e, low_residual = _fitted_endmembers(y, e, a_s)
            a, high_residual = _fitted_abundances(z, srf @ e, a)
            total = low_residual + high_residual
            if abs(previous - total) < OUTER_TOLERANCE * total:
                break
            previous = total
        return (e @ a).unflatten(1, high) * scale


def _fitted_endmembers(y: Tensor, e: Tensor, a_s: Tensor) -> tuple[Tensor, float]:
    """Projected gradient steps on ``||E A_s - Y||^2`` over E in [0, 1]: E (bands, p) and the RMS residual."""
    gram, cross = a_s @ a_s.T, y @ a_s.T
    rate = 1 / (STEP * gram.norm()).clamp(min=torch.finfo(gram.dtype).tiny)
    energy = y.square().sum()

    def step(e: Tensor) -> tuple[Tensor, float]:
        new = (e - rate * (e @ gram - cross)).clamp_(0, 1)
        return new, ((energy + ((new @ gram - 2 * cross) * new).sum()).clamp(min=0) / y.numel()).sqrt().item()

    return _descend(e, step)


def _fitted_abundances(z: Tensor, seen: Tensor, a: Tensor) -> tuple[Tensor, float]:
    """Projected gradient steps on ``||R E A - Z||^2`` over A on the simplex: A (p, N) and the RMS residual."""
    rate = 1 / (STEP * (seen @ seen.T).norm()).clamp(min=torch.finfo(seen.dtype).tiny)
    back = (rate * seen).T
    apart = seen @ a - z  # of the last step

    def step(a: Tensor) -> tuple[Tensor, float]:
        new, energy = torch.empty_like(a), a.new_zeros(())
        for a_, new_, apart_, z_ in in_blocks(a, new, apart, z):
            project(torch.addmm(a_, back, apart_, alpha=-1), new_)
            torch.addmm(z_, seen, new_, beta=-1, out=apart_)
            energy += apart_.square().sum()
        return new, (energy / z.numel()).sqrt().item()

    return _descend(a, step)


def _descend(x: Tensor, step: Callable[[Tensor], tuple[Tensor, float]]) -> tuple[Tensor, float]:
    """Steps until one lowers the residual too little, or raises it and is taken back: the point and its residual.

    ``step`` goes on from where it was. The residual before the first step is not looked at: at least two steps are made,
    the second perhaps taken back.
    """
    best = math.inf
    for _ in range(INNER):
        new, value = step(x)
        if value > best:
            break
        fall, x, best = best - value, new, value
        if fall < INNER_TOLERANCE * value:
            break
    return x, best


@register(
    "lanaras",
    family="classical",
    told="known",
    paper="Lanaras, Baltsavias, Schindler, Hyperspectral super-resolution by coupled spectral unmixing, ICCV 2015",
    year=2015,
    fidelity="reference",
    source="ricardoborsoi/FuVarRelease@2164cd87, utils/HSMSFusionToolbox/Methods/Lanaras",
    note="SupResPALM given the SRF; takes LR pixels for block centres, whatever the phase of the data.",
)
def lanaras(ratio: int, srf: Tensor | None = None, mode: str = "known", endmembers: int = 30, seed: int = 0) -> SupResPALM:
    """Build it.

    Args:
        ratio: HR pixels per LR pixel along one side.
        srf: (msi_bands, bands), for ``mode="known"``.
        mode: ``"known"`` SRF; or ``"blind"``, as in the release: it and an offset of the MSI bands are estimated.
        endmembers: p, cut to the number of bands and to what the LR pixels span.
        seed: of the start, for each image anew.

    Raises:
        MethodError: unknown mode; SRF missing for ``"known"``; endmembers not positive.
    """
    if endmembers < 1:
        raise MethodError(f"lanaras: {endmembers} endmembers; at least 1 is needed")
    known = told_responses("lanaras", mode, srf=srf, needs=("srf",))
    return SupResPALM(known.srf if known else None, ratio, endmembers, seed)


@register(
    "lanaras-blind",
    family="classical",
    told="blind",
    paper="Lanaras, Baltsavias, Schindler, Hyperspectral super-resolution by coupled spectral unmixing, ICCV 2015",
    year=2015,
    fidelity="reference",
    source="ricardoborsoi/FuVarRelease@2164cd87, utils/HSMSFusionToolbox/Methods/Lanaras",
    note="SupResPALM, blind: SRF estimated; takes LR pixels for block centres, whatever the phase of the data.",
)
def lanaras_blind(ratio: int, endmembers: int = 30, seed: int = 0) -> SupResPALM:
    """Build :func:`lanaras` without any response given."""
    return lanaras(ratio, mode="blind", endmembers=endmembers, seed=seed)
