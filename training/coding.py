"""
The rows of a table as the numbers that the model takes: float64, one a column, by a schema.

A number as it is; a text as its place in the vocabulary, one beyond it for "another one"; false and true as 0 and 1; an
instant as seconds since 1970-01-01 UTC; NaN where missing. The one place where data files are held against a schema:
every refusal names the file, the line or row, the column and the reason. n rows, C columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.inputs import Column
from training.cells import Cells, Floats, Reading, instant, number_text
from training.errors import DataError
from training.schema import Schema
from training.table_file import TableFile

Flags = NDArray[np.bool_]

_TRUTHS: Final = {"false": 0.0, "true": 1.0}
_SHOWN: Final = 8  # words of a vocabulary in a message
_PIECE_ROWS: Final = 2**14


class _Wrong(Exception):
    """The value in row *i* of a block cannot be coded."""

    def __init__(self, i: int, reason: str) -> None:
        super().__init__(reason)
        self.i = i


def coded(file: TableFile, schema: Schema, reading: Reading) -> tuple[Floats, Floats | None]:
    """
    The normal rows of *file* by *schema*, (n, C) float64, and the others like them, where the schema's label shows any.

    Raises DataError.
    """
    x, flags = read(file, schema, reading)
    return (x, None) if flags is None else _apart(file, x, flags, schema.label)


def read(file: TableFile, schema: Schema, reading: Reading) -> tuple[Floats, Flags | None]:
    """
    The rows of *file* by *schema*, (n, C) float64, and which are anomalies, (n,), where the schema has a label.

    They are put into one array as they are read: it and one block are all that is in memory. Raises DataError.
    """
    _require_columns(file, schema)
    names = [column.name for column in schema.columns]
    wanted = names if schema.label is None else [*names, schema.label]
    x, flags, count = np.empty((file.rows or 0, len(names))), list[Flags](), 0
    for first, block in file.blocks(wanted):
        count, name = first + len(block[names[0]]), ""
        if count > len(x):
            x.resize((count + count // 8, len(names)), refcheck=False)  # grows in place: it is moved, not copied
        try:
            if schema.label is not None:
                name = schema.label
                flags.append(_flags(block[name], reading))
            for c, column in enumerate(schema.columns):
                name = column.name
                x[first:count, c] = _values(column, block[name], name in file.instants, reading, schema.source)
        except _Wrong as error:
            where = file.where(first + error.i)
            raise DataError(f"{file.name}: {where}, column {name!r}: {error}") from None
    x.resize((count, len(names)), refcheck=False)
    return x, np.concatenate(flags) if flags else None


def _apart(file: TableFile, x: Floats, flags: Flags, label: str | None) -> tuple[Floats, Floats | None]:
    """The rows without a flag, in the memory of *x*, where they move up a piece at a time, and a copy of the others."""
    if flags.all():
        raise DataError(
            f"{file.name}: column {label!r} says that every row is an anomaly; there is nothing to learn from"
        )
    anomalies, kept = x[flags], np.flatnonzero(~flags)
    for start in range(0, len(kept), _PIECE_ROWS):
        rows = kept[start : start + _PIECE_ROWS]
        x[start : start + len(rows)] = x[rows]
    x.resize((len(kept), x.shape[1]), refcheck=False)
    return x, anomalies if len(anomalies) else None


def unread(kind: str) -> str:
    """Why a column of Parquet's type *kind* is refused, and what helps."""
    wanted = "neither numbers, texts, truth values nor dates"
    return f"its type, {kind}, is {wanted}: leave it out with use = false in a schema"


def _require_columns(file: TableFile, schema: Schema) -> None:
    """Raise DataError, by name, unless *file* has the columns of *schema*, and no others."""
    have = f"which {schema.source} {'takes' if schema.fitted else 'has'}"
    used = [column.name for column in schema.columns]
    for name in used if schema.fitted else [*used, *schema.ignored]:
        if name not in file.names:
            raise DataError(f"{file.name}: no column {name!r}, {have}")
    if schema.label is not None and schema.label not in file.names:
        raise DataError(f"{file.name}: no column {schema.label!r}, which is to be the label")
    known = {*used, *schema.ignored, schema.label}
    for name in file.names:
        if name not in known:
            hint = "" if schema.fitted else "; with use = false there it is left out"
            raise DataError(f"{file.name}: {schema.source} has no column {name!r}{hint}")
    for name in used:
        if name in file.unread:
            raise DataError(f"{file.name}: column {name!r}: {unread(file.unread[name])}")


def _values(column: Column, cells: Cells, instants: bool, reading: Reading, source: str) -> Floats:
    """The values of one column, (n,), NaN where missing. Raises _Wrong."""
    if column.vocabulary is not None:
        values = _places(cells, column.vocabulary, column.unknown, reading)
    elif column.kind == "binary":
        values = _by_text(cells, lambda text: _truth(text, reading), "is neither 0 nor 1")
    elif column.time == "iso8601" and not instants:
        values = _by_text(cells, instant, "is not an ISO 8601 date")
    else:
        values = _numbers(cells, reading)
    if column.kind == "integer":
        _require(cells, np.isnan(values) | (values == np.rint(values)), "is not a whole number")
    if column.kind == "count":
        _require(
            cells, np.isnan(values) | ((values >= 0) & (values == np.rint(values))), "is not a whole number from 0"
        )
    if not column.missing:
        there = ~np.isnan(values)
        if not there.all():
            raise _Wrong(int(np.argmin(there)), f"the value is missing, which {source} does not allow")
    return values


def _numbers(cells: Cells, reading: Reading) -> Floats:
    values = cells.numbers()
    if values is None:
        texts = (cells.text(i) for i in range(len(cells)))
        for i, text in enumerate(texts):
            if not reading.is_missing(text) and reading.number(text) is None:
                raise _Wrong(i, f"{text!r} is not a number")
        raise AssertionError("numbers() found a text that is not there. This is a bug.")
    _require(cells, ~np.isinf(values), "is not a finite number")
    return values


def _by_text(cells: Cells, value_of: Callable[[str], float | None], reason: str) -> Floats:
    """Each distinct text's value; None is refused for *reason*."""
    codes, distinct = cells.texts()
    found = [value_of(text) for text in distinct]
    values = np.array([*(np.nan if value is None else value for value in found), np.nan])  # the last one: missing
    wrong = np.array([*(value is None for value in found), False])
    _require(cells, ~wrong[codes], reason)
    placed: Floats = values[codes]
    return placed


def _places(cells: Cells, vocabulary: tuple[str, ...], unknown: str, reading: Reading) -> Floats:
    """Places in the vocabulary; a number that is written in another way, 1.0 for 1, is the same category."""
    place: dict[str, float] = {word: i for i, word in enumerate(vocabulary)}
    other = float(len(vocabulary)) if unknown == "other" else None

    def value_of(text: str) -> float | None:
        if text in place:
            return place[text]
        number = reading.number(text)
        return other if number is None or not np.isfinite(number) else place.get(number_text(number), other)

    shown = ", ".join(map(repr, vocabulary[:_SHOWN])) + (", ..." if len(vocabulary) > _SHOWN else "")
    return _by_text(cells, value_of, f"is not in the vocabulary: {shown}")


def _truth(text: str, reading: Reading) -> float | None:
    found = _TRUTHS.get(text.lower(), reading.number(text))
    return found if found in (0, 1) else None


def _flags(cells: Cells, reading: Reading) -> Flags:
    """Which rows are anomalies: (n,)."""
    values = _by_text(cells, lambda text: _truth(text, reading), "is neither 0 (normal) nor 1 (anomaly)")
    there = ~np.isnan(values)
    if not there.all():
        raise _Wrong(int(np.argmin(there)), "the label is missing")
    flags: Flags = values == 1
    return flags


def _require(cells: Cells, right: Flags, reason: str) -> None:
    """Raise _Wrong for the first row that is not *right*."""
    if not right.all():
        i = int(np.argmin(right))
        raise _Wrong(i, f"{cells.text(i)!r} {reason}")
