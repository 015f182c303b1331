"""
Where the time of one request went: a stopwatch for whoever answers it, and a slip that the batcher fills in.

The batcher finds it in a context variable, so that nothing between the two has to pass it on.
"""

from __future__ import annotations

import time
from contextvars import ContextVar


class Spent:
    """
    What one request for *op* took, in seconds: parsing, waiting, the batches that its *rows* were in, writing.

    The batcher adds to *queue* and *compute*, whoever answers the request fills in the rest.
    """

    __slots__ = ("_at", "compute", "op", "parse", "queue", "rows", "serialize")

    def __init__(self, op: str) -> None:
        self.op = op
        self.rows = 0
        self.parse = self.queue = self.compute = self.serialize = 0.0
        self._at = time.perf_counter()

    def lap(self) -> float:
        """The seconds since the last lap, or since this was made."""
        before, self._at = self._at, time.perf_counter()
        return self._at - before


SPENT: ContextVar[Spent | None] = ContextVar("spent", default=None)
"""Where the calls of the current task are told of; None: nowhere."""
