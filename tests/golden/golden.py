"""Golden cases: what a method's published release computes, recorded as numbers.

A case is a JSON file: the release's state-dict layout (name, shape), the shapes of the
inputs, the constructor's settings, and samples of the output that the release gives when
its parameters and inputs are filled by the two functions below.  A faithful implementation
that loads the same parameters gives the same samples.

    fill_state_dict(sd)      overwrite every tensor of a state dict, in place, by its name
    probe(name, shape)       an input tensor in [0, 1), by its name
    record(output)           the summary a case keeps of one output tensor
    compare(output, summary) largest absolute and relative difference from a summary

Some cases carry more than `output`: `extra_outputs` and `internals` (intermediate tensors, where the final output
barely depends on them: compare these too) and `fill_adjust` (a rule to apply after `fill_state_dict`).
"""
from __future__ import annotations

import zlib

import numpy as np
import torch


def _rng(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()) % (2**32))


def fill_state_dict(sd: dict[str, torch.Tensor]) -> None:
    """Fill by name: weights ~ N(0, 1/fan_in), 1-D tensors near 0 (or near 1 for scales)."""
    with torch.no_grad():
        for name, t in sd.items():
            if not torch.is_floating_point(t):
                continue
            z = _rng(name).standard_normal(t.numel()).reshape(tuple(t.shape))
            if "running_var" in name:
                v = 1.0 + 0.1 * np.abs(z)
            elif t.ndim <= 1:
                is_scale = name.endswith("weight") or name.endswith("gamma")
                v = (1.0 if is_scale else 0.0) + 0.1 * z
            else:
                fan_in = max(1, int(np.prod(t.shape[1:])))
                v = z / np.sqrt(fan_in)
            t.copy_(torch.from_numpy(np.asarray(v)).to(t.dtype))


def probe(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """An input in [0, 1), float32, the same on every machine."""
    return torch.from_numpy(_rng(name).random_sample(shape).astype(np.float32))


def record(output: torch.Tensor, n: int = 64) -> dict:
    """Shape, moments and `n` evenly spread samples (flat index, value) of one tensor."""
    x = output.detach().double().flatten()
    idx = np.unique(np.linspace(0, x.numel() - 1, n).astype(int))
    return {
        "shape": list(output.shape),
        "mean": x.mean().item(),
        "std": x.std().item(),
        "absmax": x.abs().max().item(),
        "samples": [[int(i), x[int(i)].item()] for i in idx],
    }


def compare(output: torch.Tensor, summary: dict) -> tuple[float, float]:
    """(largest absolute difference, that over the reference's absmax) on the samples."""
    if list(output.shape) != summary["shape"]:
        raise ValueError(f"shape {tuple(output.shape)}, the case has {tuple(summary['shape'])}")
    x = output.detach().double().flatten()
    if not torch.isfinite(x).all():
        raise ValueError(f"{(~torch.isfinite(x)).sum().item()} of {x.numel()} values are not finite")
    worst = max(abs(x[i].item() - v) for i, v in summary["samples"])
    worst = max(worst, abs(x.mean().item() - summary["mean"]), abs(x.std().item() - summary["std"]))
    return worst, worst / max(summary["absmax"], 1e-12)
