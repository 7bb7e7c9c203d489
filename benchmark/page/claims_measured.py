"""Claims that rows of a study decide: scores image by image, and times and memory of cost rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from benchmark.page.claims_counted import STUDENT, TEACHER, counted, of_teacher, rank_of
from benchmark.page.facts import UNMOVED_DB
from benchmark.page.section import Section
from benchmark.page.verdicts import (
    LEAST_EFFECT_DB,
    MAIN,
    Difference,
    Verdict,
    ahead,
    beats,
    by_image,
    difference,
    has,
    judged,
    least_effect,
    paired,
    places,
    scored,
    silent,
    supervised,
    variants,
)
from benchmark.protocol import CLEAN, Scenario
from benchmark.published import LONG, TABLE_1, published
from methods import card

LARGE_TEACHER, LARGE_STUDENT = f"{TEACHER}-large", f"{STUDENT}-large"
OWN = (TEACHER, STUDENT, LARGE_TEACHER, LARGE_STUDENT)
PEERS = tuple(dict.fromkeys(row.method for row in published().tables[TABLE_1].rows if row.method not in OWN))
TRAINED_PEERS = tuple(name for name in PEERS if card(name).family == "supervised")
PRINTED = tuple(dict.fromkeys(row.method for row in published().tables[LONG].rows if row.place["supervised"]))
LONG_PEERS = tuple(dict.fromkeys(row.method for row in published().tables[LONG].rows
                                 if row.method not in OWN and not card(row.method).oracle))
BY_IMAGE = ("cucanet", "usdn", "u2mdn")  # optimised for each image
REAL_TIME_SECONDS = 1.0  # an image, at the most generous
COMPETITIVE_DB = -1.0  # the largest distance that the prints call competitive is 0.893 dB
HALF = "taken as: in the better half of the release's table in each"


# ------------------------------------------------------------------------------------------------------------- quality


def best_of_table_1(section: Section, text: str) -> Verdict:
    """Teacher and student against the seven others."""
    return beats(section, (TEACHER, STUDENT), PEERS, required=PEERS)


def best_of_all(section: Section, text: str, own: Sequence[str], required: Sequence[str] = LONG_PEERS) -> Verdict:
    """Methods against every other trained method of the study; only with those of the release's table it can hold."""
    others = [name for name in supervised(section, own) if not (set(own) & set(OWN) and name in OWN)]
    return beats(section, own, others, required=required)


def beside_teacher(section: Section, text: str, margin: float, metrics: Sequence[str]) -> Verdict:
    """The student against its teacher."""
    return beats(section, (STUDENT,), (TEACHER,), metrics, margin=margin)


def more_bands(section: Section, text: str) -> Verdict:
    """Six against four MSI bands, every method that takes them."""
    found = []
    for split in section.facts.splits if {4, 6} <= set(section.facts.msi_bands) else ():
        for method in section.facts.methods:
            for key, sign in zip(MAIN[:2], (1, -1)):
                six, four = (scored(section, method, CLEAN, bands, split.name, key) for bands in (6, 4))
                gain = sign * paired(six, four)
                if len(gain) and gain.abs().max() > 0:  # a method of one image has no gain at all
                    found.append(difference(f"{method} better with 6 bands by {key.split('_')[0].upper()} ({split.name})",
                                            gain, key.split("_")[1], split.name, least_effect(key, four)))
    return judged(found)


def beats_larger(section: Section, text: str) -> Verdict:
    """The student against trained methods with more parameters."""
    size = _parameters(section, (STUDENT, *supervised(section, OWN)))
    larger = [name for name, value in size.items() if value > size.get(STUDENT, math.inf)]
    return beats(section, (STUDENT,), larger, required=[name for name in TRAINED_PEERS if name != "dual-unet"])


def deeper_is_better(section: Section, text: str, large: str, base: str, metrics: Sequence[str]) -> Verdict:
    """A large network against the base one."""
    return beats(section, (large,), (base,), metrics)


def variant_is_best(section: Section, text: str, key: str, value: object, metrics: Sequence[str], noisy: bool = False,
                    against: Sequence[object] = (), base: str = STUDENT) -> Verdict:
    """A network with one value of a build argument, or one recipe, against those with others."""
    found = variants(section, base, key)
    others = [label for other, label in found.items() if other != value and (not against or other in against)]
    if value not in found or not others:
        return Verdict(None, why=f"needs variants of {base} by '{key}' in one study: {base}@{key}=...")
    levels = _levels(section) if noisy else [CLEAN]
    if not levels:
        return Verdict(None, why="no noise in this study")
    return beats(section, (found[value],), others, metrics, levels, arms=True)


def variant_is_worst(section: Section, text: str, key: str, value: object, metrics: Sequence[str],
                     among: Sequence[object]) -> Verdict:
    """The student with each other of some values against that with one."""
    found = variants(section, STUDENT, key)
    if not set(among) <= found.keys():
        return Verdict(None, why=f"needs variants of {STUDENT} by '{key}' in one study: {STUDENT}@{key}=...")
    return beats(section, [found[other] for other in among if other != value], (found[value],), metrics,
                 arms=True)


def finer_than_bicubic(section: Section, text: str) -> Verdict:
    """SSPSR against bicubic."""
    return judged(ahead(section, "sspsr", "bicubic"))


# --------------------------------------------------------------------------------------------------------------- noise


def _levels(section: Section, targets: Sequence[str] = ("lr_hsi", "both")) -> list[Scenario]:
    return [each for each in section.facts.scenarios if each.name == "noise" and each.noise_target in targets]


def best_under_noise(section: Section, text: str, own: str = STUDENT) -> Verdict:
    """A method against every other trained one, at each noise level on both images."""
    levels = _levels(section, ("both",))
    if not levels:
        return Verdict(None, why="this study has no noise on both images")
    return beats(section, (own,), supervised(section, (own, *OWN)), MAIN[:2], levels, required=TRAINED_PEERS)


def all_fall(section: Section, text: str) -> Verdict:
    """PSNR lost at every step from clean to the strongest noise, every method."""
    found = []
    for target in ("lr_hsi", "both"):
        levels = _levels_of(section, target)
        for split, bands in places(section):
            for method in section.facts.methods:
                aside = _silent_under(section, (method,), target, bands, split)
                for less, more in pairwise(levels):
                    before, after = (scored(section, method, each, bands, split, "psnr_db") for each in (less, more))
                    lost = paired(before, after)
                    if len(lost):
                        found.append(difference(f"{method} loses down to {more.noise_target} {more.snr_db:g} dB ({split}, "
                                                f"{bands} bands)", lost, "dB", split, LEAST_EFFECT_DB, aside))
    return judged(found)


def _levels_of(section: Section, target: str) -> list[Scenario]:
    """From clean, where it is asked for, to the strongest noise on these images."""
    clean = [each for each in section.facts.scenarios if each == CLEAN]
    return [*clean, *sorted(_levels(section, (target,)), key=lambda each: -each.snr_db)]


def _silent_under(section: Section, methods: Sequence[str], target: str, bands: int, split: str) -> tuple[str, str] | None:
    """As :func:`~benchmark.page.verdicts.silent`; also one that noise on these images leaves as it is: it does not see them."""
    levels = _levels_of(section, target)
    for method in methods if len(levels) > 1 else ():
        clean, noisy = (scored(section, method, each, bands, split, "psnr_db") for each in (levels[0], levels[-1]))
        if (clean - noisy).abs().max() < UNMOVED_DB:
            return method, f"unmoved by noise on {target}"
    return silent(section, methods, bands, split)


def falls_by(section: Section, least: str, most: str, targets: Sequence[str]) -> list[Difference]:
    """By how much more of its PSNR ``most`` loses from clean to the strongest noise than ``least``."""
    found = []
    for target in targets:
        for split, bands in places(section) if _levels(section, (target,)) else ():
            strongest = _levels_of(section, target)[-1]
            lost = [scored(section, method, CLEAN, bands, split, "psnr_db")
                    - scored(section, method, strongest, bands, split, "psnr_db") for method in (most, least)]
            values = paired(lost[0].dropna(), lost[1].dropna())
            if len(values):
                found.append(difference(f"{most} loses more than {least} at {target} {strongest.snr_db:g} dB ({split}, "
                                        f"{bands} bands) by", values, "dB", split, LEAST_EFFECT_DB,
                                        _silent_under(section, (most, least), target, bands, split)))
    return found


def collapses(section: Section, text: str) -> Verdict:
    """Dual-UNet's fall against that of the other trained methods."""
    found = judged([one for other in supervised(section, ("dual-unet",))
                    for one in falls_by(section, other, "dual-unet", ("both",))])
    return found if has(section, "dual-unet") else Verdict(None, why="this study has no rows of dual-unet")


def resilient(section: Section, text: str) -> Verdict:
    """The student's fall against that of the other trained methods, noise on the LR-HSI and on both."""
    others = supervised(section, OWN)
    if not has(section, STUDENT) or not others:
        return Verdict(None, why="this study has no other trained method to set the student's fall against")
    return judged([one for other in others for one in falls_by(section, STUDENT, other, ("lr_hsi", "both"))])


def cheap_and_weak(section: Section, text: str) -> Verdict:
    """Dual-UNet: least parameters and multiply-adds of Table I's trained methods, and its fall under noise."""
    rows = section.rows.fidelity
    rows = rows[rows["method"].isin((*TRAINED_PEERS, *OWN))].set_index("method") if len(rows) else rows
    if absent := [name for name in (*TRAINED_PEERS, *OWN) if name not in rows.index]:
        return Verdict(None, why=f"'{absent[0]}' is not counted: python run_benchmark.py fidelity")
    words = (f"{rows.loc['dual-unet', 'parameters_used'] / 1e6:.2f} M parameters, "
             f"{rows.loc['dual-unet', 'macs_conv'] / 1e9:.1f} G multiply-adds, least of {len(rows)}: ")
    cheap = [rows[key].idxmin() == "dual-unet" for key in ("parameters_used", "macs_conv")]
    words += " and ".join("yes" if each else "no" for each in cheap)
    weak = collapses(section, text)
    return Verdict(weak.holds if all(cheap) else False, f"{words}; {weak.measured}".rstrip("; "), weak.why if all(cheap)
                   else "it is not the cheapest")


# --------------------------------------------------------------------------------------------------------------- costs


def _costs(section: Section, methods: Sequence[str], key: str) -> dict[str, dict[str, float]]:
    """Machine -> method -> a figure of the cost rows with the first MSI band count that has them."""
    found: dict[str, dict[str, float]] = {}
    for (_, method), rows in sorted(section.costs.items(), key=lambda item: item[0][0]):
        for row in rows[rows["status"] == "ok"].to_dict("records") if method in methods else ():
            if not math.isnan(row[key]):
                found.setdefault(str(row["device"]), {}).setdefault(method, float(row[key]))
    return found


def _parameters(section: Section, methods: Sequence[str]) -> dict[str, float]:
    """Method -> parameters that take part; counts do not depend on the machine."""
    found: dict[str, float] = {}
    for own in _costs(section, methods, "parameters_used").values():
        found |= own
    return found


def memory_falls(section: Section, text: str) -> Verdict:
    """Peak memory of teacher and student on one machine, beside their counts."""
    counts = of_teacher(section, text)
    shares = {device: own[STUDENT] / own[TEACHER] for device, own in
              _costs(section, (TEACHER, STUDENT), "peak_memory_mb").items() if len(own) == 2}
    words = [f"{share:.3f} of the memory on {device}" for device, share in sorted(shares.items())]
    if not shares or counts.holds is False:
        return Verdict(counts.holds and None, counts.measured, "no cost rows of both on one machine in this study")
    return Verdict(max(shares.values()) < 0.5, "; ".join([counts.measured, *words]), "taken as: each falls to less than half")


def fastest(section: Section, text: str) -> Verdict:
    """The student's time against that of every trained method of the release's table on the same machine."""
    seconds = _costs(section, PRINTED, "seconds_median")
    machines = {device: own for device, own in seconds.items() if STUDENT in own and set(own) - set(OWN)}
    if not machines:
        return Verdict(None, why="no times of the student and another trained method on one machine in this study")
    words, first = [], []
    for device, own in sorted(machines.items()):
        order = sorted(own, key=own.__getitem__)
        first.append(order[0] == STUDENT)
        words.append(f"{device}: {own[STUDENT]:.3g} s, rank {order.index(STUDENT) + 1} of {len(order)}, the fastest "
                     f"{order[0]} with {own[order[0]]:.3g} s")
    holds = all(first)
    absent = [name for name in PRINTED if any(name not in own for own in machines.values())]
    if holds and absent:
        return Verdict(None, "; ".join(words), f"so far it holds; no times of {', '.join(absent)}")
    return Verdict(holds, "; ".join(words), "of the release's table; medians after a warm-up, quality apart")


def images_a_second(section: Section, text: str) -> Verdict:
    """The student's times, without a rate to set them against."""
    seconds = {device: own[STUDENT] for device, own in _costs(section, (STUDENT,), "seconds_median").items()}
    return Verdict(None, "; ".join(f"{value:.3g} s an image on {device}" for device, value in sorted(seconds.items())),
                   "no frame rate is defined")


def four_costs(section: Section, text: str) -> Verdict:
    """The student in parameters, operations, time and memory at once, among all networks of the release's table.

    Counts are of all of them. Of the two that need rows the rank is known where all have one, or where whoever lacks cannot
    move it to the other half.
    """
    counts = rank_of(section, STUDENT)
    if not counts:
        return Verdict(None, why=f"'{STUDENT}' or another network of the release's table is not counted: "
                                 "python run_benchmark.py fidelity")
    words, halves, lacking = [counts[1]], [max(counts[0]) <= counts[2] / 2], dict[str, None]()
    for key, name in (("seconds_median", "time"), ("peak_memory_mb", "memory")):
        machines = [(device, own) for device, own in sorted(_costs(section, PRINTED, key).items()) if STUDENT in own]
        device, own = max(machines, key=lambda each: len(each[1]), default=("", {}))  # where most were measured
        absent = [each for each in PRINTED if each not in own]
        if STUDENT in own:
            rank = 1 + sum(value < own[STUDENT] for value in own.values())
            words.append(f"{name} rank {rank} of {len(own)} ({device})")
            if rank > len(PRINTED) / 2 or rank + len(absent) <= len(PRINTED) / 2:
                halves.append(rank <= len(PRINTED) / 2)
                continue
        lacking |= dict.fromkeys(absent)
    if all(halves) and lacking:
        return Verdict(None, "; ".join(words), f"{HALF}; no time or memory on one machine of {', '.join(lacking)}")
    return Verdict(all(halves), "; ".join(words), HALF)


def heavy(section: Section, text: str) -> Verdict:
    """PZRes-Net and DHIF-Net against the other trained methods of Table I, parameters and memory."""
    heavy_ones, light = ("pzres-net", "dhif-net"), ("mssjfl", "dual-unet")
    words, more = [], []
    for key in ("parameters_used", "peak_memory_mb"):
        for device, own in sorted(_costs(section, (*heavy_ones, *light), key).items()):
            if len(own) == 4:
                more.append(min(own[name] for name in heavy_ones) > max(own[name] for name in light))
                words.append(f"{key.split('_')[0]}: " + ", ".join(f"{name} {own[name]:.4g}" for name in (*heavy_ones, *light))
                             + f" ({device})")
    if not words:
        return Verdict(None, why="this study has no cost rows of all four trained peers of Table I")
    return Verdict(all(more), "; ".join(words), "both above the other two in both" if all(more) else "one is not")


def slow_by_image(section: Section, text: str) -> Verdict:
    """Seconds an image of the methods that are optimised for each, and their parameters against the student's."""
    size = _parameters(section, BY_IMAGE)
    found = [difference(f"{name} over {REAL_TIME_SECONDS:g} s an image ({split}, {bands} bands) by", list(values), "s", split)
             for name in size for split, bands in places(section)
             if len(values := by_image(section, name, CLEAN, bands, split, "seconds") - REAL_TIME_SECONDS)]
    slow = judged(found)
    if len(size) < len(BY_IMAGE):
        return Verdict(None, slow.measured, f"needs score and cost rows of {', '.join(BY_IMAGE)} in one study")
    few = all(value < counted(STUDENT).parameters for value in size.values())
    words = ", ".join(f"{name} {value / 1e6:.3g} M parameters" for name, value in size.items())
    return Verdict(slow.holds and few, f"{slow.measured}; {words}", f"{slow.why}; operations of a pass are not set against")
