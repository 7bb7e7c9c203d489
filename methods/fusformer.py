"""Fusformer: a transformer over the pixels of the up-sampled HSI stacked on the MSI.

Paper: J.-F. Hu, T.-Z. Huang, L.-J. Deng, H.-X. Dou, D. Hong, G. Vivone, "Fusformer: A transformer-based fusion network
for hyperspectral image super-resolution", GRSL 2022.
Release: J-FHu/Fusformer @ b075443ec51b958c6ae0f3cfc01eaf3a15ea7257, ``model.py`` (no licence file).

Every pixel is a token that attends to all others, so cost and memory grow with the square of the pixel count: one pass
over 256x256 pixels needs a 65536 x 65536 map a head. The authors train on 64x64 HR patches and test on 64x64 tiles
without overlap. So does this network: in evaluation mode ``forward`` cuts its inputs into tiles of ``tile`` HR pixels a
side (smaller ones at the right and lower edges where ``tile`` does not divide the image), fuses each on its own,
up-sampling included, and stitches. The tile is part of the method: another one gives another output. In training mode
the crop is one piece.

Quirks of the release, kept:

* The tables of position embeddings are built but never added: dead parameters, listed in ``unused``. The network knows
  no positions; only the up-sampling and the two last convolutions look at neighbours.
* The decoder has no cross-attention: it is an encoder with two attentions a layer.
* The output is clamped inside the network, so no gradient comes from pixels outside [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import PreNorm, Residual, check_tile, tiled
from methods.registry import Recipe, register
from methods.tasks import Supervised

WIDTH, HEADS = 48, 3  # 3 heads of 16
POSITIONS = 4096  # rows of the tables of positions, whatever the image


class Attention(nn.Module):
    """Multi-head self-attention between all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.to_out = nn.Sequential(nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H*W, WIDTH) -> same."""
        query, key, value = self.to_qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # (B, HEADS, H*W, 16)
        # softmax(Q K^T / sqrt(16)) V; on devices with a fused kernel the H*W x H*W map is never held
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(attended.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers; the release's dropouts have rate 0 and keep their places in the key names."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(), nn.Identity(), nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H*W, WIDTH) -> same."""
        return self.net(x)


class Transformer(nn.Module):
    """Two layers of ``attentions`` attentions (encoder 1, decoder 2) and a feed-forward network."""

    def __init__(self, attentions: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, POSITIONS, WIDTH))
        self.layers = nn.ModuleList(
            nn.ModuleList(Residual(PreNorm(WIDTH, fn))
                          for fn in (*(Attention() for _ in range(attentions)), FeedForward()))
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H*W, WIDTH) -> same."""
        for layer in self.layers:
            for step in layer:  # type: ignore[attr-defined]
                x = step(x)
        return x


class Fusformer(nn.Module):
    """The network of the release, in [0, 1]."""

    unused = ("T_E.pos_embedding", "T_D.pos_embedding")  # built by the release, never added

    def __init__(self, bands: int, msi_bands: int, ratio: int, tile: int) -> None:
        super().__init__()
        self.ratio, self.tile = ratio, tile
        self.T_E = Transformer(attentions=1)
        self.T_D = Transformer(attentions=2)
        self.Embedding = nn.Sequential(nn.Linear(bands + msi_bands, WIDTH))
        self.refine = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.LeakyReLU(),
                                    nn.Conv2d(WIDTH, bands, 3, padding=1))

    def upsampled_and_highpass(self, lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor]:
        """(B, bands, h, w), (B, msi_bands, H, W) -> U and R, (B, bands, H, W) each, of one piece."""
        upsampled = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bicubic").clamp(0, 1)  # U
        tokens = self.Embedding(torch.cat((upsampled, hr_msi), 1).flatten(2).mT)  # (B, H*W, WIDTH)
        features = self.T_D(self.T_E(tokens)).mT.unflatten(2, hr_msi.shape[2:])  # (B, WIDTH, H, W)
        return upsampled, self.refine(features)

    def fuse_piece(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """As :meth:`forward`, in one piece."""
        upsampled, highpass = self.upsampled_and_highpass(lr_hsi, hr_msi)
        return (highpass + upsampled).clamp(0, 1)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W), by tiles in evaluation mode."""
        if self.training:
            return self.fuse_piece(lr_hsi, hr_msi)
        return tiled(self.fuse_piece, lr_hsi, hr_msi, ratio=self.ratio, tile=self.tile, whole=False)


@register(
    "fusformer",
    "supervised",
    paper="Hu et al., Fusformer, GRSL 2022",
    year=2022,
    fidelity="release",
    source="J-FHu/Fusformer@b075443ec51b958c6ae0f3cfc01eaf3a15ea7257",
    count_reason="the published figure also counts 4 operations a value of the layer normalisations",
    recipes={
        "release": Recipe(task=Supervised, trains=("fusformer",), lr=1e-3, schedule="step:200:0.1", epochs=1000,
                          batch=3, crop=64, augment=(), drop_last=True),
    },
    note="fuses 64x64 tiles on their own, as its authors do; the published operations leave the attention products out",
)
def build(bands: int, msi_bands: int, ratio: int, tile: int = 64) -> Fusformer:
    """``tile`` is the side in HR pixels of what is fused in one piece."""
    check_tile("fusformer", tile, ratio)
    return Fusformer(bands, msi_bands, ratio, tile)
