"""
Rows of a table as numbers alone, for methods that know nothing else: the baselines.

Numbers, ordinal and binary columns are what they are; counts are log(1 + n), as the VAE's encoder takes them; a column
of categories becomes one of 0 and 1 for each level, so scaled that it weighs as much as one of numbers: two rows are
on average as far apart in it, 2 in squares. All other data pass as they are. What is missing becomes the mean. Knows
arrays and columns; no methods. n rows, C columns, E numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.inputs import Inputs
from training.moments import SIGMA_MIN, log_sigma_floor, moments
from training.support import levels_of_column

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

MOST_LEVELS: Final = 32
"""Numbers that a column of categories becomes: where it has more levels, the last is of all but the most frequent."""


class Numbers:
    """
    How rows become numbers, learned from *train*, (n, *shape).

    *center*, *scale*: of each number, (E,). *floor*: the least standardised sigma that the resolution of the data
    allows, (E,). *names*: "column", or "column = level" by its number.
    """

    def __init__(self, train: Array, inputs: Inputs, sigma_floor: float = SIGMA_MIN) -> None:
        columns = inputs.columns or ()
        self._categories = [c for c, column in enumerate(columns) if column.kind == "categorical"]
        self._counts = [column.kind == "count" for c, column in enumerate(columns) if c not in self._categories]
        self._dense = [c for c in range(inputs.features) if c not in self._categories]
        self._missing = inputs.masked
        dense = self._numeric(train.reshape(len(train), -1))
        like = inputs
        if self._categories:
            named = tuple(columns[c] for c in self._dense)
            like = inputs.model_copy(update={"columns": named, "shape": (len(named),)})
        self.center, self.scale = moments(dense, like) if len(self._dense) else (np.zeros(0), np.ones(0))
        self.floor = np.exp(log_sigma_floor(dense, like, self.scale, sigma_floor)) if len(self._dense) else np.zeros(0)
        self._levels: list[NDArray[np.int64]] = []
        for c in self._categories:
            self._add(train[:, c].astype(np.float64), levels_of_column(columns[c]))

    def __call__(self, x: Array) -> Floats:
        """Standardised numbers: (n, *shape) -> (n, E); 0 where a value is missing."""
        flat = x.reshape(len(x), -1)
        parts = [self._numeric(flat).astype(np.float64)]
        parts += [
            _places(flat[:, c].astype(np.float64), own) for c, own in zip(self._categories, self._levels, strict=True)
        ]
        with np.errstate(over="ignore"):  # an infinity is clamped like any other distance
            u: Floats = (np.concatenate(parts, axis=1) - self.center) / self.scale
        return np.where(np.isnan(u), 0.0, u)

    def told(self) -> Iterator[str]:
        """In sentences: what the methods are given in the place of what they do not know."""
        if self._missing:
            yield "In the place of a missing value they are given the mean of its column."
        if self._categories:
            text = "A category is a column of 0 and 1 for each level, together weighing as much as a column of numbers"
            more = any(own[-1] < 0 for own in self._levels)
            yield text + (f"; beyond {MOST_LEVELS - 1} levels the rarest share one." if more else ".")
        if any(self._counts):
            yield "A count is log(1 + n)."

    def _numeric(self, flat: Array) -> Array:
        if not self._categories and not any(self._counts):
            return flat
        dense = flat[:, self._dense].astype(np.float64)
        counted = np.flatnonzero(self._counts)
        dense[:, counted] = np.log1p(np.maximum(dense[:, counted], 0))
        return dense

    def _add(self, values: Floats, levels: int) -> None:
        """The numbers of one more column of categories."""
        there = values[~np.isnan(values)]
        seen = np.bincount(there.astype(np.int64), minlength=levels)
        own = np.arange(levels)
        if levels > MOST_LEVELS:
            own = np.append(np.sort(np.argsort(-seen, kind="stable")[: MOST_LEVELS - 1]), -1)  # -1: all others
        share = np.nanmean(_places(there, own), axis=0)
        spread = float(1 - np.square(share).sum()) ** 0.5
        scale = np.full(len(own), spread if spread > 1e-6 else 1.0)
        self._levels.append(own)
        self.center, self.scale = np.append(self.center, share), np.append(self.scale, scale)
        self.floor = np.append(self.floor, 1 / (12**0.5 * scale))


def width(inputs: Inputs) -> int:
    """E: how many numbers a row becomes."""
    if inputs.columns is None:
        return inputs.features
    return sum(min(levels_of_column(c), MOST_LEVELS) if c.kind == "categorical" else 1 for c in inputs.columns)


def _places(values: Floats, levels: NDArray[np.int64]) -> Floats:
    """1 where a value is the level, -1 being all that are not among them: (n,), (V,) -> (n, V); NaN where missing."""
    found: Floats = (values[:, None] == levels).astype(np.float64)
    if levels[-1] < 0:
        found[:, -1] = 1 - found[:, :-1].sum(axis=1)
    found[np.isnan(values)] = np.nan
    return found
