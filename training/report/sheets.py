"""
Sheets: many small images as one PNG in the page. Knows pixels; nothing of models.

H x W grey, or H x W x 3; values from 0 to 1. Gaps between the images are transparent, so that any page shows through.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from service.inputs import Inputs

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

MOST_PIXELS: Final = 48
"""The longest side of an image in a sheet: larger ones are averaged down to it."""


class Pixels:
    """From rows of a model to images. *low*, *high*: the values shown as black and as white."""

    def __init__(self, inputs: Inputs, rows: Array) -> None:
        self._inputs = inputs
        if inputs.range is not None:
            self.low, self.high = inputs.range
        elif rows.size:
            self.low, self.high = float(rows.min()), float(rows.max())
        else:
            self.low, self.high = 0.0, 1.0

    def __call__(self, rows: Array) -> list[Floats]:
        """Rows (n, C) or (n, *shape) as n images."""
        x = rows.reshape(len(rows), *self._inputs.shape).astype(np.float64)
        span = self.high - self.low
        with np.errstate(over="ignore", invalid="ignore"):
            x = np.nan_to_num((x - self.low) / (span if math.isfinite(span) and span else 1.0)).clip(0, 1)
        if self._inputs.layout == "CHW":
            x = np.moveaxis(x, 1, -1)
        if self._inputs.layout == "HW":
            x = x[..., None]
        return [_smaller(image if image.shape[-1] in (1, 3) else image[..., :3]) for image in x]


def sheet(images: Sequence[Sequence[Floats]], alt: str) -> Markup:
    """Rows of images, all of one size, as an element of the page."""
    height, width, channels = images[0][0].shape
    gap = max(1, round(max(height, width) / 14))
    down, across = len(images), max(len(row) for row in images)
    size = (down * (height + gap) - gap, across * (width + gap) - gap)
    canvas = np.zeros((*size, channels + 1), np.uint8)
    for i, row in enumerate(images):
        for j, image in enumerate(row):
            top, left = i * (height + gap), j * (width + gap)
            part = canvas[top : top + height, left : left + width]
            part[..., :channels] = np.round(image * 255)
            part[..., channels] = 255
    out = io.BytesIO()
    Image.fromarray(canvas, "LA" if channels == 1 else "RGBA").save(out, "PNG", optimize=True)
    text = base64.b64encode(out.getvalue()).decode()
    found = (
        f'<img alt="{escape(alt, quote=True)}" width="{size[1]}" height="{size[0]}" src="data:image/png;base64,{text}">'
    )
    return Markup(found)


def _smaller(image: Floats) -> Floats:
    """The image averaged over whole blocks of pixels until it fits; what does not fill a block is left off."""
    factor = math.ceil(max(image.shape[:2]) / MOST_PIXELS)
    if factor == 1:
        return image
    height, width = (max(1, side // factor) for side in image.shape[:2])
    cut = image[: height * factor, : width * factor]
    if 0 in (image.shape[0] // factor, image.shape[1] // factor):  # a very long and narrow one
        return cut[:: max(1, cut.shape[0] // height)][:height, :: max(1, cut.shape[1] // width)][:, :width]
    averaged: Floats = cut.reshape(height, factor, width, factor, -1).mean(axis=(1, 3))
    return averaged
