"""Costs of the methods that are optimised for each image: they are no networks, and tell what they have."""

import dataclasses
import math

import pytest
import torch
from lightning_fabric import Fabric

from benchmark.complexity import ceiling, cost
from benchmark.plan import Job
from benchmark.rows import COST
from benchmark.studies import STUDIES
from methods import create


def row(method, lr_size, **arguments):
    study = dataclasses.replace(STUDIES["unsupervised"], cost_lr_size=lr_size, arguments={method: arguments})
    (found,) = cost(Job("cost", study, (method,), 4, device="cpu"), Fabric(accelerator="cpu", devices=1), lambda line: None)
    return found


@pytest.mark.parametrize("method, parameters", [("usdn", 6472), ("u2mdn", 12_629)])  # as counted of the releases
def test_parameters_alone_are_told(method, parameters):
    found = row(method, 64)
    assert found["parameters"] == found["parameters_used"] == parameters and math.isnan(found["macs_conv"])
    assert found["runs"] == 0 and math.isnan(found["seconds_median"])


def test_a_network_of_its_own_is_counted_once_forward():
    found = row("cucanet", 16, width=8, endmembers=6)
    model = create("cucanet", bands=172, msi_bands=4, ratio=4, srf=torch.ones(4, 172), width=8, endmembers=6)
    assert found["parameters"] == sum(p.numel() for p in model.network((16, 16)).parameters())
    first = 172 * 16 * 16**2  # its first convolution, 1x1 at LR
    last = 6 * (172 + 4) * 64**2  # from abundances to both images at HR
    assert first + last < found["macs_conv"] < 100 * (first + last) and found["runs"] == 0


def test_what_is_achieved_is_the_counted_work_over_the_time():
    found = row("s3rnet-student", 8)
    assert list(found) == list(COST) and found["runs"] >= 3
    assert found["gflops_achieved"] == pytest.approx(2 * found["macs"] / found["seconds_median"] / 1e9)
    assert 0.001 < found["gflops_achieved"] / found["gflops_ceiling"] < 2
    free = row("gsa", 8)
    assert math.isnan(free["gflops_achieved"]) and free["gflops_ceiling"] == found["gflops_ceiling"]  # once a run


def test_the_ceiling_is_the_best_matrix_product(monkeypatch):
    taken = iter((9.0, 3.0, 0.5, 2.0, 4.0, 1.0))
    monkeypatch.setattr("benchmark.complexity.timed", lambda call: (call(), next(taken)))
    assert ceiling.__wrapped__(torch.device("cpu"), 1) == pytest.approx(2 * 2048**3 / 0.5 / 1e9)
