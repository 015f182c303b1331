"""
The requests of /v1, as pydantic models: what OpenAPI documents, and what a request's options are checked by.

The rows themselves (`inputs`, `records`, `latents`) are too many values for pydantic; codec/ parses them to arrays
and holds itself to these models by a test. Knows nothing of HTTP.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypeAliasType

from service.latent import MAX_SEED
from service.manifest import Alpha, ScoreKind

MAX_INTEGER = 2**53 - 1  # beyond it JSON's numbers are not the same whole number to everybody (RFC 8259, 6)

Row = TypeAliasType(
    "Row",
    Annotated[
        list[float] | list[list[float]] | list[list[list[float]]],
        Field(
            description="One row in the model's shape and in original units (GET /v1/model: manifest.inputs): "
            "[C] numbers for a table or a vector, in the order of its columns, a category as its place in the "
            "vocabulary, an instant in seconds since 1970; nested as the image is for images, [height, width], or "
            "three axes in the order of manifest.inputs.layout. Numbers must be finite."
        ),
    ],
)
IncompleteRow = TypeAliasType(
    "IncompleteRow",
    Annotated[
        list[float | None],
        Field(
            description="One row of a table, as a Row, with null where a value is missing, in columns that allow it."
        ),
    ],
)
Inputs = Annotated[
    list[Row | IncompleteRow] | None,
    Field(min_length=1, description="n rows, x: shape [n, *row], up to limits.max_request_rows"),
]
Record = TypeAliasType(
    "Record",
    Annotated[
        dict[str, float | bool | str | None],
        Field(
            description="One row of a table by column name, in original units; GET /v1/model says what is in "
            "manifest.inputs.columns. What has a vocabulary is told by its name there; what is binary without one by 0 "
            "or 1, or true or false; an instant by seconds since 1970 or ISO 8601 text (UTC where it has no offset). A "
            "member that is null or not there is missing, where the column allows it.",
            examples=[{"pressure": 7.0, "site": "north", "seen": "2026-01-31T12:00:00Z", "flow": None}],
        ),
    ],
)
Records = Annotated[
    list[Record] | None,
    Field(
        min_length=1,
        description="instead of inputs, of a table: n rows as objects, up to limits.max_request_rows; the rows of the "
        "reply are records then",
    ),
]
Reading = TypeAliasType(
    "Reading",
    Annotated[
        list[float | None],
        Field(
            description="One reading of all sensors, of a model of windows: shape [S], in the order of "
            "manifest.inputs.windows.sensors and in original units; null where one is missing, in sensors that allow "
            "it."
        ),
    ],
)
Series = Annotated[
    list[Reading] | None,
    Field(
        min_length=1,
        description="instead of inputs, of a model of windows (manifest.inputs.windows): T readings in the order of "
        "time, shape [T, S], of which the rows are made, up to limits.max_request_rows windows; records are readings "
        "by sensor name then",
    ),
]
LatentVector = TypeAliasType(
    "LatentVector",
    Annotated[
        list[float],
        Field(
            description="One latent vector, z: shape [L], L = manifest.latent.dim. In standard deviations of the "
            "prior; beyond +-1e6 is refused."
        ),
    ],
)
Latents = Annotated[
    list[LatentVector],
    Field(min_length=1, description="n latent vectors, z: shape [n, L], up to limits.max_request_rows"),
]
Seed = Annotated[
    int | None,
    Field(
        ge=0,
        le=MAX_SEED,
        description="of the draws: equal seeds give equal draws; one is drawn, and returned, when none is given",
        examples=[7],
    ),
]


AsRecords = Annotated[
    bool,
    Field(
        description="the rows of the reply are records instead of outputs; of models of tables alone", examples=[True]
    ),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Rows(_Request):
    """Rows in one of three forms."""

    inputs: Inputs = None
    records: Records = None
    series: Series = None

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if [self.inputs, self.records, self.series].count(None) != 2:
            raise ValueError("give inputs, records or series, and no two of them")
        return self


class EncodeOptions(_Request):
    """Encode, less its rows."""

    draws: int = Field(0, ge=0, le=256, description="draws of z from q(z given x) for each row")
    seed: Seed = None


class EncodeRequest(EncodeOptions, _Rows):
    """Rows to encode: inputs or records."""


class DecodeOptions(_Request):
    """Decode, less its rows."""

    draw: bool = Field(
        False,
        description="draw from p(x given z) instead of returning its mean; refused where manifest.capabilities.draw "
        "is false",
    )
    seed: Seed = None
    records: AsRecords = False


class DecodeRequest(DecodeOptions):
    """LatentVector vectors to decode."""

    latents: Latents


class SampleRequest(_Request):
    """How many rows to draw from the model, and how."""

    count: int = Field(1, ge=1, le=MAX_INTEGER, description="n, the rows to draw, up to limits.max_request_rows")
    seed: Seed = None
    temperature: float = Field(
        1.0,
        ge=0,
        le=10,
        description="the standard deviation of the latent draws, of a learned prior as a share of the component's; "
        "0: none",
    )
    truncation: float | None = Field(
        None,
        gt=0,
        le=10,
        description="confines each latent, before temperature, to +- this many standard deviations; null: not at all",
    )
    records: AsRecords = False


class InterpolateOptions(_Request):
    """Interpolate, less its waypoints."""

    steps: int = Field(
        8,
        ge=2,
        le=1024,
        description="points on each leg, both its ends included; w waypoints give (w - 1) * (steps - 1) + 1 points, "
        "up to limits.max_request_rows",
    )
    method: Literal["slerp", "lerp"] = Field(
        "slerp", description="along a great circle (slerp) or a straight line (lerp) of the latent space"
    )


class InterpolateRequest(InterpolateOptions):
    """Two or more waypoints: rows (inputs, records or series), which are encoded, or latent vectors. One of these."""

    inputs: Annotated[list[Row | IncompleteRow], Field(min_length=2)] | None = Field(
        None, description="w waypoints as rows, x: shape [w, *row]; each is encoded to its mu"
    )
    records: Annotated[list[Record], Field(min_length=2)] | None = Field(
        None, description="w waypoints as records, of models of tables alone"
    )
    series: Series = None
    latents: Annotated[list[LatentVector], Field(min_length=2)] | None = Field(
        None, description="w waypoints as latent vectors, z: shape [w, L]"
    )

    @model_validator(mode="after")
    def _one_of_four(self) -> Self:
        if [self.inputs, self.records, self.series, self.latents].count(None) != 3:
            raise ValueError("give inputs, records, series or latents, and no two of them")
        return self


class ReconstructOptions(_Request):
    """Reconstruct has no options."""


class ReconstructRequest(ReconstructOptions, _Rows):
    """Rows to encode and decode again: inputs or records."""


class AnomalyScoreOptions(_Request):
    """Anomaly-score, less its rows."""

    kind: ScoreKind | None = Field(
        None,
        description="the score, one of manifest.capabilities.score_kinds; null: the bundle's own, "
        "manifest.scoring.kind. nll: the importance-weighted bound of -log p(x); neg_elbo: "
        "reconstruction + kl; reconstruction: -E[log p(x given z)]; kl: KL(q(z given x) || p(z)); "
        "latent: half the squared Mahalanobis distance of mu from where normal rows are encoded; "
        "typicality: how far nll is from its mean over normal rows, above or below; fused: -log "
        "density of reconstruction, kl and latent together, each as a normal rank among normal rows",
    )
    alpha: Alpha | None = Field(
        None,
        description="the false-alarm rate that is_anomaly may have, as a share of normal rows; null: the bundle's own, "
        "manifest.scoring.alpha of GET /v1/model, which is 0.01 in what vae-train writes. The smallest that the "
        "calibration rows allow is 1 / (rows + 1)",
    )
    fdr: Alpha | None = Field(
        None,
        description="the false-discovery rate q that is_discovery may have over the rows of this request (Benjamini "
        "and Hochberg): of the rows that it flags a share of at most q is normal, on average; null: not asked for",
    )
    samples: int | None = Field(
        None,
        ge=1,
        le=MAX_INTEGER,
        description="K, the latent draws of a score; only those that were calibrated (manifest.calibrated); null: "
        "the bundle's own, manifest.scoring.samples",
    )
    explain: int = Field(
        0,
        ge=0,
        le=64,
        description="explain each row by this many features, E, most surprising first; of the kinds nll, neg_elbo "
        "and reconstruction",
    )
    components: bool = Field(False, description="return the parts of the score as well")
    on_invalid: Literal["reject", "flag"] = Field(
        "reject", description="refuse the request for one invalid row, or give that row a null score and its reason"
    )


class AnomalyScoreRequest(AnomalyScoreOptions, _Rows):
    """Rows to score: inputs or records."""


class SheetOptions(_Request):
    """How a reply is drawn as one picture, whatever the operation."""

    columns: int | None = Field(
        None, ge=1, le=1024, description="tiles in a line; null: about a square, for interpolate one line a leg"
    )
    scale: int | None = Field(
        None, ge=1, le=64, description="pixels of the picture for each side of a pixel; null: tiles have 64 or more"
    )
