#!/usr/bin/env python
"""Benchmark of hyperspectral/multispectral image fusion: arguments -> plan -> execute -> report.

python run_benchmark.py list
python run_benchmark.py run --profile quick
python run_benchmark.py report --profile quick
python run_benchmark.py refresh --profile aviris
python run_benchmark.py status --profile aviris
python run_benchmark.py verify --profile aviris
python run_benchmark.py merge OTHER_RESULTS --results results
python run_benchmark.py claims --study aviris
python run_benchmark.py weights --profile unseen-flights --methods METHOD --to FILE
python run_benchmark.py complexity --methods gsa s3rnet-student
python run_benchmark.py fidelity
python run_benchmark.py growth
python run_benchmark.py estimators
python run_benchmark.py fuse HSI_FILE MSI_FILE --methods gsa hysure-blind
python run_benchmark.py train-on HSI_FILE MSI_FILE --methods u2net
python run_benchmark.py estimate HSI_FILE MSI_FILE
python run_benchmark.py download cave --to DIR

A method is a name or a variant of it, name@key=value,key=value. --study-file FILE.py, with any command, registers
methods, datasets, metrics and studies of your own.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import datasets
import methods
from benchmark import store
from benchmark.engines import CHOICES, Order, engine_of, threads, workers_of
from benchmark.flags import add_budget, add_flags, budget_of, check_precision, device_kind, fabric_of, study_of
from benchmark.machine import device_name
from benchmark.page.artefacts import ARTEFACTS
from benchmark.plan import Job, PlanError, Study, plan, shard
from benchmark.protocol import PROTOCOLS
from benchmark.sensors import BOXES, SENSORS, bands_of
from benchmark.studies import STUDIES, load_file
from methods import weights
from methods.estimation import DEFAULT, ESTIMATORS

# What measures and what draws is imported by the commands that do: the libraries behind take seconds to load.
if TYPE_CHECKING:
    from benchmark.pair import Pair

FIDELITY_COLUMNS = ("golden_difference", "parameters_used", "parameters_published", "macs_conv", "macs_attention",
                    "macs_published", "psnr_db", "psnr_recorded", "sample_difference", "seconds", "times_faster")
TRAINED = ("u2net@anchor=subspace-ridge",)  # on a pair of one's own, likewise: it begins as good as its anchor
FUSED_BY = ("gsa", "hysure-blind", "subspace-ridge-blind")  # a pair of one's own, if nothing else is said


def arguments() -> argparse.ArgumentParser:
    """All commands and flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="methods, datasets, protocols, sensors and profiles")
    run = commands.add_parser("run", help="measure what is missing, then render the report")
    report = commands.add_parser("report", help="render the report from the rows there are")
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
        command.add_argument("--estimator", choices=tuple(ESTIMATORS), help=f"of the responses (default: {DEFAULT})")
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
    fetch = commands.add_parser("download", help="fetch a public data set, check and unpack it; without a name, list them")
    fetch.add_argument("name", nargs="?", metavar="NAME", help="of the data set")
    fetch.add_argument("--to", type=Path, metavar="DIR", help="receives a folder of that name (default: HSFUSION_DATA)")
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
        command.add_argument("--timeout", type=float, default=72.0, metavar="HOURS",
                             help="a job that takes longer is ended and counts as failed (default: 72)")
        command.add_argument("--retry", action="store_true", help="run jobs again, too, that have failed three times")
        command.add_argument("--dry-run", action="store_true", help="print the plan as `status` does and stop")
    joined = commands.add_parser("merge", help="bring the rows of other results folders into one")
    joined.add_argument("sources", nargs="+", type=Path, metavar="DIR", help="results folders")
    joined.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="receives them")
    report.add_argument("--only", nargs="+", default=(), metavar="NAME",
                        help="write the files of these tables and figures alone: names as `list` prints them")
    run.add_argument("--pictures", action="store_true",
                     help="keep one estimate a method and split (not in git), which false colours and error maps are made of")
    run.add_argument("--rescore", action="store_true",
                     help="measure the scores anew from the parameters there are, such as for a new metric; nothing is trained")
    for command in commands.choices.values():
        command.add_argument("--study-file", action="append", type=Path, default=[], metavar="FILE.py",
                             help="a file that registers methods, datasets, metrics or studies of your own")
    return parser


def show_list(_: argparse.Namespace) -> int:
    """Print everything that has a name."""
    for family in ("classical", "unsupervised", "supervised"):
        for name in methods.available(family):
            card = methods.card(name)
            recipes = f"; recipes: {', '.join(card.recipes)}" if card.recipes else ""
            print(f"{family:13} {name:24} {card.fidelity:10} {card.paper}{recipes}")
            if name in weights.shipped():
                held = weights.about(name, "shipped")
                print(f"{'':38} weights=shipped: trained on {held.dataset}, training {held.key[:12]} of revision "
                      f"{held.revision[:12]}, sha256 {held.sha256[:12]}")
    print(f"\ndatasets      {', '.join(datasets.names())}\nprotocols")
    for protocol in PROTOCOLS.values():
        print(f"  {protocol.describe()}")
    print("MSI sensors (--msi-sensor NAME)")
    for name in SENSORS:
        counts = " or ".join(map(str, BOXES[name])) if name in BOXES else str(len(bands_of(name)))
        print(f"  {name:12} {counts} bands" + (" (nominal edges)" if name in BOXES else ""))
    print("profiles")
    for each in STUDIES.values():
        print(f"  {each.name:12} {each.title}: {each.dataset}, {', '.join(each.methods)}")
    print("tables and figures (report --only NAME)")
    for name, artefact in ARTEFACTS.items():
        print(f"  {name:18} {artefact.what}" + (f" [study: {artefact.needs}]" if artefact.needs else ""))
    return 0


def show_claims(files: list[Path]) -> None:
    """Print the claims as their CSV has them: verdict, claim, what was measured, why."""
    with files[0].open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            print(f"{row['verdict']:18} {row['claim']}: {row['text']}\n{'':18} "
                  + "; ".join(words for words in (row["measured"], row["why"], row["decided by"]) if words))
    print(files[0])


def show_fidelity(args: argparse.Namespace) -> int:
    """Print and store one row a network, and one a classical method and case; 1 if one differs from its release."""
    from benchmark.fidelity.networks import fidelity
    from benchmark.fidelity.toolboxes import recorded

    chosen = [methods.card(name) for name in args.methods or methods.available()]
    verdicts = []
    for family, measured, file in (("supervised", fidelity, "fidelity.csv"), ("classical", recorded, "recorded.csv")):
        rows = []
        for row in measured(tuple(card.name for card in chosen if card.family == family)):
            rows.append(row)
            figures = "  ".join(f"{key} {row[key]:.4g}" for key in FIDELITY_COLUMNS if key in row)
            print(f"{row['method']:22} {row.get('case', ''):12} {row['verdict']:30} {figures}", flush=True)
            store.write_csv(args.results / file, rows)
        verdicts += [row["verdict"] for row in rows]
    return int(any(verdict.startswith("DIFFERS") for verdict in verdicts))


def show_growth(args: argparse.Namespace) -> int:
    """Measure and store how costs grow, one row a point, and render the page of speed."""
    from benchmark import growth
    from benchmark.page.facts import render_page

    path, kind = args.results / "growth.csv", device_kind(args.device)
    rows = growth.read(path)
    device = torch.device("cuda", 0) if kind == "cuda" else torch.device("cpu")
    for grown in growth.grow(args.methods or growth.METHODS, device, rows, args.seconds, force=args.force):
        rows = grown
        store.write_csv(path, rows)
    print(path)
    print(render_page("speed", args.results, args.reports))
    return int(any(row["status"].startswith("failed") for row in rows))


def show_estimators(args: argparse.Namespace) -> int:
    """Measure and store what each estimator makes of each made pair, where it lacks, and render the page."""
    from benchmark import estimators
    from benchmark.page.facts import render_page

    path, rows = args.results / "estimators.csv", list[dict[str, Any]]()
    if path.exists() and not args.force:
        with path.open(newline="", encoding="utf-8") as file:  # as text: nothing of what is there is rounded
            rows = list(csv.DictReader(file))
    for row in estimators.compare(held={tuple(each[key] for key in estimators.CELL) for each in rows}):
        rows.append(row)
        store.write_csv(path, rows)
    print(path)
    print(render_page("estimators", args.results, args.reports))
    return 0


def own_pair(args: argparse.Namespace) -> tuple[Pair, Path, dict[str, Any]]:
    """The pair of files that a command names, its folder, and the record of what the folder is made of."""
    from benchmark.deliver import folder, made_of
    from benchmark.footprint import TELL_PX
    from benchmark.pair import load_pair, misregistration

    own = {key: value for key in ("hsi_nodata", "msi_nodata") if (value := getattr(args, key)) is not None}
    pair = load_pair(args.hsi, args.msi, args.decimate, args.nodata, args.band_first, args.resample, **own)
    record = made_of(args.hsi, args.msi, decimate=args.decimate, nodata=str(args.nodata), band_first=args.band_first,
                     resample=args.resample, **{key: str(value) for key, value in own.items()})
    out = folder(args.out, pair.name, record)
    rows, columns = misregistration(pair)
    if max(abs(rows), abs(columns)) > TELL_PX:
        print(f"the HR-MSI lies {rows:+.2f} rows and {columns:+.2f} columns (LR pixels) from the LR-HSI, by the correlation of "
              "the two: fusing takes them as registered. Register them first, or take what follows with care", file=sys.stderr)
    return pair, out, record


def fuse_own(args: argparse.Namespace) -> int:
    """Fuse a pair of files with several methods; 1 if one of them failed."""
    from benchmark.deliver import claim, deliver
    from benchmark.pair import check_names, fuse_pair, needs_told
    from benchmark.told import given as given_responses
    from benchmark.told import judged

    shipped = ("subspace-net@weights=shipped",) if "subspace-net" in weights.shipped() else ()
    names = tuple(dict.fromkeys(args.methods or (*FUSED_BY, *shipped)))
    check_names(names)
    pair, out, record = own_pair(args)
    said = bool(args.srf or args.psf or args.phase is not None or args.responses or args.estimator)
    told, source, trust = None, "", ""
    if said or needs_told(names):
        told, source = given_responses(pair, args.estimator or DEFAULT, args.srf or "", args.psf or "", args.phase,
                                       args.responses)
        print(f"{', '.join(needs_told(names)) or 'networks that take them'}: told the responses of the sensors: {source}",
              file=sys.stderr)
        if args.responses or not (args.srf and args.psf):  # some of it is an estimate
            trust = judged(pair, told).trust
            if trust != "ok":
                print(f"what is estimated of the responses cannot be trusted: {trust}. Say --srf and --psf if they are known, "
                      "or take methods that are told nothing", file=sys.stderr)

    def say(row: dict[str, Any]) -> None:
        figures = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float))
        figures += f"  windows {row['windows']}" if row.get("windows", "1") != "1" else ""
        print(f"{row['method']:20} {figures}" if row["status"] == "ok" else f"{row['method']:20} failed: {row['reason']}",
              file=sys.stdout if row["status"] == "ok" else sys.stderr, flush=True)

    kind = args.format or ("tif" if pair.georeferenced else "npz")
    fused = ((row | ({"trust": trust if row["told"] else ""} if image is not None else {}), image) for row, image in
             fuse_pair(pair, names, told, source, out, args.memory, {**record, "format": kind}))
    claim(out, record)
    made = deliver(pair, fused, out, kind, say)
    print(out / "pair.png")
    return int(any(row["status"] != "ok" for row in made))


def train_own(args: argparse.Namespace) -> int:
    """Train methods on a pair of files, one scale down, then fuse it with them; 1 if one of them failed."""
    from benchmark.deliver import claim, deliver
    from benchmark.told import given as given_responses
    from benchmark.train_on import check_names, say, train_on

    names = tuple(dict.fromkeys(args.methods or TRAINED))
    check_names(names)
    kind, precision = device_kind(args.device), args.precision or "32-true"
    check_precision(kind, precision)
    pair, out, record = own_pair(args)
    told, source = given_responses(pair, args.estimator or DEFAULT, args.srf or "", args.psf or "", args.phase, args.responses)
    print(f"decimated, and networks that take them told, by the responses of the sensors: {source}", file=sys.stderr)
    fused = train_on(pair, names, told, source, out / "training", fabric_of(precision, kind), budget_of(args), args.seed,
                     precision)
    claim(out, record)
    made = deliver(pair, fused, out, args.format or ("tif" if pair.georeferenced else "npz"), say)
    print(out / "pair.png")
    return int(any(row["status"] != "ok" for row in made))


def estimate_responses(args: argparse.Namespace) -> int:
    """Print, draw and store the responses that a pair of files tells, and how far they explain it."""
    from benchmark.deliver import claim, curves
    from benchmark.told import arrays, estimated, judged, margin_of

    pair, out, record = own_pair(args)
    found = estimated(pair, args.estimator or DEFAULT)
    said = judged(pair, found)
    claim(out, record)
    with store.writing(out, "--out"):
        np.savez(out / "responses.npz", **arrays(pair, found))
        curves(pair, found, out / "responses.png")
    for band, row in enumerate(found.srf[0]):
        top = int(row.argmax())
        where = f" at {pair.wavelengths[top]:.0f} nm" if len(pair.wavelengths) else ""
        print(f"MSI band {band + 1}: {int((row > 0.01 * row.max()).sum())} HSI bands, most from band {top + 1}{where}; left "
              f"unexplained {said.residual[band]:.1%} of its contrast, {said.unexplained[band]:.1%} without noise")
    psf = found.psf[0].numpy()
    margin = margin_of(psf)
    inner = psf[margin : len(psf) - margin, margin : len(psf) - margin]
    with np.printoptions(precision=4, suppress=True, linewidth=160, threshold=2000):
        print(f"PSF in HR pixels, phase {found.phase}" + (f", less {margin} samples a side" if margin else "") + f":\n{inner}")
    print(f"the LR-HSI has {said.rank} dimensions above its noise, of {said.bands} bands; trust: {said.trust}")
    print(out / "responses.npz")
    print(out / "responses.png")
    return 0


def show_status(jobs: list[Job], root: Path, workers: tuple[int, ...]) -> int:
    """Print the state of each job, and what the whole plan takes on so many workers."""
    from benchmark.progress import lines, outlook, stands

    found = stands(jobs, root)
    print("\n".join(lines(found)))
    for count in workers:
        ahead = outlook(found, count)
        print(f"whole study on {count} workers: {ahead.hours:.2f} h, {ahead.idle:.0%} of their time idle; no number of workers "
              f"is faster than {ahead.chain:.2f} h: {ahead.longest}")
    return 0


def verify(chosen: Study, jobs: list[Job], root: Path, reports: Path) -> int:
    """Print what is wrong with a results folder and with the study's page; 1 if anything is."""
    from benchmark import folders
    from benchmark.page import current
    from benchmark.page.facts import render_study

    found = [*folders.verify(root), *folders.counted(jobs, root)]
    page = reports / chosen.name / "index.html"
    if page.exists() and not current.is_current(page, current.made_of(chosen, jobs, root)):  # rendered elsewhere, or before
        with tempfile.TemporaryDirectory() as room:
            if render_study(chosen, jobs, root, Path(room)).read_bytes() != page.read_bytes():
                found.append(f"{page}: not what these rows give; the command report renders it")
    print("\n".join(found) or f"{root}: {len(folders.job_folders(root))} jobs, all as they were written")
    return int(bool(found))


def join_folders(args: argparse.Namespace) -> int:
    """Merge results folders; 1 if rows differ or are damaged."""
    from collections import Counter

    from benchmark.folders import merge

    told: Counter[str] = Counter()
    for word, words in merge(args.sources, args.results):
        told[word] += 1
        if word != "equal":
            print(f"{word:8} {words}", file=sys.stderr if word in ("differs", "damaged") else sys.stdout, flush=True)
    print(f"{args.results}: " + (", ".join(f"{count} {word}" for word, count in told.items()) or "nothing to merge"))
    return int(bool(told["differs"] or told["damaged"]))


def write_weights(chosen: Study, jobs: list[Job], root: Path, path: Path) -> int:
    """Write what the first training of a plan left, in half precision."""
    trained = next((job for job in jobs if job.kind == "train"), None)
    if trained is None:
        raise PlanError(f"study '{chosen.name}' trains nothing; name a method that is trained (--methods)")
    held = store.held(root, trained)
    source = store.folder(root, trained) / "model.safetensors"
    if held.state != "done" or not source.is_file():
        raise PlanError(f"{trained.label} is {held.state}" + ("" if source.is_file() else ", its parameters are not here")
                        + ": run the study first")
    with store.writing(path, "--to"):
        path.parent.mkdir(parents=True, exist_ok=True)
        weights.convert(source, path, trained.names)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {trained.label}, key {trained.key[:12]}")
    return 0


def fetch_data(args: argparse.Namespace) -> int:
    """Download a public data set, or list what there is."""
    from datasets.download import download, listing, where

    if not args.name:
        known = args.to or os.environ.get("HSFUSION_DATA")
        print("\n".join(listing(Path(known).expanduser() if known else None)))
        return 0
    root = where(args.to)
    print(download(args.name, root, lambda line: print(line, flush=True)))
    if args.to:
        print(f"export HSFUSION_DATA={root.resolve()}    # so that the data set '{args.name}' finds it")
    return 0


def measure(args: argparse.Namespace) -> int:
    """Commands run, report, complexity, refresh and claims."""
    if args.command == "claims" and args.study in STUDIES:  # there it names the study, not only its report
        args.profile, args.study = args.study, None
    kind = device_kind(args.device)
    chosen = study_of(args)
    check_precision(kind, chosen.precision, chosen.speed)
    workers = workers_of(getattr(args, "engine", "here"))
    if workers > 1 and kind == "cpu":
        torch.set_num_threads(threads(workers))  # what costs are measured with stands in their keys
    jobs = plan(chosen, device_name(torch.device(kind, 0)), costs_only=args.command == "complexity")
    due = shard(jobs, args.shard) if getattr(args, "shard", None) else jobs
    if args.command == "status" or getattr(args, "dry_run", False):
        return show_status(due, args.results, getattr(args, "workers", ()))
    if args.command == "verify":
        return verify(chosen, jobs, args.results, args.reports)
    from benchmark.page.facts import render_artefact, render_study  # what draws takes seconds to load

    if args.command == "report" and args.only:
        for path in [path for name in args.only for path in render_artefact(chosen, jobs, args.results, args.reports, name)]:
            print(path)
        return 0
    if args.command == "weights":
        return write_weights(chosen, jobs, args.results, args.to)
    if args.command == "claims":
        show_claims(render_artefact(chosen, jobs, args.results, args.reports, "claims"))
        return 0
    if args.command == "report":
        print(render_study(chosen, jobs, args.results, args.reports))
        return 0
    if args.command == "refresh":
        from benchmark.refresh import refresh

        left = 0
        for job, fresh, words in refresh(jobs, args.results, fabric_of(chosen.precision, kind)):
            left += not fresh
            print(f"{'fresh' if fresh else 'stale':6} {job.label}: {words}", flush=True)
        return int(left > 0)
    from benchmark.execute import execute, keep_pictures, pending, preflight
    from benchmark.page import current

    rescore = args.command == "run" and args.rescore
    fabric = fabric_of(chosen.precision, kind)
    if any(job.kind != "cost" for job in pending(due, args.results, args.force, args.redo_stale, rescore)):
        for line in preflight(chosen):
            print(line, file=sys.stderr)
    engine = engine_of(args.engine, Order(args, kind), 3600 * args.timeout)
    failed = execute(due, args.results, engine, args.force, args.redo_stale, rescore, args.retry)
    if args.command == "run" and (chosen.pictures or args.pictures):
        for line in keep_pictures(due, args.results, fabric):
            print(line, file=sys.stderr)
    if args.command == "complexity":
        print(store.costs(args.results, jobs).to_string(index=False))
    else:
        page, digest = args.reports / chosen.name / "index.html", current.made_of(chosen, jobs, args.results)
        if not current.is_current(page, digest):
            current.mark(render_study(chosen, jobs, args.results, args.reports), digest)
        print(page)
    reasons = sorted({store.failure(args.results, job) for job in failed})
    for _, reason in reasons:
        print(f"error: {reason}", file=sys.stderr)
    return 0 if not failed else 2 if all(kind == "input" for kind, _ in reasons) else 1


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": show_list, "fidelity": show_fidelity, "growth": show_growth, "estimators": show_estimators,
    "fuse": fuse_own, "train-on": train_own, "estimate": estimate_responses, "download": fetch_data, "merge": join_folders}


def main(words: list[str] | None = None) -> int:
    """Run a command: 0 done, 1 a job failed, 2 bad input, 130 interrupted."""
    args = arguments().parse_args(words)
    try:
        for path in args.study_file:
            load_file(path)
        return COMMANDS.get(args.command, measure)(args)
    except store.BAD_INPUT as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # such as `list | head`: nobody reads on, and the interpreter must not try to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is finished stays, a training its checkpoint
    sys.exit(main())
