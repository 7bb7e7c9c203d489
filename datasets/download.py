"""Public data sets (:mod:`datasets.public`): how their files come into the folder that HSFUSION_DATA names.

    download("cave", Path("~/scenes").expanduser()) -> ~/scenes/cave/complete_ms_data/...

The files of a data set lie in the folder of its name; an
archive ``x.zip`` is unpacked to ``x/`` there and deleted. What is not complete has another name: ``x.zip.part`` goes on
where it was cut off, ``x.unpacking`` is thrown away. ``download.json`` beside the data records the checksum of every file
as it came first; a later download must give the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.io import data_root
from datasets.public import Published, Remote
from datasets.scene import SceneError, names, near, registered

if TYPE_CHECKING:
    import requests

RECORD = "download.json"
_PIECE = 2**16  # bytes asked of a connection at a time: what a cut loses at most
_TIMEOUT = (20, 60)  # seconds to connect, and between two pieces


# ---------------------------------------------------------------------------------------------------- the two commands


def published() -> dict[str, type[Published]]:
    """The registered data sets that have a source, by name."""
    return {name: cls for name in names() if issubclass(cls := registered(name), Published)}


def listing(root: Path | None) -> list[str]:
    """One line a data set: name, size of the download, whether it is there, terms, page.

    Args:
        root: the folder that holds the data sets'; None where none is named.
    """
    lines = [f"{'data set':19} {'download':>9}  {'state':15} terms; page"]
    for name, cls in published().items():
        size = _bytes(cls.source.size) if cls.source.size else "unknown"
        by = "" if all(remote.url for remote in cls.source.remotes) and cls.source.remotes else " (some steps by hand)"
        state = _state(cls, root / name) if root else "no folder named"
        lines.append(f"{name:19} {size:>9}  {state:15} {cls.source.terms}; {cls.source.page}{by}")
    return lines


def where(to: Path | str | None) -> Path:
    """The folder that holds the data sets', made where ``to`` names one that is not there.

    Raises:
        SceneError: neither ``to`` nor HSFUSION_DATA names one, or it cannot be made.
    """
    if to is None and not os.environ.get("HSFUSION_DATA"):
        raise SceneError("no folder to download to: give --to DIR, or export HSFUSION_DATA=DIR")
    if to is not None:
        to = Path(to).expanduser()
        with _writable(to):
            to.mkdir(parents=True, exist_ok=True)
    return data_root(to)


def download(name: str, root: Path, say: Callable[[str], object] = print) -> Path:
    """Fetch what is missing of a data set into ``root / name``, check it and unpack it.

    Args:
        name: of a data set with a source.
        root: an existing folder.
        say: is told what is done, a line each.

    Returns:
        The folder of the data set.

    Raises:
        SceneError: no such data set, no network, another answer than the file, a wrong checksum, a full disk, or files that
            a person must fetch. What is downloaded of a file is kept, never under its name.
    """
    sets = published()
    if name not in sets:
        raise SceneError(f"nothing to download for '{name}'.{near(name, sets)} Choices: {', '.join(sets)}")
    cls, folder = sets[name], root / name
    with _writable(folder):
        folder.mkdir(exist_ok=True)
        remotes = cls.remotes(folder)
        due = [remote for remote in remotes if not _there(remote, folder)]
        _by_hand(cls, folder, due)
        held = [entry["bytes"] for entry in _recorded(folder).values()] + [p.stat().st_size for p in folder.glob("*.part")]
        _room(folder, cls.source.size - sum(held) if due else 0)
        if remotes and not due:
            say(f"{name}: all files are there already, in {folder}")
        for remote in due:
            path = folder / remote.name
            _fetch(remote, path, cls.source.page)
            digest = _check(remote, path, path)
            entry: dict[str, Any] = {"url": remote.url, "sha256": digest, "bytes": path.stat().st_size}
            if remote.archive:
                entry["files"] = _unpack(remote, path, folder / remote.stem)
            _record(folder, remote, entry)
            if remote.archive:
                path.unlink()
            say(f"{remote.name}: {_bytes(entry['bytes'])}, {_told(remote)}; sha256 {digest} is recorded in {folder / RECORD}")
        for line in cls.prepare(folder):
            say(line)
    return folder


# --------------------------------------------------------------------------------------------------------- what is there


def _there(remote: Remote, folder: Path) -> bool:
    """Whether a file is complete by the record of what came."""
    entry = _recorded(folder).get(remote.name, {})
    path = folder / remote.stem
    if not remote.archive:
        return path.is_file() and entry.get("bytes") == path.stat().st_size
    return path.is_dir() and 0 < entry.get("files", 0) <= sum(each.is_file() for each in path.rglob("*"))


def _state(cls: type[Published], folder: Path) -> str:
    remotes = cls.remotes(folder)
    there = sum(_there(remote, folder) for remote in remotes)
    if there == len(remotes):
        return "there" if remotes or any(folder.glob("*/*")) else "not there"
    return f"{there} of {len(remotes)} files" if there else "begun" if any(folder.glob("*.part")) else "not there"


def _recorded(folder: Path) -> dict[str, dict]:
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise SceneError(f"{path}: no JSON ({error}); delete it and give the same command again") from error


def _record(folder: Path, remote: Remote, entry: dict) -> None:
    text = json.dumps(_recorded(folder) | {remote.name: entry}, indent=1)
    new = folder / f".{RECORD}.new"
    new.write_text(text + "\n", encoding="utf-8")
    new.replace(folder / RECORD)


def _by_hand(cls: type[Published], folder: Path, due: list[Remote]) -> None:
    """Refuse, with the steps, where files are due that no address is known of."""
    wanted = [remote.name for remote in due if not remote.url and not (folder / remote.name).is_file()]
    if wanted:
        raise SceneError(
            f"dataset '{cls.name}' is not fetched by a command alone: {cls.source.steps} ({cls.source.page}). Save "
            f"{', '.join(wanted)} in {folder} and give the same command again: it checks, unpacks and records."
        )


def _told(remote: Remote) -> str:
    if not remote.checksum:
        return "of which no checksum is published"
    return "whose checksum is " + ("as published, as far as we know its digits" if "*" in remote.checksum else "as published")


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


# ----------------------------------------------------------------------------------------------------------- one file


def _fetch(remote: Remote, path: Path, page: str) -> None:
    """Download a file whose checksum is right, unless one lies there already."""
    if path.is_file():
        return
    import pooch

    pooch.get_logger().setLevel("WARNING")

    def arrive(url: str, temporary: str, _: object) -> None:
        """Pooch's hook: what this writes to ``temporary`` is moved to ``path``."""
        part = path.with_name(f"{path.name}.part")
        with _answered(remote, path, page):
            _resume(url, part)
        _check(remote, part, path)
        part.replace(temporary)
        _tag(part).unlink(missing_ok=True)

    pooch.retrieve(remote.url, known_hash=None, fname=path.name, path=path.parent, downloader=arrive)


def _tag(part: Path) -> Path:
    """Holds what the server says which version of the file ``part`` is of."""
    return part.with_name(f"{part.name}.tag")


def _resume(url: str, part: Path) -> None:
    """Download to ``part``, from where it ends, or anew if the server has another file now or knows no ranges.

    Raises:
        requests.RequestException: no answer, another answer, or one that was cut off; ``part`` keeps what came.
    """
    import requests
    from tqdm import tqdm

    start = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"}  # else the bytes could be compressed ones, and their number another
    if start:
        headers["Range"] = f"bytes={start}-"
        if _tag(part).is_file() and (tag := _tag(part).read_text(encoding="latin-1")):
            headers["If-Range"] = tag
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == 416 and answer.headers.get("Content-Range") == f"bytes */{start}":
            return  # nothing is left to send
        if start and answer.status_code == 416:
            part.unlink()  # longer than the file, so it is of another one
            return _resume(url, part)
        answer.raise_for_status()
        if answer.status_code != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0
        length = int(answer.headers.get("Content-Length", 0))
        _room(part.parent, length)
        _tag(part).write_text(_version(answer), encoding="latin-1")
        with part.open("ab" if start else "wb") as file, tqdm(
            total=start + length or None, initial=start, desc=part.name.removesuffix(".part"), unit="B", unit_scale=True,
            disable=None,  # no bar where nobody watches
        ) as bar:
            for piece in answer.iter_content(_PIECE):
                file.write(piece)
                bar.update(len(piece))
        if length and part.stat().st_size != start + length:  # some versions of urllib3 do not mind
            raise requests.ConnectionError(f"{part.stat().st_size} of {start + length} bytes came")
    return None


def _version(answer: requests.Response) -> str:
    """What If-Range may say: a strong ETag, else the date; nothing if the server tells neither."""
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


@contextmanager
def _answered(remote: Remote, path: Path, page: str) -> Iterator[None]:
    """Turn what requests raises into one SceneError with the remedy."""
    import requests

    part = path.with_name(f"{path.name}.part")
    by_hand = f"or fetch it another way ({page}), put it there as {path}, and give the same command again"
    try:
        yield
    except requests.HTTPError as error:
        raise SceneError(
            f"{remote.url}: the server answers {str(error).partition(' for url')[0]}. Try later, {by_hand}."
        ) from error
    except requests.RequestException as error:
        if part.is_file() and part.stat().st_size:
            raise SceneError(
                f"{remote.url}: the connection was cut off; {_bytes(part.stat().st_size)} are kept. Give the same command "
                f"again to go on from there, {by_hand}."
            ) from error
        raise SceneError(
            f"{remote.url}: no connection ({type(error).__name__}). Check the network and give the same command again, "
            f"{by_hand}."
        ) from error


def _check(remote: Remote, held: Path, path: Path) -> str:
    """The sha256 of what came, or was put there by hand, if it is what is published and recorded.

    Raises:
        SceneError: it is not; a file that was downloaded is deleted.
    """
    recorded = _recorded(path.parent).get(remote.name, {}).get("sha256")
    wanted = [checksum for checksum in (remote.checksum, recorded and f"sha256:{recorded}") if checksum]
    digests = {name: hashlib.new(name) for name in {"sha256", *(checksum.partition(":")[0] for checksum in wanted)}}
    with held.open("rb") as file:
        while block := file.read(2**20):
            for each in digests.values():
                each.update(block)
    for checksum in wanted:
        kind, _, pattern = checksum.partition(":")
        found = digests[kind].hexdigest()
        if not fnmatch(found, pattern):
            ours = held != path
            if ours:
                held.unlink()
                _tag(held).unlink(missing_ok=True)
            known = "published" if checksum == remote.checksum else f"recorded in {path.parent / RECORD}"
            raise SceneError(
                f"{path}: {kind} {found} where {pattern} is {known}. Damaged on the way, or the site has another file now: "
                + ("what came is deleted; give the same command again" if ours else "take it away and copy it again")
                + ("." if checksum == remote.checksum else ", or delete the record if the new file is wanted.")
            )
    return digests["sha256"].hexdigest()


def _unpack(remote: Remote, path: Path, folder: Path) -> int:
    """Unpack an archive to a folder that is there whole or not at all; the number of its files."""
    new = folder.with_name(f"{folder.name}.unpacking")
    shutil.rmtree(new, ignore_errors=True)
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                _room(path.parent, sum(member.file_size for member in archive.infolist()))
                archive.extractall(new)
        else:
            with tarfile.open(path) as packed:
                _room(path.parent, sum(member.size for member in packed))
                if hasattr(tarfile, "data_filter"):
                    packed.extractall(new, filter="data")
                else:  # Python before 3.11.4
                    packed.extractall(new, members=_inside(packed, new))
        shutil.rmtree(folder, ignore_errors=True)
        new.replace(folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        if remote.url:
            path.unlink()
        raise SceneError(
            f"{path}: cannot be unpacked ({type(error).__name__}: {error}), so it is damaged or no archive. "
            + ("It is deleted: give the same command again." if remote.url else "Copy it again.")
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return sum(each.is_file() for each in folder.rglob("*"))


def _inside(packed: tarfile.TarFile, folder: Path) -> list[tarfile.TarInfo]:
    """The files and folders of an archive; all of them must lie in the folder, and nothing else may be among them.

    Raises:
        TarError: one does not, or is a link or a device.
    """
    members = packed.getmembers()
    for member in members:
        if not (member.isfile() or member.isdir()) or not (folder / member.name).resolve().is_relative_to(folder.resolve()):
            raise tarfile.TarError(f"{member.name!r} is outside of its folder, or neither a file nor a folder")
    return members


# -------------------------------------------------------------------------------------------------------------- the disk


def _room(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SceneError(f"{folder}: {_bytes(needed)} are needed and {_bytes(free)} are free. Make room, or name another "
                         "disk with --to DIR.")


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turn what the file system raises into one SceneError with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SceneError(f"{folder}: the disk is full. Make room and give the same command again, which goes on from "
                             "there, or name another disk with --to DIR.") from error
        raise SceneError(f"{folder}: cannot be written ({error.strerror or error}). Choose another with --to DIR.") from error
