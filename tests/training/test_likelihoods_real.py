"""Student-t, and the four ways in which a scale is known: densities, intervals and draws of real features."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from tests.training.exported import sobol
from tests.training.test_likelihoods_levels import rows_of
from training.likelihoods.gaussian import Gaussian
from training.likelihoods.location_scale import LocationScale, Sigma
from training.likelihoods.student_t import StudentT

SCALES = torch.tensor([1.0, 3e4, 2e-5])
SIGMAS: tuple[Sigma, ...] = ("fixed", "shared", "feature", "row")


def student_t() -> StudentT:
    """Three features of different tails, widths and units."""
    likelihood = StudentT(3)
    with torch.no_grad():
        likelihood.raw_nu.copy_(torch.tensor([-20.0, 1.0, 20.0]))
        likelihood.raw_log_sigma.copy_(torch.tensor([-2.0, 0.0, 1.5]))
        likelihood.log_scale.copy_(SCALES.log())
    return likelihood


def test_the_student_t_is_that_of_scipy_in_original_units() -> None:
    """Near the location and a thousand sigmas away, with 2 and with 150 degrees of freedom."""
    likelihood, theta = student_t(), torch.tensor([0.3, -1.0, 2.0])
    v = torch.tensor([0.0, 0.3, 0.301, -4.0, 99.0, -100.0]).unsqueeze(1).expand(-1, 3)
    scale, nu = SCALES.double().numpy(), likelihood.nu().detach().double().numpy()
    assert nu[0] == pytest.approx(2, abs=0.01)
    assert nu[2] == pytest.approx(150, abs=1)
    sigma = likelihood.log_sigma().detach().double().exp().numpy() * scale
    expected = stats.t(nu, theta.double().numpy() * scale, sigma).logpdf(v.double().numpy() * scale)
    np.testing.assert_allclose(likelihood.log_prob(theta, v).detach().numpy(), expected, rtol=2e-5, atol=2e-5)


def test_the_student_t_integrates_to_one() -> None:
    """Quadrature over all numbers, in original units."""
    likelihood = student_t().double()
    theta = torch.tensor([0.3, -1.0, 2.0]).double()

    def density(v: float, c: int) -> float:
        row = torch.full((1, 3), v, dtype=torch.float64)
        return math.exp(float(likelihood.log_prob(theta, row)[0, c].detach())) * float(SCALES[c].double())

    for c in range(3):
        ends = (-np.inf, -30, float(theta[c]), 30, np.inf)
        total = sum(integrate.quad(density, a, b, (c,))[0] for a, b in itertools.pairwise(ends))
        assert total == pytest.approx(1, abs=1e-5)


@given(st.floats(-12, 12))
def test_the_student_t_interval_is_that_of_its_degrees_of_freedom(raw: float) -> None:
    """From 4.3 sigmas with two of them to 1.98 with 150."""
    likelihood = StudentT(1)
    with torch.no_grad():
        likelihood.raw_nu.fill_(raw)
        nu, sigma = float(likelihood.nu()), float(likelihood.log_sigma().exp())
        mean, lower, upper = (float(part) for part in likelihood.predict(torch.tensor([[0.5]])))
    assert mean == 0.5
    np.testing.assert_allclose((lower - mean, upper - mean), sigma * stats.t(nu).ppf([0.025, 0.975]), rtol=1e-5)


def test_what_is_drawn_has_students_distribution() -> None:
    """A Kolmogorov-Smirnov distance of 16,384 even points, and no draw that is not finite."""
    likelihood, theta = student_t(), torch.tensor([0.3, -1.0, 2.0])
    drawn = likelihood.draw(theta.expand(2**14, -1), sobol(likelihood, 2**14)).detach().double().numpy()
    nu, sigma = (part.detach().double().numpy() for part in (likelihood.nu(), likelihood.log_sigma().exp()))
    for c in range(3):
        frozen = stats.t(nu[c], float(theta[c]), sigma[c])
        assert stats.kstest(drawn[:, c], frozen.cdf).statistic < 5e-3


def test_a_mixture_of_students_has_its_mean_and_about_its_interval() -> None:
    """Locations that differ by less than sigma: each tail is within 0.005 of 2.5 %, whatever nu."""
    likelihood, weights = student_t(), torch.tensor([[0.3, 0.4, 0.3]])
    sigma = likelihood.log_sigma().exp().detach()
    theta = torch.stack([-0.7 * sigma, 0 * sigma, 0.7 * sigma]).unsqueeze(0)
    mean, lower, upper = (part.detach().double().numpy()[0] for part in likelihood.predict_mixture(theta, weights))
    np.testing.assert_allclose(mean, 0, atol=1e-6)
    for c, nu in enumerate(likelihood.nu().detach().double().tolist()):
        for end, share in ((lower[c], 0.025), (upper[c], 0.975)):
            parts = [
                float(w) * stats.t(nu, float(theta[0, k, c]), float(sigma[c])).cdf(end)
                for k, w in enumerate(weights[0])
            ]
            assert sum(parts) == pytest.approx(share, abs=5e-3)


def test_outliers_do_not_widen_what_a_student_t_expects() -> None:
    """One row in twenty is off by thirty: sigma stays at that of the others; the Gaussian's is six times it."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn((1000, 1), generator=generator)
    v[::20] += 30
    found = {}
    for likelihood in (Gaussian(1), StudentT(1)):
        optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
        for _ in range(400):
            optimizer.zero_grad()
            torch.autograd.backward(-likelihood.log_prob(torch.zeros(1), v).mean())
            optimizer.step()
        found[type(likelihood)] = float(likelihood.log_sigma().exp().detach())
    assert found[StudentT] < 1.5
    assert found[Gaussian] > 5


@pytest.mark.parametrize("family", [Gaussian, StudentT])
def test_sigma_begins_at_the_deviation_of_each_feature(family: type[LocationScale]) -> None:
    """
    Pixels are standardised together, so that those at the edges of an image vary a hundred times less than others.

    A fit that begins at one sigma for all has spent thousands of steps before it is down there.
    """
    v = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.5, 0.1, 0.02])
    got = []
    for sigma in ("feature", "shared", "row"):
        likelihood: LocationScale = family(3, sigma)
        with torch.no_grad():
            bias, _ = likelihood.adapt(rows_of(v)._replace(floor=torch.full((3,), 1e-3).log()))
            got.append(likelihood.log_sigma(bias).exp().expand(3).numpy())
    np.testing.assert_allclose(got[0], [1.5, 0.1, 0.02], rtol=0.1)
    np.testing.assert_allclose(got[1], math.sqrt((1.5**2 + 0.1**2 + 0.02**2) / 3), rtol=0.1)
    np.testing.assert_allclose(got[2], got[0], rtol=1e-5)


@pytest.mark.parametrize("family", [Gaussian, StudentT])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_sigma_comes_from_where_it_should_and_stays_above_the_resolution(
    family: type[LocationScale], sigma: Sigma
) -> None:
    """Fixed, one for all, one a feature, or the decoder's: each is a density, and none is sharper than the data."""
    likelihood: LocationScale = family(2, sigma, 0.25)
    v = torch.stack([torch.linspace(-1, 1, 50), torch.full((50,), 0.5)], dim=1)
    floor = torch.tensor([0.5, 1e-3]).log()
    with torch.no_grad():
        bias, fixed = likelihood.adapt(rows_of(v)._replace(scale=torch.tensor([2.0, 1.0]), floor=floor))
        got = likelihood.log_sigma(bias.expand(3, -1)).exp()
        density = likelihood.log_prob(bias.expand(200_001, -1), torch.linspace(-300, 300, 200_001).unsqueeze(1))
        mean, lower, upper = likelihood.predict(bias.unsqueeze(0))
    assert likelihood.outputs == len(bias) == len(fixed) == (4 if sigma == "row" else 2)
    assert [name for name, _ in likelihood.named_parameters()].count("raw_log_sigma") == (
        sigma in ("shared", "feature")
    )
    assert fixed.tolist() == [False, True] * (2 if sigma == "row" else 1)
    assert (got >= floor.exp() * (1 - 1e-6)).all()
    if sigma == "fixed":
        np.testing.assert_allclose(got.numpy(), [0.5, 0.25])
    elif sigma != "shared":
        assert float(got.expand(3, 2)[0, 1]) < 2e-3
    assert float(density.double()[:, 0].exp().sum() * 0.003 * 2) == pytest.approx(1, abs=5e-3)
    torch.testing.assert_close(mean[0], torch.tensor([0.0, 0.5]))
    assert (lower < mean).all()
    assert (upper > mean).all()


def test_a_sigma_by_row_is_the_decoders() -> None:
    """Two rows with the same mean and different sigmas have the two densities of scipy, and their two intervals."""
    likelihood = Gaussian(1, "row")
    theta = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    sigma = likelihood.log_sigma(theta).exp().double().numpy()[:, 0]
    assert sigma[0] == pytest.approx(math.exp(-1), rel=0.05)
    assert sigma[1] == pytest.approx(math.exp(1), rel=0.15)
    got = likelihood.log_prob(theta, torch.tensor([[0.0], [0.0]])).double().numpy()[:, 0]
    np.testing.assert_allclose(got, stats.norm(1, sigma).logpdf(0), rtol=1e-5)
    _, lower, upper = likelihood.predict(theta)
    np.testing.assert_allclose((upper - lower)[:, 0].double().numpy(), 2 * 1.959964 * sigma, rtol=1e-5)
    mean, low, high = likelihood.predict_mixture(theta.unsqueeze(0), torch.tensor([[0.5, 0.5]]))
    assert float(mean) == pytest.approx(1)
    assert float(high - low) == pytest.approx(2 * 1.959964 * math.sqrt(np.square(sigma).mean()), rel=1e-5)


def test_the_manifest_says_where_sigma_comes_from() -> None:
    """And how many degrees of freedom there are."""
    (entry,) = student_t().described(("a", "b", "c"))
    assert (entry.family, entry.columns, entry.support) == ("student-t", ("a", "b", "c"), "real")
    assert entry.parameters["sigma"] == "feature"
    assert entry.parameters["smallest_nu"] == pytest.approx(2.007, abs=1e-3)
    (entry,) = Gaussian(2, "row").described(None)
    assert entry.parameters == {"sigma": "row"}
