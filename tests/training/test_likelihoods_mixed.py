"""A table's columns have the families of their kinds, and answer in the order of the columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from service.inputs import Column, Inputs
from tests.bundles import IMAGE
from tests.training.exported import sobol
from tests.training.test_likelihoods_levels import rows_of
from training.errors import DataError
from training.likelihoods.bernoulli import Bernoulli
from training.likelihoods.categorical import Categorical
from training.likelihoods.choose import as_they_are, make_likelihood
from training.likelihoods.continuous_bernoulli import ContinuousBernoulli
from training.likelihoods.count import NegativeBinomial, Poisson
from training.likelihoods.gaussian import Gaussian
from training.likelihoods.logistic import DiscretisedLogistic
from training.likelihoods.mixed import Mixed
from training.likelihoods.ordinal import Ordinal
from training.likelihoods.student_t import StudentT

COLUMNS = (
    Column(name="site", kind="categorical", vocabulary=("north", "south", "east"), unknown="other"),
    Column(name="speed"),
    Column(name="on", kind="binary"),
    Column(name="stage", kind="ordinal", vocabulary=("one", "two", "three")),
    Column(name="starts", kind="count"),
    Column(name="maker", kind="categorical", vocabulary=("a", "b")),
    Column(name="flow"),
    Column(name="model", kind="categorical", vocabulary=tuple(f"m{i}" for i in range(70))),
    Column(name="valve", kind="binary", vocabulary=("shut", "open")),
)
TABLE = Inputs(kind="table", shape=(len(COLUMNS),), dtype="float64", columns=COLUMNS, clamp=100.0)
ROWS = torch.tensor([[3.0, 0.5, 1, 2, 7, 0, -1.5, 69, 0], [0.0, -0.5, 0, 0, 0, 1, 0.5, 5, 1]])


def mixed() -> Mixed:
    """That of TABLE, with parameters that are not all the same."""
    likelihood = make_likelihood(TABLE, "gaussian")
    assert isinstance(likelihood, Mixed)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()).reshape(parameter.shape))
    return likelihood


def test_each_column_has_the_family_of_its_kind() -> None:
    """Categories with about as many levels are one block; an unknown category is one level more."""
    blocks = list(zip(mixed().blocks, mixed().columns, strict=True))
    found = {columns: type(block) for block, columns in blocks}
    assert found == {
        (0,): Categorical,
        (1, 6): Gaussian,
        (2, 8): Bernoulli,
        (3,): Ordinal,
        (4,): NegativeBinomial,
        (5,): Categorical,
        (7,): Categorical,
    }
    assert [block.levels for block, _ in blocks if isinstance(block, Categorical)] == [(4,), (2,), (70,)]


def test_answers_come_back_in_the_order_of_the_columns() -> None:
    """Each is that of the family alone, asked with its own columns and its own part of theta."""
    likelihood, theta = mixed(), torch.linspace(-1, 1, 2 * mixed().outputs).reshape(2, -1)
    u = sobol(likelihood, 2)
    whole = (likelihood.log_prob(theta, ROWS), likelihood.draw(theta, u), *likelihood.predict(theta))
    start = 0
    for block, own in zip(likelihood._families(), likelihood.columns, strict=True):
        part, columns = theta[:, start : start + block.outputs], list(own)
        start += block.outputs
        alone = (
            block.log_prob(part, ROWS[:, columns]),
            block.draw(part, u[:, : block.uniforms, columns]),
            *block.predict(part),
        )
        for got, want in zip(whole, alone, strict=True):
            torch.testing.assert_close(got[:, columns], want)
    assert start == likelihood.outputs


def test_a_mixture_over_draws_and_a_broadcast_row_are_the_same_as_one_by_one() -> None:
    """(B, K, P) with (B, 1, C), as a score has them."""
    likelihood = mixed()
    theta = torch.linspace(-1, 1, 2 * 3 * likelihood.outputs).reshape(2, 3, -1)
    energy = likelihood.energy(theta, ROWS.unsqueeze(1))
    for b in range(2):
        for k in range(3):
            torch.testing.assert_close(energy[b, k], likelihood.energy(theta[b, k : k + 1], ROWS[b : b + 1])[0])
    certain = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    got = likelihood.predict_mixture(theta, certain)
    torch.testing.assert_close(got, likelihood.predict(torch.stack([theta[0, 1], theta[1, 0]])), rtol=1e-4, atol=1e-5)


def test_a_mixed_row_begins_with_what_each_family_begins_with() -> None:
    """Biases in the order of theta; only what never changes and has no gradient is kept."""
    likelihood, v = mixed(), ROWS.repeat(20, 1)
    v[:, 6] = 0.25
    with torch.no_grad():
        bias, fixed = likelihood.adapt(rows_of(v))
    mean = likelihood.predict(bias.unsqueeze(0))[0][0].detach()
    assert fixed.sum() == 1
    np.testing.assert_allclose(mean[[1, 2, 4, 6, 8]].numpy(), [0, 0.5, 3.5, 0.25, 0.5], atol=1e-4)


def test_the_manifest_names_the_columns_of_each_family() -> None:
    """Every column once, with the values that it may have."""
    entries = mixed().described(TABLE.names)
    assert sorted(name for entry in entries for name in entry.columns or ()) == sorted(TABLE.names)
    by_column = {name: entry for entry in entries for name in entry.columns or ()}
    assert (by_column["site"].support, by_column["site"].high) == ("index", 3)
    assert (by_column["starts"].family, by_column["speed"].family) == ("negative-binomial", "gaussian")


def test_a_table_of_one_kind_has_that_family_alone() -> None:
    """And count and numeric columns have the family that the fit was given."""
    numbers = TABLE.model_copy(update={"columns": (COLUMNS[1], COLUMNS[6]), "shape": (2,)})
    assert isinstance(make_likelihood(numbers, "student-t"), StudentT)
    assert isinstance(make_likelihood(numbers, "bernoulli"), Bernoulli)
    assert isinstance(make_likelihood(numbers, "continuous-bernoulli"), ContinuousBernoulli)
    counts = TABLE.model_copy(update={"columns": (COLUMNS[4],), "shape": (1,)})
    assert type(make_likelihood(counts, "gaussian", count="poisson")) is Poisson
    valve = counts.model_copy(update={"columns": (COLUMNS[8],)})
    assert isinstance(make_likelihood(valve, "gaussian"), Bernoulli)
    assert as_they_are(numbers, "continuous-bernoulli")
    assert not as_they_are(IMAGE, "continuous-bernoulli")
    with pytest.raises(DataError, match=r'for images: numeric columns have no ends.* kind = "integer"; for the others'):
        make_likelihood(numbers, "discretised-logistic")


def test_pixels_have_the_range_and_the_levels_of_the_image() -> None:
    """256 of 0 to 1, whole numbers else, or as many as one says."""
    for ends, said, levels in (((0.0, 1.0), 0, 256), ((0.0, 255.0), 0, 256), ((0.0, 16.0), 0, 17), ((0.0, 1.0), 8, 8)):
        image = IMAGE.model_copy(update={"range": ends})
        likelihood = make_likelihood(image, "discretised-logistic", levels=said)
        assert isinstance(likelihood, DiscretisedLogistic)
        assert (likelihood.last, likelihood.bounds) == (levels - 1, ends)
    with pytest.raises(DataError, match=r"pixels are 0 to 2.5: say how many --levels"):
        make_likelihood(IMAGE.model_copy(update={"range": (0.0, 2.5)}), "discretised-logistic")
    with pytest.raises(DataError, match="at least 2, not 1"):
        make_likelihood(IMAGE, "discretised-logistic", levels=1)
