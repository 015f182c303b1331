"""
The manifest of a bundle: what the model is, what it takes, what it can do.

Only the schema. It is written by `training`, read by `service`, and knows neither files nor HTTP.
A change that an older reader would misread raises SCHEMA_VERSION.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, JsonValue, model_validator

from service.inputs import Inputs, Part

SCHEMA_VERSION: Final = 1

Operation = Literal["encode", "decode", "sample", "interpolate", "reconstruct", "anomaly-score"]
ScoreKind = Literal["nll", "neg_elbo", "reconstruction", "kl", "latent", "typicality", "fused"]
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


class Latent(Part):
    """The latent space. "graph" means that prior.onnx, or posterior.onnx, draws from it."""

    dim: int = Field(gt=0, description="L, the number of latents")
    prior: Literal["standard-normal", "graph"] = Field("standard-normal", description="p(z)")
    posterior: Literal["diagonal-gaussian", "graph"] = Field("diagonal-gaussian", description="q(z given x)")


class Likelihood(Part):
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
    ] = Field(description="the family of distributions")
    columns: tuple[str, ...] | None = Field(
        None, description="the columns that it is of; null: every feature", examples=[["speed", "pressure"]]
    )
    support: Literal["real", "binary", "interval", "count", "index"] = Field(
        description="the values that it has a density for; anomaly-score refuses others"
    )
    low: float | None = Field(
        None, description="least value of the support, in original units; null: unbounded", examples=[0.0]
    )
    high: float | None = Field(
        None, description="greatest value of the support, in original units; null: unbounded", examples=[1.0]
    )
    parameters: dict[str, JsonValue] = Field(
        default_factory=dict, description="what was chosen and what came of it, by the family's own names"
    )


class Tensor(Part):
    """One tensor of a graph; a string in *shape* names a free axis."""

    name: str = Field(description="its name in the graph")
    dtype: Literal["float32", "float64", "int64", "bool"] = Field(description="the type of its elements")
    shape: tuple[int | str, ...] = Field(description="its shape; a free axis has a name instead of a size")


class Graph(Part):
    """One ONNX file and its tensors."""

    file: str = Field(description="in the bundle")
    inputs: tuple[Tensor, ...] = Field(min_length=1, description="what it takes")
    outputs: tuple[Tensor, ...] = Field(min_length=1, description="what it gives")


class Capabilities(Part):
    """What may be asked of this bundle; anything else is refused by name."""

    operations: tuple[Operation, ...] = Field(
        min_length=1, description="the operations under /v1, and models under /v2"
    )
    score_kinds: tuple[ScoreKind, ...] = Field((), description="kinds of anomaly-score")
    kl: Literal["analytic", "monte-carlo"] = Field("analytic", description="how KL(q(z given x) || p(z)) is computed")
    conditions: tuple[str, ...] = Field((), description="names of what the model is conditioned on")
    draw: bool = Field(False, description="whether decode can draw from p(x given z)")
    missing: bool = Field(False, description="whether values may be missing")


class Threshold(Part):
    """A row is anomalous at *alpha* when its score is greater than *threshold*, in nats."""

    alpha: Alpha = Field(description="the false-alarm rate aimed at, as a share of normal rows")
    threshold: float = Field(description="what a score must exceed, in nats")
    false_alarm_rate: tuple[float, float] = Field(
        description="lower and upper end of the central 90 % interval of the real rate"
    )


class Calibrated(Part):
    """One set of calibration scores in calibration.npz, and the usual thresholds read off it."""

    kind: ScoreKind = Field(description="the score")
    samples: int = Field(gt=0, description="K, the number of latent draws")
    group: str = Field("all", description="the rows that it is of")
    mask_bin: int = Field(0, ge=0, description="of rows with this share of missing values, by index; 0: none missing")
    rows: int = Field(gt=0, description="calibration rows")
    thresholds: tuple[Threshold, ...] = Field((), description="those of the usual alphas")

    @property
    def key(self) -> str:
        """The name of its scores in calibration.npz."""
        return f"scores/{self.kind}/{self.samples}/{self.group}/{self.mask_bin}"

    @property
    def features_key(self) -> str:
        """The name of its per-feature scores in calibration.npz, where the kind has an explanation."""
        return f"features/{self.kind}/{self.samples}/{self.group}/{self.mask_bin}"

    @property
    def absent_key(self) -> str:
        """The name of what each feature adds to the score of a normal row, (C,), where rows of this bin lack some."""
        return f"absent/{self.kind}/{self.samples}/{self.group}/{self.mask_bin}"

    @property
    def reference_key(self) -> str:
        """The name of what reference rows are like by which typicality and fused are measured, see reference.py."""
        return f"reference/{self.kind}/{self.samples}/{self.mask_bin}"


class Scoring(Part):
    """What anomaly-score does when the caller does not say."""

    kind: ScoreKind = Field("nll", description="the score")
    samples: int = Field(16, gt=0, description="K, the number of latent draws")
    alpha: Alpha = Field(0.01, description="the false-alarm rate, as a share of normal rows")


class Data(Part):
    """The rows that the model was made from."""

    hash: str = Field(description="SHA-256 of the array after loading, before the split")
    rows: dict[str, int] = Field(description="by split: train, validation, calibration, test")


class Manifest(Part):
    """manifest.json: what the model is, what it takes, what it can do."""

    schema_version: Literal[1] = Field(SCHEMA_VERSION, description="of this document")
    name: Name = Field(description="the model's name")
    version: int = Field(gt=0, description="the model's version")
    created: str = Field(description="when: UTC, ISO 8601")
    code_commit: str | None = Field(None, description="the commit of the code that trained it; null: not known")
    trained: bool = Field(True, description="false: weights as initialised, for benchmarks only")
    data: Data
    training: dict[str, JsonValue] = Field(default_factory=dict, description="configuration of the fit")
    capabilities: Capabilities
    inputs: Inputs
    latent: Latent
    likelihood: tuple[Likelihood, ...] = Field(min_length=1, description="p(x given z), by columns")
    graphs: dict[GraphName, Graph] = Field(description="the ONNX files")
    scoring: Scoring = Scoring()
    calibrated: tuple[Calibrated, ...] = Field((), description="the scores that may be asked for")
    mask_bins: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (),
        description="upper ends of the bins of the share of missing values among the columns that may be missing; "
        "mask_bin 0 is of rows where none is missing, mask_bin i of shares above mask_bins[i-2] up to mask_bins[i-1]; "
        "none where no value may be missing",
        examples=[[0.1, 0.25, 0.5, 1.0]],
    )
    evaluation: dict[str, JsonValue] = Field(
        default_factory=dict, description="bounds of log p(x), false alarms and baselines on rows that it has not seen"
    )

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
        self._check_masks()
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

    def _check_masks(self) -> None:
        if self.capabilities.missing != self.inputs.masked:
            raise ValueError("capabilities.missing does not say what the columns say")
        for name, graph in self.graphs.items():
            wanted = self.inputs.masked and any(tensor.name == "x" for tensor in graph.inputs)
            if wanted != any(tensor.name == "mask" for tensor in graph.inputs):
                raise ValueError(f"graph {name} {'takes no mask' if wanted else 'takes a mask that nothing needs'}")
        bins = self.mask_bins
        if bool(bins) != self.inputs.masked:
            raise ValueError("mask_bins are there where values may be missing, and only there")
        if bins and (list(bins) != sorted(set(bins)) or bins[-1] != 1):
            raise ValueError("mask_bins must ascend, and end with 1")
        for entry in self.calibrated:
            if entry.mask_bin > len(bins):
                raise ValueError(f"{entry.kind} is calibrated for mask_bin {entry.mask_bin}; there are {len(bins)}")
