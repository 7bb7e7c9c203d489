"""PC-GANs-style: a coarse fused image, then a spatial and a spectral residual, by three GANs that are trained together.

Paper: Y. Xing, S. Yang, S. Wang, Y. Zhang, Y. Zhang, "PC-GANs: Progressive Compensation Generative Adversarial Networks for
Pan-sharpening", arXiv 2207.14451, 2022 (PAN and LR-MS). No code was found, and only the abstract could be read. It says: a
deep multi-scale guided GAN gives a first image; two GANs of reverse architectures refine its spatial and spectral residuals; a
joint loss trains the three at once. The rest is the smallest network of that outline, ours, with an HSI and an MSI:

    x0    = bilinear(Y) + G_0(Y, Z)          scale by scale from LR to HR, at each guided by the MSI averaged to it
    r_spa = G_spa(x0, Z)                     at HR, against the MSI
    r_spe = bilinear(G_spe(mean(x0), Y))     at LR, against the HSI; mean: over the ratio x ratio pixels of an LR pixel
    x     = x0 + r_spa + r_spe

with Y the LR-HSI and Z the HR-MSI. "Reverse" is read as: the same layers from the other end of the pair. Each GAN has a
discriminator, that of x0 by patches of all bands, the spatial one by patches of x projected to as many bands as the MSI has (by
a 1x1 convolution that it learns, since the SRF is not told), the spectral one by spectra of x averaged to LR, pixel by pixel.
They belong to the task, not to the network: parameters and operations are those of the generators.

**The game in one step.** Both sides are updated by one backward pass of a sum whose terms are detached from the other side: the
generators' term sees the discriminators' parameters as constants, the discriminators' term the generators' images. That is
simultaneous gradient descent on both players' losses (Mescheder, Nowozin, Geiger, NeurIPS 2017), each with its own loss, as the
non-saturating game (Goodfellow et al., NeurIPS 2014) needs and a reversed gradient (Ganin, Lempitsky, ICML 2015) could not
give. Losses are least squares (Mao et al., ICCV 2017), on patches (Isola et al., CVPR 2017):

    generators       L1(x0) + L1(x) + 0.001 sum over GANs of mean (D(fake) - 1)^2
    discriminators   sum over GANs of (mean (D(real) - 1)^2 + mean D(fake)^2) / 2

Left out: the compensation behind other fusion methods, which the abstract proposes as well.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from methods import losses
from methods.blocks import ConvResidual
from methods.registry import MethodError, Recipe, register
from methods.tasks import Task, total

ADVERSARIAL = 1e-3  # of a discriminator's verdict, beside the L1 of an image
JUDGES = 64  # width of the discriminators


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def steps(ratio: int) -> list[int]:
    """Prime factors of a ratio, the smallest first: by how much each scale is finer than the one before."""
    found, factor = [], 2
    while ratio > 1:
        while ratio % factor == 0:
            found.append(factor)
            ratio //= factor
        factor += 1
    return found


class MultiScaleGuided(nn.Module):
    """G_0: features of the HSI grow from LR to HR, joined at every scale with the MSI averaged to it."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int, depth: int) -> None:
        super().__init__()
        self.ratio, self.steps = ratio, [1, *steps(ratio)]
        self.joins = nn.ModuleList(conv((bands if not scale else width) + msi_bands, width) for scale in range(len(self.steps)))
        self.bodies = nn.ModuleList(nn.Sequential(*(ConvResidual(width) for _ in range(depth))) for _ in self.steps)
        self.tail = conv(width, bands)

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> what is added to the interpolated HSI, (B, bands, H, W)."""
        x, coarser = lr_hsi, self.ratio
        for step, join, body in zip(self.steps, self.joins, self.bodies):
            coarser //= step
            x = F.interpolate(x, scale_factor=step, mode="bilinear") if step > 1 else x
            guide = F.avg_pool2d(hr_msi, coarser) if coarser > 1 else hr_msi
            x = body(F.relu(join(torch.cat((x, guide), 1))))  # (B, width, H / coarser, W / coarser)
        return self.tail(x)


class Compensation(nn.Module):
    """G_spa and G_spe: what an image lacks beside an observation of the same size."""

    def __init__(self, bands: int, observed: int, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(bands + observed, width), nn.ReLU(), *(ConvResidual(width) for _ in range(depth)),
                                    conv(width, bands))

    def forward(self, image: Tensor, observation: Tensor) -> Tensor:
        """(B, bands, n, m), (B, observed, n, m) -> residual (B, bands, n, m)."""
        return self.layers(torch.cat((image, observation), 1))


class PCGANs(nn.Module):
    """The three generators."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int, depth: int) -> None:
        super().__init__()
        self.sizes = bands, msi_bands, ratio
        self.ratio = ratio
        self.coarse = MultiScaleGuided(bands, msi_bands, ratio, width, depth)
        self.spatial = Compensation(bands, msi_bands, width, depth)
        self.spectral = Compensation(bands, bands, width, depth)

    def stages(self, lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor]:
        """(B, bands, h, w), (B, msi_bands, H, W) -> x0 and x, both (B, bands, H, W)."""
        coarse = self.up(lr_hsi) + self.coarse(lr_hsi, hr_msi)
        spectral = self.spectral(F.avg_pool2d(coarse, self.ratio), lr_hsi)  # (B, bands, h, w)
        return coarse, coarse + self.spatial(coarse, hr_msi) + self.up(spectral)

    def up(self, image: Tensor) -> Tensor:
        """(B, bands, h, w) -> (B, bands, H, W)."""
        return F.interpolate(image, scale_factor=self.ratio, mode="bilinear")

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W)."""
        return self.stages(lr_hsi, hr_msi)[1]


def patches(inputs: int) -> list[nn.Module]:
    """Layers that judge patches of 18 x 18 pixels, every fourth one."""
    return [nn.Conv2d(inputs, JUDGES, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(JUDGES, 2 * JUDGES, 4, 2, 1), nn.LeakyReLU(0.2),
            conv(2 * JUDGES, 1)]


def discriminators(bands: int, msi_bands: int, ratio: int) -> nn.ModuleDict:
    """Of the three GANs; each takes images (B, bands, H, W) and gives (B, 1, n, m), near 1 where it takes them for real."""
    spectra = [nn.AvgPool2d(ratio), nn.Conv2d(bands, JUDGES, 1), nn.LeakyReLU(0.2), nn.Conv2d(JUDGES, JUDGES, 1),
               nn.LeakyReLU(0.2), nn.Conv2d(JUDGES, 1, 1)]
    return nn.ModuleDict({
        "coarse": nn.Sequential(*patches(bands)),
        "spatial": nn.Sequential(nn.Conv2d(bands, msi_bands, 1, bias=False), *patches(msi_bands)),
        "spectral": nn.Sequential(*spectra),
    })


def fooling(judge: nn.Module, fake: Tensor) -> Tensor:
    """What a generator minimises, mean (D(fake) - 1)^2: has a gradient in the image, none in the discriminator."""
    held = {key: parameter.detach() for key, parameter in judge.named_parameters()}
    return (functional_call(judge, held, (fake,)) - 1).square().mean()


def telling_apart(judge: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
    """What a discriminator minimises: has a gradient in its parameters, none in the images."""
    return ((judge(real.detach()) - 1).square().mean() + judge(fake.detach()).square().mean()) / 2


class CompensationGANs(Task):
    """The joint training; ``<method>/loss`` is the generators' part of the sum, ``<method>/discriminators`` the other."""

    def __init__(self, models: dict[str, nn.Module], recipe: Recipe) -> None:
        super().__init__(models, recipe)
        network = self.network()
        self.judges = discriminators(*network.sizes).to(next(network.parameters()).device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The generators under the name of the method, and the discriminators."""
        return [*super().parameter_groups(), {"params": list(self.judges.parameters()),
                                              "name": f"{self.names[0]}/discriminators"}]

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms."""
        lr_hsi, hr_msi, reference = self.inputs(batch, 0)
        coarse, image = self.network().stages(lr_hsi, hr_msi)
        name, = self.names
        judged = [(self.judges["coarse"], coarse), (self.judges["spatial"], image), (self.judges["spectral"], image)]
        terms = {f"{name}/l1_coarse": losses.l1(coarse, reference), f"{name}/l1": losses.l1(image, reference),
                 f"{name}/adversarial": ADVERSARIAL * total(fooling(judge, fake) for judge, fake in judged)}
        loss = total(terms.values())
        apart = total(telling_apart(judge, fake, reference) for judge, fake in judged)
        return {"loss": loss + apart, f"{name}/loss": loss, f"{name}/discriminators": apart, **terms}


@register(
    "pc-gans",
    "supervised",
    paper="Xing et al., PC-GANs, arXiv 2207.14451, 2022",
    year=2022,
    fidelity="described",
    recipes={"described": Recipe(task=CompensationGANs, trains=("pc-gans",))},
    small={"width": 8, "depth": 1},
    note="PC-GANs-style: three generators after the paper's abstract, all that could be read; layers, discriminators, losses "
         "and training are ours, with an HSI and an MSI in place of MS and PAN",
)
def build(bands: int, msi_bands: int, ratio: int, width: int = 64, depth: int = 4) -> PCGANs:
    """Build it for any whole ``ratio``: ``depth`` residual blocks of ``width`` channels at each scale and in each residual.

    Raises:
        MethodError: one of the two is not positive.
    """
    if width < 1 or depth < 1:
        raise MethodError(f"pc-gans: width {width} and depth {depth}; both must be positive")
    return PCGANs(bands, msi_bands, ratio, width, depth)
