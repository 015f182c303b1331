"""What families with a location and a scale have in common: where sigma comes from, and its bounds."""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor, nn

from training.likelihoods.likelihood import Likelihood, Rows
from training.likelihoods.special import softplus
from training.moments import SIGMA_MIN

Sigma = Literal["fixed", "shared", "feature", "row"]
"""Not learned; learned, one for all features; one a feature; by the decoder, one a feature and row."""

LOG_SIGMA_MAX: Final = 3.0


class LocationScale(Likelihood):
    """
    Real features; theta is the location, and with *sigma* = "row" behind it what log sigma comes from: P = 2 C.

    log sigma is kept above *log_sigma_min* (from the resolution of the data: no value is sharper than it was recorded)
    and below 3, smoothly, so that its gradient never dies (Rybkin et al. 2021, section 4). A fixed sigma is
    *sigma_value*, or the least one where that is more.
    """

    log_scale: Tensor
    log_sigma_min: Tensor
    fixed_log_sigma: Tensor

    def __init__(self, features: int, sigma: Sigma = "feature", sigma_value: float = 1.0, jump: float = 0.0) -> None:
        super().__init__(features, 2 * features if sigma == "row" else features, jump)
        self.sigma = sigma
        if sigma in ("feature", "shared"):
            self.raw_log_sigma = nn.Parameter(torch.zeros(features if sigma == "feature" else 1))
        self.register_buffer("fixed_log_sigma", torch.full((features,), math.log(sigma_value)), persistent=False)
        self.register_buffer("log_scale", torch.zeros(features))
        self.register_buffer("log_sigma_min", torch.full((features,), math.log(SIGMA_MIN)))

    def location(self, theta: Tensor) -> Tensor:
        """The part of theta that is the location: (..., P) -> (..., C)."""
        return theta[..., : self.features] if self.sigma == "row" else theta

    def log_sigma(self, theta: Tensor | None = None) -> Tensor:
        """Log of the scale of each feature, as v: (C,); with "row" it needs *theta*: (..., P) -> (..., C)."""
        if self.sigma == "fixed":
            return torch.maximum(self.fixed_log_sigma, self.log_sigma_min)
        if self.sigma != "row":
            return self._bounded(self.raw_log_sigma)
        assert theta is not None, "This is a bug: sigma is in theta."
        return self._bounded(theta[..., self.features :])

    def adapt_location(self, rows: Rows, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        """
        As `adapt`: the mean, and sigma about *log_sigma*, (C,), to begin with, or the least sigma where that is more.

        One for all features begins with their mean square. Features that never change are known from the start, with
        the least sigma: their residual is 0, so they have no gradient, and stay known however short the fit.
        """
        self.log_scale.copy_(rows.scale.log())
        self.log_sigma_min.copy_(rows.floor)
        first = torch.maximum(log_sigma, self.log_sigma_min)
        raw = torch.where(rows.constant, self.log_sigma_min - 5, first)
        if self.sigma == "feature":
            self.raw_log_sigma.copy_(raw)
        elif self.sigma == "shared":
            self.raw_log_sigma.copy_((2 * first).exp().mean().log() / 2)
        bias = torch.where(rows.constant, rows.v.amax(dim=0), rows.mean())
        if self.sigma == "row":
            return torch.cat([bias, raw]), torch.cat([rows.constant, rows.constant])
        return bias, rows.constant

    def parameters_said(self) -> dict[str, str | float]:
        """Where sigma comes from; the smallest and largest one, in original units, where it is the same in all rows."""
        if self.sigma == "row":
            return {"sigma": self.sigma}
        sigma = (self.log_sigma() + self.log_scale).exp().detach()
        return {"sigma": self.sigma, "smallest_sigma": float(sigma.min()), "largest_sigma": float(sigma.max())}

    def _bounded(self, raw: Tensor) -> Tensor:
        capped = LOG_SIGMA_MAX - softplus(LOG_SIGMA_MAX - raw)
        return self.log_sigma_min + softplus(capped - self.log_sigma_min)
