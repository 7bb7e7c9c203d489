"""Training batches by number: which image, where, how turned and with which noise follows from (seed, draw) alone.

So a resumed training sees exactly the batches that an unbroken one would have seen.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmark.keys import seed
from benchmark.plan import Job, PlanError
from benchmark.protocol import add_noise
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
        epoch, place = divmod(draw, len(self.entries))
        order = torch.randperm(len(self.entries), generator=_generator(self.seed, "order", epoch))
        lr_hsi, hr_msi, hr_hsi = self.observed(self.entries[int(order[place])])
        generator = _generator(self.seed, "crop", draw)
        recipe, ratio = self.recipe, self.protocol.ratio

        def pick(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        side = recipe.crop // ratio
        row, col = (pick(n - side + 1) for n in lr_hsi.shape[1:])  # on the LR grid, so that the pair stays aligned
        lr_hsi = lr_hsi[:, row : row + side, col : col + side]
        window = slice(row * ratio, (row + side) * ratio), slice(col * ratio, (col + side) * ratio)
        hr_msi, hr_hsi = hr_msi[:, *window], hr_hsi[:, *window]
        flips = [axis for axis in (1, 2) if "flip" in recipe.augment and pick(2)]
        turns = pick(4) if "rotate" in recipe.augment and pick(2) else 0
        lr_hsi, hr_msi, hr_hsi = (x.flip(flips).rot90(turns, (1, 2)) for x in (lr_hsi, hr_msi, hr_hsi))
        members = [add_noise(lr_hsi, recipe.train_snr_db, generator, self.protocol.noise_domain) for _ in recipe.trains]
        return {"lr_hsi": torch.stack(members), "hr_msi": hr_msi.contiguous(), "hr_hsi": hr_hsi.contiguous()}

    def observed(self, entry: str) -> tuple[Tensor, Tensor, Tensor]:
        """(lr_hsi, hr_msi, hr_hsi) of a whole training image, kept in memory while there is room.

        Raises:
            PlanError: the recipe's crop does not fit it.
        """
        if entry in self.cache:
            return self.cache[entry]
        reference, seen = self.protocol.look(self.data.scene(entry), self.msi_bands)
        images = seen.lr_hsi, seen.hr_msi, reference.cube
        if min(images[2].shape[1:]) < self.recipe.crop or self.recipe.crop % self.protocol.ratio:
            raise PlanError(
                f"training image '{entry}' is {tuple(images[2].shape[1:])} pixels and the recipe crops {self.recipe.crop}: "
                f"choose a crop (--crop) that fits and is a multiple of the ratio {self.protocol.ratio}"
            )
        size = sum(image.nbytes for image in images)
        if self.cached_bytes + size <= CACHE_BYTES // max(1, self.workers):  # each worker keeps its own
            self.cache[entry] = images
            self.cached_bytes += size
        return images


def _generator(*words: object) -> torch.Generator:
    """A CPU generator seeded by names and numbers."""
    return torch.Generator().manual_seed(seed(*words))
