"""
What each step of the fit is fed: its rows, standardised, some of their values hidden, and its draws from N(0, I).

Everything drawn in an epoch is a function of (seed, epoch, block), a block being a few steps in a row. So a fit can go
on from any step without the state of a generator, and processes that share a batch draw the same without talking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.models.mlp import VAE
from training.thinning import some_of

Array = NDArray[np.generic]
Draw = Callable[[Array, np.random.Generator], Array]

RESIDENT_BYTES = 2**30
"""Rows that weigh less as float32 are standardised once and kept on the device; heavier ones block by block."""

_BLOCK_VALUES = 2**20  # numbers in the rows of a block: 4 MiB, which a cache holds
_MOST_STEPS = 64
_ORDER, _ADAPT, _NOISE, _BINARY, _MASK, _CHOICE = 2, 3, 4, 5, 10, 11  # streams of the seed; split.py has 1, parts.py 7


class Batch(NamedTuple):
    """
    What a step is fed: v (b, C), NaN where missing or hidden, eps (b, K, L), u (b, M) from [0, 1).

    *u* chooses the draws whose gradient is taken, see `Bound`. *rows*: of the whole batch; b are this process's.
    """

    v: Tensor
    eps: Tensor
    u: Tensor
    rows: int


class Batches:
    """
    The batches of one process: of each batch its own slice, a rank's share of the rows.

    *train*: (n, *shape) in original units. *draw* makes model inputs of rows, anew in every epoch. *mask_rate*: of the
    columns that may be missing, a share of each row between 0 and this, uniformly drawn, is hidden in every epoch.
    *draws*: K, of each row. *chosen*: M, of these.
    """

    def __init__(
        self,
        vae: VAE,
        train: Array,
        draw: Draw | None,
        batch_size: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        resident_bytes: int = RESIDENT_BYTES,
        mask_rate: float = 0.0,
        draws: int = 1,
        chosen: int = 0,
    ) -> None:
        self.steps = math.ceil(len(train) / batch_size)
        self._vae, self._train, self._draw = vae, train, draw
        self._seed, self._rank, self._processes = seed, rank, processes
        self._draws, self._chosen = draws, chosen
        self._mask_rate = mask_rate if vae.inputs.masked else 0.0
        features = vae.inputs.features
        widest = max(features, draws * vae.config.latent_dim)
        self._span = max(1, min(_MOST_STEPS, _BLOCK_VALUES // (widest * batch_size)))
        self._resident: Tensor | None = None
        if draw is None and 4 * features * len(train) <= resident_bytes:
            self._resident = standardised(vae, train)

    def epoch(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """The steps of *epoch* after the first *done* ones."""
        order = np.random.default_rng([self._seed, _ORDER, epoch]).permutation(len(self._train))
        batches = np.array_split(order, self.steps)
        for start in range(done - done % self._span, self.steps, self._span):
            block = batches[start : start + self._span]
            v, eps, u = self._block(np.concatenate(block), (epoch, start // self._span))
            first = 0
            for step, batch in enumerate(block, start):
                mine = [first + len(batch) * rank // self._processes for rank in (self._rank, self._rank + 1)]
                first += len(batch)
                if step >= done:
                    yield Batch(v[slice(*mine)], eps[slice(*mine)], u[slice(*mine)], len(batch))

    def _block(self, rows: NDArray[np.int64], place: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        device = self._vae.theta.weight.device
        if self._resident is not None:
            v = self._resident[torch.from_numpy(rows).to(device)]
        else:
            x = self._train[rows]
            if self._draw is not None:
                x = self._draw(x, np.random.default_rng([self._seed, _BINARY, *place]))
            v = standardised(self._vae, x)
        if self._mask_rate:
            hidden = self._hidden(len(rows), np.random.default_rng([self._seed, _MASK, *place]))
            v.masked_fill_(torch.from_numpy(hidden).to(device), math.nan)
        shape = len(rows), self._draws, self._vae.config.latent_dim
        u = np.random.default_rng([self._seed, _CHOICE, *place]).random((len(rows), self._chosen), np.float32)
        return v, normals(shape, [self._seed, _NOISE, *place]).to(device), torch.from_numpy(u).to(device)

    def _hidden(self, rows: int, generator: np.random.Generator) -> NDArray[np.bool_]:
        """Which values are hidden: (rows, C)."""
        rate = self._mask_rate * generator.random((rows, 1), np.float32)
        hidden: NDArray[np.bool_] = (generator.random((rows, self._vae.inputs.features), np.float32) < rate) & np.array(
            self._vae.inputs.may_be_missing
        )
        return hidden


def adaptation_rows(train: Array, draw: Draw | None, seed: int) -> Array:
    """The rows that scaling and the first biases are taken from: (m, *shape) as the model takes them."""
    return train if draw is None else draw(some_of(train), np.random.default_rng([seed, _ADAPT]))


def standardised(vae: VAE, x: Array) -> Tensor:
    """
    Rows as the networks take them, but for NaN, a missing value, which stays: (n, *shape) -> (n, C) float32.

    On the model's device, a piece at a time.
    """
    device, features = vae.theta.weight.device, vae.inputs.features
    v = torch.empty((len(x), features), device=device)
    size = max(1, _BLOCK_VALUES // features)
    for start in range(0, len(x), size):
        piece = torch.from_numpy(x[start : start + size].astype(vae.inputs.dtype))
        v[start : start + size] = vae.scaling(piece.to(device))
    return v


def normals(shape: tuple[int, ...], stream: list[int]) -> Tensor:
    """Draws from N(0, 1), float32, drawn on the CPU: the same for every device and process."""
    state = int(np.random.SeedSequence(stream).generate_state(1)[0])  # PyTorch's CPU generator takes 32 bits
    return torch.randn(shape, generator=torch.Generator().manual_seed(state))
