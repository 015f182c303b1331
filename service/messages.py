"""
The bodies of /v1, as pydantic models: what OpenAPI documents, and what a request's options are checked by.

The rows themselves (`inputs`, `latents`) are too many numbers for pydantic; codec/ parses them to arrays
and holds itself to these models by a test. Knows nothing of HTTP.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.latent import MAX_SEED
from service.manifest import Alpha, ScoreKind

Row = list[float] | list[list[float]] | list[list[list[float]]]
Inputs = Annotated[
    list[Row],
    Field(min_length=1, description="rows in the model's shape and original units (see /v1/model), nested for images"),
]
Latents = Annotated[list[list[float]], Field(min_length=1, description="latent vectors, one a row")]
Seed = Annotated[
    int | None, Field(ge=0, le=MAX_SEED, description="equal seeds give equal draws; drawn and returned when not given")
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class EncodeOptions(_Request):
    """Encode, less its rows."""

    draws: int = Field(0, ge=0, le=256, description="draws of z from q(z given x) for each row")
    seed: Seed = None


class EncodeRequest(EncodeOptions):
    """Rows to encode."""

    inputs: Inputs


class DecodeOptions(_Request):
    """Decode, less its rows."""

    draw: bool = Field(False, description="draw from p(x given z) instead of returning its mean; if the bundle can")
    seed: Seed = None


class DecodeRequest(DecodeOptions):
    """Latent vectors to decode."""

    latents: Latents


class SampleRequest(_Request):
    """How many rows to draw from the model, and how."""

    count: int = Field(1, ge=1, description="rows to draw, up to VAE_MAX_REQUEST_ROWS")
    seed: Seed = None
    temperature: float = Field(1.0, ge=0, le=10, description="the standard deviation of the latent draws")
    truncation: float | None = Field(
        None, gt=0, le=10, description="confines each latent to +- this many standard deviations"
    )


class InterpolateOptions(_Request):
    """Interpolate, less its waypoints."""

    steps: int = Field(8, ge=2, le=1024, description="points on each leg, both its ends included")
    method: Literal["slerp", "lerp"] = Field("slerp", description="great circle or straight line, in the latent space")


class InterpolateRequest(InterpolateOptions):
    """Two or more waypoints: rows, which are encoded, or latent vectors. One of the two."""

    inputs: Annotated[list[Row], Field(min_length=2)] | None = None
    latents: Annotated[list[list[float]], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> InterpolateRequest:
        if (self.inputs is None) == (self.latents is None):
            raise ValueError("give inputs or latents, and not both")
        return self


class ReconstructOptions(_Request):
    """Reconstruct has no options."""


class ReconstructRequest(ReconstructOptions):
    """Rows to encode and decode again."""

    inputs: Inputs


class AnomalyScoreOptions(_Request):
    """Anomaly-score, less its rows."""

    kind: ScoreKind | None = Field(None, description="the score; by default the bundle's, see /v1/model")
    alpha: Alpha | None = Field(None, description="the false-alarm rate that is_anomaly may have")
    samples: int | None = Field(None, ge=1, description="K, the latent draws a score; only those that were calibrated")
    explain: int = Field(0, ge=0, le=64, description="explain each row by this many features, most surprising first")
    components: bool = Field(False, description="return the parts of the score as well")
    on_invalid: Literal["reject", "flag"] = Field(
        "reject", description="refuse the request for one invalid row, or give that row a null score and its reason"
    )


class AnomalyScoreRequest(AnomalyScoreOptions):
    """Rows to score."""

    inputs: Inputs


class ModelId(_Reply):
    """What answered."""

    name: str
    version: int
    bundle_id: str = Field(description="SHA-256 of the bundle's SHA256SUMS")


class EncodeReply(_Reply):
    """The posterior q(z given x) = N(mu, diag(exp(logvar))) of each row."""

    model: ModelId
    mu: list[list[float]]
    logvar: list[list[float]]
    z: list[list[list[float]]] | None = Field(None, description="draws, if asked for: row, draw, latent")
    seed: int | None = Field(None, description="the seed of the draws")


class DecodeReply(_Reply):
    """The mean of p(x given z), in original units."""

    model: ModelId
    outputs: list[Row]


class SampleReply(_Reply):
    """Rows drawn from the model: the mean of p(x given z) at draws of z from the prior."""

    model: ModelId
    seed: int
    latents: list[list[float]]
    outputs: list[Row]


class InterpolateReply(_Reply):
    """The path: a leg's ends are included, a waypoint between two legs is there once."""

    model: ModelId
    alphas: list[float] = Field(description="position: 0 at the first waypoint, 1 at the second, 2 at the third ...")
    latents: list[list[float]]
    outputs: list[Row]
    degenerate: bool = Field(
        description="a leg joined opposite directions: of its many great circles a fixed one was taken"
    )


class ReconstructReply(_Reply):
    """The mean of p(x given z) at z = mu of each row, in original units."""

    model: ModelId
    outputs: list[Row]


class InvalidRow(_Reply):
    """A row that could not be scored (`on_invalid: flag`)."""

    row: int
    reason: str


class Explanation(_Reply):
    """What one feature has to do with a score."""

    feature: str
    nats: float = Field(description="this feature's part of the score; with the latent part they sum to it")
    p_value: float | None = Field(
        description="how rare so large a part is among the calibration rows, for this feature"
    )
    observed: float
    expected: float = Field(description="the mean of p(x given z) over the row's draws, in original units")
    interval: tuple[float, float] = Field(description="central 95 % of p(x given z), in original units")


class Components(_Reply):
    """The parts of the scores, one a row, in nats."""

    reconstruction: list[float | None] = Field(description="-E[log p(x given z)]")
    kl: list[float | None] = Field(description="KL(q(z given x) || p(z))")
    latent: list[float | None] = Field(description="the score less the parts of all features (see explain)")
    effective_samples: list[float | None] = Field(
        description="of the K draws, by importance weight; near 1 where q fits the row badly"
    )


class AnomalyScoreReply(_Reply):
    """Scores in nats, higher = more anomalous, and what they mean against the calibration rows."""

    model: ModelId
    kind: ScoreKind
    samples: int
    alpha: float
    threshold: float | None = Field(description="null when the calibration rows are too few for alpha")
    false_alarm_rate: tuple[float, float] | None = Field(
        description="central 90 % interval of the threshold's real rate"
    )
    scores: list[float | None]
    p_values: list[float | None]
    is_anomaly: list[bool | None]
    reason: str | None = Field(None, description="why is_anomaly is null")
    invalid: list[InvalidRow] | None = Field(None, description="rows that could not be scored, with on_invalid = flag")
    components: Components | None = None
    explanations: list[list[Explanation] | None] | None = None


class Problem(BaseModel):
    """An error (RFC 9457). Further members give the field, the limit, the value and the row where there is one."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    request_id: str
