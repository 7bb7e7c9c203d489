"""Which code decides a number: a digest of the definitions that can be reached from a few roots, and of nothing else.

    digest(card("gsa").build)                      # the builder, its class, the functions these call, ...
    digest((Protocol, "look"))                     # one member of a class, and the members that it calls on `self`

Taken from syntax trees without comments, docstrings and annotations, and in a form of its own, so that it is the same on
every Python version and a definition may move to another module. A definition nobody reaches changes nothing. Followed
are names and attributes of imported modules of this project and of files that a user brought (``--study-file``); what a
method calls on an object that it was handed is not: such classes are roots of their own (see ``Job.source``).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.keys import canonical

Root = Callable | type | tuple[type, str] | str
Entry = tuple[str, ...]  # (module, name) or (module, class, member)
SKIPPED = {"ctx", "type_comment", "type_params", "kind", "annotation", "returns", "lineno", "col_offset", "end_lineno",
           "end_col_offset"}
# Tables that everything reaches and that grow with every entry; what is in them is a root of its own.
TABLES = {("methods.registry", "_METHODS"), ("datasets.scene", "_DATASETS"), ("benchmark.metrics", "METRICS")}
# Plain values whose fields stand in keys: another field of them decides nothing until code reads it.
VALUES = {("benchmark.protocol", name) for name in ("Scenario", "CLEAN", "OTHER_LR_HSI")}
FUSED = ("methods.registry", "fuse")
# What these hold writes, names and reports; it decides no number.
# Of the registry, too, where cards and names are looked up, but for the one function through which all is fused.
SILENT = ("methods.registry", "benchmark.store", "benchmark.machine", "benchmark.plan", "benchmark.rows", "benchmark.page",
          "benchmark.source")
# Parts of their own, of what runs a network and of trainings with varied sensors: not followed from elsewhere.
OWN_PARTS = {*(("methods.speed", name) for name in ("prepared", "trainable", "speed_of")),
             *(("benchmark.varied", name) for name in ("Varied", "validated"))}
_LIBRARIES = tuple(str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "purelib", "platlib"))


@dataclass
class Names:
    """One file: what each top-level name is bound by, and where imported names come from."""

    bound: dict[str, list[ast.AST]] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (module, attribute or "")


@cache
def digest(*roots: Root) -> str:
    """16 hex digits of the definitions reached from all ``roots``, as the files stood when this process first asked.

    Args:
        *roots: functions or classes; ``(class, "member")`` for one method of a class and what it calls on ``self``;
            ``"module:name"`` for one that need not be imported.
    """
    texts: set[str] = set()
    seen: set[Entry] = set()
    waiting: list[Entry] = []
    for root in roots:
        waiting += _entries(root, texts)
    while waiting:
        entry = waiting.pop()
        if entry not in seen:
            seen.add(entry)
            for text, reached in _definitions(entry):
                texts.add(text)
                waiting += [each for each in reached if each not in OWN_PARTS]
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:16]


# ---------------------------------------------------------------------------------------------- roots and definitions


def _entries(root: Root, texts: set[str]) -> list[Entry]:
    """``(module, name)`` or ``(module, class, member)`` of a root; a builder's bound values go into ``texts``."""
    if isinstance(root, str):
        module, _, name = root.partition(":")
        return [(module, name)]
    if isinstance(root, tuple):
        return [(root[0].__module__, root[0].__qualname__, root[1])]
    if isinstance(root, partial):  # its arguments are a part of it
        texts.add(f"bound {canonical([repr(root.args), repr(sorted(root.keywords.items()))])}")
        return _entries(root.func, texts)
    if isinstance(root, type):
        return [(root.__module__, root.__qualname__)]
    function = inspect.unwrap(root)
    entries: list[Entry] = [(function.__module__, function.__qualname__)]
    if not _definitions(entries[0]):  # no file holds it, such as a function made on the fly
        texts.add(f"bytecode {function.__code__.co_code.hex()} {function.__code__.co_consts!r}")
    defaults = {key: repr(each.default) for key, each in inspect.signature(function).parameters.items()}
    texts.add(f"defaults {canonical(defaults)}")
    for cell in function.__closure__ or ():  # of a builder made inside a function, such as one a size
        held = cell.cell_contents
        if inspect.isfunction(held) or inspect.isclass(held):
            entries += _entries(held, texts)
        else:
            texts.add(f"closure {held!r}")
    return entries


@cache
def _definitions(entry: Entry) -> tuple[tuple[str, tuple[Entry, ...]], ...]:
    """The text of each definition that an entry names, and the entries it refers to; none where it is not ours."""
    return tuple((_text(node), tuple(_reached(node, module, entry if member else ())))
                 for node, module, member in _nodes(entry))


def _nodes(entry: Entry) -> Iterator[tuple[ast.AST, str, bool]]:
    """``(node, module, whether it is a member of a class)`` of what an entry names."""
    module, name, *member = entry
    names = _names(module)
    if names is None or (module, name) in TABLES | VALUES or (module.startswith(SILENT) and (module, name) != FUSED):
        return
    if member:
        yield from ((node, owner, True) for owner, node in _members(module, name, member[0]))
        return
    outer, *inner = name.split(".")
    if outer == "*":
        yield from ((node, module, False) for nodes in names.bound.values() for node in nodes)
    elif outer in names.bound:
        for node in names.bound[outer]:
            for part in (one for one in inner if one != "<locals>"):
                node = next((each for each in ast.walk(node) if getattr(each, "name", None) == part), node)
            yield (_without_decorators(node) if _is_registered(node) else node), module, False
    elif outer in names.imported:
        origin, attribute = names.imported[outer]
        yield from _nodes((origin, attribute or "*"))
    elif _names(f"{module}.{outer}") is not None:
        yield from _nodes((f"{module}.{outer}", "*"))


def _members(module: str, name: str, member: str) -> Iterator[tuple[str, ast.AST]]:
    """The definition of a class's member in the first class of its order that has one, with that class's module."""
    kind: Any = sys.modules.get(module)
    for part in name.split("."):
        kind = getattr(kind, part, None)
    for each in kind.__mro__ if isinstance(kind, type) else ():
        names = _names(each.__module__)
        if names is None or member not in vars(each):
            continue
        for node in names.bound.get(each.__qualname__.split(".")[0], ()):
            for owner in ast.walk(node):
                if isinstance(owner, ast.ClassDef) and owner.name == each.__name__:
                    yield from ((each.__module__, one) for one in owner.body if member in _bound_by(one))
                    return


def _without_decorators(node: ast.AST) -> ast.AST:
    if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return node
    plain = type(node)(**{key: getattr(node, key) for key in node._fields if hasattr(node, key)})
    plain.decorator_list = []
    return plain


def _is_registered(node: ast.AST) -> bool:
    """Whether a decorator enters it into a registry: what that says is a card and decides no number."""
    return any(isinstance(each, ast.Call) and "register" in ast.dump(each.func) for each in getattr(node, "decorator_list", ()))


# ------------------------------------------------------------------------------------------------------ what is reached


def _reached(node: ast.AST, module: str, entry: Entry) -> list[Entry]:
    """The entries that a definition refers to by name, by attribute of a module, and on ``self`` for a member."""
    names = _names(module)
    assert names is not None
    found: list[Entry] = []
    for name, attribute in _free(node):
        if name in ("self", "cls") and entry:
            found += [(entry[0], entry[1], attribute)] if attribute else []
        elif name in names.bound:
            found.append((module, name))
        elif name in names.imported:
            origin, original = names.imported[name]
            whole = f"{origin}.{original}" if original else origin
            if _names(whole) is not None:  # a module
                found.append((whole, attribute or "*"))
            elif original:
                found.append((origin, original))
    return found


def _free(node: ast.AST) -> Iterator[tuple[str, str]]:
    """``(name, attribute taken of it or "")`` of names that a definition reads and does not bind itself."""
    local: set[str] = set()
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        spec = node.args
        local = {arg.arg for arg in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, (spec.vararg, spec.kwarg)))}
        shared = {name for each in ast.walk(node) if isinstance(each, (ast.Global, ast.Nonlocal)) for name in each.names}
        body = node.body if isinstance(node.body, list) else [node.body]
        local |= {name for each in body for name in _bound_by(each)} - shared
        local -= {"self", "cls"}
    for child, key in _children(node):
        if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name):
            if child.value.id not in local:
                yield child.value.id, child.attr
            continue
        if isinstance(child, ast.Name):
            if child.id not in local and isinstance(child.ctx, ast.Load):
                yield child.id, ""
            continue
        inner = _free(child)
        # Defaults and decorators are read outside of the function's own names.
        yield from inner if key in ("decorator_list", "args", "bases") else (each for each in inner if each[0] not in local)


def _children(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """The nodes below, without annotations."""
    for key, value in ast.iter_fields(node):
        if key not in SKIPPED:
            yield from ((each, key) for each in (value if isinstance(value, list) else [value]) if isinstance(each, ast.AST))


def _bound_by(node: ast.AST) -> set[str]:
    """Names that a statement binds in the scope it stands in."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return set()
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return {node.id}
    if isinstance(node, ast.ExceptHandler) and node.name:
        return {node.name, *(name for each in node.body for name in _bound_by(each))}
    if isinstance(node, ast.Lambda):
        return set()
    return {name for child, _ in _children(node) for name in _bound_by(child)}


# ----------------------------------------------------------------------------------------------------------------- files


@cache
def _names(module: str) -> Names | None:
    """The names of a module of this project or of a user's file; None for libraries and what has no file."""
    path = _path(module)
    return None if path is None else _read(path)


def _path(module: str) -> Path | None:
    known = sys.modules.get(module)
    if isinstance(known, ModuleType):
        file = getattr(known, "__file__", None)
    elif module.split(".")[0] in ("methods", "benchmark", "datasets"):
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            return None
        file = spec.origin if spec else None
    else:
        return None
    return _source_file(file) if file and file.endswith(".py") else None


def _source_file(file: str) -> Path | None:
    path = Path(file).resolve()
    library = str(path).startswith(_LIBRARIES) or {"site-packages", "dist-packages"} & set(path.parts)
    return None if library or not path.is_file() else path


def _read(path: Path) -> Names:
    """Parse a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = Names()
    package = _package(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.imported |= {alias.asname or alias.name.split(".")[0]: (alias.name if alias.asname else
                               alias.name.split(".")[0], "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join([*package.split(".")[: -node.level + 1 or None], *filter(None, [node.module])]) if node.level \
                else node.module or ""
            names.imported |= {alias.asname or alias.name: (origin, alias.name) for alias in node.names}
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    for statement in tree.body:
        bound = _bound_by(statement)
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):  # TABLE.update(...) changes TABLE
            owner = statement.value.func
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            bound = {owner.id} if isinstance(owner, ast.Name) and isinstance(statement.value.func, ast.Attribute) else set()
        if isinstance(statement, (ast.Assign, ast.AugAssign)):  # TABLE[key] = ... does, too
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            bound |= {each.value.id for each in targets if isinstance(each, ast.Subscript) and isinstance(each.value, ast.Name)}
        for name in bound:
            names.bound.setdefault(name, []).append(statement)
    return names


def _package(path: Path) -> str:
    """The dotted package that a file lies in."""
    parts: list[str] = []
    folder = path.parent
    while (folder / "__init__.py").exists():
        parts, folder = [folder.name, *parts], folder.parent
    return ".".join(parts)


def _text(node: Any) -> str:
    """A syntax tree as text that no Python version spells in its own way."""
    if isinstance(node, ast.AST):
        parts = [f"{key}={_text(value)}" for key, value in sorted(ast.iter_fields(node))
                 if key not in SKIPPED and value is not None and value != []]
        if isinstance(node, ast.Constant):
            parts = [f"{type(node.value).__name__} {node.value!r}"]
        return f"{type(node).__name__}({', '.join(parts)})"
    if isinstance(node, list):
        return f"[{', '.join(_text(each) for each in node)}]"
    return repr(node)
