"""Methods without a training: in closed form, iterative, and optimised for each image."""

from __future__ import annotations

from dataclasses import replace

from benchmark.plan import Label, Study
from benchmark.protocol import CLEAN, PAPER, noise
from benchmark.studies.registry import register
from benchmark.studies.shared import FEW, PER_IMAGE, SCENES
from methods import available

register(Study(
    name="classical",
    title="Training-free methods on real AVIRIS scenes",
    methods=tuple(available("classical")),
    scenarios=FEW,
    cost_lr_size=24,
    labels=(Label("Known: told the PSF and SRF of the protocol; blind: not"),),
    **SCENES,
))

register(Study(
    name="unsupervised",
    title="Optimised for each image, without a reference",
    methods=("bicubic", "gsa", *PER_IMAGE),
    msi_bands=(4,),
    scenarios=FEW,
    fewer_scenarios={"cucanet": (CLEAN,)},
    arguments={"cucanet": {"iterations": 400}},
    labels=(
        Label("uSDN and u2MDN have the iterations of their releases. CUCaNet was given few of its 10,000 an image (0.55 s "
              "each on a CPU core; all take 2,070 s in the published table), clean: its scores are far from its best",
              ("arguments", "methods")),
        Label("uSDN stops by a self-supervised rule, its oracle row by the errors against the reference, as published"),
        Label("Seconds an image were taken on one core of a CPU that did other work as well, the published ones are of "
              "256x256 pixels on the machines of their authors", ("methods",)),
    ),
    **SCENES,
))

register(Study(
    name="other-sensors",
    title="Scenes of other sensors, never trained on",
    methods=("bicubic", "gsa", "sfim-hs", "glp-hs", "fuse", "fuse-blind", "hysure", "hysure-blind", "subspace-ridge",
             "subspace-ridge-blind", "subspace-net@weights=shipped"),
    dataset="other-sensors",
    splits=("test-cave", "test-pavia", "test-samson"),
    msi_bands=(3, 4),
    protocol=replace(PAPER, hr_size=96, bands="all"),
    sensors={"test-cave": ("nikon-d700", 3), "test-pavia": ("ikonos", 4), "test-samson": ("quickbird-2", 4)},
    scenarios=(CLEAN, noise("lr_hsi", 35)),
    cost_lr_size=24,
    labels=(
        Label("Known: told the PSF and SRF of the protocol; blind: not"),
        Label("subspace-net has the weights that come with the suite, of AVIRIS scenes of one flight and procedural ones",
              ("methods",)),
        Label("CAVE is seen by a Nikon D700 (3 bands), Pavia Centre by IKONOS, Samson by QuickBird-2 (4 bands each): "
              "measured responses, at nominal wavelengths of Pavia Centre and Samson", ("sensors", "dataset")),
    ),
))
