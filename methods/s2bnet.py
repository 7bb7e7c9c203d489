"""An S2BNet-style binarised fusion network: the efficiency extreme beside a distilled student.

Paper: Jiang, Ma, Zhu, Ma, Li, Zhang, "Spatial-Spectral Binarized Neural Network for Panchromatic and
Multi-spectral Images Fusion", arXiv:2509.23321, 2025. No code and no figures of it could be read: **what follows is a
design of ours from the public outline, and says nothing about the scores of the published network.**

Of the outline: binary weights and activations in residual blocks with RPReLU; around each binary convolution a
spectral redistribution (SRM: an affine map of the activations, drawn from the data, before their sign) and a Gabor
spatial feature amplifier (GSFA: fixed Gabor kernels, frequency and orientation drawn at random).

Ours: every number, the estimators of the gradients (straight-through for weights, the derivative of a
piecewise-quadratic sign for activations), the perceptron that draws the map from each channel's mean and deviation, the
amplifier as a depthwise convolution of the binary convolution's output added to it, full precision in the first and
the last layer, an HSI and an MSI in place of MS and PAN, and the residual to the bilinear LR-HSI as output.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.registry import MethodError, Recipe, register
from methods.tasks import Supervised

GABOR_SIDE, GABOR_SIGMA, GABOR_GAMMA = 5, 1.5, 0.5
FREQUENCIES = (0.05, 0.45)  # cycles a pixel, below Nyquist


def sign(x: Tensor) -> Tensor:
    """-1 or +1; zero counts as positive, so that nothing is in between."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


def binary_activation(x: Tensor) -> Tensor:
    """Sign, with the gradient of the quadratic c (2 - |c|), c = x clamped to [-1, 1], that approximates it."""
    clamped = x.clamp(-1, 1)
    smooth = clamped * (2 - clamped.abs())
    return sign(x) + (smooth - smooth.detach())


class BinaryConv(nn.Module):
    """3x3 convolution with the signs of its weights, scaled by each filter's mean magnitude. No bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) of -1 and +1 -> (B, C, H, W)."""
        scale = self.weight.abs().mean((1, 2, 3), keepdim=True)
        straight_through = self.weight.clamp(-1, 1)
        binary = (sign(self.weight) * scale).detach() + (straight_through - straight_through.detach())
        return F.conv2d(x, binary, padding=1)


class SRM(nn.Module):
    """Spectral redistribution: alpha x + beta, a pair per channel and image from the channels' statistics."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 4, 1)
        self.perceptron = nn.Sequential(nn.Linear(2 * channels, hidden), nn.LeakyReLU(),
                                        nn.Linear(hidden, 2 * channels))
        # alpha starts near 1 and beta near 0; exactly so would leave the first layer without a gradient
        nn.init.normal_(self.perceptron[2].weight, std=1e-3)  # type: ignore[arg-type]
        nn.init.zeros_(self.perceptron[2].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        deviation = (x.var((2, 3), correction=0) + 1e-6).sqrt()
        alpha, beta = self.perceptron(torch.cat((x.mean((2, 3)), deviation), 1))[..., None, None].chunk(2, 1)
        return (1 + alpha) * x + beta


class GSFA(nn.Module):
    """Gabor spatial feature amplifier: what a fixed Gabor kernel per channel answers is added."""

    kernels: Tensor

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        low, high = FREQUENCIES
        frequency = low + (high - low) * torch.rand(channels, 1, 1, generator=generator)
        angle = math.pi * torch.rand(channels, 1, 1, generator=generator)
        line = torch.arange(GABOR_SIDE) - (GABOR_SIDE - 1) / 2
        y, x = torch.meshgrid(line, line, indexing="ij")
        along = x * angle.cos() + y * angle.sin()
        across = -x * angle.sin() + y * angle.cos()
        envelope = torch.exp(-(along.square() + GABOR_GAMMA**2 * across.square()) / (2 * GABOR_SIGMA**2))
        kernels = envelope * torch.cos(2 * math.pi * frequency * along)
        kernels /= kernels.abs().sum((1, 2), keepdim=True)  # amplifies at most twofold
        self.register_buffer("kernels", kernels[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        return x + F.conv2d(x, self.kernels, padding=GABOR_SIDE // 2, groups=x.shape[1])


class RPReLU(nn.Module):
    """PReLU between two learned shifts, all per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.prelu = nn.PReLU(channels)
        self.after = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        return self.prelu(x + self.before) + self.after


class S2BConv(nn.Module):
    """SRM, sign, binary convolution, GSFA and RPReLU, under a skip in full precision."""

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.srm = SRM(channels)
        self.conv = BinaryConv(channels)
        self.gsfa = GSFA(channels, generator)
        self.rprelu = RPReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        return x + self.rprelu(self.gsfa(self.conv(binary_activation(self.srm(x)))))


class S2BNet(nn.Module):
    """Full-precision head, a stack of S2B convolutions at HR, full-precision tail."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int, depth: int) -> None:
        super().__init__()
        self.ratio = ratio
        generator = torch.Generator().manual_seed(0)  # the Gabor kernels are part of the design, not of a training
        self.head = nn.Conv2d(bands + msi_bands, width, 3, padding=1)
        self.body = nn.Sequential(*(S2BConv(width, generator) for _ in range(depth)))
        self.tail = nn.Conv2d(width, bands, 3, padding=1)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W)."""
        up_hsi = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bilinear")
        return up_hsi + self.tail(self.body(self.head(torch.cat((up_hsi, hr_msi), 1))))

    def binary_parameters(self) -> int:
        """Weights of one bit each. Customary size of the network: the others + these / 32."""
        return sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, BinaryConv))

    def binary_macs(self, height: int, width: int) -> int:
        """Multiply-adds of bits for one HR image. Customary operations: the other multiply-adds + these / 64."""
        return self.binary_parameters() * height * width


@register(
    "s2bnet",
    "supervised",
    paper="Jiang et al., S2BNet, arXiv 2509.23321, 2025",
    year=2025,
    fidelity="described",
    recipes={"suite": Recipe(task=Supervised, trains=("s2bnet",))},
    small={"width": 16, "depth": 3},
    note="S2BNet-style: our own design after the paper's outline, no code of it is public; the recipe is ours too",
)
def build(bands: int, msi_bands: int, ratio: int, width: int = 64, depth: int = 16) -> S2BNet:
    """Build it: ``depth`` S2B convolutions of ``width`` channels, for any whole ``ratio``."""
    if width < 1 or depth < 1:
        raise MethodError(f"s2bnet: width {width} and depth {depth}; both must be positive")
    return S2BNet(bands, msi_bands, ratio, width, depth)
