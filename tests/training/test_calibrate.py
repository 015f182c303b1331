"""Calibration and evaluation: which rows they see, and that what they promise is so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from service.bundle import open_bundle
from service.calibration import feature_p_values, p_values, threshold
from service.engine import Engine
from service.ensemble import Ensemble
from service.reference import Fusion, Reference
from service.scores import FEATURE_OUTPUTS, PLAIN
from tests.bundles import make_older, table_rows
from tests.training.small import Fitted
from training.calibrate import KINDS, SAMPLES, TIED, calibrate, fused_at_most, observed_grid, raised
from training.evaluate import beta_binomial_interval, bounds, evaluate, latents
from training.objective import kl_per_latent
from training.ranking import auroc
from training.recalibrate import recalibrate
from training.scorer import scores_of
from training.table import lines


def test_the_calibration_scores_are_those_of_the_calibration_rows(fitted: Fitted, engine: Engine) -> None:
    """Exactly the rows that were kept for it, once each, for every kind and K; higher by what rounding leaves open."""
    bundle = fitted.bundle
    assert {(entry.kind, entry.samples) for entry in bundle.manifest.calibrated} == {
        (kind, k) for kind in KINDS for k in SAMPLES
    }
    for entry in bundle.manifest.calibrated:
        outputs = engine.run("scorer", {"x": fitted.calibration, "eps": bundle.eps[: entry.samples]})
        known = Reference.of(bundle.calibration, entry.samples, 0)
        scores, nll = (known.score(kind, outputs, None)[0] for kind in (entry.kind, "nll"))
        if entry.kind == "fused":
            scores = fused_at_most(Ensemble((known,)), outputs, None)
        scores += TIED * np.maximum(1, np.abs(nll if entry.kind == "typicality" else scores))
        np.testing.assert_allclose(bundle.calibration[entry.key].astype(np.float64), np.sort(scores), rtol=3e-6)
        for listed in entry.thresholds:
            assert listed.threshold == threshold(bundle.calibration[entry.key].astype(np.float64), listed.alpha)
        if entry.kind in FEATURE_OUTPUTS:
            assert bundle.calibration[entry.features_key].shape == (150, 5)


@given(
    patterns=st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=4),
    copies=st.integers(1, 30),
    off=st.lists(st.floats(-1, 1), min_size=30, max_size=30),
)
def test_rows_that_are_equal_are_ranked_as_equal(patterns: list[float], copies: int, off: list[float]) -> None:
    """However their scores were rounded when they calibrated, and when they are judged: never rarer than their like."""
    exact = np.repeat(patterns, copies)
    noise = 2e-6 * np.maximum(1, np.abs(exact)) * np.resize(off, len(exact))
    kept = np.sort(raised(exact + noise, exact))
    for pattern in patterns:
        for sign in (-1, 1):
            told = p_values(kept, np.array([pattern + sign * 2e-6 * max(1, abs(pattern))]))[0]
            assert told >= (1 + (exact >= pattern).sum()) / (len(exact) + 1)


@pytest.mark.parametrize("spread", [0.01, 1.0, 50.0])
def test_rows_that_are_equal_are_ranked_as_equal_by_fused_too(fitted: Fitted, engine: Engine, spread: float) -> None:
    """Whose parts are ranked first: where a part hardly differs among rows a rounding moves its rank far."""
    outputs = engine.run("scorer", {"x": fitted.calibration, "eps": fitted.bundle.eps[:16]})
    known = Reference.of(fitted.bundle.calibration, 16, 0)
    assert known.fusion is not None
    knots = known.fusion.knots.mean(axis=0) + spread * np.linspace(-1, 1, len(known.fusion.knots))[:, None]
    narrow = Ensemble((replace(known, fusion=Fusion(knots, known.fusion.covariance)),))
    least = fused_at_most(narrow, outputs, None)
    generator = np.random.default_rng(0)
    for _ in range(20):
        moved = {n: np.float64(a) * (1 + generator.uniform(-2e-6, 2e-6, a.shape)) for n, a in outputs.items()}
        assert (narrow.score("fused", moved, None)[0] <= least).all()
    assert (least < narrow.score("fused", outputs, None)[0] * 1.1 + 1).all()


@given(
    nats=arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=st.integers(-5, 5)),
    data=st.data(),
)
def test_a_feature_that_few_rows_had_is_ranked_among_those(nats: NDArray[np.float32], data: st.DataObject) -> None:
    """With g of m observed values as high: (1 + g) / (m + 1), or the next larger p that n rows have."""
    n = len(nats)
    mask = data.draw(arrays(np.bool_, nats.shape))
    p = feature_p_values(*observed_grid(nats, mask, 1000), n, np.arange(-6.0, 7)[:, None] + np.zeros(nats.shape[1]))
    for c in range(nats.shape[1]):
        own = nats[mask[:, c], c]
        exact = np.array([(1 + (own >= value).sum()) / (len(own) + 1) for value in range(-6, 7)])
        assert (p[:, c] >= exact - 1e-12).all()
        assert (p[:, c] < exact + 1 / (n + 1)).all()


def test_only_thresholds_that_the_rows_suffice_for_are_listed(fitted: Fitted) -> None:
    """150 rows are enough for alpha 0.01, not for 0.005."""
    entry = fitted.bundle.manifest.calibrated[0]
    assert [listed.alpha for listed in entry.thresholds] == [0.1, 0.05, 0.01]


def test_feature_scores_of_wide_data_are_thinned(engine: Engine, fitted: Fitted) -> None:
    """They weigh no more than their budget, and then exist for the default K only."""
    eps, rows = fitted.bundle.eps, fitted.calibration
    found = calibrate(engine, fitted.vae.inputs, eps, rows, default_samples=16, feature_bytes=3000)
    grids = {key: value for key, value in found.arrays.items() if key.startswith("features/") and value.ndim == 2}
    assert sum(value.nbytes for value in grids.values()) == 3000
    assert sorted(grids) == [f"features/{kind}/16/all/0" for kind in sorted(FEATURE_OUTPUTS)]


def test_recalibration_replaces_the_thresholds_and_keeps_the_model(fitted: Fitted) -> None:
    """New normals that lie further out raise the threshold; graphs and draws are the same bytes."""
    shifted = fitted.calibration + 4 * fitted.train.std(axis=0)
    made = recalibrate(fitted.bundle, 2, shifted, "1" * 64, threads=1)
    assert made.manifest.version == 2
    assert made.graphs == fitted.bundle.graphs
    assert made.manifest.evaluation == {}
    for old, new in zip(fitted.bundle.manifest.calibrated, made.manifest.calibrated, strict=True):
        assert new.key == old.key
        if new.kind not in ("kl", "latent"):
            assert new.thresholds[0].threshold > old.thresholds[0].threshold
    kept = [name for name in fitted.bundle.calibration if name.startswith("reference/")]
    assert len(kept) == 2 + 3 * len(SAMPLES)
    for name in kept:
        assert np.array_equal(made.calibration[name], fitted.bundle.calibration[name])


def test_an_older_bundle_keeps_the_kinds_that_it_has_when_it_is_calibrated_again(own_bundle: Path) -> None:
    """Its scorer has no mu, and it has no statistics: it is not given other ones of the new rows."""
    make_older(own_bundle)
    made = recalibrate(open_bundle(own_bundle), 2, table_rows(120, 5), "1" * 64, threads=1)
    assert {entry.kind for entry in made.manifest.calibrated} == set(PLAIN)
    assert set(scores_of(made, Engine(made.graphs, threads=1), table_rows(9))) == set(PLAIN)


def test_the_error_of_the_draws_is_in_the_standard_error(fitted: Fitted, engine: Engine) -> None:
    """Equal rows do not all share their draws: the error of these would be in the mean, and not beside it."""
    rows = np.repeat(fitted.test[:1], 32, axis=0)
    found: dict[str, Any] = bounds(engine, fitted.vae.inputs, rows, 1)
    assert found["elbo"]["standard_error"] > 0


def test_the_bound_does_not_depend_on_the_chunks(fitted: Fitted, engine: Engine) -> None:
    """One draw at a time, or all 300 at once: the same bound, above the ELBO, whose parts add up."""
    one: dict[str, Any] = bounds(engine, fitted.vae.inputs, fitted.test, 300, at_once=1)
    whole: dict[str, Any] = bounds(engine, fitted.vae.inputs, fitted.test, 300, at_once=300)
    for key in ("elbo", "reconstruction", "kl", "log_px"):
        assert one[key] == pytest.approx(whole[key], rel=1e-5)
    assert whole["elbo"]["mean"] == pytest.approx(whole["reconstruction"]["mean"] - whole["kl"]["mean"])
    assert whole["elbo"]["mean"] < whole["log_px"]["mean"]


def test_latents_are_counted_active_by_the_variance_of_their_mean(fitted: Fitted, engine: Engine) -> None:
    """KL per latent and the number of active units are those of the encoder's outputs."""
    mu, logvar = (part.astype(np.float64) for part in engine.run("encoder", {"x": fitted.test}).values())
    found = latents(fitted.bundle, engine, fitted.test)
    assert found["active_units"] == (mu.var(axis=0) > 0.01).sum()
    expected = kl_per_latent(torch.from_numpy(mu), torch.from_numpy(logvar)).mean(dim=0)
    assert found["kl_per_latent"] == pytest.approx(expected.tolist(), abs=1e-4)


def test_an_evaluation_prints_every_figure(fitted: Fitted) -> None:
    """Bounds, latents, false alarms with their interval, and how well known anomalies are ranked."""
    evaluation = fitted.bundle.manifest.evaluation
    text = "\n".join(lines(evaluation))
    for word in ("ELBO", "KL", "bound of 64 draws", "active units", "alpha 0.01", "AUROC of nll", "150 labelled"):
        assert word in text
    assert isinstance(evaluation["auroc"], dict)
    assert evaluation["auroc"]["nll"] == 1


def test_an_evaluation_without_anomalies_has_no_auroc(fitted: Fitted, engine: Engine) -> None:
    """Nothing is made up where nothing is labelled."""
    assert "auroc" not in evaluate(fitted.bundle, engine, fitted.test, draws=2)


def test_auroc_is_that_of_scikit_learn() -> None:
    """Ties count half."""
    generator = np.random.default_rng(0)
    normal, anomalies = generator.integers(0, 9, 80).astype(float), generator.integers(3, 12, 30).astype(float)
    truth = np.repeat([0, 1], [80, 30])
    assert auroc(normal, anomalies) == pytest.approx(roc_auc_score(truth, np.concatenate([normal, anomalies])))


@pytest.mark.parametrize(("m", "a", "b"), [(100, 2, 149), (270, 13, 258), (5000, 50, 4951), (10, 1, 1)])
def test_the_beta_binomial_interval_is_that_of_scipy(m: int, a: int, b: int) -> None:
    """Quantiles by lgamma alone."""
    expected = stats.betabinom(m, a, b).ppf([0.05, 0.95])
    assert beta_binomial_interval(m, a, b) == tuple(expected)


def test_false_alarms_stay_inside_their_interval() -> None:
    """Of 400 splits of exchangeable scores, about 90 % lie inside the interval that the evaluation prints."""
    generator, inside = np.random.default_rng(0), 0
    for _ in range(400):
        scores = generator.standard_normal(500)
        limit = threshold(np.sort(scores[:300]), 0.05)
        assert limit is not None
        low, high = beta_binomial_interval(200, 15, 286)
        inside += low <= (scores[300:] > limit).sum() <= high
    assert 0.88 <= inside / 400 <= 0.97
