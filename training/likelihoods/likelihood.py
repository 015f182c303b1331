"""
What a family of likelihoods p(x|z) must answer, factorised over the features.

A family takes the decoder's outputs, theta, and the features as the model has them, v, and answers in nats of the
original units. What v is, is the family's own: standardised values for a Gaussian, 0 and 1 for a Bernoulli, the index of
a category, a count. Everything here is exported to ONNX, so it is written in operators that survive that: no
torch.distributions, no logsigmoid, no BCE-with-logits (its export is +inf below a logit of -18), no lgamma. C features,
P numbers from the decoder, K draws, U uniform numbers; "..." are any leading axes.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from service.manifest import Likelihood as Described


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


class Likelihood(nn.Module):
    """
    One family, of C features.

    *outputs*: P, how many numbers the decoder gives a row. *uniforms*: U, how many uniform numbers one draw of a
    feature takes. *steps*: values of the mean at which an end of the interval jumps; there, two right implementations
    may differ.
    """

    outputs: int
    uniforms: int = 1
    steps: tuple[float, ...] = ()

    def log_prob(self, theta: Tensor, v: Tensor) -> Tensor:
        """The log p(x_c|z) = peak_c - energy_c of each feature, in original units: (..., P), (..., C) -> (..., C)."""
        return self.peak() - self.energy(theta, v)

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """
        What of -log p(x_c|z) depends on x and z, in nats: (..., P), (..., C) -> (..., C).

        Kept apart from the peak, because a pass over (B, K, C) is what a score costs.
        """
        raise NotImplementedError

    def peak(self) -> Tensor:
        """What of log p(x_c|z) is the same for all x and z: (C,)."""
        raise NotImplementedError

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
