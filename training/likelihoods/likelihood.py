"""
What a family of likelihoods p(x|z) must answer, factorised over the features.

A family takes the decoder's outputs, theta, and the features as the model has them, v, and answers in nats of the
original units. What v is, is the family's own: standardised values for a Gaussian, 0 and 1 for a Bernoulli, the index
of a category, a count. Everything here is exported to ONNX, so it is written in operators that survive that: no
torch.distributions, no logsigmoid, no BCE-with-logits (its export is +inf below a logit of -18), no lgamma. C features,
P numbers from the decoder, K draws, U uniform numbers; "..." are any leading axes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from service.manifest import Likelihood as Described

NORMAL_95: Final = 1.959963984540054  # the 97.5 % quantile of N(0, 1)
TAILS: Final = (0.025, 0.975)
"""What lies below the lower and below the upper end of a central 95 % interval."""


class Rows(NamedTuple):
    """
    What a family learns from the training rows before the first step; n of them.

    *v*: (n, C), as the model has them; 0 where nothing was observed. *observed*: (n, C) bool. *constant*: (C,) bool,
    features that never change. *scale*: (C,), original units in one of v. *floor*: (C,), the least log sigma, in v.
    """

    v: Tensor
    observed: Tensor
    constant: Tensor
    scale: Tensor
    floor: Tensor

    def of(self, columns: Tensor) -> Rows:
        """The same of some columns, by index."""
        v, observed, *by_column = self
        return Rows(v[:, columns], observed[:, columns], *(part[columns] for part in by_column))

    def mean(self) -> Tensor:
        """Of what was observed: (C,)."""
        return self.v.sum(dim=0) / self.observed.sum(dim=0).clamp(min=1)

    def variance(self) -> Tensor:
        """Of what was observed, about its mean: (C,)."""
        squares = ((self.v - self.mean()).square() * self.observed).sum(dim=0)
        return squares / self.observed.sum(dim=0).clamp(min=1)


class Likelihood(nn.Module):
    """
    One family, of C features. Every answer is finite for every finite theta and v, in the support or not.

    *outputs*: P, how many numbers the decoder gives a row. *uniforms*: U, how many uniform numbers one draw of a
    feature takes. *steps*: values of the mean at which an end of the interval jumps; there, two right implementations
    may differ. *jump*: (C,), by how much, as v, where that is not told by the mean. *bounds*: low and high of all
    features in original units, where v is (x - low) / (high - low); None: v is standardised, or x itself.
    """

    uniforms: int = 1
    steps: tuple[float, ...] = ()
    bounds: tuple[float, float] | None = None
    nothing: Tensor
    jump: Tensor

    def __init__(self, features: int, outputs: int, jump: float = 0.0) -> None:
        super().__init__()
        self.features = features
        self.outputs = outputs
        self.register_buffer("nothing", torch.zeros(features), persistent=False)  # goes where the model goes
        self.register_buffer("jump", torch.full((features,), jump), persistent=False)

    def log_prob(self, theta: Tensor, v: Tensor) -> Tensor:
        """The log p(x_c|z) = peak_c - energy_c of each feature, in original units: (..., P), (..., C) -> (..., C)."""
        return self.peak() - self.energy(theta, v)

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """
        What of -log p(x_c|z) depends on x and z, in nats: (..., P), (..., C) -> (..., C).

        Kept apart from the peak, because a pass over (B, K, C) is what a score costs. *v* may lack leading axes of
        *theta*, or have them with size 1.
        """
        raise NotImplementedError

    def peak(self) -> Tensor:
        """What of log p(x_c|z) is the same for all x and z: (C,)."""
        return self.nothing

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and central 95 % interval of p(x|z), as v: (B, P) -> mean, lower, upper, (B, C) each."""
        raise NotImplementedError

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        The same of the mixture sum_k w_k p(x|z_k): (B, K, P), (B, K) -> (B, C) three times.

        Each row of *weights* adds to one.
        """
        raise NotImplementedError

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """A draw from p(x|z), as v, made of uniform numbers from [0, 1): (B, P), (B, U, C) -> (B, C)."""
        raise NotImplementedError

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """
        Take over what does not come by gradients: floors, units, first parameters.

        Returns the decoder's first bias, (P,), and which of its outputs are to stay as they are there, (P,) bool: those
        of features that never change, and have no gradient to find them by.
        """
        raise NotImplementedError

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """The family as the manifest names it; *columns*: the names of its features, None where they have none."""
        raise NotImplementedError


def mix(weights: Tensor, values: Tensor) -> Tensor:
    """sum_k w_k v_k: (B, K), (B, K, C) -> (B, C)."""
    return weights.unsqueeze(1).matmul(values).squeeze(1)


def mix_interval(weights: Tensor, mean: Tensor, below: Tensor, above: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """
    Mean and 95 % interval of a mixture of what have the means *mean* and the intervals [mean - below, mean + above].

    (B, K), (B, K, C) three times -> (B, C) three times. The mean is exact. The half widths are averaged as squares, and
    the draws' means add 1.96^2 times their variance: exact for one draw, and for normals the normal with the two
    moments of the mixture; for several draws an approximation, close where their means differ by less than the half
    widths.
    """
    center = mix(weights, mean)
    spread = NORMAL_95**2 * mix(weights, (mean - center.unsqueeze(1)).square())
    lower = center - (spread + mix(weights, below.square())).sqrt()
    return center, lower, center + (spread + mix(weights, above.square())).sqrt()
