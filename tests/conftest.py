"""Two threads, as on the smallest machine the suite is meant for; figures as PNG, but for tests marked ``pdf``."""

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def kinds_of_figures(request, monkeypatch):
    """PDFs of the same drawings are a quarter of the time of a page."""
    from benchmark.page import plots

    if request.node.get_closest_marker("pdf") is None:
        monkeypatch.setattr(plots, "KINDS", ("png",))
