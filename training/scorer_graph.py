"""
The graph of the scores: from a row and K draws to everything that score kinds and explanations are made of.

As a module of tensors, original units in, original units out. B rows, K draws, L latents, C features, M members of an
ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from service.inputs import Inputs
from training.likelihoods.likelihood import mix, mix_interval
from training.models.mlp import VAE
from training.objective import reparameterize


class ScorerGraph(nn.Module):
    """
    x and K draws -> everything that the score kinds and their explanations are made of.

    With the self-normalised weights w~ = softmax_k(log w_k):
    nll = -(logsumexp_k log w_k - log K) = sum_c feature_nll_iw_c + latent_term, because
    logsumexp_k log w_k = sum_k w~_k log w_k + H(w~), so that
    latent_term = sum_k w~_k (log w~_k - log p(z_k) + log q(z_k|x)) + log K, computed as it stands: as the
    difference of score and features it would lose its digits to cancellation.
    expected, lower, upper are those of the mixture sum_k w~_k p(x|z_k), see `Likelihood.predict_mixture`.

    An ensemble is one VAE whose latent is the member m and its z: with p(m) = q(m|x) = 1/M log w of a draw is what it
    is without m, and all of this holds of M K draws. log_w and log_px_z have those of one member after the other.
    """

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.draws = _draws(vae)

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, ...]:
        """(B, *shape), (K, L) -> the outputs of the scorer."""
        return _scored(self.draws, x, None, eps)


class MaskedScorerGraph(nn.Module):
    """
    The same of rows of which some values are missing: `ScorerGraph` of the observed ones.

    p(x|z) is a product over the features, so log p of the observed ones given z is the sum of theirs, exactly. A
    missing feature has no part in log_px_z, a feature_nll of 0, and in expected, lower and upper what the others say of
    it.
    """

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.draws = _draws(vae)

    def forward(self, x: Tensor, mask: Tensor, eps: Tensor) -> tuple[Tensor, ...]:
        """(B, *shape), (B, C) bool, (K, L) -> the outputs of the scorer."""
        return _scored(self.draws, x, mask, eps)


class Drawn(NamedTuple):
    """
    K draws of q(z|x) for each row, and what the likelihood says of them; of an ensemble with a first axis of M members.

    *log_w*, *log_px_z*, *ratio*, *log_weights*: (B, K), the last one of `ScorerGraph`. *kl*, *mu*: (B, L).
    *energy*: (B, K, C). *peak*: (C,). *expected*, *lower*, *upper*: (B, C), in original units.
    """

    log_w: Tensor
    log_px_z: Tensor
    ratio: Tensor
    log_weights: Tensor
    kl: Tensor
    mu: Tensor
    energy: Tensor
    peak: Tensor
    expected: Tensor
    lower: Tensor
    upper: Tensor


class Draws(nn.Module):
    """What `Drawn` has of one VAE."""

    members = 1

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae
        self.inputs = vae.inputs

    def forward(self, x: Tensor, mask: Tensor | None, eps: Tensor) -> Drawn:
        """(B, *shape), (B, C) bool, (K, L)."""
        vae = self.vae
        v = vae.values(x, mask)  # (B, C)
        mu, logvar = vae.encode(v, mask)
        z = reparameterize(mu, logvar, eps)  # (B, K, L)
        theta = vae.decode(z.flatten(0, 1))  # (B K, P): two axes make a Gemm of it, with the bias inside
        theta = theta.reshape(*z.shape[:2], -1)  # (B, K, P)
        energy = vae.likelihood.energy(theta, v.unsqueeze(1))  # (B, K, C)
        peak = vae.likelihood.peak()  # (C,)
        if mask is None:
            log_px_z = peak.sum() - energy.sum(dim=-1)  # (B, K)
        else:  # the sum over the observed features as a product: no pass over (B, K, C) but the one that sums
            seen = mask.to(energy.dtype)
            log_px_z = (seen * peak).sum(dim=-1, keepdim=True) - energy.matmul(seen.unsqueeze(-1)).squeeze(-1)
        ratio = vae.prior.log_ratio(z, eps, logvar)  # (B, K)
        log_w = log_px_z + ratio
        log_weights = log_w.log_softmax(dim=1)
        kl = vae.prior.kl_per_latent(mu, logvar, z, eps)
        ends = (vae.scaling.restore(part) for part in vae.likelihood.predict_mixture(theta, log_weights.exp()))
        return Drawn(log_w, log_px_z, ratio, log_weights, kl, mu, energy, peak, *ends)


class _EnsembleDraws(nn.Module):
    """The same of each member of an ensemble, one after the other."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.each = nn.ModuleList(Draws(member) for member in vae.members)
        self.members = len(self.each)
        self.inputs = vae.inputs

    def forward(self, x: Tensor, mask: Tensor | None, eps: Tensor) -> Drawn:
        """(B, *shape), (B, C) bool, (K, L)."""
        return stacked([draws(x, mask, eps) for draws in self.each])


def _draws(vae: VAE) -> Draws | _EnsembleDraws:
    return Draws(vae) if len(vae.members) == 1 else _EnsembleDraws(vae)


def _scored(draws: Draws | _EnsembleDraws, x: Tensor, mask: Tensor | None, eps: Tensor) -> tuple[Tensor, ...]:
    return scored(draws(x, mask, eps), mask, eps, draws.inputs, draws.members)


def stacked(members: Sequence[Drawn]) -> Drawn:
    """Those of an ensemble."""
    return Drawn(*(torch.stack(parts) for parts in zip(*members, strict=True)))


def scored(drawn: Drawn, mask: Tensor | None, eps: Tensor, inputs: Inputs, members: int) -> tuple[Tensor, ...]:
    """The outputs of the scorer: see `ScorerGraph`."""
    if members > 1:
        drawn = _side_by_side(drawn, inputs)
    weights = drawn.log_weights.exp()
    count = members * torch.ones_like(eps[:, 0]).sum()  # M K
    averages = torch.stack([weights, torch.ones_like(weights) / count], dim=1)  # (B, 2, M K)
    if members > 1:
        own = averages.reshape(-1, 2, members, averages.shape[-1] // members).movedim(2, 0)  # (M, B, 2, K)
        by_member = own.matmul(drawn.energy) - own.sum(dim=-1, keepdim=True) * drawn.peak[:, None, None]
        feature_nll = by_member.sum(dim=0)
    else:
        feature_nll = averages.matmul(drawn.energy) - drawn.peak  # (B, 2, C)
    if mask is not None:
        feature_nll = torch.where(mask.unsqueeze(1), feature_nll, 0.0)
    latent_term = (weights * (drawn.log_weights - drawn.ratio)).sum(dim=1) + count.log()  # (B,)
    return (
        drawn.log_w,
        drawn.log_px_z,
        drawn.kl,
        latent_term,
        feature_nll[:, 0],
        feature_nll[:, 1],
        drawn.expected,
        drawn.lower,
        drawn.upper,
        drawn.mu,
    )


def _side_by_side(drawn: Drawn, inputs: Inputs) -> Drawn:
    """
    The draws of all members as those of one VAE, but *energy* and *peak*, which are left as they are.

    (M, B, K) -> (B, M K), (M, B, L) -> (B, M L), (M, B, C) -> (B, C). kl is divided by M: its sum is the mean. Mean and
    interval are those of the members put together by `mix_interval`; of columns that are no plain numbers, with values
    that have no mean, those of the member with the most weight.
    """
    log_w, log_px_z, ratio, kl, mu = (
        part.movedim(0, 1).flatten(1) for part in (drawn.log_w, drawn.log_px_z, drawn.ratio, drawn.kl, drawn.mu)
    )
    members = len(drawn.log_w)
    mean, low, high = (part.movedim(0, 1) for part in (drawn.expected, drawn.lower, drawn.upper))  # (B, M, C)
    share = drawn.log_w.logsumexp(dim=2).softmax(dim=0).T.to(mean.dtype)  # (B, M)
    ends = mix_interval(share, mean, mean - low, high - mean)
    plain = [column.kind == "numeric" for column in inputs.columns or ()]
    if not all(plain):
        heaviest = (share.argmax(dim=1, keepdim=True) == torch.arange(members)).to(mean.dtype)
        own = (mix(heaviest, part) for part in (mean, low, high))
        expected, lower, upper = (torch.where(torch.tensor(plain), *both) for both in zip(ends, own, strict=True))
        ends = expected, lower, upper
    return Drawn(log_w, log_px_z, ratio, log_w.log_softmax(dim=1), kl / members, mu, drawn.energy, drawn.peak, *ends)
