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
from collections import deque

from service.sockets import listen, url
from service.workers.channel import Worker, Workers

log = logging.getLogger("service.workers.port")

DOUBT_S = 2.0
"""A worker that has said nothing for so many seconds gets a connection only where all others have not either."""


class Port:
    """
    *sockets*, bound, open from `listen` on; connections go to those of *workers* that are ready.

    While there is none, or all are too busy to be handed anything, connections wait in the kernel.
    """

    def __init__(self, sockets: list[socket.socket], workers: Workers, selector: selectors.BaseSelector) -> None:
        self._workers = workers
        self._selector = selector
        self._held: deque[socket.socket] = deque()  # taken, and not yet handed over
        self._turn = 0
        self._sockets = sockets
        self.listening = False

    @property
    def stuck(self) -> bool:
        """Whether `attend` should be called again soon."""
        return bool(self._held) and self._answered()

    @property
    def url(self) -> str:
        """Where it is."""
        return url(self._sockets)

    def listen(self) -> None:
        """Open it. Raises StartError."""
        listen(self._sockets)
        self.listening = True

    def attend(self) -> None:
        """Take connections while somebody can answer them; to be called when that may have changed."""
        while self._held and self._hand_over(self._held[0]):
            self._held.popleft()
        wanted = self._answered() and not self._held
        for one in self._sockets:
            watched = one in self._selector.get_map()
            if wanted and not watched:
                self._selector.register(one, selectors.EVENT_READ, lambda it=one: self._take(it))
            elif watched and not wanted:
                self._selector.unregister(one)

    def adopted(self, worker: Worker, total: int) -> None:
        """*worker* has got so many connections since it began: they are its own now."""
        while worker.adopted < total:
            worker.handed.popleft().close()
            worker.adopted += 1

    def bereaved(self, worker: Worker) -> None:
        """*worker* is dead: nobody has read from the connections that it had not got yet, and others can have them."""
        self._held.extend(worker.handed)
        worker.handed.clear()
        self.attend()

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
        """In a process that needs neither it nor any of its connections."""
        handed = (connection for worker in self._workers.values() for connection in worker.handed)
        for one in (*self._sockets, *self._held, *handed):
            one.close()

    def _answered(self) -> bool:
        return self.listening and any(worker.ready for worker in self._workers.values())

    def _take(self, one: socket.socket) -> None:
        while self._answered() and not self._held:
            try:
                connection, _ = one.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.error("a connection could not be taken: %s", error)
                time.sleep(0.01)  # no file is free, probably; meanwhile workers close some
                return
            self._held.append(connection)
            self.attend()

    def _hand_over(self, connection: socket.socket) -> bool:
        doubtful = time.monotonic() - DOUBT_S
        order = sorted(self._workers.values(), key=lambda w: (w.heard < doubtful, w.connections, w.turn))
        for worker in order:
            if worker.ready and worker.channel.hand_over(connection):
                self._turn += 1
                worker.connections, worker.turn = worker.connections + 1, self._turn
                worker.handed.append(connection)
                return True
        return False
