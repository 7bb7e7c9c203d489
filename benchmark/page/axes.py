"""The axes along which the scenarios of a study vary: noise of one target, misregistration, a wrong sensor model, or any other.

Every axis has a table, and a curve where it has two amounts (:mod:`benchmark.page.tables`, :mod:`benchmark.page.plots`); one of
a name that is not known here has them as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.page.section import slug_of
from benchmark.protocol import Scenario

TARGETS = {"lr_hsi": "noise on the LR-HSI only", "both": "noise on LR-HSI and HR-MSI"}
NUMBERED = re.compile(r"(.*?)[-_]?(-?\d+(?:\.\d+)?)$")  # a scenario's name: its kind and how much of it


@dataclass(frozen=True)
class Level:
    """A scenario and its place on the axis.

    Args:
        at: on the axis, in its unit.
        apart: it does not lie on the axis but beside its end, and no line leads to it.
    """

    scenario: Scenario
    at: float
    words: str
    apart: bool = False

    @property
    def key(self) -> str:
        """Its column in a CSV: ``clean`` or ``45_dB``."""
        return self.words.replace(" ", "_")


@dataclass(frozen=True)
class Axis:
    """Scenarios of one kind.

    Args:
        name: part of file names.
        words: what varies, in a caption.
        label: of the axis, with its unit.
        levels: from left to right.
        unit: behind the numbers of its levels.
    """

    name: str
    words: str
    label: str
    levels: tuple[Level, ...]
    unit: str = ""

    def tick(self, level: Level) -> str:
        """A level as the axis says it: without the unit."""
        return level.words.removesuffix(f" {self.unit}") if self.unit else level.words


def axes_of(scenarios: Sequence[Scenario]) -> dict[str, Axis]:
    """The axes of a study by name, noise first; the clean scenario is a level of each, and alone none.

    Noise falls to the left, and clean stands apart to the right. Misregistration and a shifted response begin with the clean
    scenario at zero. Where the clean value is not on the axis, or a kind has no numbers, clean stands apart as well.
    """
    clean = next((each for each in scenarios if each == Scenario()), None)
    groups: dict[tuple[str, str, str, str], list[tuple[float, Scenario]]] = {}
    for scenario in scenarios:
        if scenario != clean:
            kind, amount = _kind(scenario)
            groups.setdefault(kind, []).append((amount, scenario))
    made = {}
    for (name, words, label, unit), found in sorted(groups.items(), key=lambda group: _order(group[0][0])):
        found.sort(key=lambda each: (math.inf if math.isnan(each[0]) else each[0], each[1].name))
        if any(math.isnan(amount) for amount, _ in found):  # names without numbers: one beside the other
            levels = [Level(scenario, float(i), scenario.name) for i, (_, scenario) in enumerate(found)]
        else:
            levels = [Level(scenario, amount, f"{amount:g} {unit}".strip()) for amount, scenario in found]
        zero = any(scenario.degradations and scenario.degradations[0].axis.zero for _, scenario in found)
        if clean and (zero or name in ("shift", "told-srf")):
            levels = sorted([*levels, Level(clean, 0.0, f"0 {unit}".strip())], key=lambda level: level.at)
        elif clean:
            ends = [level.at for level in levels]
            step = max(ends[-1] - ends[-2] if len(ends) > 1 else 0.0, 5.0 if unit == "dB" else 0.3 * abs(ends[-1]) or 1.0)
            levels.append(Level(clean, ends[-1] + step, "clean", apart=True))
        made[name] = Axis(name, words, label, tuple(levels), unit)
    return made


def _kind(scenario: Scenario) -> tuple[tuple[str, str, str, str], float]:
    """Name, words, label and unit of the axis of a scenario, and how much of it; NaN where its name holds no number."""
    noisy = math.isfinite(scenario.snr_db)
    if scenario == Scenario("noise", scenario.noise_target, scenario.snr_db):
        target = scenario.noise_target
        return (f"noise-{slug_of(target)}", TARGETS.get(target, f"noise on {target}"), "SNR (dB)", "dB"), scenario.snr_db
    if scenario == Scenario(scenario.name, shift=scenario.shift) and scenario.shift:
        return ("shift", "misregistration of the LR-HSI", "shift (HR pixels)", "px"), float(scenario.shift)
    sigma, shifted = scenario.told_psf_sigma, scenario.told_srf_shift_nm
    if sigma is not None and scenario == Scenario(scenario.name, told_psf_sigma=sigma):
        return ("told-psf", "a PSF of another width is told", "told PSF sigma (HR pixels)", "px"), sigma
    if len(scenario.degradations) == 1 and scenario == Scenario(scenario.name, degradations=scenario.degradations):
        axis = scenario.degradations[0].axis
        return (axis.name, axis.words, axis.label, axis.unit), scenario.degradations[0].amount
    if shifted and scenario == Scenario(scenario.name, told_srf_shift_nm=shifted):
        return ("told-srf", "a shifted SRF is told", "shift of the told SRF (nm)", "nm"), shifted
    found = NUMBERED.fullmatch(scenario.name)
    kind, amount = (found[1], float(found[2])) if found and found[1] and not noisy else (scenario.name, math.nan)
    if noisy:  # noise on top of something else
        return ((f"{slug_of(kind)}-{slug_of(scenario.noise_target)}", f"{kind}, noise on {scenario.noise_target}", "SNR (dB)",
                 "dB"), scenario.snr_db)
    words = {"other-lr-hsi": "the LR-HSI is that of another scene"}.get(kind, kind)
    return (slug_of(kind), words, kind, ""), amount


def _order(name: str) -> tuple[int, str]:
    known = ("noise-lr-hsi", "noise-both", "shift", "told-psf", "told-srf")
    return (known.index(name) if name in known else len(known), name)
