"""The latent space: noise that a seed decides, and paths that keep their promises at every edge."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from scipy import special, stats

from service import latent
from service.latent import MAX_SEED, Floats

DRAWS = 200_000
EPS32 = float(np.finfo(np.float32).eps)
ALPHAS = np.linspace(0.0, 1.0, 11)


def vectors(size: int) -> st.SearchStrategy[Floats]:
    """Any float32 vector of *size* that neither over- nor underflows when its norm is taken."""
    number = st.floats(-1000, 1000, width=32).map(lambda v: 0.0 if abs(v) < 1e-6 else v)
    return npst.arrays(np.float32, size, elements=number)


pairs = st.integers(1, 8).flatmap(lambda size: st.tuples(vectors(size), vectors(size)))


def norm(v: NDArray[np.generic]) -> NDArray[np.float64]:
    """Euclidean, over the last axis, in float64."""
    return np.asarray(np.linalg.norm(np.asarray(v, np.float64), axis=-1))


def angle(a: Floats, b: Floats) -> float:
    """Between two directions, accurate near 0 and pi."""
    u, v = a / norm(a), b / norm(b)
    return 2 * math.atan2(float(norm(u - v)), float(norm(u + v)))


def unit(path: Floats) -> NDArray[np.float64]:
    """The directions of *path*."""
    return np.asarray(path, np.float64) / norm(path)[:, None]


@pytest.mark.parametrize("seed", [0, 7, MAX_SEED])
def test_equal_seeds_give_equal_noise_and_others_do_not(seed: int) -> None:
    """A seed in a reply is worth something only if it gives the same rows tomorrow."""
    assert np.array_equal(latent.noise(seed, 5, 3), latent.noise(seed, 5, 3))
    assert np.array_equal(latent.truncated_noise(seed, 2.0, 5, 3), latent.truncated_noise(seed, 2.0, 5, 3))
    assert not np.array_equal(latent.noise(seed, 5, 3), latent.noise(seed ^ 1, 5, 3))


def test_the_noise_of_a_seed_is_the_same_in_every_release() -> None:
    """Pinned draws: another generator, or another order, would break every seed that a caller has kept."""
    assert latent.noise(7, 3).tolist() == np.random.Generator(np.random.Philox(7)).standard_normal(3, "f4").tolist()
    u = np.random.Generator(np.random.Philox(7)).random(3)
    inside = special.ndtri(special.ndtr(-1.5) + u * (special.ndtr(1.5) - special.ndtr(-1.5)))
    np.testing.assert_allclose(latent.truncated_noise(7, 1.5, 3), inside, rtol=EPS32)


def test_noise_is_standard_normal() -> None:
    """Mean, variance, skewness and kurtosis within five of their standard errors, and the whole shape by KS."""
    z = latent.noise(1, DRAWS, 1)[:, 0].astype(np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(z**power) - moment) < 5 * math.sqrt(variance / DRAWS), power
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_the_columns_of_noise_are_independent() -> None:
    """Correlations of independent columns are N(0, 1/n)."""
    z = latent.noise(2, 20_000, 6)
    off_diagonal = np.asarray(np.corrcoef(z, rowvar=False))[np.triu_indices(6, 1)]
    assert np.abs(off_diagonal).max() < 5 / math.sqrt(20_000)


@pytest.mark.parametrize("bound", [1.0, 2.0, 3.0])
def test_truncated_noise_is_a_truncated_normal(bound: float) -> None:
    """Within its bound, of the variance that its docstring states, and the distribution that scipy draws."""
    z = latent.truncated_noise(3, bound, DRAWS).astype(np.float64)
    reference = stats.truncnorm(-bound, bound)
    density, inside = stats.norm.pdf(bound), 2 * stats.norm.cdf(bound) - 1
    variance = 1 - 2 * bound * density / inside
    assert np.abs(z).max() <= bound
    assert variance == pytest.approx(reference.var(), rel=1e-12)
    spread = math.sqrt((reference.moment(4) - variance**2) / DRAWS)
    assert abs(z.var() - variance) < 5 * spread
    assert abs(z.mean()) < 5 * math.sqrt(variance / DRAWS)
    assert stats.kstest(z, reference.cdf).pvalue > 1e-3


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, MAX_SEED), bound=st.floats(1e-6, 10))
def test_truncated_noise_never_leaves_its_bound(seed: int, bound: float) -> None:
    """Nor is it ever infinite: the quantile of 0 and 1 is never asked for. (The bound rounded to float32 counts.)"""
    z = latent.truncated_noise(seed, bound, 50)
    assert (np.abs(z) <= np.float32(bound)).all()


def test_the_quantile_of_the_normal_agrees_with_scipy_from_1e_300_to_the_last_digit_below_1() -> None:
    """Through the centre, both tails and both seams between AS 241's three ratios."""
    p = np.concatenate(
        [
            10.0 ** np.linspace(-300, -1, 6000),
            np.linspace(0.001, 0.999, 5001),
            1 - 10.0 ** np.linspace(-15.9, -1, 2000),
            [math.exp(-25), np.nextafter(0.075, 0), 0.075, np.nextafter(0.075, 1), 0.925, 0.5, 1 - 2.0**-53],
        ]
    )
    np.testing.assert_allclose(latent.normal_quantile(p), special.ndtri(p), rtol=4e-15, atol=0)


@given(p=st.floats(1e-300, 0.5))
def test_the_quantile_of_the_normal_is_odd_and_inverts_the_distribution(p: float) -> None:
    """Phi(Phi^-1(p)) = p; in the left tail to the relative error that a rounded z leaves, which grows with z^2."""
    z = float(latent.normal_quantile(np.array([p]))[0])
    assert special.log_ndtr(z) == pytest.approx(math.log(p), rel=1e-12, abs=1e-12)
    if p >= 0.01:
        assert latent.normal_quantile(np.array([1 - p]))[0] == pytest.approx(-z, rel=1e-12, abs=1e-15)


@given(pair=pairs)
def test_every_path_is_finite_and_as_long_as_was_asked(pair: tuple[Floats, Floats]) -> None:
    """One float32 point for each alpha, whatever the two vectors are."""
    for path in (latent.lerp(*pair, ALPHAS), latent.slerp(*pair, ALPHAS)[0]):
        assert path.dtype == np.float32
        assert path.shape == (len(ALPHAS), len(pair[0]))
        assert np.isfinite(path).all()


any_float32 = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1e-45])


@settings(max_examples=300)
@given(ends=st.integers(1, 6).flatmap(lambda size: npst.arrays(np.float32, (2, size), elements=any_float32)))
def test_every_path_has_its_ends_to_the_bit(ends: Floats) -> None:
    """Any float32, denormal or negative zero too: a caller finds the waypoints that were given, in their place."""
    start, stop, t = ends[0], ends[1], np.array([1.0, 0.0, 1.0])
    for path in (latent.lerp(start, stop, t), latent.slerp(start, stop, t)[0]):
        assert [point.tobytes() for point in path] == [stop.tobytes(), start.tobytes(), stop.tobytes()]


@given(pair=pairs)
def test_lerp_is_the_straight_line(pair: tuple[Floats, Floats]) -> None:
    """Each point is the weighted mean of the ends, to the rounding of float32."""
    start, stop = (v.astype(np.float64) for v in pair)
    want = np.stack([(1 - t) * start + t * stop for t in ALPHAS])
    np.testing.assert_allclose(latent.lerp(*pair, ALPHAS), want, rtol=2 * EPS32, atol=1e-9)


@given(pair=pairs)
def test_the_norm_along_a_great_circle_goes_evenly_from_one_end_to_the_other(pair: tuple[Floats, Floats]) -> None:
    """Monotone between the two norms, and constant where they are equal: the path never dips towards the origin."""
    start, stop = pair
    assume(norm(start) > 0 and norm(stop) > 0 and not (len(start) == 1 and start[0] * stop[0] < 0))
    path, _ = latent.slerp(start, stop, ALPHAS)
    want = (1 - ALPHAS) * norm(start) + ALPHAS * norm(stop)
    np.testing.assert_allclose(norm(path), want, rtol=1e-6)
    steps = np.diff(norm(path)) * np.sign(norm(stop) - norm(start))
    assert (steps >= -1e-6 * want.max()).all()


@given(pair=pairs)
def test_a_great_circle_back_is_the_same_as_there(pair: tuple[Floats, Floats]) -> None:
    """Symmetric under exchange of the ends, but where the circle is not defined and a fixed one is taken."""
    path, degenerate = latent.slerp(*pair, ALPHAS)
    back, degenerate_back = latent.slerp(pair[1], pair[0], ALPHAS)
    assert degenerate == degenerate_back
    assume(not degenerate)
    scale = max(float(norm(v)) for v in pair)
    np.testing.assert_allclose(path, back[::-1], rtol=0, atol=1e-6 * scale)


@given(pair=pairs, seed=st.integers(0, 2**32 - 1))
def test_a_great_circle_turns_with_its_ends(pair: tuple[Floats, Floats], seed: int) -> None:
    """Rotation-equivariant for random orthogonal matrices: no axis of the latent space is special."""
    start, stop = pair
    assume(norm(start) > 0 and norm(stop) > 0)
    assume(angle(start, stop) < math.pi - 0.1)  # nearer to pi, the rounding of R z to float32 turns the circle
    size = len(start)
    turn = np.array([[1.0]]) if size == 1 else stats.ortho_group.rvs(size, random_state=seed)
    turned, _ = latent.slerp((turn @ start).astype(np.float32), (turn @ stop).astype(np.float32), ALPHAS)
    scale = max(float(norm(v)) for v in pair)
    np.testing.assert_allclose(turned, latent.slerp(start, stop, ALPHAS)[0] @ turn.T, rtol=0, atol=2e-5 * scale)


@given(pair=pairs)
def test_a_great_circle_turns_at_an_even_pace(pair: tuple[Floats, Floats]) -> None:
    """Equal steps of alpha are equal angles, and together they are the angle between the ends."""
    start, stop = pair
    assume(norm(start) > 0 and norm(stop) > 0)
    path, degenerate = latent.slerp(start, stop, ALPHAS)
    assume(not degenerate)
    omega = angle(start, stop)
    angles = [angle(a, b) for a, b in itertools.pairwise(path)]
    np.testing.assert_allclose(angles, omega / (len(ALPHAS) - 1), rtol=0, atol=2e-6)


@given(pair=pairs)
def test_for_equal_norms_slerp_is_whites_formula(pair: tuple[Floats, Floats]) -> None:
    """White 2016, section 2.1: sin((1-t) w) / sin w z0 + sin(t w) / sin w z1 on the raw vectors."""
    start, stop = pair
    assume(norm(start) > 0 and norm(stop) > 0)
    stop = (stop * (norm(start) / norm(stop))).astype(np.float32)
    a, b = start.astype(np.float64), stop.astype(np.float64)
    omega = math.acos(np.clip(a @ b / (norm(a) * norm(b)), -1, 1))
    assume(0.05 < omega < math.pi - 0.05)
    t = ALPHAS[:, None]
    white = (np.sin((1 - t) * omega) * a + np.sin(t * omega) * b) / math.sin(omega)
    np.testing.assert_allclose(latent.slerp(start, stop, ALPHAS)[0], white, rtol=0, atol=1e-5 * float(norm(a)))


@pytest.mark.parametrize("apart", [0.0, 1e-7, 1e-5, 0.99e-4, 1.01e-4, 1e-3])
def test_nearly_equal_directions_make_a_smooth_path(apart: float) -> None:
    """On both sides of the seam to lerp: the angle and the norm grow evenly, and nothing is divided by zero."""
    start = np.array([2, 0, 0], np.float32)
    stop = np.array([3 * math.cos(apart), 3 * math.sin(apart), 0], np.float32)
    path, degenerate = latent.slerp(start, stop, ALPHAS)
    assert not degenerate
    np.testing.assert_allclose(norm(path), 2 + ALPHAS, rtol=1e-6)
    np.testing.assert_allclose(np.arctan2(path[:, 1], path[:, 0]), ALPHAS * apart, rtol=1e-4, atol=1e-9)


def test_equal_vectors_make_a_path_that_stays() -> None:
    """From a row to itself."""
    z = latent.noise(4, 6)
    path, degenerate = latent.slerp(z, z, ALPHAS)
    assert not degenerate
    np.testing.assert_allclose(path, np.tile(z, (len(ALPHAS), 1)), rtol=2 * EPS32)


@given(start=st.integers(2, 8).flatmap(vectors), longer=st.floats(0.1, 10), off=st.floats(0, 5e-5))
def test_opposite_directions_are_flagged_and_take_one_fixed_way_on_the_sphere(
    start: Floats, longer: float, off: float
) -> None:
    """Of the many great circles between poles one is taken, always the same, and the reply says so."""
    assume(norm(start) > 1e-3)
    sideways = np.roll(np.eye(len(start))[np.argmin(np.abs(start))], 1) * float(norm(start)) * off
    stop = (-longer * (start + sideways)).astype(np.float32)
    path, degenerate = latent.slerp(start, stop, ALPHAS)
    assert degenerate is True
    again, _ = latent.slerp(start.copy(), stop.copy(), ALPHAS)
    assert path.tobytes() == again.tobytes()
    assert (path[0].tobytes(), path[-1].tobytes()) == (start.tobytes(), stop.tobytes())
    np.testing.assert_allclose(norm(path), (1 - ALPHAS) * norm(start) + ALPHAS * norm(stop), rtol=1e-6)
    angles = [angle(a, b) for a, b in itertools.pairwise(path)]
    np.testing.assert_allclose(angles, math.pi / (len(ALPHAS) - 1), rtol=0, atol=2e-4)  # the ends are off by 1e-4


def test_opposite_directions_go_by_way_of_the_axis_on_which_the_start_is_smallest() -> None:
    """The fixed rule: half way, the path stands at a right angle to both ends, leaning on that axis."""
    start = np.array([3, 0.5, 4], np.float32)
    path, degenerate = latent.slerp(start, -start, np.array([0.0, 0.5, 1.0]))
    assert degenerate
    middle = unit(path)[1]
    assert abs(middle @ unit(path)[0]) < 1e-6
    assert middle[1] == pytest.approx(math.sqrt(1 - (0.5 / float(norm(start))) ** 2), rel=1e-5)


@given(pair=pairs)
def test_a_path_to_or_from_zero_is_straight(pair: tuple[Floats, Floats]) -> None:
    """The zero vector has no direction to turn from."""
    other = pair[0]
    zero = np.zeros_like(other)
    for start, stop in ((zero, other), (other, zero)):
        path, degenerate = latent.slerp(start, stop, ALPHAS)
        assert not degenerate
        assert np.array_equal(path, latent.lerp(start, stop, ALPHAS))


@given(a=st.floats(-1000, 1000, width=32), b=st.floats(-1000, 1000, width=32))
def test_on_a_line_every_path_is_straight_and_one_through_zero_is_flagged(a: float, b: float) -> None:
    """One latent has no circles: L = 1."""
    start, stop = np.array([a], np.float32), np.array([b], np.float32)
    path, degenerate = latent.slerp(start, stop, ALPHAS)
    np.testing.assert_allclose(path, latent.lerp(start, stop, ALPHAS), rtol=1e-5, atol=1e-35)
    assert degenerate == (bool(np.sign(a) * np.sign(b) < 0))


def test_lerp_shrinks_between_independent_draws_and_slerp_does_not() -> None:
    """Why slerp is the default: half way E|z|^2 is L/2 on the line, and stays L on the circle."""
    size = 64
    z = latent.noise(5, 500, 2, size)
    half = np.array([0.5])
    line = [norm(latent.lerp(a, b, half)[0]) ** 2 / size for a, b in z]
    circle = [norm(latent.slerp(a, b, half)[0][0]) ** 2 / size for a, b in z]
    assert np.mean(line) == pytest.approx(0.5, abs=0.02)
    assert np.mean(circle) == pytest.approx(1.0, abs=0.04)
