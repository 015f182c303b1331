"""
Fewer rows in the place of all of them, where a statistic needs no more: drawn from all, in their order.

Files are often sorted, so the first rows would be like no others. Knows arrays.
"""

from __future__ import annotations

import math
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

_SOME_ROWS: Final = 20000
_SOME_VALUES: Final = 2**25
_BASELINE_VALUES: Final = 10_000_000


def thinned(x: NDArray[T], most: int, seed: int) -> NDArray[T]:
    """*x*, or *most* of its rows in their order, drawn by *seed*."""
    if len(x) <= most:
        return x
    return x[np.sort(np.random.default_rng([seed, 5]).choice(len(x), most, replace=False))]


def some_of(x: NDArray[T]) -> NDArray[T]:
    """20,000 rows of *x* or fewer, with 2^25 values or fewer: what units, biases and floors are taken from."""
    return thinned(x, min(_SOME_ROWS, max(1, _SOME_VALUES // max(1, math.prod(x.shape[1:])))), 0)


def most_rows(features: int) -> int:
    """How many training rows the baselines learn from, by the numbers that a row becomes."""
    return max(100, min(_SOME_ROWS, _BASELINE_VALUES // features))
