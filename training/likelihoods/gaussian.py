"""Real features with a normal of their own."""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.manifest import Likelihood as Described
from training.likelihoods.likelihood import Likelihood, Rows, mix
from training.moments import SIGMA_MIN

Sigma = Literal["feature", "shared"]

NORMAL_95: Final = 1.959963984540054  # the 97.5 % quantile of N(0, 1)
LOG_SIGMA_MAX: Final = 3.0


class Gaussian(Likelihood):
    """
    Real features; theta is the mean, sigma is learned: one a feature, or one for all.

    log p(x|z) = -((x - theta)^2 / sigma^2 + log 2 pi) / 2 - log sigma - log scale. log sigma is kept above
    *log_sigma_min* (from the resolution of the data: no value is sharper than it was recorded) and below 3,
    smoothly, so that its gradient never dies (Rybkin et al. 2021, section 4).
    """

    uniforms = 2
    log_scale: Tensor
    log_sigma_min: Tensor

    def __init__(self, features: int, sigma: Sigma = "feature") -> None:
        super().__init__()
        self.outputs = features
        self.sigma = sigma
        self.raw_log_sigma = nn.Parameter(torch.zeros(features if sigma == "feature" else 1))
        self.register_buffer("log_scale", torch.zeros(features))
        self.register_buffer("log_sigma_min", torch.full((features,), math.log(SIGMA_MIN)))

    def log_sigma(self) -> Tensor:
        """Log of the standard deviation of each feature, standardised: (C,)."""
        capped = LOG_SIGMA_MAX - functional.softplus(LOG_SIGMA_MAX - self.raw_log_sigma)
        return self.log_sigma_min + functional.softplus(capped - self.log_sigma_min)

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """Energy = (x - theta)^2 / (2 sigma^2)."""
        return ((v - theta) * (math.sqrt(0.5) * (-self.log_sigma()).exp())).square()

    def peak(self) -> Tensor:
        """-log(2 pi) / 2 - log sigma - log scale."""
        return -0.5 * math.log(2 * math.pi) - self.log_sigma() - self.log_scale

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and interval = theta +- 1.96 sigma."""
        half = NORMAL_95 * self.log_sigma().exp()
        return theta, theta - half, theta + half

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        Mean and variance are those of the mixture; the interval is that of the normal with these two moments.

        Exact for one draw; for several an approximation, close where the draws' means differ by less than sigma.
        """
        mean = mix(weights, theta)
        spread = mix(weights, (theta - mean.unsqueeze(1)).square())
        half = NORMAL_95 * (spread + (2 * self.log_sigma()).exp()).sqrt()
        return mean, mean - half, mean + half

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """Theta + sigma e, with e ~ N(0, 1) of two uniform numbers (Box & Muller 1958)."""
        radius = (-2 * (1 - u[:, 0]).log()).sqrt()
        return theta + self.log_sigma().exp() * radius * (2 * math.pi * u[:, 1]).cos()

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """
        The unit and the floor of each feature; the bias is the mean.

        Features that never change are known from the start, with the least sigma: their residual is 0, so they have no
        gradient, and stay known however short the fit.
        """
        mean = rows.v.sum(dim=0) / rows.observed.sum(dim=0).clamp(min=1)
        self.log_scale.copy_(rows.scale.log())
        self.log_sigma_min.copy_(rows.floor)
        if self.sigma == "feature":
            self.raw_log_sigma[rows.constant] = self.log_sigma_min[rows.constant] - 5
        return torch.where(rows.constant, rows.v.amax(dim=0), mean), rows.constant

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """Any number; the smallest and largest sigma among the features, in original units."""
        sigma = (self.log_sigma() + self.log_scale).exp().detach()
        parameters = {
            "sigma": self.sigma,
            "smallest_sigma": float(sigma.min()),
            "largest_sigma": float(sigma.max()),
        }
        return (Described(family="gaussian", columns=columns, support="real", parameters=parameters),)
