"""Levels with an order: marks, sizes, stages."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from service.manifest import Likelihood as Described
from training.likelihoods.categorical import described_by_levels
from training.likelihoods.likelihood import TAILS, Likelihood, Rows, mix
from training.likelihoods.special import log1mexp, softplus

_FAR = 1e9  # a cut point that is not there
_LEAST_STEP = 1e-3


class Ordinal(Likelihood):
    """
    Levels by index; theta is one location a feature, and each feature has cut points c_1 < c_2 < ... of its own.

    P(x <= k|z) = sigmoid(c_k - theta) (McCullagh 1980). With a = c_x - theta and b = c_(x - 1) - theta the logarithm of
    the difference is -softplus(-a) - softplus(b) + log(1 - exp(b - a)): all of one sign, nothing cancels, and the last
    term does not depend on theta. Cut points increase by softplus steps, of 0.001 at least. *levels*: of each feature.
    An index outside the levels is taken as the nearest one.
    """

    last: Tensor
    absent: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        self.cuts = max(max(levels) - 1, 1)
        super().__init__(len(levels), len(levels), jump=max(levels) - 1.0)
        self.levels = levels
        counts = torch.tensor(levels)
        self.register_buffer("last", counts.float() - 1, persistent=False)
        self.register_buffer("absent", torch.arange(self.cuts) >= counts.unsqueeze(1) - 1, persistent=False)
        self.first_cut = nn.Parameter(torch.zeros(len(levels), 1))
        self.raw_steps = nn.Parameter(torch.zeros(len(levels), self.cuts - 1))

    def cut_points(self) -> Tensor:
        """Of each feature, in order, and far away where a feature has no more: (C, cuts)."""
        steps = softplus(self.raw_steps) + _LEAST_STEP
        points = torch.cat([self.first_cut, self.first_cut + steps.cumsum(dim=-1)], dim=-1)
        return torch.where(self.absent, _FAR, points)

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """Energy = softplus(-a) + softplus(b) - log(1 - exp(b - a))."""
        far = torch.full_like(self.first_cut, _FAR)
        table = torch.cat([-far, self.cut_points(), far], dim=-1)  # (C, cuts + 2)
        start = torch.arange(self.features, device=v.device) * (self.cuts + 2)
        index = torch.minimum(v.round().clamp(min=0), self.last).long() + start
        below, above = table.flatten()[index], table.flatten()[index + 1]
        tails = softplus(theta - above) + softplus(below - theta)
        return tails - log1mexp(above - below)

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The median level, and the levels at 2.5 % and 97.5 %."""
        return self._quantiles(self._cumulated(theta))

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Exact: the same of the mixed cumulated probabilities."""
        mixed = mix(weights, self._cumulated(theta).flatten(-2))
        return self._quantiles(mixed.reshape(-1, self.features, self.cuts))

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """How many of the cumulated probabilities are at most u."""
        return (self._cumulated(theta) <= u[:, 0].unsqueeze(-1)).to(theta.dtype).sum(dim=-1)

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Cut points that give each level its frequency, seen half a time more, at a location of 0."""
        width = self.cuts + 1
        index = torch.minimum(rows.v.round().clamp(min=0), self.last).long() + width * torch.arange(self.features)
        seen = torch.bincount(index[rows.observed], minlength=width * self.features).reshape(-1, width) + 0.5
        present = torch.arange(width) <= self.last.unsqueeze(1)
        seen = torch.where(present, seen, 0.0)
        share = (seen.cumsum(dim=1) / seen.sum(dim=1, keepdim=True))[:, :-1].clamp(1e-6, 1 - 1e-6)
        points = torch.logit(share.double()).float()
        self.first_cut.copy_(points[:, :1])
        steps = (points.diff(dim=1) - _LEAST_STEP).clamp(min=1e-3)
        self.raw_steps.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus
        return torch.zeros(self.outputs), torch.zeros(self.outputs, dtype=torch.bool)

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """Whole numbers from 0 to the last level; one entry for each number of levels."""
        return described_by_levels("ordinal", self.levels, columns)

    def _cumulated(self, theta: Tensor) -> Tensor:
        """P(x <= k|z) of all levels but the last: (..., C) -> (..., C, cuts); 1 where a feature has no more."""
        return (self.cut_points() - theta.unsqueeze(-1)).sigmoid()

    def _quantiles(self, cumulated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        median, lower, upper = ((cumulated < share).to(cumulated.dtype).sum(dim=-1) for share in (0.5, *TAILS))
        return median, lower, upper
