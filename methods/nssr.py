"""NSSR: nonnegative sparse codes over a learned spectral dictionary, tied to those of similar pixels of the MSI.

Dong, Fu, Shi, Cao, Wu, Li, Li, "Hyperspectral image super-resolution via non-negative structured sparse representation",
IEEE TIP 25(5):2337-2352, 2016; details and parameters as described of the code in magamig/hif-benchmarking @ ef235704,
``methods/NSSR``, which was not run.

Symbols: Y LR bands, Z MSI bands, X the wanted image, all with one pixel a column; D (bands, atoms) the dictionary, A its
codes, R the SRF, D0 = R D, K blur and decimation, W the weights of similar pixels, V1 and V2 multipliers.

    min ||Y - X K||^2 + ||Z - D0 A||^2 + eta1 ||D A - U||^2 + eta2 |S|_1,   X = D A,  S = A,  S >= 0,  U = X W.

ADMM from X the cubic interpolation of Y, S = V1 = V2 = 0. One iteration:

    U  = X W
    A  = (D0' D0 + (eta1 + mu) D' D + mu I)^-1 (D0' Z + eta1 D' U + D' (mu X - V1 / 2) + mu S + V2 / 2)
    X  = argmin ||Y - X K||^2 + mu ||X - D A - V1 / (2 mu)||^2
    S  = max(A - (V2 + eta2) / (2 mu), 0)
    V1 = V1 + 2 mu (D A - X),  V2 = V2 + 2 mu (S - A),  mu = 1.1 mu.

The fused image is ``D A``. It does not depend on the part of X outside the span of D, so X lives in that span.

Departures: X is solved for exactly in the Fourier domain, all bands at once, in place of conjugate gradients; no alternating
back-projection at the end; an MSI of fewer than three bands is compared in those that it has. Ours, where that description
is silent: the start, the order of the steps and the step 2 mu of the multipliers; ``D A`` and neither X nor ``D S`` as result;
sparse codes that minimise ``||y - D b||^2 / 2 + lambda |b|_1``; as distance of two patches the mean of their squared
differences; a pixel counts among those similar to it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from methods.estimation import estimate_srf, ratio_of, remove_offset
from methods.registry import Method, register
from methods.resample import resize
from methods.responses import Told, gaussian_psf, told_responses, transfer
from methods.sylvester import add_spread, fold, inverse_rfft2
from methods.tensor_prior import check_positive
from methods.unmixing import in_blocks

ROUNDS, SPARSITY = 10, 1e-3  # of dictionary learning: alternations and lambda
PASSES, PENALTY, RELAXATION = 300, 0.1, 1.6  # of the ADMM for the codes: to a hundredth of the minimum, even from zero
SIMILAR, REACH, DECAY = 10, 18, 90.0  # similar pixels, how far they may lie, h of their weights exp(-distance / h)
GREY = 255.0  # value range of the MSI in which DECAY is meant


class NSSR:
    """Sparse codes of both images at once. Responses are given, or estimated if ``known`` is None. No clipping."""

    card: Method

    def __init__(self, known: Told | None, atoms: int, eta1: float, eta2: float, mu: float, growth: float,
                 iterations: int, seed: int) -> None:
        self.known, self.atoms, self.seed = known, atoms, seed
        self.eta1, self.eta2, self.mu, self.growth, self.iterations = eta1, eta2, mu, growth, iterations

    @torch.no_grad()
    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Fuse, in float64 inside, one image after the other.

        Args:
            lr_hsi: (B, bands, h, w), values around [0, 1]: the weights of the terms are meant for that range.
            hr_msi: (B, msi_bands, H, W), likewise.

        Returns:
            (B, bands, H, W), dtype of ``lr_hsi``.

        Raises:
            MethodError: H and W that are not one whole multiple of h and w.
        """
        ratio_of(lr_hsi, hr_msi)
        dtype, lr_hsi, hr_msi = lr_hsi.dtype, lr_hsi.double(), hr_msi.double()
        if self.known:
            psf, srf, phase = self.known
            srfs = srf.to(lr_hsi).expand(len(lr_hsi), -1, -1)
        else:  # as in the wrappers of the release
            psf, phase = gaussian_psf(7, 2), 0
            srfs, offset = estimate_srf(lr_hsi, hr_msi)
            hr_msi = remove_offset(hr_msi, offset)
        psf, rolled = psf.to(lr_hsi), hr_msi.roll((-phase, -phase), (2, 3))
        fused = torch.stack([self._fuse_image(y, z, psf, srf) for y, z, srf in zip(lr_hsi, rolled, srfs, strict=True)])
        return fused.roll((phase, phase), (2, 3)).to(dtype)

    def _fuse_image(self, lr_hsi: Tensor, hr_msi: Tensor, psf: Tensor, srf: Tensor) -> Tensor:
        """Y (bands, h, w), Z (msi_bands, H, W) -> (bands, H, W), float64, decimation phase 0."""
        size = hr_msi.shape[1], hr_msi.shape[2]
        atoms = learn_dictionary(lr_hsi.flatten(1), self.atoms, torch.Generator().manual_seed(self.seed))
        if not atoms.shape[1]:  # an LR image without light
            return lr_hsi.new_zeros(len(lr_hsi), *size)
        span, d = torch.linalg.qr(atoms)  # from here on bands are axes of the span of D: (q, atoms), q <= atoms
        lr = (span.T @ lr_hsi.flatten(1)).unflatten(1, lr_hsi.shape[1:])
        data, neighbours = LowResolution(lr, psf, ratio_of(lr_hsi, hr_msi), size), similar_pixels(hr_msi)
        seen, gram, eye = srf @ atoms, d.T @ d, torch.eye(d.shape[1]).to(d)
        target, inner = seen.T @ hr_msi.flatten(1), seen.T @ seen

        x = resize(lr[None], size)[0].flatten(1)
        s, v2, v1, mu = torch.zeros_like(target), torch.zeros_like(target), torch.zeros_like(x), self.mu
        image, goal = torch.empty_like(x), torch.empty_like(x)
        for _ in range(self.iterations):
            u = embedding_bag(neighbours[0], x.T.contiguous(), per_sample_weights=neighbours[1], mode="sum").T
            inverse = torch.linalg.inv(inner + (self.eta1 + mu) * gram + mu * eye)
            for u_, x_, v1_, target_, s_, v2_, image_, goal_ in in_blocks(u, x, v1, target, s, v2, image, goal):
                pull = (mu * x_).sub_(v1_, alpha=0.5).add_(u_, alpha=self.eta1)
                right = torch.addmm(target_, d.T, pull).add_(s_, alpha=mu).add_(v2_, alpha=0.5)
                a = inverse @ right
                torch.mm(d, a, out=image_)
                torch.sub(a, v2_ + self.eta2, alpha=1 / (2 * mu), out=s_).clamp_(min=0)
                v2_.add_(s_, alpha=2 * mu).sub_(a, alpha=2 * mu)
                torch.add(image_, v1_, alpha=1 / (2 * mu), out=goal_)
            x = data.nearest(goal.unflatten(1, size), mu).flatten(1)
            torch.sub(goal, x, out=v1).mul_(2 * mu)  # V1 + 2 mu (D A - X)
            mu *= self.growth
        return (span @ image).unflatten(1, size)


class LowResolution:
    """Blur and decimation K, circular, of phase 0, that lead to the LR image (q, h, w) from an HR image of ``size``."""

    def __init__(self, lr_hsi: Tensor, psf: Tensor, ratio: int, size: tuple[int, int]) -> None:
        self.size, self.ratio, self.lr = size, ratio, torch.fft.rfft2(lr_hsi)
        self.blur = transfer(psf, size)[:, : size[1] // 2 + 1]
        self.energy = fold(self.blur, self.blur.conj(), size[1], ratio).real

    def nearest(self, target: Tensor, mu: float) -> Tensor:
        """(q, H, W) -> (q, H, W): the x of least ``||lr - K x||^2 + mu ||x - target||^2``.

        That is target + K' (K K' + mu I)^-1 (lr - K target); K K' is diagonal in the Fourier domain.
        """
        spectrum = torch.fft.rfft2(target)
        missing = (self.lr - fold(spectrum, self.blur, self.size[1], self.ratio)) / (self.energy + mu)
        add_spread(spectrum.zero_(), missing, self.blur.conj(), self.size[1] // self.ratio)
        return inverse_rfft2(spectrum, self.size[1]).add_(target)


def learn_dictionary(pixels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Nonnegative atoms of norm 1 at most, from random pixels by alternation with their sparse codes.

    Y (bands, n) -> D (bands, atoms): ``count`` atoms at most, no more than there are pixels with a positive value.
    ``generator`` is on the CPU.
    """
    lit = pixels.clamp(min=0)  # noise may be negative, an atom may not
    lit = lit[:, lit.norm(dim=0) > 0]
    dictionary = lit[:, torch.randperm(lit.shape[1], generator=generator)[:count].to(lit.device)]
    dictionary = dictionary / dictionary.norm(dim=0)
    codes = pixels.new_zeros(dictionary.shape[1], pixels.shape[1])
    for _ in range(ROUNDS if dictionary.numel() else 0):
        codes = sparse_codes(dictionary, pixels, codes)
        dictionary = updated_atoms(dictionary, pixels, codes)
    return dictionary


def sparse_codes(dictionary: Tensor, pixels: Tensor, start: Tensor, passes: int = PASSES) -> Tensor:
    """The codes B >= 0 that minimise ``||Y - D B||^2 / 2 + lambda |B|_1``, by over-relaxed ADMM.

    D (bands, atoms) of norms about 1, Y (bands, n), start (atoms, n) -> (atoms, n).
    """
    gram, target = dictionary.T @ dictionary, dictionary.T @ pixels - SPARSITY
    inverse = torch.linalg.inv(gram + PENALTY * torch.eye(len(gram)).to(gram))
    free, codes = RELAXATION * (inverse @ target), torch.empty_like(start)
    # ADMM keeps codes max(v, 0) and dual min(v, 0) of one v. Their difference is |v|, and any mix of them one of v and |v|.
    mix = PENALTY * RELAXATION * inverse - RELAXATION / 2 * torch.eye(len(gram)).to(gram)
    for free_, start_, codes_ in in_blocks(free, start, codes):
        v, size = start_.clone(), torch.empty_like(start_)
        for _ in range(passes):
            v.addmm_(mix, torch.abs(v, out=size), beta=1 - RELAXATION / 2).add_(free_)
        torch.clamp(v, min=0, out=codes_)
    return codes


def updated_atoms(dictionary: Tensor, pixels: Tensor, codes: Tensor) -> Tensor:
    """One round of the column updates, each seeing those before: D (bands, atoms), Y (bands, n), B (atoms, n) -> D.

    ``d_k <- max(d_k + (Y - D B) b_k' / ||b_k||^2, 0)``, cut to norm 1; an atom that no pixel uses stays.
    """
    dictionary, cross, gram = dictionary.clone(), pixels @ codes.T, codes @ codes.T
    for k, energy in enumerate(gram.diagonal().tolist()):
        if energy > torch.finfo(gram.dtype).tiny:
            atom = (dictionary[:, k] + (cross[:, k] - dictionary @ gram[:, k]) / energy).clamp(min=0)
            dictionary[:, k] = atom / atom.norm().clamp(min=1)
    return dictionary


def similar_pixels(hr_msi: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels whose 3 x 3 patches are closest, the pixel itself among them, and their weights: W.

    Z (msi_bands, H, W) -> indices (H W, SIMILAR) into its rows laid end to end, and as many weights that sum to 1 for each
    pixel. The first three bands count; patches see the edges repeated.
    """
    height, width = hr_msi.shape[1:]
    framed = pad(hr_msi[None, :3] * GREY, (1,) * 4, mode="replicate")[0]
    reach = min(REACH, max(height, width) - 1)
    far = pad(framed, (reach,) * 4, value=torch.inf)  # a patch that is not there is infinitely far
    own = torch.arange(height * width, device=hr_msi.device).view(height, width)
    candidates = hr_msi.new_full((SIMILAR + 2 * reach + 1, height, width), torch.inf)  # the best so far, then those of a row
    index = own.expand(SIMILAR, -1, -1)
    for i in range(2 * reach + 1):  # one row of the window at a time keeps memory within that of a cube
        for j, candidate in enumerate(candidates[SIMILAR:]):
            apart = (far[:, i : i + height + 2, j : j + width + 2] - framed).square_().sum(0)
            apart = (apart[:-2] + apart[1:-1]).add_(apart[2:])
            torch.add(apart[:, :-2], apart[:, 1:-1], out=candidate).add_(apart[:, 2:]).div_(9 * len(framed))
        best, kept = candidates.topk(SIMILAR, 0, largest=False)
        candidates[:SIMILAR] = best
        place = own + (i - reach) * width + kept - SIMILAR - reach  # of one from the row
        index = torch.where(kept < SIMILAR, index.gather(0, kept.clamp(max=SIMILAR - 1)), place)
    weight = (-best / DECAY).exp()  # 0 where a small image has no further pixel
    index = torch.where(best.isfinite(), index, own)
    return index.flatten(1).T.contiguous(), (weight / weight.sum(0)).flatten(1).T.contiguous()


@register(
    "nssr",
    family="classical",
    told="known",
    paper="Dong, Fu, Shi, Cao, Wu, Li, Li, Non-negative structured sparse representation (NSSR), IEEE TIP 2016",
    year=2016,
    fidelity="described",
    source="magamig/hif-benchmarking@ef235704 (as described)",
    note="Given PSF, SRF and phase; parameters of the release for ratio 4 and a Gaussian PSF; no back-projection at the end.",
)
def nssr(psf: Tensor | None = None, srf: Tensor | None = None, phase: int | None = None, mode: str = "known",
         atoms: int = 80, eta1: float = 0.015, eta2: float = 6e-5, mu: float = 2e-4, growth: float = 1.1,
         iterations: int = 26, seed: int = 0) -> NSSR:
    """Build it. The defaults are for ratio 4 and a Gaussian PSF of 8 x 8 and sigma 3.

    For a uniform PSF of 4 x 4 the release takes ``eta1=0.025, eta2=8e-5, mu=1e-4, iterations=25``.

    Args:
        psf: (k, k), for ``mode="known"``.
        srf: (msi_bands, bands), for ``mode="known"``.
        phase: 0-based index of the first HR sample that decimation keeps, for ``mode="known"``.
        mode: ``"known"`` responses or ``"blind"``.
        atoms: of the dictionary at most.
        eta1: weight of the distance to similar pixels.
        eta2: weight of the sparsity.
        mu: penalty of the ADMM at its start.
        growth: factor of mu, an iteration.
        iterations: of the ADMM.
        seed: of the LR pixels that the dictionary starts from.

    Raises:
        MethodError: unknown mode; responses missing for ``"known"``; a setting that is not positive.
    """
    check_positive("nssr", atoms=atoms, eta1=eta1, eta2=eta2, mu=mu, growth=growth, iterations=iterations)
    return NSSR(told_responses("nssr", mode, psf, srf, phase), atoms, eta1, eta2, mu, growth, iterations, seed)


@register(
    "nssr-blind",
    family="classical",
    told="blind",
    paper="Dong, Fu, Shi, Cao, Wu, Li, Li, Non-negative structured sparse representation (NSSR), IEEE TIP 2016",
    year=2016,
    fidelity="described",
    source="magamig/hif-benchmarking@ef235704 (as described)",
    note="Blind: SRF estimated, 7x7 Gaussian PSF of sigma 2, decimation phase 0 assumed; no back-projection at the end.",
)
def nssr_blind(atoms: int = 80, eta1: float = 0.015, eta2: float = 6e-5, mu: float = 2e-4, growth: float = 1.1,
               iterations: int = 26, seed: int = 0) -> NSSR:
    """Build :func:`nssr` without any response given."""
    return nssr(mode="blind", atoms=atoms, eta1=eta1, eta2=eta2, mu=mu, growth=growth, iterations=iterations, seed=seed)
