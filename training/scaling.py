"""
Original units to what the networks take, as a part of the model, so that clients send what they have; and back.

What is standardised is v = clamp((x - center) / scale): in the dtype of the inputs (float64 for tables, because an
epoch time loses minutes in float32), then float32. An index, a whole number and a 0 or 1 pass as they are. Each is kept
within its bounds, so that every score is finite for every finite input. Knows nothing of networks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from service.inputs import Column, Inputs
from training.support import bounds_of


class Scaling(nn.Module):
    """
    The affine map of `inputs`, and its inverse.

    *identity*: values pass as they are, only kept within their bounds (binary data; the benchmark bundle).
    """

    center: Tensor
    scale: Tensor
    least: Tensor
    most: Tensor

    def __init__(self, inputs: Inputs, identity: bool) -> None:
        super().__init__()
        dtype = torch.float64 if inputs.dtype == "float64" else torch.float32
        self.identity = identity
        self.register_buffer("center", torch.zeros(inputs.features, dtype=dtype))
        self.register_buffer("scale", torch.ones(inputs.features, dtype=dtype))
        least, most = zip(*_all_bounds(inputs), strict=True)
        self.register_buffer("least", torch.tensor(least, dtype=dtype), persistent=False)
        self.register_buffer("most", torch.tensor(most, dtype=dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, C) float32, each within its bounds."""
        v = x.flatten(1)
        if not self.identity:
            v = (v - self.center) / self.scale
        return v.clamp(self.least, self.most).float()

    def restore(self, v: Tensor) -> Tensor:
        """Original units: (..., C) float32 -> (..., C) in the dtype of the inputs."""
        v = v.to(self.center.dtype)
        return v if self.identity else v * self.scale + self.center


def _all_bounds(inputs: Inputs) -> list[tuple[float, float]]:
    if inputs.columns is None:
        return [(-inputs.clamp, inputs.clamp)] * inputs.features
    return [_bounds(column, inputs.clamp) for column in inputs.columns]


def _bounds(column: Column, clamp: float) -> tuple[float, float]:
    """The least and the greatest v of a column: an index's, a count's, 0 and 1, or *clamp* standard deviations."""
    return (-clamp, clamp) if column.kind == "numeric" else bounds_of(column)
