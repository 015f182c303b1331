"""Parquet files: every type that is read, and those that are refused by name."""

from __future__ import annotations

import datetime
import decimal
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.tables import numbers_of, opened, texts_of
from training.cells import Reading
from training.data import load
from training.errors import DataError

pa: Any = importlib.import_module("pyarrow")
pq: Any = importlib.import_module("pyarrow.parquet")

UTC = datetime.UTC
NOON = datetime.datetime(2026, 1, 31, 12, 0, 0, 250_000)
SECONDS = NOON.replace(tzinfo=UTC).timestamp()


def parquet(folder: Path, **columns: Any) -> Path:
    """*columns* as the file rows.parquet."""
    path = folder / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, 3], pa.int8()),
        pa.array([1, None, 3], pa.uint64()),
        pa.array([1, None, 3], pa.float32()),
        pa.array([1.0, float("nan"), 3.0]),
        pa.array([decimal.Decimal("1.00"), None, decimal.Decimal("3.00")]),
        pa.array([1, None, 3]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_numbers_of_any_type_are_read(tmp_path: Path, column: Any) -> None:
    """NaN is missing, as null is."""
    file = opened(parquet(tmp_path, a=column))
    assert (file.names, file.rows) == (["a"], 3)
    np.testing.assert_array_equal(numbers_of(file), [[1], [np.nan], [3]])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_texts_of_any_type_are_read(tmp_path: Path, kind: Any) -> None:
    """Words for a missing value are missing here too."""
    column = pa.array(["north", None, "NA", "south "], pa.string()).cast(kind)
    assert texts_of(opened(parquet(tmp_path, a=column))) == [["north"], [None], [None], ["south"]]


def test_truth_values_are_0_and_1(tmp_path: Path) -> None:
    """As a binary column without a vocabulary."""
    dataset = load(str(parquet(tmp_path, a=[True, None, False], b=[1.5, 2.5, 4])))
    [a, _] = dataset.inputs.columns or ()
    assert (a.kind, a.vocabulary, a.missing) == ("binary", None, True)
    np.testing.assert_array_equal(dataset.x[:, 0], [1, np.nan, 0])


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        (pa.timestamp("s"), SECONDS - 0.25),
        (pa.timestamp("ms"), SECONDS),
        (pa.timestamp("us", "UTC"), SECONDS),
        (pa.timestamp("ns", "Europe/Berlin"), SECONDS),
        (pa.date32(), SECONDS - 0.25 - 12 * 3600),
        (pa.date64(), SECONDS - 0.25 - 12 * 3600),
    ],
    ids=str,
)
def test_dates_and_times_become_seconds(tmp_path: Path, kind: Any, seconds: float) -> None:
    """Since 1970 in UTC, also before it; without a time zone they are taken to be in UTC. Answers are ISO 8601."""
    values = [NOON.replace(tzinfo=UTC) if getattr(kind, "tz", None) else NOON, None, datetime.datetime(1969, 12, 31)]
    values[2] = datetime.datetime(1969, 12, 31, tzinfo=UTC if getattr(kind, "tz", None) else None)
    column = pa.array(values, pa.timestamp("us", getattr(kind, "tz", None))).cast(kind, safe=False)
    dataset = load(str(parquet(tmp_path, seen=column)))
    [described] = dataset.inputs.columns or ()
    assert (described.kind, described.time) == ("numeric", "iso8601")
    np.testing.assert_array_equal(dataset.x[:, 0], [seconds, np.nan, -86400])


def test_a_number_may_stand_for_a_missing_value(tmp_path: Path) -> None:
    """-999 in a column of numbers."""
    file = opened(parquet(tmp_path, a=[1.0, -999.0, 2.0]), Reading(missing=("-999",)))
    np.testing.assert_array_equal(numbers_of(file), [[1], [np.nan], [2]])


def test_more_rows_than_are_read_at_once_come_in_order(tmp_path: Path) -> None:
    """Over several row groups."""
    x = np.arange(3_000_000.0)
    pq.write_table(pa.table({"a": x}), tmp_path / "rows.parquet", row_group_size=700_000)
    file = opened(tmp_path / "rows.parquet")
    assert sum(1 for _ in file.blocks(["a"])) > 1
    np.testing.assert_array_equal(numbers_of(file)[:, 0], x)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [[1], [2]]}, r"rows.parquet: column 'a': its type, list<[a-z]+: int64>, is neither numbers, texts, "),
        ({"a": [b"x", b"y"]}, "column 'a': its type, binary, is neither"),
        ({"a": [None, None], "b": [1, 2]}, "column 'a': every value is missing: leave it out with use = false"),
        ({"a": [1.0, float("inf")]}, "rows.parquet: row 1, column 'a': 'inf' is not a finite number"),
        ({"": [1, 2]}, "rows.parquet: column 1 has no name"),
        ({"a": pa.array([], pa.int64())}, "rows.parquet: no rows"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    """The column, the row where there is one, and what helps."""
    with pytest.raises(DataError, match=message):
        load(str(parquet(tmp_path, **columns)))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """Parquet allows them; nobody could say which is meant."""
    pq.write_table(pa.table([[1, 2], [3, 4]], names=["a", "a"]), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows.parquet: two columns are called 'a'"):
        load(str(tmp_path / "rows.parquet"))


def test_a_file_that_is_no_parquet_or_is_cut_is_refused(tmp_path: Path) -> None:
    """By its name."""
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"not at all")
    with pytest.raises(DataError, match=r"rows.parquet: not a Parquet file"):
        load(str(path))
    whole = parquet(tmp_path, a=np.random.default_rng(0).random(10_000)).read_bytes()
    path.write_bytes(whole[:4] + bytes(2000) + whole[2004:])
    with pytest.raises(DataError, match=r"rows.parquet: row 0 or below: cannot be read"):
        load(str(path))
