"""The report of columns of every kind: samples are of the fitted family, and a category is a name and no number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from service.bundle import Bundle
from service.engine import Engine
from service.inputs import Column, Inputs
from tests.bundles import IMAGE, image_rows, table_rows, untrained
from tests.training.machines import COLUMNS, rows
from tests.training.report_page import SECTIONS, Page, material, opened
from tests.training.unexported import unexported
from training.data import CLAMP, table_inputs
from training.likelihoods.choose import Count, Family
from training.report.levels import chance, level_names, named_right, shares, total_variation
from training.report.make import make
from training.report.material import Material
from training.support import require_support

Floats = NDArray[np.float64]

RANDOM = np.random.default_rng(0)
SEEDS = range(200)


def table_of(kind: str, columns: int = 2) -> Inputs:
    """A table of columns of one kind; of categories each has four, the last unknown."""
    words = ("north", "south", "east") if kind in ("categorical", "ordinal") else None
    unknown = "other" if kind == "categorical" else "reject"
    named = tuple(
        Column.model_validate({"name": f"x{c}", "kind": kind, "vocabulary": words, "unknown": unknown})
        for c in range(columns)
    )
    return Inputs(kind="table", shape=(columns,), dtype="float64", columns=named, clamp=CLAMP)


class Case(NamedTuple):
    """A family, and rows that it is for."""

    name: str
    inputs: Inputs
    family: Family
    x: NDArray[np.generic]
    counts: Count = "negative-binomial"


CASES = (
    Case("student-t", table_inputs(["a", "b", "c"]), "student-t", table_rows(80)),
    Case("continuous-bernoulli", table_inputs(["a", "b"]), "continuous-bernoulli", RANDOM.beta(2, 5, (80, 2))),
    Case("bernoulli", table_of("binary"), "gaussian", RANDOM.integers(0, 2, (80, 2)).astype(float)),
    Case("poisson", table_of("count"), "gaussian", RANDOM.poisson(3, (80, 2)).astype(float), "poisson"),
    Case("integer", table_of("integer"), "gaussian", RANDOM.normal(-9, 4, (80, 2)).round()),
    Case("ordinal", table_of("ordinal"), "gaussian", RANDOM.integers(0, 3, (80, 2)).astype(float)),
    Case("categorical", table_of("categorical"), "gaussian", RANDOM.integers(0, 4, (80, 2)).astype(float)),
    Case("images of bits", IMAGE, "bernoulli", image_rows(80)),
    Case(
        "images of levels",
        IMAGE.model_copy(update={"range": (0.0, 16.0)}),
        "discretised-logistic",
        RANDOM.integers(0, 17, (80, 2, 3)).astype(np.float32),
    ),
)


def shown(bundle: Bundle, x: NDArray[np.generic]) -> Material:
    """*bundle* beside rows, without an evaluation."""
    return Material(bundle, Engine(bundle.graphs, threads=1), x, None, None, "some rows")


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> tuple[Case, Material]:
    """A model of one family."""
    found: Case = request.param
    vae = untrained(found.inputs, found.family, found.x, latent_dim=2, count=found.counts)
    bundle, engine = unexported(vae, found.x[40:], found.x[:40])
    return found, Material(bundle, engine, found.x[:40], None, None, "some rows")


def test_draws_are_values_of_the_family(case: tuple[Case, Material]) -> None:
    """Whole counts, categories that there are, shares within their ends; as often in the 95 % interval as it says."""
    asked, found = case
    z = np.random.default_rng(1).standard_normal((2000, 2))
    drawn = found.draw(z, 14)
    require_support(drawn.reshape(-1, *asked.inputs.shape).round(4), asked.inputs, asked.family)
    if asked.name != "categorical":  # which have no interval
        z32 = {"z": z.astype(np.float32)}
        ends = (found.engine.run("decoder", z32, (end,))[end].reshape(2000, -1) for end in ("lower", "upper"))
        lower, upper = (end.astype(np.float64) for end in ends)
        inside = (drawn >= lower - 1e-6) & (drawn <= upper + 1e-6)
        assert inside.mean() > 0.93
    np.testing.assert_array_equal(drawn, found.draw(z, 14))
    assert (drawn != found.draw(z, 15)).any()


def test_every_family_has_a_page(case: tuple[Case, Material]) -> None:
    """Every section is there, and nothing is said of a standard deviation between two categories."""
    asked, found = case
    page = Page(make(found))
    assert tuple(page.sections) == SECTIONS
    said = "columns are categories, which have no values in between" in page.text
    assert said == (asked.name == "categorical")


@pytest.fixture(scope="module")
def machines_page(machines: Bundle) -> Page:
    """Of a table with a column of each kind."""
    return Page(make(shown(machines, rows(300, 3))))


def test_levels_are_shown_by_their_names(machines_page: Page) -> None:
    """Those of categories and of ordinal columns; rare ones together; what is not in a vocabulary as another one."""
    for words in ("low", "high", "33 others", "named right", "categorical", "negative-binomial"):
        assert words in machines_page.text, words
    assert "Samples are complete" in machines_page.text
    assert level_names(COLUMNS[2])[-2:] == ["s39", "another one"]
    assert level_names(COLUMNS[4]) == ["0", "1"]


def test_a_latent_moves_numbers_and_changes_categories(machines_page: Page) -> None:
    """No category is among what moves by standard deviations: its change is told by name."""
    moved = machines_page.text.rsplit("What each latent means", 1)[1].split("Map of the latent space")[0]
    said = [part.split("(standard deviations)")[0] for part in moved.split(" from \u22122 to 2 moves ")[1:]]
    assert said
    assert not any(f"{name} " in part for part in said for name in ("mode", "site"))
    assert "off \u2192 high" in moved or "high \u2192 off" in moved


def test_counts_and_levels_are_in_standard_deviations_of_the_rows(machines: Bundle) -> None:
    """They pass into the model as they are, so that it knows none; numbers have the model's own."""
    found = shown(machines, rows(300, 3))
    u = found.standardised(found.rows)
    for c in (3, 4, 5, 7):
        assert np.nanmean(u[:, c]) == pytest.approx(0, abs=1e-9)
        assert np.nanstd(u[:, c]) == pytest.approx(1)
    assert found.unordered.tolist() == [False, True, True, False, False, False, False, False]
    columns = machines.manifest.inputs.columns
    assert columns is not None
    assert (found.units[0][0], found.units[1][0]) == (columns[0].center, columns[0].scale)
    np.testing.assert_array_equal(u[:, 1], found.rows[:, 1])


def test_draws_of_a_fitted_model_are_as_the_data(machines: Bundle) -> None:
    """Of columns that one latent explains: no further off than 0.15, where a normal about the mean was further."""
    found = shown(machines, rows(300, 3))
    real, made = found.rows, found.draw(np.random.default_rng(0).standard_normal((2000, 3)), 14)
    for c in (3, 4, 5, 7):
        there = real[~np.isnan(real[:, c].astype(float)), c].astype(float)
        assert stats.ks_2samp(there, made[:, c]).statistic < 0.15, COLUMNS[c].name
    levels = len(level_names(COLUMNS[1]))
    assert total_variation(shares(real[:, 1].astype(float), levels), shares(made[:, 1], levels)) < 0.15


def test_a_bundle_that_cannot_draw_shows_no_samples_of_a_table(table_bundle: Path) -> None:
    """The mean has less spread than the data: beside them it would look like a fault of the model."""
    found = material(*opened(table_bundle), table_rows(40))
    able = found.manifest.capabilities.model_copy(update={"draw": False})
    graphs = {name: graph for name, graph in found.manifest.graphs.items() if name != "observe"}
    manifest = found.manifest.model_copy(update={"capabilities": able, "graphs": graphs})
    page = Page(make(replace(found, bundle=replace(found.bundle, manifest=manifest))))
    assert "this bundle has no graph that draws from p(x|z): vae-train export writes one with it" in page.text


def test_what_is_explained_of_categories_is_goodman_and_kruskals_lambda() -> None:
    """Six of ten rows have the most frequent level; eight named right avoid half of the errors of always naming it."""
    observed = np.array([0.0] * 6 + [1.0] * 4 + [np.nan])
    expected = np.array([0.0] * 5 + [1.0] + [1.0] * 3 + [0.0] + [1.0])
    assert named_right(observed, expected) == pytest.approx((0.8, 0.6, 0.5))
    assert named_right(np.full(3, 2.0), np.full(3, 2.0)) == (1.0, 1.0, 0.0)
    assert named_right(np.full(3, np.nan), np.zeros(3)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("levels", [2, 300])
def test_two_samples_of_one_distribution_are_further_off_than_chance_in_few_cases(levels: int) -> None:
    """About 5 in 100, also where most levels are seen once; 100 rows against 400."""
    p = np.random.default_rng(levels).dirichlet(np.ones(levels))
    beyond = 0
    for seed in SEEDS:
        a, b = (np.random.default_rng([seed, n]).multinomial(n, p) for n in (100, 400))
        beyond += total_variation(a / 100, b / 400) > chance(a, b, seed)
    assert 2 <= beyond <= 24
