"""Is each classical method its reference toolbox's, and how much faster? Scores, samples and seconds beside the recorded.

The recordings are the results in ``golden/classical.json``, by case (:data:`benchmark.fidelity.cases.CASES`) and name in the
toolbox. A result says its ``method``, the build ``arguments`` it was made with, ``seconds`` and ``metrics``; most have
``samples``, those of random starts the ``spread`` of their seeds, and ``loose_db`` where the answer is not unique.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.evaluate import timed
from benchmark.fidelity.cases import CASES, sample_indices
from benchmark.fidelity.recordings import FOLDER
from benchmark.metrics import measure
from benchmark.store import code_version
from methods import create, fuse

ROUNDING_DB = 0.1  # no tolerance recorded, because hard decisions depend on rounding or on a start that was replaced


def recordings(file: Path = FOLDER / "classical.json") -> dict[str, dict[str, dict[str, Any]]]:
    """Every result by case and name."""
    return {name: case["results"] for name, case in json.loads(file.read_text())["cases"].items()}


def recorded(methods: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """One row a case and recording of these methods, as they are measured."""
    for name, results in recordings().items():
        for key, theirs in results.items():
            if theirs["method"] in methods:
                yield row(name, key, theirs)


def row(name: str, key: str, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """A method on the case ``name`` beside its recording ``key``."""
    case = CASES[name]()
    lr_hsi, hr_msi, reference = (as_image(case[image]) for image in ("lr_hsi", "hr_msi", "hr_hsi"))
    model = create(theirs["method"], bands=lr_hsi.shape[1], msi_bands=hr_msi.shape[1], ratio=case["scale"],
                   psf=torch.from_numpy(case["psf"]), srf=torch.from_numpy(case["srf"]), phase=case["offset"],
                   **theirs.get("arguments", {}))
    fused, seconds = timed(partial(fuse, model, lr_hsi, hr_msi))
    ours = {metric: value.item() for metric, value in measure(fused, reference, ratio=case["scale"]).items()}
    metrics, difference = theirs["metrics"], math.nan
    if "samples" in theirs:
        samples = fused[0].permute(1, 2, 0).numpy()[tuple(sample_indices(case["hr_hsi"].shape).T)]
        difference = float(np.abs(samples - theirs["samples"]).max())
    return {
        "method": theirs["method"], "recording": key, "case": name, "msi_bands": hr_msi.shape[1],
        "psnr_db": ours["psnr_db"], "psnr_recorded": metrics["psnr"], "sam_deg": ours["sam_deg"],
        "sam_recorded": metrics["sam"], "rmse": ours["rmse_unit"], "ergas": ours["ergas"], "sample_difference": difference,
        "tolerance": theirs.get("suggested_sample_tolerance") or math.nan,
        "seconds": seconds, "seconds_recorded": theirs["seconds"], "times_faster": theirs["seconds"] / seconds,
        "threads": torch.get_num_threads(), "verdict": verdict(ours["psnr_db"], difference, theirs),
    } | code_version()


def verdict(psnr_db: float, difference: float, theirs: Mapping[str, Any]) -> str:
    """Whether the result is the recorded one, by what the recording allows to say."""
    recorded_db = theirs["metrics"]["psnr"]
    tolerance, apart = theirs.get("suggested_sample_tolerance"), abs(psnr_db - recorded_db)
    if "loose_db" in theirs:
        return f"within {theirs['loose_db']} dB of its reference" if apart <= theirs["loose_db"] \
            else "DIFFERS from its reference"
    if tolerance:
        return "equals its reference" if difference <= tolerance else "DIFFERS from its reference"
    if "spread" in theirs:  # of five seeds: a sixth may lie as far outside as they lie apart
        low, high = theirs["spread"]["psnr"]
        inside = low - (high - low) <= psnr_db <= high + (high - low)
        return "within the spread of its seeds" if inside else "DIFFERS from its reference"
    if apart <= ROUNDING_DB:
        return f"within {ROUNDING_DB} dB of its reference"
    return f"{psnr_db - recorded_db:+.2f} dB from its reference"


def as_image(cube: np.ndarray) -> Tensor:
    """A cube of a recorded case as methods take it: (H, W, bands) -> (1, bands, H, W)."""
    return torch.from_numpy(cube).permute(2, 0, 1)[None]
