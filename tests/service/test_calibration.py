"""Calibration: alpha is a false-alarm rate, and the interval around it is one that holds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from service import calibration
from service.calibration import Floats

tied = st.integers(-3, 3).map(float)
scores_of = st.lists(tied | st.floats(-1e9, 1e9), min_size=1, max_size=60)


def ascending(values: list[float]) -> Floats:
    """As a bundle keeps them."""
    return np.sort(np.array(values, np.float64))


def brute_p(values: list[float], s: float) -> float:
    """The definition: (1 + #{calibration >= s}) / (n + 1)."""
    return (1 + sum(value >= s for value in values)) / (len(values) + 1)


@st.composite
def levels(draw: st.DrawFn, n: int) -> float:
    """An alpha that somebody would ask n rows for: any, a round one, or just what a p-value can be."""
    alpha = draw(
        st.floats(1e-4, 0.9999)
        | st.builds(lambda k, d: k / 10**d, st.integers(1, 9999), st.integers(1, 4))
        | st.integers(1, n).map(lambda k: k / (n + 1))
        | st.integers(1, n).map(lambda k: math.nextafter(k / (n + 1), 0))
        | st.integers(1, n).map(lambda k: math.nextafter(k / (n + 1), 1))
    )
    assume(0 < alpha < 1)
    return alpha


@given(values=scores_of, asked=st.lists(tied | st.floats(-1e9, 1e9), max_size=10))
def test_p_values_are_their_definition(values: list[float], asked: list[float]) -> None:
    """Counted one by one, with ties among the rows and between rows and scores."""
    got = calibration.p_values(ascending(values), np.array(asked, np.float64))
    assert got.tolist() == [brute_p(values, s) for s in asked]


@settings(max_examples=500)
@given(data=st.data(), values=scores_of, asked=st.lists(tied | st.floats(-1e9, 1e9), min_size=1, max_size=10))
def test_a_row_is_above_the_threshold_exactly_where_its_p_value_is_at_most_alpha(
    data: st.DataObject, values: list[float], asked: list[float]
) -> None:
    """The two ways to decide never disagree: for any n, alpha and ties, and for the calibration rows themselves."""
    alpha = data.draw(levels(len(values)))
    rows = ascending(values)
    candidates = np.array([*asked, *values, *np.nextafter(rows, np.inf)])
    p = calibration.p_values(rows, candidates)
    threshold = calibration.threshold(rows, alpha)
    if threshold is None:
        assert (p > alpha).all()
    else:
        assert ((candidates > threshold) == (p <= alpha)).all()


@pytest.mark.parametrize("n", [1, 9, 19, 99, 100, 199, 200, 999, 1000])
@pytest.mark.parametrize("digits", [1, 2, 3])
def test_every_round_alpha_decides_alike_by_threshold_and_by_p_value(n: int, digits: int) -> None:
    """No decimal falls to the wrong side of its rank because binary fractions are not decimal."""
    rows = np.arange(n, dtype=np.float64)
    scores = np.arange(-0.5, n + 0.5)
    p = calibration.p_values(rows, scores)
    for step in range(1, 10**digits):
        alpha = step / 10**digits
        threshold = calibration.threshold(rows, alpha)
        assert ((scores > (math.inf if threshold is None else threshold)) == (p <= alpha)).all(), alpha


@given(n=st.integers(1, 3000), data=st.data())
def test_there_is_a_threshold_from_the_number_of_rows_on_that_is_told(n: int, data: st.DataObject) -> None:
    """The n in the refusal is the least that helps: with one row fewer the smallest p-value is above alpha."""
    alpha = data.draw(levels(n))
    needed = calibration.rows_needed(alpha)
    rows = np.arange(n, dtype=np.float64)
    assert (calibration.threshold(rows, alpha) is None) == (n < needed)
    assert 1 / (needed + 1) <= alpha
    assert needed == 0 or 1 / needed > alpha


@pytest.mark.parametrize(("alpha", "rows"), [(0.5, 1), (0.1, 9), (0.05, 19), (0.01, 99), (0.005, 199), (0.001, 999)])
def test_the_usual_alphas_need_the_usual_numbers_of_rows(alpha: float, rows: int) -> None:
    """Also those whose inverse is not a whole number in binary."""
    assert calibration.rows_needed(alpha) == rows
    assert calibration.threshold(np.arange(rows, dtype=np.float64), alpha) == rows - 1
    assert calibration.threshold(np.arange(rows - 1, dtype=np.float64), alpha) is None


def test_n_rows_are_enough_for_one_in_n_plus_one() -> None:
    """Exactly: 1 / (1 / 49) is 49.00000000000001, and one row more would be asked for."""
    assert [calibration.rows_needed(1 / (n + 1)) for n in range(1, 3000)] == list(range(1, 3000))


@pytest.mark.parametrize("n", [1, 5, 20, 99, 100, 1000, 20_000])
@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05, 0.1, 0.5, 0.9, 0.999])
def test_the_interval_of_the_real_rate_is_that_of_the_beta_distribution(n: int, alpha: float) -> None:
    """Beta(n + 1 - k, k), its 5 % and 95 % quantiles, against scipy."""
    if n < calibration.rows_needed(alpha):
        with pytest.raises(ValueError, match=f"needs {calibration.rows_needed(alpha)} calibration rows; there are {n}"):
            calibration.false_alarm_rate(n, alpha)
        return
    k = n + 1 - math.floor((n + 1) * Fraction(str(alpha)))
    want = stats.beta(n + 1 - k, k).ppf([0.05, 0.95])
    np.testing.assert_allclose(calibration.false_alarm_rate(n, alpha), want, rtol=1e-9)


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 2000), data=st.data())
def test_the_interval_of_the_real_rate_is_right_for_any_n_and_alpha(n: int, data: st.DataObject) -> None:
    """And it holds the mean of the distribution, which is at most alpha."""
    alpha = data.draw(levels(n))
    assume(n >= calibration.rows_needed(alpha))
    k = calibration.rank(n, alpha)
    low, high = calibration.false_alarm_rate(n, alpha)
    np.testing.assert_allclose((low, high), stats.beta(n + 1 - k, k).ppf([0.05, 0.95]), rtol=1e-8)
    assert 0 < low < (n + 1 - k) / (n + 1) < high < 1
    assert (n + 1 - k) / (n + 1) <= alpha


@pytest.mark.parametrize(("n", "alpha"), [(99, 0.1), (199, 0.01), (500, 0.05), (1000, 0.01)])
def test_the_real_rate_is_inside_its_90_percent_interval_90_percent_of_the_time(n: int, alpha: float) -> None:
    """
    Over 4,000 calibration sets of uniform scores, where the real rate of a threshold t is 1 - t exactly.

    The count inside is binomial; four of its standard deviations on each side leave a wrong formula no room:
    an interval for k off by one is outside of them.
    """
    trials = 4000
    rng = np.random.default_rng(n)
    rates = []
    for rows in np.sort(rng.random((trials, n)), axis=1):
        threshold = calibration.threshold(rows, alpha)
        assert threshold is not None
        rates.append(1 - threshold)
    low, high = calibration.false_alarm_rate(n, alpha)
    inside = np.mean([low <= rate <= high for rate in rates])
    assert abs(inside - 0.9) < 4 * math.sqrt(0.9 * 0.1 / trials)
    below = np.mean([rate < low for rate in rates])
    assert abs(below - 0.05) < 4 * math.sqrt(0.05 * 0.95 / trials)
    assert np.mean(rates) < alpha + 4 * math.sqrt(alpha * (1 - alpha) / n / trials)


@pytest.mark.parametrize("distribution", ["continuous", "tied"])
def test_p_values_of_rows_like_the_calibration_rows_are_at_most_alpha_no_more_often_than_alpha(
    distribution: str,
) -> None:
    """P(p <= alpha) <= alpha, marginally, to four binomial standard deviations; equal to it where p can be alpha."""
    trials, n = 20_000, 39
    rng = np.random.default_rng(5)
    drawn = rng.normal(size=(trials, n + 1))
    if distribution == "tied":
        drawn = drawn.round()
    p = np.array([calibration.p_values(np.sort(row[:n]), row[n:])[0] for row in drawn])
    for alpha in (1 / 40, 0.05, 0.1, 0.25, 0.33, 0.5, 0.9):
        sigma = math.sqrt(alpha * (1 - alpha) / trials)
        share = np.mean(p <= alpha)
        assert share <= alpha + 4 * sigma, alpha
        if distribution == "continuous" and (alpha * 40).is_integer():
            assert share >= alpha - 4 * sigma, alpha


tables = st.builds(
    lambda seed, n, columns, digits: (
        np.random.default_rng(seed).normal(size=(n, columns)).round(digits).astype(np.float32)
    ),
    st.integers(0, 2**32 - 1),
    st.integers(1, 120),
    st.integers(1, 3),
    st.integers(0, 6),
)


def exact_feature_p(table: NDArray[np.float32], scores: NDArray[np.float32]) -> Floats:
    """Each column's p-values by definition."""
    p: Floats = (1 + (table[None] >= scores[:, None]).sum(axis=1)) / (len(table) + 1)
    return p


@given(table=tables, extra=tables)
def test_a_feature_has_its_exact_p_value_where_nothing_was_thinned(
    table: NDArray[np.float32], extra: NDArray[np.float32]
) -> None:
    """Counted in its own column, with ties."""
    grid, ranks = calibration.feature_grid(table)
    assert ranks.tolist() == list(range(1, len(table) + 1))
    scores = np.resize(np.concatenate([table.ravel(), extra.ravel()]), (20, table.shape[1]))
    assert np.array_equal(calibration.feature_p_values(grid, ranks, len(table), scores), exact_feature_p(table, scores))


@given(table=tables, extra=tables, most=st.integers(2, 40))
def test_a_thinned_grid_never_makes_a_feature_look_rarer_than_it_is(
    table: NDArray[np.float32], extra: NDArray[np.float32], most: int
) -> None:
    """Its p-values are rounded up, and by less than the widest gap between two kept ranks where there are no ties."""
    n = len(table)
    grid, ranks = calibration.feature_grid(table, most)
    scores = np.resize(np.concatenate([table.ravel(), extra.ravel()]), (20, table.shape[1]))
    p, exact = calibration.feature_p_values(grid, ranks, n, scores), exact_feature_p(table, scores)
    assert (p >= exact).all()
    assert ((p > 0) & (p <= 1)).all()
    if all(len(np.unique(column)) == n for column in table.T):
        gap = np.diff(np.concatenate([[0], ranks])).max()
        assert (p < exact + (gap - 0.5) / (n + 1)).all()


@given(table=tables, most=st.integers(2, 40))
def test_a_grid_keeps_at_most_so_many_rows_with_their_ranks_and_the_largest(
    table: NDArray[np.float32], most: int
) -> None:
    """Rank r means that the value is the r-th smallest of its column; ascending, as the bundle's reader demands."""
    n = len(table)
    grid, ranks = calibration.feature_grid(table, most)
    assert grid.shape == (len(ranks), table.shape[1])
    assert len(ranks) <= most
    assert (np.diff(ranks) > 0).all()
    assert ranks[0] >= 1
    assert np.array_equal(grid, np.sort(table, axis=0)[ranks - 1])
    assert ranks[-1] == n, "the largest is always kept: without it the rarest p-value could not be given"


@given(table=tables, most=st.integers(2, 40))
def test_the_median_of_a_feature_is_the_first_kept_score_that_half_of_the_rows_do_not_pass(
    table: NDArray[np.float32], most: int
) -> None:
    """Of a whole grid the lower median; of a thinned one never less, and no more than the next that was kept."""
    n, kept = len(table), np.sort(table, axis=0)
    exact = calibration.feature_medians(*calibration.feature_grid(table), n)
    assert np.array_equal(exact, kept[(n - 1) // 2])
    grid, ranks = calibration.feature_grid(table, most)
    thinned = calibration.feature_medians(grid, ranks, n)
    assert (thinned >= exact).all()
    assert np.array_equal(thinned, kept[ranks[ranks >= (n + 1) // 2].min() - 1])


def test_the_median_of_a_feature_that_next_to_no_row_had_is_not_known() -> None:
    """What is above it is no number of nats."""
    grid = np.array([[1.0, calibration.UNKNOWN], [2.0, calibration.UNKNOWN]], np.float32)
    np.testing.assert_array_equal(calibration.feature_medians(grid, np.array([1, 2]), 2), [1, np.nan])


def test_a_score_above_all_calibration_rows_has_the_smallest_p_value_there_is() -> None:
    """1/(n+1): for rows and for features, thinned or not."""
    rows = np.arange(5000, dtype=np.float64)
    above = np.array([5000.0])
    assert calibration.p_values(rows, above)[0] == 1 / 5001
    grid, ranks = calibration.feature_grid(rows[:, None])
    assert len(ranks) == 1000
    assert calibration.feature_p_values(grid, ranks, 5000, above[:, None])[0, 0] == 1 / 5001


@pytest.mark.parametrize("n", [100_000, 1_000_000])
@pytest.mark.parametrize("alpha", [1e-5, 0.001, 0.05, 0.5, 0.9])
def test_of_a_million_rows_the_interval_is_that_of_the_beta_distribution_too(n: int, alpha: float) -> None:
    """To eight digits, which is what the logarithm of a factorial of a million leaves."""
    k = calibration.rank(n, alpha)
    want = stats.beta(n + 1 - k, k).ppf([0.05, 0.95])
    np.testing.assert_allclose(calibration.false_alarm_rate(n, alpha), want, rtol=1e-8)
