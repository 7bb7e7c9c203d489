"""The 224 bands of AVIRIS (laboratory calibration of 1995), and the 172 of them that the papers use."""

from functools import cache
from pathlib import Path

import numpy as np

_DROPPED = ((1, 10), (104, 116), (152, 170), (215, 224))  # water vapour and low signal; 1-based, inclusive

KEPT_172 = tuple(n for n in range(1, 225) if not any(low <= n <= high for low, high in _DROPPED))


@cache
def centers_nm() -> np.ndarray:
    """(224,) band centres in nanometres, float64, read-only. Not monotone: the four spectrometers overlap."""
    table = np.loadtxt(Path(__file__).with_name("aviris_bands.csv"), delimiter=",", skiprows=1)
    centers = table[:, 1].copy()
    centers.flags.writeable = False
    return centers


def is_aviris(wavelengths: np.ndarray) -> bool:
    """Whether band centres (bands,) in nanometres are those of all 224 bands of AVIRIS.

    20 nm covers 35 years of calibrations; the centres of an even grid of 224 bands lie 30 nm and more off somewhere.
    """
    return len(wavelengths) == len(centers_nm()) and bool(np.abs(wavelengths - centers_nm()).max() < 20)
