"""
What float32 does not settle: how far a module's outputs move when its weights, and u, move by a rounding or two.

Measured and not reckoned, so that it holds for any network and any likelihood. Where an output moves, two right engines
may differ by as much. B rows, C features.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from service.bundle import Arrays
from service.engine import ATOL, ORIGINAL_UNITS, RTOL
from service.manifest import Graph, GraphName
from training.graphs import modules
from training.models.mlp import VAE

Floats = NDArray[np.float64]

_ROUNDINGS = 2.0**-22  # relative: two units in the last place of a float32, as a standard deviation
_NEIGHBOURS = 6


def neighbours(vae: VAE, seed: int) -> list[dict[GraphName, nn.Module]]:
    """
    The modules of networks that are *vae* up to rounding: each weight times 1 + N(0, _ROUNDINGS^2).

    What the likelihood holds are logarithms: that is added to them, as their exponentials are rounded.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    with torch.no_grad():
        for _ in range(_NEIGHBOURS):
            other = copy.deepcopy(vae)
            for name, value in other.state_dict().items():
                move = _ROUNDINGS * torch.randn(value.shape, generator=generator, dtype=value.dtype)
                if "likelihood" in (parts := name.split(".")):
                    value.add_(move)
                elif "scaling" not in parts:
                    value.mul_(1 + move)
            found.append(modules(other))
    return found


def unsettled(vae: VAE, near: Sequence[nn.Module], graph: Graph, feeds: Arrays, want: Arrays) -> dict[str, Floats]:
    """By output, how far its values are from *want* in any of the modules *near*, as `comparable` has them."""
    exact = {output: comparable(vae, output, value) for output, value in want.items()}
    moved = {output: np.zeros(value.shape) for output, value in exact.items()}
    for i, module in enumerate(near):
        for output, value in run_module(module, graph, _nudged(feeds, _ROUNDINGS * (-1) ** i)).items():
            moved[output] = np.maximum(moved[output], np.abs(comparable(vae, output, value) - exact[output]))
    return moved


def _nudged(feeds: Arrays, by: float) -> Arrays:
    """*feeds* with the uniform numbers moved: where a draw jumps from one value to the next is settled no better."""
    if "u" not in feeds:
        return feeds
    u = np.asarray(feeds["u"], np.float64) * (1 + by)
    return {**feeds, "u": u.clip(0, 1 - 2.0**-24).astype(np.float32)}


def tolerance(vae: VAE, size: Floats) -> Floats:
    """RTOL * *size* + ATOL * sqrt(C): what may lie between two right engines where float32 settles the value."""
    return np.asarray(RTOL * size + ATOL * np.sqrt(vae.inputs.features))


def comparable(vae: VAE, output: str, value: NDArray[np.generic]) -> Floats:
    """In float64; standardised, where *output* is in original units."""
    return standardised(vae, value) if output in ORIGINAL_UNITS else np.asarray(value, np.float64)


def standardised(vae: VAE, value: NDArray[np.generic]) -> Floats:
    """(*value* - center) / scale in float64, in the shape that it has: (B, *shape) or (B, C)."""
    center, scale = vae.scaling.center.double().numpy(), vae.scaling.scale.double().numpy()
    flat: Floats = (value.reshape(len(value), -1).astype(np.float64) - center) / scale
    return flat.reshape(value.shape)


def run_module(module: nn.Module, graph: Graph, feeds: Arrays) -> Arrays:
    """The outputs of a module by name."""
    with torch.no_grad():
        values = module(*(torch.from_numpy(feeds[tensor.name]) for tensor in graph.inputs))
    return {tensor.name: value.numpy() for tensor, value in zip(graph.outputs, values, strict=True)}
