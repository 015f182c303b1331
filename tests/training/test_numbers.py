"""What the baselines are given of rows that are no numbers: missing values, categories, counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.bundle import Bundle
from service.inputs import Column, Inputs
from tests.training.machines import INPUTS, rows
from tests.training.report_page import Page
from tests.training.test_report_columns import shown
from training.baselines import NAMES, fit_baselines
from training.data import CLAMP, table_inputs
from training.numbers import MOST_LEVELS, Numbers, width
from training.report.make import make
from training.table import lines

Floats = NDArray[np.float64]


def table(*columns: Column) -> Inputs:
    """A table of *columns*."""
    return Inputs(kind="table", shape=(len(columns),), dtype="float64", columns=columns, clamp=CLAMP)


def category(levels: int, missing: bool = False) -> Column:
    """A column of so many categories."""
    words = tuple(f"l{i}" for i in range(levels))
    return Column(name="c", kind="categorical", vocabulary=words, missing=missing)


def test_numbers_that_are_all_there_pass_as_they_are() -> None:
    """Standardised, and nothing else; so do pixels."""
    x = np.random.default_rng(0).normal(5, 3, (50, 2))
    numbers = Numbers(x, table_inputs(["a", "b"]))
    np.testing.assert_allclose(numbers(x), (x - x.mean(axis=0)) / x.std(axis=0))
    assert list(numbers.told()) == []
    assert width(table_inputs(["a", "b"])) == 2


def test_what_is_missing_is_the_mean_of_its_column() -> None:
    """0 once standardised: of a number, of a count's logarithm, and of each level of a category."""
    inputs = table(Column(name="a", missing=True), Column(name="n", kind="count", missing=True), category(3, True))
    x = np.random.default_rng(0).integers(0, 3, (60, 3)).astype(float)
    x[:10] = np.nan
    u = Numbers(x, inputs)(x)
    np.testing.assert_array_equal(u[:10], 0)
    np.testing.assert_allclose(u[10:].mean(axis=0), 0, atol=1e-12)


def test_the_code_of_a_category_does_not_matter() -> None:
    """Levels dealt anew give the same distances between rows: codes have neither order nor size."""
    x = np.random.default_rng(0).integers(0, 5, (80, 1)).astype(float)
    dealt = np.array([3.0, 0, 4, 1, 2])[x.astype(int)]
    one, other = (Numbers(values, table(category(5)))(values) for values in (x, dealt))
    distances = [np.square(u[:, None] - u).sum(axis=-1) for u in (one, other)]
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-12)


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_a_column_of_categories_weighs_as_much_as_one_of_numbers(share: float) -> None:
    """Two rows are 2 apart in squares on average, as in a standardised column, however rare a level is."""
    x = (np.random.default_rng(0).random((2000, 1)) < share).astype(float) * 2
    u = Numbers(x, table(category(3)))(x)
    apart = 2 * u.var(axis=0).sum()  # the mean of |u - v|^2 over pairs
    assert apart == pytest.approx(2)


def test_many_levels_become_the_most_frequent_and_the_rest() -> None:
    """100 levels are 32 numbers; a level that was not seen in training is one of the rest."""
    generator = np.random.default_rng(0)
    x = np.append(generator.integers(0, 31, 3000), generator.integers(31, 99, 100)).astype(float)[:, None]
    inputs = table(category(100))
    numbers = Numbers(x, inputs)
    assert width(inputs) == MOST_LEVELS == numbers(x).shape[1]
    u = numbers(np.array([[99.0], [40.0], [5.0]]))
    np.testing.assert_array_equal(u[0], u[1])
    assert u[0].argmax() == MOST_LEVELS - 1
    assert u[2].argmax() == 5
    assert "the rarest share one" in " ".join(numbers.told())


def test_counts_are_logarithms() -> None:
    """One row with a count of a million does not make all others alike."""
    x = np.append(np.random.default_rng(0).poisson(5, 500), 1_000_000).astype(float)[:, None]
    u = Numbers(x, table(Column(name="n", kind="count")))(x)
    assert u[:-1].std() > 0.5
    assert np.argsort(u[:, 0], kind="stable").tolist() == np.argsort(x[:, 0], kind="stable").tolist()


def test_every_baseline_takes_a_table_of_every_kind() -> None:
    """Finite for all; categories that never occur together are seen by those that know how columns hang together."""
    train, new = rows(1500, 0), rows(200, 1)
    baselines = fit_baselines(train, rows(200, 2), INPUTS, 3)
    assert list(baselines.detectors) == list(NAMES)
    strange = new.copy()
    strange[:, 1] = 2 - strange[:, 1]  # off at the highest speed, high at the lowest
    changed = (new[:, 1] != 1) & ~np.isnan(new[:, :2]).any(axis=1) & (np.abs(new[:, 0] - 1500) > 300)
    inside, outside = baselines.scores(new[changed]), baselines.scores(strange[changed])
    for name in NAMES:
        assert np.isfinite(inside[name]).all(), name
    for name in ("mahalanobis", "ppca", "knn"):
        assert (outside[name] > inside[name]).mean() > 0.9, name


def test_a_table_of_categories_alone_has_baselines() -> None:
    """Constant ones too."""
    x = np.random.default_rng(0).integers(0, 3, (200, 2)).astype(float)
    x[:, 1] = 1
    inputs = table(category(3), category(2).model_copy(update={"name": "d"}))
    baselines = fit_baselines(x, x, inputs, 2)
    assert all(bool(np.isfinite(scores).all()) for scores in baselines.scores(x).values())


def test_the_page_and_the_text_say_what_baselines_are_given(machines: Bundle) -> None:
    """Where there is something to say."""
    evaluation: Any = machines.manifest.evaluation
    page = Page(make(replace(shown(machines, rows(300, 3)), evaluation=evaluation)))
    text = "\n".join(lines(evaluation))
    for words in ("given the mean of its column", "A category is a column of 0 and 1", "A count is log(1 + n)"):
        assert words in page.text
        assert words in text
