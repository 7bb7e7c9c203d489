"""uSDN: an encoder of spectra and an encoder of colours with a common decoder, optimised anew for each image pair.

Paper: Y. Qu, H. Qi, C. Kwan, "Unsupervised Sparse Dirichlet-Net for Hyperspectral Image Super-Resolution", CVPR 2018.
Release: aicip/uSDN @ d5ea85a5c48b310297403fd2429f18c0a87593bf (TensorFlow 1.8), from a description of which this is
written; nothing recorded to compare with.

Symbols: x a pixel of the LR-HSI X, y of the HR-MSI Y; R the SRF (msi_bands, bands); mu_x, mu_y their means over pixels;
s codes (n of a pixel); D = W1 W2 the decoder (n, bands). Pixels lie last, so that the spectra are D^T s + mu_x.

    1  HSI encoder and D:   mean_bands sum_pixels (D^T s_x - (x - mu_x))^2 + 1e-4 V + 1e-3 E(s_x)
    2  MSI encoder:         mean (s_y(Y decimated) - s_x)^2
    3  MSI encoder:         mean_bands sum_pixels (R (D^T s_y + mu_x) - y)^2 + 1e-3 E(s_y), every 20th iteration
                            also the angle between the maps of s_y(Y decimated) and s_x

Kept from the release: the rate and the weights stay constant (their decay never reaches the graph); the two fits are
sums over pixels, so their weight grows with the image; the angle of phase 1 is taken between bands, not between spectra;
the decimated Y is a nearest-neighbour zoom that joins the corner pixels, centred with its own mean, and does not
correspond exactly with the LR pixels; n = 12 and q = 3 whatever the number of bands. The PSF is not used.

Departures: phase 1 is bounded. The release ends phase 3 by the errors against the ground truth (``stop="oracle"``);
the default ``"self"`` makes the same test on the HR-MSI. The cosine in the angle stays under 1, where its derivative
is infinite. Phases count their iterations from 1 each. Loss 2 is tested before the step.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from methods.dirichlet import (
    Adam,
    SkipNetwork,
    decoder,
    entropy,
    gradient_of,
    initial_decoder,
    known_response,
    pair,
    per_image,
    stick_breaking,
    with_one,
)
from methods.per_image import iterations as counted
from methods.per_image import report
from methods.registry import Method, MethodError, register

STOPS = ("self", "oracle")
VOLUME, SPARSITY = 1e-4, 1e-3
HSI_ANGLE, HSI_EVERY = 1.5, 50  # phase 1 ends at this band angle, in degrees; tested every so many iterations
CODE_ERROR = 1e-5  # phase 2 ends below it
MSI_EVERY, WORSE = 20, 1.0001  # phase 3: angle step and stopping test; both errors grew by more than this factor
SYNCHRONISE = 50  # iterations between two looks at what is still active: each waits for the GPU


def encoder(bands: int, msi_bands: int, endmembers: int, hidden: int, device: torch.device | None = None) -> SkipNetwork:
    """Logits of codes and beta from a spectrum x and its projection t = R x; of an MSI pixel, ``bands=0``, from t alone.

    The first hidden layer of each branch sees t; the skips of the first branch carry x.
    """
    inputs = {"x": bands, "t": msi_bands} if bands else {"t": msi_bands}
    carried = "x" if bands else "t"
    layers = {
        "a1": (hidden, ["t"]),
        "a2": (hidden, [carried, "a1"]),
        "a3": (hidden, [carried, "a1", "a2"]),
        "a4": (hidden, [carried, "a1", "a2", "a3"]),
        "b1": (hidden, ["t"]),
        "b2": (hidden, ["t", "b1"]),
        "u": (endmembers, [carried, "a1", "a2", "a3", "a4"]),
        "beta": (1, ["b2", "t", "b1"]),
    }
    return SkipNetwork(inputs, layers, endmembers + 1, device)


class USDN:
    """Fuses a batch of images at once, each with parameters of its own; values in [0, 1], clipped to it at the end.

    Args:
        srf: (msi_bands, bands).
        endmembers: n, channels of the codes.
        hidden: q, width of each hidden layer.
        hsi_iterations: most of phase 1.
        init_iterations: most of phase 2.
        iterations: most of phases 1 and 3 together.
        stop: ``"self"`` or ``"oracle"``, which is called with the reference.
        seed: of the initial parameters, the same for each image.
    """

    card: Method
    oracle = False

    def __init__(self, srf: Tensor, endmembers: int, hidden: int, hsi_iterations: int, init_iterations: int,
                 iterations: int, stop: str, seed: int) -> None:
        self.srf, self.endmembers, self.hidden, self.seed = srf, endmembers, hidden, seed
        self.hsi_iterations, self.init_iterations = min(hsi_iterations, iterations), init_iterations
        self.iterations, self.oracle = iterations, stop == "oracle"

    @property
    def size(self) -> int:
        """Number of parameters that an image has."""
        msi_bands, bands = self.srf.shape
        encoders = (encoder(n, msi_bands, self.endmembers, self.hidden).size for n in (bands, 0))
        return sum(encoders) + self.endmembers * (self.endmembers + bands)

    @torch.enable_grad()
    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor, reference: Tensor | None = None) -> Tensor:
        """Fuse, in float32 inside.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W).
            reference: (B, bands, H, W), for ``stop="oracle"`` only.

        Returns:
            (B, bands, H, W) in [0, 1], dtype of ``lr_hsi``.

        Raises:
            MethodError: ``stop="oracle"`` without a reference, or batches of unequal length.
        """
        if self.oracle and reference is None:
            raise MethodError("uSDN with stop='oracle' ends by the errors against the reference: give it, or take 'self'")
        seen = reference.detach().float().flatten(2) if reference is not None and self.oracle else None
        fit = Fit(self, *pair(lr_hsi, hr_msi))
        used = fit.hsi()
        fit.initialise_msi()
        fit.msi(self.iterations - used, seen)
        return fit.estimate().clamp(0, 1).unflatten(2, hr_msi.shape[2:]).to(lr_hsi.dtype)


class Fit:
    """The three phases on one batch, and what they hand to each other.

    Args:
        settings: of the method.
        lr_hsi: (B, bands, h, w) float32.
        hr_msi: (B, msi_bands, H, W) float32.
    """

    def __init__(self, settings: USDN, lr_hsi: Tensor, hr_msi: Tensor) -> None:
        self.settings = settings
        self.x, self.y, self.srf = lr_hsi.flatten(2), hr_msi.flatten(2), settings.srf.to(lr_hsi)
        self.mu_x = self.x.mean(2, keepdim=True)
        centred = self.x - self.mu_x
        self.hsi_inputs = with_one(torch.cat((centred, self.srf @ centred), 1))
        self.msi_inputs = with_one(self.y - self.y.mean(2, keepdim=True))
        decimated = zoom(hr_msi, lr_hsi.shape[2:]).flatten(2)
        self.lr_msi_inputs = with_one(decimated - decimated.mean(2, keepdim=True))

        msi_bands, bands = self.srf.shape
        sizes = (settings.endmembers, settings.hidden, lr_hsi.device)
        self.hsi_encoder, self.msi_encoder = encoder(bands, msi_bands, *sizes), encoder(0, msi_bands, *sizes)
        generator = torch.Generator().manual_seed(settings.seed)
        start = [self.hsi_encoder.initial(generator), initial_decoder(settings.endmembers, bands, generator)]
        self.hsi_parameters = per_image(torch.cat(start), self.x)
        self.msi_parameters = per_image(self.msi_encoder.initial(generator), self.x)
        self.decoder = decoder(self.hsi_parameters[:, self.hsi_encoder.size :], settings.endmembers).detach()
        self.codes_x = torch.empty(0)

    def all_active(self) -> Tensor:
        """(B, 1) True."""
        return torch.ones_like(self.x[:, 0, :1], dtype=torch.bool)

    def hsi(self) -> Tensor:
        """Phase 1: the decoder and the codes of the LR-HSI. Returns the iterations used, (B, 1)."""
        n, cut = self.settings.endmembers, self.hsi_encoder.size
        adam, active = Adam(self.hsi_parameters), self.all_active()
        used = torch.full_like(active, self.settings.hsi_iterations, dtype=torch.int64)
        target = self.x - self.mu_x

        def forward() -> tuple[Tensor, Tensor]:
            matrix = self.hsi_encoder.matrix(self.hsi_parameters[:, :cut])
            return stick_breaking(matrix @ self.hsi_inputs), decoder(self.hsi_parameters[:, cut:], n)

        with counted(self.settings.hsi_iterations, "uSDN 1/3, LR-HSI") as steps:
            for i in steps:
                losses = hsi_loss(*forward(), target, self.mu_x)
                report(steps, i, losses.mean())
                update = adam.step(gradient_of(losses, self.hsi_parameters))
                self.hsi_parameters = stepped(self.hsi_parameters, update, active)
                if i % HSI_EVERY == 0:
                    with torch.no_grad():
                        codes, d = forward()
                        reached = active & (band_angle(d.mT @ codes + self.mu_x, self.x)[:, None] <= HSI_ANGLE)
                    used = used.masked_fill(reached, i)
                    active = active & ~reached
                    if not active.any():
                        break
        with torch.no_grad():
            self.codes_x, self.decoder = forward()
        return used

    def initialise_msi(self) -> None:
        """Phase 2: the MSI encoder learns the codes of the LR-HSI from the decimated MSI."""
        adam, active = Adam(self.msi_parameters), self.all_active()
        with counted(self.settings.init_iterations, "uSDN 2/3, codes") as steps:
            for i in steps:
                losses = (self.msi_codes(self.lr_msi_inputs) - self.codes_x).square().mean((1, 2))
                report(steps, i, losses.mean())
                active = active & (losses.detach()[:, None] >= CODE_ERROR)
                if i % SYNCHRONISE == 0 and not active.any():
                    break
                update = adam.step(gradient_of(losses, self.msi_parameters))
                self.msi_parameters = stepped(self.msi_parameters, update, active)

    def msi(self, limit: Tensor, reference: Tensor | None) -> None:
        """Phase 3: the MSI encoder on the HR-MSI, for ``limit`` (B, 1) iterations or until the stopping rule's end.

        The rule looks at the HR-HSI if there is a reference (B, bands, N), at the HR-MSI if not.
        """
        adam, angle_adam, active = Adam(self.msi_parameters), Adam(self.msi_parameters), limit > 0
        mixed = self.srf @ self.decoder.mT  # (B, msi_bands, n): R D^T
        target = self.y - self.srf @ self.mu_x
        previous = self.x.new_full((2, len(self.x)), 50.0)
        with counted(int(limit.max()), "uSDN 3/3, HR-MSI") as steps:
            for i in steps:
                losses = msi_loss(self.msi_codes(self.msi_inputs), mixed, target)
                report(steps, i, losses.mean())
                update = adam.step(gradient_of(losses, self.msi_parameters))
                self.msi_parameters = stepped(self.msi_parameters, update, active)
                if i % MSI_EVERY == 0:
                    losses = map_angle(self.msi_codes(self.lr_msi_inputs), self.codes_x)
                    update = angle_adam.step(gradient_of(losses, self.msi_parameters))
                    self.msi_parameters = stepped(self.msi_parameters, update, active)
                    estimate = self.estimate()
                    errors = torch.stack(
                        errors_of(self.srf @ estimate, self.y) if reference is None else errors_of(estimate, reference)
                    )
                    active = active & ~(errors > WORSE * previous).all(0)[:, None]
                    previous = errors
                    if not active.any():
                        break
                active = active & (i < limit)

    def msi_codes(self, inputs: Tensor) -> Tensor:
        """(B, msi_bands + 1, N) -> (B, n, N)."""
        return stick_breaking(self.msi_encoder.matrix(self.msi_parameters) @ inputs)

    @torch.no_grad()
    def estimate(self) -> Tensor:
        """The HR-HSI, (B, bands, N)."""
        return self.decoder.mT @ self.msi_codes(self.msi_inputs) + self.mu_x


def hsi_loss(codes: Tensor, d: Tensor, target: Tensor, mu_x: Tensor) -> Tensor:
    """L_x of each image: codes (B, n, N), decoder (B, n, bands), X - mu_x (B, bands, N), mu_x (B, bands, 1) -> (B,)."""
    fit = (d.mT @ codes - target).square().sum((1, 2)) / target.shape[1]
    return fit + VOLUME * volume(d + mu_x.mT) + SPARSITY * entropy(codes)


def msi_loss(codes: Tensor, mixed: Tensor, target: Tensor) -> Tensor:
    """L_y of each image: codes (B, n, N), R D^T (B, msi_bands, n), Y - R mu_x (B, msi_bands, N) -> (B,)."""
    return (mixed @ codes - target).square().sum((1, 2)) / target.shape[1] + SPARSITY * entropy(codes)


def volume(endmembers: Tensor) -> Tensor:
    """Mean entry of B^T B (bands x bands) for spectra B (B, n, bands) -> (B,), without forming it."""
    return endmembers.sum(2).square().sum(1) / endmembers.shape[2] ** 2


def map_angle(codes: Tensor, goal: Tensor) -> Tensor:
    """Angle between each component's two maps, mean over components, as a part of 3.1416: (B, n, N) twice -> (B,)."""
    cosine = (codes * goal).sum(2) / (codes.norm(dim=2) * goal.norm(dim=2) + 1e-8)
    return cosine.clamp(max=1 - 1e-7).acos().mean(1) / 3.1416


def band_angle(estimate: Tensor, reference: Tensor) -> Tensor:
    """The release's SAM: degrees between the two images of a band, mean over bands; (B, bands, N) twice -> (B,).

    Clipped to [0, 1]. In Kahan's form, which unlike the arccosine keeps small angles in float32.
    """
    u, v = (torch.nn.functional.normalize(image.clamp(0, 1), dim=2, eps=1e-30) for image in (estimate, reference))
    return torch.rad2deg(2 * torch.atan2((u - v).norm(dim=2), (u + v).norm(dim=2))).mean(1)


def errors_of(estimate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """What the stopping rule looks at: band angle in degrees and RMSE of 8-bit values; (B, C, N) twice -> (B,) each."""
    rmse = 255 * (estimate.clamp(0, 1) - reference.clamp(0, 1)).square().mean((1, 2)).sqrt()
    return band_angle(estimate, reference), rmse


def stepped(parameters: Tensor, update: Tensor, active: Tensor) -> Tensor:
    """``parameters - update`` (B, size) where ``active`` (B, 1), a leaf again: an image that has stopped keeps its own."""
    return torch.where(active, parameters.detach() - update, parameters.detach()).requires_grad_()


def zoom(images: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """Nearest neighbour on the grid whose corners are the image's corner pixels: (B, C, H, W) -> (B, C, h, w)."""
    rows, columns = (
        torch.tensor([math.floor(i * (n - 1) / max(m - 1, 1) + 0.5) for i in range(m)], device=images.device)
        for n, m in zip(images.shape[2:], size)
    )
    return images[:, :, rows[:, None], columns]


registered = partial(
    register,
    family="unsupervised",
    told="known",
    paper="Qu, Qi, Kwan, Unsupervised Sparse Dirichlet-Net for Hyperspectral Image Super-Resolution, CVPR 2018",
    year=2018,
    fidelity="described",
    source="aicip/uSDN@d5ea85a5 (TensorFlow, as described)",
    small={"hsi_iterations": 3, "init_iterations": 3, "iterations": 6},
)


@registered("usdn", note="Stops by the reconstruction of the HR-MSI; the release stops by the ground truth.")
def usdn(bands: int, msi_bands: int, srf: Tensor | None = None, endmembers: int = 12, hidden: int = 3,
         hsi_iterations: int = 30_000, init_iterations: int = 15_000, iterations: int = 500_000, stop: str = "self",
         seed: int = 0) -> USDN:
    """Build it; the arguments are those of :class:`USDN`, the defaults the release's.

    Raises:
        MethodError: no ``srf``, or one of another shape; an unknown ``stop``.
    """
    if stop not in STOPS:
        raise MethodError(f"method 'usdn': stop='{stop}'; choices: {', '.join(STOPS)}")
    response = known_response("usdn", srf, bands, msi_bands)
    return USDN(response, endmembers, hidden, hsi_iterations, init_iterations, iterations, stop, seed)


@registered("usdn-oracle", oracle=True,
            note="Stops by the errors against the ground truth, as the release does: no fair competitor.")
def usdn_oracle(bands: int, msi_bands: int, srf: Tensor | None = None, endmembers: int = 12, hidden: int = 3,
                hsi_iterations: int = 30_000, init_iterations: int = 15_000, iterations: int = 500_000,
                stop: str = "oracle", seed: int = 0) -> USDN:
    """Build it as :func:`usdn`, with the release's stopping rule."""
    return usdn(bands, msi_bands, srf, endmembers, hidden, hsi_iterations, init_iterations, iterations, stop, seed)
