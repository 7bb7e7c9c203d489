"""Keys: what changes them, what must not, and the plan made from them."""

import dataclasses
import sys
import types

import pytest

from benchmark.plan import Job, PlanError, Study, canonical, plan, shard, source_digest
from benchmark.protocol import CLEAN, PROTOCOLS, noise
from benchmark.studies import STUDIES, study
from datasets.scene import SceneError
from methods.registry import MethodError

QUICK = STUDIES["quick"]


def score(of=QUICK, **words):
    return Job("score", of, ("s3rnet-student",), 4, split="test", **words)


def changed(**words):
    return dataclasses.replace(QUICK, **words)


def test_a_key_follows_from_what_decides_the_numbers():
    key = score().key
    assert key == score(changed(name="other", title="t", labels=(), methods=("bicubic",), scenarios=(CLEAN,))).key
    different = [
        score(scenario=noise("both", 30)), score(seed=1), score(changed(protocol=PROTOCOLS["paper-variance"])),
        score(changed(dataset_options={**QUICK.dataset_options, "seed": 3})), score(changed(recipe="release")),
        score(changed(training={**QUICK.training, "lr": 1e-4})), score(changed(precision="bf16-mixed")),
        score(changed(arguments={})),
    ]
    assert len({key, *(job.key for job in different)}) == 1 + len(different)


def test_teacher_and_student_need_the_same_training():
    teacher = Job("score", QUICK, ("s3rnet-teacher",), 4, split="test")
    assert teacher.training.key == score().training.key and teacher.key != score().key
    assert Job("score", QUICK, ("gsa",), 4, split="test").training is None


def test_adding_a_scenario_or_a_method_keeps_every_key():
    before = {job.key for job in plan(changed(scenarios=(CLEAN,), methods=("bicubic",)), "cpu")}
    after = {job.key for job in plan(QUICK, "cpu")}
    assert before < after


def test_a_plan_trains_once_before_what_needs_it_and_has_no_job_twice():
    jobs = plan(QUICK, "cpu")
    keys = [job.key for job in jobs]
    assert len(keys) == len(set(keys))
    assert [job.kind for job in jobs].count("train") == 2  # one an MSI setting, for teacher and student together
    assert [job.kind for job in jobs].count("score") == len(QUICK.methods) * 2 * len(QUICK.scenarios)
    for job in jobs:
        if job.training:
            assert keys.index(job.training.key) < keys.index(job.key)


def test_shards_are_a_partition_that_keeps_trainings_with_their_scores():
    jobs = plan(QUICK, "cpu")
    parts = [shard(jobs, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(job.key for part in parts for job in part) == sorted(job.key for job in jobs)
    for part in parts:
        keys = {job.key for job in part}
        assert all(job.training.key in keys for job in part if job.training)
    for wrong in ("0/3", "4/3", "x", "1"):
        with pytest.raises(PlanError, match="give i/n"):
            shard(jobs, wrong)


def test_canonical_json_has_one_spelling_and_no_infinity():
    assert canonical({"b": (1, float("inf")), "a": None}) == '{"a":null,"b":[1,"inf"]}'


def test_source_digest_sees_code_and_not_comments(tmp_path, monkeypatch):
    def digest(text):
        path = tmp_path / "fake.py"
        path.write_text(text)
        module = types.ModuleType("fake")
        module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, "fake", module)
        return source_digest("fake")

    base = digest("from methods import losses\n\ndef f():\n    return 1\n")
    assert base == digest('"""Words."""\nfrom methods import losses\n\n\ndef f():\n    """More."""\n    return 1  # why\n')
    assert base != digest("from methods import losses\n\ndef f():\n    return 2\n")
    assert base != digest("def f():\n    return 1\n")  # losses no longer belong to it


def test_unknown_names_are_refused_with_choices():
    with pytest.raises(PlanError, match="Did you mean 'quick'"):
        study("quik")
    with pytest.raises(MethodError, match="no recipe 'papr'; choices: paper, release"):
        plan(changed(recipe="papr"), "cpu")
    with pytest.raises(SceneError, match="no scenes in split 'holdout'"):
        plan(changed(splits=("holdout",)), "cpu")
    with pytest.raises(SceneError, match="unknown dataset"):
        plan(Study("n", "t", ("bicubic",), "sythetic"), "cpu")
