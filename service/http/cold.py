"""
Requests that a framework answers, held to what those in front of it are: API keys, ids, metrics.

Knows ASGI and the exchange; nothing of routes, nor of which framework it is.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from service.http.exchange import Exchange
from service.http.headers import Headers, Scope
from service.http.vigil import Receive, Send
from service.metrics import Metrics

METHODS = {"GET", "HEAD", "POST", "OPTIONS"}
"""Those that have a label of their own in the metrics."""


class Cold:
    """The application *app* for requests over HTTP; *route_of(path)* is the label of a path in the metrics."""

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        exchange: Exchange,
        metrics: Metrics,
        route_of: Callable[[str], str],
    ) -> None:
        self._app = app
        self._exchange = exchange
        self._metrics = metrics
        self._route_of = route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; its id is in the state of its *scope*."""
        start, status = time.perf_counter(), 500
        headers = Headers(scope)
        request_id = headers.request_id or self._exchange.new_id()
        scope["state"] = {**scope.get("state", {}), "request_id": request_id.decode()}

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        route = self._route_of(scope["path"])
        self._metrics.began(route)
        try:
            refused = self._exchange.challenge(scope["path"], headers, request_id)
            if refused is None:
                await self._app(scope, receive, watched)
            else:
                status, told, body = refused
                told.append((b"content-length", b"%d" % len(body)))
                await watched({"type": "http.response.start", "status": status, "headers": told})
                await watched({"type": "http.response.body", "body": body})
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.ended(route, method, status, time.perf_counter() - start)
