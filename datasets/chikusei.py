"""Chikusei: farmland and a town in Japan, 128 bands of Hyperspec-VNIR-C from 363 to 1018 nm, in a MATLAB v7.3 file.

The black border of the image is left out of every split: its central 2304 x 2048 pixels are used, as is customary. The centres
of the bands are made evenly spaced between the limits; a file ``<name>.wavelengths.csv`` beside the image replaces them.
"""

from pathlib import Path

import h5py
import numpy as np

from datasets.one_image import OneImage, evenly
from datasets.public import Remote, Source
from datasets.scene import register

_SITE = "https://park.itc.u-tokyo.ac.jp/sal/hyperdata"


@register("chikusei")
class Chikusei(OneImage):
    """One image; reading it takes 10 GB of memory."""

    source = Source((Remote("Hyperspec_Chikusei_MATLAB.zip", f"{_SITE}/Hyperspec_Chikusei_MATLAB.zip"),), _SITE)
    layout = "Hyperspec_Chikusei_MATLAB/HyperspecVNIR_Chikusei_20140729.mat"
    pattern = "*Chikusei*.mat"  # the largest; the ground truth has such a name, too
    size = (2517, 2335)
    border = (106, 143)
    wavelengths = evenly(363, 1018, 128)

    @classmethod
    def write(cls, path: Path, cube: np.ndarray) -> None:
        """MATLAB v7.3: HDF5 with the axes reversed, variable ``chikusei``."""
        with h5py.File(path, "w") as file:
            file["chikusei"] = cube.T
