"""Which method to take: the best of each kind, with six MSI bands, and what real defects take from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmark.degradations import Stripes, degraded
from benchmark.page.axes import axes_of
from benchmark.page.cells import decibels
from benchmark.page.defects import farthest
from benchmark.page.findings.parts import (
    ON,
    OTHER,
    SAME,
    WORDS,
    Held,
    Part,
    Table,
    correlation,
    markdown,
    of_group,
    psnr,
    ranked,
    signed,
    value,
)
from benchmark.page.section import Section
from benchmark.protocol import CLEAN, Scenario, noise, shifted, told_psf
from benchmark.studies import study

QUICK = 1.0  # seconds an image of the size that costs are measured at
GROUPS = (("known", "told the responses"), ("blind", "told nothing"), ("per image", "optimised for each image"),
          ("trained", "trained here"), ("shipped", "comes trained"))
FLOORS = ("bicubic", "ssif", "gsa")  # what needs no response, what sees no LR-HSI, and what everybody has
SHOWN = ("gsa", "hysure", "hysure-blind", "subspace-ridge", "subspace-ridge-blind", "subspace-net@weights=shipped", "mimo-sst")


def which(held: Held) -> Part:
    """Which method to take for which case."""
    section = held("aviris").splits[OTHER]
    free, blind = of_group(section, "known", "blind"), of_group(section, "blind")
    told = [*free, *(method for method in section.facts.methods if method.startswith("subspace-net@weights"))]
    costs = section.rows.costs
    quick = set(costs[costs["seconds_median"] < QUICK]["method"]) if len(costs) else set()
    side = int(costs["hr_size"].max()) if len(costs) else 0
    cases: tuple[tuple[str, Sequence[str], Scenario], ...] = (
        ("responses known, clean images", told, CLEAN), ("responses unknown, clean images", blind, CLEAN),
        ("responses known, LR-HSI noise 25 dB", told, noise("lr_hsi", 25)),
        ("responses unknown, LR-HSI noise 25 dB", blind, noise("lr_hsi", 25)),
        ("responses known, noise of 25 dB on both", told, noise("both", 25)),
        ("responses unknown, noise of 25 dB on both", blind, noise("both", 25)),
        ("a pixel of misregistration", told, shifted(1)), ("two pixels of misregistration", told, shifted(2)),
        ("a wrong PSF is told", told, told_psf(2.0)), ("stripes of 2 %", told, degraded(Stripes(0.02))),
        (f"under {QUICK:g} s an image of {side}x{side} pixels on one core", [name for name in free if name in quick], CLEAN),
        ("a network trained minutes on another flight", of_group(section, "trained"), CLEAN))
    lines: Table = [["case", "take", "PSNR other flights", "next", "PSNR"]]
    taken: dict[str, int] = {}
    for words, methods, scenario in cases:
        best = ranked(section, methods, scenario)[:2]
        if best:
            top = [text for method in best for text in (f"`{method}`", decibels(psnr(section, method, scenario)))]
            lines.append([words, *top, *[""] * (4 - len(top))])
            taken[best[0]] = taken.get(best[0], 0) + 1
    images = len(section.split.images) if section.split else 0
    often = sorted(taken, key=lambda method: -taken[method])
    return Part(
        "Which method to take",
        f"Of {len(lines) - 1} cases on other flights {', '.join(f'`{method}` leads {taken[method]}' for method in often)}.",
        (markdown(lines),
         "Of the training-free methods (and `subspace-net` as shipped, where responses are known) by mean PSNR on "
         f"{images} images of other flights; the order on your scenes may differ: `fuse` tries several in one command."))


def leaders(held: Held, count: int = 3) -> Table:
    """The best of each kind by PSNR on other flights."""
    splits = held("aviris").splits
    here = splits[OTHER]
    columns = (("clean", CLEAN), ("LR-HSI 35 dB", noise("lr_hsi", 35)), ("both 25 dB", noise("both", 25)))
    lines: Table = [["method", "", "same flight", *(f"other flights, {words}" for words, _ in columns), "SAM other (deg)"]]
    for kind, words in GROUPS:
        for method in ranked(here, of_group(here, kind))[:count]:
            figures = [*(psnr(here, method, scenario) for _, scenario in columns), value(here, method, CLEAN, "sam_deg")]
            lines.append([f"`{method}`", words, decibels(psnr(splits[SAME], method)), *map(decibels, figures)])
    return lines


def leading(held: Held) -> Part:
    """The best of each kind, and how many networks pass bicubic and the floors."""
    splits = held("aviris").splits
    here = splits[OTHER]
    best = [f"{words}: `{name}` {decibels(psnr(here, name))} dB" for kind, words in GROUPS
            for name in ranked(here, of_group(here, kind))[:1]]
    return Part(
        "Who leads",
        f"On other flights, {'; '.join(best)}.",
        (markdown(leaders(held)), counted(splits),
         "![PSNR against the SNR of both images, other flights]"
         "(aviris/figures/aviris-test-other-flight-noise-both-psnr-msi4.png)"))


def counted(splits: dict[str, Section]) -> str:
    """How many networks pass the training-free ones that everybody has, and the one that sees no LR-HSI."""
    here = splits[OTHER]
    asked = of_group(here, "trained")
    networks = ranked(here, asked)
    floors = ranked(here, (name for name in FLOORS if name in here.facts.methods))
    passed = "; ".join(
        f"above {name} ({decibels(psnr(splits[SAME], name))} / {decibels(psnr(here, name))} dB): " + ", ".join(
            f"{sum(psnr(splits[split], each) > psnr(splits[split], name) for each in networks if each != name)} {where}"
            for split, where in ON.items())
        for name in FLOORS if name in floors)
    return f"Of {len(networks)} trained networks{f', {len(asked)} asked for' if len(asked) > len(networks) else ''}, {passed}."


def six_bands(held: Held) -> Part:
    """The same with 6 MSI bands, and whether the order of methods is the same."""
    lines: Table = [["method", "", "minutes", *(f"{name}, {words}" for name in WORDS.values()
                                                for words in ("6 bands", "4 bands"))]]
    said, counts = [], []
    for name, beside in (("six-bands", "aviris"), ("six-bands-short", "aviris-short")):
        six, four = held(name).splits, held(beside).splits
        minutes = f"{study(name).training['minutes']:g}"
        for kind, words in GROUPS if name == "six-bands" else (("trained", "trained here"),):
            for method in ranked(six[OTHER], of_group(six[OTHER], kind))[:2]:
                lines.append([f"`{method}`", words, minutes if kind == "trained" else "",
                              *(decibels(psnr(splits[split], method)) for split in WORDS for splits in (six, four))])
        pairs = {split: [pair for method in six[split].facts.methods
                         if all(map(math.isfinite, pair := (psnr(six[split], method), psnr(four[split], method))))]
                 for split in WORDS}
        if min(map(len, pairs.values())) < 2:
            continue
        alike = ", ".join(f"{correlation(*zip(*pairs[split])):.2f} {where}" for split, where in ON.items())
        better = ", ".join(f"{sum(more > fewer for more, fewer in pairs[split])} {where}" for split, where in ON.items())
        said.append(f"with {minutes} minutes a network the order of {len(pairs[OTHER])} methods is that with 4 bands by a "
                    f"Spearman's rho of {alike}, and better with 6 are {better}")
        counts.append(f"With {minutes} minutes: {counted(six)} [Study {name}]({name}/index.html).")
    if not said:
        return Part("Six MSI bands")
    answer = "; ".join(said)
    return Part("Six MSI bands", f"{answer[0].upper()}{answer[1:]}.", (markdown(lines), "\n".join(counts)))


def defects(held: Held) -> Part:
    """What goes wrong first."""
    section = held("degradations").splits[OTHER]
    shown = [method for method in SHOWN if method in section.facts.methods]
    found = []
    for axis in axes_of(section.facts.scenarios).values():
        level = farthest(axis)
        changes = [psnr(section, method, level.scenario) - psnr(section, method) for method in shown]
        finite = [change for change in changes if math.isfinite(change)]
        if finite:
            found.append((sum(finite) / len(finite), f"{axis.name} {level.words}", changes))
    if not found:
        return Part("What goes wrong first")
    found.sort(key=lambda each: each[0])
    lines: Table = [["defect", "mean", *(f"`{method}`" for method in shown)]]
    lines += [[words, signed(mean), *map(signed, changes)] for mean, words, changes in found]
    return Part(
        "What goes wrong first",
        f"Dearest: {', '.join(f'{words} {signed(mean)} dB' for mean, words, _ in found[:3])}, in the mean of {len(shown)} "
        "methods.",
        ("Change of PSNR (dB) from clean images on other flights, dearest first "
         "([study degradations](degradations/index.html)):", markdown(lines)))
