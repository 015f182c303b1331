"""A client that reads when it has sent all reads its refusal, and one that sends without end is not heard for ever."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.http.outlet import MAX_DROPPED
from tests.bundles import table_rows
from tests.raw import connect, post, reply, until_closed
from tests.server import Server

KEY = "k" * 16
LIMIT = 2**20
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 2**25
"""Bytes of a body that no socket's buffers hold: who sends it has to wait until somebody reads it."""


@pytest.fixture(scope="module")
def server(table_bundle: Path) -> Iterator[Server]:
    """One that keeps no connection for long on which nothing happens."""
    with Server(table_bundle, max_body_bytes=LIMIT, api_keys=KEY, keep_alive_s=1) as server:
        yield server


def ask(server: Server, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    """POST with the standard library's client, which reads nothing before all is sent: the status, and the problem."""
    named = {name.replace("_", "-"): value for name, value in {"X_API_Key": KEY, **headers}.items()}
    with contextlib.closing(http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)) as client:
        client.request("POST", path, body, named, encode_chunked="Transfer-Encoding" in named)
        told = client.getresponse()
        return told.status, json.loads(told.read())


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/encode", {"X_API_Key": "x" * 16}, 401),
        ("/v1/nothing", {}, 404),
        ("/v2/models/nothing/infer", {}, 404),
        ("/v1/model", {}, 405),
        ("/v1/encode", {"Accept": "text/html"}, 406),
        ("/v1/encode", {}, 413),
        ("/v2/models/encode/infer", {}, 413),
        ("/v1/encode", {"Content_Type": "text/x"}, 415),
        ("/v1/encode", {"X_Request_Timeout_Ms": "soon"}, 422),
    ],
)
def test_who_reads_when_all_is_sent_reads_why_it_was_refused(
    server: Server, path: str, headers: dict[str, str], status: int, connection: str
) -> None:
    """Told before the body is read; the connection was reset under a client that was still sending."""
    told, problem = ask(server, path, b"x" * LARGE, Connection=connection, **headers)
    assert told == status
    assert problem.keys() >= ({"error"} if path.startswith("/v2") else {"type", "detail"})
    if status == 413 and path.startswith("/v1"):
        assert (problem["limit"], problem["value"]) == (LIMIT, LARGE)


def test_who_sends_in_chunks_reads_that_they_are_too_many(server: Server) -> None:
    """How long the body is becomes known as it comes."""
    status, problem = ask(server, "/v1/encode", (b"x" * 2**16 for _ in range(512)), Transfer_Encoding="chunked")
    assert (status, problem["limit"]) == (413, LIMIT)


def test_who_comes_while_the_queue_is_full_reads_that_it_is(table_bundle: Path) -> None:
    """429, told at the door or, where the connection is to be closed, behind it."""
    body = {"inputs": table_rows(4).tolist()}
    with Server(table_bundle, max_queue_rows=4, max_batch_delay_ms=1000, drain_timeout_s=5) as server:
        for connection in ("keep-alive", "close"):
            waiting = threading.Thread(target=httpx.post, args=(server.url + "/v1/encode",), kwargs={"json": body})
            waiting.start()
            end = time.monotonic() + 20
            while server.metric("vae_queue_rows", op="encode") != 4:
                assert time.monotonic() < end, "waited in vain"
            assert ask(server, "/v1/encode", b"x" * LARGE, Connection=connection)[0] == 429
            waiting.join(20)


@pytest.mark.parametrize(
    ("begin", "status"), [(b"\x16\x03\x01", 400), (b"GET / HTTP/1.1\r\nX: ", 431)], ids=["no HTTP", "headers"]
)
def test_who_sends_what_is_no_request_reads_so(server: Server, begin: bytes, status: int) -> None:
    """However much of it comes."""
    with connect(server) as client:
        client.sendall(begin + b"x" * LARGE)
        assert until_closed(client).startswith(b"HTTP/1.1 %d " % status)


def test_of_too_many_requests_at_once_all_that_are_kept_are_answered(server: Server) -> None:
    """The connection ends behind the last of them, and not with the replies that its client has not read."""
    with connect(server) as client:
        sender = threading.Thread(target=client.sendall, args=(LIVE * (LARGE // len(LIVE)),))
        sender.start()
        sender.join(20)
        told = until_closed(client)
    assert told.count(b"HTTP/1.1 200 ") > 60
    assert told.endswith(b'{"live":true}')


@pytest.mark.parametrize(("path", "status"), [("/v1/encode", 413), ("/v1/nothing", 404)])
def test_who_sends_without_end_is_ended(server: Server, path: str, status: int) -> None:
    """Whether its connection was to be closed or kept."""
    sent, piece = 0, b"x" * 2**20
    with connect(server) as endless:
        endless.sendall(post(b"", f"X-API-Key: {KEY}", path=path, length=2**40))
        assert reply(endless)[0] == status
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while sent < 2 * MAX_DROPPED:
                sent += endless.send(piece)
    assert MAX_DROPPED <= sent < MAX_DROPPED + LARGE


@pytest.mark.parametrize("drop", [b"x", b""], ids=["a byte now and then", "silence"])
@pytest.mark.parametrize(
    ("begin", "status"), [(post(b"", f"X-API-Key: {KEY}", length=2**40), 413), (100 * LIVE, 200)], ids=["413", "many"]
)
def test_who_stays_when_the_server_has_ended_its_half_is_ended(
    server: Server, begin: bytes, status: int, drop: bytes
) -> None:
    """It holds its connection no longer than an idle client does."""
    with connect(server) as slow:
        slow.sendall(begin)
        assert until_closed(slow).startswith(b"HTTP/1.1 %d " % status)
        for _ in range(200):
            if connections(server) == 1:  # that of the question
                return
            with contextlib.suppress(OSError):
                slow.sendall(drop)
            time.sleep(0.05)
        pytest.fail("it is still there")


def test_who_goes_on_sending_gives_its_place_to_others(table_bundle: Path) -> None:
    """It has its reply, and so counts as idle."""
    with Server(table_bundle, max_body_bytes=LIMIT, max_connections=1) as server, connect(server) as endless:
        endless.sendall(post(b"", length=2**40))
        assert until_closed(endless).startswith(b"HTTP/1.1 413 ")
        assert httpx.get(server.url + "/health/live").status_code == 200
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012  whenever that may be
            for _ in range(200):
                endless.sendall(b"x")
                time.sleep(0.01)


def test_who_goes_on_sending_does_not_hold_up_the_end(table_bundle: Path) -> None:
    """Be it refused before SIGTERM or when the port is closed already."""
    begun = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"%x\r\n" % (2 * LIMIT)
    with (
        Server(table_bundle, max_body_bytes=LIMIT, drain_timeout_s=600) as server,
        connect(server) as refused,
        connect(server) as late,
    ):
        refused.sendall(post(b"", length=2**40))
        assert until_closed(refused).startswith(b"HTTP/1.1 413 ")
        late.sendall(begun)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        server.says("Waiting for connections to close")
        late.sendall(b"x" * (2 * LIMIT - 1))
        assert until_closed(late).startswith(b"HTTP/1.1 413 ")
        stopping.join(25)  # of the 30 s that a client may go on
        assert server.process.poll() == 0


def connections(server: Server) -> float:
    """How many there are."""
    return server.metric("vae_connections")
