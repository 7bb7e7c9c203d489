"""Checkpoints: the last two, told apart from damaged ones, read as data whatever the environment says."""

import os
import pickle

import pytest
import torch

from benchmark import checkpoints


def states(place, count=3):
    for step in range(1, count + 1):
        checkpoints.save(place, {"step": step, "x": torch.full((100,), float(step))}, step)


def spoilt(path, how):
    content = bytearray(path.read_bytes())
    if how == "byte":
        content[len(content) // 2] ^= 0xFF
    path.write_bytes({"byte": bytes(content), "cut": bytes(content[: len(content) // 2]), "empty": b"",
                      "text": b"no checkpoint"}[how])


def test_the_last_two_are_kept_and_the_last_is_taken(tmp_path):
    states(tmp_path)
    assert [path.name[:20] for path in checkpoints.held(tmp_path)] == ["checkpoint-000000003", "checkpoint-000000002"]
    found = checkpoints.newest(tmp_path, print)
    assert found["step"] == 3 and torch.equal(found["x"], torch.full((100,), 3.0))
    checkpoints.remove(tmp_path)
    assert checkpoints.newest(tmp_path, print) is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["byte", "cut", "empty", "text"])
def test_a_damaged_one_is_named_and_the_one_before_it_taken(tmp_path, how):
    states(tmp_path)
    last = next(checkpoints.held(tmp_path))
    spoilt(last, how)
    told = []
    assert checkpoints.newest(tmp_path, told.append)["step"] == 2
    assert len(told) == 1 and last.name in told[0] and "damaged" in told[0]
    spoilt(next(checkpoints.held(tmp_path)), how)
    assert checkpoints.newest(tmp_path, told.append) is None and len(told) == 2


class Planted:
    def __reduce__(self):
        return os.mkdir, ("planted",)


def test_a_planted_pickle_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    states(tmp_path, 1)
    for state in (pickle.dumps(Planted()), None):
        temporary = tmp_path / "file"
        if state is None:
            torch.save({"x": Planted()}, temporary)
        else:
            temporary.write_bytes(state)
        checksum = checkpoints._checksum(temporary)  # whoever plants it can give it the right name, too
        temporary.rename(tmp_path / f"checkpoint-000000009-{checksum}.ckpt")
        told = []
        assert checkpoints.newest(tmp_path, told.append)["step"] == 1 and "damaged" in told[0]
    assert not (tmp_path / "planted").exists() and os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"


def test_a_disk_that_is_full_costs_no_earlier_checkpoint(tmp_path, monkeypatch):
    states(tmp_path, 1)

    def full(state, file):
        file.write(b"x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        states(tmp_path, 1)
    assert [path.suffix for path in tmp_path.iterdir()] == [".ckpt"]
