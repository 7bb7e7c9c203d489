"""How long metrics take beside published code: ``python -m pytest -m speed tests/speed/test_scoring.py``, 2 GB of memory."""

import time

import pytest
import torch

from benchmark.metrics import measure
from tests.speed import yardstick_metrics

IMAGES, BANDS, SIDE = 4, 172, 256  # the ratio is that of 16 images, which take 1.4 GB


@pytest.mark.speed
def test_metrics_beside_published_code():
    rng = torch.Generator().manual_seed(0)
    reference = torch.rand(IMAGES, BANDS, SIDE, SIDE, generator=rng)
    estimate = reference + 0.03 * torch.randn(reference.shape, generator=rng)
    ratios = []
    for _ in range(3):  # one after the other, so that what else the machine does slows both
        start = time.perf_counter()
        measure(estimate, reference)
        between = time.perf_counter()
        for one, other in zip(estimate.numpy(), reference.numpy()):
            yardstick_metrics.measure(one, other)
        ratios.append((time.perf_counter() - between) / (between - start))
    print(f"faster by {', '.join(f'{ratio:.1f}' for ratio in ratios)}")
    assert sorted(ratios)[1] > 2
