"""The false-discovery rate: against scipy, by definition in whole numbers, and by simulation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from service.calibration import p_values
from service.discoveries import adjusted, discover

Floats = NDArray[np.float64]


@st.composite
def conformal(draw: st.DrawFn) -> tuple[int, list[int]]:
    """How many calibration rows, n, and for some rows r of p = r / (n + 1)."""
    n = draw(st.integers(1, 2000))
    return n, draw(st.lists(st.integers(1, min(n + 1, draw(st.integers(1, 2001)))), min_size=1, max_size=60))


def rare(n: int, ranks: list[int]) -> Floats:
    """The p-values as the calibration has them."""
    return np.array(ranks, np.float64) / (n + 1)


@given(conformal())
def test_adjusted_p_values_are_those_of_scipy(case: tuple[int, list[int]]) -> None:
    """`scipy.stats.false_discovery_control`, Benjamini and Hochberg's, in any order and with ties."""
    p = rare(*case)
    np.testing.assert_allclose(adjusted(p), stats.false_discovery_control(p, method="bh"), rtol=1e-12, atol=1e-15)


@example((171, [7] * 35 + [172] * 8), "0.05")
@given(conformal(), st.sampled_from(("0.001", "0.01", "0.05", "0.1", "0.2", "0.3", "0.7")))
def test_the_rows_flagged_are_those_of_the_step_up_procedure_exactly(case: tuple[int, list[int]], level: str) -> None:
    """
    The i smallest, for the largest i with p_(i) <= q i / m, in fractions: equality counts, as it often comes up.

    In floats 7/172 * (43/35), the first example, is more than 0.05.
    """
    n, ranks = case
    q, m = Fraction(level), len(ranks)
    most = max((i for i, r in enumerate(sorted(ranks), 1) if Fraction(r, n + 1) <= q * i / m), default=0)
    limit = sorted(ranks)[most - 1] if most else 0
    found = discover(rare(n, ranks), np.full(m, 1 / (n + 1)), float(level))
    assert found.flagged.tolist() == [r <= limit for r in ranks]
    assert np.array_equal(found.flagged, found.adjusted <= float(level))


@given(conformal())
def test_adjusting_keeps_the_order_and_never_makes_a_row_rarer(case: tuple[int, list[int]]) -> None:
    """Whatever the order of the rows; one row alone keeps its p-value."""
    p = rare(*case)
    found = adjusted(p)
    assert ((found >= p - 1e-15) & (found <= 1)).all()
    assert (np.diff(found[np.argsort(p)]) >= 0).all()
    order = np.random.default_rng(len(p)).permutation(len(p))
    assert np.array_equal(adjusted(p[order]), found[order])
    np.testing.assert_allclose(adjusted(p[:1]), p[:1], atol=1e-15)


@given(st.integers(1, 300), st.integers(1, 80), st.sampled_from((0.01, 0.05, 0.1, 0.5)))
def test_it_is_told_how_many_of_the_rarest_rows_it_takes(n: int, m: int, fdr: float) -> None:
    """So many at 1/(n+1) are flagged, and one fewer are not; none where all together are not enough."""
    least = np.full(m, 1 / (n + 1))
    for rarest in range(1, m + 1):
        p = np.where(np.arange(m) < rarest, 1 / (n + 1), 1.0)
        found = discover(p, least, fdr)
        assert found.flagged.any() == (found.least is not None and rarest >= found.least)


def test_rows_with_fewer_calibration_rows_take_more_of_their_like() -> None:
    """The smallest p-value is each row's own."""
    p = np.array([0.01, 0.01, 0.5, 0.5])
    assert discover(p, np.array([0.001, 0.01, 0.5, 0.5]), 0.01).least == 1
    assert discover(p, np.full(4, 0.01), 0.01).least == 4
    assert discover(p, np.full(4, 0.1), 0.01).least is None


def test_of_no_rows_none_are_flagged() -> None:
    """Every row of a request may have been invalid."""
    found = discover(np.zeros(0), np.zeros(0), 0.1)
    assert (len(found.adjusted), len(found.flagged), found.least) == (0, 0, None)


@pytest.mark.parametrize(("n", "m", "anomalies", "fdr"), [(199, 50, 10, 0.1), (999, 100, 5, 0.1), (99, 20, 0, 0.2)])
def test_the_share_of_normal_rows_among_the_flagged_is_at_most_what_was_asked_for(
    n: int, m: int, anomalies: int, fdr: float
) -> None:
    """
    On average over 3,000 requests that each share their calibration rows: at most fdr times the share of normal rows.

    Four standard errors above are let pass. And anomalies are found: a rule that flags nothing holds any rate.
    """
    generator = np.random.default_rng(n)
    strange = np.arange(m) < anomalies
    shares, found = [], []
    for _ in range(3000):
        scores = generator.normal(size=m) + 4 * strange
        flagged = discover(p_values(np.sort(generator.normal(size=n)), scores), np.full(m, 1 / (n + 1)), fdr).flagged
        shares.append((flagged & ~strange).sum() / max(1, flagged.sum()))
        found.append(flagged[strange].mean() if anomalies else 0.0)
    limit = fdr * (m - anomalies) / m
    assert np.mean(shares) <= limit + 4 * np.std(shares) / math.sqrt(len(shares))
    assert np.mean(shares) > 0.5 * limit
    assert not anomalies or np.mean(found) > 0.5
