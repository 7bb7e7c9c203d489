"""Source digests: which edits of a small project they see, and that no Python version spells them otherwise."""

import ast
import importlib
import sys

import pytest

from benchmark import source
from benchmark.metrics import METRICS
from benchmark.plan import Job, plan
from benchmark.studies import STUDIES

FILES = {
    "layers.py": '''
"""Layers."""
import math
SIZE = 3
TABLE = {"a": 1}
TABLE["b"] = 2
def scale(x):
    """Words."""
    return x * SIZE
def unused(x):
    return x
class Base:
    def step(self, x):
        return self.inner(x)
    def inner(self, x):
        return x + 1
    def words(self):
        return "text"
''',
    "network.py": '''
from toy import layers
from toy.layers import Base, scale as grow
def register(name): return lambda build: build
class Net(Base):
    def __init__(self, width): self.width = width
    def __call__(self, x):
        table = layers.TABLE
        return grow(x) + len(table)
def helper(scale): return scale  # a name of its own, not that of the module
@register("net")
def build(width=4) -> "Net":
    return Net(helper(width))
def family(sizes):
    def build_one(width=sizes[0]):
        return Net(width + sizes[1])
    return build_one
ONE, TWO = family((1, 2)), family((1, 3))
class Striped(Base):
    def inner(self, x):
        return x + 2
''',
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function that writes the two files, some text replaced, and gives the digest of a root in them."""
    monkeypatch.syspath_prepend(tmp_path)

    def digest(root=lambda m: m.build, file="layers.py", old="", new=""):
        place = tmp_path / "toy"
        place.mkdir(exist_ok=True)
        (place / "__init__.py").write_text("")
        for name, text in FILES.items():
            assert not (name == file and old) or old in text
            (place / name).write_text(text.replace(old, new) if name == file and old else text)
        for name in [name for name in sys.modules if name.split(".")[0] == "toy"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        for cached in (source.digest, source._definitions, source._names):
            cached.cache_clear()
        sys.dont_write_bytecode = True
        return source.digest(root(importlib.import_module("toy.network")))

    yield digest
    for cached in (source.digest, source._definitions, source._names):
        cached.cache_clear()


@pytest.mark.parametrize("edit", [
    ("layers.py", '"""Words."""', '"""Other words."""'),
    ("layers.py", "    return x * SIZE", "    return x * SIZE  # why"),
    ("layers.py", "def unused(x):\n    return x\n", "def unused(x):\n    return x + 1\ndef another(): return 2\n"),
    ("layers.py", "def scale(x):", "def scale(x: float) -> float:"),
    ("network.py", '@register("net")', '@register("other")'),
    ("network.py", 'class Striped', 'class Plain'),
])
def test_what_nobody_reaches_changes_nothing(project, edit):
    assert project() == project(file=edit[0], old=edit[1], new=edit[2])


@pytest.mark.parametrize("edit", [
    ("layers.py", "SIZE = 3", "SIZE = 4"),
    ("layers.py", "return x * SIZE", "return x + SIZE"),
    ("layers.py", 'TABLE["b"] = 2', 'TABLE["c"] = 2'),
    ("layers.py", "return x + 1", "return x + 3"),
    ("network.py", "width=4", "width=5"),
    ("network.py", "def helper(scale): return scale", "def helper(scale): return -scale"),
    ("network.py", "len(table)", "2 * len(table)"),
])
def test_what_is_reached_is_seen(project, edit):
    assert project() != project(file=edit[0], old=edit[1], new=edit[2])


def test_values_bound_to_a_builder_count(project):
    assert project(lambda m: m.ONE) != project(lambda m: m.TWO)
    assert project(lambda m: m.ONE) == project(lambda m: m.ONE, "network.py", "family((1, 3))", "family((1, 4))")


def test_members_follow_self_and_the_order_of_classes(project):
    step = project(lambda m: (m.Base, "step"))
    assert step != project(lambda m: (m.Striped, "step"))
    assert step == project(lambda m: (m.Base, "step"), "layers.py", '"text"', '"other"')
    assert step != project(lambda m: (m.Base, "step"), "layers.py", "return x + 1", "return x + 3")


def test_a_definition_may_move_to_another_module(project):
    moved = FILES["layers.py"].replace("def scale(x):\n    \"\"\"Words.\"\"\"\n    return x * SIZE\n", "")
    before = project()
    assert before == project(old=FILES["layers.py"], new=moved + "def scale(x):\n    return x * SIZE\n")


def test_the_spelling_is_the_same_on_every_python():
    # Computed with 3.11 and 3.12 alike; f-strings, type parameters and constants are what versions differ in.
    text = "def f(x, *, y=1.5e3):\n    z = f'{x!r:>{y}} {x + 1:.2f}' 'more'\n    return [a for a in (1, None, ..., b'c')], z\n"
    assert source._text(ast.parse(text)) == (
        "Module(body=[FunctionDef(args=arguments(args=[arg(arg='x')], kw_defaults=[Constant(float 1500.0)], "
        "kwonlyargs=[arg(arg='y')]), body=[Assign(targets=[Name(id='z')], value=JoinedStr(values=["
        "FormattedValue(conversion=114, format_spec=JoinedStr(values=[Constant(str '>'), FormattedValue(conversion=-1, "
        "value=Name(id='y'))]), value=Name(id='x')), Constant(str ' '), FormattedValue(conversion=-1, "
        "format_spec=JoinedStr(values=[Constant(str '.2f')]), value=BinOp(left=Name(id='x'), op=Add(), "
        "right=Constant(int 1))), Constant(str 'more')])), Return(value=Tuple(elts=[ListComp(elt=Name(id='a'), "
        "generators=[comprehension(ifs=[], is_async=0, iter=Tuple(elts=[Constant(int 1), Constant(NoneType None), "
        "Constant(ellipsis Ellipsis), Constant(bytes b'c')]), target=Name(id='a'))]), Name(id='z')]))], name='f')])"
    ).replace("ifs=[], ", "")


def test_every_part_that_decides_a_score_is_in_it():
    trained = Job("score", STUDIES["quick"], ("s3rnet-student",), 4, split="test").source
    assert set(trained) == {"method", "protocol", "data", "training", "layers", "scoring",
                            *(f"metric {name}" for name in METRICS)}
    assert set(trained.values()) and all(len(value) == 16 for value in trained.values())
    training = Job("train", STUDIES["quick"], ("s3rnet-teacher", "s3rnet-student"), 4).source
    assert set(training) == {"method", "protocol", "data", "task", "training", "layers"}


@pytest.mark.parametrize("root, reaches, spares", [
    ("benchmark.evaluate:measured", ["benchmark.metrics:measure", "benchmark.evaluate:varying"],
     ["benchmark.store:write_text", "methods.registry:card"]),
    ("benchmark.evaluate:seen", ["benchmark.evaluate:seen"], ["benchmark.protocol:Scenario"]),
    ("methods.registry:fuse", ["methods.registry:fuse"], ["methods.registry:near"]),
    ("benchmark.training:Training", ["benchmark.training:rate", "benchmark.crops:Crops", "benchmark.protocol:add_noise"],
     ["benchmark.train:interruptible", "benchmark.train:last_words", "benchmark.store:log", "benchmark.varied:Varied"]),
    ("benchmark.complexity:cost", ["benchmark.complexity:multiply_adds"], ["benchmark.machine:code_version"]),
])
def test_harness_roots_reach_what_computes_and_spare_what_reports(root, reaches, spares):
    seen, waiting = set(), [tuple(root.split(":"))]
    while waiting:
        entry = waiting.pop()
        if entry not in seen:
            seen.add(entry)
            waiting += [each for _, reached in source._definitions(entry) for each in reached if each not in source.OWN_PARTS]
    live = {":".join(entry[:2]) for entry in seen if source._definitions(entry)}
    assert set(reaches) <= live and not set(spares) & live


def test_layers_of_networks_are_a_part_that_training_free_scores_do_not_have(monkeypatch):
    study = STUDIES["quick"]
    jobs = {(job.kind, job.method): job for job in plan(study, "cpu")}
    assert "layers" not in jobs["score", "gsa"].source
    for kind in ("score", "train"):
        assert "layers" in jobs[kind, "s3rnet-teacher"].source
    reached = source.digest("benchmark.evaluate:build")
    monkeypatch.setattr(source, "OWN_PARTS", set())
    source.digest.cache_clear()
    assert source.digest("benchmark.evaluate:build") != reached
    source.digest.cache_clear()
