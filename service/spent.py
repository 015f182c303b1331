"""
Where the time of one request went, told by the batcher to whoever asked for it in the request's task.

A context variable, so that nothing between the two has to pass it on.
"""

from __future__ import annotations

from contextvars import ContextVar


class Spent:
    """
    What one request took, in seconds: parsing, waiting in the queue, the batches that its *rows* were in, writing.

    The batcher adds to *queue* and *compute*, whoever answers the request fills in the rest.
    """

    __slots__ = ("compute", "parse", "queue", "rows", "serialize")

    def __init__(self) -> None:
        self.rows = 0
        self.parse = self.queue = self.compute = self.serialize = 0.0


SPENT: ContextVar[Spent | None] = ContextVar("spent", default=None)
"""Where the calls of the current task are told of; None: nowhere."""
