"""Flags that describe a study: how a command line replaces what a profile says.

add_flags(command)            # --profile, --methods, --msi-sensor, --steps, ...
chosen = study_of(args)       # the profile with what they replace, under a name of its own
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import datasets
from benchmark import keys
from benchmark.degradations import DEGRADATIONS, degraded
from benchmark.plan import BUDGET, PlanError, Study, View
from benchmark.protocol import CLEAN, PROTOCOLS, Protocol, Scenario
from benchmark.sensors import BOXES, FED, SENSORS, bands_of, given, is_sensor, response, shares
from benchmark.studies import STUDIES, study
from datasets import SceneError
from datasets.aviris_bands import KEPT_172, centers_nm
from methods.registry import near
from methods.speed import SPEEDS, reduced_precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DEFAULT = "quick"  # the study of a command line that names none
REPLACED = tuple(flag for flag in BUDGET if flag != "epochs")  # fields of every recipe that have a flag


def add_flags(command: argparse.ArgumentParser) -> None:
    """The flags of every command on a study, but for where its files lie."""
    add = command.add_argument
    add("--profile", metavar="STUDY", help=f"study to start from: {', '.join(STUDIES)} (default: {DEFAULT})")
    add("--study", metavar="NAME", help="name of the report, if not the profile's; a study's own name starts from that study")
    add("--methods", nargs="+", metavar="METHOD", help="instead of the profile's")
    add("--msi-bands", nargs="+", type=int, metavar="N", help="MSI band counts, such as 4 6")
    add("--dataset", metavar="NAME", help=f"one of {', '.join(datasets.names())}")
    add("--data-option", nargs="+", default=[], metavar="KEY=VALUE", help="arguments of the dataset, such as root=FOLDER")
    add("--splits", nargs="+", metavar="SPLIT", help="held-out splits")
    add("--protocol", metavar="NAME", help=f"one of {', '.join(PROTOCOLS)}")
    add("--hr-size", type=int, metavar="PIXELS", help="largest HR side")
    add("--msi-sensor", nargs="+", metavar="NAME",
        help=f"that the HR-MSI is seen by, several side by side: {', '.join(SENSORS)}")
    add("--srf", metavar="FILE.csv|from:FILE.npz", help="responses of your own: wavelength_nm,BAND,... or low,high")
    add("--psf", metavar="FILE|gaussian:SIGMA|from:FILE.npz",
        help="PSF in HR pixels: a square of numbers, a Gaussian, or what `estimate` wrote")
    add("--ratio", nargs="+", type=int, metavar="N",
        help="HR pixels per LR pixel along a side, 2 or more, several side by side; the PSF stays")
    add("--phase", type=int, metavar="N", help="0-based row and column of the first HR sample that decimation keeps")
    add("--all-bands", action="store_true", help="take every band of the scenes, not the 172 of AVIRIS")
    add("--seeds", nargs="+", type=int, metavar="SEED", help="of training")
    add("--recipe", default="", metavar="NAME", help="recipe on the methods' cards, such as paper or release")
    add_budget(command)
    add("--degrade", nargs="+", metavar="NAME=AMOUNT", default=(),
        help=f"scenarios in place of the profile's, beside the clean one: {', '.join(DEGRADATIONS)}")
    add("--lr-size", type=int, metavar="PIXELS", help="LR side at which costs are measured")
    add("--speed", choices=SPEEDS, help="of fusing: exact, or in reduced precision (default: exact)")


def add_budget(command: argparse.ArgumentParser) -> None:
    """The flags that say how networks are trained and on what."""
    add = command.add_argument
    for flag in REPLACED:
        add(f"--{flag.replace('_', '-')}", type=float if flag in ("minutes", "lr") else int, metavar="X",
            help=f"replace '{flag}' of every recipe")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto takes a GPU if there is one")
    add("--precision", choices=("32-true", "bf16-mixed", "16-mixed"), help="of training; 16-mixed needs a GPU")
    add("--recompute", action="store_true", help="train with activations computed anew in the backward pass: less memory")


def budget_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags of :func:`add_budget` replace in every recipe."""
    budget: dict[str, Any] = {flag: getattr(args, flag) for flag in REPLACED if getattr(args, flag) is not None}
    return budget | ({"recompute": True} if args.recompute else {})


def study_of(args: argparse.Namespace) -> Study:
    """The profile, with what the flags replace; one that differs from its profile has a name of its own.

    Raises:
        PlanError: an unknown study, or words that make none.
    """
    profile, name = begun_from(args)
    protocol = profile.protocol
    if args.protocol and args.protocol not in PROTOCOLS:
        raise PlanError(f"unknown protocol '{args.protocol}'; choices: {', '.join(PROTOCOLS)}")
    if args.protocol:
        protocol = replace(PROTOCOLS[args.protocol], hr_size=protocol.hr_size)
    if any(not option.partition("=")[1] for option in args.data_option):
        raise PlanError(f"--data-option {' '.join(args.data_option)}: give KEY=VALUE, such as root=FOLDER")
    options = {key: value for key, _, value in (option.partition("=") for option in args.data_option)}
    same_data = args.dataset in (None, profile.dataset)
    if not same_data and protocol.bands == "aviris-172":
        protocol = replace(protocol, bands="auto")
    if args.all_bands:
        protocol = replace(protocol, bands="all")
    protocol = observed(protocol, args)
    if args.hr_size is not None:
        least = max(args.ratio or [protocol.ratio])
        if args.hr_size < least:
            raise PlanError(f"--hr-size {args.hr_size}: an HR image has {least} pixels a side at least, one LR pixel")
        protocol = replace(protocol, hr_size=args.hr_size)
    budget = budget_of(args)
    replaced = budget.keys() | ({"steps", "minutes"} if budget.keys() & {"steps", "minutes"} else set())
    training = {key: value for key, value in profile.training.items() if key not in replaced}
    chosen = replace(
        profile, protocol=protocol, methods=tuple(args.methods or profile.methods),
        msi_bands=tuple(args.msi_bands or profile.msi_bands), dataset=args.dataset or profile.dataset,
        dataset_options=(dict(profile.dataset_options) if same_data else {}) | options,
        splits=tuple(args.splits or (profile.splits if same_data else ("test",))), seeds=tuple(args.seeds or profile.seeds),
        recipe=args.recipe, training=training | budget,
        exceptions={name: {key: value for key, value in own.items() if key not in replaced}
                    for name, own in profile.exceptions.items()},
        cost_lr_size=profile.cost_lr_size if args.lr_size is None else args.lr_size,
        precision=args.precision or profile.precision, speed=args.speed or profile.speed,
        scenarios=(CLEAN, *map(degraded_by, args.degrade)) if args.degrade else profile.scenarios,
        fewer_scenarios={} if args.degrade else profile.fewer_scenarios,
        sensors=profile.sensors if same_data and not (args.msi_sensor or args.srf) else {},
    )
    if max(len(args.msi_sensor or ()), len(args.ratio or ())) > 1:
        chosen = side_by_side(chosen, args.msi_sensor or (), args.ratio or (protocol.ratio,), bool(args.msi_bands))
    elif (args.msi_sensor or args.srf) and not args.msi_bands:
        chosen = fed(chosen)
    boxes = BOXES.get(chosen.protocol.srf, {}) if isinstance(chosen.protocol.srf, str) else {}
    if boxes and args.msi_bands and not (chosen.sensors or chosen.views) and (other := set(chosen.msi_bands) - set(boxes)):
        raise PlanError(f"--msi-bands {' '.join(map(str, sorted(other)))}: the MSI sensor {chosen.protocol.srf} has "
                        f"{' or '.join(map(str, boxes))} bands here; choose of these, or name another --msi-sensor")
    if chosen.sensors:  # band counts that no split is left with
        held = tuple(bands for bands in chosen.msi_bands if any(bands in chosen.at(split).msi_bands for split in chosen.splits))
        if not held:
            choices = ", ".join(str(chosen.sensors[split][1]) for split in chosen.splits)
            raise PlanError(f"--msi-bands {' '.join(map(str, chosen.msi_bands))}: the splits {', '.join(chosen.splits)} have "
                            f"{choices} MSI bands; choose of these, or name another --msi-sensor")
        chosen = replace(chosen, msi_bands=held)
    chosen = named(chosen, profile, name)
    if name and not args.profile and not chosen.replaced:
        raise PlanError(f"--study {name}: no study of that name, and no flag that makes one.{near(name, STUDIES)} Choices: "
                        f"{', '.join(STUDIES)}; --profile and --study together name another report of one of these")
    return chosen


def begun_from(args: argparse.Namespace) -> tuple[Study, str | None]:
    """The study that the flags start from, and the name asked for its report.

    Both flags with one name keep that name whatever other flags replace; ``--study`` alone does not.

    Raises:
        PlanError: an unknown profile, or a report that would take the place of another study's.
    """
    profile = study(args.profile or (args.study if args.study in STUDIES else DEFAULT))
    if args.study in STUDIES and args.study != profile.name:
        raise PlanError(f"--profile {args.profile} --study {args.study}: the report would take the place of that of study "
                        f"{args.study}; choose another name")
    return profile, args.study if args.profile or args.study not in STUDIES else None


def degraded_by(text: str) -> Scenario:
    """The scenario of ``NAME=AMOUNT``.

    Raises:
        PlanError: no such degradation, or no amount.
    """
    name, _, amount = text.partition("=")
    if name not in DEGRADATIONS:
        raise PlanError(f"--degrade {text}: unknown degradation '{name}'.{near(name, DEGRADATIONS)} Choices: "
                        f"{', '.join(DEGRADATIONS)}")
    try:
        number = float(amount)
    except ValueError:
        raise PlanError(f"--degrade {text}: '{amount}' is no number; give NAME=AMOUNT, such as stripes=0.02") from None
    try:
        return degraded(DEGRADATIONS[name](number))  # type: ignore[call-arg]  # the amount is the first field of each
    except ValueError as error:
        raise PlanError(f"--degrade {text}: {error}") from error


def observed(protocol: Protocol, args: argparse.Namespace) -> Protocol:
    """The protocol with the two sensors that the flags describe.

    Raises:
        PlanError: a ratio or phase that is none, or two flags that say the same.
        SceneError: no such sensor, or a file that holds no response.
    """
    told: dict[str, Any] = {}
    if args.msi_sensor and args.srf:
        raise PlanError("--msi-sensor and --srf both say what the HR-MSI is seen by; give one of them")
    for flag in ("msi_sensor", "ratio"):
        values = getattr(args, flag) or []
        if len(set(values)) < len(values):
            raise PlanError(f"--{flag.replace('_', '-')} {' '.join(map(str, values))}: one of them stands there twice")
    for sensor in args.msi_sensor or ():
        if sensor not in BOXES:
            bands_of(sensor)  # refuses unknown names before anything is read
    told |= {"srf": args.msi_sensor[0]} if len(args.msi_sensor or ()) == 1 else {}
    told |= given.srf_fields(args.srf) if args.srf else {}
    told |= given.psf_fields(args.psf) if args.psf else {}
    told |= {"phase": args.phase} if args.phase is not None else {}
    phase = told.get("phase", protocol.phase)
    for ratio in args.ratio or (protocol.ratio,):
        if ratio < 2:
            raise PlanError(f"--ratio {ratio}: a whole number of 2 or more")
        if not 0 <= phase < ratio:
            raise PlanError(f"decimation phase {phase} at ratio {ratio}: choose --phase 0 to {ratio - 1}")
    # of several the largest stands in the study's own protocol, so that its phase is one; each part has its own
    return replace(protocol, **told, **({"ratio": max(args.ratio)} if args.ratio else {}))


def fed(study: Study) -> Study:
    """The study with as many MSI bands as its sensor has on the first scene of each split; of Landsat TM's boxes as it is.

    Reads these scenes, unless the protocol names their bands.
    """
    sensor = shared_bands(study, study.protocol.srf)
    study = replace(study, protocol=replace(study.protocol, srf=sensor))
    counts = {split: counts_of(study, sensor, split) for split in study.splits}
    several = {split: (sensor, bands[0]) for split, bands in counts.items()} if len(set(counts.values())) > 1 else {}
    return replace(study, msi_bands=tuple(dict.fromkeys(n for bands in counts.values() for n in bands)), sensors=several)


def shared_bands(study: Study, sensor: Any) -> Any:
    """A sensor, or those of its bands that are fed everywhere.

    Flights of AVIRIS have calibrations of their own: the centres that are planned with and those that the first scene of a
    split comes with may feed different bands.
    """
    if study.protocol.bands != "aviris-172" or not is_sensor(sensor) or (isinstance(sensor, str) and sensor in BOXES):
        return sensor
    centres = [wavelengths_of(study, split) for split in study.splits[:1]]
    for split in study.splits:
        with suppress(SceneError):  # no scenes here: planning needs none
            centres.append(study.protocol.select(study.data.scene(study.data.entries(split)[0])).wavelengths)
    held = [{name for name, share in shares(sensor, each).items() if share >= FED} for each in centres]
    shared = set.intersection(*held)
    same = not shared or all(each == shared for each in held)
    return sensor if same else tuple(band for band in bands_of(sensor) if band.name in shared)


def counts_of(study: Study, sensor: Any, split: str) -> tuple[int, ...]:
    """MSI band counts of a sensor, or of a matrix, on the first scene of a split; of Landsat TM's boxes those of the study."""
    if not is_sensor(sensor):
        return (len(sensor),)
    if isinstance(sensor, str) and sensor in BOXES and set(study.msi_bands) <= set(BOXES[sensor]):
        return study.msi_bands
    return (len(response(sensor, wavelengths_of(study, split))),)


def side_by_side(study: Study, sensors: Sequence[str], ratios: Sequence[int], asked: bool) -> Study:
    """The study with every split seen by each sensor at each ratio.

    Args:
        study: with the flags' other values.
        sensors: names; none: as the study has it.
        ratios: one or more.
        asked: whether the study's band counts were asked for, so that a sensor has those of them alone.

    Raises:
        PlanError: methods that are trained, whose curves a page does not tell apart by sensor, or no band count that was asked
            for.
    """
    trained = [method for method in study.methods if study.recipe_of(method)]
    if trained:
        raise PlanError(f"{', '.join(trained)}: trained, and several sensors or ratios stand side by side for methods that "
                        "need no training. Give one --msi-sensor and one --ratio, or other --methods")
    views = []
    for split in study.splits:
        own = study.at(split).protocol.srf
        for name in sensors or (own if isinstance(own, str) else "own responses",):
            sensor = shared_bands(study, name) if sensors else own
            held = counts_of(study, sensor, split) if sensors else study.at(split).msi_bands
            held = tuple(bands for bands in held if bands in study.msi_bands) if asked else held
            views += [View(split, sensor, held, ratio, name) for ratio in ratios] if held else []
    if not views:
        raise PlanError(f"--msi-bands {' '.join(map(str, study.msi_bands))}: none of {', '.join(sensors)} has such a band "
                        "count on these scenes; leave --msi-bands out")
    return replace(study, views=tuple(views), sensors={},
                   msi_bands=tuple(dict.fromkeys(bands for view in views for bands in view.msi_bands)))


def wavelengths_of(study: Study, split: str) -> np.ndarray:
    """(bands,) nanometres: the band centres of the first scene of a split as the protocol takes it."""
    if study.protocol.bands == "aviris-172":
        return centers_nm()[np.array(KEPT_172) - 1]
    return study.protocol.select(study.data.scene(study.data.entries(split)[0])).wavelengths


def named(chosen: Study, profile: Study, name: str | None) -> Study:
    """The study with the fields that flags have replaced, under the name asked for or one that tells it from the profile.

    So no page of a profile is ever overwritten by another study; where the data lie is no difference.
    """
    def words(of: Study) -> dict[str, str]:
        held = {each.name: getattr(of, each.name) for each in fields(Study)}
        held["dataset_options"] = {key: value for key, value in of.dataset_options.items() if key != "root"} \
            if of.dataset == profile.dataset else dict(of.dataset_options)
        held["protocol"] = of.protocol.digest
        held["fewer_scenarios"] = {name: [each.words for each in some] for name, some in of.fewer_scenarios.items()}
        return {key: keys.canonical(value) if isinstance(value, dict) else repr(value) for key, value in held.items()}

    new, old = words(chosen), words(profile)
    replaced = frozenset(key for key in new if new[key] != old[key])
    short = hashlib.sha256(keys.canonical([new[key] for key in sorted(replaced)]).encode()).hexdigest()[:6]
    return replace(chosen, name=name or (f"{profile.name}-{short}" if replaced else profile.name), replaced=replaced)


def fabric_of(precision: Any, kind: str, devices: int = 1) -> Fabric:
    """Lightning Fabric on devices of a kind, ``"cpu"`` or ``"cuda"``, with the precision of training.

    Several devices are those of several processes, which :mod:`benchmark.engines` begins: each has this, and they meet here.
    """
    from lightning_fabric import Fabric

    if devices == 1:
        return Fabric(accelerator=kind, devices=1, precision=precision)
    from lightning_fabric.strategies import DDPStrategy

    # Between trainings the others wait for the first; a loss need not reach every parameter.
    together = DDPStrategy(find_unused_parameters=True, timeout=timedelta(days=30))
    fabric = Fabric(accelerator=kind, devices=devices, precision=precision, strategy=together)
    fabric.launch()
    return fabric


def check_precision(kind: str, precision: str, speed: str = "exact") -> None:
    """Refuse what a device of a kind cannot compute in.

    Raises:
        PlanError: names the choices.
    """
    if kind == "cpu" and precision == "16-mixed":
        raise PlanError("precision '16-mixed' needs a GPU and there is none here; choices: 32-true, bf16-mixed")
    lacking = reduced_precision(torch.device(kind))
    if lacking and "bf16-mixed" in (precision, "bf16-mixed" if speed == "fast" else ""):
        raise PlanError(f"{lacking}; choose --precision 32-true and --speed exact")


def device_kind(word: str) -> str:
    """``"cpu"`` or ``"cuda"`` of what ``--device`` says.

    Raises:
        PlanError: a GPU was asked for and there is none.
    """
    kind = "cuda" if word == "cuda" or (word == "auto" and torch.cuda.is_available()) else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        raise PlanError("device 'cuda': no GPU is usable here; choices: auto, cpu")
    return kind
