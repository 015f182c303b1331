"""
JSON that is too long to be read or written at once: what json.py does, in slices of a fraction of a millisecond.

Generators that yield between two slices, for whoever has others to serve meanwhile. A body is cut between its rows,
where the closing brackets of a row stand together; each slice is read as strictly as the whole would be, and so is what
remains of the body without them. A body that does not come apart so is read whole.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import numpy as np
import orjson

from service.codec.bound import check_elements, elements, most_elements
from service.codec.fields import Fields
from service.codec.json import Unread, read_flat, read_object, write_object
from service.codec.records import Records
from service.codec.rows import Array, RowSpec
from service.errors import InvalidInput, TooLarge

LONG = 2**20
"""Bytes of JSON, or of arrays, that are read or written at once: some 2 ms."""

SLICE = 2**17
"""Bytes between two yields."""

_HEAD = 4096  # bytes that may stand before the rows
_CELLS = 4096  # of records that are written at once: each becomes an object
_COMMA = re.compile(rb"\s*,\s*")


def read(body: bytes, *specs: RowSpec, most: int, step: int = SLICE) -> Generator[None, None, Fields]:
    """What `json.read_object` returns of *body*, or raises; rows that came in slices have the model's dtype already."""
    for spec in specs:
        fields = yield from _read_rows(body, spec, most, step)
        if fields is not None:
            return fields
    check_elements(body, len(body), most_elements(specs, most))  # before simdjson's document: 14 bytes for one of these
    return read_object(body, *specs, most=most)


def is_long(fields: Fields) -> bool:
    """Whether a reply should be written in slices."""
    return any(_rows_at_once(value) is not None for value in fields.values())


def write(fields: Fields) -> Generator[None, None, bytes]:
    """The bytes that `json.write_object` returns."""
    parts: list[bytes] = []
    for name, value in fields.items():
        step = _rows_at_once(value)
        if step is None:
            parts.append(write_object({name: value})[1:-1])
            continue
        rows: list[bytes] = []
        for start in range(0, len(value), step):
            part = value.part(start, start + step) if isinstance(value, Records) else value[start : start + step]
            rows.append(write_object({"": part})[len(b'{"":[') : -len(b"]}")])
            yield
        parts.append(orjson.dumps(name) + b":[" + b",".join(rows) + b"]")
    return b"{" + b",".join(parts) + b"}"


def _rows_at_once(value: Any) -> int | None:
    """How many rows of *value* to write at once; None: all there are, and whatever has no rows."""
    if isinstance(value, Records):
        cells = sum(column.size for column in value.columns.values())
        return max(1, len(value) * _CELLS // cells) if cells > _CELLS else None
    if isinstance(value, np.ndarray) and value.ndim and value.nbytes > LONG:
        return max(1, len(value) * SLICE // value.nbytes)
    return None


def _read_rows(body: bytes, spec: RowSpec, most: int, step: int) -> Generator[None, None, Fields | None]:
    """The members of *body*, whose one list are rows of *spec*; None: it is not so, or something is wrong with it."""
    found = re.compile(rb'"%b"\s*:\s*\[' % spec.field.encode()).search(body, 0, _HEAD)
    end = body.rfind(b"]")
    if found is None or end < found.end():
        return None
    fields = _flat(body[: found.end()] + body[end:], spec, most)
    if fields is None:  # read_flat lets a list be rows and nothing else, so the one that was cut out is ours
        return None
    row_end = b"]" * len(spec.shape)
    parts: list[Array] = []
    at = found.end()
    while True:
        cut = body.find(row_end, at + step, end)
        cut = end if cut < 0 else cut + len(row_end)
        part = _rows(body, at, cut, spec, most)
        if part is None:
            return None
        parts.append(part)
        if cut == end:
            break
        comma = _COMMA.match(body, cut, end)
        if comma is None:
            return None
        at = comma.end()
        yield
    spec.check_count(sum(map(len, parts)), 0, most)
    fields[spec.field] = np.concatenate(parts)
    return fields


def _rows(body: bytes, start: int, stop: int, spec: RowSpec, most: int) -> Array | None:
    """The rows that a part of *body* is; None: it is none, or something is wrong with one."""
    needed = most_elements((spec,), most)
    if stop - start > LONG and elements(body, start, stop, needed) > needed:
        return None
    fields = _flat(b'{"%b":[%b]}' % (spec.field.encode(), body[start:stop]), spec, most)
    if fields is None or not len(fields[spec.field]):
        return None
    try:
        return spec.cast(fields[spec.field])
    except InvalidInput:
        return None


def _flat(text: bytes, spec: RowSpec, most: int) -> Fields | None:
    """The members of *text* where all are scalars but the rows of *spec*, and nothing is wrong."""
    try:
        return read_flat(text, {spec.field: spec}, most)
    except (InvalidInput, TooLarge, Unread):
        return None
