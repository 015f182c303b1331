"""Counts: Poisson, and negative binomial where they vary more than that."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from service.inputs import MOST_COUNT
from service.manifest import Likelihood as Described
from training.likelihoods.count_quantiles import count_interval, gamma_draw, poisson_draw
from training.likelihoods.likelihood import Likelihood, Rows, mix
from training.likelihoods.special import HALF_LOG_2_PI, exact_softplus, exp_residual, stirling_error

_RATE_BOUND = 40.0  # of |log rate|
_SHAPE_MIDDLE, _SHAPE_BOUND = 4.0, 8.0  # log r from -4 to 12: 0.02, of many zeros, to 160,000, which is a Poisson
_MOST_SHARE = 30.0  # log of 1 / w for the least weight w that counts: its square is finite, for a weight of 0
_POISSON = 20.0  # log r of what is a Poisson in all digits


class Poisson(Likelihood):
    """
    Counts, whole numbers from 0 to 2^24; theta is the logarithm of the rate, kept smoothly within +-40.

    log p(x|z) = x log rate - rate - log Gamma(x + 1), as Loader (2000) has it: with d = log rate - log x it is
    -x (exp(d) - 1 - d) - log(2 pi x) / 2 - stirling_error(x), so that a large count loses no digits in a difference.
    """

    uniforms = 3

    def __init__(self, features: int) -> None:
        super().__init__(features, features, jump=1.0)

    def log_rate(self, theta: Tensor) -> Tensor:
        """The logarithm of the rate."""
        return _RATE_BOUND * torch.tanh(theta / _RATE_BOUND)

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """Energy = -log p(x|z)."""
        log_rate, x = self.log_rate(theta), _counts(v)
        some = x.clamp(min=1)
        log_x = some.log()
        rest = torch.where(x > 0, 0.5 * log_x + HALF_LOG_2_PI + stirling_error(some), torch.zeros_like(x))
        return torch.where(x > 0, some * exp_residual(log_rate - log_x), log_rate.exp()) + rest

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The rate, and the quantiles as `count_interval` has them."""
        log_rate = self.log_rate(theta)
        return log_rate.exp(), *count_interval(log_rate, torch.full_like(log_rate, _POISSON))

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        The mean is exact; the interval is that of the negative binomial with the mixture's mean and variance.

        Exact for one draw as far as `count_interval` is.
        """
        return _mixture(self.log_rate(theta), weights, 0.0)

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """See `poisson_draw`."""
        return _counts(poisson_draw(self.log_rate(theta), u))

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The logarithm of the mean."""
        return _first_bias(rows), torch.zeros(self.outputs, dtype=torch.bool)

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """Whole numbers from 0 to 2^24."""
        return (Described(family="poisson", columns=columns, support="count", low=0, high=MOST_COUNT),)


class NegativeBinomial(Poisson):
    """
    Counts, whole numbers from 0 to 2^24; theta is the logarithm of the mean m. Each feature has its shape r, learned.

    p(x|z) = Gamma(x + r) / (Gamma(r) x!) (r / (r + m))^r (m / (r + m))^x, of variance m + m^2 / r: a Poisson whose
    rate is itself gamma distributed. As Loader (2000) has it: the logarithm is -D + (log r - log(2 pi x (x + r))) / 2
    + stirling_error(x + r) - stirling_error(r) - stirling_error(x), with D = x (exp(e) - 1 - e) + r (exp(d) - 1 - d),
    d = log((x + r) / (m + r)), e = d + log(m / x).
    """

    uniforms = 13

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.raw_log_shape = nn.Parameter(torch.zeros(features))

    def log_shape(self) -> Tensor:
        """Log r: (C,)."""
        return _SHAPE_MIDDLE + _SHAPE_BOUND * torch.tanh((self.raw_log_shape - _SHAPE_MIDDLE) / _SHAPE_BOUND)

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """Energy = -log p(x|z)."""
        log_mean, x, log_shape = self.log_rate(theta), _counts(v), self.log_shape()
        some, shape = x.clamp(min=1), log_shape.exp()
        log_x = some.log()
        log_sum = log_shape + exact_softplus(log_x - log_shape)
        excess = exact_softplus(log_mean - log_shape)  # log((r + m) / r)
        d = exact_softplus(log_x - log_shape) - excess
        deviance = some * exp_residual(d + (log_mean - log_x)) + shape * exp_residual(d)
        own = stirling_error(log_shape.double().exp()).to(x.dtype)
        rest = 0.5 * (log_x + log_sum - log_shape) + HALF_LOG_2_PI
        rest = rest + own + stirling_error(some) - stirling_error(some + shape)
        return torch.where(x > 0, deviance, shape * excess) + torch.where(x > 0, rest, torch.zeros_like(x))

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean, and the quantiles as `count_interval` has them."""
        log_mean = self.log_rate(theta)
        return log_mean.exp(), *count_interval(log_mean, self.log_shape() + torch.zeros_like(log_mean))

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        The mean is exact; the interval is that of the negative binomial with the mixture's mean and variance.

        Exact for one draw as far as `count_interval` is.
        """
        return _mixture(self.log_rate(theta), weights, (-self.log_shape()).exp())

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """A Poisson of a rate that is drawn from its gamma distribution; see `gamma_draw`, `poisson_draw`."""
        log_factor = gamma_draw(self.log_shape(), u[:, 3:])
        return _counts(poisson_draw(self.log_rate(theta) + log_factor, u))

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The logarithm of the mean, and r of the variance, between 0.1 and 1,000."""
        mean, variance = rows.mean(), rows.variance()
        shape = (mean.square() / (variance - mean).clamp(min=1e-6)).clamp(0.1, 1000)
        part = (shape.log() - _SHAPE_MIDDLE) / _SHAPE_BOUND
        self.raw_log_shape.copy_(_SHAPE_MIDDLE + _SHAPE_BOUND * torch.atanh(part))
        return super().adapt(rows)

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """Whole numbers from 0 to 2^24; the smallest and largest r among the features."""
        shape = self.log_shape().exp().detach()
        said = {"smallest_shape": float(shape.min()), "largest_shape": float(shape.max())}
        return (
            Described(
                family="negative-binomial",
                columns=columns,
                support="count",
                low=0,
                high=MOST_COUNT,
                parameters={**said},
            ),
        )


def _counts(v: Tensor) -> Tensor:
    return v.round().clamp(0, MOST_COUNT)


def _first_bias(rows: Rows) -> Tensor:
    log_mean = rows.mean().clamp(min=1e-3).log()
    return _RATE_BOUND * torch.atanh(log_mean / _RATE_BOUND)


def _mixture(log_rate: Tensor, weights: Tensor, inverse_shape: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and interval of a mixture: with s^2 the variance of the means m_k, var = m + m^2 / r + s^2 (1 + 1 / r)."""
    mean = mix(weights, log_rate.exp())
    log_mean = mean.clamp(min=1e-30).log()
    share = (log_rate - log_mean.unsqueeze(1)).clamp(max=_MOST_SHARE).exp()  # m_k / m
    spread = mix(weights, (share - 1).square())
    inverse = inverse_shape + spread * (1 + inverse_shape)
    return mean, *count_interval(log_mean, -inverse.clamp(min=2e-9).log())
