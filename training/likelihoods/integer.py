"""Whole numbers of either sign: years, marks, degrees, differences of counts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from service.inputs import MOST_COUNT
from service.manifest import Likelihood as Described
from training.likelihoods.likelihood import Rows, mix
from training.likelihoods.location_scale import LocationScale, Sigma
from training.likelihoods.logistic import LEAST_U, LOGIT_95, MOST_U, SHARPEST
from training.likelihoods.special import log1mexp, softplus

_WINDOW = 2  # edges on either side of the location that the mean adds up one by one
_LEAST_UNIT = 0.1  # of standard deviations, for a column that hardly changes


class IntegerLogistic(LocationScale):
    """
    Whole numbers without ends, up to 2^24 either way; theta is the location, in *unit* around *center*.

    P(x|z) = F(x + 1/2) - F(x - 1/2), F the logistic with location m and scale s: the discretised logistic of pixels
    (Salimans et al. 2017, PixelCNN++, section 2.1) without levels that take the tails, so that a value beyond all that
    were seen is improbable, and not refused. With a = (x + 1/2 - m) / s and b = (x - 1/2 - m) / s the logarithm is
    -softplus(-a) - softplus(b) + log(1 - exp(-1 / s)): all of one sign, nothing cancels. Center and unit are the mean,
    rounded, and the standard deviation of the rows; sigma is in that unit, and s is at least 1/16.
    """

    center: Tensor

    def __init__(self, features: int, sigma: Sigma = "feature", sigma_value: float = 1.0) -> None:
        super().__init__(features, sigma, sigma_value, jump=1.0)
        self.register_buffer("center", torch.zeros(features))
        self.log_sigma_min.fill_(-math.log(SHARPEST))

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """Energy = softplus(-a) + softplus(b) - log(1 - exp(-1 / s))."""
        location, scale = self._about_center(theta)
        off, inverse = (v.round() - self.center) - location, 1 / scale
        return softplus((-off - 0.5) * inverse) + softplus((off - 0.5) * inverse) - log1mexp(inverse)

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean as `_mean`, and the quantiles in closed form: ends are whole."""
        location, scale = self._about_center(theta)
        return self._kept(self._mean(location, scale)), *self._ends(location, scale)

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean is that of the mixture; the interval that of one logistic with the mixture's mean and variance."""
        location, scale = self._about_center(theta)
        scale = scale + torch.zeros_like(location)
        middle = mix(weights, location)
        spread = mix(weights, (location - middle.unsqueeze(1)).square())
        mixed = (mix(weights, scale.square()) + 3 / math.pi**2 * spread).sqrt()
        return self._kept(mix(weights, self._mean(location, scale))), *self._ends(middle, mixed)

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """The quantile of u, rounded."""
        location, scale = self._about_center(theta)
        share = u[:, 0].clamp(LEAST_U, MOST_U)
        return self._kept((location + scale * (share.log() - (1 - share).log())).round())

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Center and unit of each feature; the bias is the mean, the scale that of a logistic as wide as the rows."""
        unit = rows.variance().sqrt().clamp(min=_LEAST_UNIT)
        unit = torch.where(rows.constant, torch.ones_like(unit), unit)
        seen = torch.where(rows.observed, rows.v, -math.inf).amax(dim=0)
        known = rows.constant & seen.isfinite()
        self.center.copy_(torch.where(known, seen, rows.mean().round()))  # the mean of a large constant may be off
        standard = torch.where(rows.observed, (rows.v - self.center) / unit, 0.0)
        own = rows._replace(v=standard, scale=unit, floor=-(SHARPEST * unit).log())
        return self.adapt_location(own, torch.full_like(unit, math.log(math.sqrt(3) / math.pi)))

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """Whole numbers, which the columns' kind says; the smallest and largest scale among the features."""
        parameters = {**self.parameters_said()}
        return (Described(family="discretised-logistic", columns=columns, support="real", parameters=parameters),)

    def _about_center(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Location, from the center, and scale, both in whole numbers."""
        unit = self.log_scale.exp()
        return self.location(theta) * unit, self.log_sigma(theta).exp() * unit

    def _kept(self, from_center: Tensor) -> Tensor:
        return (from_center + self.center).clamp(-MOST_COUNT, MOST_COUNT)

    def _ends(self, location: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The first whole numbers j with F(j + 1/2) of 2.5 % and 97.5 %."""
        half = LOGIT_95 * scale
        return self._kept((location - half - 0.5).ceil()), self._kept((location + half - 0.5).ceil())

    def _mean(self, location: Tensor, scale: Tensor) -> Tensor:
        """
        The nearest whole number j, with the sum of P(x > j + i) less that of P(x < j - i) over i = 0, 1, ...

        The first of each one by one, the others as integrals: see `DiscretisedLogistic`. Within 0.006.
        """
        nearest = location.round()
        off = location - nearest
        total = scale * (softplus((off - _WINDOW) / scale) - softplus((-off - _WINDOW) / scale))
        for i in range(_WINDOW):
            total = total + ((off - (i + 0.5)) / scale).sigmoid() - ((-off - (i + 0.5)) / scale).sigmoid()
        return nearest + total
