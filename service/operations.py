"""
The operations: the fields of a request -> vae -> the fields of its reply.

Fields are numpy arrays, numbers and strings by name; which names a wire format gives them is its own business. Knows
nothing of JSON, tensors, sockets or headers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel

from service import messages
from service.codec.fields import Fields, has_records, read_options, read_rows, read_rows_flagged
from service.codec.records import Records
from service.codec.rows import Array
from service.codec.table import RECORDS, Table
from service.errors import InvalidInput, Unsupported
from service.judged import judged
from service.manifest import Operation
from service.metrics import Metrics
from service.served import Rows, Served
from service.spent import Spent


@dataclass(slots=True)
class Request:
    """
    One parsed body on its way: *rows* as its wire format names them, *deadline* in the event loop's time.

    *pictured*: the reply is drawn as a picture.
    """

    served: Served
    rows: Rows
    fields: Fields
    deadline: float
    spent: Spent
    metrics: Metrics
    pictured: bool = False


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
    table = _table(r, options.records)
    r.spent.parse = r.spent.lap()
    outputs, seed = await r.served.vae.decode(z, options.draw, options.seed, r.deadline)
    reply = _made(outputs, table)
    return ({**reply, "seed": seed} if seed is not None else reply), len(z)


async def sample(r: Request) -> Answer:
    """Rows from the prior."""
    options = read_options(messages.SampleRequest, r.fields)
    r.served.check_rows("count", options.count, f"count is {options.count}")
    table = _table(r, options.records)
    r.spent.parse = r.spent.lap()
    z, outputs, seed = await r.served.vae.sample(
        options.count, options.seed, options.temperature, options.truncation, r.deadline
    )
    return {"seed": seed, "latents": z, **_made(outputs, table)}, options.count


async def interpolate(r: Request) -> Answer:
    """Waypoints to a path."""
    table = _table(r, has_records(r.fields))
    given = [spec for spec in r.rows if any(r.fields.get(name) is not None for name in spec.fields)]
    if len(given) != 1:
        either = " or ".join(spec.field for spec in r.rows)
        told = f"give {either}, and not both" if given else f"{either} is missing; at least 2 rows needed"
        raise InvalidInput(told, field=r.rows.inputs.field)
    spec = given[0]
    encoded = spec is r.rows.latents
    waypoints = read_rows(r.fields, spec, r.served.max_rows, least=2)
    rest = {name: value for name, value in r.fields.items() if not any(name in spec.fields for spec in r.rows)}
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
        **_made(walk.outputs, table),
        "degenerate": walk.degenerate,
    }, points


async def reconstruct(r: Request) -> Answer:
    """Rows to what the model makes of them."""
    table = _table(r, has_records(r.fields))
    x = read_rows(r.fields, r.rows.inputs, r.served.max_rows)
    read_options(messages.ReconstructOptions, r.fields)
    r.spent.parse = r.spent.lap()
    return _made(await r.served.vae.reconstruct(x, r.deadline), table), len(x)


async def anomaly_score(r: Request) -> Answer:
    """Rows to scores, p-values, decisions and explanations."""
    served, spec = r.served, r.rows.inputs
    options = read_options(
        messages.AnomalyScoreOptions, {name: value for name, value in r.fields.items() if name not in spec.fields}
    )
    plan = served.vae.anomaly.plan(**options.model_dump(exclude={"on_invalid"}), maps=r.pictured)
    invalid: dict[int, str] | None = None
    given = spec.of_records if has_records(r.fields) else spec
    if options.on_invalid == "flag":
        x, invalid = read_rows_flagged(r.fields, spec, served.max_rows)
    else:
        x = read_rows(r.fields, spec, served.max_rows)
        given.check_support(x)
    r.spent.parse = r.spent.lap()
    scored = await served.vae.anomaly_score(x, plan, r.deadline)
    decided = None if scored.is_anomaly is None else np.ma.filled(scored.is_anomaly, False)
    r.metrics.scored(served.manifest.version, scored.p_values, decided)
    if served.drift is not None and served.drift.entry is plan.entry:
        served.drift.saw(scored.p_values if scored.masked is None else np.delete(scored.p_values, scored.masked.row))
    return judged(plan, scored, served.manifest.inputs, served.table, invalid), len(x)


def _table(r: Request, wanted: bool) -> Table | None:
    """What writes the rows of the reply, where they are *wanted* as records. Raises Unsupported where they are none."""
    table = r.served.table
    if wanted and table is None:
        raise Unsupported("records are rows of a table, and this model's rows are not", field=RECORDS)
    return table if wanted else None


def _made(outputs: Array, table: Table | None) -> Fields:
    """The rows that the model made, as the reply has them."""
    return {"outputs": outputs} if table is None else {RECORDS: Records(table.columns(outputs))}


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
