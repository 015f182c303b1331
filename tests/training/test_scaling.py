"""From original units to what the networks take: by the kind of the column, with missing values left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from service.inputs import MOST_COUNT, Column, Inputs
from training.errors import DataError
from training.models.mlp import VAE, VAEConfig
from training.moments import SIGMA_MIN, log_sigma_floor, moments, standardisation
from training.scaling import Scaling
from training.thinning import some_of

COLUMNS = (
    Column(name="time", time="iso8601", missing=True),
    Column(name="site", kind="categorical", vocabulary=("n", "s", "w")),
    Column(name="other", kind="categorical", vocabulary=("n", "s", "w"), unknown="other"),
    Column(name="grade", kind="ordinal", vocabulary=("low", "high")),
    Column(name="on", kind="binary"),
    Column(name="faults", kind="count"),
)
INPUTS = Inputs(kind="table", shape=(6,), dtype="float64", columns=COLUMNS, clamp=100)


def rows(count: int = 500) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Rows of COLUMNS; every third time is missing."""
    generator = np.random.default_rng(0)
    x = np.stack(
        [
            1.7e9 + 60 * generator.standard_normal(count),
            *(generator.integers(0, top, count).astype(float) for top in (3, 4, 2, 2)),
            generator.poisson(3, count).astype(float),
        ],
        axis=1,
    )
    x[::3, 0] = np.nan
    return x


def test_numbers_are_standardised_and_all_else_passes_as_it_is() -> None:
    """An index, a count, a 0 or 1 mean what they are; minutes are not lost in seconds since 1970."""
    x = rows()
    center, scale = standardisation(x, INPUTS)
    np.testing.assert_array_equal(center[1:], 0)
    np.testing.assert_array_equal(scale[1:], 1)
    there = x[~np.isnan(x[:, 0]), 0]
    np.testing.assert_allclose([center[0], scale[0]], [there.mean(), there.std()], rtol=1e-12)
    scaling = Scaling(INPUTS, identity=False)
    scaling.center.copy_(torch.from_numpy(center))
    scaling.scale.copy_(torch.from_numpy(scale))
    v = scaling(torch.from_numpy(x))
    np.testing.assert_array_equal(v[:, 1:].numpy(), x[:, 1:])
    np.testing.assert_allclose(v[:, 0].numpy(), (x[:, 0] - there.mean()) / there.std(), atol=1e-5)
    np.testing.assert_allclose(scaling.restore(v).numpy(), x, atol=1e-3)


def test_the_moments_of_a_column_are_those_of_the_values_that_are_there() -> None:
    """However far down the first of them stands; what is missing changes nothing."""
    x = rows(200_000)[:, :1]
    x[:150_000] = np.nan
    one = Inputs(kind="table", shape=(1,), dtype="float64", columns=COLUMNS[:1], clamp=100)
    there = x[~np.isnan(x)][:, None]
    for found, wanted in zip(moments(x, one), moments(there, one), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_the_least_sigma_is_that_of_the_values_that_are_there() -> None:
    """A gap between two values, not between a value and nothing."""
    one = Inputs(kind="table", shape=(1,), dtype="float64", columns=(Column(name="a", missing=True),), clamp=100)
    x = np.array([[1.0], [np.nan], [1.5], [np.nan], [4.0]])
    assert log_sigma_floor(x, one, np.ones(1)).tolist() == [math.log(0.5 / math.sqrt(12))]
    assert log_sigma_floor(x[:2], one, np.ones(1)).tolist() == [math.log(SIGMA_MIN)]


def test_a_column_that_is_never_there_is_refused_by_name() -> None:
    """There is nothing to learn of it, whatever its kind."""
    for c in (0, 5):
        x = rows()
        x[:, c] = np.nan
        with pytest.raises(DataError) as refused:
            standardisation(x, INPUTS)
        assert str(refused.value) == f"{COLUMNS[c].name}: every value is missing in the rows that are learned from"


def test_every_value_is_kept_within_the_bounds_of_its_column() -> None:
    """A hundred standard deviations; the places of a vocabulary, and of "another one"; 0 and 1; a million."""
    scaling = Scaling(INPUTS, identity=False)
    huge = torch.full((1, 6), 1e300, dtype=torch.float64)
    assert scaling(huge).tolist() == [[100, 2, 3, 1, 1, MOST_COUNT]]
    assert scaling(-huge).tolist() == [[-100, 0, 0, 0, 0, 0]]


def test_units_are_taken_from_all_of_a_sorted_file() -> None:
    """Its first 20,000 rows are like no others; as many are drawn from all of it, in order, the same each time."""
    x = np.sort(np.random.default_rng(0).integers(-5000, 5000, (50_000, 1)).astype(np.float64), axis=0)
    some = some_of(x).astype(np.float64)
    assert (len(some), len(some_of(some))) == (20_000, 20_000)
    assert (np.diff(some[:, 0]) >= 0).all()
    np.testing.assert_array_equal(some, some_of(x))
    for level in (0.1, 0.5, 0.9):
        assert float(np.quantile(some, level)) == pytest.approx(float(np.quantile(x, level)), abs=100)


def test_of_large_images_few_are_looked_at() -> None:
    """20,000 of them would be 16 GB."""
    assert some_of(np.broadcast_to(np.uint8(0), (20_000, 256, 256, 3))).shape == (170, 256, 256, 3)


def test_a_column_that_changes_late_in_its_file_has_the_unit_of_its_changes() -> None:
    """By its first rows, all 0, those up to 5,000 would be in tenths, and no sigma reaches that far."""
    x = np.zeros((60_000, 1))
    x[30_000:, 0] = np.random.default_rng(0).integers(-5000, 5001, 30_000)
    inputs = Inputs(kind="table", shape=(1,), dtype="float64", columns=(Column(name="n", kind="integer"),), clamp=100)
    vae = VAE(inputs, VAEConfig(latent_dim=2, hidden=(4,), likelihood="gaussian"), seed=0)
    vae.adapt(x)
    with torch.no_grad():
        _, lower, upper = vae.likelihood.predict(vae.theta.bias[None])
    assert float(upper - lower) > 1000
