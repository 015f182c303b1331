"""
Rows as nested lists of numbers, as JSON has them, to arrays.

The lists decide what is valid, and say what is wrong with the first row that is not: nothing is flattened, padded,
broadcast or converted. Knows nothing of bodies.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.codec.columns import Flaw
from service.codec.rows import RowSpec
from service.errors import InvalidInput, counted, kind

_NUMBER = {int, float}
_OR_NULL = _NUMBER | {NoneType}


def numbers(rows: list[Any], spec: RowSpec) -> NDArray[np.float64]:
    """
    The array (n, *shape) of *rows*; null is NaN where values may be missing, which is for `RowSpec.cast` to judge.

    Raises InvalidInput naming the first row of another shape or type.
    """
    flat: Sequence[Any] = rows
    for size in spec.shape:
        if set(map(type, flat)) != {list} or set(map(len, flat)) != {size}:
            raise _misfit(rows, spec)
        flat = list(chain.from_iterable(flat))
    types = set(map(type, flat))
    if not types <= _scalars(spec):
        raise _misfit(rows, spec)
    if NoneType in types:
        return np.array(flat, np.float64).reshape(len(rows), *spec.shape)
    return np.fromiter(flat, np.float64, len(flat)).reshape(len(rows), *spec.shape)


def _scalars(spec: RowSpec) -> set[type]:
    """What a number may be, as a parser gives it."""
    return _OR_NULL if spec.missing else _NUMBER


def _misfit(rows: list[Any], spec: RowSpec) -> InvalidInput:
    """What is wrong with the first row that does not have the shape of *spec*."""
    for index, row in enumerate(rows):
        if flaw := _flaw(row, spec.shape, _scalars(spec)):
            facts = {**flaw.facts, **_column(row, spec)}
            return InvalidInput(f"{spec.field}: row {index}{flaw.reason}", field=spec.field, row=index, **facts)
    raise AssertionError("no row is at fault. This is a bug.")


def _column(row: Any, spec: RowSpec) -> dict[str, str]:
    """The column of the first value of a *row* of a table that is no number, where that is what is wrong with it."""
    if not spec.names or type(row) is not list or len(row) != len(spec.names):
        return {}
    return {
        "column": next(name for name, value in zip(spec.names, row, strict=True) if type(value) not in _scalars(spec))
    }


def _flaw(value: Any, shape: tuple[int, ...], scalars: set[type], path: str = "") -> Flaw | None:
    if not shape and type(value) in scalars:
        return None
    where = f", position {path}" if path else ""
    if not shape or type(value) is not list:
        what, comma = (f"a list of {shape[0]}", "," if path else "") if shape else ("a number", "")
        return Flaw(f"{where}{comma} must be {what}; it is {kind(value)}", {"limit": what, "value": kind(value)})
    if len(value) != shape[0]:
        told = f"{where}{',' if path else ''} has {counted(len(value), 'value')}; {shape[0]} needed"
        return Flaw(told, {"limit": shape[0], "value": len(value)})
    flaws = (_flaw(item, shape[1:], scalars, f"{path},{i}" if path else str(i)) for i, item in enumerate(value))
    return next((flaw for flaw in flaws if flaw), None)
