"""CNMF: coupled nonnegative matrix factorisation of the two images.

Yokoya, Yairi, Iwasaki, "Coupled nonnegative matrix factorization unmixing for hyperspectral and multispectral data
fusion", IEEE TGRS 50(2):528-537, 2012; toolbox as mirrored in ricardoborsoi/FuVarRelease @ 2164cd87, ``Methods/CNMF``.

Symbols: Y (bands, n) the LR-HSI and Z (msi_bands, N) the HR-MSI with one pixel a column, R the SRF, W endmembers, H
abundances (``Y ~ W_h H_h``, ``Z ~ W_m H_m``, ``W_m = R W_h``), all nonnegative; M endmembers. The fused image is
``W_h H_m``. Abundances sum to one softly: their updates see one more row, constant, of weight d in data and model.
Departures: the number of endmembers is given, not the larger of 30 and the virtual dimensionality, which decides
nothing in practice; one outer iteration, as by default. HR pixels whose interpolated abundances are all negative start
from equal ones, where the release divides by zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from methods.estimation import estimate_srf, remove_offset
from methods.registry import Method, MethodError, register
from methods.resample import resize
from methods.responses import gaussian_decimate, told_responses
from methods.unmixing import in_blocks, spa, vca

INNER = 200  # iterations, I1 in the release
TOLERANCE = 1e-8  # of the stop test, relative
ROUNDING = 1e-12  # of costs that are differences, relative to the energy of the data
SMALLEST = 1e-300  # a denominator may vanish only where the factor is zero already


class CNMF:
    """Both images are unmixed in turn, each from the factors of the other. No parameters, no clipping.

    Args:
        srf: R (msi_bands, bands); None: estimated, with an offset.
        ratio: HR pixels per LR pixel along one side.
        endmembers: M, cut to the number of bands.
        start: of the endmembers, ``"vca"`` (random) or ``"spa"``.
        seed: of VCA, for each image anew.
    """

    card: Method

    def __init__(self, srf: Tensor | None, ratio: int, endmembers: int, start: str, seed: int) -> None:
        self.srf, self.ratio, self.endmembers, self.start, self.seed = srf, ratio, endmembers, start, seed

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
        # Images are independent and stop after different numbers of passes: one after the other.
        images = [self._fuse_image(y, z, r) for y, z, r in zip(hsi.clamp(min=0), msi.clamp(min=0), srf, strict=True)]
        return torch.stack(images).to(lr_hsi.dtype)

    def _fuse_image(self, lr_hsi: Tensor, hr_msi: Tensor, srf: Tensor) -> Tensor:
        """Fuse one image: (bands, h, w), (msi_bands, H, W) and R -> (bands, H, W), float64."""
        y, z = lr_hsi.flatten(1).contiguous(), hr_msi.flatten(1).contiguous()
        coupled = len(z) > 3  # with fewer bands the MSI corrects neither its endmembers nor the LR abundances
        d = _sum_to_one_weight(z)

        w_h = self._endmembers(y)
        h_h = y.new_full((w_h.shape[1], y.shape[1]), 1 / w_h.shape[1])
        h_h = _multiply(y, w_h, h_h, d, 3 * INNER)
        w_h, h_h = _alternate(y, w_h, h_h, d, "wh")

        w_m = srf @ w_h
        h_m = _interpolated(h_h.unflatten(1, lr_hsi.shape[1:]), hr_msi.shape[1:])
        h_m = _multiply(z, w_m, h_m, d, INNER, tolerance=-math.inf)  # the release's test can never stop this one
        if coupled:
            w_m, h_m = _alternate(z, w_m, h_m, d, "wh")
        else:
            h_m = _multiply(z, w_m, h_m, d, INNER - 1)

        h_h = gaussian_decimate(h_m.unflatten(1, hr_msi.shape[1:])[None], self.ratio)[0].flatten(1)
        w_h = _multiply(y.T, h_h.T, w_h.T, 0.0, INNER).T
        if coupled:
            w_h, h_h = _alternate(y, w_h, h_h, d, "hw")
        else:
            w_h = _multiply(y.T, h_h.T, w_h.T, 0.0, INNER - 1).T
        return (w_h @ h_m).unflatten(1, hr_msi.shape[1:])

    def _endmembers(self, pixels: Tensor) -> Tensor:
        """The first W_h (bands, M): spectra of pixels or, from VCA, of their projections, which may be negative."""
        count = min(self.endmembers, len(pixels))
        if self.start == "spa":
            return spa(pixels, count)
        return vca(pixels, count, generator=torch.Generator().manual_seed(self.seed)).clamp(min=0)


def _multiply(data: Tensor, fixed: Tensor, free: Tensor, d: float, passes: int, tolerance: float = TOLERANCE) -> Tensor:
    """Up to ``passes`` multiplicative updates of one factor: data (m, n), fixed (m, M), free (M, n) -> free.

    Stops before the update that lowers the cost ``||data - fixed free||^2`` by less than ``tolerance``, relative.
    """
    if tolerance > -math.inf:
        return _multiply_together(data, fixed, free, d, passes, tolerance)
    blocks = in_blocks(free, data)  # no column has to wait for the others
    return torch.cat([_multiply_together(data_, fixed, free_, d, passes, tolerance) for free_, data_ in blocks], 1)


def _multiply_together(data: Tensor, fixed: Tensor, free: Tensor, d: float, passes: int, tolerance: float) -> Tensor:
    """:func:`_multiply` of all columns at once."""
    # The cost needs the part of the data in the span of the fixed factor only, at most M rows in place of m.
    axes, small = torch.linalg.qr(fixed)
    inside = axes.T @ data
    outside = (data - axes @ inside).square().sum()
    numerator, model = (fixed.T @ data).add_(d * d), Model(fixed, d)
    free, updated, previous = free.clone(), torch.empty_like(free), math.inf
    for _ in range(passes):
        torch.mul(free, numerator, out=updated).div_(model(free))
        if tolerance > -math.inf:
            cost = (inside - small @ updated).square().sum().add(outside).item()
            if previous - cost < tolerance * cost:
                break
            previous = cost
        free, updated = updated, free
    return free


def _alternate(data: Tensor, w: Tensor, h: Tensor, d: float, order: str) -> tuple[Tensor, Tensor]:
    """Updates of both factors in turn, ``order`` "wh" or "hw", with the stop test of :func:`_multiply` after each pair.

    The products ``data H^T`` and ``W H H^T``, which the update of W needs, give the cost as well.
    """
    energy = data.square().sum().item()
    h, new_h = h.clone(), torch.empty_like(h)
    target, model = data @ h.T, torch.linalg.multi_dot([w, h, h.T])
    previous = math.inf
    for _ in range(INNER - 1):
        if order == "wh":
            new_w = w * target / model.clamp_(min=SMALLEST)
            target = _update_abundances(data, new_w, h, d, new_h)
        else:
            target = _update_abundances(data, w, h, d, new_h)
            new_w = w * target / torch.linalg.multi_dot([w, new_h, new_h.T]).clamp_(min=SMALLEST)
        model = torch.linalg.multi_dot([new_w, new_h, new_h.T])
        cost = energy + ((model - 2 * target) * new_w).sum().item()
        gain = previous - (1 + TOLERANCE) * cost
        if abs(gain) < ROUNDING * energy:  # the difference of large numbers does not tell
            gain = _cost(data, w, h) - (1 + TOLERANCE) * _cost(data, new_w, new_h)
        if gain < 0:
            break
        w, h, new_h, previous = new_w, new_h, h, cost
    return w, h


def _update_abundances(data: Tensor, w: Tensor, h: Tensor, d: float, out: Tensor) -> Tensor:
    """One update of H into ``out``, and its product ``data H^T``."""
    model, target = Model(w, d), torch.zeros_like(w)
    for h_, out_, data_ in in_blocks(h, out, data):
        torch.mm(w.T, data_, out=out_).add_(d * d).mul_(h_).div_(model(h_))
        target.addmm_(data_, out_.T)
    return target


class Model:
    """``fixed^T fixed free`` with the constant row of weight d, in the cheaper order; fixed is (m, M).

    Without the constant row it may be 0, where the factor is (a dead band); there something else to divide by.
    """

    def __init__(self, fixed: Tensor, d: float) -> None:
        if d:
            fixed = torch.cat([fixed, fixed.new_full((1, fixed.shape[1]), d)])
        self.may_vanish = not d
        self.factors = (fixed.T, fixed) if 2 * len(fixed) < fixed.shape[1] else (fixed.T @ fixed,)

    def __call__(self, free: Tensor) -> Tensor:
        """(M, n) -> (M, n)."""
        for factor in reversed(self.factors):
            free = factor @ free
        return free.clamp_(min=SMALLEST) if self.may_vanish else free


def _cost(data: Tensor, w: Tensor, h: Tensor) -> float:
    """``||data - W H||^2``."""
    return (data - w @ h).square().sum().item()


def _interpolated(abundances: Tensor, size: torch.Size) -> Tensor:
    """LR abundance maps (M, h, w) -> (M, N) at HR, cut off at 0."""
    maps = resize(abundances[None], size)[0].flatten(1).clamp(min=0)
    return maps.masked_fill((maps == 0).all(0), 1 / len(maps))


def _sum_to_one_weight(pixels: Tensor) -> float:
    """The weight d of the release, from Z (msi_bands, N); positive also where Z is 0."""
    return max(2 * math.sqrt(pixels.mean().item() / 0.7455) / len(pixels) ** 3, 1e-6)


@register(
    "cnmf",
    family="classical",
    told="known",
    paper="Yokoya, Yairi, Iwasaki, Coupled nonnegative matrix factorization unmixing, IEEE TGRS 2012",
    year=2012,
    fidelity="reference",
    source="ricardoborsoi/FuVarRelease@2164cd87, utils/HSMSFusionToolbox/Methods/CNMF",
    note="Given the SRF; takes LR pixels for block centres, whatever the phase of the data.",
)
def cnmf(ratio: int, srf: Tensor | None = None, mode: str = "known", endmembers: int = 30, start: str = "vca",
         seed: int = 0) -> CNMF:
    """Build it.

    Args:
        ratio: HR pixels per LR pixel along one side.
        srf: (msi_bands, bands), for ``mode="known"``.
        mode: ``"known"`` SRF; or ``"blind"``: it and an offset of the MSI bands are estimated.
        endmembers: M, cut to the number of bands.
        start: of the endmembers, ``"vca"`` (random) or ``"spa"``.
        seed: of VCA, for each image anew.

    Raises:
        MethodError: unknown mode or start; SRF missing for ``"known"``; endmembers not positive.
    """
    if start not in ("vca", "spa"):
        raise MethodError(f"cnmf: start '{start}'; choices: vca, spa")
    if endmembers < 1:
        raise MethodError(f"cnmf: {endmembers} endmembers; at least 1 is needed")
    known = told_responses("cnmf", mode, srf=srf, needs=("srf",))
    return CNMF(known.srf if known else None, ratio, endmembers, start, seed)


@register(
    "cnmf-blind",
    family="classical",
    told="blind",
    paper="Yokoya, Yairi, Iwasaki, Coupled nonnegative matrix factorization unmixing, IEEE TGRS 2012",
    year=2012,
    fidelity="reference",
    source="ricardoborsoi/FuVarRelease@2164cd87, utils/HSMSFusionToolbox/Methods/CNMF",
    note="Blind: SRF estimated; takes LR pixels for block centres, whatever the phase of the data.",
)
def cnmf_blind(ratio: int, endmembers: int = 30, start: str = "vca", seed: int = 0) -> CNMF:
    """Build :func:`cnmf` without any response given."""
    return cnmf(ratio, mode="blind", endmembers=endmembers, start=start, seed=seed)
