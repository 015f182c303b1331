"""
The values that a feature may have: those of its likelihood's support, and those that its column has at all.

Knows arrays of numbers, and columns; nothing of requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.codec.columns import levels
from service.inputs import MOST_COUNT, Column

Array = NDArray[np.generic]

WHOLE = ("binary", "integer", "count", "index")
"""Kinds of supports that have whole numbers alone."""


@dataclass(frozen=True)
class Support:
    """The values that feature *index* may have: what they are (*kind*), from *low* to *high*."""

    index: int
    name: str
    kind: str
    low: float
    high: float


class Outside(NamedTuple):
    """The first row with a value outside a support: the value, and whether the support has whole numbers alone."""

    row: int
    support: Support
    value: float
    whole: bool


class Supports:
    """Several supports, as arrays."""

    def __init__(self, supports: Sequence[Support]) -> None:
        self._supports = supports
        self._index = np.array([support.index for support in supports], np.intp)
        self._low = np.array([support.low for support in supports])
        self._high = np.array([support.high for support in supports])
        self._whole = np.array([support.kind in WHOLE for support in supports], np.bool_)

    def outside(self, rows: Array) -> Outside | None:
        """The first value outside, by rows; None where there is none. What is missing is inside."""
        values = rows.reshape(len(rows), -1)[:, self._index].astype(np.float64)
        bad = (values < self._low) | (values > self._high) | (self._whole & (values != np.floor(values)))
        if bad.any():
            bad &= ~np.isnan(values)
        if not bad.any():
            return None
        row, at = (int(i) for i in np.argwhere(bad)[0])
        return Outside(row, self._supports[at], float(values[row, at]), bool(self._whole[at]))


def domain(index: int, column: Column) -> Support | None:
    """What the numbers of a column are, where they are not just numbers."""
    if (count := levels(column)) is not None:
        kind = "index" if column.vocabulary is not None else "binary"
        return Support(index, column.name, kind, 0.0, count - 1.0)
    if column.kind not in ("integer", "count"):
        return None
    low = 0.0 if column.kind == "count" else -float(MOST_COUNT)
    return Support(index, column.name, column.kind, low, float(MOST_COUNT))
