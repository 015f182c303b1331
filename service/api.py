"""
The routes of /v1: one POST for each operation, its body and its reply in the media types that the headers name.

`ROUTES` is the one list of them; app.py puts them in front, web.py documents them. Knows media types and codecs;
nothing of sockets.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import BaseModel

from service import messages, pictures, replies, score_reply
from service.codec import json, npy, slices
from service.codec.fields import Fields, add_query
from service.codec.records import flat
from service.codec.rows import Array
from service.errors import InvalidInput, NotAcceptable, UnsupportedMedia, named, shown
from service.http import media
from service.http.exchange import Handler, Reply
from service.http.headers import Headers
from service.manifest import Operation
from service.operations import TASKS, Request
from service.served import Served, Service, serving
from service.spent import SPENT, Spent
from service.statistics import Statistics
from service.turns import Turns


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
    Route("encode", messages.EncodeRequest, replies.EncodeReply),
    Route("decode", messages.DecodeRequest, replies.DecodeReply),
    Route("sample", messages.SampleRequest, replies.SampleReply),
    Route("interpolate", messages.InterpolateRequest, replies.InterpolateReply),
    Route("reconstruct", messages.ReconstructRequest, replies.ReconstructReply),
    Route("anomaly-score", messages.AnomalyScoreRequest, score_reply.AnomalyScoreReply),
)


MAIN = {
    "encode": "mu",
    "decode": "outputs",
    "sample": "outputs",
    "interpolate": "outputs",
    "reconstruct": "outputs",
    "anomaly-score": "scores",
}
"""The one array of each reply that a .npy file holds."""

ROW_FIELDS = {"encode": 0, "decode": 1, "sample": None, "interpolate": 0, "reconstruct": 0, "anomaly-score": 0}
"""Which of `Rows` an array that is a whole body is; None: no rows are sent."""


_ROWS = (media.JSON, media.NPY)
READS: dict[Operation, tuple[str, ...]] = {
    "encode": (*_ROWS, media.PNG, media.JPEG, media.FORM),
    "decode": _ROWS,
    "sample": (media.JSON,),
    "interpolate": (*_ROWS, media.FORM),  # one picture is no path
    "reconstruct": (*_ROWS, media.PNG, media.JPEG, media.FORM),
    "anomaly-score": (*_ROWS, media.PNG, media.JPEG, media.FORM),
}
"""The media types of bodies; pictures, and forms of them, where the model's inputs are images."""

DRAWN: dict[Operation, str] = {
    "decode": "outputs",
    "sample": "outputs",
    "interpolate": "outputs",
    "reconstruct": "inputs, each above its output",
    "anomaly-score": "inputs, each above what was expected of it and a map of its nats by pixel",
}
"""What the picture shows that a reply may be."""

WRITES: dict[Operation, tuple[str, ...]] = {
    route.op: (media.JSON, media.NPZ, media.NPY, *([media.PNG] if route.op in DRAWN else [])) for route in ROUTES
}
"""The media types of replies; pictures where the model's rows are images."""

ARRAYS_FIRST = (media.NPZ, media.NPY, media.JSON, media.PNG)
"""The media types of replies to an array, the first by default."""


class _Spoken(NamedTuple):
    """The media types of one operation on the bundle *bundle_id*; *absent*: those that are not there, and why."""

    bundle_id: object  # not what is served: it would be kept alive until the next request
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    absent: dict[str, str]


class V1:
    """Answers one of the ROUTES."""

    def __init__(self, op: Operation, service: Service, statistics: Statistics, turns: Turns) -> None:
        self.route = f"/v1/{op}"
        self._statistics = statistics
        self._turns = turns
        self._task = TASKS[op]
        self._service = service
        self._spoken: _Spoken | None = None

    def check(self) -> None:
        """Raise NotReady, Unsupported or Overloaded."""
        serving(self._service, self._task.op)

    def admit(self, headers: Headers) -> Handler:
        """Raise NotReady, Unsupported, Overloaded, NotAcceptable or UnsupportedMedia."""
        served = serving(self._service, self._task.op)
        spoken = self._spoken
        if spoken is None or spoken.bundle_id != served.model["bundle_id"]:
            spoken = self._spoken = self._speak(served)
        read = media.of_body(headers.get(b"content-type"), spoken.reads, spoken.absent)
        writes = spoken.writes
        if read == media.NPY:
            writes = tuple(name for name in ARRAYS_FIRST if name in writes)
        write = media.of_reply(headers.get(b"accept"), writes, spoken.absent)
        encoding = headers.get(b"content-encoding")
        if encoding.lower() not in (b"", b"identity"):
            given = encoding.decode("latin-1")
            raise UnsupportedMedia(
                f"send the body uncompressed; the Content-Encoding is {shown(given)}", value=named(given)
            )
        return functools.partial(self._answer, served, headers, read, write)

    def answered(self, seconds: float, spent: Spent | None) -> None:
        """For the statistics of the operation."""
        self._statistics.answered(self._task.op, seconds, spent)

    def _speak(self, served: Served) -> _Spoken:
        """What can be read and written for the bundle."""
        absent, op = pictures.absent(served.manifest.inputs), self._task.op
        reads, writes = (tuple(name for name in names if name not in absent) for names in (READS[op], WRITES[op]))
        return _Spoken(served.model["bundle_id"], reads, writes, absent)

    async def _answer(
        self, served: Served, headers: Headers, read: str, write: str, body: bytes, deadline: float
    ) -> Reply:
        op, metrics = self._task.op, self._service.metrics
        spent = Spent(op)
        SPENT.set(spent)
        fields: Fields = {}
        if read == media.JSON and slices.is_long_body(body, served.rows.inputs):
            fields = await self._turns.take(slices.read(body, *served.rows, most=served.max_rows), deadline)
        elif read == media.JSON:
            fields = json.read_object(body, *served.rows, most=served.max_rows)
        if headers.query:
            add_query(fields, headers.query)
        if read == media.NPY:
            field = self._array_field(served, fields)
            if field in fields:
                raise InvalidInput(f"{field} is given twice: in the query, and as the body", field=field)
            fields[field] = npy.read(body)
        elif read != media.JSON:
            await pictures.add(fields, served, body, read, headers.get(b"content-type"))
        draw = pictures.drawing(op, served, fields, write) if media.PNG in WRITES[op] else None
        reply, rows = await self._task.run(
            Request(served, served.rows, fields, deadline, spent, metrics, pictured=draw is not None)
        )
        spent.lap()
        if draw is not None:
            answer = await asyncio.to_thread(draw, reply)
        elif write == media.JSON:
            reply = {"model": served.model, **reply}
            if slices.is_long(reply):
                answer = await self._turns.take(slices.write(reply), deadline)
            else:
                answer = json.write_object(reply)
        elif write == media.NPZ:
            answer = npy.write_npz(flat({"model": served.model, **reply}))
        else:
            answer = npy.write_npy(_main(op, reply))
        spent.rows, spent.serialize = rows, spent.lap()
        return answer, _headers(served, write), spent

    def _array_field(self, served: Served, fields: Fields) -> str:
        """What an array that is a whole body is called; for interpolate `array=latents` in the query may say."""
        names = [spec.field for spec in served.rows]
        if self._task.op == "interpolate" and "array" in fields:
            name = fields.pop("array")
            if name not in names:
                raise InvalidInput(f"array must be {' or '.join(names)}; given: {shown(name)}", field="array")
            return str(name)
        return names[ROW_FIELDS[self._task.op] or 0]


def _headers(served: Served, write: str) -> list[tuple[bytes, bytes]]:
    """Of a reply of type *write*; the model's name is in all of them but a .npy file, which has no place for it."""
    headers = [(b"content-type", write.encode())]
    if write == media.NPY:
        headers.append((b"x-model", "/".join(map(str, served.model.values())).encode()))
    return headers


def _main(op: Operation, reply: Fields) -> Array:
    """The one array of a reply that a .npy file holds. Raises NotAcceptable where records stand in its place."""
    if MAIN[op] not in reply:
        raise NotAcceptable(f"records have no form in {media.NPY}; they have in {media.JSON} and in {media.NPZ}")
    return flat(reply)[MAIN[op]]
