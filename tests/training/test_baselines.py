"""The baselines: their densities, their ranking, and that the VAE's defeat is said aloud."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from service.bundle import Bundle
from service.engine import Engine
from tests.training.small import Fitted, table
from training.baselines import NAMES, fit_baselines
from training.contest import LABELLED, STAND_IN, contest, norm_alarm, shuffled, verdict
from training.data import from_arrays, table_inputs
from training.densities import Mixture, ProbabilisticPCA, Standard
from training.evaluate import evaluate
from training.moments import log_sigma_floor, moments
from training.ranking import auroc_difference, rank_correlation
from training.table import lines
from training.thinning import most_rows

Floats = NDArray[np.float64]


def rows(count: int, seed: int = 0) -> Floats:
    """Four correlated columns in four units."""
    generator = np.random.default_rng(seed)
    signal = generator.standard_normal((count, 2)) @ np.array([[1.0, 0.6, 0.2, -1.0], [0.0, 1.0, -0.8, 0.4]])
    x: Floats = (signal + 0.3 * generator.standard_normal((count, 4))) * [1, 10, 0.1, 3] + [0, 500, 0, -100]
    return x


def test_the_density_of_probabilistic_pca_is_that_of_scipy_in_original_units() -> None:
    """The normal with the maximum-likelihood covariance W W' + sigma^2 I, with the Jacobian of the scaling."""
    x, new = rows(500), rows(50, 1)
    baselines = fit_baselines(x, x, table_inputs(list("abcd")), components=2)
    center, scale = x.mean(axis=0), x.std(axis=0)
    values, vectors = np.linalg.eigh(np.cov(((x - center) / scale).T, bias=True))
    noise = values[:2].mean()
    covariance = vectors[:, 2:] @ np.diag(values[2:] - noise) @ vectors[:, 2:].T + noise * np.eye(4)
    expected = stats.multivariate_normal(center, covariance * np.outer(scale, scale))
    np.testing.assert_allclose(baselines.log_px(new)["ppca"], expected.logpdf(new), rtol=1e-8)


@pytest.mark.parametrize("features", [3, 120])
def test_the_density_of_the_mixture_is_that_of_scipy(features: int) -> None:
    """With full covariances and with diagonal ones; the floor squared is on every variance."""
    generator = np.random.default_rng(0)
    u = generator.standard_normal((800, features)) + np.repeat([-6, 6], 400)[:, None] * (np.arange(features) < 2)
    if features == 3:
        u[:, 2] += 4 * u[:, 1]  # correlated: worth full covariances
    floor = np.full(features, 0.2)
    mixture = Mixture(u[::2], u[1::2], floor, seed=0)
    found = mixture._found
    assert mixture.components > 1
    assert found.full == (features == 3)
    parts = []
    for weight, mean, factor in zip(np.exp(found.log_weights), found.means, found.factors, strict=True):
        covariance = factor @ factor.T if found.full else np.diag(factor**2)
        assert np.linalg.eigvalsh(covariance).min() > 0.04
        parts.append(weight * stats.multivariate_normal(mean, covariance).pdf(u[:20]))
    np.testing.assert_allclose(mixture.log_px(u[:20]), np.log(np.sum(parts, axis=0)), rtol=1e-9)


def test_constant_columns_have_the_vaes_floor_in_every_density() -> None:
    """Beside a column that never changes, a density is what it was, times a normal of the floor's width."""
    x, new = rows(300), rows(40, 1)
    with_constant = [np.column_stack([part, np.full(len(part), 7.0)]) for part in (x, new)]
    plain = fit_baselines(x, x, table_inputs(list("abcd")), 2).log_px(new)
    found = fit_baselines(with_constant[0], with_constant[0], table_inputs(list("abcde")), 2).log_px(with_constant[1])
    for name, values in plain.items():
        np.testing.assert_allclose(found[name], values + stats.norm(7, 1e-3).logpdf(7.0), rtol=1e-9)


def test_no_density_is_sharper_than_the_data_were_recorded() -> None:
    """Whole numbers: every variance of both densities is at least 1 / 12, as in the VAE."""
    generator = np.random.default_rng(0)
    x = np.column_stack([generator.integers(0, 4, 400), generator.integers(0, 2, 400)]).astype(float)
    standard = Standard(x, table_inputs(["a", "b"]))
    np.testing.assert_allclose(standard.floor * standard.scale, 1 / np.sqrt(12))
    u = standard(x)
    assert (ProbabilisticPCA(u, standard.floor, 1, 0).psi >= standard.floor**2).all()
    assert float(Mixture(u, u, standard.floor, 0).log_px(u).max()) <= -np.log(2 * np.pi) - np.log(standard.floor).sum()


def test_the_floor_and_the_scale_are_those_of_the_vae(fitted: Fitted) -> None:
    """Otherwise the densities could not be compared."""
    standard = Standard(fitted.train, fitted.vae.inputs)
    center, scale = moments(fitted.train, fitted.vae.inputs)
    np.testing.assert_array_equal(standard.scale, fitted.vae.scaling.scale.numpy())
    np.testing.assert_array_equal(standard.center, center)
    np.testing.assert_array_equal(standard.floor, np.exp(log_sigma_floor(fitted.train, fitted.vae.inputs, scale)))


def test_every_detector_sees_a_row_that_is_far_away() -> None:
    """Higher is more anomalous, for all six; values of any size are scored."""
    x = table(400)
    baselines = fit_baselines(x, table(100, 1), from_arrays("table", {"X": x}).inputs, 2)
    assert list(baselines.detectors) == list(NAMES)
    with np.errstate(over="ignore"):
        inside, outside = baselines.scores(table(100, 2)), baselines.scores(np.full((2, 5), 1e308))
    for name, scores in outside.items():
        assert np.isfinite(scores).all()
        assert (scores > inside[name].max()).all(), name


def test_large_data_are_thinned() -> None:
    """To 20,000 rows, fewer where rows are wide."""
    assert [most_rows(features) for features in (1, 100, 1000, 10**7)] == [20000, 20000, 10000, 100]
    x = np.random.default_rng(0).standard_normal((20100, 1))
    assert fit_baselines(x, x, table_inputs(["a"]), 1).rows == 20000


@pytest.mark.parametrize("x", [np.full((5, 2), 3.0), np.arange(3.0)[:, None], np.eye(4) * 1e30])
def test_the_smallest_data_have_baselines(x: Floats) -> None:
    """Constant columns only, one column, as many columns as rows, values of 1e30."""
    baselines = fit_baselines(x, x, from_arrays("x", {"X": x}).inputs, 3)
    assert all(bool(np.isfinite(scores).all()) for scores in baselines.scores(x).values())
    assert all(bool(np.isfinite(values).all()) for values in baselines.log_px(x).values())


def test_the_error_of_a_difference_of_two_aurocs_is_what_it_is() -> None:
    """DeLong's standard error is that of 600 repetitions, within 10 %."""
    generator = np.random.default_rng(0)

    def once() -> tuple[float, float]:
        normal, strange = generator.standard_normal((80, 2)), generator.standard_normal((60, 2))
        normal[:, 1] += normal[:, 0]
        strange[:, 1] += strange[:, 0] + 0.7
        strange[:, 0] += 1
        return auroc_difference((normal[:, 0], strange[:, 0]), (normal[:, 1], strange[:, 1]))

    found = np.array([once() for _ in range(600)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.1)


def test_rank_correlation_is_spearmans() -> None:
    """Ties included; a constant has none."""
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 5, (2, 50)).astype(float)
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert np.isnan(rank_correlation(a, np.zeros(50)))


def islands(count: int, seed: int) -> Floats:
    """Rows on 40 small islands of a 5-column grid: easy for a nearest neighbour, hard for anything smooth."""
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(0).uniform(-3, 3, (40, 5))
    x: Floats = centers[generator.integers(0, 40, count)] + 0.02 * generator.standard_normal((count, 5))
    return x


def test_a_nearest_neighbour_that_wins_is_named_in_a_sentence(fitted: Fitted, engine: Engine) -> None:
    """The set is planted: islands, and anomalies between them, that a barely fitted VAE cannot tell apart."""
    scale = fitted.train.std(axis=0) + (fitted.train.std(axis=0) == 0)
    uniform = np.random.default_rng(3).uniform(-3, 3, (100, 5))
    train, normal, anomalies = (
        fitted.train.mean(axis=0) + u * scale * [0.3, 0.3, 0.3, 1e-9, 0.3]
        for u in (islands(800, 1), islands(200, 2), uniform)
    )
    found: dict[str, Any] = evaluate(fitted.bundle, engine, normal, anomalies, 2, learned=(train, train[:100]))
    baselines = found["baselines"]
    assert (baselines["best"], baselines["against"]) == ("knn", LABELLED)
    assert baselines["ranking"]["nll"]["auroc"] == pytest.approx(found["auroc"]["nll"], abs=1e-4)
    vae, knn = (baselines["ranking"][name]["auroc"] for name in ("nll", "knn"))
    said = lines(found)[-1]
    assert said == f"kNN ranks these anomalies better than this VAE: AUROC {knn:.3f} against {vae:.3f}"


@pytest.mark.parametrize(
    ("lead", "error", "rows", "sentence"),
    [
        (
            0.03,
            0.02,
            10,
            "This VAE ranks these anomalies about as well as kNN, the best baseline: AUROC 0.930 and",
        ),
        (
            -0.05,
            0.02,
            10,
            "This VAE ranks these anomalies better than every baseline: AUROC 0.930 against 0.960 of",
        ),
        (0.03, 0.01, 10, "kNN ranks these anomalies better than this VAE: AUROC 0.960 against 0.930"),
        (
            0.03,
            0.01,
            9,
            "AUROC 0.930, and 0.960 of kNN, the best baseline; 9 rows on one side: too few to say",
        ),
    ],
)
def test_a_win_is_claimed_beyond_two_standard_errors_only(lead: float, error: float, rows: int, sentence: str) -> None:
    """Nothing is said that the rows do not show."""
    ranking = {"nll": {"auroc": 0.93}, "knn": {"auroc": 0.96}}
    told = {"kind": "nll", "best": "knn", "against": LABELLED, "normal_rows": 500, "anomalous_rows": rows}
    found = {"ranking": ranking, "lead": lead, "lead_error": error, **told}
    assert verdict(found).startswith(sentence)


def test_without_labels_shuffled_rows_stand_in(fitted: Fitted, engine: Engine) -> None:
    """Each column keeps its values and loses its company; the sentence says that it is a stand-in."""
    mixed = shuffled(fitted.test, 0).astype(np.float64)
    np.testing.assert_array_equal(np.sort(mixed, axis=0), np.sort(fitted.test, axis=0))
    assert (
        abs(rank_correlation(mixed[:, 0], mixed[:, 1])) < 0.3 < rank_correlation(fitted.test[:, 0], fitted.test[:, 1])
    )
    found: dict[str, Any] = contest(fitted.bundle, engine, fitted.test, None, fitted.train, fitted.test)
    assert found["against"] == STAND_IN
    assert "a stand-in for anomalies, none labelled" in verdict(found)
    assert set(found["log_px"]) == {"ppca", "gmm"}


def test_a_score_that_is_a_norm_is_called_one() -> None:
    """From a rank correlation of 0.99 on, and not below."""
    assert norm_alarm({"norm_rank_correlation": 0.98}) is None
    assert norm_alarm({"norm_rank_correlation": None}) is None
    assert str(norm_alarm({"norm_rank_correlation": 0.995})).startswith("This VAE is a norm")


def test_the_baselines_are_those_of_the_fit_or_missing(fitted: Fitted, engine: Engine) -> None:
    """On other data there are no training rows, and the table says so."""
    assert evaluate(fitted.bundle, engine, fitted.test, draws=2)["baselines"] == {
        "missing": "the rows that the bundle was fitted to are not at hand"
    }
    assert "no baselines: the rows" in lines(evaluate(fitted.bundle, engine, fitted.test, draws=2))[-1]


def test_a_bundle_without_calibration_is_ranked_with_draws_of_its_own(fitted: Fitted, engine: Engine) -> None:
    """By seed: twice the same."""
    plain = fitted.bundle.manifest.model_copy(update={"calibrated": ()})
    bundle = Bundle(**{**fitted.bundle.__dict__, "manifest": plain, "eps": fitted.bundle.eps[:0]})
    found = [contest(bundle, engine, fitted.test, None, fitted.train, fitted.test, 3) for _ in range(2)]
    assert found[0] == found[1]


def test_evaluation_needs_no_torch() -> None:
    """Nor do calibration and the report."""
    code = "import sys, training.steps.evaluate, training.steps.calibrate; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


def test_a_seed_of_more_than_32_bits_is_taken() -> None:
    """scikit-learn takes none; a fit that has one must not fail after all its epochs."""
    x = table(60, 0)
    assert fit_baselines(x, x, from_arrays("table", {"X": x}).inputs, 2, seed=2**40 + 1).rows == 60
