"""How long a connection is waited for: a whole head of a request, or a client that takes nothing of its reply."""

from __future__ import annotations

import asyncio
import typing
from collections.abc import Iterable


class Patience:
    """With one connection, which gets on where its request is another one, or its client takes something."""

    def __init__(self, now: float) -> None:
        self._since = now  # when it was last seen to get on
        self._seen: object = None  # the request that it had then
        self._untaken = 0  # bytes of replies that the client had not taken then

    def ends(self, now: float, patience_s: float, request: object, untaken: int, ours: bool) -> bool:
        """Whether it has waited longer than *patience_s*. *ours*: what it waits for is the answer, which is ours."""
        if untaken < self._untaken or request is not self._seen or ours:
            self._seen, self._since = request, now
        self._untaken = untaken
        return now - self._since > patience_s


class Patient(typing.Protocol):
    """A connection."""

    def expire(self, now: float, patience_s: float) -> None:
        """End it where it has waited for too long."""


def expire(connections: Iterable[object], patience_s: float, loop: asyncio.AbstractEventLoop) -> None:
    """Look at *connections* now and ten times in *patience_s* from now on."""
    now = loop.time()
    for connection in list(connections):
        typing.cast("Patient", connection).expire(now, patience_s)
    loop.call_later(patience_s / 10, expire, connections, patience_s, loop)
