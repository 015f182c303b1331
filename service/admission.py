"""
Who is let into the queues: what a call is refused with when they are full, and when it may come again.

Knows how much waits and how fast it goes; neither calls nor batches.
"""

from __future__ import annotations

import math
from typing import Generic

from service.calls import Key
from service.errors import Overloaded, counted
from service.pace import Pace
from service.queues import Queues

_REOPEN = 7 / 8
_COUNTED = "(a scored row counts once for each draw)"


class Admission(Generic[Key]):
    """To *queues*, which go at *pace* and have room for *most* rows."""

    def __init__(self, queues: Queues[Key], pace: Pace[Key], most: int) -> None:
        self._queues, self._pace, self._most = queues, pace, most
        self._full = False

    def admit(self) -> None:
        """
        Raise Overloaded where the next call would be refused, before the work of parsing.

        A full queue has room for one row again as soon as a batch has left it, and not for most calls: nearly all would
        be parsed to be refused, in the time that those who wait need. So from a refusal on nobody is let in here before
        an eighth of the queue is free.
        """
        self.check(1)
        if self._full:
            queued = self._queues.work
            if queued <= _REOPEN * self._most:
                self._full = False
            else:
                told = f"{counted(queued, 'row')} waiting {_COUNTED}; the queue of {self._most} was full"
                raise self._overloaded(told, queued)

    def check(self, weight: int) -> None:
        """Raise Overloaded for a call of *weight*; one larger than the queue is taken when nothing waits."""
        queued, most = self._queues.work, self._most
        if queued and queued + weight > most:
            self._full = queued > _REOPEN * most  # a large call alone does not shut out the others
            told = f"{counted(queued, 'row')} waiting {_COUNTED}, and {weight} more would pass the limit of {most}"
            raise self._overloaded(told, queued + weight)

    def _overloaded(self, told: str, value: int) -> Overloaded:
        retry_after_s = max(1, math.ceil(self._queues.work / self._pace.rate))
        return Overloaded(told, retry_after_s, limit=self._most, value=value)
