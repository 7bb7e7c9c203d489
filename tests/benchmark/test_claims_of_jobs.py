"""Claims on jobs: one holder at a time, dead ones count for nothing, and nobody's live claim is taken."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

from benchmark.claims import GONE_SECONDS, _born, claimed, holder


def mine(place):
    """What this process writes into its claim."""
    with claimed(place):
        return holder(place)


def put(place, there, age=0.0):
    """A claim of another process, last beaten ``age`` seconds ago."""
    path = place.parent / ".claims" / f"{place.name}.{abs(hash((there, age)))}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(there)))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_claim_is_held_until_its_block_ends(tmp_path):
    place = tmp_path / "score-gsa-1"
    with claimed(place) as first:
        assert first and holder(place).pid == os.getpid()
        with claimed(place) as second:
            assert not second
        with claimed(tmp_path / "score-gsa-2") as another:
            assert another
        assert holder(place) is not None  # a claim that was refused takes nothing with it
    assert holder(place) is None and not list((tmp_path / ".claims").iterdir())


def test_a_claim_counts_while_its_process_lives(tmp_path):
    place = tmp_path / "job"
    there = mine(place)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = put(place, replace(there, pid=child.pid, born=_born(child.pid)), age=10 * GONE_SECONDS)  # no beat
    with claimed(place) as ours:
        assert not ours
    child.communicate(b"\n")
    with claimed(place) as ours:
        assert ours and not path.exists()
    put(place, replace(there, born=there.born - 5))  # the number was given to another process since
    put(place, replace(there, boot="of another run of the machine"), age=10 * GONE_SECONDS)
    (tmp_path / ".claims/job.junk.json").write_text("{")
    with claimed(place) as ours:
        assert ours


def test_a_claim_of_another_host_counts_while_it_beats(tmp_path):
    place = tmp_path / "job"
    far = replace(mine(place), host="elsewhere", pid=1)
    put(place, far, age=GONE_SECONDS - 30)
    with claimed(place) as ours:
        assert not ours
    assert holder(place).words.startswith("elsewhere:1, since ")
    (path,) = (tmp_path / ".claims").iterdir()
    os.utime(path, (time.time() - GONE_SECONDS - 30,) * 2)
    with claimed(place) as ours:
        assert ours


def claim_all(root, answers):
    held = []
    for number in range(40):
        with claimed(root / f"job{number}") as ours:
            if ours:
                done = root / f"job{number}.done"
                held.append((number, done.exists()))
                time.sleep(0.001)
                done.touch()
    answers.put(held)


def test_many_processes_never_hold_one_claim_together(tmp_path):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=claim_all, args=(tmp_path, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [each for _ in processes for each in answers.get(timeout=60)]
    for process in processes:
        process.join()
    first = [number for number, done in found if not done]
    assert sorted(first) == list(range(40))  # each for the first time exactly once
