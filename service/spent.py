"""
Where the time of one request went, told by the batcher to whoever asked for it in the request's task.

A context variable, so that nothing between the two has to pass it on.
"""

from __future__ import annotations

from contextvars import ContextVar


class Spent:
    """Seconds that the calls of one request *waited* in the queue, and that the batches they were in *ran*."""

    __slots__ = ("ran", "waited")

    def __init__(self) -> None:
        self.waited = self.ran = 0.0


SPENT: ContextVar[Spent | None] = ContextVar("spent", default=None)
"""Where the calls of the current task are told of; None: nowhere."""
