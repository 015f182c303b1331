"""
The columns of a table: what a client may send as a value of each, the number that it becomes, and the value again.

Nothing is converted that does not say what it is: "1" is no number, and 1.5 no count. Knows values; nothing of records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import MAX_SHOWN, kind, named, plain, shown
from service.inputs import MOST_COUNT, Column
from service.instants import seconds, texts

Floats = NDArray[np.float64]

_LISTED = 8  # names in a message
_NUMBER = frozenset({int, float})
_INSTANT = _NUMBER | {str}
_BINARY = _NUMBER | {bool}


class Flaw(NamedTuple):
    """What is wrong with one row, in words that go on behind "row 3", and the facts of the problem document."""

    reason: str
    facts: dict[str, object]


def between(low: float, high: float) -> str:
    """What a whole number of *low* to *high* is, in words."""
    return f"a whole number of {plain(low)} to {plain(high)}"


class Numbers:
    """A column of numbers: *low* to *high*, whole ones where *whole*; also of truth values, where *types* has them."""

    what = "a number"
    types: frozenset[type] = _NUMBER
    low, high, whole = -math.inf, math.inf, False

    def __init__(self, column: Column) -> None:
        self.name = column.name
        self.missing = column.missing
        self.words: Callable[[Floats], NDArray[Any]] | None = None

    @property
    def alike(self) -> object:
        """Equal for columns whose values are read in the same way."""
        return type(self), self.missing

    def numbers(self, values: Sequence[Any]) -> Floats | None:
        """The numbers of *values*, NaN for None; None where one of them is wrong."""
        types = set(map(type, values))
        if NoneType in types:
            if not self.missing:
                return None
            types.discard(NoneType)
        return self._read(values) if types <= self.types else None

    def flaw(self, value: Any) -> Flaw:
        """What is wrong with *value*, which `numbers` has no number for."""
        facts: dict[str, object] = {"column": named(self.name), "limit": self.what}
        where = f", column {shown(self.name)}"
        if value is None:
            return Flaw(f"{where}, has no value; it must be {self.what}", facts)
        if isinstance(value, (str, int, float)):  # bool is an int
            facts["value"] = named(value) if isinstance(value, str) else value
            if isinstance(value, float) and not math.isfinite(value):
                facts["value"] = str(value)
            told = shown(value) if type(value) is not bool else kind(value)
        else:
            told = kind(value)
        return Flaw(f"{where}, must be {self.what}; it is {told}", facts)

    def _read(self, values: Sequence[Any]) -> Floats | None:
        numbers: Floats = np.array(values, np.float64)  # None becomes NaN
        if np.isinf(numbers).any():
            return None
        if self.whole:
            bad = (numbers < self.low) | (numbers > self.high) | (numbers != np.rint(numbers))
            if (bad & ~np.isnan(numbers)).any():
                return None
        return numbers


class _Integers(Numbers):
    """A column of whole numbers."""

    low, high, whole = -float(MOST_COUNT), float(MOST_COUNT), True
    what = between(low, high)


class _Counts(Numbers):
    """A column of counts."""

    low, high, whole = 0.0, float(MOST_COUNT), True
    what = between(low, high)


class _Binary(Numbers):
    """A column of truth values, without names for them."""

    what = "0 or 1, or true or false"
    types = _BINARY
    low, high, whole = 0.0, 1.0, True


class _Instants(Numbers):
    """A column of instants: seconds since 1970, or ISO 8601 text. They are told as the column's *time* says."""

    what = 'an instant: seconds since 1970, or text like "2026-01-31T12:00:00Z"'
    types = _INSTANT

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.words = texts if column.time == "iso8601" else None

    def _read(self, values: Sequence[Any]) -> Floats | None:
        try:
            return super()._read([seconds(value) if type(value) is str else value for value in values])
        except (ValueError, OverflowError):
            return None


class _Categories(Numbers):
    """A column of categories; a number is one where the vocabulary has its text."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        names = list(column.vocabulary or ())
        index: dict[Any, float] = {name: float(at) for at, name in enumerate(names)}
        numbers = {float(name): at for name, at in index.items() if _is_number(name)}
        self.types = _NUMBER | {str} if numbers else frozenset({str})
        self._index = {None: math.nan, **index, **numbers}
        self._other = float(len(names)) if column.unknown == "other" else None
        self.what = f"one of {listed(names)}"
        if self._other is not None:
            self.what = "text or a number" if numbers else "text"
            names.append(other_name(names))
        self._names = np.array(names, str)
        self.words = self._words

    @property
    def alike(self) -> object:
        """No other column has this vocabulary."""
        return self

    def _read(self, values: Sequence[Any]) -> Floats | None:
        index = self._index
        if self._other is not None:
            return np.array([index.get(value, self._other) for value in values], np.float64)
        try:
            return np.array([index[value] for value in values], np.float64)
        except KeyError:
            return None

    def _words(self, numbers: Floats) -> NDArray[Any]:
        nearest = np.clip(np.rint(np.nan_to_num(numbers)), 0, len(self._names) - 1).astype(np.int64)
        return self._names[nearest]


def other_name(vocabulary: Sequence[str]) -> str:
    """What a category is called that is not in *vocabulary*: "other", in brackets where that is one of them."""
    name = "other"
    while name in vocabulary:
        name = f"({name})"
    return name


def levels(column: Column) -> int | None:
    """How many numbers stand for values of *column*, from 0: those of its categories, or of truth values, else None."""
    if column.vocabulary is not None:
        return len(column.vocabulary) + (column.unknown == "other")
    return 2 if column.kind == "binary" else None


def reader_of(column: Column) -> Numbers:
    """What reads the values of *column*."""
    if column.vocabulary is not None:
        return _Categories(column)
    if column.time is not None:
        return _Instants(column)
    readers: Mapping[str, type[Numbers]] = {"binary": _Binary, "integer": _Integers, "count": _Counts}
    return readers.get(column.kind, Numbers)(column)


def _is_number(text: str) -> bool:
    """Whether *text* is a number as `vae-train` writes it in a vocabulary: a whole one without a point."""
    try:
        number = float(text)
    except ValueError:
        return False
    return math.isfinite(number) and text == (str(int(number)) if number.is_integer() else repr(number))


def listed(names: Sequence[str]) -> str:
    """The first of *names*, as many as fit in a message."""
    told = ", ".join([shown(name) for name in names[:_LISTED]])
    told = told if len(told) <= 2 * MAX_SHOWN else f"{told[: 2 * MAX_SHOWN]}..."
    return told if len(names) <= _LISTED else f"{told} and {len(names) - _LISTED} more"
