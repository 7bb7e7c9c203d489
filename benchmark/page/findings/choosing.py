"""Which method to take: the best of each kind, with six MSI bands, and what real defects take from them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Sequence

import pandas as pd

from benchmark.degradations import Stripes, degraded
from benchmark.page.axes import axes_of
from benchmark.page.cells import decibels
from benchmark.page.defects import farthest, level_words
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
from benchmark.page.statistics import of_images
from benchmark.protocol import CLEAN, Scenario, noise, shifted, told_psf
from benchmark.studies import study
from methods import card

FEWEST = 3  # networks, for an order of methods to be told
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
        (f"under {QUICK:g} s an image of {side}x{side} pixels on one core", [name for name in told if name in quick], CLEAN),
        ("a network trained minutes on another flight", of_group(section, "trained"), CLEAN))
    lines: Table = [["case", "take", "PSNR other flights", "next", "PSNR"]]
    taken: dict[str, int] = {}
    for words, methods, scenario in cases:
        best = ranked(section, methods, scenario)[:2]
        if best:
            top = [text for method in best for text in (f"`{method}`", decibels(psnr(section, method, scenario)))]
            lines.append([words, *top, *[""] * (4 - len(top))])
            taken[best[0]] = taken.get(best[0], 0) + 1
    often = sorted(taken, key=lambda method: -taken[method])
    return Part(
        "Which method to take",
        f"Of {len(lines) - 1} cases on other flights {', '.join(f'`{method}` leads {taken[method]}' for method in often)}.",
        (markdown(lines),
         "Of the training-free methods (and `subspace-net` as shipped, where responses are known) by mean PSNR on "
         f"{_count(section)} images of other flights; the order on your scenes may differ: `fuse` tries several in one "
         "command. Of networks, `s3rnet-subspace` is told the responses and corrects `subspace-ridge`; `mimo-sst` maps bands "
         "to bands and is told nothing. Every PSF here is a Gaussian, which the PSFs that `subspace-ridge-blind` tries hold; "
         "on the one [measured pair](estimators/index.html), whose PSF nobody knows, another estimator is ahead."))


def leaders(held: Held, count: int = 3) -> Table:
    """The best of each kind by the mean PSNR on other flights; of these, image by image as well."""
    splits = held("aviris").splits
    here = splits[OTHER]
    noisy = (("LR-HSI 35 dB", noise("lr_hsi", 35)), ("both 25 dB", noise("both", 25)))
    images = here.split.images if here.split else ()
    lines: Table = [["method", "", "same flight", "other flights", *(f"`{image}`" for image in images),
                     *(f"other flights, {words}" for words, _ in noisy), "SAM other (deg)"]]
    for kind, words in GROUPS:
        for method in ranked(here, of_group(here, kind))[:count]:
            takes = inspect.signature(card(method).build).parameters
            told = f", told the {'responses' if 'psf' in takes else 'SRF'}" if here.facts.told.get(method) == "known" else ""
            alone = of_images(here, CLEAN, here.facts.msi_bands[0], method, "psnr_db")
            lines.append([f"`{method}`", words + (told if kind not in ("known", "blind") else ""),
                          *(decibels(psnr(section, method)) for section in (splits[SAME], here)),
                          *(decibels(alone.get(image, math.nan)) for image in images),
                          *(decibels(psnr(here, method, scenario)) for _, scenario in noisy),
                          decibels(value(here, method, CLEAN, "sam_deg"))])
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
        (markdown(leaders(held)), f"Images: same flight {_count(splits[SAME])}, other flights {_count(here)}. "
         f"{here.split.words if here.split else ''} A mean of so few images hides how they differ: they stand beside it.",
         counted(splits),
         "![PSNR against the SNR of both images, other flights]"
         "(aviris/figures/aviris-test-other-flight-noise-both-psnr-msi4.png)"))


def _count(section: Section) -> int:
    return len(section.split.images) if section.split else 0


def counted(splits: dict[str, Section], but: Collection[str] = ()) -> str:
    """How many networks pass the training-free ones that everybody has, and the one that sees no LR-HSI."""
    here = splits[OTHER]
    bands = here.facts.msi_bands[0]
    asked = [method for method in of_group(here, "trained") if method not in but]
    networks = ranked(here, asked)
    said = []
    for name in ranked(here, (name for name in FLOORS if name in here.facts.methods)):
        above = [f"{sum(psnr(splits[split], each) > psnr(splits[split], name) for each in networks if each != name)} {where}"
                 for split, where in ON.items()]
        alone = {each: of_images(here, CLEAN, bands, each, "psnr_db") for each in (name, *networks)}
        images = ", ".join(f"`{image}` {sum(alone[each].get(image, math.nan) > score for each in networks if each != name)}"
                           for image, score in alone[name].items())
        said.append(f"above {name} ({decibels(psnr(splits[SAME], name))} / {decibels(psnr(here, name))} dB): "
                    f"{', '.join(above)} in the mean ({images})")
    constant = [f"`{name}`" for name in here.facts.methods if name in here.facts.constant or name in but]
    aside = f" Not counted, since their output is constant: {', '.join(constant)}." if constant else ""
    return (f"Of {len(networks)} trained networks{f', {len(asked)} asked for' if len(asked) > len(networks) else ''}, "
            f"{'; '.join(said)}.{aside}")


def six_bands(held: Held) -> Part:
    """The same with 6 MSI bands, and whether the order of methods is the same."""
    lines: Table = [["method", "", "minutes", *(f"{name}, {words}" for name in WORDS.values()
                                                for words in ("6 bands", "4 bands")), "steps, 6 bands", "4 bands"]]
    said, counts = [], []
    for name, beside in (("six-bands", "aviris"), ("six-bands-short", "aviris-short")):
        more, fewer = held(name), held(beside)
        six, four = more.splits, fewer.splits
        minutes, longest = f"{study(name).training['minutes']:g}", name == "six-bands"
        made = [steps_made(each.whole) for each in (more, fewer)]
        for kind, words in GROUPS if longest else (("trained", "trained here"),):
            chosen = ranked(six[OTHER], of_group(six[OTHER], kind))
            for method in chosen if kind == "trained" and longest else chosen[:2]:
                lines.append([f"`{method}`", words, minutes if kind == "trained" else "",
                              *(decibels(psnr(splits[split], method)) for split in WORDS for splits in (six, four)),
                              *(f"{steps[method]:,}" if method in steps else "" for steps in made)])
        constant = {*six[OTHER].facts.constant, *four[OTHER].facts.constant}  # scenarios that show it may lack in one of them
        pairs = {split: [pair for method in six[split].facts.methods if method not in constant
                         and all(map(math.isfinite, pair := (psnr(six[split], method), psnr(four[split], method))))]
                 for split in WORDS}
        if len(ranked(six[OTHER], of_group(six[OTHER], "trained"))) < FEWEST:
            continue  # an order without networks is that of any study
        alike = ", ".join(f"{correlation(*zip(*pairs[split])):.2f} {where}" for split, where in ON.items())
        better = ", ".join(f"{sum(one > other for one, other in pairs[split])} {where}" for split, where in ON.items())
        said.append(f"with {minutes} minutes a network the orders of {len(pairs[OTHER])} methods with 4 and with 6 bands "
                    f"correlate by Spearman's rho of {alike}; better with 6 are {better}")
        shares = {method: made[0][method] / made[1][method] for method in made[0] if method in made[1]}
        trained = [each.processors() for each in (more, fewer)]
        elsewhere = sum(trained[0].get(method) != trained[1].get(method) for method in shares)
        least, most = min(shares.values()), max(shares.values())
        where = f" ({elsewhere} of {len(shares)} networks were trained on another processor)" if elsewhere else ""
        counts.append(f"With {minutes} minutes: {counted(six, constant)} Steps made with 6 bands are {least:.2f} to "
                      f"{most:.2f} of those with 4{where}. [Study {name}]({name}/index.html).")
    if not said:
        return Part("Six MSI bands")
    answer = "; ".join(said)
    return Part("Six MSI bands", f"{answer[0].upper()}{answer[1:]}.", (markdown(lines), "\n".join(counts)))


def steps_made(section: Section) -> dict[str, int]:
    """Method -> steps of its training, of seeds the first."""
    curves = section.rows.curves
    return {str(method): int(each[each["seed"] == each["seed"].min()]["step"].max())
            for method, each in curves.groupby("method", sort=False)} if len(curves) else {}


def defects(held: Held) -> Part:
    """What goes wrong first."""
    section = held("degradations").splits[OTHER]
    shown = [method for method in SHOWN if method in section.facts.methods]
    families = {method: method.split("-")[0] for method in shown}  # each counts once in a mean
    found = []
    for axis in axes_of(section.facts.scenarios).values():
        level = farthest(axis)
        scores = [psnr(section, method, level.scenario) for method in shown]
        changes = pd.Series([score - psnr(section, method) for method, score in zip(shown, scores)], shown)
        if changes.notna().any():
            mean = float(changes.groupby(families).mean().mean())
            words = level_words(axis, level) + ("" if axis.unit else f" ({axis.label})")
            found.append((mean, words, [f"{decibels(score)} ({signed(change)})" for score, change in zip(scores, changes)]))
    if not found:
        return Part("What goes wrong first")
    found.sort(key=lambda each: each[0])
    lines: Table = [["defect", "mean change", *(f"`{method}`" for method in shown)],
                    ["none", "", *(decibels(psnr(section, method)) for method in shown)]]
    lines += [[words, signed(mean), *cells] for mean, words, cells in found]
    return Part(
        "What goes wrong first",
        f"Dearest, each at the most that was tried: {', '.join(f'{words} {signed(mean)} dB' for mean, words, _ in found[:3])}, "
        f"in the mean of {len(set(families.values()))} families of methods.",
        ("PSNR (dB) on other flights, and its change from clean images, dearest first; the mean is over families, each once. "
         "Amounts of different defects are not alike, so that their order is that of what was tried "
         "([study degradations](degradations/index.html)):", markdown(lines)))
