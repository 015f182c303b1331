"""Real features with outliers."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from service.manifest import Likelihood as Described
from training.likelihoods.likelihood import Rows, mix_interval
from training.likelihoods.location_scale import LocationScale, Sigma
from training.likelihoods.special import log_gamma

_BOUND = 5.0  # of |log(nu - 2)|: nu from 2.007 to 150
_START = math.log(3.0)  # about 5 degrees of freedom

_QUANTILE: Final = (1.95996396, 2.37227748, 2.82221879, 2.56069426, 1.54767979, 0.929996543, 0.151046162, 0.352774981)
"""The 97.5 % quantile as a polynomial in 1 / nu, from 0 to 1/2: to 2e-8 of itself."""


class StudentT(LocationScale):
    """
    Real features; theta is the location. Each feature has its degrees of freedom nu, learned, from 2 to 150.

    log p(x|z) = log Gamma((nu + 1) / 2) - log Gamma(nu / 2) - log(nu pi) / 2 - log sigma - log scale
    - (nu + 1) / 2 log(1 + (x - theta)^2 / (nu sigma^2)). An outlier costs its logarithm and not its square, so that a
    few bad rows among the training data do not widen what is expected of the others.
    """

    uniforms = 2

    def __init__(self, features: int, sigma: Sigma = "feature", sigma_value: float = 1.0) -> None:
        super().__init__(features, sigma, sigma_value)
        self.raw_nu = nn.Parameter(torch.full((features,), _START))

    def nu(self) -> Tensor:
        """Degrees of freedom: (C,)."""
        return 2 + (_BOUND * torch.tanh(self.raw_nu / _BOUND)).exp()

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """Energy = (nu + 1) / 2 log(1 + (x - theta)^2 / (nu sigma^2)), and log sigma where it depends on the row."""
        log_sigma, nu = self.log_sigma(theta), self.nu()
        squares = ((v - self.location(theta)) * ((-log_sigma).exp() / nu.sqrt())).square()
        energy = (nu + 1) / 2 * torch.log1p(squares)
        return energy + log_sigma if self.sigma == "row" else energy

    def peak(self) -> Tensor:
        """The terms of nu, -log scale, and -log sigma where it is the same for all rows."""
        half = self.nu().double() / 2  # the two log-gammas are close to each other: in float64
        terms = log_gamma(half + 0.5) - log_gamma(half) - 0.5 * (2 * math.pi * half).log()
        constant = terms.to(self.log_scale.dtype) - self.log_scale
        return constant if self.sigma == "row" else constant - self.log_sigma()

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Location and interval = location +- t sigma, t the 97.5 % quantile of nu degrees of freedom."""
        location, half = self.location(theta), self._half(theta)
        return location, location - half, location + half

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean is exact; the interval is that of `mix_interval`."""
        location = self.location(theta)
        half = self._half(theta) + torch.zeros_like(location)
        return mix_interval(weights, location, half, half)

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """Location + sigma t, with t of two uniform numbers: sqrt(nu (u^(-2 / nu) - 1)) cos(2 pi u') (Bailey 1994)."""
        nu = self.nu()
        square = nu * ((-2 / nu * (1 - u[:, 0]).log()).exp() - 1)
        t = square.clamp(min=0).sqrt() * (2 * math.pi * u[:, 1]).cos()
        return self.location(theta) + self.log_sigma(theta).exp() * t

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """
        The unit and the floor of each feature; the bias is the mean, and sigma the standard deviation.

        Of the feature itself: pixels are standardised together, and those that are almost always 0 have far to go.
        """
        return self.adapt_location(rows, rows.variance().sqrt().log())

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """Any number; the smallest and largest sigma and nu among the features, sigma in original units."""
        nu = self.nu().detach()
        said = {**self.parameters_said(), "smallest_nu": float(nu.min()), "largest_nu": float(nu.max())}
        return (Described(family="student-t", columns=columns, support="real", parameters={**said}),)

    def _half(self, theta: Tensor) -> Tensor:
        """Half the interval: (C,), or (..., C) with sigma by row."""
        inverse = 1 / self.nu()
        quantile = torch.zeros_like(inverse)
        for coefficient in reversed(_QUANTILE):
            quantile = quantile * inverse + coefficient
        return quantile * self.log_sigma(theta).exp()
