"""The objective against torch.distributions, Monte Carlo, and a model whose likelihood is known exactly."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from service.scores import score
from training.objective import kl_per_latent, latent_log_ratio, reparameterize, warm_up

NOISE = torch.Generator().manual_seed(0)


def normals(*shape: int) -> Tensor:
    """Standard normal draws, float64."""
    return torch.randn(*shape, generator=NOISE, dtype=torch.float64)


def served_bound(log_w: Tensor) -> Tensor:
    """The bound of log p(x) as the service makes it from the scorer's log w, (B, K): its `nll`, negated, (B,)."""
    return -torch.from_numpy(score("nll", {"log_w": log_w.numpy()}))


def log_normal(x: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """The log density of torch.distributions."""
    p: Any = torch.distributions.Normal(mean, sigma)
    log_prob: Tensor = p.log_prob(x)
    return log_prob


def test_kl_is_that_of_torch_distributions() -> None:
    """The closed form, latent by latent, is that of an independent implementation."""
    mu, logvar = 3 * normals(50, 7), 2 * normals(50, 7)
    q = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_per_latent(mu, logvar), expected)


def test_kl_is_the_mean_of_the_log_ratio_of_draws() -> None:
    """KL = E_q[log q(z|x) - log p(z)]: the closed form is within five standard errors of 200,000 draws."""
    mu, logvar, eps = normals(3, 4), normals(3, 4), normals(200_000, 4)
    ratio = latent_log_ratio(reparameterize(mu, logvar, eps), eps, logvar)  # (3, 200000)
    error = 5 * ratio.std(dim=1) / math.sqrt(ratio.shape[1])
    assert ((-ratio.mean(dim=1) - kl_per_latent(mu, logvar).sum(dim=-1)).abs() < error).all()


def test_the_bound_of_one_draw_is_the_elbo_of_that_draw() -> None:
    """IWAE with K = 1 is log p(x|z) + log p(z) - log q(z|x), the densities taken from torch.distributions."""
    mu, logvar, eps, log_px_z = normals(9, 3), normals(9, 3), normals(1, 3), normals(9, 1)
    z = reparameterize(mu, logvar, eps)
    log_q = log_normal(z, mu.unsqueeze(1), (0.5 * logvar).exp().unsqueeze(1))
    single = log_px_z[:, 0] + (log_normal(z, torch.zeros(1), torch.ones(1)) - log_q).sum(dim=(1, 2))
    torch.testing.assert_close(served_bound(log_px_z + latent_log_ratio(z, eps, logvar)), single)


def linear_gaussian() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A model x = W z + b + sigma e with orthogonal columns of W: the true posterior is diagonal."""
    w = torch.linalg.qr(normals(6, 2)).Q * torch.tensor([2.0, 0.7], dtype=torch.float64)
    b, sigma = normals(6), 0.5
    x = normals(40, 2) @ w.T + b + sigma * normals(40, 6)
    precision = 1 + w.square().sum(dim=0) / sigma**2  # (2,)
    mu = (x - b) @ w / sigma**2 / precision
    exact = multivariate_normal(b.numpy(), (w @ w.T).numpy() + sigma**2 * torch.eye(6).numpy()).logpdf(x.numpy())
    return x, mu, -precision.log().expand_as(mu), torch.from_numpy(exact), torch.cat([w, b[:, None]], dim=1)


def weights_of(x: Tensor, mu: Tensor, logvar: Tensor, model: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """The log w_k and log p(x|z_k), (B, K) each."""
    z = reparameterize(mu, logvar, eps)
    log_px_z = log_normal(x.unsqueeze(1), z @ model[:, :2].T + model[:, 2], torch.tensor(0.5)).sum(dim=-1)
    return log_px_z + latent_log_ratio(z, eps, logvar), log_px_z


def test_with_the_true_posterior_any_draw_gives_the_exact_likelihood() -> None:
    """On a linear-Gaussian model with q = p(z|x), log w_k = log N(x; b, W W^T + sigma^2 I) for every draw."""
    x, mu, logvar, exact, model = linear_gaussian()
    for draws in (1, 3):
        log_w, _ = weights_of(x, mu, logvar, model, normals(draws, 2))
        torch.testing.assert_close(served_bound(log_w), exact)


def test_with_a_wrong_posterior_the_bound_rises_to_the_exact_likelihood() -> None:
    """ELBO = L_1 <= L_5 <= L_50 <= log p(x) over 20,000 draws; all of them at once come within 0.02 nats."""
    x, mu, logvar, exact, model = linear_gaussian()
    mu, logvar = mu + 0.4, logvar + 0.5
    log_w, log_px_z = weights_of(x, mu, logvar, model, normals(20_000, 2))
    means = [float(served_bound(log_w.reshape(-1, draws)).mean()) for draws in (1, 5, 50)]
    assert means == sorted(means)
    assert means[-1] < float(exact.mean())
    neg_elbo = score("neg_elbo", {"log_px_z": log_px_z.numpy(), "kl": kl_per_latent(mu, logvar).numpy()})
    assert -float(neg_elbo.mean()) == pytest.approx(means[0], abs=0.1)
    torch.testing.assert_close(served_bound(log_w), exact, atol=0.02, rtol=0)


def test_the_warm_up_rises_from_nothing_to_one_and_stays() -> None:
    """Half of the way it is a half; no warm-up is one from the start."""
    assert [warm_up(epoch, 10) for epoch in (0, 5, 10, 99)] == [0, 0.5, 1, 1]
    assert warm_up(0, 0) == 1
