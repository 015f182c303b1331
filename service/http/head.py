"""
HEAD as HTTP has it (RFC 9110, 9.3.2): what GET is answered with, without the body.

FastAPI's routes take GET alone, and load balancers ask health routes by HEAD. Knows ASGI; nothing of routes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from service.http.headers import Scope
from service.http.vigil import Receive, Send


class Head:
    """The application *app*, asked GET where the client asks HEAD; headers stay, with the length of GET's body."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Any) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, without_body)
