"""PSDNet: fusion in three stages, on quarters, halves and the whole image; a student that learns from a teacher.

Paper: M. Gong, H. Zhang, H. Xu, X. Tian, J. Ma, "Multipatch Progressive Pansharpening With Knowledge Distillation",
TGRS 2023.
Release: Meiqi-Gong/PSDNet @ dda8b2d317037bb925e75e6add3844df4918f1d4, ``Networks/dbpn.py`` (``Net`` the student,
``Net_GT`` the teacher), ``Networks/base_networks.py``, ``optimize1.py`` (no licence).

Teacher and student are one layout. The teacher's second stage looks at the reference where the student's looks at its
own first image, so the teacher is no fusion method: it exists for training (:meth:`PSDNet.stages` with a target).

Notes on the release:

* It takes a panchromatic band; here as many MSI bands as there are.
* It is built for ratio 4. Here the kernels of the other ratios are DBPN's (ratio + 4, stride ratio, padding 2), and the
  encoder's second downsampling reaches the LR grid.
* Its overlap positions come from one axis, so that it fails on rectangles and odd sides. Here each axis has its own,
  and LR sides that are odd or below 8 are padded by their edge values and cropped after.
* One PReLU, ``act``, and several layers are shared and stand in the state dict under every name they have.
* A positional argument slips, so that the up- and down-projection units have biases.
* ``trans_enc2``, ``trans_enc3``, ``trans_dec2`` and ``trans_dec3`` are built but never run (``unused``).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.registry import MethodError, Recipe, register
from methods.tasks import Task, total

ROWS, COLUMNS = 2, 3  # axes of (B, C, H, W)
OVERLAP = 8  # LR rows or columns that two neighbouring tiles share


# ---- tiles


def split(x: Tensor, axis: int, overlap: int) -> Tensor:
    """(B, C, H, W) -> (2 B, C, H, W) with about half the rows or columns: all first halves, then all second ones."""
    keep = (x.shape[axis] + overlap) // 2
    return torch.cat((x.narrow(axis, 0, keep), x.narrow(axis, x.shape[axis] - keep, keep)))


def blend(x: Tensor, axis: int, overlap: int) -> Tensor:
    """The inverse of :func:`split`, with a raised cosine from the first half to the second where they overlap."""
    first, second = x.chunk(2)
    rest = first.shape[axis] - overlap
    weight = 0.5 + 0.5 * torch.cos(math.pi * torch.arange(overlap, device=x.device, dtype=x.dtype) / overlap)
    weight = weight[:, None] if axis == ROWS else weight
    both = weight * first.narrow(axis, rest, overlap) + (1 - weight) * second.narrow(axis, 0, overlap)
    return torch.cat((first.narrow(axis, 0, rest), both, second.narrow(axis, overlap, rest)), axis)


# ---- layers


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """Convolution that keeps the size, without bias."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)


class ConvBlock(nn.Module):
    """Convolution and a PReLU of its own."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0,
                 bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H', W')."""
        return self.act(self.conv(x))


class DeconvBlock(nn.Module):
    """Transposed convolution and a PReLU of its own."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int, bias: bool = True) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, bias=bias)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H', W')."""
        return self.act(self.deconv(x))


class ChannelGate(nn.Module):
    """A sigmoid weight per channel from its mean and maximum over the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(conv(width, width // 4, 1), nn.ReLU(), conv(width // 4, width, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return x * self.conv_du(x.mean((2, 3), keepdim=True) + x.amax((2, 3), keepdim=True))


class CAB(nn.Module):
    """Channel attention block."""

    def __init__(self, width: int, act: nn.PReLU) -> None:
        super().__init__()
        self.CA = ChannelGate(width)
        self.body = nn.Sequential(conv(width, width), act, conv(width, width), act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return x + self.CA(self.body(x))


class SAB(nn.Module):
    """Spatial attention block: a sigmoid weight per pixel and channel from the mean and maximum over the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv2d = nn.Sequential(conv(2, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return x + x * self.conv2d(torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1))


class ResidualBlock(nn.Module):
    """Two convolutions, each with ``act``; the block of encoder and decoder."""

    def __init__(self, width: int, act: nn.PReLU) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), act, conv(width, width), act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return x + self.body(x)


class ORB(nn.Module):
    """Original resolution block: the same attention layers three times."""

    def __init__(self, width: int, act: nn.PReLU) -> None:
        super().__init__()
        self.body1 = self.body2 = self.body3 = nn.Sequential(CAB(width, act), SAB(width), conv(width, width), act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return self.body3(self.body2(self.body1(x))) + x


class Resample(nn.Module):
    """Bilinear resampling, 1x1 convolution and ``act``, kept under the name the release gives it (up or down)."""

    def __init__(self, name: str, factor: float, inputs: int, outputs: int, act: nn.PReLU) -> None:
        super().__init__()
        self.name = name
        resize = nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=False)
        setattr(self, name, nn.Sequential(resize, conv(inputs, outputs, 1), act))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, factor * H, factor * W)."""
        return getattr(self, self.name)(x)


# ---- stage 1: back-projection (DBPN)


class Down(nn.Module):
    """Down-projection unit: HR -> LR, corrected by what the LR map leaves unexplained."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        sampling = ratio + 4, ratio, 2
        self.down_conv1 = ConvBlock(width, width, *sampling)
        self.down_conv2 = DeconvBlock(width, width, *sampling)
        self.down_conv3 = ConvBlock(width, width, *sampling)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, width, h, w)."""
        l0 = self.down_conv1(x)
        return self.down_conv3(self.down_conv2(l0) - x) + l0


class Up(nn.Module):
    """Up-projection unit: LR -> HR, corrected by what the HR map leaves unexplained."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        sampling = ratio + 4, ratio, 2
        self.up_conv1 = DeconvBlock(width, width, *sampling)
        self.up_conv2 = ConvBlock(width, width, *sampling)
        self.up_conv3 = DeconvBlock(width, width, *sampling)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, width, H, W)."""
        h0 = self.up_conv1(x)
        return self.up_conv3(self.up_conv2(h0) - x) + h0


class DenseUp(Up):
    """Up-projection of two concatenated maps (``D_Up``)."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__(width, ratio)
        self.conv = ConvBlock(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 width, h, w) -> (B, width, H, W)."""
        return super().forward(self.conv(x))


class BackProjection(nn.Module):
    """One DBPN, in two parts, between which tiles may be joined."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.feat = nn.Sequential(ConvBlock(width, width, 3, padding=1, bias=False),
                                  ConvBlock(width, width, 1, bias=False))
        self.down1, self.up1 = Down(width, ratio), Up(width, ratio)
        self.down2, self.up2 = Down(width, ratio), DenseUp(width, ratio)
        self.output_conv = ConvBlock(2 * width, width, 3, padding=1, bias=False)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width, H, W) -> l1 (B, width, h, w), h1 (B, width, H, W)."""
        l1 = self.down1(self.feat(x))
        return l1, self.up1(l1)

    def reproject(self, l1: Tensor, h1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(l1, h1) -> output (B, width, H, W), l (B, 2 width, h, w), h (B, 2 width, H, W)."""
        low = torch.cat((self.down2(h1), l1), 1)
        high = torch.cat((self.up2(low), h1), 1)
        return self.output_conv(high), low, high


class DBPN(nn.Module):
    """Three back-projections: quarters to quarters, quarters to halves, halves to halves."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.DBPNnet1 = BackProjection(width, ratio)
        self.DBPNnet2 = BackProjection(width, ratio)
        self.DBPNnet3 = BackProjection(width, ratio)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Quarters (4 B, width, H, W) -> halves (2 B, width, H, W'), and of them (H1, L1), (H3, L3)."""
        def join(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
            return blend(low, COLUMNS, OVERLAP), blend(high, COLUMNS, OVERLAP * self.ratio)

        x, low, high = self.DBPNnet1.reproject(*self.DBPNnet1.project(x))
        l1, h1 = join(low, high)
        x, _, _ = self.DBPNnet2.reproject(*join(*self.DBPNnet2.project(x)))
        x, l3, h3 = self.DBPNnet3.reproject(*self.DBPNnet3.project(x))
        return x, (h1, l1), (h3, l3)


# ---- stage 2: encoder and decoder


def transfer(inputs: int, outputs: int, act: nn.PReLU) -> nn.Sequential:
    """Brings features of one stage into the next."""
    return nn.Sequential(conv(inputs, outputs), act, conv(outputs, outputs, 1), act)


class Encoder(nn.Module):
    """Three scales, HR, HR / 2 and LR; the features of stage 1 enter at the first and the last."""

    def __init__(self, width: int, ratio: int, act: nn.PReLU) -> None:
        super().__init__()
        self.encoder_level1 = nn.Sequential(conv(width, width), act, ResidualBlock(width, act))
        self.encoder_level2 = nn.Sequential(ResidualBlock(2 * width, act))
        self.encoder_level3 = nn.Sequential(ResidualBlock(3 * width, act))
        self.down12 = Resample("down", 1 / 2, width, 2 * width, act)
        self.down23 = Resample("down", 2 / ratio, 2 * width, 3 * width, act)
        self.trans_enc1 = transfer(2 * width, width, act)
        self.trans_enc3 = transfer(2 * width, 3 * width, act)
        self.trans_dec1 = transfer(2 * width, width, act)
        self.trans_dec3 = transfer(2 * width, 3 * width, act)

    def forward(self, x: Tensor, first: tuple[Tensor, Tensor], third: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """(B, width, H, W), (H1, L1), (H3, L3) -> one map a scale, of width, 2 width and 3 width channels."""
        e1 = self.encoder_level1(x + self.trans_enc1(first[0]) + self.trans_dec1(third[0]))
        e2 = self.encoder_level2(self.down12(e1))
        e3 = self.encoder_level3(self.down23(e2) + self.trans_enc3(first[1]) + self.trans_dec3(third[1]))
        return e1, e2, e3


class Decoder(nn.Module):
    """Back from LR to HR."""

    def __init__(self, width: int, ratio: int, act: nn.PReLU) -> None:
        super().__init__()
        self.decoder_level1 = nn.Sequential(ResidualBlock(width, act))
        self.decoder_level2 = nn.Sequential(ResidualBlock(2 * width, act))
        self.decoder_level3 = nn.Sequential(ResidualBlock(3 * width, act))
        self.skip_attn1 = ResidualBlock(width, act)
        self.skip_attn2 = ResidualBlock(2 * width, act)
        self.up21 = Resample("up", 2, 2 * width, width, act)
        self.up32 = Resample("up", ratio / 2, 3 * width, 2 * width, act)

    def forward(self, e1: Tensor, e2: Tensor, e3: Tensor) -> Tensor:
        """Maps of :class:`Encoder` -> (B, width, H, W)."""
        d3 = self.decoder_level3(e3)
        d2 = self.decoder_level2(self.up32(d3) + self.skip_attn2(e2))
        return self.decoder_level1(self.up21(d2) + self.skip_attn1(e1))


# ---- the network


class PSDNet(nn.Module):
    """Student or teacher of the release, in [0, 1]."""

    unused = ("trans_enc2.", "trans_enc3.", "trans_dec2.", "trans_dec3.")  # built but never run

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int) -> None:
        super().__init__()
        self.sizes = bands, msi_bands, ratio, width
        self.ratio = ratio
        act = nn.PReLU()  # the one that the whole network shares

        def body(inputs: int) -> nn.Sequential:
            return nn.Sequential(conv(inputs, width), act, conv(width, width), act)

        def shallow() -> nn.Sequential:
            return nn.Sequential(conv(2 * width, width), act, CAB(width, act), SAB(width))

        def late(scale: int) -> nn.Sequential:  # of the top level, where only those of scale 1 are run
            return nn.Sequential(nn.Upsample(scale_factor=scale), *transfer(scale * width, width, act))

        self.body1_1 = nn.Sequential(DeconvBlock(bands, width, ratio, ratio, 0, bias=False), act,
                                     conv(width, width), act)
        self.body2_1 = self.body3_1 = body(bands)
        self.body1_2 = self.body2_2 = self.body3_2 = body(msi_bands)
        self.shallow_feat1, self.shallow_feat2, self.shallow_feat3 = shallow(), shallow(), shallow()
        self.stage1_encoder = Encoder(width, ratio, act)
        self.stage1_decoder = Decoder(width, ratio, act)
        for stage in (1, 2, 3):
            setattr(self, f"conv{stage}_1", nn.Sequential(conv(width, width), act))
            setattr(self, f"conv{stage}_2", nn.Sequential(conv(width, bands), nn.Tanh()))
        self.block1, self.block2, self.block3 = ORB(width, act), ORB(width, act), ORB(width, act)
        self.trans_enc1, self.trans_enc2, self.trans_enc3 = transfer(width, width, act), late(2), late(3)
        self.trans_dec1, self.trans_dec2, self.trans_dec3 = transfer(width, width, act), late(2), late(3)
        self.DBPNnet = DBPN(width, ratio)

    def stages(self, lr_hsi: Tensor, hr_msi: Tensor, target: Tensor | None = None) -> dict[str, Tensor]:
        """All that teacher and student are compared by.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W).
            target: (B, bands, H, W), the reference, for the teacher; None for the student.

        Returns:
            ``img1``, ``img2``, ``img3`` (B, bands, H, W) and ``feat1``, ``feat2`` (B, width, H, W).
        """
        size, ratio = hr_msi.shape[2:], self.ratio
        below, right = (max(side + side % 2, OVERLAP) - side for side in lr_hsi.shape[2:])

        def grow(image: Tensor, scale: int) -> Tensor:
            return F.pad(image, (0, right * scale, 0, below * scale), mode="replicate")

        lr_hsi, hr_msi = grow(lr_hsi, 1), grow(hr_msi, ratio)
        target = None if target is None else grow(target, ratio)
        up_hsi = F.interpolate(lr_hsi, scale_factor=ratio, mode="bicubic")  # (B, bands, H, W)
        overlap = OVERLAP * ratio

        lr_halves, msi_halves = split(lr_hsi, ROWS, OVERLAP), split(hr_msi, ROWS, overlap)
        a = self.body1_1(split(lr_halves, COLUMNS, OVERLAP))  # (4 B, width, H', W')
        b = self.body1_2(split(msi_halves, COLUMNS, overlap))
        x, first, third = self.DBPNnet(self.shallow_feat1(torch.cat((a, b), 1)))  # halves
        halves = self.conv1_2(self.conv1_1(x)) + F.interpolate(lr_halves, scale_factor=ratio, mode="bicubic")  # type: ignore[operator]
        img1 = blend(halves, ROWS, overlap)

        a = self.body2_1(halves if target is None else split(target, ROWS, overlap))  # (2 B, width, H', W)
        x = self.shallow_feat2(torch.cat((a, self.body2_2(msi_halves)), 1))
        scales = self.stage1_encoder(x, first, third)
        e1, e2, e3 = (blend(e, ROWS, rows) for e, rows in zip(scales, (overlap, overlap // 2, OVERLAP)))
        feat1 = self.stage1_decoder(e1, e2, e3)
        img2 = self.conv2_2(self.conv2_1(feat1)) + up_hsi  # type: ignore[operator]

        x = self.shallow_feat3(torch.cat((self.body3_1(img2), self.body3_2(hr_msi)), 1))
        feat2 = self.block3(self.block2(self.block1(x + self.trans_enc1(e1) + self.trans_dec1(feat1))))
        img3 = self.conv3_2(self.conv3_1(feat2)) + up_hsi  # type: ignore[operator]
        maps = {"img1": img1, "img2": img2, "img3": img3, "feat1": feat1, "feat2": feat2}
        return {name: image[..., : size[0], : size[1]] for name, image in maps.items()}

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W): the student's image of the last stage."""
        return self.stages(lr_hsi, hr_msi)["img3"]


# ---- training: the teacher alone, then the student under it


class Distillation(Task):
    """The student (``recipe.trains``) and its teacher, of the same layout and no part of the student's state dict.

    ``"TrainTeacher"``: the teacher's parameters, by its three images. The student stays as it is.
    ``"TrainStudent"``: the student, by its three images and the frozen teacher's two feature maps.
    """

    def __init__(self, models: dict[str, nn.Module], recipe: Recipe) -> None:
        super().__init__(models, recipe)
        student = self.network()
        self.teacher = PSDNet(*student.sizes).to(next(student.parameters()).device)

    def begin(self, recipe: Recipe) -> None:
        """The teacher is frozen but in its own stage."""
        super().begin(recipe)
        self.teacher.requires_grad_(recipe.stage == "TrainTeacher")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The teacher's parameters alone, then the student's, both under the name of the method."""
        trained = self.teacher if self.recipe.stage == "TrainTeacher" else self.network()
        return [{"params": list(trained.parameters()), "name": self.names[0]}]

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms: L1 of the images and, for the student, squared distances of the feature maps."""
        lr_hsi, hr_msi, reference = self.inputs(batch, 0)
        name, teaching = self.names[0], self.recipe.stage == "TrainTeacher"
        taught = self.teacher.stages(lr_hsi, hr_msi, reference)
        stages = taught if teaching else self.network().stages(lr_hsi, hr_msi)
        terms = {f"{name}/{image}": F.l1_loss(stages[image], reference) for image in ("img1", "img2", "img3")}
        if not teaching:
            terms |= {f"{name}/{feat}": 1e-6 * F.mse_loss(stages[feat], taught[feat]) for feat in ("feat1", "feat2")}
        loss = total(terms.values())
        return terms | {f"{name}/loss": loss, "loss": loss}


# The release's images are whole (264 pixels), 200 epochs in all, of which 9 are the teacher's.
recipe = partial(Recipe, task=Distillation, trains=("psdnet",), optimizer="adam", lr=5e-4, schedule="step:5:0.95", batch=8,
                 crop=256, augment=())


@register(
    "psdnet",
    "supervised",
    paper="Gong et al., PSDNet, TGRS 2023",
    year=2023,
    fidelity="release",
    source="Meiqi-Gong/PSDNet@dda8b2d317037bb925e75e6add3844df4918f1d4",
    count_reason="the published counts sum shared layers once per use, and transposed convolutions once per output pixel",
    recipes={"release": (recipe(stage="TrainTeacher", epochs=9), recipe(stage="TrainStudent", epochs=191))},
    small={"n_feat": 16},
    note="the student; the published counts sum shared layers once per use and are met with 6 MSI bands only",
)
def _build(bands: int, msi_bands: int, ratio: int, n_feat: int = 28) -> PSDNet:
    if ratio % 2:
        raise MethodError(f"psdnet: ratio {ratio}; its encoder halves the image and then goes to the LR grid: "
                          "choose 2, 4 or 8")
    if n_feat < 4:
        raise MethodError(f"psdnet: n_feat {n_feat}; its channel attention reduces by 4: choose at least 4")
    return PSDNet(bands, msi_bands, ratio, n_feat)
