"""
Who sees which row: a seeded split into training, validation, calibration and test rows.

Calibration rows are seen by nothing but calibration: only then do false-alarm rates hold. Knows only counts.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import counted
from training.errors import DataError

Rows = NDArray[np.int64]

MIN_ROWS = 20
CALIBRATION = 0.15
MOST_HELD_OUT = 20000

_FOLDS, _MEMBER = 16, 17  # streams of the seed; `split_rows` has 1


@dataclass(frozen=True)
class Fractions:
    """Shares of the rows; what is left of 1 is trained on. *test* does not count where a test split is given."""

    validation: float = 0.1
    calibration: float = CALIBRATION
    test: float = 0.15

    def __post_init__(self) -> None:
        for name, share in asdict(self).items():
            if not 0 <= share < 1 or (share == 0 and name == "validation"):
                raise DataError(f"the {name} fraction must be between 0 and 1; it is {share:g}")
        if sum(asdict(self).values()) >= 1:
            raise DataError("the validation, calibration and test fractions leave nothing to train on")


@dataclass(frozen=True)
class Split:
    """Row numbers by part: ascending, disjoint, together all rows."""

    train: Rows
    validation: Rows
    calibration: Rows
    test: Rows


def seed_of_fold(seed: int, fold: int) -> int:
    """The seed of the fit of a fold; that of the first is *seed*. No two seeds that people take have one in common."""
    return (seed + fold * 2**40) % 2**63


def split_folds(rows: int, fractions: Fractions, folds: int, seed: int, test_given: bool = False) -> tuple[Split, ...]:
    """
    Deal *rows* out once for each member of an ensemble: all rows but the test rows are calibration rows of one of them.

    Of the rows that are not its calibration rows each member validates on as many as `split_rows` would give it, and
    trains on the others. The test rows are those of `split_rows`. *fractions.calibration* has no say. Raises DataError
    for fewer than 20 rows, and where a fold would have fewer than two or leave nothing to train on.
    """
    whole = split_rows(rows, Fractions(fractions.validation, 0.0, fractions.test), seed, test_given)
    rest = np.setdiff1d(np.arange(rows), whole.test)
    dealt = np.array_split(np.random.default_rng([seed, _FOLDS]).permutation(rest), folds)
    here, left = counted(len(rest), "row"), len(rest) - len(dealt[0])
    if len(dealt[-1]) < 2:
        raise DataError(f"--folds {folds}: {here} that are not test rows make at most {len(rest) // 2} folds of two")
    if left <= len(whole.validation):
        kept = counted(len(whole.validation), "validation row")
        raise DataError(f"--folds {folds}: of {here} each fit has {left}, no more than the {kept}")
    found = []
    for m, fold in enumerate(dealt):
        others = np.random.default_rng([seed, _MEMBER, m]).permutation(np.setdiff1d(rest, fold))
        validation, train = np.split(others, [len(whole.validation)])
        found.append(Split(np.sort(train), np.sort(validation), np.sort(fold), whole.test))
    return tuple(found)


def split_rows(rows: int, fractions: Fractions, seed: int, test_given: bool = False) -> Split:
    """
    Deal *rows* out by *seed*. No held-out part gets more than 20,000 rows: more would not make it any surer.

    Raises DataError for fewer than 20 rows.
    """
    if rows < MIN_ROWS:
        raise DataError(
            f"{counted(rows, 'normal row')}; at least {MIN_ROWS} are needed to train, validate, calibrate and test"
        )
    whole = 1 - fractions.test if test_given else 1.0
    shares = (fractions.validation, fractions.calibration, 0.0 if test_given else fractions.test)
    sizes = [min(MOST_HELD_OUT, math.ceil(rows * share / whole)) for share in shares]
    if sum(sizes) >= rows:
        raise DataError(f"{counted(rows, 'row')}: too few for these fractions, nothing is left to train on")
    order = np.random.default_rng([seed, 1]).permutation(rows)
    ends = np.cumsum(sizes)
    parts = [np.sort(part) for part in np.split(order, ends)]
    return Split(train=parts[3], validation=parts[0], calibration=parts[1], test=parts[2])
