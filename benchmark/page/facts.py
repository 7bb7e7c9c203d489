"""From a study, its plan and the results folder to what its page shows: every sentence is built from values."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark import measurements, store
from benchmark import rows as tables_of_rows
from benchmark.page.section import Facts, Rows, Split
from benchmark.plan import Job, Study
from benchmark.published import figures
from benchmark.store import Held
from methods import card
from methods.registry import Recipe, split_label, told

SPLIT_WORDS = {
    ("aviris", "test-same-flight"): "Another scene of a flight that was trained on, without a shared pixel.",
    ("aviris", "test-other-flight"): "Scenes of flights that no method was trained on: two of flight B, in radiance as those "
                                     "trained on, and jasper_ridge, in reflectance: another range of values as well.",
}
UNMOVED_DB, SEVERE_DB = 0.01, 25.0  # an output that moves less under noise of so low an SNR on all it sees hangs on nothing
WITHOUT_MSI = ("dsdcn", "ssuf")  # networks that see the LR-HSI alone, as lines that show what the MSI is worth


def rows_of(study: Study, jobs: list[Job], results: Path) -> Rows:
    """What the results folder holds of a study; of trainings, the curves of the methods that the study asks for."""
    curves = measurements.read(results, jobs, "train", "train.csv")
    return Rows(measurements.read(results, jobs, "score"), measurements.costs(results, jobs), asked(curves, jobs),
                read_or_empty(results / "fidelity.csv"), read_or_empty(results / "recorded.csv"),
                estimates=measurements.estimates(results, jobs))


def asked(trained: pd.DataFrame, jobs: Iterable[Job]) -> pd.DataFrame:
    """Of rows of trainings those of methods whose scores need that training: one may train others along."""
    needed = {(job.training.key[:12], job.method) for job in jobs if job.training}
    return trained[[pair in needed for pair in zip(trained["job"], trained["method"])]] if len(trained) else trained


def read_or_empty(path: Path) -> pd.DataFrame:
    """The rows of a file, none where there is no file."""
    return tables_of_rows.read(path) if path.exists() else pd.DataFrame()


def facts_of(study: Study, jobs: list[Job], results: Path, rows: Rows) -> Facts:
    """All that a page says of a study and that no row holds."""
    held = {job.key: store.held(results, job) for job in jobs}
    trained = asked(measurements.read(results, jobs, "train"), jobs)
    budgets = budgets_of(study)
    constant = constant_outputs(rows.scores)
    unranked = unranked_words(study, constant)
    kinds = {method: kind for method in study.methods
             if method not in constant and (kind := kind_of(study, method, len(amounts_of(study)) > 1))}
    # Not of costs: the plan names those of the device that renders, and a page must not depend on it.
    words = [held[job.key].words for job in jobs if job.kind != "cost" and held[job.key].measured]
    told_of = [each["provenance"] for each in words if isinstance(each.get("provenance"), dict)]
    devices = sorted({str(each["device"]) for each in told_of if each.get("device")}
                     | ({str(device) for device in rows.costs["device"]} if len(rows.costs) else set()))
    return Facts(
        study=study.name, title=title_of(study), methods=study.methods, msi_bands=study.msi_bands,
        scenarios=study.scenarios, seeds={method: study.seeds_of(method)
                                          for method in study.methods},
        splits=tuple(Split(study.dataset, part.called(split), tuple(study.data.entries(split)),
                           SPLIT_WORDS.get((study.dataset, split), ""),
                           *((part.protocol.digest, part.msi_bands) if study.views or split in study.sensors else ("", ())),
                           part.views[0].words if study.views else "")
                     for split, part in study.parts),
        protocol=study.protocol.name,
        digest=" ".join(dict.fromkeys(part.protocol.digest for _, part in study.parts)),
        statements=(*budget_statements(budgets), *built_statements(study), *study.statements), labels=study.statements,
        conditions=(("Data", data_words(study)), *fusing_conditions(study), *training_conditions(study, jobs, held, trained),
                    *protocol_conditions(study), ("Devices", ", ".join(devices)),
                    ("Versions", versions(told_of))),
        cards={method: card(method) for method in study.methods},
        arguments={method: study.arguments_of(method) for method in study.methods},
        marks={method: mark for method in study.methods if (mark := mark_of(study, method, method in constant))},
        told={method: what_is_told(study, method) for method in study.methods}, constant=constant,
        kinds=kinds, unranked=unranked, devices=tuple(devices), **lists(jobs, held, rows.costs),
        author_lists={split: tuple(tiles) for split, tiles in study.data.splits().items()}
        if study.dataset == "csakd-tiles" and study.dataset_options.get("lists", "authors") == "authors" else {},
        # The papers' figures are of the papers' networks: none stands beside one that the study builds otherwise.
        published={method: printed for method in study.methods
                   if not study.arguments_of(method) and (printed := figures(method))},
    )


# ------------------------------------------------------------------------------------------------- what follows from values


def title_of(study: Study) -> str:
    """The study's own title, or one made of its values where flags have replaced some: the first may not hold then."""
    if not study.replaced:
        return study.title
    methods = " and ".join((", ".join(study.methods[:-1]), study.methods[-1])) if len(study.methods) > 1 \
        else "".join(study.methods)
    return f"{methods if len(study.methods) <= 4 else f'{len(study.methods)} methods'} on {study.dataset}"


def data_words(study: Study) -> str:
    """Data set, its splits and their images, and the size that they are cut to."""
    options = ", ".join(f"{key} {value}" for key, value in study.dataset_options.items() if key != "root")
    splits = ", ".join(f"{split} ({images} image{'s' if images != 1 else ''})"
                       for split in study.splits for images in [len(study.data.entries(split))])
    side, ratios = study.protocol.hr_size, dict.fromkeys(part.protocol.ratio for _, part in study.parts)
    return (f"{study.dataset}{f' ({options})' if options else ''}: {splits}; scenes cut to {side}x{side} pixels at most, "
            f"ratio {' and '.join(map(str, ratios))}.")


def protocol_conditions(study: Study) -> list[tuple[str, str]]:
    """The protocol, and that of every split that is seen by a sensor of its own or in several ways."""
    heading = f"Protocol {study.protocol.name}"
    return [*dict.fromkeys((f"{heading}, {part.called(split)}" if study.views or split in study.sensors else heading,
                            part.protocol.describe()) for split, part in study.parts)]


def budget_words(stages: tuple[Recipe, ...]) -> str:
    """How much training a recipe is: steps, minutes or epochs in all, and batch, crop and learning rate of its stages."""
    def each(values: Iterable[Any]) -> str:
        return " then ".join(dict.fromkeys(f"{value:g}" for value in values))

    ends = [f"{sum(stage.steps for stage in stages if stage.steps is not None)} steps"] if any(
        stage.steps is not None for stage in stages) else []
    ends += [f"{sum(stage.minutes for stage in stages if stage.minutes is not None):g} minutes"] if any(
        stage.minutes is not None for stage in stages) else []
    ends += [] if ends else [f"{each(stage.epochs for stage in stages)} epochs"]
    where = f" in {len(stages)} stages" if len(stages) > 1 else ""
    rates = each(stage.lr for stage in stages)
    tried = stages[0].lr_range
    words = f"learning rate that of the recipe times one of {', '.join(f'{factor:g}' for factor in tried)}, the best for the " \
        "validation scenes" if tried else f"learning rate {rates}"
    return (f"{' or '.join(ends)}{where}, batch {each(stage.batch for stage in stages)}, "
            f"crop {each(stage.crop for stage in stages)}, {words}")


def amounts_of(study: Study) -> set[str]:
    """Training budgets that differ; budgets in minutes are equal if the minutes a network are, whatever a step takes."""
    found = set()
    for method in study.methods:
        if stages := study.stages_of(method):
            timed = all(stage.minutes is not None for stage in stages)
            minutes = sum(stage.minutes or 0.0 for stage in stages) / len(stages[0].trains)
            found.add(f"{minutes:.6g} minutes" if timed else budget_words(stages))
    return found


def budgets_of(study: Study) -> dict[str, list[str]]:
    """Training budget in words -> the methods that have it, the one of most methods first; of trained methods."""
    found: dict[str, list[str]] = {}
    for method in study.methods:
        stages = study.stages_of(method)
        if stages:
            found.setdefault(budget_words(stages), []).append(method)
    return dict(sorted(found.items(), key=lambda budget: -len(budget[1])))


def budget_statements(budgets: Mapping[str, list[str]]) -> list[str]:
    """The budget that methods share, said once, and those that have another one."""
    if not budgets:
        return []
    if len(budgets) == 1:
        (words, methods), = budgets.items()
        return [f"Training budget of {', '.join(methods)}: {words}"]
    return ["Training budgets: " + "; ".join(f"{', '.join(methods)}: {words}" for words, methods in budgets.items())]


def built_statements(study: Study) -> list[str]:
    """Build arguments that differ from the card, also of methods that are only trained along."""
    along = dict.fromkeys(partner for method in study.methods if study.recipe_of(method)
                          for partner in study.trained_with(method) if partner not in study.methods)
    words = []
    for method in (*study.methods, *along):
        defaults = card(method).defaults
        differs = ", ".join(f"{key} {value} instead of {defaults.get(key)}"
                            for key, value in study.arguments_of(method).items())
        by = f" (trained with {', '.join(m for m in study.methods if study.recipe_of(m) and method in study.trained_with(m))})"
        words += [f"{method}{by if method in along else ''}: {differs}"] if differs else []
    return [f"Built otherwise than on the card: {'; '.join(words)}"] if words else []


def fusing_conditions(study: Study) -> tuple[tuple[str, str], ...]:
    """That networks were fused in reduced precision, where they were."""
    words = "trained networks in reduced precision (speed 'fast': bfloat16 products), as the rows say one by one"
    return (("Fusing", words),) if study.speed == "fast" else ()


def training_conditions(study: Study, jobs: list[Job], held: Mapping[str, Held],
                        trained: pd.DataFrame) -> list[tuple[str, str]]:
    """Recipes, what the study replaces in them, seeds and precision, and how long each training really ran."""
    methods = [method for method in study.methods if study.recipe_of(method)]
    if not methods:
        return []
    recipes: dict[str, list[str]] = {}
    replaced: dict[str, list[str]] = {}
    for method in methods:
        recipes.setdefault(study.recipe or next(iter(card(method).recipes)), []).append(method)
        lines = "; ".join(study.replacements(method)).replace("None", "none")
        replaced.setdefault(lines, []).append(method)
    precision = sorted({str(there.words.get("provenance", {}).get("precision") or there.words["inputs"]["precision"])
                        for job in jobs if job.kind == "train" and (there := held[job.key]).measured
                        and "precision" in there.words.get("inputs", {})})
    runs = []
    for row in trained.itertuples() if len(trained) else ():
        where = [f"{row.msi_bands} MSI bands"] * (len(study.msi_bands) > 1)
        where += [f"seed {row.seed}"] * (len(study.seeds) > 1)
        failed = "" if row.status == "ok" else f", {row.status}"
        runs.append(f"{row.method}{f' ({chr(44).join(where)})' if where else ''} {row.steps} steps in "
                    f"{row.seconds / 60:.1f} minutes{failed}")
    return [
        ("Recipes", "; ".join(f"{name}: {', '.join(names)}" for name, names in recipes.items())),
        ("Replaced in the recipes", "; ".join(f"{', '.join(names)}: {lines}" for lines, names in replaced.items() if lines)),
        ("Seeds of training", ", ".join(map(str, study.seeds))),
        ("Precision of training", ", ".join(precision)),
        ("Trained", "; ".join(runs)),
    ]


def kind_of(study: Study, method: str, unequal: bool) -> str:
    """With which methods one is ranked: known, blind or trained; none for oracles and trainings of unequal budgets."""
    if study.is_oracle(method):
        return ""
    if study.recipe_of(method):
        return "" if unequal else "trained"
    return told(method, study.arguments_of(method))


def constant_outputs(scores: pd.DataFrame) -> tuple[str, ...]:
    """Methods whose PSNR is the same with severe noise on all that they see as without, on every image scored.

    A training that ended in a constant looks robust otherwise.
    """
    if not len(scores):
        return ()
    alone = (scores["noise_target"] == "lr_hsi") & scores["method"].map(lambda each: split_label(each)[0] in WITHOUT_MSI)
    severe = ((scores["noise_target"] == "both") | alone) & (scores["snr_db"] <= SEVERE_DB)
    good = scores[(scores["status"] == "ok") & (severe | (scores["scenario"] == "clean"))]
    levels = good.groupby(["method", "split", "image", "msi_bands", "seed"])["psnr_db"].agg(["min", "max", "count"])
    moved = (levels["max"] - levels["min"] >= UNMOVED_DB) | (levels["count"] < 2)
    return tuple(method for method, each in moved.groupby(level="method", sort=False) if not each.any())


def unranked_words(study: Study, constant: Sequence[str]) -> tuple[str, ...]:
    """Which methods are not ranked, and why."""
    told_it = [method for method in study.methods if card(method).oracle]
    chosen = [method for method in study.methods if study.is_oracle(method) and method not in told_it]
    words = [f"Not ranked: {', '.join(told_it)}, since told the reference."] if told_it else []
    words += [f"Not ranked: {', '.join(chosen)}, since kept where best on the images scored."] if chosen else []
    words += [f"Not ranked: {', '.join(constant)}, whose output hangs on no image: noise on all that it sees, at an SNR of "
              f"{SEVERE_DB:g} dB or less, changes its PSNR by less than {UNMOVED_DB:g} dB."] if constant else []
    if (count := len(amounts_of(study))) > 1:
        words.append(f"Trained methods are not ranked, since their training budgets differ ({count} of them).")
    return tuple(words)


def what_is_told(study: Study, method: str) -> str:
    """What a method is told of the sensors as the study builds it; of networks, whether they take PSF and SRF."""
    takes = inspect.signature(card(method).build).parameters
    return told(method, study.arguments_of(method)) or ("known" if {"psf", "srf"} <= takes.keys() else "")


def mark_of(study: Study, method: str, constant: bool) -> str:
    """What must be said behind a method's name: what it is told, what it is faithful to, and whether it does anything."""
    held = card(method)
    words = [what_is_told(study, method), "oracle" if study.is_oracle(method) else "",
             "described" if held.fidelity == "described" else "", "constant output" if constant else ""]
    return ", ".join(word for word in words if word)


def versions(provenance: Iterable[Mapping[str, Any]]) -> str:
    """The code and the packages that measured."""
    found: dict[str, set[str]] = {"revision": set(), "torch": set(), "python": set()}
    for each in provenance:
        changed = "+changes" if each.get("dirty") is True else ""
        revision = str(each.get("revision", "unknown"))
        found["revision"].add((revision if revision == "unknown" else revision[:12]) + changed)
        for name in ("torch", "python"):
            found[name].add(str(each.get(name, "unknown")))
    return ", ".join(f"{name} {' '.join(sorted(values))}" for name, values in found.items() if values)


def lists(jobs: list[Job], held: Mapping[str, Held], costs: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """The jobs that are not in order, in words: failed, damaged, stale and missing.

    A cost that another device has measured is there; a training is missing only where scores that need it are.
    """
    needed = {job.training.key for job in jobs if job.training and not held[job.key].measured}
    elsewhere = dict(list(costs.groupby(["msi_bands", "method"]))) if len(costs) else {}
    found: dict[str, dict[str, None]] = {name: {} for name in ("failed", "damaged", "stale", "missing")}
    for job in jobs:
        there = held[job.key]
        state, why, label = there.state, there.reason or ", ".join(there.changed), job.label
        if job.kind == "cost" and (job.msi_bands, job.method) in elsewhere:
            parts = sorted(set(elsewhere[job.msi_bands, job.method]["stale"]) - {""})
            state, why = ("stale" if parts else "done"), ", ".join(parts)
        if job.kind == "cost" and state in ("missing", "stale"):  # on no device, or on another one
            label = label.removesuffix(f" {job.device}")
        if state in ("missing", "unfinished"):
            if job.kind != "train" or job.key in needed:
                found["missing"][label + (" (unfinished)" if state == "unfinished" else "")] = None
        elif state != "done":
            found[state][f"{label}: {why}"] = None
    return {name: tuple(labels) for name, labels in found.items()}
