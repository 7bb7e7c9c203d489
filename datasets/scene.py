"""The unit that the house passes around: one high-resolution hyperspectral scene, and the sets of them.

    get("aviris").load("train") -> Scene, Scene, ...

A :class:`Scene` is a cube in [0, 1] with what is needed to go back to its native values. A :class:`Dataset` knows
its scenes by *entry*, a string such as ``abu_urban_4`` or ``abu_urban_4[0:64,0:96]`` (rows, columns), and its splits
as lists of entries. Datasets register themselves by name; ``datasets/__init__.py`` is the one list of them.
"""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch

SPLITS = ("train", "val", "test")  # what every dataset has; a dataset may name further held-out splits


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

    @classmethod
    def from_native(cls, name: str, cube: np.ndarray, wavelengths: np.ndarray, **words) -> Scene:
        """Check a native cube and map it to [0, 1] by its own extrema.

        Args:
            name: scene name, used in error messages.
            cube: (bands, H, W), any real dtype.
            wavelengths: (bands,) nanometres.
            **words: ``band_numbers``, ``units``, ``flight``, ``given`` as in the class.

        Raises:
            SceneError: not three-dimensional, not finite, constant, or wavelengths that do not fit the bands.
        """
        if cube.ndim != 3 or min(cube.shape) < 1:
            raise SceneError(f"scene '{name}': shape {cube.shape}; a cube is (bands, rows, columns)")
        native = torch.from_numpy(np.ascontiguousarray(cube, dtype=np.float64))
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
        return cls(name, unit, np.asarray(wavelengths, dtype=np.float64), low, high, **words)

    @property
    def bands(self) -> int:
        """Number of spectral bands."""
        return self.cube.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.cube.shape[1], self.cube.shape[2]

    def crop(self, rows: slice, cols: slice) -> Scene:
        """The pixels of a window, on the scale of the whole scene (see :meth:`rescaled`)."""
        return replace(self, cube=self.cube[:, rows, cols])

    def select(self, indices: np.ndarray) -> Scene:
        """The given bands (0-based), in the given order, on the scale of the whole scene."""
        indices = np.asarray(indices)
        numbers = tuple(self.band_numbers[i] for i in indices) if self.band_numbers else ()
        return replace(self, cube=self.cube[indices], wavelengths=self.wavelengths[indices], band_numbers=numbers)

    def rescaled(self) -> Scene:
        """The same scene with [0, 1] spanned by its own extrema, the native limits moved along.

        Raises:
            SceneError: the cube is constant.
        """
        low, high = self.cube.min().item(), self.cube.max().item()
        if high <= low:
            raise SceneError(f"scene '{self.name}': constant after selection; choose another window or other bands")
        span = self.native_max - self.native_min
        return replace(
            self,
            cube=(self.cube - low) / (high - low),
            native_min=self.native_min + low * span,
            native_max=self.native_min + high * span,
        )


_WINDOW = re.compile(r"^(?P<base>.+?)\[(\d+):(\d+),(\d+):(\d+)\]$")


def split_entry(entry: str) -> tuple[str, tuple[slice, slice] | None]:
    """``"name[r0:r1,c0:c1]"`` -> (``"name"``, (rows, columns)); a bare name has no window."""
    match = _WINDOW.match(entry)
    if not match:
        return entry, None
    r0, r1, c0, c1 = (int(x) for x in match.groups()[1:])
    return match["base"], (slice(r0, r1), slice(c0, c1))


class Dataset(ABC):
    """A named set of scenes with fixed splits. Building one reads no cube, so plans are made without data."""

    name: str

    @abstractmethod
    def splits(self) -> dict[str, list[str]]:
        """Split name -> entries. At least the keys of :data:`SPLITS`; each list may be empty but for the ones used."""

    @abstractmethod
    def digest(self) -> str:
        """Hex digest of what decides the pixels (files or generator settings) and the splits."""

    @abstractmethod
    def read(self, base: str) -> Scene:
        """The whole scene behind an entry's name."""

    @lru_cache(maxsize=8)  # noqa: B019 - a dataset lives as long as the program, and jobs ask for the same few scenes
    def scene(self, entry: str) -> Scene:
        """The scene of one entry, cut to its window and named by the entry."""
        base, window = split_entry(entry)
        scene = self.read(base)
        if window is None:
            return scene
        if window[0].stop > scene.size[0] or window[1].stop > scene.size[1]:
            raise SceneError(f"entry '{entry}': the window leaves scene '{base}' of {scene.size} pixels")
        return replace(scene.crop(*window), name=entry)

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


_DATASETS: dict[str, Callable[..., Dataset]] = {}


def register(name: str) -> Callable:
    """Class decorator: make a dataset available by name; its constructor arguments are its options."""

    def add(cls: type[Dataset]) -> type[Dataset]:
        if name in _DATASETS:
            raise ValueError(f"dataset '{name}' is registered twice")
        cls.name = name
        _DATASETS[name] = cls
        return cls

    return add


def names() -> list[str]:
    """Registered dataset names, sorted."""
    return sorted(_DATASETS)


def get(name: str, **options) -> Dataset:
    """Build a dataset by name.

    Raises:
        SceneError: unknown name or option.
    """
    if name not in _DATASETS:
        near = difflib.get_close_matches(name, _DATASETS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise SceneError(f"unknown dataset '{name}'.{hint} Choices: {', '.join(names())}")
    try:
        return _DATASETS[name](**options)
    except TypeError as error:
        raise SceneError(f"dataset '{name}': {error}") from error
