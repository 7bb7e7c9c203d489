"""The tables and figures of a page by name, in the order in which the page shows them.

To add one, write a function of a :class:`~benchmark.page.section.Section` that returns tables and figures, and its entry in
:data:`ARTEFACTS`. ``run_benchmark.py report --only NAME`` writes the files of one, ``list`` names all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmark.page import plots, tables, training
from benchmark.page.claims import claims
from benchmark.page.plots import Plot
from benchmark.page.section import Section
from benchmark.page.tables import Listing, Table

Made = Sequence[Table | Listing | Plot]


@dataclass(frozen=True)
class Artefact:
    """A table or figure of the page.

    Args:
        chapter: heading of the page under which it stands.
        what: it shows, in one sentence.
        needs: which study's rows it is made of, in words; empty: of any.
        make: from the rows of a split, or of the whole study.
        of_study: it is made once a study and not once a split.
    """

    chapter: str
    what: str
    make: Callable[[Section], Made]
    needs: str = ""
    of_study: bool = False


ARTEFACTS: dict[str, Artefact] = {
    "accuracy": Artefact("Quality and cost", "clean scenes: quality, counts, time and memory", tables.accuracy),
    "metrics": Artefact("Quality and cost", "clean scenes: every metric", tables.all_metrics),
    "noise-curves": Artefact("Robustness to noise", "PSNR and SAM against SNR", plots.noise_curves, "with noise scenarios"),
    "noise": Artefact("Robustness to noise", "quality by SNR, one table a metric", tables.robustness, "with noise scenarios"),
    "training": Artefact("Training", "losses and validation scores", training.training, "with trained methods", of_study=True),
    "fidelity": Artefact("Fidelity to the releases", "networks against their releases", tables.fidelity, of_study=True),
    "recorded": Artefact("Fidelity to the releases", "training-free methods against toolboxes", tables.recorded,
                         of_study=True),
    "claims": Artefact("Claims of the papers", "what the papers claim, and what holds", claims, of_study=True),
}
