"""HyperTransformer (HSIT): textural and spectral feature fusion for pansharpening, here with a multi-band PAN.

Paper: W. G. C. Bandara, V. M. Patel, "HyperTransformer: A Textural and Spectral Feature Fusion Transformer for
Pansharpening", CVPR 2022.
Release: wgcban/HyperTransformer @ b12f712cbf8e7c0e68008f9af01a5e5a6413c137, ``models/HyperTransformer.py`` (MIT).

    V, K, Q   features of the MSI, of the MSI blurred by down- and up-sampling, and of the up-sampled HSI
    T         V transferred by attention between channels: Q asks K, at three scales (H, H/2, H/4)
    backbone  SFE on the LR-HSI, then T joins at H/4, H/2 and H, two pixel shuffles between: the ratio is 4

The tokens of the attention are channels and their coordinates are pixels, which linear layers project: the parameters
are bound to the pixel count. ``lr_pixels`` is that of the LR-HSI (its shape is free). In training mode another size is
an error; in evaluation mode it is fused by square tiles of ``lr_pixels`` without overlap, the image padded by
replication at its right and lower edges to whole tiles. ``heads=1`` is the release's attention on raw features, which
has no parameters and fits any size.

Quirks of the release, kept:

* Two VGG stems are built and never run: dead parameters, listed in ``unused``. ``up_conv13`` and ``up_conv23`` make the
  auxiliary outputs x13 and x23, which only the loss sees; ``forward`` leaves them out.
* The network predicts the image itself: no skip from the up-sampled HSI, no clamp.
* With several heads the logits are divided by the root of the pixel count, with one by the count itself.

Not taken over: ``feature_sum`` and the setting without attention (``N_modules`` 0), both off in the release's
configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import LFE, Levels, crop_to, pad_to_multiple, tiled
from methods.registry import MethodError, Recipe, register
from methods.tasks import Task, total

BLOCKS = (16, 4, 4, 4, 4)  # residual blocks of SFE, of the three stages, and after the pyramid


def normalised_l1(estimate: Tensor, reference: Tensor) -> Tensor:
    """L1 of (B, C, H, W) images divided by the reference's maximum, band by band (a black band by the epsilon)."""
    peak = reference.amax((2, 3), keepdim=True).clamp_min(1e-6)
    return F.l1_loss(estimate / peak, reference / peak)


class RawAttention(nn.Module):
    """softmax(Q K^T / P) V between the channels of the features as they are, P pixels."""

    def forward(self, value: Tensor, key: Tensor, query: Tensor) -> Tensor:
        """Three times (B, c, H, W) -> same."""
        v, k, q = (x.flatten(2) for x in (value, key, query))  # (B, c, P)
        return (torch.softmax(q / q.shape[2] @ k.mT, -1) @ v).view_as(value)


class ChannelAttention(nn.Module):
    """Attention between channels, their ``pixels`` coordinates projected to ``heads`` times ``size``."""

    def __init__(self, width: int, pixels: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.w_qs = nn.Linear(pixels, heads * size, bias=False)
        self.w_ks = nn.Linear(pixels, heads * size, bias=False)
        self.w_vs = nn.Linear(pixels, heads * size, bias=False)
        self.fc = nn.Linear(heads * size, pixels, bias=False)
        self.OutBN = nn.BatchNorm2d(width)

    def forward(self, value: Tensor, key: Tensor, query: Tensor) -> Tensor:
        """Three times (B, c, H, W) -> same."""

        def project(layer: nn.Linear, x: Tensor) -> Tensor:  # (B, c, H, W) -> (B, heads, c, size)
            return layer(x.flatten(2)).unflatten(2, (self.heads, -1)).transpose(1, 2)

        v, k, q = project(self.w_vs, value), project(self.w_ks, key), project(self.w_qs, query)
        pixels = value.shape[2] * value.shape[3]
        attended = torch.softmax(q / math.sqrt(pixels) @ k.mT, -1) @ v
        attended = self.fc(attended.transpose(1, 2).flatten(2))  # (B, c, P)
        return self.OutBN(attended.view_as(value) + value)


class ResBlock(nn.Module):
    """Two convolutions, residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return x + self.conv2(F.relu(self.conv1(x)))


class SFE(nn.Module):
    """Shallow features of the LR-HSI."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.conv_head = nn.Conv2d(bands, width, 3, padding=1)
        self.RBs = nn.Sequential(*(ResBlock(width) for _ in range(BLOCKS[0])))
        self.conv_tail = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, bands, h, w) -> (B, width, h, w)."""
        x = F.relu(self.conv_head(x))
        return x + self.conv_tail(self.RBs(x))


class UnusedVGG(nn.Module):
    """The VGG stem that the release builds and never runs: it only holds parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_RGB = nn.Conv2d(channels, 3, 3)
        self.slice1 = nn.ModuleDict({"0": nn.Conv2d(3, 64, 3)})
        self.slice2 = nn.ModuleDict({"2": nn.Conv2d(64, 64, 3), "5": nn.Conv2d(64, 128, 3)})
        self.slice3 = nn.ModuleDict({"7": nn.Conv2d(128, 128, 3), "10": nn.Conv2d(128, 256, 3)})
        self.sub_mean = nn.Conv2d(3, 3, 1)


class HyperTransformer(nn.Module):
    """The network of the release."""

    # up_conv13 and up_conv23 are trained, but by the loss on x13 and x23 alone
    unused = ("VGG_LFE_HSI.", "VGG_LFE_PAN.", "up_conv13.", "up_conv23.")
    ratio = 4
    # what the network of the first training phase shares with this one
    pretrained = ("LFE_HSI", "LFE_PAN", "SFE", "conv11_head", "conv12", "conv22_head", "conv23", "conv33_head",
                  "final_conv")

    def __init__(self, bands: int, msi_bands: int, lr_pixels: int, heads: int, width: int) -> None:
        super().__init__()
        self.lr_pixels = lr_pixels if heads > 1 else None  # None: any size
        width1, width2, width3 = width, 2 * width, 4 * width  # of the levels H, H/2, H/4

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1)

        def attention(channels: int, pixels: int) -> nn.Module:
            size = math.isqrt(lr_pixels)
            return ChannelAttention(channels, pixels, heads, size) if heads > 1 else RawAttention()

        def blocks(stage: int, channels: int) -> nn.Sequential:
            return nn.Sequential(*(ResBlock(channels) for _ in range(BLOCKS[stage])))

        self.LFE_HSI, self.LFE_PAN = LFE(bands, width), LFE(msi_bands, width)
        self.TS_lv3 = attention(width3, lr_pixels)
        self.TS_lv2 = attention(width2, 4 * lr_pixels)
        self.TS_lv1 = attention(width1, 16 * lr_pixels)
        self.raw_attention = RawAttention()  # of the first training phase

        self.SFE = SFE(bands, width3)
        self.BN_x11, self.conv11_head = nn.BatchNorm2d(width3), conv(2 * width3, width3)
        self.RB11, self.conv11_tail = blocks(1, width3), conv(width3, width3)
        self.conv12 = conv(width3, 4 * width2)
        self.BN_x22, self.conv22_head = nn.BatchNorm2d(width2), conv(2 * width2, width2)
        self.RB22, self.conv22_tail = blocks(2, width2), conv(width2, width2)
        self.conv23 = conv(width2, 4 * width1)
        self.BN_x33, self.conv33_head = nn.BatchNorm2d(width1), conv(2 * width1, width1)
        self.RB33, self.conv33_tail = blocks(3, width1), conv(width1, width1)
        self.final_conv = conv(width1 + width2 + width3, bands)
        self.RBF, self.convF_tail = blocks(4, bands), conv(bands, bands)
        self.up_conv13 = nn.ConvTranspose2d(width3, bands, 3, stride=4, output_padding=1)
        self.up_conv23 = nn.ConvTranspose2d(width2, bands, 3, stride=2, padding=1, output_padding=1)
        self.VGG_LFE_HSI, self.VGG_LFE_PAN = UnusedVGG(bands), UnusedVGG(msi_bands)

        # The release initialises the first phase's network so; what the second adds stays at PyTorch's default.
        for name in self.pretrained:
            for layer in getattr(self, name).modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.normal_(layer.weight, std=math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels)))

    def features(self, lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Levels, Levels, Levels]:
        """V, K and Q, three levels each: (B, width, H, W), (B, 2 width, H/2, W/2), (B, 4 width, H/4, W/4)."""
        up_hsi = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bicubic")
        blurred_msi = F.interpolate(hr_msi, scale_factor=1 / self.ratio, mode="bilinear")
        blurred_msi = F.interpolate(blurred_msi, scale_factor=self.ratio, mode="bilinear")
        return self.LFE_PAN(hr_msi), self.LFE_PAN(blurred_msi), self.LFE_HSI(up_hsi)

    def transfer(self, value: Levels, key: Levels, query: Levels) -> list[Tensor]:
        """T of the three levels, shaped as the values."""
        attentions = self.TS_lv1, self.TS_lv2, self.TS_lv3
        return [attention(v, k, q) for attention, v, k, q in zip(attentions, value, key, query)]

    def backbone(self, lr_hsi: Tensor, transferred: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, bands, h, w) and T -> prediction (B, bands, H, W), x11 (B, 4 width, h, w), x22 (B, 2 width, H/2, W/2)."""
        t1, t2, t3 = transferred
        x = self.SFE(lr_hsi)
        x = x + self.conv11_head(torch.cat((self.BN_x11(x), t3), 1))
        x11 = x + self.conv11_tail(self.RB11(x))
        y = F.relu(F.pixel_shuffle(self.conv12(x11), 2))
        y = y + self.conv22_head(torch.cat((self.BN_x22(y), t2), 1))
        x22 = y + self.conv22_tail(self.RB22(y))
        z = F.relu(F.pixel_shuffle(self.conv23(x22), 2))
        z = z + self.conv33_head(torch.cat((self.BN_x33(z), t1), 1))
        x33 = z + self.conv33_tail(self.RB33(z))
        f = self.pyramid(x11, x22, x33)
        return f + self.convF_tail(self.RBF(f)), x11, x22

    def pyramid(self, x11: Tensor, x22: Tensor, x33: Tensor) -> Tensor:
        """Features of the three levels -> (B, bands, H, W)."""
        levels = F.interpolate(x11, scale_factor=4, mode="bicubic"), F.interpolate(x22, scale_factor=2, mode="bicubic")
        return self.final_conv(torch.cat((*levels, x33), 1))

    def forward_with_auxiliary(self, lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, bands, h, w), (B, msi_bands, H, W) -> prediction, x13, x23 (B, bands, H, W) and tp_loss, one piece.

        tp_loss compares T with the T that the prediction's own features, instead of those of the up-sampled HSI, ask
        for. The prediction is detached: this trains the feature extractors and the attention alone.
        """
        value, key, query = self.features(lr_hsi, hr_msi)
        transferred = self.transfer(value, key, query)
        prediction, x11, x22 = self.backbone(lr_hsi, transferred)
        again = self.transfer(value, key, self.LFE_HSI(prediction.detach()))
        tp_loss = sum(F.l1_loss(t, other) for t, other in zip(transferred, again))
        return prediction, self.up_conv13(x11), self.up_conv23(x22), tp_loss  # type: ignore[return-value]

    def pretraining_forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """HyperTransformerPre, (B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W).

        Raw attention, and a backbone without batch normalisation, residual blocks and tails in its stages.
        """
        t1, t2, t3 = (self.raw_attention(v, k, q) for v, k, q in zip(*self.features(lr_hsi, hr_msi)))
        x = self.SFE(lr_hsi)
        x = x + self.conv11_head(torch.cat((x, t3), 1))
        y = F.relu(F.pixel_shuffle(self.conv12(x), 2))
        y = y + self.conv22_head(torch.cat((y, t2), 1))
        z = F.relu(F.pixel_shuffle(self.conv23(y), 2))
        z = z + self.conv33_head(torch.cat((z, t1), 1))
        return self.pyramid(x, y, z)

    def fuse_piece(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """As :meth:`forward`, for an LR-HSI of ``lr_pixels``."""
        return self.backbone(lr_hsi, self.transfer(*self.features(lr_hsi, hr_msi)))[0]

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W), by tiles if h*w is not ``lr_pixels``."""
        height, width = lr_hsi.shape[2:]
        if self.lr_pixels in (None, height * width):
            return self.fuse_piece(lr_hsi, hr_msi)
        side = math.isqrt(self.lr_pixels)
        if self.training or side**2 != self.lr_pixels:
            raise MethodError(f"hyper-transformer: built for lr_pixels = {self.lr_pixels}, the LR-HSI has "
                              f"{height}x{width} = {height * width}. Train on crops of that size; in evaluation mode "
                              "other images are fused by tiles if lr_pixels is a square number.")
        tile = side * self.ratio
        padded = pad_to_multiple(lr_hsi, hr_msi, self.ratio, tile)
        return crop_to(tiled(self.fuse_piece, *padded, ratio=self.ratio, tile=tile), hr_msi)


class Phases(Task):
    """The release's two phases, told apart by the stage of the recipe.

    ``"Pretraining"``: normalised L1 of the network without projections, norms and residual blocks in its stages.

    ``"MultiScale"``: normalised L1, L1 of the auxiliary outputs and the transfer loss (the release's Pavia setting).
    ``perceptual(prediction, reference)``, 0-d, is the release's VGG-19 term, weighted 0.1. It needs ImageNet weights
    and a three-band composite, whose released band indices leave one of the three bands empty, and is off by default.
    """

    def __init__(self, models: dict[str, nn.Module], recipe: Recipe,
                 perceptual: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        super().__init__(models, recipe)
        self.perceptual = perceptual

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms."""
        lr_hsi, hr_msi, reference = self.inputs(batch, 0)
        name, network = self.names[0], self.network()
        if self.recipe.stage == "Pretraining":
            loss = normalised_l1(network.pretraining_forward(lr_hsi, hr_msi), reference)
            return {"loss": loss, f"{name}/loss": loss}
        prediction, x13, x23, tp_loss = network.forward_with_auxiliary(lr_hsi, hr_msi)
        terms = {
            f"{name}/l1": normalised_l1(prediction, reference),
            f"{name}/x13": 0.2 * F.l1_loss(x13, reference),
            f"{name}/x23": 0.4 * F.l1_loss(x23, reference),
            f"{name}/transfer": 0.05 * tp_loss,
        }
        if self.perceptual is not None:
            terms[f"{name}/perceptual"] = 0.1 * self.perceptual(prediction, reference)
        loss = total(terms.values())
        return {"loss": loss, f"{name}/loss": loss} | terms


# Both phases: whole patches without augmentation (64/256 as on Chikusei), which lr_pixels = 64 * 64 fits.
recipe = partial(Recipe, task=Phases, trains=("hyper-transformer",), lr=1e-4, weight_decay=1e-4, epochs=10_000, batch=8,
                 crop=256, augment=())


@register(
    "hyper-transformer",
    "supervised",
    paper="Bandara and Patel, HyperTransformer, CVPR 2022",
    year=2022,
    fidelity="release",
    source="wgcban/HyperTransformer@b12f712cbf8e7c0e68008f9af01a5e5a6413c137",
    count_reason="no number of heads, MSI bands or LR pixels gives the published pair",
    recipes={"release": (recipe(stage="Pretraining", schedule="step:8000:0.1"),
                         recipe(stage="MultiScale", schedule="step:2000:0.1"))},
    small={"width": 8, "lr_pixels": 64},
    note="its parameters are bound to the image size; the release's VGG-19 perceptual term is an option, off by "
         "default; no setting of the release gives the published parameters and operations",
)
def build(bands: int, msi_bands: int, ratio: int, lr_pixels: int = 4096, heads: int = 4,
          width: int = 64) -> HyperTransformer:
    """``lr_pixels`` is h*w of the LR-HSI, ``width`` that of the finest level (the coarsest has four times as many)."""
    if ratio != HyperTransformer.ratio:
        raise MethodError(f"hyper-transformer: ratio {ratio}; choices: 4 (two pixel shuffles and three feature scales)")
    if heads < 1:
        raise MethodError(f"hyper-transformer: heads {heads}; 1 (raw features, any image size) or more")
    return HyperTransformer(bands, msi_bands, lr_pixels, heads, width)
