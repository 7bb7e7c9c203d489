"""What goes wrong with real pairs."""

from __future__ import annotations

from typing import Any

from benchmark.degradations import (
    BandNoise,
    DeadLines,
    DeadPixels,
    Keystone,
    NonUniform,
    Quantisation,
    Rotation,
    Saturation,
    Shift,
    ShotNoise,
    Smile,
    Stripes,
    degraded,
)
from benchmark.plan import Label, Study
from benchmark.protocol import CLEAN, shifted, told_psf, told_srf
from benchmark.studies.registry import register
from benchmark.studies.shared import FEWER_MINUTES, PAIR, under_equal

# Each alone, on otherwise clean images; a little, and a lot.
DEFECTS: dict[Any, tuple[float, float]] = {
    BandNoise: (35, 25), ShotNoise: (10000, 1000), Stripes: (0.02, 0.05), DeadLines: (0.005, 0.02), DeadPixels: (0.005, 0.02),
    Saturation: (0.01, 0.05), Quantisation: (10, 8), Smile: (1, 3), Keystone: (0.5, 2), Shift: (0.25, 0.5),
    Rotation: (0.25, 1), NonUniform: (1, 2)}

register(Study(
    name="degradations",
    title="What goes wrong with real pairs, defect by defect",
    methods=("bicubic", "gsa", "sfim-hs", "glp-hs", "cnmf", "fuse", "hysure", "hysure-blind", "subspace-ridge",
             "subspace-ridge-blind", "subspace-net@weights=shipped", "tfnet", "mimo-sst", "psdnet", "u2net", *PAIR),
    msi_bands=(4,),
    scenarios=(CLEAN, *(degraded(kind(amount)) for kind, amounts in DEFECTS.items() for amount in amounts),
               shifted(1), shifted(2), told_psf(2.0), told_psf(4.0), told_srf(10.0), told_srf(20.0)),
    labels=(Label("Trained on clean images, with the same processor time each; known: told the PSF and SRF, of pairs that "
                  "vary over the field those of its middle", ("methods", "training", "exceptions")),),
    **under_equal(FEWER_MINUTES),
))
