"""SSUF: single-image super-resolution of the LR-HSI, spectral-spatial unmixing fusion. Takes no MSI.

Paper: U. Muhammad, J. Laaksonen, "Hybrid Deep Learning for Hyperspectral Single Image Super-Resolution", 2025.
Release: Usman1021/hsi-super-resolution @ adcd3f4d12c118fca912285fcc0013c072a83ad7, Keras notebooks (the x4 one is
followed). There is no PyTorch release to load parameters from, so the layers bear our names.

Here as a line that shows what the MSI is worth: ``forward`` ignores it. Departures, as in :mod:`methods.dsdcn` (same
authors, same protocol): one pass over all bands instead of groups of 32, images in [0, 1]. Batch, crop and epochs are
DSDCN's; the loss's squares are averaged, so that its weights do not depend on the image size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import batch_norm, glorot_uniform
from methods.registry import Recipe, register
from methods.tasks import Supervised


class Residual(nn.Module):
    """Two 3x3 convolutions, the second normalised, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
                                  nn.Conv2d(width, width, 3, padding=1), batch_norm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H, W) -> same."""
        return F.relu(x + self.body(x))


class SSUF(nn.Module):
    """Bilinear interpolation, then at HR: "unmixing", spatial and spectral features, residual blocks."""

    def __init__(self, bands: int, ratio: int, width: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.unmixing = nn.Sequential(nn.Conv2d(bands, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU())
        self.spatial = nn.Conv2d(width, width, 3, padding=1)
        self.spectral = nn.Conv2d(width, width, 1)
        self.fusion = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.ReLU(),
                                    nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.residuals = nn.Sequential(*(Residual(width) for _ in range(3)))
        self.tail = nn.Conv2d(width, bands, 3, padding=1)
        self.apply(glorot_uniform)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), the MSI unread -> HR-HSI (B, bands, H, W)."""
        x = self.unmixing(F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bilinear"))
        x = torch.cat((F.relu(self.spatial(x)), F.relu(self.spectral(x))), 1)
        return self.tail(self.residuals(self.fusion(x)))


def gradient_loss(estimate: Tensor, reference: Tensor) -> Tensor:
    """2 MSE, and 0.1 of the mean squared errors of the vertical, horizontal and spectral differences."""
    error = estimate - reference
    vertical, horizontal, spectral = (error.diff(dim=axis).square().mean() for axis in (2, 3, 1))
    return 2 * error.square().mean() + 0.1 * (vertical + horizontal) + 0.1 * spectral


class GradientLoss(Supervised):
    """SSUF's training."""

    loss = staticmethod(gradient_loss)


@register(
    "ssuf",
    "supervised",
    paper="Muhammad and Laaksonen, SSUF, 2025",
    year=2025,
    fidelity="described",
    source="Usman1021/hsi-super-resolution@adcd3f4d12c118fca912285fcc0013c072a83ad7 (Keras)",
    recipes={
        "release": Recipe(task=GradientLoss, trains=("ssuf",), lr=1e-3, schedule="constant", epochs=1000, batch=4,
                          crop=144, augment=(), keep="best-psnr"),
    },
    small={"width": 8},
    note="single image: the MSI is not used; after its Keras notebook, compared by parameter count only",
)
def build(bands: int, ratio: int, width: int = 64) -> SSUF:
    """Build it for any whole ``ratio``."""
    return SSUF(bands, ratio, width)
