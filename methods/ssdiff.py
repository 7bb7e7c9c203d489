"""SSDiff: spatial-spectral integrated diffusion, a pansharpening network with the MSI in the place of the PAN image.

Paper: Y. Zhong, X. Wu, L.-J. Deng, Z. Cao, "SSDiff: Spatial-spectral Integrated Diffusion Model for Remote Sensing
Pansharpening", NeurIPS 2024.
Release: Z-ypnos/SSdiff_main @ 9a648a5ede43a9cb26ed9eec960f9c813da43289, ``model/SSNet.py``, ``model/fusformer.py``,
``model/nn.py``, ``improved_diffusion/`` (no licence file; written anew from a description, no code taken).

The denoiser is a :mod:`methods.u2net` with a diffusion time: the same authors' S2Block ("Fusformer" here), Down, Up and
Upsample, from :mod:`methods.blocks`.
Training diffuses the residual r = HR-HSI - lms (lms: the interpolated LR-HSI) and predicts it; sampling is DDIM.

Departures and quirks:

* ``sampling="release"``: the release trains on the residual but samples as if the state were the image (lms included),
  and gives the network the index 9..0 of the step instead of the time 900..0 it was trained with.
  ``sampling="consistent"`` (default) keeps the state a residual and passes the time. Training is the same.
* Large images are sampled in 64x64 tiles that overlap by 16 and are averaged; the release's merging is a binary.
* The sampling starts from noise of a fixed ``seed``, one for all images of a batch: a fused image is a function of its
  inputs alone.
* The ten times are 0, 100, ..., 900 (the code base's "ddim10"; the description does not name them).
* The scaled channels are literals 16, 32, 64 in the release: half the width at its only width, dim 32.
* The input layers have a BatchNorm, the ResBlocks a GroupNorm; ``raise_ms_dim``, ``raise_pan_dim``, ``conv_x_t`` and
  the ``maxpool_conv`` and ``up0`` of U2Net are built but never run: see ``unused``.
* The weights kept are an exponential moving average (0.9999) of the trained ones, as published: ``ema`` of the recipe.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import losses
from methods.blocks import Down, S2Block, Up, Upsample, check_tile, crop_to, pad_to_multiple, tiled
from methods.registry import MethodError, Recipe, register
from methods.tasks import Task

MULTIPLE = 4  # of the HR sides: two halvings
STEPS = 1000  # of the trained diffusion
EMBEDDED = 512  # width of the embedded time
SPECTRAL_GAINS = (1.2, 1.4, 1.6, 1.4, 1.2)  # of the first half of x's channels, level by level
SPATIAL_GAINS = (0.9, 0.6, 0.3, 0.6, 0.9)  # of y's lowest frequencies


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all its parameters at zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def embed_time(t: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding: (B,) -> (B, width), cosines first."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) / half * torch.arange(half, device=t.device, dtype=torch.float32))
    angles = t.float()[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), 1)


def project_time(out: int) -> nn.Sequential:
    """Embedded time (B, 512) -> one number per channel (B, out)."""
    return nn.Sequential(nn.SiLU(), nn.Linear(EMBEDDED, out))


def norm_and_conv(norm: nn.Module, width: int) -> nn.Sequential:
    """Norm, SiLU, (dropout of rate 0), 3x3 convolution that starts at zero."""
    return nn.Sequential(norm, nn.SiLU(), nn.Identity(), zeroed(nn.Conv2d(width, width, 3, padding=1)))


def scale_first_half(x: Tensor, gain: float) -> Tensor:
    """(B, C, H, W) with its first C / 2 channels multiplied."""
    first, second = x.chunk(2, 1)
    return torch.cat((gain * first, second), 1)


def scale_lowest_frequencies(y: Tensor, gain: float) -> Tensor:
    """(B, C, H, W) with the frequencies -1 and 0 of both axes multiplied.

    Frequency -1 without its partner +1 leaves an imaginary part, which is dropped, as in the release.
    """
    spectrum = torch.fft.fftshift(torch.fft.fft2(y), dim=(-2, -1))
    row, column = y.shape[-2] // 2, y.shape[-1] // 2
    mask = torch.ones(y.shape[-2:], dtype=y.dtype, device=y.device)
    mask[row - 1 : row + 1, column - 1 : column + 1] = gain
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum * mask, dim=(-2, -1))).real


class TimeResBlock(nn.Module):
    """U2Net's ResBlock of the spatial stream, told the time before a last normalised convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.conv1 = nn.Conv2d(width // 2, width, 3, padding=1)
        self.emb_layers = project_time(width)
        self.out_layers = norm_and_conv(nn.GroupNorm(32, width), width)

    def forward(self, y: Tensor, time: Tensor) -> Tensor:
        """(B, width, H, W), (B, 512) -> (B, width, H, W)."""
        h = self.conv1(F.leaky_relu(self.conv0(y)))
        return y + self.out_layers(h + self.emb_layers(time)[..., None, None])


class SSNet(nn.Module):
    """The denoiser (``denoise``) and the sampler around it (``forward``)."""

    unused = ("raise_ms_dim.", "raise_pan_dim.", "conv_x_t.", "down0.maxpool_conv.", "down1.maxpool_conv.", "up0.up0.",
              "up1.up0.")

    def __init__(self, bands: int, msi_bands: int, ratio: int, dim: int, model_channels: int, sampling: str, steps: int,
                 tile: int, overlap: int, seed: int) -> None:
        super().__init__()
        self.ratio, self.model_channels, self.sampling, self.steps = ratio, model_channels, sampling, steps
        self.tile, self.overlap, self.seed = tile, overlap, seed
        widths = dim, 2 * dim, 4 * dim, 2 * dim, dim
        self.upsample = Upsample(bands, ratio)
        self.raise_ms_dim = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1))  # never run
        self.raise_pan_dim = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1))  # never run
        self.conv_x_t = nn.Conv2d(bands, dim, 3, padding=1)  # never run
        self.to_hrms = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(dim, bands, 3, padding=1))
        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, EMBEDDED), nn.SiLU(), nn.Linear(EMBEDDED, EMBEDDED))
        self.conv_lms2x_t = nn.Conv2d(2 * bands, dim, 3, padding=1)
        self.conv_pan2x_t = nn.Conv2d(msi_bands + bands, dim, 3, padding=1)
        self.emb_layers_lms, self.emb_layers_pan = project_time(dim), project_time(dim)
        self.out_layers_lms = norm_and_conv(nn.BatchNorm2d(dim), dim)
        self.out_layers_pan = norm_and_conv(nn.BatchNorm2d(dim), dim)
        for level, width in enumerate(widths):
            self.add_module(f"fusformer{level}", S2Block(width))
        for level, width in enumerate(widths[:4]):
            self.add_module(f"resblock{level}", TimeResBlock(width))
        self.down0, self.down1 = Down(dim, 2 * dim), Down(2 * dim, 4 * dim)
        self.up0, self.up1 = Up(4 * dim, 2 * dim), Up(2 * dim, dim)

        # Cosine schedule. sqrt(1 - alpha_bar) is computed in double: near t = 0 float32 would lose most of it.
        cosine = torch.cos((torch.arange(STEPS + 1, dtype=torch.float64) / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2
        alpha_bar = (1 - (1 - cosine[1:] / cosine[:-1]).clamp(max=0.999)).cumprod(0)
        self.register_buffer("signal", alpha_bar.sqrt().float(), persistent=False)  # sqrt(alpha_bar)
        self.register_buffer("noise", (1 - alpha_bar).sqrt().float(), persistent=False)  # sqrt(1 - alpha_bar)

    def interpolate(self, lr_hsi: Tensor) -> Tensor:
        """lms: (B, bands, h, w) -> (B, bands, H, W)."""
        return F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bilinear", align_corners=False)

    def denoise(self, x_t: Tensor, t: Tensor, lms: Tensor, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Estimate of the residual.

        Args:
            x_t: noisy state, (B, bands, H, W), H and W multiples of 4.
            t: times, (B,).
            lms: interpolated LR-HSI, (B, bands, H, W).
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W).

        Returns:
            (B, bands, H, W).
        """
        time = self.time_embed(embed_time(t, self.model_channels))  # (B, 512)
        y = self.conv_pan2x_t(torch.cat((hr_msi, x_t), 1)) + self.emb_layers_pan(time)[..., None, None]
        x = self.conv_lms2x_t(torch.cat((lms, x_t), 1)) + self.emb_layers_lms(time)[..., None, None]
        x, y = self.out_layers_lms(x), self.out_layers_pan(y)  # (B, dim, H, W)

        x_skip0 = self.integrate(0, x, y)
        y_skip0 = self.resblock0(y, time)  # type: ignore[operator]
        x, y = self.down0(x_skip0), self.down0(y_skip0)  # (B, 2 dim, H/2, W/2)
        x_skip1 = self.integrate(1, x, y)
        y_skip1 = self.resblock1(y, time)  # type: ignore[operator]
        x, y = self.down1(x_skip1), self.down1(y_skip1)  # (B, 4 dim, H/4, W/4)
        x, y = self.up0(self.integrate(2, x, y), x_skip1), self.up0(self.resblock2(y, time), y_skip1)  # type: ignore[operator]
        x, y = self.up1(self.integrate(3, x, y), x_skip0), self.up1(self.resblock3(y, time), y_skip0)  # type: ignore[operator]
        return self.to_hrms(self.integrate(4, x, y)) + self.upsample(lr_hsi)

    def integrate(self, level: int, x: Tensor, y: Tensor) -> Tensor:
        """Re-weighted x and y -> updated x, all (B, C, H, W)."""
        x = scale_first_half(x, SPECTRAL_GAINS[level])
        y = scale_lowest_frequencies(y, SPATIAL_GAINS[level])
        return getattr(self, f"fusformer{level}")(x, y)

    def sample(self, lr_hsi: Tensor, hr_msi: Tensor, x_t: Tensor) -> Tensor:
        """DDIM without noise (eta 0): (B, bands, h, w), (B, msi_bands, H, W), start (B, bands, H, W) -> HR-HSI."""
        lms = self.interpolate(lr_hsi)
        of_image = self.sampling == "release"  # what the state is: the image, or its residual
        times = range(0, STEPS, STEPS // self.steps)
        for step in reversed(range(self.steps)):
            told = step if of_image else times[step]
            t = torch.full((lr_hsi.shape[0],), told, device=lr_hsi.device)
            image = (self.denoise(x_t, t, lms, lr_hsi, hr_msi) + lms).clamp(0, 1)
            if step == 0:
                break
            x_0 = image if of_image else image - lms
            noise = (x_t - self.signal[times[step]] * x_0) / self.noise[times[step]]  # type: ignore[index]
            x_t = self.signal[times[step - 1]] * x_0 + self.noise[times[step - 1]] * noise  # type: ignore[index]
        return image

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Sample in tiles: (B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W)."""
        padded = pad_to_multiple(lr_hsi, hr_msi, self.ratio, MULTIPLE)
        batch, bands, _, _ = lr_hsi.shape
        # Drawn on the CPU: the same start on every machine.
        start = torch.randn(1, bands, *padded[1].shape[-2:], generator=torch.Generator().manual_seed(self.seed))
        start = start.to(lr_hsi).expand(batch, -1, -1, -1)
        fused = tiled(self.sample, *padded, start, ratio=self.ratio, tile=self.tile, overlap=self.overlap)
        return crop_to(fused, hr_msi)


class Denoising(Task):
    """The denoiser learns the residual from its noisy state at a uniformly drawn time (mean L1)."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms."""
        lr_hsi, hr_msi, reference = self.inputs(batch, 0)
        name, network = self.names[0], self.network()
        lms = network.interpolate(lr_hsi)
        residual = reference - lms
        t = torch.randint(STEPS, residual.shape[:1], device=residual.device)
        signal, noise = (scale[t][:, None, None, None] for scale in (network.signal, network.noise))
        x_t = signal * residual + noise * torch.randn_like(residual)
        loss = losses.l1(network.denoise(x_t, t, lms, lr_hsi, hr_msi), residual)
        return {"loss": loss, f"{name}/loss": loss}


@register(
    "ssdiff", "supervised",
    paper="Zhong et al., SSDiff, NeurIPS 2024",
    year=2024,
    fidelity="release",
    source="Z-ypnos/SSdiff_main@9a648a5ede43a9cb26ed9eec960f9c813da43289",
    # The release sets no last epoch; its checkpoint is step 21,000: 250 passes over the comparison's 1678 images.
    recipes={"release": Recipe(task=Denoising, trains=("ssdiff",), optimizer="adamw", lr=1e-3, schedule="constant",
                               epochs=250, batch=20, crop=64, augment=(), ema=0.9999)},
    small={"dim": 32, "steps": 2},
    note="denoiser as released; sampling keeps the residual and the times it was trained with, which the release "
         "confuses; the release's weight averaging (0.9999) is a part of its recipe",
)
def build(bands: int, msi_bands: int, ratio: int, dim: int = 32, model_channels: int = 128,
          sampling: str = "consistent", steps: int = 10, tile: int = 64, overlap: int = 16, seed: int = 0) -> SSNet:
    """SSDiff of width ``dim``, sampled in ``steps`` steps from noise of ``seed``, in tiles of ``tile`` HR pixels."""
    if dim % 32:
        raise MethodError(f"ssdiff: dim {dim}; its normalisation has 32 groups, choose a multiple of 32")
    if sampling not in ("consistent", "release"):
        raise MethodError(f"ssdiff: sampling '{sampling}'; choices: consistent, release")
    if steps < 1 or STEPS % steps:
        raise MethodError(f"ssdiff: {steps} sampling steps; choose a divisor of {STEPS}")
    check_tile("ssdiff", tile, ratio, MULTIPLE)
    if overlap % ratio or not 0 <= overlap < tile:
        raise MethodError(f"ssdiff: overlap {overlap} at ratio {ratio}; choose a multiple of it below {tile}")
    return SSNet(bands, msi_bands, ratio, dim, model_channels, sampling, steps, tile, overlap, seed)
