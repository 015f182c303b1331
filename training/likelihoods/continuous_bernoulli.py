"""Values within an interval: grey pixels, shares."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from service.manifest import Likelihood as Described
from training.likelihoods.likelihood import TAILS, Likelihood, Rows, mix
from training.likelihoods.special import log1mexp

_BOUND = 1000.0  # of the logit: a density of 1,000 over the range is as sharp as the least sigma of a normal


class ContinuousBernoulli(Likelihood):
    """
    Values from low to high; with v = (x - low) / (high - low), theta is the logit eta, kept smoothly within +-1,000.

    log p(x|z) = v eta - log A(eta) - log(high - low), A = int_0^1 exp(eta t) dt = (exp(eta) - 1) / eta: the Bernoulli's
    cross-entropy with what it lacks to be a density on [0, 1] (Loaiza-Ganem & Cunningham 2019).
    """

    log_scale: Tensor

    def __init__(self, features: int, low: float, high: float) -> None:
        super().__init__(features, features)
        self.bounds = (low, high)
        self.register_buffer("log_scale", torch.full((features,), high - low).log(), persistent=False)

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """Energy = log A(eta) - v eta."""
        eta = _bounded(theta)
        return _log_normaliser(eta) - v * eta

    def peak(self) -> Tensor:
        """-log(high - low)."""
        return -self.log_scale

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, which is not sigmoid(eta), and the quantiles, in closed form."""
        eta = _bounded(theta)
        low, high = (torch.full_like(eta, tail) for tail in TAILS)
        return _mean(eta), _quantile(eta, low), _quantile(eta, high)

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        The mean is exact; the distance of each end from 0, or from 1, is the harmonic mean of the draws' distances.

        Exact for one draw, and where the distribution functions are straight lines as far as the ends of the interval,
        as they are beside the end of the range where the density is highest. Elsewhere an approximation.
        """
        mean, lower, upper = self.predict(theta)
        return mix(weights, mean), 1 / mix(weights, 1 / lower), 1 - 1 / mix(weights, 1 / (1 - upper))

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """The quantile of u."""
        return _quantile(_bounded(theta), u[:, 0]).clamp(0, 1)

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The logit whose mean is that of the rows; kept away from certainty."""
        mean = rows.mean().double().clamp(0.01, 0.99)
        low, high = torch.full_like(mean, -_BOUND), torch.full_like(mean, _BOUND)
        for _ in range(60):  # the mean increases with the logit
            middle = (low + high) / 2
            below = _mean(middle) < mean
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        bias = _BOUND * torch.atanh(low / _BOUND)
        return bias.float(), torch.zeros(self.outputs, dtype=torch.bool)

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """Any number from low to high."""
        assert self.bounds is not None, "This is a bug: they are set with the rest."
        low, high = self.bounds
        return (Described(family="continuous-bernoulli", columns=columns, support="interval", low=low, high=high),)


def _bounded(theta: Tensor) -> Tensor:
    return _BOUND * torch.tanh(theta / _BOUND)


def _log_normaliser(eta: Tensor) -> Tensor:
    """log((exp(eta) - 1) / eta); within 1 of 0 as eta / 2 + log(sinh(eta / 2) / (eta / 2)), this by its series."""
    square = eta.clamp(-1, 1).square()
    series = square * (1 / 24 - square * (1 / 2880 - square * (1 / 181440 - square / 9676800)))
    size = eta.abs().clamp(min=1)
    return torch.where(eta.abs() < 1, eta / 2 + series, functional.relu(eta) + log1mexp(size) - size.log())


def _mean(eta: Tensor) -> Tensor:
    """1 / (1 - exp(-eta)) - 1 / eta; within 1 of 0 by its series."""
    near = eta.clamp(-1, 1)
    square = near.square()
    series = 0.5 + near * (
        1 / 12 - square * (1 / 720 - square * (1 / 30240 - square * (1 / 1209600 - square / 47900160)))
    )
    size = eta.abs().clamp(min=1)
    positive = 1 / (1 - (-size).exp()) - 1 / size
    return torch.where(eta.abs() < 1, series, torch.where(eta > 0, positive, 1 - positive))


def _quantile(eta: Tensor, u: Tensor) -> Tensor:
    """log(1 + u (exp(eta) - 1)) / eta; within 1/20 of 0 by its series."""
    near = eta.clamp(-0.05, 0.05)
    series = u + u * (1 - u) / 2 * near * (1 + (1 - 2 * u) / 3 * near)
    size = eta.abs().clamp(min=0.05)
    share = torch.where(eta > 0, u, 1 - u)
    from_the_end = (share + (1 - share) * (-size).exp()).log() / size  # of the end where the density is highest
    return torch.where(eta.abs() < 0.05, series, torch.where(eta > 0, 1 + from_the_end, -from_the_end))
