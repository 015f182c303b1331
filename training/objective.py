"""
What the objective of a variational autoencoder is made of: KL, the ratio of the importance weights, schedules. Pure.

Kingma & Welling 2014 (VAE), Burda et al. 2016 (IWAE). q(z|x) = N(mu, diag exp(logvar)), p(z) = N(0, I).
All in nats; sums over features and latents, never means. B rows, K draws, L latents.
"""

from __future__ import annotations

from torch import Tensor


def reparameterize(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """
    Z = mu + exp(logvar / 2) * eps: (B, L), (B, L), (K, L) or (B, K, L) -> (B, K, L).

    Kingma & Welling 2014, section 2.4.
    """
    return mu.unsqueeze(1) + (0.5 * logvar).exp().unsqueeze(1) * eps


def kl_per_latent(mu: Tensor, logvar: Tensor) -> Tensor:
    """
    KL(N(mu_j, exp(logvar_j)) || N(0, 1)) of each latent: (B, L) -> (B, L).

    = 1/2 (mu_j^2 + exp(logvar_j) - logvar_j - 1), Kingma & Welling 2014, appendix B.
    """
    return 0.5 * (mu.square() + logvar.exp() - logvar - 1)


def latent_log_ratio(z: Tensor, eps: Tensor, logvar: Tensor) -> Tensor:
    """
    Log p(z_k) - log q(z_k|x): (B, K, L), (K, L) or (B, K, L), (B, L) -> (B, K).

    With log p(x|z_k) it makes log w_k, the importance weight of Burda et al. 2016, section 3.

    = sum_j (eps_kj^2 - z_kj^2 + logvar_j) / 2 where z = mu + exp(logvar / 2) eps: the terms in 2 pi cancel.
    """
    return 0.5 * (eps.square().sum(dim=-1) - z.square().sum(dim=-1) + logvar.sum(dim=-1).unsqueeze(1))


def log_likelihood(peak: Tensor, energy: Tensor, mask: Tensor | None) -> Tensor:
    """
    Log p(x|z) of the observed features, the sum of peak_c - energy_c: (C,), (..., C), (..., C) bool -> (...).

    p(x|z) is a product over the features, so that leaving factors out integrates over them, exactly: with it the ELBO
    is the bound of log p(observed) of Mattei & Frellsen 2019, eq. 3, for K = 1. *mask* None: all were observed.
    """
    if mask is None:
        return peak.sum() - energy.sum(dim=-1)
    seen = mask.to(energy.dtype)
    return seen @ peak - (energy * seen).sum(dim=-1)


def warm_up(epoch: float, warmup_epochs: float) -> float:
    """
    The weight of the KL in the loss: from 0 to 1 over the first *warmup_epochs*, then 1.

    Bowman et al. 2016, section 3.1; Sonderby et al. 2016, section 2.3. Never used in a score.
    """
    return 1.0 if warmup_epochs <= 0 else min(1.0, epoch / warmup_epochs)
