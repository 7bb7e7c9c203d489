"""Every method by name: what it is (:class:`Method`), how it is trained (:class:`Recipe`), how it is built and called.

Wherever a method's name is taken, ``name@key=value,key=value`` names it with other build arguments. Every method that is
trained takes five more keys: ``recipe`` is the recipe of its card that it is trained by, ``train`` which scenes of the data set
it is trained on, ``keep`` which parameters of a training are kept (:class:`Recipe`), ``weights`` a file of parameters in the
place of a training (:mod:`methods.weights`), ``anchor`` a method without training that it then corrects
(:mod:`methods.anchored`).
"""

from __future__ import annotations

import ast
import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

FAMILIES = ("classical", "unsupervised", "supervised")
FIDELITIES = ("release", "described", "reference")
TOLD = ("known", "blind")
RESERVED = ("recipe", "train", "keep")  # keys of a variant that say how it is trained
KEEPS = ("last", "best-sam", "best-psnr", "best-on-test")
WRAPPED = ("weights", "anchor")  # build arguments that every method that is trained takes
VARIED = ("bands", "gain", "sensor", "psf", "ratio", "noise", "misregistration")  # what a recipe may draw anew for each crop
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
        keep: one of :data:`KEEPS`: the ``"last"`` parameters, or those with the ``"best-sam"`` or ``"best-psnr"`` on the
            validation split, entry by entry; ``"best-on-test"`` takes the best PSNR on the held-out images themselves, as
            some releases do: its scores are those of an oracle.
        steps: a budget in optimizer steps, in place of ``epochs``.
        minutes: a budget in minutes of training, in place of ``epochs``; schedules follow the share used up. On a CPU minutes
            of its processor, whatever else runs beside.
        log_every: steps between two logged (and validated) epochs; None: one pass over the images.
        stage: name of this stage of a training of several; its task is told it (:meth:`methods.tasks.Task.begin`), and
            keys hold it in the place of the task's name.
        clip: largest Euclidean norm of all gradients of a step; larger ones are scaled down to it; None: as they are.
        ema: decay a step of the moving average of the parameters that is validated and kept in their place; None: none.
        drop_last: leave out the last images of a pass that do not fill a batch; else batches run on into the next pass.
        recompute: keep no activations inside of repeated blocks and compute them anew in the backward pass: less memory, the
            same numbers, more time.
        weights: coefficients of loss terms that are not the task's own, as ``((term, coefficient), ...)``.
        vary: what of each crop is drawn anew, any of :data:`VARIED`: the network is told the responses of each and one
            training serves any number of MSI bands (:mod:`benchmark.varied`); empty: all as the protocol says.
        lr_range: factors on the learning rate, each tried at first for a twentieth of the budget, on top of it; the one with
            the best PSNR on the validation split is trained with. Empty: the rate as it is.
    """

    # What stands in every key, as committed rows have it; a field that came later is left out while at its default.
    KEYED: ClassVar = ("task", "trains", "optimizer", "lr", "weight_decay", "schedule", "epochs", "batch", "crop",
                       "augment", "train_snr_db", "keep", "steps", "minutes", "log_every")

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
    stage: str = ""
    clip: float | None = None
    ema: float | None = None
    drop_last: bool = False
    recompute: bool = False
    weights: tuple[tuple[str, float], ...] = ()
    vary: tuple[str, ...] = ()
    lr_range: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.keep not in KEEPS:
            raise MethodError(f"keep={self.keep}; choices: {', '.join(KEEPS)}")


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
        told: ``"known"`` (the sensors' responses are told) or ``"blind"`` (they are not); empty for supervised methods.
        oracle: it looks at the reference HR-HSI; what it builds says so as well (:class:`Traits`).
        source: repository and commit the figures of ``fidelity`` come from.
        count_reason: why the count that papers print of it is missed by more than 1 %.
        input_range: value range of the network's own inputs and outputs; :func:`fuse` maps it.
        recipes: training recipes by name, the default first, a tuple where training has stages; empty for
            training-free methods.
        small: build arguments that cut it down to the size of a test.
        note: what a reader of a table must know, one sentence.
    """

    name: str
    family: str
    build: Callable
    paper: str
    year: int
    fidelity: str
    told: str = ""
    oracle: bool = False
    source: str = ""
    count_reason: str = ""
    input_range: tuple[float, float] = (0.0, 1.0)
    recipes: Mapping[str, Recipe | tuple[Recipe, ...]] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        for what, value, choices in (("family", self.family, FAMILIES), ("fidelity", self.fidelity, FIDELITIES),
                                     ("told", self.told, ("",) if self.family == "supervised" else TOLD)):
            if value not in choices:
                raise MethodError(f"method '{self.name}': {what} '{value}'; choices: {', '.join(choices) or 'none'}")

    @property
    def defaults(self) -> dict[str, Any]:
        """The builder's own arguments (not the :data:`STANDARD` ones) and what they are if nobody says otherwise."""
        accepted = inspect.signature(self.build).parameters
        return {key: parameter.default for key, parameter in accepted.items() if key not in STANDARD}


@dataclass(frozen=True)
class Traits:
    """What a built method tells about itself by attributes of these names; whoever does not say has the defaults.

    Args:
        unused: prefixes of parameters that are built, as in a release, but cannot reach the output.
        derived: last parts of the names of buffers that follow from the image size and are computed here, so that a
            published state dict may or may not hold them.
        oracle: it is called with the reference HR-HSI as a third image.
        size: parameters that a method optimised for each image fits; None where nothing is fitted.
        network: ``network((h, w))``: the network that it optimises for an LR-HSI of that size, or that is a part of it, to be
            counted.
    """

    unused: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    oracle: bool = False
    size: int | None = None
    network: Callable[[tuple[int, int]], torch.nn.Module] | None = None


def trait(model: Any, name: str) -> Any:
    """One of :class:`Traits` of what :func:`create` returned; the submodules of a network are not taken for one."""
    if isinstance(model, torch.nn.Module) and name in model._modules:
        return getattr(Traits, name)
    return getattr(model, name, getattr(Traits, name))


_METHODS: dict[str, Method] = {}


def register(
    name: str, family: str, *, paper: str, year: int, fidelity: str, told: str = "", oracle: bool = False, source: str = "",
    count_reason: str = "", input_range: tuple[float, float] = (0.0, 1.0),
    recipes: Mapping[str, Recipe | tuple[Recipe, ...]] | None = None,
    small: Mapping[str, Any] | None = None, note: str = "",
) -> Callable[[Callable], Callable]:
    """Decorator of a build function: add it to the registry as ``name``; the arguments fill its card (:class:`Method`).

    Raises:
        MethodError: a name that is taken or cannot be one, an unknown family, fidelity or ``told``.
    """

    def add(build: Callable) -> Callable:
        if name in _METHODS:
            raise MethodError(f"method '{name}' is registered twice")
        if not name or set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789-"):
            raise MethodError(f"method '{name}': names are of small letters, digits and hyphens")
        _METHODS[name] = Method(name, family, build, paper, year, fidelity, told, oracle, source, count_reason,
                                input_range, recipes or {}, small or {}, note)
        return build

    return add


def available(family: str | None = None) -> list[str]:
    """Sorted names of all methods, or of one family."""
    return sorted(name for name, method in _METHODS.items() if family in (None, method.family))


def near(name: str, choices: Iterable[str]) -> str:
    """`` Did you mean 'x'?``, or nothing where no choice is near."""
    found = difflib.get_close_matches(name, list(choices), n=1)
    return f" Did you mean '{found[0]}'?" if found else ""


def split_label(label: str) -> tuple[str, dict[str, Any]]:
    """``"name@key=value,key=value"`` -> name and build arguments; values are Python literals, or else text.

    Raises:
        MethodError: not of that form.
    """
    name, at, words = label.partition("@")
    arguments: dict[str, Any] = {}
    pieces: list[str] = []
    for piece in words.split(",") if at else ():  # commas in brackets belong to a value: depths=(1,4,4,1)
        if pieces and pieces[-1].count("(") + pieces[-1].count("[") > pieces[-1].count(")") + pieces[-1].count("]"):
            pieces[-1] += f",{piece}"
        else:
            pieces.append(piece)
    if at and not words:
        raise MethodError(f"method '{label}': nothing behind the @; write {name}@key=value,key=value")
    for piece in pieces:
        key, equals, value = (part.strip() for part in piece.partition("="))
        if not (key.isidentifier() and equals and value):
            raise MethodError(f"method '{label}': '{piece}' is not key=value")
        if key in arguments:
            raise MethodError(f"method '{label}': '{key}' is said twice")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return name, arguments


def card(label: str) -> Method:
    """The card of a method; of a variant ``name@...``, that of its method.

    Raises:
        MethodError: unknown name or build argument, the message lists the choices and the nearest one; or an anchor that must
            be trained or looks at the reference.
    """
    name, arguments = split_label(label)
    if name not in _METHODS:
        raise MethodError(f"unknown method '{name}'.{near(name, _METHODS)} Choices: {', '.join(available())}; those of "
                          "a file of your own come with --study-file FILE")
    method = _METHODS[name]
    own = method.defaults if arguments else {}
    for key in arguments:
        if key in (*RESERVED, *WRAPPED) and not method.recipes:
            raise MethodError(f"method '{label}': '{name}' is not trained, so that it has no '{key}'")
        if key not in own and key not in (*RESERVED, *WRAPPED):
            raise MethodError(f"method '{name}' has no argument '{key}'; choices: {', '.join(own) or 'none'}")
        if key in own:
            _check_value(label, key, arguments[key], inspect.signature(method.build).parameters[key])
    if "anchor" in arguments:
        anchor = card(str(arguments["anchor"]))
        if anchor.recipes or anchor.oracle:
            free = ", ".join(each for each in available() if not (_METHODS[each].recipes or _METHODS[each].oracle))
            raise MethodError(f"anchor={anchor.name}: must be a method that needs no training and no reference; choices: "
                              f"{free}")
    return method


def _check_value(label: str, key: str, value: Any, parameter: inspect.Parameter) -> None:
    """Refuse what the builder's annotation and default rule out, before anything is planned or trained with it."""
    kinds = {"int": (int,), "float": (int, float), "bool": (bool,)}
    kind = getattr(parameter.annotation, "__name__", parameter.annotation)
    if kind not in kinds or value is None:
        return
    default = parameter.default
    example = f", such as {key}={default}" if isinstance(default, kinds[kind]) else ""
    if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "bool"):
        words = {"int": "a whole number", "float": "a number", "bool": "True or False"}[kind]
        raise MethodError(f"method '{label}': {key}={value} is not {words}{example}")
    if isinstance(value, (int, float)) and isinstance(default, (int, float)) and value < 0 <= default:
        raise MethodError(f"method '{label}': {key}={value} is negative; choose 0 or more{example}")


def create(name: str, *, bands: int, msi_bands: int, ratio: int = 4, psf: torch.Tensor | None = None,
           srf: torch.Tensor | None = None, phase: int | None = None, **overrides: Any) -> Any:
    """Build a method.

    Args:
        name: one of :func:`available`, or a variant ``name@key=value,...`` of one.
        bands: of the hyperspectral image.
        msi_bands: of the multispectral image.
        ratio: HR pixels per LR pixel along one side.
        psf: (k, k), sums to 1; what the method is told, None if blind.
        srf: (msi_bands, bands); what the method is told, None if blind.
        phase: 0-based index of the first HR sample that decimation keeps, None if blind.
        **overrides: arguments of the method's own builder; those of a variant win.

    Returns:
        A callable ``(lr_hsi (B, bands, h, w), hr_msi (B, msi_bands, H, W)) -> (B, bands, H, W)`` in the method's own
        value range, an ``nn.Module`` for supervised methods; its ``card`` attribute is the method's card.

    Raises:
        MethodError: unknown name or override, arguments that make an oracle of a method whose card does not say so, weights
            that do not fit, or an anchor that must be trained.
    """
    from methods import anchored, weights  # they need what this page defines
    from methods.responses import Told

    method = card(name)
    chosen = overrides | {key: value for key, value in split_label(name)[1].items() if key not in RESERVED}
    word, anchor = (str(chosen.pop(key)) if key in chosen else "" for key in WRAPPED)
    if word:
        chosen = {**weights.about(method.name, word).arguments, **chosen}
        anchor = anchor or chosen.pop("anchor", "")
    told = dict(zip(STANDARD, (bands, msi_bands, ratio, psf, srf, phase)))
    accepted = inspect.signature(method.build).parameters
    own = [key for key in accepted if key not in STANDARD]
    for key in chosen:
        if key not in own:
            raise MethodError(f"method '{method.name}' has no argument '{key}'; choices: {', '.join(own) or 'none'}")
    try:
        model = method.build(**{key: value for key, value in told.items() if key in accepted}, **chosen)
    except MethodError:
        raise
    except Exception as error:
        if not split_label(name)[1]:  # nothing was asked for: the builder's own failure
            raise
        raise MethodError(f"method '{name}' cannot be built ({type(error).__name__}: {error}); its arguments are by default: "
                          f"{', '.join(f'{key}={value}' for key, value in method.defaults.items())}") from error
    if anchor:
        known = None if psf is None or srf is None or phase is None else Told(psf, srf, phase)
        model = anchored.anchored(model, method, anchor, bands, msi_bands, ratio, known)
    model.card = method
    if word:
        weights.load(model, method, word, bands, msi_bands, ratio)
    if trait(model, "oracle") != method.oracle:
        raise MethodError(f"method '{method.name}' built with {chosen}: whether it looks at the reference must be on its card "
                          f"(oracle={method.oracle}); oracles are: {', '.join(n for n, m in _METHODS.items() if m.oracle)}")
    return model


def tell(model: Any, responses: Any) -> None:
    """Tell a network the responses of the images to come, if it is one that takes them: one with an attribute ``told``."""
    if hasattr(model, "told"):
        model.told = responses


def told(label: str, arguments: Mapping[str, Any] | None = None) -> str:
    """``"known"``, ``"blind"`` or, for supervised methods, ``""``: what the card says, or the argument ``mode``.

    Args:
        label: one of :func:`available`, or a variant of one.
        arguments: its own arguments where they are not the defaults.
    """
    mode = ({**(arguments or {}), **split_label(label)[1]}).get("mode")
    declared = card(label).told
    return mode if declared and mode in TOLD else declared


def load_release(model: torch.nn.Module, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Load the authors' published parameters by their key names, in place.

    ``_orig_mod.`` prefixes (saved from a compiled module) are dropped, and buffers by the names in the model's ``derived``
    (see :class:`Traits`), which are computed here; nothing else is forgiven.

    Raises:
        MethodError: missing or extra keys, or other shapes; the message names them.
    """
    derived = trait(model, "derived")
    given = {key.removeprefix("_orig_mod."): value for key, value in state_dict.items() if key.split(".")[-1] not in derived}
    own = model.state_dict()
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    other = [f"{k} {tuple(given[k].shape)}, not {tuple(own[k].shape)}" for k in own.keys() & given.keys()
             if given[k].shape != own[k].shape]
    if missing or extra or other:
        its_card = getattr(model, "card", None)
        name = its_card.name if isinstance(its_card, Method) else type(model).__name__
        raise MethodError(
            f"these parameters do not belong to '{name}' as built: missing {missing[:5]} ({len(missing)}), "
            f"extra {extra[:5]} ({len(extra)}), other shapes {sorted(other)[:5]} ({len(other)}). "
            "Build it with the settings of the checkpoint (bands, msi_bands, depths, fusion)."
        )
    model.load_state_dict(given)


@torch.no_grad()
def fuse(model: Any, lr_hsi: torch.Tensor, hr_msi: torch.Tensor, reference: torch.Tensor | None = None) -> torch.Tensor:
    """Fuse with any method: [0, 1] in and out, evaluation mode, no gradient.

    Args:
        model: what :func:`create` returned.
        lr_hsi: (B, bands, h, w).
        hr_msi: (B, msi_bands, H, W), H = ratio * h.
        reference: (B, bands, H, W), the true HR-HSI; shown to an oracle only.

    Returns:
        The estimated HR-HSI, (B, bands, H, W), not clipped.

    Raises:
        MethodError: an oracle without a reference.
    """
    if isinstance(model, torch.nn.Module):
        model.eval()
    oracle = trait(model, "oracle")
    if oracle and reference is None:
        raise MethodError(f"method '{model.card.name}' looks at the reference HR-HSI and was given none; take a method that "
                          "does not, or pass the reference where there is one")
    images = (lr_hsi, hr_msi, reference) if oracle else (lr_hsi, hr_msi)
    low, high = model.card.input_range
    if (low, high) == (0.0, 1.0):
        return model(*images)
    span = high - low
    return (model(*(image * span + low for image in images if image is not None)) - low) / span
