"""ARGS-Diff: two small diffusion models, of abundances and of spectra, that learn from the observed pair alone.

Paper: J. Zhu et al., "Self-Learning Hyperspectral and Multispectral Image Fusion via Adaptive Residual Guided Subspace
Diffusion Model", CVPR 2025.
Release: sampling Zhu1116/ARGS-Diff @ e1c460aa01a5fcb2f01a29ae550c5caece6e7728, training Zhu1116/ARGS-Diff-train @
5e71dbb205d30dfc3afe9d444a6af37deac740e8 (no licence file in either; written anew from a description, no code taken).

Symbols: Y the LR-HSI, X the HR-MSI, R the spectral response, D the reduction to LR size, A abundances (r, H, W) and E spectra
(r, bands) of the HR-HSI E^T A. The models live in [-1, 1]: states a = 2 A - 1 and e = 2 E - 1. For each image:

1. R is fitted to R Y = D X: rows are a softmax, so they are positive with sum one (:func:`fit_response`).
2. A U-Net learns the noise in patches of the MSI, a small network that in single spectra of the HSI (:func:`learn`).
3. DDIM sampling of a and e together, each step drawn to ||Y - D(Z)|| + ||X - R Z|| by an Adam step through both networks and a
   plain step on the states (:class:`Sampler`).

Notes on the release:

* The iterations are its defaults: 30,000 of the U-Net on 16 patches of 128x128 pixels, 400,000 to 800,000 of the spectral
  network and 500 of the sampling, 4e16 multiply-adds for an image of any size: ten days at 100 GFLOP/s. ``spatial_steps``,
  ``spectral_steps`` and ``sampling_steps`` cut it. Weights kept are an average of decay 0.9999, that is over 10,000
  iterations: trainings of less than 30,000 average over a third of them, the same share.
* D is MATLAB's bicubic reduction ("semi-blind", the default): it is not told the PSF, and errs where the true one is another.
  A mode that estimates the PSF as well is not built.
* Sizes of the spectral network are listed for 48, 103, 128 and 176 bands; another number takes the next larger one's.
* Each of the r channels of a training patch is an MSI band drawn at random. Patches shrink with images below 128 pixels, and
  a batch to the patches there are; sides that are no multiples of 8 are padded by replication, and cropped after.
* Norms have no gradient at zero: where the pair is met exactly, the pull is zero here, and NaN in the release.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import crop_to, pad_to_multiple
from methods.denoisers import GROUPS, STEPS, Predictors, size_for
from methods.estimation import ratio_of
from methods.per_image import fuse_each, iterations, report
from methods.registry import Method, MethodError, register
from methods.resample import resize

MULTIPLE = 8  # of the sides that the U-Net takes
PATCH, STRIDE, PATCHES, SPECTRA = 128, 32, 16, 128  # side and step of training patches, and batches
RATE, DECAY = 1e-4, 0.9999  # of the trainings: learning rate, falling to zero, and averaging of the weights
RESPONSE_RATE = 0.05
PULL, RESIDUAL, BETAS, EPSILON = 0.05, 0.005, (0.9, 0.999), 1e-8  # of the guidance


def image_of(a: Tensor, e: Tensor) -> Tensor:
    """The HR-HSI of states (1, rank, H, W) and (rank, bands): (1, bands, H, W)."""
    return torch.einsum("nrhw,rb->nbhw", (a + 1) / 2, (e + 1) / 2)


# ---- the diffusion


def schedule(device: torch.device | None = None) -> Tensor:
    """The share of the signal at the times 0, ..., 999, (1000,): near 1 until late, 0.001 at the last."""
    falling = (1 - torch.exp(-10 * (STEPS - 1 - torch.arange(STEPS, dtype=torch.float64)) / STEPS)) / (1 - math.exp(-10))
    return (0.001 + 0.999 * falling).to(device)


def learn(network: nn.Module, batches: Iterator[Tensor], steps: int, label: str) -> None:
    """Train a predictor of noise, in place, on ``steps`` batches in [-1, 1]; what is kept is the average of its weights."""
    average = deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.0)
    decay = min(DECAY, 1 - 3 / max(steps, 6))
    parameters, averaged = ([*each.parameters()] for each in (network, average))
    signal = schedule(parameters[0].device).float()
    with iterations(steps, label) as counted:
        for i in counted:
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - (i - 1) / steps)
            clean = next(batches)
            t = torch.randint(STEPS, (len(clean),)).to(clean.device)
            noise = torch.randn(clean.shape).to(clean)
            share = signal[t].view(-1, *[1] * (clean.ndim - 1))
            loss = F.mse_loss(network(share.sqrt() * clean + (1 - share).sqrt() * noise, t), noise)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                for kept, new in zip(averaged, parameters):
                    kept.lerp_(new, 1 - decay)
            report(counted, i, loss)
    network.load_state_dict(average.state_dict())


def shuffled(count: int, batch: int) -> Iterator[Tensor]:
    """Indices below ``count`` in passes of new order, ``batch`` at a time (all, if there are fewer); the rest is dropped."""
    batch = min(batch, count)
    while True:
        yield from (part for part in torch.randperm(count).split(batch) if len(part) == batch)


def patches_of(hr_msi: Tensor, rank: int) -> Iterator[Tensor]:
    """Batches (n, rank, side, side) of windows of an MSI (1, msi_bands, H, W), each channel a band drawn at random."""
    side = min(PATCH, *(n // MULTIPLE * MULTIPLE for n in hr_msi.shape[2:]))
    rows, columns = (range(0, n - side + 1, STRIDE) for n in hr_msi.shape[2:])
    corners = [(top, left) for top in rows for left in columns]
    for chosen in shuffled(len(corners), PATCHES):
        windows = [hr_msi[0, torch.randint(hr_msi.shape[1], (rank,)).to(hr_msi.device), top : top + side, left : left + side]
                   for top, left in (corners[i] for i in chosen.tolist())]
        yield 2 * torch.stack(windows) - 1


def spectra_of(lr_hsi: Tensor) -> Iterator[Tensor]:
    """Batches (n, bands) of the pixels of an HSI (1, bands, h, w)."""
    pixels = 2 * lr_hsi[0].flatten(1).T - 1
    for chosen in shuffled(len(pixels), SPECTRA):
        yield pixels[chosen.to(pixels.device)]


def fit_response(lr_hsi: Tensor, lr_msi: Tensor, steps: int, label: str) -> Tensor:
    """R (msi_bands, bands), rows positive with sum one, of the smallest mean absolute distance between R Y and D X.

    Args:
        lr_hsi: Y (1, bands, h, w).
        lr_msi: D X (1, msi_bands, h, w).
        steps: of Adam, from a uniform start.
        label: of the progress bar.
    """
    y, x = lr_hsi[0].flatten(1), lr_msi[0].flatten(1)
    logits = y.new_full((len(x), len(y)), 1 / len(y)).requires_grad_()
    optimiser = torch.optim.Adam([logits], RESPONSE_RATE)
    with iterations(steps, label) as counted:
        for i in counted:
            loss = (logits.softmax(1) @ y - x).abs().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            report(counted, i, loss)
    return logits.detach().softmax(1)


# ---- the sampling


class Step(NamedTuple):
    """What a sampling step goes through: clamped start estimates, noises that go with them, states after either pull."""

    a_start: Tensor
    e_start: Tensor
    a_noise: Tensor
    e_noise: Tensor
    a_pulled: Tensor
    e_pulled: Tensor
    a: Tensor
    e: Tensor
    distance: Tensor


class Sampler:
    """Takes states from one time to the next.

    Args:
        networks: that predict the noises.
        lr_hsi: Y (1, bands, h, w).
        hr_msi: X (1, msi_bands, H, W).
        response: R (msi_bands, bands).
    """

    def __init__(self, networks: Predictors, lr_hsi: Tensor, hr_msi: Tensor, response: Tensor) -> None:
        self.networks, self.y, self.x, self.response = networks, lr_hsi, hr_msi, response
        self.signal = schedule(lr_hsi.device).tolist()
        self.count = 0
        self.moments: list[tuple[Tensor, Tensor]] = []

    def start(self, state: Tensor, noise: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """The clamped estimate of what the state was at the beginning, and the noise that leads from there to it."""
        scale, share = math.sqrt(1 / self.signal[t]), math.sqrt(1 / self.signal[t] - 1)
        clean = (state * scale - share * noise).clamp(-1, 1)
        return clean, (state * scale - clean) / share

    def distance(self, a: Tensor, e: Tensor) -> Tensor:
        """||Y - D(Z)|| + ||X - R Z|| of the image of two states; Z itself, of all bands at HR, is not formed."""
        low = resize(a, self.y.shape[2:])  # D is linear and keeps constants
        of_y = self.y - image_of(low, e)
        of_x = self.x - torch.einsum("nrhw,rm->nmhw", (a + 1) / 2, (e + 1) / 2 @ self.response.T)
        return torch.linalg.vector_norm(of_y) + torch.linalg.vector_norm(of_x)

    def pull(self, i: int, gradient: Tensor) -> Tensor:
        """The ``i``-th of the states' Adam step along a gradient, with moments that last over the whole sampling."""
        if len(self.moments) == i:
            self.moments.append((torch.zeros_like(gradient), torch.zeros_like(gradient)))
        first, second = self.moments[i]
        first.lerp_(gradient, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        scale = (second / (1 - BETAS[1] ** self.count)).sqrt() + EPSILON
        return PULL * first / (1 - BETAS[0] ** self.count) / scale

    def step(self, a: Tensor, e: Tensor, t: int, following: int) -> Step:
        """From the time ``t`` to ``following``."""
        self.count += 1
        a, e = (state.detach().requires_grad_() for state in (a, e))
        (a_start, a_noise), (e_start, e_noise) = (
            self.start(state, noise, t) for state, noise in zip((a, e), self.networks.noises(a, e, t)))
        distance = self.distance(a_start, e_start)
        gradients = torch.autograd.grad(distance, (a, e))
        share = self.signal[following]
        with torch.no_grad():
            pulled = [math.sqrt(share) * clean + math.sqrt(1 - share) * noise - self.pull(i, gradient)
                      for i, (clean, noise, gradient) in enumerate(zip((a_start, e_start), (a_noise, e_noise), gradients))]
        a_pulled, e_pulled = (state.requires_grad_() for state in pulled)
        residual = torch.autograd.grad(self.distance(a_pulled, e_pulled), (a_pulled, e_pulled))
        a, e = (state.detach() - RESIDUAL * gradient for state, gradient in zip((a_pulled, e_pulled), residual))
        parts = a_start, e_start, a_noise, e_noise, a_pulled, e_pulled, a, e, distance
        return Step(*(part.detach() for part in parts))

    @torch.no_grad()
    def end(self, a: Tensor, e: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """The clamped start estimates, which the last step ends with."""
        return tuple(self.start(state, noise, t)[0]  # type: ignore[return-value]
                     for state, noise in zip((a, e), self.networks.noises(a, e, t)))


def times(steps: int) -> list[int]:
    """At which ``steps`` networks are asked, descending: the whole parts of linspace(-1, 999, steps + 1) but for -1."""
    return [int(t) for t in torch.linspace(-1, STEPS - 1, steps + 1, dtype=torch.float64).flip(0)[:-1]]


@dataclass
class SubspaceDiffusion:
    """Trains and samples both models for each image pair; arguments as :func:`args_diff`'s."""

    card: Method = field(init=False, repr=False)
    bands: int
    rank: int
    width: int
    spatial_steps: int
    spectral_steps: int
    sampling_steps: int
    response_steps: int
    seed: int

    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Fuse images one after the other: (B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W), in [0, 1].

        Raises:
            MethodError: sizes that are not multiples, or too small for the U-Net.
        """
        ratio = ratio_of(lr_hsi, hr_msi)
        fused = fuse_each(self.optimise, *pad_to_multiple(lr_hsi, hr_msi, ratio, MULTIPLE), name="args-diff", seed=self.seed)
        return crop_to(fused, hr_msi)

    def network(self, lr_size: tuple[int, int]) -> Predictors:
        """Both networks, new; they are the same for every size."""
        return Predictors(self.bands, self.rank, self.width)

    def optimise(self, y: Tensor, x: Tensor, label: str) -> Tensor:
        """Fuse one image: Y (1, bands, h, w) and X (1, msi_bands, H, W), sides of X multiples of 8 -> (1, bands, H, W)."""
        response = fit_response(y, resize(x, y.shape[2:]), self.response_steps, f"{label}, 1/4 response")
        networks = self.network((y.shape[2], y.shape[3])).to(y.device)
        learn(networks.spa, patches_of(x, self.rank), self.spatial_steps, f"{label}, 2/4 abundances")
        learn(networks.spe, spectra_of(y), self.spectral_steps, f"{label}, 3/4 spectra")
        networks.requires_grad_(False)
        a, e = torch.randn(1, self.rank, *x.shape[2:]).to(y), torch.randn(self.rank, self.bands).to(y)
        sampler, asked = Sampler(networks, y, x, response), times(self.sampling_steps)
        with iterations(len(asked), f"{label}, 4/4 sampling") as counted:
            for i in counted:
                if i == len(asked):
                    a, e = sampler.end(a, e, asked[-1])
                else:
                    step = sampler.step(a, e, asked[i - 1], asked[i])
                    a, e = step.a, step.e
                    report(counted, i, step.distance)
        return image_of(a, e).clamp(0, 1)


@register(
    "args-diff",
    family="unsupervised",
    told="blind",
    paper="Zhu et al., Self-Learning Fusion via Adaptive Residual Guided Subspace Diffusion (ARGS-Diff), CVPR 2025",
    year=2025,
    fidelity="release",
    source="Zhu1116/ARGS-Diff@e1c460aa01a5fcb2f01a29ae550c5caece6e7728, Zhu1116/ARGS-Diff-train@"
           "5e71dbb205d30dfc3afe9d444a6af37deac740e8",
    small={"width": 32, "spatial_steps": 1, "spectral_steps": 1, "sampling_steps": 2, "response_steps": 2},
    note="Trains two diffusion models on each image pair, then samples: hours to days an image. Blind; takes the PSF for a "
         "bicubic reduction. Costs are of one evaluation of both networks.",
)
def args_diff(
    bands: int, msi_bands: int, rank: int = 8, width: int = 64, spatial_steps: int = 30_000, spectral_steps: int | None = None,
    sampling_steps: int = 500, response_steps: int = 3000, seed: int = 47
) -> SubspaceDiffusion:
    """Build it.

    Args:
        bands: of the HSI.
        msi_bands: of the MSI, any number.
        rank: r, abundances of a pixel.
        width: of the U-Net at full size; a multiple of 32.
        spatial_steps: of the U-Net's training.
        spectral_steps: of the spectral network's training; None: the release's (:data:`methods.denoisers.SIZES`).
        sampling_steps: evaluations of both networks.
        response_steps: of the fit of the spectral response.
        seed: of parameters, batches, noise and the start of the sampling.

    Raises:
        MethodError: a number out of range.
    """
    counts = {"rank": rank, "spatial_steps": spatial_steps, "response_steps": response_steps, "sampling_steps": sampling_steps,
              "spectral_steps": size_for(bands).steps if spectral_steps is None else spectral_steps}
    for name, value in counts.items():
        if value < 1:
            raise MethodError(f"args-diff: {name} is {value}; give at least 1")
    if sampling_steps > STEPS:
        raise MethodError(f"args-diff: {sampling_steps} sampling steps; the diffusion has {STEPS}, choose as many at most")
    if width < GROUPS or width % GROUPS:
        raise MethodError(f"args-diff: width {width}; its normalisation has {GROUPS} groups, choose a multiple of {GROUPS}")
    return SubspaceDiffusion(bands, rank, width, spatial_steps, counts["spectral_steps"], sampling_steps, response_steps, seed)
