"""The commands as a user gives them: run, rerun, interrupt, resume, report, and every kind of bad input."""

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch

import run_benchmark
from benchmark import jobs, store
from benchmark.arguments import arguments
from benchmark.flags import study_of
from benchmark.metrics import METRICS
from benchmark.page import pages
from benchmark.plan import Job, plan
from benchmark.protocol import CLEAN, noise
from benchmark.rows import read as rows_of_file
from benchmark.studies import STUDIES
from methods import registry

PROMISED = """method dataset split image msi_bands ratio scenario noise_target snr_db seed protocol psnr_db sam_deg
    rmse ergas ssim seconds device job status""".split()


@pytest.fixture
def tiny(monkeypatch):
    """A profile that runs in seconds."""
    quick = STUDIES["quick"]
    study = dataclasses.replace(
        quick, name="tiny", methods=("bicubic", "gsa", "s3rnet-teacher", "s3rnet-student"),
        dataset_options={"size": 32, "train": 2, "val": 1, "test": 2},
        protocol=dataclasses.replace(quick.protocol, hr_size=32), scenarios=(CLEAN, noise("both", 30)),
        training={"steps": 2, "batch": 1, "crop": 16}, msi_bands=(4,), cost_lr_size=4, pictures=False,
        arguments={name: {"width": 4, "depths": (1, 1, 1, 1)} for name in ("s3rnet-teacher", "s3rnet-student")},
    )
    monkeypatch.setitem(STUDIES, "tiny", study)
    return study


def run(where, *words, command="run"):
    """A command on the profile, under its own name whatever the flags."""
    here = ["--engine", "here"] if command == "run" else []  # what tests replace a process of its own would not see
    return run_benchmark.main([command, "--profile", "tiny", "--study", "tiny", "--device", "cpu", *here, "--results",
                               str(where / "results"), "--reports", str(where / "reports"), *words])


def rows(where):
    paths = sorted((where / "results").glob("*/score-*/rows.csv"))
    return {path.parent.name: path.read_bytes() for path in paths}


def without_times(where):
    frames = [rows_of_file(path) for path in sorted((where / "results").glob("*/score-*/rows.csv"))]
    return pd.concat(frames).drop(columns="seconds").sort_values(["job", "image"]).reset_index(drop=True)


def test_run_measures_renders_and_does_nothing_twice(tiny, tmp_path, capsys):
    assert run(tmp_path) == 0
    page = tmp_path / "reports/tiny/index.html"
    assert capsys.readouterr().out.strip() == str(page)
    table = without_times(tmp_path)
    assert set(PROMISED) - {"seconds"} <= set(table.columns) and not table[PROMISED[:11]].isna().any().any()
    assert len(table) == len(tiny.methods) * 2 * 2 and (table["status"] == "ok").all()
    assert set(table["method"]) == set(tiny.methods) and table["psnr_db"].between(0, 80).all()
    clean = table[table["scenario"] == "clean"]
    assert np.isinf(clean["snr_db"]).all() and (clean["noise_target"] == "none").all()
    words = json.loads(next((tmp_path / "results").glob("*/score-gsa-*/job.json")).read_text())
    assert words["provenance"]["protocol"] == tiny.protocol.digest and words["inputs"]["kind"] == "score"
    for method in tiny.methods:
        assert method in page.read_text()

    before, html = rows(tmp_path), page.read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")}
    assert run(tmp_path) == 0
    assert rows(tmp_path) == before and page.read_bytes() == html
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")}
    page.unlink()
    assert run(tmp_path, command="report") == 0 and page.read_bytes() == html

    assert run(tmp_path, "--dry-run") == 0
    states = [line.split()[0] for line in capsys.readouterr().out.splitlines() if " msi4" in line]
    assert set(states) == {"done"}


def test_a_page_is_rendered_again_only_where_something_is_another(tiny, tmp_path, monkeypatch):
    rendered = []
    original = pages.render_study
    monkeypatch.setattr(pages, "render_study", lambda *args: rendered.append(args) or original(*args))
    assert run(tmp_path) == run(tmp_path) == 0
    assert len(rendered) == 1
    page, table = tmp_path / "reports/tiny/index.html", next((tmp_path / "reports/tiny").rglob("*.csv"))
    some = next((tmp_path / "results").glob("*/score-gsa-*/rows.csv"))

    def spoil_rows():
        some.write_text(some.read_text().replace(",ok,", ",failed,"))

    for spoil in (page.unlink, lambda: page.write_text("another"), table.unlink, spoil_rows,
                  lambda: monkeypatch.setitem(METRICS, "psnr_db", dataclasses.replace(METRICS["psnr_db"], label="Peak")),
                  lambda: monkeypatch.setitem(STUDIES, "tiny", dataclasses.replace(tiny, title="Tinier"))):
        spoil()
        before = len(rendered)
        assert run(tmp_path) == run(tmp_path) == 0
        assert len(rendered) == before + 1


def test_what_a_page_is_made_of_is_the_same_in_every_process(tmp_path):
    code = ("from dataclasses import replace; from pathlib import Path; from benchmark.page.current import made_of\n"
            "from benchmark.studies import study\n"
            "of = replace(study('quick'), replaced=frozenset(('methods', 'training', 'seeds', 'speed')))\n"
            f"print(made_of(of, [], Path({str(tmp_path)!r})))")
    root = Path(run_benchmark.__file__).parent
    told = {subprocess.run([sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
                           capture_output=True, text=True).stdout for seed in ("1", "2", "3")}
    assert len(told) == 1


def test_a_run_killed_between_jobs_ends_with_the_same_rows(tiny, tmp_path, monkeypatch, capsys):
    assert run(tmp_path / "whole") == 0
    original, count = jobs.run_one, []

    def killed(*arguments, **words):
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt
        return original(*arguments, **words)

    monkeypatch.setattr(jobs, "run_one", killed)
    assert run(tmp_path / "parts") == 130
    assert "the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(jobs, "run_one", original)
    assert run(tmp_path / "parts") == 0
    assert without_times(tmp_path / "whole").equals(without_times(tmp_path / "parts"))


def test_a_score_job_interrupted_at_an_image_goes_on_there(tiny, tmp_path, monkeypatch):
    fused = []

    class Slow:
        def __call__(self, lr_hsi, hr_msi):
            fused.append(lr_hsi)
            if len(fused) == 2:
                raise KeyboardInterrupt
            return torch.nn.functional.interpolate(lr_hsi, hr_msi.shape[2:])

    build = dataclasses.replace(registry.card("gsa"), build=lambda: Slow())
    monkeypatch.setitem(registry._METHODS, "gsa", build)
    words = ("--methods", "gsa")
    assert run(tmp_path, *words) == 130
    assert not rows(tmp_path) and len(list((tmp_path / "results").glob("*/*/rows.kept.csv"))) == 1
    assert run(tmp_path, *words) == 0
    table = without_times(tmp_path)
    assert len(table) == 4
    assert not any(torch.equal(fused[0], later) for later in fused[1:])
    assert not table.isna().any().any() and not list((tmp_path / "results").glob("*/*/rows.kept.csv"))


def test_rows_of_other_code_are_not_kept(tiny, tmp_path, monkeypatch):
    job = next(job for job in plan(tiny, "cpu") if job.kind == "score")
    place = store.begin(tmp_path, job)
    store.keep(place, [{"image": "a", "psnr_db": 1.0}])
    assert store.kept(store.begin(tmp_path, job)) == [{"image": "a", "psnr_db": 1.0}]
    monkeypatch.setattr(Job, "source", {"method": "other"})
    assert store.kept(store.begin(tmp_path, dataclasses.replace(job))) == []


def test_a_failing_method_is_recorded_and_costs_no_other_its_rows(tiny, tmp_path, monkeypatch, capsys):
    method = registry.card("gsa")
    monkeypatch.setitem(registry._METHODS, "gsa", dataclasses.replace(method, build=lambda: 1 / 0))
    assert run(tmp_path, "--methods", "bicubic", "gsa") == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    errors = list((tmp_path / "results").glob("*/*/error.txt"))
    assert len(errors) == 3 and all("gsa" in path.parent.name for path in errors)  # two scenarios and the cost
    assert set(without_times(tmp_path)["method"]) == {"bicubic"}
    assert "ZeroDivisionError" in (tmp_path / "reports/tiny/index.html").read_text()
    monkeypatch.setitem(registry._METHODS, "gsa", method)
    assert run(tmp_path, "--methods", "bicubic", "gsa") == 0
    assert set(without_times(tmp_path)["method"]) == {"bicubic", "gsa"}
    assert not list((tmp_path / "results").glob("*/*/error.txt"))


def test_a_method_without_one_finite_estimate_is_failed_and_tried_again(tiny, tmp_path, monkeypatch):
    class Broken:
        def __call__(self, lr_hsi, hr_msi):
            return torch.full((1, lr_hsi.shape[1], *hr_msi.shape[2:]), math.nan)

    method = registry.card("gsa")
    monkeypatch.setitem(registry._METHODS, "gsa", dataclasses.replace(method, build=lambda: Broken()))
    assert run(tmp_path, "--methods", "bicubic", "gsa") == 1
    assert set(without_times(tmp_path)["method"]) == {"bicubic"}
    assert "none of 2 estimates is finite" in (tmp_path / "reports/tiny/index.html").read_text()
    monkeypatch.setitem(registry._METHODS, "gsa", method)
    assert run(tmp_path, "--methods", "bicubic", "gsa") == 0  # failed jobs are tried again
    assert set(without_times(tmp_path)["method"]) == {"bicubic", "gsa"}


def test_one_image_that_is_not_finite_is_a_failed_row_among_the_others(tiny, tmp_path, monkeypatch):
    class Half:
        calls = 0

        def __call__(self, lr_hsi, hr_msi):
            Half.calls += 1
            return torch.full((1, lr_hsi.shape[1], *hr_msi.shape[2:]), math.nan if Half.calls % 2 else 0.5)

    monkeypatch.setitem(registry._METHODS, "gsa", dataclasses.replace(registry.card("gsa"), build=lambda: Half()))
    assert run(tmp_path, "--methods", "gsa") == 0
    table = without_times(tmp_path)
    assert sorted(table["status"]) == ["failed", "failed", "ok", "ok"]
    assert (table["psnr_db"].isna() == (table["status"] == "failed")).all()


def test_changed_code_makes_rows_stale_and_redoes_them_on_request_only(tiny, tmp_path, monkeypatch, capsys):
    assert run(tmp_path, "--methods", "bicubic") == 0
    before = rows(tmp_path)
    monkeypatch.setattr(Job, "source", {"method": "another"})
    assert run(tmp_path, "--methods", "bicubic") == 0 and rows(tmp_path) == before
    capsys.readouterr()
    assert run(tmp_path, "--methods", "bicubic", "--dry-run") == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines() if " msi4" in line} == {"stale"}
    assert run(tmp_path, "--methods", "bicubic", "--redo-stale") == 0
    assert rows(tmp_path).keys() == before.keys() and rows(tmp_path) != before  # measured again: other seconds


def test_scores_without_parameters_train_again_and_give_the_same(tiny, tmp_path):
    assert run(tmp_path, "--methods", "s3rnet-teacher", "s3rnet-student") == 0
    before = without_times(tmp_path)
    for path in (tmp_path / "results").glob("*/train-*/model.safetensors"):
        path.unlink()
    for path in (tmp_path / "results").glob("*/score-s3rnet-student-*/rows.csv"):
        path.unlink()
    assert run(tmp_path, "--methods", "s3rnet-teacher", "s3rnet-student") == 0
    assert without_times(tmp_path).equals(before)


def test_the_parameters_of_a_study_make_a_file_that_serves_as_they_do(tiny, tmp_path, capsys):
    """In half precision, and for whoever may read the user's other files."""
    path, other = tmp_path / "kept" / "student.safetensors", tmp_path / "other"
    assert run(tmp_path, "--methods", "s3rnet-student", "--to", str(path), command="weights") == 2
    assert "run the study first" in capsys.readouterr().err and not path.exists()
    assert run(tmp_path, "--methods", "s3rnet-student") == 0
    assert run(tmp_path, "--methods", "s3rnet-student", "--to", str(path), command="weights") == 0
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode
    assert run(tmp_path, "--methods", f"s3rnet-student@weights={path}") == 0
    both = without_times(tmp_path).groupby("method")["psnr_db"].mean()
    assert len(both) == 2 and both.max() - both.min() < 0.02


def example():
    """The method that the README shows how to add."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    return next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "@register" in block)


def test_the_readme_s_method_is_complete_and_needs_no_other_edit(tiny, tmp_path, monkeypatch, capsys):
    assert len(example().splitlines()) <= 35
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    path = tmp_path / "mine.py"
    path.write_text(example())
    known = set(registry.available())
    words = ("--study-file", str(path))
    assert run_benchmark.main(["list", *words]) == 0
    (name,) = set(registry.available()) - known
    assert name in capsys.readouterr().out
    assert run(tmp_path, "--methods", "bicubic", name, *words) == 0
    page = (tmp_path / "reports/tiny/index.html").read_text()
    assert page.count(name) > 5 and name in (tmp_path / "reports/tiny/tables").glob("*table-1.md").__next__().read_text()
    table = without_times(tmp_path)
    psnr = table[table["scenario"] == "clean"].groupby("method")["psnr_db"].mean()
    assert psnr[name] > psnr["bicubic"]


def cubes(folder, spoil):
    """Three good cubes of 224 bands, each spoilt by ``spoil``."""
    folder.mkdir()
    for i in range(3):
        cube = np.random.default_rng(i).uniform(1, 1000, (36, 36, 224))
        spoil(folder, f"scene{i}", cube)
    return folder


def unnamed(folder, name, cube):
    np.savez(folder / f"{name}.npz", cube=cube)


def truncated(folder, name, cube):
    path = folder / f"{name}.mat"
    scipy.io.savemat(path, {"cube": cube[:, :, :30]})
    path.write_bytes(path.read_bytes()[:5000])


def nothing(folder, name, cube):
    (folder / f"{name}.txt").write_text("no cube")


@pytest.mark.parametrize("spoil, words", [
    (unnamed, "224 bands and no wavelengths.*sensor=aviris"),
    (truncated, r"\.mat"),
    (nothing, "readable"),
])
def test_bad_cubes_are_one_paragraph_and_exit_2(tiny, tmp_path, capsys, spoil, words):
    root = cubes(tmp_path / "cubes", spoil)
    assert run(tmp_path, "--dataset", "folder", "--data-option", f"root={root}", "--methods", "bicubic") == 2
    told = capsys.readouterr().err
    assert re.search(words, told, re.S) and "Traceback" not in told
    assert len([line for line in told.splitlines() if line]) == 1


@pytest.mark.parametrize("words, told", [
    (["--methods", "gsaa"], "unknown method 'gsaa'. Did you mean 'gsa'"),
    (["--protocol", "papr"], "unknown protocol 'papr'; choices: paper"),
    (["--dataset", "avris"], "unknown dataset 'avris'. Did you mean 'aviris'"),
    (["--recipe", "fast"], "no recipe 'fast'; choices: paper, release"),
    (["--splits", "holdout"], "no scenes in split 'holdout'"),
    (["--hr-size", "8"], "too small"),
    (["--shard", "3/2"], "give i/n"),
    (["--msi-bands", "5"], "--msi-bands 5: the MSI sensor landsat-tm has 4 or 6 bands here"),
    (["--data-option", "size"], "give KEY=VALUE"),
    (["--profile", "quik"], "unknown profile 'quik'. Did you mean 'quick'"),
    (["--devices", "0", "--dry-run"], "--devices 0: 1 or more"),
    (["--engine", "local:0", "--dry-run"], "--engine local:0: N is a number of processes"),
    (["--engine", "slum:2", "--dry-run"], "--engine slum:2: choices: here, local"),
    (["--methods", "cnmf@endmembers=abc", "--dry-run"], "endmembers=abc is not a whole number, such as endmembers=30"),
    (["--steps", "0"], "steps is 0; choose 1 or more"),
    (["--steps", "-1"], "steps is -1; choose 1 or more"),
    (["--minutes", "0"], "minutes is 0; choose a number above 0"),
    (["--minutes", "nan"], "minutes is nan; choose a number above 0"),
    (["--timeout", "0"], "--timeout 0: choose a number of hours above 0"),
    (["--timeout", "nan"], "--timeout nan"),
    (["--lr", "0"], "lr is 0; choose a number above 0"),
    (["--batch", "0"], "batch is 0; choose 1 or more"),
    (["--methods", "psdnet", "--steps", "1"], "trained in 2 stages: 1 steps cannot be shared"),
    (["--msi-bands", "0"], "msi_bands 0; choose 1 or more"),
    (["--hr-size", "0"], "--hr-size 0"),
    (["--lr-size", "0"], "cost_lr_size 0; choose 1 or more"),
    (["--precision", "16-mixed"], "needs a GPU"),
    (["--methods", "gsa@rank=3"], "has no argument 'rank'"),
    (["--methods", "gsa", "gsa"], "named twice: gsa"),
    (["--data-option", "train=many"], "train"),
    (["--study", "../../x"], "no slash"),
    (["--study-file", "nowhere.py"], "no such file"),
])
def test_bad_words_name_value_and_choices(tiny, tmp_path, capsys, words, told):
    assert run(tmp_path, *words) == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error
    assert not list((tmp_path / "results").rglob("rows.csv"))


def test_a_study_that_flags_have_changed_has_a_page_of_its_own(tiny, tmp_path, capsys):
    words = ["report", "--profile", "tiny", "--device", "cpu", "--results", str(tmp_path / "res"),
             "--reports", str(tmp_path / "rep")]
    pages = {}
    for flags in ([], ["--methods", *tiny.methods], ["--steps", "60"], ["--steps", "61"], ["--study", "mine", "--steps", "60"]):
        assert run_benchmark.main([*words, *flags]) == 0
        pages[" ".join(flags)] = Path(capsys.readouterr().out.strip()).parent.name
    plain, same, sixty, other, mine = pages.values()
    assert plain == same == "tiny" and mine == "mine"
    assert len({plain, sixty, other}) == 3 and sixty.startswith("tiny-")


@pytest.mark.parametrize("command", ["claims", "report", "run", "status", "verify"])
def test_the_name_of_a_study_starts_from_it_and_no_other_takes_its_page(tiny, tmp_path, capsys, command):
    def told(*words):
        code = run_benchmark.main([command, *words, "--results", str(tmp_path / "res"), "--reports", str(tmp_path / "rep")])
        assert code == 2 and not list(tmp_path.iterdir())
        return capsys.readouterr().err

    assert "Did you mean 'aviris'?" in told("--study", "aviriss")
    assert "the report would take the place of that of study aviris;" in told("--profile", "tiny", "--study", "aviris")
    assert "unknown profile 'aviriss'. Did you mean" in told("--profile", "aviriss", "--study", "mine")
    parsed = arguments("").parse_args
    begun = study_of(parsed([command, "--study", "tiny"]))
    assert (begun.name, begun.methods, begun.replaced) == ("tiny", tiny.methods, frozenset())
    assert study_of(parsed([command, "--study", "tiny", "--steps", "60"])).name.startswith("tiny-")
    assert study_of(parsed([command, "--study", "mine", "--steps", "60"])).name == "mine"


def test_a_study_file_brings_a_method_a_dataset_a_metric_a_scenario_and_a_study(tmp_path):
    """Each from outside of the tree, all in one file, with no edit of the tree; their code counts like ours."""

    def command(path, *words):
        return subprocess.run(
            [sys.executable, "run_benchmark.py", "run", "--profile", "mine", "--study-file", str(path), "--device", "cpu",
             "--results", str(tmp_path / "res"), "--reports", str(tmp_path / "rep"), *words],
            capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True).stdout

    path = tmp_path / "my_study.py"
    path.write_text(OUTSIDE)
    command(path)
    frame = pd.concat(rows_of_file(each) for each in (tmp_path / "res").glob("*/score-*/rows.csv"))
    assert set(frame["method"]) == {"bicubic", "flat-mean"} and set(frame["dataset"]) == {"ramps"}
    assert set(frame["scenario"]) == {"clean", "wrong-psf"} and not frame["mean_error"].isna().any()
    page = (tmp_path / "rep/mine/index.html").read_text()
    assert "flat-mean" in page and "Ramps seen from outside" in page
    assert {line.split()[0] for line in command(path, "--dry-run").splitlines() if " msi4" in line} == {"done"}
    edits = {"lr_hsi.mean(": ("lr_hsi.amax(", "method"), "rows + band": ("rows + 2 * band", "data"),
             "(estimate - reference)": ("(reference - estimate)", "metric mean_error")}
    for old, (new, part) in edits.items():
        path.write_text(OUTSIDE.replace(old, new))
        stale = [line for line in command(path, "--dry-run").splitlines() if line.startswith("stale ") and " msi4" in line]
        assert stale and all(part in line for line in stale), part


OUTSIDE = '''
import dataclasses
import numpy as np
from benchmark.metrics import METRICS, Metric
from benchmark.plan import Study
from benchmark.protocol import CLEAN, PAPER, Scenario
from benchmark.studies import register as register_study
from datasets.scene import Dataset, Scene, register as register_dataset
from methods.registry import register as register_method


class FlatMean:
    def __call__(self, lr_hsi, hr_msi):
        return lr_hsi.mean((2, 3), keepdim=True).expand(-1, -1, *hr_msi.shape[2:]).contiguous()


@register_method("flat-mean", "classical", paper="nobody", year=2026, fidelity="described", told="blind")
def build():
    return FlatMean()


@register_dataset("ramps")
class Ramps(Dataset):
    def splits(self):
        return {"train": ["a"], "val": ["b"], "test": ["c", "d"]}

    def digest(self):
        return "1"

    def read(self, base):
        rows, columns, band = np.mgrid[:32, :32, :12]
        cube = (rows + band + ord(base) * columns % 7).transpose(2, 0, 1)
        return Scene.from_native(base, cube, np.linspace(460, 890, 12))


def mean_error(estimate, reference):
    """Signed error."""
    return (estimate - reference).mean((-3, -2, -1))


METRICS["mean_error"] = Metric("Mean error", mean_error, "lower", "unit range", 4)
register_study(Study("mine", "Ramps seen from outside", ("bicubic", "flat-mean"), "ramps", msi_bands=(4,),
                     protocol=dataclasses.replace(PAPER, bands="all", hr_size=32), cost_lr_size=4,
                     scenarios=(CLEAN, Scenario("wrong-psf", told_psf_sigma=1.5))))
'''


def test_a_results_folder_that_cannot_be_written_is_named(tiny, tmp_path, capsys):
    (tmp_path / "results").write_text("a file, not a folder")
    assert run(tmp_path, "--methods", "bicubic") == 2
    assert "--results" in capsys.readouterr().err
    assert (tmp_path / "results").read_text() == "a file, not a folder"


def test_real_scenes_without_their_folder_say_what_to_do(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HSFUSION_DATA", raising=False)
    assert run(tmp_path, "--dataset", "aviris", "--splits", "test-same-flight", "--methods", "bicubic") == 2
    assert "HSFUSION_DATA" in capsys.readouterr().err
