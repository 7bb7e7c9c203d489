"""Every claim of the papers with its verdict: holds, does not hold, or not testable here, and what was measured.

To decide another one, write a function of a section and the claim's text that returns a
:class:`~benchmark.page.verdicts.Verdict`, and its entry in :data:`TESTS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from benchmark.page import claims_counted as counted
from benchmark.page import claims_measured as measured
from benchmark.page.claims_counted import STUDENT, TEACHER
from benchmark.page.section import Section, protocol_words, said
from benchmark.page.tables import Listing
from benchmark.page.verdicts import LEAST_EFFECT_DB, LEAST_SEEDS, LEAST_SHARE, MAIN, Verdict
from benchmark.published import Claim, figures, published

HALVES = ("beba-0.5", "sam-0.5", "kd-0.5", "output-0.5")  # recipes of Table III: one coefficient of the student at 0.5
WORDS = {True: "holds", False: "does not hold", None: "not testable here"}
COUNTED: dict[str, Callable[[Section, str], Verdict]] = {  # the same on every page
    "parameters-reduced": partial(counted.reduction, what="parameters"),
    "macs-reduced": partial(counted.reduction, what="macs"),
    "abstract-smaller": counted.smaller,
    "pzres-lightweight": partial(counted.lighter_half, name="pzres-net"),
    "hyfusion-compact": partial(counted.lighter_half, name="hyfusion"),
    "csa-adds-no-complexity": counted.attention_is_free,
    "grouped-convolution-cheap": counted.grouped,
    "large-student-modest": counted.modest_growth,
    "depth-1333-dearer": counted.depths_dearer,
    "table-4-costs": counted.depths_as_printed,
    "bands-and-images": counted.arithmetic,
    "beba-quadratic-then-linear": counted.beba_regimes,
    "table-2-means": counted.table_2_means,
    "eq-16-noise": counted.noise_of_eq_16,
    "code-sam-loss": counted.sam_loss,
    "code-attention": counted.attention_weighs,
    "test-unseen": counted.unseen,
}
MEASURED: dict[str, Callable[[Section, str], Verdict]] = {  # by the rows of the study that is shown
    "memory-reduced": measured.memory_falls,
    "student-fastest": measured.fastest,
    "real-time": measured.images_a_second,
    "four-costs-competitive": measured.four_costs,
    "heavy-peers": measured.heavy,
    "unsupervised-not-real-time": measured.slow_by_image,
    "teacher-best-table-1": measured.best_of_table_1,
    "student-comparable-or-superior": partial(measured.best_of_all, own=(STUDENT,)),
    "substantial-advance": partial(measured.best_of_all, own=(TEACHER, STUDENT)),
    "readme-competitive": partial(measured.beside_teacher, margin=measured.COMPETITIVE_DB, metrics=MAIN[:1]),
    "no-compromise": partial(measured.beside_teacher, margin=0.0, metrics=MAIN),
    "more-bands-help": measured.more_bands,
    "lightweight-beats-larger": measured.beats_larger,
    "best-under-noise": measured.best_under_noise,
    "all-deteriorate": measured.all_fall,
    "dual-unet-collapses": measured.collapses,
    "dual-unet-cheap": measured.cheap_and_weak,
    "resilient-both-kinds": measured.resilient,
    "csa-helps-under-noise": partial(measured.variant_is_best, key="fusion", value="ssawb", metrics=MAIN[:2], noisy=True,
                                     against=("sum",)),
    "large-helps-sam-rmse": partial(measured.deeper_is_better, large=measured.LARGE_STUDENT, base=STUDENT, metrics=MAIN[1:]),
    "large-helps-teacher": partial(measured.deeper_is_better, large=measured.LARGE_TEACHER, base=TEACHER, metrics=MAIN),
    "depth-1333-best": partial(measured.variant_is_best, key="depths", value=(1, 3, 3, 3), metrics=MAIN[1:]),
    "kd-adds": partial(measured.variant_is_best, key="recipe", value="paper", metrics=MAIN, against=("alone",)),
    "kd-carries-robustness": partial(measured.variant_is_best, key="recipe", value="paper", metrics=MAIN[:2], noisy=True,
                                     against=("alone",)),
    "all-0.1-best": partial(measured.variant_is_best, key="recipe", value="paper", metrics=MAIN, against=("naive", *HALVES)),
    "sam-coefficient-sensitive": partial(measured.variant_is_worst, key="recipe", value="sam-0.5", metrics=MAIN,
                                         among=HALVES),
    "sam-beba-crucial": partial(measured.variant_is_best, key="recipe", value="paper", metrics=MAIN, against=("naive",),
                                base=TEACHER),
    "igarss-state-of-the-art": partial(measured.best_of_all, own=("s3rnet-igarss",)),
    "igarss-noise": partial(measured.best_under_noise, own="s3rnet-igarss"),
    "hyfusion-state-of-the-art": partial(measured.best_of_all, own=("hyfusion",)),
    "sspsr-detail": measured.finer_than_bicubic,
}
TESTS = {**COUNTED, **MEASURED}
COLUMNS = ("claim", "text", "verdict", "measured", "why", "decided by", "prints say", "where", "test")


def decided(section: Section, claim: Claim) -> Verdict:
    """The verdict on a claim; one that no function tests is not testable, for what its test needs."""
    test = TESTS.get(claim.id)
    if test is None:
        return Verdict(None, why=f"needs {', '.join(claim.needs)}; no row of this suite decides it yet")
    return test(section, claim.text)


def claims(section: Section) -> list[Listing]:
    """Every claim of the papers, and those that their equations and code make, decided where they can be."""
    facts, rows = section.facts, []
    altered = [name for name in facts.methods if "@" not in name and figures(name) and name not in facts.published]
    for claim in (*published().claims, *published().beyond):
        verdict = decided(section, claim)
        other = [name for name in altered if name in verdict.measured and claim.id in MEASURED]
        why = "; ".join([verdict.why, *([f"{' and '.join(other)} built smaller or larger than printed"] if other else [])])
        by = "" if verdict.holds is None else "this suite" if claim.id in COUNTED else f"study {facts.study}"
        where = "; ".join(f"{place['source']}, {place['place']}" for place in claim.where)
        rows.append((claim.id, claim.text, WORDS[verdict.holds], verdict.measured, why, by, claim.tables_say, where,
                     claim.test))
    counts = Counter(row[COLUMNS.index("verdict")] for row in rows)
    stale = f" {len(facts.stale)} jobs of this study are stale." if facts.stale else ""
    words = (f"{len(rows)} claims: {', '.join(f'{counts[word]} {word}' for word in WORDS.values())}. A claim holds where every "
             f"interval lies on its side, and not where one lies wholly on the other.{stale}")
    conditions = ("Those without training are decided by counting and computing; the others by the rows of study "
                  f"{facts.study} ({protocol_words(facts)}), trained as it says and not as the papers did: means of "
                  f"differences, by seed where both sides have {LEAST_SEEDS} or more (95 % intervals of Student's t, corrected "
                  "after Bonferroni where one alone refuses a claim), else image by image (bootstrap, 2,000 resamples; of few "
                  "images they are too narrow), splits and MSI settings never averaged. A difference of less than "
                  f"{LEAST_EFFECT_DB:g} dB of PSNR, or {LEAST_SHARE:.1%} of SAM or RMSE, counts neither way. Left aside and "
                  "counted, where methods or their robustness are ranked: those of constant output, those below bicubic on the "
                  "clean images of a split, and under noise those that do not see it.")
    conditions = " ".join([conditions, *said(facts)])
    return [Listing("claims", "Claims of the papers", words, COLUMNS, tuple(rows), conditions)]
