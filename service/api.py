"""
The /v1 operations: the body of a request -> codec -> vae -> codec -> the body of its reply.

`ROUTES` is the one list of them; app.py puts them in front and documents them. Knows JSON fields and the
operations on arrays; nothing of sockets or headers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel

from service import messages
from service.codec import json
from service.codec.rows import RowSpec
from service.errors import InvalidInput, TooLarge
from service.manifest import Operation
from service.metrics import Metrics, Stopwatch
from service.vae import VAE

Fields = dict[str, Any]


class Served:
    """One bundle as the routes serve it: its operations, its rows, its name in every reply."""

    def __init__(self, vae: VAE, max_request_rows: int) -> None:
        manifest = vae.bundle.manifest
        self.vae = vae
        self.inputs = RowSpec.inputs(manifest)
        self.latents = RowSpec.latents(manifest)
        self.max_rows = max_request_rows
        model = messages.ModelId(name=manifest.name, version=manifest.version, bundle_id=vae.bundle.bundle_id)
        self.model = orjson.Fragment(model.model_dump_json().encode())

    def check_rows(self, field: str, rows: int, told: str) -> None:
        """Raise TooLarge when the request asks for more *rows* than one may have; *told* says how it came to that."""
        if rows > self.max_rows:
            raise TooLarge(
                f"{told}; one request may have {self.max_rows} rows", field=field, limit=self.max_rows, value=rows
            )


@dataclass(frozen=True, slots=True)
class Request:
    """One parsed body on its way: *deadline* in the event loop's time."""

    served: Served
    fields: Fields
    deadline: float
    watch: Stopwatch
    metrics: Metrics


Answer = tuple[Fields, int]  # the reply's fields, less the model's name, and the rows that it answers


async def encode(r: Request) -> Answer:
    """Rows to posteriors."""
    x = json.read_rows(r.fields, r.served.inputs, r.served.max_rows)
    options = json.read_options(messages.EncodeOptions, r.fields)
    r.watch.lap("parse")
    outputs, seed = await r.served.vae.encode(x, options.draws, options.seed, r.deadline)
    return ({**outputs, "seed": seed} if seed is not None else dict(outputs)), len(x)


async def decode(r: Request) -> Answer:
    """Latent vectors to rows."""
    z = json.read_rows(r.fields, r.served.latents, r.served.max_rows)
    options = json.read_options(messages.DecodeOptions, r.fields)
    r.watch.lap("parse")
    return {"outputs": await r.served.vae.decode(z, options.draw, r.deadline)}, len(z)


async def sample(r: Request) -> Answer:
    """Rows from the prior."""
    options = json.read_options(messages.SampleRequest, r.fields)
    r.served.check_rows("count", options.count, f"count is {options.count}")
    r.watch.lap("parse")
    z, outputs, seed = await r.served.vae.sample(
        options.count, options.seed, options.temperature, options.truncation, r.deadline
    )
    return {"seed": seed, "latents": z, "outputs": outputs}, options.count


async def interpolate(r: Request) -> Answer:
    """Waypoints to a path."""
    given = [spec for spec in (r.served.inputs, r.served.latents) if r.fields.get(spec.field) is not None]
    if len(given) != 1:
        raise InvalidInput("give inputs or latents, and not both", field="inputs")
    spec = given[0]
    encoded = spec is r.served.latents
    waypoints = json.read_rows(r.fields, spec, r.served.max_rows, least=2)
    rest = {name: value for name, value in r.fields.items() if name not in ("inputs", "latents")}
    options = json.read_options(messages.InterpolateOptions, rest)
    points = (len(waypoints) - 1) * (options.steps - 1) + 1
    r.served.check_rows("steps", points, f"{len(waypoints)} waypoints with {options.steps} steps are {points} points")
    r.watch.lap("parse")
    walk = await r.served.vae.interpolate(
        waypoints, encoded=encoded, steps=options.steps, method=options.method, deadline=r.deadline
    )
    return {
        "alphas": walk.alphas,
        "latents": walk.latents,
        "outputs": walk.outputs,
        "degenerate": walk.degenerate,
    }, points


async def reconstruct(r: Request) -> Answer:
    """Rows to what the model makes of them."""
    x = json.read_rows(r.fields, r.served.inputs, r.served.max_rows)
    json.read_options(messages.ReconstructOptions, r.fields)
    r.watch.lap("parse")
    return {"outputs": await r.served.vae.reconstruct(x, r.deadline)}, len(x)


async def anomaly_score(r: Request) -> Answer:
    """Rows to scores, p-values, decisions and explanations."""
    served = r.served
    options = json.read_options(
        messages.AnomalyScoreOptions, {name: value for name, value in r.fields.items() if name != "inputs"}
    )
    plan = served.vae.anomaly.plan(**options.model_dump(exclude={"on_invalid"}))
    flag = options.on_invalid == "flag"
    invalid: dict[int, str] = {}
    if flag:
        x, invalid = json.read_rows_flagged(r.fields, served.inputs, served.max_rows)
    else:
        x = json.read_rows(r.fields, served.inputs, served.max_rows)
        served.inputs.check_support(x)
    r.watch.lap("parse")
    scored = await served.vae.anomaly_score(x, plan, r.deadline)
    r.metrics.scored(served.vae.bundle.manifest.version, scored.p_values, scored.is_anomaly)
    rows = len(x) + len(invalid)
    valid = [row for row in range(rows) if row not in invalid]

    def spread(values: NDArray[Any] | list[Any] | None) -> Any:
        """The answers of the valid rows among all rows: null for the others."""
        if values is not None and len(valid) == rows:
            return values
        among: list[Any] = [None] * rows
        for row, value in zip(valid, [] if values is None else list(values), strict=False):
            among[row] = value.item() if isinstance(value, np.generic) else value
        return among

    reply: Fields = {
        "kind": plan.entry.kind,
        "samples": plan.entry.samples,
        "alpha": plan.alpha,
        "threshold": plan.threshold,
        "false_alarm_rate": scored.rate,
        "scores": spread(scored.scores),
        "p_values": spread(scored.p_values),
        "is_anomaly": spread(scored.is_anomaly),
    }
    if plan.reason is not None:
        reply["reason"] = plan.reason
    if flag:
        reply["invalid"] = [{"row": row, "reason": reason} for row, reason in invalid.items()]
    if options.components:
        parts = scored.components
        reply["components"] = {name: spread(None if parts is None else getattr(parts, name)) for name in COMPONENTS}
    if options.explain:
        explained = [[asdict(part) for part in row] for row in scored.explanations or []]
        reply["explanations"] = spread(explained)
    return reply, len(x)


COMPONENTS = tuple(messages.Components.model_fields)


@dataclass(frozen=True)
class Route:
    """One operation: its path, the models of its bodies, and what answers it."""

    op: Operation
    request: type[BaseModel]
    reply: type[BaseModel]
    run: Callable[[Request], Awaitable[Answer]]

    @property
    def path(self) -> str:
        """Where it is, and its label in the metrics."""
        return f"/v1/{self.op}"


ROUTES = (
    Route("encode", messages.EncodeRequest, messages.EncodeReply, encode),
    Route("decode", messages.DecodeRequest, messages.DecodeReply, decode),
    Route("sample", messages.SampleRequest, messages.SampleReply, sample),
    Route("interpolate", messages.InterpolateRequest, messages.InterpolateReply, interpolate),
    Route("reconstruct", messages.ReconstructRequest, messages.ReconstructReply, reconstruct),
    Route("anomaly-score", messages.AnomalyScoreRequest, messages.AnomalyScoreReply, anomaly_score),
)


async def reply_to(route: Route, served: Served, metrics: Metrics, body: bytes, deadline: float) -> bytes:
    """The body of the reply to one request with this *body*. Raises ServiceError."""
    watch = Stopwatch(metrics, route.op)
    fields = json.read_object(body, served.inputs, served.latents)
    reply, rows = await route.run(Request(served, fields, deadline, watch, metrics))
    watch.lap(None)
    answer = json.write({"model": served.model, **reply})
    watch.lap("serialize")
    metrics.answered_rows(route.op, rows)
    return answer
