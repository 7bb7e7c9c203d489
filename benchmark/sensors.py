"""Multispectral sensors by name: from a scene's wavelengths to the spectral response (SRF) of each MSI band."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from datasets.scene import SceneError

Edges = tuple[float, float]  # of a band in nm, the upper one excluded

# Landsat TM: nominal band edges. The papers' 4-band MSI is TM 1-4, the 6-band MSI TM 1-5 and 7.
_TM: dict[int, Edges] = {1: (450, 520), 2: (520, 600), 3: (630, 690), 4: (760, 900), 5: (1550, 1750), 7: (2080, 2350)}
SENSORS: Mapping[str, Mapping[int, tuple[Edges, ...]]] = {  # name -> MSI band count -> band edges
    "landsat-tm": {count: tuple(_TM[band] for band in bands) for count, bands in ((4, (1, 2, 3, 4)), (6, (1, 2, 3, 4, 5, 7)))},
}


def response(sensor: str, wavelengths: np.ndarray, msi_bands: int) -> Tensor:
    """The SRF of a sensor, (msi_bands, bands) float32: equal weights inside each band, rows summing to 1.

    Args:
        sensor: a key of :data:`SENSORS`.
        wavelengths: (bands,) band centres of the scene in nm.
        msi_bands: how many of the sensor's bands.

    Raises:
        SceneError: no such sensor, no such band count, or a band that the scene does not cover.
    """
    if sensor not in SENSORS:
        raise SceneError(f"unknown MSI sensor '{sensor}'; choices: {', '.join(SENSORS)}")
    choices = SENSORS[sensor]
    if msi_bands not in choices:
        words = " ".join(word.capitalize() if len(word) > 2 else word.upper() for word in sensor.split("-"))
        raise SceneError(f"no {words} response with {msi_bands} bands; choices: {sorted(choices)}, "
                         "or give the protocol a response matrix")
    return box_response(wavelengths, choices[msi_bands])


def box_response(wavelengths: np.ndarray, edges: tuple[Edges, ...] | list[Edges]) -> Tensor:
    """One row per (low, high) in nm: equal weights on the bands whose centre lies in [low, high), sum 1.

    Raises:
        SceneError: a row without a band.
    """
    centres = np.asarray(wavelengths)
    rows = np.array([(centres >= low) & (centres < high) for low, high in edges], dtype=np.float32)
    for (low, high), row in zip(edges, rows):
        if not row.any():
            raise SceneError(
                f"no band of the scene lies in {low}-{high} nm (it covers {centres.min():.0f}-{centres.max():.0f} nm); "
                "choose an MSI setting that the scene can feed, or give the protocol a response matrix"
            )
    return torch.from_numpy(rows / rows.sum(1, keepdims=True))
