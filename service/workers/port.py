"""
The port that all workers answer on: one process takes the connections, and hands each to the worker with the fewest.

Of several with as few it is the one whose turn was longest ago. Sockets that several processes accept from give one of
them nearly all (a loop that is busy accepts less), or a share by chance (SO_REUSEPORT); and few connections that live
long, as of a proxy's pool, stay where they went. Never reads from a connection.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time

from service.workers.channel import Workers

log = logging.getLogger("service.workers.port")

BACKLOG = 2048


class Port:
    """
    *host* and *port*, bound at once, open from `listen` on; connections go to those of *workers* that are ready.

    While there is none, or all are too busy to be handed anything, connections wait in the kernel. Raises OSError.
    """

    def __init__(self, host: str, port: int, workers: Workers, selector: selectors.BaseSelector) -> None:
        self._workers = workers
        self._selector = selector
        self._held: socket.socket | None = None  # taken, and not yet handed over
        self._turn = 0
        self._sockets = _bind(host, port)
        self.listening = False

    @property
    def stuck(self) -> bool:
        """Whether `attend` should be called again soon."""
        return self._held is not None

    @property
    def url(self) -> str:
        """Where it is."""
        host, port = self._sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def listen(self) -> None:
        """Open it."""
        self.listening = True
        for one in self._sockets:
            one.listen(BACKLOG)

    def attend(self) -> None:
        """Take connections while somebody can answer them; to be called when that may have changed."""
        if self._held is not None:
            self._hand_over(self._held)
        for one in self._sockets:
            watched = one in self._selector.get_map()
            if self._open() and not watched:
                self._selector.register(one, selectors.EVENT_READ, lambda it=one: self._take(it))
            elif watched and not self._open():
                self._selector.unregister(one)

    def close(self) -> None:
        """Hand over what has come, and close it."""
        for one in self._sockets:
            if one in self._selector.get_map():
                self._selector.unregister(one)
            if self.listening:
                self._take(one)
            one.close()
        self._sockets = []

    def drop(self) -> None:
        """In a process that does not need it."""
        for one in self._sockets:
            one.close()

    def _open(self) -> bool:
        return self.listening and self._held is None and any(worker.ready for worker in self._workers.values())

    def _take(self, one: socket.socket) -> None:
        while self._open():
            try:
                connection, _ = one.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.error("a connection could not be taken: %s", error)
                time.sleep(0.01)  # no file is free, probably; meanwhile workers close some
                return
            self._hand_over(connection)
        self.attend()

    def _hand_over(self, connection: socket.socket) -> None:
        self._held = connection
        for worker in sorted(self._workers.values(), key=lambda worker: (worker.connections, worker.turn)):
            if worker.ready and worker.channel.hand_over(connection):
                self._turn += 1
                worker.connections, worker.turn = worker.connections + 1, self._turn
                connection.close()
                self._held = None
                return


def _bind(host: str, port: int) -> list[socket.socket]:
    """A socket for every address of *host*, not listening yet."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        one = socket.socket(family, kind, protocol)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
        one.setblocking(False)
        sockets.append(one)
    return sockets
