"""Windows dealt out: no two parts share a reading or are near each other, and no window is judged by its neighbour."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.blocks import Places, apart, split_windows
from training.errors import DataError
from training.split import Fractions, Rows, Split


def places(runs: list[int], length: int, stride: int) -> Places:
    """Of all windows of runs of so many readings."""
    first = [np.arange(0, readings - length + 1, stride) for readings in runs]
    run = [np.full(len(found), number) for number, found in enumerate(first)]
    return Places(np.concatenate(run), np.concatenate(first), length)


def parts(split: Split) -> dict[str, Rows]:
    """By name."""
    return {name: getattr(split, name) for name in ("train", "validation", "calibration", "test")}


@settings(deadline=None)
@given(
    runs=st.lists(st.integers(400, 3000), min_size=1, max_size=4),
    length=st.integers(2, 20),
    stride=st.integers(1, 30),
    seed=st.integers(0, 5),
)
def test_parts_are_a_windows_length_apart(runs: list[int], length: int, stride: int, seed: int) -> None:
    """Between a reading of one part and one of another of the same run there are as many as a window has."""
    where = places(runs, length, stride)
    try:
        split = split_windows(where, Fractions(), seed)
    except DataError:
        return
    seen: dict[int, dict[str, set[int]]] = {}
    for name, rows in parts(split).items():
        assert (np.diff(rows) > 0).all()
        for row in rows:
            readings = range(int(where.first[row]), int(where.first[row]) + length)
            seen.setdefault(int(where.run[row]), {}).setdefault(name, set()).update(readings)
    for by_part in seen.values():
        marks = sorted((reading, name) for name, readings in by_part.items() for reading in readings)
        for (reading, name), (following, other) in itertools.pairwise(marks):
            assert name == other or following - reading > length


@pytest.mark.parametrize("stride", [1, 4, 16, 40])
def test_windows_of_calibration_and_test_do_not_overlap(stride: int) -> None:
    """Each counts as one more row; those of training may overlap, they are only learned from."""
    where = places([6000, 3000], 16, stride)
    split = split_windows(where, Fractions(), 0)
    for name, rows in parts(split).items():
        kept = where.take(rows)
        gaps = np.diff(kept.first)[np.diff(kept.run) == 0]
        assert (gaps >= (16 if name in ("calibration", "test") else stride)).all()
        assert len(rows)


def test_parts_are_about_as_large_as_was_asked_for() -> None:
    """In readings, on average over seeds: whole blocks, less the gaps."""
    where = places([20000], 10, 10)
    shares = dict.fromkeys(("train", "validation", "calibration", "test"), 0.0)
    for seed in range(20):
        for name, rows in parts(split_windows(where, Fractions(0.1, 0.15, 0.15), seed)).items():
            shares[name] += len(rows) / len(where.first) / 20
    assert shares == pytest.approx({"train": 0.6, "validation": 0.1, "calibration": 0.15, "test": 0.15}, abs=0.03)


def test_the_same_seed_deals_the_same_windows() -> None:
    """And another one others: blocks are not the last or the first readings by rule."""
    where = places([5000], 8, 2)
    first, again, other = (split_windows(where, Fractions(), seed) for seed in (1, 1, 2))
    assert all(np.array_equal(parts(first)[name], parts(again)[name]) for name in parts(first))
    assert not np.array_equal(first.test, other.test)


def test_whole_runs_are_dealt_out_where_there_are_many() -> None:
    """A machine that is tested on was then never trained on."""
    where = places([100] * 60, 10, 5)
    split = split_windows(where, Fractions(), 3)
    found = {name: set(where.run[rows].tolist()) for name, rows in parts(split).items()}
    assert sum(map(len, found.values())) == len(set().union(*found.values())) == 60


def test_a_part_of_no_size_is_empty() -> None:
    """As rows are split."""
    assert len(split_windows(places([5000], 8, 2), Fractions(test=0.0), 0).test) == 0


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ([200], "3 blocks of 4 windows' length; at least 4 are needed"),
        ([330], "windows are left to train on; at least 20 are needed"),
    ],
)
def test_too_few_readings_are_refused(runs: list[int], told: str) -> None:
    """With what would do."""
    with pytest.raises(DataError, match=told):
        split_windows(places(runs, 16, 16), Fractions(), 0)


def test_windows_that_are_kept_apart_are_the_first_that_fit() -> None:
    """Within a run; the next run begins anew."""
    where = Places(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 3, 4, 9, 0, 4]), 4)
    assert apart(where).tolist() == [0, 2, 3, 4, 5]
    assert len(apart(where.take(np.zeros(6, bool)))) == 0
