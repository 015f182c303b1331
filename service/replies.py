"""
The replies of the operations of /v1, and problems, as pydantic models: what OpenAPI documents.

Replies are written from arrays and never pass through these; tests hold them to it. Knows nothing of HTTP.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from service.latent import MAX_SEED
from service.manifest import Alpha, ScoreKind
from service.messages import LatentVector, Record, Row

Absent = SkipJsonSchema[None]  # there is no such field in the reply; it is never null
Probability = Annotated[float, Field(ge=0, le=1)]
Rate = tuple[Probability, Probability]
Value = float | str
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


class MissingValues(Reply):
    """A row with missing values: it is judged by calibration rows that miss about as many."""

    row: int = Field(ge=0, description="its index in the request, from 0", examples=[1])
    share: float = Field(
        gt=0, le=1, description="of the columns that may be missing: how many are, as a share", examples=[0.25]
    )
    threshold: float | None = Field(
        description="what its score must exceed for is_anomaly, in nats; null when the calibration rows are too few",
        examples=[16.2],
    )
    false_alarm_rate: Rate | None = Field(
        description="lower and upper end of the central 90 % interval of this threshold's real rate; null with it",
        examples=[[0.0287, 0.071]],
    )


class InvalidRow(Reply):
    """A row that could not be scored (`on_invalid: flag`)."""

    row: int = Field(ge=0, description="its index in the request, from 0")
    reason: str = Field(description="what is wrong with it")


class Explanation(Reply):
    """What one feature has to do with a score."""

    feature: str = Field(description='the column, or the index of the pixel ("3,5": row 3, column 5)')
    sensor: str | Absent = Field(None, description="of a window: the sensor", examples=["flow"])
    lag: Annotated[int, Field(ge=0)] | Absent = Field(
        None, description="of a window: how many readings before its last one", examples=[3]
    )
    nats: float = Field(description="this feature's part of the score, in nats; with the latent part they sum to it")
    p_value: Probability | None = Field(
        description="how rare so large a part is among the calibration rows, for this feature; null where the bundle "
        "does not know"
    )
    observed: Value = Field(description="the value in the row, in original units; a category by its name")
    expected: Value = Field(
        description="mean of p(x given z) over the row's draws, in original units; the most probable category"
    )
    interval: tuple[Value, Value] | None = Field(
        description="lower and upper end of the central 95 % of p(x given z), in original units; null for categories"
    )


class Window(Reply):
    """Which readings of the series a row is made of."""

    first: int = Field(ge=0, description="index of its first reading, from 0", examples=[4])
    last: int = Field(ge=0, description="index of its last reading", examples=[19])


class SensorPart(Reply):
    """What all readings of one sensor in a window have to do with its score."""

    sensor: str = Field(description="its name", examples=["pressure"])
    nats: float = Field(description="the parts of its readings together, in nats", examples=[41.7])
    excess: float | None = Field(
        description="how many nats they have above their medians among the calibration rows; null where the bundle "
        "does not know these",
        examples=[38.2],
    )


class Components(Reply):
    """The parts of the scores, one a row; null for a row that could not be scored."""

    reconstruction: list[float | None] = Field(description="-E[log p(x given z)], in nats: shape [n]")
    kl: list[float | None] = Field(description="KL(q(z given x) || p(z)), in nats: shape [n]")
    latent: list[float | None] = Field(
        description="the score less the parts of all features (see explain), in nats: shape [n]"
    )
    effective_samples: list[Annotated[float, Field(ge=0)] | None] = Field(
        description="of the K draws, by importance weight: shape [n], from 1 to K; near 1 where q fits the row badly"
    )


class AnomalyScoreReply(Reply):
    """Scores in nats, higher = more anomalous, and what they mean against the calibration rows."""

    model: ModelId
    kind: ScoreKind = Field(description="the score that was taken")
    samples: int = Field(gt=0, description="K, the latent draws of each score")
    alpha: Alpha = Field(description="the false-alarm rate aimed at, as a share of normal rows")
    threshold: float | None = Field(
        description="what the score of a complete row must exceed for is_anomaly, in nats; null when the calibration "
        "rows are too few for alpha"
    )
    false_alarm_rate: Rate | None = Field(
        description="lower and upper end of the central 90 % interval of the threshold's real false-alarm rate; null "
        "with the threshold"
    )
    scores: list[float | None] = Field(
        description="one a row, in nats, higher is more anomalous: shape [n]; null for a row that could not be scored"
    )
    p_values: list[Probability | None] = Field(
        description="(1 + calibration rows that score as high) / (1 + calibration rows): shape [n]; null with the score"
    )
    is_anomaly: list[bool | None] = Field(
        description="p <= alpha: shape [n]; null with the score, or without a threshold (see reason)"
    )
    windows: list[Window] | Absent = Field(
        None,
        description="of each row, the readings that it is made of: shape [n]; there for models of windows",
        examples=[[{"first": 0, "last": 15}, {"first": 4, "last": 19}]],
    )
    fdr: Alpha | Absent = Field(
        None, description="the false-discovery rate of is_discovery; there with fdr", examples=[0.1]
    )
    adjusted_p_values: list[Probability | None] | Absent = Field(
        None,
        description="p-values adjusted for the rows of this request (Benjamini and Hochberg), the least fdr at which "
        "each is flagged: shape [n]; null with the score; there with fdr",
        examples=[[0.5978, 0.00738]],
    )
    is_discovery: list[bool | None] | Absent = Field(
        None,
        description="adjusted p <= fdr: shape [n]; null with the score; there with fdr",
        examples=[[False, True]],
    )
    least_discoveries: Annotated[int, Field(ge=1)] | Absent = Field(
        None,
        description="how many of these rows must score above all calibration rows before is_discovery can be true of "
        "any; there with fdr, where the calibration rows are not too few for any number",
        examples=[1],
    )
    reason: str | Absent = Field(
        None,
        description="why there is no threshold; there where there is none",
        examples=["alpha 0.001 needs 999 calibration rows; the bundle has 270"],
    )
    missing: list[MissingValues] | Absent = Field(
        None, description="the rows with missing values, and their own thresholds; there where there are any"
    )
    invalid: list[InvalidRow] | Absent = Field(
        None, description="the rows that could not be scored; there with on_invalid = flag"
    )
    components: Components | Absent = Field(None, description="the parts of the scores; there with components = true")
    explanations: list[list[Explanation] | None] | Absent = Field(
        None,
        description="shape [n, E]: for each row the E observed features with the largest parts, largest first, fewer "
        "where fewer were observed, or null for a row that could not be scored; there with explain = E > 0",
    )
    sensors: list[list[SensorPart] | None] | Absent = Field(
        None,
        description="for each window the E sensors that surprise most, or all there are, most surprising first: shape "
        "[n, min(E, S)]; null for one that could not be scored; there with explain = E > 0 for models of windows",
    )


class Problem(BaseModel):
    """An error (RFC 9457). Members that do not apply are left out; there may be others."""

    model_config = ConfigDict(extra="allow", json_schema_extra=leave_out)

    type: str = Field(
        pattern="^urn:vae-serve:[a-z0-9-]+$", description="which error: a name that does not change; see the README"
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
