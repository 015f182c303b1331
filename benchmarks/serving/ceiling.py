"""What the open-loop generator can do at most on this machine: a figure beside which its others are to be read."""

from __future__ import annotations

import multiprocessing
import select
import signal
import socket
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.serving.open_loop import drive


def ceiling(requests: Sequence[bytes], reply: bytes, port: int, count: int = 30_000) -> float:
    """
    Requests a second that the generator can do at most, against a server that does nothing but answer.

    A lower bound: that server is Python too, and one of the two waits for the other.
    """
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_answer_for_ever, args=(port, reply, len(requests[0])), daemon=True)
    process.start()
    try:
        _connectable(port)
        same = [one for one in requests if len(one) == len(requests[0])]
        outcome = drive(port, same, np.zeros(count))
        return outcome.figures()["achieved_per_s"]
    finally:
        process.terminate()
        process.join()


def _connectable(port: int, seconds: float = 30.0) -> None:
    end = time.perf_counter() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.perf_counter() > end:
                raise
            time.sleep(0.02)


def _answer_for_ever(port: int, reply: bytes, size: int) -> None:
    """Answer every *size* bytes with *reply*."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    content = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(reply) + reply
    listener = socket.create_server(("127.0.0.1", port), backlog=256)
    epoll = select.epoll()
    epoll.register(listener.fileno(), select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    missing: dict[int, int] = {}
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                missing[connection.fileno()] = size
                epoll.register(connection.fileno(), select.EPOLLIN)
                continue
            found = len(connections[fd].recv(size))
            if not found:
                epoll.unregister(fd)
                connections.pop(fd).close()
                continue
            missing[fd] -= found
            if missing[fd] <= 0:
                missing[fd] += size
                connections[fd].sendall(content)
