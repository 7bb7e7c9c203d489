"""The one list of methods: importing a module registers what it holds."""

from methods import bicubic, gsa, s3rnet  # noqa: F401
from methods.registry import available, card, create, fuse, load_release

__all__ = ["available", "card", "create", "fuse", "load_release"]
