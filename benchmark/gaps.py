"""Where images of a pair hold no data: what stands there while they are fused, and the largest part that has none."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


def filled_together(lr_hsi: Tensor, hr_msi: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Both images with what the nearest LR pixel whose data are whole holds, where an LR pixel has none in one of them.

    Filled each by itself they would show two scenes there, and what is estimated from the two would take them for one.

    Args:
        lr_hsi: (bands, h, w).
        hr_msi: (msi_bands, H, W), sides multiples of h and w.
        valid: (H, W) bool, where both hold data.
    """
    blocks = valid.view(lr_hsi.shape[1], valid.shape[0] // lr_hsi.shape[1], lr_hsi.shape[2], -1)
    whole, none = blocks.all(3).all(1), ~blocks.any(3).any(1)
    if not whole.any() or not none.any():
        return lr_hsi, hr_msi
    rows, columns = (torch.from_numpy(each) for each in ndimage.distance_transform_edt(
        ~whole.numpy(), return_distances=False, return_indices=True))
    lr_hsi, fine = lr_hsi.clone(), hr_msi.clone().view(len(hr_msi), *blocks.shape)
    to, of = none.nonzero(as_tuple=True), (rows[none], columns[none])
    lr_hsi[:, to[0], to[1]] = lr_hsi[:, of[0], of[1]]
    fine[:, to[0], :, to[1]] = fine[:, of[0], :, of[1]]
    return lr_hsi, fine.view_as(hr_msi)


def largest_rectangle(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left and right (the ends excluded) of the largest rectangle that is True all over; zeros if none is."""
    best, found = 0, (0, 0, 0, 0)
    heights = np.zeros(mask.shape[1] + 1, dtype=int)  # of the columns of True that end in this row, and a last one of none
    for row, line in enumerate(mask):
        heights[:-1] = np.where(line, heights[:-1] + 1, 0)
        rising: list[tuple[int, int]] = []  # (column where a rectangle of this height can begin, height)
        for column, height in enumerate(heights.tolist()):
            begin = column
            while rising and rising[-1][1] >= height:
                begin, high = rising.pop()
                if high * (column - begin) > best:
                    best, found = high * (column - begin), (row + 1 - high, row + 1, begin, column)
            rising.append((begin, height))
    return found
