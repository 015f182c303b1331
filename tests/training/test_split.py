"""Every row has one role, and anomalies have none in the fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import from_arrays
from training.errors import DataError
from training.parts import Dealing, deal, moved_together
from training.split import Fractions, split_rows

SHARES = st.floats(0.01, 0.3)


@given(st.integers(20, 3000), SHARES, SHARES, SHARES, st.integers(0, 2**31), st.booleans())
def test_the_parts_are_disjoint_and_together_everything(
    rows: int, validation: float, calibration: float, test: float, seed: int, test_given: bool
) -> None:
    """Whatever the sizes and the seed, each row is in exactly one part, and the same seed deals the same."""
    fractions = Fractions(validation, calibration, test)
    split = split_rows(rows, fractions, seed, test_given)
    parts = (split.train, split.validation, split.calibration, split.test)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(rows))
    assert all(len(part) for part in parts[:3])
    assert bool(len(split.test)) != test_given
    again = split_rows(rows, fractions, seed, test_given)
    np.testing.assert_array_equal(split.train, again.train)


@given(st.lists(st.booleans(), min_size=30, max_size=60).filter(lambda y: y.count(False) >= 20))
def test_anomalies_are_in_no_part_that_anything_is_fitted_to(anomalous: list[bool]) -> None:
    """Wherever the anomalies stand in the file, no part but `anomalies` has one of them."""
    y = np.array(anomalous)
    x = np.stack([np.arange(len(y)), y * 1e6], axis=1)
    parts = deal(from_arrays("rows.npz", {"X": x, "y": y}), Dealing())
    for part in (parts.train, parts.validation, parts.calibration, parts.test):
        assert (part[:, 1] == 0).all()
    assert (0 if parts.anomalies is None else len(parts.anomalies)) == y.sum()
    assert sum(parts.sizes.values()) == (~y).sum()


def test_held_out_parts_stop_growing() -> None:
    """Of a million rows, no more than 20,000 go to each part that only measures."""
    split = split_rows(1_000_000, Fractions(), 0)
    assert [len(split.validation), len(split.calibration), len(split.test)] == [20000] * 3


def test_too_few_rows_are_refused() -> None:
    """The message says how many there are, and how many are needed."""
    with pytest.raises(DataError, match="19 normal rows; at least 20"):
        split_rows(19, Fractions(), 0)
    with pytest.raises(DataError, match="leave nothing to train on"):
        Fractions(0.4, 0.3, 0.3)
    with pytest.raises(DataError, match="too few for these fractions"):
        split_rows(20, Fractions(0.32, 0.32, 0.32), 0)


def test_dynamic_binarisation_draws_held_out_rows_once_and_training_rows_anew() -> None:
    """Two deals give the same binary test rows; two training batches differ; the mean is the grey value."""
    x = np.full((200, 4, 4), 64, np.uint8)
    x[0] = 255
    dataset = from_arrays("images.npy", {"X": x})
    dealing = Dealing(binarize="dynamic", seed=3)
    parts, again = deal(dataset, dealing), deal(dataset, dealing)
    np.testing.assert_array_equal(parts.test, again.test)
    assert set(np.unique(parts.test)) == {0, 1}
    assert parts.inputs.range == (0, 1)
    assert parts.draw is not None
    generator = np.random.default_rng(0)
    first, second = parts.draw(parts.train, generator), parts.draw(parts.train, generator)
    assert (first != second).any()
    assert float(np.mean([first.mean(), second.mean()])) == pytest.approx(64 / 255, abs=0.03)


def test_rows_that_are_used_up_are_dealt_alike_in_the_memory_they_were_in() -> None:
    """A fit to a large table does not hold it twice; the parts are the same as those of data that are kept."""
    x = np.random.default_rng(0).standard_normal((3000, 3))
    dealing = Dealing(seed=5)
    kept = deal(from_arrays("rows.npy", {"X": x.copy()}), dealing)
    parts = deal(from_arrays("rows.npy", {"X": x}), dealing, use_up=True)
    for part in ("train", "validation", "calibration", "test"):
        np.testing.assert_array_equal(getattr(parts, part), getattr(kept, part))
    assert np.shares_memory(parts.train, x)
    assert not np.shares_memory(parts.test, x)


def test_rows_that_cannot_be_written_to_are_left_as_they_are() -> None:
    """Arrays over a file's bytes are read-only: their training rows are a copy, as they are without *use_up*."""
    x = np.random.default_rng(0).standard_normal((100, 3))
    x.flags.writeable = False
    kept = x.copy()
    parts = deal(from_arrays("rows.npy", {"X": x}), Dealing(), use_up=True)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(parts.train, deal(from_arrays("rows.npy", {"X": kept}), Dealing()).train)


@given(st.sets(st.integers(0, 99), min_size=1), st.integers(1, 400))
def test_rows_are_moved_together_whatever_the_size_of_a_piece(rows: set[int], piece_values: int) -> None:
    """No row is written over before it was moved."""
    x = np.arange(300).reshape(100, 3)
    wanted = np.array(sorted(rows))
    np.testing.assert_array_equal(moved_together(x.copy(), wanted, piece_values), x[wanted])


def test_only_images_can_be_binarised() -> None:
    """A table has no range of grey values."""
    with pytest.raises(DataError, match="--binarize is for images"):
        deal(from_arrays("rows.npy", {"X": np.ones((50, 3))}), Dealing(binarize="threshold"))
