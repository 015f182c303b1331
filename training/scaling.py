"""
Standardisation as a part of the model: original units in, original units out, so that clients send what they have.

v = clamp((x - center) / scale): in the dtype of the inputs (float64 for tables, because an epoch time loses minutes
in float32), then float32. The clamp keeps every score finite for every finite input. Knows nothing of networks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from service.manifest import Inputs


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
