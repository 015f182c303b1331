"""Scores beside reference rows: the densities that they are called, ranks that do not end, arrays that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from service.reference import LEVELS, Encodings, Fusion, Reference
from service.scores import PLAIN, SCORE_OUTPUTS, score

Floats = NDArray[np.float64]
QUARTILES = stats.norm.ppf(0.75) - stats.norm.ppf(0.25)


def covariance(size: int, seed: int = 0) -> Floats:
    """Positive definite: (size, size)."""
    a = np.random.default_rng(seed).normal(size=(size, size))
    return a @ a.T + 0.1 * np.eye(size)


def outputs(rows: int, seed: int = 0) -> dict[str, Floats]:
    """What a scorer might give, of 5 draws and 3 latents."""
    rng = np.random.default_rng(seed)
    return {
        "log_w": rng.normal(-20, 4, (rows, 5)),
        "log_px_z": rng.normal(-18, 3, (rows, 5)),
        "kl": rng.exponential(1, (rows, 3)),
        "mu": rng.normal(size=(rows, 3)),
    }


def reference(absent: dict[str, Floats] | None = None) -> Reference:
    """Statistics of 500 rows like those of `outputs`."""
    rows = outputs(500, 9)
    encodings = Encodings(np.array([0.1, -0.2, 0.3]), covariance(3))
    parts = [score("reconstruction", rows), score("kl", rows), encodings.distance(rows["mu"])]
    knots = np.quantile(np.stack(parts, axis=1), LEVELS, axis=0)
    return Reference(absent or {}, encodings, 21.5, Fusion(knots, covariance(3, 1)))


def test_latent_is_the_density_of_the_encodings_less_its_constant() -> None:
    """Against scipy's normal distribution of the same mean and covariance; 0 at the mean."""
    mean, spread = np.array([0.5, -1.0, 2.0, 0.0]), covariance(4)
    mu = np.random.default_rng(1).normal(size=(20, 4)) * 3
    got = Encodings(mean, spread).distance(mu)
    constant = 0.5 * np.linalg.slogdet(2 * np.pi * spread)[1]
    np.testing.assert_allclose(got, -stats.multivariate_normal(mean, spread).logpdf(mu) - constant, rtol=1e-10)
    assert Encodings(mean, spread).distance(mean[None]).tolist() == [0.0]


def test_latent_does_not_depend_on_how_the_latents_are_laid_out() -> None:
    """Turned, stretched and moved together with their statistics, encodings are as far as they were."""
    rng = np.random.default_rng(2)
    a, b, mu, mean, spread = (
        rng.normal(size=(3, 3)),
        rng.normal(size=3),
        rng.normal(size=(9, 3)),
        np.ones(3),
        covariance(3),
    )
    moved = Encodings(a @ mean + b, a @ spread @ a.T)
    np.testing.assert_allclose(moved.distance(mu @ a.T + b), Encodings(mean, spread).distance(mu), rtol=1e-8)


def test_typicality_is_the_same_above_and_below() -> None:
    """A row that is likelier than rows are is as untypical as one that is as much less likely."""
    known = Reference({}, typical=20.0)
    log_w = -np.array([[20.0], [23.0], [17.0]])
    assert known.score("typicality", {"log_w": log_w}, None)[0].tolist() == [0.0, 3.0, 3.0]


def test_fused_is_the_density_of_the_normal_ranks_less_its_constant() -> None:
    """Of reconstruction, kl and latent at once: against scipy, and each rank against scipy's normal quantile."""
    known, rows = reference(), outputs(40)
    assert known.fusion is not None
    parts = np.stack([known.score(kind, rows, None)[0] for kind in ("reconstruction", "kl", "latent")], axis=1)
    t = known.fusion.ranked(parts)
    for p, knots in enumerate(known.fusion.knots.T):
        share = np.interp(parts[:, p], knots, LEVELS)
        inside = (share > 0.01) & (share < 0.99)
        np.testing.assert_allclose(t[inside, p], stats.norm.ppf(share[inside]), atol=0.03)
    spread = known.fusion.covariance
    constant = 0.5 * np.linalg.slogdet(2 * np.pi * spread)[1]
    expected = -stats.multivariate_normal(np.zeros(3), spread).logpdf(t) - constant
    np.testing.assert_allclose(known.score("fused", rows, None)[0], expected, rtol=1e-9)


def test_ranks_are_those_of_a_normal_distribution_where_scores_have_one() -> None:
    """Quantiles of N(5, 2^2): the rank of 5 + 2 t is t, within the quantiles and far beyond them."""
    knots = (5 + 2 * stats.norm.ppf(LEVELS))[:, None]
    t = np.linspace(-40, 40, 161)
    ranked = Fusion(knots, np.eye(1)).ranked((5 + 2 * t)[:, None])[:, 0]
    np.testing.assert_allclose(ranked, t, atol=0.01)


@given(st.lists(st.floats(-1e5, 1e5), min_size=2, max_size=30, unique=True), st.integers(0, 99))
def test_of_two_anomalies_the_farther_one_has_the_higher_rank(values: list[float], seed: int) -> None:
    """However far both are above, or below, all reference rows: no two scores that differ tie."""
    knots = np.sort(np.random.default_rng(seed).gamma(1.0, 3.0, len(LEVELS)))[:, None]
    ordered = np.unique(np.round(values, 3))
    ranked = Fusion(knots, np.eye(1)).ranked(ordered[:, None])[:, 0]
    assert (np.diff(ranked) > 0).all()


def test_beyond_the_quantiles_ranks_go_on_by_the_spread_between_the_quartiles() -> None:
    """Which one outlying reference row does not change, and which is not the width of the last step."""
    knots = np.concatenate([np.linspace(0, 10, 98), [5000.0]])[:, None]
    high, higher = Fusion(knots, np.eye(1)).ranked(np.array([[6000.0], [6010.0]]))[:, 0]
    spread = (knots[74, 0] - knots[24, 0]) / QUARTILES
    assert higher - high == pytest.approx(10 / spread)
    assert high == pytest.approx(stats.norm.ppf(0.99) + 1000 / spread)


def test_missing_features_are_added_to_what_a_score_is_made_of() -> None:
    """
    To nll, before it is held against its mean, and to the parts before they are ranked.

    So that a row is as untypical as it would be with what its missing columns add, and not by their units.
    """
    rows = outputs(6)
    absent = {kind: np.array([14.0, -3.0]) for kind in (*PLAIN, "latent")}
    mask = np.array([[True, True], [False, True], [True, False], [False, False], [True, True], [False, True]])
    lacking = (~mask) @ absent["nll"]
    known, plain = reference(absent), reference()
    for kind in (*PLAIN, "latent"):
        told, ranked = known.score(kind, rows, mask)
        assert np.array_equal(told, plain.score(kind, rows, None)[0])
        np.testing.assert_allclose(ranked - told, lacking)
    told, ranked = known.score("typicality", rows, mask)
    assert np.array_equal(told, ranked)
    np.testing.assert_allclose(told, np.abs(score("nll", rows) + lacking - 21.5))
    assert plain.fusion is not None
    parts = [plain.score(kind, rows, None)[0] + lacking for kind in ("reconstruction", "kl", "latent")]
    told, ranked = known.score("fused", rows, mask)
    assert np.array_equal(told, ranked)
    np.testing.assert_allclose(told, plain.fusion.distance(np.stack(parts, axis=1)))


@pytest.mark.parametrize("kind", ["latent", "typicality", "fused"])
def test_every_kind_is_computed_from_the_outputs_that_it_names(kind: str) -> None:
    """The service runs the scorer for those alone."""
    known, rows = reference(), outputs(4)
    wanted = SCORE_OUTPUTS[kind]
    got = known.score(kind, {name: rows[name] for name in wanted}, None)[0]
    assert np.array_equal(got, known.score(kind, rows, None)[0])
    for name in wanted:
        with pytest.raises(KeyError, match=name):
            known.score(kind, {other: rows[other] for other in wanted if other != name}, None)


@pytest.mark.parametrize("kind", ["latent", "typicality", "fused", "NLL"])
def test_a_kind_without_its_reference_rows_is_refused_by_name(kind: str) -> None:
    """Or by that of the part of it that lacks them; it is never measured by something else."""
    lacking = "latent" if kind == "fused" else kind
    with pytest.raises(ValueError, match=f"no reference rows for the score '{lacking}'"):
        Reference({}).score(kind, outputs(2), None)
