"""Loss terms, one function an equation. Where a paper's text and its release differ, both forms stand here by name.

Estimates and references are (B, bands, H, W); every function returns a 0-d tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def l1(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute difference: the reconstruction loss of the S3RNet text."""
    return F.l1_loss(estimate, reference)


def mse(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean squared difference."""
    return F.mse_loss(estimate, reference)


def smooth_l1(estimate: Tensor, reference: Tensor) -> Tensor:
    """Huber loss with beta 1: what the S3RNet release trains with. On [-1, 1] data almost always half the square."""
    return F.smooth_l1_loss(estimate, reference, beta=1.0)


def beba_paper(estimate: Tensor, reference: Tensor, alpha: float = 0.5, beta: float = 1.0, eps: float = 1e-6) -> Tensor:
    """Band-energy balanced loss as in S3RNet's eq. 12: D, the squared difference, in both terms.

    Per pixel alpha D + ReLU(D - beta); mean over a band's pixels over the band's energy mean(Y^2); mean over bands.
    ``eps`` stands for the text's "small epsilon"; the text's additive constant has no gradient and is left out.
    """
    squared = (estimate - reference).square()
    pixel = alpha * squared + F.relu(squared - beta)
    return (pixel.mean((2, 3)) / (reference.square().mean((2, 3)) + eps)).mean()


def beba_release(estimate: Tensor, reference: Tensor) -> Tensor:
    """BEBA as in the S3RNet release (``trainOps.py``): ReLU of the *absolute* difference, -0.5 kept, epsilon 0.1.

    Negative for good fits, by -0.5 over the band energy.
    """
    difference = (estimate - reference).abs()
    pixel = 0.5 * difference.square() + F.relu(difference - 1.0) - 0.5
    return (pixel.mean((2, 3)) / (reference.square().mean((2, 3)) + 0.1)).mean()


def sam_paper(estimate: Tensor, reference: Tensor) -> Tensor:
    """One minus the mean cosine between the spectra of each pixel (S3RNet's eq. 13)."""
    return 1 - F.cosine_similarity(estimate, reference, dim=1, eps=1e-8).mean()


def sam_release(estimate: Tensor, reference: Tensor) -> Tensor:
    """SAM loss as in the S3RNet release: rows of C consecutive values of the flattened (B, C, H, W) tensor.

    Such a row runs along the pixels of one band, so this is a spatial cosine, not a spectral one.
    """
    bands = estimate.shape[1]
    e, y = estimate.reshape(-1, bands), reference.reshape(-1, bands)
    return 1 - ((e * y).sum(1) / (e.norm(dim=1) * y.norm(dim=1) + 1e-8)).mean()


def feature_kd(student: Tensor, teacher: Tensor) -> Tensor:
    """Distillation of fused feature maps: sigmoid cross entropy, the teacher's sigmoid as target (release's order).

    S3RNet's eq. 11 prints the two the other way round, with a bracket missing.
    """
    return F.binary_cross_entropy_with_logits(student, torch.sigmoid(teacher))
