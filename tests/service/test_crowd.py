"""All connections together: how many there may be, and how much their clients may leave unread."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.crowd import GRACE_S, Crowd, Why
from service.http.headers import MAX_HEADERS
from service.http.protocol import MAX_PIPELINED
from tests.bundles import table_rows
from tests.raw import Neighbour, connect, post, reply, until_closed
from tests.server import Server

BODY = {"inputs": table_rows(2).tolist()}
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(eq=False)
class Fake:
    """A connection: what it does is set by the test."""

    answering: bool = False
    unread: int = 0
    ended: bool = False

    @property
    def untaken(self) -> int:
        """With what the system has, which is nothing."""
        return self.unread

    def end(self) -> None:
        """Remember it."""
        self.ended = True


@dataclass
class Heard:
    """Hears why connections were ended."""

    why: list[Why] = field(default_factory=list)

    def __call__(self, why: Why) -> None:
        self.why.append(why)


def crowd(most: int = 3, most_unread: int = 100) -> tuple[Crowd, Heard]:
    """A small one."""
    heard = Heard()
    return Crowd(most, most_unread, heard), heard


def test_a_newer_connection_takes_the_place_of_the_one_that_was_silent_for_longest() -> None:
    """Not of one whose request is being answered; of one that still reads its reply only where there is no other."""
    full, heard = crowd()
    one, two, three, four, five = (Fake() for _ in range(5))
    assert [full.enter(member) for member in (one, two, three)] == [True] * 3
    full.heard(one)
    two.answering = True
    three.unread = 1
    assert full.enter(four)
    assert [member.ended for member in (one, two, three, four)] == [True, False, False, False]
    four.answering = True
    assert full.enter(five)
    assert three.ended
    assert (len(full), heard.why) == (3, ["idle", "idle"])


def test_where_everybody_waits_for_an_answer_a_newer_connection_is_refused() -> None:
    """Nobody is robbed of an answer."""
    full, heard = crowd()
    members = [Fake(answering=True) for _ in range(3)]
    for member in members:
        assert full.enter(member)
    newer = Fake()
    assert not full.enter(newer)
    full.leave(newer)
    assert (len(full), heard.why) == (3, ["refused"])
    full.leave(members[0])
    assert full.enter(newer)


def test_who_takes_nothing_for_longest_is_ended_when_too_much_is_unread() -> None:
    """Not who gets on, however slowly; where all do, the one that made it too much."""
    full, heard = crowd(most=9)
    slow, stuck, late = Fake(unread=40), Fake(unread=40), Fake(unread=40)
    for member in (slow, stuck, late):
        full.enter(member)
    full.stuck(slow, 10.0)
    full.stuck(stuck, 20.0)
    slow.unread = 39
    full.stuck(late, 30.0)
    assert [member.ended for member in (slow, stuck, late)] == [False, True, False]
    newest = Fake(unread=90)
    full.enter(newest)
    slow.unread, late.unread = 38, 39
    full.stuck(newest, 30.0 + GRACE_S)
    assert [member.ended for member in (slow, late, newest)] == [False, False, True]
    assert heard.why == ["unread", "unread"]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["stuck", "flowing", "leave", "read"]), st.integers(1, 90)))
)
def test_never_more_is_held_than_is_allowed(steps: list[tuple[int, str, int]]) -> None:
    """Whatever happens in whatever order; and nobody is ended while there is room."""
    full, heard = crowd(most=6)
    members = [Fake() for _ in range(6)]
    for member in members:
        full.enter(member)
    held: set[Fake] = set()
    for now, (who, what, size) in enumerate(steps):
        member = members[who]
        if member.ended:
            continue
        ended = len(heard.why)
        if what == "stuck":
            member.unread = size
            held.add(member)
            before = sum(one.unread for one in held)
            full.stuck(member, float(now))
            assert (len(heard.why) > ended) == (before > 100)
        elif what == "read":
            member.unread //= 2
        else:
            held.discard(member)
            member.unread = 0
            (full.flowing if what == "flowing" else full.leave)(member)
        held = {one for one in held if not one.ended}
        assert sum(one.unread for one in held) <= 100


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for *condition*."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_thousand_connections_that_say_nothing_shut_nobody_out(table_bundle: Path) -> None:
    """They take each other's places; a neighbour on connections of its own is answered all the while."""
    with (
        Server(table_bundle, max_connections=300) as server,
        contextlib.ExitStack() as stack,
        Neighbour(server, "/v1/encode", BODY),
    ):
        for _ in range(1000):
            stack.enter_context(connect(server))
        until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 200)
        assert server.metric("vae_connections") <= 300
        assert server.metric("vae_connections_ended_total", reason="idle") >= 600


def test_a_connection_beyond_the_limit_is_told_so_where_all_wait(table_bundle: Path) -> None:
    """In plain text: there is no request yet. There is room again when an answer was given."""
    with Server(table_bundle, max_connections=2, max_batch_delay_ms=1000) as server, contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(connect(server)) for _ in range(2)]
        for connection in waiting:
            connection.sendall(post(json.dumps(BODY).encode()))
        time.sleep(0.2)  # they are in the queue; a request for /metrics would be one connection too many
        with connect(server) as newer:
            told = until_closed(newer)
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in told
        head, _, text = told.partition(b"\r\n\r\n")
        assert f"content-length: {len(text)}".encode() in head
        assert text == b"there are too many connections\n"
        assert [reply(connection)[0] for connection in waiting] == [200, 200]
        assert server.client.get("/health/ready").status_code == 200
        assert server.metric("vae_connections_ended_total", reason="refused") == 1


def sample(count: int) -> bytes:
    """A request whose reply is long."""
    return post(json.dumps({"count": count, "seed": 1}).encode(), path="/v1/sample")


def test_replies_that_nobody_reads_are_kept_to_a_limit(table_bundle: Path) -> None:
    """Those who take nothing lose their connections, and a slow reader that gets on does not."""
    limits = {"max_request_rows": 60000, "max_batch_rows": 60000, "max_queue_rows": 10**6}
    with (
        Server(table_bundle, None, max_unread_bytes=2**23, **limits) as server,
        contextlib.ExitStack() as stack,
    ):
        slow = stack.enter_context(_narrow(server))
        slow.sendall(sample(60000))
        assert slow.recv(1000).startswith(b"HTTP/1.1 200")
        enough = threading.Event()
        taken: list[int] = []

        def read() -> None:
            while not enough.wait(0.002) and (part := slow.recv(2048)):
                taken.append(len(part))

        reader = threading.Thread(target=read)
        reader.start()
        with Neighbour(server, "/v1/encode", BODY):
            for connection in [stack.enter_context(_narrow(server)) for _ in range(8)]:
                connection.sendall(sample(60000))
            until(lambda: server.metric("vae_connections_ended_total", reason="unread") >= 4)
        before = len(taken)
        until(lambda: len(taken) > before + 50)
        enough.set()
        reader.join(20)


def _narrow(server: Server) -> socket.socket:
    """A connection whose system keeps little of what comes."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    connection.settimeout(20)
    connection.connect((host, int(port)))
    return connection


def test_what_is_asked_behind_a_reply_that_is_not_read_is_answered_when_it_is(table_bundle: Path) -> None:
    """And not before: an answer that waits for its client is memory that others cannot have."""
    with Server(table_bundle, max_request_rows=60000, max_batch_rows=60000) as server, _narrow(server) as connection:
        connection.sendall(sample(60000) + sample(1) + LIVE)
        until(lambda: server.metric("vae_rows_total", op="sample") == 60000)
        time.sleep(0.3)  # that the next one would take, many times over
        assert server.metric("vae_batch_rows_count", op="sample") == 1
        with connection.makefile("rb") as file:
            for _ in range(3):
                assert file.readline().startswith(b"HTTP/1.1 200")
                file.read(int(http.client.parse_headers(file)["content-length"]))
        assert server.metric("vae_rows_total", op="sample") == 60001


def test_of_requests_sent_without_waiting_a_bounded_number_is_kept(table_bundle: Path) -> None:
    """As many are answered as may wait, in order; then the connection is closed, so the client knows of the others."""
    with Server(table_bundle, max_batch_delay_ms=300) as server, connect(server) as connection:
        connection.sendall(post(json.dumps(BODY).encode()) + LIVE * (MAX_PIPELINED + 20))
        told = until_closed(connection)
        assert told.count(b"HTTP/1.1 200") == 1 + MAX_PIPELINED
        assert b"connection: close" in told.rpartition(b"HTTP/1.1 200")[2]


@pytest.mark.parametrize("sent", ["all at once", "the body later", "headers without end"])
def test_many_short_headers_are_refused_as_long_ones_are(table_server: Server, sent: str) -> None:
    """Each costs a hundred bytes, however short it is."""
    lines = b"".join(b"a%d:\r\n" % i for i in range(MAX_HEADERS))
    with connect(table_server) as connection:
        head = b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n" + lines
        rest = {
            "all at once": (b"\r\n{}", b""),
            "the body later": (b"\r\n", b"{}"),
            "headers without end": (b"", b"b: c\r\n"),
        }
        first, later = rest[sent]
        connection.sendall(head + first)
        if later:
            time.sleep(0.1)
            with contextlib.suppress(OSError):
                connection.sendall(later)
        assert reply(connection)[0] == 431


def test_many_short_trailers_end_a_connection_as_many_headers_do(table_server: Server) -> None:
    """They come behind the body, and are kept as headers are."""
    with connect(table_server) as connection:
        head = b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
        connection.sendall(head + b"".join(b"a%d:\r\n" % i for i in range(MAX_HEADERS + 2)))
        assert until_closed(connection) == b""
