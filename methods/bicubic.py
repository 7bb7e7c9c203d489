"""Bicubic interpolation of the LR-HSI: the baseline that a fusion must beat to have gained from the MSI.

Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29(6):1153-1160, 1981.
"""

from __future__ import annotations

import torch

from methods.registry import Method, register
from methods.resample import resize


class Bicubic:
    """The LR-HSI resized to the grid of the HR-MSI, whose values are not used.

    The half-pixel grid takes an LR pixel for the middle of its block. Where decimation kept HR sample ``phase``, the
    result is shifted by ``(ratio - 1) / 2 - phase`` HR pixels.
    """

    card: Method

    def __call__(self, lr_hsi: torch.Tensor, hr_msi: torch.Tensor) -> torch.Tensor:
        """Interpolate.

        Args:
            lr_hsi: (B, bands, h, w).
            hr_msi: (B, msi_bands, H, W); only its size matters.

        Returns:
            (B, bands, H, W).
        """
        return resize(lr_hsi, hr_msi.shape[-2:], "cubic")


@register(
    "bicubic",
    family="classical",
    told="blind",
    paper="Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 1981",
    year=1981,
    fidelity="reference",
    source="the rule of MATLAB's imresize (a = -0.5, half-pixel grid, mirrored borders)",
    note="Uses no MSI. Takes LR pixels for block centres, whatever the phase of the data.",
)
def bicubic() -> Bicubic:
    """Build it: the images tell all it needs."""
    return Bicubic()
