"""The one place that degrades: Wald's protocol from a scene to what fusion sees, as a frozen, hashed value.

    protocol = PROTOCOLS["paper"]
    reference, observation = protocol.look(scene, msi_bands=4, scenario=noise("lr_hsi", 35))

A :class:`Protocol` fixes what all rows of a table share (its ``digest`` stands in every row); a :class:`Scenario` is
one column of a robustness table: white noise, misregistration, a wrong sensor model, or what :mod:`benchmark.degradations`
holds. Adding scenarios changes no digest.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark import keys, sensors
from datasets.aviris_bands import KEPT_172, is_aviris
from datasets.scene import Scene, SceneError
from methods.responses import Told, gaussian_psf

if TYPE_CHECKING:
    from benchmark.degradations import Degradation

BANDS = ("aviris-172", "auto", "all")


@dataclass(frozen=True)
class Scenario:
    """One way in which the observation departs from the clean one.

    Args:
        name: what the rows say: ``clean``, ``noise``, ``shift-2``, ...
        noise_target: ``"none"``, ``"lr_hsi"`` or ``"both"``.
        snr_db: asked signal-to-noise ratio in dB; infinite adds nothing.
        shift: the LR-HSI is made from the scene shifted by this many HR pixels down and right.
        told_psf_sigma: sigma in HR pixels of the PSF a method is told; None tells the one used.
        told_srf_shift_nm: the response a method is told is centred this many nm away from the one used.
        other_scene: the LR-HSI is that of another scene (``benchmark.evaluate.seen``): a method that scores no worse makes
            no use of it.
        degradations: what else goes wrong, in this order (:mod:`benchmark.degradations`).
    """

    # What stands in every key; a field that came later is left out while at its default (see benchmark.keys).
    KEYED: ClassVar = ("name", "noise_target", "snr_db", "shift", "told_psf_sigma", "told_srf_shift_nm")

    name: str = "clean"
    noise_target: str = "none"
    snr_db: float = math.inf
    shift: int = 0
    told_psf_sigma: float | None = None
    told_srf_shift_nm: float = 0.0
    other_scene: bool = False
    degradations: tuple[Degradation, ...] = ()

    @property
    def words(self) -> dict[str, object]:
        """What of it stands in keys."""
        code = keys.own_code(type(self), Scenario)
        defects = {"degradations": [each.words for each in self.degradations]} if self.degradations else {}
        return keys.fields(self) | defects | ({"code": code} if code else {})


CLEAN = Scenario()


def noise(target: str, snr_db: float) -> Scenario:
    """White noise at ``snr_db`` on the ``"lr_hsi"`` or on ``"both"`` images."""
    if target not in ("lr_hsi", "both"):
        raise ValueError(f"noise target '{target}'; choices: lr_hsi, both")
    return Scenario("noise", target, float(snr_db))


def shifted(pixels: int) -> Scenario:
    """LR-HSI misregistered by ``pixels`` HR pixels (the papers' 259-pixel tiles allow 0 to 3)."""
    return Scenario(f"shift-{pixels}", shift=pixels) if pixels else CLEAN


def told_psf(sigma: float) -> Scenario:
    """A Gaussian PSF of ``sigma`` HR pixels is told, whatever the true one is."""
    return Scenario(f"told-psf-{sigma:g}", told_psf_sigma=float(sigma))


def told_srf(nm: float) -> Scenario:
    """The SRF that is told is that of a sensor whose bands lie ``nm`` higher."""
    return Scenario(f"told-srf-{nm:g}", told_srf_shift_nm=float(nm)) if nm else CLEAN


OTHER_LR_HSI = Scenario("other-lr-hsi", other_scene=True)


@dataclass(frozen=True)
class Observation:
    """All that fusion sees of a scene, and what it is told about the sensors.

    Args:
        lr_hsi: (bands, h, w) float32.
        hr_msi: (msi_bands, H, W) float32.
        told: PSF (k, k) and SRF (msi_bands, bands), both float32, and phase.
        lr_valid: (h, w) bool, False where the PSF sees a pixel without data; None: all valid.
        hr_valid: (H, W) bool, False where the HR-MSI has no data; None: all valid.
    """

    lr_hsi: Tensor
    hr_msi: Tensor
    told: Told
    lr_valid: Tensor | None = None
    hr_valid: Tensor | None = None


@dataclass(frozen=True)
class Protocol:
    """How a scene becomes a reference and an observation.

    Args:
        name: of this value; not part of the digest.
        bands: ``"aviris-172"`` (by instrument band number), ``"all"``, or ``"auto"``: the 172 where a scene has AVIRIS band
            numbers or the 224 bands of AVIRIS, and all bands otherwise.
        hr_size: the reference is the top-left corner, at most this many pixels a side, a multiple of ``ratio``.
        clip_negative: set negative native values to 0 first, as the papers' preparation does.
        ratio: HR pixels per LR pixel along a side.
        psf_sigma: standard deviation of the Gaussian PSF in HR pixels.
        psf_support: side of the sampled PSF, odd.
        boundary: ``"reflect"`` (edge not repeated), ``"replicate"`` or ``"circular"``.
        phase: 0-based row and column of the first HR sample that decimation keeps.
        srf: name of one of :data:`benchmark.sensors.SENSORS`, bands of a sensor of one's own, or a matrix as rows of numbers,
            (msi_bands, bands); rows are normalised to sum 1.
        noise_domain: white noise relative to the power of the image in ``"unit"`` ([0, 1]) or ``"signed"`` ([-1, 1])
            values; the same SNR is stronger in the domain where the image has more power.
        use_given: take the LR-HSI and HR-MSI that came with a scene where there are any, instead of simulating.
        psf_matrix: the PSF as rows of numbers, (psf_support, psf_support), normalised to sum 1, in place of the Gaussian.
    """

    # What stands in every digest; a field that came later is left out while at its default (see benchmark.keys).
    KEYED: ClassVar = ("bands", "hr_size", "clip_negative", "ratio", "psf_sigma", "psf_support", "boundary", "phase", "srf",
                       "noise_domain", "use_given")

    name: str = "paper"
    bands: str = "aviris-172"
    hr_size: int = 256
    clip_negative: bool = True
    ratio: int = 4
    psf_sigma: float = 3.0
    psf_support: int = 19
    boundary: str = "reflect"
    phase: int = 1
    srf: sensors.Sensor | tuple[tuple[float, ...], ...] = "landsat-tm"
    noise_domain: str = "unit"
    use_given: bool = False
    psf_matrix: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        for value, choices in ((self.bands, BANDS), (self.noise_domain, ("unit", "signed")),
                               (self.boundary, ("reflect", "replicate", "circular"))):
            if value not in choices:
                raise ValueError(f"protocol '{self.name}': '{value}'; choices: {', '.join(choices)}")
        if self.psf_support % 2 == 0 or not 0 <= self.phase < self.ratio:
            raise ValueError(f"protocol '{self.name}': support {self.psf_support} must be odd, "
                             f"phase {self.phase} in 0..{self.ratio - 1}")
        if self.psf_matrix and ({len(self.psf_matrix), *map(len, self.psf_matrix)} != {self.psf_support}
                                or not 0 < sum(map(sum, self.psf_matrix)) < math.inf):
            raise ValueError(f"protocol '{self.name}': its PSF must have {self.psf_support} rows of as many numbers, and a "
                             "positive sum")

    @property
    def digest(self) -> str:
        """12 hex digits of the content; the name is left out."""
        words = {key: value for key, value in keys.fields(self).items() if key != "name"}
        code = keys.own_code(type(self), Protocol)
        words |= {"code": code} if code else {}
        return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def psf(self) -> Tensor:
        """(support, support) float32, sums to 1."""
        if self.psf_matrix:
            matrix = torch.tensor(self.psf_matrix, dtype=torch.float64)
            return (matrix / matrix.sum()).float()
        return gaussian_psf(self.psf_support, self.psf_sigma).float()

    def describe(self) -> str:
        """The protocol in one sentence, for captions."""
        response = "Landsat TM boxes" if self.srf == "landsat-tm" else f"responses of {self.srf}" if isinstance(self.srf, str) \
            else f"given responses of {len(self.srf)} bands" if sensors.is_sensor(self.srf) else "a given matrix"
        blur = "a given PSF" if self.psf_matrix else f"Gaussian PSF sigma {self.psf_sigma:.4g} px"
        given = "; observations that came with the scene are used as they are" if self.use_given else ""
        return (f"Wald's protocol '{self.name}' ({self.digest}): bands {self.bands}, at most {self.hr_size} px, ratio "
                f"{self.ratio}, {blur} on {self.psf_support}x{self.psf_support}, "
                f"{self.boundary} boundary, decimation phase {self.phase}, {response}, noise power measured in the "
                f"{self.noise_domain} domain{given}")

    def response(self, wavelengths: np.ndarray, msi_bands: int, shift_nm: float = 0.0) -> Tensor:
        """The spectral response (SRF), (msi_bands, bands) float32, rows non-negative and summing to 1.

        Args:
            wavelengths: (bands,) band centres in nm.
            msi_bands: MSI band count.
            shift_nm: as if the sensor were centred this many nm higher; a matrix is not moved.

        Raises:
            SceneError: the MSI band count is not known, or a response covers no band of the scene.
        """
        if sensors.is_sensor(self.srf):
            return sensors.response(self.srf, wavelengths, msi_bands, shift_nm)
        matrix = torch.tensor(self.srf, dtype=torch.float32)
        if matrix.shape != (msi_bands, len(wavelengths)) or (matrix < 0).any() or (matrix.sum(1) <= 0).any():
            raise SceneError(f"response matrix {tuple(matrix.shape)}: {(msi_bands, len(wavelengths))} is needed, "
                             "non-negative, with a positive sum in every row; give --msi-bands, --srf or --msi-sensor to fit")
        return matrix / matrix.sum(1, keepdim=True)

    def look(self, scene: Scene, msi_bands: int, scenario: Scenario = CLEAN) -> tuple[Scene, Observation]:
        """The reference, and what fusion sees in ``scenario``: the same for every method, job order and device.

        Returns:
            The HR-HSI to be estimated (selected bands, cropped, [0, 1] by its own extrema) and the observation.

        Raises:
            SceneError: too few bands, no band that varies, or a scene that is too small, also for the scenario's shift.
        """
        window = self._window(scene, 0)
        reference = window.rescaled()
        srf = self.response(reference.wavelengths, msi_bands)
        lr_valid, nm = None, reference.wavelengths
        defects = [(each, torch.Generator().manual_seed(keys.seed(self.digest, scene.name, type(each).__name__)))
                   for each in scenario.degradations]
        if self.use_given and reference.given:
            lr_hsi, hr_msi = self._given(reference, msi_bands, scenario)
        else:
            source, valid = reference.cube, reference.valid
            if scenario.shift:  # the shifted window on the scale of the reference
                raw, shifted = window.seen, self._window(scene, scenario.shift)
                source, valid = (shifted.cube - raw.min()) / (raw.max() - raw.min()), shifted.valid
            for each, draw in defects:
                source = each.hsi_scene(source, nm, draw)
            optics = [each for each, _ in defects if each.has_optics]
            lr_hsi = optics[-1].decimated(source, self) if optics else blur_decimate(
                source, self.psf, self.ratio, self.phase, self.boundary)
            if valid is not None:
                hidden = blur_decimate((~valid[None]).float(), torch.ones_like(self.psf), self.ratio, self.phase, self.boundary)
                lr_valid = hidden[0] < 0.5  # a count: 1 or more where the support sees an invalid pixel
            seen = reference.cube
            for each, draw in defects:
                seen = each.msi_scene(seen, nm, draw)
            hr_msi = apply_response(seen, srf)
        for each, draw in defects:
            lr_hsi, hr_msi = each.lr_hsi(lr_hsi, nm, draw), each.hr_msi(hr_msi, draw)

        generator = torch.Generator().manual_seed(self._noise_seed(scene.name, scenario))
        if scenario.noise_target in ("lr_hsi", "both"):
            lr_hsi = add_noise(lr_hsi, scenario.snr_db, generator, self.noise_domain)
        if scenario.noise_target == "both":
            hr_msi = add_noise(hr_msi, scenario.snr_db, generator, self.noise_domain)

        told = self if scenario.told_psf_sigma is None else replace(self, psf_sigma=scenario.told_psf_sigma, psf_matrix=())
        responses = Told(told.psf, self.response(reference.wavelengths, msi_bands, scenario.told_srf_shift_nm), self.phase)
        for each, _ in defects:
            responses = each.told(responses, self)
        return reference, Observation(lr_hsi, hr_msi, responses, lr_valid, reference.valid)

    def reference(self, scene: Scene) -> Scene:
        """The HR-HSI to be estimated alone, as :meth:`look` gives it."""
        return self._window(scene, 0).rescaled()

    def observe(self, scene: Scene, msi_bands: int, scenario: Scenario = CLEAN) -> Observation:
        """What fusion sees alone, as :meth:`look` gives it."""
        return self.look(scene, msi_bands, scenario)[1]

    def _window(self, scene: Scene, shift: int) -> Scene:
        """Selected bands of the crop that starts ``shift`` pixels down and right, on the scale of the whole scene."""
        scene = self.select(scene)
        sides = [min(self.hr_size, side) // self.ratio * self.ratio for side in scene.size]
        if min(sides) <= self.psf_support // 2 or any(n + shift > s for n, s in zip(sides, scene.size)):
            raise SceneError(
                f"scene '{scene.name}' has {scene.size[0]}x{scene.size[1]} pixels: too small for a {sides[0]}x{sides[1]} "
                f"reference shifted by {shift} under a PSF of {self.psf_support} pixels. Lower the protocol's hr_size "
                f"(to {min(scene.size) - shift} or less) or use a larger scene."
            )
        if self.clip_negative and scene.native_min < 0:
            zero = -scene.native_min / (scene.native_max - scene.native_min)
            scene = replace(scene, cube=scene.cube.clamp(min=zero))
        return scene.crop(slice(shift, shift + sides[0]), slice(shift, shift + sides[1]))

    def select(self, scene: Scene) -> Scene:
        """The protocol's bands of a scene.

        Raises:
            SceneError: bands of AVIRIS are asked for and are not there.
        """
        numbers = aviris_numbers(scene)
        if self.bands == "all" or (self.bands == "auto" and not set(KEPT_172) <= set(numbers)):
            return scene
        if scene.bands == len(KEPT_172):  # taken as already selected
            return scene
        place = {number: index for index, number in enumerate(numbers) if number}
        missing = [b for b in KEPT_172 if b not in place]
        if missing:
            raise SceneError(
                f"scene '{scene.name}' has {scene.bands} bands, and {len(missing)} of the 172 AVIRIS bands of protocol "
                f"'{self.name}' are not among them (first: AVIRIS band {missing[0]}). Give a 224-band AVIRIS cube, "
                "one with band numbers, or one cut to those 172 bands; or choose a protocol with bands='all' (--all-bands)."
            )
        return scene.select(np.array([place[b] for b in KEPT_172]))

    def _given(self, reference: Scene, msi_bands: int, scenario: Scenario) -> tuple[Tensor, Tensor]:
        """The authors' own LR-HSI and HR-MSI, by the names of their files' keys."""
        keys = f"lrhsi{scenario.shift or ''}", f"hrmsi{msi_bands}"
        missing = [key for key in keys if key not in reference.given]
        if missing:
            raise SceneError(f"scene '{reference.name}' came without {missing}; it has {sorted(reference.given)}")
        if any(each.on_scene for each in scenario.degradations):
            raise SceneError(f"scenario '{scenario.name}' changes what the sensors see, and the images of scene "
                             f"'{reference.name}' are given; choose a protocol that simulates them, or a degradation of the "
                             "images alone")
        return reference.given[keys[0]], reference.given[keys[1]]

    def _noise_seed(self, image: str, scenario: Scenario) -> int:
        """Seed from names alone, so that adding methods, scenes or MSI settings shifts nobody's noise."""
        return keys.seed(self.digest, image, scenario.name, scenario.noise_target, scenario.snr_db)


def aviris_numbers(scene: Scene) -> tuple[int, ...]:
    """AVIRIS band numbers of a scene's bands: those it came with, or 1 to 224 where its bands are AVIRIS's; else none."""
    if scene.band_numbers or not is_aviris(scene.wavelengths):
        return scene.band_numbers
    return tuple(range(1, scene.bands + 1))


def blur_decimate(cube: Tensor, psf: Tensor, ratio: int, phase: int, boundary: str) -> Tensor:
    """Correlate every band with ``psf`` and keep rows and columns phase, phase + ratio, ...

    Args:
        cube: (bands, H, W), sides multiples of ``ratio``.
        psf: (k, k), k odd.
        ratio: decimation factor.
        phase: 0-based index of the first sample kept.
        boundary: padding mode of ``torch.nn.functional.pad``.

    Returns:
        (bands, H / ratio, W / ratio).
    """
    half = psf.shape[-1] // 2
    padded = F.pad(cube[:, None], (half,) * 4, mode=boundary)[..., phase:, phase:]
    rows, cols = cube.shape[1] // ratio, cube.shape[2] // ratio
    return F.conv2d(padded, psf[None, None].to(cube), stride=ratio)[:, 0, :rows, :cols].contiguous()


def apply_response(cube: Tensor, srf: Tensor) -> Tensor:
    """(bands, H, W) seen through (msi_bands, bands) -> (msi_bands, H, W)."""
    return torch.einsum("mb,bhw->mhw", srf.to(cube), cube)


def noise_std(image: Tensor, snr_db: float, domain: str = "unit") -> float:
    """Standard deviation of white noise at ``snr_db``, in the values of ``domain``.

    sqrt(mean of x^2 over the whole image / 10^(SNR/10)). The papers' eq. 16 multiplies by 10^(SNR/10), which would
    amplify with the SNR; their code divides, and so do we. ``signed`` measures the power of 2x - 1.
    """
    values = 2 * image - 1 if domain == "signed" else image
    return math.sqrt(values.double().square().mean().item() / 10 ** (snr_db / 10))


def add_noise(image: Tensor, snr_db: float, generator: torch.Generator, domain: str = "unit") -> Tensor:
    """``image`` plus white Gaussian noise; infinite SNR returns it unchanged. Drawn on the CPU: the same everywhere."""
    if math.isinf(snr_db):
        return image
    std = noise_std(image, snr_db, domain) / (2 if domain == "signed" else 1)  # the signed domain is twice as wide
    draw = torch.randn(image.shape, generator=generator)
    return image + std * draw.to(image)


PAPER = Protocol()
PROTOCOLS = {
    # The text's "variance sigma = 3" read as a standard deviation of 3 pixels ...
    "paper": PAPER,
    # ... and as a variance of 3: sigma = sqrt(3), with the same coverage of +-3 sigma.
    "paper-variance": replace(PAPER, name="paper-variance", psf_sigma=math.sqrt(3.0), psf_support=13),
    # The published code: files taken as they are where they came with the scene, noise added to [-1, 1] data.
    "release": replace(PAPER, name="release", clip_negative=False, noise_domain="signed", use_given=True),
}
