"""The statistics of reference rows: what they are, and why they are of other rows than the calibration rows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.covariance import LedoitWolf

from service.engine import Engine
from service.reference import COVARIANCE, LEVELS, MEAN, PARTS, Reference
from service.scores import SCORE_OUTPUTS
from tests.training.itself import ITSELF, inputs_of
from tests.training.small import Fitted, gappy_inputs, gaps, table
from training.absent import usual
from training.calibrate import calibrate
from training.reference import FLOOR_LATENT, FLOOR_NATS, FLOOR_RANK, MOST_ROWS, reference_of
from training.scorer import outputs_of, run_scorer

Array = NDArray[np.generic]
Floats = NDArray[np.float64]


def of_itself(x: Floats) -> dict[str, Array]:
    """The statistics of rows that are their own encodings, with one draw."""
    return reference_of(ITSELF, inputs_of(x.shape[1]), np.zeros((1, x.shape[1]), np.float32), x, (1,))


def test_the_statistics_are_those_of_the_reference_rows(fitted: Fitted, engine: Engine) -> None:
    """Mean and shrunken covariance of the encodings, the mean of the usual nll, the quantiles of the parts of fused."""
    rows, eps = table(300, 7), fitted.bundle.eps
    found = reference_of(engine, fitted.vae.inputs, eps, rows, (1, 16))
    mu = engine.run("encoder", {"x": rows})["mu"].astype(np.float64)
    np.testing.assert_allclose(found[MEAN].astype(np.float64), mu.mean(axis=0), rtol=1e-5, atol=1e-6)
    shrunk = LedoitWolf().fit(mu).covariance_ + FLOOR_LATENT**2 * np.eye(3)
    np.testing.assert_allclose(found[COVARIANCE].astype(np.float64), shrunk, rtol=1e-4, atol=1e-6)
    for k in (1, 16):
        known = Reference.of(found, k, 0)
        outputs = run_scorer(engine, fitted.vae.inputs, rows, eps[:k], outputs_of(SCORE_OUTPUTS))
        assert known.typical == pytest.approx(usual(known.score("nll", outputs, None)[0]).mean())
        assert known.fusion is not None
        for p, part in enumerate(PARTS["fused"]):
            widened = np.quantile(known.score(part, outputs, None)[0], LEVELS) + FLOOR_NATS * stats.norm.ppf(LEVELS)
            np.testing.assert_allclose(known.fusion.knots[:, p], widened, rtol=1e-6)
        assert known.typical != Reference.of(found, 17 - k, 0).typical


def test_the_normal_ranks_of_reference_rows_are_normal_and_so_is_their_covariance() -> None:
    """Whatever the scores are spread like, each rank is N(0, 1); together they correlate as Spearman's ranks do."""
    x = np.random.default_rng(0).normal(size=(2000, 3)) * [1, 0.5, 2]
    known = Reference.of(of_itself(x), 1, 0)
    outputs = run_scorer(ITSELF, inputs_of(3), x, np.zeros((1, 3), np.float32), outputs_of(SCORE_OUTPUTS))
    parts = np.stack([known.score(part, outputs, None)[0] for part in PARTS["fused"]], axis=1)
    assert known.fusion is not None
    t = known.fusion.ranked(parts)
    for p in range(3):
        inside = np.abs(t[:, p]) < 2.3
        assert stats.kstest(t[inside, p], stats.truncnorm(-2.3, 2.3).cdf).pvalue > 0.01
    np.testing.assert_allclose(np.diag(known.fusion.covariance), 1 + FLOOR_RANK**2, atol=0.01)
    rho = stats.spearmanr(parts[:, 0], parts[:, 2]).statistic
    assert known.fusion.covariance[0, 2] == pytest.approx(2 * np.sin(np.pi * rho / 6), abs=0.05)


@pytest.mark.parametrize("kind", ["latent", "typicality", "fused"])
def test_false_alarms_hold_for_statistics_of_other_rows(kind: str) -> None:
    """Of 200 splits, 50 calibration rows of 12 latents, 40 reference rows: 4 in 51 are flagged, on average."""
    assert rate(kind, apart=True) == pytest.approx(4 / 51, abs=0.015)


def test_false_alarms_do_not_hold_for_statistics_of_the_calibration_rows() -> None:
    """These are nearer to their own mean, by their own covariance, than any other row: twice as many are flagged."""
    assert rate("latent", apart=False) > 1.6 * 4 / 51


def rate(kind: str, *, apart: bool) -> float:
    """How many of the rows to come are flagged at 0.08, on average; *apart*: with reference rows of their own."""
    generator, flagged = np.random.default_rng(1), []
    for _ in range(200):
        like, rows, test = (generator.normal(size=(n, 12)) * np.logspace(-1, 1, 12) for n in (40, 50, 50))
        known = of_itself(like if apart else rows)
        eps = np.zeros((1, 12), np.float32)
        found = calibrate(ITSELF, inputs_of(12), eps, rows, 1, (1,), reference=known)
        outputs = run_scorer(ITSELF, inputs_of(12), test, eps, SCORE_OUTPUTS[kind])
        scores = Reference.of(known, 1, 0).score(kind, outputs, None)[0]
        limit = np.asarray(found.arrays[f"scores/{kind}/1/all/0"], np.float64)[46]  # of 50, the fourth from above
        flagged.append(float((scores > limit).mean()))
    return float(np.mean(flagged))


def test_latents_that_do_not_vary_are_not_told_apart_by_rounding() -> None:
    """A collapsed latent's mean is 0 up to rounding: a thousandth of the prior's deviation is hardly a distance."""
    x = np.random.default_rng(2).normal(size=(500, 2)) * [1, 1e-6]
    known = Reference.of(of_itself(x), 1, 0)
    assert known.encodings is not None
    far = known.encodings.distance(np.array([[0.0, 1e-3], [3.0, 0.0]]))
    assert far[0] < 0.01
    assert far[1] > 3
    still = Reference.of(of_itself(np.zeros((30, 2))), 1, 0)
    outputs = run_scorer(ITSELF, inputs_of(2), x, np.zeros((1, 2), np.float32), outputs_of(SCORE_OUTPUTS))
    for kind in SCORE_OUTPUTS:
        assert np.isfinite(still.score(kind, outputs, None)[0]).all()


def test_of_many_reference_rows_some_are_taken(fitted: Fitted) -> None:
    """2,000 settle a mean and a hundred quantiles; validation may have ten times as many."""
    x = np.random.default_rng(3).normal(size=(MOST_ROWS + 500, 2))
    assert not np.array_equal(of_itself(x)[MEAN], x.astype(np.float32).mean(axis=0))
    assert abs(np.asarray(of_itself(x)[MEAN], np.float64)).max() < 0.1


def test_a_bin_that_all_reference_rows_lack_more_than_has_the_statistics_of_the_next(gappy: Fitted) -> None:
    """There is no complete row to measure a complete one by; what features add is that of the model."""
    rows = gaps(table(150, 4), 0.1, 4)
    rows[:, 0] = np.nan
    engine, ends = Engine(gappy.bundle.graphs, threads=1), gappy.bundle.manifest.mask_bins
    found = reference_of(engine, gappy_inputs(5), gappy.bundle.eps, rows, (16,), ends)
    assert np.array_equal(found["reference/typicality/16/0"], found["reference/typicality/16/1"])
    assert {f"reference/fused/16/{bin_}/knots" for bin_ in range(4)} < set(found)
    assert not reference_of(engine, gappy_inputs(5), gappy.bundle.eps, rows[:0], (16,), ends)


def test_what_is_usual_is_left_as_it_is_and_no_row_has_the_say() -> None:
    """Within 10 nats, or 3 standard deviations if these are more, of the median; what is further is brought there."""
    narrow = np.array([0.0, 0.0, 0.0, 0.0, 9.0, -9.0, 1e30])
    np.testing.assert_array_equal(usual(narrow), [0, 0, 0, 0, 9, -9, 10])
    wide = np.append(np.random.default_rng(0).normal(50, 20, 10_000), [1e9, -1e9])
    assert usual(wide)[-2:] == pytest.approx([110, -10], abs=3)
    assert usual(wide).mean() == pytest.approx(50, abs=1)
