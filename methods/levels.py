"""Noise levels and rank of an LR-HSI and HR-MSI, from the pair alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from methods.separable import Blur

ROUNDING = 1e-12  # variance in parts of that of the leading component: images are float32
TINY = 1e-30  # black images
SURE = 2.0  # standard errors above an estimate at which it counts as one that errs upwards


class Components(NamedTuple):
    """Mean (bands, 1), all axes (bands, bands) and variances (bands,) of Y, how many are signal, and s2."""

    mean: Tensor
    axes: Tensor
    variances: Tensor
    rank: int
    noise: float


def principal_components(pixels: Tensor, limit: int) -> Components:
    """Those of Y (bands, n) that stand out from white noise, one at least and ``limit`` at most.

    Without the first k components, the variance of the rest tells s2. The next one is noise, and k the rank, if it lies below
    the edge ``s2 (1 + sqrt(bands / n))^2`` of the eigenvalues of white noise
    (Marchenko, Pastur, 1967).
    """
    bands, samples = len(pixels), max(2, pixels.shape[1]) - 1
    mean = pixels.mean(1, keepdim=True)
    variances, axes = torch.linalg.eigh((pixels - mean) @ (pixels - mean).T / samples)
    variances = variances.flip(0).clamp(min=0)
    floor = ROUNDING * float(variances[0]) + TINY
    last = max(1, min(limit, bands - 1, samples - 1))
    for rank in range(1, last + 1):
        # Components take degrees of freedom from bands and from samples.
        noise = float(variances[rank:].sum()) / max(1, bands - rank) * samples / max(1, samples - rank)
        if rank == last or variances[rank] <= max(noise * (1 + math.sqrt(bands / samples)) ** 2, floor):
            break
    return Components(mean, axes.flip(1), variances, rank, max(noise, floor))


def msi_noise(low: Tensor, z: Tensor, srf: Tensor, blur: Blur, noise: float) -> float:
    """Variance of the white noise in Z (msi_bands, H, W): the smaller of two estimates that err upwards; 0 or less: none.

    The one from second differences (Immerkær, CVIU 64(2), 1996) of the calmer half of the pixels, in the mixture of bands that
    shows least of them: texture is alike in all bands, noise is not. The other from what distinguishes B Z from R Y beyond
    the noise of Y (bands, h, w), whose variance is ``noise``.
    """
    kernel = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]]).to(z) / 6
    details = conv2d(z[:, None], kernel[None, None])[:, 0]
    activity = avg_pool2d(details.square().mean(0)[None], 5, 1, 2, count_include_pad=False).flatten()
    calm = details.flatten(1)[:, activity <= activity.median()]
    textured = torch.linalg.eigvalsh(calm @ calm.T / calm.shape[1])[0]
    power = srf.square().sum(1)
    excess = (blur(z) - torch.einsum("mb,bxy->mxy", srf, low)).square().mean((1, 2)) - noise * power
    weight = 1 / power.clamp(min=TINY).square()  # the noise of Y gives a mean square the variance 2 (noise * power)^2 / (h w)
    error = noise * (2 / (low[0].numel() * weight.sum())).sqrt()
    paired = ((weight * excess).sum() / weight.sum() + SURE * error) / blur.energy()
    return float(torch.minimum(textured, paired))
