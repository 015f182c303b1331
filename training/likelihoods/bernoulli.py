"""Binary features."""

from __future__ import annotations

import torch
from torch import Tensor

from service.manifest import Likelihood as Described
from training.likelihoods.likelihood import TAILS, Likelihood, Rows, mix
from training.likelihoods.special import softplus


class Bernoulli(Likelihood):
    """
    Binary features; theta is the logit.

    log p(x|z) = x theta - softplus(theta). A density only on {0, 1}: on grey values it does not add to one.
    """

    steps = TAILS

    def __init__(self, features: int) -> None:
        super().__init__(features, features)

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """Energy = softplus(theta) - x theta."""
        return softplus(theta) - v * theta

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The quantiles of a Bernoulli are 0 or 1."""
        return self._interval(theta.sigmoid())

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Exact: a mixture of Bernoullis is the Bernoulli of the mixed mean."""
        return self._interval(mix(weights, theta.sigmoid()))

    def _interval(self, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = TAILS
        return mean, (mean > high).to(mean.dtype), (mean > low).to(mean.dtype)

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """1 where u < sigmoid(theta)."""
        return (u[:, 0] < theta.sigmoid()).to(theta.dtype)

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The logit of the mean, as in Burda et al. 2016; kept away from certainty."""
        return torch.logit(rows.mean().clamp(1e-3, 1 - 1e-3)), torch.zeros(self.outputs, dtype=torch.bool)

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """Binary data only."""
        return (Described(family="bernoulli", columns=columns, support="binary", low=0, high=1),)
