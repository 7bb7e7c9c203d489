"""Five images as MATLAB files of one site, the remote-sensing page of the University of the Basque Country.

Sizes, bands and addresses: www.ehu.eus/ccwintco, "Hyperspectral Remote Sensing Scenes". None of the files holds wavelengths:

- Pavia (ROSIS): made evenly spaced over the 430 to 860 nm of the sensor, since no table of the kept bands is published.
- Botswana (Hyperion): bands 10-55, 82-97, 102-119, 134-164 and 187-220 of the sensor, says the page; their centres by the
  steps of the two spectrometers in the table of the USGS: 10.18 nm from 426.8 nm at band 8, 10.09 nm from 932.6 nm at band 79.
- Salinas (AVIRIS): the 224 bands without 108-112, 154-167 and 224, says the page; centres of the table of 1995.
- Indian Pines (AVIRIS): 220 bands without 104-108, 150-163 and 220, says the page. Which four of the 224 are not among the
  220 it does not say, so they have no AVIRIS numbers, and their centres are made evenly spaced over 400 to 2500 nm.

A file ``<name>.wavelengths.csv`` beside an image replaces these.
"""

import numpy as np

from datasets.aviris_bands import centers_nm
from datasets.one_image import OneImage, evenly
from datasets.public import Remote, Source
from datasets.scene import register

_SITE = "https://www.ehu.eus/ccwintco"


def numbers(*ranges: tuple[int, int]) -> tuple[int, ...]:
    """Band numbers of inclusive ranges."""
    return tuple(n for low, high in ranges for n in range(low, high + 1))


def hyperion_nm(band: int) -> float:
    """Centre in nm of a band of Hyperion, 8 to 57 or 77 to 224, to half a nanometre."""
    return 426.82 + 10.176 * (band - 8) if band <= 57 else 932.64 + 10.089 * (band - 79)


def uploaded(path: str) -> Source:
    """The source of one file among the site's uploads."""
    return Source((Remote(path.rpartition("/")[2], f"{_SITE}/uploads/{path}"),), _SITE)


@register("pavia-centre")
class PaviaCentre(OneImage):
    """The centre of Pavia, 102 bands of ROSIS."""

    source = uploaded("e/e3/Pavia.mat")
    layout = pattern = "Pavia.mat"
    size = (1096, 715)
    wavelengths = evenly(430, 860, 102)


@register("pavia-university")
class PaviaUniversity(OneImage):
    """The university of Pavia, 103 bands of ROSIS."""

    source = uploaded("e/ee/PaviaU.mat")
    layout = pattern = "PaviaU.mat"
    size = (610, 340)
    wavelengths = evenly(430, 860, 103)


@register("botswana")
class Botswana(OneImage):
    """The Okavango delta, 145 bands of Hyperion."""

    source = uploaded("7/72/Botswana.mat")
    layout = pattern = "Botswana.mat"
    size = (1476, 256)
    wavelengths = np.array([hyperion_nm(n) for n in numbers((10, 55), (82, 97), (102, 119), (134, 164), (187, 220))])


@register("salinas")
class Salinas(OneImage):
    """Fields of the Salinas valley, 204 bands of AVIRIS."""

    source = uploaded("a/a3/Salinas_corrected.mat")
    layout = pattern = "Salinas_corrected.mat"
    size = (512, 217)
    band_numbers = numbers((1, 107), (113, 153), (168, 223))
    wavelengths = centers_nm()[np.array(band_numbers) - 1]


@register("indian-pines")
class IndianPines(OneImage):
    """Fields and woods in Indiana, 200 bands of AVIRIS."""

    source = uploaded("6/67/Indian_pines_corrected.mat")
    layout = pattern = "Indian_pines_corrected.mat"
    size = (145, 145)
    wavelengths = evenly(400, 2500, 220)[np.array(numbers((1, 103), (109, 149), (164, 219))) - 1]
