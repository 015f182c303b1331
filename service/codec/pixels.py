"""
What a pixel of the model is: the picture's size and channels, and which values are black and white.

Both ways between the numbers of a row and the whole numbers of a picture. Knows the manifest; nothing of files.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.codec.rows import Array
from service.inputs import Inputs

WHITE = 255  # of pictures that are written

Number = TypeVar("Number", bound=np.generic)


class Size(NamedTuple):
    """Of the model's pictures."""

    height: int
    width: int
    channels: int


def size(inputs: Inputs) -> Size:
    """The size of the pictures of a model of images."""
    if inputs.layout == "CHW":
        channels, height, width = inputs.shape
    else:
        height, width, channels = (*inputs.shape, 1)[:3]
    return Size(height, width, channels)


def refusal(inputs: Inputs) -> str:
    """Why rows of *inputs* are no pictures; empty where they are."""
    if inputs.kind != "image":
        return f"pictures are for models of images, and the inputs of this one are of the kind {inputs.kind!r}"
    if (channels := size(inputs).channels) not in (1, 3, 4):
        return f"pictures have 1, 3 or 4 channels, and this model's inputs {channels}"
    if inputs.range is None:
        return (
            "the bundle's manifest gives no range of its pixels, so that nothing says which values are black and white"
        )
    low, high = inputs.range
    if not (math.isfinite(high - low) and low < high):
        return f"the range of this model's pixels is {low:g} to {high:g}, which has no black and white"
    return ""


def values(pixels: NDArray[np.unsignedinteger], most: int, inputs: Inputs) -> Array:
    """
    *pixels* (height, width, channels) from 0 to *most* as a row of the model, mapped to its range.

    low + pixel (high - low) / most in double precision, then rounded to the row's dtype: both ends are exact, and so is
    every value that the file can hold.
    """
    assert inputs.range is not None
    row = _levels(*inputs.range, most, inputs.dtype)[pixels]
    return np.moveaxis(row, -1, 0) if inputs.layout == "CHW" else row.reshape(inputs.shape)


def shown(rows: Array, inputs: Inputs) -> NDArray[np.uint8]:
    """Rows (n, *shape) as pictures (n, height, width, channels); what is outside the range is shown at its ends."""
    assert inputs.range is not None
    low, high = inputs.range
    with np.errstate(over="ignore"):
        levels = np.rint((rows.astype(np.float64) - low) * (WHITE / (high - low))).clip(0, WHITE)
    return by_pixel(levels.astype(np.uint8), inputs)


def by_pixel(rows: NDArray[Number], inputs: Inputs) -> NDArray[Number]:
    """Rows (n, *shape), whatever is in them, by pixel: (n, height, width, channels)."""
    if inputs.layout == "CHW":
        return np.moveaxis(rows, 1, -1)
    return rows.reshape(len(rows), *size(inputs))


@functools.lru_cache(maxsize=4)
def _levels(low: float, high: float, most: int, dtype: str) -> Array:
    """The value of each level from 0 to *most*."""
    levels = low + np.arange(most + 1) * (high - low) / most
    levels[-1] = high
    return levels.astype(dtype)
