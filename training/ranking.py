"""
How well scores rank: AUROC, the standard error of a difference of two, rank correlation.

Pure functions of scores, "higher = more anomalous".
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def auroc(normal: Floats, anomalies: Floats) -> float:
    """P(anomaly > normal) + P(equal) / 2, from the ranks (Mann & Whitney 1947)."""
    return float(placements(normal, anomalies).mean())


def placements(normal: Floats, anomalies: Floats) -> Floats:
    """For each anomaly, the share of normal rows that score below it, equal ones counting half: (m,)."""
    ordered = np.sort(normal)
    below = np.searchsorted(ordered, anomalies, side="left") + np.searchsorted(ordered, anomalies, side="right")
    share: Floats = below / 2 / len(normal)
    return share


def auroc_difference(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> tuple[float, float]:
    """
    The AUROC of *one* less that of *other*, and the standard error of that; each is (normal, anomalies).

    Both have scored the same rows, so their errors are paired (DeLong et al. 1988). One row on a side: error 0 there.
    """
    by_anomaly = placements(*one) - placements(*other)
    by_normal = placements(-one[1], -one[0]) - placements(-other[1], -other[0])
    variance = sum(float(part.var(ddof=1)) / len(part) for part in (by_anomaly, by_normal) if len(part) > 1)
    return float(by_anomaly.mean()), math.sqrt(variance)


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's rho of two scores of the same rows; NaN where one of them is constant."""
    ranks = [_ranks(values) for values in (a, b)]
    if len(a) < 2 or any(np.ptp(values) == 0 for values in ranks):
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Floats) -> Floats:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    first = np.cumsum(count) - count
    ranks: Floats = (first + (count - 1) / 2)[place]
    return ranks
