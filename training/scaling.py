"""
Standardisation as a part of the model: original units in, original units out, so that clients send what they have.

v = clamp((x - center) / scale): in the dtype of the inputs (float64 for tables, because an epoch time loses minutes
in float32), then float32. The clamp keeps every score finite for every finite input. Knows nothing of networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service.manifest import Inputs
from training.errors import DataError
from training.likelihoods import SIGMA_MIN

Array = NDArray[np.generic]

_CHUNK_VALUES = 2**22


class Scaling(nn.Module):
    """
    The affine map of `inputs`, and its inverse.

    *identity*: values pass as they are, only clamped (binary data; the benchmark bundle).
    """

    center: Tensor
    scale: Tensor

    def __init__(self, inputs: Inputs, identity: bool) -> None:
        super().__init__()
        dtype = torch.float64 if inputs.dtype == "float64" else torch.float32
        self.identity = identity
        self.clamp = inputs.clamp
        self.register_buffer("center", torch.zeros(inputs.features, dtype=dtype))
        self.register_buffer("scale", torch.ones(inputs.features, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise: (B, *shape) -> (B, C) float32, between -clamp and clamp."""
        v = x.flatten(1)
        if not self.identity:
            v = (v - self.center) / self.scale
        return v.clamp(-self.clamp, self.clamp).float()

    def restore(self, v: Tensor) -> Tensor:
        """Original units: (..., C) float32 -> (..., C) in the dtype of the inputs."""
        v = v.to(self.center.dtype)
        return v if self.identity else v * self.scale + self.center


def moments(x: Array, inputs: Inputs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Center and scale of each feature, (C,) each: mean and standard deviation of the rows *x*.

    A column each for tables; one pair for all pixels of an image or values of an array, so that a pixel that never
    changes stays comparable to its neighbours. A constant column c gets the scale min(1, |c|), or 1 where c is 0:
    any other value is then far away.
    Raises DataError where a standard deviation is too large for a float64.
    """
    by_column = inputs.kind == "table"
    count = len(x) * (1 if by_column else inputs.features)
    with np.errstate(over="ignore", invalid="ignore"):
        first = _rows(x, slice(0, 1))[0]
        shift = first if by_column else np.full(inputs.features, first.mean())
        total = _total(((rows - shift).sum(axis=0) for rows in _chunks(x)), by_column)
        center = shift + total / count
        squares = _total((np.square(rows - center).sum(axis=0) for rows in _chunks(x)), by_column)
        scale = np.sqrt(squares / count)
    for c in np.flatnonzero(~np.isfinite(scale) | ~np.isfinite(center)):
        raise DataError(f"{inputs.names[c]}: its values are too large to standardise")
    negligible = scale <= 1e-12 * np.abs(center)  # a constant, up to the rounding of its mean
    spare = np.minimum(1.0, np.where(center == 0, 1.0, np.abs(center)))
    return center, np.where(negligible, spare, scale)


def log_sigma_floor(x: Array, inputs: Inputs, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    The least log sigma of each feature, standardised: log max(0.001, gap / sqrt 12), (C,).

    *gap* is the smallest difference between two values of a column (of a table) or of any pixels (of an image).
    Values recorded to within *gap* are uncertain by gap / sqrt 12; without the floor a column of integers, or one
    with many zeros, has unbounded density and owns the score.
    """
    sample = _rows(x, slice(0, 20000))
    columns = sample.T if inputs.kind == "table" else sample.reshape(1, -1)
    gaps = np.array([_smallest_gap(column) for column in columns])
    floor: NDArray[np.float64] = np.log(np.maximum(SIGMA_MIN, gaps / math.sqrt(12) / scale))
    return floor


def _smallest_gap(values: NDArray[np.float64]) -> float:
    distinct = np.unique(values)
    return float(np.diff(distinct).min()) if len(distinct) > 1 else 0.0


def _rows(x: Array, part: slice) -> NDArray[np.float64]:
    return x[part].reshape(len(x[part]), -1).astype(np.float64)


def _chunks(x: Array) -> Iterator[NDArray[np.float64]]:
    step = max(1, _CHUNK_VALUES // max(1, x[0].size))
    return (_rows(x, slice(start, start + step)) for start in range(0, len(x), step))


def _total(sums: Iterator[NDArray[np.float64]], by_column: bool) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.add.reduce(list(sums))
    return total if by_column else np.full_like(total, total.sum())
