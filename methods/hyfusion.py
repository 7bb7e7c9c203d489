"""HyFusion: the public precursor (three Swin trunks), and an unofficial reading of the published network.

Paper: C.-C. Hsu, C.-M. Lee, Y.-F. Lin, "HyFusion: Enhanced Reception Field Transformer for Hyperspectral Image Fusion",
IGARSS 2025.
Release: ming053l/HyFusion @ bc5209d9b3809de3325eb2fb2719bf91ea538ef9, ``models/SwinFusion.py`` (MIT; deleted from the
head of the repository, whose test script still imports it). It is an earlier design than the paper's.

``hyfusion``
    The precursor, exactly: it has none of the paper's draft concatenation, dense connections or two-scale branches.
``hyfusion-published``
    The two branches of enhanced reception field blocks (ERFB) of the abstract and the repository's figure. The drawing
    gives the order of the layers; every width, depth inside an ERFB, window, head count, growth and resampling kernel
    is our guess (see :class:`HyFusion`), and there are no published counts to check it against.

Notes on the release:

* Its wrapper fixes 4 MSI bands and adds its training noise inside ``forward``; here the training loop adds it.
* It takes HR sides that are multiples of the window; others are padded here by their edge values and cropped after.
* It stores the shift masks of one training size as ``attn_mask`` buffers. They follow from the image size and are computed
  here per call; ``load_release`` passes over them.
* Its training loop and losses are not public: L1 is ours.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import pad_to_multiple
from methods.registry import MethodError, Recipe, register
from methods.swin import ResidualGroup, SwinBlock, conv3, shift_mask
from methods.tasks import Supervised

DENSE_BLOCKS = 5  # Swin blocks in an ERFB


# ---- the public precursor


class HyFusionPrecursor(nn.Module):
    """The network of the release (``SwinIR_DCSN``), in its own value range [-1, 1]."""

    derived = ("attn_mask",)  # see the notes on the release

    def __init__(self, bands: int, msi_bands: int, ratio: int, embed_dim: int, depths: tuple[int, ...],
                 num_heads: tuple[int, ...], window_size: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.ratio, self.window = ratio, window_size
        self.conv_fuse = nn.Sequential(conv3(embed_dim, bands), nn.LeakyReLU(0.2))
        self.conv_first_HSI = conv3(bands, embed_dim)
        self.conv_first_MSI = conv3(msi_bands, embed_dim)
        self.conv_first_YFD = conv3(bands, embed_dim)
        self.conv_last_YFD = conv3(embed_dim, bands)

        def groups() -> nn.ModuleList:
            rates = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())  # rising over a trunk

            def block(heads: int, shift: bool) -> SwinBlock:
                return SwinBlock(embed_dim, window_size, heads, mlp_ratio, shift, next(rates))

            return nn.ModuleList(ResidualGroup([block(heads, i % 2 == 1) for i in range(depth)], embed_dim)
                                 for depth, heads in zip(depths, num_heads))

        for name in ("FE", "HSI", "MSI"):
            setattr(self, f"patch_embed_{name}", nn.ModuleDict({"norm": nn.LayerNorm(embed_dim)}))
            setattr(self, f"layers_{name}", groups())
        self.norm = nn.LayerNorm(embed_dim)  # one for the three trunks
        self.last = nn.Conv2d(bands, bands, 3, padding=1, bias=False)

    def trunk(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        """(B, embed_dim, H, W) -> same."""
        x = getattr(self, f"patch_embed_{name}")["norm"](x.permute(0, 2, 3, 1))
        for group in getattr(self, f"layers_{name}"):
            x = group(x, mask)
        return self.norm(x).permute(0, 3, 1, 2)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W)."""
        size = hr_msi.shape[2:]
        lr_hsi, hr_msi = pad_to_multiple(lr_hsi, hr_msi, self.ratio, self.window)
        up_hsi = F.interpolate(lr_hsi, scale_factor=self.ratio)  # nearest
        mask = shift_mask(hr_msi.shape[2], hr_msi.shape[3], self.window, hr_msi.device)
        a = self.trunk("HSI", self.conv_first_HSI(up_hsi), mask)
        b = self.trunk("MSI", self.conv_first_MSI(hr_msi), mask)
        y = self.conv_fuse(a + b)
        c = self.conv_last_YFD(self.trunk("FE", self.conv_first_YFD(y), mask))
        return self.last(c + y)[..., : size[0], : size[1]]


# ---- the published network, an unofficial reading


class ERFB(nn.Module):
    """Enhanced reception field block: Swin blocks on a growing concatenation, residual scaled by 0.2.

    Guessed to be the dense group of the same authors' DRCT (ming053l/DRCT @ c0a8b51e69241cf7f8ae598053235ff498517935,
    class ``RDG``): plain and shifted windows in turn, each block followed by a 1x1 convolution to ``growth`` channels
    (the last: to ``width``), a short MLP in the last two, and fewer heads where they do not divide the channels.
    """

    def __init__(self, width: int, growth: int, window: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.swin, self.adjust = nn.ModuleList(), nn.ModuleList()
        for i in range(DENSE_BLOCKS):
            channels = width + i * growth
            fewer = heads - channels % heads
            if channels % fewer:
                raise MethodError(f"hyfusion-published: block {i + 1} of an ERFB has {channels} channels for {fewer} "
                                  "heads; choose width and growth that are multiples of num_heads")
            short = i >= DENSE_BLOCKS - 2
            self.swin.append(SwinBlock(channels, window, fewer, 1.0 if short else mlp_ratio, shift=i % 2 == 1))
            self.adjust.append(nn.Conv2d(channels, growth if i < DENSE_BLOCKS - 1 else width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W), sides multiples of the window -> same."""
        mask = shift_mask(x.shape[2], x.shape[3], self.swin[0].window, x.device)  # type: ignore[arg-type]
        dense = x
        for swin, adjust in zip(self.swin[:-1], self.adjust[:-1]):
            z = F.leaky_relu(adjust(swin(dense.permute(0, 2, 3, 1), mask).permute(0, 3, 1, 2)), 0.2)
            dense = torch.cat((dense, z), 1)
        z = self.adjust[-1](self.swin[-1](dense.permute(0, 2, 3, 1), mask).permute(0, 3, 1, 2))
        return 0.2 * z + x


class Branch(nn.Module):
    """conv3, LeakyReLU, upsampling, the ERFBs, concatenation with what entered them, upsampling, LeakyReLU, conv3."""

    def __init__(self, inputs: int, width: int, blocks: list[ERFB], before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = before, after  # factors of the two upsamplings
        self.first = conv3(inputs, width)
        self.blocks = nn.Sequential(*blocks)
        self.last = conv3(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, width, before * after * H, before * after * W)."""
        x = F.interpolate(F.leaky_relu(self.first(x), 0.2), scale_factor=self.before)  # nearest
        x = torch.cat((x, self.blocks(x)), 1)
        return self.last(F.leaky_relu(F.interpolate(x, scale_factor=self.after), 0.2))


class HyFusion(nn.Module):
    """The published network as far as the abstract and the drawing tell it, in the value range [-1, 1].

    Read from the drawing: quasi-HR-HSI and quasi-LR-MSI (here called the joined images), six ERFBs a branch, two
    upsamplings in the lower one, one ERFB after the fusion. Guessed: the long skips join by concatenation; the lower
    branch upsamples by 2, then by the rest; widths, heads and windows are the precursor's, the growth DRCT's 32;
    images are resampled and features upsampled as in the same authors' S3RNet.
    """

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int, growth: int, blocks: int, num_heads: int,
                 window_size: int, mlp_ratio: float) -> None:
        super().__init__()
        self.ratio, self.window = ratio, window_size

        def erfbs(count: int) -> list[ERFB]:
            return [ERFB(width, growth, window_size, num_heads, mlp_ratio) for _ in range(count)]

        self.spatial = Branch(bands + msi_bands, width, erfbs(blocks), 1, 1)
        self.spectral = Branch(bands + msi_bands, width, erfbs(blocks), 2, ratio // 2)
        self.fusion = nn.Sequential(conv3(2 * width, width), *erfbs(1), conv3(width, bands))

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W)."""
        size = hr_msi.shape[2:]
        # Windows fit both branches, the lower one of twice the LR size, the upper one of ratio times, where half of one fits
        # the LR image: the ratio is even.
        lr_hsi, hr_msi = pad_to_multiple(lr_hsi, hr_msi, self.ratio, self.window // 2 * self.ratio)
        up_hsi = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bilinear")
        down_msi = F.interpolate(hr_msi, scale_factor=1 / self.ratio, mode="bicubic")
        spatial = self.spatial(torch.cat((up_hsi, hr_msi), 1))  # (B, width, H, W)
        spectral = self.spectral(torch.cat((down_msi, lr_hsi), 1))  # (B, width, H, W)
        return self.fusion(torch.cat((spatial, spectral), 1))[..., : size[0], : size[1]]


registered = partial(register, family="supervised", paper="Hsu, Lee, Lin, HyFusion, IGARSS 2025", year=2025,
                     input_range=(-1.0, 1.0))
# Defaults of the release's deleted file; its loss is unknown.
recipe = partial(Recipe, task=Supervised, optimizer="adam", lr=1e-4, schedule="cosine", epochs=900, batch=2, crop=128,
                 train_snr_db=35.0)


@registered(
    "hyfusion",
    fidelity="release",
    source="ming053l/HyFusion@bc5209d9b3809de3325eb2fb2719bf91ea538ef9",
    recipes={"release": recipe(trains=("hyfusion",))},
    small={"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2), "drop_path": 0.0},
    note="the public precursor of HyFusion, not the published network; its losses are not public, L1 is ours",
)
def _build_precursor(bands: int, msi_bands: int, ratio: int, embed_dim: int = 96,
                     depths: tuple[int, ...] = (6, 6, 6, 6), num_heads: tuple[int, ...] = (6, 6, 6, 6),
                     window_size: int = 8, mlp_ratio: float = 4.0, drop_path: float = 0.1) -> HyFusionPrecursor:
    if len(depths) != len(num_heads):
        raise MethodError(f"hyfusion: depths {tuple(depths)} and num_heads {tuple(num_heads)} must be of one length")
    if any(embed_dim % heads for heads in num_heads):
        raise MethodError(f"hyfusion: num_heads {tuple(num_heads)} must divide embed_dim {embed_dim}")
    return HyFusionPrecursor(bands, msi_bands, ratio, embed_dim, tuple(depths), tuple(num_heads), window_size,
                             mlp_ratio, drop_path)


@registered(
    "hyfusion-published",
    fidelity="described",
    recipes={"release": recipe(trains=("hyfusion-published",))},
    small={"width": 8, "growth": 4, "blocks": 2, "num_heads": 2},
    note="an unofficial reading of the paper's abstract and figure: sizes, blocks, loss and training are guessed",
)
def _build_published(bands: int, msi_bands: int, ratio: int, width: int = 96, growth: int = 32, blocks: int = 6,
                     num_heads: int = 6, window_size: int = 8, mlp_ratio: float = 4.0) -> HyFusion:
    if ratio % 2 or window_size % 2:
        raise MethodError(f"hyfusion-published: ratio {ratio} and window_size {window_size} must be even: the lower "
                          "branch works at twice the LR size; choose ratio 2, 4 or 8")
    return HyFusion(bands, msi_bands, ratio, width, growth, blocks, num_heads, window_size, mlp_ratio)
