"""The prior that is learned: its density, its KL and its draws, against torch.distributions and integrals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, distributions

from training.models.prior import Mixture, StandardNormal
from training.objective import reparameterize

L, M = 3, 5


def normals(*shape: int) -> Tensor:
    """The same for the same number of axes."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


@pytest.fixture
def mixture() -> Mixture:
    """Components of all sizes."""
    prior = Mixture(L, M, torch.Generator().manual_seed(3)).double()
    with torch.no_grad():
        prior.raw_logvar.copy_(normals(M, L))
        prior.logits.copy_(normals(M, 1)[:, 0])
    return prior


def same(prior: Mixture) -> Any:
    """The mixture by another hand."""
    normal = distributions.Independent(distributions.Normal(prior.mean, (0.5 * prior.logvar()).exp()), 1)
    return distributions.MixtureSameFamily(distributions.Categorical(logits=prior.logits), normal)


def test_the_log_ratio_is_that_of_the_two_densities(mixture: Mixture) -> None:
    """Log p(z_k) - log q(z_k|x), also far away from every component."""
    mu, logvar, eps = 4 * normals(7, L), normals(7, L), normals(11, L)
    z = reparameterize(mu, logvar, eps)
    q: Any = distributions.Independent(distributions.Normal(mu.unsqueeze(1), (0.5 * logvar).exp().unsqueeze(1)), 1)
    torch.testing.assert_close(mixture.log_ratio(z, eps, logvar), same(mixture).log_prob(z) - q.log_prob(z))


def test_a_mixture_of_one_standard_normal_is_n_0_i() -> None:
    """The log ratio of the two priors agrees."""
    prior = Mixture(L, 1, torch.Generator()).double()
    with torch.no_grad():
        prior.mean.zero_()
        prior.raw_logvar.zero_()
    mu, logvar, eps = normals(7, L), normals(7, L), normals(11, L)
    z = reparameterize(mu, logvar, eps)
    torch.testing.assert_close(prior.log_ratio(z, eps, logvar), StandardNormal().log_ratio(z, eps, logvar))


def test_the_latents_parts_of_kl_add_up_to_kl(mixture: Mixture) -> None:
    """Whatever the draws: to the average of log q - log p over them."""
    mu, logvar, eps = normals(7, L), normals(7, L), normals(11, L)
    z = reparameterize(mu, logvar, eps)
    parts = mixture.kl_per_latent(mu, logvar, z, eps)
    assert parts.shape == (7, L)
    torch.testing.assert_close(parts.sum(dim=-1), -mixture.log_ratio(z, eps, logvar).mean(dim=1))
    torch.testing.assert_close(parts.sum(dim=-1), mixture.kl(mu, logvar, z, eps))


def test_a_latent_that_tells_nothing_has_no_part_in_kl_but_the_choice(mixture: Mixture) -> None:
    """Where q is the prior in one latent, and all components agree there, its part is its share of the choice."""
    with torch.no_grad():
        mixture.mean[:, 0] = 0.0
        mixture.raw_logvar[:, 0] = 0.0
    mu, logvar, eps = normals(7, L), normals(7, L), normals(11, L)
    mu[:, 0], logvar[:, 0] = 0.0, 0.0
    z = reparameterize(mu, logvar, eps)
    r = mixture.log_components(z).log_softmax(dim=-1)
    choice = (r.exp() * (r - mixture.logits.log_softmax(dim=0))).sum(dim=-1).mean(dim=1)
    torch.testing.assert_close(mixture.kl_per_latent(mu, logvar, z, eps)[:, 0], choice / L)


def test_kl_comes_to_the_integral_with_many_draws() -> None:
    """One latent, by quadrature; within five standard errors."""
    prior = Mixture(1, 3, torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        prior.mean.copy_(torch.tensor([[-2.0], [0.5], [3.0]]))
        prior.raw_logvar.copy_(torch.tensor([[-1.0], [0.3], [-2.0]]))
    p, q = same(prior), stats.norm(0.7, 0.6)

    def integrand(z: float) -> float:
        return float(q.pdf(z) * (q.logpdf(z) - p.log_prob(torch.tensor([z], dtype=torch.float64)).item()))

    exact, _ = integrate.quad(integrand, -5, 6, limit=200)
    mu, logvar = torch.tensor([[0.7]]).double(), torch.tensor([[2 * np.log(0.6)]]).double()
    eps = normals(100_000, 1)
    ratio = prior.log_ratio(reparameterize(mu, logvar, eps), eps, logvar).detach()
    error = float(ratio.std()) / len(eps) ** 0.5
    assert abs(float(-ratio.mean()) - exact) < 5 * error


def test_draws_are_distributed_as_the_mixture(mixture: Mixture) -> None:
    """Each latent by Kolmogorov and Smirnov against the mixture's own distribution function."""
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        z = mixture.draw(normals(20_000, L), u).numpy()
        weights = mixture.logits.softmax(dim=0).numpy()
        mean, std = mixture.mean.numpy(), (0.5 * mixture.logvar()).exp().numpy()
    for j in range(L):
        found = stats.kstest(z[:, j], lambda v, j=j: stats.norm(mean[:, j], std[:, j]).cdf(v[:, None]) @ weights)
        assert found.pvalue > 0.001


def test_the_first_and_the_last_component_can_be_chosen(mixture: Mixture) -> None:
    """By the ends of [0, 1), to the bit."""
    ends = torch.tensor([0.0, 1 - 2.0**-24])
    with torch.no_grad():
        drawn = mixture.draw(torch.zeros(2, L).double(), ends)
        torch.testing.assert_close(drawn, mixture.mean[[0, -1]])
