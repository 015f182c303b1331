"""Contact sheets: which tile lies where, how large, and what a sheet may not become."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.codec import sheets
from service.codec.pixels import Size, shown, size
from service.codec.sheets import CELL_GAP, GAP, Layout
from service.errors import TooLarge
from service.inputs import Inputs

INPUTS = Inputs(kind="image", shape=(2, 3), dtype="float32", layout="HW", range=(0.0, 10.0), clamp=1.0)
PLANES = Inputs(kind="image", shape=(3, 2, 5), dtype="float32", layout="CHW", range=(-1.0, 1.0), clamp=1.0)
GREY = 128


def rows(count: int) -> np.ndarray:
    """Tiles that can be told apart: row i is filled with i, from 0 to 10."""
    return np.stack([np.full((2, 3), i % 11, np.float32) for i in range(count)])


def written(x: np.ndarray, inputs: Inputs, layout: Layout, above: np.ndarray | None = None, **text: str) -> bytes:
    """The sheet of rows, each under its row of *above*."""
    parts = [shown(part, inputs) for part in (above, x) if part is not None]
    return sheets.write(sheets.grid(len(x), len(parts), size(inputs), layout), parts, text)


def drawn(x: np.ndarray, inputs: Inputs, layout: Layout, above: np.ndarray | None = None) -> np.ndarray:
    """The pixels of that sheet, as a reader sees them."""
    return seen(written(x, inputs, layout, above))


def seen(file: bytes) -> np.ndarray:
    """The pixels of a file."""
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image)


def test_tiles_are_in_the_order_of_the_rows_with_gaps_of_grey() -> None:
    """Line by line; what is left over in the last line is grey."""
    sheet = drawn(rows(5), INPUTS, Layout(columns=3, scale=1))
    assert sheet.shape == (2 * 2 + GAP, 3 * 3 + 2 * GAP)
    for index in range(5):
        top, left = index // 3 * (2 + GAP), index % 3 * (3 + GAP)
        assert (sheet[top : top + 2, left : left + 3] == round(index * 25.5)).all()
        sheet = sheet.copy()
        sheet[top : top + 2, left : left + 3] = GREY
    assert (sheet == GREY).all()


def test_a_scale_repeats_pixels_and_invents_none() -> None:
    """Nearest neighbour, by a whole factor."""
    row = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    sheet = drawn(row, INPUTS, Layout(scale=4))
    assert np.array_equal(sheet, np.rint(row[0] * 25.5).astype(np.uint8).repeat(4, 0).repeat(4, 1))


def test_colour_planes_are_shown_in_colour() -> None:
    """Channels first in the model, last in the picture."""
    row = np.random.default_rng(0).uniform(-1, 1, (1, 3, 2, 5)).astype(np.float32)
    sheet = drawn(row, PLANES, Layout(scale=1))
    assert np.array_equal(sheet, np.rint((np.moveaxis(row[0], 0, -1) + 1) * 127.5))


def test_alpha_is_shown_and_gaps_are_opaque() -> None:
    """Four channels are red, green, blue and alpha."""
    inputs = INPUTS.model_copy(update={"shape": (1, 1, 4), "layout": "HWC"})
    sheet = drawn(np.array([[[[10, 0, 5, 0]]], [[[0, 0, 0, 10]]]], np.float32), inputs, Layout(2, 1))
    assert sheet[0].tolist() == [[255, 0, 128, 0], [GREY, GREY, GREY, 255], [GREY, GREY, GREY, 255], [0, 0, 0, 255]]


def test_what_is_beyond_black_and_white_is_shown_as_such() -> None:
    """A decoder's mean may leave the range; so may float32 at its limit."""
    row = np.array([[[-5, 0, 10], [10.01, 3e38, -3e38]]], np.float32)
    assert drawn(row, INPUTS, Layout(scale=1)).tolist() == [[0, 0, 255], [255, 255, 0]]


def test_a_row_lies_under_the_one_above_it() -> None:
    """And the next pair further off."""
    low, high = rows(4), 10 - rows(4)
    sheet = drawn(low, INPUTS, Layout(columns=2, scale=1), above=high)
    assert sheet.shape == (2 * (2 + GAP + 2) + CELL_GAP, 2 * 3 + GAP)
    left = sheet[:, 0].tolist()
    assert left == [255] * 2 + [GREY] * GAP + [0] * 2 + [GREY] * CELL_GAP + [204] * 2 + [GREY] * GAP + [51] * 2


def test_a_sheet_has_the_colours_of_its_most_colourful_part() -> None:
    """Grey beside colour is the grey of equal parts; nothing turns transparent beside what has alpha."""
    grey, colour, clear = (np.full((2, 2, 3, channels), 10 * channels, np.uint8) for channels in (1, 3, 4))
    colour[..., 0] = 200
    for parts, want in (
        ([grey, grey], [10, 10]),
        ([grey, colour], [[10] * 3, [200, 30, 30]]),
        ([grey, colour, clear], [[10] * 3 + [255], [200, 30, 30, 255], [40] * 4]),
    ):
        grid = sheets.grid(2, len(parts), Size(2, 3, 1), Layout(columns=1, scale=1))
        sheet = seen(sheets.write(grid, parts, {}))
        assert sheet.shape[0] == 2 * len(parts) * (2 + GAP) - 2 * GAP + CELL_GAP
        for line in range(2):
            top = line * grid.below
            assert [sheet[top + part * (2 + GAP), 2].tolist() for part in range(len(parts))] == want


def test_what_is_blank_is_left_grey_in_its_place() -> None:
    """The others stay where they are."""
    parts = [shown(rows(3), INPUTS)] * 2
    grid = sheets.grid(3, 2, size(INPUTS), Layout(columns=3, scale=1))
    sheet, whole = (seen(sheets.write(grid, parts, {}, blank)) for blank in ({1}, ()))
    assert (sheet[:, 5:8] == GREY).all()
    assert not (whole[:, 5:8] == GREY).all()
    assert np.array_equal(np.delete(sheet, range(5, 8), 1), np.delete(whole, range(5, 8), 1))


@pytest.mark.parametrize(
    ("alphas", "order", "steps"),
    [
        ([0, 0.5, 1], [0, 1, 2], 3),
        ([0, 0.5, 1, 1.5, 2], [0, 1, 2, 2, 3, 4], 3),
        ([0, 1, 2, 3], [0, 1, 1, 2, 2, 3], 2),
    ],
)
def test_a_leg_is_a_line_from_waypoint_to_waypoint(alphas: list[float], order: list[int], steps: int) -> None:
    """A waypoint between two legs ends one line and begins the next."""
    assert sheets.legs(alphas) == (order, steps)


@pytest.mark.parametrize(
    ("count", "shape", "above", "size"),
    [
        (1, (8, 8), False, (64, 64)),
        (16, (8, 8), False, (4 * 66 - 2, 4 * 66 - 2)),
        (17, (8, 8), False, (4 * 66 - 2, 5 * 66 - 2)),
        (2, (28, 28), False, (84, 2 * 86 - 2)),
        (4, (64, 64), False, (2 * 66 - 2, 2 * 66 - 2)),
        (4, (100, 80), False, (2 * 102 - 2, 3 * 82 - 2)),
        (8, (8, 8), True, (2 * 130 + CELL_GAP, 4 * 66 - 2)),
        (1024, (8, 8), False, (32 * 66 - 2, 32 * 66 - 2)),
        (1024, (63, 63), True, (23 * 136 - CELL_GAP, 46 * 65 - 2)),
    ],
)
def test_a_sheet_is_about_square_and_its_tiles_can_be_seen(
    count: int, shape: tuple[int, int], above: bool, size: tuple[int, int]
) -> None:
    """By default 64 pixels or more for the longer side, fewer only where the sheet would be too large."""
    x = np.zeros((count, *shape), np.float32)
    inputs = INPUTS.model_copy(update={"shape": shape})
    assert drawn(x, inputs, Layout(), above=x if above else None).shape == size


def test_a_sheet_that_is_too_large_is_refused_with_its_size() -> None:
    """Before anything is allocated."""
    with pytest.raises(TooLarge, match=r"16791550 pixels, 8 columns in 1 line at scale 1; the limit is 16777216"):
        sheets.grid(8, 1, Size(1025, 2046, 1), Layout(columns=8))
    with pytest.raises(TooLarge, match="64 columns in 16 lines at scale 64"):
        sheets.grid(1024, 1, size(INPUTS), Layout(columns=64, scale=64))


@given(count=st.integers(1, 30), columns=st.none() | st.integers(1, 40), scale=st.none() | st.integers(1, 3))
def test_equal_rows_are_equal_bytes_and_none_is_left_out(count: int, columns: int | None, scale: int | None) -> None:
    """Whatever the layout; a line is never wider than the rows."""
    layout = Layout(columns, scale)
    first, again = (written(rows(count), INPUTS, layout, seed="7") for _ in range(2))
    assert first == again
    sheet = drawn(rows(count), INPUTS, layout)
    tile = scale or 22
    across = (sheet.shape[1] + GAP) // (3 * tile + GAP)
    assert across <= min(count, columns or count)
    for index in range(count):
        top, left = index // across * (2 * tile + GAP), index % across * (3 * tile + GAP)
        assert sheet[top, left] == np.rint(index % 11 * 25.5)


def test_text_is_in_the_file() -> None:
    """In tEXt chunks, which every tool shows."""
    file = written(rows(1), INPUTS, Layout(), name="dots", seed="7")
    with Image.open(io.BytesIO(file), formats=("PNG",)) as image:
        assert image.info == {"name": "dots", "seed": "7"}
    assert b"tEXtname\0dots" in file
