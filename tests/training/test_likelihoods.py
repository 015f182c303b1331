"""Each likelihood is a density, says so in original units, and predicts what it means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from training.likelihoods.bernoulli import Bernoulli
from training.likelihoods.gaussian import Gaussian

SCALES = torch.tensor([1.0, 3e4, 2e-5])


@pytest.fixture
def gaussian() -> Gaussian:
    """Three features with sigmas and units of different sizes."""
    likelihood = Gaussian(3)
    with torch.no_grad():
        likelihood.raw_log_sigma.copy_(torch.tensor([-2.0, 0.0, 1.5]))
        likelihood.log_scale.copy_(SCALES.log())
    return likelihood


def test_the_gaussian_integrates_to_one_in_original_units(gaussian: Gaussian) -> None:
    """Quadrature over the raw value, whatever its unit, gives 1 for each feature to 1e-4."""
    theta = torch.tensor([0.3, -1.0, 2.0])
    v = torch.linspace(-60, 60, 240_001).unsqueeze(1).expand(-1, 3)  # standardised
    density = gaussian.log_prob(theta, v).double().exp()
    raw = v.double() * SCALES.double()
    total = torch.trapezoid(density, raw, dim=0)
    torch.testing.assert_close(total, torch.ones(3, dtype=torch.float64), atol=1e-4, rtol=0)


def test_the_gaussian_is_that_of_scipy(gaussian: Gaussian) -> None:
    """The log density of a raw value is that of an independent implementation."""
    theta, v = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([[0.0, 4.0, -3.0]])
    scale = SCALES.numpy().astype(np.float64)
    sigma = gaussian.log_sigma().exp().detach().numpy() * scale
    expected = stats.norm(theta.numpy() * scale, sigma).logpdf(v.numpy() * scale)
    np.testing.assert_allclose(gaussian.log_prob(theta, v).detach().numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("logit", [-60.0, -18.5, -17.0, -0.3, 0.0, 2.0, 25.0, 60.0])
def test_the_bernoulli_sums_to_one_at_any_logit(logit: float) -> None:
    """p(0) + p(1) = 1, and neither log is positive or infinite where a sigmoid would saturate."""
    likelihood, values = Bernoulli(1), torch.tensor([[0.0], [1.0]])
    log_prob = likelihood.log_prob(torch.tensor([logit]), values).double()
    assert float(log_prob.exp().sum()) == pytest.approx(1, abs=1e-6)
    assert bool(log_prob.isfinite().all())
    assert float(log_prob.max()) <= 0


def test_the_gaussian_interval_holds_95_percent(gaussian: Gaussian) -> None:
    """Between lower and upper lies 95 % of the mass, 2.5 % on either side."""
    theta = torch.tensor([[0.3, -1.0, 2.0]])
    mean, lower, upper = gaussian.predict(theta)
    sigma = gaussian.log_sigma().exp()
    torch.testing.assert_close(mean, theta)
    for end, mass in ((lower, 0.025), (upper, 0.975)):
        torch.testing.assert_close(torch.special.ndtr((end - mean) / sigma), torch.full((1, 3), mass))


def test_a_mixture_of_one_is_the_one(gaussian: Gaussian) -> None:
    """Both ways of predicting agree where there is a single draw."""
    theta, bernoulli = torch.tensor([[0.3, -1.0, 2.0]]), Bernoulli(3)
    for likelihood in (gaussian, bernoulli):
        alone = likelihood.predict(theta)
        mixed = likelihood.predict_mixture(theta.unsqueeze(1), torch.ones(1, 1))
        torch.testing.assert_close(mixed, alone)


def test_a_mixture_has_the_moments_of_its_draws(gaussian: Gaussian) -> None:
    """Mean and variance of the interval are those of 400,000 draws from the mixture."""
    theta = torch.tensor([[[0.0, 0.0, 0.0], [4.0, 1.0, -2.0]]])
    weights = torch.tensor([[0.25, 0.75]])
    mean, lower, upper = gaussian.predict_mixture(theta, weights)
    generator = np.random.default_rng(0)
    which = (generator.random(400_000) < 0.75).astype(int)
    sigma = gaussian.log_sigma().exp().detach().numpy()
    draws = theta.numpy()[0][which] + sigma * generator.standard_normal((400_000, 3))
    np.testing.assert_allclose(mean.detach().numpy()[0], draws.mean(axis=0), atol=0.03)
    half = (upper - lower).detach().numpy()[0] / 2
    np.testing.assert_allclose(half, 1.96 * draws.std(axis=0), rtol=0.01)


def test_a_bernoulli_interval_is_a_point_only_when_sure() -> None:
    """Above 97.5 % it is [1, 1], below 2.5 % [0, 0], between them [0, 1]."""
    probabilities = torch.tensor([[0.01, 0.5, 0.99]])
    mean, lower, upper = Bernoulli(3).predict(torch.logit(probabilities))
    torch.testing.assert_close(mean, probabilities)
    assert lower.tolist() == [[0, 0, 1]]
    assert upper.tolist() == [[0, 1, 1]]


def test_sigma_stays_between_its_bounds_and_keeps_its_gradient() -> None:
    """However far the parameter runs, sigma is at least the resolution of the data, at most e^3, and can come back."""
    likelihood = Gaussian(2)
    with torch.no_grad():
        likelihood.log_sigma_min.copy_(torch.tensor([0.2, 1e-3]).log())
        likelihood.raw_log_sigma.copy_(torch.tensor([-9.0, 9.0]))
    sigma = likelihood.log_sigma().exp()
    assert float(sigma[0].detach()) >= 0.2
    assert float(sigma[1].detach()) <= math.e**3
    torch.autograd.backward(sigma.sum())
    assert likelihood.raw_log_sigma.grad is not None
    assert (likelihood.raw_log_sigma.grad > 0).all()
