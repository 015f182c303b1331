"""
Closed-loop callers in threads, who check every answer and tell what happened to every request.

Each keeps one connection, as a proxy's pool does, and opens another where a reply closed it.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

import numpy as np

from benchmarks.reliability.setting import ENCODE, digits, encode_body, encode_requests, same

SETTLED_S = 0.1
"""After this nothing that a dead worker wrote is still on its way."""


class Callers:
    """
    *count* callers of encode on *port*; in the body of a `with` they call.

    *leave*: they go for good when a reply closes their connection. *outcomes* counts: right, wrong, status N, broken
    <worker> for a connection that ended without a reply (whose it was, by the prefix of its request ids), and "broken
    by the living" for an answer of a worker that had broken a connection before.
    """

    def __init__(self, port: int, count: int, leave: bool = False) -> None:
        self._port = port
        self._leave = leave
        _, self._mu = encode_requests()
        self._bodies = [encode_body(x) for x in digits()]
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(count)]
        self.outcomes: Counter[str] = Counter()
        self.seconds: list[float] = []
        self._broken_at: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Stop, each after the reply that it waits for."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _call(self, number: int) -> None:
        connection: http.client.HTTPConnection | None = None
        worker, turn = "none", number
        while not self._stop.is_set():
            turn = (turn + 7) % len(self._bodies)
            start = time.perf_counter()
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
                connection.request("POST", ENCODE, self._bodies[turn], {"Content-Type": "application/json"})
                reply = connection.getresponse()
                content = reply.read()
            except (OSError, http.client.HTTPException):
                self._count(f"broken {worker}")
                self._broken_at.setdefault(worker, time.perf_counter())
                if connection is not None:
                    connection.close()
                connection, worker = None, "none"
                time.sleep(0.01)
                continue
            self.seconds.append(time.perf_counter() - start)
            worker = reply.headers["x-request-id"].split("-")[0]
            if start > self._broken_at.get(worker, start) + SETTLED_S:
                self._count("broken by the living")
            if reply.status != 200:
                self._count(f"status {reply.status}")
            else:
                right = same(np.array(json.loads(content)["mu"]), self._mu[turn][None]).all()
                self._count("right" if right else "wrong")
            if reply.headers.get("connection") == "close":
                connection.close()
                connection, worker = None, "none"
                if self._leave:
                    return
        if connection is not None:
            connection.close()

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1
