"""Every method by name: what it is (:class:`Method`), how it is trained (:class:`Recipe`), how it is built and called."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

FAMILIES = ("classical", "unsupervised", "supervised")
STANDARD = ("bands", "msi_bands", "ratio", "psf", "srf", "phase")  # what every method may be told


class MethodError(ValueError):
    """A method that cannot be found, built or called: names the value, the choices and the remedy."""


@dataclass(frozen=True)
class Recipe:
    """How a supervised method is trained.

    Args:
        task: ``task(models, recipe)`` -> module whose forward takes a batch and returns a dict of loss terms.
        trains: entries that are trained together, in the order in which ``schedule`` names their schedules.
        optimizer: ``"adam"`` or ``"adamw"``.
        lr: initial learning rate.
        weight_decay: of the optimizer.
        schedule: one name for all, or one an entry: ``"constant"``, ``"cosine"``, ``"cosine:FLOOR"``,
            ``"step:EPOCHS:FACTOR"``, ``"multistep:EPOCH,EPOCH,...:FACTOR"``.
        epochs: passes over the training images, one crop an image.
        batch: images a step.
        crop: side of the square HR crop in pixels.
        augment: any of ``"flip"``, ``"rotate"``.
        train_snr_db: SNR of white noise added to the LR-HSI crop of each entry, in dB; infinite: none.
        keep: ``"last"`` parameters, or those with the ``"best-sam"`` or ``"best-psnr"`` on the validation split, entry
            by entry.
        steps: a budget in optimizer steps, in place of ``epochs``.
        minutes: a budget in minutes of training, in place of ``epochs``; schedules follow the share used up.
        log_every: steps between two logged (and validated) epochs; None: one pass over the images.
    """

    task: Callable
    trains: tuple[str, ...]
    optimizer: str = "adam"
    lr: float = 1e-4
    weight_decay: float = 0.0
    schedule: str | tuple[str, ...] = "cosine"
    epochs: int = 600
    batch: int = 4
    crop: int = 128
    augment: tuple[str, ...] = ("flip", "rotate")
    train_snr_db: float = math.inf
    keep: str = "last"
    steps: int | None = None
    minutes: float | None = None
    log_every: int | None = None


@dataclass(frozen=True)
class Method:
    """The card of a method.

    Args:
        name: kebab-case.
        family: one of :data:`FAMILIES`.
        build: called with those of the :data:`STANDARD` arguments that it declares, and its own overrides.
        paper: authors, title or short name, venue.
        year: of the paper.
        fidelity: ``"release"`` (equal to the authors' code), ``"described"`` (built from a description, nothing
            recorded to compare with) or ``"reference"`` (equal to a public toolbox).
        source: repository and commit the figures of ``fidelity`` come from.
        published: figures of the paper by MSI band count: ``{4: {"parameters": 26.81e6, "macs": 941.77e9}}``.
        input_range: value range of the network's own inputs and outputs; :func:`fuse` maps it.
        recipes: training recipes by name, the default first, a tuple where training has stages; empty for
            training-free methods.
        note: what a reader of a table must know, one sentence.
    """

    name: str
    family: str
    build: Callable
    paper: str
    year: int
    fidelity: str
    source: str = ""
    published: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    input_range: tuple[float, float] = (0.0, 1.0)
    recipes: Mapping[str, Recipe | tuple[Recipe, ...]] = field(default_factory=dict)
    note: str = ""


_METHODS: dict[str, Method] = {}


def register(name: str, family: str, **card) -> Callable:
    """Decorator of a build function: add it to the registry as ``name``; ``card`` fills :class:`Method`."""

    def add(build: Callable) -> Callable:
        if name in _METHODS:
            raise MethodError(f"method '{name}' is registered twice")
        if family not in FAMILIES:
            raise MethodError(f"method '{name}': family '{family}'; choices: {', '.join(FAMILIES)}")
        _METHODS[name] = Method(name=name, family=family, build=build, **card)
        return build

    return add


def available(family: str | None = None) -> list[str]:
    """Sorted names of all methods, or of one family."""
    return sorted(name for name, method in _METHODS.items() if family in (None, method.family))


def card(name: str) -> Method:
    """The card of a method.

    Raises:
        MethodError: unknown name; the message lists the choices and the nearest one.
    """
    if name not in _METHODS:
        near = difflib.get_close_matches(name, _METHODS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise MethodError(f"unknown method '{name}'.{hint} Choices: {', '.join(available())}")
    return _METHODS[name]


def create(name: str, *, bands: int, msi_bands: int, ratio: int = 4, psf: torch.Tensor | None = None,
           srf: torch.Tensor | None = None, phase: int | None = None, **overrides) -> Any:
    """Build a method.

    Args:
        name: one of :func:`available`.
        bands: of the hyperspectral image.
        msi_bands: of the multispectral image.
        ratio: HR pixels per LR pixel along one side.
        psf: (k, k), sums to 1; what the method is told, None if blind.
        srf: (msi_bands, bands); what the method is told, None if blind.
        phase: 0-based index of the first HR sample that decimation keeps, None if blind.
        **overrides: arguments of the method's own builder.

    Returns:
        A callable ``(lr_hsi (B, bands, h, w), hr_msi (B, msi_bands, H, W)) -> (B, bands, H, W)`` in the method's own
        value range, an ``nn.Module`` for supervised methods; its ``card`` attribute is the method's card.

    Raises:
        MethodError: unknown name or override.
    """
    method = card(name)
    told = dict(zip(STANDARD, (bands, msi_bands, ratio, psf, srf, phase)))
    accepted = inspect.signature(method.build).parameters
    own = [key for key in accepted if key not in STANDARD]
    for key in overrides:
        if key not in own:
            raise MethodError(f"method '{name}' has no argument '{key}'; choices: {', '.join(own) or 'none'}")
    model = method.build(**{key: value for key, value in told.items() if key in accepted}, **overrides)
    model.card = method
    return model


def told(name: str, arguments: Mapping[str, Any] | None = None) -> list[str]:
    """What a method is told beyond the two images: for the marks in tables.

    Args:
        name: one of :func:`available`.
        arguments: its own arguments where they are not the defaults.

    Returns:
        ``"known"`` (responses are told) or ``"blind"`` for methods that are not trained, and ``"oracle"`` for those
        that look at the reference.
    """
    method = card(name)
    accepted = inspect.signature(method.build).parameters
    chosen = {key: parameter.default for key, parameter in accepted.items()} | dict(arguments or {})
    known = chosen.get("mode")
    if known not in ("known", "blind"):  # another `mode`, or none: what it may be told decides
        known = "known" if accepted.keys() & {"psf", "srf"} else "blind"
    oracle = name.endswith("-oracle") or chosen.get("stop") == "oracle"
    return [*([known] if method.family != "supervised" else []), *(["oracle"] if oracle else [])]


def load_release(model: torch.nn.Module, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Load the authors' published parameters by their key names, in place.

    ``_orig_mod.`` prefixes (saved from a compiled module) are dropped, and buffers by the names in the model's ``derived``,
    which follow from the image size and are computed here; nothing else is forgiven.

    Raises:
        MethodError: missing or extra keys, or other shapes; the message names them.
    """
    derived = getattr(model, "derived", ())
    given = {key.removeprefix("_orig_mod."): value for key, value in state_dict.items() if key.split(".")[-1] not in derived}
    own = model.state_dict()
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    other = [f"{k} {tuple(given[k].shape)}, not {tuple(own[k].shape)}" for k in own.keys() & given.keys()
             if given[k].shape != own[k].shape]
    if missing or extra or other:
        raise MethodError(
            f"these parameters do not belong to '{model.card.name}' as built: missing {missing[:5]} ({len(missing)}), "
            f"extra {extra[:5]} ({len(extra)}), other shapes {sorted(other)[:5]} ({len(other)}). "
            "Build it with the settings of the checkpoint (bands, msi_bands, depths, fusion)."
        )
    model.load_state_dict(given)


@torch.no_grad()
def fuse(model: Callable, lr_hsi: torch.Tensor, hr_msi: torch.Tensor, reference: torch.Tensor | None = None) -> torch.Tensor:
    """Fuse with any method: [0, 1] in and out, evaluation mode, no gradient.

    Args:
        model: what :func:`create` returned.
        lr_hsi: (B, bands, h, w).
        hr_msi: (B, msi_bands, H, W), H = ratio * h.
        reference: (B, bands, H, W), the true HR-HSI; shown to a model only whose attribute ``oracle`` is true.

    Returns:
        The estimated HR-HSI, (B, bands, H, W), not clipped.

    Raises:
        MethodError: an oracle without a reference.
    """
    if isinstance(model, torch.nn.Module):
        model.eval()
    oracle = getattr(model, "oracle", False)
    if oracle and reference is None:
        raise MethodError(f"method '{model.card.name}' looks at the reference HR-HSI and was given none; take a method that "
                          "does not, or pass the reference where there is one")
    images = (lr_hsi, hr_msi, reference) if oracle else (lr_hsi, hr_msi)
    low, high = model.card.input_range
    if (low, high) == (0.0, 1.0):
        return model(*images)
    span = high - low
    return (model(*(image * span + low for image in images)) - low) / span
