"""
The replies of the operations of /v1, scores apart, and problems, as pydantic models: what OpenAPI documents.

Replies are written from arrays and never pass through these; tests hold them to it. Knows nothing of HTTP.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from service.latent import MAX_SEED
from service.messages import LatentVector, Record, Row

Absent = SkipJsonSchema[None]  # there is no such field in the reply; it is never null
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
MadeRecords = Annotated[
    list[Record] | Absent,
    Field(
        description="the rows of the reply as records, instead of outputs; there where records were sent or asked for"
    ),
]


def leave_out(schema: dict[str, Any]) -> None:
    """Take the defaults of None out of a JSON schema: such a field is not there."""
    for field in schema.get("properties", {}).values():
        if field.get("default", "") is None:
            del field["default"]


class Reply(BaseModel):
    """A field with the default None is not there where the reply has no use for it; no other field may be there."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), json_schema_extra=leave_out)


class ModelId(Reply):
    """What answered."""

    name: str = Field(description="the model's name: that of the directory of its versions")
    version: int = Field(gt=0, description="its version")
    bundle_id: str = Field(
        pattern="^[0-9a-f]{64}$", description="SHA-256 of the bundle's SHA256SUMS, and so of every byte of the model"
    )


class EncodeReply(Reply):
    """The posterior q(z given x) = N(mu, diag(exp(logvar))) of each row."""

    model: ModelId
    mu: list[LatentVector] = Field(description="mean of each row's posterior: shape [n, L]")
    logvar: list[list[float]] = Field(
        description="natural logarithm of the variance of each row's posterior: shape [n, L]; near 0 where a row says "
        "nothing of a latent"
    )
    z: list[list[LatentVector]] | Absent = Field(
        None, description="draws of z for each row: shape [n, draws, L]; there with draws > 0"
    )
    seed: Seed | Absent = Field(None, description="makes these draws again; there with draws > 0")


class DecodeReply(Reply):
    """The mean of p(x given z), or a draw from it, in original units."""

    model: ModelId
    outputs: list[Row] | Absent = Field(
        None,
        description="mean of p(x given z) of each latent vector, or (draw) a draw from it: shape [n, *row], in "
        "original units",
    )
    records: MadeRecords = None
    seed: Seed | Absent = Field(None, description="makes these draws again; there with draw = true", examples=[7])


class SampleReply(Reply):
    """Rows drawn from the model: the mean of p(x given z) at draws of z from the prior."""

    model: ModelId
    seed: Seed = Field(description="makes these rows again")
    latents: list[LatentVector] = Field(description="draws of z from the prior: shape [n, L], n = count")
    outputs: list[Row] | Absent = Field(
        None, description="mean of p(x given z) at each: shape [n, *row], in original units; not there with records"
    )
    records: MadeRecords = None


class InterpolateReply(Reply):
    """The path: a leg's ends are included, a waypoint between two legs is there once."""

    model: ModelId
    alphas: list[Annotated[float, Field(ge=0)]] = Field(
        description="position of the p points of the path: shape [p]; 0 at the first waypoint, 1 at the second, 2 at "
        "the third ..."
    )
    latents: list[LatentVector] = Field(description="z of each point: shape [p, L]")
    outputs: list[Row] | Absent = Field(
        None, description="mean of p(x given z) at each: shape [p, *row], in original units; not there with records"
    )
    records: MadeRecords = None
    degenerate: bool = Field(
        description="a leg joined opposite directions: of its many great circles a fixed one was taken"
    )


class ReconstructReply(Reply):
    """The mean of p(x given z) at z = mu of each row, in original units."""

    model: ModelId
    outputs: list[Row] | Absent = Field(
        None,
        description="what the model makes of each row: shape [n, *row], in original units; not there with records",
    )
    records: MadeRecords = None


class Problem(BaseModel):
    """An error (RFC 9457). Members that do not apply are left out; there may be others."""

    model_config = ConfigDict(extra="allow", json_schema_extra=leave_out)

    type: str = Field(
        pattern="^urn:vae-serve:[a-z0-9-]+$", description="which error: a name that does not change; see docs/api.md"
    )
    title: str = Field(description="which error, in words; the same for every error of this type")
    status: int = Field(ge=400, le=599, description="the HTTP status")
    detail: str = Field(description="what was wrong, the limit and the value")
    request_id: str = Field(description="the header X-Request-Id, under which our own faults are in the log")
    field: str | Absent = Field(None, description="the field, or query parameter, at fault")
    limit: float | str | list[int] | Absent = Field(
        None, description="what the value may be: a bound, the values in words, or a shape"
    )
    value: Any = Field(None, description="what was sent instead, where it is short")
    row: Annotated[int, Field(ge=0)] | Absent = Field(None, description="index of the first bad row, from 0")
    column: str | Absent = Field(None, description="the column of a table at fault in that row", examples=["site"])
    rows_needed: Annotated[int, Field(ge=1)] | Absent = Field(
        None, description="calibration rows that the alpha asked for needs"
    )
