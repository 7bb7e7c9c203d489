"""What S3RNet's papers vary: losses (Table III), depths (Table IV), the fusion (Figure 12), and the distillation."""

from __future__ import annotations

from typing import Any

from benchmark.plan import Label, Study
from benchmark.protocol import CLEAN, noise
from benchmark.studies.registry import register
from benchmark.studies.shared import ALONE, EQUAL, PAIR, REDUCED, SCENES, SNR_DB

# Coefficients of the losses (Table III), depths of the student (Table IV), the fusion (Figure 12).
LOSSES = ("naive", "beba-0.5", "sam-0.5", "kd-0.5", "output-0.5")
DEPTHS = ("(1,3,3,3)", "(2,2,2,2)", "(2,3,3,2)")
FUSIONS = ("fusion=sum", "fusion=sigmoid", "fusion=attention", "attention=paper,fusion=attention", "fusion=concat")
ABLATIONS = {
    "loss": ("bicubic", *PAIR, *(f"{name}@recipe={recipe}" for recipe in LOSSES for name in PAIR), ALONE),
    "depth": ("bicubic", "s3rnet-student", *(f"s3rnet-student@depths={depths}" for depths in DEPTHS)),
    "fusion": ("bicubic", *PAIR, *(f"{name}@{fusion}" for fusion in FUSIONS for name in PAIR)),
}
# What an ablation is trained with, by scale: on a CPU in minutes, in hours, and as published.
SCALES: dict[str, dict[str, Any]] = {
    "": {**SCENES, "training": {"steps": 300, "batch": 1, "crop": 32, "lr": 1e-3, "log_every": 50}, "seeds": (0, 1, 2),
         "cost_lr_size": 24, "arguments": REDUCED,
         "labels": (Label("Networks of width 16 after 300 steps, most of them below bicubic: what differs between them says "
                          "little of the published ones", ("arguments", "training")),)},
    "-budget": {**SCENES, "training": {"steps": 2000, "batch": 1, "crop": 32, "lr": 5e-4, "log_every": 100},
                "cost_lr_size": 24, "arguments": {"s3rnet-teacher": {"depths": (2, 4, 4, 2)}}},
    "-paper": {"dataset": "csakd-tiles"},
}
TITLES = {"loss": "Loss coefficients of S3RNet (Table III, Figure 11)", "depth": "Depths of S3RNet's student (Table IV)",
          "fusion": "Fusion of S3RNet's branches (Figure 12)"}

for _what in ABLATIONS:
    for _scale, _settings in SCALES.items():
        register(Study(
            name=f"ablation-{_what}{_scale}",
            title=TITLES[_what],
            methods=ABLATIONS[_what],
            msi_bands=(4,),
            scenarios=(CLEAN, *(noise("both", snr_db) for snr_db in (SNR_DB if _what == "fusion" else (25,)))),
            **_settings,
        ))

# At the published sizes, one learning rate for all: by equal steps, and by about equal processor time a network.
for _what, _alone, _words in (
        ("steps", 2000, "S3RNet's pair had 2,000 steps together, the student without its teacher (recipe=alone) as many"),
        ("minutes", 6000, "S3RNet's pair had 2,000 steps together, the student without its teacher (recipe=alone) 6,000, which "
                          "take about half as long: the same time a network")):
    register(Study(
        name=f"distillation-{_what}",
        title=f"Whether S3RNet's student gains by its teacher, under equal {_what}{' a network' * (_what == 'minutes')}",
        methods=("bicubic", *PAIR, ALONE),
        msi_bands=(4,),
        scenarios=(CLEAN, noise("both", 25)),
        seeds=(0, 1, 2),
        labels=(Label(_words, ("training", "exceptions", "methods")),),
        **SCENES, training={"steps": 2000, **EQUAL, "lr": 3e-4, "lr_range": ()}, exceptions={ALONE: {"steps": _alone}},
        cost_lr_size=24,
    ))
