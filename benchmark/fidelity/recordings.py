"""Recorded cases: what each method's published release computes on inputs and parameters filled by one rule.

A case is a JSON file of ``golden/``: the release's state-dict layout (name, shape), the shapes of the inputs, the
constructor's settings, and samples of the output that the release gives when parameters and inputs are filled by
:func:`fill_state_dict` and :func:`probe`. A faithful implementation that loads the same parameters gives the same
samples. Some cases tie names to one tensor (``tied``), scale the filled tensors (``fill_adjust``) or come from another library,
whose names become ours by replacing parts of them (``renamed``). ``compared`` lists the methods that are compared with it, and
how: see :class:`benchmark.fidelity.networks.Case`. ``classical.json`` is of another kind, see
:mod:`benchmark.fidelity.toolboxes`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from methods import load_release

FOLDER = Path(__file__).with_name("golden")


def _rng(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()) % (2**32))


def fill_state_dict(tensors: dict[str, Tensor]) -> None:
    """Fill by name, in place: weights ~ N(0, 1/fan_in), 1-D tensors near 0 (or near 1 for scales)."""
    with torch.no_grad():
        for name, tensor in tensors.items():
            if not torch.is_floating_point(tensor):
                continue
            z = _rng(name).standard_normal(tensor.numel()).reshape(tuple(tensor.shape))
            if "running_var" in name:
                values = 1.0 + 0.1 * np.abs(z)
            elif tensor.ndim <= 1:
                is_scale = name.endswith("weight") or name.endswith("gamma")
                values = (1.0 if is_scale else 0.0) + 0.1 * z
            else:
                values = z / np.sqrt(max(1, int(np.prod(tensor.shape[1:]))))
            tensor.copy_(torch.from_numpy(np.asarray(values)).to(tensor.dtype))


def probe(name: str, shape: tuple[int, ...]) -> Tensor:
    """An input in [0, 1), float32, the same on every machine."""
    return torch.from_numpy(_rng(name).random_sample(shape).astype(np.float32))


def compare(output: Tensor, summary: Mapping[str, Any]) -> tuple[float, float]:
    """(largest absolute difference, that over the recorded absmax) on a case's samples, mean and deviation.

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    if list(output.shape) != summary["shape"]:
        raise ValueError(f"shape {tuple(output.shape)}, the case has {tuple(summary['shape'])}")
    x = output.detach().double().flatten()
    if not torch.isfinite(x).all():
        raise ValueError(f"{(~torch.isfinite(x)).sum().item()} of {x.numel()} values are not finite")
    worst = max(abs(x[i].item() - value) for i, value in summary["samples"])
    worst = max(worst, abs(x.mean().item() - summary["mean"]), abs(x.std().item() - summary["std"]))
    return worst, worst / max(summary["absmax"], 1e-12)


def load_case(name: str) -> dict[str, Any]:
    """The case of ``golden/<name>.json``."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def filled(model: nn.Module, case: Mapping[str, Any] | None = None) -> nn.Module:
    """The model in evaluation mode, its parameters filled by the rule and loaded as the authors' are, strictly.

    The case's layout (names and shapes) is what is filled, so a model of another layout is an error; without a case the
    model's own is: no parameter is then left at an initial value that hides it.
    """
    own = {key: torch.zeros_like(value, device="cpu") if value.is_floating_point() else value.clone()  # integers stay
           for key, value in model.state_dict().items()}
    tensors, ours = own, dict[str, str]()
    if case is not None:
        ours = {key: reduce(lambda name, pair: name.replace(*pair), case.get("renamed", ()), key)
                for key, _ in case["state_dict"]}
        tensors = {key: own[ours[key]] if ours[key] in own and list(own[ours[key]].shape) == shape else torch.zeros(shape)
                   for key, shape in case["state_dict"]}
        for names in case.get("tied", ()):  # one tensor under several names: the fill of the last one holds
            tensors |= dict.fromkeys(names, tensors[names[0]])
    fill_state_dict(tensors)
    if case is not None and "fill_adjust" in case:
        for tensor in {id(tensor): tensor for tensor in tensors.values()}.values():
            tensor *= case["fill_adjust"]["one_element"] if tensor.numel() == 1 else 1.0
            tensor *= case["fill_adjust"]["ndim_gt_1"] if tensor.ndim > 1 and tensor.numel() > 1 else 1.0
    load_release(model, {ours.get(key, key): tensor for key, tensor in tensors.items()})
    return model.eval()


def inputs(case: Mapping[str, Any], *names: str) -> list[Tensor]:
    """The case's inputs in [0, 1), those named or all in the case's order."""
    return [probe(name, tuple(case["inputs"][name])) for name in names or case["inputs"]]


def relative_difference(output: Tensor, summary: Mapping[str, Any]) -> float:
    """Largest difference of a tensor from a recorded one, over the recorded one's largest magnitude."""
    return compare(output, summary)[1]
