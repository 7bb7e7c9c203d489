"""Data sets that are published: which files they are of (:class:`Source`), and where these lie (:class:`Published`).

How the files come there is :mod:`datasets.download`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datasets.io import data_root, read_native
from datasets.scene import Dataset, SceneError

_ARCHIVES = (".zip", ".tgz", ".tar.gz", ".tar")


@dataclass(frozen=True)
class Remote:
    """One file of a source.

    Args:
        name: what it is called in the data set's folder.
        url: where it is; empty where a person must fetch it (see ``steps`` of the source).
        checksum: ``md5:...`` or ``sha256:...``, ``*`` for digits that our source leaves out; empty: none is published.
    """

    name: str
    url: str = ""
    checksum: str = ""

    @property
    def stem(self) -> str:
        """The name without an archive's suffix; the name itself where it is no archive."""
        return next((self.name.removesuffix(suffix) for suffix in _ARCHIVES if self.name.endswith(suffix)), self.name)

    @property
    def archive(self) -> bool:
        """Whether it is unpacked."""
        return self.stem != self.name


@dataclass(frozen=True)
class Source:
    """What is fetched for a data set, and on which terms. Addresses are as others quote them; none can be promised to last.

    Args:
        remotes: the files.
        page: where a person reads about them.
        terms: of use, in words; ``unknown`` where our sources state none.
        size: bytes of all files as downloaded; 0 where none is stated.
        steps: what a person does where files have no address; their names and the folder are told with it.
    """

    remotes: tuple[Remote, ...]
    page: str
    terms: str = "unknown, see the page"
    size: int = 0
    steps: str = ""


class Published(Dataset):
    """A data set with a source. Its files are looked for by name anywhere below its folder.

    Args:
        root: the folder that holds the data set's; HSFUSION_DATA if not given.
    """

    source: ClassVar[Source]

    def __init__(self, root: str | None = None) -> None:
        self.root = root

    @property
    def folder(self) -> Path:
        """Where the files are; it may not exist."""
        return data_root(self.root) / self.name

    @classmethod
    def remotes(cls, folder: Path) -> tuple[Remote, ...]:
        """What is fetched into ``folder``: what the source lists."""
        return cls.source.remotes

    @classmethod
    def prepare(cls, folder: Path) -> Iterator[str]:
        """What is done once all files are there, told line by line. Nothing, by default."""
        yield from ()

    def file(self, pattern: str, example: str = "") -> Path:
        """The file below the folder whose name matches a shell pattern, the largest of several.

        Args:
            pattern: of the name.
            example: is said behind the pattern where there is none.

        Raises:
            SceneError: there is none; says how to download it.
        """
        found = [path for path in self.folder.rglob(pattern) if path.is_file() and not path.name.startswith(".")]
        if not found:
            raise self.missing(pattern + example)
        return max(found, key=lambda path: (path.stat().st_size, path.as_posix()))

    def missing(self, what: str) -> SceneError:
        """The error about files that are not there, with the command that fetches them."""
        return SceneError(
            f"{self.folder}: no file {what}. Give the command `python run_benchmark.py download {self.name} --to "
            f"{data_root(self.root)}`; where the data lie elsewhere already, name their folder in HSFUSION_DATA."
        )


def native(path: Path, wavelengths: np.ndarray, stored: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
    """A cube with its wavelengths: of a file beside it, its own, or else those given.

    Args:
        path: the file.
        wavelengths: (bands,) nm, of the bands that are kept, the first ones.
        stored: number of bands in the file, if it holds others after them.

    Returns:
        cube: (bands, H, W), native values.
        words: ``wavelengths`` (bands,) in nm, and ``valid`` (H, W) bool where some pixels hold no data.

    Raises:
        SceneError: unreadable, or another number of bands.
    """
    kept, stored = len(wavelengths), stored or len(wavelengths)
    cube, words = read_native(path)
    if len(cube) != stored:
        raise SceneError(f"{path}: {len(cube)} bands with data where the data set has {stored}; copy it again, or give cubes "
                         "of your own to the dataset 'folder'")
    return cube[:kept], {"wavelengths": words.get("wavelengths", wavelengths)[:kept], "valid": words.get("valid")}
