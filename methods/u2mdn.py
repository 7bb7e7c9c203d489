"""u2MDN: one encoder of colours for both images, whose codes are to tell much about them; optimised anew for each pair.

Paper: Y. Qu, H. Qi, C. Kwan, N. Yokoya, J. Chanussot, "Unsupervised and Unregistered Hyperspectral Image
Super-Resolution With Mutual Dirichlet-Net", IEEE TGRS 2022. Release: yingutk/u2MDN @
d54d9ac5ad2fba4f7a57b0ad75eddc901613ce0a (TensorFlow 1.13), from a description of which this is written; nothing
recorded to compare with.

Symbols: x a pixel of the LR-HSI X, y of the HR-MSI Y; R the SRF (msi_bands, bands); mu_x, mu_y their means over pixels;
s codes (n of a pixel) from R (x - mu_x) or y - mu_y; D = W1 W2 the decoder (n, bands); T the statistics network, which
sees a colour and a code. Pixels lie last. Both losses are minimised in every iteration, by one Adam each:

    L_x = sum (D^T s_x - (x - mu_x))^2 + 1e-3 V + 0.1 I_x + 0.01 E(s_x)
    L_y = h / H * mean_columns,bands sum_rows (R D^T s_y - (y - mu_y))^2 + 0.1 I_y + 0.01 E(s_y)

Kept from the release: the squared errors weigh as written, so the LR-HSI dominates; rate and weights stay constant;
every iteration takes both gradients at the same parameters; T learns from L_x alone. Its shuffle goes along the first
axis, which is the batch in X and the rows in Y (``mi_shuffle="release"``): the pairs of X stay as they were, I_x falls
to 2 ln 2 with T = 0, and the terms carry hardly any information. ``"pixels"`` shuffles the pixels of both images and
trains T on both. PSF and registration are not used. There is no clipping.

Departures: no stop at an LR-HSI angle of 1e-4, which the release never reaches. T starts as the other layers do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

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

SHUFFLES = ("release", "pixels")
VOLUME, MUTUAL, SPARSITY = 1e-3, 0.1, 0.01


def encoder(msi_bands: int, endmembers: int, hidden: int, device: torch.device | None = None) -> SkipNetwork:
    """Logits of codes and beta from a colour; the branch of beta (d) leaves that of the codes (c) after its second layer."""
    layers = {
        "c1": (hidden, ["t"]),
        "c2": (hidden + 1, ["c1", "t"]),
        "c3": (hidden + 2, ["c2", "c1", "t"]),
        "c4": (hidden + 3, ["c3", "c2", "c1", "t"]),
        "c5": (hidden + 4, ["c4", "c3", "c2", "c1", "t"]),
        "d1": (hidden + 2, ["c2", "c1", "t"]),
        "d2": (hidden + 3, ["d1", "c2", "c1", "t"]),
        "u": (endmembers, ["c5", "c4", "c3", "c2", "c1", "t"]),
        "beta": (1, ["d2", "d1", "c2", "c1", "t"]),
    }
    return SkipNetwork({"t": msi_bands}, layers, endmembers + 1, device)


class U2MDN:
    """Fuses a batch of images at once, each with parameters of its own; values in [0, 1].

    Args:
        srf: (msi_bands, bands).
        endmembers: n, channels of the codes.
        hidden: q, width of the first hidden layer; the others are up to 4 wider.
        iterations: number of them.
        mi_shuffle: ``"release"`` or ``"pixels"``.
        seed: of the initial parameters and of the shuffles, the same for each image.
    """

    card: Method

    def __init__(self, srf: Tensor, endmembers: int, hidden: int, iterations: int, mi_shuffle: str, seed: int) -> None:
        self.srf, self.endmembers, self.hidden = srf, endmembers, hidden
        self.iterations, self.mi_shuffle, self.seed = iterations, mi_shuffle, seed

    @property
    def parts(self) -> list[int]:
        """Number of parameters that an image has: encoder, decoder, statistics network."""
        msi_bands, bands = self.srf.shape
        seen = msi_bands + self.endmembers
        return [encoder(msi_bands, self.endmembers, self.hidden).size, self.endmembers * (self.endmembers + bands),
                seen**2 + 2 * seen]

    @property
    def size(self) -> int:
        """Number of parameters that an image has."""
        return sum(self.parts)

    @torch.enable_grad()
    def __call__(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """Fuse, in float32 inside.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W).

        Returns:
            (B, bands, H, W), dtype of ``lr_hsi``.

        Raises:
            MethodError: batches of unequal length.
        """
        generator = torch.Generator().manual_seed(self.seed)
        fit = Fit(self, *pair(lr_hsi, hr_msi), generator)
        adam_x, adam_y = Adam(fit.parameters), Adam(fit.parameters)
        with counted(self.iterations, "u2MDN") as steps:
            for i in steps:
                loss_x, loss_y = fit.losses(generator)
                report(steps, i, (loss_x + loss_y).mean())
                update = adam_x.step(gradient_of(loss_x, fit.parameters, keep=True))
                update = update + adam_y.step(gradient_of(loss_y, fit.parameters))
                fit.parameters = (fit.parameters.detach() - update).requires_grad_()
        return fit.estimate().unflatten(2, hr_msi.shape[2:]).to(lr_hsi.dtype)


class Fit:
    """The networks of one batch, their inputs and losses.

    Args:
        settings: of the method.
        lr_hsi: (B, bands, h, w) float32.
        hr_msi: (B, msi_bands, H, W) float32.
        generator: on the CPU, of the initial parameters.
    """

    def __init__(self, settings: U2MDN, lr_hsi: Tensor, hr_msi: Tensor, generator: torch.Generator) -> None:
        self.settings, self.parts = settings, settings.parts
        self.srf = settings.srf.to(lr_hsi)
        self.mu_x = lr_hsi.flatten(2).mean(2, keepdim=True)
        self.x = lr_hsi.flatten(2) - self.mu_x
        self.y = hr_msi.flatten(2) - hr_msi.flatten(2).mean(2, keepdim=True)
        self.inputs = [with_one(self.srf @ self.x), with_one(self.y)]  # of the encoder
        self.size = hr_msi.shape[2:]
        self.weight_y = lr_hsi.shape[2] / hr_msi.shape[2]
        self.encoder = encoder(len(self.srf), settings.endmembers, settings.hidden, lr_hsi.device)
        start = [self.encoder.initial(generator), initial_decoder(settings.endmembers, len(self.srf[0]), generator)]
        start.append(initial_statistics(len(self.srf) + settings.endmembers, generator))
        self.parameters = per_image(torch.cat(start), self.x)

    def losses(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """L_x and L_y of each image, (B,) each, where only the terms that T is to learn from reach its parameters."""
        encoder_part, decoder_part, statistics_part = self.parameters.split(self.parts, 1)
        d = decoder(decoder_part, self.settings.endmembers)
        matrix = self.encoder.matrix(encoder_part)
        codes_x, codes_y = (stick_breaking(matrix @ inputs) for inputs in self.inputs)
        pixels = self.settings.mi_shuffle == "pixels"
        order_x = permutation(codes_x.shape[2], generator, self.x.device) if pixels else None
        order_y = permutation(codes_y.shape[2] if pixels else self.size[0], generator, self.x.device)
        if not pixels:  # whole rows change places
            order_y = torch.arange(codes_y.shape[2], device=order_y.device).view(*self.size)[order_y].flatten()
        statistics_y = statistics_part if pixels else statistics_part.detach()

        loss_x = (d.mT @ codes_x - self.x).square().sum((1, 2)) + VOLUME * (d + self.mu_x.mT).abs().sum(2).mean(1)
        loss_x = loss_x + MUTUAL * mutual(*statistics(statistics_part, self.inputs[0][:, :-1], codes_x, order_x))
        fit_y = (self.srf @ d.mT @ codes_y - self.y).square().sum((1, 2)) / (self.size[1] * len(self.srf))
        loss_y = self.weight_y * fit_y + MUTUAL * mutual(*statistics(statistics_y, self.y, codes_y, order_y))
        return loss_x + SPARSITY * entropy(codes_x), loss_y + SPARSITY * entropy(codes_y)

    @torch.no_grad()
    def estimate(self) -> Tensor:
        """The HR-HSI, (B, bands, N)."""
        encoder_part, decoder_part, _ = self.parameters.split(self.parts, 1)
        codes = stick_breaking(self.encoder.matrix(encoder_part) @ self.inputs[1])
        return decoder(decoder_part, self.settings.endmembers).mT @ codes + self.mu_x


def initial_statistics(seen: int, generator: torch.Generator) -> Tensor:
    """Weights (Glorot uniform) and bias (0) of T's first layer, then the weights of its second, flattened."""
    first = (torch.rand(seen * seen, generator=generator) * 2 - 1) * math.sqrt(3 / seen)
    second = (torch.rand(seen, generator=generator) * 2 - 1) * math.sqrt(6 / (seen + 1))
    return torch.cat((first, torch.zeros(seen), second))


def statistics(parameters: Tensor, colours: Tensor, codes: Tensor, order: Tensor | None) -> tuple[Tensor, Tensor]:
    """T of the pairs that belong together, and of each code with the colour of another pixel.

    Both layers are linear, so their product is one vector over colours and codes.

    Args:
        parameters: (B, k (k + 2)), k = msi_bands + n, as :func:`initial_statistics` orders them.
        colours: (B, msi_bands, N).
        codes: (B, n, N).
        order: (N,) which pixel's colour the code of each is paired with; None: its own.

    Returns:
        Twice (B, N), in (0, 1).
    """
    seen = colours.shape[1] + codes.shape[1]
    first, bias, second = parameters.split([seen**2, seen, seen], 1)
    second = second[:, None]
    weights = second @ first.unflatten(1, (seen, seen))  # (B, 1, k)
    of_colour, of_code = weights.split([colours.shape[1], codes.shape[1]], 2)
    colour, code = (of_colour @ colours)[:, 0], (of_code @ codes + second @ bias[:, :, None])[:, 0]
    return (colour + code).sigmoid(), ((colour if order is None else colour[:, order]) + code).sigmoid()


def mutual(joint: Tensor, product: Tensor) -> Tensor:
    """The negated Jensen-Shannon bound of the mutual information: T of pairs and of shuffled ones, (B, N) -> (B,)."""
    return F.softplus(-joint).mean(1) + F.softplus(product).mean(1)


def permutation(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(count,) drawn on the CPU, so that it is the same on every device and for every image of a batch."""
    return torch.randperm(count, generator=generator).to(device)


@register(
    "u2mdn",
    family="unsupervised",
    told="known",
    paper="Qu, Qi, Kwan, Yokoya, Chanussot, Unsupervised and Unregistered Hyperspectral Image Super-Resolution With "
    "Mutual Dirichlet-Net, IEEE TGRS 2022",
    year=2022,
    fidelity="described",
    source="yingutk/u2MDN@d54d9ac5 (TensorFlow, as described)",
    small={"iterations": 3},
    note="Does not use that the images are registered; the release's shuffle leaves its mutual information without effect.",
)
def u2mdn(bands: int, msi_bands: int, srf: Tensor | None = None, endmembers: int = 35, hidden: int = 8,
          iterations: int = 5000, mi_shuffle: str = "release", seed: int = 0) -> U2MDN:
    """Build it; the arguments are those of :class:`U2MDN`, the defaults the release's for remote-sensing images.

    Raises:
        MethodError: no ``srf``, or one of another shape; an unknown ``mi_shuffle``.
    """
    if mi_shuffle not in SHUFFLES:
        raise MethodError(f"method 'u2mdn': mi_shuffle='{mi_shuffle}'; choices: {', '.join(SHUFFLES)}")
    return U2MDN(known_response("u2mdn", srf, bands, msi_bands), endmembers, hidden, iterations, mi_shuffle, seed)
