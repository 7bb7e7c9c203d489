"""Networks made fast: the same function in less time, for inference and for training.

    network = prepared(network, "exact", device)    # for inference: the same numbers, to rounding
    network = prepared(network, "fast", device)     # reduced precision: its loss is measured, not promised
    network = trainable(network, device)            # for training: the same gradients, to rounding

What is done for inference depends on the device alone, so that a study says one word (``speed``):

    CPU, exact    3x3 convolutions and dense blocks by :mod:`methods.winograd`, everything channels last, S3RNet's fusion on
                  the LR grid where its inputs are
    CPU, fast     convolutions and matrix products in bfloat16, refused where the CPU does not multiply it in hardware
    GPU, exact    channels last
    GPU, fast     channels last, convolutions and matrix products in bfloat16
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from methods import winograd
from methods.registry import MethodError
from methods.s3rnet import DFAB, HEADS, MBFN, SSAWB

SPEEDS = ("exact", "fast")
# Networks that reduced precision spoils: they run and train in full precision all the same. Each as it was measured.
UNSTABLE = {"s2bnet": "its output errs by a tenth in bfloat16"}


def speed_of(model: Any, speed: str) -> str:
    """The speed that a method really has where a study asks for one."""
    return "exact" if not isinstance(model, nn.Module) or str(model.card.name) in UNSTABLE else speed  # type: ignore[union-attr]


def reduced_precision(device: torch.device) -> str:
    """Why reduced precision gains nothing on a device; empty where it does."""
    if device.type == "cpu" and not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "this CPU has no products of bfloat16 (AVX512-BF16 or AMX), which reduced precision needs"
    return ""


def prepared(model: Any, speed: str, device: torch.device) -> Any:
    """A copy of a network for inference on a device; what is no network is returned as it is.

    Args:
        model: as :func:`methods.create` gives it, with the parameters that it is to keep.
        speed: one of :data:`SPEEDS`.
        device: to run on.

    Raises:
        MethodError: another speed, or one that the device does not have.
    """
    if speed not in SPEEDS:
        raise MethodError(f"speed '{speed}'; choices: {', '.join(SPEEDS)}")
    if not isinstance(model, nn.Module):
        return model
    fast = speed_of(model, speed) == "fast"
    if fast and reduced_precision(device):
        raise MethodError(f"speed 'fast': {reduced_precision(device)}; choose exact")
    network = copy.deepcopy(model).to(device).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, MBFN):
            module.__class__ = PackedMBFN
    if device.type == "cpu" and not fast:
        replace_blocks(network, winograd.Workspace())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.forward = partial(run, network.forward, device.type, fast)
    return network


def run(forward: Callable[..., Tensor], device: str, fast: bool, *images: Tensor) -> Tensor:
    """A network's own ``forward`` on images laid out channels last, in the precision asked for; float32 out.

    A function and no closure: a copy of a network, such as its moving average, then runs itself and not the original.
    """
    laid_out = (image.contiguous(memory_format=torch.channels_last) for image in images)
    with torch.autocast(device, torch.bfloat16, enabled=fast):
        return forward(*laid_out).float()


def replace_blocks(module: nn.Module, workspace: winograd.Workspace) -> None:
    """Replace, in place, every layer and block below a module that :mod:`methods.winograd` computes faster."""
    for name, child in module.named_children():
        if isinstance(child, DFAB) and child.conv1.groups == 1 and winograd.fits(child.conv5):
            layers = child.conv1, child.conv2, child.conv3, child.conv4, child.conv5
            setattr(module, name, winograd.PackedDense(layers, slope=0.2, scale=0.2, workspace=workspace))
        elif winograd.fits(child):
            setattr(module, name, winograd.PackedConv(child))  # type: ignore[arg-type]
        else:
            replace_blocks(child, workspace)


class PackedMBFN(MBFN):
    """S3RNet's branches, fused on the grid that each lives on: what is constant in an LR pixel is computed once there."""

    def fused(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """As :meth:`MBFN.fused`; another fusion than the release's SSAWB is left to it."""
        attention = getattr(self, "fuse_att", None)
        if not (isinstance(attention, SSAWB) and attention.form == "release"):
            return super().fused(lr_hsi, hr_msi)
        ratio = self.ratio
        up_hsi = F.interpolate(lr_hsi, scale_factor=ratio, mode="bilinear")
        down_msi = F.interpolate(hr_msi, scale_factor=1 / ratio, mode="bicubic")
        z_hm = F.leaky_relu_(self.hmconv1(torch.cat((up_hsi, hr_msi), 1)), 0.2)  # (B, width, H, W)
        z_hm = self.hmfeat(z_hm) if self.run_hm else z_hm
        z_mh = self.mhfeat(F.leaky_relu_(self.mhconv1(torch.cat((lr_hsi, down_msi), 1)), 0.2))  # (B, width, h, w)
        z_h = self.hfeat(F.leaky_relu_(self.hconv1(lr_hsi), 0.2))  # (B, width, h, w)
        z_m = self.mfeat(F.leaky_relu_(self.mconv1(hr_msi), 0.2))  # (B, width, H, W)

        # The release's attention gives every channel of a head the sum of its values: 4 numbers an LR pixel.
        value, output = attention.value_conv, attention.output_conv
        assert value.bias is not None
        summed = F.conv2d(z_mh, value.weight.unflatten(0, (HEADS, -1)).sum(1), value.bias.view(HEADS, -1).sum(1))
        attended = F.conv2d(summed, output.weight.unflatten(1, (HEADS, -1)).sum(2), output.bias)
        gate = attention.attention_weights
        of_h, of_m, of_mh, of_hm = gate.weight.split(z_m.shape[1], 1)
        coarse = F.conv2d(torch.cat((z_h, z_mh, attended), 1), torch.cat((of_h, of_mh, of_hm), 1), gate.bias)
        fine = F.conv2d(z_m, of_m) + F.conv2d(z_hm, of_hm)
        w_h, w_m, w_mh, w_hm = torch.sigmoid(cells(fine, ratio) + on_cells(coarse)).split(1, 1)
        total = cells(z_m, ratio) * w_m
        for weight, branch in ((w_h, on_cells(z_h)), (w_mh, on_cells(z_mh)), (w_hm, on_cells(attended)),
                               (w_hm, cells(z_hm, ratio))):
            total.addcmul_(weight, branch)
        return total.flatten(4, 5).flatten(2, 3)


def cells(image: Tensor, ratio: int) -> Tensor:
    """The view (B, C, h, ratio, w, ratio) of an HR image (B, C, H, W)."""
    return image.unflatten(3, (-1, ratio)).unflatten(2, (-1, ratio))


def on_cells(image: Tensor) -> Tensor:
    """The view (B, C, h, 1, w, 1) of an LR image (B, C, h, w): the same for all HR pixels of a cell."""
    return image.unsqueeze(4).unsqueeze(3)


class TrainedConv(nn.Conv2d):
    """A layer that trains in Winograd's domain, in float32 also under autocast: networks begin and end with such ones."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, H, W)."""
        if winograd.tiles_of(x) < winograd.LEAST_TILES:
            return super().forward(x)
        bias = self.weight.new_zeros(self.out_channels) if self.bias is None else self.bias
        return winograd.convolved(x, 1.0, (self.weight, bias))


class TrainedDFAB(DFAB):
    """S3RNet's dense block, trained in Winograd's domain."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        few = winograd.tiles_of(x) < winograd.LEAST_TILES
        if few or torch.is_autocast_enabled("cpu"):  # which multiplies bfloat16, and that is faster still
            return super().forward(x)
        layers = self.conv1, self.conv2, self.conv3, self.conv4, self.conv5
        return x + 0.2 * winograd.convolved(x, 0.2, [p for layer in layers for p in layer.parameters()])  # weight, then bias


def trainable(network: nn.Module, device: torch.device, recompute: bool = False) -> nn.Module:
    """The network, in place, whose layers are from now on trained the faster way where there is one: the same gradients.

    Parameters, their names and shapes stay. On a CPU, 3x3 convolutions and dense blocks are formed in Winograd's domain; under
    autocast dense blocks, and all other layers, multiply bfloat16.

    Args:
        network: to be trained, as :func:`methods.create` gives it; one of :data:`UNSTABLE` stays in full precision.
        device: to train on.
        recompute: keep no activations inside of repeated blocks and compute them anew in the backward pass.
    """
    for module in network.modules() if device.type == "cpu" else ():
        if isinstance(module, DFAB) and module.conv1.groups == 1 and winograd.fits(module.conv5):
            module.__class__ = TrainedDFAB
        elif winograd.fits(module) and module.padding_mode == "zeros":
            module.__class__ = TrainedConv
    if recompute:
        for block in repeated(network):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    if speed_of(network, "fast") == "exact":
        network.forward = partial(run, network.forward, device.type, False)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def repeated(network: nn.Module) -> list[nn.Module]:
    """The outermost blocks of which a network has two or more in a row; none that counts what it sees (batch norm)."""
    found: list[nn.Module] = []
    for child in network.children():
        row = list(child.children()) if isinstance(child, (nn.Sequential, nn.ModuleList)) else []
        alike = [block for block in row if sum(type(other) is type(block) for other in row) > 1 and any(block.children())
                 and not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in block.modules())]
        found += alike or repeated(child)
    return found
