"""What decides a number, as text: canonical JSON, digests, the fields that stand in them, and seeds from names."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def canonical(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, infinities as strings."""

    def plain(x: Any) -> Any:
        if isinstance(x, Mapping):
            return {str(key): plain(value) for key, value in x.items()}
        if isinstance(x, (list, tuple)):
            return [plain(value) for value in x]
        return str(x) if isinstance(x, float) and math.isinf(x) else x

    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"))


def digest(value: Any) -> str:
    """sha256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def fields(value: Any) -> dict[str, Any]:
    """What of a dataclass stands in keys: the fields in its ``KEYED``, and any other that is not at its default.

    So a field that is added later changes no key that was made before it, as long as it stands at its default.
    """
    found = {}
    for each in dataclasses.fields(value):
        held = getattr(value, each.name)
        default = each.default_factory() if each.default_factory is not dataclasses.MISSING else each.default
        if each.name in value.KEYED or held != default:
            found[each.name] = held
    return found


def own_code(kind: type, base: type) -> str:
    """The name of a class that overrides code of ``base``, empty for one that does not (such as one with more fields).

    Two classes that compute different things from the same fields must not share a key.
    """
    written = {name for each in kind.__mro__[: kind.__mro__.index(base)] for name, what in vars(each).items()
               if callable(what) or isinstance(what, (property, classmethod, staticmethod))}
    generated = {"__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__", "__replace__"}
    return f"{kind.__module__}.{kind.__qualname__}" if written - generated else ""


def seed(*words: Any) -> int:
    """A seed of a torch generator from names and numbers, so that nobody's draws depend on what else is drawn."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, words)).encode()).digest()[:8], "big") >> 1
