"""S3RNet: an hour of training, the papers' settings and sizes, and what a split that leaks is worth."""

from __future__ import annotations

from dataclasses import replace

from benchmark.plan import Label, Study
from benchmark.protocol import CLEAN, OTHER_LR_HSI, PAPER, noise
from benchmark.studies.registry import register
from benchmark.studies.shared import EQUAL, FEWER_MINUTES, PAIR, REDUCED, ROBUSTNESS, SCENES

register(Study(
    name="hour",
    title="S3RNet after an hour on one core",
    methods=("bicubic", "gsa", "hysure", "subspace-ridge", "subspace-ridge-blind", "subspace-net@weights=shipped", *PAIR),
    scenarios=ROBUSTNESS,
    training={"minutes": 60.0, "batch": 1, "crop": 32, "lr": 5e-4, "log_every": 100},
    arguments={"s3rnet-teacher": {"depths": (2, 4, 4, 2)}},
    labels=(
        Label("The papers train 600 epochs of 1,678 scenes of 256x256 pixels, and their split mixes tiles of the same "
              "flights"),
        Label("The teacher is shallower than the published one to fit its budget; the student is the published one",
              ("arguments", "methods")),
        Label("S3RNet's queries and keys cannot influence the output of its release and are not computed here: 0.72 G "
              "multiply-adds and 11,136 parameters fewer than published"),
    ),
    **SCENES,
))

register(Study(
    name="paper",
    title="The settings of the S3RNet papers",
    methods=("bicubic", "gsa", *PAIR),
    dataset="csakd-tiles",
    scenarios=ROBUSTNESS,
))

register(Study(
    name="procedural-256",
    title="The papers' sizes on procedural scenes",
    methods=("bicubic", "gsa", "cnmf", "hysure", "subspace-ridge", *PAIR),
    dataset="synthetic-aviris",
    dataset_options={"train": 8, "val": 1, "test": 1},
    scenarios=ROBUSTNESS,
    training=EQUAL | {"minutes": FEWER_MINUTES},
    pictures=True,
    labels=(Label("Images as large as the papers', of scenes that a seed draws: the shape of their tables and figures, not "
                  "their numbers", ("dataset", "dataset_options")),
            Label("Networks of the published sizes, but minutes of one core in the place of 600 epochs", ("training",)),
            Label("Losses, depths and fusions: studies ablation-loss, ablation-depth and ablation-fusion", ("methods",))),
))

register(Study(
    name="leak",
    title="What a split that mixes the tiles of a flight is worth",
    methods=("bicubic", "gsa", *(f"{name}@train={train}" for train in ("flight", "overlapping") for name in (
        "s3rnet-student", "u2net", "ssuf"))),
    dataset="aviris-tiles",
    msi_bands=(4,),
    protocol=replace(PAPER, hr_size=48),
    scenarios=(CLEAN, noise("lr_hsi", 25), OTHER_LR_HSI),
    seeds=(0, 1, 2),
    training={"steps": 600, "batch": 1, "crop": 32, "lr": 1e-3, "schedule": "cosine", "log_every": 100,
              "drop_last": False},
    arguments=REDUCED,
    cost_lr_size=12,
    labels=(Label("The same networks, steps and tested tiles; train=overlapping: 15 of the 36 training tiles overlap the "
                  "tested ones, so that 95 % of each one's pixels are trained on; train=flight: all are of another flight. "
                  "The 12 tested tiles are of three scenes and overlap one another: seeds, not tiles, are independent",
                  ("methods", "dataset", "dataset_options")),),
))
