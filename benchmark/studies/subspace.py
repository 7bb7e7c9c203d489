"""Our own network, and networks as corrections of a training-free estimate."""

from __future__ import annotations

from benchmark.plan import Label, Study
from benchmark.protocol import CLEAN, noise, shifted
from benchmark.studies.registry import register
from benchmark.studies.shared import ROBUSTNESS, SCENES, SHORT

ANCHORED = ("ssuf", "u2net")  # networks that learn in minutes
# Our own network: what is varied of it and of its training, each with a fifth of the steps, against the same without it.
SUBSPACE = "subspace-net@train=and-procedural"
VARIANTS = ("anchor_of=bicubic", "noise_aware=False", "components=4", "components=8",
            "components=16", "stages=1", "stages=2", "stages=5", "recipe=fixed-sensor", "recipe=fixed-noise",
            "recipe=fixed-misregistration")

register(Study(
    name="unseen-flights",
    title="Scenes of flights that nobody trained on",
    methods=("bicubic", "gsa", "hysure", "subspace-ridge", "subspace-ridge-blind", SUBSPACE),
    scenarios=(*ROBUSTNESS, shifted(1)),
    seeds=(0, 1, 2),
    cost_lr_size=24,
    labels=(Label("subspace-net was trained on four scenes of flight A and 24 procedural ones, seen by random sensors; "
                  "it and the methods without -blind are told the responses", ("methods",)),),
    **SCENES,
))

register(Study(
    name="ablation-subspace",
    title="What each part of subspace-net is worth",
    methods=("subspace-ridge", SUBSPACE, *(f"{SUBSPACE},{words}" for words in VARIANTS),
             "s3rnet-subspace@train=and-procedural",
             *(f"s3rnet-subspace{role}@train=and-procedural,recipe=hokd" for role in ("-teacher", ""))),
    scenarios=(CLEAN, noise("lr_hsi", 35), noise("both", 30), shifted(1)),
    training={"steps": 1200},
    cost_lr_size=24,
    labels=(Label("Each variant was trained for a fifth of the steps of the entry, once", ("training", "seeds")),),
    **SCENES,
))

register(Study(
    name="anchored",
    title="Networks as corrections of a training-free estimate",
    methods=("subspace-ridge", *(label for name in ANCHORED for label in (name, f"{name}@anchor=subspace-ridge"))),
    msi_bands=(4,),
    training=SHORT,
    labels=(Label("Each network twice, with the same steps of the same crops: as published, and adding what it finds in "
                  "standardised images to what subspace-ridge estimates", ("methods", "training")),),
    **SCENES,
))
