"""
The rows of a request that are flagged together, so that few of those flagged are normal: the false-discovery rate.

Benjamini & Hochberg 1995. Conformal p-values that share their calibration rows are positively dependent, for which the
procedure holds (Bates et al. 2023, theorem 2): of the flagged rows a share of at most q is normal, on average over
requests and calibration rows. That theorem is of one list of calibration scores: for rows in several bins of missing
values, and for cross-conformal p-values, it is not proven. Knows p-values; nothing of models. m rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_DIGITS = 15  # after the point: p-values are fractions, and in floats 7/172 * (43/35) is more than 0.05


@dataclass(frozen=True)
class Discoveries:
    """
    What is flagged among m rows: (m,) each.

    *least*: how many of them, as rare as can be, it takes until any is flagged; None where all m together are too few.
    """

    adjusted: Floats
    flagged: NDArray[np.bool_]
    least: int | None


def discover(p_values: Floats, smallest: Floats, fdr: float) -> Discoveries:
    """The rows to flag at *fdr*. *smallest*: what p could be at least, 1/(n+1) of each row's calibration rows."""
    found = adjusted(p_values)
    enough = np.flatnonzero(_terms(np.sort(smallest)) <= fdr)
    return Discoveries(found, found <= fdr, int(enough[0]) + 1 if len(enough) else None)


def adjusted(p_values: Floats) -> Floats:
    """
    The least false-discovery rate at which each row is flagged: (m,) -> (m,), at most 1.

    Of the i-th smallest p-value: min over j >= i of p_(j) m / j.
    """
    order = np.argsort(p_values, kind="stable")
    found = np.empty(len(p_values), np.float64)
    found[order] = np.minimum(1.0, np.minimum.accumulate(_terms(p_values[order])[::-1])[::-1])
    return found


def _terms(ascending: Floats) -> Floats:
    """p_(i) m / i of *ascending* p-values."""
    m = len(ascending)
    terms: Floats = (ascending * (m / np.arange(1, m + 1))).round(_DIGITS)
    return terms
