"""
From PyTorch to ONNX: the bytes of each graph. Whether they compute the same is the question of `parity`.

The example batch has three rows and two draws, because sizes 0 and 1 are specialised when a graph is traced.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from service import onnx_file
from service.manifest import Graph, GraphName
from training.errors import TrainingError
from training.graphs import modules, specs
from training.models.mlp import VAE

_EXAMPLE = {"batch": 3, "draws": 2}
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bool": torch.bool}


def export_graphs(vae: VAE) -> dict[GraphName, bytes]:
    """
    The ONNX bytes of each graph: one file, standard operators, axes "batch" and "draws" free.

    Raises TrainingError where the exporter gave anything else.
    """
    listed = specs(vae)
    return {name: _export(name, module, listed[name]) for name, module in modules(vae).items()}


def _export(name: str, module: nn.Module, graph: Graph) -> bytes:
    example = tuple(
        torch.zeros(
            [_EXAMPLE[size] if isinstance(size, str) else size for size in tensor.shape], dtype=_DTYPES[tensor.dtype]
        )
        for tensor in graph.inputs
    )
    free = {axis: torch.export.Dim(axis) for axis in _EXAMPLE}
    dynamic = tuple(
        {i: free[size] for i, size in enumerate(tensor.shape) if isinstance(size, str)} for tensor in graph.inputs
    )
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module,
            example,
            input_names=[tensor.name for tensor in graph.inputs],
            output_names=[tensor.name for tensor in graph.outputs],
            dynamic_shapes=dynamic,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise TrainingError(f"{name}.onnx: the exporter gave no program")
    _strip(program.model)
    model: bytes = program.model_proto.SerializeToString()
    if reason := onnx_file.refusal(model):
        raise TrainingError(f"{name}.onnx: {reason}")
    listed, traced = (*graph.inputs, *graph.outputs), (*program.model.graph.inputs, *program.model.graph.outputs)
    for tensor, value in zip(listed, traced, strict=True):
        axes = tuple(size if isinstance(size, int) else str(size) for size in value.shape or ())
        if (value.name, axes) != (tensor.name, tensor.shape):
            raise TrainingError(f"{name}.onnx: {value.name} has the axes {axes}; {tensor.name} needs {tensor.shape}")
    return model


def _strip(model: Any) -> None:
    """Take out the exporter's notes for debugging: stack traces, with the paths of this machine."""
    graph = model.graph
    produced = (value for node in graph for value in node.outputs)
    for part in (graph, *graph, *graph.inputs, *graph.initializers.values(), *produced):
        part.metadata_props.clear()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No chatter: the exporter prints its progress, and warns of its own deprecations. Failures are exceptions."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
