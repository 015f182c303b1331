"""What no honest client does costs its own connection, and nobody else anything."""

from __future__ import annotations

import contextlib
import gzip
import json
import resource
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bundles import table_rows
from tests.raw import Neighbour, connect, post, reply, rss_mb, until_closed
from tests.server import Server

ROWS = table_rows(3).tolist()
GOOD = json.dumps({"inputs": ROWS}).encode()


@pytest.fixture(scope="module")
def server(table_bundle: Path) -> Iterator[Server]:
    """One that loses its patience soon."""
    with Server(
        table_bundle, keep_alive_s=1, request_timeout_s=10, max_body_bytes=2**22, max_bodies_bytes=2**23
    ) as server:
        yield server


@pytest.fixture
def neighbour(server: Server) -> Iterator[Neighbour]:
    """Somebody who is answered rightly all the while."""
    with Neighbour(server, "/v1/anomaly-score", {"inputs": ROWS}) as neighbour:
        yield neighbour


def rows(cell: bytes) -> bytes:
    """One row with *cell* in it."""
    return b'{"inputs": [[%s, 0.5, 0.5]]}' % cell


BODIES = {
    "cut short": (GOOD[:-5], 400),
    "empty": (b"", 400),
    "100 deep": (b'{"inputs": ' + b"[" * 100 + b"1" + b"]" * 100 + b"}", 422),
    "a million deep": (b'{"inputs": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", 413),
    "1e308": (rows(b"1e308"), 200),  # finite in float64; the graph clamps
    "1e309": (rows(b"1e309"), 400),
    "a number of a million digits": (rows(b"9" * 1_000_000), 400),
    "NaN": (rows(b"NaN"), 400),
    "Infinity": (rows(b"-Infinity"), 400),
    "ragged": (b'{"inputs": [[1, 2, 3], [1, 2]]}', 422),
    "a string for a number": (rows(b'"1"'), 422),
    "not UTF-8": (b'{"inputs": "\xff\xfe"}', 400),
    "UTF-16": (GOOD.decode().encode("utf-16"), 400),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, 400),
    "half a surrogate pair": (b'{"inputs": "\\ud800"}', 400),
    "a key twice": (b'{"inputs": [[1, 2, 3]], "inputs": [[1, 2]]}', 422),
    "zeros": (b"\x00" * 100_000, 400),
    "a million keys": (b"{" + b",".join(b'"%d":0' % n for n in range(200_000)) + b"}", 413),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_told_what_is_wrong(server: Server, neighbour: Neighbour, name: str) -> None:
    """A 4xx with a problem, on a connection that goes on."""
    body, status = BODIES[name]
    with connect(server) as hostile:
        for _ in range(2):
            hostile.sendall(post(body))
            told = reply(hostile)
            assert told[0] == status, told
            assert status == 200 or json.loads(told[1])["type"].startswith("urn:vae-serve:")


REQUESTS = {
    "2 GB announced": (post(b"", length=2**31), 413),
    "a length of 5,000 digits": (b"POST /v1/encode HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
    "a negative length": (b"POST /v1/encode HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    "two lengths": (b"POST /v1/encode HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12", 400),
    "a length and chunks": (
        b"POST /v1/encode HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a chunk of no size": (b"POST /v1/encode HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "a chunk of 2^64 bytes": (
        b"POST /v1/encode HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
        400,
    ),
    "a NUL in a header": (b"GET /health/live HTTP/1.1\r\nX: a\x00b\r\n\r\n", 400),
    "a space before the colon": (b"GET /health/live HTTP/1.1\r\nX : a\r\n\r\n", 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "no such method": (b"FROBNICATE / HTTP/1.1\r\n\r\n", 400),
    "a tunnel": (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", 400),
    "no UTF-8 in the path": (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_no_request_is_refused_and_the_connection_closed(
    server: Server, neighbour: Neighbour, name: str
) -> None:
    """Nobody can say where the next one would begin."""
    request, status = REQUESTS[name]
    with connect(server) as hostile:
        hostile.sendall(request)
        assert until_closed(hostile).startswith(b"HTTP/1.1 %d " % status)


def test_headers_without_end_are_refused_before_they_are_whole(server: Server, neighbour: Neighbour) -> None:
    """431; what is kept until then is bounded."""
    before = rss_mb(server)
    for line in (b"X-%d: " + b"y" * 10_000 + b"\r\n", b"%d" + b"z" * 10_000):
        with connect(server) as hostile:
            hostile.sendall(b"GET /health/live HTTP/1.1\r\nX: ")
            with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012  whenever that may be
                for n in range(100_000):
                    hostile.sendall(line % n)
                    if n % 50 == 0:
                        time.sleep(0.001)
    assert rss_mb(server) < before + 20
    with connect(server) as hostile:
        hostile.sendall(b"GET /health/live HTTP/1.1\r\n")
        for _ in range(4):
            time.sleep(0.02)
            hostile.sendall(b"X: " + b"y" * 25_000 + b"\r\n")
        assert until_closed(hostile).startswith(b"HTTP/1.1 431 ")


def test_chunks_hide_nothing_without_end(server: Server, neighbour: Neighbour) -> None:
    """Extensions of chunks and trailers are no body, and count as headers do."""
    head = b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1"
    for begin, more in ((b";x=", b"y" * 10_000), (b"\r\n{\r\n0\r\n", b"X: " + b"y" * 10_000 + b"\r\n")):
        with connect(server) as hostile:
            hostile.sendall(head + begin)
            with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012  whenever that may be
                for _ in range(100_000):
                    hostile.sendall(more)


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"", b""),  # nothing at all
        (b"", b"\r\n"),  # lines that a server must skip before a request
        (b"GET /health/live HTTP/1.1\r\nX: ", b"y"),  # headers, a byte at a time
        (b"GET /health/live HTTP/1.1\r\n\r\nGET /health/live HTTP/1.1\r\nX: ", b"y"),  # after a request
        (post(b"", "Content-Type: text/x", length=10**6), b"y"),  # the rest of a body that was refused
    ],
    ids=["silence", "empty lines", "headers", "the second headers", "a refused body"],
)
def test_a_connection_on_which_no_request_comes_is_closed(
    server: Server, neighbour: Neighbour, begin: bytes, drop: bytes
) -> None:
    """However much it sends, it is there no longer than an idle one."""
    with connect(server) as hostile:
        hostile.sendall(begin)
        hostile.settimeout(0.1)
        for _ in range(100):
            try:
                if drop:
                    hostile.sendall(drop)
                if not hostile.recv(65536):
                    return
            except TimeoutError:
                continue
            except OSError:
                return
        pytest.fail("it is still there")


def test_a_client_that_does_not_read_its_reply_is_cut_off(server: Server, neighbour: Neighbour) -> None:
    """Else what it does not read would be kept for as long as it likes."""
    asked = json.dumps({"inputs": table_rows(1024).tolist(), "draws": 64, "seed": 1}).encode()
    with socket.socket() as hostile:
        hostile.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        hostile.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        sender = threading.Thread(target=send_what_goes, args=(hostile, post(asked) * 8))
        sender.start()
        cut = select.poll()
        cut.register(hostile, 0)  # a reset is told in any case
        assert cut.poll(20_000)
        sender.join(20)


def test_a_client_that_reads_slowly_gets_all_of_it(server: Server) -> None:
    """Whoever gets on is waited for, however long it takes in all."""
    asked = json.dumps({"inputs": table_rows(1024).tolist(), "draws": 256, "seed": 1}).encode()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        slow.sendall(post(asked, "Connection: close"))
        said = bytearray()
        began = time.monotonic()
        while part := slow.recv(150_000):
            said += part
            time.sleep(0.015)
        assert time.monotonic() - began > 1.5  # longer than the server waits for one that does not get on
    head, _, body = bytes(said).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(json.loads(body)["z"]) == 1024


def send_what_goes(connection: socket.socket, data: bytes) -> None:
    """Until the other side is gone."""
    with contextlib.suppress(OSError):
        connection.sendall(data)


def test_half_a_connection_is_enough_for_an_answer(table_bundle: Path) -> None:
    """`printf ... | nc` shuts its sending side behind the request; HTTP allows it (RFC 9112, 9.6)."""
    with Server(table_bundle, max_batch_delay_ms=400) as server:
        for version, signs in ("1.1", True), ("1.0", False):
            with connect(server) as half:
                half.sendall(post(GOOD).replace(b"HTTP/1.1", b"HTTP/" + version.encode()))
                half.shutdown(socket.SHUT_WR)
                said = until_closed(half)
                assert (b"HTTP/1.1 102 Processing\r\n\r\n" in said) == signs
                assert b"HTTP/1.1 200 OK\r\n" in said
                assert len(json.loads(said.rpartition(b"\r\n\r\n")[2])["mu"]) == 3


def test_half_a_request_and_half_a_connection_are_nothing(server: Server, neighbour: Neighbour) -> None:
    """It will never be whole."""
    for half_request in (post(GOOD)[:-3], b"GET /health/live HTTP/1.1\r\n", b""):
        with connect(server) as half:
            half.sendall(half_request)
            half.shutdown(socket.SHUT_WR)
            assert until_closed(half) == b""


@pytest.mark.parametrize(
    "upgrade",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
    ],
    ids=["HTTP/2, as Java's client asks", "WebSocket"],
)
def test_who_asks_for_another_protocol_is_answered_in_this_one(server: Server, upgrade: tuple[str, ...]) -> None:
    """With its body, in pieces or in chunks, and with what follows on the same connection; nothing is logged."""
    lines = len(server.log)
    chunked = post(GOOD, *upgrade).replace(b"Content-Length: %d" % len(GOOD), b"Transfer-Encoding: chunked")
    chunked = chunked[: -len(GOOD)] + b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    whole = post(GOOD, *upgrade)
    for pieces in ((whole,), (whole[:60], whole[60:]), (whole[:-20], whole[-20:]), (chunked,), (whole + post(GOOD),)):
        with connect(server) as client:
            for piece in pieces:
                client.sendall(piece)
                time.sleep(0.02)
            for _ in range(2 if pieces[0] == whole + post(GOOD) else 1):
                status, body = reply(client)
                assert (status, len(json.loads(body)["mu"])) == (200, 3)
            client.sendall(post(GOOD))
            assert reply(client)[0] == 200
    assert server.log[lines:] == []


def test_bodies_that_are_being_sent_have_one_limit_together(server: Server, neighbour: Neighbour) -> None:
    """429 with a time to come back for what would pass it; when they are gone, the next one is taken."""
    size = 3 * 2**20
    head = post(b"", "Content-Type: application/x-npy", length=size + 1000)
    with contextlib.ExitStack() as stack:
        uploads = [stack.enter_context(connect(server)) for _ in range(3)]
        for one in uploads:
            one.sendall(head + b"x" * size)
        (refused,), _, _ = select.select(uploads, [], [], 20)
        status, body = reply(refused)
        assert (status, json.loads(body)["limit"]) == (429, 2**23)
        refused.sendall(b"x" * 1000 + post(GOOD))  # the rest of the body is read, so the connection goes on
        assert reply(refused)[0] == 200
    wait_until(lambda: server.metric("vae_http_requests_in_progress", route="/v1/encode") == 0)
    with connect(server) as later:
        for _ in range(3):
            later.sendall(post(b"x" * size, "Content-Type: application/x-npy"))
            assert reply(later)[0] == 400


def test_what_compressed_bodies_come_to_counts_too(table_bundle: Path) -> None:
    """They are short on the wire, and long while they wait."""
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": ROWS[0]}
    body = json.dumps({"inputs": [tensor]}).encode()
    long = gzip.compress(body + b" " * 3 * 2**20)
    with (
        Server(table_bundle, max_bodies_bytes=2**23, max_batch_delay_ms=1000) as server,
        contextlib.ExitStack() as stack,
    ):
        callers = [stack.enter_context(connect(server)) for _ in range(4)]
        for caller in callers:
            caller.sendall(post(long, "Content-Encoding: gzip", path="/v2/models/encode/infer"))
        assert sorted(reply(caller)[0] for caller in callers) == [200, 200, 429, 429]


def test_invalid_in_its_last_byte_and_many_at_once(server: Server, neighbour: Neighbour) -> None:
    """Bodies at the limit cost memory within a limit, whatever they hold."""
    cell = b"[0.5, 0.5, 0.5],"
    body = b'{"inputs": [' + cell * ((2**22 - 50) // len(cell)) + b"[1, 2, ]]}"
    before = rss_mb(server)
    statuses: list[int] = []

    def send() -> None:
        with connect(server) as one:
            one.sendall(post(body))
            statuses.append(reply(one)[0])

    senders = [threading.Thread(target=send) for _ in range(16)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(30)
    assert len(statuses) == 16
    assert set(statuses) <= {400, 413, 429, 408, 504}
    assert rss_mb(server) < before + 100


def test_idle_connections_cost_little_and_keep_nobody_out(table_bundle: Path) -> None:
    """Files up to the hard limit are taken at the start: one connection is one file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = Server(table_bundle)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with server, contextlib.ExitStack() as stack:
        before = rss_mb(server)
        for _ in range(300):
            stack.enter_context(connect(server))
        with Neighbour(server, "/v1/encode", {"inputs": ROWS}):
            assert rss_mb(server) < before + 30


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for *condition*."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")
def test_workers_lose_their_patience_too(table_bundle: Path) -> None:
    """Their connections come by another way."""
    with Server(table_bundle, workers=2, keep_alive_s=1) as server, connect(server) as silent:
        assert until_closed(silent) == b""
