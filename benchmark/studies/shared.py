"""Values that several studies share: scenes, scenarios, methods and budgets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmark.degradations import Stripes, degraded
from benchmark.protocol import CLEAN, PAPER, noise, shifted, told_psf
from methods import available

# The eight real scenes that are split by flight, cut to sizes that a CPU fuses quickly.
SCENES: dict[str, Any] = {"dataset": "aviris", "splits": ("test-same-flight", "test-other-flight"),
                          "protocol": replace(PAPER, hr_size=96)}

SNR_DB = (45, 40, 35, 30, 25)
ROBUSTNESS = (CLEAN, *(noise(target, snr_db) for target in ("lr_hsi", "both") for snr_db in SNR_DB))
EVERY = (CLEAN, *(noise(target, snr_db) for target in ("lr_hsi", "both") for snr_db in (45, 35, 25, 15)), shifted(1),
         shifted(2), told_psf(2.0), degraded(Stripes(0.02)))
FEW = (CLEAN, noise("lr_hsi", 35), noise("lr_hsi", 25))

PAIR = ("s3rnet-teacher", "s3rnet-student")  # two of one training
ALONE = "s3rnet-student@recipe=alone"
REDUCED: dict[str, Any] = {"s3rnet-teacher": {"width": 16, "depths": (2, 2, 1, 1)}, "s3rnet-student": {"width": 16}}
# Optimised for each image, in minutes; ARGS-Diff learns 30,000 steps an image, days on a CPU.
PER_IMAGE = tuple(name for name in available("unsupervised") if name != "args-diff")

SHORT = {"steps": 1000, "batch": 1, "crop": 32, "lr": 1e-3, "schedule": "cosine", "log_every": 50, "ema": None,
         "drop_last": False}
# The same processor time for every network; its own learning rate or one of three to ten times that, by a short trial.
EQUAL: dict[str, Any] = {"batch": 1, "crop": 32, "schedule": "cosine", "log_every": 25, "ema": None, "drop_last": False,
                         "keep": "best-psnr", "lr_range": (1.0, 3.0, 10.0)}
MINUTES, FEWER_MINUTES = 20.0, 4.0  # of that budget: of the leaderboard, and of what is varied beside it
# Their release's 10,000 steps would end before twenty minutes. RestFNet of the same release keeps them: it diverges, and its
# gradients overflow after some 6,000 where the learning rate falls later.
ENDING_EARLY = ("tfnet", "ssrnet", "msdcnn")


def under_equal(minutes: float) -> dict[str, Any]:
    """What studies of the real scenes under that budget share; the two networks of one training have twice the minutes."""
    return {
        **SCENES, "training": {"minutes": minutes, **EQUAL}, "cost_lr_size": 24,
        "exceptions": {
            **{name: {"minutes": 2 * minutes} for name in PAIR},
            "hyper-refiner": {"batch": 2},
            **{name: {"steps": None} for name in ENDING_EARLY if minutes == MINUTES},
            "s3rnet-subspace": {"crop": 64, "schedule": "cosine:0.02", "ema": 0.998, "lr_range": ()},
        },
        "arguments": {"hyper-transformer": {"lr_pixels": 64}, "cucanet": {"iterations": 400}},
    }
