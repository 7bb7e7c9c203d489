"""SSIF-style: spectral super-resolution of the HR-MSI at any wavelength by an implicit function. Takes no HSI.

Paper: G. Mai et al., "Learning Continuous Image Representation for Spatial-Spectral Super-Resolution", 2023. No code of it was
found, and its text was read in a summary only: an image encoder of the MSI, a decoder of pixel features, a spectral encoder
that samples wavelengths inside each band. Those three are here; layers, widths and training are ours:

    h(x)   = D(E(Z))(x)                      E: EDSR's body (Lim et al., CVPR Workshops 2017), D: two 1x1 convolutions
    e(p)   = MLP(p, sin 2^k pi p, cos 2^k pi p)
    b_i(x) = h(x) . mean over p in band i of e(p)

Here as a floor that shows what the LR-HSI is worth: ``forward`` ignores it. What is ours and could be otherwise:

* A builder is told no wavelengths. Places p are those of band indices: the bands tile [-1, 1] evenly, in their order. What is
  cut out of the spectrum, as water vapour is, takes no place; a network holds for the bands that it was trained on.
* Octaves of p reach up to the bands' Nyquist rate and not beyond, so that no feature oscillates between two bands.
* Responses of the HSI bands are flat: samples of a band weigh the same. In training they are drawn anew each step, uniformly in
  the band; else they are the middles of equal parts of it.
* The last step is a scalar product. It makes a band the product with a mean of embeddings, so that samples cost nothing at
  the pixels; an MLP over every pixel and sample would cost ``bands * samples`` times its own.
* The MSI has HR size, so that every pixel asked for lies on one of the encoder's: the decoder needs no coordinates, and
  nothing is upsampled. The paper's spatial super-resolution is left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks import ConvResidual
from methods.registry import MethodError, Recipe, register
from methods.tasks import Supervised


class SSIF(nn.Module):
    """A spectrum at every pixel of an MSI, as a function of a place in [-1, 1].

    Args:
        bands: of the HSI; band i lies in ``-1 + 2 i / bands`` to ``-1 + 2 (i + 1) / bands``.
        msi_bands: of the MSI.
        width: channels of the image encoder, and length of an embedding.
        depth: residual blocks of the image encoder.
        samples: places in each band.
    """

    def __init__(self, bands: int, msi_bands: int, width: int, depth: int, samples: int) -> None:
        super().__init__()
        self.bands, self.samples = bands, samples
        self.octaves = max(1, (bands // 2).bit_length())  # the shortest period is two bands or more
        self.head = nn.Conv2d(msi_bands, width, 3, padding=1)
        self.image_encoder = nn.Sequential(*(ConvResidual(width) for _ in range(depth)), nn.Conv2d(width, width, 3, padding=1))
        self.pixel_decoder = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))
        hidden = 4 * width
        self.spectral_encoder = nn.Sequential(nn.Linear(2 * self.octaves + 1, hidden), nn.ReLU(), nn.Linear(hidden, hidden),
                                              nn.ReLU(), nn.Linear(hidden, width))

    def embedded(self, places: Tensor) -> Tensor:
        """Places of any shape (...) -> e, (..., width)."""
        turns = math.pi * torch.stack([2**octave * places for octave in range(self.octaves)], -1)
        return self.spectral_encoder(torch.cat((places[..., None], turns.sin(), turns.cos()), -1))

    def centres(self) -> Tensor:
        """Middles of the trained bands, (bands,)."""
        index = torch.arange(self.bands, device=self.head.weight.device)
        return (2 * index + 1) / self.bands - 1

    def at(self, hr_msi: Tensor, positions: Tensor) -> Tensor:
        """Bands anywhere, each as wide as one of the trained bands.

        Args:
            hr_msi: (B, msi_bands, H, W).
            positions: (n,), their middles in [-1, 1]; :meth:`centres` are those of the trained bands.

        Returns:
            (B, n, H, W); of a network in training with samples drawn anew, else always the same.
        """
        count = len(positions), self.samples
        part = torch.arange(self.samples, device=positions.device) + 0.5
        share = torch.rand(count, device=positions.device) if self.training else (part / self.samples).expand(count)
        spectra = self.embedded(positions[:, None] + (2 * share - 1) / self.bands).mean(1)  # (n, width)
        x = self.head(hr_msi)
        pixels = self.pixel_decoder(x + self.image_encoder(x))  # (B, width, H, W)
        return F.conv2d(pixels, spectra[..., None, None])

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """The HSI unread, (B, msi_bands, H, W) -> HR-HSI (B, bands, H, W)."""
        return self.at(hr_msi, self.centres())


@register(
    "ssif",
    "supervised",
    paper="Mai et al., SSIF, 2023",
    year=2023,
    fidelity="described",
    recipes={"described": Recipe(task=Supervised, trains=("ssif",))},
    small={"width": 8, "depth": 2, "samples": 3},
    note="SSIF-style: the LR-HSI is not used; after a summary of the paper, layers and training are ours; bands have places by "
         "their indices, not wavelengths",
)
def build(bands: int, msi_bands: int, width: int = 64, depth: int = 16, samples: int = 8) -> SSIF:
    """Build it: ``depth`` residual blocks of ``width`` channels, ``samples`` places in each band.

    Raises:
        MethodError: one of them is not positive.
    """
    if min(width, depth, samples) < 1:
        raise MethodError(f"ssif: width {width}, depth {depth} and samples {samples}; all three must be positive")
    return SSIF(bands, msi_bands, width, depth, samples)
