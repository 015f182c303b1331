"""Categories and ordered levels: probabilities that add to one, levels that are drawn and predicted as often."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from torch import Tensor

from tests.training.exported import sobol
from training.likelihoods.categorical import Categorical
from training.likelihoods.likelihood import Likelihood, Rows
from training.likelihoods.ordinal import Ordinal

LEVELS = (2, 5, 3)


def rows_of(v: Tensor) -> Rows:
    """Rows in which everything was observed."""
    ones = torch.ones(v.shape[1])
    return Rows(v, torch.ones_like(v, dtype=torch.bool), v.amin(dim=0) == v.amax(dim=0), ones, ones.log())


def ordinal() -> Ordinal:
    """Cut points of different steps."""
    likelihood = Ordinal(LEVELS)
    with torch.no_grad():
        likelihood.first_cut.copy_(torch.tensor([[0.5], [-2.0], [-1.0]]))
        likelihood.raw_steps.copy_(torch.tensor([[0.0, 0, 0], [0.0, 1.0, -5.0], [2.0, 0, 0]]))
    return likelihood


def probabilities(likelihood: Likelihood, theta: Tensor, feature: int, levels: int) -> np.ndarray:
    """Of each level of one feature."""
    v = torch.zeros(levels, likelihood.features)
    v[:, feature] = torch.arange(float(levels))
    return likelihood.log_prob(theta.expand(levels, -1), v)[:, feature].exp().detach().double().numpy()


@given(st.lists(st.floats(-80, 80), min_size=15, max_size=15))
def test_the_categorical_adds_to_one_and_is_the_softmax(logits: list[float]) -> None:
    """Of the logits of its own levels: what pads a feature with fewer levels counts for nothing."""
    theta = torch.tensor([logits])
    for feature, levels in enumerate(LEVELS):
        got = probabilities(Categorical(LEVELS), theta, feature, levels)
        own = np.array(logits, np.float32)[feature * 5 : feature * 5 + levels].astype(np.float64)
        np.testing.assert_allclose(got, special.softmax(own), atol=1e-6)
        assert got.sum() == pytest.approx(1, abs=1e-6)


@given(st.floats(-80, 80))
def test_the_ordinal_adds_to_one_and_is_a_difference_of_cumulated_probabilities(location: float) -> None:
    """sigmoid(c_k - theta) - sigmoid(c_(k - 1) - theta), with increasing cut points."""
    likelihood = ordinal()
    cuts = likelihood.cut_points().detach().double().numpy()
    theta = torch.full((1, 3), location)
    for feature, levels in enumerate(LEVELS):
        got = probabilities(likelihood, theta, feature, levels)
        own = np.concatenate([[-np.inf], cuts[feature, : levels - 1], [np.inf]])
        assert (np.diff(own) > 0).all()
        centred = own - np.float64(np.float32(location))
        from_below, from_above = np.diff(special.expit(centred)), -np.diff(special.expit(-centred))
        np.testing.assert_allclose(got, np.where(centred[1:] < 0, from_below, from_above), rtol=1e-3, atol=1e-7)
        assert got.sum() == pytest.approx(1, abs=1e-6)


def test_a_rare_level_keeps_its_digits() -> None:
    """80 nats from its location an ordered level still has its logarithm, not that of 0."""
    likelihood = ordinal()
    log_prob = likelihood.log_prob(torch.full((1, 3), 80.0), torch.zeros(1, 3))
    cuts = likelihood.cut_points().detach()[:, 0]
    torch.testing.assert_close(log_prob.squeeze(0), cuts - 80.0)


@pytest.mark.parametrize("likelihood", [Categorical(LEVELS), ordinal()], ids=["categorical", "ordinal"])
def test_levels_are_drawn_as_often_as_they_are_probable(likelihood: Likelihood) -> None:
    """A chi-square test on 4,096 points that fill the cube."""
    theta = torch.linspace(-1.5, 1.5, likelihood.outputs).unsqueeze(0)
    drawn = likelihood.draw(theta.expand(4096, -1), sobol(likelihood, 4096)).detach()
    for feature, levels in enumerate(LEVELS):
        expected = probabilities(likelihood, theta, feature, levels)
        seen = np.bincount(drawn[:, feature].long().numpy(), minlength=levels)
        assert len(seen) == levels
        assert stats.chisquare(seen, expected / expected.sum() * 4096).pvalue > 0.5


def test_the_most_probable_category_is_predicted_also_of_a_mixture() -> None:
    """Of two draws that are torn between the first and the last, the middle one wins that both find likely."""
    likelihood = Categorical((3,))
    theta = torch.tensor([[0.5, 0.4, 0.1], [0.1, 0.4, 0.5]]).log()
    assert [answer.tolist() for answer in likelihood.predict(theta)] == [[[0.0], [2.0]]] * 3
    mixed = likelihood.predict_mixture(theta.unsqueeze(0), torch.tensor([[0.5, 0.5]]))
    assert [answer.tolist() for answer in mixed] == [[[1.0]]] * 3


@given(st.lists(st.floats(-9, 9), min_size=3, max_size=3), st.lists(st.floats(0.1, 1), min_size=3, max_size=3))
def test_the_levels_of_an_ordinal_are_its_quantiles_also_of_a_mixture(
    locations: list[float], weights: list[float]
) -> None:
    """The first levels with 2.5 %, 50 % and 97.5 % at or below them, counted out."""
    likelihood = ordinal()
    shares = torch.tensor([weights]) / sum(weights)
    theta = torch.tensor(locations).reshape(1, 3, 1).expand(1, 3, 3)
    median, lower, upper = likelihood.predict_mixture(theta, shares)
    for feature, levels in enumerate(LEVELS):
        each = [probabilities(likelihood, theta[:, k], feature, levels) for k in range(3)]
        below = np.cumsum(sum(float(w) * p for w, p in zip(shares[0], each, strict=True)))
        for answer, share in ((median, 0.5), (lower, 0.025), (upper, 0.975)):
            level = int(answer[0, feature])
            assert below[level] >= share - 1e-5
            assert level == 0 or below[level - 1] < share + 1e-5


@pytest.mark.parametrize("likelihood", [Categorical(LEVELS), Ordinal(LEVELS)], ids=["categorical", "ordinal"])
def test_levels_begin_with_the_frequencies_of_the_rows(likelihood: Likelihood) -> None:
    """And a level that was never seen is possible; missing values are not counted."""
    generator = np.random.default_rng(0)
    v = np.stack([generator.choice(k, 2000, p=np.linspace(1, k, k) / np.linspace(1, k, k).sum()) for k in LEVELS], 1)
    v[:, 2] = np.minimum(v[:, 2], 1)
    observed = torch.ones(2000, 3, dtype=torch.bool)
    observed[1000:, 1] = False
    rows = rows_of(torch.from_numpy(v).float())._replace(observed=observed)
    with torch.no_grad():
        bias, fixed = likelihood.adapt(rows)
    assert not fixed.any()
    for feature, levels in enumerate(LEVELS):
        seen = np.bincount(v[observed[:, feature].numpy(), feature], minlength=levels)
        got = probabilities(likelihood, bias.unsqueeze(0), feature, levels)
        np.testing.assert_allclose(got, (seen + 0.5) / (seen + 0.5).sum(), rtol=2e-3)


def test_ten_thousand_levels_are_a_column_as_any_other() -> None:
    """Probabilities add to one, each level can be drawn, and the last one is found."""
    likelihood = Categorical((10_000,))
    theta = torch.sin(torch.arange(10_000.0)).unsqueeze(0)
    v = torch.arange(10_000.0).unsqueeze(1)
    total = likelihood.log_prob(theta.unsqueeze(0).expand(10_000, 1, -1).squeeze(1), v).double().exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-4)
    cumulated = theta.double().softmax(dim=-1).cumsum(dim=-1)
    for u in (0.0, 0.3, 0.99999):
        drawn = likelihood.draw(theta, torch.full((1, 1, 1), u))
        assert abs(float(cumulated[0, int(drawn)]) - u) < 1e-3
    assert likelihood.predict(torch.nn.functional.one_hot(torch.tensor([9_999]), 10_000).float())[0].item() == 9_999


def test_the_manifest_names_the_last_index_of_each_column() -> None:
    """Columns with as many levels are one entry."""
    found = Categorical((3, 2, 3)).described(("a", "b", "c"))
    assert [(entry.columns, entry.support, entry.low, entry.high) for entry in found] == [
        (("b",), "index", 0, 1),
        (("a", "c"), "index", 0, 2),
    ]
    assert Ordinal((4,)).described(None)[0].high == 3
