"""Columns of different families side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from service.manifest import Likelihood as Described
from training.likelihoods.likelihood import Likelihood, Rows

Part = tuple[Likelihood, tuple[int, ...]]


class Mixed(Likelihood):
    """
    Blocks of columns, each with a family of its own; answers come back in the order of the columns.

    theta has the blocks' parameters one after the other. *parts*: the families, and the columns that each is of.
    """

    order: Tensor

    def __init__(self, parts: Sequence[Part]) -> None:
        dealt = [column for _, columns in parts for column in columns]
        assert sorted(dealt) == list(range(len(dealt))), "This is a bug: each column has one family."
        super().__init__(len(dealt), sum(block.outputs for block, _ in parts))
        self.blocks = nn.ModuleList(block for block, _ in parts)
        self.columns = [columns for _, columns in parts]
        self.uniforms = max(block.uniforms for block, _ in parts)
        self.steps = tuple(sorted({step for block, _ in parts for step in block.steps}))
        self.sizes = [block.outputs for block, _ in parts]
        self.sorted = dealt == sorted(dealt)
        for i, columns in enumerate(self.columns):
            self.register_buffer(f"columns_{i}", torch.tensor(columns), persistent=False)
        self.register_buffer("order", torch.tensor(dealt).argsort(), persistent=False)
        self.jump.copy_(self._join([block.jump for block, _ in parts]))

    def energy(self, theta: Tensor, v: Tensor) -> Tensor:
        """Each block's own."""
        return self._join([block.energy(t, v[..., c]) for block, t, c in self._split(theta)])

    def peak(self) -> Tensor:
        """Each block's own."""
        return self._join([block.peak() for block in self._families()])

    def predict(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each block's own."""
        return self._three(theta, lambda block, t: block.predict(t))

    def predict_mixture(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each block's own; the weights are those of the whole row."""
        return self._three(theta, lambda block, t: block.predict_mixture(t, weights))

    def draw(self, theta: Tensor, u: Tensor) -> Tensor:
        """Each block's own, of the first of the uniform numbers of its columns."""
        return self._join([block.draw(t, u[:, : block.uniforms, c]) for block, t, c in self._split(theta)])

    def adapt(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Each block's own, on its columns."""
        found = [block.adapt(rows.of(self._columns(i))) for i, block in enumerate(self._families())]
        return torch.cat([bias for bias, _ in found]), torch.cat([fixed for _, fixed in found])

    def described(self, columns: tuple[str, ...] | None) -> tuple[Described, ...]:
        """The blocks one after the other; *columns* have names, because a mixture of families is a table's."""
        assert columns is not None, "This is a bug: the columns of a table have names."
        return tuple(
            entry
            for block, own in zip(self._families(), self.columns, strict=True)
            for entry in block.described(tuple(columns[c] for c in own))
        )

    def _families(self) -> list[Likelihood]:
        return [block for block in self.blocks if isinstance(block, Likelihood)]

    def _columns(self, part: int) -> Tensor:
        found: Tensor = self.get_buffer(f"columns_{part}")
        return found

    def _split(self, theta: Tensor) -> list[tuple[Likelihood, Tensor, Tensor]]:
        """Each family with its parameters and the columns that it is of."""
        pieces = torch.split(theta, self.sizes, dim=-1)
        return [(block, pieces[i], self._columns(i)) for i, block in enumerate(self._families())]

    def _three(
        self, theta: Tensor, predict: Callable[[Likelihood, Tensor], tuple[Tensor, Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        answers = [predict(block, t) for block, t, _ in self._split(theta)]
        mean, lower, upper = (self._join([answer[i] for answer in answers]) for i in range(3))
        return mean, lower, upper

    def _join(self, pieces: Sequence[Tensor]) -> Tensor:
        """Columns in their order, of what the blocks gave for theirs: (..., C_i) -> (..., C)."""
        joined = torch.cat(list(pieces), dim=-1)
        return joined if self.sorted else joined[..., self.order]
