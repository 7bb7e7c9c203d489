"""Keys: what changes them, what must not, and the plan made from them."""

import dataclasses
from dataclasses import dataclass, replace

import pytest

from benchmark import keys
from benchmark.keys import canonical
from benchmark.plan import Job, Label, PlanError, Study, plan, shard
from benchmark.protocol import CLEAN, PAPER, PROTOCOLS, Protocol, Scenario, noise
from benchmark.studies import STUDIES, study
from datasets.scene import SceneError
from methods import registry
from methods.registry import MethodError, Recipe

QUICK = STUDIES["quick"]


def score(of=QUICK, method="s3rnet-student", **words):
    return Job("score", of, (method,), 4, split="test", **words)


def changed(**words):
    return replace(QUICK, **words)


def test_committed_keys_and_digests_stay():
    # As the folders of results/ are called: a change here throws away every committed row.
    assert PROTOCOLS["paper"].digest == "770ada7388ea" and PROTOCOLS["release"].digest == "98b1acc57618"
    assert replace(PAPER, hr_size=96).digest == "6acf9b2abb0f"
    aviris, short, hour, slow = (STUDIES[name] for name in ("aviris", "aviris-short", "hour", "unsupervised"))
    same, both = "test-same-flight", noise("both", 35)
    found = {
        "02ae2d6e4ac1": Job("score", aviris, ("gsa",), 4, split=same, scenario=both),
        "05d9a94683e2": Job("score", hour, ("s3rnet-student",), 6, split=same),
        "0f25e33293c6": Job("score", slow, ("u2mdn",), 4, split=same, scenario=noise("lr_hsi", 25)),
        "5bf4ebf6ad36": Job("score", slow, ("cucanet",), 4, split=same, scenario=noise("lr_hsi", 35)),
        "5d66ae73ce26": Job("cost", slow, ("u2mdn",), 4, device="cpu (AMD EPYC, 1 threads)"),
        "752fd7cdfddc": Job("train", short, ("mimo-sst",), 4),  # minutes, and a range of learning rates
        "39e164cd2bb2": Job("train", short, ("s3rnet-teacher", "s3rnet-student"), 4),  # two networks of one training
        "451bef16f493": Job("train", short, ("psdnet",), 4),  # two stages of one task
        "a30acbe0c897": Job("train", aviris, ("tfnet",), 4),  # without its release's steps
        "235625ffb0a1": Job("train", aviris, ("restfnet",), 4),  # with them
    }
    assert {job.key[:12] for job in found.values()} == set(found)


def wider(kind, **words):
    """The class with one more field, as a later change adds it."""
    cls = dataclasses.make_dataclass(f"Wider{kind.__name__}", [("added", int, 0)], bases=(kind,), frozen=True)
    return cls(**words)


def test_a_field_added_later_moves_no_key_while_it_is_at_its_default(monkeypatch):
    protocol = wider(Protocol, hr_size=96)
    assert protocol.digest == "6acf9b2abb0f" != replace(protocol, added=1).digest
    scenario = wider(Scenario, **dataclasses.asdict(noise("both", 30)))
    assert score(scenario=scenario).key == score(scenario=noise("both", 30)).key
    assert score(scenario=replace(scenario, added=1)).key != score(scenario=scenario).key

    (recipe,) = QUICK.stages_of("s3rnet-student")
    held = {each.name: getattr(recipe, each.name) for each in dataclasses.fields(recipe)}
    assert keys.fields(wider(Recipe, **held)) == keys.fields(recipe)
    assert keys.fields(replace(wider(Recipe, **held), added=1)) == keys.fields(recipe) | {"added": 1}

    key, card = score(method="gsa").key, registry.card("gsa")
    monkeypatch.setitem(registry._METHODS, "gsa", replace(card, build=lambda added=0: card.build()))
    assert score(method="gsa").key == key
    assert score(changed(arguments={"gsa": {"added": 0}}), "gsa").key == key
    assert score(changed(arguments={"gsa": {"added": 1}}), "gsa").key != key


@dataclass(frozen=True)
class Striped(Protocol):
    """A protocol that does something else with the same fields."""

    def look(self, scene, msi_bands, scenario=CLEAN):
        reference, seen = super().look(scene, msi_bands, scenario)
        return reference, replace(seen, lr_hsi=seen.lr_hsi + 0.1)


def test_a_protocol_that_computes_otherwise_shares_no_key():
    assert Striped().digest != PAPER.digest
    assert score(changed(protocol=Striped(hr_size=64))).source["protocol"] != score().source["protocol"]


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


def test_a_variant_is_its_method_with_those_arguments():
    plain = changed(arguments={"s3rnet-student": {"fusion": "sum"}})
    assert score(changed(arguments={}), "s3rnet-student@fusion=sum").key == score(plain).key
    assert score(changed(arguments={}), "s3rnet-student@width=86").key == score(changed(arguments={})).key  # the default
    assert score(plain, "s3rnet-student@fusion=concat").inputs["methods"] == {"s3rnet-student": {"fusion": "concat"}}
    methods = ("s3rnet-teacher", "s3rnet-student", "s3rnet-student@fusion=sum")
    jobs = plan(changed(methods=methods, msi_bands=(4,), scenarios=(CLEAN,)), "cpu")
    assert [job.methods for job in jobs if job.kind == "train"] == [methods[:2], (methods[0], methods[2])]
    assert len({job.key for job in jobs}) == len(jobs)
    pair = changed(methods=("s3rnet-teacher@fusion=sum", "s3rnet-student@fusion=sum"))
    assert pair.trained_with("s3rnet-student@fusion=sum") == pair.methods  # partners with the same arguments
    for wrong in ("s3rnet-student@", "s3rnet-student@fusion", "s3rnet-student@depth=3", "gsa@x=1"):
        with pytest.raises(MethodError, match=r"key=value|no argument"):
            plan(changed(methods=(wrong,)), "cpu")


def test_stages_share_the_budget_and_keep_the_ratio_of_their_rates(monkeypatch):
    card = registry.card("psdnet")
    first, second = card.recipes["release"]
    recipes = {"release": (first, replace(second, lr=first.lr / 10))}
    monkeypatch.setitem(registry._METHODS, "psdnet", replace(card, recipes=recipes))
    of = changed(training={"steps": 10, "lr": 1e-3})
    stages = of.stages_of("psdnet")
    assert [stage.lr for stage in stages] == pytest.approx([1e-3, 1e-4]) and [stage.steps for stage in stages] == [5, 5]
    assert of.replacements("psdnet") == [f"stage 1: steps None -> 5, lr {first.lr} -> 0.001",
                                         f"stage 2: steps None -> 5, lr {first.lr / 10} -> 0.0001"]
    with pytest.raises(PlanError, match="trained in 2 stages: 1 steps cannot be shared"):
        changed(training={"steps": 1}).stages_of("psdnet")


def test_what_is_excepted_for_a_variant_comes_on_top_of_its_method():
    alone = "s3rnet-student@recipe=alone"
    held = changed(training={"minutes": 1.0},
                   exceptions={"s3rnet-student": {"minutes": 4.0, "batch": 2}, alone: {"minutes": 2.0}})
    found = {label: (held.stages_of(label)[0].minutes, held.stages_of(label)[0].batch) for label in ("s3rnet-student", alone)}
    assert found == {"s3rnet-student": (4.0, 2), alone: (2.0, 2)}
    assert held.stages_of("u2net")[0].minutes == 1.0


@pytest.mark.parametrize("training", [{"steps": 0}, {"steps": -1}, {"minutes": 0.0}, {"minutes": float("nan")}, {"lr": 0.0},
                                      {"lr": float("inf")}, {"batch": 0}, {"crop": -4}, {"log_every": 0}])
def test_a_budget_that_trains_nothing_is_refused(training):
    with pytest.raises(PlanError, match=f"{next(iter(training))} is .*choose"):
        changed(training=training)


def test_labels_are_said_while_what_they_speak_of_stands():
    labels = (Label("always"), Label("short", ("training", "methods")))
    assert changed(labels=labels).statements == ("always", "short")
    assert changed(labels=labels, replaced=frozenset({"training"})).statements == ("always",)


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
    found = [job.key for job in jobs]
    assert len(found) == len(set(found))
    assert [job.kind for job in jobs].count("train") == 2  # one an MSI setting, for teacher and student together
    assert [job.kind for job in jobs].count("score") == len(QUICK.methods) * 2 * len(QUICK.scenarios)
    for job in jobs:
        if job.training:
            assert found.index(job.training.key) < found.index(job.key)


def test_shards_are_a_partition_that_keeps_trainings_with_their_scores():
    jobs = plan(QUICK, "cpu")
    parts = [shard(jobs, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(job.key for part in parts for job in part) == sorted(job.key for job in jobs)
    for part in parts:
        found = {job.key for job in part}
        assert all(job.training.key in found for job in part if job.training)
    for wrong in ("0/3", "4/3", "x", "1"):
        with pytest.raises(PlanError, match="give i/n"):
            shard(jobs, wrong)


def test_canonical_json_has_one_spelling_and_no_infinity():
    assert canonical({"b": (1, float("inf")), "a": None}) == '{"a":null,"b":[1,"inf"]}'


def test_unknown_names_are_refused_with_choices():
    with pytest.raises(PlanError, match="Did you mean 'quick'"):
        study("quik")
    with pytest.raises(MethodError, match="no recipe 'papr'; choices: paper, release"):
        plan(changed(recipe="papr"), "cpu")
    with pytest.raises(SceneError, match="no scenes in split 'holdout'"):
        plan(changed(splits=("holdout",)), "cpu")
    with pytest.raises(SceneError, match="unknown dataset"):
        plan(Study("n", "t", ("bicubic",), "sythetic"), "cpu")
    with pytest.raises(PlanError, match="named twice: gsa"):
        plan(changed(methods=("gsa", "gsa")), "cpu")
    with pytest.raises(PlanError, match="no slash"):
        changed(name="../../x")


def test_a_variant_says_how_it_is_trained():
    naive = changed(methods=("s3rnet-student@recipe=naive",))
    assert naive.trained_with(naive.methods[0]) == ("s3rnet-teacher@recipe=naive", "s3rnet-student@recipe=naive")
    assert naive.stages_of(naive.methods[0])[0].weights and naive.arguments_of(naive.methods[0]) == \
        naive.arguments_of("s3rnet-student")
    plain = score(changed(methods=("s3rnet-student",)))
    assert score(naive, naive.methods[0]).training.key != plain.training.key
    assert score(changed(recipe="naive")).training.key == score(naive, naive.methods[0]).training.key
    alone = changed(methods=("s3rnet-student@recipe=alone",))
    assert alone.trained_with(alone.methods[0]) == alone.methods
    with pytest.raises(MethodError, match="is not trained"):
        plan(changed(methods=("gsa@recipe=paper",)), "cpu")
    with pytest.raises(MethodError, match="no recipe 'nave'"):
        plan(changed(methods=("s3rnet-student@recipe=nave",)), "cpu")


def test_a_variant_says_what_it_is_trained_on_and_is_tested_on_the_same():
    leak = STUDIES["leak"]
    scores = [job for job in plan(leak, "cpu") if job.kind == "score" and job.scenario == CLEAN]
    flight, overlapping = (job for job in scores if job.method.startswith("u2net") and job.seed == 0)
    assert flight.images == overlapping.images and flight.training.key != overlapping.training.key
    assert flight.study.data.entries("train") != overlapping.study.data.entries("train")


# ---- parameters in files, anchors, sensors drawn at random


def test_one_training_with_varied_sensors_serves_all_msi_bands():
    of = changed(methods=("subspace-net", "gsa"), training={"steps": 2})
    trainings = [job for job in plan(of, "cpu") if job.kind == "train"]
    assert len(trainings) == 1 and trainings[0].msi_bands == 0 and "any-msi" in trainings[0].label
    scores = [job for job in plan(of, "cpu") if job.kind == "score" and job.method == "subspace-net"]
    assert trainings[0].source["training"] != score(of=of, method="s3rnet-student").training.source["training"]
    assert {job.msi_bands for job in scores} == {4, 6} and {job.training.key for job in scores} == {trainings[0].key}


def test_named_weights_are_not_trained_and_count_by_what_they_hold(tmp_path):
    from methods import create, weights

    def job(fill):
        path = tmp_path / "w.safetensors"
        model = create("ssuf", bands=6, msi_bands=4)
        weights.save(path, {f"ssuf/{key}": value + fill for key, value in model.state_dict().items()},
                     [weights.About("ssuf")])
        method = f"ssuf@weights={path}"
        of = changed(methods=(method,), seeds=(0, 1))
        found = [each for each in plan(of, "cpu") if each.kind != "cost"]
        assert found and all(each.training is None and each.kind == "score" and each.seed == 0 for each in found)
        return found[0]

    first = job(0.0)
    assert job(1.0).key != first.key


def test_an_anchor_is_a_part_of_the_key_and_of_the_code():
    plain, corrected = score(method="ssuf").training, score(method="ssuf@anchor=gsa").training
    assert plain.key != corrected.key and plain.source["method"] != corrected.source["method"]
    assert corrected.key != score(method="ssuf@anchor=subspace-ridge").training.key
