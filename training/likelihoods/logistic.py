"""Whole levels of an interval: pixels of 8 bits, marks."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from service.manifest import Likelihood as Described
from training.likelihoods.likelihood import Rows, mix
from training.likelihoods.location_scale import LocationScale, Sigma
from training.likelihoods.special import log1mexp, softplus

LOGIT_95: Final = math.log(0.975 / 0.025)
_FAR = 1e6  # an edge that is not there, in ranges
SHARPEST: Final = 16  # levels in which the least scale goes: the level of the location then has 99.97 % of the mass
_WINDOW = 4  # edges about the location that the mean adds up one by one
LEAST_U: Final = 2.0**-24
MOST_U: Final = 1 - 2.0**-24


class DiscretisedLogistic(LocationScale):
    """
    *levels* equally spaced values from *low* to *high*; with v = (x - low) / (high - low), theta is the location.

    p(x|z) = F(v + h) - F(v - h), F the logistic with that location m and scale s, h half of the distance of two levels;
    the first and the last level take the tails (Salimans et al. 2017, PixelCNN++, section 2.1). With
    a = (v + h - m) / s and b = (v - h - m) / s its logarithm is -softplus(-a) - softplus(b) + log(1 - exp(-2 h / s)):
    all of one sign, nothing cancels. A value between two levels is taken as the nearer one. Probabilities, not
    densities: no unit is in them.
    """

    def __init__(
        self, features: int, low: float, high: float, levels: int, sigma: Sigma = "feature", sigma_value: float = 1.0
    ) -> None:
        self.last = levels - 1
        super().__init__(features, sigma, sigma_value, jump=1 / self.last)
        self.bounds = (low, high)
        self.log_sigma_min.fill_(-math.log(SHARPEST * self.last))

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """Energy = softplus(-a) + softplus(b) - log(1 - exp(-2 h / s))."""
        log_sigma, location = self.log_sigma(theta), self.location(theta)
        level = (v * self.last).round()
        first, end = (level <= 0).to(v.dtype), (level >= self.last).to(v.dtype)
        above = (level + 0.5) / self.last + _FAR * end
        below = (level - 0.5) / self.last - _FAR * first
        inverse = (-log_sigma).exp()
        tails = softplus((location - above) * inverse) + softplus((below - location) * inverse)
        return tails - (1 - first) * (1 - end) * log1mexp(inverse / self.last)

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean as `_mean`, and the quantiles in closed form: ends are levels."""
        location, scale = self._in_levels(theta)
        return self._mean(location, scale) / self.last, *self._ends(location, scale)

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        The mean is that of the mixture; the interval that of one logistic, with the mixture's mean and variance.

        Exact for one draw, before the levels are cut; for several an approximation, close where the draws' locations
        differ by less than their scales.
        """
        location, scale = self._in_levels(theta)
        scale = scale + torch.zeros_like(location)
        center = mix(weights, location)
        spread = mix(weights, (location - center.unsqueeze(1)).square())
        mixed = (mix(weights, scale.square()) + 3 / math.pi**2 * spread).sqrt()
        return mix(weights, self._mean(location, scale)) / self.last, *self._ends(center, mixed)

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """The quantile of u, rounded to a level."""
        location, scale = self._in_levels(theta)
        share = u[:, 0].clamp(LEAST_U, MOST_U)
        return self._cut((location + scale * (share.log() - (1 - share).log())).round())

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The bias is the mean, and the scale to begin with that of a logistic with the variance of the rows."""
        least = torch.full_like(self.log_sigma_min, -math.log(SHARPEST * self.last))
        log_scale = (rows.variance().sqrt() * (math.sqrt(3) / math.pi)).log()
        own = rows._replace(scale=torch.ones_like(rows.scale), floor=least)
        return self.adapt_location(own, log_scale)

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """The number of levels; the smallest and largest scale among the features, as shares of the range."""
        assert self.bounds is not None, "This is a bug: they are set with the rest."
        low, high = self.bounds
        return (
            Described(
                family="discretised-logistic",
                columns=columns,
                support="interval",
                low=low,
                high=high,
                parameters={"levels": self.last + 1, **self.parameters_said()},
            ),
        )

    def _in_levels(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale, with the first level at 0 and the next at 1."""
        return self.location(theta) * self.last, self.log_sigma(theta).exp() * self.last

    def _cut(self, level: Tensor) -> Tensor:
        return level.clamp(0, self.last) / self.last

    def _ends(self, location: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The first levels j with F(j + 1/2) of 2.5 % and 97.5 %."""
        half = LOGIT_95 * scale
        return self._cut((location - half - 0.5).ceil()), self._cut((location + half - 0.5).ceil())

    def _mean(self, location: Tensor, scale: Tensor) -> Tensor:
        """
        The sum of P(level > j) over the edges j + 1/2: those about the location one by one, the others as an integral.

        An integral over a span of unit steps is the sum over their middles up to 1/24 of the change of the slope; where
        the logistic is so sharp that this is much, the location's own edges have it all. Within 0.006 levels.
        """
        window = min(_WINDOW, self.last)
        start = (location.round() - window // 2).clamp(0, self.last - window)
        total = self._over(location, scale, torch.zeros_like(start), start)
        total = total + self._over(location, scale, start + window, torch.full_like(start, self.last))
        for i in range(window):
            total = total + ((location - start - (i + 0.5)) / scale).sigmoid()
        return total.clamp(0, self.last)

    def _over(self, location: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The integral of sigmoid((location - t) / scale) over t from *low* to *high*."""
        return scale * (softplus((location - low) / scale) - softplus((location - high) / scale))
