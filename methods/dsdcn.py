"""DSDCN: single-image super-resolution of the LR-HSI by depthwise separable convolutions. Takes no MSI.

Paper: U. Muhammad, J. Laaksonen, L. Mihaylova, "Towards Lightweight Hyperspectral Image Super-Resolution with
Depthwise Separable Dilated Convolutional Network", arXiv:2505.00374, 2025.
Release: Usman1021/lightweight @ ce01488b1aa8c3104c556a1b0b05a818667218de, Keras notebooks (the x4 one is followed).
There is no PyTorch release to load parameters from, so the layers bear our names; the parameters add up to its own.

Here as the line that shows what little, and no MSI, gives: ``forward`` ignores the MSI. Departures:

* One pass over all bands. The release cuts groups of 32 bands at a stride of 24, drops the bands after the last whole
  group and never reassembles a cube.
* Images are in [0, 1]. The release feeds raw digital numbers, where the squared error (about 1e5) drowns its SAM term;
  the published weights are kept, so here the SAM term matters.
* The release's "dilated fusion" dilates 1x1 kernels, which changes nothing: plain 1x1 convolutions here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import batch_norm, glorot_uniform
from methods.registry import MethodError, Recipe, register
from methods.tasks import Supervised


def separable(in_channels: int, out_channels: int) -> nn.Sequential:
    """Depthwise 3x3 without bias, then pointwise."""
    return nn.Sequential(nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
                         nn.Conv2d(in_channels, out_channels, 1))


class Residual(nn.Module):
    """Two separable convolutions with batch normalisation, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(separable(width, width), batch_norm(width), nn.ReLU(),
                                  separable(width, width), batch_norm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, h, w) -> same."""
        return F.relu(x + self.body(x))


class DilatedFusion(nn.Module):
    """Three parallel 1x1 convolutions, joined by a fourth."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parallel = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(3))
        self.join = nn.Conv2d(3 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, h, w) -> same."""
        return F.relu(self.join(torch.cat([F.relu(conv(x)) for conv in self.parallel], 1)))


class Upsample(nn.Module):
    """Twice the size: a transposed convolution beside nearest neighbours."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.main = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, i, h, w) -> (B, o, 2h, 2w)."""
        return F.relu(self.main(x)) + self.shortcut(F.interpolate(x, scale_factor=2))


class DSDCN(nn.Module):
    """Features at LR, then doubled up to HR. No skip over all: the network makes the image, not a correction."""

    def __init__(self, bands: int, ratio: int, width: int, up_width: int) -> None:
        super().__init__()
        self.head = separable(bands, width)
        self.residuals = nn.Sequential(*(Residual(width) for _ in range(3)))
        self.fusion = DilatedFusion(width)
        self.upsample = nn.Sequential(*(Upsample(up_width if i else width, up_width)
                                        for i in range(int(math.log2(ratio)))))
        self.tail = separable(up_width, bands)
        self.apply(glorot_uniform)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), the MSI unread -> HR-HSI (B, bands, H, W)."""
        x = self.fusion(self.residuals(F.relu(self.head(lr_hsi))))
        return self.tail(self.upsample(x))


def mse_sam(estimate: Tensor, reference: Tensor) -> Tensor:
    """1.03 MSE + 0.5 SAM in radians: the release names an "L2" term of weight 0.03 that is the MSE again.

    The cosine is kept 1e-6 from +-1, where the derivative of the arc cosine is infinite (the release clips at 1).
    """
    cosine = F.cosine_similarity(estimate, reference, dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    return 1.03 * F.mse_loss(estimate, reference) + 0.5 * torch.acos(cosine).mean()


class MseSam(Supervised):
    """DSDCN's training."""

    loss = staticmethod(mse_sam)


@register(
    "dsdcn",
    "supervised",
    paper="Muhammad et al., DSDCN, arXiv 2505.00374, 2025",
    year=2025,
    fidelity="described",
    source="Usman1021/lightweight@ce01488b1aa8c3104c556a1b0b05a818667218de (Keras)",
    recipes={
        # "Up to 1000" epochs: the release stops after 10 without gain on its validation loss and takes the best.
        "release": Recipe(task=MseSam, trains=("dsdcn",), lr=1e-3, schedule="constant", epochs=1000, batch=4, crop=144,
                          augment=(), keep="best-sam"),
    },
    small={"width": 8, "up_width": 16},
    note="single image: the MSI is not used; after its Keras notebook, compared by parameter count only",
)
def build(bands: int, ratio: int, width: int = 64, up_width: int = 200) -> DSDCN:
    """Build it; ``width`` is that at LR, ``up_width`` that of the upsampling stages."""
    if ratio < 2 or ratio & (ratio - 1):
        raise MethodError(f"dsdcn: ratio {ratio}; choices: 2, 4, 8 and higher powers of two")
    return DSDCN(bands, ratio, width, up_width)
