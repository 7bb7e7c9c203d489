"""The engines on other machines: workers of a Dask scheduler that is there, or that a batch system starts for one command."""

from __future__ import annotations

import sys
from typing import Any

from benchmark import store
from benchmark.engines import DiedError, Order
from benchmark.machine import ROOT
from benchmark.plan import Job, PlanError
from benchmark.processes import Local

SYSTEMS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster", "oar": "OARCluster",
            "htcondor": "HTCondorCluster"}


class Cluster:
    """Workers of a Dask scheduler, which see this checkout and the results folder under the same paths.

    Each job runs in a process of its own beside its worker, so that a method that crashes costs no worker. A worker that is
    lost costs its job the time since the last checkpoint: Dask gives the job to another one.

    Args:
        order: what the processes are told.
        client: of the scheduler.
        timeout_s: a job that takes longer is ended and counts as failed.
        cluster: that was begun for this command and ends with it; None: the scheduler was there.
    """

    exclusive = False

    def __init__(self, order: Order, client: Any, timeout_s: float, cluster: Any = None) -> None:
        self.order, self.client, self.timeout_s, self.cluster = order.away(), client, timeout_s, cluster
        self.futures: dict[Any, Job] = {}
        print(f"cluster: {client.dashboard_link}", file=sys.stderr)

    @property
    def room(self) -> int:
        """One job a worker, and at least one: workers may be on their way."""
        return max(1, len(self.client.scheduler_info(n_workers=-1)["workers"])) - len(self.futures)

    def start(self, job: Job, again: bool) -> None:
        """Submit it."""
        future = self.client.submit(task, self.order, job.key, again, self.timeout_s, pure=False)
        self.futures[future] = job

    def next(self, seconds: float) -> tuple[Job, str] | None:
        """Waits for a future.

        Raises:
            StoreError: a worker could not write the results folder.
        """
        import distributed

        try:
            done = distributed.wait(list(self.futures), timeout=seconds, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            return None
        future = next(iter(done))
        job, error = self.futures.pop(future), future.exception()
        if isinstance(error, store.StoreError):
            raise error
        if error is not None:
            store.fail(store.begun(self.order.words.results, job), DiedError(f"its worker was lost ({error})"))
            return job, "failed"
        return job, str(future.result())

    def stop(self) -> None:
        """Ends the workers that were begun for this command; on others jobs that run go on to their end."""
        if self.cluster is None and self.futures:
            print("jobs that run on the cluster go on to their end", file=sys.stderr)
        self.client.cancel(list(self.futures))
        self.client.close()
        if self.cluster is not None:
            self.cluster.close()


def task(order: Order, key: str, again: bool, timeout_s: float) -> str:
    """One job on a worker of a cluster, in a process of its own."""
    local = Local(order, 1, timeout_s)
    jobs, _, _ = order.open()
    try:
        local.start(jobs[key], again)
        while True:
            if ended := local.next(60.0):
                return ended[1]
    finally:
        local.stop()


def there(order: Order, address: str, timeout_s: float) -> Cluster:
    """The workers of a scheduler that is there.

    Raises:
        PlanError: Dask is not installed.
    """
    return Cluster(order, _dask().Client(address), timeout_s)


def begun(order: Order, system: str, workers: int, timeout_s: float) -> Cluster:
    """Workers that a batch system starts, and that end with this command.

    Raises:
        PlanError: Dask or dask-jobqueue is not installed.
    """
    client_of, cluster = _dask().Client, queue(system)
    cluster.scale(jobs=workers)
    return Cluster(order, client_of(cluster), timeout_s, cluster)


def queue(name: str) -> Any:
    """A Dask cluster of one-job workers that a batch system starts.

    Its account, queue, memory, cores and time are what Dask's own configuration says of it (``~/.config/dask/jobqueue.yaml``);
    one core and 16 GB where it says nothing.

    Raises:
        PlanError: dask-jobqueue is not installed.
    """
    try:
        import dask_jobqueue
    except ImportError as error:
        raise PlanError(f"--engine {name}: {error}; install the extra: pip install '.[cluster]'") from error
    from dask import config

    usual = {"cores": 1, "memory": "16GB"}
    own = {key: value for key, value in usual.items() if config.get(f"jobqueue.{name}.{key}", None) is None}
    before = config.get(f"jobqueue.{name}.job-script-prologue", None) or []
    return getattr(dask_jobqueue, SYSTEMS[name])(
        processes=1, worker_extra_args=["--nthreads", "1"], python=sys.executable,
        job_script_prologue=[*before, f"cd {ROOT}", f"export PYTHONPATH={ROOT}"], **own)


def _dask() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise PlanError(f"--engine: {error}; install the extra: pip install '.[cluster]'") from error
    return distributed
