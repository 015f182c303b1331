"""
Ends requests that their clients have given up, by cancelling their tasks.

One sweep every SWEEP_S looks after all requests that are there, so that a request which is answered sooner costs no
timer and no task. Knows ASGI's messages; nothing of what a request holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self

from service.errors import ClientGone, ServiceError, SlowBody

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SWEEP_S = 0.05


class Vigil:
    """The requests that are being answered, and what ends them."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._sweeping = False

    def over(self, receive: Receive, deadline: float) -> Watched:
        """
        A context in which the current task may be ended.

        SlowBody when the body is not there soon after *deadline* (the loop's time); ClientGone when the client hangs up
        while it waits for the answer (uvicorn tells only those who ask *receive*).
        """
        return Watched(self._watched, self._sweep_later, receive, deadline)

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for watched in list(self._watched):
            watched.look(now)
        self._sweeping = False
        if self._watched:
            self._sweep_later()


class Watched:
    """One request: `with` it, from before its body is read until its answer is there."""

    __slots__ = ("_among", "_deadline", "_has_body", "_receive", "_seen", "_sweep", "_task", "_verdict", "_watcher")

    def __init__(self, among: set[Watched], sweep_later: Callable[[], None], receive: Receive, deadline: float) -> None:
        self._among = among
        self._sweep = sweep_later
        self._receive = receive
        self._deadline = deadline
        self._has_body = self._seen = False
        self._verdict: Callable[[], ServiceError] | None = None  # not the error: its traceback would hold it for ever
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._among.add(self)
        self._sweep()
        return self

    def body_is_here(self) -> None:
        """From now on only the client's presence matters; the batcher keeps the deadline."""
        self._has_body = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._among.discard(self)
        if self._watcher is not None:
            self._watcher.cancel()
        if self._verdict is not None and self._task is not None:
            self._task.uncancel()
            raise self._verdict() from None

    def look(self, now: float) -> None:
        """What a sweep does: end a body that is late; from the second look on, listen for the client's departure."""
        if not self._has_body:
            if now >= self._deadline:
                self._end(_slow)
        elif not self._seen:
            self._seen = True
        elif self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._end(_gone)

    def _end(self, verdict: Callable[[], ServiceError]) -> None:
        if self._verdict is None and self._task is not None:
            self._verdict = verdict
            self._task.cancel()


def _slow() -> ServiceError:
    return SlowBody("the body did not arrive within the request's time")


def _gone() -> ServiceError:
    return ClientGone("the client closed the connection")
