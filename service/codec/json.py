"""
JSON: request bodies to arrays and options, reply fields to bodies.

Strict where parsers are lenient: a number is a JSON number (not true, not "1"), a row has the model's shape and no
other. The rows, which are most of a body, have two ways to numpy: simdjson fills a buffer without a Python object a
number, but flattens silently, so it is used only where brackets and lengths prove that nothing was flattened; whatever
it cannot vouch for stays orjson's lists, which decide and explain (lists.py). Records are always orjson's, which keeps
the last of two members of one name and says nothing: there the number of quotes proves that none was lost.
"""

from __future__ import annotations

import json
import sys
from itertools import chain
from typing import Any

import numpy as np
import orjson
import simdjson

from service.codec.bound import check_elements, most_elements
from service.codec.fields import Fields
from service.codec.records import Records
from service.codec.rows import RowSpec
from service.codec.table import RECORDS
from service.errors import InvalidInput, MalformedBody, kind, named

_BOM = b"\xef\xbb\xbf"
_MEMBERS = 32  # simdjson finds a member by looking at all before it
_SHARED = 2**20  # bytes of a body that the shared parser reads: its buffers stay, 13 bytes for one of the longest
_shared: list[simdjson.Parser] = []  # none or one; a fresh one would have its pages to fault in


class Unread(Exception):
    """simdjson cannot read it; somebody else may."""


def read_object(body: bytes, *specs: RowSpec, most: int = sys.maxsize) -> Fields:
    """
    The members of the JSON object in *body*; well-formed rows of *specs* are arrays already.

    Raises MalformedBody, InvalidInput for a member that is given twice, or TooLarge for more than *most* rows, and for
    more JSON than so many rows can need.
    """
    try:
        fields = read_flat(body, {spec.field: spec for spec in specs}, most)
        names_checked = True
    except Unread:
        fields, names_checked = None, False
    if fields is not None:
        return fields
    check_elements(body, len(body), most_elements(specs, most))
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise MalformedBody(f"the body must be a JSON object; it is {kind(fields)}")
    records = fields.get(RECORDS)
    if not names_checked or (isinstance(records, list) and not _kept_all(body, records, fields)):
        try:
            json.loads(body, object_pairs_hook=_distinct, parse_int=float)
        except RecursionError:  # nothing that a request may hold
            raise MalformedBody("the body's JSON has lists or objects nested too deep to be read") from None
    return fields


def read_records(text: bytes) -> list[Any] | None:
    """The list of records that *text* is, none with a name given twice; None: somebody else must decide."""
    try:
        records = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return records if isinstance(records, list) and _kept_all(text, records, {}) else None


def write_object(fields: Fields) -> bytes:
    """A JSON object of what a reply may hold (float32 in its shortest exact form; NaN and what is masked as null)."""
    return orjson.dumps(fields, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS)


def _plain(value: object) -> Any:
    """What orjson does not know: tables, and the less plain arrays."""
    if isinstance(value, Records):
        return value.objects()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"a reply holds a {type(value).__name__}. This is a bug.")


def read_flat(body: bytes, specs: dict[str, RowSpec], most: int) -> Fields | None:
    """
    As `read_object`, where scalars and well-formed rows are all there is; None: somebody else must decide.

    Raises Unread where simdjson cannot read the body, or it has many members; they may have any names then.
    """
    if body.startswith(_BOM):  # JSON has none (RFC 8259, 8.1), but simdjson skips it
        raise Unread
    if len(body) > _SHARED:
        return _read_flat(simdjson.Parser(), body, specs, most)
    parser = _shared.pop() if _shared else simdjson.Parser()
    fields = _read_flat(parser, body, specs, most)
    _shared.append(parser)  # not after an error: its traceback holds what was parsed, and with it the buffers
    return fields


def _read_flat(parser: simdjson.Parser, body: bytes, specs: dict[str, RowSpec], most: int) -> Fields | None:
    try:
        root = parser.parse(body)
        if not isinstance(root, simdjson.Object) or len(root) > _MEMBERS:
            raise Unread
        names = list(root)
    except (ValueError, RuntimeError):  # not JSON, or a number beyond 64 bits, or too deep
        raise Unread from None
    if len(set(names)) != len(names):
        raise _twice(names)
    try:
        fields: Fields = {}
        brackets = 0
        for name in names:
            value = root[name]
            if isinstance(value, simdjson.Array) and name in specs:
                shape = specs[name].shape
                rows = len(value)
                specs[name].check_count(rows, 0, most)
                if not _fits(value, (rows, *shape)):
                    return None
                fields[name] = np.frombuffer(value.as_buffer(of_type="d"), np.float64).reshape(rows, *shape)
                brackets += 1 + rows * specs[name].lists
            elif isinstance(value, (simdjson.Array, simdjson.Object)):
                return None
            else:
                fields[name] = value
    except (ValueError, TypeError, RuntimeError, KeyError):  # not numbers, a NUL in a name
        return None
    # one bracket more than the lists that were counted, and a number somewhere was a list
    return fields if body.count(b"[") == brackets else None


def _twice(names: list[str]) -> InvalidInput:
    """How the first of *names* that is there twice is refused: parsers disagree on which of its values counts."""
    name = next(name for index, name in enumerate(names) if name in names[:index])
    return InvalidInput(f"{named(name)} is given twice", field=named(name))


def _distinct(members: list[tuple[str, Any]]) -> None:
    """For the standard library's parser, of each object: raise InvalidInput where two *members* have one name."""
    if len({name for name, _ in members}) < len(members):
        raise _twice([name for name, _ in members])


def _kept_all(body: bytes, records: list[Any], fields: Fields) -> bool:
    """
    Whether *records* and the other *fields* have every string that *body* has: two quotes for a name, two for a text.

    False also for what no request may hold, such as objects in objects.
    """
    quotes = body.count(b'"')
    if b"\\" in body:
        quotes -= body.replace(rb"\\", b"").count(rb"\"")  # without pairs of backslashes, one before a quote escapes it
    try:
        texts = list(map(type, chain.from_iterable(map(dict.values, records)))).count(str)
    except TypeError:
        return False
    names = sum(map(len, records))
    return quotes == 2 * (texts + names + len(fields) + list(map(type, fields.values())).count(str))


def _fits(array: simdjson.Array, shape: tuple[int, ...]) -> bool:
    """Whether *array* is a list of lists of these lengths; what the innermost ones hold is not looked at."""
    if len(array) != shape[0]:
        return False
    return len(shape) == 1 or all(isinstance(row, simdjson.Array) and _fits(row, shape[1:]) for row in array)
