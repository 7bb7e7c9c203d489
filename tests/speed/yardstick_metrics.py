"""What published code does to score one image: NumPy on the host, each figure by itself, and scikit-image for SSIM.

The formulas are those of the S3RNet release: no ceiling, no rule for a band or a spectrum of zeros, arccos of the cosine.
"""

import numpy as np
from skimage.metrics import structural_similarity


def psnr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Images (bands, H, W) -> dB; the peak is that of the band."""
    mse = ((estimate - reference) ** 2).mean(axis=(1, 2))
    return float(np.mean(10 * np.log10(reference.max(axis=(1, 2)) ** 2 / mse)))


def sam(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Images (bands, H, W) -> degrees."""
    cosine = (estimate * reference).sum(axis=0) / (np.linalg.norm(estimate, axis=0) * np.linalg.norm(reference, axis=0))
    return float(np.degrees(np.arccos(cosine)).mean())


def rmse(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Images (bands, H, W) -> their unit."""
    return float(np.sqrt(((estimate - reference) ** 2).mean()))


def ergas(estimate: np.ndarray, reference: np.ndarray, ratio: float) -> float:
    """Images (bands, H, W) -> without unit."""
    mse = ((estimate - reference) ** 2).mean(axis=(1, 2))
    return float(100 / ratio * np.sqrt((mse / reference.mean(axis=(1, 2)) ** 2).mean()))


def ssim(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Images (bands, H, W) in the unit range -> without unit."""
    return float(structural_similarity(reference, estimate, data_range=1.0, channel_axis=0))


def measure(estimate: np.ndarray, reference: np.ndarray, ratio: float = 4) -> dict[str, float]:
    """Images (bands, H, W) -> all figures, computed in float64."""
    estimate, reference = estimate.astype(np.float64), reference.astype(np.float64)
    return {"psnr_db": psnr(estimate, reference), "sam_deg": sam(estimate, reference), "rmse_unit": rmse(estimate, reference),
            "ergas": ergas(estimate, reference, ratio), "ssim": ssim(estimate, reference)}
