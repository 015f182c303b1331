"""
One request and its reply over ASGI, without a framework: headers, body, deadline, departure, errors.

The hot routes stand on this, in front of the FastAPI application: a FastAPI route alone costs more than parsing,
batching and running a small model together. Knows HTTP and errors; nothing of models or of what a body holds.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from service.errors import (
    ClientGone,
    DeadlineExceeded,
    Forbidden,
    NonFinite,
    NotReady,
    Overloaded,
    ServiceError,
    Unauthorized,
)
from service.http.bodies import Bodies
from service.http.headers import Headers, Scope, body_too_large
from service.http.keys import Keys
from service.http.refusals import internal_error, refuse
from service.http.vigil import Receive, Send, Vigil
from service.metrics import Metrics
from service.settings import Settings
from service.spent import Spent

log = logging.getLogger("service.http.exchange")

HeaderList = list[tuple[bytes, bytes]]


Reply = tuple[bytes, HeaderList, Spent]
"""A good answer: the body, the headers that say what it is, and what it took."""

Refused = tuple[int, HeaderList, bytes]
"""The reply to a request that is not answered: status, headers, body."""

Handler = Callable[[bytes, float], Awaitable[Reply]]
"""Answers one admitted request: its body, when it must be answered (the loop's time). Raises ServiceError."""


class Endpoint(Protocol):
    """What answers the requests for one path; *route* is its label in the metrics."""

    @property
    def route(self) -> str:
        """One of few."""

    def check(self) -> None:
        """Raise the ServiceError that every request is refused with now; nothing where there is none."""

    def admit(self, headers: Headers) -> Handler:
        """What answers a request with these headers. Raises ServiceError where none does, whatever the body holds."""

    def answered(self, seconds: float, spent: Spent | None) -> None:
        """A request ended after *seconds*, with what a good answer *spent* or (None) with an error."""


class Flight:
    """The requests that came in one period, counted from their first byte to their last."""

    __slots__ = ("_landed", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self._landed: asyncio.Event | None = None

    def end(self) -> None:
        """One of them is over."""
        self.requests -= 1
        if self._landed is not None and not self.requests:
            self._landed.set()

    def close(self) -> None:
        """There will be no more of them."""
        self._landed = asyncio.Event()
        if not self.requests:
            self._landed.set()

    async def landed(self) -> None:
        """Wait until all of them are over; for one that is closed."""
        assert self._landed is not None
        await self._landed.wait()


class Exchange:
    """
    Carries requests to endpoints and their answers, or errors, back.

    *keys*: who may do what. *draining*: set at SIGTERM; replies then close their connections, so that clients go
    elsewhere.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._max_body_bytes = settings.max_body_bytes
        self.bodies = Bodies(settings.max_bodies_bytes)
        self.keys = Keys(settings.api_keys.get_secret_value(), settings.api_keys_file, settings.metrics_need_key)
        self._request_timeout_s = settings.request_timeout_s
        self._metrics = metrics
        self._prefix, self._count = secrets.token_hex(6).encode(), itertools.count(1)
        self._vigil = Vigil()
        self.draining = False
        self.in_flight = 0
        self._flight = Flight()

    async def answer(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST. What the headers tell is refused before the body is read. Every error becomes a reply."""
        start = time.perf_counter()
        route = endpoint.route
        headers = Headers(scope)
        request_id = headers.request_id or self.new_id()
        flight = self._flight
        flight.requests += 1
        self.in_flight += 1
        self._metrics.began(route)
        status, body, held, spent, timeout_s = 500, None, 0, None, self._request_timeout_s
        try:
            try:
                self.keys.check(headers, scope["path"])
                timeout_s = headers.timeout_s(self._request_timeout_s)
                deadline = asyncio.get_running_loop().time() + timeout_s
                handle = endpoint.admit(headers)
                headers.check(self._max_body_bytes)
                with self._vigil.over(receive, deadline) as watched:
                    body, held = await read_body(receive, self._max_body_bytes, self.bodies)
                    watched.body_is_here()
                    reply, reply_headers, spent = await handle(body, deadline)
                status = 200
            except ServiceError as error:
                status, reply_headers, reply = self._refusal(scope["path"], _told(error, timeout_s), request_id)
            except asyncio.CancelledError:  # uvicorn does so at a second signal, and when the time to drain is over
                stopped = NotReady("the server is shutting down")
                status, reply_headers, reply = self._refusal(scope["path"], stopped, request_id)
            except Exception:
                log.exception("request %s to %s failed", request_id.decode(), route)
                status, reply_headers, reply = self._refusal(scope["path"], internal_error(), request_id)
            reply_headers += [(b"content-length", b"%d" % len(reply)), (b"x-request-id", request_id)]
            if self.draining or (body is None and status in {408, 413}):  # the rest of the body is not worth reading
                reply_headers.append((b"connection", b"close"))
            await send({"type": "http.response.start", "status": status, "headers": reply_headers})
            await send({"type": "http.response.body", "body": reply})
        finally:
            seconds = time.perf_counter() - start
            self.in_flight -= 1
            if held:
                self.bodies.give(held)
            flight.end()
            self._metrics.ended(route, "POST", status, seconds, spent)
            endpoint.answered(seconds, spent)

    def turn_away(self, endpoint: Endpoint, scope: Scope) -> Refused | None:
        """
        Status, headers and body of the reply to a POST while the queue is full; None: it is to be answered.

        As `answer` would refuse it, without the task that would take: under overload this is what most requests cost.
        """
        start = time.perf_counter()
        try:
            endpoint.check()
        except Overloaded as error:
            asked = Headers(scope)
            request_id = asked.request_id or self.new_id()
            refused = self.challenge(scope["path"], asked, request_id)
            status, headers, body = refused or self._refusal(scope["path"], error, request_id)
            headers += [(b"content-length", b"%d" % len(body)), (b"x-request-id", request_id)]
            seconds = time.perf_counter() - start
            self._metrics.began(endpoint.route)
            self._metrics.ended(endpoint.route, "POST", status, seconds)
            endpoint.answered(seconds, None)
            return status, headers, body
        except ServiceError:
            pass
        return None

    def challenge(self, path: str, headers: Headers, request_id: bytes) -> Refused | None:
        """The reply to a request for *path* that has no API key which allows it; None: it has one, or needs none."""
        try:
            self.keys.check(headers, path)
        except ServiceError as error:
            return self._refusal(path, error, request_id)
        return None

    def turn(self) -> Flight:
        """Begin a new flight: the one before, whose requests may hold on to what was served in its time."""
        before, self._flight = self._flight, Flight()
        before.close()
        return before

    def new_id(self) -> bytes:
        """A request id: unique to this process and this request."""
        return b"%s-%x" % (self._prefix, next(self._count))

    def _refusal(self, path: str, error: ServiceError, request_id: bytes) -> Refused:
        self._metrics.rejected.labels(error.type).inc()
        if isinstance(error, NonFinite):
            self._metrics.nonfinite.inc()
        if error.status == 500:
            log.error("request %s: %s", request_id.decode(), error.detail)
        status, media_type, body = refuse(path, error, request_id.decode())
        headers = [(b"content-type", media_type.encode())]
        if isinstance(error, Overloaded):
            headers.append((b"retry-after", b"%d" % error.retry_after_s))
        elif isinstance(error, Unauthorized | Forbidden):
            headers.append((b"www-authenticate", error.challenge.encode()))
        return status, headers, body


def _told(error: ServiceError, timeout_s: float) -> ServiceError:
    """*error*, with the request's time as the limit that it had where it knows none."""
    if isinstance(error, DeadlineExceeded) and "limit" not in error.facts:
        return DeadlineExceeded(f"no answer within {timeout_s:g} s", limit=timeout_s)
    return error


async def read_body(receive: Receive, max_body_bytes: int, bodies: Bodies) -> tuple[bytes, int]:
    """
    The whole body, and how many bytes of it *bodies* holds now.

    Raises TooLarge, Overloaded, or ClientGone when the client hangs up while sending.
    """
    message = await receive()
    if not message.get("more_body", False) and message["type"] != "http.disconnect":
        body: bytes = message.get("body", b"")
        if len(body) > max_body_bytes:
            raise body_too_large(max_body_bytes, len(body))
        return body, 0
    parts: list[bytes] = []
    held, more = 0, True
    try:
        while more:
            if message["type"] == "http.disconnect":
                raise ClientGone("the client closed the connection while sending")
            part = message.get("body", b"")
            if held + len(part) > max_body_bytes:
                raise body_too_large(max_body_bytes, held + len(part))
            bodies.take(len(part))
            held += len(part)
            parts.append(part)
            more = message.get("more_body", False)
            if more:
                message = await receive()
    except BaseException:
        bodies.give(held)
        raise
    return b"".join(parts), held
