"""The engine ``local``: jobs in processes of their own on this machine, each with its share of the cores or its GPUs."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from benchmark import store
from benchmark.engines import DiedError, Order
from benchmark.plan import Job, PlanError

PATIENCE_SECONDS = 120.0  # for a process that was interrupted: a training writes its checkpoint first


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
                raise PlanError(f"a process that was to run jobs could not begin (exit status {worker.process.exitcode}); what "
                                "it said stands above. --engine here runs them in this process") from None
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
