"""Which likelihood is meant by a name."""

from __future__ import annotations

from typing import Literal

from service.manifest import Inputs
from training.likelihoods.bernoulli import Bernoulli
from training.likelihoods.gaussian import Gaussian, Sigma
from training.likelihoods.likelihood import Likelihood

Family = Literal["bernoulli", "gaussian"]


def make_likelihood(inputs: Inputs, family: Family, sigma: Sigma) -> Likelihood:
    """The likelihood of *family* for *inputs*, with the parameters that it starts from."""
    return Bernoulli(inputs.features) if family == "bernoulli" else Gaussian(inputs.features, sigma)
