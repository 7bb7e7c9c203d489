"""The named studies: what ``--profile`` chooses from."""

from __future__ import annotations

import difflib
from dataclasses import replace

from benchmark.plan import PlanError, Study
from benchmark.protocol import CLEAN, PAPER, noise
from methods import available, card

METHODS = ("bicubic", "gsa", "s3rnet-teacher", "s3rnet-student")
SNR_DB = (45, 40, 35, 30, 25)
ROBUSTNESS = (CLEAN, *(noise(target, snr_db) for target in ("lr_hsi", "both") for snr_db in SNR_DB))

# Widths and depths of the quick profile: the same network with an eighth of its channels and fewer groups.
SMALL = {"s3rnet-teacher": {"width": 16, "depths": (2, 2, 1, 1)}, "s3rnet-student": {"width": 16, "depths": (1, 1, 1, 1)}}

# Of the budget profile: what a step costs a CPU differs by a factor of 400. The dearest keep their published schedule.
FEWER_STEPS = {
    "hyper-transformer": {"steps": 400, "lr": 1e-4},
    "hyper-refiner": {"steps": 300, "batch": 2},
    **{name: {"steps": 200} for name in ("hyfusion", "hyfusion-published", "s3rnet-teacher", "s3rnet-student", "sspsr")},
    **{name: {"steps": steps, "log_every": 25, "schedule": next(iter(card(name).recipes.values())).schedule}
       for name, steps in (("fusion-mamba", 100), ("pzres-net", 100), ("qrcode", 100), ("s3rnet-igarss", 100),
                           ("s3rnet-teacher-large", 100), ("s3rnet-student-large", 100), ("dhif-net", 40))},
}

STUDIES = {study.name: study for study in (
    Study(
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
        labels=("Quick profile: procedural scenes of 64x64 pixels, reduced networks (width 16 of 86) and 150 training steps; "
                "the numbers show that everything runs and are not comparable with the papers",),
    ),
    Study(
        name="aviris",
        title="Real AVIRIS scenes, split by flight",
        methods=METHODS,
        dataset="aviris",
        splits=("test-same-flight", "test-other-flight"),
        protocol=replace(PAPER, hr_size=96),
        scenarios=ROBUSTNESS,
        training={"minutes": 60.0, "batch": 1, "crop": 32, "lr": 5e-4, "log_every": 100},
        arguments={"s3rnet-teacher": {"depths": (2, 4, 4, 2)}},
        labels=("Trained for 60 minutes on one CPU core, on four scenes of one flight; the papers train 600 epochs of "
                "1,678 scenes",
                "The teacher has depths (2, 4, 4, 2) of its branches hm, mh, h, m instead of (6, 6, 4, 4) to fit that "
                "budget; the student is the published one",
                "S3RNet's queries and keys cannot influence the output of its release and are not computed here: 0.72 G "
                "multiply-adds and 11,136 parameters fewer than published",
                "96x96 scenes; the papers' scenes are 256x256 and their split mixes tiles of the same flights"),
    ),
    Study(
        name="budget",
        title="Every network after a short training",
        methods=("bicubic", "gsa", *(name for name in available("supervised") if name != "psdnet-oracle")),
        dataset="aviris",
        splits=("test-same-flight", "test-other-flight"),
        msi_bands=(4,),
        protocol=replace(PAPER, hr_size=96),
        training={"steps": 1000, "batch": 1, "crop": 32, "lr": 1e-3, "schedule": "cosine", "log_every": 50},
        exceptions=FEWER_STEPS,
        arguments={"hyper-transformer": {"lr_pixels": 64}},  # its parameters are bound to the crop: (32 / 4)^2
        labels=("Each network was trained for 1,000 steps of one 32x32 crop, learning rate 1e-3 with a cosine: this shows "
                "that each learns, not which is best",
                "Fewer steps, for their cost on a CPU: " + "; ".join(
                    f"{steps} for {', '.join(name for name in FEWER_STEPS if FEWER_STEPS[name]['steps'] == steps)}"
                    for steps in sorted({each["steps"] for each in FEWER_STEPS.values()}, reverse=True))
                + "; those with 100 or fewer keep their published schedule",
                "HyperRefiner had two crops a step, since it normalises over the batch; HyperTransformer its published rate of "
                "1e-4, since 1e-3 diverges"),
    ),
    Study(
        name="classical",
        title="Training-free methods on real AVIRIS scenes",
        methods=tuple(available("classical")),
        dataset="aviris",
        splits=("test-same-flight", "test-other-flight"),
        protocol=replace(PAPER, hr_size=96),
        scenarios=(CLEAN, noise("lr_hsi", 35), noise("lr_hsi", 25)),
        cost_lr_size=24,
        labels=("96x96 scenes; known: told the PSF and SRF of the protocol, blind: not",),
    ),
    Study(
        name="unsupervised",
        title="Optimised for each image, without a reference",
        methods=("bicubic", "gsa", *available("unsupervised")),
        dataset="aviris",
        splits=("test-same-flight", "test-other-flight"),
        msi_bands=(4,),
        protocol=replace(PAPER, hr_size=96),
        scenarios=(CLEAN, noise("lr_hsi", 35), noise("lr_hsi", 25)),
        arguments={"cucanet": {"iterations": 400}},
        labels=("uSDN and u2MDN have the iterations of their releases. CUCaNet was given 400 an image of its 10,000 (0.55 s "
                "each on a CPU core; all take 2,070 s in the published table): its scores are far from what it reaches",
                "uSDN stops by a self-supervised rule, its oracle row by the errors against the reference, as published",
                "Seconds an image were taken on one core of a CPU that did other work as well, the published ones are of "
                "256x256 pixels on the machines of their authors"),
    ),
    Study(
        name="paper",
        title="The settings of the S3RNet papers",
        methods=METHODS,
        dataset="csakd-tiles",
        scenarios=ROBUSTNESS,
    ),
)}


def study(name: str) -> Study:
    """A study by name.

    Raises:
        PlanError: unknown name; the message lists the choices and the nearest one.
    """
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise PlanError(f"unknown profile '{name}'.{hint} Choices: {', '.join(STUDIES)}")
    return STUDIES[name]
