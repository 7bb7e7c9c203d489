"""Quality by wavelength, and spectra of single pixels, of the estimates that are kept for pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.metrics import PSNR_CEILING_DB
from benchmark.page.pictures import Picture, pictures
from benchmark.page.plots import GREY, Plot, canvas, coloured, legend, own_style, plain, styles, thinned
from benchmark.page.section import Section

# A step between neighbouring bands above this many times the usual one is a gap: bands that were left out, for AVIRIS those
# in which water vapour absorbs.
GAP = 3.0
LEAST_SHARE = 0.05  # of the image's largest sum of the two bands of an index: pixels below are too dark for it


def band_psnr(one: Picture) -> np.ndarray:
    """(bands,): PSNR of each band in dB, its peak the band's own; NaN where the reference is zero throughout."""
    mse = ((one.estimate - one.reference) ** 2).mean((1, 2))
    peak = one.reference.max((1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.minimum(10 * np.log10(peak ** 2 / mse), PSNR_CEILING_DB)
    return np.where(peak > 0, found, np.nan)


def band_angle(one: Picture) -> np.ndarray:
    """(bands,): angle in degrees between the two images of a band, each taken as one vector over pixels."""
    u, v = (cube.reshape(len(cube), -1) for cube in (one.estimate, one.reference))
    norms = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
    cosine = np.divide((u * v).sum(1), norms, out=np.full(len(u), np.nan), where=norms > 0)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def by_band(section: Section) -> list[Plot]:
    """PSNR and spectral angle of every band over wavelength."""
    made = []
    for msi_bands in section.facts.msi_bands:
        held = pictures(section, msi_bands)
        for name, label, words, figure_of in (
                ("psnr", "PSNR (dB)", "PSNR of each band", band_psnr),
                ("sam", "angle (deg)", "Angle between the images of each band, as vectors over pixels", band_angle)):
            if held:
                made.append(_by_band(section, msi_bands, held, name, label, words, figure_of))
    return made


def _by_band(section: Section, msi_bands: int, held: Mapping[str, Picture], name: str, label: str, words: str,
             figure_of: Callable[[Picture], np.ndarray]) -> Plot:
    values = {method: figure_of(one) for method, one in held.items()}
    first = next(iter(held.values()))
    with own_style():
        figure, (axes,), drawn, chosen, look = _wide(section, held, 1)
        for method in drawn:
            _line(axes, first.wavelengths, values[method], method, look[method])
        _gaps(axes, first.wavelengths)
        axes.set_xlabel("wavelength (nm)")
        axes.set_ylabel(label)
        axes.set_title(plain(f"{section.title}, {first.image}, {msi_bands} MSI bands"), fontsize=10)
        legend(figure, axes, drawn, look, chosen)
    means = {method: float(np.nanmean(own)) for method, own in values.items()}
    worst = {method: first.wavelengths[int(np.nanargmin(own) if name == "psnr" else np.nanargmax(own))]
             for method, own in values.items()}
    best = (max if name == "psnr" else min)(means, key=means.__getitem__)
    return Plot(f"{section.slug}-bands-{name}-msi{msi_bands}", f"{words}, {msi_bands} MSI bands",
                f"{words}, over wavelength: {first.image}, clean, {msi_bands} MSI bands; grey: bands left out (absorption).",
                figure, thinned(drawn, chosen), section.caption(),
                f"{words}: best on average {best}, {means[best]:.1f}; it is worst at {worst[best]:.0f} nm.")


@dataclass(frozen=True)
class Chosen:
    """A pixel and why it is shown.

    Args:
        what: it looks most like.
        index: by which, in words.
        value: of that index.
        row: of the pixel.
        column: of the pixel.
    """

    what: str
    index: str
    value: float
    row: int
    column: int


# what a pixel looks most like -> the index that is highest there: (first - second) / (first + second), bands in nm
INDICES = {"vegetation": ("NDVI", 860.0, 660.0), "water": ("NDWI", 560.0, 860.0), "man-made": ("NDBI", 1650.0, 860.0)}


def chosen_pixels(one: Picture) -> list[Chosen]:
    """The pixel of the highest index of each kind in the reference, of those bright enough; none where bands are missing."""
    found = []
    for what, (index, *bands) in INDICES.items():
        if not all(one.wavelengths.min() - 10 <= nm <= one.wavelengths.max() + 10 for nm in bands):
            continue
        a, b = (one.reference[int(np.abs(one.wavelengths - nm).argmin())] for nm in bands)
        bright = a + b > LEAST_SHARE * (a + b).max()
        values = np.where(bright, (a - b) / np.where(bright, a + b, 1.0), -np.inf)
        row, column = (int(i) for i in np.unravel_index(values.argmax(), values.shape))
        found.append(Chosen(what, f"{index} ({bands[0]:.0f}, {bands[1]:.0f} nm)", float(values[row, column]), row, column))
    return found


def spectra(section: Section) -> list[Plot]:
    """Spectra of three pixels: reference and methods, and below the difference."""
    made = []
    for msi_bands in section.facts.msi_bands:
        held = pictures(section, msi_bands)
        for pixel in chosen_pixels(next(iter(held.values()))) if held else ():
            made.append(_spectra(section, msi_bands, held, pixel))
    return made


def _spectra(section: Section, msi_bands: int, held: Mapping[str, Picture], pixel: Chosen) -> Plot:
    first = next(iter(held.values()))
    at = (slice(None), pixel.row, pixel.column)
    errors = {method: one.estimate[at] - one.reference[at] for method, one in held.items()}
    with own_style():
        figure, (above, below), drawn, chosen, look = _wide(section, held, 2)
        _line(above, first.wavelengths, first.reference[at], "reference",
              {"color": "#000000", "linewidth": 2.4, "linestyle": "-", "alpha": 0.55})
        for method in drawn:
            _line(above, first.wavelengths, held[method].estimate[at], method, look[method])
            _line(below, first.wavelengths, errors[method], method, look[method])
        for axes in (above, below):
            _gaps(axes, first.wavelengths)
        below.axhline(0, color="#000000", linewidth=0.8, label="_zero")
        above.set_ylabel("value (unit range)")
        below.set_ylabel("estimate - reference")
        below.set_xlabel("wavelength (nm)")
        above.set_title(plain(f"{first.image}, {pixel.what}: row {pixel.row}, column {pixel.column}, {msi_bands} MSI bands"),
                        fontsize=10)
        legend(figure, above, drawn, look, chosen)
    size = {method: float(np.sqrt((own ** 2).mean())) for method, own in errors.items()}
    best = min(size, key=size.__getitem__)
    return Plot(f"{section.slug}-spectrum-{pixel.what}-msi{msi_bands}", f"Spectra of a pixel: {pixel.what}",
                f"Spectra of the pixel most like {pixel.what} in {first.image}, and the errors below; {msi_bands} MSI bands; "
                "thick grey: reference.", figure,
                f"Chosen in the reference by the highest {pixel.index}: {pixel.value:.2f}, of pixels not too dark for it; the "
                f"index does not prove what is there. {thinned(drawn, chosen)}".strip(),
                section.caption(), f"Nearest to the reference is {best}, off by {size[best]:.3f} (root mean square).")


def _wide(section: Section, held: Mapping[str, Picture], panels: int) -> tuple[
        Figure, list[Axes], list[str], tuple[str, ...], dict[str, dict[str, Any]]]:
    """Stacked panels over wavelength, the methods drawn, those in colour, and how each looks: lines without markers."""
    drawn = list(held)
    quality = {method: float(np.nanmean(band_psnr(one))) for method, one in held.items()}
    chosen = coloured(drawn, quality)
    look = {method: {**style, "marker": "", "linewidth": 1.1} for method, style in styles(section.facts.methods).items()}
    look |= {method: {**GREY, "marker": ""} for method in drawn if method not in chosen}
    figure, axes = canvas(panels, 2.9 if panels == 1 else 1.9, drawn, chosen)
    figure.set_figwidth(6.4)
    return figure, axes, drawn, chosen, look


def _stretches(wavelengths: np.ndarray) -> list[np.ndarray]:
    """The bands by rising wavelength, cut at gaps."""
    order = np.argsort(wavelengths, kind="stable")
    steps = np.diff(wavelengths[order])
    return np.split(order, np.flatnonzero(steps > GAP * np.median(steps)) + 1) if len(steps) else [order]


def _line(axes: Axes, wavelengths: np.ndarray, values: np.ndarray, label: str, look: Mapping[str, Any]) -> None:
    """A line over wavelength, broken at gaps."""
    for i, bands in enumerate(_stretches(wavelengths)):
        axes.plot(wavelengths[bands], values[bands], label=plain(label if i == 0 else f"_{label}"), **look)


def _gaps(axes: Axes, wavelengths: np.ndarray) -> None:
    """Grey where no band is."""
    for left, right in pairwise(_stretches(wavelengths)):
        axes.axvspan(float(wavelengths[left[-1]]), float(wavelengths[right[0]]), color="#eeeeee", zorder=0.5, linewidth=0)
