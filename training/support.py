"""
Whether values are those that a likelihood is defined for. The one place where a fit is refused for them.

On other values it does not add to one, so that its scores mean nothing: grey pixels under a Bernoulli look anomalous
all over. Knows arrays and the kinds of columns; no torch. NaN is a missing value, and is passed over.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.inputs import MOST_COUNT, Column, Inputs
from training.errors import DataError

Array = NDArray[np.generic]

_CHUNK_VALUES = 2**22
_OFF_LEVEL = 1e-3  # of the distance of two levels: 8-bit pixels divided by 255 in float32 are 1e-5 off


def levels_of_column(column: Column) -> int:
    """How many values a column of categories may have: those of its vocabulary, and "another one"."""
    known = 2 if column.vocabulary is None else len(column.vocabulary)
    return known + (column.vocabulary is not None and column.unknown == "other")


def bounds_of(column: Column) -> tuple[float, float]:
    """The least and the greatest number of a column that is not numeric: whole ones, or an index."""
    if column.kind in ("count", "integer"):
        return (0.0 if column.kind == "count" else -float(MOST_COUNT)), float(MOST_COUNT)
    return 0.0, float(levels_of_column(column) - 1)


def levels_of(inputs: Inputs, levels: int) -> int:
    """
    B of a discretised logistic: *levels*, or where that is 0 the whole numbers of the range, 256 where it is 0 to 1.

    Raises DataError where there is no range.
    """
    low, high = range_of(inputs, "discretised-logistic")
    if levels == 0 and (low, high) != (0, 1) and (high - low) % 1:
        raise DataError(f"--likelihood discretised-logistic: pixels are {low:g} to {high:g}: say how many --levels")
    found = levels or (256 if (low, high) == (0, 1) else int(high - low) + 1)
    if found < 2:
        raise DataError(f"--levels: at least 2, not {found}")
    return found


def range_of(inputs: Inputs, family: str) -> tuple[float, float]:
    """
    Low and high of each feature: those of pixels; 0 and 1 of the shares in a table, for the continuous Bernoulli.

    Raises DataError where there is no range.
    """
    if inputs.range is not None:
        return inputs.range
    if family == "continuous-bernoulli":
        return 0.0, 1.0
    if inputs.columns is not None:
        raise DataError(
            f"--likelihood {family} is for images: numeric columns have no ends. Columns of whole numbers have it by "
            'themselves where a schema says kind = "integer"; for the others choose gaussian or student-t'
        )
    raise DataError(f"--likelihood {family} is for images whose range is known: 0 to 1, or 0 to 255")


def require_support(x: Array, inputs: Inputs, family: str, levels: int = 0) -> None:
    """
    Raise DataError, naming column, row and value, for the first value that the likelihood of its column has none for.

    *x*: (n, *shape). *family*: of pixels and numeric columns; the other columns have that of their kind.
    """
    low, high, gap = _supports(inputs, family, levels)
    limited = np.flatnonzero(np.isfinite(low))
    if not len(limited):
        return
    flat = x.reshape(len(x), -1)
    step = max(1, _CHUNK_VALUES // flat.shape[1])
    for start in range(0, len(flat), step):
        piece = flat[start : start + step, limited].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            parts = (piece - low[limited]) / gap[limited]
            off = (gap[limited] > 0) & (np.abs(parts - np.round(parts)) > _OFF_LEVEL)
            wrong = ((piece < low[limited]) | (piece > high[limited]) | off) & ~np.isnan(piece)
        if wrong.any():
            row, i = (int(n) for n in np.argwhere(wrong)[0])
            raise DataError(_reason(flat, inputs, family, (start + row, int(limited[i])), (low, high, gap)))


def _supports(inputs: Inputs, family: str, levels: int) -> tuple[NDArray[np.float64], ...]:
    """Low, high and the distance of two values of each feature: (C,) each; -inf and inf, and 0: any number."""
    numeric = (-np.inf, np.inf, 0.0)
    if family == "bernoulli":
        numeric = (0.0, 1.0, 1.0)
    elif family == "continuous-bernoulli":
        numeric = (*range_of(inputs, family), 0.0)
    elif family == "discretised-logistic":
        low, high = range_of(inputs, family)
        numeric = (low, high, (high - low) / (levels_of(inputs, levels) - 1))
    if inputs.columns is None:
        return tuple(np.full(inputs.features, bound) for bound in numeric)
    found = [numeric if column.kind == "numeric" else (*bounds_of(column), 1.0) for column in inputs.columns]
    return tuple(np.array(bounds) for bounds in zip(*found, strict=True))


def _reason(
    flat: Array, inputs: Inputs, family: str, place: tuple[int, int], supports: tuple[NDArray[np.float64], ...]
) -> str:
    """What is wrong with the value at *place*, and what to choose instead."""
    row, c = place
    low, high, gap = (bound[c] for bound in supports)
    kind = "numeric" if inputs.columns is None else inputs.columns[c].kind
    if inputs.kind == "image" and family == "bernoulli":
        return (
            f"the bernoulli likelihood needs pixels that are 0 or 1; these are {flat.min():g} to {flat.max():g}: "
            "choose --binarize dynamic or threshold, or --likelihood continuous-bernoulli"
        )
    where = (
        f"{'column' if inputs.kind == 'table' else 'feature'} {inputs.names[c]!r} has {flat[row, c]:.12g} in row {row}"
    )
    if kind != "numeric":
        return f"a column of kind {kind} needs whole numbers from {low:.12g} to {high:.12g}; {where}"
    if family == "bernoulli":
        inside = bool((np.abs(flat[:, c].astype(np.float64) - 0.5) <= 0.5).all())
        other = "continuous-bernoulli" if inside else "gaussian"
        return f"the bernoulli likelihood needs values that are 0 or 1; {where}: choose --likelihood {other}"
    what = f"multiples of {gap:g} from {low:g} to {high:g}" if gap else f"values from {low:g} to {high:g}"
    return f"the {family} likelihood needs {what}; {where}: choose --likelihood gaussian"
