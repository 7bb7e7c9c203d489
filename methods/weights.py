"""Trained parameters in files: ``name@weights=FILE``, or ``name@weights=shipped`` for those that come with the suite.

A file is safetensors: parameters as ``<method>/<key>`` and, in its header, what each method was trained for
(:class:`About`), so that a file that does not fit is refused in words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from methods.registry import Method, MethodError, near

SHIPPED = Path(__file__).with_name("shipped")


@dataclass(frozen=True)
class About:
    """What the parameters of one method were trained for.

    Args:
        method: registry name.
        arguments: build arguments that are not its defaults.
        bands: of the hyperspectral image; 0: any.
        msi_bands: of the multispectral image; 0: any.
        ratio: HR pixels per LR pixel along a side; 0: any.
        protocol: what was degraded, in words.
        dataset: trained on.
        key: of the training.
        revision: of the code.
        sha256: of the parameters.
    """

    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    bands: int = 0
    msi_bands: int = 0
    ratio: int = 0
    protocol: str = ""
    dataset: str = ""
    key: str = ""
    revision: str = ""
    sha256: str = ""


def save(path: Path, parameters: Mapping[str, Tensor], abouts: list[About]) -> None:
    """Write the parameters of one training, ``<method>/<key>``, with their checksums."""
    words = {about.method: json.dumps(asdict(about) | {"sha256": digest(parameters, about.method)}) for about in abouts}
    save_file({key: value.contiguous() for key, value in parameters.items()}, path, metadata=words)


def convert(source: Path, path: Path, methods: tuple[str, ...]) -> None:
    """The parameters of a training in half precision, as another file."""
    with safe_open(source, "pt") as file:
        parameters = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    half = {key: value.half() if value.is_floating_point() else value for key, value in parameters.items()}
    save(path, half, [about(method, str(source)) for method in methods])


def digest(parameters: Mapping[str, Tensor], method: str) -> str:
    """sha256 of the names, types and bytes of one method's parameters."""
    found = hashlib.sha256()
    for key in sorted(key for key in parameters if key.startswith(f"{method}/")):
        value = parameters[key].detach().cpu().reshape(-1).contiguous()  # flat: strides tell nothing of the values
        found.update(f"{key} {value.dtype} {tuple(parameters[key].shape)}".encode() + value.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def place(method: str, word: str) -> Path:
    """The file that ``weights=`` names.

    Raises:
        MethodError: no such file, or none is shipped for the method.
    """
    if word != "shipped":
        path = Path(word).expanduser()
        if path.is_dir():
            path = path / "model.safetensors"
        if not path.is_file():
            raise MethodError(f"weights={word}: no such file; give a model.safetensors of a training, its folder, or 'shipped'")
        return path
    path = SHIPPED / f"{method}.safetensors"
    if not path.is_file():
        there = ", ".join(shipped()) or "none"
        raise MethodError(f"method '{method}' comes without weights; methods that have some: {there}. Train it, or give a file")
    return path


def shipped() -> list[str]:
    """The methods that come with weights."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def about(method: str, word: str) -> About:
    """What a file says of a method, from its header alone.

    Raises:
        MethodError: no such file, not safetensors, or nothing in it about the method.
    """
    path = place(method, word)
    return _about(path, method, path.stat().st_mtime_ns)


@cache
def _about(path: Path, method: str, _: int) -> About:
    try:
        with safe_open(path, "pt") as file:
            words = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise MethodError(f"weights={path}: not a safetensors file ({error}); copy it again, or train again") from error
    if method not in words:
        raise MethodError(f"weights={path}: nothing about '{method}'; it holds {', '.join(words) or 'no words of what it is'}."
                          f"{near(method, words)}")
    return About(**json.loads(words[method]))


def damage(path: Path) -> str:
    """Why the parameters in a file are not those it was written with; empty if they are, or if it says no checksum.

    Raises:
        MethodError: no safetensors file.
    """
    try:
        with safe_open(path, "pt") as file:
            words = {name: About(**json.loads(text)) for name, text in (file.metadata() or {}).items() if text.startswith("{")}
            parameters = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise MethodError(f"{path}: no parameters can be read from it ({error}); delete it and train again") from error
    wrong = [name for name, held in words.items() if held.sha256 and digest(parameters, name) != held.sha256]
    return f"{path}: damaged, the parameters of {', '.join(wrong)} are not those it was written with; delete it and train " \
           "again" if wrong else ""


def load(model: nn.Module, method: Method, word: str, bands: int, msi_bands: int, ratio: int) -> None:
    """Load a file's parameters into a network as it was built with :attr:`About.arguments`, in place.

    Raises:
        MethodError: trained for another number of bands, MSI bands or ratio; damaged; or parameters that do not belong to it.
    """
    path, held = place(method.name, word), about(method.name, word)
    for what, there, asked in (("bands", held.bands, bands), ("MSI bands", held.msi_bands, msi_bands),
                               ("ratio", held.ratio, ratio)):
        if there and there != asked:
            raise MethodError(f"weights={word}: '{method.name}' was trained for {there} {what} and the images have {asked}; "
                              "train it for them, or take weights that were")
    prefix = f"{method.name}/"
    with safe_open(path, "pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118
    if digest(found, method.name) != held.sha256:
        raise MethodError(f"weights={path}: damaged, its parameters are not those it was written with (sha256 "
                          f"{held.sha256[:12]}...); copy it again")
    try:
        model.load_state_dict({key.removeprefix(prefix): value for key, value in found.items()})
    except RuntimeError as error:
        raise MethodError(f"weights={path}: do not belong to '{method.name}' as built: {error}") from error
