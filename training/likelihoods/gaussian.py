"""Real features with a normal of their own."""

from __future__ import annotations

import math

from torch import Tensor

from service.manifest import Likelihood as Described
from training.likelihoods.likelihood import NORMAL_95, Rows, mix
from training.likelihoods.location_scale import LocationScale
from training.likelihoods.special import standard_normal


class Gaussian(LocationScale):
    """
    Real features; theta is the mean, and with *sigma* = "row" what log sigma comes from.

    log p(x|z) = -((x - mean)^2 / sigma^2 + log 2 pi) / 2 - log sigma - log scale.
    """

    uniforms = 2

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """Energy = (x - mean)^2 / (2 sigma^2), and log sigma where it depends on the row."""
        log_sigma = self.log_sigma(theta)
        squares = ((v - self.location(theta)) * (math.sqrt(0.5) * (-log_sigma).exp())).square()
        return squares + log_sigma if self.sigma == "row" else squares

    def peak(self) -> Tensor:
        """-log(2 pi) / 2 - log scale, and -log sigma where it is the same for all rows."""
        constant = -0.5 * math.log(2 * math.pi) - self.log_scale
        return constant if self.sigma == "row" else constant - self.log_sigma()

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and interval = mean +- 1.96 sigma."""
        mean, half = self.location(theta), NORMAL_95 * self.log_sigma(theta).exp()
        return mean, mean - half, mean + half

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        Mean and variance are those of the mixture; the interval is that of the normal with these two moments.

        Exact for one draw; for several an approximation, close where the draws' means differ by less than sigma.
        """
        location, variance = self.location(theta), (2 * self.log_sigma(theta)).exp()
        mean = mix(weights, location)
        spread = mix(weights, (location - mean.unsqueeze(1)).square())
        half = NORMAL_95 * (spread + (mix(weights, variance) if self.sigma == "row" else variance)).sqrt()
        return mean, mean - half, mean + half

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """Mean + sigma e, with e ~ N(0, 1) of two uniform numbers (Box & Muller 1958)."""
        return self.location(theta) + self.log_sigma(theta).exp() * standard_normal(u[:, 0], u[:, 1])

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """
        The unit and the floor of each feature; the bias is the mean, and sigma the standard deviation.

        Of the feature itself: pixels are standardised together, and those that are almost always 0 have far to go.
        """
        return self.adapt_location(rows, rows.variance().sqrt().log())

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """Any number; the smallest and largest sigma among the features, in original units."""
        return (Described(family="gaussian", columns=columns, support="real", parameters={**self.parameters_said()}),)
