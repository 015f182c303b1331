"""
Pictures of the model's size as one PNG: a contact sheet, in the order of the rows.

Tiles are enlarged by whole factors, pixel by pixel, and lie on grey. Knows pictures; nothing of what they show, nor of
requests.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.codec import pillow
from service.codec.pixels import Size
from service.errors import TooLarge, counted

Pictures = NDArray[np.uint8]

MAX_PIXELS = 2**24
TILE = 64  # pixels: the longer side of a tile is enlarged to this at least
GAP = 2  # pixels between tiles, and between those of one row
CELL_GAP = 8  # pixels between the last tile of a row and the first of the next row below, where rows have several
_GREY = 128


class Layout(NamedTuple):
    """How many tiles a line has, and how many pixels of the sheet a side of a pixel; None: what suits the sheet."""

    columns: int | None = None
    scale: int | None = None


class Grid(NamedTuple):
    """Where tiles of *height* x *width* pixels of the sheet, *stacked* in each cell, lie; *scale*: of their pixels."""

    height: int
    width: int
    stacked: int
    columns: int
    lines: int
    scale: int

    @property
    def below(self) -> int:
        """Pixels from one line's top to the next one's."""
        return self.stacked * (self.height + GAP) + (CELL_GAP - GAP if self.stacked > 1 else 0)

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


def grid(count: int, stacked: int, size: Size, layout: Layout) -> Grid:
    """
    The grid of *count* rows, each *stacked* pictures of *size*: by default as near to a square as it goes.

    Raises TooLarge for a sheet of more than MAX_PIXELS.
    """
    height, width, _ = size
    columns = min(count, layout.columns or math.ceil(math.sqrt(count * stacked * height / width)))
    lines = math.ceil(count / columns)
    wanted = layout.scale or math.ceil(TILE / max(height, width))
    for scale in [wanted] if layout.scale else range(wanted, 0, -1):
        found = Grid(height * scale, width * scale, stacked, columns, lines, scale)
        pixels = math.prod(found.shape)
        if pixels <= MAX_PIXELS:
            return found
    drawn = f"{counted(columns, 'column')} in {counted(lines, 'line')} at scale {scale}"
    raise TooLarge(
        f"the picture would have {pixels} pixels, {drawn}; the limit is {MAX_PIXELS}: ask for fewer rows, or a smaller "
        "scale",
        field="scale",
        limit=MAX_PIXELS,
        value=pixels,
    )


def write(grid: Grid, parts: Sequence[Pictures], text: Mapping[str, str], blank: Collection[int] = ()) -> bytes:
    """
    The PNG of *parts*, as many as the grid has stacked, with *text* in tEXt chunks.

    Each part has one picture a row, (n, height, width, 1, 3 or 4 channels); the first part is on top. The sheet has
    colours, or alpha, where one part has them. Rows that are *blank* are left grey.
    """
    channels = max(part.shape[-1] for part in parts)
    sheet = np.full((*grid.shape, channels), _GREY, np.uint8)
    if channels == 4:
        sheet[..., 3] = 255
    for above, part in enumerate(parts):
        for index, tile in enumerate(part):
            if index in blank:
                continue
            line, column = divmod(index, grid.columns)
            top = line * grid.below + above * (grid.height + GAP)
            left = column * (grid.width + GAP)
            place = sheet[top : top + grid.height, left : left + grid.width]
            place[..., : max(tile.shape[-1], min(channels, 3))] = tile.repeat(grid.scale, 0).repeat(grid.scale, 1)
    return pillow.encode(sheet, text)
