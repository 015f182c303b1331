"""
The moments that data are standardised by, and the least sigma that their resolution allows.

Shared by the VAE and by the baselines that it is measured against. Knows arrays; no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.inputs import Inputs
from training.errors import DataError
from training.thinning import some_of

Array = NDArray[np.generic]

SIGMA_MIN: Final = 1e-3
"""The least sigma of a feature that a fit may be given, in its standard deviations."""

_CHUNK_VALUES = 2**22
_LEAST_SCALE = 1e-150  # its square is a float64 with all its digits


def moments(x: Array, inputs: Inputs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Center and scale of each feature, (C,) each: mean and standard deviation of the rows *x*.

    A column each for tables; one pair for all pixels of an image or values of an array, so that a pixel that never
    changes stays comparable to its neighbours. A constant column c gets the scale min(1, |c|), or 1 where c is 0:
    any other value is then far away. NaN, a missing value of a table, is left out; a column that is never there is 0.
    Raises DataError where a standard deviation is too large for a float64, or too small to be squared in one.
    """
    by_column = inputs.kind == "table"
    add = np.nansum if by_column else np.sum
    count = np.full(inputs.features, float(len(x) * inputs.features))
    if by_column:
        count = np.maximum(1, np.add.reduce([(~np.isnan(rows)).sum(axis=0) for rows in _chunks(x)]))
    with np.errstate(over="ignore", invalid="ignore"):
        first = _first(x)
        shift = first if by_column else np.full(inputs.features, first.mean())
        total = _total((add(rows - shift, axis=0) for rows in _chunks(x)), by_column)
        center = shift + total / count
        squares = _total((add(np.square(rows - center), axis=0) for rows in _chunks(x)), by_column)
        scale = np.sqrt(squares / count)
    for c in np.flatnonzero(~np.isfinite(scale) | ~np.isfinite(center)):
        raise DataError(f"{inputs.names[c]}: its values are too large to standardise")
    for c in np.flatnonzero((scale < _LEAST_SCALE) & (np.abs(center) < 1e12 * _LEAST_SCALE)):
        values = x[:, c] if by_column else x
        if np.fmin.reduce(values, axis=None) < np.fmax.reduce(values, axis=None):
            raise DataError(
                f"{inputs.names[c]}: its values differ by less than {_LEAST_SCALE:g}, which cannot be standardised: "
                "choose a smaller unit"
            )
    negligible = scale <= 1e-12 * np.abs(center)  # a constant, up to the rounding of its mean
    spare = np.minimum(1.0, np.where(center == 0, 1.0, np.abs(center)))
    return center, np.where(negligible, spare, scale)


def standardisation(x: Array, inputs: Inputs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Center and scale of each feature as the model has it, (C,) each: `moments` of what is numeric.

    The other columns of a table pass as they are, 0 and 1: an index, a count, a 0 or 1 mean what they are. Raises
    DataError, by name, also for a column of which every value is missing in *x*.
    """
    center, scale = moments(x, inputs)
    if inputs.columns is None:
        return center, scale
    there = np.logical_or.reduce([(~np.isnan(rows)).any(axis=0) for rows in _chunks(x)])
    for c in np.flatnonzero(~there):
        raise DataError(f"{inputs.names[c]}: every value is missing in the rows that are learned from")
    numeric = np.array([column.kind == "numeric" for column in inputs.columns])
    return np.where(numeric, center, 0.0), np.where(numeric, scale, 1.0)


def constant(x: Array) -> NDArray[np.bool_]:
    """
    Whether all rows that have a feature agree on it: (n, *shape) -> (C,); NaN is a missing value.

    Without an array as large as *x*.
    """
    parts = [rows.reshape(len(rows), -1) for rows in np.array_split(x, max(1, x.size // _CHUNK_VALUES))]
    least = np.fmin.reduce([np.fmin.reduce(rows, axis=0) for rows in parts])
    most = np.fmax.reduce([np.fmax.reduce(rows, axis=0) for rows in parts])
    same: NDArray[np.bool_] = ~(least < most)
    return same


def log_sigma_floor(
    x: Array, inputs: Inputs, scale: NDArray[np.float64], least: float = SIGMA_MIN
) -> NDArray[np.float64]:
    """
    The least log sigma of each feature, standardised: log max(*least*, gap / sqrt 12), (C,).

    *gap* is the smallest difference between two values of a column (of a table) or of any pixels (of an image).
    Values recorded to within *gap* are uncertain by gap / sqrt 12; without the floor a column of integers, or one
    with many zeros, has unbounded density and owns the score.
    """
    sample = _rows(some_of(x), slice(None))
    columns = sample.T if inputs.kind == "table" else sample.reshape(1, -1)
    gaps = np.array([_smallest_gap(column) for column in columns])
    floor: NDArray[np.float64] = np.log(np.maximum(least, gaps / math.sqrt(12) / scale))
    return floor


def _smallest_gap(values: NDArray[np.float64]) -> float:
    distinct = np.unique(values[~np.isnan(values)])
    return float(np.diff(distinct).min()) if len(distinct) > 1 else 0.0


def _rows(x: Array, part: slice) -> NDArray[np.float64]:
    return x[part].reshape(len(x[part]), -1).astype(np.float64)


def _first(x: Array) -> NDArray[np.float64]:
    """The first value of each feature that is there, 0 where there is none: (C,)."""
    rows = _rows(x, slice(0, 1000))
    there = ~np.isnan(rows)
    first: NDArray[np.float64] = np.where(there.any(axis=0), rows[there.argmax(axis=0), np.arange(rows.shape[1])], 0.0)
    return first


def _chunks(x: Array) -> Iterator[NDArray[np.float64]]:
    step = max(1, _CHUNK_VALUES // max(1, x[0].size))
    return (_rows(x, slice(start, start + step)) for start in range(0, len(x), step))


def _total(sums: Iterator[NDArray[np.float64]], by_column: bool) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.add.reduce(list(sums))
    return total if by_column else np.full_like(total, total.sum())
