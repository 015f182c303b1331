"""
From PyTorch to ONNX: the bytes of each graph. Whether they compute the same is the question of `parity`.

All graphs of a bundle are traced side by side and cut apart after: what the exporter does once a call, such as reading
its own operators, is more than a small graph takes. The example batch has three rows and two draws, because sizes 0 and
1 are specialised when a graph is traced.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
import onnx_ir
import torch
from torch import Tensor, nn

from service import onnx_file
from service.manifest import Graph, GraphName
from service.manifest import Tensor as TensorSpec
from training import members
from training.errors import TrainingError
from training.graphs import modules, specs
from training.models.mlp import VAE

_EXAMPLE = {"batch": 3, "draws": 2}
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bool": torch.bool}

Rows = tuple[Tensor, ...]


def export_graphs(vae: VAE, only: tuple[GraphName, ...] = ()) -> dict[GraphName, bytes]:
    """
    The ONNX bytes of each graph, or of some: one file, standard operators, axes "batch" and "draws" free.

    Raises TrainingError where the exporter gave anything else.
    """
    built = modules(vae)
    listed = {name: graph for name, graph in specs(vae).items() if not only or name in only}
    parts: dict[str, tuple[nn.Module, Graph]] = {name: (built[name], graph) for name, graph in listed.items()}
    if len(vae.members) == 1 or "scorer" not in parts:
        model = _traced(parts, optimize=True).model
    else:
        del parts["scorer"]
        model = _with_scorer(vae, parts)
    return {name: _cut(model, name, graph) for name, graph in listed.items()}


class _SideBySide(nn.Module):
    """Modules that know nothing of each other, each with inputs and outputs of its own."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, feeds: tuple[Rows, ...]) -> tuple[Rows, ...]:
        """The tensors of each, one after the other."""
        return tuple(part(*own) for part, own in zip(self.parts, feeds, strict=True))


def _traced(parts: Mapping[str, tuple[nn.Module, Graph]], optimize: bool) -> torch.onnx.ONNXProgram:
    """One program of all *parts*, in which tensors are named after their graph: "scorer.x"."""
    listed = {name: graph for name, (_, graph) in parts.items()}
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            _SideBySide([module for module, _ in parts.values()]),
            (tuple(tuple(_example(tensor) for tensor in graph.inputs) for graph in listed.values()),),
            input_names=[name for graph, own in listed.items() for name in _named(graph, own.inputs)],
            output_names=[name for graph, own in listed.items() for name in _named(graph, own.outputs)],
            dynamic_shapes=(tuple(tuple(_free(graph, t) for t in own.inputs) for graph, own in listed.items()),),
            dynamo=True,
            external_data=False,
            verbose=False,
            optimize=optimize,
        )
    if program is None:
        raise TrainingError(f"{', '.join(listed)}: the exporter gave no program")
    return program


def _with_scorer(vae: VAE, others: Mapping[str, tuple[nn.Module, Graph]]) -> Any:
    """The onnx_ir.Model of *others* and of the scorer, which is traced in pieces and put together."""
    pieces = members.pieces(vae)
    program = _traced({**others, **pieces}, optimize=False)
    weights = [key for key in program.model.graph.initializers if key.startswith(f"parts.{len(others)}.")]
    with _free_to_change(program.model.graph, weights), _quiet():
        program.optimize()

    def proto(parts: Mapping[str, tuple[nn.Module, Graph]]) -> onnx.GraphProto:
        inputs = [name for of, (_, own) in parts.items() for name in _named(of, own.inputs)]
        outputs = [name for of, (_, own) in parts.items() for name in _named(of, own.outputs)]
        return onnx_ir.to_proto(onnx_ir.convenience.extract(program.model.graph, inputs, outputs))

    model = onnx_ir.to_proto(program.model)
    member, together = (proto({name: piece}) for name, piece in pieces.items())
    model.graph.CopyFrom(members.put_together(vae, member, together, "scorer"))
    if others:
        model.graph.MergeFrom(proto(others))
    return onnx_ir.from_proto(model)


@contextlib.contextmanager
def _free_to_change(graph: Any, weights: Sequence[str]) -> Iterator[None]:
    """*weights* are inputs of *graph* while it is optimised: no constant is made of what members differ in."""
    kept = [(value := graph.initializers.pop(key), value.const_value) for key in weights]
    for value, _ in kept:
        value.const_value = None
        graph.inputs.append(value)
    yield
    for value, tensor in kept:
        graph.inputs.remove(value)
        value.const_value = tensor
        graph.register_initializer(value)


def _named(graph: str, tensors: Sequence[TensorSpec]) -> list[str]:
    return [f"{graph}.{tensor.name}" for tensor in tensors]


def _example(tensor: TensorSpec) -> Tensor:
    sizes = [_EXAMPLE[size] if isinstance(size, str) else size for size in tensor.shape]
    return torch.zeros(sizes, dtype=_DTYPES[tensor.dtype])


def _free(graph: str, tensor: TensorSpec) -> dict[int, Any]:
    """Sizes that are free, of each graph its own: else one would ask the tensors of another for their sizes."""
    return {i: torch.export.Dim(f"{graph}_{size}") for i, size in enumerate(tensor.shape) if isinstance(size, str)}


def _cut(model: Any, name: GraphName, graph: Graph) -> bytes:
    """The graph of this name, with the names of its tensors and axes as a bundle has them."""
    part = onnx_ir.convenience.extract(model.graph, _named(name, graph.inputs), _named(name, graph.outputs))
    ends, listed = (*part.inputs, *part.outputs), (*graph.inputs, *graph.outputs)
    weights = {key: part.initializers.pop(key) for key in sorted(part.initializers)}  # cut out in no order
    produced = [value for node in part for value in node.outputs]
    for value in (*ends, *produced):
        value.name = f"{value.name}_"  # so that nothing inside has the name of an end
        if value.shape is not None:
            value.shape = onnx_ir.Shape(_own(name, size) for size in value.shape)
    for value, tensor in zip(ends, listed, strict=True):
        value.name = tensor.name
    for key, value in weights.items():
        value.name = members.PART.sub("", key)
        part.register_initializer(value)
    for noted in (part, *part, *ends, *weights.values(), *produced):  # stack traces, with the paths of this machine
        noted.metadata_props.clear()
    cut = onnx_ir.Model(part, ir_version=model.ir_version, producer_name="pytorch", producer_version=torch.__version__)
    made: bytes = onnx_ir.to_proto(cut).SerializeToString()
    if reason := onnx_file.refusal(made):
        raise TrainingError(f"{name}.onnx: {reason}")
    for value, tensor in zip(ends, listed, strict=True):
        axes = tuple(size if isinstance(size, int) else str(size) for size in value.shape or ())
        if axes != tensor.shape:
            raise TrainingError(f"{name}.onnx: {tensor.name} has the axes {axes}; it needs {tensor.shape}")
    return made


def _own(name: GraphName, size: Any) -> int | str:
    """A size without the name of the graph that it is free in: "5*scorer_draws" is "5*draws"."""
    return size if isinstance(size, int) else str(size).replace(f"{name}_", "")


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
