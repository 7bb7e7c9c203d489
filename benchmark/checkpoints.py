"""Checkpoints of a training: the last two, each of a name that holds the checksum of its bytes.

    save(place, training.state())
    state = newest(place, log)    # a damaged one is put aside and the one before it taken

They are read as data alone (``weights_only``): a file that comes with somebody's results runs no code.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

KEPT = 2
NAME = re.compile(r"checkpoint-(\d{9})-([0-9a-f]{16})\.ckpt")


def save(place: Path, state: dict[str, Any], step: int) -> None:
    """Write a state whole or not at all, and remove what is older than the last two.

    Raises:
        OSError: the folder cannot be written; earlier checkpoints are untouched.
    """
    temporary = place / f"checkpoint.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, place / f"checkpoint-{step:09d}-{_checksum(temporary)}.ckpt")
    except RuntimeError as error:  # torch's word for a disk that is full
        raise OSError(f"a checkpoint cannot be written ({str(error).splitlines()[0]})") from error
    finally:
        temporary.unlink(missing_ok=True)
    for old in list(held(place))[KEPT:]:
        old.unlink(missing_ok=True)


def newest(place: Path, log: Callable[[str], None]) -> dict[str, Any] | None:
    """The last state whose bytes are those that were written; None if there is none.

    Args:
        place: folder of the training.
        log: told of each damaged file, which is put aside as ``*.damaged``.
    """
    for path in list(held(place)):
        why = "its bytes are not those that were written"
        if whole(path):
            try:
                with _as_data():
                    return dict(torch.load(path, map_location="cpu", weights_only=True))
            except Exception as error:  # of whoever wrote it: pickles that would run something among them
                why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        os.replace(path, path.with_suffix(".damaged"))
        log(f"{path.name} is damaged ({why}): put aside, and the one before it taken if there is one")
    return None


def held(place: Path) -> Iterator[Path]:
    """The checkpoints of a training, the last one first."""
    yield from sorted((path for path in place.glob("checkpoint-*.ckpt") if NAME.fullmatch(path.name)), reverse=True)


def whole(path: Path) -> bool:
    """Whether a checkpoint holds the bytes that were written."""
    match = NAME.fullmatch(path.name)
    return match is not None and _checksum(path) == match[2]


def remove(place: Path) -> None:
    """Remove all of them, damaged ones too."""
    for path in (*held(place), *place.glob("checkpoint-*.damaged")):
        path.unlink(missing_ok=True)


def put_aside(place: Path) -> bool:
    """Rename them so that nothing goes on from them; whether there were any."""
    there = list(held(place))
    for path in there:
        os.replace(path, path.with_suffix(".other-code"))
    return bool(there)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@contextlib.contextmanager
def _as_data() -> Iterator[None]:
    """Whatever the environment says: torch lets a variable overrule ``weights_only=True``."""
    before = os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    try:
        yield
    finally:
        if before is not None:
            os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = before
