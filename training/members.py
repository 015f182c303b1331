"""
The scorer of an ensemble as a graph: that of one member, as often as there are members, with the weights of each.

Members are of one configuration, so one of them is traced, and what puts all together. Whether the whole computes what
the members do is the question of `parity`. B rows, K draws, L latents, C features, M members.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from service.manifest import Graph
from service.manifest import Tensor as TensorSpec
from training.graphs import specs
from training.models.mlp import VAE, alone
from training.scorer_graph import Drawn, Draws, scored, stacked

MEMBER: Final = "member"
TOGETHER: Final = "together"
PART: Final = re.compile(r"^parts\.\d+\.")
"""What the name of a weight begins with where modules are traced side by side."""


class _Member(nn.Module):
    """x, eps, (mask) -> `Drawn`."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.draws = Draws(vae)

    def forward(self, x: Tensor, eps: Tensor, mask: Tensor | None = None) -> Drawn:
        """(B, *shape), (K, L), (B, C) bool."""
        drawn: Drawn = self.draws(x, mask, eps)
        return drawn


class _Together(nn.Module):
    """(mask), eps and what is drawn of each member, one after the other -> the outputs of the scorer."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.inputs, self.members = vae.inputs, len(vae.members)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """(B, C) bool, (K, L), and M times those of `Drawn`."""
        at = 1 + self.inputs.masked
        mask, eps, drawn = tensors[0] if self.inputs.masked else None, tensors[at - 1], tensors[at:]
        size = len(Drawn._fields)
        members = [Drawn(*drawn[i : i + size]) for i in range(0, len(drawn), size)]
        return scored(stacked(members), mask, eps, self.inputs, self.members)


def pieces(vae: VAE) -> dict[str, tuple[nn.Module, Graph]]:
    """
    What is traced in the place of the scorer of an ensemble, with the tensors of each.

    The member is a copy: weights that it shares with other graphs would be traced as theirs.
    """
    scorer = specs(vae)["scorer"]
    x, *mask, eps = scorer.inputs
    drawn, each = _drawn(vae), range(len(vae.members))
    parts = tuple(tensor.model_copy(update={"name": f"{tensor.name}_{m}"}) for m in each for tensor in drawn)
    return {
        MEMBER: (
            _Member(alone(vae)).train(mode=False),
            Graph(file="member.onnx", inputs=(x, eps, *mask), outputs=drawn),
        ),
        TOGETHER: (
            _Together(vae).train(mode=False),
            Graph(file="together.onnx", inputs=(*mask, eps, *parts), outputs=scorer.outputs),
        ),
    }


def _drawn(vae: VAE) -> tuple[TensorSpec, ...]:
    features, latent = vae.inputs.features, vae.config.latent_dim
    shapes: dict[str, tuple[int | str, ...]] = {
        **dict.fromkeys(("log_w", "log_px_z", "ratio", "log_weights"), ("batch", "draws")),
        **dict.fromkeys(("kl", "mu"), ("batch", latent)),
        "energy": ("batch", "draws", features),
        "peak": (features,),
        **dict.fromkeys(("expected", "lower", "upper"), ("batch", features)),
    }
    ends = dict.fromkeys(("expected", "lower", "upper"), vae.inputs.dtype)
    return tuple(TensorSpec(name=n, dtype=ends.get(n, "float32"), shape=shapes[n]) for n in Drawn._fields)


def put_together(vae: VAE, member: onnx.GraphProto, together: onnx.GraphProto, name: str) -> onnx.GraphProto:
    """
    The graph of the scorer, from those of `pieces`; its own tensors and free sizes begin with *name*, as theirs do.

    What is no weight is the same in all members.
    """
    made = onnx.GraphProto(name=name)
    outer = {value.name: value.name.replace(MEMBER, name, 1) for value in member.input}
    drawn = [value.name for value in together.input][-len(vae.members) * len(member.output) :]
    for m, own in enumerate(vae.members):
        ends = dict(zip((value.name for value in member.output), drawn[m * len(member.output) :], strict=False))
        _add(made, member, outer | ends, f"{m}.", _weights(_Member(own)))
    ends = {end.name: end.name.replace(TOGETHER, name, 1) for end in (*together.input, *together.output)}
    _add(made, together, ends | dict(zip(drawn, drawn, strict=True)), "all.", {})
    for ours, theirs, names in ((made.input, member.input, outer), (made.output, together.output, ends)):
        for value in theirs:
            ours.add().CopyFrom(_renamed(value, names[value.name], name))
    return made


def _renamed(value: onnx.ValueInfoProto, name: str, graph: str) -> onnx.ValueInfoProto:
    """*value* with this *name*, and with free sizes that are of *graph*."""
    made = onnx.ValueInfoProto(name=name, type=value.type)
    for size in (size for size in made.type.tensor_type.shape.dim if size.dim_param):
        size.dim_param = size.dim_param.replace(MEMBER, graph).replace(TOGETHER, graph)
    return made


def _weights(module: nn.Module) -> dict[str, NDArray[np.generic]]:
    found = itertools.chain(module.named_parameters(), module.named_buffers())
    return {name: tensor.detach().numpy() for name, tensor in found}


def _add(
    to: onnx.GraphProto,
    graph: onnx.GraphProto,
    ends: Mapping[str, str],
    prefix: str,
    weights: Mapping[str, NDArray[np.generic]],
) -> None:
    """The nodes of *graph*, its *ends* and all else renamed, and its initializers, or *weights* in their places."""

    def named(old: str) -> str:
        return ends.get(old, prefix + old) if old else old  # an input that is left out has no name

    for node in graph.node:
        own = to.node.add()
        own.CopyFrom(node)
        own.name = prefix + node.name
        own.input[:], own.output[:] = map(named, node.input), map(named, node.output)
    for value in graph.value_info:
        to.value_info.add().CopyFrom(_renamed(value, named(value.name), to.name))
    for tensor in graph.initializer:
        of_module, weight = PART.sub("", tensor.name), to.initializer.add()
        weight.CopyFrom(numpy_helper.from_array(weights[of_module]) if of_module in weights else tensor)
        weight.name = named(tensor.name)
