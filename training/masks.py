"""
Missing values made on purpose: rows with as many of them as a mask-rate bin has, for calibration and evaluation.

NaN is a missing value. Knows arrays and columns; no models. n rows, C columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service import calibration
from service.inputs import Inputs

Array = NDArray[np.generic]
Counts = NDArray[np.int64]

MASK_BINS: Final = (*(0.05, 0.1, 0.15, 0.25), *(i / 20 for i in range(7, 17)), 0.9, 1.0)
"""
Upper ends of the bins of the share of missing values, where a bundle has any: see `Manifest.mask_bins`.

Scores spread by the root of what is observed, and rows may all lie at the end of a bin; so what is observed changes by
no more than a seventh within one, up to 70 %, where tables have rows.
"""

ENOUGH: Final = 500
"""So many rows that lie in a bin by themselves speak for it alone: what is missing is seldom missing at random."""

MOST_ROWS: Final = 40_000
"""Rows of all bins of rows with missing values; more would not make any much surer."""


def default_bins(inputs: Inputs, ends: Sequence[float] = MASK_BINS) -> tuple[float, ...]:
    """
    The bins of rows of *inputs*: none where no value may be missing, and those of *ends* that a row can be in.

    Of three columns one, two or all can be missing: there is no bin up to 0.1.
    """
    if not inputs.masked:
        return ()
    left = list(ends)
    while len(left) > 1 and (empty := [i for i in range(len(left)) if not len(counts(inputs, left, i + 1))]):
        del left[min(empty[0], len(left) - 2)]  # the last end is 1
    return tuple(left)


def bins_of(x: Array, inputs: Inputs, ends: Sequence[float]) -> Counts:
    """The mask-rate bin of each row: (n, *shape) -> (n,)."""
    if not inputs.masked:
        return np.zeros(len(x), np.int64)
    return calibration.mask_bins(np.isnan(x[:, list(inputs.may_be_missing)]).mean(axis=1), np.asarray(ends, np.float64))


def by_bin(x: Array, inputs: Inputs, ends: Sequence[float], stream: Sequence[int]) -> Iterator[tuple[int, Array]]:
    """
    Rows of every bin that has any, with its number: those of *x* that are in it, and others of which values are hidden.

    A row is in a bin once: as it is where its own share of missing values lies there, else with more of its values
    hidden, completely at random, so that the shares are spread evenly over the bin; rows with more missing than the
    bin has are not in it. Where `ENOUGH` rows are in a bin as they are, no others are. Of more than its part of
    `MOST_ROWS` some are drawn. *stream*: of the generator.
    """
    own, most = bins_of(x, inputs, ends), MOST_ROWS // max(1, len(ends))
    if (own == 0).any():
        yield 0, x[own == 0]
    for bin_ in range(1, len(ends) + 1):
        wanted = counts(inputs, ends, bin_)
        if not len(wanted):
            continue
        generator = np.random.default_rng([*stream, bin_])
        enough = (own == bin_).sum() >= ENOUGH
        fit = np.flatnonzero(own == bin_ if enough else own <= bin_)
        fit = np.sort(generator.choice(fit, most, replace=False)) if len(fit) > most else fit
        if len(rows := hide(x[fit], inputs, wanted, generator)):
            yield bin_, rows


def counts(inputs: Inputs, ends: Sequence[float], bin_: int) -> Counts:
    """How many values a row of a bin may lack: ascending; a row of which nothing is left is in none."""
    may = sum(inputs.may_be_missing)
    most = may - (may == inputs.features)
    every = np.arange(1, most + 1)
    fitting: Counts = every[calibration.mask_bins(every / may, np.asarray(ends, np.float64)) == bin_]
    return fitting


def hide(x: Array, inputs: Inputs, wanted: Counts, generator: np.random.Generator) -> Array:
    """
    Rows that lack as many values as one of *wanted* says: (n, C) -> (m, C).

    Those of *x* that do already are as they are; those that lack more than the last are left out.
    """
    may = np.flatnonzero(inputs.may_be_missing)
    missing = np.isnan(x[:, may])
    lacking = missing.sum(axis=1)
    fit = lacking <= wanted[-1]
    x, missing, lacking = x[fit], missing[fit], lacking[fit]
    first = np.searchsorted(wanted, lacking)  # the fewest of *wanted* that is not less than what is missing already
    target = np.where(lacking >= wanted[0], lacking, wanted[generator.integers(first, len(wanted))])
    order = np.where(missing, -1.0, generator.random(missing.shape)).argsort(axis=1).argsort(axis=1)
    hidden = x.astype(np.float64)
    hidden[:, may] = np.where(order < target[:, None], np.nan, hidden[:, may])
    return hidden
