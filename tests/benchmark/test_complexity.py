"""Costs of the methods that are optimised for each image: they are no networks, and tell what they have."""

import dataclasses
import math

import pytest
import torch
from lightning_fabric import Fabric

from benchmark.complexity import cost
from benchmark.plan import Job
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
