"""The rows of every kind: their columns and types, the version of their meaning, and CSV in and out.

A score row is one image, a cost row one method on one device, a training row one network, a curve row one logged value;
of growth and speed :data:`GROWTH` and :data:`SPEED` say it.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
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
TEXT = {name for kind in (SCORE, COST, TRAIN, CURVE, GROWTH, SPEED) for name, held in kind.items() if held is str}


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


def read(path: Path) -> pd.DataFrame:
    """A file of rows; names and digests stay text, even where they look like numbers.

    Raises:
        RowsError: not a table, or one without a row.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=["nan", ""])
    except (ValueError, OSError) as error:  # pandas' EmptyDataError and ParserError are ValueErrors, as is bad UTF-8
        raise RowsError(f"{path}: no table of rows ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    if frame.empty:
        raise RowsError(f"{path}: a header without a row")
    return frame


def is_whole(path: Path) -> bool:
    """Whether a file begins like rows and ends with a line, without reading what is between."""
    with path.open("rb") as file:
        if file.read(7) != b"method,":
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def is_close(ours: float, theirs: float, tolerance: float = 1e-6) -> bool:
    """Equal to ``tolerance``, absolute below 1 and relative above; two NaNs and two equal infinities are."""
    if math.isnan(ours) or math.isnan(theirs):
        return math.isnan(ours) and math.isnan(theirs)
    return ours == theirs or abs(ours - theirs) <= tolerance * max(1.0, abs(ours), abs(theirs))
