"""Claims that need no training: decided by counting networks, by evaluating equations and code, and from the prints."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

import pandas as pd
import torch

from benchmark.complexity import multiply_adds
from benchmark.page.section import Section
from benchmark.page.verdicts import Verdict
from benchmark.published import LONG, TABLE_2, TABLE_4, printed, published
from datasets.aviris_bands import KEPT_172
from methods import create
from methods.losses import beba_paper, beba_release, sam_paper, sam_release
from methods.registry import trait

BANDS, LR_SIZE, HR_SIZE = len(KEPT_172), 64, 256  # the papers' sizes
TEACHER, STUDENT = "s3rnet-teacher", "s3rnet-student"
FLIGHT = re.compile(r"f\d{6}t\d{2}p\d{2}r\d{2}")  # how AVIRIS names its flight lines


@dataclass(frozen=True)
class Counts:
    """Parameters that take part, and multiply-adds of convolutions and linear layers and of attention's products."""

    parameters: int
    macs: float
    macs_attention: float


@cache
def counted(name: str, msi_bands: int = 4, every_stack: bool = False, **arguments: Any) -> Counts:
    """Counts of a network at the papers' sizes, nothing computed.

    S3RNet is counted with its queries and keys, which its release runs although they cannot reach the output, and with
    ``every_stack`` also with the student's stack of Z_hm, which its release builds and does not run.
    """
    own = {"attention": "paper"} if name.startswith((TEACHER, STUDENT)) else {}
    with torch.device("meta"):
        model = create(name, bands=BANDS, msi_bands=msi_bands, **(own | arguments))
    unused = () if every_stack else tuple(trait(model, "unused"))
    if every_stack:
        model.decoder.run_hm = True
    used = sum(p.numel() for key, p in model.named_parameters() if not (unused and key.startswith(unused)))
    return Counts(used, *multiply_adds(model, BANDS, msi_bands, LR_SIZE, HR_SIZE))


def reduction(section: Section, text: str, what: str) -> Verdict:
    """Whether the student has the said share less of ``what`` than the teacher, to the digits of the print."""
    said = float(re.search(r"([\d.]+) %", text)[1])  # type: ignore[index]
    found = {bands: 100 * (1 - getattr(counted(STUDENT, bands), what) / getattr(counted(TEACHER, bands), what))
             for bands in (4, 6)}
    words = ", ".join(f"{value:.2f} % with {bands} MSI bands" for bands, value in found.items())
    return Verdict(all(f"{value:.1f}" == f"{said:.1f}" for value in found.values()), f"1 - student / teacher: {words}",
                   f"counted here, against {said:g} %")


def of_teacher(section: Section, text: str) -> Verdict:
    """The student against its teacher."""
    student, teacher = counted(STUDENT), counted(TEACHER)
    shares = student.parameters / teacher.parameters, student.macs / teacher.macs
    return Verdict(max(shares) < 0.5, f"{STUDENT} / {TEACHER}: {shares[0]:.3f} of the parameters, {shares[1]:.3f} of the "
                   "multiply-adds", "taken as: less than half of both")


def smaller(section: Section, text: str) -> Verdict:
    """The student against its teacher, and its rank among all that were counted."""
    found, rank = of_teacher(section, text), rank_of(section, STUDENT)
    return Verdict(found.holds, "; ".join([found.measured, *([rank[1]] if rank else [])]),
                   f"against its teacher, {found.why}; against others it is a matter of rank")


def lighter_half(section: Section, text: str, name: str) -> Verdict:
    """Whether a network is in the lighter half of the release's table in parameters and in multiply-adds."""
    rank = rank_of(section, name)
    if not rank:
        return Verdict(None, why=f"'{name}' is not counted: python run_benchmark.py fidelity")
    return Verdict(max(rank[0]) <= rank[2] / 2, rank[1], "every layer counted once; taken as: in the lighter half of both")


def rank_of(section: Section, name: str) -> tuple[tuple[int, int], str, int] | None:
    """Ranks from the smallest among the supervised methods of the release's table, by the committed counts."""
    rows = section.rows.fidelity
    peers = {row.method for row in published().tables[LONG].rows if row.place["supervised"]} | {name}
    rows = rows[rows["method"].isin(peers)].set_index("method") if len(rows) else pd.DataFrame()
    if name not in rows.index or len(rows) < len(peers):
        return None
    ranks = tuple(int((rows[key] < rows.loc[name, key]).sum()) + 1 for key in ("parameters_used", "macs_conv"))
    return (ranks[0], ranks[1]), (
        f"{name}: {rows.loc[name, 'parameters_used'] / 1e6:.2f} M parameters, rank {ranks[0]} from the smallest of {len(rows)} "
        f"supervised methods of the release's table, {rows.loc[name, 'macs_conv'] / 1e9:.1f} G multiply-adds, rank {ranks[1]}"
    ), len(rows)


def attention_is_free(section: Section, text: str) -> Verdict:
    """What the weighting block costs beyond a plain sum."""
    words, dearer = [], []
    for name in (TEACHER, STUDENT):
        plain, block = counted(name, fusion="sum"), counted(name)
        parameters = 100 * (block.parameters / plain.parameters - 1)
        macs = 100 * ((block.macs + block.macs_attention) / plain.macs - 1)
        dearer.append(parameters > 0 or macs > 0)
        words.append(f"{name}: {parameters:+.2f} % parameters, {macs:+.2f} % multiply-adds")
    return Verdict(not any(dearer), f"fusion 'ssawb' against 'sum': {'; '.join(words)}",
                   "it adds, though little" if any(dearer) else "it adds nothing")


def grouped(section: Section, text: str) -> Verdict:
    """Cost of a grouped residual group, from two depths of the student's Z_h branch; its quality is another matter."""
    less, more = (counted(STUDENT, depths=(1, 4, depth, 1)) for depth in (4, 5))
    full_less, full_more = (counted(STUDENT, depths=(1, depth, 4, 1)) for depth in (4, 5))
    cost, full = more.parameters - less.parameters, full_more.parameters - full_less.parameters
    holds = None if cost < full else False
    return Verdict(holds, f"a grouped residual group has {cost / 1e6:.3f} M parameters, one without groups {full / 1e6:.3f} M",
                   "cost cut as said; that quality is kept needs the student trained without groups")


def modest_growth(section: Section, text: str) -> Verdict:
    """The large student over the student."""
    large, base = counted(f"{STUDENT}-large"), counted(STUDENT)
    growth = large.parameters / base.parameters, large.macs / base.macs
    return Verdict(False if max(growth) > 2 else None, f"{growth[0]:.2f} times the parameters, {growth[1]:.2f} times the "
                   "multiply-adds", "taken as: no cost more than doubles" if max(growth) > 2 else "its time is not measured")


def depths_dearer(section: Section, text: str) -> Verdict:
    """Depths 1, 3, 3, 3 over 1, 4, 4, 1."""
    one, other = counted(STUDENT, depths=(1, 3, 3, 3)), counted(STUDENT, depths=(1, 4, 4, 1))
    ratio = one.parameters / other.parameters, one.macs / other.macs
    return Verdict(min(ratio) > 1, f"{ratio[0]:.2f} times the parameters, {ratio[1]:.2f} times the multiply-adds", "counted")


def depths_as_printed(section: Section, text: str) -> Verdict:
    """Table IV's costs, depths in the registry's order (hm, mh, h, m), and what they are with the first stack run."""
    words, met = [], []
    for row in published().tables[TABLE_4].rows:
        depths = tuple(row.place["depths"])
        own, said = counted(STUDENT, depths=depths), {key: printed(TABLE_4, STUDENT, key, depths=depths).value
                                                      for key in ("parameters", "macs")}
        off = abs(own.parameters / said["parameters"] - 1), abs(own.macs / said["macs"] - 1)
        met.append(max(off) < 0.01)
        words.append(f"{depths}: {own.parameters / 1e6:.3f} M for {said['parameters'] / 1e6:.3f} M, "
                     f"{own.macs / 1e9:.1f} G for {said['macs'] / 1e9:.0f} G")
    first = (counted(STUDENT, every_stack=True).macs - counted(STUDENT).macs) / 1e9
    return Verdict(all(met), "; ".join(words), "to 1 %, with the first stack not run, as in the release: to run it costs "
                   f"{first:.0f} G more for each of its groups (defects student-first-branch, depth-order)")


def arithmetic(section: Section, text: str) -> Verdict:
    """Bands that are left, and the sum of the splits."""
    images, *parts = (int(word.replace(",", "")) for word in re.search(  # type: ignore[union-attr]
        r"([\d,]+) images are ([\d,]+) \+ ([\d,]+) \+ ([\d,]+)", text).groups())
    said = int(re.search(r"are (\d+);", text)[1])  # type: ignore[index]
    return Verdict((BANDS, sum(parts)) == (said, images), f"{BANDS} bands left; {' + '.join(map(str, parts))} = {sum(parts)}",
                   "arithmetic")


def beba_regimes(section: Section, text: str) -> Verdict:
    """By what power BEBA grows with the error, far below and far above its threshold of 1; the additive constant apart."""
    reference = torch.ones(1, 1, 2, 2, dtype=torch.float64)

    def power(loss: Any, error: float) -> float:
        zero, one, twice = (float(loss(reference + each, reference)) for each in (0.0, error, 2 * error))
        return math.log2((twice - zero) / (one - zero))

    found = {name: (power(loss, 1e-3), power(loss, 1e3)) for name, loss in (("Eq. 12", beba_paper), ("release", beba_release))}
    small, large = found["Eq. 12"]
    words = "; ".join(f"{name}: power {low:.2f} for small, {high:.2f} for large errors" for name, (low, high) in found.items())
    return Verdict(round(small, 1) == 2 and round(large, 1) == 1, words, "its D is the squared error on both sides of beta")


def noise_of_eq_16(section: Section, text: str) -> Verdict:
    """The ratio that noise of the printed amplitude, rms times 10^(SNR / 10), has; by definition it is 10^(-SNR / 20)."""
    generator = torch.Generator().manual_seed(0)
    signal, noise = (torch.randn(200_000, generator=generator, dtype=torch.float64) for _ in range(2))

    def ratio_db(amplitude: float) -> float:
        power = signal.square().mean()
        return float(10 * torch.log10(power / (amplitude * power.sqrt() * noise).square().mean()))

    asked = (25, 45)
    as_printed, defined = ([ratio_db(10 ** power) for power in powers] for powers in (
        [snr / 10 for snr in asked], [-snr / 20 for snr in asked]))
    met = all(abs(found - snr) < 0.5 for found, snr in zip(as_printed, asked))
    words = "; ".join(f"asked {snr} dB: as printed {found:.1f} dB, by definition {other:.1f} dB"
                      for snr, found, other in zip(asked, as_printed, defined))
    return Verdict(met, words, "the printed noise grows with the ratio")


def table_2_means(section: Section, text: str) -> Verdict:
    """Every average of Table II from its six cells."""
    levels, off, rounded = (25, 30, 35, 40, 45, math.inf), [], 0
    methods = dict.fromkeys(row.method for row in published().tables[TABLE_2].rows)
    for method in methods:
        for column in ("psnr_db", "sam_deg"):
            mean = fmean(printed(TABLE_2, method, column, snr_db=level).value for level in levels)
            said = printed(TABLE_2, method, column, scenario="average").value
            off.append(abs(said - mean))
            rounded += abs(said - mean) > 0.0005 - 1e-9  # a tie rounds up
    return Verdict(max(off) < 0.001, f"{len(off)} averages, at most {max(off):.4f} off; {rounded} not the rounded mean",
                   "cut to three digits, not rounded, and with the images without noise")


def sam_loss(section: Section, text: str) -> Verdict:
    """Spectra scaled pixel by pixel keep their angle, bands scaled one by one do not: what each loss sees."""
    generator = torch.Generator().manual_seed(0)
    image, factors = (torch.rand(1, 8, 16, 16, generator=generator, dtype=torch.float64) + 0.2 for _ in range(2))
    by_pixel, by_band = image * factors[:, :1], image * factors[:, :, :1, :1]
    seen = {name: (float(loss(by_pixel, image)), float(loss(by_band, image)))
            for name, loss in (("Eq. 13", sam_paper), ("release", sam_release))}
    pixel, band = seen["release"]
    words = "; ".join(f"{name}: {one:.4f} for pixels scaled, {two:.4f} for bands scaled" for name, (one, two) in seen.items())
    return Verdict(abs(pixel) < 1e-6 < band, words, "its rows run along the pixels of one band: a spatial cosine")


def attention_weighs(section: Section, text: str) -> Verdict:
    """Finite differences of the release's contraction, and of the matrix product of Eq. 9, in queries and keys."""
    generator = torch.Generator().manual_seed(0)
    query, key, value, other = (torch.randn(1, 4, 16, 25, generator=generator, dtype=torch.float64) for _ in range(4))

    def change(product: str) -> float:
        one, two = (torch.einsum(product, torch.softmax(q @ k.mT / 4, -1), value) for q, k in ((query, key), (other, other)))
        return float((one - two).abs().max() / one.abs().max())

    separate, matrix = change("bhqk,bhcd->bhqd"), change("bhqk,bhkd->bhqd")
    return Verdict(separate > 1e-9, f"other queries and keys change the output by {separate:.0e} of its largest value in the "
                   f"release's contraction, by {matrix:.2f} in the matrix product",
                   "it sums the weights and the values separately, and the weights of a query sum to one")


def unseen(section: Section, text: str) -> Verdict:
    """Flight lines of the test list that are in the training list too."""
    train, test = (section.facts.author_lists.get(name, ()) for name in ("train", "test"))
    if not train or not test:
        return Verdict(None, why="the authors' lists are not part of this project: a study of csakd-tiles with their files "
                                 "decides it")
    lines = _flights(train)
    shared = [name for name in test if set(_flights([name])) & set(lines)]
    if not _flights(test):
        return Verdict(None, why="the names in the lists tell no flight line")
    return Verdict(not shared, f"{len(shared)} of {len(test)} test tiles are of flight lines of the training list", "by name")


def _flights(names: Sequence[str]) -> list[str]:
    return [found[0] for name in names if (found := FLIGHT.search(name))]
