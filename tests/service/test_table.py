"""Records to numbers and back: what each column takes, what it refuses, and in which words."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codec.columns import other_name
from service.codec.rows import RowSpec
from service.codec.support import domain
from service.codec.table import Table
from service.errors import InvalidInput
from service.inputs import Column
from service.instants import FIRST, LAST, seconds, texts
from tests.mixed import COLUMNS, NAMES

TABLE = Table(COLUMNS)
GOOD: dict[str, Any] = {
    "speed": 1500.5,
    "site": "south",
    "grade": "3",
    "alarm": 1,
    "starts": 4,
    "seen": "2026-01-31T12:00:00Z",
}
ROW = [1500.5, 1.0, 2.0, 1.0, 4.0, datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()]


def reason(**changes: Any) -> str:
    """What is wrong with a good record when some of its members are others."""
    read = TABLE.read([{**GOOD, **changes}])
    return read.flaws[0].reason if read.flaws else ""


def test_a_record_is_its_numbers_whatever_the_order_of_its_members() -> None:
    """Indices for categories, seconds for instants."""
    read = TABLE.read([GOOD, dict(reversed(GOOD.items()))])
    assert not read.flaws
    assert read.x.tolist() == [ROW, ROW]


@pytest.mark.parametrize(
    ("column", "value", "number"),
    [
        ("speed", 3, 3.0),
        ("speed", -1e300, -1e300),
        ("site", "east, or so", 2.0),
        ("site", "west", 3.0),
        ("site", "", 3.0),
        ("grade", 2, 1.0),
        ("grade", 2.0, 1.0),
        ("alarm", False, 0.0),
        ("alarm", 1.0, 1.0),
        ("starts", 0, 0.0),
        ("starts", 7.0, 7.0),
        ("seen", 12.5, 12.5),
        ("seen", "1970-01-02", 86400.0),
        ("seen", "1970-01-01T01:00:00+01:00", 0.0),
        ("seen", "1970-01-01 00:00:01.5", 1.5),
    ],
)
def test_every_kind_of_value_has_its_number(column: str, value: Any, number: float) -> None:
    """A category that is nowhere is another one where the column says so; text without an offset is UTC."""
    read = TABLE.read([{**GOOD, column: value}])
    assert not read.flaws
    assert read.x[0, NAMES.index(column)] == number


@pytest.mark.parametrize("column", NAMES)
def test_null_and_a_member_that_is_not_there_are_both_missing(column: str) -> None:
    """Where the column allows it; else both are refused, naming it."""
    null = {**GOOD, column: None}
    absent = {name: value for name, value in GOOD.items() if name != column}
    nulls, absents = TABLE.read([null, GOOD]), TABLE.read([GOOD, absent])
    if COLUMNS[NAMES.index(column)].missing:
        assert not nulls.flaws
        assert not absents.flaws
        assert np.isnan(nulls.x[0]).tolist() == [name == column for name in NAMES]
        assert nulls.x[::-1].tobytes() == absents.x.tobytes()
    else:
        assert list(nulls.flaws) == [0]
        assert list(absents.flaws) == [1]
        assert nulls.flaws[0].reason == absents.flaws[1].reason
        assert f"column '{column}', has no value" in nulls.flaws[0].reason


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("speed", "1500", "must be a number; it is '1500'"),
        ("speed", True, "must be a number; it is true or false"),
        ("speed", [1], "must be a number; it is a list"),
        ("speed", {}, "must be a number; it is an object"),
        ("speed", math.inf, "must be a number; it is inf"),
        ("site", 3, "must be text; it is 3"),
        ("site", False, "must be text; it is true or false"),
        ("grade", "4", "must be one of '1', '2', '3'; it is '4'"),
        ("grade", 4, "must be one of '1', '2', '3'; it is 4"),
        ("grade", 1.5, "must be one of '1', '2', '3'; it is 1.5"),
        ("grade", True, "must be one of '1', '2', '3'; it is true or false"),
        ("alarm", 2, "must be 0 or 1, or true or false; it is 2"),
        ("alarm", 0.5, "must be 0 or 1, or true or false; it is 0.5"),
        ("alarm", "yes", "must be 0 or 1, or true or false; it is 'yes'"),
        ("starts", 1.5, "must be a whole number of 0 to 16777216; it is 1.5"),
        ("starts", -1, "must be a whole number of 0 to 16777216; it is -1"),
        ("starts", 2**24 + 1, "must be a whole number of 0 to 16777216; it is 16777217"),
        ("seen", "yesterday", "it is 'yesterday'"),
        ("seen", "2026-02-30", "it is '2026-02-30'"),
        ("seen", "9" * 200, "it is '9999"),
        ("seen", True, "it is true or false"),
    ],
)
def test_a_value_that_is_none_of_its_column_is_told_with_what_would_be(column: str, value: Any, told: str) -> None:
    """By column, what it must be, what it is; nothing is converted."""
    assert reason(**{column: value}).startswith(f", column '{column}', must be ")
    assert told in reason(**{column: value})
    read = TABLE.read([GOOD, {**GOOD, column: value}, GOOD])
    assert list(read.flaws) == [1]
    assert read.x[[0, 2]].tolist() == [ROW, ROW]
    assert read.flaws[1].facts["column"] == column
    assert len(read.flaws[1].reason) < 600


def test_an_integer_is_a_whole_number_of_either_sign_that_float32_knows() -> None:
    """What is none, or beyond 2^24, is refused, as it is in an array: the graphs would take it for another one."""
    column = Column(name="year", kind="integer")
    values = (-44, 2024.0, -(2**24), 1.5, True, 2**24 + 1)
    read = Table((column,)).read([{"year": value} for value in values])
    assert read.x[:3].tolist() == [[-44.0], [2024.0], [-16777216.0]]
    may = ", column 'year', must be a whole number of -16777216 to 16777216; it is"
    assert [flaw.reason for flaw in read.flaws.values()] == [f"{may} 1.5", f"{may} true or false", f"{may} 16777217"]
    whole = domain(0, column)
    assert whole is not None
    spec = RowSpec("inputs", (1,), np.dtype(np.float64), domains=(whole,), table=Table((column,)))
    assert spec.cast(np.array([[-44.0], [2024.0]])).tolist() == [[-44.0], [2024.0]]
    for value, told in ((1.5, "1.5"), (-(2.0**24) - 1, "-16777217"), (2.0**24 + 1, "16777217")):
        with pytest.raises(InvalidInput, match=f"row 1, column 'year' is {told}; it must be a whole number of -"):
            spec.cast(np.array([[3.0], [value]]))


def test_what_is_no_record_and_names_that_are_no_columns_are_told() -> None:
    """A name that is misspelt would else be a value that is missing."""
    read = TABLE.read([[1], None, {**GOOD, "sped": 1}, GOOD])
    assert read.flaws[0].reason == " must be an object; it is a list"
    assert read.flaws[1].reason == " must be an object; it is null"
    assert read.flaws[2].reason.startswith(" has 'sped', which is no column; the columns are: 'speed', 'site'")
    assert set(read.flaws) == {0, 1, 2}


def test_the_first_column_at_fault_is_the_one_that_is_told() -> None:
    """One reason a row."""
    read = TABLE.read([{**GOOD, "seen": True, "speed": "x"}])
    assert "'speed'" in read.flaws[0].reason
    mixed = Table((Column(name="a"), Column(name="b", kind="count"), Column(name="c")))  # a and c are read together
    assert "'b'" in mixed.read([{"a": 1, "b": -1, "c": "x"}]).flaws[0].reason


def test_a_table_of_one_column_reads_records_too() -> None:
    """Which have one member."""
    table = Table((Column(name="a"),))
    assert table.read([{"a": 1}, {"a": 2.5}]).x.tolist() == [[1.0], [2.5]]
    assert table.read([{"b": 1}]).flaws
    assert table.read(["a"]).flaws
    assert table.read([]).x.shape == (0, 1)


def test_numbers_become_the_values_that_they_stand_for() -> None:
    """Categories by name, instants in the form that the column says, numbers as they are."""
    x = np.array([ROW, [0.5, 2.6, 0.4, 0.25, 1.5, 0.0]])
    values = {name: column.tolist() for name, column in TABLE.columns(x).items()}
    assert values == {
        "speed": [1500.5, 0.5],
        "site": ["south", "other"],
        "grade": ["3", "1"],
        "alarm": [1.0, 0.25],
        "starts": [4.0, 1.5],
        "seen": ["2026-01-31T12:00:00Z", "1970-01-01T00:00:00Z"],
    }


def test_the_name_of_other_categories_is_none_of_the_vocabulary() -> None:
    """Or another category would come back as a known one."""
    assert other_name(("north",)) == "other"
    assert other_name(("other", "(other)")) == "((other))"


@given(
    rows=st.lists(
        st.tuples(
            st.floats(-1e6, 1e6), st.integers(0, 3), st.integers(0, 2), st.integers(0, 1), st.integers(0, 2**24),
            st.integers(int(FIRST), int(LAST)),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_what_was_written_is_read_as_it_was(rows: list[tuple[float, ...]]) -> None:
    """There and back again, for every value that there is."""
    x = np.array(rows, np.float64).reshape(-1, len(COLUMNS))
    columns = {name: column.tolist() for name, column in TABLE.columns(x).items()}
    read = TABLE.read([{name: columns[name][row] for name in NAMES} for row in range(len(rows))])
    assert not read.flaws
    assert read.x.tolist() == x.tolist()


def test_a_record_has_no_more_commas_and_brackets_than_are_counted_for_it() -> None:
    """Those in names and categories are counted with the others before a body is parsed."""
    assert TABLE.elements >= 1 + len(COLUMNS) + 1  # "east, or so"
    odd = Table((Column(name="a,[b{", kind="categorical", vocabulary=("x,y",)),))
    assert odd.elements == 1 + 1 + 3 + 1


@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
    st.integers(-14 * 60, 14 * 60),
)
def test_an_instant_is_the_same_at_any_offset(moment: datetime, minutes: int) -> None:
    """To the microsecond that a float64 has there."""
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert seconds(aware.isoformat()) == aware.timestamp()
    assert seconds(moment.isoformat()) == moment.replace(tzinfo=UTC).timestamp()


@given(st.lists(st.integers(0, 4 * 10**15), min_size=1, max_size=4))
def test_microseconds_survive_being_written(micros: list[int]) -> None:
    """From 1970 to 2096."""
    instants = np.array(micros) / 1e6
    assert [seconds(str(text)) for text in texts(instants)] == instants.tolist()


@pytest.mark.parametrize(
    "text", ["", "now", "2026-13-01", "2026-01-01T25:00", "1970-01-01T00:00:00\u200a", "1970-01-01T00:00:00Z" * 9]
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    """By one kind of error."""
    with pytest.raises(ValueError, match=r"ISO 8601|isoformat|must be in"):
        seconds(text)


def test_instants_beyond_the_calendar_are_its_ends() -> None:
    """A decoder may dream of them."""
    written = texts(np.array([-1e300, 1e300, np.nan, 0.0])).tolist()
    assert written == ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "", "1970-01-01T00:00:00Z"]
