"""Procedural scenes whose statistics are nearer to those of real AVIRIS scenes; their lands are those of ``synthetic``.

What is other than there:

- Every pixel holds a share of a common ground: less contrast between materials, bands that go more alike.
- Reflectance falls towards long wavelengths, and the sun is lower: the mean spectrum, and with it the SNR of each band.
- Things of all sizes lie on the land, "dead leaves" that cover each other, few of them bright: few sharp edges on calm ground.
- From one to the next spectra vary in many ways, each finer one less, and not in three: more dimensions stand out from noise.
- Noise has a level a band, the same in light and shade.

The constants were chosen on the four training scenes of the data set ``aviris``; ``benchmark/realism.py`` measures both. Of a
real scene nothing is in them but five constants of the noise.

It is a data set of its own and no option of ``synthetic``: the code of that one stands in the records of all that was measured
and trained on ``aviris``, which another option would make stale.
"""

import hashlib

import numpy as np

from datasets.aviris_bands import centers_nm
from datasets.materials import materials
from datasets.scene import Scene, SceneError, register
from datasets.splitting import content_digest
from datasets.synthetic import Synthetic, _at_sensor, _fractal, _halved, _land, _terrain_light

_VERSION = 1  # part of the digest: raise it whenever the same seed gives other pixels

GROUND = ("asphalt", "asphalt", "asphalt", "concrete", "metal", "white_roof", "loam")  # four of them: the common ground
SHARE, SHARE_VARIES = 0.36, 0.10  # of the common ground in a pixel: mean and deviation over pixels
SUN = 0.85  # direct light in parts of that of `synthetic`
TONE_NM, TONE = 600.0, 0.4  # beyond that wavelength reflectance falls as wavelength^-TONE
LEAVES, RADII = 0.22, (1.5, 48.0)  # a pixel; half sides in half pixels, of power -3 between these two
BRIGHT, ROOFS, ROOF = 0.30, 0.01, 5.0  # deviation of the logarithm of their brightness; share of bright ones, and how bright
TEXTURE = 0.03, 0.6  # within them: deviation of brightness, and the exponent by which its power falls
WAYS = 80  # in which spectra vary: waves over the range of wavelengths, 1 to so many half periods
VARIES, FALLS = 0.115, 1.3  # wave k varies by VARIES / k^FALLS from leaf to leaf


@register("synthetic-aviris")
class SyntheticAviris(Synthetic):
    """As ``synthetic``, its arguments and splits, with the statistics of AVIRIS scenes."""

    def digest(self) -> str:
        """From the generator's version and settings, and those of ``synthetic``."""
        return content_digest(["synthetic-aviris", _VERSION, super().digest()])

    def read(self, base: str) -> Scene:
        """Draw a scene; a few seconds for 259 x 259 pixels.

        Raises:
            SceneError: no such scene.
        """
        entries = [entry for split in self.splits().values() for entry in split]
        if base not in entries:
            raise SceneError(f"dataset '{self.name}' has no scene '{base}'; choices: {', '.join(entries)}")
        name_seed = hashlib.sha256(f"{self.seed}/{base}".encode()).digest()[:8]
        cube = draw(np.random.default_rng(int.from_bytes(name_seed)), max(self.size, 64))
        return Scene.from_native(base, cube[:, : self.size, : self.size], centers_nm(), band_numbers=tuple(range(1, 225)),
                                 units="scaled at-sensor radiance", flight=f"{self.name} {base}")


def draw(rng: np.random.Generator, size: int) -> np.ndarray:
    """A scene as (224, size, size) int16 scaled radiance, 0 to about 8000."""
    nm = centers_nm()
    spectra = materials(nm)
    fractions, shadow = _land(rng, size, list(spectra))  # first of all: the land that this seed gives to `synthetic`
    library = np.stack(list(spectra.values())).astype(np.float32)
    light = SUN * _terrain_light(rng, size) * shadow
    ground = np.mean([spectra[name] for name in rng.choice(GROUND, 4, replace=False)], axis=0).astype(np.float32)
    tone = np.minimum((TONE_NM / nm) ** TONE, 1).astype(np.float32)
    label, count = leaves(rng, 2 * size)
    share = _halved(np.clip(rng.normal(SHARE, SHARE_VARIES, count), 0, 1)[label])
    brightness = np.exp(BRIGHT * rng.standard_normal(count)) * np.where(rng.random(count) < ROOFS, ROOF, 1)
    bright = _halved(brightness[label]) * (1 + TEXTURE[0] * _fractal(rng, size, TEXTURE[1]))
    vapour = 1 + 0.03 * _fractal(rng, size, 3)
    order = np.arange(1, WAYS + 1)
    phase = rng.uniform(0, 2 * np.pi, WAYS)
    waves = np.cos(np.pi * order[:, None] * (nm - nm.min()) / np.ptp(nm) + phase[:, None])  # (WAYS, 224)
    waves = (VARIES * np.sqrt(2) / order[:, None] ** FALLS * waves).astype(np.float32)
    fields = np.stack([_halved(rng.standard_normal(count)[label]) for _ in order])  # (WAYS, size, size)
    sigma = noise_level(nm).astype(np.float32)

    cube = np.empty((len(nm), size, size), dtype=np.int16)
    for row in range(size):  # row by row: the float cube never exists
        own = share[row, :, None]
        reflectance = (1 - own) * (fractions[:, row].T @ library) + own * ground
        reflectance = np.clip(reflectance * bright[row, :, None] * (1 + fields[:, row].T @ waves) * tone, 0.003, 0.85)
        radiance = _at_sensor(nm, reflectance, light[row, :, None], vapour[row, :, None])
        cube[:, row] = np.rint(radiance + sigma * rng.standard_normal(radiance.shape, dtype=np.float32)).T
    return cube


def leaves(rng: np.random.Generator, side: int) -> tuple[np.ndarray, int]:
    """Dead leaves: rectangles of random place, size and proportion that cover each other, all along two directions.

    Their sizes follow a power law, as those of things in images do; edges between them are sharp, and few.

    Args:
        rng: what they are drawn from.
        side: of the map.

    Returns:
        Number (side, side) of the leaf on top, and how many numbers there are; 0 is the ground below.

    Source:
        Lee, Mumford & Huang, Occlusion models for natural images, IJCV 41:35-59, 2001.
    """
    label = np.zeros((side, side), dtype=np.intp)
    count = int(LEAVES * side**2)
    least, most = RADII
    half = (least**-2 - rng.random(count) * (least**-2 - most**-2)) ** -0.5  # density falls as its power -3
    aspect = np.exp(rng.uniform(-0.8, 0.8, count))
    angle, places = rng.uniform(0, np.pi / 2), rng.uniform(0, side, (count, 2))
    cosine, sine = np.cos(angle), np.sin(angle)
    for i, ((row, col), tall, long) in enumerate(zip(places, half * aspect, half / aspect), 1):
        reach = tall + long
        top, left = max(0, int(row - reach)), max(0, int(col - reach))
        bottom, right = min(side, int(row + reach) + 2), min(side, int(col + reach) + 2)
        y, x = np.arange(top, bottom)[:, None] - row, np.arange(left, right)[None] - col
        inside = (np.abs(cosine * y - sine * x) <= tall) & (np.abs(sine * y + cosine * x) <= long)
        label[top:bottom, left:right][inside] = i
    return label, count + 1


def noise_level(nm: np.ndarray) -> np.ndarray:
    """(bands,) standard deviation of the noise in units of the product: falling in the visible, a level a spectrometer beyond.

    The noise of AVIRIS products of 16 bits does not follow the light: in bright and dark scenes of a flight it is the same.
    """
    number = np.arange(1, len(nm) + 1)
    return np.select([number <= 96, number <= 160], [1 + 4.3 * np.exp(-(nm - 463) / 320), np.full(len(nm), 2.2)], 1.65)
