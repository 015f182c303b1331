"""
What a text in a table can be: missing, a number, an instant, or just a text. One column of some rows, as either.

Knows texts and arrays; nothing of files or of what a column is said to be. n rows.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

MISSING: Final = ("", "na", "n/a", "null", "none", "nan", "?")
"""The words for "no value", in any case."""

DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab"}

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_SECOND = datetime.timedelta(seconds=1)
_EXACT = 2.0**53  # whole numbers up to here are float64


@dataclass(frozen=True)
class Reading:
    """
    How the texts of a table are read.

    *delimiter*: None is whichever the header shows. *missing*: the words for "no value", compared without regard to
    case and surrounding space.
    """

    delimiter: str | None = None
    decimal: Literal[".", ","] = "."
    missing: tuple[str, ...] = MISSING

    @cached_property
    def words(self) -> frozenset[str]:
        """The words for "no value", in lower case."""
        return frozenset(word.strip().lower() for word in self.missing)

    @cached_property
    def missing_numbers(self) -> tuple[float, ...]:
        """Those of the words that are numbers, such as -999."""
        found = (self.number(word) for word in self.missing)
        return tuple(value for value in found if value is not None and math.isfinite(value))

    def is_missing(self, text: str) -> bool:
        """Whether *text* says that there is no value."""
        return text.strip().lower() in self.words

    def number(self, text: str) -> float | None:
        """The number that *text* is, in decimal notation; None where it is none. No word for "missing" is asked for."""
        if self.decimal == ",":
            if "." in text:  # a thousand somewhere, a point elsewhere
                return None
            text = text.replace(",", ".")
        if "_" in text:  # Python reads 1_000 as a number; nobody else does
            return None
        try:
            return float(text)
        except ValueError:
            return None


def instant(text: str) -> float | None:
    """
    Seconds since 1970-01-01 UTC of an ISO 8601 date, or date and time; None for all else.

    Without an offset it is taken to be UTC. Exact to the microsecond.
    """
    try:
        found = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    try:
        return ((found if found.tzinfo else found.replace(tzinfo=datetime.UTC)) - _EPOCH) / _SECOND
    except OverflowError:
        return None


def number_text(value: float) -> str:
    """A number as a category's text: whole ones without a point."""
    return str(int(value)) if value.is_integer() and abs(value) <= _EXACT else repr(value)


class Cells(Protocol):
    """One column of n rows."""

    def __len__(self) -> int:
        """How many rows: n."""
        ...

    def numbers(self) -> Floats | None:
        """The numbers, (n,), NaN where missing; None where one is no number."""
        ...

    def texts(self) -> tuple[Codes, list[str]]:
        """The place of each text among the distinct ones, (n,), -1 where missing; and these."""
        ...

    def text(self, i: int) -> str:
        """What stands in row *i*."""
        ...


class PlainCells:
    """Texts as Python has them."""

    def __init__(self, texts: Sequence[str], reading: Reading) -> None:
        self._texts, self._reading = texts, reading

    def __len__(self) -> int:
        return len(self._texts)

    def numbers(self) -> Floats | None:
        """See Cells."""
        return parsed(self._texts, self._reading)

    def texts(self) -> tuple[Codes, list[str]]:
        """See Cells."""
        place: dict[str, int] = {}
        codes = np.array([place.setdefault(text, len(place)) for text in self._texts], np.int64)
        return merged(codes, list(place), self._reading)

    def text(self, i: int) -> str:
        """See Cells."""
        return self._texts[i]


class NumberCells:
    """Numbers that were stored as numbers, (n,) float64; NaN and the reading's own numbers for it are missing."""

    def __init__(self, values: Floats, reading: Reading) -> None:
        if reading.missing_numbers:
            values = np.where(np.isin(values, reading.missing_numbers), np.nan, values)
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def numbers(self) -> Floats | None:
        """See Cells."""
        return self._values

    def texts(self) -> tuple[Codes, list[str]]:
        """See Cells; whole numbers without a point."""
        codes, there = np.full(len(self._values), -1, np.int64), ~np.isnan(self._values)
        distinct, codes[there] = np.unique(self._values[there], return_inverse=True)
        return codes, [number_text(value) for value in distinct.tolist()]

    def text(self, i: int) -> str:
        """See Cells."""
        return number_text(float(self._values[i]))


def parsed(texts: Sequence[str | None], reading: Reading) -> Floats | None:
    """The numbers that *texts* are, NaN where missing (None too); None where one is no number."""
    found = np.full(len(texts), np.nan)
    for i, text in enumerate(texts):
        if text is None or reading.is_missing(text):
            continue
        value = reading.number(text)
        if value is None:
            return None
        found[i] = value
    return found


def merged(codes: Codes, distinct: Sequence[str], reading: Reading) -> tuple[Codes, list[str]]:
    """*codes* of texts without surrounding space: those for "missing" become -1, equal ones one."""
    place: dict[str, int] = {}
    to = np.full(len(distinct) + 1, -1, np.int64)  # the last one is what -1 becomes
    for i, text in enumerate(distinct):
        if not reading.is_missing(text):
            to[i] = place.setdefault(text.strip(), len(place))
    return to[codes], list(place)
