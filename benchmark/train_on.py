"""Train methods on a pair of one's own, one scale down, then fuse the pair with them: rows and estimates as ``fuse`` has them.

    for row, image in train_on(pair, ("u2net",), told, source, out / "training", fabric, {"steps": 500}):
        ...

Trainings run, are kept, interrupted and resumed as those of every study (:mod:`benchmark.execute`), below the pair's folder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from benchmark import rows, store
from benchmark.engines import Here
from benchmark.execute import execute
from benchmark.machine import code_version
from benchmark.one_scale_down import PairStudy, Reduced, protocol_of
from benchmark.pair import Pair, fuse_pair
from benchmark.piecewise import Estimate
from benchmark.plan import Job, plan
from benchmark.studies.shared import SHORT
from datasets import SceneError
from methods import card, create, weights
from methods.estimation import DEFAULT, Responses
from methods.registry import split_label

# Where flags say nothing. On a single image a network soon learns it by heart: what is best on the block held out is kept.
BUDGET: dict[str, Any] = {**{key: value for key, value in SHORT.items() if key != "steps"}, "keep": "best-psnr"}
LENGTH = {"steps": SHORT["steps"], "minutes": 5.0}  # whichever ends first, where neither is said
COMPARED = ("bicubic", "gsa", "subspace-ridge-blind")  # on the same block: is the training worth it?
WORTH_DB = 0.05  # less than that over the best of them is not
SCORES = {"psnr_db": "dB", "sam_deg": "deg"}


def check_names(methods: Sequence[str]) -> None:
    """All that names alone can be refused for, before a file is read.

    Raises:
        SceneError: a method that is not trained, that cannot be trained on a pair, or whose name says what has no meaning here.
        MethodError: no such method or argument.
    """
    for name in methods:
        its, words = card(name), split_label(name)[1]
        stages = PairStudy(name="pair", title="", methods=(name,), dataset="", recipe="").recipe_of(name)
        if not its.recipes or "weights" in words:
            raise SceneError(f"method '{name}' is not trained; fuse the pair with it: fuse HSI MSI --methods {name}")
        if its.oracle:
            raise SceneError(f"method '{name}' looks at the reference HR-HSI, and a pair has none; take another")
        if "train" in words:
            raise SceneError(f"method '{name}': what is trained on is the pair; leave out train={words['train']}")
        if any(stage.vary for stage in stages):
            raise SceneError(f"method '{name}' is trained on sensors drawn at random, not on those of one pair" + (
                f"; it comes trained: fuse HSI MSI --methods {its.name}@weights=shipped" if its.name in weights.shipped()
                else "; take another"))


def train_on(pair: Pair, methods: Sequence[str], told: Responses, source: str, root: Path, fabric: Fabric,
             budget: Mapping[str, Any], seed: int = 0, precision: str = "32-true") -> Iterator[tuple[dict[str, Any],
                                                                                                    Estimate | None]]:
    """One row and the estimate of the pair by each method, as they come; None of one that failed, whose row says why.

    Args:
        pair: the images.
        methods: registry names of methods that are trained, or variants of them.
        told: responses of the two sensors: the PSF decimates both images, and networks that take them are told all.
        source: of what is told, in words.
        root: results folder of the trainings.
        fabric: device and precision.
        budget: fields of the recipes that are replaced beside :data:`BUDGET`; without steps or minutes :data:`LENGTH`.
        seed: of training.
        precision: of training.

    Raises:
        SceneError, MethodError, PlanError: a pair that is too small, names or a budget that do not fit; before anything runs.
    """
    check_names(methods)
    if "," in str(root):
        raise SceneError(f"{root}: a comma in the name of a folder, which weights=FILE cannot name; give another --out")
    length = {} if budget.keys() & {"steps", "minutes"} else LENGTH
    budget = {**length, **budget}
    studies = [_study(pair, name, told, budget, seed, precision) for name in methods]
    plain = _of(pair, told, COMPARED, Reduced(pair, told))
    return _trained(pair, studies, plain, told, source, root, fabric)


def _study(pair: Pair, method: str, told: Responses, budget: Mapping[str, Any], seed: int, precision: str) -> PairStudy:
    """A method's training and the score of what it gives."""
    words: dict[str, Any] = {"bands": len(pair.lr_hsi), "msi_bands": len(pair.hr_msi), "ratio": pair.ratio}
    own = {key: value for key, value in split_label(method)[1].items() if key not in ("recipe", "train")}
    less_offset = hasattr(create(card(method).name, **words, **own), "told")  # refuses arguments that do not fit
    crop = budget.get("crop") or Reduced(pair, told).default_crop(BUDGET["crop"])
    if crop % pair.ratio:
        raise SceneError(f"--crop {crop}: choose a multiple of the ratio {pair.ratio}")
    budget = {**BUDGET, **budget, "crop": crop}
    study = _of(pair, told, (method,), Reduced(pair, told, crop, less_offset), budget, seed, precision)
    study.stages_of(method)  # refuses fewer steps than stages
    return study


def _of(pair: Pair, told: Responses, methods: Sequence[str], data: Reduced, budget: Mapping[str, Any] | None = None,
        seed: int = 0, precision: str = "32-true") -> PairStudy:
    return PairStudy(name="one-scale-down", title=pair.name, methods=tuple(methods), dataset=pair.name, splits=("held-out",),
                     msi_bands=(len(pair.hr_msi),), protocol=protocol_of(pair, told), seeds=(seed,), training=budget or {},
                     precision=precision, data_of_pair=data)


def _trained(pair: Pair, studies: Sequence[PairStudy], plain: PairStudy, told: Responses, source: str, root: Path,
             fabric: Fabric) -> Iterator[tuple[dict[str, Any], Estimate | None]]:
    others = _scores(_run(plain, root, fabric), root)
    for study in studies:
        (method,) = study.methods
        jobs = _run(study, root, fabric)
        training = next(job for job in jobs if job.kind == "train")
        row = {"method": method, "pair": pair.name, "ratio": pair.ratio, "status": "ok", "reason": "", "told": ""}
        if store.state(root, training) != "done":
            reason = store.failure(root, training)[1]
            yield row | {"status": "failed", "reason": f"its training failed: {reason}"} | code_version(), None
            continue
        figures, (score,) = _figures(study, jobs, training, others, root), [job for job in jobs if job.kind == "score"]
        if store.state(root, score) != "done":
            figures["warning"] = f"no score one scale down: {store.failure(root, score)[1]}"
        label = f"{card(method).name}@weights={store.folder(root, training)}"
        for fused, image in fuse_pair(pair, (label,), told, source):
            yield fused | {"method": method} | figures, image


def _run(study: PairStudy, root: Path, fabric: Fabric) -> list[Job]:
    """What a study needs, measured where it is missing or of other code."""
    jobs = [job for job in plan(study, fabric.device.type) if job.kind != "cost"]
    execute(jobs, root, Here(root, fabric), redo_stale=True, retry=True)
    return jobs


def _scores(jobs: Sequence[Job], root: Path) -> dict[str, dict[str, float]]:
    """Method -> its scores on the block held out, of those that have some."""
    return {job.method: {key: float(found.iloc[0][key]) for key in SCORES}
            for job in jobs if job.kind == "score" and store.state(root, job) == "done"
            for found in [rows.read(store.folder(root, job) / "rows.csv")]}


def _figures(study: PairStudy, jobs: Sequence[Job], training: Job, others: Mapping[str, Mapping[str, float]],
             root: Path) -> dict[str, Any]:
    """What the row says of a training: how long, where its parameters are, and how good it is one scale down, beside others."""
    measured = rows.read(store.folder(root, training) / "rows.csv")
    steps = int(measured[measured["method"] == card(study.methods[0]).name]["steps"].iloc[0])
    own = _scores(jobs, root).get(study.methods[0], {})
    best = max(others, key=lambda name: others[name]["psnr_db"], default="")
    worse = bool(own and best) and own["psnr_db"] < others[best]["psnr_db"] + WORTH_DB
    warning = (f"one scale down {best} is as good or better without training, {others[best]['psnr_db']:.2f} against "
               f"{own['psnr_db']:.2f} dB: train in another way, or fuse with it" if worse else "")
    return {"trained": f"trained on this pair, one scale down, {steps} steps", "weights": str(store.folder(root, training)),
            **{f"held_out_{key}": value for key, value in own.items()},
            **{f"held_out_{key}_{name}": value for name, scores in others.items() for key, value in scores.items()},
            "warning": warning}


def say(row: Mapping[str, Any]) -> None:
    """Print a row: figures, what it was trained on, how it compares one scale down; warnings and failures to stderr."""
    if row["status"] != "ok":
        print(f"{row['method']:20} failed: {row['reason']}", file=sys.stderr, flush=True)
        return
    figures = "  ".join(f"{key} {value:.4g}" for key, value in row.items()
                        if isinstance(value, float) and not key.startswith("held_out_"))
    print(f"{row['method']:20} {figures}")
    if "held_out_psnr_db" in row:
        names = {"": row["method"]} | {f"_{name}": name for name in COMPARED if f"held_out_psnr_db_{name}" in row}
        scores = "; ".join(f"{name} " + ", ".join(f"{row[f'held_out_{key}{end}']:.2f} {unit}" for key, unit in SCORES.items())
                           for end, name in names.items())
        print(f"{'':20} {row['trained']}; the best of them on the block held out is kept, there: {scores}")
    if row.get("warning"):
        print(f"{'':20} warning: {row['warning']}", file=sys.stderr)
    name, told = split_label(row["method"])[0], f" --estimator {DEFAULT}" if row["told"] else ""
    print(f"{'':20} on other pairs of these sensors: fuse HSI MSI --methods {name}@weights={row['weights']}{told}", flush=True)
