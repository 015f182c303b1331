"""
Counts of false alarms beside their law: how many splits lie inside the 90 % interval, and how many should.

Of m test rows, Beta-binomial(m, n + 1 - k, k) are flagged, where k is the rank of the threshold among n calibration
rows: if all n + m rows are exchangeable given the model, and no two scores are equal. Its central 90 % interval is of
whole numbers, so it is hit somewhat more often than nine times in ten: `Law.chance` is how often exactly.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from service import calibration
from training.evaluate import beta_binomial_interval

Floats = NDArray[np.float64]

ALPHAS = (0.01, 0.05)
FIRST = 200
SLACK = 0.04
"""By how much the share of the first 200 splits that lie inside may differ from the chance of it."""


@dataclass(frozen=True)
class Law:
    """Of the number of flagged rows: its 90 % interval, the chance to be inside, mean and variance."""

    low: int
    high: int
    chance: float
    mean: float
    variance: float


@functools.lru_cache(maxsize=4096)
def law(n: int, m: int, alpha: float) -> Law:
    """Of *m* test rows, given *n* calibration rows, at *alpha*."""
    k = calibration.rank(n, alpha)
    low, high = beta_binomial_interval(m, n + 1 - k, k)
    counts = betabinom(m, n + 1 - k, k)
    chance = float(counts.cdf(high) - counts.cdf(low - 1))
    return Law(low, high, chance, float(counts.mean()), float(counts.var()))


@dataclass
class Tally:
    """What was counted over *splits*; *first*: those inside of the first; the last three: sums of what the law says."""

    splits: int = 0
    inside: int = 0
    first: int = 0
    rows: int = 0
    flagged: int = 0
    chance: float = 0.0
    mean: float = 0.0
    variance: float = 0.0

    def add(self, flagged: int, n: int, m: int, alpha: float) -> None:
        """One split: *flagged* of *m* rows, given *n* calibration rows."""
        expected = law(n, m, alpha)
        inside = expected.low <= flagged <= expected.high
        self.first += inside and self.splits < FIRST
        self.splits += 1
        self.inside += inside
        self.rows += m
        self.flagged += flagged
        self.chance += expected.chance
        self.mean += expected.mean
        self.variance += expected.variance

    @property
    def deviation(self) -> float:
        """By how many standard deviations more rows were flagged than the law says, over all splits."""
        return (self.flagged - self.mean) / math.sqrt(self.variance)

    @property
    def share(self) -> float:
        """Of the first 200 splits, those inside."""
        return self.first / min(FIRST, self.splits)

    @property
    def held(self) -> bool:
        """Whether the share of the first 200 splits is near the chance of it."""
        return abs(self.share - self.chance / self.splits) <= SLACK

    def as_json(self) -> dict[str, Any]:
        """To be kept."""
        return asdict(self)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Tally:
        """What was kept."""
        return cls(**kept)


def count(calibration_scores: Floats, test_scores: Floats, alpha: float) -> int:
    """
    How many of the test scores the service flags at *alpha*: by threshold, and by p-value, which must agree.

    Both (n,) and (m,), in any order.
    """
    ordered = np.sort(calibration_scores)
    limit = calibration.threshold(ordered, alpha)
    flagged = 0 if limit is None else int((test_scores > limit).sum())
    by_p = int((calibration.p_values(ordered, test_scores) <= alpha).sum())
    if flagged != by_p:
        raise AssertionError(f"{flagged} rows are above the threshold at {alpha}, and {by_p} have such a p-value")
    return flagged


def partitions(
    inside: Floats, outside: Floats, n: int, m: int, splits: int, generator: np.random.Generator
) -> dict[float, Tally]:
    """
    Random partitions of one pool of scored rows into *n* for calibration and *m* to test, by alpha.

    *inside*, *outside*: the scores of each row of the pool, (N,), as a calibration row and as a test row; the same
    array where nothing is hidden from it. Partitions of one pool share rows, and their counts are independent all the
    same: whatever the pool is, each has the law above, since only ranks matter and every order is as likely.
    """
    if n + m > len(inside):
        raise ValueError(f"{n} and {m} rows of {len(inside)}")
    tallies = {alpha: Tally() for alpha in ALPHAS}
    for _ in range(splits):
        order = generator.permutation(len(inside))
        one, other = inside[order[:n]], outside[order[n : n + m]]
        for alpha, tally in tallies.items():
            tally.add(count(one, other, alpha), n, m, alpha)
    return tallies
