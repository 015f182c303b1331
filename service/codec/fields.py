"""
What an operation takes out of a request, whatever its wire format: rows and options.

Rows come as an array of any numeric dtype, or as the lists of a parser that does not vouch for their shape. pydantic
checks the options. Here, and in what this calls, input becomes trustworthy; nowhere else.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import numpy as np
import orjson
from pydantic import BaseModel, ValidationError

from service.codec.lists import kind, numbers
from service.codec.rows import Array, RowSpec
from service.errors import InvalidInput, named, shown

Options = TypeVar("Options", bound=BaseModel)
Fields = dict[str, Any]
MAX_QUERY = 32


def add_query(fields: Fields, query: bytes) -> None:
    """
    Add the options of a query string: each value as JSON would have it, or as the text that it is.

    Raises InvalidInput for a name that is given twice, in the query or there and in the body.
    """
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY)
    except ValueError:
        raise InvalidInput(f"the query has more than {MAX_QUERY} parameters", limit=MAX_QUERY) from None
    for name, text in pairs:
        add_option(fields, name, text)


def add_option(fields: Fields, name: str, text: str) -> None:
    """
    Add one option as a query or a form has it. Raises InvalidInput for a name that is there already.

    An option that is not wanted is left out: null is a text here.
    """
    if name in fields:
        raise InvalidInput(f"{named(name)} is given twice", field=named(name))
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    fields[name] = text if value is None or isinstance(value, (list, dict)) else value


def read_options(model: type[Options], fields: Fields) -> Options:
    """The *fields* that are left when the rows are taken out. Raises InvalidInput naming the first that is wrong."""
    for name in fields:  # pydantic would make an error of each of a million
        if name not in model.model_fields:
            known = ", ".join(model.model_fields) or "none"
            raise InvalidInput(f"unknown field {shown(name)}; the options here are: {known}", field=named(name))
    try:
        return model.model_validate(fields) if fields else _defaults(model)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        value = first["input"]
        given = shown(value) if isinstance(value, (int, float, str, bool)) else kind(value)
        if isinstance(value, str):
            value = named(value)
        elif not isinstance(value, (int, float, bool)):
            value = None  # lists may be too deep to be written
        context = first.get("ctx", {})
        limit = next((context[key] for key in ("ge", "gt", "le", "lt", "expected") if key in context), None)
        raise InvalidInput(f"{field}: {first['msg']}; given: {given}", field=field, limit=limit, value=value) from None


@cache
def _defaults(model: type[BaseModel]) -> Any:
    """The options of a request that gives none; they are frozen."""
    return model()


def read_rows(fields: Fields, spec: RowSpec, most: int, least: int = 1) -> Array:
    """
    Take the rows of *spec* out of *fields*: (n, *shape) of its dtype.

    Raises InvalidInput (missing, ragged, not a number, not finite; names the first bad row) or TooLarge.
    """
    rows = _rows(fields, spec, most, least)
    return spec.cast(rows if isinstance(rows, np.ndarray) else numbers(rows, spec))


def read_rows_flagged(fields: Fields, spec: RowSpec, most: int) -> tuple[Array, dict[int, str]]:
    """
    As `read_rows`, but a bad row costs nobody else: the good rows, and the reason by index for each bad one.

    A row outside the likelihood's support is bad here.
    """
    rows = _rows(fields, spec, most, 1)
    good: list[Array] = []
    reasons: dict[int, str] = {}
    for index in range(len(rows)):
        row = rows[index : index + 1]
        try:
            array = spec.cast(row if isinstance(row, np.ndarray) else numbers(row, spec))
            spec.check_support(array)
            good.append(array)
        except InvalidInput as error:
            reasons[index] = error.detail.replace("row 0", f"row {index}", 1)
    return (np.concatenate(good) if good else np.zeros((0, *spec.shape), spec.dtype)), reasons


def _rows(fields: Fields, spec: RowSpec, most: int, least: int) -> list[Any] | Array:
    if spec.field not in fields:
        raise InvalidInput(f"{spec.field} is missing", field=spec.field)
    rows: list[Any] | Array = fields.pop(spec.field)
    if isinstance(rows, np.ndarray):
        spec.check_shape(rows.shape)
    elif not isinstance(rows, list):
        raise InvalidInput(f"{spec.field} must be a list of rows; it is {kind(rows)}", field=spec.field)
    spec.check_count(len(rows), least, most)
    return rows
