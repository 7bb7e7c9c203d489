"""Engines: what each is asked with, how a dead process is told, and the script that a batch system gets."""

import argparse
import os

import pytest

from benchmark import claims
from benchmark.clusters import queue
from benchmark.engines import Here, Order, engine_of, workers_of
from benchmark.plan import PlanError
from benchmark.processes import how, threads

ORDER = Order(argparse.Namespace(results=None, study_file=[], command="run"), "cpu")


@pytest.mark.parametrize("text", ["locale", "local:0", "local:two", "here:2", "dask", "slurm:x", ""])
def test_another_engine_is_refused_by_name_and_choices(text):
    with pytest.raises(PlanError, match=r"--engine.*(choices: here, local|install the extra)"):
        engine_of(text, ORDER, 1.0)


def test_local_takes_as_many_jobs_as_it_has_processes():
    engine = engine_of("local:3", ORDER, 1.0)
    assert engine.room == 3 and engine.exclusive and workers_of("local:3") == 3
    assert not engine_of("local:1", ORDER, 1.0).exclusive and workers_of("here") == workers_of("slurm:4") == 1
    engine.stop()


def test_cores_are_shared_out_and_nobody_gets_more_than_was_said(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads(n) for n in (1, 2, 3, 8, 64)] == [8, 4, 2, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert [threads(n) for n in (1, 2, 8)] == [2, 2, 1]


@pytest.mark.parametrize("code, words", [
    (0, "exit status 0"), (3, "exit status 3"), (-11, "SIGSEGV, a crash"), (-15, "SIGTERM"),
    (-9, "SIGKILL.*out of memory.*--batch.*--engine"), (-99, "signal 99")])
def test_how_a_process_ended_is_told_in_words(code, words):
    with pytest.raises(RuntimeError, match=words):
        raise RuntimeError(how(code))


def test_here_tells_of_a_job_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmark.jobs.run_one", lambda job, root, fabric, again: f"{job} {again}")
    engine = Here(tmp_path, None)
    engine.start("job", True)
    assert engine.room == 0 and engine.next(0.0) == ("job", "job True") and engine.room == 1 and engine.next(0.0) is None


def test_a_batch_system_gets_one_worker_a_job_in_this_checkout(monkeypatch):
    pytest.importorskip("dask_jobqueue")
    import dask

    said = {"jobqueue.slurm.memory": "7GB", "jobqueue.slurm.cores": 3, "jobqueue.slurm.queue": "gpu"}
    with dask.config.set(said), queue("slurm") as cluster:
        script = cluster.job_script()
    assert "#SBATCH --mem=7G" in script and "#SBATCH --cpus-per-task=3" in script and "-p gpu" in script
    assert f"cd {claims.__file__.rpartition('/benchmark/')[0]}" in script and "--nthreads 1" in script
