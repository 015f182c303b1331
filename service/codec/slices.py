"""
JSON that is too long to be read or written at once: what json.py does, in slices of a fraction of a millisecond.

Generators that yield between two slices, for whoever has others to serve meanwhile. A body is cut between its rows,
where the closing brackets of a row stand together; each slice is read as strictly as the whole would be, and so is what
remains of the body without them. A body that does not come apart so is read whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np
import orjson

from service.codec.bound import check_elements, elements, most_elements
from service.codec.columns import Flaw
from service.codec.fields import Fields
from service.codec.json import Unread, read_flat, read_object, read_records, write_object
from service.codec.lists import numbers
from service.codec.records import Records
from service.codec.rows import Array, RowSpec
from service.codec.table import Read
from service.errors import InvalidInput, TooLarge

LONG = 2**20
"""Bytes of JSON, or of arrays, that are read or written at once: some 2 ms."""

LONG_LISTS = 2**16
"""The same of records, and of numbers with null among them: each is an object first."""

SLICE = 2**17
"""Bytes between two yields."""

SLICE_LISTS = 2**15
"""The same of records and of numbers with null."""

_HEAD = 4096  # bytes that may stand before the rows
_CELLS = 4096  # of records that are written at once: each becomes an object
_COMMA = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*")  # JSON's blanks: \s has two more, which the parsers would not get to see
_RECORDS = re.compile(rb'"records"\s*:\s*\[')
Part = tuple[Array, Mapping[int, Flaw]]  # the rows of a slice, and what is wrong with some of them


def is_long_body(body: bytes, inputs: RowSpec) -> bool:
    """Whether a body for a model that takes *inputs* should be read in slices."""
    if len(body) <= LONG_LISTS:
        return False
    return len(body) > LONG or bool(inputs.missing) or _RECORDS.search(body, 0, _HEAD) is not None


def read(body: bytes, *specs: RowSpec, most: int, step: int | None = None) -> Generator[None, None, Fields]:
    """What `json.read_object` returns of *body*, or raises; rows that came in slices are arrays of numbers already."""
    for spec in specs:
        size = (SLICE_LISTS if spec.missing else SLICE) if step is None else step
        fields = yield from _read_rows(body, spec, _rows, b"]" * len(spec.shape), most, size)
        if fields is None and spec.table is not None:
            size = SLICE_LISTS if step is None else step
            fields = yield from _read_rows(body, spec.of_records, _records, b"}", most, size)
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


def _read_rows(
    body: bytes,
    spec: RowSpec,
    read_part: Callable[[bytes, int, int, RowSpec, int], Part | None],
    row_end: bytes,
    most: int,
    step: int,
) -> Generator[None, None, Fields | None]:
    """
    The members of *body*, whose one list are rows of *spec*; None: it is not so, or something is wrong with it.

    *read_part*: what makes rows of a part of the body. *row_end*: how a row ends, and perhaps other things do.
    """
    found = re.compile(rb'"%b"\s*:\s*\[' % spec.field.encode()).search(body, 0, _HEAD)
    end = body.rfind(b"]")
    if found is None or end < found.end():
        return None
    fields = _flat(body[: found.end()] + body[end:], spec, most)
    if fields is None:  # read_flat lets a list be rows and nothing else, so the one that was cut out is ours
        return None
    parts: list[Array] = []
    flaws: dict[int, Flaw] = {}
    rows, at = 0, found.end()
    while True:
        cut = body.find(row_end, at + step, end)
        cut = end if cut < 0 else cut + len(row_end)
        part = read_part(body, at, cut, spec, most)
        if part is None:
            return None
        parts.append(part[0])
        flaws |= {rows + row: flaw for row, flaw in part[1].items()}
        rows += len(part[0])
        if cut == end:
            break
        comma = _COMMA.match(body, cut, end)
        if comma is None:
            return None
        if read_part is _records and rows > spec.most_sent(most):  # what is no number is not bounded by the body
            return None
        at = comma.end()
        yield
    spec.check_count(rows, 0, most)
    x = np.concatenate(parts)
    fields[spec.field] = Read(x.astype(np.float64, copy=False), flaws) if read_part is _records else x
    return fields


def _rows(body: bytes, start: int, stop: int, spec: RowSpec, most: int) -> Part | None:
    """The rows that a part of *body* is; None: it is none, or something is wrong with one."""
    if _too_many(body, start, stop, spec, most):
        return None
    fields = _flat(b'{"%b":[%b]}' % (spec.field.encode(), body[start:stop]), spec, most)
    try:
        if fields is not None:
            rows = fields[spec.field]
        elif spec.missing:  # there may be null
            rows = numbers(orjson.loads(b"[%b]" % body[start:stop]), spec)
        else:
            return None
        return (spec.cast(rows), {}) if len(rows) else None
    except (orjson.JSONDecodeError, InvalidInput):
        return None


def _records(body: bytes, start: int, stop: int, spec: RowSpec, most: int) -> Part | None:
    """The rows that a part of *body* is as records, and what is wrong with some; None: it is none."""
    if spec.table is None or _too_many(body, start, stop, spec, most):
        return None
    records = read_records(b"[%b]" % body[start:stop])
    return spec.table.read(records) if records and len(records) <= spec.most_sent(most) else None


def _too_many(body: bytes, start: int, stop: int, spec: RowSpec, most: int) -> bool:
    """Whether a long part of *body* has more elements than all rows may have."""
    needed = most_elements((spec,), most)
    return stop - start > LONG and elements(body, start, stop, needed) > needed


def _flat(text: bytes, spec: RowSpec, most: int) -> Fields | None:
    """The members of *text* where all are scalars but the rows of *spec*, and nothing is wrong."""
    try:
        return read_flat(text, {spec.field: spec}, most)
    except (InvalidInput, TooLarge, Unread):
        return None
