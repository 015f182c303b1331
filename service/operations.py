"""
The operations: the fields of a request -> vae -> the fields of its reply.

Fields are numpy arrays, numbers and strings by name; which names a wire format gives them is its own business. Knows
nothing of JSON, tensors, sockets or headers.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel

from service import messages, replies
from service.anomaly import FeaturePart
from service.codec.fields import Fields, read_options, read_rows, read_rows_flagged
from service.codec.records import Records, flags
from service.codec.rows import Array, RowSpec
from service.errors import InvalidInput, NotReady, TooLarge
from service.manifest import Operation
from service.metrics import Metrics
from service.spent import Spent
from service.vae import VAE


class Rows(NamedTuple):
    """The fields of rows that a request may have, as one wire format names them."""

    inputs: RowSpec
    latents: RowSpec


class Served:
    """One bundle as it is served: its operations, its rows, its name in every reply."""

    def __init__(self, vae: VAE, max_request_rows: int) -> None:
        manifest = vae.bundle.manifest
        self.vae = vae
        self.manifest = manifest
        self.rows = Rows(RowSpec.inputs(manifest), RowSpec.latents(manifest))
        self.max_rows = max_request_rows
        self.model = {"name": manifest.name, "version": manifest.version, "bundle_id": vae.bundle.bundle_id}

    def check_rows(self, field: str, rows: int, told: str) -> None:
        """Raise TooLarge when the request asks for more *rows* than one may have; *told* says how it came to that."""
        if rows > self.max_rows:
            raise TooLarge(
                f"{told}; one request may have {self.max_rows} rows", field=field, limit=self.max_rows, value=rows
            )


class Service(Protocol):
    """The process that serves, as its endpoints see it."""

    metrics: Metrics

    @property
    def served(self) -> Served | None:
        """What is served; None before it is opened."""

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""


def serving(service: Service, op: Operation) -> Served:
    """What is served, for one request for *op*. Raises NotReady, Unsupported or Overloaded."""
    if service.served is None:
        raise NotReady("no model is ready yet")
    service.served.vae.admit(op)
    return service.served


@dataclass(slots=True)
class Request:
    """One parsed body on its way: *rows* as its wire format names them, *deadline* in the event loop's time."""

    served: Served
    rows: Rows
    fields: Fields
    deadline: float
    spent: Spent
    metrics: Metrics


Answer = tuple[Fields, int]  # the reply's fields, less the model's name, and the rows that it answers


async def encode(r: Request) -> Answer:
    """Rows to posteriors."""
    x = read_rows(r.fields, r.rows.inputs, r.served.max_rows)
    options = read_options(messages.EncodeOptions, r.fields)
    r.spent.parse = r.spent.lap()
    outputs, seed = await r.served.vae.encode(x, options.draws, options.seed, r.deadline)
    return ({**outputs, "seed": seed} if seed is not None else dict(outputs)), len(x)


async def decode(r: Request) -> Answer:
    """Latent vectors to rows."""
    z = read_rows(r.fields, r.rows.latents, r.served.max_rows)
    options = read_options(messages.DecodeOptions, r.fields)
    r.spent.parse = r.spent.lap()
    return {"outputs": await r.served.vae.decode(z, options.draw, r.deadline)}, len(z)


async def sample(r: Request) -> Answer:
    """Rows from the prior."""
    options = read_options(messages.SampleRequest, r.fields)
    r.served.check_rows("count", options.count, f"count is {options.count}")
    r.spent.parse = r.spent.lap()
    z, outputs, seed = await r.served.vae.sample(
        options.count, options.seed, options.temperature, options.truncation, r.deadline
    )
    return {"seed": seed, "latents": z, "outputs": outputs}, options.count


async def interpolate(r: Request) -> Answer:
    """Waypoints to a path."""
    given = [spec for spec in (r.rows.inputs, r.rows.latents) if r.fields.get(spec.field) is not None]
    if len(given) != 1:
        raise InvalidInput(
            f"give {' or '.join(spec.field for spec in r.rows)}, and not both", field=r.rows.inputs.field
        )
    spec = given[0]
    encoded = spec is r.rows.latents
    waypoints = read_rows(r.fields, spec, r.served.max_rows, least=2)
    rest = {name: value for name, value in r.fields.items() if name not in [spec.field for spec in r.rows]}
    options = read_options(messages.InterpolateOptions, rest)
    points = (len(waypoints) - 1) * (options.steps - 1) + 1
    r.served.check_rows("steps", points, f"{len(waypoints)} waypoints with {options.steps} steps are {points} points")
    r.spent.parse = r.spent.lap()
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
    x = read_rows(r.fields, r.rows.inputs, r.served.max_rows)
    read_options(messages.ReconstructOptions, r.fields)
    r.spent.parse = r.spent.lap()
    return {"outputs": await r.served.vae.reconstruct(x, r.deadline)}, len(x)


async def anomaly_score(r: Request) -> Answer:
    """Rows to scores, p-values, decisions and explanations."""
    served, spec = r.served, r.rows.inputs
    options = read_options(
        messages.AnomalyScoreOptions, {name: value for name, value in r.fields.items() if name != spec.field}
    )
    plan = served.vae.anomaly.plan(**options.model_dump(exclude={"on_invalid"}))
    flag = options.on_invalid == "flag"
    invalid: dict[int, str] = {}
    if flag:
        x, invalid = read_rows_flagged(r.fields, spec, served.max_rows)
    else:
        x = read_rows(r.fields, spec, served.max_rows)
        spec.check_support(x)
    r.spent.parse = r.spent.lap()
    scored = await served.vae.anomaly_score(x, plan, r.deadline)
    r.metrics.scored(served.manifest.version, scored.p_values, scored.is_anomaly)
    rows = len(x) + len(invalid)
    valid = [row for row in range(rows) if row not in invalid]

    def spread(values: Array) -> Array:
        """The answers of the valid rows among all rows: NaN, or an empty string, for the others."""
        if len(valid) == rows:
            return values
        among = np.full((rows, *values.shape[1:]), "" if values.dtype.kind == "U" else math.nan, values.dtype)
        among[valid] = values
        return among

    reply: Fields = {
        "kind": plan.entry.kind,
        "samples": plan.entry.samples,
        "alpha": plan.alpha,
        "threshold": plan.threshold,
        "false_alarm_rate": scored.rate,
        "scores": spread(scored.scores),
        "p_values": spread(scored.p_values),
        "is_anomaly": flags(scored.is_anomaly, valid, rows),
    }
    if plan.reason is not None:
        reply["reason"] = plan.reason
    if flag:
        reply["invalid"] = Records(
            {"row": np.array(list(invalid), np.int64), "reason": np.array([*invalid.values()], str)}
        )
    if options.components:
        parts = asdict(scored.components) if scored.components else dict.fromkeys(COMPONENTS, np.zeros(0))
        reply["components"] = {name: spread(parts[name]) for name in COMPONENTS}
    if options.explain:
        columns = _explanations(scored.explanations or [], min(options.explain, served.manifest.inputs.features))
        reply["explanations"] = Records(
            {name: spread(column) for name, column in columns.items()},
            frozenset(invalid),
            {"interval": ("lower", "upper")},
        )
    return reply, len(x)


COMPONENTS = tuple(replies.Components.model_fields)


def _explanations(explained: list[list[FeaturePart]], features: int) -> dict[str, Array]:
    """The parts of each row in columns: (rows, features) each."""
    shape = len(explained), features
    parts = [part for row in explained for part in row]
    columns: dict[str, Array] = {"feature": np.array([part.feature for part in parts], str).reshape(shape)}
    for name in ("nats", "p_value", "observed", "expected"):
        columns[name] = np.array([getattr(part, name) for part in parts], np.float64).reshape(shape)  # None: NaN
    for index, name in enumerate(("lower", "upper")):
        columns[name] = np.array([part.interval[index] for part in parts], np.float64).reshape(shape)
    return columns


@dataclass(frozen=True)
class Task:
    """One operation: what answers it, and the model of its options."""

    op: Operation
    run: Callable[[Request], Awaitable[Answer]]
    options: type[BaseModel]

    @property
    def about(self) -> str:
        """What it does, in a line."""
        return (self.run.__doc__ or "").strip()


TASKS: dict[Operation, Task] = {
    task.op: task
    for task in (
        Task("encode", encode, messages.EncodeOptions),
        Task("decode", decode, messages.DecodeOptions),
        Task("sample", sample, messages.SampleRequest),
        Task("interpolate", interpolate, messages.InterpolateOptions),
        Task("reconstruct", reconstruct, messages.ReconstructOptions),
        Task("anomaly-score", anomaly_score, messages.AnomalyScoreOptions),
    )
}
