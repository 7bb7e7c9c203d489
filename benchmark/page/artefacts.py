"""The tables and figures of a page by name, in the order in which the page shows them.

To add one, write a function of a :class:`~benchmark.page.section.Section` that returns tables and figures, and its entry in
:data:`ARTEFACTS`. ``run_benchmark.py report --only NAME`` writes the files of one, ``list`` names all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.page.plots import Plot
    from benchmark.page.section import Section
    from benchmark.page.tables import Listing, Table


@dataclass(frozen=True)
class Artefact:
    """A table or figure of the page.

    Args:
        chapter: heading of the page under which it stands.
        what: it shows, in one sentence.
        function: that makes it from the rows of a split, or of the whole study: ``"module.name"`` of this package.
        needs: which study's rows it is made of, in words; empty: of any.
        of_study: it is made once a study and not once a split.
        page: folder of the page that it stands on, where its rows are of no study; empty: the page of each study.
        words: further arguments of the function.
        like: which table or figure of the papers has its shape; its captions say so.
    """

    chapter: str
    what: str
    function: str
    needs: str = ""
    of_study: bool = False
    page: str = ""
    words: Mapping[str, Any] = field(default_factory=dict)
    like: str = ""

    def make(self, section: Section) -> Sequence[Table | Listing | Plot]:
        """Call the function. Its module is imported now: what draws takes seconds to load, and ``list`` only names."""
        module, _, name = self.function.partition(".")
        made: Sequence[Table | Listing | Plot] = getattr(import_module(f"benchmark.page.{module}"), name)(section, **self.words)
        return [replace(one, caption=f"{one.caption} Shape: {self.like}.") for one in made] if self.like else made


def _along(axis: str, msi_bands: int) -> dict[str, Any]:
    return {"names": (axis,), "msi_bands": msi_bands}


QUALITY, COST, NOISE, ABLATIONS = "Quality and cost", "Quality against cost", "Robustness", "Ablations"
PICTURES, WORTH, TRAINING, FIDELITY = "Pictures", "What differences are worth", "Training", "Fidelity to the releases"
SPEED, RESPONSES, USES = "Speed", "Responses of the sensors", "Anomalies, abundances and proxy classes"
LIKE = "Procedural scenes against real ones"
KEPT = "with pictures kept"
NOISY = "with noise scenarios"
PREPRINT = "of the CSAKD preprint"
NOISE_CURVES = f"one of Figures 6 to 9 {PREPRINT}"

ARTEFACTS: dict[str, Artefact] = {
    "figure-5": Artefact(PICTURES, "false colour and log residuals, one scale", "pictures.figure_5", KEPT,
                         like=f"Figure 5 {PREPRINT}"),
    "angles": Artefact(PICTURES, "maps of the spectral angle, one scale", "pictures.angle_maps", KEPT),
    "spectra": Artefact(PICTURES, "spectra of three pixels, and their errors", "spectra.spectra", KEPT),
    "bands": Artefact(PICTURES, "PSNR and angle of every band over wavelength", "spectra.by_band", KEPT),
    "figure-10": Artefact(COST, "time against PSNR, memory, Pareto front", "tradeoffs.figure_10", "with costs",
                          like=f"Figure 10 {PREPRINT}"),
    "figure-complexity": Artefact(COST, "parameters against PSNR, clean and under noise", "tradeoffs.figure_complexity",
                                  "with costs and noise scenarios, best with 35 and 15 dB"),
    "table-1": Artefact(QUALITY, "clean scenes: quality, counts, time and memory", "papers.table_1",
                        like=f"Table I {PREPRINT}"),
    "table-long": Artefact(QUALITY, "the 17 methods of the release's table", "papers.table_long", "with any of them",
                           like="the table of the S3RNet release's README"),
    "metrics": Artefact(QUALITY, "clean scenes: every metric", "tables.all_metrics"),
    "images": Artefact(QUALITY, "clean scenes: PSNR image by image", "tables.by_image", "with 2 to 12 images a split"),
    "costs": Artefact(QUALITY, "counts, time and memory with every MSI band count", "tables.costs", "with costs",
                      of_study=True),
    "figure-6": Artefact(NOISE, "noise on the LR-HSI, 4 bands", "plots.curves", NOISY, words=_along("noise-lr-hsi", 4),
                         like=NOISE_CURVES),
    "figure-7": Artefact(NOISE, "noise on the LR-HSI, 6 bands", "plots.curves", NOISY, words=_along("noise-lr-hsi", 6),
                         like=NOISE_CURVES),
    "figure-8": Artefact(NOISE, "noise on both images, 4 bands", "plots.curves", NOISY, words=_along("noise-both", 4),
                         like=NOISE_CURVES),
    "figure-9": Artefact(NOISE, "noise on both images, 6 bands", "plots.curves", NOISY, words=_along("noise-both", 6),
                         like=NOISE_CURVES),
    "table-2": Artefact(NOISE, "noise on both images by SNR, average and area", "papers.table_2", NOISY,
                        like=f"Table II {PREPRINT}"),
    "defects": Artefact(NOISE, "what each defect costs, side by side", "defects.defects", "with four kinds of scenarios"),
    "scenario-curves": Artefact(NOISE, "PSNR and SAM along every other axis", "plots.other_curves",
                                "with two amounts of other scenarios"),
    "scenarios": Artefact(NOISE, "quality along every other axis, and RMSE", "tables.scenarios", "with scenarios beside clean"),
    "ranks": Artefact(WORTH, "mean ranks, tests and critical differences", "statistics.significance",
                      "with 6 images a split for the tests, with more methods more"),
    "table-3": Artefact(ABLATIONS, "coefficients of the losses", "papers.table_3", "with variants @recipe=...",
                        like=f"Table III {PREPRINT}"),
    "figure-11": Artefact(ABLATIONS, "trainings with and without the additional losses", "papers.figure_11",
                          "with variants @recipe=naive", of_study=True, like=f"Figure 11 {PREPRINT}"),
    "table-4": Artefact(ABLATIONS, "depths of the branches", "papers.table_4", "with variants @depths=...",
                        like=f"Table IV {PREPRINT}"),
    "fusion": Artefact(ABLATIONS, "ways of fusing the branches, under noise", "papers.fusions", "with variants @fusion=..."),
    "figure-12": Artefact(ABLATIONS, "with and without the weighting block", "papers.figure_12", "with variants @fusion=sum",
                          like=f"Figure 12 {PREPRINT}"),
    "leak": Artefact(ABLATIONS, "what a split that mixes the tiles of a flight is worth", "papers.leak",
                     "with variants @train=..., such as leak"),
    "training": Artefact(TRAINING, "losses and validation scores", "training.training", "with trained methods", of_study=True),
    "fidelity": Artefact(FIDELITY, "networks against their releases", "tables.fidelity", of_study=True),
    "recorded": Artefact(FIDELITY, "training-free methods against toolboxes", "tables.recorded", of_study=True),
    "figure-growth": Artefact(SPEED, "time and memory against pixels, bands and batch", "speed.growth_curves",
                              "none; results/growth.csv", of_study=True, page="speed"),
    "table-growth": Artefact(SPEED, "slopes of time and memory", "speed.growth", "none; results/growth.csv", of_study=True,
                             page="speed"),
    "speed": Artefact(SPEED, "timings against a yardstick of the same run", "speed.timings", "none; results/speed.csv",
                      of_study=True, page="speed"),
    "figure-ways": Artefact(SPEED, "the pair trained plainly, by the faster layers, in mixed precision",
                            "speed.ways_of_training", "none; results/speed-training.csv", of_study=True, page="speed"),
    "estimators": Artefact(RESPONSES, "errors of each estimator, and what they cost", "estimators.by_estimator",
                           "none; results/estimators.csv", of_study=True, page="estimators"),
    "estimators-by-pair": Artefact(RESPONSES, "what each estimator costs by sensor, PSF and noise", "estimators.by_pair",
                                   "none; results/estimators.csv", of_study=True, page="estimators"),
    "estimators-by-field": Artefact(RESPONSES, "what they and PIDM are worth where the degradation varies over the field",
                                    "estimators.by_field", "none; results/estimators.csv", of_study=True, page="estimators"),
    "figure-downstream": Artefact(USES, "each downstream score against PSNR", "downstream.against_psnr",
                                  "none; results/downstream.csv", of_study=True, page="downstream"),
    "downstream": Artefact(USES, "downstream scores on all scenes, and on those nobody trained on", "downstream.scores",
                           "none; results/downstream.csv", of_study=True, page="downstream"),
    "downstream-ranks": Artefact(USES, "how far PSNR and SAM order methods as each downstream score does",
                                 "downstream.correlations", "none; results/downstream.csv", of_study=True, page="downstream"),
    "figure-realism": Artefact(LIKE, "spatial spectrum, SNR and correlation of real and procedural scenes", "realism.curves",
                               "none; results/realism.csv", of_study=True, page="realism"),
    "realism": Artefact(LIKE, "statistics of real and procedural scenes", "realism.statistics", "none; results/realism.csv",
                        of_study=True, page="realism"),
    "realism-scores": Artefact(LIKE, "scores on real and procedural scenes", "realism.scores", "none; results/realism.csv",
                               of_study=True, page="realism"),
    "claims": Artefact("Claims of the papers", "what the papers claim, and what holds", "claims.claims", of_study=True),
}
