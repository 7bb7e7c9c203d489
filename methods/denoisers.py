"""The two networks of ARGS-Diff, which predict the noise in abundances and in single spectra.

Release: Zhu1116/ARGS-Diff @ e1c460aa01a5fcb2f01a29ae550c5caece6e7728, ``diffusion/unet.py``, ``diffusion/fcn.py``, whose names
modules and parameters have. The U-Net is that of OpenAI's guided diffusion without its attention.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.ssdiff import embed_time, zeroed

STEPS = 1000  # of the diffusion
GROUPS = 32  # of the normalisation


class Size(NamedTuple):
    """Of the spectral network: largest number of bands it is for, widths of the middle layers, time, training steps."""

    bands: float
    hidden: tuple[int, int, int]
    time: int
    steps: int


SIZES = (Size(48, (128, 256, 128), 30, 400_000), Size(103, (256, 512, 256), 60, 500_000),
         Size(128, (256, 512, 256), 70, 600_000), Size(math.inf, (400, 800, 400), 100, 800_000))


def size_for(bands: int) -> Size:
    """The release's size for that many bands, or for the next larger number that it has one for."""
    return next(size for size in SIZES if bands <= size.bands)


# ---- the U-Net of abundances: guided diffusion's without attention, under its names


def conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1)


class Res(nn.Module):
    """Two normalised convolutions, the second scaled and shifted by the time; residual."""

    def __init__(self, inputs: int, outputs: int, embedded: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, inputs), nn.SiLU(), conv3(inputs, outputs))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedded, 2 * outputs))
        # The Identity stands where the release has a dropout of rate 0: it keeps the number in the last layer's name.
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, outputs), nn.SiLU(), nn.Identity(), zeroed(conv3(outputs, outputs)))
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, inputs, H, W), (B, embedded) -> (B, outputs, H, W)."""
        scale, shift = self.emb_layers(time)[..., None, None].chunk(2, 1)
        h = self.out_layers[0](self.in_layers(x)) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers[1:](h)


class Halve(nn.Module):
    """A convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = conv3(width, width, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, width, H/2, W/2)."""
        return self.op(x)


class Double(nn.Module):
    """Every pixel twice along both sides, and a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, width, 2 H, 2 W)."""
        return self.conv(F.interpolate(x, scale_factor=2))


class UNet(nn.Module):
    """The noise in abundances: (B, rank, H, W) at the time t (B,) -> (B, rank, H, W); H and W multiples of 8."""

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.width = width
        widths = [width * level for level in (1, 2, 3, 4)]
        embedded = 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, embedded), nn.SiLU(), nn.Linear(embedded, embedded))
        blocks: list[list[nn.Module]] = [[conv3(rank, width)]]
        pushed, channels = [width], width
        for level, wide in enumerate(widths):
            for _ in range(2):
                blocks.append([Res(channels, wide, embedded)])
                pushed.append(channels := wide)
            if level < 3:
                blocks.append([Halve(wide)])
                pushed.append(wide)
        self.input_blocks = nn.ModuleList(nn.ModuleList(block) for block in blocks)
        self.middle_block = nn.ModuleList(Res(channels, channels, embedded) for _ in range(2))
        blocks = []
        for level, wide in reversed(list(enumerate(widths))):
            for i in range(3):
                blocks.append([Res(channels + pushed.pop(), wide, embedded)])
                channels = wide
                if level and i == 2:
                    blocks[-1].append(Double(wide))
        self.output_blocks = nn.ModuleList(nn.ModuleList(block) for block in blocks)
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, width), nn.SiLU(), zeroed(conv3(width, rank)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """As the class says."""
        time = self.time_embed(embed_time(t, self.width))

        def run(block: nn.Module, x: Tensor) -> Tensor:
            for layer in block:  # type: ignore[attr-defined]
                x = layer(x, time) if isinstance(layer, Res) else layer(x)
            return x

        pushed = []
        for block in self.input_blocks:
            pushed.append(x := run(block, x))
        x = run(self.middle_block, x)
        for block in self.output_blocks:
            x = run(block, torch.cat((x, pushed.pop()), 1))
        return self.out(x)


class SpectralNet(nn.Module):
    """The noise in single spectra: (n, bands) at the times t, (n,) or (1,) -> (n, bands)."""

    def __init__(self, bands: int, hidden: tuple[int, int, int], time: int) -> None:
        super().__init__()
        first, second, third = hidden
        self.model = nn.Sequential(
            nn.Linear(bands + time, first), nn.ReLU6(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, third),
            nn.ReLU(), nn.Linear(third, bands))
        self.time_embedding = nn.Embedding(STEPS, time)

    def forward(self, spectra: Tensor, t: Tensor) -> Tensor:
        """As the class says."""
        return self.model(torch.cat((spectra, self.time_embedding(t).expand(len(spectra), -1)), 1))


class Predictors(nn.Module):
    """Both networks of one image pair."""

    def __init__(self, bands: int, rank: int, width: int) -> None:
        super().__init__()
        size = size_for(bands)
        self.bands, self.rank = bands, rank
        self.spa, self.spe = UNet(rank, width), SpectralNet(bands, size.hidden, size.time)

    def noises(self, a: Tensor, e: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """In abundances (1, rank, H, W) and spectra (rank, bands) at one time."""
        time = torch.full((1,), t, device=a.device)
        return self.spa(a, time), self.spe(e, time)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor]:
        """One evaluation of both for images of these sizes, as a count needs it: sampling makes ``sampling_steps`` of them."""
        return self.noises(hr_msi.new_zeros(1, self.rank, *hr_msi.shape[2:]), hr_msi.new_zeros(self.rank, self.bands), 0)
