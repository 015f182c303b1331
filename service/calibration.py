"""
Conformal calibration: p-values, thresholds, and how sure a threshold is of its false-alarm rate.

Works on the sorted scores of n rows that neither the fit nor early stopping saw. Knows nothing of models.
Vovk et al. 2005, ch. 2; Bates et al. 2023, "Testing for outliers with conformal p-values", section 2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UNKNOWN: Final = float(np.finfo(np.float32).max)
"""In a feature's grid: as high as no score is, where too few values were observed to say more."""

_GRID_ROWS = 1000


def p_values(calibration: Floats, scores: Floats) -> Floats:
    """
    (1 + #{calibration >= s}) / (n + 1) for each score s: (B,), between 1/(n+1) and 1.

    *calibration*: (n,), ascending.
    """
    below = np.searchsorted(calibration, scores, side="left")
    return (1 + len(calibration) - below) / (len(calibration) + 1)


def cross_p_values(folds: Sequence[Floats], scores: Floats) -> Floats:
    """
    (1 + sum_m #{calibration of fold m >= s_m}) / (n + 1) for rows that member m scores s_m: (M, B) -> (B,).

    Cross-conformal (Vovk 2015, eq. 2): each fold is ranked by the member that has not seen it. On average over data
    sets about as many normal rows have p <= alpha as with calibration rows set apart; what is proven is at most twice
    as many and sqrt(2 / n) (Barber et al. 2021, theorem 4). *folds*: M ascending arrays, of n scores together.
    """
    n = sum(map(len, folds))
    above = sum(len(fold) - np.searchsorted(fold, own, side="left") for fold, own in zip(folds, scores, strict=True))
    return np.asarray((1 + above) / (n + 1), np.float64)


def mask_bins(shares: Floats, ends: Floats) -> NDArray[np.int64]:
    """
    The bin of each row by its share of missing values, among those that may be missing: (B,) -> (B,).

    0 where none is missing; i where the share is in (ends[i - 2], ends[i - 1]]. *ends*: ascending, the last is 1.
    """
    return np.where(shares > 0, 1 + np.searchsorted(ends, shares, side="left"), 0)


def lacking(index: int, ends: Sequence[float]) -> str:
    """The rows of the bin *index* of `mask_bins`, in words: "that miss 5 to 10 %"."""
    if not index:
        return "that miss nothing"
    low, high = (100 * share for share in (0, *ends)[index - 1 : index + 1])
    return f"that miss {low:g} to {high:g} %" if low else f"that miss up to {high:g} %"


def completed(scores: Floats, mask: NDArray[np.bool_], absent: Floats) -> Floats:
    """
    Scores as if nothing were missing: each plus what its missing features add to that of a normal row: (B,) -> (B,).

    Without it, rows that lack different features would be ranked by which they lack: a density is in nats of the
    original units. *mask*: (B, C), true where observed. *absent*: (C,), the array of `Calibrated.absent_key`.
    """
    whole: Floats = scores + (~mask).astype(np.float64) @ absent
    return whole


def rows_needed(alpha: float) -> int:
    """The least n with which a row can have p <= alpha: 1/(n+1) <= alpha. Requires alpha >= MIN_ALPHA."""
    n = math.ceil(1 / alpha) - 1
    # 1 / alpha is rounded; the comparison that decides is the one that p_values make
    if n > 1 and 1 / n <= alpha:
        return n - 1
    return n if 1 / (n + 1) <= alpha else n + 1


def rank(n: int, alpha: float) -> int:
    """
    k: the k-th smallest of n calibration scores is the threshold at *alpha*; n + 1 when n is too small.

    ceil((n+1)(1-alpha)), so that s > threshold exactly where p <= alpha, as floats compare.
    """
    rare = math.floor((n + 1) * alpha)  # how many of the p-values 1/(n+1), 2/(n+1) ... are at most alpha
    if (rare + 1) / (n + 1) <= alpha:
        rare += 1
    elif rare / (n + 1) > alpha:
        rare -= 1
    return n + 1 - rare


def threshold(calibration: Floats, alpha: float) -> float | None:
    """
    The score above which a row is anomalous at *alpha*; None when the calibration rows are too few.

    *calibration*: (n,), ascending. Marginal false-alarm rate at most alpha.
    """
    k = rank(len(calibration), alpha)
    return float(calibration[k - 1]) if k <= len(calibration) else None


@functools.lru_cache(maxsize=4096)  # an alpha has one for each group and bin of missing values
def false_alarm_rate(n: int, alpha: float) -> tuple[float, float]:
    """
    The central 90 % interval of the real false-alarm rate, given the n calibration rows that happened to be drawn.

    The rate is Beta(n + 1 - k, k) for continuous scores (Vovk 2012, proposition 2a); with ties it is lower.
    Requires n >= rows_needed(alpha).
    """
    k = rank(n, alpha)
    if k > n:
        raise ValueError(f"alpha {alpha} needs {rows_needed(alpha)} calibration rows; there are {n}")
    return _beta_quantile(0.05, n + 1 - k, k), _beta_quantile(0.95, n + 1 - k, k)


def feature_grid(
    feature_scores: NDArray[np.generic], most: int = _GRID_ROWS
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """
    The calibration scores by feature, thinned for storage: (n, C) -> ascending (M, C) and their ranks (M,).

    M is at most *most*, which is at least 2. Rank r means "r of the n scores are at most this". The largest is kept.
    """
    n = len(feature_scores)
    ranks = np.unique(np.linspace(1, n, min(n, most)).round().astype(np.int64))
    return np.sort(np.asarray(feature_scores, np.float32), axis=0)[ranks - 1], ranks


def feature_p_values(
    grid: NDArray[np.float32], ranks: NDArray[np.int64], n: int, scores: NDArray[np.generic]
) -> Floats:
    """
    Each feature's own p-value among the n calibration rows: (B, C) -> (B, C).

    From the grid of `feature_grid`; where that was thinned, p is rounded up, never down.
    """
    p = np.empty(scores.shape, np.float64)
    below = np.concatenate([[0], ranks])
    for c in range(scores.shape[1]):
        p[:, c] = (1 + n - below[np.searchsorted(grid[:, c], scores[:, c], side="left")]) / (n + 1)
    return p


def feature_medians(grid: NDArray[np.float32], ranks: NDArray[np.int64], n: int) -> Floats:
    """
    The median of each feature's scores among the n calibration rows: (C,); NaN where next to none had the feature.

    From the grid of `feature_grid`; where that was thinned, the next that was kept.
    """
    medians = np.asarray(grid[np.searchsorted(ranks, (n + 1) // 2)], np.float64)
    return np.where(medians < UNKNOWN, medians, np.nan)


def _beta_quantile(q: float, a: int, b: int) -> float:
    """
    The q-quantile of Beta(a, b) for whole a and b and 0.04 < q < 0.96, by Newton's method between two bounds.

    I_x(a, b), the distribution function, is P(Binomial(n, x) >= a) with n = a + b - 1. Of its terms those are summed
    that are more than exp(-40).
    """
    if a > b:  # as many terms as the smaller of the two
        return 1 - _beta_quantile(1 - q, b, a)
    n, mean = a + b - 1, a / (a + b)
    spread = math.sqrt(a * b / (a + b + 1)) / (a + b)
    low, high = max(0.0, mean - 5 * spread), min(1.0, mean + 5 * spread)  # Cantelli: each tail has at most 1/26
    first = max(0, math.floor(n * low - math.sqrt(80 * n * high)))  # Chernoff: P(Bin <= m - t) <= exp(-t^2 / 2m)
    j = np.arange(first, a)
    of_first = math.lgamma(n + 1) - math.lgamma(first + 1) - math.lgamma(n - first + 1)
    log_choose = of_first + np.append(0.0, np.cumsum(np.log((n - j[:-1]) / (j[:-1] + 1))))
    x = mean
    for _ in range(60):
        log_terms = log_choose + j * math.log(x) + (n - j) * math.log1p(-x)
        below = 1 - float(np.exp(log_terms).sum())
        low, high = (x, high) if below < q else (low, x)
        density = (n - a + 1) / (1 - x) * math.exp(log_terms[-1])  # n C(n-1, a-1) x^(a-1) (1-x)^(b-1)
        nearer = x - (below - q) / density if density else low
        if abs(nearer - x) <= 1e-15:
            break
        x = nearer if low < nearer < high else (low + high) / 2
    return x
