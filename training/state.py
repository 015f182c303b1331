"""
The state of a fit between two steps: all that a run needs to go on as if it had never stopped.

Randomness is derived from the seed and the place (see batches.py), so no generator is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass
class Progress:
    """
    Where the fit is, in numbers.

    *epoch*: the one in progress, from 1. *step*: steps of it that are done. *seconds*: of all epochs before, in all
    runs. *best_epoch*: 0 before the first validation. *bound*, *rows*, *epoch_seconds*, *skipped*, *causes*: of this
    epoch so far: the sum of the ELBOs, of how many rows, time, skipped steps and why. *in_a_row*: skipped just now.
    """

    epoch: int = 1
    step: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_elbo: float | None = None
    bound: float = 0.0
    rows: int = 0
    epoch_seconds: float = 0.0
    skipped: int = 0
    in_a_row: int = 0
    causes: list[str] = field(default_factory=list)

    def next_epoch(self) -> None:
        """The epoch in progress is over."""
        self.seconds += self.epoch_seconds
        self.epoch, self.step = self.epoch + 1, 0
        self.bound, self.rows, self.epoch_seconds, self.skipped, self.causes = 0.0, 0, 0.0, 0, []

    def as_json(self) -> dict[str, Any]:
        """For the checkpoint."""
        return asdict(self)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Progress:
        """What `as_json` gave. Raises KeyError where something is missing."""
        return cls(**{item.name: found[item.name] for item in fields(cls)})


@dataclass(frozen=True)
class State:
    """
    *weights*: of the model now, buffers too. *best*: those of the best epoch so far; the present ones before the first.

    *moments*: of the optimiser.
    """

    progress: Progress
    weights: Tensors
    best: Tensors
    moments: Tensors
