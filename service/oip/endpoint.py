"""
The hot route of the Open Inference Protocol: POST /v2/models/{model}[/versions/{version}]/infer.

Dispatches on Inference-Header-Content-Length and never on Content-Type: the stock clients send none, or any. Knows
the catalog, the framing and the operations; nothing of sockets.
"""

from __future__ import annotations

import asyncio
import functools
import re
from typing import Any, Protocol

import numpy as np

from service.codec.compression import WBITS, compress, decompress
from service.codec.datatypes import NUMPY
from service.codec.fields import add_mask
from service.codec.records import flat
from service.codec.rows import Array
from service.codec.tensors import LENGTH_HEADER, Infer, read, write
from service.errors import DeadlineExceeded, InvalidInput, NotReady, UnknownModel, UnsupportedMedia, shown
from service.http.bodies import Bodies
from service.http.exchange import Endpoint, Handler, HeaderList, Reply
from service.http.headers import Headers
from service.manifest import Operation
from service.oip.catalog import DRAWN, FREE, MASK, NO_PARAMETERS, RENAMED, Catalog, Model, Tensor
from service.operations import TASKS, Request
from service.served import Service, serving
from service.spent import SPENT, Spent
from service.statistics import Statistics

COMPRESS_HERE = 65536  # bytes; what is larger is compressed in a thread, off the event loop
_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")


class Host(Service, Protocol):
    """The process that serves, as all of /v2 sees it."""

    async def statistics(self) -> Statistics:
        """The counts of all workers."""


class OIP:
    """The models of *service* under /v2."""

    def __init__(self, service: Host, statistics: Statistics, max_body_bytes: int, bodies: Bodies) -> None:
        self.service = service
        self.statistics = statistics
        self.max_body_bytes = max_body_bytes
        self.bodies = bodies
        self.endpoints = {f"/v2/models/{op}/infer": InferEndpoint(op, self) for op in TASKS}
        self._catalog: Catalog | None = None

    def catalog(self) -> Catalog:
        """The models of what is served now. Raises NotReady."""
        served = self.service.served
        if served is None:
            raise NotReady("no model is ready yet")
        catalog = self._catalog
        if catalog is None or catalog.served is not served:
            catalog = self._catalog = Catalog(served)
        return catalog

    def model(self, name: str, version: str | None = None) -> Model:
        """One model by its name, and by its version where there is one. Raises NotReady or UnknownModel."""
        catalog = self.catalog()
        found = next((model for op, model in catalog.models.items() if op == name), None)
        if found is None:
            raise UnknownModel(f"there is no model {shown(name)}; there are: {', '.join(catalog.models)}")
        if version not in (None, catalog.version):
            raise UnknownModel(f"model {name} has no version {shown(version)}; it has: {catalog.version}")
        return found

    def check_ready(self) -> None:
        """Raise NotReady while requests should go elsewhere."""
        self.catalog()
        if not self.service.ready:
            raise NotReady("the server is draining")

    def endpoint(self, path: str) -> Endpoint | None:
        """What answers a POST to *path*, which names a version, or a model that there may not be."""
        found = _INFER.fullmatch(path)
        if found is None:
            return None
        name, version = found.groups()
        if self.service.served is not None and version in (None, self.catalog().version):
            return self.endpoints.get(f"/v2/models/{name}/infer") or _Absent(name, version, self)
        return _Absent(name, version, self)


class _Absent:
    """Refuses inference requests for a model, or a version, that there is not."""

    route = "/v2/models"

    def __init__(self, name: str, version: str | None, oip: OIP) -> None:
        self._name = name
        self._version = version
        self._oip = oip

    def check(self) -> None:
        """Raise NotReady or UnknownModel."""
        self._oip.model(self._name, self._version)

    def admit(self, headers: Headers) -> Handler:
        """Raise NotReady or UnknownModel."""
        self.check()
        raise AssertionError(f"{self._name} is there. This is a bug.")

    def answered(self, seconds: float, spent: Spent | None) -> None:
        """Nothing to count: no model."""


class InferEndpoint:
    """Answers inference requests for one operation."""

    def __init__(self, op: Operation, oip: OIP) -> None:
        self.route = f"/v2/models/{op}/infer"
        self._op = op
        self._options = TASKS[op].options.model_fields.keys() - NO_PARAMETERS
        self._oip = oip

    def check(self) -> None:
        """Raise NotReady, UnknownModel, Unsupported or Overloaded."""
        self._oip.model(self._op)
        serving(self._oip.service, self._op)

    def admit(self, headers: Headers) -> Handler:
        """Raise NotReady, UnknownModel, Unsupported, Overloaded or UnsupportedMedia."""
        model = self._oip.model(self._op)
        serving(self._oip.service, self._op)
        coding = headers.get(b"content-encoding").decode("latin-1").strip().lower()
        if coding not in ("", "identity", *WBITS):
            raise UnsupportedMedia(
                f"the codings of bodies here are gzip and deflate; the Content-Encoding is {shown(coding)}"
            )
        handle = functools.partial(self._answer, self._oip.catalog(), model, headers)
        return functools.partial(self._decompressed, handle, coding) if coding in WBITS else handle

    def answered(self, seconds: float, spent: Spent | None) -> None:
        """For the statistics of the model."""
        self._oip.statistics.answered(self._op, seconds, spent)

    async def _decompressed(self, handle: Handler, coding: str, body: bytes, deadline: float) -> Reply:
        body = await asyncio.to_thread(decompress, body, coding, self._oip.max_body_bytes)
        self._oip.bodies.take(len(body))
        try:
            return await handle(body, deadline)
        finally:
            self._oip.bodies.give(len(body))

    async def _answer(self, catalog: Catalog, model: Model, headers: Headers, body: bytes, deadline: float) -> Reply:
        metrics = self._oip.service.metrics
        spent = Spent(self._op)
        SPENT.set(spent)
        asked = read(body, headers.get(LENGTH_HEADER), model.raw, catalog.most_elements)
        _check_names(model, asked)
        fields: dict[str, Any] = dict(asked.tensors)
        if "count" in fields:
            fields["count"] = _count(asked.tensors["count"])
        add_mask(fields, catalog.rows.inputs, MASK)
        options = self._options
        fields |= {name: value for name, value in asked.parameters.items() if name in options and name not in fields}
        sooner = _sooner(deadline, asked)
        request = Request(catalog.served, catalog.rows, fields, sooner, spent, metrics)
        try:
            reply, rows = await TASKS[self._op].run(request)
        except DeadlineExceeded:
            if sooner == deadline:
                raise
            timeout_us = asked.parameters["timeout"]
            raise DeadlineExceeded(f"no answer within the timeout of {timeout_us} us", limit=timeout_us) from None
        spent.lap()
        told = {name: reply.pop(name) for name in model.told if name in reply}
        told["bundle_id"] = catalog.served.model["bundle_id"]
        answer, length = write(self._op, catalog.version, asked, told, _tensors(model, asked, reply))
        answer, reply_headers = await _encoded(answer, length, headers)
        spent.rows, spent.serialize = rows, spent.lap()
        return answer, reply_headers, spent


def _check_names(model: Model, asked: Infer) -> None:
    """Raise InvalidInput for tensors that the model does not have."""
    for told, names, known in (
        ("input", asked.tensors, model.inputs),
        ("output", asked.outputs or (), model.outputs),
    ):
        able = [tensor.name for tensor in known]
        if unknown := [name for name in names if name not in able]:
            raise InvalidInput(f"{model.op} has no {told} {shown(unknown[0])}; it has: {', '.join(able)}")


def _count(tensor: Array) -> int:
    if tensor.size != 1 or tensor.dtype.kind not in "iu":
        given = f"{tensor.dtype}, of shape {list(tensor.shape)}"
        raise InvalidInput(f"count must be one whole number, of shape [1]; given: {given}")
    return int(tensor.item())


def _sooner(deadline: float, asked: Infer) -> float:
    """The deadline, or the parameter `timeout` (microseconds; 0: none) from now on where that is sooner."""
    timeout_us = asked.parameters.get("timeout", 0)
    if type(timeout_us) is not int or timeout_us < 0:
        raise InvalidInput(f"timeout must be a whole number of microseconds; given: {shown(timeout_us)}")
    return min(deadline, asyncio.get_running_loop().time() + timeout_us / 1e6) if timeout_us else deadline


def _tensors(model: Model, asked: Infer, reply: dict[str, Any]) -> list[tuple[str, Array]]:
    """The outputs asked for, in that order; all that there are by default. NaN where the reply has no number."""
    arrays = {RENAMED.get(name, name): np.atleast_1d(array) for name, array in flat(reply).items()}
    drawn = model.op == "decode" and asked.parameters.get("draw") is True
    if drawn:
        arrays[DRAWN] = arrays.pop("mean")
    for tensor in model.outputs:
        if tensor.name not in arrays and tensor.needs is None and not drawn:
            arrays[tensor.name] = _nothing(tensor)
    if asked.outputs is None:
        return list(arrays.items())
    needs = {tensor.name: tensor.needs for tensor in model.outputs}
    if missing := [name for name in asked.outputs if name not in arrays]:
        told = (
            f"there with the parameter {needs[missing[0]]}"
            if needs[missing[0]]
            else "not there with the parameter draw"
        )
        raise InvalidInput(f"output {missing[0]} is {told}")
    return [(name, arrays[name]) for name in asked.outputs]


def _nothing(tensor: Tensor) -> Array:
    """A required tensor that a reply has no values for: NaN, or no elements where their number is free."""
    if FREE in tensor.shape:
        return np.zeros([max(size, 0) for size in tensor.shape], NUMPY[tensor.datatype])
    return np.full(tensor.shape, np.nan)


async def _encoded(answer: bytes, length: int | None, headers: Headers) -> tuple[bytes, HeaderList]:
    """The body and its headers; compressed where the client names one coding (the asyncio client names several)."""
    media_type = b"application/json" if length is None else b"application/octet-stream"
    reply_headers: HeaderList = [(b"content-type", media_type)]
    if length is not None:
        reply_headers.append((LENGTH_HEADER, b"%d" % length))
    coding = headers.get(b"accept-encoding").decode("latin-1").strip().lower()
    if coding in WBITS:
        if len(answer) > COMPRESS_HERE:
            answer = await asyncio.to_thread(compress, answer, coding)
        else:
            answer = compress(answer, coding)
        reply_headers.append((b"content-encoding", coding.encode()))
    return answer, reply_headers
