"""
What the encoder is given of a row: its values, and which of them were observed, as numbers that suit a network.

Numeric values as they are standardised; counts as logarithms, and ordinal and binary ones as numbers, standardised
here; categories as one-hot vectors, or learned embeddings where there are many. 0 where a value is missing, with the
mask of the columns that may be missing beside it all. A row of numbers that are all there passes as it is. B rows, C
columns, E features.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from service.inputs import Inputs
from training.support import levels_of_column

ONE_HOT_LEVELS: Final = 32
"""Categories up to which a column is a one-hot vector; above, an embedding."""

EMBEDDING_WIDTH: Final = 16

_LEAST_SCALE = 1e-3  # a column that varies less is constant, up to rounding


class Features(nn.Module):
    """
    v and mask -> what the encoder takes.

    *width*: E. *may_be_missing*: (C,) bool. Tables of numbers that are all there, arrays and images: E = C, and nothing
    is done.
    """

    may_be_missing: Tensor
    dense: Tensor
    numeric: Tensor
    counts: Tensor
    center: Tensor
    scale: Tensor
    repeat: Tensor
    level: Tensor
    embedded: Tensor
    offset: Tensor
    last: Tensor
    masked: Tensor

    def __init__(self, inputs: Inputs, generator: torch.Generator) -> None:
        super().__init__()
        kinds = [column.kind for column in inputs.columns or ()] or ["numeric"] * inputs.features
        sizes = [levels_of_column(column) if column.kind == "categorical" else 0 for column in inputs.columns or ()]
        dense = [c for c, kind in enumerate(kinds) if kind != "categorical"]
        one_hot = [c for c, size in enumerate(sizes) if 0 < size <= ONE_HOT_LEVELS]
        embedded = [c for c, size in enumerate(sizes) if size > ONE_HOT_LEVELS]
        masked = [c for c, may in enumerate(inputs.may_be_missing) if may]
        self.plain = set(kinds) == {"numeric"} and not masked
        self.clamp = inputs.clamp
        self.rescaled = any(kinds[c] != "numeric" for c in dense)
        self.counted = "count" in kinds
        self._keep("may_be_missing", torch.tensor(inputs.may_be_missing))
        self._keep("dense", torch.tensor(dense, dtype=torch.int64))
        self._keep("numeric", torch.tensor([kinds[c] == "numeric" for c in dense], dtype=torch.bool))
        self._keep("counts", torch.tensor([kinds[c] == "count" for c in dense], dtype=torch.bool))
        self._keep("repeat", torch.tensor([c for c in one_hot for _ in range(sizes[c])], dtype=torch.int64))
        self._keep("level", torch.tensor([float(i) for c in one_hot for i in range(sizes[c])]))
        self._keep("embedded", torch.tensor(embedded, dtype=torch.int64))
        self._keep("last", torch.tensor([sizes[c] - 1.0 for c in embedded]))
        before = [sum(sizes[other] for other in embedded[:i]) for i in range(len(embedded))]
        self._keep("offset", torch.tensor(before, dtype=torch.int64))
        self._keep("masked", torch.tensor(masked, dtype=torch.int64))
        if self.rescaled:  # a part of the checkpoint, where there is one
            self.register_buffer("center", torch.zeros(len(dense)))
            self.register_buffer("scale", torch.ones(len(dense)))
        if embedded:
            self.embedding = nn.Embedding(sum(sizes[c] for c in embedded), EMBEDDING_WIDTH, device="meta")
            self.embedding.to_empty(device="cpu")  # not drawn from the global generator, as nn.Embedding would
            nn.init.normal_(self.embedding.weight, std=EMBEDDING_WIDTH**-0.5, generator=generator)
        self.width = len(dense) + len(self.level) + EMBEDDING_WIDTH * len(embedded) + len(masked)

    def forward(self, v: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C), 0 where missing, and (B, C) bool, None where none may be missing -> (B, E)."""
        if self.plain:
            return v
        seen = None if mask is None else mask.to(v.dtype)
        parts = [self._numbers(v, seen)] if len(self.dense) else []
        if len(self.repeat):
            one_hot = (v[:, self.repeat] == self.level).to(v.dtype)
            parts.append(one_hot if seen is None else one_hot * seen[:, self.repeat])
        if len(self.embedded):
            index = torch.minimum(v[:, self.embedded].clamp(min=0), self.last).long() + self.offset
            vectors = self.embedding(index)  # (B, columns, EMBEDDING_WIDTH)
            if seen is not None:
                vectors = vectors * seen[:, self.embedded].unsqueeze(-1)
            parts.append(vectors.flatten(1))
        if seen is not None:
            parts.append(seen[:, self.masked] if len(self.masked) < v.shape[1] else seen)
        return torch.cat(parts, dim=1)

    def observed(self, v: Tensor) -> tuple[Tensor, Tensor | None]:
        """
        Rows of a data set as the networks take them: NaN, a missing value, becomes 0, with a mask of what was observed.

        (B, C) -> (B, C) and (B, C) bool; the mask is None where none may be missing. NaN in a column without missing
        values stays: that is a fault, and to be seen.
        """
        if not len(self.masked):
            return v, None
        mask = ~(v.isnan() & self.may_be_missing)
        return torch.where(mask, v, 0.0), mask

    def adapt(self, v: Tensor, observed: Tensor) -> None:
        """Take center and scale of counts, ordinal and binary columns from (n, C) and (n, C) bool."""
        if not self.rescaled:
            return
        x, seen = self._logarithms(v[:, self.dense]).double(), observed[:, self.dense].double()
        rows = seen.sum(dim=0).clamp(min=1)
        mean = (x * seen).sum(dim=0) / rows
        std = ((x - mean).square() * seen).sum(dim=0).div(rows).sqrt()
        self.center.copy_(torch.where(self.numeric, 0.0, mean))
        self.scale.copy_(torch.where(self.numeric | (std < _LEAST_SCALE), 1.0, std))

    def _numbers(self, v: Tensor, seen: Tensor | None) -> Tensor:
        x = v[:, self.dense] if len(self.dense) < v.shape[1] else v
        if not self.rescaled:
            return x
        x = ((self._logarithms(x) - self.center) / self.scale).clamp(-self.clamp, self.clamp)
        return x if seen is None else x * (seen[:, self.dense] if len(self.dense) < v.shape[1] else seen)

    def _logarithms(self, x: Tensor) -> Tensor:
        """Counts become log(1 + n): (B, columns of numbers) -> the same."""
        return torch.where(self.counts, x.clamp(min=0).log1p(), x) if self.counted else x

    def _keep(self, name: str, value: Tensor) -> None:
        """A buffer that goes where the model goes, and is no part of a checkpoint: `inputs` has it all."""
        self.register_buffer(name, value, persistent=False)
