"""Training crops as many sensors would see them: what a network needs that is to hold for sensors it was not trained on.

What a recipe's ``vary`` names is drawn anew for each batch (the sensors) or crop (scene, place, gain, noise) and follows from
(seed, draw) alone, as in :mod:`benchmark.crops`; the rest is as the protocol says. The network is told the responses drawn.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from benchmark.crops import Crops, generator_of
from benchmark.protocol import CLEAN, Observation, Protocol, add_noise, apply_response, blur_decimate, noise
from datasets import Scene
from methods.responses import shifted_psf

RATIOS = (4, 4, 4, 2, 3, 5, 6, 8)  # each as likely as it stands here
LEAST_BANDS = 20  # of a part of the spectrum
SHARES = {"bands": 0.4, "gain": 0.7, "misregistration": 0.15}  # of crops or batches that are varied
NOISY, NOISY_BOTH = 0.55, 0.3  # crops with noise on the LR-HSI, and on the HR-MSI as well
SNR_DB = (22.0, 50.0)


class Varied(Crops):
    """Crops by draw number; beside those of :class:`benchmark.crops.Crops`, an item holds ``psf``, ``srf`` and ``phase``."""

    @cached_property
    def scenes(self) -> dict[str, Scene]:
        """The references that crops are cut from, as they are asked for."""
        return {}

    def reference(self, entry: str) -> Scene:
        """A training scene on [0, 1].

        Raises:
            PlanError: the recipe's crop does not fit it.
        """
        if entry not in self.scenes:
            scene = self.protocol.reference(self.data.scene(entry))
            self.check(entry, scene)
            self.scenes[entry] = scene
        return self.scenes[entry]

    def __getitem__(self, draw: int) -> dict[str, Tensor]:
        """The ``draw``-th crop of the training."""
        scene = self.reference(self.entry_of(draw))
        sensors = Dice(generator_of(self.seed, "sensors", draw // self.recipe.batch))
        crop = Dice(generator_of(self.seed, "varied crop", draw))
        recipe, protocol = self.recipe, self.protocol
        ratio = RATIOS[sensors.below(len(RATIOS))] if "ratio" in recipe.vary else protocol.ratio
        kept = part_of_spectrum(scene.wavelengths, sensors) if "bands" in recipe.vary else np.arange(scene.bands)
        nm, side = scene.wavelengths[kept], recipe.crop // ratio * ratio
        row, col = (crop.below(n - side + 1) for n in scene.size)
        image = scene.cube[kept, row : row + side, col : col + side]
        flips = [axis for axis in (1, 2) if "flip" in recipe.augment and crop.below(2)]
        image = image.flip(flips).rot90(crop.below(4) if "rotate" in recipe.augment else 0, (1, 2))
        if "gain" in recipe.vary and crop.uniform() < SHARES["gain"]:
            gain = np.interp(nm, np.linspace(380, 2500, 8), np.exp([0.35 * crop.normal() for _ in range(8)]))
            image = image * torch.from_numpy(gain.astype(np.float32))[:, None, None]
        image = (image / image.max()).contiguous()

        srf = response(nm, sensors) if "sensor" in recipe.vary else protocol.response(nm, 4 if sensors.below(2) else 6)
        told, used, phase = psfs(protocol, ratio, side, recipe.vary, sensors)
        lr_hsi = blur_decimate(image, used, ratio, phase, protocol.boundary)
        hr_msi = apply_response(image, srf)
        if "noise" in recipe.vary:
            share = crop.uniform()
            snr_db = [crop.uniform(*SNR_DB) for _ in range(2)]
            lr_hsi = add_noise(lr_hsi, snr_db[0] if share < NOISY else math.inf, crop.generator)
            hr_msi = add_noise(hr_msi, snr_db[1] if share < NOISY_BOTH else math.inf, crop.generator)
        return {"lr_hsi": torch.stack([lr_hsi] * len(recipe.trains)), "hr_msi": hr_msi, "hr_hsi": image, "psf": told,
                "srf": srf, "phase": torch.tensor(phase)}


def validated(scene: Scene, protocol: Protocol) -> list[tuple[Scene, Observation]]:
    """What a varied training is validated on: a scene clean, with noise on the LR-HSI and on both."""
    settings = ((4, CLEAN), (6, CLEAN), (4, noise("lr_hsi", 35)), (6, noise("both", 30)))
    return [protocol.look(scene, msi_bands, scenario) for msi_bands, scenario in settings]


class Dice:
    """Numbers from a generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def below(self, count: int) -> int:
        """0 to count - 1."""
        return int(torch.randint(count, (), generator=self.generator))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """In [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def normal(self) -> float:
        """Of mean 0 and deviation 1."""
        return float(torch.randn((), generator=self.generator, dtype=torch.float64))


def part_of_spectrum(nm: np.ndarray, dice: Dice) -> np.ndarray:
    """Indices of the bands of a sensor that sees only a part, often up to the near infrared; most often all."""
    drawn, near, ends = dice.uniform(), dice.uniform(), sorted(dice.uniform(400, 2500) for _ in range(2))
    low, high = (400.0, 700 + 300 * ends[0] / 2500) if near < 0.7 else ends
    kept = np.flatnonzero((nm >= low) & (nm <= high))
    return kept if drawn < SHARES["bands"] and len(kept) >= LEAST_BANDS else np.arange(len(nm))


def response(nm: np.ndarray, dice: Dice) -> Tensor:
    """SRF (1 to 8, bands) float32, rows summing to 1: Gaussian bands of any place and width, half of them below 1000 nm."""
    count, low, high = 1 + dice.below(8), nm.min(), nm.max()
    if dice.uniform() < 0.5 and low < 900:
        high = min(high, 1000.0)
    centres = np.sort([dice.uniform(low, high) for _ in range(count)])[:, None]
    widths = np.array([5 + dice.uniform(0.01, 0.06) * (high - low) for _ in range(count)])[:, None]
    rows = np.exp(-0.5 * ((nm - centres) / widths) ** 2) + 1e-9
    return torch.from_numpy((rows / rows.sum(1, keepdims=True)).astype(np.float32))


def psfs(protocol: Protocol, ratio: int, side: int, vary: tuple[str, ...], dice: Dice) -> tuple[Tensor, Tensor, int]:
    """The PSF that is told (k, k), the one used, which misregistration moves by up to a pixel, and the phase."""
    sigmas, phase = (protocol.psf_sigma,) * 2, protocol.phase if ratio == protocol.ratio else (ratio - 1) // 2
    own, width, odd, place = dice.uniform(), dice.uniform(0.3, 0.8), dice.uniform(0.8, 1.25), dice.below(2 * ratio)
    moved, offsets = dice.uniform(), (dice.uniform(-1, 1), dice.uniform(-1, 1))
    if "psf" in vary and (own < 0.5 or ratio != protocol.ratio):
        sigmas = ratio * width, ratio * width * (odd if own < 0.2 else 1.0)
        phase = place if place < ratio else phase
    elif ratio != protocol.ratio:
        sigmas = (protocol.psf_sigma * ratio / protocol.ratio,) * 2
    half = min(math.ceil(3 * max(sigmas)), side // 2 - 1)
    if not ("misregistration" in vary and moved < SHARES["misregistration"]):
        offsets = (0.0, 0.0)
    told, used = (shifted_psf(2 * half + 1, sigmas, at).float() for at in ((0.0, 0.0), offsets))
    return told, used, phase
