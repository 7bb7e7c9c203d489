"""S3RNet in the image's own subspace: what subspace ridge leaves, learned, between steps of the observation model.

Ours. Unrolling with the observation model: Zhang, van Gool, Timofte, CVPR 2020 (USRNet); fusion in the image's subspace: see
:mod:`methods.subspace_ridge`; the learned part is S3RNet's network (:mod:`methods.s3rnet`).

Y LR-HSI, Z HR-MSI, R srf, B blur and decimation, x0 the anchor (subspace ridge), E principal axes of Y (bands, K), S the
covariance that the anchor expects of its error along them, e = sqrt(diag S). What is sought is the error in its own units:

    x = x0 + E e d,    Y - B x0 = B E e d + noise of variance s2,    Z - R x0 = R E e d + noise of covariance Q.

From d = 0 on, stage by stage,

    v = d + S3RNet_t(components of Y;  components of x0 + E e d, of Z, expected errors, noise levels)
    d = argmin  |E' (Y - B x0) - B e d|^2 / s2 + |Z - R x0 - R E e d|^2 / Q + w_t (d - v)' e S^-1 e (d - v),

the second in closed form. The network sees components in units of their own and no bands, so that one set of weights serves
any number of them, any MSI sensor and ratio. Untrained, it returns the anchor all but unchanged. ``subspace-net`` is the same
with a plain residual network as its learned part, which learns far more in the same time (study ``ablation-subspace``).
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.estimation import ESTIMATORS, ratio_of
from methods.losses import feature_kd
from methods.registry import VARIED, MethodError, Recipe, register
from methods.responses import Told
from methods.s3rnet import GRG, SSAWB
from methods.separable import Blur, conjugate_gradients
from methods.subspace_ridge import SubspaceRidge
from methods.tasks import Task, total

LEARNED = ("s3rnet", "plain")
PLAIN_BLOCKS = 3  # of a stage: about as many multiplications as S3RNet's blocks
ANCHORS = ("subspace-ridge", "bicubic")
LEAST_NOISE = 1e-4  # s2 in parts of S: the model itself is not more exact than that
LEAST_LEVEL = 1e-6  # Q in parts of the power of the MSI
LEAST_ERROR = 1e-3  # e in parts of the deviation of a component
START, PACE = 20.0, 10.0  # w before training; its logarithm in parts of the parameter
EXACT = 1e-6  # in parts of the peak, squared: 60 dB are as good as more
BLIND = "parametric"  # how responses that are not told are estimated
CORRELATION = 0.9  # of S off its diagonal that counts: it is an expectation


class View(NamedTuple):
    """A pair as the network sees it; float32, without gradients.

    Args:
        anchor: x0, (bands, H, W).
        axes: E e, (bands, K); zero beyond the rank of Y.
        start: components of x0 in deviations of each, (1, K, H, W).
        share: e in deviations of each component, (K,).
        low: components of Y, (1, K, h, w).
        high: those that Z alone makes probable, (1, K, H, W).
        levels: logarithms of ``share``, and of the noise levels of both images, (K + 2,).
        low_rest: E' (Y - B x0) / e, (K, h, w).
        msi_rest: e E' R' Q^-1 (Z - R x0), (K, H, W).
        gram: e E' R' Q^-1 R E e, (K, K) float64.
        prior: e S^-1 e, (K, K) float64.
        noise: s2 / e^2, (K,).
        blur: B.
        modes: eigenvectors and eigenvalues of B B' along rows and columns, of its first term.
    """

    anchor: Tensor
    axes: Tensor
    start: Tensor
    share: Tensor
    low: Tensor
    high: Tensor
    levels: Tensor
    low_rest: Tensor
    msi_rest: Tensor
    gram: Tensor
    prior: Tensor
    noise: Tensor
    blur: Blur
    modes: tuple[Tensor, Tensor, Tensor, Tensor]


@torch.no_grad()
def view(y: Tensor, z: Tensor, told: Told | None, components: int, anchor: str, whiten: bool, estimator: str) -> View:
    """Of Y (bands, h, w) and Z (msi_bands, H, W); responses that are not told are estimated."""
    ratio = ratio_of(y, z)
    ridge = SubspaceRidge(told, estimator, components=30, window=5, slope=0.5, tolerance=1e-3, iterations=40)
    seen = ridge.look(y.double(), z.double(), ratio)
    mean, axes, variances, rank, noise = seen.components
    kept = min(components, rank)
    if anchor == "bicubic":
        x0, covariance = F.interpolate(y[None].double(), size=z.shape[1:], mode="bicubic")[0], variances[:kept].diag()
    else:
        x0, covariance = ridge.fused(seen)
    centred = x0 - mean[..., None]
    coefficients = torch.einsum("bk,bxy->kxy", axes[:, :kept], centred)
    deviation = coefficients.square().mean((1, 2)).sqrt().clamp(min=1e-6 * float(variances[0].sqrt()) + 1e-12)
    error = torch.maximum(covariance[:kept, :kept].diagonal().clamp(min=0).sqrt(), LEAST_ERROR * deviation)
    if not whiten:
        error, deviation = (each.square().mean().sqrt().expand(kept) for each in (error, deviation))
    correlation = CORRELATION * covariance[:kept, :kept] / (error[:, None] * error)
    prior = torch.linalg.inv(correlation - correlation.diagonal().diag() + torch.eye(kept).to(error))

    def padded(vector: Tensor, value: float = 0.0) -> Tensor:
        return F.pad(vector, (0, components - kept), value=value)

    def images(components_of: Tensor) -> Tensor:
        return F.pad(components_of, (0, 0, 0, 0, 0, components - kept)).to(y)

    basis = axes[:, :kept]
    innovation = seen.z - torch.einsum("mb,bxy->mxy", seen.srf, centred)
    low_rest = torch.einsum("bk,bxy->kxy", basis / error, seen.low - seen.blur(centred))
    # Where the anchor misses an image by more than its noise, the model does not fit, such as for images that are shifted.
    least = torch.tensor(max(seen.level, LEAST_LEVEL * float(seen.z.square().mean()))).to(innovation)
    part, rest = seen.srf @ (basis * error), seen.srf @ axes[:, kept:]
    # What lies beyond the components is noise to them.
    q = torch.maximum(least, innovation.square().mean((1, 2))).diag() + (rest * variances[kept:]) @ rest.T
    low_noise = torch.maximum((noise / error.square()).clamp(min=LEAST_NOISE), low_rest.square().mean((1, 2)))
    weighted = torch.linalg.solve(q, part)
    whole = seen.srf @ (basis * deviation)
    high = torch.einsum("km,mxy->kxy", whole.T @ torch.linalg.inv(whole @ whole.T + q), seen.z)
    msi_rest = torch.einsum("mk,mxy->kxy", weighted, innovation)
    gram = F.pad(part.T @ weighted, (0, components - kept, 0, components - kept))
    prior = torch.block_diag(prior, torch.eye(components - kept).to(prior))
    rows, columns = seen.blur.rows[0], seen.blur.columns[0]
    row_values, row_modes = torch.linalg.eigh(rows @ rows.T)
    column_values, column_modes = torch.linalg.eigh(columns @ columns.T)
    level = torch.stack([variances.new_tensor(noise) / variances.sum(), seen.level / seen.z.square().mean()])
    level = level.clamp(min=1e-8).log10() / 4 + 1  # in about [-1, 1]
    levels = torch.cat([padded((error / deviation).log10()), level])
    return View(x0.to(y), padded(basis * error).to(y), images(coefficients / deviation[:, None, None])[None],
                padded(error / deviation).to(y), images(torch.einsum("bk,bxy->kxy", basis / deviation, seen.low))[None],
                images(high)[None], levels.to(y),
                images(low_rest), images(msi_rest), gram, prior,
                padded(low_noise, 1.0).to(y), Blur(*(each.to(y) for each in seen.blur)),
                (row_modes.to(y), row_values.clamp(min=0).to(y), column_modes.to(y), column_values.clamp(min=0).to(y)))


def consistent(v: Tensor, weight: Tensor, seen: View) -> Tensor:
    """The d next to v (K, H, W), weighted (K,), that agrees with both images: exact, and differentiable.

    Z acts on each pixel alone: ``P = (w prior + gram)^-1``. Then Y asks for ``d = u + P B' x`` with
    ``(P x B B' + noise) x = Y - B u``, one system of K unknowns at each pair of modes of B along rows and columns.
    """
    root = weight.double().sqrt()
    pull = root[:, None] * seen.prior * root
    p = torch.linalg.inv(pull + seen.gram)
    row_modes, row_values, column_modes, column_values = seen.modes
    passed = (row_values[:, None] * column_values).flatten().double()
    factor, failed = torch.linalg.cholesky_ex(passed[:, None, None] * p + seen.noise.double().diag())
    if failed.any():  # by rounding: this inverse is positive definite for whatever weights
        p = torch.cholesky_inverse(torch.linalg.cholesky(pull + seen.gram))
        factor = torch.linalg.cholesky(passed[:, None, None] * p + seen.noise.double().diag())

    spread, kept = p.to(v), (p @ pull).to(v)
    u = torch.einsum("kj,jxy->kxy", kept, v) + torch.einsum("kj,jxy->kxy", spread, seen.msi_rest)

    def solve(image: Tensor) -> Tensor:
        modes = (row_modes.T @ image @ column_modes).flatten(1).T[..., None].double()
        found = torch.cholesky_solve(modes, factor)[..., 0].to(image)
        return row_modes @ found.T.unflatten(1, image.shape[1:]) @ column_modes.T

    target = seen.low_rest - seen.blur(u)
    if len(seen.blur.rows) == 1:  # a separable PSF: the modes are exact
        x = solve(target)
    else:
        def system(image: Tensor) -> Tensor:
            return torch.einsum("kj,jxy->kxy", spread, seen.blur(seen.blur.adjoint(image))) + seen.noise[:, None, None] * image

        x = conjugate_gradients(system, solve, target, 1e-4, 20)
    return u + torch.einsum("kj,jxy->kxy", spread, seen.blur.adjoint(x))


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
            layer.reset_parameters()  # a tenth of it, as in S3RNet, makes a block an identity that learns ten times slower
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
    """What the ablation sets against S3RNet's blocks: residual blocks of two convolutions, at HR alone."""

    def __init__(self, components: int, width: int, depth: int) -> None:
        super().__init__()
        self.head = Head(3 * components, width, components)
        self.body = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2),
                                                nn.Conv2d(width, width, 3, padding=1)) for _ in range(depth))
        self.last = nn.Conv2d(width, components, 3, padding=1)

    def forward(self, low: Tensor, high: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Stage.forward`."""
        x = self.head(torch.cat((F.interpolate(low, size=high.shape[-2:], mode="bilinear"), high), 1), levels)
        for block in self.body:
            x = x + block(x)
        return self.last(x), x


class S3RNetSubspace(nn.Module):
    """The network, on [0, 1].

    Args:
        told: the sensors' responses; None: estimated from each pair.
        components: K.
        stages: how often the network and the observation model take turns.
        width: channels of a stage.
        learned: one of :data:`LEARNED`.
        anchor: one of :data:`ANCHORS`.
        whiten: components of unit variance each, not all of them together.
        noise_aware: the network sees the noise levels.
        student: with less in two of S3RNet's branches (:class:`Stage`).
        estimator: of responses that are not told, one of :data:`methods.estimation.ESTIMATORS`.
    """

    def __init__(self, told: Told | None, components: int, stages: int, width: int, learned: str, anchor: str,
                 whiten: bool, noise_aware: bool, student: bool, estimator: str) -> None:
        super().__init__()
        self.told, self.components, self.anchor, self.whiten, self.estimator = told, components, anchor, whiten, estimator
        self.noise_aware = noise_aware
        self.stages = nn.ModuleList(Stage(components, width, student) if learned == "s3rnet" else
                                    Plain(components, width, PLAIN_BLOCKS) for _ in range(stages))
        # S3RNet's queries and keys, as in its release, reach nothing.
        self.unused = tuple(f"stages.{number}.fusion.{part}_conv." for number in range(stages) for part in ("query", "key")
                            if learned == "s3rnet")
        for stage in self.stages:
            for parameter in stage.last.parameters():  # type: ignore[union-attr]
                nn.init.zeros_(parameter)
        # Logarithms of w, in units in which the step of an optimizer of networks moves them.
        self.weight = nn.Parameter(torch.full((stages, components), math.log(START) / PACE))
        self.weight_by_level = nn.Parameter(torch.zeros(stages, components, 2))

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W).

        Raises:
            MethodError: sizes that do not match.
        """
        return self.forward_with_features(lr_hsi, hr_msi, self.told)[0]

    def forward_with_features(self, lr_hsi: Tensor, hr_msi: Tensor, told: Told | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of a pair seen by the sensors ``told``: the image, the features of the last stage, and the anchor."""
        images, features, anchors = zip(*(self.one(y, z, told) for y, z in zip(lr_hsi, hr_msi, strict=True)))
        return torch.stack(images), torch.cat(features), torch.stack(anchors)

    def network(self, size: tuple[int, int]) -> nn.Module:
        """The learned part, of images of any bands, to be counted: what the observation model does is no layer."""
        return Learned(self.stages, self.components)

    def one(self, y: Tensor, z: Tensor, told: Told | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of one pair (bands, h, w), (msi_bands, H, W)."""
        seen = view(y.float(), z.float(), told, self.components, self.anchor, self.whiten, self.estimator)
        d = torch.zeros_like(seen.start[0])
        for number, stage in enumerate(self.stages):
            now = seen.start + seen.share[:, None, None] * d
            levels = seen.levels if self.noise_aware else torch.zeros_like(seen.levels)
            v, features = stage(seen.low, torch.cat((now, seen.high), 1), levels)
            weight = (PACE * (self.weight[number] + (self.weight_by_level[number] * seen.levels[-2:]).sum(1))).exp()
            d = consistent(d + v[0].contiguous(), weight, seen)
        return seen.anchor + torch.einsum("bk,kxy->bxy", seen.axes, d), features, seen.anchor


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
        terms = self.gained(name, *self.seen(batch, 0)[::2], batch["hr_hsi"])
        terms["loss"] = terms[f"{name}/loss"] = total(terms.values())
        return terms

    def seen(self, batch: dict[str, Tensor], member: int) -> tuple[Tensor, Tensor, Tensor]:
        """Image, features and anchor of the ``member``-th network, told the responses of the batch, all of one sensor."""
        told = Told(batch["psf"][0], batch["srf"][0], int(batch["phase"][0]))
        return self.network(member).forward_with_features(batch["lr_hsi"][:, member], batch["hr_msi"], told)

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


NAMES = "s3rnet-subspace-teacher", "s3rnet-subspace", "subspace-net"
recipe = partial(Recipe, lr=1.5e-3, schedule="cosine:0.02", steps=6000, batch=1, crop=64, clip=1.0, ema=0.998, log_every=200,
                 vary=VARIED)
alone = partial(recipe, task=Corrected)


def _register(name: str, student: bool, own_learned: str, own_width: int) -> None:
    """Register one of :data:`NAMES`."""
    own = (name,)
    constant = {"sensor": ("sensor", "psf", "ratio", "bands"), "noise": ("noise",), "misregistration": ("misregistration",)}
    fixed = {what: tuple(each for each in VARIED if each not in without) for what, without in constant.items()}
    recipes = {"varied": alone(trains=own), **{f"fixed-{what}": alone(trains=own, vary=vary) for what, vary in fixed.items()}}
    if own_learned == "s3rnet":
        recipes["hokd"] = recipe(task=Distilled, trains=NAMES[:2])
    blocks = {"s3rnet": "S3RNet's blocks", "plain": "a residual network"}[own_learned]

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
              stages: int = 3, width: int = own_width, learned: str = own_learned, anchor_of: str = "subspace-ridge",
              whiten: bool = True, noise_aware: bool = True, estimator: str = BLIND) -> S3RNetSubspace:
        for what, value, choices in (("learned", learned, LEARNED), ("anchor_of", anchor_of, ANCHORS),
                                     ("estimator", estimator, tuple(ESTIMATORS))):
            if value not in choices:
                raise MethodError(f"{name}: {what} '{value}'; choices: {', '.join(choices)}")
        if components < 1 or stages < 1 or width < 4 or width % 4:
            raise MethodError(f"{name}: components {components}, stages {stages}: 1 or more; width {width}: a multiple of 4")
        told = None if psf is None or srf is None or phase is None else Told(psf, srf, phase)
        return S3RNetSubspace(told, components, stages, width, learned, anchor_of, whiten, noise_aware, student, estimator)


for _name, _student, _learned, _width in zip(NAMES, (False, True, True), ("s3rnet", "s3rnet", "plain"), (24, 24, 32)):
    _register(_name, _student, _learned, _width)
