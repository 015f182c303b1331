"""
Rows of a table as records: objects by column name, with values as people have them, to rows of numbers, and back.

A category becomes its index in the vocabulary, an instant seconds since 1970, what is missing NaN; a number stays what
it is (columns.py). Knows columns and parsed values; nothing of bodies or of models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.codec.columns import Flaw, Floats, Numbers, listed, reader_of
from service.errors import kind, named, shown
from service.inputs import Column

RECORDS = "records"
"""The field of a request, or of a reply, that holds them."""

SPARE_MARKS = 16
"""Commas and brackets that a category may have which is not in the vocabulary, where others are allowed."""


class Read(NamedTuple):
    """What came of records: *x* (n, C), and what is wrong by row; the numbers of such a row mean nothing."""

    x: Floats
    flaws: dict[int, Flaw]


class _Group(NamedTuple):
    """Columns that are read alike, together: the reader of the first, and what takes their values out of a row."""

    reader: Numbers
    places: list[int]
    pick: Callable[[Sequence[Any]], tuple[Any, ...]]


class Table:
    """The columns of a table, in order."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.names = tuple(column.name for column in columns)
        self._known = frozenset(self.names)
        self._columns = [reader_of(column) for column in columns]
        self._pick = _picker(self.names)
        alike: dict[object, list[int]] = {}
        for at, column in enumerate(self._columns):
            alike.setdefault(column.alike, []).append(at)
        self._groups = [_Group(self._columns[places[0]], places, _picker(places)) for places in alike.values()]
        self.worded = frozenset(at for at, column in enumerate(self._columns) if column.words is not None)
        marks = (_marks(column.name) + _most_marks(column) for column in columns)
        self.elements = 1 + len(columns) + sum(marks)
        """The most commas and brackets that a record has (see bound.py)."""

    def read(self, records: list[Any]) -> Read:
        """The rows of *records*, parsed JSON of any kind."""
        found: dict[int, tuple[int, Flaw]] = {}  # by row, with the column; -1: the row itself
        try:
            rows: Sequence[Sequence[Any]] = list(map(self._pick, records))
            complete = set(map(len, records)) <= {len(self.names)}
        except (KeyError, TypeError, IndexError):
            complete = False
        if not complete:
            rows = [self._row(record, index, found) for index, record in enumerate(records)]
        x = np.empty((len(records), len(self.names)), np.float64)
        for reader, places, pick in self._groups:
            values = list(chain.from_iterable(map(pick, rows)))
            numbers = reader.numbers(values)
            if numbers is not None:
                x[:, places] = numbers.reshape(-1, len(places))
                continue
            for offset, at in enumerate(places):
                x[:, at] = self._each(at, values[offset :: len(places)], found)
        return Read(x, {row: found[row][1] for row in sorted(found)})

    def _each(self, at: int, values: list[Any], found: dict[int, tuple[int, Flaw]]) -> Floats:
        """The numbers of column *at*, one by one where one is wrong: what that is goes to *found*."""
        column = self._columns[at]
        numbers = column.numbers(values)
        if numbers is not None:
            return numbers
        read = np.zeros(len(values))
        for row, value in enumerate(values):
            number = column.numbers([value])
            if number is not None:
                read[row] = number[0]
            elif row not in found or at < found[row][0]:
                found[row] = at, column.flaw(value)
        return read

    def columns(self, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The values of rows (n, C) by column: numbers, or texts for categories and for instants that are text."""
        return {name: self.values(at, x[:, at]) for at, name in enumerate(self.names)}

    def values(self, at: int, numbers: NDArray[Any]) -> NDArray[Any]:
        """Numbers of column *at*, as its values."""
        words = self._columns[at].words
        return words(np.asarray(numbers, np.float64)) if words is not None else numbers

    def _row(self, record: Any, index: int, found: dict[int, tuple[int, Flaw]]) -> Sequence[Any]:
        """The values of one record in order, None where it has none; what is wrong with it as such goes to *found*."""
        if type(record) is not dict:
            found[index] = (
                -1,
                Flaw(f" must be an object; it is {kind(record)}", {"limit": "an object", "value": kind(record)}),
            )
            return (None,) * len(self.names)
        if more := record.keys() - self._known:
            name = min(more)
            found[index] = (
                -1,
                Flaw(
                    f" has {shown(name)}, which is no column; the columns are: {listed(self.names)}",
                    {"column": named(name), "limit": listed(self.names)},
                ),
            )
        get = record.get
        return [get(name) for name in self.names]


def _picker(keys: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """What takes the items of these *keys* out of something, as a tuple of one too."""
    pick = itemgetter(*keys)
    return pick if len(keys) > 1 else lambda record: (pick(record),)


def _marks(text: str) -> int:
    return sum(text.count(mark) for mark in ",[{")


def _most_marks(column: Column) -> int:
    """The most commas and brackets that a value of *column* has."""
    if column.vocabulary is None:
        return 1 if column.time is not None else 0  # 12:00:00,5
    most = max(map(_marks, column.vocabulary), default=0)
    return max(most, SPARE_MARKS) if column.unknown == "other" else most
