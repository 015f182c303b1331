"""
uvicorn around the application: a shutdown in which nobody's request fails, and what the signals mean.

Knows sockets and signals; nothing of models.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from service.app import App
from service.errors import StartError
from service.http.patience import expire
from service.http.protocol import Protocol
from service.sockets import BACKLOG, listen, url

log = logging.getLogger("service.server")

LAST_REQUEST_S = 0.5  # for connections that were accepted before the port was closed to send their request


class Server(uvicorn.Server):
    """
    uvicorn, with a shutdown in which nobody's request fails.

    SIGTERM: /health/ready says 503 and each reply closes its connection, for `drain_delay_s` in which requests are
    still taken; then no new connections, and what is in flight gets `drain_timeout_s`. A second signal ends at once.
    """

    def __init__(self, app: App) -> None:
        settings = app.settings
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nothing here asks for the client's address or scheme
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=round(settings.drain_timeout_s),
                backlog=BACKLOG,
            )
        )
        self._app = app
        self._signals = 0
        self._listeners: list[socket.socket] = []

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; unlike uvicorn's, the signal is not raised again afterwards, so the process exits with 0."""
        self._signals += 1
        self.should_exit = True
        if self._signals > 1 and sig in (signal.SIGINT, signal.SIGTERM):
            self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, on sockets that are bound."""
        await super().startup([])
        if self.should_exit:
            return
        try:
            listen(sockets or ())
        except StartError as error:
            log.critical("%s", error)
            await self.lifespan.shutdown()
            sys.exit(1)
        self._listeners = list(sockets or ())
        for one in self._listeners:
            opening = asyncio.get_running_loop().create_server(self.protocol, sock=one, backlog=BACKLOG)
            self.servers.append(await opening)
        self.begin()
        if sockets:
            log.info("running on %s", url(sockets))  # the last of all: who reads it may send a SIGHUP at once

    def begin(self) -> None:
        """The application has started, and connections come."""
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._app.reload_soon))
        self.watch()

    def watch(self) -> None:
        """End connections that take too long from now on."""
        expire(self.server_state.connections, self._app.settings.keep_alive_s, asyncio.get_running_loop())

    def protocol(self) -> asyncio.Protocol:
        """What answers one more connection."""
        return Protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then stop as uvicorn does."""
        if not self._app.exchange.draining:
            self._app.drain()
            await self._wait(self._app.settings.drain_delay_s, lambda: False)
        waiting = [connection for one in self._listeners for connection in _accept_all(one)]
        for server in self.servers:
            server.close()  # resets whoever is not accepted yet, and in a drain every client has to connect again
        for connection in waiting:
            with contextlib.suppress(OSError):  # its client has left
                await asyncio.get_running_loop().connect_accepted_socket(self.protocol, connection)
        # uvicorn would now cut the connections that have no request yet, also those whose request is on its way
        await self._wait(LAST_REQUEST_S, lambda: not self.server_state.connections)
        await super().shutdown()

    async def _wait(self, seconds: float, enough: Callable[[], bool]) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end and not self.force_exit and not enough():  # noqa: ASYNC110  uvicorn has no events
            await asyncio.sleep(0.02)


def _accept_all(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that are whole and that nobody has accepted."""
    with contextlib.suppress(OSError):  # there are no more
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            yield connection
