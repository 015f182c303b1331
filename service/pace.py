"""
How fast batches run, as those before them did.

Knows keys, work and seconds; nothing of calls.
"""

from __future__ import annotations

import math
from typing import Generic

from service.calls import Key

_NEWEST = 0.1  # the weight of the newest batch in what is expected of the next one


class Pace(Generic[Key]):
    """How fast batches run, by key and by the power of two of their work (rows times weight)."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[Key, int], float] = {}
        self._rate = math.nan

    @property
    def rate(self) -> float:
        """Work a second, smoothed; infinity while none was done."""
        return math.inf if math.isnan(self._rate) else self._rate

    def expected(self, key: Key, work: int) -> float:
        """Seconds that a batch of *work* will take; infinity where none like it was run before."""
        return self._seconds.get((key, work.bit_length()), math.inf)

    def ran(self, key: Key, work: int, seconds: float) -> None:
        """A batch of *work* took *seconds*."""
        size = key, work.bit_length()
        before = self._seconds.get(size, seconds)
        self._seconds[size] = before + _NEWEST * (seconds - before)
        rate = work / max(seconds, 1e-6)
        self._rate = rate if math.isnan(self._rate) else self._rate + _NEWEST * (rate - self._rate)
