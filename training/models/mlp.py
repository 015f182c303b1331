"""
The VAE with fully connected encoder and decoder, and the configuration that rebuilds it.

Knows the shapes of tensors; nothing of data files, optimisers or ONNX. B rows, C features, L latents, P numbers
from the decoder (see `Likelihood.outputs`). What the encoder takes of a row is the business of `features`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service.inputs import Inputs
from training.likelihoods.choose import Count, Family, make_likelihood
from training.likelihoods.likelihood import Likelihood, Rows
from training.likelihoods.location_scale import Sigma
from training.models.features import Features
from training.models.prior import Kind as PriorKind
from training.models.prior import Prior, make_prior
from training.moments import SIGMA_MIN, constant, log_sigma_floor, standardisation
from training.scaling import Scaling
from training.thinning import some_of

Activation = Literal["silu", "relu", "tanh"]
Array = NDArray[np.generic]

LOGVAR_BOUND = 10.0


@dataclass(frozen=True)
class VAEConfig:
    """
    What is needed to build the network again; saved in the checkpoint and the manifest.

    *hidden*: widths of the encoder's layers; the decoder has them in reverse. Empty: a linear VAE.
    *standardise*: false where values pass as they are. *likelihood*, *sigma*, *sigma_value*, *levels*, *count*: see
    `make_likelihood`. *prior*, *components*: see `make_prior`. *sigma_floor*: see `log_sigma_floor`.
    """

    latent_dim: int
    hidden: tuple[int, ...]
    likelihood: Family
    activation: Activation = "silu"
    sigma: Sigma = "feature"
    standardise: bool = True
    sigma_value: float = 1.0
    levels: int = 0
    count: Count = "negative-binomial"
    prior: PriorKind = "standard-normal"
    components: int = 100
    sigma_floor: float = SIGMA_MIN


class VAE(nn.Module):
    """
    q(z|x) = N(mu, diag exp(logvar)) and p(x|z), on standardised values.

    `scaling` and `likelihood` are parts of it, so that it can be asked in original units.
    """

    def __init__(self, inputs: Inputs, config: VAEConfig, seed: int = 0) -> None:
        super().__init__()
        self.inputs = inputs
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        self.features = Features(inputs, generator)
        widths = (self.features.width, *config.hidden)
        self.scaling = Scaling(inputs, identity=not config.standardise)
        self.likelihood: Likelihood = make_likelihood(
            inputs, config.likelihood, config.sigma, config.count, config.sigma_value, config.levels
        )
        self.encoder = _layers(widths, config.activation, generator)
        self.mu = _linear(widths[-1], config.latent_dim, generator)
        self.logvar = _linear(widths[-1], config.latent_dim, generator)
        self.decoder = _layers((config.latent_dim, *config.hidden[::-1]), config.activation, generator)
        last = config.hidden[0] if config.hidden else config.latent_dim
        self.theta = _linear(last, self.likelihood.outputs, generator)
        self.prior: Prior = make_prior(config.prior, config.latent_dim, config.components, generator)
        self.others = nn.ModuleList()

    @property
    def members(self) -> tuple[VAE, ...]:
        """Those of the ensemble that it is the first of; itself where it is none. Only the scorer asks the others."""
        return (self, *(other for other in self.others if isinstance(other, VAE)))

    def values(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Values as the networks take them, 0 where missing: (B, *shape), (B, C) bool -> (B, C) float32."""
        v: Tensor = self.scaling(x)
        return v if mask is None else torch.where(mask, v, 0.0)

    def encode(self, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """
        Mu and logvar of q(z|x), logvar smoothly within +-10: (B, C) standardised -> (B, L) each.

        *mask*: (B, C), what was observed, where values may be missing; v is 0 where it is false.
        """
        h = self.encoder(self.features(v, mask))
        return self.mu(h), LOGVAR_BOUND * torch.tanh(self.logvar(h) / LOGVAR_BOUND)

    def decode(self, z: Tensor) -> Tensor:
        """The parameters of p(x|z): (..., L) -> (..., P)."""
        theta: Tensor = self.theta(self.decoder(z))
        return theta

    def adapt(self, x: Array) -> None:
        """
        Take scaling, the floor of sigma and the decoder's first bias from the training rows, (n, *shape).

        NaN is a missing value.
        """
        with torch.no_grad():
            scale = np.ones(self.inputs.features)
            if self.config.standardise:
                if self.likelihood.bounds is None:
                    center, scale = standardisation(x, self.inputs)
                else:
                    low, high = self.likelihood.bounds
                    center, scale = np.full_like(scale, low), np.full_like(scale, high - low)
                self.scaling.center.copy_(torch.from_numpy(center))
                self.scaling.scale.copy_(torch.from_numpy(scale))
            some = torch.from_numpy(some_of(x).astype(self.inputs.dtype))
            v, mask = self.features.observed(self.scaling(some))
            observed = torch.ones_like(v, dtype=torch.bool) if mask is None else mask
            self.features.adapt(v, observed)
            floor = log_sigma_floor(x, self.inputs, scale, self.config.sigma_floor)
            unit = [torch.from_numpy(array) for array in (constant(x), scale, floor)]
            bias, fixed = self.likelihood.adapt(Rows(v, observed, *unit))
            self.theta.bias.copy_(bias)
            self.theta.weight[fixed] = 0


def ensemble(members: Sequence[VAE]) -> VAE:
    """
    The first of *members*, with the others in it: p(x) = 1/M sum_m p_m(x), see `scorer_graph.ScorerGraph`.

    They are of one configuration, each fitted to other rows.
    """
    first = members[0]
    first.others = nn.ModuleList(members[1:])
    return first


def alone(member: VAE) -> VAE:
    """A copy of *member* as a model by itself."""
    copied = copy.deepcopy(member)
    copied.others = nn.ModuleList()
    return copied


def _layers(widths: tuple[int, ...], activation: Activation, generator: torch.Generator) -> nn.Sequential:
    act = {"silu": nn.SiLU, "relu": nn.ReLU, "tanh": nn.Tanh}[activation]
    layers: list[nn.Module] = []
    for width, following in itertools.pairwise(widths):
        layers += [_linear(width, following, generator), act()]
    return nn.Sequential(*layers)


def _linear(width: int, following: int, generator: torch.Generator) -> nn.Linear:
    """Glorot & Bengio 2010, eq. 16, drawn from *generator*: the global one would tie runs to what ran before."""
    layer = nn.Linear(width, following, device="meta").to_empty(device="cpu")
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
