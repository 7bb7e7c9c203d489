"""What a method costs: parameters, multiply-adds, time and memory of one fusion."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from lightning_fabric import Fabric
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.machine import peak_memory_mb, timed
from benchmark.plan import Job
from datasets.aviris_bands import KEPT_172
from methods import card, create, fuse
from methods.registry import trait
from methods.speed import prepared

# Element by element, or moving data only: no multiply-adds that a published count would hold.
ELEMENTWISE = set("""
    abs add add_ amax clamp clamp_min cumsum detach div div_ elu exp expand expand_as flip gelu gt
    leaky_relu leaky_relu_ log lt mT max mean mul mul_ neg pad pow prelu rand randn relu relu_
    repeat roll rsqrt rsub sigmoid sign silu softmax softplus sqrt square sub sub_ sum tanh unfold
    where
""".split())
COUNTED_BY_TORCH = {"scaled_dot_product_attention", "bmm", "baddbmm"}
PRODUCT = 2048  # side of the matrices whose product tells what the device can do


def cost(job: Job, fabric: Fabric, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """The cost row of a method: an untrained network at ``study.cost_lr_size``, random images, batch 1.

    Methods optimised for each image have no time here, since an optimisation of this size takes hours: their score rows
    tell it. ``gflops_achieved`` is the counted work over the time, ``gflops_ceiling`` what one large matrix product reaches
    on the same device and threads (:func:`ceiling`); a convolution by fewer multiplications than are counted may pass it.
    """
    counted = counts(job)
    log(f"counted: {counted}")
    lr_size, hr_size, bands = job.study.cost_lr_size, job.study.cost_lr_size * job.study.protocol.ratio, _bands(job)
    model = _model(job)
    model = prepared(model, job.study.speed, fabric.device)
    generator = torch.Generator().manual_seed(0)
    lr_hsi = torch.rand(1, bands, lr_size, lr_size, generator=generator).to(fabric.device)
    hr_msi = torch.rand(1, job.msi_bands, hr_size, hr_size, generator=generator).to(fabric.device)
    shown = torch.rand(1, bands, hr_size, hr_size, generator=generator).to(fabric.device)  # to an oracle only
    seconds, memory_mb = [math.nan], math.nan
    if card(job.method).family != "unsupervised":
        seconds, memory_mb = measured(lambda: fuse(model, lr_hsi, hr_msi, shown), fabric.device)
    median, flops = statistics.median(seconds), 2 * counted["macs"]
    return [{"method": job.method, "msi_bands": job.msi_bands, "device": job.device, "dtype": "float32",
             "lr_size": lr_size, "hr_size": hr_size, **counted, "flops": flops,
             "seconds_median": median, "seconds_spread": max(seconds) - min(seconds),
             "runs": 0 if math.isnan(seconds[0]) else len(seconds), "peak_memory_mb": memory_mb,
             "gflops_achieved": flops / median / 1e9, "gflops_ceiling": ceiling(fabric.device, torch.get_num_threads()),
             "job": job.key[:12], "status": "ok"}]


@cache
def ceiling(device: torch.device, threads: int) -> float:
    """GFLOP/s of a square float32 matrix product: the best of six, the first of which warms up.

    Args:
        device: it is taken on.
        threads: of this process; measured once for each, since a plan of many cost jobs would repeat it.
    """
    factor = torch.rand(PRODUCT, PRODUCT, generator=torch.Generator().manual_seed(0)).to(device)
    return 2 * PRODUCT**3 / min(timed(lambda: factor @ factor)[1] for _ in range(6)) / 1e9


def counts(job: Job) -> dict[str, Any]:
    """Parameters and multiply-adds of a method.

    ``macs_conv`` is what the papers' counters see, ``macs_attention`` stands beside it, ``macs`` is their sum, and
    ``uncounted_ops`` names what is in neither. Training-free methods have no such counts (NaN); those optimised for each
    image tell their parameters, or the network that they optimise (:class:`methods.registry.Traits`).
    """
    ratio, lr_size, bands, msi_bands = job.study.protocol.ratio, job.study.cost_lr_size, _bands(job), job.msi_bands
    hr_size, model = lr_size * ratio, _model(job)
    found: dict[str, Any] = {"parameters": 0, "parameters_used": 0, "macs": math.nan, "macs_conv": math.nan,
                             "macs_attention": math.nan, "uncounted_ops": "all"}
    network, size = trait(model, "network"), trait(model, "size")
    if isinstance(model, nn.Module):
        layers = model if network is None else network((lr_size, lr_size))
        conv, attention = multiply_adds(layers, bands, msi_bands, lr_size, hr_size)
        found = {"parameters": sum(p.numel() for p in model.parameters()),
                 "parameters_used": used_parameters(model, bands, msi_bands, ratio),
                 "macs": conv + attention, "macs_conv": conv, "macs_attention": attention,
                 "uncounted_ops": uncounted_operations(layers, bands, msi_bands, ratio)}
    elif network is not None:
        optimised = network((lr_size, lr_size))
        conv, attention = multiply_adds(optimised, bands, msi_bands, lr_size, hr_size)
        total = sum(p.numel() for p in optimised.parameters())
        found |= {"parameters": total, "parameters_used": total, "macs": conv + attention, "macs_conv": conv,
                  "macs_attention": attention, "uncounted_ops": "not analysed"}
    elif size is not None:
        found |= {"parameters": size, "parameters_used": size}
    return found


def _bands(job: Job) -> int:
    protocol, data = job.study.protocol, job.study.data
    return len(KEPT_172) if protocol.bands == "aviris-172" else \
        protocol.select(next(data.load(job.study.splits[0]))).bands


def _model(job: Job) -> Any:
    """The method with its initial parameters, told a PSF and a random SRF."""
    protocol = job.study.protocol
    srf = torch.rand(job.msi_bands, _bands(job))
    return create(job.names[0], bands=_bands(job), msi_bands=job.msi_bands, ratio=protocol.ratio, psf=protocol.psf,
                  srf=srf / srf.sum(1, keepdim=True), phase=protocol.phase, **job.study.arguments_of(job.method))


@torch.no_grad()
def multiply_adds(model: nn.Module, bands: int, msi_bands: int, lr_size: int, hr_size: int) -> tuple[float, float]:
    """Multiply-adds of one forward: (convolutions and linear layers, products between activations).

    The first is what the papers' counters see; the second are attention's matrix products. Counted by PyTorch's own
    counter on meta tensors: nothing is computed, so networks that do not fit here are counted all the same.
    """
    model = copy.deepcopy(model).to("meta").eval()
    inputs = (torch.empty(1, bands, lr_size, lr_size, device="meta"),
              torch.empty(1, msi_bands, hr_size, hr_size, device="meta"))
    with FlopCounterMode(display=False) as counter:
        model(*inputs)
    flops = counter.get_flop_counts()["Global"]
    layers = sum(count for op, count in flops.items() if str(op).split(".")[-1] in ("convolution", "mm", "addmm"))
    return layers / 2, (sum(flops.values()) - layers) / 2


@torch.no_grad()
def uncounted_operations(model: nn.Module, bands: int, msi_bands: int, ratio: int, lr_size: int = 8) -> str:
    """Names of the operations of a forward that no counter knows and that are more than element by element, by fvcore."""
    model = copy.deepcopy(model).cpu().eval()
    inputs = torch.rand(1, bands, lr_size, lr_size), torch.rand(1, msi_bands, lr_size * ratio, lr_size * ratio)
    analysis = FlopCountAnalysis(model, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.total()  # runs the analysis
    names = {name.removeprefix("aten::") for name in analysis.unsupported_ops()} - ELEMENTWISE - COUNTED_BY_TORCH
    return " ".join(sorted(names)) or "none"


def used_parameters(model: nn.Module, bands: int, msi_bands: int, ratio: int, lr_size: int = 8) -> int:
    """Parameters that take part: those that receive a gradient from the output."""
    model = copy.deepcopy(model).train()
    # Two images: batch normalisation cannot train on one value a channel.
    images = torch.rand(2, bands, lr_size, lr_size), torch.rand(2, msi_bands, lr_size * ratio, lr_size * ratio)
    model(*images).sum().backward()
    return sum(p.numel() for p in model.parameters() if p.grad is not None)


def measured(call: Callable[[], torch.Tensor], device: torch.device) -> tuple[list[float], float]:
    """Seconds of 3 to 20 calls after a warm-up, and the peak memory of the warm-up in MB beyond what it began with."""
    warm_up: list[float] = []
    memory_mb = peak_memory_mb(lambda: warm_up.append(timed(call)[1]), device)
    return [timed(call)[1] for _ in range(min(20, max(3, int(5 / warm_up[0]))))], memory_mb
