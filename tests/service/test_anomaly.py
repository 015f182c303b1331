"""From the scorer's outputs to an answer: parts that sum, explanations that name, refusals that say what would do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from scipy import special, stats

from service import calibration
from service.anomaly import Anomaly, Plan
from service.bundle import Bundle, open_bundle
from service.engine import Engine
from service.errors import Unsupported
from service.scored import Scored
from service.scores import FEATURE_OUTPUTS, SCORE_OUTPUTS
from tests.bundles import make_older, table_rows
from training.output import write
from training.recalibrate import recalibrate

NAMES = ("speed", "pressure", "flow")
SPOIL = {"speed": 1600.0, "pressure": 8.0, "flow": 0.16}  # eight standard deviations
EXPLAINED, KINDS = tuple(FEATURE_OUTPUTS), tuple(SCORE_OUTPUTS)
Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Scorer:
    """One opened bundle, asked without batches."""

    bundle: Bundle
    engine: Engine
    anomaly: Anomaly

    @classmethod
    def open(cls, path: Path) -> Scorer:
        bundle = open_bundle(path)
        return cls(bundle, Engine.open(bundle, threads=1), Anomaly(bundle))

    def plan(self, **asked: Any) -> Plan:
        return self.anomaly.plan(**{"kind": None, "samples": None, "alpha": None, **asked})

    def score(self, x: Rows, **asked: Any) -> Scored:
        plan = self.plan(**asked)
        outputs = self.engine.run("scorer", {"x": x, "eps": self.bundle.eps[: plan.entry.samples]}, plan.outputs)
        return self.anomaly.judge(plan, x, outputs)


@pytest.fixture(scope="module")
def scorer(table_bundle: Path) -> Scorer:
    """The table bundle, calibrated on 200 rows for K = 1, 16 and 64."""
    return Scorer.open(table_bundle)


@pytest.fixture(scope="module")
def poor(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """The same bundle with 30 calibration rows: too few for alpha = 0.01, enough for 0.05."""
    few = recalibrate(scorer.bundle, 2, table_rows(30, seed=8), "0" * 64, threads=1)
    return Scorer.open(write(tmp_path_factory.mktemp("models") / "pumps", few))


@pytest.mark.parametrize("samples", [1, 16, 64])
@pytest.mark.parametrize("kind", EXPLAINED)
def test_the_parts_of_all_features_and_the_latent_part_sum_to_the_score(
    scorer: Scorer, kind: str, samples: int
) -> None:
    """Completeness, for usual rows and for spoilt ones: an explanation leaves nothing out and adds nothing."""
    x = np.concatenate([table_rows(20, seed=1), table_rows(20, seed=2) * 3])
    scored = scorer.score(x, kind=kind, samples=samples, explain=3, components=True)
    assert scored.explanations is not None
    assert scored.components is not None
    parts = np.array([sum(part.nats for part in row) for row in scored.explanations]) + scored.components.latent
    np.testing.assert_allclose(parts, scored.scores, rtol=1e-4, atol=1e-4 * np.sqrt(3))


def test_the_components_are_what_they_are_called(scorer: Scorer) -> None:
    """Reconstruction and KL are the scores of those names; together they are neg_elbo; they do not depend on kind."""
    x = table_rows(10, seed=3)
    by_kind = {kind: scorer.score(x, kind=kind, components=True) for kind in KINDS}
    for kind, scored in by_kind.items():
        parts = scored.components
        assert parts is not None, kind
        np.testing.assert_allclose(parts.reconstruction, by_kind["reconstruction"].scores, rtol=1e-6)
        np.testing.assert_allclose(parts.kl, by_kind["kl"].scores, rtol=1e-6)
        np.testing.assert_allclose(parts.reconstruction + parts.kl, by_kind["neg_elbo"].scores, rtol=1e-6)
    latent = {kind: scored.components.latent for kind, scored in by_kind.items() if scored.components is not None}
    assert not latent["reconstruction"].any()
    np.testing.assert_allclose(latent["neg_elbo"], by_kind["kl"].scores, rtol=1e-6)
    for kind in set(KINDS) - set(EXPLAINED):
        assert np.array_equal(latent[kind], by_kind[kind].scores), kind


@pytest.mark.parametrize("samples", [1, 16, 64])
def test_the_effective_samples_are_between_one_and_all(scorer: Scorer, samples: int) -> None:
    """Kish's number of draws that count; a row that q fits badly is down to about one."""
    x = np.concatenate([table_rows(30, seed=4), table_rows(30, seed=4) * 100])
    parts = scorer.score(x, samples=samples, components=True).components
    assert parts is not None
    effective = parts.effective_samples
    log_w = scorer.engine.run("scorer", {"x": x, "eps": scorer.bundle.eps[:samples]}, ["log_w"])["log_w"]
    weights = special.softmax(np.asarray(log_w, np.float64), axis=1)
    np.testing.assert_allclose(effective, 1 / np.square(weights).sum(axis=1), rtol=1e-3)
    assert (effective >= 1 - 1e-9).all()
    assert (effective <= samples + 1e-9).all()
    if samples > 1:
        assert np.median(effective[:30]) > 0.3 * samples
        assert np.median(effective[30:]) < 1.5


@pytest.mark.parametrize(("kind", "share"), [("nll", 0.95), ("neg_elbo", 0.6), ("reconstruction", 0.6)])
@pytest.mark.parametrize("spoilt", NAMES)
def test_the_explanation_names_the_column_that_was_spoilt(scorer: Scorer, kind: str, share: float, spoilt: str) -> None:
    """
    First in the list, with a small p-value, its own value, and an interval that excludes it.

    Weights as initialised: a mean over all draws smears one spoilt column over the others, so that *share* of the
    rows is asked for; by chance it would be a third.
    """
    column = NAMES.index(spoilt)
    x = table_rows(100, seed=5)
    x[:, column] += SPOIL[spoilt]
    scored = scorer.score(x, kind=kind, explain=1)
    assert scored.explanations is not None
    named = [(row, first) for row, (first,) in zip(x, scored.explanations, strict=True) if first.feature == spoilt]
    assert len(named) >= share * len(x)
    for row, first in named:
        assert first.p_value is not None
        assert 1 / 201 <= first.p_value < 0.1
        assert first.observed == row[column]
        assert first.interval is not None
        low, high = first.interval
        assert low < first.expected < high < first.observed


def test_explanations_are_ranked_by_p_value_and_then_by_nats(scorer: Scorer) -> None:
    """A feature that is noisy by nature has many nats every day; the rare part comes first."""
    scored = scorer.score(np.concatenate([table_rows(100, seed=6), 5 * table_rows(20, seed=6)]), explain=3)
    assert scored.explanations is not None
    ties = 0
    for row in scored.explanations:
        assert sorted(part.feature for part in row) == sorted(NAMES)
        order = [(part.p_value, -part.nats) for part in row]
        assert order == sorted(order)
        ties += len({part.p_value for part in row}) < 3
    assert ties, "without rows that tie in p, the second half of the rule was not tried"


def test_the_p_value_of_a_feature_is_counted_among_its_own_calibration_scores(scorer: Scorer) -> None:
    """Against the definition, on the scores that the bundle holds for that feature."""
    x = table_rows(30, seed=7)
    plan = scorer.plan(explain=3)
    nats = scorer.engine.run("scorer", {"x": x, "eps": scorer.bundle.eps[:16]}, ["feature_nll_iw"])["feature_nll_iw"]
    calibrated = np.asarray(scorer.bundle.calibration[plan.entry.features_key])
    explained = scorer.score(x, explain=3).explanations
    assert explained is not None
    for row, parts in enumerate(explained):
        for part in parts:
            column = NAMES.index(part.feature)
            assert part.p_value == (1 + (calibrated[:, column] >= nats[row, column]).sum()) / 201


@pytest.mark.parametrize("n", [1, 2, 3, 64])
def test_as_many_features_are_explained_as_were_asked_for_or_as_there_are(scorer: Scorer, n: int) -> None:
    """The first n of the same list."""
    x = table_rows(5, seed=8)
    some, everything = scorer.score(x, explain=n).explanations, scorer.score(x, explain=3).explanations
    assert some is not None
    assert everything is not None
    assert some == [row[:n] for row in everything]


@pytest.mark.parametrize("alpha", [0.005, 0.01, 0.05, 0.2, None])
def test_the_decision_is_the_p_value_against_alpha(scorer: Scorer, alpha: float | None) -> None:
    """By threshold or by p-value: one answer, with the interval of the rate that it really has."""
    x = np.concatenate([table_rows(200, seed=9), 1.3 * table_rows(50, seed=9)])
    plan, scored = scorer.plan(alpha=alpha), scorer.score(x, alpha=alpha)
    assert plan.alpha == (alpha or 0.01)
    assert scored.is_anomaly is not None
    assert plan.threshold is not None
    assert np.array_equal(scored.is_anomaly, scored.p_values <= plan.alpha)
    assert np.array_equal(scored.is_anomaly, scored.scores > plan.threshold)
    assert 0 < scored.is_anomaly.sum() < len(x)
    assert scored.rate == calibration.false_alarm_rate(200, plan.alpha)


def test_a_row_at_the_threshold_is_not_above_it(scorer: Scorer) -> None:
    """The calibration row that the threshold was read off is an ordinary row: its p-value is above alpha."""
    plan = scorer.plan(samples=1, alpha=0.05)
    assert plan.threshold is not None
    nll = np.array([plan.threshold, np.nextafter(plan.threshold, np.inf)])
    scored = scorer.anomaly.judge(plan, np.zeros((2, 3)), {"log_w": -nll[:, None]})
    assert scored.is_anomaly is not None
    assert scored.is_anomaly.tolist() == [False, True]
    assert (scored.p_values <= 0.05).tolist() == [False, True]


def test_rows_are_judged_by_the_calibration_of_their_own_kind_and_samples(scorer: Scorer) -> None:
    """A score with another K is another score, with other thresholds."""
    x = table_rows(20, seed=10)
    for entry in scorer.bundle.manifest.calibrated:
        scored = scorer.score(x, kind=entry.kind, samples=entry.samples)
        rows = np.asarray(scorer.bundle.calibration[entry.key], np.float64)
        assert np.array_equal(scored.p_values, calibration.p_values(rows, scored.scores))
        assert scorer.plan(kind=entry.kind, samples=entry.samples).threshold == calibration.threshold(rows, 0.01)
        listed = {t.alpha: t.threshold for t in entry.thresholds}
        assert scorer.plan(kind=entry.kind, samples=entry.samples, alpha=0.05).threshold == listed[0.05]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(EXPLAINED)))
def test_a_kind_without_parts_by_feature_cannot_be_explained(scorer: Scorer, kind: str) -> None:
    """The refusal names the kinds that can; without `explain` the kind is served."""
    told = rf"{kind} has no parts by feature; .* nll, neg_elbo, reconstruction"
    with pytest.raises(Unsupported, match=told) as refused:
        scorer.plan(kind=kind, explain=1)
    assert refused.value.facts["field"] == "explain"
    assert scorer.score(table_rows(3), kind=kind).explanations is None


def test_a_row_that_is_too_likely_is_untypical(scorer: Scorer) -> None:
    """
    What typicality and fused are for: nll sees nothing wrong with a row that is where no row is, in the middle.

    The mean of all columns is more probable than rows are, which are spread around it.
    """
    x = np.repeat(table_rows(4000, seed=13).mean(axis=0, keepdims=True), 2, axis=0)
    usual = table_rows(200, seed=14)
    p = {kind: scorer.score(x, kind=kind).p_values[0] for kind in ("nll", "typicality")}
    assert p["nll"] > 0.9
    rank = {kind: (scorer.score(usual, kind=kind).scores < scorer.score(x, kind=kind).scores[0]).mean() for kind in p}
    assert rank["typicality"] > rank["nll"] + 0.3


@pytest.mark.parametrize("samples", [2, 15, 17, 65, 10**9])
def test_samples_that_were_not_calibrated_are_refused_naming_those_that_were(scorer: Scorer, samples: int) -> None:
    """More draws are not a better score: nothing is known about how it is distributed."""
    with pytest.raises(Unsupported, match=rf"nll with {samples} samples .* nll with 1, 16, 64 samples") as refused:
        scorer.plan(samples=samples)
    assert (refused.value.facts["field"], refused.value.facts["value"]) == ("samples", samples)


@pytest.fixture
def older(own_bundle: Path) -> Scorer:
    """A bundle of before there were kinds that compare a row with reference rows."""
    make_older(own_bundle)
    return Scorer.open(own_bundle)


@pytest.mark.parametrize("kind", ["typicality", "latent", "fused"])
def test_a_kind_that_was_not_calibrated_is_refused_naming_those_that_were(
    scorer: Scorer, older: Scorer, kind: str
) -> None:
    """By the field that is at fault; the kinds that the bundle has are the same."""
    with pytest.raises(Unsupported, match=rf"{kind} with 16 .* neg_elbo with 1, 16, 64 samples") as refused:
        older.plan(kind=kind)
    x = table_rows(5)
    for served in (*EXPLAINED, "kl"):
        assert np.array_equal(older.score(x, kind=served).p_values, scorer.score(x, kind=served).p_values)
    assert (refused.value.facts["field"], refused.value.facts["value"]) == ("kind", kind)


@pytest.mark.parametrize(("alpha", "needed"), [(0.01, 99), (0.03, 33), (0.001, 999)])
def test_an_alpha_that_the_caller_named_and_the_rows_cannot_give_is_refused_with_the_n_it_needs(
    poor: Scorer, alpha: float, needed: int
) -> None:
    """No threshold is made up."""
    with pytest.raises(
        Unsupported, match=f"alpha {alpha} needs {needed} calibration rows; the bundle has 30"
    ) as refused:
        poor.plan(alpha=alpha)
    assert refused.value.facts["rows_needed"] == needed
    assert refused.value.facts["limit"] == 1 / 31


def test_the_smallest_alpha_that_is_told_is_the_smallest_that_works(poor: Scorer) -> None:
    """`limit` in the refusal can be used as it stands."""
    with pytest.raises(Unsupported) as refused:
        poor.plan(alpha=0.01)
    limit = refused.value.facts["limit"]
    assert isinstance(limit, float)
    assert poor.plan(alpha=limit).threshold == poor.bundle.calibration["scores/nll/16/all/0"][-1]


def test_a_default_alpha_that_the_rows_cannot_give_costs_the_decision_only(poor: Scorer) -> None:
    """Scores, p-values and explanations are still there; the reason says why the rest is null."""
    plan, scored = poor.plan(), poor.score(table_rows(5, seed=11), explain=2, components=True)
    assert plan.reason == "alpha 0.01 needs 99 calibration rows; the bundle has 30"
    assert (plan.threshold, scored.rate, scored.is_anomaly) == (None, None, None)
    assert np.isfinite(scored.scores).all()
    assert ((scored.p_values >= 1 / 31) & (scored.p_values <= 1)).all()
    assert scored.explanations is not None
    assert len(scored.explanations) == 5


def test_an_fdr_that_the_rows_cannot_give_is_refused_with_the_n_it_needs(poor: Scorer) -> None:
    """At 1/31 each, all rows of a request together are above it; nothing would ever be flagged, silently."""
    with pytest.raises(Unsupported, match=r"fdr 0.03 needs 33 calibration rows; the bundle has 30") as refused:
        poor.plan(fdr=0.03)
    facts = refused.value.facts
    assert (facts["field"], facts["value"], facts["rows_needed"], facts["limit"]) == ("fdr", 0.03, 33, 1 / 31)
    assert poor.plan(fdr=1 / 31).fdr == 1 / 31


def test_the_false_discovery_rate_is_one_of_all_rows_of_a_request(scorer: Scorer) -> None:
    """A row that alone is flagged at fdr is not among 200 usual ones; alpha and its decisions stay as they are."""
    x = np.concatenate([table_rows(200, seed=13), table_rows(1, seed=13) * [1, 5, 1]])
    plain, scored = scorer.score(x, alpha=0.05), scorer.score(x, alpha=0.05, fdr=0.1)
    assert plain.discoveries is None
    assert scored.discoveries is not None
    assert scored.is_anomaly is not None
    assert plain.is_anomaly is not None
    assert np.array_equal(scored.is_anomaly, plain.is_anomaly)
    np.testing.assert_allclose(scored.discoveries.adjusted, stats.false_discovery_control(scored.p_values))
    assert scored.discoveries.least == 10  # 10 rows at 1/201: 201 / 10 / 201 is 0.1
    assert not scored.discoveries.flagged.any()
    alone = scorer.score(x[-1:], fdr=0.1).discoveries
    assert alone is not None
    assert (alone.flagged.tolist(), alone.least) == ([True], 1)


def test_an_alpha_that_few_rows_can_give_is_decided(poor: Scorer) -> None:
    """30 rows are enough for 5 %, with a wide interval that says how little they tell."""
    scored = poor.score(table_rows(200, seed=12), alpha=0.05)
    assert scored.is_anomaly is not None
    assert scored.rate is not None
    assert scored.rate[1] - scored.rate[0] > 0.05


def test_no_rows_are_judged_as_none(scorer: Scorer) -> None:
    """Every row of a request may have been invalid: the answer is empty, not an error."""
    plan = scorer.plan(explain=2, components=True)
    scored = scorer.anomaly.judge(plan, np.zeros((0, 3)), {})
    assert (len(scored.scores), len(scored.p_values)) == (0, 0)
    assert scored.is_anomaly is not None
    assert len(scored.is_anomaly) == 0
    assert (scored.components, scored.explanations) == (None, None)


def test_only_what_was_asked_for_is_computed(scorer: Scorer) -> None:
    """The outputs that a plan takes from the scorer grow with the question, and none is named twice."""
    assert scorer.plan().outputs == ("log_w",)
    assert scorer.plan(kind="reconstruction").outputs == ("log_px_z",)
    assert scorer.plan(explain=1).outputs == ("log_w", "feature_nll_iw", "expected", "lower", "upper")
    assert scorer.plan(kind="fused").outputs == ("log_px_z", "kl", "mu")
    assert scorer.plan(maps=True).outputs == ("log_w", "feature_nll_iw", "expected")
    assert scorer.plan(components=True).outputs == ("log_w", "log_px_z", "kl", "latent_term")


def test_pixels_are_explained_by_their_place(image_bundle: Path) -> None:
    """An image has no column names; its features are "row,column"."""
    images = Scorer.open(image_bundle)
    x = np.zeros((1, 2, 3), np.float32)
    x[0, 1, 2] = 1
    plan = images.plan(explain=6)
    outputs = images.engine.run("scorer", {"x": x, "eps": images.bundle.eps[:16]}, plan.outputs)
    explained = images.anomaly.judge(plan, x, outputs).explanations
    assert explained is not None
    assert {part.feature: part.observed for part in explained[0]} == {
        **{f"{i},{j}": 0.0 for i in range(2) for j in range(3)},
        "1,2": 1.0,
    }


def test_a_map_is_of_scores_whose_parts_were_calibrated(image_bundle: Path) -> None:
    """Nothing else says how many nats are usual at a pixel; explanations are there without."""
    bundle = open_bundle(image_bundle)
    arrays = {name: array for name, array in bundle.calibration.items() if not name.startswith("features/nll/64/")}
    anomaly = Anomaly(replace(bundle, calibration=arrays))
    assert anomaly.plan(kind=None, samples=16, alpha=None, maps=True).maps
    with pytest.raises(Unsupported, match="no calibration by pixel of nll with 64 samples") as refused:
        anomaly.plan(kind=None, samples=64, alpha=None, maps=True)
    assert (refused.value.facts["field"], refused.value.facts["value"]) == ("samples", 64)
    assert anomaly.plan(kind=None, samples=64, alpha=None, explain=1).explain == 1


extreme = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [1e300, -1e308, 5e-324, -5e-324, 2.2e-308, 0.0, -0.0, 1.7976931348623157e308]
)


@settings(max_examples=200, deadline=None)
@given(x=npst.arrays(np.float64, st.tuples(st.integers(1, 4), st.just(3)), elements=extreme))
def test_every_finite_row_has_a_finite_score_whatever_its_size(scorer: Scorer, x: Rows) -> None:
    """Clamped in the graph, so that no row can be infinitely anomalous, or NaN; its parts are finite too."""
    for kind in KINDS:
        scored = scorer.score(x, kind=kind, explain=3 if kind in EXPLAINED else 0, components=True)
        assert np.isfinite(scored.scores).all()
        assert ((scored.p_values >= 1 / 201) & (scored.p_values <= 1)).all()
        parts = scored.components
        assert parts is not None
        for values in (parts.reconstruction, parts.kl, parts.latent, parts.effective_samples):
            assert np.isfinite(values).all()
        for row in scored.explanations or []:
            assert np.isfinite([[part.nats, part.expected, *(part.interval or [math.nan])] for part in row]).all()
