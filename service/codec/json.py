"""
JSON: request bodies to arrays and options, arrays to reply bodies.

Strict where parsers are lenient: a number is a JSON number (not true, not "1"), a row has the model's shape and no
other. pydantic checks the options. The rows, which are most of a body, have two ways to numpy: simdjson fills a
buffer without a Python object a number, but flattens silently, so it is used only where brackets and lengths prove
that nothing was flattened; whatever it cannot vouch for goes through orjson's lists, which decide and explain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from service.codec.rows import Array, RowSpec
from service.errors import InvalidInput, MalformedBody

Options = TypeVar("Options", bound=BaseModel)
Fields = dict[str, Any]
_NUMBER = {int, float}
_BOM = b"\xef\xbb\xbf"
_PARSER = simdjson.Parser()  # used and left again within one call: its buffers are reused


def read_object(body: bytes, *specs: RowSpec) -> Fields:
    """
    The members of the JSON object in *body*; well-formed rows of *specs* are arrays already.

    Raises MalformedBody.
    """
    fields = _read_fast(body, {spec.field: spec for spec in specs})
    if fields is not None:
        return fields
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise MalformedBody(f"the body must be a JSON object; it is {_kind(fields)}")
    return fields


def read_options(model: type[Options], fields: Fields) -> Options:
    """The *fields* that are left when the rows are taken out. Raises InvalidInput naming the first that is wrong."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields) or "none"
            raise InvalidInput(f"unknown field {field!r}; the options here are: {known}", field=field) from None
        value = first["input"]
        told = repr(value) if isinstance(value, (int, float, str, bool)) else _kind(value)
        context = first.get("ctx", {})
        limit = next((context[key] for key in ("ge", "gt", "le", "lt", "expected") if key in context), None)
        message = f"{field}: {first['msg']}; given: {told}"
        raise InvalidInput(message, field=field, limit=limit, value=value) from None


def read_rows(fields: Fields, spec: RowSpec, most: int, least: int = 1) -> Array:
    """
    Take the rows of *spec* out of *fields*: (n, *shape) of its dtype.

    Raises InvalidInput (missing, ragged, not a number, not finite; names the first bad row) or TooLarge.
    """
    rows = _rows(fields, spec, most, least)
    return spec.cast(rows if isinstance(rows, np.ndarray) else _numbers(rows, spec))


def read_rows_flagged(fields: Fields, spec: RowSpec, most: int) -> tuple[Array, dict[int, str]]:
    """
    As `read_rows`, but a bad row costs nobody else: the good rows, and the reason by index for each bad one.

    A row outside the likelihood's support is bad here.
    """
    rows = _rows(fields, spec, most, 1)
    if isinstance(rows, np.ndarray):
        rows = rows.tolist()
    good: list[Array] = []
    reasons: dict[int, str] = {}
    for index, row in enumerate(rows):
        try:
            array = spec.cast(_numbers([row], spec))
            spec.check_support(array)
            good.append(array)
        except InvalidInput as error:
            reasons[index] = error.detail.replace("row 0", f"row {index}", 1)
    return (np.concatenate(good) if good else np.zeros((0, *spec.shape), spec.dtype)), reasons


def write(fields: Fields) -> bytes:
    """A JSON object of numbers, strings, lists and numpy arrays (float32 in its shortest exact form)."""
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)


def _read_fast(body: bytes, specs: dict[str, RowSpec]) -> Fields | None:
    """As `read_object`, where scalars and well-formed rows are all there is; None: somebody else must decide."""
    if body.startswith(_BOM):  # JSON has none (RFC 8259, 8.1), but simdjson skips it
        return None
    try:
        root = _PARSER.parse(body)
        if not isinstance(root, simdjson.Object):
            return None
        names = list(root)
        fields: Fields = {}
        brackets = 0
        for name in names:
            value = root[name]
            if isinstance(value, simdjson.Array) and name in specs:
                shape = specs[name].shape
                if not _fits(value, (len(value), *shape)):
                    return None
                fields[name] = np.frombuffer(value.as_buffer(of_type="d"), np.float64).reshape(len(value), *shape)
                brackets += 1 + sum(math.prod((len(value), *shape[:depth])) for depth in range(len(shape)))
            elif isinstance(value, (simdjson.Array, simdjson.Object)):
                return None
            else:
                fields[name] = value
    except (ValueError, TypeError, RuntimeError, KeyError):  # not JSON, not numbers, too deep, a NUL in a name
        return None
    # one bracket more than the lists that were counted, and a number somewhere was a list; one name twice, and the
    # first of its values was taken
    return fields if body.count(b"[") == brackets and len(fields) == len(names) else None


def _fits(array: simdjson.Array, shape: tuple[int, ...]) -> bool:
    """Whether *array* is a list of lists of these lengths; what the innermost ones hold is not looked at."""
    if len(array) != shape[0]:
        return False
    return len(shape) == 1 or all(isinstance(row, simdjson.Array) and _fits(row, shape[1:]) for row in array)


def _rows(fields: Fields, spec: RowSpec, most: int, least: int) -> list[Any] | NDArray[np.float64]:
    if spec.field not in fields:
        raise InvalidInput(f"{spec.field} is missing", field=spec.field)
    rows: list[Any] | NDArray[np.float64] = fields.pop(spec.field)
    if not isinstance(rows, (list, np.ndarray)):
        raise InvalidInput(f"{spec.field} must be a list of rows; it is {_kind(rows)}", field=spec.field)
    spec.check_count(len(rows), least, most)
    return rows


def _numbers(rows: list[Any], spec: RowSpec) -> NDArray[np.float64]:
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
        return None if type(value) in _NUMBER else f", position {path} must be a number; it is {_kind(value)}"
    where = f", position {path}," if path else ""
    if type(value) is not list:
        return f"{where} must be a list of {shape[0]}; it is {_kind(value)}"
    if len(value) != shape[0]:
        return f"{where} has {len(value)} values; {shape[0]} needed"
    flaws = (_flaw(item, shape[1:], f"{path},{i}" if path else str(i)) for i, item in enumerate(value))
    return next((flaw for flaw in flaws if flaw), None)


def _kind(value: object) -> str:
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
