"""Continuous Bernoulli and discretised logistic: what lies between two ends."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats
from torch import Tensor

from tests.training.exported import Floats, sobol
from tests.training.test_likelihoods_levels import rows_of
from training.likelihoods.continuous_bernoulli import ContinuousBernoulli
from training.likelihoods.logistic import DiscretisedLogistic

LOGITS = (-80.0, -7.0, -1.001, -0.999, -0.2, -0.0499, 0.0, 1e-4, 0.0501, 0.6, 3.0, 30.0, 80.0)


def truth(eta: float) -> stats.rv_continuous:
    """The continuous Bernoulli as a truncated exponential of scipy's, on [0, 1]; mirrored for a positive logit."""
    return stats.truncexpon(abs(eta), scale=1 / abs(eta)) if abs(eta) > 1e-6 else stats.uniform()


def test_the_continuous_bernoulli_integrates_to_one_in_original_units() -> None:
    """Of pixels from 0 to 255: quadrature over the raw value, at every logit."""
    likelihood = ContinuousBernoulli(1, 0.0, 255.0).double()

    def density(x: float, eta: float) -> float:
        theta, v = (torch.tensor([[value]], dtype=torch.float64) for value in (eta, x / 255))
        return math.exp(float(likelihood.log_prob(theta, v)))

    for eta in LOGITS:
        ends = (0, 1, 20, 235, 254, 255)
        total = sum(integrate.quad(density, a, b, (eta,), epsabs=1e-9)[0] for a, b in itertools.pairwise(ends))
        assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("eta", LOGITS)
def test_the_continuous_bernoulli_is_a_truncated_exponential(eta: float) -> None:
    """Density, mean and quantiles, to 1e-5 in float32."""
    likelihood, x = ContinuousBernoulli(1, 0.0, 1.0), np.array([0.0, 1e-3, 0.4, 0.9, 1.0])
    real = 1000 * math.tanh(eta / 1000)
    mirrored = (1 - x).clip(0, 1) if eta > 0 else x
    got = likelihood.log_prob(torch.tensor([[eta]]), torch.from_numpy(x).float().unsqueeze(1)).squeeze(1)
    np.testing.assert_allclose(got.double().numpy(), truth(real).logpdf(mirrored * (1 - 1e-12)), atol=2e-5)
    mean, lower, upper = (float(part) for part in likelihood.predict(torch.tensor([[eta]])))
    ends = truth(real).ppf([0.025, 0.975])
    expected = (truth(real).mean(), *ends) if eta <= 0 else (1 - truth(real).mean(), 1 - ends[1], 1 - ends[0])
    np.testing.assert_allclose((mean, lower, upper), expected, atol=3e-6)


@given(st.floats(-60, 60))
def test_what_is_drawn_has_the_distribution_of_the_continuous_bernoulli(eta: float) -> None:
    """A Kolmogorov-Smirnov distance of 4,096 even points."""
    likelihood = ContinuousBernoulli(1, 0.0, 1.0)
    drawn = likelihood.draw(torch.full((4096, 1), eta), sobol(likelihood, 4096)).squeeze(1).double().numpy()
    real = 1000 * math.tanh(eta / 1000)
    assert stats.kstest(1 - drawn if eta > 0 else drawn, truth(real).cdf).statistic < 2e-3


def test_a_mixture_of_continuous_bernoullis_has_its_mean_and_about_its_interval() -> None:
    """Draws that agree and draws that do not: each tail is within 0.005 of 2.5 %."""
    likelihood, weights = ContinuousBernoulli(1, 0.0, 1.0), torch.tensor([[0.3, 0.4, 0.3]])
    for etas in ((-3.0, 0.0, 3.0), (-12.0, -8.0, -6.0), (20.0, 25.0, 30.0), (-30.0, 1.0, 30.0)):
        theta = torch.tensor(etas).reshape(1, 3, 1)
        mean, lower, upper = (float(part) for part in likelihood.predict_mixture(theta, weights))
        each = [float(likelihood.predict(theta[:, k])[0]) for k in range(3)]
        assert mean == pytest.approx(np.dot(weights[0].numpy(), each), abs=1e-6)
        grid = torch.linspace(0, 1, 100_001).unsqueeze(1)
        density = sum(float(w) * likelihood.log_prob(theta[:, k], grid).exp() for k, w in enumerate(weights[0]))
        assert isinstance(density, Tensor)
        below = density.double().cumsum(dim=0).squeeze(1) / 1e5
        assert float(below[round(lower * 1e5)]) == pytest.approx(0.025, abs=0.005)
        assert float(below[round(upper * 1e5)]) == pytest.approx(0.975, abs=0.005)


def test_a_continuous_bernoulli_begins_with_the_mean_of_the_rows() -> None:
    """Also where that is nearly 0 or 1."""
    v = torch.tensor([0.0, 0.02, 0.3, 0.5, 0.9, 1.0]).repeat(4, 1)
    likelihood = ContinuousBernoulli(6, 0.0, 1.0)
    bias, fixed = likelihood.adapt(rows_of(v))
    np.testing.assert_allclose(likelihood.predict(bias.unsqueeze(0))[0][0].numpy(), v[0].clamp(0.01, 0.99), atol=1e-5)
    assert not fixed.any()


def logistic(levels: int, *scales: float) -> DiscretisedLogistic:
    """Features of these scales, in levels."""
    likelihood = DiscretisedLogistic(len(scales), 0.0, levels - 1.0, levels)
    with torch.no_grad():
        likelihood.raw_log_sigma.copy_((torch.tensor(scales) / (levels - 1)).log())
    return likelihood


def masses(likelihood: DiscretisedLogistic, theta: float, feature: int = 0) -> Floats:
    """The probability of each level, by the logistic's distribution function: brute force in float64."""
    scale = float(likelihood.log_sigma()[feature].detach().double().exp()) * likelihood.last
    edges = (np.arange(likelihood.last) + 0.5 - float(np.float32(theta)) * likelihood.last) / scale
    edges = np.concatenate([[-np.inf], edges, [np.inf]])
    found: Floats = np.where(edges[1:] < 0, np.diff(special.expit(edges)), -np.diff(special.expit(-edges)))
    return found


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("scale", [0.01, 0.2, 0.5, 1.0, 5.0, 1000.0])
@pytest.mark.parametrize("theta", [-80.0, -0.2, 0.0, 0.31, 0.5, 0.999, 3.0])
def test_the_discretised_logistic_adds_to_one_and_is_the_difference_of_two_sigmoids(
    levels: int, scale: float, theta: float
) -> None:
    """Whatever the scale; the mean within 0.006 levels, the ends exactly the first levels with 2.5 % and 97.5 %."""
    likelihood = logistic(levels, scale)
    v = torch.linspace(0, 1, levels).unsqueeze(1)
    log_prob = likelihood.log_prob(torch.tensor([[theta]]), v).detach().double().squeeze(1).numpy()
    exact = masses(likelihood, theta)
    assert np.exp(log_prob).sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(np.exp(log_prob), exact, rtol=2e-3, atol=1e-6)
    mean, lower, upper = (float(part.detach()) * (levels - 1) for part in likelihood.predict(torch.tensor([[theta]])))
    assert mean == pytest.approx(float(exact @ np.arange(levels)), abs=0.006)
    below = np.cumsum(exact)
    for end, share in ((lower, 0.025), (upper, 0.975)):
        level = round(end)
        assert below[level] >= share - 1e-4
        assert level == 0 or below[level - 1] < share + 1e-4


def test_a_level_80_scales_away_keeps_its_digits() -> None:
    """The logarithm is about -80, and not that of a difference that is 0."""
    likelihood = logistic(256, 1.0)
    scale = float(likelihood.log_sigma().detach().exp()) * 255
    log_prob = float(likelihood.log_prob(torch.tensor([[0.0]]), torch.tensor([[80 / 255]])).detach())
    exact = -79.5 / scale + math.log(-math.expm1(-1 / scale))
    assert log_prob == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("scale", [0.01, 0.7, 20.0])
def test_levels_of_a_logistic_are_drawn_as_often_as_they_are_probable(scale: float) -> None:
    """A chi-square test on 4,096 points that fill the cube."""
    likelihood = logistic(17, scale)
    drawn = likelihood.draw(torch.full((4096, 1), 0.42), sobol(likelihood, 4096)).detach().squeeze(1) * 16
    ends = likelihood.draw(torch.full((2, 1), 0.42), torch.tensor([0.001, 0.999]).reshape(2, 1, 1)).detach()
    assert float(ends[0]) <= float(ends[1])
    expected = masses(likelihood, 0.42)
    seen = np.bincount(drawn.round().long().numpy(), minlength=17)
    often = expected > 1e-3
    assert seen[~often].sum() <= 4096 * expected[~often].sum() + 2
    chi_square = float((np.square(seen - expected * 4096) / (expected * 4096))[often].sum())
    assert stats.chi2.sf(chi_square, max(1, often.sum() - 1)) > 0.2


def test_a_mixture_of_logistics_has_its_mean_and_about_its_interval() -> None:
    """Locations that differ by less than the scale: each tail is within 0.01 of 2.5 %."""
    likelihood, weights = logistic(256, 6.0), torch.tensor([[0.3, 0.4, 0.3]])
    theta = torch.tensor([0.28, 0.32, 0.36]).reshape(1, 3, 1)
    mean, lower, upper = (float(part.detach()) * 255 for part in likelihood.predict_mixture(theta, weights))
    exact = sum(float(w) * masses(likelihood, float(theta[0, k, 0])) for k, w in enumerate(weights[0]))
    assert isinstance(exact, np.ndarray)
    assert mean == pytest.approx(float(exact @ np.arange(256)), abs=0.006)
    below = np.cumsum(exact)
    assert below[round(lower)] == pytest.approx(0.025, abs=0.01)  # 0.048 without what the locations add
    assert below[round(upper)] == pytest.approx(0.975, abs=0.01)


def test_a_logistic_begins_with_mean_and_spread_of_the_rows_and_knows_a_constant() -> None:
    """What never changes stays as it is, at the least scale."""
    v = np.random.default_rng(0).logistic(100, 8, (5000, 2)).round().clip(0, 255) / 255
    v[:, 1] = 3 / 255
    likelihood = DiscretisedLogistic(2, 0.0, 255.0, 256)
    with torch.no_grad():
        bias, fixed = likelihood.adapt(rows_of(torch.from_numpy(v).float()))
        mean, lower, upper = likelihood.predict(bias.unsqueeze(0))
    assert fixed.tolist() == [False, True]
    assert float(mean[0, 0]) * 255 == pytest.approx(100, abs=1)
    assert float(likelihood.log_sigma()[0].exp().detach()) * 255 == pytest.approx(8, rel=0.05)
    assert [round(float(part[0, 1]) * 255) for part in (mean, lower, upper)] == [3, 3, 3]


def test_the_ends_are_in_the_manifest() -> None:
    """With the number of levels."""
    (entry,) = ContinuousBernoulli(2, 0.0, 255.0).described(None)
    assert (entry.columns, entry.support, entry.low, entry.high) == (None, "interval", 0, 255)
    (entry,) = logistic(17, 1.0).described(None)
    assert (entry.support, entry.low, entry.high, entry.parameters["levels"]) == ("interval", 0, 16, 17)
