"""S3RNet, teacher and student (earlier published as CSAKD).

Paper: C.-C. Hsu, C.-M. Lee, Y.-C. Lin, L.-W. Kang et al., "S3RNet" / "CSAKD: Knowledge Distillation with Cross
Self-Attention for Hyperspectral and Multispectral Image Fusion", 2024-2026.
Release: ming053l/S3RNet @ 5f572d00e7ca6a6ddaf3b994eb5cf9ec98364180, ``models/KQD.py`` and ``KQD_Large.py`` (MIT).

Two names for every piece; the first is used below, the second is CSAKD's and, in part, the release's:

    DFAB   dense feature aggregation block     (MFB, inside CLRB)
    GRG    grouped residual group, three DFABs (CLRA)
    MBFN   the four branches                   (DTS, dual two-streamed network)
    SSAWB  self-attention and weighting block  (CSA)

Departures of the release from the text, both kept as options:

* ``attention="release"``: after the softmax the release sums the attention row over its keys and the values over their
  channels *separately* (the subscripts of its contraction share no index). A softmax row sums to one, so queries and
  keys cannot influence the output; the value branch alone is computed here. ``attention="paper"`` is the matrix
  product softmax(Q K^T / sqrt(r)) V of the text, between channels.
* The student's Z_hm stack is built but its call is commented out: dead parameters, listed in ``unused``.
* The release adds its training noise inside ``forward``; here the training loop adds it to the input.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.registry import MethodError, Recipe, register
from methods.tasks import HOKD, HOKDRelease, HOKDWeighted, WithoutTeacher

FUSIONS = ("sum", "sigmoid", "attention", "ssawb", "concat")
HEADS, REDUCED = 4, 64  # of the attention: 4 heads of 16 channels


class DFAB(nn.Module):
    """Dense feature aggregation block: five 3x3 convolutions on a growing concatenation, residual scaled by 0.2."""

    def __init__(self, width: int, growth: int, groups: int = 1) -> None:
        super().__init__()

        def conv(earlier: int, out: int) -> nn.Conv2d:
            layer = nn.Conv2d(width + earlier * growth, out, 3, padding=1, groups=groups)
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            layer.weight.data *= 0.1
            return layer

        self.conv1, self.conv2 = conv(0, growth), conv(1, growth)
        self.conv3, self.conv4 = conv(2, growth), conv(3, growth)
        self.conv5 = conv(4, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        x1 = F.leaky_relu(self.conv1(x), 0.2)
        x2 = F.leaky_relu(self.conv2(torch.cat((x, x1), 1)), 0.2)
        x3 = F.leaky_relu(self.conv3(torch.cat((x, x1, x2), 1)), 0.2)
        x4 = F.leaky_relu(self.conv4(torch.cat((x, x1, x2, x3), 1)), 0.2)
        return 0.2 * self.conv5(torch.cat((x, x1, x2, x3, x4), 1)) + x


class GRG(nn.Module):
    """Residual group of three DFABs; grouped (the GRG proper) where ``groups`` > 1: the student's Z_h branch."""

    def __init__(self, width: int, growth: int, groups: int = 1) -> None:
        super().__init__()
        self.MFB1 = DFAB(width, growth, groups)
        self.MFB2 = DFAB(width, growth, groups)
        self.MFB3 = DFAB(width, growth, groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return 0.2 * self.MFB3(self.MFB2(self.MFB1(x))) + x


class Attention(nn.Module):
    """Cross attention of Z_h (query), Z_m (key) and Z_mh (value), added to Z_hm (eq. 8; the text projects Z_hm too)."""

    def __init__(self, width: int, form: str) -> None:
        super().__init__()
        self.form = form
        self.query_conv = nn.Conv2d(width, REDUCED, 1)
        self.key_conv = nn.Conv2d(width, REDUCED, 1)
        self.value_conv = nn.Conv2d(width, REDUCED, 1)
        self.output_conv = nn.Conv2d(REDUCED, width, 1)

    def forward(self, z_h: Tensor, z_m: Tensor, z_mh: Tensor, z_hm: Tensor) -> Tensor:
        """Four times (B, width, H, W) -> (B, width, H, W)."""
        batch, _, height, width = z_h.shape

        def heads(x: Tensor) -> Tensor:  # (B, 64, H, W) -> (B, 4, 16, H*W)
            return x.reshape(batch, HEADS, REDUCED // HEADS, height * width)

        value = heads(self.value_conv(z_mh))
        if self.form == "release":  # rows of the softmax sum to 1: what is left is the sum of a head's value channels
            mixed = value.sum(2, keepdim=True).expand_as(value)
        else:
            # The text divides by sqrt(r), r = 64 the reduced dimension (the release: by sqrt(16)). The product runs
            # over pixels, so logits grow with the image, as published.
            query, key = heads(self.query_conv(z_h)), heads(self.key_conv(z_m))
            mixed = torch.softmax(query @ key.mT / math.sqrt(REDUCED), dim=-1) @ value
        return self.output_conv(mixed.reshape(batch, REDUCED, height, width)) + z_hm


class SSAWB(Attention):
    """Attention, then a sigmoid weight per branch and pixel from all four (the default fusion, option 3)."""

    def __init__(self, width: int, form: str) -> None:
        super().__init__(width, form)
        self.attention_weights = nn.Conv2d(4 * width, 4, 1)

    def forward(self, z_h: Tensor, z_m: Tensor, z_mh: Tensor, z_hm: Tensor) -> Tensor:
        """Four times (B, width, H, W) -> (B, width, H, W)."""
        attended = super().forward(z_h, z_m, z_mh, z_hm)
        return weighted_sum(self.attention_weights, (z_h, z_m, z_mh, attended))


class ConcatFusion(nn.Module):
    """SSAWB's pixel weights without its attention (option 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_conv = nn.Conv2d(4 * width, 4, 1)

    def forward(self, *branches: Tensor) -> Tensor:
        """Four times (B, width, H, W) -> (B, width, H, W)."""
        return weighted_sum(self.attention_conv, branches)


class SigmoidFusion(nn.Module):
    """One learned sigmoid weight per branch and channel (option 1; the IGARSS 2025 text's independent weights)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(4, width, 1, 1))

    def forward(self, *branches: Tensor) -> Tensor:
        """Four times (B, width, H, W) -> (B, width, H, W)."""
        return sum(weight * z for weight, z in zip(torch.sigmoid(self.weights), branches))


def weighted_sum(gate: nn.Module, branches: tuple[Tensor, ...]) -> Tensor:
    """Sum of the branches, each weighted per pixel by one channel of ``sigmoid(gate(concatenation))``."""
    weights = torch.sigmoid(gate(torch.cat(branches, 1)))
    return sum(weights[:, i : i + 1] * z for i, z in enumerate(branches))  # type: ignore[return-value]


class MBFN(nn.Module):
    """Multi-branch fusion network: branches Z_hm, Z_mh, Z_h, Z_m, their fusion, and the reconstruction head."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int, growth: int, depths: tuple[int, ...],
                 h_groups: int, run_hm: bool, fusion: str, attention: str) -> None:
        super().__init__()
        self.ratio, self.run_hm = ratio, run_hm
        hm, mh, h, m = depths

        def stack(depth: int, groups: int = 1) -> nn.Sequential:
            return nn.Sequential(*(GRG(width, growth, groups) for _ in range(depth)))

        self.hmconv1 = nn.Conv2d(bands + msi_bands, width, 3, padding=1)
        self.hmfeat = stack(hm)
        self.mhconv1 = nn.Conv2d(bands + msi_bands, width, 3, padding=1)
        self.mhfeat = stack(mh)
        self.hconv1 = nn.Conv2d(bands, width, 3, padding=1)
        self.hfeat = stack(h, h_groups)
        self.mconv1 = nn.Conv2d(msi_bands, width, 3, padding=1)
        self.mfeat = stack(m)
        if fusion != "sum":
            self.fuse_att = {"sigmoid": lambda: SigmoidFusion(width), "attention": lambda: Attention(width, attention),
                             "ssawb": lambda: SSAWB(width, attention), "concat": lambda: ConcatFusion(width)}[fusion]()
        self.fuse = nn.Conv2d(width, bands, 3, padding=1)
        self.last = nn.Conv2d(bands, bands, 3, padding=1, bias=False)

    def fused(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Z_fused, (B, width, H, W), from (B, bands, h, w) and (B, msi_bands, H, W)."""
        up_hsi = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bilinear")  # (B, bands, H, W); the text: bicubic
        down_msi = F.interpolate(hr_msi, scale_factor=1 / self.ratio, mode="bicubic")  # (B, msi_bands, h, w)
        z_hm = F.leaky_relu(self.hmconv1(torch.cat((up_hsi, hr_msi), 1)), 0.2)  # at HR
        if self.run_hm:
            z_hm = self.hmfeat(z_hm)
        z_mh = self.mhfeat(F.leaky_relu(self.mhconv1(torch.cat((lr_hsi, down_msi), 1)), 0.2))  # at LR
        z_h = self.hfeat(F.leaky_relu(self.hconv1(lr_hsi), 0.2))  # at LR
        z_m = self.mfeat(F.leaky_relu(self.mconv1(hr_msi), 0.2))  # at HR
        z_h = F.interpolate(z_h, scale_factor=self.ratio)  # nearest
        z_mh = F.interpolate(z_mh, scale_factor=self.ratio)
        if not hasattr(self, "fuse_att"):
            return z_h + z_m + z_mh + z_hm
        return self.fuse_att(z_h, z_m, z_mh, z_hm)

    def reconstruct(self, z_fused: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, bands, H, W), no output activation."""
        return self.last(F.leaky_relu(self.fuse(z_fused), 0.2))


class S3RNet(nn.Module):
    """The network of the release, in its own value range [-1, 1]."""

    def __init__(self, decoder: MBFN, unused: tuple[str, ...]) -> None:
        super().__init__()
        self.decoder = decoder  # the release's name: it begins every key of a published state dict
        self.unused = unused  # prefixes of parameters that the release builds but that cannot reach the output

    def forward_with_features(self, lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor]:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W) and Z_fused (B, width, H, W)."""
        z_fused = self.decoder.fused(lr_hsi, hr_msi)
        return self.decoder.reconstruct(z_fused), z_fused

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W)."""
        return self.forward_with_features(lr_hsi, hr_msi)[0]


def _build(bands: int, msi_bands: int, ratio: int, depths: tuple[int, ...], width: int, growth: int | None,
           fusion: str, attention: str, student: bool) -> S3RNet:
    if fusion not in FUSIONS:
        raise MethodError(f"s3rnet: fusion '{fusion}'; choices: {', '.join(FUSIONS)}")
    if attention not in ("release", "paper"):
        raise MethodError(f"s3rnet: attention '{attention}'; choices: release, paper")
    if len(depths) != 4:
        raise MethodError(f"s3rnet: depths {depths}; four numbers are needed, of the branches hm, mh, h, m")
    growth = growth or width // 2
    h_groups = width // 2 if student else 1
    if growth % h_groups or width % h_groups:
        raise MethodError(f"s3rnet: the student's Z_h branch has width // 2 = {h_groups} groups, which must divide "
                          f"width {width} and growth {growth}; choose an even width and leave growth alone")
    unused = ("decoder.hmfeat.",) if student else ()
    if fusion in ("attention", "ssawb") and attention == "release":
        unused += ("decoder.fuse_att.query_conv.", "decoder.fuse_att.key_conv.")  # type: ignore[assignment]
    decoder = MBFN(bands, msi_bands, ratio, width, growth, tuple(depths), h_groups, run_hm=not student,
                   fusion=fusion, attention=attention)
    return S3RNet(decoder, unused)


def _register(size: str, teacher_depths: tuple[int, ...], student_depths: tuple[int, ...]) -> None:
    """Register the teacher and the student of one size; they are trained together, by one task."""
    pair = f"s3rnet-teacher{size}", f"s3rnet-student{size}"
    both = ("teacher/beba", "teacher/sam", "student/beba", "student/sam", "student/kd")
    registered = partial(
        register,
        family="supervised",
        paper="Hsu et al., S3RNet (CSAKD), JSTARS 2026",
        year=2026,
        fidelity="release",
        source="ming053l/S3RNet@5f572d00e7ca6a6ddaf3b994eb5cf9ec98364180",
        input_range=(-1.0, 1.0),
        recipes={
            # Text: Adam, 1e-4, cosine, 600 epochs of batch 4. Its losses are the text's equations.
            "paper": Recipe(task=HOKD, trains=pair),
            # Code: AdamW without decay, StepLR for the student, 35 dB on the LR-HSI, the best SAM is kept.
            "release": Recipe(task=HOKDRelease, trains=pair, optimizer="adamw", schedule=("cosine", "step:100:0.9"),
                              train_snr_db=35.0, keep="best-sam"),
            # Table III: without the terms that the text adds to L1 (its lambda_4 stays), and one of the student's at 0.5.
            "naive": Recipe(task=HOKDWeighted, trains=pair, weights=tuple((term, 0.0) for term in both)),
            **{f"{term}-0.5": Recipe(task=HOKDWeighted, trains=pair, weights=((f"student/{term}", 0.5),))
               for term in ("beba", "sam", "kd", "output")},
        },
        small={"width": 8, "depths": (1, 1, 1, 1)},
    )

    @registered(pair[0])
    def build_teacher(bands: int, msi_bands: int, ratio: int, depths: tuple[int, ...] = teacher_depths,
                      width: int = 86, growth: int | None = None, fusion: str = "ssawb",
                      attention: str = "release") -> S3RNet:
        return _build(bands, msi_bands, ratio, depths, width, growth, fusion, attention, student=False)

    recipes = registered.keywords["recipes"] | {"alone": Recipe(task=WithoutTeacher, trains=(pair[1],))}

    @registered(pair[1], recipes=recipes,
                note="its Z_hm stack is built but never run, in the release and here")
    def build_student(bands: int, msi_bands: int, ratio: int, depths: tuple[int, ...] = student_depths,
                      width: int = 86, growth: int | None = None, fusion: str = "ssawb",
                      attention: str = "release") -> S3RNet:
        return _build(bands, msi_bands, ratio, depths, width, growth, fusion, attention, student=True)


_register("", (6, 6, 4, 4), (1, 4, 4, 1))  # depths of (hm, mh, h, m)
_register("-large", (8, 8, 6, 6), (2, 4, 4, 4))
