"""Inference and training of the networks, beside how their releases run them: ``make speed``."""

import time

import pytest
import torch
from safetensors.torch import load_file

import datasets
from benchmark import metrics
from benchmark.protocol import PAPER
from methods import available, card, create, fuse
from methods.speed import prepared, reduced_precision, speed_of, trainable
from methods.tasks import HOKD
from tests.speed import yardstick

pytestmark = pytest.mark.speed
CPU = torch.device("cpu")
GOALS = {("s3rnet-student", "exact"): 1.5, ("s3rnet-teacher", "exact"): 1.25, ("s3rnet-student", "fast"): 3.0,
         ("s3rnet-teacher", "fast"): 2.5}
PAIR = ("s3rnet-teacher", "s3rnet-student")
OTHERS = [name for name in available("supervised") if not name.startswith("s3rnet-")]
SIZES = {**dict.fromkeys(PAIR, 64), "dhif-net": 8}  # LR side; the others, of which some take minutes there: 16
reduced = pytest.mark.skipif(bool(reduced_precision(CPU)), reason="this CPU does not multiply bfloat16")
SPEEDS = ["exact", pytest.param("fast", marks=reduced)]


def network(name, side):
    """As built, with parameters of a fixed draw."""
    torch.manual_seed(0)
    own = {"lr_pixels": side**2} if name == "hyper-transformer" else {}
    return create(name, bands=172, msi_bands=4, ratio=4, **own).eval()


def images(side, batch=1):
    """A smooth pair and reference in [0, 1]."""
    rng = torch.Generator().manual_seed(0)

    def smooth(bands, pixels):
        return torch.nn.functional.interpolate(torch.rand(batch, bands, 5, 5, generator=rng), (pixels, pixels), mode="bilinear")

    return smooth(172, side), smooth(4, 4 * side), smooth(172, 4 * side)


def trained(folder, name):
    """The parameters of a network's newest training below a results folder, and what its rows say; None where there is none."""
    found = []
    for place in folder.glob("*/train-*/model.safetensors") if folder else ():
        held = {key.removeprefix(f"{name}/"): value for key, value in load_file(place).items() if key.startswith(f"{name}/")}
        if held:
            found.append((place.stat().st_mtime, held))
    return max(found, key=lambda each: each[0])[1] if found else None


def loss_of(name, folder):
    """What reduced precision costs a trained network in dB on a training scene, and in words on what."""
    state = trained(folder, name)
    if state is None:
        return "", "no trained parameters were given (--speed-trained)"
    data, protocol = datasets.get("aviris"), PAPER.__class__(**{**vars(PAPER), "hr_size": 96})
    reference, seen = protocol.look(data.scene(data.entries("val")[0]), 4)
    model = network(name, 8)
    model.load_state_dict(state)
    pair = seen.lr_hsi[None], seen.hr_msi[None], reference.cube[None]
    estimates = [fuse(prepared(model, speed, CPU), *pair)[0] for speed in ("exact", "fast")]
    exact, fast = (metrics.psnr(estimate, reference.cube).item() for estimate in estimates)
    return exact - fast, f"trained, {exact:.1f} dB on the validation scene"


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("name", [*reversed(PAIR), *OTHERS])
@torch.no_grad()
def test_inference(paired, pytestconfig, name, speed):
    side = SIZES.get(name, 16)
    plain, pair = network(name, side), images(side)
    if speed_of(plain, speed) != speed:
        pytest.skip(f"{name} is not run in reduced precision")
    ready = prepared(plain, speed, CPU)
    inputs = [image * 2 - 1 for image in pair[:2]]
    start = (lambda: yardstick.s3rnet(plain, *inputs)[0] / 2 + 0.5) if name in PAIR else (lambda: fuse(plain, *pair))
    torch.manual_seed(1)  # a diffusion draws
    expected = start()
    torch.manual_seed(1)
    difference = float((fuse(ready, *pair) - expected).abs().max() / expected.abs().max())
    assert difference < (1e-5 if speed == "exact" else 0.1)
    loss, words = loss_of(name, pytestconfig.getoption("speed_trained")) if speed == "fast" else ("", "")
    paired(start, lambda: fuse(ready, *pair), rounds=5 if name in PAIR else 3, what="inference", subject=name, variant=speed,
           size=f"LR {side} -> HR {4 * side}, batch 1", goal=GOALS.get((name, speed), 1.3 if speed == "exact" else ""),
           difference=difference, loss_db=loss, note=words)


@torch.no_grad()
def test_compiled_student(paired):
    plain, pair = network("s3rnet-student", 64), images(64)
    inputs = [image * 2 - 1 for image in pair[:2]]
    compiled = torch.compile(network("s3rnet-student", 64).to(memory_format=torch.channels_last))
    laid_out = [image.contiguous(memory_format=torch.channels_last) for image in inputs]
    start = time.perf_counter()
    image = compiled(*laid_out)
    compile_seconds = time.perf_counter() - start
    assert torch.allclose(image, yardstick.s3rnet(plain, *inputs)[0], atol=1e-5)
    paired(lambda: yardstick.s3rnet(plain, *inputs), lambda: compiled(*laid_out), rounds=3, what="inference",
           subject="s3rnet-student", variant="torch.compile, not used", size="LR 64 -> HR 256, batch 1",
           compile_seconds=compile_seconds, note="channels last, full precision")


@pytest.mark.parametrize("precision", ["32-true", pytest.param("bf16-mixed", marks=reduced)])
@pytest.mark.parametrize("batch", [2, 4])
def test_training_of_the_pair(paired, batch, precision):
    recipe = card(PAIR[0]).recipes["paper"]
    lr_hsi, hr_msi, reference = images(8, batch)
    plain = [network(name, 8).train() for name in PAIR]
    optimizers = [torch.optim.Adam(each.parameters(), lr=1e-6) for each in plain]
    task = HOKD({name: trainable(network(name, 8), CPU).train() for name in PAIR}, recipe)
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-6, fused=True)
    step = {"lr_hsi": torch.stack((lr_hsi, lr_hsi), 1), "hr_msi": hr_msi, "hr_hsi": reference}

    def ours():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            terms = task(step)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        return terms[f"{PAIR[1]}/loss"].item()

    def theirs():
        return yardstick.distillation_step(*plain, optimizers, lr_hsi * 2 - 1, hr_msi * 2 - 1, reference * 2 - 1)

    assert ours() == pytest.approx(theirs(), rel=1e-5 if precision == "32-true" else 1e-2)
    paired(theirs, ours,
           rounds=5, what="training", subject="S3RNet pair", variant=precision, size=f"{batch} crops of HR 32",
           goal=1.3 if precision == "32-true" else 2.2)


@pytest.mark.parametrize("precision", ["32-true", pytest.param("bf16-mixed", marks=reduced)])
def test_training_with_large_crops(paired, precision):
    lr_hsi, hr_msi, reference = images(16, 2)
    plain, ours = network("s3rnet-student", 16).train(), trainable(network("s3rnet-student", 16), CPU).train()

    def step(model, run, mixed):
        def once():
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                image = run(model)
            model.zero_grad()
            loss = (image - reference).abs().mean()
            loss.backward()
            return loss.item()
        return once

    theirs = step(plain, lambda model: yardstick.s3rnet(model, lr_hsi, hr_msi)[0], False)
    ours = step(ours, lambda model: model(lr_hsi, hr_msi), precision == "bf16-mixed")
    assert ours() == pytest.approx(theirs(), rel=1e-5 if precision == "32-true" else 1e-2)
    paired(theirs, ours, rounds=5, what="training",
           subject="s3rnet-student", variant=precision, size="2 crops of HR 64, without the optimizer")
