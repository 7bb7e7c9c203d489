"""What the rows of all studies say together: ``reports/findings.md``, its answers first.

    python run_benchmark.py findings

Every number is taken from rows; sentences hold whatever the numbers are. What has no rows yet is said to be missing.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from benchmark import store
from benchmark.page.findings import choosing, papers, trusting
from benchmark.page.findings.parts import OTHER, Part, held_in, markdown
from benchmark.plan import PlanError

PLACE = ("<!-- leaders -->", "<!-- end of leaders -->")
PARTS = (choosing.which, choosing.leading, choosing.six_bands, choosing.defects, trusting.more_minutes, trusting.folds,
         trusting.seeds, trusting.kept, trusting.trainings, papers.orderings, papers.claimed, papers.ideas,
         papers.distillation, papers.leak, papers.uses)


def findings(results: Path) -> str:
    """The text.

    Args:
        results: results folder.
    """
    held = cache(lambda name: held_in(name, results))
    parts = [part(held) for part in PARTS]
    splits = held("aviris").splits
    facts = splits[OTHER].facts
    images = ", ".join(f"{name} {len(section.split.images)}" for name, section in splits.items() if section.split)
    return "\n\n".join([
        "# Findings",
        f"From the rows of [study aviris](aviris/index.html): {len(facts.methods)} methods, held-out images: {images}. PSNR in "
        "dB, 4 MSI bands where nothing else is said. " + ". ".join(facts.labels) + ".",
        "\n".join(f"{number}. **{part.title}**: {part.answer or 'Not measured yet.'}" for number, part in enumerate(parts, 1)),
        *(_section(number, part) for number, part in enumerate(parts, 1) if part.body)]) + "\n"


def _section(number: int, part: Part) -> str:
    return "\n\n".join([f"## {number}. {part.title}", *part.body])


def write_findings(results: Path, reports: Path, readme: Path | None = None) -> Path:
    """Write ``findings.md`` of the reports folder, and the table of the leaders into a text that has a place for it.

    Args:
        results: results folder.
        reports: reports folder.
        readme: a text with the lines of :data:`PLACE`, between which the table is put.

    Raises:
        StoreError: it cannot be written.
    """
    path = reports / "findings.md"
    with store.writing(reports, "--reports"):
        reports.mkdir(parents=True, exist_ok=True)
        path.write_text(findings(results), encoding="utf-8")
    if readme is not None:
        with store.writing(readme.parent, "--readme"):
            readme.write_text(with_leaders(readme.read_text(encoding="utf-8"), results), encoding="utf-8")
    return path


def with_leaders(text: str, results: Path) -> str:
    """A text with the table of the leaders between the lines of :data:`PLACE`.

    Raises:
        PlanError: the text has no such lines.
    """
    before, begin, rest = text.partition(PLACE[0])
    _, end, after = rest.partition(PLACE[1])
    if not (begin and end):
        raise PlanError(f"no place for the table: put the lines {PLACE[0]} and {PLACE[1]} into the text")
    return f"{before}{begin}\n{markdown(choosing.leaders(cache(lambda name: held_in(name, results)), 2))}\n{end}{after}"
