"""
The operations of one bundle as models of the Open Inference Protocol: their tensors, parameters and metadata.

Tensors have the names that the graphs give them (x, z, mu, logvar, mean), scores the singular of the fields of /v1.
Knows bundles and names; nothing of bodies or HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from service.codec.bound import most_elements
from service.codec.datatypes import name_of
from service.codec.rows import RowSpec
from service.codec.table import RECORDS
from service.codec.tensors import Raw
from service.manifest import Operation
from service.operations import TASKS
from service.served import Rows, Served

BACKEND = "onnxruntime"
PLATFORM = "onnxruntime_onnx"
RENAMED = {
    "outputs": "mean",
    "latents": "z",
    "scores": "score",
    "p_values": "p_value",
    "adjusted_p_values": "adjusted_p_value",
}
"""Tensors that have another name than the field of a reply that they are."""

FREE = -1
MASK = "mask"
"""The input that says which values of x are observed, where some may be missing."""
DRAWN = "x"
"""The output that is a draw and not the mean."""


@dataclass(frozen=True)
class Tensor:
    """
    One tensor of a model; *shape* with FREE axes.

    *needs*: the parameter that an output is there with. *optional*: an input that need not be given.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    needs: str | None = None
    optional: bool = False

    def described(self) -> dict[str, Any]:
        """As metadata has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def configured(self, batched: bool) -> dict[str, Any]:
        """As a configuration has it: without the axis of the batch, where there is one."""
        dims = self.shape[1:] if batched and self.shape[0] == FREE else self.shape
        told = {"name": self.name, "data_type": f"TYPE_{self.datatype}", "dims": [str(size) for size in dims]}
        return {**told, "optional": True} if self.optional else told


@dataclass(frozen=True)
class Model:
    """
    One operation as a model.

    *batched*: the first axis is that of independent rows, of inputs and of outputs. *told*: the fields of its reply
    that are parameters of the response, and no tensors.
    """

    op: Operation
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batched: bool = True
    told: tuple[str, ...] = ()

    @cached_property
    def raw(self) -> Raw | None:
        """What a body without JSON is: one row of the one input that a request needs."""
        needed = [tensor for tensor in self.inputs if not tensor.optional]
        if len(needed) != 1:
            return None
        tensor = needed[0]
        return Raw(tensor.name, tensor.datatype, tuple(1 if size == FREE else size for size in tensor.shape))


class Catalog:
    """The models of what is served; *rows* with the names of their tensors; *most_elements* of a request's JSON."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.version = str(served.manifest.version)
        self.rows = Rows(replace(served.rows.inputs, field="x", table=None), replace(served.rows.latents, field="z"))
        self.most_elements = most_elements(self.rows, served.max_rows)
        able = served.manifest.capabilities.operations
        self.models = {model.op: model for model in _models(served) if model.op in able}

    def metadata(self, model: Model) -> dict[str, Any]:
        """What GET /v2/models/{model} says."""
        inputs = self.served.manifest.inputs
        columns, windows = inputs.columns, inputs.windows
        options = TASKS[model.op].options.model_json_schema()["properties"]
        return {
            "name": model.op,
            "versions": [self.version],
            "platform": PLATFORM,
            "inputs": [tensor.described() for tensor in model.inputs],
            "outputs": [tensor.described() for tensor in model.outputs if tensor.needs is None],
            "parameters": {
                "about": TASKS[model.op].about,
                "bundle": self.served.model,
                "request": {name: about for name, about in options.items() if name not in NO_PARAMETERS},
                "response": ["bundle_id", *model.told],
                "optional_inputs": [tensor.name for tensor in model.inputs if tensor.optional],
                "optional_outputs": [
                    {**tensor.described(), "needs": tensor.needs} for tensor in model.outputs if tensor.needs
                ],
                "max_rows": self.served.max_rows,
                **({} if columns is None else {"columns": [column.model_dump() for column in columns]}),
                **({} if windows is None else {"windows": windows.model_dump()}),
            },
        }

    def config(self, model: Model) -> dict[str, Any]:
        """What GET /v2/models/{model}/config says."""
        return {
            "name": model.op,
            "platform": PLATFORM,
            "backend": BACKEND,
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": self.served.max_rows if model.batched else 0,
            "dynamic_batching": {},
            "input": [tensor.configured(model.batched) for tensor in model.inputs],
            "output": [tensor.configured(model.batched) for tensor in model.outputs if tensor.needs is None],
            "parameters": {"bundle_id": {"string_value": str(self.served.model["bundle_id"])}},
        }

    def index(self) -> list[dict[str, str]]:
        """What POST /v2/repository/index says."""
        return [{"name": op, "version": self.version, "state": "READY", "reason": ""} for op in self.models]


NO_PARAMETERS = {"count", RECORDS}
"""Options that an input gives, or that tensors have no form for."""


def _models(served: Served) -> list[Model]:
    inputs = served.manifest.inputs
    x: tuple[Tensor, ...] = (_rows("x", served.rows.inputs),)
    z = _rows("z", served.rows.latents)
    scores = _SCORES
    if served.rows.inputs.missing:
        x += (Tensor(MASK, "BOOL", x[0].shape, optional=True),)
        scores += _MISSING
    if inputs.windows is not None:
        scores += _WINDOWS
    by_row = inputs.windows is None  # else x is one series, of which the rows are made
    latent = served.rows.latents.shape[0]
    mean = Tensor("mean", _graph_datatype(served, "mean"), (FREE, *inputs.shape))
    drawn = (replace(mean, name=DRAWN, needs="draw"),) if served.manifest.capabilities.draw else ()
    codes = Tensor("z", "FP32", (FREE, latent))
    return [
        Model(
            "encode",
            x,
            (
                Tensor("mu", _graph_datatype(served, "mu"), (FREE, latent)),
                Tensor("logvar", _graph_datatype(served, "logvar"), (FREE, latent)),
                Tensor("z", "FP32", (FREE, FREE, latent), needs="draws"),
            ),
            batched=by_row,
            told=("seed",),
        ),
        Model("decode", (z,), (mean, *drawn), told=("seed",)),
        Model("sample", (Tensor("count", "INT64", (1,)),), (codes, mean), batched=False, told=("seed",)),
        Model(
            "interpolate",
            tuple(replace(tensor, optional=True) for tensor in (x[0], z, *x[1:])),
            (Tensor("alphas", "FP64", (FREE,)), codes, mean),
            batched=False,
            told=("degenerate",),
        ),
        Model("reconstruct", x, (mean,), batched=by_row),
        Model("anomaly-score", x, scores, by_row, ("kind", "samples", "alpha", "fdr", "least_discoveries", "reason")),
    ]


def _graph_datatype(served: Served, output: str) -> str:
    """The datatype of a graph's output; no matter which, where no graph has it."""
    tensors = [tensor for graph in served.manifest.graphs.values() for tensor in graph.outputs]
    return name_of(np.dtype(next((tensor.dtype for tensor in tensors if tensor.name == output), "float32")))


def _rows(name: str, spec: RowSpec) -> Tensor:
    return Tensor(name, name_of(spec.dtype), (FREE, *spec.shape))


_SCORES = (
    Tensor("score", "FP64", (FREE,)),
    Tensor("p_value", "FP64", (FREE,)),
    Tensor("is_anomaly", "INT8", (FREE,)),
    Tensor("threshold", "FP64", (1,)),
    Tensor("false_alarm_rate", "FP64", (2,)),
    Tensor("adjusted_p_value", "FP64", (FREE,), needs="fdr"),
    Tensor("is_discovery", "INT8", (FREE,), needs="fdr"),
    *(
        Tensor(f"components.{name}", "FP64", (FREE,), needs="components")
        for name in ("reconstruction", "kl", "latent", "effective_samples")
    ),
    Tensor("explanations.feature", "BYTES", (FREE, FREE), needs="explain"),
    *(
        Tensor(f"explanations.{name}", "FP64", (FREE, FREE), needs="explain")
        for name in ("nats", "p_value", "observed", "expected", "lower", "upper")
    ),
    Tensor("invalid.row", "INT64", (FREE,), needs="on_invalid"),
    Tensor("invalid.reason", "BYTES", (FREE,), needs="on_invalid"),
)
_MISSING = (
    Tensor("missing.row", "INT64", (FREE,)),
    *(Tensor(f"missing.{name}", "FP64", (FREE,)) for name in ("share", "threshold", "lower", "upper")),
)
_WINDOWS = (
    *(Tensor(f"windows.{name}", "INT64", (FREE,)) for name in ("first", "last")),
    Tensor("explanations.sensor", "BYTES", (FREE, FREE), needs="explain"),
    Tensor("explanations.lag", "INT64", (FREE, FREE), needs="explain"),
    Tensor("sensors.sensor", "BYTES", (FREE, FREE), needs="explain"),
    *(Tensor(f"sensors.{name}", "FP64", (FREE, FREE), needs="explain") for name in ("nats", "excess")),
)
