"""Reflectance of twenty materials between 380 and 2500 nm, as formulas.

Sums and products of steps and Gaussian bands at the textbook positions: leaf pigments, red edge and leaf water;
cellulose and lignin; iron, clay and carbonate; hydrocarbons in paint. No measured spectrum is copied.
"""

import numpy as np


def band(nm: np.ndarray, center: float, width: float, depth: float = 1.0) -> np.ndarray:
    """Gaussian absorption or peak; ``width`` is the standard deviation in nm."""
    return depth * np.exp(-0.5 * ((nm - center) / width) ** 2)


def step(nm: np.ndarray, center: float, width: float) -> np.ndarray:
    """Smooth rise from 0 to 1 at ``center``; 12 to 88 % within 2 ``width``."""
    return 1 / (1 + np.exp(-(nm - center) / width))


def leaf_water(nm: np.ndarray) -> np.ndarray:
    """Optical depth of a leaf's water: the bands at 970, 1200, 1450 and 1940 nm and the rise towards 2500 nm."""
    bands = band(nm, 970, 25, 0.06) + band(nm, 1200, 45, 0.16) + band(nm, 1450, 55, 0.85) + band(nm, 1940, 65, 1.4)
    return bands + 0.45 * step(nm, 1390, 35) + 0.5 * step(nm, 1890, 30) + 0.9 * step(nm, 2400, 90)


def materials(nm: np.ndarray) -> dict[str, np.ndarray]:
    """Material name -> reflectance (bands,) in [0, 1] at wavelengths ``nm`` (bands,)."""
    um = nm / 1000

    def green(chlorophyll: float, plateau: float, water: float) -> np.ndarray:
        visible = 0.03 + band(nm, 552, 33, 0.10 / chlorophyll) + 0.02 * step(nm, 590, 25) - band(nm, 672, 16, 0.015)
        return (visible + plateau * step(nm, 716 + 4 * chlorophyll, 11)) * np.exp(-water * leaf_water(nm))

    def dry(level: float) -> np.ndarray:
        rise = level * (0.18 + 0.82 * (1 - np.exp(-(um - 0.35) / 0.35)))
        lignin = band(nm, 2100, 45, 0.16) + band(nm, 2310, 50, 0.15) + band(nm, 1720, 30, 0.04)
        return rise * (1 - lignin) * np.exp(-0.25 * leaf_water(nm))

    def soil(level: float, iron: float, clay: float) -> np.ndarray:
        rise = level * (0.25 + 0.75 * (1 - np.exp(-(um - 0.36) / 0.5)))
        rust = band(nm, 500, 60, 0.45 * iron) + band(nm, 880, 70, 0.22 * iron)
        return rise * (1 - rust) * (1 - band(nm, 2205, 22, clay)) * np.exp(-0.12 * leaf_water(nm))

    def paint(level: float, color: np.ndarray) -> np.ndarray:
        hydrocarbon = band(nm, 1200, 20, 0.06) + band(nm, 1725, 25, 0.18) + band(nm, 2310, 40, 0.35)
        return level * (0.45 + 0.55 * color) * (1 - hydrocarbon) * (1 - 0.25 * step(nm, 1900, 250))

    return {
        "grass": green(1.0, 0.46, 0.75),
        "crop": green(1.5, 0.52, 1.0),
        "broadleaf": green(1.4, 0.38, 0.9),
        "conifer": green(2.0, 0.22, 0.8),
        "dry_grass": dry(0.42),
        "stubble": dry(0.30),
        "loam": soil(0.20, 0.3, 0.08),
        "red_soil": soil(0.32, 0.9, 0.14),
        "sand": soil(0.50, 0.4, 0.05),
        "clay": soil(0.52, 0.15, 0.34) * (1 - band(nm, 2165, 15, 0.15)) * (1 - band(nm, 1412, 18, 0.3)),
        "limestone": (0.34 + 0.16 * step(nm, 600, 120)) * (1 - band(nm, 2335, 38, 0.35) - band(nm, 1990, 40, 0.06)),
        "water": 0.008 + 0.055 * np.exp(-(((um - 0.47) / 0.13) ** 2)),
        "turbid_water": 0.012 + 0.11 * step(nm, 490, 30) * (1 - step(nm, 715, 22)) + band(nm, 810, 25, 0.02),
        "asphalt": 0.07 + 0.06 * (1 - np.exp(-(um - 0.38) / 0.8)) - band(nm, 2310, 40, 0.006),
        "concrete": (0.2 + 0.16 * (1 - np.exp(-(um - 0.36) / 0.3))) * (1 - band(nm, 2335, 40, 0.1)) - 0.02 * um,
        "tile_roof": soil(0.40, 0.8, 0.05) * (0.6 + 0.4 * step(nm, 585, 22)),
        "white_roof": paint(0.60, step(nm, 405, 12)),
        "blue_roof": paint(0.36, band(nm, 460, 45, 0.9) + step(nm, 760, 25)),
        "green_roof": paint(0.30, band(nm, 530, 40, 0.8) + step(nm, 740, 30)),
        "metal": 0.36 + 0.05 * um,
    }
