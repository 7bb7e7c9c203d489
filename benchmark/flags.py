"""Flags that describe a study: how a command line replaces what a profile says.

add_flags(command)            # --profile, --methods, --msi-sensor, --steps, ...
chosen = study_of(args)       # the profile with what they replace, under a name of its own
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import datasets
from benchmark import keys
from benchmark.plan import BUDGET, PlanError, Study
from benchmark.protocol import PROTOCOLS, Protocol
from benchmark.sensors import BOXES, SENSORS, bands_of, given, is_sensor, response
from benchmark.studies import STUDIES, study
from datasets.aviris_bands import KEPT_172, centers_nm
from methods.speed import SPEEDS, reduced_precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric

REPLACED = tuple(flag for flag in BUDGET if flag != "epochs")  # fields of every recipe that have a flag


def add_flags(command: argparse.ArgumentParser) -> None:
    """The flags of every command on a study, but for where its files lie."""
    add = command.add_argument
    add("--profile", default="quick", help=f"study to start from: {', '.join(STUDIES)} (default: quick)")
    add("--study", metavar="NAME", help="name of the report, if not the profile's")
    add("--methods", nargs="+", metavar="METHOD", help="instead of the profile's")
    add("--msi-bands", nargs="+", type=int, metavar="N", help="MSI band counts, such as 4 6")
    add("--dataset", metavar="NAME", help=f"one of {', '.join(datasets.names())}")
    add("--data-option", nargs="+", default=[], metavar="KEY=VALUE", help="arguments of the dataset, such as root=FOLDER")
    add("--splits", nargs="+", metavar="SPLIT", help="held-out splits")
    add("--protocol", metavar="NAME", help=f"one of {', '.join(PROTOCOLS)}")
    add("--hr-size", type=int, metavar="PIXELS", help="largest HR side")
    add("--msi-sensor", metavar="NAME", help=f"that the HR-MSI is seen by: {', '.join(SENSORS)}")
    add("--srf", metavar="FILE.csv|from:FILE.npz", help="responses of your own: wavelength_nm,BAND,... or low,high")
    add("--psf", metavar="FILE|gaussian:SIGMA|from:FILE.npz",
        help="PSF in HR pixels: a square of numbers, a Gaussian, or what `estimate` wrote")
    add("--ratio", type=int, metavar="N", help="HR pixels per LR pixel along a side, 2 or more; the PSF stays")
    add("--phase", type=int, metavar="N", help="0-based row and column of the first HR sample that decimation keeps")
    add("--all-bands", action="store_true", help="take every band of the scenes, not the 172 of AVIRIS")
    add("--seeds", nargs="+", type=int, metavar="SEED", help="of training")
    add("--recipe", default="", metavar="NAME", help="recipe on the methods' cards, such as paper or release")
    add_budget(command)
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
    """The profile, with what the flags replace; one that differs from its profile has a name of its own."""
    profile = study(args.profile)
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
        if args.hr_size < protocol.ratio:
            raise PlanError(f"--hr-size {args.hr_size}: an HR image has {protocol.ratio} pixels a side at least, one LR pixel")
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
        sensors=profile.sensors if same_data and not (args.msi_sensor or args.srf) else {},
    )
    if (args.msi_sensor or args.srf) and not args.msi_bands:
        chosen = fed(chosen)
    if chosen.sensors:  # band counts that no split is left with
        held = tuple(bands for bands in chosen.msi_bands if any(bands in chosen.at(split).msi_bands for split in chosen.splits))
        if not held:
            choices = ", ".join(str(chosen.sensors[split][1]) for split in chosen.splits)
            raise PlanError(f"--msi-bands {' '.join(map(str, chosen.msi_bands))}: the splits {', '.join(chosen.splits)} have "
                            f"{choices} MSI bands; choose of these, or name another --msi-sensor")
        chosen = replace(chosen, msi_bands=held)
    return named(chosen, profile, args.study)


def observed(protocol: Protocol, args: argparse.Namespace) -> Protocol:
    """The protocol with the two sensors that the flags describe.

    Raises:
        PlanError: a ratio or phase that is none, or two flags that say the same.
        SceneError: no such sensor, or a file that holds no response.
    """
    told: dict[str, Any] = {}
    if args.msi_sensor and args.srf:
        raise PlanError("--msi-sensor and --srf both say what the HR-MSI is seen by; give one of them")
    if args.msi_sensor:
        if args.msi_sensor not in BOXES:
            bands_of(args.msi_sensor)  # refuses unknown names before anything is read
        told["srf"] = args.msi_sensor
    told |= given.srf_fields(args.srf) if args.srf else {}
    told |= given.psf_fields(args.psf) if args.psf else {}
    told |= {key: value for key in ("ratio", "phase") if (value := getattr(args, key)) is not None}
    ratio, phase = told.get("ratio", protocol.ratio), told.get("phase", protocol.phase)
    if ratio < 2:
        raise PlanError(f"--ratio {ratio}: a whole number of 2 or more")
    if not 0 <= phase < ratio:
        raise PlanError(f"decimation phase {phase} at ratio {ratio}: choose --phase 0 to {ratio - 1}")
    return replace(protocol, **told)


def fed(study: Study) -> Study:
    """The study with as many MSI bands as its sensor has on the first scene of each split; of Landsat TM's boxes as it is.

    Reads these scenes, unless the protocol names their bands.
    """
    sensor = study.protocol.srf
    if not is_sensor(sensor):
        return replace(study, msi_bands=(len(sensor),))
    if isinstance(sensor, str) and sensor in BOXES and set(study.msi_bands) <= set(BOXES[sensor]):
        return study
    counts = {split: len(response(sensor, wavelengths_of(study, split))) for split in study.splits}
    several = {split: (sensor, bands) for split, bands in counts.items()} if len(set(counts.values())) > 1 else {}
    return replace(study, msi_bands=tuple(dict.fromkeys(counts.values())), sensors=several)


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
        return {key: keys.canonical(value) if isinstance(value, dict) else repr(value) for key, value in held.items()}

    new, old = words(chosen), words(profile)
    replaced = frozenset(key for key in new if new[key] != old[key])
    short = hashlib.sha256(keys.canonical([new[key] for key in sorted(replaced)]).encode()).hexdigest()[:6]
    return replace(chosen, name=name or (f"{profile.name}-{short}" if replaced else profile.name), replaced=replaced)


def fabric_of(precision: Any, kind: str) -> Fabric:
    """Lightning Fabric on one device of a kind, ``"cpu"`` or ``"cuda"``, with the precision of training."""
    from lightning_fabric import Fabric

    return Fabric(accelerator=kind, devices=1, precision=precision)


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
