"""
The exported scorer, run over many rows: what calibration and evaluation have in common with the service.

Arrays in, arrays out; no torch, so that a bundle can be calibrated and evaluated where there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle
from service.engine import Engine
from service.manifest import Inputs
from service.scores import SCORE_OUTPUTS, score

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

_CHUNK_VALUES = 2**22  # numbers in the largest tensor of a run, (B, K, C): 16 MiB


def run_scorer(
    engine: Engine, inputs: Inputs, x: Array, eps: NDArray[np.float32], outputs: Sequence[str]
) -> dict[str, Array]:
    """The scorer's *outputs* for all rows, a chunk at a time: (n, *shape), (K, L) -> (n, ...) each."""
    parts = [
        engine.run("scorer", {"x": rows, "eps": eps}, outputs)
        for rows in chunks(x, inputs, max(1, _CHUNK_VALUES // (len(eps) * inputs.features)))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in outputs}


def scores_of(bundle: Bundle, engine: Engine, x: Array, seed: int = 0) -> dict[str, Floats]:
    """
    The scores of each kind with the default K and the draws of the bundle, as the service has them: (n,) each.

    A bundle without calibration has no draws: then they are drawn by *seed*.
    """
    outputs = run_scorer(engine, bundle.manifest.inputs, x, draws_of(bundle, seed), outputs_of(SCORE_OUTPUTS))
    return {kind: score(kind, outputs) for kind in SCORE_OUTPUTS}


def draws_of(bundle: Bundle, seed: int) -> NDArray[np.float32]:
    """The draws of the default score: (K, L)."""
    samples = bundle.manifest.scoring.samples
    if len(bundle.eps):
        return bundle.eps[:samples]
    generator = np.random.default_rng([seed, 6])
    return generator.standard_normal((samples, bundle.manifest.latent.dim), np.float32)


def chunks(x: Array, inputs: Inputs, most: int) -> Iterator[Array]:
    """The rows as the graphs take them, at most *most* at a time."""
    for start in range(0, len(x), most):
        yield np.ascontiguousarray(x[start : start + most], inputs.dtype)


def outputs_of(kinds: Iterable[str], table: Mapping[str, tuple[str, ...]] = SCORE_OUTPUTS) -> tuple[str, ...]:
    """The scorer's outputs that *kinds* need, each once."""
    return tuple(dict.fromkeys(output for kind in kinds for output in table[kind]))
