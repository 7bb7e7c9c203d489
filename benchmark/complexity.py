"""What a method costs: parameters, multiply-adds, time and memory of one fusion."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from lightning_fabric import Fabric
from torch import nn

from benchmark.evaluate import timed
from benchmark.plan import Job
from benchmark.protocol import AVIRIS_172
from methods import create, fuse

# Element by element, or moving data only: no multiply-adds that a published count would hold.
ELEMENTWISE = {"add", "add_", "sub", "rsub", "mul", "div", "neg", "leaky_relu", "leaky_relu_", "relu", "relu_", "sigmoid",
               "silu", "gelu", "tanh", "exp", "expand_as", "clamp", "pad", "sum", "mean", "softmax", "sqrt", "pow", "mT"}


def cost(job: Job, fabric: Fabric, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """The cost row of a method: an untrained network at ``study.cost_lr_size``, random images, batch 1.

    ``macs`` is fvcore's total of multiply-adds, ``macs_conv`` its convolutions and linear layers, which is what the
    papers' counters see; ``uncounted_ops`` names what is in neither. Training-free methods have no such counts (NaN).
    """
    study = job.study
    ratio, lr_size = study.protocol.ratio, study.cost_lr_size
    bands = len(AVIRIS_172) if study.protocol.bands == "aviris-172" else next(study.data.load(study.splits[0])).bands
    hr_size = lr_size * ratio
    srf = torch.rand(job.msi_bands, bands)
    model = create(job.method, bands=bands, msi_bands=job.msi_bands, ratio=ratio, psf=study.protocol.psf,
                   srf=srf / srf.sum(1, keepdim=True), phase=study.protocol.phase, **study.arguments.get(job.method, {}))
    counts = {"parameters": 0, "parameters_used": 0, "macs": math.nan, "macs_conv": math.nan, "uncounted_ops": "all"}
    if isinstance(model, nn.Module):
        used = used_parameters(model, bands, job.msi_bands, ratio)
        model = model.to(fabric.device)
        total, conv, uncounted = multiply_adds(model, bands, job.msi_bands, lr_size, hr_size)
        counts = {"parameters": sum(p.numel() for p in model.parameters()), "parameters_used": used,
                  "macs": total, "macs_conv": conv, "uncounted_ops": uncounted or "none"}
    generator = torch.Generator().manual_seed(0)
    lr_hsi = torch.rand(1, bands, lr_size, lr_size, generator=generator).to(fabric.device)
    hr_msi = torch.rand(1, job.msi_bands, hr_size, hr_size, generator=generator).to(fabric.device)
    log(f"counted: {counts}")
    seconds, memory_mb = measured(lambda: fuse(model, lr_hsi, hr_msi), fabric.device)
    return [{"method": job.method, "msi_bands": job.msi_bands, "device": job.device, "dtype": "float32",
             "lr_size": lr_size, "hr_size": hr_size, **counts, "flops": 2 * counts["macs"],
             "seconds_median": statistics.median(seconds), "seconds_spread": max(seconds) - min(seconds),
             "runs": len(seconds), "peak_memory_mb": memory_mb, "job": job.key[:12], "status": "ok"}]


@torch.no_grad()
def multiply_adds(model: nn.Module, bands: int, msi_bands: int, lr_size: int, hr_size: int) -> tuple[float, float, str]:
    """(all, those of convolutions and linear layers, names of uncounted operations) of one forward, by fvcore."""
    device = next(model.parameters()).device
    inputs = (torch.rand(1, bands, lr_size, lr_size, device=device),
              torch.rand(1, msi_bands, hr_size, hr_size, device=device))
    analysis = FlopCountAnalysis(model.eval(), inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator = analysis.by_operator()
    layers = sum(count for name, count in by_operator.items() if name in ("conv", "linear", "addmm"))
    uncounted = sorted({name.removeprefix("aten::") for name in analysis.unsupported_ops()} - ELEMENTWISE)
    return float(analysis.total()), float(layers), " ".join(uncounted)


def used_parameters(model: nn.Module, bands: int, msi_bands: int, ratio: int, lr_size: int = 16) -> int:
    """Parameters that take part: those that receive a gradient from the output."""
    model = copy.deepcopy(model).train()
    images = torch.rand(1, bands, lr_size, lr_size), torch.rand(1, msi_bands, lr_size * ratio, lr_size * ratio)
    model(*images).sum().backward()
    return sum(p.numel() for p in model.parameters() if p.grad is not None)


def measured(call: Callable[[], torch.Tensor], device: torch.device) -> tuple[list[float], float]:
    """Seconds of 3 to 20 calls after a warm-up, and the peak memory of a call in MB beyond what it began with.

    On the CPU the peak is that of the process (Linux; NaN elsewhere).
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = _resident_bytes("VmRSS")
        _reset_resident_peak()
    warm_up = timed(call)[1]
    after = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident_bytes("VmHWM")
    seconds = [timed(call)[1] for _ in range(min(20, max(3, int(5 / warm_up))))]
    return seconds, (after - before) / 1e6


def _reset_resident_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # another system: the peak is then that of the whole process so far, see _resident_bytes
        pass


def _resident_bytes(field: str) -> float:
    """A memory field of /proc/self/status in bytes; NaN where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return math.nan
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))
