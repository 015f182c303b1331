"""A fitted network in the place of an engine: an export takes longer than all the rest of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from service.engine import Engine
from training.graphs import modules, specs
from training.models.mlp import VAE

Array = NDArray[np.generic]


def scorer(vae: VAE) -> Engine:
    """What runs the scorer of *vae*, by PyTorch; every export is checked to give the same numbers."""
    return cast("Engine", _Modules(vae))  # of an engine, calibration and evaluation use `run` alone


class _Modules:
    """The scorer of *vae*, as it is exported."""

    def __init__(self, vae: VAE) -> None:
        self._scorer, self._spec = modules(vae)["scorer"], specs(vae)["scorer"]

    def run(self, graph: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """As `Engine.run` does."""
        if graph != "scorer":
            raise ValueError(f"{graph} is not the scorer")
        with torch.no_grad():
            values = self._scorer(*(torch.from_numpy(inputs[tensor.name]) for tensor in self._spec.inputs))
        found = {tensor.name: value.numpy() for tensor, value in zip(self._spec.outputs, values, strict=True)}
        return {name: found[name] for name in outputs}
