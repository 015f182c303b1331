"""The colours of a map: one scale for all rows, brighter where it is more surprising, a pixel for all its channels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.codec.heat import MOST, heat
from service.inputs import Inputs

GREY = Inputs(kind="image", shape=(2, 3), dtype="float32", layout="HW", range=(0.0, 1.0), clamp=1.0)
PLANES = GREY.model_copy(update={"shape": (3, 2, 3), "layout": "CHW"})
COLOUR = GREY.model_copy(update={"shape": (2, 3, 3), "layout": "HWC"})


def colour(nats: float) -> list[int]:
    """Of one pixel."""
    row = np.zeros((1, 2, 3))
    row[0, 1, 2] = nats
    return [int(level) for level in heat(row, GREY)[0, 1, 2]]


def test_the_ends_of_the_scale_are_near_black_and_near_white() -> None:
    """What is less surprising than usual is as dark as what is usual; what is beyond the scale is at its end."""
    assert colour(0.0) == colour(-1e30) == [0, 0, 4]
    assert colour(MOST) == colour(1e30) == [252, 255, 164]
    assert colour(MOST / 2) == [188, 55, 84]


@given(low=st.floats(0, MOST), high=st.floats(0, MOST))
def test_more_nats_are_brighter(low: float, high: float) -> None:
    """Also for those who see, or print, grey alone: by luma (ITU-R BT.601), but for the rounding of a level."""
    dark, bright = (np.dot(colour(nats), (0.299, 0.587, 0.114)) for nats in sorted((low, high)))
    assert dark <= bright + 1


def test_the_channels_of_a_pixel_are_added() -> None:
    """In either order of axes; what one channel has less than usual another makes up for."""
    rows = np.random.default_rng(0).normal(2, 3, (4, 2, 3, 3))
    want = heat(rows.sum(axis=-1), GREY)
    assert np.array_equal(heat(rows, COLOUR), want)
    assert np.array_equal(heat(np.moveaxis(rows, -1, 1), PLANES), want)
