"""
What a reply may hold beside plain arrays: tables, and truth values that may be unknown; and all of it as flat arrays.

In a reply, NaN is "there is none"; a masked truth value as well. Knows no wire format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.codec.rows import Array

UNKNOWN = -1
"""A truth value that is not known, among 0 and 1."""


@dataclass(frozen=True)
class Records:
    """
    A table: *columns* with common first axes, one record for each of their elements.

    *absent*: the rows (of the first axis) that have no records. *lists*: columns that records show as one list, null
    where they hold NaN. *shown*: what records show instead of numbers, by column or by list, where these stand for
    something. *counts*: how many records each row has, the first ones; None: all.
    """

    columns: Mapping[str, Array]
    absent: frozenset[int] = frozenset()
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shown: Mapping[str, Array] = field(default_factory=dict)
    counts: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """The rows of the first axis."""
        return len(next(iter(self.columns.values())))

    def part(self, start: int, stop: int) -> Records:
        """The rows from *start* to *stop*."""
        columns, shown = (
            {name: array[start:stop] for name, array in arrays.items()} for arrays in (self.columns, self.shown)
        )
        absent = frozenset(row - start for row in self.absent if start <= row < stop)
        return Records(columns, absent, self.lists, shown, None if self.counts is None else self.counts[start:stop])

    def objects(self) -> list[Any]:
        """The records as nested lists of dictionaries, None for a row without."""
        columns = {name: self.shown.get(name, array).tolist() for name, array in self.columns.items()}
        for name, parts in self.lists.items():
            shown = self.shown.get(name)
            columns[name] = _joined([self.columns[part] for part in parts]) if shown is None else shown.tolist()
            for part in parts:
                del columns[part]
        depth = min(array.ndim for array in self.columns.values())
        rows = _zip(list(columns), list(columns.values()), depth)
        if self.counts is not None:
            rows = [row[:count] for row, count in zip(rows, self.counts.tolist(), strict=True)]
        return [None if row in self.absent else value for row, value in enumerate(rows)]


def flags(values: NDArray[np.bool_] | None, rows: list[int], among: int) -> NDArray[np.bool_]:
    """Truth values of some *rows* *among* so many: the others, or all where there are no *values*, are masked."""
    spread, unknown = np.zeros(among, np.bool_), np.ones(among, np.bool_)
    if values is not None:
        spread[rows], unknown[rows] = np.ma.getdata(values), np.ma.getmaskarray(values)
    return np.ma.MaskedArray(spread, unknown)


def flat(reply: Mapping[str, Any]) -> dict[str, Array]:
    """
    The fields of *reply* as arrays: members of a table by "table.column", truth values that may be unknown as int8.

    A field that is None has no array.
    """
    arrays: dict[str, Array] = {}
    for name, value in reply.items():
        if isinstance(value, (Records, Mapping)):
            columns = value.columns if isinstance(value, Records) else value
            arrays |= {f"{name}.{column}": array for column, array in flat(columns).items()}
        elif isinstance(value, np.ma.MaskedArray):
            arrays[name] = np.where(value.mask, UNKNOWN, value.data).astype(np.int8)
        elif value is not None:
            arrays[name] = np.asarray(value)
    return arrays


def _zip(names: list[str], columns: list[list[Any]], depth: int) -> list[Any]:
    if depth == 1:
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return [_zip(names, list(inner), depth - 1) for inner in zip(*columns, strict=True)]


def _joined(parts: list[Array]) -> list[Any]:
    """The elements of *parts* side by side, None where one of them is NaN."""
    stacked = np.stack(parts, axis=-1)
    absent = np.isnan(stacked).any(axis=-1)
    if not absent.any():
        return list(stacked.tolist())
    values: list[Any] = stacked.reshape(-1, len(parts)).tolist()
    for at in np.flatnonzero(absent).tolist():
        values[at] = None
    for size in reversed(absent.shape[1:]):
        values = [values[at : at + size] for at in range(0, len(values), size)]
    return values
