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

    *absent*: the rows (of the first axis) that have no records. *lists*: columns that records show as one list.
    """

    columns: Mapping[str, Array]
    absent: frozenset[int] = frozenset()
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """The rows of the first axis."""
        return len(next(iter(self.columns.values())))

    def part(self, start: int, stop: int) -> Records:
        """The rows from *start* to *stop*."""
        absent = frozenset(row - start for row in self.absent if start <= row < stop)
        return Records({name: array[start:stop] for name, array in self.columns.items()}, absent, self.lists)

    def objects(self) -> list[Any]:
        """The records as nested lists of dictionaries, None for a row without."""
        columns = {name: array.tolist() for name, array in self.columns.items()}
        for name, parts in self.lists.items():
            columns[name] = np.stack([self.columns[part] for part in parts], axis=-1).tolist()
            for part in parts:
                del columns[part]
        depth = min(array.ndim for array in self.columns.values())
        rows = _zip(list(columns), list(columns.values()), depth)
        return [None if row in self.absent else value for row, value in enumerate(rows)]


def flags(values: NDArray[np.bool_] | None, rows: list[int], among: int) -> NDArray[np.bool_]:
    """Truth values of some *rows* *among* so many: the others, or all where there are no *values*, are masked."""
    spread, unknown = np.zeros(among, np.bool_), np.ones(among, np.bool_)
    if values is not None:
        spread[rows], unknown[rows] = values, False
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
