"""
Open-loop load: requests at instants drawn beforehand, whatever the server does, each latency from its own instant.

A closed loop sends less when the server is slow and so leaves out the latencies that it caused (coordinated omission).
Here a request that is due while every connection is busy waits, and its wait counts. One thread, keep-alive connections
over epoll, no pipelining; what it can do at most is measured in `ceiling`.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.failures import Refused
from benchmarks.serving.wire import Body

Seconds = NDArray[np.float64]

CONNECTIONS = 64
GRACE_S = 10.0
SPIN_S = 100e-6
"""A sleep is late by some 60 us: the last part of a wait is spent looking."""


@dataclass(frozen=True)
class Outcome:
    """(n,) each, in seconds from the start: when requests were due, went out, and were answered."""

    due: Seconds
    sent: Seconds
    done: Seconds
    waited: NDArray[np.bool_]
    """Whether a request found every connection busy."""

    @property
    def latency_ms(self) -> Seconds:
        """From the instant at which a request was due: what a caller of that instant waited."""
        return 1000 * (self.done - self.due)

    def figures(self) -> dict[str, float]:
        """Percentiles, the rate that was reached, and how late the generator itself was (99 of 100)."""
        p50, p95, p99 = np.percentile(self.latency_ms, (50, 95, 99))
        free = ~self.waited
        late = np.percentile(1000 * (self.sent - self.due)[free], 99) if free.any() else 0.0
        return {
            "p50_ms": float(p50),
            "p95_ms": float(p95),
            "p99_ms": float(p99),
            "achieved_per_s": len(self.due) / float(self.done.max()),
            "late_ms": float(late),
        }


def poisson(rate: float, seconds: float, seed: int) -> Seconds:
    """The instants of a Poisson process of *rate* a second, in [0, *seconds*), ascending; the same for one *seed*."""
    generator = np.random.default_rng(seed)
    count = generator.poisson(rate * seconds)
    return np.sort(generator.random(count) * seconds)


def request(path: str, body: Body) -> bytes:
    """One whole HTTP request."""
    headers = {"Host": "localhost", **body.headers, "Content-Length": str(len(body.content))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body.content


Hear = Callable[[int, bytes], None]


@contextmanager
def ahead_of_others() -> Iterator[None]:
    """
    This thread has a processor as soon as it wants one, where the system allows that (Linux, as root).

    For a generator that shares the processors with what it measures, and does next to nothing: a caller is elsewhere,
    and would not wait for them.
    """
    allowed = True
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, OSError):
        allowed = False
    try:
        yield
    finally:
        if allowed:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def drive(
    port: int, requests: Sequence[bytes], due: Seconds, connections: int = CONNECTIONS, hear: Hear | None = None
) -> Outcome:
    """
    Send *requests* in turn at the instants *due*, and wait for the replies.

    *hear*: gets the number of a request and its whole reply, whatever the status. Raises Refused where a reply is not
    200 and nobody hears it, or the last takes longer than GRACE_S.
    """
    if not len(due):
        raise ValueError("no request is due: the rate is too low for so short a time")
    sockets: list[socket.socket] = []
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection in here would be counted as the server's
    try:
        sockets += (socket.create_connection(("127.0.0.1", port)) for _ in range(connections))
        return _Loop(sockets, requests, due, hear).run()
    except OSError as error:
        raise Refused(f"a connection failed: {error!r}") from error
    finally:
        if collecting:
            gc.enable()
        for one in sockets:
            one.close()


class _Loop:
    def __init__(
        self, sockets: Sequence[socket.socket], requests: Sequence[bytes], due: Seconds, hear: Hear | None
    ) -> None:
        self._hear = hear
        self._requests, self._due = requests, due
        self._free = deque(sockets)
        self._by_fd = {one.fileno(): one for one in sockets}
        self._number: dict[int, int] = {}
        self._partial: dict[int, bytes] = {}
        self._epoll = select.epoll()
        for one in sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._epoll.register(one.fileno(), select.EPOLLIN)

    def run(self) -> Outcome:
        """Every request, and every reply."""
        due = self._due.tolist()
        sent, done = [0.0] * len(due), [0.0] * len(due)
        waited = np.zeros(len(due), np.bool_)
        clock, free, number = time.perf_counter, self._free, self._number
        start, count, following, answered, busy = clock() + 0.02, len(due), 0, 0, -1.0
        while answered < count:
            now = clock() - start
            while following < count and due[following] <= now:
                if not free:
                    busy = now
                    break
                one = free.popleft()
                number[one.fileno()] = following
                waited[following] = due[following] <= busy
                sent[following] = clock() - start
                one.sendall(self._requests[following % len(self._requests)])
                following += 1
                now = clock() - start
            if now > due[-1] + GRACE_S:
                raise Refused(f"{count - answered} of {count} requests had no reply after {GRACE_S:g} s")
            until = due[following] - now if following < count and free else 0.1
            if until > SPIN_S:  # epoll's own timeout is in whole milliseconds, select's is not
                select.select([self._epoll], [], [], until - SPIN_S)
            for fd, _ in self._epoll.poll(0):
                if self._received(fd):
                    done[number.pop(fd)] = clock() - start
                    answered += 1
                    free.append(self._by_fd[fd])
        self._epoll.close()
        return Outcome(self._due, np.array(sent), np.array(done), waited)

    def _received(self, fd: int) -> bool:
        """Take what is there; whether that was the end of a reply."""
        found = self._by_fd[fd].recv(1 << 18)
        if not found:
            raise Refused("the server closed a connection")
        if fd in self._partial:
            found = self._partial.pop(fd) + found
        if whole(found, self._hear is not None):
            if self._hear is not None:
                self._hear(self._number[fd], found)
            return True
        self._partial[fd] = found
        return False


def whole(reply: bytes, any_status: bool = False) -> bool:
    """Whether *reply* is a whole HTTP reply. Raises Refused where it has no Content-Length, or is not 200."""
    end = reply.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = reply[:end].lower()
    if not any_status and not head.startswith(b"http/1.1 200"):
        raise Refused(f"answered {reply[:200].decode(errors='replace')!r}")
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise Refused("a reply without a Content-Length")
    length = int(head[at + 17 :].split(b"\r\n", 1)[0])
    return len(reply) >= end + 4 + length
