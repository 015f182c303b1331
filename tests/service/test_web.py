"""What FastAPI answers: documentation, the report, and the errors of routes that do not exist."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import App
from service.oip.catalog import Catalog
from service.oip.endpoint import OIP
from service.settings import Settings
from service.statistics import Statistics
from service.web import COLD_ROUTES, make_web
from tests.bundles import reseal
from tests.server import Server


def test_wrong_methods_and_paths_are_problems_too(table_server: Server) -> None:
    """One shape of error for all of /v1."""
    for method, path, status in (
        ("GET", "/v1/encode", 405),
        ("DELETE", "/v1/model", 405),
        ("POST", "/v1/nope", 404),
        ("POST", "/v1/encode/", 404),
    ):
        reply = table_server.client.request(method, path)
        assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json")
    assert table_server.client.get("/v1/encode").headers["allow"] == "POST"
    for method, path, kind in (("GET", "/v1/encode", 405), ("GET", "/v1/nope", 404), ("DELETE", "/health/live", 405)):
        assert table_server.client.request(method, path).json()["type"] == f"urn:vae-serve:http-{kind}"


def test_what_is_not_http_and_too_long_a_url_are_refused_in_plain_text(table_server: Server) -> None:
    """By uvicorn, before there is a request that could have a problem document; a URL as long as it may be is none."""
    for line, told in (
        (b"EHLO example.org\r\n\r\n", b"Invalid HTTP request received."),
        (b"GET /" + b"a" * 65535 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"Invalid HTTP request received."),
        (b"GET /" + b"a" * 65534 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"urn:vae-serve:http-404"),
    ):
        url = table_server.client.base_url
        with (
            socket.create_connection((url.host, url.port), timeout=30) as connection,
            connection.makefile("rb") as file,
        ):
            connection.sendall(line)
            reply = file.read()
        head, _, body = reply.partition(b"\r\n\r\n")
        assert told in body
        assert (b"400" in head.splitlines()[0]) == (b"text/plain" in head) == told.startswith(b"Invalid")


HEADED = (
    *(path for path in COLD_ROUTES if path not in ("/v1/admin/reload", "/v2/repository/index")),
    "/v2/",
    "/v2/models/encode",
    "/v2/models/encode/ready",
    "/v2/models/encode/config",
    "/v2/models/encode/stats",
    "/v2/models/encode/versions/1",
    "/v2/models/encode/versions/9",
    "/docs/assets/swagger-ui.css",
    "/v1/encode",
    "/v1/nope",
)


@pytest.mark.parametrize("path", HEADED)
def test_head_is_get_without_the_body(table_server: Server, path: str) -> None:
    """As load balancers ask, on every route; the connection goes on, so nothing came behind the headers."""
    names = ("content-type", "content-length", "allow", "content-security-policy")
    got, head = (table_server.client.request(name, path, headers={"X-Request-Id": "r-1"}) for name in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in names if path != "/metrics" else names[:1]:
        assert head.headers.get(name) == got.headers.get(name), name
    assert head.headers["x-request-id"] == "r-1"
    assert table_server.client.get("/health/live").json() == {"live": True}


def test_head_has_no_body_whatever_the_server_is(table_server: Server) -> None:
    """Some servers drop one by themselves, as uvicorn does, and others need not. It is counted as what it is."""
    app = App(Settings())
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    for path, status in (("/health/live", 200), ("/health/ready", 503), ("/v1/model", 503), ("/metrics", 200)):
        sent.clear()
        scope = {"type": "http", "method": "HEAD", "path": path, "raw_path": path.encode(), "headers": []}
        asyncio.run(app({**scope, "query_string": b"", "root_path": ""}, receive, send))
        assert sent[0]["status"] == status
        assert int(dict(sent[0]["headers"])[b"content-length"]) > 0
        assert b"".join(message["body"] for message in sent[1:]) == b""
    table_server.client.head("/v2/health/live")
    labels = {"route": "/v2/health/live", "method": "HEAD", "code": "200"}
    assert table_server.metric("vae_http_requests_total", **labels)


def test_405_names_head_beside_get(table_server: Server) -> None:
    """Where one is taken the other is."""
    for path in ("/health/live", "/v1/model", "/v2/models/encode"):
        reply = table_server.client.delete(path)
        assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")
    assert table_server.client.head("/v1/encode").headers["allow"] == "POST"


def test_the_report_shows_itself_and_can_do_nothing(table_bundle: Path, tmp_path: Path) -> None:
    """It may come from somebody else: no script, no form, no origin, nothing fetched."""
    bundle = shutil.copytree(table_bundle, tmp_path / "1")
    (bundle / "report").mkdir(exist_ok=True)
    (bundle / "report/report.html").write_text("<!doctype html><title>pumps</title>")
    reseal(bundle)
    with Server(bundle) as server:
        reply = server.client.get("/v1/model/report")
        assert (reply.status_code, reply.text) == (200, "<!doctype html><title>pumps</title>")
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert reply.headers["x-content-type-options"] == "nosniff"
        policy = reply.headers["content-security-policy"].split("; ")
        assert {"sandbox", "default-src 'none'", "img-src data:", "form-action 'none'"} <= set(policy)
        assert "script" not in reply.headers["content-security-policy"]


def test_a_bundle_without_a_report_says_so(table_server: Server) -> None:
    """404, and how to get one."""
    reply = table_server.client.get("/v1/model/report")
    assert (reply.status_code, reply.headers["content-type"]) == (404, "application/problem+json")
    assert "vae-train fit writes one, and vae-train report makes one of any bundle" in reply.json()["detail"]


def test_the_documentation_needs_no_other_host(table_server: Server) -> None:
    """Every asset of /docs is served here."""
    page = table_server.client.get("/docs").text
    assets = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page)
    assert len(assets) >= 3
    for asset in assets:
        assert asset.startswith("/docs/assets/")
        assert table_server.client.get(asset).status_code == 200
    assert "http" not in re.sub(r"http-equiv", "", page)


class Broken(OIP):
    """Its catalog cannot be had."""

    def catalog(self) -> Catalog:
        """Fail as a bug would."""
        raise RuntimeError("a secret")


def ask_in_process(app: Any, path: str) -> httpx.Response:
    """A GET answered without a server; errors that were answered are not raised again."""

    async def numbered(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"request_id": "r-1"}
        await app(scope, receive, send)

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(numbered, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(get())


def test_a_fault_of_ours_is_told_in_the_form_of_its_path_and_without_details() -> None:
    """FastAPI's own 500 is plain text, which no client under /v2 can read."""
    app = App(Settings())
    web = make_web(app, Broken(app, Statistics(), 1000, app.exchange.bodies))
    for path in ("/v2/models/encode", "/v2/models/stats", "/v2/health/ready"):
        reply = ask_in_process(web, path)
        assert (reply.status_code, reply.json()) == (500, {"error": "internal error"})


def test_before_it_is_ready_every_route_says_so_in_its_form() -> None:
    """503, under /v2 as the stock clients read it; alive all the same."""
    app = App(Settings())
    for path in ("/v2/health/ready", "/v2/models/encode", "/v2/models/encode/ready", "/v2/models/encode/config"):
        reply = ask_in_process(app, path)
        assert (reply.status_code, reply.json()) == (503, {"error": "no model is ready yet"})
    assert ask_in_process(app, "/v2/health/live").json() == {"live": True}
    assert ask_in_process(app, "/v1/model").json()["type"] == "urn:vae-serve:not-ready"
