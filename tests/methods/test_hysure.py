"""HySure against recorded outputs of the reference toolbox and against ADMM step by step."""


import numpy as np
import pytest
import torch

import methods.hysure  # noqa: F401
from benchmark.fidelity.cases import make_case, make_noisy_case, sample_indices
from benchmark.fidelity.recordings import load_case
from benchmark.fidelity.toolboxes import as_image
from benchmark.metrics import measure
from methods import create, fuse
from methods.estimation import estimate_hysure, estimate_srf
from methods.registry import MethodError
from methods.responses import gaussian_psf
from methods.unmixing import vca
from tests.methods.images import random_pair, random_srf

GOLDEN = load_case("classical")["cases"]
MAKE = {"case1": make_case, "case1_noisy": make_noisy_case}
METRICS = {"psnr_db": "psnr", "sam_deg": "sam", "rmse_unit": "rmse", "ergas": "ergas"}


def told(bands=7, msi_bands=3, ratio=4, size=5, phase=1):
    return {"psf": gaussian_psf(size, 1.3), "srf": random_srf(bands, msi_bands), "phase": phase}


def build(name, lr_hsi, hr_msi, **options):
    ratio = hr_msi.shape[-1] // lr_hsi.shape[-1]
    return create(name, bands=lr_hsi.shape[1], msi_bands=hr_msi.shape[1], ratio=ratio, **options)


# ---- recorded outputs


@pytest.mark.golden
@pytest.mark.parametrize("case_name", list(MAKE))
def test_golden_with_given_responses(case_name):
    case, golden = MAKE[case_name](), GOLDEN[case_name]["results"]["HySureKnown"]
    lr_hsi, hr_msi, reference = (as_image(case[key]) for key in ("lr_hsi", "hr_msi", "hr_hsi"))
    psf, srf = (torch.from_numpy(case[key]) for key in ("psf", "srf"))
    options = {"psf": psf, "srf": srf, "phase": case["offset"], "endmembers": 8, "basis": "svd"}
    fused = fuse(build("hysure", lr_hsi, hr_msi, **options), lr_hsi, hr_msi)
    samples = fused[0].permute(1, 2, 0).numpy()[tuple(sample_indices(case["hr_hsi"].shape).T)]
    assert np.abs(samples - golden["samples"]).max() < golden["suggested_sample_tolerance"]
    ours = measure(fused, reference)
    for column, key in METRICS.items():
        assert ours[column].item() == pytest.approx(golden["metrics"][key], rel=1e-8), key
    # The harness passes float32 throughout.
    options["psf"], options["srf"] = psf.float(), srf.float()
    single = fuse(build("hysure", lr_hsi, hr_msi, **options), lr_hsi.float(), hr_msi.float())
    assert single.dtype == torch.float32
    assert measure(single, reference)["psnr_db"].item() == pytest.approx(golden["metrics"]["psnr"], abs=1e-3)


@pytest.mark.golden
@pytest.mark.parametrize("endmembers, key", [(10, "HySure10"), (30, "HySure")])
def test_golden_blind(endmembers, key):
    """The random part is the VCA basis. Five seeds: their mean lies within the recorded range of five runs, and each of them
    within that range widened by its own width."""
    case, golden = make_noisy_case(), GOLDEN["case1_noisy"]["results"][key]
    lr_hsi, hr_msi, reference = (as_image(case[name]) for name in ("lr_hsi", "hr_msi", "hr_hsi"))
    runs = []
    for seed in range(5):
        fused = fuse(build("hysure-blind", lr_hsi, hr_msi, endmembers=endmembers, seed=seed), lr_hsi, hr_msi)
        runs.append(measure(fused, reference))
    for column, name in METRICS.items():
        low, high = golden["spread"][name]
        values = torch.stack([run[column].squeeze() for run in runs])
        assert low <= values.mean() <= high, (name, values)
        assert (values >= low - (high - low)).all() and (values <= high + (high - low)).all(), (name, values)
    # Where the PSF lies, which metrics alone hardly tell: a pixel to the other side would differ by 0.03.
    samples = fused[0].permute(1, 2, 0).numpy()[tuple(sample_indices(case["hr_hsi"].shape).T)]
    assert np.sqrt(np.mean((samples - golden["samples"]) ** 2)) < 0.01
    single = fuse(build("hysure-blind", lr_hsi, hr_msi, endmembers=endmembers, seed=4), lr_hsi.float(), hr_msi.float())
    assert measure(single, reference)["psnr_db"].item() == pytest.approx(runs[-1]["psnr_db"].item(), abs=1e-3)


@pytest.mark.golden
def test_golden_blind_on_noise_free_data():
    """Eight dimensions, ten endmembers: two are as good as any. Hence only the mean, within twice the recorded spread."""
    case, golden = make_case(), GOLDEN["case1"]["results"]["HySure10"]
    lr_hsi, hr_msi, reference = (as_image(case[name]) for name in ("lr_hsi", "hr_msi", "hr_hsi"))
    models = [build("hysure-blind", lr_hsi, hr_msi, endmembers=10, seed=seed) for seed in range(5)]
    runs = [measure(fuse(model, lr_hsi, hr_msi), reference) for model in models]
    for column, name in METRICS.items():
        low, high = golden["spread"][name]
        mean = torch.stack([run[column].squeeze() for run in runs]).mean()
        assert low - (high - low) <= mean <= high + (high - low), name


@pytest.mark.parametrize("basis", ["vca", "svd"])
def test_noise_free_data_with_any_number_of_endmembers(basis):
    case = make_case()
    lr_hsi, hr_msi, reference = (as_image(case[name]) for name in ("lr_hsi", "hr_msi", "hr_hsi"))
    psf, srf = (torch.from_numpy(case[key]) for key in ("psf", "srf"))
    model = build("hysure", lr_hsi, hr_msi, psf=psf, srf=srf, phase=1, basis=basis)  # 30, of 8 dimensions
    fused = fuse(model, lr_hsi, hr_msi)
    assert measure(fused, reference)["psnr_db"] > 41
    single = fuse(model, lr_hsi.float(), hr_msi.float())
    assert torch.allclose(single.double(), fused, rtol=0, atol=1e-4)


# ---- step by step


def plain_admm(y, z, basis, srf, psf, phase, lambda_phi, lambda_m, mu, iterations):
    """NumPy, all splits in space: (bands, h, w), (msi_bands, H, W) -> (bands, H, W)."""
    (rows, columns), p = z.shape[1:], basis.shape[1]
    ratio = rows // y.shape[1]
    kernels = [np.zeros((rows, columns)) for _ in range(4)]  # of circular correlation
    for i in range(len(psf)):
        for j in range(len(psf)):
            kernels[0][(i - (len(psf) - 1) // 2) % rows, (j - (len(psf) - 1) // 2) % columns] += psf[i, j]
    for kernel in kernels[1:]:
        kernel[0, 0] = 1
    kernels[2][1 % rows, 0] -= 1
    kernels[3][0, 1 % columns] -= 1
    k = [np.conj(np.fft.fft2(kernel)) for kernel in kernels]
    den = sum(np.abs(one) ** 2 for one in k)

    def filtered(images, response):
        return np.fft.ifft2(np.fft.fft2(images) * response).real

    def flat(images):
        return images.reshape(len(images), -1)

    up = np.zeros((len(y), rows, columns))
    up[:, phase::ratio, phase::ratio] = y
    kept = np.zeros((rows, columns), dtype=bool)
    kept[phase::ratio, phase::ratio] = True
    eye, seen = np.eye(p), srf @ basis
    v, d = ([np.zeros((p, rows, columns)) for _ in range(4)] for _ in range(2))
    for _ in range(iterations):
        a = sum(filtered(v[i] + d[i], np.conj(k[i]) / den) for i in range(4))
        n = [filtered(a, k[i]) - d[i] for i in range(4)]
        at_lr = np.linalg.solve(basis.T @ basis + mu * eye, basis.T @ flat(up) + mu * flat(n[0])).reshape(a.shape)
        v[0] = np.where(kept, at_lr, n[0])
        system = lambda_m * seen.T @ seen + mu * eye
        v[1] = np.linalg.solve(system, lambda_m * seen.T @ flat(z) + mu * flat(n[1])).reshape(a.shape)
        length = np.sqrt((n[2] ** 2 + n[3] ** 2).sum(0))
        kept_part = np.maximum(0, length - lambda_phi / mu) / np.maximum(length, 1e-300)
        v[2], v[3] = n[2] * kept_part, n[3] * kept_part
        d = [v[i] - n[i] for i in range(4)]
    return (basis @ flat(a)).reshape(len(y), rows, columns)


@pytest.mark.parametrize(
    "low, ratio, phase, size, msi_bands, lambda_phi",
    [
        ((6, 5), 4, 1, 5, 3, 0.02),
        ((5, 7), 3, 0, 4, 1, 0.02),
        ((4, 6), 2, 1, 9, 6, 0.01),
        ((3, 5), 5, 4, 3, 2, 0.0),
        ((2, 1), 4, 3, 9, 3, 0.02),
    ],
)
def test_known_agrees_with_plain_admm(low, ratio, phase, size, msi_bands, lambda_phi):
    lr_hsi, hr_msi = random_pair(size=low, ratio=ratio, msi_bands=msi_bands)
    given = told(msi_bands=msi_bands, size=size, phase=phase)
    given["psf"] = given["psf"] * torch.rand(size, size, generator=torch.Generator().manual_seed(3))  # not symmetric
    weights = {"lambda_phi": lambda_phi, "lambda_m": 0.7, "mu": 0.08, "iterations": 12}
    model = build("hysure", lr_hsi, hr_msi, **given, endmembers=4, basis="svd", **weights)
    fused = fuse(model, lr_hsi, hr_msi)
    y = lr_hsi[0].numpy()
    basis = np.linalg.svd(y.reshape(len(y), -1), full_matrices=False)[0][:, :4]
    expected = plain_admm(y, hr_msi[0].numpy(), basis, given["srf"].numpy(), given["psf"].numpy(), phase, *weights.values())
    assert np.allclose(fused[0].numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rank", [7, 3])  # 3: one of 4 endmembers is no dimension of its own
def test_vca_basis_is_the_run_of_largest_volume(rank):
    lr_hsi, hr_msi = random_pair(size=(8, 8))
    lr_hsi[:, rank:] = lr_hsi[:, :1]
    pixels = lr_hsi[0].flatten(1)
    generator = torch.Generator().manual_seed(3)
    runs = [vca(pixels, 4, generator=generator, variant="b", snr_db=0.0).numpy() for _ in range(20)]
    volumes = [np.prod(np.linalg.svd(run)[1][:rank]) for run in runs]
    assert max(volumes) > 1.01 * min(volumes)
    fused = fuse(build("hysure", lr_hsi, hr_msi, **told(), endmembers=4, iterations=12, seed=3), lr_hsi, hr_msi)
    given = told()
    expected = plain_admm(
        lr_hsi[0].numpy(), hr_msi[0].numpy(), runs[int(np.argmax(volumes))], given["srf"].numpy(), given["psf"].numpy(), 1,
        1e-3, 1.0, 0.05, 12,
    )  # fmt: skip
    assert np.allclose(fused[0].numpy(), expected, rtol=0, atol=1e-10)


# ---- blind


@pytest.mark.parametrize("ratio, low", [(4, (5, 6)), (3, (6, 5)), (2, (7, 6))])
@pytest.mark.parametrize("aligned", [True, False])
def test_blind_is_known_with_estimated_responses(ratio, low, aligned):
    lr_hsi, hr_msi = random_pair(size=low, ratio=ratio)
    options = {"endmembers": 4, "iterations": 12}
    blind = fuse(build("hysure-blind", lr_hsi, hr_msi, aligned=aligned, **options), lr_hsi, hr_msi)
    psf = estimate_hysure(lr_hsi, hr_msi, endmembers=4).psf[0]
    if not aligned:  # as a convolution kernel, and for even ratios one pixel up and left of its place
        moved = torch.zeros(2 * ratio + 1, 2 * ratio + 1, dtype=torch.float64)
        shift = 0 if ratio % 2 == 0 else 1
        moved[shift : shift + len(psf), shift : shift + len(psf)] = psf
        psf = moved.flip(0, 1)
    srf, offset = estimate_srf(lr_hsi, hr_msi)
    scale = lr_hsi.max()
    clean = (hr_msi - offset[:, :, None, None]).clamp(min=0) / scale
    known = build("hysure", lr_hsi, hr_msi, psf=psf, srf=srf[0], phase=(ratio - 1) // 2, **options)
    expected = scale * fuse(known, lr_hsi / scale, clean)
    axes = torch.linalg.svd(lr_hsi[0].flatten(1), full_matrices=False)[0][:, :4]
    expected = torch.einsum("bk,ck,zcxy->zbxy", axes, axes, expected)
    assert torch.allclose(blind, expected, rtol=0, atol=1e-9)


def test_an_aligned_psf_is_better():
    case = make_noisy_case()
    lr_hsi, hr_msi, reference = (as_image(case[name]) for name in ("lr_hsi", "hr_msi", "hr_hsi"))
    scores = [
        measure(fuse(build("hysure-blind", lr_hsi, hr_msi, endmembers=10, aligned=aligned), lr_hsi, hr_msi), reference)
        for aligned in (False, True)
    ]
    assert scores[1]["psnr_db"] > scores[0]["psnr_db"] + 3


# ---- both


@pytest.mark.parametrize("name", ["hysure", "hysure-blind"])
def test_batch_is_its_images_and_runs_repeat(name):
    lr_hsi, hr_msi = (image.float() for image in random_pair(size=(5, 4), batch=2))
    given = told() if name == "hysure" else {}
    model = build(name, lr_hsi, hr_msi, iterations=10, **given)
    both = fuse(model, lr_hsi, hr_msi)
    assert both.shape == (2, 7, 20, 16) and both.dtype == torch.float32
    assert torch.equal(both, fuse(model, lr_hsi, hr_msi))
    assert torch.allclose(both.flip(0), fuse(model, lr_hsi.flip(0), hr_msi.flip(0)), rtol=0, atol=1e-6)
    for n in range(2):
        assert torch.allclose(both[n], fuse(model, lr_hsi[n : n + 1], hr_msi[n : n + 1])[0], rtol=0, atol=1e-6)
    with pytest.raises(ValueError):
        model(lr_hsi, hr_msi[:1])


def test_seeds_differ():
    lr_hsi, hr_msi = random_pair(bands=20, size=(9, 9))
    first, second = (fuse(build("hysure-blind", lr_hsi, hr_msi, iterations=5, seed=s), lr_hsi, hr_msi) for s in (0, 1))
    assert not torch.allclose(first, second, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["hysure", "hysure-blind"])
@pytest.mark.parametrize("basis", ["vca", "svd"])
@pytest.mark.parametrize("kind", ["dead bands", "constant", "rank 2", "one MSI band", "ratio 2", "few pixels"])
def test_degenerate_images_give_a_finite_one(kind, basis, name):
    low, ratio, msi_bands = (5, 4), 4, 3
    if kind == "one MSI band":
        msi_bands = 1
    elif kind == "ratio 2":
        ratio = 2
    elif kind == "few pixels":
        low = (3, 3)
    lr_hsi, hr_msi = random_pair(size=low, ratio=ratio, msi_bands=msi_bands, bands=12)
    if kind == "dead bands":
        lr_hsi[:, 2], hr_msi[:, 1] = 0, 0
    elif kind == "constant":
        lr_hsi[:], hr_msi[:] = 0.3, 0.2
    elif kind == "rank 2":
        lr_hsi[:, 2:] = lr_hsi[:, :1] + 0.1 * lr_hsi[:, 1:2]
    given = told(bands=12, msi_bands=msi_bands) if name == "hysure" else {}
    for dtype in (torch.float64, torch.float32):
        fused = fuse(build(name, lr_hsi, hr_msi, basis=basis, iterations=30, **given), lr_hsi.to(dtype), hr_msi.to(dtype))
        assert fused.isfinite().all() and fused.abs().max() < 20  # the two images are unrelated
        if kind == "dead bands":
            assert fused[:, 2].abs().max() < 1e-5


def test_black_images():
    lr_hsi, hr_msi = (torch.zeros_like(image) for image in random_pair())
    for basis in ("vca", "svd"):
        assert (fuse(build("hysure", lr_hsi, hr_msi, **told(), basis=basis, iterations=5), lr_hsi, hr_msi) == 0).all()
    with pytest.raises(MethodError, match="positive"):
        fuse(build("hysure-blind", lr_hsi, hr_msi), lr_hsi, hr_msi)


def test_what_cannot_be_built_or_fused_is_refused():
    lr_hsi, hr_msi = random_pair()
    for missing in ("psf", "srf", "phase"):
        with pytest.raises(MethodError, match="mode='blind'"):
            build("hysure", lr_hsi, hr_msi, **{**told(), missing: None})
    with pytest.raises(MethodError, match="known, blind"):
        build("hysure", lr_hsi, hr_msi, mode="both", **told())
    with pytest.raises(MethodError, match="vca, svd"):
        build("hysure-blind", lr_hsi, hr_msi, basis="pca")
    with pytest.raises(MethodError, match="window"):
        fuse(build("hysure-blind", lr_hsi, hr_msi), lr_hsi[..., :2, :2], hr_msi[..., :8, :8])
    with pytest.raises(MethodError, match="whole multiple"):
        fuse(build("hysure", lr_hsi, hr_msi, **told()), lr_hsi, hr_msi[..., :-1])
