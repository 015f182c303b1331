"""API keys: who is let in, what they may do, how keys change, and that nobody is told one."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Forbidden, StartError, Unauthorized
from service.http.headers import Headers
from service.http.keys import Keys
from tests.bundles import table_rows
from tests.raw import connect, post, reply
from tests.server import Server

USE, ADMIN, METRICS = "sesame-of-a-caller", "sesame-of-an-operator", "sesame-of-prometheus"
ALL = f"{USE} admin:{ADMIN}, metrics:{METRICS}"
BODY = {"inputs": table_rows(2).tolist()}


def bearer(key: str) -> dict[str, str]:
    """The header of a caller."""
    return {"Authorization": f"Bearer {key}"}


def asked(*pairs: tuple[bytes, bytes]) -> Headers:
    """A request's headers."""
    return Headers({"headers": list(pairs), "query_string": b""})


def opened(text: str, file: Path | None = None, metrics_need_key: bool = True) -> Keys:
    """Keys that are read."""
    keys = Keys(text, file, metrics_need_key)
    keys.open()
    return keys


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for *condition*."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(table_bundle: Path) -> Iterator[Server]:
    """With a key of each role, and metrics that need one."""
    with Server(table_bundle, {"VAE_API_KEYS": ALL, "VAE_METRICS_NEED_KEY": "true"}) as running:
        yield running


PATHS = {
    "use": [("POST", "/v1/encode"), ("GET", "/v1/model"), ("GET", "/v2"), ("GET", "/v2/models/stats"), ("GET", "/no")],
    "metrics": [("GET", "/metrics"), ("HEAD", "/metrics")],
    "admin": [("POST", "/v1/admin/reload"), ("GET", "/v1/admin/no")],
}


@pytest.mark.parametrize("wanted", PATHS)
def test_each_role_may_do_its_own_and_admin_may_do_all(server: Server, wanted: str) -> None:
    """401 without a key, 403 with one for something else; both before it is told whether there is such a path."""
    for method, path in PATHS[wanted]:
        for role, key in (("use", USE), ("metrics", METRICS), ("admin", ADMIN)):
            sent = server.client.request(method, path, json=BODY, headers=bearer(key))
            assert (sent.status_code == 403) == (role not in (wanted, "admin")), (role, path, sent.text)
            assert sent.status_code != 401
        sent = server.client.request(method, path, json=BODY)
        assert sent.status_code == 401
        assert sent.headers["www-authenticate"] == 'Bearer realm="vae-serve"'


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"]
)
def test_health_and_the_documentation_are_open(server: Server, path: str) -> None:
    """Balancers and probes have no keys, and the document is the same for every model."""
    assert server.client.get(path).status_code == 200
    assert server.client.get("/docs/assets/swagger-ui.css").status_code == 200


def test_metrics_are_open_unless_they_are_told_not_to_be(table_bundle: Path) -> None:
    """Prometheus is often the only one that can reach the port of a pod."""
    with Server(table_bundle, {"VAE_API_KEYS": ALL}) as server:
        assert server.client.get("/metrics").status_code == 200
        assert server.client.get("/v1/model").status_code == 401


def test_refusals_have_the_form_of_their_routes_and_are_counted(server: Server) -> None:
    """A problem document under /v1, {"error"} under /v2; the challenge says what is wrong with the key."""
    before = _counted(server, "unauthorized")
    none = server.client.post("/v1/encode", json=BODY, headers={"X-Request-Id": "me"})
    assert (none.headers["content-type"], none.headers["x-request-id"]) == ("application/problem+json", "me")
    assert none.json()["type"] == "urn:vae-serve:unauthorized"
    wrong = server.client.post("/v2/models/encode/infer", json={}, headers=bearer(USE + "x"))
    assert (wrong.status_code, list(wrong.json())) == (401, ["error"])
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    other = server.client.post("/v1/admin/reload", headers=bearer(USE))
    assert other.json()["detail"] == "this needs an API key of the role admin; the one that came has the role use"
    assert 'error="insufficient_scope", scope="admin"' in other.headers["www-authenticate"]
    assert _counted(server, "unauthorized") == before + 2


def _counted(server: Server, reason: str) -> float:
    text = server.client.get("/metrics", headers=bearer(METRICS)).text
    return float(text.split(f'vae_rejected_total{{reason="{reason}"}} ')[1].split()[0])


def test_a_key_may_come_in_either_header() -> None:
    """A bearer token counts; where Authorization is something else, it is a proxy's, and X-API-Key counts."""
    keys = opened(ALL)
    for pairs in (
        [(b"authorization", b"Bearer " + USE.encode())],
        [(b"authorization", b"bearer   " + USE.encode())],
        [(b"x-api-key", USE.encode())],
        [(b"authorization", b"Basic YTpi"), (b"x-api-key", USE.encode())],
    ):
        keys.check(asked(*pairs), "/v1/encode")
    for pairs in (
        [],
        [(b"authorization", USE.encode())],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer wrong"), (b"x-api-key", USE.encode())],
        [(b"x-api-key", USE.encode()), (b"x-api-key", USE.encode())],
        [(b"x-api-key", USE.encode() * 5000)],
    ):
        with pytest.raises(Unauthorized):
            keys.check(asked(*pairs), "/v1/encode")


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_whatever_comes_that_is_no_key_is_refused(authorization: bytes, key: bytes) -> None:
    """Any bytes, in either header."""
    with pytest.raises(Unauthorized):
        KNOWN.check(asked((b"authorization", authorization), (b"x-api-key", key)), "/v1/encode")


KNOWN = opened(ALL)


def test_a_refusal_comes_before_the_body(server: Server) -> None:
    """Who has no key does not have 32 MB read: announced, and never sent."""
    with connect(server) as connection:
        connection.sendall(post(b"", length=33_000_000))
        assert reply(connection)[0] == 401


def test_a_full_queue_is_not_told_to_who_has_no_key(table_bundle: Path) -> None:
    """401 and not 429, at the door too; who has one is told to come back."""
    keys = {"VAE_API_KEYS": ALL}
    with Server(table_bundle, keys, max_queue_rows=2, max_batch_rows=256, max_batch_delay_ms=1000) as server:
        first = threading.Thread(
            target=lambda: httpx.post(f"{server.url}/v1/encode", json=BODY, headers=bearer(USE), timeout=30)
        )
        first.start()
        until(lambda: server.metric("vae_queue_rows", op="encode") == 2)
        statuses = [
            server.client.post("/v1/encode", json=BODY, headers=headers).status_code
            for headers in ({}, bearer("x" * 20), bearer(METRICS), bearer(USE))
        ]
        assert statuses == [401, 401, 403, 429]
        with contextlib.closing(http.client.HTTPConnection(server.url.removeprefix("http://"))) as pipelined:
            pipelined.connect()
            pipelined.sock.sendall(post(b"{}") * 3)
            assert [reply(pipelined.sock)[0] for _ in range(3)] == [401] * 3
        first.join(30)


def test_nothing_tells_a_key(server: Server) -> None:
    """Not the log, nor the model, nor a refusal, nor the list of processes where they come by the environment."""
    told = [server.client.get("/v1/model", headers=bearer(USE)).text]
    for path in ("/v1/encode", "/v1/admin/reload", "/v2/models/encode/infer"):
        told += [server.client.post(path, headers=bearer(key)).text for key in (USE, METRICS, USE + "x")]
    told += [server.client.get("/metrics", headers=bearer(ADMIN)).text, "".join(server.log)]
    command = Path(f"/proc/{server.process.pid}/cmdline")
    told += [command.read_text()] if command.exists() else []
    for key in (USE, ADMIN, METRICS):
        assert not [text for text in told if key in text]
    assert "API keys: 1 of the role use, 1 of the role metrics, 1 of the role admin" in "".join(server.log)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("short", "has 16 to 256 characters; one has 5"),
        ("x" * 257, "has 16 to 256 characters; one has 257"),
        ("root:0123456789abcdef", "ROLE one of use, metrics, admin"),
        ("a key with spaces", "one has 1"),
        ("0123456789abcdef\nuse:0123456789abcdéf", "line 2"),
        ("use:0123456789abcdef admin:0123456789abcdef", "has two roles, use and admin"),
    ],
)
def test_a_key_that_is_none_stops_the_start_and_is_not_repeated(text: str, told: str) -> None:
    """The operator reads where and why; what stands there may be nearly a key."""
    with pytest.raises(StartError, match=told) as error:
        opened(text)
    assert "VAE_API_KEYS, line" in str(error.value)
    assert "0123" not in str(error.value)


def test_no_keys_ask_nobody() -> None:
    """An empty variable, as compose sets it, is none."""
    for text in ("", " \n"):
        keys = opened(text)
        for path in ("/v1/encode", "/v1/admin/reload", "/metrics"):
            keys.check(asked(), path)


def test_before_they_are_read_nobody_is_let_in(tmp_path: Path) -> None:
    """A service that has keys is not open for its first moments."""
    keys = Keys(ALL, tmp_path / "keys", metrics_need_key=True)
    with pytest.raises(Unauthorized):
        keys.check(asked((b"x-api-key", USE.encode())), "/v1/encode")


def test_a_file_of_keys_is_read_again_when_it_has_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a mounted secret changes: by a symbolic link. A change that is not whole, or wrong, takes no key away."""
    for number, text in enumerate((f"# ours\n{USE}  # of A\nadmin:{ADMIN}\n", METRICS, "too short", "# none\n")):
        (tmp_path / str(number)).write_text(text)
    file = tmp_path / "keys"
    file.symlink_to(tmp_path / "0")
    keys = opened("", file)

    def takes(key: str) -> bool:
        try:
            keys.check(asked((b"x-api-key", key.encode())), "/v1/encode")
        except Unauthorized:
            return False
        return True

    def turn(number: int) -> None:
        new = tmp_path / "new"
        new.symlink_to(tmp_path / str(number))
        new.rename(file)
        keys.look()

    with caplog.at_level(logging.INFO):
        turn(1)
        assert (takes(USE), takes(METRICS)) == (True, False), "seen once: it may be half written"
        keys.look()
        assert (takes(USE), takes(METRICS)) == (False, True)
        for number, told in ((2, "has 16 to 256 characters"), (3, "holds no key"), (9, "No such file")):
            turn(number)
            keys.look()
            keys.look()
            assert takes(METRICS)
            assert sum(told in line for line in caplog.messages) == 1, caplog.messages
        turn(0)
        keys.look()
        assert (takes(USE), takes(METRICS)) == (True, False)


def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    """Nobody could be let in, or everybody would be."""
    for file, told in ((tmp_path / "nope", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(StartError, match=told):
            opened("", file)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(StartError, match="not UTF-8"):
        opened("", tmp_path / "binary")


def test_keys_change_without_a_restart_in_every_worker(table_bundle: Path, tmp_path: Path) -> None:
    """A new key is taken and the old one is not, while requests go on."""
    file = tmp_path / "keys"
    file.write_text(USE)
    with Server(table_bundle, api_keys_file=file, workers=2) as server:
        server.says("worker 1 is ready")

        def statuses(key: str) -> set[int]:
            return {httpx.post(f"{server.url}/v1/encode", json=BODY, headers=bearer(key)).status_code for _ in range(6)}

        assert (statuses(USE), statuses(ADMIN)) == ({200}, {401})
        new = tmp_path / "new"
        new.write_text(ADMIN)
        os.replace(new, file)
        until(lambda: statuses(ADMIN) == {200})
        assert statuses(USE) == {401}


def test_a_role_that_is_not_allowed_is_told_which_one_is() -> None:
    """For /metrics as for the rest."""
    with pytest.raises(Forbidden, match="of the role metrics or admin; the one that came has the role use"):
        KNOWN.check(asked((b"x-api-key", USE.encode())), "/metrics")
