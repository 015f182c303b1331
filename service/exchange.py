"""
One request and its reply over ASGI, without a framework: headers, body, deadline, departure, errors.

The hot routes stand on this, in front of the FastAPI application: a FastAPI route alone costs more than parsing,
batching and running a small model together. Knows HTTP and errors; nothing of models or of what a body holds.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Protocol, Self

import orjson

from service.errors import (
    ClientGone,
    HeadersTooLarge,
    InferenceFailed,
    InvalidInput,
    LengthRequired,
    NonFinite,
    NotAcceptable,
    Overloaded,
    ServiceError,
    SlowBody,
    TooLarge,
    UnsupportedMedia,
)
from service.metrics import Metrics
from service.settings import Settings

log = logging.getLogger("service.exchange")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
HeaderList = list[tuple[bytes, bytes]]

MAX_HEADER_BYTES = 65536
WATCH_AFTER_S = 0.05  # only requests that wait this long are watched for their client's leaving: a watcher is a task
_MILLISECONDS = re.compile(rb"[1-9][0-9]{0,8}")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Handler(Protocol):
    """Answers one checked request: its body, when it must be answered (the loop's time) -> the reply's body."""

    def __call__(self, body: bytes, deadline: float) -> Awaitable[bytes]:
        """Raise ServiceError for what cannot be answered."""


class Exchange:
    """
    Carries requests to handlers and their answers, or errors, back.

    *draining*: set at SIGTERM; replies then close their connections, so that clients go elsewhere.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._max_body_bytes = settings.max_body_bytes
        self._request_timeout_s = settings.request_timeout_s
        self._metrics = metrics
        self._prefix, self._count = secrets.token_hex(6).encode(), itertools.count(1)
        self.draining = False
        self.in_flight = 0

    async def answer(
        self, route: str, admit: Callable[[], None], handle: Handler, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """
        Answer one POST of JSON. *admit* may refuse it before its body is read. Every error becomes a reply here.

        *route* is its label in the metrics.
        """
        start = time.perf_counter()
        headers = Headers(scope)
        request_id = headers.request_id or self.new_id()
        self.in_flight += 1
        self._metrics.progress(route, 1)
        status, body = 500, None
        try:
            try:
                deadline = asyncio.get_running_loop().time() + headers.timeout_s(self._request_timeout_s)
                admit()
                headers.check_json(self._max_body_bytes)
                with _Vigil(receive, deadline) as vigil:
                    body = await read_body(receive, self._max_body_bytes)
                    vigil.body_is_here()
                    reply = await handle(body, deadline)
                status = 200
                reply_headers = [(b"content-type", b"application/json")]
            except ServiceError as error:
                status, reply_headers, reply = self._refusal(error, request_id)
            except Exception:
                log.exception("request %s to %s failed", request_id.decode(), route)
                status, reply_headers, reply = self._refusal(InferenceFailed("internal error"), request_id)
            reply_headers += [(b"content-length", b"%d" % len(reply)), (b"x-request-id", request_id)]
            if self.draining or (body is None and status in {408, 413}):  # the rest of the body is not worth reading
                reply_headers.append((b"connection", b"close"))
            await send({"type": "http.response.start", "status": status, "headers": reply_headers})
            await send({"type": "http.response.body", "body": reply})
        finally:
            self.in_flight -= 1
            self._metrics.progress(route, -1)
            self._metrics.answered(route, "POST", status, time.perf_counter() - start)

    def new_id(self) -> bytes:
        """A request id: unique to this process and this request."""
        return b"%s-%x" % (self._prefix, next(self._count))

    def _refusal(self, error: ServiceError, request_id: bytes) -> tuple[int, HeaderList, bytes]:
        self._metrics.rejected.labels(error.type).inc()
        if isinstance(error, NonFinite):
            self._metrics.nonfinite.inc()
        if error.status == 500:
            log.error("request %s: %s", request_id.decode(), error.detail)
        headers = [(b"content-type", b"application/problem+json")]
        if isinstance(error, Overloaded):
            headers.append((b"retry-after", b"%d" % error.retry_after_s))
        return error.status, headers, problem(error, request_id.decode())


class Headers:
    """The request headers that matter here."""

    __slots__ = (
        "_accept",
        "_bytes",
        "_chunked",
        "_content_type",
        "_encoding",
        "_length",
        "_timeout_ms",
        "request_id",
    )

    def __init__(self, scope: Scope) -> None:
        self._accept = self._content_type = self._encoding = self._length = self._timeout_ms = self.request_id = b""
        self._bytes, self._chunked = 0, False
        for name, value in scope["headers"]:
            self._bytes += len(name) + len(value)
            if name == b"content-type":
                self._content_type = value
            elif name == b"content-length":
                self._length = value
            elif name == b"accept":
                self._accept = b"%b,%b" % (self._accept, value) if self._accept else value
            elif name == b"transfer-encoding":
                self._chunked = True
            elif name == b"content-encoding":
                self._encoding = value
            elif name == b"x-request-timeout-ms":
                self._timeout_ms = value
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                self.request_id = value

    def timeout_s(self, most: float) -> float:
        """Seconds that this request may take: X-Request-Timeout-Ms, or *most*, whichever is less."""
        if not self._timeout_ms:
            return most
        if not _MILLISECONDS.fullmatch(self._timeout_ms):
            given = self._timeout_ms.decode("latin-1")
            raise InvalidInput(
                f"X-Request-Timeout-Ms must be a whole number from 1 to 999999999; given: {given[:40]!r}"
            )
        return min(most, int(self._timeout_ms) / 1000)

    def check_json(self, max_body_bytes: int) -> None:
        """
        Raise for a request that cannot be answered whatever its body holds.

        HeadersTooLarge; LengthRequired for a body that was not announced; NotAcceptable where JSON is not accepted;
        UnsupportedMedia for anything but JSON in UTF-8; TooLarge for a body announced too large.
        """
        if self._bytes > MAX_HEADER_BYTES:
            raise HeadersTooLarge(
                f"the headers have {self._bytes} bytes; the limit is {MAX_HEADER_BYTES}",
                limit=MAX_HEADER_BYTES,
                value=self._bytes,
            )
        if not self._length and not self._chunked:
            raise LengthRequired("send a body, with Content-Length or Transfer-Encoding: chunked")
        if self._accept not in (b"", b"*/*", b"application/json") and not _accepts_json(self._accept):
            given = self._accept.decode("latin-1")
            raise NotAcceptable(f"replies are application/json; the Accept is {given!r}", value=given)
        if self._content_type not in (b"application/json", b""):
            media, *parameters = self._content_type.decode("latin-1").lower().split(";")
            charsets = [p.split("=", 1)[1].strip(' "') for p in parameters if p.strip().startswith("charset=")]
            if media.strip() != "application/json" or charsets not in ([], ["utf-8"], ["utf8"]):
                given = self._content_type.decode("latin-1")
                raise UnsupportedMedia(f"send application/json in UTF-8; the Content-Type is {given!r}", value=given)
        if self._encoding not in (b"", b"identity"):
            given = self._encoding.decode("latin-1")
            raise UnsupportedMedia(f"send the body uncompressed; the Content-Encoding is {given!r}", value=given)
        if self._length and int(self._length) > max_body_bytes:
            raise _body_too_large(max_body_bytes, int(self._length))


class _Vigil:
    """
    Ends a request that its client has given up.

    SlowBody when the body is not there at *deadline* (the loop's time); ClientGone when the client hangs up while it
    waits for the answer (uvicorn tells only those who ask `receive`).
    """

    def __init__(self, receive: Receive, deadline: float) -> None:
        self._receive = receive
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._request = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._verdict: ServiceError | None = None

    def __enter__(self) -> Self:
        slow = SlowBody("the body did not arrive within the request's time")
        self._timer = self._loop.call_at(self._deadline, self._end, slow)
        return self

    def body_is_here(self) -> None:
        """From now on only the client's presence matters; the batcher keeps the deadline."""
        self._timer.cancel()
        self._timer = self._loop.call_later(WATCH_AFTER_S, self._start_watching)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._verdict is not None and self._request is not None:
            self._request.uncancel()
            raise self._verdict from None

    def _start_watching(self) -> None:
        self._watcher = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._end(ClientGone("the client closed the connection"))

    def _end(self, verdict: ServiceError) -> None:
        self._verdict = verdict
        if self._request is not None:
            self._request.cancel()


async def read_body(receive: Receive, max_body_bytes: int) -> bytes:
    """The whole body. Raises TooLarge, or ClientGone when the client hangs up while sending."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("the client closed the connection while sending")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_body_bytes:
            raise _body_too_large(max_body_bytes, size)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _accepts_json(accept: bytes) -> bool:
    """Whether an Accept header admits application/json (RFC 9110, 12.5.1: a quality of 0 is a refusal)."""
    quality = {}
    for part in accept.decode("latin-1").lower().split(","):
        media, *parameters = (word.strip() for word in part.split(";"))
        quality[media] = not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return next((quality[m] for m in ("application/json", "application/*", "*/*") if m in quality), False)


def problem(error: ServiceError, request_id: str) -> bytes:
    """The application/problem+json document of *error* (RFC 9457)."""
    document = {
        "type": f"urn:vae-serve:{error.type}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "request_id": request_id,
    }
    return orjson.dumps({**document, **{name: fact for name, fact in error.facts.items() if fact is not None}})


def _body_too_large(limit: int, size: int) -> TooLarge:
    return TooLarge(f"the body has {size} bytes or more; the limit is {limit}", field="body", limit=limit, value=size)
