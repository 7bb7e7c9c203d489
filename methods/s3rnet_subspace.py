"""S3RNet's blocks, or plain ones, in the image's own subspace: what subspace ridge leaves, learned.

Ours. From a correction d = 0 of the anchor (subspace ridge) on, stage by stage, as in :mod:`methods.data_consistency`,

    v = d + network_t(components of Y;  components of x0 + E e d, of Z, expected errors, noise levels)
    d = argmin  |E' (Y - B x0) - B e d|^2 / s2 + |Z - R x0 - R E e d|^2 / Q + w_t (d - v)' e S^-1 e (d - v),

the second in closed form. The network sees components in units of their own and no bands, so that one set of weights serves
any number of them, any MSI sensor and ratio. Untrained, it returns the anchor all but unchanged. ``s3rnet-subspace`` and its
teacher have S3RNet's blocks (:mod:`methods.s3rnet`), ``subspace-net`` plain residual ones.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.data_consistency import ANCHORS, consistent, view
from methods.estimation import DEFAULT, ESTIMATORS
from methods.losses import feature_kd
from methods.registry import VARIED, MethodError, Recipe, register
from methods.responses import Told
from methods.s3rnet import GRG, SSAWB
from methods.tasks import Task, total

PLAIN_BLOCKS = 3  # of a stage
START, PACE = 20.0, 10.0  # w before training; its logarithm in parts of the parameter
EXACT = 1e-6  # in parts of the peak, squared: 60 dB are as good as more


class Stage(nn.Module):
    """S3RNet's four branches and their fusion, of its own blocks but fewer: groups at LR, where they are cheap.

    Z_h, of the components of Y at LR; Z_m, of those at HR; Z_mh, of both at LR; Z_hm, of both at HR. The student has no block
    in Z_hm, and groups in Z_h.
    """

    def __init__(self, components: int, width: int, student: bool) -> None:
        super().__init__()
        high = 2 * components
        self.h, self.mh = Head(components, width, components), Head(components + high, width, components)
        self.m, self.hm = Head(high, width, components), Head(components + high, width, components)
        self.h_body, self.mh_body = GRG(width, width // 2, width // 2 if student else 1), GRG(width, width // 2)
        self.m_body, self.hm_body = GRG(width, width // 2), nn.Identity() if student else GRG(width, width // 2)
        self.fusion = SSAWB(width, "release")
        for layer in (layer for layer in self.modules() if isinstance(layer, nn.Conv2d)):
            layer.reset_parameters()  # not a tenth of it, as in S3RNet, where every block begins as an identity
        self.last = nn.Conv2d(width, components, 3, padding=1)

    def forward(self, low: Tensor, high: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """(1, K, h, w), (1, 2 K, H, W), (K + 2,) -> (1, K, H, W) and its features (1, width, H, W)."""
        size, ratio = high.shape[-2:], high.shape[-1] // low.shape[-1]
        up = F.interpolate(low, size=size, mode="bilinear")
        z_h = F.interpolate(self.h_body(self.h(low, levels)), size=size)
        z_mh = self.mh_body(self.mh(torch.cat((low, F.avg_pool2d(high, ratio)), 1), levels))
        z_m, z_hm = self.m_body(self.m(high, levels)), self.hm_body(self.hm(torch.cat((up, high), 1), levels))
        features = self.fusion(z_h, z_m, F.interpolate(z_mh, size=size), z_hm)
        return self.last(F.leaky_relu(features, 0.2)), features


class Head(nn.Module):
    """A convolution of images, and a bias that follows from the levels."""

    def __init__(self, channels: int, width: int, components: int) -> None:
        super().__init__()
        self.conv, self.level = nn.Conv2d(channels, width, 3, padding=1), nn.Linear(components + 2, width, bias=False)

    def forward(self, image: Tensor, levels: Tensor) -> Tensor:
        """(1, channels, H, W), (K + 2,) -> (1, width, H, W)."""
        return F.leaky_relu(self.conv(image) + self.level(levels)[:, None, None], 0.2)


class Plain(nn.Module):
    """Residual blocks of two convolutions, at HR alone."""

    def __init__(self, components: int, width: int) -> None:
        super().__init__()
        self.head = Head(3 * components, width, components)
        self.body = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2),
                                                nn.Conv2d(width, width, 3, padding=1)) for _ in range(PLAIN_BLOCKS))
        self.last = nn.Conv2d(width, components, 3, padding=1)

    def forward(self, low: Tensor, high: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Stage.forward`."""
        x = self.head(torch.cat((F.interpolate(low, size=high.shape[-2:], mode="bilinear"), high), 1), levels)
        for block in self.body:
            x = x + block(x)
        return self.last(x), x


class Unrolled(nn.Module):
    """A network, on [0, 1], that takes turns with the observation model.

    Args:
        told: the sensors' responses; None: estimated from each pair.
        components: K.
        stages: networks on components, one a turn, as :meth:`Stage.forward` is called; their ``last`` layer begins at zero.
        anchor: one of :data:`methods.data_consistency.ANCHORS`.
        noise_aware: the networks see the noise levels.
        estimator: of responses that are not told, one of :data:`methods.estimation.ESTIMATORS`.
        unused: prefixes of parameters that reach nothing (:class:`methods.registry.Traits`).
    """

    def __init__(self, told: Told | None, components: int, stages: list[nn.Module], anchor: str, noise_aware: bool,
                 estimator: str, unused: tuple[str, ...]) -> None:
        super().__init__()
        self.told, self.components, self.anchor, self.estimator = told, components, anchor, estimator
        self.noise_aware, self.unused = noise_aware, unused
        self.stages = nn.ModuleList(stages)
        for stage in self.stages:
            for parameter in stage.last.parameters():  # type: ignore[union-attr]
                nn.init.zeros_(parameter)
        # Logarithms of w, in units in which the step of an optimizer of networks moves them.
        self.weight = nn.Parameter(torch.full((len(stages), components), math.log(START) / PACE))
        self.weight_by_level = nn.Parameter(torch.zeros(len(stages), components, 2))

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W).

        Raises:
            MethodError: as :func:`methods.data_consistency.view`.
        """
        return self.corrected(lr_hsi, hr_msi, self.told)[0]

    def corrected(self, lr_hsi: Tensor, hr_msi: Tensor, told: Told | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of pairs seen by the sensors ``told``: the images, the features of the last stage, and the anchors."""
        images, features, anchors = zip(*(self._pair(y, z, told) for y, z in zip(lr_hsi, hr_msi, strict=True)))
        return torch.stack(images), torch.cat(features), torch.stack(anchors)

    def _pair(self, y: Tensor, z: Tensor, told: Told | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of one pair (bands, h, w), (msi_bands, H, W)."""
        seen = view(y.float(), z.float(), told, self.components, self.anchor, self.estimator)
        d = torch.zeros_like(seen.start[0])
        for number, stage in enumerate(self.stages):
            now = seen.start + seen.share[:, None, None] * d
            levels = seen.levels if self.noise_aware else torch.zeros_like(seen.levels)
            v, features = stage(seen.low, torch.cat((now, seen.high), 1), levels)
            weight = (PACE * (self.weight[number] + (self.weight_by_level[number] * seen.levels[-2:]).sum(1))).exp()
            d = consistent(d + v[0].contiguous(), weight, seen)
        return seen.anchor + torch.einsum("bk,kxy->bxy", seen.axes, d), features, seen.anchor

    def network(self, size: tuple[int, int]) -> nn.Module:
        """The learned part, of images of any bands, to be counted: what the observation model does is no layer."""
        return Learned(self.stages, self.components)


class Learned(nn.Module):
    """The stages one after the other, on components of nothing."""

    def __init__(self, stages: nn.ModuleList, components: int) -> None:
        super().__init__()
        self.stages, self.components = stages, components

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(1, bands, h, w), (1, msi_bands, H, W) -> (1, K, H, W)."""
        low = lr_hsi.new_zeros(1, self.components, *lr_hsi.shape[2:])
        high = hr_msi.new_zeros(1, 2 * self.components, *hr_msi.shape[2:])
        found = high[:, : self.components]
        for stage in self.stages:
            found = found + stage(low, high, low.new_zeros(self.components + 2))[0]
        return found


class Corrected(Task):
    """What is gained over the anchor, image by image: logarithms, so that noisy and clean images count alike.

    gain = mean over bands of ln MSE(x) - ln MSE(x0), a PSNR but for its sign and unit; angle = ln (1 - cosine) of x, less that
    of x0. The loss is gain + 0.3 angle.
    """

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms."""
        (name,) = self.names
        image, _, anchor = self.seen(batch, 0)
        terms = self.gained(name, image, anchor, batch["hr_hsi"])
        terms["loss"] = terms[f"{name}/loss"] = total(terms.values())
        return terms

    def seen(self, batch: dict[str, Tensor], member: int) -> tuple[Tensor, Tensor, Tensor]:
        """Image, features and anchor of the ``member``-th network, told the responses of the batch, all of one sensor."""
        told = Told(batch["psf"][0], batch["srf"][0], int(batch["phase"][0]))
        return self.network(member).corrected(batch["lr_hsi"][:, member], batch["hr_msi"], told)

    def gained(self, name: str, image: Tensor, anchor: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """The weighted terms of one network."""
        peak = reference.amax((2, 3)).square().clamp(min=1e-8)

        def error(x: Tensor) -> Tensor:
            return ((x - reference).square().mean((2, 3)) / peak + EXACT).log()

        def angle(x: Tensor) -> Tensor:
            return (1 - F.cosine_similarity(x, reference, dim=1) + 1e-7).mean((1, 2)).log()

        return {f"{name}/gain": (error(image) - error(anchor)).mean(),
                f"{name}/angle": 0.3 * (angle(image) - angle(anchor)).mean()}


class Distilled(Corrected):
    """Hybrid online distillation (:class:`methods.tasks.HOKD`): teacher and student side by side, as S3RNet learns.

    The student's terms of the teacher: 0.1 ln of their mean square difference in parts of that of the anchor, and 0.1 KD of the
    last features.
    """

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms, of the teacher (first of ``recipe.trains``) and the student (second)."""
        teacher, student = self.names
        image, features, anchor = self.seen(batch, 0)
        own, own_features, _ = self.seen(batch, 1)
        terms = self.gained(teacher, image, anchor, batch["hr_hsi"]) | self.gained(student, own, anchor, batch["hr_hsi"])
        apart = (own - image.detach()).square().mean() / (anchor - batch["hr_hsi"]).square().mean().clamp(min=EXACT)
        terms[f"{student}/output"] = 0.1 * (apart + 1e-3).log()
        terms[f"{student}/kd"] = 0.1 * feature_kd(own_features, features.detach())
        for name in self.names:
            terms[f"{name}/loss"] = total(value for key, value in terms.items() if key.startswith(f"{name}/"))
        terms["loss"] = total(terms[f"{name}/loss"] for name in self.names)
        return terms


TEACHER, STUDENT, PLAIN = "s3rnet-subspace-teacher", "s3rnet-subspace", "subspace-net"
recipe = partial(Recipe, lr=1.5e-3, schedule="cosine:0.02", steps=6000, batch=1, crop=64, clip=1.0, ema=0.998, log_every=200,
                 vary=VARIED)
# What an ablation takes away of what is varied, and what goes with it.
CONSTANT = {"sensor": ("sensor", "psf", "ratio", "bands"), "noise": ("noise",), "misregistration": ("misregistration",)}


def _register(name: str, own_width: int) -> None:
    """Register one of the three names."""
    alone = partial(recipe, task=Corrected, trains=(name,))
    recipes = {"varied": alone()} | {f"fixed-{what}": alone(vary=tuple(each for each in VARIED if each not in without))
                                     for what, without in CONSTANT.items()}
    if name != PLAIN:
        recipes["hokd"] = recipe(task=Distilled, trains=(TEACHER, STUDENT))
    blocks = "a residual network" if name == PLAIN else "S3RNet's blocks"

    @register(
        name,
        family="supervised",
        paper=f"this benchmark: {blocks} in the image's subspace, between steps of the observation model",
        year=2026,
        fidelity="described",
        recipes=recipes,
        small={"width": 8, "stages": 1, "components": 4},
        note="Told the responses; one set of weights for any bands, MSI sensor and ratio; corrects subspace-ridge.",
    )
    def build(psf: Tensor | None = None, srf: Tensor | None = None, phase: int | None = None, components: int = 12,
              stages: int = 3, width: int = own_width, anchor_of: str = "subspace-ridge", noise_aware: bool = True,
              estimator: str = DEFAULT) -> Unrolled:
        for what, value, choices in (("anchor_of", anchor_of, ANCHORS), ("estimator", estimator, tuple(ESTIMATORS))):
            if value not in choices:
                raise MethodError(f"{name}: {what} '{value}'; choices: {', '.join(choices)}")
        if components < 1 or stages < 1 or width < 4 or width % 4:
            raise MethodError(f"{name}: components {components}, stages {stages}: 1 or more; width {width}: a multiple of 4")
        told = None if psf is None or srf is None or phase is None else Told(psf, srf, phase)
        learned: list[nn.Module] = [Plain(components, width) if name == PLAIN else Stage(components, width, name == STUDENT)
                                    for _ in range(stages)]
        # S3RNet's queries and keys, as in its release, reach nothing.
        unused = () if name == PLAIN else tuple(
            f"stages.{number}.fusion.{part}_conv." for number in range(stages) for part in ("query", "key"))
        return Unrolled(told, components, learned, anchor_of, noise_aware, estimator, unused)


for _name, _width in ((TEACHER, 24), (STUDENT, 24), (PLAIN, 32)):
    _register(_name, _width)
