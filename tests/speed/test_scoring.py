"""How long metrics take beside published code: ``make speed``; 16 images take 1.5 GB, and as much again is computed on."""

import pytest
import torch

from benchmark.metrics import measure
from tests.speed import yardstick_metrics

BANDS, SIDE = 172, 256


@pytest.mark.speed
def test_metrics_beside_published_code(paired):
    rng = torch.Generator().manual_seed(0)
    reference = torch.rand(16, BANDS, SIDE, SIDE, generator=rng)
    estimate = reference + 0.03 * torch.randn(reference.shape, generator=rng)
    ours = measure(estimate[:1], reference[:1])
    theirs = yardstick_metrics.measure(estimate[0].numpy(), reference[0].numpy())
    difference = max(abs(ours[name].item() - value) for name, value in theirs.items())
    assert difference < 1e-6

    def released():
        for one, other in zip(estimate.numpy(), reference.numpy()):
            yardstick_metrics.measure(one, other)

    paired(released, lambda: measure(estimate, reference), rounds=3, what="metrics", subject="PSNR, SAM, RMSE, ERGAS, SSIM",
           variant="exact", size=f"16 images of {BANDS}x{SIDE}x{SIDE}", goal=5.0, difference=difference)
