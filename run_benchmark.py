#!/usr/bin/env python
"""Benchmark of hyperspectral/multispectral image fusion: arguments -> plan -> execute -> report.

python run_benchmark.py list
python run_benchmark.py run --profile quick
python run_benchmark.py report --study aviris
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
python run_benchmark.py findings
python run_benchmark.py downstream
python run_benchmark.py realism
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
from typing import Any

import torch

import datasets
import methods
from benchmark import measurements, store
from benchmark.arguments import arguments
from benchmark.engines import Order, check_engine, engine_of, workers_of
from benchmark.flags import check_precision, device_kind, fabric_of, study_of
from benchmark.machine import device_name
from benchmark.on_pairs import estimate_responses, fuse_own, train_own
from benchmark.page.artefacts import ARTEFACTS
from benchmark.plan import Job, PlanError, Study, plan, shard
from benchmark.processes import threads
from benchmark.protocol import PROTOCOLS
from benchmark.sensors import BOXES, SENSORS, bands_of
from benchmark.studies import STUDIES, load_file
from methods import weights

# What measures and what draws is imported by the commands that do: the libraries behind take seconds to load.
FIDELITY_COLUMNS = ("golden_difference", "parameters_used", "parameters_published", "macs_conv", "macs_attention",
                    "macs_published", "psnr_db", "psnr_recorded", "sample_difference", "seconds", "times_faster")


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
        few = ", ".join(each.methods) if len(each.methods) <= 8 else f"{len(each.methods)} methods"
        print(f"  {each.name:22} {each.title}: {each.dataset}, {few}")
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
    from benchmark.page.pages import render_page

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
    from benchmark.page.pages import render_page

    path = args.results / "estimators.csv"
    rows = [] if args.force else text_rows(path)
    held = {tuple(each[key] for key in estimators.CELL) for each in rows}
    for row in estimators.everything(held):
        rows.append({key: row[key] for key in rows[0]} if rows else row)
        store.write_csv(path, rows)
    print(path)
    print(render_page("estimators", args.results, args.reports))
    return 0


def show_downstream(args: argparse.Namespace) -> int:
    """Measure and store what fused images are good for, where it lacks, and render the page; 1 if one is not finite."""
    from benchmark import downstream
    from benchmark.page.pages import render_page

    path, chosen = args.results / "downstream.csv", tuple(args.methods or downstream.METHODS)
    anew = {downstream.REFERENCE, *chosen} if args.force else set()
    rows = [row for row in text_rows(path) if row["method"] not in anew]
    for row in downstream.compare(chosen, held={tuple(each[key] for key in downstream.CELL) for each in rows}):
        rows.append(row)
        store.write_csv(path, rows)
    print(path)
    print(render_page("downstream", args.results, args.reports))
    return int(any(row["status"] != "ok" for row in rows))


def show_realism(args: argparse.Namespace) -> int:
    """Measure and store real and procedural scenes, where they lack, with their curves, and render the page."""
    from benchmark import realism
    from benchmark.page.pages import render_page

    path, beside = args.results / "realism.csv", args.results / "realism-curves.csv"
    rows = [] if args.force else text_rows(path)
    held = {tuple(each[key] for key in realism.CELL) for each in rows}
    curves = [line for line in text_rows(beside) if tuple(line[key] for key in realism.CELL) in held]
    for row, lines in realism.compare(held=held):
        rows.append(row)
        curves += lines
        store.write_csv(beside, curves)  # first: a scene that has a row has its curves
        store.write_csv(path, rows)
    print(path)
    print(render_page("realism", args.results, args.reports))
    return 0


def text_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file as text, so that nothing of what is there is rounded; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def show_findings(args: argparse.Namespace) -> int:
    """Write what the rows of all studies say together."""
    from benchmark.page.findings import write_findings

    print(write_findings(args.results, args.reports, args.readme))
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
    from benchmark.page.pages import render_study

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
    source = store.weights_file(root, trained)
    if held.state != "done" or not source.is_file():
        raise PlanError(f"{trained.label} is {held.state}" + ("" if source.is_file() else ", its parameters are not here")
                        + ": run the study first")
    with store.writing(path, "--to"):
        path.parent.mkdir(parents=True, exist_ok=True)
        weights.convert(source, path, trained.names)
        os.umask(umask := os.umask(0))
        path.chmod(0o666 & ~umask)  # as the user's other files: safetensors makes files that their owner alone reads
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
    kind = device_kind(args.device)
    chosen = study_of(args)
    check_precision(kind, chosen.precision, chosen.speed)
    if not getattr(args, "timeout", 1.0) > 0:
        raise PlanError(f"--timeout {args.timeout:g}: choose a number of hours above 0")
    devices = getattr(args, "devices", 1)
    check_engine(getattr(args, "engine", "here"), devices)
    workers = workers_of(getattr(args, "engine", "here"), devices) * devices
    if workers > 1 and kind == "cpu":
        torch.set_num_threads(threads(workers))  # what costs are measured with stands in their keys
    jobs = plan(chosen, device_name(torch.device(kind, 0)), costs_only=args.command == "complexity")
    due = shard(jobs, args.shard) if getattr(args, "shard", None) else jobs
    if args.command == "status" or getattr(args, "dry_run", False):
        return show_status(due, args.results, getattr(args, "workers", ()))
    if args.command == "verify":
        return verify(chosen, jobs, args.results, args.reports)
    from benchmark.page.pages import render_artefact, render_study  # what draws takes seconds to load

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
    from benchmark.due import again, pending
    from benchmark.execute import execute, keep_pictures, preflight
    from benchmark.page import current

    rescore = args.command == "run" and args.rescore
    fabric = fabric_of(chosen.precision, kind)
    to_run = pending(due, args.results, args.force, args.redo_stale, rescore)
    if any(job.kind != "cost" for job in to_run):
        for line in [*preflight(chosen), *([] if args.force else again(to_run, args.results))]:
            print(line, file=sys.stderr)
    engine = engine_of(args.engine, Order(args, kind), 3600 * args.timeout, devices)
    failed = execute(due, args.results, engine, args.force, args.redo_stale, rescore, args.retry)
    if args.command == "run" and (chosen.pictures or args.pictures):
        for line in keep_pictures(due, args.results, fabric):
            print(line, file=sys.stderr)
    if args.command == "complexity":
        print(measurements.costs(args.results, jobs).to_string(index=False))
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
    "downstream": show_downstream, "realism": show_realism, "findings": show_findings, "fuse": fuse_own,
    "train-on": train_own, "estimate": estimate_responses, "download": fetch_data, "merge": join_folders}


def main(words: list[str] | None = None) -> int:
    """Run a command: 0 done, 1 a job failed, 2 bad input, 130 interrupted."""
    args = arguments(__doc__).parse_args(words)
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
