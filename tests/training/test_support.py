"""Values that a likelihood is not defined for are refused before the fit, by column, row and value."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import JsonValue

from service.inputs import Column, Inputs
from tests.bundles import IMAGE
from tests.training.small import Fitted
from training.data import from_arrays
from training.errors import DataError
from training.parts import held_out
from training.support import require_support

COLUMNS = (
    Column(name="site", kind="categorical", vocabulary=("north", "south"), unknown="other"),
    Column(name="stage", kind="ordinal", vocabulary=("one", "two", "three")),
    Column(name="on", kind="binary"),
    Column(name="starts", kind="count"),
    Column(name="speed"),
    Column(name="year", kind="integer"),
)
TABLE = Inputs(kind="table", shape=(6,), dtype="float64", columns=COLUMNS, clamp=100.0)
GREY = IMAGE.model_copy(update={"range": (0.0, 255.0)})


def rows() -> np.ndarray:
    """Eight right ones, with what is missing."""
    x = np.tile([[2.0, 2, 1, 7, -1e9, -(2.0**24)], [0, 0, 0, 2.0**24, 1e9, 2024]], (4, 1))
    x[3] = np.nan
    return x


def test_right_values_and_missing_ones_pass() -> None:
    """At both ends of every support."""
    require_support(rows(), TABLE, "gaussian")
    require_support(np.array([[[0, 255, 3]] * 2]), GREY, "discretised-logistic")
    require_support(np.array([[[0, 1, 77 / 255]] * 2], np.float32), IMAGE, "discretised-logistic")
    require_support(np.array([[[0, 1, 0.123]] * 2]), IMAGE, "continuous-bernoulli")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, 3.0, "kind categorical needs whole numbers from 0 to 2; column 'site' has 3 in row 5"),
        (1, 0.5, "kind ordinal needs whole numbers from 0 to 2; column 'stage' has 0.5 in row 5"),
        (2, -1.0, "kind binary needs whole numbers from 0 to 1; column 'on' has -1 in row 5"),
        (3, -2.0, "kind count needs whole numbers from 0 to 16777216; column 'starts' has -2 in row 5"),
        (3, 1.5, "column 'starts' has 1.5 in row 5"),
        (5, 0.5, "integer needs whole numbers from -16777216 to 16777216; column 'year' has 0.5 in row 5"),
        (3, 2.0**24 + 1, "column 'starts' has 16777217 in row 5"),
    ],
)
def test_a_value_that_its_column_does_not_have_is_named(column: int, value: float, message: str) -> None:
    """With its row, its column and what would be right."""
    x = rows()
    x[5, column] = value
    with pytest.raises(DataError, match=message):
        require_support(x, TABLE, "gaussian")


@pytest.mark.parametrize(
    ("family", "value", "message"),
    [
        (
            "bernoulli",
            0.5,
            "needs values that are 0 or 1; column 'a' has 0.5 in row 1: choose --likelihood continuous-bern",
        ),
        ("bernoulli", 7.0, "needs values that are 0 or 1; column 'a' has 7 in row 1: choose --likelihood gaussian"),
        (
            "continuous-bernoulli",
            1.5,
            "needs values from 0 to 1; column 'a' has 1.5 in row 1: choose --likelihood gauss",
        ),
    ],
)
def test_numeric_columns_are_held_to_the_family_that_was_chosen(family: str, value: float, message: str) -> None:
    """And the family that would do is named."""
    numbers = Inputs(kind="table", shape=(1,), dtype="float64", columns=(Column(name="a"),), clamp=100.0)
    with pytest.raises(DataError, match=message):
        require_support(np.array([[0.0], [value], [1.0]]), numbers, family)


def test_grey_pixels_are_refused_by_their_range_and_pixels_between_levels_by_their_place() -> None:
    """Bernoulli points to the continuous one."""
    grey = np.array([[[0, 255, 3]] * 2])
    with pytest.raises(
        DataError, match=r"these are 0 to 255: choose --binarize .* or --likelihood continuous-bernoulli"
    ):
        require_support(grey, GREY, "bernoulli")
    with pytest.raises(DataError, match=r"needs multiples of 1 from 0 to 255; feature '1,2' has 3.5 in row 0"):
        require_support(np.array([[[0, 255, 3], [0, 1, 3.5]]]), GREY, "discretised-logistic")
    with pytest.raises(DataError, match=r"needs values from 0 to 255; feature '0,1' has 256 in row 0"):
        require_support(np.array([[[0, 256, 3], [0, 1, 3.5]]]), GREY, "continuous-bernoulli")


def test_large_data_are_looked_at_piece_by_piece() -> None:
    """The row that is named is that of the whole."""
    x = np.zeros((3000, 2000))
    x[2500, 5] = -1
    columns = tuple(Column(name=f"c{i}", kind="count") for i in range(2000))
    wide = Inputs(kind="table", shape=(2000,), dtype="float64", columns=columns, clamp=100.0)
    with pytest.raises(DataError, match="column 'c5' has -1 in row 2500"):
        require_support(x, wide, "gaussian")


def test_rows_that_a_bundles_likelihood_has_none_for_are_not_held_out_rows(fitted: Fitted) -> None:
    """They would calibrate thresholds, though the service refuses them."""
    manifest = fitted.bundle.manifest
    model: dict[str, JsonValue] = {"likelihood": "bernoulli", "levels": 0}
    flags = {**manifest.training, "model": model}
    x = np.tile([0.0, 1.0], (40, manifest.inputs.features))[:, : manifest.inputs.features]
    names = np.array(manifest.inputs.names)
    held_out(from_arrays("d", {"X": x, "columns": names}), manifest.model_copy(update={"training": flags}))
    x[3, 1] = 0.5
    with pytest.raises(DataError, match=r"needs values that are 0 or 1; column '.*' has 0.5 in row 3"):
        held_out(from_arrays("d", {"X": x, "columns": names}), manifest.model_copy(update={"training": flags}))
