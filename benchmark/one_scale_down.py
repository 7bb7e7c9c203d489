"""A pair of one's own as something to train on: Wald's protocol, one scale down.

The LR-HSI becomes the reference, decimated by the pair's ratio the LR-HSI, and the decimated HR-MSI, now on the grid of the
LR-HSI, the HR-MSI. Since the MSI itself is decimated no spectral response is needed.

    data = Reduced(pair, told, crop=32)
    study = PairStudy(..., protocol=protocol_of(pair, told), data_of_pair=data)

A block in a corner is held out. Training never sees it: a guard band as wide as the PSF reaches lies around it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor
from torch.nn import functional as F

from benchmark.pair import Pair
from benchmark.plan import Study
from benchmark.protocol import CLEAN, Observation, Protocol, Scenario, blur_decimate
from benchmark.told import margin_of
from datasets import Scene, SceneError
from datasets.scene import Dataset, split_entry
from datasets.splitting import content_digest
from methods.estimation import Responses
from methods.responses import Told

SHARE = 0.3  # of the smaller side of the image: side of the block that is held out
LARGEST = 256  # its largest side in pixels
LEAST = 2  # LR pixels along a side of a crop, and of the block that is held out
BOUNDARY = "replicate"


@dataclass(frozen=True)
class OneScaleDown(Protocol):
    """What fusion sees is what came with the scene, on the scale of the pair; ``srf`` is told as it is, row sums and all."""

    def look(self, scene: Scene, msi_bands: int, scenario: Scenario = CLEAN) -> tuple[Scene, Observation]:
        """The scene as it is, and its own LR-HSI and HR-MSI."""
        lr_hsi, hr_msi = self._given(scene, msi_bands, scenario)
        told = Told(self.psf, self.response(scene.wavelengths, msi_bands), self.phase)
        return scene, Observation(lr_hsi, hr_msi, told, None, scene.valid)

    def reference(self, scene: Scene) -> Scene:
        """The scene as it is."""
        return scene

    def response(self, wavelengths: np.ndarray, msi_bands: int, shift_nm: float = 0.0) -> Tensor:
        """(msi_bands, bands) float32: what methods are told."""
        return torch.tensor(self.srf, dtype=torch.float32)

    def describe(self) -> str:
        """The protocol in one sentence."""
        return (f"Wald's protocol one scale down ({self.digest}): both images of a pair decimated by its ratio {self.ratio}, "
                f"PSF on {self.psf_support}x{self.psf_support}, phase {self.phase}; the LR-HSI is the reference")


@dataclass(frozen=True, eq=False)
class PairStudy(Study):
    """A study on a data set that has no name in the registry, since it is made of a pair in memory."""

    data_of_pair: Dataset | None = None

    @cached_property
    def data(self) -> Dataset:
        """The reduced pair."""
        assert self.data_of_pair is not None
        return self.data_of_pair


def protocol_of(pair: Pair, told: Responses) -> OneScaleDown:
    """The degradation of a pair by the responses that are told of it; rounded, so that rounding errors make no other key."""
    psf, srf = (tuple(tuple(round(value, 7) for value in row) for row in matrix.double().tolist())
                for matrix in (odd(told.psf[0]), told.srf[0]))
    return OneScaleDown("one-scale-down", bands="all", hr_size=max(pair.lr_hsi.shape[1:]), clip_negative=False,
                        ratio=pair.ratio, psf_support=len(psf), psf_matrix=psf, boundary=BOUNDARY, phase=told.phase, srf=srf,
                        use_given=True)


def odd(psf: Tensor) -> Tensor:
    """A PSF (k, k) whose centre is at ((k - 1) // 2, (k - 1) // 2) as one of odd side, centred."""
    return psf if len(psf) % 2 else F.pad(psf, (1, 0, 1, 0))


class Reduced(Dataset):
    """The reduced pair as a data set.

    Of its splits ``train`` are rectangles of true data, ``val`` is the block held out, and ``held-out`` the whole image, of
    which that block alone is measured. Validation sees the block alone, as in every training; a method is scored where it sees
    the whole image, as it will when it fuses the pair.

    Args:
        pair: the images; what exceeds a multiple of the ratio is cut off its LR-HSI.
        told: by which they are decimated.
        crop: side in pixels of the crops that a training takes, a multiple of the ratio; 0: nothing is trained.
        less_offset: take the offset that was estimated off the HR-MSI, as fusion does for methods that are told responses.

    Raises:
        SceneError: no block and no crop of this side fit into what holds data.
    """

    def __init__(self, pair: Pair, told: Responses, crop: int = 0, less_offset: bool = False) -> None:
        self.name, self.pair, self.told, self.less_offset = pair.name, pair, told, less_offset
        self.cells = with_data(pair, odd(told.psf[0]).float(), told.phase)
        self.guard = guard_of(odd(told.psf[0]), pair.ratio, told.phase)
        self.block = self._held_out()
        top, left, side = self.block
        rows, cols = (slice(max(0, first - self.guard), first + side + self.guard) for first in (top, left))
        self.free = self.cells.copy()
        self.free[rows, cols] = False
        if not places(self.free, LEAST).any():
            raise self._too_small()
        self.crop_side = crop // pair.ratio
        if crop and not places(self.free, self.crop_side).any():
            raise SceneError(f"--crop {crop}: on the {self._size} LR-HSI, beside the block that is held out, crops of "
                             f"{self.largest_crop} pixels at most fit; choose one up to it, a multiple of the "
                             f"ratio {pair.ratio}")

    @property
    def largest_crop(self) -> int:
        """Side in pixels of the largest crop that fits, :data:`LARGEST` at most."""
        sides = range(LEAST, min(LARGEST // self.pair.ratio, *self.free.shape) + 1)
        return self.pair.ratio * max((side for side in sides if places(self.free, side).any()), default=LEAST)

    def default_crop(self, most: int) -> int:
        """Side in pixels of crops that leaves some choice of where they lie, ``most`` at most."""
        ratio = self.pair.ratio
        return ratio * max(LEAST, min(most // ratio, self.largest_crop // ratio * 2 // 3))

    def splits(self) -> dict[str, list[str]]:
        """Whole LR pixels, in pixels of the reference."""
        return self._splits

    @cached_property
    def _splits(self) -> dict[str, list[str]]:
        top, left, side = self.block
        found = rectangles(self.free, self.crop_side) if self.crop_side else []
        return {"train": [self._entry(*each) for each in found], "val": [self._entry(top, top + side, left, left + side)],
                "test": [], "held-out": [self.name]}

    def digest(self) -> str:
        """From the values of both images, which pixels hold data, and the splits."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        images = [hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in (self.pair.lr_hsi,
                                                                                                self.pair.hr_msi)]
        return content_digest([images, self.pair.hsi_max, self.less_offset, np.packbits(self.cells).tobytes().hex(),
                               self.splits()])

    def read(self, base: str) -> Scene:
        """The whole reduced image; ``valid`` is the block that is held out."""
        pair, ratio = self.pair, self.pair.ratio
        psf, phase = odd(self.told.psf[0]).float(), self.told.phase
        height, width = (n * ratio for n in self.cells.shape)
        cube = pair.lr_hsi[:, :height, :width]
        msi = blur_decimate(pair.hr_msi[:, : height * ratio, : width * ratio], psf, ratio, phase, BOUNDARY)
        if self.less_offset:
            msi = msi - self.told.offset[0, :, None, None].float()
        given = {"lrhsi": blur_decimate(cube, psf, ratio, phase, BOUNDARY), f"hrmsi{len(msi)}": msi}
        top, left, side = (ratio * n for n in self.block)
        block = torch.zeros(height, width, dtype=torch.bool)
        block[top : top + side, left : left + side] = True
        return Scene(base, cube, pair.wavelengths, 0.0, pair.hsi_max, flight=base, given=given, valid=block)

    def scene(self, entry: str) -> Scene:
        """The whole image, or a window of it with its own LR-HSI and HR-MSI."""
        base, window = split_entry(entry)
        whole, ratio = self._whole, self.pair.ratio
        if window is None:
            return whole.copy()
        coarse = tuple(slice(each.start // ratio, each.stop // ratio) for each in window)
        given = {key: image[:, *(coarse if key == "lrhsi" else window)].clone() for key, image in whole.given.items()}
        return Scene(entry, whole.cube[:, *window].clone(), whole.wavelengths, 0.0, whole.native_max, flight=base, given=given)

    @cached_property
    def _whole(self) -> Scene:
        return self.read(self.name)

    def _held_out(self) -> tuple[int, int, int]:
        """First row, first column and side in LR pixels: as large and as far down and right as data allow."""
        side = min(max(LEAST, round(SHARE * min(self.cells.shape))), max(LEAST, LARGEST // self.pair.ratio))
        while side >= LEAST:
            fits = np.argwhere(places(self.cells, side))
            if len(fits):
                top, left = fits[fits.sum(1).argmax()].tolist()
                return top, left, side
            side -= 1
        raise self._too_small()

    def _too_small(self) -> SceneError:
        ratio = self.pair.ratio
        held = "" if self.pair.valid is None else ", all of them with data"
        return SceneError(f"an LR-HSI of {self._size} pixels is too small to train on one scale down at ratio {ratio}: "
                          f"{(2 * LEAST + self.guard) * ratio}x{LEAST * ratio} pixels or more are needed{held}, for a crop, a "
                          "block that is held out and a guard band as wide as the PSF reaches. Give a larger pair; train on a "
                          "larger one of the same sensors and take weights=FILE; or take a method that is not trained")

    @property
    def _size(self) -> str:
        return "x".join(map(str, self.pair.lr_hsi.shape[1:]))

    def _entry(self, *cells: int) -> str:
        r0, r1, c0, c1 = (self.pair.ratio * n for n in cells)
        return f"{self.name}[{r0}:{r1},{c0}:{c1}]"


def with_data(pair: Pair, psf: Tensor, phase: int) -> np.ndarray:
    """(h / ratio, w / ratio) bool: reduced LR pixels all of whose pixels, at every scale, are made of data alone."""
    ratio = pair.ratio
    height, width = (n // ratio for n in pair.lr_hsi.shape[1:])
    if pair.valid is None or min(height, width) < 1:
        return np.ones((height, width), dtype=bool)
    footprint = (psf.abs() > 0.01 * psf.abs().max()).float()
    hidden = (~pair.valid[: height * ratio**2, : width * ratio**2]).float()[None]
    for _ in range(2):  # the LR-HSI's own pixels and the decimated MSI's; then the reduced ones
        seen = blur_decimate(hidden, footprint, ratio, phase, BOUNDARY)
        hidden = ((seen > 0.5) | (F.max_pool2d(hidden, ratio) > 0)).float()
    return (hidden[0] < 0.5).numpy()


def guard_of(psf: Tensor, ratio: int, phase: int) -> int:
    """How many LR pixels the PSF of an LR pixel reaches into, beside its own: weights under 1 % of the largest are none."""
    reach = len(psf) // 2 - margin_of(psf.numpy())
    return max(1, math.ceil(max(reach - phase, reach - (ratio - 1 - phase)) / ratio))


def places(free: np.ndarray, side: int) -> np.ndarray:
    """(h - side + 1, w - side + 1) bool: at which first rows and columns a square is free throughout; empty if none fits."""
    if side < 1 or side > min(free.shape):
        return np.zeros((0, 0), dtype=bool)
    rows = sliding_window_view(free, side, axis=0).all(-1)
    return np.asarray(sliding_window_view(rows, side, axis=1).all(-1))


def rectangles(free: np.ndarray, side: int) -> list[tuple[int, int, int, int]]:
    """Rectangles ``(r0, r1, c0, c1)`` that are free throughout, such that every free square of ``side`` lies in one of them."""
    fits, found = places(free, side), []
    begun: dict[tuple[int, int], int] = {}  # columns -> the first row that they are free from
    for row in range(len(fits) + 1):
        edges = np.flatnonzero(np.diff(np.pad(fits[row].astype(int), 1))) if row < len(fits) else np.array([], dtype=int)
        runs = {(int(first), int(last) + side - 1) for first, last in edges.reshape(-1, 2)}
        for run in sorted(begun.keys() - runs):
            found.append((begun.pop(run), row - 1 + side, *run))
        for run in runs:
            begun.setdefault(run, row)
    return sorted(found)
