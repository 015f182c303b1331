"""
Whole requests, right and wrong, and what the service owes: an answer as documented, or a refusal that is the client's.

The application is called in this process as an ASGI server would call it, on a real bundle with real onnxruntime.
"""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import orjson
from pydantic import TypeAdapter

from service.api import ROUTES
from service.app import create_app
from service.http import media
from service.settings import Settings
from tests.bundles import TABLE, make_bundle, table_rows
from tests.fuzz import json_bodies
from tests.fuzz.operation import MOST
from tests.fuzz.requests import Request
from tests.fuzz.verdicts import LONGEST

MAX_BODY = 65536
REPLIES = {route.path: TypeAdapter(route.reply) for route in ROUTES}
COMPARED = {"/v1/encode": "encode", "/v1/reconstruct": "reconstruct", "/v1/decode": "decode"}


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def make_model(folder: Path) -> Path:
    """The bundle that is asked, as that of tests/conftest.py: rows of 3, latents of 4."""
    return make_bundle(folder / "pumps", TABLE, "gaussian", table_rows(400))


class Application:
    """The service on a bundle, without a socket; in the body of a `with` it is ready."""

    def __init__(self, bundle: Path) -> None:
        settings = Settings(bundle=bundle, threads=1, max_request_rows=MOST, max_body_bytes=MAX_BODY)
        self._app = create_app(settings)
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        """Open the bundle."""
        self._told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._started: asyncio.Queue[Any] = asyncio.Queue()
        self._life = self._loop.create_task(self._app({"type": "lifespan"}, self._told.get, self._started.put))
        self._told.put_nowait({"type": "lifespan.startup"})
        started = self._loop.run_until_complete(self._started.get())
        assert started["type"] == "lifespan.startup.complete", started
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Close it."""
        self._told.put_nowait({"type": "lifespan.shutdown"})
        self._loop.run_until_complete(self._life)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def ask(self, request: Request) -> Reply:
        """One request and its reply."""
        return self._loop.run_until_complete(asyncio.wait_for(self._ask(request), 60))

    async def _ask(self, request: Request) -> Reply:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": request.method,
            "path": request.path,
            "raw_path": request.path.encode(),
            "root_path": "",
            "query_string": request.query,
            "headers": list(request.headers),
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        pieces = [{"type": "http.request", "body": piece, "more_body": True} for piece in request.body]
        pieces[-1]["more_body"] = False
        sent: list[Any] = []
        gone = asyncio.Event()

        async def receive() -> Any:
            if not pieces:
                await gone.wait()
            return pieces.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in sent[1:])
        return Reply(sent[0]["status"], dict(sent[0]["headers"]), body)

    def check(self, made: Request) -> str:
        """Ask *made* and look at the answer: "accepted", or the status and type of the refusal."""
        reply = self.ask(made)
        hurried = any(name == b"x-request-timeout-ms" for name, _ in made.headers) or b"timeout" in b"".join(made.body)
        assert reply.status < 500 or (reply.status == 504 and hurried), reply
        assert reply.headers[b"x-request-id"]
        if made.path.startswith("/v2") and made.method == "POST" and dict(made.headers).get(b"accept-encoding"):
            return str(reply.status)
        content_type = reply.headers.get(b"content-type", b"").decode()
        if reply.status == 200:
            self._check_answer(made, reply, content_type)
            outcome = "accepted"
        elif made.method == "HEAD":
            outcome = f"{reply.status}"
        elif made.path == "/v2" or made.path.startswith("/v2/"):
            error = orjson.loads(reply.body)
            assert list(error) == ["error"], error
            _check_text(error["error"])
            outcome = f"/v2 {reply.status}"
        else:
            assert content_type == "application/problem+json", reply
            problem = orjson.loads(reply.body)
            assert problem["status"] == reply.status
            assert len(reply.body) < 5 * LONGEST
            _check_text(problem["detail"])
            outcome = f"/v1 {reply.status} {problem['type'].split(':')[-1]}"
        self._compare(made, reply)
        return outcome

    def _check_answer(self, made: Request, reply: Reply, content_type: str) -> None:
        if content_type == media.NPZ:
            assert len(np.load(io.BytesIO(reply.body), allow_pickle=False)) > 1
        elif content_type == media.NPY:
            assert len(np.load(io.BytesIO(reply.body), allow_pickle=False)) > 0
        elif made.path in REPLIES and content_type == media.JSON:
            REPLIES[made.path].validate_json(reply.body)
        elif made.path.endswith("/infer"):
            length = reply.headers.get(b"inference-header-content-length")
            head = orjson.loads(reply.body[: int(length)] if length else reply.body)
            assert head["outputs"], head

    def _compare(self, made: Request, reply: Reply) -> None:
        """Whether plain JSON is answered exactly where the documented model takes it."""
        headers = dict(made.headers)
        body = b"".join(made.body)
        plain = headers == {b"content-type": b"application/json", b"content-length": b"%d" % len(body)}
        if made.path not in COMPARED or made.method != "POST" or made.query or not plain:
            return
        operation = json_bodies.OPERATIONS[COMPARED[made.path]]
        if len(body) > MAX_BODY:
            assert reply.status == 413
        elif any(differs(operation, body) for differs in json_bodies.DIFFERENCES.values()):
            return
        elif json_bodies.documented(operation, body) is None:
            assert reply.status in (400, 413, 422), reply
        else:
            assert reply.status == 200, reply


def _check_text(text: str) -> None:
    assert 0 < len(text) < LONGEST, text
    assert text.isprintable(), text
