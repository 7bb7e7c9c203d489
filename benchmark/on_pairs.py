"""The commands on a pair of one's own files: fuse, train-on and estimate."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark import store
from benchmark.flags import budget_of, check_precision, device_kind, fabric_of
from methods import pidm, weights
from methods.estimation import DEFAULT

# What reads, fuses and draws is imported by the commands: the libraries behind take seconds to load.
if TYPE_CHECKING:
    from benchmark.pair import Pair

FUSED_BY = ("gsa", "hysure-blind", "subspace-ridge-blind")  # if nothing else is said
TRAINED = ("u2net@anchor=subspace-ridge",)  # likewise: it begins as good as its anchor


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
    if args.estimator == pidm.NAME:
        from benchmark.told import uniform

        pair, words = uniform(pair)
        print(f"{pidm.NAME}: {words}. Both images are made uniform first, then responses estimated", file=sys.stderr)
        args.estimator, record = DEFAULT, {**record, "uniform": pidm.NAME}
    return pair, out, record


def fuse_own(args: argparse.Namespace) -> int:
    """Fuse a pair of files with several methods; 1 if one of them failed."""
    from benchmark.deliver import claim, deliver
    from benchmark.pair import check_names, fuse_pair, needs_told
    from benchmark.piecewise import memory
    from benchmark.told import given as given_responses
    from benchmark.told import judged

    shipped = ("subspace-net@weights=shipped",) if "subspace-net" in weights.shipped() else ()
    names = tuple(dict.fromkeys(args.methods or (*FUSED_BY, *shipped)))
    check_names(names)
    memory(args.memory)  # refused before files are read
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
