"""The two ways to train have the same number of scenes and the same tested tiles; one of them touches these."""

import pytest

import datasets
from datasets import SceneError
from datasets.scene import split_entry


def pixels(entries):
    found = set()
    for entry in entries:
        base, (rows, cols) = split_entry(entry)
        found |= {(base, r, c) for r in range(rows.start, rows.stop) for c in range(cols.start, cols.stop)}
    return found


def test_both_ways_differ_in_what_they_train_on_alone():
    flight, overlapping = (datasets.get("aviris-tiles", train=train).splits() for train in ("flight", "overlapping"))
    assert flight["test"] == overlapping["test"] and len(flight["test"]) == 12 and flight["val"] == overlapping["val"]
    assert len(flight["train"]) == len(overlapping["train"]) == len(set(overlapping["train"])) == 36
    assert not pixels(flight["train"]) & pixels(flight["test"])
    assert not set(overlapping["train"]) & set(overlapping["test"])  # no tile twice, as the papers' lists
    for entry in overlapping["test"]:
        seen = pixels([entry]) & pixels(overlapping["train"])
        assert len(seen) / len(pixels([entry])) == pytest.approx(0.95, abs=0.01), entry  # as study leak and the findings say
    assert datasets.get("aviris-tiles").digest() != datasets.get("aviris-tiles", train="overlapping").digest()


def test_another_way_is_refused():
    with pytest.raises(SceneError, match="choices: flight, overlapping"):
        datasets.get("aviris-tiles", train="random")
