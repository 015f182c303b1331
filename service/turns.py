"""
Long work on the event loop, in steps: one piece of work at a time, and between two of its steps everybody else.

For what holds the interpreter's lock, so that a thread would not help. Knows generators and deadlines; nothing of what
they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar

from service.errors import DeadlineExceeded

Result = TypeVar("Result")


class Turns:
    """The long work of one event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self, work: Generator[None, None, Result], deadline: float) -> Result:
        """What *work* returns, or raises. DeadlineExceeded where it is not done by *deadline* (the loop's time)."""
        try:
            async with asyncio.timeout_at(deadline), self._lock:
                while True:
                    try:
                        next(work)
                    except StopIteration as done:
                        return done.value  # type: ignore[no-any-return]  # typeshed has it as Any
                    await asyncio.sleep(0)
        except TimeoutError:
            raise DeadlineExceeded("the body was not read, or the reply not written, before the deadline") from None
