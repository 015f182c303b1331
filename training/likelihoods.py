"""
The likelihoods p(x|z): one class a family, factorised over the features.

A family takes the decoder's outputs, theta, and standardised values, and answers in nats of the original units:
log p(x_raw) = log p(x_standardised) - sum_d log scale_d. Everything here is exported to ONNX, so it is written in
operators that survive that: no torch.distributions, no logsigmoid, no BCE-with-logits (its export is +inf below a
logit of -18), no lgamma. C features, P numbers from the decoder, K draws; "..." are any leading axes.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.manifest import Likelihood as Described
from training.moments import SIGMA_MIN

Family = Literal["bernoulli", "gaussian"]
Sigma = Literal["feature", "shared"]

NORMAL_95: Final = 1.959963984540054  # the 97.5 % quantile of N(0, 1)
LOG_SIGMA_MAX: Final = 3.0


class Likelihood(nn.Module):
    """
    What a family must answer.

    *outputs*: P, how many numbers the decoder gives a row. *steps*: values of the mean at which an end of the
    interval jumps; there, two right implementations may differ.
    """

    outputs: int
    steps: tuple[float, ...] = ()

    def log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        """The log p(x_c|z) = peak_c - energy_c of each feature, in original units: (..., P), (..., C) -> (..., C)."""
        return self.peak() - self.energy(theta, x)

    def energy(self, theta: Tensor, x: Tensor) -> Tensor:
        """
        What of -log p(x_c|z) depends on x and z, in nats: (..., P), (..., C) -> (..., C).

        Kept apart from the peak, because a pass over (B, K, C) is what a score costs.
        """
        raise NotImplementedError

    def peak(self) -> Tensor:
        """What of log p(x_c|z) is the same for all x and z: (C,)."""
        raise NotImplementedError

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and central 95 % interval of p(x|z), standardised: (B, P) -> mean, lower, upper, (B, C) each."""
        raise NotImplementedError

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        The same of the mixture sum_k w_k p(x|z_k): (B, K, P), (B, K) -> (B, C) three times.

        Each row of *weights* adds to one.
        """
        raise NotImplementedError

    def initial_bias(self, mean: Tensor) -> Tensor:
        """The decoder's last bias before the first step, from the mean of the standardised data: (C,) -> (P,)."""
        raise NotImplementedError

    def described(self) -> Described:
        """The family as the manifest names it."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    """
    Binary features; theta is the logit.

    log p(x|z) = x theta - softplus(theta). A density only on {0, 1}: on grey values it does not add to one.
    """

    steps = (0.025, 0.975)
    nothing: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.outputs = features
        self.register_buffer("nothing", torch.zeros(features), persistent=False)  # goes where the model goes

    def energy(self, theta: Tensor, x: Tensor) -> Tensor:
        """Energy = softplus(theta) - x theta."""
        return functional.softplus(theta) - x * theta

    def peak(self) -> Tensor:
        """Nothing: the energy is all there is."""
        return self.nothing

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The quantiles of a Bernoulli are 0 or 1."""
        return self._interval(theta.sigmoid())

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Exact: a mixture of Bernoullis is the Bernoulli of the mixed mean."""
        return self._interval(_mix(weights, theta.sigmoid()))

    def _interval(self, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = self.steps
        return mean, (mean > high).to(mean.dtype), (mean > low).to(mean.dtype)

    def initial_bias(self, mean: Tensor) -> Tensor:
        """The logit of the mean, as in Burda et al. 2016; kept away from certainty."""
        return torch.logit(mean.clamp(1e-3, 1 - 1e-3))

    def described(self) -> Described:
        """Binary data only."""
        return Described(family="bernoulli", support="binary", low=0, high=1)


class Gaussian(Likelihood):
    """
    Real features; theta is the mean, sigma is learned: one a feature, or one for all.

    log p(x|z) = -((x - theta)^2 / sigma^2 + log 2 pi) / 2 - log sigma - log scale. log sigma is kept above
    *log_sigma_min* (from the resolution of the data: no value is sharper than it was recorded) and below 3,
    smoothly, so that its gradient never dies (Rybkin et al. 2021, section 4).
    """

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

    def energy(self, theta: Tensor, x: Tensor) -> Tensor:
        """Energy = (x - theta)^2 / (2 sigma^2)."""
        return ((x - theta) * (math.sqrt(0.5) * (-self.log_sigma()).exp())).square()

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
        mean = _mix(weights, theta)
        spread = _mix(weights, (theta - mean.unsqueeze(1)).square())
        half = NORMAL_95 * (spread + (2 * self.log_sigma()).exp()).sqrt()
        return mean, mean - half, mean + half

    def initial_bias(self, mean: Tensor) -> Tensor:
        """The mean itself."""
        return mean

    def described(self) -> Described:
        """Any number; the smallest and largest sigma among the features, in original units."""
        sigma = (self.log_sigma() + self.log_scale).exp().detach()
        return Described(
            family="gaussian",
            support="real",
            parameters={
                "sigma": self.sigma,
                "smallest_sigma": float(sigma.min()),
                "largest_sigma": float(sigma.max()),
            },
        )


def make_likelihood(family: Family, features: int, sigma: Sigma) -> Likelihood:
    """The likelihood of that name, with the parameters that it starts from."""
    return Bernoulli(features) if family == "bernoulli" else Gaussian(features, sigma)


def _mix(weights: Tensor, values: Tensor) -> Tensor:
    """sum_k w_k v_k: (B, K), (B, K, C) -> (B, C)."""
    return torch.matmul(weights.unsqueeze(1), values).squeeze(1)
