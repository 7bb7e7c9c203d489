"""AVIRIS flight lines of the public archive, cut into tiles of the size that the CSAKD and S3RNet papers use.

The archive hands out a line after it was asked for, so the lines come from a list: ``lines.txt`` in the data set's folder, one
a line, by the address that the archive gives, or by a name such as f100517t01p00r09 whose ENVI files were put anywhere below
the folder. ``download aviris-lines`` fetches what has an address and cuts every line, row by row from its top left corner, into
tiles of 259 x 259 pixels and 172 bands, in the layout of ``csakd-tiles``: ``tiles/<line>_<number>GT.npz.npy``. Tiles
with a pixel outside the line are left out. How the papers place and number theirs is not published: these are not those.
"""

import re
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from datasets.aviris_bands import KEPT_172
from datasets.csakd_tiles import CsakdTiles
from datasets.io import read_cube
from datasets.public import Published, Remote, Source
from datasets.scene import Miniature, Scene, SceneError, register
from datasets.splitting import read_list

TILE = 259  # 256 and the 3 pixels of misregistration around them
LINES = "lines.txt"
_OUTSIDE = -9999  # the value of pixels outside the line; nothing that was measured is as low
_LISTS = ("flight", "authors")


@register("aviris-lines")
class AvirisLines(Published):
    """The tiles, by line and number.

    Args:
        root: the folder that holds the data set's; HSFUSION_DATA if not given.
        lists: ``flight``: whole flight lines to train, val and test. ``authors``: as ``train.txt``, ``val.txt`` and
            ``test.txt`` in the folder of the tiles say; tiles of one line may be in several.
        seed: another seed deals flight lines to the splits in another way.
    """

    source = Source(
        (), "https://aviris.jpl.nasa.gov",
        steps=f"ask the data portal for flight lines and write {LINES}, one address or name of a line a line; put the ENVI "
        "files (.hdr and raw data) of lines without an address anywhere below the folder",
    )

    def __init__(self, root: str | None = None, lists: str = "flight", seed: int = 0) -> None:
        super().__init__(root)
        if lists not in _LISTS:
            raise SceneError(f"dataset 'aviris-lines': lists '{lists}'; choices: {', '.join(_LISTS)}")
        self.lists, self.seed = lists, seed

    @classmethod
    def remotes(cls, folder: Path) -> tuple[Remote, ...]:
        """The entries of the list that are addresses."""
        entries = read_list(folder / LINES) if (folder / LINES).is_file() else []
        return tuple(Remote(re.split(r"[?#]", entry)[0].rpartition("/")[2], entry) for entry in entries if "://" in entry)

    @classmethod
    def prepare(cls, folder: Path) -> Iterator[str]:
        """Cut the lines that have no tiles yet, in their order; a line at a time is in memory.

        Raises:
            SceneError: no list, no files of a line, or one that is not of AVIRIS.
        """
        if not (folder / LINES).is_file():
            raise SceneError(f"{folder / LINES}: no such list. To get the data, {cls.source.steps} ({cls.source.page}); then "
                             "give the same command again, which cuts the tiles.")
        for entry in read_list(folder / LINES):
            line = flight_line(entry)
            made = folder / "tiles"
            if any(made.glob(f"{line}_*GT.npz.npy")):
                continue
            headers = sorted(folder.rglob(f"*{line}*.hdr"), key=lambda path: (-_raw_bytes(path), path.as_posix()))
            if not headers:
                raise SceneError(f"{folder}: no ENVI header *{line}*.hdr of the line '{entry}' in {LINES}. Put it there with "
                                 "its raw data, or take the line out of the list.")
            count = cut(headers[0], made, line)
            yield f"{line}: {count} tiles of {TILE} x {TILE} pixels in {made}"

    @cached_property
    def tiles(self) -> CsakdTiles:
        """The reader of the tiles.

        Raises:
            SceneError: there are none.
        """
        if not any((self.folder / "tiles").glob("*GT.npz.npy")):
            raise self.missing("tiles/*GT.npz.npy")
        return CsakdTiles(str(self.folder / "tiles"), self.lists, seed=self.seed)

    def splits(self) -> dict[str, list[str]]:
        """By flight line, or as list files say."""
        return self.tiles.splits()

    def digest(self) -> str:
        """From names and sizes of the tiles and the splits."""
        return self.tiles.digest()

    def read(self, base: str) -> Scene:
        """One tile, 172 bands of scaled at-sensor radiance.

        Raises:
            SceneError: missing or unusable file.
        """
        return self.tiles.read(base)

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        """Tiles of four lines, as they are cut."""
        made = folder / "aviris-lines" / "tiles"
        made.mkdir(parents=True)
        _, native = CsakdTiles.miniature(made)
        return Miniature((partial(cls, str(folder)),), native)


def flight_line(entry: str) -> str:
    """The name of a line in an address or file name, such as f100517t01p00r09.

    Raises:
        SceneError: there is none.
    """
    match = re.search(r"f\d{6}t\d{2}p\d{2}r\d{2}", entry)
    if not match:
        raise SceneError(f"'{entry}' in {LINES} names no flight line; give an address or name with one: f100517t01p00r09")
    return match[0]


def cut(header: Path, folder: Path, line: str) -> int:
    """Cut a flight line into tiles (259, 259, 172 bands), native values; tiles come all or not at all.

    Args:
        header: of the ENVI file, 224 bands.
        folder: receives ``<line>_<number>GT.npz.npy``.
        line: its name.

    Returns:
        The number of tiles without a pixel outside the line.

    Raises:
        SceneError: not a line of AVIRIS, or too small for a tile.
    """
    cube, words = read_cube(header)
    numbers = words.get("band_numbers", ())  # of the 224 bands, those with data
    if not set(KEPT_172) <= set(numbers):
        raise SceneError(f"{header}: {len(cube)} bands, not the 224 of AVIRIS by their centres, or some of the 172 that are "
                         f"kept hold no data; take the line out of {LINES}")
    kept = [numbers.index(number) for number in KEPT_172]
    valid = words.get("valid", np.ones(cube.shape[1:], dtype=bool))
    columns = cube.shape[2] // TILE
    new = folder / f".{line}.cutting"
    new.mkdir(parents=True, exist_ok=True)
    count = 0
    for number in range(cube.shape[1] // TILE * columns):
        row, col = (TILE * place for place in divmod(number, columns))
        tile = cube[:, row : row + TILE, col : col + TILE]
        if valid[row : row + TILE, col : col + TILE].all() and tile.min() > _OUTSIDE:
            with (new / f"{line}_{number}GT.npz.npy").open("wb") as file:
                np.save(file, np.ascontiguousarray(tile[kept].transpose(1, 2, 0)))
            count += 1
    if not count:
        new.rmdir()
        raise SceneError(f"{header}: no {TILE} x {TILE} pixels inside the line; take it out of {LINES}")
    for path in sorted(new.iterdir()):
        path.replace(folder / path.name)
    new.rmdir()
    return count


def _raw_bytes(header: Path) -> int:
    """Size of the largest file that a header may belong to; the radiance is the largest of a line's ENVI files."""
    return max((path.stat().st_size for path in header.parent.glob(f"{header.stem}*") if path != header), default=0)
