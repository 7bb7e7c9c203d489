"""Loss terms against recordings of the release and against plain loops."""

import pytest
import torch

from benchmark.fidelity.recordings import load_case, probe
from methods import losses


@pytest.mark.golden
def test_release_forms_are_the_release_s():
    recorded = load_case("s3rnet_metrics_losses")["losses"]
    y = 2 * probe("l1_y", (2, 172, 16, 16)) - 1
    estimate = y + 0.4 * (probe("l1_e", (2, 172, 16, 16)) - 0.5)
    student = 4 * probe("l1_fs", (2, 172, 16, 16)) - 2
    teacher = 4 * probe("l1_ft", (2, 172, 16, 16)) - 2
    assert losses.l1(estimate, y).item() == pytest.approx(recorded["l1"], rel=1e-5)
    assert losses.smooth_l1(estimate, y).item() == pytest.approx(recorded["smooth_l1"], rel=1e-5)
    assert losses.beba_release(estimate, y).item() == pytest.approx(recorded["beba_release"], rel=1e-6)
    assert losses.feature_kd(student, teacher).item() == pytest.approx(recorded["kd_bce"], rel=1e-6)
    # The spectral form differs by 3e-4 of the value on these inputs.
    assert losses.sam_release(estimate, y).item() == pytest.approx(recorded["sam_loss"], rel=1e-5)


def test_the_release_s_sam_runs_along_pixels_and_the_paper_s_along_bands():
    torch.manual_seed(0)
    e, y = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    cosine = torch.nn.functional.cosine_similarity
    rows = [cosine(a, b, dim=0) for a, b in zip(e.reshape(-1, 3), y.reshape(-1, 3))]
    assert losses.sam_release(e, y).item() == pytest.approx(1 - torch.stack(rows).mean().item(), abs=1e-6)
    pixels = [cosine(e[b, :, i, j], y[b, :, i, j], dim=0) for b in range(2) for i in range(4) for j in range(5)]
    assert losses.sam_paper(e, y).item() == pytest.approx(1 - torch.stack(pixels).mean().item(), abs=1e-6)


def test_the_paper_s_beba_is_its_equation():
    torch.manual_seed(0)
    e, y = 3 * torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)  # squared differences on both sides of beta = 1
    total = 0.0
    for image in range(2):
        for band in range(3):
            d = (e[image, band] - y[image, band]) ** 2
            total += ((0.5 * d + (d - 1).clamp(min=0)).mean() / ((y[image, band] ** 2).mean() + 1e-6)).item() / 6
    assert losses.beba_paper(e, y).item() == pytest.approx(total, rel=1e-5)
    assert losses.beba_paper(y, y).item() == 0 > losses.beba_release(y, y).item()
