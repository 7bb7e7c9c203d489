"""The named studies: what ``--profile`` chooses from, and those that a user's file brings.

What follows from a study's values (budget, sizes, arguments, data) is said by the page; labels hold what does not.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
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
from benchmark.plan import Label, PlanError, Study
from benchmark.protocol import CLEAN, OTHER_LR_HSI, PAPER, noise, shifted, told_psf, told_srf
from methods import available, card
from methods.registry import near

HOUR = ("bicubic", "gsa", "hysure", "subspace-ridge", "subspace-ridge-blind", "subspace-net@weights=shipped",
           "s3rnet-teacher", "s3rnet-student")
OURS = "this benchmark"  # how a card's paper begins where a method is of this suite
SNR_DB = (45, 40, 35, 30, 25)
ROBUSTNESS = (CLEAN, *(noise(target, snr_db) for target in ("lr_hsi", "both") for snr_db in SNR_DB))

# Widths and depths of the quick profile: the same network with an eighth of its channels and fewer groups.
SMALL = {"s3rnet-teacher": {"width": 16, "depths": (2, 2, 1, 1)}, "s3rnet-student": {"width": 16, "depths": (1, 1, 1, 1)}}

# Networks of papers, but for the oracle; ours are trained on varied sensors, not by a budget of crops.
PUBLISHED = tuple(name for name in available("supervised") if not card(name).oracle and card(name).paper.split(":")[0] != OURS)
SHORT = {"steps": 1000, "batch": 1, "crop": 32, "lr": 1e-3, "schedule": "cosine", "log_every": 50, "ema": None,
         "drop_last": False}
# The same processor time for every network; its own learning rate or one of three to ten times that, by a short trial.
EQUAL: dict[str, Any] = {"minutes": 4.0, "batch": 1, "crop": 32, "schedule": "cosine", "log_every": 25, "ema": None,
                         "drop_last": False, "keep": "best-psnr", "lr_range": (1.0, 3.0, 10.0)}
PAIR = ("s3rnet-teacher", "s3rnet-student")  # two of one training
# They make a hundred steps or fewer in that time, which shows nothing of them.
TOO_DEAR = ("dhif-net", "fusion-mamba", "hyfusion", "hyfusion-published", "qrcode", "s3rnet-igarss", "s3rnet-student-large",
            "s3rnet-teacher-large", "sspsr")
# With six MSI bands: those of the papers' tables that are not dear, the best ones here, and three more.
SIX = ("dual-unet", "fusformer", "mssjfl", "psdnet", "u2net", *PAIR, "mimo-sst", "restfnet", "ssif", "tfnet", "3dt-net",
       "dctransformer", "dsdcn")
# Optimised for each image, in minutes; ARGS-Diff learns 30,000 steps an image, days on a CPU.
PER_IMAGE = tuple(name for name in available("unsupervised") if name != "args-diff")
EVERY = (CLEAN, *(noise(target, snr_db) for target in ("lr_hsi", "both") for snr_db in (45, 35, 25, 15)), shifted(1),
         shifted(2), told_psf(2.0), degraded(Stripes(0.02)))
FEW = (CLEAN, noise("lr_hsi", 35), noise("lr_hsi", 25))
# Each alone, on otherwise clean images; a little, and a lot.
DEFECTS: dict[Any, tuple[float, float]] = {
    BandNoise: (35, 25), ShotNoise: (10000, 1000), Stripes: (0.02, 0.05), DeadLines: (0.005, 0.02), DeadPixels: (0.005, 0.02),
    Saturation: (0.01, 0.05), Quantisation: (10, 8), Smile: (1, 3), Keystone: (0.5, 2), Shift: (0.25, 0.5),
    Rotation: (0.25, 1), NonUniform: (1, 2)}
# What studies of the real scenes share under that budget.
REAL: dict[str, Any] = {
    "dataset": "aviris", "splits": ("test-same-flight", "test-other-flight"), "protocol": replace(PAPER, hr_size=96),
    "training": EQUAL, "cost_lr_size": 24,
    "exceptions": {
        **{name: {"minutes": 2 * EQUAL["minutes"]} for name in PAIR},
        "hyper-refiner": {"batch": 2},
        "s3rnet-subspace": {"crop": 64, "schedule": "cosine:0.02", "ema": 0.998, "lr_range": ()},
    },
    "arguments": {"hyper-transformer": {"lr_pixels": 64}, "cucanet": {"iterations": 400}},
}
FOLDED = ("mimo-sst", *PAIR)  # networks that are trained once a fold: the best of study aviris, and S3RNet's
# With five times the minutes: the best on the validation scene, S3RNet's, and two of fewer than 200 steps in study aviris.
LONGER = ("mimo-sst", *PAIR, "pzres-net", "mog-dcn")
ANCHORED = ("ssuf", "u2net")  # networks that learn in minutes

# What the ablations vary: coefficients of the losses (Table III), depths of the student (Table IV), the fusion (Figure 12).
LOSSES = ("naive", "beba-0.5", "sam-0.5", "kd-0.5", "output-0.5")
DEPTHS = ("(1,3,3,3)", "(2,2,2,2)", "(2,3,3,2)")
FUSIONS = ("fusion=sum", "fusion=sigmoid", "fusion=attention", "attention=paper,fusion=attention", "fusion=concat")
ABLATIONS = {
    "loss": (*PAIR, *(f"{name}@recipe={recipe}" for recipe in LOSSES for name in PAIR), "s3rnet-student@recipe=alone"),
    "depth": ("s3rnet-student", *(f"s3rnet-student@depths={depths}" for depths in DEPTHS)),
    "fusion": (*PAIR, *(f"{name}@{fusion}" for fusion in FUSIONS for name in PAIR)),
}
# What an ablation is trained with, by scale: on a CPU in minutes, in hours, and as published.
SCALES: dict[str, dict[str, Any]] = {
    "": {"dataset": "aviris", "splits": ("test-same-flight", "test-other-flight"), "protocol": replace(PAPER, hr_size=96),
         "training": {"steps": 300, "batch": 1, "crop": 32, "lr": 1e-3, "log_every": 50}, "seeds": (0, 1, 2),
         "cost_lr_size": 24,
         "arguments": {"s3rnet-teacher": {"width": 16, "depths": (2, 2, 1, 1)}, "s3rnet-student": {"width": 16}}},
    "-budget": {"dataset": "aviris", "splits": ("test-same-flight", "test-other-flight"),
                "protocol": replace(PAPER, hr_size=96), "cost_lr_size": 24,
                "training": {"steps": 2000, "batch": 1, "crop": 32, "lr": 5e-4, "log_every": 100},
                "arguments": {"s3rnet-teacher": {"depths": (2, 4, 4, 2)}}},
    "-paper": {"dataset": "csakd-tiles"},
}
TITLES = {"loss": "Loss coefficients of S3RNet (Table III, Figure 11)", "depth": "Depths of S3RNet's student (Table IV)",
          "fusion": "Fusion of S3RNet's branches (Figure 12)"}

# Our own network: what is varied of it and of its training, each with a fifth of the steps, against the same without it.
SUBSPACE = "subspace-net@train=and-procedural"
VARIANTS = ("anchor_of=bicubic", "noise_aware=False", "components=4", "components=8",
            "components=16", "stages=1", "stages=2", "stages=5", "recipe=fixed-sensor", "recipe=fixed-noise",
            "recipe=fixed-misregistration")

STUDIES: dict[str, Study] = {}


def register(study: Study) -> Study:
    """Make a study available by its name.

    Raises:
        PlanError: the name is taken.
    """
    if study.name in STUDIES:
        raise PlanError(f"study '{study.name}' is registered twice; choose another name than {', '.join(STUDIES)}")
    STUDIES[study.name] = study
    return study


def load_file(path: Path) -> None:
    """Run a user's Python file, which registers methods, datasets, metrics and studies as the modules of this project do.

    It is imported under a name of its own, so that the code it holds counts in the digests of what it decides.

    Raises:
        PlanError: no such file, or it does not run.
    """
    path = path.expanduser().resolve()
    if not path.is_file():
        raise PlanError(f"--study-file {path}: no such file; give a Python file that registers methods, datasets or studies")
    name = f"study_file_{path.stem}"
    if sys.modules.get(name) is not None and getattr(sys.modules[name], "__file__", "") == str(path):
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PlanError(f"--study-file {path}: not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise PlanError(f"--study-file {path}: {type(error).__name__}: {error}") from error


for _study in (
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
        pictures=True,
        labels=(Label("A quick look: the numbers show that everything runs and are not comparable with the papers"),),
    ),
    Study(
        name="aviris",
        title="Real AVIRIS scenes under one budget, split by flight",
        methods=(*available("classical"), *PER_IMAGE, "subspace-net@weights=shipped", "s3rnet-subspace@train=and-procedural",
                 *(name for name in PUBLISHED if name not in TOO_DEAR), "restfnet@keep=best-on-test"),
        msi_bands=(4,),
        scenarios=(*EVERY, OTHER_LR_HSI),
        fewer_scenarios={
            "s3rnet-subspace": EVERY,  # its training scenes are smaller than those tested: none can stand in for another
            **dict.fromkeys((*PER_IMAGE, "lttr", "lttr-blind", "ltmr", "ltmr-blind", "nssr", "nssr-blind", "lanaras",
                             "lanaras-blind", "ssdiff", "pzres-net", "hyper-transformer"), FEW),
            "cucanet": (CLEAN,)},
        labels=(
            Label("Every network had the same processor time, of one core, and was then scored with the parameters that were "
                  "best for the validation scene; the papers train for hours to days on GPUs, and their split mixes tiles of "
                  "the same flights", ("training", "exceptions")),
            Label("A teacher and a student that are trained together had twice that time together. HyperRefiner had two crops "
                  "a step, since it normalises over the batch", ("training", "exceptions")),
            Label("s3rnet-subspace was trained as its card says, on varied sensors and procedural scenes as well; subspace-net "
                  "has the weights that come with the suite", ("methods", "training", "exceptions")),
            Label(f"Left out, since they make a hundred steps or fewer in that time: {', '.join(TOO_DEAR)}",
                  ("methods", "training")),
            Label("CUCaNet had 400 of its 10,000 iterations an image", ("arguments", "methods")),
            Label("Methods that take long are scored clean and with noise of 35 and 25 dB on the LR-HSI alone, CUCaNet clean",
                  ("fewer_scenarios", "scenarios")),
        ),
        **REAL | {"cost_lr_size": 64},  # as the papers
    ),
    Study(
        name="aviris-20",
        title="Real AVIRIS scenes, twenty minutes a network",
        methods=("bicubic", "gsa", "hysure", "subspace-ridge", "s3rnet-subspace@train=and-procedural", *LONGER),
        msi_bands=(4,),
        scenarios=EVERY,
        fewer_scenarios={"pzres-net": FEW},
        labels=(Label("Trained as in study aviris with five times its minutes, a teacher and a student that are trained "
                      "together forty", ("training", "exceptions")),
                Label("Its networks are s3rnet-subspace and of study aviris the best on the validation scene, S3RNet's, and "
                      "two that made fewer than 200 steps there", ("methods", "training"))),
        **REAL | {"training": EQUAL | {"minutes": 20.0},
                  "exceptions": REAL["exceptions"] | {name: {"minutes": 40.0} for name in PAIR}},
    ),
    Study(
        name="six-bands",
        title="Six MSI bands, real AVIRIS scenes under one budget",
        methods=(*available("classical"), "subspace-net@weights=shipped", "s3rnet-subspace@train=and-procedural",
                 *(name for name in PUBLISHED if name in SIX)),
        msi_bands=(6,),
        scenarios=FEW,
        labels=(Label("Trained as in study aviris, each with the same processor time: there with 4 bands, more scenarios, and "
                      "what is left out", ("training", "exceptions", "methods")),
                Label("Its networks are those of the papers' tables that are not too dear, the best ones of "
                      "study aviris, and three more", ("methods", "training"))),
        **REAL,
    ),
    Study(
        name="seeds",
        title="S3RNet and s3rnet-subspace with three seeds",
        methods=(*PAIR, "s3rnet-subspace@train=and-procedural"),
        msi_bands=(4,),
        scenarios=EVERY,
        seeds=(0, 1, 2),
        labels=(Label("Trained as in study aviris, each with the same processor time, three times from other starts",
                      ("training", "exceptions", "seeds")),),
        **REAL,
    ),
    *(Study(
        name=f"fold-{fold}",
        title=f"Leaving one scene of flight A out: fold {fold} of 4",
        methods=(*available("classical"), *FOLDED),  # what comes trained has seen the scenes of these folds
        dataset_options={"fold": fold},
        msi_bands=(4,),
        labels=(Label("Trained as in study aviris, which is the first fold, each with the same processor time",
                      ("training", "exceptions", "methods")),),
        **REAL | {"splits": ("test-same-flight",)},
    ) for fold in (2, 3, 4)),
    Study(
        name="degradations",
        title="What goes wrong with real pairs, defect by defect",
        methods=("bicubic", "gsa", "sfim-hs", "glp-hs", "cnmf", "fuse", "hysure", "hysure-blind", "subspace-ridge",
                 "subspace-ridge-blind", "subspace-net@weights=shipped", "tfnet", "mimo-sst", "psdnet", "u2net",
                 "s3rnet-teacher", "s3rnet-student"),
        msi_bands=(4,),
        scenarios=(CLEAN, *(degraded(kind(amount)) for kind, amounts in DEFECTS.items() for amount in amounts),
                   shifted(1), shifted(2), told_psf(2.0), told_psf(4.0), told_srf(10.0), told_srf(20.0)),
        labels=(Label("Trained on clean images, with the same processor time each; known: told the PSF and SRF, of pairs that "
                      "vary over the field those of its middle", ("methods", "training", "exceptions")),),
        **REAL,
    ),
    Study(
        name="hour",
        title="S3RNet after an hour on one core",
        methods=HOUR,
        dataset="aviris",
        splits=("test-same-flight", "test-other-flight"),
        protocol=replace(PAPER, hr_size=96),
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
    ),
    Study(
        name="anchored",
        title="Networks as corrections of a training-free estimate",
        methods=("subspace-ridge", *(label for name in ANCHORED for label in (name, f"{name}@anchor=subspace-ridge"))),
        dataset="aviris",
        splits=("test-same-flight", "test-other-flight"),
        msi_bands=(4,),
        protocol=replace(PAPER, hr_size=96),
        training=SHORT,
        labels=(Label("Each network twice, with the same steps of the same crops: as published, and adding what it finds in "
                      "standardised images to what subspace-ridge estimates", ("methods", "training")),),
    ),
    Study(
        name="classical",
        title="Training-free methods on real AVIRIS scenes",
        methods=tuple(available("classical")),
        dataset="aviris",
        splits=("test-same-flight", "test-other-flight"),
        protocol=replace(PAPER, hr_size=96),
        scenarios=FEW,
        cost_lr_size=24,
        labels=(Label("Known: told the PSF and SRF of the protocol; blind: not"),),
    ),
    Study(
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
    ),
    Study(
        name="unsupervised",
        title="Optimised for each image, without a reference",
        methods=("bicubic", "gsa", *PER_IMAGE),
        dataset="aviris",
        splits=("test-same-flight", "test-other-flight"),
        msi_bands=(4,),
        protocol=replace(PAPER, hr_size=96),
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
    ),
    Study(
        name="paper",
        title="The settings of the S3RNet papers",
        methods=("bicubic", "gsa", *PAIR),
        dataset="csakd-tiles",
        scenarios=ROBUSTNESS,
    ),
    Study(
        name="procedural-256",
        title="The papers' sizes on procedural scenes",
        methods=("bicubic", "gsa", "cnmf", "hysure", "subspace-ridge", *PAIR),
        dataset="synthetic-aviris",
        dataset_options={"train": 8, "val": 1, "test": 1},
        scenarios=ROBUSTNESS,
        training=EQUAL,
        pictures=True,
        labels=(Label("Images as large as the papers', of scenes that a seed draws: the shape of their tables and figures, not "
                      "their numbers", ("dataset", "dataset_options")),
                Label("Networks of the published sizes, but minutes of one core in the place of 600 epochs", ("training",)),
                Label("Losses, depths and fusions: studies ablation-loss, ablation-depth and ablation-fusion", ("methods",))),
    ),
    *(Study(
        name=f"ablation-{what}{scale}",
        title=TITLES[what],
        methods=ABLATIONS[what],
        msi_bands=(4,),
        scenarios=(CLEAN, *(noise("both", snr_db) for snr_db in SNR_DB)) if what == "fusion" else (CLEAN, noise("both", 25)),
        **settings,
    ) for what in ABLATIONS for scale, settings in SCALES.items()),
    Study(
        name="unseen-flights",
        title="Scenes of flights that nobody trained on",
        methods=("bicubic", "gsa", "hysure", "subspace-ridge", "subspace-ridge-blind", SUBSPACE),
        dataset="aviris",
        splits=("test-same-flight", "test-other-flight"),
        protocol=replace(PAPER, hr_size=96),
        scenarios=(*ROBUSTNESS, shifted(1)),
        seeds=(0, 1, 2),
        cost_lr_size=24,
        labels=(Label("subspace-net was trained on four scenes of flight A and 24 procedural ones, seen by random sensors; "
                      "it and the methods without -blind are told the responses", ("methods",)),),
    ),
    Study(
        name="ablation-subspace",
        title="What each part of subspace-net is worth",
        methods=("subspace-ridge", SUBSPACE, *(f"{SUBSPACE},{words}" for words in VARIANTS),
                 "s3rnet-subspace@train=and-procedural",
                 *(f"s3rnet-subspace{role}@train=and-procedural,recipe=hokd" for role in ("-teacher", ""))),
        dataset="aviris",
        splits=("test-same-flight", "test-other-flight"),
        protocol=replace(PAPER, hr_size=96),
        scenarios=(CLEAN, noise("lr_hsi", 35), noise("both", 30), shifted(1)),
        training={"steps": 1200},
        cost_lr_size=24,
        labels=(Label("Each variant was trained for a fifth of the steps of the entry, once", ("training", "seeds")),),
    ),
    Study(
        name="distillation",
        title="Whether S3RNet's student gains by its teacher",
        methods=("s3rnet-teacher", "s3rnet-student", "s3rnet-student@recipe=alone"),
        msi_bands=(4,),
        scenarios=(CLEAN, noise("both", 25)),
        **SCALES[""] | {"training": SCALES[""]["training"] | {"steps": 600}},
    ),
    Study(
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
        arguments={"s3rnet-teacher": {"width": 16, "depths": (2, 2, 1, 1)}, "s3rnet-student": {"width": 16}},
        cost_lr_size=12,
        labels=(Label("The same networks, steps and tested tiles; train=overlapping: 15 of the 36 training tiles neighbour "
                      "the tested ones and share pixels with them, train=flight: all are of another flight",
                      ("methods", "dataset", "dataset_options")),),
    ),
):
    register(_study)


def study(name: str) -> Study:
    """A study by name.

    Raises:
        PlanError: unknown name; the message lists the choices and the nearest one.
    """
    if name not in STUDIES:
        raise PlanError(f"unknown profile '{name}'.{near(name, STUDIES)} Choices: {', '.join(STUDIES)}")
    return STUDIES[name]
