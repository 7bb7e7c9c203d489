"""Trained networks made ready for inference: the same function, faster.

    network = prepared(network, "exact", device)    # the same numbers, to rounding
    network = prepared(network, "fast", device)     # reduced precision: its loss is measured, not promised

What is done depends on the device alone, so that a study says one word (``speed``):

    CPU, exact    3x3 convolutions and dense blocks by :mod:`methods.winograd`, everything channels last, S3RNet's fusion on
                  the LR grid where its inputs are
    CPU, fast     convolutions and matrix products in bfloat16 where the CPU multiplies it in hardware, else as exact
    GPU, exact    channels last
    GPU, fast     channels last, convolutions and matrix products in bfloat16
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import winograd
from methods.registry import MethodError
from methods.s3rnet import DFAB, HEADS, MBFN, SSAWB

SPEEDS = ("exact", "fast")
LEAST_TILES = 64  # of a training step: for fewer the transforms of the weights cost what the products save


def reduced_precision(device: torch.device) -> str:
    """Why ``"fast"`` is no faster than ``"exact"`` on a device; empty where it is."""
    if device.type == "cpu" and not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "this CPU has no bfloat16 products (AVX512-BF16 or AMX): fast is exact here"
    return ""


def prepared(model: Any, speed: str, device: torch.device) -> Any:
    """A copy of a network for inference on a device; what is no network is returned as it is.

    Args:
        model: as :func:`methods.create` gives it, with the parameters that it is to keep.
        speed: one of :data:`SPEEDS`.
        device: to run on.

    Raises:
        MethodError: another speed.
    """
    if speed not in SPEEDS:
        raise MethodError(f"speed '{speed}'; choices: {', '.join(SPEEDS)}")
    if not isinstance(model, nn.Module):
        return model
    fast = speed == "fast" and not reduced_precision(device)
    network = copy.deepcopy(model).to(device).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, MBFN):
            module.__class__ = PackedMBFN
    if device.type == "cpu" and not fast:
        replace_blocks(network, winograd.Workspace())
    network.to(memory_format=torch.channels_last)
    run = network.forward

    def forward(*images: Tensor) -> Tensor:
        laid_out = (image.contiguous(memory_format=torch.channels_last) for image in images)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            return run(*laid_out).float()

    network.forward = forward
    return network


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
    """A layer that trains in Winograd's domain; parameters, names and shapes are those of ``nn.Conv2d``."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, H, W)."""
        if winograd.tiles_of(x) < LEAST_TILES:
            return super().forward(x)
        bias = self.weight.new_zeros(self.out_channels) if self.bias is None else self.bias
        return winograd.convolved(x, 1.0, (self.weight, bias))


class TrainedDFAB(DFAB):
    """S3RNet's dense block, trained in Winograd's domain."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> same."""
        if winograd.tiles_of(x) < LEAST_TILES:
            return super().forward(x)
        layers = self.conv1, self.conv2, self.conv3, self.conv4, self.conv5
        return x + 0.2 * winograd.convolved(x, 0.2, [p for layer in layers for p in (layer.weight, layer.bias)])


def trainable(network: nn.Module) -> nn.Module:
    """The network, whose layers are from now on trained by the faster way where there is one: the same gradients."""
    for module in network.modules():
        if isinstance(module, DFAB) and winograd.fits(module.conv5) and module.conv1.groups == 1:
            module.__class__ = TrainedDFAB
        elif winograd.fits(module) and module.padding_mode == "zeros":
            module.__class__ = TrainedConv
    return network.to(memory_format=torch.channels_last)
