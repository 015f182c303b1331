"""HTTP by hand: the helpers of other tests, which must not say that less came than did."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.raw import reply

LONG = b"0123456789abcdef" * 2**19  # 8 MiB: more than a socket holds


@contextmanager
def answered(*sent: bytes) -> Iterator[socket.socket]:
    """A connection with a timeout, whose other side says *sent* and ends."""
    ours, theirs = socket.socketpair()
    ours.settimeout(30)

    def say() -> None:
        with theirs:
            for part in sent:
                theirs.sendall(part)

    teller = threading.Thread(target=say)
    teller.start()
    with ours:
        yield ours
    teller.join(30)


def told(body: bytes, length: int | None = None) -> bytes:
    """A reply as bytes."""
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(body) if length is None else length) + body


def test_a_long_reply_is_read_whole_and_the_one_behind_it_is_left() -> None:
    """It comes in as many pieces as the kernel likes, and a connection may hold several."""
    with answered(told(LONG), told(b"next")) as connection:
        assert reply(connection) == (200, LONG)
        assert reply(connection) == (200, b"next")
        assert reply(connection) == (0, b"")


def test_a_reply_that_is_cut_short_is_none() -> None:
    """A test must not take its beginning for the whole."""
    with answered(told(b"half", length=8)) as connection, pytest.raises(EOFError, match="4 of 8 bytes"):
        reply(connection)
