"""Whole numbers of either sign: probabilities that add to one, and answers that are whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from service.inputs import Column, Inputs
from tests.training.exported import Floats, sobol
from tests.training.test_likelihoods_levels import rows_of
from training.data import CLAMP
from training.fit import FitOptions, fit
from training.likelihoods.integer import IntegerLogistic
from training.likelihoods.likelihood import Rows
from training.models.mlp import VAE, VAEConfig

CENTER, UNIT = 2024.0, 12.0
FAR = 4000


def logistic(scale: float) -> IntegerLogistic:
    """One feature about 2024, with this scale in whole numbers."""
    likelihood = IntegerLogistic(1, "fixed", scale / UNIT)
    with torch.no_grad():
        likelihood.center.fill_(CENTER)
        likelihood.log_scale.fill_(math.log(UNIT))
        likelihood.log_sigma_min.fill_(math.log(1 / 16 / UNIT))
    return likelihood


def masses(likelihood: IntegerLogistic, theta: float) -> tuple[Floats, Floats]:
    """The numbers about the center, and scipy's probabilities of them."""
    scale = float(likelihood.log_sigma().exp()[0]) * UNIT
    x = np.arange(-FAR, FAR + 1.0)
    location = float(np.float32(theta)) * UNIT
    above, below = (x + 0.5 - location) / scale, (x - 0.5 - location) / scale
    mass = np.where(
        below > 0, special.expit(-below) - special.expit(-above), special.expit(above) - special.expit(below)
    )
    return x + CENTER, mass


def test_a_large_number_that_never_changes_is_its_own_center() -> None:
    """Also with gaps, and where the mean of so many is rounded to another whole number: no residual is left."""
    v = torch.full((20_000, 1), 16_777_213.0)
    observed = torch.arange(20_000).unsqueeze(1) % 3 > 0
    rows = Rows(torch.where(observed, v, 0.0), observed, torch.tensor([True]), torch.ones(1), torch.zeros(1))
    assert float(rows.mean().round()) != 16_777_213
    likelihood = IntegerLogistic(1)
    with torch.no_grad():
        bias, _ = likelihood.adapt(rows)
    assert (float(likelihood.center), float(bias)) == (16_777_213, 0)


@given(st.floats(-20, 20), st.sampled_from([0.01, 0.2, 1.0, 30.0]))
def test_whole_numbers_have_probabilities_that_add_to_one(theta: float, scale: float) -> None:
    """The difference of two sigmoids; the mean within 0.006, the ends the first with 2.5 % and 97.5 % at or below."""
    likelihood = logistic(scale)
    x, mass = masses(likelihood, theta)
    v = torch.from_numpy(x).float().unsqueeze(1)
    got = likelihood.log_prob(torch.tensor([[theta]]), v).detach().double().squeeze(1).numpy()
    assert np.exp(got).sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(np.exp(got), mass, rtol=5e-3, atol=2e-5)
    mean, lower, upper = (float(part.detach()) for part in likelihood.predict(torch.tensor([[theta]])))
    assert mean == pytest.approx(float(mass @ x), abs=0.007)
    below = np.cumsum(mass)
    for end, share in ((lower, 0.025), (upper, 0.975)):
        assert end == round(end)
        place = int(end - x[0])
        assert below[place] >= share - 1e-3
        assert below[place - 1] < share + 1e-3


def test_a_number_beyond_all_that_were_seen_keeps_its_digits() -> None:
    """80 scales away its logarithm is about -80: improbable, and neither refused nor that of 0."""
    got = float(logistic(1.0).log_prob(torch.tensor([[0.0]]), torch.tensor([[CENTER + 80]])).detach())
    assert got == pytest.approx(-79.5 + math.log(-math.expm1(-1)), abs=1e-3)


@pytest.mark.parametrize("scale", [0.01, 0.7, 20.0])
def test_whole_numbers_are_drawn_as_often_as_they_are_probable(scale: float) -> None:
    """A chi-square test on 4,096 points that fill the cube; every draw is whole."""
    likelihood = logistic(scale)
    drawn = likelihood.draw(torch.full((4096, 1), 0.42), sobol(likelihood, 4096)).detach().double().squeeze(1).numpy()
    np.testing.assert_array_equal(drawn, drawn.round())
    x, mass = masses(likelihood, 0.42)
    seen = np.bincount((drawn - x[0]).clip(0, len(x) - 1).astype(int), minlength=len(x))
    often = mass > 2e-3
    chi_square = float((np.square(seen - mass * 4096) / (mass * 4096 + 1e-9))[often].sum())
    assert stats.chi2.sf(chi_square, max(1, often.sum() - 1)) > 0.2


def test_a_mixture_has_its_mean_and_about_its_interval() -> None:
    """Locations that differ by less than the scale: each tail is within 0.01 of 2.5 %."""
    likelihood, weights = logistic(6.0), torch.tensor([[0.3, 0.4, 0.3]])
    theta = torch.tensor([-0.8, 0.0, 0.8]).reshape(1, 3, 1)
    mean, lower, upper = (float(part.detach()) for part in likelihood.predict_mixture(theta, weights))
    parts = [masses(likelihood, float(theta[0, k, 0])) for k in range(3)]
    mass = sum(float(w) * own for w, (_, own) in zip(weights[0], parts, strict=True))
    assert isinstance(mass, np.ndarray)
    assert mean == pytest.approx(float(mass @ parts[0][0]), abs=0.006)
    below, first = np.cumsum(mass), parts[0][0][0]
    assert below[int(lower - first)] == pytest.approx(0.025, abs=0.012)
    assert below[int(upper - first)] == pytest.approx(0.975, abs=0.012)


def test_it_begins_with_mean_and_spread_of_the_rows_and_knows_a_constant() -> None:
    """What is missing is not counted; what never changes stays as it is, at the least scale."""
    v = np.random.default_rng(0).logistic(2000, 8, (5000, 2)).round()
    v[:, 1] = -3
    observed = torch.ones(5000, 2, dtype=torch.bool)
    observed[::7, 0] = False
    rows = rows_of(torch.from_numpy(np.where(observed.numpy(), v, 0)).float())._replace(observed=observed)
    likelihood = IntegerLogistic(2)
    with torch.no_grad():
        bias, fixed = likelihood.adapt(rows)
        mean, lower, upper = likelihood.predict(bias.unsqueeze(0))
    assert fixed.tolist() == [False, True]
    assert float(mean[0, 0]) == pytest.approx(2000, abs=1)
    assert float((likelihood.log_sigma() + likelihood.log_scale)[0].exp().detach()) == pytest.approx(8, rel=0.05)
    assert [float(part[0, 1]) for part in (mean, lower, upper)] == [-3, -3, -3]


def test_a_fit_of_years_beats_the_prior_on_them() -> None:
    """Beside a numeric column that tells the year, its probability rises, and draws are years."""
    generator = np.random.default_rng(0)
    year = generator.integers(1990, 2025, 600).astype(float)
    x = np.stack([year, 3 * (year - 2000) + generator.standard_normal(600)], axis=1)
    columns = (Column(name="year", kind="integer"), Column(name="worth"))
    inputs = Inputs(kind="table", shape=(2,), dtype="float64", columns=columns, clamp=CLAMP)
    vae = VAE(inputs, VAEConfig(latent_dim=1, hidden=(16,), likelihood="gaussian"), seed=0)
    fit(vae, x[:500], x[500:], FitOptions(epochs=60, batch_size=50))
    v = vae.scaling(torch.from_numpy(x[500:]))
    with torch.no_grad():
        mu, _ = vae.encode(v)
        nats = vae.likelihood.log_prob(vae.decode(mu), v)[:, 0].mean()
        drawn = vae.scaling.restore(vae.likelihood.draw(vae.decode(mu), sobol(vae.likelihood, 128)[:100]))[:, 0]
    assert float(nats) > -math.log(35) + 0.7  # a year among 35, all alike, has -log 35
    assert bool((drawn == drawn.round()).all())
    assert {part.family for part in vae.likelihood.described(inputs.names)} == {"discretised-logistic", "gaussian"}
