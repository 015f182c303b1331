"""Counts: probabilities that add to one and are scipy's, from no event to millions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from torch import Tensor

from tests.training.exported import Floats, sobol
from tests.training.test_likelihoods_levels import rows_of
from training.likelihoods.count import NegativeBinomial, Poisson
from training.likelihoods.count_quantiles import gamma_draw
from training.likelihoods.likelihood import Likelihood

SHAPES = (0.05, 0.5, 3.0, 40.0, 20_000.0)
RATES = (math.exp(-30), 1e-3, 0.02, 0.3, 1.0, 4.0, 20.0, 300.0, 1e4, math.exp(14.9))


def negative_binomial(*shapes: float) -> NegativeBinomial:
    """Features of these shapes."""
    likelihood = NegativeBinomial(len(shapes))
    with torch.no_grad():
        likelihood.raw_log_shape.copy_(4 + 8 * torch.atanh((torch.tensor(shapes).double().log() - 4) / 8))
    return likelihood


def parameter(rate: float) -> float:
    """The theta of a rate."""
    return 40 * math.atanh(math.log(rate) / 40)


def scipys(rate: float, shape: float | None) -> stats.rv_discrete:
    """A frozen distribution; *shape* None: Poisson."""
    return stats.poisson(rate) if shape is None else stats.nbinom(shape, shape / (shape + rate))


def values_near(distribution: stats.rv_discrete) -> np.ndarray:
    """Counts from the body and the tails, none in either direction beyond 2^24."""
    body = distribution.ppf([1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 1e-6])
    return np.unique(np.concatenate([[0, 1, 2, 5, 1e3, 1e6], body])).clip(0, 2**24)


def log_pmf(x: Floats, rate: float, shape: float | None) -> Floats:
    """By its definition, in float64; scipy's own loses a mean of 1e-13 in 1 - p."""
    found: Floats = x * math.log(rate) - rate - special.gammaln(x + 1)
    if shape is not None:
        constant = special.gammaln(x + shape) - special.gammaln(shape) - special.gammaln(x + 1)
        found = constant - shape * np.log1p(rate / shape) - x * np.log1p(shape / rate)
    return found


@pytest.mark.parametrize("shape", [None, *SHAPES])
@pytest.mark.parametrize("rate", RATES)
def test_the_log_probability_is_that_of_scipy(rate: float, shape: float | None) -> None:
    """Near the mean and far from it: to 1e-5 of itself and 0.003 nats in float32, although x log x may be 1e8."""
    likelihood: Likelihood = Poisson(1) if shape is None else negative_binomial(shape)
    theta = torch.tensor([[parameter(rate)]])
    exact_rate = float(theta.double().div(40).tanh().mul(40).exp())
    exact_shape = None if shape is None else float(_shape(likelihood))
    x = values_near(scipys(rate, shape)).round()
    exact = log_pmf(x, exact_rate, exact_shape)
    got = likelihood.log_prob(theta, torch.from_numpy(x).float().unsqueeze(1)).detach().double().squeeze(1).numpy()
    rounding = 3e-6 * np.abs(x - rate)  # what the last digit of the log rate decides
    assert (np.abs(got - exact) <= 3e-3 + 1e-5 * np.abs(exact) + rounding).all(), (x, got, exact)
    if rate > 1e-3:
        np.testing.assert_allclose(exact, scipys(exact_rate, exact_shape).logpmf(x), rtol=1e-6, atol=1e-6)


def _shape(likelihood: Likelihood) -> Tensor:
    assert isinstance(likelihood, NegativeBinomial)
    return (4 + 8 * torch.tanh((likelihood.raw_log_shape.detach().double() - 4) / 8)).exp()


@given(st.floats(-9, 5), st.floats(-2, 6))
def test_counts_add_to_one(log_rate: float, log_shape: float) -> None:
    """Summed up to where nothing is left."""
    for likelihood, shape in ((Poisson(1), None), (negative_binomial(math.exp(log_shape)), math.exp(log_shape))):
        most = int(scipys(math.exp(log_rate), shape).isf(1e-9)) + 10
        theta = torch.tensor([[parameter(math.exp(log_rate))]])
        total = likelihood.log_prob(theta, torch.arange(float(most)).unsqueeze(1)).detach().double().exp().sum()
        assert float(total) == pytest.approx(1, abs=1e-4)


def tails(rate: float, shape: float | None) -> tuple[float, float, float, float]:
    """P(X < lower), P(X <= lower), P(X < upper) and P(X <= upper) of the interval that is predicted."""
    likelihood: Likelihood = Poisson(1) if shape is None else negative_binomial(shape)
    with torch.no_grad():
        mean, lower, upper = (float(part) for part in likelihood.predict(torch.tensor([[parameter(rate)]])))
    assert mean == pytest.approx(rate, rel=1e-4)
    assert lower == round(lower) >= 0
    assert upper == round(upper)
    distribution = scipys(rate, shape)
    below, at, under, up_to = (float(distribution.cdf(x)) for x in (lower - 1, lower, upper - 1, upper))
    return below, at, under, up_to


@pytest.mark.parametrize("shape", [None, 0.05, 0.3, 0.5, 3.0, 40.0, 20_000.0])
def test_an_interval_of_counts_has_its_share_on_either_side(shape: float | None) -> None:
    """The quantiles are those of the true distribution at shares within 0.004 of 2.5 % and 97.5 %."""
    for rate in (*RATES, *np.geomspace(0.01, 100, 60)):
        below, at, under, up_to = tails(float(rate), shape)
        assert below < 0.025 + 0.004, rate
        assert at >= 0.025 - 0.004, rate
        assert under < 0.975 + 0.004, rate
        assert up_to >= 0.975 - 0.004, rate


def test_a_mixture_of_counts_has_its_mean_and_about_its_interval() -> None:
    """Three draws that differ by their own spread: the mean is exact, the tails within 0.01 of 2.5 %."""
    for shape in (None, 3.0, 40.0):
        likelihood: Likelihood = Poisson(1) if shape is None else negative_binomial(shape)
        rates, weights = np.array([16.0, 20.0, 25.0]), torch.tensor([[0.25, 0.5, 0.25]])
        theta = torch.tensor([[parameter(rate)] for rate in rates]).unsqueeze(0)
        with torch.no_grad():
            mean, lower, upper = (float(part) for part in likelihood.predict_mixture(theta, weights))
        assert mean == pytest.approx(20.25, rel=1e-4)
        mixed = [
            float(sum(w * scipys(rate, shape).cdf(x) for rate, w in zip(rates, weights[0].tolist(), strict=True)))
            for x in (lower - 1, lower, upper - 1, upper)
        ]
        assert mixed[0] < 0.035
        assert mixed[1] > 0.015
        assert mixed[2] < 0.985
        assert mixed[3] > 0.965


@given(st.floats(-300, 300), st.floats(-300, 300), st.floats(0, 1), st.floats(-80, 80))
def test_a_mixture_of_any_counts_is_finite(first: float, second: float, weight: float, raw_log_shape: float) -> None:
    """Also where one draw has a rate of e^40 and no weight: its square is infinite, and 0 times that is not 0."""
    weights = torch.tensor([[weight, 1 - weight]])
    for likelihood in (Poisson(1), NegativeBinomial(1)):
        with torch.no_grad():
            for parameter in likelihood.parameters():
                parameter.fill_(raw_log_shape)
            answers = likelihood.predict_mixture(torch.tensor([[[first], [second]]]), weights)
        assert all(bool(answer.isfinite()) for answer in answers)
        assert float(answers[1]) <= float(answers[2])


@pytest.mark.parametrize("shape", [None, 0.3, 3.0, 200.0])
@pytest.mark.parametrize("rate", [0.05, 2.0, 11.9, 12.1, 500.0])
def test_counts_are_drawn_as_often_as_they_are_probable(rate: float, shape: float | None) -> None:
    """A chi-square test on 16,384 points that fill the cube, in twenty cells of about equal share."""
    likelihood: Likelihood = Poisson(1) if shape is None else negative_binomial(shape)
    points = sobol(likelihood, 2**14)
    with torch.no_grad():
        drawn = likelihood.draw(torch.full((2**14, 1), parameter(rate)), points).squeeze(1).double().numpy()
    distribution = scipys(rate, shape)
    edges = np.unique(distribution.ppf(np.linspace(0.05, 0.95, 19)))
    expected = np.diff(np.concatenate([[0], distribution.cdf(edges), [1]]))
    seen = np.bincount(np.searchsorted(edges, drawn), minlength=len(expected))
    kept = expected > 1e-4
    chi_square = float((np.square(seen - expected * 2**14) / (expected * 2**14))[kept].sum())
    assert stats.chi2.sf(chi_square, kept.sum() - 1 or 1) > 0.01, (seen, expected * 2**14)
    assert drawn.mean() == pytest.approx(rate, rel=0.05)


def test_counts_begin_with_the_mean_and_the_spread_of_the_rows() -> None:
    """The shape by moments; a column without events begins rare, not impossible."""
    generator = np.random.default_rng(0)
    v = np.stack([generator.negative_binomial(3, 3 / 13, 20_000), np.zeros(20_000), generator.poisson(4, 20_000)], 1)
    likelihood = NegativeBinomial(3)
    with torch.no_grad():
        bias, fixed = likelihood.adapt(rows_of(torch.from_numpy(v).float()))
        mean, _, _ = likelihood.predict(bias.unsqueeze(0))
    np.testing.assert_allclose(mean[0].numpy(), [10, 1e-3, 4], rtol=0.05)
    assert float(likelihood.log_shape().detach().exp()[0]) == pytest.approx(3, rel=0.1)
    assert float(likelihood.log_shape().detach().exp()[2]) > 100
    assert not fixed.any()


def test_a_count_is_whole_and_at_most_what_float32_counts_to() -> None:
    """The manifest says so, for the service."""
    for likelihood in (Poisson(1), NegativeBinomial(1)):
        (entry,) = likelihood.described(("events",))
        assert (entry.columns, entry.support, entry.low, entry.high) == (("events",), "count", 0, 2**24)


@pytest.mark.parametrize("shape", [0.05, 0.5, 3.0, 100.0])
def test_the_rate_of_a_negative_binomial_is_drawn_from_its_gamma_distribution(shape: float) -> None:
    """Kolmogorov-Smirnov distances of 16,384 even points: of the raised shape alone, and with the eight factors."""
    log_shape, points = torch.tensor([math.log(shape)]), sobol(NegativeBinomial(1), 2**14)[:, 3:]
    raised = torch.cat([points[:, :2], torch.zeros_like(points[:, 2:])], dim=1)
    for u, truth, most in ((raised, shape + 8, 2e-3), (points, shape, 8e-3)):
        drawn = gamma_draw(log_shape, u).double().exp().squeeze(1).numpy()
        assert stats.kstest(drawn, stats.gamma(truth, scale=1 / shape).cdf).statistic < most
