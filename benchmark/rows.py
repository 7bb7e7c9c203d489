"""The rows of every kind: their columns and types, the version of their meaning, and CSV in and out.

A score row is one image, a cost row one method on one device, a training row one network, a curve row one logged value;
of growth and speed :data:`GROWTH` and :data:`SPEED` say it.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1  # raise when a column that is already there changes its meaning; it stands in every key

# Which cell of a study a score row belongs to; none of these is ever null.
IDENTITY = {"method": str, "dataset": str, "split": str, "image": str, "msi_bands": int, "ratio": int, "scenario": str,
            "noise_target": str, "snr_db": float, "seed": int, "protocol": str}
SCORE = {  # behind these a row has one column a metric (benchmark.metrics.METRICS)
    **IDENTITY,
    "bands": int,  # of the reference
    "bands_left_out": int,  # constant in the reference: no score counts them
    "status": str,  # "ok" or "failed" (not finite: every metric is NaN)
    "seconds": float,
    "speed": str,  # "exact" or "fast" (methods.speed); rows from before that was told have none: the network as built
    "device": str,
    "job": str,
}
COST = {"method": str, "msi_bands": int, "device": str, "dtype": str, "lr_size": int, "hr_size": int, "parameters": int,
        "parameters_used": int, "macs": float, "macs_conv": float, "macs_attention": float, "uncounted_ops": str,
        "flops": float, "seconds_median": float, "seconds_spread": float, "runs": int, "peak_memory_mb": float,
        "gflops_achieved": float, "gflops_ceiling": float, "job": str, "status": str}
TRAIN = {"method": str, "dataset": str, "msi_bands": int, "seed": int, "steps": int, "seconds": float, "device": str,
         "loss": float, "val_psnr_db": float, "val_sam_deg": float, "status": str}
CURVE = {"epoch": int, "step": int, "seconds": float, "method": str, "quantity": str, "value": float}
# Two files of their own, of no study: one line a method and point of an axis, and one line a timing against a yardstick.
GROWTH = {"method": str, "axis": str, "value": int, "side": int, "bands": int, "batch": int, "seconds": float,
          "seconds_spread": float, "runs": int, "peak_memory_mb": float, "device": str, "threads": int, "torch": str,
          "revision": str, "status": str}
SPEED = {"what": str, "subject": str, "variant": str, "size": str, "yardstick_seconds": float, "seconds": float,
         "ratio": float, "ratio_low": float, "ratio_high": float, "rounds": int, "goal": float, "difference": float,
         "loss_db": float, "compile_seconds": float, "note": str, "device": str, "threads": int, "torch": str}
NEEDED = {"score": {*IDENTITY, "status"}, "cost": set(COST), "train": set(TRAIN)}  # columns of a job's rows, by its kind
_TYPES = [each for kind in (SCORE, COST, TRAIN, CURVE, GROWTH, SPEED) for each in kind.items()]
TEXT = {name for name, held in _TYPES if held is str}
NUMBERS = {name for name, held in _TYPES if held is not str}  # metrics are numbers as well, where they are asked for


class RowsError(ValueError):
    """A file of rows that cannot be read: names it and what is wrong with it."""


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with the same keys, at full precision, moved into place when complete.

    Raises:
        ValueError: an identity column that is null.
        OSError: the file cannot be written.
    """
    for row in rows:
        null = [key for key in IDENTITY if key in row and (row[key] is None or row[key] != row[key])]
        if null:
            raise ValueError(f"a row without {', '.join(null)}: {dict(row)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path, needed: Iterable[str] = ()) -> pd.DataFrame:
    """A file of rows; names and digests stay text, even where they look like numbers.

    Raises:
        RowsError: :func:`damage` finds something.
    """
    import pandas as pd

    if why := damage(path, needed):
        raise RowsError(f"{path}: {why}")
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=["nan", ""])


def damage(path: Path, needed: Iterable[str] = ()) -> str:
    """Why a file is not the rows that were written, in words; empty if it can be read as them.

    Args:
        path: of the file.
        needed: columns without which it says too little; those that are no text hold a number in every line. Other numbers may
            be left empty.
    """
    needed = set(needed)
    numbers = (NUMBERS | needed) - TEXT
    try:
        text = path.read_text(encoding="utf-8")
        header, *lines = csv.reader(io.StringIO(text), strict=True)
    except (OSError, ValueError, csv.Error) as error:  # a folder, bad UTF-8, no line at all
        return f"no table of rows ({type(error).__name__}: {error})" if not path.is_file() or path.stat().st_size else "empty"
    if not text.endswith("\n"):
        return "its last line is cut off"
    if lacking := [name for name in needed if name not in header]:
        return f"no column {', '.join(sorted(lacking))}"
    if not lines:
        return "a header without a row"
    for number, cells in enumerate(lines, 2):
        if len(cells) != len(header):
            return f"line {number} has {len(cells)} cells, its header {len(header)}"
        for name, cell in zip(header, cells):
            if name in numbers and (cell or name in needed) and not _is_number(cell):
                return f"line {number}: {name} '{cell}' is no number"
    return ""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def is_close(ours: float, theirs: float, tolerance: float = 1e-6) -> bool:
    """Equal to ``tolerance``, absolute below 1 and relative above; two NaNs and two equal infinities are."""
    if math.isnan(ours) or math.isnan(theirs):
        return math.isnan(ours) and math.isnan(theirs)
    return ours == theirs or abs(ours - theirs) <= tolerance * max(1.0, abs(ours), abs(theirs))
