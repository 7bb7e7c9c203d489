"""What fused images are good for: anomalies found, abundances and classes, on scenes that come with a map of anomalies.

    rows = list(downstream.compare(("bicubic", "gsa"), ("abu_airport_1",)))
    python run_benchmark.py downstream        # what lacks of all :data:`SCENES` -> results/downstream.csv, reports/downstream

Everything that an image is judged by comes from the reference alone (:class:`Truth`): endmembers, classes, and the probe that
tells classes apart. The scenes carry no class labels: classes are clusters of the reference's spectra, a proxy.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from benchmark import keys, metrics
from benchmark.evaluate import fused_by
from benchmark.machine import code_version, device_name
from benchmark.protocol import CLEAN, PAPER, Scenario, noise
from datasets import get, names
from datasets.io import data_root
from datasets.scene import SceneError, split_entry
from methods import card, weights
from methods.registry import MethodError, split_label, told
from methods.unmixing import principal_axes, vca

PROTOCOL = replace(PAPER, hr_size=96)
MSI_BANDS = 4
DATASET = "aviris"
SCENES = ("abu_airport_1", "abu_airport_2", "abu_airport_3", "abu_urban_1", "abu_urban_2", "abu_urban_4", "abu_urban_5")
SCENARIOS = (CLEAN, noise("lr_hsi", 35))
METHODS = ("bicubic", "gsa", "gs", "brovey", "sfim-hs", "glp-hs", "gfpca", "cnmf", "cnmf-blind", "fuse", "fuse-blind", "hysure",
           "hysure-blind", "map-smm", "subspace-ridge", "subspace-ridge-blind", "subspace-net@weights=shipped")
REFERENCE = "reference"  # in the place of a method: what the true image scores
CELL = ("image", "method", "scenario", "noise_target", "snr_db")  # what a row is of

# Of both detectors; chosen on the references of these scenes. Smaller loadings let directions decide in which a reference has
# noise and a fused image of low rank rounding errors. All but two of the targets fit into the inner window.
LOADING = 1e-3  # parts of the mean variance of a band
COMPONENTS, INNER, OUTER = 20, 11, 21  # of the local detector: leading components, sides of its windows in pixels
ENDMEMBERS = CLASSES = 6
BLOCK, MARGIN = 16, 2  # pixels: side of a block of the checkerboard, and what is left out along its sides
SCORES = {"rx_auc": "higher", "local_rx_auc": "higher", "abundance_rmse": "lower", "proxy_accuracy": "higher"}
FIGURES = ("psnr_db", "sam_deg", *SCORES)


@dataclass(frozen=True)
class Truth:
    """What all images of a scene are judged by.

    Args:
        reference: (bands, H, W) in [0, 1].
        targets: (H, W) bool, the anomalies.
        endmembers: (bands, p) float64, of the reference.
        abundances: (p, H * W), of the reference.
        labels: (H, W) int64, the cluster of each spectrum of the reference.
        probe: (bands + 1, classes), see :func:`probe`.
        tested: (H, W) bool, pixels that the probe is tested on.
    """

    reference: Tensor
    targets: Tensor
    endmembers: Tensor
    abundances: Tensor
    labels: Tensor
    probe: Tensor
    tested: Tensor

    @classmethod
    def of(cls, reference: Tensor, targets: Tensor, name: str) -> Truth:
        """All of it from the reference (bands, H, W); ``name`` seeds the endmembers and clusters."""
        pixels = reference.double().flatten(1)
        endmembers = vca(pixels, ENDMEMBERS, generator=torch.Generator().manual_seed(keys.seed(name, "endmembers")))
        labels = clusters(pixels, keys.seed(name, "clusters") % 2**32).reshape(reference.shape[1:])
        trained, tested = checkerboard(*reference.shape[1:])
        found = probe(reference.double()[:, trained], labels[trained])
        return cls(reference, targets, endmembers, abundances(pixels, endmembers), labels, found, tested)

    def scores(self, image: Tensor) -> dict[str, float]:
        """PSNR in dB, SAM in degrees and all of :data:`SCORES` of an image (bands, H, W)."""
        pixels = image.double()
        error = abundances(pixels.flatten(1), self.endmembers) - self.abundances
        classes = classified(pixels[:, self.tested], self.probe)
        return {"psnr_db": metrics.psnr(image, self.reference).item(), "sam_deg": metrics.sam(image, self.reference).item(),
                "rx_auc": auc(rx(pixels), self.targets), "local_rx_auc": auc(local_rx(pixels), self.targets),
                "abundance_rmse": error.square().mean().sqrt().item(),
                "proxy_accuracy": (classes == self.labels[self.tested]).double().mean().item()}


# ------------------------------------------------------------------------------------------------------------ anomalies


def anomalies(entry: str, size: tuple[int, int]) -> Tensor:
    """The map of anomalies that came with a scene, (H, W) bool, cut as the protocol cuts the reference: its top-left corner.

    Args:
        entry: a scene of the data set ``aviris``.
        size: of the reference.

    Raises:
        SceneError: the file has no such map.
    """
    path = data_root(None) / f"{entry}.npz"
    with np.load(path) as file:
        if "anomaly_map" not in file:
            raise SceneError(f"{path}: no 'anomaly_map'; scenes that have one: {', '.join(SCENES)}")
        found = torch.from_numpy(file["anomaly_map"] != 0)
    return found[: size[0], : size[1]]


def auc(scores: Tensor, targets: Tensor) -> float:
    """Area under the ROC curve: how often a target scores above a pixel that is none, ties counting half.

    Args:
        scores: (H, W), higher is more anomalous.
        targets: (H, W) bool, of both kinds.

    Returns:
        From 0 to 1, by chance 0.5.
    """
    hits, others = scores[targets], scores[~targets].sort().values
    below, up_to = (torch.searchsorted(others, hits, right=right).double() for right in (False, True))
    return float(((below + up_to) / 2).mean() / len(others))


def rx(image: Tensor) -> Tensor:
    """Global RX: squared Mahalanobis distance (H, W) of each pixel from the mean spectrum, by the covariance of all pixels.

    :data:`LOADING` times the mean variance of a band is added to the diagonal of the covariance.

    Args:
        image: (bands, H, W) float64.

    Source:
        Reed & Yu, IEEE Trans. ASSP 38(10):1760-1770, 1990.
    """
    pixels = image.flatten(1)
    pixels = pixels - pixels.mean(1, keepdim=True)
    covariance = pixels @ pixels.T / pixels.shape[1]
    covariance.diagonal().add_(LOADING * covariance.diagonal().mean())
    return (pixels * torch.linalg.solve(covariance, pixels)).sum(0).reshape(image.shape[1:])


def local_rx(image: Tensor, inner: int = INNER, outer: int = OUTER, components: int = COMPONENTS) -> Tensor:
    """Local RX: as :func:`rx`, from mean and covariance of the pixels between two square windows around each pixel.

    Windows end at the border of the image. The image enters by its leading principal components; the loading is that of
    :func:`rx`, of the whole image.

    Args:
        image: (bands, H, W) float64.
        inner: side of the window that is left out, odd.
        outer: side of the window around it, odd.
        components: at most; there are no more than bands.

    Source:
        Reed & Yu 1990, with the dual window of Kwon, Der & Nasrabadi, Optical Engineering 42(11):3342-3351, 2003.
    """
    pixels = image.flatten(1)
    pixels = pixels - pixels.mean(1, keepdim=True)
    low = (principal_axes(pixels, components).T @ pixels).unflatten(1, image.shape[1:])
    count = ring_sums(torch.ones_like(low[:1]), inner, outer)
    mean = ring_sums(low, inner, outer) / count
    first, second = torch.triu_indices(len(low), len(low))
    products = ring_sums(low[first] * low[second], inner, outer) / count - mean[first] * mean[second]
    covariance = low.new_zeros(pixels.shape[1], len(low), len(low))
    covariance[:, first, second] = covariance[:, second, first] = products.flatten(1).T
    covariance.diagonal(dim1=1, dim2=2).add_(LOADING * pixels.square().mean())
    apart = (low - mean).flatten(1).T
    return (apart * torch.linalg.solve(covariance, apart)).sum(1).reshape(image.shape[1:])


def ring_sums(bands: Tensor, inner: int, outer: int) -> Tensor:
    """Sums of bands (n, H, W) over the pixels of the image between two windows around each pixel, (n, H, W)."""
    def window(side: int) -> Tensor:
        half = side // 2
        total = F.pad(bands, (half + 1, half, half + 1, half)).cumsum(1).cumsum(2)
        return total[:, side:, side:] - total[:, :-side, side:] - total[:, side:, :-side] + total[:, :-side, :-side]

    return window(outer) - window(inner)


# ------------------------------------------------------------------------------------------- abundances and proxy classes


def abundances(pixels: Tensor, endmembers: Tensor) -> Tensor:
    """Fully constrained least squares: abundances (p, n) of pixels (bands, n), not negative, of sum 1; exact.

    The solution is that of least squares with sum 1 on the endmembers that it takes part of: of all sets of endmembers the
    one of least error whose abundances are not negative. There are 2^p - 1 sets, which is little for p up to 10.

    Source:
        the problem: Heinz & Chang, IEEE TGRS 39(3):529-545, 2001.
    """
    count = endmembers.shape[1]
    gram, cross = endmembers.T @ endmembers, endmembers.T @ pixels
    best, least = torch.zeros_like(cross), torch.full_like(cross[0], math.inf)
    for size in range(1, count + 1):
        for chosen in combinations(range(count), size):
            part = list(chosen)
            system = F.pad(gram[part][:, part], (0, 1, 0, 1), value=1.0)  # with the multiplier of the sum
            system[-1, -1] = 0
            found = (torch.linalg.pinv(system, hermitian=True) @ F.pad(cross[part], (0, 0, 0, 1), value=1.0))[:-1]
            error = (found * (gram[part][:, part] @ found - 2 * cross[part])).sum(0)  # less that of nothing
            better = (found >= 0).all(0) & (error < least)
            least = torch.where(better, error, least)
            whole = torch.zeros_like(best)
            whole[part] = found
            best = torch.where(better, whole, best)
    return best


def clusters(pixels: Tensor, seed: int) -> Tensor:
    """k-means of spectra (bands, n) into :data:`CLASSES` clusters: labels (n,) int64."""
    _, labels = kmeans2(pixels.T.numpy(), CLASSES, iter=50, minit="++", seed=seed)
    return torch.from_numpy(labels.astype(np.int64))


def checkerboard(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Pixels (H, W) bool of the light and of the dark blocks, without those along a block's sides."""
    row, column = torch.arange(height)[:, None], torch.arange(width)[None]
    dark = (row // BLOCK + column // BLOCK) % 2 == 1
    inside = torch.ones(height, width, dtype=torch.bool)
    for at in (row % BLOCK, column % BLOCK):
        inside &= (at >= MARGIN) & (at < BLOCK - MARGIN)
    return inside & ~dark, inside & dark


def probe(spectra: Tensor, labels: Tensor) -> Tensor:
    """Linear discriminant analysis of spectra (bands, n) with labels (n,): (bands + 1, classes), the last row constants.

    The covariance is that within classes, with :data:`LOADING` times its mean variance on the diagonal; a class counts by its
    share of the pixels. One without pixels is never chosen. Ridge regression to columns of 0 and 1, the other closed form,
    hides classes that lie between others, as clusters of unequal brightness do.

    Source:
        Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd edition, section 4.3.
    """
    members = F.one_hot(labels, CLASSES).to(spectra)  # (n, classes)
    counts = members.sum(0)
    means = spectra @ members / counts.clamp(min=1)
    within = spectra - means[:, labels]
    covariance = within @ within.T / len(labels)
    covariance.diagonal().add_(LOADING * covariance.diagonal().mean())
    directions = torch.linalg.solve(covariance, means)
    constants = (counts / len(labels)).log() - (means * directions).sum(0) / 2
    return torch.cat([directions, constants[None]])


def classified(spectra: Tensor, weights: Tensor) -> Tensor:
    """The class (n,) of spectra (bands, n) by a :func:`probe`."""
    return (weights.T @ F.pad(spectra, (0, 0, 0, 1), value=1.0)).argmax(0)


# --------------------------------------------------------------------------------------------------------------- the rows


def check_names(methods: Sequence[str]) -> None:
    """Refuse, before anything is read, methods that must be trained first or look at the reference.

    Raises:
        MethodError: such a method; an unknown one, or no such file of weights.
    """
    for name in methods:
        held, words = card(name), split_label(name)[1]
        if held.oracle or (held.recipes and "weights" not in words):
            why = "looks at the reference" if held.oracle else "must be trained first: give its parameters by weights=FILE"
            raise MethodError(f"method '{name}' {why}; downstream takes methods that need no training, and weights=...")
        if "weights" in words:
            weights.about(held.name, str(words["weights"]))


def seen_by(method: str) -> set[str]:
    """The scenes that a method with weights was trained or validated on, whole or in part; none of one without."""
    name, words = split_label(method)
    if "weights" not in words:
        return set()
    dataset = weights.about(name, str(words["weights"])).dataset
    splits = get(dataset).splits() if dataset in names() else {}
    return {split_entry(entry)[0] for split in ("train", "val") for entry in splits.get(split, ())}


def compare(methods: Sequence[str] = METHODS, scenes: Sequence[str] = SCENES, scenarios: Sequence[Scenario] = SCENARIOS,
            held: Collection[tuple[str, ...]] = ()) -> Iterator[dict[str, Any]]:
    """One row a scene, scenario and method, and one a scene of the reference, as they come.

    Args:
        methods: names or variants that need no training.
        scenes: of the data set ``aviris``, with a map of anomalies.
        scenarios: of the observation.
        held: cells that are left out: values of :data:`CELL`, as text.

    Raises:
        MethodError: as :func:`check_names`.
        SceneError: missing files, or a scene without a map.
    """
    check_names(methods)
    data, seen = get(DATASET), {method: seen_by(method) for method in methods}
    cells = [(entry, scenario, method) for entry in scenes for scenario in scenarios
             for method in ((REFERENCE, *methods) if scenario is scenarios[0] else methods)]
    due = [cell for cell in cells if tuple(map(str, identity(*cell).values())) not in held]
    here = {"device": device_name(torch.device("cpu")), "threads": torch.get_num_threads(), **code_version()}
    truth: Truth | None = None
    at = ""
    with tqdm(due, desc="downstream", unit="image") as bar:
        for entry, scenario, method in bar:
            bar.set_postfix_str(f"{entry} {scenario.name} {method}")
            reference, observation = PROTOCOL.look(data.scene(entry), MSI_BANDS, scenario)
            if truth is None or at != entry:
                at, truth = entry, Truth.of(reference.cube, anomalies(entry, reference.size), entry)
            estimate, seconds, status = reference.cube, 0.0, "ok"
            if method != REFERENCE:
                estimate, seconds = fused_by(method, observation, PROTOCOL.ratio)
                status = "ok" if torch.isfinite(estimate).all() else "failed"
            figures = truth.scores(estimate) if status == "ok" else dict.fromkeys(FIGURES, math.nan)
            yield {**identity(entry, scenario, method), "told": told_of(method), "msi_bands": MSI_BANDS,
                   "protocol": PROTOCOL.digest, "flight": reference.flight, "bands": reference.bands,
                   "targets": int(truth.targets.sum()), "pixels": truth.targets.numel(),
                   "seen": "yes" if entry in seen.get(method, ()) else "no", **figures, "seconds": seconds, "status": status,
                   **here}


def identity(entry: str, scenario: Scenario, method: str) -> dict[str, Any]:
    """What a row is of; the reference is the same in every scenario, and its row says clean."""
    scenario = CLEAN if method == REFERENCE else scenario
    return dict(zip(CELL, (entry, method, scenario.name, scenario.noise_target, scenario.snr_db)))


def told_of(method: str) -> str:
    """With which methods one is compared: known, blind or trained; the reference with none."""
    return "" if method == REFERENCE else "trained" if card(method).recipes else told(method)
