"""Who is measuring a job: one file a claim beside the results, so that processes on one folder share the work.

    with claimed(folder) as ours:  # False: another living process holds it
        ...

A claim is a file of a name that nobody else writes, and it counts only while no other living claim lies beside it. So nothing
is ever taken over: a claim whose process is gone counts no longer, and whoever sees it removes it. Creating a file and listing
a folder is all that is asked of the file system, of NFS too.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

BEAT_SECONDS = 15.0  # between two signs of life
GONE_SECONDS = 180.0  # without one, a process of another host counts as gone
TRIES = 4  # where two processes claim at the same moment, both step back and try again


@dataclass(frozen=True)
class Holder:
    """The process behind a claim.

    Args:
        host: its name.
        boot: of the host, since which process numbers hold.
        pid: process number on that host.
        born: of the process, in ticks since boot: a number may be used again.
        since: when it claimed, seconds since 1970.
    """

    host: str
    boot: str
    pid: int
    born: int
    since: float

    @property
    def words(self) -> str:
        """``host:pid, since 12:34 UTC``."""
        return f"{self.host}:{self.pid}, since {time.strftime('%H:%M', time.gmtime(self.since))} UTC"


@contextlib.contextmanager
def claimed(place: Path) -> Iterator[bool]:
    """Hold the claim on a job's folder, which need not exist, while the block runs; False if another process holds it.

    Raises:
        OSError: the folder of claims cannot be written.
    """
    path = _take(place)
    if path is None:
        yield False
        return
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(path)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield True
    finally:
        ended.set()
        path.unlink(missing_ok=True)


def holder(place: Path) -> Holder | None:
    """Who holds the claim on a job's folder; None: nobody who lives."""
    return next(_living(place), None)


def _take(place: Path) -> Path | None:
    """The file of a claim that counts; None: another one does."""
    mine = Holder(socket.gethostname(), _boot(), os.getpid(), _born(os.getpid()), time.time())
    folder = _folder(place)
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(TRIES):
        path = folder / f"{place.name}.{uuid.uuid4().hex}.json"
        whole = path.with_suffix(".tmp")
        whole.write_text(json.dumps(asdict(mine)), encoding="utf-8")
        os.replace(whole, path)
        others = list(_living(place, path))
        if not others:
            return path
        path.unlink()
        if time.time() - max(other.since for other in others) > 5:  # no coincidence: it has been at work for a while
            break
        time.sleep(random.uniform(0.01, 0.1))
    return None


def _living(place: Path, own: Path | None = None) -> Iterator[Holder]:
    """The holders of claims but one's own; claims that count no longer are removed."""
    now = own.stat().st_mtime if own else time.time()  # by the clock of the file system, where there is a file to ask
    for path in sorted(_folder(place).glob(f"{place.name}.*.json")) if _folder(place).is_dir() else ():
        if path == own:
            continue
        try:
            there, beaten = Holder(**json.loads(path.read_text(encoding="utf-8"))), path.stat().st_mtime
        except FileNotFoundError:  # just given up
            continue
        except (OSError, ValueError, TypeError):
            there = None
        if there is not None and _lives(there, now - beaten):
            yield there
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def _lives(there: Holder, silent: float) -> bool:
    """Whether the process of a claim is there; of another host, whether it gave a sign of life of late."""
    if there.host == socket.gethostname() and there.boot == _boot():
        return _born(there.pid) == there.born
    return silent < GONE_SECONDS


def _folder(place: Path) -> Path:
    return place.parent / ".claims"


def _boot() -> str:
    """Which run of this machine it is; empty where the system does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _born(pid: int) -> int:
    """When a process of this machine began, in ticks since boot; -1: there is none of that number, or it is dead."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if words[0] in "ZX" else int(words[19])
