"""MoG-DCN: unfolded gradient steps of fusion, with one U-Net as the prior of all of them.

Paper: W. Dong, C. Zhou, F. Wu, J. Wu, G. Shi, X. Li, "Model-Guided Deep Hyperspectral Image Super-Resolution", IEEE TIP 30,
2021.
Release: chengerr/Model-Guided-Deep-Hyperspectral-Image-Super-resolution @ 35eef37dbef797739212cc3b65f747a432a28892,
``sf_8_CAVE/network_31.py`` (no licence stated).

With X the LR-HSI, Y the MSI, learned operators R, R' (spectral) and B, B' (spatial), and U the U-Net with its input added, a
stage takes its image x to

    v = U(x)                                                   also shown the features of earlier stages
    z = (1 - d - d e) x + d R'(Y - R x) + d (x - e v)          d = delta_0, e = eta_0
    u = U(z)                                                   also shown the features of v
    x <- (1 - d e) x + d R'(Y - R x) + d B'(B x - X) + d e u   d = delta_3, e = eta_3

and the last stage ends with its u. The step starts from x, not from z. The signs of the two data terms differ, as in the
release.

Departures and quirks:

* The release is for ratio 8, 31 and 3 bands. Its 13x13 kernels of B and B' are kept at every ratio, as ``kernel`` says: at
  ratio 4 that is a guess, and more than half of all parameters at 172 bands.
* ``P`` (a response matrix), two PReLUs, and all delta and eta but those of 0 and 3 are built and read by nothing: see
  ``unused``.
* The release keeps the parameters with the lowest training loss, here the last ones are kept. Its epochs are open: the
  tests load one of epoch 100,500, of 200,000.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.registry import MethodError, Recipe, register
from methods.tasks import Supervised

STAGES, SCALARS = 4, 7  # SCALARS of each, delta and eta, of which two are read
OF_Z, OF_X = 0, 3  # those of the two steps


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution, Xavier as the release draws it."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
    nn.init.xavier_normal_(layer.weight)
    return layer


class Encoding(nn.Module):
    """Convolutions of ``width`` channels, one slope for all; the map of twice the width, and what goes down from it."""

    def __init__(self, width: int, last: bool) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (conv(width, width) for _ in range(3))
        self.conv4 = conv(width, 2 * width)
        self.conv5 = None if last else conv(2 * width, width, stride=2)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width, H, W) -> map (B, 2 width, H, W), and (B, width, ceil(H/2), ceil(W/2)), or the map where it is the last."""
        for layer in (self.conv1, self.conv2, self.conv3):
            x = self.act(layer(x))
        found = self.conv4(x)
        return found, found if self.conv5 is None else self.act(self.conv5(found))


class Decoding(nn.Module):
    """Up to the size of a map, and on from both."""

    def __init__(self, inputs: int, width: int, last: nn.Conv2d) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, 2 * width, 3, stride=2, padding=1)
        self.conv0 = conv(4 * width, 2 * width)
        self.conv1, self.conv2 = conv(2 * width, 2 * width), conv(2 * width, 2 * width)
        self.conv3 = last
        self.act = nn.PReLU()

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, inputs, ceil(H/2), ceil(W/2)) and (B, 2 width, H, W) -> (B, outputs of ``last``, H, W)."""
        x = torch.cat((self.up(x, output_size=skip.shape[-2:]), skip), 1)
        for layer in (self.conv0, self.conv1, self.conv2):
            x = self.act(layer(x))
        return self.conv3(x)


class UNet(nn.Module):
    """The prior: its image and its features at full size."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()

        def pointwise() -> nn.Conv2d:
            layer = nn.Conv2d(2 * width, 8 * width, 1)
            nn.init.xavier_normal_(layer.weight)
            return layer

        self.Encoding_block1, self.Encoding_block2, self.Encoding_block3, self.Encoding_block4 = (
            Encoding(width, last=False) for _ in range(4))
        self.Encoding_block_end = Encoding(width, last=True)
        self.Decoding_block1 = Decoding(2 * width, width, pointwise())
        self.Decoding_block2, self.Decoding_block3 = (Decoding(8 * width, width, pointwise()) for _ in range(2))
        self.Decoding_block_End = Decoding(8 * width, width, conv(2 * width, bands))
        self.acti = nn.PReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width, H, W) -> (B, bands, H, W) and the first map (B, 2 width, H, W)."""
        maps = []
        for block in (self.Encoding_block1, self.Encoding_block2, self.Encoding_block3, self.Encoding_block4):
            found, x = block(x)
            maps.append(found)
        first = maps[0]
        x, _ = self.Encoding_block_end(x)
        for decode in (self.Decoding_block1, self.Decoding_block2, self.Decoding_block3, self.Decoding_block_End):
            x = decode(x, maps.pop())
        return x, first


class MoGDCN(nn.Module):
    """The network of the release, in [0, 1]; any image size."""

    unused = ("P", "acti.", "spatial.acti.",
              *(f"{name}_{i}" for name in ("delta", "eta") for i in range(SCALARS) if i not in (OF_Z, OF_X)))

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int, kernel: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.P = nn.Parameter(torch.zeros(bands, msi_bands))
        for i in range(SCALARS):
            self.register_parameter(f"delta_{i}", nn.Parameter(torch.tensor(0.1)))
            self.register_parameter(f"eta_{i}", nn.Parameter(torch.tensor(0.9)))
        self.acti = nn.PReLU()
        self.spatial = UNet(bands, width)
        self.fe_conv1 = conv(bands, width)
        self.fe_conv3, self.fe_conv5, self.fe_conv7 = (conv(width + 2 * width * earlier, width) for earlier in (1, 2, 3))
        self.fe_conv2, self.fe_conv4, self.fe_conv6, self.fe_conv8 = (conv(3 * width, width) for _ in range(STAGES))
        self.conv_downsample = nn.Conv2d(bands, bands, kernel, ratio, kernel // 2)
        nn.init.xavier_normal_(self.conv_downsample.weight)
        self.conv_upsample = nn.ConvTranspose2d(bands, bands, kernel, ratio, kernel // 2)
        self.conv_torgb, self.conv_tohsi = conv(bands, msi_bands), conv(msi_bands, bands)

    def prior(self, x: Tensor, entry: str, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(B, bands, H, W) and features of earlier passes -> U of it, and the features of this pass (B, 2 width, H, W)."""
        seen = self.fe_conv1(x)  # (B, width, H, W)
        if features:
            seen = self.get_submodule(entry)(torch.cat((seen, *features), 1))
        image, found = self.spatial(seen)
        return image + x, found

    def spectral(self, x: Tensor, hr_msi: Tensor) -> Tensor:
        """R'(Y - R x): (B, bands, H, W)."""
        return self.conv_tohsi(hr_msi - self.conv_torgb(x))

    def z_step(self, x: Tensor, v: Tensor, hr_msi: Tensor) -> Tensor:
        """A stage's z, of its image and of the prior of that; (B, bands, H, W) each."""
        d, e = self.scalars(OF_Z)
        return (1 - d - d * e) * x + d * self.spectral(x, hr_msi) + d * (x - e * v)

    def x_step(self, x: Tensor, u: Tensor, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """The next stage's image of a stage's image and the prior of z; (B, bands, H, W) each."""
        d, e = self.scalars(OF_X)
        spatial = self.conv_upsample(self.conv_downsample(x) - lr_hsi, output_size=x.shape[-2:])
        return (1 - d * e) * x + d * self.spectral(x, hr_msi) + d * spatial + d * e * u

    def scalars(self, index: int) -> tuple[Tensor, Tensor]:
        """Delta and eta."""
        return getattr(self, f"delta_{index}"), getattr(self, f"eta_{index}")

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W), not clamped."""
        x = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bicubic")
        features: list[Tensor] = []  # of the first pass of each stage
        for stage in range(1, STAGES + 1):
            v, found = self.prior(x, f"fe_conv{2 * stage - 1}", features)
            features.append(found)
            u, _ = self.prior(self.z_step(x, v, hr_msi), f"fe_conv{2 * stage}", [found])
            x = u if stage == STAGES else self.x_step(x, u, lr_hsi, hr_msi)
        return x


@register(
    "mog-dcn",
    "supervised",
    paper="Dong et al., MoG-DCN, TIP 2021",
    year=2021,
    fidelity="release",
    source="chengerr/Model-Guided-Deep-Hyperspectral-Image-Super-resolution@35eef37dbef797739212cc3b65f747a432a28892",
    recipes={
        # One crop an image and epoch. Kept is here the last, in the release the lowest training loss.
        "release": Recipe(task=Supervised, trains=("mog-dcn",), lr=1e-4, weight_decay=1e-8, schedule="constant",
                          epochs=200_000, batch=4, crop=96, augment=(), drop_last=True),
    },
    small={"width": 4, "kernel": 5},
    note="released for ratio 8; its 13x13 kernels are kept at every ratio, which is a guess",
)
def build(bands: int, msi_bands: int, ratio: int, width: int = 64, kernel: int = 13) -> MoGDCN:
    """``width`` is that of the U-Net, ``kernel`` the side of the blur's kernels, in HR pixels.

    Raises:
        MethodError: an even kernel.
    """
    if kernel < 1 or not kernel % 2:
        raise MethodError(f"mog-dcn: kernel {kernel}; choose an odd one, so that it has a middle pixel; the release's is 13")
    return MoGDCN(bands, msi_bands, ratio, width, kernel)
