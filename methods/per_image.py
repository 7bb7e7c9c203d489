"""What methods share that are optimised anew for each image: the loop over a batch, its seed, and a progress bar.

In outline::

    def optimise(lr_hsi, hr_msi, label):  # one image, (1, ., ., .); gradients are on
        network = Network(...)            # starts from the seed, whatever the image's place in the batch
        with iterations(3000, label) as steps:
            for i in steps:               # 1, 2, ..., 3000; `break` is fine
                ...
                report(steps, i, loss)
        return fused

    return fuse_each(optimise, lr_hsi, hr_msi, name="method", seed=0)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

REPORT_EVERY = 25  # iterations: to read a loss waits for the GPU


def fuse_each(
    optimise: Callable[[Tensor, Tensor, str], Tensor], lr_hsi: Tensor, hr_msi: Tensor, name: str, seed: int
) -> Tensor:
    """Optimise the images of a batch one after the other, in float32 and with gradients even under ``no_grad``.

    Args:
        optimise: ``(lr_hsi (1, bands, h, w), hr_msi (1, msi_bands, H, W), label) -> (1, bands, H, W)``.
        lr_hsi: (B, bands, h, w).
        hr_msi: (B, msi_bands, H, W).
        name: of the method, for the label of the progress bar.
        seed: of torch's CPU generator, set before each image and put back after it: draw on the CPU, then move.

    Returns:
        (B, bands, H, W), dtype of ``lr_hsi``, detached.
    """
    fused = []
    pairs = zip(lr_hsi.detach().float().split(1), hr_msi.detach().float().split(1), strict=True)
    with torch.enable_grad():
        for number, (x, y) in enumerate(pairs, 1):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs as well
                fused.append(optimise(x, y, f"{name}, image {number}/{len(lr_hsi)}").detach())
    return torch.cat(fused).to(lr_hsi.dtype)


def iterations(total: int, label: str) -> tqdm[int]:
    """Count 1, 2, ..., ``total`` behind a bar on stderr that vanishes at the end; use it in a ``with``."""
    return tqdm(range(1, total + 1), desc=label, unit="it", leave=False, mininterval=1.0)


def report(steps: tqdm[int], i: int, loss: Tensor) -> None:
    """Show the loss of iteration ``i`` on the bar, the first one and every :data:`REPORT_EVERY`-th."""
    if i == 1 or i % REPORT_EVERY == 0:
        steps.set_postfix_str(f"loss {loss.item():.4g}", refresh=False)
