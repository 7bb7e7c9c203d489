"""Fusing images of any size: a method runs whole where that fits into the memory, else in windows, and goes on after a stop.

    estimate = fused(model, lr_hsi, hr_msi, place, identity(model, {...}), memory("4GB"), print, "gsa")
    estimate[:, 0:64]           # (bands, 64, W), from the files of the windows in the folder `place`
    estimate.finish(row)

Windows lie as files in a folder of their own, with a journal of those that are done: one line each, after its file. A file that
the journal does not name does not count. When the estimate has been written elsewhere its row takes their place, and the folder
goes when the command ends: one that was stopped goes on after it.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmark import keys, source
from benchmark.machine import resident
from datasets import SceneError
from methods import fuse
from methods.registry import MethodError
from methods.streamed import at_hr, held, streamed, streams
from methods.windows import OVERLAP, Window, layout, network_reach, taken, weights, with_margin

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
SHARE = 0.7  # of the memory that is available, where nothing is said
LEAST = 16  # LR pixels: side of the smallest window
STEP = 8  # sides are multiples of it, and ...
ROUND = 2**28  # ... what the process holds is rounded up to one of this, so that the same command cuts alike
LARGEST = 128  # of one whose size changes nothing
JOURNAL, ROW = "journal.jsonl", "row.json"


def memory(text: str | None) -> int:
    """Bytes that the process may take, of ``"4GB"``, ``"500MB"`` or ``"3.5GiB"``; None: :data:`SHARE` of what is available.

    Raises:
        SceneError: not such a size.
    """
    if text is None:
        return int(resident() + SHARE * _available())
    found = re.fullmatch(r"\s*(\d+\.?\d*)\s*([KMGT]?I?)B?\s*", text.upper())
    if not found or not float(found[1]):
        raise SceneError(f"--memory {text}: no size; write a number and a unit, such as 4GB or 500MB")
    return int(float(found[1]) * UNITS[found[2]])


def _available() -> float:
    """Bytes that can be had without swapping, of the machine or of the control group if that has a limit."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
        with suppress(OSError, ValueError):
            most, now = (Path(f"/sys/fs/cgroup/memory.{name}").read_text() for name in ("max", "current"))
            free = min(free, float(int(most) - int(now)))
        return free
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2


@dataclass(frozen=True)
class Cut:
    """How an estimate is cut.

    Args:
        how: ``"whole"``; ``"exact"``: what windows give does not depend on where they end; ``"blended"``: it does, they overlap
            and are blended linearly.
        side: of a window in LR pixels.
        overlap: of two, in LR pixels.
        margin: LR pixels around a window that are fused with it and left out.
        stride: windows begin at multiples of it.
    """

    how: str
    side: int
    overlap: int = 0
    margin: int = 0
    stride: int = 1

    def windows(self, size: tuple[int, ...]) -> list[Window]:
        """Of LR images of ``size``."""
        return layout(size, self.side, self.overlap, self.stride)


def cut(model: Any, lr_hsi: Tensor, hr_msi: Tensor, limit: int) -> Cut:
    """How a method fuses a pair within ``limit`` bytes of the process.

    Raises:
        MethodError: the smallest window does not fit.
    """
    (bands, h, w), msi_bands = lr_hsi.shape, len(hr_msi)
    ratio = hr_msi.shape[2] // w
    held_now, each = math.ceil(resident() / ROUND) * ROUND, taken(bands, ratio)
    room = limit - held_now
    if each * h * w <= room:
        return Cut("whole", max(h, w))
    if streams(model):
        fixed, of_window, exact = held(model, bands, msi_bands, h, w, ratio)
        side = _side((room - fixed) / of_window)
        if side >= LEAST:
            return Cut("exact", min(side, LARGEST)) if exact else Cut("blended", side, max(2, min(OVERLAP, side // 4)))
    else:
        seen = network_reach(model, bands, msi_bands, ratio)
        if seen is not None:
            side = _side(room / each) - 2 * seen.margin
            if side >= max(seen.stride, LEAST):
                return Cut("exact", min(side, LARGEST), 0, seen.margin, seen.stride)
    side = _side(room / each)
    if side < LEAST:
        least = (held_now + each * LEAST**2) / 1e9 + 0.01
        raise MethodError(f"--memory: {limit / 1e9:.2f} GB hold no window of {LEAST} x {LEAST} LR pixels of {bands} bands "
                          f"beside the {held_now / 1e9:.2f} GB that are taken; give {least:.2f}GB or more")
    return Cut("blended", side, max(2, min(OVERLAP, side // 4)))


def _side(pixels: float) -> int:
    """Of the largest square window of so many LR pixels."""
    side = int(max(0.0, pixels) ** 0.5)
    return side - side % STEP


class Estimate:
    """An estimate (bands, H, W) float32 as files of its windows; where they overlap, blended.

    Attributes:
        cut, windows: how it is cut.
        seconds: that fusing took, all calls together.
    """

    def __init__(self, place: Path, how: Cut, shape: tuple[int, int, int], ratio: int, made_of: str) -> None:
        """What the folder ``place`` holds of it, if it is made of the same (:func:`identity`), else nothing."""
        self.place, self.ratio, self.shape = place, ratio, shape
        self.temporary: Any = None
        head = {"made_of": made_of, "shape": list(shape), "ratio": ratio}
        lines = _lines(place / JOURNAL)
        kept = Cut(**lines[0]["cut"]) if lines and {**lines[0], "cut": None} == {**head, "cut": None} else None
        if kept is None or (kept.side + 2 * kept.margin > how.side + 2 * how.margin) or kept.how != how.how:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            kept, lines = how, [{**head, "cut": how.__dict__}]
        writing = place / f"{JOURNAL}.writing"  # whole lines alone: a call may have been killed within one
        writing.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        os.replace(writing, place / JOURNAL)
        self.cut = kept
        self.windows = kept.windows((shape[1] // ratio, shape[2] // ratio))
        self.weights = weights(self.windows, ratio)
        self.done = {line["window"] for line in lines[1:]}
        self.seconds = sum(line["seconds"] for line in lines[1:])

    @property
    def words(self) -> str:
        """How many windows, for a row."""
        return "1" if len(self.windows) == 1 else f"{len(self.windows)} {self.cut.how}"

    def put(self, number: int, image: Tensor, seconds: float) -> None:
        """Keep what one window gave."""
        path = self._path(number)
        writing = path.with_suffix(".writing")
        with writing.open("wb") as file:
            np.save(file, np.ascontiguousarray(image.float().numpy().swapaxes(0, 1)))  # by rows, as it is read
        os.replace(writing, path)
        _append(self.place / JOURNAL, {"window": number, "seconds": seconds})
        self.done.add(number)
        self.seconds += seconds

    def _path(self, number: int) -> Path:
        return self.place / f"{number:06d}.npy"

    def __getitem__(self, place: tuple[slice, slice]) -> Tensor:
        """All bands of some rows: ``estimate[:, 64:128]``."""
        bands, rows = place
        assert bands == slice(None)
        first, last, _ = rows.indices(self.shape[1])
        found = torch.zeros(self.shape[0], last - first, self.shape[2])
        for number, (window, (down, across)) in enumerate(zip(self.windows, self.weights)):
            high, columns = (at_hr(at, self.ratio) for at in window)
            top, end = max(first, high.start), min(last, high.stop)
            if top >= end:
                continue
            held_here = np.load(self._path(number), mmap_mode="r")
            some = torch.from_numpy(np.array(held_here[top - high.start : end - high.start])).transpose(0, 1)
            inside = found[:, top - first : end - first, columns]
            if self.cut.overlap:
                inside += some * (down[top - high.start : end - high.start, None] * across)
            else:
                inside.copy_(some)
        return found

    def finish(self, row: Mapping[str, Any]) -> None:
        """Its row in the place of its windows, for :func:`finished`."""
        made_of = _lines(self.place / JOURNAL)[0]["made_of"]
        writing = self.place / f"{ROW}.writing"
        writing.write_text(json.dumps({"made_of": made_of, "row": dict(row)}), encoding="utf-8")
        os.replace(writing, self.place / ROW)
        (self.place / JOURNAL).unlink()
        for path in self.place.glob("*.npy"):
            path.unlink()


def finished(place: Path, made_of: str) -> dict[str, Any] | None:
    """The row of an estimate that was finished by a command that was stopped later; None where there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        held = json.loads((place / ROW).read_text(encoding="utf-8"))
        if held["made_of"] == made_of:
            return dict(held["row"])
    return None


def identity(model: Any, made_of: Mapping[str, Any]) -> str:
    """A digest of what decides an estimate: ``made_of``, and the code of the method and of windows."""
    code = source.digest(model.card.build, "methods.streamed:*", "methods.streamed_subspace:*", "methods.windows:*")
    return keys.digest({**made_of, "code": code})


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal as far as they are whole."""
    found = []
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="utf-8").splitlines():
            found.append(json.loads(line))
    return found


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def fused(model: Any, lr_hsi: Tensor, hr_msi: Tensor, place: Path, made_of: str, limit: int,
          say: Callable[[str], None], label: str) -> Estimate:
    """Fuse what is not done yet.

    Args:
        model: what :func:`methods.create` returned.
        lr_hsi: (bands, h, w).
        hr_msi: (msi_bands, H, W).
        place: folder of the windows.
        made_of: :func:`identity`; windows made of something else are thrown away.
        limit: bytes that the process may take.
        say: told how it is cut, if it is.
        label: of the progress bar.

    Raises:
        MethodError: the memory is too small, or the estimate is not finite.
    """
    ratio, size = hr_msi.shape[2] // lr_hsi.shape[2], lr_hsi.shape[1:]
    how = cut(model, lr_hsi, hr_msi, limit)
    estimate = Estimate(place, how, (len(lr_hsi), *hr_msi.shape[1:]), ratio, made_of)
    count = len(estimate.windows)
    if count > 1:
        kind = {"exact": "equal to the whole", "blended": f"overlapping by {estimate.cut.overlap} LR pixels, blended"}
        say(f"{label}: in {count} windows of {estimate.cut.side} LR pixels, {kind[estimate.cut.how]}"
            + (f"; {len(estimate.done)} are done" if estimate.done else ""))
    left = [number for number in range(count) if number not in estimate.done]
    parts, before, done = None, 0.0, count - len(left)
    if count > 1 and left and streams(model):
        say(f"{label}: first what is global, of the whole image")
        start = time.perf_counter()
        parts = streamed(model, lr_hsi, hr_msi)
        before = time.perf_counter() - start
    for number in tqdm(left, desc=label, unit="window", initial=done, total=count, disable=count == 1, leave=False):
        window, start = estimate.windows[number], time.perf_counter()
        if parts is not None:
            image = parts.window(*window)
        else:
            wide, inner = with_margin(window, size, estimate.cut.margin)
            high = tuple(at_hr(at, ratio) for at in wide)
            image = fuse(model, lr_hsi[(slice(None), *wide)][None].clone(), hr_msi[(slice(None), *high)][None].clone())[0]
            image = image[(slice(None), *(at_hr(at, ratio) for at in inner))]
        if not torch.isfinite(image).all():
            raise MethodError("its estimate is not finite")
        estimate.put(number, image, before + time.perf_counter() - start)
        before = 0.0
        del image
        _trim()
    return estimate


def _trim() -> None:
    """Give back to the system what is free, so that the next window finds the room that was counted with."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
