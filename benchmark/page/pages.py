"""The pages that are written: of a study, one table or figure of it, and those of no study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmark.page.artefacts import ARTEFACTS
from benchmark.page.downstream import conditions_of as downstream_conditions
from benchmark.page.estimators import conditions_of as estimator_conditions
from benchmark.page.facts import facts_of, read_or_empty, rows_of
from benchmark.page.index import write_index
from benchmark.page.realism import conditions_of as realism_conditions
from benchmark.page.realism import outside, sets_of
from benchmark.page.render import render, render_apart, render_only
from benchmark.page.section import Facts, Rows
from benchmark.page.speed import conditions_of
from benchmark.plan import Job, PlanError, Study
from benchmark.realism import QUANTITIES
from methods.registry import near


def render_study(study: Study, jobs: list[Job], results: Path, reports: Path) -> Path:
    """Render ``reports/<study>/index.html`` from the rows there are, holes shown as holes, and the index of all pages.

    Args:
        study: what the report should show.
        jobs: its plan.
        results: results folder.
        reports: reports folder.

    Returns:
        The page.

    Raises:
        StoreError: the reports folder cannot be written.
    """
    rows = rows_of(study, jobs, results)
    page = render(reports / study.name, facts_of(study, jobs, results, rows), rows)
    write_index(reports)
    return page


def render_artefact(study: Study, jobs: list[Job], results: Path, reports: Path, name: str) -> list[Path]:
    """Write the files of one table or figure by name; as :func:`render_study`.

    Raises:
        PlanError: no artefact of that name.
    """
    if name not in ARTEFACTS:
        raise PlanError(f"unknown artefact '{name}'.{near(name, ARTEFACTS)} Choices: {', '.join(ARTEFACTS)}")
    if ARTEFACTS[name].page:
        facts, rows, _ = APART[ARTEFACTS[name].page](results)
        return render_only(reports / ARTEFACTS[name].page, facts, rows, name)
    rows = rows_of(study, jobs, results)
    return render_only(reports / study.name, facts_of(study, jobs, results, rows), rows, name)


def render_page(name: str, results: Path, reports: Path) -> Path:
    """Render ``reports/<name>/index.html``, a page of no study, and the index of all pages.

    Args:
        name: a key of :data:`APART`.
        results: results folder; files that a page is made of may lack.
        reports: reports folder.

    Returns:
        The page.

    Raises:
        StoreError: the reports folder cannot be written.
    """
    page = render_apart(reports / name, *APART[name](results))
    write_index(reports)
    return page


def speed_of(results: Path) -> tuple[Facts, Rows, str]:
    """Facts and rows of the page of speed, and what it says of itself in one sentence."""
    rows = Rows(growth=read_or_empty(results / "growth.csv"), speed=read_or_empty(results / "speed.csv"),
                ways=read_or_empty(results / "speed-training.csv"))
    methods = tuple(dict.fromkeys(rows.growth["method"])) if len(rows.growth) else ()
    named = f"{len(methods)} method{'s' if len(methods) > 1 else ''}"
    words = [f"how time and memory of {named} grow with pixels, bands and batch"] if methods else []
    words += [f"{len(rows.speed)} timings against a yardstick"] if len(rows.speed) else []
    sentence = f"{' and '.join(words) or 'nothing measured yet'}."
    facts = Facts(study="speed", title="Speed", methods=methods, msi_bands=(), scenarios=(), splits=(), seeds={}, protocol="",
                  digest="", conditions=tuple(conditions_of(rows)))
    return facts, rows, sentence[0].upper() + sentence[1:]


def estimators_of(results: Path) -> tuple[Facts, Rows, str]:
    """Facts and rows of the page of estimators, and what it says of itself in one sentence."""
    rows = Rows(estimators=read_or_empty(results / "estimators.csv"))
    names = tuple(dict.fromkeys(rows.estimators["estimator"])) if len(rows.estimators) else ()
    facts = Facts(study="estimators", title="Estimators of the sensors' responses", methods=(), msi_bands=(), scenarios=(),
                  splits=(), seeds={}, protocol="", digest="", conditions=tuple(estimator_conditions(rows)))
    return facts, rows, (f"How well {', '.join(names)} find the responses and the PSF of two sensors from their images: "
                         f"{len(rows.estimators)} estimates of pairs, almost all made ones, whose truth is known.")


def downstream_of(results: Path) -> tuple[Facts, Rows, str]:
    """Facts and rows of the page of downstream scores, and what it says of itself in one sentence."""
    rows = Rows(downstream=read_or_empty(results / "downstream.csv"))
    methods = tuple(dict.fromkeys(rows.downstream["method"])) if len(rows.downstream) else ()
    images = rows.downstream["image"].nunique() if methods else 0
    facts = Facts(study="downstream", title="What fused images are good for", methods=methods, msi_bands=(), scenarios=(),
                  splits=(), seeds={}, protocol="", digest="", conditions=tuple(downstream_conditions(rows)))
    return facts, rows, ("Anomaly detection, unmixing and a proxy of classification on the fused images of "
                         f"{images} AVIRIS scenes that come with a map of anomalies: {len(rows.downstream)} measured rows.")


def realism_of(results: Path) -> tuple[Facts, Rows, str]:
    """Facts and rows of the page of realism, and what it says of itself in one sentence."""
    rows = Rows(realism=read_or_empty(results / "realism.csv"),
                realism_curves=read_or_empty(results / "realism-curves.csv"))
    facts = Facts(study="realism", title="Procedural scenes against real ones", methods=(), msi_bands=(), scenarios=(),
                  splits=(), seeds={}, protocol="", digest="", conditions=tuple(realism_conditions(rows)))
    counts = ", ".join(f"{name} {len(QUANTITIES) - len(outside(rows.realism, name))}" for name in sets_of(rows.realism))
    return facts, rows, (f"{len(rows.realism)} scenes, real and procedural, by {len(QUANTITIES)} quantities measured alike. "
                         f"Medians within the range of the real scenes: {counts or 'nothing measured yet'}.")


APART: dict[str, Callable[[Path], tuple[Facts, Rows, str]]] = {  # of no study
    "speed": speed_of, "estimators": estimators_of, "downstream": downstream_of, "realism": realism_of}
