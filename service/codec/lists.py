"""
Rows as nested lists of numbers, as JSON has them, to arrays.

The lists decide what is valid, and say what is wrong with the first row that is not: nothing is flattened, padded,
broadcast or converted. Knows nothing of bodies.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.codec.rows import RowSpec
from service.errors import InvalidInput, counted

_NUMBER = {int, float}


def numbers(rows: list[Any], spec: RowSpec) -> NDArray[np.float64]:
    """The array (n, *shape) of *rows*. Raises InvalidInput naming the first row of another shape or type."""
    flat: Sequence[Any] = rows
    for size in spec.shape:
        if set(map(type, flat)) != {list} or set(map(len, flat)) != {size}:
            raise _misfit(rows, spec)
        flat = list(chain.from_iterable(flat))
    if not set(map(type, flat)) <= _NUMBER:
        raise _misfit(rows, spec)
    return np.fromiter(flat, np.float64, len(flat)).reshape(len(rows), *spec.shape)


def _misfit(rows: list[Any], spec: RowSpec) -> InvalidInput:
    """What is wrong with the first row that does not have the shape of *spec*."""
    for index, row in enumerate(rows):
        if reason := _flaw(row, spec.shape):
            return InvalidInput(f"{spec.field}: row {index}{reason}", field=spec.field, row=index)
    raise AssertionError("no row is at fault. This is a bug.")


def _flaw(value: Any, shape: tuple[int, ...], path: str = "") -> str | None:
    if not shape:
        return None if type(value) in _NUMBER else f", position {path} must be a number; it is {kind(value)}"
    where = f", position {path}," if path else ""
    if type(value) is not list:
        return f"{where} must be a list of {shape[0]}; it is {kind(value)}"
    if len(value) != shape[0]:
        return f"{where} has {counted(len(value), 'value')}; {shape[0]} needed"
    flaws = (_flaw(item, shape[1:], f"{path},{i}" if path else str(i)) for i, item in enumerate(value))
    return next((flaw for flaw in flaws if flaw), None)


def kind(value: object) -> str:
    """What a client would call *value*."""
    if value is None:
        return "null"
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), type(value).__name__)
