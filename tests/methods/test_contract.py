"""What every registered method keeps: registering one enrols it here. So is the example in the README."""

import ast
import collections.abc
import importlib.util
import inspect
import re
import sys
import tempfile
import types
from datetime import date
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
import torch

from benchmark import source
from benchmark.published import figures
from methods import available, card, create, fuse, registry
from methods.registry import FAMILIES, FIDELITIES, MethodError, Traits, register, told, trait
from methods.tasks import Task

BANDS, LR, RATIO = 12, 8, 4
RESPONSES = ("psf", "srf", "phase")
ROOT = Path(__file__).parents[2]


def readme_example():
    """The card of the method in the README, loaded from a file as a user would write it, and out of the registry again."""
    text, = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = Path(tempfile.mkdtemp()) / "readme_example.py"
    file.write_text(text)
    before = set(registry._METHODS)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    sys.modules[file.stem] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    name, = set(registry._METHODS) - before
    return registry._METHODS.pop(name), len(text.splitlines())


EXAMPLE, EXAMPLE_LINES = readme_example()
CARDS = {name: card(name) for name in available()} | {EXAMPLE.name: EXAMPLE}
NAMES = sorted(CARDS)


def names(**what):
    return [name for name in NAMES if all(getattr(CARDS[name], key) == value for key, value in what.items())]


@pytest.fixture(autouse=True, scope="module")
def registered_example():
    registry._METHODS[EXAMPLE.name] = EXAMPLE
    yield
    del registry._METHODS[EXAMPLE.name]


def build(name, msi_bands=4, responses=True):
    torch.manual_seed(0)
    srf = torch.rand(msi_bands, BANDS, generator=torch.Generator().manual_seed(1))
    known = {"psf": torch.ones(5, 5) / 25, "srf": srf / srf.sum(1, keepdim=True), "phase": 1} if responses else {}
    return create(name, bands=BANDS, msi_bands=msi_bands, ratio=RATIO, **known, **card(name).small)


def images(msi_bands=4, batch=2):
    generator = torch.Generator().manual_seed(2)
    return (torch.rand(batch, BANDS, LR, LR, generator=generator),
            torch.rand(batch, msi_bands, LR * RATIO, LR * RATIO, generator=generator))


def fused(model, lr_hsi, hr_msi):
    """With a reference, which only an oracle is shown: its bands are the MSI's mean."""
    return fuse(model, lr_hsi, hr_msi, hr_msi.mean(1, keepdim=True).expand(-1, BANDS, -1, -1))


# ---- what it computes


@pytest.mark.parametrize("msi_bands", [4, 6])
@pytest.mark.parametrize("name", NAMES)
def test_shape_dtype_and_finiteness(name, msi_bands):
    estimate = fused(build(name, msi_bands), *images(msi_bands))
    assert estimate.shape == (2, BANDS, LR * RATIO, LR * RATIO)
    assert estimate.dtype == torch.float32 and torch.isfinite(estimate).all() and not estimate.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_depend_on_its_batch_and_a_seed_gives_the_same_again(name):
    lr_hsi, hr_msi = images()
    model = build(name)
    together = fused(model, lr_hsi, hr_msi)
    alone = torch.cat([fused(model, lr_hsi[i : i + 1], hr_msi[i : i + 1]) for i in range(2)])
    assert (together - alone).abs().max() < 1e-5 * together.abs().max().clamp(min=1)
    assert torch.equal(together, fused(build(name), lr_hsi, hr_msi))
    assert all(torch.equal(image, before) for image, before in zip((lr_hsi, hr_msi), images()))  # neither was written to


@pytest.mark.parametrize("name", names(family="supervised"))
def test_every_used_parameter_gets_a_gradient(name):
    model = build(name).train()
    model(*images()).square().mean().backward()
    without = {key for key, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()}
    declared = {key for key, _ in model.named_parameters() if key.startswith(trait(model, "unused") or ("\0",))}
    assert without == declared


@pytest.mark.parametrize("kind", ["dead bands", "constant", "black", "rank one", "one MSI band"])
@pytest.mark.parametrize("name", names(family="classical"))
def test_degenerate_images_give_a_finite_one_or_a_clear_error(name, kind):
    lr_hsi, hr_msi = images(1 if kind == "one MSI band" else 4, batch=1)
    if kind == "dead bands":
        lr_hsi[:, 3], hr_msi[:, 1] = 0, 0.3
    elif kind in ("constant", "black"):
        lr_hsi, hr_msi = (torch.full_like(image, 0.3 * (kind == "constant")) for image in (lr_hsi, hr_msi))
    elif kind == "rank one":
        lr_hsi, hr_msi = (image[:, :1].expand_as(image).contiguous() for image in (lr_hsi, hr_msi))
    try:
        estimate = fused(build(name, hr_msi.shape[1]), lr_hsi, hr_msi)
    except MethodError as error:
        assert "no positive value" in str(error) and kind == "black"
    else:
        assert estimate.shape == (1, BANDS, LR * RATIO, LR * RATIO) and torch.isfinite(estimate).all()


# ---- what it says of itself


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_complete(name):
    method = card(name)
    assert method.name == name and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert method.family in FAMILIES and method.fidelity in FIDELITIES
    assert method.paper and 1800 <= method.year <= date.today().year + 1
    assert set(method.small) <= set(method.defaults)
    assert figures(name) or not method.count_reason
    assert bool(method.recipes) == (method.family == "supervised")
    assert len(source.digest(method.build)) == 16


@pytest.mark.parametrize("name", names(family="supervised"))
def test_stages_of_a_recipe_share_one_task(name):
    for stages in card(name).recipes.values():
        stages = stages if isinstance(stages, tuple) else (stages,)
        assert len({recipe.task for recipe in stages}) == 1 and issubclass(stages[0].task, Task)
        assert len({recipe.trains for recipe in stages}) == 1 and name in stages[0].trains
        assert set(stages[0].trains) <= set(available())
        assert len({recipe.stage for recipe in stages}) == len(stages)
        assert all(bool(recipe.stage) == (len(stages) > 1) for recipe in stages)
        assert all(recipe.keep in ("last", "best-sam", "best-psnr") for recipe in stages)


@pytest.mark.parametrize("name", names(family="supervised"))
def test_a_task_groups_every_parameter_it_trains_once(name):
    for stages in card(name).recipes.values():
        stages = stages if isinstance(stages, tuple) else (stages,)
        models = {each: build(each) for each in stages[0].trains}
        task = stages[0].task(models, stages[0])
        trained = set()
        for recipe in stages:
            task.begin(recipe)
            groups = task.parameter_groups()
            ids = [id(p) for group in groups for p in group["params"]]
            assert len(ids) == len(set(ids)) and set(ids) <= {id(p) for p in task.parameters()}
            assert all(p.requires_grad for group in groups for p in group["params"])
            assert all(set(group) <= {"params", "name", "lr", "weight_decay", "schedule"} for group in groups)
            assert {group["name"].partition("/")[0] for group in groups} == set(recipe.trains)
            assert set(recipe.trains) <= {group["name"] for group in groups}
            trained |= set(ids)
        assert {id(p) for model in models.values() for p in model.parameters()} <= trained


def fits(value, hint):
    """Whether a value is of an annotated type; exactly, so that no bool passes for a number."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return any(fits(value, each) for each in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(each, inner[0]) for each in value)
    return callable(value) if origin is collections.abc.Callable else type(value) is hint


@pytest.mark.parametrize("name", NAMES)
def test_traits_are_of_the_declared_types_and_true(name):
    model = build(name)
    for key, hint in get_type_hints(Traits).items():
        assert fits(trait(model, key), hint), f"{key} is {trait(model, key)!r}, not {hint}"
    assert trait(model, "oracle") == card(name).oracle
    parameters = [key for key, _ in model.named_parameters()] if isinstance(model, torch.nn.Module) else []
    assert all(any(key.startswith(prefix) for key in parameters) for prefix in trait(model, "unused"))
    assert trait(model, "size") is None or trait(model, "size") > 0
    if trait(model, "network"):
        assert card(name).family != "classical" and isinstance(trait(model, "network")((LR, LR)), torch.nn.Module)


def test_the_wrong_type_fits_no_trait():
    hints = get_type_hints(Traits)
    for key, wrong in {"unused": "decoder.", "derived": (1,), "oracle": 1, "size": True, "network": "net"}.items():
        assert not fits(wrong, hints[key])
    assert set(hints) == {"unused", "derived", "oracle", "size", "network"}


def test_traits_are_read_in_one_place():
    """Of :func:`methods.registry.trait`: ``getattr`` on a method takes a submodule of that name for a trait."""
    traits = set(get_type_hints(Traits))
    for path in [*(ROOT / "methods").rglob("*.py"), *(ROOT / "benchmark").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
                literal = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
                assert literal not in traits, f"{path.relative_to(ROOT)}:{node.lineno} reads the trait '{literal}'"


def test_a_submodule_is_not_taken_for_a_trait():
    model = torch.nn.Module()
    model.network = torch.nn.Linear(1, 1)
    assert trait(model, "network") is None
    model.unused = ("decoder.",)
    assert trait(model, "unused") == ("decoder.",)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_is_told_is_what_it_needs(name):
    method, accepted = card(name), inspect.signature(card(name).build).parameters
    assert told(name) == method.told and bool(method.told) == (method.family != "supervised")
    if method.told == "blind":
        assert not set(accepted) & set(RESPONSES)
    if method.told == "known":
        assert "srf" in accepted and not name.endswith("-blind")
        with pytest.raises(MethodError, match="srf"):
            build(name, responses=False)
        if "mode" in accepted:
            assert told(f"{name}@mode=blind") == told(name, {"mode": "blind"}) == "blind"
            assert f"{name}-blind" in NAMES
            blind, same = (vars(build(label, responses=False)) for label in (f"{name}@mode=blind", f"{name}-blind"))
            assert {**blind, "card": None} == {**same, "card": None}
            with pytest.raises(MethodError, match=f"^{name}: mode 'seen'; choices: known, blind"):
                build(f"{name}@mode=seen")
            with pytest.raises(MethodError, match=f"^{name}: mode 'known' needs .*srf.* give them or take mode='blind'"):
                build(name, responses=False)


# ---- names


def test_a_variant_is_the_method_with_other_arguments():
    bands = {"bands": BANDS, "msi_bands": 4}
    assert create("cnmf-blind@endmembers=7,start=spa", **bands).start == "spa"
    assert create("cnmf-blind@endmembers=7,start='spa'", endmembers=9, **bands).endmembers == 7  # the name's own win
    model = create("s3rnet-student@width=8,depths=(1, 2,1,1)", **bands)
    same = create("s3rnet-student", width=8, depths=(1, 2, 1, 1), **bands)
    assert {key: value.shape for key, value in model.state_dict().items()} == {
        key: value.shape for key, value in same.state_dict().items()}
    assert model.card is card("s3rnet-student@width=8") is card("s3rnet-student")


@pytest.mark.parametrize("label, words", [
    ("cnmf@endmember=7", r"'cnmf' has no argument 'endmember'; choices: mode, endmembers, start, seed"),
    ("gsa@width=7", r"'gsa' has no argument 'width'; choices: none"),
    ("cnmf@srf=1", r"'cnmf' has no argument 'srf'"),
    ("cnmf@", "nothing behind the @; write cnmf@key=value,key=value"),
    ("cnmf@endmembers", "'endmembers' is not key=value"),
    ("cnmf@endmembers=", "'endmembers=' is not key=value"),
    ("cnmf@seed=1,seed=2", "'seed' is said twice"),
    ("cnfm@seed=1", r"unknown method 'cnfm'\. Did you mean 'cnmf'\? Choices: .*bicubic"),
    ("cnmf@endmembers=abc", "endmembers=abc is not a whole number, such as endmembers=30"),
    ("ssuf@width=1.5", "width=1.5 is not a whole number"),
    ("ssuf@width=True", "width=True is not a whole number"),
    ("ssuf@width=-4", "width=-4 is negative"),
    ("ssuf@width=0", r"'ssuf@width=0' cannot be built \(.*\); its arguments are by default: width=64"),
    ("cnmf-blind@start=vcaa", "start 'vcaa'; choices: vca, spa"),
])
def test_a_variant_that_cannot_be_is_refused_with_the_choices(label, words):
    with pytest.raises(MethodError, match=words):
        create(label, bands=BANDS, msi_bands=4)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(MethodError, match=r"Did you mean 's3rnet-student'.*Choices: .*band-regression, bicubic"):
        create("s3rnet-studnt", bands=4, msi_bands=2)


@pytest.mark.parametrize("changed, words", [
    ({"name": "bicubic"}, "registered twice"),
    ({"name": "Another"}, "small letters, digits and hyphens"),
    ({"name": "an@other"}, "small letters, digits and hyphens"),
    ({"family": "magic"}, "family 'magic'; choices: classical"),
    ({"fidelity": "hearsay"}, "fidelity 'hearsay'; choices: release"),
    ({"told": ""}, "told ''; choices: known, blind"),
    ({"family": "supervised"}, "told 'blind'; choices: none"),
])
def test_a_name_is_registered_once_and_a_card_says_what_there_is(changed, words):
    good = {"name": "another", "family": "classical", "paper": "p", "year": 2000, "fidelity": "reference", "told": "blind"}
    with pytest.raises(MethodError, match=words):
        register(**good | changed)(lambda: None)
    assert "another" not in available()


def test_an_oracle_must_say_so_on_its_card():
    with pytest.raises(MethodError, match=r"must be on its card .*oracles are: psdnet-oracle, usdn-oracle"):
        build("usdn@stop=oracle")


def test_the_example_of_the_readme_is_short():
    assert EXAMPLE_LINES <= 35


# ---- how it is called


def test_fuse_maps_the_value_range():
    class Echo(torch.nn.Module):
        def forward(self, lr_hsi, hr_msi):
            self.seen = hr_msi.min().item(), hr_msi.max().item()
            return hr_msi * 2  # in [-1, 1] terms

    model = Echo()
    model.card = card("s3rnet-student")
    hr_msi = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3)
    assert torch.allclose(fuse(model, hr_msi, hr_msi).flatten(), torch.tensor([-0.5, 0.0, 1.5]))
    assert model.seen == (-1.0, 1.0)


def test_only_an_oracle_is_shown_the_reference():
    class Oracle:
        oracle = True
        card = card("bicubic")

        def __call__(self, lr_hsi, hr_msi, reference):
            return reference

    image = torch.rand(1, 2, 4, 4)
    assert torch.equal(fuse(Oracle(), image, image, image), image)
    with pytest.raises(MethodError, match="was given none"):
        fuse(Oracle(), image, image)
