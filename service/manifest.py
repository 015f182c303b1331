"""
The manifest of a bundle: what the model is, what it takes, what it can do.

Only the schema. It is written by `training`, read by `service`, and knows neither files nor HTTP.
A change that an older reader would misread raises SCHEMA_VERSION.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

SCHEMA_VERSION: Final = 1

Operation = Literal["encode", "decode", "sample", "interpolate", "reconstruct", "anomaly-score"]
ScoreKind = Literal["nll", "neg_elbo", "reconstruction", "kl"]
GraphName = Literal["encoder", "decoder", "scorer", "observe", "prior", "posterior"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

MIN_ALPHA: Final = 1e-9  # a billion calibration rows
Alpha = Annotated[float, Field(ge=MIN_ALPHA, lt=1)]

NEEDS: dict[str, tuple[GraphName, ...]] = {
    "encode": ("encoder",),
    "decode": ("decoder",),
    "sample": ("decoder",),
    "interpolate": ("encoder", "decoder"),
    "reconstruct": ("encoder", "decoder"),
    "anomaly-score": ("scorer",),
}
"""The graphs without which an operation cannot be offered."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Column(_Part):
    """One column of a table, as the client sends it."""

    name: str = Field(min_length=1)
    kind: Literal["numeric", "categorical", "ordinal", "binary", "count"] = "numeric"
    unit: str | None = None
    center: float | None = Field(None, description="subtracted inside the graph, in the column's unit")
    scale: float | None = Field(None, gt=0, description="divided by inside the graph, in the column's unit")
    vocabulary: tuple[str, ...] | None = Field(None, description="category -> index is the position here")
    unknown: Literal["other", "reject"] = "reject"
    missing: bool = False


class Inputs(_Part):
    """What one row is: its shape, and the dtype in which the graphs take it."""

    kind: Literal["array", "image", "table"]
    shape: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)
    dtype: Literal["float32", "float64"]
    layout: Literal["HW", "HWC", "CHW"] | None = None
    range: tuple[float, float] | None = Field(None, description="lowest and highest value of a pixel")
    columns: tuple[Column, ...] | None = None
    clamp: float = Field(gt=0, description="standardised inputs are clamped to +- this inside the graphs")

    @property
    def features(self) -> int:
        """C of the scorer: original columns, or pixels."""
        return math.prod(self.shape)

    @property
    def names(self) -> tuple[str, ...]:
        """One name a feature: the columns', or the index of the pixel ("3,5")."""
        if self.columns is not None:
            return tuple(column.name for column in self.columns)
        strides = [math.prod(self.shape[i + 1 :]) for i in range(len(self.shape))]
        return tuple(
            ",".join(str(i // stride % size) for stride, size in zip(strides, self.shape, strict=True))
            for i in range(self.features)
        )

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if (self.kind == "table") != (self.columns is not None):
            raise ValueError("columns are given for tables, and only for tables")
        if self.columns is not None and self.shape != (len(self.columns),):
            raise ValueError(f"shape {self.shape} does not fit {len(self.columns)} columns")
        if self.columns is not None and len(set(self.names)) != len(self.names):
            raise ValueError("two columns have the same name")
        if (self.kind == "image") != (self.layout is not None):
            raise ValueError("layout is given for images, and only for images")
        if self.layout is not None and len(self.layout) != len(self.shape):
            raise ValueError(f"layout {self.layout} does not fit shape {self.shape}")
        return self


class Latent(_Part):
    """The latent space. "graph" means that prior.onnx, or posterior.onnx, draws from it."""

    dim: int = Field(gt=0)
    prior: Literal["standard-normal", "graph"] = "standard-normal"
    posterior: Literal["diagonal-gaussian", "graph"] = "diagonal-gaussian"


class Likelihood(_Part):
    """p(x given z) of some columns, or of every feature. *support* is checked only where it is evaluated."""

    family: Literal[
        "bernoulli",
        "continuous-bernoulli",
        "gaussian",
        "student-t",
        "discretised-logistic",
        "categorical",
        "ordinal",
        "poisson",
        "negative-binomial",
    ]
    columns: tuple[str, ...] | None = Field(None, description="null: all")
    support: Literal["real", "binary", "interval", "count", "index"]
    low: float | None = None
    high: float | None = None
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class Tensor(_Part):
    """One tensor of a graph; a string in *shape* names a free axis."""

    name: str
    dtype: Literal["float32", "float64", "int64", "bool"]
    shape: tuple[int | str, ...]


class Graph(_Part):
    """One ONNX file and its tensors."""

    file: str
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    outputs: tuple[Tensor, ...] = Field(min_length=1)


class Capabilities(_Part):
    """What may be asked of this bundle; anything else is refused by name."""

    operations: tuple[Operation, ...] = Field(min_length=1)
    score_kinds: tuple[ScoreKind, ...] = ()
    kl: Literal["analytic", "monte-carlo"] = "analytic"
    conditions: tuple[str, ...] = ()
    draw: bool = False
    missing: bool = False


class Threshold(_Part):
    """A row is anomalous at *alpha* when its score is greater than *threshold*, in nats."""

    alpha: Alpha
    threshold: float
    false_alarm_rate: tuple[float, float] = Field(description="central 90 % interval of the real rate")


class Calibrated(_Part):
    """One set of calibration scores in calibration.npz, and the usual thresholds read off it."""

    kind: ScoreKind
    samples: int = Field(gt=0, description="K, the number of latent draws")
    group: str = "all"
    mask_bin: int = Field(0, ge=0)
    rows: int = Field(gt=0)
    thresholds: tuple[Threshold, ...] = ()

    @property
    def key(self) -> str:
        """The name of its scores in calibration.npz."""
        return f"scores/{self.kind}/{self.samples}/{self.group}/{self.mask_bin}"

    @property
    def features_key(self) -> str:
        """The name of its per-feature scores in calibration.npz, where the kind has an explanation."""
        return f"features/{self.kind}/{self.samples}/{self.group}/{self.mask_bin}"


class Scoring(_Part):
    """What anomaly-score does when the caller does not say."""

    kind: ScoreKind = "nll"
    samples: int = Field(16, gt=0)
    alpha: Alpha = 0.01


class Data(_Part):
    """The rows that the model was made from."""

    hash: str = Field(description="SHA-256 of the array after loading, before the split")
    rows: dict[str, int] = Field(description="by split: train, validation, calibration, test")


class Manifest(_Part):
    """manifest.json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Name
    version: int = Field(gt=0)
    created: str = Field(description="UTC, ISO 8601")
    code_commit: str | None = None
    trained: bool = Field(True, description="false: weights as initialised, for benchmarks only")
    data: Data
    training: dict[str, JsonValue] = Field(default_factory=dict, description="configuration of the fit")
    capabilities: Capabilities
    inputs: Inputs
    latent: Latent
    likelihood: tuple[Likelihood, ...] = Field(min_length=1)
    graphs: dict[GraphName, Graph]
    scoring: Scoring = Scoring()
    calibrated: tuple[Calibrated, ...] = ()
    evaluation: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _parts_belong_together(self) -> Self:
        for operation in self.capabilities.operations:
            for graph in NEEDS[operation]:
                if graph not in self.graphs:
                    raise ValueError(f"operation {operation} needs the graph {graph}")
        optional: dict[GraphName, bool] = {
            "observe": self.capabilities.draw,
            "prior": self.latent.prior == "graph",
            "posterior": self.latent.posterior == "graph",
        }
        for name, wanted in optional.items():
            if wanted != (name in self.graphs):
                raise ValueError(f"graph {name}: the rest of the manifest says {'there' if wanted else 'not there'}")
        files = [graph.file for graph in self.graphs.values()]
        if len(set(files)) != len(files):
            raise ValueError("two graphs name the same file")
        calibrated = {(entry.kind, entry.samples) for entry in self.calibrated}
        if "anomaly-score" in self.capabilities.operations:
            if not calibrated:
                raise ValueError("anomaly-score is offered, but no score is calibrated")
            if (self.scoring.kind, self.scoring.samples) not in calibrated:
                raise ValueError(f"the default score {self.scoring.kind}, K = {self.scoring.samples} is not calibrated")
        for kind, _ in calibrated:
            if kind not in self.capabilities.score_kinds:
                raise ValueError(f"{kind} is calibrated, but not among the score kinds")
        return self
