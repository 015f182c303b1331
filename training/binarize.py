"""
Grey images as binary data, for the Bernoulli likelihood, which is a density on {0, 1} and nowhere else.

`threshold`: a pixel is 1 above half of the range. `dynamic`: it is 1 with the probability that its grey value is of
the range, drawn again for every training batch (Burda et al. 2016, appendix D); held-out rows are drawn once.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.inputs import Inputs
from training.errors import DataError

Array = NDArray[np.generic]
Mode = Literal["none", "threshold", "dynamic"]


def binarize(x: Array, inputs: Inputs, mode: Mode, generator: np.random.Generator) -> Array:
    """Binary rows, uint8, from grey ones: (n, *shape) -> the same shape. *generator* is used by `dynamic` only."""
    if mode == "none":
        return x
    low, high = grey_range(inputs)
    share = (x.astype(np.float32) - low) / (high - low)
    if mode == "threshold":
        return (share > 0.5).astype(np.uint8)
    return (generator.random(x.shape, np.float32) < share).astype(np.uint8)


def binary_inputs(inputs: Inputs) -> Inputs:
    """What a row of zeros and ones is: not standardised, so that a clamp at 1 changes no valid value."""
    pixels = (0.0, 1.0) if inputs.kind == "image" else None
    return inputs.model_copy(update={"range": pixels, "clamp": 1.0})


def grey_range(inputs: Inputs) -> tuple[float, float]:
    """The range of the pixels. Raises DataError for data that have none."""
    if inputs.kind != "image" or inputs.range is None:
        raise DataError("--binarize is for images whose range is known: 0 to 1, or 0 to 255")
    return inputs.range
