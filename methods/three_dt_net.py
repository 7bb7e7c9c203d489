"""3DT-Net: an unfolded optimisation whose prior is a Swin Transformer followed by 3-D convolutions.

Paper: Q. Ma, J. Jiang, X. Liu, J. Ma, "Learning a 3D-CNN and Transformer prior for hyperspectral image super-resolution",
Information Fusion 2023.
Release: qingma2016/3DT-Net @ 20cd5163dc7098ed085c68adfba92afefd75c5b2, ``3DT-Net/network_31.py``,
``3DT-Net/network_swinir.py`` (no licence file; written anew from a description, no code taken).

Three stages of the scheme of MoG-DCN with learned operators: U the prior (one for all six passes), R and R' to the MSI and
back, B and B' to LR and back, d and e scalars. A stage takes z = x and ::

    v = z + U(W(z))                                                  W also sees the features of the stages before
    z = (1 - d - d e) z + d R'(MSI - R z) + d (x - e v)              with d, e = delta_0, eta_0
    u = z + U(W'(z))                                                 W' also sees the features of v
    x = (1 - d e) x + d R'(MSI - R x) + d B'(B x - LR) + d e u       with d, e = delta_3, eta_3; the last stage returns u

Notes on the release:

* The release has 31 bands, 3 MSI bands, and ratio 8 with kernels of side 13 for B and B'. Here any bands, MSI bands and ratio;
  the kernel stays 13 at every ratio, our choice (``kernel``). HR sides that are no multiples of 8 are padded by
  replication and cropped after.
* It stores masks of one image size as ``attn_mask`` buffers that its forward never reads; ``load_release`` passes over them.
* Twelve of its fourteen scalars and a PReLU are built and never read: see ``unused``.
* The 3-D convolutions make 64 maps of every band. They run a few bands at a time, the same numbers in a 20th of the memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import crop_to, pad_to_multiple
from methods.registry import MethodError, Recipe, register
from methods.swin import ResidualGroup, SwinBlock, SwinTrunk, conv3
from methods.tasks import Supervised

WINDOW = 8
SCALARS = 7
Z_STEP, X_STEP = 0, 3  # of the scalars, those that are read
PLANES = 8  # bands at a time


class WeightNormed(nn.Module):
    """Parameters of a 3-D convolution whose kernels are directions ``weight_v`` of the lengths ``weight_g``."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        start = nn.Conv3d(inputs, outputs, kernel)
        self.bias = nn.Parameter(start.bias.detach().clone())  # type: ignore[union-attr]
        self.weight_g = nn.Parameter(start.weight.detach().flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1))
        self.weight_v = nn.Parameter(start.weight.detach().clone())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> WeightNormed:
        """Moves as rows: to lay a network out channels last is for images, and refused by tensors of five axes."""
        return super()._apply(lambda tensor: fn(tensor.flatten()).view(tensor.shape), recurse)

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs, bands, rows, columns)."""
        return self.weight_v * (self.weight_g / self.weight_v.flatten(1).norm(dim=1).view_as(self.weight_g))


class Prior(nn.Module):
    """U: (B, inputs, H, W) -> a correction (B, bands, H, W), and the features (B, 2 inputs, H, W) it began with."""

    def __init__(self, bands: int, inputs: int, width: int, depth: int, heads: int, maps: int, drop_path: float) -> None:
        super().__init__()
        rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
        blocks = [SwinBlock(width, WINDOW, heads, 2.0, i % 2 == 1, rate) for i, rate in enumerate(rates)]
        self.head, self.feture = conv3(inputs, 2 * inputs), conv3(2 * inputs, width)  # spelled as in the release
        self.body = SwinTrunk(ResidualGroup(blocks, width), width, WINDOW)
        self.conv3d1, self.conv3d2 = WeightNormed(1, maps, (1, 3, 3)), WeightNormed(maps, 1, (3, 1, 1))
        self.tail = conv3(width, bands)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As the class says."""
        features = self.head(x)
        y = F.relu(self.tail(self.body(self.feture(features))))
        return self.volume(y), features

    def volume(self, y: Tensor) -> Tensor:
        """Both 3-D convolutions of (B, bands, H, W), seen as one map of a volume.

        The first sees one band at a time, the second one pixel of three bands: what each band gives to itself and to both
        neighbours is formed from its maps, and shifted by a band.
        """
        first, second = self.conv3d1.weight[:, :, 0], self.conv3d2.weight[0, :, :, 0, 0].T[:, :, None, None]

        def given(planes: Tensor) -> Tensor:  # (n, 1, H, W) -> (n, 3, H, W)
            return F.conv2d(F.relu(F.conv2d(planes, first, self.conv3d1.bias, padding=1)), second)

        planes = y.reshape(-1, 1, *y.shape[2:]).split(PLANES)
        to_next, to_own, to_previous = torch.cat([given(each) for each in planes]).unflatten(0, y.shape[:2]).unbind(2)
        return (F.pad(to_next[:, :-1], (0, 0, 0, 0, 1, 0)) + to_own + F.pad(to_previous[:, 1:], (0, 0, 0, 0, 0, 1))
                + self.conv3d2.bias)


class ThreeDTNet(nn.Module):
    """The network of the release."""

    unused = (*(f"{name}_{i}" for name in ("delta", "eta") for i in range(SCALARS) if i not in (Z_STEP, X_STEP)),
              "acti.")
    derived = ("attn_mask",)

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int, inner: int, depth: int, heads: int, maps: int,
                 kernel: int, drop_path: float) -> None:
        super().__init__()
        self.ratio = ratio
        for i in range(SCALARS):
            self.register_parameter(f"delta_{i}", nn.Parameter(torch.tensor(0.1)))
            self.register_parameter(f"eta_{i}", nn.Parameter(torch.tensor(0.9)))
        self.acti = nn.PReLU()  # never run
        self.spatial = Prior(bands, inner, width, depth, heads, maps, drop_path)
        self.fe_conv1, self.fe_conv3, self.fe_conv5 = conv3(bands, inner), conv3(3 * inner, inner), conv3(5 * inner, inner)
        self.fe_conv2, self.fe_conv4, self.fe_conv6 = (conv3(3 * inner, inner) for _ in range(3))
        self.conv_downsample = nn.Conv2d(bands, bands, kernel, ratio, kernel // 2)
        self.conv_upsample = nn.ConvTranspose2d(bands, bands, kernel, ratio, kernel // 2, output_padding=ratio - 1)
        self.conv_torgb, self.conv_tohsi = conv3(bands, msi_bands), conv3(msi_bands, bands)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_normal_(layer.weight)

    def to_z(self, z: Tensor, x: Tensor, v: Tensor, hr_msi: Tensor) -> Tensor:
        """The z step: z, x, v (B, bands, H, W), MSI (B, msi_bands, H, W) -> z."""
        d, e = self.get_parameter(f"delta_{Z_STEP}"), self.get_parameter(f"eta_{Z_STEP}")
        return (1 - d - d * e) * z + d * self.conv_tohsi(hr_msi - self.conv_torgb(z)) + d * (x - e * v)

    def to_x(self, x: Tensor, u: Tensor, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """The x step: x, u (B, bands, H, W), HSI (B, bands, h, w), MSI (B, msi_bands, H, W) -> x."""
        d, e = self.get_parameter(f"delta_{X_STEP}"), self.get_parameter(f"eta_{X_STEP}")
        return ((1 - d * e) * x + d * self.conv_tohsi(hr_msi - self.conv_torgb(x))
                + d * self.conv_upsample(self.conv_downsample(x) - lr_hsi) + d * e * u)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W)."""
        size = hr_msi
        lr_hsi, hr_msi = pad_to_multiple(lr_hsi, hr_msi, self.ratio, WINDOW)
        x = F.interpolate(lr_hsi, scale_factor=self.ratio, mode="bicubic", align_corners=False)
        before: list[Tensor] = []  # features of the stages
        for stage in (1, 2, 3):
            z = x
            inputs = self.fe_conv1(z)
            if before:
                inputs = getattr(self, f"fe_conv{2 * stage - 1}")(torch.cat((inputs, *before), 1))
            correction, features = self.spatial(inputs)
            before.append(features)
            z = self.to_z(z, x, correction + z, hr_msi)
            inputs = getattr(self, f"fe_conv{2 * stage}")(torch.cat((self.fe_conv1(z), features), 1))
            u = self.spatial(inputs)[0] + z
            if stage < 3:
                x = self.to_x(x, u, lr_hsi, hr_msi)
        return crop_to(u, size)


@register(
    "3dt-net", "supervised",
    paper="Ma et al., 3DT-Net, Information Fusion 2023",
    year=2023,
    fidelity="release",
    source="qingma2016/3DT-Net@20cd5163dc7098ed085c68adfba92afefd75c5b2",
    # An epoch is 20,000 crops there; the schedule follows the share of the steps.
    recipes={"release": Recipe(task=Supervised, trains=("3dt-net",), schedule="multistep:80:0.5", epochs=100, steps=250_000,
                               batch=8, crop=64)},
    small={"width": 12, "inner": 4, "depth": 2, "heads": 2, "maps": 4, "kernel": 5, "drop_path": 0.0},
    note="for 31 bands, 3 MSI bands and ratio 8 in the release; its 13-wide resampling kernels are kept at every ratio, our "
         "choice, and hold most of the parameters",
)
def build(bands: int, msi_bands: int, ratio: int, width: int = 180, inner: int = 64, depth: int = 6, heads: int = 6,
          maps: int = 64, kernel: int = 13, drop_path: float = 0.1) -> ThreeDTNet:
    """3DT-Net.

    Args:
        bands: of the HSI.
        msi_bands: of the MSI.
        ratio: HR pixels per LR pixel along one side.
        width: channels of the tokens.
        inner: channels that the prior is given.
        depth: Swin blocks.
        heads: of their attention; they divide ``width``.
        maps: of each band in the 3-D convolutions.
        kernel: side of the learned resampling kernels; odd.
        drop_path: share of images whose residual the last block leaves out in training.

    Raises:
        MethodError: an even kernel, or a number of heads that does not divide the width.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise MethodError(f"3dt-net: kernel {kernel}; its resampling is centred on a pixel, choose an odd number")
    if width % heads:
        raise MethodError(f"3dt-net: width {width} for {heads} heads; choose a multiple")
    return ThreeDTNet(bands, msi_bands, ratio, width, inner, depth, heads, maps, kernel, drop_path)
