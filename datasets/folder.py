"""Real cubes from a folder: whatever files the readers understand, split by whole scene or by spatial blocks."""

from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

from datasets.io import READERS, cube_files, cube_size, data_root, read_cube
from datasets.scene import Dataset, Scene, SceneError, register
from datasets.splitting import blocks, content_digest, deal, file_digest

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
    """

    def __init__(
        self,
        root: str | None = None,
        pattern: str = "*",
        split_by: str = "scene",
        tile: int = 32,
        guard: int = 8,
        seed: int = 0,
    ) -> None:
        if split_by not in _SPLIT_BY:
            raise SceneError(f"split_by '{split_by}'; choices: {', '.join(_SPLIT_BY)}")
        self.root, self.pattern, self.split_by = root, pattern, split_by
        self.tile, self.guard, self.seed = tile, guard, seed

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Scene name -> file.

        Raises:
            SceneError: nothing readable in the folder.
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
            size = cube_size(path)
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
        """From names, sizes and bytes of the files, and the splits."""
        files = [
            [name, file.name, file.stat().st_size, file_digest(file)]
            for name, path in self.paths.items()
            for file in cube_files(path)
        ]
        return content_digest([files, self.splits()])

    def read(self, base: str) -> Scene:
        """The scene of one file.

        Raises:
            SceneError: unknown name or unusable file.
        """
        if base not in self.paths:
            raise SceneError(f"folder '{data_root(self.root)}' has no scene '{base}'; choices: {', '.join(self.paths)}")
        cube, words = read_cube(self.paths[base])
        known = {key: words[key] for key in ("band_numbers", "units") if key in words}
        return Scene.from_native(base, cube, words["wavelengths"], **known)
