"""How scenes and windows are dealt to splits, and the digests of what was dealt.

Neighbouring pixels of one acquisition tell each other: whatever is held out is a whole scene, a whole flight line or
a spatial block behind a guard band, never a tile from among the training tiles.
"""

import hashlib
import json
from pathlib import Path

from datasets.scene import SceneError

HELD_OUT = 0.15  # share of validation, and again of test


def deal(keys: list[str], seed: int = 0) -> dict[str, list[str]]:
    """Deal keys to train, val and test (70, 15, 15 %, at least one each) by the hash of their names.

    Raises:
        SceneError: fewer than three keys.
    """
    if len(keys) < 3:
        raise SceneError(f"{len(keys)} pieces ({', '.join(keys)}) cannot fill train, val and test; three are needed")
    ranked = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).digest())
    held = max(1, round(HELD_OUT * len(keys)))
    dealt = {"train": ranked[2 * held :], "val": ranked[:held], "test": ranked[held : 2 * held]}
    return {split: sorted(members) for split, members in dealt.items()}


def blocks(name: str, size: tuple[int, int], tile: int, guard: int) -> list[str]:
    """Windows of a scene that are at least ``guard`` pixels apart, as entries ``name[r0:r1,c0:c1]``.

    The windows lie on a regular grid, with a guard band around every one of them; pixels of the guard bands are used
    by no split. So any way of dealing the windows to splits keeps the splits apart.

    Args:
        name: the scene.
        size: (H, W) in pixels.
        tile: side of the square windows in pixels; a multiple of the resolution ratio.
        guard: width of the band between windows in pixels; at least the support of the PSF.

    Raises:
        SceneError: ``tile`` or ``guard`` out of range.
    """
    check_blocks(tile, guard)
    tops, lefts = (range(0, side - tile + 1, tile + guard) for side in size)
    return [f"{name}[{r}:{r + tile},{c}:{c + tile}]" for r in tops for c in lefts]


def check_blocks(tile: int, guard: int) -> None:
    """Refuse sides of blocks and widths of guard bands that are none.

    Raises:
        SceneError: ``tile`` or ``guard`` out of range.
    """
    if tile < 1:
        raise SceneError(f"tile {tile}; a block has at least 1 pixel a side")
    if guard < 0:
        raise SceneError(f"guard {guard}; a guard band has at least 0 pixels")


def read_list(path: Path) -> list[str]:
    """The lines of a list file, without blank lines and ``#`` comments.

    Raises:
        SceneError: no such file.
    """
    if not path.is_file():
        raise SceneError(f"{path}: this list file is missing; it holds one entry a line")
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def content_digest(content: object) -> str:
    """Hex sha256 of the canonical JSON of a value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
