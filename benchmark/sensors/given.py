"""Responses that a user gives: what ``--psf`` and ``--srf`` name, as fields of a protocol.

    replace(PAPER, **psf_fields("gaussian:2"), **srf_fields("mine.csv"))

``from:`` files are those that ``run_benchmark.py estimate`` writes, with ``psf`` (k, k), ``srf`` (msi_bands, bands), ``phase``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.sensors import bands_of_file
from datasets.scene import SceneError


def psf_fields(text: str) -> dict[str, Any]:
    """The PSF of a protocol.

    Args:
        text: ``gaussian:SIGMA``, in HR pixels, sampled over three of them to each side; ``from:FILE.npz``, which tells the
            phase as well; or a file of a square of numbers, one an HR pixel, correlated with the image: CSV or text, a line
            a row, or ``.npy``. The centre of an even side is the sample before its middle.

    Returns:
        ``psf_support`` and ``psf_sigma`` or ``psf_matrix``, and ``phase`` where the file holds it.

    Raises:
        SceneError: no such file, or no PSF in it; names the file and what is wanted.
    """
    kind, _, rest = text.partition(":")
    if kind == "gaussian":
        try:
            sigma = float(rest)
        except ValueError:
            sigma = math.nan
        if not 0 < sigma < 1000:
            raise SceneError(f"--psf {text}: give gaussian:SIGMA with a number of HR pixels above 0, such as gaussian:2")
        return {"psf_sigma": sigma, "psf_support": 2 * math.ceil(3 * sigma) + 1, "psf_matrix": ()}
    if kind == "from":
        arrays = stored(rest, f"--psf {text}", ("psf", "phase"))
        return _matrix(arrays["psf"], f"--psf {text}") | {"phase": int(arrays["phase"])}
    path = Path(text).expanduser()
    if not path.is_file():
        raise SceneError(f"--psf {text}: no such file; give a file of numbers, gaussian:SIGMA or from:responses.npz")
    try:
        if path.suffix == ".npy":
            matrix = np.load(path)
        else:
            lines = [line.replace(",", " ").split() for line in path.read_text(encoding="utf-8-sig").splitlines()]
            matrix = np.array([[float(word) for word in line] for line in lines if line and not line[0].startswith("#")])
    except (ValueError, OSError, EOFError) as error:
        raise SceneError(f"--psf {text}: {error}; give a square of numbers, a line a row, or .npy "
                         "(of a file that `estimate` wrote: from:FILE.npz)") from error
    return _matrix(matrix, f"--psf {text}")


def srf_fields(text: str) -> dict[str, Any]:
    """The spectral response of a protocol.

    Args:
        text: a CSV file (:func:`benchmark.sensors.bands_of_file`), or ``from:FILE.npz``, whose response holds for scenes with
            the bands of the pair that it was estimated from.

    Returns:
        ``srf``.

    Raises:
        SceneError: no such file, or no responses in it.
    """
    kind, _, rest = text.partition(":")
    if kind != "from":
        return {"srf": bands_of_file(Path(text).expanduser())}
    matrix = stored(rest, f"--srf {text}", ("srf",))["srf"]
    if matrix.ndim != 2 or not np.isfinite(matrix).all() or (matrix < 0).any() or (matrix.sum(1) <= 0).any():
        raise SceneError(f"--srf {text}: its response {matrix.shape} is no matrix (msi_bands, bands) of numbers of 0 or more, "
                         "with a positive sum in every row; estimate with --estimator l1 or nonnegative, which give such ones")
    return {"srf": tuple(map(tuple, matrix.astype(float).tolist()))}


def stored(name: str, said: str, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Arrays of a file that ``estimate`` wrote.

    Args:
        name: of the file.
        said: the flag and its word, for errors.
        wanted: names of arrays.

    Raises:
        SceneError: no such file, or one without these arrays.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise SceneError(f"{said}: no such file; give one that `run_benchmark.py estimate` wrote, responses.npz")
    try:
        with np.load(path) as file:
            return {key: file[key] for key in wanted}
    except Exception as error:  # parsers meeting damage raise zip, value, key, type, ... errors: all mean this
        raise SceneError(f"{said}: holds no {' and '.join(wanted)} ({type(error).__name__}: {error}); give a file that "
                         "`run_benchmark.py estimate` wrote, responses.npz, or estimate again") from error


def _matrix(matrix: np.ndarray, what: str) -> dict[str, Any]:
    """Fields of a PSF given as numbers; an even side gets a row and a column of zeros before it, so that it has a middle."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise SceneError(f"{what}: an array of shape {matrix.shape}; a PSF is a square of numbers")
    if matrix.dtype.kind not in "iuf" or not np.isfinite(matrix).all() or matrix.sum() <= 0:
        raise SceneError(f"{what}: a PSF holds finite numbers with a positive sum")
    odd = np.pad(matrix.astype(float), (int(len(matrix) % 2 == 0), 0))
    return {"psf_support": len(odd), "psf_matrix": tuple(map(tuple, odd.tolist()))}
