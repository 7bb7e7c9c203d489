"""Real cubes from a folder: whatever files the readers understand, split by whole scene or by spatial blocks."""

import time
from collections.abc import Callable
from fnmatch import fnmatch
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from datasets.io import READERS, SENSORS, cube_files, cube_size, data_root, read_cube
from datasets.scene import Dataset, Miniature, Scene, SceneError, near, register
from datasets.splitting import blocks, check_blocks, content_digest, deal, file_digest

_SPLIT_BY = ("scene", "blocks")


@register("folder")
class Folder(Dataset):
    """The cubes below a folder, hidden ones left out. A scene is named by its path below the folder.

    Args:
        root: the folder; HSFUSION_DATA if not given.
        pattern: shell pattern that paths below the folder must match, such as ``*.mat`` or ``pavia/*``.
        split_by: ``scene`` (whole files to train, val and test; three at least) or ``blocks`` (windows of each file).
        tile: side of the blocks in pixels, a multiple of the resolution ratio.
        guard: width in pixels of the unused band between blocks.
        seed: another seed deals scenes or blocks to the splits in another way.
        sensor: ``aviris``: cubes of 224 bands that come without wavelengths have those of AVIRIS.
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
    ) -> None:
        for option, value, choices in (("split_by", split_by, _SPLIT_BY), ("sensor", sensor, ("", *SENSORS))):
            if value not in choices:
                said = ", ".join(filter(None, choices))
                raise SceneError(f"dataset 'folder': {option} '{value}'; choices: {said}.{near(value, choices)}")
        check_blocks(tile, guard)
        self.root, self.pattern, self.split_by = root, pattern, split_by
        self.tile, self.guard, self.seed, self.sensor = tile, guard, seed, sensor

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Scene name -> file.

        Raises:
            SceneError: nothing readable in the folder, or a name that rows and pages cannot hold.
        """
        root = data_root(self.root)
        found = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
        paths = {
            name: path
            for name, path in found.items()
            if path.suffix.lower() in READERS and fnmatch(name, self.pattern) and "/." not in f"/{name}"
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
        return paths

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
            size = _once(cube_size, path)
            entries = blocks(name, size, self.tile, self.guard)
            if len(entries) < 3:
                raise SceneError(
                    f"{path}: {size[0]} x {size[1]} pixels give {len(entries)} blocks of {self.tile} pixels, "
                    f"{self.guard} apart; three are needed. Choose a smaller tile or guard, or split_by=scene."
                )
            for split, members in deal(entries, self.seed).items():
                splits[split] += members
        return splits

    def digest(self) -> str:
        """From names, sizes and bytes of the files, the splits, and the sensor if one is named."""
        files = [
            [name, file.name, file.stat().st_size, _once(file_digest, file)]
            for name, path in self.paths.items()
            for file in cube_files(path)
        ]
        return content_digest([files, self.splits(), *([self.sensor] if self.sensor else [])])

    def read(self, base: str) -> Scene:
        """The scene of one file.

        Raises:
            SceneError: unknown name or unusable file.
        """
        if base not in self.paths:
            raise SceneError(f"folder '{data_root(self.root)}' has no scene '{base}'; choices: {', '.join(self.paths)}")
        cube, words = read_cube(self.paths[base], self.sensor)
        known = {key: words[key] for key in ("band_numbers", "units") if key in words}
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


# ------------------------------------------------------------------------------------------- files looked into once

_T = TypeVar("_T")


def _once(look: Callable[[Path], _T], path: Path) -> _T:
    """What ``look`` tells of a file, looked up once a process unless the file changes."""
    stat = path.stat()
    if time.time_ns() - stat.st_mtime_ns < 20e6:  # another change within the clock tick would leave the same times
        return look(path)
    return _looked_up(look, path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@cache
def _looked_up(look: Callable[[Path], _T], path: Path, *_: int) -> _T:
    return look(path)
