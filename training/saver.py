"""When a fit keeps its state: now and then, and at once after a signal, which then ends it. Knows nothing of files."""

from __future__ import annotations

import time
from collections.abc import Callable

from training.errors import Interrupted
from training.interrupt import Interrupt
from training.state import State

SAVE_EVERY = 10.0
"""Seconds of fitting between two states on disk, or more where writing one takes over 2 % of that."""

_SAVE_SHARE = 0.02


class Saver:
    """
    Calls *save* every SAVE_EVERY seconds, or more seldom where that would take over 2 % of the time.

    *interrupt*: where there is one, the signal that the state is saved after at once.
    """

    def __init__(self, save: Callable[[State], None], interrupt: Interrupt | None) -> None:
        self._save, self._interrupt, self._next = save, interrupt, time.perf_counter() + SAVE_EVERY

    def due(self) -> bool:
        """Whether it is time, between two steps."""
        return time.perf_counter() > self._next or self._signal() is not None

    def save(self, state: State) -> None:
        """Save *state*. Raises Interrupted when there was a signal."""
        start = time.perf_counter()
        self._save(state)
        end = time.perf_counter()
        self._next = end + max(SAVE_EVERY, (end - start) / _SAVE_SHARE)
        if (signal := self._signal()) is not None:
            raise Interrupted(signal)

    def _signal(self) -> int | None:
        return self._interrupt.signal if self._interrupt is not None else None
