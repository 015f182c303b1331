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
from service.codec.tensors import Raw
from service.manifest import Operation
from service.operations import TASKS, Rows, Served

BACKEND = "onnxruntime"
PLATFORM = "onnxruntime_onnx"
RENAMED = {"outputs": "mean", "latents": "z", "scores": "score", "p_values": "p_value"}
"""Tensors that have another name than the field of a reply that they are."""

FREE = -1


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model; *shape* with FREE axes. *needs*: the parameter that an output is there with."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    needs: str | None = None

    def described(self) -> dict[str, Any]:
        """As metadata has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def configured(self, batched: bool) -> dict[str, Any]:
        """As a configuration has it: without the axis of the batch, where there is one."""
        dims = self.shape[1:] if batched and self.shape[0] == FREE else self.shape
        return {"name": self.name, "data_type": f"TYPE_{self.datatype}", "dims": [str(size) for size in dims]}


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
        """What a body without JSON is: one row of the one input."""
        if len(self.inputs) != 1:
            return None
        tensor = self.inputs[0]
        return Raw(tensor.name, tensor.datatype, tuple(1 if size == FREE else size for size in tensor.shape))


class Catalog:
    """The models of what is served; *rows* with the names of their tensors; *most_elements* of a request's JSON."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.version = str(served.manifest.version)
        self.rows = Rows(replace(served.rows.inputs, field="x"), replace(served.rows.latents, field="z"))
        self.most_elements = most_elements(self.rows, served.max_rows)
        able = served.manifest.capabilities.operations
        self.models = {model.op: model for model in _models(served) if model.op in able}

    def metadata(self, model: Model) -> dict[str, Any]:
        """What GET /v2/models/{model} says."""
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
                "request": {name: about for name, about in options.items() if name not in _TENSOR_OPTIONS},
                "response": ["bundle_id", *model.told],
                "optional_inputs": [tensor.name for tensor in model.inputs] if len(model.inputs) > 1 else [],
                "optional_outputs": [
                    {**tensor.described(), "needs": tensor.needs} for tensor in model.outputs if tensor.needs
                ],
                "max_rows": self.served.max_rows,
            },
        }

    def config(self, model: Model) -> dict[str, Any]:
        """What GET /v2/models/{model}/config says."""
        optional = {"optional": True} if len(model.inputs) > 1 else {}
        return {
            "name": model.op,
            "platform": PLATFORM,
            "backend": BACKEND,
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": self.served.max_rows if model.batched else 0,
            "dynamic_batching": {},
            "input": [{**tensor.configured(model.batched), **optional} for tensor in model.inputs],
            "output": [tensor.configured(model.batched) for tensor in model.outputs if tensor.needs is None],
            "parameters": {"bundle_id": {"string_value": str(self.served.model["bundle_id"])}},
        }

    def index(self) -> list[dict[str, str]]:
        """What POST /v2/repository/index says."""
        return [{"name": op, "version": self.version, "state": "READY", "reason": ""} for op in self.models]


_TENSOR_OPTIONS = {"count"}  # options that an input tensor gives


def _models(served: Served) -> list[Model]:
    x, z = _rows("x", served.rows.inputs), _rows("z", served.rows.latents)
    latent = served.rows.latents.shape[0]
    mean = Tensor("mean", _graph_datatype(served, "mean"), (FREE, *served.rows.inputs.shape))
    codes = Tensor("z", "FP32", (FREE, latent))
    return [
        Model(
            "encode",
            (x,),
            (
                Tensor("mu", _graph_datatype(served, "mu"), (FREE, latent)),
                Tensor("logvar", _graph_datatype(served, "logvar"), (FREE, latent)),
                Tensor("z", "FP32", (FREE, FREE, latent), needs="draws"),
            ),
            told=("seed",),
        ),
        Model("decode", (z,), (mean,)),
        Model("sample", (Tensor("count", "INT64", (1,)),), (codes, mean), batched=False, told=("seed",)),
        Model(
            "interpolate", (x, z), (Tensor("alphas", "FP64", (FREE,)), codes, mean), batched=False, told=("degenerate",)
        ),
        Model("reconstruct", (x,), (mean,)),
        Model("anomaly-score", (x,), _SCORES, told=("kind", "samples", "alpha", "reason")),
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
