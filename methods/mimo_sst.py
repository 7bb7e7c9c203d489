"""MIMO-SST: one block of crossed channel attention for three scales of both images, and an image out of each scale.

Paper: J. Fang, J. Yang, A. Khader, L. Xiao, "MIMO-SST: Multi-Input Multi-Output Spatial-Spectral Transformer for
Hyperspectral and Multispectral Image Fusion", IEEE TGRS 62, 2024.
Release: Freelancefangjian/MIMO-SST @ 06aacc193ad9951fb873359a29efc792f8c33dc3, ``Model.py`` (its README says MIT and points
to a file that does not exist; written anew from a description, no code taken).

Notes on the release:

* The release has 31 bands, 3 MSI bands and ratio 8, any here; module names keep its numbers. HR sides that are no multiples
  of 4 are padded by replication and cropped after. Attention maps are channels by channels: the cost is linear in pixels.
* Both temperatures start at 1; one multiplies the logits of the MSI's branch, the other divides those of the HSI's, which
  also has no projection.
* Three fifths of the parameters are built and never read: see ``unused``.
* The released loss is L1 and a Fourier distance at all three scales (:class:`MultiScale`), the paper's is said to be of
  wavelets. References and inputs of lower scales are every second and every fourth pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import losses
from methods.blocks import Levels, crop_to, pad_to_multiple
from methods.registry import MethodError, Recipe, register
from methods.tasks import Task, total

MULTIPLE = 4  # of the HR sides: two halvings
FOURIER = 0.01  # weight of the loss between spectra
BLOCK = "encoder_level11.0"


def conv(inputs: int, outputs: int, kernel: int = 3, bias: bool = True) -> nn.Conv2d:
    """Convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)


def halved(image: Tensor) -> Tensor:
    """Every second pixel: (B, C, H, W) -> (B, C, H/2, W/2)."""
    return image[..., ::2, ::2]


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of every pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelAttention(nn.Module):
    """Parts of an attention between channels; four stand in the block, of which each has a part that is used."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(1, 1, 1))
        self.qkv = conv(width, 3 * width, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=False)
        self.project_out = conv(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of an image: (B, width, H, W) -> each (B, width, HW), rows of the first two of length 1."""
        query, key, value = self.qkv_dwconv(self.qkv(x)).flatten(2).chunk(3, 1)
        return F.normalize(query, dim=2), F.normalize(key, dim=2), value


class FeedForward(nn.Module):
    """A 3x3 convolution and GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Sequential(conv(width, width), nn.GELU())
        self.dwconv1 = nn.Sequential(conv(width, width))  # never run

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return self.dwconv(x)


class Mixture(nn.Module):
    """Channels of each image weighed by what the other one's say of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.attn = ChannelAttention(width)  # never run
        self.attn1, self.attn2, self.attn3 = (ChannelAttention(width) for _ in range(3))
        self.ffn = FeedForward(width)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """MSI and HSI features, each (B, width, H, W) -> same."""
        query_x, key_x, value_x = self.attn1(self.norm1(x))
        query_y, key_y, value_y = self.attn1(self.norm1(y))
        weights = (key_y @ query_x.mT * self.attn2.temperature).softmax(-1)  # rows: channels of key_y
        x = x + self.attn2.project_out((weights @ value_y).view_as(x))
        weights = (key_x @ query_y.mT / self.attn3.temperature).softmax(-1)
        y = y + (weights @ value_x).view_as(y)
        return x + self.ffn(self.norm2(x)), y + self.ffn(self.norm2(y))


def resampling(inputs: int, outputs: int, last: nn.Module) -> nn.ModuleDict:
    """A convolution and a (un)shuffle, under the release's name."""
    return nn.ModuleDict({"body": nn.Sequential(conv(inputs, outputs, bias=False), last)})


class MIMOSST(nn.Module):
    """The network of the release; it returns the image of the full scale, and :meth:`pyramid` all three."""

    unused = ("down3_4.", "up4_3.", "reduce_chan_level3.", "Conv1.", f"{BLOCK}.attn.", f"{BLOCK}.attn1.temperature",
              f"{BLOCK}.attn1.project_out.", f"{BLOCK}.attn2.qkv", f"{BLOCK}.attn3.qkv", f"{BLOCK}.attn3.project_out.",
              f"{BLOCK}.ffn.dwconv1.", "Conv192_31.")  # the last one is learned from the lower scales alone

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int) -> None:
        super().__init__()
        self.ratio = ratio
        w1, w2, w4 = width, 2 * width, 4 * width  # at the full scale, half of it, a quarter
        self.patch_embed = nn.ModuleDict({"proj": conv(2 * width + bands + msi_bands, w1, bias=False)})
        self.down1_2 = resampling(w1, w1 // 2, nn.PixelUnshuffle(2))
        self.down2_3 = resampling(w2, w2 // 2, nn.PixelUnshuffle(2))
        self.down3_4 = resampling(w4, w4 // 2, nn.PixelUnshuffle(2))  # never run
        self.up4_3 = resampling(2 * w4, 4 * w4, nn.PixelShuffle(2))  # never run
        self.reduce_chan_level3 = conv(2 * w4, w4, 1, bias=False)  # never run
        self.up3_2 = resampling(w4, 2 * w4, nn.PixelShuffle(2))
        self.reduce_chan_level2 = conv(2 * w2, w2, 1, bias=False)
        self.up2_1 = resampling(w2, 2 * w2, nn.PixelShuffle(2))
        self.Conv96_31, self.Conv192_31 = conv(w2, bands), conv(w4, bands)
        self.Conv144_96, self.Conv240_192 = conv(w2 + w1, w2), conv(w4 + w1, w4)
        self.Conv1 = conv(w4 + w1, w4)  # never run
        self.encoder_level11 = nn.Sequential(Mixture(width))
        self.Conv3_64, self.Conv31_64 = conv(msi_bands, width), conv(bands, width)

    def embedded(self, hr_msi: Tensor, up_hsi: Tensor) -> Tensor:
        """One scale of both images, (B, msi_bands, H, W) and (B, bands, H, W) -> (B, width, H, W)."""
        x, y = self.encoder_level11[0](self.Conv3_64(hr_msi), self.Conv31_64(up_hsi))
        return self.patch_embed["proj"](torch.cat((x, y, hr_msi, up_hsi), 1))

    def pyramid(self, lr_hsi: Tensor, hr_msi: Tensor) -> Levels:
        """(B, bands, h, w), (B, msi_bands, H, W), H and W multiples of 4 -> images of the scales 1, 1/2, 1/4."""
        u1 = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bilinear", align_corners=False)
        u2, g2 = halved(u1), halved(hr_msi)
        u4, g4 = halved(u2), halved(g2)
        p1, p2, p4 = self.embedded(hr_msi, u1), self.embedded(g2, u2), self.embedded(g4, u4)
        z2 = self.Conv144_96(torch.cat((self.down1_2["body"](p1), p2), 1))  # (B, 2 width, H/2, W/2)
        z4 = self.Conv240_192(torch.cat((self.down2_3["body"](z2), p4), 1))  # (B, 4 width, H/4, W/4)
        h = self.reduce_chan_level2(torch.cat((self.up3_2["body"](z4), z2), 1))  # (B, 2 width, H/2, W/2)
        full = F.relu(u1 + self.Conv96_31(torch.cat((self.up2_1["body"](h), p1), 1)))
        return full, u2 + self.Conv96_31(h), u4 + self.Conv192_31(z4)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W)."""
        return crop_to(self.pyramid(*pad_to_multiple(lr_hsi, hr_msi, self.ratio, MULTIPLE))[0], hr_msi)


def fourier(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean modulus of the difference of two images' Fourier transforms, which are not normalised."""
    return torch.fft.fft2(estimate - reference).abs().mean()


class MultiScale(Task):
    """L1 and a hundredth of the Fourier distance, summed over the three scales."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms."""
        lr_hsi, hr_msi, reference = self.inputs(batch, 0)
        name, network = self.names[0], self.network()
        reference = pad_to_multiple(lr_hsi, reference, network.ratio, MULTIPLE)[1]
        estimates = network.pyramid(*pad_to_multiple(lr_hsi, hr_msi, network.ratio, MULTIPLE))
        pairs = list(zip(estimates, (reference, halved(reference), halved(halved(reference)))))
        terms = {f"{name}/l1": total(losses.l1(*pair) for pair in pairs),
                 f"{name}/fourier": FOURIER * total(fourier(*pair) for pair in pairs)}
        loss = total(terms.values())
        return terms | {f"{name}/loss": loss, "loss": loss}


@register(
    "mimo-sst", "supervised",
    paper="Fang et al., MIMO-SST, IEEE TGRS 2024",
    year=2024,
    fidelity="release",
    source="Freelancefangjian/MIMO-SST@06aacc193ad9951fb873359a29efc792f8c33dc3",
    # An epoch is every 32x32 patch at stride 16 there, here one crop of each image.
    recipes={"release": Recipe(task=MultiScale, trains=("mimo-sst",), schedule="constant", weight_decay=1e-8, epochs=1001,
                               batch=16, crop=32, augment=())},
    small={"width": 8},
    note="for 31 bands, 3 MSI bands and ratio 8 in the release, any here; three fifths of its parameters are built and "
         "never used",
)
def build(bands: int, msi_bands: int, ratio: int, width: int = 48) -> MIMOSST:
    """MIMO-SST with ``width`` features at full size, an even number."""
    if width % 2:
        raise MethodError(f"mimo-sst: width {width}; half of it is unshuffled, choose an even number")
    return MIMOSST(bands, msi_bands, ratio, width)
