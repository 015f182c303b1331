"""
What the supervisor and a worker say to each other: small messages, and connections.

A pair of Unix sockets that keep messages apart (SOCK_SEQPACKET). When one side is gone, for whatever reason, the other
reads an end. Knows nothing of what is said; Linux only.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

MAX_BYTES = 65536
_CONNECTION = b"connection"
SAY_WHERE = signal.SIGUSR2
"""At this signal a worker writes where each of its threads is; it works where the event loop hangs in C, too."""

Message = dict[str, Any]


class Channel:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self.ended = False

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(other)

    def fileno(self) -> int:
        """For selectors and event loops."""
        return self._end.fileno()

    def say(self, message: Message) -> None:
        """Send *message*; it is lost where the other side is gone, or has left hundreds unread."""
        with contextlib.suppress(OSError):
            self._end.send(json.dumps(message).encode())

    def hand_over(self, connection: socket.socket) -> bool:
        """Send *connection*, which stays open here; False where the other side does not take it now."""
        try:
            socket.send_fds(self._end, [_CONNECTION], [connection.fileno()])
        except OSError:  # gone, or its buffer is full: it is busy
            return False
        return True

    def hear(self) -> Iterator[Message | socket.socket]:
        """What has come. *ended* is true afterwards when nothing more will."""
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._end, MAX_BYTES, 1)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self.ended = True
                return
            if descriptors:
                yield socket.socket(fileno=descriptors[0])
            else:
                yield json.loads(data)

    def close(self) -> None:
        """The other side reads an end."""
        self._end.close()


class Place(NamedTuple):
    """What a worker is told when it begins: its number, its end of the channel, where all count, which model."""

    number: int
    channel: Channel
    counts: Path
    bundle: Path | None


@dataclass
class Worker:
    """
    A worker as the supervisor knows it.

    *heard*: when it said something last; *kill_at*: when it is killed because it did not.
    *connections*: as many as it said last, and those that it was handed since. *turn*: when it was handed the last one.
    *adopted*: how many it has said to have got since it began; *handed*: those that it has not, and has not read from.
    """

    number: int
    pid: int
    channel: Channel
    started: float
    ready: bool = False
    heard: float = field(default_factory=time.monotonic)
    kill_at: float = float("inf")
    connections: int = 0
    turn: int = 0
    adopted: int = 0
    handed: deque[socket.socket] = field(default_factory=deque)


Workers = dict[int, Worker]
"""Those that there are, by number."""
