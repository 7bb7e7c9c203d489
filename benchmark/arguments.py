"""All commands and their flags; those that describe a study are in :mod:`benchmark.flags`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmark.engines import CHOICES
from benchmark.flags import add_budget, add_flags
from benchmark.on_pairs import FUSED_BY, TRAINED
from methods import pidm
from methods.estimation import DEFAULT, ESTIMATORS

Commands = Any  # argparse has no public name for what add_subparsers gives


def arguments(description: str | None = None) -> argparse.ArgumentParser:
    """All commands and flags."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="methods, datasets, protocols, sensors and profiles")
    _of_studies(commands)
    _of_pairs(commands)
    _of_the_suite(commands)
    for command in commands.choices.values():
        command.add_argument("--study-file", action="append", type=Path, default=[], metavar="FILE.py",
                             help="a file that registers methods, datasets, metrics or studies of your own")
    return parser


def _of_studies(commands: Commands) -> None:
    """What measures, shows and checks the rows of a study."""
    run = commands.add_parser("run", help="measure what is missing, then render the report")
    report = commands.add_parser("report", help="render the report from the rows there are")
    complexity = commands.add_parser("complexity", help="parameters, multiply-adds, time and memory")
    fresh = commands.add_parser("refresh", help="measure a part of stale rows again and mark those that are equal as fresh")
    claims = commands.add_parser("claims", help="what the papers claim, and what holds by the rows of a study")
    stored = commands.add_parser("weights", help="write the parameters that a study trained to one file, in half precision")
    stored.add_argument("--to", type=Path, required=True, metavar="FILE", help="receives them; weights=FILE uses them")
    stands = commands.add_parser("status", help="the state of each job, who is at it, and how long the rest takes")
    stands.add_argument("--workers", nargs="+", type=int, default=(), metavar="N",
                        help="the whole study on N workers, from measured times: hours, idle share, what limits")
    checked = commands.add_parser("verify", help="check a results folder: records, rows, parameters, and the study's page")
    for command in (run, report, complexity, fresh, claims, stored, stands, checked):
        add_flags(command)
        command.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="where rows are kept")
        command.add_argument("--reports", type=Path, default=Path("reports"), metavar="DIR", help="where pages go")
    for command in (run, complexity):
        command.add_argument("--force", action="store_true", help="measure every job of the plan anew")
        command.add_argument("--redo-stale", action="store_true", help="measure jobs anew whose code has changed")
        command.add_argument("--shard", metavar="i/n", help="only the i-th of n parts of the plan")
        command.add_argument("--engine", default="local", metavar="WHERE",
                             help=f"where jobs run: {CHOICES} (default: local, a process a GPU, or one)")
        command.add_argument("--devices", type=int, default=1, metavar="N",
                             help="GPUs, or shares of the cores, of one training: each takes part of every batch (default: 1)")
        command.add_argument("--timeout", type=float, default=72.0, metavar="HOURS",
                             help="a job that takes longer is ended and counts as failed (default: 72)")
        command.add_argument("--retry", action="store_true", help="run jobs again, too, that have failed three times")
        command.add_argument("--dry-run", action="store_true", help="print the plan as `status` does and stop")
    report.add_argument("--only", nargs="+", default=(), metavar="NAME",
                        help="write the files of these tables and figures alone: names as `list` prints them")
    run.add_argument("--pictures", action="store_true",
                     help="keep one estimate a method and split (not in git), which false colours and error maps are made of")
    run.add_argument("--rescore", action="store_true",
                     help="measure the scores anew from the parameters there are, such as for a new metric; nothing is trained")


def _of_pairs(commands: Commands) -> None:
    """What works on two files of one's own."""
    own = commands.add_parser("fuse", help="fuse a pair of files without a reference: estimates, figures and a picture")
    estimate = commands.add_parser("estimate", help="spectral responses and PSF of the two sensors, from a pair of files")
    trained = commands.add_parser("train-on", help="train methods on a pair of files, one scale down, then fuse it with them")
    for command in (own, estimate, trained):
        command.add_argument("hsi", metavar="HSI", help="file of the LR-HSI, or FILE:ARRAY")
        command.add_argument("msi", metavar="MSI", help="file of the HR-MSI, or FILE:ARRAY")
        command.add_argument("--decimate", type=int, default=1, metavar="RATIO",
                             help="make the LR-HSI by decimating the HSI, for sensors of equal resolution")
        command.add_argument("--nodata", type=float, metavar="X", help="stored value that means no data, beside what files say")
        for image in ("hsi", "msi"):
            command.add_argument(f"--{image}-nodata", type=float, metavar="X", help=f"the same of the {image.upper()} alone")
        command.add_argument("--band-first", action="store_true",
                             help="arrays are (bands, rows, columns), in files that do not say which axis is which")
        command.add_argument("--resample", action="store_true",
                             help="bring the MSI onto the HSI's grid, by what both files say of where they lie")
        command.add_argument("--out", type=Path, metavar="DIR",
                             help="receives the results, beside earlier ones of the same pair (default: reports/<name of HSI>)")
        command.add_argument("--estimator", choices=(*ESTIMATORS, pidm.NAME),
                             help=f"of the responses (default: {DEFAULT}); {pidm.NAME}: what varies over the field first")
    own.add_argument("--methods", nargs="+", metavar="METHOD",
                     help=f"untrained, or with weights=FILE (default: {' '.join(FUSED_BY)}, and subspace-net "
                          "where it comes with weights)")
    own.add_argument("--memory", metavar="SIZE",
                     help="that the process may take, such as 4GB; both images must fit into it, estimates need not: methods "
                          "then run window by window (default: most of what is available). Windows lie beside the results "
                          "until an estimate is whole, so that a call that was stopped goes on when it is given again")
    trained.add_argument("--methods", nargs="+", metavar="METHOD", help=f"that are trained (default: {' '.join(TRAINED)})")
    trained.add_argument("--seed", type=int, default=0, metavar="SEED", help="of training")
    add_budget(trained)
    for add in (own.add_argument, trained.add_argument):
        add("--format", choices=("tif", "envi", "npz"),
            help="of the estimates (default: tif where the HSI says where it lies, else npz)")
        add("--srf", metavar="FILE.csv|SENSOR[:BAND,...]|from:FILE.npz", help="the MSI's responses, if they are known")
        add("--psf", metavar="FILE|gaussian:SIGMA|from:FILE.npz", help="PSF in HR pixels, if it is known")
        add("--phase", type=int, metavar="N", help="0-based row and column of the HR pixel that the PSF is centred on")
        add("--responses", type=Path, metavar="FILE.npz", help="what `estimate` wrote, in the place of these three")


def _of_the_suite(commands: Commands) -> None:
    """What belongs to no study: checks of methods and estimators, data sets, results folders as a whole."""
    faithful = commands.add_parser("fidelity", help="each method against its release or toolbox: outputs, counts, speed")
    faithful.add_argument("--methods", nargs="+", default=(), metavar="METHOD", help="instead of all")
    faithful.add_argument("--results", type=Path, default=Path("results"), metavar="DIR",
                          help="receives fidelity.csv and recorded.csv")
    growth = commands.add_parser("growth", help="how time and memory grow with pixels, bands and batch: reports/speed")
    growth.add_argument("--methods", nargs="+", default=(), metavar="METHOD", help="instead of ten that are chosen")
    growth.add_argument("--seconds", type=float, default=20.0, metavar="X",
                        help="a point that is predicted to take longer is left out, and told (default: 20)")
    growth.add_argument("--force", action="store_true", help="measure again what is there")
    growth.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto takes a GPU if there is one")
    growth.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="receives growth.csv")
    growth.add_argument("--reports", type=Path, default=Path("reports"), metavar="DIR", help="where pages go")
    made = commands.add_parser("estimators", help="estimators of the sensors' responses on made pairs: reports/estimators")
    made.add_argument("--force", action="store_true", help="measure again what is there")
    made.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="receives estimators.csv")
    made.add_argument("--reports", type=Path, default=Path("reports"), metavar="DIR", help="where pages go")
    good = commands.add_parser("downstream", help="what fused images are good for: anomalies, abundances: reports/downstream")
    good.add_argument("--methods", nargs="+", default=(), metavar="METHOD",
                      help="instead of those that are chosen: any that need no training, or with weights=FILE")
    good.add_argument("--force", action="store_true", help="measure again what is there of these methods")
    good.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="receives downstream.csv")
    good.add_argument("--reports", type=Path, default=Path("reports"), metavar="DIR", help="where pages go")
    told = commands.add_parser("findings", help="what the rows of all studies say together: reports/findings.md")
    told.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="folder of the rows")
    told.add_argument("--reports", type=Path, default=Path("reports"), metavar="DIR", help="receives findings.md")
    told.add_argument("--readme", type=Path, metavar="FILE", help="a text that receives the table of the leaders, at its marks")
    like = commands.add_parser("realism", help="how like real AVIRIS scenes the procedural ones are: reports/realism")
    like.add_argument("--force", action="store_true", help="measure again what is there")
    like.add_argument("--results", type=Path, default=Path("results"), metavar="DIR",
                      help="receives realism.csv and realism-curves.csv")
    like.add_argument("--reports", type=Path, default=Path("reports"), metavar="DIR", help="where pages go")
    fetch = commands.add_parser("download", help="fetch a public data set, check and unpack it; without a name, list them")
    fetch.add_argument("name", nargs="?", metavar="NAME", help="of the data set")
    fetch.add_argument("--to", type=Path, metavar="DIR", help="receives a folder of that name (default: HSFUSION_DATA)")
    joined = commands.add_parser("merge", help="bring the rows of other results folders into one")
    joined.add_argument("sources", nargs="+", type=Path, metavar="DIR", help="results folders")
    joined.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="receives them")
