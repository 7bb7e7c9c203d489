"""HyperRefiner: a coarse fusion, refined by attention between its features and an autoencoder's code of the LR-HSI.

Paper: "HyperRefiner: a refined hyperspectral pansharpening network based on the autoencoder and self-attention",
International Journal of Digital Earth, 2023.
Release: zsspo/Fusion_HyperRefiner @ c1630bd4c7459586e372965ac7e995f0ec9cae97, ``HyperRefiner/models`` (no licence
file); derived from HyperTransformer's code, whose feature extractor it keeps with 3x3 kernels throughout.

    sr     coarse module: three residual blocks of gates (DAB, RAB) on MSI and up-sampled HSI
    AE     autoencoder of the LR-HSI as a sequence of pixels; its codes e1, e2, e3 answer the attention
    LFE    features f1, f2, f3 of the coarse image stacked on the MSI, at H, H/2 and H/4; they ask

The attention's map holds all HR positions times all code positions. ``lr_size`` bounds it: in evaluation mode
``forward`` cuts larger images into tiles of ``lr_size`` LR pixels a side without overlap. The softmax runs over the HR
positions of a tile, so another tile gives another output. Sides that 8 does not divide are padded by replication and
cropped after.

Departures and quirks of the release:

* Its multi-band path cannot run (unregistered coarse module, exchanged arguments, a dictionary where a tensor is
  expected). This is its panchromatic path with ``msi_bands`` channels, which the multi-band path also means.
* ``decoder=True`` is the release's ``train: true``, a setting rather than the training mode: the decoder exists, and
  its first ReLU, which works in place, also rectifies the e3 that the attention sees. The decoder is trained through
  the reconstruction of the LR-HSI alone, and ``forward`` leaves it out.
* In RAB the spatial gate multiplies the HSI stream and the channel gate the MSI stream: the call exchanges the two
  names of the signature. The residual block around them holds no layers but its sum remains, so DRB returns 2 r.
* The codes are reshaped to images although four consecutive pixels of a row were pooled: positions are scrambled,
  which the attention does not see.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import LFE, crop_to, pad_to_multiple, tiled
from methods.hypertransformer import normalised_l1  # this release's code derives from that one
from methods.registry import Recipe, register
from methods.tasks import Task

COARSE = 64  # width of the coarse module, in the wide variant too
MULTIPLE = 8  # of the LR sides: three poolings by four of h*w pixels


class SA(nn.Module):
    """Spatial gate of one image on another: conv(y) sigmoid(conv(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.Sigmoid())
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Twice (B, width, H, W) -> same."""
        return self.conv(y) * self.attention(x)


class CA(nn.Module):
    """Channel gate of one image on another: y sigmoid(conv1d(average of x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        kernel = int((math.log2(width) + 1) / 2) // 2 * 2 + 1  # made odd, upwards
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Twice (B, width, H, W) -> same."""
        gate = torch.sigmoid(self.conv(x.mean((2, 3))[:, None]))  # (B, 1, width), over the channel axis
        return y * gate[:, 0, :, None, None]


class DAB(nn.Module):
    """Both gates of the stacked streams on themselves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.CA, self.SA = CA(width), SA(width)
        self.aggregate2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        return self.aggregate2(self.SA(x, x) + self.CA(x, x) + x)


class RAB(nn.Module):
    """The gates of what DAB made on the single streams."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.FE = nn.Conv2d(2 * width, width, 1)
        self.CA, self.SA = CA(width), SA(width)
        self.aggregate = nn.Conv2d(3 * width, 2 * width, 1)

    def forward(self, x: Tensor, p: Tensor, l: Tensor) -> Tensor:  # noqa: E741 (the text's name)
        """(B, 2 width, H, W), MSI and HSI stream (B, width, H, W) -> (B, 2 width, H, W)."""
        f = self.FE(x)
        return self.aggregate(torch.cat((self.SA(f, l), self.CA(f, p), f), 1))


class DRB(nn.Module):
    """DAB, then RAB, doubled by a residual sum around no layers."""

    def __init__(self) -> None:
        super().__init__()
        self.DAB, self.RAB = DAB(2 * COARSE), RAB(COARSE)

    def forward(self, p: Tensor, l: Tensor) -> Tensor:  # noqa: E741
        """MSI and HSI stream (B, COARSE, H, W) -> (B, 2 COARSE, H, W)."""
        return 2 * self.RAB(self.DAB(torch.cat((p, l), 1)), p, l)


class CoarseSR(nn.Module):
    """The coarse module (``sr61`` of the release)."""

    def __init__(self, bands: int, msi_bands: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1)

        self.pan, self.lr_feats = conv(msi_bands, COARSE), conv(bands, COARSE)
        self.Features = nn.ModuleList(nn.Sequential(conv(COARSE, COARSE), conv(COARSE, COARSE)) for _ in range(3))
        self.DRB = nn.ModuleList(DRB() for _ in range(3))
        self.conv_tail = conv(2 * COARSE, bands)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W)."""
        up_hsi = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bilinear")
        p, l = self.pan(hr_msi), self.lr_feats(up_hsi)  # noqa: E741
        total = 0
        for features, drb in zip(self.Features, self.DRB):  # the same layers on both streams
            p, l = features(p), features(l)  # noqa: E741
            total = total + drb(p, l)
        return self.conv_tail(total) + up_hsi


class Coder(nn.Module):
    """One half of the autoencoder; the release keeps its layers in one flat sequence called ``module``."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.module = nn.Sequential(*layers)


class Encoder(Coder):
    """Three stages, each a fourth of the length."""

    STAGE = 9  # layers

    def __init__(self, bands: int, widths: tuple[int, ...]) -> None:
        layers = []
        for inputs, width in zip((bands, *widths), widths):
            layers += [nn.Conv1d(inputs, width, 3, padding=1), nn.ReLU(), nn.BatchNorm1d(width), nn.Dropout(0.1),
                       nn.Conv1d(width, width, 3, padding=1), nn.MaxPool1d(4), nn.ReLU(), nn.BatchNorm1d(width),
                       nn.Dropout(0.1)]
        super().__init__(layers)

    def forward(self, lr_hsi: Tensor) -> list[Tensor]:
        """(B, bands, h, w) -> e1, e2, e3, (B, widths[i], h/2, w/2), (..., h/4, w/4), (..., h/8, w/8)."""
        height, width = lr_hsi.shape[2:]
        x, codes = lr_hsi.flatten(2), []  # (B, bands, h*w), row-major
        for level in (1, 2, 3):
            x = self.module[(level - 1) * self.STAGE : level * self.STAGE](x)
            codes.append(x.unflatten(2, (height >> level, width >> level)))
        return codes


class Decoder(Coder):
    """The LR-HSI from e3, of which the first layer, a ReLU, is taken before."""

    def __init__(self, bands: int, widths: tuple[int, ...]) -> None:
        layers = []
        for width, outputs in zip(widths[::-1], (*widths[-2::-1], bands)):
            layers += [nn.ReLU(), nn.BatchNorm1d(width), nn.Dropout(0.1), nn.ConvTranspose1d(width, width, 4, stride=4),
                       nn.ReLU(), nn.BatchNorm1d(width), nn.Dropout(0.1), nn.Conv1d(width, outputs, 3, padding=1)]
        super().__init__(layers)

    def forward(self, code: Tensor) -> Tensor:
        """(B, widths[2], h/8, w/8) -> (B, bands, h, w)."""
        height, width = code.shape[2:]
        return F.softplus(self.module(code.flatten(2))).unflatten(2, (8 * height, 8 * width))


class AE(nn.Module):
    """The autoencoder, or its encoder alone."""

    def __init__(self, bands: int, widths: tuple[int, ...], decoder: bool) -> None:
        super().__init__()
        self.encoder = Encoder(bands, widths)
        self.decoder = Decoder(bands, widths) if decoder else None


class SpectralAttention(nn.Module):
    """HR features ask, the code answers; the softmax runs over the *asking* positions."""

    def __init__(self, width: int) -> None:
        super().__init__()

        def embed() -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())

        self.query, self.key, self.value, self.tail = embed(), embed(), embed(), embed()

    def forward(self, features: Tensor, code: Tensor) -> Tensor:
        """(B, width, H', W'), (B, width, h', w') -> (B, width, H', W')."""
        q, k, v = self.query(features).flatten(2), self.key(code).flatten(2), self.value(code).flatten(2)
        weights = torch.softmax(q.shape[1] ** -0.5 * q.mT @ k, 1)  # (B, H'*W', h'*w')
        return self.tail((v @ weights.mT).view_as(features))


class HyperRefiner(nn.Module):
    """The network of the release, in [0, 1]."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, lr_size: int, width: int, decoder: bool) -> None:
        super().__init__()
        self.ratio, self.lr_size = ratio, lr_size
        self.unused = ("AE.decoder.",) if decoder else ()  # trained, but by the loss on its own output alone
        widths = width, 2 * width, 4 * width

        def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

        self.LFE = LFE(bands + msi_bands, width, kernel=3)
        self.sr = CoarseSR(bands, msi_bands, ratio)
        self.AE = AE(bands, widths, decoder)
        self.spectralattention1, self.spectralattention2, self.spectralattention3 = map(SpectralAttention, widths)
        self.conv_tail1, self.conv_tail2, self.conv_tail3 = (conv(width, width) for width in widths)
        self.conv32, self.conv21 = conv(widths[2], 4 * widths[1]), conv(widths[1], 4 * widths[0])
        self.final = conv(sum(widths), bands, 1)
        self.conv_tailf = conv(bands, bands)

        for layer in self.modules():  # the one-dimensional layers stay at PyTorch's default
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward_with_coarse(self, lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI and coarse image (B, bands, H, W), e3; 8 divides h and w."""
        coarse = self.sr(lr_hsi, hr_msi)
        e1, e2, e3 = self.AE.encoder(lr_hsi)
        if self.AE.decoder is not None:
            e3 = F.relu(e3)  # the decoder's own first layer, in place in the release
        f1, f2, f3 = self.LFE(torch.cat((coarse, hr_msi), 1))  # at H, H/2, H/4

        f3 = f3 + self.spectralattention3(f3, e3)
        f3 = self.conv_tail3(f3) + f3
        f2 = f2 + self.spectralattention2(f2, e2) + F.relu(F.pixel_shuffle(self.conv32(f3), 2))
        f2 = self.conv_tail2(f2) + f2
        f1 = f1 + self.spectralattention1(f1, e1) + F.relu(F.pixel_shuffle(self.conv21(f2), 2))
        f1 = self.conv_tail1(f1) + f1
        levels = F.interpolate(f2, scale_factor=2, mode="bicubic"), F.interpolate(f3, scale_factor=4, mode="bicubic")
        f = self.final(torch.cat((f1, *levels), 1))
        return self.conv_tailf(f) + f + coarse, coarse, e3

    def fuse_piece(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """As :meth:`forward`, in one piece."""
        padded = pad_to_multiple(lr_hsi, hr_msi, self.ratio, MULTIPLE * self.ratio)
        return crop_to(self.forward_with_coarse(*padded)[0], hr_msi)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W), by tiles in evaluation mode."""
        if self.training:
            return self.fuse_piece(lr_hsi, hr_msi)
        tile = self.lr_size * self.ratio
        return tiled(self.fuse_piece, lr_hsi, hr_msi, ratio=self.ratio, tile=tile, whole=False)


class Refinement(Task):
    """Refined, coarse and autoencoder terms, the first two balanced by their own sizes (the release's "dynamic").

    Each of the two is a normalised L1 plus the L1 between fixed random projections to a single band.
    """

    def __init__(self, models: dict[str, nn.Module], recipe: Recipe) -> None:
        super().__init__(models, recipe)
        bands = self.network().conv_tailf.out_channels
        # A 1x1 convolution at PyTorch's initialisation, never trained; its bias cancels. The seed is the release's.
        projection = torch.rand(bands, generator=torch.Generator().manual_seed(7)) * 2 - 1
        self.register_buffer("projection", projection / math.sqrt(bands))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The release's two optimisers as parameter groups: the autoencoder, and the rest as the recipe says."""
        name, network = self.names[0], self.network()
        autoencoder = list(network.AE.parameters())
        ids = {id(parameter) for parameter in autoencoder}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in ids]
        return [
            {"params": autoencoder, "name": f"{name}/autoencoder", "lr": 5e-3, "weight_decay": 0.0,
             "schedule": "step:2000:0.95"},
            {"params": rest, "name": name},
        ]

    def fidelity(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Normalised L1 and L1 of the projections, of (B, bands, H, W) images."""
        projected = torch.einsum("bchw,c->bhw", estimate - reference, self.projection)
        return normalised_l1(estimate, reference) + projected.abs().mean()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms; the crop's LR side must divide by 8."""
        lr_hsi, hr_msi, reference = self.inputs(batch, 0)
        name, network = self.names[0], self.network()
        prediction, coarse, code = network.forward_with_coarse(lr_hsi, hr_msi)
        rec, sr = self.fidelity(prediction, reference), self.fidelity(coarse, reference)
        loss = torch.where(sr > rec, 2 * rec * sr, rec**2 + sr**2) / (rec + sr)  # gradients through the weights
        terms = {f"{name}/refined": rec, f"{name}/coarse": sr}
        if network.AE.decoder is not None:
            terms[f"{name}/autoencoder"] = 0.6 * F.l1_loss(network.AE.decoder(code), lr_hsi)
            loss = loss + terms[f"{name}/autoencoder"]
        return {"loss": loss, f"{name}/loss": loss} | terms


@register(
    "hyper-refiner",
    "supervised",
    paper="HyperRefiner, International Journal of Digital Earth 2023",
    year=2023,
    fidelity="release",
    source="zsspo/Fusion_HyperRefiner@c1630bd4c7459586e372965ac7e995f0ec9cae97",
    count_reason="the published parameters are those of width=128 without decoder; no setting gives the operations",
    recipes={
        # Whole patches (64/256 as on Chikusei). lr, decay and schedule are of all but the autoencoder: see
        # Refinement.parameter_groups. The release's optional warm start of AE and sr is left out.
        "release": Recipe(task=Refinement, trains=("hyper-refiner",), lr=1e-4, weight_decay=1e-4,
                          schedule="step:2000:0.1", epochs=10_000, batch=4, crop=256, augment=(), drop_last=True),
    },
    small={"width": 8},
    note="the published parameters are those of width=128 without its decoder; the released width is 64; no setting "
         "gives the published operations",
)
def build(bands: int, msi_bands: int, ratio: int, lr_size: int = 64, width: int = 64,
          decoder: bool = True) -> HyperRefiner:
    """``lr_size`` is the side of the LR tiles in evaluation, ``width`` that of the finest level."""
    return HyperRefiner(bands, msi_bands, ratio, lr_size, width, decoder)
