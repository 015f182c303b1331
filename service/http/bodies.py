"""
The bytes of all request bodies that are held at once, and their limit.

A limit for each body alone bounds nothing: a thousand slow uploads of one body's limit are 32 GB. Knows bytes.
"""

from __future__ import annotations

from service.errors import Overloaded, counted

RETRY_AFTER_S = 1


class Bodies:
    """At most *limit* bytes. Bodies that come in one piece, of some 64 KiB at most, are not asked to count."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    def take(self, size: int) -> None:
        """Hold *size* bytes more. Raises Overloaded where all together would pass the limit."""
        held = self._held + size
        if held > self._limit:
            raise Overloaded(
                f"request bodies hold {counted(self._held, 'byte')}, and {size} more would pass the limit of "
                f"{self._limit}",
                retry_after_s=RETRY_AFTER_S,
                limit=self._limit,
                value=held,
            )
        self._held = held

    def give(self, size: int) -> None:
        """Hold *size* bytes less."""
        self._held -= size
