"""What uSDN and u2MDN share: encoders that answer with stick-breaking codes, their entropy, and TensorFlow's Adam.

Qu, Qi, Kwan, CVPR 2018 (aicip/uSDN @ d5ea85a5) and Qu et al., TGRS 2022 (yingutk/u2MDN @ d54d9ac5). Everything works
pixel by pixel and on a batch of images at once: each image has its own parameters, one row of a tensor (B, size), and
the gradient of the summed losses is each image's own. Pixels lie last: (B, channels, N).

The layers in front of the sigmoid are linear with dense skips, without activation. :class:`SkipNetwork` therefore
multiplies them out to one small matrix before it touches a pixel; that is the same function, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.registry import MethodError

EPSILON = 1e-8  # of the entropy, in the sum and in the logarithm
RATE, BETA1, BETA2 = 1e-3, 0.9, 0.999  # Adam's


class SkipNetwork:
    """Linear layers, each of which reads inputs and earlier layers, as one affine map from the inputs to the last of them.

    With f the values of all layers, x the inputs and a 1 below them: f = P x + Q f, where Q is strictly lower
    triangular. So f = (I - Q)^-1 P x, by forward substitution.

    Args:
        inputs: width of each input by name, in the order in which they are stacked.
        layers: for each layer its width and what it reads, in order; every layer has a bias.
        outputs: units at the end of the last layers that are the output.
        device: of the parameters.
    """

    def __init__(self, inputs: Mapping[str, int], layers: Mapping[str, tuple[int, Sequence[str]]],
                 outputs: int, device: torch.device | None = None) -> None:
        self.inputs = sum(inputs.values()) + 1  # the last one is the 1 that carries the bias
        self.units = sum(width for width, _ in layers.values())
        columns, end = {}, 0  # of [P, Q] by name
        for name, width in {**inputs, "bias": 1, **{name: width for name, (width, _) in layers.items()}}.items():
            columns[name], end = range(end, end + width), end + width
        index, self.fans = [], []  # where each parameter stands in [P, Q]; (outputs, inputs) of each layer
        for name, (width, reads) in layers.items():
            taken = [column for source in reads for column in columns[source]]
            rows = [columns[name][i] - self.inputs for i in range(width)]
            index += [row * end + column for row in rows for column in taken]
            index += [row * end + self.inputs - 1 for row in rows]
            self.fans.append((width, len(taken)))
        self.index = torch.tensor(index, device=device)
        self.size, self.outputs = len(index), outputs

    def initial(self, generator: torch.Generator) -> Tensor:
        """Parameters to start from, (size,) on the CPU: of each layer the weights (Glorot uniform), then the bias (0)."""
        parts = []
        for fan_out, fan_in in self.fans:
            weights = torch.rand(fan_out * fan_in, generator=generator) * 2 - 1
            parts += [weights * math.sqrt(6 / (fan_in + fan_out)), torch.zeros(fan_out)]
        return torch.cat(parts)

    def matrix(self, parameters: Tensor) -> Tensor:
        """(B, size) -> (B, outputs, inputs + 1): what the inputs, a 1 below them, are multiplied with."""
        dense = parameters.new_zeros(len(parameters), self.units * (self.inputs + self.units))
        dense = dense.index_copy(1, self.index, parameters).view(len(parameters), self.units, -1)
        direct, hidden = dense.split([self.inputs, self.units], 2)
        values = torch.linalg.solve_triangular(-hidden, direct, upper=False, unitriangular=True)
        return values[:, -self.outputs :]


class StickBreaking(torch.autograd.Function):
    """Codes s of the sticks' logits z and the logit b of beta: with its gradient written out, three times as fast.

    u = sigmoid(z), v_j = u_j^(1 / softplus(b)), s_j = v_j (1 - v_1) ... (1 - v_{j-1}). Nothing is divided by a stick,
    so sticks of length 0 and 1 are harmless.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        """(B, n + 1, N), the last channel is b -> (B, n, N)."""
        tiny = torch.finfo(logits.dtype).tiny
        inverse = 1 / F.softplus(logits[:, -1:]).clamp(min=1e-20)
        u = logits[:, :-1].sigmoid()
        log_v = u.clamp(min=tiny).log_().mul_(inverse)
        v = log_v.exp()
        codes, rest = torch.empty_like(v), torch.ones_like(v[:, 0])
        for j in range(v.shape[1]):
            torch.mul(v[:, j], rest, out=codes[:, j])
            rest -= codes[:, j]
        ctx.save_for_backward(logits, inverse, u, log_v, v, codes)
        return codes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Of what is left after stick j the loss has the derivative r_j = v_j+1 g_j+1 + (1 - v_j+1) r_j+1."""
        logits, inverse, u, log_v, v, codes = ctx.saved_tensors
        (gradient,) = gradients
        gradient = gradient.contiguous()
        of_rest = torch.empty_like(v)
        of_rest[:, -1] = 0
        for j in range(v.shape[1] - 1, 0, -1):
            torch.lerp(of_rest[:, j], gradient[:, j], v[:, j], out=of_rest[:, j - 1])
        of_log_u = of_rest.neg_().add_(gradient).mul_(codes).mul_(inverse)
        result = torch.empty_like(logits)
        torch.addcmul(of_log_u, of_log_u, u, value=-1, out=result[:, :-1])
        of_beta = -of_log_u.mul_(log_v).sum(1, keepdim=True)
        torch.mul(of_beta, logits[:, -1:].sigmoid(), out=result[:, -1:])
        return result


def stick_breaking(logits: Tensor) -> Tensor:
    """Codes of a Dirichlet-like encoder: s >= 0, and the sum over n is at most 1 (there is no remainder stick).

    Args:
        logits: (B, n + 1, N), before the sigmoid (n of u) and the softplus (the last: of beta, shared by all u).

    Returns:
        (B, n, N): s_j = v_j (1 - v_1) ... (1 - v_{j-1}) with v = u^(1 / beta).
    """
    return StickBreaking.apply(logits)


def entropy(codes: Tensor) -> Tensor:
    """The sparsity term: codes (B, n, N) -> (B,), the mean of -p log(p + 1e-8), p the codes normalised to sum 1."""
    p = codes / (codes.sum(1, keepdim=True) + EPSILON)
    return -(p * (p + EPSILON).log()).mean((1, 2))


class Adam:
    """Adam as TensorFlow has it, for one tensor of parameters; elementwise, so images do not meet.

    PyTorch's adds epsilon after the bias correction of the second moment, TensorFlow's before: the first steps of tiny
    gradients differ.
    """

    def __init__(self, parameters: Tensor) -> None:
        self.first, self.second = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.count = 0

    def step(self, gradient: Tensor) -> Tensor:
        """What to subtract from the parameters."""
        self.count += 1
        self.first.lerp_(gradient, 1 - BETA1)
        self.second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        rate = RATE * math.sqrt(1 - BETA2**self.count) / (1 - BETA1**self.count)
        return rate * self.first / (self.second.sqrt() + 1e-8)


def initial_decoder(endmembers: int, bands: int, generator: torch.Generator) -> Tensor:
    """W1 (n, n) and W2 (n, bands), flattened one after the other: normal, deviation 0.1, cut at two deviations."""
    weights = torch.empty(endmembers * (endmembers + bands))
    return torch.nn.init.trunc_normal_(weights, std=0.1, a=-0.2, b=0.2, generator=generator)


def decoder(parameters: Tensor, endmembers: int) -> Tensor:
    """(B, n (n + bands)) as :func:`initial_decoder` orders them -> D = W1 W2, (B, n, bands)."""
    first, second = parameters.split([endmembers**2, parameters.shape[1] - endmembers**2], 1)
    return first.unflatten(1, (endmembers, -1)) @ second.unflatten(1, (endmembers, -1))


def per_image(start: Tensor, like: Tensor) -> Tensor:
    """Each image's own copy of the parameters it starts from: (size,) -> (B, size), a leaf on the images' device."""
    return start.to(like).expand(len(like), -1).clone().requires_grad_()


def gradient_of(losses: Tensor, parameters: Tensor, keep: bool = False) -> Tensor:
    """Of one loss an image (B,), with respect to that image's parameters (B, size); ``keep`` the graph for another loss."""
    return torch.autograd.grad(losses.sum(), parameters, retain_graph=keep)[0]


def with_one(pixels: Tensor) -> Tensor:
    """(B, C, N) -> (B, C + 1, N): a 1 below the inputs carries the bias of a :class:`SkipNetwork`."""
    return torch.cat((pixels, torch.ones_like(pixels[:, :1])), 1)


def pair(lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor]:
    """Both images of each pair of a batch, in float32 and without a graph.

    Raises:
        MethodError: another number of LR-HSIs than of HR-MSIs, which matrix products would broadcast.
    """
    if len(lr_hsi) != len(hr_msi):
        raise MethodError(f"{len(lr_hsi)} LR-HSIs and {len(hr_msi)} HR-MSIs; give one for one")
    return lr_hsi.detach().float(), hr_msi.detach().float()


def known_response(method: str, srf: Tensor | None, bands: int, msi_bands: int) -> Tensor:
    """The spectral response, (msi_bands, bands) float32.

    Raises:
        MethodError: it is missing or has another shape.
    """
    if srf is None:
        raise MethodError(f"method '{method}' needs the spectral response: give srf, ({msi_bands}, {bands})")
    if srf.shape != (msi_bands, bands):
        raise MethodError(f"method '{method}': srf is {tuple(srf.shape)}; give (msi_bands, bands) = ({msi_bands}, {bands})")
    return srf.detach().float()
