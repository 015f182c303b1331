"""
What a connection is written to: one write for what is written in one step of the loop, and an end that can be read.

The system resets a connection that is closed while bytes of its client are unread or on their way, and with it goes the
reply that stands before the end: a client that reads when it has sent all never sees it. So only our half is closed
then, and what still comes is dropped (RFC 9112, 9.6). Knows bytes; nothing of requests. Why: docs/decisions/0013.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

MAX_DROPPED = 2**28
"""Bytes that a client may send behind the reply that ends its connection, or of a request that is answered already."""


class Outlet:
    """
    A transport that writes once what is written in one step of the event loop.

    uvicorn writes the head of a reply and its body by themselves, and uvloop makes a system call of each. *sending*:
    whether the client may still be sending, when the connection is to be closed. For how long it then may is for the
    caller to say, by `finish`.
    """

    __slots__ = ("_loop", "_parts", "_sending", "_transport", "abort", "dropped", "get_extra_info", "lingering",
                 "pause_reading", "resume_reading")  # fmt: skip

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, sending: Callable[[], bool]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._sending = sending
        self._parts: list[bytes] = []
        self.lingering = False  # our half is closed, and what comes is to be dropped
        self.dropped = 0
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self.lingering or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Write *data* soon; nothing behind our end."""
        if self.lingering:
            return
        self._parts.append(data)
        if len(self._parts) == 1:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is gathered."""
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()

    def close(self) -> None:
        """Write what is gathered, and close when it is written; only our half while the client may be sending."""
        self.flush()
        if self.is_closing():
            return
        if not self._sending():
            self._transport.close()
            return
        self.lingering, self.dropped = True, 0
        with contextlib.suppress(OSError):  # the client is gone; that is told in a moment
            self._transport.write_eof()
        if not self._transport.is_reading():
            self._transport.resume_reading()

    def drop(self, size: int) -> None:
        """*size* bytes came that nobody reads: too many of them end the connection."""
        self.dropped += size
        if self.dropped > MAX_DROPPED:
            self.finish()

    def finish(self) -> None:
        """Write what is gathered, and close both halves, whatever the client does."""
        self.flush()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        """Bytes that the system has not taken yet."""
        return self._transport.get_write_buffer_size()
