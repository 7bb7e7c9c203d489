"""The unit that the house passes around: one high-resolution hyperspectral scene, and the sets of them.

    get("aviris").load("train") -> Scene, Scene, ...

A :class:`Scene` is a cube in [0, 1] with what is needed to go back to its native values. A :class:`Dataset` knows
its scenes by *entry*, a string such as ``abu_urban_4`` or ``abu_urban_4[0:64,0:96]`` (rows, columns), and its splits
as lists of entries. Datasets register themselves by name; ``datasets/__init__.py`` is the one list of them.
"""

from __future__ import annotations

import difflib
import inspect
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, NamedTuple, TypeVar, Union, get_args, get_origin

import numpy as np
import torch
from scipy import ndimage

SPLITS = ("train", "val", "test")  # what every dataset has; a dataset may name further held-out splits
KEPT_BYTES = 512 * 2**20  # of whole scenes that a dataset keeps to cut windows from


class SceneError(ValueError):
    """Data that cannot be used: names the value, the choices and the remedy."""


@dataclass(frozen=True)
class Scene:
    """A high-resolution hyperspectral image (HR-HSI).

    Args:
        name: identifies the scene in rows and seeds.
        cube: (bands, H, W) float32 in [0, 1].
        wavelengths: (bands,) band centres in nanometres, float64; not necessarily monotone.
        native_min: native value (radiance, reflectance, DN) of 0 in ``cube``.
        native_max: native value of 1 in ``cube``.
        band_numbers: (bands,) instrument band numbers, 1-based, 0 where unknown; empty where they mean nothing.
        units: what the native values are, in words.
        flight: acquisition the scene belongs to; scenes of one flight are never independent.
        given: observations that came with the scene, each (bands, h, w) in [0, 1], by name (``lrhsi``, ``hrmsi4``).
        valid: (H, W) bool, False where there is no data and ``cube`` holds the nearest spectrum there is; None: all valid.
    """

    name: str
    cube: torch.Tensor
    wavelengths: np.ndarray
    native_min: float
    native_max: float
    band_numbers: tuple[int, ...] = ()
    units: str = "unknown"
    flight: str = "unknown"
    given: Mapping[str, torch.Tensor] = field(default_factory=dict)
    valid: torch.Tensor | None = None

    @classmethod
    def from_native(cls, name: str, cube: np.ndarray, wavelengths: np.ndarray, valid: np.ndarray | None = None,
                    **words: Any) -> Scene:
        """Check a native cube and map it to [0, 1] by its own extrema.

        Args:
            name: scene name, used in error messages.
            cube: (bands, H, W), any real dtype.
            wavelengths: (bands,) nanometres.
            valid: (H, W) bool, where there is data; None: everywhere.
            **words: ``band_numbers``, ``units``, ``flight``, ``given`` as in the class.

        Raises:
            SceneError: not three-dimensional, not finite, constant, or wavelengths that do not fit the bands.
        """
        if cube.ndim != 3 or min(cube.shape) < 1:
            raise SceneError(f"scene '{name}': shape {cube.shape}; a cube is (bands, rows, columns)")
        native = torch.from_numpy(np.ascontiguousarray(filled(cube, valid), dtype=np.float64))
        finite = torch.isfinite(native)
        if not finite.all():
            band, row, col = (~finite).nonzero()[0].tolist()
            raise SceneError(
                f"scene '{name}': {int((~finite).sum())} of {native.numel()} values are NaN or infinite, the first "
                f"at band {band}, row {row}, column {col} (0-based). Fill or cut them out before benchmarking; "
                "a filled value takes part in every score."
            )
        if len(wavelengths) != cube.shape[0]:
            raise SceneError(f"scene '{name}': {len(wavelengths)} wavelengths for {cube.shape[0]} bands")
        low, high = native.min().item(), native.max().item()
        if high <= low:
            raise SceneError(f"scene '{name}': constant (every value is {low:g}); there is nothing to fuse")
        unit = ((native - low) / (high - low)).float()
        mask = None if valid is None or valid.all() else torch.from_numpy(np.array(valid, dtype=bool))
        return cls(name, unit, np.asarray(wavelengths, dtype=np.float64), low, high, valid=mask, **words)

    @property
    def bands(self) -> int:
        """Number of spectral bands."""
        return self.cube.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.cube.shape[1], self.cube.shape[2]

    @property
    def nbytes(self) -> int:
        """Memory of the images."""
        return self.cube.nbytes + sum(image.nbytes for image in self.given.values())

    def copy(self) -> Scene:
        """The same scene in memory of its own."""
        given = {name: image.clone() for name, image in self.given.items()}
        valid = None if self.valid is None else self.valid.clone()
        return replace(self, cube=self.cube.clone(), wavelengths=self.wavelengths.copy(), given=given, valid=valid)

    def crop(self, rows: slice, cols: slice) -> Scene:
        """The pixels of a window, on the scale of the whole scene (see :meth:`rescaled`)."""
        return replace(self, cube=self.cube[:, rows, cols], valid=None if self.valid is None else self.valid[rows, cols])

    @property
    def seen(self) -> torch.Tensor:
        """(bands, H, W), or (bands, n): the values of the pixels that hold data."""
        return self.cube if self.valid is None else self.cube[:, self.valid]

    def select(self, indices: np.ndarray) -> Scene:
        """The given bands (0-based), in the given order, on the scale of the whole scene."""
        indices = np.asarray(indices)
        numbers = tuple(self.band_numbers[i] for i in indices) if self.band_numbers else ()
        return replace(self, cube=self.cube[indices], wavelengths=self.wavelengths[indices], band_numbers=numbers)

    def rescaled(self) -> Scene:
        """The same scene with [0, 1] spanned by its own extrema, the native limits moved along.

        Raises:
            SceneError: the cube is constant, or no pixel of it holds data.
        """
        if not self.seen.numel():
            raise SceneError(f"scene '{self.name}': no pixel of this window holds data; choose another window")
        low, high = self.seen.min().item(), self.seen.max().item()
        if high <= low:
            raise SceneError(f"scene '{self.name}': constant after selection; choose another window or other bands")
        span = self.native_max - self.native_min
        unit = (self.cube - low) / (high - low)
        return replace(
            self,
            cube=unit if self.valid is None else unit.clamp(0, 1),  # what fills a gap may come from outside of the window
            native_min=self.native_min + low * span,
            native_max=self.native_min + high * span,
        )


def filled(cube: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """(bands, H, W) with the nearest valid spectrum where ``valid`` (H, W) is False, so that nothing is estimated from fill."""
    if valid is None or valid.all() or not valid.any():
        return cube
    rows, cols = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    cube = cube.copy()
    cube[:, ~valid] = cube[:, rows[~valid], cols[~valid]]
    return cube


_WINDOW = re.compile(r"^(?P<base>.+?)\[(\d+):(\d+),(\d+):(\d+)\]$")


def split_entry(entry: str) -> tuple[str, tuple[slice, slice] | None]:
    """``"name[r0:r1,c0:c1]"`` -> (``"name"``, (rows, columns)); a bare name has no window."""
    match = _WINDOW.match(entry)
    if not match:
        return entry, None
    r0, r1, c0, c1 = (int(x) for x in match.groups()[1:])
    return match["base"], (slice(r0, r1), slice(c0, c1))


class Miniature(NamedTuple):
    """A data set's layout with a few small scenes, as the contract test reads it.

    Args:
        builds: ways to build the dataset over it, such as one for each way to deal scenes to splits.
        native: (bands, H, W) native values by base name, as far as something else than the dataset knows them.
    """

    builds: tuple[Callable[[], Dataset], ...]
    native: Mapping[str, np.ndarray] = {}


class Dataset(ABC):
    """A named set of scenes with fixed splits. Building one reads no cube, so plans are made without data.

    Its options are the arguments of its constructor; annotate them with ``str``, ``int``, ``float`` or ``bool`` (or
    such a type ``| None``), and :func:`get` makes them from the words of a command line.

    A split named ``test...`` shares no flight with ``train`` unless its name says ``same-flight``.
    """

    name: str
    planned_without_data: ClassVar[bool] = False  # whether splits and digest need none of the files

    @abstractmethod
    def splits(self) -> dict[str, list[str]]:
        """Split name -> entries. At least the keys of :data:`SPLITS`; each list may be empty but for the ones used."""

    @abstractmethod
    def digest(self) -> str:
        """Hex digest of what decides the pixels (files or generator settings) and the splits."""

    @abstractmethod
    def read(self, base: str) -> Scene:
        """The whole scene behind an entry's name."""

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        """Write the layout with a few small scenes below an empty folder; nothing where no file is read."""
        raise NotImplementedError(f"dataset '{cls.name}' declares no miniature, so the contract test cannot read it")

    @cached_property
    def _kept(self) -> dict[str, Scene]:
        """Whole scenes by base, the one asked for last at the end; what is kept is never handed out."""
        return {}

    def scene(self, entry: str) -> Scene:
        """The scene of one entry, cut to its window and named by the entry; the caller may change it in place.

        A base is read once for all its windows as long as :data:`KEPT_BYTES` hold it, or it is the last one.

        Raises:
            SceneError: the scene cannot be read, or the window leaves it.
        """
        base, window = split_entry(entry)
        whole = self._kept.pop(base, None) or self.read(base)
        if window is None and whole.nbytes > KEPT_BYTES:
            return whole  # it is not kept: no copy of gigabytes is needed
        self._kept[base] = whole
        while len(self._kept) > 1 and sum(scene.nbytes for scene in self._kept.values()) > KEPT_BYTES:
            del self._kept[next(iter(self._kept))]
        if window is None:
            return whole.copy()
        if window[0].stop > whole.size[0] or window[1].stop > whole.size[1]:
            raise SceneError(f"entry '{entry}': the window leaves scene '{base}' of {whole.size} pixels")
        return replace(whole.crop(*window), name=entry).copy()

    def entries(self, split: str) -> list[str]:
        """The entries of a split.

        Raises:
            SceneError: no such split, or it is empty.
        """
        splits = self.splits()
        if not splits.get(split):
            filled = [name for name, entries in splits.items() if entries]
            raise SceneError(f"dataset '{self.name}' has no scenes in split '{split}'; splits with scenes: {filled}")
        return splits[split]

    def load(self, split: str) -> Iterator[Scene]:
        """The scenes of a split, one at a time."""
        for entry in self.entries(split):
            yield self.scene(entry)


# --------------------------------------------------------------------------------------------------- datasets by name

D = TypeVar("D", bound=Dataset)
_DATASETS: dict[str, type[Dataset]] = {}


def register(name: str) -> Callable[[type[D]], type[D]]:
    """Class decorator: make a dataset available by name; its constructor arguments are its options."""

    def add(cls: type[D]) -> type[D]:
        if name in _DATASETS:
            raise ValueError(f"dataset '{name}' is registered twice")
        cls.name = name
        _DATASETS[name] = cls
        return cls

    return add


def names() -> list[str]:
    """Registered dataset names, sorted."""
    return sorted(_DATASETS)


def near(name: str, choices: Iterable[str]) -> str:
    """`` Did you mean 'x'?``, or nothing where no choice is near."""
    found = difflib.get_close_matches(name, list(choices), n=1)
    return f" Did you mean '{found[0]}'?" if found else ""


def registered(name: str) -> type[Dataset]:
    """The class of a dataset.

    Raises:
        SceneError: unknown name.
    """
    if name not in _DATASETS:
        raise SceneError(f"unknown dataset '{name}'.{near(name, _DATASETS)} Choices: {', '.join(names())}")
    return _DATASETS[name]


def get(name: str, **options: Any) -> Dataset:
    """Build a dataset by name.

    Args:
        name: as registered.
        **options: arguments of its constructor, or their words on a command line (see :class:`Dataset`).

    Raises:
        SceneError: unknown name or option, or a value that is not what an option wants.
    """
    cls = registered(name)
    parameters = inspect.signature(cls, eval_str=True).parameters
    by_name = {key: each for key, each in parameters.items() if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
    values = {}
    for key, value in options.items():
        if key in by_name:
            values[key] = _option(name, by_name[key], value)
        elif any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            values[key] = value
        else:
            choices = ", ".join(by_name) or "none"
            raise SceneError(f"dataset '{name}': unknown option '{key}'.{near(key, by_name)} Choices: {choices}")
    missing = [key for key, each in by_name.items() if each.default is each.empty and key not in values]
    if missing:
        raise SceneError(f"dataset '{name}' needs the options {', '.join(missing)}: give each as NAME=VALUE")
    return cls(**values)


def _option(dataset: str, option: inspect.Parameter, value: Any) -> Any:
    """A value as the option's annotation wants it; as it is where that is no type of :data:`_KINDS`."""
    wanted = option.annotation
    kinds = get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)
    if (value is None and type(None) in kinds) or not set(kinds) <= {*_KINDS, type(None)}:
        return value
    kinds = tuple(kind for kind in kinds if kind in _KINDS)
    for kind in kinds:
        try:
            return _KINDS[kind][1](value)
        except (TypeError, ValueError):
            continue
    words = " or ".join(_KINDS[kind][0] for kind in kinds)
    default = "" if option.default in (None, "", option.empty) else f", such as {option.default}"
    raise SceneError(f"dataset '{dataset}': option {option.name}={value} must be {words}{default}")


def _text(value: Any) -> str:
    return os.fsdecode(value)  # "2019" is a folder, too; a number that was made of it may have lost zeros


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (str, Integral)):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, Real)) or math.isnan(float(value)):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise ValueError
    return str(value).lower() == "true"


_KINDS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    str: ("text", _text),
    int: ("a whole number", _whole),
    float: ("a number", _number),
    bool: ("true or false", _truth),
}
