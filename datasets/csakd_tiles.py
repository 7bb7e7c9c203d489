"""The tiles of the CSAKD and S3RNet papers, in the layout of their authors, for whoever owns them.

Below one folder lie, a tile, ``<name>GT.npz.npy`` ((rows, columns, 172 bands), 256 or 259 pixels a side, native
values; an .npy file in spite of its name), ``<name>hrmsi.npz`` (keys hrmsi4, hrmsi6) and ``<name>lrhsi.npz`` (keys
lrhsi and lrhsi1 to lrhsi3, the latter made from the tile shifted by 1 to 3 pixels). The observations are in [0, 1]
already. ``train.txt``, ``val.txt`` and ``test.txt`` list the tiles of the papers' splits.
"""

import re
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from datasets.aviris_bands import KEPT_172, centers_nm
from datasets.io import data_root, read_all, read_native
from datasets.scene import Dataset, Miniature, Scene, SceneError, register
from datasets.splitting import content_digest, deal, read_list

_GT = "GT.npz.npy"
_LISTS = ("authors", "flight")


@register("csakd-tiles")
class CsakdTiles(Dataset):
    """The papers' tiles.

    Args:
        root: folder of the tiles and lists; HSFUSION_DATA if not given.
        lists: ``authors`` (their list files; tiles of one flight line lie in several splits) or ``flight`` (whole
            flight lines to train, val and test).
        flight_pattern: regular expression that finds the flight line in a tile's name.
        seed: another seed deals flight lines to the splits in another way.
    """

    def __init__(
        self,
        root: str | None = None,
        lists: str = "authors",
        flight_pattern: str = r"f\d{6}t\d{2}p\d{2}r\d{2}",
        seed: int = 0,
    ) -> None:
        if lists not in _LISTS:
            raise SceneError(f"lists '{lists}'; choices: {', '.join(_LISTS)}")
        try:
            re.compile(flight_pattern)
        except re.error as error:
            raise SceneError(f"flight_pattern '{flight_pattern}' is no regular expression ({error}); correct it") from error
        self.root, self.lists, self.flight_pattern, self.seed = root, lists, flight_pattern, seed

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Tile name -> ground-truth file.

        Raises:
            SceneError: no tiles in the folder.
        """
        root = data_root(self.root)
        paths = {path.name.removesuffix(_GT): path for path in sorted(root.rglob(f"*{_GT}"))}
        if not paths:
            raise SceneError(
                f"folder '{root}': no file <name>{_GT}. Name the folder of the authors' tiles in HSFUSION_DATA (or the "
                "option 'root'); cubes in other layouts belong to the dataset 'folder'."
            )
        return paths

    def splits(self) -> dict[str, list[str]]:
        """The authors' lists, or whole flight lines dealt by the hash of their names."""
        if self.lists == "authors":
            root = data_root(self.root)
            return {s: [_tile_name(x) for x in read_list(root / f"{s}.txt")] for s in ("train", "val", "test")}
        flights: dict[str, list[str]] = {}
        for tile in self.paths:
            flights.setdefault(self._flight(tile), []).append(tile)
        if "unknown" in flights or len(flights) < 3:
            raise SceneError(
                f"{len(self.paths)} tiles of the flight lines {', '.join(flights)}: every name must tell its flight "
                "line and three lines are needed. Give the option 'flight_pattern' (a regular expression, now "
                f"'{self.flight_pattern}'), or lists=authors."
            )
        dealt = deal(list(flights), self.seed)
        return {split: [tile for flight in lines for tile in flights[flight]] for split, lines in dealt.items()}

    def digest(self) -> str:
        """From names and sizes of all files and the splits. Not from bytes: the 2,078 tiles are 100 GB and more."""
        files = [
            [file.name, file.stat().st_size]
            for path in self.paths.values()
            for file in (path, *_observation_files(path))
        ]
        return content_digest([files, self.splits()])

    def read(self, base: str) -> Scene:
        """One tile with its observations.

        Raises:
            SceneError: missing or unusable files, or observations that do not fit the tile.
        """
        if base not in self.paths:
            raise SceneError(
                f"tile '{base}' is listed, but {base}{_GT} is not below '{data_root(self.root)}'; put it there or take "
                f"the line out of the list ({len(self.paths)} tiles are there)"
            )
        path = self.paths[base]
        cube, _ = read_native(path)
        if cube.shape[0] != len(KEPT_172):
            raise SceneError(f"{path}: {cube.shape[0]} bands where the papers' tiles have {len(KEPT_172)} (last axis)")
        given: dict[str, torch.Tensor] = {}
        for file in _observation_files(path):
            for key, values in read_all(file).items():
                given[key] = _unit_observation(f"{file}, {key}", key, values)
        return Scene.from_native(
            base,
            cube,
            centers_nm()[np.array(KEPT_172) - 1],
            band_numbers=KEPT_172,
            units="scaled at-sensor radiance",
            flight=self._flight(base),
            given=given,
        )

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        """Two tiles of 12 x 12 pixels on each of four flight lines, by line; the authors' lists mix the lines."""
        rng, native = np.random.default_rng(0), {}
        for line in ("f130411t01p00r11", "f130411t01p00r12", "f180601t01p00r06", "f100517t01p00r09"):
            for tile in (f"{line}_0", f"{line}_1"):
                cube = rng.integers(-5, 6000, (12, 12, len(KEPT_172))).astype(np.int16)
                with (folder / f"{tile}{_GT}").open("wb") as file:
                    np.save(file, cube)
                np.savez(folder / f"{tile}hrmsi.npz", hrmsi4=rng.random((12, 12, 4)), hrmsi6=rng.random((12, 12, 6)))
                np.savez(folder / f"{tile}lrhsi.npz", lrhsi=rng.random((3, 3, len(KEPT_172))))
                native[tile] = cube.transpose(2, 0, 1)
        return Miniature((partial(cls, root=str(folder), lists="flight"),), native)

    def _flight(self, tile: str) -> str:
        match = re.search(self.flight_pattern, tile)
        return match[0] if match else "unknown"


def _tile_name(line: str) -> str:
    r"""``data\f1_2GT.npz.npy`` -> ``f1_2``: the lists of the authors' scripts differ in prefix and suffix."""
    return re.sub(r"(GT|hrmsi|lrhsi)?(\.npz)?(\.npy)?$", "", line.replace("\\", "/").rsplit("/", 1)[-1])


def _observation_files(path: Path) -> list[Path]:
    """Those of the two observation files that lie beside a ground truth; the protocol can make what is missing."""
    beside = (path.with_name(path.name.removesuffix(_GT) + suffix) for suffix in ("hrmsi.npz", "lrhsi.npz"))
    return [file for file in beside if file.is_file()]


def _unit_observation(where: str, key: str, values: np.ndarray) -> torch.Tensor:
    """(bands, h, w) float32, refused if bands or range cannot be what the key promises."""
    bands = {"hrmsi4": 4, "hrmsi6": 6}.get(key, len(KEPT_172))
    if values.shape[0] != bands:
        raise SceneError(f"{where}: {values.shape[0]} bands on the last axis where {bands} are expected")
    low, high = float(values.min()), float(values.max())
    if not (low >= -0.5 and high <= 1.5):  # interpolation may overshoot [0, 1]; native values or NaN are another matter
        raise SceneError(f"{where}: values from {low:g} to {high:g} where observations in [0, 1] are expected")
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
