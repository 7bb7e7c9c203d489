"""PSDNet's teacher by itself: what the network gives when its second stage is shown the reference HR-HSI.

An upper reference, no fusion method: a row of it says how much of PSDNet's error is left when the answer is an input. Paper
and release as in :mod:`methods.psdnet`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.psdnet import PSDNet
from methods.registry import MethodError, Recipe, register
from methods.tasks import Task


class PSDNetTeacher(PSDNet):
    """Called with a third image, the reference; without it, as when operations are counted, it sees its own first stage."""

    oracle = True

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor, reference: Tensor | None = None) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W), (B, bands, H, W) -> (B, bands, H, W): the image of the last stage."""
        return self.stages(lr_hsi, hr_msi, reference)["img3"]


class ThreeImages(Task):
    """L1 of the three stages' images, the reference being an input as well."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms."""
        lr_hsi, hr_msi, reference = self.inputs(batch, 0)
        stages = self.network().stages(lr_hsi, hr_msi, reference)
        losses = {f"{self.names[0]}/{image}": F.l1_loss(stages[image], reference) for image in ("img1", "img2", "img3")}
        loss = torch.stack(list(losses.values())).sum()
        return losses | {f"{self.names[0]}/loss": loss, "loss": loss}


@register(
    "psdnet-oracle",
    family="supervised",
    oracle=True,
    paper="Gong et al., PSDNet, TGRS 2023 (teacher)",
    year=2023,
    fidelity="release",
    source="Meiqi-Gong/PSDNet@dda8b2d317037bb925e75e6add3844df4918f1d4",
    count_reason="as the student's: shared layers once per use, transposed convolutions once per output pixel",
    recipes={"release": Recipe(task=ThreeImages, trains=("psdnet-oracle",), lr=5e-4, schedule="step:5:0.95", batch=8,
                               crop=256, augment=(), epochs=9)},
    small={"n_feat": 16},
    note="looks at the reference HR-HSI: an upper reference, no fusion method",
)
def psdnet_oracle(bands: int, msi_bands: int, ratio: int, n_feat: int = 28) -> PSDNetTeacher:
    """Build it.

    Raises:
        MethodError: an odd ratio, or ``n_feat`` under 4.
    """
    if ratio % 2 or n_feat < 4:
        raise MethodError(f"psdnet-oracle: ratio {ratio}, n_feat {n_feat}; choose the ratio 2, 4 or 8 and n_feat of at least 4")
    return PSDNetTeacher(bands, msi_bands, ratio, n_feat)
