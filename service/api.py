"""
The routes of /v1: one POST for each operation, its body and its reply in the media types that the headers name.

`ROUTES` is the one list of them; app.py puts them in front, web.py documents them. Knows media types and codecs;
nothing of sockets.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from pydantic import BaseModel

from service import messages
from service.codec import json
from service.errors import NotAcceptable, UnsupportedMedia
from service.exchange import Handler, Reply
from service.headers import Headers
from service.manifest import Operation
from service.metrics import Stopwatch
from service.operations import TASKS, Request, Served, Service, serving
from service.statistics import Statistics


@dataclass(frozen=True)
class Route:
    """One operation under /v1, and the models of its bodies."""

    op: Operation
    request: type[BaseModel]
    reply: type[BaseModel]

    @property
    def path(self) -> str:
        """Where it is, and its label in the metrics."""
        return f"/v1/{self.op}"


ROUTES = (
    Route("encode", messages.EncodeRequest, messages.EncodeReply),
    Route("decode", messages.DecodeRequest, messages.DecodeReply),
    Route("sample", messages.SampleRequest, messages.SampleReply),
    Route("interpolate", messages.InterpolateRequest, messages.InterpolateReply),
    Route("reconstruct", messages.ReconstructRequest, messages.ReconstructReply),
    Route("anomaly-score", messages.AnomalyScoreRequest, messages.AnomalyScoreReply),
)


class V1:
    """Answers one of the ROUTES."""

    def __init__(self, op: Operation, service: Service, statistics: Statistics) -> None:
        self.route = f"/v1/{op}"
        self._statistics = statistics
        self._task = TASKS[op]
        self._service = service

    def admit(self, headers: Headers) -> Handler:
        """Raise NotReady, Unsupported, Overloaded, NotAcceptable or UnsupportedMedia."""
        served = serving(self._service, self._task.op)
        check_media(headers)
        return functools.partial(self._answer, served)

    def answered(self, ok: bool, seconds: float) -> None:
        """For the statistics of the operation."""
        self._statistics.answered(self._task.op, ok, seconds)

    async def _answer(self, served: Served, body: bytes, deadline: float) -> Reply:
        metrics = self._service.metrics
        watch = Stopwatch(metrics, self._task.op)
        fields = json.read_object(body, *served.rows)
        reply, rows = await self._task.run(Request(served, served.rows, fields, deadline, watch, metrics))
        watch.lap(None)
        answer = json.write({"model": served.model, **reply})
        watch.lap("serialize")
        metrics.answered_rows(self._task.op, rows)
        return Reply(answer, [(b"content-type", b"application/json")])


def check_media(headers: Headers) -> None:
    """Raise NotAcceptable where JSON is not accepted, UnsupportedMedia for anything but JSON in UTF-8."""
    accept, content_type = headers.get(b"accept"), headers.get(b"content-type")
    if accept not in (b"", b"*/*", b"application/json") and not _accepts_json(accept):
        given = accept.decode("latin-1")
        raise NotAcceptable(f"replies are application/json; the Accept is {given!r}", value=given)
    if content_type not in (b"application/json", b""):
        media, *parameters = content_type.decode("latin-1").lower().split(";")
        charsets = [p.split("=", 1)[1].strip(' "') for p in parameters if p.strip().startswith("charset=")]
        if media.strip() != "application/json" or charsets not in ([], ["utf-8"], ["utf8"]):
            given = content_type.decode("latin-1")
            raise UnsupportedMedia(f"send application/json in UTF-8; the Content-Type is {given!r}", value=given)
    encoding = headers.get(b"content-encoding")
    if encoding not in (b"", b"identity"):
        given = encoding.decode("latin-1")
        raise UnsupportedMedia(f"send the body uncompressed; the Content-Encoding is {given!r}", value=given)


def _accepts_json(accept: bytes) -> bool:
    """Whether an Accept header admits application/json (RFC 9110, 12.5.1: a quality of 0 is a refusal)."""
    quality = {}
    for part in accept.decode("latin-1").lower().split(","):
        media, *parameters = (word.strip() for word in part.split(";"))
        quality[media] = not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return next((quality[m] for m in ("application/json", "application/*", "*/*") if m in quality), False)
