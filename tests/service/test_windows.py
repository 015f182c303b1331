"""Readings to rows: each row is its own readings, in order, in units of their own, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service import windows as made
from service.inputs import Column, Inputs, Windows

SENSORS = (Column(name="flow", unit="l/s"), Column(name="on", kind="binary"), Column(name="heat", missing=True))
Floats = NDArray[np.float64]

shapes = st.builds(
    Windows,
    sensors=st.just(SENSORS),
    length=st.integers(2, 6),
    stride=st.integers(1, 9),
    differences=st.booleans(),
)


def readings(count: int, seed: int = 0) -> Floats:
    """So many of the three sensors."""
    generator = np.random.default_rng(seed)
    return np.stack(
        [generator.normal(size=count), generator.integers(0, 2, count), generator.normal(size=count)], axis=1
    )


@given(windows=shapes, count=st.integers(0, 40))
def test_a_row_is_its_readings_in_order(windows: Windows, count: int) -> None:
    """Each of all sensors; of a numeric one the first, and then how much each is more than the one before."""
    x = readings(count)
    rows = made.rows_of(x, windows)
    assert len(rows) == made.count(count, windows) == len(range(0, count - windows.length + 1, windows.stride))
    names = [column.name for column in windows.columns]
    for row, first in zip(rows, made.firsts(len(rows), windows), strict=True):
        for c, value in enumerate(row):
            sensor, at = c % 3, c // 3
            before = x[first + at - 1, sensor] if at and windows.differences and sensor != 1 else 0.0
            assert value == x[first + at, sensor] - before
            name = f"{SENSORS[sensor].name}@{-windows.lag(c)}" if windows.lag(c) else f"{SENSORS[sensor].name}@0"
            assert names[c] == (f"change of {name}" if before else name)


@given(windows=shapes, rows=st.integers(1, 9))
def test_so_many_rows_need_so_many_readings_and_not_one_fewer(windows: Windows, rows: int) -> None:
    """The limit of a request is one of windows."""
    least = made.needed(rows, windows)
    assert (made.count(least, windows), made.count(least - 1, windows)) == (rows, rows - 1)


def test_differences_keep_volumes_and_can_be_undone() -> None:
    """The determinant is 1: a density of the row is the density of the readings, in the units that they have."""
    windows = Windows(sensors=SENSORS, length=5, stride=1, differences=True)
    map_ = np.stack([made.rows_of(column.reshape(5, 3), windows)[0] for column in np.eye(15)], axis=1)
    assert np.linalg.det(map_) == pytest.approx(1)
    x = readings(5)
    again = made.rows_of(x, windows).reshape(5, 3)
    again[:, [0, 2]] = again[:, [0, 2]].cumsum(axis=0)
    np.testing.assert_allclose(again, x, atol=1e-12)


def test_a_missing_reading_takes_the_differences_that_it_is_in() -> None:
    """And no other value."""
    x = readings(5)
    x[2, 2] = np.nan
    for differences, gone in ((False, [2]), (True, [2, 3])):
        row = made.rows_of(x, Windows(sensors=SENSORS, length=5, stride=1, differences=differences))[0].reshape(5, 3)
        assert np.argwhere(np.isnan(row)).tolist() == [[at, 2] for at in gone]


def test_differences_of_the_largest_numbers_are_numbers() -> None:
    """A score is finite for every finite input."""
    x = np.array([[1.7e308, 0, -1.7e308], [-1.7e308, 1, 1.7e308]])
    row = made.rows_of(x, Windows(sensors=SENSORS, length=2, stride=1, differences=True))[0]
    assert row[3:].tolist() == [-np.finfo(float).max, 1, np.finfo(float).max]


def test_a_manifest_whose_columns_are_not_those_of_its_windows_is_refused() -> None:
    """But for what the fit found out of them, their center and scale."""
    windows = Windows(sensors=SENSORS, length=2, stride=1)
    columns = windows.columns
    scaled = tuple(column.model_copy(update={"center": 1.0, "scale": 2.0}) for column in columns)
    told = {"kind": "table", "shape": (6,), "dtype": "float64", "clamp": 1.0, "windows": windows}
    assert Inputs(**told, columns=scaled).windows == windows
    with pytest.raises(ValueError, match="columns are not those of the windows"):
        Inputs(**told, columns=columns[::-1])
    with pytest.raises(ValueError, match="columns are not those of the windows"):
        Inputs(kind="array", shape=(6,), dtype="float64", clamp=1.0, windows=windows)
