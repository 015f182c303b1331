"""Which rows are calibrated by themselves: the column that says it, and what its groups are called."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.calibrated import Groups
from service.inputs import Inputs
from training.errors import DataError
from training.support import levels_of_column

MOST_GROUPS: Final = 32
"""Each has scores of its own for every kind, K and mask bin; with more, few have rows enough."""

_NAMED = ("categorical", "ordinal", "binary")
_WHOLE = ("integer", "count")


def groups_by(column: str | None, inputs: Inputs, x: NDArray[np.generic], known: Groups | None = None) -> Groups | None:
    """
    The groups of rows of *inputs* by *column*, a group a value; None: no groups. How many rows each has is not counted.

    Of whole numbers the values are those of *x*, (n, C), and of *known*, the groups that there were. Raises DataError
    where *column* is no column, or none that makes groups.
    """
    if not column:
        return None
    found = next((one for one in inputs.columns or () if one.name == column), None)
    if found is None:
        told = f"there is no such column; there are {', '.join(inputs.names[:20])}" if inputs.columns else "no table"
        raise DataError(f"--groups {column}: {told}")
    if found.kind in _WHOLE:
        return _whole(column, np.asarray(x[:, inputs.names.index(column)], np.float64), known)
    if found.kind not in _NAMED:
        able = ", ".join((*_NAMED, *_WHOLE))
        told = f"--groups {column}: the column is {found.kind}; groups are by one that is {able}"
        values = np.asarray(x[:, inputs.names.index(column)], np.float64)
        if (values[~np.isnan(values)] % 1 == 0).all():
            told += "; it has whole numbers alone: a schema can make it one of these (vae-train schema)"
        raise DataError(told)
    levels = levels_of_column(found)
    _check(column, levels)
    names = list(found.vocabulary or ("0", "1"))
    if levels > len(names):
        other = "other"
        while other in names:
            other = f"({other})"
        names.append(other)
    return Groups(column=column, names=tuple(f"{column}={name}" for name in names))


def _whole(column: str, values: NDArray[np.float64], known: Groups | None) -> Groups:
    there = set(values[~np.isnan(values)].astype(np.int64).tolist())
    if known is not None and known.values is not None:
        there.update(known.values)
    _check(column, len(there))
    if not there:
        raise DataError(f"--groups {column}: no row has a value")
    ordered = tuple(sorted(there))
    return Groups(column=column, names=tuple(f"{column}={value}" for value in ordered), values=ordered)


def _check(column: str, levels: int) -> None:
    if levels > MOST_GROUPS:
        raise DataError(f"--groups {column}: {levels} values; at most {MOST_GROUPS} can be groups")
