"""
The manifest of a bundle: what the model is, what it takes, what it can do.

Only the schema. It is written by `training`, read by `service`, and knows neither files nor HTTP.
A change that an older reader would misread raises SCHEMA_VERSION.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, JsonValue, model_validator

from service.calibrated import ALL, Calibrated, Groups, ScoreKind, Scoring
from service.inputs import Inputs, Part

SCHEMA_VERSION: Final = 1

Operation = Literal["encode", "decode", "sample", "interpolate", "reconstruct", "anomaly-score"]
GraphName = Literal["encoder", "decoder", "scorer", "observe", "prior", "posterior"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

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
    members: int = Field(
        1,
        gt=0,
        description="M, the VAEs that scorer.onnx is a mixture of: its log_w and log_px_z have the K draws of one "
        "after the other, its kl and mu the L latents; the other graphs are those of the first",
    )
    scoring: Scoring = Scoring()
    calibrated: tuple[Calibrated, ...] = Field((), description="the scores that may be asked for")
    mask_bins: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (),
        description="upper ends of the bins of the share of missing values among the columns that may be missing; "
        "mask_bin 0 is of rows where none is missing, mask_bin i of shares above mask_bins[i-2] up to mask_bins[i-1]; "
        "none where no value may be missing",
        examples=[[0.1, 0.25, 0.5, 1.0]],
    )
    groups: Groups | None = Field(None, description="by what column rows are calibrated in groups; null: they are not")
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
        self._check_members()
        self._check_groups()
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

    def _check_members(self) -> None:
        scorer = self.graphs.get("scorer")
        for tensor in () if scorer is None else scorer.outputs:
            if tensor.name in ("kl", "mu") and tensor.shape[-1:] != (self.members * self.latent.dim,):
                raise ValueError(
                    f"graph scorer: {tensor.name} is {tensor.shape}, of {self.members} members with {self.latent.dim} "
                    "latents each"
                )
        for entry in self.calibrated:
            if entry.folds and (len(entry.folds) != self.members or sum(entry.folds) != entry.rows):
                raise ValueError(
                    f"{entry.kind} is calibrated on folds of {entry.folds} rows, for {self.members} members and "
                    f"{entry.rows} rows"
                )

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

    def _check_groups(self) -> None:
        names = () if self.groups is None else self.groups.names
        if self.groups is not None and self.groups.column not in [c.name for c in self.inputs.columns or ()]:
            raise ValueError(f"groups are by {self.groups.column!r}, which is no column")
        if len(set(names)) != len(names) or ALL in names:
            raise ValueError(f"groups must have names of their own, and none may be {ALL!r}")
        if self.groups is not None:
            values = self.groups.values
            if len(self.groups.rows) != len(names) or (values is not None and len(values) != len(names)):
                raise ValueError(f"{len(names)} groups need as many rows, and values where there are any")
            if values is not None and sorted(set(values)) != list(values):
                raise ValueError("the values of groups do not ascend")
        every = {(e.kind, e.samples, e.mask_bin): e.rows for e in self.calibrated if e.group == ALL}
        for entry in self.calibrated:
            if entry.group not in (ALL, *names):
                raise ValueError(f"{entry.kind} is calibrated for the group {entry.group!r}, which there is not")
            if entry.rows > every.get((entry.kind, entry.samples, entry.mask_bin), 0):
                raise ValueError(f"{entry.kind} has more calibration rows in {entry.group!r} than in {ALL!r}")
