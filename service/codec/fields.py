"""
What an operation takes out of a request, whatever its wire format: rows and options.

Rows come as an array of any numeric dtype, as the lists of a parser that does not vouch for their shape, or as records.
pydantic checks the options. Here, and in what this calls, input becomes trustworthy; nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import numpy as np
import orjson
from pydantic import BaseModel, ValidationError

from service.codec.columns import Flaw
from service.codec.lists import numbers
from service.codec.rows import INPUTS, SERIES, Array, RowSpec
from service.codec.table import RECORDS, Read
from service.errors import InvalidInput, Unsupported, kind, named, shown
from service.inputs import Windows
from service.windows import firsts

Options = TypeVar("Options", bound=BaseModel)
Fields = dict[str, Any]
MAX_QUERY = 32
_EXACT = 2**53  # from here on a float may be another whole number than was sent
_LONG = 2**64  # integers of more bits are in no reply
_FOREIGN = {
    INPUTS: "the rows of this model are made of the readings of a series: give {field} instead of {name}",
    SERIES: "the rows of this model are not made of the readings of a series: give {field} instead of {name}",
}
"""How rows are refused that are those of other models."""


def add_query(fields: Fields, query: bytes) -> None:
    """
    Add the options of a query string: each value as JSON would have it, or as the text that it is.

    Raises InvalidInput for a name that is given twice, in the query or there and in the body.
    """
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY)
    except ValueError:
        raise InvalidInput(f"the query has more than {MAX_QUERY} parameters", field="query", limit=MAX_QUERY) from None
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
        if first["type"] == "int_type" and isinstance(value, float) and abs(value) >= _EXACT and value.is_integer():
            # a whole number of more than 64 bits, which JSON's readers round: it is too large, not no whole number
            return read_options(model, {**fields, field: int(value)})
        if isinstance(value, int) and abs(value) >= _LONG:
            value = float(value)  # as it came
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
    Take the rows of *spec* out of *fields*, be they arrays, records or a series: NaN where missing.

    Raises InvalidInput naming the first bad row (ragged, not a number, not finite, no such category), TooLarge, or
    Unsupported for records of what is no table, and for rows where a series is wanted or the reverse.
    """
    rows = fields.get(spec.field)
    if isinstance(rows, np.ndarray) and not any(name in fields for name in spec.others):  # most requests
        del fields[spec.field]
        spec.check_shape(rows.shape)
        spec.check_count(len(rows), least, most)
        return spec.rows(rows)
    given = _given(fields, spec, most, least)
    if given.flaws:
        row, flaw = next(iter(given.flaws.items()))
        raise InvalidInput(f"{given.spec.field}: row {row}{flaw.reason}", field=given.spec.field, row=row, **flaw.facts)
    return given.spec.rows(_array(given.rows, given.spec))


def read_rows_flagged(fields: Fields, spec: RowSpec, most: int) -> tuple[Array, dict[int, str]]:
    """
    As `read_rows`, but a bad row costs nobody else: the good rows, and the reason by index for each bad one.

    A row outside the likelihood's support is bad here, and so is a window with a bad reading.
    """
    rows, flaws, spec = _given(fields, spec, most, 1)
    reasons = {row: f"{spec.field}: row {row}{flaw.reason}" for row, flaw in flaws.items()}
    if not reasons:
        try:
            x = spec.rows(_array(rows, spec))
            spec.check_support(x)
            return x, {}
        except InvalidInput:
            pass  # one row at least is bad: each is looked at
    sent = np.zeros((len(rows), *spec.shape), spec.dtype)  # 0 where it is bad
    for index in range(len(rows)):
        if index not in reasons:
            try:
                sent[index] = spec.cast(_array(rows[index : index + 1], spec))[0]
            except InvalidInput as error:
                reasons[index] = error.detail.replace("row 0", f"row {index}", 1)
    x = spec.made(sent)
    if spec.windows is not None:
        reasons = _of_windows(reasons, len(x), spec.windows)
    for index in range(len(x)):
        if index not in reasons and (found := spec.outside(x[index : index + 1])) is not None:
            reasons[index] = f"{spec.field}: row {index}{found[1].reason}"
    return np.delete(x, list(reasons), axis=0), dict(sorted(reasons.items()))


def _of_windows(reasons: Mapping[int, str], rows: int, windows: Windows) -> dict[int, str]:
    """What is wrong with each window, by what is wrong with readings: with the first bad one that it has."""
    bad, first = np.array(sorted(reasons), np.int64), firsts(rows, windows)
    at = np.searchsorted(bad, first)
    inside = np.flatnonzero(at < len(bad))
    hit = inside[bad[at[inside]] < first[inside] + windows.length]
    return {int(row): reasons[int(bad[at[row]])] for row in hit}


def add_mask(fields: Fields, spec: RowSpec, name: str) -> None:
    """
    Take the tensor *name* out of *fields*, true where the rows of *spec* are observed: these are NaN where it is not.

    Raises InvalidInput where it is no mask of the rows.
    """
    mask = fields.pop(name, None)
    if mask is None:
        return
    x = fields.get(spec.field)
    if mask.dtype != np.bool_:
        told = f"{name} must be truth values; it is {mask.dtype}"
        raise InvalidInput(told, field=name, limit="bool", value=str(mask.dtype))
    if x is None or mask.shape != x.shape:
        of = "which is not there" if x is None else f"which has the shape {list(x.shape)}"
        raise InvalidInput(
            f"{name} has the shape {list(mask.shape)}; it must be that of {spec.field}, {of}",
            field=name,
            value=list(mask.shape),
            **({} if x is None else {"limit": list(x.shape)}),
        )
    if x.dtype.kind in "iu":
        spec.check_exact(np.where(mask, x, 0))
    fields[spec.field] = np.where(mask, x if x.dtype.kind == "f" else x.astype(np.float64), np.nan)


def has_records(fields: Fields) -> bool:
    """Whether rows come as records, and so should what is made of them go."""
    return isinstance(fields.get(RECORDS), (list, Read))


class _Given(NamedTuple):
    """Rows as they came, what is wrong with some of them already, and the spec by the name that they have."""

    rows: list[Any] | Array
    flaws: Mapping[int, Flaw]
    spec: RowSpec


def _given(fields: Fields, spec: RowSpec, most: int, least: int) -> _Given:
    for name in spec.others:
        if name != RECORDS and fields.pop(name, None) is not None:
            raise Unsupported(_FOREIGN[name].format(name=name, field=spec.field), field=name)
    records = fields.pop(RECORDS, None) if RECORDS in spec.fields else None
    if records is not None:
        if fields.pop(spec.field, None) is not None:
            raise InvalidInput(f"give {spec.field} or {RECORDS}, and not both", field=RECORDS)
        return _records(records, spec, most, least)
    if spec.field not in fields:
        raise InvalidInput(f"{spec.field} is missing", field=spec.field)
    rows: list[Any] | Array = fields.pop(spec.field)
    if isinstance(rows, np.ndarray):
        spec.check_shape(rows.shape)
    elif not isinstance(rows, list):
        limit = "a list of rows"
        raise InvalidInput(
            f"{spec.field} must be {limit}; it is {kind(rows)}", field=spec.field, limit=limit, value=kind(rows)
        )
    spec.check_count(len(rows), least, most)
    return _Given(rows, {}, spec)


def _records(records: Any, spec: RowSpec, most: int, least: int) -> _Given:
    if spec.table is None:
        raise Unsupported("records are rows of a table, and this model's rows are not; give inputs", field=RECORDS)
    table, spec = spec.table, spec.of_records
    if isinstance(records, list):
        spec.check_count(len(records), least, most)
        records = table.read(records)
    elif not isinstance(records, Read):
        limit = "a list of objects"
        raise InvalidInput(
            f"{RECORDS} must be {limit}; it is {kind(records)}", field=RECORDS, limit=limit, value=kind(records)
        )
    spec.check_count(len(records.x), least, most)
    return _Given(records.x, records.flaws, spec)


def _array(rows: list[Any] | Array, spec: RowSpec) -> Array:
    return rows if isinstance(rows, np.ndarray) else numbers(rows, spec)
