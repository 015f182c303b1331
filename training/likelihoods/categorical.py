"""Categories: one of several levels, without an order."""

from __future__ import annotations

import torch
from torch import Tensor

from service.manifest import Likelihood as Described
from training.likelihoods.likelihood import Likelihood, Rows, mix

_NEVER = -1e30  # the logit of a level that a feature does not have: its exponential is 0, and no difference is NaN
_COMPARED = 16  # levels up to which onnxruntime is faster at comparing with each than at picking one


class Categorical(Likelihood):
    """
    Categories by index; theta are the logits, as many a feature as the one with most levels has.

    log p(x|z) = theta_x - logsumexp(theta). *levels*: of each feature. One block, without a loop over features: those
    with fewer levels have logits that count for nothing. So that this wastes at most half, `choose` makes a block for
    each power of two. An index outside the levels is taken as the nearest one.
    """

    pad: Tensor
    last: Tensor
    level: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        self.most = max(levels)
        super().__init__(len(levels), len(levels) * self.most, jump=self.most - 1.0)
        self.levels = levels
        counts = torch.tensor(levels)
        self.register_buffer("last", counts.float() - 1, persistent=False)
        self.register_buffer("level", torch.arange(self.most, dtype=torch.float32), persistent=False)
        absent = torch.arange(self.most) >= counts.unsqueeze(1)
        self.register_buffer("pad", torch.where(absent, _NEVER, 0.0), persistent=False)

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """Energy = logsumexp(theta) - theta_x; in a graph, of few levels, as a sum in which all else is 0."""
        log_probabilities = self._logits(theta).log_softmax(dim=-1)  # (..., C, V)
        index = self._index(v).unsqueeze(-1)
        if torch.compiler.is_exporting() and self.most <= _COMPARED:  # PyTorch itself is faster at picking
            return -torch.where(index == self.level, log_probabilities, 0.0).sum(dim=-1)
        index = index + torch.zeros_like(log_probabilities[..., :1])
        return -log_probabilities.gather(-1, index.long()).squeeze(-1)

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The most probable level, three times: categories have neither mean nor interval."""
        return self._mode(self._logits(theta))

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Exact: the most probable level of the mixed probabilities, three times."""
        # as `energy` has them: onnxruntime computes the logarithms once, and an exponential costs less than a softmax
        probabilities = self._logits(theta).log_softmax(dim=-1).exp().flatten(-2)  # (B, K, C V)
        return self._mode(mix(weights, probabilities).reshape(-1, self.features, self.most))

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """How many of the cumulated probabilities are at most u."""
        cumulated = self._logits(theta).softmax(dim=-1).cumsum(dim=-1)  # (B, C, V)
        below = (cumulated <= u[:, 0].unsqueeze(-1) * cumulated[..., -1:]).to(theta.dtype).sum(dim=-1)
        return torch.minimum(below, self.last)

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The logarithms of the frequencies, each level seen half a time more (Krichevsky & Trofimov 1981)."""
        index = self._index(rows.v).long() + self.most * torch.arange(self.features)
        seen = torch.bincount(index[rows.observed], minlength=self.outputs).reshape(self.features, self.most)
        bias = torch.where(self.pad < 0, 0.0, (seen + 0.5).log() - (seen.sum(dim=1, keepdim=True) + 0.5).log())
        return bias.flatten(), torch.zeros(self.outputs, dtype=torch.bool)

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """Whole numbers from 0 to the last level; one entry for each number of levels."""
        return described_by_levels("categorical", self.levels, columns)

    def _logits(self, theta: Tensor) -> Tensor:
        return theta.reshape(*theta.shape[:-1], self.features, self.most) + self.pad

    def _index(self, v: Tensor) -> Tensor:
        return torch.minimum(v.round().clamp(min=0), self.last)

    def _mode(self, height: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mode = height.argmax(dim=-1).to(height.dtype)
        return mode, mode, mode


def described_by_levels(family: str, levels: tuple[int, ...], columns: tuple[str, ...] | None) -> tuple[Described, ...]:
    """An entry of the manifest for each number of levels; features without names all have the same."""
    found = []
    for count in sorted(set(levels)):
        named = None if columns is None else tuple(n for n, k in zip(columns, levels, strict=True) if k == count)
        entry = {"family": family, "columns": named, "support": "index", "low": 0, "high": count - 1}
        found.append(Described.model_validate(entry))
    return tuple(found)
