"""The machine under a measurement: clock, memory, device, code version, and a state that no method can leave changed."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
CODE = ("methods", "benchmark", "datasets", "run_benchmark.py")  # what of the checkout can decide a number


def timed(call: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    """What ``call`` returns, and the seconds it took with the device synchronised."""
    start = time.perf_counter()
    result = call()
    if result.is_cuda:
        torch.cuda.synchronize(result.device)
    return result, time.perf_counter() - start


def peak_memory_mb(call: Callable[[], Any], device: torch.device) -> float:
    """Peak memory of a call in MB beyond what it began with; on the CPU that of the process (Linux; NaN elsewhere)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with contextlib.suppress(OSError, AttributeError):  # another system, where _resident_bytes gives NaN
        ctypes.CDLL(None).malloc_trim(0)  # what earlier calls have freed must not hide what this one takes
        Path("/proc/self/clear_refs").write_text("5")
    before_bytes = _resident_bytes("VmRSS")
    call()
    return (_resident_bytes("VmHWM") - before_bytes) / 1e6


def resident() -> float:
    """Bytes of memory that the process holds; 0 where the system does not tell."""
    held = _resident_bytes("VmRSS")
    return 0.0 if math.isnan(held) else held


def _resident_bytes(field: str) -> float:
    """A memory field of /proc/self/status in bytes; NaN where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return math.nan
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def device_name(device: torch.device) -> str:
    """The device in words, such as ``cpu (AMD EPYC, 2 threads)``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux
        pass
    return f"{device.type} ({' '.join(model.replace('Processor', '').split())}, {torch.get_num_threads()} threads)"


def code_version() -> dict[str, Any]:
    """Which code is running: git revision, whether files differ from it, how many are not in it, and torch's release.

    ``revision`` is ``"unknown"`` where there is no git, no repository, or one whose top is not this checkout; ``dirty``
    (tracked files of the code differ) and ``untracked`` (files of the code that git does not know) then are, too.
    """
    known: dict[str, Any] = {"revision": "unknown", "dirty": "unknown", "untracked": "unknown"}
    top, revision = _git("rev-parse", "--show-toplevel"), _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=all", "--", *CODE)
    if top and revision and status is not None and Path(top).resolve() == ROOT:
        lines = status.splitlines()
        untracked = sum(line.startswith("??") for line in lines)
        known = {"revision": revision, "dirty": len(lines) > untracked, "untracked": untracked}
    return known | {"torch": torch.__version__}


def _git(*words: str) -> str | None:
    """What git prints about this checkout; None where it fails or is not there."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}  # GIT_DIR names another one
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=ROOT, env=own, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    """Put back, at the end, all that a method can change for whoever comes next in this process."""
    threads, dtype, grad = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    matmul, cudnn = torch.get_float32_matmul_precision(), (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
    generators, environment, folder, printing = random_state(), dict(os.environ), Path.cwd(), np.get_printoptions()
    errors = np.geterr()
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = cudnn
        restore_random_state(generators)
        np.seterr(**errors)
        np.set_printoptions(**printing)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        os.chdir(folder)


def random_state() -> dict[str, Any]:
    """The state of every global generator: torch (CPU and GPUs), NumPy, Python; plain values that a checkpoint can hold."""
    kind, words, *rest = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (str(kind), torch.from_numpy(np.asarray(words).astype(np.int64)), *rest),
        "python": (version, list(internal), gauss),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Undo what has been drawn since :func:`random_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, words, *rest = state["numpy"]
    np.random.set_state((kind, words.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
