"""
Rows of the model as one PNG: a contact sheet, in the order of the rows.

Tiles are enlarged by whole factors, pixel by pixel, and lie on grey. Knows the manifest's pixels; nothing of requests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from service.codec import pillow
from service.codec.pixels import shown, size
from service.codec.rows import Array
from service.errors import TooLarge, counted
from service.inputs import Inputs

MAX_PIXELS = 2**24
TILE = 64  # pixels: the longer side of a tile is enlarged to this at least
GAP = 2  # pixels between tiles, and between a row and the one above it
PAIR_GAP = 8  # pixels between such a pair and the next below
_GREY = 128


class Layout(NamedTuple):
    """How many tiles a line has, and how many pixels of the sheet a side of a pixel; None: what suits the sheet."""

    columns: int | None = None
    scale: int | None = None


class _Grid(NamedTuple):
    """Where tiles of *height* x *width* pixels of the sheet, *stacked* in each cell, lie."""

    height: int
    width: int
    stacked: int
    columns: int
    lines: int

    @property
    def below(self) -> int:
        """Pixels from one line's top to the next one's."""
        return self.stacked * (self.height + GAP) + (PAIR_GAP - GAP if self.stacked > 1 else 0)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the sheet: no gap at its edges."""
        last = self.stacked * (self.height + GAP) - GAP
        return (self.lines - 1) * self.below + last, self.columns * (self.width + GAP) - GAP


def legs(alphas: Sequence[float]) -> tuple[list[int], int]:
    """
    The points of a path, one line for each leg, and the points of a line.

    A waypoint between two legs ends one line and begins the next.
    """
    count = round(alphas[-1])
    steps = (len(alphas) - 1) // count + 1
    return [leg * (steps - 1) + step for leg in range(count) for step in range(steps)], steps


def write(rows: Array, inputs: Inputs, layout: Layout, text: Mapping[str, str], above: Array | None = None) -> bytes:
    """
    The PNG of *rows* (n, *shape), each under its row of *above* where they are given, with *text* in tEXt chunks.

    Raises TooLarge for a sheet of more than MAX_PIXELS.
    """
    stacked = 1 if above is None else 2
    grid, scale = _grid(len(rows), stacked, inputs, layout)
    channels = size(inputs).channels
    sheet = np.full((*grid.shape, channels), _GREY, np.uint8)
    if channels == 4:
        sheet[..., 3] = 255
    for part, array in enumerate([rows] if above is None else [above, rows]):
        for index, tile in enumerate(shown(array, inputs)):
            line, column = divmod(index, grid.columns)
            top, left = line * grid.below + part * (grid.height + GAP), column * (grid.width + GAP)
            sheet[top : top + grid.height, left : left + grid.width] = tile.repeat(scale, 0).repeat(scale, 1)
    return pillow.encode(sheet, text)


def _grid(count: int, stacked: int, inputs: Inputs, layout: Layout) -> tuple[_Grid, int]:
    """The grid of *count* cells, and its scale: by default as near to a square as it goes. Raises TooLarge."""
    height, width, _ = size(inputs)
    columns = min(count, layout.columns or math.ceil(math.sqrt(count * stacked * height / width)))
    lines = math.ceil(count / columns)
    wanted = layout.scale or math.ceil(TILE / max(height, width))
    for scale in [wanted] if layout.scale else range(wanted, 0, -1):
        grid = _Grid(height * scale, width * scale, stacked, columns, lines)
        pixels = math.prod(grid.shape)
        if pixels <= MAX_PIXELS:
            return grid, scale
    drawn = f"{counted(columns, 'column')} in {counted(lines, 'line')} at scale {scale}"
    raise TooLarge(
        f"the picture would have {pixels} pixels, {drawn}; the limit is {MAX_PIXELS}: ask for fewer rows, or a smaller "
        "scale",
        field="scale",
        limit=MAX_PIXELS,
        value=pixels,
    )
