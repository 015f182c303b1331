"""One caller in a process of its own that posts large bodies without pause."""

from __future__ import annotations

import multiprocessing
import signal
import socket
from collections.abc import Sequence
from multiprocessing.connection import Connection

from benchmarks.serving.failures import Refused
from benchmarks.serving.open_loop import request, whole
from benchmarks.serving.wire import Body, Wire


class BulkCaller:
    """Posts *bodies* in turn, each as soon as the reply to the one before is there, in the body of a `with`."""

    def __init__(self, port: int, wire: Wire, bodies: Sequence[Body]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._ours, theirs = self._context.Pipe()
        requests = [request(wire.path, body) for body in bodies]
        self._process = self._context.Process(target=_post_for_ever, args=(port, requests, theirs), daemon=True)

    def __enter__(self) -> BulkCaller:
        """Started, and the first reply is there."""
        self._process.start()
        self.replies()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.terminate()
        self._process.join()

    def replies(self) -> int:
        """How many there have been so far, one at least. Raises Refused where the caller has failed."""
        self._ours.send(None)
        if self._ours.poll(30):
            found = self._ours.recv()
            if isinstance(found, int):
                return found
            raise Refused(f"the bulk caller: {found}")
        raise Refused("the bulk caller had no reply in 30 s")


def _post_for_ever(port: int, requests: Sequence[bytes], pipe: Connection) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C comes to every process of a terminal; the parent ends this one
    replies = 0
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            while True:
                connection.sendall(requests[replies % len(requests)])
                reply = connection.recv(1 << 20)
                while not whole(reply):
                    more = connection.recv(1 << 20)
                    if not more:
                        raise Refused("the server closed the connection")
                    reply += more
                replies += 1
                while pipe.poll():
                    pipe.recv()
                    pipe.send(replies)
    except (Refused, OSError) as error:
        pipe.send(str(error))
