"""What the steps of a fit are fed: a function of the seed and the place, whatever the memory and the processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.batches import Batches, Draw
from training.data import from_arrays
from training.models.mlp import VAE, VAEConfig

ROWS = np.random.default_rng(0).standard_normal((103, 5)) * [1, 1e-3, 50, 7, 1] + 1000


def batches(
    draw: Draw | None = None, rank: int = 0, processes: int = 1, resident_bytes: int = 2**20, draws: int = 1
) -> Batches:
    """Batches of at most 10 of `ROWS`."""
    vae = VAE(from_arrays("rows", {"X": ROWS}).inputs, VAEConfig(2, (4,), "gaussian"))
    vae.adapt(ROWS)
    return Batches(vae, ROWS, draw, 10, 7, rank, processes, resident_bytes, draws=draws)


def noisy(x: NDArray[np.generic], generator: np.random.Generator) -> NDArray[np.generic]:
    """A draw like that of dynamic binarisation."""
    return x.astype(np.float64) + generator.standard_normal(x.shape)


def together(steps: list[tuple[Tensor, Tensor, int]]) -> Tensor:
    """All that an epoch gives, in order."""
    return torch.cat([torch.cat([v, eps.flatten(1)], dim=1) for v, eps, _ in steps])


def test_an_epoch_has_every_row_once_and_another_order_and_other_draws_than_the_next() -> None:
    """103 rows in 11 batches of 9 or 10."""
    found = batches()
    first, second = list(found.epoch(1)), list(found.epoch(2))
    assert [rows for _, _, rows in first] == [len(v) for v, _, _ in first] == [10] * 4 + [9] * 7
    one, two = together(first), together(second)
    assert sorted(one[:, :5].tolist()) == sorted(two[:, :5].tolist())
    assert not torch.equal(one[:, :5], two[:, :5])
    assert not set(one[:, 5].tolist()) & set(two[:, 5].tolist())


@pytest.mark.parametrize("draw", [None, noisy])
def test_an_epoch_goes_on_from_any_step_as_if_it_had_not_stopped(draw: Draw | None) -> None:
    """To the bit, in the middle of a block of draws too."""
    found = batches(draw)
    for done in (0, 1, 5, 11):
        rest = list(found.epoch(3, done))
        assert len(rest) == 11 - done
        if rest:
            assert torch.equal(together(rest), together(list(found.epoch(3))[done:]))


def test_rows_that_are_kept_and_rows_made_block_by_block_are_the_same() -> None:
    """Memory decides, and nothing else changes."""
    kept, made = (list(batches(resident_bytes=limit).epoch(1)) for limit in (2**20, 0))
    assert torch.equal(together(kept), together(made))


def test_processes_share_each_batch_out() -> None:
    """Three processes have, in order, the rows and draws that one has, in parts that differ by one row at most."""
    whole = list(batches(noisy).epoch(2))
    shares = [list(batches(noisy, rank, 3).epoch(2)) for rank in range(3)]
    for step, (v, eps, rows) in enumerate(whole):
        parts = [share[step] for share in shares]
        assert torch.equal(torch.cat([part[0] for part in parts]), v)
        assert torch.equal(torch.cat([part[1] for part in parts]), eps)
        assert {part[2] for part in parts} == {rows}
        sizes = [len(part[0]) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_each_row_has_as_many_draws_as_the_bound_takes() -> None:
    """(b, K, L), all of them different."""
    for v, eps, _ in batches(draws=3).epoch(1):
        assert eps.shape == (len(v), 3, 2)
        assert len(torch.unique(eps)) == eps.numel()
