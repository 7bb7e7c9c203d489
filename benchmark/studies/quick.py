"""Whether everything runs, in minutes and without data."""

from __future__ import annotations

from dataclasses import replace

from benchmark.plan import Label, Study
from benchmark.protocol import CLEAN, PAPER, noise
from benchmark.studies.registry import register

# Widths and depths of the quick profile: the same network with an eighth of its channels and fewer groups.
SMALL = {"s3rnet-teacher": {"width": 16, "depths": (2, 2, 1, 1)}, "s3rnet-student": {"width": 16, "depths": (1, 1, 1, 1)}}

register(Study(
    name="quick",
    title="Quick look on procedural scenes",
    methods=("bicubic", "gsa", "sfim-hs", "glp-hs", "gfpca", "cnmf", "fuse", "fuse-blind", "hysure", "s3rnet-teacher",
             "s3rnet-student"),
    dataset="synthetic",
    dataset_options={"size": 64, "train": 4, "val": 1, "test": 2},
    protocol=replace(PAPER, hr_size=64),
    scenarios=(CLEAN, *(noise(target, snr_db) for target in ("lr_hsi", "both") for snr_db in (45, 35, 25))),
    training={"steps": 150, "batch": 2, "crop": 32, "lr": 1e-3, "log_every": 30},
    arguments=SMALL,
    cost_lr_size=16,
    pictures=True,
    labels=(Label("A quick look: the numbers show that everything runs and are not comparable with the papers"),),
))
