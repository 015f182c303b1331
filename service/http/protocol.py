"""
One connection: uvicorn's protocol, held to limits in bytes and in time, and without upgrades.

uvicorn bounds neither the bytes nor the time that a client takes for what is no body: headers, chunk extensions and
trailers. It bounds no reply that its client does not read, and it takes a client that has shut its sending side for one
that has gone. Knows bytes and times; nothing of what a request asks for. The numbers: docs/decisions/0013.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import socket
import struct
import sys
import termios
import typing
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.http.crowd import Crowd
from service.http.headers import MAX_HEADER_BYTES, MAX_HEADERS, Scope
from service.http.outlet import Outlet
from service.http.patience import Patience

log = logging.getLogger("service.http.protocol")

PROBE_S = 0.05
"""Seconds between the signs of life that a client gets which has shut its sending side; doubled each time."""

MAX_PIPELINED = 64
"""Requests of one connection that wait for the one before; those beyond it are dropped, and the connection closed."""

_NO_LINGER = struct.pack("ii", 1, 0)
_SIGN_OF_LIFE = b"HTTP/1.1 102 Processing\r\n\r\n"
_TOO_LARGE = b"the headers have more than %d bytes, or more than %d lines" % (MAX_HEADER_BYTES, MAX_HEADERS)
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_TOO_LARGE), _TOO_LARGE)
)

_NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 31\r\n"
    b"retry-after: 1\r\nconnection: close\r\n\r\nthere are too many connections\n"
)


class Application(typing.Protocol):
    """What answers requests, by ASGI."""

    @property
    def crowd(self) -> Crowd:
        """All connections."""

    def turn_away(self, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        """Status, headers and body for a request that is refused whatever it holds; None: call this with it."""


class Protocol(HttpToolsProtocol):
    """
    What answers one connection.

    Between two pieces of bodies a client may send MAX_HEADER_BYTES, and what came with the first of them. `expire`
    bounds the time. A request to upgrade (WebSocket, or HTTP/2 as Java's client asks for it) is answered as if it did
    not ask (RFC 9110, 7.8). Half a connection is enough: a client that has shut its sending side gets its answer.

    Of what a request takes nearly nothing is spent here: no timer, and no more than a look at each piece of data.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._application: Application = self.config.app  # type: ignore[assignment]  # uvicorn knows any callable
        self._crowd = self._application.crowd
        self._postponed: tuple[RequestResponseCycle, Any] | None = None  # until the client reads
        self._patience = Patience(self.loop.time())
        self._counted: object = None  # the head that *silent* belongs to
        self._silent = 0  # bytes since the last piece of a body, or since the head began
        self._head_lines = 0  # of the newest whole head, which the application judges
        self._ending = False  # with the server

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """The connection is there."""
        super().connection_made(transport)
        self._outlet = Outlet(transport, self.loop, self._sending)
        self.transport = self._outlet  # type: ignore[assignment]  # has what is used of one
        if not self._crowd.enter(self):
            transport.write(_NO_ROOM)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._crowd.leave(self)
        self._postponed = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read as fast as it is written to."""
        super().pause_writing()
        self._crowd.stuck(self, self.loop.time())

    def resume_writing(self) -> None:
        """It has read nearly all."""
        super().resume_writing()
        self._crowd.flowing(self)
        if self._postponed is not None:
            (cycle, app), self._postponed = self._postponed, None
            self._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._outlet.lingering:
            self._outlet.drop(len(data))
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.data_received(self._without_upgrade() + data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            log.info("what %s sent is not HTTP: %s", self._client, error)
            self.send_400_response("Invalid HTTP request received.")
            return
        if len(self.pipeline) > MAX_PIPELINED:
            self._cut_pipeline()
        cycle = self.cycle
        if cycle is None or cycle.more_body or cycle.scope is not self.scope:
            self._count(len(data))

    def on_headers_complete(self) -> None:
        """The head of a request is whole."""
        super().on_headers_complete()
        self._head_lines = len(self.headers)

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._silent = 0
        super().on_body(body)
        if self.cycle is not None and self.cycle.response_complete:
            self._outlet.drop(len(body))

    def on_message_complete(self) -> None:
        """A request is whole."""
        super().on_message_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:
            self.cycle.more_body = False  # uvicorn leaves it where there is a reply already

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for the answer; uvicorn gives none
        """
        The client sends no more: whether the connection stays open, for the answer to a request that is here.

        Whether the client still reads, or has gone, is told by what it does with a sign of life: where it has gone, the
        system refuses the next one, and the request ends as with any client that hangs up. HTTP/1.0 knows no such
        sign, so that the answer is made in any case.
        """
        if self._outlet.lingering or not self.answering or self.cycle.more_body or self.cycle.scope is not self.scope:
            return False
        self.cycle.keep_alive = False
        self.loop.call_later(PROBE_S, self._probe, 2 * PROBE_S)
        return True

    def expire(self, now: float, patience_s: float) -> None:
        """
        End a connection that has waited longer than *patience_s*: for a whole head of a request, or for its client.

        *now*: the loop's time. A client that takes something of its reply between two looks is waited for.
        """
        unread = self.unread
        untaken = self.untaken if unread else 0
        ours = self.answering and not unread and not self._outlet.lingering
        if self._patience.ends(now, patience_s, self.cycle, untaken, ours):
            self.end()

    @property
    def answering(self) -> bool:
        """Whether a request is here that is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def unread(self) -> int:
        """Bytes of replies that neither the client nor the system has taken."""
        return self.transport.get_write_buffer_size()

    @property
    def untaken(self) -> int:
        """Bytes of replies that the client has not taken; where the system does not tell of its own, without those."""
        waiting = bytearray(4)
        with contextlib.suppress(OSError, AttributeError):
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, waiting)
        return self.unread + int.from_bytes(waiting, sys.byteorder)

    def end(self) -> None:
        """Close it: what is unread is dropped by a reset, else the system would go on keeping its part of it."""
        if self.unread:
            self.loop.call_soon(self._reset)  # not at once: it may be writing at this moment
        else:
            self._outlet.finish()

    def shutdown(self) -> None:
        """The server ends: behind the reply that is due, or at once; what else a client sends is not waited for."""
        self._ending = True
        if self._outlet.lingering:
            self._outlet.finish()
        else:
            super().shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """The next request: turned away here and now, or answered by a task, when the client has read what it has."""
        self._outlet.flush()  # the reply before, of which it is to be seen whether the client reads it
        if self.flow.write_paused:
            self._postponed = cycle, app
            return
        self._crowd.heard(self)
        self._outlet.dropped = 0
        plain = cycle.keep_alive and not self.pipeline
        turned_away = self._application.turn_away(cast(Scope, cycle.scope)) if plain else None
        if turned_away is None:
            super()._start_asgi_task(cycle, app)
            return
        status, headers, body = turned_away
        lines = [b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers)]
        self.transport.write(b"".join((STATUS_LINE[status], *lines, b"\r\n", body)))
        cycle.response_started = cycle.response_complete = True
        cycle.on_response = _nothing
        self.on_response_complete()

    def _sending(self) -> bool:
        """Whether the client may be sending: the rest of a request, another one, or what is none."""
        cycle = self.cycle
        if self._ending:
            return False
        return cycle is None or not cycle.response_complete or cycle.more_body or cycle.scope is not self.scope

    def _reset(self) -> None:
        if self.unread:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()
        else:
            self._outlet.finish()

    def _count(self, size: int) -> None:
        """*size* bytes came, and a request is not whole yet."""
        if self._counted is not self.scope:
            self._counted, self._silent = self.scope, 0
        whole = self.cycle is not None and self.cycle.scope is self.scope
        lines = len(self.headers or ()) - (self._head_lines if whole else 0)
        too_large = self._silent > MAX_HEADER_BYTES or lines > MAX_HEADERS
        if too_large and not self.transport.is_closing():
            if not self.answering:
                self.transport.write(_REFUSAL)
            self.transport.close()
        self._silent += size

    def _cut_pipeline(self) -> None:
        """Answer as many requests as may wait, close the connection behind the last of them, and forget the rest."""
        while len(self.pipeline) > MAX_PIPELINED:
            self.pipeline.popleft()
        last, _ = self.pipeline[0]
        last.keep_alive = False

    @property
    def _client(self) -> str:
        return "a client" if self.client is None else f"{self.client[0]}:{self.client[1]}"

    def _should_upgrade(self) -> bool:
        """Whether uvicorn should leave this request alone: it comes again without its wish. A CONNECT is refused."""
        return bool(self.parser.get_method() != b"CONNECT")

    def _without_upgrade(self) -> bytes:
        """The head of the current request without the wish; the parser has skipped its body."""
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _probe(self, wait_s: float) -> None:
        if self.transport.is_closing() or not self.answering or self.cycle.scope["http_version"] == "1.0":
            return
        if not self.cycle.response_started and not self.pipeline:
            self.transport.write(_SIGN_OF_LIFE)
        self.loop.call_later(wait_s, self._probe, min(1.0, 2 * wait_s))


def _nothing() -> None:
    """After a reply."""
