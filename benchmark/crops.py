"""Training batches by number: which image, where, how turned and with which noise follows from (seed, draw) alone.

So a resumed training sees exactly the batches that an unbroken one would have seen. Images that fit into memory are observed
once; of a larger split each crop is observed alone, with as much around it as the PSF sees. Of images with missing data crops
are cut where they see none of it, or as little as can be.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmark.keys import seed
from benchmark.plan import Job, PlanError
from benchmark.protocol import add_noise, apply_response, blur_decimate
from datasets.scene import Scene
from methods.registry import Recipe

CACHE_BYTES = 8 * 2**30  # observed training images kept in memory


class Crops(Dataset):
    """Crops of a training split by draw number, in [0, 1].

    An item holds ``lr_hsi`` (members, bands, crop / ratio, crop / ratio), ``hr_msi`` (msi_bands, crop, crop) and
    ``hr_hsi`` (bands, crop, crop).
    """

    def __init__(self, job: Job, recipe: Recipe) -> None:
        self.data, self.protocol, self.msi_bands = job.study.data, job.study.protocol, job.msi_bands
        self.recipe, self.seed = recipe, job.seed
        self.entries = self.data.entries("train")
        self.workers = 0 if len(self.entries) < 64 else min(4, os.cpu_count() or 1)  # a few images are soon in memory
        self.cache: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self.places: dict[str, Tensor] = {}  # of images with missing data: where crops begin, by number
        self.cached_bytes = 0
        if recipe.drop_last and len(self.entries) < recipe.batch:
            raise PlanError(f"{len(self.entries)} training images and a batch of {recipe.batch}, incomplete batches left out: "
                            "no batch is complete; choose a smaller batch (--batch)")

    @property
    def epoch_steps(self) -> int:
        """Steps of one pass over the images."""
        batches = len(self.entries) / self.recipe.batch
        return math.floor(batches) if self.recipe.drop_last else math.ceil(batches)

    def batch_of(self, step: int) -> list[int]:
        """The draw numbers of a step's batch."""
        batch, images = self.recipe.batch, len(self.entries)
        if not self.recipe.drop_last:  # batches run on from one pass into the next
            return list(range(step * batch, (step + 1) * batch))
        epoch, place = divmod(step, self.epoch_steps)
        return list(range(epoch * images + place * batch, epoch * images + (place + 1) * batch))

    def batches(self, first_step: int) -> DataLoader:
        """A loader of the batches from a step on, without end."""

        class Steps:
            """The sampler: what a loader asks for."""

            def __init__(self, crops: Crops) -> None:
                self.crops = crops

            def __iter__(self) -> Iterator[list[int]]:
                step = first_step
                while True:
                    yield self.crops.batch_of(step)
                    step += 1

        return DataLoader(self, batch_sampler=Steps(self), num_workers=self.workers, generator=torch.Generator())

    def __getitem__(self, draw: int) -> dict[str, Tensor]:
        """The ``draw``-th crop of the training."""
        entry = self.entry_of(draw)
        generator = generator_of(self.seed, "crop", draw)
        recipe, ratio = self.recipe, self.protocol.ratio

        def pick(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        def corner(height: int, width: int) -> tuple[int, int]:  # on the LR grid, so that the pair stays aligned
            if entry in self.places:
                return divmod(int(self.places[entry][pick(len(self.places[entry]))]), width - side + 1)
            return pick(height - side + 1), pick(width - side + 1)

        side = recipe.crop // ratio
        if self.fit_in_memory:
            lr_hsi, hr_msi, hr_hsi = self.observed(entry)
            row, col = corner(*lr_hsi.shape[1:])
            lr_hsi = lr_hsi[:, row : row + side, col : col + side]
            window = slice(row * ratio, (row + side) * ratio), slice(col * ratio, (col + side) * ratio)
            hr_msi, hr_hsi = hr_msi[:, *window], hr_hsi[:, *window]
        else:
            lr_hsi, hr_msi, hr_hsi = self.observed_crop(entry, corner)
        flips = [axis for axis in (1, 2) if "flip" in recipe.augment and pick(2)]
        turns = pick(4) if "rotate" in recipe.augment and pick(2) else 0
        lr_hsi, hr_msi, hr_hsi = (x.flip(flips).rot90(turns, (1, 2)) for x in (lr_hsi, hr_msi, hr_hsi))
        members = [add_noise(lr_hsi, recipe.train_snr_db, generator, self.protocol.noise_domain) for _ in recipe.trains]
        return {"lr_hsi": torch.stack(members), "hr_msi": hr_msi.contiguous(), "hr_hsi": hr_hsi.contiguous()}

    def entry_of(self, draw: int) -> str:
        """The image that a crop is cut from: each once a pass, in an order of its own."""
        epoch, place = divmod(draw, len(self.entries))
        order = torch.randperm(len(self.entries), generator=generator_of(self.seed, "order", epoch))
        return self.entries[int(order[place])]

    @cached_property
    def fit_in_memory(self) -> bool:
        """Whether all training images are kept as they are observed; by sizes alone, so that every worker agrees."""
        if self.protocol.use_given or self.protocol.boundary == "circular":  # what is seen is not made of the crop alone
            return True
        size = sum(image.nbytes for image in self.observed(self.entries[0]))
        return size * len(self.entries) <= CACHE_BYTES // max(1, self.workers)

    def observed_crop(self, entry: str, corner: Callable[[int, int], tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
        """(lr_hsi, hr_msi, hr_hsi) of a crop alone: as that of the whole observed image, in a fraction of the time.

        Args:
            entry: of the training split.
            corner: the crop's first row and column on the LR grid, of the grid's height and width.
        """
        protocol, ratio, side = self.protocol, self.protocol.ratio, self.recipe.crop // self.protocol.ratio
        reference = protocol.reference(self.data.scene(entry))
        self.check(entry, reference)
        height, width = (n // ratio for n in reference.cube.shape[1:])
        row, col = corner(height, width)
        reach = math.ceil(protocol.psf_support / 2 / ratio)  # LR pixels around the crop that its own pixels see
        top, left = max(0, row - reach), max(0, col - reach)
        around = reference.cube[:, top * ratio : (row + side + reach) * ratio, left * ratio : (col + side + reach) * ratio]
        lr_hsi = blur_decimate(around, protocol.psf, ratio, protocol.phase, protocol.boundary)
        hr_hsi = reference.cube[:, row * ratio : (row + side) * ratio, col * ratio : (col + side) * ratio]
        hr_msi = apply_response(hr_hsi, protocol.response(reference.wavelengths, self.msi_bands))
        return lr_hsi[:, row - top : row - top + side, col - left : col - left + side], hr_msi, hr_hsi

    def check(self, entry: str, reference: Scene) -> None:
        """Refuse an image that the recipe's crop does not fit, and see where crops of one with missing data may begin.

        Raises:
            PlanError: names the image, its size and what to choose.
        """
        size = tuple(reference.cube.shape[1:])
        if min(size) < self.recipe.crop or self.recipe.crop % self.protocol.ratio:
            raise PlanError(
                f"training image '{entry}' is {size} pixels and the recipe crops {self.recipe.crop}: "
                f"choose a crop (--crop) that fits and is a multiple of the ratio {self.protocol.ratio}"
            )
        if reference.valid is not None and entry not in self.places:
            ratio, side = self.protocol.ratio, self.recipe.crop // self.protocol.ratio
            reach = math.ceil(self.protocol.psf_support / 2 / ratio)
            hidden = F.max_pool2d((~reference.valid[None]).float(), ratio)  # of each LR pixel: any of its HR pixels
            seen = F.max_pool2d(hidden, 2 * reach + 1, stride=1, padding=reach)
            share = F.avg_pool2d(seen, side, stride=1).flatten()
            self.places[entry] = (share <= share.min() + 1e-6).nonzero().flatten()

    def observed(self, entry: str) -> tuple[Tensor, Tensor, Tensor]:
        """(lr_hsi, hr_msi, hr_hsi) of a whole training image, kept in memory while there is room.

        Raises:
            PlanError: the recipe's crop does not fit it.
        """
        if entry in self.cache:
            return self.cache[entry]
        reference, seen = self.protocol.look(self.data.scene(entry), self.msi_bands)
        images = seen.lr_hsi, seen.hr_msi, reference.cube
        self.check(entry, reference)
        size = sum(image.nbytes for image in images)
        if self.cached_bytes + size <= CACHE_BYTES // max(1, self.workers):  # each worker keeps its own
            self.cache[entry] = images
            self.cached_bytes += size
        return images


def generator_of(*words: object) -> torch.Generator:
    """A CPU generator seeded by names and numbers."""
    return torch.Generator().manual_seed(seed(*words))
