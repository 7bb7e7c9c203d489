"""Where jobs run: in this process, in processes of their own on this machine, or on the workers of a cluster.

    engine = engine_of("local:2", order, timeout_s=3600.0)

Every engine runs :func:`benchmark.jobs.run_one` on one results folder. A process of its own can die without the study: a
method that ends, crashes, hangs or is killed costs its job and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmark import store
from benchmark.machine import ROOT
from benchmark.plan import Job, PlanError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CLUSTERS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster", "oar": "OARCluster",
            "htcondor": "HTCondorCluster"}
CHOICES = f"here, local[:N], dask:ADDRESS, {', '.join(f'{name}[:N]' for name in CLUSTERS)}"
PATIENCE_SECONDS = 120.0  # for a process that was interrupted: a training writes its checkpoint first


class DiedError(RuntimeError):
    """A job whose process ended before the job did: says how, and what to try."""


@dataclass(frozen=True)
class Order:
    """What a process must know to make the same plan: the words of the command line.

    Args:
        words: the parsed flags of a command on a study.
        device: ``"cpu"`` or ``"cuda"``: of the processes, which are on machines like this one.
        data: folder of the scenes.
    """

    words: argparse.Namespace
    device: str
    data: str = field(default_factory=lambda: os.environ.get("HSFUSION_DATA", ""))

    def away(self) -> Order:
        """The same for a process that works in another folder."""
        words = argparse.Namespace(**vars(self.words))
        words.results, words.study_file = words.results.resolve(), [path.resolve() for path in words.study_file]
        return replace(self, words=words)

    def open(self, devices: int = 1) -> tuple[dict[str, Job], Path, Fabric]:
        """The jobs by key, the results folder, and the device, one of several, with the study's precision."""
        import torch

        from benchmark.flags import fabric_of, study_of
        from benchmark.machine import device_name
        from benchmark.plan import plan
        from benchmark.studies import load_file

        if self.data:
            os.environ["HSFUSION_DATA"] = self.data
        for path in self.words.study_file:
            load_file(path)
        chosen = study_of(self.words)
        jobs = plan(chosen, device_name(torch.device(self.device, 0)), costs_only=self.words.command == "complexity")
        return {job.key: job for job in reversed(jobs)}, self.words.results, fabric_of(chosen.precision, self.device, devices)


class Engine(Protocol):
    """Takes jobs while it has room, and tells one after the other what became of them."""

    exclusive: bool  # jobs that take the time must run alone

    @property
    def room(self) -> int:
        """Jobs that it takes now."""

    def start(self, job: Job, again: bool) -> None:
        """Begin a job; ``again``: although it is done."""

    def next(self, seconds: float) -> tuple[Job, str] | None:
        """A job that ended, and the word of :func:`benchmark.jobs.run_one`; None if none did in this time."""

    def stop(self) -> None:
        """Interrupt what runs, and wait until it has written down where it stands."""


class Here:
    """In this process, one after the other: for a debugger, and where a process of its own is not wanted."""

    exclusive = False

    def __init__(self, root: Path, fabric: Fabric) -> None:
        self.root, self.fabric = root, fabric
        self.ended: list[tuple[Job, str]] = []

    @property
    def room(self) -> int:
        """One, until it has told of it."""
        return 1 - len(self.ended)

    def start(self, job: Job, again: bool) -> None:
        """Runs it to its end."""
        from benchmark import jobs

        self.ended.append((job, jobs.run_one(job, self.root, self.fabric, again)))

    def next(self, seconds: float) -> tuple[Job, str] | None:
        """At once."""
        return self.ended.pop() if self.ended else None

    def stop(self) -> None:
        """Nothing runs on."""


# ------------------------------------------------------------------------------------------- processes on this machine


@dataclass
class Worker:
    """A process that runs one job after the other, and the job it is on."""

    number: int
    process: Any
    pipe: Connection
    others: list[Any] = field(default_factory=list)  # processes that train one network with it
    job: Job | None = None
    deadline: float = field(default=float("inf"))
    ready: bool = False  # it has made its plan


class Local:
    """Processes on this machine, each with its share of the cores or its GPU.

    Args:
        order: what they are told.
        workers: how many.
        timeout_s: a job that takes longer is ended and counts as failed.
        devices: of each of them, which train one network together, a process each.
    """

    def __init__(self, order: Order, workers: int, timeout_s: float, devices: int = 1) -> None:
        self.order, self.count, self.timeout_s, self.devices = order, workers, timeout_s, devices
        self.exclusive = workers > 1
        self.workers: dict[int, Worker] = {}

    @property
    def room(self) -> int:
        """Processes that have nothing to do, or are not begun."""
        return self.count - sum(worker.job is not None for worker in self.workers.values())

    def start(self, job: Job, again: bool) -> None:
        """Give it to a process that waits, or to a new one."""
        worker = next((each for each in self.workers.values() if each.job is None), None) or self._begun()
        worker.job, worker.deadline = job, time.monotonic() + self.timeout_s
        with contextlib.suppress(OSError):  # a process that has died is noticed by `next`
            worker.pipe.send((job.key, again))

    def next(self, seconds: float) -> tuple[Job, str] | None:
        """Waits for a word of a process, its death, or its deadline.

        Raises:
            StoreError: a process could not write the results folder.
        """
        until = time.monotonic() + seconds
        while True:
            busy = [worker for worker in self.workers.values() if worker.job is not None]
            first = min([until, *(worker.deadline for worker in busy)])
            ready = set(wait([worker.pipe for worker in busy], max(0.0, first - time.monotonic())))
            for worker in busy:
                if worker.pipe in ready and (told := self._told(worker)):
                    return told
                if worker.pipe not in ready and time.monotonic() >= worker.deadline:
                    return self._overdue(worker)
            if time.monotonic() >= until:
                return None

    def stop(self) -> None:
        """Ask each process to end, and end those that do not within two minutes."""
        busy = [worker for worker in self.workers.values() if worker.job is not None]
        if busy:
            print(f"waiting for {len(busy)} jobs to write down where they stand", file=sys.stderr)
        for worker in busy:
            with contextlib.suppress(OSError):
                os.kill(worker.process.pid, signal.SIGTERM)
        until = time.monotonic() + PATIENCE_SECONDS
        for worker in self.workers.values():
            worker.pipe.close()  # those that wait end by it
            worker.process.join(max(0.0, until - time.monotonic()))
            for process in (worker.process, *worker.others):
                if process.is_alive():
                    process.kill()
        self.workers.clear()

    def _begun(self) -> Worker:
        number = next(n for n in range(self.count) if n not in self.workers)
        context, n = multiprocessing.get_context("spawn"), self.devices
        ours, theirs = context.Pipe()
        ranks = [context.Process(target=serve, args=(theirs if rank == 0 else None, self.order, n)) for rank in range(n)]
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "NODE_RANK": "0"} if n > 1 else {}
        for rank, process in enumerate(ranks):
            with _environment(self._share(number) | meet | ({"LOCAL_RANK": str(rank)} if n > 1 else {})):
                process.start()
        theirs.close()
        self.workers[number] = Worker(number, ranks[0], ours, ranks[1:])
        return self.workers[number]

    def _share(self, number: int) -> dict[str, str]:
        """What a process finds in its environment: its GPU, its threads; where there are several, no bars of their own."""
        processes = self.count * self.devices
        share = {"OMP_NUM_THREADS": str(threads(processes))} if processes > 1 else {}
        if self.order.device == "cuda":
            import torch

            there = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
            cards = there if there != [""] else [str(n) for n in range(torch.cuda.device_count())]
            first = number * self.devices % len(cards)
            share["CUDA_VISIBLE_DEVICES"] = ",".join(cards[first : first + self.devices])
        return share | ({"TQDM_DISABLE": "1"} if self.count > 1 else {"TQDM_POSITION": "1"})  # below the bar over all jobs

    def _told(self, worker: Worker) -> tuple[Job, str] | None:
        """What a process says of its job; None where it says that it has begun."""
        job = worker.job
        assert job is not None
        try:
            word, reason = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            if not worker.ready:  # no job's fault
                raise PlanError(f"a process that was to run jobs could not begin ({how(worker.process.exitcode)}); what it "
                                "said stands above. --engine here runs them in this process") from None
            return job, self._lost(worker, how(worker.process.exitcode))
        if word == "ready":
            worker.ready = True
            return None
        worker.job = None
        if word == "store":
            raise store.StoreError(reason)
        if word == "failed" and worker.others:  # where the others stand is not sure
            self._end(worker)
        return job, str(word)

    def _overdue(self, worker: Worker) -> tuple[Job, str]:
        job = worker.job
        assert job is not None
        worker.process.kill()
        worker.process.join()
        return job, self._lost(worker, f"it took longer than {self.timeout_s / 3600:g} h and was ended. Run the same command "
                               "again: a training goes on from its last checkpoint; --timeout gives more time")

    def _end(self, worker: Worker) -> None:
        del self.workers[worker.number]
        worker.pipe.close()
        for process in worker.others:
            process.kill()

    def _lost(self, worker: Worker, why: str) -> str:
        """Record how a job's process ended."""
        job = worker.job
        assert job is not None
        self._end(worker)
        store.fail(store.begun(self.order.words.results, job), DiedError(why))
        return "failed"


def serve(pipe: Connection | None, order: Order, devices: int) -> None:
    """The life of a process: the jobs it is told of by key, each answered by a word.

    Args:
        pipe: to the engine; None: this process trains together with one that has it.
        order: what it is told.
        devices: that train together.
    """
    with contextlib.suppress(OSError, AttributeError):  # Linux: SIGTERM when the process that began this one is gone
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    # As in a program of its own; here the loaders of trainings would start their workers as this process was, from nothing.
    multiprocessing.set_start_method("fork", force=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        from benchmark.jobs import run_one
        from benchmark.train import dismiss, follow

        jobs, root, fabric = order.open(devices)
        if pipe is None:
            with contextlib.suppress(RuntimeError):  # the first one is gone, and says why
                follow(jobs, fabric)
            return
        pipe.send(("ready", ""))
        with contextlib.suppress(EOFError, BrokenPipeError):
            while True:
                key, again = pipe.recv()
                try:
                    answer = run_one(jobs[key], root, fabric, again), ""
                except store.StoreError as error:
                    answer = "store", str(error)
                pipe.send(answer)
        dismiss(fabric)
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # it is ending already
        sys.exit(130)


def _free_port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


def how(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None or code >= 0:
        return f"its process ended by itself with exit status {code}: a method must return, not end the program"
    name = signal.Signals(-code).name if -code in {int(each) for each in signal.Signals} else f"signal {-code}"
    if name == "SIGKILL":
        from benchmark.jobs import MEMORY

        return f"its process was killed ({name}), as systems do that run out of memory: {MEMORY}, or fewer processes (--engine)"
    crash = ", a crash in compiled code" if name in ("SIGSEGV", "SIGBUS", "SIGABRT") else ""
    return f"its process was ended by {name}{crash}"


def threads(workers: int) -> int:
    """Threads of each of several processes: its share of the cores there are, or fewer if OMP_NUM_THREADS says so."""
    share, said = max(1, len(os.sched_getaffinity(0)) // workers), os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(said)) if said.isdigit() and int(said) else share


@contextlib.contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)


# ------------------------------------------------------------------------------------------------------------- clusters


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


def engine_of(text: str, order: Order, timeout_s: float, devices: int = 1) -> Engine:
    """The engine that ``--engine`` names; each of its processes with so many devices.

    Raises:
        PlanError: no such engine, a number that is none, or Dask is not installed.
    """
    name, _, rest = text.partition(":")
    if devices < 1 or (devices > 1 and name != "local"):
        raise PlanError(f"--devices {devices}: 1 or more; several need --engine local[:N]")
    if name == "dask" and rest:
        return Cluster(order, _dask().Client(rest), timeout_s)
    if rest and not (rest.isdigit() and int(rest) > 0):
        raise PlanError(f"--engine {text}: N is a number of processes, 1 or more; choices: {CHOICES}")
    if name == "here" and not rest:
        from benchmark.flags import fabric_of, study_of

        return Here(order.words.results, fabric_of(study_of(order.words).precision, order.device))
    if name == "local":
        return Local(order, workers_of(text, devices), timeout_s, devices)
    if name in CLUSTERS:
        client_of = _dask().Client
        cluster = queue(name)
        cluster.scale(jobs=int(rest or 1))
        return Cluster(order, client_of(cluster), timeout_s, cluster)
    raise PlanError(f"--engine {text}: choices: {CHOICES}")


def workers_of(text: str, devices: int = 1) -> int:
    """Jobs at a time on this machine that ``--engine`` asks for: of ``local`` as many as there are GPUs for, or one."""
    name, _, rest = text.partition(":")
    if name != "local" or rest:
        return int(rest) if name == "local" and rest.isdigit() else 1
    import torch

    return max(1, torch.cuda.device_count() // devices)


def queue(name: str, **options: Any) -> Any:
    """A Dask cluster of one-job workers that a batch system starts; its account, queue, memory and time are what Dask's own
    configuration says of it (``~/.config/dask/jobqueue.yaml``).
    """  # noqa: D205
    try:
        import dask_jobqueue
    except ImportError as error:
        raise PlanError(f"--engine {name}: {error}; install the extra: pip install '.[cluster]'") from error
    import dask

    there = {key: dask.config.get(f"jobqueue.{name}.{key}", None) for key in ("cores", "memory", "walltime")}
    usual = {"cores": 1, "memory": "16GB", "walltime": "24:00:00"}
    words = {key: value for key, value in usual.items() if there[key] is None and key != "walltime"} | options
    before = dask.config.get(f"jobqueue.{name}.job-script-prologue", None) or []
    return getattr(dask_jobqueue, CLUSTERS[name])(
        processes=1, worker_extra_args=["--nthreads", "1"], python=sys.executable,
        job_script_prologue=[*before, f"cd {ROOT}", f"export PYTHONPATH={ROOT}"], **words)


def _dask() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise PlanError(f"--engine: {error}; install the extra: pip install '.[cluster]'") from error
    return distributed
