"""What goes wrong with real pairs, one small class a defect: noise of detectors, stripes, smile, misregistration, ...

    scenario = degraded(Stripes(0.02))                        # its rows say "stripes-0.02"
    scenario = degraded(Rotation(0.5), Quantisation(8), name="worn")
    python run_benchmark.py run --profile aviris --degrade stripes=0.02 smile=2

A degradation works where it does in an instrument, in this order (:meth:`benchmark.protocol.Protocol.look`): on what the optics
of the HSI or of the MSI sensor see, in place of PSF and decimation, and on the images that are read out. White noise of a
scenario comes last. Rows run along the track of a pushbroom sensor, columns across it. Each draws from a generator that is
seeded by the names of the protocol, the scene and its class: the same pattern at every amount, so that a curve shows the
amount, and nobody's pattern depends on what else is drawn.

A class of one's own in a ``--study-file`` needs ``axis``, its amount as first field, and one of the hooks of
:class:`Degradation`; it then has its columns, curves and captions.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from benchmark.protocol import Scenario, blur_decimate
from methods.responses import Told, shifted_psf

if TYPE_CHECKING:
    from benchmark.protocol import Protocol


class Axis(NamedTuple):
    """How tables, curves and captions speak of an amount.

    Args:
        name: of the axis and, with the amount behind it, of the scenario.
        words: what varies, in a caption.
        label: of the axis, with its unit.
        unit: behind the numbers.
        zero: the clean scenario lies on the axis, at 0.
        least: smallest amount that makes sense.
        most: largest.
    """

    name: str
    words: str
    label: str
    unit: str = ""
    zero: bool = True
    least: float = 0.0
    most: float = math.inf


@dataclass(frozen=True)
class Degradation:
    """One defect. Every hook returns its input unless a class overrides it; ``draw`` is a CPU generator of its own."""

    axis: ClassVar[Axis]

    def __post_init__(self) -> None:
        low, high = self.axis.least, self.axis.most
        if not (math.isfinite(self.amount) and low <= self.amount <= high):
            raise ValueError(f"{self.axis.name} {self.amount:g}: {self.axis.label} must be in {low:g} ... {high:g}")

    @property
    def amount(self) -> float:
        """Its place on the axis: the first field."""
        return float(getattr(self, dataclasses.fields(self)[0].name))

    @property
    def words(self) -> dict[str, Any]:
        """What of it stands in keys."""
        kind = type(self)
        return {"kind": kind.__name__ if kind.__module__ == __name__ else f"{kind.__module__}.{kind.__qualname__}",
                **{key: float(value) if isinstance(value, int) else value for key, value in dataclasses.asdict(self).items()}}

    @property
    def has_optics(self) -> bool:
        """Whether it has a PSF and decimation of its own."""
        return type(self).decimated is not Degradation.decimated

    @property
    def on_scene(self) -> bool:
        """Whether it does anything before the images are read out, so that it can do nothing to images that are given."""
        hooks = ("hsi_scene", "msi_scene", "decimated")
        return any(getattr(type(self), hook) is not getattr(Degradation, hook) for hook in hooks)

    def hsi_scene(self, cube: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        """What the optics of the HSI sensor see of the scene: (bands, H, W) in [0, 1], wavelengths (bands,) in nm."""
        return cube

    def msi_scene(self, cube: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        """What the optics of the MSI sensor see of the scene, likewise."""
        return cube

    def decimated(self, cube: Tensor, protocol: Protocol) -> Tensor:
        """The LR-HSI before read-out, (bands, h, w); where several degradations have optics of their own, the last one's."""
        return blur_decimate(cube, protocol.psf, protocol.ratio, protocol.phase, protocol.boundary)

    def told(self, told: Told, protocol: Protocol) -> Told:
        """What a method is told."""
        return told

    def lr_hsi(self, image: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        """The LR-HSI (bands, h, w) as it is read out."""
        return image

    def hr_msi(self, image: Tensor, draw: torch.Generator) -> Tensor:
        """The HR-MSI (msi_bands, H, W) as it is read out."""
        return image


def degraded(*degradations: Degradation, name: str = "") -> Scenario:
    """The scenario of one degradation, named by its axis and amount, or of several under a name.

    Raises:
        ValueError: several without a name, or none.
    """
    if not degradations or (len(degradations) > 1 and not name):
        raise ValueError("a scenario of one degradation is named by it; of several give a name")
    return Scenario(name or f"{degradations[0].axis.name}-{degradations[0].amount:.12g}", degradations=degradations)


# ------------------------------------------------------------------------------------------------- noise of detectors


@dataclass(frozen=True)
class BandNoise(Degradation):
    """White noise whose SNR differs between bands, as that of spectrometers does: it falls towards long wavelengths.

    Args:
        snr_db: mean over the bands, each relative to its own power.
        fall_db: from the shortest to the longest wavelength, linear in wavelength.
    """

    axis = Axis("band-noise", "white noise on the LR-HSI, SNR falling by 10 dB from the shortest to the longest wavelength",
                "mean SNR (dB)", "dB", zero=False, least=-math.inf)
    snr_db: float
    fall_db: float = 10.0

    def lr_hsi(self, image: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        nm = torch.as_tensor(np.asarray(wavelengths), dtype=torch.float64)
        place = (nm - nm.mean()) / (nm.max() - nm.min()).clamp(min=1e-9)
        snr = 10 ** ((self.snr_db - self.fall_db * place) / 10)
        std = (image.double().square().mean((1, 2)) / snr).sqrt().to(image)
        return image + std[:, None, None] * torch.randn(image.shape, generator=draw).to(image)


@dataclass(frozen=True)
class ShotNoise(Degradation):
    """Photons of the LR-HSI are counted: Poisson noise, whose standard deviation is the root of the signal.

    Args:
        photons: at value 1, the largest of the scene. A detector's full well is some 10^4 to 10^6.
    """

    axis = Axis("shot-noise", "shot noise on the LR-HSI", "photons at full scale", "photons", zero=False, least=1)
    photons: float

    def lr_hsi(self, image: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        return (torch.poisson(image.double().clamp(min=0) * self.photons, generator=draw) / self.photons).to(image)


@dataclass(frozen=True)
class Stripes(Degradation):
    """Every detector of a pushbroom array has its own offset: stripes along the track, others in every band.

    Args:
        share: standard deviation of the offsets, of the root mean square of the band.
    """

    axis = Axis("stripes", "stripes along the track in the LR-HSI", "offsets of columns (share of a band's RMS)", most=10)
    share: float

    def lr_hsi(self, image: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        level = image.double().square().mean((1, 2), keepdim=True).sqrt().to(image)
        return image + self.share * level * torch.randn(image.shape[0], 1, image.shape[2], generator=draw).to(image)


@dataclass(frozen=True)
class DeadLines(Degradation):
    """Detectors that give nothing: a column along the track is 0 in one band. Nobody tells which.

    Args:
        share: of the detectors, one a band and column.
    """

    axis = Axis("dead-lines", "columns of the LR-HSI that are 0 in a band", "share of detectors", most=1)
    share: float

    def lr_hsi(self, image: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        return image * (torch.rand(image.shape[0], 1, image.shape[2], generator=draw) >= self.share).to(image)


@dataclass(frozen=True)
class DeadPixels(Degradation):
    """Single samples of the LR-HSI that are lost and read 0. Nobody tells which.

    Args:
        share: of the samples, one a band, row and column.
    """

    axis = Axis("dead-pixels", "samples of the LR-HSI that are 0", "share of samples", most=1)
    share: float

    def lr_hsi(self, image: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        return image * (torch.rand(image.shape, generator=draw) >= self.share).to(image)


@dataclass(frozen=True)
class Saturation(Degradation):
    """The brightest samples of both images are cut off.

    Args:
        share: of the samples of an image that reach its ceiling.
    """

    axis = Axis("saturation", "the brightest samples of both images cut off", "share of samples at the ceiling", most=1)
    share: float

    def lr_hsi(self, image: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        return self.hr_msi(image, draw)

    def hr_msi(self, image: Tensor, draw: torch.Generator) -> Tensor:
        return image.clamp(max=float(np.quantile(image.double().numpy(), 1 - self.share)))


@dataclass(frozen=True)
class Quantisation(Degradation):
    """Both images in whole numbers of so many bits.

    Args:
        bits: 2^bits levels from 0 to 1, the largest value of the scene.
    """

    axis = Axis("quantisation", "both images quantised", "bits", "bits", zero=False, least=1, most=32)
    bits: int

    def lr_hsi(self, image: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        return self.hr_msi(image, draw)

    def hr_msi(self, image: Tensor, draw: torch.Generator) -> Tensor:
        levels = 2**self.bits - 1
        return (image * levels).round() / levels


# --------------------------------------------------------------------------------------------- geometry of the sensors


@dataclass(frozen=True)
class Smile(Degradation):
    """Band centres of the HSI sensor that move across the track: by nothing in the middle and most at both sides.

    Args:
        nm: at the first and last column, towards longer wavelengths.
    """

    axis = Axis("smile", "band centres of the HSI sensor bent across the track", "shift at the sides (nm)", "nm")
    nm: float

    def hsi_scene(self, cube: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        return resampled(cube, wavelengths, self.nm * across(cube.shape[2]) ** 2)


@dataclass(frozen=True)
class Keystone(Degradation):
    """An HSI sensor whose bands differ in magnification across the track.

    Args:
        pixels: HR pixels by which the first and last column of the last band lie further out, and of the first band further in.
    """

    axis = Axis("keystone", "bands of the HSI sensor shifted against each other across the track",
                "shift at the sides of the last band (HR pixels)", "px")
    pixels: float

    def hsi_scene(self, cube: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        columns = self.pixels * across(cube.shape[2])[None, :] * along_spectrum(wavelengths)[:, None]
        return moved(cube, cube.new_zeros(1, 1, 1), columns[:, None, :])


@dataclass(frozen=True)
class Shift(Degradation):
    """An LR-HSI that is misregistered by a part of a pixel (``benchmark.protocol.shifted``: by whole ones).

    Args:
        pixels: HR pixels down and right from which the HSI sensor sees the scene. Beyond the edge it is mirrored.
    """

    axis = Axis("sub-pixel-shift", "misregistration of the LR-HSI by parts of a pixel", "shift (HR pixels)", "px",
                least=-math.inf)
    pixels: float

    def hsi_scene(self, cube: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        by = cube.new_full((1, 1, 1), self.pixels)
        return moved(cube, by, by)


@dataclass(frozen=True)
class Rotation(Degradation):
    """An LR-HSI that is turned about the middle of the image.

    Args:
        degrees: counter-clockwise.
    """

    axis = Axis("rotation", "rotation of the LR-HSI", "angle (degrees)", "deg", least=-math.inf)
    degrees: float

    def hsi_scene(self, cube: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        angle = math.radians(self.degrees)
        y, x = ((torch.arange(n) - (n - 1) / 2).to(cube) for n in cube.shape[1:])
        rows = (math.cos(angle) - 1) * y[:, None] + math.sin(angle) * x[None]
        columns = (math.cos(angle) - 1) * x[None] - math.sin(angle) * y[:, None]
        return moved(cube, rows[None], columns[None])


# ------------------------------------------------------------------------------------------- a degradation that varies

RADIAL_PX, RANDOM_PX, CHROMATIC_PX = 1.0, 0.25, 0.125  # at severity 1, HR pixels at the corner, RMS, at the corner
RANDOM_SCALE = 32.0  # HR pixels: standard deviation of the filter that makes the random field smooth
SPREADS, GROWTH = (0.5, 0.4), (0.2, 0.3)  # of the PSF along and across the track: in LR pixels, and towards the corner
GAIN, SMILE_BANDS = 0.025, 0.25  # at severity 1
NODES = 3  # a side, of the grid of kernels between which the blur is blended


@dataclass(frozen=True)
class NonUniform(Degradation):
    """A pair whose degradation differs from place to place, as that of real optics does.

    LR-HSI: the scene is warped (radial distortion, a smooth random field, lateral chromatic shift), blurred by an anisotropic
    Gaussian that widens towards the corners, integrated over an LR pixel along the track and sampled across it. HR-MSI: a
    smooth gain over place and wavelength, then band centres bent across the track, then the responses, band by band. A method
    is told the responses, and the PSF of the middle of the field, as a laboratory would measure it; nothing of the rest. That
    PSF is narrower than the papers' (half an LR pixel, not three quarters), so that methods which do not lean on it may gain.

    After Lian et al., "Physics-inspired degradation models for hyperspectral image fusion" (PIDM), arXiv 2402.02411, who give
    the parts but no figures: the constants above are ours. The random field is scaled over the image as it is.

    Args:
        severity: multiplies every displacement, gain and smile; PSF and sampling go from the protocol's at 0, which is the
            standard operator, to their own at 1.
    """

    axis = Axis("non-uniform", "warp, blur, gain and band centres that vary over the field", "severity")
    severity: float

    def hsi_scene(self, cube: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        height, width = cube.shape[1:]
        field = torch.randn(2, height, width, generator=draw)
        if not self.severity:
            return cube
        smooth = np.stack([gaussian_filter(part, RANDOM_SCALE, mode="reflect") for part in field.double().numpy()])
        smooth *= self.severity * RANDOM_PX / np.sqrt((smooth**2).mean())
        y, x = torch.meshgrid(across(height), across(width), indexing="ij")
        radius = ((y.square() + x.square()) / 2).sqrt()  # 1 at the corner, where y / sqrt(2) and x / sqrt(2) point outwards
        outward = torch.stack([y, x]) / (math.sqrt(2) * radius).clamp(min=1e-12)
        radial = self.severity * (RADIAL_PX * radius.square()
                                  + CHROMATIC_PX * radius * along_spectrum(wavelengths)[:, None, None])
        rows, columns = ((radial * outward[k] + torch.from_numpy(smooth[k])).to(cube) for k in (0, 1))
        return moved(cube, rows, columns, padding="border", mode="bilinear")

    def msi_scene(self, cube: Tensor, wavelengths: np.ndarray, draw: torch.Generator) -> Tensor:
        if not self.severity:
            return cube
        waves = [torch.cos(2 * math.pi * torch.linspace(0, 1, n, dtype=torch.float64)).to(cube) for n in cube.shape[1:]]
        tone = torch.cos(math.pi * along_spectrum(wavelengths)).to(cube)
        cube = cube * (1 + self.severity * GAIN * tone[:, None, None] * waves[0][:, None] * waves[1])
        step = float(np.median(np.abs(np.diff(np.asarray(wavelengths)))))
        return resampled(cube, wavelengths, self.severity * SMILE_BANDS * step * across(cube.shape[2]) ** 2)

    def decimated(self, cube: Tensor, protocol: Protocol) -> Tensor:
        nodes = torch.linspace(-1, 1, NODES, dtype=torch.float64)
        tents = [(1 - (across(n)[None] - nodes[:, None]).abs() * (NODES - 1) / 2).clamp(min=0) for n in cube.shape[1:]]
        weights = [tent[:, protocol.phase :: protocol.ratio] for tent in tents]
        total = 0.0
        for down, y in zip(weights[0], nodes):
            for right, x in zip(weights[1], nodes):
                psf = self.psf(protocol, math.hypot(float(y), float(x)) / math.sqrt(2)).float()
                seen = blur_decimate(cube, psf, protocol.ratio, protocol.phase, protocol.boundary)
                total = total + seen * (down[:, None] * right)[: seen.shape[1], : seen.shape[2]].to(seen)
        return total  # type: ignore[return-value]  # NODES is no 0

    def told(self, told: Told, protocol: Protocol) -> Told:
        return told._replace(psf=self.psf(protocol, 0.0).float())

    def psf(self, protocol: Protocol, radius: float) -> Tensor:
        """At a place of the field, 0 in the middle and 1 at the corner: (support, support) float64, sums to 1."""
        ratio, side = protocol.ratio, protocol.psf_support
        sigmas = tuple(ratio * spread * (1 + growth * radius) for spread, growth in zip(SPREADS, GROWTH))
        line = shifted_psf(side + 2 * ratio, (sigmas[0], sigmas[1]), (0.0, 0.0))
        first = ratio + (ratio - 1) // 2  # the box begins so many rows before the sample that decimation keeps
        own = torch.stack([line[first - k : first - k + side, ratio : ratio + side] for k in range(ratio)]).sum(0)
        share = min(self.severity, 1.0)
        return (1 - share) * protocol.psf.double() + share * own / own.sum()


def across(count: int) -> Tensor:
    """(count,) float64, from -1 at the first pixel to 1 at the last."""
    return torch.linspace(-1, 1, count, dtype=torch.float64) if count > 1 else torch.zeros(1, dtype=torch.float64)


def along_spectrum(wavelengths: np.ndarray) -> Tensor:
    """(bands,) float64, from -1 at the shortest wavelength to 1 at the longest."""
    nm = torch.as_tensor(np.asarray(wavelengths), dtype=torch.float64)
    return 2 * (nm - nm.min()) / (nm.max() - nm.min()).clamp(min=1e-9) - 1


def moved(cube: Tensor, rows: Tensor, columns: Tensor, padding: str = "reflection", mode: str = "bicubic") -> Tensor:
    """A cube seen at other places.

    Args:
        cube: (bands, H, W).
        rows: HR pixels further down at which a pixel is taken from, (1 or bands, 1 or H, 1 or W).
        columns: and further right.
        padding: beyond the edge, of ``torch.nn.functional.grid_sample``.
        mode: of interpolation.
    """
    bands, height, width = cube.shape
    y = torch.arange(height, dtype=torch.float64)[None, :, None] + rows.double()
    x = torch.arange(width, dtype=torch.float64)[None, None, :] + columns.double()
    y, x = torch.broadcast_tensors(2 * y / max(height - 1, 1) - 1, 2 * x / max(width - 1, 1) - 1)
    grid = torch.stack([x, y], -1).to(cube)  # (1 or bands, H, W, 2)
    images = cube[None] if len(grid) == 1 else cube[:, None]
    return F.grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=True).reshape(bands, height, width)


def resampled(cube: Tensor, wavelengths: np.ndarray, nm: Tensor) -> Tensor:
    """A cube whose band centres lie elsewhere in each column, by linear interpolation; beyond the last band that band.

    Args:
        cube: (bands, H, W).
        wavelengths: (bands,) in nm, in any order.
        nm: (W,), further towards long wavelengths.
    """
    order = np.argsort(wavelengths, kind="stable")
    known = torch.as_tensor(np.asarray(wavelengths)[order], dtype=torch.float64)
    wanted = torch.as_tensor(np.asarray(wavelengths), dtype=torch.float64)[:, None] + nm[None]  # (bands, W)
    if len(known) < 2:
        return cube
    upper = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
    low, high = known[upper - 1], known[upper]
    share = ((wanted - low) / (high - low).clamp(min=1e-9)).clamp(0, 1).to(cube)[:, None]
    place = torch.as_tensor(order.copy())
    below, above = (place[each][:, None].expand(-1, cube.shape[1], -1) for each in (upper - 1, upper))
    return (1 - share) * cube.gather(0, below) + share * cube.gather(0, above)


DEGRADATIONS: dict[str, type[Degradation]] = {kind.axis.name: kind for kind in (
    BandNoise, ShotNoise, Stripes, DeadLines, DeadPixels, Saturation, Quantisation, Smile, Keystone, Shift, Rotation,
    NonUniform)}
