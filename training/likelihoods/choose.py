"""Which likelihood is meant: by the kind of each column, and by the names that a fit is given."""

from __future__ import annotations

from typing import Literal

from service.inputs import Column, Inputs
from training.likelihoods.bernoulli import Bernoulli
from training.likelihoods.categorical import Categorical
from training.likelihoods.continuous_bernoulli import ContinuousBernoulli
from training.likelihoods.count import NegativeBinomial, Poisson
from training.likelihoods.gaussian import Gaussian
from training.likelihoods.integer import IntegerLogistic
from training.likelihoods.likelihood import Likelihood
from training.likelihoods.location_scale import Sigma
from training.likelihoods.logistic import DiscretisedLogistic
from training.likelihoods.mixed import Mixed
from training.likelihoods.ordinal import Ordinal
from training.likelihoods.student_t import StudentT
from training.support import levels_of, levels_of_column, range_of

Family = Literal["bernoulli", "continuous-bernoulli", "gaussian", "student-t", "discretised-logistic"]
"""Of pixels, of the values of an array, and of the numeric columns of a table."""

Count = Literal["negative-binomial", "poisson"]
"""Of the count columns of a table."""


def make_likelihood(
    inputs: Inputs,
    family: Family,
    sigma: Sigma = "feature",
    count: Count = "negative-binomial",
    sigma_value: float = 1.0,
    levels: int = 0,
) -> Likelihood:
    """
    The likelihood of *inputs*, with the parameters that it starts from.

    Of a table each column has the family of its kind: integer, categorical, ordinal and binary columns their own, count
    columns *count*, numeric ones *family*. Of all else every feature has *family*. *sigma*, *sigma_value*: see
    `LocationScale`.
    *levels*: of a discretised logistic; 0: see `support.levels_of`.
    Raises DataError where the family does not fit the inputs.
    """
    if inputs.columns is None:
        return _of_family(inputs, family, inputs.features, sigma, sigma_value, levels)
    dealt: dict[tuple[str, int], list[int]] = {}
    for index, column in enumerate(inputs.columns):
        dealt.setdefault(_block(column), []).append(index)
    parts = []
    for (kind, _), members in dealt.items():
        columns = [inputs.columns[index] for index in members]
        if kind == "numeric":
            block = _of_family(inputs, family, len(members), sigma, sigma_value, levels)
        else:
            block = _of_kind(kind, columns, count, sigma, sigma_value)
        parts.append((block, tuple(members)))
    return parts[0][0] if len(parts) == 1 else Mixed(parts)


def as_they_are(inputs: Inputs, family: Family) -> bool:
    """Whether numeric values pass into the model as they are: 0 and 1, or shares from 0 to 1."""
    return family == "bernoulli" or (family == "continuous-bernoulli" and inputs.range is None)


def _block(column: Column) -> tuple[str, int]:
    """Columns with the same answer are one block: of a kind, and of categories those with about as many levels."""
    if column.kind == "categorical":
        return "categorical", (levels_of_column(column) - 1).bit_length()
    return column.kind, 0


def _of_kind(kind: str, columns: list[Column], count: Count, sigma: Sigma, sigma_value: float) -> Likelihood:
    if kind == "integer":
        return IntegerLogistic(len(columns), sigma, sigma_value)
    if kind == "binary":
        return Bernoulli(len(columns))
    if kind == "count":
        return Poisson(len(columns)) if count == "poisson" else NegativeBinomial(len(columns))
    levels = tuple(levels_of_column(column) for column in columns)
    return Ordinal(levels) if kind == "ordinal" else Categorical(levels)


def _of_family(
    inputs: Inputs, family: Family, features: int, sigma: Sigma, sigma_value: float, levels: int
) -> Likelihood:
    if family == "bernoulli":
        return Bernoulli(features)
    if family == "student-t":
        return StudentT(features, sigma, sigma_value)
    if family == "continuous-bernoulli":
        return ContinuousBernoulli(features, *range_of(inputs, family))
    if family == "discretised-logistic":
        low, high = range_of(inputs, family)
        return DiscretisedLogistic(features, low, high, levels_of(inputs, levels), sigma, sigma_value)
    return Gaussian(features, sigma, sigma_value)
