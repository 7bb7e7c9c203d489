"""The responses of the two sensors of a pair: given by its owner, read from what ``estimate`` wrote, or estimated.

    found = estimated(pair, "parametric")
    found, words = given(pair, srf="sentinel-2:2,3,4,8", estimator="parametric")

In all of them ``srf @ lr_hsi + offset`` meets the HR-MSI blurred and decimated, in the scale of the pair's images.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmark.estimators import Quality, quality
from benchmark.pair import Pair, whole
from benchmark.protocol import blur_decimate
from benchmark.sensors import BOXES, MEASURED, bands_of, response
from benchmark.sensors import given as fields
from datasets import SceneError
from methods import pidm
from methods.estimation import ESTIMATORS, Responses
from methods.responses import gaussian_psf
from methods.streamed import SAMPLE, part_of


def uniform(pair: Pair) -> tuple[Pair, str]:
    """The pair without what varies over its field (:mod:`methods.pidm`), and in words what that was.

    Raises:
        SceneError: images with missing data, or larger than a field is fitted to.
        MethodError: images too small for a field.
    """
    if pair.valid is not None:
        raise SceneError(f"--estimator {pidm.NAME}: parts of the images have no data, and a field is fitted to all of them; "
                         "crop the images, or take another estimator")
    rows, columns = pair.lr_hsi.shape[1:]
    if rows * columns > SAMPLE:
        raise SceneError(f"--estimator {pidm.NAME}: {rows}x{columns} LR pixels; a field is fitted to {SAMPLE} at most: crop "
                         "the images, or take another estimator")
    with tqdm(total=pidm.ITERATIONS, desc=pidm.NAME, unit="it", leave=False) as bar:
        field = pidm.fit(pair.lr_hsi, pair.hr_msi, step=bar.update)
    lr_hsi, hr_msi = field.straightened(pair.lr_hsi, pair.hr_msi)
    return replace(pair, lr_hsi=lr_hsi, hr_msi=hr_msi), field.words


def estimated(pair: Pair, estimator: str, phase: int | None = None) -> Responses:
    """What a pair itself tells where both images have data (:func:`benchmark.pair.whole`), a batch of one.

    Of more than 2^16 LR pixels, what a part of it does.

    Raises:
        SceneError: unknown estimator.
    """
    if estimator not in ESTIMATORS:
        raise SceneError(f"unknown estimator '{estimator}'; choices: {', '.join(ESTIMATORS)}")
    pair = whole(pair)
    lr_hsi, hr_msi = part_of(pair.lr_hsi, pair.hr_msi)
    return ESTIMATORS[estimator](lr_hsi[None], hr_msi[None], phase)


def judged(pair: Pair, found: Responses) -> Quality:
    """How far responses explain the pair where both images have data."""
    pair = whole(pair)
    return quality(found, pair.lr_hsi[None], pair.hr_msi[None])[0]


def given(pair: Pair, estimator: str, srf: str = "", psf: str = "", phase: int | None = None,
          file: Path | None = None) -> tuple[Responses, str]:
    """What the owner says, and estimates of what is not said.

    Args:
        pair: the images.
        estimator: of what is not given.
        srf: a CSV file, a sensor, some of its bands in the order of the MSI's (``sentinel-2:2,3``), or ``from:FILE.npz``.
        psf: as :func:`benchmark.sensors.given.psf_fields` takes it.
        phase: 0-based row and column of the first HR sample that decimation keeps; of a given PSF, if not said, the one
            nearest to the middle of an LR pixel.
        file: that ``estimate`` wrote; in the place of all of these.

    Returns:
        A batch of one; and in words where each comes from.

    Raises:
        SceneError: what cannot be read or does not fit the pair.
    """
    if phase is not None and not 0 <= phase < pair.ratio:
        raise SceneError(f"--phase {phase} at ratio {pair.ratio}: choose 0 to {pair.ratio - 1}")
    if file:
        if srf or psf or phase is not None:
            raise SceneError("--responses says all that --srf, --psf and --phase say; give it alone, or --srf from:FILE.npz")
        return _stored(pair, file), f"all from {file}"
    told = fields.psf_fields(psf) if psf else {}
    phase = told.get("phase", (pair.ratio - 1) // 2) if psf and phase is None else phase
    if phase is not None and phase >= pair.ratio:
        raise SceneError(f"--psf {psf}: its phase is {phase}, and the pair's ratio {pair.ratio}; say --phase")
    matrix = _matrix(pair, srf) if srf else None
    found = None
    if not (srf and psf):
        found = estimated(pair, estimator, phase)
    if psf:
        kernel = torch.tensor(told["psf_matrix"], dtype=torch.float64) if told["psf_matrix"] else gaussian_psf(
            told["psf_support"], told["psf_sigma"])
        kernel, phase = (kernel / kernel.sum())[None], int(phase or 0)
    else:
        assert found is not None
        kernel, phase = found.psf, found.phase
    if matrix is None:
        assert found is not None
        rows, offset = found.srf, found.offset
    else:
        rows, offset = _scaled(pair, matrix, kernel[0], phase)[None], torch.zeros(1, len(matrix), dtype=torch.float64)
    words = "; ".join(f"{what} {text or f'estimated ({estimator})'}" for what, text in (("SRF", srf), ("PSF", psf)))
    return Responses(rows, offset, kernel, phase), f"{words}; phase {phase}"


def _matrix(pair: Pair, text: str) -> Tensor:
    """(msi_bands, bands) float64, rows summing to 1, of what ``--srf`` names."""
    if text.startswith("from:"):
        matrix = torch.tensor(fields.srf_fields(text)["srf"], dtype=torch.float64)
    else:
        if not len(pair.wavelengths):
            raise SceneError(f"--srf {text}: the HSI's file tells no wavelengths, so that curves meet no bands. Put them into "
                             "<name>.wavelengths.csv beside it, one a line, in nanometres")
        name, _, picked = text.partition(":")
        if text in BOXES:
            matrix = response(text, pair.wavelengths, len(pair.hr_msi)).double()
        elif Path(text).expanduser().is_file():
            matrix = response(fields.srf_fields(text)["srf"], pair.wavelengths).double()
        elif name in MEASURED and picked:
            held = {band.name: band for band in bands_of(name)}
            words = [word.strip() for word in picked.split(",")]
            words = [word if word in held else re.sub(r"^[Bb]0*", "", word) for word in words]  # B02 of Sentinel-2 is 2
            absent = [word for word in words if word not in held]
            if absent:
                raise SceneError(f"--srf {text}: {name} has no band {', '.join(absent)}; choices: {', '.join(held)}")
            matrix = response(tuple(held[word] for word in words), pair.wavelengths).double()
        else:
            matrix = response(bands_of(text), pair.wavelengths).double()
    if matrix.shape != (len(pair.hr_msi), len(pair.lr_hsi)):
        bands = f"; it has {', '.join(band.name for band in bands_of(text))}: say which, as in --srf {text}:BAND,BAND" \
            if text in MEASURED else ""
        raise SceneError(f"--srf {text}: {matrix.shape[0]} curves over {matrix.shape[1]} HSI bands (those that the HSI "
                         f"can feed), and the pair has {len(pair.hr_msi)} MSI and {len(pair.lr_hsi)} HSI bands{bands}")
    return matrix / matrix.sum(1, keepdim=True)


def _scaled(pair: Pair, matrix: Tensor, psf: Tensor, phase: int) -> Tensor:
    """Rows with the sums that bring the two images together, by least squares: their units may differ."""
    seen = torch.einsum("mb,bhw->mhw", matrix, pair.lr_hsi.double())
    low = blur_decimate(pair.hr_msi.double(), psf, pair.ratio, phase, "replicate")
    gain = (seen * low).sum((1, 2)) / seen.square().sum((1, 2)).clamp(min=1e-30)
    if (gain <= 0).any():
        left = ", ".join(str(k + 1) for k in (gain <= 0).nonzero()[:, 0].tolist())
        raise SceneError(f"--srf: MSI bands {left} hold nothing of what these curves see; check the order of the bands")
    return matrix * gain[:, None]


def _stored(pair: Pair, file: Path) -> Responses:
    """What ``estimate`` wrote, brought from the scale of its pair to that of this one."""
    held = fields.stored(str(file), f"--responses {file}", ("srf", "offset", "psf", "phase", "hsi_max", "msi_max"))
    srf, offset, psf = (torch.from_numpy(held[key].astype(np.float64)) for key in ("srf", "offset", "psf"))
    found = Responses(srf[None], offset[None], psf[None], int(held["phase"]))
    hsi_max, msi_max = float(held["hsi_max"]), float(held["msi_max"])
    if found.srf[0].shape != (len(pair.hr_msi), len(pair.lr_hsi)) or not 0 <= found.phase < pair.ratio:
        raise SceneError(f"--responses {file}: an SRF of {tuple(found.srf[0].shape)}, phase {found.phase}, and the pair has "
                         f"{len(pair.hr_msi)} MSI and {len(pair.lr_hsi)} HSI bands, ratio {pair.ratio}; estimate on this pair")
    other = msi_max / pair.msi_max
    return replace(found, srf=found.srf * other * pair.hsi_max / hsi_max, offset=found.offset * other)


def arrays(pair: Pair, found: Responses) -> dict[str, Any]:
    """What a file of responses holds: :func:`given` and ``--psf from:``, ``--srf from:`` read it."""
    return {"wavelength_nm": pair.wavelengths, "psf": found.psf[0].numpy(), "srf": found.srf[0].numpy(),
            "offset": found.offset[0].numpy(), "phase": found.phase, "hsi_max": pair.hsi_max, "msi_max": pair.msi_max}


def margin_of(psf: np.ndarray) -> int:
    """How many samples on every side of a PSF (k, k) are all below a hundredth of its largest."""
    rows, columns = np.nonzero(abs(psf) > 0.01 * abs(psf).max())
    edges = (*rows, *columns, *(len(psf) - 1 - rows), *(len(psf) - 1 - columns))
    return int(min(edges))
