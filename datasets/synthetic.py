"""Procedural AVIRIS-like scenes: 224 bands, no download, every pixel decided by a seed.

A land-use map (parcels, wild land, a town of streets and buildings, roads, a river) is drawn at twice the resolution
and averaged, so that borders are sharp and border pixels are mixed. Every pixel mixes the spectra of its materials,
which vary from place to place in brightness, slope and moisture. Terrain and buildings shade it, the atmosphere absorbs
and scatters, the sensor adds noise and rounds, as AVIRIS products do, to integers.

The scenes are believable enough to exercise a benchmark; scores on them say nothing about any real sensor.
"""

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from datasets.aviris_bands import centers_nm
from datasets.materials import band, leaf_water, materials, step
from datasets.scene import Dataset, Miniature, Scene, SceneError, register
from datasets.splitting import content_digest

_VERSION = 1  # part of the digest: raise it whenever the same seed gives other pixels

_FIELDS = ("grass", "crop", "crop", "dry_grass", "stubble", "loam", "loam", "red_soil")
_WILD = ("broadleaf", "conifer", "dry_grass", "grass")
_BARE = ("clay", "limestone", "red_soil", "sand")
_ROOFS = ("tile_roof", "tile_roof", "concrete", "asphalt", "white_roof", "blue_roof", "green_roof", "metal")
_UNDERGROWTH = {"crop": "loam", "grass": "loam", "dry_grass": "loam", "stubble": "loam", "conifer": "broadleaf"}


@register("synthetic")
class Synthetic(Dataset):
    """Independent scenes ``train_0``, ``train_1``, ..., ``val_0``, ..., ``test_0``, ...

    Args:
        size: side of the square scenes in pixels; 259 leaves 3 pixels of misregistration around a 256 crop.
        train: number of training scenes.
        val: number of validation scenes.
        test: number of test scenes.
        seed: another seed draws other scenes.
    """

    planned_without_data = True

    def __init__(self, size: int = 259, train: int = 4, val: int = 1, test: int = 2, seed: int = 0) -> None:
        if size < 8:
            raise SceneError(f"dataset 'synthetic': size {size}; a scene has at least 8 x 8 pixels")
        self.size, self.seed = size, seed
        self.counts = {"train": train, "val": val, "test": test}
        for split, count in self.counts.items():
            if count < 0:
                raise SceneError(f"dataset 'synthetic': {split} {count}; a split has at least 0 scenes")

    def splits(self) -> dict[str, list[str]]:
        """As many scenes a split as asked for."""
        return {split: [f"{split}_{i}" for i in range(count)] for split, count in self.counts.items()}

    def digest(self) -> str:
        """From the generator's version and settings."""
        return content_digest([_VERSION, self.size, self.seed, self.splits()])

    def read(self, base: str) -> Scene:
        """Draw a scene; a few seconds for 259 x 259 pixels.

        Raises:
            SceneError: no such scene.
        """
        entries = [entry for split in self.splits().values() for entry in split]
        if base not in entries:
            raise SceneError(f"dataset 'synthetic' has no scene '{base}'; choices: {', '.join(entries)}")
        name_seed = hashlib.sha256(f"{self.seed}/{base}".encode()).digest()[:8]
        # Small scenes are cut from a larger one: on a few pixels a river or a field would be everything there is.
        cube = draw(np.random.default_rng(int.from_bytes(name_seed)), max(self.size, 64))
        return Scene.from_native(
            base,
            cube[:, : self.size, : self.size],
            centers_nm(),
            band_numbers=tuple(range(1, 225)),
            units="scaled at-sensor radiance",
            flight=f"synthetic {base}",  # every scene is a land of its own
        )

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        """No files; scenes of 16 x 16 pixels."""
        return Miniature((partial(cls, size=16, train=2, val=1, test=1),))


def draw(rng: np.random.Generator, size: int) -> np.ndarray:
    """A scene as (224, size, size) int16 scaled radiance, 0 to about 8000."""
    nm = centers_nm()
    spectra = materials(nm)
    fractions, shadow = _land(rng, size, list(spectra))
    library = np.stack(list(spectra.values()))
    light = _terrain_light(rng, size) * shadow
    # One noise field a way of varying: brightness, spectral slope, moisture; fine texture weighs most in brightness.
    bright = 1 + 0.10 * _fractal(rng, size, 2.2) + 0.05 * _fractal(rng, size, 0.8)
    slope, moisture, vapour = (scale * _fractal(rng, size, beta) for scale, beta in ((0.06, 2), (0.12, 2.5), (0.03, 3)))
    variants = [library, library * (nm - 1200) / 1000, -library * leaf_water(nm)]
    library, tilted, moist = (v.astype(np.float32) for v in variants)

    cube = np.empty((len(nm), size, size), dtype=np.int16)
    for row in range(size):  # row by row: the float cube never exists
        here = fractions[:, row].T
        reflectance = here @ library + slope[row, :, None] * (here @ tilted) + moisture[row, :, None] * (here @ moist)
        reflectance = np.clip(reflectance * bright[row, :, None], 0.003, 0.75)
        radiance = _at_sensor(nm, reflectance, light[row, :, None], 1 + vapour[row, :, None])
        noise = rng.standard_normal(radiance.shape, dtype=np.float32)
        cube[:, row] = np.rint(radiance + noise * np.sqrt(2 + 0.006 * radiance)).T
    return cube


# --------------------------------------------------------------------------------------------------------- the land


def _land(rng: np.random.Generator, size: int, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Material fractions (materials, size, size), summing to 1 a pixel, and cast shadow (size, size) in (0, 1]."""
    fine = 2 * size
    index = {name: i for i, name in enumerate(names)}

    def pick(choices: tuple[str, ...]) -> int:
        return index[rng.choice(choices)]

    # Maps are drawn upright on a larger canvas and turned, so that nothing runs along the pixel grid.
    span = int(1.5 * fine)
    label, shadow = np.zeros((span, span), dtype=np.intp), np.ones((span, span), dtype=np.float32)
    fields = _parcels(rng, span, smallest=int(rng.integers(24, 48)))
    for rows, cols in fields:
        label[rows, cols] = pick(_FIELDS)
    town = _fractal(rng, span, 4) > rng.uniform(0.3, 1.0)
    for rows, cols in fields:
        if town[rows, cols].mean() > 0.5:
            _block_of_houses(rng, label[rows, cols], shadow[rows, cols], index)
    for rows, cols in fields:
        if rng.random() < 0.35:  # lanes between parcels
            label[rows, cols][:2] = index["asphalt" if rng.random() < 0.4 else "sand"]
    for _ in range(3):  # through roads, 2 to 4 pixels wide
        width, at, surface = rng.integers(4, 9), rng.integers(span // 5, 4 * span // 5), pick(("asphalt", "concrete"))
        road = label[at : at + width] if rng.random() < 0.5 else label[:, at : at + width]
        road[:] = surface
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[:fine, :fine] - fine / 2
    turned = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    turned = tuple(np.rint(axis + span / 2).astype(np.intp).clip(0, span - 1) for axis in turned)
    label, shadow = label[turned], shadow[turned]

    built = np.isin(label, [index[name] for name in ("asphalt", "concrete", *_ROOFS)])
    for choices, patches, beta, rarest in ((_WILD, 6, 2.2, 1.0), (_BARE, 4, 2.5, 1.6)):
        grown = (_fractal(rng, fine, 3) > rng.uniform(rarest - 0.6, rarest)) & ~built
        patch = np.digitize(_fractal(rng, fine, beta), np.linspace(-1.2, 1.2, patches - 1))
        label[grown] = np.array([pick(choices) for _ in range(patches)])[patch[grown]]
    _river(rng, label, index)

    fractions = np.zeros((len(names), size, size), dtype=np.float32)
    gap = np.clip(0.22 + 0.16 * _fractal(rng, size, 1.6), 0, 0.7)  # soil or lower plants seen between the plants
    for i in np.unique(label):
        fractions[i] = _halved(label == i)
    for plant, below in _UNDERGROWTH.items():
        seen = gap * fractions[index[plant]]
        fractions[index[plant]] -= seen
        fractions[index[below]] += seen
    return fractions, _halved(shadow)


def _parcels(rng: np.random.Generator, span: int, smallest: int) -> list[tuple[slice, slice]]:
    """Cut a square into rectangles, each side at least ``smallest``, by random straight cuts."""
    todo, done = [(0, span, 0, span)], []
    while todo:
        r0, r1, c0, c1 = todo.pop()
        tall, long = r1 - r0 >= c1 - c0, max(r1 - r0, c1 - c0)
        if long < 2 * smallest or (long < 5 * smallest and rng.random() < 0.2):
            done.append((slice(r0, r1), slice(c0, c1)))
            continue
        cut = int(rng.integers(smallest, long - smallest + 1))
        if tall:
            todo += [(r0, r0 + cut, c0, c1), (r0 + cut, r1, c0, c1)]
        else:
            todo += [(r0, r1, c0, c0 + cut), (r0, r1, c0 + cut, c1)]
    return done


def _block_of_houses(rng: np.random.Generator, label: np.ndarray, shadow: np.ndarray, index: dict[str, int]) -> None:
    """Fill a parcel, in place, with a street, gardens and roofs that cast shadows."""
    label[:] = index[rng.choice(("grass", "concrete", "loam", "asphalt"))]
    label[:4] = label[:, :4] = index["asphalt"]
    pitch, roof = int(rng.integers(12, 30)), index[rng.choice(_ROOFS)]
    for r in range(7, label.shape[0] - 6, pitch):
        for c in range(7, label.shape[1] - 6, pitch):
            if rng.random() < 0.15:
                continue
            h, w = rng.integers(pitch // 3, pitch - 3, 2)
            height = int(rng.integers(1, 4))
            shadow[r + height : r + h + height, c + height : c + w + height] = 0.35
            house = slice(r, r + h), slice(c, c + w)
            label[house] = roof if rng.random() < 0.6 else index[rng.choice(_ROOFS)]
            shadow[house] = 1
            shadow[r + h // 2 : r + h, c : c + w] = rng.uniform(0.75, 1)  # the roof's far side


def _river(rng: np.random.Generator, label: np.ndarray, index: dict[str, int]) -> None:
    """Draw, in place, a winding river with turbid water, a sandy bank and trees along it."""
    fine = label.shape[0]
    along = np.arange(fine)
    middle = fine * rng.uniform(0.15, 0.85) + rng.normal(0, 0.3) * (along - fine / 2)
    for k in (1, 2, 3, 5):
        middle += rng.normal(0, fine / 14 / k) * np.sin(2 * np.pi * (k * along / fine + rng.random()))
    distance = np.abs(np.arange(fine)[None] - middle[:, None]) + 2 * _fractal(rng, fine, 2)
    width = rng.uniform(6, 18)
    wood = np.where(_fractal(rng, fine, 2.5) > -0.3, width + 9, 0)
    if rng.random() < 0.5:
        distance, wood = distance.T, wood.T
    reaches = ((wood, "broadleaf"), (width + 2, "sand"), (width, "turbid_water"), (0.6 * width, "water"))
    for reach, name in reaches:
        label[distance < reach] = index[name]


# ----------------------------------------------------------------------------------------------- light and sensor


def _terrain_light(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size) share of the direct sunlight that sloping ground receives, around 1."""
    north, east = np.gradient(_fractal(rng, size, 3.2))
    slope = (north + east) / np.std(north + east)
    return (1 + 0.09 * slope).clip(0.5, 1.3).astype(np.float32)


def _at_sensor(nm: np.ndarray, reflectance: np.ndarray, light: np.ndarray, vapour: np.ndarray) -> np.ndarray:
    """Scaled radiance at the sensor of pixels (n, bands).

    Args:
        nm: (bands,) wavelengths.
        reflectance: (n, bands).
        light: (n, 1) share of the direct light.
        vapour: (n, 1) water vapour column, 1 on average.
    """
    um = nm / 1000
    # Sun: a black body of 5778 K at the distance of the earth, W / m2 / um.
    sun = 6.79e-5 * 3.742e8 / um**5 / (np.exp(14388 / (um * 5778)) - 1) / np.pi
    # Its own lines: crowded below 430 nm, then hydrogen and magnesium.
    lines = 0.4 * step(-nm, -425, 14) + band(nm, 431, 6, 0.08) + band(nm, 486, 6, 0.06)
    sun = sun * (1 - lines - band(nm, 518, 7, 0.06) - band(nm, 656, 5, 0.04))
    rayleigh = 0.0088 * um**-4.1
    gases = band(nm, 761, 5, 0.5) + band(nm, 688, 5, 0.12) + band(nm, 1268, 8, 0.12) + band(nm, 600, 50, 0.03)
    gases += band(nm, 2012, 14, 0.6) + band(nm, 2061, 13, 0.35) + band(nm, 1573, 8, 0.05) + band(nm, 1606, 8, 0.05)
    water = band(nm, 720, 8, 0.12) + band(nm, 820, 10, 0.15) + band(nm, 940, 18, 0.55) + band(nm, 1135, 21, 0.65)
    water += band(nm, 1380, 30, 5) + band(nm, 1880, 40, 6) + band(nm, 2600, 80, 2)
    path = (2.2 * (rayleigh + gases + 0.04 * um**-1.2) + 2.2 * water * vapour).astype(np.float32)
    sky = 0.5 * rayleigh + 0.03
    ground = reflectance * (0.75 * light + sky) * np.exp(-path)
    haze = 0.18 * rayleigh + 0.002 * um**-1.5
    # Gains of the three parts of the spectrum in AVIRIS products, from uW / cm2 / nm / sr; 10 W/m2/um are 1 uW/cm2/nm.
    gain = np.where(np.arange(1, 225) <= 110, 300, np.where(np.arange(1, 225) <= 160, 600, 1200)) / 10
    return (sun / np.pi * gain * (ground + haze * np.exp(-gases))).astype(np.float32)


def _fractal(rng: np.random.Generator, size: int, beta: float) -> np.ndarray:
    """(size, size) float32 noise of mean 0 and deviation 1 whose power falls as frequency to the ``-beta``."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf  # no mean
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * frequency ** (-beta / 2), s=(size, size))
    return (field / field.std()).astype(np.float32)


def _halved(fine: np.ndarray) -> np.ndarray:
    """(2n, 2n) -> (n, n) float32: the mean of every 2 x 2 after a slight blur, as pixels see beyond their borders."""
    n = fine.shape[0] // 2
    return gaussian_filter(fine.astype(np.float32), 0.9).reshape(n, 2, n, 2).mean((1, 3))
