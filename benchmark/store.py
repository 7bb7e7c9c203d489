"""Results on disk: one folder a job. Reports read the rows of a plan by :mod:`benchmark.measurements`.

results/<dataset>/<kind>-<first method>-<12 digits of the key>/
job.json            inputs in words, digests of the code by part, provenance; of a failed job its error
rows.csv            full precision; moved into place last, so its presence means done
rows.kept.csv       rows of a score job that is not done
estimate.npz        of a clean score of a study that asks for pictures: what was fused of its first image; reference.npz
train.csv           the learning curve of a training (tidy: one value a line)
model.safetensors   parameters of a training
error.txt           why it failed
log.txt             what happened, with times

A job that is measured anew lies in ``<folder>.anew`` until it is done, so that nothing is lost before it is replaced.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark import checkpoints, rows
from benchmark.keys import canonical
from benchmark.machine import ROOT, code_version
from benchmark.plan import Job, PlanError
from datasets.scene import SceneError
from methods import weights
from methods.registry import MethodError

ANEW = ".anew"
WEIGHTS = "model.safetensors"
GIVEN_UP = 3  # times that a method may fail at a job before it is left alone


class StoreError(OSError):
    """A results or reports folder that cannot be used: names it and the remedy."""


BAD_INPUT = (SceneError, MethodError, PlanError, StoreError)  # errors of whoever gave the command, not of a method


@dataclass(frozen=True)
class Held:
    """What a job's folder holds.

    Args:
        state: ``done``, ``stale`` (done, but what decides the numbers has changed since), ``failed``, ``unfinished``,
            ``damaged`` (files that cannot be read: it counts as unfinished) or ``missing``.
        changed: of a stale job, the parts of the code that have changed; ``parameters``: its training was made again since.
        words: of job.json; empty if there is none to read.
        reason: of a failed or damaged job, in one line.
    """

    state: str
    changed: tuple[str, ...] = ()
    words: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def measured(self) -> bool:
        """It has rows."""
        return self.state in ("done", "stale")

    @property
    def seconds(self) -> float:
        """What it took by its record; NaN where that does not say."""
        seconds = provenance_of(self.words).get("seconds")
        return float(seconds) if isinstance(seconds, (int, float)) else math.nan


def folder(root: Path, job: Job) -> Path:
    """Where a job's results are."""
    return root / job.study.dataset / f"{job.kind}-{job.names[0]}-{job.key[:12]}"


def held(root: Path, job: Job) -> Held:
    """What is there of a job, and in which state."""
    place = folder(root, job)
    anew = place.with_name(place.name + ANEW)
    if not place.exists() and (anew / "rows.csv").exists():  # killed between the two moves of `finish`: the second one
        with writing(place, "--results"):
            anew.replace(place)
    if not place.exists():
        return Held("missing")
    try:
        words = words_of(place)
    except StoreError as error:
        return Held("damaged", reason=str(error))
    done = place / "rows.csv"
    if not done.exists():
        if (place / "error.txt").exists():
            return Held("failed", words=words, reason=_reason(place))
        return Held("unfinished", words=words)
    if not words:
        return Held("damaged", reason=f"{place / 'job.json'}: missing beside rows.csv")
    if why := damaged_rows(place, words):
        return Held("damaged", words=words, reason=why)
    changed = differing(words.get("source"), job.source)
    changed += ("parameters",) if _of_another_training(root, job, words) else ()
    return Held("stale" if changed else "done", changed, words)


def damaged_rows(place: Path, words: Mapping[str, Any]) -> str:
    """Why the rows of a job's folder are not those that were measured; empty if they can be read as them."""
    kind = place.name.partition("-")[0]
    recorded = words.get("source")
    metrics = [part.removeprefix("metric ") for part in recorded if part.startswith("metric ")] \
        if isinstance(recorded, Mapping) and kind == "score" else []
    why = rows.damage(place / "rows.csv", {*rows.NEEDED.get(kind, ()), *metrics})
    return why and f"{place / 'rows.csv'}: {why}"


def _of_another_training(root: Path, job: Job, words: Mapping[str, Any]) -> bool:
    """Whether a score was measured with other parameters than those of its training as it now is.

    That is trained anew where its parameters are gone, and minutes of training never give the same ones twice.
    """
    if job.training is None:
        return False
    try:
        trained, scored = provenance_of(words_of(folder(root, job.training))), provenance_of(words)
    except StoreError:
        return False
    if "parameters" in trained:
        name = job.names[0]
        return bool(scored.get("parameters", {}).get(name) != trained["parameters"].get(name))
    # Records of revision e4eb3578c and before hold no checksums; a score is never begun before its training was.
    return "parameters" not in scored and str(scored.get("started", "")) < str(trained.get("started", ""))


def weights_file(root: Path, training: Job) -> Path:
    """Where the parameters of a training are."""
    return folder(root, training) / WEIGHTS


def has_weights(root: Path, training: Job) -> bool:
    """Whether the parameters of a training lie on this machine, as they were written."""
    path = weights_file(root, training)
    return path.exists() and not damage(path)


def damage(path: Path) -> str:
    """Why parameters are not those that were written; empty if they are, or were written before checksums were."""
    try:
        return weights.damage(path)
    except MethodError as error:
        return str(error)


def checksums(path: Path, names: Iterable[str]) -> dict[str, str]:
    """sha256 of the parameters of each method in a file."""
    found = {}
    for name in names:
        with contextlib.suppress(MethodError):  # written before checksums were
            found[name] = weights.about(name, str(path)).sha256
    return found


def given_up(there: Held) -> bool:
    """Whether a job has failed so often, by its method's fault and with the same code, that it is run only when asked for."""
    return there.state == "failed" and _tries(there.words) >= GIVEN_UP


def _tries(words: Mapping[str, Any]) -> int:
    tries = words.get("tries", 0)
    return tries if isinstance(tries, int) else 0


def state(root: Path, job: Job) -> str:
    """The state of a job in one word (see :class:`Held`)."""
    return held(root, job).state


def differing(recorded: Any, now: Mapping[str, str]) -> tuple[str, ...]:
    """The parts of the code that are not as recorded. A metric that came later does not make a row stale."""
    recorded = recorded if isinstance(recorded, Mapping) else {}
    return tuple(part for part, found in now.items()
                 if recorded.get(part) != found and not (part.startswith("metric ") and part not in recorded))


def begin(root: Path, job: Job, anew: bool = False) -> Path:
    """Make the job's folder and write down what it is; a checkpoint of the same code that lies there stays.

    Args:
        root: results folder.
        job: to be measured.
        anew: although it is done: the new results take the place of the old ones when they are complete.

    Raises:
        StoreError: the folder cannot be written, or holds a checkpoint of other code.
    """
    place = folder(root, job)
    if anew and place.exists():
        place = place.with_name(place.name + ANEW)
    with writing(place, "--results"):
        place.mkdir(parents=True, exist_ok=True)
        try:
            words = words_of(place)
        except StoreError:
            words = {}
        changed = differing(words.get("source"), job.source)
        if changed or (job.training and _is_newer(weights_file(root, job.training), _kept(place))):
            _kept(place).unlink(missing_ok=True)  # of other code or parameters: not to be mixed with what these give
        if changed and checkpoints.put_aside(place):
            line = f"checkpoints of other code ({', '.join(changed)}) put aside as *.other-code: begun anew"
            log(place, line)
            print(f"{job.label}: {line}", file=sys.stderr)
        for path in (place / "error.txt", place / "rows.csv", *place.glob("*.tmp"), *place.glob("*.tmp.npz")):
            path.unlink(missing_ok=True)  # of processes that were killed as they wrote: whoever begins a job holds its claim
        now = {"key": job.key, "label": job.label, "inputs": json.loads(canonical(job.inputs)), "source": job.source}
        now |= {"tries": _tries(words)} if _tries(words) and not changed else {}
        write_text(place / "job.json", json.dumps(now, indent=1) + "\n")
    return place


def _is_newer(path: Path, than: Path) -> bool:
    return path.exists() and than.exists() and path.stat().st_mtime > than.stat().st_mtime


def begun(root: Path, job: Job) -> Path:
    """The folder of a job that was begun and whose process is gone."""
    place = folder(root, job)
    anew = place.with_name(place.name + ANEW)
    return anew if anew.exists() else place if (place / "job.json").exists() else begin(root, job)


def keep(place: Path, measured: list[dict[str, Any]]) -> None:
    """Put the rows of a job that is not done where :func:`kept` finds them."""
    write_csv(_kept(place), measured)


def kept(place: Path) -> list[dict[str, Any]]:
    """The rows that an interrupted job had, none for a new one or where they cannot be read."""
    try:
        return rows.read(_kept(place)).to_dict("records") if _kept(place).exists() else []
    except rows.RowsError:
        return []


def finish(place: Path, measured: list[dict[str, Any]], provenance: Mapping[str, Any]) -> None:
    """Write provenance, then the rows, which make the job done."""
    words = {**words_of(place), "provenance": dict(provenance)}
    words.pop("tries", None)
    write_text(place / "job.json", json.dumps(words, indent=1) + "\n")
    write_csv(place / "rows.csv", measured)
    with writing(place, "--results"):
        _kept(place).unlink(missing_ok=True)
        if place.name.endswith(ANEW):
            final = place.with_name(place.name.removesuffix(ANEW))
            old = place.with_name(final.name + ".old")
            shutil.rmtree(old, ignore_errors=True)
            final.replace(old)
            place.replace(final)
            shutil.rmtree(old)


def fail(place: Path, error: BaseException) -> None:
    """Record a failure, its kind as data; the traceback goes to the log of the folder."""
    with writing(place, "--results"), (place / "log.txt").open("a", encoding="utf-8") as file:
        file.write(from_here("".join(traceback.format_exception(error))))
    kind = "input" if isinstance(error, BAD_INPUT) else "method"
    words = words_of(place)
    words |= {"error": {"kind": kind, "type": type(error).__name__, "message": str(error)},
              "tries": _tries(words) + (kind == "method" and getattr(error, "counts", True))}
    write_text(place / "job.json", json.dumps(words, indent=1) + "\n")
    write_text(place / "error.txt", f"{type(error).__name__}: {error}\n")


def from_here(text: str) -> str:
    """A text without the folder of this checkout: rows are shared, and where they were measured is nobody's business."""
    return text.replace(f"{ROOT}{os.sep}", "")


def failure(root: Path, job: Job) -> tuple[str, str]:
    """``(kind, first line)`` of a failed job's error; the kind is ``"input"`` or ``"method"``."""
    place = folder(root, job)
    for each in (place.with_name(place.name + ANEW), place):
        if (each / "error.txt").exists():
            try:
                kind = dict(words_of(each).get("error", {})).get("kind", "method")
            except StoreError:
                kind = "method"
            return str(kind), _reason(each)
    return "method", "no reason recorded"


def stamp(root: Path, job: Job, evidence: Mapping[str, Any]) -> None:
    """Say that a job's rows are those of the code as it is: after a measurement that shows it, named in ``evidence``."""
    place = folder(root, job)
    words = dict(words_of(place))
    words |= {"source": job.source, "refreshed": [*words.get("refreshed", []), dict(evidence)]}
    if job.training and has_weights(root, job.training):
        parameters = checksums(weights_file(root, job.training), job.names)
        words["provenance"] = {**provenance_of(words), "parameters": parameters}
    write_text(place / "job.json", json.dumps(words, indent=1) + "\n")


def log(place: Path, line: str) -> None:
    """Add a line with the time to a job's log."""
    with writing(place, "--results"), (place / "log.txt").open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n")


# --------------------------------------------------------------------------------------------------------------- files


def write_csv(path: Path, measured: list[dict[str, Any]]) -> None:
    """Rows moved into place when complete.

    Raises:
        StoreError: the file cannot be written.
    """
    with writing(path, "--results"):
        rows.write(path, measured)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with writing(path, "--results"):
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_cube(path: Path, cube: torch.Tensor, image: str, wavelengths: np.ndarray) -> None:
    """A cube (bands, H, W) in half precision, compressed, moved into place when complete.

    Raises:
        StoreError: the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp.npz")
    with writing(path, "--results"):
        try:
            np.savez_compressed(temporary, cube=cube.numpy().astype(np.float16), image=image, wavelengths=wavelengths)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path, flag: str) -> Iterator[None]:
    """Turn what the system says of a place that cannot be written into one sentence with the remedy."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"'{error.filename or path}' cannot be written ({error.strerror or error}). Give another folder with "
                         f"{flag}, free space on the disk, or change its permissions; what is already there is "
                         "untouched.") from error


def words_of(place: Path) -> dict[str, Any]:
    """What job.json says; empty where there is none.

    Raises:
        StoreError: it cannot be read.
    """
    path = place / "job.json"
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(words, dict) or not isinstance(words.get("inputs", {}), dict):
        raise StoreError(f"{path}: does not hold what a job writes there")
    return words


def provenance_of(words: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a job's record says of how it was measured; empty where it does not."""
    found = words.get("provenance", {})
    return found if isinstance(found, Mapping) else {}


def _kept(place: Path) -> Path:
    return place / "rows.kept.csv"


def _reason(place: Path) -> str:
    lines = (place / "error.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[0] if lines else f"{place / 'error.txt'} is empty"


def provenance(job: Job, device: str) -> dict[str, Any]:
    """What stands beside the numbers and never in the key."""
    return code_version() | {
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "device": device,
        "threads": torch.get_num_threads(),
        "command": from_here(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "protocol": job.study.protocol.digest,
        "data": job.study.data.digest(),
    }
