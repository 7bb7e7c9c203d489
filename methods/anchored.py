"""Any network as a correction of a training-free estimate: ``name@anchor=subspace-ridge``.

A network that maps bands of one flight to bands of the same flight has learned that flight. Here it sees each image in the
deviations of its own bands, and what it gives is added to the estimate of a method that knows the observation model:

    x = a + g s net((Y - m) / s, (Z - m') / s'),    g (bands,) learned, from 0 on

with a the anchor, m and s mean and deviation of each band of the LR-HSI, m' and s' of each band of the HR-MSI. Before training
that is the anchor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from methods.registry import Method, MethodError, create
from methods.responses import Told
from methods.tasks import HOKD, Supervised

SPREAD = 8.0  # deviations that fill the value range of the network


def anchored(network: nn.Module, method: Method, anchor: str, bands: int, msi_bands: int, ratio: int,
             told: Told | None = None) -> Anchored:
    """A network that corrects an anchor, given by its name, and is told the responses if there are any.

    Raises:
        MethodError: a network whose training asks it for more than an image.
    """
    first = next(iter(method.recipes.values()))
    stages = first if isinstance(first, tuple) else (first,)
    if not all(stage.task.forward is Supervised.forward or issubclass(stage.task, HOKD) for stage in stages):  # type: ignore
        raise MethodError(f"method '{method.name}' cannot have an anchor: its training asks the network for more than an image")

    def tell(responses: Told | None) -> Callable[[Tensor, Tensor], Tensor]:
        known = {} if responses is None else responses._asdict()
        return create(anchor, bands=bands, msi_bands=msi_bands, ratio=ratio, **known)

    model = Anchored(network, tell, bands, method.input_range)
    model.told = told
    return model


class Anchored(nn.Module):
    """A network that corrects an anchor.

    Args:
        network: as its builder gives it.
        anchor: ``anchor(told)`` -> the training-free method, told the responses where it takes them.
        bands: of the hyperspectral image.
        input_range: of the network, which its inputs and outputs keep.
    """

    def __init__(self, network: nn.Module, anchor: Callable[[Any], Callable[[Tensor, Tensor], Tensor]], bands: int,
                 input_range: tuple[float, float]) -> None:
        super().__init__()
        self.corrector, self.anchor = network, anchor
        self.told: Told | None = None
        self.low, self.high = input_range
        self.gain = nn.Parameter(torch.zeros(bands, 1, 1))

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W) -> (B, bands, H, W), all in the network's range."""
        return self.corrected(lr_hsi, hr_msi, self.corrector(self.standard(lr_hsi), self.standard(hr_msi)))

    def forward_with_features(self, lr_hsi: Tensor, hr_msi: Tensor) -> tuple[Tensor, Tensor]:
        """The same with the features of a network that tells them."""
        image, features = self.corrector.forward_with_features(  # type: ignore[operator]
            self.standard(lr_hsi), self.standard(hr_msi))
        return self.corrected(lr_hsi, hr_msi, image), features

    def network(self, size: tuple[int, int]) -> nn.Module:
        """What is counted: the anchor has no layers."""
        return self.corrector

    def corrected(self, lr_hsi: Tensor, hr_msi: Tensor, found: Tensor) -> Tensor:
        """The anchor plus what the network found."""
        span, middle = self.high - self.low, (self.low + self.high) / 2
        with torch.no_grad():
            anchor = self.anchor(self.told)((lr_hsi.detach() - self.low) / span, (hr_msi.detach() - self.low) / span)
        deviation = lr_hsi.flatten(2).std(2)[..., None, None]
        return anchor * span + self.low + self.gain * deviation * (found - middle) * (SPREAD / span)

    def standard(self, images: Tensor) -> Tensor:
        """Each band of each image (B, C, H, W) about the middle of the range, :data:`SPREAD` deviations wide."""
        flat = images.flatten(2)
        mean, deviation = flat.mean(2)[..., None, None], flat.std(2)[..., None, None].clamp(min=1e-8)
        return (images - mean) / deviation * ((self.high - self.low) / SPREAD) + (self.low + self.high) / 2
