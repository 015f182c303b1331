"""Rows held against a schema: the numbers that the model takes, and every way in which a row can be wrong."""

from __future__ import annotations

import csv
import datetime
import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.inputs import Column
from tests.training.tables import csv_file
from training.cells import MISSING, Reading, instant
from training.coding import coded
from training.data import load
from training.errors import DataError
from training.schema import Schema

SITE = Column(name="a", kind="categorical", vocabulary=("north", "south"))
OTHER = Column(name="a", kind="categorical", vocabulary=("north", "south"), unknown="other")
GRADE = Column(name="a", kind="ordinal", vocabulary=("1", "2", "3"))


def code(folder: Path, column: Column, *values: str, schema: str = "s.toml") -> list[float]:
    """The numbers of a column of *values*."""
    text = io.StringIO()
    csv.writer(text).writerows([["a"], *([value or " "] for value in values)])
    x, _ = coded(csv_file(folder, text.getvalue()), Schema((column,), source=schema), Reading())
    return [float(value) for value in x[:, 0]]


@pytest.mark.parametrize(
    ("column", "values", "numbers"),
    [
        (Column(name="a"), ["1.5", "-2"], [1.5, -2]),
        (Column(name="a", missing=True), ["1.5", "", "NA"], [1.5, math.nan, math.nan]),
        (Column(name="a", kind="count"), ["0", "17", "3.0"], [0, 17, 3]),
        (Column(name="a", kind="integer"), ["-44", "2024", "3.0"], [-44, 2024, 3]),
        (Column(name="a", kind="binary"), ["0", "1", "1.0", "true", "False"], [0, 1, 1, 1, 0]),
        (Column(name="a", kind="binary", vocabulary=("no", "yes")), ["yes", "no"], [1, 0]),
        (SITE, ["south", " north "], [1, 0]),
        (OTHER, ["south", "east", "north", "North"], [1, 2, 0, 2]),
        (GRADE, ["3", "1", "2.0"], [2, 0, 1]),
        (Column(name="a", time="epoch"), ["1700000000"], [1.7e9]),
        (Column(name="a", time="iso8601"), ["1970-01-02", "1970-01-01T01:00:00.5Z"], [86400, 3600.5]),
        (Column(name="a", time="iso8601", missing=True), ["1970-01-01 02:00+02:00", "null"], [0, math.nan]),
    ],
)
def test_each_kind_of_column_has_its_numbers(
    tmp_path: Path, column: Column, values: list[str], numbers: list[float]
) -> None:
    """A category its place, an instant its seconds, a missing value NaN."""
    np.testing.assert_array_equal(code(tmp_path, column, *values), numbers)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (Column(name="a"), ["1", "x"], "rows.csv: line 3, column 'a': 'x' is not a number"),
        (Column(name="a"), ["1", "inf"], "rows.csv: line 3, column 'a': 'inf' is not a finite number"),
        (
            Column(name="a"),
            ["1", "NA"],
            "rows.csv: line 3, column 'a': the value is missing, which s.toml does not allow",
        ),
        (SITE, ["north", ""], "rows.csv: line 3, column 'a': the value is missing, which s.toml does not allow"),
        (SITE, ["north", "East"], "rows.csv: line 3, column 'a': 'East' is not in the vocabulary: 'north', 'south'"),
        (GRADE, ["1", "4"], "rows.csv: line 3, column 'a': '4' is not in the vocabulary: '1', '2', '3'"),
        (Column(name="a", kind="binary"), ["1", "2"], "rows.csv: line 3, column 'a': '2' is neither 0 nor 1"),
        (Column(name="a", kind="binary"), ["1", "no"], "rows.csv: line 3, column 'a': 'no' is neither 0 nor 1"),
        (
            Column(name="a", kind="count"),
            ["1", "-1"],
            "rows.csv: line 3, column 'a': '-1' is not a whole number from 0",
        ),
        (
            Column(name="a", kind="count"),
            ["1", "1.5"],
            "rows.csv: line 3, column 'a': '1.5' is not a whole number from 0",
        ),
        (Column(name="a", kind="integer"), ["-1", "1.5"], "rows.csv: line 3, column 'a': '1.5' is not a whole number"),
        (
            Column(name="a", time="iso8601"),
            ["2026-01-31", "2026-01-32"],
            "rows.csv: line 3, column 'a': '2026-01-32' is not an ISO 8601 date",
        ),
        (
            Column(name="a", kind="categorical", vocabulary=tuple("abcdefghij")),
            ["a", "z"],
            "rows.csv: line 3, column 'a': 'z' is not in the vocabulary: 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', ...",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_line(
    tmp_path: Path, column: Column, values: list[str], message: str
) -> None:
    """The file, the line, the column, the value and what it should be."""
    with pytest.raises(DataError) as refused:
        code(tmp_path, column, *values)
    assert str(refused.value) == message


def test_a_value_far_down_is_named_with_its_line(tmp_path: Path) -> None:
    """Beyond what is read at once."""
    values = ["1.25000000000000000000"] * 500_000 + ["x"]
    with pytest.raises(DataError, match=r"rows.csv: line 500002, column 'a': 'x' is not a number"):
        code(tmp_path, Column(name="a"), *values)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (Schema((Column(name="c"),), ("a", "b"), source="s.toml"), "rows.csv: no column 'c', which s.toml has"),
        (
            Schema((Column(name="a"), Column(name="b")), ("c",), source="s.toml"),
            "rows.csv: no column 'c', which s.toml has",
        ),
        (
            Schema((Column(name="a"),), source="s.toml"),
            "rows.csv: s.toml has no column 'b'; with use = false there it is left out",
        ),
        (Schema((Column(name="a"),), source="the bundle", fitted=True), "rows.csv: the bundle has no column 'b'"),
        (
            Schema((Column(name="a"), Column(name="c")), ("b",), source="the bundle", fitted=True),
            "rows.csv: no column 'c', which the bundle takes",
        ),
        (
            Schema((Column(name="a"),), ("b",), "y", source="s.toml"),
            "rows.csv: no column 'y', which is to be the label",
        ),
    ],
)
def test_columns_that_do_not_belong_together_are_named(tmp_path: Path, schema: Schema, message: str) -> None:
    """Which is missing, or too many, and of whom."""
    with pytest.raises(DataError) as refused:
        coded(csv_file(tmp_path, "a,b\n1,2\n"), schema, Reading())
    assert str(refused.value) == message


def test_what_a_bundle_ignores_need_not_be_there(tmp_path: Path) -> None:
    """Columns come in the schema's order, whatever the file's is."""
    schema = Schema((Column(name="b"), Column(name="a")), ("id",), source="the bundle", fitted=True)
    for text in ("a,b\n1,2\n", "b,id,a\n2,x,1\n"):
        x, _ = coded(csv_file(tmp_path, text), schema, Reading())
        assert x.tolist() == [[2, 1]]


def test_labelled_anomalies_are_kept_apart(tmp_path: Path) -> None:
    """1 or true is an anomaly; the label is no column."""
    text = "".join(f"{i},{'true' if i % 3 == 1 else 'False'}\n" for i in range(40_000))
    schema = Schema((Column(name="a"),), (), "y")
    dataset = load(str(_written(tmp_path, "a,y\n" + text)), schema)
    anomalous = np.arange(40_000) % 3 == 1
    assert dataset.anomalies is not None
    np.testing.assert_array_equal(dataset.x[:, 0], np.flatnonzero(~anomalous))
    np.testing.assert_array_equal(dataset.anomalies[:, 0], np.flatnonzero(anomalous))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("01,", "line 4, column 'y': the label is missing"),
        ("012", "line 4, column 'y': '2' is neither 0 (normal) nor 1 (anomaly)"),
        ("111", "column 'y' says that every row is an anomaly; there is nothing to learn from"),
    ],
)
def test_labels_that_cannot_be_used_are_named(tmp_path: Path, labels: str, message: str) -> None:
    """As in an npz."""
    path = _written(tmp_path, "a,y\n" + "".join(f"1.5,{label.strip(',')}\n" for label in labels))
    with pytest.raises(DataError) as refused:
        load(str(path), Schema((Column(name="a"),), (), "y"))
    assert str(refused.value) == f"rows.csv: {message}"


def _written(folder: Path, text: str) -> Path:
    path = folder / "rows.csv"
    path.write_text(text)
    return path


offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes)))
instants = st.datetimes(datetime.datetime(1, 1, 3), datetime.datetime(9999, 12, 29), timezones=offsets)


@given(when=instants, form=st.sampled_from(["T", " "]))
def test_an_instant_is_the_same_in_every_time_zone(when: datetime.datetime, form: str) -> None:
    """Seconds since 1970 in UTC, right to the microsecond where a float64 has it."""
    exact = (when - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) / datetime.timedelta(seconds=1)
    assert instant(when.isoformat(form)) == exact
    assert instant(when.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")) == exact
    assert instant(when.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(form)) == exact


@pytest.mark.parametrize("text", ["", "x", "2026", "2026-13-01", "2026-01-01T25:00", "12:00", "1700000000.5", "now"])
def test_what_is_no_date_is_no_instant(text: str) -> None:
    """A time without a date is none either."""
    assert instant(text) is None


words = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff"), min_size=1).map(str.strip)
categories = words.filter(lambda word: word and word.lower() not in MISSING)


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_table_comes_back_from_its_codes(tmp_path: Path, data: st.DataObject) -> None:
    """Numbers to the bit, categories and missing values by name: nothing is lost on the way to the model."""
    vocabulary = data.draw(st.lists(categories, min_size=1, max_size=5, unique=True))
    columns = (
        Column(name="number", missing=True),
        Column(name="category", kind="categorical", vocabulary=tuple(vocabulary), missing=True),
        Column(name="count", kind="count", missing=True),
    )
    row = st.tuples(
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.sampled_from(vocabulary),
        st.none() | st.integers(0, 10**6),
    )
    rows = data.draw(st.lists(row, min_size=1, max_size=6))
    text = io.StringIO()
    cells = [["" if value is None else value for value in values] for values in rows]
    csv.writer(text).writerows([[column.name for column in columns], *cells])
    for by_arrow in (True, False):
        x, _ = coded(csv_file(tmp_path, text.getvalue(), by_arrow=by_arrow), Schema(columns), Reading())
        back = [
            (
                None if math.isnan(number) else number,
                None if math.isnan(category) else vocabulary[int(category)],
                None if math.isnan(count) else int(count),
            )
            for number, category, count in x.tolist()
        ]
        assert back == rows
