"""Is each network its authors'? Golden difference and counts beside the recorded and the published ones, and a verdict."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.complexity import multiply_adds
from benchmark.fidelity.recordings import FOLDER, filled, inputs, probe, relative_difference
from benchmark.published import COSTS, figures
from benchmark.store import code_version
from datasets.aviris_bands import KEPT_172
from methods import card, create
from methods.registry import trait

BANDS, LR_SIZE, HR_SIZE = len(KEPT_172), 64, 256  # the papers' sizes
Recording = Mapping[str, Any]  # the JSON of a case, see benchmark.fidelity.recordings


def _forward(model: Any, case: Recording) -> Tensor:
    return model(*inputs(case, "lr_hsi", "hr_msi"))


def _with_draft(model: Any, case: Recording) -> Tensor:
    return model(*inputs(case, "lr_hsi", "hr_msi", "co"))


def _without_msi(model: Any, case: Recording) -> Tensor:
    lr_hsi = inputs(case, "lr_hsi")[0]
    return model(lr_hsi, torch.zeros(len(lr_hsi), 4, *case["output"]["shape"][2:]))


def _with_target(model: Any, case: Recording) -> Tensor:
    images = inputs(case, "lr_hsi", "hr_msi")
    return model(*images, probe("target", case["teacher"]["inputs"]["target"]))


def _one_denoising(model: Any, case: Recording) -> Tensor:
    x_t, lr_hsi, hr_msi = inputs(case, "x_t", "lr_hsi", "hr_msi")
    t = torch.full((1,), case["settings"]["timestep"])
    return model.denoise(x_t, t, model.interpolate(lr_hsi), lr_hsi, hr_msi)


RUNS: dict[str, Callable[[Any, Recording], Tensor]] = {
    "forward": _forward,
    "with draft": _with_draft,
    "without MSI": _without_msi,
    "with target": _with_target,
    "one denoising": _one_denoising,
}


@dataclass(frozen=True)
class Case:
    """A recorded case of a method: one entry of the list ``"compared"`` in a file of recordings.

    Args:
        file: that holds the recording.
        method: registry name.
        arguments: build arguments that the recording needs.
        run: how the network is called, one of :data:`RUNS`.
        output: where in the file the recorded output stands, keys with dots between.
        tolerance: largest relative difference that is equality; more than the default for a deep scan.
    """

    file: Path
    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    run: str = "forward"
    output: str = "output"
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if self.run not in RUNS:
            raise ValueError(f"{self.file}: run '{self.run}'; choices: {', '.join(RUNS)}")

    @torch.no_grad()
    def difference(self) -> float:
        """Largest relative difference of the method, built anew, from the recorded output."""
        recorded = json.loads(self.file.read_text())
        model = create(self.method, bands=BANDS, msi_bands=4, **self.arguments)
        expected = reduce(operator.getitem, self.output.split("."), recorded)
        return relative_difference(RUNS[self.run](filled(model, recorded), recorded), expected)


def cases(folder: Path = FOLDER) -> dict[str, Case]:
    """The recorded cases by method, of all JSON files of a folder that say what is compared with them.

    Raises:
        ValueError: a method with two cases, or a way to run it that does not exist.
    """
    found: dict[str, Case] = {}
    for file in sorted(folder.glob("*.json")):
        for entry in json.loads(file.read_text()).get("compared", ()):
            case = Case(file, **entry)
            if case.method in found:
                raise ValueError(f"{file}: '{case.method}' is compared with {found[case.method].file} already; choose one")
            found[case.method] = case
    return found


def fidelity(methods: tuple[str, ...], folder: Path = FOLDER) -> Iterator[dict[str, Any]]:
    """One row a supervised method, as they are measured.

    A published figure is compared with parameters that take part and with convolutions and linear layers, which is what
    the papers' counters see. Counted with the MSI bands that the published figure fits (:mod:`benchmark.published`).
    """
    recorded = cases(folder)
    for name in methods:
        method, case = card(name), recorded.get(name)
        difference = case.difference() if case else math.nan
        msi_bands, printed = next(((bands, cells) for bands, cells in figures(name).items() if COSTS[0] in cells), (4, {}))
        published = {key: cell.value for key, cell in printed.items()}
        with torch.device("meta"):
            model = create(name, bands=BANDS, msi_bands=msi_bands)
        unused = trait(model, "unused")
        used = sum(p.numel() for key, p in model.named_parameters() if not (unused and key.startswith(unused)))
        network = trait(model, "network")  # what is around it, an estimate of the responses say, has no count
        counted = model if network is None else network((LR_SIZE, LR_SIZE))
        layers, attention = multiply_adds(counted, BANDS, msi_bands, LR_SIZE, HR_SIZE)
        yield {
            "method": name, "fidelity": method.fidelity, "case": case.file.stem if case else "none",
            "golden_difference": difference, "tolerance": case.tolerance if case else math.nan,
            "msi_bands": msi_bands, "parameters": sum(p.numel() for p in model.parameters()), "parameters_used": used,
            "parameters_published": published.get("parameters", math.nan), "macs_conv": layers,
            "macs_attention": attention, "macs_published": published.get("macs", math.nan),
            "verdict": verdict(case, difference), "reason": method.count_reason or "none", "note": method.note or "none",
        } | code_version()


def verdict(case: Case | None, difference: float) -> str:
    """The difference from the recorded output in words."""
    if case is None:
        return "no release to compare with"
    return "equals its release" if difference < case.tolerance else "DIFFERS from its release"
