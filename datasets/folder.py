"""Real cubes from a folder: whatever files the readers understand, split by whole scene or by spatial blocks."""

import hashlib
import time
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from datasets.aviris_bands import KEPT_172
from datasets.files.band_images import is_cube
from datasets.io import READERS, SENSORS, NoCubeError, cube_files, cube_shape, data_root, read_cube, read_native, tell
from datasets.scene import Dataset, Miniature, Scene, SceneError, near, register, split_entry
from datasets.splitting import blocks, check_blocks, content_digest, deal, file_digest

_SPLIT_BY = ("scene", "blocks")
_LEAST_SEEN = 0.5  # share of a block's pixels that hold data


@register("folder")
class Folder(Dataset):
    """The cubes below a folder, hidden ones left out. A scene is named by its path below the folder.

    A scene is a file with a cube of two bands or more, or a folder of band images. Maps of labels, empty files and copies of
    other scenes are no scenes, which is told; a damaged file is refused.

    Args:
        root: the folder; HSFUSION_DATA if not given.
        pattern: shell pattern that paths below the folder must match, such as ``*.mat`` or ``pavia/*``.
        split_by: ``scene`` (whole files to train, val and test; three at least) or ``blocks`` (windows of each file).
        tile: side of the blocks in pixels, a multiple of the resolution ratio.
        guard: width in pixels of the unused band between blocks.
        seed: another seed deals scenes or blocks to the splits in another way.
        sensor: ``aviris``: cubes of 224 bands that come without wavelengths have those of AVIRIS.
        nodata: stored value that means no data, beside what the files say themselves.
        band_first: arrays of NumPy, MATLAB and HDF5 files are (bands, rows, columns).
    """

    def __init__(
        self,
        root: str | None = None,
        pattern: str = "*",
        split_by: str = "scene",
        tile: int = 32,
        guard: int = 8,
        seed: int = 0,
        sensor: str = "",
        nodata: float | None = None,
        band_first: bool = False,
    ) -> None:
        for option, value, choices in (("split_by", split_by, _SPLIT_BY), ("sensor", sensor, ("", *SENSORS))):
            if value not in choices:
                said = ", ".join(filter(None, choices))
                raise SceneError(f"dataset 'folder': {option} '{value}'; choices: {said}.{near(value, choices)}")
        check_blocks(tile, guard)
        self.root, self.pattern, self.split_by = root, pattern, split_by
        self.tile, self.guard, self.seed, self.sensor = tile, guard, seed, sensor
        self.nodata, self.band_first = nodata, band_first

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Scene name -> file.

        Raises:
            SceneError: nothing readable in the folder, a file that is damaged, or a name that rows and pages cannot hold.
        """
        root = data_root(self.root)
        below = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*"))}
        found = {name: path for name, path in below.items() if path.is_file()}
        images = [path for name, path in below.items() if path.is_dir() and "/." not in f"/{name}" and is_cube(path)]
        paths = {
            name: path
            for name, path in below.items()
            if (path in images or (name in found and path.suffix.lower() in READERS and path.parent not in images))
            and fnmatch(name, self.pattern) and "/." not in f"/{name}" and "__MACOSX" not in path.parts  # of unpacked archives
        }
        if not paths:
            raise SceneError(
                f"folder '{root}': none of {len(found)} files is a readable cube matching '{self.pattern}'. Readable "
                f"suffixes: {', '.join(READERS)}. Name another folder in HSFUSION_DATA (or the option 'root'), or "
                "change the option 'pattern'."
            )
        for name in paths:
            if name != name.encode(errors="replace").decode():
                raise SceneError(f"folder '{root}': the file name {name!a} is not UTF-8, as rows are; rename the file")
        bands = {name: count for name, path in paths.items() if (count := _once(_bands, path, self.band_first)) > 1}
        cubes = {name: paths[name] for name in bands}
        copies = _copies(cubes, self.nodata, self.band_first)
        scenes = {name: path for name, path in cubes.items() if name not in copies}
        if not scenes:
            raise SceneError(f"folder '{root}': none of {len(paths)} files ({', '.join(paths)}) holds a cube of two bands or "
                             "more; put cubes there, or change the option 'pattern'")
        return scenes

    def entries(self, split: str) -> list[str]:
        """The entries of a split; those to train on are asked for where a network is trained.

        Raises:
            SceneError: no such split, or it is empty; scenes of different numbers of bands to train on.
        """
        if split in ("train", "val"):
            bands = {name: _once(cube_shape, path, self.band_first)[0] for name, path in self.paths.items()}
            first = next(iter(bands))
            # Cubes of AVIRIS are cut to the same 172 bands, whichever of its 224 they hold.
            others = (name for name, n in bands.items() if n != bands[first] and min(n, bands[first]) < len(KEPT_172))
            other = next(others, None)
            if other:
                raise SceneError(
                    f"folder '{data_root(self.root)}': {other} has {bands[other]} bands, {first} {bands[first]}: a network is "
                    "trained and scored on scenes of one number of bands. Choose them by the option 'pattern'."
                )
        return super().entries(split)

    def splits(self) -> dict[str, list[str]]:
        """Scenes or blocks, dealt by the hash of their names; blocks scene by scene.

        Raises:
            SceneError: fewer than three scenes, or fewer than three blocks in a scene.
        """
        if self.split_by == "scene":
            if len(self.paths) < 3:
                raise SceneError(
                    f"folder '{data_root(self.root)}': {len(self.paths)} cubes ({', '.join(self.paths)}); a split by "
                    "scene needs three at least. Add cubes, or choose split_by=blocks."
                )
            return deal(list(self.paths), self.seed)
        splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for name, path in self.paths.items():
            there = _once(_there, path, self.nodata, self.band_first)
            size, entries = there.shape, blocks(name, there.shape, self.tile, self.guard)
            windows = {entry: split_entry(entry)[1] for entry in entries}
            empty = [entry for entry, window in windows.items() if window and there[window].mean() < _LEAST_SEEN]
            entries, said = [entry for entry in entries if entry not in empty], ""
            if empty:
                tell(f"{path}: {len(empty)} of {len(windows)} blocks hold data in less than half of their pixels and "
                     "are not dealt")
                said = f" that hold data in half of their pixels, of {len(windows)}"
            if len(entries) < 3:
                raise SceneError(
                    f"{path}: {size[0]} x {size[1]} pixels give {len(entries)} blocks of {self.tile} pixels, "
                    f"{self.guard} apart{said}; three are needed. Choose a smaller tile or guard, or split_by=scene."
                )
            for split, members in deal(entries, self.seed).items():
                splits[split] += members
        return splits

    def digest(self) -> str:
        """From names, sizes and bytes of the files, the splits, and sensor, no-data and order of axes where they are given."""
        files = [
            [name, file.name, file.stat().st_size, _once(file_digest, file)]
            for name, path in self.paths.items()
            for file in cube_files(path)
        ]
        given = [*([self.sensor] if self.sensor else []), *([["nodata", self.nodata]] if self.nodata is not None else []),
                 *(["band_first"] if self.band_first else [])]
        return content_digest([files, self.splits(), *given])

    def read(self, base: str) -> Scene:
        """The scene of one file.

        Raises:
            SceneError: unknown name or unusable file.
        """
        if base not in self.paths:
            raise SceneError(f"folder '{data_root(self.root)}' has no scene '{base}'; choices: {', '.join(self.paths)}")
        cube, words = read_cube(self.paths[base], self.sensor, self.nodata, self.band_first)
        known = {key: words[key] for key in ("band_numbers", "units", "valid") if key in words}
        return Scene.from_native(base, cube, words["wavelengths"], **known)

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        """Four scenes of 28 x 40 pixels in three formats; the readers' own tests hold the others."""
        rng = np.random.default_rng(0)
        cubes = rng.integers(-20, 4000, (4, 28, 40, 3)).astype(np.int16)
        np.savez(folder / "a.npz", cube=cubes[0], wavelength_nm=[450, 550, 650])
        np.savez_compressed(folder / "b.npz", image=cubes[1], wavelengths=[0.45, 0.55, 0.65])
        np.save(folder / "c.npy", cubes[2])
        (folder / "c.wavelengths.csv").write_text("450\n550\n650\n")
        (folder / "d.raw").write_bytes(cubes[3].astype("<i2").tobytes())
        (folder / "d.hdr").write_text(
            "ENVI\nsamples = 40\nlines = 28\nbands = 3\ndata type = 2\ninterleave = bip\nbyte order = 0\n"
            "wavelength = {450, 550, 650}\n"
        )
        names = ("a.npz", "b.npz", "c.npy", "d.hdr")
        by_scene = partial(cls, root=str(folder))
        by_blocks = partial(cls, root=str(folder), split_by="blocks", tile=8, guard=4)
        return Miniature((by_scene, by_blocks), dict(zip(names, cubes.transpose(0, 3, 1, 2))))


# ---------------------------------------------------------------------------------------------- what counts as a scene


def _bands(path: Path, band_first: bool) -> int:
    """How many bands the cube in a file has; 0, and told, where it is sound and holds none."""
    try:
        bands = cube_shape(path, band_first)[0]
    except NoCubeError as error:
        tell(f"left out, for it is no scene: {error}")
        return 0
    if bands < 2:
        tell(f"left out, for it is no scene: {path}: one band")
    return bands


def _copies(paths: dict[str, Path], nodata: float | None, band_first: bool) -> set[str]:
    """Names of files that are links to others, have their bytes, or their values in another format.

    One scene must not be trained on and tested. Only files of one size are hashed, and only cubes of one size that have
    different suffixes are read.
    """
    sizes, shapes = dict[int, list[str]](), dict[tuple[int, ...], list[str]]()
    for name, path in paths.items():
        if path.is_file():
            sizes.setdefault(_values(path).stat().st_size, []).append(name)
    copies = _same(paths, sizes.values(), lambda path: _once(file_digest, _values(path)))
    for name in (name for name in paths if name not in copies):
        shapes.setdefault(_once(cube_shape, paths[name], band_first), []).append(name)
    mixed = [names for names in shapes.values() if len({paths[name].suffix.lower() for name in names}) > 1]
    return copies | _same(paths, mixed, lambda path: _once(_digest_of_values, path, nodata, band_first))


def _same(paths: dict[str, Path], groups: Iterable[list[str]], digest: Callable[[Path], str]) -> set[str]:
    """Names in groups of names whose digest is that of one before them, which is told."""
    copies: set[str] = set()
    for names in (names for names in groups if len(names) > 1):
        first: dict[str, str] = {}
        for name in names:
            found = digest(paths[name])
            if found in first:
                tell(f"left out, for its values are those of {paths[first[found]]}: {paths[name]}")
                copies.add(name)
            first.setdefault(found, name)
    return copies


def _digest_of_values(path: Path, nodata: float | None, band_first: bool) -> str:
    cube, _ = read_native(path, nodata=nodata, band_first=band_first)
    return content_digest([cube.shape, hashlib.sha256(cube.astype(np.float32).tobytes()).hexdigest()])


def _values(path: Path) -> Path:
    """The file of a cube's values: the raw one of an ENVI header."""
    return cube_files(path)[1 if path.suffix.lower() == ".hdr" else 0]


def _there(path: Path, nodata: float | None, band_first: bool) -> np.ndarray:
    """(H, W) bool: pixels that hold data; one value in all bands is none, whether the file declares it or not."""
    cube, words = read_native(path, nodata=nodata, band_first=band_first)
    flat = (cube == cube[:1]).all(0) if len(cube) > 2 else np.zeros(cube.shape[1:], dtype=bool)
    return words.get("valid", ~flat) & ~flat


# ------------------------------------------------------------------------------------------- files looked into once

_T = TypeVar("_T")


def _once(look: Callable[..., _T], path: Path, *told: Any) -> _T:
    """What ``look(path, *told)`` tells of a file, looked up once a process unless the file changes."""
    stat = path.stat()
    if time.time_ns() - stat.st_mtime_ns < 20e6:  # another change within the clock tick would leave the same times
        return look(path, *told)
    return _looked_up(look, path, told, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@cache
def _looked_up(look: Callable[..., _T], path: Path, told: tuple[Any, ...], *_: int) -> _T:
    return look(path, *told)
