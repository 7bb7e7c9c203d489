"""CUCaNet: coupled unmixing networks with cross-attention, optimised anew for each image pair without a reference.

Paper: J. Yao, D. Hong, J. Chanussot, D. Meng, X. X. Zhu, Z. Xu, "Cross-Attention in Coupled Unmixing Nets for
Unsupervised Hyperspectral Super-Resolution", ECCV 2020.
Release: danfenghong/ECCV2020_CUCaNet @ cf8a1c2fe73588572e211069f921e1e223b34c11, ``Main_CAVE.py``, ``model/cu_nets.py``,
``model/network.py`` (GPL-3.0; written anew from a description, no code taken).

Symbols: X the LR-HSI, Y the HR-MSI, K endmembers, s the ratio; features l1, m1 and abundances l2, m2 of X and Y; Z the
HR-HSI. Modules and parameters have the names of the release, and so does a state dict. ::

    l1 = G_LR2s_1(X)                                            m1 = G_MSI2S_1(Y)
    l2 = G_LR2s_2(cat[l1, l1 * G_PSF_2(G_mut_spa(m1))])         m2 = G_MSI2S_2(cat[m1, m1 * G_mut_spe(l1)])
    X_rec = G_s2img(l2)      Y_rec = G_ms2img(m2)      Z = G_s2img(m2)
    X_z = G_PSF(Z)           Y_z = G_HR2MSI(Z)         y_x = G_HR2MSI(X)        y_y = G_PSF(Y)

What to know about it:

* It is told which bands each MSI band responds to, not how much, and not the PSF: both are learned. ``G_PSF`` has the
  support of one LR pixel's block, so a wider blur is beyond it.
* A fixed number of iterations is the only stopping rule: the release has neither one that looks at the reference nor a
  blind one. A fifth of them has a constant rate, in the rest it falls to zero; both scale with ``iterations``.
* The sparsity term is kept as released: through its softmax it is smallest where all abundances are EQUAL.
* ``G_mut_spe`` has a kernel of the size of the LR-HSI, so parameters belong to an image size.

Departures: a response whose kernel is clipped away as a whole starts over from a flat one, where the release divides by
zero. The same is computed in less time: an attention that scales the second half of a 1x1 convolution's input scales that
half's weights (or outputs) instead, nothing is concatenated, and the last iteration, whose rate is zero, is a forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.per_image import fuse_each, iterations, report
from methods.registry import Method, MethodError, register

SLOPE = 0.2  # of LeakyReLU
RATE = 5e-3
RATES = {  # of the sub-networks, as parts of RATE
    1.0: ("G_LR2s_1", "G_LR2s_2", "G_s2img", "G_ms2img"),
    0.5: ("G_MSI2S_1", "G_MSI2S_2"),
    0.2: ("G_PSF", "G_PSF_2", "G_mut_spa", "G_mut_spe", "G_HR2MSI"),
}


class Encoder(nn.Module):
    """Convolutions, each with LeakyReLU: ``layers`` are (inputs, outputs, kernel side)."""

    def __init__(self, *layers: tuple[int, int, int]) -> None:
        super().__init__()
        self.net = nn.Sequential()
        for inputs, outputs, side in layers:
            self.net.append(nn.Conv2d(inputs, outputs, side, padding=side // 2))
            self.net.append(nn.LeakyReLU(SLOPE, inplace=True))

    def forward(self, image: Tensor) -> Tensor:
        """(1, C, H, W) -> (1, features, H, W)."""
        return self.net(image)


class Pointwise(nn.Module):
    """The parameters of a 1x1 convolution; :class:`CUCaNet` applies them."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=bias))

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs, 1, 1)."""
        return self.get_parameter("net.0.weight")

    @property
    def bias(self) -> Tensor:
        """(outputs,)."""
        return self.get_parameter("net.0.bias")


class Blur(nn.Module):
    """Blur and decimation: one s x s kernel with stride s for all channels, unconstrained."""

    def __init__(self, ratio: int) -> None:
        super().__init__()
        self.net = nn.Conv2d(1, 1, ratio, stride=ratio, bias=False)
        nn.init.constant_(self.net.weight, 1 / ratio**2)

    def forward(self, image: Tensor) -> Tensor:
        """(1, C, H, W) -> (1, C, h, w)."""
        kernel = self.net.weight[0, 0]
        s = len(kernel)
        return torch.einsum("bchiwj,ij->bchw", image.unflatten(3, (-1, s)).unflatten(2, (-1, s)), kernel)


class Response(nn.Module):
    """Spectral response: one kernel an MSI band, on the bands of its inclusive range, over its sum."""

    def __init__(self, bands: int, ranges: list[tuple[int, int]]) -> None:
        super().__init__()
        self.margins = [(first, bands - 1 - last) for first, last in ranges]
        self.conv2d_list = nn.ModuleList(nn.Conv2d(last + 1 - first, 1, 1, bias=False) for first, last in ranges)
        for kernel in self.kernels:
            nn.init.constant_(kernel, 1 / kernel.numel())

    @property
    def kernels(self) -> list[nn.Parameter]:
        """Of the MSI bands, each (1, bands in its range, 1, 1)."""
        return list(self.conv2d_list.parameters())

    def forward(self, image: Tensor) -> Tensor:
        """(1, bands, H, W) -> (1, msi_bands, H, W) in [0, 1]; no gradient flows through the kernels' sums."""
        rows = [F.pad(kernel / kernel.detach().sum(), (0, 0, 0, 0, *margin))
                for kernel, margin in zip(self.kernels, self.margins)]
        return F.conv2d(image, torch.cat(rows)).clamp(0, 1)

    @torch.no_grad()
    def clip(self) -> None:
        """Kernels into [0, 10], then to sum one."""
        for kernel in self.kernels:
            kernel.clamp_(0, 10)
            total = kernel.sum()
            kernel.copy_(torch.where(total > 0, kernel / total, 1 / kernel.numel()))


class SpatialAttention(nn.Module):
    """A 3x3 convolution to one channel, then softmax over the positions."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.net = nn.Conv2d(features, 1, 3, padding=1)
        nn.init.constant_(self.net.weight, 1 / 9)

    @property
    def pointwise(self) -> Tensor:
        """Its weights as those of a 1x1 convolution to nine channels, (9, features, 1, 1): one a tap."""
        return self.net.weight[0].flatten(1).T[:, :, None, None]

    def forward(self, taps: Tensor) -> Tensor:
        """What :attr:`pointwise` gives, (1, 9, H, W) -> (1, 1, H, W), sums to one."""
        gather = torch.eye(9, dtype=taps.dtype, device=taps.device).view(1, 9, 3, 3)  # each tap from its neighbour
        logits = F.conv2d(taps, gather, self.net.bias, padding=1)
        return logits.flatten(2).softmax(2).view_as(logits)


class SpectralAttention(nn.Module):
    """Each feature's own weighted sum over the LR image, then softmax over the features."""

    def __init__(self, features: int, lr_size: tuple[int, int]) -> None:
        super().__init__()
        self.net = nn.Conv2d(features, features, lr_size, groups=features)
        nn.init.ones_(self.net.weight)

    def forward(self, l1: Tensor) -> Tensor:
        """(1, features, h, w) -> (1, features, 1, 1), sums to one."""
        sums = (l1 * self.net.weight.transpose(0, 1)).sum((2, 3)) + self.get_parameter("net.bias")
        return sums.softmax(1)[:, :, None, None]


class Estimates(NamedTuple):
    """What a forward pass gives; see the module's docstring."""

    x_rec: Tensor
    y_rec: Tensor
    z: Tensor
    x_z: Tensor
    y_z: Tensor
    y_x: Tensor
    y_y: Tensor
    l2: Tensor
    m2: Tensor


class CUCaNet(nn.Module):
    """The network of one image pair.

    Args:
        bands: L, of the LR-HSI.
        ranges: first and last band to which each MSI band responds.
        ratio: s.
        lr_size: (h, w).
        endmembers: K, at least 2.
        width: an eighth of the features of l1 and m1.
    """

    def __init__(
        self, bands: int, ranges: list[tuple[int, int]], ratio: int, lr_size: tuple[int, int], endmembers: int, width: int
    ) -> None:
        super().__init__()
        narrow, middle, features = 2 * width, 4 * width, 8 * width
        self.G_LR2s_1 = Encoder((bands, narrow, 1), (narrow, middle, 1), (middle, features, 1))
        self.G_MSI2S_1 = Encoder((len(ranges), narrow, 5), (narrow, middle, 3), (middle, features, 1))
        self.G_LR2s_2 = Pointwise(2 * features, endmembers, bias=True)
        self.G_MSI2S_2 = Pointwise(2 * features, endmembers, bias=True)
        self.G_s2img = Pointwise(endmembers, bands, bias=False)
        self.G_ms2img = Pointwise(endmembers, len(ranges), bias=False)
        for part in self.children():  # those after them begin with constants
            for layer in part.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight)
        self.G_mut_spa = SpatialAttention(features)
        self.G_mut_spe = SpectralAttention(features, lr_size)
        self.G_PSF_2 = Blur(ratio)
        self.G_PSF = Blur(ratio)
        self.G_HR2MSI = Response(bands, ranges)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, y: Tensor) -> Estimates:
        """X (1, L, h, w) and Y (1, M, H, W), in [0, 1] -> all estimates, Z (1, L, H, W) among them."""
        l1, m1 = self.G_LR2s_1(x), self.G_MSI2S_1(y)  # (1, 8 width, h, w), (1, 8 width, H, W)
        endmembers, bands = len(self.G_MSI2S_2.weight), len(self.G_s2img.weight)
        # m1 is by far the largest tensor here: one pass over it gives the abundances and the taps of the attention.
        plain, attended = self.G_MSI2S_2.weight.chunk(2, 1)
        weights = torch.cat((plain + attended * self.G_mut_spe(l1), self.G_mut_spa.pointwise))
        abundances, taps = F.conv2d(m1, weights, F.pad(self.G_MSI2S_2.bias, (0, 9))).split((endmembers, 9), 1)
        m2 = abundances.clamp(0, 1)
        plain, attended = F.conv2d(l1, torch.cat(self.G_LR2s_2.weight.chunk(2, 1))).chunk(2, 1)
        attention = self.G_PSF_2(self.G_mut_spa(taps))  # (1, 1, h, w)
        l2 = (plain + attended * attention + self.G_LR2s_2.bias[:, None, None]).clamp(0, 1)
        x_rec = F.conv2d(l2, self.G_s2img.weight).clamp(0, 1)
        both = F.conv2d(m2, torch.cat((self.G_s2img.weight, self.G_ms2img.weight))).clamp(0, 1)
        z, y_rec = both[:, :bands], both[:, bands:]
        return Estimates(x_rec, y_rec, z, self.G_PSF(z), self.G_HR2MSI(z), self.G_HR2MSI(x), self.G_PSF(y), l2, m2)

    @torch.no_grad()
    def clip(self) -> None:
        """The constraints, after every update: endmembers in [0, 1], responses non-negative with sum one."""
        self.G_s2img.weight.clamp_(0, 1)
        self.G_ms2img.weight.clamp_(0, 1)
        self.G_HR2MSI.clip()


def loss_terms(x: Tensor, y: Tensor, out: Estimates) -> dict[str, Tensor]:
    """The weighted terms of the loss by name; the distances are sums over all elements."""
    pairs = {"x_rec": (10, x, out.x_rec), "y_rec": (10, y, out.y_rec), "x_z": (10, x, out.x_z), "y_z": (10, y, out.y_z),
             "lr_msi": (10_000, out.y_x, out.y_y)}
    terms = {name: weight * (a - b).abs().sum() for name, (weight, a, b) in pairs.items()}
    for name, abundances in (("l2", out.l2), ("m2", out.m2)):
        terms[f"sum_to_one_{name}"] = 0.01 * (1 - abundances.sum(1)).abs().sum()
        terms[f"sparsity_{name}"] = 0.01 * divergence(abundances)
    return terms


def divergence(abundances: Tensor) -> Tensor:
    """Summed KL divergence of Bernoulli variables 1/K from softmax(abundances): (1, K, H, W) -> scalar.

    Zero for equal abundances: it draws them together, though its purpose is sparsity.
    """
    p = torch.tensor(1 / abundances.shape[1])
    log_q = abundances.log_softmax(1)
    return (p * (p.log() - log_q) + (1 - p) * ((1 - p).log() - (-log_q.exp()).log1p())).sum()


def rate_factor(i: int, total: int) -> float:
    """Of the learning rate in iteration i = 1, ..., ``total``: 1 for the first fifth, then linear to 0 in the last."""
    constant = round(total / 5)
    return 1 - max(0, i + 1 - constant) / (total - constant + 1)


def adam(network: CUCaNet) -> torch.optim.Adam:
    """The optimiser at its full rates: one group for each of :data:`RATES`."""
    groups = [{"params": [p for name in names for p in network.get_submodule(name).parameters()], "lr": RATE * part,
               "part": part} for part, names in RATES.items()]
    return torch.optim.Adam(groups, fused=True)


def update(network: CUCaNet, optimiser: torch.optim.Adam, x: Tensor, y: Tensor, factor: float = 1.0) -> dict[str, Tensor]:
    """One optimisation step at ``factor`` of the full rates, in place; the terms of the loss before it, ``loss`` the sum."""
    for group in optimiser.param_groups:
        group["lr"] = RATE * group["part"] * factor
    terms = loss_terms(x, y, network(x, y))
    terms["loss"] = torch.stack(list(terms.values())).sum()
    optimiser.zero_grad()
    terms["loss"].backward()
    optimiser.step()
    network.clip()
    return terms


@dataclass
class CoupledUnmixing:
    """Builds a :class:`CUCaNet` for each image pair, optimises it and returns its HR-HSI; arguments as :func:`cucanet`'s."""

    card: Method = field(init=False, repr=False)
    bands: int
    ranges: list[tuple[int, int]]
    ratio: int
    iterations: int
    endmembers: int
    width: int
    seed: int

    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Fuse images one after the other: (B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W), in [0, 1].

        Raises:
            MethodError: sizes that do not belong together.
        """
        rows, columns = (n * self.ratio for n in lr_hsi.shape[2:])
        expected = (lr_hsi.shape[0], len(self.ranges), rows, columns)
        if lr_hsi.shape[1] != self.bands or hr_msi.shape != expected:
            raise MethodError(f"cucanet was built for {self.bands} bands, {len(self.ranges)} MSI bands and ratio {self.ratio}; "
                              f"it was given {tuple(lr_hsi.shape)} and {tuple(hr_msi.shape)}")
        return fuse_each(self.optimise, lr_hsi, hr_msi, name="cucanet", seed=self.seed)

    def network(self, lr_size: tuple[int, int]) -> CUCaNet:
        """A new network for an LR-HSI of that many rows and columns."""
        return CUCaNet(self.bands, self.ranges, self.ratio, lr_size, self.endmembers, self.width)

    def optimise(self, x: Tensor, y: Tensor, label: str) -> Tensor:
        """Fuse one image: X (1, L, h, w) and Y (1, M, H, W) -> Z (1, L, H, W)."""
        height, width = x.shape[2:]
        network = self.network((height, width)).to(x.device)
        optimiser = adam(network)
        with iterations(self.iterations, label) as steps:
            for i in steps:
                if i < self.iterations:  # the rate of the last is zero
                    terms = update(network, optimiser, x, y, rate_factor(i, self.iterations))
                    report(steps, i, terms["loss"])
        with torch.no_grad():
            return network(x, y).z


def supports(srf: Tensor | None, bands: int, msi_bands: int) -> list[tuple[int, int]]:
    """First and last band where each row of an SRF (msi_bands, bands) is positive.

    Raises:
        MethodError: no SRF, one of other sizes, or a row without a positive value.
    """
    if srf is None:
        raise MethodError("cucanet needs srf=, (msi_bands, bands): it is told which bands each MSI band responds to")
    if srf.shape != (msi_bands, bands):
        raise MethodError(f"cucanet: srf has the shape {tuple(srf.shape)}; give ({msi_bands}, {bands}): msi_bands, bands")
    positive = [row.nonzero().flatten().tolist() for row in srf > 0]
    empty = [i for i, row in enumerate(positive) if not row]
    if empty:
        raise MethodError(f"cucanet: the rows {empty} of srf have no positive value; drop those MSI bands")
    return [(row[0], row[-1]) for row in positive]


@register(
    "cucanet",
    family="unsupervised",
    told="known",
    paper="Yao et al., Cross-Attention in Coupled Unmixing Nets (CUCaNet), ECCV 2020",
    year=2020,
    fidelity="release",
    source="danfenghong/ECCV2020_CUCaNet@cf8a1c2fe73588572e211069f921e1e223b34c11",
    small={"iterations": 3, "width": 4, "endmembers": 8},
    note="Optimised anew for each image, for a fixed number of iterations; told the support of the SRF, not the PSF.",
)
def cucanet(
    bands: int, msi_bands: int, srf: Tensor | None = None, ratio: int = 4, iterations: int = 10_000, endmembers: int = 128,
    width: int = 64, seed: int = 1
) -> CoupledUnmixing:
    """Build it.

    Args:
        bands: of the HSI.
        msi_bands: of the MSI.
        srf: (msi_bands, bands), of which only the support counts; required.
        ratio: HR pixels per LR pixel along one side.
        iterations: of the optimisation of one image.
        endmembers: K.
        width: an eighth of the features.
        seed: of the initial parameters.

    Raises:
        MethodError: see :func:`supports`; or a number out of range.
    """
    for name, value, least in (("iterations", iterations, 1), ("endmembers", endmembers, 2), ("width", width, 1)):
        if value < least:
            raise MethodError(f"cucanet: {name} is {value}; give at least {least}")
    return CoupledUnmixing(bands, supports(srf, bands, msi_bands), ratio, iterations, endmembers, width, seed)
