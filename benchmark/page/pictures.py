"""Pictures of one image a split: false colour and residuals (Figure 5), and maps of the spectral angle.

They are made of the estimates that a score job keeps where its study asks for pictures: ``estimate.npz`` with ``cube``
(bands, H, W) in half precision, ``image`` and ``wavelengths`` (bands,) in nm, and the reference likewise beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmark.page.plots import Plot, own_style, plain
from benchmark.page.section import Section
from benchmark.protocol import CLEAN

COLUMNS = 5  # pictures side by side in one figure, the reference first
CHANNELS_NM = (860.0, 650.0, 550.0)  # shown as red, green and blue: vegetation is red
FLOOR = 1e-4  # of the unit range: residuals below it are shown as this, which half precision does not resolve


@dataclass(frozen=True, eq=False)
class Picture:
    """An estimate that was kept.

    Args:
        estimate: (bands, H, W) float64.
        reference: likewise.
        image: its name.
        wavelengths: (bands,) in nm.
    """

    estimate: np.ndarray
    reference: np.ndarray
    image: str
    wavelengths: np.ndarray


def read(path: Path) -> Picture:
    """An estimate and the reference beside it.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: the two are not of the same image or size.
    """
    with np.load(path) as file, np.load(path.with_name("reference.npz")) as other:
        estimate, reference = (each["cube"].astype(np.float64) for each in (file, other))
        if estimate.shape != reference.shape or str(file["image"]) != str(other["image"]):
            raise ValueError(f"{path}: an estimate of '{file['image']}' {estimate.shape} beside a reference of "
                             f"'{other['image']}' {reference.shape}; remove both, and run again to keep them anew")
        return Picture(estimate, reference, str(file["image"]), file["wavelengths"].astype(np.float64))


def pictures(section: Section, msi_bands: int) -> dict[str, Picture]:
    """The estimates of a split by method, in the order of the study; all of the same image."""
    split = section.split.name if section.split else ""
    paths = {method: path for method in section.facts.methods
             if (path := section.rows.estimates.get((method, msi_bands, split))) is not None}
    made = {method: read(path) for method, path in paths.items()}
    first = next(iter(made.values()), None)
    return {method: one for method, one in made.items() if first and one.image == first.image
            and one.reference.shape == first.reference.shape}


def figure_5(section: Section) -> list[Plot]:
    """False colour above the logarithm of the mean absolute residual, one scale for all methods."""
    return [plot for msi_bands in section.facts.msi_bands for plot in _grid(
        section, msi_bands, "figure-5", "False colour and log10 of the residual", _log_residual, "log10 of the residual",
        "magma", True)]


def angle_maps(section: Section) -> list[Plot]:
    """The spectral angle of every pixel, one scale for all methods."""
    return [plot for msi_bands in section.facts.msi_bands for plot in _grid(
        section, msi_bands, "angles", "Spectral angle by pixel", angles, "SAM (deg)", "viridis", False)]


def _log_residual(one: Picture) -> np.ndarray:
    """(H, W): log10 of the mean over bands of the absolute difference, in units of the image's range."""
    return np.log10(np.maximum(np.abs(one.estimate - one.reference).mean(0), FLOOR))


def angles(one: Picture) -> np.ndarray:
    """(H, W): angle between the two spectra of a pixel in degrees; of a zero spectrum and any other 90."""
    u, v = (cube / np.where(norm == 0, 1.0, norm) for cube in (one.estimate, one.reference)
            for norm in [np.linalg.norm(cube, axis=0, keepdims=True)])
    return np.degrees(2 * np.arctan2(np.linalg.norm(u - v, axis=0), np.linalg.norm(u + v, axis=0)))


def _grid(section: Section, msi_bands: int, name: str, title: str, mapped: Callable[[Picture], np.ndarray], label: str,
          colours: str, coloured: bool) -> list[Plot]:
    """Figures of few methods each: false colour above the map if so told, else maps alone."""
    held = pictures(section, msi_bands)
    if not held:
        return []
    maps = {method: mapped(one) for method, one in held.items()}
    values = np.concatenate([each.ravel() for each in maps.values()])
    low, high = (float(np.quantile(values, q)) for q in (0.01, 0.99))
    first = next(iter(held.values()))
    shown = false_colour(first)
    methods, made = list(held), []
    psnr = {method: _psnr(section, msi_bands, method, first.image) for method in methods}
    for number, start in enumerate(range(0, len(methods), COLUMNS - 1), 1):
        mine = methods[start:start + COLUMNS - 1]
        with own_style():
            rows, columns = (2 if coloured else 1), len(mine) + 1
            figure = Figure(figsize=(1.55 * columns + 0.7, 1.75 * rows + 0.25), layout="constrained")
            axes = figure.subplots(rows, columns, squeeze=False)
            for each in axes.ravel():
                each.set_axis_off()
            _image(axes[0, 0], shown(first.reference), "reference", first if coloured else None, shown)
            for j, method in enumerate(mine, 1):
                heading = f"{short(method)}\n{psnr[method]:.2f} dB"
                if coloured:
                    _image(axes[0, j], shown(held[method].estimate), heading, held[method], shown)
                else:
                    axes[0, j].set_title(plain(heading), fontsize=8)
                drawn = axes[-1, j].imshow(maps[method], cmap=colours, vmin=low, vmax=high, interpolation="nearest",
                                           label=method)
            bar = figure.colorbar(drawn, ax=list(axes[-1]), fraction=0.05, pad=0.01)
            bar.set_label(label, fontsize=8)
            bar.ax.tick_params(labelsize=7)
        part = f"-{number}" if number > 1 else ""
        nanometres = ", ".join(f"{first.wavelengths[band]:.0f}" for band in channels(first.wavelengths))
        caption = (f"{title} of {first.image}, {msi_bands} MSI bands, clean: one scale for all methods, PSNR above."
                   + (f" Red, green, blue: {nanometres} nm." if coloured else ""))
        notes = ("Colours are stretched as the reference's; the inset enlarges the window of most detail. Residual: mean over "
                 "bands of the absolute difference, in units of the image's range, as its log10." if coloured else
                 "Angle between the spectra of estimate and reference.")
        order = sorted(mine, key=lambda method: float(maps[method].mean()))
        made.append(Plot(f"{section.slug}-{name}-msi{msi_bands}{part}", f"{title}, {msi_bands} MSI bands", caption, figure,
                         notes, section.caption(),
                         f"{title}, from the least error on: " + ", ".join(
                             f"{method} {psnr[method]:.1f} dB" for method in order) + "."))
    return made


def _image(axes: Axes, rgb: np.ndarray, heading: str, one: Picture | None,
           shown: Callable[[np.ndarray], np.ndarray]) -> None:
    """A picture with its heading and, enlarged in its lower right corner, the window of most detail."""
    axes.imshow(rgb, interpolation="nearest")
    axes.set_title(plain(heading), fontsize=8)
    if one is None:
        return
    top, left, side = detail(shown(one.reference))
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor="#ffd400", linewidth=0.9))
    inset = axes.inset_axes((0.56, 0.0, 0.44, 0.44))
    inset.imshow(rgb[top:top + side, left:left + side], interpolation="nearest")
    inset.set_xticks([])
    inset.set_yticks([])
    for spine in inset.spines.values():
        spine.set(visible=True, edgecolor="#ffd400", linewidth=1.2)


def channels(wavelengths: np.ndarray) -> tuple[int, int, int]:
    """The bands shown as red, green and blue: nearest to :data:`CHANNELS_NM`, or spread evenly where those are not covered."""
    if np.isfinite(wavelengths).all() and wavelengths.min() < CHANNELS_NM[2] and wavelengths.max() > CHANNELS_NM[0]:
        red, green, blue = (int(np.abs(wavelengths - nm).argmin()) for nm in CHANNELS_NM)
    else:
        red, green, blue = (int(share * (len(wavelengths) - 1)) for share in (0.75, 0.5, 0.25))
    return red, green, blue


def false_colour(one: Picture) -> Callable[[np.ndarray], np.ndarray]:
    """``(bands, H, W) -> (H, W, 3)`` in [0, 1], stretched between the 2nd and 98th percentile of the reference's channels."""
    bands = list(channels(one.wavelengths))
    low, high = (np.quantile(one.reference[bands], q, axis=(1, 2))[:, None, None] for q in (0.02, 0.98))
    width = np.where(high > low, high - low, 1.0)
    return lambda cube: np.clip((cube[bands] - low) / width, 0, 1).transpose(1, 2, 0)


def detail(rgb: np.ndarray) -> tuple[int, int, int]:
    """Top, left and side of the window, a quarter as wide as the image, in which an image (H, W, 3) varies most."""
    side = max(4, min(rgb.shape[:2]) // 4)
    places = [(top, left) for top in range(0, rgb.shape[0] - side + 1, max(1, side // 2))
              for left in range(0, rgb.shape[1] - side + 1, max(1, side // 2))]
    top, left = max(places, key=lambda at: float(rgb[at[0]:at[0] + side, at[1]:at[1] + side].std(axis=(0, 1)).sum()))
    return top, left, side


def _psnr(section: Section, msi_bands: int, method: str, image: str) -> float:
    """PSNR of one image in the rows; of the first seed, whose estimate is kept."""
    rows = section.scored(CLEAN, msi_bands, method)
    own = rows[rows["image"] == image].sort_values("seed")
    return float(own["psnr_db"].iloc[0]) if len(own) else float("nan")


def short(method: str, most: int = 20) -> str:
    """A method's name in two lines where it is a long variant."""
    name, at, words = method.partition("@")
    return f"{name}\n@{words[:most]}" if at else name
