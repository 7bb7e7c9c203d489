"""CO-CNMF: coupled non-negative matrix factorisation by convex optimisation; makes the draft that QRCODE looks at.

Papers: C.-H. Lin, F. Ma, C.-Y. Chi, C.-H. Hsieh, "A Convex Optimization-Based Coupled Nonnegative Matrix Factorization
Algorithm for Hyperspectral and Multispectral Data Fusion", TGRS 2018; its start: C.-H. Lin, C.-Y. Chi, Y.-H. Wang,
T.-H. Chan, "A Fast Hyperplane-Based Minimum-Volume Enclosing Simplex Algorithm for Blind Hyperspectral Unmixing"
(HyperCSI), TSP 2016. Algorithm as in IHCLab/CO-CNMF @ c7b22ee2668865a6848179836337f4d83cfcccbb (MATLAB). That QRCODE's
drafts were made by it is inferred from names and authors.

The model is Z = A S: endmembers A (bands, N), abundances S (N, pixels), both non-negative. Minimised is

    0.5 |X - A S B|^2 + 0.5 |Y - D A S|^2 + 0.5 lambda1 sum_ij |a_i - a_j|^2 + lambda2 |S|_1

over A and S in turn, by ADMM, the sum running over pairs i < j. X is the LR-HSI, Y the HR-MSI, D the spectral response.
The blur B is structured: its support is the cell of ratio x ratio HR pixels that one LR pixel covers, so that S B is a
weighted mean g of each cell. Both quadratic steps are solved exactly without the Kronecker systems they are written
with: g g^T has one eigenvalue that is not zero, D^T D only as many as the MSI has bands.

Departures: the release stops the refinement of the vertices when the volume stands still, here the number of sweeps is
fixed, so that an image of a batch does not depend on the others; abundances start at 1 at most, which matters where the
data hold fewer endmembers than asked for; a PSF wider than the cell is cut.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.registry import MethodError

RANK = 1e-6  # what is smaller, in data of order 1, is float32 rounding: fewer endmembers than asked for
ETA = 0.9  # HyperCSI's shrinkage of the simplex against noise
OUTER, INNER = 30, 5  # alternations, ADMM steps of each; the penalty parameter is 1


@torch.no_grad()
def co_cnmf(lr_hsi: Tensor, hr_msi: Tensor, psf: Tensor, srf: Tensor, phase: int | None = None, endmembers: int = 10,
            lambda1: float = 1e-3, lambda2: float = 1e-3) -> Tensor:
    """Fuse a batch of images; float64 inside.

    Args:
        lr_hsi: (B, bands, h, w).
        hr_msi: (B, msi_bands, H, W), H = ratio * h.
        psf: (k, k), k odd.
        srf: (msi_bands, bands).
        phase: 0-based index of the first HR sample that decimation keeps; None: the centre of the cell.
        endmembers: N, better too many than too few; no more than bands or LR pixels are used.
        lambda1: weight of the distances between endmembers.
        lambda2: weight of the abundances' L1 norm.

    Returns:
        (B, bands, H, W), dtype of ``lr_hsi``.

    Raises:
        MethodError: sizes that do not belong together.
    """
    batch, bands, rows, columns = lr_hsi.shape
    ratio = hr_msi.shape[2] // rows
    if hr_msi.shape[2:] != (ratio * rows, ratio * columns) or srf.shape != (hr_msi.shape[1], bands):
        raise MethodError(f"co_cnmf: LR-HSI {tuple(lr_hsi.shape)}, HR-MSI {tuple(hr_msi.shape)} and spectral response "
                          f"{tuple(srf.shape)} do not belong together; give (B, bands, h, w), (B, msi_bands, "
                          "ratio * h, ratio * w) and (msi_bands, bands)")
    count = min(endmembers, bands, rows * columns)
    if count < 2:
        raise MethodError(f"co_cnmf: {endmembers} endmembers of {bands} bands and {rows * columns} LR pixels; "
                          "two of each are the least")
    x = lr_hsi.double().flatten(2)  # (B, bands, n), n = h * w cells
    y = F.pixel_unshuffle(hr_msi.double(), ratio).view(batch, -1, ratio**2, rows * columns)  # (B, msi_bands, cell, n)
    d = srf.to(x)
    g = cell_weights(psf.to(x), ratio, (ratio - 1) // 2 if phase is None else phase)

    a, lr_s = hypercsi(x, count)
    s = lr_s[:, :, None].expand(-1, -1, ratio**2, -1)  # (B, N, cell, n): one LR abundance for its whole cell
    split_a, split_s = a, s
    dual_a, dual_s = torch.zeros_like(a), torch.zeros_like(s)
    for _ in range(OUTER):
        target, solve_s = abundance_step(split_a, x, y, d, g)
        for _ in range(INNER):
            s = solve_s(target + split_s - dual_s)
            split_s = (s + dual_s - lambda2).clamp(min=0)  # soft threshold and sign
            dual_s = dual_s + s - split_s
        target, solve_a = endmember_step(split_s, x, y, d, g, lambda1)
        for _ in range(INNER):
            a = solve_a(target + split_a - dual_a)
            split_a = (a + dual_a).clamp(min=0)
            dual_a = dual_a + a - split_a
    z = torch.einsum("bln,bncp->blcp", split_a, split_s)
    return F.pixel_shuffle(z.reshape(batch, bands * ratio**2, rows, columns), ratio).to(lr_hsi.dtype)


def cell_weights(psf: Tensor, ratio: int, phase: int) -> Tensor:
    """(k, k) -> (ratio * ratio,): what each HR pixel of a cell weighs in its LR pixel, row-major; sums to 1."""
    start = ratio + psf.shape[-1] // 2 - phase  # of the cell, in the padded PSF
    cell = slice(start, start + ratio)
    weights = F.pad(psf, (ratio,) * 4)[cell, cell].flatten()
    return weights / weights.sum()


def abundance_step(a: Tensor, x: Tensor, y: Tensor, d: Tensor, g: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The quadratic step of S for fixed A.

    With G = D A, a cell's abundances (N, cell) solve (G^T G + I) S + A^T A S g g^T = R. Along g and across it these are
    two systems of size N, the same for all cells.

    Returns:
        The part of R that the images give, (B, N, cell, n), and the solver R -> S.
    """
    low = d @ a  # (B, msi_bands, N)
    across = low.mT @ low + torch.eye(a.shape[2]).to(a)
    along = across + g.square().sum() * (a.mT @ a)
    across, along = torch.linalg.inv(across), torch.linalg.inv(along)
    direction = g / g.norm()
    target = (a.mT @ x)[:, :, None] * g[:, None] + torch.einsum("bmn,bmcp->bncp", low, y)

    def solve(r: Tensor) -> Tensor:
        on_g = torch.einsum("bncp,c->bnp", r, direction)
        return torch.einsum("bnk,bkcp->bncp", across, r) + ((along - across) @ on_g)[:, :, None] * direction[:, None]

    return target, solve


def endmember_step(s: Tensor, x: Tensor, y: Tensor, d: Tensor, g: Tensor,
                   lambda1: float) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The quadratic step of A for fixed S.

    A (S B (S B)^T + lambda1 P^T P + I) + D^T D A S S^T = R, where P takes differences between endmembers:
    P^T P = N I - 1 1^T. In the eigenvectors of D^T D the rows of A part, into one system of size N each.

    Returns:
        The part of R that the images give, (B, bands, N), and the solver R -> A.
    """
    count = s.shape[1]
    lr_s = torch.einsum("bncp,c->bnp", s, g)  # S B
    eye = torch.eye(count).to(s)
    flat_s, flat_y = s.flatten(2), y.flatten(2)
    hsi_gram = lr_s @ lr_s.mT + lambda1 * (count * eye - 1) + eye
    msi_gram = flat_s @ flat_s.mT
    values, vectors = torch.linalg.eigh(d.mT @ d)
    inverse = torch.linalg.inv(hsi_gram[:, None] + values.clamp(min=0)[:, None, None] * msi_gram[:, None])
    target = x @ lr_s.mT + d.mT @ (flat_y @ flat_s.mT)

    def solve(r: Tensor) -> Tensor:
        return vectors @ torch.einsum("blk,blkn->bln", vectors.mT @ r, inverse)

    return target, solve


def hypercsi(pixels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """HyperCSI: the simplex around the pixels from one hyperplane a facet, each estimated from extreme pixels.

    Normals of facets are gradients of barycentric coordinates, so one pseudo-inverse gives all of them.

    Args:
        pixels: (B, bands, n).
        count: of endmembers, N >= 2.

    Returns:
        Endmembers (B, bands, N), clipped at 0, and abundances (B, N, n), clipped at 0 and 1.
    """
    mean = pixels.mean(2, keepdim=True)
    centred = pixels - mean
    basis = torch.linalg.eigh(centred @ centred.mT)[1][..., 1 - count :]  # (B, bands, N - 1): the leading components
    reduced = basis.mT @ centred  # (B, N - 1, n)
    reduced = reduced * (reduced.abs().amax(2, keepdim=True) > RANK)
    vertices = purest_pixels(reduced, count)  # (B, N - 1, N)

    # Facet i: of the pixels around each other vertex (within half the least distance of two), the farthest outwards.
    outward = -facet_gradients(vertices)  # (B, N, N - 1)
    apart = distances(vertices, vertices) + torch.full((count,), torch.inf).diag().to(pixels)
    radius = apart.flatten(1).amin(1)[:, None, None] / 2
    near = distances(vertices, reduced) <= radius  # (B, N, n), of each vertex
    normals = []
    for i in range(count):
        reach = (outward[:, i : i + 1] @ reduced).masked_fill(~near, -torch.inf)  # (B, N, n)
        extreme = reduced.gather(2, reach.argmax(2)[:, None].expand(-1, count - 1, -1))  # (B, N - 1, N)
        extreme[:, :, i] = vertices[:, :, i]
        normals.append(-facet_gradients(extreme)[:, i])
    normals = F.normalize(torch.stack(normals, 1), dim=2, eps=1e-30)  # type: ignore[assignment]  # (B, N, N - 1)
    offsets = (normals @ reduced).amax(2, keepdim=True)  # (B, N, 1): the facets enclose all pixels

    others = torch.tensor([[k for k in range(count) if k != i] for i in range(count)], device=pixels.device)
    corners = (torch.linalg.pinv(normals[:, others], rtol=RANK) @ offsets[:, others])[..., 0].mT  # type: ignore[call-overload]  # (B, N - 1, N)
    # Shrunk until no endmember is negative, and by ETA.
    shrink = ((-basis @ corners) / mean.clamp(min=1e-12)).flatten(1).amax(1).clamp(min=1)[:, None, None] / ETA
    corners, offsets = corners / shrink, offsets / shrink
    height = offsets - (normals * corners.mT).sum(2, keepdim=True)  # (B, N, 1), of a corner over its facet
    flat = height.abs() < RANK
    abundances = torch.where(flat, 1 / count, (offsets - normals @ reduced) / height.masked_fill(flat, 1))
    return (basis @ corners + mean).clamp(min=0), abundances.clamp(0, 1)


def purest_pixels(reduced: Tensor, count: int) -> Tensor:
    """(B, N - 1, n) -> (B, N - 1, N): pixels by successive projection, then each moved to where it is farthest out."""
    residual, places = torch.cat((reduced, torch.ones_like(reduced[:, :1])), 1), []  # (B, N, n)
    for _ in range(count):
        places.append(residual.square().sum(1).argmax(1))  # (B,)
        direction = F.normalize(take(residual, places[-1]), dim=1, eps=1e-30)  # (B, N, 1)
        residual = residual - direction @ (direction.mT @ residual)
        residual = residual * (residual.abs() > RANK)
    vertices = torch.cat([take(reduced, place) for place in places], 2)
    for _ in range(count):
        for i in range(count):
            gradient = facet_gradients(vertices)[:, i : i + 1]  # (B, 1, N - 1)
            vertices[:, :, i : i + 1] = take(reduced, (gradient @ reduced)[:, 0].argmax(1))
    return vertices


def take(x: Tensor, place: Tensor) -> Tensor:
    """(B, C, n), (B,) -> (B, C, 1): one pixel of each image."""
    return x.gather(2, place[:, None, None].expand(-1, x.shape[1], 1))


def distances(x: Tensor, y: Tensor) -> Tensor:
    """(B, C, n), (B, C, m) -> (B, n, m), exactly 0 between equal pixels."""
    return torch.cdist(x.mT, y.mT, compute_mode="donot_use_mm_for_euclid_dist")


def facet_gradients(vertices: Tensor) -> Tensor:
    """(B, N - 1, N) -> (B, N, N - 1): gradients of the barycentric coordinates: each facet's inward normal."""
    lifted = torch.cat((vertices, torch.ones_like(vertices[:, :1])), 1)
    return torch.linalg.pinv(lifted, rtol=RANK)[..., :-1]
